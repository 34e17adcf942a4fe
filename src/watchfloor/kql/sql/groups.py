"""Groups: aggregates, whole rows with the greatest or least of a value, and counts of different values.

A count of different values is exact where that is cheap, and an estimate over very many rows of a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from watchfloor.kql import ir
from watchfloor.kql.routines import RoutineRef
from watchfloor.kql.sql.dialect import template
from watchfloor.kql.sql.pipes import Pipes
from watchfloor.kql.sql.scalars import Piece, name_of
from watchfloor.kql.sql.steps import Arm, Rows, Step, atom, price, without

EXACT_ROWS: Final = 250_000
"""dcount is exact over at most so many rows of a table,"""

EXACT_VALUES: Final = 24
"""and wherever about so many different values were found at most."""

SAMPLE: Final = 8_192
ROWS_OF_GROUP: Final = 16
MAX_ESTIMATES: Final = 100_000
"""Groups of fewer rows than that on average are many, told by a sample where it can be; and so many are many anyway."""


class Groups(Pipes):
    """Prints groups."""

    def _group(self, rows: Rows, step: ir.Group) -> Rows:
        keys = [name_of(k) for k in step.keys]
        rows, step = self._plain_group(rows, step)
        rows, calls = self._ordered_constants(rows, step.aggregates)
        step = replace(step, aggregates=calls)
        scalars = [s for _, c in calls for s in (*c.arguments, *((c.condition,) if c.condition is not None else ()))]
        scalars += [s for _, by, pairs in step.arg_extremes for s in (by, *(value for _, value in pairs))]
        order = [k.name for k in rows.order]
        if len(step.arg_extremes) == 1 and not calls and keys:
            return self._extreme_rows(self._ready(rows, scalars, [*keys, *order]), keys, step.arg_extremes[0])
        about = [(column, call) for column, call in calls if self._may_estimate(rows, call)]
        if about:
            return self._estimated(rows, step, about)
        rows = self._ready(rows, scalars, [*keys, *order])
        arm = rows.arm
        made: list[tuple[str, Piece]] = [(key, arm.lookup(key)) for key in keys]
        made += [(name_of(column), self._aggregate(rows, call, column, keys)) for column, call in calls]
        for is_max, by, pairs in step.arg_extremes:
            made += self._extremes(arm, is_max, by, pairs)
        return self._grouped(arm, keys, made)

    def _plain_group(self, rows: Rows, step: ir.Group) -> tuple[Rows, ir.Group]:
        """``step`` without queries in its scalars."""
        scalars: list[ir.Scalar] = []
        for _, call in step.aggregates:
            scalars += [*call.arguments, *(() if call.condition is None else (call.condition,))]
        for _, by, pairs in step.arg_extremes:
            scalars += [by, *(value for _, value in pairs)]
        rows, plain = self._without_queries(rows, scalars)
        if plain == scalars:
            return rows, step
        rest = iter(plain)
        calls = tuple(
            (
                column,
                replace(
                    call,
                    arguments=tuple(next(rest) for _ in call.arguments),
                    condition=None if call.condition is None else next(rest),
                ),
            )
            for column, call in step.aggregates
        )
        extremes = tuple(
            (is_max, next(rest), tuple((column, next(rest)) for column, _ in pairs))
            for is_max, _, pairs in step.arg_extremes
        )
        return rows, replace(step, aggregates=calls, arg_extremes=extremes)

    def _ordered_constants(
        self, rows: Rows, calls: tuple[tuple[ir.BoundColumn, ir.Call], ...]
    ) -> tuple[Rows, tuple[tuple[ir.BoundColumn, ir.Call], ...]]:
        """``calls`` with columns for constants that their templates order by: SQL takes no constant there."""
        made: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        named: list[str] = []

        def column(call: ir.Call, number: int, argument: ir.Scalar) -> ir.Scalar:
            text = call.aggregate.sql.get(self.dialect.name, "")
            if f"ORDER BY ${chr(97 + number)}" not in text:
                return argument
            if isinstance(argument, ir.Ref):
                named.append(name_of(argument.column))
            if not isinstance(argument, ir.Const):
                return argument
            made.append((ir.BoundColumn(-next(self._numbers), argument.type, argument.is_nullable), argument))
            return ir.Ref(made[-1][0])

        changed = tuple(
            (result, replace(call, arguments=tuple(column(call, n, a) for n, a in enumerate(call.arguments))))
            for result, call in calls
        )
        if not made:
            return (self._ready(rows, names=named) if named else rows), calls
        return self._closed(self._compute(rows, ir.Compute(ir.Values((), ()), tuple(made)))), changed

    def _grouped(self, arm: Arm, keys: Sequence[str], made: Iterable[tuple[str, Piece]]) -> Rows:
        """The rows of ``arm``, grouped."""
        pieces = [arm.lookup(key) for key in keys]
        reads = arm.reads.union(*(p.reads for p in pieces))
        tail = f"GROUP BY {', '.join(p.text for p in pieces)}" if keys else ""
        found = Arm(arm.origin, {}, where=arm.where, reads=reads, tail=tail, is_closed=True)
        for name, piece in made:
            found.add(name, piece)
        if not keys:  # without an aggregate it would be no group
            found.forced = (next(iter(found.names)),)
        return Rows(found, is_total=not keys)

    # -- aggregates ------------------------------------------------------------------------------------------------

    def _extreme_rows(
        self,
        rows: Rows,
        keys: Sequence[str],
        extreme: tuple[bool, ir.Scalar, tuple[tuple[ir.BoundColumn, ir.Scalar], ...]],
    ) -> Rows:
        """One whole row for each combination of ``keys``."""
        is_max, by, pairs = extreme
        arm = rows.arm
        made = [(key, arm.lookup(key)) for key in keys]
        made += [(name_of(column), self.scalars.piece(value, arm)) for column, value in pairs]
        ranked = self.scalars.piece(by, arm)
        order = [f"{ranked.text} {'DESC' if is_max else 'ASC'} NULLS LAST"] if ranked.kind != "constant" else []
        if rows.is_total and rows.order:
            order.append(self._ordering(rows, arm, is_total=True))
        by_order = f" ORDER BY {', '.join(order)}" if order else ""
        pieces = [arm.lookup(key) for key in keys]
        over = f"OVER (PARTITION BY {', '.join(p.text for p in pieces)}{by_order})"
        reads = arm.reads.union(ranked.reads, *(p.reads for p in pieces))
        tail = f"{self._say('keep')} row_number() {over} = 1"
        found = Arm(arm.origin, {}, where=arm.where, reads=reads, tail=tail, is_closed=True)
        for name, piece in made:
            found.add(name, piece)
        return Rows(found)

    def _extremes(
        self, arm: Arm, is_max: bool, by: ir.Scalar, pairs: tuple[tuple[ir.BoundColumn, ir.Scalar], ...]
    ) -> list[tuple[str, Piece]]:
        ranked = self.scalars.piece(by, arm)
        found = []
        for column, value in pairs:
            piece = self.scalars.piece(value, arm)
            text = self._say("of_greatest" if is_max else "of_least", piece.text, ranked.text)
            if by.is_nullable:
                text = f"CASE WHEN count({ranked.text}) > 0 THEN {text} ELSE {self._say('first', piece.text)} END"
            if column.type == "string":
                text = f"coalesce({text}, '')"
            found.append((name_of(column), Piece(text, piece.reads | ranked.reads)))
        return found

    def _aggregate(self, rows: Rows, call: ir.Call, column: ir.BoundColumn, keys: Sequence[str]) -> Piece:
        arm, aggregate = rows.arm, call.aggregate
        reads: frozenset[str] = frozenset()
        condition = ""
        if call.condition is not None:
            piece = self.scalars.piece(call.condition, arm, as_condition=True)
            reads, condition = piece.reads, f"FILTER (WHERE {piece.text})"
        order = ""
        # An order within each row only is worth its price only where the group is a row's.
        if rows.is_total or rows.keys or (rows.arrival and not self._numbered.isdisjoint(keys)):
            order = f"ORDER BY {self._ordering(rows, arm, is_total=True)}" if rows.order else ""
        text = aggregate.sql.get(self.dialect.name)
        if order and aggregate.needs_order:
            self._must_number(f"order of the rows in {aggregate.name}()")
        if text is None:
            made = self._aggregate_routine(arm, call, column, condition, order if aggregate.needs_order else "")
            return Piece(made.text, made.reads | reads)
        letters = {chr(97 + n): argument for n, argument in enumerate(call.arguments)}
        made = self.scalars.filled(without(text, condition, order), arm, letters, {"filter": condition, "order": order})
        result = made.text
        if aggregate.over_nothing is not None and not text.startswith("count("):
            result = f"coalesce({result}, {self.scalars.constant(aggregate.over_nothing, column.type)})"
        return Piece(result, made.reads | reads)

    def _aggregate_routine(self, arm: Arm, call: ir.Call, column: ir.BoundColumn, condition: str, order: str) -> Piece:
        self.dialect.must_call(f"aggregate {call.aggregate.name}() of such arguments")
        takes = tuple(a.type for a in call.arguments)
        routine = RoutineRef("aggregate", call.aggregate.name, call.aggregate.number, takes, (column.type,))
        pieces = [self.scalars.piece(a, arm) for a in call.arguments]
        handed = [self.scalars.handed(kind, atom(p.text)) for kind, p in zip(takes, pieces, strict=True)]
        if len(handed) < 2:
            lists = [self._list(handed[0] if handed else "1", order, condition)]
        else:
            fields = ", ".join(f"'{chr(97 + n)}': {text}" for n, text in enumerate(handed))
            whole = self._list(f"{{{fields}}}", order, condition)
            lists = [self._say("field_of_rows", whole, chr(97 + n)) for n in range(len(handed))]
        text = self.scalars.received(column.type, self.scalars.call(routine, *lists))
        return Piece(text, frozenset().union(*(p.reads for p in pieces)))

    # -- counts of different values --------------------------------------------------------------------------------

    def _may_estimate(self, rows: Rows, call: ir.Call) -> bool:
        """Whether a dcount need not be exact where it counts very many: over rows of a table, at usual accuracy."""
        if call.aggregate.name != "dcount" or not rows.is_stored or "distinct_about" not in self.dialect.forms:
            return False
        accuracy = call.arguments[1] if len(call.arguments) > 1 else None
        return accuracy is None or (isinstance(accuracy, ir.Const) and accuracy.value in (0, 1))

    def _estimated(self, rows: Rows, step: ir.Group, about: Sequence[tuple[ir.BoundColumn, ir.Call]]) -> Rows:
        """A group whose dcounts are estimated, and counted where few rows or few values make that cheap.

        An estimate that is off by one among ten is no answer; over many values it is what KQL itself gives.
        """
        rows = self._closed(rows)
        base = rows.arm.origin[0]
        assert isinstance(base, Step)
        if self._is_dear(base):
            base.mode = base.mode or self.dialect.forms.get("once", "")
        else:
            self._inline(base)
        keys = [name_of(k) for k in step.keys]
        few_groups, many_groups = self._gates(base, keys) if keys else (None, None)
        arm = self._behind(base, few_groups)
        made: list[tuple[str, Piece]] = [(key, arm.lookup(key)) for key in keys]
        guesses: dict[str, str] = {}
        for column, call in step.aggregates:
            if any(column is c for c, _ in about):
                name = guesses[name_of(column)] = self._fresh("x")
                made.append((name, self._count_distinct(arm, call, "distinct_about")))
            else:
                made.append((name_of(column), self._aggregate(replace(rows, arm=arm), call, column, keys)))
        for is_max, by, pairs in step.arg_extremes:
            made += self._extremes(arm, is_max, by, pairs)
        size = self._fresh("x")
        made.append((size, Piece("count(*)", frozenset())))
        guess = self._close(self._grouped(arm, keys, made).arm)
        guess.mode = self.dialect.forms.get("once", "")
        few = " OR ".join(f"{name} <= {EXACT_VALUES}" for name in guesses.values())
        total = f"(SELECT sum({size}) FROM {self._mention(guess, size)})"
        is_small = f"({few} OR {total} <= {EXACT_ROWS})"
        again = {key: self._fresh("x") for key in keys}
        chosen = Arm((guess,), {}, where=[is_small], reads={size, *guesses.values()}, is_closed=True)
        for key, name in again.items():
            chosen.add(name, Piece(key, frozenset((key,)), "column"))
        if not keys:
            chosen.add(self._fresh("x"), Piece("1", frozenset()))
        which = self._close(chosen)
        match = " AND ".join(self._say("same", key, name) for key, name in again.items())
        link: tuple[str | Step, ...] = (
            (base, f" {self._say('semi')} ", which, f" ON {match}") if keys else (base, " CROSS JOIN ", which)
        )
        exact = Arm(link, dict(base.names), reads={*again.values(), *keys})
        counted: list[tuple[str, Piece]] = [(self._fresh("x"), exact.lookup(key)) for key in keys]
        exact_keys = [name for name, _ in counted]
        exacts: dict[str, str] = {}
        for column, call in about:
            name = exacts[name_of(column)] = self._fresh("x")
            counted.append((name, self._count_distinct(exact, call, "distinct")))
        right = self._close(self._grouped(exact, keys, counted).arm)
        match = " AND ".join(self._say("same", key, name) for key, name in zip(keys, exact_keys, strict=True))
        names = [*keys, *(name_of(c) for c, _ in step.aggregates)]
        names += [name_of(c) for _, _, pairs in step.arg_extremes for c, _ in pairs]
        found = Arm((guess, " LEFT JOIN ", right, f" ON {match or 'true'}"), dict.fromkeys(names))
        found.reads = {*keys, *exact_keys}
        for name, guessed in guesses.items():
            is_counted = f"{size} > 0 AND {is_small}" if not keys else f"{exacts[name]} IS NOT NULL"
            text = f"CASE WHEN {is_counted} THEN {exacts[name]} ELSE {guessed} END"
            reads = frozenset((exacts[name], guessed, size, *guesses.values()))
            found.add(name, Piece(text, reads))
        found.is_closed = True
        if many_groups is None:
            return Rows(found, is_total=True)
        rows = replace(rows, arm=self._behind(base, many_groups))
        made = [(key, rows.arm.lookup(key)) for key in keys]
        for column, call in step.aggregates:
            is_about = any(column is c for c, _ in about)
            piece = self._count_distinct(rows.arm, call, "distinct") if is_about else None
            made.append((name_of(column), piece or self._aggregate(rows, call, column, keys)))
        for is_max, by, pairs in step.arg_extremes:
            made += self._extremes(rows.arm, is_max, by, pairs)
        both = Step([found, self._grouped(rows.arm, keys, made).arm], dict.fromkeys(names))
        self._steps.append(both)
        return Rows(self._over(both))

    def _behind(self, base: Step, gate: Step | None) -> Arm:
        """The rows of ``base`` if ``gate`` has one; it is not even read if there is none."""
        return self._over(base) if gate is None else Arm((base, " CROSS JOIN ", gate), dict(base.names))

    def _gates(self, base: Step, keys: Sequence[str]) -> tuple[Step, Step]:
        """Two steps: the first has a row if ``keys`` make few groups of ``base``, else the second has. An estimate for
        each of very many groups takes more time and memory than to count. Most often a few rows tell; all are looked at
        where those are no proof."""
        sample = self._over(base)
        sample.tail = f"LIMIT {SAMPLE}"
        size, groups, total = (self._fresh("x") for _ in range(3))
        arm = self._over(self._close(sample))
        arm = self._over(self._close(self._grouped(arm, keys, [(size, Piece("count(*)", frozenset()))]).arm))
        figures = [(groups, Piece("count(*)", frozenset())), (total, Piece(f"sum({size})", frozenset((size,))))]
        doubtful = self._gate(self._close(self._grouped(arm, (), figures).arm), groups, total, is_many=True)
        arm = self._behind(base, doubtful)
        groups, total = self._fresh("x"), self._fresh("x")
        found = template(without(self.dialect.forms["distinct_about"], "", "")).fill(
            lambda _: self.dialect.form("combined").fill(lambda _: ", ".join(keys))
        )
        figures = [(groups, Piece(found, frozenset(keys))), (total, Piece("count(*)", frozenset()))]
        counted = self._close(self._grouped(arm, (), figures).arm)
        counted.mode = self.dialect.forms.get("once", "")
        return (self._gate(counted, groups, total, is_many=False), self._gate(counted, groups, total, is_many=True))

    def _gate(self, figures: Step, groups: str, total: str, *, is_many: bool) -> Step:
        test = f"({groups} * {ROWS_OF_GROUP} > {total} OR {groups} > {MAX_ESTIMATES})"
        arm = Arm((figures,), {}, where=[test if is_many else f"NOT {test}"], reads={groups, total}, is_closed=True)
        arm.add(self._fresh("x"), Piece("1", frozenset(), "constant"))
        return self._close(arm)

    @staticmethod
    def _is_dear(step: Step) -> bool:
        """Whether a filter of ``step`` costs so much, or goes so much by chance, that it must not run twice."""
        waiting = [step]
        while waiting:
            for arm in waiting.pop().arms:
                if any(price(condition) > 1 for condition in arm.where):
                    return True
                waiting += [o for o in arm.origin if isinstance(o, Step)]
        return False

    def _inline(self, step: Step) -> None:
        """Let the engine read ``step``, and what it stands on, twice instead of storing it."""
        waiting = [step]
        while waiting:
            found = waiting.pop()
            if not found.mode:
                found.mode = self.dialect.forms.get("inline", "")
                waiting += [o for arm in found.arms for o in arm.origin if isinstance(o, Step)]

    def _count_distinct(self, arm: Arm, call: ir.Call, form: str) -> Piece:
        value = self.scalars.piece(call.arguments[0], arm)
        reads, condition = value.reads, ""
        if call.condition is not None:
            piece = self.scalars.piece(call.condition, arm, as_condition=True)
            reads, condition = reads | piece.reads, f"FILTER (WHERE {piece.text})"
        text = template(without(self.dialect.forms[form], condition, ""))
        return Piece(text.fill({"a": value.text, "filter": condition}.__getitem__), reads)
