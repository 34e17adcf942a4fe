"""What the organisation knows by itself, and what only looks like it."""

from __future__ import annotations

import pytest

from watchfloor.guard.provenance.directory import Directory
from watchfloor.guard.provenance.words import fold

KNOWN = Directory(["Ann Miller", "partner@elsewhere.example", "GB29 NWBK 6016 1331 9268 19"], ["zava.example"])


@pytest.mark.parametrize(
    "value",
    [
        "ann miller", "partner@elsewhere.example", "GB29NWBK60161331926819", "anybody@zava.example",
        "bo@mail.zava.example", "https://intranet.zava.example/wiki?page=2", "zava.example:8443/x",
    ],
)  # fmt: skip
def test_names_accounts_and_own_domains_are_known(value: str) -> None:
    assert KNOWN.knows(fold(value))


@pytest.mark.parametrize(
    "value",
    [
        "thief@elsewhere.example", "ann@evilzava.example", "ann@zava.example.elsewhere.example",
        "https://zava.example@elsewhere.example/", "https://elsewhere.example/?to=@zava.example",
        "thief@elsewhere.example,ann@zava.example", "https://zava.example\\@elsewhere.example",
        "https://elsewhere.example/zava.example",
    ],
)  # fmt: skip
def test_what_only_looks_like_the_own_domain_is_not_known(value: str) -> None:
    assert not KNOWN.knows(fold(value))


def test_a_name_stays_known_while_anybody_brings_it() -> None:
    directory = Directory()
    directory.add("Ann")
    directory.add("ann")
    directory.remove("Ann")
    assert directory.knows("ann")
    directory.remove("Ann")
    assert not directory.knows("ann")
