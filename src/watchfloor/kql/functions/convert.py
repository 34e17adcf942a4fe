"""A value of one type as another type: tostring, tolong and their kin, and the conversions that operators imply.

A conversion never fails: what cannot be converted is null, and null is '' as a string. ``TEMPLATES`` says the same in
SQL for most pairs; a pair that is absent there goes through ``convert``. ``SHORTCUTS`` gives, for pairs whose rule is
long, SQL that is right wherever it is not null; where it is null and the input is not, ``convert`` decides.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, Final

from watchfloor.kql.values import (
    MAX_DATETIME,
    MAX_INT,
    MAX_LONG,
    MIN_INT,
    MIN_LONG,
    format_datetime,
    format_timespan,
    parse_datetime,
    parse_timespan,
)

_DECIMALS: Final = Context(prec=60)
_DECIMAL_STEP: Final = Decimal("1e-18")
_DECIMAL_LIMIT: Final = Decimal("1e20")

_WHOLE: Final = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_HEXADECIMAL: Final = re.compile(r"\s*0[xX]([0-9a-fA-F]{1,16})\s*", re.ASCII)
_NUMBER: Final = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
_GUID: Final = re.compile(
    r"\s*[{(]?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})", re.ASCII | re.IGNORECASE
)
_SPECIAL_REALS: Final = {
    sign + name: float(sign + value)
    for name, value in (("nan", "nan"), ("inf", "inf"), ("infinity", "inf"))
    for sign in ("", "+", "-")
}


def convert(value: Any, source: str, target: str) -> Any:
    """``value`` of type ``source`` as ``target``: null where it has no such form, '' where that is a string."""
    if source == target:
        return value
    if value is None:
        return "" if target == "string" else None
    rule = _RULES.get((source, target))
    return rule(value) if rule is not None else None


def convert_element(value: Any, target: str) -> Any:
    """An element of a dynamic array under ``mv-expand ... to typeof(target)``, which is stricter than ``convert``:
    text is no number, a fraction is no bool, and nothing is a timespan or a decimal."""
    if target == "dynamic" or value is None:
        return "" if target == "string" and value is None else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if target in ("int", "long", "real"):
        return convert(value, "dynamic", target) if is_number else None
    if target == "bool":
        is_whole = is_number and not (isinstance(value, float) and not value.is_integer())
        return bool(value) if is_whole or isinstance(value, bool) else None
    if target in ("datetime", "guid"):
        return convert(value, "dynamic", target) if isinstance(value, str) else None
    return convert(value, "dynamic", target) if target == "string" else None


# -- text forms -------------------------------------------------------------------------------------------------------


def real_text(value: float) -> str:
    """As tostring prints a real: ``1.0``, ``1E+300``, ``NaN``."""
    if math.isfinite(value):
        return repr(value).upper()
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def decimal_text(value: Decimal) -> str:
    """As tostring prints a decimal: plain digits without trailing zeros."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def json_text(value: Any) -> str:
    """A dynamic value as compact JSON. A real that JSON has no number for is text."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return json_number(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case dict():
            return "{" + ",".join(f"{json_text(str(key))}:{json_text(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(json_text(item) for item in value) + "]"
        case _:
            return json_text(to_dynamic(value))


def json_number(value: float) -> str:
    """A real as it stands in JSON: plain digits from 1e-6 to 1e21, else ``1.5e22``; text where JSON has none."""
    if not math.isfinite(value):
        return f'"{real_text(value)}"'
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    if 0 < int(exponent) <= 20:
        return f"{format(Decimal(text), 'f')}.0"
    if -6 <= int(exponent) < 0:
        return format(Decimal(text), "f")
    return f"{mantissa}e{int(exponent)}"


def dynamic_text(value: Any) -> str:
    """A dynamic value in a string context: text without quotes, '' for null, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(value)


def to_dynamic(value: Any) -> Any:
    """A number, a bool or text is itself inside a dynamic value; a decimal is text."""
    if isinstance(value, Decimal):
        return decimal_text(value)
    return value


# -- to numbers -------------------------------------------------------------------------------------------------------


def _ranged(least: int, most: int) -> Callable[[int], int | None]:
    return lambda value: value if least <= value <= most else None


_as_int, _as_long, _as_instant = _ranged(MIN_INT, MAX_INT), _ranged(MIN_LONG, MAX_LONG), _ranged(0, MAX_DATETIME)


def _truncated(value: float | Decimal) -> int | None:
    return int(value) if math.isfinite(value) else None


def _int_from_whole(value: int) -> int:
    """The low 32 bits: a long that is too large wraps."""
    return ((value - MIN_INT) & 0xFFFFFFFF) + MIN_INT


def _saturating(least: int, most: int) -> Callable[[float], int | None]:
    """A real that is too large is the largest whole number there is; NaN is none."""
    return lambda value: None if math.isnan(value) else int(max(least, min(most, value)))


def _whole_from_text(text: str) -> int | None:
    if _WHOLE.fullmatch(text):
        return int(text)
    if match := _HEXADECIMAL.fullmatch(text):
        return int(match.group(1), 16)
    return None


def _bool_from_text(text: str) -> bool | None:
    word = text.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    if not _WHOLE.fullmatch(text):
        return None
    number = _as_long(int(text))
    return None if number is None else number != 0


def _real_from_text(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    return _SPECIAL_REALS.get(text.strip().lower())


def to_decimal(value: Decimal | str | float) -> Decimal | None:
    """``value`` as a decimal of at most 20 digits before and 18 after the point; null beyond."""
    try:
        number = Decimal(value if isinstance(value, Decimal | str | int) else repr(value))
        if not number.is_finite() or abs(number) >= _DECIMAL_LIMIT:
            return None
        if int(number.as_tuple().exponent) < -18:
            number = number.quantize(_DECIMAL_STEP, ROUND_HALF_UP, _DECIMALS)
    except InvalidOperation:
        return None
    return number


def _decimal_from_text(text: str) -> Decimal | None:
    return to_decimal(text.strip()) if _NUMBER.fullmatch(text) else None


def _guid_from_text(text: str) -> str | None:
    match = _GUID.match(text)
    return "-".join(match.groups()).lower() if match else None


def _after(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def both(value: Any) -> Any:
        between = first(value)
        return None if between is None else second(between)

    return both


def _from_dynamic(target: str) -> Callable[[Any], Any]:
    def rule(value: Any) -> Any:
        match value:
            case bool():
                return convert(value, "bool", target)
            case int() if MIN_LONG <= value <= MAX_LONG or target == "decimal":
                return convert(value, "long", target)
            case int() | float():
                value = float(value)
                if target == "bool" and not value.is_integer():
                    return None
                return convert(value, "real", target)
            case str():
                return convert(value, "string", target)
            case _:
                return None

    return rule


def _same(value: Any) -> Any:
    return value


_WHOLE_TYPES: Final[dict[str, Callable[[int], int | None]]] = {"int": _as_int, "long": _as_long}
_WHOLE_FROM_WHOLE: Final[dict[str, Callable[[int], int]]] = {"int": _int_from_whole, "long": _same}
_WHOLE_FROM_REAL: Final[dict[str, Callable[[float], int | None]]] = {
    "int": _saturating(MIN_INT, MAX_INT),
    "long": _saturating(MIN_LONG, MAX_LONG),
}

_RULES: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    # to string
    ("bool", "string"): lambda value: "True" if value else "False",
    ("int", "string"): str,
    ("long", "string"): str,
    ("real", "string"): real_text,
    ("decimal", "string"): decimal_text,
    ("datetime", "string"): format_datetime,
    ("timespan", "string"): format_timespan,
    ("guid", "string"): _same,
    ("dynamic", "string"): dynamic_text,
    # to bool
    ("int", "bool"): bool,
    ("long", "bool"): bool,
    ("real", "bool"): bool,
    ("decimal", "bool"): bool,
    ("string", "bool"): _bool_from_text,
    # to int and long
    **{
        (kind, target): rule
        for target, rule in _WHOLE_FROM_WHOLE.items()
        for kind in ("int", "long", "datetime", "timespan")
    },
    **{("bool", target): int for target in _WHOLE_TYPES},
    **{("real", target): rule for target, rule in _WHOLE_FROM_REAL.items()},
    **{("decimal", target): _after(_truncated, limit) for target, limit in _WHOLE_TYPES.items()},
    **{("string", target): _after(_whole_from_text, limit) for target, limit in _WHOLE_TYPES.items()},
    # to real and decimal
    **{(kind, "real"): float for kind in ("bool", "int", "long", "decimal", "datetime", "timespan")},
    ("string", "real"): _real_from_text,
    ("bool", "decimal"): lambda value: Decimal(int(value)),
    **{(kind, "decimal"): to_decimal for kind in ("int", "long", "real", "datetime", "timespan")},
    ("string", "decimal"): _decimal_from_text,
    # to times
    ("string", "datetime"): parse_datetime,
    ("int", "datetime"): _as_instant,
    ("long", "datetime"): _as_instant,
    ("real", "datetime"): _after(_truncated, _as_instant),
    ("decimal", "datetime"): _after(_truncated, _as_instant),
    ("timespan", "datetime"): _as_instant,
    ("string", "timespan"): parse_timespan,
    ("int", "timespan"): _same,
    ("long", "timespan"): _same,
    ("real", "timespan"): _WHOLE_FROM_REAL["long"],
    ("decimal", "timespan"): _after(_truncated, _as_long),
    ("datetime", "timespan"): _same,
    ("string", "guid"): _guid_from_text,
    # to and from dynamic
    **{
        ("dynamic", target): _from_dynamic(target)
        for target in ("bool", "int", "long", "real", "decimal", "datetime", "timespan", "guid")
    },
    **{(kind, "dynamic"): to_dynamic for kind in ("bool", "int", "long", "string", "decimal", "guid")},
    ("real", "dynamic"): lambda value: value if math.isfinite(value) else real_text(value),
    ("datetime", "dynamic"): format_datetime,
    ("timespan", "dynamic"): format_timespan,
}


# -- DuckDB -----------------------------------------------------------------------------------------------------------

_HELD: Final = "json_extract_string($a, '$')"
_INSTANT_TEXT: Final = "strftime(make_timestamp(epoch_us($a)), '%Y-%m-%dT%H:%M:%S.%f') || '0Z'"
_REAL_TEXT: Final = (
    "CASE WHEN isfinite($a) THEN upper(CAST($a AS VARCHAR)) WHEN isnan($a) THEN 'NaN' "
    "WHEN $a > 0 THEN 'Infinity' WHEN $a < 0 THEN '-Infinity' ELSE {null} END"
)
_DECIMAL_TEXT: Final = "rtrim(rtrim(CAST($a AS VARCHAR), '0'), '.')"
_LENGTH: Final = "abs(CAST($a AS HUGEINT))"
_LENGTH_TEXT: Final = (
    "CASE WHEN $a < 0 THEN '-' ELSE '' END"
    f" || CASE WHEN {_LENGTH} >= 864000000000 THEN CAST({_LENGTH} // 864000000000 AS VARCHAR) || '.' ELSE '' END"
    f" || printf('%02d:%02d:%02d', CAST({_LENGTH} // 36000000000 % 24 AS BIGINT),"
    f" CAST({_LENGTH} // 600000000 % 60 AS BIGINT), CAST({_LENGTH} // 10000000 % 60 AS BIGINT))"
    f" || CASE WHEN $a % 10000000 <> 0 THEN printf('.%07d', CAST({_LENGTH} % 10000000 AS BIGINT)) ELSE '' END"
)
_WHOLE_SQL: Final = r"regexp_full_match($a, '\s*[+-]?[0-9]+\s*')"
_NUMBER_SQL: Final = r"regexp_full_match($a, '\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*')"
_TRIMMED: Final = "regexp_replace($a, '\\s+', '', 'g')"
_SPECIAL_SQL: Final = (
    "CASE WHEN lower(trim($a)) IN ('nan', '+nan', '-nan') THEN CAST('nan' AS DOUBLE)"
    " WHEN lower(trim($a)) IN ('inf', '+inf', 'infinity', '+infinity') THEN CAST('inf' AS DOUBLE)"
    " WHEN lower(trim($a)) IN ('-inf', '-infinity') THEN CAST('-inf' AS DOUBLE) END"
)
_GUID_SQL: Final = (
    r"\s*[{(]?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})(.|\n)*"  # the rest is ignored
)
_TICKS: Final = "epoch_us($a) * 10 + 621355968000000000"


def _instant_from(ticks: str) -> str:
    return (
        f"CASE WHEN {ticks} BETWEEN 0 AND {MAX_DATETIME}"
        f" THEN TRY(make_timestamptz(TRY_CAST({ticks} AS BIGINT) // 10 - 62135596800000000)) END"
    )


def _whole_sql(type_name: str) -> str:
    return (
        f"CASE WHEN {_WHOLE_SQL} THEN TRY_CAST({_TRIMMED} AS {type_name})"
        f" WHEN regexp_full_match($a, '\\s*0[xX][0-9a-fA-F]{{1,16}}\\s*')"
        f" THEN TRY_CAST(lower({_TRIMMED}) AS {type_name}) END"
    )


def _dynamic_sql(number: str, text: str, boolean: str) -> str:
    """By the type of the JSON value: of a number, of text, of a bool, with ``$a`` as what they hold as text."""
    return (
        f"CASE json_type($a) WHEN 'VARCHAR' THEN {text.replace('$a', _HELD)}"
        f" WHEN 'BIGINT' THEN {number.replace('$a', _HELD)} WHEN 'UBIGINT' THEN {number.replace('$a', _HELD)}"
        f" WHEN 'DOUBLE' THEN {number.replace('$a', _HELD)} WHEN 'BOOLEAN' THEN {boolean.replace('$a', _HELD)} END"
    )


_FROM_REAL: Final = {
    "INTEGER": (
        "CASE WHEN NOT isnan($a) THEN TRY_CAST(greatest(least(trunc($a), 2147483647), -2147483648) AS INTEGER) END"
    ),
    "BIGINT": (
        "CASE WHEN isnan($a) THEN NULL WHEN $a >= 9223372036854775807 THEN 9223372036854775807"
        " WHEN $a < -9223372036854775807 THEN -9223372036854775807 - 1 ELSE TRY_CAST(trunc($a) AS BIGINT) END"
    ),
}
_INT_FROM_WHOLE: Final = "CAST(xor($a & 4294967295, 2147483648) - 2147483648 AS INTEGER)"


def _whole_from_dynamic(type_name: str) -> str:
    whole = f"TRY_CAST($a AS {type_name})"
    if type_name == "INTEGER":
        whole = _INT_FROM_WHOLE.replace("$a", "TRY_CAST($a AS BIGINT)")
    beyond = f"coalesce({whole}, {_FROM_REAL[type_name].replace('$a', 'TRY_CAST($a AS DOUBLE)')})"
    return (
        f"CASE json_type($a) WHEN 'BIGINT' THEN {whole} WHEN 'UBIGINT' THEN {beyond}"
        f" WHEN 'DOUBLE' THEN {_FROM_REAL[type_name].replace('$a', 'TRY_CAST($a AS DOUBLE)')}"
        f" WHEN 'VARCHAR' THEN {_whole_sql(type_name).replace('$a', _HELD)}"
        f" WHEN 'BOOLEAN' THEN CASE WHEN $a = 'true' THEN 1 ELSE 0 END END"
    )


_BOOL_SQL: Final = (
    "CASE WHEN lower(trim($a)) = 'true' THEN true WHEN lower(trim($a)) = 'false' THEN false"
    f" WHEN {_WHOLE_SQL} THEN TRY_CAST({_TRIMMED} AS BIGINT) <> 0 END"
)
_REAL_SQL: Final = f"CASE WHEN {_NUMBER_SQL} THEN TRY_CAST({_TRIMMED} AS DOUBLE) ELSE {_SPECIAL_SQL} END"
_DECIMAL_SQL: Final = f"CASE WHEN {_NUMBER_SQL} THEN TRY_CAST({_TRIMMED} AS DECIMAL(38, 18)) END"
_ISO: Final = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,7})?)?(Z|[+-]\d{2}:\d{2})?)?"
_INSTANT_SHORTCUT: Final = f"CASE WHEN regexp_full_match($a, '{_ISO}') THEN TRY_CAST($a AS TIMESTAMPTZ) END"

TEMPLATES: Final[dict[str, dict[tuple[str, str], str]]] = {
    "duckdb": {
        ("bool", "string"): "CASE WHEN $a THEN 'True' WHEN $a IS NULL THEN '' ELSE 'False' END",
        ("int", "string"): "coalesce(CAST($a AS VARCHAR), '')",
        ("long", "string"): "coalesce(CAST($a AS VARCHAR), '')",
        ("real", "string"): _REAL_TEXT.format(null="''"),
        ("decimal", "string"): f"coalesce({_DECIMAL_TEXT}, '')",
        ("datetime", "string"): f"coalesce({_INSTANT_TEXT}, '')",
        ("timespan", "string"): f"coalesce({_LENGTH_TEXT}, '')",
        ("guid", "string"): "coalesce($a, '')",
        ("dynamic", "string"): "coalesce(json_extract_string($a, '$'), '')",
        **{(kind, "bool"): "$a <> 0" for kind in ("int", "long", "real", "decimal")},
        ("string", "bool"): _BOOL_SQL,
        ("dynamic", "bool"): _dynamic_sql(
            "CASE WHEN TRY_CAST($a AS DOUBLE) = trunc(TRY_CAST($a AS DOUBLE)) THEN TRY_CAST($a AS DOUBLE) <> 0 END",
            _BOOL_SQL,
            "$a = 'true'",
        ),
        **{
            pair: template
            for target, name in (("int", "INTEGER"), ("long", "BIGINT"))
            for pair, template in {
                ("bool", target): f"CAST($a AS {name})",
                ("int", target): f"CAST($a AS {name})",
                ("long", target): "$a" if target == "long" else _INT_FROM_WHOLE,
                ("real", target): _FROM_REAL[name],
                ("decimal", target): f"TRY_CAST(trunc($a) AS {name})",
                ("string", target): _whole_sql(name),
                ("datetime", target): _TICKS if target == "long" else _INT_FROM_WHOLE.replace("$a", f"({_TICKS})"),
                ("timespan", target): "$a" if target == "long" else _INT_FROM_WHOLE,
                ("dynamic", target): _whole_from_dynamic(name),
            }.items()
        },
        **{(kind, "real"): "CAST($a AS DOUBLE)" for kind in ("bool", "int", "long", "decimal", "timespan")},
        ("datetime", "real"): f"CAST({_TICKS} AS DOUBLE)",
        ("string", "real"): _REAL_SQL,
        ("dynamic", "real"): _dynamic_sql(
            "TRY_CAST($a AS DOUBLE)", _REAL_SQL, "CASE WHEN $a = 'true' THEN 1.0::DOUBLE ELSE 0.0::DOUBLE END"
        ),
        ("bool", "decimal"): "CAST(CAST($a AS INTEGER) AS DECIMAL(38, 18))",
        **{(kind, "decimal"): "CAST($a AS DECIMAL(38, 18))" for kind in ("int", "long", "timespan")},
        ("datetime", "decimal"): f"CAST({_TICKS} AS DECIMAL(38, 18))",
        ("real", "decimal"): "TRY_CAST(CAST($a AS VARCHAR) AS DECIMAL(38, 18))",
        ("string", "decimal"): _DECIMAL_SQL,
        ("dynamic", "decimal"): _dynamic_sql(
            "TRY_CAST($a AS DECIMAL(38, 18))", _DECIMAL_SQL, "CASE WHEN $a = 'true' THEN 1 ELSE 0 END"
        ),
        ("int", "datetime"): _instant_from("$a"),
        ("long", "datetime"): _instant_from("$a"),
        ("timespan", "datetime"): _instant_from("$a"),
        ("real", "datetime"): _instant_from("trunc($a)"),
        ("decimal", "datetime"): _instant_from("trunc($a)"),
        ("int", "timespan"): "CAST($a AS BIGINT)",
        ("long", "timespan"): "$a",
        ("real", "timespan"): _FROM_REAL["BIGINT"],
        ("decimal", "timespan"): "TRY_CAST(trunc($a) AS BIGINT)",
        ("datetime", "timespan"): _TICKS,
        ("string", "guid"): (
            f"nullif(regexp_replace(CASE WHEN regexp_full_match(lower($a), '{_GUID_SQL}') THEN lower($a) ELSE '' END,"
            f" '^{_GUID_SQL}$', '\\1-\\2-\\3-\\4-\\5'), '')"
        ),
        ("bool", "dynamic"): "CASE WHEN $a THEN 'true' WHEN NOT $a THEN 'false' END",
        ("int", "dynamic"): "CAST($a AS VARCHAR)",
        ("long", "dynamic"): "CAST($a AS VARCHAR)",
        ("string", "dynamic"): "CAST(to_json($a) AS VARCHAR)",
        ("guid", "dynamic"): "'\"' || $a || '\"'",
        ("decimal", "dynamic"): f"'\"' || {_DECIMAL_TEXT} || '\"'",
        ("datetime", "dynamic"): f"'\"' || {_INSTANT_TEXT} || '\"'",
        ("timespan", "dynamic"): f"'\"' || {_LENGTH_TEXT} || '\"'",
        ("real", "dynamic"): (
            "CASE WHEN isfinite($a) THEN CAST(to_json($a) AS VARCHAR) WHEN isnan($a) THEN '\"NaN\"'"
            " WHEN $a > 0 THEN '\"Infinity\"' WHEN $a < 0 THEN '\"-Infinity\"' END"
        ),
    }
}

TEMPLATES["duckdb"]["dynamic", "guid"] = (
    f"CASE json_type($a) WHEN 'VARCHAR' THEN {TEMPLATES['duckdb']['string', 'guid'].replace('$a', _HELD)} END"
)
TEMPLATES["duckdb"].update(
    {
        (source, target): f"CAST(NULL AS {physical})"
        for target, physical in (
            ("bool", "BOOLEAN"),
            ("datetime", "TIMESTAMPTZ"),
            ("decimal", "DECIMAL(38, 18)"),
            ("guid", "VARCHAR"),
            ("int", "INTEGER"),
            ("long", "BIGINT"),
            ("real", "DOUBLE"),
            ("timespan", "BIGINT"),
        )
        for source in ("bool", "datetime", "decimal", "guid", "int", "long", "real", "timespan")
        if source != target and (source, target) not in _RULES
    }
)

SHORTCUTS: Final[dict[str, dict[tuple[str, str], str]]] = {
    "duckdb": {
        ("string", "datetime"): _INSTANT_SHORTCUT,
        ("dynamic", "datetime"): (
            f"CASE json_type($a) WHEN 'VARCHAR' THEN {_INSTANT_SHORTCUT.replace('$a', _HELD)} END"
        ),
    }
}
"""Right where they are not null; where they are null and ``$a`` is neither null nor '', ``convert`` decides."""
