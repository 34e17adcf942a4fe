"""Entra's policies in and out: what is understood, what is told, and that nothing is lost on the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guard.access.bodies import body
from watchfloor import content
from watchfloor.guard.access.graph import from_graph, to_graph
from watchfloor.guard.access.policy import check, read
from watchfloor.model.errors import InputError

ENTRA: list[dict[str, Any]] = json.loads((Path(__file__).parent / "entra.json").read_text("utf-8"))["value"]


def _user(name: str) -> str:
    return "griffin" if name == "9a9a9a9a-1b1b-4c2c-8d3d-4e4e4e4e4e4e" else name


@pytest.mark.claim("access-graph")
def test_a_policy_of_entra_with_its_nulls_is_understood_whole() -> None:
    found = from_graph(ENTRA[0], user_id=_user)
    assert "unenforced" not in found
    assert check(found) == []
    assert found["conditions"]["users"] == {"include": ["All"], "exclude": ["griffin"], "excludeGroups": ["breakglass"]}
    assert found["grantControls"] == {"operator": "AND", "builtInControls": ["mfa", "passwordChange"]}
    assert read(found["id"], 1, found).max_age == 300


@pytest.mark.claim("access-graph")
def test_what_cannot_be_enforced_is_told_by_its_place_and_keeps_the_policy_from_being_enabled() -> None:
    found = from_graph(ENTRA[1])
    assert set(found["unenforced"]) == {
        "conditions.clientAppTypes", "conditions.platforms", "conditions.locations", "conditions.somethingNew",
        "conditions.users.includeGuestsOrExternalUsers", "grantControls.builtInControls", "grantControls.termsOfUse",
        "grantControls.authenticationStrength", "sessionControls.persistentBrowser",
    }  # fmt: skip
    assert [problem.where for problem in check(found)] == ["state"]
    assert check({**found, "state": "enabledForReportingButNotEnforced"}) == []


def test_a_policy_for_agents_keeps_its_agents() -> None:
    found = from_graph(ENTRA[2], agent_id=lambda name: {"agent-guid-1": "billing"}.get(name, name))
    assert found["conditions"]["agents"] == {"include": ["All"], "exclude": ["billing"]}
    assert "users" not in found["conditions"]
    assert check({**found, "state": "enabled"}) == []


@pytest.mark.claim("access-graph")
@pytest.mark.parametrize("policy", ENTRA, ids=lambda p: p["displayName"])
def test_what_entra_said_is_there_again_on_export(policy: dict[str, Any]) -> None:
    written = to_graph(from_graph(policy))
    assert from_graph(written) == from_graph(policy)

    def missing(said: Any, kept: Any, where: str) -> list[str]:
        if isinstance(said, dict):
            return [
                m for n, v in said.items() if "@odata" not in n for m in missing(v, (kept or {}).get(n), f"{where}.{n}")
            ]
        if said in (None, [], "") or where.endswith(("DateTime", ".templateId")):
            return []
        return [] if said == kept or (isinstance(said, list) and sorted(said) == sorted(kept or [])) else [where]

    assert missing(policy, written, "") == []


@pytest.mark.parametrize("policy", content.access_policies(), ids=lambda p: str(p["id"]))
def test_our_own_policies_survive_graphs_shape(policy: dict[str, Any]) -> None:
    again = from_graph(to_graph(policy))
    assert check(again) == []

    def meaning(of: dict[str, Any]) -> Any:
        return read("p", 1, {**of, "id": "p"})

    assert meaning(again) == meaning(policy)


def test_what_is_no_policy_is_refused_with_its_place() -> None:
    for wrong, where in (
        ([], "policy"),
        ({"conditions": 3, "id": "x"}, "conditions"),
        ({"id": "x", "conditions": {"users": {"includeUsers": "a", "excludeUsers": 3}}}, "excludeUsers"),
        ({"state": "enabled"}, "displayName"),
    ):
        with pytest.raises(InputError) as caught:
            from_graph(wrong)
        assert where in caught.value.where


def test_a_name_gives_a_policy_without_an_id_one() -> None:
    assert from_graph({"displayName": "CA001: High Risk!", "state": "disabled"})["id"] == "ca001-high-risk"
    assert from_graph(to_graph(body()))["id"] == "p1"
