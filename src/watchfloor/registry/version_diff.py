"""What is different between two versions of an agent, in the words of its manifest.

Pure: two normalised manifests in, differences out, those that let the agent do more first. What it may do is told tool
by tool; its instructions line by line. It does not know which version is live, nor who asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from watchfloor.model.agents import CredentialOwner, Scope

Manifest = Mapping[str, Any]


class Reach(StrEnum):
    """Whether the agent can do more, or can be reached by more, than before."""

    WIDER = "wider"
    NARROWER = "narrower"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. ``where`` is the manifest's member; ``says`` a sentence for whoever decides."""

    where: str
    reach: Reach
    says: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        """For the API, and to be kept with what was checked."""
        return {
            "where": self.where,
            "reach": self.reach.value,
            "says": self.says,
            "before": self.before,
            "after": self.after,
        }


def compare(before: Manifest | None, after: Manifest) -> list[Difference]:
    """Differences from ``before`` (None: there was nothing) to ``after``; wider ones first, then as in the manifest."""
    found = [
        *_tools(before or {}, after),
        *(d for name, words in _LISTS.items() for d in _list(name, words, before or {}, after)),
        *_instructions(before or {}, after),
        *(d for name in _OTHERS for d in _other(name, before or {}, after)),
    ]
    return sorted(found, key=lambda d: list(Reach).index(d.reach))


# -- tools --------------------------------------------------------------------------------------------------------

_WHOSE: Final = {
    CredentialOwner.USER: "its user's credentials",
    CredentialOwner.APP: "the tool server's own credentials",
    CredentialOwner.MAKER: "its maker's credentials",
}
"""From the least to the most: a user's reach only what that user may; a maker's are a person's, lent to everybody."""

_MAY: Final = {Scope.READ: "only read", Scope.WRITE: "read and write"}


def grant_says(grant: Mapping[str, Any]) -> str:
    """What a grant of a tool lets the agent do, and as whom."""
    tool = f"every tool of {grant['server']}" if grant["tool"] == "*" else f"{grant['server']}/{grant['tool']}"
    return f"may use {tool} to {_MAY[Scope(grant['scope'])]}, with {_WHOSE[CredentialOwner(grant['credential'])]}"


def _tools(before: Manifest, after: Manifest) -> Iterable[Difference]:
    old = {(g["server"], g["tool"]): g for g in before.get("tools", ())}
    new = {(g["server"], g["tool"]): g for g in after.get("tools", ())}
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        where = f"tools[{key[0]}/{key[1]}]"
        if was is None and now is not None:
            every = old.get((key[0], "*"))
            reach = Reach.NARROWER if every is not None and _is_within(now, every) else Reach.WIDER
            yield Difference(where, reach, f"Now {grant_says(now)}.", None, dict(now))
        elif now is None and was is not None:
            yield Difference(where, Reach.NARROWER, f"No longer {grant_says(was)}.", dict(was), None)
        elif was is not None and now is not None:
            yield from _grant(where, was, now)


def _is_within(grant: Mapping[str, Any], every: Mapping[str, Any]) -> bool:
    """Whether ``grant`` of one tool allows no more than ``every`` did, which was for every tool of its server."""
    scopes, credentials = list(_MAY), list(_WHOSE)
    return scopes.index(Scope(grant["scope"])) <= scopes.index(Scope(every["scope"])) and (
        credentials.index(CredentialOwner(grant["credential"]))
        <= credentials.index(CredentialOwner(every["credential"]))
    )


def _grant(where: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[Difference]:
    tool = f"{now['server']}/{now['tool']}"
    if was["scope"] != now["scope"]:
        reach = _ranked(list(_MAY).index(Scope(was["scope"])), list(_MAY).index(Scope(now["scope"])))
        says = f"May {_MAY[Scope(now['scope'])]} with {tool}, where it could {_MAY[Scope(was['scope'])]}."
        yield Difference(f"{where}.scope", reach, says, was["scope"], now["scope"])
    if was["credential"] != now["credential"]:
        old, new = CredentialOwner(was["credential"]), CredentialOwner(now["credential"])
        reach = _ranked(list(_WHOSE).index(old), list(_WHOSE).index(new))
        says = f"Uses {tool} with {_WHOSE[new]} instead of {_WHOSE[old]}."
        yield Difference(f"{where}.credential", reach, says, was["credential"], now["credential"])


def _ranked(old: int, new: int) -> Reach:
    return Reach.WIDER if new > old else Reach.NARROWER


# -- lists --------------------------------------------------------------------------------------------------------

_LISTS: Final[dict[str, tuple[str, Reach]]] = {
    "sharedWith": ("may be used by", Reach.WIDER),
    "connectedAgents": ("hands work to the agent", Reach.WIDER),
    "childAgents": ("has the child agent", Reach.WIDER),
    "platformTools": ("has, on its platform, the tool", Reach.WIDER),
    "knowledge": ("answers from", Reach.WIDER),
    "triggers": ("is started by", Reach.WIDER),
    "channels": ("can be talked to in", Reach.WIDER),
    "capabilities": ("can, on its platform,", Reach.WIDER),
    "endpoints": ("answers at", Reach.WIDER),
    "guardrails": ("is held to", Reach.NARROWER),
    "topics": ("has the topic", Reach.WIDER),
    "skills": ("offers", Reach.OTHER),
    "memory": ("remembers", Reach.OTHER),
}
"""Members that are lists: what an item means, and what one more of them does to the agent's reach."""

_OPPOSITE: Final = {Reach.WIDER: Reach.NARROWER, Reach.NARROWER: Reach.WIDER, Reach.OTHER: Reach.OTHER}


def _list(name: str, words: tuple[str, Reach], before: Manifest, after: Manifest) -> Iterable[Difference]:
    means, reach = words
    old, new = _by_name(before.get(name) or ()), _by_name(after.get(name) or ())
    for key in sorted(old.keys() | new.keys()):
        where, was, now = f"{name}[{key}]", old.get(key), new.get(key)
        if was is None:
            yield Difference(where, reach, f"Now {means} {_shown(name, key)}.", None, now)
        elif now is None:
            yield Difference(where, _OPPOSITE[reach], f"No longer {means} {_shown(name, key)}.", was, None)
        elif was != now:
            # Somebody has to look: what is other than it was may do more.
            other = reach if reach is Reach.OTHER else Reach.WIDER
            yield Difference(where, other, f"{name}: {key} is not what it was.", was, now)


def _by_name(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Items by their name; a name may stand twice."""
    found: dict[str, list[Any]] = {}
    for item in items:
        found.setdefault(str(item["name"]) if isinstance(item, Mapping) else str(item), []).append(item)
    return found


def _shown(name: str, key: str) -> str:
    return audience_says(key) if name == "sharedWith" else key


def audience_says(item: str) -> str:
    """One item of ``sharedWith`` in words."""
    if item == "*":
        return "everybody"
    if item == "tenants:*":
        return "other companies"
    return f"the group {item.removeprefix('group:')}" if item.startswith("group:") else item


# -- the rest -----------------------------------------------------------------------------------------------------


def _instructions(before: Manifest, after: Manifest) -> Iterable[Difference]:
    was, now = before.get("instructions") or "", after.get("instructions") or ""
    if was == now:
        return
    old, new = Counter(was.splitlines()), Counter(now.splitlines())
    added, removed = (new - old).total(), (old - new).total()
    says = f"Its instructions are not what they were: {added} lines added, {removed} taken out."
    yield Difference("instructions", Reach.OTHER, says, was, now)


_OTHERS: Final[dict[str, Callable[[Any], str]]] = {
    "name": str, "description": str, "version": str, "maker": str, "owner": str, "sponsor": str, "platform": str,
    "model": str, "signIn": lambda value: f"{value.get('users')} {value.get('when', '')}".strip(),
    "generativeOrchestration": lambda value: "on" if value else "off",
    "platformIds": lambda value: ", ".join(f"{k} {v}" for k, v in sorted(value.items())), "instances": str,
}  # fmt: skip
"""Members with one value, and how it is shown."""


def _other(name: str, before: Manifest, after: Manifest) -> Iterable[Difference]:
    was, now = before.get(name), after.get(name)
    if was == now or (was in (None, "") and now in (None, "")):
        return
    shown = ["nothing" if value in (None, "") else _OTHERS[name](value) for value in (was, now)]
    yield Difference(name, Reach.OTHER, f"{name}: {shown[0]} became {shown[1]}.", was, now)
