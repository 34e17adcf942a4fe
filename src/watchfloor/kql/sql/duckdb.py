"""The dialect of DuckDB, as tables.

Physical values: bool BOOLEAN, int INTEGER, long and timespan (ticks) BIGINT, real DOUBLE, decimal DECIMAL(38, 18),
string VARCHAR and never NULL, guid VARCHAR, datetime TIMESTAMPTZ of microseconds, dynamic VARCHAR that holds JSON, NULL
for null. Text that should be JSON and is not gives null, never an error: hence TRY. It costs a fifth of a query over
JSON, and stored text nearly always is JSON: ``trusting`` says a query without it.
"""

from __future__ import annotations

from typing import Final

from watchfloor.kql.functions.convert import SHORTCUTS, TEMPLATES
from watchfloor.kql.sql.dialect import Dialect

_TICKS_OF_1970: Final = 621_355_968_000_000_000
_MICROSECONDS_TO_1970: Final = 62_135_596_800_000_000

_TYPES: Final = {
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMPTZ",
    "decimal": "DECIMAL(38, 18)",
    "dynamic": "VARCHAR",
    "guid": "VARCHAR",
    "int": "INTEGER",
    "long": "BIGINT",
    "real": "DOUBLE",
    "string": "VARCHAR",
    "timespan": "BIGINT",
}


def _elements(kind: str, other: str, *, of_bag: str) -> str:
    """The list of what ``$a`` expands to: an array's elements, a bag's properties, anything else itself.

    JSON mostly says by its first sign what it is; looking no further is what makes this as fast as it can be.
    """
    array = f"CAST(TRY(from_json($a, '[\"{kind}\"]')) AS VARCHAR[])"
    return (
        f"CASE WHEN starts_with($a, '[') THEN {array} WHEN starts_with($a, '{{') THEN TRY({of_bag})"
        " WHEN $a IS NULL THEN [CAST(NULL AS VARCHAR)]"
        f" WHEN ascii($a) > 32 THEN [{other}] WHEN TRY(json_type($a)) = 'ARRAY' THEN {array}"
        f" WHEN TRY(json_type($a)) = 'OBJECT' THEN {of_bag} ELSE [{other}] END"
    )


_BAGS: Final = (
    "list_transform(list_zip(json_keys($a), json_extract($a, '$.*')),"
    " lambda e: '{' || CAST(to_json(e[1]) AS VARCHAR) || ':' || CAST(e[2] AS VARCHAR) || '}')"
)
_PAIRS: Final = (
    "list_transform(list_zip(json_keys($a), json_extract($a, '$.*')),"
    " lambda e: '[' || CAST(to_json(e[1]) AS VARCHAR) || ',' || CAST(e[2] AS VARCHAR) || ']')"
)

FORMS: Final = {
    # scalars
    "cast": "CAST($a AS $b)",
    "fold": "lower($a)",
    "same": "$a IS NOT DISTINCT FROM $b",
    "different": "$a IS DISTINCT FROM $b",
    "is_nan": "isnan($a)",
    "one_of_list": "$a IN (SELECT unnest($b))",
    "random": "random()",
    "path_text": "TRY(json_extract_string($a, $b))",
    "path_json": "nullif(CAST(TRY(json_extract($a, $b)) AS VARCHAR), 'null')",
    # An error that TRY catches costs a thousand times what this look costs; the first sign tells most often.
    "if_json": "CASE WHEN $a LIKE '{\"%}' THEN $a WHEN json_valid($a) THEN $a END",
    "key_json": (
        "CASE WHEN TRY(json_type($a)) = 'OBJECT' THEN"
        " nullif(CAST(json_extract($a, '/' || replace(replace($b, '~', '~0'), '/', '~1')) AS VARCHAR), 'null') END"
    ),
    "index_json": (
        "nullif(CAST(TRY(json_extract($a, CASE WHEN $b < 0 THEN '$[#' || $b || ']' ELSE '$[' || $b || ']' END))"
        " AS VARCHAR), 'null')"
    ),
    # values on their way into a routine and out of it
    "in_bool": "$a",
    "in_datetime": f"(epoch_us($a) * 10 + {_TICKS_OF_1970})",
    "in_decimal": "CAST($a AS VARCHAR)",
    "in_dynamic": "$a",
    "in_guid": "$a",
    "in_int": "CAST($a AS BIGINT)",
    "in_long": "$a",
    "in_real": "$a",
    "in_string": "$a",
    "in_timespan": "$a",
    "out_bool": "$a",
    "out_datetime": f"make_timestamptz($a // 10 - {_MICROSECONDS_TO_1970})",
    "out_decimal": "TRY_CAST($a AS DECIMAL(38, 18))",
    "out_dynamic": "$a",
    "out_guid": "$a",
    "out_int": "CAST($a AS INTEGER)",
    "out_long": "$a",
    "out_real": "CAST($a AS DOUBLE)",
    "out_string": "coalesce($a, '')",
    "out_timespan": "$a",
    # lists
    "list": "list($a $order) $filter",
    "field_of_rows": "list_transform($a, lambda e: e.$b)",
    "unnest": "unnest($a)",
    "places": "unnest(range($a))",
    "length": "len($a)",
    "longest": "greatest($*)",
    "first_of_list": "$a[:$b]",
    "at": "list_extract($a, $b)",
    "field": "struct_extract($a, '$b')",
    "unless_array": "CASE WHEN NOT starts_with($b, '[') THEN $a END",
    "expand_text_string": (
        "CASE WHEN starts_with($a, '[') THEN coalesce(TRY(from_json($a, '[\"VARCHAR\"]')), [$a]) ELSE $b END"
    ),
    "expand_text": (
        "CASE WHEN starts_with($a, '[') THEN coalesce(CAST(TRY(from_json($a, '[\"JSON\"]')) AS VARCHAR[]),"
        " [CAST(to_json($a) AS VARCHAR)]) ELSE $b END"
    ),
    "expand_string": _elements("VARCHAR", "TRY(json_extract_string($a, '$'))", of_bag=_BAGS),
    "expand": _elements("JSON", "$a", of_bag=_BAGS),
    "expand_string_pairs": _elements("VARCHAR", "TRY(json_extract_string($a, '$'))", of_bag=_PAIRS),
    "expand_pairs": _elements("JSON", "$a", of_bag=_PAIRS),
    # aggregates
    "distinct": "count(DISTINCT $a) $filter",
    "distinct_about": "approx_count_distinct($a) $filter",
    "combined": "hash($*)",
    "of_greatest": "arg_max_null($a, $b)",
    "of_least": "arg_min_null($a, $b)",
    "first": "first($a)",
    "running_restarts": "count(*) FILTER (WHERE $a) $over",
    "running_row_rank_dense": "count(*) FILTER (WHERE $a = 1 OR $b IS DISTINCT FROM $c) $over",
    "running_row_rank_min": "max(CASE WHEN $a = 1 OR $b IS DISTINCT FROM $c THEN $a END) $over",
    # relations
    "numbers": "range($a) AS $b($c)",
    "numbers_between": "range($a, $b, $c) AS $d($e)",
    "too_many": "error($a)",
    "instant_of_ticks": f"make_timestamptz(($a) // 10 - {_MICROSECONDS_TO_1970})",
    "ticks_of_instant": f"(epoch_us($a) * 10 + {_TICKS_OF_1970})",
    "one_each": "DISTINCT ON ($a)",
    "cross": "CROSS JOIN",
    "semi": "SEMI JOIN",
    "anti": "ANTI JOIN",
    "keep": "QUALIFY",
    "once": "MATERIALIZED",
    "inline": "NOT MATERIALIZED",
}

_IS_NUMBER: Final = "TRY(json_type($a)) IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
_IS_TEXT: Final = "TRY(json_type($a)) = 'VARCHAR'"
_TEXT_IF_THERE: Final = "CASE WHEN $t IS NOT NULL THEN {0} END"

_INSTANT: Final = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?"
_GUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

DUCKDB: Final = Dialect(
    name="duckdb",
    types=_TYPES,
    forms=FORMS,
    conversions=TEMPLATES["duckdb"],
    shortcuts=SHORTCUTS["duckdb"],
    # The usual case is tried on the text, which costs one look into the JSON; what it cannot read goes the long way.
    from_path={
        "string": "coalesce($t, '')",
        "real": _TEXT_IF_THERE.format(
            "CASE WHEN NOT contains($t, '_') THEN coalesce(TRY_CAST($t AS DOUBLE), $slow) END"
        ),
        "long": "CASE WHEN CAST(TRY_CAST($t AS BIGINT) AS VARCHAR) = $t THEN TRY_CAST($t AS BIGINT) ELSE $slow END",
        "int": "CASE WHEN CAST(TRY_CAST($t AS INTEGER) AS VARCHAR) = $t THEN TRY_CAST($t AS INTEGER) ELSE $slow END",
        "datetime": (
            f"CASE WHEN regexp_full_match($t, '{_INSTANT}') THEN coalesce(TRY_CAST($t AS TIMESTAMPTZ), $slow)"
            " WHEN $t IS NOT NULL THEN $slow END"
        ),
        "guid": f"CASE WHEN regexp_full_match($t, '{_GUID}') THEN $t WHEN $t IS NOT NULL THEN $slow END",
        "bool": "CASE $t WHEN 'true' THEN true WHEN 'false' THEN false ELSE $slow END",
    },
    elements={
        "dynamic": "$a",
        "string": "coalesce($a, '')",
        "real": "TRY_CAST($a AS DOUBLE)",
        "long": (
            "CASE WHEN CAST(TRY_CAST($a AS BIGINT) AS VARCHAR) = $a THEN TRY_CAST($a AS BIGINT)"
            f" WHEN {_IS_NUMBER} THEN {TEMPLATES['duckdb']['dynamic', 'long']} END"
        ),
        "int": f"CASE WHEN {_IS_NUMBER} THEN {TEMPLATES['duckdb']['dynamic', 'int']} END",
        "bool": (
            "CASE WHEN $a = 'true' THEN true WHEN $a = 'false' THEN false"
            f" WHEN {_IS_NUMBER} THEN {TEMPLATES['duckdb']['dynamic', 'bool']} END"
        ),
        "guid": f"CASE WHEN {_IS_TEXT} THEN {TEMPLATES['duckdb']['dynamic', 'guid']} END",
        "datetime": f"CASE WHEN {_IS_TEXT} THEN $convert END",
        "timespan": "CAST(NULL AS BIGINT)",
        "decimal": "CAST(NULL AS DECIMAL(38, 18))",
    },
)


def trusting(sql: str) -> str:
    """``sql`` as it may be run first: where a text is no JSON it fails, and ``sql`` itself must be run."""
    return sql.replace("TRY(json_", "(json_").replace("TRY(from_json(", "(from_json(")


def is_distrusted(error: Exception) -> bool:
    """Whether ``error`` is how a query fails that was trusting in vain."""
    return "JSON" in str(error)
