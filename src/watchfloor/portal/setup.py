"""The pages before anybody is signed in: set-up, sign-in, sign-out. Plain forms, no script.

The API routes in ``auth`` do the same for programs; both call ``identity``.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.identity import setup as first_setup
from watchfloor.identity.passwords import MIN_LENGTH
from watchfloor.model.errors import Denied, InputError, WatchfloorError
from watchfloor.portal.auth import (
    PUBLIC,
    CrossSite,
    Viewer,
    check_same_site,
    clear_cookie,
    permit,
    read_form,
    set_cookie,
    sign_in,
)
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.html import h
from watchfloor.portal.layout import alarm, field, small_page
from watchfloor.portal.problems import status_of

router = APIRouter(tags=["pages"], include_in_schema=False)

Token = Annotated[str, Query(max_length=200)]


def local_path(target: str) -> str:
    """``target`` if it is a path of ours, else the overview: nobody is sent elsewhere after signing in."""
    parts = urlsplit(target)
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return target if is_ours and target.isprintable() else "/"


def to_sign_in(request: Request) -> RedirectResponse:
    """Where a page sends whoever is not signed in; reading pages come back afterwards."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    then = f"?next={quote(target, safe='')}" if request.method == "GET" and target != "/" else ""
    return RedirectResponse(f"/signin{then}", 303)


# -- set-up -------------------------------------------------------------------------------------------------------


def _setup_form(token: str, name: str = "", problem: str = "", status: int = 200) -> HTMLResponse:
    return small_page(
        "Set up Watchfloor",
        h("p", "You are the first to come here. Create the administrator's account; it may do everything.", cls="lead"),
        alarm(problem) if problem else None,
        h(
            "form",
            h("input", type="hidden", name="token", value=token),
            field("Sign-in name", "name", value=name, autocomplete="username", autofocus=True,
                  hint="Lower-case letters, digits, dots and dashes."),
            field("Password", "password", type="password", autocomplete="new-password", minlength=MIN_LENGTH,
                  hint=f"At least {MIN_LENGTH} characters. A few random words make a good one."),
            field("Password again", "again", type="password", autocomplete="new-password"),
            h("button", "Create account and sign in", type="submit", cls="primary"),
            method="post",
            action="/setup",
        ),
        status=status,
    )  # fmt: skip


def _is_set_up(deps: PortalDeps) -> bool:
    with deps.control.read() as tx:
        return first_setup.is_set_up(tx)


@router.get("/setup", dependencies=[PUBLIC])
def show_setup(deps: Deps, token: Token = "") -> Response:
    """The form for the first administrator; after that it only leads to sign-in."""
    if _is_set_up(deps):
        return RedirectResponse("/signin", 303)
    if not token:
        return small_page(
            "Set up Watchfloor",
            h("p", "Open the set-up link that Watchfloor printed when it started. It works once, for one day."),
            h("p", "Lost it? Restart Watchfloor: it shows a new one.", cls="note"),
        )
    return _setup_form(token)


@router.post("/setup", dependencies=[PUBLIC])
async def do_setup(request: Request, deps: Deps) -> Response:
    """Creates the account and signs it in."""
    check_same_site(request, deps)
    form = await read_form(request)
    token, name, password = (form.get(key, "") for key in ("token", "name", "password"))

    def act() -> Response:
        if _is_set_up(deps):
            return RedirectResponse("/signin", 303)
        try:
            if password != form.get("again", ""):
                raise InputError("the two passwords differ.")
            operator = first_setup.set_up(deps.control, deps.operators.passwords, token, name, password)
            signed_in = sign_in(deps, request, operator.id, password)
        except (InputError, Denied) as error:
            return _setup_form(token, name[:200], _sentence(error), status_of(error)[0])
        response = RedirectResponse("/", 303)
        set_cookie(response, deps, signed_in)
        return response

    return await run_in_threadpool(act)


# -- sign-in ------------------------------------------------------------------------------------------------------


def _sign_in_form(target: str, name: str = "", problem: str = "", status: int = 200) -> HTMLResponse:
    return small_page(
        "Sign in",
        alarm(problem) if problem else None,
        h(
            "form",
            h("input", type="hidden", name="next", value=target),
            field("Name", "name", value=name, autocomplete="username", autofocus=not name),
            field("Password", "password", type="password", autocomplete="current-password", autofocus=bool(name)),
            h("button", "Sign in", type="submit", cls="primary"),
            method="post",
            action="/signin",
        ),
        status=status,
    )


@router.get("/signin", dependencies=[PUBLIC])
def show_sign_in(deps: Deps, next: Annotated[str, Query(max_length=2000)] = "/") -> Response:
    """The form; on a fresh installation, how to set it up."""
    if not _is_set_up(deps):
        return RedirectResponse("/setup", 303)
    return _sign_in_form(local_path(next))


@router.post("/signin", dependencies=[PUBLIC])
async def do_sign_in(request: Request, deps: Deps) -> Response:
    """Signs in and goes where the visitor wanted to."""
    form = await read_form(request)
    target, name = local_path(form.get("next", "/")), form.get("name", "")[:200]

    def act() -> Response:
        try:
            signed_in = sign_in(deps, request, name, form.get("password", ""))
        except CrossSite:
            raise
        except WatchfloorError as error:
            return _sign_in_form(target, name, _sentence(error), status_of(error)[0])
        response = RedirectResponse(target, 303)
        set_cookie(response, deps, signed_in)
        return response

    return await run_in_threadpool(act)


@router.post("/signout")
def sign_out(viewer: Annotated[Viewer, permit("signed_in", form=True)], deps: Deps) -> Response:
    """Ends the session; the back button shows nothing, since no page is kept."""
    deps.operators.sign_out(viewer.session, viewer.address)
    response = RedirectResponse("/signin", 303)
    clear_cookie(response, deps)
    return response


def _sentence(error: WatchfloorError) -> str:
    """An error as a sentence for a page."""
    if isinstance(error, InputError):
        text = f"{error.message} {error.remedy}".strip()
        return text[:1].upper() + text[1:]
    return str(error)
