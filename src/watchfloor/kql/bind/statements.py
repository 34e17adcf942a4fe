"""Statements: let, declare, restrict and set, and the functions of the query.

A function is its text and the names around its declaration: calling it binds its body anew with its parameters. It
sees no column of the place where it is called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.calls import closed
from watchfloor.kql.bind.combine import WIDTHS, const, is_known, is_null
from watchfloor.kql.bind.core import UNKNOWN, Abandoned
from watchfloor.kql.bind.scalars import NO_ROW
from watchfloor.kql.bind.scope import Env, Function, Rel
from watchfloor.kql.bind.tables import RESTRICTION, Pattern, Restriction, Tables, Tabular, count, mentions
from watchfloor.kql.errors import KqlError, Span, nearest
from watchfloor.kql.parser import parse

LIMITING: Final = frozenset({
    "query_datetimescope_column", "query_datetimescope_from", "query_datetimescope_to", "query_take_max_records",
})  # fmt: skip
"""Options that change the answer. All others only say how it is to be found: they are ignored."""


class Statements(Tables):
    """Binds statements and the functions that they declare."""

    _statements: Sequence[ast.Statement] = ()
    _invoked: tuple[str, ...] = ()

    @cached_property
    def _mentions(self) -> Counter[str]:
        """How often each name is mentioned in the whole query."""
        return mentions(self._statements)

    # -- statements ----------------------------------------------------------------------------------------------------

    def statements(self, statements: Sequence[ast.Statement], env: Env) -> tuple[list[ast.Expr], Env]:
        """The expressions among ``statements``, and the names that the others declare."""
        expressions: list[ast.Expr] = []
        declared: set[str] = set()
        for statement in statements:
            if isinstance(statement, ast.Evaluation):
                expressions.append(statement.value)
                continue
            try:
                names = self._declared(statement, env)
            except (KqlError, Abandoned) as error:
                if isinstance(error, KqlError):
                    self.report(error)
                names = {statement.name.name: UNKNOWN} if isinstance(statement, ast.Let | ast.DeclarePattern) else {}
            for name in names:
                if name in declared and name != RESTRICTION:
                    self.report(KqlError(f"{name} is declared twice.", statement.span))
                declared.add(name)
            if names:
                env = env.with_names(names)
        return expressions, env

    def _declared(self, statement: ast.Statement, env: Env) -> dict[str, Any]:
        match statement:
            case ast.Let():
                return {statement.name.name: self._let(statement, env)}
            case ast.SetOption():
                if statement.name == "query_now" and statement.value is not None:
                    self.now = self._instant(self.constant(statement.value, env, "query_now"), statement.span)
                elif statement.name in LIMITING:
                    raise KqlError(f"set {statement.name} is not supported.", statement.span, kind="unsupported")
                return {}
            case ast.DeclareParameters():
                return {p.name.name: self._query_parameter(p, env) for p in statement.parameters}
            case ast.DeclarePattern():
                return {statement.name.name: Pattern(statement, env)}
            case ast.Restrict():
                return {RESTRICTION: Restriction(tuple(self._restricted(e, env) for e in statement.tables))}
            case ast.Alias():
                raise KqlError("alias is not supported: there is one database.", statement.span, kind="unsupported")
        raise KqlError("This statement is not supported.", statement.span, kind="unsupported")

    def _instant(self, value: ir.Const, span: Span) -> int:
        instant = self.convert(value, "datetime")
        if not isinstance(instant, ir.Const) or not isinstance(instant.value, int):
            raise KqlError("query_now must be a datetime.", span)
        return instant.value

    def _let(self, let: ast.Let, env: Env) -> Any:
        if isinstance(let.value, ast.Lambda):
            return Function(let.name.name, let.value, env)
        try:
            found = self.value(let.value, NO_ROW, env)
        except Abandoned:
            return UNKNOWN
        if isinstance(found, Rel):
            return Tabular(found, self._mentions[let.name.name] > 1)
        return found

    def _query_parameter(self, parameter: ast.Parameter, env: Env) -> ir.Scalar:
        try:
            return self._parameter_value(parameter, env)
        except KqlError as error:
            return self.report(error)

    def _parameter_value(self, parameter: ast.Parameter, env: Env) -> ir.Scalar:
        name = parameter.name.name
        if parameter.schema is not None:
            raise KqlError(f"{name}: a query parameter cannot be a table.", parameter.span)
        if name in self.parameters:
            return self._given(self.parameters[name], parameter, env)
        if parameter.default is None:
            raise KqlError(f"The query parameter {name} was not given.", parameter.span)
        return self.convert(self.constant(parameter.default, env, "A default"), parameter.type)

    def _given(self, value: Any, parameter: ast.Parameter, env: Env) -> ir.Scalar:
        """A parameter's value as it came with the request: a plain value, or text that may be a KQL literal."""
        if isinstance(value, str):
            if parameter.type == "string" and not re.fullmatch(r"""\s*(["']).*\1\s*""", value, re.DOTALL):
                return const(value, "string")
            if parameter.type != "dynamic":
                plain = self.convert(const(value, "string"), parameter.type)
                if parameter.type != "string" and not is_null(plain):
                    return plain
            literal = _literal(value)
            if literal is not None:
                return self.convert(const(literal.value, literal.type), parameter.type)
            if parameter.type == "dynamic":
                return self.apply("parse_json", [const(value, "string")], parameter.span)
        elif isinstance(value, bool | int | float) or parameter.type == "dynamic":
            plain = self.convert(const(value, "dynamic"), parameter.type)
            if not is_null(plain):
                return plain
        if value is None:
            return const(None, parameter.type)
        raise KqlError(f"The query parameter {parameter.name.name} is no {parameter.type}.", parameter.span)

    def _restricted(self, expression: ast.Expr, env: Env) -> str:
        if isinstance(expression, ast.Star):
            return "*"
        if isinstance(expression, ast.Wildcard):
            return expression.pattern
        if isinstance(expression, ast.Name):
            return expression.name
        if isinstance(expression, ast.Member) and self.is_here(expression.base, env):
            return expression.name
        if isinstance(expression, ast.Call) and expression.name == "table" and len(expression.arguments) == 1:
            return str(self.constant(expression.arguments[0], env, "The name of a table").value)
        raise KqlError("restrict access takes names of tables.", expression.span)

    # -- functions of the query ----------------------------------------------------------------------------------------

    def is_recursive(self, name: str) -> bool:
        """Whether a function of that name is being called right now."""
        return name in self._invoked

    def invoke(
        self, function: Function, call: ast.Call, row: Rel, env: Env, piped: Rel | None = None
    ) -> ir.Scalar | Rel:
        """A function of the query, called. ``piped``: the rows that ``invoke`` hands to its first parameter."""
        names = self._bound_arguments(function, call, row, env, piped)
        before = self._invoked
        self._invoked = (*before, function.name)
        self.spend_operator(call.span)
        try:
            expressions, inner = self.statements(function.value.statements, function.env.with_names(names))
            if expressions:
                raise KqlError("A function has one expression, its last.", function.value.span)
            bare = row.with_(columns={}, name="")
            return self.value(function.value.body, bare, inner)
        finally:
            self._invoked = before

    def _bound_arguments(
        self, function: Function, call: ast.Call, row: Rel, env: Env, piped: Rel | None
    ) -> dict[str, Any]:
        parameters = function.value.parameters
        given: dict[str, ast.Expr] = {}
        names: dict[str, Any] = {}
        free = list(parameters)
        if piped is not None:
            if not free or free[0].schema is None:
                raise KqlError(f"The first parameter of {function.name} is not a table.", call.span)
            names[free[0].name.name] = self._tabular_argument(function, free[0], piped, call.span)
            free.pop(0)
        for argument in call.arguments:
            if isinstance(argument, ast.Named):
                name = argument.name.name
                if name not in (p.name.name for p in parameters):
                    known = [p.name.name for p in parameters]
                    raise KqlError(
                        f"{function.name} has no parameter {name}.", argument.span, remedy=nearest(name, known)
                    )
                if name in given or name in names:
                    raise KqlError(f"{name} is given twice.", argument.span)
                given[name] = argument.value
                free = [p for p in free if p.name.name != name]
            elif not free:
                raise KqlError(f"{function.name} takes {count(len(parameters), 'argument')}.", argument.span)
            else:
                given[free.pop(0).name.name] = argument
        for parameter in parameters:
            name = parameter.name.name
            if name in names:
                continue
            if name in given:
                names[name] = self._argument(function, parameter, given[name], row, env)
            elif parameter.default is not None:
                default = self.scalar(parameter.default, NO_ROW, function.env)
                names[name] = self.convert(default, parameter.type)
            else:
                raise KqlError(f"{function.name} needs its argument {name}.", call.span)
        return names

    def _argument(self, function: Function, parameter: ast.Parameter, expression: ast.Expr, row: Rel, env: Env) -> Any:
        if parameter.schema is not None:
            table = self.table(expression, closed(env))
            return self._tabular_argument(function, parameter, table, expression.span)
        value = self.scalar(expression, row, env)
        if not is_known(value) or value.type == parameter.type:
            return value
        converted = self.convert(value, parameter.type)
        fits = "dynamic" in (value.type, parameter.type) or {value.type, parameter.type} <= set(WIDTHS)
        if not fits and (is_null(converted) or not isinstance(converted, ir.Const)):
            raise KqlError(
                f"{parameter.name.name} of {function.name} must be a {parameter.type}, this is a {value.type}.",
                expression.span,
            )
        return converted

    def _tabular_argument(self, function: Function, parameter: ast.Parameter, table: Rel, span: Span) -> Tabular:
        assert parameter.schema is not None
        for column in parameter.schema.columns:
            found = table.columns.get(column.name.name)
            if found is None or found.type not in (column.type, "unknown"):
                wanted = f"a column {column.name.name} of type {column.type}"
                remedy = nearest(column.name.name, table.columns) if found is None else f"It is a {found.type}."
                raise KqlError(f"{parameter.name.name} of {function.name} needs {wanted}.", span, remedy=remedy)
        uses = mentions(function.value)[parameter.name.name]
        return Tabular(table, uses > 1)

    def pattern(self, pattern: Pattern, call: ast.Call, path: str | None, env: Env) -> Rel:
        declared = pattern.value
        given = [self.constant(a, env, "An argument of a pattern") for a in call.arguments]
        if len(given) != len(declared.parameters):
            raise KqlError(f"{declared.name.name} takes {count(len(declared.parameters), 'argument')}.", call.span)
        values = [self.convert(v, p.type) for v, p in zip(given, declared.parameters, strict=True)]
        for match in declared.matches:
            wanted = [self.constant(v, pattern.env, "A value of a pattern") for v in match.values]
            known = None if match.path is None else self.constant(match.path, pattern.env, "A path").value
            if known != path:
                continue
            if [w.value for w in wanted] == [v.value for v in values if isinstance(v, ir.Const)]:
                expressions, inner = self.statements(match.statements, pattern.env)
                return self.table(expressions[-1] if expressions else match.body, inner)
        raise KqlError(f"{declared.name.name} declares nothing for these arguments.", call.span)


def _literal(text: str) -> ast.Literal | None:
    """``text`` read as one KQL literal, None if it is none."""
    try:
        query = parse(f"print {text}")
    except KqlError:
        return None
    printed = [s.value for s in query.statements if isinstance(s, ast.Evaluation) and isinstance(s.value, ast.Print)]
    items = [item for p in printed for item in p.items]
    return items[0] if len(items) == 1 and isinstance(items[0], ast.Literal) and len(query.statements) == 1 else None
