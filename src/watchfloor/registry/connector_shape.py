"""What a manifest may say of an identity provider's connector: a section for each kind, and what must stand together.

Above ``registry.readers``; ``registry.shape`` lays ``CONNECTOR`` into an identity provider. Which kind it is says the
one member that is given. The settings keep these names: ``connectors.identity.registry`` builds adapters of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from watchfloor.model.urls import is_loopback, outbound_problem
from watchfloor.registry.document import Node, Scalar
from watchfloor.registry.problems import Problems
from watchfloor.registry.readers import BAD, WHERE, Absent, Member, Section, boolean, choice, number, secret, section
from watchfloor.registry.readers import text as text_of
from watchfloor.registry.readers import url as url_of


class EntraReset(StrEnum):
    """How a password reset is forced in Entra."""

    MFA = "mfa"
    RANDOM = "random"


class ScimReset(StrEnum):
    """How a password reset is forced over SCIM."""

    NONE = "none"
    REMOVE = "remove"


def directory_url(node: Node, where: str, problems: Problems) -> Any:
    """Where a directory is: ``ldaps://host[:port]`` or ``ldap://host[:port]``."""
    value = node.text.strip() if isinstance(node, Scalar) else ""
    parts = urlsplit(value)
    problem = "must be ldaps://host[:port] or ldap://host[:port]."
    if parts.scheme in ("ldap", "ldaps") and not parts.path.strip("/") and not parts.query:
        problem = outbound_problem(value.replace(parts.scheme, "https", 1)) or ""
    if not problem:
        return value
    problems.add(where, problem)
    return BAD


_URL: Final = url_of(require_tls=True)
_TIMEOUT: Final = Member("timeoutSeconds", number(1, 60), "How long one question may take.", 10.0)

LDAP: Final = Section(
    "ldap connector",
    "OpenLDAP with ppolicy; with LemonLDAP::NG before it, also its sessions.",
    (
        Member("url", directory_url, "The directory: ldaps://host, or ldap://host with startTls.", is_required=True),
        Member("startTls", boolean, "Go on over TLS after connecting; ldap:// only.", False),
        Member("ca", text_of(500), "File with the certificate that vouches for it; the system's unless given.", ""),
        Member("bindDn", text_of(500, empty=False), "Who the connector is in the directory.", is_required=True),
        Member("bindPassword", secret(), "The password of bindDn.", Absent.KEEP, is_secret=True),
        Member("peopleBase", text_of(500, empty=False), "Below which entry accounts are.", is_required=True),
        Member("groupBase", text_of(500), "Below which entry groups are; without it there are none.", ""),
        Member("subject", text_of(100, empty=False), "Attribute that tokens carry as the user's subject.", "uid"),
        Member("objectClass", text_of(100, empty=False), "What an account is.", "inetOrgPerson"),
        Member("portal", _URL, "The portal of LemonLDAP::NG; without it sessions cannot be ended."),
        Member("portalKey", secret(), "The portal's `key`.", Absent.KEEP, is_secret=True),
        _TIMEOUT,
    ),
)
SCIM: Final = Section(
    "scim connector",
    "Any provider that speaks SCIM 2.",
    (
        Member("url", _URL, "Where its SCIM begins: https://idp/scim/v2.", is_required=True),
        Member("tokenUrl", _URL, "Its token endpoint, for clientId; without it bearerToken is sent."),
        Member("clientId", text_of(300), "The connector's client there.", ""),
        Member("clientSecret", secret(), "The secret of clientId.", Absent.KEEP, is_secret=True),
        Member("bearerToken", secret(), "A token to send instead.", Absent.KEEP, is_secret=True),
        Member("subject", text_of(100, empty=False), "SCIM attribute that tokens carry as the user's subject.",
               "userName"),
        Member("passwordReset", choice(ScimReset), "remove: the password is taken away, where the provider then makes "
               "its user set a new one; none: cannot be forced.", ScimReset.NONE),
        Member("revocationUrl", _URL, "Its revocation endpoint (RFC 7009), for tokens that are at hand."),
        Member("revocationClientId", text_of(300), "The client that those tokens were given to.", ""),
        Member("revocationClientSecret", secret(), "Its secret.", Absent.KEEP, is_secret=True),
        _TIMEOUT,
    ),
)  # fmt: skip
ENTRA: Final = Section(
    "entra connector",
    "Microsoft Entra, over Graph.",
    (
        Member("tenant", text_of(100, empty=False), "The tenant's id.", is_required=True),
        Member("clientId", text_of(100, empty=False), "The app registration of the connector.", is_required=True),
        Member("certificate", text_of(20_000, empty=False), "Its certificate (PEM).", is_required=True),
        Member("privateKey", secret(lines=True), "The private key of the certificate (PEM).", Absent.KEEP,
               is_secret=True),
        Member("passwordReset", choice(EntraReset), "mfa: a new password after multifactor authentication; random: the "
               "password becomes one that nobody knows.", EntraReset.MFA),
        Member("identityProtection", boolean, "Whether risk is read and set; needs Entra ID P2.", True),
        Member("graphUrl", _URL, "Graph of the cloud that the tenant is in.", "https://graph.microsoft.com"),
        Member("loginUrl", _URL, "Its sign-in.", "https://login.microsoftonline.com"),
        _TIMEOUT,
    ),
)  # fmt: skip
KEYCLOAK: Final = Section(
    "keycloak connector",
    "Keycloak, over its admin API.",
    (
        Member("url", _URL, "Where Keycloak is, without /realms.", is_required=True),
        Member("realm", text_of(200, empty=False), "The realm of the users.", is_required=True),
        Member("clientId", text_of(300, empty=False), "Its client with a service account.", is_required=True),
        Member("clientSecret", secret(), "Its secret.", Absent.KEEP, is_secret=True),
        _TIMEOUT,
    ),
)
OKTA: Final = Section(
    "okta connector",
    "Okta, over its management API.",
    (
        Member("url", _URL, "The organisation: https://company.okta.com.", is_required=True),
        Member("clientId", text_of(200, empty=False), "The service app of the connector.", is_required=True),
        Member("keyId", text_of(200, empty=False), "The id of its public key.", is_required=True),
        Member("privateKey", secret(lines=True), "The private key that belongs to it (PEM).", Absent.KEEP,
               is_secret=True),
        Member("risk", boolean, "Whether risk is read and set; needs Okta's risk API.", False),
        _TIMEOUT,
    ),
)  # fmt: skip
EMBEDDED: Final = Section("embedded connector", "Our own directory: for users whom nobody else keeps.", ())

KINDS: Final = {"ldap": LDAP, "scim": SCIM, "entra": ENTRA, "keycloak": KEYCLOAK, "okta": OKTA, "embedded": EMBEDDED}
"""Every kind of connector, by the member that declares it."""

CONNECTOR: Final = Section(
    "connector",
    "How the identity provider is told what to do; exactly one of these.",
    tuple(Member(kind, section(shape), shape.doc) for kind, shape in KINDS.items()),
)


def declared_kind(connector: Any) -> str | None:
    """Which kind a readable ``connector`` declares; None if there is none, or it is unclear."""
    given = [kind for kind in KINDS if connector[kind] is not None]
    return given[0] if len(given) == 1 else None


def settings_of(kind: str, values: Any) -> dict[str, Any]:
    """The settings that a declared connector has, without secrets, as JSON."""
    plain = {m.name: values[m.name] for m in KINDS[kind].members if not m.is_secret}
    return {name: value.value if isinstance(value, StrEnum) else value for name, value in plain.items()}


def secrets_of(kind: str) -> tuple[str, ...]:
    """Names of the secrets that a connector of this kind may have."""
    return tuple(m.name for m in KINDS[kind].members if m.is_secret)


def needed_secrets(kind: str, values: Any) -> list[str]:
    """Which secrets there must be for these settings to work."""
    if kind == "ldap":
        return ["bindPassword", *(["portalKey"] if values["portal"] else [])]
    if kind == "scim":
        revoke = ["revocationClientSecret"] if values["revocationUrl"] else []
        return [("clientSecret" if values["tokenUrl"] else "bearerToken"), *revoke]
    return list(secrets_of(kind))


def hosts_of(kind: str, settings: Any) -> dict[str, str]:
    """Where secrets of such a connector are sent, by setting: scheme, host and port."""
    found = {}
    for member in KINDS[kind].members:
        value = settings.get(member.name)
        if member.read in (_URL, directory_url) and value:
            parts = urlsplit(value)
            found[member.name] = f"{parts.scheme}://{parts.netloc}"
    return found


def check_connector(provider: Any, stored: Any, problems: Problems) -> None:
    """Note what does not fit in the declared connector of ``provider``; ``stored`` is what there is (may be None)."""
    connector = provider["connector"]
    if connector in (None, BAD):
        return
    where = connector[WHERE]
    kind = declared_kind(connector)
    if kind is None:
        problems.add(where, "must have exactly one member.", f"One of: {', '.join(KINDS)}.")
        return
    values = connector[kind]
    if values is BAD:
        return
    if kind == "ldap" and BAD not in (values["url"], values["startTls"]):
        plain = values["url"].startswith("ldap://")
        if plain and not values["startTls"] and not is_loopback(values["url"].replace("ldap", "http", 1)):
            problems.add(f"{where}.ldap.url", "a password is sent there.", "Write ldaps://, or startTls: true.")
        if not plain and values["startTls"]:
            problems.add(f"{where}.ldap.startTls", "is for ldap:// only.", "Remove it.")
    kept = stored.fingerprints if stored is not None and stored.kind == kind else {}
    for name in needed_secrets(kind, values):
        given = values[name]
        if given is Absent.REMOVE or (given is Absent.KEEP and name not in kept):
            problems.add(f"{where}.{kind}.{name}", "is missing.", "Give it as {env: NAME} or {file: PATH}.")
    # INVARIANT: a stored secret goes only where it was meant to go when it was given.
    if kept and BAD not in values.values():
        moved = hosts_of(kind, settings_of(kind, values)) != hosts_of(kind, stored.settings)
        if moved and any(values[name] is Absent.KEEP for name in kept):
            names = ", ".join(name for name in kept if values[name] is Absent.KEEP)
            problems.add(f"{where}.{kind}", "goes to another host than before.", f"Give {names} again.")
