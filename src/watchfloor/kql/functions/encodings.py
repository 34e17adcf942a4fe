"""Base64, compression and hashes.

A hash of text is of its UTF-8 bytes; one of another value is of its text for MD5 and SHA, of its bytes for xxHash64.
What cannot be decoded is '' as a string and null as anything else. Decompression stops at ``MAX_TEXT``.
"""

from __future__ import annotations

import binascii
import hashlib
import struct
import uuid
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Final

from watchfloor.kql.functions.convert import decimal_text
from watchfloor.kql.functions.spec import REFUSED, scalar
from watchfloor.kql.functions.strings import MAX_TEXT

# -- base64 -----------------------------------------------------------------------------------------------------------


def _decoded(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _text(data: bytes | None) -> str:
    try:
        return "" if data is None else data.decode("utf-8")
    except UnicodeDecodeError:
        return ""


@scalar(
    "base64_encode_tostring", "string", "string", page="base64-encode-tostring-function",
    duckdb="to_base64(encode($a))", aliases=("base64_encodestring",),
)  # fmt: skip
def base64_encode_tostring(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")


@scalar(
    "base64_decode_tostring", "string", "string", page="base64-decode-tostring-function",
    aliases=("base64_decodestring",),
)  # fmt: skip
def base64_decode_tostring(text: str) -> str:
    return _text(_decoded(text))


@scalar("base64_decode_toarray", "string", "dynamic", page="base64-decode-toarray-function")
def base64_decode_toarray(text: str) -> list[int] | None:
    data = _decoded(text)
    return None if data is None else list(data)


@scalar("base64_encode_fromarray", "dynamic", "string", page="base64-encode-fromarray-function")
def base64_encode_fromarray(array: Any) -> str:
    if not isinstance(array, list):
        return ""
    if not all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= 255 for item in array):
        return ""
    return b64encode(bytes(array)).decode("ascii")


@scalar("base64_encode_fromguid", "guid", "string", page="base64-encode-fromguid-function")
def base64_encode_fromguid(guid: str) -> str:
    return b64encode(uuid.UUID(guid).bytes_le).decode("ascii")


@scalar("base64_decode_toguid", "string", "guid", page="base64-decode-toguid-function")
def base64_decode_toguid(text: str) -> str | None:
    data = _decoded(text)
    return None if data is None or len(data) != 16 else str(uuid.UUID(bytes_le=data))


@scalar("new_guid", "", "guid", page="new-guid-function", duckdb="CAST(uuid() AS VARCHAR)", is_volatile=True)
def new_guid() -> str:
    return str(uuid.uuid4())


# -- compression ------------------------------------------------------------------------------------------------------


def _decompressed(data: bytes | None, window: int) -> str:
    if not data:
        return ""
    machine = zlib.decompressobj(window)
    try:
        found = machine.decompress(data, MAX_TEXT)
    except zlib.error:
        return ""
    if machine.unconsumed_tail:
        raise ValueError("the decompressed text is too long")
    return _text(found) if machine.eof else ""


_SHORT: Final = 32
"""Fewer bytes than this are stored as they are, behind a header."""


def _deflated(data: bytes) -> bytes:
    machine = zlib.compressobj(0 if len(data) < _SHORT else 6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return machine.compress(data) + machine.flush()


@scalar("zlib_compress_to_base64_string", "string", "string", page="zlib-base64-compress-function")
def zlib_compress_to_base64_string(text: str) -> str:
    data = text.encode()
    return b64encode(b"\x78\x01" + _deflated(data) + struct.pack(">I", zlib.adler32(data))).decode("ascii")


@scalar("zlib_decompress_from_base64_string", "string", "string", page="zlib-base64-decompress-function")
def zlib_decompress_from_base64_string(text: str) -> str:
    return _decompressed(_decoded(text), zlib.MAX_WBITS)


@scalar("gzip_compress_to_base64_string", "string", "string", page="gzip-base64-compress")
def gzip_compress_to_base64_string(text: str) -> str:
    data = text.encode()
    header = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return b64encode(header + _deflated(data) + struct.pack("<II", zlib.crc32(data), len(data))).decode("ascii")


@scalar("gzip_decompress_from_base64_string", "string", "string", page="gzip-base64-decompress")
def gzip_decompress_from_base64_string(text: str) -> str:
    data = _decoded(text)
    if not data or data[:3] != b"\x1f\x8b\x08" or data[3:4] != b"\0":
        return ""
    return _decompressed(data, zlib.MAX_WBITS + 16)


# -- hashes of text ---------------------------------------------------------------------------------------------------


def _digest(name: str, page: str, algorithm: Callable[[bytes], Any], duckdb: str) -> None:
    def definition(text: str) -> str:
        return str(algorithm(text.encode()).hexdigest()) if text else ""

    scalar(name, "text", "string", page=page, duckdb=f"CASE WHEN $a = '' THEN '' ELSE {duckdb}($a) END")(definition)


_digest("hash_md5", "hash-md5-function", hashlib.md5, "md5")
_digest("hash_sha1", "hash-sha1-function", hashlib.sha1, "sha1")
_digest("hash_sha256", "hash-sha256-function", hashlib.sha256, "sha256")

# -- xxHash64 ---------------------------------------------------------------------------------------------------------

_MASK: Final = 2**64 - 1
_PRIMES: Final = (
    11400714785074694791,
    14029467366897019727,
    1609587929392839161,
    9650029242287828579,
    2870177450012600261,
)


def _rotated(value: int, by: int) -> int:
    return ((value << by) | (value >> (64 - by))) & _MASK


def _round(state: int, lane: int) -> int:
    return _rotated((state + lane * _PRIMES[1]) & _MASK, 31) * _PRIMES[0] & _MASK


def xxhash64(data: bytes) -> int:
    """The hash of ``data`` by xxHash64 with seed 0, as a long."""
    first, second, third, fourth, fifth = _PRIMES
    at, length = 0, len(data)
    if length >= 32:
        lanes = [(first + second) & _MASK, second, 0, -first & _MASK]
        while at + 32 <= length:
            lanes = [_round(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, at), strict=True)]
            at += 32
        state = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            state = ((state ^ _round(0, lane)) * first + fourth) & _MASK
    else:
        state = fifth
    state = (state + length) & _MASK
    while at + 8 <= length:
        word = int.from_bytes(data[at : at + 8], "little")
        state = (_rotated(state ^ _round(0, word), 27) * first + fourth) & _MASK
        at += 8
    if at + 4 <= length:
        word = int.from_bytes(data[at : at + 4], "little")
        state = (_rotated(state ^ (word * first & _MASK), 23) * second + third) & _MASK
        at += 4
    for byte in data[at:]:
        state = _rotated(state ^ (byte * fifth & _MASK), 11) * first & _MASK
    for shift, factor in ((33, second), (29, third)):
        state = (state ^ (state >> shift)) * factor & _MASK
    state ^= state >> 32
    return state - 2**64 if state >> 63 else state


_BYTES: Final[dict[str, Callable[[Any], bytes]]] = {
    "string": lambda text: text.encode(),
    "bool": lambda value: bytes([value]),
    "datetime": lambda ticks: struct.pack("<q", ticks),
    "decimal": lambda value: decimal_text(value).encode(),
    "guid": lambda guid: uuid.UUID(guid).bytes_le,
    "int": lambda value: struct.pack("<i", value),
    "long": lambda value: struct.pack("<q", value),
    "real": lambda value: struct.pack("<d", value),
    "timespan": lambda ticks: struct.pack("<q", ticks),
}


def _hash_of(as_bytes: Callable[[Any], bytes]) -> Callable[..., int | None]:
    def definition(value: Any, modulus: int | None = None) -> int | None:
        found = xxhash64(as_bytes(value))
        if modulus is None:
            return found
        return found % modulus if modulus > 0 else None

    return definition


for _type, _as_bytes in _BYTES.items():
    scalar("hash", f"{_type} integer?", "long", page="hash-function", aliases=("hash_xxhash64",))(_hash_of(_as_bytes))

for _name in ("hash_combine", "hash_many"):
    REFUSED[_name] = (
        "how it combines hashes is not published; hash or hash_sha256 of strcat_delim() tells rows apart as well"
    )
