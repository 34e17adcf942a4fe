"""HTTP, to a collector that listens: JSON lines, and only an answer of success acknowledges."""

from __future__ import annotations

import json

import pytest

from connectors.siem.receivers import http_receiver
from watchfloor.connectors.siem.http import HttpSink
from watchfloor.model.errors import Unavailable

EVENTS = [{"class_uid": 6003, "message": f"№ {n}"} for n in range(300)]


def test_a_batch_arrives_as_lines_with_the_token() -> None:
    with http_receiver() as receiver:
        HttpSink("h", f"http://127.0.0.1:{receiver.port}/collect", token="secret").send(EVENTS)
        assert receiver.messages[0] == b"Bearer secret"
        assert [json.loads(line) for line in receiver.messages[1:]] == EVENTS
        assert receiver.connections == 1


def test_without_a_token_none_is_sent() -> None:
    with http_receiver() as receiver:
        HttpSink("h", f"http://127.0.0.1:{receiver.port}/").send(EVENTS[:1])
        assert receiver.messages[0] == b"None"


@pytest.mark.parametrize("status", ["302", "400", "401", "413", "429", "500", "503"])
def test_any_other_answer_is_no_acknowledgement(status: str) -> None:
    with http_receiver() as receiver:
        receiver.temper = status
        with pytest.raises(Unavailable, match=status):
            HttpSink("h", f"http://127.0.0.1:{receiver.port}/collect").send(EVENTS)
        assert receiver.connections == 1, "a redirect was followed"


def test_nobody_there_is_told() -> None:
    with http_receiver() as receiver:
        port = receiver.port
    with pytest.raises(Unavailable, match="h does not take events"):
        HttpSink("h", f"http://127.0.0.1:{port}/").send(EVENTS)
