"""Work that one agent hands to another: what a token for that proves, and whom it may be for.

An agent asks the token service for a token whose resource is the other agent (``{gateway}/agents/{id}``); no gateway
takes such a token. The other one exchanges it, with its own secret, for a token of its own at a tool server. RFC 8693's
``act`` then names who acts, and in it who handed over, each with the epoch of that time.

INVARIANT: what was handed over ends with what it came from: with the token, the user's session, or any agent of the
chain being blocked or revoked. Nothing here makes anything live longer or reach further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from watchfloor.identity.providers import FORBIDDEN_HEADERS, SubjectRefused, header_of
from watchfloor.model.agents import AgentState
from watchfloor.model.facts import MAX_HANDOVERS, Actor
from watchfloor.model.people import RiskLevel
from watchfloor.storage import inventory

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_KEYS: Final = ("kty", "n", "e")


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What a token that was handed over proved. ``actors``: who handed over, nearest first; times in Unix seconds.

    ``user_id`` is None where the first agent acted for itself. ``scopes`` limit what is issued for it.
    """

    user_id: str | None
    user_epoch: int
    actors: tuple[Actor, ...]
    session_id: str
    auth_time: int | None
    methods: tuple[str, ...]
    scopes: tuple[str, ...]
    expires: int
    sign_in_risk: str = RiskLevel.NONE.value


def read_handover(
    token: str, keys: Mapping[str, Mapping[str, Any]], *, issuer: str, audience: str, now: datetime
) -> HandedOver:
    """What ``token`` of our own ``issuer`` proves to the agent behind ``audience``. ``keys``: published ones by kid.

    Raises ``SubjectRefused``.
    """
    header = header_of(token)
    if header.get("alg") != "RS256" or header.get("typ") != "at+jwt" or any(h in header for h in FORBIDDEN_HEADERS):
        raise SubjectRefused("The subject token is not one that an agent handed over.")
    jwk = keys.get(str(header.get("kid")))
    if jwk is None:
        raise SubjectRefused("The subject token is signed with a key that is not published any more.")
    try:
        key = RSAKey.import_key({member: jwk[member] for member in _KEYS})
        claims = jwt.decode(token, key, algorithms=["RS256"]).claims
    except (JoseError, ValueError, RecursionError):
        raise SubjectRefused("The subject token's signature is wrong.") from None
    if claims.get("iss") != issuer or claims.get("aud") != audience:
        # A token for a tool server, or for another agent: taking it would let whoever receives one use it elsewhere.
        raise SubjectRefused(f"The subject token was not handed to this agent; its audience must be {audience}.")
    if claims["exp"] <= now.timestamp():
        raise SubjectRefused("The subject token has expired.")
    subject = str(claims["sub"])
    return HandedOver(
        user_id=subject.removeprefix("user:") if subject.startswith("user:") else None,
        user_epoch=claims.get("sev", 0),
        actors=(Actor(str(claims["client_id"]), claims["aev"]), *_before(claims.get("act"))),
        session_id=claims["sid"],
        auth_time=claims.get("auth_time"),
        methods=tuple(claims.get("amr", ())),
        scopes=tuple(str(claims["scope"]).split()),
        expires=claims["exp"],
        sign_in_risk=claims.get("sign_in_risk", RiskLevel.NONE.value),
    )


def _before(actor: Any) -> list[Actor]:
    """Who handed over to ``actor``. What we signed needs no doubt."""
    found = []
    before = actor.get("act") if isinstance(actor, Mapping) else None
    while before is not None:
        found.append(Actor(str(before["sub"]).removeprefix("agent:"), before["aev"]))
        before = before.get("act")
    return found


def chain(agent_id: str, actors: tuple[Actor, ...]) -> dict[str, Any]:
    """RFC 8693 4.1: ``agent_id`` acts, in it who handed over."""
    before: dict[str, Any] = {}
    for actor in reversed(actors):
        before = {"sub": f"agent:{actor.agent_id}", "aev": actor.epoch, **({"act": before} if before else {})}
    return {"sub": f"agent:{agent_id}", **({"act": before} if before else {})}


def problem_of_chain(tx: ControlTx, agent_id: str, actors: tuple[Actor, ...]) -> tuple[str, str] | None:
    """(reason, text) why ``agent_id`` may not go on with what ``actors`` handed over, or None."""
    if len(actors) > MAX_HANDOVERS:
        return "handover_too_long", f"Work may be handed over {MAX_HANDOVERS} times."
    if agent_id in {actor.agent_id for actor in actors}:
        return "handover_loop", "The agent has handed this work over before."
    agents = inventory.find_agents(tx, [actor.agent_id for actor in actors])
    for actor in actors:
        agent = agents.get(actor.agent_id)
        if (
            agent is None
            or agent.state is not AgentState.PUBLISHED
            or agent.risk is RiskLevel.HIGH
            or actor.epoch < agent.epoch
        ):
            return "handover_revoked", f"The agent {actor.agent_id}, which handed this over, may not act any more."
    return None


def problem_of_target(tx: ControlTx, agent: inventory.Agent, target_id: str) -> tuple[str, str] | None:
    """(reason, text) why ``agent`` may not hand work to ``target_id``, or None. Unknown looks like not connected."""
    target = inventory.find_agent(tx, target_id)
    if target is None or target_id not in agent.manifest.get("connectedAgents", ()):
        return "not_connected", "The agent is not connected to an agent of this name (connectedAgents of its manifest)."
    if target.state is not AgentState.PUBLISHED:
        return "target_not_published", f"The agent {target_id} may not act now."
    return None
