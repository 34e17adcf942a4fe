"""Notices to makers: from what a hunt, a posture indicator or a block shows to one message for each maker.

Above ``response.makers`` and ``response.maker_messages``. What is shown before sending is what is sent. Makers see and
acknowledge what is about their own agents; a mail's link does that without signing in (``notice_pages``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import Conflict, NotFound
from watchfloor.model.notices import Item, ItemState, Notice, NoticeState
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.channels import JOB, MessageView, message_view
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.hunting import check_text, scope_of
from watchfloor.portal.views import Page, page
from watchfloor.response import acknowledge, follow_up, maker_messages, makers
from watchfloor.response.digest import plain_text
from watchfloor.response.makers import Plan, Subject
from watchfloor.storage import channels, inventory, messages, notices, people, posture
from watchfloor.storage.control import ControlTx
from watchfloor.storage.hunting import Hunted, Request

router = APIRouter(prefix="/api", tags=["notices"])

Teller = Annotated[Viewer, permit(Permission.NOTICE_SEND)]
Reader = Annotated[Viewer, permit(Permission.ALERT_READ)]
Anybody = Annotated[Viewer, permit(Permission.PORTAL_USE)]
AgentIdField = Annotated[str, Field(max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoticeBody(_Body):
    """What is wrong: a hunting template, a posture indicator, a query that gives AgentId, a block, or only ``reason``.

    Without ``agent_ids`` it is about all that are found. ``reason`` names what a query finds, or says why something was
    blocked; ``note`` is added for the makers. Both go out in the clear.
    """

    agent_ids: list[AgentIdField] = Field(default=[], max_length=makers.MOST_AGENTS)
    template: str = Field(default="", max_length=100)
    indicator: str = Field(default="", max_length=100)
    query: str = Field(default="", max_length=100_000)
    block: bool = False
    reason: str = Field(default="", max_length=500)
    note: str = Field(default="", max_length=2_000)


class ReasonBody(_Body):
    """Why."""

    reason: str = Field(min_length=1, max_length=2_000, pattern=r"\S")


class SkippedView(BaseModel):
    """An agent that nobody is told of, and why."""

    agent_id: str
    why: str


class ToldView(BaseModel):
    """Somebody who is told by mail, and what."""

    user_id: str
    address: str
    subject: str
    text: str


class MakerView(BaseModel):
    """What one maker is told. ``notice_id`` is null where none waits yet; ``problem``: why it is somebody else, or
    nobody, who is told by mail."""

    maker_id: str
    notice_id: str | None
    agents: list[str]
    told: list[ToldView]
    problem: str


class PlannedView(BaseModel):
    """Whom to tell what. ``channels`` are told of all of it; ``problem``: why no mail goes out."""

    makers: list[MakerView]
    channels: list[str]
    skipped: list[SkippedView]
    problem: str


class NoticeItemView(BaseModel):
    """One thing that is wrong with one agent. ``is_accepted``: nobody is reminded of it, as somebody accepts it."""

    agent_id: str
    about: str
    what: str
    recommendation: str
    note: str
    state: ItemState
    is_accepted: bool
    opened_at: datetime | None
    closed_at: datetime | None


class NoticeView(BaseModel):
    """A notice: what one maker was asked to change, and how far that is."""

    id: str
    maker_id: str
    state: NoticeState
    created_at: datetime
    created_by: str
    send_at: datetime
    sent_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str
    reminders: int
    reminded_at: datetime | None
    escalated_at: datetime | None
    closed_at: datetime | None
    reason: str
    items: list[NoticeItemView]


class NoticeDetailView(NoticeView):
    """A notice with what became of its messages."""

    messages: list[MessageView]


# -- telling ----------------------------------------------------------------------------------------------------------


@router.post("/notices/preview", summary="Whom a notice would tell what")
def preview_notice(body: NoticeBody, viewer: Teller, deps: Deps) -> PlannedView:
    """Nothing is stored and nobody told."""
    about, matches = _looked(body, viewer, deps)
    with deps.control.read() as tx:
        planned = makers.plan(tx, about, body.agent_ids, matches, body.note)
        return _planned(tx, deps, planned)


@router.post("/notices", status_code=201, summary="Notify makers")
def open_notices(body: NoticeBody, viewer: Teller, deps: Deps) -> PlannedView:
    """One notice for each maker, sent when its window is over, with what else the maker is told by then."""
    about, matches = _looked(body, viewer, deps)
    with deps.control.tx(viewer.id) as tx:
        planned = makers.plan(tx, about, body.agent_ids, matches, body.note)
        told = _planned(tx, deps, planned)
        if not planned.items:
            raise Conflict("nobody is to be told.", where="agent_ids", remedy=_why_nobody(planned))
        opened = makers.open_notices(tx, planned, deps.notices)
    deps.nudge("send_notices")
    for view in told.makers:
        view.notice_id = opened[view.maker_id].id
    return told


def _looked(body: NoticeBody, viewer: Viewer, deps: PortalDeps) -> tuple[Subject, Collection[str] | None]:
    """What it is about, and the agents of which it is so now."""
    check_text(body.query)
    about = makers.subject(
        template=body.template, indicator=body.indicator, query=body.query, block=body.block, words=body.reason
    )

    def hunt(asked: Request) -> Hunted:
        return deps.hunts.start(asked, viewer.id).result()

    return about, makers.matching(deps.control, hunt, scope_of(deps, viewer), deps.now(), about)


def _why_nobody(planned: Plan) -> str:
    return "; ".join(f"{one.agent_id}: {one.why}" for one in planned.skipped[:5]) or "Nothing was found."


def _planned(tx: ControlTx, deps: PortalDeps, planned: Plan) -> PlannedView:
    views = []
    for maker_id, items in planned.items.items():
        waiting = notices.find_waiting(tx, maker_id)
        notice = waiting or Notice("ntc_new", maker_id, NoticeState.WAITING, tx.now, "", tx.now)
        together = [*(maker_messages.open_items(tx, notice.id) if waiting else ()), *items]
        addressees, said = maker_messages.preview(tx, notice, together, deps.notices)
        told = []
        for user_id, digest in said.items():
            user = people.find_user(tx, user_id)
            address = user.upn if user else ""
            told.append(ToldView(user_id=user_id, address=address, subject=digest.title, text=plain_text(digest)))
        views.append(
            MakerView(
                maker_id=maker_id,
                notice_id=waiting.id if waiting else None,
                agents=sorted({item.agent_id for item in together}),
                told=told,
                problem=addressees.problem,
            )
        )
    return PlannedView(
        makers=views,
        channels=[channel.id for channel in channels.list_channels(tx) if channel.is_enabled],
        skipped=[SkippedView(agent_id=one.agent_id, why=one.why) for one in planned.skipped],
        problem="" if deps.notices.has_mail else "No mail goes out: smtp_host is not set.",
    )


# -- notices ----------------------------------------------------------------------------------------------------------


@router.get("/notices", summary="Notices to makers, newest first")
def list_notices(
    viewer: Reader,
    deps: Deps,
    state: Annotated[list[NoticeState], Query(max_length=5)] = [],  # noqa: B006 - FastAPI copies it
    maker: Annotated[str, Query(max_length=200)] = "",
    agent: Annotated[str, Query(max_length=200)] = "",
    before: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[NoticeView]:
    """``before`` takes ``next``."""
    with deps.control.read() as tx:
        found = notices.list_notices(
            tx,
            states=[each.value for each in state],
            maker_id=maker,
            agent_ids=[agent] if agent else None,
            before=before,
            limit=limit,
        )
        items = notices.list_items(tx, [notice.id for notice in found])
        return page([_view(tx, notice, items[notice.id]) for notice in found], limit, "id")


@router.get("/notices/{notice_id}", summary="One notice, and what became of its messages")
def read_notice(notice_id: str, viewer: Reader, deps: Deps) -> NoticeDetailView:
    """A message that failed says why."""
    with deps.control.read() as tx:
        return _detail(tx, _find(tx, notice_id))


@router.post("/notices/{notice_id}/send", summary="Send a notice at once")
def send_notice(notice_id: str, viewer: Teller, deps: Deps) -> NoticeDetailView:
    """Without waiting for more to tell the same maker."""
    with deps.control.tx(viewer.id) as tx:
        notice = _find(tx, notice_id)
        if notice.state is not NoticeState.WAITING:
            raise Conflict(f"the notice is {notice.state}.", where="notice")
        view = _detail(tx, maker_messages.send(tx, notice, deps.notices))
    deps.nudge(JOB)
    return view


@router.post("/notices/{notice_id}/cancel", summary="Ask for nothing of a notice any more")
def cancel_notice(notice_id: str, body: ReasonBody, viewer: Teller, deps: Deps) -> NoticeDetailView:
    """Whoever was told is not told of that; nobody is reminded."""
    with deps.control.tx(viewer.id) as tx:
        notice = _find(tx, notice_id)
        if not notice.state.is_open:
            raise Conflict(f"the notice is {notice.state}.", where="notice")
        for item in maker_messages.open_items(tx, notice_id):
            notices.close_item(tx, item, ItemState.CANCELLED)
        cancelled = replace(notice, state=NoticeState.CANCELLED, closed_at=tx.now, reason=body.reason)
        notices.save_notice(tx, cancelled)
        tx.audit("notice:cancel", f"notice/{notice_id}", {"reason": body.reason})
        return _detail(tx, cancelled)


# -- one's own --------------------------------------------------------------------------------------------------------


@router.get("/account/notices", summary="Notices about my agents, newest first")
def list_own_notices(
    viewer: Anybody,
    deps: Deps,
    before: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[NoticeView]:
    """What was sent about agents that I made, own or sponsor; of these alone. ``before`` takes ``next``."""
    with deps.control.read() as tx:
        own = _own_agents(tx, viewer.id)
        sent = [state.value for state in NoticeState if state is not NoticeState.WAITING]
        found = notices.list_notices(tx, states=sent, agent_ids=own, before=before, limit=limit)
        items = notices.list_items(tx, [notice.id for notice in found])
        views = [_view(tx, n, [item for item in items[n.id] if item.agent_id in own]) for n in found]
        return page(views, limit, "id")


@router.post("/notices/{notice_id}/acknowledge", summary="Say that I have read a notice about my agents")
def acknowledge_notice(notice_id: str, viewer: Anybody, deps: Deps) -> NoticeView:
    """By whoever made, owns or sponsors one of its agents. A corrected version goes to `/api/requests`."""
    with deps.control.tx(viewer.id) as tx:
        own = _own_agents(tx, viewer.id)
        notice = notices.find_notice(tx, notice_id)
        items = [i for i in notices.list_items(tx, [notice_id])[notice_id] if i.agent_id in own]
        if notice is None or not items:
            raise NotFound(f"there is no notice {notice_id!r}.", where="notice")
        return _view(tx, acknowledge.acknowledge(tx, notice, viewer.id, "signed in"), items)


def _own_agents(tx: ControlTx, user_id: str) -> set[str]:
    """Ids of operators and of users are compared as they are: the same id is the same person."""
    return {a.id for a in inventory.list_agents(tx) if user_id in (a.maker_id, a.owner_id, a.sponsor_id)}


def _find(tx: ControlTx, notice_id: str) -> Notice:
    found = notices.find_notice(tx, notice_id)
    if found is None:
        raise NotFound(f"there is no notice {notice_id!r}.", where="notice")
    return found


def _view(tx: ControlTx, notice: Notice, items: list[Item]) -> NoticeView:
    accepted = follow_up.accepted_findings(tx)
    shown = {name: getattr(notice, name) for name in NoticeView.model_fields if name != "items"}
    return NoticeView(**shown, items=[_item_view(item, accepted) for item in items])


def _item_view(item: Item, accepted: Collection[posture.Key]) -> NoticeItemView:
    return NoticeItemView(
        agent_id=item.agent_id,
        about=str(item.source),
        what=item.what,
        recommendation=item.recommendation,
        note=item.note,
        state=item.state,
        is_accepted=item.closed_at is None and follow_up.is_accepted(item, accepted),
        opened_at=item.opened_at,
        closed_at=item.closed_at,
    )


def _detail(tx: ControlTx, notice: Notice) -> NoticeDetailView:
    view = _view(tx, notice, notices.list_items(tx, [notice.id])[notice.id])
    return NoticeDetailView(
        **view.model_dump(), messages=[message_view(m) for m in messages.list_of_notice(tx, notice.id)]
    )
