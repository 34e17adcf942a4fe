"""How the control plane calls others: no redirects, no proxies, no address that must not be called.

Below ``jwks``, ``oidc``, ``signals`` and the connectors; above httpx and plain connections. What a URL may look like is
``model.urls``'s affair, which callers ask first. Here a name is looked up, once, every address that it stands for is
held to the same rules, and the connection is made to these: whoever changes the name in between changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from watchfloor.model.urls import address_problem


def client(timeout: float, *, public_only: bool = False) -> httpx.Client:
    """A client; ``timeout`` in seconds; ``public_only``: it calls nobody in a private network. Close it."""
    transport = httpx.HTTPTransport(trust_env=False)
    # httpx offers no other way to look at addresses; a test notices should this one end.
    transport._pool._network_backend = _Resolving(public_only)
    return httpx.Client(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


def connect(host: str, port: int, timeout: float | None) -> socket.socket:
    """A connection for whoever speaks something else than HTTP; ``timeout`` in seconds. Raises ``OSError``."""
    failure = OSError(f"{host} has no address.")
    for address in _addresses(host, port, public_only=False):
        try:
            return socket.create_connection((address, port), timeout)
        except OSError as error:
            failure = error
    raise failure


class _Resolving(httpcore.NetworkBackend):
    """Connects by address, after a look at all of them."""

    def __init__(self, public_only: bool) -> None:
        self._inner, self._public_only = httpcore.SyncBackend(), public_only

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address.")
        try:
            found = _addresses(host, port, public_only=self._public_only)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        for address in found:
            try:
                return self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def _addresses(host: str, port: int, *, public_only: bool) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"{host} cannot be found: {error}") from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for address in addresses:
        if problem := address_problem(address, public_only=public_only):
            raise OSError(f"{host} stands for {address}. {problem}")
    return addresses
