"""Traces: conversations with agents, each as a tree of steps: prompt, inference, tool call, verdict, result, answer.

Above ``storage.traces``. What was said is left out unless it is asked for by who may read contents; every reading is in
the audit log before the content leaves, as in ``decisions``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel

from watchfloor.model.errors import Denied, InputError, NotFound
from watchfloor.model.people import PERMISSIONS, Permission, Role
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.decisions import Row, shown
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.times import utc
from watchfloor.portal.views import Page
from watchfloor.storage import traces
from watchfloor.storage.activity import text

router = APIRouter(prefix="/api/traces", tags=["traces"])

_LOOKS_BACK: Final = timedelta(days=7)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR: Final = re.compile(r"(\d{1,17})~(.*)", re.DOTALL)
_CONTENT_COLUMNS: Final = ("Kind", "Content")

Name = Annotated[str, Query(max_length=300)]


class TraceLine(BaseModel):
    """A conversation, or a trace that belongs to none. ``traces``: how many it has; agents and users by name."""

    id: str
    first: datetime
    last: datetime
    agents: list[str]
    users: list[str]
    steps: int
    blocked: int
    held: int
    errors: int
    traces: int


class TraceNode(BaseModel):
    """A place in the tree. ``parent`` is the ``id`` of the node above, null at the top; ``depth`` counts from 0.

    ``kind``: trace (holds steps), prompt, hand_off, inference, tool_call, verdict, result, answer or step. ``step`` has
    the columns of AgentActivity that are filled; ``content`` what was said, where it was asked for: kind and content;
    ``doubles`` the ReportId of spans of MCP that tell of the same tool call and are not shown apart.
    """

    id: str
    parent: str | None
    depth: int
    kind: str
    title: str
    step: Row | None
    content: list[Row] | None = None
    doubles: list[str] = []


class TraceTree(BaseModel):
    """A page of a tree, depth first; ``after`` takes ``next``. ``steps`` counts all; ``is_truncated``: there are more
    than are read, these are the first."""

    id: str
    steps: int
    is_truncated: bool
    nodes: list[TraceNode]
    next: str | None = None


@router.get("", summary="Conversations and traces")
def list_traces(
    viewer: Annotated[Viewer, permit(Permission.DECISION_READ)],
    deps: Deps,
    agent: Name = "",
    user: Name = "",
    conversation: Name = "",
    since: datetime | None = None,
    after: Annotated[str, Query(max_length=1000)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Page[TraceLine]:
    """The one with the newest step first, ``after`` takes ``next`` until that is null; a page may be shorter than
    ``limit``. Without ``since``, those of seven days.

    ``agent``, ``user`` (id or principal name) and ``conversation`` ask for traces that have a step of theirs, the one
    with the newest of these first.
    """
    start = deps.now() - _LOOKS_BACK if since is None else utc(since, "since")
    filters = traces.TraceFilter(start, agent, user, conversation, _cursor(after) if after else None)
    found = traces.list_traces(deps.activity, filters, limit)
    following = f"{_micros(found.following[0])}~{found.following[1]}" if found.following else None
    return Page(items=[_line(line) for line in found.lines], next=following)


def _line(line: traces.TraceLine) -> TraceLine:
    return TraceLine(
        id=line.id,
        first=line.first.astimezone(UTC),
        last=line.last.astimezone(UTC),
        agents=list(line.agents),
        users=list(line.users),
        steps=line.steps,
        blocked=line.blocked,
        held=line.held,
        errors=line.errors,
        traces=line.traces,
    )


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _cursor(after: str) -> tuple[datetime, str]:
    found = _CURSOR.fullmatch(after)
    if found is None:
        raise InputError("this is no place in the list.", where="after", remedy="Give the next of a page.")
    return _EPOCH + timedelta(microseconds=int(found[1])), found[2]


@router.get("/{trace_id:path}", summary="A conversation or trace as a tree")
def read_trace(
    trace_id: str,
    viewer: Annotated[Viewer, permit(Permission.DECISION_READ)],
    deps: Deps,
    content: bool = False,
    after: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> TraceTree:
    """Steps that agents told of, with the gateway's decisions below the calls that they are about; depth first.

    ``content`` adds prompts, thoughts, arguments, results and answers: it needs the permission to read contents, and
    the reading leaves an audit entry.
    """
    if content and Permission.CONTENT_READ not in viewer.permissions:
        holders = ", ".join(role.value for role in Role if Permission.CONTENT_READ in PERMISSIONS[role])
        raise Denied(f"This needs the permission {Permission.CONTENT_READ}. Roles that have it: {holders}.")
    rows = traces.find_steps(deps.activity, trace_id)
    if not rows:
        raise NotFound(
            f"there is no trace and no conversation {trace_id[:200]!r}.",
            where="trace",
            remedy="It may not have arrived yet, or it is older than events are kept.",
        )
    is_truncated = len(rows) > traces.MAX_STEPS
    rows = rows[: traces.MAX_STEPS]
    tree = traces.build(rows)
    start = 0
    if after:
        start = next((place for place, node in enumerate(tree, 1) if node.id == after), 0)
        if not start:
            raise InputError("this is no place in the tree.", where="after", remedy="Begin again without it.")
    page = tree[start : start + limit]
    said = read_contents(deps, viewer, trace_id, page) if content else {}
    return TraceTree(
        id=trace_id,
        steps=sum(node.row is not None for node in tree),
        is_truncated=is_truncated,
        nodes=[_node(node, said.get(node.id, []) if content and node.row is not None else None) for node in page],
        next=page[-1].id if start + limit < len(tree) else None,
    )


def read_contents(
    deps: PortalDeps, viewer: Viewer, trace_id: str, page: Sequence[traces.Node]
) -> Mapping[str, list[Row]]:
    """What was said in the steps of ``page``, by node, once the reading is in the audit log.

    INVARIANT: no content leaves without that entry.
    """
    shown_in = {row["IngestSeq"]: node.id for node in page if node.row is not None for row in (node.row, *node.doubles)}
    rows = [row for node in page if node.row is not None for row in (node.row, *node.doubles)]
    found = traces.find_step_contents(deps.activity, rows)
    if found:
        steps = [text(row, "ReportId") for row in rows if row["IngestSeq"] in found]
        with deps.control.tx(viewer.id) as tx:
            tx.audit("content:read", f"trace/{trace_id}"[:300], {"events": steps, "address": viewer.address})
    said: dict[str, list[Row]] = {}
    for step, contents in found.items():
        said.setdefault(shown_in[step], []).extend(
            {name: value for name, value in shown(content, "AgentContent").items() if name in _CONTENT_COLUMNS}
            for content in contents
        )
    return said


def _node(node: traces.Node, said: list[Row] | None) -> TraceNode:
    kind = "trace" if node.row is None else _kind(node.row, node.caller)
    return TraceNode(
        id=node.id,
        parent=node.parent or None,
        depth=node.depth,
        kind=kind,
        title=f"Trace {node.trace_id}".strip() if node.row is None else _title(kind, node.row, node.caller),
        step=None if node.row is None else {k: v for k, v in shown(node.row).items() if v != ""},
        content=said,
        doubles=[text(row, "ReportId") for row in node.doubles],
    )


_KINDS: Final = {
    "InferenceCall": "inference",
    "ExecuteToolBySDK": "tool_call",
    "ToolCallDecided": "verdict",
    "GuardrailDecision": "verdict",
    "ToolCallCompleted": "result",
    "OutputMessages": "answer",
}


def _kind(row: Mapping[str, Any], caller: Mapping[str, Any] | None) -> str:
    action = text(row, "ActionType")
    if action == "InvokeAgent":
        return "hand_off" if caller is not None or any(text(row, column) for column in _HANDED_OVER) else "prompt"
    if action == "McpRequest" and text(row, "OperationName") == "tools/call":
        return "tool_call"
    return _KINDS.get(action, "step")


_HANDED_OVER: Final = ("ParentAgentId", "TargetAgentId", "TargetAgentName")
"""Any of these says that an agent asks another."""


def _title(kind: str, row: Mapping[str, Any], caller: Mapping[str, Any] | None) -> str:
    """The step in few words."""
    agent = _agent(row) or "an agent"
    tool = text(row, "ToolName") or "a tool"
    server = f" on {text(row, 'ServerId')}" if text(row, "ServerId") else ""
    match kind:
        case "prompt":
            return f"{text(row, 'AccountUpn') or text(row, 'UserId') or 'Somebody'} to {agent}"
        case "hand_off":
            target = text(row, "TargetAgentName") or text(row, "TargetAgentId")
            if target:
                return f"{agent} to {target}"
            return f"{(_agent(caller) if caller else '') or text(row, 'ParentAgentId')} to {agent}"
        case "inference":
            return text(row, "Model") or "A model"
        case "tool_call" | "result":
            outcome = f": {text(row, 'Status')}" if text(row, "Status") else ""
            return f"{tool}{server}{outcome}"
        case "verdict":
            reason = f" ({text(row, 'ReasonCode')})" if text(row, "ReasonCode") else ""
            about = f"{tool}{server}" if text(row, "ToolName") else text(row, "DecisionTarget") or tool
            return f"{text(row, 'Verdict') or 'no verdict'} for {about}{reason}"
        case "answer":
            return f"{agent} answers"
    return text(row, "OperationName") or text(row, "ActionType")


def _agent(row: Mapping[str, Any]) -> str:
    return text(row, "AgentName") or text(row, "AgentId")
