"""Case files: genuine as made, and every change to them shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.storage.audit import Signer
from watchfloor.storage.case_file import verify_case_file, write_case_file

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
SIGNER = Signer(Ed25519PrivateKey.generate())
PARTS = [("incident", {"id": "inc_1", "at": NOON}), ("alert", {"title": "ü \u202e <b>"}), ("event", {"n": 1.5})]


def lines(parts: Any = PARTS) -> list[bytes]:
    return list(write_case_file({"incident": "inc_1"}, parts, SIGNER, NOON))


def test_a_case_file_is_genuine_as_it_was_made() -> None:
    report = verify_case_file(lines(), SIGNER.public_key)
    assert report.is_genuine
    assert report.kinds == {"header": 1, "incident": 1, "alert": 1, "event": 1}
    assert report.header["incident"] == "inc_1"
    assert (report.made_at, report.key) == ("2026-11-03T12:00:00.000+00:00", SIGNER.key_id)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=5), st.data())
def test_whatever_is_in_it_no_byte_can_be_changed(bodies: list[dict[str, str]], data: st.DataObject) -> None:
    made = b"".join(lines([("event", body) for body in bodies]))
    assert verify_case_file(made.splitlines(keepends=True), SIGNER.public_key).is_genuine
    at = data.draw(st.integers(0, len(made) - 2))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != made[at]))
    forged = made[:at] + bytes([other]) + made[at + 1 :]
    if _says_the_same(made, forged):
        return
    assert not verify_case_file(forged.splitlines(keepends=True), SIGNER.public_key).is_genuine


def _says_the_same(made: bytes, forged: bytes) -> bool:
    """White space between members, and the case of an escape's digits, say nothing."""
    try:
        return [json.loads(line) for line in made.splitlines()] == [json.loads(line) for line in forged.splitlines()]
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made: made[:-1], "the seal is missing"),
        (lambda made: made[:1] + made[2:], "does not follow"),
        (lambda made: [made[0], made[2], made[1], *made[3:]], "does not follow"),
        (lambda made: [*made, made[-1]], "stands behind the seal"),
        (lambda made: [*made[:2], b"{}\n", *made[2:]], "cannot be read"),
        (lambda made: [], "the seal is missing"),
        (lambda made: [*made[:2], made[2].replace(b"alert", b"event"), *made[3:]], "was changed"),
        (lambda made: [b"[" * 100_000], "cannot be read"),
    ],
)
def test_what_is_taken_out_added_moved_or_changed_is_named(change: Any, says: str) -> None:
    report = verify_case_file(change(lines()), SIGNER.public_key)
    assert not report.is_genuine
    assert says in report.faults[0]


def test_a_file_that_somebody_else_signed_is_not_genuine() -> None:
    other = Signer(Ed25519PrivateKey.generate())
    report = verify_case_file(list(write_case_file({}, PARTS, other, NOON)), SIGNER.public_key)
    assert report.faults == (f"the seal does not carry the signature of the key {SIGNER.key_id}",)


def test_the_seal_of_one_file_does_not_fit_another() -> None:
    one, two = lines(), lines(PARTS[:2])
    assert not verify_case_file([*one[:-1], two[-1]], SIGNER.public_key).is_genuine
