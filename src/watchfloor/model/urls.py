"""Which addresses the product may be told to call: tool servers, key sets of identity providers.

Pure: it reads the text of a URL and resolves nothing. Whoever connects applies it again to the URL that it really uses
and to every address that its name stands for, connects to no other, and follows no redirects.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]*))*", re.IGNORECASE)
_METADATA: Final = (ipaddress.ip_address("fd00:ec2::254"),)
_MAX_LENGTH: Final = 2048


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this machine: ``localhost`` or a loopback address."""
    host = (_split(url).hostname or "").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def outbound_problem(url: str, *, require_tls: bool = False, public_only: bool = False) -> str | None:
    """Why ``url`` may not be called, as a sentence; None if it may.

    Link-local, multicast and unspecified addresses are refused, for clouds keep their machines' credentials there;
    private networks are not, for that is where tool servers live, but with ``public_only``. ``require_tls``: plain HTTP
    only to this machine.
    """
    if len(url) > _MAX_LENGTH or any(c <= " " or c == "\x7f" for c in url):
        return "This is no URL."
    try:
        parts = _split(url)
        port = parts.port
    except ValueError:
        return "This is no URL."
    if parts.scheme not in ("http", "https"):
        return "The URL must begin with http:// or https://."
    if not parts.hostname or port == 0:
        return "The URL names no host."
    if parts.username is not None or parts.password is not None:
        return "The URL must not hold credentials."
    if parts.fragment:
        return "The URL must not have a fragment (#…)."
    problem = _host_problem(parts.hostname, public_only)
    if problem is None and require_tls and parts.scheme == "http" and not is_loopback(url):
        return "The URL must begin with https://: what comes from there is trusted."
    return problem


def is_address(host: str) -> bool:
    """Whether ``host`` is an address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def address_problem(address: str, *, public_only: bool = False) -> str | None:
    """Why nobody may be called at ``address``, which a name stands for, as a sentence; None if it may be."""
    try:
        return _problem_of(ipaddress.ip_address(address), public_only)
    except ValueError:
        return "The name stands for something that is no address."


def _split(url: str) -> SplitResult:
    return urlsplit(url)


def _host_problem(host: str, public_only: bool) -> str | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # 2130706433, 0x7f.1 and 127.1 are addresses to some resolvers and names to others: nobody writes them honestly.
        return "Write the address with four decimal numbers." if _NUMERIC.fullmatch(host) else None
    return _problem_of(address, public_only)


def _problem_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address, public_only: bool) -> str | None:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA:
        return "This address must not be called: it is link-local, multicast, unspecified or a metadata service."
    if public_only and not address.is_global:
        return "This address is in a private network, where only what an administrator allowed is called."
    return None
