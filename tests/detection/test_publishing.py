"""Alerts in the tables that hunting reads: once each, again when they changed, whatever dies in between."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from detection.rows import NOON
from detection.stores import Stores, open_stores
from kql.running import shown
from watchfloor.detection.publishing import publish_alerts
from watchfloor.detection.rules import shipped
from watchfloor.detection.runner import Detector
from watchfloor.model.cases import Classification, IncidentStatus
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import Permission
from watchfloor.registry import manifest
from watchfloor.storage import cases, triage
from watchfloor.storage.events import drain
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import KeyedBatch
from watchfloor.storage.snapshots import list_fresh_alerts
from watchfloor.storage.tables import TABLES
from watchfloor.storage.vault import Vault
from watchfloor_demo import manifest as zava
from watchfloor_demo.runtime import SERVICES, Runtime

EVERYTHING = frozenset(Permission)
OUTSIDE: dict[str, Any] = {
    "reason": "policy", "severity": "high", "tactic": "Exfiltration", "agent": "customer-billing",
}  # fmt: skip
JAILBREAK: dict[str, Any] = {
    "reason": "detector", "severity": "high", "tactic": "Defense Evasion", "policy": "jailbreak",
    "signals": ("jailbreak",), "tool": "lookup", "agent": "customer-billing",
}  # fmt: skip
Row = dict[str, Any]


@dataclass
class Soc:
    """Stores with the demo company in them, and a log."""

    stores: Stores
    log: SqliteLog
    at: datetime = NOON + timedelta(hours=1)

    def now(self) -> datetime:
        return self.at

    def detect(self, *steps: dict[str, Any]) -> None:
        self.stores.arrive(*steps)
        detector = Detector(self.stores.control, self.stores.activity, shipped())
        while detector.run().rows:
            pass

    def publish(self, log: Any = None) -> int:
        return publish_alerts(self.stores.control, log or self.log, "default", self.at)

    def ask(self, kql: str) -> list[Row]:
        drain(self.log, self.stores.events)
        answer = shown(Hunter(self.stores.events, self.stores.compiler).hunt(Request(kql)))
        return [dict(zip(answer.names, row, strict=True)) for row in answer.rows]

    def history(self, column: str) -> list[Any]:
        """What AlertInfo has said of the only alert, oldest first."""
        return [row[column] for row in self.ask("AlertInfo | sort by Timestamp asc")]


@pytest.fixture
def soc(tmp_path: Path) -> Iterator[Soc]:
    at = NOON + timedelta(hours=1)
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0)
    made: list[Soc] = []
    with open_stores(tmp_path, now=lambda: made[0].at if made else at) as stores:
        runtime = Runtime(tmp_path, ports={service: 7720 + offset for service, offset in SERVICES.items()})
        with stores.control.tx("celia") as tx:
            manifest.apply(tx, yaml.safe_dump(zava.build(runtime)), Vault.open(tmp_path / "vault.key"))
        made.append(Soc(stores, log, at))
        yield made[0]
    log.close()


def test_every_column_says_something_in_some_row(soc: Soc) -> None:
    soc.detect({**OUTSIDE, "at": 0})
    soc.publish()
    for table in ("AlertInfo", "AlertEvidence"):
        rows = soc.ask(table)
        empty = {c.name for c in TABLES[table].columns if all(row[c.name] in (None, "", "[]", []) for row in rows)}
        assert empty == set()


def test_an_alert_has_the_words_that_queries_know(soc: Soc) -> None:
    soc.detect(*[{**JAILBREAK, "at": n * 60, "conversation": f"c-{n}"} for n in range(4)])
    soc.publish()
    (row,) = soc.ask('AlertInfo | where DetectionSource == "persistent-jailbreak"')
    assert (row["Category"], row["Severity"], row["Status"], row["ServiceSource"]) == (
        "DefenseEvasion",
        "High",
        "New",
        "Watchfloor",
    )
    assert row["IncidentId"].startswith("inc_") and json.loads(row["AttackTechniques"])


def test_the_things_involved_are_rows_with_roles(soc: Soc) -> None:
    soc.detect({**OUTSIDE, "at": 0, "id": "evt_a"})
    soc.publish()
    rows = {row["EntityType"]: row for row in soc.ask("AlertEvidence")}
    assert {kind: row["EvidenceRole"] for kind, row in rows.items()} == {
        "User": "Impacted",
        "AIAgent": "Impacted",
        "Tool": "Related",
        "McpServer": "Related",
        "Ip": "Suspected",
        "Session": "Suspected",
        "Event": "Related",
    }
    assert (rows["User"]["AccountUpn"], rows["User"]["AccountName"], rows["User"]["AccountDomain"]) == (
        "griffin@zava.example",
        "griffin",
        "zava.example",
    )
    assert json.loads(rows["AIAgent"]["AdditionalFields"]) == {
        "AgentId": "customer-billing",
        "AgentName": "Customer Billing Agent",
        "HostingPlatformType": "Copilot Studio",
    }
    assert rows["McpServer"]["RemoteUrl"] == "http://127.0.0.1:7731/mcp"
    assert (rows["Ip"]["RemoteIP"], rows["Ip"]["EvidenceDirection"]) == ("203.0.113.7", "Source")
    assert rows["Event"]["EntityId"] == "evt_a"
    assert json.loads(rows["Event"]["AdditionalFields"])["verdict"] == "block"


def test_alerts_lead_to_their_incident_and_to_the_events_behind_them(soc: Soc) -> None:
    soc.detect({**OUTSIDE, "at": 0})
    soc.publish()
    rows = soc.ask(
        """
        AlertInfo
        | summarize arg_max(Timestamp, *) by AlertId
        | join kind=inner (AlertEvidence | where EntityType == "Event") on AlertId
        | join kind=inner (AgentActivity | project EntityId = ReportId, Verdict) on EntityId
        | project IncidentId, Verdict
        """
    )
    with soc.stores.control.read() as tx:
        (incident,) = cases.list_incidents(tx, EVERYTHING)
    assert rows == [{"IncidentId": incident.id, "Verdict": "block"}]


def test_an_ordinary_day_fills_no_row(soc: Soc) -> None:
    soc.detect(*[{"verdict": "allow", "at": n} for n in range(20)])
    assert soc.publish() == 0
    assert soc.ask("AlertInfo") == []


def test_what_did_not_change_is_published_once(soc: Soc) -> None:
    soc.detect({**OUTSIDE, "at": 0})
    assert soc.publish() == 1
    assert soc.publish() == 0
    soc.at += timedelta(days=3)
    assert soc.publish() == 0
    assert soc.history("Status") == ["New"]


def decide(soc: Soc, status: IncidentStatus, **options: Any) -> None:
    soc.at += timedelta(minutes=1)
    with soc.stores.control.tx("mona") as tx:
        (incident,) = cases.list_incidents(tx, EVERYTHING)
        triage.triage_incident(tx, incident.id, status=status, **options)


def test_a_status_is_published_when_it_changed_and_when_it_changed_back(soc: Soc) -> None:
    soc.detect({**OUTSIDE, "at": 0})
    soc.publish()
    for status in (IncidentStatus.IN_PROGRESS, IncidentStatus.ACTIVE, IncidentStatus.IN_PROGRESS):
        decide(soc, status)
        assert soc.publish() == 1
    decide(soc, IncidentStatus.RESOLVED, classification=Classification.TRUE_POSITIVE)
    assert soc.publish() == 1
    assert soc.history("Status") == ["New", "InProgress", "New", "InProgress", "Resolved"]


def test_a_late_alert_that_merges_two_incidents_moves_the_alerts_in_the_tables(soc: Soc) -> None:
    soc.detect({**OUTSIDE, "at": 0})
    soc.detect({**OUTSIDE, "at": 3 * 3600})
    soc.publish()
    soc.at += timedelta(minutes=1)
    soc.detect({**OUTSIDE, "at": 5400})
    soc.publish()
    newest = soc.ask("AlertInfo | summarize arg_max(Timestamp, *) by AlertId | distinct IncidentId")
    with soc.stores.control.read() as tx:
        (incident,) = cases.list_incidents(tx, EVERYTHING)
    assert newest == [{"IncidentId": incident.id}]


def test_more_of_the_same_waits_a_quarter_of_an_hour_and_somebody_new_does_not(soc: Soc) -> None:
    soc.detect({**OUTSIDE, "at": 0})
    soc.publish()
    soc.at += timedelta(minutes=5)
    soc.detect({**OUTSIDE, "at": 10})
    assert soc.publish() == 0
    soc.detect({**OUTSIDE, "at": 20, "address": "198.51.100.9"})
    assert soc.publish() == 1
    soc.at += timedelta(minutes=5)
    soc.detect({**OUTSIDE, "at": 30})
    assert soc.publish() == 0
    soc.at += timedelta(minutes=11)
    assert soc.publish() == 1
    assert soc.publish() == 0
    counts = soc.ask(
        'AlertEvidence | where EntityType == "Event" | summarize n = count() by Timestamp | sort by Timestamp asc'
    )
    assert [row["n"] for row in counts] == [1, 3, 4]


def test_a_log_that_fails_is_made_up_for_by_the_next_run(soc: Soc) -> None:
    class Full:
        def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> int:
            raise Unavailable("the disk is full")

    soc.detect({**OUTSIDE, "at": 0})
    with pytest.raises(Unavailable):
        soc.publish(Full())
    assert soc.ask("AlertInfo") == []
    assert soc.publish() == 1
    assert soc.history("Status") == ["New"]


def test_a_death_behind_the_append_doubles_nothing(soc: Soc) -> None:
    class Killed(BaseException):
        pass

    class Dying:
        def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> int:
            soc.log.append_once(part, batches)
            raise Killed

    soc.detect({**OUTSIDE, "at": 0})
    with pytest.raises(Killed):
        soc.publish(Dying())
    assert soc.publish() == 1
    assert soc.history("Status") == ["New"]
    assert len(soc.ask('AlertEvidence | where EntityType == "User"')) == 1


def test_many_alerts_are_published_page_by_page(soc: Soc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchfloor.detection.publishing._PAGE", 2)
    soc.detect(*[{**OUTSIDE, "at": n * 3600} for n in range(5)])
    assert soc.publish() == 5
    assert soc.publish() == 0
    assert len(soc.ask("AlertInfo | distinct AlertId")) == 5


def test_an_alert_at_rest_is_not_even_looked_at(soc: Soc) -> None:
    def fresh() -> int:
        with soc.stores.control.read() as tx:
            return len(list_fresh_alerts(tx, "", 10))

    soc.detect({**OUTSIDE, "at": 0})
    soc.publish()
    assert fresh() == 1
    soc.at += timedelta(minutes=11)
    assert (soc.publish(), fresh()) == (0, 0)
    decide(soc, IncidentStatus.IN_PROGRESS)
    assert (fresh(), soc.publish()) == (1, 1)
