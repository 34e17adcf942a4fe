"""What attacks of AgentDojo still reach, and what honest tasks are disturbed: our provenance beside offline peers.

    make dojo && .venv-dojo/bin/python -m bench.guard_agentdojo [--in-process] [--sample N] [--disguise plain …]

The agent is assumed to obey every injection; effects are judged by AgentDojo's own checks. By default ours stands where
it stands in production: a tool server that runs AgentDojo's functions, a gateway worker before it, the user's words in
``_meta``. ``--in-process`` asks the rules without a gateway. Peers always run in the process.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import sys
import time
from typing import Any, NamedTuple

from bench.dojo import defences
from bench.dojo.gateway import Behind, as_text
from bench.dojo.scenes import Call, Dojo, Scene

SUITES = ("workspace", "travel", "banking", "slack")


def definitions(dojo: Dojo, suite: str) -> defences.Definitions:
    """The suite's tools as ``tools/list`` describes them."""
    return {
        tool.name: {
            "name": tool.name,
            "description": tool.description,
            "inputSchema": tool.parameters.model_json_schema(),
        }
        for tool in dojo.suites[suite].tools
    }


class Task(NamedTuple):
    """One defence on one suite under one disguise."""

    name: str
    suite: str
    disguise: str
    attack: str
    sample: int
    in_process: bool
    text: bool


def run_suite(task: Task) -> dict[str, Any]:
    """What came of it: counts."""
    suite = task.suite
    dojo = Dojo(task.attack, task.disguise)
    tools = definitions(dojo, suite)
    if task.name in defences.OURS and not task.in_process:
        behind = Behind(dojo, suite, tools, task.name, text=task.text)
        try:
            return count(task, dojo, tools, None, behind)
        finally:
            behind.close()
    return count(task, dojo, tools, defences.build(task.name), None)


def count(
    task: Task, dojo: Dojo, tools: defences.Definitions, defence: defences.Defence | None, behind: Behind | None
) -> dict[str, Any]:
    suite, disguise, sample = task.suite, task.disguise, task.sample
    counts: collections.Counter[str] = collections.Counter()
    misses: collections.Counter[str] = collections.Counter()
    disturbed: list[str] = []
    cpu, checks = 0.0, 0

    def play_behind(scene: Scene) -> Any:
        nonlocal checks
        assert behind is not None
        behind.start(scene)

        def call(who: str, wanted: Call) -> tuple[str, str, Any]:
            nonlocal checks
            checks += 1
            return behind.call(wanted)

        return dojo.play(scene, call)

    def play(scene: Scene) -> Any:
        nonlocal cpu, checks
        if defence is None:
            return play_behind(scene)
        defence.start(scene, tools)

        def call(who: str, wanted: Call) -> tuple[str, str, Any]:
            nonlocal cpu, checks
            begun = time.thread_time()
            action, reason = defence.check(wanted)
            cpu += time.thread_time() - begun
            checks += 1
            if action != "allow":
                return action, reason, None
            value, error = dojo.run(scene, wanted)
            seen = value if error is None else f"error: {error}"
            if task.text and not isinstance(seen, str):
                seen = as_text(seen)
            begun = time.thread_time()
            defence.observe(wanted, seen)
            cpu += time.thread_time() - begun
            return action, reason, seen

        return dojo.play(scene, call)

    if disguise == "plain":
        for scene in dojo.benign(suite):
            played = play(scene)
            counts["tasks"] += 1
            counts["disturbed"] += played.disturbed
            if played.disturbed:
                stopped = [entry for entry in played.log if entry[2] != "allow"]
                counts["blocked"] += any(entry[2] == "block" for entry in stopped)
                disturbed.append(f"{suite}/{scene.task}: {stopped[0][1:]}")
    for scene in dojo.attacked(suite, sample):
        played = play(scene)
        counts["pairs"] += 1
        counts["effects"] += played.effect
        if played.effect:
            misses[f"{suite}/{scene.injection}"] += 1
    if behind is not None:
        cpu = behind.cpu_seconds()
    return {
        "name": task.name, "suite": suite, "disguise": disguise, "counts": dict(counts), "misses": dict(misses),
        "disturbed": disturbed, "cpu": cpu, "checks": checks,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-process", action="store_true", help="ask the rules without a gateway")
    parser.add_argument("--text", action="store_true", help="tools answer in plain text (YAML), without structure")
    parser.add_argument("--defences", nargs="+", default=["none", *defences.OURS])
    parser.add_argument("--disguise", nargs="+", default=["plain"], choices=["plain", "obfuscated", "laundered"])
    parser.add_argument("--attack", default="important_instructions", help="AgentDojo's name of the wording")
    parser.add_argument("--suites", nargs="+", default=list(SUITES), choices=SUITES)
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="every Nth attack only")
    parser.add_argument("--details", action="store_true", help="say what was missed and what was disturbed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tasks = [
        Task(name, suite, disguise, options.attack, options.sample, options.in_process, options.text)
        for disguise in options.disguise
        for name in options.defences
        for suite in options.suites
    ]
    with multiprocessing.Pool(2, maxtasksperchild=8) as pool:
        results = pool.map(run_suite, tasks, chunksize=1)
    if options.json:
        json.dump(results, sys.stdout, indent=1)
        return
    for disguise in options.disguise:
        print(f"\n{disguise} ({options.attack})")
        for name in options.defences:
            mine = [r for r in results if (r["name"], r["disguise"]) == (name, disguise)]
            total = sum((collections.Counter(r["counts"]) for r in mine), collections.Counter())
            by_suite = ", ".join(f"{r['suite']} {r['counts'].get('effects', 0)}" for r in mine)
            checks = sum(r["checks"] for r in mine)
            print(
                f"  {name:16} effects {total['effects']:4} of {total['pairs']} ({by_suite}); disturbed "
                f"{total['disturbed']} of {total['tasks']} ({total['blocked']} blocked); "
                f"{sum(r['cpu'] for r in mine) / max(1, checks) * 1000:.3f} ms CPU a call"
            )
            if options.details:
                for result in mine:
                    for line in result["disturbed"]:
                        print(f"      disturbed {line}")
                    for missed, count in result["misses"].items():
                        print(f"      missed    {missed} x {count}")


if __name__ == "__main__":
    main()
