"""Our reading of KQL beside Microsoft's own: the same texts are KQL, and the same columns come of them.

The queries are those of all KQL tests here, and of the conformance cases where they lie beside the repository
(``../shared/kql/gold.jsonl``, or where ``WATCHFLOOR_KQL_GOLD`` says). ``npm ci --prefix tests/kql/parity`` installs
Microsoft's parser. Where it or Node is missing these tests are skipped and say so; in CI that is a failure.

``python -m tests.kql.parity.test_parity`` prints every disagreement.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from watchfloor import kql
from watchfloor.kql.ir import Plan
from watchfloor.storage.compiler import catalogue

from ..running import schema_of
from ..test_bind_operators import TABLES as OF_OPERATORS
from ..test_bind_operators import query_of
from ..test_refusals import SCHEMA as THINGS

HERE: Final = Path(__file__).parent
KQL_TESTS: Final = HERE.parent
GOLD: Final = Path(os.environ.get("WATCHFLOOR_KQL_GOLD", KQL_TESTS.parents[1].parent / "shared" / "kql" / "gold.jsonl"))

AGENTS: Final = {
    name: schema_of(name, table["columns"])
    for name, table in yaml.safe_load((KQL_TESTS / "agents" / "tables.yaml").read_text("utf-8")).items()
}
TABLES: Final[Mapping[str, Mapping[str, kql.TableSchema]]] = {
    "agents": AGENTS,
    "cases.yaml": THINGS.tables,
    "operators": OF_OPERATORS,
    "pairs": catalogue().tables,
    "refusals.yaml": THINGS.tables,
}
"""The tables of the queries of a file or folder. The queries of others bring their own."""

SYNTAX: Final = yaml.safe_load((KQL_TESTS / "syntax.yaml").read_text("utf-8"))
SCOPE: Final = kql.Scope(("us",))
EVERY: Final = 6
"""Of the cases of functions, which are many and alike, one in so many is bound; the others are only parsed."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """Queries in which we differ on purpose: ``pattern`` is found in their text, ``reason`` says why we are right."""

    pattern: str
    reason: str


LENIENT: Final = (
    *(Exemption(rf"\A{re.escape(text)}\Z", "syntax.yaml says why we take it") for text in SYNTAX["lenient"]),
    Exemption(r"\[-5, datetime.* -1h - 1s,", "we take computed constants as the values of a datatable"),
    Exemption(r"\| sort by to asc", "a word of another operator is a name here"),
)
"""We take these, Microsoft's parser does not."""

STRICT: Final = (
    Exemption(r"\A\s*(//.*)?\Z", "the editor takes a text without a query; there is nothing to answer"),
    Exemption(
        r"\b(99999999999999999999|9223372036854775808|1e999)\b|\b99999999999999d\b", "the editor reads no values"
    ),
    Exemption(r"(guid|real|time)\([a-z]+\)|bool\(2\)|(long|int)\((1\.5|3000000000)\)", "the editor reads no values"),
    Exemption(r"datetime\(2026-13-01\)", "the editor reads no values"),
    Exemption(r"ud800", "half a character is no text that can be answered"),
    Exemption(
        r"\b(where|print) [\[{]a[\]}]", "the editor reads JSON and its own parameters there, and then refuses them"
    ),
    Exemption(r"project-rename a\Z", "the analyser refuses it"),
    Exemption(r"where N = 1\Z", "the analyser refuses it"),
    Exemption(r"typeof\(str\)", "the analyser refuses it"),
    Exemption(r"fork \(count\) \(nosuch\)", "the analyser refuses it"),
    Exemption(r"parse a with\Z|scan with \(\)", "the editor takes what is not yet written; it says nothing"),
    Exemption(r"let f = \(\) \{ \}", "the editor takes what is not yet written; a function has a value"),
)
"""Microsoft's parser takes these, we say that they are no KQL."""

COLUMNS: Final = (
    Exemption(r"\bcovariancep?(if)?\(", "the engine names the column by both arguments, the analyser by the first"),
    Exemption(r"\bjaccard_index\(", "the engine answers real; the analyser says dynamic"),
    Exemption(r"\bipv6_lookup\(", "the engine puts the columns of the lookup table first"),
    Exemption(r"\| scan\b(?!.*with_match_id)", "the engine adds the match's number only where it is asked for"),
    Exemption(r"^let View_1 = view[^|]*x_long=3", "the engine leaves x_long its name beside an x of two types"),
    Exemption(r"strcat_array\(map\(inner_nodes\(", "strcat_array makes a string; the analyser takes all of map for it"),
    Exemption(
        r"let key = 1; N \| summarize count\(\) by key", "no answer of the engine is known; a value names no column"
    ),
    Exemption(r"view \(\) \{.*\b(search|find)\b", "the engine searches views too; the analyser the database only"),
    Exemption(r'parse s with "a=" a\Z', "no answer of the engine is known; names of columns differ"),
)
"""Both bind these, to other columns. What the engine answered (gold.jsonl) goes before what the analyser says."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a test, and where it is from. ``tables``: a key of ``TABLES``; None where it is syntax only."""

    source: str
    text: str
    tables: str | None = ""


def queries() -> Iterator[Query]:
    """Every KQL text of the tests, once: of YAML, of ``.kql`` files, of the conformance cases."""
    seen: set[tuple[str, str | None]] = set()
    for query in (*_of_syntax(), *_of_yaml(), *_of_files(), *_of_gold()):
        if (query.text, query.tables) not in seen:
            seen.add((query.text, query.tables))
            yield query


def _of_syntax() -> Iterator[Query]:
    for group, items in SYNTAX.items():
        for number, item in enumerate(items):
            yield Query(f"syntax.yaml {group} {number}", item if isinstance(item, str) else item["kql"], None)


def _of_yaml() -> Iterator[Query]:
    for path in sorted(KQL_TESTS.rglob("*.yaml")):
        name = path.relative_to(KQL_TESTS).as_posix()
        if name != "syntax.yaml" and "node_modules" not in path.parts:
            tables = name.split("/")[0]
            for number, case in enumerate(_cases(yaml.safe_load(path.read_text("utf-8")))):
                query = Query(f"{name} {number}", case["kql"], tables if tables in TABLES else "")
                if name == "operators/answers.yaml":
                    query = Query(query.source, query_of(case))
                elif tables == "cases" and number % EVERY:
                    query = replace(query, tables=None)
                yield query


def _cases(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        if isinstance(document.get("kql"), str):
            yield document
        document = list(document.values())
    if isinstance(document, list):
        for item in document:
            yield from _cases(item)


def _of_files() -> Iterator[Query]:
    for path in sorted(KQL_TESTS.rglob("*.kql")):
        yield Query(path.relative_to(KQL_TESTS).as_posix(), path.read_text("utf-8"), "pairs")


def _of_gold() -> Iterator[Query]:
    if GOLD.exists():
        for line in GOLD.read_text("utf-8").splitlines():
            case = json.loads(line)
            yield Query(case["id"], case["kql"])


@cache
def _theirs() -> dict[Query, dict[str, Any]]:
    """What Microsoft's parser says of each query."""
    asked = list(queries())
    lines = [json.dumps({"": [], **{key: list(map(_described, tables.values())) for key, tables in TABLES.items()}})]
    lines += [json.dumps({"id": number, "kql": q.text, "catalogue": q.tables}) for number, q in enumerate(asked)]
    run = subprocess.run(
        ["node", str(HERE / "oracle.js")], input="\n".join(lines), capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    answers = {a["id"]: a for a in map(json.loads, run.stdout.splitlines())}
    return {query: answers[number] for number, query in enumerate(asked)}


def _described(table: kql.TableSchema) -> dict[str, Any]:
    return {"name": table.name, "columns": [(c.name, c.type) for c in table.columns]}


def _missing() -> str:
    """What keeps Microsoft's parser from running here; empty if nothing does."""
    if shutil.which("node") is None:
        return "Node is not installed"
    if not (HERE / "node_modules" / "@kusto" / "language-service-next").exists():
        return "Microsoft's parser is not installed: npm ci --prefix tests/kql/parity"
    return ""


@pytest.fixture(scope="module", autouse=True)
def microsoft() -> None:
    if missing := _missing():
        if os.environ.get("CI"):
            pytest.fail(f"CI compares with Microsoft's parser. {missing}")
        pytest.skip(missing)


def _refusal(query: Query) -> kql.KqlError | None:
    """Why we do not answer it, as far as that shows before data; None if we do. "No KQL" goes before other reasons."""
    try:
        kql.parse(query.text)
        _plan(query)
    except kql.KqlError as error:
        return next((e for e in (error, *error.others) if e.kind == "syntax"), error)
    return None


@cache
def _plan(query: Query) -> Plan | None:
    """What it means to us; None if we must see data to know. Raises ``KqlError``."""
    if query.tables is None:
        return None
    plan = kql.analyze(query.text, kql.Schema(TABLES.get(query.tables, {})), SCOPE)
    return plan if isinstance(plan, Plan) else None


def _columns(query: Query) -> list[list[str]] | None:
    """The columns that we say come of it; None if we refuse it, or must see data to know."""
    try:
        plan = _plan(query)
    except kql.KqlError:
        return None
    return None if plan is None else [[name, column.type] for name, column in plan.columns]


Found = list[tuple[Query, str]]
"""Disagreements: a query, and who says what."""


@cache
def _lenient() -> Found:
    """Each query that we take for KQL and answer, or refuse for what it means, and Microsoft's parser does not."""
    refused = [(q, a["errors"]) for q, a in _theirs().items() if not a["parses"]]
    return [
        (q, f"they: {errors}")
        for q, errors in refused
        if (refusal := _refusal(q)) is None or refusal.kind not in ("syntax", "unsupported")
    ]


@cache
def _strict() -> Found:
    """Each query that Microsoft's parser takes and we call no KQL. What we know and do not support is no such query."""
    return [
        (q, f"we: {refusal}")
        for q, answer in _theirs().items()
        if answer["parses"] and (refusal := _refusal(q)) is not None and refusal.kind == "syntax"
    ]


@cache
def _compared() -> list[tuple[Query, list[list[str]], list[list[str]]]]:
    """Each query that both bind: our columns and theirs."""
    return [
        (query, ours, answer["schema"])
        for query, answer in _theirs().items()
        if answer["binds"] and answer["schema"] is not None and (ours := _columns(query)) is not None
    ]


@cache
def _other_columns() -> Found:
    """Each query that both bind, to other columns. A column of which they do not know the type is not compared."""
    return [(q, f"we: {ours}; they: {theirs}") for q, ours, theirs in _compared() if not _agree(ours, theirs)]


def _agree(ours: list[list[str]], theirs: list[list[str]]) -> bool:
    return len(ours) == len(theirs) and all(
        our_name == name and type_ in (our_type, "unknown")
        for (our_name, our_type), (name, type_) in zip(ours, theirs, strict=True)
    )


COMPARISONS: Final[Mapping[str, tuple[Callable[[], Found], tuple[Exemption, ...]]]] = {
    "we take it, Microsoft does not": (_lenient, LENIENT),
    "Microsoft takes it, we do not": (_strict, STRICT),
    "other columns": (_other_columns, COLUMNS),
}


def _report(title: str) -> list[str]:
    found, exemptions = COMPARISONS[title]
    return [
        f"{query.source}: {query.text!r}\n    {said}"
        for query, said in found()
        if not any(_applies(e, query) for e in exemptions)
    ]


def _applies(exemption: Exemption, query: Query) -> bool:
    return re.search(exemption.pattern, query.text, re.DOTALL) is not None


@pytest.mark.parametrize("title", COMPARISONS)
def test_we_read_kql_as_microsoft_does(title: str) -> None:
    assert _report(title) == []


@pytest.mark.skipif(not GOLD.exists(), reason=f"some exemptions are for the conformance cases, and there is no {GOLD}")
@pytest.mark.parametrize("title", COMPARISONS)
def test_every_exemption_is_needed(title: str) -> None:
    found, exemptions = COMPARISONS[title]
    assert [e for e in exemptions if not any(_applies(e, query) for query, _ in found())] == []


def test_enough_is_compared() -> None:
    assert len(_theirs()) > 1500
    assert len(_compared()) > 500


if __name__ == "__main__":
    if reason := _missing():
        raise SystemExit(reason)
    print(f"{len(_theirs())} texts, of {len(_compared())} the columns", end="\n\n")
    for heading in COMPARISONS:
        differences = _report(heading)
        print(f"{heading}: {len(differences)}", *differences, sep="\n", end="\n\n")
