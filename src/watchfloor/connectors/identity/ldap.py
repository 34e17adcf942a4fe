"""OpenLDAP with ppolicy, and LemonLDAP::NG before it: the account is in the directory, the sessions in the portal.

Forcing a reset ends no session, and ending sessions forces no reset: whatever locks somebody out does both, first the
directory, so that nobody signs in again in between. Without a portal the directory is all that can be asked, and
sessions that were made of it elsewhere live on; then ``revoke_sessions`` is none of the abilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from watchfloor.connectors.identity.ldap_client import Connection, NoSuchEntry, Server, first
from watchfloor.connectors.identity.ldap_wire import DELETE, REPLACE, All, Equal, Filter, Response
from watchfloor.connectors.identity.lemonldap import Portal
from watchfloor.identity.connector import Ability, Account, AccountState, ConnectorRefused, DirectoryAccount
from watchfloor.model.people import RiskLevel
from watchfloor.storage.control import utc_now

_FOR_EVER: Final = "000001010000Z"
"""ppolicy: locked until somebody unlocks it, not for a time."""
_STATE: Final = ("pwdReset", "pwdChangedTime", "pwdAccountLockedTime")
_PERSON: Final = ("cn", "displayName", "mail", "departmentNumber", "title", "manager", "pwdAccountLockedTime")
_GROUPS: Final = ("groupOfNames", "groupOfUniqueNames")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where people are. ``subject``: the attribute that the issuer's tokens carry. ``group_base``: "" for no groups."""

    people_base: str
    group_base: str = ""
    subject: str = "uid"
    object_class: str = "inetOrgPerson"


class LdapConnector:
    """See the module. ``portal``: None where nothing before the directory can be asked for sessions."""

    kind = "ldap"

    def __init__(self, issuer: str, server: Server, layout: Layout, portal: Portal | None) -> None:
        self._issuer, self._server, self._layout, self._portal = issuer, server, layout, portal

    @property
    def abilities(self) -> frozenset[Ability]:
        """All but saying a risk: a directory knows none."""
        known = {Ability.REQUIRE_PASSWORD_RESET, Ability.SET_ENABLED, Ability.READ_STATE, Ability.LIST_ACCOUNTS}
        return frozenset(known | ({Ability.REVOKE_SESSIONS} if self._portal is not None else set()))

    def close(self) -> None:
        """Let go of connections."""
        if self._portal is not None:
            self._portal.close()

    def revoke_sessions(self, account: Account) -> Mapping[str, str]:
        """See the port. The account must exist: a misspelt one has no sessions, and that would look like done."""
        if self._portal is None:
            raise ConnectorRefused("Sessions cannot be ended: this connector has no portal. Give it one.")
        with Connection.open(self._server) as connection:
            self._find(connection, account, ())
        return self._end_sessions(account)

    def require_password_reset(self, account: Account) -> Mapping[str, str]:
        """See the port; ends sessions as well."""
        with Connection.open(self._server) as connection:
            entry = self._find(connection, account, ())
            self._modify(connection, entry, REPLACE, "pwdReset", "TRUE")
        return {"dn": entry.dn, "pwdReset": "TRUE", **self._end_sessions(account)}

    def set_risk(self, account: Account, level: RiskLevel) -> Mapping[str, str]:
        """Refused: a directory knows no risk."""
        raise ConnectorRefused("A directory knows no risk of its accounts.")

    def set_enabled(self, account: Account, is_enabled: bool) -> Mapping[str, str]:
        """See the port; disabling ends sessions as well."""
        with Connection.open(self._server) as connection:
            entry = self._find(connection, account, ("pwdAccountLockedTime",))
            if not is_enabled:
                self._modify(connection, entry, REPLACE, "pwdAccountLockedTime", _FOR_EVER)
            elif first(entry.attributes or {}, "pwdAccountLockedTime"):
                self._modify(connection, entry, DELETE, "pwdAccountLockedTime")
        locked = "" if is_enabled else _FOR_EVER
        ended = {} if is_enabled else self._end_sessions(account)
        return {"dn": entry.dn, "pwdAccountLockedTime": locked, **ended}

    def read_state(self, account: Account) -> AccountState:
        """See the port. A lock after wrong passwords, which ends by itself, does not count as disabled."""
        with Connection.open(self._server) as connection:
            entry = self._find(connection, account, _STATE)
        sessions = None if self._portal is None else self._portal.find_sessions(account.subject)
        values = entry.attributes or {}
        detail = {name: found for name in _STATE if (found := first(values, name))}
        if sessions is not None:
            detail["sessions"] = ", ".join(sorted(sessions.values())) or "none"
        return AccountState(
            read_at=utc_now(),
            is_enabled=first(values, "pwdAccountLockedTime") != _FOR_EVER,
            must_reset_password=first(values, "pwdReset").upper() == "TRUE",
            live_sessions=None if sessions is None else len(sessions),
            password_changed_at=_time(first(values, "pwdChangedTime")),
            detail={"dn": entry.dn, **detail},
        )

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        """See the port; by pages of the directory."""
        layout = self._layout
        with Connection.open(self._server) as connection:
            groups = self._groups(connection)
            kind = Equal("objectClass", layout.object_class)
            people = self._search(connection, layout.people_base, kind, (layout.subject, *_PERSON))
        subjects = {_key(entry.dn): first(entry.attributes or {}, layout.subject) for entry in people}
        for entry in people:
            values = entry.attributes or {}
            subject = first(values, layout.subject)
            if not subject:
                continue  # nobody can sign in as this
            mail = first(values, "mail")
            yield DirectoryAccount(
                account=Account(self._issuer, subject, mail),
                name=first(values, "displayName") or first(values, "cn"),
                email=mail,
                is_enabled=first(values, "pwdAccountLockedTime") != _FOR_EVER,
                groups=tuple(sorted(groups.get(_key(entry.dn), ()))),
                department=first(values, "departmentNumber"),
                job_title=first(values, "title"),
                manager=subjects.get(_key(first(values, "manager")), ""),
            )

    def _groups(self, connection: Connection) -> dict[str, set[str]]:
        """Names of groups by their members' keys."""
        found: dict[str, set[str]] = {}
        if self._layout.group_base:
            for kind in _GROUPS:
                asked = Equal("objectClass", kind)
                for entry in self._search(connection, self._layout.group_base, asked, ("cn", "member", "uniqueMember")):
                    values = entry.attributes or {}
                    for member in (*values.get("member", ()), *values.get("uniquemember", ())):
                        found.setdefault(_key(member.decode("utf-8", "replace")), set()).add(first(values, "cn"))
        return found

    def _find(self, connection: Connection, account: Account, attributes: tuple[str, ...]) -> Response:
        layout = self._layout
        asked: Filter = All((Equal("objectClass", layout.object_class), Equal(layout.subject, account.subject)))
        found = self._search(connection, layout.people_base, asked, (layout.subject, *attributes))
        if len(found) != 1:
            raise ConnectorRefused(
                f"The directory has {len(found) or 'no'} accounts with {layout.subject}={account.subject!r} "
                f"below {layout.people_base}."
            )
        return found[0]

    @staticmethod
    def _search(connection: Connection, base: str, asked: Filter, attributes: tuple[str, ...]) -> list[Response]:
        try:
            return list(connection.search(base, asked, attributes))
        except NoSuchEntry:
            raise ConnectorRefused(f"{base} is not in the directory. Correct peopleBase or groupBase.") from None

    @staticmethod
    def _modify(connection: Connection, entry: Response, what: int, name: str, *values: str) -> None:
        try:
            connection.modify(entry.dn, [(what, name, values)])
        except NoSuchEntry:
            if what != DELETE:
                raise ConnectorRefused(f"{entry.dn} has gone from the directory.") from None

    def _end_sessions(self, account: Account) -> dict[str, str]:
        if self._portal is None:
            return {"sessions": "not ended: no portal"}
        return {"sessions_ended": str(len(self._portal.end_sessions(account.subject)))}


def _key(dn: str) -> str:
    """A distinguished name, so that two ways to write one compare equal as far as directories vary them themselves."""
    return ",".join(part.strip() for part in dn.lower().split(","))


def _time(value: str) -> datetime | None:
    """A time as LDAP writes it (``20261130153000Z``, maybe with fractions)."""
    try:
        return datetime.strptime(value.split(".")[0].rstrip("Z"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
