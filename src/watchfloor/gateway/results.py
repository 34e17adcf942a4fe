"""What tools give back: judged before the caller gets it where a policy wants that, looked at afterwards where not.

Doors ask ``are_judged`` once a call. Where it says yes, every message of the answer goes through ``pass_on``, and
what comes out of that is what the caller gets: the message, the message with passages replaced, or an error that says
that the call was made and its result is withheld. Else ``look_at`` is told what the tool said once the caller has it:
signals are recorded, alerts follow, nobody waits. Below is ``guard.protection``; what HTTP is is not known here.

INVARIANT: where a result is judged, one that cannot be judged is withheld.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from watchfloor.gateway.metrics import Metrics
from watchfloor.gateway.records import Recorder
from watchfloor.gateway.state import State
from watchfloor.gateway.watchdog import Watch
from watchfloor.gateway.withheld import withheld
from watchfloor.guard.context import Context
from watchfloor.guard.detectors import jailbreak
from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.engine import Overrun
from watchfloor.guard.policy import Policy, PolicySet
from watchfloor.guard.protection import Protection, protect
from watchfloor.model.activity import Invocation
from watchfloor.model.facts import Facts
from watchfloor.model.verdicts import Effect, Mode, Severity, Signal

_LOG: Final = logging.getLogger(__name__)

LOOKED_AT: Final = 65_536
"""Characters of a result that are looked at after the caller has it."""
_LONG_NUMBER: Final = 10**8
"""From here on, a number may be an account or a card: it is looked at as text."""
_NOT_SCANNED: Final = Signal(
    jailbreak.NAME,
    jailbreak.NOT_SCANNED,
    Severity.INFORMATIONAL,
    1.0,
    Surface.RESULT.value,
    (0, 0),
    "not all of the result was looked at",
)
_META: Final = "dev.watchfloor/redacted"
_UNSEEN: Final = {"image": "data", "audio": "data"}
"""Members of content blocks that are no text; ``blob`` of resources likewise."""


class Judged(NamedTuple):
    """``value`` may be passed on, unless ``code`` says why not."""

    value: Any
    code: str = ""
    replaced: tuple[str, ...] = ()
    """What was replaced in it, by category."""


class Results:
    """Judges for the doors of one worker. ``note`` takes rows for the record."""

    def __init__(
        self,
        state: State,
        recorder: Recorder,
        watch: Watch,
        metrics: Metrics,
        note: Callable[[bytes], None],
        now: Callable[[], datetime],
    ) -> None:
        self._state, self._recorder, self._watch, self._metrics = state, recorder, watch, metrics
        self._note, self._now = note, now
        self._of: PolicySet | None = None
        self._enforced: tuple[Policy, ...] = ()

    def are_judged(self, facts: Facts | None) -> bool:
        """Whether an enforced policy may look at what this call gives back; None: at what any call gives back."""
        policies = self._state.policies
        if policies is not self._of or policies is None:
            known = policies.policies if policies is not None else ()
            self._enforced = tuple(p for p in known if p.surface == Surface.RESULT and p.mode is Mode.ENFORCE)
            self._of = policies
        if not self._enforced:
            return False
        if facts is None or facts.agent is None or facts.server is None or facts.tool is None:
            return True
        agent, server, tool = facts.agent, facts.server, facts.tool
        return any(p.scope.covers(agent.id, server.id, tool.name, tool.effect) for p in self._enforced)

    # -- before the caller gets it ------------------------------------------------------------------------------------

    def judge(self, invocation: Invocation, facts: Facts, value: Any) -> Judged:
        """May this pass on? Where an enforced policy looks at it; on record if there is anything to say."""
        try:
            policies = self._state.policies
            if policies is None:
                return self._withhold("state_stale")
            shadow = _shadow(value)
            started = time.perf_counter()
            context = Context(facts, policies)
            judged = self._watch.run(protect, Surface.RESULT, shadow, invocation, context, is_always_recorded=False)
            self._record(invocation, facts, judged, time.perf_counter() - started)
            if not judged.verdict.effect.lets_the_call_out:
                return self._withhold(judged.verdict.reasons[0].code if judged.verdict.reasons else "internal_error")
            if judged.verdict.effect is not Effect.REDACT:
                self._metrics.count(self._metrics.results, "allow")
                return Judged(value)
            passed = _rewritten(value, judged.value)
        except Overrun:
            return self._withhold("decision_timeout")
        except Exception:  # see the invariant
            _LOG.exception("a result could not be judged")
            return self._withhold("internal_error")
        self._metrics.count(self._metrics.results, "redact")
        names = {r.replacement.removeprefix("[redacted ").rstrip("]") for r in judged.verdict.redactions}
        return Judged(passed, "", tuple(sorted(names)))

    def _withhold(self, code: str) -> Judged:
        self._metrics.count(self._metrics.results, "block")
        return Judged(None, code)

    def pass_on(self, invocation: Invocation, facts: Facts, said: Any) -> dict[str, Any] | None:
        """The JSON-RPC message that the caller may get in place of ``said``; None: none at all."""
        if not isinstance(said, dict):
            return None
        message: dict[str, Any] = said
        for member in ("result", "error", "params"):
            if member not in message:
                continue
            judged = self.judge(invocation, facts, message[member])
            if judged.code:
                return None if "method" in message else withheld(message.get("id"), judged.code, invocation.id)
            message = {**message, member: noted(judged, invocation.id)}
        return message

    def body(self, invocation: Invocation, facts: Facts, raw: bytes) -> bytes:
        """``pass_on`` for a message in bytes, whatever they are."""
        try:
            message = orjson.loads(raw)
        except orjson.JSONDecodeError:
            message = None
        request_id = message.get("id") if isinstance(message, dict) else None
        passed = self.pass_on(invocation, facts, message)
        return orjson.dumps(passed if passed is not None else withheld(request_id, "content_unreadable", invocation.id))

    # -- after the caller has it --------------------------------------------------------------------------------------

    def look_at(self, invocation: Invocation, facts: Facts, said: Any) -> None:
        """Record what the detectors see in the first ``LOOKED_AT`` characters of what a tool said.

        None: it said more than anybody kept.
        """
        policies = self._state.policies
        if policies is None or (said is not None and not said):
            return
        try:
            room = [LOOKED_AT]
            value = _shadow(_shortened(said or [], room))
            started = time.perf_counter()
            context = Context(facts, policies)
            judged = self._watch.run(protect, Surface.RESULT, value, invocation, context, is_always_recorded=False)
            if said is None or room[0] <= 0:
                signals = (*judged.verdict.signals, _NOT_SCANNED)
                judged = judged._replace(verdict=replace(judged.verdict, signals=signals))
            self._record(invocation, facts, judged, time.perf_counter() - started)
        except (Exception, Overrun):
            _LOG.exception("a result could not be looked at")

    def _record(self, invocation: Invocation, facts: Facts, judged: Protection, seconds: float) -> None:
        verdict = judged.verdict
        if verdict.signals or verdict.reasons:
            micros = round(seconds * 1e6, 1)
            self._note(self._recorder.result(invocation, facts, verdict, self._now(), decision_us=micros))


def noted(judged: Judged, invocation_id: str) -> Any:
    """What may be passed on; where something was replaced in it, it says so in its ``_meta``."""
    if not judged.replaced or not isinstance(judged.value, dict):
        return judged.value
    meta = judged.value.get("_meta")
    note = {"categories": list(judged.replaced), "invocation": invocation_id}
    return {**judged.value, "_meta": {**(meta if isinstance(meta, dict) else {}), _META: note}}


def _shadow(value: Any) -> Any:
    """``value`` as it is looked at: without pictures and sounds, long numbers as text."""
    if isinstance(value, dict):
        unseen = _UNSEEN.get(value.get("type", ""), "blob") if isinstance(value.get("type", ""), str) else "blob"
        return {
            name: None if name == unseen and isinstance(item, str) else _shadow(item) for name, item in value.items()
        }
    if isinstance(value, list):
        return [_shadow(item) for item in value]
    if type(value) is int and abs(value) >= _LONG_NUMBER:
        return str(value)
    return value


def _rewritten(original: Any, shadow: Any) -> Any:
    """``original`` with what was replaced in its shadow."""
    if isinstance(original, dict) and isinstance(shadow, Mapping):
        new = {name: _rewritten(item, shadow[name]) for name, item in original.items()}
        return _repeated(original, new)
    if isinstance(original, list) and isinstance(shadow, list):
        return [_rewritten(item, other) for item, other in zip(original, shadow, strict=True)]
    if isinstance(original, str):
        return original if shadow is None else shadow
    if isinstance(shadow, str) and shadow != str(original):
        return shadow
    return original


def _repeated(original: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A text block that repeats the structured content, as servers write it for older clients, repeats the new one."""
    structured, blocks = original.get("structuredContent"), original.get("content")
    if structured is None or not isinstance(blocks, list) or new["structuredContent"] == structured == blocks:
        return new
    content = []
    for before, after in zip(blocks, new["content"], strict=True):
        if isinstance(before, dict) and _says(before.get("text"), structured):
            after = {**after, "text": orjson.dumps(new["structuredContent"]).decode()}
        content.append(after)
    return {**new, "content": content}


def _says(text: Any, structured: Any) -> bool:
    if not isinstance(text, str) or not text.lstrip().startswith(("{", "[")):
        return False
    try:
        return bool(orjson.loads(text) == structured)
    except orjson.JSONDecodeError:
        return False


def _shortened(value: Any, room: list[int]) -> Any:
    """``value`` with no more than ``room[0]`` characters in its strings, and not more members than that."""
    if isinstance(value, str):
        kept = value[: room[0]]
        room[0] -= len(kept)
        return kept
    if isinstance(value, dict):
        new = {}
        for name, item in value.items():
            if room[0] <= 0:
                break
            room[0] -= len(name) + 8
            new[name] = _shortened(item, room)
        return new
    if isinstance(value, list):
        items = []
        for item in value:
            if room[0] <= 0:
                break
            room[0] -= 8
            items.append(_shortened(item, room))
        return items
    return value
