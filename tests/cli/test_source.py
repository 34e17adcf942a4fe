"""``watchfloor source`` and ``watchfloor sighting`` against the real API over a real port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portal.house import NOON, House, open_house
from registry.toolserver import serving
from watchfloor.cli import main
from watchfloor.model.people import Role
from watchfloor.registry.sightings import watch_sightings


class Site:
    """A server, and somebody at a shell."""

    def __init__(self, house: House, url: str, directory: Path) -> None:
        self.house, self.url, self.directory = house, url, directory

    def run(self, *arguments: str, role: Role = Role.IT_ADMIN, typed: str = "", command: str = "source") -> Result:
        path = self.directory / f"{role.value}.token"
        path.write_text(self.house.token(role) + "\n")
        options = ["--server", self.url, "--token-file", str(path)]
        return CliRunner().invoke(main, [command, *arguments, *options], input=typed)

    def ids(self) -> list[str]:
        return [s["id"] for s in self.house.client().get("/api/sources").json()["items"]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "house").mkdir()
    with open_house(tmp_path / "house") as house, serving(house.app) as url:
        yield Site(house, url, tmp_path)


def test_the_token_of_a_new_source_is_alone_on_standard_output(site: Site) -> None:
    result = site.run("create", "crm", "--agent", "billing", "--agent", "hr", "--events-per-second", "50")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().startswith("wfsrc_") and result.stdout.count("\n") == 1
    assert "shown once" in result.stderr
    listed = site.run("list")
    assert listed.stdout == "crm  50 events/s  for billing, hr\n"
    assert result.stdout.strip() not in listed.stdout


def test_a_new_token_is_another_one(site: Site) -> None:
    first = site.run("create", "crm", "--agent", "*", "--json")
    second = site.run("token", "crm")
    assert json.loads(first.stdout)["token"] != second.stdout.strip()
    assert json.loads(site.run("list", "--json").stdout)[0]["agents"] == ["*"]


def test_deleting_asks_first(site: Site) -> None:
    site.run("create", "crm", "--agent", "*")
    assert site.run("delete", "crm", typed="n\n").exit_code == 1
    assert site.ids() == ["crm"]
    assert site.run("delete", "crm", typed="y\n").exit_code == 0
    assert site.ids() == []
    missing = site.run("delete", "crm", "--yes")
    assert (missing.exit_code, "there is no telemetry source 'crm'" in missing.output) == (1, True)


def test_what_the_server_refuses_is_said_with_place_and_remedy(site: Site) -> None:
    wrong = site.run("create", "CRM", "--agent", "*")
    assert (wrong.exit_code, "id: 'CRM' cannot be the id of a source. Use 1 to 64" in wrong.output) == (1, True)
    denied = site.run("create", "crm", "--agent", "*", role=Role.SOC_ANALYST)
    assert (denied.exit_code, "source.write" in denied.output) == (1, True)
    assert site.run("create", "crm").exit_code == 2
    assert site.ids() == []


def test_a_server_that_is_not_there_and_a_token_that_is_not_there_are_said(site: Site, tmp_path: Path) -> None:
    nobody = CliRunner().invoke(main, ["source", "list", "--server", "http://127.0.0.1:9", "--data", str(tmp_path)])
    assert (nobody.exit_code, "--token-file: cannot read" in nobody.output) == (1, True)
    site.url = "http://127.0.0.1:9"
    silent = site.run("list")
    assert (silent.exit_code, "Is it up?" in silent.output) == (1, True)
    site.url = "http://watchfloor.example"
    plain = site.run("list")
    assert (plain.exit_code, "A token is sent there." in plain.output) == (1, True)


def test_who_is_at_work_and_not_registered_is_listed_with_the_reason(site: Site) -> None:
    columns = {"Timestamp": NOON, "TenantId": "default", "ReportId": "evt_1", "ActionType": "InferenceCall"}
    site.house.stores.write("AgentActivity", [columns | {"AgentId": "ro\x1b[2Jgue", "AgentName": "Rogue"}])
    watch_sightings(site.house.stores.control, site.house.stores.activity)
    listed = site.run("list", command="sighting")
    assert listed.exit_code == 0, listed.output
    assert listed.output.startswith("shadow  agent  ro")
    assert "No registered agent has the id" in listed.output
    assert "\x1b" not in listed.output
    assert site.run("list", "--kind", "server", command="sighting").output == ""
    assert json.loads(site.run("list", "--json", command="sighting").output)[0]["events"] == 1
