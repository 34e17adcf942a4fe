"""An identity provider that provisions, and what it may say: for the tests of users and of groups."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from portal.house import House
from watchfloor.model.people import Role
from watchfloor.storage import people
from watchfloor.storage.people import User

ISSUER = "https://login.zava.example"
CORE = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"

BARBARA = {
    "schemas": [CORE, ENTERPRISE],
    "userName": "bjensen@zava.example",
    "externalId": "701984",
    "name": {"formatted": "Ms. Barbara J Jensen III", "familyName": "Jensen", "givenName": "Barbara"},
    "displayName": "Babs Jensen",
    "title": "Tour Guide",
    "emails": [{"value": "bjensen@zava.example", "type": "work", "primary": True},
               {"value": "babs@jensen.example", "type": "home"}],
    "phoneNumbers": [{"value": "555-555-5555", "type": "work"}],
    "active": True,
    ENTERPRISE: {"employeeNumber": "701984", "department": "Tour Operations", "manager": {"value": "mona"}},
}  # fmt: skip


@dataclass
class Provider:
    """An identity provider that provisions."""

    house: House
    token: str

    def send(self, method: str, path: str, body: Any = None, **extra: Any) -> Any:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/scim+json"}
        content = None if body is None else json.dumps(body)
        return self.house.stranger().request(method, f"/scim/v2{path}", content=content, headers=headers, **extra)

    def make(self, **changes: Any) -> Any:
        body = {name: value for name, value in {**BARBARA, **changes}.items() if value is not None}
        return self.send("POST", "/Users", body)

    def patch(self, user_id: str, *operations: Any) -> Any:
        return self.send("PATCH", f"/Users/{user_id}", {"schemas": [PATCH], "Operations": list(operations)})

    def find(self, text: str, kind: str = "Users") -> list[str]:
        answer = self.send("GET", f"/{kind}", params={"filter": text})
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["Resources"]]

    def group(self, name: str = "Finance", *members: str, **more: Any) -> Any:
        """Tell of a group."""
        body = {"schemas": [GROUP], "displayName": name, "members": [{"value": each} for each in members], **more}
        return self.send("POST", "/Groups", body)

    def regroup(self, group_id: str, *operations: Any) -> Any:
        """Change a group."""
        return self.send("PATCH", f"/Groups/{group_id}", {"schemas": [PATCH], "Operations": list(operations)})

    def user(self, user_id: str) -> User:
        with self.house.stores.control.read() as tx:
            found = people.find_user(tx, user_id)
        assert found is not None
        return found


def provider(house: House, name: str = "entra", issuer: str = ISSUER, subject: str = "externalId") -> Provider:
    body = {"id": name, "issuer": issuer, "subject": subject}
    answer = house.client(Role.OWNER).post("/api/scim/providers", json=body)
    assert answer.status_code == 201, answer.text
    return Provider(house, answer.json()["token"])


NAMES = ["Operations", "op", "path", "value", "userName", "displayName", "members", "emails", "name", "x", ENTERPRISE]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([PATCH, "active", "userName"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)
"""Bodies that nobody would send, and some that almost make sense."""
