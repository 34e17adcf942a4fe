"""The function tables of KQL, complete once this package is imported.

A family a module; each row is data beside its definition (see ``spec.py``).
"""

from __future__ import annotations

from importlib import import_module

from watchfloor.kql.functions.spec import AGGREGATES, CONDITIONAL, FUNCTIONS, REFUSED, Aggregate, Function

__all__ = ["AGGREGATES", "CONDITIONAL", "FUNCTIONS", "REFUSED", "Aggregate", "Function"]

for _family in (
    "addresses",
    "aggregates",
    "conversions",
    "dynamics",
    "encodings",
    "geo",
    "mathematics",
    "parsing",
    "patterns",
    "series",
    "sketches",
    "strings",
    "times",
):
    import_module(f"{__name__}.{_family}")
