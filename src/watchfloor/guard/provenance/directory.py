"""What the organisation knows by itself: its people, its domains, accounts and other names of its own.

A value from here is trusted whoever brought it up. The gateway fills it from the projection; lookups cost the same
whatever its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from watchfloor.guard.provenance.words import bare_url, fold, squeeze

_PLACE: Final = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,15}://)?(?:[\w.+%-]{1,64}@)?((?:[\w-]{1,63}\.){1,8}[\w-]{1,63})(?::\d{1,5})?(?:[/?#][^\\]*)?"
)
"""One address or URL and nothing else; the group is the host. A backslash is where readers of URLs disagree."""


class Directory:
    """Known names. ``add`` and ``remove`` count, so that a name stays while anybody brings it."""

    __slots__ = ("_domains", "_names")

    def __init__(self, names: Iterable[str] = (), domains: Iterable[str] = ()) -> None:
        self._names: dict[str, int] = {}
        self._domains: tuple[str, ...] = ()
        self.use_domains(domains)
        for name in names:
            self.add(name)

    def use_domains(self, domains: Iterable[str]) -> None:
        """The organisation's own domains, in place of those before."""
        self._domains = tuple("." + domain.lower().strip(".") for domain in domains if domain.strip("."))

    def add(self, name: str) -> None:
        """Know ``name``: an address, an account, a person, a channel."""
        for key in _keys(name):
            self._names[key] = self._names.get(key, 0) + 1

    def remove(self, name: str) -> None:
        """Undo one ``add``."""
        for key in _keys(name):
            left = self._names.get(key, 0) - 1
            if left > 0:
                self._names[key] = left
            else:
                self._names.pop(key, None)

    def knows(self, folded: str) -> bool:
        """Whether the folded value is a name that is known, or an address or host in one of the own domains."""
        if folded in self._names or bare_url(folded) in self._names:
            return True
        place = _PLACE.fullmatch(folded) if self._domains else None
        if place is not None and f".{place[1]}".endswith(self._domains):
            return True
        return any(mark.isdigit() for mark in folded) and squeeze(folded) in self._names


def _keys(name: str) -> set[str]:
    folded = fold(name)
    keys = {folded, bare_url(folded)}
    if sum(map(str.isdigit, folded)) >= 6 and "@" not in folded:
        keys.add(squeeze(folded))  # accounts and phone numbers, however they are spaced
    return keys - {""}
