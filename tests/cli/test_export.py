"""``watchfloor export``: of a server, of a data directory; a file is there only when it is whole."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from portal.house import House
from storage.contract_events import START, activities, logged
from watchfloor.cli.export import export
from watchfloor.model.people import Role
from watchfloor.storage.events import DuckDbStore

pytestmark = pytest.mark.slow


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export, list(map(str, arguments)))


@pytest.fixture
def token_file(attacked: House, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(attacked.token(Role.SOC_ANALYST), "utf-8")
    return path


@pytest.mark.parametrize("form", ["parquet", "jsonl", "ocsf"])
def test_the_command_writes_what_a_server_exports(
    attacked: House, address: str, token_file: Path, tmp_path: Path, form: str
) -> None:
    output = tmp_path / f"steps.{form}"
    result = run(
        "--table", "AgentActivity", "--format", form, "-o", output, "--server", address, "--token-file", token_file
    )
    assert result.exit_code == 0, result.output
    wanted = attacked.stores.activity.query("AgentActivity | count", 1)["Count"][0].as_py()
    assert f"{wanted} rows of AgentActivity" in result.output
    found = parquet.read_table(output).num_rows if form == "parquet" else len(output.read_text("utf-8").splitlines())
    assert found == wanted
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


def test_the_command_writes_a_view(address: str, token_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "tools.parquet"
    result = run("--table", "AIAgentToolEvents", "-o", output, "--server", address, "--token-file", token_file)
    assert result.exit_code == 0, (result.output, result.exception)
    assert parquet.read_table(output).num_rows > 5


def test_a_refused_export_leaves_no_file_and_says_why(address: str, token_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "said.parquet"
    result = run("--table", "AgentContent", "-o", output, "--server", address, "--token-file", token_file)
    assert result.exit_code != 0
    assert "there is no table" in str(result.exception)
    assert not output.exists()


class _Torn:
    """A server whose answer ends too early, or has fewer rows than it says."""

    def __init__(self, body: bytes, rows: int) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("x-watchfloor-rows", str(rows))
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture(params=[("jsonl", b"{}\n", 2), ("parquet", b"PAR1 and no end", 1)])
def torn(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    form, body, rows = request.param
    found = _Torn(body, rows)
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield form, found.address
    found.server.shutdown()
    thread.join(20)
    found.server.server_close()


def test_an_export_that_is_not_whole_is_no_export(torn: tuple[str, str], token_file: Path, tmp_path: Path) -> None:
    form, address = torn
    output = tmp_path / "torn"
    output.write_text("the old one", "utf-8")
    result = run(
        "--table", "AgentActivity", "--format", form, "-o", output, "--server", address, "--token-file", token_file
    )
    assert result.exit_code != 0
    assert output.read_text("utf-8") == "the old one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["token", "torn"]


def test_the_command_reads_a_data_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    store = DuckDbStore(data / "events.duckdb", data / "cold")
    store.ingest([logged(n, activities(f"e{n}", at=START + timedelta(days=n))) for n in range(1, 4)])
    store.close()
    output = tmp_path / "steps.parquet"
    day = (START + timedelta(days=2)).date().isoformat()
    result = run("--table", "AgentActivity", "--since", day, "--until", f"{day}T23:59:59", "-o", output, "--data", data)
    assert result.exit_code == 0, (result.output, result.exception)
    assert parquet.read_table(output)["ReportId"].to_pylist() == ["e2"]
    nowhere = run("--table", "AgentActivity", "-o", output, "--data", tmp_path / "none")
    assert "there is no event store" in str(nowhere.exception)
