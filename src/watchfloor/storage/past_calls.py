"""The recorded decisions of the past days, page by page: what every what-if goes through.

Above ``activity``. Pages follow the order of the calls' ids, so that one is neither seen twice nor left out while new
ones are recorded. It does not know what is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from watchfloor.storage.activity import Activity, literal, moment, text
from watchfloor.storage.hunting import Cancelled

MOST_DAYS: Final = 90
_PAGE: Final = 500


@dataclass
class PastCalls:
    """Decisions on calls within ``days`` before ``end``, of one agent or of all. ``total`` is known once ``pages`` has
    begun."""

    activity: Activity
    end: datetime
    days: int
    is_cancelled: Callable[[], bool]
    agent_id: str = ""
    total: int | None = field(default=None, init=False)

    def pages(self, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Rows with ``columns``, ``InvocationId`` among them. Raises ``Cancelled``."""
        begin = self.end - timedelta(days=self.days)
        where = (
            f"AgentActivity | where Timestamp >= {moment(begin)} and Timestamp < {moment(self.end)}"
            ' | where ActionType == "ToolCallDecided"'
        )
        if self.agent_id:
            where += f" | where AgentId == {literal(self.agent_id)}"
        counted = self.activity.query(f"{where} | summarize N = count()", 1)
        self.total = int(counted["N"][0].as_py()) if counted.num_rows else 0
        last = ""
        while True:
            if self.is_cancelled():
                raise Cancelled("The trial was cancelled.")
            page = self.activity.query(
                f"{where} | where strcmp(InvocationId, {literal(last)}) > 0 | sort by InvocationId asc | take {_PAGE}"
                f" | project {', '.join(columns)}",
                _PAGE,
            ).to_pylist()
            if not page:
                return
            last = text(page[-1], "InvocationId")
            yield page

    def share(self, done: int) -> float | None:
        """The share that ``done`` calls are of all."""
        return None if self.total is None else min(1.0, done / max(1, self.total))
