"""A detector and conditions that go wrong on request, in every process that starts with this file on its path.

``sitecustomize.py`` beside a copy of this file imports it: the product's own list of detectors is made longer before
anybody reads it. What goes wrong is named by a marker in the content; content without a marker is honest.
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable
from typing import Any

from watchfloor.guard import detectors, expression
from watchfloor.guard.content import Content

_HOARD: list[Any] = []
_PENDING: list[Callable[[], None]] = []


def _raise() -> None:
    raise ValueError("a detector raises")


def _exit() -> None:
    raise SystemExit(3)


def _hang() -> None:
    while True:
        pass


def _sleep() -> None:
    time.sleep(1e6)


def _swallow() -> None:
    while True:
        try:
            _hang()
        except BaseException:
            continue


def _hang_in_c() -> None:
    # Backtracks for longer than anybody waits, without once giving the interpreter away.
    re.match(r"(a|aa)+$", "a" * 200 + "b")


def _foreign() -> None:
    # A lock that is taken twice: waits for ever, and no signal wakes it.
    libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)


def _eat() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(b"x") * (16 << 20))


def _eat_at_once() -> None:
    bytearray(64 << 30)


def _eat_small() -> None:
    eaten: list[Any] = []
    while True:
        eaten.append([eaten, object()])


def _hoard() -> None:
    while True:
        _HOARD.append(bytearray(b"x") * (4 << 20))


def _in_conditions(go_wrong: Callable[[], None]) -> Callable[[], None]:
    """``go_wrong``, but when the policies' conditions are evaluated."""

    def prepare() -> None:
        _PENDING.append(go_wrong)

    return prepare


def _evaluating(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    def instead(*args: Any) -> Any:
        if _PENDING:
            _PENDING.pop()()
        return evaluate(*args)

    return instead


FAULTS: dict[str, Callable[[], None]] = {
    "fault:raise": _raise,
    "fault:exit": _exit,
    "fault:hang": _hang,
    "fault:sleep": _sleep,
    "fault:swallow": _swallow,
    "fault:c": _hang_in_c,
    "fault:foreign": _foreign,
    "fault:eat": _eat,
    "fault:at-once": _eat_at_once,
    "fault:small": _eat_small,
    "fault:hoard": _hoard,
    "record of result:raise": _raise,
    "record of result:hang": _hang,
    "record of result:at-once": _eat_at_once,
    "fault:condition-raises": _in_conditions(_raise),
    "fault:condition-hangs": _in_conditions(_hang),
    "fault:condition-in-c": _in_conditions(_hang_in_c),
}


def _detect(content: Content) -> list[Any]:
    for _, text in content.strings:
        for marker, go_wrong in FAULTS.items():
            if text == marker:
                go_wrong()
            if text == "fault:nonsense":
                return [object()]
    return []


expression.evaluate = _evaluating(expression.evaluate)
expression.evaluate_once = _evaluating(expression.evaluate_once)
detectors.DETECTORS = (*detectors.DETECTORS, detectors.Detector("faulty", _detect))  # type: ignore[misc]  # the fault
