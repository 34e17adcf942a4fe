"""The Agent Store: agents that the viewer may use, what each can reach and as whom; and asking for others.

Above ``registry.agentstore``. The viewer is the user of the same id; whoever is no user sees what everybody may use.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.agents import CredentialOwner
from watchfloor.model.errors import InputError
from watchfloor.model.people import Permission
from watchfloor.portal.admin import agent_detail
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import AgentDetailView, Page
from watchfloor.registry import agentstore
from watchfloor.registry.agentstore import Offer
from watchfloor.storage import offers
from watchfloor.storage.offers import Ask, AskState

router = APIRouter(prefix="/api", tags=["store"])

Shopper = Annotated[Viewer, permit(Permission.STORE_USE)]
Approver = Annotated[Viewer, permit(Permission.AGENT_APPROVE)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TakeBody(_Body):
    """``pinned``: shown before all others."""

    pinned: bool = False


class ReasonBody(_Body):
    """Why."""

    reason: str = Field(max_length=2000)


class AudienceBody(ReasonBody):
    """Who may use the agent, named as in ``sharedWith``; nobody takes it out of the store."""

    audience: list[str] = Field(max_length=1000)


class AccessView(BaseModel):
    """What an agent can do with one tool server, and as whom: ``says`` is both in a sentence."""

    server: str
    does: list[str]
    tools: list[str]
    credential: CredentialOwner
    says: str


class OfferView(BaseModel):
    """An agent on offer. ``asked``: what became of your asking for it, if you did."""

    id: str
    name: str
    description: str
    version: str
    maker_id: str | None
    owner_id: str | None
    may_use: bool
    is_installed: bool
    is_pinned: bool
    asked: AskState | None
    answer: str
    access: list[AccessView]


class AskView(BaseModel):
    """Somebody asks to be let to an agent."""

    user_id: str
    agent_id: str
    state: AskState
    reason: str
    asked_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    answer: str


def _offer_view(offer: Offer) -> OfferView:
    agent = offer.agent
    return OfferView(
        id=agent.id,
        name=agent.name,
        description=agent.description,
        version=agent.version,
        maker_id=agent.maker_id,
        owner_id=agent.owner_id,
        may_use=offer.may_use,
        is_installed=offer.is_installed,
        is_pinned=offer.is_pinned,
        asked=offer.ask.state if offer.ask else None,
        answer=offer.ask.answer if offer.ask else "",
        access=[AccessView.model_validate(access, from_attributes=True) for access in offer.access],
    )


def _ask_view(ask: Ask) -> AskView:
    return AskView.model_validate(ask, from_attributes=True)


def _reason(body: ReasonBody) -> str:
    if not body.reason.strip():
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever decides.")
    return body.reason.strip()


@router.get("/store", summary="Agents that you may use")
def list_store(
    viewer: Shopper,
    deps: Deps,
    search: Annotated[str, Query(max_length=200)] = "",
    everything: bool = False,
) -> Page[OfferView]:
    """Pinned ones first. With ``everything`` also those that are shared with others, to ask for. One that is blocked is
    gone."""
    with deps.control.read() as tx:
        found = agentstore.list_offers(tx, viewer.id, search=search, everything=everything)
    return Page(items=[_offer_view(offer) for offer in found])


@router.get("/store/{agent_id}", summary="One agent of the store")
def read_store(agent_id: str, viewer: Shopper, deps: Deps) -> OfferView:
    """What it can reach, and as whom."""
    with deps.control.read() as tx:
        return _offer_view(agentstore.find_offer(tx, viewer.id, agent_id))


@router.put("/store/{agent_id}", summary="Take an agent, or pin it")
def take_agent(agent_id: str, body: TakeBody, viewer: Shopper, deps: Deps) -> OfferView:
    """At most three are pinned."""
    with deps.control.tx(viewer.id) as tx:
        return _offer_view(agentstore.take(tx, agent_id, is_pinned=body.pinned))


@router.delete("/store/{agent_id}", status_code=204, summary="Have done with an agent")
def leave_agent(agent_id: str, viewer: Shopper, deps: Deps) -> None:
    """Also with one that is no longer in the store."""
    with deps.control.tx(viewer.id) as tx:
        agentstore.leave(tx, agent_id)


@router.post("/store/{agent_id}/ask", status_code=201, summary="Ask to be let to an agent")
def ask_for_agent(agent_id: str, body: ReasonBody, viewer: Shopper, deps: Deps) -> AskView:
    """Somebody who approves agents answers."""
    with deps.control.tx(viewer.id) as tx:
        return _ask_view(agentstore.ask(tx, agent_id, _reason(body)))


@router.get("/asks", summary="Who asked for which agent")
def list_asks(viewer: Approver, deps: Deps, state: AskState | None = None) -> Page[AskView]:
    """Newest first."""
    with deps.control.read() as tx:
        return Page(items=[_ask_view(ask) for ask in offers.list_asks(tx, state=state)])


@router.post("/asks/{agent_id}/{user_id}/grant", summary="Share the agent with whoever asked")
def grant_ask(agent_id: str, user_id: str, body: ReasonBody, viewer: Approver, deps: Deps) -> AskView:
    """Not by whoever asked."""
    with deps.control.tx(viewer.id) as tx:
        return _ask_view(agentstore.answer(tx, agent_id, user_id, is_granted=True, reason=_reason(body)))


@router.post("/asks/{agent_id}/{user_id}/decline", summary="Say no to whoever asked")
def decline_ask(agent_id: str, user_id: str, body: ReasonBody, viewer: Approver, deps: Deps) -> AskView:
    """They read why."""
    with deps.control.tx(viewer.id) as tx:
        return _ask_view(agentstore.answer(tx, agent_id, user_id, is_granted=False, reason=_reason(body)))


@router.put("/agents/{agent_id}/audience", summary="Say who may use an agent")
def share_agent(agent_id: str, body: AudienceBody, viewer: Approver, deps: Deps) -> AgentDetailView:
    """To more people step by step, or to nobody. Not by its maker or owner."""
    with deps.control.tx(viewer.id) as tx:
        agentstore.share(tx, agent_id, body.audience, _reason(body))
        return agent_detail(tx, viewer, agent_id)
