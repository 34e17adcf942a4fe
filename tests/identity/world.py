"""A control store on a clock of its own, an identity provider and a company: what tests of identity and registry share.

The store is the real one on SQLite; migrations run once, then each test gets a copy of the file. Time goes only when
told to.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml
from joserfc import jwt
from joserfc.jwk import RSAKey

from watchfloor.identity import keys
from watchfloor.identity.jwks import FetchedKeySet
from watchfloor.identity.providers import KeySets
from watchfloor.identity.sts import TokenRequest, TokenService, TokenSettings
from watchfloor.model.errors import Unavailable
from watchfloor.model.facts import Kind
from watchfloor.registry import manifest
from watchfloor.storage import schema
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.vault import Vault

ISSUER = "http://127.0.0.1:7700/sts"
GATEWAY = "http://127.0.0.1:7701"
IDP = "https://login.zava.example"
SECRET = "billing-secret-0123456789-0123456789-abcdef"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
NOON = datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC)


class Clock:
    """The wall clock and the monotonic one, moved together by hand."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def pass_seconds(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


@cache
def _template() -> Path:
    path = Path(tempfile.mkdtemp(prefix="watchfloor-test-")) / "control.db"
    SqlControlStore.open(f"sqlite:///{path}", epoch=None).close()
    return path


def open_store(directory: Path, now: Callable[[], datetime]) -> SqlControlStore:
    """A fresh, migrated control store in ``directory``."""
    path = directory / "control.db"
    shutil.copy(_template(), path)
    return SqlControlStore.open(f"sqlite:///{path}", epoch=None, now=now)


@cache
def rsa_key(name: str, bits: int = 2048) -> RSAKey:
    """A key that stays the same for a test run; making one takes long."""
    return RSAKey.generate_key(bits, {"kid": name, "use": "sig", "alg": "RS256"})


@dataclass
class IdentityProvider:
    """Signs people in and publishes its keys; counts how often it is asked for them."""

    clock: Clock
    issuer: str = IDP
    published: list[RSAKey] = field(default_factory=lambda: [rsa_key("idp-1")])
    fetched: int = 0
    is_down: bool = False
    body: bytes | None = None
    ahead: float = 0.0
    """Seconds that its clock is ahead of ours."""
    says_its_time: bool = True

    @property
    def jwks_uri(self) -> str:
        return f"{self.issuer}/jwks"

    def fetch(self, url: str) -> FetchedKeySet:
        self.fetched += 1
        if self.is_down or url != self.jwks_uri:
            raise Unavailable(f"The key set {url} cannot be fetched: connection refused.")
        if self.body is not None:
            return FetchedKeySet(self.body)
        body = json.dumps({"keys": [key.as_dict(private=False) for key in self.published]}).encode()
        return FetchedKeySet(body, self.ahead if self.says_its_time else 0.0)

    def claims(self, user: str, **changes: Any) -> dict[str, Any]:
        now = int(self.clock.at.timestamp() + self.ahead)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": "watchfloor",
            "sub": user,
            "sid": f"session-{user}",
            "auth_time": now,
            "iat": now,
            "exp": now + 3600,
        }
        claims |= changes
        return {name: value for name, value in claims.items() if value is not None}

    def sign_in(
        self, user: str, *, key: RSAKey | None = None, header: Mapping[str, Any] | None = None, **changes: Any
    ) -> str:
        """An ID token. ``changes`` replace claims (None removes one)."""
        key = key or self.published[0]
        full = {"alg": "RS256", "kid": key.kid, "typ": "JWT", **(header or {})}
        full = {name: value for name, value in full.items() if value is not None}
        return jwt.encode(full, self.claims(user, **changes), key, algorithms=["RS256"], default_type=None)


def handmade(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    return ".".join([part(json.dumps(dict(header)).encode()), part(json.dumps(dict(claims)).encode()), part(signature)])


def company() -> dict[str, Any]:
    """A small company as a manifest."""
    return {
        "apiVersion": "watchfloor/v1",
        "kind": "Company",
        "organization": {"name": "Zava", "domains": ["zava.example"]},
        "identityProviders": [{"issuer": IDP, "jwksUri": f"{IDP}/jwks", "audience": "watchfloor"}],
        "users": [
            {"id": "griffin", "name": "Griffin Vale", "upn": "griffin@zava.example", "groups": ["billing"]},
            {"id": "ada", "name": "Ada Byrne"},
            {"id": "lin", "name": "Lin Okafor"},
        ],
        "toolServers": [
            {
                "id": "mail",
                "url": "http://127.0.0.1:7731/mcp",
                "credential": {"value": "mail-app-credential"},
                "tools": [{"name": "send_email", "effect": "send"}, {"name": "search_mail", "effect": "read"}],
            },
            {"id": "knowledge", "url": "https://knowledge.zava.example/mcp"},
            {"id": "customers", "url": "https://customers.zava.example/mcp"},
        ],
        "agents": [
            {
                "id": "customer-billing",
                "name": "Customer Billing Agent",
                "version": "3",
                "maker": "ada",
                "sponsor": "lin",
                "platform": "Copilot Studio",
                "triggers": ["on message", "every Monday"],
                "secret": {"value": SECRET},
                "tools": [
                    {"server": "mail", "tool": "send_email", "scope": "write"},
                    {"server": "mail", "tool": "search_mail"},
                    {
                        "server": "knowledge",
                        "tool": "*",
                        "credential": "maker",
                        "scope": "write",
                        "makerCredential": {"value": "ada-knowledge-credential"},
                    },
                    {"server": "customers", "tool": "*", "credential": "user"},
                ],
            }
        ],
    }


class World:
    """Everything that a test needs, on one clock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        if (directory / "control.db").exists():
            self.store = SqlControlStore.open(f"sqlite:///{directory}/control.db", epoch=None, now=self.clock.now)
        else:
            self.store = open_store(directory, self.clock.now)
        self.vault = Vault.open(directory / "keys" / "vault.key")
        self.idp = IdentityProvider(self.clock)
        self.service = self.token_service()

    @classmethod
    def with_company(cls, directory: Path) -> World:
        """A world in which the company has been applied and the token service has a key, ten seconds ago."""
        shutil.copytree(_zava_template(), directory, dirs_exist_ok=True)
        world = cls(directory)
        world.clock.pass_seconds(10)
        return world

    def token_service(self, **settings: Any) -> TokenService:
        return TokenService(
            self.store,
            self.vault,
            TokenSettings(ISSUER, GATEWAY, **settings),
            key_sets=KeySets(self.idp.fetch, clock=self.clock.monotonic),
            clock=self.clock.monotonic,
        )

    def close(self) -> None:
        self.store.close()

    def apply(self, declared: Mapping[str, Any] | None = None, actor: str = "root") -> manifest.Applied:
        text = yaml.safe_dump(dict(declared if declared is not None else company()), sort_keys=False)
        with self.store.tx(actor) as tx:
            return manifest.apply(tx, text, self.vault)

    def plan(self, declared: Mapping[str, Any] | None = None) -> manifest.Plan:
        text = yaml.safe_dump(dict(declared if declared is not None else company()), sort_keys=False)
        with self.store.read() as tx:
            return manifest.plan(tx, text, self.vault)

    def make_keys(self) -> None:
        """The token service's first key."""
        with self.store.tx() as tx:
            keys.ensure_signing_key(tx, self.vault)
        self.clock.pass_seconds(10)

    def request(self, **changes: Any) -> TokenRequest:
        """A token exchange of Griffin's sign-in for the mail server, unless changed."""
        values: dict[str, Any] = {
            "grant_type": EXCHANGE,
            "client_id": "customer-billing",
            "client_secrets": (SECRET,),
            "resource": f"{GATEWAY}/mcp/mail",
            "address": "10.0.0.7",
            "subject_token_type": ID_TOKEN,
        }
        values |= changes
        if values["grant_type"] == EXCHANGE and "subject_token" not in values:
            values["subject_token"] = self.idp.sign_in("griffin")
        return TokenRequest(**values)

    def claims_of(self, token: str) -> dict[str, Any]:
        """What a gateway token says, its signature checked with the published keys."""
        published = {k["kid"]: k for k in self.service.published_keys()["keys"]}
        header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
        assert header["alg"] == "RS256" and header["typ"] == "at+jwt"
        key = RSAKey.import_key(published[header["kid"]])
        return dict(jwt.decode(token, key, algorithms=["RS256"]).claims)

    def facts(self, kind: Kind) -> dict[str, dict[str, Any]]:
        """What gateway workers know, by key."""
        _, rows = self.store.read_projection(0)
        return {key: body for k, key, body in rows if k is kind and body is not None}

    def audit(self, action: str | None = None) -> list[dict[str, Any]]:
        """Audit entries, oldest first."""
        with self.store.read() as tx:
            rows = [dict(r._mapping) for r in tx.connection.execute(sa.select(schema.audit).order_by("seq"))]
        return [row for row in rows if action is None or row["action"] == action]


@cache
def _zava_template() -> Path:
    """An installation directory to copy: making an RSA key for each test takes long."""
    directory = Path(tempfile.mkdtemp(prefix="watchfloor-test-"))
    world = World(directory)
    world.apply()
    world.make_keys()
    world.close()
    return directory
