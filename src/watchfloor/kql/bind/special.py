"""The operators that need more than one step, or more than SQL: lists, patterns, series, hierarchies, search, scan.

Each is put together from the relations of ``ir.py``; what those cannot say goes to a routine (``routines/``) as data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, codec, ir, regex
from watchfloor.kql.bind.projection import Projection, as_column, compute
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.shaping import aggregates, by_columns, expanded, keep, plain_names, united
from watchfloor.kql.bind.tools import (
    NUMBERS,
    Handler,
    after,
    aggregate_of,
    column_of,
    empty,
    group,
    has_input,
    has_window,
    no_within,
    not_dynamic,
    options,
    other_table,
    plain_aggregate,
    rows_wanted,
    source,
    unordered,
    word,
)
from watchfloor.kql.errors import KqlError, Span, nearest, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

CARRYING: Final = (
    ast.Where,
    ast.Extend,
    ast.Project,
    ast.ProjectAway,
    ast.ProjectRename,
    ast.ProjectReorder,
    ast.ProjectByNames,
    ast.Sort,
    ast.Take,
    ast.Top,
    ast.MvExpand,
    ast.Parse,
    ast.ParseKv,
    ast.Serialize,
    ast.Render,
)
"""Operators that leave columns which they do not show in the rows."""

ORDERED: Final = (ast.Take, ast.Serialize, ast.Summarize, ast.Scan)
"""Operators whose result depends on the order of the elements."""

MAX_PARTITIONS: Final = 64
"""Values of the key that partition takes where it runs its query once for each (as Kusto does)."""

# -- sub-queries ------------------------------------------------------------------------------------------------------


def within_body(
    binder: Binder, rel: Rel, inner: tuple[ir.BoundColumn, ...], body: ast.Pipe, env: Env
) -> tuple[Rel, dict[int, ir.BoundColumn]]:
    """``body`` over ``rel`` apart for each group of ``inner``: the rows, and where the groups' columns are now."""
    before = (*rel.within, *inner)
    found = binder.pipeline(rel.with_(within=before, name=""), body.operators, env)
    if len(found.within) != len(before):
        raise unsupported("This query is not supported inside partition and mv-apply.", body.span)
    moved = {old.number: new for old, new in zip(before, found.within, strict=True)}
    return unordered(found, found.relation, found.columns).with_(within=found.within[: len(rel.within)]), moved


def mv_apply(binder: Binder, rel: Rel, operator: ast.MvApply, env: Env) -> Rel:
    """A query over the elements of each row; what it gives stands beside the row's other columns."""
    given = options(operator.options, {"with_itemindex": None}, "mv-apply")
    limit = None if operator.limit is None else rows_wanted(binder, operator.limit, env, "mv-apply")
    row = binder.new("long", is_nullable=False)
    numbered = rel.with_(relation=ir.Numbered(rel.relation, row), is_serial=False, order=())
    elements, names = expanded(binder, numbered, operator.items, env, word(given.get("with_itemindex")), limit, False)
    if any(isinstance(step, ORDERED) for step in operator.body.operators):
        elements = _in_order(binder, elements, row)
    outer = {name: column for name, column in rel.columns.items() if name not in names}
    carries = all(isinstance(step, CARRYING) for step in operator.body.operators)
    inner = (row,) if carries else tuple(dict.fromkeys((row, *outer.values())))
    found, moved = within_body(binder, elements, inner, operator.body, env)
    columns = {name: moved.get(column.number, column) for name, column in outer.items()}
    return after(found, found.relation, columns | dict(found.columns))


def _in_order(binder: Binder, elements: Rel, row: ir.BoundColumn) -> Rel:
    """``elements`` in the order that they had in their list."""
    expand = elements.relation
    assert isinstance(expand, ir.Expand)
    index = expand.index or binder.new("long", is_nullable=False)
    indexed = ir.Expand(expand.input, expand.items, index, expand.limit, expand.bag_as_array)
    key = ir.SortKey(index, is_descending=False, nulls_first=True)
    return elements.with_(relation=ir.Order(indexed, (key,), (*elements.within, row)), order=(key,))


def partition(binder: Binder, rel: Rel, operator: ast.Partition, env: Env) -> Rel:
    """A query for each value of a column; all results together."""
    strategies = [word(o, "legacy") for o in operator.options if o.name == "hint.strategy"]
    strategy = strategies[0] if strategies else "legacy"
    if strategy not in ("legacy", "native", "shuffle"):
        raise KqlError("hint.strategy must be legacy, native or shuffle.", operator.span)
    name, key = column_of(binder, rel, operator.by, "What partition goes by")
    not_dynamic(binder, ir.Ref(key), operator.by.span, "What partition goes by")
    is_implicit = isinstance(operator.body.source, ast.Missing)
    if is_implicit and (strategy != "legacy" or not _needs_keys(operator.body)):
        return within_body(binder, rel, (key,), operator.body, env)[0]
    no_within(rel, "partition with the legacy strategy", operator.span)
    return _by_key(binder, rel, operator, name, env, is_implicit)


def _needs_keys(body: ast.Pipe) -> bool:
    """Whether a sub-query must be run once for each key: it reads other tables, or gives rows where it has none."""
    may_be_empty = False
    for step in body.operators:
        if isinstance(step, ast.Count) or (isinstance(step, ast.Summarize) and not step.by):
            if may_be_empty:
                return True
        elif not isinstance(step, CARRYING) and not isinstance(
            step, ast.Summarize | ast.Distinct | ast.Sample | ast.MvApply | ast.TopHitters | ast.Scan | ast.MakeSeries
        ):
            return True
        may_be_empty |= isinstance(step, ast.Where | ast.MvExpand | ast.MvApply | ast.Parse | ast.Scan)
    return _mentions_tables(body)


def _mentions_tables(tree: Any) -> bool:
    """Whether there is a table inside an expression of ``tree``."""
    waiting: list[Any] = list(tree.operators)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Pipe) or (isinstance(node, ast.Call) and node.name in ("toscalar", "table")):
            return True
        if isinstance(node, tuple):
            waiting.extend(node)
        elif is_dataclass(node) and not isinstance(node, Span | ast.MvApply):
            waiting.extend(getattr(node, field.name) for field in fields(node))
    return False


def _by_key(binder: Binder, rel: Rel, operator: ast.Partition, name: str, env: Env, is_implicit: bool) -> Rel:
    keys = binder.fresh(rel)
    column = keys.columns[name]
    distinct = ir.Limit(ir.Group(keys.relation, (column,)), MAX_PARTITIONS + 1)
    rows = binder.ask(f"partition by {name}", source(distinct, {name: column}))
    if len(rows) > MAX_PARTITIONS:
        raise KqlError(
            f"{name} has more than {MAX_PARTITIONS} values.",
            operator.span,
            remedy="Use hint.strategy=native, or make-series or summarize.",
            kind="limit",
        )
    legs: list[Rel] = []
    for (value,) in rows or [(None,)]:
        leg = binder.fresh(rel)
        constant = ir.Const(value, leg.columns[name].type)
        kept = after(leg, ir.Filter(leg.relation, is_value(binder, leg.columns[name], constant)), leg.columns)
        if is_implicit:
            legs.append(binder.pipeline(kept, operator.body.operators, env))
        else:
            legs.append(binder.table(operator.body, env.with_names({name: constant})))
    if not rows:
        return unordered(legs[0], ir.Limit(legs[0].relation, 0), legs[0].columns)
    return united(binder, legs, is_inner=False, source_name="", span=operator.span)


def is_value(binder: Binder, column: ir.BoundColumn, value: ir.Const) -> ir.Scalar:
    """Whether ``column`` has ``value``, null included."""
    if value.value is None:
        return binder.apply("isnull", [ir.Ref(column)], Span(0, 0))
    return ir.Compare("==", ir.Ref(column), value, column.is_nullable)


def fork(binder: Binder, rel: Rel, operator: ast.Fork, env: Env) -> Rel:
    """Several queries over the same rows, a result each."""
    no_within(rel, "fork", operator.span)
    results: list[tuple[str, Rel]] = []
    for name, body in operator.branches:
        found = binder.pipeline(binder.fresh(rel).with_(name=""), body.operators, env)
        results.append((name.name if name else found.name or "GenericResult", found))
    return _several(results)


def facet(binder: Binder, rel: Rel, operator: ast.Facet, env: Env) -> Rel:
    """How often each value of each column occurs, a result each; first the rows themselves where there is a body."""
    no_within(rel, "facet", operator.span)
    results: list[tuple[str, Rel]] = []
    if operator.body is not None:
        results.append(("Facet_with", binder.pipeline(binder.fresh(rel), operator.body.operators, env)))
    for place, item in enumerate(operator.columns):
        leg = binder.fresh(rel)
        name, column = column_of(binder, leg, item, "What facet goes by")
        not_dynamic(binder, ir.Ref(column), item.span, "What facet goes by")
        number = binder.new("long", is_nullable=False)
        grouped = group(leg, [column], [(number, plain_aggregate("count"))])
        found = unordered(leg, grouped, {name: column, f"count_{name}": number})
        results.append(("Facet" if not place else f"Facet_{place + 1}", found))
    return _several(results)


def _several(results: Sequence[tuple[str, Rel]]) -> Rel:
    """The first result, with the rest as its others."""
    others = [*results[0][1].others]
    for name, rel in results[1:]:
        others += [(name, rel.with_(others=())), *rel.others]
    return results[0][1].with_(others=tuple(others), name=results[0][0])


# -- patterns ---------------------------------------------------------------------------------------------------------

_INTEGER: Final = r"\s*[-+]?\d+"
_HEX: Final = "[0-9a-fA-F]"
_GUID_DIGITS: Final = "-?".join([f"{_HEX}{{8}}", *[f"{_HEX}{{4}}"] * 3, f"{_HEX}{{12}}"])
_GUID: Final = rf"\s*(?:\{{{_GUID_DIGITS}\}}|{_GUID_DIGITS})"

SIMPLE_SHAPES: Final = {
    "int": _INTEGER,
    "long": _INTEGER,
    "real": r"\s*[-+]?(?:\d+\.?\d*|\.\d+)",
    "decimal": r"\s*[-+]?(?:\d+\.?\d*|\.\d+)",
    "bool": r"\s*(?:[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[-+]?\d+)",
    "guid": _GUID,
}
"""What a typed column takes where nothing but ``*`` says where it ends."""

REGEX_SHAPES: Final = {
    "int": _INTEGER,
    "long": _INTEGER,
    "real": r"\s*[-+]?\d+(?:\.\d+)?",
    "decimal": r"\s*[-+]?\d+(?:\.\d+)?",
    "bool": r"\s*(?i:true|false)",
    "guid": _GUID,
    "datetime": r"\s*(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{1,4})"
    r"(?:[Tt ]\s*\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d*)?)?)?(?:[Zz]|[-+]\d{1,2}(?::\d{1,2})?)?",
    "timespan": r"\s*-?(?:\d+\.\d{1,2}:\d{1,2}:\d{1,2}|\d{1,2}:\d{1,2}(?::\d{1,2})?)(?:\.\d*)?",
}
"""What a typed column takes under kind=regex, wherever it stands."""


def parse(binder: Binder, rel: Rel, operator: ast.Parse, env: Env) -> Rel:
    """Columns out of a text, by a pattern."""
    what = "parse-where" if operator.is_where else "parse"
    kinds = ("simple", "regex") if operator.is_where else ("simple", "regex", "relaxed")
    given = options(operator.options, {"kind": kinds, "flags": None}, what)
    kind, flags = word(given.get("kind"), "simple"), word(given.get("flags"))
    if flags and kind != "regex":
        raise KqlError("flags are for kind=regex.", given["flags"].span)
    pattern, captures = _pattern(operator, kind, flags)
    text = binder.convert(binder.scalar(operator.value, rel, env), "string")
    if text.type == "unknown":
        text = empty("string")
    first: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    text = ir.Ref(as_column(binder, text, first))
    constant = ir.Const(pattern, "string")
    taken: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for _, number in captures:
        found = binder.apply("__parse", [text, constant, ir.Const(number, "long")], operator.span)
        taken.append((binder.new("string"), found))
    typed = [
        binder.convert(ir.Ref(column), capture.type) for (capture, _), (column, _) in zip(captures, taken, strict=True)
    ]
    relation: ir.Relation = compute(compute(rel.relation, first), taken)
    converted = [(binder.new(value.type), value) for value in typed if value.type != "string"]
    relation = compute(relation, converted)
    places = iter(column for column, _ in converted)
    values: list[ir.BoundColumn] = [
        column if capture.type == "string" else next(places)
        for (capture, _), (column, _) in zip(captures, taken, strict=True)
    ]
    tests = [binder.apply("isnotnull", [ir.Ref(column)], operator.span) for column, _ in converted]
    if kind == "relaxed":
        tests = []
    elif operator.is_where and not tests:
        tests = [binder.apply("__parse_matches", [text, constant], operator.span)]
    is_good: ir.Scalar | None = tests[0] if len(tests) == 1 else None
    if len(tests) > 1:
        is_good = ir.Junction("and", tuple(tests), is_nullable=False)
    if operator.is_where and is_good is not None:
        relation = ir.Filter(relation, is_good)
    elif is_good is not None and len(values) > 1:
        chosen: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        for place, column in enumerate(values):
            value = ir.Choice(((is_good, ir.Ref(column)),), empty(column.type), column.type)
            chosen.append((binder.new(column.type), value))
            values[place] = chosen[-1][0]
        relation = compute(relation, chosen)
    projection = Projection(binder, rel.columns)
    for (capture, _), column in zip(captures, values, strict=True):
        projection.declare(capture.name.name, column, capture.name.span, replace=True)
    return after(rel, relation, projection.columns)


def _pattern(operator: ast.Parse, kind: str, flags: str) -> tuple[str, list[tuple[ast.Capture, int]]]:
    """The regular expression, and which group of it each column is."""
    if unknown := sorted(set(flags) - set("ismU")):
        raise unsupported(f"The flag {unknown[0]} of parse is not supported.", operator.span)
    parts = [f"(?{flags})"] if flags else []
    captures: list[tuple[ast.Capture, int]] = []
    groups = 0
    pieces = operator.pattern
    for place, piece in enumerate(pieces):
        before = pieces[place - 1] if place else None
        follows = pieces[place + 1] if place + 1 < len(pieces) else None
        if isinstance(piece, ast.Literal):
            text = str(piece.value)
            if not text:
                raise KqlError("An empty string cannot stand in a pattern.", piece.span)
            if kind == "regex":
                groups += _groups(text, piece.span)
            parts.append(text if kind == "regex" else regex.quote(text))
        elif isinstance(piece, ast.Star):
            if follows is not None and not isinstance(follows, ast.Literal):
                raise KqlError("A string must follow the *.", piece.span)
            if isinstance(before, ast.Capture) and before.type == "string":
                raise KqlError(
                    f"* after the string column {before.name.name} does not say where the column ends.",
                    piece.span,
                    remedy="Put a string between them, or give the column a type.",
                )
            parts.append(".*?")
        else:
            if before is not None and not isinstance(before, ast.Literal):
                raise KqlError(f"The column {piece.name.name} must follow a string.", piece.name.span)
            groups += 1
            captures.append((piece, groups))
            is_last = place + 2 >= len(pieces)
            parts.append(f"({_taken(piece, kind, flags, follows, is_last)})")
    return "".join(parts) + ("" if kind == "regex" else "$"), captures


def _taken(capture: ast.Capture, kind: str, flags: str, follows: Any, is_last: bool) -> str:
    """What a column takes of the text, as a regular expression."""
    if kind == "regex":
        if capture.type in ("string", "dynamic"):
            return ".*"
        if capture.type in ("datetime", "timespan") and (follows is None or "U" in flags):
            raise unsupported(
                f"A {capture.type} at the end of a pattern of kind=regex, or with the flag U, is not supported.",
                capture.name.span,
                remedy="Put a string or * behind it.",
            )
        return REGEX_SHAPES[capture.type]
    if not isinstance(follows, ast.Star):
        return ".*?"
    shape = SIMPLE_SHAPES.get(capture.type)
    if shape is None:
        raise unsupported(
            f"* directly after a {capture.type} is not supported.", capture.name.span, remedy="Put a string between."
        )
    return f"(?:{shape})?" if is_last else shape


def _groups(text: str, span: Span) -> int:
    """How many groups a piece of a regular expression has."""
    try:
        return regex.compile(text).groups
    except regex.RegexError as error:
        raise KqlError(f"This is no regular expression: {error}", span) from None


def parse_kv(binder: Binder, rel: Rel, operator: ast.ParseKv, env: Env) -> Rel:
    """Columns out of keys and values in a text."""
    known = dict.fromkeys(("pair_delimiter", "kv_delimiter", "regex", "quote", "escape", "greedy"))
    given = options(operator.options, known, "parse-kv")
    texts = {name: _texts(operator, name) for name in known if name != "greedy"}
    between, inside = "".join(texts["pair_delimiter"]), "".join(texts["kv_delimiter"])
    if bool(between) != bool(inside) or (texts["regex"] and between):
        raise KqlError("parse-kv takes both delimiters, or regex, or neither.", operator.span)
    if texts["regex"] and _groups(texts["regex"][0], operator.span) != 2:
        raise KqlError("regex must have two groups, for the key and the value.", operator.span)
    for quote in texts["quote"]:
        if len(quote) not in (1, 2):
            raise KqlError("quote must be one sign or two.", operator.span)
    spec = {
        "keys": [column.name.name for column in operator.columns],
        "regex": "".join(texts["regex"]),
        "pair": inside,
        "pairs": between,
        "quotes": [[quote[0], quote[-1]] for quote in texts["quote"]],
        "escapes": texts["escape"],
        "greedy": word(given.get("greedy")) == "true",
    }
    text = binder.convert(binder.scalar(operator.value, rel, env), "string")
    if text.type == "unknown":
        text = empty("string")
    bag = binder.new("dynamic")
    found = binder.apply("__parse_kv", [text, ir.Const(json.dumps(spec), "string")], operator.span)
    projection = Projection(binder, rel.columns)
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for wanted in operator.columns:
        value = binder.convert(ir.Path(ir.Ref(bag), (wanted.name.name,)), "string")
        value = binder.convert(value, wanted.type)
        new.append((binder.new(wanted.type), value))
        projection.declare(wanted.name.name, new[-1][0], wanted.name.span, replace=True)
    return after(rel, compute(ir.Compute(rel.relation, ((bag, found),)), new), projection.columns)


def _texts(operator: ast.ParseKv, name: str) -> list[str]:
    found = []
    for option in operator.options:
        if option.name == name:
            if not isinstance(option.value, ast.Literal) or not isinstance(option.value.value, str):
                raise KqlError(f"{name} must be a string.", option.span)
            found.append(option.value.value)
    return found


# -- series -----------------------------------------------------------------------------------------------------------


def make_series(binder: Binder, rel: Rel, operator: ast.MakeSeries, env: Env) -> Rel:
    """Aggregates in arrays along an axis, gaps filled."""
    given = options(operator.options, {"kind": ("nonempty",)}, "make-series")
    old = operator.in_range
    axis_item = operator.axis
    axis_value = axis_item.value if isinstance(axis_item, ast.Named) else axis_item
    axis = binder.scalar(axis_value, rel, env)
    if axis.type == "unknown":
        raise KqlError("The axis of make-series is not known.", axis_value.span)
    if axis.type not in (*NUMBERS, "datetime", "timespan"):
        raise KqlError(f"The axis of make-series cannot be a {axis.type}.", axis_value.span)
    step_type = "timespan" if axis.type in ("datetime", "timespan") else axis.type
    start, stop = (
        None if bound is None else _bound(binder, bound, axis.type, env) for bound in (operator.start, operator.stop)
    )
    step = _bound(binder, operator.step, step_type, env)
    assert step is not None
    if step.value is None or step.value <= 0:
        raise KqlError("The step of make-series must be greater than 0.", operator.step.span)
    span = operator.span
    if start is not None and not old:
        binned = binder.apply("bin_at", [axis, step, start], span)
    else:
        binned = binder.apply("bin", [axis, step], span)
    if old and start is not None and _folded_bin(binder, start, step, span).value != start.value:
        raise unsupported(
            "in range( ... ) whose start is no multiple of the step is not supported.", span, remedy="Use from and to."
        )
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    projection = Projection(binder)
    by_columns(binder, rel, operator.by, env, projection, new, "What a series is made for", names_lets=False)
    keys = list(dict.fromkeys((*rel.within, *projection.columns.values())))
    bin_column = as_column(binder, binder.convert(binned, axis.type), new)
    relation = compute(rel.relation, new)
    tests: list[ir.Scalar] = []
    if start is not None:
        tests.append(ir.Compare(">=", ir.Ref(bin_column), start, True))
    if stop is not None and old:
        tests.append(ir.Compare("<=", ir.Ref(bin_column), stop, True))
    elif stop is not None:
        tests.append(binder.compare("<", axis, stop, span))
    if not tests:
        tests.append(binder.apply("isnotnull", [ir.Ref(bin_column)], span))
    filtered: ir.Relation = relation
    for test in tests:
        filtered = ir.Filter(filtered, test)
    calls: list[tuple[ir.BoundColumn, ir.Call]] = []
    extremes: list[Any] = []
    values: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    plain = plain_names(rel, operator.by)
    arrays: list[tuple[ir.BoundColumn, ir.Const]] = []
    for item in operator.items:
        before = set(projection.columns)
        found, computed = aggregates(binder, rel, [item.aggregate], env, projection, plain, constants=True)
        calls += found.calls
        extremes += found.extremes
        values += computed
        for name in [n for n in projection.columns if n not in before]:
            column = projection.columns[name]
            arrays.append((column, _default(binder, item, column.type, env)))
            projection.columns[name] = binder.new("dynamic")
    grouped = ir.Group(filtered, (*keys, bin_column), tuple(calls), tuple(extremes))
    axis_column = binder.new("dynamic")
    if isinstance(axis_item, ast.Named):
        projection.declare(axis_item.name.name, axis_column, axis_item.name.span)
    elif isinstance(axis_value, ast.Name):
        projection.declare(axis_value.name, axis_column, axis_value.span)
    else:
        projection.imply(binder.column_name(axis_value, rel) or projection.unnamed(), axis_column)
    takes = (*keys, bin_column, *(column for column, _ in arrays))
    made = [column for column in projection.columns.values() if column not in keys and column is not axis_column]
    spec = {
        "columns": [[column.number for column in takes]],
        "keys": len(keys),
        "axis_type": axis.type,
        "start": None if start is None else codec.encode_value(start.value, axis.type),
        "stop": None if stop is None else codec.encode_value(stop.value, axis.type),
        "step": codec.encode_value(step.value, step_type),
        "is_inclusive": old,
        "types": [column.type for column, _ in arrays],
        "defaults": [codec.encode_value(default.value, default.type) for _, default in arrays],
        "is_nonempty": "kind" in given,
    }
    routine = ir.Routine("make_series", spec, (compute(grouped, values),), (takes,), (*keys, *made, axis_column))
    return unordered(rel, routine, projection.columns)


def _bound(binder: Binder, expression: ast.Expr, type_: str, env: Env) -> ir.Const:
    found = binder.constant(expression, env, "A bound of make-series")
    same = found.type == type_ or (found.type in NUMBERS and type_ in NUMBERS) or found.type in ("unknown", "dynamic")
    converted = binder.convert(found, type_)
    if not same or not isinstance(converted, ir.Const):
        raise KqlError(f"This must be a {type_} as the axis needs it, it is a {found.type}.", expression.span)
    if converted.value is None:
        raise KqlError("A bound of make-series is null.", expression.span)
    return converted


def _folded_bin(binder: Binder, value: ir.Const, step: ir.Const, span: Span) -> ir.Const:
    found = binder.convert(binder.apply("bin", [value, step], span), value.type)
    return found if isinstance(found, ir.Const) else value


def _default(binder: Binder, item: ast.SeriesItem, type_: str, env: Env) -> ir.Const:
    if item.default is None:
        if type_ in (*NUMBERS, "timespan"):
            zero = binder.convert(ir.Const(0, "long"), type_) if type_ != "timespan" else ir.Const(0, "timespan")
            if isinstance(zero, ir.Const):
                return zero
        return empty(type_)
    found = binder.convert(binder.constant(item.default, env, "A default of make-series"), type_)
    return found if isinstance(found, ir.Const) else empty(type_)


# -- the most frequent ------------------------------------------------------------------------------------------------


def top_hitters(binder: Binder, rel: Rel, operator: ast.TopHitters, env: Env) -> Rel:
    """The most frequent values, or those of the largest sum; exact here."""
    rows = rows_wanted(binder, operator.rows, env, "top-hitters")
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    projection = Projection(binder)
    by_columns(binder, rel, [operator.value], env, projection, new, "What top-hitters counts")
    (name, key), *_ = projection.columns.items()
    if operator.weight is None:
        weight, call = binder.new("long", is_nullable=False), plain_aggregate("count")
        title = f"approximate_count_{name}"
    else:
        value = binder.scalar(operator.weight, rel, env)
        if value.type not in (*NUMBERS, "unknown"):
            raise KqlError(f"What top-hitters adds must be a number, this is a {value.type}.", operator.weight.span)
        call = aggregate_of("sum", ir.Ref(as_column(binder, value, new)))
        weight = binder.new("real" if value.type == "real" else "decimal" if value.type == "decimal" else "long")
        title = f"approximate_sum_{binder.column_name(operator.weight, rel) or ''}"
    grouped = group(rel, [key], [(weight, call)], relation=compute(rel.relation, new))
    order = (ir.SortKey(weight, is_descending=True, nulls_first=False),)
    limited = ir.Limit(ir.Order(grouped, order, rel.within), rows, rel.within)
    projection.imply(title, weight)
    return after(rel, limited, projection.columns, order=order, is_serial=True)


def top_nested(binder: Binder, rel: Rel, operator: ast.TopNested, env: Env) -> Rel:
    """The top values, and the top values inside each of them, level by level."""
    no_within(rel, "top-nested", operator.span)
    projection = Projection(binder)
    levels: list[ir.BoundColumn] = []
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for clause in operator.clauses:
        value = binder.scalar(_unnamed(clause.value), rel, env)
        not_dynamic(binder, value, clause.span, "What top-nested counts")
        levels.append(as_column(binder, value, new))
        if clause.others is not None and clause is not operator.clauses[-1]:
            raise unsupported("with others is supported in the last clause of top-nested only.", clause.span)
    hidden = {f"\0{place}": column for place, column in enumerate(levels)}
    base = rel.with_(relation=compute(rel.relation, new), columns={**rel.columns, **hidden}, order=(), name="")
    kept: Rel | None = None
    for place, clause in enumerate(operator.clauses):
        kept = _level(binder, base, kept, clause, place, env)
    assert kept is not None
    for place, clause in enumerate(operator.clauses):
        name = binder.column_name(_unnamed(clause.value), rel)
        value_name, aggregate_name = (
            part.name if isinstance(part, ast.Named) else None for part in (clause.value, clause.aggregate)
        )
        if value_name is None and name is None:
            raise KqlError("This value has no name.", clause.value.span, remedy="Write Name = ... before it.")
        taken = value_name.name if value_name else name or ""
        for prefix, declared in (("v", value_name), ("a", aggregate_name)):
            column = kept.columns[f"\0{prefix}{place}"]
            if declared is not None:
                projection.declare(declared.name, column, declared.span)
            else:
                projection.imply(taken if prefix == "v" else f"aggregated_{taken}", column)
    return unordered(rel, kept.relation, projection.columns)


def _unnamed(expression: ast.Expr) -> ast.Expr:
    return expression.value if isinstance(expression, ast.Named) else expression


def _level(binder: Binder, base: Rel, kept: Rel | None, clause: ast.TopNestedClause, place: int, env: Env) -> Rel:
    """The top values of one level inside those that the levels before kept."""
    found = _counted(binder, base, kept, clause, place, env)
    figure = found.columns[f"\0a{place}"]
    parents = tuple(column for name, column in found.columns.items() if name.startswith("\0v"))[:-1]
    relation = found.relation
    if clause.rows is not None:
        rows = rows_wanted(binder, clause.rows, env, "top-nested")
        key = ir.SortKey(figure, clause.is_descending, nulls_first=not clause.is_descending)
        relation = ir.Limit(ir.Order(relation, (key,), parents), rows, parents)
    best = found.with_(relation=relation)
    if clause.others is None:
        return best
    others = binder.convert(
        binder.constant(clause.others, env, "The value of others"), found.columns[f"\0v{place}"].type
    )
    known, shown = binder.fresh(best), binder.fresh(best)
    rest = _counted(binder, base, kept, clause, place, env, known, others)
    return united(binder, [shown, rest], is_inner=False, source_name="", span=clause.span)


def _counted(
    binder: Binder,
    base: Rel,
    kept: Rel | None,
    clause: ast.TopNestedClause,
    place: int,
    env: Env,
    without: Rel | None = None,
    others: ir.Scalar | None = None,
) -> Rel:
    """Each value of a level with its aggregate; with ``without`` one row for all values that are not among those."""
    rows = binder.fresh(base)
    relation: ir.Relation = rows.relation
    columns: dict[str, ir.BoundColumn] = {}
    if kept is not None:
        kept = binder.fresh(kept)
        on = tuple((ir.Ref(kept.columns[f"\0v{n}"]), ir.Ref(rows.columns[f"\0{n}"])) for n in range(place))
        relation = ir.Join("inner", kept.relation, relation, on)
        columns = dict(kept.columns)
    if without is not None:
        pairs = [(ir.Ref(rows.columns[f"\0{n}"]), ir.Ref(without.columns[f"\0v{n}"])) for n in range(place + 1)]
        relation = ir.Join("leftanti", relation, without.relation, tuple(pairs))
    shown = {name: column for name, column in rows.columns.items() if not name.startswith("\0")}
    row = rows.with_(relation=relation, columns=shown)
    result = Projection(binder)
    found, values = aggregates(binder, row, [_unnamed(clause.aggregate)], env, result, [])
    if len(result.columns) != 1:
        raise KqlError("An aggregate of top-nested has one value.", clause.aggregate.span)
    figure = next(iter(result.columns.values()))
    value = rows.columns[f"\0{place}"]
    keys = [*columns.values()] if others is not None else [*columns.values(), value]
    grouped = ir.Group(relation, tuple(dict.fromkeys(keys)), found.calls, found.extremes)
    computed = compute(grouped, values)
    if others is not None:
        value = binder.new(others.type, others.is_nullable)
        computed = ir.Compute(computed, ((value, others),))
        if not keys:
            number = binder.new("long", is_nullable=False)
            counted = ir.Group(relation, (), ((number, plain_aggregate("count")), *found.calls), found.extremes)
            some = ir.Compare(">", ir.Ref(number), ir.Const(0, "long"), False)
            computed = ir.Compute(compute(ir.Filter(counted, some), values), ((value, others),))
    columns |= {f"\0v{place}": value, f"\0a{place}": figure}
    return row.with_(relation=computed, columns=columns)


# -- search -----------------------------------------------------------------------------------------------------------

CASE_SENSITIVE: Final = {
    "has": "has_cs",
    "hasprefix": "hasprefix_cs",
    "hassuffix": "hassuffix_cs",
    "contains": "contains_cs",
    "startswith": "startswith_cs",
    "endswith": "endswith_cs",
    "=~": "==",
    "!~": "!=",
    "in~": "in",
}


def search(binder: Binder, rel: Rel, operator: ast.Search, env: Env) -> Rel:
    """The rows of many tables in which a text is found."""
    kinds = ("default", "case_insensitive", "case_sensitive")
    is_exact = word(options(operator.options, {"kind": kinds}, "search").get("kind")) == "case_sensitive"
    legs = _sources(binder, rel, operator.tables, env, operator.span, "search")
    found = _matching(binder, legs, operator.predicate, env, is_exact)
    return united(binder, found, is_inner=False, source_name="$table", span=operator.span)


def find(binder: Binder, rel: Rel, operator: ast.Find, env: Env) -> Rel:
    """The rows of many tables for which something holds, in columns that they share."""
    given = options(operator.options, {"withsource": None, "with_source": None}, "find")
    name = word(given.get("withsource") or given.get("with_source"), "source_")
    legs = _sources(binder, rel, operator.tables, env, operator.span, "find")
    legs = _matching(binder, legs, operator.predicate, env, is_exact=False)
    wanted: dict[str, str | None] = {}
    if operator.columns is None:
        common = [
            n for n, c in legs[0].columns.items() if all(n in o.columns and o.columns[n].type == c.type for o in legs)
        ]
        asked = [n for n in _mentioned(operator.predicate) if any(n in leg.columns for leg in legs)]
        wanted = dict.fromkeys([*(common if len(legs) > 1 else legs[0].columns), *asked])
    else:
        for item in operator.columns:
            column = item.name if isinstance(item, ast.Named) else item
            if not isinstance(column, ast.Name):
                raise KqlError("Name a column here.", item.span)
            types = {leg.columns[column.name].type for leg in legs if column.name in leg.columns}
            if not types:
                known = [n for leg in legs for n in leg.columns]
                remedy = nearest(column.name, known)
                raise KqlError(f"None of the tables has a column {column.name}.", column.span, remedy=remedy)
            type_ = item.value.name if isinstance(item, ast.Named) and isinstance(item.value, ast.Name) else None
            if type_ is None and len(types) > 1:
                raise KqlError(
                    f"{column.name} has different types in these tables.", column.span, remedy=f"{column.name}:type"
                )
            wanted[column.name] = type_
    away = {n.name for n in operator.away if isinstance(n, ast.Name)}
    wanted = {n: t for n, t in wanted.items() if n not in away}
    packs = operator.pack_all or operator.columns is None
    shown = [_shown(binder, leg, wanted, packs, operator) for leg in legs]
    result = united(binder, shown, is_inner=False, source_name=name, span=operator.span)
    first = [name, *(n for w in wanted for n in result.columns if n == w or n.startswith(f"{w}_"))]
    order = dict.fromkeys([*(n for n in first if n != "pack_"), *result.columns])
    if "pack_" in order:
        del order["pack_"]
        order["pack_"] = None
    columns = {n: result.columns[n] for n in order}
    if packs and operator.columns is None and all(set(leg.columns) <= set(wanted) for leg in legs):
        del columns["pack_"]
    return result.with_(columns=columns)


def _shown(binder: Binder, leg: Rel, wanted: Mapping[str, str | None], packs: bool, operator: ast.Find) -> Rel:
    """A table with the columns that find shows of it."""
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    columns: dict[str, ir.BoundColumn] = {}
    for name, type_ in wanted.items():
        if name in leg.columns:
            value = ir.Ref(leg.columns[name])
            columns[name] = as_column(binder, value if type_ is None else binder.convert(value, type_), new)
    if packs:
        rest = [(n, ir.Ref(c)) for n, c in leg.columns.items() if n not in wanted]
        pack: ir.Scalar = binder.pack(rest, False, operator.span) if rest else ir.Const({}, "dynamic")
        columns["pack_"] = as_column(binder, pack, new)
    return leg.with_(relation=compute(leg.relation, new), columns=columns)


def _sources(binder: Binder, rel: Rel, tables: Sequence[ast.Expr], env: Env, span: Span, what: str) -> list[Rel]:
    """The tables that search and find go through, each with a name."""
    if has_input(rel):
        no_within(rel, what, span)
        return [rel.with_(name=rel.name or "union_arg0")]
    legs: list[Rel] = []
    for place, table in enumerate(tables or [ast.Star(span)]):
        if isinstance(table, ast.Star | ast.Wildcard):
            legs += binder.tables(table, env)
        else:
            leg = other_table(binder, table, env)
            legs.append(leg.with_(name=leg.name or f"union_arg{place}"))
    if not legs:
        raise KqlError(f"There is no table to {what} in.", span)
    return legs


def _matching(binder: Binder, legs: Sequence[Rel], predicate: ast.Expr, env: Env, is_exact: bool) -> list[Rel]:
    """The rows of ``legs`` for which ``predicate`` holds; tables without any column that it names are left out."""
    types: dict[str, str] = {}
    for leg in legs:
        for name, column in leg.columns.items():
            types.setdefault(name, column.type)
    asked = [name for name in _mentioned(predicate) if name in types]
    if asked and not _is_free(predicate, types, env):
        legs = [leg for leg in legs if any(name in leg.columns for name in asked)]
    found = []
    for leg in legs:
        missing = {name: empty(type_) for name, type_ in types.items() if name not in leg.columns}
        condition = _predicate(predicate, leg, env, is_exact)
        found.append(keep(leg, binder.condition(condition, leg, env.with_names(missing)), binder).with_(name=leg.name))
    return found


def _mentioned(tree: Any) -> list[str]:
    """The names in ``tree``, in order, each once."""
    found: dict[str, None] = {}
    waiting = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Name):
            found[node.name] = None
        elif isinstance(node, tuple):
            waiting[:0] = node
        elif is_dataclass(node) and not isinstance(node, Span):
            waiting[:0] = [getattr(node, field.name) for field in fields(node)]
    return list(found)


def _is_free(predicate: ast.Expr, types: Mapping[str, str], env: Env) -> bool:
    """Whether ``predicate`` asks of any column: a term, or ``*``."""
    if isinstance(predicate, ast.Literal | ast.Star):
        return True
    if isinstance(predicate, ast.Name):
        return predicate.name not in types and isinstance(env.find(predicate.name), ir.Const)
    if isinstance(predicate, ast.Logical):
        return any(_is_free(part, types, env) for part in predicate.operands)
    if isinstance(predicate, ast.Call):
        return any(_is_free(part, types, env) for part in predicate.arguments if isinstance(part, ast.Call))
    return isinstance(predicate, ast.Binary) and isinstance(predicate.left, ast.Star)


def _predicate(node: ast.Expr, rel: Rel, env: Env, is_exact: bool) -> ast.Expr:
    """What a predicate of search means as a condition over the columns of ``rel``."""
    if isinstance(node, ast.Star):
        return ast.Literal(True, "bool", node.span)
    if isinstance(node, ast.Literal) and node.type == "string":
        return _term(None, node, rel, is_exact)
    if isinstance(node, ast.Name) and node.name not in rel.columns:
        meaning = env.find(node.name)
        if isinstance(meaning, ir.Const) and meaning.type == "string":
            return _term(None, ast.Literal(meaning.value, "string", node.span), rel, is_exact)
    if isinstance(node, ast.Logical):
        parts = tuple(_predicate(part, rel, env, is_exact) for part in node.operands)
        return ast.Logical(node.operator, parts, node.span)
    if isinstance(node, ast.Call) and node.name == "not":
        parts = tuple(_predicate(part, rel, env, is_exact) for part in node.arguments)
        return ast.Call(node.name, parts, node.span, node.name_span, node.base)
    if isinstance(node, ast.Binary):
        if node.operator == ":" and isinstance(node.right, ast.Literal):
            if isinstance(node.left, ast.Star):
                return _term(None, node.right, rel, is_exact)
            return _term(node.left, node.right, rel, is_exact)
        operator = CASE_SENSITIVE.get(node.operator, node.operator) if is_exact else node.operator
        if isinstance(node.left, ast.Star):
            return ast.Binary(operator, node.left, node.right, node.span)
        return ast.Binary(operator, node.left, node.right, node.span)
    return node


def _term(subject: ast.Expr | None, term: ast.Literal, rel: Rel, is_exact: bool) -> ast.Expr:
    """Whether ``subject``, or any column, has a term in which ``*`` stands for anything."""
    text = str(term.value)
    inner = text.strip("*")
    operator, value = "has", text
    if "*" in inner:
        operator, value = "matches regex", r"\b" + ".*".join(regex.quote(part) for part in text.split("*")) + r"\b"
        value = value if is_exact else f"(?i){value}"
    elif text.startswith("*") and text.endswith("*") and len(text) > 1:
        operator, value = "contains", inner
    elif text.startswith("*"):
        operator, value = "hassuffix", inner
    elif text.endswith("*"):
        operator, value = "hasprefix", inner
    if is_exact:
        operator = CASE_SENSITIVE.get(operator, operator)
    literal = ast.Literal(value, "string", term.span)
    if subject is None:
        return ast.Binary(operator, ast.Star(term.span), literal, term.span)
    if isinstance(subject, ast.Name) and subject.name not in rel.columns:
        return ast.Literal(False, "bool", term.span)
    return ast.Binary(operator, ast.Call("tostring", (subject,), term.span, term.span), literal, term.span)


# -- scan -------------------------------------------------------------------------------------------------------------


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


def reduce_rows(binder: Binder, rel: Rel, operator: ast.Reduce, env: Env) -> Rel:
    """Refuse: its groups follow no published rule."""
    raise unsupported(
        "reduce is not supported: how it groups is not documented.",
        operator.span,
        remedy="Replace what varies with replace_regex( ... ) and summarize by the result.",
    )


SPECIAL: Final[dict[type[Any], Handler]] = {
    ast.Facet: facet,
    ast.Find: find,
    ast.Fork: fork,
    ast.MakeSeries: make_series,
    ast.MvApply: mv_apply,
    ast.Parse: parse,
    ast.ParseKv: parse_kv,
    ast.Partition: partition,
    ast.Reduce: reduce_rows,
    ast.Scan: scan,
    ast.Search: search,
    ast.TopHitters: top_hitters,
    ast.TopNested: top_nested,
}
"""How each of these operators is bound."""
