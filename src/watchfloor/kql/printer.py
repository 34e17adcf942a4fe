"""Syntax tree to KQL text.

The text is canonical: one spelling for everything that may be written in several ways, an operator a line, parentheses
only where the tree would be another without them. Reading it gives the same tree but for the places in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from watchfloor.kql import ast
from watchfloor.kql.expressions import POWERS, RESERVED, SPECIAL
from watchfloor.kql.lexer import LITERAL_TYPES
from watchfloor.kql.values import (
    MIN_LONG,
    TICKS_PER_DAY,
    TICKS_PER_HOUR,
    TICKS_PER_MILLISECOND,
    TICKS_PER_MINUTE,
    TICKS_PER_SECOND,
    format_datetime,
)

_LOOSEST, _SIGNED, _TIGHTEST = 0, 8, 9
_STRING_POWER: Final = POWERS["has"]
_EQUALITY_POWER: Final = POWERS["=="]
_LEFT_TO_RIGHT: Final = frozenset({POWERS["+"], POWERS["*"]})


def to_text(node: ast.Query | ast.Statement | ast.Operator | ast.Expr) -> str:
    """The KQL text of ``node``, which has no ``Missing`` in it but for the sources of sub-queries."""
    if isinstance(node, ast.Query):
        return ";\n".join(_STATEMENTS[type(statement)](statement) for statement in node.statements)
    if type(node) in _STATEMENTS:
        return _STATEMENTS[type(node)](node)
    if type(node) in _OPERATORS:
        return _OPERATORS[type(node)](node)
    return _EXPRESSIONS[type(node)](node)[1]


# -- names and literals -----------------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_]*")
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f\x7f]')
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNITS: Final = (
    (TICKS_PER_DAY, "d"),
    (TICKS_PER_HOUR, "h"),
    (TICKS_PER_MINUTE, "m"),
    (TICKS_PER_SECOND, "s"),
    (TICKS_PER_MILLISECOND, "ms"),
    (1, "tick"),
)


def _string(text: str) -> str:
    return '"' + _ESCAPED.sub(lambda m: _ESCAPES.get(m[0]) or f"\\x{ord(m[0]):02x}", text) + '"'


def _name(name: ast.Name) -> str:
    return f"[{_string(name.name)}]" if name.is_quoted else name.name


def _word(name: str) -> str:
    """A name whose brackets the tree does not tell."""
    return name if _PLAIN.fullmatch(name) else f"[{_string(name)}]"


def _literal(node: ast.Literal) -> str:
    value = node.value
    if node.type == "string":
        return ("h" if node.is_obfuscated else "") + _string(value)
    if node.type == "dynamic":
        return f"dynamic({_json(value)})"
    if value is None:
        return f"{node.type}(null)"
    return _LITERALS[node.type](value)


def _real(value: float) -> str:
    text = repr(value)
    return f"real({text})" if text in ("nan", "inf", "-inf") else text


def _timespan(ticks: int) -> str:
    if ticks == MIN_LONG:  # without its sign it would be too long
        return "timespan(min)"
    size, unit = next((size, unit) for size, unit in _UNITS if ticks % size == 0)
    return f"{ticks // size}{unit}"


def _datetime(ticks: int) -> str:
    text, fraction = format_datetime(ticks)[:-1].split(".")
    fraction = fraction.rstrip("0")
    return f"datetime({text}.{fraction})" if fraction else f"datetime({text.removesuffix('T00:00:00')})"


def _json(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_string(key)}: {_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return _bool(value)
    if isinstance(value, str):
        return _string(value)
    return _real(value) if isinstance(value, float) else str(value)


def _bool(value: bool) -> str:
    return "true" if value else "false"


_LITERALS: Final[dict[str, Callable[[Any], str]]] = {
    "bool": _bool,
    "datetime": _datetime,
    "decimal": lambda value: f"decimal({value})",
    "guid": lambda value: f"guid({value})",
    "int": lambda value: f"int({value})",
    "long": str,
    "real": _real,
    "timespan": _timespan,
}

# -- expressions ------------------------------------------------------------------------------------------------------


def _expr(node: ast.Expr, least: int = _LOOSEST) -> str:
    """``node`` where operators that bind less tightly than ``least`` stand in parentheses."""
    power, text = _EXPRESSIONS[type(node)](node)
    return f"({text})" if power < least else text


def _base(node: ast.Expr) -> str:
    """``node`` before a dot, which must not become part of a number."""
    text = _expr(node, _TIGHTEST)
    return f"({text})" if text[0].isdigit() else text


def _inner(node: ast.Expr) -> str:
    """``node`` where no pipe may stand by itself."""
    return _expr(node, 1)


def _tabular(node: ast.Expr) -> str:
    return _expr(node)


def _list(nodes: Iterable[ast.Expr]) -> str:
    return ", ".join(map(_inner, nodes))


def _arguments(nodes: tuple[ast.Expr, ...]) -> str:
    """A pipe takes whatever commas follow it, so one of several stands in parentheses."""
    if len(nodes) == 1:
        only = nodes[0]
        return f"{_name(only.name)} = {_expr(only.value)}" if isinstance(only, ast.Named) else _expr(only)
    return _list(nodes)


def _literal_expr(node: ast.Literal) -> tuple[int, str]:
    text = _literal(node)
    return _SIGNED if text[0] == "-" else _TIGHTEST, text


def _call(node: ast.Call) -> tuple[int, str]:
    if node.name == "typeof":
        inner = ", ".join(
            f"{_name(part.name)}:{_inner(part.value)}" if isinstance(part, ast.Named) else _inner(part)
            for part in node.arguments
        )
        return _TIGHTEST, f"typeof({inner})"
    is_word = node.name in RESERVED or node.name in LITERAL_TYPES or (node.name in SPECIAL and node.name[:2] != "to")
    name = f"[{_string(node.name)}]" if is_word and node.base is None else _word(node.name)
    base = f"{_base(node.base)}." if node.base is not None else ""
    return _TIGHTEST, f"{base}{name}({_arguments(node.arguments)})"


def _unary(node: ast.Unary) -> tuple[int, str]:
    operand = _expr(node.operand, _TIGHTEST)
    is_number = isinstance(node.operand, ast.Literal) and operand[0].isdigit()
    return _SIGNED, f"{node.operator}({operand})" if is_number else f"{node.operator}{operand}"


def _binary(node: ast.Binary) -> tuple[int, str]:
    power = POWERS[node.operator.split()[0]]
    if power == _STRING_POWER:
        left = right = _SIGNED
    else:
        left, right = power if power in _LEFT_TO_RIGHT else power + 1, power + 1
    return power, f"{_expr(node.left, left)} {node.operator} {_expr(node.right, right)}"


def _logical(node: ast.Logical) -> tuple[int, str]:
    power = POWERS[node.operator]
    return power, f" {node.operator} ".join(_expr(operand, power + 1) for operand in node.operands)


def _membership(node: ast.Membership) -> tuple[int, str]:
    return _EQUALITY_POWER, f"{_expr(node.subject, _EQUALITY_POWER + 1)} {node.operator} ({_arguments(node.items)})"


def _between(node: ast.Between) -> tuple[int, str]:
    operator = "!between" if node.is_negated else "between"
    subject = _expr(node.subject, _EQUALITY_POWER + 1)
    return _EQUALITY_POWER, f"{subject} {operator} ({_inner(node.low)} .. {_inner(node.high)})"


def _pipe(node: ast.Pipe) -> tuple[int, str]:
    parts = [_OPERATORS[type(operator)](operator) for operator in node.operators]
    if not isinstance(node.source, ast.Missing):
        is_pipe = isinstance(node.source, ast.Pipe)
        parts.insert(0, _inner(node.source) if is_pipe else _expr(node.source))
    return _LOOSEST, "\n| ".join(parts)


def _name_list(node: ast.NameList) -> tuple[int, str]:
    return _LOOSEST, f"({', '.join(map(_name, node.names))}) = {_inner(node.value)}"


def _datatable(node: ast.Datatable) -> tuple[int, str]:
    columns = ", ".join(map(_typed_name, node.columns))
    return _TIGHTEST, f"datatable({columns})[{_list(node.values)}]"


def _range(node: ast.Range) -> tuple[int, str]:
    bounds = f"from {_inner(node.start)} to {_inner(node.stop)} step {_inner(node.step)}"
    return _LOOSEST, f"range {_name(node.name)} {bounds}"


_EXPRESSIONS: Final[dict[type, Callable[[Any], tuple[int, str]]]] = {
    ast.Literal: _literal_expr,
    ast.Name: lambda node: (_TIGHTEST, _name(node)),
    ast.Star: lambda node: (_TIGHTEST, "*"),
    ast.Wildcard: lambda node: (_TIGHTEST, node.pattern),
    ast.Named: lambda node: (_TIGHTEST, f"{_name(node.name)} = {_inner(node.value)}"),
    ast.NameList: lambda node: (_TIGHTEST, _name_list(node)[1]),
    ast.Call: _call,
    ast.Member: lambda node: (_TIGHTEST, f"{_base(node.base)}.{_word(node.name)}"),
    ast.Index: lambda node: (_TIGHTEST, f"{_expr(node.base, _TIGHTEST)}[{_inner(node.index)}]"),
    ast.Unary: _unary,
    ast.Binary: _binary,
    ast.Logical: _logical,
    ast.Membership: _membership,
    ast.Between: _between,
    ast.Pipe: _pipe,
    ast.Datatable: _datatable,
    ast.Print: lambda node: (_LOOSEST, f"print {_list(node.items)}"),
    ast.Range: _range,
    ast.Externaldata: lambda node: (_TIGHTEST, f"{node.keyword}()[]"),
}
"""Each expression: how tightly it binds, and its text."""

# -- parts of operators -----------------------------------------------------------------------------------------------


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _after(word: str, node: ast.Expr | None) -> str:
    return f"{word} {_inner(node)}" if node is not None else ""


def _after_list(word: str, nodes: tuple[ast.Expr, ...]) -> str:
    return f"{word} {_list(nodes)}" if nodes else ""


def _typed_name(node: ast.TypedName) -> str:
    return f"{_name(node.name)}:{node.type}"


def _schema(node: ast.RowSchema) -> str:
    columns = list(map(_typed_name, node.columns))
    if node.star_at is not None:
        columns.insert(node.star_at, "*")
    return f"({', '.join(columns)})"


def _option(node: ast.Option) -> str:
    return f"{node.name}={_inner(node.value)}"


def _options(nodes: tuple[ast.Option, ...], separator: str = " ") -> str:
    return separator.join(map(_option, nodes))


def _sort_keys(keys: tuple[ast.SortKey, ...]) -> str:
    return ", ".join(map(_sort_key, keys))


def _sort_key(key: ast.SortKey) -> str:
    nulls = "" if key.nulls_first != key.is_descending else " nulls first" if key.nulls_first else " nulls last"
    return f"{_inner(key.value)} {_order(key.is_descending)}{nulls}"


def _order(is_descending: bool) -> str:
    return "desc" if is_descending else "asc"


def _expand_item(node: ast.ExpandItem) -> str:
    name = f"{_name(node.name)} = " if node.name is not None else ""
    return name + _inner(node.value) + (f" to typeof({node.type})" if node.type is not None else "")


def _sub_pipe(pipe: ast.Pipe) -> str:
    return f"({_tabular(pipe)})"


# -- operators --------------------------------------------------------------------------------------------------------


def _top_nested_clause(node: ast.TopNestedClause) -> str:
    rows = _inner(node.rows) if node.rows is not None else ""
    others = f"with others = {_inner(node.others)}" if node.others is not None else ""
    by = f"by {_inner(node.aggregate)} {_order(node.is_descending)}"
    return _joined("top-nested", rows, f"of {_inner(node.value)}", others, by)


def _join(node: ast.Join) -> str:
    word = "lookup" if node.is_lookup else "join"
    right = f"({_tabular(node.right)})"
    return _joined(word, _options(node.options), right, _after_list("on", node.conditions))


def _mv_expand(node: ast.MvExpand) -> str:
    items = ", ".join(map(_expand_item, node.items))
    word = "mvexpand" if node.is_legacy else "mv-expand"
    return _joined(word, _options(node.options), items, _after("limit", node.limit))


def _mv_apply(node: ast.MvApply) -> str:
    items = ", ".join(map(_expand_item, node.items))
    limit = _after("limit", node.limit)
    return _joined("mv-apply", _options(node.options), items, limit, "on", _sub_pipe(node.body))


def _parse(node: ast.Parse) -> str:
    pattern = " ".join(_parse_part(part) for part in node.pattern)
    word = "parse-where" if node.is_where else "parse"
    return _joined(word, _options(node.options), _inner(node.value), "with", pattern)


def _parse_part(part: ast.Literal | ast.Star | ast.Capture) -> str:
    if isinstance(part, ast.Capture):
        return _name(part.name) + (f":{part.type}" if part.type != "string" else "")
    return _inner(part)


def _parse_kv(node: ast.ParseKv) -> str:
    columns = ", ".join(map(_typed_name, node.columns))
    options = f"with ({_options(node.options, ', ')})" if node.options else ""
    return _joined("parse-kv", _inner(node.value), f"as ({columns})", options)


def _sample(node: ast.Sample) -> str:
    word = "sample" if node.of is None else "sample-distinct"
    return _joined(word, _inner(node.rows), _after("of", node.of))


def _render(node: ast.Render) -> str:
    legacy = [option for option in node.options if option.name in ("by", "with")]
    others = [option for option in node.options if option.name not in ("by", "with")]
    properties = f"with ({', '.join(_render_option(option) for option in others)})" if others else ""
    words = [f"{option.name} {_render_value(option.value)}" for option in legacy]
    return _joined("render", _word(node.kind), *words, properties)


def _render_option(option: ast.Option) -> str:
    return f"{option.name}={_render_value(option.value)}"


def _render_value(value: ast.Expr) -> str:
    if isinstance(value, ast.Literal) and isinstance(value.value, list):
        return ", ".join(map(_word, value.value))
    return _inner(value)


def _evaluate(node: ast.Evaluate) -> str:
    schema = f": {_schema(node.schema)}" if node.schema is not None else ""
    return _joined("evaluate", _options(node.options), _inner(node.call), schema)


def _partition(node: ast.Partition) -> str:
    is_sub_pipe = isinstance(node.body.source, ast.Missing)
    body = _sub_pipe(node.body) if is_sub_pipe else f"{{ {_tabular(node.body)} }}"
    return _joined("partition", _options(node.options), "by", _inner(node.by), body)


def _fork(node: ast.Fork) -> str:
    branches = [(f"{_name(name)}=" if name is not None else "") + _sub_pipe(pipe) for name, pipe in node.branches]
    return _joined("fork", *branches)


def _facet(node: ast.Facet) -> str:
    return _joined("facet by", _list(node.columns), f"with {_sub_pipe(node.body)}" if node.body is not None else "")


def _search(node: ast.Search) -> str:
    tables = f"in ({_find_tables(node.tables)})" if node.tables else ""
    return _joined("search", _options(node.options), tables, _inner(node.predicate))


def _find_tables(tables: tuple[ast.Expr, ...]) -> str:
    return ", ".join(map(_tabular, tables))


def _find(node: ast.Find) -> str:
    tables = f"in ({_find_tables(node.tables)})" if node.tables else ""
    columns = ""
    if node.columns is not None:
        found = [_find_column(column) for column in node.columns] + (["pack(*)"] if node.pack_all else [])
        columns = f"project {', '.join(found)}"
    away = f"project-away {', '.join(map(_find_column, node.away))}" if node.away else ""
    return _joined("find", _options(node.options), tables, "where", _inner(node.predicate), columns, away)


def _entities(tables: tuple[ast.Expr, ...]) -> str:
    return ", ".join(_expr(table, _TIGHTEST) for table in tables)


def _find_column(node: ast.Expr) -> str:
    return f"{_name(node.name)}:{_inner(node.value)}" if isinstance(node, ast.Named) else _inner(node)


def _reduce(node: ast.Reduce) -> str:
    return _joined("reduce by", _inner(node.value), f"with {_options(node.options, ', ')}" if node.options else "")


def _make_series(node: ast.MakeSeries) -> str:
    items = ", ".join(_series_item(item) for item in node.items)
    bounds = _joined(_after("from", node.start), _after("to", node.stop), _after("step", node.step))
    if node.in_range and node.start is not None and node.stop is not None:
        bounds = f"in range({_list((node.start, node.stop, node.step))})"
    axis = _after("on", node.axis)
    return _joined("make-series", _options(node.options), items, axis, bounds, _after_list("by", node.by))


def _series_item(item: ast.SeriesItem) -> str:
    return _inner(item.aggregate) + (f" default = {_inner(item.default)}" if item.default is not None else "")


def _scan(node: ast.Scan) -> str:
    order = f"order by {_sort_keys(node.order)}" if node.order else ""
    declared = ", ".join(
        f"{_name(item.name)}:{item.type}" + (f" = {_inner(item.default)}" if item.default is not None else "")
        for item in node.declarations
    )
    return _joined(
        "scan",
        _options(node.options),
        order,
        _after_list("partition by", node.partition),
        f"declare ({declared})" if declared else "",
        f"with ({' '.join(map(_scan_step, node.steps))})",
    )


def _scan_step(step: ast.ScanStep) -> str:
    return (
        _joined(
            "step",
            _name(step.name),
            "optional" if step.is_optional else "",
            f"output={step.output}" if step.output != "all" else "",
            f": {_inner(step.condition)}",
            f"=> {_list(step.assignments)}" if step.assignments else "",
        )
        + ";"
    )


def _make_graph(node: ast.MakeGraph) -> str:
    arrow = "-->" if node.is_directed else "--"
    nodes = ", ".join(f"{_expr(table, _TIGHTEST)} on {_name(key)}" for table, key in node.nodes)
    partition = ""
    if isinstance(node.partition, ast.Pipe):
        body = "\n| ".join(to_text(operator) for operator in node.partition.operators)
        partition = f"partitioned-by {_inner(node.partition.source)} ({body})"
    return _joined(
        "make-graph",
        _options(node.options),
        f"{_name(node.source)} {arrow} {_name(node.target)}",
        f"with_node_id={_name(node.node_id)}" if node.node_id is not None else "",
        f"with {nodes}" if nodes else "",
        partition,
    )


def _graph_match(node: ast.GraphMatch) -> str:
    word = "graph-shortest-paths" if node.is_shortest else "graph-match"
    patterns = ", ".join("".join(map(_graph_part, pattern)) for pattern in node.patterns)
    where, project = _after("where", node.condition), _after_list("project", node.project)
    return _joined(word, _options(node.options), patterns, where, project)


def _graph_part(part: ast.GraphNode | ast.GraphEdge) -> str:
    name = _word(part.name) if part.name else ""
    if isinstance(part, ast.GraphNode):
        return f"({name})"
    count = f"*{_inner(part.low)}..{_inner(part.high)}" if part.low and part.high else ""
    before = "<-" if part.direction == "in" else "-"
    return f"{before}[{name}{count}]{'->' if part.direction == 'out' else '-'}"


def _graph_to_table(node: ast.GraphToTable) -> str:
    outputs = [
        _joined(of, f"as {_name(name)}" if name is not None else "", _options(options))
        for of, name, options in node.outputs
    ]
    return f"graph-to-table {', '.join(outputs)}"


def _items(word: str) -> Callable[[Any], str]:
    return lambda node: _joined(word, _list(node.items))


_OPERATORS: Final[dict[type, Callable[[Any], str]]] = {
    ast.Where: lambda node: f"where {_inner(node.condition)}",
    ast.Extend: _items("extend"),
    ast.Project: _items("project"),
    ast.ProjectAway: lambda node: _joined("project-keep" if node.is_keep else "project-away", _list(node.items)),
    ast.ProjectRename: _items("project-rename"),
    ast.ProjectReorder: lambda node: _joined(
        "project-reorder", ", ".join(_joined(_inner(item.value), item.order) for item in node.items)
    ),
    ast.ProjectByNames: _items("project-by-names"),
    ast.Sort: lambda node: f"sort by {_sort_keys(node.keys)}",
    ast.Take: lambda node: f"take {_inner(node.rows)}",
    ast.Top: lambda node: f"top {_inner(node.rows)} by {_sort_keys(node.keys)}",
    ast.TopHitters: lambda node: _joined(
        "top-hitters", _inner(node.rows), _after("of", node.value), _after("by", node.weight)
    ),
    ast.TopNested: lambda node: ", ".join(map(_top_nested_clause, node.clauses)),
    ast.Count: lambda node: "count" if node.name is None else f"count as {_name(node.name)}",
    ast.Summarize: lambda node: _joined(
        "summarize", _options(node.options), _list(node.aggregates), _after_list("by", node.by)
    ),
    ast.Distinct: _items("distinct"),
    ast.Join: _join,
    ast.Union: lambda node: _joined("union", _options(node.options), _entities(node.tables)),
    ast.MvExpand: _mv_expand,
    ast.MvApply: _mv_apply,
    ast.Parse: _parse,
    ast.ParseKv: _parse_kv,
    ast.Sample: _sample,
    ast.Serialize: _items("serialize"),
    ast.Render: _render,
    ast.As: lambda node: f"as {_name(node.name)}",
    ast.Getschema: lambda node: _joined("getschema", _options(node.options)),
    ast.Evaluate: _evaluate,
    ast.Invoke: lambda node: f"invoke {_inner(node.call)}",
    ast.Partition: _partition,
    ast.Fork: _fork,
    ast.Facet: _facet,
    ast.Search: _search,
    ast.Find: _find,
    ast.Reduce: _reduce,
    ast.MakeSeries: _make_series,
    ast.Scan: _scan,
    ast.MakeGraph: _make_graph,
    ast.GraphMatch: _graph_match,
    ast.GraphToTable: _graph_to_table,
    ast.GraphMarkComponents: lambda node: _joined("graph-mark-components", _options(node.options)),
    ast.GraphWhere: lambda node: f"graph-where-{node.of} {_inner(node.condition)}",
    ast.AssertSchema: lambda node: f"assert-schema {_schema(node.schema)}",
    ast.Consume: lambda node: _joined("consume", _options(node.options)),
    ast.UnsupportedOperator: lambda node: node.name,
}

# -- statements -------------------------------------------------------------------------------------------------------


def _let(node: ast.Let) -> str:
    value = _lambda(node.value) if isinstance(node.value, ast.Lambda) else _tabular(node.value)
    return f"let {_name(node.name)} = {value}"


def _lambda(node: ast.Lambda) -> str:
    return ("view " if node.is_view else "") + f"({_parameters(node.parameters)}) {_body(node.statements, node.body)}"


def _body(statements: tuple[ast.Statement, ...], body: ast.Expr) -> str:
    return "{ " + "".join(f"{to_text(statement)};\n" for statement in statements) + _tabular(body) + " }"


def _parameters(parameters: tuple[ast.Parameter, ...]) -> str:
    return ", ".join(map(_parameter, parameters))


def _parameter(node: ast.Parameter) -> str:
    type_ = _schema(node.schema) if node.schema is not None else node.type
    return f"{_name(node.name)}:{type_}" + (f" = {_inner(node.default)}" if node.default is not None else "")


def _pattern(node: ast.DeclarePattern) -> str:
    declared = f"declare pattern {_name(node.name)}"
    if not node.matches:
        return declared
    path = f"[{_typed_name(node.path)}]" if node.path is not None else ""
    return f"{declared} = ({_parameters(node.parameters)}){path} {{ {' '.join(map(_pattern_match, node.matches))} }}"


def _pattern_match(node: ast.PatternMatch) -> str:
    path = f".[{_inner(node.path)}]" if node.path is not None else ""
    return f"({_list(node.values)}){path} = {_body(node.statements, node.body)};"


_STATEMENTS: Final[dict[type, Callable[[Any], str]]] = {
    ast.Let: _let,
    ast.SetOption: lambda node: _joined("set", _word(node.name), _after("=", node.value)),
    ast.DeclareParameters: lambda node: f"declare query_parameters({_parameters(node.parameters)})",
    ast.DeclarePattern: _pattern,
    ast.Restrict: lambda node: f"restrict access to ({_entities(node.tables)})",
    ast.Alias: lambda node: f"alias database {_name(node.name)} = {_inner(node.value)}",
    ast.Evaluation: lambda node: _tabular(node.value),
}
