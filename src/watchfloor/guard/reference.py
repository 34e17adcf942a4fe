"""The generated parts of ``docs/policies.md`` and ``docs/detectors.md``: members and names of policies, reason codes,
the catalogue of detections.

Text only; ``docs/write.py`` puts it between the page's markers, and a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from watchfloor.guard import names, policy_body
from watchfloor.guard.detectors.catalogue import DETECTIONS
from watchfloor.guard.reasons import CODES

_MARKED: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def members_table() -> str:
    """Members of a policy, of its scope and of its test rows."""
    rows = ["| member | needed | meaning |", "|---|---|---|"]
    for member in policy_body.MEMBERS:
        rows.append(f"| `{member.name}` | {'yes' if member.is_required else ''} | {member.doc} |")
        if member.name == "scope":
            rows += [f"| `scope.{inner.name}` | | {inner.doc} |" for inner in policy_body.SCOPE_MEMBERS]
        if member.name == "tests":
            rows += [f"| `tests[].{inner.name}` | yes | {inner.doc} |" for inner in policy_body.TEST_MEMBERS]
    return "\n".join(rows) + "\n"


def names_table() -> str:
    """Names that a condition may use, with type and values."""
    rows = ["| name | type | meaning |", "|---|---|---|"]
    for name in names.NAMES:
        shown = [f"`{value}`" for value in name.values if value]
        values = f" One of {', '.join(shown)}." if shown else ""
        rows.append(f"| `{name.name}` | {name.type} | {name.doc}{values} |")
    return "\n".join(rows) + "\n"


def functions_table() -> str:
    """Functions beside CEL's own."""
    rows = ["| function | result | meaning |", "|---|---|---|"]
    rows += [f"| `{function.name}()` | {function.result} | {function.doc} |" for function in names.FUNCTIONS]
    return "\n".join(rows) + "\n"


def given_table() -> str:
    """What a test row may set."""
    rows = ["| member | what may be set |", "|---|---|"]
    for name, members in policy_body.GIVEN.items():
        inner = ", ".join(f"`{member.name}`" for member in members)
        rows.append(f"| `{name}` | {inner or 'anything'} |")
    return "\n".join(rows) + "\n"


def codes_table() -> str:
    """Reason codes with what operators read."""
    rows = ["| code | severity | may be retried | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{code}` | {about.severity} | {'yes' if about.is_retryable else ''} | {about.message} |"
        for code, about in CODES.items()
    ]
    return "\n".join(rows) + "\n"


def detections_table() -> str:
    """The catalogue of the text detectors."""
    rows = [
        "| id | category | what | severity | tactic | surfaces | known elsewhere as |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in DETECTIONS:
        techniques = "".join(f" {technique}" for technique in found.techniques)
        surfaces = ", ".join(found.surfaces)
        elsewhere = ", ".join(found.counterparts)
        rows.append(
            f"| `{found.id}` | `{found.category}` | {found.title} | {found.severity} | {found.tactic}{techniques} "
            f"| {surfaces} | {elsewhere} |"
        )
    return "\n".join(rows) + "\n"


TABLES: Final[dict[str, Callable[[], str]]] = {
    "members": members_table,
    "names": names_table,
    "functions": functions_table,
    "given": given_table,
    "codes": codes_table,
    "detections": detections_table,
}


def render(page: str) -> str:
    """``page`` with the text between each ``<!-- generated: NAME -->`` and ``<!-- end -->`` written anew."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", page)
