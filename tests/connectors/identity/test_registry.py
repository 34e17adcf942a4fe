"""Connectors from the manifest to the adapter: secrets are kept and go nowhere else; a change takes effect at once."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.identity import recorded
from connectors.identity.recorded import GRIFFIN, Keycloak
from identity.world import IDP, World, company
from watchfloor.connectors.identity.registry import ConfiguredConnectors
from watchfloor.identity.connector import Account
from watchfloor.model.facts import Kind
from watchfloor.registry.problems import ManifestInvalid
from watchfloor.storage import schema

KEYCLOAK = {"url": "https://sso.zava.example", "realm": "zava", "clientId": recorded.CLIENT}
LDAP = {
    "url": "ldaps://ldap.zava.example",
    "bindDn": "cn=watchfloor,dc=zava,dc=example",
    "bindPassword": {"value": "directory-secret"},
    "peopleBase": "ou=people,dc=zava,dc=example",
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An installation with a company."""
    made = World.with_company(tmp_path)
    yield made
    made.close()


def declared(**connector: Any) -> dict[str, Any]:
    """The company with a connector."""
    made = copy.deepcopy(company())
    made["identityProviders"][0]["connector"] = connector
    return made


def problems(world: World, manifest: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by the end of the place."""
    with pytest.raises(ManifestInvalid) as caught:
        world.plan(manifest)
    return {
        p.where.removeprefix("identityProviders[0].connector").lstrip("."): p.message for p in caught.value.problems
    }


def test_a_declared_connector_asks_the_provider_with_its_secret(world: World) -> None:
    server = Keycloak()
    with server.serving():
        world.apply(declared(keycloak={**KEYCLOAK, "url": server.url, "clientSecret": {"value": recorded.SECRET}}))
        connectors = ConfiguredConnectors(world.store, world.vault)
        found = connectors.find(IDP)
        assert found is not None and found.kind == "keycloak"
        assert found.read_state(Account(IDP, GRIFFIN)).is_enabled
        assert connectors.find(IDP) is found, "it is built once"
        assert connectors.find("https://another.example") is None
        connectors.close()


def test_a_changed_connector_is_used_from_then_on_with_the_secret_that_was_kept(world: World) -> None:
    server = Keycloak()
    with server.serving():
        terms = {**KEYCLOAK, "url": server.url, "clientSecret": {"value": recorded.SECRET}}
        world.apply(declared(keycloak=terms))
        connectors = ConfiguredConnectors(world.store, world.vault)
        before = connectors.find(IDP)
        world.apply(declared(keycloak={**KEYCLOAK, "url": server.url, "timeoutSeconds": 5}))
        after = connectors.find(IDP)
        assert after is not None and after is not before
        assert after.read_state(Account(IDP, GRIFFIN)).is_enabled
        connectors.close()


def test_applying_twice_changes_nothing_and_says_nothing_of_secrets(world: World) -> None:
    manifest = declared(ldap=LDAP)
    plan = world.plan(manifest)
    assert "directory-secret" not in json.dumps(plan.to_json()) and "fingerprint" in json.dumps(plan.to_json())
    world.apply(manifest)
    assert world.plan(manifest).is_empty
    del manifest["identityProviders"][0]["connector"]
    assert world.plan(manifest).is_empty, "what is not mentioned is left alone"


@pytest.mark.asvs("16.2.5")
def test_a_connectors_secrets_are_sealed_audited_as_a_mask_and_never_projected(world: World) -> None:
    world.apply(declared(ldap=LDAP))
    with world.store.read() as tx:
        for table in schema.metadata.sorted_tables:
            rows = tx.connection.execute(sa.select(table)).all()
            assert "directory-secret" not in repr(rows), table.name
    assert not [key for key in world.facts(Kind.CREDENTIAL) if "connector" in key]


@pytest.mark.parametrize(
    ("connector", "place", "words"),
    [
        ({}, "", "exactly one"),
        ({"ldap": LDAP, "embedded": {}}, "", "exactly one"),
        ({"ldap": {**LDAP, "bindPassword": None}}, "ldap.bindPassword", "missing"),
        ({"ldap": {**LDAP, "portal": "https://auth.zava.example"}}, "ldap.portalKey", "missing"),
        ({"ldap": {**LDAP, "url": "ldap://ldap.zava.example"}}, "ldap.url", "password is sent"),
        ({"ldap": {**LDAP, "url": "ldaps://169.254.169.254"}}, "ldap.url", "must not be called"),
        ({"ldap": {**LDAP, "url": "https://ldap.zava.example"}}, "ldap.url", "ldaps://"),
        ({"ldap": {**LDAP, "startTls": True}}, "ldap.startTls", "ldap:// only"),
        ({"keycloak": {**KEYCLOAK, "url": "http://sso.zava.example"}}, "keycloak.url", "https"),
        ({"keycloak": KEYCLOAK}, "keycloak.clientSecret", "missing"),
        ({"scim": {"url": "https://idp.zava.example/scim/v2"}}, "scim.bearerToken", "missing"),
        ({"kerberos": {}}, "kerberos", "no such member"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_connector_is_refused_with_its_place(
    world: World, connector: dict[str, Any], place: str, words: str
) -> None:
    assert words in problems(world, declared(**connector))[place]


def test_a_stored_secret_goes_to_no_other_host(world: World) -> None:
    world.apply(declared(ldap=LDAP))
    moved = {**LDAP, "url": "ldaps://evil.example"}
    del moved["bindPassword"]
    assert "another host" in problems(world, declared(ldap=moved))["ldap"]
    assert not world.plan(declared(ldap={**moved, "bindPassword": {"value": "given-again"}})).is_empty
