"""The hunting library: templates that come with the product, queries that operators keep or share, favourites.

Above ``detection.hunting`` and ``storage.saved_queries``. A query is its author's alone until it is shared; then
everybody who may hunt sees it, and everybody who may share may change it. A change names the version that it is made
to (``If-Match``), so that nobody's work is overwritten unseen. What a template or query finds is asked at
``/api/hunting/run``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.detection.hunting import Hunt, find, select, shipped
from watchfloor.model.errors import Denied, InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.hunting import ColumnView, check_text
from watchfloor.portal.views import Page
from watchfloor.storage import saved_queries
from watchfloor.storage.control import ControlTx
from watchfloor.storage.saved_queries import QUERY, TEMPLATE, SavedQuery

router = APIRouter(prefix="/api/hunting", tags=["hunting"])

Hunter = Annotated[Viewer, permit(Permission.HUNT_RUN)]
Sharer = Annotated[Viewer, permit(Permission.QUERY_SHARE)]
IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=100, description="ETag of the version that this is made to.")
]
_ETAG: Final = re.compile(r'"(\d{1,9})"')


class TemplateView(BaseModel):
    """A template. ``counterpart``: the template of Microsoft that it stands for; ``tables`` are those that it asks."""

    id: str
    name: str
    description: str
    category: str
    counterpart: str
    techniques: list[str]
    tables: list[str]
    is_favourite: bool


class TemplateDetailView(TemplateView):
    """A template with its query. ``differs``: what its counterpart has wrong, and how this one is right."""

    differs: str
    blind_spots: str
    recommended_actions: list[str]
    query: str
    columns: list[ColumnView]


class SavedQueryBody(BaseModel):
    """A query, as somebody wants to keep it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=5_000)
    query: str = Field(max_length=100_000)


class SavedQueryView(BaseModel):
    """A query that somebody keeps. ``may_change``: whether this viewer may; ``version`` is in its ETag."""

    id: str
    version: int
    name: str
    description: str
    query: str
    author: str
    is_shared: bool
    created_at: datetime
    updated_at: datetime
    updated_by: str
    may_change: bool
    is_favourite: bool


# -- templates --------------------------------------------------------------------------------------------------------


@router.get("/templates", summary="Hunting templates")
def list_templates(
    viewer: Hunter,
    deps: Deps,
    category: Annotated[str, Query(max_length=100)] = "",
    table: Annotated[str, Query(max_length=100, description="A table or view that the template asks.")] = "",
    technique: Annotated[str, Query(max_length=20, description="Of ATT&CK or ATLAS; T1078 has T1078.004 in it.")] = "",
    text: Annotated[str, Query(max_length=200, description="In id, name, description, counterpart or query.")] = "",
    favourites: Annotated[bool, Query(description="Only those that I marked.")] = False,
) -> Page[TemplateView]:
    """Those for which everything given holds, by category and name."""
    wanted = select(shipped(), category=category, table=table, technique=technique, text=text)
    with deps.control.read() as tx:
        marked = saved_queries.favourites(tx, viewer.id)
    return Page(items=[_template_view(hunt, marked) for hunt in wanted if _subject(hunt) in marked or not favourites])


@router.get("/templates/{template_id}", summary="One hunting template")
def read_template(template_id: str, viewer: Hunter, deps: Deps) -> TemplateDetailView:
    """With its query, what it does not see and what to do about what it finds."""
    hunt = find(template_id)
    with deps.control.read() as tx:
        marked = saved_queries.favourites(tx, viewer.id)
    return TemplateDetailView(
        **_template_view(hunt, marked).model_dump(),
        differs=hunt.template.differs,
        blind_spots=hunt.template.blind_spots,
        recommended_actions=list(hunt.template.recommended_actions),
        query=hunt.template.query,
        columns=[ColumnView(name=name, type=type_) for name, type_ in hunt.columns.items()],
    )


@router.put("/templates/{template_id}/favourite", status_code=204, summary="Mark a template as a favourite")
def mark_template(template_id: str, viewer: Hunter, deps: Deps) -> None:
    """For oneself."""
    with deps.control.tx(viewer.id) as tx:
        saved_queries.mark(tx, _subject(find(template_id)), is_favourite=True)


@router.delete("/templates/{template_id}/favourite", status_code=204, summary="Unmark a template")
def unmark_template(template_id: str, viewer: Hunter, deps: Deps) -> None:
    """For oneself; one that the product no longer has, too."""
    with deps.control.tx(viewer.id) as tx:
        saved_queries.mark(tx, f"{TEMPLATE}/{template_id}", is_favourite=False)


def _subject(hunt: Hunt) -> str:
    return f"{TEMPLATE}/{hunt.template.id}"


def _template_view(hunt: Hunt, marked: frozenset[str]) -> TemplateView:
    one = hunt.template
    return TemplateView(
        id=one.id,
        name=one.name,
        description=one.description,
        category=one.category,
        counterpart=one.counterpart,
        techniques=list(one.techniques),
        tables=list(hunt.tables),
        is_favourite=_subject(hunt) in marked,
    )


# -- queries that operators keep --------------------------------------------------------------------------------------


@router.get("/queries", summary="My queries, and those that are shared")
def list_queries(
    viewer: Hunter, deps: Deps, favourites: Annotated[bool, Query(description="Only those that I marked.")] = False
) -> Page[SavedQueryView]:
    """By name."""
    with deps.control.read() as tx:
        marked = saved_queries.favourites(tx, viewer.id)
        found = [_view(query, viewer, marked) for query in saved_queries.visible_queries(tx, viewer.id)]
    return Page(items=[view for view in found if view.is_favourite or not favourites])


@router.post("/queries", status_code=201, summary="Keep a query")
def add_query(body: SavedQueryBody, viewer: Hunter, deps: Deps, response: Response) -> SavedQueryView:
    """For oneself, until it is shared. It need not be finished: nothing is checked."""
    check_text(body.query)
    with deps.control.tx(viewer.id) as tx:
        return _answer(tx, saved_queries.add_query(tx, body.name, body.description, body.query), viewer, response)


@router.get("/queries/{query_id}", summary="A query that somebody keeps")
def read_query(query_id: str, viewer: Hunter, deps: Deps, response: Response) -> SavedQueryView:
    """One's own, or a shared one. The answer's ETag goes into ``If-Match`` of a change."""
    with deps.control.read() as tx:
        return _answer(tx, _find(tx, query_id, viewer), viewer, response)


@router.put("/queries/{query_id}", summary="Change a query, or its name")
def change_query(
    query_id: str, body: SavedQueryBody, viewer: Hunter, deps: Deps, response: Response, if_match: IfMatch = None
) -> SavedQueryView:
    """One's own, or a shared one with the permission to share. 409 if somebody changed it meanwhile."""
    check_text(body.query)
    with deps.control.tx(viewer.id) as tx:
        found = _to_change(tx, query_id, viewer)
        wanted = replace(
            found, version=_version(if_match), name=body.name, description=body.description, query=body.query
        )
        return _answer(tx, saved_queries.change_query(tx, wanted), viewer, response)


@router.delete("/queries/{query_id}", status_code=204, summary="Delete a query")
def delete_query(query_id: str, viewer: Hunter, deps: Deps, if_match: IfMatch = None) -> None:
    """One's own, or a shared one with the permission to share. 409 if somebody changed it meanwhile."""
    with deps.control.tx(viewer.id) as tx:
        found = _to_change(tx, query_id, viewer)
        saved_queries.delete_query(tx, found.id, _version(if_match))


@router.post("/queries/{query_id}/share", summary="Share a query")
def share_query(
    query_id: str, viewer: Sharer, deps: Deps, response: Response, if_match: IfMatch = None
) -> SavedQueryView:
    """With everybody who may hunt."""
    return _share(query_id, viewer, deps, response, if_match, is_shared=True)


@router.post("/queries/{query_id}/unshare", summary="Stop sharing a query")
def unshare_query(
    query_id: str, viewer: Sharer, deps: Deps, response: Response, if_match: IfMatch = None
) -> SavedQueryView:
    """It is its author's alone again, whoever stops it."""
    return _share(query_id, viewer, deps, response, if_match, is_shared=False)


@router.put("/queries/{query_id}/favourite", status_code=204, summary="Mark a query as a favourite")
def mark_query(query_id: str, viewer: Hunter, deps: Deps) -> None:
    """For oneself."""
    with deps.control.tx(viewer.id) as tx:
        saved_queries.mark(tx, f"{QUERY}/{_find(tx, query_id, viewer).id}", is_favourite=True)


@router.delete("/queries/{query_id}/favourite", status_code=204, summary="Unmark a query")
def unmark_query(query_id: str, viewer: Hunter, deps: Deps) -> None:
    """For oneself; one that is no longer shared, too."""
    with deps.control.tx(viewer.id) as tx:
        saved_queries.mark(tx, f"{QUERY}/{query_id}", is_favourite=False)


def _share(
    query_id: str, viewer: Viewer, deps: PortalDeps, response: Response, if_match: str | None, *, is_shared: bool
) -> SavedQueryView:
    with deps.control.tx(viewer.id) as tx:
        wanted = replace(_to_change(tx, query_id, viewer), version=_version(if_match), is_shared=is_shared)
        changed = saved_queries.change_query(tx, wanted, "share" if is_shared else "unshare")
        return _answer(tx, changed, viewer, response)


def _find(tx: ControlTx, query_id: str, viewer: Viewer) -> SavedQuery:
    """A query that ``viewer`` may see. What others keep for themselves does not exist."""
    found = saved_queries.find_query(tx, query_id)
    if found is None or not (found.is_shared or found.author == viewer.id):
        raise NotFound(f"there is no saved query {query_id!r}.", where="query")
    return found


def _may_change(query: SavedQuery, viewer: Viewer) -> bool:
    return query.author == viewer.id or (query.is_shared and Permission.QUERY_SHARE in viewer.permissions)


def _to_change(tx: ControlTx, query_id: str, viewer: Viewer) -> SavedQuery:
    found = _find(tx, query_id, viewer)
    if not _may_change(found, viewer):
        raise Denied(f"{found.author} shares this query. Changing it needs the permission query.share; keep a copy.")
    return found


def _version(if_match: str | None) -> int:
    """The version that a change is made to. Raises ``InputError`` where that is not said."""
    found = _ETAG.fullmatch((if_match or "").strip())
    if found is None:
        message = "a change says which version it is made to."
        raise InputError(message, where="If-Match", remedy="Send the ETag of the query as you read it.")
    return int(found[1])


def _answer(tx: ControlTx, query: SavedQuery, viewer: Viewer, response: Response) -> SavedQueryView:
    response.headers["ETag"] = f'"{query.version}"'
    return _view(query, viewer, saved_queries.favourites(tx, viewer.id))


def _view(query: SavedQuery, viewer: Viewer, marked: frozenset[str]) -> SavedQueryView:
    return SavedQueryView(
        id=query.id,
        version=query.version,
        name=query.name,
        description=query.description,
        query=query.query,
        author=query.author,
        is_shared=query.is_shared,
        created_at=query.created_at,
        updated_at=query.updated_at,
        updated_by=query.updated_by,
        may_change=_may_change(query, viewer),
        is_favourite=f"{QUERY}/{query.id}" in marked,
    )
