"""Functions about null, types, bits and random numbers, and conversions between units of measure."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.kql.functions.convert import dynamic_text
from watchfloor.kql.functions.mathematics import wrapped
from watchfloor.kql.functions.spec import REFUSED, Template, scalar
from watchfloor.kql.ir import Const

_TYPES: Final = ("bool", "datetime", "decimal", "dynamic", "guid", "int", "long", "real", "string", "timespan")
_BUT_STRING: Final = "bool|datetime|decimal|dynamic|guid|int|long|real|timespan"
_PLAIN: Final = "bool|datetime|decimal|guid|int|long|real|timespan"
_TEXT_OF_DYNAMIC: Final = "coalesce(json_extract_string($a, '$'), '')"

for _name in ("current_cluster_endpoint", "current_node_id", "cluster"):
    REFUSED[_name] = "there is one store here and no cluster"
for _name in ("cursor_after", "cursor_before_or_at", "cursor_current", "current_cursor", "rowstore_ordinal_range"):
    REFUSED[_name] = "the store has no cursors: filter on the time column"
for _name in ("extent_id", "extentid", "extent_tags", "row_id"):
    REFUSED[_name] = "the store has no extents"
for _name in ("current_principal", "current_principal_details", "current_principal_is_member_of"):
    REFUSED[_name] = "queries do not know who asks"
for _name in ("external_table", "materialized_view", "stored_query_result", "entity_group"):
    REFUSED[_name] = "only the tables of the store can be queried"
REFUSED["geo_info_from_ip_address"] = "there is no table of addresses and places here"


# -- null and empty ---------------------------------------------------------------------------------------------------


@scalar("isnull", "string", "bool", page="isnull-function", nulls="total", duckdb="false")
def isnull_string(_text: str) -> bool:
    """Text is never null."""
    return False


@scalar("isnull", _BUT_STRING, "bool", page="isnull-function", nulls="total", duckdb="$a IS NULL")
def isnull(value: Any) -> bool:
    return value is None


@scalar("isnotnull", "string", "bool", page="isnotnull-function", nulls="total", duckdb="true", aliases=("notnull",))
def isnotnull_string(_text: str) -> bool:
    return True


@scalar("isnotnull", _BUT_STRING, "bool", page="isnotnull-function", nulls="total", duckdb="$a IS NOT NULL")
def isnotnull(value: Any) -> bool:
    return value is not None


@scalar("isempty", "string", "bool", page="isempty-function", nulls="total", duckdb="$a = ''")
def isempty_string(text: str) -> bool:
    return not text


@scalar("isempty", "dynamic", "bool", page="isempty-function", nulls="total", duckdb=f"{_TEXT_OF_DYNAMIC} = ''")
def isempty_dynamic(value: Any) -> bool:
    """Null or empty text; an empty array is not empty."""
    return not dynamic_text(value)


@scalar("isempty", _PLAIN, "bool", page="isempty-function", nulls="total", duckdb="$a IS NULL")
def isempty(value: Any) -> bool:
    return value is None


@scalar(
    "isnotempty", "string", "bool", page="isnotempty-function", nulls="total", duckdb="$a <> ''", aliases=("notempty",)
)
def isnotempty_string(text: str) -> bool:
    return bool(text)


@scalar("isnotempty", "dynamic", "bool", page="isnotempty-function", nulls="total", duckdb=f"{_TEXT_OF_DYNAMIC} <> ''")
def isnotempty_dynamic(value: Any) -> bool:
    return bool(dynamic_text(value))


@scalar("isnotempty", _PLAIN, "bool", page="isnotempty-function", nulls="total", duckdb="$a IS NOT NULL")
def isnotempty(value: Any) -> bool:
    return value is not None


@scalar("not", "bool", "bool", page="not-function", duckdb="NOT $a")
def not_(value: bool) -> bool:
    """Null of null."""
    return not value


def _coalesced_texts(given: Sequence[Any]) -> Template:
    """``CASE WHEN $a <> '' THEN $a ... ELSE the last``."""
    places = [f"${letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[: len(given)]]
    if len(places) < len(given):
        return Template("coalesce(list_filter([$*], lambda one: one <> '')[1], '')")
    choices = " ".join(f"WHEN {place} <> '' THEN {place}" for place in places[:-1])
    return Template(f"CASE {choices} ELSE {places[-1]} END")


@scalar("coalesce", "string string+", "string", page="coalesce-function", nulls="total", duckdb=_coalesced_texts)
def coalesce_texts(*texts: str) -> str:
    """The first that is not empty."""
    return next((text for text in texts if text), "")


def _coalesced(*values: Any) -> Any:
    """The first that is not null."""
    return next((value for value in values if value is not None), None)


for _type in ("bool", "int", "long", "real", "decimal", "datetime", "timespan", "guid", "dynamic"):
    scalar("coalesce", f"{_type} {_type}+", _type, page="coalesce-function", nulls="total", duckdb="coalesce($*)")(
        _coalesced
    )


def _greatest(*values: Any) -> Any:
    """The greatest that is not null; NaN is above every number."""
    found = [value for value in values if value is not None]
    return max(found, key=_place) if found else None


def _least(*values: Any) -> Any:
    """The least that is not null."""
    found = [value for value in values if value is not None]
    return min(found, key=_place) if found else None


def _place(value: Any) -> tuple[bool, Any]:
    is_nan = isinstance(value, float) and math.isnan(value)
    return is_nan, 0 if is_nan else value


for _type in ("int", "long", "real", "decimal", "datetime", "timespan", "string", "bool"):
    for _name, _rule, _sql in (("max_of", _greatest, "greatest"), ("min_of", _least, "least")):
        scalar(
            _name,
            f"{_type} {_type}+",
            _type,
            page=f"{_name.replace('_', '-')}-function",
            nulls="total",
            duckdb=f"{_sql}($*)",
        )(_rule)


@scalar("isnan", "real", "bool", page="isnan-function", duckdb="isnan($a)")
def isnan(number: float) -> bool:
    return math.isnan(number)


@scalar("isinf", "real", "bool", page="isinf-function", duckdb="isinf($a)")
def isinf(number: float) -> bool:
    return math.isinf(number)


@scalar("isfinite", "real", "bool", page="isfinite-function", duckdb="isfinite($a)")
def isfinite(number: float) -> bool:
    return math.isfinite(number)


# -- types and sizes --------------------------------------------------------------------------------------------------


def _named(kind: str) -> Callable[[Any], str]:
    return lambda _value: kind


for _type in _TYPES:
    if _type != "dynamic":
        scalar("gettype", _type, "string", page="gettype-function", nulls="total", duckdb=f"'{_type}'")(_named(_type))


@scalar(
    "gettype",
    "dynamic",
    "string",
    page="gettype-function",
    nulls="total",
    duckdb=(
        "CASE coalesce(json_type($a), 'NULL') WHEN 'NULL' THEN 'null' WHEN 'ARRAY' THEN 'array' WHEN 'OBJECT' THEN"
        " 'dictionary' WHEN 'VARCHAR' THEN 'string' WHEN 'BOOLEAN' THEN 'bool' WHEN 'DOUBLE' THEN 'double'"
        " ELSE 'long' END"
    ),
)
def gettype_dynamic(value: Any) -> str:
    """The type of what it holds."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "long"
        case float():
            return "double"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "dictionary"


for _type, _size in {
    "bool": 1, "int": 4, "long": 8, "real": 8, "datetime": 8, "timespan": 8, "guid": 16, "decimal": 16,
}.items():  # fmt: skip

    def _sized(_value: Any, size: int = _size) -> int:
        return size

    scalar(
        "estimate_data_size",
        _type,
        "long",
        page="estimate-data-size-function",
        nulls="total",
        duckdb=f"CAST({_size} AS BIGINT)",
    )(_sized)


@scalar("estimate_data_size", "string", "long", page="estimate-data-size-function", duckdb="CAST(strlen($a) AS BIGINT)")
def estimate_data_size(text: str) -> int:
    """Of one column, in bytes."""
    return len(text.encode())


def _failed(given: Sequence[Any]) -> str | None:
    condition, message = given
    if isinstance(condition, Const) and condition.value is not True:
        return f"assert() has failed with message: {message.value!r}"
    return None


@scalar("assert", "=bool =string", "bool", page="assert-function", check=_failed)
def assert_(condition: bool, message: str) -> bool:
    """True; the binder refuses the query with ``message`` where the condition is not true."""
    if not condition:
        raise ValueError(message)
    return True


# -- bits -------------------------------------------------------------------------------------------------------------


@scalar("binary_and", "long long", "long", page="binary-and-function", duckdb="$a & $b")
def binary_and(left: int, right: int) -> int:
    return left & right


@scalar("binary_or", "long long", "long", page="binary-or-function", duckdb="$a | $b")
def binary_or(left: int, right: int) -> int:
    return left | right


@scalar("binary_xor", "long long", "long", page="binary-xor-function", duckdb="xor($a, $b)")
def binary_xor(left: int, right: int) -> int:
    return left ^ right


@scalar("binary_not", "long", "long", page="binary-not-function", duckdb="-1 - $a")
def binary_not(value: int) -> int:
    return ~value


@scalar("binary_shift_left", "long long", "long", page="binary-shift-left-function")
def binary_shift_left(value: int, shift: int) -> int | None:
    """By ``shift`` modulo 64; null for a negative shift."""
    return wrapped(value << shift % 64) if shift >= 0 else None


@scalar("binary_shift_right", "long long", "long", page="binary-shift-right-function")
def binary_shift_right(value: int, shift: int) -> int | None:
    """By ``shift`` modulo 64, keeping the sign; null for a negative shift."""
    return value >> shift % 64 if shift >= 0 else None


@scalar("bitset_count_ones", "long", "long", page="bitset-count-ones-function", duckdb="CAST(bit_count($a) AS BIGINT)")
def bitset_count_ones(value: int) -> int:
    return (value & 0xFFFFFFFFFFFFFFFF).bit_count()


def _hex(value: int, minimum: int | None) -> str:
    digits = f"{value:x}"
    return digits.rjust(min(16, minimum), "0") if minimum is not None and minimum > 0 else digits


def _is_alone(given: Sequence[Any]) -> bool:
    return len(given) == 1


@scalar(
    "tohex",
    "int long?",
    "string",
    page="tohex-function",
    duckdb="coalesce(lower(to_hex(CAST($a AS BIGINT) & 4294967295)), '')",
    when=_is_alone,
)
def tohex_int(value: int, minimum: int | None = None) -> str:
    """Hexadecimal digits, of 32 bits if negative, with zeros in front up to ``minimum`` digits."""
    return _hex(value & 0xFFFFFFFF, minimum)


@scalar(
    "tohex",
    "long long?",
    "string",
    page="tohex-function",
    duckdb="coalesce(lower(to_hex($a)), '')",
    when=_is_alone,
)
def tohex_long(value: int, minimum: int | None = None) -> str:
    """Hexadecimal digits, of 64 bits if negative, with zeros in front up to ``minimum`` digits."""
    return _hex(value & 0xFFFFFFFFFFFFFFFF, minimum)


# -- random numbers ---------------------------------------------------------------------------------------------------


@scalar("rand", "", "real", page="rand-function", duckdb="random()", is_volatile=True)
def rand() -> float:
    """From 0 to below 1."""
    return random.random()


@scalar("rand", "long", "real", page="rand-function", duckdb="floor(random() * $a)", is_volatile=True)
def rand_below(number: int) -> float:
    """A whole number from 0 to below ``number``."""
    return float(math.floor(random.random() * number))


# -- units of measure -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unit:
    """``base = value * times / parts * prefix + shift``. ``rule`` and ``inverse`` take the place of a rule that is no
    straight line."""

    times: float = 1.0
    parts: float = 1.0
    shift: float = 0.0
    prefix: float = 1.0
    rule: Callable[[float], float] | None = None
    inverse: Callable[[float], float] | None = None

    def to_base(self, value: float) -> float:
        """``value`` of this unit in the base unit."""
        if self.rule is not None:
            return self.rule(value)
        return value * self.times / self.parts * self.prefix + self.shift

    def from_base(self, value: float) -> float:
        """``value`` of the base unit in this unit."""
        if self.inverse is not None:
            return self.inverse(value)
        return (value - self.shift) * self.parts / self.times / self.prefix


_PREFIXES: Final = {
    "Nano": 1e-9, "Micro": 1e-6, "Milli": 1e-3, "Centi": 1e-2, "Deci": 1e-1, "Deca": 1e1, "Hecto": 1e2, "Kilo": 1e3,
    "Mega": 1e6, "Giga": 1e9, "Tera": 1e12,
}  # fmt: skip


def _units(table: str) -> dict[str, Unit]:
    """Units read from lines of ``name times [/parts] [+shift] [prefixes,...]``."""
    found: dict[str, Unit] = {}
    for line in table.strip().splitlines():
        name, *words = line.split()
        times, parts, shift, prefixes = 1.0, 1.0, 0.0, ""
        for word in words:
            if word[0] == "/":
                parts = float(word[1:])
            elif word[0] == "+":
                shift = float(word[1:])
            elif word[0].isalpha():
                prefixes = word
            else:
                times = float(word)
        found[name] = Unit(times, parts, shift)
        for prefix in filter(None, prefixes.split(",")):
            found[prefix + name[0].lower() + name[1:]] = Unit(times, parts, shift, _PREFIXES[prefix])
    return found


def _sine_of_slope(value: float) -> float:
    return math.degrees(math.asin(value)) if -1 <= value <= 1 else math.nan


_ANGLES: Final = _units(
    f"""
    Radian 180 /{math.pi!r} Nano,Micro,Milli,Centi,Deci
    Degree 1 Nano,Micro,Milli
    Arcminute /60
    Arcsecond /3600
    Gradian 0.9
    NatoMil 9 /160
    Revolution 360
    """
) | {"Tilt": Unit(rule=_sine_of_slope, inverse=lambda value: math.sin(value / 180 * math.pi))}

_ENERGIES: Final = _units(
    """
    Joule 1 Milli,Kilo,Mega,Giga
    Calorie 4.184 Kilo,Mega
    BritishThermalUnit 1055.05585262 Kilo,Mega,Giga
    ElectronVolt 1.602176565e-19 Kilo,Mega,Giga,Tera
    FootPound 1.355817948
    Erg 1e-7
    WattHour 3600 Kilo,Mega,Giga,Tera
    WattDay 86400 Kilo,Mega,Giga,Tera
    ThermEc 1.05505585262e8 Deca
    ThermUs 1.054804e8 Deca
    ThermImperial 1.05505585257348e8 Deca
    HorsepowerHour 2.6845195377e6
    """
)

_FORCES: Final = _units(
    """
    Dyn /1e5
    KilogramForce 9.80665002864
    TonneForce 9.80665002864e3
    Newton 1 Micro,Milli,Deca,Kilo,Mega
    KiloPond 9.80665002864
    Poundal 0.13825502798973041652092282466083
    PoundForce 4.4482216152605095551841642431421 Kilo
    OunceForce 2.780138509537812e-1
    ShortTonForce 8.896443230521e3
    """
)

_LENGTHS: Final = _units(
    """
    Meter 1 Nano,Micro,Milli,Centi,Deci,Deca,Hecto,Kilo
    Mile 1609.34
    Yard 0.9144
    Foot 0.3048
    UsSurveyFoot 1200 /3937
    Inch 2.54e-2
    Mil 2.54e-5
    NauticalMile 1852
    Fathom 1.8288
    Shackle 27.432
    Microinch 2.54e-8
    PrinterPoint 2.54e-2 /72.27
    DtpPoint 2.54e-2 /72
    PrinterPica /237.106301584
    DtpPica /236.220472441
    Twip /56692.913385826
    Hand 1.016e-1
    AstronomicalUnit 1.4959787070e11
    Parsec 3.08567758128e16 Kilo,Mega
    LightYear 9.46073047258e15 Kilo,Mega
    SolarRadius 6.9551e8
    Chain 20.1168
    Angstrom 1e-10
    DataMile 1828.8
    """
)

_MASSES: Final = _units(
    """
    Gram /1e3 Nano,Micro,Milli,Centi,Deci,Deca,Hecto,Kilo
    Tonne 1e3 Kilo,Mega
    ShortTon 9.0718474e2
    LongTon 1.0160469088e3
    Pound 0.45359237 Kilo,Mega
    Ounce /35.2739619
    Slug /6.852176556196105e-2
    Stone /0.1574731728702698
    ShortHundredweight /0.022046226218487758
    LongHundredweight /0.01968413055222121
    Grain /15432.358352941431
    SolarMass 1.98947e30
    EarthMass 5.9722e24
    """
)

_SPEEDS: Final = _units(
    """
    MeterPerSecond 1 Nano,Micro,Milli,Centi,Deci,Kilo
    MeterPerMinute /60 Nano,Micro,Milli,Centi,Deci,Kilo
    MeterPerHour /3600 Milli,Centi,Kilo
    FootPerSecond 0.3048
    FootPerMinute 0.3048 /60
    FootPerHour 0.3048 /3600
    UsSurveyFootPerSecond 1200 /3937
    UsSurveyFootPerMinute 20 /3937
    UsSurveyFootPerHour 1 /11811
    InchPerSecond 2.54e-2
    InchPerMinute 2.54e-2 /60
    InchPerHour 2.54e-2 /3600
    YardPerSecond 0.9144
    YardPerMinute 0.9144 /60
    YardPerHour 0.9144 /3600
    Knot 0.514444
    MilePerHour 0.44704
    """
)

_TEMPERATURES: Final = _units(
    f"""
    Kelvin 1
    DegreeCelsius 1 +273.15
    MillidegreeCelsius /1000 +273.15
    DegreeDelisle -2 /3 +373.15
    DegreeFahrenheit 5 /9 +{459.67 * 5 / 9!r}
    DegreeNewton 100 /33 +273.15
    DegreeRankine 5 /9
    DegreeReaumur 5 /4 +273.15
    DegreeRoemer 40 /21 +{273.15 - 7.5 * 40 / 21!r}
    SolarTemperature 5778
    """
)

_VOLUMES: Final = _units(
    f"""
    Liter /1e3 Micro,Milli,Centi,Deci,Deca,Hecto,Kilo,Mega
    CubicMeter 1 Hecto,Kilo
    CubicKilometer 1e9
    CubicHectometer 1e6
    CubicDecimeter /1e3
    CubicCentimeter /1e6
    CubicMillimeter /1e9
    CubicMicrometer /1e18
    CubicMile 4.16818182544058e9
    CubicYard 0.764554858
    CubicFoot 2.8316846592e-2 Hecto,Kilo,Mega
    CubicInch {1.6387 * 1e-5!r}
    ImperialGallon 0.00454609000000181429905810072407 Kilo,Mega
    ImperialOunce 2.8413062499962901241875439064617e-5
    UsGallon 0.00378541 Deca,Deci,Hecto,Kilo,Mega
    UsOunce 2.957352956253760505068307980135e-5
    UsTablespoon 1.478676478125e-5
    AuTablespoon 2e-5
    UkTablespoon 1.5e-5
    MetricTeaspoon 0.5e-5
    UsTeaspoon 4.92892159375e-6
    MetricCup 0.00025
    UsCustomaryCup 0.0002365882365
    UsLegalCup 0.00024
    OilBarrel 0.158987294928
    UsBeerBarrel 0.1173477658
    ImperialBeerBarrel 0.16365924
    UsQuart 9.46352946e-4
    UsPint 4.73176473e-4
    AcreFoot /0.000810714
    ImperialPint 5.6826125e-4
    BoardFoot 2.3597372158e-3
    """
)


def _define_conversion(quantity: str, units: dict[str, Unit]) -> None:
    function = f"convert_{quantity}"

    def converted(value: float, source: str, target: str) -> float | None:
        """``value`` of one unit in another; null if there is no such unit."""
        if source not in units or target not in units:
            return None
        return units[target].from_base(units[source].to_base(value))

    def check(given: Sequence[Any]) -> str | None:
        for argument in given[1:3]:
            if isinstance(argument, Const) and argument.value not in units:
                return f"{function}() knows no unit {argument.value!r}; {_nearest(str(argument.value), units)}"
        return None

    def template(given: Sequence[Any]) -> Template | None:
        if not (isinstance(given[1], Const) and isinstance(given[2], Const)):
            return None
        source, target = units.get(given[1].value), units.get(given[2].value)
        if source is None or target is None or source.rule or target.rule:
            return None
        base = f"$a * {source.times!r}::DOUBLE / {source.parts!r}::DOUBLE * {source.prefix!r}::DOUBLE"
        base = f"({base} + {source.shift!r}::DOUBLE - {target.shift!r}::DOUBLE)"
        return Template(f"{base} * {target.parts!r}::DOUBLE / {target.times!r}::DOUBLE / {target.prefix!r}::DOUBLE")

    scalar(
        function,
        "real string string",
        "real",
        page=f"convert-{quantity}-function",
        duckdb=template,
        check=check,
    )(converted)
    scalar(function, "decimal string string", "real", page=f"convert-{quantity}-function", check=check)(
        lambda value, source, target: converted(float(value), source, target)
    )


def _nearest(word: str, units: dict[str, Unit]) -> str:
    """The names that begin alike, or all."""
    beginning = re.sub(r"\W", "", word)[:4].lower()
    near = [name for name in units if beginning and name.lower().startswith(beginning)]
    return f"it knows {', '.join(sorted(near or units))}"


for _quantity, _known in {
    "angle": _ANGLES,
    "energy": _ENERGIES,
    "force": _FORCES,
    "length": _LENGTHS,
    "mass": _MASSES,
    "speed": _SPEEDS,
    "temperature": _TEMPERATURES,
    "volume": _VOLUMES,
}.items():
    _define_conversion(_quantity, _known)
