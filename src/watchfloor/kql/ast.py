"""The syntax tree: what was written, with where, and nothing about what it means.

Every node has the ``span`` that it was read from. Values of literals are in the representation of ``values.py``.
"""

from __future__ import annotations

from typing import Any

from watchfloor.kql.errors import Span
from watchfloor.kql.records import dataclass

# -- expressions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Literal:
    """A value of a KQL type; ``value`` None is that type's null. ``is_obfuscated``: an ``h"..."`` string."""

    value: Any
    type: str
    span: Span
    is_obfuscated: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """A column, table, function or constant by name. ``is_quoted``: written as ``['...']``."""

    name: str
    span: Span
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Star:
    """``*``: every column, or every table."""

    span: Span


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A name with ``*`` in it, such as ``Account*``."""

    pattern: str
    span: Span


@dataclass(frozen=True, slots=True)
class Named:
    """``name = value`` as an argument, a column of project or an element of a list."""

    name: Name
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class NameList:
    """``(a, b) = value``: several names for a function with several results."""

    names: tuple[Name, ...]
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """``name(arguments)``; an argument may be ``Named``, ``Star`` or a ``Pipe``. ``base``: what stands before a dot, as
    ``cluster("c")`` in ``cluster("c").database("d")``."""

    name: str
    arguments: tuple[Expr, ...]
    span: Span
    name_span: Span
    base: Expr | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """``base.name``."""

    base: Expr
    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Index:
    """``base[index]``."""

    base: Expr
    index: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Unary:
    """``-operand`` or ``+operand``."""

    operator: str
    operand: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``: arithmetic, comparisons and string operators, as written but ``<>`` is ``!=``."""

    operator: str
    left: Expr
    right: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Logical:
    """``and`` or ``or`` over two or more operands: flat, so that a long chain is not a deep tree."""

    operator: str
    operands: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Membership:
    """``subject in (items)``: in, !in, in~, !in~, has_any, has_all. An item may be a ``Pipe``."""

    operator: str
    subject: Expr
    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Between:
    """``subject between (low .. high)``."""

    subject: Expr
    low: Expr
    high: Expr
    is_negated: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Pipe:
    """A tabular expression: a source and what is done with it, in order. Also a parenthesised one inside another."""

    source: Expr
    operators: tuple[Operator, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Missing:
    """Where the parser recovered: something was expected here. Never bound; a query that has one has errors."""

    span: Span


@dataclass(frozen=True, slots=True)
class Datatable:
    """``datatable(name:type, ...)[literals]``, row after row."""

    columns: tuple[TypedName, ...]
    values: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Print:
    """``print items``: one row."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Range:
    """``range name from start to stop step step``."""

    name: Name
    start: Expr
    stop: Expr
    step: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Externaldata:
    """``externaldata``, ``external_table`` and the like: always refused, kept to refuse it by name."""

    keyword: str
    span: Span


@dataclass(frozen=True, slots=True)
class TypedName:
    """``name : type``. The type is the word as written, folded to KQL's own (``date`` is ``datetime``)."""

    name: Name
    type: str
    span: Span


@dataclass(frozen=True, slots=True)
class RowSchema:
    """``(name:type, ...)``, with ``*`` for whatever else there is: ``star_at`` is its place among the columns."""

    columns: tuple[TypedName, ...]
    span: Span
    star_at: int | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function: of a scalar ``type`` with a ``default``, or tabular with a ``schema``."""

    name: Name
    type: str
    schema: RowSchema | None
    default: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class Lambda:
    """``(parameters) { body }``; ``statements`` come before the ``body``. ``is_view``: declared with ``view``."""

    parameters: tuple[Parameter, ...]
    statements: tuple[Statement, ...]
    body: Expr
    span: Span
    is_view: bool = False


Expr = (
    Literal
    | Name
    | Star
    | Wildcard
    | Named
    | NameList
    | Call
    | Member
    | Index
    | Unary
    | Binary
    | Logical
    | Membership
    | Between
    | Pipe
    | Missing
    | Datatable
    | Print
    | Range
    | Externaldata
)

# -- tabular operators ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """``name = value`` between an operator and its operands: ``kind=inner``, ``hint.strategy=shuffle``. A bare word
    value is a ``Name``."""

    name: str
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Where:
    """Keep the rows for which ``condition`` is true. Also written ``filter``."""

    condition: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Extend:
    """Add or replace columns. Items are expressions, ``Named`` or ``NameList``."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Project:
    """Keep these columns, in this order."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ProjectAway:
    """Drop columns: ``Name`` or ``Wildcard``. ``is_keep``: keep only those (project-keep)."""

    items: tuple[Expr, ...]
    is_keep: bool
    span: Span


@dataclass(frozen=True, slots=True)
class ProjectRename:
    """Rename columns: every item is ``Named`` with a ``Name`` as value."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ReorderItem:
    """A ``Name``, ``Wildcard`` or ``Star`` of project-reorder; ``order``: "", asc, desc, granny-asc or granny-desc."""

    value: Expr
    order: str


@dataclass(frozen=True, slots=True)
class ProjectReorder:
    """Move columns to the front."""

    items: tuple[ReorderItem, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ProjectByNames:
    """Keep the columns whose names are given as values: strings, wildcards in strings, dynamic arrays."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of a sort; ``nulls_first`` is already the default where nothing was written."""

    value: Expr
    is_descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Sort:
    """Order the rows."""

    keys: tuple[SortKey, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Take:
    """Keep any ``rows``. Also written ``limit``."""

    rows: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Top:
    """Keep the first ``rows`` by ``keys``."""

    rows: Expr
    keys: tuple[SortKey, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class TopHitters:
    """``top-hitters rows of value by weight``."""

    rows: Expr
    value: Expr
    weight: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class TopNestedClause:
    """``top-nested rows of value with others = others by aggregate asc|desc``; ``value`` and ``aggregate`` may be
    ``Named``."""

    rows: Expr | None
    value: Expr
    others: Expr | None
    aggregate: Expr
    is_descending: bool
    span: Span


@dataclass(frozen=True, slots=True)
class TopNested:
    """Hierarchical top."""

    clauses: tuple[TopNestedClause, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows there are; ``name`` is the ``as`` name."""

    name: Name | None
    span: Span


@dataclass(frozen=True, slots=True)
class Summarize:
    """Aggregates for each combination of ``by``; without aggregates, the combinations themselves."""

    options: tuple[Option, ...]
    aggregates: tuple[Expr, ...]
    by: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Distinct:
    """The different combinations of ``items``; a single ``Star`` means all columns."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Join:
    """``join`` or, with ``is_lookup``, ``lookup``. A condition is a ``Name`` or an expression over $left, $right."""

    options: tuple[Option, ...]
    right: Expr
    conditions: tuple[Expr, ...]
    is_lookup: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Union:
    """``union tables``. A table is an expression, a ``Wildcard`` or ``Star``. As a source it has no input."""

    options: tuple[Option, ...]
    tables: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ExpandItem:
    """``name = value to typeof(type)``; value alone where ``name`` is None."""

    name: Name | None
    value: Expr
    type: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class MvExpand:
    """One row for each element. Options: kind, bagexpansion, with_itemindex. ``is_legacy``: written ``mvexpand``."""

    options: tuple[Option, ...]
    items: tuple[ExpandItem, ...]
    limit: Expr | None
    is_legacy: bool
    span: Span


@dataclass(frozen=True, slots=True)
class MvApply:
    """A sub-query over the elements of each row. ``body.source`` is ``Missing``: it begins with an operator."""

    options: tuple[Option, ...]
    items: tuple[ExpandItem, ...]
    limit: Expr | None
    body: Pipe
    span: Span


@dataclass(frozen=True, slots=True)
class Capture:
    """A column that parse fills. ``type`` is string unless written."""

    name: Name
    type: str


@dataclass(frozen=True, slots=True)
class Parse:
    """``parse`` or, with ``is_where``, ``parse-where``. ``pattern`` holds string ``Literal``, ``Star``, ``Capture``."""

    options: tuple[Option, ...]
    value: Expr
    pattern: tuple[Literal | Star | Capture, ...]
    is_where: bool
    span: Span


@dataclass(frozen=True, slots=True)
class ParseKv:
    """``parse-kv value as (columns) with (options)``."""

    value: Expr
    columns: tuple[TypedName, ...]
    options: tuple[Option, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Sample:
    """``sample rows`` or, with ``of``, ``sample-distinct rows of value``."""

    rows: Expr
    of: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class Serialize:
    """Fix the order of the rows, and add columns."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Render:
    """How the result is to be drawn: no data."""

    kind: str
    options: tuple[Option, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class As:
    """Name the rows so far."""

    name: Name
    span: Span


@dataclass(frozen=True, slots=True)
class Getschema:
    """The columns instead of the rows."""

    options: tuple[Option, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Evaluate:
    """A plugin: ``call``, and the result's columns where they are declared. As a source it has no input."""

    options: tuple[Option, ...]
    call: Call
    schema: RowSchema | None
    span: Span


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call a function with the rows so far as its first argument."""

    call: Call
    span: Span


@dataclass(frozen=True, slots=True)
class Partition:
    """``partition by key (body)``: ``body.source`` is ``Missing``; with ``{ }`` it is a whole query of its own."""

    options: tuple[Option, ...]
    by: Expr
    body: Pipe
    span: Span


@dataclass(frozen=True, slots=True)
class Fork:
    """Several results: (name, sub-pipeline), each without a source."""

    branches: tuple[tuple[Name | None, Pipe], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Facet:
    """``facet by columns with (body)``."""

    columns: tuple[Expr, ...]
    body: Pipe | None
    span: Span


@dataclass(frozen=True, slots=True)
class Search:
    """``search kind=... in (tables) predicate``. A bare string in the predicate is a ``Literal`` of type string: any
    column has it; ``column:"x"`` is ``Binary(":")``. As a source it has no input."""

    options: tuple[Option, ...]
    tables: tuple[Expr, ...]
    predicate: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Find:
    """``find ... in (tables) where predicate project columns``. ``columns`` None: project-smart. ``pack_all``: a last
    column with everything else."""

    options: tuple[Option, ...]
    tables: tuple[Expr, ...]
    predicate: Expr
    columns: tuple[Expr, ...] | None
    away: tuple[Expr, ...]
    pack_all: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Reduce:
    """``reduce by value with options``."""

    value: Expr
    options: tuple[Option, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class SeriesItem:
    """``name = aggregate default = value`` of make-series; ``aggregate`` may be ``Named``."""

    aggregate: Expr
    default: Expr | None


@dataclass(frozen=True, slots=True)
class MakeSeries:
    """``make-series items on axis from start to stop step step by keys`` (also the ``in range(...)`` form)."""

    options: tuple[Option, ...]
    items: tuple[SeriesItem, ...]
    axis: Expr
    start: Expr | None
    stop: Expr | None
    step: Expr
    by: tuple[Expr, ...]
    span: Span
    in_range: bool = False
    """Written ``in range(...)``: the stop is part of it."""


@dataclass(frozen=True, slots=True)
class ScanDeclaration:
    """``name : type = default`` of scan's declare."""

    name: Name
    type: str
    default: Expr | None


@dataclass(frozen=True, slots=True)
class ScanStep:
    """``step name optional output=... : condition => assignments;`` Each assignment is ``Named``."""

    name: Name
    is_optional: bool
    output: str
    condition: Expr
    assignments: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Scan:
    """``scan with_match_id=... order by keys partition by keys declare (...) with (steps)``."""

    options: tuple[Option, ...]
    order: tuple[SortKey, ...]
    partition: tuple[Expr, ...]
    declarations: tuple[ScanDeclaration, ...]
    steps: tuple[ScanStep, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class MakeGraph:
    """``make-graph source --> target with nodes on key [, nodes2 on key2]``, or ``with_node_id = name``."""

    options: tuple[Option, ...]
    source: Name
    target: Name
    is_directed: bool
    nodes: tuple[tuple[Expr, Name], ...]
    node_id: Name | None
    partition: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class GraphNode:
    """``(name)`` of a pattern; "" where it has no name."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """``-[name*low..high]->`` of a pattern. ``direction``: "out", "in", "any". ``low`` and ``high`` None: one edge."""

    name: str
    direction: str
    low: Expr | None
    high: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class GraphMatch:
    """``graph-match`` or, with ``is_shortest``, ``graph-shortest-paths``. A pattern is nodes and edges, alternating."""

    options: tuple[Option, ...]
    patterns: tuple[tuple[GraphNode | GraphEdge, ...], ...]
    condition: Expr | None
    project: tuple[Expr, ...]
    is_shortest: bool
    span: Span


@dataclass(frozen=True, slots=True)
class GraphToTable:
    """``graph-to-table nodes|edges [as name] with options [, ...]``: (nodes or edges, name, options)."""

    outputs: tuple[tuple[str, Name | None, tuple[Option, ...]], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class GraphMarkComponents:
    """``graph-mark-components kind=weak|strong with_component_id=name``."""

    options: tuple[Option, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class GraphWhere:
    """``graph-where-nodes`` (``of`` is nodes) or ``graph-where-edges``."""

    of: str
    condition: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class AssertSchema:
    """The rows must have these columns."""

    schema: RowSchema
    span: Span


@dataclass(frozen=True, slots=True)
class Consume:
    """Read everything, give nothing."""

    options: tuple[Option, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class UnsupportedOperator:
    """An operator of KQL that is known by name and not supported; what follows it was skipped."""

    name: str
    span: Span


Operator = (
    Where
    | Extend
    | Project
    | ProjectAway
    | ProjectRename
    | ProjectReorder
    | ProjectByNames
    | Sort
    | Take
    | Top
    | TopHitters
    | TopNested
    | Count
    | Summarize
    | Distinct
    | Join
    | Union
    | MvExpand
    | MvApply
    | Parse
    | ParseKv
    | Sample
    | Serialize
    | Render
    | As
    | Getschema
    | Evaluate
    | Invoke
    | Partition
    | Fork
    | Facet
    | Search
    | Find
    | Reduce
    | MakeSeries
    | Scan
    | MakeGraph
    | GraphMatch
    | GraphToTable
    | GraphMarkComponents
    | GraphWhere
    | AssertSchema
    | Consume
    | UnsupportedOperator
)
"""``union``, ``search``, ``find`` and ``evaluate`` at the head of a query: ``Pipe.source`` is ``Missing`` and they
are the first operator."""

# -- statements -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Let:
    """``let name = value``: a scalar, a tabular expression or a ``Lambda``."""

    name: Name
    value: Expr | Lambda
    span: Span


@dataclass(frozen=True, slots=True)
class SetOption:
    """``set name = value``."""

    name: str
    value: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class DeclareParameters:
    """``declare query_parameters(name:type = default, ...)``."""

    parameters: tuple[Parameter, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """``("value", ...).["path"] = { body }`` of a pattern."""

    values: tuple[Expr, ...]
    path: Expr | None
    statements: tuple[Statement, ...]
    body: Expr


@dataclass(frozen=True, slots=True)
class DeclarePattern:
    """``declare pattern name = (parameters)[path:type] { matches }``."""

    name: Name
    parameters: tuple[Parameter, ...]
    path: TypedName | None
    matches: tuple[PatternMatch, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Restrict:
    """``restrict access to (tables)``: names, wildcards or expressions."""

    tables: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Alias:
    """``alias database name = expression``."""

    name: Name
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A statement that is an expression: the query itself."""

    value: Expr
    span: Span


Statement = Let | SetOption | DeclareParameters | DeclarePattern | Restrict | Alias | Evaluation


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query: what was parsed, and its statements."""

    text: str
    statements: tuple[Statement, ...]
