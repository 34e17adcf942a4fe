"""Functions on IPv4 and IPv6 addresses.

An address may carry a prefix length (``10.1.2.3/8``): then it stands for the network that begins with those bits. Two
addresses are compared by as many leading bits as the shortest prefix among them has. IPv4 addresses are IPv6 ones below
``::ffff:0:0/96``, and a prefix behind a dotted address counts the bits of IPv4. What is no address gives null.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Final

from watchfloor.kql import ir
from watchfloor.kql.functions.spec import Template, scalar
from watchfloor.kql.functions.strings import constant

_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DOTTED: Final = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_IPV4: Final = re.compile(rf"\s*({_DOTTED})(?:/([0-9]{{1,3}}))?\s*", re.ASCII)
_IPV6: Final = re.compile(r"\s*([0-9a-fA-F:.]{2,45})(?:%[^/\s]*)?(?:/([0-9]{1,3}))?\s*", re.ASCII)
_FOUND_IPV4: Final = re.compile(rf"(?<![^\W_])({_DOTTED})(?![^\W_])")
_IPV4_PREFIX: Final = re.compile(rf"(?:{_OCTET}\.){{1,3}}|{_DOTTED}", re.ASCII)

_MAPPED: Final = 0xFFFF << 32
"""What stands before the bits of an IPv4 address in an IPv6 one."""

_PRIVATE: Final = ((0x0A000000, 8), (0xAC100000, 12), (0xC0A80000, 16))


def _mask(bits: int, prefix: int) -> int:
    return (1 << bits) - (1 << (bits - prefix))


def parse_v4(text: str) -> tuple[int, int] | None:
    """The bits and the length of the prefix of an IPv4 address; not masked yet."""
    match = _IPV4.fullmatch(text)
    if match is None:
        return None
    address = 0
    for octet in match.group(1).split("."):
        address = address << 8 | int(octet)
    prefix = 32 if match.group(2) is None else int(match.group(2))
    return (address, prefix) if prefix <= 32 else None


def parse_v6(text: str) -> tuple[int, int] | None:
    """The bits and the length of the prefix of an IPv6 or IPv4 address; not masked yet."""
    if (parsed := parse_v4(text)) is not None:
        return _MAPPED | parsed[0], parsed[1] + 96
    match = _IPV6.fullmatch(text)
    if match is None:
        return None
    try:
        address = int(ipaddress.IPv6Address(match.group(1)))
    except ValueError:
        return None
    longest = 32 if "." in match.group(1) else 128
    prefix = longest if match.group(2) is None else int(match.group(2))
    return (address, prefix + 128 - longest) if prefix <= longest else None


def network_v4(text: str) -> tuple[int, int] | None:
    """The network that an IPv4 address stands for: its first address and the length of its prefix."""
    parsed = parse_v4(text)
    return None if parsed is None else (parsed[0] & _mask(32, parsed[1]), parsed[1])


def network_v6(text: str) -> tuple[int, int] | None:
    """The same for IPv6 and IPv4. ``::1.2.3.4`` counts as the IPv4 address here."""
    parsed = parse_v6(text)
    if parsed is None:
        return None
    address, prefix = parsed
    if "." in text and address >> 32 == 0:
        address |= _MAPPED
    return address & _mask(128, prefix), prefix


def _compared(left: tuple[int, int] | None, right: tuple[int, int] | None, prefix: int, bits: int) -> int | None:
    if left is None or right is None or not 0 <= prefix <= bits:
        return None
    mask = _mask(bits, min(left[1], right[1], prefix))
    first, second = left[0] & mask, right[0] & mask
    return (first > second) - (first < second)


def _is_in(address: tuple[int, int] | None, network: tuple[int, int] | None, bits: int) -> bool | None:
    if address is None or network is None:
        return None
    return address[0] & _mask(bits, network[1]) == network[0]


def _listed(values: Sequence[Any]) -> list[str]:
    """The strings of a list of strings and dynamic arrays."""
    found: list[Any] = []
    for value in values:
        found.extend(value if isinstance(value, list) else [value])
    return [value for value in found if isinstance(value, str)]


# -- in SQL -----------------------------------------------------------------------------------------------------------

_OCTETS: Final = [f"TRY_CAST(split_part($a, '.', {number}) AS BIGINT)" for number in (1, 2, 3, 4)]
_NUMBER: Final = " + ".join(f"{octet} * {256 ** (3 - at)}" for at, octet in enumerate(_OCTETS))


def _where_plain(text: str, values: dict[str, Any] | None = None) -> Template:
    """``text`` where ``$a`` is an IPv4 address and nothing else; the routine does those with a prefix or blanks."""
    return Template(
        f"CASE WHEN regexp_full_match($a, $dotted) THEN {text} "
        r"WHEN contains($a, '/') OR regexp_matches($a, '^\s|\s$') THEN $routine END",
        {"dotted": _DOTTED, **(values or {})},
    )


def _in_ranges_template(arguments: Sequence[Any]) -> Template | None:
    if not all(isinstance(argument, ir.Const) for argument in arguments[1:]):
        return None
    networks = [network_v4(text) for text in _listed([argument.value for argument in arguments[1:]])]
    if not networks or None in networks or len(networks) > 200:
        return None
    tests = [f"({_NUMBER}) BETWEEN {n[0]} AND {n[0] + 2 ** (32 - n[1]) - 1}" for n in networks if n is not None]
    return _where_plain(" OR ".join(tests))


# -- IPv4 -------------------------------------------------------------------------------------------------------------


@scalar("parse_ipv4", "string", "long", page="parse-ipv4-function", duckdb=lambda _: _where_plain(f"({_NUMBER})"))
def parse_ipv4(ip: str) -> int | None:
    network = network_v4(ip)
    return None if network is None else network[0]


@scalar("parse_ipv4_mask", "string integer", "long", page="parse-ipv4-mask-function")
def parse_ipv4_mask(ip: str, prefix: int) -> int | None:
    network = network_v4(ip)
    return None if network is None or not 0 <= prefix <= 32 else network[0] & _mask(32, prefix)


@scalar("ipv4_compare", "string string integer?", "long", page="ipv4-compare-function")
def ipv4_compare(left: str, right: str, prefix: int = 32) -> int | None:
    return _compared(network_v4(left), network_v4(right), prefix, 32)


@scalar("ipv4_is_match", "string string integer?", "bool", page="ipv4-is-match-function")
def ipv4_is_match(left: str, right: str, prefix: int = 32) -> bool | None:
    order = _compared(network_v4(left), network_v4(right), prefix, 32)
    return None if order is None else order == 0


@scalar("ipv4_is_in_range", "string string", "bool", page="ipv4-is-in-range-function", duckdb=_in_ranges_template)
def ipv4_is_in_range(ip: str, ip_range: str) -> bool | None:
    return _is_in(network_v4(ip), network_v4(ip_range), 32)


@scalar(
    "ipv4_is_in_any_range", "string string|dynamic+", "bool", page="ipv4-is-in-any-range-function", nulls="total",
    duckdb=_in_ranges_template,
)  # fmt: skip
def ipv4_is_in_any_range(ip: str, *ranges: Any) -> bool | None:
    address = network_v4(ip)
    if address is None:
        return None
    return any(_is_in(address, network_v4(ip_range), 32) for ip_range in _listed(ranges))


@scalar(
    "ipv4_is_private", "string", "bool", page="ipv4-is-private-function",
    duckdb=lambda _: _where_plain(
        "regexp_matches($a, $private)", {"private": r"^(?:10\.|192\.168\.|172\.(?:1[6-9]|2[0-9]|3[01])\.)"}
    ),
)  # fmt: skip
def ipv4_is_private(ip: str) -> bool | None:
    address = network_v4(ip)
    if address is None:
        return None
    return any(address[0] & _mask(32, prefix) == network for network, prefix in _PRIVATE)


@scalar("ipv4_netmask_suffix", "string", "long", page="ipv4-netmask-suffix-function")
def ipv4_netmask_suffix(ip: str) -> int | None:
    parsed = parse_v4(ip)
    return None if parsed is None else parsed[1]


@scalar("ipv4_range_to_cidr_list", "string string", "dynamic", page="ipv4-range-to-cidr-list-function")
def ipv4_range_to_cidr_list(start: str, end: str) -> list[str] | None:
    first, last = network_v4(start), network_v4(end)
    if first is None or last is None or first[0] > last[0]:
        return None
    low, high = ipaddress.IPv4Address(first[0]), ipaddress.IPv4Address(last[0])
    return [str(network) for network in ipaddress.summarize_address_range(low, high)]


def _formatted(ip: Any, prefix: int) -> tuple[str, int] | None:
    """The dotted text of ``ip`` (a text or a number) masked, and the length of the prefix that was used."""
    network = network_v4(ip) if isinstance(ip, str) else (ip, 32) if 0 <= ip <= 0xFFFFFFFF else None
    if network is None or not 0 <= prefix <= 32:
        return None
    prefix = min(prefix, network[1])
    return str(ipaddress.IPv4Address(network[0] & _mask(32, prefix))), prefix


@scalar("format_ipv4", "string|int|long integer?", "string", page="format-ipv4-function")
def format_ipv4(ip: Any, prefix: int = 32) -> str:
    formatted = _formatted(ip, prefix)
    return "" if formatted is None else formatted[0]


@scalar("format_ipv4_mask", "string|int|long integer?", "string", page="format-ipv4-mask-function")
def format_ipv4_mask(ip: Any, prefix: int = 32) -> str:
    formatted = _formatted(ip, prefix)
    return "" if formatted is None else f"{formatted[0]}/{formatted[1]}"


# -- IPv4 addresses in a text -----------------------------------------------------------------------------------------


def _has_address(text: str, address: str, is_prefix: bool) -> bool:
    """Whether ``text`` has the IPv4 address, or one that begins so, with no letter or digit at its sides."""
    if re.fullmatch(_IPV4_PREFIX if is_prefix else _DOTTED, address) is None:
        return False
    is_whole = not address.endswith(".")
    at = text.find(address)
    while at >= 0:
        found = _FOUND_IPV4.match(text, at)
        if found is not None and (not is_whole or found.group(1) == address):
            return True
        at = text.find(address, at + 1)
    return False


def _has_template(is_prefix: bool) -> Any:
    def template(arguments: Sequence[Any]) -> Template | None:
        address = constant(arguments[1])
        if not isinstance(address, str):
            return None
        if re.fullmatch(_IPV4_PREFIX if is_prefix else _DOTTED, address) is None:
            return Template("FALSE")
        missing = 4 - address.count(".") if address.endswith(".") else 0
        rest = rf"\.{_OCTET}" * (missing - 1)
        pattern = rf"(?:\A|[^\pL\pN]){re.escape(address)}{_OCTET + rest if missing else ''}(?:\z|[^\pL\pN])"
        return Template(
            "contains($a, $needle) AND regexp_matches($a, $pattern)", {"needle": address, "pattern": pattern}
        )

    return template


@scalar("has_ipv4", "string string", "bool", page="has-ipv4-function", nulls="total", duckdb=_has_template(False))
def has_ipv4(text: str, address: str) -> bool:
    return _has_address(text, address, False)


@scalar(
    "has_ipv4_prefix", "string string", "bool", page="has-ipv4-prefix-function", nulls="total",
    duckdb=_has_template(True),
)  # fmt: skip
def has_ipv4_prefix(text: str, prefix: str) -> bool:
    return _has_address(text, prefix, True)


@scalar("has_any_ipv4", "string string|dynamic+", "bool", page="has-any-ipv4-function", nulls="total")
def has_any_ipv4(text: str, *addresses: Any) -> bool:
    return any(_has_address(text, address, False) for address in _listed(addresses))


@scalar("has_any_ipv4_prefix", "string string|dynamic+", "bool", page="has-any-ipv4-prefix-function", nulls="total")
def has_any_ipv4_prefix(text: str, *prefixes: Any) -> bool:
    return any(_has_address(text, prefix, True) for prefix in _listed(prefixes))


# -- IPv6 -------------------------------------------------------------------------------------------------------------


def _masked_v6(ip: str, prefix: int) -> str:
    parsed = parse_v6(ip)
    if parsed is None or not 0 <= prefix <= 128:
        return ""
    return ipaddress.IPv6Address(parsed[0] & _mask(128, min(parsed[1], prefix))).exploded


@scalar("parse_ipv6", "string", "string", page="parse-ipv6-function")
def parse_ipv6(ip: str) -> str:
    return _masked_v6(ip, 128)


@scalar("parse_ipv6_mask", "string integer", "string", page="parse-ipv6-mask-function")
def parse_ipv6_mask(ip: str, prefix: int) -> str:
    return _masked_v6(ip, prefix)


@scalar("ipv6_compare", "string string integer?", "long", page="ipv6-compare-function")
def ipv6_compare(left: str, right: str, prefix: int = 128) -> int | None:
    return _compared(network_v6(left), network_v6(right), prefix, 128)


@scalar("ipv6_is_match", "string string integer?", "bool", page="ipv6-is-match-function")
def ipv6_is_match(left: str, right: str, prefix: int = 128) -> bool | None:
    order = _compared(network_v6(left), network_v6(right), prefix, 128)
    return None if order is None else order == 0


@scalar("ipv6_is_in_range", "string string", "bool", page="ipv6-is-in-range-function")
def ipv6_is_in_range(ip: str, ip_range: str) -> bool | None:
    return _is_in(network_v6(ip), network_v6(ip_range), 128)


@scalar("ipv6_is_in_any_range", "string string|dynamic+", "bool", page="ipv6-is-in-any-range-function", nulls="total")
def ipv6_is_in_any_range(ip: str, *ranges: Any) -> bool | None:
    address = network_v6(ip)
    if address is None:
        return None
    return any(_is_in(address, network_v6(ip_range), 128) for ip_range in _listed(ranges))
