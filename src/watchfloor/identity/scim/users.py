"""Users as an identity provider tells of them: documents become users, and users are shown as documents.

Above ``storage.provisioning`` and ``storage.people``; the portal's door calls it, each function inside the caller's
transaction. It knows no HTTP beyond the statuses of RFC 7644.

INVARIANT: a provider sees and changes users of its own issuer only.
INVARIANT: what the issuer's tokens call a user cannot be changed: it would hand one person's rights to another.
INVARIANT: a provider enables nobody whom it did not disable; disabling or deleting ends every session.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from watchfloor.identity.described import name_of_person, own_upn
from watchfloor.identity.scim import changes, documents, filters, groups
from watchfloor.identity.scim.documents import CORE, ENTERPRISE, ScimRefused, invalid
from watchfloor.model.errors import Conflict, InputError, NotFound
from watchfloor.model.ids import is_name, new_id
from watchfloor.storage import inventory, people, provisioning
from watchfloor.storage.people import User
from watchfloor.storage.provisioning import Provisioned, Said, ScimProvider

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

TOKEN_PREFIX: Final = "wfscim_"  # noqa: S105 - it lets secret scanners recognise a token that went astray
SUBJECTS: Final = ("externalId", "userName")
MOST: Final = 200
"""Users in one answer."""

FILTERS: Final = frozenset({"id", "username", "externalid", "active"})


# -- providers, as operators handle them --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Issued:
    """A provider and its new token, which is stored nowhere."""

    provider: ScimProvider
    token: str = field(repr=False)


def get_provider(tx: ControlTx, provider_id: str) -> ScimProvider:
    """The provider. Raises ``NotFound``."""
    found = provisioning.find_provider(tx, provider_id)
    if found is None:
        raise NotFound(f"there is no SCIM provider {provider_id!r}.", where="provider")
    return found


def create_provider(tx: ControlTx, provider_id: str, issuer: str, subject: str) -> Issued:
    """A new provider for the users of ``issuer``, with its token. Raises ``InputError``, ``Conflict``."""
    if not is_name(provider_id):
        raise InputError(
            f"{provider_id[:80]!r} cannot be the id of a provider.",
            where="id",
            remedy="Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.",
        )
    if subject not in SUBJECTS:
        raise InputError("is none.", where="subject", remedy=f"One of {', '.join(SUBJECTS)}.")
    if people.find_identity_provider(tx, issuer) is None:
        raise InputError(f"{issuer[:200]!r} is no identity provider of ours.", where="issuer")
    if provisioning.find_provider(tx, provider_id) is not None:
        raise Conflict(f"there is a provider {provider_id} already.", where="id", remedy="Choose another id.")
    if (other := provisioning.find_provider_of(tx, issuer)) is not None:
        raise Conflict(f"{other.id} tells of its users already.", where="issuer")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    made = ScimProvider(provider_id, issuer, subject, _hash(token), tx.now, tx.now, tx.actor)
    provisioning.save_provider(tx, made)
    return Issued(made, token)


def renew_token(tx: ControlTx, provider_id: str) -> Issued:
    """A new token; the one before is refused from now on. Raises ``NotFound``."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    made = replace(get_provider(tx, provider_id), token_hash=_hash(token), updated_at=tx.now, updated_by=tx.actor)
    provisioning.save_provider(tx, made)
    return Issued(made, token)


def delete_provider(tx: ControlTx, provider_id: str) -> None:
    """Take no word of a provider any more. Raises ``NotFound``."""
    if not provisioning.delete_provider(tx, provider_id):
        get_provider(tx, provider_id)


def authenticate(tx: ControlTx, token: str) -> ScimProvider | None:
    """Whose token this is, or None."""
    found = provisioning.find_provider_by_token(tx, _hash(token)) if 0 < len(token) <= 200 else None
    return found if found is not None and found.is_enabled else None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# -- users, as a provider handles them ----------------------------------------------------------------------------


def find(tx: ControlTx, provider: ScimProvider, user_id: str) -> Provisioned:
    """The user. Raises ``ScimRefused`` with 404 for one that the provider does not see."""
    user, said = people.find_user(tx, user_id), provisioning.find_said(tx, user_id)
    if user is None or user.issuer != provider.issuer or (said is not None and said.is_deleted):
        raise ScimRefused(404, "There is no such user.")
    return Provisioned(user, said)


def list_page(
    tx: ControlTx, provider: ScimProvider, filter_text: str, *, start: int, count: int
) -> tuple[list[Provisioned], int]:
    """A page of users, and how many there are; ``start`` counts from 1. Raises ``ScimRefused``."""
    where = filters.read(filter_text, FILTERS) if filter_text else {}
    return provisioning.list_users(tx, provider, where, skip=start - 1, limit=count)


def create(tx: ControlTx, provider: ScimProvider, body: Any) -> Provisioned:
    """A new user, or one that was deleted again. Raises ``ScimRefused``."""
    document = documents.read(body)
    subject = _subject(provider, document)
    _require_free(tx, provider, document["userName"], "")
    user = people.find_user_by_subject(tx, provider.issuer, subject)
    said = provisioning.find_said(tx, user.id) if user is not None else None
    if user is not None and (said is None or not said.is_deleted):
        raise ScimRefused(409, "There is a user of that name already.", "uniqueness")
    base = user or User(id=new_id("usr"), issuer=provider.issuer, subject=subject, updated_at=tx.now)
    return _save(tx, provider, base, said, {"active": True, **document})


def replace_all(tx: ControlTx, provider: ScimProvider, user_id: str, body: Any) -> Provisioned:
    """A user as ``body`` says; what it leaves out is taken away, but not ``active``. Raises ``ScimRefused``."""
    found = find(tx, provider, user_id)
    return _change(tx, provider, found, documents.read(body))


def patch(tx: ControlTx, provider: ScimProvider, user_id: str, body: Any) -> Provisioned:
    """A user after the operations in ``body``. Raises ``ScimRefused``."""
    found = find(tx, provider, user_id)
    before = _document(provider, found)
    return _change(tx, provider, found, changes.apply(before, body))


def delete(tx: ControlTx, provider: ScimProvider, user_id: str) -> None:
    """Disable a user for good, as far as the provider is concerned. Raises ``ScimRefused``."""
    found = find(tx, provider, user_id)
    document = {**_document(provider, found), "active": False}
    user = groups.leave_all(tx, found.user)
    said = _save(tx, provider, user, found.said, document, action="user:deprovision").said
    assert said is not None
    provisioning.save_said(tx, replace(said, is_deleted=True))


def _change(tx: ControlTx, provider: ScimProvider, found: Provisioned, document: dict[str, Any]) -> Provisioned:
    if _subject(provider, document) != found.user.subject:
        raise ScimRefused(400, f"{provider.subject} is what tokens call the user: it cannot be changed.", "mutability")
    _require_free(tx, provider, document["userName"], found.user.id)
    return _save(tx, provider, found.user, found.said, document)


def _subject(provider: ScimProvider, document: Mapping[str, Any]) -> str:
    for name in ("userName", provider.subject):
        if name not in document:
            raise invalid(f"{name} is needed.")
    return str(document[provider.subject])


def _require_free(tx: ControlTx, provider: ScimProvider, user_name: str, user_id: str) -> None:
    found, _ = provisioning.list_users(tx, provider, {"username": user_name}, skip=0, limit=2)
    if any(each.user.id != user_id for each in found):
        raise ScimRefused(409, "There is a user of that userName already.", "uniqueness")


def _save(
    tx: ControlTx,
    provider: ScimProvider,
    user: User,
    said: Said | None,
    document: Mapping[str, Any],
    *,
    action: str = "user:provision",
) -> Provisioned:
    is_new = people.find_user(tx, user.id) is None
    extension = document.get(ENTERPRISE, {})
    manager = extension.get("manager", {}).get("value", "")
    if manager and manager != user.manager:
        try:
            find(tx, provider, manager)
        except ScimRefused:
            raise invalid("manager.value is no user that you told of.") from None
    domains = inventory.find_organization(tx).domains
    # What an operator wrote is not held to what others may say.
    upn = user.upn if user.upn in _addresses(document) else ""
    name = (user.name if user.name in _names(document) else "") or user.id
    wanted = replace(
        user,
        upn=next((own for each in _addresses(document) if (own := own_upn(each, domains))), upn),
        name=next((person for each in _names(document) if (person := name_of_person(each))), name),
        job_title=document.get("title", "")[:200],
        department=extension.get("department", "")[:200],
        manager=manager,
        updated_at=tx.now,
    )
    is_active, is_held = document.get("active", user.is_enabled), said is not None and said.is_held
    if is_active and is_held:
        wanted, is_held = replace(wanted, is_enabled=True), False
    elif not is_active and (wanted.is_enabled or is_new):
        wanted, is_held = people.without_sessions(replace(wanted, is_enabled=False), tx.now), True
    people.save_user(tx, wanted, action, f"told by {provider.id}")
    now = Said(
        user_id=wanted.id,
        user_name=document["userName"].lower(),
        external_id=document.get("externalId", ""),
        document=dict(document),
        created_at=said.created_at if said is not None else tx.now,
        updated_at=tx.now,
        is_held=is_held,
    )
    provisioning.save_said(tx, now)
    return Provisioned(wanted, now)


def _addresses(document: Mapping[str, Any]) -> list[str]:
    emails = sorted(document.get("emails", []), key=lambda each: not each.get("primary", False))
    return [document["userName"], *(each["value"] for each in emails if "value" in each)]


def _names(document: Mapping[str, Any]) -> list[str]:
    name = document.get("name", {})
    whole = " ".join(name[part] for part in ("givenName", "familyName") if part in name)
    return [document.get("displayName", ""), name.get("formatted", ""), whole]


# -- users, as they are shown -------------------------------------------------------------------------------------


def _document(provider: ScimProvider, found: Provisioned) -> dict[str, Any]:
    user = found.user
    if found.said is not None:
        return {**found.said.document, "active": user.is_enabled}
    described = {
        "userName": user.upn or user.id,
        "externalId": user.subject if provider.subject == "externalId" else "",
        "displayName": user.name,
        "title": user.job_title,
    }
    if provider.subject == "userName":
        described["userName"] = user.subject
    extension = {"department": user.department, "manager": {"value": user.manager} if user.manager else None}
    document: dict[str, Any] = {name: value for name, value in described.items() if value}
    if kept := {name: value for name, value in extension.items() if value}:
        document[ENTERPRISE] = kept
    return {**document, "active": user.is_enabled}


def _groups(tx: ControlTx, user: User, base: str) -> list[dict[str, str]]:
    """The user's groups: those that were told of by their ids, others by name."""
    ids = {group.name: group.id for group in provisioning.groups_of(tx, user.id)}
    return [
        {
            "value": ids.get(name, name),
            "display": name,
            **({"$ref": f"{base}/Groups/{ids[name]}"} if name in ids else {}),
        }
        for name in user.groups
    ]


def shown(tx: ControlTx, provider: ScimProvider, found: Provisioned, base: str) -> dict[str, Any]:
    """A user as RFC 7643 shows it; ``base`` is the address before ``/Users``."""
    user, said = found.user, found.said
    document = _document(provider, found)
    extension = dict(document.get(ENTERPRISE, {}))
    if "manager" in extension:
        manager_id = extension["manager"]["value"]
        manager = people.find_user(tx, manager_id)
        extension["manager"] = {
            "value": manager_id,
            "$ref": f"{base}/Users/{manager_id}",
            **({"displayName": manager.name} if manager is not None else {}),
        }
    return {
        "schemas": [CORE, *([ENTERPRISE] if extension else [])],
        "id": user.id,
        **{name: value for name, value in document.items() if name != ENTERPRISE},
        **({ENTERPRISE: extension} if extension else {}),
        **({"groups": _groups(tx, user, base)} if user.groups else {}),
        "meta": {
            "resourceType": "User",
            "created": (said.created_at if said is not None else user.updated_at).isoformat(),
            "lastModified": user.updated_at.isoformat(),
            "location": f"{base}/Users/{user.id}",
        },
    }
