"""What the portal is given: stores, clocks and the few settings that it needs, as one frozen value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Protocol
from urllib.parse import urlsplit

from fastapi import Depends, Request

from watchfloor.identity.connector import Connectors, NoConnectors
from watchfloor.identity.oidc import SignOns
from watchfloor.identity.operators import Operators
from watchfloor.identity.sts import TokenService
from watchfloor.response.makers import Rules
from watchfloor.response.proof import Prover
from watchfloor.storage.activity import Activity
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.control import SqlControlStore, utc_now
from watchfloor.storage.hunting import Hunter
from watchfloor.storage.hunts import Hunts, Run, query_log
from watchfloor.storage.lists import Catalogue
from watchfloor.storage.ports import EventStore, Scope
from watchfloor.storage.vault import Vault

EXPORTS: Final = 2
"""Exports that run at once: each holds a slice of its table in memory, and takes turns with queries."""


class JobHealth(Protocol):
    """How a background job fares. Times are aware UTC."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def every_seconds(self) -> float:
        """How often it runs at least."""
        ...

    @property
    def last_success(self) -> datetime | None:
        """When it last ran to the end."""
        ...

    @property
    def last_error(self) -> str:
        """Why the last run failed; empty if it did not."""
        ...

    @property
    def runs(self) -> int:
        """Runs since the start."""
        ...

    @property
    def failures(self) -> int:
        """Failed ones among them."""
        ...


def _nothing(name: str) -> None:
    """Nobody to wake."""


def _no_jobs() -> Sequence[JobHealth]:
    return ()


@dataclass(frozen=True)
class PortalDeps:
    """Everything that the portal works with.

    ``epoch`` reads the revision that this host's workers were told of. ``nudge`` wakes a job by name. ``public_url`` is
    how browsers reach the server, ``gateway_url`` how agents reach the gateway, both without a slash at the end.
    """

    control: SqlControlStore
    events: EventStore
    compiler: KqlCompiler
    vault: Vault
    operators: Operators
    epoch: Callable[[], int]
    public_url: str
    gateway_url: str
    tokens: TokenService | None = None
    connectors: Connectors = field(default_factory=NoConnectors)
    prover: Prover | None = None
    sign_ons: SignOns | None = None
    """Sign-ins through an identity provider, where one is set; ``sign_on_name`` is what operators call it."""
    sign_on_name: str = "your organization"
    notices: Rules = field(default_factory=Rules)
    """How makers are told."""
    now: Callable[[], datetime] = utc_now
    nudge: Callable[[str], None] = _nothing
    jobs: Callable[[], Sequence[JobHealth]] = _no_jobs
    tenant: str = "default"
    max_body_bytes: int = 4 * 1024 * 1024
    activity: Activity = field(init=False)
    hunter: Hunter = field(init=False)
    hunts: Hunts = field(init=False)
    exporting: threading.BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        scope = Scope(tenants=(self.tenant,))
        object.__setattr__(self, "activity", Activity(self.events, self.compiler, scope))
        hunter = Hunter(self.events, self.compiler, schema=Catalogue(self.control, self.compiler.schema))
        object.__setattr__(self, "hunter", hunter)
        object.__setattr__(self, "hunts", Hunts(hunter, on_end=self._log))
        object.__setattr__(self, "exporting", threading.BoundedSemaphore(EXPORTS))

    def _log(self, run: Run) -> None:
        """Every query that ended is in the audit log, whatever its end."""
        with self.control.tx(run.owner) as tx:
            tx.audit("hunt:run", f"hunt/{run.id}", query_log(run))

    @property
    def is_https(self) -> bool:
        """Whether browsers come over TLS: cookies are bound to it then."""
        return urlsplit(self.public_url).scheme == "https"


def _deps(request: Request) -> PortalDeps:
    found: PortalDeps = request.app.state.deps
    return found


Deps = Annotated[PortalDeps, Depends(_deps)]
"""A parameter of this type receives the portal's dependencies."""
