"""The connectors that are configured, built when they are first asked for and again when their settings change.

Above the adapters, the vault and ``storage.identity_connectors``; ``app`` makes one and hands it to jobs and portal as
``Connectors``. ``BUILDERS`` lists every kind; the settings are as ``registry.connector_shape`` declares them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.connectors.identity.embedded import EmbeddedConnector
from watchfloor.connectors.identity.entra import EntraConnector, Tenant
from watchfloor.connectors.identity.keycloak import KeycloakConnector, Realm
from watchfloor.connectors.identity.ldap import Layout, LdapConnector
from watchfloor.connectors.identity.ldap_client import Server
from watchfloor.connectors.identity.lemonldap import Portal
from watchfloor.connectors.identity.okta import OktaConnector, Organization
from watchfloor.connectors.identity.scim import Provider, ScimConnector
from watchfloor.identity.connector import ConnectorRefused, IdentityConnector
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.identity_connectors import Connector, find_connector, secret_place
from watchfloor.storage.vault import Vault


@dataclass(frozen=True, slots=True)
class Given:
    """What an adapter is built of."""

    issuer: str
    settings: Mapping[str, Any]
    secrets: Mapping[str, str]
    control: SqlControlStore

    def __repr__(self) -> str:
        return f"Given({self.issuer!r})"


def _embedded(given: Given) -> IdentityConnector:
    return EmbeddedConnector(given.issuer, given.control)


def _ldap(given: Given) -> IdentityConnector:
    found, timeout = given.settings, float(given.settings["timeoutSeconds"])
    server = Server(
        found["url"],
        found["bindDn"],
        given.secrets["bindPassword"],
        start_tls=found["startTls"],
        ca=found["ca"],
        timeout=timeout,
    )
    layout = Layout(found["peopleBase"], found["groupBase"], found["subject"], found["objectClass"])
    portal = Portal(found["portal"], given.secrets["portalKey"], timeout=timeout) if found["portal"] else None
    return LdapConnector(given.issuer, server, layout, portal)


def _scim(given: Given) -> IdentityConnector:
    found, secrets = given.settings, given.secrets
    provider = Provider(
        found["url"],
        token_url=found["tokenUrl"] or "",
        client_id=found["clientId"],
        client_secret=secrets["clientSecret"] if found["tokenUrl"] else "",
        bearer="" if found["tokenUrl"] else secrets["bearerToken"],
        subject=found["subject"],
        timeout=float(found["timeoutSeconds"]),
        revocation_url=found["revocationUrl"] or "",
        revocation_client_id=found["revocationClientId"],
        revocation_client_secret=secrets["revocationClientSecret"] if found["revocationUrl"] else "",
    )
    return ScimConnector(given.issuer, provider, reset=found["passwordReset"] == "remove")


def _entra(given: Given) -> IdentityConnector:
    found = given.settings
    tenant = Tenant(
        found["tenant"],
        found["clientId"],
        found["certificate"],
        given.secrets["privateKey"],
        graph_url=found["graphUrl"],
        login_url=found["loginUrl"],
        timeout=float(found["timeoutSeconds"]),
    )
    return EntraConnector(given.issuer, tenant, protection=found["identityProtection"], reset=found["passwordReset"])


def _keycloak(given: Given) -> IdentityConnector:
    found = given.settings
    secret, timeout = given.secrets["clientSecret"], float(found["timeoutSeconds"])
    return KeycloakConnector(given.issuer, Realm(found["url"], found["realm"], found["clientId"], secret, timeout))


def _okta(given: Given) -> IdentityConnector:
    found = given.settings
    key, timeout = given.secrets["privateKey"], float(found["timeoutSeconds"])
    organization = Organization(found["url"], found["clientId"], found["keyId"], key, timeout)
    return OktaConnector(given.issuer, organization, risk=found["risk"])


BUILDERS: Final[Mapping[str, Callable[[Given], IdentityConnector]]] = {
    "embedded": _embedded,
    "ldap": _ldap,
    "scim": _scim,
    "entra": _entra,
    "keycloak": _keycloak,
    "okta": _okta,
}
"""Every kind of connector."""


class ConfiguredConnectors:
    """See the module; implements ``identity.connector.Connectors``. May be asked from any thread."""

    def __init__(self, control: SqlControlStore, vault: Vault) -> None:
        self._control, self._vault = control, vault
        self._built: dict[str, tuple[tuple[Any, ...], IdentityConnector]] = {}
        self._lock = threading.Lock()

    def find(self, issuer: str) -> IdentityConnector | None:
        """The connector for users of ``issuer``, or None.

        Raises ``Corrupt`` if a secret does not open, ``ConnectorRefused`` if what is stored makes no connector.
        """
        with self._control.read() as tx:
            stored = find_connector(tx, issuer)
        with self._lock:
            known = self._built.get(issuer)
            terms = () if stored is None else (stored.kind, dict(stored.settings), dict(stored.sealed))
            if known is not None and known[0] == terms:
                return known[1]
            if known is not None:
                # One that is in use elsewhere right now ends its call with an error, and the saga asks the new one.
                del self._built[issuer]
                known[1].close()
            if stored is None:
                return None
            made = self._build(stored)
            self._built[issuer] = (terms, made)
            return made

    def close(self) -> None:
        """Let go of every connection."""
        with self._lock:
            for _, connector in self._built.values():
                connector.close()
            self._built.clear()

    def _build(self, stored: Connector) -> IdentityConnector:
        build = BUILDERS.get(stored.kind)
        if build is None:
            raise ConnectorRefused(f"{stored.issuer} has a connector of a kind that is not known: {stored.kind}.")
        secrets = {
            name: self._vault.unseal(sealed, secret_place(stored.issuer, name)).decode()
            for name, sealed in stored.sealed.items()
        }
        try:
            return build(Given(stored.issuer, stored.settings, secrets, self._control))
        except KeyError as error:
            raise ConnectorRefused(
                f"The connector of {stored.issuer} lacks {error.args[0]}. Apply its manifest again."
            ) from error
