"""Tokens to syntax tree.

A recursive-descent parser; each tabular operator is one entry of ``_OPERATORS``. What KQL has and this does not is
listed with its name, so that it is refused as such and not as a slip of the pen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from watchfloor.kql.ast import (
    Between,
    Binary,
    Call,
    Count,
    Expr,
    Item,
    Literal,
    Logical,
    Membership,
    Name,
    Negative,
    Operator,
    Project,
    Query,
    Sort,
    SortKey,
    Summarize,
    Take,
    Where,
)
from watchfloor.kql.errors import KqlError, Span, nearest
from watchfloor.kql.lexer import Token, tokenize

MAX_DEPTH: Final = 40
"""How deep expressions may nest, and how many arithmetic signs may follow each other."""

MAX_OPERATORS: Final = 100
MAX_ARGUMENTS: Final = 64

_UNSUPPORTED_OPERATORS: Final = frozenset(
    {
        "as",
        "assert-schema",
        "consume",
        "datatable",
        "declare",
        "distinct",
        "evaluate",
        "extend",
        "externaldata",
        "facet",
        "find",
        "fork",
        "getschema",
        "graph-match",
        "graph-to-table",
        "invoke",
        "join",
        "let",
        "lookup",
        "macro-expand",
        "make-graph",
        "make-series",
        "materialize",
        "mv-apply",
        "mv-expand",
        "mvexpand",
        "parse",
        "parse-kv",
        "parse-where",
        "partition",
        "pattern",
        "print",
        "project-away",
        "project-keep",
        "project-rename",
        "project-reorder",
        "project-smart",
        "range",
        "reduce",
        "render",
        "restrict",
        "sample",
        "sample-distinct",
        "scan",
        "search",
        "serialize",
        "set",
        "top",
        "top-hitters",
        "top-nested",
        "union",
    }
)
_COMPARISONS: Final = frozenset({"==", "!=", "<>", "=~", "!~", "<", "<=", ">", ">="})
_STRING_WORDS: Final = frozenset(
    {
        prefix + word + suffix
        for word in ("has", "contains", "startswith", "endswith", "hasprefix", "hassuffix")
        for prefix in ("", "!")
        for suffix in ("", "_cs")
    }
)
_LISTS: Final = frozenset({"in", "!in", "in~", "!in~", "has_any", "has_all"})


def parse(text: str) -> Query:
    """The syntax tree of ``text``. Raises ``KqlError`` with its line and column."""
    try:
        return _Parser(tokenize(text)).query(text)
    except KqlError as error:
        error.locate(text)
        raise


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    # -- tokens ---------------------------------------------------------------------------------------------------

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._next.kind in ("name", "operator") and self._next.text in texts

    def _accept(self, *texts: str) -> Token | None:
        return self._take() if self._is(*texts) else None

    def _expect(self, text: str, purpose: str) -> Token:
        if not self._is(text):
            raise KqlError(f"Expected {text!r} {purpose}, found {self._shown()}.", self._next.span)
        return self._take()

    def _shown(self) -> str:
        return self._next.text if self._next.kind == "end" else repr(self._next.text[:40])

    def _adjoins(self) -> bool:
        """Whether the next token stands directly behind the one before."""
        return self._tokens[self._at - 1].span.end == self._next.span.start

    # -- statements and operators ---------------------------------------------------------------------------------

    def query(self, text: str) -> Query:
        first = self._next
        if first.kind == "end":
            raise KqlError("The query is empty.", first.span, remedy="Begin with the name of a table.")
        if first.kind == "operator" and first.text == ".":
            raise KqlError("Management commands are not allowed.", first.span)
        source = self._name("the name of a table")
        if source.name in _UNSUPPORTED_OPERATORS:
            raise KqlError(f"'{source.name}' is not supported.", source.span, remedy="Begin with the name of a table.")
        if self._is("("):
            raise KqlError(f"The function '{source.name}' cannot be queried.", source.span)
        operators: list[Operator] = []
        while self._accept("|"):
            operators.append(self._operator())
            if len(operators) > MAX_OPERATORS:
                raise KqlError(f"A query has at most {MAX_OPERATORS} operators.", operators[-1].span)
        if self._accept(";") and self._next.kind != "end":
            raise KqlError("More than one statement is not supported.", self._next.span)
        if self._next.kind != "end":
            raise KqlError(f"Expected '|' or the end of the query, found {self._shown()}.", self._next.span)
        return Query(text, source, tuple(operators))

    def _operator(self) -> Operator:
        word = self._next
        if word.kind != "name":
            raise KqlError(f"Expected an operator after '|', found {self._shown()}.", word.span)
        self._take()
        name, span = word.text, word.span
        while self._is("-") and self._adjoins():  # project-away, mv-expand
            self._take()
            if self._next.kind != "name" or not self._adjoins():
                break
            part = self._take()
            name, span = f"{name}-{part.text}", span.to(part.span)
        operator = _OPERATORS.get(name)
        if operator is not None:
            return operator(self, span)
        if name in _UNSUPPORTED_OPERATORS:
            raise KqlError(f"The operator '{name}' is not supported.", span)
        raise KqlError(f"There is no operator '{name}'.", span, remedy=nearest(name, _OPERATORS))

    def _where(self, span: Span) -> Where:
        return Where(self._expression(), span)

    def _project(self, span: Span) -> Project:
        return Project(self._items("project"), span)

    def _sort(self, span: Span) -> Sort:
        self._expect("by", "after sort")
        return Sort(self._sort_keys(), span)

    def _take_rows(self, span: Span) -> Take:
        token = self._take()
        if token.kind != "literal" or token.type != "long":
            raise KqlError(f"Expected a number of rows, found {token.text!r}.", token.span)
        return Take(token.value, span)

    def _count(self, span: Span) -> Count:
        return Count(span)

    def _summarize(self, span: Span) -> Summarize:
        aggregates = () if self._is("by") else self._items("summarize")
        by = self._items("by") if self._accept("by") else ()
        if not aggregates and not by:
            raise KqlError("summarize needs an aggregate or 'by'.", span)
        return Summarize(aggregates, by, span)

    def _sort_keys(self) -> tuple[SortKey, ...]:
        keys = [self._sort_key()]
        while self._accept(","):
            keys.append(self._sort_key())
        return tuple(keys)

    def _sort_key(self) -> SortKey:
        value = self._expression()
        direction = self._accept("asc", "desc")
        is_descending = direction is None or direction.text == "desc"
        nulls_first = not is_descending
        if self._accept("nulls"):
            if not self._is("first", "last"):
                raise KqlError(f"Expected 'first' or 'last' after nulls, found {self._shown()}.", self._next.span)
            nulls_first = self._take().text == "first"
        return SortKey(value, is_descending, nulls_first)

    def _items(self, of: str) -> tuple[Item, ...]:
        if self._next.kind == "end" or self._is("|", "by"):
            raise KqlError(f"{of} needs at least one column.", self._next.span)
        items = [self._item()]
        while self._accept(","):
            items.append(self._item())
        return tuple(items)

    def _item(self) -> Item:
        if self._is("*"):
            raise KqlError("'*' is not supported here.", self._next.span, remedy="Name the columns.")
        value = self._expression()
        if not self._is("="):
            return Item(None, value)
        if not isinstance(value, Name):
            raise KqlError("Only a name may stand before '='.", value.span, remedy="To compare, write '=='.")
        self._take()
        return Item(value, self._expression())

    # -- expressions, loosest binding first ------------------------------------------------------------------------

    def _expression(self) -> Expr:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise KqlError(f"Expressions may be nested at most {MAX_DEPTH} deep.", self._next.span)
        try:
            return self._chain("or", lambda: self._chain("and", self._comparison))
        finally:
            self._depth -= 1

    def _chain(self, operator: str, operand: Callable[[], Expr]) -> Expr:
        operands = [operand()]
        while self._accept(operator):
            operands.append(operand())
        if len(operands) == 1:
            return operands[0]
        return Logical(operator, tuple(operands), operands[0].span.to(operands[-1].span))

    def _comparison(self) -> Expr:
        left = self._sum()
        result = self._compared(left)
        if result is not left and self._compares():
            raise KqlError(f"{self._shown()} cannot follow another comparison.", self._next.span, remedy="Use 'and'.")
        return result

    def _compares(self) -> bool:
        words = _COMPARISONS | _STRING_WORDS | _LISTS
        return self._is(*words, "between", "!between", "matches", "like", "notlike")

    def _compared(self, left: Expr) -> Expr:
        if self._is(*_COMPARISONS, *_STRING_WORDS):
            operator = self._take().text
            right = self._sum()
            return Binary("!=" if operator == "<>" else operator, left, right, left.span.to(right.span))
        if self._is("matches"):
            self._take()
            self._expect("regex", "after matches")
            right = self._sum()
            return Binary("matches regex", left, right, left.span.to(right.span))
        if self._is(*_LISTS):
            operator = self._take().text
            items, end = self._list(operator)
            return Membership(operator, left, items, left.span.to(end))
        if self._is("between", "!between"):
            is_negated = self._take().text == "!between"
            self._expect("(", "after between")
            low = self._sum()
            self._expect("..", "between the two ends")
            high = self._sum()
            end = self._expect(")", "after the range").span
            return Between(left, low, high, is_negated, left.span.to(end))
        if self._is("like", "notlike"):
            raise KqlError(f"{self._shown()} is not supported.", self._next.span, remedy="Use contains or startswith.")
        return left

    def _list(self, operator: str) -> tuple[tuple[Expr, ...], Span]:
        self._expect("(", f"after {operator}")
        items = [self._sum()]
        while self._accept(","):
            items.append(self._sum())
        return tuple(items), self._expect(")", "after the list").span

    def _sum(self) -> Expr:
        return self._arithmetic(("+", "-"), lambda: self._arithmetic(("*", "/", "%"), self._unary))

    def _arithmetic(self, operators: tuple[str, ...], operand: Callable[[], Expr]) -> Expr:
        left = operand()
        depth = 0
        while self._is(*operators):
            depth += 1
            if depth > MAX_DEPTH:
                raise KqlError(f"At most {MAX_DEPTH} of these may follow each other.", self._next.span)
            operator = self._take().text
            right = operand()
            left = Binary(operator, left, right, left.span.to(right.span))
        return left

    def _unary(self) -> Expr:
        sign = self._accept("-", "+")
        if sign is None:
            return self._primary()
        operand = self._primary()
        span = sign.span.to(operand.span)
        if isinstance(operand, Literal) and operand.type in ("long", "real", "timespan") and operand.value is not None:
            return Literal(-operand.value if sign.text == "-" else operand.value, operand.type, span)
        return Negative(operand, span) if sign.text == "-" else operand

    def _primary(self) -> Expr:
        token = self._next
        if token.kind == "literal":
            self._take()
            value: Expr = Literal(token.value, token.type, token.span)
        elif self._accept("("):
            value = self._expression()
            self._expect(")", "to close the parenthesis")
        elif self._is("true", "false"):
            self._take()
            value = Literal(token.text == "true", "bool", token.span)
        else:
            name = self._name("a value")
            value = self._call(name) if self._is("(") else name
        if self._is(".", "[", "?"):
            raise KqlError("Paths into dynamic values are not supported.", self._next.span)
        return value

    def _call(self, name: Name) -> Call:
        self._take()
        arguments: list[Expr] = []
        if not self._is(")"):
            arguments.append(self._expression())
            while self._accept(","):
                arguments.append(self._expression())
        if len(arguments) > MAX_ARGUMENTS:
            raise KqlError(f"A function takes at most {MAX_ARGUMENTS} arguments.", name.span)
        end = self._expect(")", f"after the arguments of {name.name}").span
        return Call(name.name, tuple(arguments), name.span.to(end))

    def _name(self, purpose: str) -> Name:
        token = self._next
        if token.kind == "name":
            self._take()
            return Name(token.text, token.span)
        if self._is("["):  # ['any name']
            start = self._take()
            quoted = self._take()
            if quoted.kind != "literal" or quoted.type != "string":
                raise KqlError("Expected a quoted name in brackets.", quoted.span)
            end = self._expect("]", "after the name").span
            return Name(quoted.value, start.span.to(end))
        raise KqlError(f"Expected {purpose}, found {self._shown()}.", token.span)


_OPERATORS: Final[dict[str, Callable[[_Parser, Span], Operator]]] = {
    "where": _Parser._where,
    "filter": _Parser._where,
    "project": _Parser._project,
    "sort": _Parser._sort,
    "order": _Parser._sort,
    "take": _Parser._take_rows,
    "limit": _Parser._take_rows,
    "count": _Parser._count,
    "summarize": _Parser._summarize,
}
"""Every tabular operator. Adding one: its tree in ``ast.py``, its entry here, its meaning in ``resolve.py``."""
