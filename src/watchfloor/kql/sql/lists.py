"""Rows out of lists: the elements of dynamic values, and what a routine of the engine makes of whole relations.

A routine takes each column of its relations as one list, and gives back a list for each of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from watchfloor.kql import ir
from watchfloor.kql.routines import RoutineRef
from watchfloor.kql.sql.groups import Groups
from watchfloor.kql.sql.scalars import Piece, name_of
from watchfloor.kql.sql.steps import Arm, Key, Rows, Step, atom
from watchfloor.kql.sql.trees import is_ref


class Lists(Groups):
    """Prints expansions and calls of routines over relations."""

    def _expand(self, rows: Rows, step: ir.Expand) -> Rows:
        rows, sources = self._without_queries(rows, [item for _, item in step.items])
        step = replace(step, items=tuple((c, item) for (c, _), item in zip(step.items, sources, strict=True)))
        texts = [self.scalars.parsed_text(item, rows.arm) for _, item in step.items]
        texts = [text if text is not None and is_ref(text) else None for text in texts]
        computed = []
        items: list[ir.Scalar] = []
        for (_, item), text in zip(step.items, texts, strict=True):
            if text is not None and isinstance(item, ir.Ref):
                item = self.scalars.parsed.get(name_of(item.column), item)
            if not isinstance(item, ir.Ref):
                computed.append((ir.BoundColumn(-next(self._numbers), "dynamic"), item))
                item = ir.Ref(computed[-1][0])
            items.append(item)
        rows = self._ready(rows, [*(value for _, value in computed), *(t for t in texts if t is not None)])
        for column, value in computed:
            text = next((t for t, i in zip(texts, items, strict=True) if i == ir.Ref(column)), None)
            piece = self.scalars.piece(value, rows.arm)
            if text is not None:  # an array is read straight from the text
                raw = self.scalars.piece(text, rows.arm)
                piece = Piece(self._say("unless_array", atom(piece.text), raw.text), piece.reads | raw.reads)
            rows.arm.add(name_of(column), piece)
        rows = self._ready(rows, items, [name_of(column) for item in items for column in ir.refs(item)])
        arm = rows.arm
        lists = []
        for (column, _), item, text in zip(step.items, items, texts, strict=True):
            piece = self.scalars.piece(item, arm)
            suffix = ("_string" if column.type == "string" else "") + ("_pairs" if step.bag_as_array else "")
            made, reads = self._say(f"expand{suffix}", piece.text), piece.reads
            if text is not None:
                raw = self.scalars.piece(text, arm)
                form = "expand_text_string" if column.type == "string" else "expand_text"
                made, reads = self._say(form, raw.text, made), reads | raw.reads
            if step.limit is not None:
                made = self._say("first_of_list", f"({made})", str(step.limit))
            lists.append(self._fresh("x"))
            arm.add(lists[-1], Piece(made, reads))
        rows = self._closed(rows)
        arm = rows.arm
        sizes = [self._say("length", name) for name in lists]
        size = sizes[0] if len(sizes) == 1 else self.dialect.form("longest").fill(lambda _: ", ".join(sizes))
        elements = [self._fresh("x") for _ in lists]
        place = self._fresh("o")
        if "zip" in self.dialect.forms:  # lists are unnested side by side only as one
            zipped = self._fresh("x")
            arm.add(zipped, Piece(self._say("zip", size, ", ".join(lists)), frozenset(lists)))
            arm.forced, arm.is_closed = (zipped,), True
            rows = self._closed(rows)
            for number, name in enumerate((place, *elements), 1):
                rows.arm.add(name, Piece(self._say("element", zipped, str(number)), frozenset((zipped,))))
            return self._elements(self._closed(rows), step, elements, place)
        for name, element in zip(lists, elements, strict=True):
            arm.add(element, Piece(self._say("unnest", name), frozenset((name,))))
        arm.add(place, Piece(self._say("places", size), frozenset(lists)))
        arm.forced = tuple(elements)
        arm.is_closed = True
        return self._elements(self._closed(rows), step, elements, place)

    def _elements(self, rows: Rows, step: ir.Expand, elements: Sequence[str], place: str) -> Rows:
        """``rows`` with the columns of ``step``, of the columns ``elements`` and ``place``."""
        arm = rows.arm
        for (column, _), name in zip(step.items, elements, strict=True):
            made = self.scalars.element(name, column.type)[0]
            arm.add(name_of(column), Piece(made, frozenset((name,)), "column" if made == name else "other"))
        if step.index is not None:
            made = place if step.index.type == "long" else self._say("cast", place, self.dialect.type(step.index.type))
            arm.add(name_of(step.index), Piece(made, frozenset((place,)), "column" if made == place else "other"))
        return replace(rows, arrival=(*rows.arrival, Key(place)), is_stored=False)

    def _routine(self, routine: ir.Routine) -> Rows:
        self.dialect.must_call(f"operator {routine.name}")
        steps: list[Step] = []
        lists: list[str] = []
        for number, (relation, takes) in enumerate(zip(routine.inputs, routine.takes, strict=True)):
            rows = self.rows(relation)
            if number == 0 and routine.order:
                rows = self._totally_ordered(self._order(rows, ir.Order(relation, routine.order)))
            names = [name_of(c) for c in takes]
            order = [k.name for k in rows.order] if rows.is_total else []
            rows = self._ready(rows, [ir.Ref(c) for c in takes], order)
            arm = rows.arm
            by = f"ORDER BY {self._ordering(rows, arm, is_total=True)}" if order else ""
            made = []
            for column, name in zip(takes, names, strict=True):
                piece = arm.lookup(name)
                text = self._list(self.scalars.handed(column.type, piece.text), by, "")
                made.append((self._fresh("x"), Piece(text, piece.reads)))
            if not made:
                made.append((self._fresh("x"), Piece(self._list("1", "", ""), frozenset())))
            lists += [name for name, _ in made]
            steps.append(self._close(self._grouped(arm, (), made).arm))
        reference = RoutineRef(
            "relation",
            routine.name,
            0,
            tuple(c.type for takes in routine.takes for c in takes),
            tuple(c.type for c in routine.columns),
            tuple(len(takes) for takes in routine.takes),
        )
        origin: list[str | Step] = []
        for step in steps:
            origin += [", ", step] if origin else [step]
        spec = self.scalars.parameter(json.dumps(routine.spec))
        name = self._fresh("x")
        arm = Arm(tuple(origin), {}, is_closed=True)
        arm.add(name, Piece(self.scalars.call(reference, "$budget", spec, *lists), frozenset(lists)))
        called = self._close(arm)
        called.mode = self.dialect.forms.get("once", "")
        arm = self._over(called)
        fields = []
        for number in range(len(routine.columns)):
            fields.append(self._fresh("x"))
            field_ = self._say("field", name, f"f{number}")
            arm.add(fields[-1], Piece(self._say("unnest", field_), frozenset((name,))))
        place = self._fresh("o")
        size = self._say("length", self._say("field", name, "f0"))
        arm.add(place, Piece(self._say("places", size), frozenset((name,))))
        arm.forced = (fields[0],)
        arm.is_closed = True
        arm = self._over(self._close(arm))
        for column, name in zip(routine.columns, fields, strict=True):
            text = self.scalars.received(column.type, name)
            arm.add(name_of(column), Piece(text, frozenset((name,)), "column" if text == name else "other"))
        return Rows(arm, arrival=(Key(place),), is_total=True)
