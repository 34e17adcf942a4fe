"""What conditional access said where a token was asked for, as rows of ConditionalAccessEvents.

Below ``identity.sts``, above the event log. Rows are stored before the answer is given; a log that cannot be written
does not turn a refusal into something else, nor a token into a refusal: refusals are in the audit log as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from watchfloor.model.agents import TokenMode
from watchfloor.model.errors import Unavailable
from watchfloor.model.ids import new_id
from watchfloor.storage import people
from watchfloor.storage.access_events import TABLE, rows_of
from watchfloor.storage.log import DEFAULT_PART
from watchfloor.storage.ports import EventLog
from watchfloor.storage.tables import SCHEMA_VERSION, TABLES

if TYPE_CHECKING:
    from watchfloor.model.access import AccessFacts
    from watchfloor.storage.people import User

DOOR: Final = "sts"
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who asked for a token, from where; ``server_id`` is empty where it is for the agent's own affairs."""

    agent_id: str
    user: User | None
    mode: TokenMode
    server_id: str
    session_id: str
    address: str
    auth_time: datetime | None


class AccessLog:
    """See the module. Without a ``log``, nothing is written."""

    def __init__(
        self,
        log: EventLog | None = None,
        *,
        tenant: str = "default",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log, self._tenant, self._now = log, tenant, now

    def note(self, answer: AccessFacts, sign_in: SignIn) -> None:
        """Store one row for each policy that refuses the sign-in, or would."""
        if self._log is None:
            return
        user, at = sign_in.user, self._now()
        row = {
            "Timestamp": at,
            "TenantId": self._tenant,
            "SourceDoor": DOOR,
            "IPAddress": sign_in.address,
            "SchemaVersion": SCHEMA_VERSION,
            "InvocationId": "",
            "SessionId": sign_in.session_id,
            "UserId": user.id if user is not None else "",
            "AccountUpn": user.upn if user is not None else "",
            "AgentId": sign_in.agent_id,
            "ServerId": sign_in.server_id,
            "CredentialMode": sign_in.mode.value,
        }
        age = None if sign_in.auth_time is None else (at - sign_in.auth_time).total_seconds()
        facts = people.user_facts(user) if user is not None else None
        rows = [{**event, "SignInAgeSeconds": age} for event in rows_of(row, answer, facts, None, None)]
        try:
            self._log.append(DEFAULT_PART, TABLES[TABLE].batch(rows), new_id("evt"))
        except Unavailable as error:
            _LOG.warning("what conditional access said to %s is not on record: %s", sign_in.agent_id, error)
