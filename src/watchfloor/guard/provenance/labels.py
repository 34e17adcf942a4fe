"""The words of provenance: where a value came from, what an argument is for, what that means for the call.

Enums only. ``rules.py`` says which label is good enough for which role; ``trace.py`` finds the labels.
"""

from __future__ import annotations

from enum import StrEnum


class Label(StrEnum):
    """The most trusted place where a value was found, most trusted first.

    Positive provenance: a label above ``NONE`` is earned by being found, so a value that was decoded, rewritten or put
    together on the way has none, whatever an attacker did to it.
    """

    USER = "user"  # the user said it
    DIRECTORY = "directory"  # the organisation knows it: its people, domains, accounts, and fields an admin trusts
    FIELD = "field"  # it is the whole of a short record field of a tool's result
    NAMED = "named"  # it stands in running text that the user asked for by name
    FREE = "free"  # it stands in running text that anybody may have written
    NONE = "none"  # it was found nowhere
    UNSEEN = "unseen"  # it was found nowhere, and part of the conversation could not be looked at


class Role(StrEnum):
    """What an argument is for."""

    DESTINATION = "destination"
    SECRET = "secret"  # noqa: S105 (the name of a role)
    ID = "id"
    TIME = "time"
    CONTENT = "content"
    AMOUNT = "amount"
    PATH = "path"
    ENTITY = "entity"


class Strictness(StrEnum):
    """How much a tool asks of its arguments; ``careful`` unless an administrator says otherwise."""

    BALANCED = "balanced"
    CAREFUL = "careful"
    STRICT = "strict"


class Outcome(StrEnum):
    """What the origins of a call's arguments suggest; a policy makes a hold or a block of it."""

    ALLOW = "allow"
    ASK = "ask"
    REFUSE = "refuse"

    @property
    def rank(self) -> int:
        """0 (allow) to 2 (refuse)."""
        return _RANK[self]


_RANK = {Outcome.ALLOW: 0, Outcome.ASK: 1, Outcome.REFUSE: 2}
