"""A real gateway worker between the agent and a tool server that runs AgentDojo's functions.

``Behind`` starts the company, the worker and the tool server, and makes calls as an agent does: MCP over HTTP, the
user's words and the conversation in ``_meta``. What the worker lets through is executed on the scene's environment.
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.dojo.scenes import Call, Dojo, Scene, known_names

PYTHON = os.environ.get("WATCHFLOOR_PYTHON", str(Path(__file__).parents[2] / ".venv/bin/python"))
"""Watchfloor's own environment: the dojo's holds other packages."""
VERSION = "2026-07-28"


class Refused(Exception):
    """The company cannot be set up, or refuses for a reason that has nothing to do with what is measured."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Behind:
    """One worker with its company, for one suite and one of our defences (``careful``, ``careful+alignment``)."""

    def __init__(self, dojo: Dojo, suite: str, tools: dict[str, dict[str, Any]], name: str, *, text: bool) -> None:
        strictness, _, extra = name.partition("+")
        self._dojo, self._text = dojo, text
        self._scene: Scene | None = None
        self._number = 0
        self.reached: list[str] = []
        """Tools that were called at the tool server, in the scene at hand."""
        self._directory = tempfile.TemporaryDirectory(prefix="watchfloor-dojo-")
        self._server = self._serve()
        port = free_port()
        self._gateway_url = f"http://127.0.0.1:{port}"
        environment = dojo.suites[suite].load_and_inject_default_environment({})
        wanted = {
            "tool_server": f"http://127.0.0.1:{self._server.server_port}/mcp",
            "gateway": self._gateway_url,
            "issuer": "http://127.0.0.1:1/sts",
            "directory": known_names(environment),
            "strictness": strictness,
            "alignment": extra == "alignment",
            "tools": list(tools.values()),
        }
        # Neither the time to answer nor the patience of operators is measured here.
        settings = {
            "WATCHFLOOR_LEASE_SECONDS": "60",
            "WATCHFLOOR_SERVER_URL": "http://127.0.0.1:1",
            "WATCHFLOOR_ALIGNMENT_MILLISECONDS": "10000",
            "WATCHFLOOR_HOLDS_PER_AGENT_HOUR": "10000",
            "WATCHFLOOR_HOLDS_PER_APPROVER_HOUR": "100000",
        }
        left_out = ("PYTHONPATH", "WATCHFLOOR_PYTHON")
        ours = {name: value for name, value in os.environ.items() if name not in left_out} | settings
        root = Path(__file__).parents[2]
        if extra == "alignment":
            built = [PYTHON, "-m", "watchfloor", "guard", "alignment", "build", "--data", self._directory.name]
            if subprocess.run(built, cwd=root, env=ours, stdout=subprocess.DEVNULL).returncode:
                raise Refused("the sentence encoder cannot be built. Run `make alignment`.")
        self._company = subprocess.Popen(
            [PYTHON, "-m", "bench.dojo.company", self._directory.name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, env=ours,
        )  # fmt: skip
        assert self._company.stdin is not None and self._company.stdout is not None
        self._company.stdin.write(json.dumps(wanted).encode())
        self._company.stdin.close()
        self._token = json.loads(self._company.stdout.readline())["token"]
        threading.Thread(target=self._renew, daemon=True).start()
        self._worker = subprocess.Popen(
            [PYTHON, "-m", "watchfloor", "gateway", "--data", self._directory.name, "--port", str(port)],
            cwd=root, env=ours, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._wait()
        self._begun = self._worker_seconds()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self._connection.request("GET", "/readyz")
                response = self._connection.getresponse()
                response.read()
                if response.status == 200:
                    return
            except OSError:
                self._connection.close()
            time.sleep(0.1)
        raise Refused("the gateway worker does not start")

    def _renew(self) -> None:
        assert self._company.stdout is not None
        for line in self._company.stdout:
            self._token = json.loads(line)["token"]

    def close(self) -> None:
        self._connection.close()
        for process in (self._worker, self._company):
            process.terminate()
            process.wait(30)
        self._server.shutdown()
        self._directory.cleanup()

    def cpu_seconds(self) -> float:
        """User and system time that the worker took since it was ready."""
        return self._worker_seconds() - self._begun

    def _worker_seconds(self) -> float:
        fields = Path(f"/proc/{self._worker.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")

    # -- the agent ------------------------------------------------------------------------------------------------

    def start(self, scene: Scene) -> None:
        self._scene = scene
        self._number += 1
        self.reached = []

    def call(self, wanted: Call) -> tuple[str, str, Any]:
        """Make a call as the agent: (action, reason, result or None)."""
        assert self._scene is not None
        meta = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "dojo", "version": "1"},
            "dev.watchfloor/user-turns": [self._scene.prompt],
            "dev.watchfloor/conversation-id": f"dojo-{self._number}",
        }
        arguments = json.loads(json.dumps(wanted.arguments, default=str))
        params = {
            "name": wanted.tool,
            "arguments": arguments,
            "_meta": meta,
        }
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        headers = {
            "authorization": f"Bearer {self._token}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": VERSION,
            "mcp-method": "tools/call",
            "mcp-name": wanted.tool,
        }
        before = len(self.reached)
        self._connection.request("POST", "/mcp/dojo", body=body, headers=headers)
        answer = json.loads(self._connection.getresponse().read())
        went_out = len(self.reached) > before
        if "result" in answer:
            assert went_out, "an answer that the tool server did not give"
            return "allow", "", self._value
        code = answer["error"]["data"]["code"]
        assert not went_out, f"{code}: the call reached the tool server"
        if code not in ("held", "untraced_argument"):
            raise Refused(f"the gateway refuses {wanted.tool} for another reason: {code}")
        return ("ask" if code == "held" else "block"), code, None

    # -- the tool server ------------------------------------------------------------------------------------------

    def _execute(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._scene is not None
        params = request["params"]
        self.reached.append(params["name"])
        value, error = self._dojo.run(self._scene, Call(params["name"], params.get("arguments") or {}))
        self._value = value if error is None else f"error: {error}"
        result: dict[str, Any] = {"resultType": "complete", "isError": error is not None}
        if isinstance(value, str) or error is not None or self._text:
            text = self._value if isinstance(self._value, str) else as_text(self._value)
            result["content"] = [{"type": "text", "text": text}]
        else:
            structured = value if isinstance(value, dict) else {"result": value}
            result["content"] = [{"type": "text", "text": json.dumps(structured)}]
            result["structuredContent"] = structured
        return {"jsonrpc": "2.0", "id": request["id"], "result": result}

    def _serve(self) -> http.server.ThreadingHTTPServer:
        execute = self._execute

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                body = json.dumps(execute(request)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


def as_text(value: Any) -> str:
    """As AgentDojo shows a result to its models: YAML."""
    import yaml

    return yaml.dump(value, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, allow_unicode=True)
