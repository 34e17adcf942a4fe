"""Bound values put together: converted, unified, computed with, compared and looked up.

Nothing here reads the syntax tree. Types are settled here, never later: what has no clear meaning for its types is
refused by name, and what is constant is folded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from watchfloor.kql import ir
from watchfloor.kql.bind.core import UNKNOWN, Core
from watchfloor.kql.bind.scope import Rel
from watchfloor.kql.errors import KqlError, Span, unsupported
from watchfloor.kql.functions import FUNCTIONS
from watchfloor.kql.functions import convert as conversion

WIDTHS: Final = {"int": 0, "long": 1, "real": 2, "decimal": 3}
"""Numeric types, each wider than the one before."""

COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})

ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%"})

NEVER_NULL: Final = frozenset(
    {
        f"{prefix}{name}{suffix}"
        for prefix in ("", "!")
        for name in ("has", "contains", "startswith", "endswith", "hasprefix", "hassuffix")
        for suffix in ("", "_cs")
    }
    | {"=~", "!~", "matches regex", "has_any", "has_all", "isempty", "isnotempty", "notempty", "isnull", "isnotnull"}
    | {"notnull", "in_array", "in_array~"}
)
"""Functions that never give null."""

_FLIPPED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def is_known(value: ir.Scalar) -> bool:
    """Whether ``value`` is not what a faulty expression gave."""
    return value.type != "unknown"


def is_null(value: ir.Scalar) -> bool:
    """Whether ``value`` is a null constant."""
    return isinstance(value, ir.Const) and value.value is None


def apart(rel: Rel, span: Span) -> None:
    """Refuse rows of a group of partition or mv-apply: an expression has one value for all groups."""
    if rel.within:
        raise unsupported("Naming its own rows here is not supported inside partition and mv-apply.", span)


def type_of(value: Any) -> str:
    """The KQL type of a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "long" if -(2**63) <= value < 2**63 else "real"
    return {str: "string", float: "real"}.get(type(value), "dynamic")


def const(value: Any, type_: str) -> ir.Const:
    """A constant; a null string is the empty one."""
    return ir.Const("" if value is None and type_ == "string" else value, type_)


class Combining(Core):
    """Puts bound values together. ``apply`` and ``gather`` belong to ``calls.py``."""

    def apply(self, name: str, arguments: Sequence[ir.Scalar], span: Span) -> ir.Scalar:
        """The function ``name`` of the function table, overload chosen, arguments converted, folded."""
        raise NotImplementedError

    def gather(self, rel: Rel, span: Span) -> ir.Scalar:
        """All values of the first column of ``rel`` as one dynamic array."""
        raise NotImplementedError

    # -- conversions ---------------------------------------------------------------------------------------------------

    def convert(self, value: ir.Scalar, type_: str) -> ir.Scalar:
        """``value`` as ``type_`` (folded; left alone if it is that already)."""
        if value.type == type_ or not is_known(value) or type_ == "unknown":
            return value
        if isinstance(value, ir.Const):
            return const(conversion.convert(value.value, value.type, type_), type_)
        widens = value.type in WIDTHS and type_ in WIDTHS and WIDTHS[value.type] < WIDTHS[type_] and type_ != "decimal"
        return ir.Convert(value, type_, is_nullable=type_ != "string" and (value.is_nullable or not widens))

    def common_type(self, types: Sequence[str]) -> str | None:
        """The one type of values of ``types``: numbers have the widest, dynamic is for all; None if there is none."""
        found = [t for t in types if t != "unknown"]
        if not found:
            return "unknown"
        if "dynamic" in found:
            return "dynamic"
        if all(t in WIDTHS for t in found):
            return max(found, key=WIDTHS.__getitem__)
        return found[0] if len(set(found)) == 1 else None

    def unify(self, values: Sequence[ir.Scalar], span: Span) -> list[ir.Scalar]:
        """``values`` converted to one common type: numbers to the widest, all to dynamic where one is. A null constant
        is of any type."""
        typed = [v for v in values if v.type == "dynamic" or not is_null(v)] or list(values)
        type_ = self.common_type([v.type for v in typed])
        if type_ is None:
            names = " and ".join(dict.fromkeys(v.type for v in typed if is_known(v)))
            raise KqlError(f"Values of types {names} have no type in common.", span, remedy="Convert them explicitly.")
        return [self.convert(v, type_) for v in values]

    def settle(self, value: ir.Scalar, span: Span) -> ir.Scalar:
        """``value`` with every toscalar in it answered, folded; asks for the answers that are missing."""
        if not any(isinstance(part, ir.FirstOf) for part in parts_of(value)):
            return value
        if any(isinstance(part, ir.Ref | ir.Window) for part in parts_of(value)):
            return value
        column = self.new(value.type)
        rel = Rel(ir.Compute(ir.Values((), ((),)), ((column, value),)), {"value": column})
        rows = self.ask(f"constant at {span.start}", rel)
        return const(rows[0][0] if rows else None, value.type)

    # -- operators -----------------------------------------------------------------------------------------------------

    def operate(self, operator: str, left: ir.Scalar, right: ir.Scalar, span: Span) -> ir.Scalar:
        """A binary operator over bound values."""
        if not (is_known(left) and is_known(right)):
            return UNKNOWN
        if operator in COMPARISONS:
            return self.compare(operator, left, right, span)
        if operator in ARITHMETIC:
            return self._arithmetic(operator, left, right, span)
        if operator not in FUNCTIONS:
            remedy = "Use contains, startswith, endswith or matches regex."
            raise KqlError(f"{operator} is not supported.", span, remedy=remedy, kind="unsupported")
        for value in (left, right):
            if value.type not in ("string", "dynamic"):
                raise KqlError(
                    f"{operator} compares strings, this is a {value.type}.", span, remedy="Use tostring( ... )."
                )
        return self.apply(operator, [self.convert(left, "string"), self.convert(right, "string")], span)

    def _arithmetic(self, operator: str, left: ir.Scalar, right: ir.Scalar, span: Span) -> ir.Scalar:
        if left.type == right.type == "dynamic":
            return self.dynamic_arithmetic(operator, [left, right], span)
        if "dynamic" in (left.type, right.type):
            other = right.type if left.type == "dynamic" else left.type
            wanted = {"int": "long", "datetime": "timespan" if operator == "+" else "datetime"}.get(other, other)
            allowed = (*WIDTHS, "timespan", "datetime") if operator in "+-" else tuple(WIDTHS)
            if other not in allowed:
                raise undefined(operator, left, right, span)
            left, right = (self.convert(v, wanted) if v.type == "dynamic" else v for v in (left, right))
        if "string" in (left.type, right.type) and operator == "+":
            raise KqlError("+ does not join strings.", span, remedy="Use strcat( ... ).")
        try:
            return self.apply(operator, [left, right], span)
        except KqlError:
            raise undefined(operator, left, right, span) from None

    def dynamic_arithmetic(self, operator: str, values: Sequence[ir.Scalar], span: Span) -> ir.Scalar:
        """Both whole numbers: as long; else as real. The result is dynamic again."""
        whole = ir.Junction(
            "and",
            tuple(
                ir.OneOf(self.apply("gettype", [v], span), (const("long", "string"), const("int", "string")), False)
                for v in values
                if not isinstance(v, ir.Const)
            ),
            is_nullable=False,
        )
        as_type = {
            t: self.convert(self.apply(operator, [self.convert(v, t) for v in values], span), "dynamic")
            for t in ("long", "real")
        }
        if not whole.operands:
            is_whole = all(isinstance(v, ir.Const) and type_of(v.value) == "long" for v in values)
            return as_type["long" if is_whole else "real"]
        return ir.Choice(((whole, as_type["long"]),), as_type["real"], "dynamic")

    def join(self, operator: str, operands: Sequence[ir.Scalar]) -> ir.Scalar:
        """``and`` or ``or`` of bools, folded where constants decide."""
        decides = operator == "or"
        rest: list[ir.Scalar] = []
        for operand in operands:
            if not is_known(operand):
                return UNKNOWN
            if isinstance(operand, ir.Const) and operand.value is decides:
                return const(decides, "bool")
            if not (isinstance(operand, ir.Const) and operand.value is (not decides)):
                rest.append(operand)
        if not rest:
            return const(not decides, "bool")
        if len(rest) == 1:
            return rest[0]
        return ir.Junction(operator, tuple(rest), any(o.is_nullable for o in rest))

    def negate(self, condition: ir.Scalar, span: Span) -> ir.Scalar:
        """not( ... ) of a bool."""
        return condition if not is_known(condition) else self.apply("not", [condition], span)

    # -- comparisons ---------------------------------------------------------------------------------------------------

    def compare(self, operator: str, left: ir.Scalar, right: ir.Scalar, span: Span) -> ir.Scalar:
        """A comparison of two values of any types that have a common ground."""
        if not (is_known(left) and is_known(right)):
            return UNKNOWN
        if left.type == "dynamic" and right.type == "dynamic":
            left, right = (self.typed_constant(v) for v in (left, right))
        if left.type == right.type == "dynamic":
            raise KqlError(
                "Two dynamic values cannot be compared.", span, remedy="Convert them first: tostring(a) == tostring(b)."
            )
        if right.type == "dynamic":
            return self._compare_dynamic(_FLIPPED[operator], right, left, span)
        if left.type == "dynamic":
            return self._compare_dynamic(operator, left, right, span)
        left, right = self._comparable(operator, left, right, span)
        if left.type in ("string", "guid") and operator not in ("==", "!="):
            raise KqlError(f"{operator} does not order values of type {left.type}.", span, remedy="Use strcmp( ... ).")
        return self._compared(operator, left, right)

    def typed_constant(self, value: ir.Scalar) -> ir.Scalar:
        """A dynamic constant that is a plain value, as that value."""
        if isinstance(value, ir.Const) and value.type == "dynamic" and type_of(value.value) != "dynamic":
            return const(value.value, type_of(value.value))
        return value

    def _compare_dynamic(self, operator: str, subject: ir.Scalar, value: ir.Scalar, span: Span) -> ir.Scalar:
        if value.type in ("string", "guid"):
            if operator not in ("==", "!="):
                raise KqlError(f"{operator} does not order dynamic and {value.type}.", span)
            return self._compared(operator, self.convert(subject, value.type), value)
        if value.type in ("int", "long") and operator in ("==", "!="):
            # As real, a fraction counts; as long, every digit of a large number does.
            as_real = self._compared(operator, self.convert(subject, "real"), self.convert(value, "real"))
            if isinstance(value, ir.Const) and value.value is not None and abs(value.value) < 2**53:
                return as_real
            as_long = self._compared(operator, self.convert(subject, "long"), self.convert(value, "long"))
            return self.join("and" if operator == "==" else "or", [as_long, as_real])
        type_ = "real" if value.type in ("int", "long") else value.type
        return self._compared(operator, self.convert(subject, type_), self.convert(value, type_))

    def _comparable(self, operator: str, left: ir.Scalar, right: ir.Scalar, span: Span) -> tuple[ir.Scalar, ir.Scalar]:
        """``left`` and ``right`` as one type."""
        if left.type == right.type:
            return left, right
        if left.type in WIDTHS and right.type in WIDTHS:
            type_ = max(left.type, right.type, key=WIDTHS.__getitem__)
            for value in (left, right):
                # A small constant is compared as what the column is: an index on the column stays of use.
                if type_ == "long" and value.type == "long" and isinstance(value, ir.Const) and fits_int(value.value):
                    type_ = "int"
            return self.convert(left, type_), self.convert(right, type_)
        if {left.type, right.type} <= {"bool", *WIDTHS}:
            left, right = (self.convert(v, "long") if v.type == "bool" else v for v in (left, right))
            return self._comparable(operator, left, right, span)
        for text, other in ((left, right), (right, left)):
            # A constant that is a number, a date and so on in text form is meant as one beside such a value.
            if isinstance(text, ir.Const) and text.type == "string" and operator in ("==", "!="):
                converted = self.convert(text, other.type)
                if not is_null(converted):
                    return (converted, right) if text is left else (left, converted)
        raise KqlError(
            f"Values of types {left.type} and {right.type} cannot be compared.", span, remedy="Convert one of them."
        )

    def _compared(self, operator: str, left: ir.Scalar, right: ir.Scalar) -> ir.Scalar:
        """A comparison of two values of one type, folded."""
        if isinstance(left, ir.Const) and isinstance(right, ir.Const):
            return const(compare_values(operator, left.value, right.value), "bool")
        if operator in ("==", "!="):
            return ir.Compare(operator, left, right, left.is_nullable and right.is_nullable)
        return ir.Compare(operator, left, right, left.is_nullable or right.is_nullable)

    # -- membership ----------------------------------------------------------------------------------------------------

    def is_in(self, operator: str, subject: ir.Scalar, items: Sequence[ir.Scalar | Rel], span: Span) -> ir.Scalar:
        """in, !in, in~ and !in~ over values, dynamic arrays and tables."""
        is_negated, is_folded = operator.startswith("!"), operator.endswith("~")
        if is_folded and subject.type not in ("string", "dynamic"):
            raise KqlError(f"{operator} compares strings, this is a {subject.type}.", span)
        found: list[ir.Scalar] = []
        listed: list[ir.Scalar] = []
        for item in items:
            if isinstance(item, Rel):
                found.append(self._in_relation(subject, item, is_folded, span))
            elif item.type != "dynamic":
                listed.append(item)
            elif not isinstance(item, ir.Const):
                found.append(self._in_array(subject, item, is_folded, span))
            elif isinstance(item.value, list):
                listed += [const(v, type_of(v)) for v in item.value if v is not None]
            elif isinstance(item.value, dict):
                raise KqlError(f"{operator} looks into arrays, this is a bag.", span, remedy="Use bag_has_key( ... ).")
            elif item.value is not None:
                listed.append(const(item.value, type_of(item.value)))
        if listed or not found:
            found.insert(0, self._one_of(subject, listed, is_folded, span))
        for _ in found[1:]:
            self.spend(subject, span)
        any_of = self.join("or", found)
        return self.negate(any_of, span) if is_negated and len(found) > 1 else self._inverted(any_of, is_negated, span)

    def _inverted(self, found: ir.Scalar, is_negated: bool, span: Span) -> ir.Scalar:
        if not is_negated:
            return found
        if isinstance(found, ir.OneOf):
            return ir.OneOf(found.subject, found.items, not found.is_negated, found.is_folded)
        if isinstance(found, ir.InRelation):
            return ir.InRelation(found.subject, found.relation, found.column, not found.is_negated, found.is_folded)
        return self.negate(found, span)

    def _one_of(self, subject: ir.Scalar, items: Sequence[ir.Scalar], is_folded: bool, span: Span) -> ir.Scalar:
        """Whether ``subject`` is one of plain values, each kind compared as it must be."""
        if not items:
            return const(False, "bool")
        if is_folded or (subject.type == "dynamic" and all(i.type in ("string", "dynamic") for i in items)):
            subject = self.convert(subject, "string")
        if subject.type == "dynamic":
            for _ in items[1:]:
                self.spend(subject, span)
            return self.join("or", [self._compare_dynamic("==", subject, item, span) for item in items])
        converted = []
        for item in items:
            if subject.type == "string":
                converted.append(self.convert(item, "string"))
                continue
            left, right = self._comparable("==", subject, item, span)
            if left is not subject:
                # An item of a wider type: the subject is compared as that type.
                return self._one_of(left, items, is_folded, span)
            converted.append(right)
        if isinstance(subject, ir.Const) and all(isinstance(i, ir.Const) for i in converted):
            values = [i.value for i in converted if isinstance(i, ir.Const)]
            if is_folded:
                return const(str(subject.value).lower() in (str(v).lower() for v in values), "bool")
            return const(subject.value is not None and subject.value in values, "bool")
        return ir.OneOf(subject, tuple(converted), False, is_folded)

    def _in_array(self, subject: ir.Scalar, array: ir.Scalar, is_folded: bool, span: Span) -> ir.Scalar:
        return self.apply("in_array~" if is_folded else "in_array", [subject, array], span)

    def _in_relation(self, subject: ir.Scalar, rel: Rel, is_folded: bool, span: Span) -> ir.Scalar:
        if not rel.columns:
            raise KqlError("The table has no column to look in.", span)
        apart(rel, span)
        column = next(iter(rel.columns.values()))
        relation = rel.relation
        if column.type == "unknown":
            return UNKNOWN
        wanted = column.type if subject.type == "dynamic" else subject.type
        if column.type == "dynamic":
            # An array in a cell stands for its elements.
            wanted = "string" if subject.type == "dynamic" else subject.type
            element = self.new("dynamic")
            relation = ir.Expand(relation, ((element, ir.Ref(column)),), None, None)
            column = element
        if column.type != wanted:
            probe = self._comparable("==", subject, ir.Ref(column), span)[1] if column.type != "dynamic" else None
            wanted = probe.type if probe is not None else wanted
            converted = self.new(wanted)
            relation = ir.Compute(relation, ((converted, self.convert(ir.Ref(column), wanted)),))
            column = converted
        return ir.InRelation(self.convert(subject, wanted), relation, column, False, is_folded)

    def has_terms(self, operator: str, subject: ir.Scalar, items: Sequence[ir.Scalar | Rel], span: Span) -> ir.Scalar:
        if subject.type not in ("string", "dynamic"):
            raise KqlError(f"{operator} looks into strings, this is a {subject.type}.", span, remedy="Use tostring().")
        terms: list[ir.Scalar] = []
        for item in items:
            if isinstance(item, Rel):
                terms.append(self.gather(item, span))
            elif isinstance(item, ir.Const) and isinstance(item.value, list):
                terms += [self.convert(const(v, type_of(v)), "string") for v in item.value]
            elif item.type == "dynamic":
                terms.append(item)
            else:
                terms.append(self.convert(item, "string"))
        if not terms:
            return const(operator == "has_all", "bool")
        return self.apply(operator, [self.convert(subject, "string"), *terms], span)


def parts_of(scalar: ir.Scalar) -> list[ir.Scalar]:
    """``scalar`` and all that it is made of; a part that stands in several places is there once."""
    seen: dict[int, ir.Scalar] = {}
    waiting = [scalar]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            waiting.extend(ir.operands(node))
    return list(seen.values())


def path(base: ir.Scalar, steps: Sequence[str | int | ir.Scalar]) -> ir.Scalar:
    """``steps`` into ``base``; paths into paths become one."""
    if not steps:
        return base
    if isinstance(base, ir.Path):
        return ir.Path(base.base, (*base.steps, *steps))
    return ir.Path(base, tuple(steps))


def walk(value: Any, step: str | int) -> Any:
    """One step into a JSON value, None where there is nothing."""
    if isinstance(value, dict) and isinstance(step, str):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
        return value[step]
    return None


def compare_values(operator: str, left: Any, right: Any) -> bool | None:
    """A comparison of two values of one type, with KQL's rules for null."""
    if left is None or right is None:
        if operator not in ("==", "!=") or (left is None and right is None):
            return None
        return operator == "!="
    tests: Mapping[str, Callable[[Any, Any], bool]] = {
        "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    return bool(tests[operator](left, right))


def fits_int(value: Any) -> bool:
    """Whether a long is in the range of int."""
    return value is None or -(2**31) <= value < 2**31


def undefined(operator: str, left: ir.Scalar, right: ir.Scalar, span: Span) -> KqlError:
    """The error for an operator that has no meaning for these types."""
    return KqlError(f"{operator} is not defined for {left.type} and {right.type}.", span)
