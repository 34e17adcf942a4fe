"""Writes the reference pages that are derived from code: settings.md, tables.md, the tables of policies.md.

``make docs`` runs it; ``tests/test_docs.py`` fails when a page differs from what this would write.
"""

from __future__ import annotations

from pathlib import Path

from watchfloor.guard import reference
from watchfloor.settings import FIELDS
from watchfloor.storage.tables import TABLES

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
    """Every event table with its columns."""
    lines = [
        "# Event tables",
        "",
        "What the event store holds. Times are UTC with microseconds; `dynamic` is JSON. A table marked *content*",
        "holds message contents: reading it needs the permission `content.read` and leaves an audit entry.",
    ]
    for table in TABLES.values():
        lines += ["", f"## {table.name}{' (content)' if table.is_content else ''}", "", table.doc, ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type} | {c.doc} |" for c in table.columns]
    return "\n".join(lines) + "\n"


def policies_page() -> str:
    """The page on policies, its generated tables written anew."""
    return reference.render((HERE / "policies.md").read_text("utf-8"))


PAGES = {"settings.md": settings_page, "tables.md": tables_page, "policies.md": policies_page}

if __name__ == "__main__":
    for name, render in PAGES.items():
        (HERE / name).write_text(render(), "utf-8")
