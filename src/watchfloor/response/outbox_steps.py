"""How each step of the outbox is done: what is asked of identity providers, what is told to others, what is read back.

Above ``identity.connector`` and ``ports``; ``outbox`` runs them. A step that speaks to somebody (``ASKS``) is done
outside of any transaction and may be done twice, which connectors promise to stand. One that writes other rows
(``WRITES``) is done in the very transaction that marks it as done, so it happens once. What comes of it is a value:
nothing here decides when to try again.

INVARIANT: ``Done`` is said of nothing that has not happened, and reading back is done only if what was asked for shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.identity.connector import Ability, Account, AccountState, IdentityConnector
from watchfloor.model.agents import AgentState, ServerState
from watchfloor.model.facts import Kind
from watchfloor.model.people import RiskLevel
from watchfloor.model.sagas import SagaKind, StepState
from watchfloor.model.times import in_words
from watchfloor.response import local
from watchfloor.response.plans import EVENTS, GATEWAY, LOCAL, NOTIFY, PASSWORD, READ_BACK, RISK, SESSIONS
from watchfloor.response.ports import Notice, Ports, SecurityEvent
from watchfloor.response.recovery import PASSWORD_CHANGED_AT
from watchfloor.storage import inventory, people, sagas
from watchfloor.storage.sagas import Saga, Step

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


# -- what may come of a step --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """It happened, and this shows it."""

    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Skipped:
    """There is nobody to ask, or nothing to ask for: why."""

    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Again:
    """It did not work and may later, not before ``retry_after`` seconds. ``most``: so many attempts, then it failed."""

    error: str
    retry_after: float = 0.0
    most: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)


Result = Done | Skipped | Again


@dataclass(frozen=True, slots=True)
class Work:
    """A step that was claimed, with the response that it belongs to and all of its steps."""

    saga: Saga
    step: Step
    steps: Sequence[Step]
    now: datetime

    @property
    def account(self) -> Account:
        """Whom it is about, as the identity provider knows them: as it was when the response began."""
        about = self.saga.parameters
        return Account(str(about.get("issuer", "")), str(about.get("subject", "")), str(about.get("upn", "")))

    @property
    def level(self) -> RiskLevel:
        """The risk that others are told of."""
        return RiskLevel.NONE if self.saga.kind is SagaKind.USER_RELEASE else RiskLevel.HIGH

    def is_done(self, name: str) -> bool:
        """Whether another step of the response was done."""
        return any(step.name == name and step.state is StepState.DONE for step in self.steps)


# -- identity providers -------------------------------------------------------------------------------------------


def _connector(work: Work, ports: Ports) -> IdentityConnector | Skipped:
    found = ports.connectors.find(work.account.issuer)
    if found is None:
        return Skipped(f"no connector is configured for this identity provider ({work.account.issuer}).")
    return found


def _provider(
    ability: Ability, says: str, change: Callable[[IdentityConnector, Work], Mapping[str, str]]
) -> Callable[[Work, Ports], Result]:
    def ask(work: Work, ports: Ports) -> Result:
        connector = _connector(work, ports)
        if isinstance(connector, Skipped):
            return connector
        if ability not in connector.abilities:
            return Skipped(f"the identity provider ({connector.kind}) cannot be asked to {says}.")
        return Done({"connector": connector.kind, **change(connector, work)})

    return ask


def _revoke(connector: IdentityConnector, work: Work) -> Mapping[str, str]:
    return connector.revoke_sessions(work.account)


def _reset(connector: IdentityConnector, work: Work) -> Mapping[str, str]:
    return connector.require_password_reset(work.account)


def _set_risk(connector: IdentityConnector, work: Work) -> Mapping[str, str]:
    return connector.set_risk(work.account, work.level)


@dataclass(frozen=True, slots=True)
class Shown:
    """What one reading says about one thing that was asked for. ``is_shown`` None: the provider cannot say."""

    says: str
    is_shown: bool | None


_MOST_READINGS: Final = 8
"""Readings that contradict what was done, before reading back counts as failed."""


def _read_back(work: Work, ports: Ports) -> Result:
    connector = _connector(work, ports)
    if isinstance(connector, Skipped):
        return connector
    asked = [name for name in (SESSIONS, PASSWORD, RISK) if work.is_done(name)]
    if not asked:
        return Skipped("nothing was changed at the identity provider, so there is nothing to read back.")
    if Ability.READ_STATE not in connector.abilities:
        return Skipped(f"the identity provider ({connector.kind}) does not say what is so.")
    again = _ask_again(work, connector)
    state = connector.read_state(work.account)
    shown = {name: _CHECKS[name](work, state) for name in asked}
    evidence: dict[str, Any] = {
        "connector": connector.kind,
        "read_at": state.read_at.isoformat(),
        **{name: {"says": each.says, "shown": each.is_shown} for name, each in shown.items()},
        **({"asked_again": ", ".join(again)} if again else {}),
        **({"provider": dict(state.detail)} if state.detail else {}),
    }
    contradicted = [f"{name}: {each.says}" for name, each in shown.items() if each.is_shown is False]
    if contradicted:
        return Again(
            f"what was asked for does not show: {'; '.join(contradicted)}.", most=_MOST_READINGS, evidence=evidence
        )
    if not any(each.is_shown for each in shown.values()):
        return Skipped("the identity provider does not say anything about what was asked for.", evidence)
    return Done(evidence)


def _ask_again(work: Work, connector: IdentityConnector) -> list[str]:
    """What the reading before contradicted is asked for once more: whoever has the password may have come back."""
    changes = {SESSIONS: _revoke, PASSWORD: _reset, RISK: _set_risk}
    wrong = [
        name
        for name in changes
        if isinstance(said := work.step.evidence.get(name), Mapping) and said.get("shown") is False
    ]
    for name in wrong:
        changes[name](connector, work)
    return wrong


def _sessions_shown(work: Work, state: AccountState) -> Shown:
    # Providers tell times in whole seconds.
    begun = (work.saga.decided_at or work.saga.created_at).replace(microsecond=0)
    if state.live_sessions is not None:
        return Shown(f"{state.live_sessions} live sessions", state.live_sessions == 0)
    if state.sessions_valid_from is not None:
        return Shown(f"sessions count from {in_words(state.sessions_valid_from)}", state.sessions_valid_from >= begun)
    if state.is_enabled is False:
        return Shown("the account is disabled", True)
    return Shown("the provider does not tell of sessions", None)


def _password_shown(work: Work, state: AccountState) -> Shown:
    begun = (work.saga.decided_at or work.saga.created_at).replace(microsecond=0) + timedelta(seconds=1)
    if state.must_reset_password:
        return Shown("a new password is required", True)
    if state.password_changed_at is not None and state.password_changed_at >= begun:
        return Shown(f"the password was changed at {in_words(state.password_changed_at)}", True)
    if state.must_reset_password is None:
        return Shown("the provider does not tell whether a new password is required", None)
    return Shown("no new password is required", False)


def _risk_shown(work: Work, state: AccountState) -> Shown:
    if state.risk is None:
        return Shown("the provider does not tell the risk", None)
    # Some providers know no "none": low is the least that they have.
    shown = {work.level} if work.level is RiskLevel.HIGH else {RiskLevel.NONE, RiskLevel.LOW}
    return Shown(f"risk {state.risk.value}", state.risk in shown)


_CHECKS: Final[Mapping[str, Callable[[Work, AccountState], Shown]]] = {
    SESSIONS: _sessions_shown,
    PASSWORD: _password_shown,
    RISK: _risk_shown,
}


def new_password(work: Work, state: AccountState) -> datetime | None:
    """When the user set a new password, if that was after every session was ended."""
    local_step = next((step for step in work.steps if step.name == LOCAL), None)
    since = (local_step.evidence if local_step else {}).get("sign_ins_count_from")
    changed_at = state.password_changed_at
    if not since or changed_at is None or changed_at < datetime.fromisoformat(str(since)):
        return None
    # Changed by an administrator, and the user has yet to follow?
    return None if state.must_reset_password else changed_at


# -- other systems and people -------------------------------------------------------------------------------------


def _emit(tx: ControlTx, work: Work, ports: Ports) -> Result:
    if ports.emitter is None:
        return Skipped("nobody is configured to receive security events.")
    shown: dict[str, Any] = {}
    for event in _events(work):
        shown[event.kind] = dict(ports.emitter.emit(tx, f"{work.step.key}/{event.kind}", event))
    return Done(shown) if any(shown.values()) else Skipped("nobody has asked to be told of it.")


def _events(work: Work) -> list[SecurityEvent]:
    """What others are told of a response."""
    saga = work.saga
    about: dict[str, Any] = {
        "subject_kind": saga.kind.subject_kind,
        "subject_id": saga.subject_id,
        "reason": saga.reason,
        "issuer": work.account.issuer,
        "subject": work.account.subject,
        "upn": work.account.upn,
        "transaction": saga.id,
    }
    at = saga.decided_at or saga.created_at
    if saga.kind is SagaKind.USER_RELEASE:
        changed_at = saga.parameters.get(PASSWORD_CHANGED_AT)
        back = SecurityEvent("risk-level-change", **about, at=at, level=work.level, previous_level=RiskLevel.HIGH)
        if not changed_at:
            return [back]
        set_at = datetime.fromisoformat(str(changed_at))
        return [SecurityEvent("credential-change", **about, at=set_at, change="update"), back]
    events = [SecurityEvent("session-revoked", **about, at=at)]
    if saga.kind is SagaKind.USER_COMPROMISE:
        events.append(SecurityEvent("credential-change", **about, at=at, change="revoke"))
    return [*events, SecurityEvent("risk-level-change", **about, at=at, level=work.level)]


def _notify(tx: ControlTx, work: Work, ports: Ports) -> Result:
    if ports.notifier is None:
        return Skipped("no notifier is configured.")
    saga = work.saga
    name = local.subject_name(tx, saga.kind, saga.subject_id)
    where = f" in incident {saga.incident_id}" if saga.incident_id else ""
    title = f"{name}: {_WORDS[saga.kind]}"
    notice = Notice(
        kind=saga.kind.value,
        title=title,
        text=f"{title}{where}, by {saga.opened_by}: {saga.reason}",
        subject=saga.subject,
        incident_id=saga.incident_id,
        response_id=saga.id,
        managers=tuple(sorted(_managers(tx, saga))),
    )
    shown = dict(ports.notifier.notify(tx, work.step.key, notice))
    return Done(shown) if shown else Skipped("nobody who is to be told has a mail address.")


_WORDS: Final = {
    SagaKind.USER_COMPROMISE: "confirmed compromised",
    SagaKind.USER_RELEASE: "risk lifted",
    SagaKind.AGENT_COMPROMISE: "agent confirmed compromised and blocked",
    SagaKind.SERVER_COMPROMISE: "tool server confirmed compromised and blocked",
}


def _managers(tx: ControlTx, saga: Saga) -> set[str]:
    """Who answers for the subject: never the subject alone."""
    if saga.kind.subject_kind == "user":
        user = people.find_user(tx, saga.subject_id)
        return {user.manager} if user is not None and user.manager else set()
    if saga.kind.subject_kind == "agent":
        agent = inventory.find_agent(tx, saga.subject_id)
        found = (agent.maker_id, agent.owner_id, agent.sponsor_id) if agent is not None else ()
        return {user_id for user_id in found if user_id}
    return set()


def _gateway(tx: ControlTx, work: Work, ports: Ports) -> Result:
    """What workers decide by, as they are given it: not what was ordered."""
    saga = work.saga
    is_agent = saga.kind is SagaKind.AGENT_COMPROMISE
    found = sagas.find_projected(tx, Kind.AGENT if is_agent else Kind.SERVER, saga.subject_id)
    if found is None:
        return Done({"state": "not known to any worker: every call is refused"})
    body, revision = found
    wanted = AgentState.BLOCKED.value if is_agent else ServerState.BLOCKED.value
    evidence = {"state": body.get("state"), "revision": revision}
    if body.get("state") != wanted:
        # Somebody lifted it since: that is for them to explain, and trying again would not show it either.
        return Again("the gateway workers are not told that it is blocked.", most=1, evidence=evidence)
    return Done({**evidence, **({"agent_epoch": body.get("epoch")} if is_agent else {})})


ASKS: Final[Mapping[str, Callable[[Work, Ports], Result]]] = {
    SESSIONS: _provider(Ability.REVOKE_SESSIONS, "end sessions", _revoke),
    PASSWORD: _provider(Ability.REQUIRE_PASSWORD_RESET, "require a new password", _reset),
    RISK: _provider(Ability.SET_RISK, "take our word for a risk", _set_risk),
    READ_BACK: _read_back,
}
"""Steps that speak to an identity provider."""

WRITES: Final[Mapping[str, Callable[[ControlTx, Work, Ports], Result]]] = {
    EVENTS: _emit,
    NOTIFY: _notify,
    GATEWAY: _gateway,
}
"""Steps that read and write our own rows."""
