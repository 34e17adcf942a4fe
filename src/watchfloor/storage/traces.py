"""Traces: what an agent did in one conversation, step by step, as a tree.

Steps come from two sides that do not know each other: agents tell of theirs as spans, the gateway records what it
decided. ``build`` lays both into one tree, by span ids, and a decision below the tool call that it is about. It is pure
and the same for any order of the rows. Beside it are the questions to the event store, asked through ``Activity``
within its scope; contents are asked for apart. It knows no viewers.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from watchfloor.storage.activity import Activity, literal, moment, text

MAX_STEPS: Final = 10_000
"""Steps of a trace that are read: of a longer one the first."""

MAX_APART: Final = timedelta(seconds=60)
"""How far the gateway's clock and an agent's may differ where only tool and time join a decision with a call."""

STEP_COLUMNS: Final = (
    "Timestamp", "IngestSeq", "ReportId", "ActionType", "InvocationId", "TraceId", "SpanId", "ParentSpanId",
    "ConversationId", "SessionId", "AgentId", "AgentName", "AgentVersion", "ParentAgentId", "TargetAgentId",
    "TargetAgentName", "UserId", "AccountUpn", "ActingMode", "CredentialOwner", "ServerId", "ToolName", "ToolEffect",
    "ToolCallId", "ToolType", "Verdict", "WouldBe", "ReasonCode", "Reasons", "Signals", "PolicyId", "PolicyVersion",
    "OperationName", "Model", "Provider", "InputTokens", "OutputTokens", "GuardianName", "DecisionTarget",
    "RiskCategory", "RiskSeverity", "RiskScore", "ChannelName", "ServiceName", "ServerAddress", "SourceId",
    "SourceDoor", "IPAddress", "Status", "HttpStatus", "ErrorCode", "ErrorType", "DurationMs", "DecisionUs",
    "BytesOut", "HoldId", "AdditionalFields",
)  # fmt: skip
"""What a step shows. Not the facts of a decision, which name other things of the company."""

Row = Mapping[str, Any]


# -- the tree ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the tree: a step, or (``row`` None) a trace that holds steps.

    ``id`` is unique in its tree, ``parent`` the id of the node above, empty for a trace; ``depth`` counts from 0.
    ``trace_id`` is empty for what belongs to no trace. ``doubles`` are the spans that tell of the same tool call and
    have no place of their own; ``caller`` is the nearest step above that names an agent, if it names another one.
    """

    id: str
    parent: str
    depth: int
    row: Row | None
    trace_id: str
    doubles: tuple[Row, ...] = ()
    caller: Row | None = None


def build(rows: Iterable[Row]) -> list[Node]:
    """``rows`` of AgentActivity as a tree, depth first, siblings by time. Every row is in it exactly once.

    The top are traces, by their first step. A step hangs below the span that it names as its parent; what the gateway
    recorded below the agent's step that it is about; everything else below its trace. A span of MCP that tells of a
    call once more is not in a place of its own, but with the step that it doubles. Ids that are used twice, or that
    lead round in a circle, change where a step hangs, never whether.
    """
    ordered = sorted(rows, key=_arrival)
    parents, into = _parents(ordered)
    below: dict[int | str, list[int]] = {}
    doubles: dict[int, list[Row]] = {}
    for place, row in enumerate(ordered):
        if place in into:
            doubles.setdefault(_kept(place, into), []).append(row)
            continue
        above = parents[place]
        while above is not None and above in into:
            above = parents[above] if into[above] == place else into[above]
        below.setdefault(text(row, "TraceId") if above is None else above, []).append(place)
    found: list[Node] = []
    for trace_id in dict.fromkeys(text(row, "TraceId") for row in ordered):
        if trace_id not in below:
            continue
        top = Node(f"trace:{trace_id}", "", 0, None, trace_id)
        found.append(top)
        teller: Row | None = None
        waiting = [(place, top, teller) for place in reversed(below[trace_id])]
        while waiting:
            place, above_node, teller = waiting.pop()
            row = ordered[place]
            node = Node(
                str(row["IngestSeq"]),
                above_node.id,
                above_node.depth + 1,
                row,
                text(row, "TraceId"),
                tuple(doubles.get(place, ())),
                teller if teller is not None and _is_another_agent(teller, row) else None,
            )
            found.append(node)
            if text(row, "AgentId") or text(row, "AgentName"):
                teller = row
            waiting += [(child, node, teller) for child in reversed(below.get(place, ()))]
    return found


def _is_another_agent(one: Row, other: Row) -> bool:
    """Whether they certainly are steps of two agents: by id, where both tell one, else by name."""
    for column in ("AgentId", "AgentName"):
        if text(one, column) and text(other, column):
            return text(one, column) != text(other, column)
    return False


def _arrival(row: Row) -> tuple[datetime, int]:
    return row["Timestamp"], row["IngestSeq"]


def _parents(rows: Sequence[Row]) -> tuple[list[int | None], dict[int, int]]:
    """For each row the place of the row that it hangs below, None: below its trace; and which rows double which."""
    spans: dict[tuple[str, str], int] = {}
    decided: dict[str, int] = {}
    for place, row in enumerate(rows):
        if span := text(row, "SpanId"):
            spans.setdefault((text(row, "TraceId"), span), place)  # of a span that is told twice the first
        if row["ActionType"] == "ToolCallDecided" and (invocation := text(row, "InvocationId")):
            decided.setdefault(invocation, place)
    found: list[int | None] = []
    for place, row in enumerate(rows):
        span = text(row, "ParentSpanId")
        above = spans.get((text(row, "TraceId"), span)) if span else None
        found.append(None if above == place else above)
    _cut_circles(found)
    into = _doubles(rows, found)
    calls = _Calls(rows, into)
    for place, row in enumerate(rows):
        above = found[place]
        if above is None and row["ActionType"] == "ToolCallCompleted":
            above = decided.get(text(row, "InvocationId"))
        if above is None and row["ActionType"] in _ABOUT_CALLS:
            above = calls.about(row)
        found[place] = None if above == place else above
    _cut_circles(found)
    return found, into


def _doubles(rows: Sequence[Row], parents: Sequence[int | None]) -> dict[int, int]:
    """Spans of MCP that tell of a tool call which the step next to them tells of, by place; and that step.

    One below a step with the same tool doubles that; one above a step with the same tool that is not of MCP doubles
    this one. ``_LINES`` says the same in KQL.
    """
    into: dict[int, int] = {}
    for place, above in enumerate(parents):
        if above is None or not (_is_call(rows[place]) and _is_call(rows[above])):
            continue
        if text(rows[place], "ToolName") != text(rows[above], "ToolName"):
            continue
        if text(rows[place], "ToolType") == _MCP:
            into[place] = above
        elif text(rows[above], "ToolType") == _MCP:
            into[above] = place  # and no longer what is above it: that told of it from further away
    return into


def _kept(place: int, into: Mapping[int, int]) -> int:
    """The step that has a place of its own where the one at ``place`` has none."""
    while place in into:
        place = into[place]
    return place


_MCP: Final = "mcp"


def _is_call(row: Row) -> bool:
    """Whether an agent tells of a tool call here."""
    if row["ActionType"] == "McpRequest":
        return text(row, "OperationName") == "tools/call" and text(row, "ToolName") != ""
    return row["ActionType"] == "ExecuteToolBySDK" and text(row, "ToolName") != ""


_ABOUT_CALLS: Final = frozenset({"ToolCallDecided", "ToolCallCompleted", "GuardrailDecision"})


class _Calls:
    """The tool calls that agents tell of, to be found by what others say about them."""

    def __init__(self, rows: Sequence[Row], doubles: Container[int]) -> None:
        self._rows = rows
        self._by_id: dict[str, list[int]] = {}
        self._by_tool: dict[tuple[str, str], list[int]] = {}
        self._taken: set[int] = set()
        for place, row in enumerate(rows):
            if place not in doubles and (row["ActionType"] == "ExecuteToolBySDK" or _is_call(row)):
                if call := text(row, "ToolCallId"):
                    self._by_id.setdefault(call, []).append(place)
                self._by_tool.setdefault((text(row, "TraceId"), text(row, "ToolName")), []).append(place)

    def about(self, row: Row) -> int | None:
        """The call that ``row`` is about: by its id, else by trace and tool the nearest in time.

        Asked in the order of time: a call that was given away is given again only where no other is as near.
        """
        trace_id, tool = text(row, "TraceId"), text(row, "ToolName")
        candidates = self._by_id.get(text(row, "ToolCallId"), [])
        same = [place for place in candidates if trace_id in ("", text(self._rows[place], "TraceId"))]
        if not same and trace_id and tool:
            candidates = self._by_tool.get((trace_id, tool), [])
            same = [place for place in candidates if self._apart(place, row) <= MAX_APART]
        if not same:
            return None
        best = min(same, key=lambda place: (self._apart(place, row), place in self._taken, -place))
        if row["ActionType"] != "GuardrailDecision":
            self._taken.add(best)
        return best

    def _apart(self, place: int, row: Row) -> timedelta:
        """How far ``row`` lies outside of the call's time."""
        call = self._rows[place]
        start: datetime = call["Timestamp"]
        at: datetime = row["Timestamp"]
        return max(start - at, at - start - timedelta(milliseconds=_duration(call)), timedelta())


def _duration(row: Row) -> float:
    """Milliseconds; what a sender claims may be no duration at all."""
    value = row.get("DurationMs")
    return value if isinstance(value, int | float) and 0 <= value < 1e12 else 0.0


def _cut_circles(parents: list[int | None]) -> None:
    """Hang the earliest row of every circle below its trace."""
    is_sound = [False] * len(parents)
    for start in range(len(parents)):
        path: list[int] = []
        seen: set[int] = set()
        place: int | None = start
        while place is not None and not is_sound[place] and place not in seen:
            path.append(place)
            seen.add(place)
            place = parents[place]
        if place is not None and place in seen:
            parents[min(path[path.index(place) :])] = None
        for passed in path:
            is_sound[passed] = True


# -- questions to the event store -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Which conversations and traces; empty means any. One step that fits is enough, all steps are counted.

    ``after`` is ``following`` of the page before.
    """

    since: datetime
    agent_id: str = ""
    user_id: str = ""
    conversation_id: str = ""
    after: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True)
class TraceLine:
    """A conversation, or a trace that belongs to none. ``traces`` is how many traces it has; ``newest`` is when its
    newest step was that fits what was asked for."""

    id: str
    newest: datetime
    first: datetime
    last: datetime
    agents: tuple[str, ...]
    users: tuple[str, ...]
    steps: int
    blocked: int
    held: int
    errors: int
    traces: int


@dataclass(frozen=True, slots=True)
class TracePage:
    """Some lines, and where the list goes on; None: that was all. A page may be shorter than it was asked to be."""

    lines: tuple[TraceLine, ...]
    following: tuple[datetime, str] | None


_KEYS: Final = """
AgentActivity
| where {period} and (isnotempty(ConversationId) or isnotempty(TraceId) or isnotempty(InvocationId)) and {fits}
| extend Call = iff(isempty(ConversationId) and isempty(TraceId), InvocationId, "")
| summarize Newest = max(Timestamp) by ConversationId, TraceId, Call
| top {limit} by Newest desc
"""
_LINES: Final = """
let Conversations = AgentActivity
    | where {since} and isnotempty(ConversationId) and (ConversationId in ({conversations}) or TraceId in ({traces}))
    | distinct ConversationId;
let Traces = materialize(AgentActivity
    | where {since} and isnotempty(TraceId) and (TraceId in ({traces}) or ConversationId in (Conversations))
    | distinct TraceId);
let Calls = materialize(AgentActivity
    | where {since} and TraceId in (Traces) and isnotempty(SpanId) and SpanId != ParentSpanId and isnotempty(ToolName)
        and (ActionType == "ExecuteToolBySDK" or (ActionType == "McpRequest" and OperationName == "tools/call"))
    | project TraceId, SpanId, ParentSpanId, ToolName, ReportId, IsMcp = ToolType == "mcp");
let Doubles = union
    (Calls | where IsMcp
    | join kind=leftsemi (Calls | project TraceId, ParentSpanId = SpanId, ToolName) on TraceId, ParentSpanId, ToolName
    | project ReportId),
    (Calls | where IsMcp
    | join kind=leftsemi (Calls | where not(IsMcp) | project TraceId, SpanId = ParentSpanId, ToolName)
        on TraceId, SpanId, ToolName
    | project ReportId);
AgentActivity
| where {since} and (TraceId in (Traces) or ConversationId in (Conversations)
    or (isempty(TraceId) and isempty(ConversationId) and InvocationId in ({calls})))
| join kind=leftanti Doubles on ReportId
| join kind=leftouter (
    AgentActivity
    | where {since} and TraceId in (Traces) and isnotempty(ConversationId)
    | summarize Whole = min(ConversationId) by TraceId) on TraceId
| extend Id = case(isnotempty(Whole), Whole, isnotempty(ConversationId), ConversationId, isnotempty(TraceId), TraceId,
    InvocationId)
| summarize Newest = maxif(Timestamp, {fits}), First = min(Timestamp), Last = max(Timestamp), Steps = count(),
    Blocked = countif(Verdict == "block"), Held = countif(Verdict == "hold"),
    Errors = countif(Status in ("error", "timeout")), Traces = dcountif(TraceId, isnotempty(TraceId)),
    Agents = make_set_if(iff(isempty(AgentName), AgentId, AgentName), isnotempty(AgentId), 20),
    Users = make_set_if(iff(isempty(AccountUpn), UserId, AccountUpn), isnotempty(UserId) or isnotempty(AccountUpn), 20)
    by Id
| where isnotnull(Newest) and {behind}
| sort by Newest desc, Id asc
| take {limit}
| extend Agents = tostring(Agents), Users = tostring(Users)
"""


def list_traces(activity: Activity, filters: TraceFilter, limit: int) -> TracePage:
    """Conversations and traces, the one with the newest step that fits first. Steps that belong to none are in no line.

    A trace belongs to the conversation that its steps name, and so do those of its steps that name none.
    """
    fits, since = _fits(filters), f"Timestamp >= {moment(filters.since)}"
    period, behind = since, "true"
    if filters.after is not None:
        newest, key = moment(filters.after[0]), literal(filters.after[1])
        period = f"{since} and Timestamp <= {newest}"
        behind = f"(Newest < {newest} or (Newest == {newest} and strcmp(Id, {key}) > 0))"
    # First what the newest steps belong to, from four narrow columns; then only those in full.
    most = _KEYS_A_LINE * limit + 1
    keys = activity.query(_KEYS.format(period=period, fits=fits, limit=most), most).to_pylist()
    if not keys:
        return TracePage((), None)
    asked = _LINES.format(
        since=since,
        fits=fits,
        behind=behind,
        limit=limit + 1,
        conversations=_listed(key["ConversationId"] for key in keys),
        traces=_listed(key["TraceId"] for key in keys),
        calls=_listed(key["Call"] for key in keys),
    )
    lines = [_line(row) for row in activity.query(asked, limit + 1).to_pylist()]
    if len(keys) == most:  # behind the last of them may be steps that would make another order
        cut: datetime = keys[-1]["Newest"]
        lines = [line for line in lines if line.newest > cut]
        if len(lines) <= limit:
            return TracePage(tuple(lines), (cut, ""))
    following = (lines[limit - 1].newest, lines[limit - 1].id) if len(lines) > limit else None
    return TracePage(tuple(lines[:limit]), following)


_KEYS_A_LINE: Final = 4
"""Traces of a conversation that are expected among its newest steps."""


def _fits(filters: TraceFilter) -> str:
    found = ["true"]
    for columns, value in (
        (("AgentId",), filters.agent_id),
        (("UserId", "AccountUpn"), filters.user_id),
        (("ConversationId",), filters.conversation_id),
    ):
        if value:
            found.append(f"({' or '.join(f'{column} == {literal(value)}' for column in columns)})")
    return " and ".join(found)


def _listed(values: Iterable[str]) -> str:
    return f"dynamic([{', '.join(literal(value) for value in sorted(set(values)) if value)}])"


def _line(row: Row) -> TraceLine:
    return TraceLine(
        id=row["Id"],
        newest=row["Newest"],
        first=row["First"],
        last=row["Last"],
        agents=_names(row["Agents"]),
        users=_names(row["Users"]),
        steps=row["Steps"],
        blocked=row["Blocked"],
        held=row["Held"],
        errors=row["Errors"],
        traces=row["Traces"],
    )


def _names(listed: str) -> tuple[str, ...]:
    found: list[str] = orjson.loads(listed or "[]")
    return tuple(sorted(found))


def find_steps(activity: Activity, trace_id: str) -> list[dict[str, Any]]:
    """The steps of a conversation or trace, or of one call that belongs to none: the first ``MAX_STEPS`` and one more.

    To a conversation belong all steps of its traces, whichever conversation they name.
    """
    if not trace_id:  # every step that belongs nowhere
        return []
    wanted = literal(trace_id)
    traces = f"AgentActivity | where ConversationId == {wanted} and isnotempty(TraceId) | distinct TraceId"
    belongs = (
        f"(ConversationId == {wanted} or TraceId == {wanted} or InvocationId == {wanted} or TraceId in ({traces}))"
    )
    # First when they were, from few columns; then only that part of the store in full.
    ends = "summarize First = min(Timestamp), Last = max(Timestamp), N = count()"
    (span,) = activity.query(f"AgentActivity | where {belongs} | {ends}", 1).to_pylist()
    if not span["N"]:
        return []
    period = f"Timestamp >= {moment(span['First'])} and Timestamp <= {moment(span['Last'])}"
    rows: list[dict[str, Any]] = activity.query(
        f"AgentActivity | where {period} | where {belongs} | sort by Timestamp asc, IngestSeq asc"
        f" | take {MAX_STEPS + 1} | project {', '.join(STEP_COLUMNS)}",
        MAX_STEPS + 1,
    ).to_pylist()
    return rows


def find_step_contents(activity: Activity, rows: Sequence[Row]) -> dict[int, list[dict[str, Any]]]:
    """The contents of steps, by the ``IngestSeq`` of the step. The caller has checked the permission, and audits it.

    Contents of a span that is told twice are the first row's; those of a call are its decision's.
    """
    by_span: dict[tuple[str, str], int] = {}
    by_call: dict[str, int] = {}
    for row in sorted(rows, key=_arrival):
        if span := text(row, "SpanId"):
            by_span.setdefault((text(row, "TraceId"), span), row["IngestSeq"])
        elif row["ActionType"] == "ToolCallDecided":
            by_call.setdefault(text(row, "InvocationId"), row["IngestSeq"])
    conditions = []
    if by_span:
        traces, spans = (", ".join(sorted({literal(key[n]) for key in by_span})) for n in (0, 1))
        conditions.append(f"(TraceId in ({traces}) and SpanId in ({spans}))")
    if by_call:
        conditions.append(f"InvocationId in ({', '.join(sorted(map(literal, by_call)))})")
    found: dict[int, list[dict[str, Any]]] = {}
    if not conditions:
        return found
    query = f"AgentContent | where {' or '.join(conditions)} | sort by Timestamp asc, IngestSeq asc"
    for content in activity.query(query, _MAX_CONTENTS).to_pylist():
        of_span = by_span.get((text(content, "TraceId"), text(content, "SpanId")))
        step = by_call.get(text(content, "InvocationId")) if of_span is None else of_span
        if step is not None:
            found.setdefault(step, []).append(content)
    return found


_MAX_CONTENTS: Final = 20_000
