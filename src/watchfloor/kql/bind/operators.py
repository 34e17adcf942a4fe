"""The tabular operators: for each kind, the function that binds it."""

from __future__ import annotations

from typing import Any, Final

from watchfloor.kql.bind.graph import GRAPH
from watchfloor.kql.bind.grouping import GROUPING
from watchfloor.kql.bind.joining import JOINING
from watchfloor.kql.bind.plugins import EVALUATE
from watchfloor.kql.bind.shaping import SHAPING
from watchfloor.kql.bind.special import SPECIAL
from watchfloor.kql.bind.tools import Handler

OPERATORS: Final[dict[type[Any], Handler]] = {**SHAPING, **GROUPING, **JOINING, **SPECIAL, **EVALUATE, **GRAPH}
"""How each kind of operator is bound."""
