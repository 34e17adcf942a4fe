"""`watchfloor up`: what a person meets at the console."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scenarios.company import Company, running, wait_until

pytestmark = pytest.mark.slow


def _up(data: Path, port: int, gateway_port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "watchfloor", "up", "--data", str(data), "--port", str(port)]
    return subprocess.run(
        [*command, "--gateway-port", str(gateway_port)], capture_output=True, text=True, timeout=60, env=os.environ
    )


def test_a_taken_port_is_named_with_its_remedy_and_the_running_installation_is_left_alone(tmp_path: Path) -> None:
    with running(tmp_path) as company:
        second = _up(company.data, company.port, company.gateway_port)
        assert second.returncode == 1
        assert f"port {company.port} on 127.0.0.1 is taken" in second.stderr and "--port" in second.stderr
        assert (company.data / "run" / "up.json").exists()
        assert company.is_answering()


def test_what_dies_is_started_again_and_a_restart_keeps_everything(tmp_path: Path) -> None:
    company = Company(tmp_path)
    try:
        company.start()
        company.apply()
        before = company.pid("gateway-0")
        company.kill("gateway-0")
        wait_until(lambda: company.pid("gateway-0") != before, what="another worker")
        company.stop()
        assert company.process is not None and company.process.returncode == 0
        assert not (company.data / "run" / "up.json").exists()
        company.start()
        assert [a["id"] for a in company.api("GET", "/api/agents")["items"]] == ["billing"]
    finally:
        company.close()


def test_killing_the_supervisor_leaves_no_process_behind(tmp_path: Path) -> None:
    company = Company(tmp_path)
    try:
        company.start()
        pids = [company.pid(name) for name in ("server", "store", "gateway-0", "gateway-1")]
        assert company.process is not None
        company.process.send_signal(signal.SIGKILL)
        company.process.wait()
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    finally:
        company.close()
