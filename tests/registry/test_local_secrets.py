"""Secrets of this machine take their places in a manifest, and nothing else moves."""

from __future__ import annotations

import pytest
import yaml

from watchfloor.registry.local_secrets import resolve_secrets
from watchfloor.registry.problems import ManifestInvalid

VARIABLES = {"MAIL": 'quo"te \\ back: #no', "EMPTY": "", "BILLING": "b" * 40}
FILES = {"maker.token": "maker's ünï token"}

TEXT = """\
# A comment with {env: NOT_HERE}.
toolServers:
  - id: mail
    url: http://x
    credential: {env: MAIL}   # stays
  - id: files
    credential:
      env: MAIL
    name: Files
  - id: block
    credential:
      env:
        MAIL
    description: "{env: MAIL}"
agents:
  - id: a
    secret: {env: BILLING}
    triggers: [{env: MAIL}]
    tools:
      - {server: mail, tool: t, makerCredential: {file: maker.token}}
      - server: mail
        makerCredential: {value: "as it is"}
"""


def resolved(text: str) -> str:
    return resolve_secrets(text, variable=VARIABLES.get, file=FILES.get)


def test_every_secret_becomes_a_value_and_everything_else_stays() -> None:
    found = yaml.safe_load(resolved(TEXT))
    expected = yaml.safe_load(TEXT)
    mail = {"value": VARIABLES["MAIL"]}
    for server in expected["toolServers"]:
        server["credential"] = mail
    expected["agents"][0]["secret"] = {"value": VARIABLES["BILLING"]}
    expected["agents"][0]["tools"][0]["makerCredential"] = {"value": FILES["maker.token"]}
    assert found == expected


def test_lines_keep_their_numbers() -> None:
    before, after = TEXT.splitlines(), resolved(TEXT).splitlines()
    assert len(before) == len(after)
    for number, line in enumerate(before):
        if "id:" in line or "name:" in line or "description:" in line or "as it is" in line:
            assert after[number] == line


def test_every_secret_that_is_missing_is_named() -> None:
    text = TEXT.replace("MAIL}   #", "NO_SUCH}   #").replace("maker.token", "no/such/file")
    with pytest.raises(ManifestInvalid) as caught:
        resolved(text)
    assert [str(p) for p in caught.value.problems] == [
        "toolServers[0].credential (line 5): the variable is not set: NO_SUCH. Set it, or name another source.",
        "agents[0].tools[0].makerCredential (line 20): the file cannot be read: no/such/file. "
        "Set it, or name another source.",
    ]


def test_a_secret_behind_an_alias_is_read_once() -> None:
    text = "toolServers:\n- {id: a, credential: &c {env: MAIL}}\n- {id: b, credential: *c}\n"
    found = yaml.safe_load(resolved(text))
    assert [s["credential"] for s in found["toolServers"]] == [{"value": VARIABLES["MAIL"]}] * 2


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "toolServers: 3",
        "agents: [3]",
        "agents: [{id: a, secret: text}]",
        "agents: [{id: a, secret: {env: [x]}}]",
        "agents: [{id: a, secret: {env: BILLING, file: x}}]",
        "agents: [{id: a, secret: null}]",
        "users: [{id: a, secret: {env: BILLING}}]",
    ],
)
def test_what_is_no_reference_at_its_place_is_left_to_the_server(text: str) -> None:
    assert resolved(text) == text


def test_an_empty_variable_is_a_value_that_the_server_refuses() -> None:
    assert yaml.safe_load(resolved("agents: [{id: a, secret: {env: EMPTY}}]"))["agents"][0]["secret"] == {"value": ""}
