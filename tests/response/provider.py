"""An identity provider for tests: a real HTTP server with accounts that can be told to fail, and a connector to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from watchfloor.identity.connector import (
    Ability,
    Account,
    AccountState,
    ConnectorRefused,
    DirectoryAccount,
    IdentityConnector,
)
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import RiskLevel
from watchfloor.response.ports import Ports

ISSUER = "https://login.zava.example"
EVERYTHING = frozenset(Ability)


@dataclass
class State:
    """An account as the provider has it."""

    live_sessions: int = 3
    must_reset_password: bool = False
    risk: str = "none"
    password_changed_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass
class Provider:
    """What the server knows and was asked. ``faults``: answers to give instead, by operation, in order."""

    url: str = ""
    accounts: dict[str, State] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """``operation subject``, in the order in which they were carried out."""
    faults: dict[str, list[tuple[int, Mapping[str, str]]]] = field(default_factory=dict)
    is_deaf: bool = False
    """Says yes to changes and makes none."""
    on_request: Callable[[str, str], None] = lambda operation, when: None
    """Called with ``before`` and ``after`` around every operation, by the server's thread."""

    def fail(self, operation: str, *statuses: int, **headers: str) -> None:
        self.faults.setdefault(operation, []).extend((status, headers) for status in statuses)

    def of(self, subject: str = "griffin") -> State:
        return self.accounts.setdefault(subject, State())

    def count(self, operation: str, subject: str = "griffin") -> int:
        return self.asked.count(f"{operation} {subject}")

    def change_password(self, at: datetime, subject: str = "griffin") -> None:
        self.of(subject).must_reset_password = False
        self.of(subject).password_changed_at = at.isoformat()

    def carry_out(self, operation: str, subject: str, body: Mapping[str, Any]) -> dict[str, Any]:
        state = self.of(subject)
        self.asked.append(f"{operation} {subject}")
        if operation == "state" or self.is_deaf:
            return state.to_json()
        if operation == "revoke":
            state.live_sessions = 0
        elif operation == "reset":
            state.must_reset_password = True
        elif operation == "risk":
            state.risk = str(body["level"])
        return {"answer": operation}


@contextmanager
def serving() -> Iterator[Provider]:
    """A provider behind a socket."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            _, operation, subject = self.path.split("/")
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            provider.on_request(operation, "before")
            faults = provider.faults.get(operation)
            if faults:
                status, headers = faults.pop(0)
                self._answer(status, {"error": f"fault {status}"}, headers)
                return
            answer = provider.carry_out(operation, subject, body)
            provider.on_request(operation, "after")
            self._answer(200, answer, {})

        def _answer(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class HttpConnector:
    """Speaks to ``serving``'s provider as adapters speak to theirs."""

    kind = "http"

    def __init__(
        self, url: str, abilities: frozenset[Ability] = EVERYTHING, now: Callable[[], datetime] | None = None
    ) -> None:
        self._url = url
        self._abilities = abilities
        self._now = now or (lambda: datetime.now(UTC))

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._abilities

    def _post(self, operation: str, account: Account, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = httpx.post(
                f"{self._url}/{operation}/{account.subject}", json=body or {}, timeout=5, trust_env=False
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"the identity provider does not answer: {type(error).__name__}") from error
        if answer.status_code in (429, 500, 503):
            wait = float(answer.headers.get("retry-after", 0))
            raise Unavailable(f"the identity provider answered {answer.status_code}", retry_after=wait)
        if answer.status_code != 200:
            raise ConnectorRefused(f"the identity provider refused ({answer.status_code}): give the client the right")
        found: dict[str, Any] = answer.json()
        return found

    def revoke_sessions(self, account: Account) -> Mapping[str, str]:
        return self._post("revoke", account)

    def require_password_reset(self, account: Account) -> Mapping[str, str]:
        return self._post("reset", account)

    def set_risk(self, account: Account, level: RiskLevel) -> Mapping[str, str]:
        return self._post("risk", account, {"level": level.value})

    def set_enabled(self, account: Account, is_enabled: bool) -> Mapping[str, str]:
        raise ConnectorRefused("this provider cannot disable accounts")

    def read_state(self, account: Account) -> AccountState:
        said = self._post("state", account)
        changed = said["password_changed_at"]
        return AccountState(
            self._now(),
            must_reset_password=said["must_reset_password"],
            live_sessions=said["live_sessions"],
            password_changed_at=datetime.fromisoformat(changed) if changed else None,
            risk=RiskLevel(said["risk"]),
            detail={"sessions": str(said["live_sessions"])},
        )

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        return iter(())

    def close(self) -> None:
        """Nothing is kept open."""


class OneIssuer:
    """The connectors of an installation with one identity provider."""

    def __init__(self, connector: IdentityConnector, issuer: str = ISSUER) -> None:
        self._connector, self._issuer = connector, issuer

    def find(self, issuer: str) -> IdentityConnector | None:
        return self._connector if issuer == self._issuer else None


def ports_to(provider: Provider, now: Callable[[], datetime] | None = None, **others: Any) -> Ports:
    """Ports of an installation whose users sign in at ``provider``."""
    return Ports(OneIssuer(HttpConnector(provider.url, now=now)), **others)
