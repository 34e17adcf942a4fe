"""Tables: what a table expression reads, and the pipeline over it.

A table is found in the names of the query, then among the tables and views that the asker may see, then among the named
lists. One that the asker may not see does not exist, by any way of naming it; the scope's filters lie in every scan,
below all that the user wrote. Operators are bound by ``operators.py`` and ``special.py``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.aggregates import Aggregates
from watchfloor.kql.bind.calls import TABULAR, closed
from watchfloor.kql.bind.combine import WIDTHS, const, is_known
from watchfloor.kql.bind.core import UNKNOWN, Abandoned
from watchfloor.kql.bind.names import unique
from watchfloor.kql.bind.scalars import NO_ROW, Correlated, correlated, externaldata
from watchfloor.kql.bind.scope import Env, Function, Rel
from watchfloor.kql.errors import KqlError, Span, nearest
from watchfloor.kql.schema import NamedList, TableSchema

RESTRICTION: Final = "\0restriction"
"""The name under which an Env holds what ``restrict access`` left visible."""


@dataclass
class Tabular:
    """A name that stands for a table; ``is_shared``: it is used more than once, or may be."""

    rel: Rel
    is_shared: bool
    is_used: bool = False


@dataclass(frozen=True)
class Pattern:
    """A declared pattern and the names around it."""

    value: ast.DeclarePattern
    env: Env


@dataclass(frozen=True)
class Restriction:
    """The tables that are left visible: names, with ``*`` for anything."""

    patterns: tuple[str, ...]

    def allows(self, name: str) -> bool:
        """Whether ``name`` is left visible."""
        return any(matches(pattern, name) for pattern in self.patterns)


Operators = Mapping[type, Callable[[Any, Rel, Any, Env], Rel]]


class Tables(Aggregates):
    """Binds tables. ``invoke`` and ``pattern`` belong to ``statements.py``."""

    operators: Operators = {}

    def pattern(self, pattern: Pattern, call: ast.Call, path: str | None, env: Env) -> Rel:
        """A declared pattern, called."""
        raise NotImplementedError

    # -- either a value or a table -------------------------------------------------------------------------------------

    def value(self, expression: ast.Expr, row: Rel, env: Env) -> ir.Scalar | Rel:
        """A scalar or a table, whichever ``expression`` is."""
        match expression:
            case ast.Pipe() if not expression.operators:
                return self.value(expression.source, row, env)
            case ast.Pipe() | ast.Datatable() | ast.Print() | ast.Range() | ast.Externaldata():
                return self.table(expression, closed(env))
            case ast.Name() if expression.name not in row.columns:
                return self._named(expression, row, env)
            case ast.Call():
                return self._called_value(expression, row, env)
            case ast.Member() if self._is_table_path(expression, env):
                return self.table(expression, env)
        return self.scalar(expression, row, env)

    def _named(self, name: ast.Name, row: Rel, env: Env) -> ir.Scalar | Rel:
        meaning = env.find(name.name)
        if isinstance(meaning, Function):
            return self.invoke(meaning, ast.Call(name.name, (), name.span, name.span), row, env)
        if isinstance(meaning, Tabular | Rel):
            return self.table(name, env)
        if meaning is None:
            if self.may_see(name.name, env) or self._list(name.name) is not None:
                return self.table(name, env)
            if name.name.lower() != "null":
                known = [*row.columns, *(n for n in env.visible() if n != RESTRICTION), *self._known_tables(env)]
                message = f"There is no table or value {name.name} here."
                raise KqlError(message, name.span, remedy=nearest(name.name, known))
        return self.scalar(name, row, env)

    def _called_value(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar | Rel:
        meaning = None if call.base is not None else env.find(call.name)
        if isinstance(meaning, Function):
            self.enter(call.span)
            try:
                return self.invoke(meaning, call, row, env)
            finally:
                self.leave()
        if isinstance(meaning, Pattern) or (meaning is None and (call.base is not None or call.name in TABULAR)):
            return self.table(call, closed(env))
        return self.scalar(call, row, env)

    # -- tables by name ------------------------------------------------------------------------------------------------

    def table(self, expression: ast.Expr, env: Env, outer: Rel | None = None) -> Rel:
        """A tabular expression. ``outer``: the rows that a sub-pipeline without a source goes on from."""
        self.enter(expression.span)
        try:
            with self._collecting(None):
                return self._table(expression, env, outer)
        finally:
            self.leave()

    def _table(self, expression: ast.Expr, env: Env, outer: Rel | None) -> Rel:
        self.spend_operator(expression.span)
        match expression:
            case ast.Pipe():
                if isinstance(expression.source, ast.Missing):
                    rel = NO_ROW if outer is None else outer
                else:
                    rel = self.table(expression.source, env, outer)
                return self.pipeline(rel, expression.operators, env)
            case ast.Name():
                return self._table_by_name(expression.name, expression.span, env)
            case ast.Datatable():
                return self._datatable(expression, env)
            case ast.Print():
                return self._print(expression, env)
            case ast.Range():
                return self._range(expression, env)
            case ast.Externaldata():
                raise externaldata(expression)
            case ast.Call():
                return self._table_of_call(expression, env)
            case ast.Member():
                return self._table_of_member(expression, env)
            case ast.Wildcard() | ast.Star():
                raise KqlError("Several tables cannot stand here.", expression.span, remedy="Use union.")
        raise KqlError("A table is expected here, this is a value.", expression.span, remedy="Use print.")

    def _table_by_name(self, name: str, span: Span, env: Env, *, is_stored: bool = False) -> Rel:
        meaning = None if is_stored else env.find(name)
        if meaning is UNKNOWN:
            raise Abandoned
        if isinstance(meaning, Tabular | Function | Rel) and self._is_restricted(name, env):
            meaning = None
        if isinstance(meaning, Tabular):
            if meaning.is_shared or meaning.is_used:
                return self.fresh(meaning.rel)
            meaning.is_used = True
            return meaning.rel
        if isinstance(meaning, Rel):
            return self.fresh(meaning)
        if isinstance(meaning, Function):
            found = self.invoke(meaning, ast.Call(name, (), span, span), NO_ROW, env)
            if isinstance(found, Rel):
                return found.with_(name=name) if meaning.value.is_view else found
            raise KqlError(f"{name} gives a value, a table is expected here.", span)
        if isinstance(meaning, Correlated):
            raise correlated(name, span)
        if meaning is not None:
            raise KqlError(f"{name} is a value, a table is expected here.", span, remedy=f"Use print {name}.")
        if self.may_see(name, env):
            return self._view(name, span) if name in self.schema.views else self._scan(self.schema.tables[name])
        rows = self._list(name)
        if rows is not None and not self._is_restricted(name, env):
            return self._values_of(rows)
        if self.is_recursive(name):
            raise KqlError(f"{name} calls itself: recursion is not supported.", span, kind="unsupported")
        raise KqlError(f"There is no table {name}.", span, remedy=nearest(name, self._known_tables(env)))

    def _known_tables(self, env: Env) -> list[str]:
        tables = [name for name in (*self.schema.tables, *self.schema.views) if self.may_see(name, env)]
        names = [name for name in env.visible() if isinstance(env.find(name), Tabular | Rel | Function)]
        return [n for n in (*tables, *names, *self.schema.lists) if not self._is_restricted(n, env)]

    def _is_restricted(self, name: str, env: Env) -> bool:
        restriction = env.find(RESTRICTION)
        return isinstance(restriction, Restriction) and not restriction.allows(name)

    def may_see(self, table: str, env: Env) -> bool:
        """Whether there is a table or a view of that name for this asker."""
        reads = self.schema.reads(table)
        permitted = bool(reads) and (self.scope.tables is None or reads <= self.scope.tables)
        return permitted and not self._is_restricted(table, env)

    def _view(self, name: str, span: Span) -> Rel:
        """The rows of a view: its query with no names around it. The asker's scope lies in every scan below, as if the
        asker had written it; what the query restricts by name does not reach into it."""
        try:
            return self.table(self.schema.views[name].query, Env()).with_(name=name)
        except KqlError as error:  # a limit: everything else was found when the view was made; its place is not here
            raise KqlError(f"{name}: {error.message}", span, remedy=error.remedy, kind=error.kind) from None

    def _scan(self, table: TableSchema) -> Rel:
        columns = {c.name: self.new(c.type, c.is_nullable) for c in table.columns}
        filters: list[ir.Scalar] = []
        read = dict(columns)
        if table.tenant_column is not None:
            tenant = read.setdefault(table.tenant_column, self.new("string"))
            items = tuple(const(t, "string") for t in self.scope.tenants)
            filters.append(ir.OneOf(ir.Ref(tenant), items, False) if items else const(False, "bool"))
        if table.time_column is not None:
            time = read.setdefault(table.time_column, self.new("datetime"))
            for operator, bound in ((">=", self.scope.since), ("<", self.scope.until)):
                if bound is not None:
                    filters.append(ir.Compare(operator, ir.Ref(time), const(bound, "datetime"), time.is_nullable))
        if table.order_column is not None and (self.scope.after is not None or self.scope.upto is not None):
            position = read.setdefault(table.order_column, self.new("long"))
            for operator, bound in ((">", self.scope.after), ("<=", self.scope.upto)):
                if bound is not None:
                    filters.append(ir.Compare(operator, ir.Ref(position), const(bound, "long"), position.is_nullable))
        stored = {c.name: c.stored_as for c in table.columns if c.stored_as}
        scanned = tuple((column, stored.get(name, name)) for name, column in read.items())
        return Rel(ir.Scan(table, scanned, tuple(filters)), columns, name=table.name)

    def _list(self, name: str) -> NamedList | None:
        return self.schema.lists.get(name)

    def _values_of(self, rows: NamedList, *, has_key: bool = False) -> Rel:
        """A named list. ``has_key``: with the column SearchKey in front, as ``_GetWatchlist`` gives it."""
        columns = {c.name: self.new(c.type, c.is_nullable) for c in rows.columns}
        cells = rows.rows
        place = next((n for n, c in enumerate(rows.columns) if c.name == rows.key), None)
        if has_key and place is not None and "SearchKey" not in columns:
            type_ = rows.columns[place].type
            columns = {"SearchKey": self.new("string"), **columns}
            cells = tuple((self._text(row[place], type_), *row) for row in cells)
        return Rel(ir.Values(tuple(columns.values()), cells), columns, name=rows.name)

    def _text(self, value: Any, type_: str) -> Any:
        text = self.convert(const(value, type_), "string")
        return text.value if isinstance(text, ir.Const) else ""

    def tables(self, pattern: ast.Expr, env: Env) -> list[Rel]:
        """The tables that a name, wildcard or ``*`` means; only permitted ones, each with its ``name``."""
        if isinstance(pattern, ast.Member) and self.is_here(pattern.base, env):
            pattern = ast.Name(pattern.name, pattern.span)
        if not isinstance(pattern, ast.Wildcard | ast.Star):
            return [self.table(pattern, env)]
        text = pattern.pattern if isinstance(pattern, ast.Wildcard) else "*"
        stored = [n for n in self.schema.tables if self.may_see(n, env) and matches(text, n)]
        views = [
            name
            for name in dict.fromkeys(env.visible())
            if isinstance(function := env.find(name), Function)
            and function.value.is_view
            and matches(text, name)
            and not self._is_restricted(name, env)
        ]
        found = [self._table_by_name(n, pattern.span, env, is_stored=n not in views) for n in (*stored, *views)]
        if not found:
            raise KqlError(f"No table matches {text}.", pattern.span)
        return found

    # -- tables by a call or a path ------------------------------------------------------------------------------------

    def _table_of_call(self, call: ast.Call, env: Env) -> Rel:
        meaning = None if call.base is not None else env.find(call.name)
        if meaning is UNKNOWN:
            raise Abandoned
        if isinstance(meaning, Function):
            found = self.invoke(meaning, call, NO_ROW, env)
            if isinstance(found, Rel):
                return found
            raise KqlError(f"{call.name}() gives a value, a table is expected here.", call.span, remedy="Use print.")
        if isinstance(meaning, Pattern):
            return self.pattern(meaning, call, None, env)
        if call.base is not None and not self.is_here(call.base, env):
            raise elsewhere(call)
        if call.name == "materialize" and len(call.arguments) == 1:
            rel = self.table(call.arguments[0], env)
            return self._use(rel, self.share(rel.relation, is_materialized=True))
        if call.name == "totable" and len(call.arguments) == 1:
            return self.table(call.arguments[0], env)
        if call.name == "table" and 1 <= len(call.arguments) <= 2:
            name = self.constant(call.arguments[0], env, "The name of a table").value
            return self._table_by_name(str(name), call.span, env, is_stored=env.find(str(name)) is None)
        if call.name == "_GetWatchlist":
            return self._watchlist(call, env)
        if call.name in ("cluster", "database"):
            raise elsewhere(call)
        if call.name in ("external_table", "externaldata", "materialized_view", "stored_query_result"):
            raise KqlError(f"{call.name}() is not supported.", call.span, kind="unsupported")
        if call.base is None and call.name not in TABULAR:
            value = self.scalar(call, NO_ROW, env)
            if not is_known(value):
                raise Abandoned
        raise KqlError(f"{call.name}() gives no table.", call.span)

    def _watchlist(self, call: ast.Call, env: Env) -> Rel:
        if not 1 <= len(call.arguments) <= 2:
            raise KqlError("_GetWatchlist() takes the name of a list.", call.span)
        name = str(self.constant(call.arguments[0], env, "The name of a list").value)
        rows = self._list(name)
        if rows is None:
            raise KqlError(f"There is no named list {name}.", call.span, remedy=nearest(name, self.schema.lists))
        return self._values_of(rows, has_key=True)

    def is_here(self, expression: ast.Expr, env: Env) -> bool:
        """Whether ``expression`` is ``database('ours')``."""
        if not isinstance(expression, ast.Call) or expression.name != "database" or len(expression.arguments) > 1:
            return False
        if expression.base is not None:
            raise elsewhere(expression.base)
        if not expression.arguments:
            return True
        name = self.constant(expression.arguments[0], env, "The name of a database").value
        if str(name).casefold() not in (self.schema.database.casefold(), "*"):
            raise KqlError(
                f"There is no database {name}.", expression.span, remedy=f"There is one: {self.schema.database}."
            )
        return True

    def _is_table_path(self, member: ast.Member, env: Env) -> bool:
        base = member.base
        if not isinstance(base, ast.Call):
            return False
        return base.name in ("database", "cluster") or isinstance(env.find(base.name), Pattern)

    def _table_of_member(self, member: ast.Member, env: Env) -> Rel:
        base = member.base
        if isinstance(base, ast.Call):
            pattern = env.find(base.name) if base.base is None else None
            if isinstance(pattern, Pattern):
                return self.pattern(pattern, base, member.name, env)
            if base.name == "cluster":
                raise elsewhere(base)
            if self.is_here(base, env):
                return self._table_by_name(member.name, member.span, env, is_stored=True)
        raise KqlError("A table is expected here, this is a value.", member.span)

    # -- rows in the query ---------------------------------------------------------------------------------------------

    def _datatable(self, table: ast.Datatable, env: Env) -> Rel:
        columns: dict[str, ir.BoundColumn] = {}
        for declared in table.columns:
            if declared.name.name in columns:
                raise KqlError(f"The column {declared.name.name} is declared twice.", declared.span)
            columns[declared.name.name] = self.new(declared.type)
        width = len(columns)
        if not width or len(table.values) % width:
            raise KqlError(f"datatable has {count(width, 'column')}: the values must fill whole rows.", table.span)
        types = [c.type for c in columns.values()]
        cells = [self._cell(value, types[n % width], env) for n, value in enumerate(table.values)]
        rows = tuple(tuple(cells[n : n + width]) for n in range(0, len(cells), width))
        return Rel(ir.Values(tuple(columns.values()), rows), columns)

    def _cell(self, expression: ast.Expr, type_: str, env: Env) -> Any:
        if isinstance(expression, ast.Literal) and expression.type == type_:
            return expression.value
        try:
            value = self.constant(expression, env, "A value of datatable")
        except Abandoned:
            return None
        converted = self.convert(value, type_)
        if not isinstance(converted, ir.Const) or (converted.value is None and value.value is not None):
            raise KqlError(f"This value is no {type_}.", expression.span)
        return converted.value

    def _print(self, expression: ast.Print, env: Env) -> Rel:
        columns: dict[str, ir.BoundColumn] = {}
        computed: list[tuple[ir.BoundColumn, ir.Scalar]] = []

        def add(name: str, value: ir.Scalar, span: Span, is_declared: bool) -> None:
            if name in columns and is_declared and name in declared:
                self.report(KqlError(f"The column {name} is there already.", span))
                return
            if is_declared:
                declared.add(name)
            column = self.new(value.type, value.is_nullable)
            columns[unique(name, columns)] = column
            computed.append((column, value))

        declared: set[str] = set()
        for number, item in enumerate(expression.items):
            names = _names_of(item)
            inner = item.value if isinstance(item, ast.Named | ast.NameList) else item
            results = self.spread(inner, NO_ROW, env)
            if results is not None and (names or len(results) > 1):
                kept = list(zip(names, (v for _, v in results), strict=False)) if names else results
                for name, value in kept:
                    add(name, value, item.span, bool(names))
                continue
            value = self.scalar(inner, NO_ROW, env)
            add(names[0] if names else f"print_{number}", value, item.span, bool(names))
        return Rel(ir.Compute(ir.Values((), ((),)), tuple(computed)), columns)

    def _range(self, expression: ast.Range, env: Env) -> Rel:
        start, stop, step = (self.scalar(e, NO_ROW, env) for e in (expression.start, expression.stop, expression.step))
        values = [start, stop, step]
        if not all(is_known(v) for v in values):
            raise Abandoned
        types = {v.type for v in values}
        if types <= set(WIDTHS):
            type_ = self.common_type(list(types))
            assert type_ is not None
            values = [self.convert(v, type_) for v in values]
        elif (start.type, stop.type, step.type) in _TIME_RANGES:
            type_ = start.type
        else:
            names = ", ".join(v.type for v in values)
            raise KqlError(f"range is not defined for ({names}).", expression.span)
        column = self.new(type_)
        is_falling = isinstance(step, ir.Const) and step.value is not None and step.value < 0
        order = (ir.SortKey(column, is_falling, not is_falling),)
        return Rel(ir.Numbers(column, *values), {expression.name.name: column}, order=order, is_serial=True)

    # -- pipelines -----------------------------------------------------------------------------------------------------

    def pipeline(self, rel: Rel, operators: Sequence[ast.Operator], env: Env) -> Rel:
        """``operators`` applied to ``rel``, one after another."""
        for place, operator in enumerate(operators):
            self.spend_operator(operator.span)
            bind = self.operators.get(type(operator))
            if bind is None:
                name = operator.name if isinstance(operator, ast.UnsupportedOperator) else _operator_name(operator)
                raise KqlError(f"{name} is not supported.", operator.span, kind="unsupported")
            rel = bind(self, rel, operator, env)
            if isinstance(operator, ast.As):
                rel = rel.with_(name=operator.name.name)
                if mentions(operators[place + 1 :])[operator.name.name]:
                    env = env.with_names({operator.name.name: rel})
                    rel = self.fresh(rel)
        return rel


_TIME_RANGES: Final = {("datetime", "datetime", "timespan"), ("timespan", "timespan", "timespan")}


def mentions(tree: Any) -> Counter[str]:
    """How often each name is mentioned in a syntax tree; what a function's body mentions counts twice, it may be
    expanded several times."""
    found: Counter[str] = Counter()
    waiting: list[tuple[Any, int]] = [(tree, 1)]
    while waiting:
        node, weight = waiting.pop()
        kind = type(node)
        if kind is tuple or kind is list:
            waiting.extend([(part, weight) for part in node])
        elif kind is ast.Name:
            found[node.name] += weight
        elif parts := _parts_of(kind):
            if kind is ast.Call:
                found[node.name] += weight
            elif kind in _EXPANDED:
                weight = 2
            waiting.extend([(getattr(node, part), weight) for part in parts])
    return found


_EXPANDED: Final = (ast.Lambda, ast.Partition, ast.DeclarePattern)


_PARTS: Final[dict[type[Any], tuple[str, ...]]] = {}


def _parts_of(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a type of syntax node in which names may be mentioned; none of what is no node."""
    if kind not in _PARTS:
        is_node = is_dataclass(kind) and kind is not Span
        _PARTS[kind] = tuple(f.name for f in fields(kind) if f.name not in ("name", "names", "span")) if is_node else ()
    return _PARTS[kind]


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` fits ``pattern``, in which ``*`` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


def elsewhere(call: ast.Expr) -> KqlError:
    """The refusal of other clusters and databases."""
    name = call.name if isinstance(call, ast.Call) else "This"
    return KqlError(f"{name}() is not supported: queries read this database only.", call.span, kind="unsupported")


def _names_of(item: ast.Expr) -> list[str]:
    if isinstance(item, ast.Named):
        return [item.name.name]
    return [name.name for name in item.names] if isinstance(item, ast.NameList) else []


def _operator_name(operator: ast.Operator) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(operator).__name__).lower()


def count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number != 1)}"
