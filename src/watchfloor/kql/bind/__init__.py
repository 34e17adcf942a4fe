"""The binder: from what was written to what it means, against a catalogue and for one asker.

A class in layers, each a file: ``core`` (columns, errors, limits), ``combine`` (bound values), ``scalars``
(expressions), ``calls`` (functions), ``aggregates``, ``tables``, ``statements``. The operators are tables of functions
over it (``operators.py``). Nothing here runs anything; what must be known before binding can go on is
asked as a ``Question``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.core import UNKNOWN, Abandoned
from watchfloor.kql.bind.operators import OPERATORS
from watchfloor.kql.bind.scalars import NO_ROW, column_name
from watchfloor.kql.bind.scope import Asked, Env, Rel
from watchfloor.kql.bind.statements import Statements
from watchfloor.kql.errors import KqlError, Span
from watchfloor.kql.schema import Schema, Scope

__all__ = ["UNKNOWN", "Binder", "bind"]


class Binder(Statements):
    """Binds one query. Its methods are what ``scope.Binding`` promises to the operators."""

    operators = OPERATORS

    def column_name(self, expression: ast.Expr, row: Rel | None = None) -> str | None:
        """The name that a column gets from ``expression``, None if it has none. ``row``: for column_ifexists()."""
        return column_name(expression, row)

    def query(self, query: ast.Query) -> ir.Plan:
        """The plan of a whole query."""
        self._statements = query.statements
        expressions, env = self.statements(query.statements, Env())
        results: list[Rel] = []
        for expression in expressions:
            try:
                results.append(self._result(expression, env))
            except KqlError as error:
                self.report(error)
            except Abandoned:
                pass
        if self.errors:
            self.fail()
        if not results:
            raise KqlError("There is no query here.", Span(0, 0), remedy="Name a table, or print a value.")
        first, *rest = results
        others = [*first.others, *((f"Result_{n}", rel) for n, rel in enumerate(rest, 2))]
        for rel in (first, *(rel for _, rel in others)):
            self.check_plan(rel.relation, expressions[0].span)
        return ir.Plan(
            first.relation,
            tuple(first.columns.items()),
            first.visualization,
            tuple((name, rel.relation, tuple(rel.columns.items())) for name, rel in others),
        )

    def _result(self, expression: ast.Expr, env: Env) -> Rel:
        is_table = isinstance(expression, ast.Name) and env.find(expression.name) is None
        found = self.table(expression, env) if is_table else self.value(expression, NO_ROW, env)
        if isinstance(found, Rel):
            if found.graph is not None:
                raise KqlError("A graph is no result.", expression.span, remedy="Add graph-match or graph-to-table.")
            return found
        column = self.new(found.type, found.is_nullable)
        return Rel(ir.Compute(ir.Values((), ((),)), ((column, found),)), {"print_0": column})


def bind(
    query: ast.Query,
    schema: Schema,
    scope: Scope,
    *,
    now: int,
    answers: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> ir.Plan | ir.Question:
    """What ``query`` means for an asker who sees ``scope`` of ``schema``, at the instant ``now``.

    A ``Question`` must be answered first: run its plan, add the rows to ``answers`` under its key, bind again. Raises
    ``KqlError``: the first error, with the others that were found.
    """
    binder = Binder(schema, scope, now=now, answers=answers or {}, parameters=parameters or {})
    try:
        return binder.query(query)
    except Asked as asked:
        if binder.errors:
            binder.fail()
        return asked.question
    except RecursionError:
        message = "The query is nested too deeply."
        raise KqlError(message, Span(0, 0), remedy="Split it with let.", kind="limit") from None
