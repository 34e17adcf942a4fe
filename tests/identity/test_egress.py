"""Names are held to what they stand for: nothing goes where an address may not be called."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from resolver import FORBIDDEN, Resolver
from watchfloor.identity import egress
from watchfloor.identity.jwks import fetch_jwks
from watchfloor.identity.signals import http as signals
from watchfloor.model.errors import Unavailable


@pytest.fixture
def site() -> Iterator[tuple[int, list[str]]]:
    """A server on this machine: its port, and the hosts that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["host"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


@pytest.mark.asvs("1.3.6")
def test_a_name_that_stands_for_a_forbidden_address_is_not_called_and_another_is(
    site: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, asked = site
    Resolver({**FORBIDDEN, "honest.example": ["127.0.0.1"]}).install(monkeypatch)
    with egress.client(5) as client:
        for name in FORBIDDEN:
            with pytest.raises(httpx.ConnectError, match=name):
                client.get(f"http://{name}:{port}/")
        assert client.get(f"http://honest.example:{port}/").status_code == 204
    assert asked == [f"honest.example:{port}"]
    with pytest.raises(Unavailable, match=r"stands for 169\.254\.169\.254"):
        fetch_jwks("https://metadata.example/jwks")
    with pytest.raises(Unavailable, match=r"stands for 169\.254\.169\.254"):
        signals.post("https://metadata.example/events", b"", kind="application/json")


@pytest.mark.asvs("1.3.6")
def test_a_name_that_changes_after_it_was_looked_at_changes_nothing(
    site: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = site
    resolver = Resolver({"turning.example": ["127.0.0.1"]}, afterwards=["169.254.169.254"]).install(monkeypatch)
    with egress.client(5) as client:
        assert client.get(f"http://turning.example:{port}/").status_code == 204
        assert resolver.asked == ["turning.example"]
    with egress.client(5) as client, pytest.raises(httpx.ConnectError, match="stands for"):
        client.get(f"http://turning.example:{port}/")
