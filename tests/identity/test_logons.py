"""Sign-ins and tokens as rows that can be hunted in: each once, with whom, from where and why not, and no secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from watchfloor.identity import logons, operators, risk, sessions
from watchfloor.identity.logons import REFUSALS_PER_MINUTE, TokenEvents, publish_logons
from watchfloor.identity.operators import Operators, SignInFailed
from watchfloor.identity.passwords import Passwords
from watchfloor.identity.sts import TokenRefused, TokenService, TokenSettings
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import RiskLevel, Role
from watchfloor.storage.log import DEFAULT_PART, SqliteLog
from watchfloor.storage.ports import Seq

from .world import GATEWAY, ISSUER, SECRET, World

PASSWORD = "correct-horse-battery-staple-9"


@dataclass
class Door:
    """A token service and a portal that write their events to a log of their own."""

    world: World
    log: SqliteLog
    service: TokenService
    operators: Operators

    def rows(self) -> list[dict[str, Any]]:
        """Everything that was written, oldest first."""
        publish_logons(self.world.store, self.log, "default")
        batches = self.log.read(DEFAULT_PART, Seq(0), 100_000)
        return [row for each in batches if each.table == "SignInEvents" for row in each.batch.to_pylist()]


@pytest.fixture
def door(zava: World, tmp_path: Path) -> Iterator[Door]:
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0, now=zava.clock.now)
    service = TokenService(
        zava.store, zava.vault, TokenSettings(ISSUER, GATEWAY), key_sets=zava.service.key_sets,
        clock=zava.clock.monotonic, events=TokenEvents(zava.store, log, clock=zava.clock.monotonic),
    )  # fmt: skip
    passwords = Passwords()
    with zava.store.tx("root") as tx:
        operators.create(tx, "lin", passwords.hash(PASSWORD), [Role.SOC_OPERATOR], display_name="Lin Okafor")
    yield Door(zava, log, service, Operators(zava.store, zava.vault, passwords=passwords, clock=zava.clock.monotonic))
    log.close()


def test_a_token_for_a_user_tells_agent_user_server_address_and_the_risks_of_that_moment(door: Door) -> None:
    with door.world.store.tx("idp") as tx:
        risk.note(tx, "user", "griffin", "anonymizedIPAddress", RiskLevel.MEDIUM, source="idp", detail="seen")
    token = door.service.issue(door.world.request()).access_token
    (row,) = door.rows()
    told = {name: row[name] for name in row if row[name] not in (None, "") and name not in ("Timestamp", "ReportId")}
    assert told == {
        "ActionType": "TokenIssued", "Application": "Watchfloor token service", "LogonType": "nonInteractiveUser",
        "Protocol": "token-exchange", "AccountId": "griffin", "AccountUpn": "griffin@zava.example",
        "AccountName": "Griffin Vale", "AgentId": "customer-billing", "AgentName": "Customer Billing Agent",
        "ServerId": "mail", "Resource": f"{GATEWAY}/mcp/mail", "Scope": "read write", "Mode": "obo",
        "SessionId": "session-griffin", "IPAddress": "10.0.0.7", "ErrorCode": 0, "UserRiskLevel": "medium",
        "UserRiskState": "atRisk", "AgentRiskLevel": "none", "AgentRiskState": "none", "TenantId": "default",
        "SchemaVersion": 1, "AdditionalFields": "{}",
    }  # fmt: skip
    assert token not in str(row) and SECRET not in str(row)


def test_a_refusal_tells_why_in_our_words_and_in_entras_number(door: Door) -> None:
    with door.world.store.tx("soc") as tx:
        risk.confirm_compromised(tx, "user", "griffin", "phished")
        sessions.revoke_user(tx, "griffin", "phished")
    with pytest.raises(TokenRefused):
        door.service.issue(door.world.request())
    (row,) = [r for r in door.rows() if r["ActionType"] == "TokenRefused"]
    assert (row["FailureReason"], row["ErrorCode"], row["AccountId"]) == ("user_risk", 53003, "griffin")
    assert (row["UserRiskLevel"], row["UserRiskState"]) == ("high", "confirmedCompromised")


@pytest.mark.claim("sign-in-events")
def test_what_is_no_agent_or_resource_of_ours_is_not_written_down(door: Door) -> None:
    for request in (
        door.world.request(client_id="my-secret-by-mistake", client_secrets=("x",)),
        door.world.request(client_secrets=("wrong-secret-value",)),
        door.world.request(resource="https://elsewhere.example/my-secret-by-mistake"),
        door.world.request(grant_type="my-secret-by-mistake"),
    ):
        with pytest.raises(TokenRefused):
            door.service.issue(request)
    rows = door.rows()
    assert [row["FailureReason"] for row in rows] == [
        "invalid_client", "invalid_client", "server_unknown", "unsupported_grant_type"
    ]  # fmt: skip
    assert [row["AgentId"] for row in rows] == ["", *["customer-billing"] * 3]
    assert "my-secret-by-mistake" not in str(rows) and "wrong-secret-value" not in str(rows)


def test_a_token_that_cannot_be_written_down_is_not_given_out_and_a_refusal_stays_one(door: Door) -> None:
    door.log._min_free = 1 << 60  # a disk that is full
    with pytest.raises(Unavailable):
        door.service.issue(door.world.request())
    with pytest.raises(TokenRefused):
        door.service.issue(door.world.request(client_secrets=("wrong",)))
    door.log._min_free = 0
    with pytest.raises(TokenRefused):
        door.service.issue(door.world.request(client_secrets=("wrong",)))
    (row,) = door.rows()
    assert (row["FailureReason"], row["MoreLikeIt"]) == ("invalid_client", 1)


def test_whoever_knocks_too_often_is_counted_instead_of_written_down(door: Door) -> None:
    attempt = logons.Attempt("10.0.0.7", "token-exchange", "customer-billing", f"{GATEWAY}/mcp/mail", "mail")
    events = TokenEvents(door.world.store, door.log, clock=door.world.clock.monotonic)
    for _ in range(REFUSALS_PER_MINUTE + 25):
        events.refused(attempt, "invalid_client")
    assert len(door.rows()) == REFUSALS_PER_MINUTE
    door.world.clock.pass_seconds(61)
    events.refused(attempt, "invalid_client")
    assert door.rows()[-1]["MoreLikeIt"] == 25


@pytest.mark.asvs("16.3.1")
@pytest.mark.claim("sign-in-events")
def test_sign_ins_and_their_end_become_rows_once_however_often_the_job_runs(door: Door) -> None:
    with pytest.raises(SignInFailed):
        door.operators.sign_in("lin", "wrong", "10.0.0.9")
    with pytest.raises(SignInFailed):
        door.operators.sign_in("nobody-by-that-name", "wrong", "10.0.0.9")
    signed_in = door.operators.sign_in("lin", PASSWORD, "10.0.0.9")
    door.operators.sign_out(signed_in.session, "10.0.0.9")
    with door.world.store.tx("wanda") as tx:
        operators.end_sessions(tx, "lin")
    door.operators.sign_in("lin", PASSWORD, "10.0.0.9")
    with door.world.store.tx("wanda") as tx:
        operators.end_sessions(tx, "lin")
        sessions.revoke_user(tx, "griffin", "stolen")
    for _ in range(3):
        rows = door.rows()
    told = [
        (r["ActionType"], r["AccountId"], r["FailureReason"], r["ErrorCode"], r["IPAddress"], r["EndedBy"])
        for r in rows
    ]
    assert told == [
        ("LogonFailed", "lin", "wrong_password", 50126, "10.0.0.9", ""),
        ("LogonFailed", "", "unknown_operator", 50034, "10.0.0.9", ""),
        ("LogonSuccess", "lin", "", 0, "10.0.0.9", ""),
        ("LogonEnded", "lin", "", 0, "10.0.0.9", "lin"),
        ("LogonSuccess", "lin", "", 0, "10.0.0.9", ""),
        ("SessionsEnded", "lin", "", 0, "", "wanda"),
        ("SessionsEnded", "griffin", "", 0, "", "wanda"),
    ]
    assert "nobody-by-that-name" not in str(rows) and signed_in.token not in str(rows)


def test_a_job_that_was_killed_between_writing_and_remembering_writes_nothing_twice(door: Door) -> None:
    door.operators.sign_in("lin", PASSWORD, "10.0.0.9")
    before = door.rows()
    with door.world.store.tx("test", audited=False) as tx:
        tx.connection.exec_driver_sql(f"DELETE FROM rule_cursor WHERE name = '{logons.CURSOR}'")
    assert door.rows() == before
