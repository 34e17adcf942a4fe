"""A resolver in a test's hands: which addresses a name has, and how often it was asked."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest


class Resolver:
    """Answers for ``names`` as told and for all others as the machine does. Asked again, it says ``afterwards``."""

    def __init__(self, names: Mapping[str, Sequence[str]], afterwards: Sequence[str] = ()) -> None:
        self.names, self.afterwards = names, afterwards
        self.asked: list[str] = []
        self._real = socket.getaddrinfo

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Resolver:
        """Take the place of the machine's."""
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)
        return self

    def _look_up(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in self.names:
            return list(self._real(host, port, *args, **kwargs))
        known = self.afterwards if self.afterwards and name in self.asked else self.names[name]
        self.asked.append(name)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in known
        ]


FORBIDDEN: dict[str, Sequence[str]] = {
    "metadata.example": ["169.254.169.254"],
    "mapped.example": ["::ffff:169.254.169.254"],
    "linklocal.example": ["fe80::1%eth0"],
    "zero.example": ["0.0.0.0"],
    "both.example": ["127.0.0.1", "169.254.169.254"],
    "nowhere.example": [],
}
"""Names that stand for what nobody may call."""
