"""What counts as the same value, and where one begins and ends."""

from __future__ import annotations

import pytest

from watchfloor.guard.provenance.words import bare_url, dates, find, fold, is_point, points


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ann@zava.example", "Please write to ann@zava.example."),
        ("ann@zava.example", "To: <ANN@zava.example>, Bo"),
        ("general", "Post it in #general, please"),
        ("report.pdf", "open report.pdf"),
        ("zava.example/docs", "see https://zava.example/docs/"),
    ],
)
def test_a_value_is_found_where_it_stands_alone(value: str, text: str) -> None:
    assert find(fold(value), fold(text)) >= 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ann@zava.example", "ann@zava.example.elsewhere.example"),
        ("ann@zava.example", "joann@zava.example"),
        ("ann@zava.example", "x.ann@zava.example"),
        ("zava.example", "ann@zava.example"),
        ("13", "130 or 2013 or 13th"),
        ("general", "generally"),
    ],
)
def test_a_piece_of_another_value_is_not_found(value: str, text: str) -> None:
    assert find(fold(value), fold(text)) < 0


def test_invisible_characters_width_and_case_make_no_difference() -> None:
    assert fold("Ann\u200b@\uff3a\uff21\uff36\uff21.example\n  now") == "ann@zava.example now"


def test_look_alikes_stay_different() -> None:
    assert fold("\u0430nn@zava.example") != fold("ann@zava.example")


def test_every_kind_of_address_is_recognised_in_running_text() -> None:
    text = (
        "Mail ann@zava.example, open https://a.example/x?y=1. or www.b.example, or bit.ly/abc, pay "
        "GB29NWBK60161331926819, call +49 30 1234567, send to 0x52908400098527886E0F7030069857D2E4169EE7."
    )
    assert list(points(text)) == [
        ("mail", "ann@zava.example"),
        ("url", "https://a.example/x?y=1"),
        ("url", "www.b.example"),
        ("url", "bit.ly/abc"),
        ("iban", "GB29NWBK60161331926819"),
        ("phone", "+49 30 1234567"),
        ("wallet", "0x52908400098527886E0F7030069857D2E4169EE7"),
    ]


def test_ordinary_prose_holds_no_address() -> None:
    assert list(points("On 2026-05-01 we met 3/4 of the team; version 1.2/3 of notes.txt is in docs/notes.")) == []


def test_a_whole_value_is_an_address_or_is_not() -> None:
    assert is_point("ann@zava.example") == "mail"
    assert is_point("write to ann@zava.example") == ""


def test_scheme_and_www_make_no_difference_to_where_a_url_leads() -> None:
    assert bare_url("https://www.a.example/x/") == bare_url("a.example/x")


def test_dates_are_read_however_they_are_written() -> None:
    assert dates(fold("from 2026-05-01 to May 3rd, 4 June and 5th of July")) == {(5, 1), (5, 3), (6, 4), (7, 5)}
    assert dates(fold("maybe 12 people, section 3-4")) == set()
