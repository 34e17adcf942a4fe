"""Detectors: what is in the content? One file each, all listed here, run in this order.

A detector reads the surfaces of an invocation and gives findings; it blocks nothing by itself, policies do. To add one:
a file beside these, a line in ``DETECTORS``, its categories in ``names.CATEGORIES``, tests with benign twins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from watchfloor.guard.content import Content
from watchfloor.guard.detectors import jailbreak, secrets
from watchfloor.guard.detectors.finding import Finding


class Detector(NamedTuple):
    """``detect`` is pure, linear in the size of the content, and total."""

    name: str
    detect: Callable[[Content], list[Finding]]


DETECTORS: Final[tuple[Detector, ...]] = (
    Detector("jailbreak", jailbreak.detect),
    Detector("secrets", secrets.detect),
)
