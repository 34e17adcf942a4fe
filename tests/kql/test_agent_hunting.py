"""Hunting over agents as analysts write it: whole queries over the inventory tables, and the rows they must give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from .running import Answer, Data, schema_of

AGENTS = Path(__file__).parent / "agents"
QUERIES = yaml.safe_load((AGENTS / "queries.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def data() -> Data:
    tables = yaml.safe_load((AGENTS / "tables.yaml").read_text("utf-8"))
    return Data({name: (schema_of(name, table["columns"]), table["rows"]) for name, table in tables.items()})


def unordered(row: list[Any], free: set[int]) -> list[Any]:
    """``row`` with the arrays sorted that have no order (those of make_set)."""
    return [sorted(v, key=json.dumps) if n in free and isinstance(v, list) else v for n, v in enumerate(row)]


def rows_of(answer: Answer, text: str) -> list[str]:
    sets = re.findall(r"(\w+) = (?:make_set|make_set_if)\(", text)
    free = {n for n, name in enumerate(answer.names) if name in sets}
    rows = [json.dumps(unordered(row, free), sort_keys=True) for row in answer.rows]
    return rows if re.search(r"\| (sort|order|top)\b", text) else sorted(rows)


@pytest.mark.parametrize("case", QUERIES, ids=lambda case: case["name"])
def test_the_query_gives_these_columns_and_rows(data: Data, case: dict[str, Any]) -> None:
    columns = tuple((name, type_) for column in case["columns"] for name, type_ in column.items())
    found = data.ask(case["kql"])
    assert found.columns == columns
    assert rows_of(found, case["kql"]) == rows_of(Answer(columns, case["rows"]), case["kql"])


NEEDED = {
    "operators": [
        "where",
        "summarize",
        "extend",
        "project-reorder",
        "project-rename",
        "project-away",
        "project",
        "distinct",
        "mvexpand",
        "mv-expand",
        "sort",
        "order",
        "take",
        "top",
        "union",
        "render",
    ],
    "functions": [
        "make_set",
        "make_set_if",
        "make_list",
        "take_any",
        "materialize",
        "tostring",
        "todynamic",
        "parse_json",
        "array_length",
        "parse_url",
        "split",
        "coalesce",
        "isempty",
        "isnotempty",
        "isnotnull",
        "isnull",
        "ago",
        "now",
        "todatetime",
        "column_ifexists",
        "hash_sha256",
        "strlen",
        "substring",
        "replace_string",
        "trim",
        "extract",
        "iff",
        "iif",
        "set_difference",
        "set_has_element",
        "array_sort_asc",
        "not",
        "dcount",
        "countif",
        "count",
        "max",
        "case",
        "row_cumsum",
        "prev",
        "strcat",
        "strcat_array",
        "format_datetime",
        "startofmonth",
        "datetime_diff",
        "bag_pack",
        "bin",
        "toint",
        "arg_min",
    ],
    "forms": [
        r"arg_max\(Timestamp, \*\)",
        r"arg_max\(Timestamp, \w+",
        r"\| join kind=leftouter \w+ on \$left\.\w+ == \$right\.\w+",
        r"\| join kind=inner \w+ on \w+",
        r"\| mv-apply \w+ = [\w.]+ to typeof\(string\) on \(",
        r"indexof\(\w+, \S+ \d+\)",
        r"datetime\(null\)",
        r"dynamic\(\[",
        r"distinct \w+, tostring\(",
        r"(?<=\n)\| union ",
        r"column_ifexists\(.*column_ifexists\(",
        r"let \w+ = (materialize\()?\w+\b",
        r" in \(",
        r" in~ \(",
        r" !in \((known|owners)\)",
        r" has \"",
        r" has_any \(",
        r" !has \"",
        r" !contains \w",
        r" !contains strcat",
        r" startswith \"",
        r" !startswith \"",
        r" endswith \"",
        r" !endswith ",
        r" =~ \"",
        r" matches regex ",
        r" between \(.* \.\. ",
        r"\w\[\"\$kind\"\]",
        r"\['action'\]",
        r"@\"[^\n]*\"\"",
        r"//",
        r"\b30d\b",
        r"== [01]\b",
        r";\n*$",
        r"\n\n",
    ],
}


@pytest.mark.parametrize("kind", NEEDED)
def test_every_feature_that_such_queries_need_occurs_in_one(kind: str) -> None:
    text = "\n".join(case["kql"] for case in QUERIES)
    pattern = {"operators": r"(^|\| *){}\b", "functions": r"\b{}\(", "forms": "{}"}[kind]
    missing = [word for word in NEEDED[kind] if re.search(pattern.replace("{}", word), text, re.MULTILINE) is None]
    assert missing == []
