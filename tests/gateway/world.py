"""One gateway worker with real parts around it: SQLite, epoch file, vault, spool, a tool server of the official SDK.

Everything runs in the test's own event loop on free ports; only the clock of the process is real. Facts are projected
as the control plane would, in a transaction that raises the epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState as Connections

from gateway.toolserver import ToolServer
from watchfloor.gateway.alignment.encoder import Encoder
from watchfloor.gateway.app import Gateway, GatewayConfig, Outside
from watchfloor.gateway.wire import JoiningProtocol
from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState, ToolEffect
from watchfloor.model.facts import (
    AgentFacts,
    ApprovalFacts,
    BindingFacts,
    CredentialFacts,
    Kind,
    Organization,
    PolicyFacts,
    Projected,
    ServerFacts,
    SigningKey,
    ToolFacts,
    UserFacts,
)
from watchfloor.model.pins import tool_hash
from watchfloor.storage.claims import Claims
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.projection import ProjectionReader
from watchfloor.storage.segments import SpoolWriter, parse_segment
from watchfloor.storage.vault import Vault

AGENT, USER, SERVER = "billing", "griffin", "tools"
APP_SECRET = "app-credential-7c1f"
MODERN = "2026-07-28"
ISSUER = "http://sts.test/sts"

EFFECTS = {
    "lookup": ToolEffect.READ,
    "send_email": ToolEffect.SEND,
    "pay": ToolEffect.PAY,
    "fail": ToolEffect.READ,
    "wait": ToolEffect.READ,
    "count": ToolEffect.READ,
    "drip": ToolEffect.READ,
    "ask": ToolEffect.READ,
    "big": ToolEffect.READ,
}

POLICIES: dict[str, dict[str, Any]] = {
    "no-outside-mail": {
        "id": "no-outside-mail",
        "title": "Mail to the outside",
        "description": "Mail leaves the company.",
        "effect": "block",
        "severity": "high",
        "tactic": "Exfiltration",
        "techniques": ["T1048"],
        "scope": {"tools": ["send_email"]},
        "when": "args.to.exists(r, r.endsWith('@evil.example'))",
        "message": "Mail to {args.to} leaves the company.",
    },
    "big-payments": {
        "id": "big-payments",
        "title": "Large payments",
        "description": "Somebody has to look at it.",
        "effect": "hold",
        "severity": "medium",
        "tactic": "Impact",
        "techniques": ["T1657"],
        "scope": {"tools": ["pay"]},
        "when": "args.amount > 1000.0",
        "message": "A payment of {args.amount}.",
    },
}


def make_key(bits: int = 2048) -> tuple[RSAKey, bytes]:
    """A key and its PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = RSAKey.import_key(pem)
    return RSAKey.import_key(pem, {"kid": key.thumbprint(), "use": "sig", "alg": "RS256"}), pem


KEY, KEY_PEM = make_key()


async def eventually(condition: Callable[[], Any], what: str = "condition", timeout: float = 10.0) -> Any:
    """The first true value of ``condition``; fails after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(app: Any, protocol: type[HttpToolsProtocol] = HttpToolsProtocol, port: int = 0) -> AsyncIterator[str]:
    """``app`` behind uvicorn's HTTP protocol in this event loop; its base URL. Without uvicorn's pauses at the end."""
    config = uvicorn.Config(app, log_level="error", ws="none", access_log=False, lifespan="on", http=protocol)
    config.load()
    state = Connections()
    lifespan = LifespanOn(config)
    await lifespan.startup()
    assert not lifespan.should_exit
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state=lifespan.state), "127.0.0.1", port
    )
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for connection in list(state.connections):
            connection.transport.close()
        for _ in range(3):
            await asyncio.sleep(0)
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        await lifespan.shutdown()


@cache
def _empty_database() -> bytes:
    """A migrated database without content: made once a run, for migrating takes longer than most tests."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "control.db"
        SqlControlStore.open(f"sqlite:///{path}", epoch=None).close()
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


class World:
    """A company with one agent, one user, one tool server, and the gateway between them."""

    def __init__(self, directory: Path, *, spool_bytes: int = 64 << 20, **config: Any) -> None:
        self.data = directory / "data"
        self.data.mkdir(mode=0o700)
        self.epoch = EpochFile.create(self.data / "epoch")
        (self.data / "control.db").write_bytes(_empty_database())
        self.control = SqlControlStore.open(f"sqlite:///{self.data / 'control.db'}", epoch=self.epoch)
        self.vault = Vault.open(self.data / "keys" / "vault.key")
        self.spool = SpoolWriter(self.data / "spool" / "gateway-0", max_bytes=spool_bytes)
        self.tools = ToolServer()
        self.config = config
        self.wait_durable: Callable[[], Awaitable[None]] | None = None
        self.load_encoder: Callable[[], Encoder] | None = None
        self.url = ""
        self.issuer = ISSUER
        self.tool_url = ""

    # -- facts ----------------------------------------------------------------------------------------------------

    def project(self, *values: tuple[Kind, str, Projected | None]) -> None:
        """Change what the workers know, and wait for nothing: the epoch is raised when this returns."""
        with self.control.tx() as tx:
            for kind, key, value in values:
                tx.project(kind, key, value)
            tx.audit("test:project", "test")

    def write_raw(self, kind: Kind, key: str, body: str) -> None:
        """Put something into the projection that the control plane would never write."""
        with contextlib.closing(sqlite3.connect(self.data / "control.db")) as database:
            database.execute("UPDATE revision SET value = value + 1")
            revision = database.execute("SELECT value FROM revision").fetchone()[0]
            database.execute(
                "INSERT OR REPLACE INTO projection (kind, key, body, revision) VALUES (?, ?, ?, ?)",
                (kind.value, key, body, revision),
            )
            database.commit()
        self.epoch.raise_to(revision)

    def agent(self, **changes: Any) -> None:
        """The agent, as given."""
        facts = AgentFacts(AGENT, "Billing Agent", AgentState.PUBLISHED, "3")
        self.project((Kind.AGENT, AGENT, dataclasses.replace(facts, **changes)))

    def user(self, **changes: Any) -> None:
        """The user, as given."""
        facts = UserFacts(USER, f"{USER}@zava.example", "Griffin", is_enabled=True)
        self.project((Kind.USER, USER, dataclasses.replace(facts, **changes)))

    def server(self, **changes: Any) -> None:
        """The tool server, as given."""
        facts = ServerFacts(
            SERVER, "Tools", f"{self.tool_url}/mcp", ServerState.AVAILABLE, credential_id="app", timeout_seconds=10.0
        )
        self.project((Kind.SERVER, SERVER, dataclasses.replace(facts, **changes)))

    def tool(self, name: str, **changes: Any) -> None:
        """One tool, as given."""
        facts = ToolFacts(SERVER, name, EFFECTS.get(name, ToolEffect.UNKNOWN))
        self.project((Kind.TOOL, f"{SERVER}/{name}", dataclasses.replace(facts, **changes)))

    def bind(self, tool: str, **changes: Any) -> None:
        """Let the agent use a tool."""
        facts = BindingFacts(AGENT, SERVER, tool, CredentialOwner.APP, Scope.WRITE)
        self.project((Kind.BINDING, f"{AGENT}/{SERVER}/{tool}", dataclasses.replace(facts, **changes)))

    def unbind(self, tool: str) -> None:
        """Take a tool away from the agent."""
        self.project((Kind.BINDING, f"{AGENT}/{SERVER}/{tool}", None))

    def policy(self, body: dict[str, Any]) -> None:
        """Publish a policy."""
        self.project((Kind.POLICY, body["id"], PolicyFacts(body["id"], 1, body)))

    def withdraw(self, policy_id: str) -> None:
        """Take a policy away."""
        self.project((Kind.POLICY, policy_id, None))

    def approve(self, hold: dict[str, Any], *, approved: bool = True) -> None:
        """Answer a hold as an operator would."""
        facts = ApprovalFacts(
            hold["id"], hold["payload_hash"], datetime.fromisoformat(hold["expires_at"]), approved=approved
        )
        self.project((Kind.APPROVAL, hold["id"], facts))

    def credential(self, name: str, secret: str | bytes) -> None:
        """Store an upstream credential."""
        raw = secret.encode() if isinstance(secret, str) else secret
        self.project((Kind.CREDENTIAL, name, CredentialFacts(name, "bearer", self.vault.seal(raw, name))))

    def found_company(self) -> None:
        """Everything that a call needs."""
        self.project((Kind.ORGANIZATION, "", Organization("Zava", ("zava.example",))))
        self.project((Kind.SIGNING_KEY, KEY.kid, SigningKey(KEY.kid, KEY.as_dict(private=False))))
        for body in POLICIES.values():
            self.policy(body)
        self.credential("app", APP_SECRET)
        self.agent()
        self.user()
        self.server()
        for name in EFFECTS:
            self.tool(name)
            self.bind(name)
        self.epoch.beat()

    async def pin_tools(self) -> None:
        """Pin every tool to what the tool server says now."""
        for definition in await self.tools.server.list_tools():
            if definition.name in EFFECTS:
                body = definition.model_dump(mode="json", by_alias=True, exclude_none=True)
                self.tool(definition.name, pin_state=PinState.PINNED, pin=tool_hash(body))

    # -- tokens ---------------------------------------------------------------------------------------------------

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token; a change to None leaves a claim out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": f"{self.url}/mcp/{SERVER}",
            "sub": f"user:{USER}",
            "azp": f"agent:{AGENT}",
            "act": {"sub": f"agent:{AGENT}"},
            "sid": "session-1",
            "auth_time": now - 60,
            "scope": "read write",
            "mode": "obo",
            "sev": 1,
            "aev": 1,
            "jti": "token-1",
            "iat": now,
            "exp": now + 600,
        }
        return {k: v for k, v in (claims | changes).items() if v is not None}

    def token(self, *, header: dict[str, Any] | None = None, key: Any = KEY, **changes: Any) -> str:
        """A token; good unless something is changed."""
        full = {"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid} | (header or {})
        full = {k: v for k, v in full.items() if v is not None}
        return jwt.encode(full, self.claims(**changes), key, algorithms=[full["alg"]])

    # -- life -----------------------------------------------------------------------------------------------------

    def build(self) -> Gateway:
        """A worker."""
        defaults: dict[str, Any] = {"lease_seconds": 600.0, "hold_seconds": 300.0}
        config = GatewayConfig(
            base_url=self.url,
            issuer=self.issuer,
            run_directory=self.data / "run",
            **(defaults | self.config),
        )
        return Gateway(
            config,
            Outside(
                open_reader=lambda: ProjectionReader.open(f"sqlite:///{self.data / 'control.db'}"),
                open_epoch=lambda: EpochFile.open(self.data / "epoch"),
                unseal=self.vault.unseal,
                derive=self.vault.derive,
                claims=Claims.open(f"sqlite:///{self.data / 'control.db'}"),
                spool=self.spool,
                spool_waiting=self.spool.waiting,
                wait_durable=self.wait_durable,
                load_encoder=self.load_encoder,
            ),
        )

    @contextlib.asynccontextmanager
    async def running(self, *, founded: bool = True) -> AsyncIterator[World]:
        """With tool server and gateway up."""
        placeholder: list[Gateway] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await placeholder[0](scope, receive, send)

        async with serving(self.tools.tap) as self.tool_url:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            sock.close()
            self.url = f"http://127.0.0.1:{port}"
            if founded:
                self.found_company()
            self.gateway = self.build()
            placeholder.append(self.gateway)
            async with serving(app, JoiningProtocol, port):
                limits = httpx.Limits(max_keepalive_connections=50)
                async with httpx.AsyncClient(base_url=self.url, timeout=20, limits=limits) as self.client:
                    yield self
        self.spool.close()
        self.control.close()

    # -- requests -------------------------------------------------------------------------------------------------

    def headers(self, method: str = "tools/call", name: str | None = "lookup", **changes: str | None) -> dict[str, str]:
        """The headers of a stateless request; a change to None leaves a header out (``_`` stands for ``-``)."""
        headers: dict[str, str | None] = {
            "authorization": f"Bearer {self.token()}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MODERN,
            "mcp-method": method,
            "mcp-name": name,
        }
        headers |= {k.replace("_", "-"): v for k, v in changes.items()}
        return {k: v for k, v in headers.items() if v is not None}

    async def call(
        self,
        tool: str = "lookup",
        arguments: dict[str, Any] | None = None,
        *,
        meta: dict[str, Any] | None = None,
        token: str | None = None,
    ) -> dict[str, Any]:
        """One stateless tool call; the JSON-RPC answer."""
        arguments = {"key": "k"} if arguments is None and tool == "lookup" else arguments or {}
        headers = self.headers(name=tool)
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        response = await self.client.post(f"/mcp/{SERVER}", json=rpc(tool, arguments, meta=meta), headers=headers)
        answer = response.json()
        assert isinstance(answer, dict)
        return answer

    # -- records --------------------------------------------------------------------------------------------------

    def records(self, action: str | None = None) -> list[dict[str, Any]]:
        """Rows that were written to the spool, in order; ``AgentContent`` rows where ``action`` is ``content``."""
        self.gateway.enforcer.flush()
        rows = []
        for path in sorted(self.spool.directory.glob("*.seg")):
            for record in parse_segment(path.read_bytes()).records:
                entries = json.loads(record)
                for entry in entries if isinstance(entries, list) else [entries]:
                    is_content = entry["t"] == "AgentContent"
                    if action is None or (
                        is_content if action == "content" else entry["r"].get("ActionType") == action
                    ):
                        rows.append(entry["r"])
        return rows


def rpc(tool: str, arguments: dict[str, Any], *, meta: dict[str, Any] | None = None, id: Any = 1) -> dict[str, Any]:
    """A stateless ``tools/call``."""
    return request("tools/call", {"name": tool, "arguments": arguments}, meta=meta, id=id)


def request(method: str, params: dict[str, Any], *, meta: dict[str, Any] | None = None, id: Any = 1) -> dict[str, Any]:
    """A stateless request."""
    envelope = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    }
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": envelope | (meta or {})}}


def utc_now() -> datetime:
    """Now."""
    return datetime.now(UTC)
