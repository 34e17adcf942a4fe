"""What responses need from the outside besides identity providers: somebody to tell other systems, somebody to tell
people.

The ports; ``app`` joins them with what is configured. Both are called inside the transaction that marks their step as
done, so a crash leaves either both or neither: whoever implements them writes its own outbox in that transaction and
sends from there. The same ``key`` never means two messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from watchfloor.identity.connector import Connectors, NoConnectors
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.people import RiskLevel

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.messages import Message


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """What others should know: ``kind`` is CAEP's name (``session-revoked``, ``credential-change``, …).

    ``issuer`` and ``subject`` name a user as their identity provider does, and are empty for agents. ``reason`` is for
    administrators; it holds no secret.
    """

    kind: str
    subject_kind: str
    subject_id: str
    at: datetime
    reason: str
    issuer: str = ""
    subject: str = ""
    upn: str = ""
    level: RiskLevel | None = None
    previous_level: RiskLevel | None = None
    transaction: str = ""
    """What several events belong together by: the response's id."""
    change: str = ""
    """Of ``credential-change``: ``revoke``, the password counts no more; ``update``, the user has set a new one."""


class Emitter(Protocol):
    """Tells other systems, as shared signals."""

    def emit(self, tx: ControlTx, key: str, event: SecurityEvent) -> Mapping[str, str]:
        """Put ``event`` into the outbox under ``key``, unless it is there; what shows it, as evidence, or nothing where
        nobody is to be told. No I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Notice:
    """What people should know. ``managers`` are ids of users; never the mailbox of the subject alone."""

    kind: str
    title: str
    text: str
    subject: str
    incident_id: str | None
    response_id: str
    managers: Sequence[str] = ()
    to_soc: bool = True


class Notifier(Protocol):
    """Tells people."""

    def notify(self, tx: ControlTx, key: str, notice: Notice) -> Mapping[str, str]:
        """Put ``notice`` into the outbox under ``key``, unless it is there; what shows it, as evidence, or nothing if
        nobody is to be told. No I/O."""
        ...


class MessageRefused(WatchfloorError):
    """A message that will not be taken, however often it is sent."""

    code = "message_refused"


class Sender(Protocol):
    """Hands messages over: to a mail server, or to channels."""

    def send(self, message: Message) -> None:
        """Returns once the other side has taken it. Blocks; raises ``MessageRefused``, and ``Unavailable`` if it may be
        taken later. The same message sent twice carries the same id.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """What is configured."""

    connectors: Connectors = field(default_factory=NoConnectors)
    emitter: Emitter | None = None
    notifier: Notifier | None = None
