"""The door for provisioning: SCIM 2 over HTTP (RFC 7644), for users of one identity provider per token.

Above ``identity.scim.users``, which decides; this translates. No route here takes a portal session: providers have
bearer tokens of their own, which operators gave them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from watchfloor.identity.scim import documents, users
from watchfloor.identity.scim.documents import CORE, ENTERPRISE, ScimRefused
from watchfloor.model.errors import Conflict, InputError, Unavailable, WatchfloorError
from watchfloor.portal.signals import media_type, read_object
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.provisioning import Provisioned, ScimProvider

MEDIA_TYPE: Final = "application/scim+json"
_ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
_LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:Schema"
_RESOURCE_TYPE: Final = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
_CONFIG: Final = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
_FIRST: Final = 100
"""Users in an answer for whom nobody asked a number of."""


def build_scim_router(store: SqlControlStore, public_url: str) -> APIRouter:
    """The routes, with their full paths."""
    router = APIRouter(prefix="/scim/v2", tags=["provisioning"])
    base = f"{public_url}/scim/v2"

    async def answered(request: Request, work: Callable[[ScimProvider], Response]) -> Response:
        def inside() -> Response:
            with store.read() as tx:
                provider = _provider(tx, request)
            return work(provider)

        try:
            return await run_in_threadpool(inside)
        except WatchfloorError as error:
            return _refusal(error)

    async def written(
        request: Request, work: Callable[[ControlTx, ScimProvider, Any], Provisioned], status: int = 200
    ) -> Response:
        def change(body: Any) -> Response:
            with store.read() as tx:
                provider_id = _provider(tx, request).id
            # Saying what is so already changes nothing, and leaves no audit entry.
            with store.tx(f"scim:{provider_id}", audited=False) as tx:
                provider = _provider(tx, request)
                shown = users.shown(tx, provider, work(tx, provider, body), base)
            location = {"Location": shown["meta"]["location"]}
            return JSONResponse(_chosen(shown, request), status_code=status, headers=location, media_type=MEDIA_TYPE)

        try:
            if media_type(request) not in (MEDIA_TYPE, "application/json"):
                raise ScimRefused(415, f"Send {MEDIA_TYPE}.")
            return await run_in_threadpool(change, await read_object(request))
        except WatchfloorError as error:
            return _refusal(error)

    @router.get("/Users", summary="Users that the provider told of, or that its issuer has here")
    async def list_scim_users(request: Request) -> Response:
        def work(provider: ScimProvider) -> Response:
            asked = request.query_params
            start, count = _number(asked.get("startIndex"), 1), _number(asked.get("count"), _FIRST)
            with store.read() as tx:
                page = users.list_page(
                    tx, provider, base, filter_text=asked.get("filter", ""), start=start, count=count
                )
            page["Resources"] = [_chosen(each, request) for each in page["Resources"]]
            return JSONResponse(page, media_type=MEDIA_TYPE)

        return await answered(request, work)

    @router.post("/Users", status_code=201, summary="Tell of a new user")
    async def create_scim_user(request: Request) -> Response:
        return await written(request, users.create, 201)

    @router.get("/Users/{user_id}", summary="One user")
    async def read_scim_user(request: Request, user_id: str) -> Response:
        def work(provider: ScimProvider) -> Response:
            with store.read() as tx:
                shown = users.shown(tx, provider, users.find(tx, provider, user_id), base)
            return JSONResponse(_chosen(shown, request), media_type=MEDIA_TYPE)

        return await answered(request, work)

    @router.put("/Users/{user_id}", summary="Replace what was told of a user")
    async def replace_scim_user(request: Request, user_id: str) -> Response:
        return await written(request, lambda tx, p, body: users.replace_all(tx, p, user_id, body))

    @router.patch("/Users/{user_id}", summary="Change what was told of a user; active false ends every session")
    async def patch_scim_user(request: Request, user_id: str) -> Response:
        return await written(request, lambda tx, p, body: users.patch(tx, p, user_id, body))

    @router.delete("/Users/{user_id}", status_code=204, response_class=Response, summary="Disable a user for good")
    async def delete_scim_user(request: Request, user_id: str) -> Response:
        def work(provider: ScimProvider) -> Response:
            with store.tx(f"scim:{provider.id}") as tx:
                users.delete(tx, _provider(tx, request), user_id)
                tx.audit("user:forget", f"user/{user_id}", {"provider": provider.id})
            return Response(status_code=204)

        return await answered(request, work)

    def fixed(document: dict[str, Any]) -> Callable[[ScimProvider], Response]:
        return lambda provider: JSONResponse(document, media_type=MEDIA_TYPE)

    @router.get("/ServiceProviderConfig", summary="What this service provider can do")
    async def config(request: Request) -> Response:
        return await answered(request, fixed(_config(base)))

    @router.get("/ResourceTypes", summary="Kinds of resources")
    async def resource_types(request: Request) -> Response:
        return await answered(request, fixed(_listed([_user_type(base)])))

    @router.get("/ResourceTypes/User", summary="The kind of resource that users are")
    async def user_type(request: Request) -> Response:
        return await answered(request, fixed(_user_type(base)))

    @router.get("/Schemas", summary="Attributes of users")
    async def schemas(request: Request) -> Response:
        return await answered(request, fixed(_listed(list(_schemas(base).values()))))

    @router.get("/Schemas/{urn}", summary="Attributes of one schema")
    async def schema(request: Request, urn: str) -> Response:
        def work(provider: ScimProvider) -> Response:
            found = _schemas(base).get(urn)
            if found is None:
                raise ScimRefused(404, "There is no such schema.")
            return JSONResponse(found, media_type=MEDIA_TYPE)

        return await answered(request, work)

    return router


def _provider(tx: ControlTx, request: Request) -> ScimProvider:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found = users.authenticate(tx, token.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise ScimRefused(401, "Send the token that the operators gave you as bearer token.")
    return found


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        return max(-1, min(int(text), 2**31)) if len(text) < 12 else 2**31
    except ValueError:
        raise ScimRefused(400, "startIndex and count are whole numbers.", "invalidValue") from None


def _chosen(shown: dict[str, Any], request: Request) -> dict[str, Any]:
    """``shown`` with the attributes that were asked for; id and schemas are always there."""
    asked = request.query_params.get("attributes")
    left_out = request.query_params.get("excludedAttributes")
    always = {"id", "schemas"}
    if asked:
        wanted = {name.strip().split(".")[0].lower() for name in asked.split(",")} | always
        return {name: value for name, value in shown.items() if name.lower() in wanted}
    if left_out:
        unwanted = {name.strip().lower() for name in left_out.split(",")} - always
        return {name: value for name, value in shown.items() if name.lower() not in unwanted}
    return shown


def _refusal(error: WatchfloorError) -> Response:
    status, kind, headers = 500, "", dict[str, str]()
    if isinstance(error, ScimRefused):
        status, kind = error.status, error.kind
    elif isinstance(error, Conflict):
        status, kind = 409, "uniqueness"
    elif isinstance(error, InputError):
        status, kind = 400, "invalidSyntax"
    elif isinstance(error, Unavailable):
        status, headers = 503, {"Retry-After": str(max(1, round(error.retry_after)))}
    else:
        raise error
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="scim"'
    body = {"schemas": [_ERROR], "status": str(status), "detail": str(error), **({"scimType": kind} if kind else {})}
    return JSONResponse(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


# -- what does not change -----------------------------------------------------------------------------------------


def _listed(resources: list[dict[str, Any]]) -> dict[str, Any]:
    count = len(resources)
    return {
        "schemas": [_LIST], "totalResults": count, "startIndex": 1, "itemsPerPage": count, "Resources": resources
    }  # fmt: skip


def _config(base: str) -> dict[str, Any]:
    no = {"supported": False}
    return {
        "schemas": [_CONFIG],
        "patch": {"supported": True},
        "bulk": {**no, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": users.MOST},
        "changePassword": no,
        "sort": no,
        "etag": no,
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "A token that an operator made for the provider.",
                "primary": True,
            }
        ],
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }


def _user_type(base: str) -> dict[str, Any]:
    return {
        "schemas": [_RESOURCE_TYPE],
        "id": "User",
        "name": "User",
        "endpoint": "/Users",
        "schema": CORE,
        "schemaExtensions": [{"schema": ENTERPRISE, "required": False}],
        "meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/User"},
    }


def _attribute(name: str, kind: str = "string", **extra: Any) -> dict[str, Any]:
    return {
        "name": name, "type": kind, "multiValued": False, "required": False, "caseExact": False,
        "mutability": "readWrite", "returned": "default", "uniqueness": "none", **extra,
    }  # fmt: skip


def _schemas(base: str) -> dict[str, dict[str, Any]]:
    texts = [_attribute(name) for name in documents.STRINGS if name not in ("userName", "externalId")]
    emails = [_attribute(name) for name in ("value", "type", "display")] + [_attribute("primary", "boolean")]
    names = [_attribute(name) for name in documents.NAMES.values()]
    core = [
        _attribute("userName", required=True, uniqueness="server"),
        _attribute("externalId", caseExact=True),
        *texts,
        _attribute("active", "boolean"),
        _attribute("name", "complex", subAttributes=names),
        _attribute("emails", "complex", multiValued=True, subAttributes=emails),
    ]
    manager = [_attribute("value"), _attribute("displayName", mutability="readOnly")]
    enterprise = [_attribute("department"), _attribute("manager", "complex", subAttributes=manager)]
    return {
        urn: {
            "schemas": [_SCHEMA],
            "id": urn,
            "name": name,
            "attributes": attributes,
            "meta": {"resourceType": "Schema", "location": f"{base}/Schemas/{urn}"},
        }
        for urn, name, attributes in ((CORE, "User", core), (ENTERPRISE, "EnterpriseUser", enterprise))
    }
