"""search and find: a condition over the columns of many tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir, regex
from watchfloor.kql.bind.joining import united
from watchfloor.kql.bind.projection import as_column, compute
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.shaping import keep
from watchfloor.kql.bind.tools import (
    empty,
    has_input,
    no_within,
    options,
    other_table,
    word,
)
from watchfloor.kql.errors import KqlError, Span, nearest

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

CASE_SENSITIVE: Final = {
    "has": "has_cs",
    "hasprefix": "hasprefix_cs",
    "hassuffix": "hassuffix_cs",
    "contains": "contains_cs",
    "startswith": "startswith_cs",
    "endswith": "endswith_cs",
    "=~": "==",
    "!~": "!=",
    "in~": "in",
}


def search(binder: Binder, rel: Rel, operator: ast.Search, env: Env) -> Rel:
    """The rows of many tables in which a text is found."""
    kinds = ("default", "case_insensitive", "case_sensitive")
    is_exact = word(options(operator.options, {"kind": kinds}, "search").get("kind")) == "case_sensitive"
    legs = _sources(binder, rel, operator.tables, env, operator.span, "search")
    found = _matching(binder, legs, operator.predicate, env, is_exact)
    return united(binder, found, is_inner=False, source_name="$table", span=operator.span)


def find(binder: Binder, rel: Rel, operator: ast.Find, env: Env) -> Rel:
    """The rows of many tables for which something holds, in columns that they share."""
    given = options(operator.options, {"withsource": None, "with_source": None}, "find")
    name = word(given.get("withsource") or given.get("with_source"), "source_")
    legs = _sources(binder, rel, operator.tables, env, operator.span, "find")
    legs = _matching(binder, legs, operator.predicate, env, is_exact=False)
    wanted: dict[str, str | None] = {}
    if operator.columns is None:
        common = [
            n for n, c in legs[0].columns.items() if all(n in o.columns and o.columns[n].type == c.type for o in legs)
        ]
        asked = [n for n in _mentioned(operator.predicate) if any(n in leg.columns for leg in legs)]
        wanted = dict.fromkeys([*(common if len(legs) > 1 else legs[0].columns), *asked])
    else:
        for item in operator.columns:
            column = item.name if isinstance(item, ast.Named) else item
            if not isinstance(column, ast.Name):
                raise KqlError("Name a column here.", item.span)
            types = {leg.columns[column.name].type for leg in legs if column.name in leg.columns}
            if not types:
                known = [n for leg in legs for n in leg.columns]
                remedy = nearest(column.name, known)
                raise KqlError(f"None of the tables has a column {column.name}.", column.span, remedy=remedy)
            type_ = item.value.name if isinstance(item, ast.Named) and isinstance(item.value, ast.Name) else None
            if type_ is None and len(types) > 1:
                raise KqlError(
                    f"{column.name} has different types in these tables.", column.span, remedy=f"{column.name}:type"
                )
            wanted[column.name] = type_
    away = {n.name for n in operator.away if isinstance(n, ast.Name)}
    wanted = {n: t for n, t in wanted.items() if n not in away}
    packs = operator.pack_all or operator.columns is None
    shown = [_shown(binder, leg, wanted, packs, operator) for leg in legs]
    result = united(binder, shown, is_inner=False, source_name=name, span=operator.span)
    first = [name, *(n for w in wanted for n in result.columns if n == w or n.startswith(f"{w}_"))]
    order = dict.fromkeys([*(n for n in first if n != "pack_"), *result.columns])
    if "pack_" in order:
        del order["pack_"]
        order["pack_"] = None
    columns = {n: result.columns[n] for n in order}
    if packs and operator.columns is None and all(set(leg.columns) <= set(wanted) for leg in legs):
        del columns["pack_"]
    return result.with_(columns=columns)


def _shown(binder: Binder, leg: Rel, wanted: Mapping[str, str | None], packs: bool, operator: ast.Find) -> Rel:
    """A table with the columns that find shows of it."""
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    columns: dict[str, ir.BoundColumn] = {}
    for name, type_ in wanted.items():
        if name in leg.columns:
            value = ir.Ref(leg.columns[name])
            columns[name] = as_column(binder, value if type_ is None else binder.convert(value, type_), new)
    if packs:
        rest = [(n, ir.Ref(c)) for n, c in leg.columns.items() if n not in wanted]
        pack: ir.Scalar = binder.pack(rest, False, operator.span) if rest else ir.Const({}, "dynamic")
        columns["pack_"] = as_column(binder, pack, new)
    return leg.with_(relation=compute(leg.relation, new), columns=columns)


def _sources(binder: Binder, rel: Rel, tables: Sequence[ast.Expr], env: Env, span: Span, what: str) -> list[Rel]:
    """The tables that search and find go through, each with a name."""
    if has_input(rel):
        no_within(rel, what, span)
        return [rel.with_(name=rel.name or "union_arg0")]
    legs: list[Rel] = []
    for place, table in enumerate(tables or [ast.Star(span)]):
        if isinstance(table, ast.Star | ast.Wildcard):
            legs += binder.tables(table, env)
        else:
            leg = other_table(binder, table, env)
            legs.append(leg.with_(name=leg.name or f"union_arg{place}"))
    if not legs:
        raise KqlError(f"There is no table to {what} in.", span)
    return legs


def _matching(binder: Binder, legs: Sequence[Rel], predicate: ast.Expr, env: Env, is_exact: bool) -> list[Rel]:
    """The rows of ``legs`` for which ``predicate`` holds; tables without any column that it names are left out."""
    types: dict[str, str] = {}
    for leg in legs:
        for name, column in leg.columns.items():
            types.setdefault(name, column.type)
    asked = [name for name in _mentioned(predicate) if name in types]
    if asked and not _is_free(predicate, types, env):
        legs = [leg for leg in legs if any(name in leg.columns for name in asked)]
    found = []
    for leg in legs:
        missing = {name: empty(type_) for name, type_ in types.items() if name not in leg.columns}
        condition = _predicate(predicate, leg, env, is_exact)
        found.append(keep(leg, binder.condition(condition, leg, env.with_names(missing)), binder).with_(name=leg.name))
    return found


def _mentioned(tree: Any) -> list[str]:
    """The names in ``tree``, in order, each once."""
    found: dict[str, None] = {}
    waiting = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Name):
            found[node.name] = None
        elif isinstance(node, tuple):
            waiting[:0] = node
        elif is_dataclass(node) and not isinstance(node, Span):
            waiting[:0] = [getattr(node, field.name) for field in fields(node)]
    return list(found)


def _is_free(predicate: ast.Expr, types: Mapping[str, str], env: Env) -> bool:
    """Whether ``predicate`` asks of any column: a term, or ``*``."""
    if isinstance(predicate, ast.Literal | ast.Star):
        return True
    if isinstance(predicate, ast.Name):
        return predicate.name not in types and isinstance(env.find(predicate.name), ir.Const)
    if isinstance(predicate, ast.Logical):
        return any(_is_free(part, types, env) for part in predicate.operands)
    if isinstance(predicate, ast.Call):
        return any(_is_free(part, types, env) for part in predicate.arguments if isinstance(part, ast.Call))
    return isinstance(predicate, ast.Binary) and isinstance(predicate.left, ast.Star)


def _predicate(node: ast.Expr, rel: Rel, env: Env, is_exact: bool) -> ast.Expr:
    """What a predicate of search means as a condition over the columns of ``rel``."""
    if isinstance(node, ast.Star):
        return ast.Literal(True, "bool", node.span)
    if isinstance(node, ast.Literal) and node.type == "string":
        return _term(None, node, rel, is_exact)
    if isinstance(node, ast.Name) and node.name not in rel.columns:
        meaning = env.find(node.name)
        if isinstance(meaning, ir.Const) and meaning.type == "string":
            return _term(None, ast.Literal(meaning.value, "string", node.span), rel, is_exact)
    if isinstance(node, ast.Logical):
        parts = tuple(_predicate(part, rel, env, is_exact) for part in node.operands)
        return ast.Logical(node.operator, parts, node.span)
    if isinstance(node, ast.Call) and node.name == "not":
        parts = tuple(_predicate(part, rel, env, is_exact) for part in node.arguments)
        return ast.Call(node.name, parts, node.span, node.name_span, node.base)
    if isinstance(node, ast.Binary):
        if node.operator == ":" and isinstance(node.right, ast.Literal):
            if isinstance(node.left, ast.Star):
                return _term(None, node.right, rel, is_exact)
            return _term(node.left, node.right, rel, is_exact)
        operator = CASE_SENSITIVE.get(node.operator, node.operator) if is_exact else node.operator
        if isinstance(node.left, ast.Star):
            return ast.Binary(operator, node.left, node.right, node.span)
        return ast.Binary(operator, node.left, node.right, node.span)
    return node


def _term(subject: ast.Expr | None, term: ast.Literal, rel: Rel, is_exact: bool) -> ast.Expr:
    """Whether ``subject``, or any column, has a term in which ``*`` stands for anything."""
    text = str(term.value)
    inner = text.strip("*")
    operator, value = "has", text
    if "*" in inner:
        operator, value = "matches regex", r"\b" + ".*".join(regex.quote(part) for part in text.split("*")) + r"\b"
        value = value if is_exact else f"(?i){value}"
    elif text.startswith("*") and text.endswith("*") and len(text) > 1:
        operator, value = "contains", inner
    elif text.startswith("*"):
        operator, value = "hassuffix", inner
    elif text.endswith("*"):
        operator, value = "hasprefix", inner
    if is_exact:
        operator = CASE_SENSITIVE.get(operator, operator)
    literal = ast.Literal(value, "string", term.span)
    if subject is None:
        return ast.Binary(operator, ast.Star(term.span), literal, term.span)
    if isinstance(subject, ast.Name) and subject.name not in rel.columns:
        return ast.Literal(False, "bool", term.span)
    return ast.Binary(operator, ast.Call("tostring", (subject,), term.span, term.span), literal, term.span)
