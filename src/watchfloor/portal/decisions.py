"""Decisions: what the guard answered, why, on what, and whether it would answer the same again.

Above ``storage.activity`` (the event store, asked in KQL) and the guard's ``replay``. Contents are apart: reading them
needs their own permission, and every reading is in the audit log before the content leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.guard import codec
from watchfloor.guard.engine import replay
from watchfloor.model.errors import Conflict, NotFound
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Verdict
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.times import utc
from watchfloor.portal.views import Page
from watchfloor.registry import policies as registry_policies
from watchfloor.storage.activity import DecisionFilter, text
from watchfloor.storage.tables import TABLES

router = APIRouter(prefix="/api/decisions", tags=["decisions"])

_DYNAMIC: Final = {
    name: frozenset(c.name for c in table.columns if c.type == "dynamic") for name, table in TABLES.items()
}
_NOT_SHOWN: Final = frozenset({"Facts"})
"""Facts name other things of the company; replay uses them, lists do not show them."""

MAX_CONTENTS: Final = 500

Row = dict[str, Any]
Name = Annotated[str, Query(max_length=300)]


class DecisionDetail(BaseModel):
    """One invocation: its decision, and what became of it. Columns are those of AgentActivity."""

    decision: Row
    events: list[Row]


class Contents(BaseModel):
    """Contents of invocations. Columns are those of AgentContent."""

    items: list[Row]


class ContentsBody(BaseModel):
    """Which invocations."""

    model_config = ConfigDict(extra="forbid")

    invocations: list[Annotated[str, Field(max_length=200)]] = Field(min_length=1, max_length=MAX_CONTENTS)


class ReplayView(BaseModel):
    """The recorded verdict, the one given now from the recorded input, and whether they are equal."""

    invocation: str
    equal: bool
    recorded: Row
    replayed: Row
    differences: list[str]
    policy_set: str


def shown(row: Mapping[str, Any], table: str = "AgentActivity") -> Row:
    """A row fit for JSON: dynamic columns parsed, empty ones and those that are not shown left out."""
    result: Row = {}
    for name, value in row.items():
        if value is None or name in _NOT_SHOWN:
            continue
        if name in _DYNAMIC[table] and isinstance(value, str):
            value = parsed(value)
        result[name] = value.isoformat() if isinstance(value, datetime) else value
    return result


def parsed(value: str) -> Any:
    """The JSON in ``value``, or ``value`` itself if it holds none."""
    try:
        return json.loads(value)
    except ValueError:
        return value


@router.get("", summary="Decisions and refused requests")
def list_decisions(
    viewer: Annotated[Viewer, permit(Permission.DECISION_READ)],
    deps: Deps,
    agent: Name = "",
    user: Name = "",
    server: Name = "",
    verdict: Annotated[str, Query(pattern="^(allow|redact|hold|block)?$")] = "",
    reason: Name = "",
    since: datetime | None = None,
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    after: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Page[Row]:
    """Newest first, ``before`` takes ``next``; with ``after`` oldest first, and ``after`` takes ``next``."""
    start = None if since is None else utc(since, "since")
    filters = DecisionFilter(agent, user, server, verdict, reason, start, before, after)
    rows = deps.activity.list_decisions(filters, limit)
    following = str(rows[-1]["IngestSeq"]) if len(rows) >= limit else None
    return Page(items=[shown(row) for row in rows], next=following)


def _find(deps: PortalDeps, invocation_id: str) -> tuple[Row, list[Row]]:
    rows = deps.activity.find_decision(invocation_id)
    decision = next((r for r in rows if text(r, "ActionType") == "ToolCallDecided"), None)
    if decision is None:
        raise NotFound(
            f"there is no decision about {invocation_id!r}.",
            where="invocation",
            remedy="It may not have arrived yet, or it is older than events are kept.",
        )
    return decision, rows


@router.get("/{invocation_id}", summary="One decision with its reasons")
def read_decision(
    invocation_id: str, viewer: Annotated[Viewer, permit(Permission.DECISION_READ)], deps: Deps
) -> DecisionDetail:
    """What was decided, why, and what became of the call. Contents are apart."""
    decision, rows = _find(deps, invocation_id)
    return DecisionDetail(decision=shown(decision), events=[shown(row) for row in rows])


def read_contents(deps: PortalDeps, viewer: Viewer, invocation_ids: Sequence[str]) -> list[Row]:
    """Contents, once the reading is in the audit log. INVARIANT: no content leaves without that entry."""
    rows = deps.activity.find_contents(invocation_ids)
    found = sorted({text(row, "InvocationId") for row in rows})
    if found:
        subject = f"invocation/{found[0]}" if len(found) == 1 else "invocations"
        with deps.control.tx(viewer.id) as tx:
            tx.audit("content:read", subject, {"invocations": found, "address": viewer.address})
    return rows


@router.get("/{invocation_id}/content", summary="The contents of one invocation (audited)")
def read_content(
    invocation_id: str, viewer: Annotated[Viewer, permit(Permission.CONTENT_READ)], deps: Deps
) -> Contents:
    """Arguments and the user's words, as decided on. The reading leaves an audit entry."""
    rows = read_contents(deps, viewer, [invocation_id])
    if not rows:
        raise NotFound(f"there is no content of {invocation_id!r}.", where="invocation")
    return Contents(items=[shown(row, "AgentContent") for row in rows])


@router.post("/contents", summary="The contents of several invocations (audited)")
def read_many_contents(
    body: ContentsBody, viewer: Annotated[Viewer, permit(Permission.CONTENT_READ)], deps: Deps
) -> Contents:
    """As for one; those that are not known are left out. One audit entry names all that were read."""
    rows = read_contents(deps, viewer, list(dict.fromkeys(body.invocations)))
    return Contents(items=[shown(row, "AgentContent") for row in rows])


@router.post("/{invocation_id}/replay", summary="Decide again, on the recorded input")
def replay_decision(
    invocation_id: str, viewer: Annotated[Viewer, permit(Permission.DECISION_READ)], deps: Deps
) -> ReplayView:
    """With the facts and the very policy versions of then. The contents are used, and not shown."""
    decision, _ = _find(deps, invocation_id)
    content = next((r for r in deps.activity.find_contents([invocation_id]) if text(r, "Kind") == "invocation"), None)
    if content is None:
        raise Conflict(
            "the contents of this call are no longer kept, so it cannot be decided again.", where="invocation"
        )
    policy_set = text(decision, "PolicySet")
    with deps.control.read() as tx:
        policies = registry_policies.find_set(tx, policy_set)
    if policies is None:
        raise Conflict(
            f"the policy set {policy_set[:12]} is not known, so the call cannot be decided again.", where="policy set"
        )
    try:
        again = replay(text(content, "Content"), text(decision, "Facts"), policies)
    except (ValueError, TypeError, KeyError) as error:
        raise Conflict(f"the record cannot be read: {error}.", where="invocation") from error
    recorded, replayed = _recorded(decision), _comparable(again)
    differences = [name for name in replayed if recorded.get(name) != replayed[name]]
    with deps.control.tx(viewer.id) as tx:
        tx.audit("decision:replay", f"invocation/{invocation_id}", {"equal": not differences})
    return ReplayView(
        invocation=invocation_id,
        equal=not differences,
        recorded=recorded,
        replayed=replayed,
        differences=differences,
        policy_set=policy_set,
    )


_COMPARED: Final = ("effect", "would_be", "reasons", "signals", "input_hash", "policy_set")


def _comparable(verdict: Verdict) -> Row:
    body = json.loads(codec.dump_verdict(verdict))
    return {name: body[name] for name in _COMPARED}


def _recorded(row: Mapping[str, Any]) -> Row:
    return {
        "effect": text(row, "Verdict"),
        "would_be": text(row, "WouldBe"),
        "reasons": parsed(text(row, "Reasons") or "[]"),
        "signals": parsed(text(row, "Signals") or "[]"),
        "input_hash": text(row, "InputHash"),
        "policy_set": text(row, "PolicySet"),
    }


def invocations_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Ids of invocations in ``rows``, each once."""
    return list(dict.fromkeys(text(row, "InvocationId") for row in rows if row.get("InvocationId")))
