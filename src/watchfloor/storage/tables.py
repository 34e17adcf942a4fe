"""The event tables: names, columns and types, as data.

Arrow schemas here are what the log carries and the store holds; the KQL catalogue is derived from them. Column names
follow Microsoft's where a column of theirs exists. Times are UTC microseconds. Columns of KQL type ``dynamic`` hold
JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

_ARROW: Final[dict[str, pa.DataType]] = {
    "datetime": TIMESTAMP,
    "string": pa.string(),
    "dynamic": pa.string(),
    "long": pa.int64(),
    "int": pa.int32(),
    "real": pa.float64(),
    "bool": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its KQL type and what it means."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True, slots=True)
class Table:
    """An event table. ``is_content`` marks the content tier: reading it needs its own permission and is audited."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    is_content: bool = False

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, with the table's name in its metadata."""
        return pa.schema([(c.name, _ARROW[c.type]) for c in self.columns], metadata={"table": self.name})

    def batch(self, rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
        """``rows`` as one batch; a missing column is null, times may be integers (Unix microseconds).

        Raises ``pyarrow.ArrowInvalid`` where a value does not fit its column.
        """
        rows = list(rows)
        schema = self.schema
        arrays = []
        for f in schema:
            values = [row.get(f.name) for row in rows]
            arrays.append(pa.array(values, type=f.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


_COMMON: Final = (
    Column("Timestamp", "datetime", "When it happened, by the clock of the door that saw it."),
    Column("IngestTime", "datetime", "When the event store took it in."),
    Column("IngestSeq", "long", "Position in the event store; grows with every batch."),
    Column("TenantId", "string", "The tenant that the row belongs to."),
    Column("ReportId", "string", "The event's own id (evt_…)."),
)

AGENT_ACTIVITY: Final = Table(
    "AgentActivity",
    "One row for each observed step of an agent. Message contents are in AgentContent.",
    (
        *_COMMON,
        Column(
            "ActionType", "string", "ToolCallDecided, ToolCallCompleted, ToolListServed, RequestRefused, ToolChanged."
        ),
        Column("InvocationId", "string", "The attempt to call a tool (inv_…); joins decision and completion."),
        Column("TraceId", "string", "W3C trace id, where the caller sent one."),
        Column("ConversationId", "string", "The user-agent thread."),
        Column("SessionId", "string", "The sign-in session."),
        Column("AgentId", "string", "The agent."),
        Column("AgentName", "string", "Its name at the time."),
        Column("AgentVersion", "string", "Its version at the time."),
        Column("ParentAgentId", "string", "The agent that handed over to this one."),
        Column("UserId", "string", "The user on whose behalf it acted; empty when it acted as itself."),
        Column("AccountUpn", "string", "The user's principal name."),
        Column("ActingMode", "string", "human, agent or on-behalf-of."),
        Column("CredentialOwner", "string", "Whose credentials the tool saw: user, maker or app."),
        Column("ServerId", "string", "The tool server."),
        Column("ToolName", "string", "The tool."),
        Column("ToolEffect", "string", "read, create, update, delete, send, pay or unknown."),
        Column("Verdict", "string", "What was enforced: allow, redact, hold or block."),
        Column("WouldBe", "string", "What would have been, had every policy been enforced."),
        Column("ReasonCode", "string", "Code of the deciding reason."),
        Column("Reasons", "dynamic", "Every reason: code, step, effect, mode, severity, message, policy and version."),
        Column("Signals", "dynamic", "What the detectors saw."),
        Column("PolicyId", "string", "The deciding policy."),
        Column("PolicyVersion", "long", "Its version."),
        Column("PolicySet", "string", "Hash of all policies in force."),
        Column("InputHash", "string", "SHA-256 of everything that was decided on."),
        Column("Facts", "dynamic", "The facts that the decision used, for replay."),
        Column("IPAddress", "string", "The caller's address."),
        Column("SourceDoor", "string", "The door that saw it: mcp, stdio, decide."),
        Column("Status", "string", "ok, error, cancelled, refused or timeout."),
        Column("HttpStatus", "long", "The tool server's HTTP status."),
        Column("ErrorCode", "long", "JSON-RPC error code, if any."),
        Column("DurationMs", "real", "Milliseconds from request to end of answer."),
        Column("DecisionUs", "real", "Microseconds that the guard took."),
        Column("BytesOut", "long", "Size of the answer."),
        Column("HoldId", "string", "The hold that this call waits for or was released by."),
        Column("WorkerId", "string", "The gateway worker."),
        Column("SchemaVersion", "long", "Version of this row's shape."),
        Column("AdditionalFields", "dynamic", "Anything else."),
    ),
)

AGENT_CONTENT: Final = Table(
    "AgentContent",
    "Message contents: arguments of calls, the user's words. Kept apart, with their own permission and retention.",
    (
        *_COMMON,
        Column("InvocationId", "string", "The attempt to call a tool."),
        Column("AgentId", "string", "The agent."),
        Column("Kind", "string", "invocation: the invocation as decided on."),
        Column("Content", "dynamic", "The content."),
    ),
    is_content=True,
)

TABLES: Final[dict[str, Table]] = {t.name: t for t in (AGENT_ACTIVITY, AGENT_CONTENT)}
"""Every event table by name. Adding one: an entry here, a page in docs/tables.md (checked by test)."""

SCHEMA_VERSION: Final = 1
