"""What doors hand in, and what they get: a call as it was heard, the right to speak to a server, the right to call.

Values only; ``enforce.py`` makes ``Admission`` and ``Permit``, nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from watchfloor.gateway.tokens import Token
from watchfloor.model.activity import Invocation
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import Facts, ServerFacts
from watchfloor.model.verdicts import Verdict

MODEL: Final = "llm:model"
"""The ``server_id`` of what is said to a model and by it. No tool server's id holds a colon."""

PROMPT: Final = "llm:prompt"
"""The tool as which what is said to a model is decided on."""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call as its door heard it. ``pseudo_effect`` is set where it is no tool call but is decided on as one."""

    door: str
    token: Token
    tool: str
    arguments: Mapping[str, Any]
    address: str = ""
    conversation_id: str = ""
    user_turns: tuple[str, ...] = ()
    parent_agent: str | None = None
    retry_token: str | None = None
    trace_id: str = ""
    pseudo_effect: ToolEffect | None = None
    goes_out_here: bool = True
    """Whether the gateway itself makes the call; if not, no upstream credential is needed."""
    agent_name: str = ""
    """What the door calls the agent, for the record of one that the registry does not know."""
    noted: Mapping[str, Any] = field(default_factory=dict)
    """What else belongs on record: ids under which the caller knows the call."""
    can_redact: bool = True
    """Whether the caller can be given other arguments; if not, what should be redacted is blocked."""
    is_audit: bool = False
    """Whether this door only watches: what is not refused by an operator's own act is let out, and the verdict that it
    would have had is recorded."""
    is_prompt: bool = False
    """Whether this is no call at all but a prompt on its way to a model: no tool server, and nothing to be granted."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The right to speak to a tool server about anything but calls."""

    server: ServerFacts
    authorization: str | None
    still_allowed: Callable[[], str | None]
    """None, or the code of what has ended this right since."""


@dataclass(frozen=True, slots=True)
class Permit(Admission):
    """The right to make one call, on record. ``arguments`` are what goes out."""

    invocation: Invocation
    facts: Facts
    verdict: Verdict
    arguments: Mapping[str, Any]
    started: float
    conversation: str = ""
    """The name under which what the tool answers is kept."""
    is_named: bool = False
    """Whether the user named what the call reads."""
