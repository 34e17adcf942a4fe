"""What is wrong with an access policy, said with its place; and what its parts mean."""

from __future__ import annotations

from typing import Any

import pytest

from guard.access.bodies import BLOCK, body, policy
from guard.world import FACTS
from watchfloor import content
from watchfloor.guard.access.evaluate import Attempt, evaluate, is_multi_factor, why_not
from watchfloor.guard.access.lockout import lock_out
from watchfloor.guard.access.policy import EVERY_TIME_SECONDS, check
from watchfloor.model.access import Control
from watchfloor.model.agents import TokenMode, ToolEffect
from watchfloor.model.facts import AgentFacts, AgentProfile, UserFacts

CHANGE = {"operator": "AND", "builtInControls": ["mfa", "passwordChange"]}
RISKY: dict[str, Any] = {"userRiskLevels": ["high"]}
ALONE: dict[str, Any] = {"users": None, "agents": {"include": ["All"]}}

WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("a change of password without mfa", {"grantControls": {"operator": "AND", "builtInControls": ["passwordChange"]},
     "conditions": RISKY}, "grantControls", "passwordChange needs mfa"),
    ("a change of password or mfa", {"grantControls": {**CHANGE, "operator": "OR"}, "conditions": RISKY},
     "grantControls", "with the operator AND"),
    ("a change of password whatever the risk", {"grantControls": CHANGE}, "conditions.userRiskLevels",
     "passwordChange needs them"),
    ("a change of password at no risk", {"grantControls": CHANGE, "conditions": {"userRiskLevels": ["none"]}},
     "conditions.userRiskLevels", "passwordChange needs them"),
    ("mfa of an agent that acts as itself", {"conditions": ALONE}, "grantControls", "block is the only control"),
    ("a fresh sign-in of an agent", {"conditions": ALONE, "grantControls": None,
     "sessionControls": {"signInFrequency": {"value": 1, "type": "hours"}}}, "grantControls", "the only control"),
    ("block and mfa", {"grantControls": {"operator": "AND", "builtInControls": ["block", "mfa"]}}, "grantControls",
     "block stands alone"),
    ("nothing at all", {"grantControls": None}, "grantControls", "demands nothing"),
    ("nobody", {"conditions": {"users": None}, "grantControls": BLOCK}, "conditions", "for nobody"),
    ("revoke without a change of password", {"sessionControls": {"revoke": True}}, "sessionControls.revoke",
     "it needs passwordChange"),
    ("a state that there is not", {"state": "on"}, "state", "is none of"),
    ("a condition that there is not", {"conditions": {"userRiskLevel": ["high"]}}, "conditions.userRiskLevel",
     "Did you mean `userRiskLevels`?"),
    ("a level that there is not", {"conditions": {"userRiskLevels": ["severe"]}}, "conditions.userRiskLevels",
     "none of"),
    ("a tool class that there is not", {"conditions": {"resources": {"toolClasses": ["writes"]}}},
     "conditions.resources.toolClasses", "Did you mean `write`?"),
    ("a control that there is not", {"grantControls": {"builtInControls": ["compliantDevice"]}},
     "grantControls.builtInControls", "is none of"),
    ("no name", {"displayName": ""}, "displayName", "1 to 256"),
    ("an id that is none", {"id": "CA 001"}, "id", "cannot be the id"),
    ("years of frequency", {"sessionControls": {"signInFrequency": {"value": 400, "type": "days"}}},
     "sessionControls.signInFrequency.value", "up to a year"),
    ("an attribute that there is not", {"conditions": {"agents": {"attributes": [{"name": "colour", "value": "red"}]}}},
     "conditions.agents.attributes", "is no attribute"),
    ("what cannot be enforced, enabled", {"unenforced": {"conditions.locations": {"includeLocations": ["All"]}}},
     "state", "cannot be enforced here"),
]  # fmt: skip


@pytest.mark.claim("access-checked")
@pytest.mark.parametrize(("what", "changes", "where", "message"), WRONG, ids=[w[0] for w in WRONG])
def test_what_is_wrong_is_told_with_its_place(what: str, changes: dict[str, Any], where: str, message: str) -> None:
    told = [str(problem) for problem in check(body(**changes))]
    assert any(problem.startswith(f"{where}: ") and message in problem for problem in told), told


RIGHT: list[dict[str, Any]] = [
    {},
    {"grantControls": CHANGE, "conditions": RISKY, "sessionControls": {"revoke": True}},
    {"conditions": ALONE, "grantControls": BLOCK},
    {"conditions": {**ALONE, "credentialModes": ["obo"]}},
    {"state": "disabled", "unenforced": {"conditions.platforms": {"includePlatforms": ["iOS"]}}},
    {"grantControls": None, "sessionControls": {"signInFrequency": {"frequencyInterval": "everyTime"}}},
]


@pytest.mark.parametrize("changes", RIGHT)
def test_a_policy_beside_the_mistake_is_fine(changes: dict[str, Any]) -> None:
    assert check(body(**changes)) == []


@pytest.mark.parametrize("nonsense", [None, "p", 7, [], {"id": 3}, {"conditions": []}, {"conditions": {"users": 1}}])
def test_nonsense_is_a_problem_and_no_crash(nonsense: Any) -> None:
    assert check(nonsense)


@pytest.mark.claim("access-defaults")
def test_the_shipped_policies_are_fine_and_what_the_design_says() -> None:
    shipped = {b["id"]: b for b in content.access_policies()}
    assert [check(b) for b in shipped.values()] == [[]] * 4
    assert {i: b["state"] for i, b in shipped.items()} == {
        "ca001": "enabled", "ca002": "enabled", "ca003": "enabled", "ca004": "enabledForReportingButNotEnforced",
    }  # fmt: skip


def alone(**changes: Any) -> Attempt:
    return Attempt(None, "bot", AgentFacts("bot", platform="Copilot Studio"), TokenMode.AGENT, **changes)


def test_a_policy_for_users_does_not_fit_an_agent_that_acts_as_itself() -> None:
    assert evaluate([policy()], alone()).control is Control.GRANT
    assert why_not(policy(), alone()) == "users"
    assert evaluate([policy(conditions=ALONE, grantControls=BLOCK)], alone()).control is Control.BLOCK


def test_blueprints_and_attributes_choose_agents() -> None:
    family = policy(conditions={"users": None, "agents": {"blueprints": ["BP-7"]}}, grantControls=BLOCK)
    assert evaluate([family], alone(profile=AgentProfile("bp-7"))).control is Control.BLOCK
    assert evaluate([family], alone(profile=AgentProfile("bp-8"))).control is Control.GRANT
    assert evaluate([family], alone()).control is Control.GRANT
    chosen = {"include": ["All"], "attributes": [{"name": "platform", "value": "copilot studio"}]}
    platform = policy(conditions={"users": None, "agents": chosen}, grantControls=BLOCK)
    assert evaluate([platform], alone()).control is Control.BLOCK
    spared = {"include": ["All"], "excludeAttributes": [{"name": "platform", "value": "Copilot Studio"}]}
    assert evaluate([policy(conditions={"users": None, "agents": spared}, grantControls=BLOCK)], alone()).policies == ()


def test_a_class_of_tools_fits_only_where_the_tool_is_known() -> None:
    writing = policy(conditions={**ALONE, "resources": {"toolClasses": ["write"]}}, grantControls=BLOCK)
    for effect in ToolEffect:
        expected = Control.GRANT if effect is ToolEffect.READ else Control.BLOCK
        assert evaluate([writing], alone(effect=effect)).control is expected
    assert evaluate([writing], alone()).control is Control.GRANT


@pytest.mark.parametrize(
    ("methods", "expected"),
    [((), False), (("pwd",), False), (("pwd", "pin"), False), (("otp",), False), (("pwd", "otp"), True),
     (("mfa",), True), (("pin", "hwk"), True), (("fpt", "swk"), True), (("rsa", "mfa"), True)],
)  # fmt: skip
def test_several_factors_are_said_or_of_two_kinds(methods: tuple[str, ...], expected: bool) -> None:
    assert is_multi_factor(methods) is expected


def test_where_one_control_is_enough_the_easiest_is_asked_for() -> None:
    assert FACTS.user is not None
    known = Attempt(FACTS.user, "bot", None, TokenMode.OBO)
    either = policy(grantControls={"operator": "OR", "builtInControls": ["mfa"]})
    assert evaluate([either], known, ("pwd",)).control is Control.MFA
    assert evaluate([either], known, ("mfa",)).control is Control.GRANT


def test_every_time_lets_in_whoever_has_just_signed_in() -> None:
    assert FACTS.user is not None
    frequency = {"signInFrequency": {"frequencyInterval": "everyTime"}}
    always = policy(grantControls=None, sessionControls=frequency)
    known = Attempt(FACTS.user, "bot", None, TokenMode.OBO)
    assert evaluate([always], known, (), 5.0).control is Control.GRANT
    late = evaluate([always], known, (), EVERY_TIME_SECONDS + 1.0)
    assert (late.control, late.max_age) == (Control.REAUTHENTICATE, EVERY_TIME_SECONDS)
    assert evaluate([always], known, (), None).control is Control.REAUTHENTICATE


PEOPLE = [
    UserFacts("ann", is_enabled=True),
    UserFacts("ben", is_enabled=True),
    UserFacts("emergency", is_enabled=True, groups=("Breakglass",)),
]


@pytest.mark.claim("access-lock-out")
def test_a_policy_that_blocks_everybody_is_noticed_and_its_twins_are_not() -> None:
    danger = lock_out(policy(grantControls=BLOCK), PEOPLE) or ""
    assert "every user (3)" in danger
    spares_one = policy(
        conditions={"users": {"include": ["All"], "excludeGroups": ["breakglass"]}}, grantControls=BLOCK
    )
    assert lock_out(spares_one, PEOPLE) is None
    only_one = policy(conditions={"users": {"include": ["emergency"]}}, grantControls=BLOCK)
    assert "emergency" in (lock_out(only_one, PEOPLE) or "")
    both = policy(conditions={"users": {"include": ["ann", "ben"]}}, grantControls=BLOCK)
    assert lock_out(both, PEOPLE) is None
    assert "every operator who is a user: ann" in (lock_out(both, PEOPLE, {"ann", "olga"}) or "")
    for harmless in (
        policy(),  # whoever is asked for a second factor can give it
        policy(grantControls=BLOCK, state="enabledForReportingButNotEnforced"),
        policy(grantControls=BLOCK, conditions={"agents": {"include": ["bot"]}}),
        policy(grantControls=BLOCK, conditions={"resources": {"servers": ["bank"]}}),
        policy(grantControls=BLOCK, conditions={"resources": {"toolClasses": ["pay"]}}),
        policy(grantControls=BLOCK, conditions={"credentialModes": ["maker"]}),
        policy(grantControls=BLOCK, conditions={"userRiskLevels": ["high"]}),
    ):
        assert lock_out(harmless, PEOPLE, {"ann"}) is None
    assert lock_out(policy(conditions=ALONE, grantControls=BLOCK), PEOPLE) is not None
    assert "there will be" in (lock_out(policy(grantControls=BLOCK), []) or "")
