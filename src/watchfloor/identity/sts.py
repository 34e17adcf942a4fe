"""The token service: a user's token of a trusted identity provider becomes a gateway token for one resource.

Above ``identity.providers`` (whose foreign tokens to believe), ``identity.keys`` (what to sign with) and the
repositories; ``portal/sts.py`` is its door. It knows RFC 8693 and RFC 6749 but no HTTP, and writes nothing but the
audit entries of refusals and, through ``identity.logons``, what it answered whom.

A gateway token names user, agent and one resource: a tool server (``/mcp/{server}``), the agent's own affairs
(``/agents``), where it counts at each of the agent's tool servers (docs/decisions/0012), or another agent to hand work
to (``/agents/{id}``, see ``handover``). It lives for ten minutes at
most and never longer than the token it was made from, and carries the epochs of user and agent: whoever raises one
kills it. Its ``mode`` comes from the agent's bindings at that server, never from the caller: ``maker`` when every
binding there uses the maker's stored credentials, else ``obo`` with a user's token and ``agent`` without. A subject
token may be exchanged as often as its holder likes while it lives: agents talk to several tool servers, and a stolen
one is ended by revoking the user.

INVARIANT: state is read, after the subject token has been verified, in one snapshot. A revoke that commits later has
raised the epoch above the one in the token.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from joserfc import jwt

from watchfloor.identity import handover
from watchfloor.identity.access import Gatekeeper, require_password_change
from watchfloor.identity.access_log import AccessLog, SignIn
from watchfloor.identity.handover import HandedOver, read_handover
from watchfloor.identity.keys import Signer, current_key, open_key, public_keys
from watchfloor.identity.logons import Attempt, TokenEvents
from watchfloor.identity.providers import (
    KeySets,
    Subject,
    SubjectRefused,
    auth_time_of,
    unverified_issuer,
    verify_subject,
)
from watchfloor.identity.refusals import RefusalLog
from watchfloor.identity.throttle import Limit, Throttle
from watchfloor.model.access import ACR_MULTI_FACTOR, AccessFacts, Control, Proof
from watchfloor.model.agents import AgentState, CredentialOwner, Scope, ServerState, TokenMode
from watchfloor.model.errors import Denied, Unavailable
from watchfloor.model.people import RiskLevel
from watchfloor.storage import inventory, people
from watchfloor.storage.aliases import agent_called
from watchfloor.storage.secrets import agent_secret_purpose, secret_hasher

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.vault import Vault

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
CLIENT_CREDENTIALS: Final = "client_credentials"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 a name, not a secret
SUBJECT_TYPES: Final = frozenset(
    f"urn:ietf:params:oauth:token-type:{name}" for name in ("access_token", "id_token", "jwt")
)
REQUESTED_TYPES: Final = frozenset(f"urn:ietf:params:oauth:token-type:{name}" for name in ("access_token", "jwt"))
MAX_TOKEN_SECONDS: Final = 600
_NO_HASH: Final = "0" * 64
_PROTOCOLS: Final = {EXCHANGE: "token-exchange", CLIENT_CREDENTIALS: "client-credentials"}


class TokenRefused(Denied):
    """No token.

    ``error`` is the OAuth code, ``status`` the HTTP status, ``reason`` our own stable code (as the guard names them).
    ``step_up``: what the user's sign-in must be (``max_age`` in seconds, ``acr_values``), where a better one would do.
    ``is_back``: somebody who owes a new password comes with a sign-in from after their sessions were ended.
    """

    def __init__(
        self,
        error: str,
        description: str,
        *,
        reason: str,
        status: int = 400,
        retry_after: float | None = None,
        step_up: Mapping[str, Any] | None = None,
        is_back: bool = False,
    ) -> None:
        self.error, self.description, self.reason, self.is_back = error, description, reason, is_back
        self.status, self.retry_after, self.step_up = status, retry_after, dict(step_up or {})
        super().__init__(description)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token request, as its door read it. ``client_secrets``: readings of what was sent; one must be right."""

    grant_type: str
    client_id: str
    client_secrets: tuple[str, ...] = field(repr=False)
    resource: str
    address: str
    scope: str = ""
    subject_token: str = field(default="", repr=False)
    subject_token_type: str = ""
    requested_token_type: str = ""
    takes_claims: bool = False
    """Whether the agent declares that it can answer a claims challenge (``xms_cc``: ``cp1``)."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A gateway token. ``expires_in`` is in seconds."""

    access_token: str = field(repr=False)
    expires_in: int
    scope: str
    mode: TokenMode


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """``issuer`` of our tokens; ``gateway_url`` before ``/mcp/{server}``; ages in seconds."""

    issuer: str
    gateway_url: str
    token_seconds: int = MAX_TOKEN_SECONDS
    subject_max_age_seconds: int = 3600


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a token may say, once everything has been checked."""

    audience: str
    mode: TokenMode
    scopes: tuple[str, ...]
    agent_epoch: int
    signer: Signer
    user: people.User | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What the subject token adds."""
    expires: float = math.inf

    @property
    def signed_in_at(self) -> datetime | None:
        """When the user signed in, where there is one and that is known."""
        seconds = self.claims.get("auth_time")
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class TokenService:
    """Issues gateway tokens; safe between threads; blocks on the database and, rarely, on an identity provider."""

    def __init__(
        self,
        store: SqlControlStore,
        vault: Vault,
        settings: TokenSettings,
        *,
        key_sets: KeySets | None = None,
        access_log: AccessLog | None = None,
        clock: Callable[[], float] = time.monotonic,
        events: TokenEvents | None = None,
        returned: Callable[[str, str], object] = lambda issuer, subject: None,
    ) -> None:
        """``returned`` is called with issuer and subject of whoever is refused and ``is_back``: a new password may be
        set by now."""
        self._store, self._vault, self.settings, self._events = store, vault, settings, events
        self.key_sets = key_sets or KeySets()
        self._access, self._access_log = Gatekeeper(), access_log or AccessLog()
        self._audience = f"{settings.gateway_url.rstrip('/')}/mcp/"
        self._own_audience = f"{settings.gateway_url.rstrip('/')}/agents"
        # Wrong secrets of one agent from one address; wrong secrets from one address whatever the agent.
        self._pair = Throttle(Limit(10, 60), clock=clock)
        self._address = Throttle(Limit(60, 60), clock=clock)
        self._refusals = RefusalLog(store, clock=clock)
        self._returned = returned
        self._signer_kept: Signer | None = None
        self._counts: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()

    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many requests ended how, since the start: (``issued``, mode) and (``refused``, reason)."""
        with self._counting:
            return dict(self._counts)

    def published_keys(self) -> dict[str, Any]:
        """The JWK set of our tokens' issuer."""
        with self._store.read() as tx:
            return {"keys": public_keys(tx)}

    def issue(self, request: TokenRequest) -> IssuedToken:
        """A gateway token for ``request``. Raises ``TokenRefused``; ``Unavailable`` if it cannot be written down."""
        server_id = request.resource.removeprefix(self._audience) if self._audience in request.resource else ""
        attempt = Attempt(
            request.address, _PROTOCOLS.get(request.grant_type, ""), request.client_id, request.resource, server_id,
            is_own=request.resource == self._own_audience,
            target_agent_id=request.resource.removeprefix(f"{self._own_audience}/"),
        )  # fmt: skip
        try:
            token = self._issue(request, attempt)
        except TokenRefused as refused:
            self._count("refused", refused.reason)
            self._refusals.note(refused.reason, agent=request.client_id, address=request.address, server=server_id)
            if self._events is not None:
                self._events.refused(attempt, refused.reason)
            if refused.is_back and attempt.issuer:
                self._returned(attempt.issuer, attempt.subject)
            raise
        if self._events is not None:
            self._events.issued(attempt)
        self._count("issued", token.mode.value)
        return token

    def check(self, request: TokenRequest) -> None:
        """Raise ``TokenRefused`` where state refuses the agent of ``request`` a token; it need not prove who it is."""
        with self._store.read() as tx:
            self._grant(tx, request, None)

    def _count(self, outcome: str, detail: str) -> None:
        with self._counting:
            self._counts[outcome, detail] += 1

    def _issue(self, request: TokenRequest, attempt: Attempt) -> IssuedToken:
        self._authenticate(request)
        subject = self._subject(request)
        if isinstance(subject, HandedOver):
            attempt.user_id, attempt.session_id = subject.user_id or "", subject.session_id
            attempt.handed_over_by = subject.actors[0].agent_id
        elif subject is not None:
            attempt.issuer, attempt.subject = subject.issuer, subject.subject
            attempt.session_id = subject.session_id or _session_id(subject)
        with self._store.read() as tx:
            grant = self._grant(tx, request, subject)
            answer = self._ask_access(tx, request, grant)
            now = tx.now
        attempt.scope, attempt.mode = " ".join(grant.scopes), grant.mode.value
        if answer is not None:
            self._apply_access(request, grant, answer)
        return self._sign(request, grant, now)

    # -- on what conditions ---------------------------------------------------------------------------------------

    def _ask_access(self, tx: ControlTx, request: TokenRequest, grant: _Grant) -> AccessFacts | None:
        agent = inventory.find_agent(tx, request.client_id)
        assert agent is not None, "a grant is given to an agent that is there"
        said = grant.claims
        proof = Proof(tuple(said.get("amr", ())), said.get("sign_in_risk", RiskLevel.NONE.value))
        return self._access.answer(
            tx, grant.user, agent, grant.mode, self._server_of(request), proof, grant.signed_in_at
        )

    def _apply_access(self, request: TokenRequest, grant: _Grant, answer: AccessFacts) -> None:
        """Log what conditional access says, do to the user what it asks for. Raises ``TokenRefused``."""
        if answer.refusing or answer.would_refuse or answer.problem:
            server_id, session = self._server_of(request), str(grant.claims["sid"])
            self._access_log.note(
                answer,
                SignIn(request.client_id, grant.user, grant.mode, server_id, session, request.address,
                       grant.signed_in_at),
            )  # fmt: skip
        if answer.control is Control.GRANT:
            return
        if answer.control is Control.PASSWORD_CHANGE and grant.user is not None:
            with self._store.tx("system:access") as tx:
                require_password_change(tx, grant.user.id, answer)
        raise _refused_by_access(answer, has_user=grant.user is not None)

    def _server_of(self, request: TokenRequest) -> str:
        """The tool server that a token is asked for; empty where it is for none."""
        return request.resource.removeprefix(self._audience) if request.resource.startswith(self._audience) else ""

    # -- who asks -------------------------------------------------------------------------------------------------

    def _authenticate(self, request: TokenRequest) -> None:
        keys = ((self._pair, f"{request.client_id[:200]}\0{request.address}"), (self._address, request.address))
        wait = max(throttle.wait_seconds(key) for throttle, key in keys)
        if wait > 0:
            raise TokenRefused(
                "temporarily_unavailable",
                "Too many failed attempts. Wait before trying again.",
                reason="throttled",
                status=429,
                retry_after=wait,
            )
        with self._store.read() as tx:
            agent = inventory.find_agent(tx, request.client_id)
            hasher = secret_hasher(tx, self._vault)
        stored = (agent.secret_hash if agent else None) or _NO_HASH
        purpose = agent_secret_purpose(request.client_id)
        # Every reading is compared, and an agent that does not exist is compared too: both take as long.
        matches = [hasher.matches(purpose, secret, stored) for secret in request.client_secrets] if hasher else []
        if not any(matches):
            for throttle, key in keys:
                throttle.failed(key)
            raise TokenRefused(
                "invalid_client", "The agent's id or secret is wrong.", reason="invalid_client", status=401
            )
        self._pair.succeeded(keys[0][1])

    # -- for whom -------------------------------------------------------------------------------------------------

    def _subject(self, request: TokenRequest) -> Subject | HandedOver | None:
        if request.grant_type == CLIENT_CREDENTIALS:
            if request.subject_token:
                raise _bad_request("client_credentials takes no subject_token; use token exchange.")
            return None
        if request.grant_type != EXCHANGE:
            raise TokenRefused(
                "unsupported_grant_type",
                f"The grant types are {EXCHANGE} and {CLIENT_CREDENTIALS}.",
                reason="unsupported_grant_type",
            )
        if not request.subject_token:
            raise _bad_request("The parameter subject_token is missing.")
        if request.subject_token_type not in SUBJECT_TYPES:
            raise _bad_request(f"subject_token_type must be one of: {', '.join(sorted(SUBJECT_TYPES))}.")
        if request.requested_token_type and request.requested_token_type not in REQUESTED_TYPES:
            raise _bad_request(f"requested_token_type must be one of: {', '.join(sorted(REQUESTED_TYPES))}.")
        try:
            issuer = unverified_issuer(request.subject_token)
            with self._store.read() as tx:
                provider = people.find_identity_provider(tx, issuer)
                keys = {key["kid"]: key for key in public_keys(tx)}
                now = tx.now
            if issuer == self.settings.issuer:
                audience = f"{self._own_audience}/{request.client_id}"
                return read_handover(request.subject_token, keys, issuer=issuer, audience=audience, now=now)
            if provider is None:
                raise SubjectRefused("The subject token's issuer is not a registered identity provider.")
            return verify_subject(
                request.subject_token,
                provider,
                self.key_sets,
                now=now,
                max_age_seconds=self.settings.subject_max_age_seconds,
            )
        except SubjectRefused as refused:
            raise TokenRefused("invalid_request", str(refused), reason="subject_token_invalid") from None
        except Unavailable as error:
            raise TokenRefused(
                "temporarily_unavailable",
                "The identity provider's keys are not available.",
                reason="identity_provider_unavailable",
                status=503,
                retry_after=error.retry_after,
            ) from error

    # -- what for -------------------------------------------------------------------------------------------------

    def _grant(self, tx: ControlTx, request: TokenRequest, subject: Subject | HandedOver | None) -> _Grant:
        agent = inventory.find_agent(tx, request.client_id)
        if agent is None or agent.state is not AgentState.PUBLISHED:
            blocked = agent is not None and agent.state is AgentState.BLOCKED
            raise TokenRefused(
                "unauthorized_client",
                "The agent is blocked." if blocked else "The agent is not published.",
                reason="agent_blocked" if blocked else "agent_not_published",
            )
        if agent.risk is RiskLevel.HIGH:
            raise TokenRefused("unauthorized_client", "The agent's risk is high.", reason="agent_risk")
        user = self._user(tx, request, subject)
        granted, mode = self._granted(tx, request, agent, user)
        if isinstance(subject, HandedOver):
            granted = tuple(scope for scope in granted if scope in subject.scopes)
        if isinstance(subject, Subject) and subject.is_agent_user and mode is TokenMode.OBO:
            mode = TokenMode.AGENT_USER
        return _Grant(
            audience=request.resource,
            mode=mode,
            scopes=_narrowed(granted, request.scope),
            agent_epoch=agent.epoch,
            signer=self._signer(tx),
            user=user,
            claims=_claims(request, agent.epoch, subject, user),
            expires=subject.expires if subject is not None else math.inf,
        )

    def _granted(
        self, tx: ControlTx, request: TokenRequest, agent: inventory.Agent, user: people.User | None
    ) -> tuple[tuple[str, ...], TokenMode]:
        """What the agent may do at the resource, and as whom it comes."""
        other = request.resource.removeprefix(f"{self._own_audience}/")
        if other != request.resource:
            problem = handover.problem_of_target(tx, agent, other)
            if problem is not None:
                raise TokenRefused("invalid_target", problem[1], reason=problem[0])
            return ("read", "write"), TokenMode.OBO if user is not None else TokenMode.AGENT
        is_own = request.resource == self._own_audience
        server_id = None if is_own else self._server(tx, request)
        bindings = inventory.list_bindings(tx, agent_id=agent.id, server_id=server_id)
        if not bindings:
            where = "at all" if is_own else "of this tool server"
            raise TokenRefused("invalid_target", f"The agent may use no tool {where}.", reason="not_granted")
        if is_own:
            # Whose credentials count is said by the bindings of each server, where the gateway looks.
            mode = TokenMode.OBO if user is not None else TokenMode.AGENT
        else:
            mode = token_mode([b.credential_owner for b in bindings], has_user=user is not None)
        return ("read", "write") if any(b.scope is Scope.WRITE for b in bindings) else ("read",), mode

    def _user(self, tx: ControlTx, request: TokenRequest, subject: Subject | HandedOver | None) -> people.User | None:
        """The user that the subject token is about, if welcome; and whether this agent may come with that token."""
        if subject is None:
            return None
        if isinstance(subject, HandedOver):
            problem = handover.problem_of_chain(tx, request.client_id, subject.actors)
            if problem is not None:
                raise TokenRefused("invalid_request", problem[1], reason=problem[0])
            if subject.user_id is None:
                return None
            user = people.find_user(tx, subject.user_id)
            revoked = user is not None and subject.user_epoch < user.epoch
            signed_in_at = None if subject.auth_time is None else datetime.fromtimestamp(subject.auth_time, UTC)
            return _welcome(user, signed_in_at, is_revoked=revoked)
        owner = agent_called(tx, subject.client)
        if owner is not None and owner != request.client_id:
            raise TokenRefused(
                "invalid_request",
                "The subject token was issued to another agent.",
                reason="token_of_another_agent",
            )
        return _welcome(people.find_user_by_subject(tx, subject.issuer, subject.subject), auth_time_of(subject))

    def _server(self, tx: ControlTx, request: TokenRequest) -> str:
        if not request.resource:
            raise _bad_request(
                f"The parameter resource is missing. Name {self._audience}SERVER or {self._own_audience}."
            )
        server_id = request.resource.removeprefix(self._audience)
        server = inventory.find_server(tx, server_id) if request.resource == self._audience + server_id else None
        if server is None:
            raise TokenRefused(
                "invalid_target",
                f"There is no such tool server. Resources are {self._audience}SERVER and {self._own_audience}.",
                reason="server_unknown",
            )
        if server.state is ServerState.BLOCKED:
            raise TokenRefused("invalid_target", "The tool server is blocked.", reason="server_blocked")
        return server.id

    def _signer(self, tx: ControlTx) -> Signer:
        # Which key to use is asked every time; opening it takes longer than signing, so that is done once.
        chosen = current_key(tx)
        kept = self._signer_kept
        if kept is None or kept.kid != chosen.kid:
            kept = self._signer_kept = open_key(chosen, self._vault)
        return kept

    def _sign(self, request: TokenRequest, grant: _Grant, now: datetime) -> IssuedToken:
        issued_at = int(now.timestamp())
        expires = issued_at + min(self.settings.token_seconds, MAX_TOKEN_SECONDS)
        claims: dict[str, Any] = {
            "iss": self.settings.issuer,
            "aud": grant.audience,
            "azp": f"agent:{request.client_id}",
            "client_id": request.client_id,
            "mode": grant.mode.value,
            "scope": " ".join(grant.scopes),
            "aev": grant.agent_epoch,
            "jti": secrets.token_urlsafe(16),
            "iat": issued_at,
            "exp": int(min(expires, grant.expires)),
            **grant.claims,
        }
        header = {"alg": "RS256", "typ": "at+jwt", "kid": grant.signer.kid}
        token = jwt.encode(header, claims, grant.signer.key, algorithms=["RS256"])
        return IssuedToken(token, claims["exp"] - issued_at, claims["scope"], grant.mode)


def _refused_by_access(answer: AccessFacts, *, has_user: bool) -> TokenRefused:
    """What an agent is told: whether a better sign-in would do, and never what the policy is."""
    reason = answer.control.refusal_code if not answer.problem else "policy_error"
    if answer.control in (Control.MFA, Control.REAUTHENTICATE):
        step_up: dict[str, Any] = {"max_age": answer.max_age} if answer.max_age is not None else {}
        if answer.control is Control.MFA:
            step_up["acr_values"] = ACR_MULTI_FACTOR
        return TokenRefused("interaction_required", _STEP_UPS[answer.control], reason=reason, step_up=step_up)
    if answer.control is Control.PASSWORD_CHANGE:
        return TokenRefused("invalid_request", "The user must reset the password first.", reason=reason)
    code = "invalid_grant" if has_user else "unauthorized_client"
    return TokenRefused(code, "The access is blocked by the organisation.", reason=reason)


_STEP_UPS: Final = {
    Control.MFA: "The user has to sign in with more than one factor.",
    Control.REAUTHENTICATE: "The user has to sign in again: the last sign-in is too long ago.",
}


def token_mode(owners: list[CredentialOwner], *, has_user: bool) -> TokenMode:
    """The mode of a token for a server at which an agent's bindings use credentials of ``owners``.

    Raises ``TokenRefused`` if the agent comes alone and every binding there needs a user.
    """
    if all(owner is CredentialOwner.MAKER for owner in owners):
        return TokenMode.MAKER
    if has_user:
        return TokenMode.OBO
    if all(owner is CredentialOwner.USER for owner in owners):
        raise TokenRefused(
            "unauthorized_client",
            "At this tool server the agent acts for users only: exchange the user's token.",
            reason="user_required",
        )
    return TokenMode.AGENT


def _bad_request(description: str) -> TokenRefused:
    return TokenRefused("invalid_request", description, reason="invalid_request")


def _narrowed(granted: tuple[str, ...], requested: str) -> tuple[str, ...]:
    wanted = requested.split()
    if not wanted:
        return granted
    if not set(wanted) <= set(granted):
        raise TokenRefused(
            "invalid_scope",
            f"The agent's scopes at this tool server are: {' '.join(granted)}.",
            reason="scope_exceeded",
        )
    return tuple(scope for scope in granted if scope in wanted)


def _session_id(subject: Subject) -> str:
    text = f"{subject.issuer}\0{subject.subject}\0{subject.auth_time}"
    return "s-" + hashlib.sha256(text.encode()).hexdigest()[:24]


def _claims(
    request: TokenRequest, agent_epoch: int, subject: Subject | HandedOver | None, user: people.User | None
) -> dict[str, Any]:
    """Who the token is about, and through whom."""
    agent_id, agent = request.client_id, f"agent:{request.client_id}"
    # Who was handed something is another client than the one that declared what it can answer.
    takes_claims = request.takes_claims or (isinstance(subject, Subject) and subject.takes_claims)
    declared = {"xms_cc": ["cp1"]} if takes_claims else {}
    if subject is None:
        return {"sub": agent, "sid": f"{agent_id}-{agent_epoch}", **declared}
    if isinstance(subject, HandedOver):
        session, actor = subject.session_id, handover.chain(agent_id, subject.actors)
    else:
        session, actor = subject.session_id or _session_id(subject), {"sub": agent}
    claims: dict[str, Any] = {"sub": agent, "act": actor, "sid": session, **declared}
    if user is not None:
        claims |= {"sub": f"user:{user.id}", "auth_time": subject.auth_time, "sev": user.epoch}
        if subject.methods:
            claims["amr"] = list(subject.methods)
        if subject.sign_in_risk != RiskLevel.NONE.value:
            claims["sign_in_risk"] = subject.sign_in_risk
    return claims


def _welcome(user: people.User | None, signed_in_at: datetime | None, *, is_revoked: bool = False) -> people.User:
    """The user, if welcome. RFC 8693 has one code for a subject token that policy does not accept."""
    problem: tuple[str, str] | None = None
    is_old = is_revoked
    if user is not None and user.not_before is not None:
        is_old = is_old or signed_in_at is None or signed_in_at < user.not_before
    if user is None:
        problem = ("user_unknown", "The user is not known here.")
    elif not user.is_enabled:
        problem = ("user_disabled", "The user is disabled.")
    elif user.must_reset_password:
        problem = ("password_reset_required", "The user must reset the password first.")
    elif user.risk is RiskLevel.HIGH:
        problem = ("user_risk", "The user's risk is high.")
    elif is_old:
        problem = ("session_revoked", "The session was revoked. The user must sign in again.")
    if problem is not None or user is None:
        reason, description = problem or ("user_unknown", "")
        is_back = reason == "password_reset_required" and not is_old
        raise TokenRefused("invalid_request", description, reason=reason, is_back=is_back)
    return user
