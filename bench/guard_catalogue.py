"""Each entry of the alert catalogue through a real worker: recall, false alerts and benign blocks, apart.

    python -m bench.guard_catalogue [--json]

Attacks and benign twins are the tests' (``tests/guard/detectors/test_catalogue.py``); they go through the doors over
HTTP, with a real tool server behind and the shipped policies in force. Counted is what the worker put on record. One
text or a few say whether an entry works, not how good it is on texts that nobody here wrote: that is ``guard_text``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway.catalogue import Outcome, outcomes
from gateway.world import World
from watchfloor.guard.detectors.catalogue import DETECTIONS


async def _run() -> list[Outcome]:
    with tempfile.TemporaryDirectory() as directory:
        async with World(Path(directory)).running() as world:
            return await outcomes(world)


def main() -> int:
    """Print the table; exit status 1 if an attack is missed, a twin raises its alert, or a twin is stopped."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard_catalogue", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON for each entry")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    by_id: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in asyncio.run(_run()):
        by_id[outcome.detection].append(outcome)
    totals = [0, 0, 0, 0, 0]
    if not arguments.json:
        print(f"{'entry':44} {'found':>7} {'stopped':>8} {'false alerts':>13} {'benign blocks':>14}  surfaces")
    for detection in DETECTIONS:
        cases = by_id[detection.id]
        row = [
            len(cases),
            sum(case.is_found for case in cases),
            sum(case.attack.is_stopped for case in cases),
            sum(case.is_false_alert for case in cases),
            sum(case.twin.is_stopped for case in cases),
        ]
        totals = [total + value for total, value in zip(totals, row, strict=True)]
        surfaces = ", ".join(sorted({case.surface.value for case in cases}))
        if arguments.json:
            names = ("cases", "found", "stopped", "false_alerts", "benign_blocks")
            print(json.dumps({"id": detection.id, **dict(zip(names, row, strict=True)), "surfaces": surfaces}))
        else:
            count, found, stopped, false, blocked = row
            print(
                f"{detection.id:44} {found:>3}/{count:<3} {stopped:>4}/{count:<3} {false:>13} {blocked:>14}  {surfaces}"
            )
    count, found, stopped, false, blocked = totals
    print(
        f"\n{len(DETECTIONS)} entries, {count} attacks with a twin each: {found} found, {stopped} stopped by what "
        f"ships enforced; twins: {false} false alerts, {blocked} blocked.",
        file=sys.stderr if arguments.json else sys.stdout,
    )
    return int(found < count or false > 0 or blocked > 0)


if __name__ == "__main__":
    sys.exit(main())
