"""Counters and histograms of one worker, as Prometheus reads them. No labels that a caller can choose."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

DECISION_BOUNDS: Final = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)
WEBHOOK_BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
ALIGNMENT_BOUNDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
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

    def add(self, other: Histogram) -> None:
        """Everything that ``other`` has counted, within the same bounds."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self._sum += other._sum

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
        self.alignments: dict[str, int] = {}
        self.results: dict[str, int] = {}
        self.suppressed = 0
        self.unrecorded = 0
        self.decision = Histogram(DECISION_BOUNDS)
        self.upstream = Histogram(UPSTREAM_BOUNDS)
        self.webhook_answers: dict[str, int] = {}
        self.webhook = Histogram(WEBHOOK_BOUNDS)
        self.alignment = Histogram(ALIGNMENT_BOUNDS)

    def with_those_of(self, others: Iterable[Metrics]) -> Metrics:
        """A copy of these with ``others`` added: decisions that were taken in threads of their own."""
        total = Metrics()
        for each in (self, *others):
            for mine, theirs in (
                (total.verdicts, each.verdicts),
                (total.completions, each.completions),
                (total.refused_requests, each.refused_requests),
                (total.webhook_answers, each.webhook_answers),
                (total.alignments, each.alignments),
            ):
                for key, count in list(theirs.items()):
                    mine[key] = mine.get(key, 0) + count
            total.suppressed += each.suppressed
            total.unrecorded += each.unrecorded
            total.decision.add(each.decision)
            total.upstream.add(each.upstream)
            total.webhook.add(each.webhook)
            total.alignment.add(each.alignment)
        return total

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
            ("watchfloor_gateway_copilot_studio_answers_total", "answer", self.webhook_answers),
            ("watchfloor_gateway_alignments_total", "state", self.alignments),
            ("watchfloor_gateway_results_judged_total", "verdict", self.results),
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
        lines += self.webhook.lines("watchfloor_gateway_copilot_studio_seconds")
        lines += self.alignment.lines("watchfloor_gateway_alignment_seconds")
        return ("\n".join(lines) + "\n").encode()
