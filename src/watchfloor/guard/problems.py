"""What is wrong with a policy, said so that its author can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """``where`` is the place in the policy (``when: line 2, column 7``), ``remedy`` what to do about it."""

    where: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" {self.remedy}" if self.remedy else "")


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """``Did you mean X?``, or nothing when nothing is near."""
    near = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"Did you mean `{near[0]}`?" if near else ""
