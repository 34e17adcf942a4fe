"""Scalars of the ``ir`` to SQL.

A value of the user's never stands in the text if it is text: it becomes a parameter, here, and nowhere else. Numbers
and bools are written out; columns are called by their number. What a function means in SQL is in the function table,
what a conversion means in ``functions/convert.py``, how a dialect says the rest in its forms. What has no template is
called as a routine of the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol

from watchfloor.kql import ir
from watchfloor.kql.errors import KqlError, Span
from watchfloor.kql.functions.convert import json_text
from watchfloor.kql.records import dataclass
from watchfloor.kql.routines import RoutineRef
from watchfloor.kql.sql.dialect import Dialect, template
from watchfloor.kql.sql.trees import is_volatile

MAX_LISTED: Final = 64
"""More texts than this are handed over as one list."""

MAX_REPEATED: Final = 1_500
"""Characters that a template may add by mentioning an argument again; past that the routine is called instead."""

MAX_TEXT: Final = 200_000
"""Characters of one expression; a longer one is refused."""

_EPOCH: Final = datetime(1, 1, 1, tzinfo=UTC)
_COMPARE: Final = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_INTEGERS: Final = ("int", "long")


@dataclass(frozen=True, slots=True)
class Piece:
    """SQL of a scalar over the columns of one SELECT. ``reads``: those columns of its sources that it mentions.

    ``kind``: "column" and "constant" may be mentioned again wherever the column that they are is meant; anything else
    is "other": it is computed once.
    """

    text: str
    reads: frozenset[str]
    kind: str = "other"


class Columns(Protocol):
    """The columns that a scalar may refer to."""

    names: dict[str, None]

    def lookup(self, name: str) -> Piece:
        """The SQL of a column. Its kind is not "other"."""


class Subqueries(Protocol):
    """What the printer of relations does for scalars."""

    def members(self, relation: ir.Relation, column: ir.BoundColumn, *, is_folded: bool) -> str:
        """A query of one column, without nulls."""

    def first(self, relation: ir.Relation, column: ir.BoundColumn) -> str:
        """A query of one column and at most one row."""


Printed = tuple[str, bool]
"""SQL, and whether it is an atom: needs no parentheses anywhere."""


class Scalars:
    """Prints the scalars of one query and keeps its parameters and routines."""

    def __init__(self, dialect: Dialect, subqueries: Subqueries) -> None:
        self.dialect, self._subqueries = dialect, subqueries
        self._most_repeated = MAX_REPEATED if dialect.has_routines else MAX_TEXT // 10
        self.params: dict[str, Any] = {}
        self.routines: set[RoutineRef] = set()
        self._named: dict[tuple[str, Any], str] = {}
        self.parsed: dict[str, ir.Apply] = {}
        """Columns that are parse_json() of another column."""
        self._columns: Columns | None = None
        self._reads: set[str] = set()
        self._printers: dict[type, Callable[[Any, bool], Printed]] = {
            ir.Const: self._const,
            ir.Ref: self._ref,
            ir.Apply: self._apply,
            ir.Path: self._path,
            ir.Convert: self._convert,
            ir.Compare: self._compare,
            ir.OneOf: self._one_of,
            ir.InRelation: self._in_relation,
            ir.FirstOf: self._first_of,
            ir.Junction: self._junction,
            ir.Choice: self._choice,
        }

    def piece(self, scalar: ir.Scalar, columns: Columns, *, as_condition: bool = False) -> Piece:
        """``scalar`` over ``columns``. ``as_condition``: null may stand for false in it."""
        outer = self._columns, self._reads
        self._columns, self._reads = columns, set()
        try:
            if isinstance(scalar, ir.Ref):
                return columns.lookup(name_of(scalar.column))
            text = self._print(scalar, as_condition)[0]
            return Piece(text, frozenset(self._reads), "constant" if isinstance(scalar, ir.Const) else "other")
        finally:
            self._columns, self._reads = outer

    def filled(
        self, text: str, columns: Columns, arguments: Mapping[str, ir.Scalar], given: Mapping[str, str]
    ) -> Piece:
        """The template ``text`` with scalars for ``arguments``, and SQL as it is for ``given``."""
        outer = self._columns, self._reads
        self._columns, self._reads = columns, set()
        try:
            filled = template(text).fill(
                lambda name: given[name] if name in given else self._atom(arguments[name]) if name in arguments else ""
            )
            return Piece(filled, frozenset(self._reads))
        finally:
            self._columns, self._reads = outer

    def parameter(self, value: Any) -> str:
        """The name of a parameter that holds ``value``."""
        key = (type(value).__name__, tuple(value) if isinstance(value, list) else value)
        if key not in self._named:
            name = f"p{len(self.params)}"
            self.params[name] = value
            self._named[key] = name
        return self.dialect.parameter(self._named[key], value)

    def call(self, routine: RoutineRef, *arguments: str) -> str:
        """A call of ``routine`` over values that are already as it takes them."""
        self.dialect.must_call(_described(routine))
        self.routines.add(routine)
        handed = arguments if routine.kind == "relation" else ("$budget", *arguments)
        return f"{routine.sql_name}({', '.join(handed)})"

    # -- printing -------------------------------------------------------------------------------------------------

    def _print(self, scalar: ir.Scalar, as_condition: bool = False) -> Printed:
        printer = self._printers.get(type(scalar))
        if printer is None:
            raise self.dialect.lacks(f"{type(scalar).__name__} here")
        printed = printer(scalar, as_condition)
        if len(printed[0]) > MAX_TEXT:
            raise KqlError("An expression becomes too long.", Span(0, 0), remedy="Split it with extend.", kind="limit")
        return printed

    def _atom(self, scalar: ir.Scalar, as_condition: bool = False) -> str:
        text, is_atom = self._print(scalar, as_condition)
        return text if is_atom else f"({text})"

    def _say(self, form: str, *arguments: str) -> Printed:
        found = self.dialect.form(form)
        return found.fill(lambda name: arguments[ord(name) - 97]), found.is_atom

    def _ref(self, scalar: ir.Ref, _: bool) -> Printed:
        assert self._columns is not None
        piece = self._columns.lookup(name_of(scalar.column))
        self._reads |= piece.reads
        return piece.text, True

    def _const(self, scalar: ir.Const, _: bool) -> Printed:
        return self.constant(scalar.value, scalar.type), True

    def constant(self, value: Any, kind: str) -> str:
        """A value of a KQL type, as an atom."""
        if kind == "string":
            return self.parameter(value) if value else "''"
        sql_type = self.dialect.type(kind)
        if value is None:
            return f"CAST(NULL AS {sql_type})"
        if kind == "bool":
            return "true" if value else "false"
        if kind in ("int", "long", "timespan"):
            return f"CAST({int(value)} AS {sql_type})" if value > -(2**63) else f"CAST('{int(value)}' AS {sql_type})"
        if kind == "real":
            return real(value, sql_type)
        if kind == "decimal":
            if abs(value) >= 10**38 or (abs(value) >= 10**20 and value != value.to_integral_value()):
                raise KqlError("This decimal has more digits than can be held.", Span(0, 0), kind="unsupported")
            is_wide = abs(value) >= 10**20 and value == value.to_integral_value()  # as parse_version() gives them
            return f"CAST('{Decimal(value):f}' AS {'DECIMAL(38, 0)' if is_wide else sql_type})"
        return self.parameter(self.value(value, kind))

    @staticmethod
    def value(value: Any, kind: str) -> Any:
        """A value of a KQL type that travels as text or as a time, as a parameter holds it."""
        if value is None:
            return None
        if kind == "datetime":
            return _EPOCH + timedelta(microseconds=value // 10)
        return json_text(value) if kind == "dynamic" else str(value)

    def _apply(self, scalar: ir.Apply, _: bool) -> Printed:
        arguments = scalar.arguments
        made = scalar.function.template(self.dialect.name, arguments)
        if made is None:
            return self._routine(scalar), True
        found = template(made.text)
        for name in found.repeated:
            if len(name) == 1 and name != "*" and self._is_too_much(arguments[ord(name) - 97], found.repeated[name]):
                return self._routine(scalar), True

        def value(name: str) -> str:
            if name == "*":
                return ", ".join(self._atom(a) for a in arguments)
            if name == "routine":
                return self._routine(scalar)
            if len(name) == 1:
                return self._atom(arguments[ord(name) - 97])
            return self._derived(made.values[name])

        return found.fill(value), found.is_atom

    def _is_too_much(self, argument: ir.Scalar, more: int) -> bool:
        """Whether ``argument`` must not be mentioned so many times more: it is long, or never twice the same."""
        if isinstance(argument, ir.Const | ir.Ref):
            return False
        return is_volatile(argument) or more * len(self._atom(argument)) > self._most_repeated

    def _derived(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return real(value, self.dialect.type("real"))
        if isinstance(value, int):
            return str(value) if value >= 0 else f"({value})"
        if isinstance(value, list | tuple):
            return f"[{', '.join(self.parameter(item) for item in value)}]"
        return self.parameter(value)

    def _routine(self, scalar: ir.Apply) -> str:
        function = scalar.function
        routine = RoutineRef(
            "function", function.name, function.number, tuple(a.type for a in scalar.arguments), (scalar.type,)
        )
        return self._called(routine, [self._atom(a) for a in scalar.arguments])

    def _called(self, routine: RoutineRef, arguments: list[str]) -> str:
        """A call of ``routine`` over values of its types, and what it gives as such."""
        self.dialect.must_call(_described(routine))
        handed = [self.handed(kind, text) for kind, text in zip(routine.takes, arguments, strict=True)]
        return self.received(routine.gives[0], self.call(routine, *handed))

    def handed(self, kind: str, atom: str) -> str:
        """A value of a KQL type as routines take it."""
        return self.dialect.say(f"in_{kind}", atom)

    def received(self, kind: str, atom: str) -> str:
        """What a routine gave as a value of a KQL type, as an atom."""
        return self.dialect.say(f"out_{kind}", atom)

    # -- dynamic values and conversions -----------------------------------------------------------------------------

    def _path(self, scalar: ir.Path, _: bool) -> Printed:
        base, steps = self._root(scalar)
        return self._walk(base, steps, as_text=False)

    def _root(self, scalar: ir.Path) -> tuple[str, list[str | int | ir.Scalar]]:
        """The value that a path begins in, as an atom, and all steps from there."""
        steps = list(scalar.steps)
        base = scalar.base
        while isinstance(base, ir.Path):
            steps = [*base.steps, *steps]
            base = base.base
        text = None if self._columns is None else self.parsed_text(base, self._columns)
        if text is not None:  # text that is no JSON has no properties either, so it need not be looked at twice
            return self.dialect.say("if_json", self._atom(text)), steps
        return self._atom(base), steps

    def parsed_text(self, scalar: ir.Scalar, columns: Columns) -> ir.Scalar | None:
        """The text that ``scalar`` is parse_json() of, if it is that and the text can be had."""
        if isinstance(scalar, ir.Ref):
            scalar = self.parsed.get(name_of(scalar.column), scalar)
        if not isinstance(scalar, ir.Apply) or scalar.function.name != "parse_json":
            return None
        text = scalar.arguments[0]
        is_there = text.type == "string" and all(name_of(c) in columns.names for c in ir.refs(text))
        return text if is_there else None

    def _walk(self, base: str, steps: list[str | int | ir.Scalar], *, as_text: bool) -> Printed:
        text = base
        pending: list[str | int] = []

        def settle(form: str) -> None:
            nonlocal text
            if pending:
                if self.dialect.path is not None:
                    text = self.dialect.path(form, text, tuple(pending), self.parameter)
                else:
                    text = self.dialect.say(form, text, self.parameter(json_path(pending)))
                pending.clear()

        for step in steps:
            if isinstance(step, str | int) and step != "":
                pending.append(step)
                continue
            settle("path_json")
            if isinstance(step, str | int):
                text = self.dialect.say("key_json", text, "''")
            else:
                text = self.dialect.say("key_json" if step.type == "string" else "index_json", text, self._atom(step))
        if pending:
            settle("path_text" if as_text else "path_json")
        elif as_text:
            text = self.dialect.say("path_text", text, self.parameter("$"))
        return text, True

    def _convert(self, scalar: ir.Convert, _: bool) -> Printed:
        base, target = scalar.base, scalar.type
        if isinstance(base, ir.Path) and target != "dynamic":
            return self._converted_path(base, target)
        if is_volatile(base):
            called = RoutineRef("conversion", target, 0, (base.type,), (target,))
            return self._called(called, [self._atom(base)]), True
        return self.converted(self._atom(base), base.type, target)

    def _converted_path(self, path: ir.Path, target: str) -> Printed:
        root, steps = self._root(path)
        text = self.dialect.from_path.get(target)
        as_json = self._walk(root, steps, as_text=False)[0]
        slow = RoutineRef("conversion", target, 0, ("dynamic",), (target,))
        if text is None or len(as_json) * 4 > self._most_repeated:
            return self._called(slow, [as_json]), True
        given = {
            "t": lambda: self._walk(root, steps, as_text=True)[0],
            "j": lambda: as_json,
            "slow": lambda: self._called(slow, [as_json]),
        }
        found = template(text)
        return found.fill(lambda name: given[name]()), found.is_atom

    def converted(self, atom: str, source: str, target: str) -> Printed:
        """A value of type ``source`` as ``target``."""
        if source == target:
            return atom, True
        text = self.dialect.conversions.get((source, target))
        if text is not None:
            found = template(text)
            if sum(found.repeated.values()) * len(atom) <= self._most_repeated:
                return found.fill(lambda _: atom), found.is_atom
        called = self._called(RoutineRef("conversion", target, 0, (source,), (target,)), [atom])
        shortcut = self.dialect.shortcuts.get((source, target))
        if shortcut is None or len(atom) * 5 > self._most_repeated:
            return called, True
        short = template(shortcut).fill(lambda _: atom)
        return f"CASE WHEN {atom} <> '' THEN coalesce({short}, {called}) END", True

    def element(self, atom: str, target: str) -> Printed:
        """An element of mv-expand, as ``target``."""
        text = self.dialect.elements.get(target)
        if text is None:
            raise self.dialect.lacks(f"mv-expand to {target}")
        found = template(text)
        convert = "convert" in found.variables and self._parenthesised(self.converted(atom, "dynamic", target))
        return found.fill(lambda name: str(convert) if name == "convert" else atom), found.is_atom

    @staticmethod
    def _parenthesised(printed: Printed) -> str:
        return printed[0] if printed[1] else f"({printed[0]})"

    # -- conditions -------------------------------------------------------------------------------------------------

    def _compare(self, scalar: ir.Compare, as_condition: bool) -> Printed:
        left, right, operator = scalar.left, scalar.right, scalar.operator
        if isinstance(left, ir.Const) and not isinstance(right, ir.Const):
            flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
            left, right, operator = right, left, flipped.get(operator, operator)
        a, b = self._operand(left, right), self._operand(right, left)
        text, is_atom = self._compared(operator, left, right, a, b, as_condition)
        # Every comparison with NaN is false but for !=; SQL takes it for the greatest number, equal to itself.
        if operator in (">", ">=") and may_be_nan(left):
            text, is_atom = self._unless_nan(text, a, b, right, as_condition)
        elif operator in ("<", "<=") and may_be_nan(right):
            text, is_atom = self._unless_nan(text, b, a, left, as_condition)
        elif operator in ("==", "!=") and may_be_nan(left) and may_be_nan(right):
            is_nan = self.dialect.say("is_nan", a)
            is_both = f"{is_nan} AND {self.dialect.say('is_nan', b)}"
            text = f"CASE WHEN {is_both} THEN {'false' if operator == '==' else 'true'} ELSE {text} END"
            is_atom = True
        return text, is_atom

    def _unless_nan(self, text: str, a: str, b: str, other: ir.Scalar, as_condition: bool) -> Printed:
        """The comparison ``text``, but false where ``a`` is NaN. ``b`` is the other side: null beside null stays
        null."""
        is_nan = self.dialect.say("is_nan", a)
        if as_condition or not other.is_nullable:
            return f"{text} AND NOT {is_nan}", False
        return f"CASE WHEN {is_nan} AND {b} IS NOT NULL THEN false ELSE {text} END", True

    def _compared(
        self, operator: str, left: ir.Scalar, right: ir.Scalar, a: str, b: str, as_condition: bool
    ) -> Printed:
        plain = f"{a} {_COMPARE[operator]} {b}"
        may_be_null, may_both = left.is_nullable or right.is_nullable, left.is_nullable and right.is_nullable
        if operator not in ("==", "!=") or not may_be_null or (operator == "==" and as_condition):
            return plain, False
        if operator == "==":
            total = self._say("same", a, b) if may_both else (f"coalesce({plain}, false)", True)
        else:
            total = self._say("different", a, b)
        if not may_both or as_condition:
            return total
        return f"CASE WHEN {a} IS NULL AND {b} IS NULL THEN NULL ELSE {total[0]} END", True

    def _operand(self, scalar: ir.Scalar, other: ir.Scalar) -> str:
        """A side of a comparison: whole numbers need no type beside a whole number."""
        if isinstance(scalar, ir.Const) and scalar.value is not None:
            if scalar.type in _INTEGERS and other.type in _INTEGERS and not isinstance(other, ir.Const):
                return str(scalar.value) if scalar.value >= 0 else f"({scalar.value})"
            if scalar.type == other.type == "timespan" and scalar.value >= 0 and not isinstance(other, ir.Const):
                return str(scalar.value)
        return self._atom(scalar)

    def _one_of(self, scalar: ir.OneOf, as_condition: bool) -> Printed:
        subject = scalar.subject
        items = [i for i in scalar.items if not (isinstance(i, ir.Const) and i.value is None)]
        if not items:
            return ("true" if scalar.is_negated else "false"), True
        a = self._atom(subject)
        if scalar.is_folded:
            a = self.dialect.say("fold", a)
        texts = [i.value for i in items if isinstance(i, ir.Const) and i.type in ("string", "guid")]
        if len(items) > MAX_LISTED and len(texts) == len(items):
            values = sorted({t.lower() for t in texts} if scalar.is_folded else set(texts))
            plain = self.dialect.say("one_of_list", a, self.parameter(values))
        else:
            printed = [self._operand(i, subject) for i in items]
            if scalar.is_folded:
                printed = [self.dialect.say("fold", i) for i in printed]
            plain = f"{a} IN ({', '.join(dict.fromkeys(printed))})"
        items_may = any(i.is_nullable for i in items)
        if may_be_nan(subject) and any(may_be_nan(i) for i in items):  # NaN is equal to nothing
            plain, items_may = f"({plain} AND NOT {self.dialect.say('is_nan', a)})", True
        return self._membership(plain, a, scalar.is_negated, subject.is_nullable, items_may, as_condition)

    def _in_relation(self, scalar: ir.InRelation, as_condition: bool) -> Printed:
        a = self._atom(scalar.subject)
        if scalar.is_folded:
            a = self.dialect.say("fold", a)
        members = self._subqueries.members(scalar.relation, scalar.column, is_folded=scalar.is_folded)
        return self._membership(
            f"{a} IN ({members})", a, scalar.is_negated, scalar.subject.is_nullable, False, as_condition
        )

    def _membership(
        self, plain: str, subject: str, is_negated: bool, may_be_null: bool, items_may: bool, as_condition: bool
    ) -> Printed:
        """``plain`` is ``x IN (...)``: false for null, negated true."""
        if not is_negated:
            return (
                (plain, False)
                if as_condition or not (may_be_null or items_may)
                else (f"coalesce({plain}, false)", True)
            )
        if not (may_be_null or items_may):
            return plain.replace(f"{subject} IN (", f"{subject} NOT IN (", 1), False
        return f"NOT coalesce({plain}, false)", False

    def _first_of(self, scalar: ir.FirstOf, _: bool) -> Printed:
        query = f"({self._subqueries.first(scalar.relation, scalar.column)})"
        return (f"coalesce({query}, '')" if scalar.type == "string" else query), True

    def _junction(self, scalar: ir.Junction, as_condition: bool) -> Printed:
        if len(scalar.operands) == 1:
            return self._print(scalar.operands[0], as_condition)
        return f" {scalar.operator.upper()} ".join(self._atom(o, as_condition) for o in scalar.operands), False

    def _choice(self, scalar: ir.Choice, as_condition: bool) -> Printed:
        pairs = "".join(f" WHEN {self._print(c, True)[0]} THEN {self._print(v)[0]}" for c, v in scalar.pairs)
        return f"CASE{pairs} ELSE {self._print(scalar.otherwise)[0]} END", True


def _described(routine: RoutineRef) -> str:
    """What a routine is, for a refusal."""
    if routine.kind == "conversion":
        return f"conversion of {routine.takes[0]} to {routine.name}"
    return f"{routine.kind} {routine.name}() of such arguments"


def name_of(column: ir.BoundColumn) -> str:
    """What a column is called in SQL."""
    return f"c{column.number}" if column.number >= 0 else f"w{-column.number}"


def real(value: float, sql_type: str) -> str:
    """A real, exactly."""
    if not math.isfinite(value):
        return f"CAST('{value}' AS {sql_type})"
    text = repr(float(value))
    text = text if "e" in text else f"{text}e0"
    return text if value >= 0 and text[0] != "-" else f"({text})"


def may_be_nan(scalar: ir.Scalar) -> bool:
    """Whether a value may be no number although it is a real."""
    if scalar.type != "real":
        return False
    if isinstance(scalar, ir.Const):
        return scalar.value is not None and math.isnan(scalar.value)
    return not (isinstance(scalar, ir.Convert) and scalar.base.type in (*_INTEGERS, "timespan", "bool"))


def json_path(steps: list[str | int]) -> str:
    """A path of constant steps, as engines write it."""
    found = ["$"]
    for step in steps:
        if isinstance(step, str):
            escaped = step.replace("\\", "\\\\").replace('"', '\\"')
            found.append(f'."{escaped}"')
        else:
            found.append(f"[{step}]" if step >= 0 else f"[#{step}]")
    return "".join(found)
