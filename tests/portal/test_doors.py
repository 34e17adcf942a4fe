"""Every kind of token at every door that takes one: each opens its own and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from portal.house import open_house
from portal.scim import provider
from portal.shared_signals import GRIFFIN, ISSUER, SECRET, Signals, believing
from watchfloor.gateway.tokens import TokenError, TokenVerifier
from watchfloor.identity import keys
from watchfloor.model.facts import SigningKey
from watchfloor.model.people import Role

GATEWAY = "http://127.0.0.1:7701"
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "resource": f"{GATEWAY}/mcp/mail",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "client_id": "billing", "client_secret": "agent-secret-0123456789-0123456789-abcdef",
}  # fmt: skip
OPENS = {
    "a session": "the cookie",
    "a token for scripts": "the API",
    "a provisioning token": "provisioning",
    "a receiver's token": "streams",
    "a source's token": "",
    "a sign-in of a user": "the token service",
    "a token of the token service": "the gateway",
    "a security event": "events",
    "an order to revoke": "revocation",
    "a logout token": "",
}
"""Which of the doors here each kind of token opens."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signals]:
    with open_house(tmp_path_factory.mktemp("doors")) as house:
        with house.stores.control.tx("test") as tx:
            keys.ensure_signing_key(tx, house.deps.vault)
        yield believing(house)


def _exchange(world: Signals, token: str) -> Any:
    return world.door.post("/sts/token", data={**EXCHANGE, "subject_token": token})


def _tokens(world: Signals) -> dict[str, str]:
    """One of each kind, all of them good."""
    house, idp = world.house, world.idp
    owner = house.client(Role.OWNER)
    said = {"iss": ISSUER, "iat": idp.now, "exp": idp.now + 60, "jti": "j-1"}
    user = {**said, "aud": "watchfloor", "sub": "griffin", "sid": "s-1", "auth_time": idp.now}
    sign_in = idp.sign(user, typ="JWT")
    return {
        "a session": str(house.browser().cookies.get("watchfloor")),
        "a token for scripts": house.token(Role.OWNER),
        "a provisioning token": provider(house).token,
        "a receiver's token": owner.post("/api/signals/receivers", json={"id": "siem"}).json()["token"],
        "a source's token": owner.post("/api/sources", json={"id": "collector", "agents": ["billing"]}).json()["token"],
        "a sign-in of a user": sign_in,
        "a token of the token service": _exchange(world, sign_in).json()["access_token"],
        "a security event": idp.event("session-revoked", sub_id={**GRIFFIN, "sub": "mona"}),
        "an order to revoke": idp.sign(
            {**said, "aud": "http://127.0.0.1:7700/global-token-revocation"}, typ="global-token-revocation+jwt"
        ),
        "a logout token": idp.sign(
            {**user, "events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, typ="logout+jwt"
        ),
    }


def _doors(world: Signals) -> Mapping[str, Callable[[str], bool]]:
    """Whether each lets a token in."""
    (published,) = world.door.get("/sts/jwks").json()["keys"]
    gateway = TokenVerifier("http://127.0.0.1:7700/sts", GATEWAY)
    gateway.use_keys({published["kid"]: SigningKey(published["kid"], published)})

    def bearer(path: str) -> Callable[[str], bool]:
        return lambda token: world.door.get(path, headers={"authorization": f"Bearer {token}"}).status_code == 200

    def cookie(token: str) -> bool:
        return world.door.get("/api/me", headers={"cookie": f"watchfloor={token}"}).status_code == 200

    def revocation(token: str) -> bool:
        body, headers = {"sub_id": {**GRIFFIN, "sub": "ada"}}, {"authorization": f"Bearer {token}"}
        return world.door.post("/global-token-revocation", json=body, headers=headers).status_code == 204

    def verified(token: str) -> bool:
        try:
            gateway.verify(token.encode(), "mail", world.house.clock().timestamp())
        except TokenError:
            return False
        return True

    return {
        "the cookie": cookie,
        "the API": bearer("/api/me"),
        "provisioning": bearer("/scim/v2/Users"),
        "streams": bearer("/ssf/streams"),
        "the token service": lambda token: _exchange(world, token).status_code == 200,
        "the gateway": verified,
        "events": lambda token: world.push(token, secret=SECRET).status_code == 202,
        "revocation": revocation,
    }


@pytest.mark.asvs("9.2.2", "9.2.3", "10.3.1")
def test_each_token_opens_its_own_door_and_no_other(world: Signals) -> None:
    tokens, doors = _tokens(world), _doors(world)
    assert tokens.keys() == OPENS.keys()
    opened = {name: [door for door, lets_in in doors.items() if lets_in(token)] for name, token in tokens.items()}
    assert opened == {name: [door] if door else [] for name, door in OPENS.items()}
