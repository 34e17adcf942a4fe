"""The portal as one ASGI application: routers, errors, walls.

``watchfloor.app`` calls ``build_portal`` with everything it needs; nothing is opened or started here.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import iter_route_contexts

from watchfloor import __version__, content
from watchfloor.identity.signals.receive import Receiver
from watchfloor.identity.signals.streams import Us
from watchfloor.model.errors import NotFound, WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.portal import (
    access,
    access_pages,
    account,
    action_pages,
    admin,
    agentstore,
    auth,
    blast_radius,
    blocking,
    channels,
    decisions,
    exports,
    graph_access,
    graph_cases,
    graph_catalog,
    graph_risk,
    health,
    holds,
    hunting,
    hunting_library,
    identity_providers,
    incident_graph,
    incident_pages,
    incidents,
    known_names,
    kusto,
    least_privilege,
    notice_pages,
    notices,
    operators,
    owners,
    pages,
    pipeline,
    playbooks,
    policies,
    posture,
    problems,
    receivers,
    requests,
    response_pages,
    responses,
    risk,
    rules,
    scim_providers,
    setup,
    sightings,
    sources,
    traces,
    transmitters,
    users,
    versions,
)
from watchfloor.portal.auth import PUBLIC, SecondFactorMissing, Viewer, permit
from watchfloor.portal.deps import PortalDeps
from watchfloor.portal.health import Counts
from watchfloor.portal.html import h
from watchfloor.portal.layout import small_page
from watchfloor.portal.problems import Unauthenticated
from watchfloor.portal.scim import build_scim_router
from watchfloor.portal.signals import build_signals_router
from watchfloor.portal.ssf import build_ssf_router
from watchfloor.portal.sts import build_sts_router
from watchfloor.portal.walls import Walls

__all__ = ["PortalDeps", "build_portal"]

_ROUTERS: Final = (
    health.router, auth.router, admin.router, versions.router, requests.router, owners.router, agentstore.router,
    blocking.router, users.router, incidents.router, responses.router, playbooks.router, decisions.router,
    policies.router, known_names.router, holds.router, traces.router, hunting.router, hunting_library.router,
    exports.router,
    kusto.kusto, kusto.graph, posture.router, least_privilege.router,
    graph_cases.router, graph_catalog.router, graph_risk.router, risk.router, incident_graph.router,
    blast_radius.router, sources.router,
    sightings.router, pipeline.router, identity_providers.router, operators.router, account.router, account.pages,
    setup.router, rules.router, rules.suppressing,
    access.router, graph_access.router, access_pages.router,
    pages.router, incident_pages.router, response_pages.router, playbooks.pages, action_pages.router,
    blocking.pages,
    transmitters.router, receivers.router, scim_providers.router, channels.router,
    notices.router, notice_pages.router,
)  # fmt: skip
_STATIC: Final = {"portal.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}


@cache
def _static(name: str) -> bytes:
    return resources.files("watchfloor.portal").joinpath("static", name).read_bytes()


def _is_page(request: Request) -> bool:
    return "pages" in getattr(request.scope.get("route"), "tags", ())


def _on_page_error(request: Request, error: WatchfloorError) -> Response:
    if isinstance(error, Unauthenticated):
        return setup.to_sign_in(request)
    if isinstance(error, SecondFactorMissing) and request.method == "GET":
        return RedirectResponse("/account", 303)
    status, title = problems.status_of(error)
    return small_page(
        title, h("p", str(error), role="alert"), h("p", h("a", "Overview", href="/", cls="button")), status=status
    )


def build_portal(deps: PortalDeps) -> FastAPI:
    """The portal's application over ``deps``; with ``deps.tokens`` it includes the token service's routes."""
    app = FastAPI(
        title="Watchfloor",
        version=__version__,
        description="The API of the security operations centre for AI agents.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.deps = deps
    app.state.counts = Counts()
    problems.install(app)

    def on_error(request: Request, error: Exception) -> Any:
        assert isinstance(error, WatchfloorError)
        if _is_page(request):
            return _on_page_error(request, error)
        return kusto.error_answer(request, error) or problems.answer(error, request.url.path)

    app.add_exception_handler(WatchfloorError, on_error)
    for router in _ROUTERS:
        app.include_router(router)
    app.include_router(build_scim_router(deps.control, deps.public_url), dependencies=[PUBLIC])
    if deps.tokens is not None:
        app.include_router(build_sts_router(deps.tokens), dependencies=[PUBLIC])
        receiver = Receiver(deps.control, deps.vault, deps.tokens.key_sets)
        app.include_router(build_signals_router(receiver, deps.public_url), dependencies=[PUBLIC])
        us = Us(deps.public_url, deps.tokens.settings.issuer)
        app.include_router(build_ssf_router(deps.control, deps.vault, us), dependencies=[PUBLIC])

    @app.get("/api/openapi.json", include_in_schema=False)
    def openapi(viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)]) -> Response:
        """This API, described, and the telemetry doors of the receivers."""
        return JSONResponse(described(app))

    @app.get("/static/{name}", dependencies=[PUBLIC], include_in_schema=False)
    def static(name: str) -> Response:
        """Style and icon of the pages."""
        if name not in _STATIC:
            raise NotFound(f"there is no file {name!r}.", where="static")
        return Response(_static(name), media_type=_STATIC[name], headers={"Cache-Control": "public, max-age=300"})

    app.add_middleware(Walls, max_body_bytes=deps.max_body_bytes, is_https=deps.is_https, counts=app.state.counts)
    return app


def described(app: FastAPI) -> dict[str, Any]:
    """The product's OpenAPI document: the portal's routes, and the doors that its receivers open."""
    document, doors = app.openapi(), content.described_doors()
    return {
        **document,
        "paths": document["paths"] | doors["paths"],
        "components": {
            name: document["components"].get(name, {}) | doors["components"].get(name, {})
            for name in document["components"].keys() | doors["components"].keys()
        },
    }


def route_table(app: FastAPI) -> list[str]:
    """Every route as ``METHOD path permission``, sorted. A route that declares none, or two, says so."""
    lines = []
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        found = auth.declared([d.call for d in dependant.dependencies]) if dependant else []
        mark = found[0] if len(found) == 1 else "+".join(found) or "NONE"
        lines += [f"{method} {route.path} {mark}" for method in route.methods or ("?",) if method != "HEAD"]
    return sorted(lines)
