"""kill -9 of the receiver under load: whatever was acknowledged is there exactly once, and what was sent again, too."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from scenarios.company import Company, running, wait_until

pytestmark = pytest.mark.slow

ROUNDS = 20
SPANS = 10


class Sender(threading.Thread):
    """Posts one request after the other; one that is not answered is sent again, as exporters do."""

    def __init__(self, company: Company, token: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._token, self._number, self._stop_event = company.receiver_port, token, number, stop
        self.acknowledged: list[str] = []
        self.again = 0

    def run(self) -> None:
        """Until told to stop; the request at hand is finished first."""
        request = 0
        while not self._stop_event.is_set():
            request += 1
            ids = [f"{self._number:02x}{request:06x}{n:08x}" for n in range(1, SPANS + 1)]
            self._post_until_taken(self._body(request, ids))
            self.acknowledged += ids

    def _body(self, request: int, ids: list[str]) -> bytes:
        message = ExportTraceServiceRequest()
        spans = message.resource_spans.add().scope_spans.add().spans
        now = time.time_ns()
        for span_id in ids:
            span = spans.add(
                trace_id=bytes([self._number]) * 12 + request.to_bytes(4),
                span_id=bytes.fromhex(span_id),
                name="execute_tool lookup",
                start_time_unix_nano=now,
                end_time_unix_nano=now + 1000,
            )
            span.attributes.add(key="gen_ai.agent.id").value.string_value = "billing"
            span.attributes.add(key="gen_ai.tool.call.arguments").value.string_value = f'{{"key":"{span_id}"}}'
        raw: bytes = message.SerializeToString()
        return raw

    def _post_until_taken(self, body: bytes) -> None:
        headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {self._token}"}
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            try:
                connection.request("POST", "/v1/traces", body, headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200:
                    assert said == b"", "nothing of it is rejected"
                    return
                assert answer.status in (429, 503), (answer.status, said)
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            self.again += 1
            time.sleep(0.05)


def found(company: Company, table: str) -> Counter[str]:
    """How often each span is in a table."""
    answer = company.api(
        "POST", "/api/hunting/run", json={"query": f"{table} | summarize Rows = count() by SpanId", "max_rows": 100_000}
    )
    return Counter({row[0]: row[1] for row in answer["rows"]})


@pytest.mark.claim("telemetry-exactly-once")
def test_whatever_a_killed_receiver_had_answered_is_there_exactly_once(tmp_path: Path) -> None:
    with running(tmp_path) as company:
        source = company.api(
            "POST", "/api/sources", json={"id": "load", "agents": ["billing"], "events_per_second": 1_000_000}
        )
        stop = threading.Event()
        senders = [Sender(company, source["token"], n, stop) for n in range(1, 5)]
        for sender in senders:
            sender.start()
        chance = random.Random(7)
        for _ in range(ROUNDS):
            before = company.pid("receiver-0")
            time.sleep(chance.uniform(0.1, 0.9))  # any moment will do: that is the point
            company.kill("receiver-0")
            wait_until(lambda before=before: company.pid("receiver-0") != before, 30, "restart of the receiver")
        stop.set()
        for sender in senders:
            sender.join(60)
            assert not sender.is_alive()
        acknowledged = Counter(span_id for sender in senders for span_id in sender.acknowledged)
        assert sum(sender.again for sender in senders) > 0, "no request was ever cut off: the test proves nothing"
        assert set(acknowledged.values()) == {1}

        def is_all_there() -> bool:
            return sum(found(company, "AgentActivity | where isnotempty(SpanId)").values()) >= len(acknowledged)

        wait_until(is_all_there, 60, "arrival of all spans")
        for table in ("AgentActivity | where isnotempty(SpanId)", 'AgentContent | where Kind == "tool_arguments"'):
            assert found(company, table) == acknowledged, table
