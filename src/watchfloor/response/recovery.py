"""Lifting what a confirmed compromise put on a user, an agent or a tool server: dismissed, remediated, released.

Above ``saga`` and ``identity``, below ``catalog`` and ``outbox``. All in the caller's transaction. Nothing here gives
anything back that was revoked: old sessions and tokens stay dead, and an agent needs a new secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.identity import risk
from watchfloor.model.errors import Conflict, Denied
from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import RiskState
from watchfloor.model.sagas import Outcome, SagaKind
from watchfloor.registry import inventory as registry
from watchfloor.response import guards, local, saga
from watchfloor.response.plans import LOCAL
from watchfloor.storage import people, sagas

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore
    from watchfloor.storage.sagas import Saga


PASSWORD_CHANGED_AT: Final = "password_changed_at"  # noqa: S105 a parameter's name
"""Parameter of a response that lifts a risk: when the user set the new password that ended it, where that was seen."""


def dismiss(tx: ControlTx, user_id: str, reason: str, incident_id: str | None = None) -> Saga:
    """It was no compromise: lift the risk and the duty to set a new password, and ask the provider to as well.

    Raises ``NotFound``, ``Conflict`` where there is nothing to lift, ``Guarded`` for the actor's own account.
    """
    return release(tx, user_id, Outcome.DISMISSED, reason, incident_id)


def remediate(
    tx: ControlTx, user_id: str, how: str, incident_id: str | None = None, *, changed_at: datetime | None = None
) -> Saga:
    """It was one and is over, as ``how`` says; ``changed_at``: by a new password, set then. Raises like ``dismiss``."""
    return release(tx, user_id, Outcome.REMEDIATED, how, incident_id, changed_at=changed_at)


def is_held(tx: ControlTx, user_id: str) -> bool:
    """Whether there is anything to lift: a risk, a duty to set a new password, or a response that is open."""
    user = local.require_user(tx, user_id)
    if user.risk is not RiskLevel.NONE or user.must_reset_password:
        return True
    kind = SagaKind.USER_COMPROMISE
    return bool(sagas.list_active(tx, kind, user_id)) or sagas.newest_open(tx, kind, user_id) is not None


def release(
    tx: ControlTx,
    user_id: str,
    outcome: Outcome,
    reason: str,
    incident_id: str | None = None,
    *,
    changed_at: datetime | None = None,
) -> Saga:
    """Lift what holds a user, as ``outcome`` says why. Raises like ``dismiss``."""
    user = local.require_user(tx, user_id)
    guards.check_release(user_id, actor=tx.actor)
    if not is_held(tx, user_id):
        raise Conflict(
            f"user {user_id} is at no risk and owes no new password: there is nothing to lift.", where="user"
        )
    text = f"{outcome.value} by {tx.actor}: {reason}"
    about = {"issuer": user.issuer, "subject": user.subject, "upn": user.upn, "outcome": outcome.value}
    if changed_at is not None:
        about[PASSWORD_CHANGED_AT] = changed_at.isoformat()
    before = sagas.newest_open(tx, SagaKind.USER_COMPROMISE, user.id)
    saga.close(tx, SagaKind.USER_COMPROMISE, user.id, outcome, text)
    # One that is under way is overtaken: the last word counts.
    saga.close(tx, SagaKind.USER_RELEASE, user.id, outcome, text)
    LIFTS[outcome](tx, "user", user.id, reason)
    lifted = replace(local.require_user(tx, user.id), must_reset_password=False, updated_at=tx.now)
    people.save_user(tx, lifted, f"user:{_VERBS[outcome]}", reason)
    evidence = {
        "risk": lifted.risk.value,
        "must_reset_password": lifted.must_reset_password,
        "user_epoch": lifted.epoch,
        "old_sessions": "stay dead",
    }
    where = incident_id or (before.incident_id if before is not None else None)
    return saga.begin(tx, SagaKind.USER_RELEASE, user.id, reason, where, about, evidence={LOCAL: evidence})


_VERBS: Final[Mapping[Outcome, str]] = {
    Outcome.DISMISSED: "dismiss-risk",
    Outcome.REMEDIATED: "remediate-risk",
    Outcome.SAFE: "confirm-safe",
}
LIFTS: Final[Mapping[Outcome, Callable[[ControlTx, str, str, str], object]]] = {
    Outcome.DISMISSED: risk.dismiss,
    Outcome.REMEDIATED: risk.remediate,
    Outcome.SAFE: risk.confirm_safe,
}
"""How the risk itself is lifted, by why."""


# -- agents and tool servers --------------------------------------------------------------------------------------


def release_agent(tx: ControlTx, agent_id: str, reason: str, outcome: Outcome = Outcome.DISMISSED) -> Mapping[str, Any]:
    """Take the quarantine off an agent: it is as it was declared again, with no secret. Raises ``NotFound``,
    ``Conflict`` if it is in none, ``Denied`` for whoever built it.
    """
    agent = local.require_agent(tx, agent_id)
    if not is_quarantined(tx, agent_id):
        raise Conflict(f"agent {agent_id} was not confirmed compromised.", where="agent", remedy="Unblock it.")
    released = registry.unblock(tx, agent_id, reason)
    saga.close(tx, SagaKind.AGENT_COMPROMISE, agent_id, outcome, f"released by {tx.actor}: {reason}")
    LIFTS[outcome](tx, "agent", agent_id, reason)
    return {
        "state": released.state.value,
        "agent_epoch": released.epoch,
        "secret": "there is one" if agent.secret_hash is not None else "a new one is needed",
    }


_ASKED_LATELY: Final = timedelta(seconds=5)
"""However often somebody tries to sign in, their identity provider is asked about them no more often than this."""


def check_soon(control: SqlControlStore, issuer: str, subject: str) -> bool:
    """Have the identity provider asked at once whether a confirmed user has set a new password; whether it is.

    For when there is a sign: the user has signed in there since every session was ended.
    """
    with control.read() as tx:
        if _to_hurry(tx, issuer, subject) is None:
            return False
    with control.tx("system:responses", audited=False) as tx:
        found = _to_hurry(tx, issuer, subject)
        if found is not None:
            sagas.change(tx, found, check_at=tx.now)
        return found is not None


def _to_hurry(tx: ControlTx, issuer: str, subject: str) -> Saga | None:
    user = people.find_user_by_subject(tx, issuer, subject)
    found = sagas.newest_open(tx, SagaKind.USER_COMPROMISE, user.id) if user is not None else None
    if found is None or found.check_at is None or found.check_at <= tx.now:
        return None
    return found if found.updated_at + _ASKED_LATELY <= tx.now else None


def told_elsewhere(tx: ControlTx, user_id: str) -> str:
    """What ended the compromise, if somebody else ended it (an identity provider, by a shared signal); else empty."""
    found = risk.find(tx, "user", user_id)
    return found.because if found.state is RiskState.REMEDIATED else ""


def is_quarantined(tx: ControlTx, agent_id: str) -> bool:
    """Whether the agent was confirmed compromised and has not been released since."""
    return sagas.newest_open(tx, SagaKind.AGENT_COMPROMISE, agent_id) is not None


def refuse_plain_unblock(tx: ControlTx, agent_id: str) -> None:
    """Raises ``Denied`` for an agent in quarantine: whoever unblocks it must say that it is no longer compromised."""
    if is_quarantined(tx, agent_id):
        raise Denied(
            f"agent {agent_id} was confirmed compromised. Release it from quarantine instead; that lifts its risk, too."
        )


def release_server(tx: ControlTx, server_id: str, reason: str) -> Mapping[str, Any]:
    """Allow calls to a tool server again. Raises ``NotFound``, ``Conflict`` if it is not blocked."""
    server = registry.get_server(tx, server_id).server
    after = registry.unblock_server(tx, server_id, reason)
    if server.state is after.state:
        raise Conflict(f"tool server {server_id} is not blocked.", where="server")
    saga.close(tx, SagaKind.SERVER_COMPROMISE, server_id, Outcome.DISMISSED, f"released by {tx.actor}: {reason}")
    return {"state": after.state.value}
