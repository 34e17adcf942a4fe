"""The event store through its Unix socket: the contract over a real one, and what only the socket can do wrong."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from watchfloor.model.errors import InputError, PastLimit, Unavailable
from watchfloor.storage.ports import CompiledQuery, Limits, Scope, Ticket
from watchfloor.storage.remote import RemoteStore, store_app

from .contract_events import Clock, EventStoreContract, Stage, activities, eventually, logged
from .test_events import open_store


@contextlib.contextmanager
def served(app: ASGIApp, path: Path) -> Iterator[None]:
    """``app`` on the Unix socket ``path``, by a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually(lambda: server.started)
            yield
        finally:
            server.should_exit = True
            thread.join()


class TestRemoteStore(EventStoreContract):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[Stage]:
        clock = Clock()
        with closing(open_store(tmp_path, now=clock)) as engine:
            with served(store_app(engine), tmp_path / "s"), RemoteStore(tmp_path / "s") as remote:
                yield Stage(remote, engine, clock)


def ask(remote: RemoteStore, sql: str = "SELECT 1 AS n", **params: Any) -> list[dict[str, Any]]:
    query = CompiledQuery(sql, params, (), frozenset())
    return [row for batch in remote.query(query, Scope(), Limits(timeout_seconds=5)) for row in batch.to_pylist()]


def test_a_large_result_arrives_whole(tmp_path: Path) -> None:
    sql = "SELECT range AS n, repeat('x', 50) AS x FROM range(200000)"
    with closing(open_store(tmp_path)) as engine, served(store_app(engine), tmp_path / "s"):
        with RemoteStore(tmp_path / "s") as remote:
            query = CompiledQuery(sql, {}, (), frozenset())
            batches = list(remote.query(query, Scope(), Limits(max_rows=200_000)))
            assert sum(b.num_rows for b in batches) == 200_000
            assert batches[-1].column(0)[-1].as_py() == 199_999


def test_a_store_process_that_is_not_there_is_unavailable_with_its_address(tmp_path: Path) -> None:
    with RemoteStore(tmp_path / "nobody") as remote:
        with pytest.raises(Unavailable, match="nobody"):
            ask(remote)
        with pytest.raises(Unavailable, match="nobody"):
            remote.health()


def test_a_client_finds_a_store_process_that_was_started_again(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as engine, RemoteStore(tmp_path / "s") as remote:
        with served(store_app(engine), tmp_path / "s"):
            assert ask(remote) == [{"n": 1}]
        (tmp_path / "s").unlink()
        with pytest.raises(Unavailable):
            ask(remote)
        with served(store_app(engine), tmp_path / "s"):
            eventually(lambda: _answers(remote))


def _answers(remote: RemoteStore) -> bool:
    try:
        return ask(remote) == [{"n": 1}]
    except Unavailable:
        return False


def test_events_cannot_be_written_from_here(tmp_path: Path) -> None:
    with RemoteStore(tmp_path / "s") as remote, pytest.raises(InputError, match="event log"):
        remote.write("AgentActivity", [logged(1, activities("a"))])


def test_a_parameter_that_has_no_meaning_there_is_refused_here(tmp_path: Path) -> None:
    with RemoteStore(tmp_path / "s") as remote, pytest.raises(InputError, match="parameter of type object"):
        ask(remote, "SELECT $x", x=object())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"nonsense", b'{"sql": "SELECT 1"}', b"\xff\xfe"])
def test_a_request_that_is_no_query_is_a_client_error(tmp_path: Path, body: bytes) -> None:
    with closing(open_store(tmp_path)) as engine, served(store_app(engine), tmp_path / "s"):
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "s"))) as client:
            answer = client.post("http://store/query", content=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


def test_an_answer_that_breaks_off_is_never_taken_for_a_short_result(tmp_path: Path) -> None:
    async def cut(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": whole[: len(whole) - 200], "more_body": False})

    with closing(open_store(tmp_path)) as engine:
        query = CompiledQuery("SELECT range AS n FROM range(1000)", {}, (), frozenset())
        from watchfloor.storage.remote import _ipc

        whole = b"".join(_ipc(engine.query(query, Scope(), Limits())))
    with served(cut, tmp_path / "s"), RemoteStore(tmp_path / "s") as remote, pytest.raises(Unavailable):
        ask(remote)


@pytest.mark.parametrize(
    ("health", "status"), [(dict, "ok"), (lambda: {"status": "degraded", "faults": ["x"]}, "degraded")]
)
def test_health_says_what_the_process_says(tmp_path: Path, health: Callable[[], dict[str, Any]], status: str) -> None:
    with closing(open_store(tmp_path)) as engine, served(store_app(engine, health), tmp_path / "s"):
        with RemoteStore(tmp_path / "s") as remote:
            assert remote.health()["status"] == status


def test_a_failure_that_nobody_foresaw_is_unavailable_and_tells_nothing(tmp_path: Path) -> None:
    class Broken:
        dialect = "duckdb"

        def query(self, *_: object) -> Any:
            raise RuntimeError("secret detail")

    with served(store_app(Broken()), tmp_path / "s"), RemoteStore(tmp_path / "s") as remote:
        with pytest.raises(Unavailable) as caught:
            ask(remote)
        assert "secret" not in str(caught.value)


SLOW = "SELECT count(*) FROM range(3000000) a, range(3000000) b WHERE a.range * b.range % 7 = 3"


@pytest.mark.parametrize("when", ["before", "on its way", "running"])
def test_a_query_is_given_up_whenever_its_ticket_is(tmp_path: Path, when: str) -> None:
    with closing(open_store(tmp_path)) as engine, served(store_app(engine), tmp_path / "s"):
        with RemoteStore(tmp_path / "s") as remote:
            ticket = Ticket("t1")
            if when == "before":
                ticket.cancel()
            elif when == "on its way":  # the other process may or may not have it yet
                threading.Thread(target=lambda: (eventually(lambda: ticket.is_attached), ticket.cancel())).start()
            else:
                threading.Thread(
                    target=lambda: (eventually(lambda: ticket.progress() is not None), ticket.cancel())
                ).start()
            query = CompiledQuery(SLOW, {}, (), frozenset())
            with pytest.raises(Unavailable, match="given up"):
                remote.query(query, Scope(), Limits(timeout_seconds=60, ticket=ticket))
            assert ask(remote) == [{"n": 1}]
            assert not ticket.is_attached


def test_a_result_past_its_limits_arrives_as_such(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as engine, served(store_app(engine), tmp_path / "s"):
        with RemoteStore(tmp_path / "s") as remote, pytest.raises(PastLimit, match="more than 3 rows"):
            query = CompiledQuery("SELECT range FROM range(10)", {}, (), frozenset())
            remote.query(query, Scope(), Limits(max_rows=3))
