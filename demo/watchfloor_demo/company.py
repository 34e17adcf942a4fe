"""Zava as data: people, agents, records, read from the files under ``data/``.

Everything that looks random (invoices, workstation addresses) is derived from a fixed seed, so that two starts show the
same company. Knows neither ports nor secrets: those are the ``Runtime``'s.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

DATA: Final = Path(__file__).parent / "data"
DOMAIN: Final = "zava.example"
NAME: Final = "Zava"
TENANT: Final = "3f0a7c52-5d0e-4b8e-9b1d-7a1c2e4f6a90"
"""Zava's tenant, as agents name it in their telemetry."""
_SEED: Final = 7700


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who works at Zava. ``address`` is the loopback address of the person's workstation."""

    id: str
    name: str
    title: str
    groups: tuple[str, ...]
    address: str
    department: str
    manager: str | None
    criticality: int | None

    @property
    def mail(self) -> str:
        """The mail address, which is also the sign-in name."""
        return f"{self.id}@{DOMAIN}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A tool (``*``: all tools of the server) that an agent may use, and with whose credentials."""

    server: str
    tool: str
    credential: str
    scope: str


@dataclass(frozen=True, slots=True)
class Agent:
    """One of Zava's agents. ``is_gullible``: follows instructions that it finds in what it reads.

    ``protocol`` is the MCP version that its client speaks. ``runs_as`` is ``user`` (on behalf of whoever asks) or
    ``itself`` (scheduled, nobody asks). ``described`` are members of its manifest that only describe it.
    """

    id: str
    name: str
    description: str
    version: str
    state: str
    maker: str
    owner: str
    sponsor: str
    platform: str
    model: str
    instructions: str
    triggers: tuple[str, ...]
    connected: tuple[str, ...]
    grants: tuple[Grant, ...]
    protocol: str
    is_gullible: bool
    runs_as: str
    address: str
    described: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Supplier:
    """Whom Zava pays."""

    id: str
    name: str
    iban: str
    purpose: str


def read(name: str) -> Any:
    """The content of one data file."""
    return yaml.safe_load((DATA / name).read_text("utf-8"))


@cache
def people() -> Mapping[str, Person]:
    """Everybody, by id."""
    found = {}
    for index, row in enumerate(read("people.yaml")):
        address = f"127.20.{index // 200}.{10 + index % 200}"
        found[row["id"]] = Person(
            row["id"],
            row["name"],
            row["title"],
            tuple(row["groups"]),
            address,
            row["department"],
            row.get("manager"),
            row.get("criticality"),
        )
    return found


def members(*groups: str) -> list[Person]:
    """The people who are in any of ``groups`` (everybody if none is named)."""
    return [p for p in people().values() if not groups or set(groups) & set(p.groups)]


@cache
def agents() -> Mapping[str, Agent]:
    """All agents, by id."""
    found = {}
    for index, row in enumerate(read("agents.yaml")):
        grants = tuple(
            Grant(server, tool, tools.get("credential", "app"), tools.get("scope", "read"))
            for tools in row.get("tools", [])
            for server, tool in (str(tools["tool"]).split("."),)
        )
        found[row["id"]] = Agent(
            id=row["id"],
            name=row["name"],
            description=row["description"],
            version=str(row.get("version", "1")),
            state=row.get("state", "published"),
            maker=row["maker"],
            owner=row.get("owner", row["maker"]),
            sponsor=row["sponsor"],
            platform=row["platform"],
            model=row["model"],
            instructions=" ".join(str(row["instructions"]).split()),
            triggers=tuple(row.get("triggers", ["on message"])),
            connected=tuple(row.get("connected", [])),
            grants=grants,
            protocol=row.get("protocol", "2026-07-28"),
            is_gullible=bool(row.get("gullible", False)),
            runs_as=row.get("runs_as", "user"),
            address=f"127.30.0.{10 + index}",
            described=row.get("described", {}),
        )
    return found


def suppliers() -> list[Supplier]:
    """Whom Zava pays."""
    return [Supplier(r["id"], r["name"], r["iban"], r["for"]) for r in read("suppliers.yaml")]


def customer_rows() -> list[dict[str, Any]]:
    """Customers as the customer system holds them."""
    staff = people()
    rows = []
    for index, (name, domain, city, contact, manager, value) in enumerate(read("customers.yaml"), 1):
        local = ".".join(_ascii(part) for part in contact.lower().split())
        rows.append(
            {
                "id": f"cus-{index:03}",
                "name": name,
                "city": city,
                "contact_name": contact,
                "contact_email": f"{local}@{domain}",
                "phone": f"+49 30 555 {index:04}",
                "account_manager": staff[manager].mail,
                "annual_value": value,
                "notes": "",
            }
        )
    return rows


def partner_domains() -> list[str]:
    """Mail domains of Zava's customers, with whom it does business."""
    return sorted({str(row[1]) for row in read("customers.yaml")})


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def invoice_rows(today: date, count: int = 160) -> list[dict[str, Any]]:
    """Invoices of the last months: most are paid, some open, some overdue."""
    rng = random.Random(_SEED)
    customers = customer_rows()
    rows = []
    for index in range(1, count + 1):
        customer = rng.choice(customers)
        issued = today - timedelta(days=rng.randint(1, 120))
        due = issued + timedelta(days=30)
        age = (today - due).days
        is_paid = age > 0 and rng.random() < 0.8
        rows.append(
            {
                "number": f"INV-{issued.year}-{index:05}",
                "customer_id": customer["id"],
                "customer": customer["name"],
                "amount": round(rng.uniform(120, 18_000), 2),
                "currency": "EUR",
                "issued": issued.isoformat(),
                "due": due.isoformat(),
                "days_overdue": 0 if is_paid else max(age, 0),
                "status": "paid" if is_paid else "overdue" if age > 0 else "open",
            }
        )
    return rows
