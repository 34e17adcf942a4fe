"""The scan operator: a state machine that goes over rows in order and builds sequences of them.

State k, of step k, holds for each of the steps up to k the last row that matched it, and the number of the sequence.
Every row is tried against the steps from the last to the first. It either carries the sequence of the step before on to
this step, or repeats this step (the first step may always begin). An input row can so match several steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from watchfloor.kql import ir
from watchfloor.kql.codec import decode, decode_value
from watchfloor.kql.evaluate.scalars import Value, compile_scalar
from watchfloor.kql.routines.common import Budget, Cells, Spec, Table, empty, keys, routine

Row = dict[int, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A step, compiled. ``state``: the numbers of columns ``step.x``, and where x is (declared ones from -1 down)."""

    output: str
    condition: Value
    assignments: tuple[tuple[int, Value], ...]
    state: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class State:
    """The sequence that is active at a step: the columns of the state, the sequence's number, and which output a next
    match would replace."""

    columns: Row
    match: int
    waiting: int | None = None


class Scan:
    """One pass over the rows of one group.

    ``_nothing`` has the columns of a state in which no step has a row yet: declared ones their defaults, others null.
    """

    def __init__(self, spec: Spec) -> None:
        self._numbers: list[int] = spec["columns"][0]
        self._declared = [(d["number"], decode_value(d["default"], d["type"])) for d in spec["declared"]]
        self._has_match = spec["match_id"]
        self._nothing: Row = {}
        self._steps = [self._step(step) for step in spec["steps"]]
        self._states: list[State | None] = []
        self._matches = 0
        self._found: list[Cells | None] = []

    def _step(self, step: Spec) -> Step:
        condition = decode(step["condition"])
        assignments = [(place, decode(value)) for place, value in step["assignments"]]
        for scalar in (condition, *(value for _, value in assignments)):
            for column in ir.refs(scalar):
                self._nothing.setdefault(column.number, empty(column.type))
        state = tuple((number, source) for number, source in step["state"])
        for number, source in state:
            if source < 0:
                self._nothing[number] = self._declared[-1 - source][1]
        compiled = tuple((place, compile_scalar(value)) for place, value in assignments)
        return Step(step["output"], compile_scalar(condition), compiled, state)

    def run(self, rows: Table, budget: Budget) -> Iterator[Cells]:
        """The output for ``rows``, one group of the input."""
        self._states = [None] * len(self._steps)
        self._matches = 0
        self._found = []
        for cells in rows:
            budget.check()
            row = dict(zip(self._numbers, cells, strict=True)) | dict(self._declared)
            for place in range(len(self._steps) - 1, -1, -1):
                self._try(place, cells, row)
        return (cells for cells in self._found if cells is not None)

    def _try(self, place: int, cells: Cells, row: Row) -> None:
        step = self._steps[place]
        before = self._states[place - 1] if place else None
        if before is not None and step.condition(self._nothing | before.columns | row) is True:
            self._states[place - 1] = None
            self._match(step, place, State(before.columns, before.match), cells, row)
            return
        active = self._states[place]
        if active is None and place:
            return
        columns = {} if active is None else active.columns
        if step.condition(self._nothing | columns | row) is not True:
            return
        if active is None:
            active = State({}, self._matches)
            self._matches += 1
        elif active.waiting is not None:
            self._found[active.waiting] = None
            active.waiting = None
        self._match(step, place, active, cells, row)

    def _match(self, step: Step, place: int, state: State, cells: Cells, row: Row) -> None:
        """``row`` matches ``step`` and takes its place in ``state``, which becomes the state of the step."""
        seen = self._nothing | state.columns | row
        declared = [default for _, default in self._declared]
        for position, value in step.assignments:
            declared[position] = value(seen)
        columns = dict(state.columns)
        for number, source in step.state:
            columns[number] = cells[source] if source >= 0 else declared[-1 - source]
        state.columns = columns
        self._states[place] = state
        if step.output != "none":
            if step.output == "last":
                state.waiting = len(self._found)
            self._found.append([*cells, *declared, *([state.match] if self._has_match else [])])


@routine("scan")
def scan(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """The rows that match steps, with the declared columns and the number of the sequence."""
    groups: dict[tuple[Any, ...], Table] = {}
    for cells in tables[0]:
        groups.setdefault(keys(cells, spec["within"]), []).append(cells)
    machine = Scan(spec)
    for rows in groups.values():
        yield from machine.run(rows, budget)
