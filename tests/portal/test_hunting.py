"""Hunting over HTTP: rows, pages, progress, cancelling, limits, who sees what, and what the audit keeps of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest

from portal.house import ORIGIN, House
from watchfloor.model.people import Role
from watchfloor.storage import hunts, lists

SLOW = "range a from 1 to 3000000 step 1 | extend k=1 | join kind=inner (range b from 1 to 3000000 step 1 | extend k=1) on k | summarize sum(a * b)"  # noqa: E501
"""Nobody waits for the end of this one."""


def _run(house: House, query: str, role: Role = Role.SOC_OPERATOR, **body: Any) -> httpx.Response:
    return house.client(role).post("/api/hunting/run", json={"query": query, **body})


def _rows(answer: httpx.Response) -> list[list[Any]]:
    assert answer.status_code == 200, answer.text
    rows: list[list[Any]] = answer.json()["rows"]
    return rows


def _log(house: House) -> list[dict[str, Any]]:
    """The query log, newest first."""
    answer = house.client(Role.OWNER).get("/api/audit", params={"action": "hunt:run", "limit": 5})
    return [item for item in answer.json()["items"] if item["action"] == "hunt:run"]


def _until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture
def slow(house: House) -> Iterator[str]:
    """The id of a run that is under way."""
    run_id = _run(house, SLOW, wait=False).json()["id"]
    client = house.client(Role.SOC_OPERATOR)
    _until(lambda: client.get(f"/api/hunting/runs/{run_id}").json()["state"] == "running")
    yield run_id
    client.delete(f"/api/hunting/runs/{run_id}")


# -- answers ----------------------------------------------------------------------------------------------------------


def test_rows_come_typed_and_with_their_columns(attacked: House) -> None:
    answer = _run(
        attacked,
        'print l=1, r=real(nan), s="x", d=dynamic({"a":[1]}), t=datetime(2026-01-02 03:04:05.123456), e=-1d, '
        "b=true, g=guid(74be27de-1e4e-49d9-b579-fe0b331d3642), m=decimal(1.50), n=long(null)",
    )
    assert _rows(answer) == [
        [1, "NaN", "x", {"a": [1]}, "2026-01-02T03:04:05.1234560Z", "-1.00:00:00", True,
         "74be27de-1e4e-49d9-b579-fe0b331d3642", "1.5", None]
    ]  # fmt: skip
    types = {c["name"]: c["type"] for c in answer.json()["columns"]}
    assert types == {"l": "long", "r": "real", "s": "string", "d": "dynamic", "t": "datetime", "e": "timespan",
                     "b": "bool", "g": "guid", "m": "decimal", "n": "long"}  # fmt: skip


def test_a_query_sees_what_agents_did(attacked: House) -> None:
    query = "AgentActivity | where ToolName == 'send_email' | summarize n=count() by AgentId"
    assert _rows(_run(attacked, query)) == [["billing", 6]]


def test_columns_that_depend_on_data_are_found_on_the_way(attacked: House) -> None:
    answer = _run(attacked, "AgentActivity | evaluate pivot(ToolName, count(), AgentId)")
    assert {c["name"] for c in answer.json()["columns"]} == {"AgentId", "lookup", "send_email"}


def test_an_answer_says_how_to_draw_it(attacked: House) -> None:
    shown = _run(attacked, "print a=1 | render piechart with (title='T')").json()["visualization"]
    assert (shown["Visualization"], shown["Title"]) == ("piechart", "T")


def test_rows_come_page_by_page(house: House) -> None:
    run_id = _run(house, "range x from 1 to 25 step 1", wait=False).json()["id"]
    client = house.client(Role.SOC_OPERATOR)
    _until(lambda: client.get(f"/api/hunting/runs/{run_id}").json()["state"] == "done")
    found, after = [], 0
    while after is not None:
        page = client.get(f"/api/hunting/runs/{run_id}/rows", params={"after": after, "limit": 10}).json()
        found += [x for (x,) in page["rows"]]
        assert page["total"] == 25
        after = page["next"]
    assert found == list(range(1, 26))
    view = client.get(f"/api/hunting/runs/{run_id}").json()
    assert (view["rows"], view["progress"], view["error"]) == (25, 1.0, None)


def test_an_arrow_answer_holds_the_same_rows(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    headers = {"accept": "application/vnd.apache.arrow.stream"}
    answer = client.post("/api/hunting/run", json={"query": "range x from 1 to 3 step 1"}, headers=headers)
    assert answer.headers["content-type"] == headers["accept"]
    assert pa.ipc.open_stream(answer.content).read_all().to_pydict() == {"x": [1, 2, 3]}


def test_timespan_narrows_what_tables_give_and_nothing_else(attacked: House) -> None:
    count = "AgentActivity | count"
    [[everything]] = _rows(_run(attacked, count))
    [[recent]] = _rows(_run(attacked, count, timespan="PT1M"))
    assert 0 < recent < everything
    assert _rows(_run(attacked, count, timespan="2020-01-01/2020-02-01")) == [[0]]
    assert _rows(_run(attacked, "print 1", timespan="2020-01-01/2020-02-01")) == [[1]]
    refused = _run(attacked, count, timespan="soon")
    assert (refused.status_code, refused.json()["where"]) == (422, "timespan")


# -- errors and limits ------------------------------------------------------------------------------------------------


def test_an_error_says_where_and_what_to_write(attacked: House) -> None:
    body = _run(attacked, "AgentActivity\n| where ToolNam == 'x'").json()
    assert (body["status"], body["code"], body["where"]) == (422, "invalid_input", "line 2, column 9")
    assert body["remedy"] == "Did you mean ToolName?"


def test_checking_finds_every_fault_or_the_columns(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    found = client.post("/api/hunting/check", json={"query": "AgentActivity | where Nope == 1 | where Neither > 2"})
    faults = found.json()["faults"]
    assert [(f["kind"], f["column"]) for f in faults] == [("semantic", 23), ("semantic", 41)]
    found = client.post("/api/hunting/check", json={"query": "AgentActivity | summarize n=count() by AgentId"})
    assert found.json() == {
        "faults": [], "columns": [{"name": "AgentId", "type": "string"}, {"name": "n", "type": "long"}]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "limit", "says"),
    [("range x from 1 to 100 step 1", {"max_rows": 10}, "10 rows"), (SLOW, {"timeout_seconds": 0.3}, "0.3 s")],
)
def test_a_query_past_its_limits_is_refused_as_such(
    attacked: House, query: str, limit: dict[str, Any], says: str
) -> None:
    body = _run(attacked, query, **limit).json()
    assert (body["status"], body["code"]) == (422, "past_limit")
    assert says in body["detail"]


def test_more_queries_than_can_wait_are_sent_away_for_a_while(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hunts, "WAITING", 1)
    started = [_run(house, SLOW, wait=False) for _ in range(hunts.CONCURRENT + 1)]
    assert {answer.status_code for answer in started} == {200}
    for answer in (_run(house, "print 1"), house.client(Role.OWNER).post("/v2/rest/query", json={"csl": "print 1"})):
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
    for answer in started:
        house.client(Role.SOC_OPERATOR).delete(f"/api/hunting/runs/{answer.json()['id']}")
    _until(lambda: _run(house, "print 1").status_code == 200)


# -- life of a run ----------------------------------------------------------------------------------------------------


@pytest.mark.asvs("8.2.2")
def test_a_run_can_be_watched_and_cancelled_by_who_began_it_alone(house: House, slow: str) -> None:
    client, other = house.client(Role.SOC_OPERATOR), house.client(Role.OWNER)
    assert [r["id"] for r in client.get("/api/hunting/runs").json()["items"]] == [slow]
    assert other.get("/api/hunting/runs").json()["items"] == []
    assert other.delete(f"/api/hunting/runs/{slow}").status_code == 404
    _until(lambda: client.get(f"/api/hunting/runs/{slow}").json()["progress"] is not None)
    assert 0 <= client.get(f"/api/hunting/runs/{slow}").json()["progress"] < 1
    assert client.get(f"/api/hunting/runs/{slow}/rows").status_code == 409
    assert client.delete(f"/api/hunting/runs/{slow}").json()["state"] == "cancelled"
    assert client.get(f"/api/hunting/runs/{slow}/rows").json()["code"] == "cancelled"
    assert _log(house)[0]["detail"]["outcome"] == "cancelled"


def test_a_run_that_waits_for_its_turn_can_be_cancelled_at_once(house: House) -> None:
    client = house.client(Role.SOC_OPERATOR)
    ids = [_run(house, SLOW, wait=False).json()["id"] for _ in range(hunts.CONCURRENT + 1)]
    assert client.get(f"/api/hunting/runs/{ids[-1]}").json()["state"] == "queued"
    assert client.delete(f"/api/hunting/runs/{ids[-1]}").json()["state"] == "cancelled"
    for run_id in ids[:-1]:
        assert client.delete(f"/api/hunting/runs/{run_id}").json()["state"] == "cancelled"


def test_closing_cancels_what_runs(house: House, slow: str) -> None:
    house.deps.hunts.close()
    assert house.deps.hunts.find(slow, "op-soc-operator").state is hunts.State.CANCELLED


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/hunting/run", {"query": SLOW}),
        ("/v2/rest/query", {"csl": SLOW}),
        ("/v1.0/security/runHuntingQuery", {"Query": SLOW}),
    ],
)
def test_hanging_up_cancels_the_query(house: House, path: str, body: dict[str, Any]) -> None:
    token = house.token(Role.SOC_OPERATOR)

    async def hang_up() -> None:
        sent = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not sent.is_set():
                sent.set()
                content = httpx.Request("POST", ORIGIN, json=body).content
                return {"type": "http.request", "body": content, "more_body": False}
            while not [r for r in house.deps.hunts.of("op-soc-operator") if r.state is hunts.State.RUNNING]:
                await asyncio.sleep(0.02)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        headers = [
            (b"host", b"x"),
            (b"authorization", f"Bearer {token}".encode()),
            (b"content-type", b"application/json"),
        ]
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
                 "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 7700), "scheme": "http",
                 "http_version": "1.1", "asgi": {"version": "3.0"}}  # fmt: skip
        await asyncio.wait_for(house.app(scope, receive, send), 20)

    asyncio.run(hang_up())
    [run] = house.deps.hunts.of("op-soc-operator")
    run.ended.result(10)
    assert run.state is hunts.State.CANCELLED


def test_results_are_forgotten_oldest_first_past_the_limit(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hunts, "KEEP_BYTES", 100_000)
    first, second = (_run(house, "range x from 1 to 10000 step 1", max_rows=10_000).json()["id"] for _ in range(2))
    client = house.client(Role.SOC_OPERATOR)
    assert client.get(f"/api/hunting/runs/{first}/rows").status_code == 404
    assert client.get(f"/api/hunting/runs/{second}/rows").status_code == 200


# -- who sees what ----------------------------------------------------------------------------------------------------


@pytest.mark.asvs("8.2.3")
def test_contents_are_hunted_in_only_by_who_may_read_contents(attacked: House) -> None:
    query = "AgentContent | count"
    assert _run(attacked, query, Role.SOC_OPERATOR).status_code == 200
    refused = _run(attacked, query, Role.SOC_ANALYST)
    assert (refused.status_code, refused.json()["detail"]) == (422, "There is no table AgentContent.")
    for role, is_there in ((Role.SOC_OPERATOR, True), (Role.SOC_ANALYST, False)):
        client = attacked.client(role)
        tables = {t["name"] for t in client.get("/api/hunting/schema").json()["tables"]}
        assert ("AgentContent" in tables) is is_there
        kusto = client.post("/v1/rest/mgmt", json={"csl": ".show databases schema as json"})
        shown = json.loads(kusto.json()["Tables"][0]["Rows"][0][0])
        assert ("AgentContent" in shown["Databases"]["watchfloor"]["Tables"]) is is_there
        for path, body in (
            ("/v2/rest/query", {"csl": query}),
            ("/v1/rest/query", {"csl": query}),
            ("/v1.0/security/runHuntingQuery", {"Query": query}),
        ):
            assert (client.post(path, json=body).status_code == 200) is is_there, path


def test_unions_over_everything_leave_contents_out(attacked: House) -> None:
    query = "union withsource=From * | distinct From"
    assert ["AgentContent"] not in _rows(_run(attacked, query, Role.SOC_ANALYST))


def test_the_schema_names_tables_columns_and_functions(attacked: House) -> None:
    schema = attacked.client(Role.SOC_ANALYST).get("/api/hunting/schema").json()
    activity = next(t for t in schema["tables"] if t["name"] == "AgentActivity")
    assert activity["doc"] and all(c["doc"] and c["type"] for c in activity["columns"])
    assert {"strlen", "count"} <= {f["name"] for f in schema["functions"]}


def test_the_schema_names_views_beside_tables_at_every_door(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    tables = {t["name"]: t for t in client.get("/api/hunting/schema").json()["tables"]}
    events = tables["CloudAppEvents"]
    assert events["is_content"] is False
    assert all(c["doc"] and c["type"] for c in events["columns"])
    for command in (".show tables", ".show database schema", ".show table CloudAppEvents cslschema"):
        answer = client.post("/v1/rest/mgmt", json={"db": "watchfloor", "csl": command})
        assert "CloudAppEvents" in answer.text, command
    rows = client.post("/api/hunting/run", json={"query": "CloudAppEvents | summarize count() by ActionType"}).json()
    assert dict(rows["rows"])["CopilotInteraction"] == 4


# -- the query log ----------------------------------------------------------------------------------------------------


def test_every_query_is_logged_with_who_what_how_much_and_how_long(house: House) -> None:
    house.attack()
    _run(house, "AgentActivity | take 3")
    _run(house, "Nothing | take 3")
    failed, done = _log(house)[:2]
    assert done["actor"] == "op-soc-operator"
    assert done["subject"].startswith("hunt/run_")
    seconds = done["detail"].pop("seconds")
    assert 0 < seconds < 30
    assert done["detail"] == {
        "query": "AgentActivity | take 3", "door": "api", "outcome": "done", "rows": 3, "tables": ["AgentActivity"],
    }  # fmt: skip
    assert (failed["detail"]["outcome"], failed["detail"]["rows"]) == ("failed", 0)
    assert "There is no table Nothing." in failed["detail"]["error"]


def test_marked_strings_are_masked_in_the_log_whatever_door_and_outcome(house: House) -> None:
    client = house.client(Role.SOC_OPERATOR)
    client.post("/api/hunting/run", json={"query": 'print x=h"hunter2", y=@"kept"'})
    client.post("/v2/rest/query", json={"csl": "print x = h'hunter2' | nope"})
    client.post("/v1.0/security/runHuntingQuery", json={"Query": "print x = 'a' matches regex h'(hunter2'"})
    log = _log(house)
    assert "hunter2" not in str(log)
    assert [entry["detail"]["door"] for entry in log] == ["graph", "kusto", "api"]
    assert log[-1]["detail"]["query"] == 'print x=h"***", y=@"kept"'


def test_no_rows_are_given_when_the_log_does_not_take_the_query(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: hunts.Run) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(house.deps.hunts, "_on_end", broken)
    answer = _run(house, "print secret=42")
    assert answer.status_code == 500
    assert "42" not in answer.text


# -- named lists ------------------------------------------------------------------------------------------------------

ASSETS = "AgentId,Weight,Since,Note\nbilling,3,2026-01-01,007\nhr,1,2026-02-01,\n"


def _upload(house: House, name: str = "assets", text: str | bytes = ASSETS, **params: str) -> httpx.Response:
    return house.client(Role.SOC_OPERATOR).put(f"/api/hunting/lists/{name}", content=text, params=params)


def test_a_list_is_uploaded_used_downloaded_and_deleted(house: House) -> None:
    house.attack()
    saved = _upload(house, description="Weights").json()
    assert saved["columns"] == [
        {"name": "AgentId", "type": "string"}, {"name": "Weight", "type": "long"},
        {"name": "Since", "type": "datetime"}, {"name": "Note", "type": "string"},
    ]  # fmt: skip
    assert (saved["row_count"], saved["key_column"], saved["updated_by"]) == (2, "AgentId", "op-soc-operator")
    analyst = house.client(Role.SOC_ANALYST)
    assert [item["name"] for item in analyst.get("/api/hunting/lists").json()["items"]] == ["assets"]
    assert analyst.get("/api/hunting/lists/assets").text.replace("\r\n", "\n") == ASSETS
    known = {item["name"] for item in analyst.get("/api/hunting/schema").json()["lists"]}
    assert known == {"assets", lists.ADDRESSES, lists.ACCOUNTS}
    joined = "AgentActivity | lookup kind=inner {} on AgentId | summarize w=take_any(Weight) by AgentId"
    for name in ("(_GetWatchlist('assets'))", "assets", "(assets)"):
        assert _rows(_run(house, joined.format(name), Role.SOC_ANALYST)) == [["billing", 3]], name
    query = "_GetWatchlist('assets') | where SearchKey == 'hr' | project Since, Note"
    assert _rows(_run(house, query)) == [["2026-02-01T00:00:00.0000000Z", ""]]
    assert analyst.delete("/api/hunting/lists/assets").status_code == 403
    assert house.client(Role.SOC_OPERATOR).delete("/api/hunting/lists/assets").status_code == 204
    assert _run(house, "assets").status_code == 422
    audit = house.client(Role.OWNER).get("/api/audit").json()["items"]
    assert {"list:create", "list:delete"} <= {entry["action"] for entry in audit}


def test_replacing_a_list_changes_what_the_next_query_sees(house: House) -> None:
    _upload(house, text="K\na\n")
    assert _rows(_run(house, "assets")) == [["a"]]
    house.clock.forward(seconds=1)
    _upload(house, text="K,V\nb,1.5\n")
    assert _rows(_run(house, "assets")) == [["b", 1.5]]


def test_types_are_guessed_only_where_nothing_is_lost_and_can_be_given(house: House) -> None:
    text = "a,b,c,d,e,f,g\n1,1.5,true,2026-01-02,74be27de-1e4e-49d9-b579-fe0b331d3642,01,99999999999999999999\n,,,,,,\n"
    kinds = [c["type"] for c in _upload(house, text=text).json()["columns"]]
    assert kinds == ["long", "real", "bool", "datetime", "guid", "string", "string"]
    house.clock.forward(seconds=1)
    kinds = [c["type"] for c in _upload(house, text=text, types="a:real,f:long", key="f").json()["columns"]]
    assert kinds[0] == "real" and kinds[5] == "long"
    assert _rows(_run(house, "assets | project a, f")) == [[1.0, 1], [None, None]]


def test_a_list_takes_the_place_of_no_table(house: House) -> None:
    _upload(house, "AgentActivity", "K\na\n")
    assert len(_run(house, "AgentActivity | take 0").json()["columns"]) > 10
    assert _rows(_run(house, "_GetWatchlist('AgentActivity') | project K")) == [["a"]]


@pytest.mark.parametrize(
    ("name", "text", "params", "where"),
    [
        ("a b", "K\na\n", {}, "name"),
        ("x", "", {}, "line 1"),
        ("x", "K,K\n1,2\n", {}, "line 1"),
        ("x", "K,V\n1\n", {}, "line 2"),
        ("x", 'K\n"a', {}, "line 2"),
        ("x", b"K\n\xff\n", {}, "body"),
        ("x", "K\na\n", {"types": "K:long"}, "row 1, column K"),
        ("x", "K\na\n", {"types": "K:number"}, "types.K"),
        ("x", "K\na\n", {"types": "K"}, "types"),
        ("x", "K\na\n", {"types": "L:long"}, "types"),
        ("x", "K\na\n", {"key": "L"}, "key_column"),
        ("x", "K\na\n", {"description": "a\x00b"}, "description"),
        ("x", "K\n" + "a\n" * (lists.MAX_ROWS + 1), {}, "csv"),
    ],
)
def test_what_is_no_list_is_refused_with_its_place(
    attacked: House, name: str, text: str | bytes, params: dict[str, str], where: str
) -> None:
    answer = _upload(attacked, name, text, **params)
    assert (answer.status_code, answer.json()["where"]) == (422, where)


def test_a_large_list_is_taken_and_asked(house: House) -> None:
    text = "K,V\n" + "".join(f"user{n}@zava.example,{n}\n" for n in range(50_000))
    assert _upload(house, text=text).status_code == 200
    assert _rows(_run(house, "assets | summarize count(), sum(V)")) == [[50_000, 1249975000]]
    assert _rows(_run(house, "print K='user49999@zava.example' | where K in (assets)")) == [["user49999@zava.example"]]
