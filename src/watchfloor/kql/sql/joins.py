"""Relations of several relations: joins and unions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from watchfloor.kql import ir
from watchfloor.kql.sql.pipes import Pipes
from watchfloor.kql.sql.scalars import Piece, name_of
from watchfloor.kql.sql.steps import Arm, Rows, Step, atom


class Joins(Pipes):
    """Prints joins and unions."""

    def _join(self, join: ir.Join) -> Rows:
        kind = join.kind
        left, lefts = self._without_queries(self.rows(join.left), [key for key, _ in join.on])
        right, rights = self._without_queries(self.rows(join.right), [key for _, key in join.on])
        if kind == "innerunique":
            left = self._one_each(left, lefts)
        first, second = self._close(left.arm), self._close(right.arm)
        if kind in ("rightsemi", "rightanti"):
            first, second = second, first
        words = {
            "inner": "JOIN",
            "innerunique": "JOIN",
            "leftouter": "LEFT JOIN",
            "rightouter": "RIGHT JOIN",
            "fullouter": "FULL JOIN",
        }.get(kind) or self._say("semi" if kind.endswith("semi") else "anti" if kind.endswith("anti") else "cross")
        both = Arm((first, second), {**first.names, **second.names})
        conditions = []
        for a, b in zip(lefts, rights, strict=True):
            pieces = [self.scalars.piece(s, both) for s in (a, b)]
            both.reads.update(*(p.reads for p in pieces))
            texts = [atom(p.text) for p in pieces]
            may_both = a.is_nullable and b.is_nullable
            conditions.append(self._say("same", *texts) if may_both else f"{texts[0]} = {texts[1]}")
        if kind == "cross" or (not conditions and words == "JOIN"):
            origin: tuple[str | Step, ...] = (first, f" {self._say('cross')} ", second)
        else:
            origin = (first, f" {words} ", second, f" ON {' AND '.join(conditions) or 'true'}")
        arm = Arm(origin, both.names, reads=both.reads)
        if kind.endswith(("semi", "anti")):
            arm.names = dict(first.names)
        for new, old in join.filled:
            name = name_of(old)
            if new.type == "string":
                arm.add(name_of(new), Piece(f"coalesce({name}, '')", frozenset((name,))))
            else:
                arm.add(name_of(new), Piece(name, frozenset((name,)), "column"))
        return Rows(arm)

    def _one_each(self, rows: Rows, keys: Sequence[ir.Scalar]) -> Rows:
        """The first row for each combination of ``keys``: any, where the rows have no order."""
        order = [k.name for k in rows.order] if rows.is_total else []
        rows = self._ready(rows, keys, order)
        arm = rows.arm
        pieces = [self.scalars.piece(key, arm) for key in keys]
        if any(p.kind != "column" for p in pieces):
            rows = self._closed(rows)
            arm = rows.arm
            pieces = [self.scalars.piece(key, arm) for key in keys]
        arm.reads = arm.reads.union(*(p.reads for p in pieces))
        arm.prefix = self._say("one_each", ", ".join(p.text for p in pieces))
        if order:
            arm.order = self._ordering(rows, arm, is_total=True)
        arm.is_closed = True
        return replace(rows, is_stored=False)

    def _union(self, union: ir.Union) -> Rows:
        names = [name_of(c) for c in union.columns]
        arms = []
        for relation, values in zip(union.inputs, union.values, strict=True):
            rows, plain = self._without_queries(self.rows(relation), values)
            rows = self._ready(rows, plain)
            pieces = [self.scalars.piece(value, rows.arm) for value in plain]
            arm = Arm(rows.arm.origin, {}, where=rows.arm.where, reads=rows.arm.reads)
            for name, piece in zip(names, pieces, strict=True):
                arm.add(name, piece)
            arms.append(arm)
        if len(arms) == 1:
            return Rows(arms[0])
        step = Step(arms, dict.fromkeys(names))
        self._steps.append(step)
        return Rows(self._over(step))
