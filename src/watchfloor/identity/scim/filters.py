"""Filters of SCIM, as far as clients need them: equality, joined by ``and``. Pure. RFC 7644, section 3.4.2.2."""

from __future__ import annotations

import json
import re
from typing import Final

from watchfloor.identity.scim.documents import CORE, GROUP, ScimRefused

_EQUAL: Final = re.compile(
    r"\s*([A-Za-z][\w.:$-]*)\s+eq\s+(\"(?:[^\"\\]|\\.)*\"|true|false)\s*(?:(and)\s|$)", re.IGNORECASE
)
_LONGEST: Final = 2000


def read(text: str, allowed: frozenset[str]) -> dict[str, str | bool]:
    """What is asked for, by attribute in lower case. Raises ``ScimRefused`` for every other filter."""
    found: dict[str, str | bool] = {}
    position, is_open = 0, True
    while is_open:
        match = _EQUAL.match(text, position) if len(text) <= _LONGEST else None
        if match is None:
            raise ScimRefused(400, 'Filters are of the form: attribute eq "value", joined by and.', "invalidFilter")
        name = match[1].removeprefix(f"{CORE}:").removeprefix(f"{GROUP}:").lower()
        if name not in allowed:
            raise ScimRefused(400, f"There is no filter by {match[1][:80]}.", "invalidFilter")
        try:
            value = json.loads(match[2] if match[2].startswith('"') else match[2].lower())
        except ValueError:
            raise ScimRefused(400, "The value of the filter cannot be read.", "invalidFilter") from None
        if isinstance(value, str) and not value.replace("\ufeff", "").isprintable():
            raise ScimRefused(400, "The value of the filter holds what does not print.", "invalidFilter")
        if (name == "active") is not isinstance(value, bool) or found.get(name, value) != value:
            raise ScimRefused(400, f"The filter by {match[1][:80]} cannot be met.", "invalidFilter")
        found[name] = value
        position, is_open = match.end(), match[3] is not None
    return found
