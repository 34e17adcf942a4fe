"""Distances on the Earth as the spheroid of WGS 84."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

_EQUATOR: Final = 6_378_137.0
_FLATTENING: Final = 1 / 298.257223563
_POLE: Final = _EQUATOR * (1 - _FLATTENING)


def distance(longitude1: float, latitude1: float, longitude2: float, latitude2: float) -> float:
    """The length in metres of the shortest way between two places in degrees."""
    apart = math.radians(math.remainder(longitude2 - longitude1, 360.0))
    beta1, beta2 = _reduced(latitude1), _reduced(latitude2)
    found = _by_iteration(apart, beta1, beta2)
    return found if found is not None else _by_search(abs(apart), beta1, beta2)


def _reduced(latitude: float) -> float:
    phi = math.radians(latitude)
    return math.atan2((1 - _FLATTENING) * math.sin(phi), math.cos(phi)) if abs(latitude) < 90 else phi


def _by_iteration(apart: float, beta1: float, beta2: float) -> float | None:
    """Vincenty's method; None where it does not settle, which is so for nearly opposite places."""
    sin1, cos1, sin2, cos2 = math.sin(beta1), math.cos(beta1), math.sin(beta2), math.cos(beta2)
    turn = apart
    for _ in range(200):
        across, ahead = cos2 * math.sin(turn), cos1 * sin2 - sin1 * cos2 * math.cos(turn)
        sin_arc = math.hypot(across, ahead)
        if sin_arc == 0:
            return 0.0 if sin1 * sin2 + cos1 * cos2 * math.cos(turn) > 0 else None
        cos_arc = sin1 * sin2 + cos1 * cos2 * math.cos(turn)
        arc = math.atan2(sin_arc, cos_arc)
        sin_azimuth = cos1 * cos2 * math.sin(turn) / sin_arc
        cos_squared = 1 - sin_azimuth * sin_azimuth
        cos_middle = cos_arc - 2 * sin1 * sin2 / cos_squared if cos_squared > 1e-30 else 0.0
        c = _FLATTENING / 16 * cos_squared * (4 + _FLATTENING * (4 - 3 * cos_squared))
        last = turn
        swing = cos_middle + c * cos_arc * (2 * cos_middle * cos_middle - 1)
        turn = apart + (1 - c) * _FLATTENING * sin_azimuth * (arc + c * sin_arc * swing)
        if abs(turn) > math.pi:
            return None
        if abs(turn - last) < 1e-15:
            return _length(sin1, arc, cos_squared, cos_middle)
    return None


def _length(sin1: float, arc: float, cos_squared: float, cos_middle: float) -> float:
    """The length of a way from its arc on the auxiliary sphere: of the two places of that latitude on the great circle,
    it begins at the one that fits ``cos_middle``, the cosine of twice the place of its middle."""
    k_squared = (_EQUATOR**2 - _POLE**2) / _POLE**2 * cos_squared
    cos_start = math.sqrt(max(0.0, cos_squared - sin1 * sin1))
    starts = (math.atan2(sin1, cos_start), math.atan2(sin1, -cos_start))
    start = min(starts, key=lambda place: abs(math.cos(2 * place + arc) - cos_middle))
    return _POLE * _integral(lambda place: math.sqrt(1 + k_squared * math.sin(place) ** 2), start, start + arc)


_NODES: Final = (
    (0.1488743389816312, 0.2955242247147529),
    (0.4333953941292472, 0.2692667193099963),
    (0.6794095682990244, 0.2190863625159820),
    (0.8650633666889845, 0.1494513491505806),
    (0.9739065285171717, 0.0666713443086881),
)
"""Gauss's nodes and weights for ten points."""


def _integral(function: Callable[[float], float], start: float, end: float) -> float:
    """Gauss's quadrature over eight equal parts."""
    total = []
    half = (end - start) / 16
    for part in range(8):
        middle = start + (2 * part + 1) * half
        for node, weight in _NODES:
            total.append(weight * (function(middle + node * half) + function(middle - node * half)))
    return half * math.fsum(total)


def _by_search(apart: float, beta1: float, beta2: float) -> float:
    """By bisection of the direction at the start, for any two places."""
    if abs(beta1) < abs(beta2):
        beta1, beta2 = beta2, beta1
    if beta1 > 0:
        beta1, beta2 = -beta1, -beta2
    low, high = 0.0, math.pi
    length = 0.0
    for _ in range(100):
        azimuth = (low + high) / 2
        turn, length = _shoot(azimuth, beta1, beta2)
        if turn < apart:
            low = azimuth
        else:
            high = azimuth
        if not low < (low + high) / 2 < high:
            break
    return length


def _shoot(azimuth: float, beta1: float, beta2: float) -> tuple[float, float]:
    """The longitude passed and the length, from one latitude to the other in a direction."""
    sin0 = math.sin(azimuth) * math.cos(beta1)
    cos0_squared = 1 - sin0 * sin0
    k_squared = (_EQUATOR**2 - _POLE**2) / _POLE**2 * cos0_squared
    cos_azimuth1 = math.cos(azimuth)
    cos_azimuth2 = math.sqrt(
        max(0.0, (cos_azimuth1 * math.cos(beta1)) ** 2 + (math.cos(beta2) ** 2 - math.cos(beta1) ** 2))
    )
    start = math.atan2(-abs(math.sin(beta1)), cos_azimuth1 * math.cos(beta1))
    end = math.atan2(math.sin(beta2), cos_azimuth2)
    omega1 = math.atan2(sin0 * math.sin(start), math.cos(start)) if start > -math.pi else -math.pi
    omega2 = math.atan2(sin0 * math.sin(end), math.cos(end))
    length = _POLE * _integral(lambda place: math.sqrt(1 + k_squared * math.sin(place) ** 2), start, end)
    lag = _integral(
        lambda place: (2 - _FLATTENING) / (1 + (1 - _FLATTENING) * math.sqrt(1 + k_squared * math.sin(place) ** 2)),
        start,
        end,
    )
    return (omega2 - omega1) % (2 * math.pi) - _FLATTENING * sin0 * lag, length
