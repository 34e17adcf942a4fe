"""Builds everything: from settings to the parts of each process, in reading order.

The only module besides ``cli`` that knows settings. Nothing connects or opens before a function here is called; what a
function opened, ``close`` of its result closes.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from watchfloor import content
from watchfloor.connectors.channels import PostChannels
from watchfloor.connectors.gateway import GatewayDoors
from watchfloor.connectors.identity.registry import ConfiguredConnectors
from watchfloor.connectors.mail import SmtpServer
from watchfloor.connectors.siem import Sink, open_sink, stream_to_all
from watchfloor.identity import access, keys, setup
from watchfloor.identity.access_log import AccessLog
from watchfloor.identity.logons import TokenEvents
from watchfloor.identity.oidc import RelyingParty, SignOns, read_roles
from watchfloor.identity.operators import Operators
from watchfloor.identity.providers import KeySets
from watchfloor.identity.proving import ProofTokens
from watchfloor.identity.signals.outbox import SignalEmitter
from watchfloor.identity.signals.streams import Us
from watchfloor.identity.sts import TokenService, TokenSettings
from watchfloor.jobs import JobContext, Jobs, JobStatus
from watchfloor.model.errors import InputError, Unavailable
from watchfloor.model.urls import outbound_problem
from watchfloor.portal.app import build_portal
from watchfloor.portal.deps import PortalDeps
from watchfloor.registry import policies
from watchfloor.response import recovery
from watchfloor.response.holds import AskLimits
from watchfloor.response.makers import Rules
from watchfloor.response.notify import MailNotifier
from watchfloor.response.proof import Prover
from watchfloor.settings import Settings
from watchfloor.storage import inventory, people
from watchfloor.storage.activity import Activity
from watchfloor.storage.aliases import complete_aliases
from watchfloor.storage.audit_files import Checkpoints
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.control import SqlControlStore, utc_now
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.files import write_secret_file
from watchfloor.storage.logs import log_opener
from watchfloor.storage.messages import is_address
from watchfloor.storage.ports import Scope
from watchfloor.storage.profiles import complete_profiles
from watchfloor.storage.remote import RemoteStore
from watchfloor.storage.vault import Vault

_PRIVATE: Final = 0o700


def make_directories(data: Path) -> None:
    """The data directory with what every process expects in it; nobody else on the machine may look inside."""
    for name in ("", "keys", "run", "run/holds", "spool", "logs"):
        (data / name).mkdir(parents=True, exist_ok=True, mode=_PRIVATE)


@dataclass(frozen=True)
class Server:
    """The control plane's parts. ``start`` sets its background threads going."""

    portal: FastAPI
    control: SqlControlStore
    events: RemoteStore
    epoch: EpochFile
    jobs: Jobs
    connectors: ConfiguredConnectors
    stopping: threading.Event

    def start(self) -> None:
        """Start the heartbeat and the jobs."""
        threading.Thread(
            target=self.control.follow, args=(self.epoch, self.stopping), name="heartbeat", daemon=True
        ).start()
        self.jobs.start()

    def close(self) -> None:
        """Stop the threads and let go of files and databases."""
        self.portal.state.deps.hunts.close()
        self.jobs.stop()
        self.stopping.set()
        self.connectors.close()
        self.control.close()
        self.events.close()


def settle_memory() -> None:
    """Tell the collector that what is there now stays, once the process has what it begins with.

    An answer is made of many small objects without cycles: going through all modules' objects for their sake, several
    times an answer, was a third of what a large one cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def build_server(settings: Settings) -> Server:
    """The control plane on ``settings.data``: migrated, with keys, shipped policies and a local administrator.

    On an installation that nobody has set up yet, ``run/setup.url`` holds the one-time link. Raises ``WatchfloorError``
    if state cannot be opened.
    """
    data = settings.data.absolute()
    make_directories(data)
    epoch = EpochFile.create(data / "epoch")
    vault = Vault.open(data / "keys" / "vault.key")
    checkpoints = Checkpoints.open(data / "keys" / "audit.key", data / "audit-checkpoints.jsonl")
    control = SqlControlStore.open(settings.effective_database_url, epoch=epoch, checkpoints=checkpoints)
    events = RemoteStore(data / "run" / "store.sock")
    compiler = KqlCompiler()

    with control.tx("system:start") as tx:
        policies.publish_defaults(tx, content.policies())
        access.publish_defaults(tx, content.access_policies())
        keys.ensure_signing_key(tx, vault)
        setup_token = setup.ensure_setup_token(tx)
        complete_aliases(tx, inventory.list_agents(tx), people.list_users(tx))
        complete_profiles(tx, inventory.list_agents(tx))
        tx.audit("server:start", "server", {"host": settings.host, "port": settings.port})
    _offer_setup(data / "run" / "setup.url", settings, setup_token)

    operators = Operators(control, vault, admins_need_second_factor=settings.admins_need_second_factor)
    _keep_admin_token(operators, data / "run" / "admin.token")
    log = log_opener(data, settings.log_url)()

    def returned(issuer: str, subject: str) -> None:
        # Whatever becomes of this, the job asks in its own time.
        with suppress(Unavailable):
            if recovery.check_soon(control, issuer, subject):
                jobs.nudge("check_recoveries")

    tokens = TokenService(
        control,
        vault,
        TokenSettings(settings.issuer, settings.effective_gateway_url, token_seconds=settings.token_seconds),
        events=TokenEvents(control, log, clock=time.monotonic),
        access_log=AccessLog(log),
        returned=returned,
    )
    connectors = ConfiguredConnectors(control, vault)
    prover = Prover(
        control, ProofTokens(control, vault, tokens), GatewayDoors(settings.effective_gateway_url), now=utc_now
    )
    sinks = _sinks(settings)
    mailer = _mailer(settings)
    activity = Activity(events, compiler, Scope())
    jobs = Jobs(
        JobContext(
            control,
            events,
            compiler,
            vault,
            log,
            key_sets=tokens.key_sets,
            connectors=connectors,
            stream=partial(stream_to_all, control, activity, sinks),
            ask_limits=AskLimits(settings.holds_per_agent_hour, settings.holds_per_approver_hour),
            emitter=SignalEmitter(),
            prover=prover,
            notifier=MailNotifier(settings.effective_server_url, _soc(settings)) if mailer is not None else None,
            mailer=mailer,
            posts=PostChannels(control, vault),
            notices=_notices(settings),
            us=Us(settings.effective_server_url, settings.issuer),
            own_urls=(settings.effective_gateway_url, f"http://{settings.gateway_host}:{settings.gateway_port}"),
        )
    )

    def job_health() -> Sequence[JobStatus]:
        return jobs.health()

    portal = build_portal(
        PortalDeps(
            control=control,
            notices=_notices(settings),
            events=events,
            compiler=compiler,
            vault=vault,
            operators=operators,
            epoch=epoch.revision,
            public_url=settings.effective_server_url,
            gateway_url=settings.effective_gateway_url,
            tokens=tokens,
            connectors=connectors,
            prover=prover,
            sign_ons=_sign_ons(settings, control, tokens.key_sets),
            sign_on_name=settings.oidc_name,
            nudge=jobs.nudge,
            jobs=job_health,
            max_body_bytes=settings.max_body_bytes,
        )
    )
    return Server(portal, control, events, epoch, jobs, connectors, threading.Event())


def _sinks(settings: Settings) -> list[Sink]:
    """Other SIEMs. Raises ``InputError`` for an address that is none, or a token file that cannot be read."""
    token = _secret_of(settings.siem_token_file, "siem_token_file") if settings.siem_token_file else ""
    return [open_sink(url, token=token) for url in settings.siem.split()]


def _mailer(settings: Settings) -> SmtpServer | None:
    """The mail server. Raises ``InputError`` for what cannot be, or a password file that cannot be read."""
    if not settings.smtp_host:
        return None
    password = _secret_of(settings.smtp_password_file, "smtp_password_file") if settings.smtp_password_file else ""
    return SmtpServer(
        settings.smtp_host, settings.smtp_port, settings.mail_from, settings.smtp_tls, settings.smtp_user, password
    )


def _notices(settings: Settings) -> Rules:
    """How makers are told."""
    return Rules(
        settings.effective_server_url,
        timedelta(seconds=settings.notice_merge_seconds),
        timedelta(days=settings.notice_remind_days),
        timedelta(days=settings.notice_escalate_days),
        has_mail=bool(settings.smtp_host),
    )


def _soc(settings: Settings) -> list[str]:
    """Addresses of the SOC. Raises ``InputError`` for what is none."""
    found = settings.mail_soc.split()
    wrong = [text for text in found if not is_address(text)]
    if wrong:
        raise InputError(f"{wrong[0][:100]!r} is no mail address.", where="mail_soc")
    return found


def _sign_ons(settings: Settings, control: SqlControlStore, keys: KeySets) -> SignOns | None:
    """Sign-ins through an identity provider. Raises ``InputError`` for what is missing or cannot be read."""
    if not settings.oidc_issuer:
        return None
    problem = outbound_problem(settings.oidc_issuer, require_tls=True)
    if problem:
        raise InputError(problem, where="oidc_issuer")
    if not settings.oidc_client_id or not settings.oidc_client_secret_file:
        raise InputError("is missing.", where="oidc_client_id, oidc_client_secret_file", remedy="Register a client.")
    party = RelyingParty(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        client_secret=_secret_of(settings.oidc_client_secret_file, "oidc_client_secret_file"),
        redirect_uri=f"{settings.effective_server_url}/signin/callback",
        scopes=settings.oidc_scopes,
        name_claim=settings.oidc_name_claim,
        roles_claim=settings.oidc_roles_claim,
        roles=read_roles(settings.oidc_roles),
        provisions=settings.oidc_provisions,
    )
    if party.provisions and not party.roles:
        raise InputError("needs oidc_roles: nobody would have a role.", where="oidc_provisions")
    return SignOns(control, party, keys)


def _secret_of(path: str, where: str) -> str:
    """What stands in a file of ours. Raises ``InputError``."""
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.", where=where) from error


def _offer_setup(path: Path, settings: Settings, token: str | None) -> None:
    if token is None:
        path.unlink(missing_ok=True)
    else:
        write_secret_file(path, f"{settings.effective_server_url}/setup?token={token}".encode())


def _keep_admin_token(operators: Operators, path: Path) -> None:
    """A restart must not end what the administrator of this machine is doing: a token that still works stays."""
    if not path.exists() or operators.find_session(path.read_text("utf-8").strip()) is None:
        operators.write_local_admin_token(path)
