"""What one alert adds to its incident as counted facts, and an incident's gist read back from their sums.

The same gist as ``story.gist_of`` works out of all the alerts (tested), at a price that does not grow with their
number. Above ``storage.tallies``, which keeps the sums.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from watchfloor.detection.rules import progress
from watchfloor.detection.story import (
    COUNTED,
    REVOKED,
    ROLES,
    SHOWN,
    Gist,
    Names,
    attempted,
    is_partial,
    merged_entities,
    pairs_of,
    ranked,
    tactic_of,
    tool_of,
)
from watchfloor.model.cases import AlertDraft, Entity, EntityKind
from watchfloor.model.verdicts import Severity
from watchfloor.storage.tallies import SPLIT, Fact

_KINDS: Final = tuple(EntityKind)
_NAMED: Final = (EntityKind.USER, EntityKind.AGENT, EntityKind.ADDRESS)
_LONGEST_ID: Final = 300
_LONGEST_NAME: Final = 200


def facts_of(alert: AlertDraft) -> Iterator[Fact]:
    """What the alert says, each once."""
    yield Fact(f"c:severity:{alert.severity.rank}:{alert.tactic}")
    yield Fact(f"c:attempted:{attempted(alert)}")
    if is_partial(alert):
        yield Fact("c:partial")
    for entity in dict.fromkeys(alert.entities):
        yield _entity(entity)
    for user, agent in pairs_of(alert):
        pair = _digest(user, agent)
        yield Fact(f"r:{pair}:{alert.rule_id}", (Fact(f"q:{pair}"),))
        if alert.severity.rank >= Severity.HIGH.rank:
            yield Fact(f"R:{pair}:{alert.rule_id}", (Fact(f"Q:{pair}"),))
    seen = set()
    for event in alert.detail.get("events", ()):
        implied = _implied_by(event)
        if implied and event["id"] not in seen:
            seen.add(event["id"])
            # Led by its second: events come in order of time, or nearly, and so are kept side by side.
            second = str(event["at"])[:19]
            yield Fact(f"e:{second}{_digest(event['id'], *(fact.key for fact in implied))}", implied)


def _digest(*parts: str) -> str:
    return blake2b(SPLIT.join(parts).encode("utf-8", "surrogatepass"), digest_size=15).hexdigest()


@lru_cache(4_096)
def _entity(entity: Entity) -> Fact:
    id_, name = entity.id[:_LONGEST_ID], entity.name[:_LONGEST_NAME]
    implied = []
    if entity.kind in COUNTED:
        implied.append(Fact(f"i{entity.kind}:{id_}", (Fact(f"c:ids:{entity.kind}"),)))
    if entity.kind in _NAMED and name:
        implied.append(Fact(f"w{entity.kind}:{name}", (Fact(f"c:names:{entity.kind}"),)))
    key = f"n:{_KINDS.index(entity.kind)}:{id_}{SPLIT}{ROLES.index(entity.role)}{SPLIT}{name}"
    return Fact(key, tuple(implied))


def _implied_by(event: Mapping[str, Any]) -> tuple[Fact, ...]:
    return _implied(
        event["action"], event["reason"] == REVOKED, tool_of(event), event["server"], bool(event["stopped"]),
        bool(event["jailbreak"]),
    )  # fmt: skip


@lru_cache(4_096)
def _implied(action: str, revoked: bool, tool: str, server: str, stopped: bool, jailbreak: bool) -> tuple[Fact, ...]:
    found = []
    if action == "ToolCallDecided":
        found.append(Fact("c:stopped" if stopped else "c:let_out"))
        if tool:
            kind = "s" if stopped else "o"
            found.append(Fact(f"{kind}:{tool}", (Fact(f"c:tools:{kind}"),)))
        if jailbreak:
            found.append(Fact("c:tries"))
    if action == "ToolChanged":
        found += [Fact("c:changed"), Fact(f"d:{tool or server + '/'}", (Fact("c:tools:d"),))]
    if action == "GuardrailDecision":
        found.append(Fact("c:guarded"))
    if revoked:
        found.append(Fact("c:refused"))
    return tuple(found)


def sum_of(added: Iterable[AlertDraft], removed: Iterable[AlertDraft] = ()) -> Counter[Fact]:
    """By how much the counts of facts change."""
    found: Counter[Fact] = Counter()
    for alert in added:
        found.update(facts_of(alert))
    for alert in removed:
        found.subtract(facts_of(alert))
    return found


def gist_from(sums: Mapping[str, int], first: datetime, last: datetime) -> Gist:
    """The gist of an incident whose facts add up to ``sums`` (``tallies.read``), active from ``first`` to ``last``."""

    by_kind: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for key, n in sums.items():
        kind, _, text = key.partition(":")
        by_kind[kind][text] = n
    numbers = by_kind["c"]

    def named(kind: str, total: str) -> Names:
        return Names(tuple(sorted(by_kind[kind])[:SHOWN]), numbers.get(total, 0))

    severities = [text.split(":", 2)[1:] for text in numbers if text.startswith("severity:")]
    found = [(int(rank), tactic) for rank, tactic in severities]
    severity = list(Severity)[max(rank for rank, _ in found)]
    tried = [text.partition(":")[2] for text in numbers if text.startswith("attempted:")]
    return Gist(
        severity=Severity.CRITICAL if by_kind["max"]["Q"] > 1 else severity,
        tactic=tactic_of(found),
        attempted=max(tried, key=lambda t: (progress(t), t)),
        entities=merged_entities(_entity_from(text) for text in by_kind["n"]),
        first_activity=first,
        last_activity=last,
        users=named("wuser", "names:user"),
        agents=named("wagent", "names:agent"),
        addresses=named("waddress", "names:address"),
        counts={kind: numbers.get(f"ids:{kind}", 0) for kind in COUNTED},
        tries=numbers.get("tries", 0),
        stopped=numbers.get("stopped", 0),
        stopped_tools=Names(ranked(by_kind["s"]), numbers.get("tools:s", 0)),
        let_out=numbers.get("let_out", 0),
        let_out_tools=Names(ranked(by_kind["o"]), numbers.get("tools:o", 0)),
        refused=numbers.get("refused", 0),
        guarded=numbers.get("guarded", 0),
        changed=numbers.get("changed", 0),
        changed_tools=named("d", "tools:d"),
        is_partial="partial" in numbers,
        most_rules=by_kind["max"]["q"],
    )


def _entity_from(text: str) -> Entity:
    kind, _, rest = text.partition(":")
    id_, role, name = rest.rsplit(SPLIT, 2)
    return Entity(_KINDS[int(kind)], id_, name, ROLES[int(role)])
