"""The operators that need more than one step, or more than SQL, and where each is bound.

Each is put together from the relations of ``ir.py``; what those cannot say goes to a routine (``routines/``) as data.
"""

from __future__ import annotations

from typing import Any, Final

from watchfloor.kql import ast
from watchfloor.kql.bind.hierarchies import reduce_rows, top_hitters, top_nested
from watchfloor.kql.bind.patterns import parse, parse_kv
from watchfloor.kql.bind.scanning import scan
from watchfloor.kql.bind.searching import find, search
from watchfloor.kql.bind.subqueries import facet, fork, mv_apply, partition
from watchfloor.kql.bind.timeseries import make_series
from watchfloor.kql.bind.tools import Handler

SPECIAL: Final[dict[type[Any], Handler]] = {
    ast.Facet: facet,
    ast.Find: find,
    ast.Fork: fork,
    ast.MakeSeries: make_series,
    ast.MvApply: mv_apply,
    ast.Parse: parse,
    ast.ParseKv: parse_kv,
    ast.Partition: partition,
    ast.Reduce: reduce_rows,
    ast.Scan: scan,
    ast.Search: search,
    ast.TopHitters: top_hitters,
    ast.TopNested: top_nested,
}
"""How each of these operators is bound."""
