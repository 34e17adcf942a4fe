"""The stream: alerts and decisions that are new, to a sink, in the order in which they were stored.

Like a job it takes no input: it reads how far the sink has been served, sends what is behind that, and moves on only
after the sink has acknowledged it. So an event may arrive twice (its ``metadata.uid`` says so), and is never lost; a
sink that fails is served again at the next run, and holds up nobody but itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import pyarrow as pa

from watchfloor.model import ocsf
from watchfloor.model.errors import WatchfloorError
from watchfloor.storage import findings
from watchfloor.storage.activity import Activity
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.exports import ocsf_events

BATCH: Final = 200
"""Events that are sent and acknowledged together."""

_ROUNDS: Final = 100
"""Batches of one run; the next goes on."""

_LEASE_SECONDS: Final = 120.0
_ACTOR: Final = "system:siem"
_DECISIONS: Final = (
    '"ToolCallDecided", "ToolResultDecided", "RequestRefused", "ToolChanged", "ToolFlagged", "GuardrailDecision"'
)

FEEDS: Final = (
    ("AlertInfo", ""),
    ("AgentActivity", f" and ActionType in ({_DECISIONS})"),
)
"""Tables that are streamed, alerts first, and which of their rows."""


class Sink(Protocol):
    """Where events go. ``name`` is stable: by it the place is kept up to which the sink was served."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def send(self, events: Sequence[ocsf.Event]) -> None:
        """Hand over ``events``. Returns once they are acknowledged; raises ``Unavailable`` if they may be lost."""
        ...


def stream(control: SqlControlStore, activity: Activity, sink: Sink, *, batch: int = BATCH) -> int:
    """Send what is new to ``sink``; how many events that were.

    The first run begins with the oldest that is kept. While another server serves the sink, nothing is sent. Raises
    ``Unavailable`` if the sink or the event store fails; what was not acknowledged is sent at the next run.
    """
    lease = control.lease(f"siem:{sink.name}", _LEASE_SECONDS)
    if lease is None:
        return 0
    sent = 0
    try:
        for table, where in FEEDS:
            for _ in range(_ROUNDS):
                found = _advance(control, activity, sink, table, where, batch)
                sent += found.sent
                if not found.is_behind or not lease.renew():
                    break
    finally:
        lease.release()
    return sent


def stream_to_all(control: SqlControlStore, activity: Activity, sinks: Sequence[Sink]) -> int:
    """``stream`` to each of ``sinks``, whatever becomes of the others. Raises the first error when all were tried."""
    sent, failed = 0, list[WatchfloorError]()
    for sink in sinks:
        try:
            sent += stream(control, activity, sink)
        except WatchfloorError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return sent


@dataclass(frozen=True, slots=True)
class _Advance:
    """What one batch did. ``is_behind``: more events are waiting."""

    sent: int = 0
    is_behind: bool = False


def _advance(control: SqlControlStore, activity: Activity, sink: Sink, table: str, where: str, batch: int) -> _Advance:
    """Send one batch of ``table``, and move the cursor behind it."""
    name = f"siem:{sink.name}:{table}"
    with control.read() as tx:
        cursor = findings.read_cursor(tx, name)
    newest = activity.query(f"{table} | where IngestSeq > {cursor} | summarize S = max(IngestSeq)", 1)["S"][0].as_py()
    if newest is None:
        return _Advance()
    rows, upto = _batch(activity, table, where, cursor, int(newest), batch)
    if rows.num_rows:
        sink.send(list(ocsf_events(table, rows, activity.query)))
    # INVARIANT: not before the sink has acknowledged.
    with control.tx(_ACTOR, audited=False) as tx:
        findings.move_cursor(tx, name, cursor, upto)
    return _Advance(rows.num_rows, upto < newest)


def _batch(activity: Activity, table: str, where: str, cursor: int, newest: int, batch: int) -> tuple[pa.Table, int]:
    """Rows behind ``cursor``, at most ``batch`` of them, and up to which position these are all.

    Rows that share one position are never parted, whatever their number.
    """
    source = f"{table} | where IngestSeq > {cursor} and IngestSeq <= {newest}{where}"
    rows = activity.query(f"{source} | sort by IngestSeq asc | take {batch}", batch)
    if rows.num_rows < batch:
        return rows, newest
    positions = rows["IngestSeq"].to_pylist()
    if whole := positions.index(positions[-1]):
        return rows.slice(0, whole), positions[whole - 1]
    return activity.query(f"{source} and IngestSeq == {positions[0]}", 100_000), positions[0]
