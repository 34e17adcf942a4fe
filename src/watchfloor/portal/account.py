"""One's own account: password, second factor, sessions. As an API, and as a page without script.

Above ``identity``. What must not be done for somebody who left their desk asks for the password again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import segno
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from watchfloor.identity import operators as accounts
from watchfloor.identity import second_factor
from watchfloor.identity.passwords import MIN_LENGTH
from watchfloor.model.errors import Conflict, InputError, NotFound, WatchfloorError
from watchfloor.portal.auth import Viewer, permit, read_form, throttling
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.html import Child, h, picture
from watchfloor.portal.layout import Column, alarm, csrf, field, moment, section, shell, table
from watchfloor.portal.problems import status_of
from watchfloor.storage import people, sign_in

router = APIRouter(prefix="/api/account", tags=["session"])
pages = APIRouter(prefix="/account", tags=["pages"], include_in_schema=False)

Self = Annotated[Viewer, permit("signed_in")]
SelfByForm = Annotated[Viewer, permit("signed_in", form=True)]


class PasswordWrong(InputError):
    """The password, asked again, is wrong."""

    code = "password_wrong"

    def __init__(self) -> None:
        super().__init__("the password is wrong.", where="password")


class SessionView(BaseModel):
    """A session or API token. ``id`` says nothing of its secret."""

    id: str
    label: str
    is_api_token: bool
    is_this: bool
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


class AccountView(BaseModel):
    """``signs_in_through`` is the identity provider's issuer; empty for a password."""

    id: str
    name: str
    roles: list[str]
    signs_in_through: str
    has_second_factor: bool
    must_add_second_factor: bool
    recovery_codes_left: int
    sessions: list[SessionView]


class EnrolmentView(BaseModel):
    """For the authenticator app: the key in base 32, and the same as a URI for a QR code. Shown once."""

    key: str
    uri: str


class RecoveryCodes(BaseModel):
    """Each signs in once in place of the app. Shown once."""

    recovery_codes: list[str]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PasswordBody(_Body):
    """The account's password."""

    password: str = Field(max_length=1000, repr=False)


class CodeBody(_Body):
    """What the app shows."""

    code: str = Field(max_length=40)


class NewPasswordBody(_Body):
    """The password as it is, and as it is to be."""

    current: str = Field(max_length=1000, repr=False)
    new: str = Field(max_length=1000, repr=False)


# -- what there is ------------------------------------------------------------------------------------------------


def account_view(deps: PortalDeps, viewer: Viewer) -> AccountView:
    """The viewer's own account."""
    with deps.control.read() as tx:
        factor = sign_in.find_factor(tx, viewer.id)
        identity = sign_in.find_identity(tx, viewer.id)
        sessions = [s for s in people.list_sessions(tx, viewer.id) if s.expires_at > tx.now]
    operator = viewer.session.operator
    confirmed = factor if factor is not None and factor.is_confirmed else None
    return AccountView(
        id=operator.id,
        name=operator.name,
        roles=sorted(operator.roles),
        signs_in_through=identity.issuer if identity is not None else "",
        has_second_factor=confirmed is not None,
        must_add_second_factor=viewer.session.must_enrol,
        recovery_codes_left=len(confirmed.recovery) if confirmed is not None else 0,
        sessions=[
            SessionView(
                id=_session_id(s.token_hash),
                label=s.label,
                is_api_token=s.is_api_token,
                is_this=s.token_hash == viewer.session.token_hash,
                created_at=s.created_at,
                seen_at=s.seen_at,
                expires_at=s.expires_at,
            )
            for s in sessions
        ],
    )


def _session_id(token_hash: str) -> str:
    return token_hash[:24]


def _ask_again(deps: PortalDeps, viewer: Viewer, password: str) -> None:
    """Raises ``PasswordWrong``, ``Throttled``; ``Conflict`` for whoever has no password here."""
    if viewer.session.operator.password_hash is None:
        raise Conflict("this account has no password.", where="account", remedy="Its identity provider looks after it.")
    with throttling():
        if not deps.operators.password_matches(viewer.session, password):
            raise PasswordWrong


def begin_factor(deps: PortalDeps, viewer: Viewer, password: str) -> second_factor.Enrolment:
    """A key for an authenticator app, after the password."""
    _ask_again(deps, viewer, password)
    with deps.control.tx(viewer.id) as tx:
        return second_factor.begin(tx, deps.vault, viewer.id)


def confirm_factor(deps: PortalDeps, viewer: Viewer, code: str) -> list[str]:
    """Takes the app into use and ends the account's other sessions: they began without it."""
    with deps.operators.guessing(viewer.session), deps.control.tx(viewer.id) as tx:
        codes = second_factor.confirm(tx, deps.vault, viewer.id, code)
        people.delete_sessions(tx, viewer.id, keep=viewer.session.token_hash, action="operator:end-sessions")
        return codes


def remove_factor(deps: PortalDeps, viewer: Viewer, password: str) -> None:
    """Signs in by password alone from now on."""
    _ask_again(deps, viewer, password)
    with deps.control.tx(viewer.id) as tx:
        if not second_factor.remove(tx, viewer.id):
            raise NotFound("there is no second factor.", where="second_factor")


def change_password(deps: PortalDeps, viewer: Viewer, current: str, new: str) -> None:
    """Another password; every other session and token of the account ends."""
    _ask_again(deps, viewer, current)
    hashed = deps.operators.passwords.hash(new, where="new")
    with deps.control.tx(viewer.id) as tx:
        accounts.set_password(tx, viewer.id, hashed, keep=viewer.session.token_hash)


def end_session(deps: PortalDeps, viewer: Viewer, session_id: str) -> None:
    """End one session or token of one's own."""
    with deps.control.tx(viewer.id) as tx:
        found = [s for s in people.list_sessions(tx, viewer.id) if _session_id(s.token_hash) == session_id]
        if not found:
            raise NotFound("there is no such session.", where="session")
        people.delete_session(tx, found[0], "operator:end-session")


# -- the API ------------------------------------------------------------------------------------------------------


@router.get("", summary="My account")
def read_account(viewer: Self, deps: Deps) -> AccountView:
    """Second factor, sessions and API tokens."""
    return account_view(deps, viewer)


@router.post("/second-factor", status_code=201, summary="Begin to add a second factor")
def begin_second_factor(body: PasswordBody, viewer: Self, deps: Deps) -> EnrolmentView:
    """A key for an authenticator app; it counts once it is confirmed."""
    enrolment = begin_factor(deps, viewer, body.password)
    return EnrolmentView(key=enrolment.key, uri=enrolment.uri)


@router.post("/second-factor/confirm", summary="Take the second factor into use")
def confirm_second_factor(body: CodeBody, viewer: Self, deps: Deps) -> RecoveryCodes:
    """With a code that the app shows. Ends the account's other sessions."""
    return RecoveryCodes(recovery_codes=confirm_factor(deps, viewer, body.code))


@router.post("/second-factor/remove", status_code=204, summary="Remove the second factor")
def remove_own_second_factor(body: PasswordBody, viewer: Self, deps: Deps) -> None:
    """The next sign-in takes the password alone; administrators are asked to add another one."""
    remove_factor(deps, viewer, body.password)


@router.put("/password", status_code=204, summary="Change the password")
def put_password(body: NewPasswordBody, viewer: Self, deps: Deps) -> None:
    """Ends every other session and API token of the account."""
    change_password(deps, viewer, body.current, body.new)


@router.delete("/sessions/{session_id}", status_code=204, summary="End a session of mine")
def delete_own_session(session_id: str, viewer: Self, deps: Deps) -> None:
    """A session or an API token, by the id in the list."""
    end_session(deps, viewer, session_id)


# -- the page -----------------------------------------------------------------------------------------------------


def _form(viewer: Viewer, action: str, *content: Child, button: str, cls: str = "primary") -> Child:
    return h(
        "form", csrf(viewer), *content, h("button", button, type="submit", cls=cls), method="post",
        action=f"/account/{action}",
    )  # fmt: skip


def _password(name: str = "password", label: str = "Your password", hint: str = "") -> Child:
    kind = "new-password" if name == "new" else "current-password"
    return field(label, name, type="password", autocomplete=kind, hint=hint)


def _page(deps: PortalDeps, viewer: Viewer, problem: str = "", *extra: Child, status: int = 200) -> Response:
    account = account_view(deps, viewer)
    response = shell(
        viewer,
        "Account",
        h("h1", account.name),
        h("p", "Signs in as ", h("code", account.id), f" · {', '.join(account.roles)}", cls="lead"),
        alarm(problem) if problem else None,
        alarm("Administrators sign in with a second factor. Add one; until then nothing else is open to you.")
        if account.must_add_second_factor and not extra
        else None,
        *extra,
        _factor_section(viewer, account) if not account.signs_in_through else _provider_section(account),
        _password_section(viewer) if not account.signs_in_through else None,
        _sessions_section(viewer, account),
        here="/account",
    )
    response.status_code = status
    return response


def _provider_section(account: AccountView) -> Child:
    return section("Sign-in", h("p", "Through ", h("code", account.signs_in_through), ", which looks after it."))


def _factor_section(viewer: Viewer, account: AccountView) -> Child:
    if account.has_second_factor:
        left = account.recovery_codes_left
        return section(
            "Second factor",
            h("p", "An authenticator app is in use."),
            h("p", f"{left} recovery code{'' if left == 1 else 's'} left.", cls="note"),
            _form(viewer, "second-factor/remove", _password(), button="Remove", cls="danger"),
        )
    return section(
        "Second factor",
        h("p", "With an authenticator app, a stolen password alone opens nothing."),
        _form(viewer, "second-factor", _password(), button="Add an authenticator app"),
    )


def _password_section(viewer: Viewer) -> Child:
    return section(
        "Password",
        _form(
            viewer, "password", _password("current", "Password as it is"),
            _password("new", "New password", f"At least {MIN_LENGTH} characters. Your other sessions end."),
            button="Change password",
        ),
    )  # fmt: skip


def _sessions_section(viewer: Viewer, account: AccountView) -> Child:
    rows: list[list[Child]] = [
        [
            [s.label, " (this one)" if s.is_this else ""],
            "API token" if s.is_api_token else "Browser",
            moment(s.created_at),
            moment(s.seen_at),
            moment(s.expires_at),
            _form(viewer, f"sessions/{s.id}", button="End", cls="quiet") if not s.is_this else None,
        ]
        for s in account.sessions
    ]
    columns = [
        Column("What", wide=True), Column("Kind"), Column("Since (UTC)"), Column("Last used (UTC)"),
        Column("Until (UTC)"), Column(""),
    ]  # fmt: skip
    return section("Sessions", table("Sessions and API tokens", columns, rows, "None."))


def _enrolment(viewer: Viewer, enrolment: second_factor.Enrolment) -> Child:
    code = segno.make(enrolment.uri, error="m").svg_inline(scale=5, border=2, dark="#000", light="#fff")
    return section(
        "Scan this with your authenticator app",
        h("p", picture(code), cls="code"),
        h("p", "Or type the key: ", h("code", " ".join(_fours(enrolment.key)))),
        _form(
            viewer, "second-factor/confirm",
            field("Code", "code", autocomplete="one-time-code", hint="What the app shows now.", autofocus=True),
            button="Take into use",
        ),
    )  # fmt: skip


def _fours(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


def _recovery(codes: list[str]) -> Child:
    return section(
        "Your recovery codes",
        h("p", "Each signs you in once if your phone is lost. They are not shown again: keep them somewhere safe."),
        h("ul", [h("li", h("code", code)) for code in codes]),
    )


@pages.get("")
def show(viewer: Self, deps: Deps) -> Response:
    """The account."""
    return _page(deps, viewer)


async def _done(
    request: Request, viewer: Viewer, deps: PortalDeps, act: Callable[[dict[str, str]], Child | None]
) -> Response:
    """The page after ``act`` of the form's fields, with what went wrong or with what it shows; else back to it."""
    form = await read_form(request)

    def run() -> Response:
        try:
            shown = act(form)
        except WatchfloorError as error:
            text = f"{error.message} {error.remedy}" if isinstance(error, InputError) else str(error)
            return _page(deps, viewer, text[:1].upper() + text[1:], status=status_of(error)[0])
        return RedirectResponse("/account", 303) if shown is None else _page(deps, viewer, "", shown)

    return await run_in_threadpool(run)


@pages.post("/second-factor")
async def page_begin(request: Request, viewer: SelfByForm, deps: Deps) -> Response:
    """Shows the key."""
    return await _done(
        request, viewer, deps, lambda form: _enrolment(viewer, begin_factor(deps, viewer, form.get("password", "")))
    )


@pages.post("/second-factor/confirm")
async def page_confirm(request: Request, viewer: SelfByForm, deps: Deps) -> Response:
    """Takes it into use and shows the recovery codes."""
    return await _done(
        request, viewer, deps, lambda form: _recovery(confirm_factor(deps, viewer, form.get("code", "")))
    )


def _silently(act: Callable[[dict[str, str]], Any]) -> Callable[[dict[str, str]], None]:
    def run(form: dict[str, str]) -> None:
        act(form)

    return run


@pages.post("/second-factor/remove")
async def page_remove(request: Request, viewer: SelfByForm, deps: Deps) -> Response:
    """Removes it."""
    act = _silently(lambda form: remove_factor(deps, viewer, form.get("password", "")))
    return await _done(request, viewer, deps, act)


@pages.post("/password")
async def page_password(request: Request, viewer: SelfByForm, deps: Deps) -> Response:
    """Changes it."""
    act = _silently(lambda form: change_password(deps, viewer, form.get("current", ""), form.get("new", "")))
    return await _done(request, viewer, deps, act)


@pages.post("/sessions/{session_id}")
async def page_end(session_id: str, request: Request, viewer: SelfByForm, deps: Deps) -> Response:
    """Ends one."""
    return await _done(request, viewer, deps, _silently(lambda form: end_session(deps, viewer, session_id)))
