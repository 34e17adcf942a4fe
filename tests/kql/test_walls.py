"""A stranger's query reads what the stranger may see and nothing else, and costs what a query may cost.

Every attempt runs on an engine that holds a table which the catalogue does not know, and on an event store with a
second tenant and a table out of scope. A watched file and a listening socket count at the far end what was reached.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.contract_events import START, activities, contents, logged
from storage.test_events import open_store
from watchfloor import kql
from watchfloor.model.errors import InputError, Unavailable, WatchfloorError
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.engine import Engine
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.tables import AGENT_ACTIVITY, AGENT_CONTENT, Table

from .running import NOW, Answer, shown

pytestmark = [
    pytest.mark.slow,
    # An interrupt may land wherever Python runs of itself, is lost there, and comes again.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MARKER = "MARKER7f3a"
LIMITS = Limits(timeout_seconds=3, max_rows=5_000, max_bytes=4 * 1024 * 1024)
SCOPE = Scope(("default",), frozenset({"AgentActivity"}))
ADDRESS_SPACE = 12 << 30
PATIENCE = 30.0
"""A query that is stopped is gone after so many seconds, on a very busy machine, too."""

LEAKS = re.compile(
    r"SELECT\b|\bFROM\b|\w+ Error: |duckdb|DuckDB|Traceback|\.py\b|/tmp/|/home/|/proc/|/data/|\bkql_\w+_[0-9a-f]{8}|"
    r"\bread_csv_auto|pragma|SET memory|LINE \d|hot\.|readable\.|Python exception"
)


class Watched:
    """Counts how often a file is opened or read, as the kernel sees it."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), 0x1 | 0x20) >= 0  # IN_ACCESS | IN_OPEN

    def count(self) -> int:
        """Events since the last time."""
        try:
            return len(os.read(self._descriptor, 65_536)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self._descriptor)


class Listener:
    """Counts the connections that anybody makes to it."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.connections = self._socket.getsockname()[1], 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.connections += 1

    def close(self) -> None:
        self._socket.close()


@dataclass
class Outcome:
    """``kind`` is "answer", the kind of a refusal, "limit" for what was stopped, or "internal"."""

    kind: str
    message: str = ""
    answer: Answer | None = None
    seconds: float = 0.0
    place: tuple[int, int] = (0, 0)


@dataclass
class Stage:
    """A store with secrets in it, and the far ends."""

    hunter: Hunter
    file: Path
    watched: Watched
    listener: Listener
    marked: list[str] = field(default_factory=list)

    def attempt(self, text: str, limits: Limits = LIMITS) -> Outcome:
        """Run ``text`` as the stranger does; fails if anything was reached that may not be."""
        asked = text
        text = text.replace("{file}", str(self.file)).replace("{dir}", str(self.file.parent))
        text = text.replace("{port}", str(self.listener.port))
        began = time.monotonic()
        try:
            found = shown(self.hunter.hunt(Request(text, SCOPE, limits, now=NOW)))
            outcome = Outcome("answer", answer=found)
        except Unavailable as error:
            outcome = Outcome("limit", str(error))
        except InputError as error:
            cause = error.__cause__
            if isinstance(cause, kql.KqlError):
                outcome = Outcome(cause.kind, str(error), place=(cause.line, cause.column))
            else:
                outcome = Outcome("internal", repr(error))
        except WatchfloorError as error:
            outcome = Outcome("internal", repr(error))
        outcome.seconds = time.monotonic() - began
        self.check(outcome, asked, text)
        return outcome

    def check(self, outcome: Outcome, asked: str, text: str) -> None:
        """Nothing was reached, nothing is told. ``asked``: the attempt as it is written here; ``text``: as it was sent."""
        assert outcome.kind != "internal", outcome.message
        assert self.watched.count() == 0, "the file was opened"
        assert self.listener.connections == 0, "somebody was called"
        if MARKER not in asked:
            assert MARKER not in repr(outcome.answer)
            assert MARKER not in outcome.message
        # What the stranger wrote may be told back, cut short too.
        told = re.sub(r'"([^"]+)"', lambda quoted: "" if quoted[1] in text else quoted[0], outcome.message)
        if "{file}" in asked or "{dir}" in asked:
            told = told.replace(str(self.file.parent), "")
        for part in re.findall(r"[\w.]{3,}", asked):
            told = told.replace(part, "")
        assert LEAKS.search(told) is None, outcome.message


@pytest.fixture(scope="module", autouse=True)
def walled() -> Iterator[None]:
    """As the processes that run queries have it: texts that a function makes are bounded by the address space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module", params=["engine", "store"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("walls")
    file = directory / "marker.csv"
    file.write_text(f"secret\n{MARKER}\n")
    with closing(Watched(file)) as watched, closing(Listener()) as listener:
        own = activities("own-1", "own-2", AgentName="Own", ToolName="send mail", BytesOut=5)
        foreign = AGENT_ACTIVITY.batch(
            [
                {
                    "Timestamp": START,
                    "TenantId": "other",
                    "ReportId": f"{MARKER}-1",
                    "AgentName": MARKER,
                    "ToolName": MARKER,
                }
            ]
        )
        content = contents("own-1", Content=f'{{"text": "{MARKER}"}}')
        if request.param == "store":
            with closing(open_store(directory, memory_limit="256MB")) as store:
                store.ingest([logged(1, own), logged(2, foreign), logged(3, content)])
                yield Stage(Hunter(store), file, watched, listener)
            return
        held = KqlCompiler().schema.tables

        tables: dict[str, pa.Table] = {
            "AgentActivity": filled(pa.Table.from_batches([own, foreign]), AGENT_ACTIVITY),
            "AgentContent": filled(pa.Table.from_batches([content]), AGENT_CONTENT),
            "Hidden": pa.table({"secret": [MARKER]}),
        }
        engine = Engine(tables, memory_limit="256MiB", threads=2)

        with closing(engine):
            yield Stage(Hunter(engine, KqlCompiler(schema=kql.Schema(held))), file, watched, listener)


def filled(rows: pa.Table, table: Table) -> pa.Table:
    """``rows`` with their strings never null, as stores hold them."""
    columns = [rows[c.name].fill_null("") if c.type == "string" else rows[c.name] for c in table.columns]
    return pa.Table.from_arrays(columns, names=rows.column_names)


def test_the_stranger_sees_the_rows_that_are_there_for_strangers(stage: Stage) -> None:
    found = stage.attempt("AgentActivity | project ReportId, TenantId | sort by ReportId asc")
    assert found.answer is not None
    assert found.answer.rows == [["own-1", "default"], ["own-2", "default"]]


# -- reaching out -----------------------------------------------------------------------------------------------------

REFUSED = {
    "a file by its name": (
        "semantic",
        [
            "['{file}'] | take 5",
            '["{file}"]',
            "['{dir}/*.csv']",
            "['file://{file}']",
            "['http://127.0.0.1:{port}/x.csv']",
            "['s3://bucket/x.parquet']",
            "['/etc/passwd']",
            "['../../../../etc/passwd']",
            "['{dir}/events.duckdb']",
            "union ['{file}'], AgentActivity",
            "AgentActivity | join kind=inner (['{file}']) on $left.ReportId == $right.secret",
            "AgentActivity | where ReportId in (['{file}'])",
            "AgentActivity | union ['{file}']",
            "let t = ['{file}']; t | take 1",
            "AgentActivity | lookup (['{file}']) on ReportId",
            "table('{file}')",
            "search in (['{file}']) 'x'",
            "find in (['{file}']) where true",
            "union withsource=s ['{dir}/mark*']",
            "marker.csv | take 1",
        ],
    ),
    "a function that the engine has": (
        "semantic",
        [
            "read_csv('{file}')",
            "read_csv_auto('{file}') | take 1",
            "read_text('{file}')",
            "read_blob('{file}')",
            "read_parquet('{file}')",
            "glob('{dir}/*')",
            "print read_text('{file}')",
            "print getenv('HOME')",
            "print current_setting('memory_limit')",
            "print file('{file}')",
            "print query('SELECT 1')",
            "print query_table('Hidden')",
            "print pg_read_file('{file}')",
            "print load_extension('httpfs')",
            "print version()",
            "print current_user()",
            "print nextval('x')",
            "print setseed(0.5)",
            "print json_execute_serialized_sql('x')",
            "print struct_pack(1)",
            "print list_transform(dynamic([1]), 1)",
            "print regexp_matches('a', 'b')",
            "print kql_strlen('x')",
            "AgentActivity | extend x = sniff_csv('{file}')",
            "AgentActivity | summarize x = string_agg(AgentName)",
            "AgentActivity | invoke read_text('{file}')",
            "duckdb_tables()",
            "print __scan('x')",
        ],
    ),
    "what is kept out of the catalogue": (
        "semantic",
        [
            "sqlite_master | take 1",
            "sqlite_schema",
            "pg_catalog.pg_tables",
            "['pg_tables']",
            "information_schema.tables",
            "['information_schema.tables']",
            "['information_schema'].['tables']",
            "duckdb_settings",
            "duckdb_secrets",
            "duckdb_columns | take 1",
            "Hidden | take 1",
            "hot.AgentActivity",
            "readable.AgentActivity",
            "['hot.AgentActivity']",
            "['hot'].['ingest_cursor']",
            "hot.ingest_cursor | take 1",
            "memory.main.Hidden",
            "main.Hidden",
            "['main.Hidden']",
            '[\'"hot"."AgentActivity"\']',
            "agentactivity",
            "AGENTACTIVITY",
            "AgentContent | take 1",
            "table('AgentContent')",
            "table('Hidden')",
            "union AgentActivity, AgentContent",
            "AgentActivity | join kind=inner AgentContent on ReportId",
            "AgentActivity | where ReportId in (AgentContent)",
            "print toscalar(AgentContent | summarize count())",
            "database('watchfloor').AgentContent",
            "database('hot').AgentActivity",
            "database('system').x",
            "search in (AgentContent) 'x'",
            "find in (AgentContent) where true",
            "materialize(Hidden)",
            "incoming",
            "events | take 1",
            "stage",
            "_GetWatchlist('nothing')",
            "AgentActivity | as Hidden2; Hidden",
            "AgentActivity -- x",
        ],
    ),
    "what Kusto has for the outside": (
        "unsupported",
        [
            "externaldata(a:string)['file://{file}']",
            "externaldata(a:string)[@'http://127.0.0.1:{port}/x.csv'] with (format='csv')",
            "external_table('x')",
            "cluster('127.0.0.1').database('x').T",
            "cluster('http://127.0.0.1:{port}').database('d').table('t')",
            "union cluster('x').database('y').T, AgentActivity",
            "AgentActivity | evaluate python(typeof(*), 'result = open(\"{file}\").read()')",
            "AgentActivity | evaluate r(typeof(*), 'x')",
            "evaluate http_request('http://127.0.0.1:{port}/')",
            "evaluate http_request_post('http://127.0.0.1:{port}/', dynamic({}))",
            "evaluate sql_request('Server=127.0.0.1,{port};', 'select 1')",
            "evaluate mysql_request('Server=127.0.0.1;Port={port};', 'select 1')",
            "evaluate postgresql_request('Host=127.0.0.1;Port={port};', 'select 1')",
            "evaluate cosmosdb_sql_request('AccountEndpoint=http://127.0.0.1:{port}/', 'select 1')",
            "evaluate azure_digital_twins_query_request('http://127.0.0.1:{port}/', 'x')",
            "AgentActivity | evaluate ai_embed_text(AgentName, 'http://127.0.0.1:{port}/')",
            "AgentActivity | evaluate infer_storage_schema(dynamic({}))",
        ],
    ),
    "management": (
        "unsupported",
        [
            ".show tables",
            ".drop table AgentActivity",
            ".create table T (a:long)",
            ".set-or-append T <| AgentActivity",
            ".create database X persist (@'{dir}/x')",
            ".ingest into table T ('{file}')",
            ".export to csv ('{dir}/out.csv') <| AgentActivity",
            "  // a comment first\n.show databases",
        ],
    ),
    "other languages": (
        "syntax",
        [
            "SELECT * FROM AgentActivity",
            "PRAGMA database_list",
            "SET memory_limit='1TB'",
            "ATTACH '{file}' AS x",
            "COPY AgentActivity TO '{dir}/out.csv'",
            "AgentActivity; DROP TABLE AgentActivity",
            "AgentActivity /* x */",
            "AgentActivity | where AgentName == 'x' UNION SELECT 1",
            "install httpfs",
            "\uff33\uff25\uff2c\uff25\uff23\uff34 1",
            "AgentActivity | where AgentName == \u2019x\u2019",
            "AgentActivity | where AgentName == \u201cx\u201d",
            "AgentActivity\x00| take 1",
            "print 'a\x00b",
            "print '\ud800'",
            "print \ud800",
            "AgentActivity | extend ['\udfff'] = 1",
            "print '\\ud800'",
            "print a = '\\udc00x'",
        ],
    ),
}


@pytest.mark.parametrize(("kind", "text"), [(kind, t) for kind, texts in REFUSED.values() for t in texts])
def test_what_reaches_out_is_refused_before_anything_runs(stage: Stage, kind: str, text: str) -> None:
    outcome = stage.attempt(text)
    assert outcome.kind == kind, outcome
    assert min(outcome.place) >= 1


def test_stars_and_wildcards_stop_at_the_scope(stage: Stage) -> None:
    for text in (
        "union * | count",
        "union Agent* | count",
        "union withsource=t * | summarize by t",
        "search * | count",
        f"search '{MARKER}' | count",
        f"find where AgentName == '{MARKER}'",
        "find in (*) where true project ReportId",
        "union database('*').* | count",
        "search in (Agent*) 'own' | distinct $table",
    ):
        outcome = stage.attempt(text)
        if outcome.kind == "answer":
            assert outcome.answer is not None
            assert outcome.answer.rows in ([[2]], [[0]], [], [["AgentActivity"]], [["own-1"], ["own-2"]]) or [
                row[-1] for row in outcome.answer.rows
            ] == ["own-1", "own-2"], (text, outcome.answer)


# -- text that would be SQL -------------------------------------------------------------------------------------------

HOSTILE = [
    "x'; DROP TABLE AgentActivity; --",
    'x"; DROP TABLE AgentActivity; --',
    "' OR 1=1 --",
    "') UNION SELECT secret FROM Hidden --",
    "$p0",
    "$budget",
    "$$x$$",
    "?",
    "{}",
    "%s",
    "a\x00b",
    "\u2019; SELECT 1",
    "\uff07 OR 1=1",
    "\\",
    "\\'",
    "\u202eevil",
    "/* x */ -- y",
    "\n; SELECT 1;\n",
    "E'\\x41'",
    "c0",
    "\U0001f600",
    "x" * 600,
]


def literal(text: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in text) + '"'


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_data_wherever_it_stands(stage: Stage, text: str) -> None:
    word = literal(text)
    for query, expected in {
        f"print {word}": [[text]],
        f"print strcat({word}, h{word})": [[text * 2]],
        f"AgentActivity | take 1 | extend x = {word} | project x": [[text]],
        f"AgentActivity | where AgentName in ({word}) | count": [[0]],
        f"AgentActivity | where AgentName has {word} | count": None,
        f"AgentActivity | where AgentName contains {word} | count": [[0]],
        f"AgentActivity | where AgentName startswith {word} or AgentName endswith {word} | count": [[0]],
        f"AgentActivity | where AgentName has_any ({word}, {word}) | count": None,
        f"AgentActivity | take 1 | project replace_string(strcat('<', {word}, '>'), {word}, 'ok')": [["<ok>"]],
        f"AgentActivity | take 1 | project indexof(strcat('ab', {word}), {word})": [[2]],
        f"AgentActivity | take 1 | extend d = bag_pack({word}, 1) | project d[{word}]": [[1]],
        f"AgentActivity | take 1 | project d = dynamic({{{word}: [{word}]}}) | project tostring(d[{word}][0])": [
            [text]
        ],
        f"AgentActivity | take 1 | project split(strcat('a', {word}, 'b'), {word})": None,
        f"AgentActivity | take 1 | project s = strcat('<', {word}, '5>') | parse s with '<' {word} n:long '>' | "
        f"project n": [[5]],
        f"AgentActivity | summarize make_set({word})": [[[text]]],
        f"datatable(a:string)[{word}] | where a == {word} | project a": [[text]],
        f"let v = {word}; print v": [[text]],
        f"search {word} | count": None,
    }.items():
        outcome = stage.attempt(query, replace(LIMITS, timeout_seconds=30))
        if len(text) > 1000 and outcome.kind == "limit":
            continue  # a term of many thousand letters takes its time; it is stopped, which is what counts
        assert outcome.kind == "answer", (query, outcome)
        assert outcome.answer is not None
        assert expected is None or outcome.answer.rows == expected, query
    assert stage.attempt("AgentActivity | count").answer == Answer((("Count", "long"),), [[2]])


@pytest.mark.parametrize("text", [t for t in HOSTILE if len(t) < 1000])
def test_hostile_names_of_columns_are_names(stage: Stage, text: str) -> None:
    name = f"[{literal(text)}]"
    for query in (
        f"print {name} = 1",
        f"AgentActivity | take 1 | extend {name} = 1 | project {name}",
        f"AgentActivity | take 1 | summarize {name} = count()",
        f"AgentActivity | take 1 | project {name} = 1 | sort by {name} | where {name} == 1 | distinct {name}",
        f"let {name} = () {{ print {name} = 1 }}; {name}()",
        f"datatable({name}:long)[1] | join kind=inner (datatable({name}:long)[1]) on {name} | project {name}",
        f"print d = bag_pack({literal(text)}, 1) | evaluate bag_unpack(d)",
        f"datatable(k:string)[{literal(text)}] | evaluate pivot(k)",
    ):
        outcome = stage.attempt(query)
        if outcome.kind == "answer":
            assert outcome.answer is not None
            assert (outcome.answer.names, outcome.answer.rows) == ([text], [[1]]), query
        else:
            assert outcome.kind in ("syntax", "semantic", "unsupported"), query


# -- too much ---------------------------------------------------------------------------------------------------------

NESTED = {
    "parentheses": "print " + "(" * 20_000 + "1" + ")" * 20_000,
    "brackets": "print dynamic(" + "[" * 20_000 + "]" * 20_000 + ")",
    "bags": "print dynamic(" + '{"a":' * 20_000 + "1" + "}" * 20_000 + ")",
    "open brackets": "print dynamic(" + "[" * 60_000,
    "not": "print " + "not(" * 5_000 + "true" + ")" * 5_000,
    "minus": "print " + "-(" * 5_000 + "1" + ")" * 5_000,
    "signs": "print " + "-" * 50_000 + "1",
    "indexes": "print dynamic(null)" + "[0]" * 10_000,
    "members": "print d = dynamic({}) | project d" + ".a" * 10_000,
    "sums": "print " + "1+" * 10_000 + "1",
    "ands": "print " + "true and " * 10_000 + "true",
    "mixed": "print " + "(true and (false or " * 4_000 + "true" + "))" * 4_000,
    "iff": "print " + "iff(true, 1, " * 3_000 + "1" + ")" * 3_000,
    "strcat": "print " + "strcat('a', " * 3_000 + "'b'" + ")" * 3_000,
    "pipes": "AgentActivity" + " | where true" * 10_000,
    "extends": "AgentActivity" + " | extend BytesOut = BytesOut + BytesOut" * 190,
    "sub-queries": "AgentActivity | where ReportId in (" * 1_000 + "AgentActivity" + ")" * 1_000,
    "joins": "AgentActivity | join (" * 1_000 + "AgentActivity" + ") on ReportId" * 1_000,
    "unions": "union (" * 1_000 + "AgentActivity" + ")" * 1_000,
    "lets": "".join(f"let a{n} = {f'a{n - 1} + a{n - 1}' if n else '1'}; " for n in range(60)) + "print a59",
    "many lets": "".join(f"let a{n} = 1; " for n in range(5_000)) + "print 1",
    "tables doubled": "let t0 = AgentActivity; "
    + "".join(f"let t{n} = union t{n - 1}, t{n - 1}; " for n in range(1, 40))
    + "t39 | count",
    "filters through columns": "AgentActivity | project s = AgentName"
    + " | extend s = strcat(s, s) | where s != 'x'" * 25
    + " | where false",
    "filters through sums": "AgentActivity | project n = BytesOut"
    + " | extend n = iff(n > 1, n - 1, n + 1) | where n != 7" * 40,
    "folding": "print " + ", ".join(f"range(1, {1_000_000 + n}, 1)" for n in range(1_000)),
    "joins doubled": "let t0 = AgentActivity | project ReportId; "
    + "".join(f"let t{n} = t{n - 1} | join kind=inner t{n - 1} on ReportId | project ReportId; " for n in range(1, 30))
    + "t29 | count",
    "functions doubled": "let f0 = () { AgentActivity }; "
    + "".join(f"let f{n} = () {{ union f{n - 1}(), f{n - 1}() }}; " for n in range(1, 40))
    + "f39() | count",
    "scalar functions doubled": "let f0 = (x:long) { x + x }; "
    + "".join(f"let f{n} = (x:long) {{ f{n - 1}(x) + f{n - 1}(x) }}; " for n in range(1, 40))
    + "AgentActivity | project f39(BytesOut)",
    "functions inside functions": "let f = () {" * 200 + "1" + "}; f()" * 200,
    "function that calls itself": "let f = (n:long) { iff(n == 0, 0, f(n - 1)) }; print f(3)",
    "functions that call each other": "let f = () { g() }; let g = () { f() }; print g()",
    "table that is itself": "let t = t | take 1; t",
    "function as its own argument": "let f = (T:(*)) { union T, T, T, T }; " + "f(" * 40 + "AgentActivity" + ")" * 40,
    "forks": "AgentActivity | fork " + "(take 1) " * 5_000,
    "forks in forks": "AgentActivity | fork (fork (fork (take 1) (take 1)) (take 1)) (take 1)",
    "facets": "AgentActivity | facet by " + ", ".join(["AgentName"] * 3_000),
    "partitions": "AgentActivity | partition by AgentName (" * 50 + "take 1" + ")" * 50,
    "mv-applies": "AgentActivity | mv-apply x = Facts on (" * 50 + "take 1" + ")" * 50,
    "columns": "print " + ", ".join(f"c{n} = {n}" for n in range(20_000)),
    "arguments": "print strcat(" + ", ".join(["'a'"] * 20_000) + ")",
    "cases": "print case(" + "false, 1, " * 15_000 + "0)",
    "list": "AgentActivity | where BytesOut in (" + ",".join(map(str, range(30_000))) + ")",
    "datatable": "datatable(a:long)[" + ",".join(["1"] * 35_000) + "] | count",
    "statements": "print 1; " * 3_000,
    "materialized": "".join(f"let m{n} = materialize(AgentActivity); " for n in range(900)) + "m1 | count",
    "errors": "AgentActivity | where " + " and ".join(f"x{n} == 1" for n in range(3_000)),
    "text": "print '" + "x" * 1_000_000 + "'",
    "spaces": " " * 2_000_000 + "print 1",
    "comments": "// x\n" * 500_000 + "print 1",
    "digits": "print " + "1" * 100_000,
    "real digits": "print 1e" + "9" * 10_000,
    "timespan digits": "print " + "9" * 10_000 + "d",
    "decimal digits": "print decimal(" + "9" * 10_000 + ")",
    "name": "print " + "a" * 100_000 + " = 1",
    "unknown name": "print " + "a" * 100_000,
    "escapes": "print '" + "\\u0041" * 20_000 + "'",
    "wildcards": "AgentActivity | project-away " + "*a" * 5_000,
    "reorder": "AgentActivity | project-reorder " + ", ".join(["*"] * 5_000),
    "questions": "print d = dynamic({}) " + "| evaluate bag_unpack(d) | extend d = dynamic({})" * 60,
}


@pytest.mark.parametrize("name", NESTED)
def test_a_query_that_is_too_deep_or_too_long_is_refused_or_answered_soon(stage: Stage, name: str) -> None:
    outcome = stage.attempt(NESTED[name])
    assert outcome.kind in ("answer", "limit", "semantic", "syntax", "unsupported")
    assert outcome.seconds < PATIENCE


BOMBS = {
    "range": "range x from 1 to 100000000000 step 1",
    "range counted": "range x from 1 to 100000000000 step 1 | count",
    "range of timespans": "range x from datetime(0001-01-01) to datetime(9999-01-01) step 1tick | count",
    "range backwards": "range x from 100000000000 to 1 step -1 | summarize sum(x)",
    "range of nothing": "range x from 1 to 10 step 0",
    "real range": "range x from 0.0 to 1.0 step 1e-12 | count",
    "range function": "print range(1, 100000000000, 1)",
    "range function over rows": "AgentActivity | extend n = BytesOut | project range(n, n + 100000000000, 1)",
    "cross join": "let r = range x from 1 to 3000000 step 1 | extend k = 1; r | join kind=inner r on k | count",
    "cross join of ranges": "range x from 1 to 100000 step 1 | extend k = 1 | join kind=inner (range y from 1 to "
    "100000 step 1 "
    "| extend k = 1) on k | summarize sum(x * y)",
    "strrep": "print strrep('x', 1000000000)",
    "strrep of strrep": "print strlen(strrep(strrep('x', 100000), 100000))",
    "strrep over rows": "AgentActivity | project x = strrep(AgentName, tolong(BytesOut) * 200000000)",
    "strcat doubled": "AgentActivity | extend s = AgentName"
    + " | extend s = strcat(s, s)" * 60
    + " | project strlen(s)",
    "constant doubled": "print s = 'x'" + " | extend s = strcat(s, s)" * 60 + " | project strlen(s)",
    "replace": "AgentActivity | extend s = strrep('a', BytesOut * 100000) | project replace_string(s, 'a', s)",
    "repeat": "print array_length(repeat(1, 1000000000))",
    "repeat over rows": "AgentActivity | project repeat(1, BytesOut * 100000000)",
    "mv-expand": "range x from 1 to 1000 step 1 | extend d = range(1, 100000, 1) | mv-expand d | mv-expand e = "
    "range(1, 10000, 1) | count",
    "mv-expand of mv-expand": "print d = range(1, 10000, 1) | mv-expand d | extend e = range(1, 100000, 1) | "
    "mv-expand e "
    "| summarize count() by tostring(e)",
    "mv-apply": "range x from 1 to 1000000 step 1 | extend d = range(1, 100, 1) | mv-apply d on (summarize "
    "sum(tolong(d)))",
    "make-series": "AgentActivity | make-series count() on Timestamp from datetime(2000-01-01) to "
    "datetime(2030-01-01) step 1s",
    "make-series of ticks": "AgentActivity | make-series count() on Timestamp from datetime(0001-01-01) to "
    "datetime(9999-01-01) step 1tick",
    "make-series by": "range x from 1 to 100000 step 1 | make-series count() on x from 0 to 100000 step 1 by x",
    "make-series nothing": "AgentActivity | make-series count() on Timestamp from datetime(2000-01-01) to "
    "datetime(2030-01-01) step 0s",
    "make_list": "range x from 1 to 90000000 step 1 | summarize array_length(make_list(x))",
    "make_list of text": "range x from 1 to 2000000 step 1 | extend s = strrep('x', 1000) | summarize make_list(s)",
    "make_set": "range x from 1 to 90000000 step 1 | summarize array_length(make_set(x))",
    "groups": "range x from 1 to 90000000 step 1 | summarize count() by x, y = tostring(x) | count",
    "sort": "range x from 1 to 90000000 step 1 | extend s = tostring(rand()) | sort by s | where x == 1",
    "windows": "range x from 1 to 50000000 step 1 | serialize y = prev(x), z = next(x), c = row_cumsum(x) | "
    "summarize max(c)",
    "routine for each row": "range x from 1 to 50000000 step 1 | extend h = hash_sha256(tostring(x)) | summarize "
    "dcount(h)",
    "python routine": "range x from 1 to 50000000 step 1 | extend h = punycode_from_string(tostring(x)) | "
    "summarize dcount(h)",
    "wide": "range x from 1 to 100000 step 1 | extend s = strrep('abcdefghij', 1000)",
    "one wide cell": "print strrep('x', 10000000)",
    "cells": "range x from 1 to 4999 step 1 | extend s = strrep('x', 100000) | project s, t = s, u = s",
    "regex nested": "print 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' matches regex '^(a+)+$'",
    "regex alternatives": "print extract('(a|aa)+$', 1, strcat(strrep('a', 5000), '!'))",
    "regex repeats": "print 'x' matches regex '(((((x{100}){100}){100}){100}){100})'",
    "regex deep": "print 'x' matches regex '" + "(" * 2_000 + "x" + ")" * 2_000 + "'",
    "regex long": "print 'x' matches regex '" + "x?" * 20_000 + "'",
    "regex over rows": "range x from 1 to 2000000 step 1 | where strrep('a', 30) matches regex '^(a|a|aa)+$' | count",
    "regex in a routine": "range x from 1 to 100000 step 1 | extend s = strcat(strrep('ab', 2000), tostring(x)) "
    "| where s matches regex @'(\\bé|a.{0,50}b\\b){1,50}x$' | count",
    "regex from rows": "AgentActivity | where AgentName matches regex strrep('(', BytesOut) | count",
    "extract_all": "print extract_all('(.*)(.*)(.*)', strrep('ab', 20000))",
    "replace_regex": "print strlen(replace_regex(strrep('a', 1000000), '', 'xxxxxxxxxx'))",
    "split": "print array_length(split(strrep('a,', 5000000), ','))",
    "json": "print parse_json(strcat(strrep('[', 100000), strrep(']', 100000)))",
    "json over rows": "AgentActivity | project parse_json(strrep('{\"a\":', BytesOut * 10000))",
    "xml": "print parse_xml(strcat('<a>', strrep('<b>', 10000)))",
    "xml entities": 'print parse_xml(\'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>\')',
    "xml outside": "print parse_xml('<!DOCTYPE x [<!ENTITY a SYSTEM \"file://{file}\">]><x>&a;</x>')",
    "gzip": "print gzip_decompress_from_base64_string(gzip_compress_to_base64_string(strrep('x', 15000000)))",
    "base64": "print base64_encode_tostring(strrep('x', 15000000))",
    "pow": "print pow(10, 400), exp10(1e9), 2.0 * 1e308 * 1e308",
    "gamma": "print gamma(1e9), loggamma(1e300)",
    "binary shift": "print binary_shift_left(1, 9223372036854775807)",
    "datetime far": "print datetime(9999-12-31) + 100000000d, ago(10000000d), now() * 1",
    "datetime_add far": "print datetime_add('year', 9223372036854775807, now())",
    "series": "print series_fir(range(1, 1000000, 1), range(1, 1000000, 1))",
    "series fft": "print series_fft(range(1, 1048576, 1))",
    "series periods": "print series_periods_detect(range(1, 1000000, 1), 0, 100000, 100)",
    "percentiles": "range x from 1 to 50000000 step 1 | summarize percentiles(x, 1, 50, 99) by x % 1000000 | count",
    "hll": "range x from 1 to 20000000 step 1 | summarize hll(x) by x % 100000 | count",
    "dcount by": "range x from 1 to 20000000 step 1 | summarize dcount(x) by x % 5000000 | count",
    "top-nested": "range x from 1 to 1000000 step 1 | top-nested 1000000 of x by max(x), top-nested 1000000 of x "
    "by max(x)",
    "scan": "range x from 1 to 4000000 step 1 | scan declare (s: string = '') with (step a: true => s = "
    "strcat(a.s, 'x');)",
    "scan of longer and longer text": "range x from 1 to 100000 step 1 | scan declare (s: string = 'x') with "
    "(step a: true => s = strcat(a.s, a.s);)",
    "graph": "range x from 1 to 300 step 1 | extend k = 1 | join kind=inner (range y from 1 to 300 step 1 | "
    "extend k = 1) on k "
    "| make-graph x --> y with_node_id=n | graph-match (a)-[e*1..20]->(b) project a.n",
    "graph everything": "range x from 1 to 100000 step 1 | extend y = x + 1 | make-graph x --> y with_node_id=n "
    "| graph-match (a)-[e*1..1000]->(b) project a.n, b.n",
    "graph paths": "range x from 1 to 2000 step 1 | extend y = (x * 7 + 1) % 2000 | union (range x from 1 to "
    "2000 step 1 | extend "
    "y = (x * 3) % 2000) | make-graph x --> y with_node_id=n | graph-shortest-paths output=all "
    "(a)-[e*1..1000]->(b) project a.n",
    "reduce": "range x from 1 to 3000000 step 1 | extend s = strcat('a b c ', x) | reduce by s",
    "autocluster": "range x from 1 to 1000000 step 1 | extend a = x % 1000, b = x % 999 | evaluate autocluster()",
    "basket": "range x from 1 to 1000000 step 1 | extend a = x % 3, b = x % 5, c = x % 7, d = x % 11 | evaluate "
    "basket(0.0001)",
    "pivot": "range x from 1 to 200000 step 1 | extend k = tostring(x) | evaluate pivot(k)",
    "bag_unpack": "range x from 1 to 200000 step 1 | extend d = bag_pack(strcat('k', x), x) | evaluate bag_unpack(d)",
    "narrow": "range x from 1 to 3000000 step 1 | extend a = x, b = x, c = x | evaluate narrow() | count",
    "sliding": "range x from 1 to 3000000 step 1 | extend t = datetime(2000-01-01) + x * 1s | evaluate "
    "sliding_window_counts("
    "x, t, datetime(2000-01-01), datetime(2030-01-01), 365d, 1s)",
    "parse": "range x from 1 to 3000000 step 1 | extend s = strrep('ab', 100) | parse kind=regex s with * "
    "'(a|b)*' y 'z' | count",
    "search": "range x from 1 to 50000000 step 1 | search 'x'",
    "union": "union " + ", ".join(["(range x from 1 to 90000000 step 1)"] * 100) + " | count",
    "recursive answers": "let n = toscalar(range x from 1 to 90000000 step 1 | summarize sum(x)); print n",
    "ipv4 ranges": "range x from 1 to 30000 step 1 | extend ip = strcat('10.0.', x % 256, '.1') | evaluate ipv4_lookup("
    "(range y from 1 to 30000 step 1 | extend net = strcat('10.', y % 256, '.0.0/8')), ip, net)",
    "geo polygon": "print "
    'geo_polygon_to_s2cells(dynamic({"type":"Polygon","coordinates":[[[-179,-80],[179,-80],[179,80],[-179,80],'
    "[-179,-80]]]}), 18)",
    "geo circle": "print geo_point_in_circle(0, 0, 0, 0, 1e30), array_length(geo_geohash_neighbors(strrep('s', 10000)))",
    "levenshtein": "print jaccard_index(range(1, 1000000, 1), range(1, 1000000, 1))",
    "facet": "range x from 1 to 1000000 step 1 | extend y = x, z = x | facet by x, y, z",
    "sample-distinct": "range x from 1 to 90000000 step 1 | sample-distinct 4000000 of x | count",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_query_that_grows_is_stopped_or_answered_soon(stage: Stage, name: str) -> None:
    outcome = stage.attempt(BOMBS[name], replace(LIMITS, timeout_seconds=1.5))
    assert outcome.kind in ("answer", "limit", "semantic", "syntax", "unsupported")
    assert outcome.seconds < PATIENCE
    if outcome.answer is not None:
        assert len(outcome.answer.rows) <= LIMITS.max_rows
    assert stage.attempt("print 1").answer == Answer((("print_0", "long"),), [[1]])  # and the store lives


def test_all_this_took_no_more_memory_than_a_few_queries_may() -> None:
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 6 * 1024 * 1024  # KiB


def test_an_answer_has_no_more_rows_and_bytes_than_was_asked_for(stage: Stage) -> None:
    few = Limits(timeout_seconds=5, max_rows=10, max_bytes=2_000)
    assert stage.attempt("range x from 1 to 10 step 1", few).kind == "answer"
    assert stage.attempt("range x from 1 to 11 step 1", few).kind == "limit"
    assert stage.attempt(f"print '{'x' * 3000}'", few).kind == "limit"


def benign() -> Any:
    """What looks like an attack and is none: it is answered."""
    return [
        "AgentActivity | where ToolName has 'SELECT' or ToolName contains 'drop table' | count",
        "AgentActivity | extend ['my column; --'] = 'x' | project ['my column; --']",
        "print path = @'C:\\Windows\\System32', url = 'http://127.0.0.1/x.csv', file = '/etc/passwd'",
        "let Hidden = AgentActivity | count; Hidden",
        "let read_csv = (x:string) { x }; print read_csv('/etc/passwd')",
        "AgentActivity | project file = ReportId, ['/etc/passwd'] = 1 | where file == 'own-1'",
    ]


@pytest.mark.parametrize("text", benign())
def test_words_of_attacks_are_words(stage: Stage, text: str) -> None:
    assert stage.attempt(text).kind == "answer"
