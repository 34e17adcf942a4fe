"""Who may: what a token and conditional access cost a call, and what a flood of sign-ins does to calls.

    python -m bench.identity [--seconds 4] [--json]

1. In process, as a gateway worker does it, with the shipped access policies and forty more: a call of a token that was
   seen before (verify, then the answer of conditional access), over 2,000 tokens of 500 users in random order, beside
   one look-up in a dictionary; and the first sight of each token, signature and all, beside the bare RS256
   verification. Batches are timed in CPU time of the thread, which neighbours do not inflate much.
2. A real worker (``bench.gateway``'s) under steady calls, without and with a process beside it in which sixteen callers
   sign in without pause: argon2id as operators' passwords are checked, two at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import RSAKey

from bench.gateway import TOOL_SERVER, found_company, free_port, keep_alive, load, raw_request, wait_for
from watchfloor import content
from watchfloor.gateway.access import Access
from watchfloor.gateway.tokens import Token, TokenVerifier, take_apart
from watchfloor.guard.access.policy import check
from watchfloor.model.access import Control
from watchfloor.model.agents import AgentState, ToolEffect
from watchfloor.model.facts import AccessPolicyFacts, AgentFacts, SigningKey, ToolFacts, UserFacts
from watchfloor.model.people import RiskLevel

ISSUER: Final = "http://sts.bench/sts"
BASE: Final = "http://gw.bench"
TOKENS: Final = 2_000
USERS: Final = 500
CALLS: Final = 20_000
ROUNDS: Final = 7
CACHED_GOAL: Final = 10.0
FIRST_GOAL: Final = 300.0
FLOOD_GOAL: Final = 5.0
"""Milliseconds that a flood may add to the p99 of calls: what the gateway as a whole may add to a direct call."""

FLOOD: Final = """
import sys
import threading
from watchfloor.identity.passwords import Passwords
from watchfloor.model.errors import Unavailable

passwords, tries, lock = Passwords(), 0, threading.Lock()
stored = passwords.hash("correct horse battery")

def caller():
    global tries
    while True:
        try:
            passwords.matches(stored, "wrong horse battery")
        except Unavailable:
            continue
        with lock:
            tries += 1

for _ in range(16):
    threading.Thread(target=caller, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
print(tries, flush=True)
"""


def bodies() -> list[dict[str, Any]]:
    """The shipped policies and forty like those that a company adds; hardly any fits a call below."""
    made = content.access_policies()
    for n in range(40):
        conditions: dict[str, Any] = {
            "users": {"includeGroups": [f"group-{n}"], "excludeGroups": ["breakglass"]},
            "agents": {"include": ["All"], "exclude": [f"agent-{n}"]},
            "resources": {"servers": ["mail", f"server-{n}"], "toolClasses": ["write"] if n % 2 else []},
        }
        if n % 3 == 0:
            conditions["userRiskLevels"] = ["medium", "high"]
        made.append(
            {
                "id": f"bench-{n:02}",
                "displayName": f"Bench {n}",
                "state": "enabled" if n % 4 else "enabledForReportingButNotEnforced",
                "conditions": conditions,
                "grantControls": {"operator": "AND", "builtInControls": ["mfa"]},
                "sessionControls": {"signInFrequency": {"value": 8, "type": "hours"}},
            }
        )
    assert not any(check(body) for body in made)
    return made


class Worker:
    """What a gateway worker holds, and the part of a call that is measured."""

    def __init__(self) -> None:
        self.access = Access()
        for body in bodies():
            self.access.learn_policy(body["id"], AccessPolicyFacts(body["id"], 1, body).to_json())
        self.agent = AgentFacts("billing", "Billing", AgentState.PUBLISHED, "1")
        self.tool = ToolFacts("mail", "send_email", ToolEffect.SEND)
        self.users = {
            f"user-{n}": UserFacts(
                f"user-{n}", f"user-{n}@zava.example", is_enabled=True, groups=(f"group-{n % 80}", "staff"),
                risk=RiskLevel.MEDIUM if n % 10 == 0 else RiskLevel.NONE,
            )
            for n in range(USERS)
        }  # fmt: skip
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.key = RSAKey.import_key(pem, {"kid": "bench", "use": "sig", "alg": "RS256"})
        self.public = private.public_key()
        self.verifier = TokenVerifier(ISSUER, BASE)
        self.forget()

    def forget(self) -> None:
        """As after a start: no token was seen, and nobody was asked about."""
        self.verifier.use_keys({"bench": SigningKey("bench", self.key.as_dict(private=False))})
        self.access.learn_policy("bench-00", AccessPolicyFacts("bench-00", 1, bodies()[4]).to_json())

    def tokens(self, count: int) -> list[bytes]:
        """Signed tokens of all users in turn, who signed in within the last two hours."""
        now = int(time.time())
        made = []
        for n in range(count):
            user = f"user-{n % USERS}"
            claims = {
                "iss": ISSUER, "aud": f"{BASE}/mcp/mail", "sub": f"user:{user}", "azp": "agent:billing",
                "act": {"sub": "agent:billing"}, "sid": f"s-{n}", "auth_time": now - n * 7 % 7200,
                "amr": ["pwd", "otp"],
                "scope": "read write", "mode": "obo", "sev": 1, "aev": 1, "jti": f"t-{n}", "iat": now, "exp": now + 600,
            }  # fmt: skip
            header = {"alg": "RS256", "typ": "at+jwt", "kid": "bench"}
            made.append(jwt.encode(header, claims, self.key, algorithms=["RS256"]).encode())
        return made

    def decide(self, raw: bytes, now: float, at: datetime) -> Control:
        """Whose token it is, and what conditional access says to the call."""
        token: Token = self.verifier.verify(raw, "mail", now)
        assert token.user_id is not None
        answer = self.access.answer(
            token.facts, token.proof, self.users[token.user_id], token.agent_id, self.agent, "mail", "send_email",
            self.tool, at,
        )  # fmt: skip
        assert answer is not None
        return answer.control


def micros(run: Callable[[list[bytes]], Any], items: list[bytes]) -> float:
    """CPU microseconds for each of ``items``."""
    gc.collect()
    gc.disable()
    begun = time.thread_time_ns()
    run(items)
    spent = time.thread_time_ns() - begun
    gc.enable()
    return spent / 1000 / len(items)


def in_process() -> dict[str, Any]:
    """Microseconds: median and worst of the rounds, interleaved."""
    worker, rng = Worker(), random.Random(7)
    tokens = worker.tokens(TOKENS)
    at = datetime.now(UTC) + timedelta(seconds=1)
    now = at.timestamp()
    order = [rng.choice(tokens) for _ in range(CALLS)]
    table = {raw: n for n, raw in enumerate(tokens)}
    parts = [take_apart(raw) for raw in tokens]
    said = dict.fromkeys(Control, 0)

    def decided(items: list[bytes]) -> None:
        for raw in items:
            worker.decide(raw, now, at)

    def looked_up(items: list[bytes]) -> None:
        for raw in items:
            table[raw]

    def verified(items: list[bytes]) -> None:
        for n in range(len(items)):
            _, _, signed, signature = parts[n]
            worker.public.verify(signature, signed, padding.PKCS1v15(), SHA256())

    rows: dict[str, list[float]] = {name: [] for name in ("cached", "look-up", "first sight", "RS256 alone")}
    for _ in range(ROUNDS):
        worker.forget()
        rows["first sight"].append(micros(decided, tokens))
        rows["RS256 alone"].append(micros(verified, tokens))
        rows["cached"].append(micros(decided, order))
        rows["look-up"].append(micros(looked_up, order))
    for raw in tokens:
        said[worker.decide(raw, now, at)] += 1
    return {
        "micros": {name: [statistics.median(found), max(found)] for name, found in rows.items()},
        "answers": {control.value: count for control, count in said.items() if count},
    }


async def flooded(seconds: float) -> dict[str, Any]:
    """Milliseconds of calls without and with sign-ins beside them, in turns, and sign-ins a second."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, environment: dict[str, str] | None = None, **piped: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, *arguments], env=os.environ | (environment or {}), **piped)
        processes.append(process)
        return process

    quiet: list[float] = []
    loud: list[float] = []
    tries = 0
    try:
        with tempfile.TemporaryDirectory(prefix="watchfloor-bench-") as directory:
            data, tool_port, port = Path(directory), free_port(), free_port()
            upstream = start("-c", TOOL_SERVER, str(tool_port))
            server_url = "http://127.0.0.1:1"
            token = found_company(
                data, f"http://127.0.0.1:{tool_port}/mcp", f"http://127.0.0.1:{port}", f"{server_url}/sts", 10
            )
            gateway = start(
                "-m", "watchfloor", "gateway", "--data", directory, "--port", str(port),
                environment={"WATCHFLOOR_LEASE_SECONDS": "60", "WATCHFLOOR_SERVER_URL": server_url},
            )  # fmt: skip
            wait_for(tool_port, upstream)
            wait_for(port, gateway, "/healthz")
            alive = asyncio.create_task(keep_alive(data / "epoch"))
            request = raw_request(port, "/mcp/mail", token)
            await load(port, request, 4, 1.0)
            for _ in range(3):
                quiet += await load(port, request, 4, seconds / 3)
                flood = start("-c", FLOOD, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                assert flood.stdin is not None and flood.stdout is not None
                await asyncio.to_thread(flood.stdout.readline)
                loud += await load(port, request, 4, seconds / 3)
                flood.stdin.write(b"\n")
                flood.stdin.flush()
                tries += int(await asyncio.to_thread(flood.stdout.readline))
                flood.kill()
                flood.wait()
            alive.cancel()
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    return {
        "without": [statistics.median(quiet), sorted(quiet)[int(len(quiet) * 0.99)], len(quiet) / seconds],
        "with": [statistics.median(loud), sorted(loud)[int(len(loud) * 0.99)], len(loud) / seconds],
        "sign-ins": tries / seconds,
    }


def kept(value: float, goal: float) -> str:
    """What came of a goal."""
    return "kept" if value <= goal else "NOT kept"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    outcome = in_process() | {"flood": asyncio.run(flooded(arguments.seconds))}
    if arguments.json:
        print(json.dumps(outcome))
        return 0
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "?: ?")
    print(f"{os.cpu_count()} x {cpu.partition(': ')[2]}, {platform.system()} {platform.release()}, "
          f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"{len(bodies())} access policies, {TOKENS:,} tokens of {USERS} users; CPU µs, median and worst of {ROUNDS}"
          f" rounds; answers: {', '.join(f'{n} {c}' for c, n in outcome['answers'].items())}")  # fmt: skip
    for name, (median, worst) in outcome["micros"].items():
        print(f"{name:14}{median:9.2f}{worst:9.2f}")
    cached, first = outcome["micros"]["cached"][0], outcome["micros"]["first sight"][0]
    floor, bare = outcome["micros"]["look-up"][0], outcome["micros"]["RS256 alone"][0]
    print(f"token and conditional access, seen before: {cached:.2f} µs, {cached / floor:.0f} look-ups "
          f"(goal {CACHED_GOAL:.0f} µs): {kept(cached, CACHED_GOAL)}")  # fmt: skip
    print(f"at first sight: {first:.1f} µs, {first / bare:.1f} times the signature alone "
          f"(goal {FIRST_GOAL:.0f} µs): {kept(first, FIRST_GOAL)}")  # fmt: skip
    flood = outcome["flood"]
    print(f"\n{'calls, c=4':22}{'p50 ms':>8}{'p99 ms':>8}{'calls/s':>9}")
    for name in ("without", "with"):
        p50, p99, rate = flood[name]
        print(f"{name + ' sign-ins':22}{p50:8.2f}{p99:8.2f}{rate:9.0f}")
    added = flood["with"][1] - flood["without"][1]
    ratio = flood["with"][0] / flood["without"][0]
    print(f"{flood['sign-ins']:.0f} sign-ins/s by 16 callers beside them: p50 {ratio:.2f} times, "
          f"p99 {added:+.2f} ms (goal {FLOOD_GOAL:.0f} ms): {kept(added, FLOOD_GOAL)}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
