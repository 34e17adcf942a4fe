"""Expressions: what a scalar expression means over a row, its type known and its constants folded.

Names, literals, operators and paths into dynamic values. Calls are bound by ``calls.py``; how values of different types
meet is in ``combine.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.combine import ARITHMETIC, COMPARISONS, WIDTHS, Combining, const, is_known, path, walk
from watchfloor.kql.bind.core import UNKNOWN, Abandoned
from watchfloor.kql.bind.names import result_name
from watchfloor.kql.bind.scope import Env, Function, Rel
from watchfloor.kql.errors import KqlError, Span, nearest

NO_ROW: Final = Rel(ir.Values((), ((),)), {}, is_serial=False)
"""Where there are no rows: print, let, and what must be constant."""

_SCALARS: Final = (
    ir.Const, ir.Ref, ir.Apply, ir.Path, ir.Convert, ir.Compare, ir.OneOf, ir.InRelation, ir.FirstOf, ir.Junction,
    ir.Choice, ir.Window,
)  # fmt: skip


@dataclass(frozen=True)
class Correlated:
    """A name whose value is taken from rows that a table inside an expression cannot see."""

    name: str


class Scalars(Combining):
    """Binds expressions. ``call``, ``value`` and ``invoke`` belong to the classes above."""

    def call(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        """``call`` as a scalar."""
        raise NotImplementedError

    def spread_values(self, call: ast.Call, row: Rel, env: Env) -> list[tuple[str, ir.Scalar]] | None:
        """The several results of ``call``, None if it has only one."""
        raise NotImplementedError

    def value(self, expression: ast.Expr, row: Rel, env: Env) -> ir.Scalar | Rel:
        """A scalar or a table, whichever ``expression`` is."""
        raise NotImplementedError

    def invoke(self, function: Function, call: ast.Call, row: Rel, env: Env) -> ir.Scalar | Rel:
        """A function of the query, called."""
        raise NotImplementedError

    def may_see(self, table: str, env: Env) -> bool:
        """Whether the asker may know of ``table``."""
        raise NotImplementedError

    # -- expressions ---------------------------------------------------------------------------------------------------

    def scalar(self, expression: ast.Expr, row: Rel, env: Env) -> ir.Scalar:
        """``expression`` over the columns of ``row``. Constants come folded; an error is remembered."""
        self.enter(expression.span)
        try:
            found = self._scalar(expression, row, env)
        except KqlError as error:
            return self.report(error)
        except Abandoned:
            return UNKNOWN
        finally:
            self.leave()
        if not self._depth:
            self.check_height(found, expression.span)
        return found

    def _scalar(self, expression: ast.Expr, row: Rel, env: Env) -> ir.Scalar:
        self._scalars += 1
        match expression:
            case ast.Literal():
                return const(expression.value, expression.type)
            case ast.Name():
                return self._name(expression, row, env)
            case ast.Call():
                return self.call(expression, row, env)
            case ast.Member() | ast.Index():
                return self._path(expression, row, env)
            case ast.Unary():
                return self._unary(expression, row, env)
            case ast.Binary():
                return self._binary(expression, row, env)
            case ast.Logical():
                return self._logical(expression, row, env)
            case ast.Membership():
                return self._membership(expression, row, env)
            case ast.Between():
                return self._between(expression, row, env)
            case ast.Pipe() if not expression.operators:
                return self.scalar(expression.source, row, env)
            case ast.Pipe() | ast.Datatable() | ast.Print() | ast.Range():
                raise KqlError(
                    "A value is expected here, this is a table.", expression.span, remedy="Use toscalar( ... )."
                )
            case ast.Externaldata():
                raise externaldata(expression)
            case ast.Named() | ast.NameList():
                raise KqlError("A name cannot be given here.", expression.span)
            case ast.Star() | ast.Wildcard():
                raise KqlError("* cannot stand here: name a column.", expression.span)
        raise KqlError("An expression is missing here.", expression.span)

    def _name(self, name: ast.Name, row: Rel, env: Env) -> ir.Scalar:
        column = row.columns.get(name.name)
        if column is not None:
            return UNKNOWN if column.type == "unknown" else ir.Ref(column)
        meaning = env.find(name.name)
        if meaning is None:
            raise self.unknown_name(name, row, env)
        if isinstance(meaning, Mapping):
            meaning = meaning.get("")
        if isinstance(meaning, Function):
            found = self.invoke(meaning, ast.Call(name.name, (), name.span, name.span), row, env)
            if not isinstance(found, Rel):
                return found
        elif isinstance(meaning, Correlated):
            raise correlated(name.name, name.span)
        elif isinstance(meaning, _SCALARS):
            return self.spend(meaning, name.span)
        raise KqlError(
            f"{name.name} is a table, a value is expected here.", name.span, remedy=f"Use toscalar({name.name})."
        )

    def unknown_name(self, name: ast.Name, row: Rel, env: Env) -> KqlError:
        """The error for a name that means nothing here."""
        if name.name.lower() == "null" and not name.is_quoted:
            return KqlError(
                "null has no literal of its own.", name.span, remedy="Use isnull( ... ), or a typed null: long(null)."
            )
        if self.may_see(name.name, env):
            message = f"{name.name} is a table, a value is expected here."
            return KqlError(message, name.span, remedy=f"Use toscalar({name.name} ...).")
        known = [*row.columns, *(n for n in env.visible() if not n.startswith("\0"))]
        return KqlError(f"There is no column or value {name.name} here.", name.span, remedy=nearest(name.name, known))

    def condition(self, expression: ast.Expr, row: Rel, env: Env) -> ir.Scalar:
        """``expression`` as a condition: bool, or dynamic converted to it; anything else is refused."""
        found = self.scalar(expression, row, env)
        if found.type in ("bool", "unknown"):
            return found
        if found.type == "dynamic":
            return self.convert(found, "bool")
        return self.report(KqlError(f"A condition must be a bool, this is a {found.type}.", expression.span))

    def constant(self, expression: ast.Expr, env: Env, purpose: str) -> ir.Const:
        """``expression`` as a constant; asks a question for a toscalar; else an error that ``purpose`` needs one."""
        found = self.scalar(expression, NO_ROW, env)
        if not is_known(found):
            raise Abandoned
        if isinstance(found, ir.Const):
            return found
        settled = self.settle(found, expression.span)
        if isinstance(settled, ir.Const):
            return settled
        raise KqlError(f"{purpose} must be a constant.", expression.span)

    # -- operators -----------------------------------------------------------------------------------------------------

    def _unary(self, unary: ast.Unary, row: Rel, env: Env) -> ir.Scalar:
        operand = self.scalar(unary.operand, row, env)
        if not is_known(operand):
            return operand
        if operand.type == "dynamic":
            return self.dynamic_arithmetic("-", [const(0, "dynamic"), operand], unary.span)
        if operand.type == "int":
            operand = self.convert(operand, "long")
        if operand.type not in (*WIDTHS, "timespan", "datetime"):
            raise KqlError(f"{unary.operator} is not defined for {operand.type}.", unary.span)
        return operand if unary.operator == "+" else self.apply("negate", [operand], unary.span)

    def _binary(self, binary: ast.Binary, row: Rel, env: Env) -> ir.Scalar:
        # The left spine of a long sum is walked in a loop.
        spine = [binary]
        while isinstance(spine[-1].left, ast.Binary):
            spine.append(spine[-1].left)
        first = spine[-1]
        if isinstance(first.left, ast.Star):
            found = self._any_column(first, row, env)
            spine.pop()
        else:
            found = self.scalar(first.left, row, env)
        for node in reversed(spine):
            self._scalars += 1
            right = self.scalar(node.right, row, env)
            try:
                found = self.operate(node.operator, found, right, node.span)
            except KqlError as error:
                found = self.report(error)
        return found

    def _any_column(self, binary: ast.Binary, row: Rel, env: Env) -> ir.Scalar:
        """``* has "x"``: whether it is so for any column, read as text."""
        right = self.scalar(binary.right, row, env)
        if right.type not in ("string", "dynamic", "unknown") or binary.operator in ARITHMETIC | COMPARISONS:
            raise KqlError(f"* {binary.operator} is not supported.", binary.span, kind="unsupported")
        columns = [self.convert(ir.Ref(column), "string") for column in row.columns.values()]
        return self.join("or", [self.operate(binary.operator, column, right, binary.span) for column in columns])

    def _logical(self, logical: ast.Logical, row: Rel, env: Env) -> ir.Scalar:
        operands = [self.condition(operand, row, env) for operand in logical.operands]
        return self.join(logical.operator, operands)

    def _between(self, between: ast.Between, row: Rel, env: Env) -> ir.Scalar:
        subject, low, high = (self.scalar(e, row, env) for e in (between.subject, between.low, between.high))
        if not (is_known(subject) and is_known(low) and is_known(high)):
            return UNKNOWN
        if high.type == "timespan" and "datetime" in (subject.type, low.type):
            high = self.apply("+", [self.convert(low, "datetime"), high], between.span)
        self.spend(subject, between.span)
        if between.is_negated:
            bounds = [self.compare("<", subject, low, between.span), self.compare(">", subject, high, between.span)]
            return self.join("or", bounds)
        bounds = [self.compare(">=", subject, low, between.span), self.compare("<=", subject, high, between.span)]
        return self.join("and", bounds)

    def _membership(self, membership: ast.Membership, row: Rel, env: Env) -> ir.Scalar:
        span = membership.span
        subject = self.scalar(membership.subject, row, env)
        items = [self.value(item, row, env) for item in membership.items]
        if not is_known(subject) or any(not isinstance(item, Rel) and not is_known(item) for item in items):
            return UNKNOWN
        if membership.operator in ("has_any", "has_all"):
            return self.has_terms(membership.operator, subject, items, span)
        return self.is_in(membership.operator, subject, items, span)

    # -- paths ---------------------------------------------------------------------------------------------------------

    def _path(self, expression: ast.Member | ast.Index, row: Rel, env: Env) -> ir.Scalar:
        chain: list[ast.Member | ast.Index] = []
        base: ast.Expr = expression
        while isinstance(base, ast.Member | ast.Index):
            chain.append(base)
            base = base.base
        chain.reverse()
        value, chain = self._path_base(base, chain, row, env)
        steps: list[str | int | ir.Scalar] = []
        for link in chain:
            if not is_known(value):
                return UNKNOWN
            if value.type != "dynamic":
                what = base.name if isinstance(base, ast.Name) else "this"
                raise KqlError(
                    f"{what} is a {value.type}: it has no parts.", link.span, remedy=f"Use parse_json({what})."
                )
            step = link.name if isinstance(link, ast.Member) else self._step(link, row, env)
            if not isinstance(step, str | int) and not is_known(step):
                return UNKNOWN
            if isinstance(value, ir.Const) and not steps and isinstance(step, str | int):
                value = const(walk(value.value, step), "dynamic")
            elif not isinstance(step, str | int) and step.type == "dynamic":
                value, steps = self._dynamic_step(path(value, steps), step, link.span), []
            else:
                steps.append(step)
        return path(value, steps) if is_known(value) else UNKNOWN

    def _path_base(
        self, base: ast.Expr, chain: list[ast.Member | ast.Index], row: Rel, env: Env
    ) -> tuple[ir.Scalar, list[ast.Member | ast.Index]]:
        """What a path starts from: a value, a part of a record, or one of several results of a call."""
        if isinstance(base, ast.Name):
            record = env.find(base.name)
            if isinstance(record, Mapping) and chain:
                name = member_name(chain[0])
                if name is None or name not in record:
                    known = [n for n in record if n]
                    raise KqlError(
                        f"{base.name} has no property {name or '[...]'}.",
                        chain[0].span,
                        remedy=nearest(name or "", known),
                    )
                return self.spend(record[name], base.span), chain[1:]
        if isinstance(base, ast.Call) and chain:
            found = self.special_path(base, chain, row, env)
            if found is not None:
                return found
        return self.scalar(base, row, env), chain

    def special_path(
        self, call: ast.Call, chain: list[ast.Member | ast.Index], row: Rel, env: Env
    ) -> tuple[ir.Scalar, list[ast.Member | ast.Index]] | None:
        """A path that starts at a call with several results, or at a pattern; None if it is neither."""
        results = self.spread_values(call, row, env)
        link = chain[0]
        if results is None or isinstance(link, ast.Member):
            return None if results is None else (results[0][1], chain)
        place = self._step(link, row, env)
        if not isinstance(place, int) or not 0 <= place < len(results):
            raise KqlError(f"{call.name}() has results 0 to {len(results) - 1}.", link.span)
        return results[place][1], chain[1:]

    def _step(self, link: ast.Index, row: Rel, env: Env) -> str | int | ir.Scalar:
        index = self.scalar(link.index, row, env)
        if isinstance(index, ir.Const) and isinstance(index.value, int) and index.type in ("int", "long"):
            return index.value
        if index.type in ("int", "long"):
            return self.convert(index, "long")
        if index.type == "string":
            return str(index.value) if isinstance(index, ir.Const) else index
        if index.type in ("dynamic", "unknown"):
            return self.typed_constant(index)
        raise KqlError(f"An index is a number or a string, this is a {index.type}.", link.span)

    def _dynamic_step(self, base: ir.Scalar, step: ir.Scalar, span: Span) -> ir.Scalar:
        """A step that is itself dynamic: a position in an array, a name in a bag."""
        self.spend(base, span)
        is_array = self.apply("isnotnull", [self.apply("array_length", [base], span)], span)
        by_place = path(base, [self.convert(step, "long")])
        by_name = path(base, [self.convert(step, "string")])
        return ir.Choice(((is_array, by_place),), by_name, "dynamic")


def member_name(link: ast.Member | ast.Index) -> str | None:
    """The name of a step, if it is one."""
    if isinstance(link, ast.Member):
        return link.name
    return str(link.index.value) if isinstance(link.index, ast.Literal) and link.index.type == "string" else None


def correlated(name: str, span: Span) -> KqlError:
    """The error for a row's value inside a table expression."""
    return KqlError(
        f"{name} belongs to the rows outside: a table inside an expression cannot depend on them.",
        span,
        remedy="Use join or lookup.",
    )


def externaldata(expression: ast.Externaldata) -> KqlError:
    """The refusal of data from outside."""
    return KqlError(
        f"{expression.keyword} is not supported: queries read nothing from outside.",
        expression.span,
        remedy="Upload the data as a named list and use _GetWatchlist('name').",
        kind="unsupported",
    )


def column_name(expression: ast.Expr, row: Rel | None = None) -> str | None:
    """The name that a column gets from ``expression``, None if it has none."""
    return result_name(expression, None if row is None else row.columns)
