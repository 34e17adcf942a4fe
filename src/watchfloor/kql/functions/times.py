"""Functions of datetimes and timespans, and arithmetic with them.

Both are whole ticks of 100 ns. A datetime outside the years 1 to 9999 is null. Weeks begin on Sunday, except that
``week_of_year`` counts as ISO 8601 does. DuckDB keeps whole microseconds: a template gives what the definition gives,
less the last digit.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from watchfloor.kql.functions.mathematics import divide_reals, wrapped, wrapping_sql
from watchfloor.kql.functions.spec import REFUSED, Template, scalar
from watchfloor.kql.ir import Const
from watchfloor.kql.values import (
    MAX_DATETIME,
    MAX_LONG,
    MIN_LONG,
    TICKS_PER_DAY,
    TICKS_PER_HOUR,
    TICKS_PER_MICROSECOND,
    TICKS_PER_MILLISECOND,
    TICKS_PER_MINUTE,
    TICKS_PER_SECOND,
    UNIX_EPOCH,
    parse_datetime,
    parse_timespan,
)

_WEEK: Final = 7 * TICKS_PER_DAY
_OPERATORS: Final = "datetime-timespan-arithmetic"

REFUSED["ingestion_time"] = "events carry their own times: use the time column of the table"


def _instant(ticks: int | None) -> int | None:
    return ticks if ticks is not None and 0 <= ticks <= MAX_DATETIME else None


def _whole_ticks(number: float) -> int | None:
    """A real number of ticks without its fraction; null beyond a long."""
    return int(number) if math.isfinite(number) and MIN_LONG <= number <= MAX_LONG else None


# -- in DuckDB --------------------------------------------------------------------------------------------------------

_FROM_YEAR_1: Final = 62_135_596_800_000_000
"""Microseconds from 0001-01-01 to 1970-01-01."""
_LAST: Final = 253_402_300_799_999_999
_DAY_US: Final = 86_400_000_000
_A: Final = "make_timestamp(epoch_us($a))"
_SINCE: Final = f"(epoch_us($a) + {_FROM_YEAR_1})"
_TICKS: Final = f"(epoch_us($a) * 10 + {UNIX_EPOCH})"


def _to_datetime(microseconds: str) -> str:
    """SQL for a datetime from microseconds since 1970; null outside the years 1 to 9999."""
    return f"make_timestamptz(CASE WHEN {microseconds} BETWEEN -{_FROM_YEAR_1} AND {_LAST} THEN {microseconds} END)"


def _below(ticks: str) -> str:
    """SQL for ticks as whole microseconds, not above."""
    return f"(({ticks} - ({ticks} % 10 + 10) % 10) // 10)"


def _constant(given: Sequence[Any], place: int) -> Any:
    return given[place].value if len(given) > place and isinstance(given[place], Const) else None


# -- operators --------------------------------------------------------------------------------------------------------


@scalar(
    "+",
    "timespan timespan",
    "timespan",
    page=_OPERATORS,
    duckdb=f"coalesce(TRY($a + $b), {wrapping_sql('(CAST($a AS HUGEINT) + $b)')})",
)
def add_timespans(left: int, right: int) -> int:
    return wrapped(left + right)


@scalar(
    "-",
    "timespan timespan",
    "timespan",
    page=_OPERATORS,
    duckdb=f"coalesce(TRY($a - $b), {wrapping_sql('(CAST($a AS HUGEINT) - $b)')})",
)
def subtract_timespans(left: int, right: int) -> int:
    return wrapped(left - right)


@scalar("+", "datetime timespan", "datetime", page=_OPERATORS, duckdb=_to_datetime(f"(epoch_us($a) + {_below('$b')})"))
def add_to_datetime(moment: int, length: int) -> int | None:
    return _instant(moment + length)


@scalar(
    "+",
    "timespan datetime",
    "datetime",
    page=_OPERATORS,
    duckdb=_to_datetime(f"(epoch_us($b) + {_below('$a')})"),
)
def add_datetime(length: int, moment: int) -> int | None:
    return _instant(moment + length)


@scalar(
    "-",
    "datetime timespan",
    "datetime",
    page=_OPERATORS,
    duckdb=_to_datetime("(epoch_us($a) - ($b + (10 - $b % 10) % 10) // 10)"),
)
def subtract_from_datetime(moment: int, length: int) -> int | None:
    return _instant(moment - length)


@scalar("-", "datetime datetime", "timespan", page=_OPERATORS, duckdb="(epoch_us($a) - epoch_us($b)) * 10")
def subtract_datetimes(later: int, earlier: int) -> int:
    return later - earlier


@scalar(
    "*",
    "timespan long",
    "timespan",
    page=_OPERATORS,
    duckdb=f"coalesce(TRY($a * $b), {wrapping_sql('(CAST($a AS HUGEINT) * $b)')})",
)
def multiply_timespan(length: int, times: int) -> int:
    return wrapped(length * times)


@scalar(
    "*",
    "long timespan",
    "timespan",
    page=_OPERATORS,
    duckdb=f"coalesce(TRY($a * $b), {wrapping_sql('(CAST($a AS HUGEINT) * $b)')})",
)
def multiply_by_timespan(times: int, length: int) -> int:
    return wrapped(times * length)


@scalar("*", "timespan real", "timespan", page=_OPERATORS, duckdb="TRY_CAST(trunc($a * $b) AS BIGINT)")
def scale_timespan(length: int, times: float) -> int | None:
    return _whole_ticks(length * times)


@scalar("*", "real timespan", "timespan", page=_OPERATORS, duckdb="TRY_CAST(trunc($a * $b) AS BIGINT)")
def scale_by_timespan(times: float, length: int) -> int | None:
    return _whole_ticks(length * times)


@scalar("*", "timespan decimal", "timespan", page=_OPERATORS)
def scale_timespan_by_decimal(length: int, times: Decimal) -> int | None:
    return _whole_ticks(length * float(times))


@scalar("*", "decimal timespan", "timespan", page=_OPERATORS)
def scale_decimal_by_timespan(times: Decimal, length: int) -> int | None:
    return _whole_ticks(length * float(times))


@scalar("/", "timespan timespan", "real", page=_OPERATORS, duckdb="CAST($a AS DOUBLE) / CAST($b AS DOUBLE)")
def divide_timespans(length: int, unit: int) -> float:
    return divide_reals(float(length), float(unit))


@scalar("/", "datetime timespan", "real", page=_OPERATORS, duckdb=f"CAST({_TICKS} AS DOUBLE) / CAST($b AS DOUBLE)")
def divide_datetime(moment: int, unit: int) -> float:
    """How many of ``unit`` since the year 1."""
    return divide_reals(float(moment), float(unit))


@scalar("/", "datetime datetime", "real", page=_OPERATORS)
def divide_datetimes(moment: int, other: int) -> float:
    return divide_reals(float(moment), float(other))


@scalar(
    "/",
    "timespan long",
    "timespan",
    page=_OPERATORS,
    duckdb="coalesce(TRY($a // nullif($b, 0)), CASE WHEN $b = -1 THEN $a END)",
)
def divide_timespan(length: int, parts: int) -> int | None:
    if parts == 0:
        return None
    share = abs(length) // abs(parts)
    return wrapped(share if (length < 0) == (parts < 0) else -share)


@scalar("/", "timespan real", "timespan", page=_OPERATORS, duckdb="TRY_CAST(trunc($a / $b) AS BIGINT)")
def divide_timespan_by_real(length: int, parts: float) -> int | None:
    return _whole_ticks(divide_reals(float(length), parts))


@scalar("/", "timespan decimal", "timespan", page=_OPERATORS)
def divide_timespan_by_decimal(length: int, parts: Decimal) -> int | None:
    return _whole_ticks(divide_reals(float(length), float(parts)))


@scalar(
    "%",
    "timespan timespan",
    "timespan",
    page=_OPERATORS,
    duckdb=(
        "CASE WHEN $b = -1 THEN 0 * $a WHEN $a % nullif($b, 0) >= 0 THEN $a % nullif($b, 0)"
        " WHEN $b > 0 THEN $a % nullif($b, 0) + $b ELSE $a % nullif($b, 0) - $b END"
    ),
)
def modulo_timespans(length: int, unit: int) -> int | None:
    """What is left over after whole ``unit``s: never negative, null for a unit of zero."""
    return length % abs(unit) if unit else None


@scalar("%", "datetime timespan", "timespan", page=_OPERATORS, duckdb=f"TRY({_TICKS} % abs(nullif($b, 0)))")
def modulo_datetime(moment: int, unit: int) -> int | None:
    return moment % abs(unit) if unit else None


@scalar("negate", "timespan", "timespan", page=_OPERATORS, duckdb="coalesce(TRY(0 - $a), $a)")
def negate_timespan(length: int) -> int:
    return wrapped(-length)


# -- bins -------------------------------------------------------------------------------------------------------------

_BIN: Final = "bin-function"


def _bin_template(given: Sequence[Any]) -> Template:
    """A known size of whole microseconds needs no ticks."""
    size = _constant(given, 1)
    if size is not None and size > 0 and size % 10 == 0:
        return Template(f"make_timestamptz(epoch_us($a) - {_SINCE} % {size // 10})")
    return Template(
        f"CASE WHEN $b > 0 THEN make_timestamptz(({_TICKS} - {_TICKS} % greatest($b, 1)) // 10 - {_FROM_YEAR_1}) END"
    )


@scalar("bin", "datetime timespan", "datetime", page=_BIN, duckdb=_bin_template, aliases=("floor",))
def bin_datetime(moment: int, size: int) -> int | None:
    """The last instant at a whole number of ``size`` since 0001-01-01 that is not after ``moment``."""
    return moment - moment % size if size > 0 else None


@scalar(
    "bin",
    "timespan timespan",
    "timespan",
    page=_BIN,
    duckdb=(
        "CASE WHEN $b > 0 THEN CASE WHEN $a % greatest($b, 1) < 0 THEN TRY($a - $a % greatest($b, 1) - $b)"
        " ELSE $a - $a % greatest($b, 1) END END"
    ),
)
def bin_timespan(length: int, size: int) -> int | None:
    if size <= 0:
        return None
    result = length - length % size
    return result if result >= MIN_LONG else None


_BIN_AT: Final = "bin-at-function"


def _bin_at_template(given: Sequence[Any]) -> Template | None:
    size, fixed = _constant(given, 1), _constant(given, 2)
    if size is None or fixed is None or size <= 0 or size % 10 or fixed % 10:
        return None
    shift, size = fixed // 10 % (size // 10), size // 10
    return Template(_to_datetime(f"(epoch_us($a) - ({_SINCE} - {shift} + {size}) % {size})"))


@scalar("bin_at", "datetime timespan datetime", "datetime", page=_BIN_AT, duckdb=_bin_at_template)
def bin_at_datetime(moment: int, size: int, fixed: int) -> int | None:
    """As bin(), with ``fixed`` at the beginning of a bin."""
    return _instant(moment - (moment - fixed) % size) if size > 0 else None


@scalar("bin_at", "timespan timespan timespan", "timespan", page=_BIN_AT)
def bin_at_timespan(length: int, size: int, fixed: int) -> int | None:
    return wrapped(length - (length - fixed) % size) if size > 0 else None


# -- calendar ---------------------------------------------------------------------------------------------------------


def day_of(moment: int) -> date:
    """The day of a datetime."""
    return date.fromordinal(moment // TICKS_PER_DAY + 1)


def _midnight(day: date) -> int:
    return (day.toordinal() - 1) * TICKS_PER_DAY


def _months_later(moment: int, months: int) -> int | None:
    """The same time so many months later, at the month's last day where it is shorter."""
    day = day_of(moment)
    count = day.year * 12 + day.month - 1 + months
    year, month = count // 12, count % 12 + 1
    if not 1 <= year <= 9999:
        return None
    last = calendar.monthrange(year, month)[1]
    return _midnight(date(year, month, min(day.day, last))) + moment % TICKS_PER_DAY


def _start_of_day(moment: int, offset: int) -> int | None:
    return moment - moment % TICKS_PER_DAY + offset * TICKS_PER_DAY


def _start_of_week(moment: int, offset: int) -> int | None:
    return moment - (moment + TICKS_PER_DAY) % _WEEK + offset * _WEEK


def _start_of_month(moment: int, offset: int) -> int | None:
    return _months_later(_midnight(day_of(moment).replace(day=1)), offset)


def _start_of_year(moment: int, offset: int) -> int | None:
    return _months_later(_midnight(day_of(moment).replace(month=1, day=1)), 12 * offset)


def _day_sql(offset: str) -> str:
    return f"(epoch_us($a) - {_SINCE} % {_DAY_US} + {offset} * {_DAY_US})"


def _week_sql(offset: str) -> str:
    return f"(epoch_us($a) - ({_SINCE} + {_DAY_US}) % {7 * _DAY_US} + {offset} * {7 * _DAY_US})"


def _truncated_sql(unit: str, months: int) -> Callable[[str], str]:
    return lambda offset: f"epoch_us(date_trunc('{unit}', {_A}) + to_months(CAST({offset} * {months} AS INTEGER)))"


_PERIODS: Final[dict[str, tuple[Callable[[int, int], int | None], Callable[[str], str], int]]] = {
    "day": (_start_of_day, _day_sql, 4_000_000),
    "week": (_start_of_week, _week_sql, 600_000),
    "month": (_start_of_month, _truncated_sql("month", 1), 130_000),
    "year": (_start_of_year, _truncated_sql("year", 12), 10_000),
}
"""How a period begins, so many periods on; the same in SQL; the offset beyond which no datetime is."""


def _define_period(period: str) -> None:
    start, start_sql, reach = _PERIODS[period]

    def start_of(moment: int, offset: int = 0) -> int | None:
        """The beginning of the period, so many periods on."""
        return _instant(start(moment, offset)) if abs(offset) <= reach else None

    def end_of(moment: int, offset: int = 0) -> int | None:
        """The last tick of the period, so many periods on."""
        if abs(offset) > reach:
            return None
        after = start(moment, offset + 1)
        if after is None:  # the year 10000
            return MAX_DATETIME if start(moment, offset) is not None else None
        return _instant(after - 1)

    def template(shift: int) -> Callable[[Sequence[Any]], Template]:
        def made(given: Sequence[Any]) -> Template:
            if len(given) == 1:
                text = start_sql(str(shift))
            else:
                text = f"CASE WHEN $b BETWEEN -{reach} AND {reach} THEN {start_sql(f'($b + {shift})')} END"
            return Template(_to_datetime(f"({text} - {shift})" if shift else text))

        return made

    page = f"startof{period}-function"
    scalar(f"startof{period}", "datetime long?", "datetime", page=page, duckdb=template(0))(start_of)
    page = f"endof{period}-function"
    scalar(f"endof{period}", "datetime long?", "datetime", page=page, duckdb=template(1))(end_of)


for _period in _PERIODS:
    _define_period(_period)


def _iso_week(moment: int) -> int:
    return day_of(moment).isocalendar().week


@scalar("week_of_year", "datetime", "int", page="week-of-year-function", duckdb=f"CAST(week({_A}) AS INTEGER)")
def week_of_year(moment: int) -> int:
    """The week of ISO 8601."""
    return _iso_week(moment)


@scalar("weekofyear", "datetime", "int", page="week-of-year-function")
def weekofyear(moment: int) -> int:
    """The older count: weeks begin on Sunday, and the first is the one with the year's first Wednesday."""
    day = day_of(moment)
    wednesday = day.toordinal() - day.isoweekday() % 7 + 3
    if not 1 <= wednesday <= date.max.toordinal():
        return _iso_week(moment)
    return (date.fromordinal(wednesday).timetuple().tm_yday - 1) // 7 + 1


@scalar(
    "dayofweek",
    "datetime",
    "timespan",
    page="day-of-week-function",
    duckdb=f"({_SINCE} // {_DAY_US} + 1) % 7 * {TICKS_PER_DAY}",
)
def dayofweek(moment: int) -> int:
    """Whole days since Sunday."""
    return (moment // TICKS_PER_DAY + 1) % 7 * TICKS_PER_DAY


# -- parts ------------------------------------------------------------------------------------------------------------

_PARTS: Final[dict[str, tuple[Callable[[int], int], str]]] = {
    "year": (lambda moment: day_of(moment).year, f"year({_A})"),
    "quarter": (lambda moment: (day_of(moment).month + 2) // 3, f"quarter({_A})"),
    "month": (lambda moment: day_of(moment).month, f"month({_A})"),
    "week_of_year": (_iso_week, f"week({_A})"),
    "day": (lambda moment: day_of(moment).day, f"day({_A})"),
    "dayofyear": (lambda moment: day_of(moment).timetuple().tm_yday, f"dayofyear({_A})"),
    "hour": (lambda moment: moment % TICKS_PER_DAY // TICKS_PER_HOUR, f"{_SINCE} % {_DAY_US} // 3600000000"),
    "minute": (lambda moment: moment % TICKS_PER_HOUR // TICKS_PER_MINUTE, f"{_SINCE} % 3600000000 // 60000000"),
    "second": (lambda moment: moment % TICKS_PER_MINUTE // TICKS_PER_SECOND, f"{_SINCE} % 60000000 // 1000000"),
    "millisecond": (lambda moment: moment % TICKS_PER_SECOND // 10_000, f"{_SINCE} % 1000000 // 1000"),
    "microsecond": (lambda moment: moment % TICKS_PER_SECOND // 10, f"{_SINCE} % 1000000"),
    "nanosecond": (lambda moment: moment % TICKS_PER_SECOND * 100, f"{_SINCE} % 1000000 * 1000"),
}


def _one_of(allowed: Sequence[str], function: str) -> Callable[[Sequence[Any]], str | None]:
    """A check that the first argument is one of these words, in any case."""

    def check(given: Sequence[Any]) -> str | None:
        word = _constant(given, 0)
        if not isinstance(word, str):
            return f"the first argument of {function}() must be a constant"
        if word.lower() in allowed:
            return None
        return f"{function}() knows no {word!r}: it takes {', '.join(allowed)}"

    return check


def _part_template(given: Sequence[Any]) -> Template | None:
    word = _constant(given, 0)
    if not isinstance(word, str) or word.lower() not in _PARTS:
        return None
    return Template(f"CAST({_PARTS[word.lower()][1].replace('$a', '$b')} AS INTEGER)")


@scalar(
    "datetime_part",
    "=string datetime",
    "int",
    page="datetime-part-function",
    aliases=("datepart",),
    duckdb=_part_template,
    check=_one_of(tuple(_PARTS), "datetime_part"),
)
def datetime_part(part: str, moment: int) -> int | None:
    found = _PARTS.get(part.lower())
    return found[0](moment) if found else None


def _part(name: str) -> Callable[[int], int]:
    return _PARTS[name][0]


for _name, _known, _page, _aliases in (
    ("getyear", "year", "getyear-function", ()),
    ("monthofyear", "month", "monthofyear-function", ("getmonth",)),
    ("dayofmonth", "day", "day-of-month-function", ()),
    ("dayofyear", "dayofyear", "day-of-year-function", ()),
    ("hourofday", "hour", "hour-of-day-function", ()),
):
    scalar(
        _name, "datetime", "int", page=_page, duckdb=f"CAST({_PARTS[_known][1]} AS INTEGER)", aliases=tuple(_aliases)
    )(_part(_known))


# -- differences and sums ---------------------------------------------------------------------------------------------

_UNITS: Final[dict[str, int]] = {
    "week": _WEEK,
    "day": TICKS_PER_DAY,
    "hour": TICKS_PER_HOUR,
    "minute": TICKS_PER_MINUTE,
    "second": TICKS_PER_SECOND,
    "millisecond": TICKS_PER_MILLISECOND,
    "microsecond": TICKS_PER_MICROSECOND,
}
_MONTHS: Final[dict[str, int]] = {"year": 12, "quarter": 3, "month": 1}
_ARITHMETIC: Final = (*_MONTHS, *_UNITS, "nanosecond")


def _months_since(moment: int) -> int:
    day = day_of(moment)
    return day.year * 12 + day.month - 1


def _difference_template(given: Sequence[Any]) -> Template | None:
    word = _constant(given, 0)
    period = word.lower() if isinstance(word, str) else ""
    if period in _MONTHS:
        b, c = (
            f"((year({moment}) * 12 + month({moment}) - 1) // {_MONTHS[period]})"
            for moment in ("make_timestamp(epoch_us($b))", "make_timestamp(epoch_us($c))")
        )
        return Template(f"{b} - {c}")
    if period == "nanosecond":
        return Template(wrapping_sql("(CAST(epoch_us($b) - epoch_us($c) AS HUGEINT) * 1000)"))
    if period not in _UNITS:
        return None
    shift = _FROM_YEAR_1 + (_DAY_US if period == "week" else 0)
    size = _UNITS[period] // 10
    return Template(f"(epoch_us($b) + {shift}) // {size} - (epoch_us($c) + {shift}) // {size}")


@scalar(
    "datetime_diff",
    "=string datetime datetime",
    "long",
    page="datetime-diff-function",
    duckdb=_difference_template,
    check=_one_of(_ARITHMETIC, "datetime_diff"),
)
def datetime_diff(period: str, later: int, earlier: int) -> int | None:
    """How many beginnings of the period lie between the two: negative where ``later`` is the earlier one."""
    period = period.lower()
    if period in _MONTHS:
        size = _MONTHS[period]
        return _months_since(later) // size - _months_since(earlier) // size
    if period == "nanosecond":
        return wrapped((later - earlier) * 100)
    if period not in _UNITS:
        return None
    shift = TICKS_PER_DAY if period == "week" else 0
    return (later + shift) // _UNITS[period] - (earlier + shift) // _UNITS[period]


def _addition_template(given: Sequence[Any]) -> Template | None:
    word = _constant(given, 0)
    period = word.lower() if isinstance(word, str) else ""
    if period in _MONTHS:
        later = f"epoch_us(make_timestamp(epoch_us($c)) + to_months(CAST($b * {_MONTHS[period]} AS INTEGER)))"
        return Template(_to_datetime(f"CASE WHEN $b BETWEEN -130000 AND 130000 THEN {later} END"))
    if period not in _UNITS:
        return None
    size = _UNITS[period] // 10
    reach = 2 * _LAST // size
    return Template(_to_datetime(f"(epoch_us($c) + CASE WHEN $b BETWEEN -{reach} AND {reach} THEN $b END * {size})"))


@scalar(
    "datetime_add",
    "=string long datetime",
    "datetime",
    page="datetime-add-function",
    duckdb=_addition_template,
    check=_one_of(_ARITHMETIC, "datetime_add"),
)
def datetime_add(period: str, amount: int, moment: int) -> int | None:
    """``moment`` and so many periods; the month's last day where the month is shorter."""
    period = period.lower()
    if period in _MONTHS:
        return _months_later(moment, amount * _MONTHS[period]) if abs(amount) <= 130_000 else None
    if period == "nanosecond":
        return _instant(moment + amount // 100)
    return _instant(moment + amount * _UNITS[period]) if period in _UNITS else None


# -- making -----------------------------------------------------------------------------------------------------------


def _second_ticks(second: float) -> int | None:
    """Seconds of a minute in ticks, the rest cut off; null if they are none."""
    if not 0 <= second < 60:
        return None
    return int(Decimal(repr(float(second))) * TICKS_PER_SECOND)


@scalar("make_datetime", "long long long long? long? real?", "datetime", page="make-datetime-function")
def make_datetime(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: float = 0.0) -> int | None:
    """Null where there is no such day or time."""
    rest = _second_ticks(second)
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 0 <= hour < 24 and 0 <= minute < 60) or rest is None:
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return _midnight(date(year, month, day)) + hour * TICKS_PER_HOUR + minute * TICKS_PER_MINUTE + rest


@scalar("make_datetime", "string", "datetime", page="make-datetime-function")
def make_datetime_of_text(text: str) -> int | None:
    """As todatetime()."""
    return parse_datetime(text)


@scalar("make_datetime", "datetime", "datetime", page="make-datetime-function", duckdb="$a")
def make_datetime_of_datetime(moment: int) -> int:
    return moment


@scalar("make_timespan", "long long real?", "timespan", page="make-timespan-function")
def make_timespan(hour: int, minute: int, second: float = 0.0) -> int | None:
    """Null where there is no such time of a day."""
    return make_timespan_of_days(0, hour, minute, second)


@scalar("make_timespan", "long long long real", "timespan", page="make-timespan-function")
def make_timespan_of_days(day: int, hour: int, minute: int, second: float) -> int | None:
    rest = _second_ticks(second)
    if not (0 <= day <= 10_675_198 and 0 <= hour < 24 and 0 <= minute < 60) or rest is None:
        return None
    return day * TICKS_PER_DAY + hour * TICKS_PER_HOUR + minute * TICKS_PER_MINUTE + rest


@scalar("make_timespan", "string", "timespan", page="make-timespan-function")
def make_timespan_of_text(text: str) -> int | None:
    """As totimespan()."""
    return parse_timespan(text)


@scalar("make_timespan", "timespan", "timespan", page="make-timespan-function", duckdb="$a")
def make_timespan_of_timespan(length: int) -> int:
    return length


for _name, _size in (
    ("seconds", TICKS_PER_SECOND),
    ("milliseconds", TICKS_PER_MILLISECOND),
    ("microseconds", TICKS_PER_MICROSECOND),
):
    _reach = MAX_DATETIME // _size

    def _from_whole(number: int, size: int = _size) -> int | None:
        """So many units since 1970."""
        return _instant(UNIX_EPOCH + number * size)

    def _from_real(number: float, size: int = _size) -> int | None:
        """So many units since 1970, to the tick."""
        return _instant(UNIX_EPOCH + int(number * size)) if math.isfinite(number) else None

    def _from_decimal(number: Decimal, size: int = _size) -> int | None:
        return _instant(UNIX_EPOCH + int(number * size))

    _page = f"unixtime-{_name}-todatetime-function"
    _since_1970 = f"CASE WHEN $a BETWEEN -{_reach} AND {_reach} THEN $a * {_size // 10} END"
    scalar(f"unixtime_{_name}_todatetime", "long", "datetime", page=_page, duckdb=_to_datetime(_since_1970))(
        _from_whole
    )
    scalar(
        f"unixtime_{_name}_todatetime",
        "real",
        "datetime",
        page=_page,
        duckdb=_to_datetime(
            _below(f"CASE WHEN $a BETWEEN -{_reach} AND {_reach} THEN TRY_CAST(trunc($a * {_size}) AS BIGINT) END")
        ),
    )(_from_real)
    scalar(f"unixtime_{_name}_todatetime", "decimal", "datetime", page=_page)(_from_decimal)


@scalar(
    "unixtime_nanoseconds_todatetime",
    "long",
    "datetime",
    page="unixtime-nanoseconds-todatetime-function",
    duckdb="make_timestamptz($a // 1000 - CASE WHEN $a % 1000 < 0 THEN 1 ELSE 0 END)",
)
def unixtime_nanoseconds_todatetime(number: int) -> int | None:
    """So many nanoseconds since 1970, to the tick."""
    return _instant(UNIX_EPOCH + number // 100)


@scalar("unixtime_nanoseconds_todatetime", "real", "datetime", page="unixtime-nanoseconds-todatetime-function")
def unixtime_nanoseconds_of_real(number: float) -> int | None:
    return _instant(UNIX_EPOCH + math.floor(number / 100)) if math.isfinite(number) else None


@scalar("unixtime_nanoseconds_todatetime", "decimal", "datetime", page="unixtime-nanoseconds-todatetime-function")
def unixtime_nanoseconds_of_decimal(number: Decimal) -> int | None:
    return _instant(UNIX_EPOCH + math.floor(number / 100))


# -- text -------------------------------------------------------------------------------------------------------------

_FORMAT_ELEMENT: Final = re.compile(r"yyyy|yy?|MM?|dd?|HH?|hh?|mm?|ss?|tt|f{1,7}|F{1,7}|[ /\-:,._\[\]]")
_SPAN_ELEMENT: Final = re.compile(r"d{1,8}|HH?|hh?|mm?|ss?|f{1,7}|F{1,7}|[ /\-:,._\[\]]")


def _elements(form: str, element: re.Pattern[str]) -> list[str] | None:
    """A format as its elements; None where something in it is none."""
    found = []
    place = 0
    while place < len(form):
        match = element.match(form, place)
        if match is None or (form[place].isalpha() and form[match.end() : match.end() + 1] == form[place]):
            return None
        found.append(match.group())
        place = match.end()
    return found


def _format_check(element: re.Pattern[str], function: str, words: str) -> Callable[[Sequence[Any]], str | None]:
    def check(given: Sequence[Any]) -> str | None:
        form = _constant(given, 1)
        if not isinstance(form, str):
            return f"the format of {function}() must be a constant"
        if _elements(form, element) is not None:
            return None
        return f"{function}() cannot read the format {form!r}: it may hold {words} and the delimiters ' /-:,._[]'"

    return check


def _fraction(element: str, ticks: int) -> str:
    digits = f"{ticks % TICKS_PER_SECOND:07}"[: len(element)]
    return digits.rstrip("0") if element[0] == "F" else digits


def _joined(pieces: Sequence[tuple[str, str]]) -> str:
    """The pieces one after another; a point before an omitted fraction is omitted too."""
    text = ""
    for element, piece in pieces:
        if element[0] == "F" and not piece and text.endswith("."):
            text = text[:-1]
        text += piece
    return text


def _datetime_piece(element: str, moment: int) -> str:
    day = day_of(moment)
    seconds = moment % TICKS_PER_DAY // TICKS_PER_SECOND
    width = len(element)
    match element[0]:
        case "y":
            return f"{day.year:04}" if width == 4 else f"{day.year % 100:0{width}}"
        case "M":
            return f"{day.month:0{width}}"
        case "d":
            return f"{day.day:0{width}}"
        case "H":
            return f"{seconds // 3600:0{width}}"
        case "h":
            return f"{(seconds // 3600 + 11) % 12 + 1:0{width}}"
        case "m":
            return f"{seconds // 60 % 60:0{width}}"
        case "s":
            return f"{seconds % 60:0{width}}"
        case "t":
            return "AM" if seconds < 43_200 else "PM"
        case "f" | "F":
            return _fraction(element, moment)
        case _:
            return element


_STRFTIME: Final = {
    "yyyy": "%Y", "yy": "%y", "y": "%-y", "MM": "%m", "M": "%-m", "dd": "%d", "d": "%-d", "HH": "%H", "H": "%-H",
    "hh": "%I", "h": "%-I", "mm": "%M", "m": "%-M", "ss": "%S", "s": "%-S", "tt": "%p", "fff": "%g", "ffffff": "%f",
    "fffffff": "%f0",
}  # fmt: skip


def _format_template(given: Sequence[Any]) -> Template | None:
    form = _constant(given, 1)
    elements = _elements(form, _FORMAT_ELEMENT) if isinstance(form, str) else None
    if not elements:
        return None
    pieces = [""]
    for element in elements:
        if element in _STRFTIME:
            pieces[-1] += _STRFTIME[element]
        elif element[0] == "f":
            pieces += [f"left(strftime({_A}, '%f'), {len(element)})", ""]
        elif element[0] == "F":
            return None
        else:
            pieces[-1] += element
    texts = [piece if piece.startswith("left(") else f"strftime({_A}, '{piece}')" for piece in pieces if piece]
    return Template(f"coalesce({' || '.join(texts)}, '')")


@scalar(
    "format_datetime",
    "datetime =string",
    "string",
    page="format-datetime-function",
    duckdb=_format_template,
    check=_format_check(_FORMAT_ELEMENT, "format_datetime", "d, f, F, h, H, m, M, s, y, tt"),
)
def format_datetime(moment: int, form: str) -> str:
    """``moment`` in a format like ``yyyy-MM-dd HH:mm:ss.fff``."""
    elements = _elements(form, _FORMAT_ELEMENT) or []
    return _joined([(element, _datetime_piece(element, moment)) for element in elements])


def _timespan_piece(element: str, length: int) -> str:
    seconds = length // TICKS_PER_SECOND
    width = len(element)
    match element[0]:
        case "d":
            return f"{length // TICKS_PER_DAY:0{width}}"
        case "H" | "h":
            return f"{seconds // 3600 % 24:0{width}}"
        case "m":
            return f"{seconds // 60 % 60:0{width}}"
        case "s":
            return f"{seconds % 60:0{width}}"
        case "f" | "F":
            return _fraction(element, length)
        case _:
            return element


@scalar(
    "format_timespan",
    "timespan =string",
    "string",
    page="format-timespan-function",
    check=_format_check(_SPAN_ELEMENT, "format_timespan", "d, f, F, h, H, m, s"),
)
def format_timespan(length: int, form: str) -> str:
    """``length`` in a format like ``dd.hh:mm:ss``, without its sign."""
    elements = _elements(form, _SPAN_ELEMENT) or []
    return _joined([(element, _timespan_piece(element, abs(length))) for element in elements])


# -- time zones -------------------------------------------------------------------------------------------------------

_YEAR_1: Final = datetime(1, 1, 1)
_NOT_ZONES: Final = ("Factory", "localtime", "posix/", "right/", "SystemV/", "posixrules")


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@lru_cache
def zone_names() -> tuple[str, ...]:
    """The time zones that there are, in order."""
    return tuple(sorted(name for name in available_timezones() if not name.startswith(_NOT_ZONES)))


def _zone_check(given: Sequence[Any]) -> str | None:
    name = _constant(given, 1)
    return f"there is no time zone {name!r}" if isinstance(name, str) and _zone(name) is None else None


def _clock(moment: int) -> datetime:
    return _YEAR_1 + timedelta(microseconds=moment // 10)


@scalar(
    "datetime_utc_to_local",
    "datetime string",
    "datetime",
    page="datetime-utc-to-local-function",
    check=_zone_check,
)
def datetime_utc_to_local(moment: int, zone: str) -> int | None:
    """What clocks in ``zone`` show at ``moment``."""
    rules = _zone(zone)
    if rules is None:
        return None
    clock = _clock(moment)
    try:
        shift = clock.replace(tzinfo=UTC).astimezone(rules).utcoffset()
    except OverflowError:
        return None
    return _instant(moment + _offset(shift))


@scalar(
    "datetime_local_to_utc",
    "datetime string",
    "datetime",
    page="datetime-local-to-utc-function",
    check=_zone_check,
)
def datetime_local_to_utc(moment: int, zone: str) -> int | None:
    """When clocks in ``zone`` show ``moment``: the earlier of two times where they show it twice or not at all."""
    rules = _zone(zone)
    if rules is None:
        return None
    clock = _clock(moment)
    shifts = [_offset(clock.replace(tzinfo=rules, fold=fold).utcoffset()) for fold in (0, 1)]
    return _instant(moment - max(shifts))


def _offset(shift: timedelta | None) -> int:
    return 0 if shift is None else (shift.days * 86_400 + shift.seconds) * TICKS_PER_SECOND


@scalar("datetime_list_timezones", "", "dynamic", page="datetime-list-timezones")
def datetime_list_timezones() -> list[str]:
    return list(zone_names())
