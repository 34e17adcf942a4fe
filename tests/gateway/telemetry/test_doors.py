"""The doors as senders see them, over real sockets: what is taken, what is refused and how; nothing is lost."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import uvicorn
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from watchfloor.gateway.telemetry.receiver import Receiver, ReceiverPlan
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import Seq
from watchfloor.storage.rows import is_packed, unpack
from watchfloor.storage.sources import TelemetrySource, delete_source, save_source
from watchfloor.storage.tables import TABLES

from .requests import in_a365, in_json, in_protobuf, message, request, span_id

TOKEN = "wfsrc_test-token"
PROTOBUF = "application/x-protobuf"


@dataclass
class House:
    """A receiver on real ports, with its control state and its log."""

    data: Path
    control: SqlControlStore
    epoch: EpochFile
    log: SqliteLog
    http: httpx.AsyncClient
    grpc_port: int

    def source(self, **fields: Any) -> None:
        at = datetime.now(UTC)
        given: dict[str, Any] = {"id": "s1", "name": "s1", "agents": ("billing",), **fields}
        with self.control.tx("test") as tx:
            save_source(tx, TelemetrySource(token_hash=_hash(TOKEN), created_at=at, updated_at=at, **given))

    async def post(self, body: bytes, path: str = "/v1/traces", kind: str = PROTOBUF, **headers: str) -> httpx.Response:
        sent = {"content-type": kind, "authorization": f"Bearer {TOKEN}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, content=body, headers=sent)

    def rows(self, table: str = "AgentActivity") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for logged in self.log.read("main", Seq(0), 1_000_000):
            if logged.table == table:
                batch = unpack(TABLES[table], [logged.batch]) if is_packed(logged.batch) else logged.batch
                found += batch.to_pylist()
        return found


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def receiving(tmp_path: Path, **options: Any) -> AsyncIterator[House]:
    epoch = EpochFile.create(tmp_path / "epoch")
    control = SqlControlStore.open(f"sqlite:///{tmp_path / 'control.db'}", epoch=epoch)
    epoch.beat()
    port, grpc_port = free_port(), free_port()
    plan = ReceiverPlan(
        data=tmp_path,
        database_url=f"sqlite:///{tmp_path / 'control.db'}",
        host="127.0.0.1",
        port=port,
        grpc_port=grpc_port,
        lease_seconds=60,
        **options,
    )
    receiver = Receiver(plan, lambda: SqliteLog(tmp_path / "log.db", min_free_bytes=0))
    config = uvicorn.Config(receiver.app, port=port, log_config=None, access_log=False, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            house = House(tmp_path, control, epoch, log, client, grpc_port)
            house.source()
            yield house
    finally:
        server.should_exit = True
        await serving
        log.close()
        control.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with receiving(tmp_path) as found:
        yield found


def spans(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["SpanId"] for row in rows)


IDS = [span_id(n).hex() for n in range(1, 4)]
THREE = [message(n) for n in range(1, 4)]


# -- what is taken ----------------------------------------------------------------------------------------------------


async def test_otlp_in_protobuf_is_taken_and_answered_in_protobuf(house: House) -> None:
    answer = await house.post(in_protobuf(*THREE))
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, PROTOBUF, b"")
    assert spans(house.rows()) == IDS
    assert {r["SourceDoor"] for r in house.rows()} == {"otlp-http"}
    assert {(r["AgentId"], r["ToolName"], r["SourceId"]) for r in house.rows()} == {("billing", "send_mail", "s1")}


async def test_otlp_in_json_is_taken_and_answered_in_json(house: House) -> None:
    answer = await house.post(in_json(*THREE), kind="application/json; charset=utf-8")
    assert (answer.status_code, answer.json()) == (200, {})
    assert spans(house.rows()) == IDS
    assert {r["SourceDoor"] for r in house.rows()} == {"otlp-json"}


@pytest.mark.parametrize("prefix", ["observabilityService", "observability"])
async def test_both_addresses_of_agent_365s_sdk_take_its_own_form(house: House, prefix: str) -> None:
    path = f"/{prefix}/tenants/11111111-1111-1111-1111-111111111111/otlp/agents/billing/traces?api-version=1"
    answer = await house.post(in_a365({}, {}), path, "application/json")
    assert answer.status_code == 200
    assert spans(house.rows()) == IDS[:2]
    assert {r["SourceDoor"] for r in house.rows()} == {"a365"}


async def test_our_own_events_are_taken(house: House) -> None:
    events = [
        {"id": "1", "type": "tool_call", "agent": "billing", "tool": "x"},
        {"id": "2", "type": "dance", "agent": "b"},
    ]
    answer = await house.post(json.dumps({"events": events}).encode(), "/events/v1", "application/json")
    assert answer.status_code == 200
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 1)
    assert "type must be one of" in answer.json()["message"]


async def test_otlp_over_grpc_is_taken(house: House) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.grpc_port}") as channel:
        stub = TraceServiceStub(channel)
        answer = await stub.Export(request(*THREE), metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=20)
    assert answer == ExportTraceServiceResponse()
    assert spans(house.rows()) == IDS
    assert {(r["SourceDoor"], r["IPAddress"]) for r in house.rows()} == {("otlp-grpc", "127.0.0.1")}


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies_are_taken(house: House, encoding: str, pack: Any) -> None:
    assert (await house.post(pack(in_protobuf(*THREE)), content_encoding=encoding)).status_code == 200
    assert spans(house.rows()) == IDS


async def test_a_span_is_stored_once_however_often_and_through_whichever_door_it_comes(house: House) -> None:
    await asyncio.gather(*(house.post(in_protobuf(*THREE)) for _ in range(5)))
    await house.post(in_json(*THREE), kind="application/json")
    await house.post(in_protobuf(THREE[0], message(9)))
    assert spans(house.rows()) == sorted([*IDS, span_id(9).hex()])


async def test_two_sources_cannot_take_each_others_spans_away(house: House) -> None:
    await house.post(in_protobuf(*THREE))
    at = datetime.now(UTC)
    with house.control.tx("test") as tx:
        save_source(tx, TelemetrySource("s2", "s2", _hash("wfsrc_other"), at, at))
    await house.post(in_protobuf(*THREE), authorization="Bearer wfsrc_other")
    assert spans(house.rows()) == sorted(IDS * 2)


# -- what is set aside ------------------------------------------------------------------------------------------------


@pytest.mark.claim("telemetry-quarantine")
async def test_a_poisoned_span_is_quarantined_with_its_reason_and_its_neighbours_are_stored(house: House) -> None:
    body = in_protobuf(message(1), message(2, {"secret": "XXXX"}), message(3))
    at = body.index(b"XXXX")
    poisoned = body[:at] + b"\xff\xfe\xfd\xfc" + body[at + 4 :]
    answer = await house.post(poisoned)
    assert answer.status_code == 200
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 1
    assert "damaged" in partial.error_message
    assert spans(house.rows()) == [IDS[0], IDS[2]]
    (row,) = house.rows("TelemetryRejects")
    assert (row["SourceId"], row["SourceDoor"], row["Place"][-8:]) == ("s1", "otlp-http", "spans[1]")
    assert "damaged" in row["Reason"]
    assert [c["Kind"] for c in house.rows("AgentContent") if c["Kind"] == "rejected"] == ["rejected"]
    await house.post(poisoned)  # sent again: quarantined once
    assert len(house.rows("TelemetryRejects")) == 1


async def test_a_source_says_nothing_about_agents_that_are_not_its_own(house: House) -> None:
    other = {"gen_ai.operation.name": "chat", "gen_ai.agent.id": "payroll"}
    answer = await house.post(in_protobuf(message(1), message(2, other)))
    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1
    assert spans(house.rows()) == IDS[:1]
    assert "may not say what payroll did" in house.rows("TelemetryRejects")[0]["Reason"]


async def test_the_agent_of_the_address_is_the_agent_of_the_spans(house: House) -> None:
    house.source(agents=("*",))
    path = "/observabilityService/tenants/t/otlp/agents/payroll/traces"
    answer = await house.post(in_a365({}), path, "application/json")
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert house.rows() == []


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wfsrc_wrong", "Basic abc", "Bearer wft_operator"])
async def test_without_a_token_that_counts_nothing_is_read(house: House, authorization: str) -> None:
    answer = await house.post(in_protobuf(*THREE), authorization=authorization)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert Status.FromString(answer.content).message
    assert house.rows() == []


async def test_a_source_that_was_deleted_is_refused_at_once(house: House) -> None:
    assert (await house.post(in_protobuf(*THREE))).status_code == 200
    with house.control.tx("test") as tx:
        delete_source(tx, "s1")
    assert (await house.post(in_protobuf(message(9)))).status_code == 401


async def test_over_its_quota_a_source_is_told_when_to_come_back(house: House) -> None:
    house.source(events_per_second=2)
    assert (await house.post(in_protobuf(*THREE))).status_code == 200
    answer = await house.post(in_protobuf(message(8), message(9)))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert spans(house.rows()) == IDS
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.grpc_port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            sent = (("authorization", f"Bearer {TOKEN}"),)
            await TraceServiceStub(channel).Export(request(message(8), message(9)), metadata=sent, timeout=20)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing = dict(refused.value.trailing_metadata())
    (detail,) = Status.FromString(trailing["grpc-status-details-bin"]).details
    retry = RetryInfo()
    assert detail.Unpack(retry)
    assert retry.retry_delay.seconds >= 1


async def test_a_store_that_is_behind_sends_telemetry_away_and_loses_nothing(tmp_path: Path) -> None:
    async with receiving(tmp_path, backlog_rows=1000) as house:
        house.source(events_per_second=1_000_000)
        many = [message(n) for n in range(1, 1500)]
        assert (await house.post(in_protobuf(*many))).status_code == 200
        answer = await house.post(in_protobuf(message(2000)))
        for _ in range(200):  # the backlog is measured twice a second
            if answer.status_code == 503:
                break
            await asyncio.sleep(0.02)
            answer = await house.post(in_protobuf(message(2000)))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert (await house.http.get("/readyz")).status_code == 503
        house.log.trim("main", Seq(2**40))
        for _ in range(200):
            if answer.status_code == 200:
                break
            await asyncio.sleep(0.02)
            answer = await house.post(in_protobuf(message(2000)))
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "path", "status"),
    [
        (b"\xff\xff", PROTOBUF, "/v1/traces", 400),
        (b"{", "application/json", "/v1/traces", 400),
        (b"{}", "application/json", "/v1/traces", 400),
        (b"x", "text/plain", "/v1/traces", 415),
        (b"x", PROTOBUF, "/v1/metrics", 404),
        (b"x" * 5_000_000, PROTOBUF, "/v1/traces", 413),
    ],
)
async def test_what_cannot_be_read_is_refused_by_what_is_wrong(
    tmp_path: Path, body: bytes, kind: str, path: str, status: int
) -> None:
    async with receiving(tmp_path, max_body_bytes=4_000_000) as house:
        assert (await house.post(body, path, kind)).status_code == status


async def test_a_body_that_grows_past_all_measure_is_refused_before_it_has_grown(tmp_path: Path) -> None:
    async with receiving(tmp_path, max_body_bytes=100_000) as house:
        bomb = gzip.compress(b"\0" * 50_000_000)
        assert len(bomb) < 100_000
        assert (await house.post(bomb, content_encoding="gzip")).status_code == 413
        cut = gzip.compress(in_protobuf(*THREE))[:-10]
        assert (await house.post(cut, content_encoding="gzip")).status_code == 400
        assert (await house.post(b"x", content_encoding="br")).status_code == 400


async def test_how_the_receiver_fares_can_be_asked(house: House) -> None:
    await house.post(in_protobuf(*THREE))
    assert (await house.http.get("/healthz")).status_code == 200
    assert (await house.http.get("/readyz")).json() == {"status": "ready", "problems": []}
    metrics = (await house.http.get("/metrics")).text
    assert 'watchfloor_telemetry_stored_total{door="otlp-http"} 3' in metrics
    assert (await house.http.get("/v1/traces")).status_code == 405


async def test_what_was_received_is_what_was_stored_known_and_rejected_however_often_it_is_sent(tmp_path: Path) -> None:
    async with receiving(tmp_path) as house:
        other = {"gen_ai.operation.name": "chat", "gen_ai.agent.id": "payroll"}
        for _ in range(3):  # two are taken, one is of an agent that the source may not speak for
            await house.post(in_protobuf(message(1), message(2, other), message(3)))
        await house.post(in_protobuf(message(3), message(3), message(4)))
        await house.post(b'{"resourceSpans": [{"scopeSpans": [{"spans": [1, 1]}]}]}', kind="application/json")
        metrics = (await house.http.get("/metrics")).text
        assert spans(house.rows()) == [span_id(n).hex() for n in (1, 3, 4)]
        for name, count in {"received": 12, "stored": 3, "duplicates": 6, "rejected": 3}.items():
            assert f'watchfloor_telemetry_{name}_total{{door="otlp-http"}} {count}\n' in metrics
        for name, count in {"received": 2, "stored": 0, "duplicates": 0, "rejected": 2}.items():
            assert f'watchfloor_telemetry_{name}_total{{door="otlp-json"}} {count}\n' in metrics


async def test_health_is_stored_when_the_receiver_ends(tmp_path: Path) -> None:
    async with receiving(tmp_path) as house:
        await house.post(in_protobuf(*THREE))
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0)
    tables = [logged.table for logged in log.read("main", Seq(0), 1000)]
    log.close()
    assert "PipelineHealth" in tables


# -- fuzz -------------------------------------------------------------------------------------------------------------

GOOD = in_protobuf(*(message(n, {"gen_ai.agent.id": "billing", "n": n}) for n in range(1, 4)))
JSON_GOOD = in_json(*THREE)
JSON_PATHS = ["/v1/traces", "/observability/tenants/t/otlp/agents/billing/traces", "/events/v1"]
leaves = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False)
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*("resourceSpans", "scopeSpans", "spans", "attributes"), *("traceId", "events", "id", "type", "agent")]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


async def test_no_body_whatever_makes_a_500(tmp_path: Path) -> None:
    async with receiving(tmp_path) as house:
        house.source(events_per_second=1_000_000)
        loop = asyncio.get_running_loop()

        def post(body: bytes, path: str, kind: str) -> int:
            return asyncio.run_coroutine_threadsafe(house.post(body, path, kind), loop).result(30).status_code

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
        def mutated(changes: list[tuple[int, int]]) -> None:
            body = bytearray(GOOD)
            for at, byte in changes:
                body[at] = byte
            assert post(bytes(body), "/v1/traces", PROTOBUF) in (200, 400)

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(anything, st.sampled_from(JSON_PATHS))
        def made_up(value: Any, path: str) -> None:
            assert post(json.dumps(value).encode(), path, "application/json") in (200, 400)

        await asyncio.to_thread(mutated)
        await asyncio.to_thread(made_up)
        assert (await house.post(in_protobuf(message(77)))).status_code == 200
        assert span_id(77).hex() in spans(house.rows())
