"""``watchfloor policy`` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from watchfloor.cli import main

GOOD = """\
id: no-deletes
title: No deletes
effect: block
scope: {effects: [delete]}
when: 'args.table != "scratch"'
message: "{args.table}"
tests:
  - {name: a table, given: {args: {table: customers}}, expect: block}
  - {name: the scratch table, given: {args: {table: scratch}}, expect: allow}
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, "utf-8")
    return path


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["policy", *map(str, arguments)])


def test_shipped_policies_pass_their_check_and_their_tests() -> None:
    assert _run("check").exit_code == 0
    result = _run("test")
    assert (result.exit_code, result.output.splitlines()[-1].split(", ")[-1]) == (0, "0 failed")


def test_good_policy_is_called_fine_and_its_rows_are_counted(good: Path) -> None:
    assert f"{good}: no-deletes: fine" in _run("check", good).output
    result = _run("test", good)
    assert (result.exit_code, result.output) == (0, "1 policies, 2 rows, 0 failed\n")


def test_every_problem_is_printed_with_file_policy_and_place(good: Path) -> None:
    bad = good.with_name("bad.yaml")
    bad.write_text(GOOD.replace("args.table !=", "agent.nme !=").replace("block\n", "blok\n", 1), "utf-8")
    result = _run("check", good, bad)
    assert result.exit_code == 1
    assert f"{bad}: no-deletes: effect: `blok` is not known here. Did you mean `block`?" in result.output
    assert f"{bad}: no-deletes: when: line 1, column 6: `agent.nme` is not a name" in result.output
    assert f"{good}: no-deletes: fine" in result.output


def test_row_that_comes_out_otherwise_fails_and_is_explained(good: Path) -> None:
    good.write_text(GOOD.replace("expect: allow", "expect: hold"), "utf-8")
    result = _run("test", good)
    assert result.exit_code == 1
    assert "no-deletes: the scratch table" in result.output
    assert "expected hold, got allow (no reason)" in result.output


def test_policy_without_rows_fails_its_test(good: Path) -> None:
    good.write_text(GOOD.partition("tests:")[0], "utf-8")
    result = _run("test", good)
    assert result.exit_code == 1
    assert "has no tests" in result.output


def test_lists_directories_and_manifests_are_read(good: Path) -> None:
    listed = "".join(f"  {line}\n" for line in GOOD.splitlines())
    good.with_name("manifest.yaml").write_text(f"kind: Company\npolicies:\n- {listed[2:]}", "utf-8")
    assert _run("test", good.parent).output == "2 policies, 4 rows, 0 failed\n"


def test_what_is_not_yaml_or_holds_no_policy_is_said_in_one_line(good: Path) -> None:
    good.write_text("a: [", "utf-8")
    assert "is not YAML" in _run("check", good).output
    good.write_text("", "utf-8")
    assert _run("check", good).exit_code == 1
    empty = good.parent / "empty"
    empty.mkdir()
    assert "there are no policies" in _run("check", empty).output


def test_names_are_listed_with_type_and_values() -> None:
    output = _run("names").output
    assert "destinations.external_recipients" in output
    assert "none, low, medium, high" in output
    assert "domain()" in output
