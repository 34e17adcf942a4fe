"""Arithmetic over numbers, and the mathematical functions.

Whole numbers wrap around at 64 bits; division of whole numbers cuts the fraction off and by zero is null; ``%`` is
never negative. Reals follow IEEE 754. A decimal has at most 20 digits before the point and 18 behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, DecimalException
from typing import Any, Final

from watchfloor.kql.functions.convert import to_decimal
from watchfloor.kql.functions.spec import REFUSED, Template, scalar
from watchfloor.kql.ir import Const
from watchfloor.kql.values import (
    MIN_LONG,
    TICKS_PER_HOUR,
    format_datetime,
    format_timespan,
)

MAX_ELEMENTS: Final = 1_048_576
"""The longest array that range() makes."""

_DECIMALS: Final = Context(prec=60)
_OPERATORS: Final = "numerical-operators"

REFUSED["bin_auto"] = "write bin() with the bin size instead"


def wrapped(number: int) -> int:
    """``number`` in 64 bits, as two's complement has it."""
    return ((number - MIN_LONG) & 0xFFFFFFFFFFFFFFFF) + MIN_LONG


def _wrapping(operator: str) -> str:
    """SQL for a whole-number operator that wraps: the plain operator, and the wide one only where that overflows."""
    wide = f"(CAST($a AS HUGEINT) {operator} $b)"
    return f"coalesce(TRY($a {operator} $b), {wrapping_sql(wide)})"


def wrapping_sql(wide: str) -> str:
    """SQL for the low 64 bits of a HUGEINT as a BIGINT."""
    return f"CAST(({wide} + 9223372036854775808 & 18446744073709551615) - 9223372036854775808 AS BIGINT)"


def _checked(rule: Callable[..., Decimal | None]) -> Callable[..., Decimal | None]:
    """A decimal rule whose result is kept in range: null beyond it, and where the rule has no result."""

    def checked(*arguments: Any) -> Decimal | None:
        try:
            result = rule(*(Decimal(repr(item)) if isinstance(item, float) else Decimal(item) for item in arguments))
        except DecimalException:
            return None
        return None if result is None else to_decimal(result)

    return checked


# -- operators --------------------------------------------------------------------------------------------------------


@scalar("+", "long long", "long", page=_OPERATORS, duckdb=_wrapping("+"))
def add_longs(left: int, right: int) -> int:
    return wrapped(left + right)


@scalar("+", "real real", "real", page=_OPERATORS, duckdb="$a + $b")
def add_reals(left: float, right: float) -> float:
    return left + right


@scalar("-", "long long", "long", page=_OPERATORS, duckdb=_wrapping("-"))
def subtract_longs(left: int, right: int) -> int:
    return wrapped(left - right)


@scalar("-", "real real", "real", page=_OPERATORS, duckdb="$a - $b")
def subtract_reals(left: float, right: float) -> float:
    return left - right


@scalar("*", "long long", "long", page=_OPERATORS, duckdb=_wrapping("*"))
def multiply_longs(left: int, right: int) -> int:
    return wrapped(left * right)


@scalar("*", "real real", "real", page=_OPERATORS, duckdb="$a * $b")
def multiply_reals(left: float, right: float) -> float:
    return left * right


@scalar(
    "/",
    "long long",
    "long",
    page=_OPERATORS,
    duckdb="coalesce(TRY($a // nullif($b, 0)), CASE WHEN $b = -1 THEN $a END)",
)
def divide_longs(left: int, right: int) -> int | None:
    """The fraction is cut off; null for division by zero."""
    if right == 0:
        return None
    quotient = abs(left) // abs(right)
    return wrapped(quotient if (left < 0) == (right < 0) else -quotient)


@scalar("/", "real real", "real", page=_OPERATORS, duckdb="$a / $b")
def divide_reals(left: float, right: float) -> float:
    if right:
        return left / right
    if left == 0 or math.isnan(left) or math.isnan(right):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


@scalar(
    "%",
    "long long",
    "long",
    page=_OPERATORS,
    duckdb=(
        "CASE WHEN $b = -1 THEN 0 * $a WHEN $a % nullif($b, 0) >= 0 THEN $a % nullif($b, 0)"
        " WHEN $b > 0 THEN $a % nullif($b, 0) + $b ELSE $a % nullif($b, 0) - $b END"
    ),
)
def modulo_longs(left: int, right: int) -> int | None:
    """From zero to below the size of the divisor; null for the divisor zero."""
    return left % abs(right) if right else None


@scalar(
    "%",
    "real real",
    "real",
    page=_OPERATORS,
    duckdb=(
        "CASE WHEN $b = 0 OR isinf($a) OR isnan($a) OR isnan($b) THEN CAST('nan' AS DOUBLE) * $a * $b"
        " WHEN ($a % $b) < 0 THEN ($a % $b) + abs($b) ELSE ($a % $b) END"
    ),
)
def modulo_reals(left: float, right: float) -> float:
    """From zero to below the size of the divisor; NaN for the divisor zero."""
    if right == 0 or math.isinf(left) or math.isnan(left) or math.isnan(right):
        return math.nan
    rest = math.fmod(left, right)
    return rest + abs(right) if rest < 0 else rest


def _add(left: Decimal, right: Decimal) -> Decimal:
    return _DECIMALS.add(left, right)


def _subtract(left: Decimal, right: Decimal) -> Decimal:
    return _DECIMALS.subtract(left, right)


def _multiply(left: Decimal, right: Decimal) -> Decimal:
    return _DECIMALS.multiply(left, right)


def _divide(left: Decimal, right: Decimal) -> Decimal | None:
    return _DECIMALS.divide(left, right) if right else None


def _modulo(left: Decimal, right: Decimal) -> Decimal | None:
    if not right:
        return None
    rest = _DECIMALS.remainder(left, right)
    return rest + abs(right) if rest < 0 else rest


for _pair in ("decimal decimal", "decimal real", "real decimal"):
    _same_type = _pair == "decimal decimal"
    for _name, _rule in (("+", _add), ("-", _subtract), ("*", _multiply), ("/", _divide), ("%", _modulo)):
        scalar(
            _name,
            _pair,
            "decimal",
            page=_OPERATORS,
            duckdb=f"TRY($a {_name} $b)" if _same_type and _name in "+-" else "",
        )(_checked(_rule))


@scalar("negate", "long", "long", page=_OPERATORS, duckdb="coalesce(TRY(0 - $a), $a)")
def negate_long(number: int) -> int:
    return wrapped(-number)


@scalar("negate", "real", "real", page=_OPERATORS, duckdb="-$a")
def negate_real(number: float) -> float:
    return -number


@scalar("negate", "decimal", "decimal", page=_OPERATORS, duckdb="-$a")
def negate_decimal(number: Decimal) -> Decimal:
    return number.copy_negate() if number else number


# -- rounding ---------------------------------------------------------------------------------------------------------

_BIN: Final = "bin-function"


@scalar(
    "bin",
    "long long",
    "long",
    page=_BIN,
    aliases=("floor",),
    duckdb=(
        "CASE WHEN $b > 0 THEN CASE WHEN $a % greatest($b, 1) < 0 THEN TRY($a - $a % greatest($b, 1) - $b)"
        " ELSE $a - $a % greatest($b, 1) END END"
    ),
)
def bin_longs(value: int, size: int) -> int | None:
    """The greatest multiple of ``size`` that is not above ``value``; null where there is none."""
    if size <= 0:
        return None
    result = value - value % size
    return result if result >= MIN_LONG else None


@scalar("bin", "real real", "real", page=_BIN, duckdb="CASE WHEN $b > 0 THEN floor($a / $b) * $b END")
def bin_reals(value: float, size: float) -> float | None:
    if not (size > 0 or math.isnan(size)):
        return None
    return floored(value / size) * size


def floored(number: float) -> float:
    return float(math.floor(number)) if math.isfinite(number) else number


def _bin_decimal(value: Decimal, size: Decimal) -> Decimal | None:
    if size <= 0:
        return None
    return _DECIMALS.multiply((value / size).to_integral_value(ROUND_FLOOR), size)


for _pair in ("decimal decimal", "decimal real", "real decimal"):
    scalar("bin", _pair, "decimal", page=_BIN)(_checked(_bin_decimal))

_BIN_AT: Final = "bin-at-function"


@scalar("bin_at", "long long long", "long", page=_BIN_AT)
def bin_at_longs(value: int, size: int, fixed: int) -> int | None:
    """The greatest ``fixed`` + n * ``size`` that is not above ``value``."""
    return wrapped(value - (value - fixed) % size) if size > 0 else None


@scalar(
    "bin_at",
    "real real real",
    "real",
    page=_BIN_AT,
    duckdb="CASE WHEN $b > 0 THEN $c + floor(($a - $c) / $b) * $b END",
)
def bin_at_reals(value: float, size: float, fixed: float) -> float | None:
    if not (size > 0 or math.isnan(size)):
        return None
    return fixed + floored((value - fixed) / size) * size


def _bin_at_decimal(value: Decimal, size: Decimal, fixed: Decimal) -> Decimal | None:
    if size <= 0:
        return None
    return fixed + ((value - fixed) / size).to_integral_value(ROUND_FLOOR) * size


for _pair in ("decimal decimal decimal", "decimal real real", "real decimal decimal", "decimal real decimal"):
    scalar("bin_at", _pair, "decimal", page=_BIN_AT)(_checked(_bin_at_decimal))

_ROUND: Final = "round-function"


def _half_up(number: float) -> float:
    whole = math.floor(abs(number))
    return math.copysign(whole + (abs(number) - whole >= 0.5), number)


def _round_template(given: Sequence[Any]) -> Template | None:
    """For whole numbers of digits that are known and moderate."""
    if len(given) == 1:
        return Template("round(CAST($a AS DOUBLE))")
    digits = given[1].value if isinstance(given[1], Const) else None
    return Template(f"round(CAST($a AS DOUBLE), {digits})") if digits is not None and abs(digits) <= 15 else None


def _is_alone(given: Sequence[Any]) -> bool:
    return len(given) == 1


@scalar("round", "real long?", "real", page=_ROUND, duckdb=_round_template)
def round_real(number: float, precision: int = 0) -> float:
    """Halves away from zero, at ``precision`` digits behind the point (before it where negative)."""
    if not math.isfinite(number) or precision > 300:
        return number
    if precision < -308:
        return 0.0
    factor = 10.0 ** abs(precision)
    scaled = number / factor if precision < 0 else number * factor
    if not math.isfinite(scaled):
        return number
    return _half_up(scaled) * factor if precision < 0 else _half_up(scaled) / factor


def _round_whole(number: int, precision: int) -> int:
    if precision >= 0:
        return number
    factor: int = 10 ** min(-precision, 40)
    result = (abs(number) + factor // 2) // factor * factor
    return result if number >= 0 else -result


@scalar("round", "int long?", "int", page=_ROUND, duckdb="$a", when=_is_alone)
def round_int(number: int, precision: int = 0) -> int:
    return _round_whole(number, precision)


@scalar("round", "long long?", "long", page=_ROUND, duckdb="$a", when=_is_alone)
def round_long(number: int, precision: int = 0) -> int:
    return wrapped(_round_whole(number, precision))


@scalar(
    "round",
    "decimal long?",
    "decimal",
    page=_ROUND,
    duckdb="CAST(round($a) AS DECIMAL(38, 18))",
    when=_is_alone,
)
def round_decimal(number: Decimal, precision: int = 0) -> Decimal | None:
    places = max(-30, min(18, precision))
    return to_decimal(number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, _DECIMALS) + 0)


@scalar("ceiling", "real", "real", page="ceiling-function", duckdb="ceil($a)")
def ceiling_real(number: float) -> float:
    return float(math.ceil(number)) if math.isfinite(number) else number


@scalar("ceiling", "int", "int", page="ceiling-function", duckdb="$a")
def ceiling_int(number: int) -> int:
    return number


@scalar("ceiling", "long", "long", page="ceiling-function", duckdb="$a")
def ceiling_long(number: int) -> int:
    return number


@scalar("ceiling", "decimal", "decimal", page="ceiling-function", duckdb="TRY_CAST(ceil($a) AS DECIMAL(38, 18))")
def ceiling_decimal(number: Decimal) -> Decimal | None:
    return to_decimal(number.to_integral_value(ROUND_CEILING))


@scalar("abs", "long", "long", page="abs-function", duckdb="coalesce(TRY(abs($a)), $a)")
def abs_long(number: int) -> int:
    return wrapped(abs(number))


@scalar("abs", "real", "real", page="abs-function", duckdb="abs($a)")
def abs_real(number: float) -> float:
    return abs(number)


@scalar("abs", "decimal", "decimal", page="abs-function", duckdb="abs($a)")
def abs_decimal(number: Decimal) -> Decimal:
    return abs(number)


@scalar("abs", "timespan", "timespan", page="abs-function", duckdb="coalesce(TRY(abs($a)), $a)")
def abs_timespan(length: int) -> int:
    return wrapped(abs(length))


@scalar("sign", "real", "real", page="sign-function", duckdb="CAST(sign($a) AS DOUBLE)")
def sign(number: float) -> float:
    return float((number > 0) - (number < 0))


@scalar("sign", "decimal", "real", page="sign-function", duckdb="CAST(sign($a) AS DOUBLE)")
def sign_decimal(number: Decimal) -> float:
    return float((number > 0) - (number < 0))


# -- exponents and logarithms -----------------------------------------------------------------------------------------


def _real(rule: Callable[[float], float]) -> Callable[[float], float]:
    """``rule`` where it has a value; what is too large is infinite, and what has no value is NaN."""

    def guarded(number: float) -> float:
        try:
            return rule(number)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return guarded


def _of_real(name: str, rule: Callable[[float], float | None], page: str = "", duckdb: str = "") -> None:
    """A function of one real; a decimal is made a real first."""
    page = page or f"{name}-function"
    scalar(name, "real", "real", page=page, duckdb=duckdb)(rule)
    scalar(name, "decimal", "real", page=page, duckdb=duckdb and duckdb.replace("$a", "CAST($a AS DOUBLE)"))(
        lambda number: rule(float(number))
    )


def power(base: float, exponent: float) -> float:
    """As C's pow()."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    except ValueError:
        if base == 0:
            return math.copysign(math.inf, base) if exponent % 2 == 1 else math.inf
        return math.nan


def _logarithm(rule: Callable[[float], float]) -> Callable[[float], float | None]:
    def logarithm(number: float) -> float | None:
        """Null for a negative number, minus infinity for zero."""
        if number > 0 or math.isnan(number):
            return rule(number)
        return -math.inf if number == 0 else None

    return logarithm


def _square_root(number: float) -> float | None:
    """Null for a negative number."""
    return None if number < 0 else math.sqrt(number)


def _logarithm_sql(name: str) -> str:
    return f"CASE WHEN $a > 0 THEN {name}($a) WHEN $a = 0 THEN CAST('-inf' AS DOUBLE) END"


_of_real("exp", _real(math.exp), duckdb="exp($a)")
_of_real("exp2", lambda number: power(2.0, number), duckdb="pow(2.0::DOUBLE, $a)")
_of_real("exp10", lambda number: power(10.0, number), duckdb="pow(10.0::DOUBLE, $a)")
_of_real("log", _logarithm(math.log), duckdb=_logarithm_sql("ln"))
_of_real("log2", _logarithm(math.log2), duckdb=_logarithm_sql("log2"))
_of_real("log10", _logarithm(math.log10), duckdb=_logarithm_sql("log10"))
_of_real("sqrt", _square_root, duckdb="CASE WHEN $a >= 0 THEN sqrt($a) END")

scalar("pow", "real real", "real", page="pow-function", duckdb="pow($a, $b)")(power)


def _power_of_decimals(base: Any, exponent: Any) -> float:
    return power(float(base), float(exponent))


for _pair in ("decimal decimal", "decimal real", "real decimal"):
    scalar("pow", _pair, "real", page="pow-function", duckdb="pow(CAST($a AS DOUBLE), CAST($b AS DOUBLE))")(
        _power_of_decimals
    )


@scalar("pi", "", "real", page="pi-function", duckdb="pi()")
def pi() -> float:
    return math.pi


# -- trigonometry -----------------------------------------------------------------------------------------------------


def _angle_sql(name: str) -> str:
    return f"CASE WHEN isfinite($a) THEN {name} WHEN $a IS NOT NULL THEN CAST('nan' AS DOUBLE) END"


def _cotangent(number: float) -> float:
    return divide_reals(1.0, math.tan(number))


def _arc(rule: Callable[[float], float]) -> Callable[[float], float | None]:
    def arc(number: float) -> float | None:
        """Null outside -1 to 1."""
        if math.isnan(number):
            return number
        return rule(number) if -1 <= number <= 1 else None

    return arc


def _arc_sql(name: str) -> str:
    return f"CASE WHEN $a BETWEEN -1 AND 1 THEN {name}($a) WHEN isnan($a) THEN $a END"


_of_real("sin", _real(math.sin), duckdb=_angle_sql("sin($a)"))
_of_real("cos", _real(math.cos), duckdb=_angle_sql("cos($a)"))
_of_real("tan", _real(math.tan), duckdb=_angle_sql("tan($a)"))
_of_real("cot", _real(_cotangent), duckdb=_angle_sql("1.0::DOUBLE / tan($a)"))
_of_real("asin", _arc(math.asin), duckdb=_arc_sql("asin"))
_of_real("acos", _arc(math.acos), duckdb=_arc_sql("acos"))
_of_real("atan", math.atan, duckdb="atan($a)")
_of_real("degrees", lambda radians: 180 / math.pi * radians, duckdb="180 / pi() * $a")
_of_real("radians", lambda degrees: math.pi / 180 * degrees, duckdb="pi() / 180 * $a")


@scalar("atan2", "real real", "real", page="atan2-function", duckdb="atan2($a, $b)")
def atan2(y: float, x: float) -> float:
    return math.atan2(y, x)


# -- special functions ------------------------------------------------------------------------------------------------


def _gamma(number: float) -> float:
    return math.inf if number == 0 else math.gamma(number)


def _log_gamma(number: float) -> float:
    return math.inf if number <= 0 and number == math.floor(number) else math.lgamma(number)


_of_real("gamma", _real(_gamma))
_of_real("loggamma", _real(_log_gamma))
_of_real("erf", math.erf)
_of_real("erfc", math.erfc)


def regularised_beta(x: float, a: float, b: float) -> float:
    """The share of the beta distribution with shapes ``a`` and ``b`` that lies below ``x``, for x from 0 to 1."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(x, a, b) / a
    return 1 - front * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 20_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + step * d
            c = 1 + step / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return result


@scalar("beta_cdf", "real real real", "real", page="beta-cdf-function")
def beta_cdf(x: float, alpha: float, beta: float) -> float:
    if not (0 <= x <= 1 and 0 < alpha <= 10_000 and 0 < beta <= 10_000):
        return math.nan
    return regularised_beta(x, alpha, beta)


@scalar("beta_pdf", "real real real", "real", page="beta-pdf-function")
def beta_pdf(x: float, alpha: float, beta: float) -> float:
    if not (0 < x < 1 and alpha > 0 and beta > 0 and math.isfinite(alpha + beta)):
        return math.nan
    return math.exp(
        math.lgamma(alpha + beta)
        - math.lgamma(alpha)
        - math.lgamma(beta)
        + (alpha - 1) * math.log(x)
        + (beta - 1) * math.log1p(-x)
    )


@scalar("beta_inv", "real real real", "real", page="beta-inv-function")
def beta_inv(probability: float, alpha: float, beta: float) -> float:
    """The x at which beta_cdf(x, alpha, beta) is ``probability``."""
    if not (0 < probability <= 1 and alpha > 0 and beta > 0 and math.isfinite(alpha + beta)):
        return math.nan
    low, high = 0.0, 1.0
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        if regularised_beta(middle, alpha, beta) < probability:
            low = middle
        else:
            high = middle


@scalar("welch_test", "real real real real real real", "real", page="welch-test-function")
def welch_test(
    mean1: float, variance1: float, count1: float, mean2: float, variance2: float, count2: float
) -> float | None:
    """The two-sided p-value of Welch's t-test."""
    if count1 <= 1 or count2 <= 1:
        return None
    share1, share2 = variance1 / count1, variance2 / count2
    spread = share1 + share2
    if not spread > 0 or not math.isfinite(spread + mean1 + mean2):
        return None
    freedom = spread**2 / (share1**2 / (count1 - 1) + share2**2 / (count2 - 1))
    t_squared = (mean1 - mean2) ** 2 / spread
    return regularised_beta(freedom / (freedom + t_squared), freedom / 2, 0.5)


# -- ranges -----------------------------------------------------------------------------------------------------------

_RANGE: Final = "range-function"


def _steps(start: float, stop: float, step: float) -> int:
    """How many elements a range has."""
    if step == 0 or math.isnan(start + stop + step):
        return 0
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        return max(0, min(MAX_ELEMENTS, (stop - start) // step + 1))
    if math.isinf(start) or math.isinf(step):
        return 0
    span = (stop - start) / step
    return 0 if span < 0 else MAX_ELEMENTS if span >= MAX_ELEMENTS else math.floor(span) + 1


@scalar("range", "long long long?", "dynamic", page=_RANGE)
def range_longs(start: int, stop: int, step: int = 1) -> list[int]:
    """From ``start`` by ``step`` up to and with ``stop``."""
    return [start + step * index for index in range(_steps(start, stop, step))]


@scalar("range", "real real real?", "dynamic", page=_RANGE)
def range_reals(start: float, stop: float, step: float = 1.0) -> list[float]:
    return [start + step * index for index in range(_steps(start, stop, step))]


@scalar("range", "datetime datetime timespan?", "dynamic", page=_RANGE)
def range_datetimes(start: int, stop: int, step: int = TICKS_PER_HOUR) -> list[str]:
    return [format_datetime(start + step * index) for index in range(_steps(start, stop, step))]


@scalar("range", "timespan timespan timespan?", "dynamic", page=_RANGE)
def range_timespans(start: int, stop: int, step: int = TICKS_PER_HOUR) -> list[str]:
    return [format_timespan(start + step * index) for index in range(_steps(start, stop, step))]


# -- nearness ---------------------------------------------------------------------------------------------------------

_AROUND: Final = "around-function"


@scalar(
    "around",
    "long long long",
    "bool",
    page=_AROUND,
    duckdb="CAST($a AS HUGEINT) BETWEEN CAST($b AS HUGEINT) - $c AND CAST($b AS HUGEINT) + $c",
)
def around_longs(value: int, centre: int, distance: int) -> bool:
    """Whether ``value`` is at most ``distance`` away from ``centre``."""
    return centre - distance <= value <= centre + distance


@scalar(
    "around",
    "real real real",
    "bool",
    page=_AROUND,
    duckdb="$a BETWEEN $b - $c AND $b + $c AND NOT isnan($a + $b + $c)",
)
def around_reals(value: float, centre: float, distance: float) -> bool:
    return centre - distance <= value <= centre + distance and not math.isnan(value + centre + distance)


@scalar(
    "around",
    "datetime datetime timespan",
    "bool",
    page=_AROUND,
    duckdb="(epoch_us($a) - epoch_us($b)) * 10 BETWEEN -$c AND $c",
)
def around_datetimes(value: int, centre: int, distance: int) -> bool:
    return centre - distance <= value <= centre + distance


@scalar(
    "around",
    "timespan timespan timespan",
    "bool",
    page=_AROUND,
    duckdb="CAST($a AS HUGEINT) BETWEEN CAST($b AS HUGEINT) - $c AND CAST($b AS HUGEINT) + $c",
)
def around_timespans(value: int, centre: int, distance: int) -> bool:
    return centre - distance <= value <= centre + distance
