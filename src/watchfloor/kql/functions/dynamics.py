"""Functions over dynamic values: arrays, property bags, and JSON text.

An argument of the word ``packed`` is any scalar, converted to dynamic by the binder, so everything here sees plain
JSON. A value of the wrong shape (a bag where an array is wanted) gives null, never an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from string import ascii_lowercase
from typing import Any, Final

from watchfloor.kql.functions.convert import convert, dynamic_text, json_text
from watchfloor.kql.functions.spec import Template, scalar
from watchfloor.kql.values import parse_timespan

MAX_ELEMENTS: Final = 1_048_576
"""The longest array that a function makes out of numbers."""

_MAX_PATH: Final = 64


# -- equality ---------------------------------------------------------------------------------------------------------


def identity(value: Any) -> Any:
    """A hashable stand-in that is equal for equal dynamic values: numbers by value, true never equal to 1."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return ("array", tuple(identity(item) for item in value))
    if isinstance(value, dict):
        return ("bag", frozenset((key, identity(item)) for key, item in value.items()))
    return value


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repetition, in order of first appearance."""
    found: dict[Any, Any] = {}
    for value in values:
        found.setdefault(identity(value), value)
    return list(found.values())


# -- JSON text --------------------------------------------------------------------------------------------------------


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


@scalar(
    "parse_json",
    "string",
    "dynamic",
    page="parse-json-function",
    nulls="total",
    aliases=("todynamic", "parsejson", "toobject"),
    # json_valid takes NaN and Infinity for JSON; json() must not see other text even where the CASE leaves it out.
    duckdb="CASE WHEN length($a) < 10 AND ltrim(lower($a), '+- ') IN ('nan', 'inf', 'infinity') "
    "THEN CAST(to_json($a) AS VARCHAR) "
    "WHEN json_valid($a) THEN nullif(CAST(TRY(json($a)) AS VARCHAR), 'null') "
    "WHEN $a = '' THEN NULL ELSE CAST(to_json($a) AS VARCHAR) END",
)
def parse_json(text: str) -> Any:
    """The value that JSON text stands for; any other text is itself, as a dynamic string; '' is null."""
    if not text:
        return None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text:
            json_text(value).encode()  # half a surrogate pair is no JSON
        return value
    except (ValueError, RecursionError):
        return text


@scalar("parse_json", "dynamic", "dynamic", page="parse-json-function", duckdb="$a")
def parse_json_of_dynamic(value: Any) -> Any:
    return value


@scalar("dynamic_to_json", "dynamic", "string", page="dynamic-to-json-function", nulls="total")
def dynamic_to_json(value: Any) -> str:
    """Canonical text: names sorted, no blanks."""
    if isinstance(value, list | dict):
        return json_text(_sorted(value))
    return dynamic_text(value)


@scalar("dynamic_to_json", "text", "string", page="dynamic-to-json-function", nulls="total", duckdb="$a")
def dynamic_to_json_of_scalar(text: str) -> str:
    return text


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


# -- packing ----------------------------------------------------------------------------------------------------------


@scalar(
    "pack_array",
    "packed+",
    "dynamic",
    page="pack-array-function",
    nulls="total",
    duckdb="'[' || array_to_string(list_transform([$*], lambda item: coalesce(item, 'null')), ',') || ']'",
)
def pack_array(*values: Any) -> list[Any]:
    return list(values)


def _constant_keys(arguments: Sequence[Any]) -> list[str] | None:
    """The keys as JSON text, if all are known and no two are the same."""
    keys = [getattr(key, "value", None) for key in arguments[::2]]
    if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        return None
    return [json_text(key) for key in keys]


def _bag_template(arguments: Sequence[Any]) -> Template | None:
    keys = _constant_keys(arguments)
    if keys is None:
        return None
    if len(arguments) <= len(ascii_lowercase):
        named = {f"key_{letter}": f"{',' * (place > 0)}{key}:" for place, (letter, key) in enumerate(_letters(keys))}
        parts = " || ".join(f"$key_{letter} || coalesce(${letter}, 'null')" for letter, _ in _letters(keys))
        return Template(f"'{{' || {parts} || '}}'", named)
    items = "list_transform([$*][2:-:2], lambda item, place: $keys[place] || ':' || coalesce(item, 'null'))"
    return Template(f"'{{' || array_to_string({items}, ',') || '}}'", {"keys": keys})


def _present_template(arguments: Sequence[Any]) -> Template | None:
    keys = _constant_keys(arguments)
    if keys is None:
        return None
    pairs = (
        "list_transform([$*][2:-:2], lambda item, place: CASE WHEN item <> $empty THEN $keys[place] || ':' || item END)"
    )
    return Template(
        f"'{{' || array_to_string(list_filter({pairs}, lambda pair: pair IS NOT NULL), ',') || '}}'",
        {"keys": keys, "empty": '""'},
    )


def _letters(keys: Sequence[str]) -> list[tuple[str, str]]:
    """The variable of each key's value, and the key."""
    return list(zip(ascii_lowercase[1::2], keys, strict=False))


def _check_pairs(arguments: Sequence[Any]) -> str | None:
    if len(arguments) % 2:
        return "a key has no value"
    for key in arguments[::2]:
        type_ = getattr(getattr(key, "base", None), "type", "string")
        if not isinstance(getattr(key, "value", ""), str) or type_ not in ("string", "dynamic", "unknown"):
            return "a key is no string"
    return None


@scalar(
    "bag_pack",
    "packed+",
    "dynamic",
    page="pack-function",
    nulls="total",
    aliases=("pack", "pack_dictionary"),
    duckdb=_bag_template,
    check=_check_pairs,
)
def bag_pack(*keys_and_values: Any) -> dict[str, Any]:
    """Of a key given twice the first value stays; without a key there is no value either."""
    bag: dict[str, Any] = {}
    for key, value in zip(keys_and_values[::2], keys_and_values[1::2], strict=True):
        if key is not None:
            bag.setdefault(dynamic_text(key), value)
    return bag


@scalar(
    "bag_pack_present",
    "packed+",
    "dynamic",
    page="pack-all-function",
    nulls="total",
    duckdb=_present_template,
    check=_check_pairs,
)
def bag_pack_present(*keys_and_values: Any) -> dict[str, Any]:
    """pack_all(true): bag_pack without nulls and empty strings. No function of KQL itself."""
    bag = bag_pack(*keys_and_values)
    return {key: value for key, value in bag.items() if value is not None and value != ""}


@scalar("repeat", "packed long", "dynamic", page="repeat-function", nulls="total")
def repeat(value: Any, count: int | None) -> list[Any] | None:
    if count is None or count < 0:
        return None
    return [value] * min(count, MAX_ELEMENTS)


# -- arrays: measure, find --------------------------------------------------------------------------------------------


@scalar(
    "array_length",
    "dynamic",
    "long",
    page="array-length-function",
    aliases=("arraylength",),
    duckdb="CASE WHEN json_type($a) = 'ARRAY' THEN CAST(json_array_length($a) AS BIGINT) END",
)
def array_length(array: Any) -> int | None:
    return len(array) if isinstance(array, list) else None


@scalar("array_sum", "dynamic", "real", page="array-sum-function")
def array_sum(array: Any) -> float | None:
    """Null if an element is no number."""
    if not isinstance(array, list) or not all(_is_number(item) for item in array):
        return None
    return float(sum(array))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@scalar("array_index_of", "dynamic packed long? long? long?", "long", page="array-index-of-function")
def array_index_of(array: Any, value: Any, start: int = 0, length: int = -1, occurrence: int = 1) -> int | None:
    if not isinstance(array, list) or length < -1 or occurrence < 1:
        return None
    if start < 0:
        start = max(start + len(array), 0)
    end = len(array) if length == -1 else min(start + length, len(array))
    wanted = identity(value)
    places = (place for place in range(start, end) if identity(array[place]) == wanted)
    return next((place for count, place in enumerate(places, 1) if count == occurrence), -1)


def set_has_element(array: Any, value: Any) -> bool | None:
    if not isinstance(array, list):
        return None
    wanted = identity(value)
    return any(identity(item) == wanted for item in array)


scalar(
    "set_has_element",
    "dynamic string",
    "bool",
    page="set-has-element-function",
    duckdb="CASE WHEN json_type($a) = 'ARRAY' "
    "THEN list_contains(CAST(json_extract($a, '$[*]') AS JSON[]), to_json($b)) END",
)(set_has_element)
scalar("set_has_element", "dynamic packed", "bool", page="set-has-element-function")(set_has_element)


def _is_any(subject: Any, subject_type: str, array: Any) -> bool:
    if subject is None or not isinstance(array, list):
        return False
    found = (convert(item, "dynamic", subject_type) for item in array)
    return any(item is not None and item == subject for item in found)


def in_array_string(subject: str, array: Any) -> bool:
    return isinstance(array, list) and any(dynamic_text(item) == subject for item in array)


def in_array_folded(subject: str, array: Any) -> bool:
    subject = subject.lower()
    return isinstance(array, list) and any(dynamic_text(item).lower() == subject for item in array)


scalar(
    "in_array",
    "string dynamic",
    "bool",
    page="in-cs-operator",
    nulls="total",
    duckdb="coalesce(list_contains(list_transform(CAST(json_extract_string($b, '$[*]') AS VARCHAR[]), "
    "lambda item: coalesce(item, '')), $a), FALSE)",
)(in_array_string)
scalar(
    "in_array~",
    "string dynamic",
    "bool",
    page="in-operator",
    nulls="total",
    duckdb="coalesce(list_contains(list_transform(CAST(json_extract_string($b, '$[*]') AS VARCHAR[]), "
    "lambda item: lower(coalesce(item, ''))), lower($a)), FALSE)",
)(in_array_folded)


def _in_array_of(subject_type: str) -> None:
    def in_array(subject: Any, array: Any) -> bool:
        return _is_any(subject, subject_type, array)

    for name, page in (("in_array", "in-cs-operator"), ("in_array~", "in-operator")):
        scalar(name, f"{subject_type} dynamic", "bool", page=page, nulls="total")(in_array)


for _type in ("long", "real", "bool", "datetime", "timespan", "guid", "decimal"):
    _in_array_of(_type)


@scalar("in_array", "dynamic dynamic", "bool", page="in-cs-operator", nulls="total")
def in_array_dynamic(subject: Any, array: Any) -> bool:
    return subject is not None and bool(set_has_element(array, subject))


@scalar("in_array~", "dynamic dynamic", "bool", page="in-operator", nulls="total")
def in_array_dynamic_folded(subject: Any, array: Any) -> bool:
    return subject is not None and in_array_folded(dynamic_text(subject), array)


# -- arrays: cut, turn, join ------------------------------------------------------------------------------------------


def array_concat(*arrays: Any) -> list[Any] | None:
    if not all(isinstance(array, list) for array in arrays):
        return None
    return [item for array in arrays for item in array]


scalar("array_concat", "dynamic", "dynamic", page="array-concat-function")(array_concat)
scalar(
    "array_concat",
    "dynamic dynamic",
    "dynamic",
    page="array-concat-function",
    duckdb="CASE WHEN json_type($a) = 'ARRAY' AND json_type($b) = 'ARRAY' THEN CAST(to_json(list_concat("
    "CAST(json_extract($a, '$[*]') AS JSON[]), CAST(json_extract($b, '$[*]') AS JSON[]))) AS VARCHAR) END",
)(array_concat)
scalar("array_concat", "dynamic+", "dynamic", page="array-concat-function")(array_concat)


@scalar(
    "array_iff",
    "dynamic packed packed",
    "dynamic",
    page="array-iff-function",
    nulls="total",
    aliases=("array_iif",),
)
def array_iff(conditions: Any, when_true: Any, when_false: Any) -> list[Any] | None:
    """Element by element; null where the condition is neither a bool nor a number."""
    if not isinstance(conditions, list):
        return None

    def at(values: Any, place: int) -> Any:
        if not isinstance(values, list):
            return values
        return values[place] if place < len(values) else None

    return [
        at(when_true if condition else when_false, place) if isinstance(condition, int | float) else None
        for place, condition in enumerate(conditions)
    ]


@scalar("array_reverse", "dynamic", "dynamic", page="array-reverse-function")
def array_reverse(array: Any) -> list[Any] | None:
    return array[::-1] if isinstance(array, list) else None


@scalar("array_rotate_left", "dynamic long", "dynamic", page="array-rotate-left-function")
def array_rotate_left(array: Any, count: int) -> list[Any] | None:
    if not isinstance(array, list):
        return None
    count = count % len(array) if array else 0
    return array[count:] + array[:count]


@scalar("array_rotate_right", "dynamic long", "dynamic", page="array-rotate-right-function")
def array_rotate_right(array: Any, count: int) -> list[Any] | None:
    return array_rotate_left(array, -count)


@scalar("array_shift_left", "dynamic long", "dynamic", page="array-shift-left-function")
def array_shift_left(array: Any, count: int) -> list[Any] | None:
    """What comes in is null, or '' among strings."""
    if not isinstance(array, list):
        return None
    return _shifted(array, count, "" if array and all(isinstance(item, str) for item in array) else None)


@scalar("array_shift_left", "dynamic long packed", "dynamic", page="array-shift-left-function", nulls="total")
def array_shift_left_filled(array: Any, count: int | None, default: Any) -> list[Any] | None:
    return _shifted(array, count, default) if isinstance(array, list) and count is not None else None


@scalar("array_shift_right", "dynamic long", "dynamic", page="array-shift-right-function")
def array_shift_right(array: Any, count: int) -> list[Any] | None:
    return array_shift_left(array, -count)


@scalar("array_shift_right", "dynamic long packed", "dynamic", page="array-shift-right-function", nulls="total")
def array_shift_right_filled(array: Any, count: int | None, default: Any) -> list[Any] | None:
    return array_shift_left_filled(array, None if count is None else -count, default)


def _shifted(array: list[Any], count: int, fill: Any) -> list[Any]:
    padding = [fill] * min(abs(count), len(array))
    return array[count:] + padding if count >= 0 else padding + array[: max(len(array) + count, 0)]


@scalar("array_slice", "dynamic long long", "dynamic", page="array-slice-function")
def array_slice(array: Any, start: int, end: int) -> list[Any] | None:
    """Both ends belong to it; what lies outside of the array is ignored."""
    if not isinstance(array, list):
        return None
    start, end = (index + len(array) if index < 0 else index for index in (start, end))
    return array[max(start, 0) : max(end + 1, 0)]


@scalar("array_split", "dynamic long", "dynamic", page="array-split-function")
def array_split(array: Any, index: int) -> list[Any] | None:
    return array_split_at(array, [index])


@scalar("array_split", "dynamic dynamic", "dynamic", page="array-split-function")
def array_split_at(array: Any, indices: Any) -> list[Any] | None:
    if _is_number(indices):
        indices = [int(indices)]
    if not isinstance(array, list) or not isinstance(indices, list) or not all(map(_is_number, indices)):
        return None
    cuts = [min(max(int(cut) + len(array) if cut < 0 else int(cut), 0), len(array)) for cut in indices]
    return [array[start:end] for start, end in zip([0, *cuts], [*cuts, len(array)], strict=True)]


@scalar("zip", "dynamic dynamic+", "dynamic", page="zip-function")
def zip_(*arrays: Any) -> list[Any] | None:
    """Arrays of what stands at one place; the shorter are padded with null."""
    if not all(isinstance(array, list) for array in arrays):
        return None
    length = max(len(array) for array in arrays)
    return [[array[place] if place < len(array) else None for array in arrays] for place in range(length)]


# -- arrays: sort -----------------------------------------------------------------------------------------------------

_TIMESPAN: Final = re.compile(r"-?(?:\d+\.)?\d\d:\d\d:\d\d(?:\.\d{7})?", re.ASCII)
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def rank(value: Any) -> tuple[int, Any]:
    """Numbers and times, then strings, then guids, then all else; among the last, as they come."""
    if _is_number(value):
        return 0, Decimal(value)
    if isinstance(value, str):
        if _TIMESPAN.fullmatch(value):
            return 1, parse_timespan(value) or 0
        return (3, value) if _GUID.fullmatch(value) else (2, value)
    return 4, 0


def _sorted_alike(arguments: Sequence[Any], is_descending: bool) -> list[Any]:
    nulls_last = True
    if len(arguments) > 1 and isinstance(arguments[-1], bool):
        nulls_last, arguments = arguments[-1], arguments[:-1]
    first = arguments[0]
    if not isinstance(first, list):
        return [None] * len(arguments)
    present = [place for place, item in enumerate(first) if item is not None]
    nulls = [place for place, item in enumerate(first) if item is None]
    ranks = {place: rank(first[place]) for place in present}
    groups = sorted({group for group, _ in ranks.values()})
    order = [
        place
        for group in groups
        for place in sorted(
            (place for place in present if ranks[place][0] == group),
            key=lambda place: ranks[place][1],
            reverse=is_descending,
        )
    ]
    order = order + nulls if nulls_last else nulls + order
    return [
        [array[place] for place in order] if isinstance(array, list) and len(array) == len(first) else None
        for array in arguments
    ]


@scalar(
    "array_sort_asc",
    "dynamic+ =bool?",
    "dynamic",
    page="array-sort-asc-function",
    nulls="total",
    spreads=(("sorted", "dynamic"),),
)
def array_sort_asc(*arguments: Any) -> list[Any]:
    """The first array sorted and the others in the order of the first; null for one of another length."""
    return _sorted_alike(arguments, is_descending=False)


@scalar(
    "array_sort_desc",
    "dynamic+ =bool?",
    "dynamic",
    page="array-sort-desc-function",
    nulls="total",
    spreads=(("sorted", "dynamic"),),
)
def array_sort_desc(*arguments: Any) -> list[Any]:
    return _sorted_alike(arguments, is_descending=True)


# -- sets -------------------------------------------------------------------------------------------------------------


def _sets(arrays: Sequence[Any]) -> list[set[Any]] | None:
    if not all(isinstance(array, list) for array in arrays):
        return None
    return [{identity(item) for item in array} for array in arrays]


@scalar("set_difference", "dynamic dynamic+", "dynamic", page="set-difference-function")
def set_difference(*arrays: Any) -> list[Any] | None:
    sets = _sets(arrays)
    if sets is None:
        return None
    taken = set().union(*sets[1:])
    return [item for item in distinct(arrays[0]) if identity(item) not in taken]


@scalar("set_intersect", "dynamic dynamic+", "dynamic", page="set-intersect-function")
def set_intersect(*arrays: Any) -> list[Any] | None:
    sets = _sets(arrays)
    if sets is None:
        return None
    shared = sets[0].intersection(*sets[1:])
    return [item for item in distinct(arrays[0]) if identity(item) in shared]


@scalar("set_union", "dynamic dynamic+", "dynamic", page="set-union-function")
def set_union(*arrays: Any) -> list[Any] | None:
    if not all(isinstance(array, list) for array in arrays):
        return None
    return distinct(item for array in arrays for item in array)


@scalar("set_equals", "dynamic dynamic", "bool", page="set-equals-function")
def set_equals(first: Any, second: Any) -> bool | None:
    sets = _sets((first, second))
    return None if sets is None else sets[0] == sets[1]


@scalar("jaccard_index", "dynamic dynamic", "real", page="jaccard-index-function")
def jaccard_index(first: Any, second: Any) -> float | None:
    sets = _sets((first, second))
    if sets is None:
        return None
    union = sets[0] | sets[1]
    return len(sets[0] & sets[1]) / len(union) if union else float("nan")


# -- bags -------------------------------------------------------------------------------------------------------------

_STEP: Final = re.compile(r"""\.([^.\[\]'"]+)|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")


def bag_path(key: str) -> list[str] | None:
    """The steps of ``key``: itself, or the names of a JSON path ($.a.b, $['a']['b']); None for a path that is no
    chain of names."""
    if not key.startswith("$"):
        return [key]
    steps, place = [], 1
    while place < len(key):
        match = _STEP.match(key, place)
        if match is None:
            return None
        steps.append(match.group(1) or re.sub(r"\\(.)", r"\1", match.group(2) or match.group(3) or ""))
        place = match.end()
    return steps[:_MAX_PATH] or None


@scalar("bag_has_key", "dynamic string", "bool", page="bag-has-key-function")
def bag_has_key(bag: Any, key: str) -> bool:
    """The key may be a JSON path."""
    if not isinstance(bag, dict):
        return False
    if key in bag:
        return True
    steps = bag_path(key)
    if steps is None:
        return False
    for step in steps:
        if not isinstance(bag, dict) or step not in bag:
            return False
        bag = bag[step]
    return True


@scalar(
    "bag_keys",
    "dynamic",
    "dynamic",
    page="bag-keys-function",
    duckdb="CASE WHEN json_type($a) = 'OBJECT' THEN CAST(to_json(json_keys($a)) AS VARCHAR) END",
)
def bag_keys(bag: Any) -> list[Any] | None:
    return list(bag) if isinstance(bag, dict) else None


@scalar("bag_merge", "dynamic dynamic+", "dynamic", page="bag-merge-function")
def bag_merge(*bags: Any) -> dict[str, Any] | None:
    """For a key in several bags the leftmost counts."""
    if not all(isinstance(bag, dict) for bag in bags):
        return None
    merged: dict[str, Any] = {}
    for bag in bags:
        for key, value in bag.items():
            merged.setdefault(key, value)
    return merged


@scalar("bag_remove_keys", "dynamic dynamic", "dynamic", page="bag-remove-keys-function")
def bag_remove_keys(bag: Any, keys: Any) -> dict[str, Any] | None:
    """Keys may be JSON paths; those that are not there are ignored."""
    if not isinstance(bag, dict) or not isinstance(keys, list):
        return None
    for key in keys:
        steps = bag_path(key) if isinstance(key, str) else None
        if steps is not None:
            bag = _without(bag, steps)
    return dict(bag)


def _without(bag: Any, steps: Sequence[str]) -> Any:
    if not isinstance(bag, dict) or steps[0] not in bag:
        return bag
    if len(steps) == 1:
        return {key: value for key, value in bag.items() if key != steps[0]}
    return {key: _without(value, steps[1:]) if key == steps[0] else value for key, value in bag.items()}


@scalar("bag_set_key", "dynamic =string packed", "dynamic", page="bag-set-key-function", nulls="total")
def bag_set_key(bag: Any, key: str, value: Any) -> dict[str, Any] | None:
    """The key may be a JSON path: bags on the way are made. Null if something else than a bag stands there."""
    steps = bag_path(key)
    if not isinstance(bag, dict) or steps is None:
        return None
    return _with(bag, steps, value)


def _with(bag: dict[str, Any], steps: Sequence[str], value: Any) -> dict[str, Any] | None:
    if len(steps) > 1:
        inner = bag.get(steps[0])
        if inner is not None and not isinstance(inner, dict):
            return None
        value = _with(inner or {}, steps[1:], value)
        if value is None:
            return None
    return {**{name: item for name, item in bag.items() if name != steps[0]}, steps[0]: value}


@scalar("bag_zip", "dynamic dynamic", "dynamic", page="bag-zip")
def bag_zip(keys: Any, values: Any) -> dict[str, Any] | None:
    """Keys that are no strings are left out together with their values; missing values are null."""
    if not isinstance(keys, list):
        return None
    if not isinstance(values, list):
        values = []
    return {
        key: values[place] if place < len(values) else None for place, key in enumerate(keys) if isinstance(key, str)
    }


@scalar("treepath", "dynamic", "dynamic", page="treepath-function")
def treepath(value: Any) -> list[Any] | None:
    """Every path inside, ``['a'][0]['b']``, all elements of an array as one."""
    if not isinstance(value, dict | list):
        return None
    return list(dict.fromkeys(_paths(value, "")))


def _paths(value: Any, prefix: str) -> Iterable[str]:
    if isinstance(value, dict):
        steps = [(f"{prefix}['{key}']", item) for key, item in value.items()]
    elif isinstance(value, list):
        steps = [(f"{prefix}[0]", item) for item in value]
    else:
        return
    for path, item in steps:
        yield path
        yield from _paths(item, path)
