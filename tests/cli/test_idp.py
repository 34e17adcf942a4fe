"""``watchfloor idp`` and the API behind it: what is configured is shown, tried and read, by those who may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from connectors.identity import recorded
from connectors.identity.recorded import GRIFFIN, Keycloak, Trouble
from identity.world import IDP, company
from portal.house import House, open_house
from registry.toolserver import serving
from watchfloor.cli import main
from watchfloor.model.people import Role


@dataclass
class Site:
    """A server whose company's identity provider is a Keycloak."""

    house: House
    url: str
    directory: Path
    keycloak: Keycloak

    def run(self, *arguments: str, role: Role = Role.OWNER, typed: str = "") -> Result:
        token = self.directory / f"{role.value}.token"
        token.write_text(self.house.token(role) + "\n")
        return CliRunner().invoke(
            main, ["idp", *arguments, "--server", self.url, "--token-file", str(token)], input=typed
        )

    def apply(self, **connector: Any) -> None:
        declared = company()
        if connector:
            declared["identityProviders"][0]["connector"] = connector
        answer = self.house.client().post("/api/manifests/apply", json={"manifest": yaml.safe_dump(declared)})
        assert answer.status_code == 200, answer.text

    def connect(self) -> None:
        terms = {"url": self.keycloak.url, "realm": "zava", "clientId": recorded.CLIENT}
        self.apply(keycloak={**terms, "clientSecret": {"value": recorded.SECRET}})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    keycloak = Keycloak()
    with keycloak.serving(), open_house(tmp_path / "house", empty=True) as house, serving(house.app) as url:
        yield Site(house, url, tmp_path, keycloak)


def test_what_is_configured_is_listed_without_its_secrets(site: Site) -> None:
    site.apply()
    assert f"{IDP}  no connector" in site.run("list").output
    site.connect()
    shown = site.run("list")
    assert shown.exit_code == 0 and f"{IDP}  keycloak  not read yet" in shown.output
    found = json.loads(site.run("list", "--json").stdout)
    assert found[0]["connector"]["secrets"] == ["clientSecret"]
    assert recorded.SECRET not in site.run("list", "--json").output


def test_trying_a_connector_shows_an_accounts_state_and_the_first_accounts(site: Site) -> None:
    site.connect()
    done = site.run("test", IDP, "--account", GRIFFIN)
    assert done.exit_code == 0, done.output
    assert "is_enabled: True" in done.output and "live_sessions: 2" in done.output
    assert "Griffin Lewis" in done.output and "can: list_accounts" in done.output


def test_a_connector_that_fails_is_told_by_what_fails_and_the_command_too(site: Site) -> None:
    site.connect()
    unknown = site.run("test", IDP, "--account", "nobody")
    assert unknown.exit_code == 1
    assert "FAILED read_state" in unknown.output and "no such account" in unknown.output
    assert "ok     list_accounts" in unknown.output
    site.keycloak.troubles += [Trouble(503, path="/groups"), Trouble(503, path="/groups")]
    assert "FAILED list_accounts: Keycloak fails with status 503" in site.run("test", IDP).output
    none = site.run("test", "https://other.example")
    assert none.exit_code == 1 and "has no connector" in none.output
    assert site.run("test", IDP, role=Role.SOC_ANALYST).exit_code == 1, "who may not configure may not try"


def test_the_job_brings_the_directory_to_the_users(site: Site) -> None:
    site.connect()
    assert site.run("sync", IDP).exit_code == 0
    assert "sync_directories" in site.house.nudged
    site.house.work("sync_directories")
    assert "keycloak  3 accounts" in site.run("list").output
    upns = {user["upn"] for user in site.house.client().get("/api/users").json()["items"]}
    assert {"griffin@zava.example", "mona@zava.example", "quinn@zava.example"} <= upns
    site.keycloak.troubles += [Trouble(503, path="/users")]
    site.house.jobs.run_now("sync_directories")
    assert "! Keycloak fails with status 503" in site.run("list").output


def test_a_connector_is_forgotten_with_its_secrets(site: Site) -> None:
    site.connect()
    assert site.run("remove", IDP, typed="n\n").exit_code == 1
    assert site.run("remove", IDP, "--yes").exit_code == 0
    assert f"{IDP}  no connector" in site.run("list").output
    assert site.run("remove", IDP, "--yes").exit_code == 1


def test_a_provider_that_ends_no_single_token_says_so(site: Site) -> None:
    site.connect()
    done = site.run("revoke-token", IDP, "--file", "-", "--reason", "found in a log", typed="secret-token-1")
    assert done.exit_code == 1 and "cannot end single tokens" in done.output
    assert "secret-token-1" not in done.output
