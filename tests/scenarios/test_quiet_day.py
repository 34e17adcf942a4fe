"""A day of ordinary work is quiet: nothing of it is an incident above low; the attack on the same company is one.

The demo has no clock of its own: its people work at a rate. Here they work as fast as the machine lets them, so that
what rules count within minutes and hours is more than a day ever brings them; what people ask of their agents, and what
these tell of themselves, is drawn from all plans of the background.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from scenarios.company import wait_until
from scenarios.demo import Demo, running_demo
from watchfloor_demo.agents.plans import plans

pytestmark = pytest.mark.slow

SECONDS = 90.0
CALLS = 300
"""Of an ordinary day: seven for each of the company's people."""
WITHHELD = 8
"""Pages that agents' own guardrails kept from them meanwhile: the first of every six searches of each agent."""
FAST = ("run_detection", "run_rules")
QUIET = {"informational", "low"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo at work, as fast as it goes."""
    with running_demo(tmp_path_factory.mktemp("quiet"), rate=100) as running:
        yield running


def count(demo: Demo, where: str) -> int:
    """Rows of AgentActivity."""
    return int(demo.rows(f"AgentActivity | where {where} | count")[0]["Count"])


def runs(demo: Demo) -> Counter[str]:
    """How often each background job has begun and not failed."""
    lines = re.findall(r'watchfloor_job_runs_total\{job="(\w+)",result="ok"\} (\d+)', demo.client.get("/metrics").text)
    return Counter({job: int(n) for job, n in lines})


def wait_for_detection(demo: Demo) -> None:
    """Until every kind of rule has looked at everything that is stored now."""
    before = runs(demo)
    wait_until(lambda: runs(demo)["watch_sessions"] > before["watch_sessions"], SECONDS, "a look at sessions")
    # One run more may have begun before now; the second of these has not, and the look at sessions is over by then.
    for job in FAST:
        wait_until(lambda job=job: runs(demo)[job] >= before[job] + 3, SECONDS, job)


@pytest.mark.claim("quiet-day")
def test_background_traffic_of_a_day_raises_no_incident_above_low(demo: Demo) -> None:
    agents = {plan.agent for plan in plans().values() if plan.weight}
    wait_until(
        lambda: (
            count(demo, "ActionType == 'ToolCallCompleted'") >= CALLS
            and count(demo, "ActionType == 'GuardrailDecision' and Verdict == 'block'") >= WITHHELD
            and {row["AgentId"] for row in demo.rows("AgentActivity | distinct AgentId")} >= agents
        ),
        SECONDS, "a day's work of every agent",
    )  # fmt: skip
    wait_for_detection(demo)
    loud = [item for item in demo.items("/api/incidents") if item["severity"] not in QUIET]
    assert loud == [], [(item["title"], item["description"]) for item in loud]
    found = demo.items("/api/alerts")
    assert {alert["severity"] for alert in found} <= QUIET
    # It was looked at: what guardrails withheld is there to be read.
    withheld = [alert for alert in found if alert["rule_id"] == "agent-guardrail-withheld"]
    assert sum(alert["count"] for alert in withheld) >= WITHHELD


def test_the_attack_on_the_same_company_is_one_critical_incident(demo: Demo) -> None:
    demo.play("attack", "--count", "12", "--pause", "0.1")

    def critical() -> list[str]:
        return [item["id"] for item in demo.items("/api/incidents") if item["severity"] == "critical"]

    wait_until(critical, SECONDS, "a critical incident")
    loud = [item for item in demo.items("/api/incidents") if item["severity"] not in QUIET]
    assert [item["severity"] for item in loud] == ["critical"], [item["title"] for item in loud]
    assert {e["id"] for e in loud[0]["entities"] if e["kind"] == "user"} == {"griffin"}
