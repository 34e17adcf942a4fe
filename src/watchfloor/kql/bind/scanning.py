"""scan: a state machine over rows, handed to its routine as data; and how scalars become such data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from watchfloor.kql import ast, codec, ir
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.tools import (
    after,
    empty,
    has_window,
    options,
    word,
)
from watchfloor.kql.errors import KqlError, Span, nearest, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder


def scan(binder: Binder, rel: Rel, operator: ast.Scan, env: Env) -> Rel:
    """Sequences of rows, step by step."""
    given = options(operator.options, {"with_match_id": None, "kind": None}, "scan")
    if operator.order or operator.partition or "kind" in given:
        raise unsupported("This form of scan is not supported.", operator.span, remedy="Sort and partition before.")
    if not rel.is_serial:
        raise KqlError("scan needs rows in an order.", operator.span, remedy="Add sort by ... before it.")
    declared: dict[str, tuple[ir.BoundColumn, ir.Const]] = {}
    for item in operator.declarations:
        if item.name.name in rel.columns or item.name.name in declared:
            raise KqlError(f"There are two columns {item.name.name} here.", item.name.span)
        default: ir.Scalar = empty(item.type)
        if item.default is not None:
            default = binder.convert(binder.constant(item.default, env, "A default of scan"), item.type)
        if not isinstance(default, ir.Const):
            raise KqlError("A default of scan must be a constant.", item.name.span)
        declared[item.name.name] = (binder.new(item.type), default)
    takes = tuple(dict.fromkeys((*rel.within, *rel.columns.values())))
    position = {column.number: place for place, column in enumerate(takes)}
    states: list[dict[str, ir.BoundColumn]] = []
    names: dict[str, dict[str, ir.Scalar]] = {}
    for step in operator.steps:
        if step.name.name in names:
            raise KqlError(f"There are two steps {step.name.name}.", step.name.span)
        if step.is_optional:
            raise unsupported("optional steps of scan are not supported.", step.span)
        columns = {**rel.columns, **{name: column for name, (column, _) in declared.items()}}
        states.append({name: binder.new(column.type) for name, column in columns.items()})
        names[step.name.name] = {name: ir.Ref(column) for name, column in states[-1].items()}
    bound: list[tuple[ir.Scalar, list[tuple[int, ir.Scalar]]]] = []
    for place, step in enumerate(operator.steps):
        around = env.with_names(dict(list(names.items())[: place + 1]))
        condition = binder.condition(step.condition, rel, around)
        assignments: list[tuple[int, ir.Scalar]] = []
        for given_value in step.assignments:
            if not isinstance(given_value, ast.Named) or given_value.name.name not in declared:
                target = given_value.name.name if isinstance(given_value, ast.Named) else "This"
                remedy = nearest(target, list(declared))
                raise KqlError(f"{target} is not declared.", given_value.span, remedy=remedy)
            target = given_value.name.name
            value = binder.convert(binder.scalar(given_value.value, rel, around), declared[target][0].type)
            assignments.append((list(declared).index(target), value))
        bound.append((condition, assignments))
    used = {c.number for condition, rest in bound for s in (condition, *(v for _, v in rest)) for c in ir.refs(s)}
    steps = [
        {
            "name": step.name.name,
            "output": step.output or "all",
            "condition": encoded(binder, condition, step.span),
            "assignments": [[target, encoded(binder, value, step.span)] for target, value in assignments],
            "state": [
                [column.number, _state_source(name, rel, position, list(declared))]
                for name, column in state.items()
                if column.number in used
            ],
        }
        for step, state, (condition, assignments) in zip(operator.steps, states, bound, strict=True)
    ]
    match_id = binder.new("long", is_nullable=False) if "with_match_id" in given else None
    spec = {
        "columns": [[column.number for column in takes]],
        "within": [position[column.number] for column in rel.within],
        "declared": [
            {"number": c.number, "type": c.type, "default": codec.encode_value(d.value, c.type)}
            for c, d in declared.values()
        ],
        "match_id": match_id is not None,
        "steps": steps,
    }
    made = [column for column, _ in declared.values()] + ([] if match_id is None else [match_id])
    groups = tuple(ir.SortKey(column, is_descending=False, nulls_first=True) for column in rel.within)
    order = (*groups, *rel.order) if rel.order else ()
    routine = ir.Routine("scan", spec, (rel.relation,), (takes,), (*takes, *made), order)
    shown = dict(rel.columns) | {name: column for name, (column, _) in declared.items()}
    if match_id is not None:
        shown[word(given["with_match_id"])] = match_id
    return after(rel, routine, shown, order=())


def _state_source(name: str, rel: Rel, position: Mapping[int, int], declared: Sequence[str]) -> int:
    if name in declared:
        return -1 - declared.index(name)
    return position[rel.columns[name].number]


def encoded(binder: Binder, scalar: ir.Scalar, span: Span) -> list[Any]:
    """``scalar`` as JSON for a routine; what needs other rows or tables is refused."""
    settled = binder.settle(scalar, span)
    if has_window(settled) or any(isinstance(part, ir.InRelation | ir.FirstOf) for part in _parts(settled)):
        raise unsupported("Windows and tables inside this expression are not supported.", span)
    return codec.encode(settled)


def _parts(scalar: ir.Scalar) -> Iterable[ir.Scalar]:
    waiting = [scalar]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(ir.operands(node))
