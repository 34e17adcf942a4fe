"""Patterns over text: parse, parse-where and parse-kv, each made one regular expression while binding."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir, regex
from watchfloor.kql.bind.projection import Projection, as_column, compute
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.tools import (
    after,
    empty,
    options,
    word,
)
from watchfloor.kql.errors import KqlError, Span, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

_INTEGER: Final = r"\s*[-+]?\d+"
_HEX: Final = "[0-9a-fA-F]"
_GUID_DIGITS: Final = "-?".join([f"{_HEX}{{8}}", *[f"{_HEX}{{4}}"] * 3, f"{_HEX}{{12}}"])
_GUID: Final = rf"\s*(?:\{{{_GUID_DIGITS}\}}|{_GUID_DIGITS})"

SIMPLE_SHAPES: Final = {
    "int": _INTEGER,
    "long": _INTEGER,
    "real": r"\s*[-+]?(?:\d+\.?\d*|\.\d+)",
    "decimal": r"\s*[-+]?(?:\d+\.?\d*|\.\d+)",
    "bool": r"\s*(?:[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[-+]?\d+)",
    "guid": _GUID,
}
"""What a typed column takes where nothing but ``*`` says where it ends."""

REGEX_SHAPES: Final = {
    "int": _INTEGER,
    "long": _INTEGER,
    "real": r"\s*[-+]?\d+(?:\.\d+)?",
    "decimal": r"\s*[-+]?\d+(?:\.\d+)?",
    "bool": r"\s*(?i:true|false)",
    "guid": _GUID,
    "datetime": r"\s*(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{1,4})"
    r"(?:[Tt ]\s*\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d*)?)?)?(?:[Zz]|[-+]\d{1,2}(?::\d{1,2})?)?",
    "timespan": r"\s*-?(?:\d+\.\d{1,2}:\d{1,2}:\d{1,2}|\d{1,2}:\d{1,2}(?::\d{1,2})?)(?:\.\d*)?",
}
"""What a typed column takes under kind=regex, wherever it stands."""


def parse(binder: Binder, rel: Rel, operator: ast.Parse, env: Env) -> Rel:
    """Columns out of a text, by a pattern."""
    what = "parse-where" if operator.is_where else "parse"
    kinds = ("simple", "regex") if operator.is_where else ("simple", "regex", "relaxed")
    given = options(operator.options, {"kind": kinds, "flags": None}, what)
    kind, flags = word(given.get("kind"), "simple"), word(given.get("flags"))
    if flags and kind != "regex":
        raise KqlError("flags are for kind=regex.", given["flags"].span)
    pattern, captures = _pattern(operator, kind, flags)
    text = binder.convert(binder.scalar(operator.value, rel, env), "string")
    if text.type == "unknown":
        text = empty("string")
    first: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    text = ir.Ref(as_column(binder, text, first))
    constant = ir.Const(pattern, "string")
    taken: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for _, number in captures:
        found = binder.apply("__parse", [text, constant, ir.Const(number, "long")], operator.span)
        taken.append((binder.new("string"), found))
    typed = [
        binder.convert(ir.Ref(column), capture.type) for (capture, _), (column, _) in zip(captures, taken, strict=True)
    ]
    relation: ir.Relation = compute(compute(rel.relation, first), taken)
    converted = [(binder.new(value.type), value) for value in typed if value.type != "string"]
    relation = compute(relation, converted)
    places = iter(column for column, _ in converted)
    values: list[ir.BoundColumn] = [
        column if capture.type == "string" else next(places)
        for (capture, _), (column, _) in zip(captures, taken, strict=True)
    ]
    tests = [binder.apply("isnotnull", [ir.Ref(column)], operator.span) for column, _ in converted]
    if kind == "relaxed":
        tests = []
    elif operator.is_where and not tests:
        tests = [binder.apply("__parse_matches", [text, constant], operator.span)]
    is_good: ir.Scalar | None = tests[0] if len(tests) == 1 else None
    if len(tests) > 1:
        is_good = ir.Junction("and", tuple(tests), is_nullable=False)
    if operator.is_where and is_good is not None:
        relation = ir.Filter(relation, is_good)
    elif is_good is not None and len(values) > 1:
        chosen: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        for place, column in enumerate(values):
            value = ir.Choice(((is_good, ir.Ref(column)),), empty(column.type), column.type)
            chosen.append((binder.new(column.type), value))
            values[place] = chosen[-1][0]
        relation = compute(relation, chosen)
    projection = Projection(binder, rel.columns)
    for (capture, _), column in zip(captures, values, strict=True):
        projection.declare(capture.name.name, column, capture.name.span, replace=True)
    return after(rel, relation, projection.columns)


def _pattern(operator: ast.Parse, kind: str, flags: str) -> tuple[str, list[tuple[ast.Capture, int]]]:
    """The regular expression, and which group of it each column is."""
    if unknown := sorted(set(flags) - set("ismU")):
        raise unsupported(f"The flag {unknown[0]} of parse is not supported.", operator.span)
    parts = [f"(?{flags})"] if flags else []
    captures: list[tuple[ast.Capture, int]] = []
    groups = 0
    pieces = operator.pattern
    for place, piece in enumerate(pieces):
        before = pieces[place - 1] if place else None
        follows = pieces[place + 1] if place + 1 < len(pieces) else None
        if isinstance(piece, ast.Literal):
            text = str(piece.value)
            if not text:
                raise KqlError("An empty string cannot stand in a pattern.", piece.span)
            if kind == "regex":
                groups += _groups(text, piece.span)
            parts.append(text if kind == "regex" else regex.quote(text))
        elif isinstance(piece, ast.Star):
            if follows is not None and not isinstance(follows, ast.Literal):
                raise KqlError("A string must follow the *.", piece.span)
            if isinstance(before, ast.Capture) and before.type == "string":
                raise KqlError(
                    f"* after the string column {before.name.name} does not say where the column ends.",
                    piece.span,
                    remedy="Put a string between them, or give the column a type.",
                )
            parts.append(".*?")
        else:
            if before is not None and not isinstance(before, ast.Literal):
                raise KqlError(f"The column {piece.name.name} must follow a string.", piece.name.span)
            groups += 1
            captures.append((piece, groups))
            is_last = place + 2 >= len(pieces)
            parts.append(f"({_taken(piece, kind, flags, follows, is_last)})")
    return "".join(parts) + ("" if kind == "regex" else "$"), captures


def _taken(capture: ast.Capture, kind: str, flags: str, follows: Any, is_last: bool) -> str:
    """What a column takes of the text, as a regular expression."""
    if kind == "regex":
        if capture.type in ("string", "dynamic"):
            return ".*"
        if capture.type in ("datetime", "timespan") and (follows is None or "U" in flags):
            raise unsupported(
                f"A {capture.type} at the end of a pattern of kind=regex, or with the flag U, is not supported.",
                capture.name.span,
                remedy="Put a string or * behind it.",
            )
        return REGEX_SHAPES[capture.type]
    if not isinstance(follows, ast.Star):
        return ".*?"
    shape = SIMPLE_SHAPES.get(capture.type)
    if shape is None:
        raise unsupported(
            f"* directly after a {capture.type} is not supported.", capture.name.span, remedy="Put a string between."
        )
    return f"(?:{shape})?" if is_last else shape


def _groups(text: str, span: Span) -> int:
    """How many groups a piece of a regular expression has."""
    try:
        return regex.compile(text).groups
    except regex.RegexError as error:
        raise KqlError(f"This is no regular expression: {error}", span) from None


def parse_kv(binder: Binder, rel: Rel, operator: ast.ParseKv, env: Env) -> Rel:
    """Columns out of keys and values in a text."""
    known = dict.fromkeys(("pair_delimiter", "kv_delimiter", "regex", "quote", "escape", "greedy"))
    given = options(operator.options, known, "parse-kv")
    texts = {name: _texts(operator, name) for name in known if name != "greedy"}
    between, inside = "".join(texts["pair_delimiter"]), "".join(texts["kv_delimiter"])
    if bool(between) != bool(inside) or (texts["regex"] and between):
        raise KqlError("parse-kv takes both delimiters, or regex, or neither.", operator.span)
    if texts["regex"] and _groups(texts["regex"][0], operator.span) != 2:
        raise KqlError("regex must have two groups, for the key and the value.", operator.span)
    for quote in texts["quote"]:
        if len(quote) not in (1, 2):
            raise KqlError("quote must be one sign or two.", operator.span)
    spec = {
        "keys": [column.name.name for column in operator.columns],
        "regex": "".join(texts["regex"]),
        "pair": inside,
        "pairs": between,
        "quotes": [[quote[0], quote[-1]] for quote in texts["quote"]],
        "escapes": texts["escape"],
        "greedy": word(given.get("greedy")) == "true",
    }
    text = binder.convert(binder.scalar(operator.value, rel, env), "string")
    if text.type == "unknown":
        text = empty("string")
    bag = binder.new("dynamic")
    found = binder.apply("__parse_kv", [text, ir.Const(json.dumps(spec), "string")], operator.span)
    projection = Projection(binder, rel.columns)
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for wanted in operator.columns:
        value = binder.convert(ir.Path(ir.Ref(bag), (wanted.name.name,)), "string")
        value = binder.convert(value, wanted.type)
        new.append((binder.new(wanted.type), value))
        projection.declare(wanted.name.name, new[-1][0], wanted.name.span, replace=True)
    return after(rel, compute(ir.Compute(rel.relation, ((bag, found),)), new), projection.columns)


def _texts(operator: ast.ParseKv, name: str) -> list[str]:
    found = []
    for option in operator.options:
        if option.name == name:
            if not isinstance(option.value, ast.Literal) or not isinstance(option.value.value, str):
                raise KqlError(f"{name} must be a string.", option.span)
            found.append(option.value.value)
    return found
