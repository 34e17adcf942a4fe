"""Whatever a body holds, the answer is one of the contract's, and never an allow that nobody decided on."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.copilot_studio.studio import RECORDED, Studio, checked
from watchfloor.gateway.copilot_studio.payload import Question, Unreadable, read

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += _places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _places(item, (*path, index))
    return found


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """The recorded question with some of its members replaced, taken out or added."""
    body = copy.deepcopy(RECORDED)
    body["plannerContext"]["previousToolOutputs"] = [{"toolId": "t", "outputs": [{"name": "n", "value": "v"}]}]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(_places(body)))
        parent = body
        for part in place[:-1]:
            parent = parent[part]
        how = draw(st.sampled_from(["replace", "delete", "add"]))
        if how == "delete":
            del parent[place[-1]]
        elif how == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=12))] = draw(_JSON)
        else:
            parent[place[-1]] = draw(_JSON)
        if not _places(body):
            break
    return body


@given(bodies() | _JSON)
@settings(max_examples=400, deadline=None)
def test_a_body_is_read_or_said_to_be_unreadable(body: Any) -> None:
    try:
        question = read(body)
    except Unreadable as error:
        assert str(error)
    else:
        assert isinstance(question, Question) and question.tool_id


@pytest.mark.claim("webhook-no-answer")
def test_no_body_gets_an_answer_that_is_none(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        running = Studio(tmp_path).running()
        studio = runner.run(running.__aenter__())
        decided = [0]

        @given(bodies().map(json.dumps).map(str.encode) | st.binary(max_size=300))
        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(body: bytes) -> None:
            response = runner.run(studio.post("analyze-tool-execution", body))
            assert response.status_code == 200
            answer = checked(response.json())
            rows = len(studio.records("ToolCallDecided"))
            if not answer["blockAction"]:
                assert rows == decided[0] + 1, "let go without a decision"
                assert studio.records("ToolCallDecided")[-1]["Verdict"] == "allow"
            decided[0] = rows

        ask()
        runner.run(running.__aexit__(None, None, None))
