"""An OpenID provider on a real socket: discovery, code with PKCE, tokens, keys. It signs in whom a test says."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "watchfloor portal", "s3cr:t/with +signs"
_KEYS = {name: RSAKey.generate_key(2048, {"kid": name, "use": "sig", "alg": "RS256"}) for name in ("op-1", "rogue")}


class OpenIdProvider:
    """``user`` are the claims of whoever sits at the browser; ``tamper`` changes the ID token's claims."""

    def __init__(self) -> None:
        self.user: dict[str, Any] = {
            "sub": "0f3e",
            "preferred_username": "nora",
            "groups": ["soc"],
            "sid": "op-session-1",
        }
        self.tamper: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.key, self.kid = _KEYS["op-1"], "op-1"
        self.now = time.time
        self.asked: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/.well-known/openid-configuration":
                    self._json(provider.discovery())
                elif self.path == "/keys":
                    self._json({"keys": [_KEYS["op-1"].as_dict(private=False)]})
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                status, answer = provider.redeem(dict(parse_qsl(body)), self.headers.get("authorization", ""))
                self._json(answer, status)

            def _json(self, value: Any, status: int = 200) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("set-cookie", "op=1")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._httpd.server_port}"
        threading.Thread(target=self._httpd.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "code_challenge_methods_supported": ["S256"],
            **self.metadata,
        }

    def authorize(self, url: str) -> str:
        """What the browser is sent back to, once the user has signed in at ``url``."""
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.issuer}/authorize"
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
        self.asked.append(asked)
        code = f"code-{len(self.asked)}"
        self._codes[code] = asked
        back = {"code": code, "state": asked["state"]}
        if self.metadata.get("authorization_response_iss_parameter_supported"):
            back["iss"] = self.issuer
        return f"{asked['redirect_uri']}?{urlencode(back)}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        asked = self._codes.pop(form.get("code", ""), None)
        client, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (unquote(client), unquote(secret)) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        verifier = form.get("code_verifier", "")
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        claims = {"aud": CLIENT, "nonce": asked["nonce"], **self.user}
        return 200, {"id_token": self.sign(claims | self.tamper), "access_token": "x", "token_type": "Bearer"}

    def sign(self, claims: dict[str, Any], typ: str = "JWT") -> str:
        now = int(self.now())
        full = {"iss": self.issuer, "iat": now, "exp": now + 300, **claims}
        header = {"alg": "RS256", "kid": self.kid, "typ": typ}
        return jwt.encode(header, {k: v for k, v in full.items() if v is not None}, self.key, algorithms=["RS256"])

    def logout_token(self, **changes: Any) -> str:
        event = {"http://schemas.openid.net/event/backchannel-logout": {}}
        claims = {"aud": CLIENT, "sub": self.user["sub"], "jti": f"j{time.monotonic_ns()}", "events": event}
        return self.sign(claims | changes, "logout+jwt")

    def use_rogue_key(self) -> None:
        """Sign with a key that is not published, under the id of the one that is."""
        self.key = _KEYS["rogue"]
