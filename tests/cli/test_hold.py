"""``watchfloor hold`` against the real API over a real port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portal.house import House, open_house
from registry.toolserver import serving
from watchfloor.cli import main
from watchfloor.model.people import Role


class Site:
    """A server with a call that waits, and somebody at a shell."""

    def __init__(self, house: House, url: str, directory: Path) -> None:
        self.house, self.url, self.directory = house, url, directory
        self.hold = self.pay(25_000)

    def pay(self, amount: int) -> str:
        self.house.call("bank", "pay", {"amount": amount, "payee": "x"})
        self.house.work()
        found: str = self.house.client().get("/api/holds").json()["items"][0]["id"]
        return found

    def run(self, *arguments: str, role: Role = Role.SOC_OPERATOR) -> Result:
        path = self.directory / f"{role.value}.token"
        path.write_text(self.house.token(role) + "\n")
        options = ["--server", self.url, "--token-file", str(path)]
        return CliRunner().invoke(main, ["hold", *arguments, *options])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "house").mkdir()
    with open_house(tmp_path / "house") as house, serving(house.app) as url:
        yield Site(house, url, tmp_path)


def test_a_held_call_is_listed_shown_approved_and_taken_back(site: Site) -> None:
    listed = site.run("list", "--status", "pending").stdout
    assert listed.startswith(f"{site.hold}  pending until ") and "billing -> bank/pay for griffin" in listed
    shown = site.run("show", site.hold, "--content")
    assert '"amount": 25000' in shown.stdout, shown.output
    approved = site.run("approve", site.hold, "--reason", "called them")
    assert approved.stdout.startswith(f"{site.hold}: approved until "), approved.output
    assert "approved by op-soc-operator" in site.run("show", site.hold).stdout
    assert site.run("revoke", site.hold).stdout == f"{site.hold}: revoked\n"
    assert json.loads(site.run("list", "--json").stdout)[0]["status"] == "revoked"


def test_a_declined_call_cannot_be_approved_and_the_refusal_says_why(site: Site) -> None:
    assert site.run("decline", site.hold).stdout == f"{site.hold}: declined\n"
    again = site.run("approve", site.hold)
    assert again.exit_code == 1 and "declined by op-soc-operator" in again.stderr


def test_the_right_to_answer_is_lent_for_a_time(site: Site) -> None:
    assert site.run("approve", site.hold, role=Role.SOC_ANALYST).exit_code == 1
    lent = site.run("delegate", "--to", "op-soc-analyst", "--for", "8h", "--reason", "leave")
    assert "op-soc-analyst answers for op-soc-operator until " in lent.stdout, lent.output
    wrong = site.run("delegate", "--to-role", "auditor", "--for", "soon")
    assert wrong.exit_code == 1 and "8h" in wrong.stderr
