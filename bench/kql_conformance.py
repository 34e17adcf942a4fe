"""KQL conformance: answers of the real engine, compared with ours.

    python bench/kql_conformance.py ../shared/kql/gold.jsonl [--family WORDS] [--id ID] [--show wrong|unsupported|error]

Each case is a query that brings its own data, with the typed answer of the reference engine. The queries go through
``watchfloor kql batch``, the door that anybody can use, and the answers through the comparer that lies beside the file
(``compare.py``). *wrong* must be 0 and *error* must be 0: what is not implemented refuses by name. "Hunting core" is
everything but geospatial, time series and sketches. Exits 1 where something is wrong or fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

PERIPHERAL = ("geospatial", "time series", "sketches")
OUTCOMES = ("pass", "wrong", "unsupported", "error", "disputed")
DISPUTED = {
    "docs/asin-function/0": "the page prints asin(0.95) for asin(0.5), which is 0.5236",
    "docs/node-degree-out/1": "the query projects six columns, the page's table has four under other names",
}
"""Documented tables that contradict their own query. They are run and shown, and counted apart."""


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description="KQL conformance against recorded answers of the real engine.")
    parser.add_argument("gold", type=Path)
    parser.add_argument("--family", default="", help="only families that contain these words")
    parser.add_argument("--id", default="", help="only cases whose id contains this")
    parser.add_argument("--show", choices=OUTCOMES, action="append", default=[], help="list these cases")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for each query")
    options = parser.parse_args()
    if not options.gold.exists():
        print(f"{options.gold} is not here: skipped. The project's own cases run with the tests.")
        return 0
    comparer = _comparer(options.gold.parent / "compare.py")
    cases = [json.loads(line) for line in options.gold.read_text().splitlines() if line.strip()]
    cases = [c for c in cases if options.family in c["family"] and options.id in c["id"]]
    answers = run(cases, options.timeout)
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        outcome, why = judge(case, answers.get(case["id"]), comparer)
        table[case["family"]][outcome] += 1
        if outcome in options.show:
            print(f"{outcome:11} {case['id']}  [{case['family']}]\n    {why[:600]}")
    _print(table)
    total = sum((Counter(row) for row in table.values()), Counter())
    return 1 if total["wrong"] or total["error"] else 0


def run(cases: list[dict[str, Any]], timeout: float) -> dict[str, dict[str, Any]]:
    """The answer to each case, by id, from one ``watchfloor kql batch``."""
    lines = "".join(json.dumps({"id": c["id"], "kql": c["kql"]}) + "\n" for c in cases)
    command = [sys.executable, "-m", "watchfloor", "kql", "batch", "--timeout", str(timeout)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"watchfloor kql batch ended with {done.returncode}:\n{done.stderr[-2000:]}")
    answers = (json.loads(line) for line in done.stdout.splitlines())
    return {answer["id"]: answer for answer in answers}


def judge(case: dict[str, Any], answer: dict[str, Any] | None, comparer: ModuleType) -> tuple[str, str]:
    """pass, wrong, unsupported or error, and why."""
    if answer is None:
        return "error", "no answer"
    if error := answer.get("error"):
        kind = "error" if error["kind"] == "internal" else "unsupported"
        return kind, f"{error['kind']} {error.get('line')}:{error.get('column')} {error['message']}"
    outcome, why = comparer.compare(case, [c["name"] for c in answer["columns"]], answer["rows"])
    if outcome == "wrong" and case["id"] in DISPUTED:
        return "disputed", DISPUTED[case["id"]]
    return ("pass" if outcome.startswith("pass") else "wrong"), why


def _comparer(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kql_compare", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _print(table: dict[str, Counter[str]]) -> None:
    width = max((len(family) for family in table), default=10)
    print(f"{'family':{width}}  {'cases':>5}  " + "  ".join(f"{o:>11}" for o in OUTCOMES))
    groups = {
        "hunting core": [f for f in table if not f.startswith(PERIPHERAL)],
        "whole": list(table),
    }
    for family in sorted(table):
        _line(family, table[family], width)
    for name, families in groups.items():
        total = sum((table[f] for f in families), Counter[str]())
        _line(name, total, width, share=True)


def _line(name: str, row: Counter[str], width: int, *, share: bool = False) -> None:
    cases = sum(row.values())
    passed = f"   {100 * row['pass'] / cases:.1f} % pass" if share and cases else ""
    print(f"{name:{width}}  {cases:>5}  " + "  ".join(f"{row[o]:>11}" for o in OUTCOMES) + passed)


if __name__ == "__main__":
    sys.exit(main())
