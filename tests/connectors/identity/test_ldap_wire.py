"""LDAP's bytes: what we write is read back by an independent reader's rules, what we read never breaks us."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.connectors.identity import ldap_wire as wire


def tlv(tag: int, body: bytes) -> bytes:
    """As a server may write it: with the length in four bytes, which is allowed."""
    return bytes((tag, 0x84)) + len(body).to_bytes(4) + body


def entry(number: int, dn: str, attributes: dict[str, list[bytes]]) -> bytes:
    """An entry as another server would write it."""
    items = b"".join(
        tlv(0x30, tlv(0x04, name.encode()) + tlv(0x31, b"".join(tlv(0x04, v) for v in values)))
        for name, values in attributes.items()
    )
    return tlv(0x30, tlv(0x02, number.to_bytes(5)) + tlv(0x64, tlv(0x04, dn.encode()) + tlv(0x30, items)))


names = st.text("abcdefgh", min_size=1, max_size=8)


@given(
    st.integers(0, 2**31), st.text(max_size=40), st.dictionaries(names, st.lists(st.binary(max_size=300), max_size=4))
)
def test_an_entry_is_read_whatever_is_in_it(number: int, dn: str, attributes: dict[str, list[bytes]]) -> None:
    dn = dn.encode("utf-8", "replace").decode()
    message = entry(number, dn, attributes)
    assert wire.frame(message) == len(message) == wire.frame(message + b"more")
    found = wire.parse(message)
    assert (found.id, found.tag, found.dn) == (number, wire.SEARCH_ENTRY, dn)
    assert found.attributes == {name: tuple(values) for name, values in attributes.items()}


@given(st.binary(max_size=200))
def test_noise_is_no_message_and_nothing_worse(noise: bytes) -> None:
    for data in (noise, b"\x30" + noise, tlv(0x30, noise), tlv(0x30, tlv(0x02, b"\1") + noise)):
        try:
            wire.frame(data)
            wire.parse(data)
        except wire.BadMessage:
            pass


@given(st.data())
def test_a_message_that_was_tampered_with_is_read_or_refused(data: st.DataObject) -> None:
    message = bytearray(entry(7, "uid=griffin", {"uid": [b"griffin"], "mail": [b"a", b"b"]}))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wire.BadMessage):
        wire.parse(bytes(message[: data.draw(st.integers(0, len(message)))]))


def test_a_message_that_would_be_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(wire.BadMessage, match="more than"):
        wire.frame(b"\x30\x84\x7f\xff\xff\xff")


def test_a_result_tells_code_text_and_the_next_page() -> None:
    paged = tlv(0x30, tlv(0x02, b"\0") + tlv(0x04, b"next"))
    control = tlv(0x30, tlv(0x04, b"1.2.840.113556.1.4.319") + tlv(0x04, paged))
    done = tlv(0x65, tlv(0x0A, b"\x04") + tlv(0x04, b"") + tlv(0x04, b"size limit"))
    found = wire.parse(tlv(0x30, tlv(0x02, b"\x05") + done + tlv(0xA0, control)))
    assert (found.id, found.code, found.text, found.cookie) == (5, 4, "size limit", b"next")


@given(st.text(max_size=30))
def test_a_value_in_a_filter_stays_a_value(value: str) -> None:
    """``*)(uid=*`` and the like have no syntax to break out into: the value stands there byte by byte."""
    value = value.encode("utf-8", "replace").decode()
    asked = wire.search(1, "dc=x", wire.All((wire.Equal("uid", value),)), ("uid",), page=10)
    encoded = value.encode()
    if len(encoded) < 0x80:
        assert b"\x04\x03uid\x04" + bytes((len(encoded),)) + encoded in asked


def test_numbers_are_written_with_their_sign() -> None:
    assert wire.unbind(128)[2:6] == b"\x02\x02\x00\x80"
    assert wire.unbind(127)[2:5] == b"\x02\x01\x7f"
