"""Kusto's own clients, unmodified, over a real socket; and Grafana's requests as its plugin sends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isnan
from typing import Any

import httpx
import pytest
from azure.kusto.data import ClientRequestProperties, KustoClient, KustoConnectionStringBuilder
from azure.kusto.data.exceptions import KustoApiError, KustoServiceError

from portal.house import ALL_TYPES, House
from watchfloor.model.people import Role


@pytest.fixture
def client(address: str, attacked: House) -> Iterator[KustoClient]:
    """azure-kusto-data with a token of an analyst."""
    token = attacked.token(Role.SOC_ANALYST)
    with KustoClient(KustoConnectionStringBuilder.with_aad_user_token_authentication(address, token)) as found:
        yield found


# -- azure-kusto-data -------------------------------------------------------------------------------------------------


def test_a_query_gives_rows_through_its_parser(client: KustoClient) -> None:
    answer = client.execute("watchfloor", "AgentActivity | summarize n=count() by ToolName | order by ToolName asc")
    [table] = answer.primary_results
    assert [(row["ToolName"], row["n"]) for row in table] == [("lookup", 4), ("send_email", 6)]
    assert answer.errors_count == 0
    assert answer.get_exceptions() == []


@pytest.mark.parametrize("streams", [False, True])
def test_every_type_arrives_as_what_it_is(client: KustoClient, streams: bool) -> None:
    if streams:
        [row] = list(next(client.execute_streaming_query("watchfloor", ALL_TYPES).iter_primary_results()))
    else:
        [[row]] = client.execute("watchfloor", ALL_TYPES).primary_results
    assert (row["b"], row["i"], row["l"], row["r"], row["s"]) == (True, 7, 9007199254740993, 1.5, 'ü"x')
    assert row["m"] == Decimal("12.34")
    assert row["t"] == datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)
    assert row["e"] == -timedelta(days=1, hours=2, seconds=3)
    assert row["g"] == "74be27de-1e4e-49d9-b579-fe0b331d3642"
    assert (json.loads(row["d"]) if isinstance(row["d"], str) else row["d"]) == {"a": [1, "x"]}
    assert row["nothing"] is None


def test_numbers_that_are_none_arrive(client: KustoClient) -> None:
    [[row]] = client.execute("watchfloor", "print a=real(nan), b=real(+inf), c=real(-inf)").primary_results
    assert isnan(float(row["a"])) and float(row["b"]) == float("inf") and float(row["c"]) == -float("inf")


def test_several_results_arrive_apart(client: KustoClient) -> None:
    query = "print a=1; AgentActivity | summarize n=count(); print c='x'"
    found = client.execute("watchfloor", query).primary_results
    assert [table[0].to_list() for table in found] == [[1], [10], ["x"]]


def test_parameters_are_values_and_never_text_of_the_query(client: KustoClient) -> None:
    properties = ClientRequestProperties()
    for name, value in {"n": 111, "s": "' or 1==1 //", "r": 11.1, "b": True, "t": datetime(2026, 1, 2)}.items():
        properties.set_parameter(name, value)  # type: ignore[arg-type] # its examples hand numbers over, too
    query = "declare query_parameters(n:int, s:string, r:real, b:bool, t:datetime); print n, s, r, b, t"
    [[row]] = client.execute("watchfloor", query, properties).primary_results
    assert row.to_list() == [111, "' or 1==1 //", 11.1, True, datetime(2026, 1, 2, tzinfo=UTC)]


def test_an_error_says_what_we_say(client: KustoClient) -> None:
    with pytest.raises(KustoApiError) as caught:
        client.execute("watchfloor", "AgentActivity | where ToolNam == 'x'")
    error = caught.value.get_api_error()
    assert error.description == "line 1, column 23: There is no column or value ToolNam here. Did you mean ToolName?"
    assert (error.code, error.permanent) == ("BadRequest", True)
    assert str(caught.value) == error.description


def test_limits_of_the_client_hold(client: KustoClient) -> None:
    properties = ClientRequestProperties()
    properties.set_option("truncationmaxrecords", 10)
    with pytest.raises(KustoApiError, match="more than 10 rows"):
        client.execute("watchfloor", "range x from 1 to 100 step 1", properties)
    long = "range {} from 1 to 3000000 step 1 | extend k=1"
    slow = f"{long.format('x')} | join kind=inner ({long.format('y')}) on k | summarize sum(x * y)"
    properties = ClientRequestProperties()
    properties.set_option(ClientRequestProperties.request_timeout_option_name, timedelta(seconds=1))
    with pytest.raises(KustoApiError, match="longer than 1 s"):
        client.execute("watchfloor", slow, properties)


def test_another_database_is_refused_by_name(client: KustoClient) -> None:
    with pytest.raises(KustoApiError, match="there is no database 'Samples'"):
        client.execute("Samples", "print 1")


def test_a_wrong_token_is_refused(address: str) -> None:
    builder = KustoConnectionStringBuilder.with_aad_user_token_authentication(address, "wft_wrong")
    with KustoClient(builder) as stranger, pytest.raises(KustoServiceError, match="401"):
        stranger.execute("watchfloor", "print 1")


def test_management_commands_show_and_change_nothing(client: KustoClient) -> None:
    [[database]] = client.execute_mgmt("watchfloor", ".show databases").primary_results
    assert (database["DatabaseName"], database["IsCurrent"]) == ("watchfloor", True)
    tables = {row["TableName"] for row in client.execute_mgmt("watchfloor", ".show tables").primary_results[0]}
    assert "AgentActivity" in tables and "AgentContent" not in tables
    [[version]] = client.execute_mgmt("watchfloor", ".show version").primary_results
    assert version["ServiceType"] == "Engine"
    [[schema]] = client.execute_mgmt("watchfloor", ".show table AgentActivity cslschema").primary_results
    assert "Timestamp:datetime" in schema["Schema"]
    for command in (".drop table AgentActivity", ".create table T (a: long)", ".show tables | count", ".show nothing"):
        with pytest.raises(KustoApiError):
            client.execute_mgmt("watchfloor", command)


# -- Grafana's Azure Data Explorer plugin -----------------------------------------------------------------------------
# Bodies and what is read of the answers: grafana/azure-data-explorer-datasource at 1bbb5c2, pkg/azuredx:
# client/client.go, models/types.go, models/table.go, resource_handler.go, src/response_parser.ts.

GRAFANA = {
    "options": {
        "queryconsistency": "strongconsistency",
        "query_results_cache_max_age": "0",
        "servertimeout": "00:00:30",
    }
}
HEADERS = {
    "accept": "application/json",
    "content-type": "application/json",
    "x-ms-app": "Grafana-ADX",
    "x-ms-client-request-id": "KGC.schema;5577006791947779410",
}


def _grafana(house: House, path: str, csl: str, **members: Any) -> httpx.Response:
    headers = HEADERS | {"authorization": f"Bearer {house.token(Role.SOC_ANALYST)}"}
    body = {"db": "", "csl": csl, "querySource": "schema", **members}
    return house.stranger().post(path, content=json.dumps(body), headers=headers)


def test_grafana_finds_the_data_source_healthy(attacked: House) -> None:
    answer = _grafana(attacked, "/v1/rest/query", ".show databases schema", db="watchfloor", properties=GRAFANA)
    assert answer.status_code == 200  # it reads no more than this


def test_grafana_lists_databases_and_completes_names(attacked: House) -> None:
    listed = _grafana(attacked, "/v1/rest/mgmt", ".show databases").json()
    options = [(row[5] or row[0], row[0]) for table in listed["Tables"] for row in table["Rows"]]
    assert options == [("watchfloor", "watchfloor")]
    for command in (".show databases schema as json", ".show databases (['watchfloor']) schema as json"):
        answer = _grafana(attacked, "/v1/rest/mgmt", command)
        schema = json.loads(answer.json()["Tables"][0]["Rows"][0][0])
        database = schema["Databases"]["watchfloor"]
        columns = {c["Name"]: (c["CslType"], c["Type"]) for c in database["Tables"]["AgentActivity"]["OrderedColumns"]}
        assert columns["Timestamp"] == ("datetime", "System.DateTime")
        assert database["Functions"] == {}
        assert answer.headers["x-ms-client-request-id"] == HEADERS["x-ms-client-request-id"]


def test_grafana_draws_every_type(attacked: House) -> None:
    answer = _grafana(attacked, "/v1/rest/query", ALL_TYPES + ", w=real(nan)", db="watchfloor", properties=GRAFANA)
    table = answer.json()["Tables"][0]
    [row] = table["Rows"]
    cells = {c["ColumnName"]: (c["ColumnType"], v) for c, v in zip(table["Columns"], row, strict=True)}
    assert {type_ for type_, _ in cells.values()} == {
        "bool", "int", "long", "real", "decimal", "string", "datetime", "timespan", "guid", "dynamic"
    }  # fmt: skip
    assert (cells["b"][1], cells["i"][1], cells["l"][1], cells["r"][1]) == (True, 7, 9007199254740993, 1.5)
    assert (cells["m"][1], cells["w"][1], cells["nothing"][1]) == ("12.34", "NaN", None)
    assert cells["t"][1] == "2026-01-02T03:04:05.5000000Z"  # RFC 3339, as Go parses it
    assert (cells["e"][1], cells["s"][1]) == ("-1.02:00:03", 'ü"x')
    assert json.loads(cells["d"][1]) == {"a": [1, "x"]}


def test_grafana_shows_what_is_wrong_with_a_query(attacked: House) -> None:
    answer = _grafana(attacked, "/v1/rest/query", "Nothing", db="watchfloor", properties=GRAFANA)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert all(isinstance(error[name], str) for name in ("message", "@type", "@message"))
    assert error["@message"] == "line 1, column 1: There is no table Nothing."


# -- Graph ------------------------------------------------------------------------------------------------------------


def test_graph_answers_with_schema_and_results(address: str, attacked: House) -> None:
    headers = {"authorization": f"Bearer {attacked.token(Role.SOC_ANALYST)}"}
    body = {
        "Query": "AgentActivity | project Timestamp, n=1, f=1.5, b=true, d=dynamic([1]) | take 1",
        "Timespan": "P90D",
    }
    for version in ("v1.0", "beta"):
        answer = httpx.post(f"{address}/{version}/security/runHuntingQuery", json=body, headers=headers)
        found = answer.json()
        assert {c["name"]: c["type"] for c in found["schema"]} == {
            "Timestamp": "DateTime", "n": "Int64", "f": "Double", "b": "SByte", "d": "Object"
        }  # fmt: skip
        [row] = found["results"]
        assert row["Timestamp"].endswith("Z") and (row["n"], row["f"], row["b"], row["d"]) == (1, 1.5, True, [1])
        assert found["@odata.context"].endswith("#microsoft.graph.security.huntingQueryResults")


def test_graph_looks_back_thirty_days_unless_told(house: House) -> None:
    house.attack()
    house.clock.forward(days=31)
    client, path = house.client(Role.SOC_ANALYST), "/v1.0/security/runHuntingQuery"
    query = "AgentActivity | summarize n=count()"
    assert client.post(path, json={"Query": query}).json()["results"] == [{"n": 0}]
    assert client.post(path, json={"Query": query, "Timespan": "P60D"}).json()["results"] == [{"n": 10}]


def test_graph_says_what_is_wrong_in_its_own_words(attacked: House) -> None:
    path = "/v1.0/security/runHuntingQuery"
    answer = attacked.client(Role.SOC_ANALYST).post(
        path, json={"Query": "Nothing"}, headers={"client-request-id": "c1"}
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "BadRequest")
    assert error["message"] == "line 1, column 1: There is no table Nothing."
    assert error["innerError"]["client-request-id"] == answer.headers["client-request-id"] == "c1"
    assert (
        attacked.stranger().post(path, json={"Query": "print 1"}).json()["error"]["code"]
        == "InvalidAuthenticationToken"
    )
    assert attacked.client(Role.MAKER).post(path, json={"Query": "print 1"}).json()["error"]["code"] == "Forbidden"


def test_graph_takes_more_calls_a_minute_than_microsofts_does(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    statuses = {
        client.post("/v1.0/security/runHuntingQuery", json={"Query": f"print {n}"}).status_code for n in range(60)
    }
    assert statuses == {200}
