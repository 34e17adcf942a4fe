"""Every entry of the catalogue is found through a door, and its twin goes on unhindered."""

from __future__ import annotations

import pytest

from gateway.catalogue import Outcome, outcomes
from gateway.world import World
from watchfloor.guard.detectors.catalogue import DETECTIONS


@pytest.mark.claim("catalogue-through-doors")
async def test_each_attack_is_on_record_and_its_twin_raises_nothing_and_goes_on(world: World) -> None:
    found = await outcomes(world)
    assert {outcome.detection for outcome in found} == {detection.id for detection in DETECTIONS}

    def named(chosen: list[Outcome]) -> list[tuple[str, str]]:
        return [(outcome.detection, outcome.surface.value) for outcome in chosen]

    assert named([outcome for outcome in found if not outcome.is_found]) == []
    assert named([outcome for outcome in found if outcome.is_false_alert]) == []
    assert named([outcome for outcome in found if outcome.twin.is_stopped]) == []
