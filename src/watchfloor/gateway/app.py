"""One gateway worker as an ASGI application: builds every part, routes requests to the doors, keeps state fresh.

Reading order is building order. What is outside (database, epoch file, vault, spool) comes in as values, so that tests
build a worker from the same parts as the command line does. It opens nothing before its lifespan begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from watchfloor.gateway import asgi
from watchfloor.gateway.agent365.http import Agent365Door
from watchfloor.gateway.alignment.aligner import Aligner, LaneAligner
from watchfloor.gateway.alignment.encoder import Encoder
from watchfloor.gateway.approvals import Approvals, Claims
from watchfloor.gateway.asgi import Addresses, Receive, Scope, Send
from watchfloor.gateway.board import Board
from watchfloor.gateway.contents import Contents
from watchfloor.gateway.conversations import Conversations, Files
from watchfloor.gateway.copilot_studio import lanes
from watchfloor.gateway.copilot_studio.config import PATH as COPILOT_STUDIO
from watchfloor.gateway.copilot_studio.config import CopilotStudioConfig
from watchfloor.gateway.copilot_studio.door import CopilotStudioDoor
from watchfloor.gateway.copilot_studio.engine import Asked, LaneEngine, Outcome, TicketedSpool
from watchfloor.gateway.copilot_studio.keys import TenantKeys
from watchfloor.gateway.counters import Activity
from watchfloor.gateway.decide import DecideDoor
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.flights import Flights
from watchfloor.gateway.holds import Holds
from watchfloor.gateway.litellm import http as litellm
from watchfloor.gateway.litellm.http import LiteLlmDoor
from watchfloor.gateway.mcp.http import McpDoor
from watchfloor.gateway.metrics import Metrics
from watchfloor.gateway.minting import Credentials
from watchfloor.gateway.records import Recorder, Spool
from watchfloor.gateway.seals import Seal
from watchfloor.gateway.state import Epoch, Reader, State, Unusable
from watchfloor.gateway.tokens import TokenVerifier
from watchfloor.gateway.upstream import Upstreams
from watchfloor.gateway.watchdog import Watch, limit_memory
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.ids import is_name
from watchfloor.storage.conversations import ConversationFiles

if TYPE_CHECKING:
    from watchfloor.gateway.ext_authz.door import ExtAuthzDoor

_LOG: Final = logging.getLogger(__name__)
_TICK_SECONDS: Final = 0.1
_LAST_WORD_SECONDS: Final = 0.5
_SWEEP_SECONDS: Final = 3600.0
_MOST_LANES: Final = 16
_LANE_CONVERSATIONS: Final = 16 * 1024 * 1024
_LANE_ALIGNING: Final = 0.6
"""Share of the webhook's deadline within which a call's alignment must be known."""


def fetch_keys(url: str) -> bytes:
    """A tenant's key set. Its HTTP client is loaded where there is such a door, and nowhere else."""
    from watchfloor.identity.jwks import fetch_jwks

    return fetch_jwks(url)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """What a worker must be told. ``base_url`` is how agents reach the gateway, ``issuer`` who signs their tokens."""

    base_url: str
    issuer: str
    run_directory: Path
    """Shared by the workers of this host."""
    conversations_directory: Path | None = None
    """Shared by the workers of this host; in ``run_directory`` unless said."""
    conversations_database: str = ""
    """Where several hosts share conversations: a ``postgresql://`` URL; empty: in the directory, for this host."""
    worker_id: str = "gateway-0"
    tenant: str = "default"
    lease_seconds: float = 5.0
    hold_seconds: float = 900.0
    holds_per_agent_hour: int = 20
    decision_seconds: float = 1.0
    """What a decision may take."""
    memory_bytes: int = 0
    """What the worker may hold; 0: whatever the system gives."""
    max_body_bytes: int = 4 * 1024 * 1024
    spool_max_bytes: int = 256 * 1024 * 1024
    allowed_origins: frozenset[str] = frozenset()
    trusted_proxies: tuple[str, ...] = ()
    ext_authz_host: str = "127.0.0.1"
    ext_authz_port: int = 0
    """Where Envoy asks for authorization, over gRPC; 0: nowhere."""
    copilot_studio: CopilotStudioConfig | None = None
    alignment_milliseconds: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a worker stands on. The openers are called again after a failure, so they must not need a restart.

    ``unseal`` opens a stored credential, ``derive`` gives a key for a purpose: both are the vault's. ``claims`` takes
    the one use of an approval, among all workers of all hosts.
    ``spool_waiting`` says how many records and bytes wait for the event log. ``wait_durable`` is set where
    side-effecting calls wait for the disk. ``load_encoder`` opens the sentence encoder, or raises ``InputError``.
    """

    open_reader: Callable[[], Reader]
    open_epoch: Callable[[], Epoch]
    unseal: Callable[[str, str], bytes]
    derive: Callable[[str], bytes]
    claims: Claims
    spool: Spool
    spool_waiting: Callable[[], tuple[int, int]]
    wait_durable: Callable[[], Awaitable[None]] | None = None
    load_encoder: Callable[[], Encoder] | None = None


class Gateway:
    """The application of one worker."""

    def __init__(
        self, config: GatewayConfig, outside: Outside, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        base_url = config.base_url.rstrip("/")
        self._config, self._outside, self._now = config, outside, now
        self._base_url = base_url
        self.metrics = Metrics()
        self.watch = Watch(config.decision_seconds)
        self.state = State(
            open_reader=outside.open_reader,
            open_epoch=outside.open_epoch,
            unseal=outside.unseal,
            lease_seconds=config.lease_seconds,
        )
        holds = Holds(
            Seal(outside.derive("gateway holds"), "retry token"),
            timedelta(seconds=config.hold_seconds),
            config.holds_per_agent_hour,
        )
        files = self._open_conversations()
        self._conversations = Conversations(files)
        recorder = Recorder(config.tenant, config.worker_id)
        self.aligner = Aligner(outside.load_encoder, milliseconds=config.alignment_milliseconds, metrics=self.metrics)
        self._board = Board(config.run_directory / "counts", config.worker_id)
        self._activity = Activity(self._board)
        self.enforcer = Enforcer(
            state=self.state,
            verifier=TokenVerifier(config.issuer, base_url),
            credentials=Credentials(config.issuer, self.state.secret),
            approvals=Approvals(self.state, holds, outside.claims),
            activity=self._activity,
            recorder=recorder,
            spool=outside.spool,
            conversations=self._conversations,
            aligner=self.aligner,
            metrics=self.metrics,
            tenant=config.tenant,
            wait_durable=outside.wait_durable,
            watch=self.watch,
            now=now,
        )
        self._upstreams = Upstreams()
        self._flights = Flights()
        addresses = Addresses(config.trusted_proxies)
        self._mcp = McpDoor(
            self.enforcer,
            self._upstreams,
            self._flights,
            Seal(outside.derive("gateway sessions"), "session"),
            addresses,
            base_url=base_url,
            max_body_bytes=config.max_body_bytes,
            allowed_origins=config.allowed_origins,
        )
        self._decide = DecideDoor(self.enforcer, addresses, base_url=base_url, max_body_bytes=config.max_body_bytes)
        self._agent365 = Agent365Door(
            self.enforcer, self._mcp, addresses, base_url=base_url, max_body_bytes=config.max_body_bytes
        )
        contents = Contents(self.enforcer, recorder, outside.spool, self.watch)
        self._litellm = LiteLlmDoor(self.enforcer, contents, addresses, max_body_bytes=config.max_body_bytes)
        self.ext_authz: ExtAuthzDoor | None = None
        self._lane_metrics: list[Metrics] = []
        self._copilot_studio = self._open_copilot_studio(files, addresses)
        self._is_draining = False

    def _open_conversations(self) -> Files:
        """Where conversations are kept: on this host, or in the database that all hosts share."""
        config = self._config
        key = hashlib.sha256(self._outside.derive("gateway conversations")).digest()
        if config.conversations_database:
            # Its driver is loaded where it is needed, and nowhere else.
            from watchfloor.storage.conversations_postgres import ConversationTable

            return ConversationTable(config.conversations_database, key)
        return ConversationFiles(config.conversations_directory or config.run_directory / "conversations", key)

    def _open_copilot_studio(self, files: Files, addresses: Addresses) -> CopilotStudioDoor | None:
        """The webhook's door, whose decisions are taken in threads of their own, each by an enforcer of its own."""
        config, outside, studio, now = self._config, self._outside, self._config.copilot_studio, self._now
        if studio is None:
            return None
        # The rest of the time is for everything else.
        aligning = min(float(config.alignment_milliseconds), _LANE_ALIGNING * studio.deadline_seconds * 1000)

        def make_engine() -> LaneEngine:
            state = State(
                open_reader=outside.open_reader,
                open_epoch=outside.open_epoch,
                unseal=lambda sealed, name: b"",  # nothing goes out from there
                lease_seconds=config.lease_seconds,
            )
            holds = Holds(
                Seal(outside.derive("gateway holds"), "retry token"),
                timedelta(seconds=config.hold_seconds),
                config.holds_per_agent_hour,
            )
            spool, metrics = TicketedSpool(outside.spool), Metrics()
            enforcer = Enforcer(
                state=state,
                verifier=TokenVerifier(config.issuer, self._base_url),
                credentials=Credentials(config.issuer, state.secret),
                approvals=Approvals(state, holds, outside.claims),
                recorder=Recorder(config.tenant, config.worker_id),
                spool=spool,
                conversations=Conversations(files, max_bytes=_LANE_CONVERSATIONS),
                aligner=LaneAligner(self.aligner, milliseconds=aligning, metrics=metrics),
                metrics=metrics,
                tenant=config.tenant,
                now=now,
            )
            if len(self._lane_metrics) > _MOST_LANES:  # of lanes that are long gone
                self._lane_metrics[:] = [Metrics().with_those_of(self._lane_metrics)]
            self._lane_metrics.append(metrics)
            with contextlib.suppress(Unusable):  # questions will say so
                state.check()
            return LaneEngine(enforcer, spool, studio, now)

        asked: lanes.Lanes[Asked, Outcome] = lanes.Lanes(make_engine, studio.deadline_seconds)
        return CopilotStudioDoor(
            studio,
            self.enforcer,
            TenantKeys(studio.jwks_url, fetch_keys),
            asked,
            addresses,
            wait_durable=outside.wait_durable,
            now=now,
        )

    # -- requests -------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith("/mcp/") and is_name(server := path[5:]):
                await self._mcp.handle(scope, receive, send, server)
            elif path.startswith("/agents/"):
                await self._agent365.handle(scope, receive, send, path.removeprefix("/agents/"))
            elif path == litellm.PATH:
                await self._litellm.handle(scope, receive, send)
            elif path.startswith("/guard/v1/"):
                await self._decide.handle(scope, receive, send, path.removeprefix("/guard/v1/"))
            elif self._copilot_studio is not None and path.startswith(f"{COPILOT_STUDIO}/"):
                await self._copilot_studio.handle(scope, receive, send, path.removeprefix(f"{COPILOT_STUDIO}/"))
            else:
                await self._about(path, scope["method"], send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _about(self, path: str, method: str, send: Send) -> None:
        """What the gateway says of itself."""
        resource = path.removeprefix("/.well-known/oauth-protected-resource/")
        is_resource = resource == "agents" or (resource.startswith("mcp/") and is_name(resource.removeprefix("mcp/")))
        if method not in ("GET", "HEAD"):
            await asgi.answer_json(send, 405, {"error": "method_not_allowed"})
        elif path == "/healthz":
            await asgi.answer_json(send, 200, self._health())
        elif path == "/readyz":
            problems = self.problems()
            await asgi.answer_json(
                send, 503 if problems else 200, {"status": "not ready" if problems else "ready", "problems": problems}
            )
        elif path == "/metrics":
            await asgi.answer(send, 200, self._render_metrics(), [(b"content-type", b"text/plain; version=0.0.4")])
        elif resource != path and is_resource:
            metadata = {
                "resource": f"{self._base_url}/{resource}",
                "authorization_servers": [self._config.issuer],
                "bearer_methods_supported": ["header"],
            }
            await asgi.answer(send, 200, orjson.dumps(metadata), [asgi.JSON, (b"cache-control", b"max-age=300")])
        else:
            await asgi.answer_json(send, 404, {"error": "not_found"})

    def _health(self) -> dict[str, str]:
        alignment = "ready" if self.aligner.is_ready else self.aligner.problem
        return {"status": "alive", "worker": self._config.worker_id, "alignment": alignment}

    def problems(self) -> list[str]:
        """Why this worker should get no calls; empty when it should."""
        found = []
        problem = self.state.problem()
        if problem is not None:
            found.append(problem)
        if self._outside.spool_waiting()[1] >= self._config.spool_max_bytes:
            found.append("The spool is full: decisions cannot be recorded.")
        if self._is_draining:
            found.append("The worker is shutting down.")
        return found

    def _render_metrics(self) -> bytes:
        records, size = self._outside.spool_waiting()
        return self.metrics.with_those_of(self._lane_metrics).render(
            {
                "spool_records": records,
                "spool_bytes": size,
                "calls_in_flight": len(self._flights),
                "alignment_is_ready": float(self.aligner.is_ready),
                "state_revision": self.state.revision,
                "decisions_interrupted": self.watch.overruns,
                "state_is_stale": float(self.state.is_stale),
                "state_unreadable_values": len(self.state.problems),
            }
        )

    # -- life -----------------------------------------------------------------------------------------------------

    def start_watch(self) -> None:
        """Watch over the decisions of this process, which must be a worker's own; called in its main thread."""
        memory = self._config.memory_bytes
        self.watch.start(memory if memory and limit_memory(memory) else 0)

    def drain(self, limit: float) -> None:
        """Take no more work. Endless streams are ended at once, calls in flight shortly before ``limit`` seconds."""
        self._is_draining = True
        self._flights.end_all(only_streams=True)
        asyncio.get_running_loop().call_later(max(0.0, limit - _LAST_WORD_SECONDS), self._flights.end_all)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        ticking: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._upstreams.start()
                try:
                    await self._start_ext_authz()
                except WatchfloorError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                if self._copilot_studio is not None:
                    self._copilot_studio.start()
                self.aligner.open()
                ticking = asyncio.create_task(self._tick())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if ticking is not None:
                    ticking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await ticking
                if self.ext_authz is not None:
                    await self.ext_authz.stop(_LAST_WORD_SECONDS)
                if self._copilot_studio is not None:
                    self._copilot_studio.stop()
                self._upstreams.close()
                self.aligner.close()
                self.enforcer.flush()
                self._board.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _start_ext_authz(self) -> None:
        config = self._config
        if not config.ext_authz_port:
            return
        from watchfloor.gateway.ext_authz.door import ExtAuthzDoor  # brings gRPC along, which other workers do without

        self.ext_authz = ExtAuthzDoor(
            self.enforcer,
            self._decide.remember,
            config.ext_authz_host,
            config.ext_authz_port,
            base_url=self._base_url,
            max_body_bytes=config.max_body_bytes,
        )
        await self.ext_authz.start()

    async def _tick(self) -> None:
        """Keep state fresh while nobody calls, and end what may not go on. Calls do not rely on it."""
        problem: str | None = None
        revision = self.state.revision
        swept = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            try:
                now_problem = None
                try:
                    self.state.check()
                except Unusable as error:
                    now_problem = str(error)
                self.enforcer.flush()
                self._activity.share(time.monotonic())
                if now_problem != problem:
                    problem = now_problem
                    _LOG.warning("calls are refused: %s", problem) if problem else _LOG.warning("state is good again")
                if problem is not None or self.state.revision != revision:
                    revision = self.state.revision
                    self._flights.recheck()
                if loop.time() - swept > _SWEEP_SECONDS:
                    swept = loop.time()
                    self._conversations.sweep()
            except Exception:  # the tick must outlive whatever goes wrong in it
                _LOG.exception("keeping state fresh failed")
            await asyncio.sleep(_TICK_SECONDS)


def build_gateway(config: GatewayConfig, outside: Outside) -> Gateway:
    """The worker that ``config`` describes."""
    return Gateway(config, outside)
