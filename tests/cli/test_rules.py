"""``watchfloor rules``: list, test, new; what is wrong is told with file and place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from detection.test_kql_rules import BLOCKED
from portal.house import House, open_house
from registry.toolserver import serving
from watchfloor.cli import main
from watchfloor.model.people import Role


def _rules(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["rules", *map(str, arguments)])


def test_rules_of_every_kind_are_listed() -> None:
    lines = _rules("list", "--shipped").output.splitlines()
    assert any(line.startswith("maker-credential-write") and "near-real-time" in line for line in lines)
    assert {line.split()[1] for line in lines} == {"steps", "session", "near-real-time", "scheduled"}


class Site:
    """A server, and a security administrator at a shell."""

    def __init__(self, house: House, url: str, directory: Path) -> None:
        token = directory / "token"
        token.write_text(house.token(Role.SECURITY_ADMIN))
        self._options = ["--server", url, "--token-file", str(token)]

    def rules(self, *arguments: str) -> Result:
        return _rules(*arguments, *self._options)

    def state(self, rule_id: str) -> str:
        """What stands behind the rule in the list."""
        (line,) = [line for line in self.rules("list").output.splitlines() if line.startswith(f"{rule_id} ")]
        return line.partition("Execution")[2].strip()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "house").mkdir()
    with open_house(tmp_path / "house") as house, serving(house.app) as url:
        yield Site(house, url, tmp_path)


@pytest.mark.claim("rules-switched")
def test_any_rule_is_switched_off_and_on_and_listed_with_its_state(site: Site) -> None:
    for rule_id in ("suspicious-agent-execution", "anomalous-tool-invocation"):
        assert site.state(rule_id) == "on"
        off = site.rules("disable", rule_id, "--reason", "too \x1bloud")
        assert (off.exit_code, off.output) == (0, f"{rule_id} is off\n")
        assert site.state(rule_id) == "off: too  loud"
        assert site.rules("enable", rule_id).output == f"{rule_id} is on\n"
        assert site.state(rule_id) == "on"
    assert len(json.loads(site.rules("list", "--json").output)) == len(_rules("list", "--shipped").output.splitlines())


def test_switching_needs_a_reason_and_a_rule_that_exists(site: Site) -> None:
    assert site.rules("disable", "jailbreak-attempt").exit_code == 2
    assert site.rules("disable", "../policies", "--reason", "x").exit_code == 1
    missing = site.rules("enable", "nothing")
    assert (missing.exit_code, "there is no rule 'nothing'" in missing.output) == (1, True)


def test_a_rule_without_tests_is_told_what_it_needs(tmp_path: Path) -> None:
    head = BLOCKED[: BLOCKED.index("tests:")]
    (tmp_path / "a.yaml").write_text(head + "tests: []\n")
    (tmp_path / "b.yaml").write_text(head)
    found = _rules("test", str(tmp_path)).output
    for name in ("a", "b"):
        assert f"{name}.yaml: tests: needs at least one row that must match and one that must not\n" in found


def test_a_new_rule_passes_its_tests_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "my-rule.yaml"
    assert _rules("new", path).exit_code == 0
    assert _rules("test", path).output == "1 rule, 2 cases, 0 failed\n"
    again = _rules("new", path)
    assert again.exit_code == 1 and "exists" in again.output
    assert "cannot be the id" in _rules("new", tmp_path / "My Rule.yaml").output


def test_faults_and_failed_cases_are_told_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BLOCKED.replace('Verdict == "block"', "Verdit == 1"))
    (tmp_path / "b.yaml").write_text(BLOCKED.replace("{count: 1}", "{count: 2, severity: high}"))
    (tmp_path / "c.yaml").write_text("id: [")
    found = _rules("test", tmp_path)
    assert found.exit_code == 1
    assert "a.yaml: query: line 2, column 45" in found.output
    assert "b.yaml: tests: blocked: alert 1: count: expected 2, found 1" in found.output
    assert "b.yaml: tests: blocked: alert 1: severity: expected 'high', found 'medium'" in found.output
    assert "c.yaml:" in found.output
    assert "3 rules, 2 cases, 4 failed" in found.output or "3 failed" in found.output
