"""The lean HTTP client against a server that says exactly what a test wants, in exactly those pieces."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.world import eventually
from watchfloor.gateway.http1 import BadAnswer, Broken, ConnectFailed, Origin, Pool

REQUEST = b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class Server:
    """A scripted server. ``connections`` counts how often somebody connected, ``requests`` what was asked."""

    script: Script
    origin: Origin = field(default_factory=lambda: Origin("", 0, False))
    connections: int = 0
    requests: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readexactly(len(REQUEST))
                self.requests += 1
                await self.script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[tuple[Server, Pool]]:
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.origin = Origin("127.0.0.1", listener.sockets[0].getsockname()[1], False)
    pool = Pool(limit=10, connect_seconds=2)
    try:
        yield server, pool
    finally:
        pool.close()
        listener.close()


def says(*pieces: bytes, close: bool = False) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if close:
            writer.close()

    return script


async def ask(server: Server, pool: Pool, timeout: float | None = 5) -> tuple[int, bytes]:
    response = await pool.request(server.origin, REQUEST, timeout)
    try:
        return response.status, await response.read()
    finally:
        response.close()


WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (WHOLE,),
        (WHOLE[:9], WHOLE[9:60], WHOLE[60:]),
        (CHUNKED,),
        (CHUNKED[:50], CHUNKED[50:57], CHUNKED[57:]),
        (b"HTTP/1.1 100 Continue\r\n\r\n", WHOLE),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + WHOLE,),
    ],
)
async def test_an_answer_is_read_whatever_its_pieces_and_its_connection_is_kept(pieces: tuple[bytes, ...]) -> None:
    async with serving(says(*pieces)) as (server, pool):
        for _ in range(3):
            assert await ask(server, pool) == (200, b"hello")
        assert (server.connections, server.requests) == (1, 3)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len(CHUNKED)), max_size=8), which=st.sampled_from([WHOLE, CHUNKED]))
def test_no_cutting_of_the_bytes_changes_the_answer(cuts: list[int], which: bytes) -> None:
    edges = [0, *sorted(c for c in cuts if c <= len(which)), len(which)]
    pieces = [which[a:b] for a, b in itertools.pairwise(edges) if a != b]

    async def run() -> None:
        async with serving(says(*pieces)) as (server, pool):
            assert await ask(server, pool) == (200, b"hello")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("head", "is_whole"),
    [
        (b"content-type: application/json\r\ncontent-length: 5\r\n", True),
        (b"content-type: text/event-stream\r\ncontent-length: 5\r\n", False),
        (b"content-type: application/json\r\ncontent-length: 500000\r\n", False),
        (b"content-type: application/json\r\ntransfer-encoding: chunked\r\n", False),
    ],
    ids=["short", "stream", "long", "of-no-stated-length"],
)
async def test_a_short_answer_of_json_is_given_out_when_it_is_whole_and_others_as_they_begin(
    head: bytes, is_whole: bool
) -> None:
    go_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        await go_on.wait()
        writer.write(b"hello")

    async with serving(script) as (server, pool):
        asking = asyncio.create_task(pool.request(server.origin, REQUEST, 5))
        if is_whole:
            await eventually(lambda: server.requests == 1)
            go_on.set()
        response = await asking
        assert (response.is_whole, response.status) == (is_whole, 200)
        response.close()
        go_on.set()


async def test_silence_counts_anew_for_each_request_on_a_kept_connection() -> None:
    async with serving(says(WHOLE)) as (server, pool):
        for timeout in (5.0, 0.3, 5.0, None, 0.3):
            assert await ask(server, pool, timeout) == (200, b"hello")
        assert server.connections == 1
    silent = says(WHOLE[:60])
    async with serving(silent) as (server, pool):
        with pytest.raises(TimeoutError):
            await ask(server, pool, 0.1)


async def test_a_body_may_end_with_the_connection_where_no_length_was_given() -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo", close=True)) as (server, pool):
        assert await ask(server, pool) == (200, b"hello")
        assert await ask(server, pool) == (200, b"hello")
        assert server.connections == 2


@pytest.mark.parametrize(
    "pieces",
    [(), (b"HTTP/1.1 200 OK\r\n",), (WHOLE[:-1],), (CHUNKED[:-5],), (CHUNKED[:60],)],
    ids=["nothing", "half-a-head", "short-body", "no-last-chunk", "half-a-chunk"],
)
async def test_an_answer_that_breaks_off_is_no_answer(pieces: tuple[bytes, ...]) -> None:
    async with serving(says(*pieces, close=True)) as (server, pool):
        with pytest.raises(Broken):
            await ask(server, pool)


@pytest.mark.parametrize(
    "answer",
    [
        b"ICY 200 OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\nb\r\n y\x00: 1\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 80_000 + b"\r\n\r\n",
        WHOLE + WHOLE,
    ],
    ids=["not-http", "tls", "two-lengths", "negative", "bad-header", "upgrade", "huge-head", "two-answers"],
)
async def test_what_is_no_answer_to_this_request_is_refused_or_never_reused(answer: bytes) -> None:
    async with serving(says(answer)) as (server, pool):
        for _ in range(2):
            with contextlib.suppress(BadAnswer, Broken):
                # Two answers at once: the first one stands, and the connection is not used again.
                assert await ask(server, pool) == (200, b"hello")
        assert server.connections == 2


async def test_bytes_that_nobody_asked_for_never_become_the_next_answer() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(WHOLE.replace(b"hello", b"wrong"))

    async with serving(script) as (server, pool):
        assert await ask(server, pool) == (200, b"hello")
        await eventually(server.gone.is_set, "closing of the connection")
        assert await ask(server, pool) == (200, b"hello")
        assert server.connections == 2


async def test_silence_ends_with_a_timeout_and_the_connection_with_it() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE[:-2])
        await reader.read()

    async with serving(script) as (server, pool):
        with pytest.raises(TimeoutError):
            await ask(server, pool, timeout=0.1)
        await eventually(server.gone.is_set, "closing of the connection")


async def test_a_stream_that_keeps_talking_outlives_the_timeout() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(8):
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"0\r\n\r\n")

    async with serving(script) as (server, pool):
        assert await ask(server, pool, timeout=0.3) == (200, b"x" * 8)


async def test_a_reader_that_is_slow_makes_the_sender_wait_and_is_no_timeout() -> None:
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 33554432\r\n\r\n")
        for _ in range(512):
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async with serving(script) as (server, pool):
        response = await pool.request(server.origin, REQUEST, 0.2)
        first = await response._connection.next_chunk()
        await asyncio.sleep(0.5)
        assert sent < 33554432
        assert len(first) + len(await response.read()) == 33554432
        response.close()
        assert await asyncio.wait_for(ask(server, pool), 20) == (200, bytes(33554432))
        assert server.connections == 1


async def test_closing_an_answer_early_cuts_the_connection_so_that_the_server_notices() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await reader.readexactly(1)

    async with serving(script) as (server, pool):
        response = await pool.request(server.origin, REQUEST, 5)
        response.close()
        await eventually(server.gone.is_set, "closing of the connection")


async def test_cancelling_a_request_cuts_its_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)

    async with serving(script) as (server, pool):
        task = asyncio.create_task(ask(server, pool))
        await eventually(lambda: server.requests, "arrival")
        task.cancel()
        await eventually(server.gone.is_set, "closing of the connection")


async def test_nobody_listening_and_too_many_connections_are_told_before_anything_is_sent() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)

    async with serving(script) as (server, pool):
        with pytest.raises(ConnectFailed):
            await pool.request(Origin("127.0.0.1", 1, False), REQUEST, 1)
        waiting = [asyncio.create_task(ask(server, pool)) for _ in range(10)]
        await eventually(lambda: server.requests == 10, "arrival of ten")
        with pytest.raises(ConnectFailed):
            await ask(server, pool)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_old_idle_connection_is_closed_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchfloor.gateway.http1._IDLE_SECONDS", -1.0)
    async with serving(says(WHOLE)) as (server, pool):
        await ask(server, pool)
        await ask(server, pool)
        assert server.connections == 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + pem)
    return path


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_over_tls_only_a_server_that_is_trusted_is_spoken_to(
    certificate: Path, is_trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Server(says(WHOLE))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.origin = Origin("127.0.0.1", listener.sockets[0].getsockname()[1], True)
    pool = Pool(limit=10, connect_seconds=5)
    try:
        if is_trusted:
            for _ in range(3):
                assert await ask(server, pool) == (200, b"hello")
            assert server.connections == 1
        else:
            with pytest.raises(ConnectFailed):
                await ask(server, pool)
            assert server.requests == 0
    finally:
        pool.close()
        listener.close()
