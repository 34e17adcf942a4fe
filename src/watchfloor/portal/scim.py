"""The door for provisioning: SCIM 2 over HTTP (RFC 7644), for users and groups of one identity provider per token.

Above ``identity.scim``, which decides; this translates. No route here takes a portal session: providers have
bearer tokens of their own, which operators gave them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from watchfloor.identity.scim import documents, groups, users
from watchfloor.identity.scim.documents import CORE, ENTERPRISE, GROUP, ScimRefused
from watchfloor.model.errors import Conflict, InputError, Unavailable, WatchfloorError
from watchfloor.portal.signals import media_type, read_object
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.provisioning import Group, ScimProvider

MEDIA_TYPE: Final = "application/scim+json"
_ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
_LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:Schema"
_RESOURCE_TYPE: Final = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
_CONFIG: Final = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
_FIRST: Final = 100
"""Resources in an answer of which nobody said how many."""

_MAX_BODY_BYTES: Final = 512 * 1024
"""Room for some thousand members of a group."""


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
        request: Request, work: Callable[[ControlTx, ScimProvider, Any], dict[str, Any]], status: int = 200
    ) -> Response:
        """What ``work`` shows of the resource that it changed."""

        def change(body: Any) -> Response:
            with store.read() as tx:
                provider_id = _provider(tx, request).id
            # Saying what is so already changes nothing, and leaves no audit entry.
            with store.tx(f"scim:{provider_id}", audited=False) as tx:
                provider = _provider(tx, request)
                shown = work(tx, provider, body)
            location = {"Location": shown["meta"]["location"]}
            return JSONResponse(_chosen(shown, request), status_code=status, headers=location, media_type=MEDIA_TYPE)

        try:
            if media_type(request) not in (MEDIA_TYPE, "application/json"):
                raise ScimRefused(415, f"Send {MEDIA_TYPE}.")
            return await run_in_threadpool(change, await read_object(request, _MAX_BODY_BYTES))
        except WatchfloorError as error:
            return _refusal(error)

    async def listed(
        request: Request, work: Callable[[ControlTx, ScimProvider, str, int, int], tuple[list[dict[str, Any]], int]]
    ) -> Response:
        """A page as RFC 7644 shows it: of the filter, the first and the number that were asked for."""

        def page(provider: ScimProvider) -> Response:
            asked = request.query_params
            start = max(1, _number(asked.get("startIndex"), 1))
            count = max(0, min(_number(asked.get("count"), _FIRST), users.MOST))
            with store.read() as tx:
                found, total = work(tx, provider, asked.get("filter", ""), start, count)
            shown = [_chosen(each, request) for each in found]
            return JSONResponse(_page(shown, start, total), media_type=MEDIA_TYPE)

        return await answered(request, page)

    # -- users ----------------------------------------------------------------------------------------------------

    @router.get("/Users", summary="Users that the provider told of, or that its issuer has here")
    async def list_scim_users(request: Request) -> Response:
        def work(
            tx: ControlTx, provider: ScimProvider, text: str, start: int, count: int
        ) -> tuple[list[dict[str, Any]], int]:
            found, total = users.list_page(tx, provider, text, start=start, count=count)
            return [users.shown(tx, provider, each, base) for each in found], total

        return await listed(request, work)

    @router.post("/Users", status_code=201, summary="Tell of a new user")
    async def create_scim_user(request: Request) -> Response:
        return await written(request, lambda tx, p, body: users.shown(tx, p, users.create(tx, p, body), base), 201)

    @router.get("/Users/{user_id}", summary="One user")
    async def read_scim_user(request: Request, user_id: str) -> Response:
        def work(provider: ScimProvider) -> Response:
            with store.read() as tx:
                shown = users.shown(tx, provider, users.find(tx, provider, user_id), base)
            return JSONResponse(_chosen(shown, request), media_type=MEDIA_TYPE)

        return await answered(request, work)

    @router.put("/Users/{user_id}", summary="Replace what was told of a user")
    async def replace_scim_user(request: Request, user_id: str) -> Response:
        def work(tx: ControlTx, provider: ScimProvider, body: Any) -> dict[str, Any]:
            return users.shown(tx, provider, users.replace_all(tx, provider, user_id, body), base)

        return await written(request, work)

    @router.patch("/Users/{user_id}", summary="Change what was told of a user; active false ends every session")
    async def patch_scim_user(request: Request, user_id: str) -> Response:
        def work(tx: ControlTx, provider: ScimProvider, body: Any) -> dict[str, Any]:
            return users.shown(tx, provider, users.patch(tx, provider, user_id, body), base)

        return await written(request, work)

    @router.delete("/Users/{user_id}", status_code=204, response_class=Response, summary="Disable a user for good")
    async def delete_scim_user(request: Request, user_id: str) -> Response:
        def work(provider: ScimProvider) -> Response:
            with store.tx(f"scim:{provider.id}") as tx:
                users.delete(tx, _provider(tx, request), user_id)
                tx.audit("user:forget", f"user/{user_id}", {"provider": provider.id})
            return Response(status_code=204)

        return await answered(request, work)

    # -- groups ---------------------------------------------------------------------------------------------------

    def show(tx: ControlTx, group: Group, request: Request) -> dict[str, Any]:
        return groups.shown(tx, group, base, with_members=_is_chosen("members", request))

    @router.get("/Groups", summary="Groups that the provider told of")
    async def list_scim_groups(request: Request) -> Response:
        def work(
            tx: ControlTx, provider: ScimProvider, text: str, start: int, count: int
        ) -> tuple[list[dict[str, Any]], int]:
            found, total = groups.list_page(tx, provider, text, start=start, count=count)
            return [show(tx, each, request) for each in found], total

        return await listed(request, work)

    @router.post("/Groups", status_code=201, summary="Tell of a new group")
    async def create_scim_group(request: Request) -> Response:
        return await written(request, lambda tx, p, body: show(tx, groups.create(tx, p, body), request), 201)

    @router.get("/Groups/{group_id}", summary="One group")
    async def read_scim_group(request: Request, group_id: str) -> Response:
        def work(provider: ScimProvider) -> Response:
            with store.read() as tx:
                shown = show(tx, groups.find(tx, provider, group_id), request)
            return JSONResponse(_chosen(shown, request), media_type=MEDIA_TYPE)

        return await answered(request, work)

    @router.put("/Groups/{group_id}", summary="Replace what was told of a group and who is in it")
    async def replace_scim_group(request: Request, group_id: str) -> Response:
        def work(tx: ControlTx, provider: ScimProvider, body: Any) -> dict[str, Any]:
            return show(tx, groups.replace_all(tx, provider, group_id, body), request)

        return await written(request, work)

    @router.patch("/Groups/{group_id}", summary="Change a group or who is in it")
    async def patch_scim_group(request: Request, group_id: str) -> Response:
        def work(tx: ControlTx, provider: ScimProvider, body: Any) -> dict[str, Any]:
            return show(tx, groups.patch(tx, provider, group_id, body), request)

        return await written(request, work)

    @router.delete("/Groups/{group_id}", status_code=204, response_class=Response, summary="Forget a group")
    async def delete_scim_group(request: Request, group_id: str) -> Response:
        def work(provider: ScimProvider) -> Response:
            with store.tx(f"scim:{provider.id}") as tx:
                groups.delete(tx, _provider(tx, request), group_id)
            return Response(status_code=204)

        return await answered(request, work)

    # -- what the service can do ----------------------------------------------------------------------------------

    def fixed(document: dict[str, Any]) -> Callable[[ScimProvider], Response]:
        return lambda provider: JSONResponse(document, media_type=MEDIA_TYPE)

    @router.get("/ServiceProviderConfig", summary="What this service provider can do")
    async def config(request: Request) -> Response:
        return await answered(request, fixed(_config(base)))

    @router.get("/ResourceTypes", summary="Kinds of resources")
    async def resource_types(request: Request) -> Response:
        return await answered(request, fixed(_whole(_types(base))))

    @router.get("/ResourceTypes/User", summary="The kind of resource that users are")
    async def user_type(request: Request) -> Response:
        return await answered(request, fixed(_types(base)[0]))

    @router.get("/ResourceTypes/Group", summary="The kind of resource that groups are")
    async def group_type(request: Request) -> Response:
        return await answered(request, fixed(_types(base)[1]))

    @router.get("/Schemas", summary="Attributes of users and groups")
    async def schemas(request: Request) -> Response:
        return await answered(request, fixed(_whole(list(_schemas(base).values()))))

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
    return {name: value for name, value in shown.items() if _is_chosen(name, request)}


def _is_chosen(name: str, request: Request) -> bool:
    if name in ("id", "schemas"):
        return True
    asked = request.query_params.get("attributes")
    left_out = request.query_params.get("excludedAttributes")
    if asked:
        return name.lower() in {each.strip().split(".")[0].lower() for each in asked.split(",")}
    return not left_out or name.lower() not in {each.strip().lower() for each in left_out.split(",")}


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


def _page(resources: list[dict[str, Any]], start: int, total: int) -> dict[str, Any]:
    return {
        "schemas": [_LIST], "totalResults": total, "startIndex": start, "itemsPerPage": len(resources),
        "Resources": resources,
    }  # fmt: skip


def _whole(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return _page(resources, 1, len(resources))


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


def _types(base: str) -> list[dict[str, Any]]:
    def kind(name: str, schema: str, **extra: Any) -> dict[str, Any]:
        return {
            "schemas": [_RESOURCE_TYPE],
            "id": name,
            "name": name,
            "endpoint": f"/{name}s",
            "schema": schema,
            **extra,
            "meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/{name}"},
        }

    extensions = [{"schema": ENTERPRISE, "required": False}]
    return [kind("User", CORE, schemaExtensions=extensions), kind("Group", GROUP)]


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
    fixed = {"mutability": "immutable"}
    member = [
        _attribute("value", required=True, caseExact=True, **fixed),
        _attribute("$ref", "reference", referenceTypes=["User"], **fixed),
        _attribute("type", canonicalValues=["User"], **fixed),
    ]
    group = [
        _attribute("displayName", required=True, uniqueness="server"),
        _attribute("externalId", caseExact=True),
        _attribute("members", "complex", multiValued=True, subAttributes=member),
    ]
    return {
        urn: {
            "schemas": [_SCHEMA],
            "id": urn,
            "name": name,
            "attributes": attributes,
            "meta": {"resourceType": "Schema", "location": f"{base}/Schemas/{urn}"},
        }
        for urn, name, attributes in (
            (CORE, "User", core),
            (ENTERPRISE, "EnterpriseUser", enterprise),
            (GROUP, "Group", group),
        )
    }
