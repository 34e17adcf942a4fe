"""Syslog, to receivers that listen: what arrives, what acknowledges, what is told when it does not."""

from __future__ import annotations

import json
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from connectors.siem.receivers import certificate, tcp_receiver, udp_receiver
from watchfloor.connectors.siem import open_sink
from watchfloor.connectors.siem.syslog import SyslogSink, message
from watchfloor.model.errors import InputError, Unavailable

HEADER = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) watchfloor - (OCSF\d+) - (\{.*\})",
    re.DOTALL,
)


def event(number: int, **members: Any) -> dict[str, Any]:
    return {"class_uid": 6003, "severity_id": 4, "time": 1_793_707_500_000 + number, "message": f"№ {number}"} | members


def parsed(text: bytes) -> dict[str, Any]:
    found = HEADER.fullmatch(text)
    assert found, text
    body: dict[str, Any] = json.loads(found[5])
    return body


def test_a_message_is_rfc_5424_in_ascii() -> None:
    text = message(event(7))
    found = HEADER.fullmatch(text)
    assert found
    assert found.groups()[:2] == (b"107", b"2026-11-03T12:05:00.007Z")
    assert found[4] == b"OCSF6003"
    assert parsed(text)["message"] == "№ 7"
    text.decode("ascii")


@pytest.mark.parametrize(("severity", "priority"), [(1, 110), (2, 109), (3, 108), (4, 107), (5, 106), (99, 110)])
def test_graver_events_have_graver_priorities(severity: int, priority: int) -> None:
    assert message(event(0, severity_id=severity)).startswith(b"<%d>1 " % priority)


def test_a_batch_arrives_over_tcp_in_order_and_is_acknowledged() -> None:
    with tcp_receiver() as receiver:
        SyslogSink("s", "127.0.0.1", receiver.port, "tcp").send([event(n) for n in range(300)])
        assert [parsed(text)["message"] for text in receiver.messages] == [f"№ {n}" for n in range(300)]


def test_a_batch_arrives_over_tls_from_a_receiver_that_is_trusted(tmp_path: Path) -> None:
    serving, trusting = certificate(tmp_path)
    with tcp_receiver(serving) as receiver:
        SyslogSink("s", "127.0.0.1", receiver.port, "tls", context=trusting).send([event(n) for n in range(300)])
        assert len(receiver.messages) == 300
        with pytest.raises(Unavailable, match="certificate"):
            SyslogSink("s", "127.0.0.1", receiver.port, "tls", context=ssl.create_default_context()).send([event(1)])
        assert len(receiver.messages) == 300


@pytest.mark.parametrize("secured", [False, True])
def test_a_receiver_that_reads_and_stays_has_acknowledged(tmp_path: Path, secured: bool) -> None:
    serving, trusting = certificate(tmp_path) if secured else (None, None)
    with tcp_receiver(serving) as receiver:
        receiver.temper = "silent"
        transport = "tls" if secured else "tcp"
        SyslogSink("s", "127.0.0.1", receiver.port, transport, context=trusting, seconds=0.3).send([event(1)])
        assert len(receiver.messages) == 1


def test_a_receiver_that_dies_while_it_is_sent_to_has_not_acknowledged() -> None:
    with tcp_receiver() as receiver:
        receiver.temper = "rude"
        with pytest.raises(Unavailable, match="s does not take events"):
            SyslogSink("s", "127.0.0.1", receiver.port, "tcp").send([event(n) for n in range(2000)])
        assert receiver.connections == 1


def test_nobody_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match="does not take events"):
        SyslogSink("s", "127.0.0.1", port, "tcp").send([event(1)])


def test_datagrams_arrive_and_large_events_are_cut_down_to_what_they_are() -> None:
    with udp_receiver() as (receiver, listener):
        sink = SyslogSink("s", "127.0.0.1", receiver.port, "udp")
        sink.send([event(1), event(2, unmapped={"x": "y" * 20_000}, metadata={"uid": "evt_2"}, message="m" * 20_000)])
        small, large = (parsed(listener.recv(65_536)) for _ in range(2))
        assert small["message"] == "№ 1"
        assert large["metadata"] == {"uid": "evt_2", "is_truncated": True}
        assert "unmapped" not in large


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("syslog+tcp://", "scheme, host and port"),
        ("syslog+tls://siem.example:6514/path", "scheme, host and port"),
        ("syslog+udp://user:word@siem.example", "scheme, host and port"),
        ("syslog://siem.example", "must begin with http"),
        ("https://", "names no host"),
        ("http://[", "no URL"),
        ("syslog+tcp://siem.example:port", "no URL"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        open_sink(url)


def test_a_token_goes_only_over_tls_or_on_this_machine() -> None:
    with pytest.raises(InputError, match="https://"):
        open_sink("http://siem.example/collect", token="secret")
    assert open_sink("https://siem.example/collect", token="secret").name.startswith("siem.example-")
    assert open_sink("http://127.0.0.1/collect", token="secret")


def test_the_name_of_a_sink_hangs_on_its_address() -> None:
    names = {open_sink(f"syslog+{kind}://siem.example").name for kind in ("tcp", "tls", "udp")}
    assert len(names) == 3
    assert open_sink("syslog+tcp://siem.example").name == open_sink("syslog+tcp://siem.example").name
