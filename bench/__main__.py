"""``make bench``: runs every benchmark; with ``--write`` keeps what they print in docs/performance.md.

Benchmarks that were not chosen keep their sections there as they are.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
BENCHMARKS = {
    "guard_decision": "Guard decision, 10 and 100 policies, beside hand-written Python and CEL alone",
    "gateway": "Gateway: added latency and CPU a call, beside a direct call and FastMCP's proxy",
    "webhook": "Copilot Studio's webhook: 200 questions at once, beside a bare endpoint, and a stalled detector",
    "event_log": "Event log: durable appends a second, beside a plain write and sync",
    "event_store": "Event store: rows a second from log to table, beside Parquet",
    "ingest": "Telemetry: events a second over HTTP until KQL sees them, beside parse and Parquet",
    "incident_lag": "Detection: from an attack's event to its incident in the API, 2,000 events a second beside",
    "graph": "Graph of an incident of a thousand things; blast radius among 10,000 agents and 50,000 bindings",
    "posture": "Posture: scan, list, filter and risk tab with 10,000 agents and 50,000 bindings, beside reading alone",
    "correlation": "Correlation: what an alert costs with 1,000 to 100,000 there, beside storing it",
    "rules": "Rules: thirty in KQL over 5,000 new events, a million behind, beside one scan by hand",
    "identity": "Identity: token and conditional access a call, beside look-up and signature; a flood of sign-ins",
    "kql_speed": "KQL: a million rows, beside SQL written by hand; translation",
}
"""Script -> what it measures. Budgets: docs/performance.md."""


def kept_sections() -> dict[str, str]:
    """Title -> text of each section that the page has now."""
    parts = PAGE.read_text("utf-8").split("\n## ")[1:] if PAGE.exists() else []
    return {title: text.lstrip("\n") for title, _, text in (part.partition("\n") for part in parts)}


def main() -> int:
    """Run the chosen benchmarks (all by default); exit status 1 if one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], help="which ones; all by default")
    parser.add_argument("--write", action="store_true", help="write their sections of docs/performance.md")
    arguments = parser.parse_args()
    sections = kept_sections()
    failed = False
    for name in arguments.names or BENCHMARKS:
        print(f"\n== {name}: {BENCHMARKS[name]}", flush=True)
        run = subprocess.run([sys.executable, "-m", f"bench.{name}"], capture_output=True, text=True, cwd=HERE.parent)
        print(run.stdout, run.stderr if run.returncode else "", flush=True)
        failed |= run.returncode != 0
        today = datetime.datetime.now(datetime.UTC).date()
        sections[BENCHMARKS[name]] = f"`python -m bench {name}`, {today}\n\n```\n{run.stdout.strip()}\n```\n"
    if arguments.write and not failed:
        intro = (HERE / "budgets.md").read_text("utf-8")
        page = "\n".join([intro, *(f"## {t}\n\n{sections[t]}" for t in BENCHMARKS.values() if t in sections)])
        PAGE.write_text(page, "utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
