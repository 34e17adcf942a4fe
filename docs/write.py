"""Writes the pages derived from code and content: settings, tables, functions, policies, posture, requirements, …

``make docs`` runs it; ``tests/test_docs.py`` fails when a page differs from what this would write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from watchfloor.detection import hunting, posture
from watchfloor.guard import reference
from watchfloor.kql import operators
from watchfloor.kql.bind import calls, plugins
from watchfloor.kql.functions import AGGREGATES, CONDITIONAL, FUNCTIONS, REFUSED
from watchfloor.kql.functions.spec import CLASSES, Parameter
from watchfloor.model.posture import Weight
from watchfloor.settings import FIELDS
from watchfloor.storage.compiler import described_views
from watchfloor.storage.tables import TABLES, Table

HERE = Path(__file__).parent


def settings_page() -> str:
    """Every setting: name, default, meaning."""
    lines = [
        "# Settings",
        "",
        "Sources, later ones win: defaults, a TOML file (`--config FILE` or `watchfloor.toml` in the data directory),",
        "variables `WATCHFLOOR_<NAME>`, command-line options. Unknown names are errors.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for name, f in FIELDS.items():
        default = "" if f.default == "" else f"`{f.default}`"
        lines.append(f"| `{name}` | {default} | {f.metadata['doc']} |")
    return "\n".join(lines) + "\n"


def tables_page() -> str:
    """Every event table and every view with its columns."""
    lines = [
        "# Event tables",
        "",
        "What the event store holds. Times are UTC with microseconds; `dynamic` is JSON. A table marked *content*",
        "holds message contents: reading it needs the permission `content.read` and leaves an audit entry.",
        "",
        "Behind them stand the views: " + ", ".join(f"`{name}`" for name in described_views()) + ".",
    ]
    for table in TABLES.values():
        lines += _table_lines(table)
    lines += [
        "",
        "# Views",
        "",
        "Tables that are queries over the tables above, in shapes that others use: their queries paste in. A view",
        "shows nothing that its tables would not show to the same person. `union *`, and `search` without a list of",
        "tables, leave views out, as their rows would come twice; name them. Their queries are in `content/tables/`.",
    ]
    for view in described_views().values():
        lines += _table_lines(view)
    return "\n".join(lines) + "\n"


def _table_lines(table: Table) -> list[str]:
    lines = ["", f"## {table.name}{' (content)' if table.is_content else ''}", "", table.doc, ""]
    lines += ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{c.name}` | {c.type} | {_cell(c.doc)} |" for c in table.columns]
    types = {c.name: c.type for c in table.columns}
    return lines + [f"| `{alias}` | {types[name]} | `{name}` by another name. |" for alias, name in table.aliases]


def policies_page() -> str:
    """The page on policies, its generated tables written anew."""
    return reference.render((HERE / "policies.md").read_text("utf-8"))


def functions_page() -> str:
    """What of KQL is answered: operators, functions, aggregates, plugins; and what is refused."""
    import_module("watchfloor.kql.sql.clickhouse")  # its templates join the tables when it is loaded
    shown = {name: rows for name, rows in FUNCTIONS.items() if not calls.is_internal(name)}
    in_both = len([name for name, rows in shown.items() if any("clickhouse" in row.sql for row in rows)])
    signs = {name: rows for name, rows in shown.items() if not name.replace("_", "").isalnum()}
    lines = [
        "# KQL: what is answered",
        "",
        "Written from the tables that the engine itself works with. How to hunt: [kql.md](kql.md).",
        "",
        "*Template*: printed as SQL of the engine. *Routine*: the engine calls the function's definition. *Some*: a",
        "template for some arguments, the routine for the others. ClickHouse has templates only: what has none is",
        f"refused there by name ({in_both} of {len(shown)} names have one).",
        "",
        "## Tabular operators",
        "",
        _list(operators._OPERATORS),
        "",
        f"Refused by name: {_list(operators._UNSUPPORTED)}",
        "",
        "## Scalar functions",
        "",
        *_table({name: rows for name, rows in shown.items() if name not in signs}),
        "",
        "Bound by their own rules, on every engine: " + _list(calls.SPECIAL),
        "",
        "## Scalar operators",
        "",
        *_table(signs),
        "",
        "Bound by their own rules, on every engine: " + _list(SIGNS),
        "",
        "## Aggregates",
        "",
        *_table(AGGREGATES),
        "",
        "Bound by their own rules, on every engine: " + _list(calls.EXTREMES),
        "",
        "With a condition: " + ", ".join(f"`{name}` ({of})" for name, of in sorted(CONDITIONAL.items())) + ".",
        "",
        "## Plugins of evaluate",
        "",
        _list(plugins.PLUGINS),
        "",
        "## Refused",
        "",
        "KQL that is refused by name, never answered differently.",
        "",
        "| name | why, or what to do instead |",
        "|---|---|",
    ]
    refused = {**REFUSED, **plugins.REFUSED, **plugins.REACHES_OUT}
    lines += [f"| `{name}` | {_cell(refused[name])} |" for name in sorted(refused)]
    return "\n".join(lines) + "\n"


ASVS = "https://github.com/OWASP/ASVS/tree/v5.0.0/5.0/en"


def asvs_page() -> str:
    """Requirements of OWASP ASVS 5.0, how they are met, and the tests that say so."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    try:
        groups, marked = import_module("asvs").GROUPS, import_module("marks").marked("asvs")
    finally:
        sys.path.pop(0)
    lines = [
        "# Security requirements and their tests",
        "",
        f"Requirements of OWASP's [Application Security Verification Standard 5.0]({ASVS}) about identity,",
        "sessions, tokens, authorization and logs: what Watchfloor does for each, and the tests that fail when it does",
        "not. Written from `tests/asvs.py` and the tests' marks. What is not listed was not assessed.",
    ]
    for name, requirements in groups.items():
        lines += ["", f"## {name}", "", "| ASVS | what we do | tests |", "|---|---|---|"]
        for each in requirements:
            what = each.what + (f" **Missing:** {each.gap}" if each.gap else "")
            tests = "<br>".join(f"`{test}`" for test in marked.get(each.id, ()))
            lines.append(f"| {each.id} | {_cell(what)} | {tests} |")
    return "\n".join(lines) + "\n"


SIGNS = ("and", "or", "not", "==", "!=", "<", "<=", ">", ">=", "in", "!in", "in~", "!in~", "between", "!between",
         "has_any", "has_all", "[ ]", ".")  # fmt: skip


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) + "."


def _table(functions: Mapping[str, Sequence[Any]]) -> list[str]:
    lines = ["| name | arguments | result | DuckDB | ClickHouse | reference |", "|---|---|---|---|---|---|"]
    for name in sorted(functions):
        rows = functions[name]
        takes = list(dict.fromkeys(" ".join(_parameter(p) for p in row.takes) or "none" for row in rows))
        gives = list(dict.fromkeys(_gives(row.gives) for row in rows))
        pages = list(dict.fromkeys(row.page for row in rows))
        links = ", ".join(f"[{page}](https://learn.microsoft.com/kusto/query/{page})" for page in pages if page)
        routine = "no" if rows is AGGREGATES.get(name) else "routine"
        cells = ("<br>".join(takes), ", ".join(gives), _how(rows, "duckdb", routine), _how(rows, "clickhouse", "no"))
        lines.append(f"| `{_cell(name)}` | {' | '.join(map(_cell, cells))} | {links} |")
    return lines


def _parameter(parameter: Parameter) -> str:
    by_types = {types: name for name, types in CLASSES.items()}
    word = "text" if parameter.as_text else by_types.get(parameter.types, "/".join(parameter.types))
    word = f"constant {word}" if parameter.is_constant else word
    suffix = {(True, False): "?", (True, True): "*", (False, True): "+"}.get(
        (parameter.is_optional, parameter.is_repeated), ""
    )
    return f"({word}){suffix}"


def _gives(gives: str | int) -> str:
    return gives if isinstance(gives, str) else f"as argument {gives + 1}"


def _how(rows: Sequence[Any], dialect: str, otherwise: str) -> str:
    ways = {
        otherwise
        if dialect not in row.sql
        else "some"
        if getattr(row, "when", None) is not None or callable(row.sql[dialect])
        else "template"
        for row in rows
    }
    return ways.pop() if len(ways) == 1 else "some"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def hunting_page() -> str:
    """Every hunting template: what it finds, which of Microsoft's it stands for, and how it differs from that."""
    hunts = hunting.select(hunting.shipped())
    lines = [
        "# Hunting templates",
        "",
        f"{len(hunts)} queries to begin a hunt from. Each answers with agents, and carries rows that it must find and",
        "rows that it must not, which are run as tests. How to list, run, mark and keep them:",
        "[kql.md](kql.md#templates-and-your-own-queries). The files are in `content/hunting/`.",
    ]
    for category in hunting.CATEGORIES:
        lines += ["", f"## {category}", "", "| template | finds | techniques | asks |", "|---|---|---|---|"]
        lines += [
            f"| `{one.id}` | **{_cell(one.name)}**. {_cell(one.description.strip())} | {', '.join(one.techniques)} "
            f"| {', '.join(hunt.tables)} |"
            for hunt in hunts
            if (one := hunt.template).category == category
        ]
    lines += [
        "",
        "## Counterparts of Microsoft's templates",
        "",
        "Microsoft publishes 37 hunting templates for AI agents; they run here as they are. These stand for them, and",
        "are right where those are not.",
        "",
        "| Microsoft's | ours | how it differs |",
        "|---|---|---|",
    ]
    known = sorted((hunt.template for hunt in hunts if hunt.template.counterpart), key=lambda one: one.counterpart)
    lines += [f"| {_cell(one.counterpart)} | `{one.id}` | {_cell(one.differs.strip())} |" for one in known]
    lines += ["", "## What they do not see", "", "| template | blind spots |", "|---|---|"]
    lines += [f"| `{hunt.template.id}` | {_cell(hunt.template.blind_spots.strip())} |" for hunt in hunts]
    return "\n".join(lines) + "\n"


def posture_page() -> str:
    """The page on posture, its tables of indicators and of risk written anew."""
    checks = posture.shipped()
    indicators = ["| indicator | raises | level | why | recommendation | does not see |", "|---|---|---|---|---|---|"]
    for check in checks:
        one = check.indicator
        most = f"up to {one.level}" if "Level" in check.columns else one.level
        raises = ", ".join(one.raises)
        said = " | ".join(_cell(text.strip()) for text in (one.why, one.recommendation, one.blind_spots))
        indicators.append(f"| `{one.id}`: {_cell(one.title)} | {raises} | {most} | {said} |")
    levels = (None, *Weight)
    matrix = ["| likelihood \\ impact | " + " | ".join(w or "none" for w in levels) + " |", "|---" * 6 + "|"]
    for likelihood in levels:
        row = (posture.MATRIX[likelihood, impact].replace("_", " ") for impact in levels)
        matrix.append(f"| **{likelihood or 'none'}** | {' | '.join(row)} |")
    text = (HERE / "posture.md").read_text("utf-8")
    for name, lines in (("indicators", indicators), ("matrix", matrix)):
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(begin)
        text = before + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    return text


PAGES = {
    "asvs.md": asvs_page,
    "settings.md": settings_page,
    "tables.md": tables_page,
    "kql-functions.md": functions_page,
    "hunting-templates.md": hunting_page,
    "policies.md": policies_page,
    "posture.md": posture_page,
    "detectors.md": lambda: reference.render((HERE / "detectors.md").read_text("utf-8")),
}

if __name__ == "__main__":
    for name, render in PAGES.items():
        (HERE / name).write_text(render(), "utf-8")
