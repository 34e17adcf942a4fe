"""Which agent, user and tool is meant: ids of Copilot Studio's made into ours, by what the registry knows.

Pure lookups in a worker's state, which the caller has checked. Nobody is guessed: an id that stands for nobody, or for
two, keeps its own name, which no fact answers to, so that the guard refuses and the record says who it was.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

from watchfloor.gateway.calls import CallRequest
from watchfloor.gateway.copilot_studio.access import LEEWAY_SECONDS, Caller
from watchfloor.gateway.copilot_studio.config import CopilotStudioConfig
from watchfloor.gateway.copilot_studio.payload import Question
from watchfloor.gateway.state import State
from watchfloor.gateway.tokens import Token
from watchfloor.model.agents import TokenMode
from watchfloor.model.facts import TokenFacts

DOOR: Final = "copilot-studio"
NOBODY: Final = "unknown"
_LONGEST_NAME: Final = 200


def call_of(
    question: Question, caller: Caller, state: State, config: CopilotStudioConfig, *, address: str, correlation: str,
    now: datetime,
) -> CallRequest:  # fmt: skip
    """The call that is asked about, as the guard is asked about calls."""
    agent_id = agent_of(question, state)
    if caller.agent_id and agent_id != caller.agent_id:
        agent_id = NOBODY
    user_id = user_of(question, state)
    mode = TokenMode.OBO if user_id else TokenMode.AGENT if question.trigger else TokenMode.ANONYMOUS
    conversation = question.conversation_id
    token = Token(
        id=caller.token_id,
        server_id=server_of(question.tool_id, agent_id, state, config),
        agent_id=agent_id,
        user_id=user_id,
        mode=mode,
        # Without a name nothing joins one question with the next.
        session_id=conversation or f"{DOOR}:{uuid.uuid4()}",
        expires=caller.expires,
        facts=_facts(state, agent_id, user_id, mode, conversation, caller, config, now),
        may_write=True,
        is_proof=bool(caller.agent_id),
    )
    noted = {
        "correlation_id": correlation, "message_id": question.message_id, "channel_id": question.channel_id,
        "plan_id": question.plan_id, "plan_step_id": question.plan_step_id, "environment_id": question.environment_id,
        "agent_version": question.agent_version, "trigger": question.trigger, "tool_name": question.tool_name,
        "tool_type": question.tool_type, "caller_app": caller.app_id, "mode": "audit" if config.is_audit else "",
    }  # fmt: skip
    return CallRequest(
        door=DOOR,
        token=token,
        tool=question.tool_id,
        arguments=question.arguments,
        address=question.address or address,
        conversation_id=conversation,
        user_turns=question.user_turns,
        parent_agent=question.parent_component[:_LONGEST_NAME] or None,
        goes_out_here=False,
        agent_name=question.agent_name,
        noted={name: value[:_LONGEST_NAME] for name, value in noted.items() if value},
        can_redact=False,
        is_audit=config.is_audit,
    )


def agent_of(question: Question, state: State) -> str:
    """The agent that goes by this id on its platform or in the directory."""
    name = question.agent_id.lower()[:_LONGEST_NAME]
    return (state.agent_called(name) or name) if name else NOBODY


def user_of(question: Question, state: State) -> str | None:
    """The user with this object id. None: the agent acts for nobody whom the platform knows."""
    name = question.user_id.lower()[:_LONGEST_NAME]
    return (state.user_called(name) or name) if name else None


def server_of(tool_id: str, agent_id: str, state: State, config: CopilotStudioConfig) -> str:
    """The tool server under which the tool is registered, one that the agent may use first; else the door's own."""
    having = state.servers_of(tool_id)
    bound = [server for server in having if state.is_bound(agent_id, server)]
    found = bound or having
    return found[0] if len(found) == 1 else config.server


def _facts(
    state: State,
    agent_id: str,
    user_id: str | None,
    mode: TokenMode,
    conversation: str,
    caller: Caller,
    config: CopilotStudioConfig,
    now: datetime,
) -> TokenFacts:
    """What stands for a gateway token's epochs: no token of ours is behind the call, so that none can be too old.

    A user whose sessions were revoked is let in again when no sign-in from before that can be alive any more.
    """
    agent = state.agents.get(agent_id)
    user = state.users.get(user_id) if user_id is not None else None
    oldest = now - timedelta(seconds=config.session_seconds)
    is_fresh = user is not None and user.not_before is not None and user.not_before <= oldest
    return TokenFacts(
        session_id=conversation,
        mode=mode,
        user_epoch=user.epoch if user is not None and is_fresh else 1 if user_id is not None else 0,
        agent_epoch=agent.epoch if agent is not None else 0,
        expires_at=datetime.fromtimestamp(caller.expires + LEEWAY_SECONDS, UTC),
        auth_time=oldest if user_id is not None else None,
    )
