"""What people are told, as a value: sections with the agents that they are about, and links. Made into a mail's text
here, into what channels show by ``connectors.channels``.

Pure. Names of agents are written by whoever made them, and nothing in them may become a line, a link or markup: here
they lose what cannot be printed and their addresses, each channel adds what its own markup needs.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Final

import orjson

_LONGEST_NAME: Final = 80
_SHOWN_AGENTS: Final = 25
"""Agents that one section lists; the notice has all of them."""
_ADDRESS: Final = re.compile(r":(?=\S)|(?<=\w)\.(?=[^\W\d_])")
"""Where a space ends what would be taken for an address."""


@dataclass(frozen=True, slots=True)
class AgentLine:
    """An agent that a section is about."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Section:
    """One thing that is wrong, what to do about it, what the SOC adds, and with which agents."""

    what: str
    recommendation: str
    note: str
    agents: tuple[AgentLine, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """Where to go on."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Digest:
    """One message. ``kind``: ``notice``, ``reminder``, ``escalation`` or ``test``; ``id`` is the notice's."""

    kind: str
    id: str
    title: str
    intro: str
    sections: tuple[Section, ...] = ()
    links: tuple[Link, ...] = ()
    closing: str = ""

    def to_json(self) -> str:
        """As it waits in the outbox, and as it is posted to webhooks."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> Digest:
        """What ``to_json`` wrote."""
        body = orjson.loads(text)
        sections = tuple(
            Section(**{**each, "agents": tuple(AgentLine(**agent) for agent in each["agents"])})
            for each in body["sections"]
        )
        return cls(**{**body, "sections": sections, "links": tuple(Link(**each) for each in body["links"])})


def harmless(name: str) -> str:
    """``name`` on one line, short, and with nothing in it that a mail program or a chat makes a link of."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    line = _ADDRESS.sub(r"\g<0> ", line.replace("@", " at "))
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"


def agent_lines(section: Section) -> list[str]:
    """The agents of a section, one a line, and how many more there are."""
    shown = [f"{harmless(agent.name)} ({agent.id})" for agent in section.agents[:_SHOWN_AGENTS]]
    more = len(section.agents) - _SHOWN_AGENTS
    return [*shown, f"and {more} more"] if more > 0 else shown


def plain_text(digest: Digest) -> str:
    """The digest as the text of a mail."""
    parts = [digest.intro]
    for section in digest.sections:
        lines = [section.what, *(f"  - {line}" for line in agent_lines(section))]
        lines += [f"What to do: {section.recommendation}"] if section.recommendation else []
        lines += [f"From the SOC: {section.note}"] if section.note else []
        parts.append("\n".join(lines))
    parts += [f"{link.text}: {link.url}" for link in digest.links]
    return "\n\n".join([*parts, *([digest.closing] if digest.closing else [])])
