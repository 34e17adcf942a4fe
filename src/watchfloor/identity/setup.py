"""The first operator of a fresh installation: who holds the one-time token that the console showed becomes owner.

Above ``storage.people``; ``app`` asks for the token at start, the portal's set-up page redeems it. There is no default
password anywhere. It does not know how the token is shown.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from watchfloor.identity import operators
from watchfloor.identity.operators import LOCAL_ADMIN, token_hash
from watchfloor.identity.passwords import Passwords
from watchfloor.model.errors import Conflict, Denied
from watchfloor.model.people import Role
from watchfloor.storage import people
from watchfloor.storage.changes import read_setting, write_setting
from watchfloor.storage.people import Operator

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

LIFETIME: Final = timedelta(hours=24)
_SETTING: Final = "setup-token"


class SetupRefused(Denied):
    """The set-up token is wrong, used or too old."""

    code = "setup_refused"

    def __init__(self) -> None:
        super().__init__("This set-up token is not valid. Restart Watchfloor: it shows a new one.")


def is_set_up(tx: ControlTx) -> bool:
    """Whether somebody can sign in."""
    return any(o.id != LOCAL_ADMIN for o in people.list_operators(tx))


def ensure_setup_token(tx: ControlTx) -> str | None:
    """A fresh set-up token, or None if the installation is set up. An earlier one ends."""
    if is_set_up(tx):
        return None
    token = secrets.token_urlsafe(24)
    expires_at = tx.now + LIFETIME
    write_setting(tx, _SETTING, {"hash": token_hash(token), "expires_at": expires_at.timestamp()})
    tx.audit("setup:offer", "setup", {"expires_at": expires_at.isoformat()})
    return token


def check(tx: ControlTx, token: str) -> None:
    """Raises ``Conflict`` if the installation is set up, ``SetupRefused`` unless ``token`` is the one on offer."""
    if is_set_up(tx):
        raise Conflict("this installation is set up already.", where="setup", remedy="Sign in.")
    offer = read_setting(tx, _SETTING) or {"hash": "", "expires_at": 0.0}
    if not hmac.compare_digest(str(offer["hash"]), token_hash(token)) or offer["expires_at"] <= tx.now.timestamp():
        raise SetupRefused


def redeem(tx: ControlTx, token: str, name: str, password_hash: str) -> Operator:
    """Make ``name`` the first owner; the token works once.

    ``password_hash`` is from ``Passwords.hash``: hash before the transaction. Raises what ``check`` and
    ``operators.create`` raise; then the token stays good.
    """
    check(tx, token)
    write_setting(tx, _SETTING, None)
    return operators.create(tx, name, password_hash, [Role.OWNER])


def set_up(store: SqlControlStore, passwords: Passwords, token: str, name: str, password: str) -> Operator:
    """``redeem`` in a transaction of its own, with the password hashed before it."""
    with store.read() as tx:
        check(tx, token)
    hashed = passwords.hash(password)
    with store.tx(name.strip().lower()[:200] or "setup") as tx:
        return redeem(tx, token, name, hashed)
