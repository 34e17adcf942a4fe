"""The page behind the link of a notice's mail: it shows what is asked, and a button acknowledges, once.

Above ``response.acknowledge``. Nobody has to be signed in: the link is what shows who comes. Opening it changes
nothing, for mail servers and previews open links as well.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.model.notices import Item
from watchfloor.portal.auth import PUBLIC, check_same_site, read_form
from watchfloor.portal.deps import Deps
from watchfloor.portal.html import Html, h
from watchfloor.portal.layout import path, small_page
from watchfloor.response import acknowledge
from watchfloor.storage import inventory, notices
from watchfloor.storage.control import ControlTx

router = APIRouter(tags=["pages"], include_in_schema=False)


@router.get("/notices/{notice_id}/acknowledge", dependencies=[PUBLIC])
def show_notice(notice_id: str, deps: Deps, token: Annotated[str, Query(max_length=200)] = "") -> Response:
    """What is asked, and the button."""
    with deps.control.read() as tx:
        acknowledge.check(tx, deps.vault, notice_id, token)
        asked = _asked(tx, notice_id)
    return small_page(
        "Please change your agents",
        asked,
        h(
            "form",
            h("input", type="hidden", name="token", value=token),
            h("button", "I have read this", type="submit", cls="primary"),
            method="post",
            action=path("notices", notice_id, "acknowledge"),
        ),
    )


@router.post("/notices/{notice_id}/acknowledge", dependencies=[PUBLIC])
async def acknowledge_notice(notice_id: str, request: Request, deps: Deps) -> Response:
    """Acknowledges, uses the link up, and says where a corrected version goes."""
    check_same_site(request, deps)
    form = await read_form(request)

    def act() -> Response:
        with deps.control.tx("system:notices") as tx:
            acknowledge.by_link(tx, deps.vault, notice_id, form.get("token", "")[:200])
            asked = _asked(tx, notice_id)
            agents = sorted({item.agent_id for item in notices.list_items(tx, [notice_id])[notice_id]})
        return small_page(
            "Thank you",
            h("p", "Submit a corrected version of each agent; the notice closes by itself once it is found fixed."),
            asked,
            h(
                "p",
                "Sign in for its versions, and send the corrected manifest to ",
                h("code", "POST /api/requests"),
                ":",
            ),
            h("ul", [h("li", h("a", a, href=path("api", "agents", a, "versions"))) for a in agents]),
        )

    return await run_in_threadpool(act)


def _asked(tx: ControlTx, notice_id: str) -> Html:
    items = [item for item in notices.list_items(tx, [notice_id])[notice_id] if item.closed_at is None]
    names = {agent.id: agent.name for agent in inventory.find_agents(tx, {i.agent_id for i in items}).values()}
    return h("ul", [_line(item, names.get(item.agent_id, "")) for item in items])


def _line(item: Item, name: str) -> Html:
    said = [f"{item.what}. ", item.recommendation, f" {item.note}" if item.note else ""]
    return h("li", h("strong", f"{name} ({item.agent_id}): "), said)
