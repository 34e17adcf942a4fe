"""What the operators have in common: options, wildcards, grouping, and rows under names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.errors import KqlError, Span, nearest, unsupported
from watchfloor.kql.functions import AGGREGATES

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

Handler = Callable[["Binder", Rel, Any, Env], Rel]
"""How an operator is bound: the rows before it give the rows after it."""

INTEGERS: Final = ("int", "long")
NUMBERS: Final = ("int", "long", "real", "decimal")


def after(rel: Rel, relation: ir.Relation, columns: Mapping[str, ir.BoundColumn], **changes: Any) -> Rel:
    """The rows of ``relation``, which come from ``rel``: its order is as it was, its name is gone."""
    return rel.with_(relation=relation, columns=dict(columns), name="", **changes)


def unordered(rel: Rel, relation: ir.Relation, columns: Mapping[str, ir.BoundColumn]) -> Rel:
    """The same, where the order of the rows means nothing any more."""
    return after(rel, relation, columns, order=(), is_serial=False)


def source(relation: ir.Relation, columns: Mapping[str, ir.BoundColumn], *, is_serial: bool = False) -> Rel:
    """Rows that come from nowhere else."""
    return Rel(relation, dict(columns), is_serial=is_serial)


def has_input(rel: Rel) -> bool:
    """Whether rows come in at all: not at the head of a query."""
    return not (isinstance(rel.relation, ir.Values) and not rel.relation.columns)


Options = dict[str, ast.Option]


def options(given: Iterable[ast.Option], known: Mapping[str, Sequence[str] | None], what: str) -> Options:
    """The options of an operator by name. ``known``: the words each may have (None: any). Hints are passed over."""
    found: dict[str, ast.Option] = {}
    for option in given:
        if option.name.startswith("hint.") or option.name.startswith("__"):
            continue
        if option.name not in known:
            raise KqlError(
                f"{what} has no option {option.name}.", option.span, remedy=nearest(option.name, list(known))
            )
        words = known[option.name]
        if words is not None and word(option) not in words:
            raise KqlError(
                f"{option.name} must be one of {', '.join(words)}.", option.span, remedy=nearest(word(option), words)
            )
        found[option.name] = option
    return found


def word(option: ast.Option | None, default: str = "") -> str:
    """The value of an option as a word: a bare name, or a literal."""
    if option is None:
        return default
    value = option.value
    if isinstance(value, ast.Name):
        return value.name
    if isinstance(value, ast.Literal):
        return str(value.value).lower() if isinstance(value.value, bool) else str(value.value)
    raise KqlError(f"{option.name} must be a word or a literal.", option.span)


def is_true(option: ast.Option | None) -> bool:
    """An option that is on or off."""
    return word(option, "false") == "true"


def rows_wanted(binder: Binder, expression: ast.Expr, env: Env, what: str) -> int:
    """A number of rows: a constant that is no less than 0."""
    return whole_number(binder, expression, env, f"The number of rows of {what}")


def whole_number(binder: Binder, expression: ast.Expr, env: Env, what: str) -> int:
    """A constant that is a whole number and no less than 0. ``what``: what it is, for the error."""
    found = binder.constant(expression, env, what)
    if found.type == "unknown":
        return 0
    if found.type not in INTEGERS or found.value is None:
        raise KqlError(f"{what} must be a whole number.", expression.span)
    if found.value < 0:
        raise KqlError(f"{what} cannot be negative.", expression.span)
    return int(found.value)


def matches(pattern: str, name: str) -> bool:
    """Whether the wildcard ``pattern`` means ``name``."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name, re.DOTALL) is not None


def listed(rel: Rel, items: Iterable[ast.Expr], binder: Binder) -> list[str]:
    """The names of the columns that ``items`` mean, in the order of the items, each once."""
    found: dict[str, None] = {}
    for item in items:
        if isinstance(item, ast.Star):
            found |= dict.fromkeys(rel.columns)
        elif isinstance(item, ast.Wildcard):
            meant = [name for name in rel.columns if matches(item.pattern, name)]
            if not meant:
                binder.report(KqlError(f"No column is called {item.pattern}.", item.span))
            found |= dict.fromkeys(meant)
        elif isinstance(item, ast.Name):
            if item.name in rel.columns:
                found[item.name] = None
            else:
                binder.report(unknown_column(item.name, rel, item.span))
        else:
            binder.report(KqlError("Name a column here.", item.span))
    return list(found)


def unknown_column(name: str, rel: Rel, span: Span) -> KqlError:
    """The error for a column that is not there."""
    return KqlError(f"There is no column {name} here.", span, remedy=nearest(name, list(rel.columns)))


def column_of(binder: Binder, rel: Rel, expression: ast.Expr, what: str) -> tuple[str, ir.BoundColumn]:
    """The column that ``expression`` names."""
    if not isinstance(expression, ast.Name):
        raise KqlError(f"{what} must be a column.", expression.span)
    if expression.name not in rel.columns:
        raise unknown_column(expression.name, rel, expression.span)
    return expression.name, rel.columns[expression.name]


def not_dynamic(binder: Binder, value: ir.Scalar, span: Span, what: str) -> None:
    """Report a value that is dynamic where values must be told apart or ordered."""
    if value.type == "dynamic":
        binder.report(
            KqlError(f"{what} cannot be dynamic.", span, remedy="Convert it first: tostring( ... ) or tolong( ... ).")
        )


def plain_aggregate(name: str) -> ir.Call:
    """A call of the aggregate ``name`` without arguments, for what an operator counts itself."""
    found = next(a for a in AGGREGATES[name] if all(p.is_optional or p.is_repeated for p in a.takes))
    return ir.Call(found, ())


def aggregate_of(name: str, argument: ir.Scalar) -> ir.Call:
    """The aggregate ``name`` over ``argument``."""
    for found in AGGREGATES[name]:
        if found.takes and argument.type in found.takes[0].types:
            return ir.Call(found, (argument,))
    raise ValueError(f"{name} takes no {argument.type}")


def group(
    rel: Rel,
    keys: Sequence[ir.BoundColumn],
    aggregates: Sequence[tuple[ir.BoundColumn, ir.Call]] = (),
    extremes: Sequence[tuple[bool, ir.Scalar, tuple[tuple[ir.BoundColumn, ir.Scalar], ...]]] = (),
    relation: ir.Relation | None = None,
) -> ir.Group:
    """``rel`` grouped by ``keys``, apart for each group that it is within."""
    whole = tuple(dict.fromkeys((*rel.within, *keys)))
    return ir.Group(relation or rel.relation, whole, tuple(aggregates), tuple(extremes))


def empty(type_: str) -> ir.Const:
    """The value of a cell that is not there: null, or '' as a string."""
    return ir.Const("" if type_ == "string" else None, type_)


def no_within(rel: Rel, what: str, span: Span) -> None:
    """Refuse what has no meaning apart for each group of partition or mv-apply."""
    if rel.within:
        raise unsupported(f"{what} is not supported inside partition and mv-apply.", span)


def other_table(binder: Binder, expression: ast.Expr, env: Env) -> Rel:
    """``expression`` as a table beside the rows so far. It cannot be made of the rows of the same group."""
    found = binder.table(expression, env)
    no_within(found, "Naming its own rows here", expression.span)
    return found


def has_window(value: ir.Scalar) -> bool:
    """Whether ``value`` looks at neighbouring rows."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ir.Window):
            return True
        waiting.extend(ir.operands(node))
    return False
