"""What is decided when the company first starts in a directory: ports, addresses and secrets.

Kept in one file there, readable by its owner only, so that a restart finds the same company (sign-ins, agents' secrets
and the identity provider's key stay valid) and other commands (``attack``, ``traffic``) can join in. Knows nothing of
what the secrets are for.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

FILE: Final = "company.json"
SERVICES: Final[dict[str, int]] = {
    "identity": 0,
    "smtp": 5,
    "mailbox": 6,
    "site": 7,
    "mail": 11,
    "customers": 12,
    "invoices": 13,
    "knowledge": 14,
    "files": 15,
    "web": 16,
}
"""Service -> offset from the base port (7720: identity provider 7720, SMTP 7725, tool servers 7731 to 7736)."""

TOOL_SERVERS: Final = ("mail", "customers", "invoices", "knowledge", "files", "web")


class NoCompany(Exception):
    """There is no company in the directory named."""


@dataclass(slots=True)
class Runtime:
    """Ports by service, secrets by name, and where the product is (once known)."""

    directory: Path
    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    server: str = ""
    gateway: str = ""
    receiver: str = ""

    def secret(self, name: str, length: int = 32) -> str:
        """The secret of that name, made up on first use."""
        if name not in self.secrets:
            self.secrets[name] = secrets.token_urlsafe(length)
        return self.secrets[name]

    def password(self, user_id: str) -> str:
        """A person's password: four words and a number, so that it can be typed."""
        name = f"password/{user_id}"
        if name not in self.secrets:
            choice = (Path(__file__).parent / "data" / "words.txt").read_text("utf-8").split()
            words = [secrets.choice(choice) for _ in range(4)]
            self.secrets[name] = f"{'-'.join(words)}-{secrets.randbelow(9000) + 1000}"
        return self.secrets[name]

    def signing_key(self) -> str:
        """The identity provider's RSA key (PEM)."""
        if "identity/key" not in self.secrets:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            self.secrets["identity/key"] = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode()
        return self.secrets["identity/key"]

    def url(self, service: str) -> str:
        """Base URL of one of the company's own services."""
        return f"http://127.0.0.1:{self.ports[service]}"

    @property
    def issuer(self) -> str:
        """The identity provider's issuer."""
        return self.url("identity")

    def save(self) -> None:
        """Write the file (0600), whole or not at all."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        places = {"server": self.server, "gateway": self.gateway, "receiver": self.receiver}
        body = {"ports": self.ports, "secrets": self.secrets, **places}
        draft = self.directory / f".{FILE}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(body, file, indent=1, sort_keys=True)
        draft.replace(self.directory / FILE)

    @classmethod
    def load(cls, directory: Path) -> Runtime:
        """The company that was started in ``directory``. Raises ``NoCompany``."""
        try:
            body: dict[str, Any] = json.loads((directory / FILE).read_text("utf-8"))
        except FileNotFoundError:
            raise NoCompany(
                f"{directory} holds no company; start one with: python -m watchfloor_demo run --dir {directory} …"
            ) from None
        places = (body["server"], body["gateway"], body.get("receiver", ""))
        return cls(directory, body["ports"], body["secrets"], *places)

    @classmethod
    def open(cls, directory: Path) -> Runtime:
        """The company of ``directory``, a new one if there is none."""
        try:
            return cls.load(directory)
        except NoCompany:
            return cls(directory)
