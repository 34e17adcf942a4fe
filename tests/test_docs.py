"""The reference pages say what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _pages() -> dict[str, object]:
    spec = importlib.util.spec_from_file_location("write", ROOT / "docs" / "write.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, object] = module.PAGES
    return pages


@pytest.mark.parametrize("name", sorted(_pages()))
def test_reference_page_is_up_to_date(name: str) -> None:
    render = _pages()[name]
    assert callable(render)
    assert (ROOT / "docs" / name).read_text("utf-8") == render(), "run `make docs`"


def test_every_command_is_mentioned_in_the_documents() -> None:
    from watchfloor.cli import COMMANDS

    text = "".join(p.read_text("utf-8") for p in [ROOT / "README.md", *ROOT.glob("docs/*.md")])
    assert [name for name in COMMANDS if not re.search(rf"watchfloor {name}\b", text)] == []


def test_every_link_between_documents_leads_somewhere() -> None:
    dead = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("demo/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not (page.parent / target).exists():
                dead.append(f"{page.name}: {target}")
    assert dead == []


def test_every_query_in_the_documents_means_something() -> None:
    from watchfloor import kql
    from watchfloor.storage.compiler import catalogue

    vips = kql.NamedList("vips", (kql.Column("Upn", "string"),), (), "Upn")
    schema = kql.Schema(catalogue().tables, {"vips": vips})
    queries = re.findall(r"```kusto\n(.*?)```", (ROOT / "docs" / "kql.md").read_text("utf-8"), re.DOTALL)
    assert queries
    for query in queries:
        kql.analyze(query, schema, kql.Scope(("default",)))


def test_architecture_stays_under_two_pages() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines()) <= 120


def test_every_module_that_check_leaves_out_exists() -> None:
    from conftest import THOROUGH

    assert [name for name in THOROUGH if not (ROOT / "tests" / name).exists()] == []


def test_every_step_and_state_of_a_response_is_explained() -> None:
    from watchfloor.model.sagas import StepState
    from watchfloor.response.plans import PLANS

    text = (ROOT / "docs" / "response.md").read_text("utf-8")
    names = {step.name for plan in PLANS.values() for step in plan.steps} | set(StepState)
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_every_field_of_a_playbook_is_in_its_document_and_the_example_there_passes_its_tests() -> None:
    import yaml

    from watchfloor.response.playbook import If, Playbook, When, parse, run_tests, shipped

    text = (ROOT / "docs" / "playbooks.md").read_text("utf-8")
    fields = {field.alias or name for model in (Playbook, When, If) for name, field in model.model_fields.items()}
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert [name for name in sorted(fields - {"description"}) if f"{name}:" not in example] == []
    assert [outcome for outcome in run_tests(parse(yaml.safe_load(example))) if not outcome.is_passed] == []
    assert [name for name in shipped() if f"`{name}`" not in text] == []
