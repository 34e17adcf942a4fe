"""The company behind which AgentDojo's tools stand: written as the control plane writes it, kept alive until killed.

    python -m bench.dojo.company DATA < specification.json

Runs in Watchfloor's own environment. The specification names tools, directory, strictness, tool server and gateway; a
token for the one agent is printed as a line of JSON, and a fresh one every few minutes. Only the shipped policies about
provenance are in force; ``alignment`` says whether the one that asks by alignment is, too.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from watchfloor import content
from watchfloor.guard.provenance.cards import infer_card
from watchfloor.model import facts
from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState
from watchfloor.model.facts import Kind
from watchfloor.registry.effects import infer_effect
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.vault import Vault


def found(data: Path, wanted: dict[str, Any]) -> RSAKey:
    """Write the company; the key that signs its tokens."""
    epoch = EpochFile.create(data / "epoch")
    vault = Vault.open(data / "keys" / "vault.key")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = RSAKey.import_key(pem, {"kid": "dojo", "use": "sig", "alg": "RS256"})
    server = "dojo"
    store = SqlControlStore.open(f"sqlite:///{data / 'control.db'}", epoch=epoch)
    with store.tx() as tx:
        tx.project(Kind.ORGANIZATION, "", facts.Organization("Dojo"))
        tx.project(Kind.SIGNING_KEY, "dojo", facts.SigningKey("dojo", key.as_dict(private=False)))
        tx.project(Kind.AGENT, "agent", facts.AgentFacts("agent", "Agent", AgentState.PUBLISHED, "1"))
        tx.project(Kind.USER, "user", facts.UserFacts("user", "user@dojo.invalid", is_enabled=True))
        url = wanted["tool_server"]
        tx.project(
            Kind.SERVER, server, facts.ServerFacts(server, "Dojo", url, ServerState.AVAILABLE, credential_id="app")
        )
        tx.project(Kind.CREDENTIAL, "app", facts.CredentialFacts("app", "bearer", vault.seal(b"secret", "app")))
        tx.project(Kind.DIRECTORY, "known", facts.DirectoryNames(tuple(wanted["directory"])))
        for tool in wanted["tools"]:
            name, effect = tool["name"], infer_effect(tool, is_trusted=False)
            card = infer_card(tool)
            tx.project(Kind.TOOL, f"{server}/{name}", facts.ToolFacts(server, name, effect, PinState.UNPINNED))
            card = dataclasses.replace(card, strictness=wanted["strictness"])
            tx.project(Kind.TOOL_CARD, f"{server}/{name}", card)
        binding = facts.BindingFacts("agent", server, "*", CredentialOwner.APP, Scope.WRITE)
        tx.project(Kind.BINDING, f"agent/{server}/*", binding)
        for body in content.policies():
            if body["id"] == "alignment-to-confirm" and wanted["alignment"]:
                body["mode"] = "enforce"
            if body.get("step") == "provenance":
                tx.project(Kind.POLICY, body["id"], facts.PolicyFacts(body["id"], 1, body))
        tx.audit("dojo:found", "bench")
    store.close()
    epoch.beat()
    return key


def token(key: RSAKey, wanted: dict[str, Any]) -> str:
    """A token of the one agent, good for ten minutes."""
    now = int(time.time())
    claims = {
        "iss": wanted["issuer"], "aud": f"{wanted['gateway']}/mcp/dojo", "sub": "user:user", "azp": "agent:agent",
        "act": {"sub": "agent:agent"}, "sid": "dojo", "scope": "read write", "mode": "obo", "sev": 1, "aev": 1,
        "jti": "dojo", "iat": now, "exp": now + 600,
    }  # fmt: skip
    return jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": "dojo"}, claims, key, algorithms=["RS256"])


def main() -> None:
    data = Path(sys.argv[1])
    wanted = json.load(sys.stdin)
    key = found(data, wanted)
    epoch = EpochFile.create(data / "epoch")
    for second in itertools.count():
        if second % 240 == 0:
            print(json.dumps({"token": token(key, wanted)}), flush=True)
        epoch.beat()
        time.sleep(1)


if __name__ == "__main__":
    main()
