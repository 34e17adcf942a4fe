"""Attributes of users in SCIM: which we take, which we take no notice of, and what each may hold. Pure.

A document here is a plain mapping with canonical names and checked values, the enterprise extension under its URN. RFC
7643, sections 4.1 and 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from watchfloor.model.errors import WatchfloorError

CORE: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"

STRINGS: Final = ("userName", "externalId", "displayName", "title")
ATTRIBUTES: Final[Mapping[str, str]] = {n.lower(): n for n in (*STRINGS, "active", "name", "emails")}
EXTENSION: Final[Mapping[str, str]] = {"department": "department", "manager": "manager"}
NAMES: Final[Mapping[str, str]] = {
    n.lower(): n for n in ("formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix")
}
EMAILS: Final[Mapping[str, str]] = {n: n for n in ("value", "type", "display", "primary")}

IGNORED: Final = frozenset(
    {
        "schemas", "id", "meta", "groups", "nickname", "profileurl", "usertype", "preferredlanguage", "locale",
        "timezone", "password", "phonenumbers", "ims", "photos", "addresses", "entitlements", "roles",
        "x509certificates", "employeenumber", "costcenter", "organization", "division",
    }
)  # fmt: skip
"""Attributes of RFC 7643 that mean nothing here: taken without notice, as it allows."""

_LONGEST: Final = 500
_MOST_EMAILS: Final = 20


class ScimRefused(WatchfloorError):
    """What was asked for is not done. ``status`` is HTTP's, ``kind`` the ``scimType`` of RFC 7644, if there is one."""

    code = "scim_refused"

    def __init__(self, status: int, detail: str, kind: str = "") -> None:
        self.status, self.kind = status, kind
        super().__init__(detail)


def invalid(detail: str) -> ScimRefused:
    """A value that cannot be."""
    return ScimRefused(400, detail, "invalidValue")


def read(body: Any) -> dict[str, Any]:
    """The document in ``body``: checked, with canonical names, without what means nothing here. Raises
    ``ScimRefused``."""
    if not isinstance(body, Mapping):
        raise ScimRefused(400, "The body must be a JSON object.", "invalidSyntax")
    found: dict[str, Any] = {}
    for name, value in body.items():
        plain = name.lower()
        if plain == ENTERPRISE.lower():
            if value is not None and not isinstance(value, Mapping):
                raise invalid(f"{ENTERPRISE} must be an object.")
            for inner, what in (value or {}).items():
                put(found, inner, what, is_extension=True)
        else:
            put(found, name, value)
    return found


def put(document: dict[str, Any], name: str, value: Any, *, is_extension: bool = False) -> None:
    """Set an attribute, or take it away with None; those that mean nothing here change nothing. Raises
    ``ScimRefused``."""
    table = EXTENSION if is_extension else ATTRIBUTES
    canonical = table.get(name.lower())
    if canonical is None:
        if name.lower() in IGNORED or name.lower().startswith("urn:"):
            return
        raise ScimRefused(400, f"There is no attribute {name[:80]!r}.", "invalidPath")
    target = document
    if is_extension:
        target = document.setdefault(ENTERPRISE, {})
    if value is None or value in ("", [], {}):
        target.pop(canonical, None)
        return
    target[canonical] = _value(canonical, value)


def _value(name: str, value: Any) -> Any:
    if name == "active":
        return _truth(value)
    if name == "name":
        return _members(name, value, NAMES)
    if name == "manager":
        # Entra sends the bare id; RFC 7643 has it in an object.
        inner = value.get("value") if isinstance(value, Mapping) else value
        return {"value": text("manager.value", inner)}
    if name == "emails":
        if not isinstance(value, list) or len(value) > _MOST_EMAILS:
            raise invalid(f"emails must be a list of at most {_MOST_EMAILS}.")
        return [_members(name, each, EMAILS) for each in value]
    return text(name, value)


def _members(name: str, value: Any, table: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise invalid(f"{name} must be an object.")
    found: dict[str, Any] = {}
    for member, what in value.items():
        canonical = table.get(member.lower())
        if canonical is not None and what is not None and what != "":
            found[canonical] = _truth(what) if canonical == "primary" else text(f"{name}.{canonical}", what)
    return found


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):  # as Entra sends it
        return value.lower() == "true"
    raise invalid("active and primary are true or false.")


def text(name: str, value: Any, longest: int = _LONGEST) -> str:
    """``value``, if it is a text that prints. Raises ``ScimRefused``."""
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise invalid(f"{name} must be a text of 1 to {longest} characters that print.")
    return value
