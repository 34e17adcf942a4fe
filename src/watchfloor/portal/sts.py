"""The door of the token service: OAuth 2 forms and JSON over HTTP.

Above ``identity.sts``, which decides; this translates. Routes: ``POST /sts/token`` (RFC 8693 token exchange, and
``client_credentials``), ``GET /sts/jwks``, and RFC 8414 metadata at both places where clients look for it. No route
here takes a portal session: agents authenticate with their own id and secret.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from watchfloor.identity.sts import ACCESS_TOKEN, CLIENT_CREDENTIALS, EXCHANGE, TokenRefused, TokenRequest, TokenService
from watchfloor.model.errors import Unavailable

MAX_BODY_BYTES: Final = 64 * 1024
_FORM: Final = "application/x-www-form-urlencoded"
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def build_sts_router(service: TokenService) -> APIRouter:
    """The routes of the token service, with their full paths."""
    router = APIRouter(tags=["token service"])
    issuer = service.settings.issuer

    @router.post("/sts/token", summary="Exchange a user's token for a gateway token")
    async def token(request: Request) -> Response:
        try:
            asked = _token_request(await _form(request), request)
            issued = await run_in_threadpool(service.issue, asked)
        except TokenRefused as refused:
            return _refusal(refused)
        except Unavailable as error:
            return _refusal(
                TokenRefused(
                    "temporarily_unavailable",
                    "The token service cannot answer at this moment. Try again.",
                    reason="unavailable",
                    status=503,
                    retry_after=error.retry_after,
                )
            )
        body = {
            "access_token": issued.access_token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": issued.expires_in,
            "scope": issued.scope,
        }
        return JSONResponse(body, headers=_NO_STORE)

    @router.get("/sts/jwks", summary="Public keys of the token service")
    async def jwks() -> Response:
        keys = await run_in_threadpool(service.published_keys)
        return JSONResponse(
            keys, media_type="application/jwk-set+json", headers={"Cache-Control": "public, max-age=60"}
        )

    metadata = {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
        "grant_types_supported": [EXCHANGE, CLIENT_CREDENTIALS],
        "response_types_supported": [],
        "scopes_supported": ["read", "write"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }

    # RFC 8414 puts the well-known part before the issuer's path; OpenID Connect Discovery, and many clients, behind it.
    @router.get("/.well-known/oauth-authorization-server/sts", include_in_schema=False)
    @router.get("/sts/.well-known/oauth-authorization-server", summary="Metadata of the token service (RFC 8414)")
    async def authorization_server() -> Response:
        return JSONResponse(metadata, headers={"Cache-Control": "public, max-age=300"})

    return router


def _bad_request(description: str, *, status: int = 400) -> TokenRefused:
    return TokenRefused("invalid_request", description, reason="invalid_request", status=status)


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != _FORM:
        raise _bad_request(f"Send the parameters as {_FORM}.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _bad_request("The request is too long.", status=413)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=50)
        for _, value in pairs:
            value.encode()
    except ValueError:
        raise _bad_request("The request is not a form.") from None
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form:
            # RFC 6749 3.2; RFC 8693 allows several resources, but a gateway token is for one tool server.
            raise _bad_request(f"The parameter {name} stands twice. A token is for one resource." if name == "resource"
                               else f"The parameter {name[:40]} stands twice.")  # fmt: skip
        if value:
            form[name] = value
    return form


def _token_request(form: dict[str, str], request: Request) -> TokenRequest:
    client_id, client_secrets = _client(form, request.headers.get("authorization"))
    if "actor_token" in form:
        raise _bad_request("The actor is the agent that authenticates; actor_token is not taken.")
    resource, audience = form.get("resource", ""), form.get("audience", "")
    if resource and audience and resource != audience:
        raise _bad_request("resource and audience name different targets.")
    if not form.get("grant_type"):
        raise _bad_request("The parameter grant_type is missing.")
    return TokenRequest(
        grant_type=form["grant_type"],
        client_id=client_id,
        client_secrets=client_secrets,
        resource=resource or audience,
        address=request.client.host if request.client else "",
        scope=form.get("scope", ""),
        subject_token=form.get("subject_token", ""),
        subject_token_type=form.get("subject_token_type", ""),
        requested_token_type=form.get("requested_token_type", ""),
        takes_claims=_declares_claims(form.get("claims", "")),
    )


def _declares_claims(claims: str) -> bool:
    """Whether the parameter ``claims`` (OpenID Connect 5.5) declares the client capability ``cp1``, as for Entra."""
    if not claims:
        return False
    try:
        wanted = json.loads(claims)["access_token"]["xms_cc"]["values"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _bad_request('claims is no request for claims: {"access_token": {"xms_cc": …}}.') from None
    return isinstance(wanted, list) and "cp1" in wanted


def _client(form: dict[str, str], authorization: str | None) -> tuple[str, tuple[str, ...]]:
    """The agent's id, and the readings of its secret."""
    missing = TokenRefused(
        "invalid_client", "Authenticate with the agent's id and secret.", reason="invalid_client", status=401
    )
    if authorization is None:
        if not form.get("client_id") or not form.get("client_secret"):
            raise missing
        return form["client_id"], (form["client_secret"],)
    if "client_secret" in form:
        raise _bad_request("Authenticate once: either in the Authorization header or in the form.")
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise missing
    try:
        client_id, colon, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise missing from None
    client_id = unquote_plus(client_id)
    if not colon or not client_id or not secret or form.get("client_id", client_id) != client_id:
        raise missing
    # RFC 6749 2.3.1 has both parts form-encoded; half of all clients send them as they are.
    return client_id, tuple(dict.fromkeys((secret, unquote_plus(secret))))


def _refusal(refused: TokenRefused) -> Response:
    headers: dict[str, str] = dict(_NO_STORE)
    if refused.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="watchfloor", charset="UTF-8"'
    if refused.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refused.retry_after)))
    body: dict[str, Any] = {
        "error": refused.error,
        "error_description": refused.description,
        "reason": refused.reason,
        **refused.step_up,
    }
    return JSONResponse(body, status_code=refused.status, headers=headers)
