"""The chain of common table expressions: SELECTs in the making, the steps that they become, and their text.

An ``Arm`` is a SELECT that still takes more: filters, columns, a group or an order. One that takes no more is closed
into a ``Step``, a common table expression. In the end the steps are walked backwards once, to leave out what nobody
reads, and printed. ``Rows`` is what is known about an arm's rows: the order of rows is kept there, not in the steps.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from typing import Final

from watchfloor.kql import ir
from watchfloor.kql.sql.dialect import Dialect, is_atom, template
from watchfloor.kql.sql.scalars import Piece, Scalars, name_of

_DEAR: Final = (
    (4, re.compile(r"\bkql_\w+\(")),
    (3, re.compile(r"\bregexp_|\bjson|\bfrom_json|\bSELECT\b|\brandom\(")),
    (2, re.compile(r"\bI?LIKE\b|\blower\(|\bcontains\(|\bCASE\b")),
    (1, re.compile("")),
)
"""Signs of a condition that costs much, the worst first."""

_COLUMN: Final = re.compile(r"\b[cowx]\d+\b")


@dataclass(eq=False, slots=True)
class Step:
    """A common table expression: its arms, joined by UNION ALL, all with the columns ``names``. ``weights``: see
    ``Chain._weights``."""

    arms: list[Arm]
    names: dict[str, None]
    mode: str = ""
    needed: dict[str, None] = field(default_factory=dict)
    name: str = ""
    weights: dict[str, int] | None = None


@dataclass(eq=False, slots=True)
class Arm:
    """A SELECT in the making. ``origin``: the parts of its FROM; ``columns``: what it computes or renames; any other of
    its ``names`` is that column of a source. ``forced``: columns that decide how many rows there are.
    ``computes``: whether any of ``columns`` is more than a column of a source or a constant."""

    origin: tuple[str | Step, ...]
    names: dict[str, None]
    columns: dict[str, Piece] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    prefix: str = ""
    tail: str = ""
    order: str = ""
    forced: tuple[str, ...] = ()
    is_closed: bool = False
    computes: bool = False

    def lookup(self, name: str) -> Piece:
        """The SQL of a column of this SELECT, for use in it."""
        return self.columns.get(name) or _column_piece(name)

    def add(self, name: str, piece: Piece) -> None:
        """One more column."""
        self.columns[name] = piece
        self.names[name] = None
        if piece.kind == "other":
            self.computes = True

    @property
    def is_plain(self) -> bool:
        """Whether this is all of one step and nothing else."""
        return (
            len(self.origin) == 1
            and isinstance(self.origin[0], Step)
            and not (self.columns or self.where or self.tail or self.order or self.prefix)
        )


@dataclass(frozen=True, slots=True)
class Key:
    """A column to order by."""

    name: str
    is_descending: bool = False
    nulls_first: bool = False
    is_real: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows so far. ``keys``: the sort in force; ``arrival``: columns by which rows that it does not tell apart came,
    all of them if ``is_total``. ``is_stored``: rows of a table, filtered and added to at most."""

    arm: Arm
    keys: tuple[Key, ...] = ()
    arrival: tuple[Key, ...] = ()
    is_total: bool = False
    is_stored: bool = False

    @property
    def order(self) -> tuple[Key, ...]:
        """All that is known about the order."""
        return (*self.keys, *(k for k in self.arrival if k not in self.keys))


class Chain(ABC):
    """The steps of one query, and what every relation needs to add to them."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.scalars = Scalars(dialect, self)
        self.tables: set[str] = set()
        self._steps: list[Step] = []
        self._shared: dict[int, Rows] = {}
        self._inner: dict[int, tuple[ir.Relation, Rows]] = {}
        self._numbered: set[str] = set()
        self._numbers = count(1)
        self._subqueries: list[tuple[Step, str]] = []

    @abstractmethod
    def rows(self, relation: ir.Relation) -> Rows:
        """The rows of ``relation``."""

    # -- the text --------------------------------------------------------------------------------------------------

    def _printed(self, final: Arm, outputs: list[tuple[str, str]]) -> str:
        last = Step([final], {})
        last.needed = {name: None for name, _ in outputs}
        used = self._prune(last)
        prefix = self._prefix()
        for number, step in enumerate(used, 1):
            step.name = f"{prefix}{number}"
        chain = ", ".join(f"{step.name} AS {self._mode(step)}({self._select_all(step)})" for step in used)
        text = f"WITH {chain} " if chain else ""
        text += self._select(final, [(alias, final.lookup(name).text) for name, alias in outputs] or [("x0", "1")])
        for step, token in self._subqueries:
            text = text.replace(token, step.name)
        return text + self.dialect.forms.get("settings", "")

    def _prefix(self) -> str:
        """What steps are called, so that no table is."""
        prefix = "s"
        while any(re.fullmatch(rf"{prefix}\d+", table, re.IGNORECASE) for table in self.tables):
            prefix += "s"
        return prefix

    def _prune(self, last: Step) -> list[Step]:
        """The steps that ``last`` needs, in order, each with the columns that are read from it."""
        needed: set[int] = {id(last)}
        for step, _ in self._subqueries:
            needed.add(id(step))
        used: list[Step] = []
        for step in [last, *reversed(self._steps)]:
            if id(step) not in needed:
                continue
            if step is not last:
                used.append(step)
            for arm in step.arms:
                reads = set(arm.reads)
                for name in (*step.needed, *arm.forced):
                    reads |= arm.lookup(name).reads
                for source in arm.origin:
                    if isinstance(source, Step):
                        needed.add(id(source))
                        source.needed.update((name, None) for name in source.names if name in reads)
        used.reverse()
        return used

    def _mode(self, step: Step) -> str:
        return f"{step.mode} " if step.mode else ""

    def _select_all(self, step: Step) -> str:
        found = []
        for arm in step.arms:
            names = [name for name in step.names if name in step.needed or name in arm.forced] or [""]
            found.append(self._select(arm, [(name, arm.lookup(name).text if name else "1") for name in names]))
        return " UNION ALL ".join(found)

    @staticmethod
    def _select(arm: Arm, outputs: Iterable[tuple[str, str]]) -> str:
        items = [text if text == alias else f"{text} AS {alias or 'x0'}" for alias, text in outputs]
        parts = ["SELECT", arm.prefix, ", ".join(items)] if arm.prefix else ["SELECT", ", ".join(items)]
        if arm.origin:
            parts += ["FROM", "".join(o.name if isinstance(o, Step) else o for o in arm.origin)]
        if arm.where:
            parts += ["WHERE", " AND ".join(sorted(arm.where, key=price))]
        if arm.tail and not arm.tail.startswith("LIMIT"):
            parts.append(arm.tail)
        if arm.order:
            parts.append(f"ORDER BY {arm.order}")
        if arm.tail.startswith("LIMIT"):
            parts.append(arm.tail)
        return " ".join(parts)

    # -- arms and steps --------------------------------------------------------------------------------------------

    def _over(self, step: Step) -> Arm:
        return Arm((step,), dict(step.names))

    def _close(self, arm: Arm) -> Step:
        if arm.is_plain:
            source = arm.origin[0]
            assert isinstance(source, Step)
            return source
        step = Step([arm], dict(arm.names))
        self._steps.append(step)
        self._weights(step)
        return step

    def _closed(self, rows: Rows) -> Rows:
        arm = self._over(self._close(rows.arm))
        return Rows(arm, rows.keys, rows.arrival, rows.is_total, rows.is_stored)

    def _keep_once(self, rows: Rows) -> None:
        """Numbers given by chance must be the same wherever they are read."""
        source = rows.arm.origin[0]
        if isinstance(source, Step) and not source.mode:
            source.mode = self.dialect.forms.get("once", "")

    def _weight(self, arm: Arm, piece: Piece) -> int:
        """How many columns of tables ``piece`` mentions once all that computes its columns is written out."""
        return _mentioned(piece, self._below(arm))

    def _below(self, arm: Arm) -> list[dict[str, int]]:
        found = [self._weights(origin) for origin in arm.origin if isinstance(origin, Step)]
        return [weights for weights in found if weights]

    def _weights(self, step: Step) -> dict[str, int]:
        """What the columns of ``step`` weigh, those that weigh more than 1."""
        if step.weights is None:
            step.weights = {}
            is_fenced = bool(step.mode) or any(arm.tail.startswith("LIMIT") for arm in step.arms)
            for arm in () if is_fenced else step.arms:
                below = self._below(arm)
                for passed in below:
                    for name, weight in passed.items():
                        if name in step.names and name not in arm.columns:
                            step.weights[name] = max(weight, step.weights.get(name, 1))
                for name, piece in arm.columns.items():
                    if piece.reads and name in step.names and (below or piece.kind == "other"):
                        weight = _mentioned(piece, below)
                        if weight > step.weights.get(name, 1):
                            step.weights[name] = weight
        return step.weights

    def _is_ready(self, rows: Rows, names: Iterable[str]) -> bool:
        """Whether ``names`` may be mentioned in the arm: none is computed there."""
        return not rows.arm.columns or all(rows.arm.lookup(name).kind == "column" for name in names)

    def _ready(self, rows: Rows, scalars: Iterable[ir.Scalar] = (), names: Iterable[str] = ()) -> Rows:
        """``rows`` in an arm that takes more, where ``scalars`` can be printed and ``names`` be mentioned."""
        arm = rows.arm
        if arm.is_closed or arm.tail or not self._is_ready(rows, names):
            return self._closed(rows)
        for scalar in scalars if arm.computes else ():
            for column in ir.refs(scalar):
                if arm.lookup(name_of(column)).kind == "other":
                    return self._closed(rows)
        return rows

    # -- words -----------------------------------------------------------------------------------------------------

    def _fresh(self, letter: str) -> str:
        return f"{letter}{next(self._numbers)}"

    def _say(self, form: str, *arguments: str) -> str:
        return self.dialect.say(form, *arguments)

    def _ordering(self, rows: Rows, arm: Arm, *, is_total: bool = False) -> str:
        """The ORDER BY list of the keys (and of the arrival), read in ``arm``."""
        keys = rows.order if is_total else rows.keys
        found = []
        for key in keys:
            piece = arm.lookup(key.name)
            arm.reads |= piece.reads
            words = " DESC" if key.is_descending else ""
            nulls = " NULLS FIRST" if key.nulls_first else "" if key.name[0] == "o" else " NULLS LAST"
            if key.is_real:  # NaN stands beside the nulls, whichever the direction
                found.append(f"{self._say('is_nan', piece.text)}{' DESC' if key.nulls_first else ''}{nulls}")
            found.append(f"{piece.text}{words}{nulls}")
        return ", ".join(found)

    def _list(self, item: str, order: str, condition: str) -> str:
        text = template(without(self.dialect.forms["list"], condition, order))
        return text.fill({"a": item, "order": order, "filter": condition}.__getitem__)

    # -- subqueries ------------------------------------------------------------------------------------------------

    def members(self, relation: ir.Relation, column: ir.BoundColumn, *, is_folded: bool) -> str:
        """See ``Subqueries``."""
        name = name_of(column)
        source = self._queried(relation).arm.origin[0]
        assert isinstance(source, Step)
        token = self._mention(source, name)
        item = self._say("fold", name) if is_folded else name
        where = f" WHERE {name} IS NOT NULL" if column.is_nullable else ""
        return f"SELECT {item} FROM {token}{where}"

    def first(self, relation: ir.Relation, column: ir.BoundColumn) -> str:
        """See ``Subqueries``."""
        rows = self._queried(relation)
        rows = replace(rows, arm=replace(rows.arm, reads=set()))
        name = name_of(column)
        order = self._ordering(rows, rows.arm, is_total=rows.is_total)
        source = rows.arm.origin[0]
        assert isinstance(source, Step)
        token = self._mention(source, name, *rows.arm.reads)
        return f"SELECT {name} FROM {token}{' ORDER BY ' + order if order else ''} LIMIT 1"

    def _queried(self, relation: ir.Relation) -> Rows:
        """The rows of ``relation`` for a query inside an expression; the same rows wherever it is mentioned."""
        known = self._inner.get(id(relation))
        if known is None:
            known = self._inner[id(relation)] = (relation, self._closed(self.rows(relation)))
        return known[1]

    def _mention(self, step: Step, *names: str) -> str:
        """What stands for the name of ``step`` in a query inside an expression, until it has one."""
        token = f"\0{len(self._subqueries)}\0"
        self._subqueries.append((step, token))
        step.needed.update(dict.fromkeys(names))
        return token


def price(condition: str) -> int:
    """A rank: what costs little is asked first. Engines learn a better order while they run, but from this one."""
    return next(rank for rank, signs in _DEAR if signs.search(condition))


def atom(text: str) -> str:
    return text if is_atom(text) else f"({text})"


def without(text: str, condition: str, order: str) -> str:
    """The template of an aggregate without the places for what there is none of."""
    text = text if condition else text.replace(" $filter", "")
    return text if order else text.replace(" $order", "")


@lru_cache(maxsize=4096)
def _column_piece(name: str) -> Piece:
    return Piece(name, frozenset((name,)), "column")


def _mentioned(piece: Piece, below: Sequence[Mapping[str, int]]) -> int:
    """What ``piece`` weighs over sources of such weights."""
    if not piece.reads:
        return 0
    names = [name for name in _COLUMN.findall(piece.text) if name in piece.reads]
    if not below:
        return len(names)
    return min(sum(max([weights.get(name, 1) for weights in below]) for name in names), 10**9)
