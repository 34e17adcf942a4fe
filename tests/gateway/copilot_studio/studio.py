"""A world that Copilot Studio asks: a tenant with its own key set on loopback, tokens, and questions as recorded."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt

from gateway.world import AGENT, USER, World, eventually, make_key, serving
from watchfloor.gateway.app import Gateway
from watchfloor.gateway.copilot_studio.config import CopilotStudioConfig, configure
from watchfloor.model.agents import CredentialOwner, Scope, ServerState, ToolEffect
from watchfloor.model.facts import Aliases, BindingFacts, Kind, ServerFacts, ToolFacts

TENANT = "8f7d1e2a-1234-4abc-9def-0123456789ab"
APP = "11111111-2222-4333-8444-555555555555"
BOT = "0c0ffee0-aaaa-4bbb-8ccc-dddddddddddd"
OBJECT_ID = "9a9a9a9a-1b1b-4c2c-8d3d-4e4e4e4e4e4e"
STUDIO = "copilot-studio"
MAIL_TOOL = "cra65_billing.action.Office365Outlook-SendanemailV2"
READ_TOOL = "cra65_billing.action.Office365Outlook-GetemailsV3"
PAY_TOOL = "cra65_billing.action.Bank-Pay"
KEY, _ = make_key()
STRANGER, _ = make_key()
DEADLINE = 5.0
"""Seconds; longer than it is out there, so that a busy machine does not decide what is not about time."""
EFFECTS = {MAIL_TOOL: ToolEffect.SEND, READ_TOOL: ToolEffect.READ, PAY_TOOL: ToolEffect.PAY}

RECORDED: dict[str, Any] = {
    "plannerContext": {
        "userMessage": "Please send the overdue list to ada@zava.example",
        "thought": "The user wants a mail to be sent.",
        "chatHistory": [
            {"id": "m2", "role": "assistant", "content": "Three are overdue.", "timestamp": "2026-05-05T10:00:05Z"},
            {"id": "m1", "role": "user", "content": "Which invoices are overdue?", "timestamp": "2026-05-05T10:00:00Z"},
        ],
        "previousToolsOutputs": [],
    },
    "toolDefinition": {
        "id": MAIL_TOOL,
        "type": "ToolDefinition",
        "name": "Send an email (V2)",
        "description": "This operation sends an email message.",
        "inputParameters": [{"name": "to", "description": "Recipient", "type": {"$kind": "String"}}],
        "outputParameters": [],
    },
    "inputValues": {"to": "ada@zava.example", "subject": "Overdue", "body": "Three invoices are overdue."},
    "conversationMetadata": {
        "agent": {
            "id": BOT, "tenantId": TENANT, "environmentId": "Default-1", "name": "Customer Billing Agent",
            "version": "1.0.3", "isPublished": True,
        },
        "user": {"id": OBJECT_ID, "tenantId": TENANT},
        "conversationId": "conversation-1",
        "messageId": "message-7",
        "channelId": "pva-studio",
        "planId": "plan-1",
        "planStepId": "step-1",
        "parentAgentComponentId": None,
        "trigger": {"id": "trigger-1", "schemaName": "cra65_billing.trigger.main"},
        "incomingClientIp": "198.51.100.7",
    },
}  # fmt: skip
"""Shaped as the contract and captured traffic have it."""


def question(*, outputs: list[Any] | None = None, spelling: str = "previousToolsOutputs", **changes: Any) -> Any:
    """The recorded question; ``changes`` name members by their path, with ``__`` between the parts."""
    body = copy.deepcopy(RECORDED)
    if outputs is not None:
        del body["plannerContext"]["previousToolsOutputs"]
        body["plannerContext"][spelling] = outputs
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = body
        for parent in parents:
            place = place[parent]
        place[last] = value
    return body


def mail_output(text: str) -> dict[str, Any]:
    """What reading mails has answered."""
    value = json.dumps({"value": [{"from": "someone@outside.example", "bodyPreview": text}]})
    return {
        "toolId": READ_TOOL, "toolName": "Get emails (V3)", "outputs": [{"name": "response", "value": value}],
        "timestamp": "2026-05-05T10:00:02Z",
    }  # fmt: skip


class KeySite:
    """The tenant's key set. ``status`` other than 200: it is down."""

    def __init__(self) -> None:
        self.keys = [KEY]
        self.status = 200
        self.fetches = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.fetches += 1
        body = json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": body})


class Studio(World):
    """A company with an agent of Copilot Studio."""

    def __init__(self, directory: Path, *, keys: KeySite | None = None, **config: Any) -> None:
        super().__init__(directory, **{k: v for k, v in config.items() if not k.startswith("studio_")})
        self.changes = {k.removeprefix("studio_"): v for k, v in config.items() if k.startswith("studio_")}
        self.site = keys or KeySite()
        self.site_url = ""

    def studio_config(self) -> CopilotStudioConfig:
        """The door's."""
        config = configure(
            tenant=TENANT, url=f"{self.url}/copilot-studio", callers=APP, audiences="", issuers="",
            jwks_url=f"{self.site_url}/keys", mode="enforce", server=STUDIO, deadline_seconds=DEADLINE,
            session_seconds=5400.0, max_body_bytes=1024 * 1024,
        )  # fmt: skip
        assert config is not None
        return replace(config, **self.changes)

    def found_company(self) -> None:
        """As elsewhere, and what Copilot Studio calls them."""
        super().found_company()
        self.project(
            (Kind.ALIASES, f"agent/{AGENT}", Aliases((BOT,))),
            (Kind.ALIASES, f"user/{USER}", Aliases((OBJECT_ID,))),
            (Kind.SERVER, STUDIO, ServerFacts(STUDIO, "Copilot Studio", "stdio:copilot-studio", ServerState.AVAILABLE)),
        )
        for tool in EFFECTS:
            self.studio_tool(tool)
            binding = BindingFacts(AGENT, STUDIO, tool, CredentialOwner.APP, Scope.WRITE)
            self.project((Kind.BINDING, f"{AGENT}/{STUDIO}/{tool}", binding))
        for name in ("untraced-argument", "argument-to-confirm"):
            self.policy(shipped(name))

    def studio_tool(self, tool: str, **changes: Any) -> None:
        """One of its tools, as given."""
        facts = ToolFacts(STUDIO, tool, EFFECTS[tool])
        self.project((Kind.TOOL, f"{STUDIO}/{tool}", replace(facts, **changes)))

    def build(self) -> Gateway:
        """A worker with the door open."""
        self.config["copilot_studio"] = self.studio_config()
        return super().build()

    @contextlib.asynccontextmanager
    async def running(self, *, founded: bool = True, warm: bool = True) -> AsyncIterator[Studio]:
        """As elsewhere; ``warm``: with its keys fetched."""
        async with serving(self.site) as self.site_url, super().running(founded=founded):
            if warm:
                await eventually(lambda: self.gateway._copilot_studio._keys.problem == "", "keys")  # type: ignore[union-attr]  # it is open
            yield self

    def entra_claims(self, **changes: Any) -> dict[str, Any]:
        """A good v1 token's; a change to None leaves a claim out."""
        now = int(time.time())
        claims = {
            "aud": f"{self.url}/copilot-studio", "iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT,
            "appid": APP, "iat": now, "nbf": now, "exp": now + 3600, "uti": "uti-1", "ver": "1.0",
        }  # fmt: skip
        return {k: v for k, v in (claims | changes).items() if v is not None}

    def entra_token(self, *, key: Any = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token of the tenant; good unless something is changed."""
        full = {"alg": "RS256", "typ": "JWT", "kid": key.kid} | (header or {})
        return jwt.encode(full, self.entra_claims(**changes), key, algorithms=[full["alg"]])

    async def post(self, verb: str, body: Any = None, *, token: str | None = "", **headers: str) -> httpx.Response:
        """Ask as Copilot Studio does. ``token`` None: without one; ``body`` bytes are sent as they are."""
        sent = {"x-ms-correlation-id": "11111111-0000-4000-8000-000000000001"} | headers
        if token is not None:
            sent["authorization"] = f"Bearer {token or self.entra_token()}"
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return await self.client.post(
            f"/copilot-studio/{verb}?api-version=2025-05-01",
            content=content,
            headers={"content-type": "application/json"} | sent,
        )

    async def analyze(self, body: Any) -> dict[str, Any]:
        """The answer to a question, which must be one of the contract's."""
        response = await self.post("analyze-tool-execution", body)
        assert response.status_code == 200, response.text
        return checked(response.json())


def checked(answer: Any) -> dict[str, Any]:
    """``answer``, if it is an answer of the contract."""
    assert isinstance(answer, dict) and isinstance(answer["blockAction"], bool)
    assert set(answer) <= {"blockAction", "reasonCode", "reason", "diagnostics"}
    if answer["blockAction"]:
        assert isinstance(answer["reasonCode"], int) and isinstance(answer["reason"], str)
        assert isinstance(json.loads(answer["diagnostics"]), dict)
    return answer


def shipped(name: str) -> dict[str, Any]:
    """A shipped policy's body."""
    from watchfloor import content

    return next(dict(body) for body in content.policies() if body["id"] == name)
