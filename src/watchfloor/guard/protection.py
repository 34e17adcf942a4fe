"""``protect``: may this content pass on, and with what taken out? For what tools give back and what agents say.

Calls are decided on by ``engine.decide`` before they go out; content that comes back meets the policies whose
``surface`` is ``result`` or ``answer`` here, with the same detectors, conditions and combination of reasons. Pure, as
the engine is: whoever calls it passes the protected value on, or refuses, and records the verdict.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final, NamedTuple

from watchfloor.guard import codec, engine, judgement, redact
from watchfloor.guard.case import Case
from watchfloor.guard.content import Unreadable, examine, show_path
from watchfloor.guard.context import Context
from watchfloor.guard.detectors import DETECTORS, canary, likeness
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.detectors.secrets import mask
from watchfloor.guard.policy import PolicySet
from watchfloor.model.activity import Invocation
from watchfloor.model.verdicts import Effect, Mode, Verdict

_NO_POLICIES: Final = PolicySet.build(())
_KEY: Final = "content"
_LIKENED: Final = 64
"""Strings of one result that are likened to attacks, the longest first."""
_LEAST_LIKENED: Final = 40


class Protection(NamedTuple):
    """``value`` may be passed on: the content itself, or with passages replaced; ``None`` where it is blocked."""

    verdict: Verdict
    value: Any


def protect(
    surface: Surface, value: Any, invocation: Invocation, context: Context, *, is_always_recorded: bool = True
) -> Protection:
    """Judge ``value``, which came back for ``invocation``, and take out of it what policies want gone.

    Without a policy for the surface, signals are gathered and everything passes. Content that cannot be examined is
    blocked where an enforced policy looks at the surface. Redactions in the verdict have paths below ``content``.
    Where it is not ``is_always_recorded``, a verdict with nothing to say has no hash of what it was based on.
    """
    policies = context.policies.on(surface.value) if context.policies is not None else None
    known = policies or _NO_POLICIES
    unreadable = ""
    try:
        content = examine({_KEY: value}, (), known.limits)
    except Unreadable as error:
        unreadable = str(error)
        content = examine({}, (), known.limits)
    case = Case(invocation, context.facts, known, content, "")
    if known is not _NO_POLICIES or is_always_recorded:
        case.invocation = dataclasses.replace(invocation, arguments=content.arguments)
    if unreadable:
        is_minded = any(policy.surface == surface and policy.mode is Mode.ENFORCE for policy in known.policies)
        mode = Mode.ENFORCE if is_minded else Mode.AUDIT
        case.refuse("content_unreadable", "detectors", mode, {"because": unreadable})
    else:
        for detector in DETECTORS:
            case.findings += detector.detect(content)
        if case.facts.canaries:
            case.findings += canary.detect(content, case.facts.canaries)
        case.findings += _likened(case)
        case.signals = tuple(
            dataclasses.replace(found.signal, path=mask(_shown(found.signal.path, surface))) for found in case.findings
        )
        for reasons in judgement.matches(case).values():
            case.reasons += reasons
    digest = ""
    if is_always_recorded or case.signals or case.reasons:
        seen = case.invocation
        if seen is invocation:
            seen = dataclasses.replace(invocation, arguments=content.arguments)
        digest = codec.input_hash(seen, context.facts, known.hash, known.fragments)
    verdict = engine.combine(case, digest)
    if verdict.effect is Effect.REDACT:
        return Protection(verdict, redact.apply({_KEY: value}, verdict.redactions)[_KEY])
    return Protection(verdict, value if verdict.effect.lets_the_call_out else None)


def _likened(case: Case) -> list[Finding]:
    longest = sorted(
        (text for text in case.content.strings if len(text[1]) >= _LEAST_LIKENED), key=lambda t: -len(t[1])
    )
    found: list[Finding] = []
    for path, text in longest[:_LIKENED]:
        found += likeness.detect_in(text, show_path(path), least=likeness.ALERTED)
    return found


def _shown(path: str, surface: Surface) -> str:
    """``arguments.content[0].text`` as ``result[0].text``."""
    return surface.value + path.removeprefix(f"arguments.{_KEY}") if path.startswith(f"arguments.{_KEY}") else path
