"""What agents did, as the control plane asks for it: typed questions to the event store.

Below ``detection``, ``response`` and ``portal``; above the query compiler and the event store, through their ports.
Every question goes the way of any other KQL query, with a scope and limits, so that nobody holds a private door to the
events.
It does not know what the answers mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from watchfloor.storage.ports import EventStore, Limits, QueryCompiler, Scope
from watchfloor.storage.tables import TABLES

_ESCAPED: Final = re.compile(r'[\\"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')

SUMMARY_COLUMNS: Final = (
    "Timestamp", "IngestSeq", "ReportId", "ActionType", "InvocationId", "ConversationId", "SessionId", "AgentId",
    "AgentName", "AgentVersion", "UserId", "AccountUpn", "ActingMode", "CredentialOwner", "ServerId", "ToolName",
    "ToolEffect", "Verdict", "WouldBe", "ReasonCode", "PolicyId", "PolicyVersion", "IPAddress", "SourceDoor", "HoldId",
    "DecisionUs", "WorkerId",
)  # fmt: skip
"""What a list of decisions shows: no facts, no signals, no contents."""


_IDS_A_QUERY: Final = 500


def literal(text: str) -> str:
    """``text`` as a KQL string literal."""
    return '"' + _ESCAPED.sub(lambda m: f"\\u{ord(m[0]):04x}" if m[0] not in '\\"' else f"\\{m[0]}", text) + '"'


def moment(at: datetime) -> str:
    """``at`` as a KQL datetime literal, to the microsecond."""
    return f"datetime({at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z)"


def _any_of(column: str, values: Iterable[str]) -> str:
    return f"{column} in ({', '.join(literal(v) for v in values)})"


def _steps_of(agent_id: str, user_ids: Sequence[str], start: datetime, end: datetime) -> str:
    return (
        f"AgentActivity | where Timestamp >= {moment(start)} and Timestamp < {moment(end)}"
        f" | where AgentId == {literal(agent_id)} and {_any_of('UserId', user_ids)}"
    )


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions; empty means any. ``before`` and ``after`` are ingest positions: only older, only newer ones."""

    agent_id: str = ""
    user_id: str = ""
    server_id: str = ""
    verdict: str = ""
    reason_code: str = ""
    since: datetime | None = None
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """Questions to the event store within one scope."""

    events: EventStore
    compiler: QueryCompiler
    scope: Scope = field(default_factory=Scope)

    def query(self, kql: str, max_rows: int) -> pa.Table:
        """Run ``kql``. Raises ``InputError`` for what is not supported, ``Unavailable`` past the limits."""
        compiled = self.compiler.compile(kql, self.scope, self.events.dialect)
        batches = list(self.events.query(compiled, self.scope, Limits(max_rows=max_rows, timeout_seconds=30)))
        if batches:
            return pa.Table.from_batches(batches)
        # An empty answer still has columns: what reads it must not depend on whether there is a row.
        table = next(iter(compiled.tables), "AgentActivity")
        types = {f.name: f.type for f in TABLES[table].schema} if table in TABLES else {}
        return pa.schema([(name, types.get(name, pa.string())) for name, _ in compiled.columns]).empty_table()

    def after(self, seq: int, limit: int, columns: Sequence[str]) -> pa.Table:
        """Rows behind ``seq`` in order, at most ``limit``; rows that share one position are never parted.

        If one position alone holds more than ``limit`` rows, all of it is read.
        """
        project = f"| project {', '.join(columns)}"
        table = self.query(
            f"AgentActivity | where IngestSeq > {int(seq)} | sort by IngestSeq asc | take {limit} {project}", limit
        )
        if table.num_rows < limit:
            return table
        positions = table["IngestSeq"].to_pylist()
        last = positions[-1]
        whole = positions.index(last)
        if whole:
            return table.slice(0, whole)
        return self.query(f"AgentActivity | where IngestSeq == {int(last)} {project}", 1_000_000)

    def steps(self, report_ids: Sequence[str], start: datetime, end: datetime) -> list[dict[str, Any]]:
        """These rows of AgentActivity between two times (both included), oldest first, as far as they are stored."""
        columns = ", ".join((*SUMMARY_COLUMNS, "Reasons"))
        found: list[dict[str, Any]] = []
        for first in range(0, len(report_ids), _IDS_A_QUERY):
            chosen = report_ids[first : first + _IDS_A_QUERY]
            table = self.query(
                f"AgentActivity | where Timestamp between ({moment(start)} .. {moment(end)})"
                f" | where {_any_of('ReportId', chosen)} | project {columns}",
                10 * _IDS_A_QUERY,
            )
            found += table.to_pylist()
        once = {row["ReportId"]: row for row in found}
        return sorted(once.values(), key=lambda row: (row["Timestamp"], row["ReportId"]))

    def suspicious(
        self, agent_id: str, user_ids: Sequence[str], start: datetime, end: datetime, limit: int, columns: Sequence[str]
    ) -> pa.Table:
        """Steps of one agent for some users in ``[start, end)`` that were refused or should have been, oldest first."""
        return self.query(
            f"{_steps_of(agent_id, user_ids, start, end)}"
            ' | where Verdict == "block" or WouldBe == "block"'
            ' or ActionType in ("RequestRefused", "ToolChanged", "ToolFlagged", "HoldLimited")'
            ' or (ActionType == "GuardrailDecision" and Verdict == "redact")'
            f" | sort by Timestamp asc | take {limit} | project {', '.join(columns)}",
            limit,
        )

    def let_out(
        self, agent_id: str, user_ids: Sequence[str], start: datetime, end: datetime, limit: int, columns: Sequence[str]
    ) -> pa.Table:
        """Calls of one agent for some users in ``[start, end)`` that were let out or held, the latest ``limit``."""
        return self.query(
            f"{_steps_of(agent_id, user_ids, start, end)}"
            ' | where ActionType == "ToolCallDecided" and Verdict != "block"'
            f" | sort by Timestamp desc | take {limit} | project {', '.join(columns)}",
            limit,
        )

    def holds_after(self, seq: int, upto: int, limit: int) -> list[dict[str, Any]]:
        """Decisions that wait for an operator, or were let out by one, behind ``seq`` and up to ``upto``."""
        table = self.query(
            f"AgentActivity | where IngestSeq > {int(seq)} and IngestSeq <= {int(upto)}"
            ' | where ActionType == "ToolCallDecided" and (Verdict == "hold"'
            ' or (isnotempty(HoldId) and Verdict in ("allow", "redact")))'
            f" | sort by IngestSeq asc | take {limit}",
            limit,
        )
        return _rows(table)

    def oldest_after(self, seq: int, upto: int) -> datetime | None:
        """When the first of the events behind ``seq`` and up to ``upto`` happened, however late it arrived."""
        found = self.query(
            f"AgentActivity | where IngestSeq > {int(seq)} and IngestSeq <= {int(upto)}"
            " | summarize Oldest = min(Timestamp)",
            1,
        )
        value = found["Oldest"][0].as_py() if found.num_rows else None
        return value.astimezone(UTC) if isinstance(value, datetime) else None

    def newest_seq(self) -> int:
        """The last position in the event store, 0 if it is empty."""
        table = self.query("AgentActivity | sort by IngestSeq desc | take 1 | project IngestSeq", 1)
        return int(table["IngestSeq"][0].as_py()) if table.num_rows else 0

    def list_decisions(self, filters: DecisionFilter, limit: int) -> list[dict[str, Any]]:
        """Decisions and refused requests: newest first, or, with ``after``, oldest first.

        Rows that share one ingest position are never parted, so a page may hold a few more than ``limit``.
        """
        where = ['ActionType in ("ToolCallDecided", "RequestRefused")']
        for column, value in (
            ("AgentId", filters.agent_id),
            ("UserId", filters.user_id),
            ("ServerId", filters.server_id),
            ("Verdict", filters.verdict),
            ("ReasonCode", filters.reason_code),
        ):
            if value:
                where.append(f"{column} == {literal(value)}")
        if filters.since is not None:
            where.append(f"Timestamp >= {moment(filters.since)}")
        if filters.before is not None:
            where.append(f"IngestSeq < {int(filters.before)}")
        if filters.after is not None:
            where.append(f"IngestSeq > {int(filters.after)}")
        source, project = f"AgentActivity | where {' and '.join(where)}", f"| project {', '.join(SUMMARY_COLUMNS)}"
        order = "asc" if filters.after is not None else "desc"
        rows = _rows(self.query(f"{source} | sort by IngestSeq {order} | take {limit} {project}", limit))
        if len(rows) < limit:
            return rows
        last = rows[-1]["IngestSeq"]
        whole = [row for row in rows if row["IngestSeq"] != last]
        return whole + _rows(self.query(f"{source} | where IngestSeq == {int(last)} {project}", 100_000))

    def find_decision(self, invocation_id: str) -> list[dict[str, Any]]:
        """Everything recorded of one invocation, oldest first; empty if it is not known."""
        table = self.query(
            f"AgentActivity | where InvocationId == {literal(invocation_id)} | sort by Timestamp asc | take 50", 50
        )
        return _rows(table)

    def find_contents(self, invocation_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The contents of invocations. The caller has checked the permission, and audits the reading."""
        most = 4 * len(invocation_ids)
        return _rows(
            self.query(
                f"AgentContent | where {_any_of('InvocationId', invocation_ids)} | sort by Timestamp asc | take {most}",
                most,
            )
        )


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def text(row: Mapping[str, Any], column: str) -> str:
    """The value of a string column, empty for null."""
    value = row.get(column)
    return "" if value is None else str(value)
