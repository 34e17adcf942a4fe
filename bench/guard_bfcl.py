"""How often honest work is disturbed in a domain that no rule was written for: BFCL's multi-turn tasks, all benign.

    make dojo && .venv-dojo/bin/python -m bench.guard_bfcl [--details]

The 200 base tasks are played turn by turn with their reference calls on BFCL's own executable tools. Nobody's directory
is known here, so receivers that only the account's hidden state knows count as flagged.
"""

from __future__ import annotations

import argparse
import ast
import collections
import copy
import importlib
import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.dojo.defences import effect_of
from watchfloor.guard.provenance.cards import infer_card
from watchfloor.guard.provenance.conversation import Conversation, ToolResult
from watchfloor.guard.provenance.directory import Directory
from watchfloor.guard.provenance.labels import Outcome, Strictness
from watchfloor.guard.provenance.trace import trace

SOURCES = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code."
CLASSES = {
    "GorillaFileSystem": "gorilla_file_system", "MathAPI": "math_api", "MessageAPI": "message_api",
    "TwitterAPI": "posting_api", "TicketAPI": "ticket_api", "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking", "VehicleControlAPI": "vehicle_control",
}  # fmt: skip


class Step(NamedTuple):
    """A call with its result, made in the turn numbered ``turn``."""

    turn: int
    tool: str
    arguments: dict[str, Any]
    result: Any


def data_folder() -> Path:
    found = importlib.util.find_spec("bfcl_eval")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("bfcl-eval is not installed here. Run `make dojo`, then use .venv-dojo/bin/python.")
    return Path(next(iter(found.submodule_search_locations))) / "data"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def definitions(data: Path) -> dict[str, dict[str, Any]]:
    """Every tool as ``tools/list`` would describe it."""
    return {
        tool["name"]: {
            "name": tool["name"],
            "description": tool["description"].partition("Tool description: ")[2] or tool["description"],
            "inputSchema": {"type": "object", "properties": tool["parameters"].get("properties", {})},
        }
        for path in sorted((data / "multi_turn_func_doc").glob("*.json"))
        for tool in lines(path)
    }


def tasks(data: Path) -> Iterator[tuple[str, list[str], list[Step]]]:
    """(id, the user's words by turn, every reference call with its real result)."""
    answers = {row["id"]: row["ground_truth"] for row in lines(data / "possible_answer/BFCL_v4_multi_turn_base.json")}
    for task in lines(data / "BFCL_v4_multi_turn_base.json"):
        instances = []
        for name in task["involved_classes"]:
            instance = getattr(importlib.import_module(SOURCES + CLASSES[name]), name)()
            if hasattr(instance, "_load_scenario") and name in task["initial_config"]:
                instance._load_scenario(copy.deepcopy(task["initial_config"][name]))
            instances.append(instance)
        turns = [" ".join(m["content"] for m in turn if m["role"] == "user") for turn in task["question"]]
        steps = [
            step
            for number, calls in enumerate(answers[task["id"]])
            for source in calls
            if (step := execute(instances, number, source)) is not None
        ]
        yield task["id"], turns, steps


def execute(instances: list[Any], turn: int, source: str) -> Step | None:
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    tool = call.func.id
    function = next((getattr(each, tool) for each in instances if hasattr(each, tool)), None)
    if function is None:
        return None
    positional = [ast.literal_eval(argument) for argument in call.args]
    named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
    arguments = {**dict(zip(inspect.signature(function).parameters, positional, strict=False)), **named}
    try:
        result = function(**arguments)
    except Exception as error:
        result = {"error": str(error)}
    return Step(turn, tool, arguments, result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--details", action="store_true", help="say what was flagged")
    options = parser.parse_args()
    data = data_folder()
    tools = definitions(data)
    played = list(tasks(data))
    for strictness in Strictness:
        counts: collections.Counter[str] = collections.Counter()
        why: collections.Counter[str] = collections.Counter()
        for _, turns, steps in played:
            conversation, directory, flagged = Conversation(), Directory(), False
            for step in steps:
                conversation.say(turns[: step.turn + 1])
                definition = tools.get(step.tool, {"name": step.tool})
                effect = effect_of(definition)
                found = trace(
                    step.tool, step.arguments, effect, infer_card(definition), conversation, directory, strictness
                )
                counts["calls"] += 1
                counts["acting"] += effect.has_side_effects
                outcome = found.outcome(strictness)
                if outcome is not Outcome.ALLOW:
                    counts[outcome.value] += 1
                    flagged = True
                    worst = found.worst(strictness)
                    if worst is not None:
                        why[f"{step.tool} {worst.rule} {worst.argument} {worst.label}: {worst.value}"] += 1
                named = conversation.names(step.arguments)
                conversation.read(ToolResult("", "bfcl", step.tool, step.result, named))
            counts["flagged tasks"] += flagged
        flags = counts["ask"] + counts["refuse"]
        print(
            f"{strictness:9} flags {flags} of {counts['acting']} calls with side effects "
            f"({flags / counts['acting']:.1%}; {counts['refuse']} refused, {counts['ask']} asked), "
            f"in {counts['flagged tasks']} of {len(played)} tasks; {counts['calls']} calls in all"
        )
        if options.details:
            for text, count in why.most_common(40):
                print(f"    {count:3} {text}")


if __name__ == "__main__":
    main()
