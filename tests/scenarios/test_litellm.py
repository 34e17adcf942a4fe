"""LiteLLM's own guardrail class against a real worker, in its most careless configuration.

LiteLLM comes in an environment of its own (`make clients`).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scenarios.company import AGENT_SECRET, Company, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-litellm"
SECRET = "AKIA" + "IOSFODNN7" + "ABCDEFG"
POLICY = {
    "id": "no-secrets-in-answers",
    "title": "Secrets in answers",
    "effect": "redact",
    "redact": ["secrets"],
    "surface": "answer",
    "when": "'secret' in signals.categories",
    "message": "A secret was taken out.",
}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    if not (ENVIRONMENT / ".complete").exists():
        if os.environ.get("CI"):
            pytest.fail("LiteLLM is not installed: make clients")
        pytest.skip("make clients")
    with running(tmp_path_factory.mktemp("company"), workers=1) as company:
        company.api("PUT", f"/api/policies/{POLICY['id']}", json=POLICY)
        yield company


def own_token(company: Company, user: str) -> str:
    """The agent's own token, for ``user``."""
    response = httpx.post(
        f"{company.server}/sts/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": company.sign_ins.sign_in(user),
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "resource": f"{company.gateway}/agents",
        },
        headers={"authorization": "Basic " + base64.b64encode(f"billing:{AGENT_SECRET}".encode()).decode()},
        timeout=20,
    )
    assert response.status_code == 200, response.text
    return str(response.json()["access_token"])


def ask(company: Company, token: str, *asked: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What LiteLLM made of each question."""
    headers = {"x-watchfloor-token": token, "x-watchfloor-conversation-id": "c-1"}
    questions = [{"input_type": kind, "inputs": inputs} for kind, inputs in asked]
    done = subprocess.run(
        [str(ENVIRONMENT / "bin" / "python"), str(Path(__file__).with_name("agents") / "litellm_proxy.py")],
        env={
            "HOME": str(company.directory),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "GENERIC_GUARDRAIL_API_BASE": company.gateway,
            "TASK": json.dumps({"headers": headers, "asked": questions}),
        },
        cwd=company.directory,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(printed, list)
    return printed


def mail(to: str) -> dict[str, Any]:
    arguments = json.dumps({"to": [to], "subject": "s", "body": "x"})
    calls = [{"id": "call_1", "type": "function", "function": {"name": "send_email", "arguments": arguments}}]
    return {"texts": [], "tool_calls": calls}


def chat(*messages: tuple[str, str]) -> dict[str, Any]:
    rows = [{"role": role, "content": text} for role, text in messages]
    return {"texts": [text for _, text in messages], "structured_messages": rows}


@pytest.mark.claim("litellm-guardrail")
def test_litellms_own_guardrail_blocks_changes_and_lets_pass(company: Company) -> None:
    outcomes = ask(
        company,
        own_token(company, "griffin"),
        ("request", chat(("system", "You help."), ("user", "Write to Mona, please."))),
        ("response", mail("mona@testers.example")),
        ("response", mail("x@evil.example")),
        ("response", {"texts": ["Done.", f"The key is {SECRET}."]}),
        ("response", {"texts": ["Done."]}),
    )
    said, sent, refused, changed, done = outcomes
    assert said == {"texts": ["You help.", "Write to Mona, please."]} and sent == {"texts": []}
    assert "(policy, inv_" in refused["blocked"] or "(untraced_argument, inv_" in refused["blocked"]
    assert changed["texts"][0] == "Done." and SECRET not in json.dumps(changed)
    assert done == {"texts": ["Done."]}


@pytest.mark.claim("litellm-guardrail")
def test_even_where_litellm_goes_on_after_errors_a_bad_token_is_blocked(company: Company) -> None:
    for token in ("no.such.token", company.token("griffin", server="mail") + "x"):
        outcomes = ask(company, token, ("request", chat(("user", "Hello"))), ("response", {"texts": ["Hello"]}))
        assert all("blocked" in outcome for outcome in outcomes)
    assert "blocked" not in ask(company, own_token(company, "mona"), ("request", chat(("user", "Hello"))))[0]
