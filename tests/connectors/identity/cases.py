"""Every adapter with a provider that it speaks to: real ones where they can be had, recorded ones elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey

from connectors.identity import canaille, lemonldap, recorded
from connectors.identity.machine import certificate, free_port, need
from identity.world import IDP, World
from watchfloor.connectors.identity.embedded import EmbeddedConnector
from watchfloor.connectors.identity.entra import EntraConnector, Tenant
from watchfloor.connectors.identity.keycloak import KeycloakConnector, Realm
from watchfloor.connectors.identity.ldap import Layout, LdapConnector
from watchfloor.connectors.identity.ldap_client import Server
from watchfloor.connectors.identity.lemonldap import Portal
from watchfloor.connectors.identity.okta import OktaConnector, Organization
from watchfloor.connectors.identity.scim import Provider, ScimConnector
from watchfloor.identity.connector import Account, IdentityConnector

ISSUER: Final = "https://idp.zava.example"
TIMEOUT: Final = 20.0


@dataclass
class Case:
    """A connector on a provider. ``wrong``: the same with credentials that do not hold; ``gone``: nobody there."""

    connector: IdentityConnector
    griffin: Account
    nobody: Account
    secrets: tuple[str, ...] = ()
    wrong: Callable[[], IdentityConnector] | None = None
    gone: Callable[[], IdentityConnector] | None = None


@contextmanager
def _embedded(folder: Path) -> Iterator[Case]:
    world = World.with_company(folder)
    try:
        yield Case(EmbeddedConnector(IDP, world.store), Account(IDP, "griffin"), Account(IDP, "nobody"))
    finally:
        world.close()


@contextmanager
def _ldap(folder: Path) -> Iterator[Case]:
    need(lemonldap.lemonldap_missing(), "Install what .ci/packages lists.")
    with lemonldap.running_lemonldap(folder) as idp:
        layout = Layout(f"ou=people,{lemonldap.BASE}", f"ou=groups,{lemonldap.BASE}")

        def connector(url: str, password: str, portal: str) -> IdentityConnector:
            server = Server(url, lemonldap.ADMIN, password, timeout=TIMEOUT)
            return LdapConnector(ISSUER, server, layout, Portal(portal, lemonldap.PORTAL_KEY, timeout=TIMEOUT))

        url = idp.directory.url
        yield Case(
            connector(url, lemonldap.ADMIN_PASSWORD, idp.url),
            Account(ISSUER, "griffin"),
            Account(ISSUER, "nobody"),
            (lemonldap.ADMIN_PASSWORD, lemonldap.PORTAL_KEY),
            lambda: connector(url, "wrong-password-1", idp.url),
            lambda: connector(f"ldap://127.0.0.1:{free_port()}", lemonldap.ADMIN_PASSWORD, idp.url),
        )


@contextmanager
def _scim(folder: Path) -> Iterator[Case]:
    need(canaille.canaille_missing(), "Run: make canaille")
    with canaille.running_canaille(folder / "canaille") as idp:

        def connector(url: str, secret: str) -> IdentityConnector:
            provider = Provider(
                f"{url}/scim/v2",
                token_url=f"{url}/oauth/token",
                client_id=canaille.CONNECTOR_ID,
                client_secret=secret,
                timeout=TIMEOUT,
            )
            return ScimConnector(ISSUER, provider, reset=True)

        yield Case(
            connector(idp.url, canaille.CONNECTOR_SECRET),
            Account(ISSUER, "griffin"),
            Account(ISSUER, "nobody"),
            (canaille.CONNECTOR_SECRET,),
            lambda: connector(idp.url, "wrong-secret-1"),
            lambda: connector(f"http://127.0.0.1:{free_port()}", canaille.CONNECTOR_SECRET),
        )


@dataclass
class Key:
    """A private key in PEM, what verifies it, and a certificate."""

    private: str
    public: RSAKey
    certificate: str


def make_key(folder: Path) -> Key:
    """A new one."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    certificate(folder / "connector.pem", folder / "connector.key")
    return Key(private, RSAKey.import_key(made.public_key()), (folder / "connector.pem").read_text())


def entra(server: recorded.Entra, key: Key, *, url: str = "", private: str = "", **options: object) -> EntraConnector:
    """The adapter on a recorded Entra, or where it looks for it instead."""
    server_url = url or server.url
    tenant = Tenant(
        server.tenant,
        recorded.CLIENT,
        key.certificate,
        private or key.private,
        graph_url=server_url,
        login_url=server_url,
        timeout=TIMEOUT,
    )
    return EntraConnector(ISSUER, tenant, **options)  # type: ignore[arg-type]  # handed through


@contextmanager
def _entra(folder: Path) -> Iterator[Case]:
    key, other = make_key(folder), make_key(folder)
    server = recorded.Entra(key.public)
    with server.serving():
        yield Case(
            entra(server, key),
            Account(ISSUER, recorded.GRIFFIN),
            Account(ISSUER, "55555555-5555-4555-8555-555555555555"),
            (key.private,),
            lambda: entra(server, key, private=other.private),
            lambda: entra(server, key, url=f"http://127.0.0.1:{free_port()}"),
        )


@contextmanager
def _keycloak(folder: Path) -> Iterator[Case]:
    server = recorded.Keycloak()
    with server.serving():

        def connector(url: str, secret: str) -> IdentityConnector:
            return KeycloakConnector(ISSUER, Realm(url, "zava", recorded.CLIENT, secret, TIMEOUT))

        yield Case(
            connector(server.url, recorded.SECRET),
            Account(ISSUER, recorded.GRIFFIN),
            Account(ISSUER, "nobody"),
            (recorded.SECRET,),
            lambda: connector(server.url, "wrong-secret-1"),
            lambda: connector(f"http://127.0.0.1:{free_port()}", recorded.SECRET),
        )


@contextmanager
def _okta(folder: Path) -> Iterator[Case]:
    key, other = make_key(folder), make_key(folder)
    server = recorded.Okta(key.public)
    with server.serving():

        def connector(url: str, private: str) -> IdentityConnector:
            return OktaConnector(ISSUER, Organization(url, recorded.CLIENT, "key-1", private, TIMEOUT), risk=True)

        yield Case(
            connector(server.url, key.private),
            Account(ISSUER, recorded.GRIFFIN),
            Account(ISSUER, "nobody"),
            (key.private,),
            lambda: connector(server.url, other.private),
            lambda: connector(f"http://127.0.0.1:{free_port()}", key.private),
        )


CASES: Final[dict[str, Callable[[Path], AbstractContextManager[Case]]]] = {
    "embedded": _embedded,
    "ldap": _ldap,
    "scim": _scim,
    "entra": _entra,
    "keycloak": _keycloak,
    "okta": _okta,
}
"""Every adapter."""
