"""Groups as an identity provider tells of them: whoever is in one has its name among their groups here.

Beside ``users``, above ``storage.provisioning``; the portal's door calls it, each function inside the caller's
transaction. Conditional access, policies and audiences of agents name groups by their names. RFC 7643, section 4.2.

INVARIANT: a provider sees and changes groups of its own issuer only, and only users that it sees are in them.
INVARIANT: a provider makes nobody an account for emergencies; only operators do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from watchfloor.identity.scim import changes, filters
from watchfloor.identity.scim.documents import GROUP, ScimRefused, invalid, text
from watchfloor.model.ids import new_id
from watchfloor.model.people import BREAK_GLASS
from watchfloor.storage import people, provisioning
from watchfloor.storage.provisioning import Group, ScimProvider

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST: Final = 200
"""Groups in one answer."""

FILTERS: Final = frozenset({"id", "displayname", "externalid", "members", "members.value"})
_LONGEST_NAME: Final = 200
_AT_ONCE: Final = 500
"""Users read in one statement."""


@dataclass(slots=True)
class _Wanted:
    """A group as it shall be; ``members`` are ids of users."""

    name: str = ""
    external_id: str = ""
    members: set[str] = field(default_factory=set)


# -- as a provider handles them -----------------------------------------------------------------------------------


def find(tx: ControlTx, provider: ScimProvider, group_id: str) -> Group:
    """The group. Raises ``ScimRefused`` with 404 for one that the provider does not see."""
    found = provisioning.find_group(tx, group_id)
    if found is None or found.issuer != provider.issuer:
        raise ScimRefused(404, "There is no such group.")
    return found


def list_page(
    tx: ControlTx, provider: ScimProvider, filter_text: str, *, start: int, count: int
) -> tuple[list[Group], int]:
    """A page of groups, and how many there are; ``start`` counts from 1. Raises ``ScimRefused``."""
    where = filters.read(filter_text, FILTERS) if filter_text else {}
    return provisioning.list_groups(tx, provider.issuer, where, skip=start - 1, limit=count)


def create(tx: ControlTx, provider: ScimProvider, body: Any) -> Group:
    """A new group. Raises ``ScimRefused``."""
    wanted = _read(body)
    made = Group(new_id("grp"), provider.issuer, wanted.name, tx.now, tx.now, wanted.external_id)
    return _save(tx, provider, None, made, wanted)


def replace_all(tx: ControlTx, provider: ScimProvider, group_id: str, body: Any) -> Group:
    """A group as ``body`` says; whom it leaves out is not in it any more. Raises ``ScimRefused``."""
    found, wanted = find(tx, provider, group_id), _read(body)
    return _save(tx, provider, found, found, wanted)


def patch(tx: ControlTx, provider: ScimProvider, group_id: str, body: Any) -> Group:
    """A group after the operations in ``body``. Raises ``ScimRefused``."""
    found = find(tx, provider, group_id)
    wanted = _Wanted(found.name, found.external_id, set(provisioning.members(tx, found.id)))
    for kind, path, value in changes.operations(body):
        if path is None:
            for name, what in value.items():
                _apply(wanted, kind, name, what)
        else:
            _apply(wanted, kind, path, value)
    return _save(tx, provider, found, found, wanted)


def delete(tx: ControlTx, provider: ScimProvider, group_id: str) -> None:
    """Forget a group; nobody is in it any more. Raises ``ScimRefused``."""
    found = find(tx, provider, group_id)
    were = provisioning.members(tx, found.id)
    provisioning.delete_group(tx, found)
    _rename(tx, provider, were, gone=found.name)


def leave_all(tx: ControlTx, user: people.User) -> people.User:
    """``user`` as somebody who is in no group that was told of; saving is the caller's."""
    told = provisioning.groups_of(tx, user.id)
    for group in told:
        provisioning.change_members(tx, group.id, joining=(), leaving=[user.id])
    names = {group.name for group in told}
    return replace(user, groups=tuple(name for name in user.groups if name not in names))


def _save(tx: ControlTx, provider: ScimProvider, before: Group | None, group: Group, wanted: _Wanted) -> Group:
    if not wanted.name:
        raise invalid("displayName is needed.")
    _require_free(tx, provider, wanted.name, group.id)
    were = set(provisioning.members(tx, group.id)) if before is not None else set[str]()
    joining, leaving = wanted.members - were, were - wanted.members
    _require_users(tx, provider, joining)
    after = replace(group, name=wanted.name, external_id=wanted.external_id)
    if joining or leaving or after != before:
        after = replace(after, updated_at=tx.now)
    provisioning.save_group(tx, after)
    provisioning.change_members(tx, after.id, joining=sorted(joining), leaving=sorted(leaving))
    if before is not None and before.name != after.name:
        _rename(tx, provider, were, gone=before.name)
        joining = wanted.members
    _rename(tx, provider, leaving, gone=after.name)
    _rename(tx, provider, joining, new=after.name)
    return after


def _require_free(tx: ControlTx, provider: ScimProvider, name: str, group_id: str) -> None:
    found, _ = provisioning.list_groups(tx, provider.issuer, {"displayname": name}, limit=2)
    if any(each.id != group_id for each in found):
        raise ScimRefused(409, "There is a group of that displayName already.", "uniqueness")


def _require_users(tx: ControlTx, provider: ScimProvider, user_ids: Collection[str]) -> None:
    for some in _batches(user_ids):
        seen = provisioning.seen_users(tx, provider.issuer, some)
        if unknown := next((user_id for user_id in some if user_id not in seen), None):
            raise invalid(f"members: {unknown[:80]!r} is no user that you told of.")


def _rename(tx: ControlTx, provider: ScimProvider, user_ids: Iterable[str], *, gone: str = "", new: str = "") -> None:
    """Take the name of a group from users, or give it to them."""
    for some in _batches(user_ids):
        for user in people.find_users(tx, some).values():
            names = ({*user.groups} - {gone}) | ({new} if new else set())
            if names != {*user.groups}:
                changed = replace(user, groups=tuple(sorted(names)), updated_at=tx.now)
                people.save_user(tx, changed, "user:provision", f"told by {provider.id}")


def _batches(user_ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(user_ids)
    return (ordered[start : start + _AT_ONCE] for start in range(0, len(ordered), _AT_ONCE))


# -- what is sent -------------------------------------------------------------------------------------------------


def _read(body: Any) -> _Wanted:
    if not isinstance(body, Mapping):
        raise ScimRefused(400, "The body must be a JSON object.", "invalidSyntax")
    wanted = _Wanted()
    for name, value in body.items():
        _put(wanted, name, value)
    return wanted


def _put(wanted: _Wanted, name: str, value: Any) -> None:
    """Set an attribute; null and nothing take it away."""
    plain = name.lower()
    is_empty = value is None or value in ("", [])
    if plain == "displayname":
        wanted.name = "" if is_empty else _name(value)
    elif plain == "externalid":
        wanted.external_id = "" if is_empty else text("externalId", value)
    elif plain == "members":
        wanted.members = set() if is_empty else _ids(value)
    elif plain not in ("schemas", "id", "meta") and not plain.startswith("urn:"):
        raise ScimRefused(400, f"There is no attribute {name[:80]!r}.", "invalidPath")


def _apply(wanted: _Wanted, kind: str, path: Any, value: Any) -> None:
    name, chosen, sub, is_extension = changes.read_path(path)
    is_members = name.lower() == "members" and not is_extension
    if kind != "remove" and value is None:
        raise invalid(f"{kind} needs a value.")
    if is_extension or sub or (chosen and not (is_members and kind == "remove")):
        raise ScimRefused(400, f"There is nothing at {str(path)[:80]!r} that could change.", "invalidPath")
    if not is_members:
        _put(wanted, name, None if kind == "remove" else value)
    elif chosen:
        wanted.members.discard(str(filters.read(chosen, frozenset({"value"}))["value"]))
    elif kind == "remove":  # all of them, or those whom Entra names in the value
        wanted.members = wanted.members - _ids(value) if value else set()
    else:
        wanted.members = _ids(value) | (wanted.members if kind == "add" else set())


def _name(value: Any) -> str:
    name = text("displayName", value, _LONGEST_NAME)
    if len(name.lower()) > _LONGEST_NAME:
        raise invalid(f"displayName must be a text of 1 to {_LONGEST_NAME} characters.")
    if name.lower() == BREAK_GLASS:
        raise invalid(f"Who is in {BREAK_GLASS} is said by operators: mark accounts for emergencies there.")
    return name


def _ids(value: Any) -> set[str]:
    listed = value if isinstance(value, list) else [value]
    found = set[str]()
    for each in listed:
        member = {str(key).lower(): what for key, what in each.items()} if isinstance(each, Mapping) else {}
        if str(member.get("type") or "User").lower() != "user":
            raise invalid("members: groups in groups are not taken; tell of the users.")
        found.add(text("members.value", member.get("value")))
    return found


# -- as they are shown --------------------------------------------------------------------------------------------


def shown(tx: ControlTx, group: Group, base: str, *, with_members: bool = True) -> dict[str, Any]:
    """A group as RFC 7643 shows it; ``base`` is the address before ``/Groups``."""
    inside = provisioning.members(tx, group.id) if with_members else []
    listed = [{"value": user_id, "$ref": f"{base}/Users/{user_id}", "type": "User"} for user_id in inside]
    return {
        "schemas": [GROUP],
        "id": group.id,
        "displayName": group.name,
        **({"externalId": group.external_id} if group.external_id else {}),
        **({"members": listed} if listed else {}),
        "meta": {
            "resourceType": "Group",
            "created": group.created_at.isoformat(),
            "lastModified": group.updated_at.isoformat(),
            "location": f"{base}/Groups/{group.id}",
        },
    }
