"""The values of KQL as plain Python values, and the text forms of times.

A datetime is its number of ticks of 100 ns since 0001-01-01T00:00 UTC, a timespan a number of ticks, a guid its
canonical lower-case text, a dynamic value plain JSON; every type's null is None, but a string is never null. Nothing
here knows a clock, a zone table or a locale: what text does not say is not guessed.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Final

TICKS_PER_MICROSECOND: Final = 10
TICKS_PER_MILLISECOND: Final = 10_000
TICKS_PER_SECOND: Final = 10_000_000
TICKS_PER_MINUTE: Final = 60 * TICKS_PER_SECOND
TICKS_PER_HOUR: Final = 60 * TICKS_PER_MINUTE
TICKS_PER_DAY: Final = 24 * TICKS_PER_HOUR
UNIX_EPOCH: Final = 621_355_968_000_000_000
"""1970-01-01 as a datetime."""

MAX_DATETIME: Final = 3_155_378_975_999_999_999
"""9999-12-31T23:59:59.9999999Z; the least is 0."""

MAX_LONG: Final = 2**63 - 1
MIN_LONG: Final = -(2**63)
MAX_INT: Final = 2**31 - 1
MIN_INT: Final = -(2**31)

TICKS_PER_UNIT: Final[dict[str, Decimal]] = {
    unit: Decimal(ticks)
    for ticks, units in (
        (TICKS_PER_DAY, "d day days"),
        (TICKS_PER_HOUR, "h hr hrs hour hours"),
        (TICKS_PER_MINUTE, "m min minute minutes"),
        (TICKS_PER_SECOND, "s sec second seconds"),
        (TICKS_PER_MILLISECOND, "ms milli millis millisec millisecond milliseconds"),
        (TICKS_PER_MICROSECOND, "micro micros microsec microsecond microseconds"),
        ("0.01", "nano nanos nanosec nanosecond nanoseconds"),
        (1, "tick ticks"),
    )
    for unit in units.split()
}
"""What may stand directly behind a number to make it a timespan."""

# -- datetimes --------------------------------------------------------------------------------------------------------

_MONTHS: Final = {
    name[:length]: number
    for number, name in enumerate(
        "January February March April May June July August September October November December".lower().split(" "), 1
    )
    for length in (3, len(name))
} | {"sept": 9}

_CLOCK_PATTERN: Final = r"""
    (?P<hour>\d{1,2}) \s*:\s* (?P<minute>\d{1,2}) (?: \s*:\s* (?P<second>\d{1,2}) (?: [.,] (?P<fraction>\d+) )? )?
    (?: \s* (?P<half>[ap]m) \b )?
    \s* (?P<zone> z | gmt | utc | ut | [+-]\d{1,2} (?: :? \d{2} )? )?
"""
_MONTH_PATTERN: Final = "(?P<name>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + ")"
_WEEKDAY_PATTERN: Final = r"(?: (?:mon|tue|wed|thu|fri|sat|sun)[a-z]* \.? ,? \s* )?"
_DATETIMES: Final = tuple(
    re.compile(form, re.VERBOSE | re.IGNORECASE | re.ASCII)
    for form in (
        # 2014-11-08T15:55:55.123Z, 2014-11-08 15:55 GMT, 2014/11/8, 2017 - 08 - 01, 2025, 6, 14, 2014-11
        rf"(?P<year>\d{{4}}) \s*([-/.,])\s* (?P<month>\d{{1,2}})"
        rf"(?: \s*\2\s* (?P<day>\d{{1,2}}) (?: (?: \s*t\s* | \s+ ) {_CLOCK_PATTERN} | z )? )?",
        # 20141108
        r"(?P<year>\d{4}) (?P<month>\d{2}) (?P<day>\d{2})",
        # 11/08/2014 15:55, 12-02-2022, 12.02.2022: the month comes first
        rf"(?P<month>\d{{1,2}}) \s*([-/.])\s* (?P<day>\d{{1,2}}) \s*\2\s* (?P<year>\d{{4}})"
        rf"(?: (?: t | \s+ ) {_CLOCK_PATTERN} )?",
        # Sat, 8 Nov 14 15:05:02 GMT, Saturday, 08-Nov-14 15:05:02 GMT, 8 November 2014
        rf"{_WEEKDAY_PATTERN} (?P<day>\d{{1,2}}) (?: \s* - \s* | \s+ ) {_MONTH_PATTERN} (?: \s* - \s* | [\s,]+ )"
        rf"(?P<year>\d{{4}}|\d{{2}}) (?: \s+ {_CLOCK_PATTERN} )?",
        # Nov 8, 2014 15:05:02
        rf"{_WEEKDAY_PATTERN} {_MONTH_PATTERN} \s+ (?P<day>\d{{1,2}}) [\s,]+ (?P<year>\d{{4}})"
        rf"(?: \s+ {_CLOCK_PATTERN} )?",
        # Sat Nov 8 15:05:02 2014
        rf"{_WEEKDAY_PATTERN} {_MONTH_PATTERN} \s+ (?P<day>\d{{1,2}}) \s+ {_CLOCK_PATTERN} \s+ (?P<year>\d{{4}})",
    )
)


def parse_datetime(text: str) -> int | None:
    """The instant that ``text`` names in ISO 8601, RFC 822, RFC 850 or month/day/year form, in ticks; None if it is
    none of these. Without a zone it is UTC."""
    text = text.strip()
    if match := _USUAL_DATETIME.fullmatch(text):
        return _usual_instant(*match.groups("0"))
    for form in _DATETIMES:
        if match := form.fullmatch(text):
            return _instant({name: part for name, part in match.groupdict().items() if part})
    return None


_USUAL_DATETIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?Z?)?", re.ASCII
)
"""What nearly all are written as: tables written out hold thousands."""


def _usual_instant(year: str, month: str, day: str, hour: str, minute: str, second: str, fraction: str) -> int | None:
    try:
        days = date(int(year), int(month), int(day)).toordinal() - 1
    except ValueError:
        return None
    hours, minutes, seconds = int(hour), int(minute), int(second)
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return ((days * 24 + hours) * 3600 + minutes * 60 + seconds) * TICKS_PER_SECOND + int(fraction.ljust(7, "0"))


def _instant(parts: dict[str, str]) -> int | None:
    month = int(parts["month"]) if "month" in parts else _MONTHS[parts["name"].lower()]
    year = int(parts["year"])
    if len(parts["year"]) == 2:
        year += 2000 if year < 50 else 1900
    try:
        days = date(year, month, int(parts.get("day", 1))).toordinal() - 1
    except ValueError:
        return None
    clock, offset = _clock(parts), _offset(parts.get("zone", "z"))
    if clock is None or offset is None:
        return None
    instant = days * TICKS_PER_DAY + clock - offset
    return instant if 0 <= instant <= MAX_DATETIME else None


def _clock(parts: dict[str, str]) -> int | None:
    hour, minute, second = (int(parts.get(name, 0)) for name in ("hour", "minute", "second"))
    if half := parts.get("half"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half.lower() == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return hour * TICKS_PER_HOUR + minute * TICKS_PER_MINUTE + second * TICKS_PER_SECOND + _fraction(parts)


def _fraction(parts: dict[str, str]) -> int:
    """Digits beyond a tick are dropped."""
    return int(parts.get("fraction", "0")[:7].ljust(7, "0"))


def _offset(zone: str) -> int | None:
    if zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "")
    hours, minutes = (int(digits[:-2]), int(digits[-2:])) if len(digits) > 2 else (int(digits), 0)
    if hours > 14 or minutes > 59:
        return None
    return (-1 if zone[0] == "-" else 1) * (hours * TICKS_PER_HOUR + minutes * TICKS_PER_MINUTE)


def format_datetime(ticks: int) -> str:
    """As KQL's tostring: ``2022-01-01T00:00:00.0000000Z``."""
    days, rest = divmod(ticks, TICKS_PER_DAY)
    seconds, fraction = divmod(rest, TICKS_PER_SECOND)
    day = date.fromordinal(days + 1)
    return (
        f"{day.year:04}-{day.month:02}-{day.day:02}"
        f"T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:07}Z"
    )


# -- timespans --------------------------------------------------------------------------------------------------------

_TIMESPAN_CLOCK: Final = re.compile(
    r"(?P<sign>-?)(?:(?P<day>\d{1,8})(?:\.|:(?=\d+:\d+:)))?"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:\.(?P<fraction>\d+))?)?",
    re.ASCII,
)
_TIMESPAN_UNIT: Final = re.compile(
    r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*(?P<unit>[A-Za-z]*)", re.ASCII
)


def parse_timespan(text: str) -> int | None:
    """The length that ``text`` names as a clock (``1.02:03:04.5``), with a unit (``1.5h``) or as a whole number of
    days, in ticks; None if it names none or one beyond the range of a long."""
    text = text.strip()
    if match := _TIMESPAN_CLOCK.fullmatch(text):
        parts = {name: part for name, part in match.groupdict().items() if part}
        clock = _clock({name: part for name, part in parts.items() if name != "sign"})
        if clock is None:
            return None
        ticks = int(parts.get("day", 0)) * TICKS_PER_DAY + clock
        return _in_range(-ticks if "sign" in parts else ticks)
    match = _TIMESPAN_UNIT.fullmatch(text)
    if match is None:
        return None
    number, unit = match.group("number"), match.group("unit")
    if not unit and re.fullmatch(r"[+-]?\d+", number) is None:
        return None
    return timespan_of(number, unit or "d")


def timespan_of(number: str, unit: str) -> int | None:
    """So many of ``unit``, as written in a literal such as ``1.5h``, in ticks; None if there is no such unit or a long
    cannot hold it. Parts of a tick are dropped."""
    size = TICKS_PER_UNIT.get(unit)
    if size is None:
        return None
    try:
        return _in_range(int(Decimal(number) * size))
    except (InvalidOperation, OverflowError):
        return None


def _in_range(ticks: int) -> int | None:
    return ticks if MIN_LONG <= ticks <= MAX_LONG else None


def format_timespan(ticks: int) -> str:
    """As KQL's tostring: ``d.hh:mm:ss.fffffff``, without days or fraction where they are zero."""
    sign, ticks = ("-", -ticks) if ticks < 0 else ("", ticks)
    days, rest = divmod(ticks, TICKS_PER_DAY)
    seconds, fraction = divmod(rest, TICKS_PER_SECOND)
    return (
        sign
        + (f"{days}." if days else "")
        + f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        + (f".{fraction:07}" if fraction else "")
    )


# -- guids ------------------------------------------------------------------------------------------------------------

_GUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII)


def parse_guid(text: str) -> str | None:
    """``text`` as a guid in canonical form, with or without hyphens, braces or parentheses; None if it is none."""
    text = text.strip().lower()
    if text[:1] + text[-1:] in ("{}", "()"):
        text = text[1:-1]
    if re.fullmatch(r"[0-9a-f]{32}", text, re.ASCII):
        text = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return text if _GUID.fullmatch(text) else None
