"""PATCH: operations, in order, all or none, and what they make of a user's document. Pure. RFC 7644, section 3.5.2.

What identity providers really send is taken as well: operations in any case, ``active`` as a text, a manager's bare id,
dotted names and URNs as members of a value without a path.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from watchfloor.identity.scim import filters
from watchfloor.identity.scim.documents import ATTRIBUTES, CORE, ENTERPRISE, GROUP, ScimRefused, put

PATCH: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_MOST: Final = 200
_PATH: Final = re.compile(r"([A-Za-z$][\w$-]*)(?:\[([^\]]{1,500})\])?(?:\.([A-Za-z$][\w$-]*))?")
_MEMBERS: Final = frozenset({"type", "value", "primary", "display"})


def operations(body: Any) -> Iterator[tuple[str, Any, Any]]:
    """Kind (add, replace, remove), path and value of each operation in ``body``; where the path is None, the value is
    an object. Raises ``ScimRefused``."""
    listed = _member(body, "operations") if isinstance(body, Mapping) else None
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST:
        raise ScimRefused(400, f"Operations must be a list of 1 to {_MOST}.", "invalidSyntax")
    for operation in listed:
        if not isinstance(operation, Mapping):
            raise ScimRefused(400, "An operation must be an object.", "invalidSyntax")
        kind, path, value = (_member(operation, name) for name in ("op", "path", "value"))
        if not isinstance(kind, str) or kind.lower() not in ("add", "replace", "remove"):
            raise ScimRefused(400, "op is add, replace or remove.", "invalidSyntax")
        if path is not None and path != "":
            yield kind.lower(), path, value
        elif kind.lower() == "remove":
            raise ScimRefused(400, "remove needs a path.", "noTarget")
        elif not isinstance(value, Mapping):
            raise ScimRefused(400, "Without a path, value must be an object.", "invalidValue")
        else:
            yield kind.lower(), None, value


def apply(document: Mapping[str, Any], body: Any) -> dict[str, Any]:
    """A user's ``document`` after the operations in ``body``. Raises ``ScimRefused``."""
    changed = copy.deepcopy(dict(document))
    for kind, path, value in operations(body):
        if path is None:
            _several(changed, kind, value)
        else:
            _one(changed, kind, path, value)
    return changed


def _member(body: Mapping[Any, Any], name: str) -> Any:
    return next((value for key, value in body.items() if isinstance(key, str) and key.lower() == name), None)


def _several(document: dict[str, Any], kind: str, value: Mapping[str, Any]) -> None:
    for name, what in value.items():
        if name.lower() == ENTERPRISE.lower() and isinstance(what, Mapping):
            for inner, it in what.items():
                _one(document, kind, f"{ENTERPRISE}:{inner}", it)
        else:
            _one(document, kind, name, what)


def _one(document: dict[str, Any], kind: str, path: Any, value: Any) -> None:
    name, chosen, sub, is_extension = read_path(path)
    if kind == "remove":
        value = None
    elif value is None:
        raise ScimRefused(400, f"{kind} needs a value.", "invalidValue")
    canonical = ATTRIBUTES.get(name.lower())
    if not is_extension and canonical == "emails" and (chosen or sub or kind == "add"):
        _emails(document, kind, chosen, sub, value)
    elif chosen:
        if canonical is not None or is_extension:
            raise ScimRefused(400, f"{name} has no values to choose from.", "invalidPath")
    elif sub and not is_extension and canonical == "name":
        put(document, "name", {**document.get("name", {}), sub: value})
    elif sub and is_extension and name.lower() == "manager":
        if sub.lower() == "value":
            put(document, "manager", value, is_extension=True)
    elif sub and canonical is not None:
        raise ScimRefused(400, f"{name} has no member {sub}.", "invalidPath")
    elif canonical == "name" and kind == "add" and not is_extension and isinstance(value, Mapping):
        put(document, "name", {**document.get("name", {}), **value})
    else:
        put(document, name, value, is_extension=is_extension)


def read_path(path: Any) -> tuple[str, str, str, bool]:
    """Attribute, filter, member, and whether it is one of the enterprise extension. Raises ``ScimRefused``."""
    if not isinstance(path, str) or len(path) > 1000:
        raise ScimRefused(400, "A path is a text.", "invalidPath")
    rest, is_extension = path.strip(), False
    for urn in (ENTERPRISE, CORE, GROUP):
        if rest.lower().startswith(f"{urn.lower()}:"):
            rest, is_extension = rest[len(urn) + 1 :], urn == ENTERPRISE
    match = _PATH.fullmatch(rest)
    if match is None:
        raise ScimRefused(400, f"The path {path[:80]!r} cannot be read.", "invalidPath")
    return match[1], match[2] or "", match[3] or "", is_extension


def _emails(document: dict[str, Any], kind: str, chosen: str, sub: str, value: Any) -> None:
    emails: list[dict[str, Any]] = [dict(each) for each in document.get("emails", [])]
    if not chosen and not sub:  # add to what is there
        new = value if isinstance(value, list) else [value]
        put(document, "emails", [*emails, *(each for each in new if each not in emails)])
        return
    wanted = _wanted(chosen)
    hit = [each for each in emails if all(each.get(n, False if n == "primary" else "") == v for n, v in wanted.items())]
    if kind == "remove":
        for each in hit:
            if sub:
                each.pop(sub.lower(), None)
        put(document, "emails", emails if sub else [each for each in emails if each not in hit])
        return
    if not hit:
        if kind == "replace":
            raise ScimRefused(400, "No value fits the path's filter.", "noTarget")
        hit = [dict(wanted)]
        emails += hit
    for each in hit:
        if sub:
            each[sub.lower()] = value
        elif isinstance(value, Mapping):
            each.update(value)
        else:
            raise ScimRefused(400, "A mail address is an object here.", "invalidValue")
    put(document, "emails", emails)


def _wanted(chosen: str) -> dict[str, Any]:
    if not chosen:
        return {}
    # A truth is read as the filter's own: active is the only one that it knows.
    text = re.sub(r"\bprimary\b", "active", chosen, flags=re.IGNORECASE)
    found = filters.read(text, frozenset((_MEMBERS - {"primary"}) | {"active"}))
    return {"primary" if name == "active" else name: value for name, value in found.items()}
