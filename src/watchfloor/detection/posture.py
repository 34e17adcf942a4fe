"""Posture: what weakens an agent, as content, and how much all of that adds up to. Load, validate, weigh.

An indicator is a query over the inventory: it answers with the agents that it holds for, and with those of which it is
not known. Its tests are rows that it must find and rows that it must not, in the shape that tests of rules have. This
module knows files and words; ``posture_scan`` asks and remembers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final, Literal

from pydantic import Field

from watchfloor.detection.kql_rule import RowsExample, bind_query, check_examples
from watchfloor.detection.words import Document, parse_documents, shipped_documents
from watchfloor.kql import ast
from watchfloor.kql.errors import nearest
from watchfloor.kql.schema import Schema
from watchfloor.model.errors import NotFound
from watchfloor.model.posture import FindingState, RiskBand, Weight
from watchfloor.storage.compiler import catalogue
from watchfloor.storage.tables import TABLES

ALERTS: Final = frozenset({"AlertInfo", "AlertEvidence"})
"""Tables from which only those may be told who may read all alerts."""


class Side(StrEnum):
    """What an indicator raises: how likely it is that something happens, or how bad it would be."""

    LIKELIHOOD = "likelihood"
    IMPACT = "impact"


class Indicator(Document):
    """A posture indicator, as its content file says it.

    ``level`` is how much it weighs; where its query has a column Level, the most that it may weigh.
    """

    title: str = Field(min_length=1, max_length=120)
    raises: tuple[Side, ...] = Field(min_length=1, max_length=2)
    level: Weight
    why: str = Field(min_length=1, max_length=2_000)
    recommendation: str = Field(min_length=1, max_length=2_000)
    blind_spots: str = Field(min_length=1, max_length=2_000)
    query: str = Field(min_length=1, max_length=50_000)
    tests: tuple[RowsExample, ...] = Field(min_length=2)


@dataclass(frozen=True, slots=True)
class Check:
    """An indicator that can be asked. ``named``: the tables and views that its query names; ``reads``: those of them
    that are stored; ``columns``: name and KQL type of its answer."""

    indicator: Indicator
    named: tuple[str, ...]
    reads: frozenset[str]
    columns: Mapping[str, str]

    @property
    def is_of_alerts(self) -> bool:
        """Whether it tells of alerts, which not everybody may read."""
        return not self.reads.isdisjoint(ALERTS)


_NEEDED: Final = {"AgentId": "string", "Evidence": "dynamic"}
_ALLOWED: Final = {**_NEEDED, "State": "string", "Level": "string"}


def prepare(indicator: Indicator, schema: Schema | None = None) -> tuple[Check | None, list[str]]:
    """The indicator, ready to be asked, or everything that is wrong with it, each with its place."""
    schema = schema or catalogue()
    faults = check_examples(indicator.tests, schema)
    bound, more = bind_query(indicator.query, schema)
    faults += more
    if bound is None:
        return None, faults
    for name, type_ in _ALLOWED.items():
        if name in _NEEDED and name not in bound.columns:
            faults.append(f"query: gives no column {name}")
        elif bound.columns.get(name, type_) != type_:
            faults.append(f"query: {name} is {bound.columns[name]}; needed is {type_}")
    if more_columns := sorted(set(bound.columns) - set(_ALLOWED)):
        faults.append(f"query: gives {', '.join(more_columns)} as well; put it into Evidence")
    if len(bound.tree.statements) != 1 or not isinstance(bound.tree.statements[0], ast.Evaluation):
        faults.append("query: is more than one expression; indicators are asked together, so none has let or set")
    if contents := sorted(name for name in bound.tables if TABLES[name].is_content):
        faults.append(f"query: {', '.join(contents)} holds contents, and findings are for everybody who sees the agent")
    return (None if faults else Check(indicator, bound.named, bound.tables, bound.columns)), faults


def parse(documents: Mapping[str, str], schema: Schema | None = None) -> tuple[Check, ...]:
    """The indicators in ``documents`` (file name to YAML text), by id. Raises ``InputError`` with every fault."""
    found = parse_documents(documents, Indicator, lambda indicator: prepare(indicator, schema), "posture")
    return tuple(sorted(found, key=lambda check: check.indicator.id))


@cache
def shipped() -> tuple[Check, ...]:
    """The indicators that come with the product, by id."""
    return parse(shipped_documents("posture"))


def find(indicator_id: str, checks: Iterable[Check] | None = None) -> Check:
    """The indicator of that id. Raises ``NotFound``."""
    by_id = {check.indicator.id: check for check in (shipped() if checks is None else checks)}
    if indicator_id not in by_id:
        raise NotFound(
            f"there is no posture indicator {indicator_id!r}.", where="indicator", remedy=nearest(indicator_id, by_id)
        )
    return by_id[indicator_id]


# -- what it adds up to -------------------------------------------------------------------------------------------

_B = RiskBand
MATRIX: Final[Mapping[tuple[Weight | None, Weight | None], RiskBand]] = {
    (likelihood, impact): band
    for likelihood, row in {
        None: (_B.NO_KNOWN_RISK, _B.LOW, _B.LOW, _B.LOW, _B.MEDIUM),
        Weight.LOW: (_B.LOW, _B.LOW, _B.LOW, _B.MEDIUM, _B.MEDIUM),
        Weight.MEDIUM: (_B.LOW, _B.LOW, _B.MEDIUM, _B.HIGH, _B.HIGH),
        Weight.HIGH: (_B.LOW, _B.MEDIUM, _B.HIGH, _B.HIGH, _B.HIGH),
        Weight.CRITICAL: (_B.MEDIUM, _B.MEDIUM, _B.HIGH, _B.HIGH, _B.HIGH),
    }.items()
    for impact, band in zip((None, *Weight), row, strict=True)
}
"""The agent's risk by the gravest thing that raises its likelihood, and the gravest that raises its impact."""


@dataclass(frozen=True, slots=True)
class Risk:
    """How risky an agent is, and the indicators that make it so: the gravest of each side."""

    band: RiskBand
    likelihood: Weight | None = None
    impact: Weight | None = None
    reasons: tuple[str, ...] = ()


def weigh(active: Iterable[tuple[Indicator, Weight]]) -> Risk:
    """The risk of an agent for which these indicators hold, each with what it weighs there."""
    found = list(active)
    worst: dict[Side, Weight | None] = {}
    for side in Side:
        worst[side] = max((w for i, w in found if side in i.raises), key=lambda w: w.rank, default=None)
    reasons = sorted({i.id for i, w in found for side in i.raises if w is worst[side]})
    likelihood, impact = worst[Side.LIKELIHOOD], worst[Side.IMPACT]
    return Risk(MATRIX[likelihood, impact], likelihood, impact, tuple(reasons))


def state_of(indicator_id: str, active: Collection[str], not_assessed: Collection[str]) -> FindingState:
    """How an indicator stands for an agent of which these are active, and these could not be assessed."""
    if indicator_id in active:
        return FindingState.ACTIVE
    return FindingState.NOT_ASSESSED if indicator_id in not_assessed else FindingState.NOT_ACTIVE


NOT_ASSESSED: Final[Literal["not assessed"]] = "not assessed"
"""What a query says in State of agents of which it is not known; everything else is active."""
