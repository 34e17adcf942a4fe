"""Settings: one frozen object, read once at the start of a process.

Sources, later ones win: the defaults below, a TOML file (``--config`` or ``DATA/watchfloor.toml``), variables
``WATCHFLOOR_<NAME>``, options on the command line. No other module reads the environment. Every field here appears in
docs/settings.md (checked by test).
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchfloor.model.errors import InputError


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the product. Durations are seconds, sizes are bytes."""

    data: Path = _setting(Path("data"), "Directory for all state, keys and logs.")
    database_url: str = _setting("", "Control state: a postgresql:// URL; empty means SQLite in the data directory.")
    log_url: str = _setting("", "Event log: a postgresql:// URL; empty means SQLite in the data directory.")

    conversations_url: str = _setting(
        "",
        "Conversations that several hosts share: a postgresql:// URL; empty means files, for the workers of one host.",
    )

    host: str = _setting("127.0.0.1", "Address that the server listens on.")
    port: int = _setting(7700, "Port of the server (portal, API, token service).")
    server_url: str = _setting("", "How others reach the server; empty means http://HOST:PORT.")
    gateway_host: str = _setting("127.0.0.1", "Address that gateway workers listen on.")
    gateway_port: int = _setting(7701, "Port of the gateway; all workers share it.")
    gateway_url: str = _setting("", "How agents reach the gateway; empty means http://GATEWAY_HOST:GATEWAY_PORT.")
    gateway_ext_authz_port: int = _setting(
        0, "Port at which Envoy asks the gateway for authorization, over gRPC; all workers share it, 0 turns it off."
    )
    workers: int = _setting(2, "Gateway worker processes.")

    receiver_host: str = _setting("127.0.0.1", "Address that the telemetry receiver listens on.")
    receiver_port: int = _setting(4318, "Port of the telemetry doors over HTTP (OTLP, Agent 365, events).")
    receiver_grpc_port: int = _setting(4317, "Port of OTLP over gRPC; 0 turns it off.")
    receivers: int = _setting(1, "Telemetry receiver processes; 0 turns telemetry off.")
    receiver_max_body_bytes: int = _setting(8 * 1024 * 1024, "Largest telemetry request as it is sent.")
    receiver_backlog_rows: int = _setting(
        2_000_000, "Rows waiting in the event log above which telemetry is sent away."
    )

    lease_seconds: float = _setting(5.0, "A worker that lost the control plane for longer refuses every call.")
    wait_for_sync: bool = _setting(False, "Side-effecting calls wait until their decision is synced to disk.")
    max_body_bytes: int = _setting(4 * 1024 * 1024, "Largest request that a door takes.")
    spool_max_bytes: int = _setting(256 * 1024 * 1024, "Unshipped decisions a worker may hold before it refuses calls.")
    decision_seconds: float = _setting(1.0, "A decision that takes longer is ended, and its call refused.")
    worker_memory_bytes: int = _setting(1024**3, "Most memory of a gateway worker; a decision that wants more fails.")
    drain_seconds: float = _setting(10.0, "How long a stopping worker waits for calls in flight.")
    token_seconds: int = _setting(600, "Lifetime of gateway tokens, at most 600.")
    hold_seconds: int = _setting(900, "How long a held call waits for an operator.")
    holds_per_agent_hour: int = _setting(
        20, "Held calls of one agent for one user that operators are asked about within an hour; more are refused."
    )
    holds_per_approver_hour: int = _setting(
        60, "Held calls that the same approvers are asked about within an hour; more are refused."
    )
    alignment_milliseconds: int = _setting(
        500, "How long a call waits to know whether it fits what the user asked (docs/alignment.md); 0 turns it off."
    )

    store_memory: str = _setting("2GB", "Memory limit of the event store.")
    hot_days: int = _setting(7, "Days that events stay in the event store proper.")
    cold_days: int = _setting(90, "Days that events are kept in all, the older ones as Parquet.")
    query_seconds: float = _setting(60.0, "Longest time that one query may take.")

    copilot_studio_tenant: str = _setting(
        "", "Tenant (GUID) whose Copilot Studio may ask before tool calls; empty closes that door."
    )
    copilot_studio_callers: str = _setting("", "App ids that may ask there, separated by spaces.")
    copilot_studio_url: str = _setting(
        "", "Endpoint link as entered in Power Platform; empty means GATEWAY_URL/copilot-studio."
    )
    copilot_studio_audiences: str = _setting("", "Further audiences that its tokens may have, separated by spaces.")
    copilot_studio_issuers: str = _setting("", "Issuers of its tokens; empty means the tenant's own, v1 and v2.")
    copilot_studio_jwks_url: str = _setting("", "Where the tenant publishes its keys; empty means Microsoft's address.")
    copilot_studio_mode: str = _setting(
        "enforce", "enforce, or audit: record what would be blocked, and block only what an operator has blocked."
    )
    copilot_studio_server: str = _setting(
        "copilot-studio", "Tool server under which its tools are registered, unless they are found under another."
    )
    copilot_studio_deadline: float = _setting(0.7, "Time from its question to our answer, whatever happens.")
    copilot_studio_session_seconds: float = _setting(
        5400.0, "How long after a revocation a user of its agents stays refused."
    )

    admins_need_second_factor: bool = _setting(
        True, "Administrators with a password add a second factor before anything else (docs/sign-in.md)."
    )
    oidc_issuer: str = _setting("", "Identity provider through which operators sign in; empty means passwords only.")
    oidc_client_id: str = _setting("", "Our client id there.")
    oidc_client_secret_file: str = _setting("", "File with our client secret there.")
    oidc_name: str = _setting("your organization", "What operators call it: Sign in with …")
    oidc_scopes: str = _setting("openid profile email", "Scopes to ask for.")
    oidc_name_claim: str = _setting("preferred_username", "Claim that names an operator at the first sign-in.")
    oidc_roles_claim: str = _setting("groups", "Claim whose values give roles.")
    oidc_roles: str = _setting(
        "", "Roles by value of that claim, as GROUP=ROLE separated by spaces; empty means that owners give roles."
    )
    oidc_provisions: bool = _setting(False, "Whoever has a role by these claims gets an account at the first sign-in.")

    siem: str = _setting(
        "", "Other SIEMs that alerts and decisions are sent on to, separated by spaces (docs/exports.md)."
    )
    siem_token_file: str = _setting("", "File with the bearer token for SIEM addresses over HTTP.")

    smtp_host: str = _setting("", "Mail server that takes our mail (docs/response.md); empty means that none is sent.")
    smtp_port: int = _setting(587, "Its port.")
    smtp_tls: str = _setting("starttls", "starttls, tls (usually port 465), or none: only to this machine.")
    smtp_user: str = _setting("", "Whom to sign in as there; empty means that it asks for nobody.")
    smtp_password_file: str = _setting("", "File with that user's password.")
    mail_from: str = _setting("", "Address that our mail is from.")
    mail_soc: str = _setting("", "Addresses of the SOC, which is told of every response, separated by spaces.")

    notice_merge_seconds: int = _setting(
        300, "How long a notice to a maker waits for more to tell the same maker (docs/makers.md)."
    )
    notice_remind_days: int = _setting(3, "A maker is reminded of what is not fixed after so many days, and again.")
    notice_escalate_days: int = _setting(7, "Owner and sponsor are told of what is not fixed after so many days.")

    log_level: str = _setting("info", "debug, info, warning or error.")

    @property
    def effective_database_url(self) -> str:
        """SQLAlchemy URL of the control state."""
        if self.database_url:
            return self.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
        return f"sqlite:///{self.data / 'control.db'}"

    @property
    def effective_server_url(self) -> str:
        """Base URL of the server, without a slash at the end."""
        return (self.server_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def effective_gateway_url(self) -> str:
        """Base URL of the gateway, without a slash at the end."""
        return (self.gateway_url or f"http://{self.gateway_host}:{self.gateway_port}").rstrip("/")

    @property
    def effective_receiver_url(self) -> str:
        """Base URL of the telemetry doors, without a slash at the end."""
        return f"http://{self.receiver_host}:{self.receiver_port}"

    @property
    def issuer(self) -> str:
        """``iss`` of gateway tokens."""
        return f"{self.effective_server_url}/sts"


FIELDS: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(Settings)}


def _parse(name: str, value: Any, where: str) -> Any:
    default: Any = FIELDS[name].default
    kind: type[Any] = type(default) if not isinstance(default, Path) else Path
    if isinstance(value, str) and kind is not str:
        text = value.strip()
        try:
            if kind is bool:
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
            return kind(text)
        except (KeyError, ValueError):
            raise InputError(f"{value!r} is not a valid {kind.__name__}", where=where) from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{value!r} is not a valid {kind.__name__}", where=where)
    return value


def _check_name(name: str, where: str) -> None:
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, 1)
        remedy = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(FIELDS)}."
        raise InputError(f"unknown setting {name!r}.", where=where, remedy=remedy)


def load(
    environment: Mapping[str, str], *, config: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Settings from all sources. Raises ``InputError`` that names the source of a wrong or unknown one."""
    values: dict[str, Any] = {}
    overrides = {k: v for k, v in (overrides or {}).items() if v is not None}
    data = Path(overrides.get("data") or environment.get("WATCHFLOOR_DATA") or "data")
    if config is None and (data / "watchfloor.toml").is_file():
        config = data / "watchfloor.toml"
    if config is not None:
        try:
            content = tomllib.loads(config.read_text("utf-8"))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}.", where=str(config)) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"is not valid TOML: {error}.", where=str(config)) from error
        for name, value in content.items():
            _check_name(name, str(config))
            values[name] = _parse(name, value, f"{config}: {name}")
    for variable, value in environment.items():
        if variable.startswith("WATCHFLOOR_"):
            name = variable.removeprefix("WATCHFLOOR_").lower()
            _check_name(name, variable)
            values[name] = _parse(name, value, variable)
    for name, value in overrides.items():
        _check_name(name, "options")
        values[name] = _parse(name, value, f"--{name.replace('_', '-')}")
    settings = Settings(**values)
    for name, low, high in _BOUNDS:
        value = getattr(settings, name)
        if not low <= value <= high:
            raise InputError(f"{value} is outside {low} to {high}.", where=name)
    return settings


_BOUNDS = (
    ("port", 1, 65535),
    ("gateway_port", 1, 65535),
    ("gateway_ext_authz_port", 0, 65535),
    ("workers", 1, 256),
    ("receiver_port", 1, 65535),
    ("receiver_grpc_port", 0, 65535),
    ("receivers", 0, 256),
    ("receiver_max_body_bytes", 1024, 256 * 1024 * 1024),
    ("receiver_backlog_rows", 1000, 1_000_000_000),
    ("lease_seconds", 0.2, 60.0),
    ("decision_seconds", 0.05, 10.0),
    ("worker_memory_bytes", 256 * 1024**2, 1024**4),
    ("token_seconds", 30, 600),
    ("hold_seconds", 10, 86_400),
    ("holds_per_agent_hour", 1, 10_000),
    ("holds_per_approver_hour", 1, 100_000),
    ("alignment_milliseconds", 0, 60_000),
    ("max_body_bytes", 1024, 256 * 1024 * 1024),
    ("copilot_studio_deadline", 0.05, 0.9),
    ("copilot_studio_session_seconds", 0, 30 * 86_400),
    ("smtp_port", 1, 65535),
    ("notice_merge_seconds", 0, 86_400),
    ("notice_remind_days", 1, 365),
    ("notice_escalate_days", 1, 365),
    ("hot_days", 1, 3650),
    ("cold_days", 1, 36_500),
)
