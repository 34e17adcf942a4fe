"""The answers of conditional access, remembered: a call that looks like an earlier one costs a look-up.

Which policies fit depends on who calls what; that is kept by user, agent, mode, server, kind of tool and risk of the
sign-in, and dropped as soon as what is known of the user or the agent is another object. What they demand depends on
the sign-in too: its methods, and on which side of each policy's limit its age is. Equal answers are one object, so that
their text in records is made once. Pure but for this memory, which is bounded and changes no answer (tested).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from watchfloor.guard.access.evaluate import Attempt, Why, find_matches, settle
from watchfloor.guard.access.policy import AccessPolicy, read
from watchfloor.model.access import AccessFacts, AccessState, Control
from watchfloor.model.agents import TokenMode, ToolEffect
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.facts import AccessPolicyFacts, AgentFacts, AgentProfile, UserFacts
from watchfloor.model.people import RiskLevel

_MOST_ROWS: Final = 20_000
_MOST_OUTCOMES: Final = 64


class _Row:
    """The policies that fit one kind of attempt, and what they came to."""

    __slots__ = ("agent", "limits", "matches", "outcomes", "profile", "user")

    def __init__(
        self,
        attempt: Attempt,
        matches: tuple[tuple[AccessPolicy, Why], ...],
        outcomes: dict[Any, AccessFacts],
    ) -> None:
        self.user, self.agent, self.profile = attempt.user, attempt.agent, attempt.profile
        self.matches, self.outcomes = matches, outcomes
        self.limits = tuple(sorted({p.max_age for p, _ in matches if p.max_age is not None}))


class AccessTable:
    """Conditional access over one set of published policies.

    ``problem`` says why a policy could not be read: then every answer is block, for what it forbids is not known.
    """

    def __init__(self, policies: Iterable[AccessPolicy] = (), problem: str = "") -> None:
        self.policies = tuple(p for p in policies if p.state is not AccessState.DISABLED)
        self.problem = problem
        self._broken = AccessFacts(Control.BLOCK, problem=problem) if problem else None
        self._rows: dict[Any, _Row] = {}
        self._without: dict[Any, AccessFacts] = {}

    @classmethod
    def build(cls, published: Mapping[str, AccessPolicyFacts]) -> AccessTable:
        """A table of what was published; one that cannot be read refuses everything."""
        policies = []
        for key in sorted(published):
            facts = published[key]
            try:
                policies.append(read(facts.id, facts.version, facts.body))
            except (WatchfloorError, ValueError, TypeError, AttributeError) as error:
                return cls(problem=f"The access policy {key} cannot be used: {error}")
        return cls(policies)

    @property
    def is_empty(self) -> bool:
        """Whether nobody has published anything, so that there is nothing to ask."""
        return not self.policies and self._broken is None

    def answer(
        self,
        user: UserFacts | None,
        agent_id: str,
        agent: AgentFacts | None,
        profile: AgentProfile | None,
        mode: TokenMode,
        server_id: str,
        effect: ToolEffect | None,
        sign_in_risk: str,
        methods: tuple[str, ...],
        auth_time: datetime | None,
        now: datetime,
    ) -> AccessFacts:
        """What is demanded of this attempt now. The hot path: two look-ups where it was seen before."""
        if self._broken is not None:
            return self._broken
        key = (user.id if user is not None else None, agent_id, mode, server_id, effect, sign_in_risk)
        row = self._rows.get(key)
        if row is None or row.user is not user or row.agent is not agent or row.profile is not profile:
            attempt = Attempt(user, agent_id, agent, mode, server_id, effect, RiskLevel(sign_in_risk), profile)
            row = self._look(key, attempt)
        limits = row.limits
        if not limits:
            outcome = row.outcomes.get(methods)
            if outcome is None:
                outcome = self._settle(row, methods, methods, sign_in_risk, None)
            return outcome
        age = None if auth_time is None else (now - auth_time).total_seconds()
        passed = len(limits) if age is None else sum(age > limit for limit in limits)
        outcome = row.outcomes.get((methods, passed))
        if outcome is None:
            outcome = self._settle(row, (methods, passed), methods, sign_in_risk, age)
        return outcome

    def _look(self, key: Any, attempt: Attempt) -> _Row:
        matches = find_matches(self.policies, attempt)
        if len(self._rows) >= _MOST_ROWS:
            self._rows.pop(next(iter(self._rows)))
        # Where nothing fits, the answer is the same for everybody with these methods.
        outcomes = self._without if not matches and attempt.sign_in_risk is RiskLevel.NONE else {}
        row = self._rows[key] = _Row(attempt, matches, outcomes)
        return row

    def _settle(
        self, row: _Row, key: Any, methods: tuple[str, ...], sign_in_risk: str, age: float | None
    ) -> AccessFacts:
        if len(row.outcomes) >= _MOST_OUTCOMES:
            row.outcomes.clear()
        outcome = row.outcomes[key] = settle(row.matches, methods, RiskLevel(sign_in_risk), age)
        return outcome
