"""``watchfloor kql batch`` as its users run it: a process that reads lines and answers each, whatever they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

BATCH = [sys.executable, "-m", "watchfloor", "kql", "batch"]


def answers(
    *queries: str, lines: str | bytes | None = None, timeout: float = 20.0, max_rows: int = 1000
) -> list[dict[str, Any]]:
    """What a whole batch answers."""
    sent = "".join(json.dumps({"id": n, "kql": q}) + "\n" for n, q in enumerate(queries)) if lines is None else lines
    raw = sent if isinstance(sent, bytes) else sent.encode()
    command = [*BATCH, "--timeout", str(timeout), "--max-rows", str(max_rows)]
    done = subprocess.run(command, input=raw, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split(b"\n")[:-1]]


def test_answers_come_in_order_with_their_columns_and_values() -> None:
    found = answers(
        'print a = 1, b = "é\\u2028", c = datetime(2026-01-02 03:04:05.6), d = 1.5h, e = dynamic({"k": [1, null]})',
        "print f = decimal(1.50), g = guid(74BE27DE-1E4E-49D9-B579-FE0B331D3642), h = int(null), i = 1.5, j = "
        "true, k = ''",
        "print l = real(nan), m = real(+inf), n = real(-inf), o = 9223372036854775807, p = dynamic(null), q = "
        "datetime(null)",
        "range x from 1 to 3 step 1",
        "datatable(a:long)[]",
        "print x = 1 | render piechart",
        "print d = dynamic({'b': 1, 'a': 'x'}) | evaluate bag_unpack(d)",
    )
    assert [a["id"] for a in found] == list(range(7))
    assert [[(c["name"], c["type"]) for c in a["columns"]] for a in found[:2]] == [
        [("a", "long"), ("b", "string"), ("c", "datetime"), ("d", "timespan"), ("e", "dynamic")],
        [("f", "decimal"), ("g", "guid"), ("h", "int"), ("i", "real"), ("j", "bool"), ("k", "string")],
    ]
    assert [a["rows"] for a in found] == [
        [[1, "é\u2028", "2026-01-02T03:04:05.6000000Z", "01:30:00", {"k": [1, None]}]],
        [["1.5", "74be27de-1e4e-49d9-b579-fe0b331d3642", None, 1.5, True, ""]],
        [["NaN", "Infinity", "-Infinity", 9223372036854775807, None, None]],
        [[1], [2], [3]],
        [],
        [[1]],
        [["x", 1]],
    ]


def test_an_error_says_its_kind_and_place() -> None:
    found = answers(
        "print 1 |",
        "print 1\n| where nothing == 1",
        "T | count",
        "print 1 | evaluate python(typeof(*), 'x')",
        "range x from 1 to 100000 step 1",
        "print 1 | extend x = nofunction(1)",
        "",
        ".show tables",
    )
    errors = [a["error"] for a in found]
    assert [(e["kind"], e["line"], e["column"]) for e in errors] == [
        ("syntax", 1, 10),
        ("semantic", 2, 9),
        ("semantic", 1, 1),
        ("unsupported", 1, 11),
        ("limit", 1, 1),
        ("semantic", 1, 22),
        ("syntax", 1, 1),
        ("unsupported", 1, 1),
    ]
    assert all(e["message"] for e in errors)


def test_garbage_between_queries_costs_its_own_line_only() -> None:
    good = json.dumps({"id": "x", "kql": "print 1"})
    garbage = [
        "{",
        "[]",
        "null",
        "1",
        '"text"',
        '{"id": 1}',
        '{"kql": "print 1"}',
        '{"id": 1, "kql": 5}',
        "\x00",
        '{"id": 1,',
    ]
    deep = "[" * 100_000
    surrogate = '{"id": "s", "kql": "print \'\\ud800\'"}'
    lines = [line.encode() for line in (good, *garbage, deep)] + [
        b'{"id": 1, "kql": "\xff\xfe"}',
        surrogate.encode(),
        good.encode(),
    ]
    found = answers(lines=b"\n\n".join(lines) + b"\n   \n")
    assert [a["id"] for a in found] == ["x", *[None] * (len(garbage) + 2), "s", "x"]
    assert all(a["error"]["kind"] == "syntax" for a in found[1:-1])
    assert found[0]["rows"] == found[-1]["rows"] == [[1]]


def test_ids_come_back_as_they_were() -> None:
    ids = [1, "a", None, {"n": [1]}, 1.5, "é\U0001f600", "\ud800", True]
    lines = "".join(json.dumps({"id": i, "kql": "print 1", "more": 1}) + "\n" for i in ids)
    assert [a["id"] for a in answers(lines=lines)] == ids


def test_a_last_line_without_an_end_and_no_lines_at_all() -> None:
    assert [a["id"] for a in answers(lines='{"id": 1, "kql": "print 1"}')] == [1]
    assert answers(lines="") == []


def test_what_takes_too_long_or_too_much_is_stopped_and_the_batch_goes_on() -> None:
    began = time.monotonic()
    found = answers(
        "print 1",
        "range x from 1 to 3000000 step 1 | extend k = 1 | join kind=inner (range y from 1 to 3000000 step 1 | "
        "extend k = 1) on k | count",
        "print series_fir(range(1, 1000000, 1), range(1, 1000000, 1))",
        r"range x from 1 to 100000 step 1 | extend s = strcat(strrep('ab', 500), x) | where s matches regex "
        r"@'(\bé|a.{0,50}b\b){1,50}x$'",
        "range x from 1 to 90000000 step 1 | summarize make_list(x)",
        "range x from 1 to 10 step 1 | extend s = tostring(x)"
        + " | extend s = strcat(s, s)" * 60
        + " | where s != '' | count",
        "range x from 1 to 50 step 1 | extend s = strcat(x, 'x')"
        + " | extend s = replace_string(s, 'x', s)" * 20
        + " | count",
        "print " + "(" * 50_000,
        "range x from 1 to 100000000000 step 1",
        "print 2",
        timeout=3,
    )
    assert [a["error"]["kind"] if "error" in a else a["rows"] for a in found] == [
        [[1]],
        *["limit"] * 5,
        found[6].get("rows") or "limit",
        *["limit"] * 2,
        [[2]],
    ]
    assert time.monotonic() - began < 120


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*BATCH, "--timeout", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def send(process: subprocess.Popen[str], key: int, text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"id": key, "kql": text}) + "\n")
    process.stdin.flush()


def receive(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that ``process`` has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


LONG = "range x from 1 to 90000000 step 1 | extend h = punycode_from_string(tostring(x)) | summarize dcount(h)"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_worker_that_dies_in_a_query_costs_that_query(running: subprocess.Popen[str], end: signal.Signals) -> None:
    send(running, 1, "print 1")
    assert receive(running)["rows"] == [[1]]
    (worker,) = workers(running)
    send(running, 2, LONG)
    send(running, 3, "print 3")
    time.sleep(0.5)  # whether the query has begun by then or not, it is lost
    os.kill(worker, end)
    lost = receive(running)
    assert (lost["id"], lost["error"]["kind"]) == (2, "limit")
    assert receive(running)["rows"] == [[3]]
    assert worker not in workers(running)


def test_a_worker_that_hangs_is_replaced() -> None:
    process = subprocess.Popen(
        [*BATCH, "--timeout", "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        send(process, 1, "print 1")
        assert receive(process)["id"] == 1
        (worker,) = workers(process)
        os.kill(worker, signal.SIGSTOP)  # deaf to its own clock, too
        send(process, 2, "print 2")
        send(process, 3, "print 3")
        lost = receive(process)
        assert (lost["id"], lost["error"]["kind"]) == (2, "limit")
        assert receive(process)["rows"] == [[3]]
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def test_no_worker_outlives_the_batch(running: subprocess.Popen[str]) -> None:
    send(running, 1, "print 1")
    receive(running)
    (worker,) = workers(running)
    assert running.stdin is not None
    running.stdin.close()
    assert running.wait(30) == 0
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}/cmdline").exists() and Path(f"/proc/{worker}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
