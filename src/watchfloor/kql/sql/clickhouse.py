"""The dialect of ClickHouse (26.x), as tables: the part of KQL that most hunting queries use, and no more.

Physical values: bool Nullable(Bool) (a comparison gives 0 and 1), int Nullable(Int32), long and timespan (ticks)
Nullable(Int64), real Nullable(Float64), string String, guid Nullable(String), datetime Nullable(DateTime64(6, 'UTC')),
which holds 1900 to 2299 only, dynamic Nullable(String) that holds JSON, NULL for null. There are no decimals. JSON with
whole numbers of more than 64 bits is none to ClickHouse: a path into it gives null, parse_json() of it is an error.
In a part of JSON a real is written in ClickHouse's shortest form, and max() looks over reals that are no number.

There are no routines here: what has no template is refused by name before anything runs, and the few texts that only a
routine could read (a time that is not ISO 8601, a number in hexadecimal) are an error of the statement, never a wrong
value. Templates of functions and aggregates stand in ``FUNCTION_TEMPLATES`` and ``AGGREGATE_TEMPLATES`` by the name and
the number of the overload; importing this module writes them into the ``sql`` of the rows of the function tables, where
the printer looks for those of any dialect. The SQL carries its own settings; parameters are ClickHouse's, with
``client_parameters`` for the form in which its clients take them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from watchfloor.kql import regex
from watchfloor.kql.functions.spec import AGGREGATES, FUNCTIONS, Template, TemplateOf
from watchfloor.kql.functions.strings import constant, lower, term_pattern
from watchfloor.kql.sql.dialect import Dialect

_TICKS_OF_1970: Final = 621_355_968_000_000_000
_MICROSECONDS_TO_1970: Final = 62_135_596_800_000_000
_LAST_MICROSECOND: Final = 253_402_300_799_999_999
_FIRST_HELD: Final = -2_208_988_800_000_000
_LAST_HELD: Final = 10_382_255_999_999_999
_INSTANT_TYPE: Final = "DateTime64(6, 'UTC')"
_MOST: Final = 1_048_576

_TYPES: Final = {
    "bool": "Nullable(Bool)",
    "datetime": "Nullable(DateTime64(6, 'UTC'))",
    "dynamic": "Nullable(String)",
    "guid": "Nullable(String)",
    "int": "Nullable(Int32)",
    "long": "Nullable(Int64)",
    "real": "Nullable(Float64)",
    "string": "String",
    "timespan": "Nullable(Int64)",
}

_SETTINGS: Final = (
    " SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, prefer_column_name_to_alias = 1,"
    " enable_positional_arguments = 0, output_format_json_escape_forward_slashes = 0,"
    " output_format_json_quote_64bit_integers = 0, output_format_json_quote_denormals = 1, precise_float_parsing = 1,"
    " transform_null_in = 0,"
    " short_circuit_function_evaluation = 'enable'"
)


def client_parameters(params: Mapping[str, Any]) -> dict[str, str]:
    """``params`` of a compiled query as clients send them: text in ClickHouse's escaped form."""
    return {name: _escaped(_literal(value)) for name, value in params.items()}


def _literal(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, list):
        return f"[{','.join(_text(item) for item in value)}]"
    return str(value)


def _escaped(text: str) -> str:
    signs = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"}
    return "".join(signs.get(c, c) for c in text)


def _text(text: str) -> str:
    """``text`` as a literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\x27") + "'"


def _parameter(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        if not 1900 <= value.year < 2299:
            raise CLICKHOUSE.lacks(f"datetime of the year {value.year}")
        return f"{{{name}:{_INSTANT_TYPE}}}"
    return f"{{{name}:{'Array(String)' if isinstance(value, list) else 'String'}}}"


def _refuse(what: str, kind: str) -> str:
    """An error where a row needs it; it mentions ``$a``, so that it is not computed ahead."""
    refusal = _text(f"The dialect 'clickhouse' has no {what}.")
    return f"CAST(throwIf(toString($a) <> ' ', {refusal}) AS Nullable({kind}))"


# -- JSON -------------------------------------------------------------------------------------------------------------


def _path(form: str, base: str, steps: Sequence[str | int], parameter: Callable[[Any], str]) -> str:
    """A path of constant steps. ClickHouse would take a number for the place of a property too: hence the looks."""
    words = [parameter(s) if isinstance(s, str) else str(s + 1 if s >= 0 else s) for s in steps]
    looks = [
        f"JSONType({', '.join([base, *words[:n]])}) = 'Array'" for n, step in enumerate(steps) if isinstance(step, int)
    ]
    whole = ", ".join([base, *words])
    raw = f"JSONExtractRaw({whole})"
    real = f"concat({raw}, CASE WHEN match({raw}, '[.e]') THEN '' ELSE '.0' END)"
    found = f"CASE WHEN JSONType({whole}) = 'Double' THEN {real} ELSE nullif(nullif({raw}, ''), 'null') END"
    if form == "path_text":
        found = f"CASE WHEN JSONType({whole}) = 'String' THEN JSONExtractString({whole}) ELSE {found} END"
    return f"CASE WHEN {' AND '.join(looks)} THEN {found} END" if looks else f"({found})"


_IS_TEXT: Final = "JSONType($a) = 'String'"
_IS_NUMBER: Final = "JSONType($a) IN ('Int64', 'UInt64', 'Double')"
_HELD: Final = "JSONExtractString($a)"
_JSON_TEXT: Final = (
    f"CASE WHEN {_IS_TEXT} THEN {_HELD} WHEN JSONType($a) IN ('Array', 'Object')"
    " THEN ifNull(nullif(JSONExtractRaw($a), ''), $a) ELSE $a END"
)
_ITEMS: Final = "JSONExtractArrayRaw(ifNull($a, ''))"
_ITEM_TEXT: Final = (
    "CASE WHEN startsWith(item, '\"') THEN JSONExtractString(item) WHEN item = 'null' THEN NULL ELSE item END"
)
_BAGS: Final = (
    "arrayMap(item -> concat('{', toJSONString(tupleElement(item, 1)), ':', tupleElement(item, 2), '}'),"
    " JSONExtractKeysAndValuesRaw(ifNull($a, '')))"
)


def _expanded(item: str, other: str) -> str:
    return (
        f"CASE WHEN JSONType(ifNull($a, '')) = 'Array' THEN arrayMap(item -> toNullable({item}), {_ITEMS})"
        f" WHEN JSONType(ifNull($a, '')) = 'Object' THEN arrayMap(item -> toNullable(item), {_BAGS})"
        f" ELSE [toNullable({other})] END"
    )


FORMS: Final = {
    "settings": _SETTINGS,
    # scalars
    "cast": "CAST($a AS $b)",
    "fold": "lowerUTF8($a)",
    "same": "$a IS NOT DISTINCT FROM $b",
    "different": "$a IS DISTINCT FROM $b",
    "is_nan": "isNaN($a)",
    "one_of_list": "$a IN (SELECT arrayJoin($b))",
    "path_text": f"({_JSON_TEXT})",
    "if_json": "$a",
    # lists
    "length": "length($a)",
    "longest": "greatest($*)",
    "first_of_list": "arraySlice($a, 1, $b)",
    "zip": "arrayJoin(arrayZipUnaligned(arrayMap(place -> toInt64(place), range(toUInt64($a))), $b))",
    "element": "tupleElement($a, $b)",
    "unless_array": "$a",
    "expand_text_string": "$b",
    "expand_text": "$b",
    "expand_string": _expanded(_ITEM_TEXT, _JSON_TEXT),
    "expand": _expanded("nullif(item, 'null')", "$a"),
    # aggregates
    "of_greatest": "tupleElement(argMax(tuple(toNullable($a)), $b), 1)",
    "of_least": "tupleElement(argMin(tuple(toNullable($a)), $b), 1)",
    "first": "tupleElement(any(tuple(toNullable($a))), 1)",
    # relations
    "one_each": "DISTINCT ON ($a)",
    "cross": "CROSS JOIN",
    "semi": "LEFT SEMI JOIN",
    "anti": "LEFT ANTI JOIN",
    "keep": "QUALIFY",
    "once": "MATERIALIZED",
}

# -- conversions ------------------------------------------------------------------------------------------------------

_MICROSECONDS: Final = "toUnixTimestamp64Micro({0})"
_TICKS: Final = f"{_MICROSECONDS.format('$a')} * 10 + {_TICKS_OF_1970}"
_INSTANT_TEXT: Final = "concat(formatDateTime($a, '%Y-%m-%dT%H:%i:%S.%f'), '0Z')"


def _instant(microseconds: str) -> str:
    """The datetime of a number of microseconds since 1970, null outside KQL's years, an error outside ClickHouse's."""
    return (
        f"CASE WHEN {microseconds} BETWEEN {_FIRST_HELD} AND {_LAST_HELD}"
        f" THEN fromUnixTimestamp64Micro(CAST({microseconds} AS Nullable(Int64)), 'UTC')"
        f" WHEN {microseconds} BETWEEN {-_MICROSECONDS_TO_1970} AND {_LAST_MICROSECOND}"
        f" THEN {_refuse('datetime before 1900 or after 2298', _INSTANT_TYPE)} END"
    )


_LENGTH: Final = "abs(toInt128($a))"
_LENGTH_TEXT: Final = (
    "concat(CASE WHEN $a < 0 THEN '-' ELSE '' END,"
    f" CASE WHEN {_LENGTH} >= 864000000000 THEN concat(toString(intDiv({_LENGTH}, 864000000000)), '.') ELSE '' END,"
    + ", ':', ".join(
        f" leftPad(toString(intDiv({_LENGTH}, {size}) % {many}), 2, '0')"
        for size, many in ((36_000_000_000, 24), (600_000_000, 60), (10_000_000, 60))
    )
    + f", CASE WHEN $a % 10000000 <> 0 THEN concat('.', leftPad(toString({_LENGTH} % 10000000), 7, '0')) ELSE '' END)"
)
_PLAIN_REAL: Final = "concat(toString($a), CASE WHEN position(toString($a), '.') = 0 THEN '.0' ELSE '' END)"
_REAL_TEXT: Final = (
    "CASE WHEN $a IS NULL THEN {null} WHEN isNaN($a) THEN {nan} WHEN isInfinite($a) THEN"
    " CASE WHEN $a > 0 THEN {infinite} ELSE {negative} END"
    f" WHEN $a = 0 OR (abs($a) >= 0.0001 AND abs($a) < 1e15) THEN {_PLAIN_REAL}"
    f" ELSE {_refuse('text of a real as great or as small as this', 'String')} END"
)
_BLANKS: Final = r"[+\s]+"
_TRIMMED: Final = f"replaceRegexpAll($a, {_text(_BLANKS)}, '')"
_FEW_DIGITS: Final = r"\A\s*[+-]?[0-9]{1,18}\s*\z"
_DIGITS: Final = r"\A\s*([+-]?[0-9]+|0[xX][0-9a-fA-F]{1,16})\s*\z"
_NUMBER: Final = r"\A\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*\z"
_IS_WHOLE: Final = f"match($a, {_text(_FEW_DIGITS)})"
_IS_DIGITS: Final = f"match($a, {_text(_DIGITS)})"
_IS_REAL: Final = f"match($a, {_text(_NUMBER)})"
_WORD: Final = "lower(trimBoth($a))"
_FROM_REAL: Final = {
    "int": (
        "CASE WHEN isNaN($a) THEN NULL WHEN $a >= 2147483647 THEN CAST(2147483647 AS Nullable(Int32))"
        " WHEN $a <= -2147483648 THEN CAST(-2147483648 AS Nullable(Int32))"
        " ELSE CAST(trunc($a) AS Nullable(Int32)) END"
    ),
    "long": (
        "CASE WHEN isNaN($a) THEN NULL WHEN $a >= 9223372036854775807e0"
        " THEN CAST('9223372036854775807' AS Nullable(Int64))"
        " WHEN $a <= -9223372036854775808e0 THEN CAST('-9223372036854775808' AS Nullable(Int64))"
        " ELSE CAST(trunc($a) AS Nullable(Int64)) END"
    ),
}
_WHOLE_TEXT: Final = {
    "long": (
        f"CASE WHEN {_IS_WHOLE} THEN toInt64OrNull({_TRIMMED})"
        f" WHEN {_IS_DIGITS} THEN {_refuse('whole number of such text', 'Int64')} END"
    ),
    "int": (
        f"CASE WHEN {_IS_WHOLE} THEN CASE WHEN toInt64OrNull({_TRIMMED}) BETWEEN -2147483648 AND 2147483647"
        f" THEN toInt32OrNull({_TRIMMED}) END"
        f" WHEN {_IS_DIGITS} THEN {_refuse('whole number of such text', 'Int32')} END"
    ),
}
_BOOL_TEXT: Final = (
    f"CASE WHEN {_WORD} = 'true' THEN true WHEN {_WORD} = 'false' THEN false"
    f" WHEN {_IS_WHOLE} THEN CAST(toInt64OrNull({_TRIMMED}) <> 0 AS Nullable(Bool))"
    f" WHEN {_IS_DIGITS} THEN {_refuse('whole number of such text', 'Bool')} END"
)
_REAL_OF_TEXT: Final = (
    f"CASE WHEN {_IS_REAL} THEN toFloat64OrNull({_TRIMMED})"
    f" WHEN {_WORD} IN ('nan', '+nan', '-nan', 'inf', '+inf', 'infinity', '+infinity', '-inf', '-infinity')"
    f" THEN {_refuse('real of such text', 'Float64')} END"
)
_ISO: Final = _text(r"\A\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}:\d{2}(\.\d{1,7})?Z?)?\z")
_ISO_TEXT: Final = (
    "substring(replaceOne(replaceOne(concat($a, CASE WHEN length($a) = 10 THEN ' 00:00:00' ELSE '' END), 'T', ' '),"
    " 'Z', ''), 1, 26)"
)
_INSTANT_OF_TEXT: Final = (
    f"CASE WHEN match($a, {_ISO}) AND toUInt16OrZero(substring($a, 1, 4)) BETWEEN 1900 AND 2298 THEN"
    # a day that is in no calendar comes back as another
    f" CASE WHEN substring(toString(toDateTime64OrNull({_ISO_TEXT}, 6, 'UTC')), 1, 19) = substring({_ISO_TEXT}, 1, 19)"
    f" THEN toDateTime64OrNull({_ISO_TEXT}, 6, 'UTC') END"
    f" WHEN match($a, '[0-9]') THEN {_refuse('datetime of such text', _INSTANT_TYPE)} END"
)
_GUID: Final = _text(r"\A[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\z")
_GUID_OF_TEXT: Final = (
    f"CASE WHEN match($a, {_GUID}) THEN toNullable(lower($a))"
    f" WHEN match(replaceAll($a, '-', ''), '[0-9a-fA-F]{{32}}') THEN {_refuse('guid of such text', 'String')} END"
)


def _of_dynamic(number: str, text: str, boolean: str) -> str:
    return (
        f"CASE WHEN {_IS_NUMBER} THEN {number} WHEN {_IS_TEXT} THEN {text.replace('$a', _HELD)}"
        f" WHEN JSONType($a) = 'Bool' THEN {boolean} END"
    )


def _whole_of_dynamic(target: str) -> str:
    kind = _TYPES[target]
    whole = f"CAST(toInt64OrNull($a) AS {kind})"
    beyond = _FROM_REAL[target].replace("$a", "toFloat64OrNull($a)")
    number = f"CASE WHEN JSONType($a) = 'Int64' THEN {whole} ELSE {beyond} END"
    return _of_dynamic(number, _WHOLE_TEXT[target], f"CAST($a = 'true' AS {kind})")


def _real_text(null: str, quote: str) -> str:
    words = {word: _text(f"{quote}{word}{quote}") for word in ("NaN", "Infinity", "-Infinity")}
    return _REAL_TEXT.format(null=null, nan=words["NaN"], infinite=words["Infinity"], negative=words["-Infinity"])


CONVERSIONS: Final = {
    ("bool", "string"): "CASE WHEN $a THEN 'True' WHEN $a IS NULL THEN '' ELSE 'False' END",
    **{(kind, "string"): "ifNull(toString($a), '')" for kind in ("int", "long")},
    ("real", "string"): _real_text("''", ""),
    ("datetime", "string"): f"ifNull({_INSTANT_TEXT}, '')",
    ("timespan", "string"): f"ifNull({_LENGTH_TEXT}, '')",
    ("guid", "string"): "ifNull($a, '')",
    ("dynamic", "string"): f"ifNull({_JSON_TEXT}, '')",
    **{(kind, "bool"): "CAST($a <> 0 AS Nullable(Bool))" for kind in ("int", "long", "real")},
    ("string", "bool"): _BOOL_TEXT,
    ("dynamic", "bool"): _of_dynamic(
        "CASE WHEN toFloat64OrNull($a) = trunc(toFloat64OrNull($a))"
        " THEN CAST(toFloat64OrNull($a) <> 0 AS Nullable(Bool)) END",
        _BOOL_TEXT,
        "CAST($a = 'true' AS Nullable(Bool))",
    ),
    **{
        pair: text
        for target in ("int", "long")
        for pair, text in {
            **{(kind, target): f"CAST($a AS {_TYPES[target]})" for kind in ("bool", "int", "long", "timespan")},
            ("real", target): _FROM_REAL[target],
            ("datetime", target): f"CAST({_TICKS} AS {_TYPES[target]})",
            ("string", target): _WHOLE_TEXT[target],
            ("dynamic", target): _whole_of_dynamic(target),
        }.items()
    },
    **{(kind, "real"): "CAST($a AS Nullable(Float64))" for kind in ("bool", "int", "long", "timespan")},
    ("string", "real"): _REAL_OF_TEXT,
    ("dynamic", "real"): _of_dynamic("toFloat64OrNull($a)", _REAL_OF_TEXT, "CAST($a = 'true' AS Nullable(Float64))"),
    ("string", "datetime"): _INSTANT_OF_TEXT,
    ("dynamic", "datetime"): f"CASE WHEN {_IS_TEXT} THEN {_INSTANT_OF_TEXT.replace('$a', _HELD)} END",
    ("int", "timespan"): "CAST($a AS Nullable(Int64))",
    ("long", "timespan"): "$a",
    ("datetime", "timespan"): _TICKS,
    ("string", "guid"): _GUID_OF_TEXT,
    ("dynamic", "guid"): f"CASE WHEN {_IS_TEXT} THEN {_GUID_OF_TEXT.replace('$a', _HELD)} END",
    ("bool", "dynamic"): "CASE WHEN $a THEN 'true' WHEN NOT $a THEN 'false' END",
    **{(kind, "dynamic"): "toString($a)" for kind in ("int", "long")},
    ("string", "dynamic"): "toJSONString($a)",
    ("guid", "dynamic"): "concat('\"', $a, '\"')",
    ("datetime", "dynamic"): f"concat('\"', {_INSTANT_TEXT}, '\"')",
    ("timespan", "dynamic"): f"concat('\"', {_LENGTH_TEXT}, '\"')",
    ("real", "dynamic"): _real_text("NULL", '"'),
}

CLICKHOUSE: Final = Dialect(
    name="clickhouse",
    types=_TYPES,
    forms=FORMS,
    conversions=CONVERSIONS,
    from_path={
        "string": "ifNull($t, '')",
        **{
            target: CONVERSIONS["dynamic", target].replace("$a", "$j")
            for target in ("bool", "int", "long", "real", "datetime", "guid")
        },
    },
    elements={
        "dynamic": "$a",
        "string": "ifNull($a, '')",
        **{
            target: f"CASE WHEN {_IS_NUMBER} THEN {CONVERSIONS['dynamic', target]} END"
            for target in ("int", "long", "real")
        },
        "datetime": CONVERSIONS["dynamic", "datetime"],
        "guid": CONVERSIONS["dynamic", "guid"],
    },
    parameter=_parameter,
    path=_path,
    escapes_names=True,
    has_routines=False,
    has_windows=False,
)

# -- functions --------------------------------------------------------------------------------------------------------


def _terms(is_begin: bool, is_end: bool, ignores_case: bool) -> Callable[[Sequence[Any]], Template | None]:
    def made(arguments: Sequence[Any]) -> Template | None:
        needle = constant(arguments[1])
        if not isinstance(needle, str):
            return None
        return _any_term([lower(needle) if ignores_case else needle], ignores_case, is_begin, is_end)

    return made


def _any_term(terms: Sequence[str], ignores_case: bool, is_begin: bool = True, is_end: bool = True) -> Template:
    if "" in terms:
        return Template("true")
    subject = "lowerUTF8($a)" if ignores_case else "$a"
    return Template(f"match({subject}, $pattern)", {"pattern": term_pattern(terms, False, is_begin, is_end)})


def _listed(arguments: Sequence[Any]) -> list[str] | None:
    """The terms of has_any and has_all, in lower case, where they are constants."""
    found: list[str] = []
    for argument in arguments[1:]:
        value = constant(argument)
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str):
                return None
            found.append(lower(item))
    return found


def _has_any(arguments: Sequence[Any]) -> Template | None:
    terms = _listed(arguments)
    if terms is None or len(terms) > 500:
        return None
    return _any_term(terms, True) if terms else Template("false")


def _has_all(arguments: Sequence[Any]) -> Template | None:
    terms = _listed(arguments)
    if terms is None or len(terms) > 26:
        return None
    names = {f"pattern{chr(97 + n)}": term_pattern([term], False) for n, term in enumerate(t for t in terms if t)}
    return Template(" AND ".join(f"match(lowerUTF8($a), ${name})" for name in names) or "true", names)


def _pattern(argument: Any) -> str | None:
    """A constant pattern as RE2 has it; without the flag that ClickHouse sets, under which a dot is a new line too."""
    pattern = constant(argument)
    if not isinstance(pattern, str) or regex.check(pattern) is not None:
        return None
    found = regex.compile(pattern).re2
    return None if found is None else f"(?-s){found}"


def _matches(arguments: Sequence[Any]) -> Template | None:
    pattern = _pattern(arguments[1])
    return None if pattern is None else Template("match($a, $pattern)", {"pattern": pattern})


def _extract(arguments: Sequence[Any]) -> Template | None:
    pattern, group = _pattern(arguments[0]), constant(arguments[1])
    if pattern is None or not isinstance(group, int) or not 0 <= group <= 9:
        return None
    if group > regex.compile(constant(arguments[0])).groups:
        return Template("''")
    return Template(f"regexpExtract($c, $pattern, {group})", {"pattern": pattern})


def _negated(text: TemplateOf) -> TemplateOf:
    def negated(arguments: Sequence[Any]) -> Template | None:
        found = Template(text) if isinstance(text, str) else text(arguments)
        return None if found is None else Template(f"NOT ({found.text})", found.values)

    return negated


def _substring(arguments: Sequence[Any]) -> Template | None:
    start = constant(arguments[1])
    length = constant(arguments[2]) if len(arguments) > 2 else 2**31
    if not isinstance(start, int) or not isinstance(length, int) or abs(start) > 2**31:
        return None
    length = min(max(length, 0), 2**31)
    if start >= 0:
        return Template(f"substringUTF8($a, {start + 1}, {length})")
    return Template(f"CASE WHEN lengthUTF8($a) >= {-start} THEN substringUTF8($a, {start}, {length}) ELSE '' END")


def _split(arguments: Sequence[Any]) -> Template | None:
    return Template("toJSONString(splitByString($b, $a))") if len(arguments) == 2 and constant(arguments[1]) else None


def _coalesced(arguments: Sequence[Any]) -> Template | None:
    if len(arguments) > 26:
        return None
    places = [f"${chr(97 + n)}" for n in range(len(arguments))]
    choices = " ".join(f"WHEN {place} <> '' THEN {place}" for place in places[:-1])
    return Template(f"CASE {choices} ELSE {places[-1]} END")


def _bin(arguments: Sequence[Any]) -> Template | None:
    size = constant(arguments[1])
    return Template(f"$a - positiveModulo($a, {size})") if isinstance(size, int) and size > 0 else None


def _bin_real(arguments: Sequence[Any]) -> Template | None:
    size = constant(arguments[1])
    return Template("floor($a / $b) * $b") if isinstance(size, int | float) and size > 0 else None


def _bin_instant(arguments: Sequence[Any]) -> Template | None:
    size = constant(arguments[1])
    if not isinstance(size, int) or size <= 0 or size % 10:
        return None
    since = f"({_MICROSECONDS.format('$a')} + {_MICROSECONDS_TO_1970})"
    return Template(f"fromUnixTimestamp64Micro({_MICROSECONDS.format('$a')} - {since} % {size // 10}, 'UTC')")


def _round(arguments: Sequence[Any]) -> Template | None:
    digits = constant(arguments[1]) if len(arguments) > 1 else 0
    if not isinstance(digits, int) or not 0 <= digits <= 15:
        return None
    scaled = f"($a * 1e{digits})" if digits else "$a"
    whole = f"(trunc({scaled}) + CASE WHEN abs({scaled} - trunc({scaled})) >= 0.5 THEN sign($a) ELSE 0 END)"
    return Template(f"{whole} / 1e{digits}")


_UNITS: Final = {
    "week": 604_800_000_000,
    "day": 86_400_000_000,
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
    "millisecond": 1_000,
    "microsecond": 1,
}
_MONTHS: Final = {"year": 12, "quarter": 3, "month": 1}


def _difference(arguments: Sequence[Any]) -> Template | None:
    word = constant(arguments[0])
    period = word.lower() if isinstance(word, str) else ""
    if period in _MONTHS:
        later, earlier = (
            f"intDiv(toInt64(toYear({place})) * 12 + toMonth({place}) - 1, {_MONTHS[period]})" for place in ("$b", "$c")
        )
    elif period in _UNITS:
        shift = _MICROSECONDS_TO_1970 + (_UNITS["day"] if period == "week" else 0)
        later, earlier = (
            f"intDiv({_MICROSECONDS.format(place)} + {shift}, {_UNITS[period]})" for place in ("$b", "$c")
        )
    else:
        return None
    return Template(f"{later} - {earlier}")


_LATER: Final = f"({_MICROSECONDS.format('$a')} {{0}})"
_HAS_TEXT: Final = "arrayExists(item -> startsWith(item, '\"') AND JSONExtractString(item) = $b, " + _ITEMS + ")"
_TEXTS_OF_B: Final = f"arrayMap(item -> ifNull({_ITEM_TEXT}, ''), {_ITEMS.replace('$a', '$b')})"
_WRONG_JSON: Final = _text(r"\A\s*[\[{].*([0-9]{19}|[0-9][eE][+]?[0-9]{3})")
_PARSED: Final = (
    "CASE WHEN isValidJSON($a) AND JSONExtractRaw($a) <> '' THEN nullif(JSONExtractRaw($a), 'null')"
    " WHEN $a = '' THEN NULL"
    f" WHEN isValidJSON($a) OR match($a, {_WRONG_JSON}) THEN {_refuse('JSON with numbers as great as these', 'String')}"
    " ELSE toJSONString($a) END"
)
_QUOTIENT: Final = (
    "CASE WHEN $b = 0 THEN CAST(NULL AS Nullable(Int64)) WHEN $b = -1 THEN 0 - $a ELSE intDivOrZero($a, $b) END"
)
_REMAINDER: Final = (
    "CASE WHEN $b = 0 THEN CAST(NULL AS Nullable(Int64)) WHEN $b = -1 THEN 0 * $a"
    " WHEN moduloOrZero($a, $b) < 0 THEN moduloOrZero($a, $b) + abs($b) ELSE moduloOrZero($a, $b) END"
)

FUNCTION_TEMPLATES: Final[dict[tuple[str, int], TemplateOf]] = {
    ("not", 0): "NOT $a",
    ("isnan", 0): "isNaN($a)",
    ("isnull", 0): "false",
    ("isnull", 1): "$a IS NULL",
    ("isnotnull", 0): "true",
    ("isnotnull", 1): "$a IS NOT NULL",
    ("isempty", 0): "$a = ''",
    ("isempty", 1): f"ifNull({_JSON_TEXT}, '') = ''",
    ("isempty", 2): "$a IS NULL",
    ("isnotempty", 0): "$a <> ''",
    ("isnotempty", 1): f"ifNull({_JSON_TEXT}, '') <> ''",
    ("isnotempty", 2): "$a IS NOT NULL",
    ("coalesce", 0): _coalesced,
    **{("coalesce", number): "coalesce($*)" for number in (1, 2, 3, 4, 6, 7, 8, 9)},
    # numbers and times
    ("+", 0): "$a + $b",
    ("+", 1): "$a + $b",
    ("+", 5): "$a + $b",
    ("+", 6): _instant(_LATER.format("+ intDiv($b - positiveModulo($b, 10), 10)")),
    ("+", 7): _instant(_LATER.format("+ intDiv($b - positiveModulo($b, 10), 10)"))
    .replace("$a", "$z")
    .replace("$b", "$a")
    .replace("$z", "$b"),
    ("-", 0): "$a - $b",
    ("-", 1): "$a - $b",
    ("-", 5): "$a - $b",
    ("-", 6): _instant(_LATER.format("- intDiv($b + positiveModulo(0 - $b, 10), 10)")),
    ("-", 7): f"({_MICROSECONDS.format('$a')} - {_MICROSECONDS.format('$b')}) * 10",
    **{("*", number): "$a * $b" for number in (0, 1, 5, 6)},
    ("/", 0): _QUOTIENT,
    ("/", 1): "$a / $b",
    ("/", 5): "CAST($a AS Nullable(Float64)) / CAST($b AS Nullable(Float64))",
    ("/", 8): _QUOTIENT,
    ("%", 0): _REMAINDER,
    ("%", 5): _REMAINDER,
    ("negate", 0): "0 - $a",
    ("negate", 1): "-$a",
    ("negate", 3): "0 - $a",
    ("bin", 0): _bin,
    ("bin", 1): _bin_real,
    ("bin", 5): _bin_instant,
    ("bin", 6): _bin,
    ("round", 0): _round,
    ("round", 1): "$a",
    ("round", 2): "$a",
    ("datetime_diff", 0): _difference,
    # strings
    ("=~", 0): "lowerUTF8($a) = lowerUTF8($b)",
    ("contains", 0): "position(lowerUTF8($a), lowerUTF8($b)) > 0",
    ("contains_cs", 0): "position($a, $b) > 0",
    ("startswith", 0): "startsWith(lowerUTF8($a), lowerUTF8($b))",
    ("startswith_cs", 0): "startsWith($a, $b)",
    ("endswith", 0): "endsWith(lowerUTF8($a), lowerUTF8($b))",
    ("endswith_cs", 0): "endsWith($a, $b)",
    **{
        (name + suffix, 0): _terms(is_begin, is_end, not suffix)
        for name, is_begin, is_end in (("has", True, True), ("hasprefix", True, False), ("hassuffix", False, True))
        for suffix in ("", "_cs")
    },
    ("has_any", 0): _has_any,
    ("has_all", 0): _has_all,
    ("matches regex", 0): _matches,
    ("extract", 0): _extract,
    ("tolower", 0): "lowerUTF8($a)",
    ("strlen", 0): "toInt64(lengthUTF8($a))",
    ("strcat", 0): "concat($*)",
    ("substring", 0): _substring,
    ("replace_string", 0): "replaceAll($a, $b, $c)",
    ("split", 0): _split,
    ("hash_sha256", 0): "CASE WHEN $a = '' THEN '' ELSE lower(hex(SHA256($a))) END",
    # dynamic values
    ("parse_json", 0): _PARSED,
    ("parse_json", 1): "$a",
    ("array_length", 0): "CASE WHEN JSONType($a) = 'Array' THEN toInt64(JSONLength($a)) END",
    ("set_has_element", 0): f"CASE WHEN JSONType($a) = 'Array' THEN {_HAS_TEXT} END",
    ("in_array", 0): f"has({_TEXTS_OF_B}, $a)",
    ("in_array~", 0): f"has(arrayMap(item -> lowerUTF8(item), {_TEXTS_OF_B}), lowerUTF8($a))",
}
FUNCTION_TEMPLATES.update(
    {
        ("!~" if name == "=~" else f"!{name}", 0): _negated(FUNCTION_TEMPLATES[name, 0])
        for name in (
            "=~", "contains", "contains_cs", "startswith", "startswith_cs", "endswith", "endswith_cs", "has", "has_cs",
            "hasprefix", "hasprefix_cs", "hassuffix", "hassuffix_cs",
        )
    }
)  # fmt: skip


def _array(items: str, most: str) -> str:
    return f"concat('[', arrayStringConcat(arraySlice({items}, 1, {most}), ','), ']')"


def _json_items(items: str, kind: str) -> str:
    made = {"string": "toJSONString(item)", "long": "toString(item)"}.get(kind)
    return items if made is None else f"arrayMap(item -> {made}, {items})"


_PARTS: Final = (
    "arrayFilter(item -> item <> 'null', arrayDistinct(arrayFlatten(arrayMap(item -> CASE WHEN startsWith(item, '[')"
    " THEN JSONExtractArrayRaw(item) ELSE [item] END, groupUniqArray($a) $filter))))"
)

AGGREGATE_TEMPLATES: Final[dict[tuple[str, int], str]] = {
    ("count", 0): "toInt64(count(*) $filter)",
    ("count", 1): "toInt64(count($a) $filter)",
    ("dcount", 0): "toInt64(count(DISTINCT $a) $filter)",
    ("dcount", 1): "toInt64(count(DISTINCT $a) $filter)",
    ("sum", 0): "coalesce(sum($a) $filter, 0)",
    ("sum", 1): "coalesce(sum($a) $filter, 0)",
    ("sum", 2): "coalesce(sum($a) $filter, 0e0)",
    ("avg", 0): "coalesce(avg(toNullable($a)) $filter, CAST('nan' AS Float64))",
    ("min", 0): "min(toNullable($a)) $filter",
    ("min", 1): "coalesce(min(toNullable($a)) $filter, '')",
    ("max", 0): "max(toNullable($a)) $filter",
    ("max", 1): "coalesce(max(toNullable($a)) $filter, '')",
    ("take_any", 0): "any(toNullable($a)) $filter",
    ("take_any", 1): "coalesce(any(nullif($a, '')) $filter, '')",
    **{
        ("make_list", number + more): _array(_json_items("groupArray($a) $filter", kind), "$b" if more else str(_MOST))
        for number, kind in enumerate(("string", "long", "packed"))
        for more in (0, 3)
    },
    **{
        ("make_set", number + more): _array(
            f"arraySort({_PARTS})" if kind == "packed" else _json_items("arraySort(groupUniqArray($a) $filter)", kind),
            "$b" if more else str(_MOST),
        )
        for number, kind in enumerate(("string", "long", "packed"))
        for more in (0, 3)
    },
}


def _register() -> None:
    """Write the templates into the rows of the function tables."""
    tables: tuple[tuple[Mapping[tuple[str, int], Any], Mapping[str, list[Any]]], ...] = (
        (FUNCTION_TEMPLATES, FUNCTIONS),
        (AGGREGATE_TEMPLATES, AGGREGATES),
    )
    for templates, rows in tables:
        for (name, number), text in templates.items():
            cast("dict[str, Any]", rows[name][number].sql)["clickhouse"] = text


_register()
