"""Roles: what each may do, and what nobody may who has none."""

from __future__ import annotations

import pytest

from watchfloor.identity import roles
from watchfloor.model.errors import Denied
from watchfloor.model.people import PERMISSIONS, Permission, Role


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_a_role_allows_exactly_what_the_table_says(role: Role, permission: Permission) -> None:
    allowed = permission in PERMISSIONS[role]
    assert roles.may([role], permission) is allowed
    if allowed:
        roles.require([role], permission)
    else:
        with pytest.raises(Denied, match=permission.value):
            roles.require([role], permission)


def test_without_a_role_nothing_is_allowed() -> None:
    assert roles.permissions_of([]) == frozenset()
    assert not any(roles.may([], permission) for permission in Permission)


def test_roles_add_up() -> None:
    both = [Role.SOC_ANALYST, Role.IT_ADMIN]
    assert roles.permissions_of(both) == PERMISSIONS[Role.SOC_ANALYST] | PERMISSIONS[Role.IT_ADMIN]


def test_a_refusal_names_who_could() -> None:
    with pytest.raises(Denied, match=r"security_admin.*owner"):
        roles.require([Role.SOC_ANALYST], Permission.POLICY_WRITE)
