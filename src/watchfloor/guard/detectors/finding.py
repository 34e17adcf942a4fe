"""What a detector hands back: a signal, and where it can, the redaction that would remove what it saw."""

from __future__ import annotations

from typing import NamedTuple

from watchfloor.model.verdicts import Redaction, Signal


class Finding(NamedTuple):
    """``redaction`` is ``None`` where nothing can be replaced: in the user's words and in object keys.

    ``decoded`` is what an encoded passage says, for those who may read contents; it is never stored as metadata.
    """

    signal: Signal
    redaction: Redaction | None
    in_arguments: bool
    decoded: str = ""
