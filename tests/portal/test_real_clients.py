"""msticpy and kq, unmodified, over a real socket; each is set up by its recipe in docs/kql.md, word for word.

They are programs of their own in an environment of their own (`make clients`), with an empty home and nothing of the
environment of the tests. What is checked is what they hand to their user.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from portal.house import ALL_TYPES, ORIGIN, House
from watchfloor.model.people import Role

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".venv-clients"

CALLS = "AgentActivity | summarize Calls = count(), Last = max(Timestamp) by ToolName | order by ToolName asc"
NO_ROWS = "AgentActivity | where false | project Timestamp, ToolName"
WRONG = "AgentActivity | where ToolNam == 'x'"
WHAT_IS_WRONG = "line 1, column 23: There is no column or value ToolNam here. Did you mean ToolName?"

# What a notebook would go on with after a recipe of msticpy: `hunting` is connected, `frame` its first answer.
NOTEBOOK = """
import json, sys

def held(frame):
    rows = [[str(cell) for cell in row] for row in frame.itertuples(index=False)]
    return {"types": {name: str(kind) for name, kind in frame.dtypes.items()}, "rows": rows}

def answer(query):
    try:
        return held(hunting.exec_query(query))
    except Exception as error:
        return {"raised": type(error).__name__, "says": [str(part) for part in error.args]}

found = {"first": held(frame)} | {name: answer(query) for name, query in json.load(sys.stdin).items()}
"""
CATALOGUE = "found |= {'databases': hunting.get_database_names(), 'schema': hunting.get_database_schema()}\n"
SAY = "print(json.dumps(found))\n"
QUERIES = {"calls": CALLS, "types": f"{ALL_TYPES}, w=1d + 2h + 3s", "no rows": NO_ROWS, "wrong": WRONG}

Run = Callable[..., subprocess.CompletedProcess[str]]


def _recipes(heading: str, language: str, address: str) -> list[str]:
    """The blocks of ``language`` in a section of the document, for a server at ``address``."""
    text = (ROOT / "docs" / "kql.md").read_text("utf-8")
    [section] = re.findall(rf"^### {heading}\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE)
    blocks = re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert blocks and all(ORIGIN in block for block in blocks)
    return [block.replace(ORIGIN, address) for block in blocks]


def _run(home: Path, token: str, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """A command in a shell of somebody with this home and this token."""
    path = os.pathsep.join((str(home / "kq-sign-in"), str(CLIENTS / "bin"), os.defpath))
    env = {"HOME": str(home), "LANG": "C.UTF-8", "PATH": path, "TOKEN": token}
    return subprocess.run(
        command, env=env, cwd=home, input=text, capture_output=True, encoding="utf-8", timeout=120, check=False
    )


def _msticpy(run: Run, recipe: str, more: str = "") -> subprocess.CompletedProcess[str]:
    script = "\n".join(("import os", "token = os.environ['TOKEN']", recipe, NOTEBOOK, more, SAY))
    return run("python", "-c", script, text=json.dumps(QUERIES))


def _cells(answer: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Type and value by column of an answer with one row."""
    [row] = answer["rows"]
    return {name: (type_, cell) for (name, type_), cell in zip(answer["types"].items(), row, strict=True)}


def _said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "log": done.stderr}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of somebody who has the clients installed."""
    if not (CLIENTS / ".complete").exists():
        if os.environ.get("CI"):
            pytest.fail("msticpy and kq are not installed: make clients")
        pytest.skip("make clients")
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(home: Path, attacked: House) -> Run:
    """Runs a command with the token of an analyst."""
    return partial(_run, home, attacked.token(Role.SOC_ANALYST))


# -- msticpy ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_kusto(run: Run, address: str) -> dict[str, Any]:
    """What msticpy's Kusto driver answers; one process, as it takes seconds to start."""
    recipe, _ = _recipes("msticpy", "python", address)
    return _said(_msticpy(run, recipe, CATALOGUE))


@pytest.fixture(scope="module")
def by_graph(run: Run, address: str) -> dict[str, Any]:
    """The same of its Graph driver."""
    _, recipe = _recipes("msticpy", "python", address)
    return _said(_msticpy(run, recipe))


def test_msticpy_reads_rows_through_its_kusto_driver(by_kusto: dict[str, Any]) -> None:
    assert {"Timestamp", "ToolName", "Verdict"} <= by_kusto["first"]["types"].keys()
    assert len(by_kusto["first"]["rows"]) == 5
    assert by_kusto["calls"] == {
        "types": {"ToolName": "object", "Calls": "Int64", "Last": "datetime64[ns, UTC]"},
        "rows": [["lookup", "4", "2026-11-03 12:08:00+00:00"], ["send_email", "6", "2026-11-03 12:10:40+00:00"]],
    }


def test_msticpy_reads_every_type_through_its_kusto_driver(by_kusto: dict[str, Any]) -> None:
    cells = _cells(by_kusto["types"])
    assert cells.pop("e")[0] == "timedelta64[ns]"  # azure-kusto-data 6.0.4 reads -1.02:00:03 as -(1d) + 2h + 3s here
    assert cells == {
        "b": ("bool", "True"),
        "i": ("Int32", "7"),
        "l": ("Int64", "9007199254740993"),
        "r": ("Float64", "1.5"),
        "m": ("Float64", "12.34"),
        "s": ("object", 'ü"x'),
        "t": ("datetime64[ns, UTC]", "2026-01-02 03:04:05.500000+00:00"),
        "g": ("object", "74be27de-1e4e-49d9-b579-fe0b331d3642"),
        "d": ("object", '{"a":[1,"x"]}'),
        "nothing": ("Int64", "<NA>"),
        "w": ("timedelta64[ns]", "1 days 02:00:03"),
    }


def test_msticpy_keeps_columns_without_rows_through_its_kusto_driver(by_kusto: dict[str, Any]) -> None:
    assert by_kusto["no rows"] == {"types": {"Timestamp": "datetime64[ns, UTC]", "ToolName": "object"}, "rows": []}


def test_msticpy_says_what_is_wrong_with_a_query_through_its_kusto_driver(by_kusto: dict[str, Any]) -> None:
    assert by_kusto["wrong"]["raised"] == "MsticpyDataQueryError"
    assert by_kusto["wrong"]["says"][1:3] == [WHAT_IS_WRONG, "error code: BadRequest"]


def test_msticpy_lists_databases_and_columns_through_its_kusto_driver(by_kusto: dict[str, Any]) -> None:
    assert by_kusto["databases"] == ["watchfloor"]
    columns = by_kusto["schema"]["AgentActivity"]
    assert (columns["Timestamp"], columns["ToolName"], columns["Facts"]) == ("DateTime", "String", "Object")
    assert "AgentContent" not in by_kusto["schema"]


def test_msticpy_reads_rows_through_its_graph_driver(by_graph: dict[str, Any]) -> None:
    assert len(by_graph["first"]["rows"]) == 5
    assert by_graph["calls"] == {
        "types": {"ToolName": "object", "Calls": "int64", "Last": "datetime64[ns, UTC]"},
        "rows": [["lookup", "4", "2026-11-03 12:08:00+00:00"], ["send_email", "6", "2026-11-03 12:10:40+00:00"]],
    }


def test_msticpy_reads_every_type_through_its_graph_driver(by_graph: dict[str, Any]) -> None:
    assert _cells(by_graph["types"]) == {
        "b": ("bool", "True"),
        "i": ("int64", "7"),
        "l": ("int64", "9007199254740993"),
        "r": ("float64", "1.5"),
        "m": ("object", "12.34"),
        "s": ("object", 'ü"x'),
        "t": ("datetime64[ns, UTC]", "2026-01-02 03:04:05.500000+00:00"),
        "e": ("object", "-1.02:00:03"),
        "g": ("object", "74be27de-1e4e-49d9-b579-fe0b331d3642"),
        "d.a": ("object", "[1, 'x']"),  # it spreads objects over columns
        "nothing": ("object", "None"),
        "w": ("object", "1.02:00:03"),
    }


def test_msticpy_logs_what_is_wrong_with_a_query_through_its_graph_driver(by_graph: dict[str, Any]) -> None:
    assert by_graph["wrong"]["raised"] == "HTTPStatusError"
    assert f"Response error: {WHAT_IS_WRONG}" in by_graph["log"]  # its error says no more than 400


def test_msticpy_with_a_wrong_token_is_refused(home: Path, address: str) -> None:
    for recipe, says in zip(
        _recipes("msticpy", "python", address),
        ("401. Missing adequate access rights.", "Authentication failed - possible timeout. Please re-connect."),
        strict=True,
    ):
        done = _msticpy(partial(_run, home, "wft_wrong"), recipe)
        assert (done.returncode, done.stdout) == (1, "")
        assert says in done.stderr.splitlines()[-1]


# -- kq ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def set_up(run: Run, address: str) -> subprocess.CompletedProcess[str]:
    """kq's recipe, run; after it, ``kq`` knows where to ask and who asks."""
    [recipe] = _recipes("kq", "sh", address)
    return run("sh", "-eu", "-c", recipe)


@pytest.fixture
def kq(run: Run, set_up: subprocess.CompletedProcess[str]) -> Run:
    """The command ``kq``."""
    assert set_up.returncode == 0, set_up.stderr
    return partial(run, "kq")


def test_kq_reads_rows_after_its_recipe(set_up: subprocess.CompletedProcess[str]) -> None:
    assert set_up.returncode == 0, set_up.stderr
    answer = set_up.stdout[set_up.stdout.index("[") :]
    assert json.loads(answer) == [{"ToolName": "lookup", "Calls": 4}, {"ToolName": "send_email", "Calls": 6}]


def test_kq_reads_every_type(kq: Run) -> None:
    done = kq("query", "-f", "json", ALL_TYPES)
    assert json.loads(done.stdout) == [
        {
            "b": True,
            "i": 7,
            "l": 9007199254740993,
            "r": 1.5,
            "m": "12.34",
            "s": 'ü"x',
            "t": "2026-01-02T03:04:05.500000+00:00",
            "e": "-2 days, 21:59:57",
            "g": "74be27de-1e4e-49d9-b579-fe0b331d3642",
            "d": '{"a":[1,"x"]}',
            "nothing": None,
        }
    ]


def test_kq_writes_tables_and_csv(kq: Run) -> None:
    header, _, *rows = kq(CALLS).stdout.splitlines()
    assert header == "ToolName | Calls | Last"
    assert rows == ["lookup | 4 | 2026-11-03 12:08:00+00:00", "send_email | 6 | 2026-11-03 12:10:40+00:00"]
    assert list(csv.reader(kq("query", "-f", "csv", CALLS).stdout.splitlines())) == [
        ["ToolName", "Calls", "Last"],
        ["lookup", "4", "2026-11-03 12:08:00+00:00"],
        ["send_email", "6", "2026-11-03 12:10:40+00:00"],
    ]


def test_kq_runs_the_queries_that_it_brings(kq: Run) -> None:
    def rows(*query: str) -> Any:
        return json.loads(kq("run", *query, "-f", "json").stdout)

    tables = {row["TableName"] for row in rows("examples.tables")}
    assert "AgentActivity" in tables and "AgentContent" not in tables
    columns = {row["ColumnName"]: row["ColumnType"] for row in rows("examples.schema", "AgentActivity")}
    assert (columns["Timestamp"], columns["Facts"]) == ("datetime", "dynamic")
    assert rows("examples.columns", "AgentActivity", "ToolName") == [{"ToolName": "lookup"}, {"ToolName": "send_email"}]
    assert rows("examples.count", "AgentActivity") == [{"Count": 10}]


def test_kq_says_what_is_wrong_with_a_query(kq: Run) -> None:
    done = kq("query", WRONG)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {WHAT_IS_WRONG}\n")


@pytest.mark.usefixtures("set_up")
def test_kq_with_a_wrong_token_is_refused(home: Path) -> None:
    done = _run(home, "wft_wrong", "kq", "query", "print 1")
    assert (done.returncode, done.stderr) == (1, "Error: 401. Missing adequate access rights.\n")
