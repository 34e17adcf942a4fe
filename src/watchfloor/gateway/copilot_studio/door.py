"""``/copilot-studio/…`` over HTTP: who asks, what is asked, an answer by the deadline, in the shapes of the contract.

    POST {base}/validate?api-version=2025-05-01                  is this a door, and may they ask?
    POST {base}/analyze-tool-execution?api-version=2025-05-01    may this tool be called?

INVARIANT: a question of somebody who may ask is answered with HTTP 200 and a verdict, whatever goes wrong with it: what
is no answer to Copilot Studio is an allow wherever an environment is left as it comes. Errors are for those who are not
let in.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs

import orjson

from watchfloor.gateway import asgi
from watchfloor.gateway.answers import Refusal, RefusalKind
from watchfloor.gateway.asgi import JSON, Addresses, BodyTooLarge, CallerGone, Receive, Scope, Send
from watchfloor.gateway.calls import Permit
from watchfloor.gateway.copilot_studio import answers
from watchfloor.gateway.copilot_studio.access import Access, AccessRefused, Caller
from watchfloor.gateway.copilot_studio.config import CopilotStudioConfig
from watchfloor.gateway.copilot_studio.engine import Asked, Outcome
from watchfloor.gateway.copilot_studio.keys import TenantKeys
from watchfloor.gateway.copilot_studio.lanes import Lanes
from watchfloor.gateway.copilot_studio.names import DOOR, call_of
from watchfloor.gateway.copilot_studio.payload import Question, Unreadable, read
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.state import Unusable
from watchfloor.gateway.tokens import TokenError
from watchfloor.model.errors import Unavailable

_LOG: Final = logging.getLogger(__name__)
API_VERSION: Final = "2025-05-01"
VERBS: Final = frozenset({"validate", "analyze-tool-execution"})
_CORRELATION: Final = re.compile(r"[A-Za-z0-9._:-]{1,80}")
_KEPT: Final = frozenset(
    {b"authorization", b"content-length", b"x-ms-correlation-id", b"x-forwarded-for", b"x-forwarded-proto"}
)


class CopilotStudioDoor:
    """The door of one worker. ``enforcer`` is the event loop's: for who is not let in, and what comes too late."""

    def __init__(
        self,
        config: CopilotStudioConfig,
        enforcer: Enforcer,
        keys: TenantKeys,
        lanes: Lanes[Asked, Outcome],
        addresses: Addresses,
        *,
        wait_durable: Callable[[], Awaitable[None]] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config, self._enforcer, self._keys, self._lanes = config, enforcer, keys, lanes
        self._access = Access(config, keys)
        self._addresses, self._wait_durable, self._now = addresses, wait_durable, now

    def start(self) -> None:
        """Begin to fetch keys, and make the first lane."""
        self._keys.start()
        self._lanes.start()

    def stop(self) -> None:
        """End both."""
        self._keys.stop()
        self._lanes.stop()

    async def handle(self, scope: Scope, receive: Receive, send: Send, verb: str) -> None:
        """One request. It never raises."""
        arrived = asyncio.get_running_loop().time()
        headers = _headers(scope)
        correlation = _correlation(headers)
        address = self._addresses.of(scope, _text(headers, b"x-forwarded-for"))
        reply = _Reply(send, correlation)
        if verb not in VERBS:
            await reply.error("not_found", "There is validate and analyze-tool-execution here.", 404)
            return
        if scope["method"] != "POST":
            await reply.error("method_not_allowed", "Use POST.", 405)
            return
        try:
            self._require_tls(scope, headers)
            if headers.get(b"authorization", b"").startswith(b"\0"):
                raise AccessRefused("invalid_token", "The Authorization header appears more than once.")
            caller = self._caller(headers.get(b"authorization"))
        except AccessRefused as error:
            self._refused(address, error.reason, error.description, correlation)
            await reply.error(error.reason, error.description, error.status)
            return
        except Exception:
            _LOG.exception("a caller could not be looked at")
            await reply.error("internal_error", "The caller could not be looked at.", 500)
            return
        if verb == "validate":
            await self._validate(scope, reply)
            return
        deadline = arrived + self._config.deadline_seconds
        try:
            body = await self._analyze(receive, headers, caller, address, correlation, deadline)
        except CallerGone:
            return
        except Exception:  # INVARIANT: no answer is never an allow
            _LOG.exception("a question failed")
            body = answers.block("internal_error", "The call was refused because of an internal error.", {})
        metrics = self._enforcer.metrics
        metrics.count(metrics.webhook_answers, "allow" if body == answers.ALLOW else "block")
        metrics.webhook.observe(asyncio.get_running_loop().time() - arrived)
        await asgi.answer(send, 200, body, reply.headers)

    async def _validate(self, scope: Scope, reply: _Reply) -> None:
        version = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("api-version", [""])[-1]
        if version != API_VERSION:
            await reply.error("unsupported_version", f"This door speaks api-version={API_VERSION}.", 400)
            return
        problem = self._enforcer.state.problem()
        if problem is not None:
            await reply.error("state_unavailable", f"Nothing can be decided now. {problem}", 503)
            return
        await asgi.answer(reply.send, 200, answers.VALID, reply.headers)

    async def _analyze(
        self,
        receive: Receive,
        headers: dict[bytes, bytes],
        caller: Caller,
        address: str,
        correlation: str,
        deadline: float,
    ) -> bytes:
        try:
            question = await self._question(receive, headers, deadline)
            if question.tenant_id and question.tenant_id.lower() != self._config.tenant:
                raise _Fault("other_tenant", f"conversationMetadata.agent.tenantId is {question.tenant_id[:40]}.")
        except _Fault as fault:
            self._refused(address, fault.reason, str(fault), correlation)
            message = answers.MESSAGES.get(fault.reason, "The call was refused because the question came too slowly.")
            return answers.block(fault.reason, message, {"correlation": correlation, "detail": str(fault)[:300]})
        asked = Asked(question, caller, address, correlation)
        try:
            outcome = await self._lanes.ask(asked, deadline)
        except Exception:  # it was logged in the lane
            return answers.block("internal_error", "The call was refused because of an internal error.", {})
        if outcome is None:
            outcome = self._late(asked)
        if isinstance(outcome, Permit):
            return await self._allowed(outcome, deadline)
        return answers.refused(outcome)

    def _caller(self, authorization: bytes | None) -> Caller:
        """An app of the tenant; or the control plane, which asks about one agent only to see that it is refused."""
        try:
            return self._access.verify(authorization, self._now().timestamp())
        except AccessRefused:
            try:
                token = self._enforcer.authenticate_agent(authorization)
            except (TokenError, Refusal):
                token = None
            if token is None or not token.is_proof:
                raise
            return Caller("", token.id, token.expires, 0, token.agent_id)

    async def _question(self, receive: Receive, headers: dict[bytes, bytes], deadline: float) -> Question:
        limit = self._config.max_body_bytes
        try:
            async with asyncio.timeout_at(deadline):
                raw = await asgi.read_body(receive, limit, headers.get(b"content-length"))
            return read(orjson.loads(raw))
        except TimeoutError:
            raise _Fault("deadline", "The body did not arrive in time.") from None
        except BodyTooLarge:
            raise _Fault("too_large", f"The body is larger than {limit} bytes.") from None
        except orjson.JSONDecodeError as error:
            raise _Fault("malformed", f"The body is not valid JSON: {error}.") from None
        except Unreadable as error:
            raise _Fault("malformed", str(error)) from None

    def _late(self, asked: Asked) -> Outcome:
        """The answer without the guard: by facts, and by what an administrator has chosen for the tool."""
        enforcer = self._enforcer
        enforcer.metrics.count(enforcer.metrics.webhook_answers, "deadline")
        try:
            try:
                enforcer.state.check()
            except Unusable as error:
                raise Refusal(RefusalKind.UNAVAILABLE, error.code) from error
            request = call_of(
                asked.question, asked.caller, enforcer.state, self._config,
                address=asked.address, correlation=asked.correlation, now=self._now(),
            )  # fmt: skip
            return enforcer.decide_late(request)
        except Refusal as refusal:
            return refusal

    async def _allowed(self, permit: Permit, deadline: float) -> bytes:
        tool = permit.facts.tool
        if self._wait_durable is not None and (tool is None or tool.effect.has_side_effects):
            try:
                async with asyncio.timeout_at(deadline):
                    await self._wait_durable()
            except (TimeoutError, Unavailable):
                message = "The call was refused because its decision could not be recorded."
                return answers.block("not_recorded", message, {"invocation": permit.invocation.id})
        return answers.ALLOW

    def _require_tls(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Tokens are not taken in clear from anybody but this machine, or a proxy of ours that says that it had TLS."""
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        if scope.get("scheme") == "https":
            return
        if self._addresses.is_trusted(peer):
            # Behind a proxy that is here or elsewhere, what counts is what the proxy's own caller did.
            said = (_text(headers, b"x-forwarded-proto") or "").rpartition(",")[2].strip().lower()
            if said == "https" or (not said and _is_loopback(peer)):
                return
        elif _is_loopback(peer):
            return
        raise AccessRefused("tls_required", "This door is open over TLS only.")

    def _refused(self, address: str, code: str, detail: str, correlation: str) -> None:
        said = f"{detail[:140]} ({correlation})" if correlation else detail
        self._enforcer.refused(door=DOOR, address=address, code=code, server_id="", detail=said)


class _Fault(Exception):
    """The question itself is at fault. ``reason`` is one of ``answers.REASON_CODES``."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class _Reply:
    """How one request is answered."""

    def __init__(self, send: Send, correlation: str) -> None:
        self.send, self._correlation = send, correlation
        self.headers = [JSON]
        if correlation:
            self.headers.append((b"x-ms-correlation-id", correlation.encode("ascii")))

    async def error(self, reason: str, message: str, status: int) -> None:
        """The contract's error."""
        headers = [*self.headers]
        if status == 401:
            headers.append((b"www-authenticate", b'Bearer error="invalid_token"'))
        if status == 503:
            headers.append((b"retry-after", b"1"))
        body = answers.error(reason, message, status, {"correlation": self._correlation})
        await asgi.answer(self.send, status, body, headers)


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """The headers that mean something here. A second Authorization header spoils the first."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name not in _KEPT:
            continue
        if name in found and name == b"authorization":
            found[name] = b"\0"
        elif name in found and name in (b"x-forwarded-for", b"x-forwarded-proto"):
            found[name] += b"," + value
        else:
            found[name] = value
    return found


def _text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _correlation(headers: dict[bytes, bytes]) -> str:
    """The caller's correlation id, if it is fit to be written down and sent back."""
    value = (_text(headers, b"x-ms-correlation-id") or "").strip()
    return value if _CORRELATION.fullmatch(value) else ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
