"""The demo company as a user starts it: `watchfloor up --demo` on free ports, its commands, its API."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scenarios.company import free_port


@dataclass
class Demo:
    """A running product with its demo company at work."""

    client: httpx.Client
    data: Path

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What a hunting query gives."""
        answer = self.client.post("/api/hunting/run", json={"query": query, "max_rows": 10_000})
        assert answer.status_code == 200, (query, answer.text)
        body = answer.json()
        names = [column["name"] for column in body["columns"]]
        return [dict(zip(names, row, strict=True)) for row in body["rows"]]

    def items(self, path: str, **asked: Any) -> list[dict[str, Any]]:
        """Every item of a list of the API, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self.client.get(path, params=asked)
            assert answer.status_code == 200, (path, answer.text)
            body = answer.json()
            found += body["items"]
            if not body.get("next"):
                return found
            asked["before"] = body["next"]

    def play(self, command: str, *arguments: str, seconds: float = 120) -> str:
        """One of the company's commands; what it printed. Fails if its exit status is not 0."""
        line = [sys.executable, "-m", "watchfloor_demo", command, "--dir", str(self.data / "demo"), *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextlib.contextmanager
def running_demo(directory: Path, *, rate: float) -> Iterator[Demo]:
    """The demo at work in ``directory``, ``rate`` calls a second; stopped in the end, and then its status must be 0."""
    data = directory / "data"
    ports = {f"--{name}": free_port() for name in ("port", "gateway-port", "receiver-port", "receiver-grpc-port")}
    options = {"--data": data, "--demo-base-port": 0, "--demo-rate": rate, **ports}
    given = [str(part) for pair in options.items() for part in pair]
    product = subprocess.Popen(
        [sys.executable, "-m", "watchfloor", "up", "--demo", "--json", *given],
        stdout=subprocess.PIPE, stderr=(directory / "up.log").open("w"), text=True,
    )  # fmt: skip
    try:
        assert product.stdout is not None
        said = product.stdout.readline()
        assert said, (directory / "up.log").read_text()[-3000:]
        addresses = json.loads(said)
        token = Path(addresses["admin_token_file"]).read_text().strip()
        with httpx.Client(
            base_url=addresses["server"], timeout=60, trust_env=False, headers={"authorization": f"Bearer {token}"}
        ) as client:
            yield Demo(client, data)
    finally:
        product.terminate()
        status = product.wait(60)
    assert status == 0, (directory / "up.log").read_text()[-3000:]
