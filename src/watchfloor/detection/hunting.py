"""Hunting templates: queries to begin a hunt from, as content. Load, validate, choose among them.

A template finds agents: every row that it answers names one, so that something can be done about it. What its rows
mean, what it does not see and how it differs from the template of Microsoft that it stands for, it says in words. Its
tests are rows that it must find and rows that it must not, in the shape that tests of rules have. This module knows
files and words; whoever hunts runs the query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Final

from pydantic import Field

from watchfloor.detection.kql_rule import RowsExample, bind_query, check_examples
from watchfloor.detection.words import Document, parse_documents, shipped_documents
from watchfloor.kql.errors import nearest
from watchfloor.kql.schema import Schema
from watchfloor.model.errors import InputError, NotFound
from watchfloor.storage.compiler import catalogue
from watchfloor.storage.tables import TABLES

CATEGORIES: Final = (
    "Credentials",
    "Tools",
    "Network",
    "Mail",
    "Instructions",
    "Sharing",
    "Ownership",
    "Lifecycle",
    "Changes",
    "Activity",
    "Provenance",
    "Approvals",
    "Access",
    "Risk",
)
"""What templates look at, in the order in which they are shown."""

NEEDED: Final = ("AgentId", "AgentName")
"""Columns of every answer: whom it is about, for whoever acts on it."""


class Template(Document):
    """A hunting template, as its content file says it.

    ``counterpart`` is the template of Microsoft that it stands for, by its name; ``differs`` what that one has wrong,
    and how this one is right.
    """

    name: str = Field(min_length=1, max_length=120)
    description: str = Field(min_length=1, max_length=2_000)
    category: Annotated[str, Field(pattern=f"^({'|'.join(CATEGORIES)})$")]
    counterpart: str = ""
    differs: str = ""
    techniques: tuple[Annotated[str, Field(pattern=r"^(T\d{4}|AML\.T\d{4})(\.\d{3})?$")], ...] = Field(min_length=1)
    recommended_actions: tuple[str, ...] = Field(min_length=1)
    blind_spots: str = Field(min_length=1)
    query: str = Field(min_length=1, max_length=50_000)
    tests: tuple[RowsExample, ...] = Field(min_length=2)


@dataclass(frozen=True, slots=True)
class Hunt:
    """A template that can be run: ``tables`` are the tables and views that its query names, ``reads`` those that are
    stored, ``columns`` (name, KQL type) those of its answer."""

    template: Template
    tables: tuple[str, ...]
    reads: frozenset[str]
    columns: Mapping[str, str]


def prepare(template: Template, schema: Schema | None = None) -> tuple[Hunt | None, list[str]]:
    """The template, ready to run, or everything that is wrong with it, each with its place."""
    schema = schema or catalogue()
    faults = check_examples(template.tests, schema)
    if bool(template.counterpart) is not bool(template.differs):
        faults.append("differs: whoever stands for another template says how it differs, and nobody else does")
    bound, more = bind_query(template.query, schema)
    faults += more
    if bound is None:
        return None, faults
    for name in NEEDED:
        if bound.columns.get(name) != "string":
            faults.append(f"query: gives no text {name}; whoever acts on a row has to know the agent")
    if contents := sorted(name for name in bound.tables if TABLES[name].is_content):
        faults.append(f"query: {', '.join(contents)} holds contents, and templates are for everybody who may hunt")
    return (None if faults else Hunt(template, bound.named, bound.tables, bound.columns)), faults


def parse(documents: Mapping[str, str], schema: Schema | None = None) -> tuple[Hunt, ...]:
    """The templates in ``documents`` (file name to YAML text), by id. Raises ``InputError`` with every fault."""
    found = parse_documents(documents, Template, lambda template: prepare(template, schema), "hunting")
    return tuple(sorted(found, key=lambda hunt: hunt.template.id))


@cache
def shipped() -> tuple[Hunt, ...]:
    """The templates that come with the product, by id."""
    return parse(shipped_documents("hunting"))


def find(template_id: str) -> Hunt:
    """The template of that id. Raises ``NotFound``."""
    by_id = {hunt.template.id: hunt for hunt in shipped()}
    if template_id not in by_id:
        raise NotFound(
            f"there is no hunting template {template_id!r}.", where="template", remedy=nearest(template_id, by_id)
        )
    return by_id[template_id]


def select(
    hunts: Iterable[Hunt], *, category: str = "", table: str = "", technique: str = "", text: str = ""
) -> list[Hunt]:
    """Those for which everything given holds, by category and name. ``technique``: T1078 has T1078.004 in it.

    Raises ``InputError`` for a category that there is not.
    """
    if category and category not in CATEGORIES:
        raise InputError(f"there is no category {category!r}.", where="category", remedy=f"{', '.join(CATEGORIES)}.")
    found = [
        hunt
        for hunt in hunts
        if (not category or hunt.template.category == category)
        and (not table or table in hunt.tables)
        and (not technique or any(t == technique or t.startswith(f"{technique}.") for t in hunt.template.techniques))
        and (not text or _says(hunt.template, text.casefold()))
    ]
    return sorted(found, key=lambda hunt: (CATEGORIES.index(hunt.template.category), hunt.template.name))


def _says(one: Template, text: str) -> bool:
    return any(text in said.casefold() for said in (one.id, one.name, one.description, one.counterpart, one.query))
