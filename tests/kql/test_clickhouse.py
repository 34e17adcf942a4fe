"""The second dialect: what ClickHouse answers is what DuckDB answers, and what it cannot say it refuses by name."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from watchfloor import kql
from watchfloor.kql.functions.spec import AGGREGATES, FUNCTIONS
from watchfloor.kql.sql.clickhouse import AGGREGATE_TEMPLATES, CLICKHOUSE, FUNCTION_TEMPLATES, client_parameters
from watchfloor.portal.wire import cell

from .running import NOW, Answer, Data, arrow, schema_of
from .test_agent_hunting import AGENTS, QUERIES

COLUMNS = {
    "Timestamp": "datetime", "Name": "string", "Kind": "string", "Size": "long", "Small": "int", "Share": "real",
    "Is": "bool", "Lasts": "timespan", "Id": "guid", "Bag": "dynamic", "List": "dynamic", "Raw": "string",
}  # fmt: skip
GUIDS = [f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-00000000000{n}" for n in range(8)]
ROWS: list[dict[str, Any]] = [
    {"Timestamp": "2026-03-01T10:11:12.123456Z", "Name": "Ada_One", "Kind": "a", "Size": 5, "Small": -7, "Share": 1.5, "Is": True, "Lasts": "1.02:03:04.5", "Id": GUIDS[0], "Bag": {"a": {"b": [1, "x", {"c": "deep"}]}, "$kind": "K", "n": 7, "r": 2.5, "t": True, "when": "2026-01-02T03:04:05Z"}, "List": ["x", "Y", 3, None, {"p": 1}], "Raw": '{"k": {"v": [10, 20]}, "s": "text"}'},
    {"Timestamp": "2026-03-02T00:00:00Z", "Name": "bob smith", "Kind": "b", "Size": 5, "Small": 3, "Share": -0.5, "Is": False, "Lasts": "00:00:01", "Id": GUIDS[1], "Bag": {"a": {"b": []}, "$kind": "L", "n": "12", "r": 3, "t": False}, "List": [], "Raw": '["one","two"]'},
    {"Timestamp": "2026-03-02T23:59:59.999999Z", "Name": "", "Kind": "a", "Size": None, "Small": None, "Share": None, "Is": None, "Lasts": None, "Id": None, "Bag": None, "List": None, "Raw": ""},
    {"Timestamp": None, "Name": "Müller-Ünal", "Kind": "b", "Size": -9, "Small": 0, "Share": 2.0, "Is": True, "Lasts": "-00:10:00", "Id": GUIDS[1], "Bag": {"a": "plain", "x/y": "a\\b'c\"d"}, "List": {"one": 1, "two": "zwei"}, "Raw": "plain text"},
    {"Timestamp": "2025-12-31T12:00:00Z", "Name": "line\nbreak 'quote' back\\slash\ttab", "Kind": "A", "Size": 12345678901, "Small": 42, "Share": 1000.125, "Is": False, "Lasts": "00:00:00.0000010", "Id": GUIDS[3], "Bag": [1, 2, 3], "List": ["x", "x"], "Raw": "[1, 2.5, null]"},
]  # fmt: skip
OTHER = {"Kind": "string", "Size": "long", "Label": "string", "Weight": "real"}
OTHERS: list[dict[str, Any]] = [
    {"Kind": "a", "Size": 5, "Label": "first", "Weight": 0.5},
    {"Kind": "a", "Size": None, "Label": "second", "Weight": None},
    {"Kind": "c", "Size": 1, "Label": "third", "Weight": 2.25},
]
Tables = dict[str, tuple[kql.TableSchema, list[dict[str, Any]]]]
TABLES: Tables = {"T": (schema_of("T", COLUMNS), ROWS), "O": (schema_of("O", OTHER), OTHERS)}

ANSWERED = """
T | where Size == 5 | project Name, Small
T | where Size != 5 | project Name
T | where Size > 0 and not(Small < 0) | count
T | where Is | project Name
T | where not(Is) or Size == -9 | project Name
T | where Name has "one" | project Name
T | where Name has "smith" and Name !has "ada" | project Name
T | where Name has "ünal" | project Name
T | where Name has_cs "Ada" | project Name
T | where Name hasprefix "mül" or Name hassuffix "mith" | project Name
T | where Name has_any ("one", "SMITH", "quote") | project Name
T | where Name has_any (dynamic(["one", "slash"])) | project Name
T | where Name has_all ("back", "tab") | project Name
T | where Name contains "ÜLL" or Name contains_cs "Ada" | project Name
T | where Name !contains "a" | project Name
T | where Name startswith "ADA" or Name endswith "tab" or Name !startswith "b" | project Name
T | where Name == "line\\nbreak 'quote' back\\\\slash\\ttab" | project Kind
T | where Name =~ "BOB SMITH" or Kind !~ "A" | project Name, Kind
T | where Kind in ("a", "b") and Kind !in ("b") | project Name, Kind
T | where Kind in~ ("A") | project Kind
T | where Size in (5, 12345678901) | project Size
T | where Size !in (5) | project Size
T | where Size between (0 .. 10) or Small !between (0 .. 5) | project Size, Small
T | where Name matches regex "^[a-z]+.[a-z]+$" | project Name
T | where Timestamp > ago(4d) | project Timestamp
T | where Timestamp between (datetime(2026-03-01) .. datetime(2026-03-02)) | project Timestamp
T | where isnull(Timestamp) or isempty(Name) | project Name, Kind
T | where isnotempty(Bag) and isnotnull(Id) | project Id
T | project Size + 1, Size - Small, Size * 2, Size / 2, Size % 4, Small % 5, -Size
T | project Share + 1.0, Share / 2, Share * Size, round(Share), round(Share, 1), Size / 0, Share / 0
T | project Timestamp + 1d, Timestamp - 1h, Timestamp - datetime(2026-01-01), Lasts + 1s, Lasts / 1s, Timestamp + Lasts
T | project bin(Size, 4), bin(Small, 5), bin(Share, 0.5), bin(Timestamp, 1d), bin(Timestamp, 7d), bin(Lasts, 1h)
T | project tostring(Size), tostring(Share), tostring(Is), tostring(Timestamp), tostring(Lasts), tostring(Id), tostring(Bag)
T | project toint(Share), tolong(Name), toint(Size), todouble(Size), tobool(Small), toint("12"), tolong(Lasts)
T | project strlen(Name), tolower(Name), strcat(Name, "-", Size, Is), substring(Name, 1, 3), substring(Name, 2), substring(Name, -3)
T | project replace_string(Name, "i", "I"), split(Name, " "), split(Name, " ")[0], hash_sha256(Name)
T | project extract("([a-z]+) ([a-z]+)", 2, Name), extract("b.*", 0, Name), extract("(x)?b", 1, Name)
T | project iff(Size > 5, "big", "small"), iif(Is, 1, 2), case(Size > 100, "x", Size > 0, "y", "z")
T | project coalesce(Size, Small), coalesce(Name, Kind), coalesce(Share, 0.0)
T | project datetime_diff("day", datetime(2026-03-05), Timestamp), datetime_diff("month", Timestamp, datetime(2024-12-31)), datetime_diff("week", Timestamp, datetime(2026-02-22)), datetime_diff("hour", Timestamp, datetime(2026-01-01))
T | project Bag.a.b[0], Bag.a.b[1], Bag.a.b[-1].c, Bag["$kind"], Bag.a, Bag[1], Bag["x/y"], Bag.nothing
T | where Bag["$kind"] == "K" and Bag.a.b[1] == "x" | project Name
T | project tostring(Bag.a.b), tostring(Bag.n), toint(Bag.n), tolong(Bag.r), todouble(Bag.r), tobool(Bag.t), todatetime(Bag.when), tostring(Bag.t)
T | extend J = parse_json(Raw) | project J.k.v[1], J[0], tostring(J), J.s, array_length(J)
T | project array_length(List), array_length(Bag.a.b), set_has_element(List, "x"), isempty(List), isempty(Bag.a)
T | extend D = column_ifexists("Missing", "none"), E = column_ifexists("Name", "") | project D, E
T | mv-expand List | project Name, List
T | mv-expand List to typeof(string) | project Name, List
T | mv-expand X = Bag.a.b to typeof(long) | project Name, X
T | mv-expand X = parse_json(Raw) | project Kind, X
T | mv-expand List, Y = Bag.a.b | project Name, List, Y
T | mv-expand with_itemindex = I List | project Name, I, List
T | mvexpand List limit 2 | project Name, List
T | mv-expand List | count
T | mv-expand List | summarize count() by Kind
T | summarize count(), countif(Size > 0), sum(Size), sum(Share), min(Size), max(Timestamp), min(Name), max(Name), avg(Size), dcount(Kind)
T | where false | summarize count(), sum(Size), sum(Share), min(Small), max(Name), dcount(Kind), make_set(Name), avg(Share), max(Is)
T | where false | summarize max(strlen(Name)), take_any(strlen(Name)) by 'x'
T | where false | summarize max(strlen(Name)), take_any(strlen(Name))
T | summarize count() by Kind
T | summarize count() by Size, bin(Timestamp, 1d)
T | summarize S = make_set(Kind), L = make_set(Size), B = make_set(List), I = make_set_if(Name, Size == 5), Q = make_set(Id)
T | where Kind == "b" | summarize S = make_set(Name, 1), N = array_length(make_list(Size))
T | summarize D = dcountif(Name, Is), A = take_any(Size) by Small
T | summarize arg_max(Timestamp, *) by Kind
T | summarize arg_max(Size, Name, Small)
T | summarize arg_max(Size, Name), arg_min(Small, Id), count() by Is
T | where isnull(Size) | summarize arg_max(Size, Kind) by Kind
T | summarize Last = max(Timestamp) by Kind | where Last > datetime(2026-01-01) | extend Days = datetime_diff("day", now(), Last)
T | distinct Kind
T | distinct Size, Is
T | sort by Size asc, Name asc | project Size, Name
T | sort by Size | project Size, Kind = Kind
T | sort by Share asc nulls last, Name | project Share
T | top 2 by Timestamp | project Timestamp
T | top 3 by Size asc nulls first | project Size
T | sort by Timestamp desc | take 2 | project Timestamp
T | order by Name asc | limit 3 | project Name
T | project-away Raw, List, Bag | project-rename Title = Name | project-reorder Title, *
T | project-keep Na*, Size
T | join kind=inner O on Kind | project Name, Label, Size1
T | join O on Kind | summarize count() by Kind, Label
T | join kind=leftouter O on Kind, Size | project Name, Label, Weight
T | join kind=rightouter O on $left.Kind == $right.Kind | project Name, Label, Size
T | join kind=fullouter O on Kind | project Name, Kind, Kind1, Label, Weight
T | join kind=leftsemi O on Kind | project Name
T | join kind=leftanti O on Kind | project Name
T | join kind=rightsemi O on Kind | project Label
T | join kind=rightanti O on Kind | project Label
T | join kind=inner (O | where isnull(Size)) on Size | project Name, Label
T | union O | summarize count() by Kind
union (T | project Kind, V = Size), (O | project Kind, V = Label)
union withsource = Source T, O | summarize count() by Source
let min = 4; let big = (t: (Size: long)) { t | where Size > min }; big(T) | count
let f = (x: string) { strcat("<", x, ">") }; T | project f(Kind)
let m = materialize(T | where Size == 5); m | union m | count
let m = materialize(T | summarize N = count() by Kind); m | join kind=inner m on Kind | project Kind, N, N1
let names = O | distinct Kind; T | where Kind in (names) | project Name
let names = O | distinct Kind; T | where Kind !in~ (names) | project Name
T | where Kind in ((O | project Kind)) or Name == "x" | count
let top = toscalar(T | summarize max(Size)); T | where Size == top | project Name
T | where Name == "{p0:String} $p1" or Name == "x' OR 1=1 --" | count
print a = 1, b = "x\\ty", c = datetime(2026-01-02), d = 1h, e = dynamic({"a": [1]}), f = 1.5, g = bool(null)
T | count
T | where Share > 0 or Share < -0.1 | project Share
T | where Size == Small or Is == false | project Size
T | where Id == "11111111-0000-4000-8000-000000000001" | project Id
T | extend Kind = strcat(Kind, "!"), Size = Size + 1 | where Size > 0 | summarize max(Size) by Kind
T | render table
""".strip().splitlines()  # fmt: skip

REFUSED = {
    "T | project geo_point_to_geohash(Share, 2.0)": "function geo_point_to_geohash",
    "T | project parse_url(Name)": r"function parse_url",
    "T | project format_datetime(Timestamp, 'yyyy')": r"function format_datetime",
    "T | project ipv4_is_private(Name)": r"function ipv4_is_private",
    "T | project todecimal(Size)": r"decimal",
    "T | project Name has Kind": r"function has",
    "T | project Bag[Kind]": r"key_json",
    "T | summarize percentile(Size, 50)": r"aggregate percentile",
    "T | sort by Size | summarize make_list(Size)": r"order of the rows in make_list",
    "T | sort by Size | extend n = row_number()": r"functions over the rows",
    "T | sort by Size | extend n = prev(Size)": r"functions over the rows",
    "T | where Timestamp > datetime(1601-01-01)": "datetime of the year 1601",
    "T | sample 2": r"random",
    "range x from 1 to 5 step 1": r"numbers",
    "T | make-series count() on Timestamp from datetime(2026-03-01) to datetime(2026-03-05) step 1d": None,
    "T | evaluate bag_unpack(Bag)": None,
    "T | mv-expand kind=array Bag": r"expand_pairs",
    "T | project bin(Size, Small)": r"function bin",
    "T | project round(Share, -1)": r"function round",
    "T | project todatetime(Share)": r"conversion",
    "T | project substring(Name, Small)": r"function substring",
}

P0_FUNCTIONS = [
    "tostring",
    "parse_json",
    "count",
    "make_set",
    "dcount",
    "isnotempty",
    "isempty",
    "max",
    "min",
    "bin",
    "not",
    "split",
    "strcat",
    "round",
    "extract",
    "array_length",
    "tolower",
    "datetime_diff",
    "sum",
    "coalesce",
    "set_has_element",
    "take_any",
    "strlen",
    "replace_string",
    "substring",
    "hash_sha256",
    "make_list",
    "has",
    "!has",
    "has_cs",
    "!has_cs",
    "has_any",
    "has_all",
    "=~",
    "!~",
    "contains",
    "!contains",
    "startswith",
    "!startswith",
    "endswith",
    "!endswith",
    "hasprefix",
    "hassuffix",
    "contains_cs",
    "startswith_cs",
    "endswith_cs",
    "isnull",
    "isnotnull",
    "+",
    "-",
    "*",
    "/",
    "%",
    "negate",
    "avg",
]
SPECIAL = {"tostring"}  # conversions: a table of their own


def explain(text: str, schema: kql.Schema, **options: Any) -> kql.Compiled:
    compiled = kql.compile(text, schema, kql.Scope(()), now=NOW, dialect="clickhouse", **options)
    assert isinstance(compiled, kql.Compiled)
    return compiled


class Chdb:
    """Tables in ClickHouse, in this process."""

    def __init__(self, tables: Tables) -> None:
        self.session: Any = importlib.import_module("chdb.session").Session()
        self.schema = kql.Schema({name: schema for name, (schema, _) in tables.items()}, {})
        for name, (schema, rows) in tables.items():
            columns = {c.name: c.type for c in schema.columns}
            fields = ", ".join(f'"{n}" {CLICKHOUSE.types[t]}' for n, t in columns.items())
            self.session.query(f'CREATE TABLE "{name}" ({fields}) ENGINE = Memory')
            held = arrow(columns, rows).to_pylist()
            if held:
                lines = "\n".join(json.dumps(row, default=lambda v: v.strftime("%Y-%m-%d %H:%M:%S.%f")) for row in held)
                self.session.query(f'INSERT INTO "{name}" FORMAT JSONEachRow\n{lines}')

    def ask(self, text: str) -> Answer:
        """The answer to ``text``, as a client reads it."""
        compiled = explain(text, self.schema)
        found = self.session.query(compiled.sql, "JSONCompactEachRow", params=client_parameters(compiled.params))
        rows = [json.loads(line) for line in str(found).splitlines()]
        types = [t for _, t in compiled.columns]
        return Answer(compiled.columns, [[self._cell(v, t) for v, t in zip(r, types, strict=True)] for r in rows])

    @staticmethod
    def _cell(value: Any, kind: str) -> Any:
        if value is None:
            return cell("" if kind == "string" else None, kind)
        if kind == "datetime":
            since = datetime.fromisoformat(value).replace(tzinfo=UTC) - datetime(1, 1, 1, tzinfo=UTC)
            value = (since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds) * 10
        elif kind == "dynamic":
            value = json.loads(value)
        elif kind in ("bool", "real"):
            value = bool(value) if kind == "bool" else float(value)
        return cell(value, kind)


def chdb(tables: Tables) -> Chdb:
    try:
        importlib.import_module("chdb")
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("chdb is not installed: make clickhouse")
    return Chdb(tables)


@pytest.fixture(scope="module")
def second() -> Iterator[Chdb]:
    found = chdb(TABLES)
    yield found
    found.session.close()


@pytest.fixture(scope="module")
def first() -> Data:
    return Data(TABLES)


def rows_of(answer: Answer, text: str) -> list[str]:
    """The rows, in order where the query sorts last; the arrays of make_set in any order."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 9)
        return sorted(value, key=json.dumps) if isinstance(value, list) and "make_set" in text else value

    rows = [json.dumps([plain(v) for v in row], sort_keys=True) for row in answer.rows]
    return rows if re.search(r"\| (sort|order|top)\b", text) else sorted(rows)


@pytest.mark.parametrize("text", ANSWERED)
def test_both_dialects_answer_the_same(first: Data, second: Chdb, text: str) -> None:
    one, two = first.ask(text), second.ask(text)
    assert one.columns == two.columns
    assert rows_of(one, text) == rows_of(two, text)


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_said_is_refused_by_name(first: Data, text: str) -> None:
    with pytest.raises(kql.KqlError, match=REFUSED[text] or "dialect 'clickhouse' has no") as refusal:
        explain(text, first.schema)
    assert refusal.value.kind == "unsupported"


@pytest.mark.parametrize("name", [n for n in P0_FUNCTIONS if n not in SPECIAL])
def test_every_usual_function_has_a_template(name: str) -> None:
    assert any((row.name, row.number) in FUNCTION_TEMPLATES for row in FUNCTIONS.get(name, [])) or any(
        (row.name, row.number) in AGGREGATE_TEMPLATES for row in AGGREGATES.get(name, [])
    )


def test_text_that_only_a_routine_could_read_is_an_error_of_the_statement(second: Chdb) -> None:
    with pytest.raises(Exception, match="has no datetime of such text"):
        second.ask('T | extend x = strcat("1 Jan 20", Small) | project todatetime(x)')
    assert second.ask('T | project todatetime(strcat("2026-02-3", "0", substring(Name, 0, 0)))').column == [None] * 5


AGENT_TABLES = yaml.safe_load((AGENTS / "tables.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def agents() -> Iterator[tuple[Data, Chdb]]:
    tables: Tables = {name: (schema_of(name, t["columns"]), t["rows"]) for name, t in AGENT_TABLES.items()}
    found = chdb(tables)
    yield Data(tables), found
    found.session.close()


@pytest.mark.parametrize("case", QUERIES, ids=lambda case: case["name"])
def test_hunting_over_agents_is_answered_alike_or_refused_by_name(
    agents: tuple[Data, Chdb], case: dict[str, Any]
) -> None:
    one = agents[0].ask(case["kql"])
    try:
        two = agents[1].ask(case["kql"])
    except kql.KqlError as refusal:
        assert refusal.kind == "unsupported"
        assert "The dialect 'clickhouse' has no" in str(refusal)
        return
    assert rows_of(one, case["kql"]) == rows_of(two, case["kql"])
