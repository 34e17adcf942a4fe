"""Encoded payloads: passages that say, once decoded, what no plain text would get past a reader.

Data is encoded all day (attachments, tokens, images), so an encoded passage is nothing by itself. It counts when what it
says is an attempt on the agent (the phrases of ``jailbreak``), a command for a shell, or a link that carries data.
"""

from __future__ import annotations

import re
from typing import Final

from watchfloor.guard.detectors import decode, jailbreak, urls
from watchfloor.guard.detectors.hit import Hit
from watchfloor.model.verdicts import Severity

NAME: Final = "encoded_payload"

_COMMAND: Final = re.compile(
    r"(?i)\b(?:curl|wget|iwr|invoke-webrequest)\b[^\n]{0,200}(?:\|\s{0,3}(?:ba|z)?sh\b|\|\s{0,3}iex\b|-o\s|--upload-file|\s-d\s{0,2}@|--data)"
    r"|/dev/tcp/\d|\bnc(?:at)?\s+-[a-z]{0,4}e\b|\brm\s+-rf?\s+[/~*]|\bpowershell(?:\.exe)?\s+-(?:e|enc|nop|w)"
    r"|\b(?:base64\s+-d|xxd\s+-r)\b[^\n]{0,60}\|\s{0,3}(?:ba)?sh|\bimport os\b[^\n]{0,80}\bsystem\(|\bexec\(\s{0,2}(?:base64|__import__)"
    r"|<script\b[^>]{0,80}>|\bcat\s+(?:~/\.ssh/|/etc/(?:passwd|shadow)|~/\.aws/)"
)


def may_hold(text: str) -> bool:
    """As ``decode``."""
    return decode.may_hold_code(text)


def find(text: str) -> list[Hit]:
    """One hit for each encoded passage that says something of the kind."""
    hits: list[Hit] = []
    covered: list[tuple[int, int]] = []
    for reading in decode.readings(text):
        if reading.span in covered:
            continue
        what, score = _meant(reading)
        if what:
            covered.append(reading.span)
            how = " in ".join(reading.how)
            hits.append(Hit(NAME, Severity.HIGH, score, reading.span, f"{how}, {what}: {reading.text}", reading.text))
    return hits


def _meant(reading: decode.Reading) -> tuple[str, float]:
    """What a reading is after, and how sure that is; ``("", 0)`` where it is after nothing."""
    if reading.how == ("percent",) or reading.how == ("entities",):
        # Ordinary clothing of links and web pages: only phrases count, and no links.
        kinds = {found.category for found in jailbreak.find(reading.text)} - {jailbreak.MENTION}
        return (min(kinds), 0.85) if kinds else ("", 0.0)
    kinds = {found.category for found in jailbreak.find(reading.text)} - {jailbreak.MENTION}
    if kinds:
        return min(kinds), 0.95
    if _COMMAND.search(reading.text):
        return "a command", 0.9
    if reading.how[-1] not in ("percent", "entities") and any(
        h.category == urls.CARRIES for h in urls.find(reading.text)
    ):
        return "a link that carries data", 0.85
    return "", 0.0
