"""A real identity provider from Debian's packages: OpenLDAP's slapd with ppolicy, LemonLDAP::NG before it as OpenID
provider. Both run as ordinary processes in a folder of their own; nothing of the machine's own configuration is read.

``.ci/packages`` installs what this needs.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.identity.machine import certificate, free_port, missing

BASE: Final = "dc=zava,dc=example"
ADMIN: Final = f"cn=admin,{BASE}"
ADMIN_PASSWORD: Final = "only-for-this-test-7Qw2"
PORTAL_KEY: Final = "a-key-of-the-portal-32-characters"
CLIENT_ID: Final = "watchfloor"
CLIENT_SECRET: Final = "secret-of-the-relying-party-9d1e"
REDIRECT: Final = "http://127.0.0.1:9/callback"
PASSWORD: Final = "Correct-horse-1"
USERS: Final[dict[str, dict[str, str]]] = {
    "griffin": {
        "cn": "Griffin Lewis",
        "sn": "Lewis",
        "departmentNumber": "Billing",
        "title": "Clerk",
        "manager": "mona",
    },
    "mona": {"cn": "Mona Kane", "sn": "Kane", "departmentNumber": "Sales", "title": "Head of Sales"},
    "quinn": {"cn": "Quinn Anderson", "sn": "Anderson"},
    "remy": {"cn": "Remy Morris", "sn": "Morris"},
}

_UNITS: Final = ("people", "groups", "policies")
_SCHEMAS: Final = Path("/etc/ldap/schema")
_MODULES: Final = Path("/usr/lib/ldap")
_SLAPD: Final = "/usr/sbin/slapd"
_DEFAULTS: Final = Path("/var/lib/lemonldap-ng/conf/lmConf-1.json")


def lemonldap_missing() -> str:
    """What is not installed; empty if all of it is."""
    return missing(
        _SLAPD, "/usr/bin/starman", "/usr/share/perl5/Lemonldap/NG/Portal.pm", "/usr/share/perl5/Net/LDAP.pm"
    )


def _dn(uid: str) -> str:
    return f"uid={uid},ou=people,{BASE}"


def _ldif() -> str:
    entries: list[tuple[str, list[str]]] = [
        (BASE, ["objectClass: dcObject", "objectClass: organization", "dc: zava", "o: Zava"]),
        *((f"ou={ou},{BASE}", ["objectClass: organizationalUnit", f"ou: {ou}"]) for ou in _UNITS),
        (
            f"cn=default,ou=policies,{BASE}",
            [
                "objectClass: device", "objectClass: pwdPolicy", "cn: default", "pwdAttribute: userPassword",
                "pwdMustChange: TRUE", "pwdLockout: TRUE", "pwdMaxFailure: 5", "pwdInHistory: 5", "pwdMinLength: 8",
                "pwdCheckQuality: 1", "pwdAllowUserChange: TRUE",
            ],
        ),
    ]  # fmt: skip
    for uid, known in USERS.items():
        lines = ["objectClass: inetOrgPerson", f"uid: {uid}", f"mail: {uid}@zava.example", f"userPassword: {PASSWORD}"]
        lines += [f"{name}: {_dn(value) if name == 'manager' else value}" for name, value in known.items()]
        entries.append((_dn(uid), lines))
    for group, members in {"billing": ("griffin", "mona"), "everyone": tuple(USERS)}.items():
        entries.append(
            (
                f"cn={group},ou=groups,{BASE}",
                ["objectClass: groupOfNames", f"cn: {group}", *(f"member: {_dn(m)}" for m in members)],
            )
        )
    return "\n".join(f"dn: {dn}\n" + "\n".join(lines) + "\n" for dn, lines in entries)


@dataclass
class Directory:
    """slapd on a port of its own. ``tls_port`` speaks LDAPS by a certificate that ``ca`` vouches for."""

    folder: Path
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """Who vouches for its certificate."""
        return self.folder / "server.pem"

    def start(self) -> None:
        """Make the directory if there is none, and serve it."""
        if not (self.folder / "db").exists():
            self._make()
        self.process = subprocess.Popen(
            [_SLAPD, "-f", str(self.folder / "slapd.conf"), "-d", "0", "-h",
             f"ldap://127.0.0.1:{self.port}/ ldaps://127.0.0.1:{self.tls_port}/"],
            stdout=subprocess.DEVNULL, stderr=(self.folder / "slapd.log").open("ab"),
        )  # fmt: skip
        _wait_for_port(self.port, self.process, self.folder / "slapd.log")

    def _make(self) -> None:
        (self.folder / "db").mkdir(parents=True)
        certificate(self.folder / "server.pem", self.folder / "server.key")
        schemas = "\n".join(f"include {_SCHEMAS / name}.schema" for name in ("core", "cosine", "inetorgperson"))
        (self.folder / "slapd.conf").write_text(f"""{schemas}
pidfile {self.folder}/slapd.pid
modulepath {_MODULES}
moduleload back_mdb
moduleload ppolicy
moduleload argon2
TLSCertificateFile {self.folder}/server.pem
TLSCertificateKeyFile {self.folder}/server.key
sizelimit 500
database mdb
suffix "{BASE}"
rootdn "{ADMIN}"
rootpw {ADMIN_PASSWORD}
directory {self.folder}/db
index uid eq
password-hash {{ARGON2}}
overlay ppolicy
ppolicy_default "cn=default,ou=policies,{BASE}"
ppolicy_use_lockout
access to attrs=userPassword by self write by anonymous auth by * none
access to * by self write by users read by anonymous auth
""")
        subprocess.run(
            ["/usr/sbin/slapadd", "-f", str(self.folder / "slapd.conf"), "-q"],
            input=_ldif().encode(), check=True, capture_output=True,
        )  # fmt: skip

    def stop(self) -> None:
        """End it; what it holds stays."""
        _end(self.process)


@dataclass
class Lemonldap:
    """The portal: an OpenID provider over ``directory``, which may be stopped and started apart from it."""

    folder: Path
    directory: Directory
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its issuer."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve; returns once discovery answers."""
        if not self.folder.exists():
            self._make()
        self.process = subprocess.Popen(
            ["/usr/bin/starman", "--workers", "2", "--listen", f"127.0.0.1:{self.port}", "portal.psgi"],
            cwd=self.folder, env={"PATH": "/usr/bin:/bin", "LLNG_DEFAULTCONFFILE": str(self.folder / "llng.ini")},
            stdout=subprocess.DEVNULL, stderr=(self.folder / "portal.log").open("ab"),
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/.well-known/openid-configuration", timeout=20).status_code == 200:
                    return
            log = (self.folder / "portal.log").read_text("utf-8", "replace")[-3000:]
            assert self.process.poll() is None and time.monotonic() < deadline, log
            time.sleep(0.1)

    def _make(self) -> None:
        for name in ("conf", "cache", "sessions", "sessions/lock", "psessions", "psessions/lock"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "portal.psgi").write_text(
            'use Lemonldap::NG::Portal; Lemonldap::NG::Portal->run({protection => "none"});\n'
        )
        (self.folder / "llng.ini").write_text(f"""[all]
logLevel = warn
checkTime = 1
[configuration]
type = File
dirName = {self.folder}/conf
localStorage = Cache::FileCache
localStorageOptions = {{ 'namespace' => 'test-config', 'cache_root' => '{self.folder}/cache' }}
[portal]
staticPrefix = /static
templateDir = /usr/share/lemonldap-ng/portal/templates
languages = en
""")
        (self.folder / "conf" / "lmConf-1.json").write_text(json.dumps(self._configuration()))

    def _configuration(self) -> dict[str, Any]:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode()
        public = (
            key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )
        directory = {"Directory": f"{self.folder}/sessions", "LockDirectory": f"{self.folder}/sessions/lock"}
        client = {
            "ClientID": CLIENT_ID, "ClientSecret": CLIENT_SECRET, "RedirectUris": REDIRECT, "BypassConsent": 1,
            "RefreshToken": 1, "AllowOffline": 1, "RequirePKCE": 1, "IDTokenSignAlg": "RS256", "AccessTokenJWT": 1,
            "AccessTokenSignAlg": "RS256",
        }  # fmt: skip
        given: dict[str, Any] = json.loads(_DEFAULTS.read_text())
        return given | {
            "authentication": "LDAP", "userDB": "Same", "passwordDB": "LDAP", "registerDB": "Null",
            "ldapServer": self.directory.url, "ldapBase": f"ou=people,{BASE}", "managerDn": ADMIN,
            "managerPassword": ADMIN_PASSWORD, "ldapPpolicyControl": 1, "ldapAllowResetExpiredPassword": 1,
            "ldapChangePasswordAsUser": 1, "ldapExportedVars": {"uid": "uid", "cn": "cn", "mail": "mail"},
            "portal": f"{self.url}/", "domain": "127.0.0.1", "securedCookie": 0, "key": PORTAL_KEY,
            "globalStorage": "Apache::Session::File", "globalStorageOptions": directory,
            "persistentStorageOptions": {
                "Directory": f"{self.folder}/psessions", "LockDirectory": f"{self.folder}/psessions/lock",
            },
            "localSessionStorageOptions": {
                "namespace": "test-sessions", "cache_root": f"{self.folder}/cache", "cache_depth": 3,
                "default_expires_in": 600,
            },
            "handlerInternalCache": 1, "loginHistoryEnabled": 0, "portalDisplayResetPassword": 0,
            "captcha": "::Main::Plugin",  # any module that loads: the usual one wants graphics libraries
            "restSessionServer": 1, "restClockTolerance": 15,
            "issuerDBOpenIDConnectActivation": 1,
            "oidcServicePrivateKeySig": private, "oidcServicePublicKeySig": public, "oidcServiceKeyIdSig": "test-1",
            "oidcRPMetaDataOptions": {"test": {f"oidcRPMetaDataOptions{k}": v for k, v in client.items()}},
            "oidcRPMetaDataExportedVars": {"test": {"email": "mail", "name": "cn"}},
        }  # fmt: skip

    def stop(self) -> None:
        """End it; sessions stay."""
        _end(self.process)


@contextlib.contextmanager
def running_lemonldap(folder: Path) -> Iterator[Lemonldap]:
    """Directory and portal, until the end of the block."""
    directory = Directory(folder / "slapd")
    portal = Lemonldap(folder / "llng", directory)
    try:
        directory.start()
        portal.start()
        yield portal
    finally:
        portal.stop()
        directory.stop()


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None and time.monotonic() < deadline, log.read_text("utf-8", "replace")[-3000:]
        time.sleep(0.02)
