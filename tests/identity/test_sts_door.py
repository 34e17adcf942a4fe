"""The token service over HTTP: forms in, OAuth JSON out."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
from fastapi import FastAPI

from watchfloor.identity import sessions
from watchfloor.model.agents import AgentState
from watchfloor.model.facts import Kind
from watchfloor.portal.sts import MAX_BODY_BYTES, build_sts_router
from watchfloor.registry import inventory as registry
from watchfloor.storage import people

from .world import EXCHANGE, GATEWAY, ID_TOKEN, ISSUER, SECRET, World, company

ID_AND_SECRET = ("customer-billing", SECRET)


@pytest.fixture
async def client(zava: World) -> AsyncIterator[httpx.AsyncClient]:
    """The door in front of a company's token service."""
    app = FastAPI()
    app.include_router(build_sts_router(zava.service))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:7700") as made:
        yield made


def form(world: World, **changes: Any) -> dict[str, Any]:
    """A token exchange as a form; None takes a parameter out."""
    values = {
        "grant_type": EXCHANGE,
        "subject_token": world.idp.sign_in("griffin"),
        "subject_token_type": ID_TOKEN,
        "resource": f"{GATEWAY}/mcp/mail",
    }
    values |= changes
    return {name: value for name, value in values.items() if value is not None}


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


async def test_a_token_exchange_answers_as_rfc_8693_says(zava: World, client: httpx.AsyncClient) -> None:
    response = await client.post("/sts/token", data=form(zava), auth=ID_AND_SECRET)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert zava.claims_of(body.pop("access_token"))["sub"] == "user:griffin"
    assert body == {
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 600,
        "scope": "read write",
    }


async def test_client_credentials_answer_too(zava: World, client: httpx.AsyncClient) -> None:
    values = {"grant_type": "client_credentials", "resource": f"{GATEWAY}/mcp/mail"}
    response = await client.post("/sts/token", data=values, auth=ID_AND_SECRET)
    assert response.status_code == 200
    assert zava.claims_of(response.json()["access_token"])["mode"] == "agent"


async def test_id_and_secret_may_come_in_the_form(zava: World, client: httpx.AsyncClient) -> None:
    values = form(zava, client_id="customer-billing", client_secret=SECRET)
    assert (await client.post("/sts/token", data=values)).status_code == 200


@pytest.mark.parametrize("secret", ["a+b/c=%41:" + SECRET, "plus+and space " + SECRET, "percent%2Fencoded" + SECRET])
async def test_basic_credentials_are_understood_encoded_and_as_they_are(
    zava: World, client: httpx.AsyncClient, secret: str
) -> None:
    declared = company()
    declared["agents"][0]["secret"] = {"value": secret}
    zava.apply(declared)
    for sent in (secret, quote_plus(secret)):
        response = await client.post("/sts/token", data=form(zava), headers=basic("customer-billing", sent))
        assert response.status_code == 200, sent
    response = await client.post("/sts/token", data=form(zava), headers=basic("customer-billing", secret + "x"))
    assert response.status_code == 401


async def test_a_wrong_secret_is_a_401_with_a_challenge(zava: World, client: httpx.AsyncClient) -> None:
    response = await client.post("/sts/token", data=form(zava), auth=("customer-billing", "wrong"))
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Basic")
    assert response.json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer abc"},
        {"authorization": "Basic"},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic " + base64.b64encode(b"no-colon").decode()},
        {"authorization": "Basic " + base64.b64encode(b":secret").decode()},
        {"authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
    ],
)
async def test_without_usable_credentials_it_is_invalid_client(
    zava: World, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post("/sts/token", data=form(zava), headers=headers)
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


async def test_credentials_in_two_places_or_of_two_agents_are_refused(zava: World, client: httpx.AsyncClient) -> None:
    twice = await client.post("/sts/token", data=form(zava, client_secret=SECRET), auth=ID_AND_SECRET)
    assert (twice.status_code, twice.json()["error"]) == (400, "invalid_request")
    two = await client.post("/sts/token", data=form(zava, client_id="another"), auth=ID_AND_SECRET)
    assert (two.status_code, two.json()["error"]) == (401, "invalid_client")
    same = await client.post("/sts/token", data=form(zava, client_id="customer-billing"), auth=ID_AND_SECRET)
    assert same.status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"subject_token": None}, "invalid_request"),
        ({"subject_token": ""}, "invalid_request"),
        ({"subject_token": "x.y.z"}, "invalid_request"),
        ({"resource": None}, "invalid_request"),
        ({"resource": f"{GATEWAY}/mcp/nothing"}, "invalid_target"),
        ({"audience": f"{GATEWAY}/mcp/knowledge"}, "invalid_request"),
        ({"actor_token": "x.y.z"}, "invalid_request"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"resource": [f"{GATEWAY}/mcp/mail", f"{GATEWAY}/mcp/knowledge"]}, "invalid_request"),
        ({"scope": ["read", "read"]}, "invalid_request"),
    ],
)
async def test_what_is_wrong_has_its_oauth_code_a_description_and_a_reason(
    zava: World, client: httpx.AsyncClient, changes: dict[str, Any], error: str
) -> None:
    response = await client.post("/sts/token", data=form(zava, **changes), auth=ID_AND_SECRET)
    body = response.json()
    assert (response.status_code, body["error"]) == (400, error)
    assert body["error_description"] and body["reason"]
    assert response.headers["cache-control"] == "no-store"


async def test_audience_may_stand_for_resource(zava: World, client: httpx.AsyncClient) -> None:
    values = form(zava, resource=None, audience=f"{GATEWAY}/mcp/mail")
    assert (await client.post("/sts/token", data=values, auth=ID_AND_SECRET)).status_code == 200


async def test_a_revoked_user_and_a_blocked_agent_are_told_so(zava: World, client: httpx.AsyncClient) -> None:
    with zava.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "stolen")
    body = (await client.post("/sts/token", data=form(zava), auth=ID_AND_SECRET)).json()
    assert (body["error"], body["reason"]) == ("invalid_request", "session_revoked")
    with zava.store.tx("soc") as tx:
        assert registry.block(tx, "customer-billing", "jailbreak").state is AgentState.BLOCKED
    body = (await client.post("/sts/token", data=form(zava), auth=ID_AND_SECRET)).json()
    assert (body["error"], body["reason"]) == ("unauthorized_client", "agent_blocked")


async def test_only_forms_of_sensible_size_are_read(zava: World, client: httpx.AsyncClient) -> None:
    as_json = await client.post("/sts/token", json=form(zava), auth=ID_AND_SECRET)
    assert (as_json.status_code, as_json.json()["error"]) == (400, "invalid_request")
    huge = await client.post("/sts/token", data=form(zava, padding="x" * MAX_BODY_BYTES), auth=ID_AND_SECRET)
    assert huge.status_code == 413
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for body in (b"\xff\xfe", b"no-equals-sign", b"&&&=", b"a=%ff" * 3, b"&".join(b"p%d=1" % n for n in range(99))):
        response = await client.post("/sts/token", content=body, headers=headers, auth=ID_AND_SECRET)
        assert response.status_code == 400, body
        assert response.json()["error"] == "invalid_request"
    empty = await client.post("/sts/token", content=b"", headers=headers, auth=ID_AND_SECRET)
    assert empty.status_code == 400


async def test_guessing_is_answered_with_429_and_when_to_come_back(zava: World, client: httpx.AsyncClient) -> None:
    for _ in range(10):
        await client.post("/sts/token", data=form(zava), auth=("customer-billing", "wrong"))
    response = await client.post("/sts/token", data=form(zava), auth=ID_AND_SECRET)
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60


async def test_an_identity_provider_that_is_down_is_a_503(zava: World, client: httpx.AsyncClient) -> None:
    zava.idp.is_down = True
    response = await client.post("/sts/token", data=form(zava), auth=ID_AND_SECRET)
    assert (response.status_code, response.json()["error"]) == (503, "temporarily_unavailable")
    assert "retry-after" in response.headers


async def test_what_the_service_itself_lacks_is_a_503_without_internals(zava: World, client: httpx.AsyncClient) -> None:
    with zava.store.tx() as tx:
        for kid in list(zava.facts(Kind.SIGNING_KEY)):
            people.delete_signing_key(tx, kid)
    response = await client.post("/sts/token", data=form(zava), auth=ID_AND_SECRET)
    assert (response.status_code, response.json()["error"]) == (503, "temporarily_unavailable")
    assert "key" not in response.text and "retry-after" in response.headers


async def test_keys_and_metadata_are_published(zava: World, client: httpx.AsyncClient) -> None:
    keys = (await client.get("/sts/jwks")).json()["keys"]
    assert [k["alg"] for k in keys] == ["RS256"] and not any("d" in k or "p" in k for k in keys)
    for path in ("/sts/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/sts"):
        metadata = (await client.get(path)).json()
        assert metadata["issuer"] == ISSUER
        assert metadata["token_endpoint"] == f"{ISSUER}/token"
        assert metadata["jwks_uri"] == f"{ISSUER}/jwks"
        assert EXCHANGE in metadata["grant_types_supported"]


async def test_a_token_cannot_be_asked_for_with_get(client: httpx.AsyncClient) -> None:
    assert (await client.get("/sts/token")).status_code == 405
