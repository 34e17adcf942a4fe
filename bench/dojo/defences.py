"""What may stand between an agent and its tools: nothing, our guard in this process, and offline peers.

A defence is started with a scene, asked before each call and shown each result. Peers get what their interface takes,
on their own thresholds; where they need a policy, it is written from our inference of argument roles.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from bench.dojo.scenes import Call, Scene
from watchfloor.gateway.alignment.encoder import Encoder
from watchfloor.gateway.alignment.encoder import build as build_encoder
from watchfloor.gateway.alignment.encoder import load as load_encoder
from watchfloor.guard.alignment import head
from watchfloor.guard.alignment.features import measure, question
from watchfloor.guard.provenance.cards import infer_card, role_of
from watchfloor.guard.provenance.conversation import Conversation, ToolResult
from watchfloor.guard.provenance.directory import Directory
from watchfloor.guard.provenance.labels import Outcome, Role
from watchfloor.guard.provenance.trace import trace
from watchfloor.model.agents import ToolEffect
from watchfloor.registry.effects import infer_effect

ACTIONS = {Outcome.ALLOW: "allow", Outcome.ASK: "ask", Outcome.REFUSE: "block"}
GUARDED = (Role.DESTINATION, Role.SECRET, Role.ID)
Definitions = dict[str, dict[str, Any]]


class Defence(Protocol):
    def start(self, scene: Scene, tools: Definitions) -> None: ...
    def check(self, call: Call) -> tuple[str, str]: ...
    def observe(self, call: Call, value: Any) -> None: ...


def effect_of(definition: dict[str, Any]) -> ToolEffect:
    """As the registry works it out when a tool is listed."""
    return infer_effect(definition, is_trusted=False)


class Nothing:
    def start(self, scene: Scene, tools: Definitions) -> None:
        pass

    def check(self, call: Call) -> tuple[str, str]:
        return "allow", ""

    def observe(self, call: Call, value: Any) -> None:
        pass


@cache
def encoder() -> Encoder:
    """The sentence encoder, built for this run."""
    with tempfile.TemporaryDirectory() as directory:
        build_encoder(Path(directory))
        return load_encoder(Path(directory))


class Ours:
    """The guard's provenance, without a gateway around it: for measuring rules quickly."""

    def __init__(self, name: str) -> None:
        self._strictness, _, extra = name.partition("+")
        self._aligns = extra == "alignment"

    def start(self, scene: Scene, tools: Definitions) -> None:
        self._effects = {name: effect_of(tool) for name, tool in tools.items()}
        self._cards = {name: infer_card(tool) for name, tool in tools.items()}
        self._conversation = Conversation()
        self._conversation.say([scene.prompt])
        self._directory = Directory(scene.directory)

    def check(self, call: Call) -> tuple[str, str]:
        found = trace(
            call.tool,
            call.arguments,
            self._effects[call.tool],
            self._cards[call.tool],
            self._conversation,
            self._directory,
            self._strictness,
        )
        if self._aligns and found.outcome(self._strictness) is Outcome.ALLOW:
            asked = question(
                call.tool,
                call.arguments,
                self._effects[call.tool],
                self._cards[call.tool],
                self._conversation,
                self._directory,
            )
            if asked is not None:
                aligned = head.shipped().judge(measure(asked, encoder().similarity))
                if aligned.outcome is Outcome.ASK:
                    return "ask", aligned.story
        worst = found.worst(self._strictness)
        reason = f"{worst.rule} {worst.argument} {worst.label} {worst.value}" if worst else ""
        return ACTIONS[found.outcome(self._strictness)], reason

    def observe(self, call: Call, value: Any) -> None:
        named = self._conversation.names(call.arguments)
        self._conversation.read(ToolResult("", "dojo", call.tool, value, named))


class Text:
    """A classifier of text: once a result scores as an injection, nothing with side effects passes any more."""

    def __init__(self, score: Callable[[str], bool]) -> None:
        self._score = score
        self._known: dict[str, bool] = {}

    def start(self, scene: Scene, tools: Definitions) -> None:
        self._effects = {name: effect_of(tool) for name, tool in tools.items()}
        self._is_hot = False

    def check(self, call: Call) -> tuple[str, str]:
        stops = self._is_hot and self._effects[call.tool].has_side_effects
        return ("block", "text") if stops else ("allow", "")

    def observe(self, call: Call, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if text not in self._known:
            self._known[text] = self._score(text)
        self._is_hot = self._is_hot or self._known[text]


class TaintGate:
    """taintgate: guarded arguments must not match what a tool returned."""

    def start(self, scene: Scene, tools: Definitions) -> None:
        self._effects = {name: effect_of(tool) for name, tool in tools.items()}
        self._trusted = [scene.prompt, *scene.directory]
        self._seen: list[tuple[str, str]] = []

    def observe(self, call: Call, value: Any) -> None:
        self._seen.append((call.tool, str(value)))

    def check(self, call: Call) -> tuple[str, str]:
        from taintgate.policy import Policy
        from taintgate.session import Session

        if not self._effects[call.tool].has_side_effects:
            return "allow", ""
        rule = {"tool": call.tool, "action": "deny", "when": {"v": {"untrusted": True}}}
        session = Session(Policy.from_dict({"version": 1, "default": "allow", "rules": [rule]}), self._trusted)
        for tool, text in self._seen:
            session.observe(tool, text)
        for name, argument in call.arguments.items():
            if role_of(name) in GUARDED:
                for value in argument if isinstance(argument, list) else [argument]:
                    if session.check(call.tool, {"v": value}).action != "allow":
                        return "block", name
        return "allow", ""


class Catraca:
    """catraca, mode B: annotated channels, a declarative policy, confirmation on coincidence."""

    def start(self, scene: Scene, tools: Definitions) -> None:
        import catraca

        self._api = catraca
        self._effects = {name: effect_of(tool) for name, tool in tools.items()}
        channels = {
            "user": {"integrity": "TRUSTED", "confidentiality": "*"},
            "tool": {"integrity": "UNTRUSTED", "confidentiality": "*"},
        }
        self._registry = catraca.ContextRegistry(catraca.ChannelConfig.from_dict({"version": 1, "channels": channels}))
        self._registry.annotate(scene.prompt, "user")
        if scene.directory:
            self._registry.annotate("\n".join(scene.directory), "user")
        self._caller = catraca.Caller(tenant="t", user="u")

    def observe(self, call: Call, value: Any) -> None:
        text = str(value).strip()
        if text:
            self._registry.annotate(text[:20_000], "tool", origin=call.tool)

    def check(self, call: Call) -> tuple[str, str]:
        if not self._effects[call.tool].has_side_effects:
            return "allow", ""
        api = self._api
        free: dict[str, Any] = {"integrity": "ANY"}
        rule = {
            "callers": {"tenants": ["t"], "users": "*"},
            "args": {name: {} if role_of(name) in GUARDED else free for name in call.arguments},
            "confirm_on_coincidence": True,
        }
        policy = api.DeclarativePolicy.from_dict({"version": 1, "tools": {call.tool: rule}})
        egress = (
            api.Egress.from_dict({"version": 1, "default": {"skip_args": sorted(call.arguments)}})
            if call.arguments
            else api.Egress.strict()
        )
        gate = api.Gate(self._registry, policy, egress=egress, evidence=None)
        verdict = gate.decide(call.tool, dict(call.arguments), caller=self._caller)
        name = verdict.verdict.name
        return ("allow" if name == "ALLOW" else "ask" if "CONFIRM" in name else "block"), verdict.reason.name


def _toolwall() -> Callable[[str], bool]:
    from toolwall.detect import patterns

    return lambda text: max([float(getattr(found, "score", 1)) for found in patterns.detect(text)] or [0.0]) >= 0.5


def _prompt_armor() -> Callable[[str], bool]:
    from prompt_armor.layers.l1_regex import L1RegexLayer

    layer = L1RegexLayer()
    layer.setup()
    return lambda text: float(layer.analyze(text).score) >= 0.5


def _picket() -> Callable[[str], bool]:
    from aicordon import picket

    detector = picket.load()
    return lambda text: bool(detector.check(text).flagged)


def _prompt_guardrail() -> Callable[[str], bool]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from guardify.guardrails.logistic_regression import LogisticRegressionGuardrail

    model = LogisticRegressionGuardrail()

    def score(text: str) -> bool:
        found = model.predict(text)
        return bool(found["label"] == "injection")

    return score


TEXT_PEERS = {
    "toolwall-guard": _toolwall,
    "prompt-armor": _prompt_armor,
    "aicordon": _picket,
    "prompt-guardrail": _prompt_guardrail,
}
PROVENANCE_PEERS: dict[str, Callable[[], Defence]] = {"taintgate": TaintGate, "catraca": Catraca}
OURS = ("balanced", "careful", "strict", "careful+alignment")


def build(name: str) -> Defence:
    """The defence of this name. Raises ``ImportError`` where a peer is not installed."""
    if name == "none":
        return Nothing()
    if name in OURS:
        return Ours(name)
    if name in PROVENANCE_PEERS:
        __import__(name)
        return PROVENANCE_PEERS[name]()
    return Text(TEXT_PEERS[name]())
