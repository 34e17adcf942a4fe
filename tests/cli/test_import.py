"""``watchfloor import``: files in, a manifest out, warnings beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from watchfloor.cli.import_ import import_
from watchfloor.model.errors import InputError

SAMPLES = Path(__file__).parents[1] / "registry" / "importers" / "samples"


def test_a_manifest_is_printed_and_warnings_go_to_standard_error() -> None:
    result = CliRunner().invoke(import_, [str(SAMPLES / "clients")])
    assert result.exit_code == 0
    assert {a["id"] for a in yaml.safe_load(result.stdout)["agents"]} >= {"claude-desktop", "vscode", "cursor"}
    assert "! claude_desktop_config.json#mcpServers.github.env.GITHUB_TOKEN: a secret stands here" in result.stderr
    assert "# - claude_desktop_config.json#mcpServers.github.env.GITHUB_TOKEN" in result.stdout
    assert "ghp_" not in result.output


def test_several_paths_make_one_manifest_in_a_file(tmp_path: Path) -> None:
    output = tmp_path / "company.yaml"
    paths = [str(SAMPLES / name) for name in ("bedrock", "a2a", "langgraph")]
    result = CliRunner().invoke(import_, [*paths, "-o", str(output)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "7 agents and 0 tool servers" in result.stderr
    assert len(yaml.safe_load(output.read_text("utf-8"))["agents"]) == 7


def test_a_format_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "servers.conf"
    file.write_text(json.dumps({"mcpServers": {"docs": {"url": "https://docs.zava.example/mcp"}}}))
    result = CliRunner().invoke(import_, [str(file), "--format", "mcp"])
    assert result.exit_code == 0 and "https://docs.zava.example/mcp" in result.stdout
    assert CliRunner().invoke(import_, [str(file), "--format", "msp"]).exit_code == 2


def test_what_is_nothing_and_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    empty = CliRunner().invoke(import_, [str(tmp_path)])
    assert isinstance(empty.exception, InputError) and "holds nothing" in str(empty.exception)
    full = CliRunner().invoke(import_, [str(SAMPLES / "a2a"), "-o", str(tmp_path / "none" / "x.yaml")])
    assert isinstance(full.exception, InputError) and "--output" in str(full.exception)


@pytest.mark.parametrize("character", ["\x1b[31m", "\u2028", "\x85", "\r", "\x00"])
def test_names_that_outsiders_chose_break_no_line(tmp_path: Path, character: str) -> None:
    card = {"name": f"A{character}kind: Evil", "skills": [], "url": "https://a.example", f"m{character}ood: x": 1}
    (tmp_path / "agent-card.json").write_text(json.dumps(card))
    result = CliRunner().invoke(import_, [str(tmp_path)])
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["kind"] == "Company"
    assert not any(c in result.output for c in "\x1b\u2028\x85\r\x00")
