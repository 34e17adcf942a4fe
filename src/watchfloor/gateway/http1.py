"""A lean HTTP/1.1 client: kept connections, bodies as they arrive, and nothing that the gateway does not need.

One request is one write, one short answer one wake-up: that is what the gateway's latency is made of. Parsing is
llhttp's (httptools), strict. No redirects, cookies, proxies, compression, pipelining or retries: whether a call may be
repeated is not for a transport to say. ``upstream.py`` above names its failures.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, cast

import httptools

from watchfloor.model.urls import address_problem, is_address

_BUFFER_BYTES: Final = 256 * 1024
"""What may wait unread of one answer before its sender is told to pause."""
_SHORT_BYTES: Final = 64 * 1024
"""An answer of JSON up to this size is given out when it is whole: nobody can do anything with a part of it."""
_HEAD_BYTES: Final = 64 * 1024
_IDLE_SECONDS: Final = 4.0
"""Shorter than the five seconds after which common servers close an idle connection: a call must not run into that."""
_SWEEP_SECONDS: Final = 1.0


class ConnectFailed(OSError):
    """There was no connection, so nothing was sent."""


class Broken(OSError):
    """The connection ended before the answer did."""


class BadAnswer(ValueError):
    """What came is no HTTP answer, or one of a kind that was not asked for."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go; they are shared by everything that goes there."""

    host: str
    port: int
    is_tls: bool


class _Connection(asyncio.Protocol):
    """One connection and the exchange that runs on it, if any."""

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self._pool, self._loop = pool, pool.loop
        self.origin = origin
        self.idle_since = 0.0
        self.is_usable = True
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._is_running = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.has_head = self.is_complete = False
        self._keeps_alive = self._is_paused = False
        self._ends_with_connection = self._is_short = False
        self._head_bytes = self._named_bytes = self._waiting_bytes = 0
        self._chunks: deque[bytes] = deque()
        self._error: Exception | None = None
        self._timeout: float | None = None
        self._deadline = 0.0

    # -- one exchange ---------------------------------------------------------------------------------------------

    async def send(self, request: bytes, timeout: float | None) -> None:
        """Write ``request`` and wait for the head of its answer, or all of a short one. ``timeout``: longest silence,
        in seconds."""
        assert self._transport is not None and not self._is_running
        self._reset()
        self._parser = httptools.HttpResponseParser(self)
        self._is_running = True
        self._timeout = timeout
        if timeout is not None:
            self._deadline = self._loop.time() + timeout
            if self._timer is not None and self._timer.when() > self._deadline:
                self._stop_timer()
            if self._timer is None:
                self._timer = self._loop.call_at(self._deadline, self._on_timer)
        self._transport.write(request)
        while not self._is_worth_waking:
            await self._wait()
            if self._error is not None:
                break  # of a short answer that broke off, too, what has come is given out

    async def _wait(self) -> None:
        """Until something has arrived. What came before a failure is still given out."""
        if self._error is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        error: Exception | None = self._error
        if error is not None and not self._chunks:
            raise error

    @property
    def _is_worth_waking(self) -> bool:
        return self.has_head and (self.is_complete or not self._is_short)

    async def next_chunk(self) -> bytes:
        """What has arrived of the body since the last time; nothing when it is over."""
        while not self._chunks:
            if self.is_complete:
                return b""
            await self._wait()
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._waiting_bytes = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return chunk

    def finish(self) -> None:
        """Give the connection back if the answer was read to its end, else close it."""
        if not self._is_running:
            return
        self._is_running = False
        if self.is_complete and self._keeps_alive and self.is_usable and self._error is None and not self._chunks:
            self._parser = None
            self._pool.give_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once; a server that still works on the request sees its caller go."""
        self.is_usable = False
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self.abort()
        self._wake()

    def _on_timer(self) -> None:
        # Armed once for many exchanges: to take it back after each costs more than to look at the time here.
        self._timer = None
        now = self._loop.time()
        if self._timeout is None or not self._is_running:
            return
        if self._is_paused:
            self._deadline = now + self._timeout  # it is we who make the server wait
        if now >= self._deadline:
            self._fail(TimeoutError())
        else:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_running or self.is_complete:
            # Nobody asked: whatever it is, it must not become the answer to somebody's next request.
            self.abort()
            return
        if self._timeout is not None:
            self._deadline = self._loop.time() + self._timeout
        if not self.has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(BadAnswer("the server wants to change the protocol"))
        except (httptools.HttpParserError, httptools.HttpParserCallbackError) as error:
            self._fail(BadAnswer(str(error)))
        else:
            if not self.has_head and self._head_bytes > _HEAD_BYTES:
                self._fail(BadAnswer("the head of the answer is too large"))
        if self._waiting_bytes > _BUFFER_BYTES and not self._is_paused and not self.is_complete:
            self._is_paused = True
            assert self._transport is not None
            self._transport.pause_reading()
        if self._is_worth_waking or self._error is not None:
            self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_usable = False
        self._stop_timer()
        self._pool.lost(self)
        if not self._is_running or self.is_complete or self._error is not None:
            return
        if self.has_head and self._ends_with_connection and exc is None:
            self.is_complete = True
            self._wake()
        else:
            self._fail(Broken("the connection ended before the answer"))

    # -- httptools ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise BadAnswer("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._named_bytes += len(name) + len(value)
        if self._named_bytes > _HEAD_BYTES:
            raise BadAnswer("the head of the answer is too large")
        name = name.lower()
        before = self.headers.get(name)
        self.headers[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self.has_head = True
        self._keeps_alive = self._parser.should_keep_alive()
        length = self.headers.get(b"content-length")
        self._ends_with_connection = length is None and b"transfer-encoding" not in self.headers
        self._is_short = (
            length is not None
            and length.isdigit()
            and int(length) <= _SHORT_BYTES
            and self.headers.get(b"content-type", b"").lower().startswith(b"application/json")
        )

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        if self.status < 200:
            # "Continue" and the like: the answer itself is still to come.
            self.headers = {}
            return
        self.is_complete = True


class Response:
    """An answer whose head is here. ``close`` in the end, whatever happened."""

    __slots__ = ("_connection", "headers", "status")

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.status = connection.status
        self.headers = connection.headers

    @property
    def content_type(self) -> str:
        """The media type, lower case, without parameters."""
        return self.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int | None:
        """As the server states it; the parser holds it to that."""
        value = self.headers.get(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    @property
    def is_whole(self) -> bool:
        """Whether all of the body is here already."""
        return self._connection.is_complete

    async def read(self) -> bytes:
        """The rest of the body."""
        body = await self._connection.next_chunk()
        if self._connection.is_complete:
            return body
        parts = [body]
        while part := await self._connection.next_chunk():
            parts.append(part)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        while chunk := await self._connection.next_chunk():
            yield chunk

    def close(self) -> None:
        """Keep the connection for the next request, or cut it if the answer was not read to its end."""
        self._connection.finish()


class Pool:
    """Connections by origin. Make it inside the event loop; ``close`` in the end.

    ``limit`` bounds all connections together: beyond it a request fails at once rather than wait.
    """

    def __init__(self, *, limit: int, connect_seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self._limit, self._connect_seconds = limit, connect_seconds
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._all: set[_Connection] = set()
        self._tls: ssl.SSLContext | None = None
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        self._is_closed = False

    async def request(self, origin: Origin, request: bytes, timeout: float | None) -> Response:
        """Send ``request`` and wait for the head of its answer, or all of a short one.

        Raises ``ConnectFailed`` if nothing was sent, ``Broken``, ``BadAnswer`` or ``TimeoutError`` if it was.
        """
        connection = self._take(origin)
        if connection is None:
            connection = await self._connect(origin)
        try:
            await connection.send(request, timeout)
        except BaseException:
            connection.abort()
            connection.finish()
            raise
        return Response(connection)

    def _take(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        oldest = time.monotonic() - _IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.is_usable and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin) -> _Connection:
        if len(self._all) >= self._limit or self._is_closed:
            raise ConnectFailed("too many connections are open")
        connection = _Connection(self, origin)
        self._all.add(connection)
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self._dial(connection, origin)
        except (OSError, TimeoutError) as error:
            self._all.discard(connection)
            connection.abort()
            raise ConnectFailed(str(error)) from error
        except BaseException:
            self._all.discard(connection)
            connection.abort()
            raise
        return connection

    async def _dial(self, connection: _Connection, origin: Origin) -> None:
        """Look the name up, once, and connect to what it stands for if all of that may be called."""
        addresses = [origin.host]
        if not is_address(origin.host):
            found = await self.loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        for address in addresses:
            if problem := address_problem(address):
                raise ConnectFailed(f"{origin.host} stands for {address}. {problem}")
        tls: dict[str, Any] = {"ssl": self._tls_context(), "server_hostname": origin.host} if origin.is_tls else {}
        failure: OSError = OSError(f"{origin.host} has no address")
        for address in addresses:
            try:
                await self.loop.create_connection(lambda: connection, address, origin.port, **tls)
            except OSError as error:
                failure = error
            else:
                return
        raise failure

    def _tls_context(self) -> ssl.SSLContext:
        # Loading the trust store takes longer than many a call: once a process.
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def give_back(self, connection: _Connection) -> None:
        """``connection`` is free for the next request."""
        connection.idle_since = time.monotonic()
        self._idle.setdefault(connection.origin, deque()).append(connection)

    def lost(self, connection: _Connection) -> None:
        """``connection`` is no more."""
        self._all.discard(connection)

    def _sweep(self) -> None:
        oldest = time.monotonic() - _IDLE_SECONDS
        for origin, idle in list(self._idle.items()):
            while idle and (idle[0].idle_since <= oldest or not idle[0].is_usable):
                idle.popleft().abort()
            if not idle:
                del self._idle[origin]
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def close(self) -> None:
        """Cut every connection."""
        self._is_closed = True
        self._sweeper.cancel()
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
