"""Proof of enforcement: is a blocked agent really refused, now, by every worker, at every door?

The control plane asks as the agent would, with a token of the agent as it is now, and keeps what it was answered and
how long after the block. What it asks for is a tool that nobody has, with a token that lets nothing out
(``identity.proving``): not even a door that refuses nothing can do harm. Above ``identity.proving`` and ``storage``;
``Gateway`` is its way to the doors (``connectors/gateway.py``). It does not block: that is ``response.catalog``.

INVARIANT: a check counts as refused only where the answer names the block as its reason. A door that is silent, refuses
for another reason or lets the call through is no proof, and raises an alert.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from watchfloor.detection.keep import keep
from watchfloor.identity.proving import ProofTokens
from watchfloor.model.agents import AgentState
from watchfloor.model.cases import AlertDraft, Entity, EntityKind, EntityRole
from watchfloor.model.errors import Conflict, NotFound, Unavailable
from watchfloor.model.verdicts import Severity
from watchfloor.registry import agentstore
from watchfloor.storage import actions, inventory

if TYPE_CHECKING:
    from watchfloor.storage.actions import ActionRecord
    from watchfloor.storage.control import ControlTx, SqlControlStore

ACTION: Final = "prove_block"
RULE: Final = "block-not-enforced"
PROVEN: Final = "proven"
FAILED: Final = "failed"
BLOCKED: Final = "agent_blocked"
GRACE: Final = timedelta(seconds=1)
"""How long after a block workers of other hosts may take to know of it (design, section 13)."""
_BLOCKING: Final = frozenset({"block_agent", "confirm_agent_compromised"})
_SERVERS: Final = 3
"""Tool servers of the agent that are asked for; what refuses it stands before what tells them apart."""
_CONNECTIONS: Final = 24
_KNOWN_ALL: Final = 8
"""Connections in a row that met no worker which was not met before: then all of them were."""
_AGAIN_SECONDS: Final = 0.05
_VERSION: Final = "2026-07-28"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "watchfloor", "version": "1"},
}


@dataclass(frozen=True, slots=True)
class Question:
    """One request at a door. ``read`` finds the reason code in what was answered; empty: it was not refused."""

    door: str
    about: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    read: Callable[[int, Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Check:
    """What one door of one worker answered. ``after_ms``: since the block; ``took_ms``: the request itself."""

    door: str
    about: str
    worker: str
    is_refused: bool
    code: str
    says: str
    after_ms: float
    took_ms: float
    tries: int = 1

    def to_json(self) -> dict[str, Any]:
        """As the record holds it."""
        return {name: getattr(self, name) for name in self.__slots__}


class Line(Protocol):
    """A connection to one worker."""

    @property
    def worker(self) -> str:
        """Which one."""
        ...

    def ask(self, question: Question) -> tuple[int, Mapping[str, Any]] | None:
        """Status and body; None where there is no such door. Raises ``Unavailable``."""
        ...


class Gateway(Protocol):
    """Where the doors are."""

    def connect(self) -> AbstractContextManager[Line]:
        """A new connection; whichever worker takes it. Raises ``Unavailable``."""
        ...


def unproven(tx: ControlTx) -> list[str]:
    """Blocked agents whose present block was never proved, as far as operators' blocks go: those that are on record."""
    found = []
    for agent in inventory.list_agents(tx, state=AgentState.BLOCKED):
        records = actions.list_records(tx, subject=f"agent/{agent.id}")
        latest = next((record for record in records if record.action in (ACTION, *_BLOCKING)), None)
        if latest is not None and latest.action in _BLOCKING:
            found.append(agent.id)
    return found


# -- what is asked ------------------------------------------------------------------------------------------------


def questions(agent_id: str, tokens: Mapping[str, str], tool: str) -> list[Question]:
    """A request for each door. ``tokens``: by path of the resource, ``agents`` and ``mcp/{server}``."""
    found: list[Question] = []
    own = {"authorization": f"Bearer {tokens['agents']}", "content-type": "application/json"}
    for path, token in tokens.items():
        if not path.startswith("mcp/"):
            continue
        server = path.removeprefix("mcp/")
        headers = {**own, "authorization": f"Bearer {token}"}
        call = {"name": tool, "arguments": {}, "_meta": _META}
        rpc = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        spoken = {"mcp-protocol-version": _VERSION, "mcp-method": "tools/call", "mcp-name": tool,
                  "accept": "application/json, text/event-stream"}  # fmt: skip
        found.append(Question("mcp", server, "POST", f"/{path}", {**headers, **spoken}, orjson.dumps(rpc), _rpc_code))
        decide = orjson.dumps({"server": server, "tool": tool, "arguments": {}})
        found.append(Question("decide", server, "POST", "/guard/v1/decide", headers, decide, _verdict_code))
    listing = f"/agents/v2/{agent_id}/mcpServers"
    found.append(Question("agent365", agent_id, "GET", listing, own, b"", _error_code))
    studio = {
        "plannerContext": {"userMessage": "", "thought": "", "chatHistory": [], "previousToolsOutputs": []},
        "toolDefinition": {"id": tool, "type": "tool", "name": tool},
        "inputValues": {},
        "conversationMetadata": {
            "agent": {"id": agent_id},
            "conversationId": tool,
            "trigger": {"id": "proof"},
        },
    }
    path = "/copilot-studio/analyze-tool-execution?api-version=2025-05-01"
    found.append(Question("copilot-studio", agent_id, "POST", path, own, orjson.dumps(studio), _webhook_code))
    return found


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _rpc_code(status: int, body: Mapping[str, Any]) -> str:
    return str(_mapping(_mapping(body.get("error")).get("data")).get("code") or "")


def _verdict_code(status: int, body: Mapping[str, Any]) -> str:
    reasons = body.get("reasons")
    if status == 200 and body.get("verdict") == "block" and isinstance(reasons, list) and reasons:
        return str(reasons[0])
    return _error_code(status, body)


def _error_code(status: int, body: Mapping[str, Any]) -> str:
    return str(body.get("error") or "") if status >= 400 else ""


def _webhook_code(status: int, body: Mapping[str, Any]) -> str:
    if status != 200 or body.get("blockAction") is not True:
        return ""
    try:
        return str(_mapping(orjson.loads(str(body.get("diagnostics")))).get("code") or "")
    except orjson.JSONDecodeError:
        return ""


# -- asking -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prover:
    """Asks and keeps. ``sleep`` and ``clock`` are seconds."""

    control: SqlControlStore
    tokens: ProofTokens
    gateway: Gateway
    now: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.perf_counter

    def prove(self, agent_id: str, actor: str) -> ActionRecord:
        """The proof for ``agent_id``, kept. Takes about as long as a request for each door and worker.

        Raises ``NotFound``; ``Conflict`` for an agent that is not blocked, or is not any more when all was asked.
        """
        with self.control.read() as tx:
            block = _block_of(tx, agent_id)
            bound = {binding.server_id for binding in inventory.list_bindings(tx, agent_id=agent_id)}
            servers = sorted(bound or {server.id for server in inventory.list_servers(tx)})[:_SERVERS]
        paths = ("agents", *(f"mcp/{server}" for server in servers))
        tool = f"watchfloor-proof-{secrets.token_hex(4)}"
        asked = questions(agent_id, {path: self.tokens.mint(agent_id, path) for path in paths}, tool)
        here = (self._service(agent_id, block.at), self._store(agent_id, block.at))
        checks = [*here, *self._workers(asked, block.at)]
        with self.control.tx(actor) as tx:
            if _block_of(tx, agent_id).epoch != block.epoch:
                raise Conflict(f"agent {agent_id} was unblocked meanwhile.", where="agent")
            return _keep(tx, agent_id, block, checks, servers)

    def _service(self, agent_id: str, blocked_at: datetime) -> Check:
        begun = self.clock()
        code = self.tokens.refusal_of_service(agent_id)
        return self._check("token-service", agent_id, "", code, "", blocked_at, begun, 1)

    def _store(self, agent_id: str, blocked_at: datetime) -> Check:
        begun = self.clock()
        with self.control.read() as tx:
            is_offered = any(offer.agent.id == agent_id for offer in agentstore.list_offers(tx, "", everything=True))
        code, says = ("", "It is still on offer.") if is_offered else (BLOCKED, "")
        return self._check("store", agent_id, "", code, says, blocked_at, begun, 1)

    def _workers(self, asked: Sequence[Question], blocked_at: datetime) -> list[Check]:
        checks: list[Check] = []
        met: set[str] = set()
        known = 0
        for _ in range(_CONNECTIONS):
            begun = self.clock()
            try:
                with self.gateway.connect() as line:
                    if line.worker in met:
                        known += 1
                    else:
                        met.add(line.worker)
                        known = 0
                        checks += [c for q in asked if (c := self._ask(line, q, blocked_at)) is not None]
            except Unavailable as error:
                checks.append(self._check("gateway", "", "", "", str(error), blocked_at, begun, 1))
                break
            if known >= _KNOWN_ALL:
                break
        return checks

    def _ask(self, line: Line, question: Question, blocked_at: datetime) -> Check | None:
        tries = 0
        while True:
            tries += 1
            begun = self.clock()
            code, says = "", ""
            try:
                answer = line.ask(question)
                if answer is None:
                    return None
                code = question.read(*answer)
                says = "" if code == BLOCKED else f"HTTP {answer[0]}: {orjson.dumps(answer[1]).decode()[:300]}"
            except Unavailable as error:
                says = str(error)
            if code == BLOCKED or self.now() >= blocked_at + GRACE:
                return self._check(question.door, question.about, line.worker, code, says, blocked_at, begun, tries)
            self.sleep(_AGAIN_SECONDS)

    def _check(
        self, door: str, about: str, worker: str, code: str, says: str, blocked_at: datetime, begun: float, tries: int
    ) -> Check:
        took, after = (self.clock() - begun) * 1000, (self.now() - blocked_at).total_seconds() * 1000
        return Check(door, about, worker, code == BLOCKED, code, says, round(after, 1), round(took, 2), tries)


@dataclass(frozen=True, slots=True)
class _Block:
    """``epoch`` tells one block of the agent from the next; ``at``: when it was acknowledged, as far as is known."""

    epoch: int
    at: datetime


def _block_of(tx: ControlTx, agent_id: str) -> _Block:
    agent = inventory.find_agent(tx, agent_id)
    if agent is None:
        raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
    if agent.state is not AgentState.BLOCKED:
        message = f"agent {agent_id} is {agent.state.value}, not blocked: there is nothing to prove."
        raise Conflict(message, where="agent", remedy="Block it first.")
    records = actions.list_records(tx, subject=f"agent/{agent_id}")
    at = next((r.created_at for r in records if r.action in _BLOCKING and r.created_at is not None), tx.now)
    return _Block(agent.epoch, at)


def _keep(tx: ControlTx, agent_id: str, block: _Block, checks: Sequence[Check], servers: Sequence[str]) -> ActionRecord:
    failed = [check for check in checks if not check.is_refused]
    detail = {
        "blocked_at": block.at.isoformat(),
        "agent_epoch": block.epoch,
        "workers": sorted({check.worker for check in checks if check.worker}),
        "servers": list(servers),
        "checks": [check.to_json() for check in checks],
    }
    status = FAILED if failed else PROVEN
    record = actions.add_record(tx, ACTION, f"agent/{agent_id}", status, detail)
    tx.audit("agent:prove-block", f"agent/{agent_id}", {"status": status, "record": record.id, "failed": len(failed)})
    if failed:
        keep(tx, [_draft(tx, agent_id, record, failed)], f"agent/{agent_id}")
    return record


def _draft(tx: ControlTx, agent_id: str, record: ActionRecord, failed: Sequence[Check]) -> AlertDraft:
    doors = ", ".join(dict.fromkeys(f"{c.door} ({c.code or c.says[:80] or 'let through'})" for c in failed))
    return AlertDraft(
        rule_id=RULE,
        dedup_key=f"{agent_id}/{tx.now:%Y-%m-%dT%H}",
        title=f"The block of agent {agent_id} is not enforced everywhere",
        description=f"The agent is blocked, and {len(failed)} checks were not refused because of that: {doors}.",
        severity=Severity.CRITICAL,
        tactic="Defense Evasion",
        techniques=("T1562",),
        entities=(Entity(EntityKind.AGENT, agent_id, agent_id, EntityRole.RELATED),),
        evidence=(),
        first_activity=tx.now,
        last_activity=tx.now,
        recommended_actions=(
            "Stop the gateway workers that are named, or take them off the network, until they refuse the agent.",
            "Prove the block again once they run.",
        ),
        detail={"count": len(failed), "stopped": 0, "attempted_tactic": "Defense Evasion", "reason_code": RULE,
                "policy_id": "", "actions": [], "events": [], "record": record.id},
    )  # fmt: skip
