"""Lists of tools, as an agent is shown them: what it may use, and nothing that is not what was approved.

Every door that shows a list asks here about each tool in it. A definition that has changed, or that tells the model
what to do, is recorded and hidden at once: the registry may learn of it later. Beside ``enforce``, which holds one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from watchfloor.gateway.records import Recorder, Spool
from watchfloor.gateway.state import State
from watchfloor.gateway.tokens import Token
from watchfloor.gateway.watchdog import Watch
from watchfloor.guard.definitions import inspect
from watchfloor.guard.engine import Overrun
from watchfloor.model.agents import PinState, Scope, ToolEffect
from watchfloor.model.errors import Unavailable
from watchfloor.model.pins import tool_hash

_LOG: Final = logging.getLogger(__name__)


class ToolLists:
    """What one worker shows of its tool servers."""

    def __init__(
        self, state: State, recorder: Recorder, spool: Spool, watch: Watch, now: Callable[[], datetime]
    ) -> None:
        self.state, self._recorder, self._spool, self._watch, self._now = state, recorder, spool, watch, now

    def may_see(self, token: Token, definition: Mapping[str, Any], door: str) -> bool:
        """Whether a tool that the server offers is shown to this agent; notes and records one that has changed."""
        state, name = self.state, definition.get("name")
        if not isinstance(name, str):
            return False
        seen = tool_hash(definition)
        if state.observe(token.server_id, name, seen):
            self._record_change(token.server_id, name, seen, definition, door)
        self._look_for_orders(token.server_id, name, seen, definition, door)
        tool = state.tool(token.server_id, name)
        binding = state.binding(token.agent_id, token.server_id, name)
        if tool is None or binding is None or tool.is_blocked or tool.pin_state is PinState.CHANGED:
            return False
        return tool.effect is ToolEffect.READ or (binding.scope is Scope.WRITE and token.may_write)

    def _look_for_orders(self, server_id: str, name: str, seen: str, definition: Mapping[str, Any], door: str) -> None:
        """Distrust a tool that nobody approved as it is, and whose definition tells the model what to do."""
        tool = self.state.tools.get((server_id, name))
        if tool is None or (tool.pin_state is PinState.PINNED and tool.pin == seen):
            return
        try:
            signals = self._watch.run(inspect, definition)
        except (Exception, Overrun):
            _LOG.exception("the definition of %s/%s could not be looked at", server_id, name)
            self.state.distrust(server_id, name, seen)  # INVARIANT: what cannot be looked at is not shown
            return
        if signals and self.state.distrust(server_id, name, seen):
            try:
                self._spool.append(
                    self._recorder.tool_flagged(
                        self._now(), door=door, server_id=server_id, tool=name, seen=seen, signals=signals
                    )
                )
            except Unavailable as error:
                _LOG.warning("a poisoned tool is not on record: %s", error)

    def _record_change(self, server_id: str, name: str, seen: str, definition: Mapping[str, Any], door: str) -> None:
        try:
            self._spool.append(
                self._recorder.tool_changed(
                    self._now(),
                    door=door,
                    server_id=server_id,
                    tool=name,
                    pin=self.state.tools[(server_id, name)].pin,
                    seen=seen,
                    definition=definition,
                )
            )
        except Unavailable as error:
            _LOG.warning("a changed tool is not on record: %s", error)

    def served(self, token: Token, *, door: str, address: str, offered: int, kept: int) -> None:
        """Record a tool list that was served."""
        try:
            self._spool.append(
                self._recorder.tool_list(
                    self._now(),
                    door=door,
                    address=address,
                    server_id=token.server_id,
                    token=token,
                    offered=offered,
                    kept=kept,
                )
            )
        except Unavailable as error:
            _LOG.warning("a tool list is not on record: %s", error)
