"""What every part of the binder stands on: fresh columns, the errors found so far, and the limits.

Nothing here knows the language. Errors are collected, so that one pass names as many as it can; what a faulty
expression would have given is ``UNKNOWN``, of type "unknown", which fits everywhere and never causes a second error.
Limits bound what a short query may expand to: a query that goes past one is refused, it never exhausts the process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

from watchfloor.kql import ir
from watchfloor.kql.bind.scope import Asked, Rel
from watchfloor.kql.errors import KqlError, Span
from watchfloor.kql.schema import Schema, Scope

UNKNOWN: Final = ir.Const(None, "unknown")
"""What a faulty expression gives."""

MAX_DEPTH: Final = 100
"""Expressions, functions and sub-queries inside one another."""

MAX_OPERATORS: Final = 2_000
MAX_SCALARS: Final = 20_000
"""Bound operators and scalars after every let and function is expanded."""

MAX_HEIGHT: Final = 170
"""Levels of a bound expression. A little more than the parser allows in the text."""

MAX_PLAN_DEPTH: Final = 300
"""Relations on top of one another: a pipeline has one or two for each operator."""

MAX_ERRORS: Final = 20
"""Further errors of one query are not collected."""


class Abandoned(Exception):
    """What is being bound depends on something faulty whose error is known already."""


class Core:
    """The state of one binding: what is given from outside, and what was found so far."""

    def __init__(
        self, schema: Schema, scope: Scope, *, now: int, answers: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> None:
        self.schema, self.scope, self.now, self.answers, self.parameters = schema, scope, now, answers, parameters
        self.errors: list[KqlError] = []
        self.folding = 0.0
        self._columns = 0
        self._unnamed = 0
        self._shared = 0
        self._questions = 0
        self._depth = 0
        self._scalars = 0
        self._operators = 0
        self._sizes: dict[int, tuple[ir.Scalar, int, int]] = {}
        self._shares: dict[int, tuple[ir.Relation, ir.Shared]] = {}

    # -- columns and relations ----------------------------------------------------------------------------------------

    def new(self, type_: str, is_nullable: bool = True) -> ir.BoundColumn:
        """A fresh column. A string is never nullable."""
        self._columns += 1
        return ir.BoundColumn(self._columns, type_, is_nullable and type_ != "string")

    def unnamed(self, taken: Collection[str]) -> str:
        """A name for a column that has none: ``Column1`` and so on, counted through the whole query."""
        while True:
            self._unnamed += 1
            if f"Column{self._unnamed}" not in taken:
                return f"Column{self._unnamed}"

    def share(self, relation: ir.Relation, *, is_materialized: bool = False) -> ir.Shared:
        """``relation`` to be used any number of times: the same object gives the same ``Shared``."""
        if isinstance(relation, ir.Use):
            return relation.shared
        known = self._shares.get(id(relation))
        if known is None:
            self._shared += 1
            known = relation, ir.Shared(self._shared, relation, is_materialized)
            self._shares[id(relation)] = known
        return known[1]

    def fresh(self, rel: Rel) -> Rel:
        """``rel`` under new column numbers, to be used a second time."""
        return self._use(rel, self.share(rel.relation))

    def _use(self, rel: Rel, shared: ir.Shared) -> Rel:
        renamed: dict[int, ir.BoundColumn] = {}
        pairs: list[tuple[ir.BoundColumn, ir.BoundColumn]] = []
        origin = {}
        if isinstance(rel.relation, ir.Use):
            origin = {new.number: old for new, old in rel.relation.columns}
        wanted = [*rel.columns.values(), *(key.column for key in rel.order), *rel.within]
        for column in wanted:
            if column.number not in renamed:
                renamed[column.number] = new = self.new(column.type, column.is_nullable)
                pairs.append((new, origin.get(column.number, column)))
        order = tuple(ir.SortKey(renamed[k.column.number], k.is_descending, k.nulls_first) for k in rel.order)
        return rel.with_(
            relation=ir.Use(shared, tuple(pairs)),
            columns={name: renamed[column.number] for name, column in rel.columns.items()},
            order=order,
            within=tuple(renamed[column.number] for column in rel.within),
        )

    def ask(self, key: str, rel: Rel) -> Any:
        """The rows of ``rel`` as lists of Python values, if they are known; else raises ``Asked``.

        ``key`` says what is asked. The place of a question in the order of questions is part of its key: binding the
        same query with the answers so far comes to the same questions again.
        """
        self._questions += 1
        key = f"{self._questions}:{key}"
        if key in self.answers:
            return self.answers[key]
        raise Asked(ir.Question(key, ir.Plan(rel.relation, tuple(rel.columns.items()))))

    # -- errors -------------------------------------------------------------------------------------------------------

    def report(self, error: KqlError) -> ir.Const:
        """Remember ``error`` and go on with ``UNKNOWN``. A limit is raised at once."""
        if getattr(error, "kind", "") == "limit" or len(self.errors) >= MAX_ERRORS:
            raise error
        if not any(e.span == error.span and e.message == error.message for e in self.errors):
            self.errors.append(error)
        return UNKNOWN

    def fail(self) -> NoReturn:
        """Raise the first error by place in the text, with all the others."""
        first, *others = sorted(self.errors, key=lambda e: (e.span.start, e.span.end))
        first.others = tuple(others)
        raise first

    # -- limits -------------------------------------------------------------------------------------------------------

    def enter(self, span: Span) -> None:
        """One level deeper; ``leave`` must follow."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._depth -= 1
            raise KqlError(
                f"This is nested deeper than {MAX_DEPTH} levels.", span, remedy="Split it with let.", kind="limit"
            )

    def leave(self) -> None:
        """Back up."""
        self._depth -= 1

    def spend_operator(self, span: Span) -> None:
        """Count one more bound operator."""
        self._operators += 1
        if self._operators > MAX_OPERATORS:
            raise KqlError(f"The query expands to more than {MAX_OPERATORS} operators.", span, kind="limit")

    def spend(self, scalar: ir.Scalar, span: Span) -> ir.Scalar:
        """Count ``scalar`` as used once more, with all that it is made of."""
        self._scalars += self.size(scalar)
        if self._scalars > MAX_SCALARS:
            raise KqlError(f"The query expands to more than {MAX_SCALARS} expressions.", span, kind="limit")
        return scalar

    def size(self, scalar: ir.Scalar) -> int:
        """How many nodes ``scalar`` has, as a tree."""
        return self._measure(scalar)[0]

    def check_height(self, scalar: ir.Scalar, span: Span) -> None:
        """Refuse an expression that is deeper than what later stages can walk."""
        if self._measure(scalar)[1] > MAX_HEIGHT:
            raise KqlError(f"The expression expands to more than {MAX_HEIGHT} levels.", span, kind="limit")

    def _measure(self, scalar: ir.Scalar) -> tuple[int, int]:
        """Nodes and height of ``scalar``."""
        waiting = [scalar]
        while waiting:
            node = waiting[-1]
            if id(node) in self._sizes:
                waiting.pop()
                continue
            parts = ir.operands(node)
            missing = [part for part in parts if id(part) not in self._sizes]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            below = [self._sizes[id(part)] for part in parts]
            self._sizes[id(node)] = (node, 1 + sum(b[1] for b in below), 1 + max((b[2] for b in below), default=0))
        return self._sizes[id(scalar)][1:]

    def check_plan(self, relation: ir.Relation, span: Span) -> None:
        """Refuse a plan that is deeper than what later stages can walk, or grows too large where it is shared."""
        heights: dict[int, int] = {}
        sizes: dict[int, int] = {}
        waiting = [relation]
        while waiting:
            node = waiting[-1]
            below = ir.inputs(node)
            missing = [part for part in below if id(part) not in heights]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            heights[id(node)] = 1 + max((heights[id(part)] for part in below), default=0)
            is_stored = isinstance(node, ir.Use) and node.shared.is_materialized
            sizes[id(node)] = 1 if is_stored else 1 + sum(sizes[id(part)] for part in below)
            if sizes[id(node)] > 2 * MAX_OPERATORS:
                raise KqlError(f"The query expands to more than {MAX_OPERATORS} operators.", span, kind="limit")
        if heights[id(relation)] > MAX_PLAN_DEPTH:
            raise KqlError(f"The query has more than {MAX_PLAN_DEPTH} steps behind one another.", span, kind="limit")


def columns_of(rel: Rel) -> Sequence[tuple[str, ir.BoundColumn]]:
    """Name and column, in order."""
    return tuple(rel.columns.items())
