"""Tokens to pipes and tabular operators.

Each operator is one entry of ``_OPERATORS``. Reading recovers: after an error it goes on at the next ``|`` of the same
nesting, at ``;`` or where the parenthesis closes, so one pass finds every mistake. What KQL has and this will never do
is read too, so that it is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from watchfloor.kql.ast import (
    As,
    AssertSchema,
    Call,
    Capture,
    Consume,
    Count,
    Distinct,
    Evaluate,
    ExpandItem,
    Expr,
    Extend,
    Facet,
    Find,
    Fork,
    Getschema,
    GraphEdge,
    GraphMarkComponents,
    GraphMatch,
    GraphNode,
    GraphToTable,
    GraphWhere,
    Invoke,
    Join,
    Literal,
    MakeGraph,
    MakeSeries,
    Missing,
    MvApply,
    MvExpand,
    Name,
    Named,
    Operator,
    Option,
    Parse,
    ParseKv,
    Partition,
    Pipe,
    Print,
    Project,
    ProjectAway,
    ProjectByNames,
    ProjectRename,
    ProjectReorder,
    Range,
    Reduce,
    Render,
    ReorderItem,
    Sample,
    Scan,
    ScanDeclaration,
    ScanStep,
    Search,
    Serialize,
    SeriesItem,
    Sort,
    SortKey,
    Star,
    Summarize,
    Take,
    Top,
    TopHitters,
    TopNested,
    TopNestedClause,
    Union,
    UnsupportedOperator,
    Where,
    Wildcard,
)
from watchfloor.kql.errors import MAX_ERRORS, KqlError, Span, nearest, unsupported
from watchfloor.kql.expressions import Expressions

MAX_OPERATORS: Final = 200
"""How many operators one pipe may have."""

_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")
_OPERATOR_ENDS: Final = frozenset({"|", ";", ")", "]", "}"})
_FOREIGN: Final = {
    "=": "To compare, write '=='.",
    "as": "A new name stands before: name = value.",
    "is": "Write isnull(...) or isnotnull(...).",
    "not": "Write ! before the operator: !in, !has, !contains.",
}
"""What to write instead of another language's words."""

_BEHIND_NAMES: Final = frozenset({
    "|", ";", ",", ")", "]", "}", ".", "==", "!=", "<>", "<", "<=", ">", ">=", "=~", "!~", "/", "%", ":", "!in", "in~",
    "!in~", "and", "between", "contains", "endswith", "has", "has_all", "has_any", "has_cs", "matches", "or",
    "startswith",
})  # fmt: skip
"""What shows that the word before it is the name of a column, whatever else it may mean."""


class GiveUp(Exception):
    """There is no use in reading on: a limit is passed, or too much is wrong."""


class Operators(Expressions):
    """Reads pipes from tokens."""

    # -- recovery -------------------------------------------------------------------------------------------------

    _nesting: list[int] | None = None

    def record(self, error: KqlError) -> None:
        """One error a place: what follows from it is no news."""
        if all(known.span.start != error.span.start for known in self.errors):
            self.errors.append(error)
        if error.kind == "limit" or len(self.errors) >= MAX_ERRORS:
            raise GiveUp

    def _nesting_at(self, at: int) -> int:
        """How many parentheses and brackets are open around the token ``at``."""
        if self._nesting is None:
            self._nesting = []
            depth = 0
            for token in self.tokens:
                if token.text in _CLOSING:
                    depth = max(0, depth - 1)
                self._nesting.append(depth)
                if token.text in _OPENING:
                    depth += 1
        return self._nesting[at]

    def recover(self, start: int) -> None:
        """Go on at the next ``|``, ``;`` or closing bracket of the nesting that the token ``start`` has."""
        nesting = self._nesting_at(start) + (self.tokens[start].text in _CLOSING)
        while self.token.kind != "end":
            here = self._nesting_at(self.at)
            if here < nesting or (here == nesting and self.token.text in ("|", ";") and self.at > start):
                return
            self.take()

    def unexpected(self) -> KqlError:
        """The error that the next token is, where an operator or a query might end."""
        if self.token.text in _CLOSING:
            return self.wrong(f"{self.shown()} closes nothing.")
        if self.token.text in ("let", "set", "declare", "restrict", "alias"):
            return self.wrong(f"Expected ';' before {self.shown()}.")
        remedy = _FOREIGN.get(self.token.text, "")
        if self.token.text in _OPERATORS and self.token.text != "as":
            remedy = f"Write '|' before {self.token.text}."
        return self.wrong(f"Expected '|' or the end of the query, found {self.shown()}.", remedy)

    # -- pipes ----------------------------------------------------------------------------------------------------

    def tabular(self) -> Expr:
        """An expression or a pipe. What is wrong in it is recorded, and reading goes on behind it."""
        start, depth = self.at, self.depth
        token = self.token
        source: Expr
        operators: tuple[Operator, ...] = ()
        try:
            if token.kind == "name" and (head := self._head()) is not None:
                source, operators = head
            else:
                source = self.expression()
                if self.token.kind == "name" and self.token.text == "datascope":
                    raise unsupported("datascope is not supported.", self.token.span)
        except KqlError as error:
            self.record(error)
            source, self.depth = Missing(self.token.span), depth
            self.recover(start)
        if self.token.text != "|":
            return Pipe(source, operators, self.since(token.start)) if operators else source
        return Pipe(source, operators + self.operators(), self.since(token.start))

    def _head(self) -> tuple[Expr, tuple[Operator, ...]] | None:
        """The source or first operator of a pipe that does not begin with an expression."""
        token, following = self.token, self.ahead()
        if token.text == "print":
            return self._print(), ()
        if following.text in _BEHIND_NAMES:
            return None
        if token.text == "range":
            if following.kind != "name" and self.ahead(1 + self.names_ahead(1)).text != "from":
                return None
            return self._range(), ()
        if token.text in ("union", "search", "find") or (token.text == "evaluate" and following.kind == "name"):
            return Missing(Span(token.start, token.start)), (self._operator(),)
        if token.text == "macro" and following.text == "-" and self.ahead(2).text == "expand":
            return Missing(Span(token.start, token.start)), (self._operator(),)
        if token.text in _OPERATORS and (following.kind == "name" or following.kind == "literal"):
            raise self.wrong(f"{self.shown()} needs rows to work on.", f"Write a table and '|' before {token.text}.")
        return None

    def operators(self) -> tuple[Operator, ...]:
        """What follows, each behind a ``|``."""
        found: list[Operator] = []
        depth = self.depth
        self.enter()
        while self.token.text == "|":
            self.take()
            self._add_operator(found)
        self.depth = depth
        return tuple(found)

    def _add_operator(self, found: list[Operator]) -> None:
        start, depth = self.at, self.depth
        try:
            found.append(self._operator())
            if len(found) > MAX_OPERATORS:
                raise KqlError(f"A pipe has at most {MAX_OPERATORS} operators.", found[-1].span, kind="limit")
            if self.token.text not in _OPERATOR_ENDS and self.token.kind != "end":
                raise self.unexpected()
        except KqlError as error:
            self.record(error)
            self.depth = depth
            self.recover(start)

    def _sub_pipe(self, purpose: str) -> Pipe:
        """``(operator | operator ...)``: a pipe without a source."""
        self.expect("(", purpose)
        start = self.token.start
        found: list[Operator] = []
        depth = self.depth
        self.enter()
        self._add_operator(found)
        while self.token.text == "|":
            self.take()
            self._add_operator(found)
        self.depth = depth
        pipe = Pipe(Missing(Span(start, start)), tuple(found), self.since(start))
        self.expect(")", "to close the parenthesis")
        return pipe

    def _operator(self) -> Operator:
        word = self.token
        if word.kind != "name":
            remedy = "For either of two conditions, write or." if word.text == "|" else ""
            raise self.wrong(f"Expected an operator after '|', found {self.shown()}.", remedy)
        name = self._hyphenated()
        span = self.since(word.start)
        operator = _OPERATORS.get(name)
        if operator is not None:
            return operator(self, name, word.start)
        if name in _UNSUPPORTED:
            while self.token.kind != "end" and self.token.text not in _OPERATOR_ENDS:
                if self.token.text in _OPENING:
                    self.skip_group()
                else:
                    self.take()
            return UnsupportedOperator(name, span)
        if name in ("print", "range", "datatable", "let"):
            raise KqlError(f"{name!r} cannot follow '|'.", span, remedy="It begins a query.", kind="syntax")
        known = (*_OPERATORS, *_UNSUPPORTED)
        raise KqlError(f"There is no operator {name!r}.", span, remedy=nearest(name, known), kind="syntax")

    def _hyphenated(self) -> str:
        """A name with the hyphens in it."""
        name = self.take().text
        while self.token.text == "-" and self.adjoins() and self.ahead().kind == "name":
            if self.ahead().start != self.token.end:
                break
            self.take()
            name += "-" + self.take().text
        return name

    # -- options --------------------------------------------------------------------------------------------------

    def _options(self, known: frozenset[str] = frozenset(), of: str = "") -> tuple[Option, ...]:
        """``name = value`` for the ``known`` names and any hint. With ``of``, the operator's name, every other name
        before ``=`` is an error."""
        found: list[Option] = []
        while self.token.kind == "name":
            start = self.token.start
            following = self.ahead().text
            if following == "." and self.token.text == "hint" and self.ahead(3).text == "=":
                self.take()
                self.take()
                name = "hint." + self.take().text
            elif following == "=" and self.token.text in known:
                name = self.take().text
            elif following == "=" and of:
                remedy = nearest(self.token.text, known) or (f"Options: {', '.join(sorted(known))}." if known else "")
                raise self.wrong(f"{of} has no option {self.shown()}.", remedy)
            else:
                break
            self.take()
            found.append(Option(name, self._option_value(), self.since(start)))
        return tuple(found)

    def _option_value(self) -> Expr:
        token = self.token
        if token.kind == "literal":
            return self.literal()
        if token.text == "-" or token.text == "+":
            self.take()
            if self.token.kind != "literal":
                raise self.wrong(f"Expected a number, found {self.shown()}.")
            return self.signed(token)
        if token.text == "dynamic" and (value := self.dynamic()) is not None:
            return value
        return self.name("the value of the option")

    # -- operators, by name ---------------------------------------------------------------------------------------

    def _where(self, word: str, start: int) -> Where:
        self._options()
        return Where(self.expression(), self.since(start))

    def _extend(self, word: str, start: int) -> Extend:
        return Extend(self.items(self.item), self.since(start))

    def _project(self, word: str, start: int) -> Project:
        return Project(self._optional_items(), self.since(start))

    def _optional_items(self) -> tuple[Expr, ...]:
        return () if self._at_end() else self.items(self.item)

    def _at_end(self) -> bool:
        return self.token.kind == "end" or self.token.text in _OPERATOR_ENDS

    def _project_away(self, word: str, start: int) -> ProjectAway:
        items = () if self._at_end() else self.items(self._column)
        return ProjectAway(items, False, self.since(start))

    def _project_keep(self, word: str, start: int) -> ProjectAway:
        items = () if self._at_end() else self.items(self._column)
        return ProjectAway(items, True, self.since(start))

    def _column(self) -> Name | Wildcard | Star:
        return self.wildcard() or self.name("the name of a column")

    def _project_rename(self, word: str, start: int) -> ProjectRename:
        items = self._optional_items()
        for item in items:
            if not (isinstance(item, Named) and isinstance(item.value, Name)):
                raise KqlError("project-rename takes new = old.", item.span, kind="syntax")
        return ProjectRename(items, self.since(start))

    def _project_reorder(self, word: str, start: int) -> ProjectReorder:
        items = () if self._at_end() else self.items(self._reorder_item)
        return ProjectReorder(items, self.since(start))

    def _reorder_item(self) -> ReorderItem:
        value = self._column()
        return ReorderItem(value, self._hyphenated() if self.token.text in _ORDERS else "")

    def _project_by_names(self, word: str, start: int) -> ProjectByNames:
        items = () if self._at_end() else self.items(self.expression)
        return ProjectByNames(items, self.since(start))

    def _sort(self, word: str, start: int) -> Sort:
        self._options()
        self.expect("by", f"after {word}")
        return Sort(self.items(self._sort_key), self.since(start))

    def _sort_key(self) -> SortKey:
        value = self.item()
        is_descending = self._is_descending()
        nulls_first = not is_descending
        if self.accept("nulls"):
            if self.token.text not in ("first", "last"):
                raise self.wrong(f"Expected 'first' or 'last' after nulls, found {self.shown()}.")
            nulls_first = self.take().text == "first"
        return SortKey(value, is_descending, nulls_first)

    def _is_descending(self) -> bool:
        if self.token.text == "granny" and self.ahead().text == "-":
            raise unsupported("The order 'granny' is not supported.", self.token.span, remedy="Write asc or desc.")
        if self.accept("asc"):
            return False
        self.accept("desc")
        return True

    def _take_rows(self, word: str, start: int) -> Take:
        self._options()
        return Take(self.expression(), self.since(start))

    def _top(self, word: str, start: int) -> Top:
        self._options()
        rows = self.expression()
        self.expect("by", "after the number of rows")
        return Top(rows, self.items(self._sort_key), self.since(start))

    def _top_hitters(self, word: str, start: int) -> TopHitters:
        rows = self.expression()
        self.expect("of", "after the number of values")
        value = self.item()
        weight = self.item() if self.accept("by") else None
        return TopHitters(rows, value, weight, self.since(start))

    def _top_nested(self, word: str, start: int) -> TopNested:
        clauses = [self._top_nested_clause(start)]
        while self.accept(","):
            begin = self.token
            if begin.kind != "name" or self._hyphenated() != "top-nested":
                raise KqlError("Expected 'top-nested' after ','.", begin.span, kind="syntax")
            clauses.append(self._top_nested_clause(begin.start))
        return TopNested(tuple(clauses), self.since(start))

    def _top_nested_clause(self, start: int) -> TopNestedClause:
        rows = None if self.token.text == "of" else self.expression()
        self.expect("of", "after top-nested")
        value = self.item()
        others = None
        if self.accept("with"):
            self.expect("others", "after with")
            self.expect("=", "after others")
            others = self.expression()
        self.expect("by", "after the column of top-nested")
        aggregate = self.item()
        return TopNestedClause(rows, value, others, aggregate, self._is_descending(), self.since(start))

    def _count(self, word: str, start: int) -> Count:
        name = self.name("a name after as") if self.accept("as") else None
        return Count(name, self.since(start))

    def _summarize(self, word: str, start: int) -> Summarize:
        options = self._options()
        aggregates = () if self.token.text == "by" or self._at_end() else self.items(self.item)
        by = self.items(self.item) if self.accept("by") else ()
        return Summarize(options, aggregates, by, self.since(start))

    def _distinct(self, word: str, start: int) -> Distinct:
        self._options()
        return Distinct(self.items(self._item_or_star), self.since(start))

    def _item_or_star(self) -> Expr:
        return Star(self.take().span) if self.token.text == "*" else self.item()

    def _join(self, word: str, start: int) -> Join:
        options = self._options(_JOIN_OPTIONS, word)
        right = self.expression()
        conditions = self.items(self.expression) if self.accept("on") else ()
        if self.token.text == "where":
            raise unsupported("join with 'where' is not supported.", self.token.span, remedy="Write on.")
        return Join(options, right, conditions, word == "lookup", self.since(start))

    def _union(self, word: str, start: int) -> Union:
        options = self._options(_UNION_OPTIONS, "union")
        return Union(options, self.items(self._entity), self.since(start))

    def _entity(self) -> Expr:
        """A table by name, wildcard or path, or an expression in parentheses."""
        found = self.wildcard()
        if found is not None:
            return found
        value = self.postfix()
        if self.token.text == "*" and self.adjoins():
            raise unsupported("A wildcard behind a dot is not supported.", self.token.span)
        return value

    def _mv_expand(self, word: str, start: int) -> MvExpand:
        options = self._options(_EXPAND_OPTIONS)
        items = self.items(self._expand_item)
        limit = self.expression() if self.accept("limit") else None
        return MvExpand(options, items, limit, word == "mvexpand", self.since(start))

    def _expand_item(self) -> ExpandItem:
        start = self.token.start
        value = self.item()
        name = None
        if isinstance(value, Named):
            name, value = value.name, value.value
        type_ = None
        if self.accept("to"):
            if self.token.text != "typeof":
                raise self.wrong(f"Expected typeof(...) after to, found {self.shown()}.")
            self.take()
            self.expect("(", "after typeof")
            type_ = self.type_name()
            self.expect(")", "after the type")
        return ExpandItem(name, value, type_, self.since(start))

    def _mv_apply(self, word: str, start: int) -> MvApply:
        options = self._options(_EXPAND_OPTIONS)
        items = self.items(self._expand_item)
        limit = self.expression() if self.accept("limit") else None
        if self.token.text == "id":
            raise unsupported("The id of mv-apply is not supported.", self.token.span)
        self.expect("on", "after the columns of mv-apply")
        body = self._sub_pipe("before the sub-query")
        return MvApply(options, items, limit, body, self.since(start))

    def _parse(self, word: str, start: int) -> Parse:
        options = self._options(_PARSE_OPTIONS)
        value = self.expression()
        self.expect("with", "after the column to parse")
        pattern: list[Literal | Star | Capture] = []
        while not self._at_end():
            if self.token.text == "*":
                pattern.append(Star(self.take().span))
            elif self.token.type == "string":
                pattern.append(self.string())
            else:
                name = self.name("a string, '*' or the name of a column")
                pattern.append(Capture(name, self.type_name() if self.accept(":") else "string"))
        if not pattern:
            raise self.wrong(f"Expected a pattern after with, found {self.shown()}.")
        return Parse(options, value, tuple(pattern), word == "parse-where", self.since(start))

    def _parse_kv(self, word: str, start: int) -> ParseKv:
        value = self.expression()
        self.expect("as", "after the column to parse")
        columns = self.row_schema("before the columns").columns
        options: tuple[Option, ...] = ()
        if self.accept("with"):
            self.expect("(", "after with")
            options = self._property_list(_KV_OPTIONS, word)
            self.expect(")", "after the options")
        return ParseKv(value, columns, options, self.since(start))

    def _property_list(self, known: frozenset[str], of: str) -> tuple[Option, ...]:
        """Options with commas between them."""
        found: list[Option] = []
        while options := self._options(known, of):
            found += options
            if not self.accept(","):
                break
        return tuple(found)

    def _sample(self, word: str, start: int) -> Sample:
        self._options()
        return Sample(self.expression(), None, self.since(start))

    def _sample_distinct(self, word: str, start: int) -> Sample:
        self._options()
        rows = self.expression()
        self.expect("of", "after the number of values")
        return Sample(rows, self.item(), self.since(start))

    def _serialize(self, word: str, start: int) -> Serialize:
        self._options()
        return Serialize(self._optional_items(), self.since(start))

    def _render(self, word: str, start: int) -> Render:
        kind = self.name("a kind of chart").name
        options: list[Option] = []
        while self.token.kind == "name":
            option = self.token
            if option.text == "with" and self.ahead().text == "(":
                self.take()
                self.take()
                self.accept(",")
                while self.token.text != ")":
                    options.append(self._render_option())
                    if not self.accept(","):
                        break
                self.expect(")", "after the properties")
            elif option.text == "with":  # the legacy form: with "title"
                self.take()
                options.append(Option("with", self.expression(), self.since(option.start)))
            elif option.text == "by":
                self.take()
                options.append(Option("by", self._render_value("by"), self.since(option.start)))
            else:
                options.append(self._render_option())
                self.accept(",")
        return Render(kind, tuple(options), self.since(start))

    def _render_option(self) -> Option:
        start = self.token.start
        name = self.name("the name of a property").name
        if name not in _RENDER_OPTIONS:
            span = self.since(start)
            raise KqlError(
                f"render has no property {name!r}.", span, remedy=nearest(name, _RENDER_OPTIONS), kind="syntax"
            )
        self.expect("=", "after the name of a property")
        return Option(name, self._render_value(name), self.since(start))

    def _render_value(self, name: str) -> Expr:
        """A word, a value, or several columns as a dynamic list."""
        begin = self.token
        if begin.kind != "name" or self.ahead().text == "(":
            return self.expression()
        first = self.name("a name")
        names = [first.name]
        while name in _RENDER_LISTS and self.token.text == "," and self.ahead(1 + self.names_ahead(1)).text != "=":
            self.take()
            names.append(self.name("the name of a column").name)
        return first if len(names) == 1 else Literal(names, "dynamic", self.since(begin.start))

    def _as(self, word: str, start: int) -> As:
        self._options()
        return As(self.name("a name after as"), self.since(start))

    def _getschema(self, word: str, start: int) -> Getschema:
        options = self._options(frozenset({"kind"}), word)
        return Getschema(options, self.since(start))

    def _evaluate(self, word: str, start: int) -> Evaluate:
        options = self._options()
        call = self._plain_call("the name of a plugin after evaluate")
        schema = self.row_schema("after ':'") if self.accept(":") else None
        return Evaluate(options, call, schema, self.since(start))

    def _plain_call(self, purpose: str) -> Call:
        name = self.name(purpose)
        if self.token.text != "(":
            raise self.wrong(f"Expected '(' after {name.name}, found {self.shown()}.")
        return self.call(name)

    def _invoke(self, word: str, start: int) -> Invoke:
        call = self._plain_call("the name of a function after invoke")
        while self.accept("."):
            name = self.name("the name of a function after '.'")
            if self.token.text != "(":
                raise self.wrong(f"Expected '(' after {name.name}, found {self.shown()}.")
            call = self.call(name, call)
        return Invoke(call, self.since(start))

    def _partition(self, word: str, start: int) -> Partition:
        options = self._options(frozenset(), word)
        self.expect("by", "after partition")
        by = self.column_path()
        if self.token.text == "in":
            raise unsupported("A scope of partition is not supported.", self.token.span)
        if self.token.text != "{":
            body = self._sub_pipe("or '{' before the sub-query")
            return Partition(options, by, body, self.since(start))
        self.take()
        self.enter()
        query = self.tabular()
        self.depth -= 1
        self.expect("}", "after the sub-query")
        body = query if isinstance(query, Pipe) else Pipe(query, (), query.span)
        return Partition(options, by, body, self.since(start))

    def _fork(self, word: str, start: int) -> Fork:
        branches: list[tuple[Name | None, Pipe]] = []
        while True:
            size = self.names_ahead(0)
            name = None
            if size and self.ahead(size).text == "=":
                name = self.name("a name")
                self.take()
            elif branches and self.token.text != "(":
                break
            branches.append((name, self._sub_pipe("before a branch of fork")))
        return Fork(tuple(branches), self.since(start))

    def _facet(self, word: str, start: int) -> Facet:
        self.expect("by", "after facet")
        columns = self.items(self.column_path)
        body = None
        if self.accept("with"):
            if self.token.text == "(":
                body = self._sub_pipe("after with")
            else:
                at = self.token.start
                self.enter()
                operator = self._operator()
                self.depth -= 1
                body = Pipe(Missing(Span(at, at)), (operator,), operator.span)
        return Facet(columns, body, self.since(start))

    def _search(self, word: str, start: int) -> Search:
        options = self._options(frozenset({"kind"}))
        tables = self._in_tables()
        return Search(options, tables, self._predicate(), self.since(start))

    def _in_tables(self) -> tuple[Expr, ...]:
        if self.token.text == "datascope":
            raise unsupported("datascope is not supported.", self.token.span)
        if self.token.text != "in" or self.ahead().text != "(":
            return ()
        self.take()
        self.take()
        self.enter()
        tables = self.items(self._find_table)
        self.depth -= 1
        self.expect(")", "after the tables")
        return tables

    def _find_table(self) -> Expr:
        table = self._entity()
        if self.token.text != "|":
            return table
        return Pipe(table, self.operators(), self.since(table.span.start))

    def _predicate(self) -> Expr:
        outer, self.takes_stars = self.takes_stars, True
        try:
            return self.expression()
        finally:
            self.takes_stars = outer

    def _find(self, word: str, start: int) -> Find:
        if self.token.text == "datascope":
            raise unsupported("datascope is not supported.", self.token.span)
        options = self._options(frozenset({"withsource", "with_source"}))
        tables = self._in_tables()
        if tables or options:
            self.expect("where", "before the condition of find")
        else:
            self.accept("where")
        predicate = self._predicate()
        columns: tuple[Expr, ...] | None = None
        away: tuple[Expr, ...] = ()
        pack_all = False
        while self.token.text in ("project", "__projectAway"):
            clause = self._hyphenated()
            if clause == "project-smart":
                continue
            if clause not in ("project", "project-away", "__projectAway"):
                raise self.wrong(f"find has no {clause!r}.")
            found = self.items(self._find_column)
            if clause != "project":
                away = found
                continue
            columns = tuple(column for column in found if not isinstance(column, Call))
            pack_all = len(columns) < len(found)
        return Find(options, tables, predicate, columns, away, pack_all, self.since(start))

    def _find_column(self) -> Expr:
        """``a``, ``a:string`` as a named type, ``*``, and ``pack(*)`` or ``pack_all()`` as a call."""
        if self.token.text == "*":
            return Star(self.take().span)
        name = self.name("the name of a column")
        if self.token.text == "(":
            if name.name not in ("pack", "pack_all"):
                raise self.wrong(f"Expected a column, found a call of {name.name}.")
            return self.call(name)
        if not self.accept(":"):
            return name
        type_ = self.token
        return Named(name, Name(self.type_name(), type_.span), self.since(name.span.start))

    def _reduce(self, word: str, start: int) -> Reduce:
        options = self._options(_REDUCE_OPTIONS, word)
        self.expect("by", "after reduce")
        value = self.item()
        if self.accept("with"):
            options += self._property_list(_REDUCE_OPTIONS, word)
        return Reduce(value, options, self.since(start))

    def _make_series(self, word: str, start: int) -> MakeSeries:
        options = self._options(frozenset({"kind"}))
        items = self.items(self._series_item)
        self.expect("on", "after the aggregates of make-series")
        axis = self.item()
        low = high = None
        in_range = self.accept("in")
        if in_range:
            self.expect("range", "after in")
            self.expect("(", "after range")
            low = self.expression()
            self.expect(",", "after the start")
            high = self.expression()
            self.expect(",", "after the end")
            step = self.expression()
            self.expect(")", "after the step")
        else:
            low = self.expression() if self.accept("from") else None
            high = self.expression() if self.accept("to") else None
            self.expect("step", "or 'in range(...)' after the axis of make-series")
            step = self.expression()
        by = self.items(self.item) if self.accept("by") else ()
        return MakeSeries(options, items, axis, low, high, step, by, self.since(start), in_range)

    def _series_item(self) -> SeriesItem:
        aggregate = self.item()
        default = None
        if self.accept("default"):
            self.expect("=", "after default")
            default = self.expression()
        return SeriesItem(aggregate, default)

    def _scan(self, word: str, start: int) -> Scan:
        options = self._options(frozenset({"with_match_id", "kind", "with_step_name"}), word)
        order: tuple[SortKey, ...] = ()
        partition: tuple[Expr, ...] = ()
        declarations: tuple[ScanDeclaration, ...] = ()
        while self.token.text in ("order", "partition"):
            clause = self.take().text
            self.expect("by", f"after {clause}")
            if clause == "order":
                order = self.items(self._sort_key)
            else:
                partition = self.items(self.expression)
        if self.accept("declare"):
            self.expect("(", "after declare")
            declarations = () if self.token.text == ")" else self.items(self._scan_declaration)
            self.expect(")", "after the columns of scan")
        self.expect("with", "before the steps of scan")
        self.expect("(", "before the steps of scan")
        steps: list[ScanStep] = []
        while self.token.text == "step":
            steps.append(self._scan_step())
        if not steps:
            raise self.wrong(f"Expected a step, found {self.shown()}.")
        self.expect(")", "after the steps of scan")
        return Scan(options, order, partition, declarations, tuple(steps), self.since(start))

    def _scan_declaration(self) -> ScanDeclaration:
        name = self.name("the name of a column")
        self.expect(":", "after the name of a column")
        type_ = self.type_name()
        return ScanDeclaration(name, type_, self.expression() if self.accept("=") else None)

    def _scan_step(self) -> ScanStep:
        start = self.take().start
        name = self.name("the name of a step")
        is_optional = self.accept("optional")
        output = "all"
        if self.accept("output"):
            self.expect("=", "after output")
            if self.token.text not in ("all", "last", "none"):
                raise self.wrong(f"Expected all, last or none, found {self.shown()}.")
            output = self.take().text
        self.expect(":", "before the condition of the step")
        condition = self.expression()
        assignments = self.items(self._assignment) if self.accept("=>") else ()
        self.expect(";", "after the step")
        return ScanStep(name, is_optional, output, condition, assignments, self.since(start))

    def _assignment(self) -> Named:
        name = self.name("the name of a column")
        self.expect("=", "after the name of a column")
        value = self.expression()
        return Named(name, value, self.since(name.span.start))

    def _assert_schema(self, word: str, start: int) -> AssertSchema:
        return AssertSchema(self.row_schema("after assert-schema"), self.since(start))

    def _consume(self, word: str, start: int) -> Consume:
        return Consume(self._options(frozenset({"decodeblocks"}), word), self.since(start))

    # -- graphs ---------------------------------------------------------------------------------------------------

    def _signs(self, text: str) -> bool:
        """Whether the signs ``text`` follow, one token each; they are taken then."""
        if all(self.ahead(place).text == sign for place, sign in enumerate(text)):
            for _ in text:
                self.take()
            return True
        return False

    def _make_graph(self, word: str, start: int) -> MakeGraph:
        options = self._options(frozenset(), word)
        source = self.name("the column of the source")
        is_directed = self._signs("-->")
        if not is_directed and not self._signs("--"):
            raise self.wrong(f"Expected '-->' or '--' after the source, found {self.shown()}.")
        target = self.name("the column of the target")
        nodes: tuple[tuple[Expr, Name], ...] = ()
        node_id = partition = None
        if self.accept("with_node_id"):
            self.expect("=", "after with_node_id")
            node_id = self.name("a name")
        elif self.accept("with"):
            nodes = self.items(self._graph_nodes)
        if self.token.text == "partitioned" and self.ahead().text == "-":
            self._hyphenated()
            column = self.name("the column to partition by")
            body = self._sub_pipe("before the sub-query")
            partition = Pipe(column, body.operators, self.since(column.span.start))
        return MakeGraph(options, source, target, is_directed, nodes, node_id, partition, self.since(start))

    def _graph_nodes(self) -> tuple[Expr, Name]:
        table = self.postfix()
        self.expect("on", "after the table of nodes")
        return table, self.name("the column that identifies a node")

    def _graph_match(self, word: str, start: int) -> GraphMatch:
        is_shortest = word == "graph-shortest-paths"
        options = self._options(frozenset({"cycles", "output"} if is_shortest else {"cycles"}), word)
        patterns = self.items(self._graph_pattern)
        condition = self.expression() if self.accept("where") else None
        project = self.items(self.item) if self.accept("project") else ()
        return GraphMatch(options, patterns, condition, project, is_shortest, self.since(start))

    def _graph_pattern(self) -> tuple[GraphNode | GraphEdge, ...]:
        found: list[GraphNode | GraphEdge] = [self._graph_node()]
        while self.token.text in ("-", "<"):
            found.append(self._graph_edge())
            found.append(self._graph_node())
        return tuple(found)

    def _graph_node(self) -> GraphNode:
        start = self.expect("(", "before a node").start
        name = "" if self.token.text == ")" else self.name("the name of a node").name
        self.expect(")", "after the node")
        return GraphNode(name, self.since(start))

    def _graph_edge(self) -> GraphEdge:
        start = self.token.start
        for text, direction in (("-->", "out"), ("<--", "in"), ("--", "any")):
            if self._signs(text):
                return GraphEdge("", direction, None, None, self.since(start))
        is_inward = self._signs("<-[")
        if not is_inward and not self._signs("-["):
            raise self.wrong(f"Expected an edge such as -[e]->, found {self.shown()}.")
        name = "" if self.token.text in ("*", "]") else self.name("the name of an edge").name
        low = high = None
        if self.accept("*"):
            low = self.postfix()
            self.expect("..", "between the least and greatest number of edges")
            high = self.postfix()
        self.expect("]", "after the edge")
        self.expect("-", "after ']'")
        direction = "in" if is_inward else "out" if self.accept(">") else "any"
        return GraphEdge(name, direction, low, high, self.since(start))

    def _graph_to_table(self, word: str, start: int) -> GraphToTable:
        return GraphToTable(self.items(self._graph_output), self.since(start))

    def _graph_output(self) -> tuple[str, Name | None, tuple[Option, ...]]:
        if self.token.text not in ("nodes", "edges"):
            raise self.wrong(f"Expected nodes or edges, found {self.shown()}.")
        of = self.take().text
        name = self.name("a name after as") if self.accept("as") else None
        known = {"with_node_id"} if of == "nodes" else {"with_source_id", "with_target_id"}
        return of, name, self._options(frozenset(known), f"graph-to-table {of}")

    def _graph_mark_components(self, word: str, start: int) -> GraphMarkComponents:
        return GraphMarkComponents(self._options(frozenset({"kind", "with_component_id"}), word), self.since(start))

    def _graph_where(self, word: str, start: int) -> GraphWhere:
        return GraphWhere(word.rpartition("-")[2], self.expression(), self.since(start))

    # -- sources --------------------------------------------------------------------------------------------------

    def _print(self) -> Print:
        start = self.take().start
        return Print(self.items(self.item), self.since(start))

    def _range(self) -> Range:
        start = self.take().start
        name = self.name("the name of a column")
        self.expect("from", "after the name of the column")
        low = self.expression()
        self.expect("to", "after the start")
        high = self.expression()
        self.expect("step", "after the end")
        return Range(name, low, high, self.expression(), self.since(start))


_ORDERS: Final = frozenset({"asc", "desc", "granny"})
_JOIN_OPTIONS: Final = frozenset({"kind"})
_UNION_OPTIONS: Final = frozenset({"kind", "withsource", "with_source", "isfuzzy", "__isFuzzy", "best_effort"})
_EXPAND_OPTIONS: Final = frozenset({"kind", "bagexpansion", "with_itemindex"})
_PARSE_OPTIONS: Final = frozenset({"kind", "flags"})
_KV_OPTIONS: Final = frozenset({"pair_delimiter", "kv_delimiter", "regex", "quote", "escape", "greedy"})
_REDUCE_OPTIONS: Final = frozenset({"kind", "threshold", "characters"})
_RENDER_LISTS: Final = frozenset({"ycolumns", "anomalycolumns", "series", "by"})
_RENDER_OPTIONS: Final = frozenset(
    {
        *("accumulate", "anomalycolumns", "kind", "legend", "series", "title", "xaxis", "xcolumn", "xmax", "xmin"),
        *("xtitle", "yaxis", "ycolumns", "ymax", "ymin", "ysplit", "ytitle"),
    }
)
_UNSUPPORTED: Final = frozenset(
    {"__executeAndCache", "__partitionby", "execute_and_cache", "inline_external_table", "macro-expand"}
)
"""Operators that are KQL and never anything but refused."""

_OPERATORS: Final[dict[str, Callable[[Operators, str, int], Operator]]] = {
    "as": Operators._as,
    "assert-schema": Operators._assert_schema,
    "consume": Operators._consume,
    "count": Operators._count,
    "distinct": Operators._distinct,
    "evaluate": Operators._evaluate,
    "extend": Operators._extend,
    "facet": Operators._facet,
    "filter": Operators._where,
    "find": Operators._find,
    "fork": Operators._fork,
    "getschema": Operators._getschema,
    "graph-mark-components": Operators._graph_mark_components,
    "graph-match": Operators._graph_match,
    "graph-shortest-paths": Operators._graph_match,
    "graph-to-table": Operators._graph_to_table,
    "graph-where-edges": Operators._graph_where,
    "graph-where-nodes": Operators._graph_where,
    "invoke": Operators._invoke,
    "join": Operators._join,
    "limit": Operators._take_rows,
    "lookup": Operators._join,
    "make-graph": Operators._make_graph,
    "make-series": Operators._make_series,
    "mv-apply": Operators._mv_apply,
    "mv-expand": Operators._mv_expand,
    "mvapply": Operators._mv_apply,
    "mvexpand": Operators._mv_expand,
    "order": Operators._sort,
    "parse": Operators._parse,
    "parse-kv": Operators._parse_kv,
    "parse-where": Operators._parse,
    "partition": Operators._partition,
    "project": Operators._project,
    "project-away": Operators._project_away,
    "project-by-names": Operators._project_by_names,
    "project-keep": Operators._project_keep,
    "project-rename": Operators._project_rename,
    "project-reorder": Operators._project_reorder,
    "reduce": Operators._reduce,
    "render": Operators._render,
    "sample": Operators._sample,
    "sample-distinct": Operators._sample_distinct,
    "scan": Operators._scan,
    "search": Operators._search,
    "serialize": Operators._serialize,
    "sort": Operators._sort,
    "summarize": Operators._summarize,
    "take": Operators._take_rows,
    "top": Operators._top,
    "top-hitters": Operators._top_hitters,
    "top-nested": Operators._top_nested,
    "union": Operators._union,
    "where": Operators._where,
}
"""Every tabular operator. Adding one: its tree in ``ast.py``, its entry here, its meaning in ``bind``."""
