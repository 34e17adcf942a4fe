"""Directories: what an identity provider lists becomes our users, and with them what the guard knows by name.

Above ``storage.people`` and the port; a job calls it for each connector that can list. Users are found by issuer and
subject; who is not there yet is made. A listing is read to its end before anything is done about it: one that breaks
off does nothing, and one that lacks most of what was there before is not believed.

INVARIANT: no user is deleted, and nobody is enabled whom a directory did not disable. What people can write about
themselves in a directory makes no destination trusted: names and addresses pass ``described`` first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from watchfloor.identity.connector import DirectoryAccount, IdentityConnector
from watchfloor.identity.described import name_of_person, own_upn
from watchfloor.model.errors import Unavailable, WatchfloorError
from watchfloor.model.ids import is_name
from watchfloor.storage import identity_connectors as seen
from watchfloor.storage import inventory, people, provisioning
from watchfloor.storage.identity_connectors import SeenAccount
from watchfloor.storage.people import User

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

ACTOR: Final = "system:directory"
MOST_ACCOUNTS: Final = 1_000_000
_AT_ONCE: Final = 500
"""Accounts in one transaction: others get their turn in between."""
_LONGEST: Final = {"name": 200, "department": 200, "job_title": 200}


@dataclass(slots=True)
class Synced:
    """What one run did. ``problem``: why nothing was done about accounts that are missing."""

    accounts: int = 0
    created: int = 0
    changed: int = 0
    disabled: int = 0
    problem: str = ""


def sync(control: SqlControlStore, issuer: str, connector: IdentityConnector) -> Synced:
    """Bring what the directory lists to our users.

    Raises what listing raises, after noting it; then nothing was changed. Safe to run twice.
    """
    try:
        listed = _listed(connector.list_accounts())
    except WatchfloorError as error:
        with control.tx(ACTOR, audited=False) as tx:
            seen.note_sync(tx, issuer, problem=str(error)[:500])
        raise
    done = Synced(accounts=len(listed))
    with control.read() as tx:
        ids = _user_ids(tx, issuer, listed)
    says = _says(listed.values())
    accounts = list(listed.values())
    for start in range(0, len(accounts), _AT_ONCE):
        with control.tx(ACTOR, audited=False) as tx:  # users are; what was seen is bookkeeping
            _apply(tx, accounts[start : start + _AT_ONCE], ids, says, done)
    with control.tx(ACTOR, audited=False) as tx:  # users are; what was seen is bookkeeping
        _miss(tx, issuer, listed.keys(), done)
        seen.note_sync(tx, issuer, accounts=len(listed), problem=done.problem)
    return done


def _listed(accounts: Iterable[DirectoryAccount]) -> dict[str, DirectoryAccount]:
    """Accounts by subject. One that stands twice is enabled only where both are."""
    found: dict[str, DirectoryAccount] = {}
    for account in accounts:
        subject = account.account.subject
        if not 0 < len(subject) <= 500:
            continue
        other = found.get(subject)
        found[subject] = (
            account if other is None else replace(other, is_enabled=other.is_enabled and account.is_enabled)
        )
        if len(found) > MOST_ACCOUNTS:
            raise Unavailable(f"The directory lists more than {MOST_ACCOUNTS} accounts.")
    return found


def _says(accounts: Collection[DirectoryAccount]) -> frozenset[str]:
    """Which members this directory fills at all: an empty one of these means empty, of others that nobody knows."""
    members = ("groups", "department", "job_title", "manager")
    return frozenset(member for member in members if any(getattr(account, member) for account in accounts))


def _user_ids(tx: ControlTx, issuer: str, listed: Mapping[str, DirectoryAccount]) -> dict[str, str]:
    """The id here of every listed account, by subject: that of the user who is there, or a new one."""
    users = people.list_users(tx)
    ids = {user.subject: user.id for user in users if user.issuer == issuer}
    taken = {user.id for user in users}
    for subject, account in listed.items():
        if subject not in ids:
            ids[subject] = _new_id(account, taken)
            taken.add(ids[subject])
    return ids


def _new_id(account: DirectoryAccount, taken: Collection[str]) -> str:
    there = account.account
    wanted = re.sub(r"[^a-z0-9._-]+", "-", (there.upn.partition("@")[0] or there.subject).lower()).strip("._-")[:50]
    wanted = wanted.strip("._-") or "user"
    if is_name(wanted) and wanted not in taken:
        return wanted
    mark = hashlib.sha256(f"{there.issuer}\0{there.subject}".encode()).hexdigest()
    return f"{wanted}-{mark[:12]}"


def _apply(
    tx: ControlTx, accounts: Sequence[DirectoryAccount], ids: Mapping[str, str], says: Collection[str], done: Synced
) -> None:
    issuer = accounts[0].account.issuer
    known = seen.list_accounts(tx, issuer)
    user_ids = [ids[account.account.subject] for account in accounts]
    users, told = people.find_users(tx, user_ids), provisioning.list_group_names(tx, user_ids)
    domains = inventory.find_organization(tx).domains
    for account in accounts:
        subject = account.account.subject
        user, before = users.get(ids[subject]), known.get(subject)
        if user is not None and (user.issuer, user.subject) != (issuer, subject):
            continue  # somebody was made of this id since; the next run finds another
        wanted = _described(tx, user, account, ids, says, domains)
        if more := told.get(wanted.id, frozenset()) - {*wanted.groups}:  # by SCIM: a listing does not end it
            wanted = replace(wanted, groups=tuple(sorted({*wanted.groups, *more})))
        wanted, is_held = _enabled(tx, wanted, user, before, is_enabled=account.is_enabled)
        if people.save_user(tx, wanted, "user:sync"):
            done.created += user is None
            done.changed += user is not None
            done.disabled += user is not None and user.is_enabled and not wanted.is_enabled
        now = SeenAccount(issuer, subject, wanted.id, account.is_enabled, is_held, account.email[:320])
        seen.save_account(tx, before, now)


def _described(
    tx: ControlTx,
    user: User | None,
    account: DirectoryAccount,
    ids: Mapping[str, str],
    says: Collection[str],
    domains: Collection[str],
) -> User:
    """The user as the directory describes the account, with whatever it does not say as it was."""
    there = account.account
    user_id = ids[there.subject]
    base = user or User(id=user_id, issuer=there.issuer, subject=there.subject, updated_at=tx.now, name=user_id)
    return replace(
        base,
        name=name_of_person(account.name) or base.name,
        upn=own_upn(there.upn, domains) or base.upn,
        groups=tuple(sorted({group[:200] for group in account.groups})) if "groups" in says else base.groups,
        department=account.department[: _LONGEST["department"]] if "department" in says else base.department,
        job_title=account.job_title[: _LONGEST["job_title"]] if "job_title" in says else base.job_title,
        manager=ids.get(account.manager, "") if "manager" in says else base.manager,
        updated_at=tx.now,
    )


def _enabled(
    tx: ControlTx, wanted: User, user: User | None, before: SeenAccount | None, *, is_enabled: bool
) -> tuple[User, bool]:
    """``wanted`` enabled or not, and whether that it is not is the directory's doing."""
    was_held = before is not None and before.is_held_disabled
    if is_enabled:
        return (replace(wanted, is_enabled=True) if was_held else wanted), False
    if user is None:
        return replace(wanted, is_enabled=False), True
    if not user.is_enabled:
        return wanted, was_held
    return people.without_sessions(replace(wanted, is_enabled=False), tx.now), True


def _miss(tx: ControlTx, issuer: str, listed: Collection[str], done: Synced) -> None:
    """Disable users whom a complete listing no longer has."""
    known = seen.list_accounts(tx, issuer)
    there = [account for account in known.values() if account.gone_at is None]
    missing = [account for account in there if account.subject not in listed]
    if len(missing) * 2 > len(there):
        done.problem = (
            f"{len(missing)} of {len(there)} accounts are no longer listed: that is not believed, and nobody was "
            "disabled for it. Check where the connector looks; disable accounts that are really gone before you "
            "delete them."
        )
        return
    for account in missing:
        user, is_held = people.find_user(tx, account.user_id), account.is_held_disabled
        if user is not None and user.is_enabled and (user.issuer, user.subject) == (issuer, account.subject):
            disabled = people.without_sessions(replace(user, is_enabled=False, updated_at=tx.now), tx.now)
            people.save_user(tx, disabled, "user:sync", "no longer in the directory")
            done.disabled += 1
            is_held = True
        seen.save_account(tx, account, replace(seen.gone(account, tx.now), is_held_disabled=is_held))
