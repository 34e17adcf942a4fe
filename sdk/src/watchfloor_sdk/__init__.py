"""Asks Watchfloor's guard before an AI agent's tool runs. See ``client.Guard``; adapters are in ``adapters``."""

from __future__ import annotations

from watchfloor_sdk.aio import AsyncGuard
from watchfloor_sdk.client import Guard, Running
from watchfloor_sdk.errors import Blocked, Held, Refused, Unavailable, WatchfloorError
from watchfloor_sdk.protocol import TokenSource
from watchfloor_sdk.tokens import ClientCredentials, GivenToken, TokenExchange, TokenFile
from watchfloor_sdk.values import UNTOLD, Call, Decision, Hold

__all__ = [
    "UNTOLD",
    "AsyncGuard",
    "Blocked",
    "Call",
    "ClientCredentials",
    "Decision",
    "GivenToken",
    "Guard",
    "Held",
    "Hold",
    "Refused",
    "Running",
    "TokenExchange",
    "TokenFile",
    "TokenSource",
    "Unavailable",
    "WatchfloorError",
]
