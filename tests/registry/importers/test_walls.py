"""Whatever a file holds: a manifest that can be applied, or an ``InputError``; no secret, no crash, no long wait."""

from __future__ import annotations

import io
import json
import os
import stat
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchfloor.model.errors import InputError
from watchfloor.registry.document import read_document
from watchfloor.registry.importers import import_paths, import_tree
from watchfloor.registry.importers.draft import Draft, slug
from watchfloor.registry.importers.parsing import parse_json, parse_xml, without_comments
from watchfloor.registry.importers.reading import find_reference, looks_secret, public_url, variable_name
from watchfloor.registry.importers.tree import MAX_BYTES, MAX_FILE_BYTES, MAX_FILES, Tree, open_zip
from watchfloor.registry.local_secrets import resolve_secrets
from watchfloor.registry.problems import Problems
from watchfloor.registry.references import check_references
from watchfloor.registry.shape import read_company
from watchfloor.registry.state import State

SAMPLES = Path(__file__).parent / "samples"
TREES = {
    folder.name: Tree(
        folder.name,
        {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()},
    )
    for folder in sorted(SAMPLES.iterdir())
}
NAMES = sorted((folder, path) for folder, tree in TREES.items() for path in tree.files)


def faults(draft: Draft) -> list[str]:
    """What would keep the manifest of ``draft`` from being applied to an empty installation."""
    draft.link()
    text = resolve_secrets(draft.text(["somewhere"]), variable=lambda name: name, file=lambda _: None)
    problems = Problems()
    company = read_company(read_document(text), problems)
    check_references(company, State(), problems, lambda body: [])
    return [str(problem) for problem in problems.found]


def imported(files: dict[str, bytes]) -> Draft | None:
    draft = Draft()
    try:
        import_tree(Tree("fuzz", files), draft)
    except InputError:
        return None
    return draft


# -- anything at all ----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["TaskDialog", "AdaptiveDialog", "mcp", "*", "stdio:x", "https://a.example/mcp", "=x", "${X}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from(NAMES), st.data())
def test_bytes_that_changed_give_a_manifest_or_a_refusal(name: tuple[str, str], data: st.DataObject) -> None:
    folder, path = name
    content = bytearray(TREES[folder].files[path])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        how = data.draw(st.sampled_from(["cut", "put", "change"]))
        if how == "put":
            content[at:at] = data.draw(
                st.binary(max_size=6) | st.sampled_from([b"{", b"]", b"- ", b": ", b"\n", b"&a *a"])
            )
        elif how == "cut":
            del content[at : at + data.draw(st.integers(1, 30))]
        elif at < len(content):
            content[at] = data.draw(st.integers(0, 255))
    draft = imported({**TREES[folder].files, path: bytes(content)})
    assert draft is None or faults(draft) == []


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        found += [p for k, v in value.items() for p in places(v, (*path, k))]
    if isinstance(value, list):
        found += [p for k, v in enumerate(value) for p in places(v, (*path, k))]
    return found


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


PARSED = [
    (folder, path, TREES[folder].value(path)) for folder, path in NAMES if isinstance(TREES[folder].mapping(path), dict)
    and TREES[folder].mapping(path)
]  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from(range(len(PARSED))), st.data())
def test_values_that_changed_give_a_manifest_or_a_refusal(number: int, data: st.DataObject) -> None:
    folder, path, value = PARSED[number]
    for _ in range(data.draw(st.integers(1, 3))):
        value = replaced(value, data.draw(st.sampled_from(places(value))), data.draw(JSON))
    text = json.dumps(value) if path.endswith(".json") else yaml.safe_dump(value, allow_unicode=True)
    draft = imported({**TREES[folder].files, path: text.encode("utf-8", "surrogatepass")})
    assert draft is None or faults(draft) == []


SECRET = st.text("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", min_size=3, max_size=6).flatmap(
    lambda letters: st.lists(st.integers(10, 99), min_size=5, max_size=5).map(
        lambda numbers: "".join(f"{n}{letters[i % len(letters)]}q" for i, n in enumerate(numbers)) + letters
    )
)


@settings(max_examples=100, deadline=None)
@given(
    SECRET,
    st.sampled_from(
        ["API_KEY", "GITHUB_TOKEN", "PASSWORD", "Authorization", "X-Api-Key", "DB_PASSWORD", "client_secret"]
    ),
    st.sampled_from(["env", "headers", "args", "option", "query", "userinfo", "bearer"]),
)
def test_a_secret_never_comes_out_wherever_it_stands(secret: str, name: str, where: str) -> None:
    server: dict[str, Any] = {"url": "https://x.example/mcp"}
    if where == "env":
        server = {"command": "npx", "args": ["x"], "env": {name: secret}}
    elif where == "headers":
        server["headers"] = {name: secret}
    elif where == "bearer":
        server["headers"] = {"Authorization": f"Bearer {secret}"}
    elif where == "args":
        server = {"command": "npx", "args": ["x", f"--{name}", secret]}
    elif where == "option":
        server = {"command": "npx", "args": [f"--{name}={secret}", "x"]}
    elif where == "query":
        server["url"] += f"?{name}={secret}&region=eu"
    else:
        server["url"] = f"https://user:{secret}@x.example/mcp"
    draft = imported({".cursor/mcp.json": json.dumps({"mcpServers": {"x": server}}).encode()})
    assert draft is not None
    text = draft.text()
    assert secret not in text and draft.notes.found
    assert faults(draft) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "debug"),
        ("REGION", "eu-central-1"),
        ("PORT", "8080"),
        ("MAX_TOKENS", "4096"),
        ("HOME", "/home/ada"),
        ("DATA_DIR", "${HOME}/data"),
        ("PROJECT", "customer-billing-assistant-2024"),
        ("TENANT", "2f4b7c1e-0d35-4d0e-8f6a-6a1d9b7c3e20"),
        ("FEATURE_FLAGS", "a,b,c"),
        ("BASE_URL", "https://api.zava.example/v1"),
    ],
)
def test_an_ordinary_setting_is_no_secret(name: str, value: str) -> None:
    assert find_reference(name, value) is None


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://a.example/mcp?region=eu", "https://a.example/mcp?region=eu"),
        ("https://a.example/v1/customer-billing-agent-2/mcp", "https://a.example/v1/customer-billing-agent-2/mcp"),
        (
            "https://a.example/t/2f4b7c1e-0d35-4d0e-8f6a-6a1d9b7c3e20/mcp",
            "https://a.example/t/2f4b7c1e-0d35-4d0e-8f6a-6a1d9b7c3e20/mcp",
        ),
        ("HTTPS://A.example/mcp?", "HTTPS://A.example/mcp?"),
        ("https://a.example/mcp?token=abc&region=eu", "https://a.example/mcp?region=eu"),
        ("https://u:pw@a.example/mcp", "https://a.example/mcp"),
        ("https://a.example/s/9fK2mQ7xLz4Vb8Rt1Wc6/mcp", "https://a.example/s/REMOVED/mcp"),
    ],
)
def test_an_address_loses_what_is_secret_and_nothing_else(url: str, kept: str) -> None:
    assert public_url(url) == (kept, kept != url)


@given(st.text())
def test_every_text_can_be_judged_and_named(text: str) -> None:
    looks_secret(text)
    public_url(text)
    assert variable_name(text).isidentifier()
    assert 0 < len(slug(text, "x")) <= 64


# -- what a text may be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        "[" * 300 + "]" * 300,
        "[" * 200_000,
        '{"a": ' + "9" * 10_000 + "}",
        "/* no end",
        '{"a": "' + '\\"' * 200_000,
        "/*" * 200_000,
        "//" * 200_000,
        '"' * 200_001,
    ],
    ids=range(10),
)
def test_json_that_could_hurt_is_refused_quickly(text: str) -> None:
    started = time.process_time()
    with pytest.raises(InputError):
        parse_json("x.json", text)
    assert time.process_time() - started < 5


def test_comments_and_last_commas_are_forgiven_and_strings_kept() -> None:
    text = '{"a": "// no comment, /* nor this */ ,]", // one\n /* two */ "b": [1, 2,], }'
    assert parse_json("x.json", text) == {"a": "// no comment, /* nor this */ ,]", "b": [1, 2]}


@given(JSON)
def test_json_without_comments_stays_as_it_is(value: Any) -> None:
    text = json.dumps(value)
    assert json.loads(without_comments(text)) == value


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        "<a>",
        "",
        "<a>&b;</a>",
        "\x00",
    ],
)
def test_xml_with_entities_or_of_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_xml("bot.xml", text.encode())


# -- archives -----------------------------------------------------------------------------------------------------

CARD = json.dumps({"name": "A", "skills": [], "url": "https://a.example"})


def archive(*members: tuple[str | zipfile.ZipInfo, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../agent.json", "outside"),
        ("a/../../agent.json", "outside"),
        ("/etc/agent.json", "outside"),
        ("C:/agent.json", "outside"),
        ("a\\..\\agent.json", "outside"),
        ("a\nb/agent.json", "outside"),
    ],
)
def test_an_archive_that_reaches_outside_itself_is_refused(name: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        open_zip("x.zip", archive(("agent-card.json", CARD), (name, CARD)))


def test_an_archive_with_a_link_is_refused() -> None:
    with pytest.raises(InputError, match="is a link"):
        open_zip("x.zip", archive((link("agent-card.json"), "/etc/passwd")))


def test_an_archive_with_a_member_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = archive(("agent-card.json", CARD), ("agent-card.json", CARD))
    with pytest.raises(InputError, match="twice"):
        open_zip("x.zip", data)


def test_an_encrypted_archive_is_refused() -> None:
    data = bytearray(archive(("agent-card.json", CARD)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    with pytest.raises(InputError, match="encrypted"):
        open_zip("x.zip", bytes(data))


def test_a_bomb_that_admits_its_size_is_refused_before_it_is_opened() -> None:
    bomb = archive(*((f"{n}.json", b"\0" * (MAX_FILE_BYTES // 2)) for n in range(2 * MAX_BYTES // MAX_FILE_BYTES + 1)))
    started = time.process_time()
    with pytest.raises(InputError, match="MiB"):
        open_zip("x.zip", bomb)
    assert time.process_time() - started < 2


def test_a_bomb_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(archive(*((f"{n}.json", b"\0" * (2 * MAX_FILE_BYTES)) for n in range(10))))
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 24 : at + 28] = (100).to_bytes(4, "little")
        at += 4
    with pytest.raises(InputError):
        open_zip("x.zip", bytes(data))


def test_too_many_members_are_refused() -> None:
    with pytest.raises(InputError, match="members"):
        open_zip("x.zip", archive(*((f"{n}.txt", b"") for n in range(MAX_FILES + 1))))


def test_a_large_member_is_passed_over_with_a_warning() -> None:
    tree = open_zip("x.zip", archive(("agent-card.json", CARD), ("big.json", b" " * (MAX_FILE_BYTES + 1))))
    draft = Draft()
    import_tree(tree, draft)
    assert [str(w) for w in draft.notes.found] == ["big.json: is too large, and was not looked at."]
    assert list(draft.agents) == ["a"]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_refused_or_read(data: st.DataObject) -> None:
    content = bytearray(PACKED)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    draft = Draft()
    try:
        import_tree(open_zip("x.zip", bytes(content)), draft)
    except InputError:
        return
    assert faults(draft) == []


PACKED = archive(*TREES["solution"].files.items())


# -- folders ------------------------------------------------------------------------------------------------------


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "agent-card.json").write_text(CARD)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "agent-card.json").symlink_to(outside / "agent-card.json")
    (inside / "more").symlink_to(outside)
    with pytest.raises(InputError, match="holds nothing"):
        import_paths([inside])


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mcp.json")
    (tmp_path / "agent-card.json").write_text(CARD)
    assert list(import_paths([tmp_path]).agents) == ["a"]


def test_folders_of_other_peoples_packages_are_not_searched(tmp_path: Path) -> None:
    for folder in ("node_modules/x", ".git"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "agent-card.json").write_text(CARD)
    with pytest.raises(InputError, match="holds nothing"):
        import_paths([tmp_path])
