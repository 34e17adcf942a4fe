"""Agents as Graph's catalogue of packages shows them: read, filtered, paged, blocked and unblocked."""

from __future__ import annotations

from typing import Any

import pytest

from portal.house import House
from portal.test_requests import BILLING, NEW, submit
from watchfloor.model.people import Role

PACKAGES = "/v1.0/copilot/admin/catalog/packages"
BETA = PACKAGES.replace("v1.0", "beta")


def get(house: House, address: str, **options: Any) -> Any:
    return house.client(Role.IT_ADMIN).get(address, params=options)


@pytest.mark.claim("graph-packages")
def test_an_agent_is_a_package_that_can_be_found_by_what_graph_documents(house: House) -> None:
    everything = get(house, PACKAGES).json()["value"]
    billing = next(each for each in everything if each["id"] == "P_billing")
    assert (billing["displayName"], billing["isBlocked"], billing["platform"], billing["availableTo"]) == (
        "Billing Agent", False, "Copilot Studio", "all",
    )  # fmt: skip
    asked = "platform eq 'Copilot Studio' and supportedHosts/any(h:h eq 'Copilot')"
    by_platform = get(house, PACKAGES, **{"$filter": asked})
    assert [each["id"] for each in by_platform.json()["value"]] == ["P_billing"]
    since = get(house, PACKAGES, **{"$filter": "lastModifiedDateTime ge 2999-01-01T00:00:00Z", "$count": "true"}).json()
    assert (since["value"], since["@odata.count"]) == ([], 0)
    assert get(house, PACKAGES, **{"$filter": "platform eq 'x' or platform eq 'y'"}).status_code == 400
    detail = get(house, f"{BETA}/P_billing").json()
    assert {element["id"] for element in detail["elementDetails"]} == {"mail/*", "bank/pay"}
    assert get(house, f"{PACKAGES}/billing").status_code == get(house, f"{PACKAGES}/P_nobody").status_code == 404


def test_pages_join_without_gap(house: House) -> None:
    found, address = [], f"{PACKAGES}?$top=1"
    while address:
        body = house.client(Role.IT_ADMIN).get(address.removeprefix("http://127.0.0.1:7700")).json()
        found += [each["id"] for each in body["value"]]
        address = body.get("@odata.nextLink", "")
    assert found == sorted(set(found)) and len(found) >= 2


@pytest.mark.claim("graph-packages")
def test_a_package_is_blocked_and_unblocked_as_the_agent_is(house: House) -> None:
    client = house.client(Role.IT_ADMIN)
    assert client.post(f"{BETA}/P_billing/block").status_code == 204
    assert client.get("/api/agents/billing").json()["state"] == "blocked"
    shown = client.get(f"{PACKAGES}/P_billing").json()
    assert (shown["isBlocked"], shown["availableTo"]) == (True, "none")
    assert client.post(f"{BETA}/P_billing/block").status_code == 204  # it is so already
    assert client.post(f"{BETA}/P_nobody/block").status_code == 404
    assert house.client(Role.SOC_ANALYST).post(f"{BETA}/P_billing/unblock").status_code == 403
    assert client.post(f"{BETA}/P_billing/unblock").status_code == 204
    assert client.get("/api/agents/billing").json()["state"] == "published"


@pytest.mark.claim("graph-packages")
def test_a_package_shows_what_waits_to_be_decided_and_whom_it_is_for_and_is_handed_over(house: House) -> None:
    mona, it = house.client(Role.OWNER, "mona"), house.client(Role.IT_ADMIN)
    submit(mona, {**BILLING, "version": "2"})
    submit(house.client(Role.MAKER, "ada"), NEW)
    pending = get(house, PACKAGES, **{"$filter": "requestStatus eq 'pending'"}).json()["value"]
    assert [(p["id"], p["requestType"]) for p in pending] == [("P_billing", "update"), ("P_faq", "publish")]
    it.put("/api/agents/billing/audience", json={"audience": ["griffin", "group:sales"], "reason": "pilot"})
    shown = get(house, f"{BETA}/P_billing").json()
    assert (shown["availableTo"], [who["resourceId"] for who in shown["allowedUsersAndGroups"]]) == (
        "some", ["griffin", "sales"],
    )  # fmt: skip
    assert mona.post(f"{BETA}/P_billing/reassign", json={"userId": "griffin"}).status_code == 403
    assert it.post(f"{BETA}/P_billing/reassign", json={"user": "griffin"}).status_code == 400
    assert it.post(f"{BETA}/P_billing/reassign", json={"userId": "griffin"}).status_code == 204
    assert it.get("/api/agents/billing").json()["owner_id"] == "griffin"
