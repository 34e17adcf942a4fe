"""Answers as they leave a worker: head and body together, and nothing held back that a caller waits for."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from gateway.world import serving
from watchfloor.gateway.wire import JoiningProtocol

HEAD = b"HTTP/1.1 200 OK\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    path = scope["path"]
    if path == "/body":
        while (await receive()).get("more_body"):
            pass
    length = [(b"content-length", b"%d" % (2 * len(HEAD)))] if path == "/pieces" else [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": [] if path == "/stream" else length})
    if path == "/breaks":
        return
    if path == "/stream":
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await receive()
        await receive()
    if path == "/pieces":
        await send({"type": "http.response.body", "body": HEAD, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": HEAD if path == "/pieces" else b"ok"})


async def _ask(url: str, *parts: bytes, until: bytes) -> bytes:
    """Everything that is said to ``parts`` up to ``until``; the second part goes out behind the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    said = b""
    try:
        async with asyncio.timeout(5):
            for part in parts:
                writer.write(part)
                if part is not parts[-1]:
                    said += await reader.readuntil(b"\r\n\r\n")
            while until not in said:
                piece = await reader.read(65536)
                said += piece
                if not piece:
                    break
    finally:
        writer.close()
    return said


def _request(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n".encode()


async def test_head_and_body_arrive_and_the_connection_serves_again() -> None:
    async with serving(_app, JoiningProtocol) as url:
        said = await _ask(url, _request("/"), _request("/", more="connection: close\r\n"), until=b"never")
        assert said.count(HEAD) == 2 and said.count(b"\r\n\r\nok") == 2


async def test_an_answer_without_a_body_is_not_held_back() -> None:
    async with serving(_app, JoiningProtocol) as url:
        assert (await _ask(url, _request("/", "HEAD"), until=b"\r\n\r\n")).startswith(HEAD)


async def test_the_head_of_a_stream_is_there_before_its_first_event() -> None:
    async with serving(_app, JoiningProtocol) as url:
        assert (await _ask(url, _request("/stream"), until=b"\r\n\r\n")).startswith(HEAD)


async def test_a_piece_of_a_body_that_looks_like_a_head_is_not_held_back() -> None:
    async with serving(_app, JoiningProtocol) as url:
        assert (await _ask(url, _request("/pieces"), until=b"\r\n\r\n" + 2 * HEAD)).endswith(2 * HEAD)


async def test_a_caller_that_waits_to_be_told_to_go_on_is_told() -> None:
    async with serving(_app, JoiningProtocol) as url:
        head = _request("/body", "POST", "content-length: 3\r\nexpect: 100-continue\r\n")
        said = await _ask(url, head, b"abc", until=b"\r\n\r\nok")
        assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


async def test_the_head_of_an_answer_that_breaks_off_is_sent_before_the_connection_ends() -> None:
    async with serving(_app, JoiningProtocol) as url:
        assert (await _ask(url, _request("/breaks"), until=b"never")).startswith(HEAD)
