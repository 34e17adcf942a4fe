"""Errors that cross a room's wall.

    WatchfloorError
    ├── InputError       what somebody sent or wrote is wrong: says where, and how to mend it
    │   ├── NotFound     the thing named does not exist
    │   └── Conflict     it exists, but not in a state that allows this
    ├── Denied           the caller may not do this
    └── Unavailable      a part we depend on does not answer, is full or is too old: try again later
        ├── PastLimit    what was asked takes more time, rows or bytes than it may
        └── Corrupt      stored data fails its own checks

A verdict of the guard is a value, never one of these.
"""

from __future__ import annotations


class WatchfloorError(Exception):
    """Base of every error that Watchfloor raises on purpose. ``str(error)`` is fit to show to its user."""

    code = "error"


class InputError(WatchfloorError):
    """What was sent is wrong.

    ``where`` names the place (``agents[3].tools[0].server``, ``line 4``); ``remedy`` says what to do.
    """

    code = "invalid_input"

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        self.message, self.where, self.remedy = message, where, remedy
        super().__init__((f"{where}: " if where else "") + message + (f" {remedy}" if remedy else ""))


class NotFound(InputError):
    """The thing named does not exist."""

    code = "not_found"


class Conflict(InputError):
    """The thing exists, but its state does not allow this."""

    code = "conflict"


class Denied(WatchfloorError):
    """The caller may not do this."""

    code = "denied"


class Unavailable(WatchfloorError):
    """A part that this needs does not answer, is full or too old. Nothing was done; trying again may work."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class PastLimit(Unavailable):
    """What was asked takes more time, rows or bytes than it may: ask for less."""

    code = "past_limit"


class Corrupt(Unavailable):
    """Stored data fails its own checks (magic, checksum, hash chain)."""

    code = "corrupt"
