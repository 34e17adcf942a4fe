"""``watchfloor kql`` from the command line: on a data directory, through its store process, through a server."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portal.house import House
from storage.contract_events import activities, eventually
from storage.test_store_process import running
from watchfloor.cli import main
from watchfloor.model.people import Role
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import LogBatch, Seq
from watchfloor.storage.tables import TABLES

COUNT = "AgentActivity | summarize n=count()"


def _kql(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["kql", *map(str, arguments)], input=text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory whose event store has two rows; no process has it open."""
    directory = tmp_path / "data"
    directory.mkdir()
    rows = [
        {"Timestamp": datetime(2026, 11, 3, 12, n, tzinfo=UTC), "TenantId": "default", "ReportId": f"r{n}",
         "AgentId": "billing", "ToolName": 'say "hi", you'}
        for n in range(2)
    ]  # fmt: skip
    store = DuckDbStore(directory / "events.duckdb", directory / "cold")
    store.write("AgentActivity", [LogBatch("0", Seq(1), "AgentActivity", TABLES["AgentActivity"].batch(rows))])
    store.close()
    return directory


# -- run --------------------------------------------------------------------------------------------------------------


def test_run_asks_the_store_of_a_data_directory(data: Path) -> None:
    result = _kql("run", "--data", data, COUNT)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["n", "2"]
    assert result.stderr.startswith("1 rows in ")


def test_run_prints_json_and_csv_that_can_be_read_back(data: Path) -> None:
    query = "AgentActivity | order by Timestamp asc | project Timestamp, ToolName, d=dynamic({'a':[1]}), n=long(null)"
    rows = json.loads(_kql("run", "--data", data, "--json", query).stdout)
    assert rows[0] == {
        "Timestamp": "2026-11-03T12:00:00.0000000Z",
        "ToolName": 'say "hi", you',
        "d": {"a": [1]},
        "n": None,
    }
    table = list(csv.reader(io.StringIO(_kql("run", "--data", data, "--csv", query).stdout)))
    assert table == [
        ["Timestamp", "ToolName", "d", "n"],
        ["2026-11-03T12:00:00.0000000Z", 'say "hi", you', '{"a": [1]}', ""],
        ["2026-11-03T12:01:00.0000000Z", 'say "hi", you', '{"a": [1]}', ""],
    ]


def test_run_reads_the_query_from_a_file_or_standard_input(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.kql"
    path.write_text(COUNT, "utf-8")
    assert _kql("run", "--data", data, "-f", path).stdout.split() == ["n", "2"]
    assert _kql("run", "--data", data, "-", text=COUNT).stdout.split() == ["n", "2"]
    assert _kql("run", "--data", data).exit_code == 2
    assert _kql("run", "--data", data, "-f", path, COUNT).exit_code == 2


def test_templates_are_listed_shown_and_run(data: Path) -> None:
    listed = _kql("templates", "--category", "Credentials", "--table", "AgentsInfo")
    assert listed.exit_code == 0, listed.output
    assert "agents-mcp-maker-credentials" in listed.stdout and "studio-" not in listed.stdout
    shown = _kql("templates", "agents-orphaned").stdout
    assert "Stands for: AI Agents - Orphaned" in shown and "| where Active == 0" in shown
    told = json.loads(_kql("templates", "--json", "--technique", "T1552").stdout)
    assert {"studio-hard-coded-secrets", "agents-mcp-maker-credentials"} <= {one["id"] for one in told}
    ran = _kql("run", "--data", data, "--csv", "--template", "agents-orphaned")
    assert ran.stdout.startswith("AgentId,AgentName,Why,"), ran.output
    for wrong in ("templates agents-orphan", "run --template agents-orphan", "templates --category X"):
        assert _kql(*wrong.split()).exit_code == 1
    assert "Did you mean agents-orphaned?" in _kql("templates", "agents-orphan").stderr
    assert _kql("run", "--data", data, "--template", "agents-orphaned", COUNT).exit_code == 2


def test_run_narrows_the_time(data: Path) -> None:
    assert _kql("run", "--data", data, "--timespan", "2026-11-03T12:01:00Z/P1D", COUNT).stdout.split() == ["n", "1"]
    refused = _kql("run", "--data", data, "--timespan", "soon", COUNT)
    assert (refused.exit_code, "--timespan" in refused.stderr) == (1, True)


def test_run_shows_the_sql_without_any_installation(tmp_path: Path) -> None:
    result = _kql("run", "--data", tmp_path / "none", "--sql", "AgentActivity | where AgentId == 'secret' | take 1")
    assert result.exit_code == 0
    assert result.stdout.lstrip().startswith(("SELECT", "WITH"))
    assert "secret" not in result.stdout.partition("\n-- ")[0]


def test_run_points_at_what_is_wrong(data: Path) -> None:
    result = _kql("run", "--data", data, "AgentActivity\n| where ToolNam == 'x'")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "| where ToolNam == 'x'",
        "        ^^^^^^^",
        "Error: line 2, column 9: There is no column or value ToolNam here. Did you mean ToolName?",
    ]


def test_run_says_when_there_is_nothing_to_ask(tmp_path: Path) -> None:
    result = _kql("run", "--data", tmp_path, COUNT)
    assert result.exit_code == 1
    assert "there is no event store in" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_run_stops_at_its_limits(data: Path) -> None:
    result = _kql("run", "--data", data, "--max-rows", "1", "AgentActivity")
    assert (result.exit_code, "more than 1 rows" in result.stderr) == (1, True)


def test_run_goes_through_the_store_process_that_has_the_directory(tmp_path: Path) -> None:
    with running(tmp_path / "data") as store:
        log = SqliteLog(store.data / "log.db")
        log.append("main", activities("a", "b", "c", at=datetime.now(UTC)), "k1")
        log.close()
        eventually(lambda: len(store.report_ids()) == 3)
        result = _kql("run", "--data", store.data, COUNT)
        assert result.stdout.split() == ["n", "3"], result.output
        wrong = _kql("run", "--data", store.data, "--max-rows", "1", "AgentActivity")
        assert (wrong.exit_code, "more than 1 rows" in wrong.stderr) == (1, True)


# -- run --server -----------------------------------------------------------------------------------------------------


@pytest.fixture
def token_file(attacked: House, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(attacked.token(Role.SOC_ANALYST) + "\n", "utf-8")
    return path


def test_run_asks_a_server_as_the_operator_of_a_token(address: str, token_file: Path) -> None:
    result = _kql("run", "--server", address, "--token-file", token_file, "--csv", COUNT)
    assert (result.exit_code, result.stdout.split()) == (0, ["n", "10"]), result.output
    hidden = _kql("run", "--server", address, "--token-file", token_file, "AgentContent")
    assert hidden.exit_code == 1
    assert hidden.stderr.startswith("AgentContent\n^\nError: line 1, column 1: There is no table AgentContent.")


def test_run_says_what_keeps_a_server_from_answering(address: str, token_file: Path, tmp_path: Path) -> None:
    nobody = _kql("run", "--server", "http://127.0.0.1:9", "--token-file", token_file, COUNT)
    assert (nobody.exit_code, "does not answer" in nobody.stderr) == (1, True)
    (tmp_path / "wrong").write_text("wft_wrong", "utf-8")
    wrong = _kql("run", "--server", address, "--token-file", tmp_path / "wrong", COUNT)
    assert (wrong.exit_code, "Sign in" in wrong.stderr) == (1, True)
    missing = _kql("run", "--server", address, "--data", tmp_path, COUNT)
    assert (missing.exit_code, "--token-file: cannot read" in missing.stderr) == (1, True)
    plain = _kql("run", "--server", "http://watchfloor.example", "--token-file", token_file, COUNT)
    assert (plain.exit_code, "A token is sent there." in plain.stderr) == (1, True)


# -- check ------------------------------------------------------------------------------------------------------------


def test_check_says_everything_that_is_wrong_with_every_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.kql", tmp_path / "bad.kql"
    good.write_text(COUNT, "utf-8")
    bad.write_text("AgentActivity\n| where Nope == 1\n| where Neither == 2", "utf-8")
    assert _kql("check", good).output == "1 queries, 0 with errors\n"
    result = _kql("check", good, bad)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{bad}:2:9: There is no column or value Nope here.",
        "    | where Nope == 1",
        "            ^^^^",
        f"{bad}:3:9: There is no column or value Neither here.",
        "    | where Neither == 2",
        "            ^^^^^^^",
        "2 queries, 1 with errors",
    ]


def test_check_says_which_file_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.kql"
    path.write_bytes(b"\xff\xfe")
    result = _kql("check", path)
    assert (result.exit_code, str(path) in result.stderr) == (1, True)
