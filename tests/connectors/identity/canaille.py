"""canaille, somebody else's identity provider (OIDC and SCIM 2), run as it is out of an environment of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from connectors.identity.machine import free_port, missing

ENVIRONMENT: Final = Path(__file__).parents[3] / ".venv-canaille"
PASSWORD: Final = "Correct-horse-1"
RP_ID, RP_SECRET = "watchfloor", "secret-of-the-relying-party-9d1e"
CONNECTOR_ID, CONNECTOR_SECRET = "connector", "secret-of-the-connector-77c3"
REDIRECT: Final = "http://127.0.0.1:9/callback"
USERS: Final = ("griffin", "mona", "quinn")


def canaille_missing() -> str:
    """What is not installed; empty if all of it is."""
    return missing(str(ENVIRONMENT / ".complete"))


@dataclass
class Canaille:
    """A running canaille; ``mail`` is the port of the mail server that it sends through."""

    folder: Path
    mail_port: int = 9
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its issuer."""
        return f"http://127.0.0.1:{self.port}"

    def commands(self, *commands: tuple[str, ...]) -> list[str]:
        """Run several of its commands; what each printed."""
        done = subprocess.run(
            [str(ENVIRONMENT / "bin" / "python"), "-P", str(Path(__file__).with_name("canaille_seed.py"))],
            input=json.dumps(commands), cwd=self.folder, env=self._environment(), capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        printed: list[str] = json.loads(done.stdout)
        return printed

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "CONFIG": str(self.folder / "canaille.toml"), "HOME": str(self.folder)}

    def start(self) -> None:
        """Make it if it is new, and serve."""
        if not self.folder.exists():
            self._make()
        self.process = subprocess.Popen(
            [str(ENVIRONMENT / "bin" / "canaille"), "run", "--bind", f"127.0.0.1:{self.port}"],
            cwd=self.folder, env=self._environment(), stdout=subprocess.DEVNULL,
            stderr=(self.folder / "canaille.log").open("ab"), start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/.well-known/openid-configuration", timeout=10).status_code == 200:
                    return
            log = (self.folder / "canaille.log").read_text("utf-8", "replace")[-3000:]
            assert self.process.poll() is None and time.monotonic() < deadline, log
            time.sleep(0.1)

    def _make(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "canaille.toml").write_text(f"""
SECRET_KEY = "only-for-this-test-{self.port}"
SERVER_NAME = "127.0.0.1:{self.port}"
TRUSTED_HOSTS = ["127.0.0.1"]
PREFERRED_URL_SCHEME = "http"
BROKER = "dramatiq_eager_broker:EagerBroker"

[CANAILLE]
DATABASE = "sql"
CAPTCHA_ENABLED = false

[CANAILLE_SQL]
DATABASE_URI = "sqlite:///{self.folder}/canaille.sqlite"

[CANAILLE.SMTP]
HOST = "127.0.0.1"
PORT = {self.mail_port}
FROM_ADDR = "idp@zava.example"

[CANAILLE.ACL.DEFAULT]
PERMISSIONS = ["edit_self", "use_oidc"]
READ = ["user_name", "emails"]
WRITE = ["password"]

[CANAILLE_OIDC]
REQUIRE_NONCE = false
""")
        (key,) = self.commands(("jwk", "create", "rsa"))
        with (self.folder / "canaille.toml").open("a") as file:
            made = json.loads(key) | {"alg": "RS256"}  # it would sign with RS512 else
            file.write(f"ACTIVE_JWKS = [{_toml(made)}]\n")
        people = [
            (
                "create", "user", "--user-name", user, "--password", PASSWORD, "--emails", f"{user}@zava.example",
                "--given-name", user.title(), "--family-name", "Lewis" if user == "griffin" else "Kane",
            )
            for user in USERS
        ]  # fmt: skip
        rp = _client(RP_ID, RP_SECRET, "authorization_code", "refresh_token")
        connector = _client(CONNECTOR_ID, CONNECTOR_SECRET, "client_credentials")
        self.commands(("install",), *people, *rp, *connector)

    def stop(self) -> None:
        """End it with its workers."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def _client(name: str, secret: str, *grants: str) -> list[tuple[str, ...]]:
    """Commands that make a client; whose audience is itself, which it can only be told once it is there."""
    make = (
        "create", "client", "--client-id", name, "--client-secret", secret, "--client-name", name,
        "--client-uri", "http://127.0.0.1", "--redirect-uris", REDIRECT, "--response-types", "code",
        "--scope", "openid", "--scope", "email", "--token-endpoint-auth-method", "client_secret_basic",
        *(part for grant in grants for part in ("--grant-types", grant)),
    )  # fmt: skip
    return [make, ("set", "client", "{0}", "--audience", "{0}")]


def _toml(values: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items()) + "}"


@contextlib.contextmanager
def running_canaille(folder: Path, mail_port: int = 9) -> Iterator[Canaille]:
    """Until the end of the block."""
    made = Canaille(folder, mail_port)
    try:
        made.start()
        yield made
    finally:
        made.stop()
