"""Operators: accounts, sign-in, browser sessions, API tokens.

Above ``storage.people``; the portal's doors call it. Secrets are 256 random bits and only their SHA-256 is stored. It
knows neither cookies nor headers, and not what a role may do (``identity.roles``).

Functions that take ``tx`` are one step of the caller's transaction; ``Operators`` opens its own, because passwords are
checked between transactions, never inside one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchfloor.identity import second_factor
from watchfloor.identity.passwords import Passwords
from watchfloor.identity.roles import permissions_of
from watchfloor.identity.second_factor import CodeWrong
from watchfloor.identity.throttle import Limit, Throttle
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound, Unavailable
from watchfloor.model.ids import is_name
from watchfloor.model.people import Permission, Role
from watchfloor.storage import people, sign_in
from watchfloor.storage.files import write_secret_file
from watchfloor.storage.people import Operator, OperatorSession
from watchfloor.storage.policies import SHIPPED

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.vault import Vault

IDLE: Final = timedelta(minutes=30)
ABSOLUTE: Final = timedelta(hours=12)
MAX_API_TOKEN_DAYS: Final = 366
WRONG_CODE: Final = "wrong_code"
"""Why a sign-in failed, as the audit log tells it."""
CHALLENGE_SECONDS: Final = 300
"""How long a right password counts while the code is looked up."""
_TOUCH_EVERY: Final = timedelta(seconds=60)

LOCAL_ADMIN: Final = "local-admin"
"""The operator behind ``run/admin.token``: whoever can read that file administers this machine anyway."""

_RESERVED: Final = frozenset({"system", SHIPPED, "unknown"})
"""Actors of the audit log that are nobody's name."""

_LOCAL_LABEL: Final = "this machine's command line"


ADMINISTRATORS: Final = frozenset({Role.OWNER, Role.SECURITY_ADMIN, Role.IT_ADMIN})
"""Roles that change what others may do: they are expected to sign in with a second factor."""


class SignInFailed(Denied):
    """Name or password is wrong, the account is disabled, or it has no password: nobody is told which."""

    code = "sign_in_failed"

    def __init__(self) -> None:
        super().__init__("The name or the password is wrong.")


class SecondFactorRequired(Denied):
    """Name and password are right; now a code is needed. ``challenge`` stands for both, for a few minutes."""

    code = "second_factor_required"

    def __init__(self, challenge: str) -> None:
        self.challenge = challenge
        super().__init__("Enter the code that your authenticator app shows.")


@dataclass(frozen=True, slots=True)
class Session:
    """A live session or API token, and whose it is. Changing requests from a browser must repeat ``csrf_token``.

    ``must_enrol``: an administrator's, who has to add a second factor before anything else.
    """

    operator: Operator
    label: str
    created_at: datetime
    expires_at: datetime
    is_api_token: bool
    csrf_token: str = field(repr=False)
    token_hash: str = field(repr=False)
    through: str = ""
    """The issuer of the identity provider that signed the operator in; empty for a password."""
    must_enrol: bool = False

    @property
    def permissions(self) -> frozenset[Permission]:
        """What it may do."""
        return permissions_of(self.operator.roles)

    def csrf_matches(self, token: str) -> bool:
        """Whether ``token`` is this session's; always so for API tokens, which no browser sends by itself."""
        return self.is_api_token or hmac.compare_digest(self.csrf_token.encode(), token.encode())


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A fresh session. ``token`` is the cookie's value: shown once, stored nowhere."""

    token: str = field(repr=False)
    session: Session


def token_hash(token: str) -> str:
    """What stands in the database for ``token``: it is random, so a plain SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def _expiry_of(challenge: str) -> int:
    """Unix seconds; 0 for what is no challenge."""
    parts = challenge.rsplit(".", 2)
    text = parts[1] if len(parts) == 3 else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else 0


# -- accounts -----------------------------------------------------------------------------------------------------


def create(
    tx: ControlTx, name: str, password_hash: str | None, roles: Collection[Role], *, display_name: str = ""
) -> Operator:
    """A new operator who signs in as ``name``. ``password_hash`` is from ``Passwords.hash``; None means: tokens only.

    An operator with the id of a user is that user: nobody unblocks the agents that they built themselves.
    Raises ``InputError`` for a name that is none or without roles, ``Conflict`` if it is taken.
    """
    operator_id = name.strip().lower()
    if not is_name(operator_id):
        raise InputError(
            f"{name!r} cannot be a sign-in name.",
            where="name",
            remedy="Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.",
        )
    if not roles:
        raise InputError("an operator needs at least one role.", where="roles", remedy=f"Roles: {', '.join(Role)}.")
    if operator_id in _RESERVED or people.find_operator(tx, operator_id) is not None:
        raise Conflict(f"the name {operator_id} is taken.", where="name", remedy="Choose another one.")
    operator = Operator(
        id=operator_id,
        name=display_name.strip() or operator_id,
        roles=frozenset(roles),
        created_at=tx.now,
        password_hash=password_hash,
    )
    people.save_operator(tx, operator, "operator:create")
    return operator


def set_roles(tx: ControlTx, operator_id: str, roles: Collection[Role]) -> Operator:
    """Give an operator exactly these roles, and end their sessions: nobody keeps what was taken away."""
    if not roles:
        raise InputError("an operator needs at least one role.", where="roles", remedy="Disable the operator instead.")
    operator = _operator(tx, operator_id)
    changed = replace(operator, roles=frozenset(roles))
    _keep_an_owner(tx, operator, changed)
    if people.save_operator(tx, changed, "operator:set-roles"):
        people.delete_sessions(tx, operator_id, action="operator:end-sessions")
    return changed


def set_enabled(tx: ControlTx, operator_id: str, is_enabled: bool) -> Operator:
    """Enable or disable an operator; disabling ends every session and API token at once."""
    operator = _operator(tx, operator_id)
    changed = replace(operator, is_enabled=is_enabled)
    _keep_an_owner(tx, operator, changed)
    people.save_operator(tx, changed, "operator:enable" if is_enabled else "operator:disable")
    if not is_enabled:
        people.delete_sessions(tx, operator_id, action="operator:end-sessions")
    return changed


def set_password(tx: ControlTx, operator_id: str, password_hash: str, *, keep: str | None = None) -> None:
    """Change a password and end every session but ``keep`` (a token hash), API tokens too."""
    operator = _operator(tx, operator_id)
    if sign_in.find_identity(tx, operator_id) is not None:
        raise Conflict(
            f"{operator_id} signs in through the identity provider.", where="operator", remedy="Change it there."
        )
    people.save_operator(tx, replace(operator, password_hash=password_hash), "operator:set-password")
    people.delete_sessions(tx, operator_id, keep=keep, action="operator:end-sessions")


def end_sessions(tx: ControlTx, operator_id: str) -> int:
    """End every session and API token of an operator; how many there were."""
    return people.delete_sessions(tx, _operator(tx, operator_id).id, action="operator:end-sessions")


def _operator(tx: ControlTx, operator_id: str) -> Operator:
    operator = people.find_operator(tx, operator_id)
    if operator is None:
        raise NotFound(f"there is no operator {operator_id!r}.", where="operator")
    return operator


def _keep_an_owner(tx: ControlTx, before: Operator, after: Operator) -> None:
    if not _is_owner(before) or _is_owner(after):
        return
    if not any(_is_owner(o) for o in people.list_operators(tx) if o.id not in (before.id, LOCAL_ADMIN)):
        raise Conflict(f"{before.id} is the last owner.", where="operator", remedy="Make somebody else an owner first.")


def _is_owner(operator: Operator) -> bool:
    return operator.is_enabled and Role.OWNER in operator.roles


# -- sessions and tokens ------------------------------------------------------------------------------------------


def find_session(tx: ControlTx, token: str) -> Session | None:
    """Whose ``token`` (a session's or an API token) this is, or None if it is unknown, expired, idle or disabled."""
    stored = people.find_session(tx, token_hash(token))
    if stored is None or stored.expires_at <= tx.now:
        return None
    if not stored.is_api_token and stored.seen_at + IDLE <= tx.now:
        return None
    operator = people.find_operator(tx, stored.operator_id)
    if operator is None or not operator.is_enabled:
        return None
    return _session(operator, stored)


def _session(operator: Operator, stored: OperatorSession) -> Session:
    return Session(
        operator=operator,
        label=stored.label,
        created_at=stored.created_at,
        expires_at=stored.expires_at,
        is_api_token=stored.is_api_token,
        csrf_token=stored.csrf_token,
        token_hash=stored.token_hash,
        through=stored.idp_issuer or "",
    )


def _why_not(operator: Operator | None) -> str:
    """Why a sign-in failed, for those who read the log; whoever tried is told nothing of it."""
    if operator is None:
        return "unknown_operator"
    if not operator.is_enabled:
        return "disabled"
    return "wrong_password" if operator.password_hash else "no_password"


def issue_api_token(tx: ControlTx, operator_id: str, label: str, lifetime: timedelta = timedelta(days=90)) -> SignedIn:
    """A token for scripts, with its operator's roles. Raises ``InputError`` for a lifetime that is none."""
    if not timedelta(0) < lifetime <= timedelta(days=MAX_API_TOKEN_DAYS):
        raise InputError(f"a token lives for 1 to {MAX_API_TOKEN_DAYS} days.", where="lifetime")
    if not label.strip():
        raise InputError("a token needs a label.", where="label", remedy="Say what uses it.")
    operator = _operator(tx, operator_id)
    if not operator.is_enabled:
        raise Conflict(f"operator {operator_id} is disabled.", where="operator", remedy="Enable the operator first.")
    return _add(tx, operator, label.strip()[:200], lifetime, csrf_token="")


@dataclass(frozen=True, slots=True)
class Origin:
    """Which identity provider a session comes from, whom it names there, and its own session."""

    issuer: str
    subject: str
    session: str | None


def open_session(tx: ControlTx, operator: Operator, label: str, address: str, origin: Origin | None = None) -> SignedIn:
    """A fresh browser session of an operator who has proved who they are, from ``address``."""
    people.delete_expired_sessions(tx, tx.now)
    return _add(tx, operator, label[:200], ABSOLUTE, secrets.token_urlsafe(32), address, origin)


def _add(
    tx: ControlTx,
    operator: Operator,
    label: str,
    lifetime: timedelta,
    csrf_token: str,
    address: str = "",
    origin: Origin | None = None,
) -> SignedIn:
    # The prefixes let secret scanners recognise a token that went astray.
    token = ("wfs_" if csrf_token else "wft_") + secrets.token_urlsafe(32)
    stored = OperatorSession(
        token_hash=token_hash(token),
        operator_id=operator.id,
        csrf_token=csrf_token,
        label=label,
        created_at=tx.now,
        seen_at=tx.now,
        expires_at=tx.now + lifetime,
        idp_issuer=origin.issuer if origin else None,
        idp_subject=origin.subject if origin else None,
        idp_session=origin.session if origin else None,
    )
    people.add_session(tx, stored, "operator:sign-in" if csrf_token else "operator:issue-token", address=address)
    return SignedIn(token, _session(operator, stored))


class Operators:
    """Sign-in and session look-up for the portal's doors. One for each process."""

    def __init__(
        self,
        store: SqlControlStore,
        vault: Vault,
        *,
        passwords: Passwords | None = None,
        admins_need_second_factor: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._vault = store, vault
        self.passwords = passwords or Passwords()
        self.admins_need_second_factor = admins_need_second_factor
        # Five wrong passwords for one account from one address, thirty from one address whatever the account, a hundred
        # for one account wherever they come from: the last is high, because it lets anybody lock somebody else out.
        self._pair = Throttle(Limit(5, 300), clock=clock)
        self._address = Throttle(Limit(30, 300), clock=clock)
        self._account = Throttle(Limit(100, 300), clock=clock)

    def sign_in(
        self, name: str, password: str, address: str, *, label: str = "browser", code: str | None = None
    ) -> SignedIn:
        """A fresh session.

        Raises ``SignInFailed``; ``SecondFactorRequired`` where ``code`` is missing; ``CodeWrong``; ``Unavailable`` with
        ``retry_after`` for who guesses too fast.
        """
        operator_id = name.strip().lower()[:200]
        keys = self._unthrottled(operator_id, address)
        with self._store.read() as tx:
            operator = people.find_operator(tx, operator_id)
        usable = operator is not None and operator.is_enabled
        stored = operator.password_hash if operator is not None and usable else None
        if not self.passwords.matches(stored, password) or operator is None:
            self._failed(keys, operator, address, _why_not(operator))
            raise SignInFailed
        return self._finish(operator, keys, address, label, code)

    def answer_challenge(self, challenge: str, code: str, address: str, *, label: str = "browser") -> SignedIn:
        """A fresh session for whoever was given ``challenge`` from this ``address``. Raises like ``sign_in``."""
        with self._store.read() as tx:
            operator = people.find_operator(tx, challenge.rsplit(".", 2)[0][:200])
            is_over = _expiry_of(challenge) <= tx.now.timestamp()
        expected = "" if operator is None else self._challenge(operator, address, _expiry_of(challenge))
        if operator is None or is_over or not hmac.compare_digest(challenge.encode(), expected.encode()):
            raise SignInFailed
        return self._finish(operator, self._unthrottled(operator.id, address), address, label, code)

    def password_matches(self, session: Session, password: str) -> bool:
        """Whether ``password`` is that of the session's operator: asked again before what must not be done for them.

        Raises ``Unavailable`` with ``retry_after`` for who guesses too fast.
        """
        operator = session.operator
        keys = self._unthrottled(operator.id, "again")
        with self._store.read() as tx:
            current = people.find_operator(tx, operator.id)
        if self.passwords.matches(current.password_hash if current else None, password):
            return True
        self._failed(keys, operator, "", "wrong_password")
        return False

    @contextmanager
    def guessing(self, session: Session) -> Iterator[None]:
        """Around a check of something that the session's operator may guess at: a wrong code counts as a wrong
        password does."""
        keys = self._unthrottled(session.operator.id, "again")
        try:
            yield
        except CodeWrong:
            self._failed(keys, session.operator, "", WRONG_CODE)
            raise

    def _finish(
        self, operator: Operator, keys: Sequence[tuple[Throttle, str]], address: str, label: str, code: str | None
    ) -> SignedIn:
        signed_in, is_wrong = None, False
        with self._store.tx(operator.id) as tx:
            current = people.find_operator(tx, operator.id)
            if current != operator or not operator.is_enabled:
                raise SignInFailed  # disabled, or given another password, while this one was checked
            if second_factor.is_asked_for(tx, operator.id):
                if code is None:
                    expires = int(tx.now.timestamp()) + CHALLENGE_SECONDS
                    raise SecondFactorRequired(self._challenge(operator, address, expires))
                is_wrong = not second_factor.take(tx, self._vault, operator.id, code)
            if is_wrong:
                told = {"address": address, "reason": WRONG_CODE}
                tx.audit("operator:sign-in-failed", f"operator/{operator.id}", told)
            else:
                signed_in = open_session(tx, operator, label, address)
        if signed_in is None:
            for throttle, key in keys:
                throttle.failed(key)
            raise CodeWrong
        self._pair.succeeded(keys[0][1])
        return signed_in

    def _unthrottled(self, operator_id: str, address: str) -> tuple[tuple[Throttle, str], ...]:
        keys = (
            (self._pair, f"{operator_id}\0{address}"),
            (self._address, address),
            (self._account, operator_id),
        )
        wait = max(throttle.wait_seconds(key) for throttle, key in keys)
        if wait > 0:
            raise Unavailable("Too many wrong passwords. Wait a few minutes and try again.", retry_after=wait)
        return keys

    def _failed(
        self, keys: Sequence[tuple[Throttle, str]], operator: Operator | None, address: str, reason: str
    ) -> None:
        for throttle, key in keys:
            throttle.failed(key)
        # Written for unknown names too, so that they take as long; but not which: it may be a mistyped password.
        known = operator.id if operator is not None else "unknown"
        with self._store.tx() as tx:
            tx.audit("operator:sign-in-failed", f"operator/{known}", {"address": address, "reason": reason})

    # A challenge is kept by the browser alone: who it is for, until when, and a seal over that, the address and the
    # password as it is now.

    def _challenge(self, operator: Operator, address: str, expires: int) -> str:
        said = f"{operator.id}.{expires}"
        sealed = f"{said}\0{address}\0{operator.password_hash}".encode()
        key = self._vault.derive("sign-in-challenge")
        return f"{said}.{hmac.new(key, sealed, hashlib.sha256).hexdigest()}"

    def find_session(self, token: str) -> Session | None:
        """See the function of this name; also notes, at most once a minute, that the session is in use."""
        with self._store.read() as tx:
            session = find_session(tx, token)
            now = tx.now
            stored = people.find_session(tx, session.token_hash) if session else None
            if session is not None and self._needs_factor(session):
                session = replace(session, must_enrol=not second_factor.is_asked_for(tx, session.operator.id))
        if session and stored and not stored.is_api_token and stored.seen_at + _TOUCH_EVERY <= now:
            with self._store.tx(session.operator.id, audited=False) as tx:
                people.touch_session(tx, session.token_hash, tx.now)
        return session

    def _needs_factor(self, session: Session) -> bool:
        return (
            self.admins_need_second_factor
            and not session.is_api_token
            and not session.through
            and not ADMINISTRATORS.isdisjoint(session.operator.roles)
        )

    def sign_out(self, session: Session, address: str = "") -> None:
        """End one session or API token; ``address``: where from."""
        with self._store.tx(session.operator.id) as tx:
            stored = people.find_session(tx, session.token_hash)
            if stored is not None:
                people.delete_session(tx, stored, "operator:sign-out", address=address)

    def write_local_admin_token(self, path: Path) -> None:
        """A fresh API token of the local administrator in ``path`` (0600); the one of the last start ends."""
        with self._store.tx() as tx:
            if people.find_operator(tx, LOCAL_ADMIN) is None:
                create(tx, LOCAL_ADMIN, None, [Role.OWNER], display_name="Local administrator")
            people.delete_sessions(tx, LOCAL_ADMIN, label=_LOCAL_LABEL, action="operator:end-sessions")
            issued = issue_api_token(tx, LOCAL_ADMIN, _LOCAL_LABEL, timedelta(days=MAX_API_TOKEN_DAYS))
        write_secret_file(path, issued.token.encode())
