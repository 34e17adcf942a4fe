"""What people may be called by whom they do not control: names and addresses that the guard would trust. Pure.

A directory, or whoever provisions users, passes on what people write about themselves. What looks like an address or an
account's number is no name, and a name to sign in with counts only at one of the organisation's own domains: else
anybody could make a destination known by calling themselves so.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

LONGEST_NAME: Final = 200
_NOT_A_NAME: Final = re.compile(r"[@/\\:]|\.\w|\d{4}")
"""What an address, a host or an account's number has, and the name of a person does not."""


def name_of_person(name: str) -> str:
    """The name of a person; empty for what may be an address or an account's number, which the guard would trust."""
    name = " ".join(name.split())
    return name if 0 < len(name) <= LONGEST_NAME and name.isprintable() and not _NOT_A_NAME.search(name) else ""


def own_upn(upn: str, domains: Collection[str]) -> str:
    """A name to sign in with at one of the organisation's own domains; empty for others."""
    local, at, domain = upn.rpartition("@")
    own = {own.lower().strip(".") for own in domains}
    is_own = any(domain.lower() == one or domain.lower().endswith("." + one) for one in own if one)
    return upn if at and local and is_own and len(upn) <= 320 and upn.isprintable() and " " not in upn else ""
