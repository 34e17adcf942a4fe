"""Tokens to syntax tree: the statements of a query.

A recursive-descent parser in three layers: this, the pipes and their operators (``operators.py``), and expressions
(``expressions.py``). It finds every mistake in one pass, and however a query is nested it stays within the limits.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, Final

from watchfloor.kql.ast import (
    Alias,
    DeclareParameters,
    DeclarePattern,
    Evaluation,
    Expr,
    Lambda,
    Let,
    Literal,
    Missing,
    Name,
    Parameter,
    PatternMatch,
    Query,
    Restrict,
    SetOption,
    Statement,
)
from watchfloor.kql.errors import KqlError, Span, raise_all, unsupported
from watchfloor.kql.expressions import MAX_HEIGHT
from watchfloor.kql.lexer import scan
from watchfloor.kql.operators import GiveUp, Operators

MAX_STATEMENTS: Final = 1000


def parse(text: str) -> Query:
    """The syntax tree of ``text``. Raises the first ``KqlError``, with its line and column and all others."""
    query, errors = parse_all(text)
    if errors:
        raise_all(errors, text)
    return query


def parse_all(text: str) -> tuple[Query, list[KqlError]]:
    """The syntax tree of ``text``, with ``Missing`` where something is wrong, and all that is wrong, in the order of
    the text."""
    tokens, errors = scan(text)
    parser = Statements(tokens, errors)
    if tokens[0].kind == "end":
        if not errors:
            remedy = "Begin with the name of a table."
            errors.append(KqlError("The query is empty.", tokens[0].span, remedy=remedy, kind="syntax"))
        return Query(text, ()), _located(errors, text)
    try:
        statements = parser.statements()
    except GiveUp:
        return Query(text, ()), _located(errors, text)
    if parser.deepest * 6 + parser.chained > MAX_HEIGHT:  # nesting alone adds at most six nodes a level
        _check_height(statements, errors)
    return Query(text, statements), _located(errors, text)


def _located(errors: list[KqlError], text: str) -> list[KqlError]:
    errors.sort(key=lambda error: error.span.start)
    for error in errors:
        error.locate(text)
    return errors


def _check_height(root: Any, errors: list[KqlError]) -> None:
    level: list[Any] = [root]
    height = 0
    while level:
        following: list[Any] = []
        for node in level:
            if isinstance(node, tuple):
                level.extend(node)  # a tuple is no node of its own
            elif is_dataclass(node) and not isinstance(node, Span | Literal | Name):
                following.extend(getattr(node, field.name) for field in fields(node) if field.name != "span")
        height += 1
        if height > MAX_HEIGHT:
            span = next((node.span for node in level if hasattr(node, "span")), Span(0, 0))
            errors.append(KqlError(f"At most {MAX_HEIGHT} of these may follow each other.", span, kind="limit"))
            return
        level = following


class Statements(Operators):
    """Reads statements from tokens."""

    # -- statements -----------------------------------------------------------------------------------------------

    def statements(self) -> tuple[Statement, ...]:
        """Everything there is."""
        found: list[Statement] = []
        while self.token.kind != "end":
            if self.accept(";"):
                continue
            start = self.at
            try:
                found.append(self._statement())
                if self.token.kind != "end" and self.token.text != ";":
                    raise self.unexpected()
            except KqlError as error:
                self.record(error)
                self._finish(start)
            if len(found) > MAX_STATEMENTS:
                message = f"A query has at most {MAX_STATEMENTS} statements."
                self.record(KqlError(message, self.token.span, kind="limit"))
                break
        return tuple(found)

    def _finish(self, start: int) -> None:
        """Find what else is wrong with a statement that is lost."""
        while self.token.kind != "end" and self.token.text != ";":
            self.depth = 0
            self.take()
            self.recover(start)
            self.operators()

    def _statement(self) -> Statement:
        token = self.token
        following = self.ahead().text
        if token.text == "let":
            return self._let()
        if token.text == "set":
            return self._set()
        if token.text == "declare" and following == "pattern":
            return self._pattern()
        if token.text == "declare":
            return self._query_parameters()
        if token.text == "restrict" and following == "access":
            return self._restrict()
        if token.text == "alias" and following == "database":
            return self._alias()
        if token.text == ".":
            raise unsupported("Management commands are not allowed.", token.span)
        if token.text == "#":
            raise unsupported("Directives are not allowed.", token.span)
        value = self.tabular()
        return Evaluation(value, self.since(token.start))

    def _let(self) -> Let:
        start = self.take().start
        name = self.name("a name after let")
        self.expect("=", "after the name of let")
        value: Expr | Lambda = self._lambda() if self._begins_lambda() else self.tabular()
        return Let(name, value, self.since(start))

    def _begins_lambda(self) -> bool:
        ahead = 1 if self.token.text == "view" and self.ahead().text == "(" else 0
        if self.ahead(ahead).text != "(":
            return False
        if self.ahead(ahead + 1).text == ")":
            return True
        size = self.names_ahead(ahead + 1)
        return (bool(size) and self.ahead(ahead + 1 + size).text == ":") or ahead == 1

    def _lambda(self) -> Lambda:
        start = self.token.start
        is_view = self.accept("view")
        self.enter()
        parameters = self._parameters()
        self.expect("{", "before the body of the function")
        statements, body = self._body()
        self.depth -= 1
        return Lambda(parameters, statements, body, self.since(start), is_view)

    def _parameters(self) -> tuple[Parameter, ...]:
        self.expect("(", "before the parameters")
        parameters = () if self.token.text == ")" else self.items(self._parameter)
        self.expect(")", "after the parameters")
        return parameters

    def _parameter(self) -> Parameter:
        name = self.name("the name of a parameter")
        self.expect(":", "after the name of a parameter")
        schema = None
        if self.token.text == "(":
            type_ = "tabular"
            schema = self.row_schema("before the columns")
        else:
            type_ = self.type_name()
        default = self.expression() if self.accept("=") else None
        return Parameter(name, type_, schema, default, self.since(name.span.start))

    def _body(self) -> tuple[tuple[Statement, ...], Expr]:
        """The statements of a function and its value, behind ``{`` and with the closing ``}``."""
        statements: list[Statement] = []
        while True:
            if self.token.text == "let" and self.names_ahead(1):
                statements.append(self._let())
            elif self.token.text == "declare" and self.ahead().text == "query_parameters":
                statements.append(self._query_parameters())
            else:
                break
            self.expect(";", "after the statement")
        body: Expr = Missing(self.token.span)
        if self.token.text == "}":
            raise self.wrong("Expected the value of the function, found '}'.")
        body = self.tabular()
        self.accept(";")
        self.expect("}", "after the body of the function")
        return tuple(statements), body

    def _set(self) -> SetOption:
        start = self.take().start
        name = self.name("the name of an option")
        value = self.expression() if self.accept("=") else None
        return SetOption(name.name, value, self.since(start))

    def _query_parameters(self) -> DeclareParameters:
        start = self.take().start
        self.expect("query_parameters", "or 'pattern' after declare")
        parameters = self._parameters()
        return DeclareParameters(parameters, self.since(start))

    def _pattern(self) -> DeclarePattern:
        start = self.take().start
        self.take()
        name = self.name("the name of a pattern")
        if not self.accept("="):
            return DeclarePattern(name, (), None, (), self.since(start))
        parameters = self._parameters()
        path = None
        if self.accept("["):
            path = self.typed_name()
            self.expect("]", "after the path")
        self.expect("{", "before the cases of the pattern")
        matches = [self._pattern_match()]
        while self.token.text == "(":
            matches.append(self._pattern_match())
        self.expect("}", "after the cases of the pattern")
        return DeclarePattern(name, parameters, path, tuple(matches), self.since(start))

    def _pattern_match(self) -> PatternMatch:
        self.expect("(", "before the values of the pattern")
        values = self.items(self.expression)
        self.expect(")", "after the values of the pattern")
        path = None
        if self.accept("."):
            self.expect("[", "before the path")
            path = self.expression()
            self.expect("]", "after the path")
        self.expect("=", "after the values of the pattern")
        self.expect("{", "before what the pattern means")
        self.enter()
        statements, body = self._body()
        self.depth -= 1
        self.accept(";")
        return PatternMatch(values, path, statements, body)

    def _restrict(self) -> Restrict:
        start = self.take().start
        self.take()
        self.expect("to", "after restrict access")
        self.expect("(", "before the tables")
        tables = self.items(self._entity)
        self.expect(")", "after the tables")
        if self.token.text == "with":
            raise unsupported("Properties of restrict are not supported.", self.token.span)
        return Restrict(tables, self.since(start))

    def _alias(self) -> Alias:
        start = self.take().start
        self.take()
        name = self.name("the name of a database")
        self.expect("=", "after the name")
        return Alias(name, self.expression(), self.since(start))
