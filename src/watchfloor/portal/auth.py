"""Who is calling, and may they? Sessions and tokens on one side, a permission on every route on the other.

Two ways in: an API token in the Authorization header, for scripts; a session cookie, for browsers. A cookie travels by
itself, so every unsafe method with it also needs the session's CSRF token and must come from our own pages. Above
``identity.operators``; every router here uses ``permit``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from watchfloor.identity import setup
from watchfloor.identity.operators import ABSOLUTE, Session, SignedIn
from watchfloor.model.errors import Denied, InputError, Unavailable
from watchfloor.model.people import PERMISSIONS, Permission, Role
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.problems import Throttled, TooLarge, Unauthenticated
from watchfloor.response import approvers

_log = logging.getLogger(__name__)

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER: Final = "x-csrf-token"
_MAX_FORM_BYTES: Final = 64 * 1024


class SecondFactorMissing(Denied):
    """An administrator has to add a second factor before anything else."""

    code = "second_factor_missing"


class CrossSite(Denied):
    """A browser sent this from somewhere else, or without the session's CSRF token."""

    code = "cross_site"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who is calling."""

    session: Session
    address: str

    @property
    def id(self) -> str:
        """The operator's id; the actor of what they change."""
        return self.session.operator.id

    @property
    def permissions(self) -> frozenset[Permission]:
        """What they may do."""
        return self.session.permissions


# -- cookies ------------------------------------------------------------------------------------------------------


def cookie_name(deps: PortalDeps) -> str:
    """``__Host-`` binds a cookie to this very host and to TLS; browsers refuse the prefix without TLS."""
    return "__Host-watchfloor" if deps.is_https else "watchfloor"


def begin_session(request: Request, response: Response, deps: PortalDeps, signed_in: SignedIn) -> None:
    """Hand the session to the browser, and end the one that it came with."""
    before = deps.operators.find_session(request.cookies.get(cookie_name(deps), "")[:200])
    if before is not None and not before.is_api_token:
        deps.operators.sign_out(before, address_of(request))
    response.set_cookie(
        cookie_name(deps),
        signed_in.token,
        max_age=int(ABSOLUTE.total_seconds()),
        path="/",
        secure=deps.is_https,
        httponly=True,
        samesite="lax",
    )


def clear_cookie(response: Response, deps: PortalDeps) -> None:
    """Take it back."""
    response.delete_cookie(cookie_name(deps), path="/", secure=deps.is_https, httponly=True, samesite="lax")


def address_of(request: Request) -> str:
    """The caller's address, as the server saw it."""
    return request.client.host if request.client else ""


# -- cross-site requests ------------------------------------------------------------------------------------------


def check_same_site(request: Request, deps: PortalDeps) -> None:
    """Raises ``CrossSite`` if the browser says that the request comes from another site's page."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise CrossSite("This request comes from another site.")
    origin = request.headers.get("origin")
    if origin is None:
        return
    host = urlsplit(origin).netloc.lower()
    if not host or host not in (request.headers.get("host", "").lower(), urlsplit(deps.public_url).netloc.lower()):
        raise CrossSite("This request comes from another origin.")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a urlencoded form; of a repeated one the last. Raises ``InputError``."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise InputError("a form is expected.", where="content-type")
    body = await request.body()
    if len(body) > _MAX_FORM_BYTES:
        raise TooLarge("the form is too long.")
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise InputError("the form cannot be read.") from None


# -- permissions --------------------------------------------------------------------------------------------------


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


async def find_viewer(request: Request, deps: PortalDeps) -> Viewer | None:
    """Whoever the request's token or cookie stands for. A token in the header is never looked up as a cookie's."""
    token = _bearer(request)
    is_api = token is not None
    token = token if token is not None else request.cookies.get(cookie_name(deps))
    if not token or len(token) > 200:
        return None
    session = await run_in_threadpool(deps.operators.find_session, token)
    if session is None or session.is_api_token is not is_api:
        return None
    return Viewer(session, address_of(request))


@dataclass(frozen=True, slots=True)
class Requires:
    """The dependency by which a route declares what it needs; ``signed_in`` is any operator at all.

    ``form``: the CSRF token is a field of the form instead of a header.
    """

    permission: Permission | Literal["signed_in"]
    form: bool = False

    async def __call__(self, request: Request, deps: Deps) -> Viewer:
        """The viewer. Raises ``Unauthenticated``, ``Denied`` or ``CrossSite``."""
        viewer = await find_viewer(request, deps)
        if viewer is None:
            raise Unauthenticated
        if request.method not in SAFE_METHODS and not viewer.session.is_api_token:
            check_same_site(request, deps)
            fields = await read_form(request) if self.form else {}
            token = fields.get("csrf", "") or request.headers.get(CSRF_HEADER, "")
            if not viewer.session.csrf_matches(token):
                raise CrossSite("The CSRF token is missing or not this session's. Reload the page.")
        if viewer.session.must_enrol and self.permission != "signed_in":
            raise SecondFactorMissing("Administrators sign in with a second factor. Add one to your account first.")
        if (
            self.permission != "signed_in"
            and self.permission not in viewer.permissions
            and not (self.permission in approvers.LENDABLE and await run_in_threadpool(_is_lent, deps, viewer))
        ):
            # Who tries doors that are not theirs is worth knowing of. %r: what was asked for makes no line of its own.
            _log.warning(
                "%s was refused %s %r: it needs %s",
                viewer.id,
                request.method,
                request.scope["path"],
                self.permission.value,
            )
            holders = ", ".join(role.value for role in Role if self.permission in PERMISSIONS[role])
            raise Denied(f"This needs the permission {self.permission.value}. Roles that have it: {holders}.")
        return viewer


def _is_lent(deps: PortalDeps, viewer: Viewer) -> bool:
    with deps.control.read() as tx:
        return bool(approvers.lenders(tx, viewer.id))


class Public:
    """Marks a route that needs nobody to be signed in."""

    async def __call__(self) -> None:
        """Nothing to check."""


PUBLIC: Final = Depends(Public())


def permit(permission: Permission | Literal["signed_in"], *, form: bool = False) -> Any:
    """``viewer: Annotated[Viewer, permit(Permission.AGENT_READ)]``: the route needs this permission."""
    return Depends(Requires(permission, form))


def declared(calls: list[Any]) -> list[str]:
    """What the dependencies of a route declare, as the table of routes shows it."""
    return [
        "public" if isinstance(call, Public) else str(call.permission)
        for call in calls
        if isinstance(call, Public | Requires)
    ]


# -- routes -------------------------------------------------------------------------------------------------------


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SetupBody(_Body):
    """The first administrator."""

    token: str = Field(max_length=200)
    name: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class SignInBody(_Body):
    """Name and password, and the code of an authenticator app (or a recovery code) where the account has one."""

    name: str = Field(max_length=200)
    password: str = Field(max_length=1000)
    code: str | None = Field(default=None, max_length=40)


class Me(BaseModel):
    """Who is signed in. Unsafe requests with the session cookie send ``csrf_token`` as ``X-CSRF-Token``."""

    id: str
    name: str
    roles: list[str]
    permissions: list[str]
    csrf_token: str
    must_add_second_factor: bool = False


def me(session: Session) -> Me:
    """``session`` as the API shows it."""
    return Me(
        id=session.operator.id,
        name=session.operator.name,
        roles=sorted(session.operator.roles),
        permissions=sorted(session.permissions),
        csrf_token=session.csrf_token,
        must_add_second_factor=session.must_enrol,
    )


def label_of(request: Request) -> str:
    """What the list of sessions calls the one that begins with ``request``."""
    return request.headers.get("user-agent", "browser")


@contextmanager
def throttling() -> Iterator[None]:
    """Who guesses too fast is told so, and when to come back."""
    try:
        yield
    except Unavailable as error:
        raise Throttled(str(error), retry_after=error.retry_after) from error


def sign_in(deps: PortalDeps, request: Request, name: str, password: str, code: str | None = None) -> SignedIn:
    """A fresh session. Raises ``SignInFailed``, ``SecondFactorRequired``, ``CodeWrong``, ``Throttled``,
    ``CrossSite``."""
    check_same_site(request, deps)
    with throttling():
        return deps.operators.sign_in(name, password, address_of(request), label=label_of(request), code=code)


router = APIRouter(prefix="/api", tags=["session"])


@router.post("/setup", status_code=201, dependencies=[PUBLIC], summary="Create the first administrator")
def create_first_operator(body: SetupBody, request: Request, response: Response, deps: Deps) -> Me:
    """Redeems the one-time token that the console showed, and signs in."""
    check_same_site(request, deps)
    operator = setup.set_up(deps.control, deps.operators.passwords, body.token, body.name, body.password)
    signed_in = sign_in(deps, request, operator.id, body.password)
    begin_session(request, response, deps, signed_in)
    return me(signed_in.session)


@router.post("/session", dependencies=[PUBLIC], summary="Sign in")
def create_session(body: SignInBody, request: Request, response: Response, deps: Deps) -> Me:
    """Answers with the session's CSRF token and sets the session cookie."""
    signed_in = sign_in(deps, request, body.name, body.password, body.code)
    begin_session(request, response, deps, signed_in)
    return me(signed_in.session)


@router.delete("/session", status_code=204, summary="Sign out")
def delete_session(viewer: Annotated[Viewer, permit("signed_in")], response: Response, deps: Deps) -> None:
    """Ends this session, or this API token."""
    deps.operators.sign_out(viewer.session, viewer.address)
    clear_cookie(response, deps)


@router.get("/me", summary="Who is signed in")
def read_me(viewer: Annotated[Viewer, permit("signed_in")]) -> Me:
    """The operator, their roles and what these allow."""
    return me(viewer.session)


def without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without passwords and tokens, to fill a form again."""
    return {name: value for name, value in values.items() if name not in ("password", "token", "csrf")}
