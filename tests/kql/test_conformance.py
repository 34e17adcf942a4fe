"""Answers of the real engine, where they lie beside the checkout: none may be wrong, none may fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLD = ROOT.parent / "shared" / "kql" / "gold.jsonl"

pytestmark = pytest.mark.slow


@pytest.mark.claim("invariant-6")
@pytest.mark.skipif(not GOLD.exists(), reason=f"the recorded answers are not part of the repository: no {GOLD}")
def test_no_answer_is_wrong_and_none_fails() -> None:
    command = [sys.executable, str(ROOT / "bench" / "kql_conformance.py"), str(GOLD), "--timeout", "60"]
    done = subprocess.run([*command, "--show", "wrong", "--show", "error"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
