"""A transmitter of security events in a test's hands, and the door of a house that believes it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import RSAKey

from identity.world import rsa_key
from portal.house import ORIGIN, House
from watchfloor.identity.jwks import FetchedKeySet
from watchfloor.identity.providers import KeySets
from watchfloor.identity.sts import TokenService, TokenSettings
from watchfloor.model.people import Role
from watchfloor.portal.app import build_portal
from watchfloor.storage import people
from watchfloor.storage.people import User

ISSUER = "https://login.zava.example"
AUDIENCE = "https://watchfloor.zava.example"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
SECRET = "a-secret-of-both-sides"
GRIFFIN = {"format": "iss_sub", "iss": ISSUER, "sub": "griffin"}


@dataclass
class Idp:
    """Signs as the company's identity provider."""

    house: House
    issuer: str = ISSUER
    key: RSAKey = field(default_factory=lambda: rsa_key("idp-1"))
    published: list[RSAKey] = field(default_factory=lambda: [rsa_key("idp-1")])
    lead: float = 0.0
    _ids: Iterator[int] = field(default_factory=itertools.count)

    @property
    def now(self) -> int:
        return int(self.house.clock.at.timestamp())

    def fetch(self, url: str) -> FetchedKeySet:
        keys = [key.as_dict(private=False) for key in self.published]
        return FetchedKeySet(json.dumps({"keys": keys}).encode(), self.lead)

    def claims(self, kind: str, payload: Mapping[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
        event = kind if "://" in kind else CAEP + kind
        claims = {
            "iss": self.issuer, "aud": AUDIENCE, "iat": self.now, "jti": f"set-{next(self._ids)}", "sub_id": GRIFFIN,
            "events": {event: {"event_timestamp": self.now, "initiating_entity": "admin", **(payload or {})}},
        }  # fmt: skip
        return {name: value for name, value in {**claims, **extra}.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], *, key: RSAKey | None = None, **header: Any) -> str:
        used = key or self.key
        head = {"alg": "RS256", "typ": "secevent+jwt", "kid": used.kid, **header}
        return jwt.encode({n: v for n, v in head.items() if v is not None}, dict(claims), used)

    def event(self, kind: str, payload: Mapping[str, Any] | None = None, **extra: Any) -> str:
        return self.sign(self.claims(kind, payload, **extra))


@dataclass
class Signals:
    """A house that believes ``idp``, and its doors as a machine sees them."""

    house: House
    idp: Idp
    keys: KeySets

    @property
    def door(self) -> TestClient:
        return self.house.stranger()

    def push(self, token: str, *, secret: str | None = SECRET, kind: str = "application/secevent+jwt") -> Any:
        headers = {"content-type": kind, **({"authorization": f"Bearer {secret}"} if secret else {})}
        return self.door.post("/ssf/receive", content=token, headers=headers)

    def user(self, user_id: str = "griffin") -> User:
        with self.house.stores.control.read() as tx:
            found = people.find_user(tx, user_id)
        assert found is not None
        return found

    def outcomes(self) -> list[str]:
        """What came of what was taken, newest first."""
        answer = self.house.client(Role.OWNER).get("/api/signals/transmitters/zava/events")
        return [item["outcome"] for item in answer.json()["items"]]

    def believe(self, **changes: Any) -> Any:
        body = {
            "issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", "audience": AUDIENCE, "secret": SECRET, **changes
        }  # fmt: skip
        return self.house.client(Role.OWNER).put("/api/signals/transmitters/zava", json=body)


def believing(house: House) -> Signals:
    """``house`` with keys of a pretend provider, whom it believes."""
    idp = Idp(house)
    keys = KeySets(idp.fetch, clock=lambda: house.clock.at.timestamp())
    settings = TokenSettings(issuer=f"{ORIGIN}/sts", gateway_url="http://127.0.0.1:7701")
    tokens = TokenService(house.stores.control, house.deps.vault, settings, key_sets=keys)
    house.deps = replace(house.deps, tokens=tokens)
    house._app = build_portal(house.deps)
    made = Signals(house, idp, keys)
    answer = made.believe()
    assert answer.status_code == 200, answer.text
    return made
