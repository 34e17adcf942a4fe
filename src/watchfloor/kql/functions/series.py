"""Functions over series: arrays of numbers, most often made by make-series.

An element that is no number gives null in element-wise functions, and null as a whole where one number is made of all
of them, unless a function says otherwise. NaN and infinities may come as the texts that they are in JSON. Where the
documentation leaves a method open, the docstring says what is done here; scores of outliers and periods follow what
the reference engine was seen to answer.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

from watchfloor.kql.functions.aggregates import variance_of
from watchfloor.kql.functions.dynamics import identity
from watchfloor.kql.functions.spec import REFUSED, scalar

_NAN: Final = float("nan")
_SPECIAL: Final = {"NaN": _NAN, "Infinity": math.inf, "-Infinity": -math.inf}
Number = int | float


def _number(value: Any) -> Number | None:
    if isinstance(value, str):
        return _SPECIAL.get(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbers(series: Any) -> list[Number] | None:
    """The series, if all of it are numbers."""
    if not isinstance(series, list):
        return None
    numbers = [number for item in series if (number := _number(item)) is not None]
    return numbers if len(numbers) == len(series) else None


# -- element by element -----------------------------------------------------------------------------------------------


def _safely(function: Callable[..., Any], *numbers: Number) -> Any:
    """As floating-point arithmetic: NaN where there is no value, infinity where it is too large."""
    try:
        value = function(*numbers)
    except (ValueError, ZeroDivisionError):
        return _NAN
    except OverflowError:
        return math.inf
    return _NAN if isinstance(value, complex) else value


def _log(number: Number) -> float:
    return -math.inf if number == 0 else math.log(number)


def _whole(function: Callable[[float], int]) -> Callable[[Number], float]:
    return lambda number: float(function(number)) if math.isfinite(number) else float(number)


_UNARY: Final[dict[str, Callable[[Number], Any]]] = {
    "abs": abs,
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "ceiling": _whole(math.ceil),
    "cos": math.cos,
    "exp": math.exp,
    "floor": _whole(math.floor),
    "log": _log,
    "sign": lambda number: (number > 0) - (number < 0),
    "sin": math.sin,
    "tan": math.tan,
}


def _elementwise(function: Callable[[Number], Any]) -> Callable[[Any], list[Any] | None]:
    def apply(series: Any) -> list[Any] | None:
        if not isinstance(series, list):
            return None
        numbers = [_number(item) for item in series]
        return [None if number is None else _safely(function, number) for number in numbers]

    return apply


for _name, _function in _UNARY.items():
    scalar(f"series_{_name}", "dynamic", "dynamic", page=f"series-{_name}-function")(_elementwise(_function))


def _divide(left: Number, right: Number) -> float:
    if right == 0:
        return _NAN if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)
    return left / right


def _power(base: Number, exponent: Number) -> Any:
    if base == 0 and exponent < 0:
        return math.inf
    return float(base) ** float(exponent)


_BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": _divide,
    "pow": _power,
    "equals": operator.eq,
    "not_equals": operator.ne,
    "greater": operator.gt,
    "greater_equals": operator.ge,
    "less": operator.lt,
    "less_equals": operator.le,
}


def _paired(first: Any, second: Any) -> list[tuple[Any, Any]] | None:
    """What stands at one place of both series; a number stands at every place, and null where a series has ended."""
    if isinstance(first, list) and isinstance(second, list):
        length = max(len(first), len(second))
    elif isinstance(first, list) or isinstance(second, list):
        length = len(first if isinstance(first, list) else second)
    else:
        return None

    def at(series: Any, place: int) -> Any:
        if not isinstance(series, list):
            return series
        return series[place] if place < len(series) else None

    return [(at(first, place), at(second, place)) for place in range(length)]


def _pairwise(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], list[Any] | None]:
    def apply(first: Any, second: Any) -> list[Any] | None:
        pairs = _paired(first, second)
        if pairs is None:
            return None
        numbers = ((_number(left), _number(right)) for left, right in pairs)
        return [None if left is None or right is None else _safely(function, left, right) for left, right in numbers]

    return apply


_OPERANDS: Final = ("dynamic dynamic", "dynamic long|real", "long|real dynamic")
for _name, _function_of_two in _BINARY.items():
    for _takes in _OPERANDS:
        scalar(f"series_{_name}", _takes, "dynamic", page=f"series-{_name.replace('_', '-')}-function")(
            _pairwise(_function_of_two)
        )

# -- one number of a series -------------------------------------------------------------------------------------------


@scalar("series_sum", "dynamic", "real", page="series-sum-function")
def series_sum(series: Any) -> float | None:
    numbers = _numbers(series)
    return None if numbers is None else _sum(numbers)


def _sum(numbers: Iterable[Number]) -> float:
    numbers = list(numbers)
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return float(sum(numbers))


@scalar("series_product", "dynamic", "real", page="series-product-function")
def series_product(series: Any) -> float | None:
    numbers = _numbers(series)
    return None if numbers is None else float(math.prod(float(number) for number in numbers))


@scalar("series_magnitude", "dynamic", "real", page="series-magnitude-function")
def series_magnitude(series: Any) -> float | None:
    numbers = _numbers(series)
    return None if numbers is None else math.sqrt(_sum(number * number for number in numbers))


def series_dot_product(first: Any, second: Any) -> float | None:
    """The longer series is cut; pairs with an element that is no number are left out; null over nothing."""
    if isinstance(first, list) and isinstance(second, list):
        length = min(len(first), len(second))
        first, second = first[:length], second[:length]
    pairs = _paired(first, second)
    if not pairs:
        return None
    numbers = [(_number(left), _number(right)) for left, right in pairs]
    return _sum(left * right for left, right in numbers if left is not None and right is not None)


for _takes in _OPERANDS:
    scalar("series_dot_product", _takes, "real", page="series-dot-product-function")(series_dot_product)


@scalar("series_cosine_similarity", "dynamic dynamic real? real?", "real", page="series-cosine-similarity-function")
def series_cosine_similarity(
    first: Any, second: Any, first_magnitude: float | None = None, second_magnitude: float | None = None
) -> float | None:
    product = series_dot_product(first, second) if isinstance(first, list) and isinstance(second, list) else None
    if product is None:
        return None
    length = min(len(first), len(second))
    magnitudes = [
        math.sqrt(_sum(number * number for number in map(_number, series[:length]) if number is not None))
        if magnitude is None
        else magnitude
        for series, magnitude in ((first, first_magnitude), (second, second_magnitude))
    ]
    return _divide(product, magnitudes[0] * magnitudes[1])


@scalar("series_pearson_correlation", "dynamic dynamic", "real", page="series-pearson-correlation-function")
def series_pearson_correlation(first: Any, second: Any) -> float | None:
    """Null for series of different lengths; NaN where one does not vary."""
    xs, ys = _numbers(first), _numbers(second)
    if xs is None or ys is None or len(xs) != len(ys) or not xs:
        return None
    mean_x, mean_y = _sum(xs) / len(xs), _sum(ys) / len(ys)
    covariance = _sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    spread = _sum((x - mean_x) ** 2 for x in xs) * _sum((y - mean_y) ** 2 for y in ys)
    return _divide(covariance, math.sqrt(spread))


_STATISTICS: Final = (
    ("min", "real"),
    ("min_idx", "long"),
    ("max", "real"),
    ("max_idx", "long"),
    ("avg", "real"),
    ("stdev", "real"),
    ("variance", "real"),
)


@scalar("series_stats", "dynamic =bool?", "dynamic", page="series-stats-function", spreads=_STATISTICS)
def series_stats(series: Any, ignore_nonfinite: bool = False) -> list[Any] | None:
    """All null where an element is not finite, unless those are left out."""
    if not isinstance(series, list):
        return None
    numbers = [_number(item) for item in series]
    finite = [(place, number) for place, number in enumerate(numbers) if number is not None and math.isfinite(number)]
    if not finite or (len(finite) < len(series) and not ignore_nonfinite):
        return [None] * len(_STATISTICS)
    values = [number for _, number in finite]
    least, most = min(values), max(values)
    variance = variance_of(values, is_sample=True)
    return [
        float(least),
        next(place for place, number in finite if number == least),
        float(most),
        next(place for place, number in finite if number == most),
        _sum(values) / len(values),
        math.sqrt(variance),
        variance,
    ]


@scalar("series_stats_dynamic", "dynamic =bool?", "dynamic", page="series-stats-dynamic-function")
def series_stats_dynamic(series: Any, ignore_nonfinite: bool = False) -> dict[str, Any] | None:
    """The statistics of series_stats, and the sum and the length."""
    found = series_stats(series, ignore_nonfinite)
    if found is None or found[0] is None:
        return None
    values = [number for number in map(_number, series) if number is not None and math.isfinite(number)]
    named = {name: value for (name, _), value in zip(_STATISTICS, found, strict=True)}
    return {**named, "sum": _sum(values), "len": len(values)}


# -- missing values ---------------------------------------------------------------------------------------------------


def _is_missing(placeholder: Number | None) -> Callable[[Any], bool]:
    wanted = identity(placeholder)
    return lambda item: bool(identity(item) == wanted)


@scalar("series_fill_forward", "dynamic long|real?", "dynamic", page="series-fill-forward-function", nulls="total")
def series_fill_forward(series: Any, placeholder: Number | None = None) -> list[Any] | None:
    """The first ones stay if they are missing."""
    if not isinstance(series, list):
        return None
    is_missing = _is_missing(placeholder)
    filled: list[Any] = []
    for item in series:
        filled.append(filled[-1] if filled and is_missing(item) else item)
    return filled


@scalar("series_fill_backward", "dynamic long|real?", "dynamic", page="series-fill-backward-function", nulls="total")
def series_fill_backward(series: Any, placeholder: Number | None = None) -> list[Any] | None:
    if not isinstance(series, list):
        return None
    filled = series_fill_forward(series[::-1], placeholder)
    return None if filled is None else filled[::-1]


@scalar(
    "series_fill_const", "dynamic long|real? long|real?", "dynamic", page="series-fill-const-function", nulls="total"
)
def series_fill_const(series: Any, constant: Number | None = 0, placeholder: Number | None = None) -> list[Any] | None:
    if not isinstance(series, list):
        return None
    is_missing = _is_missing(placeholder)
    return [constant if is_missing(item) else item for item in series]


@scalar(
    "series_fill_linear",
    "dynamic long|real? bool? long|real?",
    "dynamic",
    page="series-fill-linear-function",
    nulls="total",
)
def series_fill_linear(
    series: Any, placeholder: Number | None = None, fill_edges: bool | None = True, constant: Number | None = 0.0
) -> list[Any] | None:
    """Among whole numbers, the parts of a whole are cut off. Where all are missing, ``constant`` is everywhere."""
    if not isinstance(series, list):
        return None
    is_missing = _is_missing(placeholder)
    known = [place for place, item in enumerate(series) if not is_missing(item)]
    if not known:
        return [constant] * len(series)
    if any(_number(series[place]) is None for place in known):
        return None
    is_whole = all(isinstance(series[place], int) for place in known)
    filled = list(series)
    for left, right in pairwise(known):
        for place in range(left + 1, right):
            value = series[left] + (series[right] - series[left]) * (place - left) / (right - left)
            filled[place] = int(value) if is_whole else value
    if fill_edges:
        first, last = known[0], known[-1]
        filled[:first] = [series[first]] * first
        filled[last + 1 :] = [series[last]] * (len(series) - last - 1)
    return filled


# -- filters ----------------------------------------------------------------------------------------------------------


@scalar("series_fir", "dynamic dynamic bool? bool?", "dynamic", page="series-fir-function", nulls="total")
def series_fir(
    series: Any, coefficients: Any, normalize: bool | None = None, center: bool | None = False
) -> list[Any] | None:
    """Outside of the series there are zeros. Null for a filter with negative coefficients that shall be normalised."""
    numbers, factors = _numbers(series), _numbers(coefficients)
    if numbers is None or not factors:
        return None
    has_negative = any(factor < 0 for factor in factors)
    if normalize is None:
        normalize = not has_negative
    if normalize:
        if has_negative:
            return None
        total = _sum(factors)
        factors = [_divide(factor, total) for factor in factors]
    shift = len(factors) // 2 if center else 0
    return [
        _sum(
            factor * numbers[place + shift - back]
            for back, factor in enumerate(factors)
            if 0 <= place + shift - back < len(numbers)
        )
        for place in range(len(numbers))
    ]


@scalar("series_iir", "dynamic dynamic dynamic", "dynamic", page="series-iir-function")
def series_iir(series: Any, numerators: Any, denominators: Any) -> list[Any] | None:
    numbers, ahead, behind = _numbers(series), _numbers(numerators), _numbers(denominators)
    if numbers is None or not ahead or not behind or behind[0] == 0:
        return None
    found: list[float] = []
    for place in range(len(numbers)):
        value = sum(factor * numbers[place - back] for back, factor in enumerate(ahead) if back <= place)
        value -= sum(factor * found[place - back] for back, factor in enumerate(behind) if 0 < back <= place)
        found.append(float(value / behind[0]))
    return found


# -- frequencies ------------------------------------------------------------------------------------------------------


def _transformed(values: Sequence[complex], sign: int) -> list[complex]:
    """The sums of ``values`` times e^(sign 2 pi i j k / n), for any length n."""
    length = len(values)
    if length & (length - 1) == 0:
        return _transformed_halves(list(values), sign)
    # Bluestein: a convolution, by transforms whose length is a power of two.
    chirp = [cmath.exp(sign * 1j * math.pi * (place * place % (2 * length)) / length) for place in range(length)]
    size = 1 << (2 * length - 1).bit_length()
    left = [value * factor for value, factor in zip(values, chirp, strict=True)] + [0j] * (size - length)
    right = [0j] * size
    for place, factor in enumerate(chirp):
        right[place] = right[-place] = factor.conjugate()
    products = [a * b for a, b in zip(_transformed_halves(left, -1), _transformed_halves(right, -1), strict=True)]
    folded = _transformed_halves(products, 1)
    return [folded[place] / size * chirp[place] for place in range(length)]


def _transformed_halves(values: list[complex], sign: int) -> list[complex]:
    length = len(values)
    if length <= 1:
        return values
    even, odd = _transformed_halves(values[::2], sign), _transformed_halves(values[1::2], sign)
    turned = [cmath.exp(sign * 2j * math.pi * place / length) * odd[place] for place in range(length // 2)]
    return [a + b for a, b in zip(even, turned, strict=True)] + [a - b for a, b in zip(even, turned, strict=True)]


def _complex_series(real: Any, imaginary: Any) -> list[complex] | None:
    parts = _numbers(real), [0] * len(real) if imaginary is None and isinstance(real, list) else _numbers(imaginary)
    if parts[0] is None or parts[1] is None or len(parts[0]) != len(parts[1]):
        return None
    return [complex(a, b) for a, b in zip(parts[0], parts[1], strict=True)]


_COMPLEX: Final = (("real", "dynamic"), ("imag", "dynamic"))


@scalar("series_fft", "dynamic dynamic?", "dynamic", page="series-fft-function", spreads=_COMPLEX)
def series_fft(real: Any, imaginary: Any = None) -> list[Any] | None:
    values = _complex_series(real, imaginary)
    if values is None:
        return None
    found = _transformed(values, -1)
    return [[value.real for value in found], [value.imag for value in found]]


@scalar("series_ifft", "dynamic dynamic?", "dynamic", page="series-ifft-function", spreads=_COMPLEX)
def series_ifft(real: Any, imaginary: Any = None) -> list[Any] | None:
    values = _complex_series(real, imaginary)
    if values is None:
        return None
    found = [value / len(values) for value in _transformed(values, 1)]
    return [[value.real for value in found], [value.imag for value in found]]


# -- lines and polynomials --------------------------------------------------------------------------------------------

_LINE: Final = (
    ("rsquare", "real"),
    ("slope", "real"),
    ("variance", "real"),
    ("rvariance", "real"),
    ("interception", "real"),
    ("line_fit", "dynamic"),
)


def _fitted(xs: Sequence[Number], ys: Sequence[Number], degree: int) -> list[Fraction] | None:
    """The coefficients, from the constant up, of the polynomial with the least squares; exact. None if several are
    as good."""
    powers = [Fraction(0)] * (2 * degree + 1)
    moments = [Fraction(0)] * (degree + 1)
    for x, y in zip(map(Fraction, xs), map(Fraction, ys), strict=True):
        power = Fraction(1)
        for exponent in range(2 * degree + 1):
            powers[exponent] += power
            if exponent <= degree:
                moments[exponent] += power * y
            power *= x
    rows = [[*powers[row : row + degree + 1], moments[row]] for row in range(degree + 1)]
    for place in range(degree + 1):
        pivot = next((row for row in range(place, degree + 1) if rows[row][place]), None)
        if pivot is None:
            return None
        rows[place], rows[pivot] = rows[pivot], rows[place]
        for row in range(degree + 1):
            if row != place and rows[row][place]:
                factor = rows[row][place] / rows[place][place]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[place], strict=True)]
    return [rows[place][-1] / rows[place][place] for place in range(degree + 1)]


def _quality(ys: Sequence[Number], fit: Sequence[float]) -> tuple[float, float, float]:
    """R-square, the variance, and the variance of what the fit leaves."""
    variance = variance_of(ys, is_sample=True)
    left = _sum((y - value) ** 2 for y, value in zip(ys, fit, strict=True)) / (len(ys) - 1)
    return 1 - left / variance if variance else _NAN, variance, left


def _finite(series: Any) -> list[Number] | None:
    numbers = _numbers(series)
    return numbers if numbers is not None and all(math.isfinite(number) for number in numbers) else None


@scalar("series_fit_line", "dynamic", "dynamic", page="series-fit-line-function", spreads=_LINE)
def series_fit_line(series: Any) -> list[Any] | None:
    """Null for fewer than two numbers."""
    ys = _finite(series)
    found = None if ys is None or len(ys) < 2 else _fitted(range(len(ys)), ys, 1)
    if ys is None or found is None:
        return None
    interception, slope = found
    fit = [float(interception + slope * place) for place in range(len(ys))]
    rsquare, variance, left = _quality(ys, fit)
    return [rsquare, float(slope), variance, left, float(interception), fit]


@scalar("series_fit_line_dynamic", "dynamic", "dynamic", page="series-fit-line-dynamic-function")
def series_fit_line_dynamic(series: Any) -> dict[str, Any] | None:
    found = series_fit_line(series)
    return None if found is None else {name: value for (name, _), value in zip(_LINE, found, strict=True)}


_POLYNOMIAL: Final = (
    ("rsquare", "real"),
    ("coefficients", "dynamic"),
    ("variance", "real"),
    ("rvariance", "real"),
    ("poly_fit", "dynamic"),
)


def _fit_poly(series: Any, xs: Any, degree: int) -> list[Any] | None:
    ys, places = _finite(series), _finite(xs)
    if ys is None or places is None or len(ys) != len(places) or not 1 <= degree < len(ys):
        return None
    found = _fitted(places, ys, degree)
    if found is None:
        return None
    fit = []
    for x in map(Fraction, places):
        value = Fraction(0)
        for coefficient in reversed(found):
            value = value * x + coefficient
        fit.append(float(value))
    rsquare, variance, left = _quality(ys, fit)
    return [rsquare, [float(coefficient) for coefficient in reversed(found)], variance, left, fit]


@scalar("series_fit_poly", "dynamic", "dynamic", page="series-fit-poly-function", spreads=_POLYNOMIAL)
def series_fit_poly(series: Any) -> list[Any] | None:
    return series_fit_poly_at(series, [*range(1, len(series) + 1)] if isinstance(series, list) else None)


@scalar("series_fit_poly", "dynamic dynamic long?", "dynamic", page="series-fit-poly-function", spreads=_POLYNOMIAL)
def series_fit_poly_at(series: Any, xs: Any, degree: int = 1) -> list[Any] | None:
    """Coefficients go from the highest power down."""
    return _fit_poly(series, xs, degree)


# -- outliers ---------------------------------------------------------------------------------------------------------

_CUSTOM_FACTOR: Final = 2.772605605507915
"""Makes a score by the 10th and 90th percentiles what it is by the 25th and 75th for a normal distribution, as the
reference engine computes it."""


def _interpolated(values: Sequence[Number], share: float) -> float:
    place = (len(values) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def _outlier_scores(values: Sequence[Number | None], is_custom: bool, test_points: int = 0) -> list[float]:
    """How far beyond the percentiles, in distances between them; 0 between them and for null."""
    learned = sorted(value for value in values[: len(values) - test_points] if value is not None)
    if not learned:
        return [0.0] * len(values)
    tail, factor = (0.1, _CUSTOM_FACTOR) if is_custom else (0.25, 1.0)
    low, high = _interpolated(learned, tail), _interpolated(learned, 1 - tail)
    scores = []
    for value in values:
        beyond = 0.0 if value is None else value - high if value > high else value - low if value < low else 0.0
        scores.append(_divide(beyond, high - low) * factor if beyond else 0.0)
    return scores


def _constant(arguments: Sequence[Any], place: int) -> Any:
    return getattr(arguments[place], "value", None) if place < len(arguments) else None


def _check_outliers(arguments: Sequence[Any]) -> str | None:
    kind = _constant(arguments, 1)
    if kind not in (None, "", "tukey", "ctukey"):
        return "the kind is 'tukey' or 'ctukey'"
    percentiles = [_constant(arguments, place) for place in (3, 4)][: len(arguments) - 3]
    if kind == "tukey" or not percentiles:
        return None
    wanted = [10.0, 90.0][: len(percentiles)]
    return None if percentiles == wanted else "only the percentiles 10 and 90 are supported"


@scalar(
    "series_outliers",
    "dynamic string? real? real? real? long?",
    "dynamic",
    page="series-outliers-function",
    nulls="total",
    check=_check_outliers,
)
def series_outliers(
    series: Any,
    kind: str = "ctukey",
    ignored: float | None = None,
    _low: float | None = None,
    _high: float | None = None,
    test_points: int | None = 0,
) -> list[float] | None:
    """By Tukey's fences: beyond 1.5 is a mild outlier. Where the percentiles are one value, any other is infinitely
    far. The last ``test_points`` are scored without counting for the percentiles."""
    if not isinstance(series, list):
        return None
    is_missing = _is_missing(ignored)
    values = [None if is_missing(item) else _number(item) for item in series]
    return _outlier_scores(values, kind != "tukey", test_points or 0)


# -- periods ----------------------------------------------------------------------------------------------------------

_LEAST_PERIOD: Final = 4
_CHANCE: Final = 0.01
"""A frequency counts if chance alone would make one so strong in fewer than one of a hundred series."""


def _autocorrelation(values: Sequence[Number]) -> list[float] | None:
    """How well the series, taken as a circle, fits itself by each shift: 1 at 0, 0 at the worst. None if it does not
    vary."""
    mean = _sum(values) / len(values)
    spectrum = _transformed([complex(value - mean) for value in values], -1)
    powers = [abs(value) ** 2 for value in spectrum]
    shifted = [value.real for value in _transformed([complex(power) for power in powers], 1)]
    least = min(shifted)
    if shifted[0] <= 0 or shifted[0] - least <= 1e-9 * shifted[0]:
        return None
    return [(value - least) / (shifted[0] - least) for value in shifted]


def _strong_frequencies(values: Sequence[Number]) -> list[int]:
    """Fisher's test: frequencies whose share of all power chance seldom gives to any."""
    mean = _sum(values) / len(values)
    spectrum = _transformed([complex(value - mean) for value in values], -1)
    powers = [abs(value) ** 2 for value in spectrum[1 : len(values) // 2 + 1]]
    limit = sum(powers) * (1 - (_CHANCE / len(powers)) ** (1 / (len(powers) - 1)))
    return [frequency for frequency, power in enumerate(powers, 1) if power > limit]


def _periods(values: Sequence[Number]) -> list[tuple[int, float]]:
    """The periods of a series with their scores, the best first.

    A period is a peak of the autocorrelation next to a frequency that is stronger than chance makes it; its score is
    the autocorrelation there. It has at least four points and fits at least twice.
    """
    fits = _autocorrelation(values) if len(values) >= 2 * _LEAST_PERIOD else None
    if fits is None:
        return []
    length, found = len(values), {}
    for frequency in _strong_frequencies(values):
        if frequency == 1:
            continue
        first = max(_LEAST_PERIOD, math.ceil(length / (frequency + 1)))
        last = min(length // 2, math.floor(length / (frequency - 1)))
        peaks = [
            place
            for place in range(first, last + 1)
            if fits[place] >= fits[place - 1] and fits[place] >= fits[(place + 1) % length]
        ]
        if peaks:
            best = max(peaks, key=lambda place: (fits[place], -place))
            found[best] = fits[best]
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


_PERIODS: Final = (("periods", "dynamic"), ("scores", "dynamic"))


@scalar(
    "series_periods_detect",
    "dynamic real real long",
    "dynamic",
    page="series-periods-detect-function",
    spreads=_PERIODS,
)
def series_periods_detect(series: Any, least: float, most: float, count: int) -> list[Any] | None:
    """The best ``count`` periods in the range, filled up with 0."""
    numbers = _finite(series)
    if numbers is None or not 0 <= count <= len(numbers):
        return None
    found = [(period, score) for period, score in _periods(numbers) if least <= period <= most][:count]
    found += [(0, 0.0)] * (count - len(found))
    return [[float(period) for period, _ in found], [score for _, score in found]]


@scalar(
    "series_periods_validate",
    "dynamic real+",
    "dynamic",
    page="series-periods-validate-function",
    spreads=_PERIODS,
)
def series_periods_validate(series: Any, *periods: float) -> list[Any] | None:
    """The score of each period that is one of those detected, or within 5 % of one; 0 for any other."""
    numbers = _finite(series)
    if numbers is None:
        return None
    found = _periods(numbers)
    scores = [next((score for known, score in found if abs(known - period) <= 0.05 * known), 0.0) for period in periods]
    return [list(periods), scores]


# -- decomposition ----------------------------------------------------------------------------------------------------

_SEASONAL_THRESHOLD: Final = 0.7
_DECOMPOSE_THRESHOLD: Final = 0.6


def _median(values: Sequence[Number]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _seasonal(values: Sequence[Number], period: int, test_points: int, threshold: float) -> list[float]:
    """The median of the values at the same place of every period; zeros without a period."""
    learned = values[: len(values) - test_points]
    if period < 0:
        best = next(iter(_periods(learned)), (0, 0.0))
        period = best[0] if best[1] >= threshold else 0
    if period == 0 or not learned:
        return [0.0] * len(values)
    phases = [_median(learned[phase::period]) if phase < len(learned) else 0.0 for phase in range(period)]
    return [phases[place % period] for place in range(len(values))]


@scalar("series_seasonal", "dynamic long? long?", "dynamic", page="series-seasonal-function")
def series_seasonal(series: Any, period: int = -1, test_points: int = 0) -> list[float] | None:
    numbers = _finite(series)
    if numbers is None or not 0 <= test_points <= len(numbers):
        return None
    return _seasonal(numbers, period, test_points, _SEASONAL_THRESHOLD)


_PARTS: Final = (("baseline", "dynamic"), ("seasonal", "dynamic"), ("trend", "dynamic"), ("residual", "dynamic"))


def _check_trend(place: int) -> Callable[[Sequence[Any]], str | None]:
    def check(arguments: Sequence[Any]) -> str | None:
        trend = _constant(arguments, place)
        return None if trend in (None, "", "avg", "linefit", "none") else "the trend is 'avg', 'linefit' or 'none'"

    return check


def _decomposed(
    numbers: Sequence[Number], period: int, trend: str, test_points: int, threshold: float
) -> list[list[float]] | None:
    """Baseline, seasonal part, trend and residual. The trend is that of the series without its seasonal part."""
    count = len(numbers) - test_points
    if not 0 < count <= len(numbers):
        return None
    seasonal = _seasonal(numbers, period, test_points, threshold)
    rest = [number - part for number, part in zip(numbers[:count], seasonal, strict=False)]
    line = _fitted(range(count), rest, 1) if trend == "linefit" and count > 1 else None
    if trend == "none":
        trends = [0.0] * len(numbers)
    elif line is not None:
        trends = [float(line[0] + line[1] * place) for place in range(len(numbers))]
    else:
        trends = [_sum(rest) / count] * len(numbers)
    baseline = [part + level for part, level in zip(seasonal, trends, strict=True)]
    residual = [number - value for number, value in zip(numbers, baseline, strict=True)]
    return [baseline, seasonal, trends, residual]


@scalar(
    "series_decompose",
    "dynamic long? string? long? real?",
    "dynamic",
    page="series-decompose-function",
    check=_check_trend(2),
    spreads=_PARTS,
)
def series_decompose(
    series: Any,
    period: int = -1,
    trend: str = "avg",
    test_points: int = 0,
    threshold: float = _DECOMPOSE_THRESHOLD,
) -> list[Any] | None:
    numbers = _finite(series)
    return None if numbers is None else _decomposed(numbers, period, trend, test_points, threshold)


@scalar(
    "series_decompose_forecast",
    "dynamic long long? string? real?",
    "dynamic",
    page="series-decompose-forecast-function",
    check=_check_trend(3),
    spreads=_PARTS,
)
def series_decompose_forecast(
    series: Any, points: int, period: int = -1, trend: str = "linefit", threshold: float = _DECOMPOSE_THRESHOLD
) -> list[Any] | None:
    """The forecast is the baseline of the whole series, learned without the last ``points``, whose values may be
    missing."""
    if not isinstance(series, list) or not 0 <= points < len(series):
        return None
    known = _finite(series[: len(series) - points])
    if known is None:
        return None
    ahead = [_number(item) or 0 for item in series[len(known) :]]
    return _decomposed([*known, *ahead], period, trend, points, threshold)


def _check_anomalies(arguments: Sequence[Any]) -> str | None:
    method = _constant(arguments, 5)
    if method not in (None, "", "tukey", "ctukey"):
        return "the method is 'tukey' or 'ctukey'"
    return _check_trend(3)(arguments)


@scalar(
    "series_decompose_anomalies",
    "dynamic real? long? string? long? string? real?",
    "dynamic",
    page="series-decompose-anomalies-function",
    check=_check_anomalies,
    spreads=(("ad_flag", "dynamic"), ("ad_score", "dynamic"), ("baseline", "dynamic")),
)
def series_decompose_anomalies(
    series: Any,
    threshold: float = 1.5,
    period: int = -1,
    trend: str = "avg",
    test_points: int = 0,
    method: str = "ctukey",
    seasonality_threshold: float = _DECOMPOSE_THRESHOLD,
) -> list[Any] | None:
    """Outliers (as series_outliers) among the residuals of series_decompose."""
    numbers = _finite(series)
    parts = None if numbers is None else _decomposed(numbers, period, trend, test_points, seasonality_threshold)
    if parts is None:
        return None
    baseline, _, _, residual = parts
    # Rounding errors are no distance between residuals.
    scale = max((abs(value) for value in (*baseline, *residual)), default=0.0)
    cleaned = [0.0 if abs(value) <= 1e-12 * scale else value for value in residual]
    scores = _outlier_scores(cleaned, method != "tukey", test_points)
    flags = [(score > threshold) - (score < -threshold) for score in scores]
    return [flags, scores, baseline]


for _name in ("series_fit_2lines", "series_fit_2lines_dynamic"):
    REFUSED[_name] = (
        "its exact results are not documented; fit parts of the series with array_slice() and series_fit_line()"
    )
