"""Who is measured by ``bench/guard_text.py``: our detectors and offline peers, and what each was made with.

``seen`` tells of a contestant and a family what is known about the one having been made with the other. A cell is left out
of a mean only where that is said in print; what is merely likely is told and counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from bench.text_attacks import folder
from watchfloor.guard.detectors import likeness
from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.detectors.scan import scan

RULES = frozenset(
    {
        "jailbreak",
        "authority_claim",
        "prompt_extraction",
        "injection",
        "hidden_text",
        "encoded_payload",
        "url_exfiltration",
        "tool_poisoning",
    }
)

PHRASE = 119.0
"""What a phrase multiplies the odds of an attack with: 33.6 % of a sample of the training attacks have one, and 0.283 % of
the ordinary texts."""


class Contestant(NamedTuple):
    """``score`` gives more for what is likelier an attack; ``own`` is the threshold that its makers use."""

    name: str
    score: Callable[[str], float]
    own: float


class Seen(NamedTuple):
    """What is known of a contestant (whose name begins with ``who``) having been made with a family."""

    who: str
    family: str
    is_left_out: bool
    reason: str
    source: str


_SHIPPED = (
    "its package ships these texts as known attacks; layer L1, which is measured, is expressions that do not read them"
)
SEEN = (
    Seen(
        "prompt-guardrail",
        "safeguard",
        True,
        "its attacks are Mindgard/evaded-prompt-injection-and-jailbreak-samples, whose prompt injections were curated from safe-guard-prompt-injection",
        "METADATA of prompt-guardrail 1.0.1, section Dataset; data card of Mindgard's set, section Acknowledgements",
    ),
    Seen("prompt-guardrail", "trustai", False, "Mindgard's set holds jailbreaks, too; of which origin its card does not say", "the same data card"),
    Seen("prompt-armor", "safeguard", False, _SHIPPED, "prompt_armor/data/attacks"),
    Seen("prompt-armor", "protectai", False, _SHIPPED, "prompt_armor/data/attacks"),
    Seen("prompt-armor", "trustai", False, _SHIPPED, "prompt_armor/data/attacks"),
    Seen("watchfloor, rules", "agt obfuscated", True, "read while the rule for quoted phrases was written", "docs/text-model.md"),
    Seen("watchfloor, both", "agt obfuscated", True, "read while the rule for quoted phrases was written", "docs/text-model.md"),
)  # fmt: skip


def seen(contestant: str, family: str) -> list[Seen]:
    return [entry for entry in SEEN if contestant.startswith(entry.who) and entry.family == family]


def words_known(families: dict[str, list[str]]) -> dict[str, float]:
    """Of each family the share of its four-word runs in prompt-guardrail's vocabulary, which holds what it was trained on."""
    at = folder("guardify")
    if at is None:
        return {}
    import joblib

    vocabulary = joblib.load(at / "models/ig_ip_vectorizer.pkl").vocabulary_
    shares = {}
    for name, texts in families.items():
        runs: set[str] = set()
        for text in texts:
            words = re.findall(r"\w+", text.lower())
            runs |= {" ".join(words[start : start + 4]) for start in range(len(words) - 3)}
        shares[name] = sum(run in vocabulary for run in runs) / max(1, len(runs))
    return shares


def rules(text: str) -> float:
    found = [f.signal.score for f in scan(text, Surface.RESULT) if f.signal.category in RULES]
    found += [f.signal.score for f in scan(text, Surface.USER) if f.signal.category in RULES]
    return max(found, default=0.0)


def ours() -> list[Contestant]:
    def everything(text: str) -> float:
        # Two witnesses: the odds of one times those that a phrase is worth, so that each also settles ties of the other.
        alike = min(max(likeness.score(text), 1e-9), 1 - 1e-9)
        has_phrase = any(f.signal.score >= 0.5 for f in scan(text, Surface.RESULT) if f.signal.category in RULES)
        odds = alike / (1 - alike) * (PHRASE if has_phrase else 1.0)
        return odds / (1 + odds)

    return [
        Contestant("watchfloor, rules", rules, 0.5),
        Contestant("watchfloor, likeness", likeness.score, 0.8),
        Contestant("watchfloor, both", everything, 0.8),
    ]


def peers() -> list[Contestant]:
    found: list[Contestant] = []

    def attempt(name: str, make: Callable[[], tuple[Callable[[str], float], float]]) -> None:
        try:
            score, own = make()
            score("hello")
            found.append(Contestant(name, score, own))
        except Exception as error:  # a peer that does not run here is said so and left out
            print(f"left out: {name}: {type(error).__name__}: {error}")

    def armor() -> tuple[Callable[[str], float], float]:
        from prompt_armor.layers.l1_regex import L1RegexLayer

        layer = L1RegexLayer()
        layer.setup()
        return lambda text: float(layer.analyze(text).score), 0.5

    def toolwall() -> tuple[Callable[[str], float], float]:
        from toolwall.detect import patterns

        return lambda text: max([float(getattr(d, "score", 1)) for d in patterns.detect(text)], default=0.0), 0.5

    def picket() -> tuple[Callable[[str], float], float]:
        from aicordon import picket as module

        detector = module.load()

        def score(text: str) -> float:
            answer = detector.check(text)
            return float(getattr(answer, "score", None) or (1.0 if answer.flagged else 0.0))

        return score, 0.5

    def guardrail() -> tuple[Callable[[str], float], float]:
        from guardify.guardrails.logistic_regression import LogisticRegressionGuardrail

        model = LogisticRegressionGuardrail()

        def score(text: str) -> float:
            answer = model.predict(text)
            return float(answer["score"] if answer["label"] == "injection" else 1 - answer["score"])

        return score, 0.5

    attempt("prompt-armor 0.9.1 L1", armor)
    attempt("toolwall-guard 0.4.0", toolwall)
    attempt("aicordon 1.4.0 Picket", picket)
    attempt("prompt-guardrail 1.0.1", guardrail)
    return found
