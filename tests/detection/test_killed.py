"""A runner that is killed, at any moment: no alert is lost, none is raised twice, and no incident tells half of it."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import pytest

from detection.stores import Stores, open_stores
from watchfloor.detection.priority import weigh_alerts
from watchfloor.detection.rules import shipped
from watchfloor.detection.runner import Detector
from watchfloor.detection.story import tell
from watchfloor.model.people import Permission
from watchfloor.storage import cases, findings

EVERYTHING = frozenset(Permission)
KILLS: Final = 50
EVENTS: Final = 2_400
SLICE: Final = 15


def run(directory: Path, told: Connection) -> None:
    """The runner, in a process of its own over the files of the stores; it tells of each slice that it has stored."""
    with open_stores(directory) as stores:
        detector = Detector(stores.control, stores.activity, shipped(), slice_rows=SLICE)
        told.send("ready")
        while detector.run().rows:
            told.send("slice")
    told.send("done")


def finish(directory: Path) -> list[Any]:
    """What there is when the runner has been left alone with the rest."""
    with open_stores(directory) as stores:
        detector = Detector(stores.control, stores.activity, shipped())
        while detector.run().rows:
            pass
        return found(stores)


def steps() -> list[dict[str, Any]]:
    """An afternoon of users whose calls are blocked in bursts, between calls that are let out."""
    rng = random.Random(50)
    made: list[dict[str, Any]] = []
    for number in range(EVENTS):
        user = rng.choice(["ann", "ben", "carol", "dave"])
        step: dict[str, Any] = {"user": user, "at": number * 10, "id": f"evt_{number:05}"}
        if rng.random() < 0.7:
            step |= {"reason": "policy", "severity": "high", "tactic": "Exfiltration"}
        else:
            step |= {"verdict": "allow"}
        made.append(step)
    return made


def found(stores: Stores) -> list[Any]:
    """Alerts and incidents, without what chance or the clock gives; every incident says what its alerts say."""
    with stores.control.read() as tx:
        alerts = {a.id: a.draft for a in cases.list_alerts(tx, EVERYTHING, limit=10_000)}
        incidents = []
        for incident in cases.list_incidents(tx, EVERYTHING, limit=10_000):
            members = findings.alerts_of(tx, incident.id)
            assert incident.description == tell(members).description
            assert incident.priority == weigh_alerts(tx, members).score
            incidents.append((incident.description, sorted(m.draft.dedup_key for m in members)))
    drafts = sorted(((d.rule_id, d.dedup_key, d) for d in alerts.values()), key=lambda each: each[:2])
    return [drafts, sorted(incidents)]


@pytest.mark.slow
@pytest.mark.claim("runner-killed")
def test_a_runner_that_is_killed_fifty_times_finds_what_one_that_is_left_alone_finds(tmp_path: Path) -> None:
    events = steps()
    for name in ("alone", "killed"):
        (tmp_path / name).mkdir()
        with open_stores(tmp_path / name) as stores:
            stores.arrive(*events)
    expected = finish(tmp_path / "alone")
    assert len(expected[0]) > 10
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["detection.stores", "watchfloor.detection.runner"])
    rng, stored = random.Random(9), 0
    for number in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        runner = context.Process(target=run, args=(tmp_path / "killed", theirs))
        runner.start()
        theirs.close()
        assert ours.recv() == "ready"
        begun = time.perf_counter()
        for _ in range(rng.randint(0, 1)):
            assert ours.recv() == "slice"
            stored += 1
        # Somewhere in the slice after these: what it is doing then is for chance to say.
        time.sleep(rng.uniform(0, max(0.1, time.perf_counter() - begun)))
        runner.kill()
        runner.join()
        assert runner.exitcode == -signal.SIGKILL, f"it came to its end before it was killed, at {number}"
    assert stored > KILLS // 5
    assert finish(tmp_path / "killed") == expected
