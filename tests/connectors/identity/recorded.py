"""Entra, Keycloak and Okta as far as our connectors speak with them: local servers that answer in the recorded shapes.

They hold accounts, and change them as the documents say; beside that they can be in trouble: throttle, fail, be slow,
redirect. What came in is kept. They run nothing of ours, and check what a real one would: tokens, assertions, bodies.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

GRIFFIN: Final = "11111111-1111-4111-8111-111111111111"
MONA: Final = "22222222-2222-4222-8222-222222222222"
QUINN: Final = "33333333-3333-4333-8333-333333333333"
CLIENT: Final = "connector-client"
SECRET: Final = "connector-secret-5b1c77"
OPS: Final = "44444444-4444-4444-8444-444444444444"


@dataclass(frozen=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    at: float


@dataclass
class Trouble:
    """What the next answer is instead. ``seconds``: how late it comes."""

    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    path: str = ""


Reply = tuple[int, Any] | tuple[int, Any, Mapping[str, str]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Those who hang up early are part of the tests."""


class Recorded:
    """A provider. ``key`` verifies assertions; without one the client has ``SECRET``."""

    def __init__(self, key: RSAKey | None = None) -> None:
        self.key = key
        self.asked: list[Asked] = []
        self.troubles: list[Trouble] = []
        self.tokens: set[str] = set()
        self.token_lifetime = 3600
        self.lock = threading.RLock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                outer._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._httpd = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._httpd.server_port}"

    # -- to be said by each -------------------------------------------------------------------------------------

    token_path = ""

    def answer(self, asked: Asked) -> Reply:
        """What the provider says to an authorised request."""
        raise NotImplementedError

    def refusal(self, status: int, code: str) -> Any:
        """The body of a refusal."""
        return {"error": code}

    # -- serving ------------------------------------------------------------------------------------------------

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Until the end of the block."""
        thread = threading.Thread(target=self._httpd.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Be gone."""
        self._httpd.shutdown()
        self._httpd.server_close()

    def paths(self, method: str, pattern: str) -> list[Asked]:
        """Requests of a method whose path matches."""
        return [a for a in self.asked if a.method == method and re.search(pattern, a.path)]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        raw = handler.rfile.read(length)
        parts = urlsplit(handler.path)
        is_form = handler.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        body: Any = dict(parse_qsl(raw.decode())) if is_form else json.loads(raw) if raw else None
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        headers = {k.lower(): v for k, v in handler.headers.items()}
        asked = Asked(handler.command, parts.path, query, headers, body, time.monotonic())
        with self.lock:
            self.asked.append(asked)
            trouble = next((t for t in self.troubles if t.path in asked.path), None)
            if trouble is not None:
                self.troubles.remove(trouble)
        if trouble is not None:
            time.sleep(trouble.seconds)
            self._reply(handler, trouble.status, trouble.body, trouble.headers)
            return
        with self.lock:
            reply = self._authorised(asked)
        status, content = reply[0], reply[1]
        encoded = b"" if content is None else json.dumps(content).encode()
        self._reply(handler, status, encoded, reply[2] if len(reply) == 3 else {})

    @staticmethod
    def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            pass  # the one who asked has given up

    def _authorised(self, asked: Asked) -> Reply:
        if asked.path == self.token_path:
            return self._token(asked.body or {}, asked.headers.get("authorization", ""))
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return 401, self.refusal(401, "InvalidAuthenticationToken")
        return self.answer(asked)

    def _token(self, form: Mapping[str, str], authorization: str) -> Reply:
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        if self.key is None:
            given = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            if given != f"{CLIENT}:{SECRET}":
                return 401, {"error": "invalid_client", "error_description": f"wrong: {given}"}
        elif form.get("client_id") != CLIENT or not self._is_proven(form):
            return 401, {"error": "invalid_client", "error_description": "AADSTS700027: the assertion is not right"}
        token = f"token-{uuid.uuid4()}"
        self.tokens.add(token)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.token_lifetime}

    def _is_proven(self, form: Mapping[str, str]) -> bool:
        assert self.key is not None
        if form.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
            return False
        try:
            claims = jwt.decode(form["client_assertion"], self.key, algorithms=["RS256"]).claims
        except Exception:  # whatever is wrong with it, a provider says no more than that
            return False
        return (
            claims["iss"] == claims["sub"] == CLIENT
            and claims["aud"] == self.url + self.token_path
            and claims["exp"] - claims["iat"] <= 600
        )


def _in_pages(asked: Asked, found: list[Any], start: int, count: int) -> tuple[list[Any], bool]:
    return found[start : start + count], start + count < len(found)


# -- Entra ----------------------------------------------------------------------------------------------------------


class Entra(Recorded):
    """Graph v1.0 with identity protection; pages of two. Each is a tenant of its own, with a limit of its own."""

    def __init__(self, key: RSAKey) -> None:
        super().__init__(key)
        self.tenant = str(uuid.uuid4())
        self.token_path = f"/{self.tenant}/oauth2/v2.0/token"
        self.users: dict[str, dict[str, Any]] = {}
        for oid, name, title, manager in (
            (GRIFFIN, "Griffin Lewis", "Clerk", MONA),
            (MONA, "Mona Kane", "Head of Sales", None),
            (QUINN, "Quinn Anderson", None, MONA),
        ):
            upn = f"{name.split()[0].lower()}@zava.example"
            self.users[oid] = {
                "id": oid, "userPrincipalName": upn, "displayName": name, "mail": upn, "accountEnabled": True,
                "department": "Billing" if oid == GRIFFIN else None, "jobTitle": title,
                "signInSessionsValidFromDateTime": "2026-01-01T00:00:00Z",
                "lastPasswordChangeDateTime": "2026-02-03T04:05:06Z",
                "passwordProfile": None, "manager": {"id": manager} if manager else None,
            }  # fmt: skip
        self.groups = {OPS: ("Billing team", [GRIFFIN, MONA])}
        self.risky: dict[str, dict[str, Any]] = {}

    def refusal(self, status: int, code: str) -> Any:
        return {"error": {"code": code, "message": "a message that may quote what was sent"}}

    def answer(self, asked: Asked) -> Reply:
        path = asked.path.removeprefix("/v1.0")
        for method, pattern, serve in (
            ("POST", r"/users/([^/]+)/revokeSignInSessions", self._revoke),
            ("GET", r"/users/([^/]+)", self._user),
            ("PATCH", r"/users/([^/]+)", self._change),
            ("GET", r"/users", self._list),
            ("GET", r"/groups", self._groups),
            ("GET", r"/groups/([^/]+)/members", self._members),
            ("POST", r"/identityProtection/riskyUsers/(confirmCompromised|dismiss)", self._judge),
            ("GET", r"/identityProtection/riskyUsers/([^/]+)", self._risk),
            ("GET", r"/identityProtection/riskyUsers", self._list_risky),
        ):
            found = re.fullmatch(pattern, path)
            if found and asked.method == method:
                return serve(asked, *found.groups())
        return 404, self.refusal(404, "ResourceNotFound")

    def _find(self, name: str) -> dict[str, Any] | None:
        name = name.replace("%40", "@")
        return next((u for u in self.users.values() if name in (u["id"], u["userPrincipalName"])), None)

    def _revoke(self, asked: Asked, name: str) -> Reply:
        user = self._find(name)
        if user is None:
            return 404, self.refusal(404, "Request_ResourceNotFound")
        user["signInSessionsValidFromDateTime"] = "2026-11-30T16:00:00Z"
        return 200, {"@odata.context": f"{self.url}/v1.0/$metadata#Edm.Boolean", "value": True}

    def _user(self, asked: Asked, name: str) -> Reply:
        user = self._find(name)
        if user is None:
            return 404, self.refusal(404, "Request_ResourceNotFound")
        wanted = asked.query.get("$select", "id").split(",")
        return 200, {"@odata.context": "…", **{n: user.get(n) for n in wanted}}

    def _change(self, asked: Asked, name: str) -> Reply:
        user = self._find(name)
        if user is None:
            return 404, self.refusal(404, "Request_ResourceNotFound")
        if not set(asked.body) <= {"passwordProfile", "accountEnabled"}:
            return 403, self.refusal(403, "Authorization_RequestDenied")
        user |= asked.body
        return 204, None

    def _paged(self, asked: Asked, found: list[Any]) -> Reply:
        start = int(asked.query.get("$skiptoken", "0"))
        page, more = _in_pages(asked, found, start, 2)
        link = {"@odata.nextLink": f"{self.url}{asked.path}?$skiptoken={start + 2}"} if more else {}
        return 200, {"@odata.context": "…", "value": page, **link}

    def _list(self, asked: Asked) -> Reply:
        return self._paged(asked, list(self.users.values()))

    def _groups(self, asked: Asked) -> Reply:
        return self._paged(asked, [{"id": oid, "displayName": name} for oid, (name, _) in self.groups.items()])

    def _members(self, asked: Asked, group: str) -> Reply:
        return self._paged(asked, [{"@odata.type": "#microsoft.graph.user", "id": m} for m in self.groups[group][1]])

    def _judge(self, asked: Asked, verdict: str) -> Reply:
        if any(self._find(user) is None for user in asked.body["userIds"]):
            return 400, self.refusal(400, "BadRequest")
        for user in asked.body["userIds"]:
            confirmed = verdict == "confirmCompromised"
            self.risky[user] = {
                "id": user,
                "riskLevel": "high" if confirmed else "none",
                "riskState": "confirmedCompromised" if confirmed else "dismissed",
                "riskDetail": "adminConfirmedUserCompromised" if confirmed else "adminDismissedAllRiskForUser",
            }
        return 204, None

    def see(self, user: str, level: str, at: str = "2026-11-29T08:00:00Z", state: str = "atRisk") -> None:
        """Entra's own detections have come to this."""
        self.risky[user] = {
            "id": user, "isDeleted": False, "isProcessing": False, "riskLevel": level, "riskState": state,
            "riskDetail": "none", "riskLastUpdatedDateTime": at, "userDisplayName": "…",
            "userPrincipalName": self.users[user]["userPrincipalName"],
        }  # fmt: skip

    def _list_risky(self, asked: Asked) -> Reply:
        if asked.query.get("$filter", "riskState eq 'atRisk'") != "riskState eq 'atRisk'":
            return 400, self.refusal(400, "BadRequest")
        return self._paged(asked, [user for user in self.risky.values() if user["riskState"] == "atRisk"])

    def _risk(self, asked: Asked, user: str) -> Reply:
        found = self.risky.get(user)
        return (200, found) if found else (404, self.refusal(404, "ResourceNotFound"))


# -- Keycloak -------------------------------------------------------------------------------------------------------


class Keycloak(Recorded):
    """A realm ``zava``."""

    token_path = "/realms/zava/protocol/openid-connect/token"

    def __init__(self) -> None:
        super().__init__()
        self.users = {
            user: {
                "id": user, "username": name.split()[0].lower(), "firstName": name.split()[0],
                "lastName": name.split()[1], "email": f"{name.split()[0].lower()}@zava.example", "enabled": True,
                "requiredActions": [], "notBefore": 0, "attributes": {"department": ["Billing"], "title": ["Clerk"]},
            }
            for user, name in ((GRIFFIN, "Griffin Lewis"), (MONA, "Mona Kane"), (QUINN, "Quinn Anderson"))
        }  # fmt: skip
        self.users[OPS] = {"id": OPS, "username": "service-account-x", "enabled": True, "serviceAccountClientId": "x"}
        self.sessions: dict[str, list[str]] = {GRIFFIN: ["s1", "s2"]}
        self.offline: dict[str, list[str]] = {GRIFFIN: ["mail-app"]}

    def refusal(self, status: int, code: str) -> Any:
        return {"error": "User not found" if status == 404 else "HTTP 401 Unauthorized"}

    def answer(self, asked: Asked) -> Reply:
        path = asked.path.removeprefix("/admin/realms/zava")
        first, most = int(asked.query.get("first", 0)), int(asked.query.get("max", 100))
        if path == "/users":
            return 200, list(self.users.values())[first : first + most]
        if path == "/groups":
            group = {"id": OPS, "name": "billing", "path": "/billing", "subGroups": []}
            return 200, [group][first : first + most]
        if path == f"/groups/{OPS}/members":
            return 200, [{"id": u} for u in (GRIFFIN, MONA)][first : first + most]
        found = re.fullmatch(r"/users/([^/]+)(/.*)?", path)
        if not found or found.group(1) not in self.users:
            return 404, self.refusal(404, "")
        return self._of_user(asked, found.group(1), found.group(2) or "")

    def _of_user(self, asked: Asked, user: str, rest: str) -> Reply:
        match asked.method, rest:
            case "GET", "":
                return 200, self.users[user]
            case "PUT", "":
                self.users[user] |= asked.body
                return 204, None
            case "POST", "/logout":
                self.sessions[user] = []
                self.users[user]["notBefore"] = int(time.time())
                return 204, None
            case "GET", "/sessions":
                return 200, [{"id": s, "username": self.users[user]["username"]} for s in self.sessions.get(user, [])]
            case "GET", "/credentials":
                return 200, [{"id": "c1", "type": "password", "createdDate": 1770091506000}]
            case "GET", "/consents":
                grants = [{"client": c, "key": "Offline Token"} for c in self.offline.get(user, [])]
                return 200, [
                    {"clientId": g["client"], "grantedClientScopes": [], "additionalGrants": [g]} for g in grants
                ]
        if asked.method == "DELETE" and rest.startswith("/consents/"):
            client = rest.removeprefix("/consents/")
            if client not in self.offline.get(user, []):
                return 404, {"error": "Consent nor offline token not found"}
            self.offline[user].remove(client)
            return 204, None
        return 404, self.refusal(404, "")


# -- Okta -----------------------------------------------------------------------------------------------------------


class Okta(Recorded):
    """An organisation; pages of two."""

    token_path = "/oauth2/v1/token"

    def __init__(self, key: RSAKey) -> None:
        super().__init__(key)
        self.users: dict[str, dict[str, Any]] = {}
        for user, name, manager in (
            (GRIFFIN, "Griffin Lewis", "mona"),
            (MONA, "Mona Kane", ""),
            (QUINN, "Quinn Anderson", "mona"),
        ):
            given, family = name.split()
            login = f"{given.lower()}@zava.example"
            profile = {"login": login, "email": login, "firstName": given, "lastName": family, "department": "Billing"}
            self.users[user] = {
                "id": user, "status": "ACTIVE", "statusChanged": "2026-01-01T00:00:00.000Z",
                "passwordChanged": "2026-02-03T04:05:06.000Z", "lastLogin": "2026-11-29T08:00:00.000Z",
                "profile": {**profile, "managerId": f"{manager}@zava.example" if manager else None},
            }  # fmt: skip
        self.risk: dict[str, str] = {}
        self.cleared: list[str] = []

    def refusal(self, status: int, code: str) -> Any:
        return {"errorCode": "E0000007" if status == 404 else "E0000011", "errorSummary": "a summary", "errorId": "x"}

    def answer(self, asked: Asked) -> Reply:
        path = asked.path.removeprefix("/api/v1")
        if path == "/users":
            return self._paged(asked, [u for u in self.users.values() if u["status"] != "DEPROVISIONED"])
        if path == "/groups":
            everyone = {"id": "everyone", "type": "BUILT_IN", "profile": {"name": "Everyone"}}
            return self._paged(
                asked, [everyone, {"id": OPS, "type": "OKTA_GROUP", "profile": {"name": "Billing team"}}]
            )
        if path == f"/groups/{OPS}/users":
            return self._paged(asked, [self.users[GRIFFIN], self.users[MONA]])
        found = re.fullmatch(r"/users/([^/]+)(/.*)?", path)
        if not found or found.group(1) not in self.users:
            return 404, self.refusal(404, "")
        return self._of_user(asked, self.users[found.group(1)], found.group(2) or "")

    def _of_user(self, asked: Asked, user: dict[str, Any], rest: str) -> Reply:
        match asked.method, rest:
            case "GET", "":
                return 200, user
            case "DELETE", "/sessions":
                assert asked.query.get("oauthTokens") == "true"
                self.cleared.append(user["id"])
                return 204, None
            case "POST", "/lifecycle/expire_password" if user["status"] == "ACTIVE":
                user["status"] = "PASSWORD_EXPIRED"
                return 200, user
            case "POST", "/lifecycle/suspend" if user["status"] != "SUSPENDED":
                user["status"] = "SUSPENDED"
                return 200, {}
            case "POST", "/lifecycle/unsuspend" if user["status"] == "SUSPENDED":
                user["status"] = "ACTIVE"
                return 200, {}
            case "PUT", "/risk":
                self.risk[user["id"]] = asked.body["riskLevel"]
                return 200, {"riskLevel": asked.body["riskLevel"]}
            case "GET", "/risk":
                return 200, {"riskLevel": self.risk.get(user["id"], "NONE")}
        # As Okta says: not in this state.
        return 403, {"errorCode": "E0000016", "errorSummary": "not allowed in this state", "errorId": "x"}

    def _paged(self, asked: Asked, found: list[Any]) -> Reply:
        start = int(asked.query.get("after", "0"))
        page, more = _in_pages(asked, found, start, 2)
        links = f'<{self.url}{asked.path}?limit=2>; rel="self"'
        if more:
            links += f', <{self.url}{asked.path}?after={start + 2}&limit=2>; rel="next"'
        return 200, page, {"link": links}


Make = Callable[[], Recorded]
