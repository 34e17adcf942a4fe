"""A small real company for end-to-end tests: the product's processes, an identity provider, one tool server.

Everything is real: `watchfloor up` with its processes, RS256 sign-ins from a JWKS served over HTTP, an MCP server of
the official SDK. The tool server journals every call that reaches it: that journal is the truth that tests count by.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

AGENT_SECRET = "test-agent-secret-0123456789-0123456789-abcdef"
TOOL_SECRET = "test-tool-secret-0123456789-0123456789-abcdef"


def free_port() -> int:
    """A port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], timeout: float = 20.0, what: str = "condition") -> Any:
    """The first true value of ``condition``; fails after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.02)


class SignIns:
    """An identity provider: serves its JWKS and signs people in."""

    def __init__(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key = RSAKey.import_key(private, {"kid": "test-1", "use": "sig", "alg": "RS256"})
        body = json.dumps({"keys": [self.key.as_dict(private=False)]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._httpd.server_port}"
        threading.Thread(target=self._httpd.serve_forever, daemon=True).start()

    def sign_in(self, user: str, *, auth_time: int | None = None) -> str:
        """An ID token for ``user``."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "watchfloor",
            "sub": user,
            "sid": f"session-{user}-{now}",
            "auth_time": auth_time or now,
            "iat": now,
            "exp": now + 3600,
        }
        return jwt.encode({"alg": "RS256", "kid": "test-1", "typ": "JWT"}, claims, self.key, algorithms=["RS256"])

    def close(self) -> None:
        """Stop serving."""
        self._httpd.shutdown()


@dataclass
class Company:
    """A running installation with its surroundings."""

    directory: Path
    users: tuple[str, ...] = ("griffin", "mona")
    workers: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.data = self.directory / "data"
        self.port, self.gateway_port, self.tool_port = free_port(), free_port(), free_port()
        self.receiver_port, self.grpc_port = free_port(), free_port()
        self.receiver = f"http://127.0.0.1:{self.receiver_port}"
        self.server, self.gateway = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.gateway_port}"
        self.sign_ins = SignIns()
        self.journal = self.directory / "tool-calls.jsonl"
        self.journal.touch()
        self.tool_process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("toolserver.py")), str(self.tool_port), str(self.journal)],
            env=os.environ | {"TOOL_SECRET": TOOL_SECRET},
        )

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the product and wait until it is up."""
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "watchfloor", "up", "--json", "--data", str(self.data), "--port", str(self.port),
                "--gateway-port", str(self.gateway_port), "--workers", str(self.workers),
                "--receiver-port", str(self.receiver_port), "--receiver-grpc-port", str(self.grpc_port),
            ],
            stdout=subprocess.DEVNULL,
            env=os.environ | dict(self.environment),
        )  # fmt: skip
        wait_until(self._is_up, 60, "start of the product")
        self.client = httpx.Client(
            base_url=self.server,
            timeout=20,
            headers={"authorization": f"Bearer {(self.data / 'run' / 'admin.token').read_text().strip()}"},
        )

    def _is_up(self) -> bool:
        assert self.process and self.process.poll() is None, self.logs()
        return (self.data / "run" / "up.json").exists()

    def is_answering(self) -> bool:
        """Whether the server is there."""
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """Stop the product as Ctrl-C would."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def close(self) -> None:
        """Stop everything."""
        self.stop()
        self.tool_process.kill()
        self.tool_process.wait()
        self.sign_ins.close()

    def pid(self, name: str) -> int:
        """Process id of ``server``, ``store`` or ``gateway-N``."""
        return int(json.loads((self.data / "run" / "up.json").read_text())["pids"][name])

    def kill(self, name: str) -> None:
        """kill -9."""
        os.kill(self.pid(name), signal.SIGKILL)

    def logs(self) -> str:
        """The end of every log."""
        return "\n".join(f"== {p.name}\n{p.read_text()[-2000:]}" for p in sorted((self.data / "logs").glob("*.log")))

    # -- doors ----------------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        """The company as a manifest."""
        return {
            "apiVersion": "watchfloor/v1",
            "kind": "Company",
            "organization": {"name": "Testers", "domains": ["testers.example"]},
            "identityProviders": [
                {
                    "issuer": self.sign_ins.issuer,
                    "jwksUri": f"{self.sign_ins.issuer}/jwks",
                    "audience": "watchfloor",
                    "subjectClaim": "sub",
                }
            ],
            "users": [{"id": u, "name": u.title(), "upn": f"{u}@testers.example"} for u in self.users],
            "toolServers": [
                {
                    "id": "mail",
                    "name": "Mail",
                    "url": f"http://127.0.0.1:{self.tool_port}/mcp",
                    "trusted": True,
                    "credential": {"value": TOOL_SECRET},
                    "tools": [
                        {"name": "send_email", "effect": "send"},
                        {"name": "lookup", "effect": "read"},
                        {"name": "watch", "effect": "read"},
                    ],
                }
            ],
            "agents": [
                {
                    "id": "billing",
                    "name": "Billing Agent",
                    "description": "Sends reminders.",
                    "version": "1",
                    "maker": self.users[-1],
                    "owner": self.users[-1],
                    "platform": "Copilot Studio",
                    "secret": {"value": AGENT_SECRET},
                    "tools": [
                        {"server": "mail", "tool": "send_email", "credential": "app", "scope": "write"},
                        {"server": "mail", "tool": "lookup", "credential": "app", "scope": "read"},
                        {"server": "mail", "tool": "watch", "credential": "app", "scope": "read"},
                    ],
                }
            ],
        }

    def api(self, method: str, path: str, **kwargs: Any) -> Any:
        """A call of the product's API as the local administrator; fails on an error status."""
        response = self.client.request(method, path, **kwargs)
        assert response.status_code < 400, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def apply(self, manifest: Mapping[str, Any] | None = None) -> Any:
        """Apply a manifest through the API."""
        text = yaml.safe_dump(dict(manifest or self.manifest()))
        return self.api("POST", "/api/manifests/apply", json={"manifest": text})

    def token(self, user: str, *, agent: str = "billing", server: str = "mail", secret: str = AGENT_SECRET) -> str:
        """A gateway token for ``user`` through ``agent``, by token exchange."""
        response = httpx.post(
            f"{self.server}/sts/token",
            data={
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": self.sign_ins.sign_in(user),
                "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
                "resource": f"{self.gateway}/mcp/{server}",
            },
            headers={"authorization": "Basic " + base64.b64encode(f"{agent}:{secret}".encode()).decode()},
            timeout=20,
        )
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    def calls_at_the_tool(self) -> list[dict[str, Any]]:
        """Every call that reached the tool server."""
        return [json.loads(line) for line in self.journal.read_text("utf-8").splitlines()]


def rpc(tool: str, arguments: Mapping[str, Any], *, user_turns: tuple[str, ...] = (), id: int = 1) -> dict[str, Any]:
    """A tools/call of protocol 2026-07-28."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    }
    if user_turns:
        meta["dev.watchfloor/user-turns"] = list(user_turns)
    params = {"name": tool, "arguments": dict(arguments), "_meta": meta}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def headers(token: str, tool: str) -> dict[str, str]:
    """The HTTP headers that go with it."""
    return {
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }


@contextlib.contextmanager
def running(directory: Path, **kwargs: Any) -> Iterator[Company]:
    """A company that is up, applied and stopped in the end."""
    company = Company(directory, **kwargs)
    try:
        company.start()
        company.apply()
        yield company
    finally:
        company.close()
