"""Each format, read from a small sample: what comes out, what is warned of, and what must never come out."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from identity.world import World
from watchfloor.model.errors import InputError
from watchfloor.registry import manifest
from watchfloor.registry.importers import FORMATS, import_paths
from watchfloor.registry.importers.draft import Draft
from watchfloor.registry.local_secrets import resolve_secrets

SAMPLES = Path(__file__).parent / "samples"
FOLDERS = ("workspace", "solution", "clients", "a2a", "foundry", "bedrock", "langgraph")
SECRETS = (
    "ghp_q7Wm2Zt9Yb4Xc8Vn1Kd5Rf3Lg6Hj0PaSeUiOx", "Vt83kq11x", "Zx81kQm2Vw93LpTr67YbNc45", "Kq83-plum-7731-hXw2",
    "Jd82kfLq02mXz81ncPq4", "Z3JpZmZpbjpzZWNyZXRzYXJlbm90Zm9yZmlsZXM", "tk_91hXw2Kq83plum7731aabbccdd",
    "sk-proj-8Qm2Vw93LpTr67YbNc45Zx81kQm2Vw93",
)  # fmt: skip
"""Every secret that stands in a sample."""


def read(*names: str, only: str = "") -> Draft:
    return import_paths([SAMPLES / name for name in names], only)


def agents(draft: Draft) -> dict[str, Any]:
    return {agent["id"]: agent for agent in draft.manifest()["agents"]}


def warnings(draft: Draft) -> dict[str, str]:
    return {warning.place: warning.message for warning in draft.notes.found}


# -- all formats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_imported_can_be_applied_as_it_is(world: World, folder: str) -> None:
    text = resolve_secrets(read(folder).text([folder]), variable=lambda name: f"value of {name}", file=lambda _: None)
    with world.store.tx("root") as tx:
        applied = manifest.apply(tx, text, world.vault)
    assert applied.plan.summary["create"] > 0
    with world.store.read() as tx:
        assert manifest.plan(tx, text, world.vault).is_empty


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_manifest_of_a_sample_is_as_agreed(folder: str) -> None:
    expected = (SAMPLES.parent / "expected" / f"{folder}.yaml").read_text("utf-8")
    assert read(folder).text([folder]) == expected


def test_no_secret_of_any_sample_comes_out() -> None:
    everything = "".join(p.read_text("utf-8") for p in SAMPLES.rglob("*") if p.is_file())
    out = read(*FOLDERS).text()
    for secret in SECRETS:
        assert secret in everything and secret not in out, secret


def test_importing_is_the_same_in_any_order_but_for_the_order() -> None:
    one, other = read(*FOLDERS).manifest(), read(*reversed(FOLDERS)).manifest()
    assert {a["name"] for a in one["agents"]} == {a["name"] for a in other["agents"]}
    assert {s["url"] for s in one["toolServers"]} == {s["url"] for s in other["toolServers"]}


def test_the_same_name_twice_is_two_ids_and_the_same_address_one_server() -> None:
    draft = read("clients/.cursor/mcp.json", "clients/.cursor/mcp.json")
    assert sorted(draft.agents) == ["cursor", "cursor-2"]
    assert sorted(draft.servers) == ["hub", "tracker"]


def test_warnings_stand_above_the_manifest_as_comments() -> None:
    text = read("a2a").text(["a2a"])
    assert "# - agent-card.json#mood: is not understood, so it is left out.\n" in text
    assert yaml.safe_load(text)["kind"] == "Company"


def test_a_file_that_holds_nothing_says_what_could_be_imported(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "x"}')
    with pytest.raises(InputError, match=r"holds nothing that can be imported.*A2A agent card"):
        import_paths([tmp_path / "package.json"])
    with pytest.raises(InputError, match="holds nothing"):
        import_paths([tmp_path])


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "mcp.json").write_text('{"mcpServers": {')
    with pytest.raises(InputError, match=r"mcp\.json: is not JSON"):
        import_paths([tmp_path / "mcp.json"])
    (tmp_path / "agent.yaml").write_bytes(b"kind: \xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        import_paths([tmp_path / "agent.yaml"])
    with pytest.raises(InputError, match="cannot be read"):
        import_paths([tmp_path / "none.json"])


def test_a_broken_file_among_good_ones_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "agent-card.json").write_text((SAMPLES / "a2a" / "agent-card.json").read_text("utf-8"))
    (tmp_path / "settings.mcs.yml").write_text("displayName: [")
    draft = import_paths([tmp_path])
    assert list(draft.agents) == ["route-planner"]
    assert "cannot be read" in warnings(draft)["settings.mcs.yml"]


def test_a_format_that_is_named_reads_a_file_of_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "servers.txt"
    odd.write_text('{"servers": {"docs": {"url": "https://docs.zava.example/mcp"}}}')
    with pytest.raises(InputError):
        import_paths([odd])
    assert list(import_paths([odd], "mcp").servers) == ["docs"]
    with pytest.raises(InputError, match="no format 'msp'"):
        import_paths([odd], "msp")


def test_every_format_has_a_title_and_a_name_of_its_own() -> None:
    assert len({f.name for f in FORMATS}) == len({f.title for f in FORMATS}) == len(FORMATS)


# -- Copilot Studio -----------------------------------------------------------------------------------------------


def test_a_tool_of_a_workspace_says_whose_connection_it_uses() -> None:
    draft = read("workspace")
    tools = {tool["name"]: tool for tool in agents(draft)["zava_traveldesk"]["platformTools"]}
    assert (tools["Orders"]["kind"], tools["Orders"]["credential"]) == ("mcp", "maker")
    assert tools["Orders"]["tools"] == ["find_order", "change_order"]
    assert tools["Tell the agency"]["inputs"][0] == {"name": "To", "value": "desk@agency.example"}
    # Where a connection has no mode the platform takes the maker's: rather said than missed.
    assert tools["Tell the agency"]["credential"] == "maker"
    assert "says no mode" in warnings(draft)["actions/Mail.mcs.yml#action.connectionProperties"]


def test_requests_of_topics_are_found_however_deep_they_stand() -> None:
    (topic,) = agents(read("workspace"))["zava_traveldesk"]["topics"]
    assert topic["requests"] == ["http://legacy.zava.example:8080/rates?city=Oslo"]
    assert topic["tools"][0]["inputs"] == [{"name": "To", "value": "all@zava.example"}, {"name": "Body"}]


def test_a_child_agent_is_part_of_its_agent_and_none_of_its_own() -> None:
    found = agents(read("workspace"))
    assert list(found) == ["zava_traveldesk"]
    assert found["zava_traveldesk"]["childAgents"] == ["Wording"]


def test_a_published_agent_is_published_and_another_a_draft() -> None:
    assert agents(read("workspace"))["zava_traveldesk"]["state"] == "published"
    assert {a["state"] for a in agents(read("solution")).values()} == {"draft"}


def test_agents_of_one_solution_are_connected() -> None:
    found = agents(read("solution"))
    assert found["zava_rates"]["connectedAgents"] == ["zava_expenses"]
    assert found["zava_expenses"]["sharedWith"] == ["*", "tenants:*"]
    assert found["zava_expenses"]["signIn"] == {"users": "none", "when": "as-needed"}


def test_a_packed_solution_is_read_as_the_unpacked_one(tmp_path: Path) -> None:
    packed = tmp_path / "solution.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((SAMPLES / "solution").rglob("*")):
            archive.write(path, path.relative_to(SAMPLES / "solution"))
    assert import_paths([packed]).manifest() == read("solution").manifest()


# -- MCP clients --------------------------------------------------------------------------------------------------


def test_a_secret_in_a_configuration_is_the_makers_credential_by_name() -> None:
    draft = read("clients")
    grants = {(a, g["server"]): g for a, agent in agents(draft).items() for g in agent["tools"]}
    assert grants["claude-desktop", "github"]["makerCredential"] == {"env": "GITHUB_TOKEN"}
    assert grants["vscode", "tracker"]["makerCredential"] == {"env": "TRACKER_TOKEN"}
    assert grants["vscode", "database"]["makerCredential"] == {"env": "DATABASE_DSN"}
    assert "credential" not in grants["vscode", "docs"]
    said = warnings(draft)
    assert "in clear" in said["claude_desktop_config.json#mcpServers.github.env.GITHUB_TOKEN"]
    # A reference to a variable is how it should be: nothing to say about it.
    assert not [place for place in said if "tracker" in place]


def test_servers_that_a_command_starts_are_to_be_wrapped() -> None:
    servers = read("clients").servers
    assert servers["github"]["url"] == "stdio:github"
    assert servers["github"]["description"] == "npx @zava/github-mcp"
    assert servers["database"]["description"] == "uvx zava-db-mcp"


def test_projects_of_claude_code_are_agents_of_their_own() -> None:
    draft = read("clients/.claude.json")
    assert sorted(draft.agents) == ["claude-code", "claude-code-billing"]


def test_an_address_that_must_not_be_called_is_left_out() -> None:
    draft = read("clients/.cursor/mcp.json")
    assert "metadata" not in draft.servers
    assert "must not be called" in warnings(draft)[".cursor/mcp.json#mcpServers.metadata"]


@pytest.mark.parametrize(
    ("path", "agent"),
    [
        ("claude_desktop_config.json", "claude-desktop"),
        (".vscode/mcp.json", "vscode"),
        (".cursor/mcp.json", "cursor"),
        (".mcp.json", "claude-code"),
        ("mcp.json", "mcp-client"),
    ],
)
def test_a_client_is_known_by_where_its_configuration_lies(tmp_path: Path, path: str, agent: str) -> None:
    file = tmp_path / "home" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"mcpServers": {"docs": {"url": "https://docs.zava.example/mcp"}}}')
    assert list(import_paths([file]).agents) == [agent]


# -- the others ---------------------------------------------------------------------------------------------------


def test_agent_cards_of_both_versions_are_read() -> None:
    found = agents(read("a2a"))
    assert found["route-planner"]["endpoints"] == [
        "https://routes.partner.example/a2a",
        "https://routes.partner.example/grpc",
    ]
    assert found["route-planner"]["signIn"] == {"users": "custom"}
    assert found["customs-clerk"]["endpoints"] == ["https://customs.partner.example/a2a/v1"]
    # A card that names no scheme need not mean that nobody is asked.
    assert "signIn" not in found["customs-clerk"]


def test_tools_of_foundry_become_bindings_capabilities_and_knowledge() -> None:
    found = agents(read("foundry"))
    reader = found["contract-reader"]
    assert reader["tools"] == [
        {"server": "contracts", "tool": "find_clause", "credential": "app"},
        {"server": "open", "tool": "*", "credential": "maker", "makerCredential": {"env": "OPEN_TOKEN"}},
    ]
    assert reader["capabilities"] == ["code interpreter"]
    assert reader["knowledge"] == [{"name": "contracts", "kind": "azure_ai_search"}]
    assert found["help"]["connectedAgents"] == ["bills"]
    assert found["weather"]["tools"] == [{"server": "weather", "tool": "forecast"}]


def test_bedrock_agents_of_one_template_are_connected_over_their_aliases() -> None:
    found = agents(read("bedrock"))
    assert found["supervisor"]["connectedAgents"] == ["clerk"]
    tools = {tool["name"]: tool for tool in found["clerk"]["platformTools"]}
    assert tools["get_invoice"]["credential"] == "app" and "credential" not in tools["rates"]
    assert tools["rates"]["urls"] == ["https://rates.zava.example"]
    assert found["invoice-helper"]["platformIds"]["environment"] == "eu-central-1/123456789012"


def test_each_graph_is_an_agent(tmp_path: Path) -> None:
    assert sorted(agents(read("langgraph"))) == ["researcher", "writer"]


def test_an_archive_in_memory_is_no_different(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cards/agent-card.json", json.dumps({"name": "A", "skills": [], "url": "https://a.example"}))
    (tmp_path / "cards.zip").write_bytes(buffer.getvalue())
    assert list(import_paths([tmp_path / "cards.zip"]).agents) == ["a"]
