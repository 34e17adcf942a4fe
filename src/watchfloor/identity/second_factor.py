"""The second factor of operators: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for a lost phone.

Above ``storage.sign_in``; ``operators`` asks at sign-in. Six digits, thirty seconds, SHA-1, as every app knows them. A
code counts once, and so does each recovery code. The key is sealed; how often somebody may guess is ``operators``'
business.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from watchfloor.model.errors import Conflict, Denied
from watchfloor.storage import sign_in
from watchfloor.storage.sign_in import Factor

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.vault import Vault

STEP_SECONDS: Final = 30
DIGITS: Final = 6
_WINDOW: Final = 1
"""Steps that a phone's clock may be off, either way."""
_RECOVERY_CODES: Final = 10
_ISSUER: Final = "Watchfloor"


class CodeWrong(Denied):
    """The code is not the one of this moment, was used already, or belongs to somebody else."""

    code = "code_wrong"

    def __init__(self) -> None:
        super().__init__("The code is wrong, too old or was used already. Wait for the next one.")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app needs, shown once: the key in base 32, and the same as a URI for a picture."""

    key: str = field(repr=False)
    uri: str = field(repr=False)


def begin(tx: ControlTx, vault: Vault, operator_id: str) -> Enrolment:
    """A key for a new app; it counts from ``confirm`` on. Raises ``Conflict`` where one is confirmed already."""
    _not_confirmed(sign_in.find_factor(tx, operator_id))
    key = secrets.token_bytes(20)
    factor = Factor(operator_id, vault.seal(key, _purpose(operator_id)), False, 0, (), tx.now)
    sign_in.save_factor(tx, factor, "operator:begin-second-factor")
    text = base64.b32encode(key).decode()
    label = quote(f"{_ISSUER}:{operator_id}")
    uri = f"otpauth://totp/{label}?secret={text}&issuer={_ISSUER}&digits={DIGITS}&period={STEP_SECONDS}"
    return Enrolment(text, uri)


def confirm(tx: ControlTx, vault: Vault, operator_id: str, code: str) -> list[str]:
    """Take the app into use, since it shows the right ``code``; the recovery codes, shown once.

    Raises ``CodeWrong``, ``Conflict``.
    """
    factor = sign_in.find_factor(tx, operator_id)
    _not_confirmed(factor)
    if factor is None:
        raise Conflict("no app is being set up.", where="second_factor", remedy="Begin again.")
    step = _step_of(tx, vault, factor, code)
    if step is None:
        raise CodeWrong
    codes = [_recovery_code() for _ in range(_RECOVERY_CODES)]
    used = replace(factor, is_confirmed=True, last_step=step, recovery=tuple(_hash(c) for c in codes))
    sign_in.save_factor(tx, used, "operator:add-second-factor")
    return codes


def is_asked_for(tx: ControlTx, operator_id: str) -> bool:
    """Whether this operator signs in with a code."""
    factor = sign_in.find_factor(tx, operator_id)
    return factor is not None and factor.is_confirmed


def take(tx: ControlTx, vault: Vault, operator_id: str, code: str) -> bool:
    """Whether ``code`` is right; it does not count again. A recovery code is as good as one of the app."""
    factor = sign_in.find_factor(tx, operator_id)
    if factor is None or not factor.is_confirmed:
        return False
    step = _step_of(tx, vault, factor, code)
    if step is not None:
        sign_in.save_factor(tx, replace(factor, last_step=step), "operator:use-second-factor")
        return True
    hashed = _hash(code)
    left = tuple(known for known in factor.recovery if not hmac.compare_digest(known, hashed))
    if len(left) == len(factor.recovery):
        return False
    sign_in.save_factor(tx, replace(factor, recovery=left), "operator:use-recovery-code")
    return True


def remove(tx: ControlTx, operator_id: str) -> bool:
    """Sign in without a code from now on; whether there was one."""
    return sign_in.delete_factor(tx, operator_id, "operator:remove-second-factor")


def _not_confirmed(factor: Factor | None) -> None:
    if factor is not None and factor.is_confirmed:
        raise Conflict("there is a second factor already.", where="second_factor", remedy="Remove it first.")


def _step_of(tx: ControlTx, vault: Vault, factor: Factor, code: str) -> int | None:
    """The time step whose code this is, if it has not been used."""
    digits = code.replace(" ", "")
    if len(digits) != DIGITS or not digits.isdecimal() or not digits.isascii():
        return None
    totp = TOTP(vault.unseal(factor.sealed, _purpose(factor.operator_id)), DIGITS, SHA1(), STEP_SECONDS)  # noqa: S303 what authenticator apps compute; HMAC does not need collisions to be hard
    now = int(tx.now.timestamp()) // STEP_SECONDS
    found = None
    for step in range(now - _WINDOW, now + _WINDOW + 1):
        if hmac.compare_digest(totp.generate(step * STEP_SECONDS), digits.encode()) and step > factor.last_step:
            found = step
    return found


def _recovery_code() -> str:
    text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    return f"{text[:8]}-{text[8:]}"


def _hash(code: str) -> str:
    """They are random, so a plain SHA-256 is enough."""
    return hashlib.sha256(code.strip().lower().replace(" ", "").encode("utf-8", "surrogatepass")).hexdigest()


def _purpose(operator_id: str) -> str:
    return f"second-factor/{operator_id}"
