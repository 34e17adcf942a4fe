"""Tokens to expressions.

Precedence climbing over one table of operators, loosest first: or, and, the equalities and lists, the orders, sums,
products, and tightest the string operators, so that ``a has "b" + "c"`` is a sum, as it is for Kusto. Pipes inside
expressions are left to ``parser.py``, which is built upon this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from watchfloor.kql.ast import (
    Between,
    Binary,
    Call,
    Datatable,
    Expr,
    Externaldata,
    Index,
    Literal,
    Logical,
    Member,
    Membership,
    Name,
    Named,
    NameList,
    RowSchema,
    Star,
    TypedName,
    Unary,
    Wildcard,
)
from watchfloor.kql.errors import KqlError, Span, nearest, unsupported
from watchfloor.kql.lexer import LITERAL_TYPES, NOW, Token
from watchfloor.kql.values import MAX_LONG, MIN_LONG, format_datetime

MAX_DEPTH: Final = 64
"""How deep parentheses, calls, pipes, dynamic literals and the right hands of operators may nest."""

MAX_HEIGHT: Final = 160
"""How many nodes of the tree may stand below each other: a long chain such as ``a + b + c`` is deep without nesting."""

MAX_ARGUMENTS: Final = 4096

_OR, _AND, _EQUALITY, _ORDER, _SUM, _PRODUCT, _STRING = range(1, 8)
_CHAINED: Final = frozenset({_SUM, _PRODUCT})
_LISTS: Final = frozenset({"in", "!in", "in~", "!in~", "has_any", "has_all"})
_BETWEEN: Final = frozenset({"between", "!between"})
_STRING_WORDS: Final = frozenset(
    prefix + word + suffix
    for word in ("has", "contains", "startswith", "endswith", "hasprefix", "hassuffix")
    for prefix in ("", "!")
    for suffix in ("", "_cs")
)
_RESPELT: Final = {
    "<>": "!=",
    "containscs": "contains_cs",
    "notcontains": "!contains",
    "notcontainscs": "!contains_cs",
}
POWERS: Final[dict[str, int]] = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("==", "!=", "<>", *_LISTS, *_BETWEEN), _EQUALITY),
    **dict.fromkeys(("<", "<=", ">", ">="), _ORDER),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "%"), _PRODUCT),
    **dict.fromkeys(
        (
            *_STRING_WORDS,
            *_RESPELT.keys() - {"<>"},
            "=~",
            "!~",
            ":",
            "matches",
            "like",
            "notlike",
            "likecs",
            "notlikecs",
        ),
        _STRING,
    ),
}
"""How tightly each operator binds."""

RESERVED: Final = frozenset(word for word in POWERS if word.isidentifier() and word != "matches") | {
    "as", "asc", "by", "datatable", "desc", "externaldata", "external_data", "of", "project", "set",
    "union", "where",
}  # fmt: skip
"""Words that name a column or table only in brackets: without them it is nearly always something forgotten."""

_FOLLOWERS: Final = frozenset({",", ")", "]", "}", "|", ";"})
"""What may follow an expression and can be no part of it."""

TYPES: Final[dict[str, str]] = {
    "bool": "bool",
    "boolean": "bool",
    "date": "datetime",
    "datetime": "datetime",
    "decimal": "decimal",
    "double": "real",
    "float": "real",
    "real": "real",
    "dynamic": "dynamic",
    "guid": "guid",
    "uniqueid": "guid",
    "uuid": "guid",
    **dict.fromkeys(("int", "int8", "int16", "int32", "uint", "uint8", "uint16", "uint32"), "int"),
    **dict.fromkeys(("long", "int64", "uint64", "ulong"), "long"),
    "string": "string",
    "time": "timespan",
    "timespan": "timespan",
    "DateTime": "datetime",  # as Microsoft's own library of functions writes it
}
"""Every word for a type, and KQL's own."""


class Expressions:
    """Reads expressions from tokens. What cannot be read raises; what is only wrong is added to ``errors``."""

    def __init__(self, tokens: list[Token], errors: list[KqlError]) -> None:
        self.tokens, self.errors = tokens, errors
        self.at = 0
        self.token = tokens[0]
        self.depth = self.deepest = self.chained = 0
        self.takes_stars = False

    # -- tokens ---------------------------------------------------------------------------------------------------

    def take(self) -> Token:
        """The next token, behind which reading goes on."""
        token = self.token
        if token.kind != "end":
            self.at += 1
            self.token = self.tokens[self.at]
        return token

    def accept(self, text: str) -> bool:
        """Whether the next token is ``text``; it is taken then."""
        if self.token.text != text:
            return False
        self.take()
        return True

    def expect(self, text: str, purpose: str) -> Token:
        """Take ``text``. ``purpose`` ends the sentence that begins with "Expected"."""
        if self.token.text != text:
            raise self.wrong(f"Expected {text!r} {purpose}, found {self.shown()}.")
        return self.take()

    def ahead(self, count: int = 1) -> Token:
        """The token ``count`` behind the next one."""
        return self.tokens[min(self.at + count, len(self.tokens) - 1)]

    def adjoins(self) -> bool:
        """Whether the next token stands directly behind the one before."""
        return self.tokens[self.at - 1].end == self.token.start

    def shown(self) -> str:
        """The next token in words."""
        return self.token.text if self.token.kind == "end" else repr(self.token.text[:40])

    def since(self, start: int) -> Span:
        """From character ``start`` to the end of the last token that was taken."""
        return Span(start, self.tokens[self.at - 1].end)

    def wrong(self, message: str, remedy: str = "") -> KqlError:
        """A syntax error at the next token."""
        return KqlError(message, self.token.span, remedy=remedy, kind="syntax")

    def enter(self) -> None:
        """One level deeper; whoever calls it counts ``depth`` down again."""
        self.depth += 1
        if self.depth > self.deepest:
            self.deepest = self.depth
            if self.depth > MAX_DEPTH:
                raise KqlError(f"A query may be nested at most {MAX_DEPTH} deep.", self.token.span, kind="limit")

    # -- what is built upon this ----------------------------------------------------------------------------------

    def tabular(self) -> Expr:
        """An expression or a pipe."""
        raise NotImplementedError

    # -- operators ------------------------------------------------------------------------------------------------

    def expression(self) -> Expr:
        """An expression without a name and without a pipe."""
        kind = self.token.kind
        if (kind == "name" or kind == "literal") and self.tokens[self.at + 1].text in _FOLLOWERS:
            return self._primary()  # most are a single word
        return self._climb(_OR)

    def _climb(self, least: int) -> Expr:
        """An expression of operators that bind at least as tightly as ``least``."""
        left = self._unary()
        most = _STRING
        while True:
            word = self.token.text
            power = POWERS.get(word)
            if power is None or power < least:
                return left
            if power > most:
                raise self.wrong(f"{self.shown()} cannot follow another comparison.", "Use 'and', or parentheses.")
            start = left.span.start
            if power <= _AND:
                self.enter()
                operands = [left]
                while self.token.text == word:
                    self.take()
                    operands.append(self._climb(power + 1))
                self.depth -= 1
                left = Logical(word, tuple(operands), self.since(start))
                most = power
            elif power in _CHAINED:
                self.take()
                self.chained += 1
                self.enter()
                right = self._climb(power + 1)
                self.depth -= 1
                left = Binary(word, left, right, self.since(start))
                most = power
            elif word in _LISTS:
                if word == "in" and self.ahead().text == "range":  # of make-series
                    return left
                self.take()
                items = self._parenthesised_items(f"after {word}")
                left = Membership(word, left, items, self.since(start))
                most = _AND
            elif word in _BETWEEN:
                self.take()
                self.expect("(", f"after {word}")
                self.enter()
                low = self.expression()
                self.expect("..", "between the two ends")
                high = self.expression()
                self.depth -= 1
                self.expect(")", "after the range")
                left = Between(left, low, high, word == "!between", self.since(start))
                most = _AND
            else:
                operator = self._comparison()
                self.enter()
                right = self._unary() if power == _STRING else self._climb(power + 1)
                self.depth -= 1
                left = Binary(operator, left, right, self.since(start))
                most = power - 1

    def _comparison(self) -> str:
        word = self.take().text
        if word == "matches":
            self.expect("regex", "after matches")
            return "matches regex"
        return _RESPELT.get(word, word)

    def _unary(self) -> Expr:
        sign = self.token
        if sign.text == "-" or sign.text == "+":
            self.take()
            number = self.token
            is_number = number.type in ("long", "real", "timespan") and number.text[0].isdigit()
            if is_number and self.ahead().text not in (".", "["):  # a path binds more tightly than the sign
                return self.signed(sign)
            return Unary(sign.text, self.postfix(), self.since(sign.start))
        if sign.text == "*" and (self.takes_stars or POWERS.get(self.ahead().text) in (_STRING, _EQUALITY)):
            self.take()
            return Star(sign.span)
        return self.postfix()

    def signed(self, sign: Token) -> Literal:
        """The number behind ``sign``, which is taken."""
        number = self.take()
        value = -number.value if sign.text == "-" else number.value
        return self._in_range(value, number.type, Span(sign.start, number.end))

    def _in_range(self, value: Any, type_: str, span: Span) -> Literal:
        if type_ == "long" and value is not None and not MIN_LONG <= value <= MAX_LONG:
            self.errors.append(KqlError("This number is larger than a long.", span, kind="syntax"))
        return Literal(value, type_, span)

    # -- paths ----------------------------------------------------------------------------------------------------

    def postfix(self) -> Expr:
        """A primary expression and the path behind it."""
        value = self._primary()
        while True:
            text = self.token.text
            if text == ".":
                value = self._member(value)
            elif text == "[":
                value = self._index(value)
            else:
                return value
            self.chained += 1

    def column_path(self) -> Expr:
        """A column and the path into it: a parenthesis behind it is none of a call."""
        value: Expr = self.name("the name of a column")
        while self.token.text in (".", "["):
            if self.token.text == "[":
                value = self._index(value)
            else:
                self.take()
                value = Member(value, self.name("a name after '.'").name, self.since(value.span.start))
            self.chained += 1
        return value

    def _member(self, base: Expr) -> Expr:
        self.take()
        if self.token.text == "[" and self.ahead().type != "string":
            return self._index(base)
        if self.token.text == "*" or (self.ahead().text == "*" and self.ahead().start == self.token.end):
            raise unsupported("A wildcard behind a dot is not supported.", self.token.span)
        name = self.name("a name after '.'")
        if self.token.text == "(":
            return self.call(name, base)
        return Member(base, name.name, self.since(base.span.start))

    def _index(self, base: Expr) -> Index:
        self.take()
        self.enter()
        index = self.expression()
        self.depth -= 1
        self.expect("]", "after the index")
        return Index(base, index, self.since(base.span.start))

    # -- names ----------------------------------------------------------------------------------------------------

    def name(self, purpose: str) -> Name:
        """A name, or a string in brackets; any word will do where only a name can stand."""
        token = self.token
        if token.kind == "name":
            self.take()
            return Name(token.text, token.span)
        if self.begins_quoted_name():
            self.take()
            text = self.string().value
            self.expect("]", "after the name")
            return Name(text, self.since(token.start), True)
        raise self.wrong(f"Expected {purpose}, found {self.shown()}.")

    def begins_quoted_name(self) -> bool:
        """Whether ``['...']`` follows."""
        if self.token.text != "[":
            return False
        ahead = 1
        while self.ahead(ahead).type == "string":
            ahead += 1
        return ahead > 1 and self.ahead(ahead).text == "]"

    def names_ahead(self, ahead: int) -> int:
        """How many tokens the name there takes, 0 if none is there."""
        token = self.ahead(ahead)
        if token.kind == "name":
            return 1
        if token.text != "[":
            return 0
        size = 1
        while self.ahead(ahead + size).type == "string":
            size += 1
        return size + 1 if size > 1 and self.ahead(ahead + size).text == "]" else 0

    def wildcard(self) -> Wildcard | Star | None:
        """A name with ``*`` in it, or ``*`` alone; None, taking nothing, if neither follows."""
        token = self.token
        if token.text != "*":
            following = self.ahead()
            if token.kind != "name" or following.text != "*" or following.start != token.end:
                return None
        first = self.at
        self.take()
        while self.adjoins() and (self.token.text == "*" or self.token.kind == "name" or self.token.type == "long"):
            self.take()
        span = self.since(token.start)
        pattern = "".join(part.text for part in self.tokens[first : self.at])
        return Star(span) if pattern == "*" else Wildcard(pattern, span)

    # -- items and arguments --------------------------------------------------------------------------------------

    def item(self) -> Expr:
        """An expression that may be named: ``a``, ``a = b``, ``(a, b) = c``."""
        size = self.names_ahead(0)
        if size and self.ahead(size).text == "=":
            name = self.name("a name")
            self.take()
            value = self.expression()
            return Named(name, value, self.since(name.span.start))
        if self.token.text == "(" and (names := self._name_list()) is not None:
            return names
        value = self.expression()
        if self.token.text == "=":
            raise self.wrong("Only a name may stand before '='.", "To compare, write '=='.")
        return value

    def _name_list(self) -> NameList | None:
        ahead = 1
        while size := self.names_ahead(ahead):
            ahead += size
            if self.ahead(ahead).text != ",":
                break
            ahead += 1
        if self.ahead(ahead).text != ")" or self.ahead(ahead + 1).text != "=" or ahead == 1:
            return None
        start = self.take().start
        names = [self.name("a name")]
        while self.accept(","):
            names.append(self.name("a name"))
        self.take()
        self.take()
        return NameList(tuple(names), self.expression(), self.since(start))

    def items(self, of: Callable[[], Any]) -> tuple[Any, ...]:
        """One or more, with commas between them."""
        found = [of()]
        while self.token.text == ",":
            self.take()
            found.append(of())
            if len(found) > MAX_ARGUMENTS:
                raise KqlError(f"A list has at most {MAX_ARGUMENTS} elements.", self.token.span, kind="limit")
        return tuple(found)

    def _parenthesised_items(self, purpose: str) -> tuple[Expr, ...]:
        self.expect("(", purpose)
        self.enter()
        items = self.items(self.tabular)
        self.depth -= 1
        self.expect(")", "after the list")
        return items

    def call(self, name: Name, base: Expr | None = None) -> Call:
        """The arguments behind ``name``."""
        start = name.span.start if base is None else base.span.start
        self.take()
        self.enter()
        arguments = () if self.token.text == ")" else self.items(self._argument)
        self.depth -= 1
        self.expect(")", f"after the arguments of {name.name}")
        return Call(name.name, arguments, self.since(start), name.span, base)

    def _argument(self) -> Expr:
        token = self.token
        if token.text == "*" and self.ahead().text in (",", ")"):
            return Star(self.take().span)
        size = self.names_ahead(0)
        if size and self.ahead(size).text == "=":
            name = self.name("a name")
            self.take()
            value = self.tabular()
            return Named(name, value, self.since(token.start))
        return self.tabular()

    # -- primary expressions --------------------------------------------------------------------------------------

    def _primary(self) -> Expr:
        token = self.token
        if token.kind == "name":
            special = SPECIAL.get(token.text)
            if special is not None:
                found = special(self)
                if found is not None:
                    return found
            if token.text in RESERVED:
                raise self.wrong(
                    f"Expected an expression, found {self.shown()}.",
                    f"A column or table of that name is written ['{token.text}'].",
                )
            self.take()
            name = Name(token.text, token.span)
            if self.token.text != "(":
                return name
            if token.text in LITERAL_TYPES:
                raise self.wrong(f"Expected '(' directly after {token.text}.")
            return self.call(name)
        if token.kind == "literal":
            return self.literal()
        if token.text == "(":
            self.take()
            self.enter()
            value = self.tabular()
            self.depth -= 1
            self.expect(")", "to close the parenthesis")
            return value
        if self.begins_quoted_name():
            name = self.name("a name")
            return self.call(name) if self.token.text == "(" else name
        is_number = token.text == "." and self.ahead().type == "long" and self.ahead().start == token.end
        remedy = f"Write 0.{self.ahead().text}." if is_number else ""
        raise self.wrong(f"Expected an expression, found {self.shown()}.", remedy)

    def literal(self) -> Expr:
        """A literal, where one is known to follow. Strings that follow each other are one."""
        token = self.token
        if token.type == "string":
            return self.string()
        self.take()
        if token.value is NOW and token.type == "datetime":
            return Call("now", (), token.span, token.span)
        if token.type == "raw guid":
            self.errors.append(
                KqlError(
                    "A guid is written in parentheses.", token.span, remedy=f"Write guid({token.text}).", kind="syntax"
                )
            )
            return Literal(token.value, "guid", token.span)
        return self._in_range(token.value, token.type, token.span)

    def string(self) -> Literal:
        """One or more string literals, which are one value."""
        start = self.token.start
        value, is_obfuscated = "", False
        while self.token.type == "string":
            token = self.take()
            value += token.value
            is_obfuscated = is_obfuscated or token.text[0] in "hH"
        return Literal(value, "string", self.since(start), is_obfuscated)

    # -- dynamic literals -----------------------------------------------------------------------------------------

    def dynamic(self) -> Expr | None:
        """``dynamic(...)``; None if it is only the word."""
        if self.ahead().text != "(":
            return None
        start = self.take().start
        self.take()
        value = self._json()
        self.expect(")", "after the dynamic value")
        return Literal(value, "dynamic", self.since(start))

    def _json(self) -> Any:
        token = self.token
        if token.text == "[":
            return self._json_list()
        if token.text == "{":
            return self._json_object()
        if token.kind == "literal":
            return self._json_literal()
        if token.text == "-":
            self.take()
            if self.token.type not in ("long", "real") or not self.token.text[0].isdigit():
                raise self.wrong(f"Expected a number after '-', found {self.shown()}.")
            number = -self.take().value
            return number if isinstance(number, float) or number >= MIN_LONG else float(number)
        if token.text == "null":
            self.take()
            return None
        if token.text == "dynamic" and self.ahead().text == "(":
            self.enter()
            nested = self.dynamic()
            self.depth -= 1
            assert isinstance(nested, Literal)
            return nested.value
        raise self.wrong(
            f"Expected a JSON value, found {self.shown()}.",
            "Text stands in quotes, also the names of properties." if token.kind == "name" else "",
        )

    def _json_literal(self) -> Any:
        token = self.token
        if token.type == "string":
            return self.string().value
        value, is_typed = token.value, token.text[-1] == ")"
        if value is NOW or (value is None and token.type != "long"):
            remedy = "Write null." if value is None else ""
            raise self.wrong(f"{token.text} cannot stand in a dynamic value.", remedy)
        if is_typed and (token.type in ("bool", "int", "decimal") or value in (math.inf, -math.inf)):
            raise unsupported(f"{token.text} in a dynamic value is not supported.", token.span)
        self.take()
        if token.type == "datetime":
            return format_datetime(value)
        if token.type == "long" and value is not None and value > MAX_LONG:
            return float(value)
        return "NaN" if value != value else value  # a timespan is its ticks here

    def _json_list(self) -> list[Any]:
        self.take()
        self.enter()
        values: list[Any] = []
        if self.token.text != "]":
            values.append(self._json())
            while self.accept(","):
                values.append(self._json())
        self.depth -= 1
        self.expect("]", "after the elements")
        return values

    def _json_object(self) -> dict[str, Any]:
        self.take()
        self.enter()
        values: dict[str, Any] = {}
        while True:
            if self.token.text == "}" and not values:
                break
            if self.token.type != "string":
                raise self.wrong(f"Expected the name of a property in quotes, found {self.shown()}.")
            key = self.take().value
            self.expect(":", "after the name of a property")
            values[key] = self._json()
            if not self.accept(","):
                break
        self.depth -= 1
        self.expect("}", "after the properties")
        return values

    # -- types and schemas ----------------------------------------------------------------------------------------

    def type_name(self) -> str:
        """A word for a type, folded to KQL's own."""
        token = self.token
        type_ = TYPES.get(token.text)
        if type_ is None:
            remedy = nearest(token.text, TYPES) if token.kind == "name" else ""
            raise self.wrong(f"Expected a type, found {self.shown()}.", remedy or f"Types: {', '.join(_SHOWN_TYPES)}.")
        self.take()
        return type_

    def typed_name(self) -> TypedName:
        """``name : type``."""
        name = self.name("the name of a column")
        self.expect(":", "after the name of a column")
        type_ = self.type_name()
        return TypedName(name, type_, self.since(name.span.start))

    def row_schema(self, purpose: str) -> RowSchema:
        """``(name:type, ...)``, perhaps with ``*`` and with a comma too many at either end."""
        start = self.expect("(", purpose).start
        self.accept(",")
        columns: list[TypedName] = []
        star_at = None
        while self.token.text != ")":
            if self.token.text == "*" and star_at is None:
                self.take()
                star_at = len(columns)
            else:
                columns.append(self.typed_name())
            if len(columns) > MAX_ARGUMENTS:
                raise KqlError(f"A schema has at most {MAX_ARGUMENTS} columns.", self.token.span, kind="limit")
            if not self.accept(","):
                break
        self.expect(")", "after the columns")
        return RowSchema(tuple(columns), self.since(start), star_at)

    def typeof(self) -> Expr | None:
        """``typeof(type)`` as a call of ``typeof``; None if it is only the word."""
        if self.ahead().text != "(":
            return None
        word = self.take()
        if self.ahead().text in TYPES and self.ahead(2).text == ")":
            self.take()
            type_ = self.token
            argument: tuple[Expr, ...] = (Name(self.type_name(), type_.span),)
            self.take()
            return Call("typeof", argument, self.since(word.start), word.span)
        schema = self.row_schema("after typeof")
        arguments: list[Expr] = [Named(c.name, Name(c.type, c.span), c.span) for c in schema.columns]
        if schema.star_at is not None:
            arguments.insert(schema.star_at, Star(schema.span))
        return Call("typeof", tuple(arguments), self.since(word.start), word.span)

    # -- tables written out ---------------------------------------------------------------------------------------

    def _datatable(self) -> Expr:
        start = self.take().start
        columns = self.row_schema("after datatable").columns
        self.expect("[", "before the values")
        self.accept(",")
        self.enter()
        values: list[Expr] = []
        while self.token.text != "]":
            values.append(self.expression())
            if not self.accept(","):
                break
        self.depth -= 1
        self.expect("]", "after the values")
        return Datatable(columns, tuple(values), self.since(start))

    def _externaldata(self) -> Expr | None:
        word = self.token
        if self.ahead().text not in ("(", "kind"):
            return None
        self.take()
        while True:
            if self.token.text in ("(", "["):
                self.skip_group()
            elif self.token.kind != "end" and (
                self.token.text in ("with", "partition", "by", "pathformat", "dataformat", "kind", "=")
                or self.tokens[self.at - 1].text == "="
            ):
                self.take()
            else:
                return Externaldata(word.text, self.since(word.start))

    def skip_group(self) -> None:
        depth = 0
        while self.token.kind != "end":
            text = self.take().text
            depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
            if depth == 0:
                return
        raise self.wrong("A parenthesis or bracket is not closed.")

    def _with_kind(self) -> Expr | None:
        """``toscalar kind = nooptimization (...)``: an order to the engine, not to us."""
        if self.ahead().text != "kind" or self.ahead(2).text != "=":
            return None
        word = self.take()
        for _ in range(3):
            self.take()
        if self.token.text != "(":
            raise self.wrong(f"Expected '(' after {word.text}, found {self.shown()}.")
        return self.call(Name(word.text, word.span))

    def _not_supported(self) -> Expr | None:
        if self.ahead().text not in ("(", "["):
            return None
        raise unsupported(f"{self.shown()} is not supported.", self.token.span)


_SHOWN_TYPES: Final = sorted(set(TYPES.values()))
SPECIAL: Final[dict[str, Callable[[Expressions], Expr | None]]] = {
    "datatable": Expressions._datatable,
    "dynamic": Expressions.dynamic,
    "entity_group": Expressions._not_supported,
    "external_data": Expressions._externaldata,
    "external_table": Expressions._externaldata,
    "externaldata": Expressions._externaldata,
    "inline_external_table": Expressions._externaldata,
    "toscalar": Expressions._with_kind,
    "totable": Expressions._with_kind,
    "typeof": Expressions.typeof,
}
"""Words with a syntax of their own where an expression begins; None: it is a name like any other after all."""
