"""Bound relations: what a query means. Every name is resolved, every expression has a type.

A query is a tree of relations. Columns have numbers that are unique in the query: no two places ever mean different
things by one number, except that a ``Shared`` relation keeps its numbers wherever it is used through ``Use``. Names
matter again at the very end. A relation with ``within`` works apart on each group of rows that agree on those columns
(the sub-queries of partition and mv-apply).

Constants hold the Python values of ``values.py``: datetime and timespan are ticks, dynamic is plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql.records import dataclass

if TYPE_CHECKING:
    from watchfloor.kql.functions.spec import Aggregate, Function
    from watchfloor.kql.schema import TableSchema


@dataclass(frozen=True, slots=True)
class BoundColumn:
    """A column of the query: its number, KQL type, and whether it may be null. A string never is."""

    number: int
    type: str
    is_nullable: bool = True


# -- scalars ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Const:
    """A value known before the query runs."""

    value: Any
    type: str

    @property
    def is_nullable(self) -> bool:
        """Whether it is null."""
        return self.value is None


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of a column."""

    column: BoundColumn

    @property
    def type(self) -> str:
        """The column's."""
        return self.column.type

    @property
    def is_nullable(self) -> bool:
        """The column's."""
        return self.column.is_nullable


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of the function table, with arguments of the types that it takes (already converted)."""

    function: Function
    arguments: tuple[Scalar, ...]
    type: str
    is_nullable: bool = True


@dataclass(frozen=True, slots=True)
class Path:
    """``base.step[step]``: a dynamic value inside a dynamic value, null where there is none.

    A step is a property name, a position (negative: from the end), or a scalar of type string or long.
    """

    base: Scalar
    steps: tuple[str | int | Scalar, ...]
    type: str = "dynamic"
    is_nullable: bool = True


@dataclass(frozen=True, slots=True)
class Convert:
    """``base`` as ``type``: tostring, tolong and their kin, and the conversions that operators imply.

    Never fails: what cannot be converted is null ('' as a string). From a type to itself it is left out.
    """

    base: Scalar
    type: str
    is_nullable: bool = True


@dataclass(frozen=True, slots=True)
class Compare:
    """``==``, ``!=``, ``<``, ``<=``, ``>`` or ``>=`` over two values of one type (or two numbers), with KQL's rules for
    null: equality with null on one side is false and inequality true; null on both sides, or order with null, is
    null."""

    operator: str
    left: Scalar
    right: Scalar
    is_nullable: bool
    type: str = "bool"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Whether ``subject`` is one of ``items`` (of its type), or is none of them. Never null. ``is_folded``: letter
    case does not count."""

    subject: Scalar
    items: tuple[Scalar, ...]
    is_negated: bool
    is_folded: bool = False
    type: str = "bool"
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class InRelation:
    """Whether ``subject`` is a value of ``column`` of ``relation`` (of its type). Never null."""

    subject: Scalar
    relation: Relation
    column: BoundColumn
    is_negated: bool
    is_folded: bool = False
    type: str = "bool"
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class FirstOf:
    """toscalar: ``column`` of the first row of ``relation``, null without rows."""

    relation: Relation
    column: BoundColumn
    type: str
    is_nullable: bool = True


@dataclass(frozen=True, slots=True)
class Junction:
    """``and`` or ``or``, three-valued."""

    operator: str
    operands: tuple[Scalar, ...]
    is_nullable: bool
    type: str = "bool"


@dataclass(frozen=True, slots=True)
class Choice:
    """case/iff: the value of the first pair whose condition is true, else ``otherwise``; all values of one type."""

    pairs: tuple[tuple[Scalar, Scalar], ...]
    otherwise: Scalar
    type: str
    is_nullable: bool = True


@dataclass(frozen=True, slots=True)
class Window:
    """A function of neighbouring rows in the order of the input: only inside ``Compute`` over serialised rows.

    ``function``: row_number, prev, next, row_cumsum, row_rank_dense, row_rank_min, row_window_session.
    ``arguments``: row_number (start, restart?), prev/next (value, offset, default), row_cumsum (value, restart?),
    row_rank_* (value, restart?), row_window_session (time, max from first, max between, restart?); ``restart`` is the
    condition that begins anew, as a scalar over the row that may hold prev() as a ``Window`` itself. Every group of
    ``within`` is apart.
    """

    function: str
    arguments: tuple[Scalar, ...]
    restart: Scalar | None
    type: str
    is_nullable: bool = True
    within: tuple[BoundColumn, ...] = ()


Scalar = Const | Ref | Apply | Path | Convert | Compare | OneOf | InRelation | FirstOf | Junction | Choice | Window

# -- relations --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scan:
    """Read a table: (column, name in the table). The scope's filters belong to it, below all that the user wrote."""

    table: TableSchema
    columns: tuple[tuple[BoundColumn, str], ...]
    filters: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Values:
    """Rows given in the query or by a named list, in order. Cells are Python values of the columns' types."""

    columns: tuple[BoundColumn, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """``range``: from ``start`` by ``step`` until past ``stop``; of the column's type; in order."""

    column: BoundColumn
    start: Scalar
    stop: Scalar
    step: Scalar


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep rows for which ``condition`` is true."""

    input: Relation
    condition: Scalar


@dataclass(frozen=True, slots=True)
class Compute:
    """Add columns. A new column may not refer to another of the same step."""

    input: Relation
    columns: tuple[tuple[BoundColumn, Scalar], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """An aggregate over the rows of a group: its arguments, and the condition of the ...if() forms."""

    aggregate: Aggregate
    arguments: tuple[Scalar, ...]
    condition: Scalar | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Replace the rows by one for each combination of ``keys``: only the keys and the aggregates remain.

    Without keys: exactly one row, also over no rows. ``arg_extremes``: each (is_max, by, ((new column, source), ...))
    gives the sources' values in a row where ``by`` is extreme (null counts as no extreme unless all are null).
    """

    input: Relation
    keys: tuple[BoundColumn, ...]
    aggregates: tuple[tuple[BoundColumn, Call], ...] = ()
    arg_extremes: tuple[tuple[bool, Scalar, tuple[tuple[BoundColumn, Scalar], ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class SortKey:
    """A key of an order."""

    column: BoundColumn
    is_descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Order:
    """From here on the rows are in this order (within groups of ``within``)."""

    input: Relation
    keys: tuple[SortKey, ...]
    within: tuple[BoundColumn, ...] = ()


@dataclass(frozen=True, slots=True)
class Serial:
    """The order that the rows have now counts (serialize, and in front of window functions)."""

    input: Relation


@dataclass(frozen=True, slots=True)
class Limit:
    """Keep the first ``rows`` (of each group of ``within``)."""

    input: Relation
    rows: int
    within: tuple[BoundColumn, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """Keep any ``rows``, at random."""

    input: Relation
    rows: int


@dataclass(frozen=True, slots=True)
class Join:
    """``kind``: inner, innerunique, leftouter, rightouter, fullouter, leftsemi, leftanti, rightsemi, rightanti, cross.

    ``on``: pairs of equal scalars over the left and the right; null never equals null. Output: the columns of both
    sides (of one for semi and anti). ``filled``: (new column, old column) for columns that the outer side leaves empty
    and whose strings are '' then: the new ones replace the old; empty for inner kinds.
    """

    kind: str
    left: Relation
    right: Relation
    on: tuple[tuple[Scalar, Scalar], ...]
    filled: tuple[tuple[BoundColumn, BoundColumn], ...] = ()


@dataclass(frozen=True, slots=True)
class Union:
    """All rows of all inputs: for each input, the scalar (over its columns) of every output column."""

    inputs: tuple[Relation, ...]
    columns: tuple[BoundColumn, ...]
    values: tuple[tuple[Scalar, ...], ...]


@dataclass(frozen=True, slots=True)
class Expand:
    """mv-expand: one row for each element of the dynamic ``items`` (zipped, padded with null).

    ``items``: (new column, source scalar of type dynamic); the new column's type says what elements are converted to
    ("to typeof"); with type dynamic they stay. An array gives its elements; a bag gives bags of one property, or with
    ``bag_as_array`` arrays [key, value]; anything else itself, once. A row whose items are all null or empty gives one
    row with nulls, with ``drops_empty`` none. ``index``: a new column with the position, from 0. ``limit``: at most so
    many a row.
    """

    input: Relation
    items: tuple[tuple[BoundColumn, Scalar], ...]
    index: BoundColumn | None
    limit: int | None
    bag_as_array: bool = False
    drops_empty: bool = False


@dataclass(frozen=True, slots=True)
class Numbered:
    """Add ``column``: a number that is unique to each row (for ``within``)."""

    input: Relation
    column: BoundColumn


@dataclass(frozen=True, slots=True)
class Shared:
    """A relation that is used more than once. ``key`` is unique in the query. ``is_materialized``: computed once."""

    key: int
    relation: Relation
    is_materialized: bool


@dataclass(frozen=True, slots=True)
class Use:
    """The rows of ``shared``, with fresh column numbers: (new column, its column)."""

    shared: Shared
    columns: tuple[tuple[BoundColumn, BoundColumn], ...]


@dataclass(frozen=True, slots=True)
class Routine:
    """Rows computed by a Python routine of ``routines/`` from all rows of ``inputs``, for what SQL has no words for.

    ``name`` is the routine's; ``spec`` is JSON that says what to do (scalars inside are encoded by ``codec.py``).
    ``takes``: for each input the columns that are handed over, in order. Cells travel as in ``values.py``. ``order``:
    sort keys by which the first input is sorted before (empty: as it comes).
    """

    name: str
    spec: Mapping[str, Any]
    inputs: tuple[Relation, ...]
    takes: tuple[tuple[BoundColumn, ...], ...]
    columns: tuple[BoundColumn, ...]
    order: tuple[SortKey, ...] = ()


Relation = (
    Scan
    | Values
    | Numbers
    | Filter
    | Compute
    | Group
    | Order
    | Serial
    | Limit
    | Sample
    | Join
    | Union
    | Expand
    | Numbered
    | Use
    | Routine
)


@dataclass(frozen=True, slots=True)
class Visualization:
    """What render asked for: the kind of chart and its properties."""

    kind: str
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A bound query: its relation, the result's columns by name, in order, and how to draw them.

    ``others``: further results (fork, facet), each with its name.
    """

    relation: Relation
    columns: tuple[tuple[str, BoundColumn], ...]
    visualization: Visualization | None = None
    others: tuple[tuple[str, Relation, tuple[tuple[str, BoundColumn], ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What must be known before the rest can be bound (the keys of a pivot, the value of a toscalar where a constant
    is needed): ``plan`` gives it; ``key`` is its place in the query."""

    key: str
    plan: Plan


def inputs(relation: Relation) -> tuple[Relation, ...]:
    """The relations that ``relation`` reads directly."""
    if isinstance(relation, Join):
        return (relation.left, relation.right)
    if isinstance(relation, Union | Routine):
        return relation.inputs
    if isinstance(relation, Use):
        return (relation.shared.relation,)
    if isinstance(relation, Scan | Values | Numbers):
        return ()
    return (relation.input,)


def operands(scalar: Scalar) -> tuple[Scalar, ...]:
    """The scalars that ``scalar`` is made of, directly."""
    parts = _OPERANDS.get(type(scalar))
    return () if parts is None else parts(scalar)


def _path_operands(path: Path) -> tuple[Scalar, ...]:
    return (path.base, *(s for s in path.steps if not isinstance(s, str | int)))


def _choice_operands(choice: Choice) -> tuple[Scalar, ...]:
    return (*(s for pair in choice.pairs for s in pair), choice.otherwise)


def _window_operands(window: Window) -> tuple[Scalar, ...]:
    return (*window.arguments, *(() if window.restart is None else (window.restart,)))


_OPERANDS: Final[dict[type, Callable[[Any], tuple[Scalar, ...]]]] = {
    Apply: attrgetter("arguments"),
    Path: _path_operands,
    Convert: lambda scalar: (scalar.base,),
    Compare: attrgetter("left", "right"),
    OneOf: lambda scalar: (scalar.subject, *scalar.items),
    InRelation: lambda scalar: (scalar.subject,),
    Junction: attrgetter("operands"),
    Choice: _choice_operands,
    Window: _window_operands,
}
"""How each kind of scalar that is made of others gives them: asked for at every step of every walk."""


def refs(scalar: Scalar) -> Iterator[BoundColumn]:
    """Every column that ``scalar`` reads."""
    waiting = [scalar]
    while waiting:
        node = waiting.pop()
        if type(node) is Ref:
            yield node.column
        elif type(node) in _OPERANDS:
            waiting.extend(_OPERANDS[type(node)](node))
