"""Work that one agent hands to another: a chain that never lives longer nor reaches further than its source."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from watchfloor.gateway.tokens import Token, TokenError, TokenVerifier
from watchfloor.identity import risk, sessions
from watchfloor.identity.sts import TokenRefused
from watchfloor.model.agents import TokenMode
from watchfloor.model.facts import Actor, Kind, SigningKey
from watchfloor.registry import inventory as registry

from .world import GATEWAY, ISSUER, SECRET, World, company

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
CHAIN = ("customer-billing", "research", "archive", "courier", "clerk", "porter")


def declared() -> dict[str, Any]:
    """A company whose agents hand work on, each to the next."""
    found = company()
    first = found["agents"][0]
    first["connectedAgents"] = ["research"]
    for number, name in enumerate(CHAIN[1:], 1):
        found["agents"].append(
            {
                "id": name,
                "name": name.title(),
                "version": "1",
                "maker": "lin",
                "sponsor": "ada",
                "secret": {"value": f"{name}-{SECRET}"},
                "connectedAgents": [*CHAIN[number + 1 : number + 2], "customer-billing"],
                "tools": [{"server": "mail", "tool": "*", "scope": "write"}],
            }
        )
    return found


@pytest.fixture
def chain(tmp_path: Path) -> World:
    """A world with those agents."""
    world = World.with_company(tmp_path)
    world.apply(declared())
    return world


def hand(world: World, giver: str, taker: str, **changes: Any) -> str:
    """A token that hands the work of ``giver`` to ``taker``; a sign-in of Griffin's unless changed."""
    return issue(world, giver, f"{GATEWAY}/agents/{taker}", **changes)


def issue(world: World, agent: str, resource: str = f"{GATEWAY}/mcp/mail", **changes: Any) -> str:
    """A token for ``agent``."""
    secret = SECRET if agent == CHAIN[0] else f"{agent}-{SECRET}"
    if "subject_token" in changes:
        changes.setdefault("subject_token_type", ACCESS_TOKEN)
    request = world.request(client_id=agent, client_secrets=(secret,), resource=resource, **changes)
    return world.service.issue(request).access_token


def refused(world: World, agent: str, resource: str = f"{GATEWAY}/mcp/mail", **changes: Any) -> str:
    """Why ``agent`` gets no token."""
    with pytest.raises(TokenRefused) as caught:
        issue(world, agent, resource, **changes)
    return caught.value.reason


def verified(world: World, token: str) -> Token:
    """What the gateway makes of ``token``."""
    verifier = TokenVerifier(ISSUER, GATEWAY)
    keys = world.facts(Kind.SIGNING_KEY)
    verifier.use_keys({kid: SigningKey.from_json(body) for kid, body in keys.items()})
    return verifier.verify(token.encode(), "mail", world.clock.at.timestamp())


def test_the_token_names_the_user_the_agent_that_acts_and_the_one_that_handed_over(chain: World) -> None:
    handed = hand(chain, "customer-billing", "research")
    claims = chain.claims_of(issue(chain, "research", subject_token=handed))
    assert (claims["sub"], claims["azp"], claims["mode"]) == ("user:griffin", "agent:research", "obo")
    assert claims["act"] == {"sub": "agent:research", "act": {"sub": "agent:customer-billing", "aev": 1}}
    assert claims["sid"] == chain.claims_of(handed)["sid"] == "session-griffin"
    assert claims["auth_time"] == chain.claims_of(handed)["auth_time"]
    token = verified(chain, issue(chain, "research", subject_token=handed))
    assert token.parent_agent_id == "customer-billing"
    assert token.facts.handed_over_by == (Actor("customer-billing", 1),)


def test_it_goes_on_from_agent_to_agent_up_to_four_times(chain: World) -> None:
    token = hand(chain, CHAIN[0], CHAIN[1])
    for giver, taker in pairwise(CHAIN[1:5]):
        token = hand(chain, giver, taker, subject_token=token)
    last = verified(chain, issue(chain, CHAIN[4], subject_token=token))
    assert [actor.agent_id for actor in last.facts.handed_over_by] == list(reversed(CHAIN[:4]))
    fifth = hand(chain, CHAIN[4], CHAIN[5], subject_token=token)
    assert refused(chain, CHAIN[5], subject_token=fifth) == "handover_too_long"


def test_work_does_not_come_back_to_who_handed_it_over(chain: World) -> None:
    token = hand(chain, "research", "customer-billing", subject_token=hand(chain, "customer-billing", "research"))
    assert refused(chain, "customer-billing", subject_token=token) == "handover_loop"


def test_an_agent_that_acts_for_itself_hands_over_without_a_user(chain: World) -> None:
    alone = {"grant_type": "client_credentials", "subject_token_type": ""}
    token = issue(chain, "research", subject_token=hand(chain, "customer-billing", "research", **alone))
    found = verified(chain, token)
    assert (found.user_id, found.mode, found.parent_agent_id) == (None, TokenMode.AGENT, "customer-billing")


def test_it_never_lives_longer_than_what_it_came_from(chain: World) -> None:
    expires = int(chain.clock.at.timestamp()) + 90
    sign_in = chain.idp.sign_in("griffin", exp=expires)
    handed = hand(chain, "customer-billing", "research", subject_token=sign_in)
    chain.clock.pass_seconds(60)
    claims = chain.claims_of(issue(chain, "research", subject_token=handed))
    assert claims["exp"] == expires
    chain.clock.pass_seconds(31)
    assert refused(chain, "research", subject_token=handed) == "subject_token_invalid"


def test_it_never_reaches_further_than_what_was_handed_over(chain: World) -> None:
    handed = hand(chain, "customer-billing", "research", scope="read")
    assert chain.claims_of(issue(chain, "research", subject_token=handed))["scope"] == "read"
    assert refused(chain, "research", subject_token=handed, scope="write") == "scope_exceeded"
    whole = hand(chain, "customer-billing", "research")
    assert chain.claims_of(issue(chain, "research", subject_token=whole))["scope"] == "read write"


def test_no_gateway_takes_the_token_that_hands_over(chain: World) -> None:
    handed = hand(chain, "customer-billing", "research")
    with pytest.raises(TokenError, match="another audience"):
        verified(chain, handed)


@pytest.mark.parametrize("resource", [f"{GATEWAY}/mcp/mail", f"{GATEWAY}/agents", f"{GATEWAY}/agents/archive"])
def test_a_token_for_anything_else_is_no_subject(chain: World, resource: str) -> None:
    giver = "research" if resource.endswith("archive") else "customer-billing"
    other = issue(chain, giver, resource)
    taker = "courier" if giver == "research" else "research"
    assert refused(chain, taker, subject_token=other) == "subject_token_invalid"


def test_a_token_that_was_changed_or_signed_by_somebody_else_is_no_subject(chain: World) -> None:
    handed = hand(chain, "customer-billing", "research")
    head, body, signature = handed.split(".")
    other = chain.idp.sign_in("griffin", iss=ISSUER, aud=f"{GATEWAY}/agents/research", header={"typ": "at+jwt"})
    for wrong in (f"{head}.{body}.{signature[:-4]}AAAA", f"{head}.{body}.", other):
        assert refused(chain, "research", subject_token=wrong) == "subject_token_invalid"


@pytest.mark.parametrize("taker", ["archive", "nobody", "", "research/x"])
def test_work_goes_only_to_agents_that_the_manifest_connects(chain: World, taker: str) -> None:
    assert refused(chain, "customer-billing", f"{GATEWAY}/agents/{taker}") in {"not_connected", "server_unknown"}


def test_work_does_not_go_to_a_blocked_agent(chain: World) -> None:
    with chain.store.tx("soc") as tx:
        registry.block(tx, "research", "odd")
    assert refused(chain, "customer-billing", f"{GATEWAY}/agents/research") == "target_not_published"


def test_when_the_users_session_is_revoked_what_was_handed_over_is_dead(chain: World) -> None:
    handed = hand(chain, "customer-billing", "research")
    with chain.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "stolen")
    assert refused(chain, "research", subject_token=handed) == "session_revoked"
    chain.clock.pass_seconds(3)
    again = hand(chain, "customer-billing", "research")
    assert issue(chain, "research", subject_token=again)


@pytest.mark.parametrize("how", ["block", "revoke", "risk"])
def test_what_stops_an_agent_stops_what_it_handed_over(chain: World, how: str) -> None:
    handed = hand(chain, "customer-billing", "research")
    with chain.store.tx("soc") as tx:
        if how == "block":
            registry.block(tx, "customer-billing", "odd")
        elif how == "revoke":
            sessions.revoke_agent(tx, "customer-billing", "secret leaked")
        else:
            risk.confirm_compromised(tx, "agent", "customer-billing", "odd")
    assert refused(chain, "research", subject_token=handed) == "handover_revoked"
    # For itself the other one may go on.
    assert issue(chain, "research")
    if how == "revoke":
        assert issue(chain, "research", subject_token=hand(chain, "customer-billing", "research"))


# -- what Entra's tokens say ---------------------------------------------------------------------------------------

APP = "5d9f3c1a-0c1e-4b6e-9d54-8f0b6a3f7e21"


@pytest.fixture
def entra(chain: World) -> World:
    """The same, where agents have ids in Entra."""
    found = declared()
    found["agents"][0]["platformIds"] = {"app": APP.upper()}
    found["agents"][1]["platformIds"] = {"app": "0" + APP[1:]}
    chain.apply(found)
    return chain


@pytest.mark.parametrize("claim", ["azp", "appid"])
def test_a_users_token_that_was_issued_to_another_agent_is_refused(entra: World, claim: str) -> None:
    sign_in = entra.idp.sign_in("griffin", **{claim: "0" + APP[1:]})
    assert refused(entra, "customer-billing", subject_token=sign_in) == "token_of_another_agent"
    own = entra.idp.sign_in("griffin", **{claim: APP})
    assert issue(entra, "customer-billing", subject_token=own)
    # A portal in front of the agents is none of them.
    assert issue(entra, "customer-billing", subject_token=entra.idp.sign_in("griffin", **{claim: "portal"}))


@pytest.mark.parametrize("facets", ["13", "5 13 2"])
def test_an_agents_own_account_is_told_from_a_person(entra: World, facets: str) -> None:
    token = issue(entra, "customer-billing", subject_token=entra.idp.sign_in("griffin", xms_sub_fct=facets))
    assert verified(entra, token).mode is TokenMode.AGENT_USER
    person = issue(entra, "customer-billing", subject_token=entra.idp.sign_in("griffin", xms_sub_fct="113 2"))
    assert verified(entra, person).mode is TokenMode.OBO


@pytest.mark.parametrize("claims", [{"idtyp": "app"}, {"xms_sub_fct": "11"}, {"xms_sub_fct": "2 11"}])
def test_an_applications_own_token_speaks_for_no_user(entra: World, claims: dict[str, str]) -> None:
    assert refused(entra, "customer-billing", subject_token=entra.idp.sign_in("griffin", **claims)) == (
        "subject_token_invalid"
    )
    assert issue(entra, "customer-billing", subject_token=entra.idp.sign_in("griffin", idtyp="user"))
