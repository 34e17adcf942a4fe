"""Telling people of responses by mail: whom, what, and what becomes of a mail. The mail server is a real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from connectors.test_mail import Choosy, server, serving
from portal.house import House
from response.responding import ask, confirm, steps
from watchfloor.connectors.mail import SmtpServer
from watchfloor.jobs import JobContext, Jobs
from watchfloor.model.people import Role
from watchfloor.response.notify import MailNotifier
from watchfloor.storage import people

SOC = "soc@zava.example"


@pytest.fixture
def sink() -> Choosy:
    return Choosy()


@pytest.fixture
def smtp(sink: Choosy) -> Iterator[SmtpServer]:
    with serving(sink) as port:
        yield server(port)


def configure(house: House, smtp: SmtpServer, soc: tuple[str, ...] = (SOC,)) -> None:
    """Give the house a mail server."""
    stores, deps = house.stores, house.deps
    context = JobContext(
        stores.control, stores.events, stores.compiler, deps.vault, house.log, now=house.clock,
        notifier=MailNotifier("https://soc.zava.example/", soc), mailer=smtp,
    )  # fmt: skip
    house.jobs = Jobs(context)


def set_manager(house: House, manager: str) -> None:
    with house.stores.control.tx("test") as tx:
        griffin = people.find_user(tx, "griffin")
        assert griffin
        people.save_user(tx, replace(griffin, manager=manager))


def activity(house: House, incident: str) -> list[str]:
    found = house.client(Role.SOC_ANALYST).get(f"/api/incidents/{incident}/activity").json()["items"]
    return [entry["text"] for entry in found if entry["text"].startswith("Mail to ")]


def audited(house: House, action: str) -> int:
    log = house.client(Role.AUDITOR).get("/api/audit").json()["items"]
    return [entry["action"] for entry in log].count(action)


@pytest.mark.claim("response-notified")
def test_the_manager_and_the_soc_are_told_once_and_never_the_user(house: House, sink: Choosy, smtp: SmtpServer) -> None:
    configure(house, smtp)
    set_manager(house, "mona")
    house.attack()
    incident = house.client(Role.SOC_ANALYST).get("/api/incidents").json()["items"][0]["id"]
    response_id = confirm(house, incident_id=incident)
    for _ in range(2):
        house.work("run_responses", "deliver_messages")
    told = sink.messages()
    assert sorted(to for each in told for to in each["to"]) == ["mona@zava.example", SOC]
    assert {each["subject"] for each in told} == {"[Watchfloor] Griffin Vale: confirmed compromised"}
    text = told[0]["text"]
    assert "by op-soc-operator: stolen session" in text
    assert f"https://soc.zava.example/responses/{response_id}" in text
    assert f"https://soc.zava.example/incidents/{incident}" in text
    step = steps(house, response_id)["notify"]
    assert (step["state"], step["evidence"]) == ("done", {"mail_to": f"{SOC}, mona@zava.example"})
    assert sorted(activity(house, incident)) == ["Mail to mona@zava.example: sent", f"Mail to {SOC}: sent"]
    assert audited(house, "mail:send") == 2


def test_whoever_answers_for_an_agent_is_told_of_its_quarantine(house: House, sink: Choosy, smtp: SmtpServer) -> None:
    configure(house, smtp, soc=())
    ask(house, "/api/agents/billing/confirm-compromised")
    house.work("run_responses", "deliver_messages")
    assert sorted(to for each in sink.messages() for to in each["to"]) == ["ada@zava.example", "mona@zava.example"]


def test_where_nobody_can_be_told_the_step_says_so(house: House, sink: Choosy, smtp: SmtpServer) -> None:
    configure(house, smtp, soc=())
    set_manager(house, "griffin")  # whose mailbox may be the thief's
    response_id = confirm(house)
    house.work("run_responses", "deliver_messages")
    step = steps(house, response_id)["notify"]
    assert (step["state"], step["error"]) == ("skipped", "nobody who is to be told has a mail address.")
    assert sink.total == 0


def test_a_mail_server_that_is_down_gets_every_mail_once_it_is_back(house: House, sink: Choosy) -> None:
    with serving(sink) as port:
        smtp = server(port)
    configure(house, smtp)
    confirm(house)
    house.jobs.run_now("run_responses")
    house.jobs.run_now("deliver_messages")
    health = {job.name: job.last_error for job in house.jobs.health()}
    assert "does not take mail" in health["deliver_messages"]
    with serving(sink) as port:
        configure(house, replace(smtp, port=port))
        house.work("deliver_messages")
        assert sink.total == 0, "not before it is due"
        house.clock.forward(minutes=1)
        house.work("deliver_messages")
    assert sink.total == 1


def test_a_mail_that_nobody_takes_is_shown_as_failed_and_keeps_no_other_from_going_out(
    house: House, sink: Choosy, smtp: SmtpServer
) -> None:
    configure(house, smtp, soc=("nobody@zava.example", "busy@zava.example", SOC))
    house.attack()
    incident = house.client(Role.SOC_ANALYST).get("/api/incidents").json()["items"][0]["id"]
    confirm(house, incident_id=incident)
    house.work("run_responses")
    house.jobs.run_now("deliver_messages")  # up to the one that is busy
    house.work("deliver_messages")
    assert [each["to"] for each in sink.messages()] == [[SOC]]
    house.clock.forward(days=3)
    house.jobs.run_now("deliver_messages")
    said = "\n".join(activity(house, incident))
    assert "Mail to nobody@zava.example: failed: the mail server" in said and "550 no such mailbox" in said
    assert "Mail to busy@zava.example: failed: given up" in said
    assert (audited(house, "mail:fail"), audited(house, "mail:send")) == (2, 1)
