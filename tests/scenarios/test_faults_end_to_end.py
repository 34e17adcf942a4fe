"""Faults of the machine, with every process real: the tool does not run, and it does again when the fault is gone."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from scenarios.company import Company, headers, rpc, running, wait_until

pytestmark = pytest.mark.slow


def _call(company: Company, token: str, key: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.post(
        f"{company.gateway}/mcp/mail", json=rpc("lookup", {"key": key}), headers=headers(token, "lookup"), timeout=20
    ).json()
    return answer


def _reached(company: Company) -> list[str]:
    return [call["key"] for call in company.calls_at_the_tool()]


@pytest.mark.asvs("16.5.3")
@pytest.mark.claim("invariant-2")
def test_with_a_full_disk_no_call_goes_out_and_with_room_again_it_does(tmp_path: Path) -> None:
    with running(tmp_path) as company:
        token = company.token("griffin")
        assert "result" in _call(company, token, "before")
        workers = [company.pid("gateway-0"), company.pid("gateway-1")]
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # every write now fails
        for number in range(6):
            refused = _call(company, token, f"full-{number}")
            assert refused["error"]["data"]["code"] == "not_recorded"
        assert _reached(company) == ["before"]
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_until(lambda: "result" in _call(company, token, "after"), 20, "calls going out again")
        assert [pid for pid in workers if not Path(f"/proc/{pid}").exists()] == []
        # Nothing half-written is in the way: what was allowed is on record.
        wait_until(
            lambda: (
                sum(r["Verdict"] == "allow" for r in company.api("GET", "/api/decisions?limit=100")["items"])
                >= len(_reached(company))
            ),
            what="arrival of the decisions",
        )


@pytest.mark.claim("invariant-2")
def test_without_a_control_plane_calls_go_on_for_the_lease_and_then_stop_until_it_is_back(tmp_path: Path) -> None:
    with running(tmp_path, environment={"WATCHFLOOR_LEASE_SECONDS": "1"}) as company:
        token = company.token("griffin")
        assert "result" in _call(company, token, "before")
        assert company.process is not None
        # A stopped supervisor starts nothing again: the server stays away.
        company.process.send_signal(signal.SIGSTOP)
        try:
            company.kill("server")
            wait_until(lambda: "error" in _call(company, token, "waning"), 10, "the end of the lease")
            reached = _reached(company)
            for number in range(4):
                stale = _call(company, token, f"stale-{number}")
                assert stale["error"]["data"]["code"] == "state_stale"
            assert _reached(company) == reached
        finally:
            company.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "result" in _call(company, token, "after"), 30, "calls after the server's return")
