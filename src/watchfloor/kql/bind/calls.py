"""Calls of functions: which overload is meant, what its arguments become, and the functions of the binder itself.

``SPECIAL`` lists the latter; everything else is a row of the function table. A function's constants are folded with
its own definition.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.combine import NEVER_NULL, WIDTHS, apart, const, is_known, is_null, path
from watchfloor.kql.bind.core import UNKNOWN
from watchfloor.kql.bind.names import SORTS, nth_result
from watchfloor.kql.bind.overloads import PACKED, Overload, choose, cost, placements, result_type, target
from watchfloor.kql.bind.scalars import NO_ROW, Correlated, Scalars
from watchfloor.kql.bind.scope import Env, Function, Rel
from watchfloor.kql.errors import KqlError, Span, nearest
from watchfloor.kql.functions import AGGREGATES, CONDITIONAL, FUNCTIONS, REFUSED, spec
from watchfloor.kql.schema import TYPES

CONVERSIONS: Final[Mapping[str, str]] = {
    "tobool": "bool",
    "toboolean": "bool",
    "todatetime": "datetime",
    "todecimal": "decimal",
    "todouble": "real",
    "toguid": "guid",
    "toint": "int",
    "tolong": "long",
    "toreal": "real",
    "tostring": "string",
    "totime": "timespan",
    "totimespan": "timespan",
}
"""Conversion functions and what they convert to."""

PROMOTES: Final = frozenset({"+", "-", "*", "/", "%", "bin", "bin_at", "floor"})
"""Functions whose result is a long where all arguments are int."""

EXACT: Final = frozenset({"+", "-", "*", "negate"})
"""Functions that are null only for a null argument."""

UNIFIES: Final = frozenset({"coalesce", "max_of", "min_of"})
"""Functions whose arguments must have one type."""

TABULAR: Final = frozenset({"materialize", "table", "totable", "database", "cluster", "_GetWatchlist"})
"""Functions that give a table."""

INTERNAL: Final = frozenset({"bag_pack_present", "in_array", "negate"})
"""Functions that operators and other functions are bound to, and that nobody can call by name."""

EXTREMES: Final = frozenset({"arg_max", "arg_min", "argmax", "argmin"})
"""Aggregates that give several columns of one row."""

MAX_FOLDED: Final = 10_000
"""A folded constant that is longer stays a call, and so does a call whose arguments are."""

MAX_FOLDING_SECONDS: Final = 1.0
"""What is spent on folding for one query: the rest stays calls."""


def _held(value: Any, type_: str) -> Any:
    """What is left of a whole number in a column of its type."""
    bits = {"int": 32, "long": 64, "timespan": 64}.get(type_)
    if bits is None or not isinstance(value, int) or isinstance(value, bool):
        return value
    half = 1 << (bits - 1)
    return (value + half) % (half * 2) - half


class Calls(Scalars):
    """Binds calls."""

    def call(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        """``call`` as a scalar."""
        meaning = None if call.base is not None else env.find(call.name)
        if isinstance(meaning, Function):
            found = self.invoke(meaning, call, row, env)
            if isinstance(found, Rel):
                raise KqlError(
                    f"{call.name}() gives a table, a value is expected here.", call.span, remedy="Use toscalar( ... )."
                )
            return found
        if callable(meaning) and not isinstance(meaning, type):
            bound: ir.Scalar = meaning(call, row, env)
            return bound
        if call.base is not None or call.name in TABULAR:
            found = self.value(call, row, env)
            if isinstance(found, Rel):
                raise KqlError(
                    f"{call.name}() gives a table, a value is expected here.", call.span, remedy="Use toscalar( ... )."
                )
            return found
        special = SPECIAL.get(call.name)
        if special is not None:
            return special(self, call, row, env)
        if call.name not in FUNCTIONS or is_internal(call.name):
            raise self._unknown_function(call, env)
        target = typeof(call.arguments[-1]) if len(call.arguments) > 1 else None
        if target is not None:
            return self._typed_call(call, target, row, env)
        arguments = [self.scalar(a, row, env) for a in self._starred(call, row)]
        results = self._results(call, arguments)
        return self.apply(call.name, arguments, call.span) if results is None else results[0][1]

    def _starred(self, call: ast.Call, row: Rel) -> Sequence[ast.Expr]:
        """The arguments, ``*`` replaced by all columns."""
        if not any(isinstance(a, ast.Star) for a in call.arguments):
            return call.arguments
        found: list[ast.Expr] = []
        for argument in call.arguments:
            if isinstance(argument, ast.Star):
                found += [ast.Name(name, argument.span, True) for name in row.columns]
            else:
                found.append(argument)
        return found

    def _typed_call(self, call: ast.Call, target: str, row: Rel, env: Env) -> ir.Scalar:
        """A call whose last argument says what the result is converted to."""
        found = self.call(replace(call, arguments=call.arguments[:-1]), row, env)
        if target == "dynamic" and found.type == "string":
            return self.apply("parse_json", [found], call.span)
        return self.convert(found, target)

    def _unknown_function(self, call: ast.Call, env: Env) -> KqlError:
        name = call.name
        if name in REFUSED:
            message = f"{name}() is not supported."
            return KqlError(message, call.name_span, remedy=sentence(REFUSED[name]), kind="unsupported")
        if is_aggregate(name):
            return KqlError(f"{name}() is an aggregate: it belongs into summarize.", call.name_span)
        if self.is_recursive(name):
            return KqlError(f"{name} calls itself: recursion is not supported.", call.name_span, kind="unsupported")
        if env.find(name) is not None:
            return KqlError(f"{name} is not a function.", call.name_span)
        known = [*FUNCTIONS, *SPECIAL, *CONVERSIONS, *(n for n in env.visible() if isinstance(env.find(n), Function))]
        known = [n for n in known if n.isidentifier() and not is_internal(n)]
        return KqlError(f"There is no function {name}().", call.name_span, remedy=nearest(name, known))

    def is_recursive(self, name: str) -> bool:
        """Whether a function of that name is being called right now."""
        raise NotImplementedError

    # -- overloads -----------------------------------------------------------------------------------------------------

    def apply(self, name: str, arguments: Sequence[ir.Scalar], span: Span) -> ir.Scalar:
        """The function ``name`` of the function table, overload chosen, arguments converted, folded."""
        if any(not is_known(a) for a in arguments):
            return UNKNOWN
        if name == "gettype" and len(arguments) == 1 and arguments[0].type != "dynamic":
            return const(arguments[0].type, "string")
        chosen = choose(FUNCTIONS.get(name, ()), [a.type for a in arguments])
        if chosen is None:
            raise self.misfit(name, FUNCTIONS.get(name, ()), arguments, span)
        function, takes = chosen
        values = list(arguments)
        if function.gives == "widest":
            values = self._widened(name, values)
        values = [self.fit(name, n, v, p, span) for n, (v, p) in enumerate(zip(values, takes, strict=True))]
        wrong = None if function.check is None else function.check(values)
        if wrong is not None:
            raise KqlError(sentence(wrong if f"{name}()" in wrong else f"{name}(): {wrong}"), span)
        type_ = result_type(function.gives, values, name in PROMOTES)
        return self._fold(function, values, type_)

    def _widened(self, name: str, values: list[ir.Scalar]) -> list[ir.Scalar]:
        """Numbers as the widest of their types, so that neither a template nor a definition has to mix them."""
        numeric = [v.type for v in values if v.type in WIDTHS]
        if not numeric:
            return values
        widest = max(numeric, key=WIDTHS.__getitem__)
        if widest == "int" and name in PROMOTES:
            widest = "long"
        return [self.convert(v, widest) if v.type in WIDTHS else v for v in values]

    def fit(self, name: str, place: int, value: ir.Scalar, takes: spec.Parameter, span: Span) -> ir.Scalar:
        """``value`` as what the function takes there."""
        if takes.types == PACKED:
            value = self.convert(value, "dynamic")
        elif takes.as_text:
            value = value if takes.keeps_dynamic and value.type == "dynamic" else self.convert(value, "string")
        elif value.type not in takes.types:
            value = self.convert(value, target(value.type, takes))
        if takes.is_constant and not isinstance(value, ir.Const):
            value = self.settle(value, span)
            if not isinstance(value, ir.Const):
                raise KqlError(f"Argument {place + 1} of {name}() must be a constant.", span)
        return value

    def _fold(self, function: spec.Function, values: Sequence[ir.Scalar], type_: str) -> ir.Scalar:
        """The call, or its value where all arguments are constants."""
        if function.nulls == "strict" and any(is_null(v) and v.type != "string" for v in values):
            return const(None, type_)
        constants = [v.value for v in values if isinstance(v, ir.Const)]
        if len(constants) == len(values) and not function.is_volatile and self._may_fold(constants):
            began = time.perf_counter()
            try:
                found = function.python(*constants)
            except Exception:
                # A definition that cannot answer now is asked again at run time.
                found = function
            self.folding += time.perf_counter() - began
            if found is not function and not (isinstance(found, str | list | dict) and len(found) > MAX_FOLDED):
                return const(_held(found, type_), type_)
        is_nullable = type_ != "string" and function.name not in NEVER_NULL
        if function.name in EXACT:
            is_nullable = any(v.is_nullable for v in values)
        return ir.Apply(function, tuple(values), type_, is_nullable)

    def _may_fold(self, constants: Sequence[Any]) -> bool:
        """At run time a call can be stopped, here it cannot."""
        size = sum(len(value) for value in constants if isinstance(value, str | list | dict))
        return size <= MAX_FOLDED and self.folding < MAX_FOLDING_SECONDS

    def misfit(self, name: str, overloads: Sequence[Overload], arguments: Sequence[ir.Scalar], span: Span) -> KqlError:
        """The error for a call that no overload fits."""
        if not overloads:
            return KqlError(f"There is no function {name}().", span, kind="unsupported")
        count = len(arguments)
        if not any(True for f in overloads for _ in placements(f.takes, count)):
            return KqlError(f"{name}() does not take {count} argument{'s' * (count != 1)}.", span)
        for place, value in enumerate(arguments):
            fitting = {
                t
                for f in overloads
                for takes in placements(f.takes, count)
                for t in takes[place].types
                if all(other == place or cost(v.type, takes[other]) is not None for other, v in enumerate(arguments))
            }
            if fitting and value.type not in fitting:
                wanted = (
                    "number" if fitting >= set(spec.NUMBER) and fitting <= set(WIDTHS) else " or ".join(sorted(fitting))
                )
                remedy = "Convert it first, for instance with toreal( ... )." if value.type == "dynamic" else ""
                return KqlError(
                    f"Argument {place + 1} of {name}() must be a {wanted}, this is a {value.type}.", span, remedy=remedy
                )
        types = ", ".join(a.type for a in arguments)
        return KqlError(f"{name}() is not defined for ({types}).", span)

    # -- several results ----------------------------------------------------------------------------------------------

    def spread(self, expression: ast.Expr, row: Rel, env: Env) -> list[tuple[str, ir.Scalar]] | None:
        """The columns of a call with several results, with their names; None for any other expression."""
        if not isinstance(expression, ast.Call) or expression.base is not None:
            return None
        try:
            return self.spread_values(expression, row, env)
        except KqlError as error:
            self.report(error)
            return None

    def spread_values(self, call: ast.Call, row: Rel, env: Env) -> list[tuple[str, ir.Scalar]] | None:
        """The several results of ``call``, None if it has only one."""
        if not self._spreads(call) or env.find(call.name) is not None:
            return None
        return self._results(call, [self.scalar(a, row, env) for a in call.arguments])

    def _spreads(self, call: ast.Call) -> bool:
        return call.name in SORTS or any(f.spreads for f in FUNCTIONS.get(call.name, ()))

    def _results(self, call: ast.Call, arguments: Sequence[ir.Scalar]) -> list[tuple[str, ir.Scalar]] | None:
        if not self._spreads(call):
            return None
        if any(not is_known(a) for a in arguments):
            return [("", UNKNOWN)]
        whole = self.apply(call.name, arguments, call.span)
        if call.name in SORTS:
            arrays = [a for n, a in enumerate(arguments) if a.type == "dynamic" or n == 0]
            types = ["dynamic"] * len(arrays)
            return self._named_results(call, whole, types)
        chosen = choose(FUNCTIONS[call.name], [a.type for a in arguments])
        spreads = () if chosen is None else chosen[0].spreads
        return self._named_results(call, whole, [type_ for _, type_ in spreads]) if spreads else None

    def _named_results(self, call: ast.Call, whole: ir.Scalar, types: Sequence[str]) -> list[tuple[str, ir.Scalar]]:
        has_aggregates = self.inside_aggregates()
        return [
            (nth_result(call, n, aggregates=has_aggregates) or "", self._part(whole, n, type_))
            for n, type_ in enumerate(types)
        ]

    def inside_aggregates(self) -> bool:
        """Whether what is bound now is an aggregate expression."""
        return False

    def _part(self, whole: ir.Scalar, place: int, type_: str) -> ir.Scalar:
        if isinstance(whole, ir.Const):
            parts = whole.value
            part = parts[place] if isinstance(parts, list | tuple) and place < len(parts) else None
            return self.convert(const(part, "dynamic"), type_)
        return self.convert(path(whole, [place]), type_)

    # -- the binder's own functions -----------------------------------------------------------------------------------

    def _arguments(self, call: ast.Call, least: int, most: int) -> tuple[ast.Expr, ...]:
        """The arguments of ``call``, their number checked."""
        if not least <= len(call.arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise KqlError(f"{call.name}() takes {wanted} argument{'s' * (wanted != '1')}.", call.span)
        return call.arguments

    def _choice(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        """iff and case."""
        count = len(call.arguments)
        if count < 3 or count % 2 == 0 or (call.name != "case" and count != 3):
            wanted = "3 arguments" if call.name != "case" else "conditions and values in pairs, and a last value"
            raise KqlError(f"{call.name}() takes {wanted}.", call.span)
        conditions = [self.condition(e, row, env) for e in call.arguments[:-1:2]]
        values = [self.scalar(e, row, env) for e in (*call.arguments[1::2], call.arguments[-1])]
        if not all(is_known(v) for v in (*conditions, *values)):
            return UNKNOWN
        return self.choice(list(zip(conditions, values, strict=False)), values[-1], call.span)

    def choice(self, pairs: Sequence[tuple[ir.Scalar, ir.Scalar]], otherwise: ir.Scalar, span: Span) -> ir.Scalar:
        """The value of the first pair whose condition is true, else ``otherwise``; all values of one type."""
        values = self.unify([*(v for _, v in pairs), otherwise], span)
        type_ = values[0].type
        kept: list[tuple[ir.Scalar, ir.Scalar]] = []
        last = values[-1]
        for (condition, _), value in zip(pairs, values, strict=False):
            if isinstance(condition, ir.Const):
                if condition.value is True:
                    last = value
                    break
                continue
            kept.append((condition, value))
        if not kept:
            return last
        is_nullable = type_ != "string" and (last.is_nullable or any(v.is_nullable for _, v in kept))
        return ir.Choice(tuple(kept), last, type_, is_nullable)

    def _conversion(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        (argument,) = self._arguments(call, 1, 1)
        value, type_ = self.scalar(argument, row, env), CONVERSIONS[call.name]
        if type_ == "guid" and value.type not in ("string", "dynamic", "guid", "unknown"):
            raise KqlError(f"{call.name}() takes a string, this is a {value.type}.", call.span)
        return self.convert(value, type_)

    def _now(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        self._arguments(call, 0, 1)
        instant = const(self.now, "datetime")
        if not call.arguments:
            return instant
        offset = self.scalar(call.arguments[0], row, env)
        if offset.type not in ("timespan", "dynamic", "unknown"):
            raise KqlError(f"now() takes a timespan, this is a {offset.type}.", call.span)
        return self.apply("+", [instant, self.convert(offset, "timespan")], call.span)

    def _ago(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        (argument,) = self._arguments(call, 1, 1)
        length = self.scalar(argument, row, env)
        if length.type not in ("timespan", "dynamic", "unknown"):
            raise KqlError(
                f"ago() takes a timespan, this is a {length.type}.", call.span, remedy="Write a unit: ago(1d)."
            )
        return self.apply("-", [const(self.now, "datetime"), self.convert(length, "timespan")], call.span)

    def _not(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        (argument,) = self._arguments(call, 1, 1)
        value = self.scalar(argument, row, env)
        if value.type not in ("bool", "dynamic", "unknown", *WIDTHS):
            raise KqlError(f"not() takes a bool, this is a {value.type}.", argument.span)
        return self.negate(self.convert(value, "bool"), call.span)

    def _unified(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        values = [self.scalar(a, row, env) for a in call.arguments]
        if not all(is_known(v) for v in values):
            return UNKNOWN
        return self.apply(call.name, self.unify(values, call.span), call.span)

    def _column_ifexists(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        name_, default = self._arguments(call, 2, 2)
        name = self.constant(name_, env, "The name of column_ifexists()").value
        column = row.columns.get(str(name))
        if column is None:
            return self.scalar(default, row, env)
        return UNKNOWN if column.type == "unknown" else ir.Ref(column)

    def _iscolumnexists(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        (name,) = self._arguments(call, 1, 1)
        return const(self.constant(name, env, "The name of a column").value in row.columns, "bool")

    def _pack_all(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        self._arguments(call, 0, 1)
        skips = bool(call.arguments) and bool(self.constant(call.arguments[0], env, "ignore_null_empty").value)
        return self.pack([(name, ir.Ref(column)) for name, column in row.columns.items()], skips, call.span)

    def pack(self, values: Sequence[tuple[str, ir.Scalar]], skips_empty: bool, span: Span) -> ir.Scalar:
        """A bag of named values; ``skips_empty`` leaves out nulls and empty strings."""
        arguments = [part for name, value in values for part in (const(name, "string"), value)]
        if not arguments:
            return const({}, "dynamic")
        return self.apply("bag_pack_present" if skips_empty else "bag_pack", arguments, span)

    def _pack_columns(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        values = []
        for argument in self._starred(call, row):
            if not isinstance(argument, ast.Name) or argument.name not in row.columns:
                raise KqlError(f"{call.name}() takes columns.", argument.span)
            values.append((argument.name, self.scalar(argument, row, env)))
        return self.pack(values, False, call.span)

    def _gettype(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        (argument,) = self._arguments(call, 1, 1)
        return self.apply("gettype", [self.scalar(argument, row, env)], call.span)

    def _typeof(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        raise KqlError("typeof() cannot stand here.", call.span)

    # -- values from other rows ---------------------------------------------------------------------------------------

    def _window(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        """row_number, prev, next, row_cumsum, row_rank_*, row_window_session."""
        least, most = WINDOWS[call.name]
        expressions = self._arguments(call, least, most)
        if not row.is_serial:
            raise KqlError(
                f"{call.name}() needs rows in an order.", call.span, remedy="Put sort or serialize in front of it."
            )
        values = [self.scalar(e, row, env) for e in expressions]
        if not all(is_known(v) for v in values):
            return UNKNOWN
        restart: ir.Scalar | None = None
        if call.name not in ("prev", "next") and len(values) == most:
            restart = self._as_bool(values.pop(), call.span)
        arguments, type_ = self._window_arguments(call, values, env)
        if isinstance(restart, ir.Const) and restart.value is not True:
            restart = None
        is_nullable = type_ != "string" and call.name not in ("row_number", "row_rank_dense", "row_rank_min")
        return ir.Window(_RENAMED.get(call.name, call.name), arguments, restart, type_, is_nullable, row.within)

    def _as_bool(self, value: ir.Scalar, span: Span) -> ir.Scalar:
        if value.type not in ("bool", "dynamic"):
            raise KqlError(f"A condition must be a bool, this is a {value.type}.", span)
        return self.convert(value, "bool")

    def _window_arguments(self, call: ast.Call, values: list[ir.Scalar], env: Env) -> tuple[tuple[ir.Scalar, ...], str]:
        if call.name == "row_number":
            start = values[0] if values else const(1, "long")
            return (self._whole(start, call),), "long"
        value = values[0]
        if call.name in ("prev", "next"):
            offset = self._whole(values[1], call) if len(values) > 1 else const(1, "long")
            default = values[2] if len(values) > 2 else const(None, value.type)
            if default.type != value.type and self.common_type([default.type, value.type]) is None:
                raise KqlError(f"The default of {call.name}() must be a {value.type}.", call.span)
            return (value, offset, self.convert(default, value.type)), value.type
        if call.name == "row_cumsum":
            if value.type not in (*WIDTHS, "timespan"):
                raise KqlError(f"row_cumsum() adds numbers, this is a {value.type}.", call.span)
            return (value,), value.type
        if call.name == "row_window_session":
            wanted = ("datetime", "timespan", "timespan")
            for given, type_ in zip(values, wanted, strict=True):
                if given.type not in (type_, "dynamic"):
                    raise KqlError(f"row_window_session() takes a {type_} here, this is a {given.type}.", call.span)
            return tuple(self.convert(v, t) for v, t in zip(values, wanted, strict=True)), "datetime"
        if value.type == "dynamic":
            raise KqlError(f"{call.name}() does not rank dynamic values.", call.span, remedy="Convert them first.")
        return (value,), "long"

    def _whole(self, value: ir.Scalar, call: ast.Call) -> ir.Scalar:
        if value.type not in ("int", "long"):
            raise KqlError(f"{call.name}() takes a whole number here, this is a {value.type}.", call.span)
        return self.convert(value, "long")

    # -- tables in expressions ----------------------------------------------------------------------------------------

    def _toscalar(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        (argument,) = self._arguments(call, 1, 1)
        found = self.value(argument, NO_ROW, closed(env))
        return self.first_of(found, call.span) if isinstance(found, Rel) else found

    def first_of(self, rel: Rel, span: Span) -> ir.Scalar:
        """The first column of the first row of ``rel``."""
        if not rel.columns:
            raise KqlError("The table has no column.", span)
        apart(rel, span)
        column = next(iter(rel.columns.values()))
        if column.type == "unknown":
            return UNKNOWN
        relation = rel.relation
        if isinstance(relation, ir.Values):
            place = [c.number for c in relation.columns].index(column.number)
            return const(relation.rows[0][place] if relation.rows else None, column.type)
        first = rel.with_(relation=ir.Limit(relation, 1), columns={"value": column})
        used = self._use(first, self.share(first.relation, is_materialized=True))
        found = ir.FirstOf(used.relation, used.columns["value"], column.type)
        # Without a row the value is null, but a string is empty.
        return self.apply("coalesce", [found, const("", "string")], span) if column.type == "string" else found

    def gather(self, rel: Rel, span: Span) -> ir.Scalar:
        """All values of the first column of ``rel`` as one dynamic array."""
        column = next(iter(rel.columns.values()), None)
        if column is None:
            raise KqlError("The table has no column to look in.", span)
        apart(rel, span)
        relation, item = rel.relation, ir.Ref(column)
        if column.type == "dynamic":
            element = self.new("dynamic")
            relation, item = ir.Expand(relation, ((element, item),), None, None), ir.Ref(element)
        make_list = AGGREGATES["make_list"][0]
        result = self.new("dynamic")
        text = self.convert(item, "string")
        group = ir.Group(relation, (), ((result, ir.Call(make_list, (text,))),))
        return self.first_of(Rel(group, {"list": result}), span)

    def _column_names_of(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        (argument,) = self._arguments(call, 1, 1)
        found = self.value(argument, NO_ROW, env)
        if not isinstance(found, Rel):
            raise KqlError("column_names_of() takes a table.", argument.span)
        return const(list(found.columns), "dynamic")

    def _current_database(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        self._arguments(call, 0, 0)
        return const(self.schema.database, "string")


WINDOWS: Final[Mapping[str, tuple[int, int]]] = {
    "row_number": (0, 2),
    "prev": (1, 3),
    "next": (1, 3),
    "row_cumsum": (1, 2),
    "row_rank": (1, 2),
    "row_rank_dense": (1, 2),
    "row_rank_min": (1, 2),
    "row_window_session": (3, 4),
}
"""Functions of neighbouring rows, and how many arguments they take. The last of the most is the restart condition."""

_RENAMED: Final = {"row_rank": "row_rank_dense"}

SPECIAL: Final[Mapping[str, Callable[[Calls, ast.Call, Rel, Env], ir.Scalar]]] = {
    "ago": Calls._ago,
    "bag_pack_columns": Calls._pack_columns,
    "case": Calls._choice,
    "column_ifexists": Calls._column_ifexists,
    "column_names_of": Calls._column_names_of,
    "columnifexists": Calls._column_ifexists,
    "current_database": Calls._current_database,
    "gettype": Calls._gettype,
    "iff": Calls._choice,
    "iif": Calls._choice,
    "iscolumnexists": Calls._iscolumnexists,
    "not": Calls._not,
    "now": Calls._now,
    "pack_all": Calls._pack_all,
    "toscalar": Calls._toscalar,
    "typeof": Calls._typeof,
    **dict.fromkeys(UNIFIES, Calls._unified),
    **dict.fromkeys(CONVERSIONS, Calls._conversion),
    **dict.fromkeys(WINDOWS, Calls._window),
}
"""Functions that the binder makes itself."""


def is_aggregate(name: str) -> bool:
    """Whether ``name`` is an aggregate function."""
    return name in AGGREGATES or name in CONDITIONAL or name in EXTREMES


def is_internal(name: str) -> bool:
    """Whether the function table has ``name`` for the binder only."""
    return name in INTERNAL or name.startswith("__")


def sentence(text: str) -> str:
    """``text`` as a sentence: with a capital unless it begins with a function's name, and a full stop."""
    text = text.strip()
    first = text.split(" ", 1)[0]
    text = text if "(" in first or "_" in first else text[:1].upper() + text[1:]
    return text if not text or text[-1] in ".!?" else f"{text}."


def typeof(expression: ast.Expr) -> str | None:
    """The type that ``typeof(type)`` names, None for any other expression."""
    if not isinstance(expression, ast.Call) or expression.name != "typeof" or len(expression.arguments) != 1:
        return None
    (name,) = expression.arguments
    return name.name if isinstance(name, ast.Name) and name.name in TYPES else None


def closed(env: Env) -> Env:
    """``env`` without values that belong to rows: what a table inside an expression sees."""
    hidden: dict[str, Any] = {}
    seen: set[str] = set()
    scope: Env | None = env
    while scope is not None:
        for name, meaning in scope.names.items():
            if name in seen:
                continue
            seen.add(name)
            if isinstance(meaning, Mapping) or (
                not isinstance(meaning, Rel | Function) and hasattr(meaning, "is_nullable") and any(ir.refs(meaning))
            ):
                hidden[name] = Correlated(name)
        scope = scope.outer
    return env.with_names(hidden) if hidden else env
