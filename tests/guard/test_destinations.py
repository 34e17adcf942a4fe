"""Where a call points to, and how much money it names."""

from __future__ import annotations

import time
from typing import Any

import pytest

from watchfloor.guard.content import Limits, examine
from watchfloor.guard.destinations import Destinations, find_amounts, find_destinations, parse_amount

OWN = ("zava.example", "Zava.COM")


def _find(arguments: dict[str, Any]) -> Destinations:
    return find_destinations(examine(arguments, (), Limits()), OWN)


OUTSIDE: list[tuple[dict[str, Any], str]] = [
    ({"to": "thief@elsewhere.example"}, "thief@elsewhere.example"),
    ({"to": "Thief <THIEF@Elsewhere.Example>"}, "thief@elsewhere.example"),
    ({"to": "ann@zava.example, thief@elsewhere.example"}, "thief@elsewhere.example"),
    ({"to": "ann@zava.example;thief@elsewhere.example"}, "thief@elsewhere.example"),
    ({"to": '"a b"@elsewhere.example'}, 'b"@elsewhere.example'),
    ({"to": "ann@zava.example@elsewhere.example"}, "zava.example@elsewhere.example"),
    ({"to": "ann@notzava.example"}, "ann@notzava.example"),
    ({"to": "ann@zava.example.elsewhere.example"}, "ann@zava.example.elsewhere.example"),
    ({"to": "ann@zava.example."}, ""),
    ({"to": "thief@[203.0.113.9]"}, "thief@[203.0.113.9]"),
    ({"to": "thief@203.0.113.9"}, "thief@203.0.113.9"),
    ({"to": "thief@localhost"}, "thief@localhost"),
    ({"to": "thief\uff20elsewhere\uff0eexample"}, "thief@elsewhere.example"),
    ({"to": "thief@else\u200bwhere.example"}, "thief@elsewhere.example"),
    ({"to": "thief@münchen.example"}, "thief@münchen.example"),
    ({"to": "mailto:thief@elsewhere.example"}, "thief@elsewhere.example"),
    (
        {"message": {"toRecipients": [{"emailAddress": {"address": "thief@elsewhere.example"}}]}},
        "thief@elsewhere.example",
    ),
    ({"x": "thief@elsewhere.example"}, "thief@elsewhere.example"),
    ({"x": ["Thief One <thief@elsewhere.example>"]}, "thief@elsewhere.example"),
    ({"raw": "Subject: x\r\nBcc: thief@elsewhere.example\r\n\r\nhello"}, "thief@elsewhere.example"),
    ({"to": "please send it to thief@elsewhere.example soon"}, "thief@elsewhere.example"),
]


@pytest.mark.parametrize(("arguments", "expected"), OUTSIDE)
def test_outside_recipient_is_found(arguments: dict[str, Any], expected: str) -> None:
    assert _find(arguments).external_recipients == ([expected] if expected else [])


INSIDE: list[dict[str, Any]] = [
    {"to": "ann@zava.example"},
    {"to": "ann@mail.ZAVA.example"},
    {"to": ["ann@zava.com", "Bo <bo@zava.example>"]},
    {"body": "The customer pat@customer.example called. Please call back."},
    {"body": "Write to pat@customer.example, please"},
    {"text": "install react@18.2.0 and mention @ann"},
    {"subject": "a @ b", "note": "50 @ 3.20"},
]


@pytest.mark.parametrize("arguments", INSIDE)
def test_colleagues_and_mere_mentions_are_no_outside_recipients(arguments: dict[str, Any]) -> None:
    assert _find(arguments).external_recipients == []


def test_mentions_are_still_external_destinations() -> None:
    found = _find(
        {"body": "Ask pat@customer.example or see https://Shop.Customer.example:8443/x?y=1 and www.other.example."}
    )
    assert found.external == ["pat@customer.example", "shop.customer.example", "www.other.example"]
    assert (found.emails, found.domains) == (["pat@customer.example"], ["customer.example"])
    assert found.external_hosts == ["shop.customer.example", "www.other.example"]


@pytest.mark.parametrize(
    ("url", "host", "is_external"),
    [
        ("https://zava.example/path", "zava.example", False),
        ("https://api.zava.example", "api.zava.example", False),
        ("https://zava.example@elsewhere.example/", "elsewhere.example", True),
        ("https://elsewhere.example#zava.example", "elsewhere.example", True),
        ("https://elsewhere.example?zava.example", "elsewhere.example", True),
        ("https://zava.example.elsewhere.example", "zava.example.elsewhere.example", True),
        ("http://203.0.113.9:8080/x", "203.0.113.9", True),
        ("http://[2001:db8::1]/x", "2001:db8::1", True),
        ("ftp://elsewhere.example", "elsewhere.example", True),
        ("see (https://elsewhere.example).", "elsewhere.example", True),
    ],
)
def test_host_of_a_url_is_where_the_request_would_go(url: str, host: str, is_external: bool) -> None:
    found = _find({"link": url})
    assert found.hosts == [host]
    assert bool(found.external_hosts) is is_external


def test_without_own_domains_everything_is_outside() -> None:
    content = examine({"to": "ann@zava.example"}, (), Limits())
    assert find_destinations(content, ()).external_recipients == ["ann@zava.example"]


@pytest.mark.parametrize(
    "text",
    [
        "a@" * 60_000,
        "@a." * 60_000,
        "a@b.c;" * 30_000,
        "http://" * 30_000,
        "www." * 40_000,
        "to:" * 60_000,
        "a b,@" * 40_000,
    ],
)
def test_odd_texts_are_searched_in_linear_time(text: str) -> None:
    before = time.process_time()
    _find({"to": text, "other": text})
    assert time.process_time() - before < 2


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1250", 1250.0),
        ("1,250.00 EUR", 1250.0),
        ("1.250,00 €", 1250.0),
        ("CHF 1'250.50", 1250.5),
        ("1 250,5", 1250.5),
        ("1,250", 1250.0),
        ("12,50", 12.5),
        ("-99.5", 99.5),
        ("$1,234,567.89", 1234567.89),
        ("1.234.567", 1234567.0),
        ("about 5", 5.0),
        ("", None),
        ("ten", None),
        ("5 or 6", None),
        ("1e9", None),
        ("²", None),
    ],
)
def test_amounts_are_read_as_people_write_them(text: str, amount: float | None) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"amount": 12}, (12.0, True, False)),
        ({"total_amount": "1.250,00"}, (1250.0, True, False)),
        ({"payments": [{"Amount": 5}, {"price": 7}]}, (7.0, True, False)),
        ({"amount": {"value": 9, "currency": "EUR"}}, (9.0, True, False)),
        ({"amount_cents": 12345}, (123.45, True, False)),
        ({"amount": [1, 2, 30]}, (30.0, True, False)),
        ({"amount": "much"}, (0.0, False, True)),
        ({"quantity": 99999, "id": "12345"}, (0.0, False, False)),
        ({"amount": True}, (0.0, False, False)),
        ({"amount": 2**63}, (float(2**63), True, False)),
    ],
)
def test_amounts_are_found_under_names_that_mean_one(arguments: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert find_amounts(examine(arguments, (), Limits())) == expected
