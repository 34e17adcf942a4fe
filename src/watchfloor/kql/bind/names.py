"""The name that a result column gets from an expression without one, as Microsoft's own analyser gives it.

A name comes through some functions (``tostring(a)`` is ``a``, ``bin(t, 1h)`` is ``t``), gets a prefix by others
(``sum(a)`` is ``sum_a``) and is lost by the rest. Which function does what is a list, not a principle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from watchfloor.kql import ast
from watchfloor.kql.functions import AGGREGATES, CONDITIONAL, FUNCTIONS

KEEPS: Final = frozenset({
    "abs", "acos", "asin", "atan", "atan2", "bin", "bin_at", "bin_auto", "binary_and", "binary_not", "binary_or",
    "binary_shift_left", "binary_shift_right", "binary_xor", "bitset_count_ones", "ceiling", "cos", "erf", "erfc",
    "exp", "exp10", "exp2", "floor", "format_bytes", "format_datetime", "format_timespan", "gamma", "log", "log10",
    "log2", "loggamma", "parse_csv", "parse_json", "parse_xml", "parsejson", "pow", "rand", "round",
    "series_fill_backward", "series_fill_const", "series_fill_forward", "series_fill_linear", "series_fir",
    "series_iir", "series_outliers", "sin", "split", "sqrt", "startofday", "tan", "tobool", "toboolean", "todatetime",
    "todecimal", "todouble", "todynamic", "toguid", "tohex", "toint", "tolong", "toobject", "toreal", "tostring",
    "totime", "totimespan", "binary_all_and", "binary_all_or", "binary_all_xor", "take_anyif", "passthrough",
})  # fmt: skip
"""Functions whose result is named as their first argument is."""

KEEPS_ONLY: Final = frozenset({"make_datetime", "make_timespan"})
"""The same, but only where there is one argument."""

PREFIXES: Final[Mapping[str, str]] = {
    "dcount_hll": "dcount_hll",
    "gettype": "type",
    "percentile_tdigest": "percentile_tdigest",
    "percentiles_array_tdigest": "percentile_tdigest",
    "repeat": "repeat",
    "string_size": "string_size",
    "strlen": "strlen",
    "treepath": "tree",
}
"""Scalar functions whose result is named prefix, ``_`` and the name of the first argument."""

FIXED: Final[Mapping[str, str]] = {
    "hll_merge": "hll_merged_result",
    "ingestion_time": "$IngestionTime",
    "merge_tdigest": "tdigests_merge_result",
    "tdigest_merge": "tdigests_merge_result",
}
"""Scalar functions whose result always has the same name."""

AGGREGATE_PREFIXES: Final[Mapping[str, str]] = {
    "any": "any",
    "anyif": "anyif",
    "buildschema": "schema",
    "make_bag": "bag",
    "make_bag_if": "bag",
    "make_dictionary": "dictionary",
    "make_list": "list",
    "make_list_if": "list",
    "make_list_with_nulls": "list",
    "make_set": "set",
    "make_set_if": "set",
    "makelist": "list",
    "makeset": "set",
    "merge_tdigest": "merge_tdigests",
    "tdigest_merge": "merge_tdigests",
}
"""Aggregates whose prefix is not their name."""


COLUMNS: Final[Mapping[str, str]] = {
    "arg_max": "max_",
    "arg_min": "min_",
    "argmax": "max_",
    "argmin": "min_",
    "percentile": "percentile",
    "percentiles": "percentile",
    "percentiles_array": "percentiles",
    "percentilesw": "percentile",
    "percentilesw_array": "percentiles",
    "percentilew": "percentile",
    "take_any": "any_arg0",
}
"""Aggregates that name their columns in ways of their own."""

SORTS: Final = frozenset({"array_sort_asc", "array_sort_desc"})
"""Functions with as many results as they have arrays."""


def result_name(
    expression: ast.Expr, columns: Collection[str] | None = None, *, aggregates: bool = False
) -> str | None:
    """The name of ``expression``'s result, None where it has none.

    ``columns``: the columns of the row, for column_ifexists(). ``aggregates``: a name that is both a scalar function
    and an aggregate is meant as the aggregate.
    """
    if isinstance(expression, ast.Name):
        return expression.name
    if isinstance(expression, ast.Named):
        return expression.name.name
    if isinstance(expression, ast.Pipe) and not expression.operators:
        return result_name(expression.source, columns, aggregates=aggregates)
    if isinstance(expression, ast.Member | ast.Index):
        return _path_name(expression, aggregates)
    if isinstance(expression, ast.Call):
        return _call_name(expression, columns, aggregates)
    return None


def _path_name(expression: ast.Member | ast.Index, aggregates: bool) -> str | None:
    steps: list[str] = []
    base: ast.Expr = expression
    while isinstance(base, ast.Member | ast.Index):
        if isinstance(base, ast.Member):
            steps.append(base.name)
        elif isinstance(base.index, ast.Literal) and base.index.type in ("string", "long", "int"):
            steps.append("" if str(base.index.value).startswith("-") else str(base.index.value))
        else:
            steps.append("")
        base = base.base
    steps.reverse()
    left = result_name(base, aggregates=aggregates)
    if isinstance(base, ast.Call) and steps[0].isdecimal():
        result = nth_result(base, int(steps[0]), aggregates=aggregates)
        if result is not None:
            left, steps = result, steps[1:]
    parts = ([left] if left and left.strip() else []) + steps
    name = parts[0]
    for part in parts[1:]:
        name = f"{name}_{part}" if name.strip() else part
    return name or None


def column_of_aggregate(call: ast.Call, place: int) -> str:
    """The name of a result column of one of ``COLUMNS``: for percentiles, ``place`` is that of the percentage."""
    first = _name_or_empty(call.arguments[0] if call.arguments else None, False)
    word = COLUMNS[call.name]
    if call.name in ("percentiles_array", "percentilesw_array"):
        return f"{word}_{first}"
    if word == "percentile":
        before = 2 if "w" in call.name else 1
        wanted = call.arguments[before + place] if before + place < len(call.arguments) else None
        return f"{word}_{first}_{number_fragment(wanted.value) if isinstance(wanted, ast.Literal) else ''}"
    if call.name in ("argmax", "argmin"):
        return f"{word}{first}"
    return first or word


def nth_result(call: ast.Call, place: int, *, aggregates: bool = False) -> str | None:
    """The name of one of several results of ``call``; None if it has only one."""
    if call.name in SORTS:
        name = result_name(call.arguments[place], aggregates=aggregates) if place < len(call.arguments) else None
        return f"{name or f'array{place}'}_sorted"
    for function in FUNCTIONS.get(call.name, ()):
        if place < len(function.spreads):
            first = _name_or_empty(call.arguments[0] if call.arguments else None, aggregates)
            return f"{call.name}_{first}_{function.spreads[place][0]}"
    return None


def _call_name(call: ast.Call, columns: Collection[str] | None, aggregates: bool) -> str | None:
    first = call.arguments[0] if call.arguments else None
    if aggregates and call.name in COLUMNS:
        return column_of_aggregate(call, 0)
    if aggregates and (call.name in AGGREGATES or call.name in CONDITIONAL) and call.name not in KEEPS:
        return f"{AGGREGATE_PREFIXES.get(call.name, call.name)}_{_name_or_empty(first, aggregates)}"
    if call.name in KEEPS or (call.name in KEEPS_ONLY and len(call.arguments) == 1):
        return None if first is None else result_name(first, columns, aggregates=aggregates)
    if call.name in PREFIXES:
        return f"{PREFIXES[call.name]}_{_name_or_empty(first, aggregates)}"
    if call.name in FIXED:
        return FIXED[call.name]
    if call.name in ("column_ifexists", "columnifexists") and isinstance(first, ast.Literal):
        return str(first.value) if columns is not None and first.value in columns else None
    return None


def _name_or_empty(expression: ast.Expr | None, aggregates: bool) -> str:
    return "" if expression is None else result_name(expression, aggregates=aggregates) or ""


def fragment(text: str) -> str:
    """``text`` as a part of a name: ``99.9`` is ``99_9``."""
    return "".join(c if c.isalnum() or c == "_" else "_" for c in text)


def number_fragment(number: Any) -> str:
    """A number as a part of a name."""
    return fragment(str(int(number)) if isinstance(number, float) and number.is_integer() else str(number))


def unique(name: str, taken: Collection[str]) -> str:
    """``name``, or with the first number behind it that makes it none of ``taken``."""
    number, candidate = 0, name
    while candidate in taken:
        number += 1
        candidate = f"{name}{number}"
    return candidate
