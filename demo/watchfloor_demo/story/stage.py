"""What the steps of the story share: the running parts, what was learnt so far, and how to wait and to insist."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from watchfloor_demo.agents.instrument import SILENT, Instrument
from watchfloor_demo.agents.signin import SignIn
from watchfloor_demo.agents.tokens import Tokens
from watchfloor_demo.api import Api
from watchfloor_demo.attack import Attack, Script, script
from watchfloor_demo.headquarters import Headquarters
from watchfloor_demo.runtime import Runtime
from watchfloor_demo.story.product import Product
from watchfloor_demo.traffic import Traffic

T = TypeVar("T")
Facts = dict[str, Any]


class StepFailed(Exception):
    """The story did not go as it must. ``facts`` say what was seen instead."""

    def __init__(self, message: str, facts: Facts | None = None) -> None:
        self.facts = facts or {}
        super().__init__(message)


def insist(condition: object, message: str, **facts: Any) -> None:
    """Raise ``StepFailed`` unless ``condition`` holds."""
    if not condition:
        raise StepFailed(message, facts)


@dataclass(frozen=True, slots=True)
class Held:
    """A call that waits for an operator, or that is going to."""

    agent_id: str
    sign_in: SignIn
    server: str
    tool: str
    arguments: Mapping[str, Any]
    words: str
    conversation: str
    invocation: str = ""
    retry_token: str | None = None


@dataclass(slots=True)
class Stage:
    """Everything that steps hand on to later ones. What a step opens goes onto ``stack``."""

    directory: Path
    http: httpx.AsyncClient
    stack: contextlib.AsyncExitStack
    tell: Callable[[str], None]
    product: Product
    runtime: Runtime
    attempts: int = 12
    rate: float = 12.0
    script: Script = field(default_factory=script)
    summary: Facts = field(default_factory=dict)
    admin: Api | None = None
    hq: Headquarters | None = None
    traffic: Traffic | None = None
    stop_traffic: Callable[[], Awaitable[None]] | None = None
    tokens: Tokens | None = None
    instrument: Instrument = SILENT
    stolen: SignIn | None = None
    attack: Attack | None = None
    attack_began: float = 0.0
    attack_ended: float = 0.0
    incident_id: str = ""
    other_mails: int = 0
    held: Held | None = None
    operators: dict[str, Api] = field(default_factory=dict)

    def api(self) -> Api:
        """The administrator's access; steps before ``start`` have none."""
        assert self.admin is not None, "the product was not started"
        return self.admin

    def company(self) -> Headquarters:
        """The running company."""
        assert self.hq is not None, "the company was not opened"
        return self.hq

    def busy(self) -> Traffic:
        """The background traffic."""
        assert self.traffic is not None, "nobody is at work"
        return self.traffic

    def agent_tokens(self) -> Tokens:
        """Tokens of the agents that the story itself drives."""
        if self.tokens is None:
            self.tokens = Tokens(self.runtime, self.http)
        return self.tokens

    def loot(self) -> Attack:
        """What the attack did."""
        assert self.attack is not None, "there was no attack"
        return self.attack


async def eventually(
    look: Callable[[], Awaitable[T | None]], seconds: float, what: str, every: float = 0.1
) -> tuple[T, float]:
    """The first answer that is not None, and how long it took. Raises ``StepFailed`` after ``seconds``."""
    began = time.monotonic()
    while True:
        found = await look()
        took = time.monotonic() - began
        if found is not None:
            return found, took
        if took > seconds:
            raise StepFailed(f"{what}: not within {seconds:.0f} s")
        await asyncio.sleep(every)
