"""May this operator do that? Roles to permissions, deny by default.

Above the model's table of roles; the portal asks before every route. It knows no routes and no sessions.
"""

from __future__ import annotations

from collections.abc import Collection

from watchfloor.model.errors import Denied
from watchfloor.model.people import PERMISSIONS, Permission, Role


def permissions_of(roles: Collection[Role]) -> frozenset[Permission]:
    """Everything that the ``roles`` together allow."""
    return frozenset[Permission]().union(*(PERMISSIONS[role] for role in roles))


def may(roles: Collection[Role], permission: Permission) -> bool:
    """Whether one of the ``roles`` allows ``permission``."""
    return any(permission in PERMISSIONS[role] for role in roles)


def require(roles: Collection[Role], permission: Permission) -> None:
    """Raises ``Denied``, naming what is missing and who has it, unless one of the ``roles`` allows ``permission``."""
    if may(roles, permission):
        return
    holders = ", ".join(role.value for role in Role if permission in PERMISSIONS[role])
    raise Denied(f"This needs the permission {permission.value}. Roles that have it: {holders}.")
