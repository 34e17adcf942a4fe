"""``watchfloor response`` and ``watchfloor playbook`` against the real API over a real port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from portal.house import House, open_house
from registry.toolserver import serving
from watchfloor.cli import main
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.response.outbox import Outbox
from watchfloor.response.ports import Ports

OWN = """\
id: end-sessions
title: End sessions
when: {severity: [critical]}
about: user
do: [{action: revoke_user_sessions}]
tests:
  - {name: one, incident: {severity: critical}, subjects: [{kind: user, id: a}], expect: [a]}
  - {name: none, incident: {severity: low}, subjects: [{kind: user, id: a}], expect: []}
"""


class Site:
    """A server, and somebody at a shell."""

    def __init__(self, house: House, url: str, directory: Path) -> None:
        self.house, self.url, self.directory = house, url, directory

    def run(self, *arguments: str, role: Role = Role.SOC_OPERATOR, by: str = "") -> Result:
        path = self.directory / f"{by or role.value}.token"
        path.write_text(self.house.token(role, by) + "\n")
        return CliRunner().invoke(main, [*arguments, "--server", self.url, "--token-file", str(path)])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "house").mkdir()
    with open_house(tmp_path / "house") as house, serving(house.app) as url:
        yield Site(house, url, tmp_path)


def test_a_user_is_confirmed_followed_retried_and_dismissed(site: Site) -> None:
    confirmed = site.run("response", "confirm", "user", "griffin", "--reason", "stolen session")
    assert confirmed.exit_code == 0, confirmed.output
    response_id = confirmed.stdout.split()[0]
    assert "running" in confirmed.stdout and "user_epoch: 2" in confirmed.stdout
    Outbox(site.house.stores.control, Ports()).run()
    shown = site.run("response", "show", response_id).stdout
    assert "done" in shown and "skipped" in shown and "no connector is configured" in shown
    assert site.run("response", "list", "--subject", "griffin").stdout.startswith(f"{response_id}  done")
    retried = site.run("response", "retry", response_id, "provider_password")
    assert retried.exit_code == 0 and "pending" in retried.stdout, retried.output
    dismissed = site.run("response", "dismiss", "griffin", "--reason", "our own test")
    assert "User's risk lifted" in dismissed.stdout, dismissed.output
    found = json.loads(site.run("response", "show", response_id, "--json").stdout)
    assert found["outcome"] == "dismissed"


def test_what_a_guard_refuses_says_what_to_do_instead(site: Site) -> None:
    own = site.run("response", "confirm", "user", "griffin", "--reason", "x", by="griffin")
    assert own.exit_code == 1 and "Ask another operator" in own.stderr


def test_a_colleague_approves_or_declines(site: Site) -> None:
    site.house.token(Role.SOC_ANALYST, "griffin")  # an operator: of tier 0
    asked = site.run("response", "confirm", "user", "griffin", "--reason", "stolen")
    response_id = asked.stdout.split()[0]
    assert "needs a second operator: griffin is an operator" in asked.stdout
    assert site.run("response", "approve", response_id, "--reason", "x").exit_code == 1
    declined = site.run("response", "decline", response_id, "--reason", "no", by="colleague")
    assert "declined" in declined.stdout
    response_id = site.run("response", "confirm", "user", "griffin", "--reason", "stolen").stdout.split()[0]
    approved = site.run("response", "approve", response_id, "--reason", "yes", by="colleague")
    assert "user_epoch: 2" in approved.stdout, approved.output


def test_an_agent_and_a_tool_server_are_confirmed_and_released(site: Site) -> None:
    assert "blocked" in site.run("response", "confirm", "agent", "billing", "--reason", "x", "--revoke-children").stdout
    assert site.run("response", "release", "agent", "billing", "--reason", "y").stdout == "agent billing: published\n"
    role = Role.IT_ADMIN
    confirmed = site.run("response", "confirm", "server", "mail", "--reason", "x", role=Role.SECURITY_ADMIN)
    assert "tools_refused: lookup, send_email" in confirmed.stdout, confirmed.output
    released = site.run("response", "release", "server", "mail", "--reason", "y", role=role)
    assert released.stdout == "server mail: available\n"


def test_playbooks_are_listed_tested_tried_saved_switched_and_run(site: Site, tmp_path: Path) -> None:
    site.house.attack()
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    assert "confirm-compromised-user" in site.run("playbook", "list").stdout
    tested = CliRunner().invoke(main, ["playbook", "test", str(file)])
    assert tested.stdout == "1 playbooks, 2 rows, 0 failed\n", tested.output
    assert CliRunner().invoke(main, ["playbook", "test"]).exit_code == 0
    file.write_text(yaml.safe_dump({**yaml.safe_load(OWN), "when": {"severity": ["critical", "low"]}}))
    wrong = CliRunner().invoke(main, ["playbook", "test", str(file)])
    assert wrong.exit_code == 1 and "none: expected nobody, got a" in wrong.stdout
    tried = site.run("playbook", "run", str(file), "--dry-run").stdout
    assert "proposed     revoke_user_sessions: griffin" in tried
    assert site.house.projected(Kind.USER, "griffin")["epoch"] == 1  # type: ignore[index]  # there is one
    admin = Role.SECURITY_ADMIN
    assert site.run("playbook", "save", str(file), role=admin).stdout == "end-sessions: saved, approval required\n"
    switched = site.run("playbook", "switch", "end-sessions", "--off", "--reason", "later", role=admin)
    assert switched.stdout == "end-sessions: off, approval required\n", switched.output
    incident = tried.split()[0]
    assert site.run("playbook", "run", "confirm-compromised-user").exit_code == 1
    done = site.run("playbook", "run", "confirm-compromised-user", "--incident", incident, "--reason", "clear")
    assert "done         confirm_user_compromised: griffin" in done.stdout, done.output
    assert site.house.projected(Kind.USER, "griffin")["epoch"] == 2  # type: ignore[index]  # there is one
