"""The meaning of bound queries in plain Python: the definition that SQL has to agree with, and the evaluator of rules
over single events.

``evaluate`` gives a scalar over one row, ``rows`` the result of a whole plan over tables in memory. Nothing here is
made for large tables.
"""

from watchfloor.kql.evaluate.relations import compile_plan, rows
from watchfloor.kql.evaluate.scalars import compile_scalar, evaluate

__all__ = ["compile_plan", "compile_scalar", "evaluate", "rows"]
