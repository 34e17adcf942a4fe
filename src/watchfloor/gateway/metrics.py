"""Counters and histograms of one worker, as Prometheus reads them. No labels that a caller can choose."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

DECISION_BOUNDS: Final = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)
UPSTREAM_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts of observed seconds by upper bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str) -> list[str]:
        """In Prometheus' text format."""
        lines, total = [f"# TYPE {name} histogram"], 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum}", f"{name}_count {total}"]


class Metrics:
    """What one worker counts."""

    def __init__(self) -> None:
        self.verdicts: dict[str, int] = {}
        self.completions: dict[str, int] = {}
        self.refused_requests: dict[str, int] = {}
        self.suppressed = 0
        self.unrecorded = 0
        self.decision = Histogram(DECISION_BOUNDS)
        self.upstream = Histogram(UPSTREAM_BOUNDS)

    @staticmethod
    def count(table: dict[str, int], key: str) -> None:
        """One more of ``key``, which must be one of our own words."""
        table[key] = table.get(key, 0) + 1

    def render(self, gauges: dict[str, float]) -> bytes:
        """Everything as text, with ``gauges`` read at this moment."""
        lines: list[str] = []
        for name, label, table in (
            ("watchfloor_gateway_decisions_total", "verdict", self.verdicts),
            ("watchfloor_gateway_calls_completed_total", "status", self.completions),
            ("watchfloor_gateway_requests_refused_total", "code", self.refused_requests),
        ):
            lines.append(f"# TYPE {name} counter")
            lines += [f'{name}{{{label}="{key}"}} {count}' for key, count in sorted(table.items())]
        for name, count in (
            ("watchfloor_gateway_refusals_suppressed_total", self.suppressed),
            ("watchfloor_gateway_calls_not_recorded_total", self.unrecorded),
        ):
            lines += [f"# TYPE {name} counter", f"{name} {count}"]
        for name, value in gauges.items():
            lines += [f"# TYPE watchfloor_gateway_{name} gauge", f"watchfloor_gateway_{name} {value}"]
        lines += self.decision.lines("watchfloor_gateway_decision_seconds")
        lines += self.upstream.lines("watchfloor_gateway_upstream_seconds")
        return ("\n".join(lines) + "\n").encode()
