"""What the tests of responses share: confirming through the API, letting the outbox work, reading what it says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from portal.house import House
from response.provider import Provider, ports_to
from watchfloor.model.people import Role
from watchfloor.response.outbox import Outbox
from watchfloor.response.ports import Ports


def ask(house: House, path: str, role: Role | str = Role.SOC_OPERATOR, by: str = "", **body: Any) -> Any:
    """POST as an operator; the whole answer."""
    return house.client(role, by).post(path, json={"reason": "stolen session", **body})


def confirm(
    house: House, user: str = "griffin", role: Role | str = Role.SOC_OPERATOR, by: str = "", **body: Any
) -> str:
    """The id of the response to confirming ``user``."""
    answer = ask(house, f"/api/users/{user}/confirm-compromised", role, by, **body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["proof"]["response"])


def outbox(house: House, ports: Ports | Provider, hold: float = 90.0) -> Outbox:
    """The outbox over the house, as the job has it, but that every delay is the longest one."""
    found = ports_to(ports, house.clock) if isinstance(ports, Provider) else ports
    return Outbox(house.stores.control, found, hold=timedelta(seconds=hold), jitter=lambda: 1.0)


def response(house: House, response_id: str) -> dict[str, Any]:
    """The response as the API shows it."""
    answer = house.client(Role.SOC_ANALYST).get(f"/api/responses/{response_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def steps(house: House, response_id: str) -> dict[str, dict[str, Any]]:
    """Its steps by name."""
    return {step["name"]: step for step in response(house, response_id)["steps"]}


def states(house: House, response_id: str) -> dict[str, str]:
    """The state of each step."""
    return {name: step["state"] for name, step in steps(house, response_id).items()}
