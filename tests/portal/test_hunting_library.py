"""The hunting library over HTTP: templates, favourites, and queries that operators keep and share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from portal.house import House, open_house
from watchfloor.model.people import Role
from watchfloor.storage.drain import drain

TEMPLATES = "/api/hunting/templates"
QUERIES = "/api/hunting/queries"
SCOUT = {
    "apiVersion": "watchfloor/v1",
    "kind": "Company",
    "agents": [
        {"id": "scout", "name": "Scout", "maker": "ada", "owner": "mona", "tools": [
            {"server": "mail", "tool": "lookup", "credential": "maker", "scope": "read",
             "makerCredential": {"value": "makers-own-0123456789"}}]}
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that its tests share; each keeps queries of operators of its own."""
    with open_house(tmp_path_factory.mktemp("library")) as opened:
        applied = opened.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(SCOUT)})
        assert applied.status_code == 200, applied.text
        opened.attack()
        opened.work("publish_inventory", "publish_exposure", "publish_alerts")
        drain(opened.log, opened.stores.events)
        yield opened


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def keep(client: Any, name: str = "Mine", query: str = "AgentActivity | count") -> tuple[str, str]:
    """The id and the ETag of a query that is kept."""
    answer = client.post(QUERIES, json={"name": name, "query": query})
    assert answer.status_code == 201, answer.text
    return f"{QUERIES}/{answer.json()['id']}", answer.headers["etag"]


def change(client: Any, path: str, etag: str | None, **body: Any) -> httpx.Response:
    headers = {} if etag is None else {"if-match": etag}
    answer: httpx.Response = client.put(path, json={"name": "Mine", "query": "print 1", **body}, headers=headers)
    return answer


def test_templates_are_filtered_by_category_table_technique_and_words(library: House) -> None:
    client = library.client(Role.SOC_ANALYST)
    everything = ids(client.get(TEMPLATES))
    assert len(everything) > 57
    approvals = ids(client.get(TEMPLATES, params={"category": "Approvals"}))
    assert approvals and all(found.startswith("approvals-") for found in approvals)
    signs_in = ids(client.get(TEMPLATES, params={"table": "SignInEvents", "technique": "T1528"}))
    assert signs_in == ["access-write-tokens-only-read", "access-wrong-secrets"]
    assert "studio-http-without-tls" in ids(client.get(TEMPLATES, params={"text": "NON-https"}))
    assert "studio-hard-coded-secrets" in ids(client.get(TEMPLATES, params={"technique": "T1552"})), "T1552.001"
    assert client.get(TEMPLATES, params={"category": "Nothing"}).status_code == 422


@pytest.mark.claim("story-maker-credentials-hunt")
def test_a_template_is_run_as_it_is_and_finds_the_agent_on_the_makers_credentials(library: House) -> None:
    client = library.client(Role.SOC_ANALYST)
    template = client.get(f"{TEMPLATES}/agents-mcp-maker-credentials").json()
    answer = client.post("/api/hunting/run", json={"query": template["query"]}).json()
    assert answer["columns"] == template["columns"]
    [row] = [dict(zip((c["name"] for c in answer["columns"]), r, strict=True)) for r in answer["rows"]]
    assert (row["AgentId"], row["AgentName"], row["MakerId"], row["Tools"]) == (
        "scout",
        "Scout",
        "ada",
        ["mail/lookup"],
    )
    unknown = client.get(f"{TEMPLATES}/agents-mcp-maker-credential")
    assert unknown.status_code == 404 and "agents-mcp-maker-credentials" in unknown.text


def test_every_template_runs_over_the_tables_as_the_product_fills_them(library: House) -> None:
    client = library.client(Role.SOC_ANALYST)
    found = set()
    for template in client.get(TEMPLATES).json()["items"]:
        query = client.get(f"{TEMPLATES}/{template['id']}").json()["query"]
        answer = client.post("/api/hunting/run", json={"query": query})
        assert answer.status_code == 200, (template["id"], answer.text)
        found |= {template["id"]} if answer.json()["total"] else set()
    assert {
        "studio-mcp-tools",
        "agents-no-instructions",
        "agents-mcp-maker-credentials",
        "risk-serious-alerts",
    } <= found


@pytest.mark.claim("hunting-library")
def test_favourites_are_each_operators_own(library: House) -> None:
    mine, yours = (library.client(Role.SOC_ANALYST, name) for name in ("fay", "fox"))
    for _ in range(2):
        assert mine.put(f"{TEMPLATES}/agents-orphaned/favourite").status_code == 204
    path, _ = keep(mine)
    assert mine.put(f"{path}/favourite").status_code == 204
    assert ids(mine.get(TEMPLATES, params={"favourites": True})) == ["agents-orphaned"]
    assert [f"{QUERIES}/{i}" for i in ids(mine.get(QUERIES, params={"favourites": True}))] == [path]
    assert ids(yours.get(TEMPLATES, params={"favourites": True})) == []
    assert yours.put(f"{path}/favourite").status_code == 404, "what others keep does not exist"
    assert yours.put(f"{TEMPLATES}/none/favourite").status_code == 404
    assert mine.delete(f"{TEMPLATES}/agents-orphaned/favourite").status_code == 204
    assert not mine.get(f"{TEMPLATES}/agents-orphaned").json()["is_favourite"]


@pytest.mark.claim("hunting-library")
def test_nobody_overwrites_what_somebody_else_has_changed_meanwhile(library: House) -> None:
    author, colleague = library.client(Role.SOC_OPERATOR, "ann"), library.client(Role.SOC_OPERATOR, "col")
    path, first = keep(author)
    shared = author.post(f"{path}/share", headers={"if-match": first})
    assert shared.status_code == 200 and shared.json()["is_shared"]
    seen = shared.headers["etag"]
    theirs = change(colleague, path, seen, query="print 'theirs'")
    assert theirs.status_code == 200 and theirs.json()["updated_by"] == "col" and theirs.json()["author"] == "ann"
    late = change(author, path, seen, query="print 'mine'")
    assert late.status_code == 409 and "col has changed" in late.text
    assert author.delete(path, headers={"if-match": seen}).status_code == 409
    assert author.post(f"{path}/unshare", headers={"if-match": seen}).status_code == 409
    now = author.get(path)
    assert now.json()["query"] == "print 'theirs'" and now.headers["etag"] == theirs.headers["etag"]
    renamed = change(author, path, now.headers["etag"], name="Ours", query="print 'theirs'")
    assert renamed.status_code == 200 and renamed.json()["name"] == "Ours"
    for etag in (None, "*", "3", '"x"'):
        assert change(author, path, etag).status_code == 422
    assert author.delete(path, headers={"if-match": renamed.headers["etag"]}).status_code == 204
    assert author.get(path).status_code == 404 and path.rpartition("/")[2] not in ids(colleague.get(QUERIES))


@pytest.mark.claim("hunting-library")
def test_what_somebody_keeps_is_theirs_alone_until_it_is_shared(library: House) -> None:
    author, other = library.client(Role.SOC_OPERATOR, "may"), library.client(Role.OWNER)
    reader = library.client(Role.SOC_ANALYST, "rae")
    path, etag = keep(author, "Secret plan", 'print h"sesame"')
    for client in (other, reader):
        assert client.get(path).status_code == 404
        assert change(client, path, etag).status_code == 404
        assert client.delete(path, headers={"if-match": etag}).status_code == 404
    assert other.post(f"{path}/share", headers={"if-match": etag}).status_code == 404
    own, own_etag = keep(reader)
    refused = reader.post(f"{own}/share", headers={"if-match": own_etag})
    assert refused.status_code == 403, "readers keep, and do not share"
    shared = author.post(f"{path}/share", headers={"if-match": etag})
    etag = shared.headers["etag"]
    seen = reader.get(path).json()
    assert seen["name"] == "Secret plan" and not seen["may_change"] and other.get(path).json()["may_change"]
    assert change(reader, path, etag).status_code == 403
    assert other.post(f"{path}/unshare", headers={"if-match": etag}).json()["author"] == "may"
    assert reader.get(path).status_code == 404 and author.get(path).status_code == 200
    assert library.client(Role.IT_ADMIN).get(QUERIES).status_code == 403


@pytest.mark.claim("hunting-library")
def test_every_change_of_a_query_is_audited_without_its_text(library: House) -> None:
    author = library.client(Role.SOC_OPERATOR, "aud")
    path, etag = keep(author, query="print 'open sesame'")
    etag = change(author, path, etag, query="print 'open sesame 2'").headers["etag"]
    etag = author.post(f"{path}/share", headers={"if-match": etag}).headers["etag"]
    etag = author.post(f"{path}/unshare", headers={"if-match": etag}).headers["etag"]
    assert author.delete(path, headers={"if-match": etag}).status_code == 204
    answer = library.client(Role.OWNER).get("/api/audit", params={"limit": 200})
    subject = f"hunting-query/{path.rpartition('/')[2]}"
    entries = [item for item in answer.json()["items"] if item["subject"] == subject]
    verbs = [entry["action"].partition(":")[2] for entry in sorted(entries, key=lambda entry: entry["seq"])]
    assert verbs == ["create", "update", "share", "unshare", "delete"]
    assert {entry["actor"] for entry in entries} == {"aud"}
    assert "sesame" not in answer.text


def test_a_name_that_does_not_print_and_halves_of_characters_are_refused(library: House) -> None:
    author = library.client(Role.SOC_OPERATOR, "bad")
    for body in ({"name": " ", "query": ""}, {"name": "a\u202eb", "query": ""}, {"name": "a", "query": "", "more": 1}):
        assert author.post(QUERIES, json=body).status_code == 422
    halves = b'{"name": "a", "query": "print \\"\\ud800\\""}'
    assert author.post(QUERIES, content=halves, headers={"content-type": "application/json"}).status_code in (400, 422)
