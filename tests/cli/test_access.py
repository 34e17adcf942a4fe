"""``watchfloor access``: list, apply, export, what-if, asked of a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from guard.access.bodies import BLOCK, body
from portal.house import House, open_house
from registry.toolserver import serving
from watchfloor.cli import main
from watchfloor.model.people import Role

ENTRA = Path(__file__).parent.parent / "guard" / "access" / "entra.json"


class Site:
    """A server, and an administrator of conditional access at a shell."""

    def __init__(self, house: House, url: str, directory: Path) -> None:
        self.house, self.directory = house, directory
        token = directory / "token"
        token.write_text(house.token(Role.ACCESS_ADMIN))
        self._options = ["--server", url, "--token-file", str(token)]

    def access(self, command: str, *arguments: str | Path) -> Result:
        return CliRunner().invoke(main, ["access", command, *map(str, arguments), *self._options])

    def file(self, *bodies: object) -> Path:
        path = self.directory / "policies.yaml"
        path.write_text(yaml.safe_dump(list(bodies)))
        return path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "house").mkdir()
    with open_house(tmp_path / "house") as house, serving(house.app) as url:
        yield Site(house, url, tmp_path)


@pytest.mark.claim("access-cli")
def test_policies_are_applied_listed_and_exported(site: Site) -> None:
    path = site.file(body(conditions={"users": {"include": ["griffin"]}}, displayName="P \x1b1"))
    assert site.access("apply", path, "--dry-run").output == "p1: fine\n"
    assert site.access("list").output == ""
    assert site.access("apply", path).output == "p1: version 1, enabled\n"
    assert site.access("list").output.split() == ["p1", "1", "enabled", "P", "1"]
    out = site.directory / "entra-out.json"
    assert site.access("export", "--output", out).exit_code == 0
    (written,) = json.loads(out.read_text())["value"]
    assert written["conditions"]["users"]["includeUsers"] == ["griffin"]


@pytest.mark.claim("access-cli")
def test_an_export_of_entra_is_applied_as_far_as_it_can_be_enforced(site: Site) -> None:
    said = site.access("apply", ENTRA)
    assert said.exit_code == 0, said.output
    assert "cannot be enforced here: conditions.platforms" in said.output
    assert "here it only reports" in said.output
    assert len(site.access("list").output.splitlines()) == 3
    assert site.access("what-if", ENTRA).exit_code == 1


@pytest.mark.claim("access-cli")
def test_what_if_prints_whom_it_would_have_hit(site: Site) -> None:
    site.house.call("mail", "lookup", {"key": "1"})
    site.house.clock.forward(minutes=1)
    path = site.file(body(conditions={"users": {"include": ["griffin"]}}, grantControls=BLOCK))
    said = site.access("what-if", path, "--days", "7")
    assert said.exit_code == 0, said.output
    assert "griffin@zava.example  billing -> mail/lookup" in said.output
    assert "p1: 1 calls of 1 users and 1 agents" in said.output


@pytest.mark.claim("access-cli")
def test_what_if_of_one_sign_in_prints_every_policy_and_why(site: Site) -> None:
    path = site.file(body(conditions={"users": {"include": ["griffin"]}}))
    said = site.access("what-if", path, "--agent", "billing", "--user", "griffin", "--at", "mail/send_email")
    assert said.output.splitlines()[0] == "mfa (mfa_required)"
    assert "user: griffin" in said.output
    other = site.access("what-if", path, "--agent", "billing", "--user", "mona", "--at", "mail")
    assert (other.output.splitlines()[0], "does not apply" in other.output) == ("grant", True)
    assert site.access("what-if", path, "--user", "griffin").exit_code == 1


def test_what_would_lock_everybody_out_is_refused_and_confirmed(site: Site) -> None:
    path = site.file(body(grantControls=BLOCK))
    refused = site.access("apply", path)
    assert (refused.exit_code, "every user" in refused.output) == (1, True)
    assert "version 1, enabled" in site.access("apply", path, "--confirm").output


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "null"])
def test_a_file_that_holds_no_policies_is_refused_with_its_name(site: Site, text: str) -> None:
    path = site.directory / "odd.yaml"
    path.write_text(text)
    said = site.access("apply", path)
    assert (said.exit_code, "odd.yaml" in said.output) == (1, True)
