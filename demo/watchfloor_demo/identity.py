"""Zava's identity provider: a small but real OpenID provider.

Discovery, RS256 keys, authorization code with PKCE behind a sign-in form, refresh tokens that rotate, a password grant
for the scripted people, and an administration API (disable, revoke sessions, force a new password, read back). Keeps
its sessions in memory: a restart signs everybody out. Knows nothing of agents.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT: Final = "watchfloor"
_ID_SECONDS: Final = 3600
_CODE_SECONDS: Final = 60
_SESSION_SECONDS: Final = 12 * 3600
_PENDING_SECONDS: Final = 600
_MOST_FAILURES: Final = 10
_FAILURE_SECONDS: Final = 60
_COOKIE: Final = "zava_session"


@dataclass(slots=True)
class Account:
    """A person who may sign in."""

    id: str
    name: str
    mail: str
    groups: tuple[str, ...]
    salt: bytes
    verifier: bytes
    is_enabled: bool = True
    must_reset: bool = False
    password_changed_at: float = 0.0
    failures: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Session:
    """A signed-in browser or program."""

    id: str
    account: str
    auth_time: int
    expires_at: float
    refresh: str = ""
    spent: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Pending:
    """An authorization request that waits for its sign-in, or a code that waits to be redeemed."""

    parameters: Mapping[str, str]
    expires_at: float
    session: str = ""


class OAuthError(Exception):
    """Refusal in OAuth's words."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        self.code, self.description, self.status = code, description, status
        super().__init__(f"{code}: {description}")


def _verifier(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**11, r=8, p=1)


class IdentityProvider:
    """The provider: accounts, sessions, tokens. ``now`` is Unix time."""

    def __init__(
        self,
        issuer: str,
        key_pem: str,
        admin_secret: str,
        client_secret: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.issuer, self._now = issuer, now
        self._admin_secret, self._client_secret = admin_secret, client_secret
        self._key = RSAKey.import_key(key_pem, {"use": "sig", "alg": "RS256"})
        self._kid = self._key.thumbprint()
        self._accounts: dict[str, Account] = {}
        self._sessions: dict[str, Session] = {}
        self._pending: dict[str, _Pending] = {}
        self._codes: dict[str, _Pending] = {}

    # -- accounts and sessions ------------------------------------------------------------------------------------

    def add(self, account_id: str, name: str, mail: str, groups: tuple[str, ...], password: str) -> None:
        """Add a person who may sign in."""
        salt = secrets.token_bytes(16)
        self._accounts[account_id] = Account(account_id, name, mail, groups, salt, _verifier(password, salt))

    def _find(self, name: str) -> Account | None:
        return self._accounts.get(name) or next((a for a in self._accounts.values() if a.mail == name), None)

    def authenticate(self, name: str, password: str, new_password: str = "") -> Account:
        """The account that these belong to. Raises ``OAuthError``, the same for a wrong name and a wrong password."""
        account, now = self._find(name), self._now()
        if account is None:
            raise OAuthError("invalid_grant", "name or password is wrong")
        account.failures = [at for at in account.failures if now - at < _FAILURE_SECONDS]
        if len(account.failures) >= _MOST_FAILURES:
            raise OAuthError("invalid_grant", "too many attempts; wait a minute", 429)
        if not hmac.compare_digest(_verifier(password, account.salt), account.verifier):
            account.failures.append(now)
            raise OAuthError("invalid_grant", "name or password is wrong")
        if not account.is_enabled:
            raise OAuthError("invalid_grant", "this account is disabled")
        if account.must_reset:
            if not new_password:
                raise OAuthError("password_reset_required", "choose a new password")
            if len(new_password) < 12 or new_password == password:
                raise OAuthError("password_reset_required", "the new password needs 12 characters and must be new")
        if new_password:
            account.salt = secrets.token_bytes(16)
            account.verifier = _verifier(new_password, account.salt)
            account.must_reset, account.password_changed_at = False, now
        account.failures.clear()
        return account

    def open_session(self, account: Account) -> Session:
        """A new session, authenticated now."""
        now = self._now()
        self._sessions = {k: s for k, s in self._sessions.items() if s.expires_at > now}
        session = Session(f"ses-{secrets.token_hex(8)}", account.id, int(now), now + _SESSION_SECONDS)
        self._sessions[session.id] = session
        return session

    def _live(self, session_id: str) -> Session | None:
        session = self._sessions.get(session_id)
        if session is None:
            return None
        if session.expires_at < self._now() or not self._accounts[session.account].is_enabled:
            del self._sessions[session_id]
            return None
        return session

    # -- tokens ---------------------------------------------------------------------------------------------------

    def _sign(self, claims: dict[str, Any], kind: str) -> str:
        return jwt.encode({"alg": "RS256", "typ": kind, "kid": self._kid}, claims, self._key, algorithms=["RS256"])

    def tokens(self, session: Session, nonce: str = "") -> dict[str, Any]:
        """ID, access and refresh token of a session; the refresh token before it is spent."""
        account, now = self._accounts[session.account], int(self._now())
        if session.refresh:
            session.spent.add(session.refresh)
        session.refresh = f"{session.id}.{secrets.token_urlsafe(24)}"
        times = {"iat": now, "exp": now + _ID_SECONDS, "auth_time": session.auth_time, "sid": session.id}
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": account.id,
            "aud": CLIENT,
            **times,
            "amr": ["pwd"],
            "name": account.name,
            "email": account.mail,
            "preferred_username": account.mail,
            "groups": list(account.groups),
            "jti": secrets.token_hex(8),
        }
        if nonce:
            claims["nonce"] = nonce
        access = {"iss": self.issuer, "sub": account.id, "aud": self.issuer, "client_id": CLIENT, **times}
        return {
            "token_type": "Bearer",
            "expires_in": _ID_SECONDS,
            "id_token": self._sign(claims, "JWT"),
            "access_token": self._sign(access, "at+jwt"),
            "refresh_token": session.refresh,
            "scope": "openid profile email",
        }

    def refresh(self, token: str) -> dict[str, Any]:
        """New tokens for a refresh token. One that was spent before ends its session: somebody holds a copy."""
        session = self._live(token.partition(".")[0])
        if session is None:
            raise OAuthError("invalid_grant", "the session has ended")
        if token in session.spent:
            del self._sessions[session.id]
            raise OAuthError("invalid_grant", "this refresh token was used before; the session is ended")
        if not hmac.compare_digest(token, session.refresh):
            raise OAuthError("invalid_grant", "unknown refresh token")
        return self.tokens(session)

    def redeem(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Tokens for an authorization code: once, by the client that asked, with the PKCE verifier."""
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.expires_at < self._now():
            raise OAuthError("invalid_grant", "the code is unknown, used or too old")
        asked, session = code.parameters, self._live(code.session)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if not hmac.compare_digest(challenge.decode().rstrip("="), asked["code_challenge"]):
            raise OAuthError("invalid_grant", "code_verifier does not fit")
        if form.get("redirect_uri") != asked["redirect_uri"] or form.get("client_id", CLIENT) != asked["client_id"]:
            raise OAuthError("invalid_grant", "client_id or redirect_uri differs from the request")
        if session is None:
            raise OAuthError("invalid_grant", "the session has ended")
        return self.tokens(session, asked.get("nonce", ""))

    # -- doors ----------------------------------------------------------------------------------------------------

    def app(self) -> Starlette:
        """The provider's HTTP side."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._configuration),
                Route("/jwks", self._jwks),
                Route("/authorize", self._authorize),
                Route("/sign-in", self._sign_in, methods=["POST"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo),
                Route("/end-session", self._end_session),
                Route("/admin/users/{user}", self._admin_read),
                Route("/admin/users/{user}/{action}", self._admin_act, methods=["POST"]),
            ],
            exception_handlers={OAuthError: _refuse},
        )

    async def _configuration(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "end_session_endpoint": f"{self.issuer}/end-session",
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token", "password"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
                "scopes_supported": ["openid", "profile", "email"],
                "claims_supported": ["sub", "name", "email", "groups", "auth_time", "sid", "amr"],
            }
        )

    async def _jwks(self, request: Request) -> Response:
        public = {**self._key.as_dict(private=False), "kid": self._kid, "use": "sig", "alg": "RS256"}
        return JSONResponse(KeySet.import_key_set({"keys": [public]}).as_dict(private=False))

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        target = urlsplit(asked.get("redirect_uri", ""))
        is_loopback = target.scheme == "http" and target.hostname in ("127.0.0.1", "localhost")
        if asked.get("client_id") != CLIENT or not is_loopback:
            # Never redirect to an address that is not the client's (RFC 6749, 4.1.2.1; loopback as in RFC 8252).
            raise OAuthError("invalid_request", "unknown client_id, or redirect_uri is not on this machine")
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            return _back(asked, error="invalid_request", error_description="code with PKCE (S256) is required")
        if not asked.get("code_challenge"):
            return _back(asked, error="invalid_request", error_description="code_challenge is missing")
        session = self._live(request.cookies.get(_COOKIE, ""))
        if session is not None and asked.get("prompt") != "login":
            return self._grant(asked, session)
        if asked.get("prompt") == "none":
            return _back(asked, error="login_required")
        now = self._now()
        self._pending = {k: p for k, p in self._pending.items() if p.expires_at > now}
        ticket = secrets.token_urlsafe(16)
        self._pending[ticket] = _Pending(asked, now + _PENDING_SECONDS)
        return _form(ticket)

    def _grant(self, asked: Mapping[str, str], session: Session) -> Response:
        code, now = secrets.token_urlsafe(24), self._now()
        self._codes = {k: c for k, c in self._codes.items() if c.expires_at > now}
        self._codes[code] = _Pending(asked, now + _CODE_SECONDS, session.id)
        response = _back(asked, code=code)
        response.set_cookie(_COOKIE, session.id, httponly=True, samesite="lax", max_age=_SESSION_SECONDS)
        return response

    async def _sign_in(self, request: Request) -> Response:
        form = await _fields(request)
        pending = self._pending.get(form.get("ticket", ""))
        if pending is None or pending.expires_at < self._now():
            raise OAuthError("invalid_request", "this sign-in page is too old; start again")
        try:
            account = self.authenticate(
                form.get("username", ""), form.get("password", ""), form.get("new_password", "")
            )
        except OAuthError as error:
            return _form(
                form["ticket"], error.description, error.code == "password_reset_required", form.get("username", "")
            )
        del self._pending[form["ticket"]]
        return self._grant(pending.parameters, self.open_session(account))

    async def _token(self, request: Request) -> Response:
        form = await _fields(request)
        match form.get("grant_type"):
            case "authorization_code":
                body = self.redeem(form)
            case "refresh_token":
                body = self.refresh(form.get("refresh_token", ""))
            case "password":
                if not hmac.compare_digest(form.get("client_secret", ""), self._client_secret):
                    raise OAuthError("invalid_client", "the password grant is for the scripted people only", 401)
                account = self.authenticate(
                    form.get("username", ""), form.get("password", ""), form.get("new_password", "")
                )
                body = self.tokens(self.open_session(account))
            case _:
                raise OAuthError("unsupported_grant_type", "use authorization_code, refresh_token or password")
        return JSONResponse(body, headers={"cache-control": "no-store"})

    async def _userinfo(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            claims = jwt.decode(token, self._key, algorithms=["RS256"]).claims if scheme.lower() == "bearer" else {}
        except (JoseError, ValueError):
            claims = {}
        session = self._live(str(claims.get("sid", "")))
        if session is None or claims.get("aud") != self.issuer or claims["exp"] < self._now():
            return JSONResponse({"error": "invalid_token"}, 401, {"www-authenticate": 'Bearer error="invalid_token"'})
        account = self._accounts[session.account]
        return JSONResponse({"sub": account.id, "name": account.name, "email": account.mail})

    async def _end_session(self, request: Request) -> Response:
        self._sessions.pop(request.cookies.get(_COOKIE, ""), None)
        response = HTMLResponse(_page("Signed out", "<p>You are signed out.</p>"))
        response.delete_cookie(_COOKIE)
        return response

    # -- administration -------------------------------------------------------------------------------------------

    def _administered(self, request: Request) -> Account:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(secret, self._admin_secret):
            raise OAuthError("access_denied", "administration needs the administrator's secret", 401)
        account = self._accounts.get(request.path_params["user"])
        if account is None:
            raise OAuthError("not_found", "there is no such user", 404)
        return account

    def _state(self, account: Account) -> dict[str, Any]:
        return {
            "id": account.id,
            "enabled": account.is_enabled,
            "must_reset_password": account.must_reset,
            "password_changed_at": account.password_changed_at,
            "sessions": [s.id for s in self._sessions.values() if s.account == account.id],
        }

    async def _admin_read(self, request: Request) -> Response:
        return JSONResponse(self._state(self._administered(request)))

    async def _admin_act(self, request: Request) -> Response:
        account = self._administered(request)
        match request.path_params["action"]:
            case "disable":
                account.is_enabled = False
                self._end_all(account)
            case "enable":
                account.is_enabled = True
            case "revoke-sessions":
                self._end_all(account)
            case "force-reset":
                account.must_reset = True
                self._end_all(account)
            case other:
                raise OAuthError("not_found", f"unknown action {other!r}", 404)
        return JSONResponse(self._state(account))

    def _end_all(self, account: Account) -> None:
        self._sessions = {k: s for k, s in self._sessions.items() if s.account != account.id}


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, OAuthError)
    return JSONResponse({"error": error.code, "error_description": error.description}, error.status)


async def _fields(request: Request) -> dict[str, str]:
    return {
        name: values[-1] for name, values in parse_qs((await request.body()).decode(), keep_blank_values=True).items()
    }


def _back(asked: Mapping[str, str], **answer: str) -> Response:
    if "state" in asked:
        answer["state"] = asked["state"]
    target = asked["redirect_uri"]
    return RedirectResponse(f"{target}{'&' if '?' in target else '?'}{urlencode(answer)}", 302)


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} - Zava</title>'
        "<style>body{font:16px system-ui;max-width:22rem;margin:4rem auto}label,input,button{display:block;width:100%;"
        "margin:.4rem 0;padding:.4rem;box-sizing:border-box}label{padding:0}[role=alert]{color:#a00}</style></head>"
        f"<body><h1>{title}</h1>{body}</body></html>"
    )


def _form(ticket: str, message: str = "", must_reset: bool = False, name: str = "") -> Response:
    name = html.escape(name, quote=True)
    alert = f'<p role="alert">{html.escape(message)}</p>' if message else ""
    renew = (
        '<label for="n">New password</label><input id="n" name="new_password" type="password" '
        'autocomplete="new-password" required>'
        if must_reset
        else ""
    )
    body = (
        f'{alert}<form method="post" action="/sign-in">'
        f'<input type="hidden" name="ticket" value="{html.escape(ticket)}"><label for="u">Name</label>'
        f'<input id="u" name="username" autocomplete="username" value="{name}" required autofocus>'
        '<label for="p">Password</label><input id="p" name="password" type="password" autocomplete="current-password" '
        f'required>{renew}<button type="submit">Sign in</button></form>'
    )
    return HTMLResponse(_page("Sign in", body), 401 if message else 200)
