"""Graphs: make-graph, what looks for patterns in them, and what makes tables of them again.

A graph is two tables while a query is bound: the edges, each a row, and the nodes, one for each id that either names.
Null is an id like any other. Patterns are looked for by a routine; all else is SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.joining import united
from watchfloor.kql.bind.projection import Projection
from watchfloor.kql.bind.scanning import encoded
from watchfloor.kql.bind.scope import Env, Graph, Rel
from watchfloor.kql.bind.subqueries import MAX_PARTITIONS, is_value
from watchfloor.kql.bind.tools import (
    Handler,
    after,
    column_of,
    no_within,
    options,
    other_table,
    source,
    whole_number,
    word,
)
from watchfloor.kql.errors import KqlError, Span, nearest, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

MAX_PATH: Final = 1_000
"""The longest path that a pattern may ask for."""

# -- making -----------------------------------------------------------------------------------------------------------


def make_graph(binder: Binder, rel: Rel, operator: ast.MakeGraph, env: Env) -> Rel:
    """Edges and nodes as a graph."""
    options(operator.options, {}, "make-graph")
    no_within(rel, "make-graph", operator.span)
    if not operator.is_directed:
        raise unsupported("Graphs without direction are not supported.", operator.span, remedy="Write -->.")
    if operator.partition is not None:
        return _partitioned(binder, rel, operator, env)
    edges = binder.fresh(rel).with_(name="", graph=None)
    _, from_column = column_of(binder, edges, operator.source, "The source of an edge")
    _, to_column = column_of(binder, edges, operator.target, "The target of an edge")
    if from_column.type != to_column.type:
        message = f"Source and target must be of one type, they are {from_column.type} and {to_column.type}."
        raise KqlError(message, operator.source.span.to(operator.target.span))
    if from_column.type == "dynamic":
        raise KqlError("The ids of nodes cannot be dynamic.", operator.source.span, remedy="Use tostring( ... ).")
    ends = _ends(binder, edges, from_column, to_column)
    if not operator.nodes:
        name = operator.node_id.name if operator.node_id is not None else ""
        key = next(iter(ends.columns.values()))
        nodes = ends.with_(columns={name: key} if name else {})
        graph = Graph(nodes, key, edges, from_column, to_column, operator.is_directed)
        return _of(edges, graph)
    legs: list[tuple[Rel, str]] = []
    for table, key_name in operator.nodes:
        leg = _one_row_each(binder, other_table(binder, table, env), key_name)
        if leg.columns[key_name.name].type != from_column.type:
            kind = leg.columns[key_name.name].type
            message = f"The ids of nodes are {kind}, those of the edges are {from_column.type}."
            raise KqlError(message, key_name.span)
        legs.append((leg, key_name.name))
    if len(legs) > 1:
        _same_columns(legs, operator.span)
        (first, first_key), (second, second_key) = legs
        first = binder.fresh(first)
        known = binder.fresh(first)
        on = ((ir.Ref(second.columns[second_key]), ir.Ref(known.columns[first_key])),)
        second = after(second, ir.Join("leftanti", second.relation, known.relation, on), second.columns)
        legs = [(first, first_key), (second, second_key)]
    nodes, key = _with_ends(binder, legs, ends, operator.span)
    return _of(edges, Graph(nodes, key, edges, from_column, to_column, operator.is_directed))


def _partitioned(binder: Binder, rel: Rel, operator: ast.MakeGraph, env: Env) -> Rel:
    """A graph for each value of a column of the edges and the nodes; what is found in each, together."""
    partition = operator.partition
    if not isinstance(partition, ast.Pipe) or not isinstance(partition.source, ast.Name):
        raise KqlError("partitioned-by takes a column.", operator.span)
    name = partition.source.name
    known = binder.fresh(rel)
    _, column = column_of(binder, known, partition.source, "What a graph is partitioned by")
    distinct = ir.Limit(ir.Group(known.relation, (column,)), MAX_PARTITIONS + 1)
    rows = binder.ask(f"graphs by {name}", source(distinct, {name: column}))
    if len(rows) > MAX_PARTITIONS:
        raise KqlError(f"{name} has more than {MAX_PARTITIONS} values.", operator.span, kind="limit")
    single = replace(operator, partition=None)
    legs: list[Rel] = []
    for (value,) in rows or [(None,)]:
        edges = binder.fresh(rel)
        kept = _only(binder, edges, name, value)
        tables = {
            f"\0nodes{place}": _only(binder, other_table(binder, table, env), name, value)
            for place, (table, _) in enumerate(operator.nodes)
        }
        named = tuple(
            (ast.Name(hidden, key.span), key) for hidden, (_, key) in zip(tables, operator.nodes, strict=True)
        )
        made = make_graph(binder, kept, replace(single, nodes=named), env.with_names(tables))
        legs.append(binder.pipeline(made, partition.operators, env))
    if not rows:
        return legs[0].with_(relation=ir.Limit(legs[0].relation, 0))
    return united(binder, legs, is_inner=False, source_name="", span=operator.span)


def _only(binder: Binder, rel: Rel, name: str, value: Any) -> Rel:
    """The rows of one partition."""
    if name not in rel.columns:
        raise KqlError(f"All tables of a partitioned graph need the column {name}.", Span(0, 0))
    column = rel.columns[name]
    return after(rel, ir.Filter(rel.relation, is_value(binder, column, ir.Const(value, column.type))), rel.columns)


def _of(rel: Rel, graph: Graph) -> Rel:
    """A graph where rows were: no column can be named until it is a table again."""
    return rel.with_(columns={}, graph=graph, is_serial=False, order=(), name="")


def _ends(binder: Binder, edges: Rel, source_column: ir.BoundColumn, target_column: ir.BoundColumn) -> Rel:
    """The ids that edges name, each once."""
    ids = []
    for place in (0, 1):
        shown = edges.with_(columns={"source": source_column, "target": target_column})
        leg = binder.fresh(shown)
        ids.append((leg, leg.columns["source" if place == 0 else "target"]))
    column = binder.new(source_column.type)
    both = ir.Union(tuple(leg.relation for leg, _ in ids), (column,), tuple((ir.Ref(end),) for _, end in ids))
    return source(ir.Group(both, (column,)), {"\0id": column})


def _one_row_each(binder: Binder, nodes: Rel, key: ast.Name) -> Rel:
    """One whole row for each id."""
    _, column = column_of(binder, nodes, key, "The id of a node")
    return after(nodes, ir.Limit(nodes.relation, 1, (column,)), nodes.columns, order=(), is_serial=False)


def _same_columns(legs: Sequence[tuple[Rel, str]], span: Span) -> None:
    (first, _), (second, _) = legs
    for name, column in first.columns.items():
        if name in second.columns and second.columns[name].type != column.type:
            raise unsupported(f"{name} has different types in the two tables of nodes.", span)


def _with_ends(binder: Binder, legs: Sequence[tuple[Rel, str]], ends: Rel, span: Span) -> tuple[Rel, ir.BoundColumn]:
    """All nodes: those of the tables, and what only edges name, which has its id and nothing else."""
    keys = [key for _, key in legs]
    parts: list[Rel] = []
    anti = ends.relation
    end = next(iter(ends.columns.values()))
    for leg, key in legs:
        shown = leg.with_(columns={**leg.columns, "\0key": leg.columns[key]})
        part, known = binder.fresh(shown), binder.fresh(shown)
        parts.append(part)
        anti = ir.Join("leftanti", anti, known.relation, ((ir.Ref(end), ir.Ref(known.columns[key])),))
    alone = source(anti, {**dict.fromkeys(keys, end), "\0key": end})
    found = united(binder, [*parts, alone], is_inner=False, source_name="", span=span)
    columns = dict(found.columns)
    key_column = columns.pop("\0key")
    return found.with_(columns=columns), key_column


# -- graph to graph ---------------------------------------------------------------------------------------------------


def graph_of(rel: Rel, what: str, span: Span) -> Graph:
    """The graph that an operator works on."""
    if rel.graph is None:
        raise KqlError(f"{what} needs a graph.", span, remedy="Make one with make-graph.")
    return rel.graph


def graph_where(binder: Binder, rel: Rel, operator: ast.GraphWhere, env: Env) -> Rel:
    """Keep some nodes, with the edges between them; or some edges, with all nodes."""
    graph = graph_of(rel, f"graph-where-{operator.of}", operator.span)
    if operator.of == "edges":
        kept = ir.Filter(graph.edges.relation, binder.condition(operator.condition, graph.edges, env))
        return _of(rel, replace(graph, edges=graph.edges.with_(relation=kept)))
    condition = binder.condition(operator.condition, graph.nodes, env)
    filtered = graph.nodes.with_(relation=ir.Filter(graph.nodes.relation, condition))
    whole = filtered.with_(columns={**filtered.columns, "\0key": graph.key})
    nodes = binder.fresh(whole)
    relation = graph.edges.relation
    for end in (graph.source, graph.target):
        known = binder.fresh(whole)
        relation = ir.Join("leftsemi", relation, known.relation, ((ir.Ref(end), ir.Ref(known.columns["\0key"])),))
    columns = dict(nodes.columns)
    key = columns.pop("\0key")
    edges = graph.edges.with_(relation=relation)
    return _of(rel, replace(graph, nodes=nodes.with_(columns=columns), key=key, edges=edges))


def graph_mark_components(binder: Binder, rel: Rel, operator: ast.GraphMarkComponents, env: Env) -> Rel:
    """Number the connected parts of the graph."""
    graph = graph_of(rel, "graph-mark-components", operator.span)
    given = options(operator.options, {"kind": ("weak", "strong"), "with_component_id": None}, "graph-mark-components")
    name = word(given.get("with_component_id"), "ComponentId")
    if name in graph.nodes.columns:
        raise KqlError(f"The nodes have a property {name} already.", operator.span, remedy="Use with_component_id=.")
    whole = graph.nodes.with_(columns={**graph.nodes.columns, "\0key": graph.key})
    nodes = list(dict.fromkeys(whole.columns.values()))
    ends = binder.fresh(graph.edges.with_(columns={"source": graph.source, "target": graph.target}))
    component = binder.new("long", is_nullable=False)
    takes = (tuple(nodes), tuple(dict.fromkeys(ends.columns.values())))
    spec = {
        "columns": [[column.number for column in taken] for taken in takes],
        "key": nodes.index(graph.key),
        "source": takes[1].index(ends.columns["source"]),
        "target": takes[1].index(ends.columns["target"]),
        "kind": word(given.get("kind"), "weak"),
        "is_directed": graph.is_directed,
    }
    relation = ir.Routine("graph_components", spec, (whole.relation, ends.relation), takes, (*nodes, component))
    marked = graph.nodes.with_(relation=relation, columns={**graph.nodes.columns, name: component})
    return _of(rel, replace(graph, nodes=marked))


# -- graph to table ---------------------------------------------------------------------------------------------------


def graph_to_table(binder: Binder, rel: Rel, operator: ast.GraphToTable, env: Env) -> Rel:
    """The nodes, or the edges, or both, as tables."""
    graph = graph_of(rel, "graph-to-table", operator.span)
    if len(operator.outputs) != 1:
        raise unsupported(
            "Several tables of one graph-to-table are not supported.", operator.span, remedy="Write it once for each."
        )
    kind, name, given = operator.outputs[0]
    if kind == "nodes":
        extra = _hashes(binder, given, {"with_node_id": graph.key}, operator.span)
        nodes = graph.nodes
        if not nodes.columns and not extra:
            raise KqlError("These nodes have no properties.", operator.span, remedy="Use with_node_id in make-graph.")
        found = source(_hashed(nodes.relation, extra), {**{n: c for n, c, _ in extra}, **nodes.columns})
    else:
        ends = {"with_source_id": graph.source, "with_target_id": graph.target}
        extra = _hashes(binder, given, ends, operator.span)
        found = source(_hashed(graph.edges.relation, extra), {**{n: c for n, c, _ in extra}, **graph.edges.columns})
    return found.with_(name=name.name if name else "")


Hashes = list[tuple[str, ir.BoundColumn, ir.Scalar]]


def _hashes(binder: Binder, given: Sequence[ast.Option], known: Mapping[str, ir.BoundColumn], span: Span) -> Hashes:
    found: Hashes = []
    for option in options(given, dict.fromkeys(known), "graph-to-table").values():
        value = binder.apply("hash", [ir.Ref(known[option.name])], span)
        found.append((word(option), binder.new("long"), value))
    order = list(known)
    return sorted(found, key=lambda part: order.index(next(o.name for o in given if word(o) == part[0])))


def _hashed(relation: ir.Relation, extra: Hashes) -> ir.Relation:
    return ir.Compute(relation, tuple((column, value) for _, column, value in extra)) if extra else relation


# -- patterns ---------------------------------------------------------------------------------------------------------


@dataclass
class Element:
    """A named part of a pattern: what it is, and the virtual columns that stand for its properties."""

    name: str
    kind: str
    """node, edge or path."""
    rel: Rel
    position: Mapping[int, int]
    refs: dict[str, ir.BoundColumn] = field(default_factory=dict)


class Matching:
    """Binds the expressions over one pattern, and gathers what the routine must know of them."""

    def __init__(self, binder: Binder, graph: Graph, env: Env) -> None:
        self.binder, self.graph, self.env = binder, graph, env
        self.nodes = list(dict.fromkeys([graph.key, *graph.nodes.columns.values()]))
        self.edges = list(dict.fromkeys([graph.source, graph.target, *graph.edges.columns.values()]))
        self.node_position = {column.number: place for place, column in enumerate(self.nodes)}
        self.edge_position = {column.number: place for place, column in enumerate(self.edges)}
        self.elements: dict[str, Element] = {}
        self.patterns: list[list[dict[str, Any]]] = []
        self.values: dict[int, dict[str, Any]] = {}
        self.bags: dict[int, dict[str, Any]] = {}
        self.functions: dict[int, dict[str, Any]] = {}
        self.degrees: dict[int, dict[str, Any]] = {}
        self._anonymous = 0
        self._inner = ""

    def read(self, patterns: Sequence[Sequence[ast.GraphNode | ast.GraphEdge]]) -> None:
        """Take in the pattern."""
        for sequence in patterns:
            parts = [self._node(p) if isinstance(p, ast.GraphNode) else self._edge(p) for p in sequence]
            self.patterns.append(parts)
        self._connected(patterns)

    def _name(self, name: str) -> str:
        if name:
            return name
        self._anonymous += 1
        return f"\0{self._anonymous}"

    def _node(self, node: ast.GraphNode) -> dict[str, Any]:
        name = self._name(node.name)
        known = self.elements.get(name)
        if known is not None and known.kind != "node":
            raise KqlError(f"{name} is an edge here as well.", node.span)
        self.elements[name] = Element(name, "node", self.graph.nodes, self.node_position)
        return {"node": name}

    def _edge(self, edge: ast.GraphEdge) -> dict[str, Any]:
        name = self._name(edge.name)
        if name in self.elements:
            raise KqlError(f"{name} stands twice in the pattern.", edge.span)
        is_path = edge.low is not None and edge.high is not None
        low = high = 1
        if edge.low is not None and edge.high is not None:
            low = whole_number(self.binder, edge.low, self.env, "The least number of edges")
            high = whole_number(self.binder, edge.high, self.env, "The greatest number of edges")
        if low > high or high < 1:
            raise KqlError("The least number of edges is greater than the most.", edge.span)
        if high > MAX_PATH:
            raise KqlError(f"A path may have {MAX_PATH} edges at most.", edge.span, kind="limit")
        self.elements[name] = Element(name, "path" if is_path else "edge", self.graph.edges, self.edge_position)
        return {"edge": name, "direction": edge.direction, "low": low, "high": high, "is_path": is_path}

    def _connected(self, patterns: Sequence[Sequence[ast.GraphNode | ast.GraphEdge]]) -> None:
        groups = [{part["node"] for part in parts if "node" in part} for parts in self.patterns]
        reached, rest = groups[0], groups[1:]
        while rest:
            joined = [group for group in rest if group & reached]
            if not joined:
                raise KqlError("All parts of a pattern must be connected.", patterns[-1][0].span)
            for group in joined:
                reached |= group
                rest.remove(group)

    # -- names --------------------------------------------------------------------------------------------------------

    def names(self, in_where: bool, inside: Env | None = None) -> Env:
        """The pattern's names around an expression. ``in_where``: a path's properties have no one value there."""
        found: dict[str, Any] = {}
        for element in self.elements.values():
            if not element.name.startswith("\0"):
                found[element.name] = Properties(self, element, in_where)
        for name, bind in self._functions().items():
            found[name] = bind
        return (inside or self.env).with_names(found)

    def property(self, element: Element, name: str) -> ir.Scalar:
        """``element.name``."""
        known = element.refs.get(name)
        if known is not None:
            return ir.Ref(known)
        column = element.rel.columns[name]
        made = self.binder.new("dynamic" if element.kind == "path" else column.type)
        element.refs[name] = made
        self.values[made.number] = {
            "number": made.number,
            "element": element.name,
            "column": element.position[column.number],
            "type": column.type,
        }
        return ir.Ref(made)

    def whole(self, element: Element) -> ir.Scalar:
        """``element`` itself, as a bag; a path as a list of bags."""
        known = element.refs.get("\0whole")
        if known is None:
            known = element.refs["\0whole"] = self.binder.new("dynamic")
            names = [[name, element.position[c.number], c.type] for name, c in element.rel.columns.items()]
            self.bags[known.number] = {"number": known.number, "element": element.name, "names": names}
        return ir.Ref(known)

    # -- functions ----------------------------------------------------------------------------------------------------

    def _functions(self) -> dict[str, Callable[[ast.Call, Rel, Env], ir.Scalar]]:
        return {
            "all": self._over,
            "any": self._over,
            "map": self._over,
            "inner_nodes": self._bare_inner_nodes,
            "labels": self._labels,
            "node_degree_in": self._degree,
            "node_degree_out": self._degree,
            "node_id": self._degree,
        }

    def _bare_inner_nodes(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        raise KqlError("inner_nodes() stands inside all(), any() or map() only.", call.span)

    def _labels(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        return ir.Const([], "dynamic")

    def _degree(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        kind = {"node_degree_in": "in", "node_degree_out": "out", "node_id": "id"}[call.name]
        element: str | None = None
        if call.arguments:
            argument = call.arguments[0]
            name = argument.name if isinstance(argument, ast.Name) else ""
            if name not in self.elements or self.elements[name].kind != "node":
                raise KqlError(f"{call.name}() takes a node of the pattern.", call.span)
            element = name
        elif self._inner != "inner_nodes":
            raise KqlError(f"{call.name}() without a node stands inside inner_nodes() only.", call.span)
        made = self.binder.new(self.graph.key.type if kind == "id" else "long")
        self.degrees[made.number] = {"number": made.number, "kind": kind, "element": element}
        return self.binder.convert(ir.Ref(made), "string") if kind == "id" else ir.Ref(made)

    def _over(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        """all(), any() and map() over the edges of a path or its inner nodes."""
        if len(call.arguments) != 2:
            raise KqlError(f"{call.name}() takes a path and an expression.", call.span)
        subject, expression = call.arguments
        over = "edges"
        if isinstance(subject, ast.Call) and subject.name == "inner_nodes" and len(subject.arguments) == 1:
            over, subject = "inner_nodes", subject.arguments[0]
        element = self.elements.get(subject.name) if isinstance(subject, ast.Name) else None
        if element is None or element.kind != "path":
            known = [name for name, e in self.elements.items() if e.kind == "path"]
            raise KqlError(f"{call.name}() needs a path of the pattern.", call.span, remedy=nearest("", known))
        rel, position = self.graph.edges, self.edge_position
        if over == "inner_nodes":
            rel, position = self.graph.nodes, self.node_position
        local = {name: self.binder.new(column.type) for name, column in rel.columns.items()}
        around = Rel(ir.Values(tuple(local.values()), ()), local)
        before, self._inner = self._inner, over
        try:
            if call.name == "map":
                value = self.binder.scalar(expression, around, env)
            else:
                value = self.binder.condition(expression, around, env)
        finally:
            self._inner = before
        if value.type == "unknown":
            return value
        used = {column.number for column in ir.refs(value)}
        made = self.binder.new("dynamic" if call.name == "map" else "bool", call.name == "map")
        self.functions[made.number] = {
            "number": made.number,
            "kind": call.name,
            "element": element.name,
            "over": over,
            "expression": encoded(self.binder, value, call.span),
            "type": value.type,
            "row": [[c.number, position[rel.columns[n].number]] for n, c in local.items() if c.number in used],
        }
        return ir.Ref(made)

    # -- the routine --------------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """What the routine must know, but for where and project."""
        return {
            "columns": [[c.number for c in self.nodes], [c.number for c in self.edges]],
            "key": 0,
            "source": self.edge_position[self.graph.source.number],
            "target": self.edge_position[self.graph.target.number],
            "is_directed": self.graph.is_directed,
            "patterns": self.patterns,
            "values": list(self.values.values()),
            "bags": list(self.bags.values()),
            "functions": list(self.functions.values()),
            "degrees": list(self.degrees.values()),
        }


class Properties(Mapping[str, ir.Scalar]):
    """The properties of an element, each bound when it is asked for; "" is the element itself."""

    def __init__(self, matching: Matching, element: Element, in_where: bool) -> None:
        self._matching, self._element, self._in_where = matching, element, in_where

    def __getitem__(self, name: str) -> ir.Scalar:
        if name == "":
            return self._matching.whole(self._element)
        if name not in self:
            raise KeyError(name)
        return self._matching.property(self._element, name)

    def __contains__(self, name: object) -> bool:
        if name == "":
            return True
        return name in self._element.rel.columns and not (self._in_where and self._element.kind == "path")

    def __iter__(self) -> Any:
        return iter(self._element.rel.columns)

    def __len__(self) -> int:
        return len(self._element.rel.columns)


def graph_match(binder: Binder, rel: Rel, operator: ast.GraphMatch, env: Env) -> Rel:
    """Each occurrence of a pattern."""
    what = "graph-shortest-paths" if operator.is_shortest else "graph-match"
    graph = graph_of(rel, what, operator.span)
    known = {"output": ("any", "all")} if operator.is_shortest else {"cycles": ("all", "none", "unique_edges")}
    given = options(operator.options, known, what)
    if not operator.project:
        raise KqlError(f"{what} needs project.", operator.span, remedy="Add project and what to show of each match.")
    matching = Matching(binder, graph, env)
    matching.read(operator.patterns)
    if operator.is_shortest:
        if len(operator.patterns) != 1:
            raise KqlError("graph-shortest-paths takes one pattern.", operator.span)
        if not any(element.kind == "path" for element in matching.elements.values()):
            raise KqlError("graph-shortest-paths needs a path: -[e*1..5]->.", operator.span)
    nothing = Rel(ir.Values((), ()), {})
    condition = None
    if operator.condition is not None:
        bound = binder.condition(operator.condition, nothing, matching.names(in_where=True))
        condition = encoded(binder, bound, operator.condition.span) if bound.type != "unknown" else None
    projection = Projection(binder)
    values: list[ir.Scalar] = []
    columns: list[ir.BoundColumn] = []
    around = matching.names(in_where=False)
    for item in operator.project:
        expression = item.value if isinstance(item, ast.Named) else item
        value = binder.scalar(expression, nothing, around)
        values.append(value)
        columns.append(binder.new(value.type))
        if isinstance(item, ast.Named):
            projection.declare(item.name.name, columns[-1], item.name.span)
        else:
            projection.imply(_column_name(binder, expression) or projection.unnamed(), columns[-1])
    spec = matching.spec() | {
        "where": condition,
        "project": [encoded(binder, value, operator.span) for value in values if value.type != "unknown"],
        "types": [value.type for value in values],
    }
    if operator.is_shortest:
        spec["output"] = word(given.get("output"), "any")
    else:
        spec["cycles"] = word(given.get("cycles"), "unique_edges")
    name = "graph_shortest_paths" if operator.is_shortest else "graph_match"
    takes = (tuple(matching.nodes), tuple(matching.edges))
    inputs = (graph.nodes.relation, graph.edges.relation)
    return source(ir.Routine(name, spec, inputs, takes, tuple(columns)), projection.columns)


def _column_name(binder: Binder, expression: ast.Expr) -> str | None:
    """The name of a column of project over a pattern."""
    if isinstance(expression, ast.Call) and expression.arguments:
        first = expression.arguments[0]
        if expression.name in ("labels", "node_id", "node_degree_in", "node_degree_out"):
            return f"{expression.name}_{first.name}" if isinstance(first, ast.Name) else None
        if expression.name in ("map", "all", "any"):
            subject = first
            prefix = ""
            if isinstance(first, ast.Call) and first.name == "inner_nodes" and first.arguments:
                subject, prefix = first.arguments[0], "inner_nodes_"
            if expression.name != "map" or not isinstance(subject, ast.Name):
                return None
            inner = binder.column_name(expression.arguments[1]) or "Column"
            return f"{prefix}{subject.name}_{inner}"
    return binder.column_name(expression)


GRAPH: Final[dict[type[Any], Handler]] = {
    ast.GraphMarkComponents: graph_mark_components,
    ast.GraphMatch: graph_match,
    ast.GraphToTable: graph_to_table,
    ast.GraphWhere: graph_where,
    ast.MakeGraph: make_graph,
}
"""How each of these operators is bound."""
