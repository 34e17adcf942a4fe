"""``watchfloor rules``: list, test, new; what is wrong is told with file and place."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from detection.test_kql_rules import BLOCKED
from watchfloor.cli import main


def _rules(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["rules", *map(str, arguments)])


def test_rules_of_every_kind_are_listed() -> None:
    lines = _rules("list").output.splitlines()
    assert any(line.startswith("maker-credential-write") and "near-real-time" in line for line in lines)
    assert {line.split()[1] for line in lines} == {"steps", "session", "near-real-time", "scheduled"}


def test_a_new_rule_passes_its_tests_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "my-rule.yaml"
    assert _rules("new", path).exit_code == 0
    assert _rules("test", path).output == "1 rules, 2 cases, 0 failed\n"
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
