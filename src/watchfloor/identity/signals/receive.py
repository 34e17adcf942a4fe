"""Taking security events of others: verified, once each, and what each does to the user that it is about.

Above ``tokens`` (whose word counts), ``sessions`` and ``risk`` (what is done); the door for pushed events, ``poll`` and
the door for global token revocation call it. It knows no HTTP.

INVARIANT: an event has its effect once, in the transaction that remembers its ``jti``; sent again, it is acknowledged
and changes nothing.
INVARIANT: a transmitter speaks only of users of the issuers that operators named for it.
INVARIANT: nothing that is told gives anything back that was revoked. A new password ends a confirmed compromise only if
it was set after the sessions were ended.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.identity import operators, risk, sessions
from watchfloor.identity.providers import KeySets
from watchfloor.identity.signals import tokens
from watchfloor.identity.signals.events import (
    CREDENTIAL_CHANGE,
    LEVELS,
    RISK_LEVEL_CHANGE,
    SESSION_REVOKED,
    VERIFICATION,
    SecurityEvent,
    SubjectId,
    parse_subject,
)
from watchfloor.identity.signals.tokens import SetRefused
from watchfloor.model.errors import InputError
from watchfloor.model.risk import RiskState
from watchfloor.model.times import in_words
from watchfloor.storage import people, risks, signals
from watchfloor.storage.people import User
from watchfloor.storage.signals import Received, Transmitter

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.vault import Vault

REVOCATION_TYPES: Final = frozenset({"jwt", "global-token-revocation+jwt", "application/global-token-revocation+jwt"})
REVOCATION_AGE: Final = timedelta(minutes=5)
_REVOCATION: Final = "global-token-revocation"
_REMEMBER: Final = tokens.MAX_AGE + timedelta(days=1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """A taken event, and what came of it. ``is_new``: it had not been taken before."""

    jti: str
    event: str
    outcome: str
    is_new: bool = True


class SubjectUnknown(InputError):
    """Nobody of that name is known."""

    code = "subject_unknown"


def secret_place(transmitter_id: str) -> str:
    """What a transmitter's shared secret is sealed for."""
    return f"transmitter/{transmitter_id}"


class Receiver:
    """Takes events; safe between threads; blocks on the database and, rarely, on a transmitter's keys."""

    def __init__(self, store: SqlControlStore, vault: Vault, keys: KeySets) -> None:
        self._store, self._vault, self._keys = store, vault, keys

    def take_pushed(self, token: str, authorization: str) -> Taken:
        """Take an event that was sent to us with this ``Authorization`` header. Raises ``SetRefused``,
        ``Unavailable``."""
        transmitter = self._transmitter(tokens.claimed_issuer(token))
        if transmitter.sealed is not None and not self._is_secret(transmitter, authorization):
            raise SetRefused("authentication_failed", "The Authorization header is not what was agreed on.")
        return self.take(token, transmitter)

    def take(self, token: str, transmitter: Transmitter) -> Taken:
        """Take an event of ``transmitter``. Raises ``SetRefused``, ``Unavailable``."""
        with self._store.read() as tx:
            now = tx.now
        event = tokens.verify(token, transmitter, self._keys, now)
        with self._store.tx(f"signals:{transmitter.id}") as tx:
            # Operators may have decided otherwise while its keys were being fetched.
            if signals.find_transmitter(tx, transmitter.id) is None:
                raise SetRefused("invalid_issuer", "Nobody is known by this issuer.")
            known = signals.find_received(tx, transmitter.id, event.jti)
            if known is not None:
                return Taken(event.jti, known.event, known.outcome, is_new=False)
            try:
                outcome = _apply(tx, transmitter, event)
            except InputError as error:
                raise SetRefused("invalid_request", str(error)) from None
            _remember(tx, transmitter, event.jti, event.kind, str(event.subject or ""), outcome)
        _log.info("signals of %s: %s: %s", transmitter.id, event.kind.rsplit("/", 1)[-1], outcome)
        return Taken(event.jti, event.kind, outcome)

    def revoke(self, token: str, audience: str, sub_id: Any) -> int:
        """Global token revocation, ordered by the bearer of a JWT for ``audience``: how many users it ended.

        Raises ``SetRefused`` for the JWT, ``InputError`` for a subject that is none, ``SubjectUnknown``,
        ``Unavailable``.
        """
        transmitter = self._transmitter(tokens.claimed_issuer(token))
        claims = tokens.signed_claims(token, transmitter, self._keys, REVOCATION_TYPES)
        with self._store.read() as tx:
            now = tx.now
        tokens.check_audience(claims, audience)
        tokens.issued_at(claims, now, REVOCATION_AGE)
        jti = tokens.token_id(claims)
        expires = claims.get("exp")
        if isinstance(expires, bool) or not isinstance(expires, int | float) or expires <= now.timestamp():
            raise SetRefused("invalid_request", "The token has expired, or lacks exp.")
        if "events" in claims or "nonce" in claims:  # a security event or an ID token, signed by the same key
            raise SetRefused("invalid_request", "The token was made for something else.")
        subject = parse_subject(sub_id)
        if subject.format not in ("iss_sub", "email"):
            raise InputError(f"{subject.format!r} is not taken here.", where="sub_id.format", remedy="iss_sub, email.")
        with self._store.tx(f"signals:{transmitter.id}") as tx:
            if signals.find_received(tx, transmitter.id, jti) is not None:
                raise SetRefused("invalid_request", "The token was used already.")
            users = find_users(tx, transmitter, subject)
            for user in users:
                end_everything(tx, user, f"global token revocation by {transmitter.issuer}")
            outcome = f"ended everything of {_names(users)}" if users else "nobody of that name is known"
            _remember(tx, transmitter, jti, _REVOCATION, str(subject), outcome)
        if not users:
            raise SubjectUnknown("nobody of that name is known.", where="sub_id")
        return len(users)

    def forget_old(self) -> int:
        """Forget events that could not be taken again anyway, as they would be too old; how many."""
        with self._store.read() as tx:
            if not signals.has_received(tx, tx.now - _REMEMBER):
                return 0
        with self._store.tx("system:signals", audited=False) as tx:
            return signals.forget_received(tx, tx.now - _REMEMBER)

    def _transmitter(self, issuer: str) -> Transmitter:
        with self._store.read() as tx:
            found = signals.find_transmitter_of(tx, issuer)
        if found is None or not found.is_enabled:
            raise SetRefused("invalid_issuer", "Nobody is known by this issuer.")
        return found

    def _is_secret(self, transmitter: Transmitter, authorization: str) -> bool:
        assert transmitter.sealed is not None
        secret = self._vault.unseal(transmitter.sealed, secret_place(transmitter.id))
        scheme, _, value = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(secret, value.strip().encode())


# -- whom it is about ---------------------------------------------------------------------------------------------


def find_users(tx: ControlTx, transmitter: Transmitter, subject: SubjectId) -> list[User]:
    """Users whom ``subject`` names, as far as ``transmitter`` may speak of them.

    A mail address names everybody who signs in with it at one of its issuers. Raises ``SetRefused`` for another issuer.
    """
    if subject.format == "iss_sub":
        issuer = subject.values["iss"]
        if issuer not in transmitter.speaks_for:
            raise SetRefused("access_denied", "You do not speak for users of that issuer here.")
        user = people.find_user_by_subject(tx, issuer, subject.values["sub"])
        return [user] if user is not None else []
    if subject.format == "email":
        return people.find_users_by_upn(tx, subject.values["email"], transmitter.speaks_for)
    return []


def end_everything(tx: ControlTx, user: User, reason: str) -> None:
    """End a user's sessions, those at the portal with them: an operator with the id of a user is that user."""
    sessions.revoke_user(tx, user.id, reason)
    if user.id != operators.LOCAL_ADMIN and people.find_operator(tx, user.id) is not None:
        operators.end_sessions(tx, user.id)


def _names(users: list[User]) -> str:
    return ", ".join(user.id for user in users)


# -- what it does -------------------------------------------------------------------------------------------------


def _remember(tx: ControlTx, transmitter: Transmitter, jti: str, kind: str, subject: str, outcome: str) -> None:
    signals.add_received(tx, Received(transmitter.id, jti, kind, outcome, tx.now))
    signals.note_transmitter(tx, transmitter.id, received_at=tx.now, problem="")
    detail = {"jti": jti, "event": kind, "about": subject, "outcome": outcome}
    tx.audit("signal:take", f"transmitter/{transmitter.id}", detail)


def _apply(tx: ControlTx, transmitter: Transmitter, event: SecurityEvent) -> str:
    """What came of ``event``, in words. Raises ``InputError``, ``SetRefused``."""
    if event.kind == VERIFICATION:
        return _verified(tx, transmitter, event)
    effect = _EFFECTS.get(event.kind)
    if effect is None:
        return "an event of a kind that means nothing here"
    if event.subject is None:
        raise InputError("is missing: nobody can tell whom this is about.", where="sub_id")
    users = find_users(tx, transmitter, event.subject)
    if not users:
        return "nobody of that name is known"
    return "; ".join(f"{user.id}: {effect(tx, transmitter, event, user)}" for user in users)


def _verified(tx: ControlTx, transmitter: Transmitter, event: SecurityEvent) -> str:
    state = event.payload.get("state", "")
    stored = signals.find_transmitter(tx, transmitter.id)
    if state and (stored is None or state != stored.expected_state):
        raise SetRefused("invalid_state", "This is not the state that was asked for.")
    signals.note_transmitter(tx, transmitter.id, expected_state="", verified_at=tx.now)
    return "the way from there to here works" + (", as it was asked for" if state else "")


def _because(transmitter: Transmitter, event: SecurityEvent) -> str:
    said = event.reason()
    return f"{transmitter.issuer}{f': {said}' if said else ''}"


def _session_revoked(tx: ControlTx, transmitter: Transmitter, event: SecurityEvent, user: User) -> str:
    # Also one that was issued long ago: whoever signed in since then signs in again.
    end_everything(tx, user, f"session revoked by {_because(transmitter, event)}")
    return "sessions ended"


def _credential_change(tx: ControlTx, transmitter: Transmitter, event: SecurityEvent, user: User) -> str:
    kind, change = event.text("credential_type"), event.text("change_type")
    if kind != "password" or change not in ("create", "update"):
        return f"{kind} {change}: nothing to do"
    changed_at = datetime.fromtimestamp(event.at, UTC)
    if user.not_before is not None and changed_at < user.not_before:
        return "the password was set before the sessions were ended, so it ends nothing"
    is_confirmed = risk.find(tx, risks.USER, user.id).state is RiskState.CONFIRMED_COMPROMISED
    if not is_confirmed and not user.must_reset_password:
        return "no new password was asked for: nothing to do"
    how = f"a new password, set at {in_words(changed_at)}, says {transmitter.issuer}"
    # Before the risk, which saves the user as well.
    people.save_user(tx, replace(user, must_reset_password=False, updated_at=tx.now), "user:new-password", how)
    if is_confirmed:
        risk.remediate(tx, risks.USER, user.id, how)
        return "risk remediated"
    return "the new password that was asked for is set"


def _risk_level_change(tx: ControlTx, transmitter: Transmitter, event: SecurityEvent, user: User) -> str:
    if event.text("principal").upper() != "USER":
        return "not about a user: nothing to do"
    said = event.text("current_level").upper()
    if said not in LEVELS:
        raise InputError(f"{said[:20]!r} is none.", where="current_level", remedy=f"One of {', '.join(LEVELS)}.")
    at = datetime.fromtimestamp(max(0.0, event.at), UTC)
    key = f"signals/{transmitter.id}"
    if any(d.key == key and d.last_at > at for d in risk.detections(tx, risks.USER, user.id)):
        return "older than what was said last: nothing to do"
    # What one transmitter says last is what it says: a lower level takes the higher one back.
    level = LEVELS[said]
    seen = risks.Seen("providerRiskLevel", level, transmitter.issuer, event.reason(), key, at, at, exact=True)
    found = risks.record(tx, risks.USER, user.id, seen)
    return f"risk {found.level.value}"


_EFFECTS: Final[Mapping[str, Callable[[ControlTx, Transmitter, SecurityEvent, User], str]]] = {
    SESSION_REVOKED: _session_revoked,
    CREDENTIAL_CHANGE: _credential_change,
    RISK_LEVEL_CHANGE: _risk_level_change,
}
"""What each kind of event does; every other is acknowledged, and noted."""
