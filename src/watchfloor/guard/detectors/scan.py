"""``scan``: everything that the detectors see in one text, whatever surface it stands on.

For texts that are no invocation: what a tool gave back, what a tool says of itself, an answer, a prompt, a line on
standard input. Pure and bounded as the detectors are.
"""

from __future__ import annotations

from watchfloor.guard.content import Content
from watchfloor.guard.detectors import DETECTORS, likeness, tool_poisoning
from watchfloor.guard.detectors.catalogue import BY_CATEGORY
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.hit import Surface, signal_of
from watchfloor.guard.detectors.secrets import mask
from watchfloor.model.verdicts import Signal


def scan(text: str, surface: Surface) -> list[Finding]:
    """The findings in ``text``, the most serious first. Paths name the surface; redactions have the empty path."""
    is_users = surface is Surface.USER
    content = Content({}, [] if is_users else [((), text)], [], [], (text,) if is_users else (), 1)
    findings = [finding for detector in DETECTORS for finding in detector.detect(content)]
    if surface is Surface.TOOL_DESCRIPTION:
        findings += [
            Finding(signal_of(tool_poisoning.NAME, hit, text, surface.value, mask), None, True, hit.decoded)
            for hit in tool_poisoning.find(text)
        ]
    if not is_users:
        findings += likeness.detect_in(text, surface.value)
    shown = [
        finding._replace(signal=_at(finding, surface))
        for finding in findings
        if surface in BY_CATEGORY[finding.signal.category].surfaces
    ]
    return sorted(
        shown, key=lambda finding: (-finding.signal.severity.rank, -finding.signal.score, finding.signal.span)
    )


def _at(finding: Finding, surface: Surface) -> Signal:
    signal = finding.signal
    return Signal(
        signal.detector, signal.category, signal.severity, signal.score, surface.value, signal.span, signal.excerpt
    )
