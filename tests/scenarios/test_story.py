"""The whole story, played as a user would play it: one command, its lines of JSON, its exit status."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "watchfloor", "demo", "story", "--json"]
LONGEST_SECONDS = 180.0
STEPS = [
    "start", "company", "tools", "work", "attack", "far-end", "poison", "records", "alerts", "incident", "hold",
    "roles", "replay", "revoke", "sign-in", "work-ends", "block", "proof", "resolve", "hunt", "notify", "resubmit",
    "audit", "shutdown",
]  # fmt: skip


def processes_below(directory: Path) -> list[str]:
    """Command lines of living processes that work in ``directory``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(directory) in line and "test_story" not in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The story played once: its lines, its summary, its exit status, and whatever else it left."""
    directory = tmp_path_factory.mktemp("story")
    began = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "--keep", str(directory)], capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    yield {
        "lines": lines[:-1],
        "facts": {line["step"]: line["facts"] for line in lines[:-1]},
        "summary": lines[-1],
        "status": done.returncode,
        "errors": done.stderr,
        "seconds": time.monotonic() - began,
        "left": processes_below(directory),
    }


def test_every_step_of_the_story_goes_as_it_must(story: dict[str, Any]) -> None:
    failed = [line for line in story["lines"] if not line["ok"]]
    assert failed == [], json.dumps(failed, indent=1)[:6000]
    assert [line["step"] for line in story["lines"]] == STEPS
    assert (story["status"], story["summary"]["ok"]) == (0, True), story["errors"][-3000:]


@pytest.mark.claim("story-blocked-before-tool")
@pytest.mark.claim("invariant-1")
def test_every_mail_call_of_the_thief_is_blocked_before_the_mail_server(story: dict[str, Any]) -> None:
    summary = story["summary"]
    assert summary["attack_calls"] == summary["attack_blocked"] >= 12
    assert summary["attack_reached_tool"] == 0
    assert story["facts"]["far-end"]["mail_tool_calls"] > 0, "colleagues' mail did pass"


def test_what_a_web_page_orders_never_reaches_a_tool(story: dict[str, Any]) -> None:
    found = story["facts"]["poison"]
    assert found["market-poisoned"]["tool"] == "mail.send_email"
    assert found["supplier-poisoned"]["tool"] == "invoices.create_payment"
    assert all(found[plan]["arrived"] == 0 for plan in ("market-poisoned", "supplier-poisoned"))


def test_a_held_call_goes_out_once_when_approved_and_never_when_declined(story: dict[str, Any]) -> None:
    facts = story["facts"]["hold"]
    assert (facts["held"], facts["approved"], facts["arrived"]) == ("held", "ok", 1)
    assert facts["declined"] != "ok" and facts["changed"] != "ok" and facts["again"] != "ok"


@pytest.mark.claim("mcp-client-unmodified")
def test_ordinary_work_is_not_disturbed_by_the_product_nor_by_the_attack(story: dict[str, Any]) -> None:
    summary = story["summary"]
    assert summary["benign_calls"] == summary["benign_succeeded"] >= 60
    assert story["facts"]["work-ends"]["on_attacked_agent"] > 0
    assert story["facts"]["work-ends"]["mails_asked"] == story["facts"]["work-ends"]["mails_delivered"]


@pytest.mark.claim("story-jailbreak-seen")
def test_the_persistent_jailbreak_attempts_are_seen(story: dict[str, Any]) -> None:
    assert story["summary"]["alerts"] >= 2
    assert any("jailbreak" in title.lower() for title in story["facts"]["alerts"]["titles"])


@pytest.mark.claim("story-one-incident")
@pytest.mark.claim("story-incident-facts")
def test_the_alerts_are_one_critical_incident_that_tells_the_facts(story: dict[str, Any]) -> None:
    assert story["summary"]["incidents"] == 1
    assert story["summary"]["incident_title"] == "Collection incident involving one user"
    assert story["facts"]["incident"]["severity"] == "critical"


@pytest.mark.claim("story-it-serious-only")
@pytest.mark.claim("story-soc-sees-all")
@pytest.mark.claim("invariant-5")
@pytest.mark.claim("invariant-7")
def test_each_role_sees_what_it_should_and_no_more(story: dict[str, Any]) -> None:
    facts = story["facts"]["roles"]
    assert facts["analyst"] >= facts["all"] > facts["it_admin"] > 0
    assert facts["hidden_from_it"] > 0 and facts["content_for_it"] == 403


@pytest.mark.claim("replay")
def test_a_recorded_decision_replays_to_the_same_verdict(story: dict[str, Any]) -> None:
    assert story["facts"]["replay"] | {"equal": True, "effect": "block"} == story["facts"]["replay"]


@pytest.mark.claim("story-sessions-die-at-once")
@pytest.mark.claim("invariant-4")
def test_a_revoked_session_is_refused_at_once_at_every_door(story: dict[str, Any]) -> None:
    summary, facts = story["summary"], story["facts"]["revoke"]
    assert summary["allowed_after_revoke"] == 0
    assert 0 < summary["revoke_to_refusal_ms"] < 1000
    assert facts["calls_before"] > 0 and facts["calls_after"] > 0
    assert story["facts"]["sign-in"]["seconds"] < 10


@pytest.mark.claim("story-block-agent")
def test_a_blocked_agent_is_refused_at_every_door(story: dict[str, Any]) -> None:
    facts = story["facts"]["block"]
    assert (facts["allowed_after"], facts["arrived_after"]) == (0, 0) and facts["calls_after"] > 0
    assert facts["token_service"] and facts["other_agents"] == "ok"


@pytest.mark.claim("story-proof-of-enforcement")
def test_the_block_is_proved_at_every_door_of_every_worker_within_a_second(story: dict[str, Any]) -> None:
    facts = story["facts"]["proof"]
    assert (facts["status"], facts["workers"]) == ("proven", 2) and facts["slowest_ms"] < 1000
    assert {"mcp", "decide", "agent365", "token-service", "store"} <= set(facts["doors"])


@pytest.mark.claim("story-notify-makers")
def test_each_maker_gets_mail_and_its_link_acknowledges_once(story: dict[str, Any]) -> None:
    facts = story["facts"]["notify"]
    assert "ada" in facts["makers"] and len(facts["makers"]) >= 2
    assert facts["acknowledged"] is True


@pytest.mark.claim("story-maker-credentials-hunt")
@pytest.mark.claim("story-resubmit")
def test_the_corrected_version_is_approved_by_somebody_else_and_no_longer_found_by_the_hunt(
    story: dict[str, Any],
) -> None:
    hunted, facts = story["facts"]["hunt"], story["facts"]["resubmit"]
    assert "customer-billing" in hunted["maker_credentials"] and hunted["writing"] > 0
    assert facts["own_approval"] == 403 and facts["narrower"] >= 2
    assert (facts["reads"], facts["mails"]) == ("ok", "token:invalid_target")  # it may use nothing of that server
    assert "customer-billing" not in facts["still_found"]


@pytest.mark.claim("story-resolve")
def test_the_incident_is_resolved_with_a_classification(story: dict[str, Any]) -> None:
    assert story["facts"]["resolve"]["classification"] == "truePositive"


@pytest.mark.claim("invariant-8")
@pytest.mark.claim("manifest-idempotent")
def test_the_books_are_in_order(story: dict[str, Any]) -> None:
    assert story["facts"]["audit"]["intact"] is True
    assert story["facts"]["company"]["changes_when_applied_again"] == 0


def test_nothing_is_left_behind_and_it_does_not_take_long(story: dict[str, Any]) -> None:
    assert story["left"] == []
    assert story["facts"]["shutdown"]["left"] == 0
    assert story["seconds"] < LONGEST_SECONDS


def free_base_port() -> int:
    """A port that, with the twenty that follow, nobody uses right now."""
    for base in random.sample(range(20_000, 60_000), 200):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in range(base, base + 21):
                probe = probes.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port))
            return base
    raise AssertionError("no free ports")


def test_the_company_lives_beside_the_product_and_survives_a_kill(tmp_path: Path) -> None:
    data, base = tmp_path / "data", free_base_port()
    options = {"--data": data, "--demo-base-port": base, "--port": base + 17, "--gateway-port": base + 18}
    options |= {"--receiver-port": base + 19, "--receiver-grpc-port": base + 20}
    arguments = [str(part) for pair in options.items() for part in pair]
    product = subprocess.Popen(
        [sys.executable, "-m", "watchfloor", "up", "--demo", "--json", "--demo-rate", "4", *arguments],
        stdout=subprocess.PIPE, stderr=(tmp_path / "up.log").open("w"), text=True,
    )  # fmt: skip

    def demo(command: str, *more: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "watchfloor", "demo", command, "--data", str(data), *more],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    try:
        assert product.stdout is not None
        addresses = json.loads(product.stdout.readline())
        attack = demo("attack", "--count", "3", "--json")
        assert attack["attack_calls"] == attack["attack_blocked"] == 3
        before = json.loads((data / "demo" / "company.json").read_text())
        os.kill(addresses["pids"]["demo"], signal.SIGKILL)
        ready = data / "demo" / "ready"
        killed = time.time()
        while not (ready.exists() and ready.stat().st_mtime > killed):
            assert time.time() < killed + 30, "the company did not come back"
            time.sleep(0.05)
        after = json.loads((data / "demo" / "company.json").read_text())
        assert after["secrets"] == before["secrets"]
        work = demo("traffic", "--rate", "10", "--seconds", "3")
        assert work["benign_calls"] == work["benign_succeeded"] > 10
    finally:
        product.terminate()
        status = product.wait(60)
    assert status == 0, (tmp_path / "up.log").read_text()[-3000:]
    assert processes_below(tmp_path) == []


def test_an_interrupted_story_stops_all_its_processes_and_says_so(tmp_path: Path) -> None:
    playing = subprocess.Popen(
        [*COMMAND, "--keep", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert playing.stdout is not None
        first = json.loads(playing.stdout.readline())
        assert (first["step"], first["ok"]) == ("start", True), first
        os.kill(playing.pid, signal.SIGINT)
        rest, _ = playing.communicate(timeout=60)
    finally:
        playing.kill()
    assert json.loads(rest.splitlines()[-1])["ok"] is False
    assert playing.returncode == 130
    assert processes_below(tmp_path) == []
