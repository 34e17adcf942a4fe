"""The columns of a result while they are collected: their order, their names, and what each is computed from.

Names behave as in Microsoft's own analyser. A name that the query states is *declared*: twice is an error. A name that
follows from an expression is *implied*: if it is taken it gets a number. Some operators replace a column of the same
name where it stands, others never do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.errors import KqlError, Span

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder


class Names:
    """Names that are taken, and the next number for each."""

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self._suffixes = dict.fromkeys(taken, 0)

    def __contains__(self, name: str) -> bool:
        return name in self._suffixes

    def add(self, name: str) -> str:
        """``name``, or with a number behind it if it is taken; taken from now on."""
        if name not in self._suffixes:
            self._suffixes[name] = 0
            return name
        suffix = self._suffixes[name] + 1
        while f"{name}{suffix}" in self._suffixes:
            suffix += 1
        self._suffixes[name] = suffix
        self._suffixes[f"{name}{suffix}"] = 0
        return f"{name}{suffix}"


class Projection:
    """Columns by name, in order. ``kept`` are those that the rows have already, where the operator keeps them."""

    def __init__(self, binder: Binder, kept: Mapping[str, ir.BoundColumn] | None = None) -> None:
        self._binder = binder
        self._kept = dict(kept or {})
        self._names = Names(list(self._kept))
        self._declared: set[str] = set()
        self.columns: dict[str, ir.BoundColumn] = dict(self._kept)

    def imply(self, name: str, column: ir.BoundColumn, *, replace: bool = False) -> str:
        """Add ``column`` under ``name`` or, if it is taken, under that name with a number; gives the name."""
        if not (replace and name in self.columns):
            name = self._names.add(name)
        self.columns[name] = column
        return name

    def declare(self, name: str, column: ir.BoundColumn, span: Span, *, replace: bool = False) -> None:
        """Add ``column`` under the ``name`` that the query gives it."""
        if name in self._declared:
            self._binder.report(KqlError(f"There are two columns {name} here.", span))
            return
        self._declared.add(self.imply(name, column, replace=replace))

    def keep(self, name: str, span: Span) -> None:
        """A column of the rows that the query names, where the operator keeps all of them: it stays as it is."""
        if name in self._declared:
            self._binder.report(KqlError(f"There are two columns {name} here.", span))
        self._declared.add(name)

    def unnamed(self) -> str:
        """A name for a column that has none."""
        return self._binder.unnamed({*self._kept, *self.columns})


def bind_items(
    binder: Binder,
    rel: Rel,
    items: Sequence[ast.Expr],
    env: Env,
    projection: Projection,
    *,
    replace: bool,
    names_lets: bool = True,
) -> list[tuple[ir.BoundColumn, ir.Scalar]]:
    """Bind the items of project, extend or serialize into ``projection``; gives the new columns to compute.

    ``replace``: the rows keep their columns, and an item of the name of one takes its place (extend). ``names_lets``: a
    constant by name gives its column that name.
    """
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []

    def column(value: ir.Scalar) -> ir.BoundColumn:
        if isinstance(value, ir.Ref):
            return value.column
        made = binder.new(value.type, value.is_nullable)
        new.append((made, value))
        return made

    for item in items:
        names: tuple[ast.Name, ...] = ()
        value = item
        if isinstance(item, ast.Named):
            names, value = (item.name,), item.value
        elif isinstance(item, ast.NameList):
            names, value = item.names, item.value
        if isinstance(value, ast.Star):
            for name, kept in rel.columns.items():
                projection.imply(name, kept, replace=True)
            continue
        several = binder.spread(value, rel, env)
        if several is not None:
            for place, (name, result) in enumerate(several):
                if place < len(names):
                    projection.declare(names[place].name, column(result), names[place].span, replace=True)
                else:
                    projection.imply(name, column(result))
            too_many(binder, names[len(several) :])
            continue
        named = value if isinstance(value, ast.Name) and value.name in rel.columns else None
        if named is not None and not names and replace:
            projection.keep(named.name, named.span)
            continue
        bound = column(binder.scalar(value, rel, env))
        if names:
            projection.declare(names[0].name, bound, names[0].span, replace=replace or named is not None)
            too_many(binder, names[1:])
        elif named is not None:
            projection.declare(named.name, bound, named.span)
        else:
            title = binder.column_name(value, rel)
            if not title or (isinstance(value, ast.Name) and not names_lets):
                title = projection.unnamed()
            projection.imply(title, bound, replace=replace)
    return new


def too_many(binder: Binder, names: Sequence[ast.Name]) -> None:
    """Report names that have no value to name."""
    for name in names:
        binder.report(KqlError(f"There is no value left for the name {name.name}.", name.span))


def compute(relation: ir.Relation, new: Sequence[tuple[ir.BoundColumn, ir.Scalar]]) -> ir.Relation:
    """``relation`` with the ``new`` columns, if there are any."""
    return ir.Compute(relation, tuple(new)) if new else relation


def as_column(binder: Binder, value: ir.Scalar, new: list[tuple[ir.BoundColumn, ir.Scalar]]) -> ir.BoundColumn:
    """The column that holds ``value``: itself if it is one, else one that is added to ``new``."""
    if isinstance(value, ir.Ref):
        return value.column
    for known, same in new:
        if same == value:
            return known
    made = binder.new(value.type, value.is_nullable)
    new.append((made, value))
    return made
