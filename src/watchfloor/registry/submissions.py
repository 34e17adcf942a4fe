"""Submitting a version of an agent, deciding about it, and making it live.

Above ``manifest`` (which reads and writes), ``checks`` and ``lifecycle``; the portal and ``response`` call it. All in
the caller's transaction, whose actor is whoever submits or decides. It does not know permissions.

INVARIANT: what is live stays live until somebody who built neither the agent nor the version has approved a newer one;
no approval moves a blocked agent; nothing of a submission is in force, or known to a gateway, before it is approved.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from watchfloor.guard.detectors.secrets import find_secrets
from watchfloor.model.agents import AgentState, VersionState
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound
from watchfloor.registry.checks import Candidate, CheckResult, Outcome, run_checks
from watchfloor.registry.document import Scalar, read_document
from watchfloor.registry.lifecycle import Verb, next_state
from watchfloor.registry.manifest import write_step
from watchfloor.registry.problems import Problems
from watchfloor.registry.readers import BAD, WHERE, Absent, shared
from watchfloor.registry.references import Values, check_references, items
from watchfloor.registry.shape import COMPANY, DeclaredState, read_company
from watchfloor.registry.state import State, read_state
from watchfloor.registry.steps import compute_steps, next_version
from watchfloor.registry.version_diff import Difference, compare
from watchfloor.storage import inventory, versions
from watchfloor.storage.inventory import Agent
from watchfloor.storage.secrets import SecretHasher
from watchfloor.storage.versions import AgentVersion, KnownVersions

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_PEOPLE = ("maker", "owner", "sponsor")
_MAY_STAND = ("apiVersion", "kind", "agents")


@dataclass(frozen=True, slots=True)
class Examined:
    """A version as it would be submitted: what is different from what is live, and what the checks say.

    ``company`` is the manifest as it would be applied, ``state`` what it was compared with.
    """

    version: AgentVersion
    agent: Agent | None
    differences: tuple[Difference, ...]
    results: tuple[CheckResult, ...]
    company: Values
    state: State


def examine(
    tx: ControlTx,
    text: str,
    submitter: str,
    *,
    for_others: bool = False,
) -> Examined:
    """Read a submission: a manifest with one agent and nothing else, and no secret in it. Nothing is stored.

    Without ``for_others`` the agent must be new, or the submitter's own. Raises ``ManifestInvalid`` with everything
    that is wrong, ``Denied``.
    """
    problems = Problems()
    company = read_company(read_document(text), problems)
    agent = _the_agent(company, problems)
    before = inventory.find_agent(tx, agent["id"]) if agent["id"] is not BAD else None
    if before is not None and not for_others and submitter not in (before.maker_id, before.owner_id):
        raise Denied(f"agent {before.id} is somebody else's. Choose another id for yours.")
    _check_people(agent, before, submitter, problems)
    _check_secrets(text, agent, problems)
    return _examine(tx, text, submitter, company, agent, problems)


def _examine(
    tx: ControlTx,
    text: str,
    submitter: str,
    company: Values,
    agent: Values,
    problems: Problems,
    audience: Collection[str] | None = None,
) -> Examined:
    """``agent`` with the people who answer for it now; ``audience`` stands for whom it is shared with."""
    state = read_state(tx)
    before = state.agents.get(agent["id"]) if agent["id"] is not BAD else None
    people = {name: before.manifest.get(name) for name in _PEOPLE} if before else {"maker": submitter}
    agent = {**agent, **people, "state": DeclaredState.PUBLISHED}
    if audience is not None:
        said = [shared(Scalar(who, who, 0), "audience", problems) for who in audience]
        agent["sharedWith"] = tuple(who for who in said if who is not BAD)
    company = {**company, "agents": (agent,)}
    warnings = check_references(company, state, problems, lambda body: ())
    problems.raise_if_any()
    known = state.versions.get(agent["id"], KnownVersions())
    version = next_version(agent, known, tx.now, submitter)
    was_live = before.manifest if before is not None and not known.is_new else None
    differences = tuple(compare(was_live, version.manifest))
    results = run_checks(Candidate(agent["id"], version.manifest, differences, tuple(warnings), state))
    version = replace(
        version, state=VersionState.SUBMITTED, document=text, checks=tuple(result.to_json() for result in results)
    )
    return Examined(version, before, differences, results, company, state)


def submit(tx: ControlTx, text: str, note: str = "", *, for_others: bool = False) -> AgentVersion:
    """Ask for a version to be approved; an earlier one that still waits is withdrawn.

    An agent that is published stays as it is meanwhile, one that is blocked stays blocked. Raises like ``examine``, and
    ``Conflict`` for a retired agent.
    """
    examined = examine(tx, text, tx.actor, for_others=for_others)
    version = replace(examined.version, note=note)
    agent = examined.agent or _newcomer(version)
    state = next_state(agent, Verb.SUBMIT, tx.actor)
    waiting = versions.newest_in(tx, agent.id, VersionState.SUBMITTED)
    if waiting is not None:
        _decide(tx, waiting, VersionState.WITHDRAWN, "A newer version was submitted.", "agent:withdraw-version")
    inventory.save_agent(tx, replace(agent, state=state), "agent:submit")
    versions.add_version(tx, version)
    return version


def withdraw(tx: ControlTx, agent_id: str, number: int, reason: str = "", *, for_others: bool = False) -> AgentVersion:
    """Take a submission back. Raises ``NotFound``, ``Denied`` for somebody else's, ``Conflict`` if it was decided."""
    agent, version = _waiting(tx, agent_id, number)
    if not for_others and tx.actor not in (agent.maker_id, agent.owner_id, version.created_by):
        raise Denied(f"version {number} of agent {agent_id} is somebody else's.")
    state = next_state(agent, Verb.RECALL, tx.actor)
    withdrawn = _decide(tx, version, VersionState.WITHDRAWN, reason, "agent:withdraw-version")
    inventory.save_agent(tx, replace(agent, state=state), "agent:recall")
    return withdrawn


def decline(tx: ControlTx, agent_id: str, number: int, reason: str) -> AgentVersion:
    """Say no. Raises ``NotFound``, ``Conflict`` if it was decided already."""
    agent, version = _waiting(tx, agent_id, number)
    state = next_state(agent, Verb.DECLINE, tx.actor)
    declined = _decide(tx, version, VersionState.DECLINED, reason, "agent:decline-version")
    inventory.save_agent(tx, replace(agent, state=state), "agent:decline", reason)
    return declined


def approve(
    tx: ControlTx,
    agent_id: str,
    number: int,
    reason: str,
    *,
    conditions: str = "",
    audience: Collection[str] | None = None,
) -> AgentVersion:
    """Make a version live; or, while its agent is blocked, let it be what the agent is unblocked with.

    ``audience``: who gets it at first, instead of whom the manifest shares it with. Raises ``NotFound``; ``Denied`` for
    whoever built it; ``Conflict`` if it was decided already, is older than what is live, or fails a check by now;
    ``ManifestInvalid`` if what it names is gone.
    """
    agent, version = _waiting(tx, agent_id, number)
    state = next_state(agent, Verb.APPROVE, tx.actor, version)
    _refuse_older(tx, version)
    examined = _examine_again(tx, version, audience)
    version = replace(
        version,
        checks=tuple(result.to_json() for result in examined.results),
        conditions=conditions,
        audience=None if audience is None else tuple(audience),
    )
    if agent.state is AgentState.BLOCKED:
        return _decide(tx, version, VersionState.APPROVED, reason, "agent:approve-version")
    _apply(tx, version, examined, state, "agent:approve", reason)
    return _decide(tx, version, VersionState.LIVE, reason, "agent:approve-version")


def go_live(tx: ControlTx, version: AgentVersion, state: AgentState, reason: str) -> Agent:
    """Unblock an agent with a version that was approved while it was blocked. Raises like ``approve``."""
    _refuse_older(tx, version)
    agent = _apply(tx, version, _examine_again(tx, version, version.audience), state, "agent:unblock", reason)
    versions.move_version(tx, replace(version, state=VersionState.LIVE), "agent:unblock-version")
    return agent


# -- reading ------------------------------------------------------------------------------------------------------


def _the_agent(company: Values, problems: Problems) -> dict[str, Any]:
    for member in COMPANY.members:
        if member.name not in _MAY_STAND and company[member.name] not in (None, ()):
            problems.add(
                member.name, "does not belong into a submission.", "Whoever keeps the registry applies such things."
            )
    found = items(company, "agents")
    if len(found) != 1:
        problems.add("agents", f"has {len(found)} readable agents.", "Submit one agent at a time.")
        problems.raise_if_any()
    return dict(found[0])


def _check_people(agent: Values, before: Agent | None, submitter: str, problems: Problems) -> None:
    where = agent[WHERE]
    is_now = (
        {"maker": before.maker_id, "owner": before.owner_id, "sponsor": before.sponsor_id}
        if before is not None
        else {"maker": submitter}
    )
    for name, person in is_now.items():
        if agent[name] not in (None, BAD, person):
            message = f"is {person or 'nobody'}; a submission does not hand an agent over."
            problems.add(f"{where}.{name}", message, "Leave it out, or have the agent reassigned.")
    if agent["state"] is DeclaredState.DRAFT:
        problems.add(f"{where}.state", "is decided by whoever approves the submission.", "Leave it out.")


def _check_secrets(text: str, agent: Values, problems: Problems) -> None:
    """A submission is kept as it is and read by many: what is secret does not belong into it."""
    where = agent[WHERE]
    given = [(f"{where}.secret", agent["secret"])]
    given += [(f"{grant[WHERE]}.makerCredential", grant["makerCredential"]) for grant in items(agent, "tools")]
    for place, value in given:
        if value not in (Absent.KEEP, BAD):
            remedy = "Leave it out: the one that is stored stays. Whoever keeps the registry stores another."
            problems.add(place, "does not belong into a submission.", remedy)
    found = {f"line {text.count(chr(10), 0, s.span[0]) + 1}": s.kind for s in find_secrets(text)}
    if not found:  # one that only shows once the text is put together
        found = {place: s.kind for place, value in _texts(agent, where) for s in find_secrets(value)}
    for place, kind in found.items():
        problems.add(
            place, f"holds a secret ({kind}).", "Take it out, and have it replaced: somebody may have read it."
        )


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name != WHERE:
                yield from _texts(inner, f"{where}.{name}")
    elif isinstance(value, tuple | list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{where}[{index}]")
    elif isinstance(value, str):
        yield where, value


def _newcomer(version: AgentVersion) -> Agent:
    """An agent that nobody has approved yet: known by name, with nothing of what it asks for."""
    asked = version.manifest
    shown = {name: asked[name] for name in ("name", "description", "version", *_PEOPLE)}
    nothing = {"platform": "", "model": "", "instructions": "", "triggers": [], "connectedAgents": [], "tools": []}
    return Agent(
        id=version.agent_id,
        name=asked["name"],
        state=AgentState.DRAFT,
        version=version.version,
        created_at=version.created_at,
        updated_at=version.created_at,
        updated_by=version.created_by,
        description=asked["description"],
        maker_id=asked["maker"],
        owner_id=asked["owner"] or asked["maker"],
        sponsor_id=asked["sponsor"],
        manifest={**shown, **nothing, "state": AgentState.DRAFT.value},
    )


# -- deciding -----------------------------------------------------------------------------------------------------


def _waiting(tx: ControlTx, agent_id: str, number: int) -> tuple[Agent, AgentVersion]:
    agent, version = inventory.find_agent(tx, agent_id), versions.find_version(tx, agent_id, number)
    if agent is None or version is None:
        raise NotFound(f"there is no version {number} of an agent {agent_id!r}.", where="number")
    if version.state is not VersionState.SUBMITTED:
        raise Conflict(f"version {number} of agent {agent_id} is {version.state.value}.", where="number")
    if agent.state is AgentState.DRAFT:
        # Taken out of use, or unblocked, while the version waited: to whoever decides it is submitted.
        agent = replace(agent, state=next_state(agent, Verb.SUBMIT, version.created_by))
    return agent, version


def _refuse_older(tx: ControlTx, version: AgentVersion) -> None:
    live = versions.newest_in(tx, version.agent_id, VersionState.LIVE)
    if live is not None and live.number > version.number:
        raise Conflict(
            f"version {version.number} of agent {version.agent_id} is older than version {live.number}, which is live.",
            where="number",
            remedy="Have it submitted again, on top of what is live.",
        )


def _examine_again(tx: ControlTx, version: AgentVersion, audience: Collection[str] | None) -> Examined:
    assert version.document is not None
    problems = Problems()
    company = read_company(read_document(version.document), problems)
    agent = _the_agent(company, problems)
    examined = _examine(tx, version.document, version.created_by, company, agent, problems, audience)
    failed = [result for result in examined.results if result.outcome is Outcome.FAILED]
    if failed:
        details = "; ".join(detail for result in failed for detail in result.details)
        raise Conflict(
            f"version {version.number} of agent {version.agent_id} fails a check: {details}",
            where="number",
            remedy="Mend that, or decline it.",
        )
    return examined


def _apply(
    tx: ControlTx, version: AgentVersion, examined: Examined, state: AgentState, action: str, reason: str
) -> Agent:
    """Write what the version declares, as whoever submitted it; the agent then is in ``state``."""
    after = examined.agent
    # There is no secret in a submission, so nothing is hashed.
    hasher = SecretHasher(os.urandom(32))
    for step in compute_steps(examined.company, examined.state, hasher, tx.now, version.created_by):
        if isinstance(step.after, Agent):
            after = step.after
        elif not isinstance(step.after, AgentVersion):  # this version is stored already
            write_step(tx, step)
    assert after is not None
    # Whoever answers for it may be another by now, which would name another build: this is the one that was decided on.
    after = replace(after, state=state, version=version.version)
    inventory.save_agent(tx, after, action, reason)
    return after


def _decide(tx: ControlTx, version: AgentVersion, state: VersionState, reason: str, action: str) -> AgentVersion:
    decided = replace(version, state=state, decided_at=tx.now, decided_by=tx.actor, reason=reason)
    versions.move_version(tx, decided, action)
    return decided


def parse_subject(subject: str) -> tuple[str, int]:
    """``agent/number`` of a version. Raises ``InputError``."""
    agent_id, _, number = subject.partition("/")
    if not number.isascii() or not number.isdecimal() or len(number) > 9:
        raise InputError(f"{subject!r} names no version.", where="version", remedy="Write agent/number.")
    return agent_id, int(number)
