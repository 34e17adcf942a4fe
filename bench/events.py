"""What the event benchmarks share: realistic rows, percentiles, the machine. Not a benchmark itself."""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WORDS = ["invoice", "customer", "payment", "reminder", "order", "delivery", "account", "meeting", "contract", "review"]
RANDOM = random.Random(1)


def machine() -> str:
    """One line about where this was measured."""
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "?: ?")
    return (
        f"{os.cpu_count()} x {cpu.partition(': ')[2]}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def rss_mib() -> float:
    """Memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def activity_row(n: int, at: int) -> dict[str, Any]:
    """A decision as a gateway worker records it: about 1.2 kB of JSON. ``at`` is Unix microseconds."""
    agent, user = n % 300, n % 2000
    facts = {"agent": f"agent-{agent}", "user": f"user-{user}", "epoch": n % 7, "tools": RANDOM.sample(WORDS, 4)}
    reasons = [{"code": "policy", "step": "policies", "effect": "block", "message": " ".join(RANDOM.sample(WORDS, 8))}]
    return {
        "Timestamp": at,
        "TenantId": "default",
        "ReportId": f"evt_{n:026d}",
        "ActionType": "ToolCallDecided" if n % 2 else "ToolCallCompleted",
        "InvocationId": f"inv_{n // 2:026d}",
        "ConversationId": f"conv-{n % 5000}",
        "SessionId": f"ses-{n % 3000}",
        "AgentId": f"agent-{agent}",
        "AgentName": f"Agent number {agent}",
        "AgentVersion": "3",
        "UserId": f"user-{user}",
        "AccountUpn": f"user-{user}@zava.example",
        "ActingMode": "on-behalf-of",
        "CredentialOwner": "user",
        "ServerId": f"server-{n % 12}",
        "ToolName": f"tool_{n % 60}",
        "ToolEffect": "send" if n % 3 else "read",
        "Verdict": "block" if n % 50 == 0 else "allow",
        "WouldBe": "allow",
        "ReasonCode": "policy" if n % 50 == 0 else "",
        "Reasons": json.dumps(reasons if n % 50 == 0 else []),
        "Signals": "[]",
        "PolicySet": "7d0f" * 16,
        "InputHash": f"{n:064x}",
        "Facts": json.dumps(facts),
        "IPAddress": f"10.0.{n % 250}.{n % 199}",
        "SourceDoor": "mcp",
        "Status": "ok",
        "HttpStatus": 200,
        "DurationMs": RANDOM.random() * 100,
        "DecisionUs": RANDOM.random() * 100,
        "BytesOut": n % 9000,
        "WorkerId": "gateway-0",
        "SchemaVersion": 1,
    }


def content_row(n: int, at: int) -> dict[str, Any]:
    """The contents that belong to a decision."""
    content = {"arguments": {"to": f"user-{n}@example.com", "body": " ".join(RANDOM.choices(WORDS, k=60))}}
    return {
        "Timestamp": at,
        "TenantId": "default",
        "ReportId": f"evt_c{n:025d}",
        "InvocationId": f"inv_{n:026d}",
        "AgentId": f"agent-{n % 300}",
        "Kind": "invocation",
        "Content": json.dumps(content),
    }


def seconds(work: Callable[[], object]) -> float:
    """Wall time of ``work``."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
