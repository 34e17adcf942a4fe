"""Our own directory as an identity provider: users whom nobody else keeps.

What is asked for happens to our own state, in a transaction of its own, and holds from its acknowledgement on. The same
functions as the portal's buttons, so that the audit log reads alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from watchfloor.identity import sessions
from watchfloor.identity.connector import Ability, Account, AccountState, ConnectorRefused, DirectoryAccount
from watchfloor.model.people import RiskLevel
from watchfloor.storage import people
from watchfloor.storage.control import ControlTx, SqlControlStore

_ACTOR = "system:connector"
_REASON = "asked of the embedded directory"


class EmbeddedConnector:
    """See the module."""

    kind = "embedded"
    abilities = frozenset(Ability) - {Ability.SET_RISK}

    def __init__(self, issuer: str, control: SqlControlStore) -> None:
        self._issuer, self._control = issuer, control

    def close(self) -> None:
        """Nothing is held."""

    def revoke_sessions(self, account: Account) -> Mapping[str, str]:
        """See the port. Where there can be none any more, nothing changes."""
        with self._control.tx(_ACTOR) as tx:
            user = self._user(tx, account)
            if sessions.has_no_sessions(user):
                return {"epoch": str(user.epoch), "not_before": str(user.not_before)}
            revoked = sessions.revoke_user(tx, user.id, _REASON)
        return {"epoch": str(revoked.epoch), "not_before": str(revoked.not_before)}

    def require_password_reset(self, account: Account) -> Mapping[str, str]:
        """See the port; ends sessions as well."""
        with self._control.tx(_ACTOR) as tx:
            user = self._user(tx, account)
            if user.must_reset_password:
                return {"must_reset_password": "true"}
            revoked = sessions.revoke_user(tx, user.id, _REASON, require_password_reset=True)
        return {"must_reset_password": "true", "epoch": str(revoked.epoch)}

    def set_risk(self, account: Account, level: RiskLevel) -> Mapping[str, str]:
        """Refused: the risk of a user is our own finding, nobody has to be told of it."""
        raise ConnectorRefused("The embedded directory has no risk of its own: it is set here.")

    def set_enabled(self, account: Account, is_enabled: bool) -> Mapping[str, str]:
        """See the port; disabling ends sessions as well."""
        with self._control.tx(_ACTOR) as tx:
            sessions.set_user_enabled(tx, self._user(tx, account).id, is_enabled, _REASON)
        return {"is_enabled": str(is_enabled).lower()}

    def read_state(self, account: Account) -> AccountState:
        """See the port. Sessions are not counted: tokens are valid by their epoch, not by a list."""
        with self._control.read() as tx:
            user = self._user(tx, account)
            return AccountState(
                read_at=tx.now,
                is_enabled=user.is_enabled,
                must_reset_password=user.must_reset_password,
                sessions_valid_from=user.not_before,
                risk=user.risk,
                detail={"user": user.id, "epoch": str(user.epoch)},
            )

    def list_accounts(self) -> Iterator[DirectoryAccount]:
        """See the port."""
        with self._control.read() as tx:
            users = people.list_users(tx)
        subjects = {user.id: user.subject for user in users}
        for user in users:
            if user.issuer == self._issuer:
                yield DirectoryAccount(
                    account=Account(user.issuer, user.subject, user.upn),
                    name=user.name,
                    email=user.upn,
                    is_enabled=user.is_enabled,
                    groups=user.groups,
                    department=user.department,
                    job_title=user.job_title,
                    manager=subjects.get(user.manager, ""),
                )

    def _user(self, tx: ControlTx, account: Account) -> people.User:
        user = people.find_user_by_subject(tx, self._issuer, account.subject)
        if user is None:
            raise ConnectorRefused(f"There is no user {account.subject!r} of {self._issuer}.")
        return user
