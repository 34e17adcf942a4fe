"""What stands in ``WWW-Authenticate`` where a better or newer sign-in may end a refusal: RFC 6750, RFC 9470, CAE.

Doors ask for the parameters and add where a token can be had. A client that declared that it can answer one
(``xms_cc``: ``cp1``) gets a claims challenge, any other RFC 9470's ``insufficient_user_authentication`` for a step-up
and ``invalid_token`` for a token that is dead. No policy is ever named.
"""

from __future__ import annotations

import base64
import time
from typing import Any, NamedTuple

import orjson

from watchfloor.gateway.access import STEP_UP, StepUp
from watchfloor.gateway.answers import SIGN_IN_AGAIN, Refusal
from watchfloor.gateway.tokens import Token


class Challenge(NamedTuple):
    """The parameters of ``WWW-Authenticate: Bearer``, and what the body says to machines."""

    parts: list[str]
    data: dict[str, Any]


def challenge_to(refusal: Refusal, token: Token | None, *, is_call: bool) -> Challenge | None:
    """The challenge that answers ``refusal``; None where it is answered in the protocol's own words.

    A refused call is, unless the user can step up, or its client is one that reads claims challenges.
    """
    takes_claims = token is not None and token.takes_claims
    if refusal.code in STEP_UP or (refusal.code in SIGN_IN_AGAIN and (takes_claims or not is_call)):
        # Whose token has only run out needs a new one, and no claims for it.
        parts = _parameters(refusal.code, refusal.step_up, takes_claims and refusal.code != "token_expired")
        is_plain = refusal.step_up is None and not is_call
        return Challenge(parts, {"code": "invalid_token", "retryable": False} if is_plain else refusal.to_json())
    return None


def _parameters(code: str, step_up: StepUp | None, takes_claims: bool) -> list[str]:
    said = f'error_description="{code}"'
    if takes_claims:
        return ['realm=""', 'error="insufficient_claims"', f'claims="{_claims(step_up)}"', said]
    if step_up is None:
        return ['error="invalid_token"', said]
    wanted = [f'{name}="{value}"' for name, value in step_up.to_json().items()]
    return ['error="insufficient_user_authentication"', said, *wanted]


def _claims(step_up: StepUp | None) -> str:
    """Which claims the next token must have, as base64url of JSON."""
    now = int(time.time())
    wanted: dict[str, Any] = {"nbf": {"essential": True, "value": str(now)}}
    if step_up is not None and step_up.acr_values:
        wanted = {"acrs": {"essential": True, "value": step_up.acr_values}}
    elif step_up is not None and step_up.max_age is not None:
        wanted = {"auth_time": {"essential": True, "value": str(now - step_up.max_age)}}
    return base64.urlsafe_b64encode(orjson.dumps({"access_token": wanted})).decode().rstrip("=")
