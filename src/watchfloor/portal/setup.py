"""The pages before anybody is signed in: set-up, sign-in, sign-out. Plain forms, no script.

The API routes in ``auth`` do the same for programs; both call ``identity``.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.identity import setup as first_setup
from watchfloor.identity.oidc import SIGN_ON_SECONDS, SignOnRefused
from watchfloor.identity.operators import SecondFactorRequired
from watchfloor.identity.passwords import MIN_LENGTH
from watchfloor.identity.second_factor import CodeWrong
from watchfloor.model.errors import Denied, InputError, NotFound, Unavailable, WatchfloorError
from watchfloor.portal.auth import (
    PUBLIC,
    CrossSite,
    Viewer,
    address_of,
    begin_session,
    check_same_site,
    clear_cookie,
    cookie_name,
    label_of,
    permit,
    read_form,
    sign_in,
    throttling,
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
        begin_session(request, response, deps, signed_in)
        return response

    return await run_in_threadpool(act)


# -- sign-in ------------------------------------------------------------------------------------------------------


def _sign_in_form(deps: PortalDeps, target: str, name: str = "", problem: str = "", status: int = 200) -> HTMLResponse:
    way = f"/signin/provider?next={quote(target, safe='')}"
    return small_page(
        "Sign in",
        alarm(problem) if problem else None,
        h("p", h("a", f"Sign in with {deps.sign_on_name}", href=way, cls="button primary")) if deps.sign_ons else None,
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
    return _sign_in_form(deps, local_path(next))


@router.get("/signin/provider", dependencies=[PUBLIC])
def begin_sign_on(deps: Deps, next: Annotated[str, Query(max_length=2000)] = "/") -> Response:
    """Goes to the identity provider."""
    if deps.sign_ons is None:
        raise NotFound("no identity provider is set.", where="sign-in", remedy="Sign in with name and password.")
    begun = deps.sign_ons.begin(local_path(next))
    response = RedirectResponse(begun.url, 303)
    response.set_cookie(
        _flow_cookie(deps), begun.browser, max_age=SIGN_ON_SECONDS, path="/", secure=deps.is_https, httponly=True,
        samesite="lax",
    )  # fmt: skip
    return response


@router.get("/signin/callback", dependencies=[PUBLIC])
def finish_sign_on(request: Request, deps: Deps) -> Response:
    """Where the identity provider sends the browser back to."""
    if deps.sign_ons is None:
        raise NotFound("no identity provider is set.", where="sign-in", remedy="Sign in with name and password.")
    answer = {name: value[:4000] for name, value in request.query_params.items()}
    browser = request.cookies.get(_flow_cookie(deps), "")
    try:
        signed_in, target = deps.sign_ons.finish(answer, browser, address_of(request), label=label_of(request))
    except (SignOnRefused, Unavailable) as error:
        response: Response = _sign_in_form(deps, "/", "", _sentence(error), status_of(error)[0])
    else:
        response = RedirectResponse(target, 303)
        begin_session(request, response, deps, signed_in)
    response.delete_cookie(_flow_cookie(deps), path="/", secure=deps.is_https, httponly=True, samesite="lax")
    return response


@router.post("/signin/backchannel-logout", dependencies=[PUBLIC])
async def log_out_by_provider(request: Request, deps: Deps) -> Response:
    """The identity provider ends sessions of its own, and ours with them (OpenID Connect Back-Channel Logout)."""
    form = await read_form(request)
    if deps.sign_ons is None:
        return JSONResponse({"error": "invalid_request", "error_description": "No identity provider is set."}, 400)
    try:
        await run_in_threadpool(deps.sign_ons.log_out, form.get("logout_token", ""))
    except SignOnRefused as refused:
        return JSONResponse({"error": "invalid_request", "error_description": str(refused)}, 400)
    return Response(status_code=200)


def _flow_cookie(deps: PortalDeps) -> str:
    return f"{cookie_name(deps)}-signin"


@router.post("/signin", dependencies=[PUBLIC])
async def do_sign_in(request: Request, deps: Deps) -> Response:
    """Signs in and goes where the visitor wanted to."""
    form = await read_form(request)
    target, name = local_path(form.get("next", "/")), form.get("name", "")[:200]

    def act() -> Response:
        challenge = form.get("challenge", "")
        try:
            if challenge:
                check_same_site(request, deps)
                with throttling():
                    signed_in = deps.operators.answer_challenge(
                        challenge, form.get("code", ""), address_of(request), label=label_of(request)
                    )
            else:
                signed_in = sign_in(deps, request, name, form.get("password", ""))
        except CrossSite:
            raise
        except SecondFactorRequired as needed:
            return _code_form(target, needed.challenge)
        except CodeWrong as error:
            return _code_form(target, challenge, _sentence(error), status_of(error)[0])
        except WatchfloorError as error:
            return _sign_in_form(deps, target, name, _sentence(error), status_of(error)[0])
        response = RedirectResponse(target, 303)
        begin_session(request, response, deps, signed_in)
        return response

    return await run_in_threadpool(act)


def _code_form(target: str, challenge: str, problem: str = "", status: int = 200) -> HTMLResponse:
    return small_page(
        "Enter your code",
        alarm(problem) if problem else None,
        h(
            "form",
            h("input", type="hidden", name="next", value=target),
            h("input", type="hidden", name="challenge", value=challenge),
            field("Code", "code", autocomplete="one-time-code", inputmode="numeric", autofocus=True,
                  hint="Six digits of your authenticator app, or one of your recovery codes."),
            h("button", "Sign in", type="submit", cls="primary"),
            method="post",
            action="/signin",
        ),
        h("p", h("a", "Begin again", href="/signin"), cls="note"),
        status=status,
    )  # fmt: skip


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
