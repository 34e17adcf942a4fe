"""Functions over the rows before or behind, as windows of SQL.

SQL takes no window inside another. ``_Layers`` takes them apart: each layer is columns of one SELECT, over columns of
the layers before it. What is by chance in the order of rows is decided once, before the first layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from watchfloor.kql import ir
from watchfloor.kql.routines import RoutineRef
from watchfloor.kql.sql.scalars import Piece, name_of
from watchfloor.kql.sql.steps import Arm, Chain, Key, Rows, Step, atom
from watchfloor.kql.sql.trees import with_operands


class Windows(Chain):
    """Prints windows."""

    def _window(
        self,
        rows: Rows,
        arm: Arm,
        within: Sequence[str],
        *,
        first: Sequence[tuple[str, bool]] = (),
        frame: str = "",
    ) -> str:
        """The OVER of a window function in the order of ``rows``, or by ``first`` and then so."""
        parts = []
        if within:
            pieces = [arm.lookup(name) for name in within]
            for piece in pieces:
                arm.reads |= piece.reads
            parts.append(f"PARTITION BY {', '.join(p.text for p in pieces)}")
        keyed = replace(rows, keys=(*(Key(name, down) for name, down in first), *rows.keys))
        if order := self._ordering(keyed, arm, is_total=True):
            parts.append(f"ORDER BY {order}")
        if frame:
            parts.append(frame)
        return f"OVER ({' '.join(parts)})"

    def _must_number(self, what: str) -> None:
        if not self.dialect.has_windows:
            raise self.dialect.lacks(what)

    def _totally_ordered(self, rows: Rows) -> Rows:
        """``rows`` in an order that leaves nothing open: what is by chance is decided once."""
        if rows.is_total and rows.order:
            return rows
        rows = self._ready(rows, names=[k.name for k in rows.order])
        name = self._fresh("o")
        over = self._window(rows, rows.arm, ())
        rows.arm.add(name, Piece(f"row_number() {over}", frozenset(rows.arm.reads)))
        rows.arm.is_closed = True
        closed = self._closed(rows)
        self._keep_once(closed)
        return replace(closed, keys=(Key(name),), arrival=(), is_total=True, is_stored=False)

    def _windows(
        self, rows: Rows, columns: Sequence[tuple[ir.BoundColumn, ir.Scalar]]
    ) -> tuple[Rows, Sequence[tuple[ir.BoundColumn, ir.Scalar]]]:
        """``rows`` with every window of ``columns`` as a column, and ``columns`` that refer to those."""
        self._must_number("functions over the rows before or behind")
        rows = self._totally_ordered(rows)
        layers = _Layers(self._numbers)
        plain = [(column, layers.lowered(value)[0]) for column, value in columns]
        for layer in layers.layers:
            rows = self._ready(rows, (s for cell in layer for s in cell.arguments), [k.name for k in rows.order])
            sessions = []
            pieces = []
            for cell, column in layer.items():
                if cell.function == "session":
                    sessions.append((cell, column))
                else:
                    pieces.append((name_of(column), self._cell(rows, cell)))
            for name, piece in pieces:
                rows.arm.add(name, piece)
            rows.arm.is_closed = rows.arm.is_closed or bool(pieces)
            for cell, column in sessions:
                rows = self._session(rows, cell, column)
        return rows, plain

    def _cell(self, rows: Rows, cell: _Cell) -> Piece:
        arm = rows.arm
        arguments = [self.scalars.piece(a, arm, as_condition=cell.function == "restarts") for a in cell.arguments]
        reads = frozenset().union(*(a.reads for a in arguments))
        texts = [atom(a.text) for a in arguments]
        within = [(name, False) for name in cell.within]
        if cell.function == "position":
            return Piece(f"row_number() {self._window(rows, arm, (), first=within)}", reads)
        over = self._window(rows, arm, cell.within)
        running = self._window(rows, arm, cell.within, frame="ROWS UNBOUNDED PRECEDING")
        if cell.function == "row_number":
            start = cell.arguments[0]
            text = f"row_number() {over}"
            if not (isinstance(start, ir.Const) and start.value == 1):
                text += f" + {texts[0]} - 1"
        elif cell.function in ("prev", "next", "before"):
            text = f"{'lag' if cell.function != 'next' else 'lead'}({', '.join(texts)}) {over}"
            if cell.type == "string":
                text = f"coalesce({text}, '')"
        elif cell.function == "row_cumsum":
            text = self._say("cast", f"sum({texts[0]}) {running}", self.dialect.type(cell.type))
        else:
            text = self.dialect.form(f"running_{cell.function}").fill(
                lambda name: running if name == "over" else texts[ord(name) - 97]
            )
        return Piece(text, reads)

    def _session(self, rows: Rows, cell: _Cell, column: ir.BoundColumn) -> Rows:
        """The first time of the session of each row: a routine over the list of all, and each row's place in it."""
        rows = self._closed(rows)
        source = rows.arm.origin[0]
        assert isinstance(source, Step)
        self._keep_once(rows)
        arm = self._over(source)
        time, whole, between, restart, place = cell.arguments
        at = self.scalars.piece(place, arm)
        lists = []
        for kind, value in ((time.type, time), ("bool", restart)):
            piece = self.scalars.piece(value, arm, as_condition=kind == "bool")
            arm.reads |= piece.reads | at.reads
            handed = self.scalars.handed(kind, atom(piece.text))
            lists.append(self._list(handed, f"ORDER BY {at.text}", ""))
        steps = [self.scalars.handed(s.type, atom(self.scalars.piece(s, arm).text)) for s in (whole, between)]
        routine = RoutineRef("session", "session", 0, (time.type, whole.type), (time.type,))
        name = self._fresh("x")
        arm = Arm(arm.origin, {}, reads=arm.reads, is_closed=True)
        arm.add(name, Piece(self.scalars.call(routine, *lists, *steps), frozenset(arm.reads)))
        found = f"(SELECT {name} FROM {self._mention(self._close(arm), name)})"
        text = self.scalars.received(time.type, self._say("at", found, at.text))
        rows.arm.add(name_of(column), Piece(text, at.reads))
        return rows


@dataclass(frozen=True, slots=True)
class _Cell:
    """One window function of SQL: over the columns ``within``, without windows in its arguments."""

    function: str
    arguments: tuple[ir.Scalar, ...]
    within: tuple[str, ...]
    type: str


class _Layers:
    """Windows taken apart into those of SQL, in layers: each stands on columns of the layers before it."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.layers: list[dict[_Cell, ir.BoundColumn]] = []
        self._numbers = numbers
        self._levels: dict[str, int] = {}

    def lowered(self, scalar: ir.Scalar) -> tuple[ir.Scalar, int]:
        """``scalar`` with columns for windows, and how many layers must be below it."""
        if isinstance(scalar, ir.Window):
            return self._window(scalar)
        parts = [self.lowered(part) for part in ir.operands(scalar)]
        level = max((n for _, n in parts), default=0)
        return (with_operands(scalar, [part for part, _ in parts]), level) if level else (scalar, 0)

    def _window(self, window: ir.Window) -> tuple[ir.Scalar, int]:
        lowered = [self.lowered(a) for a in window.arguments]
        arguments = tuple(a for a, _ in lowered)
        level = max((n for _, n in lowered), default=0)
        within = tuple(name_of(c) for c in window.within)
        kind = window.function
        if kind == "row_window_session":
            return self._session(window, arguments, within, level)
        if window.restart is not None:
            restart, below = self.lowered(window.restart)
            group = self._add("restarts", (restart,), within, "long", below)
            within, level = (*within, name_of(group.column)), max(level, self._level(group))
        if kind == "row_number":
            found = self._add(kind, arguments or (ir.Const(1, "long"),), within, "long", level)
        elif kind in ("row_rank_dense", "row_rank_min"):
            number = self._add("row_number", (ir.Const(1, "long"),), within, "long", level)
            before = self._add("before", arguments[:1], within, arguments[0].type, level)
            found = self._add(kind, (number, arguments[0], before), within, "long", self._level(number))
        else:
            found = self._add(kind, arguments, within, window.type, level)
        return found, self._level(found)

    def _session(
        self, window: ir.Window, arguments: tuple[ir.Scalar, ...], within: tuple[str, ...], level: int
    ) -> tuple[ir.Scalar, int]:
        place = self._add("position", (), within, "long", 0)
        restart: ir.Scalar = ir.Const(False, "bool")
        below = 0
        if window.restart is not None:
            restart, below = self.lowered(window.restart)
        if within:
            number = self._add("row_number", (ir.Const(1, "long"),), within, "long", 0)
            is_first = ir.Compare("==", number, ir.Const(1, "long"), False)
            restart = ir.Junction("or", (restart, is_first), True)
        found = self._add("session", (*arguments, restart, place), (), window.type, max(level, below, 1))
        return found, self._level(found)

    def _add(
        self, function: str, arguments: tuple[ir.Scalar, ...], within: tuple[str, ...], kind: str, level: int
    ) -> ir.Ref:
        while len(self.layers) <= level:
            self.layers.append({})
        cell = _Cell(function, arguments, within, kind)
        if cell not in self.layers[level]:
            column = ir.BoundColumn(-next(self._numbers), kind, kind != "string")
            self.layers[level][cell] = column
            self._levels[name_of(column)] = level + 1
        return ir.Ref(self.layers[level][cell])

    def _level(self, ref: ir.Ref) -> int:
        return self._levels[name_of(ref.column)]
