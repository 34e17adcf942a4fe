"""Whatever text a stranger sends is answered or refused in our words, soon: no crash, no hang, no fault of the engine.

Three ways to make such texts: a grammar that writes queries which mostly mean something, changes to queries that are
known to be good, and coverage-guided changes (``fuzz/kql_atheris.py``, in a process of its own).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from watchfloor import kql
from watchfloor.model.errors import InputError, PastLimit
from watchfloor.storage.ports import Limits

from .running import Data, schema_of

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KINDS = {"syntax", "semantic", "unsupported", "limit"}
COLUMNS = {
    "a": "long",
    "b": "real",
    "i": "int",
    "s": "string",
    "at": "datetime",
    "t": "timespan",
    "d": "dynamic",
    "o": "bool",
    "g": "guid",
    "c": "decimal",
}
ROWS: list[dict[str, Any]] = [
    {},
    {
        "a": 1,
        "b": 1.5,
        "i": -1,
        "s": "Alpha beta",
        "at": "2026-03-01 12:30",
        "t": "01:30:00",
        "d": {"k": [1, "x", None], "n": {"m": 1.5}},
        "o": True,
        "g": "74be27de-1e4e-49d9-b579-fe0b331d3642",
        "c": "1.25",
    },
    {
        "a": -(2**63),
        "b": float("nan"),
        "i": 2**31 - 1,
        "s": "{\"k\": 'é'}\n\t\0",
        "at": "0001-01-01",
        "t": "-10675198.00:00:00",
        "d": [],
        "o": False,
    },
    {
        "a": 2**63 - 1,
        "b": float("-inf"),
        "i": 0,
        "s": "10.0.0.1",
        "at": "9999-12-31 23:59:59.999999",
        "t": "0:0:0",
        "d": "text",
        "c": "-0.5",
    },
    {"a": 0, "b": 0.0, "i": 3, "s": "x" * 300, "d": [1, 2, [3]], "at": "2026-03-01 12:30"},
]
LIMITS = Limits(timeout_seconds=5, max_rows=20_000)
PATIENCE = 30.0


@pytest.fixture(scope="module")
def data() -> Data:
    return Data({"T": (schema_of("T", COLUMNS), ROWS), "U": (schema_of("U", {"a": "long", "s": "string"}), ROWS[1:3])})


def run(data: Data, text: str) -> str:
    """What becomes of ``text``; fails for anything but an answer or a refusal in our words."""
    began = time.monotonic()
    try:
        data.ask(text, limits=LIMITS)
        found = "answer"
    except PastLimit:
        found = "limit"
    except InputError as error:
        cause = error.__cause__
        assert isinstance(cause, kql.KqlError), f"{text!r}: {error!r} from {cause!r}"
        assert cause.kind in KINDS
        assert cause.line >= 0
        found = cause.kind
    assert time.monotonic() - began < PATIENCE, text
    return found


# -- queries by grammar -----------------------------------------------------------------------------------------------

LITERALS = {
    "bool": ["true", "false", "bool(null)"],
    "datetime": [
        "datetime(2026-01-01)",
        "datetime(null)",
        "datetime(9999-12-31)",
        "datetime(0001-01-01)",
        "now()",
        "ago(1h)",
    ],
    "decimal": ["decimal(1.5)", "decimal(null)", "decimal(-99999999999999999)", "decimal(0)"],
    "dynamic": [
        "dynamic(null)",
        'dynamic([1,"x",null])',
        'dynamic({"k":1})',
        "dynamic([])",
        "dynamic([1.5,2,3])",
        "dynamic('x')",
    ],
    "guid": ["guid(74be27de-1e4e-49d9-b579-fe0b331d3642)", "guid(null)"],
    "int": ["int(5)", "int(null)", "int(-2147483648)", "int(0)"],
    "long": ["0", "1", "-1", "7", "63", "1000", "9223372036854775807", "-9223372036854775808", "long(null)", "0x7f"],
    "real": ["1.5", "-0.0", "0.0", "1e308", "-1e308", "1e-300", "real(nan)", "real(+inf)", "real(-inf)", "real(null)"],
    "string": [
        "'x'",
        '"Alpha"',
        "''",
        "@'\\d+'",
        "'a.b'",
        "'é\\n\\0'",
        "'$'",
        "'10.0.0.1/8'",
        "'[1]'",
        "'2026-01-01'",
        "'day'",
    ],
    "timespan": ["1d", "-3h", "1tick", "timespan(null)", "10675199d", "0s"],
}
"""Constants by type, the awkward ones among them."""

OF_TYPE = {type_: [name for name, t in COLUMNS.items() if t == type_] for type_ in LITERALS}
PATHS = ["d.k", "d.k[0]", "d['n'].m", "d[-1]", "d.k[a]", "d[s]", "parse_json(s).k"]
NUMERIC = ("int", "long", "real", "decimal")
WORDS = [
    "has",
    "!has",
    "contains",
    "!contains",
    "startswith",
    "endswith",
    "hasprefix",
    "hassuffix",
    "has_cs",
    "=~",
    "!~",
    "contains_cs",
]
INTERNAL = {"negate"}


def rows_that_give() -> dict[str, list[tuple[str, list[Any]]]]:
    """For each type, the functions that give it, with what they take."""
    from watchfloor.kql.functions import FUNCTIONS

    found: dict[str, list[tuple[str, list[Any]]]] = {type_: [] for type_ in LITERALS}
    for name, overloads in FUNCTIONS.items():
        if name.startswith("__") or name in INTERNAL:
            continue
        for row in overloads:
            if row.is_volatile:
                continue
            gives = [row.gives] if isinstance(row.gives, str) and row.gives in LITERALS else list(NUMERIC)
            if isinstance(row.gives, int):
                gives = list(row.takes[row.gives].types)
            for type_ in gives:
                found[type_].append((name, list(row.takes)))
    return found


GIVING = rows_that_give()


@st.composite
def typed(draw: st.DrawFn, type_: str, depth: int = 2, constant: bool = False) -> str:
    """An expression of ``type_``, mostly."""
    if draw(st.integers(0, 40)) == 0:
        type_ = draw(st.sampled_from(list(LITERALS)))  # a mistake
    leaves = list(LITERALS[type_])
    if not constant:
        leaves += OF_TYPE[type_] * 4 + (PATHS if type_ == "dynamic" else [])
    if depth <= 0 or constant or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(leaves))

    def part(wanted: str) -> str:
        return str(draw(typed(wanted, depth - 1)))

    match draw(st.integers(0, 9)):
        case 0:
            return f"iff({part('bool')}, {part(type_)}, {part(type_)})"
        case 1:
            return f"coalesce({part(type_)}, {part(type_)})"
        case 2 if type_ != "dynamic":
            return f"to{type_}({part(draw(st.sampled_from(['string', 'dynamic', *NUMERIC])))})".replace(
                "toreal", "todouble"
            )
        case 3 | 4 if type_ == "bool":
            other = draw(st.sampled_from(list(LITERALS)))
            sign = draw(
                st.sampled_from(
                    ["==", "!=", "<", ">="] if other not in ("string", "dynamic", "guid", "bool") else ["==", "!="]
                )
            )
            return f"({part(other)} {sign} {part(other)})"
        case 5 if type_ == "bool":
            return f"({part('string')} {draw(st.sampled_from(WORDS))} {part('string')})"
        case 6 if type_ == "bool":
            other = draw(st.sampled_from(["string", "long", "real", "datetime"]))
            return f"({part(other)} {draw(st.sampled_from(['in', '!in']))} ({part(other)}, {part(other)}))"
        case 7 if type_ == "bool":
            return f"({part('bool')} {draw(st.sampled_from(['and', 'or']))} {part('bool')})"
    if not GIVING[type_]:
        return draw(st.sampled_from(leaves))
    name, takes = draw(st.sampled_from(GIVING[type_]))
    given = []
    for parameter in takes:
        if parameter.is_optional and draw(st.booleans()):
            break
        for _ in range(draw(st.integers(1, 2)) if parameter.is_repeated else 1):
            wanted = draw(st.sampled_from([t for t in parameter.types if t in LITERALS] or ["string"]))
            given.append(draw(typed(wanted, depth - 1, parameter.is_constant)))
    if name.replace("_", "").isalnum() and not name.startswith("has_a") and not name.startswith("in_"):
        return f"{name}({', '.join(given)})"
    if len(given) == 2:
        return f"({given[0]} {name} {given[1]})"
    return draw(st.sampled_from(leaves))


ANY = st.sampled_from(list(LITERALS)).flatmap(typed)
SCALARS = st.one_of(ANY, typed("bool"), typed("string"), typed("long"))
BOOLS = typed("bool")
KEYS = st.sampled_from(["string", "long", "datetime", "bool", "real", "guid", "timespan", "decimal"]).flatmap(
    lambda t: typed(t, 1)
)
NAMES = st.sampled_from(list(COLUMNS))
AGGREGATES = st.one_of(
    st.just("count()"),
    st.builds("countif({})".format, BOOLS),
    st.builds(
        "{}({})".format, st.sampled_from(["sum", "avg", "stdev", "variance", "percentile50", "tdigest"]), typed("real")
    ).map(lambda t: t.replace("percentile50(", "percentiles(").replace(")", ", 50, 95)", 0)),
    st.builds("percentile({}, {})".format, typed("real"), st.integers(0, 100)),
    st.builds(
        "{}({})".format, st.sampled_from(["min", "max", "dcount", "make_set", "make_list", "take_any", "hll"]), KEYS
    ),
    st.builds("{}if({}, {})".format, st.sampled_from(["sum", "avg", "min", "max", "dcount"]), typed("long"), BOOLS),
    st.builds("make_bag({})".format, typed("dynamic")),
    st.builds("buildschema({})".format, typed("dynamic")),
    st.builds("arg_max({}, *)".format, KEYS),
    st.builds("arg_min({}, {})".format, KEYS, SCALARS),
    st.builds("sum({}) / count()".format, typed("long")),
)


def operators(rows: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    named = st.builds("{} = {}".format, st.sampled_from(["x", "y", "z", "a", "s"]), SCALARS)
    part = rows.map("({})".format)
    return st.one_of(
        st.builds("{} | where {}".format, rows, BOOLS),
        st.builds("{} | extend {}".format, rows, named),
        st.builds("{} | extend {}".format, rows, SCALARS),
        st.builds("{} | project {}, {}".format, rows, NAMES, named),
        st.builds("{} | summarize {} by {}".format, rows, AGGREGATES, KEYS),
        st.builds("{} | summarize {}, {}".format, rows, AGGREGATES, AGGREGATES),
        st.builds("{} | sort by {} {}".format, rows, KEYS, st.sampled_from(["", "asc", "desc nulls first"])),
        st.builds("{} | top {} by {}".format, rows, st.integers(0, 4), KEYS),
        st.builds("{} | take {}".format, rows, st.integers(0, 4)),
        st.builds("{} | distinct {}".format, rows, st.one_of(KEYS, NAMES, st.just("*"))),
        st.builds("{} | mv-expand {}".format, rows, st.one_of(NAMES, named)),
        st.builds(
            "{} | mv-expand d to typeof({})".format, rows, st.sampled_from(["long", "string", "datetime", "guid"])
        ),
        st.builds("{} | mv-apply e = d on (where e != 1 | summarize {})".format, rows, AGGREGATES),
        st.builds(
            "{} | join kind={} {} on {}".format,
            rows,
            st.sampled_from(
                ["inner", "innerunique", "leftouter", "rightouter", "fullouter", "leftsemi", "leftanti", "rightanti"]
            ),
            part,
            st.sampled_from(["a", "s", "$left.a == $right.a", "d", "b"]),
        ),
        st.builds("{} | lookup {} on {}".format, rows, part, NAMES),
        st.builds("{} | union {}".format, rows, part),
        st.builds("{} | where {} in ({} | project {})".format, rows, NAMES, rows, NAMES),
        st.builds("{} | serialize r = row_number(), p = prev({}), c = row_cumsum(a)".format, rows, SCALARS),
        st.builds(
            "{} | make-series x = {} on at from datetime(2026-02-01) to now() step 7d by o".format, rows, AGGREGATES
        ),
        st.builds("{} | parse s with {} x:long ' ' y".format, rows, st.sampled_from(["*", "'A'", "* 'l'"])),
        st.builds("{} | evaluate bag_unpack(d)".format, rows),
        st.builds("{} | evaluate pivot(s, {})".format, rows, AGGREGATES),
        st.builds("{} | evaluate narrow()".format, rows),
        st.builds("{} | partition by s ({} | take 1)".format, rows, st.just("where 1 == 1")),
        st.builds("{} | top-nested 2 of {} by {}".format, rows, NAMES, AGGREGATES),
        st.builds("{} | scan with (step x: {} => y = {};)".format, rows, BOOLS, typed("long")).map(
            lambda t: t.replace("scan with", "scan declare (y: long = 0) with")
        ),
        st.builds("{} | project-away {}*".format, rows, NAMES),
        st.builds("{} | project-reorder {} asc".format, rows, NAMES),
        st.builds("{} | getschema".format, rows),
        st.builds("{} | count".format, rows),
        st.builds("{} | search {}".format, rows, st.sampled_from(["'x'", "s:'alpha'", "a == 1"])),
        st.builds("{} | fork (count) (take 1)".format, rows),
        st.builds("{} | facet by {}".format, rows, NAMES),
        st.builds("{} | make-graph a --> i | graph-match (n)-[e]->(m) project e.s".format, rows),
    )


TABLES = st.one_of(
    st.sampled_from(
        ["T", "U", "union *", "T", "range a from 1 to 5 step 1", "materialize(T)", "datatable(a:long)[1, 2]"]
    ),
    st.builds("print a = {}, s = {}".format, SCALARS, SCALARS),
)
QUERIES = st.one_of(
    st.recursive(TABLES, operators, max_leaves=4),
    st.builds(
        "let f = (x:long) {{ {} }}; {} | extend y = f(a)".format,
        typed("long").map(lambda t: t if " a" in t else f"{t} + x"),
        TABLES,
    ),
    st.builds("let v = toscalar({} | summarize {}); T | where a == v".format, TABLES, AGGREGATES),
)


@given(QUERIES)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_query_by_grammar_is_answered_or_refused_in_our_words(data: Data, text: str) -> None:
    event(run(data, text))


@given(SCALARS)
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_expression_over_awkward_values_is_answered_or_refused_in_our_words(data: Data, text: str) -> None:
    event(run(data, f"T | extend x = {text} | project x, gettype(x)"))


# -- queries known to be good, changed --------------------------------------------------------------------------------


def known() -> list[str]:
    """Texts of the other tests."""
    syntax = yaml.safe_load((HERE / "syntax.yaml").read_text("utf-8"))
    found = [*syntax["accept"], *syntax.get("lenient", [])]
    found += [case if isinstance(case, str) else case["kql"] for case in syntax["reject"]]
    found += [case["kql"] for case in yaml.safe_load((HERE / "agents" / "queries.yaml").read_text("utf-8"))]
    for path in sorted((HERE / "cases").glob("*.yaml")):
        cases = yaml.safe_load(path.read_text("utf-8"))
        found += [case["kql"] for case in cases if isinstance(case, dict) and "kql" in case]
    return found


KNOWN = known()
PIECES = st.one_of(
    st.sampled_from(
        [" ", "", "|", "(", ")", "[", "]", ",", ";", "'", '"', "\\", "==", "=", "..", "-", "*", "//", "\n", "\0"]
    ),
    st.sampled_from(
        ["null", "by", "with", "let", "T", "a", "d", "dynamic(", "1d", "$left", "h'", "```", "@", "\u200b", "é"]
    ),
    st.text(max_size=4),
    SCALARS,
)


@st.composite
def changed(draw: st.DrawFn) -> str:
    """A known text, cut, joined with another, and changed in a few places."""
    text = draw(st.sampled_from(KNOWN))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 8)))
        match draw(st.integers(0, 4)):
            case 0:
                text = text[:start] + text[end:]
            case 1:
                text = text[:start] + draw(PIECES) + text[end:]
            case 2:
                text = text[:start] + text[start:end] * 3 + text[end:]
            case 3:
                other = draw(st.sampled_from(KNOWN))
                text = text[:start] + other[draw(st.integers(0, len(other))) :]
            case _:
                text = f"{text}{draw(st.sampled_from([' | ', '; ', ', ', ' ']))}{draw(st.sampled_from(KNOWN))}"
    return text


@given(changed())
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_changed_query_is_answered_or_refused_in_our_words(data: Data, text: str) -> None:
    event(run(data, text))


@pytest.mark.parametrize("text", KNOWN, ids=range(len(KNOWN)))
def test_a_known_query_is_answered_or_refused_in_our_words(data: Data, text: str) -> None:
    run(data, text)


# -- by coverage ------------------------------------------------------------------------------------------------------


def test_coverage_guided_texts_find_no_fault_in_the_front_end() -> None:
    is_ci = bool(os.environ.get("CI"))
    if importlib.util.find_spec("atheris") is None and not is_ci:
        pytest.skip("atheris is not installed; it is part of the extra [test]")
    command = [sys.executable, str(ROOT / "fuzz" / "kql_atheris.py"), "--seconds", "60" if is_ci else "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
