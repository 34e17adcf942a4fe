"""Aggregates: what becomes one value out of the rows of a group.

Nulls are left out unless a row says otherwise. A conditional form takes its condition right after the arguments that
must be given. dcount is exact up to some 250,000 rows and in small groups; above, an engine may estimate (by about 3
%), and its accuracy argument changes nothing. Percentiles are values that occur (nearest rank).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from watchfloor.kql.functions.convert import convert
from watchfloor.kql.functions.dynamics import identity
from watchfloor.kql.functions.spec import REFUSED, aggregate
from watchfloor.kql.values import MAX_LONG

Rows = Sequence[tuple[Any, ...]]

MAX_SIZE: Final = 1_048_576
_LEGACY_SIZE: Final = 128
_NAN: Final = float("nan")


def _column(rows: Rows, place: int = 0) -> list[Any]:
    return [row[place] for row in rows if row[place] is not None]


# -- counts -----------------------------------------------------------------------------------------------------------


@aggregate(
    "count",
    "",
    "long",
    page="count-aggregation-function",
    prefix="count",
    over_nothing=0,
    duckdb="count(*) $filter",
    aliases=("cnt",),
    if_name="countif",
)
def count(rows: Rows) -> int:
    return len(rows)


@aggregate(
    "count",
    "int|long|real|decimal|datetime|timespan|guid|string|dynamic",
    "long",
    page="count-aggregation-function",
    over_nothing=0,
    duckdb="count(*) $filter",
)
def count_of(rows: Rows) -> int:
    return len(rows)  # nulls count, too


def count_distinct(rows: Rows) -> int:
    return len({identity(value) for value in _column(rows)})


for _word in ("ordered", "dynamic"):
    aggregate(
        "dcount",
        f"{_word} =integer?",
        "long",
        page="dcount-aggregation-function",
        over_nothing=0,
        duckdb="count(DISTINCT $a) $filter",
        if_name="dcountif",
    )(count_distinct)
aggregate(
    "count_distinct",
    "ordered",
    "long",
    page="count-distinct-aggregation-function",
    over_nothing=0,
    duckdb="count(DISTINCT $a) $filter",
    if_name="count_distinctif",
)(count_distinct)

# -- sums and averages ------------------------------------------------------------------------------------------------


def wrapped(value: int) -> int:
    """A long, after overflow."""
    return (value + MAX_LONG + 1) % (2 * (MAX_LONG + 1)) - MAX_LONG - 1


def _sum_whole(rows: Rows) -> int:
    return wrapped(sum(_column(rows)))


def _sum_real(rows: Rows) -> float:
    try:
        return math.fsum(_column(rows))
    except (OverflowError, ValueError):
        return float(sum(_column(rows)))


def _sum_decimal(rows: Rows) -> Decimal:
    return sum(_column(rows), Decimal(0))


def _average(rows: Rows) -> float:
    values = _column(rows)
    return _sum_real(rows) / len(values) if values else _NAN


def _average_ticks(rows: Rows) -> int | None:
    values = _column(rows)
    return int(Fraction(sum(values), len(values))) if values else None


def _average_decimal(rows: Rows) -> Decimal | None:
    values = _column(rows)
    return _sum_decimal(rows) / len(values) if values else None


_WRAPPED: Final = (
    "CAST(((coalesce(sum($a) $filter, 0) + 9223372036854775808) % 18446744073709551616 + 18446744073709551616) "
    "% 18446744073709551616 - 9223372036854775808 AS BIGINT)"
)
for _word, _gives, _python, _template, _nothing in (
    ("int|long", "long", _sum_whole, _WRAPPED, 0),
    ("timespan", "timespan", _sum_whole, _WRAPPED, 0),
    ("real", "real", _sum_real, "coalesce(sum($a) $filter, 0.0)", 0.0),
    ("decimal", "decimal", _sum_decimal, "coalesce(CAST(sum($a) $filter AS DECIMAL(38, 18)), 0)", Decimal(0)),
):
    aggregate(
        "sum",
        _word,
        _gives,
        page="sum-aggregation-function",
        over_nothing=_nothing,
        duckdb=_template,
        if_name="sumif",
    )(_python)

_unanswered: Any = None
for _word, _gives, _average_of, _template, _unanswered in (
    ("int|long|real", "real", _average, "coalesce(avg($a) $filter, CAST('NaN' AS DOUBLE))", _NAN),
    ("timespan", "timespan", _average_ticks, "CAST(sum($a) $filter // count($a) $filter AS BIGINT)", None),
    (
        "datetime",
        "datetime",
        _average_ticks,
        "make_timestamptz(CAST(sum(epoch_us($a)) $filter // count($a) $filter AS BIGINT))",
        None,
    ),
    ("decimal", "decimal", _average_decimal, "", None),
):
    aggregate(
        "avg",
        _word,
        _gives,
        page="avg-aggregation-function",
        over_nothing=_unanswered,
        duckdb=_template,
        if_name="avgif",
    )(_average_of)

# -- spread -----------------------------------------------------------------------------------------------------------


def _deviations(values: Sequence[Any]) -> float:
    """The sum of squared distances from the mean."""
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction(0)) / len(exact)
    return float(sum(((value - mean) ** 2 for value in exact), Fraction(0)))


def variance_of(values: Sequence[Any], is_sample: bool) -> float:
    """0 over nothing, and over one value."""
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        return _NAN
    divisor = len(values) - 1 if is_sample else len(values)
    return _deviations(values) / divisor if divisor > 0 else 0.0


def _variance(is_sample: bool, is_root: bool) -> Callable[[Rows], float]:
    def variance(rows: Rows) -> float:
        value = variance_of(_column(rows), is_sample)
        return math.sqrt(value) if is_root else value

    return variance


def _covariance(is_sample: bool) -> Callable[[Rows], float]:
    def covariance(rows: Rows) -> float:
        pairs = [(Fraction(x), Fraction(y)) for x, y in rows if x is not None and y is not None]
        divisor = len(pairs) - 1 if is_sample else len(pairs)
        if divisor <= 0:
            return 0.0
        mean_x = sum((x for x, _ in pairs), Fraction(0)) / len(pairs)
        mean_y = sum((y for _, y in pairs), Fraction(0)) / len(pairs)
        return float(sum(((x - mean_x) * (y - mean_y) for x, y in pairs), Fraction(0)) / divisor)

    return covariance


for _name, _is_sample, _is_root, _sql in (
    ("stdev", True, True, "stddev_samp"),
    ("stdevp", False, True, "stddev_pop"),
    ("variance", True, False, "var_samp"),
    ("variancep", False, False, "var_pop"),
):
    aggregate(
        _name,
        "number",
        "real",
        page=f"{_name}-aggregation-function",
        over_nothing=0.0,
        duckdb=f"coalesce({_sql}($a) $filter, 0.0)",
        if_name=f"{_name}if",
    )(_variance(_is_sample, _is_root))
for _name, _is_sample, _sql in (("covariance", True, "covar_samp"), ("covariancep", False, "covar_pop")):
    aggregate(
        _name,
        "number number",
        "real",
        page=f"{_name}-aggregation-function",
        over_nothing=0.0,
        duckdb=f"coalesce({_sql}($a, $b) $filter, 0.0)",
        if_name=f"{_name}if",
    )(_covariance(_is_sample))

# -- extremes and samples ---------------------------------------------------------------------------------------------


def _place(value: Any) -> tuple[bool, Any]:
    """What is not a number stands above every number, wherever it comes among the rows."""
    return (True, 0) if isinstance(value, float) and math.isnan(value) else (False, value)


def _minimum(rows: Rows) -> Any:
    return min(_column(rows), default=None, key=_place)


def _maximum(rows: Rows) -> Any:
    return max(_column(rows), default=None, key=_place)


def _minimum_string(rows: Rows) -> str:
    return min(_column(rows), default="")


def _maximum_string(rows: Rows) -> str:
    return max(_column(rows), default="")


for _name, _of_any, _of_strings in (("min", _minimum, _minimum_string), ("max", _maximum, _maximum_string)):
    aggregate(
        _name,
        "int|long|real|decimal|datetime|timespan|bool|guid",
        0,
        page=f"{_name}-aggregation-function",
        duckdb=f"{_name}($a) $filter",
        if_name=f"{_name}if",
    )(_of_any)
    aggregate(
        _name,
        "string",
        "string",
        page=f"{_name}-aggregation-function",
        over_nothing="",
        duckdb=f"coalesce({_name}($a) $filter, '')",
        if_name=f"{_name}if",
    )(_of_strings)


def _any(rows: Rows) -> Any:
    """The first that is not null."""
    return next((row[0] for row in rows if row[0] is not None), None)


def _any_string(rows: Rows) -> str:
    """The first that is not empty."""
    return next((row[0] for row in rows if row[0]), "")


for _name, _prefix, _if_name in (("take_any", "", "take_anyif"), ("any", "any", "anyif")):
    aggregate(
        _name,
        "int|long|real|decimal|datetime|timespan|bool|guid|dynamic",
        0,
        page="take-any-aggregation-function",
        prefix=_prefix,
        duckdb="any_value($a) $filter",
        if_name=_if_name,
        if_prefix=_if_name if _prefix else "",
    )(_any)
    aggregate(
        _name,
        "string",
        "string",
        page="take-any-aggregation-function",
        prefix=_prefix,
        over_nothing="",
        duckdb="coalesce(any_value(nullif($a, '')) $filter, '')",
        if_name=_if_name,
        if_prefix=_if_name if _prefix else "",
    )(_any_string)

# -- bits -------------------------------------------------------------------------------------------------------------


def _bits(combine: Callable[[int, int], int]) -> Callable[[Rows], int | None]:
    def combined(rows: Rows) -> int | None:
        result = None
        for value in _column(rows):
            result = value if result is None else combine(result, value)
        return result

    return combined


for _name, _combine in (
    ("and", lambda left, right: left & right),
    ("or", lambda left, right: left | right),
    ("xor", lambda left, right: left ^ right),
):
    aggregate(
        f"binary_all_{_name}",
        "integer",
        0,
        page=f"binary-all-{_name}-aggregation-function",
        prefix="",
        duckdb=f"bit_{_name}($a) $filter",
    )(_bits(_combine))

# -- lists, sets, bags ------------------------------------------------------------------------------------------------


def _size(rows: Rows, default: int) -> int:
    size = rows[0][1] if rows and len(rows[0]) > 1 else None
    return default if size is None else max(0, min(size, MAX_SIZE))


def _list_sized(default: int) -> Callable[[Rows], list[Any]]:
    def make_list(rows: Rows) -> list[Any]:
        """The elements of arrays count, not the arrays (measured on the reference engine)."""
        items = [item for value in _column(rows) for item in (value if isinstance(value, list) else (value,))]
        return [item for item in items if item is not None][: _size(rows, default)]

    return make_list


def make_list_with_nulls(rows: Rows) -> list[Any]:
    return [row[0] for row in rows][:MAX_SIZE]


def _set_sized(default: int) -> Callable[[Rows], list[Any]]:
    def make_set(rows: Rows) -> list[Any]:
        """The elements of arrays count, not the arrays; in order of first appearance."""
        found: dict[Any, Any] = {}
        for value in _column(rows):
            for item in value if isinstance(value, list) else (value,):
                if item is not None:
                    found.setdefault(identity(item), item)
        return list(found.values())[: _size(rows, default)]

    return make_set


def _bag_sized(default: int) -> Callable[[Rows], dict[str, Any]]:
    def make_bag(rows: Rows) -> dict[str, Any]:
        """Of a key in several bags the first value stays."""
        size = _size(rows, default)
        merged: dict[str, Any] = {}
        for bag in _column(rows):
            for key, value in bag.items() if isinstance(bag, dict) else ():
                if key in merged or len(merged) < size:
                    merged.setdefault(key, value)
        return merged

    return make_bag


def _array(items: str) -> str:
    return f"'[' || coalesce(array_to_string({items}, ','), '') || ']'"


def _each(items: str, element: str) -> str:
    return f"list_transform({items}, lambda item: {element})" if element else items


_ELEMENTS: Final = (
    # The word of the argument, and an element of the list as JSON text; a packed one is that already.
    ("string", "CAST(to_json(item) AS VARCHAR)"),
    ("int|long", "CAST(item AS VARCHAR)"),
    ("packed", ""),
)
_SPREAD: Final = (
    "lambda item: CASE WHEN item[1] = '[' THEN CAST(json_extract(item, '$[*]') AS VARCHAR[]) ELSE [item] END"
)
"""An array (JSON text) as the list of its elements, anything else as a list of itself."""

for _name, _default, _if_name in (("make_list", MAX_SIZE, "make_list_if"), ("makelist", _LEGACY_SIZE, "")):
    for _size_word, _limit in (("", str(_default)), (" =integer", "$b")):
        for _word, _element in _ELEMENTS:
            _items = "list_filter(list($a $order) $filter, lambda item: item IS NOT NULL)"
            if not _element:
                _items = f"list_filter(flatten(list_transform({_items}, {_SPREAD})), lambda item: item <> 'null')"
            aggregate(
                _name,
                _word + _size_word,
                "dynamic",
                page="make-list-aggregation-function",
                prefix="list",
                over_nothing=[],
                duckdb=_array(_each(f"{_items}[1:{_limit}]", _element)),
                if_name=_if_name,
                if_prefix="list",
                needs_order=True,
            )(_list_sized(_default))
aggregate(
    "make_list_with_nulls",
    "packed",
    "dynamic",
    page="make-list-with-nulls-aggregation-function",
    prefix="list",
    over_nothing=[],
    duckdb=_array(f"(list(coalesce($a, 'null') $order) $filter)[1:{MAX_SIZE}]"),
    needs_order=True,
)(make_list_with_nulls)

for _name, _default, _if_name in (("make_set", MAX_SIZE, "make_set_if"), ("makeset", _LEGACY_SIZE, "")):
    for _size_word, _limit in (("", str(_default)), (" =integer", "$b")):
        for _word, _element in _ELEMENTS:
            _items = "list_filter(list(DISTINCT $a ORDER BY $a) $filter, lambda item: item IS NOT NULL)"
            if not _element:  # arrays among the values are flattened
                _items = (
                    "list_filter(list_sort(list_distinct(flatten(list_transform(list(DISTINCT $a) $filter, "
                    f"{_SPREAD})))), lambda item: item <> 'null')"
                )
            aggregate(
                _name,
                _word + _size_word,
                "dynamic",
                page="make-set-aggregation-function",
                prefix="set",
                over_nothing=[],
                duckdb=_array(_each(f"{_items}[1:{_limit}]", _element)),
                if_name=_if_name,
                if_prefix="set",
            )(_set_sized(_default))

for _name, _default, _prefix, _if_name in (
    ("make_bag", MAX_SIZE, "bag", "make_bag_if"),
    ("make_dictionary", _LEGACY_SIZE, "dictionary", ""),
):
    aggregate(
        _name,
        "dynamic =integer?",
        "dynamic",
        page="make-bag-aggregation-function",
        prefix=_prefix,
        over_nothing={},
        if_name=_if_name,
        if_prefix=_prefix,
        needs_order=True,
    )(_bag_sized(_default))


# -- schema -----------------------------------------------------------------------------------------------------------


@aggregate("buildschema", "dynamic", "dynamic", page="buildschema-aggregation-function", prefix="schema")
def buildschema(rows: Rows) -> Any:
    """The least schema that admits all values: a type name, a bag of schemas by key, {"`indexer`": the elements'} for
    arrays; several that differ in an array."""
    return _schema_of(_column(rows))


_PRIMITIVES: Final = {bool: "bool", int: "long", float: "double", str: "string"}


def _schema_of(values: Iterable[Any]) -> Any:
    found: dict[str, list[Any]] = {}
    for value in values:
        if value is not None:
            shape = "bag" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
            found.setdefault(shape or _PRIMITIVES[type(value)], []).append(value)
    schemas = [
        _schema_of_bags(members)
        if shape == "bag"
        else {"`indexer`": _schema_of(item for array in members for item in array)}
        if shape == "array"
        else shape
        for shape, members in found.items()
    ]
    return schemas[0] if len(schemas) == 1 else schemas or None


def _schema_of_bags(bags: Sequence[dict[str, Any]]) -> dict[str, Any]:
    members: dict[str, list[Any]] = {}
    for bag in bags:
        for key, value in bag.items():
            members.setdefault(key, []).append(value)
    return {key: _schema_of(values) for key, values in members.items()}


# -- percentiles ------------------------------------------------------------------------------------------------------


def exact(percentile: float | Decimal) -> Fraction:
    """A percentage as it was written: 99.9 is 999/10."""
    return Fraction(str(percentile))


def nearest_rank(values: Sequence[Any], weights: Sequence[int], percentile: float) -> Any:
    """The least of the sorted ``values`` at which ``percentile`` per cent of all weight is reached."""
    wanted = exact(percentile) * sum(weights) / 100
    reached = 0
    for value, weight in zip(values, weights, strict=True):
        reached += weight
        if reached >= wanted:
            return value
    return values[-1] if values else None


def _weighed(rows: Rows) -> tuple[list[Any], list[int]]:
    pairs = sorted(
        ((row[0], row[1]) for row in rows if row[0] is not None and row[1] is not None and row[1] > 0),
        key=lambda pair: pair[0],
    )
    return [value for value, _ in pairs], [weight for _, weight in pairs]


def _percentile(rows: Rows) -> Any:
    values = sorted(_column(rows))
    if not values:
        return None
    rank = math.ceil(exact(rows[0][1]) * len(values) / 100)
    return values[min(max(rank, 1), len(values)) - 1]


def _percentile_weighted(rows: Rows) -> Any:
    values, weights = _weighed(rows)
    return nearest_rank(values, weights, rows[0][2]) if values else None


def _percentages(given: Sequence[Any]) -> list[float]:
    if len(given) == 1 and isinstance(given[0], list):
        given = given[0]
    return [float(percentage) for percentage in given if isinstance(percentage, int | float | Decimal)]


def _percentiles_array(type_name: str) -> Callable[[Rows], list[Any] | None]:
    def percentiles_array(rows: Rows) -> list[Any] | None:
        values = sorted(_column(rows))
        if not values:
            return None
        ones = [1] * len(values)
        return [
            convert(nearest_rank(values, ones, percentage), type_name, "dynamic")
            for percentage in _percentages(rows[0][1:])
        ]

    return percentiles_array


def _percentiles_weighted_array(type_name: str) -> Callable[[Rows], list[Any] | None]:
    def percentilesw_array(rows: Rows) -> list[Any] | None:
        values, weights = _weighed(rows)
        if not values:
            return None
        return [
            convert(nearest_rank(values, weights, percentage), type_name, "dynamic")
            for percentage in _percentages(rows[0][2:])
        ]

    return percentilesw_array


for _word in ("int", "long", "real", "decimal", "datetime", "timespan", "bool", "guid", "string"):
    aggregate(
        "percentile",
        f"{_word} =real",
        0,
        page="percentiles-aggregation-function",
        over_nothing="" if _word == "string" else None,
        # A decimal fraction, so that the rank is exact.
        duckdb="quantile_disc($a, CAST(CAST($b AS DECIMAL(18, 9)) * 0.01 AS DECIMAL(18, 11))) $filter",
    )(_percentile)
    aggregate(
        "percentilew",
        f"{_word} integer =real",
        0,
        page="percentilesw-aggregation-function",
        prefix="percentile",
        over_nothing="" if _word == "string" else None,
    )(_percentile_weighted)
    for _given in ("=dynamic", "=real+"):
        aggregate(
            "percentiles_array",
            f"{_word} {_given}",
            "dynamic",
            page="percentiles-aggregation-function",
            prefix="percentiles",
        )(_percentiles_array(_word))
        aggregate(
            "percentilesw_array",
            f"{_word} integer {_given}",
            "dynamic",
            page="percentilesw-aggregation-function",
            prefix="percentiles",
        )(_percentiles_weighted_array(_word))

REFUSED["passthrough"] = "name the column under by, or use take_any()"
