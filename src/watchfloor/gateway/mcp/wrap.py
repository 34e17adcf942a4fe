"""Processes, pipes, tokens and HTTP around ``stdio.Relay``: everything of ``watchfloor mcp wrap`` that does I/O.

The wrapped server's standard error and exit status are its own; its standard input gets only what the gateway allowed.
The agent's token is read from a file, or fetched with the agent's secret from the token service that the gateway names.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
import orjson

from watchfloor.gateway.mcp.protocol import Message
from watchfloor.gateway.mcp.stdio import Decision, GuardFailed, Passed, Relay, decision_of
from watchfloor.gateway.withheld import withheld
from watchfloor.model.errors import InputError

_LOG: Final = logging.getLogger(__name__)
_LINE_LIMIT: Final = 16 * 1024 * 1024
_ANSWER_LIMIT: Final = 32 * 1024 * 1024
_MOST_RESULT: Final = 512 * 1024
_MOST_JUDGED: Final = 3 * 1024 * 1024
_EXIT_SECONDS: Final = 5.0
_RENEW_SECONDS: Final = 60.0
_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Tokens(Protocol):
    """Where the agent's gateway token comes from."""

    async def token(self, session: aiohttp.ClientSession) -> str:
        """A token that is good now. Raises ``GuardFailed``."""
        ...

    def forget(self) -> None:
        """The last one was not accepted."""
        ...


class FileTokens:
    """A token that somebody else keeps fresh in a file; read for every use."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self, session: aiohttp.ClientSession) -> str:
        """What the file holds now."""
        try:
            text = self._path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise GuardFailed(f"The token file {self._path} cannot be read: {error}.", "invalid_token") from error
        if not text or any(c.isspace() for c in text):
            raise GuardFailed(f"The token file {self._path} holds no token.", "invalid_token")
        return text

    def forget(self) -> None:
        """Nothing is kept."""


class ClientCredentials:
    """Tokens for the agent itself, by its id and secret, from the token service that the gateway's metadata names."""

    def __init__(self, gateway: str, server_id: str, agent_id: str, secret: str) -> None:
        self._resource = f"{gateway}/mcp/{server_id}"
        self._metadata = f"{gateway}/.well-known/oauth-protected-resource/mcp/{server_id}"
        pair = f"{quote(agent_id, safe='')}:{quote(secret, safe='')}"
        self._basic = "Basic " + base64.b64encode(pair.encode()).decode()
        self._token, self._good_until = "", 0.0
        self._lock = asyncio.Lock()

    async def token(self, session: aiohttp.ClientSession) -> str:
        """The token at hand, or a new one shortly before it expires."""
        async with self._lock:
            if time.monotonic() >= self._good_until:
                self._token, lifetime = await self._fetch(session)
                self._good_until = time.monotonic() + max(1.0, lifetime - _RENEW_SECONDS)
            return self._token

    def forget(self) -> None:
        """Fetch a new one next time."""
        self._good_until = 0.0

    async def _fetch(self, session: aiohttp.ClientSession) -> tuple[str, float]:
        try:
            async with session.get(self._metadata, allow_redirects=False) as response:
                service = str((await response.json())["authorization_servers"][0])
            form = {"grant_type": "client_credentials", "resource": self._resource}
            headers = {"authorization": self._basic}
            async with session.post(f"{service}/token", data=form, headers=headers, allow_redirects=False) as response:
                answer = await response.json(content_type=None)
                if response.status != 200:
                    said = answer.get("error_description") or answer.get("error")
                    raise GuardFailed(f"The token service refuses the agent: {said}.", "invalid_token")
                return str(answer["access_token"]), float(answer["expires_in"])
        except (
            aiohttp.ClientError,
            TimeoutError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
        ) as error:
            raise GuardFailed("The token service does not answer.") from error


class HttpGuard:
    """``stdio.Guard`` over the gateway's decision API."""

    def __init__(self, gateway: str, server_id: str, tokens: Tokens, deadline: float) -> None:
        self._base = f"{gateway}/guard/v1/"
        self._server, self._tokens, self._deadline = server_id, tokens, deadline
        self._session: aiohttp.ClientSession | None = None
        self._asked: dict[str, tuple[str, str, bool]] = {}
        """(tool, conversation, whether its result is judged) of each allowed call that has not ended."""

    async def __aenter__(self) -> HttpGuard:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def decide(self, message: Message) -> Decision:
        """See ``stdio.Guard``."""
        hints = message.hints
        body: dict[str, Any] = {"tool": message.tool, "arguments": message.arguments or {}, "door": "stdio"}
        if hints.user_turns:
            body["user_turns"] = list(hints.user_turns)
        for name, value in (
            ("conversation_id", hints.conversation_id),
            ("parent_agent", hints.parent_agent),
            ("retry_token", hints.retry_token),
        ):
            if value:
                body[name] = value
        decision = decision_of(await self._post("decide", body))
        if decision.is_allowed:
            self._asked[decision.invocation] = (message.tool, hints.conversation_id, decision.judges_result)
        return decision

    async def shown(self, tools: list[Any]) -> list[Any]:
        """See ``stdio.Guard``."""
        answer = await self._post("tools", {"tools": tools})
        kept = answer.get("keep") if isinstance(answer, dict) else None
        if not isinstance(kept, list) or not all(isinstance(i, int) and 0 <= i < len(tools) for i in kept):
            raise GuardFailed("The gateway did not say which tools may be seen.")
        return [tools[i] for i in kept]

    async def complete(self, invocation: str, status: str, size: int, result: Any) -> Passed | None:
        """See ``stdio.Guard``. Without an answer, a result that must be judged is withheld."""
        tool, conversation, is_judged = self._asked.pop(invocation, ("", "", False))
        body: dict[str, Any] = {"invocation": invocation, "status": status, "bytes_out": size}
        if tool:
            body |= {"tool": tool, "conversation_id": conversation}
            body["result"] = result if size <= (_MOST_JUDGED if is_judged else _MOST_RESULT) else None
        try:
            answer = await self._post("complete", body)
        except GuardFailed:
            return Passed(error=withheld(None, "state_stale", invocation)["error"]) if is_judged else None
        verdict = answer.get("verdict") if isinstance(answer, dict) else None
        if verdict == "redact" and "result" in answer:
            return Passed(answer["result"])
        if verdict == "allow" or (verdict is None and not is_judged):
            return None
        reasons = answer.get("reasons") if isinstance(answer, dict) else None
        code = str(reasons[0]) if isinstance(reasons, list) and reasons else "internal_error"
        return Passed(error=withheld(None, code, invocation)["error"])

    async def _post(self, verb: str, body: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(self._deadline):
                for attempt in (1, 2):
                    status, answer = await self._post_once(verb, body)
                    if status != 401 or attempt == 2:
                        break
                    self._tokens.forget()
        except TimeoutError:
            raise GuardFailed("The gateway does not answer in time; the call was not made.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise GuardFailed("The gateway cannot be reached; the call was not made.") from error
        if status != 200:
            code = answer.get("error") if isinstance(answer, dict) else None
            text = answer.get("error_description") if isinstance(answer, dict) else None
            raise GuardFailed(
                str(text or f"The gateway answered with HTTP status {status}; the call was not made."),
                str(code or "state_stale"),
            )
        return answer

    async def _post_once(self, verb: str, body: dict[str, Any]) -> tuple[int, Any]:
        assert self._session is not None
        headers = {
            "authorization": f"Bearer {await self._tokens.token(self._session)}",
            "content-type": "application/json",
        }
        data = orjson.dumps({"server": self._server, **body})
        async with self._session.post(self._base + verb, data=data, headers=headers, allow_redirects=False) as response:
            raw = await response.content.read(_ANSWER_LIMIT)
            return response.status, orjson.loads(raw)


async def wrap(command: Sequence[str], guard: HttpGuard, environment: Mapping[str, str]) -> int:
    """Run ``command`` behind ``guard`` until it or the client ends; its exit status, 128 + n where signal n ended it.

    Raises ``InputError`` if it cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=dict(environment),
            limit=_LINE_LIMIT,
        )
    except OSError as error:
        raise InputError(f"cannot start {command[0]}: {error.strerror}.", remedy="Check the command.") from error
    assert process.stdin is not None and process.stdout is not None
    loop = asyncio.get_running_loop()
    for number in _FORWARDED:
        loop.add_signal_handler(number, _forward, process, number)
    server_in, server_out = process.stdin, process.stdout
    client_in, client_out = await _standard_streams()

    async def to_server(line: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            server_in.write(line + b"\n")
            await server_in.drain()

    async def to_client(line: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            client_out.write(line + b"\n")
            await client_out.drain()

    relay = Relay(guard, to_client, to_server)
    reading = asyncio.create_task(_each_line(client_in, relay.from_client))
    answering = asyncio.create_task(_each_line(server_out, relay.from_server))
    await asyncio.wait({reading, answering}, return_when=asyncio.FIRST_COMPLETED)
    if reading.done():
        # The client is gone: what it asked before may still be answered, then the server is told to end.
        await relay.settle(_EXIT_SECONDS)
        with contextlib.suppress(ConnectionError):
            server_in.close()
    try:
        async with asyncio.timeout(_EXIT_SECONDS):
            await answering
            status = await process.wait()
    except TimeoutError:
        status = await _end(process)
    reading.cancel()
    answering.cancel()
    await relay.settle(1.0)
    return status if status >= 0 else 128 - status


def _forward(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


async def _end(process: asyncio.subprocess.Process) -> int:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_EXIT_SECONDS):
            return await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


async def _each_line(stream: asyncio.StreamReader, take: Any) -> None:
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as end:
            if end.partial:
                await take(end.partial)
            return
        except asyncio.LimitOverrunError:
            _LOG.error("a line is longer than %d bytes; the connection is given up", _LINE_LIMIT)
            return
        await take(line[:-1])


async def _standard_streams() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    # Descriptors of our own: closing these transports must not close what the interpreter still holds.
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    )
    transport, stream_protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    )
    return reader, asyncio.StreamWriter(transport, stream_protocol, None, loop)


def run_wrap(
    command: Sequence[str],
    *,
    gateway: str,
    server_id: str,
    tokens: Tokens,
    deadline: float,
    environment: Mapping[str, str],
) -> int:
    """Guard ``command``; the exit status for our own process."""

    async def run() -> int:
        async with HttpGuard(gateway.rstrip("/"), server_id, tokens, deadline) as guard:
            return await wrap(command, guard, environment)

    return asyncio.run(run())
