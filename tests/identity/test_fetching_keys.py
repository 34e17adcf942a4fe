"""Fetching key sets over real HTTP: no redirects, no endless answers, nothing that must not be called."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from watchfloor.identity.jwks import MAX_JWKS_BYTES, clock_lead, fetch_jwks, fetch_key_set
from watchfloor.model.errors import Unavailable


class _Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("location", "/jwks")
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        body = b'{"keys": []}' if self.path == "/jwks" else b" " * (MAX_JWKS_BYTES + 1)
        try:
            self.wfile.write(body)
        except OSError:  # the caller has heard enough
            return

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[str, list[str]]]:
    """(base URL, paths asked for)."""
    _Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", _Handler.asked
    server.shutdown()
    server.server_close()


def test_a_key_set_is_fetched(site: tuple[str, list[str]]) -> None:
    assert fetch_jwks(f"{site[0]}/jwks") == b'{"keys": []}'


def test_a_server_on_our_time_is_not_ahead(site: tuple[str, list[str]]) -> None:
    assert fetch_key_set(f"{site[0]}/jwks").lead == 0.0


@pytest.mark.parametrize(
    ("date", "lead"),
    [
        ("Mon, 02 Mar 2026 12:02:00 GMT", 121.0),  # at most: the second may be as good as over
        ("Mon, 02 Mar 2026 12:00:00 GMT", 0.0),
        ("Mon, 02 Mar 2026 11:58:00 GMT", 0.0),
        ("", 0.0),
        ("yesterday", 0.0),
        ("Mon, 02 Mar 99999 12:00:00 GMT", 0.0),
    ],
)
def test_how_far_a_clock_is_ahead_is_read_from_the_date_of_its_answer(date: str, lead: float) -> None:
    assert clock_lead(date, 1772452800.0) == lead


@pytest.mark.asvs("15.3.2")
def test_a_redirect_is_not_followed(site: tuple[str, list[str]]) -> None:
    with pytest.raises(Unavailable, match="302"):
        fetch_jwks(f"{site[0]}/redirect")
    assert site[1] == ["/redirect"]


def test_an_answer_without_end_is_cut_off(site: tuple[str, list[str]]) -> None:
    with pytest.raises(Unavailable, match="longer than"):
        fetch_jwks(f"{site[0]}/huge")


def test_an_error_or_a_closed_port_is_no_key_set(site: tuple[str, list[str]]) -> None:
    with pytest.raises(Unavailable, match="404"):
        fetch_jwks(f"{site[0]}/missing")
    with pytest.raises(Unavailable, match="cannot be fetched"):
        fetch_jwks("http://127.0.0.1:9/jwks", timeout=0.5)


@pytest.mark.asvs("1.3.6")
@pytest.mark.parametrize(
    "url",
    ["http://login.zava.example/jwks", "http://169.254.169.254/latest", "https://[fe80::1]/jwks", "file:///etc/passwd"],
)
def test_what_must_not_be_called_is_not_called(url: str) -> None:
    with pytest.raises(Unavailable, match="The key set"):
        fetch_jwks(url)
