"""Views: named queries over the event tables that are tables to whoever asks.

Their texts are data (``content/tables``); here they are checked against the event tables and made part of the catalogue
that ``compiler.py`` gives to KQL. A view that is broken, that reads itself on some way, or that does not say what each
of its columns means, fails before anybody can ask for it. What a view may show is not decided here: its query is bound
with the asker's scope, as if the asker had written it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from watchfloor import kql as language
from watchfloor.content import ViewFile
from watchfloor.kql.ast import Evaluation, Expr, Query
from watchfloor.kql.ir import Plan
from watchfloor.kql.schema import View
from watchfloor.model.errors import InputError
from watchfloor.storage.table_shape import Column, Table

_ANYBODY: Final = language.Scope(("default",))


def with_views(schema: language.Schema, files: Iterable[ViewFile]) -> language.Schema:
    """``schema`` with the views of ``files``, which may read its tables and one another.

    Raises ``InputError`` for a view that cannot be bound, that reads itself, whose name is a table's, or whose columns
    are not the described ones.
    """
    from watchfloor.kql.bind.tables import mentions  # the binder is loaded when something is bound, not before

    known = {file.name: file for file in files}
    parsed = {name: _parsed(file) for name, file in known.items()}
    below = {name: frozenset(mentions(query.statements)) for name, query in parsed.items()}
    for name in _in_order({name: sorted(found & known.keys()) for name, found in below.items()}):
        if name in schema.tables:
            raise InputError("there is a table of that name.", where=_place(name))
        reads = frozenset[str]().union(*(schema.reads(n) for n in below[name]))
        view = View(_shape(known[name], schema), _expression(name, parsed[name]), reads)
        schema = replace(schema, views={**schema.views, name: view})
    return schema


def described(schema: language.Schema, files: Iterable[ViewFile], content_tables: Collection[str]) -> list[Table]:
    """The views of ``schema`` as tables with what each column means, in the order of ``files``.

    A view that reads one of ``content_tables`` holds content itself.
    """
    found = []
    for file in files:
        view = schema.views[file.name]
        columns = tuple(Column(c.name, c.type, file.columns[c.name]) for c in view.table.columns)
        found.append(Table(file.name, file.doc, columns, not view.reads.isdisjoint(content_tables)))
    return found


def _place(name: str) -> str:
    return f"content/tables/{name}.kql"


def _parsed(file: ViewFile) -> Query:
    try:
        return language.parse(file.query)
    except language.KqlError as error:
        raise InputError(str(error), where=_place(file.name)) from error


def _in_order(below: Mapping[str, Sequence[str]]) -> list[str]:
    """The views, each behind those that it reads. Raises ``InputError`` for one that reads itself."""
    found: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise InputError(f"it reads itself: {' → '.join((*path[path.index(name) :], name))}.", where=_place(name))
        if name not in found:
            for other in below[name]:
                visit(other, (*path, name))
            found.append(name)

    for name in below:
        visit(name, ())
    return found


def _expression(name: str, query: Query) -> Expr:
    match query.statements:
        case (Evaluation(value),):
            return value
    raise InputError("a view is one query, without let and set.", where=_place(name))


def _shape(file: ViewFile, schema: language.Schema) -> language.TableSchema:
    """What the view's query gives, once it is what the file describes."""
    try:
        plan = language.analyze(file.query, schema, _ANYBODY)
    except language.KqlError as error:
        raise InputError(str(error), where=_place(file.name)) from error
    if not isinstance(plan, Plan):
        raise InputError("its columns depend on data.", where=_place(file.name), remedy="Name them.")
    given = [name for name, _ in plan.columns]
    if given != list(file.columns):
        wrong = next((n for n in (*given, *file.columns) if n not in given or n not in file.columns), "")
        message = f"{wrong} is given or described, not both." if wrong else "columns are described in another order."
        raise InputError(message, where=_place(file.name))
    columns = tuple(language.Column(name, column.type, column.is_nullable) for name, column in plan.columns)
    return language.TableSchema(file.name, columns, doc=file.doc)
