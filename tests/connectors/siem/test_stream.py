"""The stream to other SIEMs: nothing is lost, a sink that fails holds up nobody else, contents stay here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.siem.receivers import http_receiver, tcp_receiver
from detection.rows import NOON
from detection.stores import Stores, open_stores
from watchfloor.connectors.siem import open_sink, stream, stream_to_all
from watchfloor.connectors.siem.stream import FEEDS
from watchfloor.model.errors import Unavailable
from watchfloor.storage import findings

pytestmark = pytest.mark.slow


class Kept:
    """A sink that keeps what it is sent. ``failures``: what the next calls do, before or after they took the events."""

    def __init__(self, name: str = "kept", failures: Sequence[str] = ()) -> None:
        self.name, self.batches, self._failures = name, list[list[str]](), list(failures)

    def send(self, events: Sequence[dict[str, Any]]) -> None:
        failure = self._failures.pop(0) if self._failures else ""
        if failure != "before":
            self.batches.append([event["metadata"]["uid"] for event in events])
        if failure:
            raise Unavailable(f"{self.name} fails {failure}")

    @property
    def ids(self) -> list[str]:
        return [uid for batch in self.batches for uid in batch]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with open_stores(tmp_path) as opened:
        yield opened


def decide(stores: Stores, *numbers: int) -> list[str]:
    """One batch of decisions, with a completed call beside each."""
    ids = [f"evt_{number:03}" for number in numbers]
    stores.arrive(*itertools.chain(*(({"id": i}, {"id": f"{i}_end", "action": "ToolCallCompleted"}) for i in ids)))
    return ids


def alert(stores: Stores, number: int) -> str:
    common = {"Timestamp": NOON + timedelta(minutes=number), "TenantId": "default", "AlertId": f"alr_{number}"}
    stores.write(
        "AlertInfo", [common | {"ReportId": f"alert_{number}", "Title": "T", "Severity": "High", "Status": "New"}]
    )
    stores.write("AlertEvidence", [common | {"EntityType": "Ip", "EntityId": "203.0.113.7"}])
    return f"alert_{number}"


@pytest.mark.asvs("16.4.3")
def test_alerts_and_decisions_are_sent_once_in_order_and_what_is_neither_is_not(stores: Stores) -> None:
    first = decide(stores, *range(7))
    raised = alert(stores, 1)
    sink = Kept()
    assert stream(stores.control, stores.activity, sink, batch=3) == 8
    assert sink.ids == [raised, *first]
    assert max(map(len, sink.batches)) <= 3
    assert stream(stores.control, stores.activity, sink, batch=3) == 0
    second = decide(stores, 7)
    assert stream(stores.control, stores.activity, sink) == 1
    assert sink.ids == [raised, *first, *second]


def test_an_event_is_ocsf_and_an_alert_comes_with_its_evidence(stores: Stores) -> None:
    decide(stores, 1)
    alert(stores, 1)
    with http_receiver() as receiver:
        stream(stores.control, stores.activity, open_sink(f"http://127.0.0.1:{receiver.port}/collect"))
        finding, call = (json.loads(line) for line in receiver.messages if line.startswith(b"{"))
    assert finding["evidences"][0]["src_endpoint"] == {"ip": "203.0.113.7"}
    assert (call["class_uid"], call["disposition"]) == (6003, "Blocked")


def test_contents_and_facts_stay_here(stores: Stores) -> None:
    stores.write(
        "AgentActivity",
        [{"Timestamp": NOON, "TenantId": "default", "ReportId": "evt_1", "ActionType": "ToolCallDecided",
          "Verdict": "block", "Facts": '"secret"', "Signals": '[{"excerpt": "secret"}]'}],
    )  # fmt: skip
    stores.write("AgentContent", [{"Timestamp": NOON, "TenantId": "default", "Content": '"secret"'}])
    with tcp_receiver() as receiver:
        assert stream(stores.control, stores.activity, open_sink(f"syslog+tcp://127.0.0.1:{receiver.port}")) == 1
        assert b"evt_1" in receiver.messages[0]
        assert b"secret" not in b"".join(receiver.messages)


def test_what_was_not_acknowledged_is_sent_again(stores: Stores) -> None:
    ids = decide(stores, *range(4))
    sink = Kept(failures=["before", "", "after"])
    for _ in range(2):
        with pytest.raises(Unavailable):
            stream(stores.control, stores.activity, sink, batch=2)
    assert stream(stores.control, stores.activity, sink, batch=2) > 0
    assert list(dict.fromkeys(sink.ids)) == ids
    assert len(sink.ids) > len(ids), "what came before the failure was unsure: it comes twice"


def test_a_sink_that_is_down_is_served_when_it_is_back_and_holds_up_nobody(stores: Stores) -> None:
    ids = decide(stores, 1, 2)
    healthy = Kept("healthy")
    with http_receiver() as receiver:
        down = open_sink(f"http://127.0.0.1:{receiver.port}/collect")
        receiver.temper = "503"
        for _ in range(3):
            with pytest.raises(Unavailable, match="503"):
                stream_to_all(stores.control, stores.activity, [down, healthy])
        assert healthy.ids == ids
        receiver.temper = "kind"
        assert stream_to_all(stores.control, stores.activity, [down, healthy]) == 2
        assert [json.loads(m)["metadata"]["uid"] for m in receiver.messages if m.startswith(b"{")] == ids
    assert healthy.ids == ids


def test_while_another_server_serves_a_sink_nothing_is_sent(stores: Stores) -> None:
    decide(stores, 1)
    sink = Kept()
    lease = stores.control.lease(f"siem:{sink.name}", 60)
    assert lease
    assert stream(stores.control, stores.activity, sink) == 0
    lease.release()
    assert stream(stores.control, stores.activity, sink) == 1


def test_the_cursor_moves_over_what_is_not_streamed(stores: Stores) -> None:
    stores.arrive(*({"action": "ToolCallCompleted"} for _ in range(10)))
    sink = Kept()
    assert stream(stores.control, stores.activity, sink) == 0
    with stores.control.read() as tx:
        assert findings.read_cursor(tx, f"siem:{sink.name}:AgentActivity") == stores.activity.newest_seq()
    assert {table for table, _ in FEEDS} == {"AlertInfo", "AgentActivity"}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.lists(st.sampled_from(["", "before", "after"]), max_size=4)), max_size=6)
)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_fails_every_decision_arrives_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[int, list[str]]]
) -> None:
    numbers = itertools.count()
    with open_stores(tmp_path_factory.mktemp("stream")) as stores:
        sink, wanted = Kept(), list[str]()
        for size, failures in rounds:
            if size:
                wanted += decide(stores, *itertools.islice(numbers, size))
            sink._failures = failures
            try:
                stream(stores.control, stores.activity, sink, batch=2)
            except Unavailable:
                continue
        sink._failures = []
        stream(stores.control, stores.activity, sink, batch=2)
        assert list(dict.fromkeys(sink.ids)) == wanted
