"""Detectors: what is in the content? One file each, all listed here, run in this order.

A detector reads the surfaces of an invocation and gives findings; it blocks nothing by itself, policies do. To add one:
a file beside these, a line in ``DETECTORS``, its categories in ``names.CATEGORIES`` and ``catalogue.DETECTIONS``, tests
with benign twins. What detectors see in a single text, ``scan.scan`` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from watchfloor.guard.content import Content
from watchfloor.guard.detectors import encoded, hidden, hit, jailbreak, likeness, secrets, sensitive, urls
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.hit import TextDetector, over


class Detector(NamedTuple):
    """``detect`` is pure, linear in the size of the content, and total."""

    name: str
    detect: Callable[[Content], list[Finding]]


_EVERYTHING: Final = 1_048_576
"""Characters: data protection leaves nothing out that the guard is prepared to read."""


def _over(name: str, may_hold: Callable[[str], bool], find: Callable[[str], list[hit.Hit]], room: int) -> Detector:
    return Detector(name, over(TextDetector(name, may_hold, find), secrets.mask, room))


DETECTORS: Final[tuple[Detector, ...]] = (
    Detector(jailbreak.NAME, jailbreak.detect),
    Detector(likeness.NAME, likeness.detect),
    _over(hidden.NAME, hidden.may_hold, hidden.find, jailbreak.SCANNED),
    _over(encoded.NAME, encoded.may_hold, encoded.find, jailbreak.SCANNED),
    _over("urls", urls.may_hold, urls.find, jailbreak.SCANNED),
    Detector(secrets.NAME, secrets.detect),
    _over(sensitive.NAME, sensitive.may_hold, sensitive.find, _EVERYTHING),
)
