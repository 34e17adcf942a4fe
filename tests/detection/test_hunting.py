"""Hunting templates: what each finds on rows of its own, by two engines, and which of Microsoft's each stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
import yaml

from detection.cases_store import hunter_of
from watchfloor import kql
from watchfloor.detection.hunting import CATEGORIES, parse, shipped
from watchfloor.detection.kql_trial import stored
from watchfloor.kql.evaluate import rows
from watchfloor.kql.ir import Plan
from watchfloor.model.errors import InputError
from watchfloor.portal.wire import cell
from watchfloor.storage.compiler import catalogue, ticks
from watchfloor.storage.hunting import Hunter, Request, decoded
from watchfloor.storage.ports import Scope
from watchfloor.storage.tables import TABLES

STUDIO = "Copilot Studio AI Agents - "
A365 = "A365 AI Agents - "
NEW = "AI Agents - "
MICROSOFTS = [
    STUDIO + "MCP Tool with Maker Credentials",
    STUDIO + "Sending email to AI controlled input values",
    STUDIO + "Sending email to external mailboxes",
    STUDIO + "Published Generative Orchestration without Instructions",
    STUDIO + "HTTP Requests to Connector Endpoints",
    STUDIO + "HTTP Requests to Non-HTTPS Endpoints",
    STUDIO + "Hard-coded credentials in Topics or Actions",
    STUDIO + "MCP Tool Configured",
    STUDIO + "Organization or Multi-tenant Shared",
    STUDIO + "Unused Actions",
    STUDIO + "Dormant Author Authentication Connection",
    STUDIO + "No Authentication Required",
    STUDIO + "Orphaned Agents with Disabled Owners",
    STUDIO + "Published Dormant (30d)",
    STUDIO + "Unpublished Unmodified (30d)",
    STUDIO + "HTTP Requests to Non-standard Ports",
    STUDIO + "Published Agents with Author Authentication",
    A365 + "HTTP Requests to Non-HTTPS Endpoints",
    A365 + "HTTP Requests to Non-standard Ports",
    A365 + "Hard-coded credentials in Tools or Actions",
    A365 + "MCP Tool Configured",
    A365 + "Missing Tools in Instructions",
    A365 + "Published Agents without Instructions",
    A365 + "Publicly Shared",
    A365 + "Published Agents with Short Instructions",
    A365 + "Orphaned Agents with Disabled Owners",
    NEW + "Hard-coded credentials in Tools or Configuration",
    NEW + "Instructions changed on previously published agent",
    NEW + "MCP Tool Configured",
    NEW + "Missing Tools in Instructions",
    NEW + "Newly observed MCP server on existing agent",
    NEW + "Published Agents without Instructions",
    NEW + "Organization-wide Shared",
    NEW + "Orphaned Agents with Disabled Owners",
    NEW + "Owner added to MCP-enabled agent",
    NEW + "Sharing expanded to organization-wide",
    NEW + "Published Agents with Short Instructions",
]
"""Microsoft's hunting templates for AI agents, as they are called."""

HUNTS = shipped()
BY_ID = {hunt.template.id: hunt for hunt in HUNTS}
CASES = [(hunt, example) for hunt in HUNTS for example in hunt.template.tests]

Row = dict[str, Any]


def at(case: int) -> int:
    """When a case is asked: a moment after its last row, unless it says when."""
    hunt, example = CASES[case]
    return ticks(example.now or stored(example.rows, hunt.reads)[1] + timedelta(seconds=1))


@pytest.fixture(scope="module")
def hunter() -> Iterator[Hunter]:
    with hunter_of([(hunt.reads, example) for hunt, example in CASES]) as found:
        yield found


def by_definition(case: int) -> list[Row]:
    """What the template's query means over the rows of the case, without a database."""
    hunt, example = CASES[case]
    tables = {}
    for name, table in stored(example.rows, hunt.reads)[0].items():
        columns = [(c.name, c.type) for c in TABLES[name].columns]
        names = [column for column, _ in columns]
        tables[name] = [dict(zip(names, r, strict=True)) for b in table.to_batches() for r in decoded(columns, b)]
    plan = kql.analyze(hunt.template.query, catalogue(), kql.Scope(("default",)), now=at(case))
    assert isinstance(plan, Plan)
    return [told([(name, column.type) for name, column in plan.columns], row) for row in rows(plan, tables)]


def told(columns: Sequence[tuple[str, str]], row: Sequence[Any]) -> Row:
    return {name: cell(value, type_) for (name, type_), value in zip(columns, row, strict=True)}


def differences(found: Sequence[Row], expected: Sequence[Mapping[str, Any]]) -> list[str]:
    """How ``found`` differs from ``expected``, which names of each row the cells that matter; order does not count."""
    left, faults = list(found), []
    for wanted in expected:
        match = next((row for row in left if all(row.get(name) == value for name, value in wanted.items())), None)
        if match is None:
            faults.append(f"there is no row with {dict(wanted)}")
        else:
            left.remove(match)
    return faults + [f"there is a row that should not be: {row}" for row in left]


@pytest.mark.claim("hunting-templates")
@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{h.template.id}: {e.name}" for h, e in CASES])
def test_a_template_finds_the_rows_that_it_must_and_no_other(hunter: Hunter, case: int) -> None:
    hunt, example = CASES[case]
    hunted = hunter.hunt(Request(hunt.template.query, Scope((f"case-{case}",)), now=at(case)))
    found = [told(hunted.columns, row) for row in hunted.values()]
    assert differences(found, example.expect) == []
    assert bag(by_definition(case)) == bag(found), "the engines disagree"


def bag(some: Sequence[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in some)


@pytest.mark.claim("hunting-counterparts")
def test_each_template_of_microsoft_has_a_counterpart_that_says_how_it_differs() -> None:
    found = [hunt.template.counterpart for hunt in HUNTS if hunt.template.counterpart]
    assert sorted(found) == sorted(MICROSOFTS)
    for hunt in HUNTS:
        prefix = hunt.template.counterpart.partition(" - ")[0]
        table = {STUDIO: "AIAgentsInfo", A365: "AIAgentsInfo", NEW: "AgentsInfo"}.get(prefix + " - ")
        assert table is None or table in hunt.tables, hunt.template.id


@pytest.mark.claim("story-maker-credentials-hunt")
def test_tools_on_the_makers_credentials_are_found_on_every_platform() -> None:
    assert not BY_ID["agents-mcp-maker-credentials"].template.counterpart, "Microsoft has none for AgentsInfo"
    assert BY_ID["agents-mcp-maker-credentials"].tables == ("AgentsInfo",)


def test_twenty_templates_and_more_look_at_what_happened() -> None:
    own = [hunt for hunt in HUNTS if not hunt.template.counterpart]
    assert len(own) > 20
    read = frozenset[str]().union(*(hunt.reads for hunt in own))
    assert {"AgentActivity", "ConditionalAccessEvents", "SignInEvents", "IdentityInfo", "AlertInfo"} <= read


def test_every_category_has_a_template() -> None:
    assert {hunt.template.category for hunt in HUNTS} == set(CATEGORIES)


def test_every_fault_of_a_template_is_told_at_once_with_file_and_place() -> None:
    body = {
        "id": "mine", "name": "Mine", "description": "Mine.", "category": "Tools", "counterpart": "Theirs",
        "techniques": ["T1059"], "recommended_actions": ["Look."], "blind_spots": "None.",
        "query": "AgentContent | project AgentId, AgentName = tolong(1)",
        "tests": [{"name": "a", "rows": {"AgentActivty": []}, "expect": []},
                  {"name": "b", "rows": {"AgentActivity": [{"Timstamp": 1}]}, "expect": []}],
    }  # fmt: skip
    with pytest.raises(InputError) as raised:
        parse({"other.yaml": yaml.safe_dump(body), "bad.yaml": yaml.safe_dump({**body, "techniques": ["X1"]})})
    for expected in (
        "bad.yaml: techniques.0",
        "other.yaml: id: 'mine' differs",
        "other.yaml: tests: needs at least one row that must match",
        "tests[0].rows.AgentActivty: there is no event table of that name. Did you mean AgentActivity?",
        "tests[1].rows.AgentActivity: there is no column Timstamp. Did you mean Timestamp?",
        "differs: whoever stands for another",
        "query: gives no text AgentName",
        "query: AgentContent holds contents",
    ):
        assert expected in str(raised.value), (expected, str(raised.value))
