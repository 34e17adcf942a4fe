"""What is taken out of telemetry before it is stored; each attack has a benign twin that must pass unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.gateway.telemetry import redact
from watchfloor.gateway.telemetry.conventions import Care
from watchfloor.guard.detectors import secrets

TOKEN = "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


# -- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "twin"),
    [
        (TOKEN, "ghp_tooshort"),
        (f"token={TOKEN}", "token=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        (f"line\n{TOKEN}", "line\nghp_ is how such tokens begin"),
        ("postgres://bob:h4nN0v3r-9x@db.example/x", "postgres://db.example/x"),
        ("ghp_a1B2c3D4e5\u200bF6g7H8i9J0k1L2m3N4o5P6q7R8", "gewöhnlicher Text über Schlüssel"),
    ],
)
def test_a_secret_is_masked_in_metadata_and_in_content(attack: str, twin: str) -> None:
    for value in (attack, [attack], {"deep": {"er": [attack]}}, {attack: 1}):
        kept = json.dumps(redact.metadata(value)) + redact.content(value)
        assert "a1B2c3D4e5" not in kept
        assert "h4nN0v3r-9x" not in kept
        assert "_token]" in kept or "url_password" in kept
    assert redact.metadata(twin) == twin
    assert json.loads(redact.content(twin)) == twin


@pytest.mark.parametrize("written", [TOKEN, "\\u0067" + TOKEN[1:], "\\n" + TOKEN, "x\\t" + TOKEN])
def test_a_secret_is_masked_in_json_however_it_is_escaped(written: str) -> None:
    kept = redact.content('{"note": "' + written + '"}')
    assert json.loads(kept)["note"].strip().removeprefix("x").strip() == "[github_token]"


def test_a_secret_is_masked_below_the_deepest_level() -> None:
    value: Any = f"\n{TOKEN}"
    for _ in range(redact.MAX_DEPTH + 5):
        value = [value]
    assert "a1B2c3D4e5" not in json.dumps(redact.metadata(value))
    assert "a1B2c3D4e5" not in redact.content(value)


def test_a_value_that_its_name_calls_a_secret_is_masked_whatever_it_looks_like() -> None:
    assert redact.metadata("hunter2", Care.SECRET) == redact.MASKED
    assert redact.metadata({"any": "thing"}, Care.SECRET) == redact.MASKED
    assert redact.metadata(4711, Care.SECRET) == redact.MASKED
    assert redact.metadata("hunter2") == "hunter2"


@pytest.mark.parametrize("kind", secrets.KINDS, ids=lambda kind: kind.literals[0])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_the_quick_look_never_misses_what_the_guard_would_find(kind: secrets.Kind, data: st.DataObject) -> None:
    text = data.draw(st.from_regex(kind.pattern))
    around = data.draw(st.sampled_from(["", "\n", "ü ", '"', "\u200b"]))
    text = f"{around}{text}{around}"
    broken_up = data.draw(st.integers(0, len(text)))
    for candidate in (text, f"{text[:broken_up]}\u200b{text[broken_up:]}"):
        if secrets.find_secrets(candidate):
            assert redact.may_hold_secrets(candidate)
            assert redact.may_hold_secrets(json.dumps([candidate], ensure_ascii=False))


# -- local paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "kept"),
    [
        ("/home/griffin/projects/merger/main.py", "<path>/main.py"),
        ("/home/griffin", "<path>"),
        ("/Users/griffin/", "<path>"),
        ("cannot open /Users/griffin/x.csv: denied", "cannot open <path>/x.csv: denied"),
        ("--config=/etc/zava/agent.yaml", "--config=<path>/agent.yaml"),
        ("~/.ssh/known_hosts", "<path>/known_hosts"),
        ("file:///home/user/documents/report.pdf", "<path>/report.pdf"),
        ("C:\\Users\\griffin\\Desktop\\plan.docx", "<path>/plan.docx"),
        ("C:\\Users\\griffin", "<path>"),
        ("C:\\Program Files\\Zava Agent\\agent.exe", "<path>/agent.exe"),
        ("D:/agents/billing/main.py", "<path>/main.py"),
        ("\\\\fileserver\\share\\secret\\plan.docx", "<path>/plan.docx"),
        ('{"cwd": "C:\\\\Users\\\\griffin\\\\src"}', '{"cwd": "<path>/src"}'),
        ("/tmp/a.sock /var/run/b.sock", "<path>/a.sock <path>/b.sock"),
    ],
)
def test_a_local_path_is_shortened_to_its_name(attack: str, kept: str) -> None:
    assert redact.text(attack) == kept
    assert redact.metadata([{"x": attack}]) == [{"x": kept}]


@pytest.mark.parametrize(
    "benign",
    [
        "https://api.example/home/users/1",
        "https://zava.example:8443/var/www",
        "/v1/chat/completions",
        "tools/call",
        "text/plain",
        "mcp://billing/tmp/x",
        "s3://bucket/tmp/x",
        "and/or",
        "either /or",
        "a:b",
        "12:30",
        "relative/home/x",
        "urn:example:home/x",
        "2026-07-28/v2",
    ],
)
def test_what_merely_looks_like_a_path_is_kept(benign: str) -> None:
    assert redact.text(benign) == benign


def test_a_route_is_no_local_path() -> None:
    assert redact.text("/home/dashboard", Care.ADDRESS) == "/home/dashboard"
    assert redact.text("file:///home/griffin/x.pdf", Care.ADDRESS) == "<path>/x.pdf"


def test_any_file_in_an_error_is_a_local_one_and_a_route_is_none() -> None:
    assert redact.error("No such file: '/app/agent/main.py'") == "No such file: '<path>/main.py'"
    assert redact.error("POST /v1/chat/completions: 404") == "POST /v1/chat/completions: 404"
    assert redact.error("see https://docs.example/errors/e42.html") == "see https://docs.example/errors/e42.html"


def test_content_keeps_its_paths() -> None:
    assert json.loads(redact.content("open /home/griffin/x.csv")) == "open /home/griffin/x.csv"


# -- stack traces -------------------------------------------------------------------------------------------------

PYTHON = """Traceback (most recent call last):
  File "/app/agent/main.py", line 12, in run
    tool.call(arguments)
    ~~~~~~~~~^^^^^^^^^^^
  File "/app/agent/tool.py", line 3, in call
    raise PermissionError("denied by policy")
PermissionError: denied by policy"""


@pytest.mark.parametrize(
    ("attack", "kept"),
    [
        (PYTHON, "PermissionError: denied by policy"),
        (
            f"{PYTHON}\n\nDuring handling of the above exception, another exception occurred:\n\n"
            + PYTHON.replace("PermissionError: denied", "RuntimeError: failed"),
            "PermissionError: denied by policy\n\nDuring handling of the above exception, another exception occurred:"
            "\n\nRuntimeError: failed by policy",
        ),
        (
            "java.lang.IllegalStateException: no tenant\n\tat com.zava.Agent.run(Agent.java:12)\n\t... 3 more\n"
            "Caused by: java.io.IOException: gone\n\tat com.zava.Net.get(Net.java:1)",
            "java.lang.IllegalStateException: no tenant\nCaused by: java.io.IOException: gone",
        ),
        (
            "TypeError: x is undefined\n    at run (/srv/agent/index.js:1:2)\n    at async /srv/agent/index.js:9:1",
            "TypeError: x is undefined",
        ),
        (
            "System.InvalidOperationException: no\n   at Zava.Agent.Run(String x) in C:\\src\\Agent.cs:line 12\n"
            "   --- End of inner exception stack trace ---",
            "System.InvalidOperationException: no",
        ),
        (
            "panic: boom\n\ngoroutine 1 [running]:\n\t/src/agent/main.go:12 +0x1d",
            "panic: boom",
        ),
    ],
    ids=["python", "chained", "java", "javascript", "dotnet", "go"],
)
def test_a_stack_trace_is_dropped_to_what_went_wrong(attack: str, kept: str) -> None:
    assert redact.text(attack) == kept


@pytest.mark.parametrize(
    "benign",
    [
        "We meet\n  at noon, I think.",
        "1. look\n    at the invoice",
        "File a complaint\nat once",
        "two\nlines",
    ],
)
def test_lines_that_begin_with_at_are_no_stack_trace_unless_they_name_a_place_in_code(benign: str) -> None:
    assert redact.text(benign) == benign


def test_an_attribute_that_is_a_stack_trace_is_dropped_with_its_length() -> None:
    assert redact.metadata(PYTHON, Care.TRACE) == f"[dropped: {len(PYTHON)} characters]"


# -- bounds -------------------------------------------------------------------------------------------------------


def test_a_long_text_is_cut_and_says_how_long_it_was() -> None:
    assert redact.text("x" * redact.MAX_TEXT) == "x" * redact.MAX_TEXT
    kept = redact.text("x " * redact.MAX_TEXT)
    assert len(kept) < redact.MAX_TEXT + 40
    assert kept.endswith(f"[cut: {2 * redact.MAX_TEXT} characters]")


def test_a_large_structure_is_kept_as_the_beginning_of_its_json() -> None:
    assert redact.metadata(list(range(100))) == list(range(100))
    kept = redact.metadata(list(range(10_000)))
    assert kept.startswith("[0,1,2,")
    assert "[cut: 48891 characters]" in kept


def test_long_content_is_cut_much_later_and_stays_json() -> None:
    assert json.loads(redact.content("x" * 100_000)) == "x" * 100_000
    kept = json.loads(redact.content(json.dumps(["x" * 300_000])))
    assert kept.startswith('["xxx')
    assert kept.endswith("[cut: 300004 characters]")


def test_what_is_nested_too_deep_becomes_text() -> None:
    deep: Any = "core"
    for _ in range(redact.MAX_DEPTH + 2):
        deep = [deep]
    kept = redact.metadata(deep)
    for _ in range(redact.MAX_DEPTH):
        kept = kept[0]
    assert kept == '[["core"]]'
    assert json.loads(redact.content(json.dumps(deep))) == redact.metadata(deep)


def test_numbers_that_json_cannot_hold_become_text() -> None:
    values = [float("nan"), float("inf"), 2**70, -(2**63), 1.5, True, None]
    assert redact.metadata(values) == ["nan", "inf", hex(2**70), -(2**63), 1.5, True, None]


def test_names_that_masking_makes_the_same_keep_their_values() -> None:
    other = TOKEN[:-1] + "9"
    assert redact.metadata({TOKEN: 1, other: 2}) == {"[github_token]": 1, "[github_token] [2]": 2}


HOSTILE = [
    "/" * 200_000,
    "/a" * 100_000,
    "/@" * 100_000,
    "=/" * 100_000,
    "/a.a" * 50_000,
    "C:\\" * 70_000,
    "C:\\a b" * 30_000,
    "\\" * 200_000,
    "file:/" * 30_000,
    "~" * 200_000,
    "\n    at " * 30_000,
    "Traceback (\n" + " " * 200_000 + "x",
    "Traceback (\n" + "\t at a.b.c" * 20_000,
    "Traceback (\n" + "  x:1:1" * 30_000,
    "\n    at " + "/" * 200_000,
    "\n    at x " + "a:1" * 70_000 + "x",
    "\n    at " + "(" * 200_000,
    "\n    at " + "a (" * 70_000,
    "goroutine \n\t" + "a.go:1" * 30_000 + "\n" + " x:1:in" * 30_000,
    "://a:b" * 30_000,
    "{" * 100_000,
    "[" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_no_text_is_read_twice(text: str) -> None:
    # Each takes milliseconds; were a pattern not linear, one of them would take hours.
    for care in Care:
        redact.metadata(text, care)
    redact.content(text)


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**64)
    | st.floats()
    | st.binary(max_size=5)
    | st.text(st.characters(codec=None), max_size=30)
    | st.sampled_from([TOKEN, "/home/x/y.py", PYTHON, '{"a": [1, "\\ud800"]}', '{"a":', "\ud800", "C:\\x\\y"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON_LIKE, st.sampled_from(Care))
def test_whatever_comes_is_answered_with_json_without_secrets(value: Any, care: Care) -> None:
    two = redact.contents({"a": 1, "b": value})
    for kept in (redact.as_json(redact.metadata(value, care)), redact.content(value), two):
        json.loads(kept)
        kept.encode()
        assert "a1B2c3D4e5" not in kept


@settings(deadline=None)
@given(JSON_LIKE)
def test_what_is_fit_stays_as_it_is(value: Any) -> None:
    once = redact.metadata(value)
    assert redact.metadata(once) == once
