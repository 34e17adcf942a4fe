"""``watchfloor apply`` against the real API over a real port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from identity.world import SECRET, company
from portal.house import House, open_house
from registry.toolserver import serving
from watchfloor.cli import main
from watchfloor.model.people import Role


@dataclass
class Site:
    """A server, and an administrator's data directory."""

    house: House
    url: str
    directory: Path

    def token_file(self, role: Role = Role.OWNER) -> Path:
        path = self.directory / f"{role.value}.token"
        path.write_text(self.house.token(role) + "\n")
        return path

    def apply(
        self, *options: str, role: Role = Role.OWNER, typed: str = "", env: dict[str, str] | None = None
    ) -> Result:
        arguments = ["apply", "-f", str(self.directory / "company.yaml"), "--server", self.url]
        arguments += ["--token-file", str(self.token_file(role)), *options]
        return CliRunner().invoke(main, arguments, input=typed, env=env)

    def write(self, declared: dict[str, Any]) -> None:
        (self.directory / "company.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))

    def agents(self) -> list[str]:
        return [a["id"] for a in self.house.client().get("/api/agents").json()["items"]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_house(tmp_path / "house", empty=True) as house, serving(house.app) as url:
        made = Site(house, url, tmp_path)
        made.write(company())
        yield made


def test_a_plan_is_shown_asked_about_and_applied(site: Site) -> None:
    result = site.apply(typed="y\n")
    assert result.exit_code == 0, result.output
    assert "+ agent customer-billing" in result.output
    assert "18 to create, 0 to change, 0 to delete" in result.output
    assert "Apply these changes? [y/N]" in result.output
    assert "fingerprint " in result.output and SECRET not in result.output
    assert site.agents() == ["customer-billing"]


def test_saying_no_changes_nothing(site: Site) -> None:
    result = site.apply(typed="n\n")
    assert result.exit_code == 1
    assert site.agents() == []


def test_applying_again_says_that_there_is_nothing_to_do(site: Site) -> None:
    assert site.apply("--yes").exit_code == 0
    result = site.apply()
    assert (result.exit_code, "Nothing to do" in result.output) == (0, True)


def test_changes_are_shown_field_by_field(site: Site) -> None:
    site.apply("--yes")
    declared = company()
    declared["agents"][0]["description"] = "Now with a description.\nAnd \x1b[31mcolour\x1b[0m."
    declared["agents"][0]["tools"].pop(0)
    site.write(declared)
    result = site.apply("--yes")
    assert result.exit_code == 0, result.output
    assert "~ agent customer-billing" in result.output
    assert "- binding customer-billing/mail/send_email" in result.output
    assert "Now with a description. And" in result.output
    assert "\x1b" not in result.output


def test_json_is_for_scripts(site: Site) -> None:
    result = site.apply("--json")
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.output)
    assert outcome["applied"] is True and outcome["summary"]["create"] == 18
    again = json.loads(site.apply("--json").output)
    assert again["changes"] == []


def test_secrets_come_from_variables_and_files_beside_the_manifest(site: Site) -> None:
    declared = company()
    declared["toolServers"][0]["credential"] = {"env": "MAIL_TOKEN"}
    declared["agents"][0]["secret"] = {"file": "secrets/billing"}
    site.write(declared)
    missing = site.apply("--yes")
    assert missing.exit_code == 1
    assert "toolServers[0].credential (line" in missing.output and "MAIL_TOKEN" in missing.output
    assert "agents[0].secret (line" in missing.output
    (site.directory / "secrets").mkdir()
    (site.directory / "secrets" / "billing").write_text(SECRET + "\n")
    done = site.apply("--yes", env={"MAIL_TOKEN": "mail-app-credential"})
    assert done.exit_code == 0, done.output
    # The same secrets from elsewhere are the same secrets.
    site.write(company())
    assert "Nothing to do" in site.apply().output


def test_every_mistake_is_printed_with_its_line(site: Site) -> None:
    declared = company()
    declared["agents"][0]["maker"] = "adda"
    declared["agents"][0]["tools"][0]["server"] = "mial"
    site.write(declared)
    result = site.apply("--yes")
    assert result.exit_code == 1
    assert "agents[0].maker (line" in result.output and "Did you mean 'ada'?" in result.output
    assert "agents[0].tools[0].server (line" in result.output and "Did you mean 'mail'?" in result.output
    assert site.agents() == []


def test_who_may_not_apply_is_told_what_it_takes(site: Site) -> None:
    result = site.apply("--yes", role=Role.SOC_ANALYST)
    assert result.exit_code == 1
    assert "registry.write" in result.output


def test_a_wrong_token_a_missing_file_and_a_server_that_is_down_say_so(site: Site, tmp_path: Path) -> None:
    (tmp_path / "bad.token").write_text("wft_wrong")
    arguments = ["apply", "-f", str(tmp_path / "company.yaml"), "--server", site.url, "--yes"]
    wrong = CliRunner().invoke(main, [*arguments, "--token-file", str(tmp_path / "bad.token")])
    assert wrong.exit_code == 1 and "Sign in" in wrong.output
    missing = CliRunner().invoke(main, [*arguments, "--token-file", str(tmp_path / "none")])
    assert missing.exit_code == 1 and "--token-file" in missing.output
    arguments[4] = "http://127.0.0.1:9"
    down = CliRunner().invoke(main, [*arguments, "--token-file", str(site.token_file())])
    assert down.exit_code == 1 and "Is it up?" in down.output


def test_a_token_is_not_sent_in_clear_to_another_machine(site: Site) -> None:
    result = CliRunner().invoke(
        main,
        ["apply", "-f", str(site.directory / "company.yaml"), "--server", "http://watchfloor.example", "--yes",
         "--token-file", str(site.token_file())],
    )  # fmt: skip
    assert result.exit_code == 1
    assert "https://" in result.output


def test_the_server_of_a_data_directory_and_its_token_are_found(site: Site, tmp_path: Path) -> None:
    run = tmp_path / "data" / "run"
    run.mkdir(parents=True)
    (run / "up.json").write_text(json.dumps({"server": site.url}))
    (run / "admin.token").write_text(site.house.token(Role.OWNER))
    arguments = ["apply", "-f", "-", "--data", str(tmp_path / "data"), "--json"]
    result = CliRunner().invoke(main, arguments, input=yaml.safe_dump(company()))
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["applied"] is True
