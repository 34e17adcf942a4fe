"""Background work: the list of jobs, and the threads that run them.

A job takes no input. It reads what is and what should be, moves one towards the other, and may be run twice, by two
servers, or never at the right moment: the next run finds what is left. A nudge makes it run at once, a timer makes
sure that it runs anyway. Above ``detection``, ``response`` and ``registry``; ``app`` starts them. To add one: a
function and a line in ``JOBS``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final

from watchfloor.detection import custom_rules, posture_scan, posture_tables, sessions
from watchfloor.detection.changed_tools import report_changed_tools
from watchfloor.detection.kql_evaluate import Evaluator
from watchfloor.detection.kql_runner import KqlDetector
from watchfloor.detection.publishing import publish_alerts as publish_changed_alerts
from watchfloor.detection.rules import Ruleset, shipped
from watchfloor.detection.runner import Detector
from watchfloor.identity import access, directory, keys, provider_risk
from watchfloor.identity.connector import Ability, Connectors, IdentityConnector, NoConnectors, SeesRisk
from watchfloor.identity.logons import BATCH as LOGONS_AT_ONCE
from watchfloor.identity.logons import publish_logons
from watchfloor.identity.providers import KeySets
from watchfloor.identity.signals import deliver, poll
from watchfloor.identity.signals.receive import Receiver
from watchfloor.identity.signals.streams import Us
from watchfloor.model.errors import Conflict, NotFound, Unavailable, WatchfloorError
from watchfloor.registry import exposure_tables, pinning, policies, sightings, snapshots
from watchfloor.response import follow_up, holds, notify, playbooks, proof
from watchfloor.response.acknowledge import SignedLinks
from watchfloor.response.hold_events import publish_hold_events
from watchfloor.response.makers import Rules
from watchfloor.response.outbox import Outbox
from watchfloor.response.ports import Emitter, Notifier, Ports, Sender
from watchfloor.response.proof import Prover
from watchfloor.storage import identity_connectors, people, risks
from watchfloor.storage.activity import Activity
from watchfloor.storage.compiler import catalogue
from watchfloor.storage.control import SqlControlStore, utc_now
from watchfloor.storage.hunting import Hunter
from watchfloor.storage.lists import Catalogue
from watchfloor.storage.ports import EventLog, EventStore, QueryCompiler, Scope
from watchfloor.storage.vault import Vault

_log = logging.getLogger(__name__)

_DIRECTORY_LEASE: Final = 900.0
"""Seconds that reading one directory may take before another server believes that nobody does."""
_MOST_ROUNDS: Final = 200
"""How many slices one run of detection works off before it lets others see that it is alive."""


@dataclass(frozen=True)
class JobContext:
    """What jobs work with."""

    control: SqlControlStore
    events: EventStore
    compiler: QueryCompiler
    vault: Vault
    log: EventLog
    key_sets: KeySets | None = None
    connectors: Connectors = field(default_factory=NoConnectors)
    stream: Callable[[], object] = lambda: None
    """Sends on what is new to other SIEMs."""
    tenant: str = "default"
    own_urls: Sequence[str] = ()
    """Where agents reach the gateway."""
    ask_limits: holds.AskLimits = field(default_factory=holds.AskLimits)
    """How often operators are asked about held calls."""
    emitter: Emitter | None = None
    """Who tells other systems of responses."""
    notifier: Notifier | None = None
    """Who tells people of responses."""
    prover: Prover | None = None
    """Who asks the gateway's doors."""
    mailer: Sender | None = None
    """Who takes our mail."""
    posts: Sender | None = None
    """Who takes messages for channels besides mail."""
    notices: Rules = field(default_factory=Rules)
    """How makers are told."""
    us: Us | None = None
    """Who we are to receivers of security events."""
    ruleset: Ruleset = field(default_factory=shipped)
    now: Callable[[], datetime] = utc_now

    @property
    def activity(self) -> Activity:
        """The event store, asked within this tenant."""
        return Activity(self.events, self.compiler, Scope(tenants=(self.tenant,)))

    @property
    def outbox(self) -> Outbox:
        """What responses have left to do, with everybody that it is done with."""
        return Outbox(self.control, Ports(self.connectors, self.emitter, self.notifier))

    @cached_property
    def kql_detector(self) -> KqlDetector:
        """The rules in KQL: those of the ruleset, and those that operators wrote. It only keeps what binding showed."""
        schema = Catalogue(self.control, catalogue())
        evaluator = Evaluator(Hunter(self.events, schema=schema), Scope(tenants=(self.tenant,)))
        return KqlDetector(
            self.control, evaluator, self.ruleset.kql, schema=schema, custom=custom_rules.read, now=self.now
        )


# -- the jobs -----------------------------------------------------------------------------------------------------


def run_detection(context: JobContext) -> None:
    """Judge events that nobody has judged yet."""
    detector = Detector(context.control, context.activity, context.ruleset)
    for _ in range(_MOST_ROUNDS):
        if not detector.run().is_behind:
            return


def run_rules(context: JobContext) -> None:
    """Ask the near-real-time rules in KQL about rows that they have not seen."""
    for _ in range(_MOST_ROUNDS):
        if not context.kql_detector.run_near_real_time().is_behind:
            return


def require_password_changes(context: JobContext) -> None:
    """Ask those for a new password of whom conditional access does."""
    access.require_password_changes(context.control)


def run_scheduled_rules(context: JobContext) -> None:
    """Ask the scheduled rules in KQL about every span of time that is due: apart, as one of them may take its time."""
    for _ in range(_MOST_ROUNDS):
        if not context.kql_detector.run_scheduled().is_behind:
            return


def watch_sessions(context: JobContext) -> None:
    """Look at what agents and users did over a time: streaks, retries, repetition."""
    sessions.watch(context.control, context.activity, context.ruleset, context.now())


def watch_habits(context: JobContext) -> None:
    """Compare what agents do with what they did in the days before: new tools and destinations, volume."""
    sessions.watch(context.control, context.activity, context.ruleset, context.now(), learning=True)


def create_holds_from_events(context: JobContext) -> None:
    """Ask operators about calls that were held."""
    while holds.create_holds(context.control, context.activity, context.ask_limits) >= holds.BATCH:
        pass


def expire_holds(context: JobContext) -> None:
    """Close holds that nobody answered, and forget answers that can no longer be used."""
    holds.expire_holds(context.control)


def publish_holds(context: JobContext) -> None:
    """Write down what happened to held calls, so that it can be hunted in."""
    while publish_hold_events(context.control, context.log, context.tenant) >= holds.BATCH:
        pass


def publish_sign_ins(context: JobContext) -> None:
    """Write down who signed in and out at the portal, and whose sessions were ended, so that it can be hunted in."""
    while publish_logons(context.control, context.log, context.tenant) >= LOGONS_AT_ONCE:
        pass


def run_responses(context: JobContext) -> None:
    """Do what confirmed compromises have left to do: ask identity providers, read back, tell others."""
    context.outbox.run()


def prove_blocks(context: JobContext) -> None:
    """Ask the gateway's doors whether they refuse the agents that were blocked, once for each block."""
    if context.prover is None:
        return
    failed = []
    with context.control.read() as tx:
        waiting = proof.unproven(tx)
    for agent_id in waiting:
        try:
            context.prover.prove(agent_id, "system:proof")
        except (Conflict, NotFound):
            continue  # unblocked, or gone, meanwhile
        except WatchfloorError as error:
            failed.append(f"{agent_id}: {error}")
    if failed:
        raise Unavailable("; ".join(failed))


def run_playbooks(context: JobContext) -> None:
    """Propose, or do, what playbooks say about open incidents."""
    playbooks.run_due(context.control)


def check_recoveries(context: JobContext) -> None:
    """Ask identity providers whether users who owe a new password have set one, and lift their risk if so."""
    context.outbox.check_recoveries()


def record_policy_sets(context: JobContext) -> None:
    """Remember what the hash of the policies in force stands for, so that decisions can be replayed."""
    with context.control.read() as tx:
        if policies.find_set(tx, policies.current_set(tx).hash) is not None:
            return
    with context.control.tx("system:policies", audited=False) as tx:
        policies.record_set(tx)


def refresh_tool_lists(context: JobContext) -> None:
    """Ask every tool server what it lists, and compare with what was approved."""
    failed = asyncio.run(pinning.refresh_all(context.control, context.vault))
    for server_id, problem in failed.items():
        _log.warning("tool server %s: %s", server_id, problem)
    watch_tools(context)


def watch_tools(context: JobContext) -> None:
    """Raise an alert about every tool that no longer is what was approved."""
    report_changed_tools(context.control, context.ruleset, context.tenant)


def watch_sightings(context: JobContext) -> None:
    """Note agents and tool servers that were seen at work and that the registry does not know."""
    for _ in range(_MOST_ROUNDS):
        if not sightings.watch_sightings(context.control, context.activity, own_urls=context.own_urls):
            return


def publish_inventory(context: JobContext) -> None:
    """Write a snapshot of every agent and person that changed, so that it can be hunted in."""
    snapshots.publish_inventory(context.control, context.log, context.tenant, context.now())


def publish_exposure(context: JobContext) -> None:
    """Write down what leads to what, as far as it changed, so that it can be hunted in."""
    exposure_tables.publish_exposure(context.control, context.log, context.tenant, context.now())


def scan_posture(context: JobContext) -> None:
    """Ask every posture indicator whether it holds for an agent, and work out how risky agents are."""
    now = context.now()
    with context.control.read() as tx:
        if not posture_scan.is_due(tx, now):
            return
    posture_scan.scan(context.control, Hunter(context.events), Scope(tenants=(context.tenant,)), now)


def publish_posture(context: JobContext) -> None:
    """Write down how risky agents are and why, as far as that changed, so that it can be hunted in."""
    posture_tables.publish_posture(context.control, context.log, context.tenant, context.now())


def publish_alerts(context: JobContext) -> None:
    """Write down every alert that is new or changed, so that it can be hunted in."""
    publish_changed_alerts(context.control, context.log, context.tenant, context.now())


def stream_events(context: JobContext) -> None:
    """Send alerts and decisions that are new on to other SIEMs."""
    context.stream()


def fade_risks(context: JobContext) -> None:
    """Lower the risk of users and agents about whom nothing has been seen for long enough."""
    with context.control.read() as tx:
        if not risks.is_due(tx):
            return
    with context.control.tx("system:risk", audited=False) as tx:
        risks.fade(tx)


def refresh_identity_keys(context: JobContext) -> None:
    """Fetch identity providers' keys before they get stale, so that no exchange has to wait for them."""
    if context.key_sets is not None:
        context.key_sets.refresh_due()


def sync_directories(context: JobContext) -> None:
    """Bring what identity providers list to our users, accounts and risks, each whatever becomes of the others."""
    lease = context.control.lease("directories", _DIRECTORY_LEASE)
    if lease is None:
        return
    failed = []
    try:
        with context.control.read() as tx:
            issuers = [found.issuer for found in identity_connectors.list_connectors(tx)]
        for issuer in issuers:
            try:
                connector = context.connectors.find(issuer)
                if connector is not None:
                    _read_directory(context.control, issuer, connector)
            except WatchfloorError as error:
                failed.append(f"{issuer}: {error}")
            if not lease.renew():
                return
    finally:
        lease.release()
    if failed:
        raise Unavailable("; ".join(failed))


def _read_directory(control: SqlControlStore, issuer: str, connector: IdentityConnector) -> None:
    if connector.kind != "embedded" and Ability.LIST_ACCOUNTS in connector.abilities:
        directory.sync(control, issuer, connector)
    if isinstance(connector, SeesRisk) and (risky := connector.list_risky()) is not None:
        provider_risk.sync(control, issuer, risky)


def poll_signals(context: JobContext) -> None:
    """Fetch security events from transmitters that do not push them, and forget what is long over."""
    if context.key_sets is not None:
        receiver = Receiver(context.control, context.vault, context.key_sets)
        poll.poll_all(context.control, context.vault, receiver)
        receiver.forget_old()


def deliver_signals(context: JobContext) -> None:
    """Push security events to receivers that asked for that."""
    if context.us is not None:
        deliver.deliver_all(context.control, context.vault, context.us)


def deliver_messages(context: JobContext) -> None:
    """Send messages that are due, by mail and through other channels."""
    mailer = SignedLinks(context.vault, context.mailer) if context.mailer is not None else None
    notify.deliver_messages(context.control, mailer, context.posts)


def send_notices(context: JobContext) -> None:
    """Send notices to makers that have waited for more to tell them."""
    follow_up.send_due(context.control, context.notices)


def follow_up_notices(context: JobContext) -> None:
    """Look again at what makers were asked to change: close it, remind them, tell who owns the agent."""
    hunter = Hunter(context.events, schema=Catalogue(context.control, catalogue()))
    scope = Scope(tenants=(context.tenant,))
    follow_up.follow_up(context.control, hunter, scope, context.now(), context.notices)


def drop_retired_keys(context: JobContext) -> None:
    """Make gateways forget signing keys whose time is over."""
    with context.control.read() as tx:
        over = [k for k in people.list_signing_keys(tx) if k.retired_at is not None and k.retired_at <= tx.now]
    if over:
        with context.control.tx("system:keys") as tx:
            keys.drop_retired(tx)


def checkpoint_audit(context: JobContext) -> None:
    """Vouch for the audit log's newest entries."""
    context.control.checkpoint()


@dataclass(frozen=True, slots=True)
class Job:
    """One job and how often it runs at least."""

    run: Callable[[JobContext], None]
    every_seconds: float

    @property
    def name(self) -> str:
        """How it is nudged, logged and measured."""
        return self.run.__name__


JOBS: Final = (
    Job(run_detection, 1),
    Job(run_rules, 1),
    Job(run_scheduled_rules, 10),
    Job(require_password_changes, 5),
    Job(watch_sessions, 30),
    Job(watch_habits, 300),
    Job(create_holds_from_events, 1),
    Job(expire_holds, 5),
    Job(publish_holds, 1),
    Job(publish_sign_ins, 2),
    Job(run_responses, 1),
    Job(check_recoveries, 15),
    Job(prove_blocks, 5),
    Job(run_playbooks, 5),
    Job(record_policy_sets, 60),
    Job(refresh_tool_lists, 300),
    Job(watch_tools, 60),
    Job(watch_sightings, 5),
    Job(publish_inventory, 15),
    Job(publish_exposure, 30),
    Job(scan_posture, 30),
    Job(publish_posture, 30),
    Job(publish_alerts, 2),
    Job(stream_events, 5),
    Job(fade_risks, 300),
    Job(refresh_identity_keys, 30),
    Job(sync_directories, 600),
    Job(poll_signals, 5),
    Job(deliver_signals, 2),
    Job(send_notices, 5),
    Job(follow_up_notices, 300),
    Job(deliver_messages, 2),
    Job(drop_retired_keys, 60),
    Job(checkpoint_audit, 30),
)
"""Every job."""


# -- running them -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class JobStatus:
    """How one job fares. ``slowest_seconds``: its longest run so far."""

    name: str
    every_seconds: float
    last_success: datetime | None = None
    last_error: str = ""
    runs: int = 0
    failures: int = 0
    slowest_seconds: float = 0.0


class Jobs:
    """Runs jobs, each in a thread of its own, so that a slow tool server never delays detection."""

    def __init__(self, context: JobContext, jobs: Sequence[Job] = JOBS) -> None:
        self._context = context
        self._jobs = {job.name: job for job in jobs}
        self._status = {job.name: JobStatus(job.name, job.every_seconds) for job in jobs}
        self._wake = {name: threading.Event() for name in self._jobs}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start every thread; each job runs at once."""
        for name in self._jobs:
            thread = threading.Thread(target=self._loop, args=(name,), name=f"job {name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout: float = 10.0) -> None:
        """Ask every job to end after its run, and wait up to ``timeout`` seconds for all of them together."""
        self._stopping.set()
        for event in self._wake.values():
            event.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def nudge(self, name: str) -> None:
        """Make a job run at once; a name that is none is ignored, as the timer makes up for it."""
        event = self._wake.get(name)
        if event is not None:
            event.set()

    def health(self) -> list[JobStatus]:
        """How each job fares, in the order of the list."""
        return [self._status[name] for name in self._jobs]

    def run_now(self, name: str) -> None:
        """One run in the caller's thread; what goes wrong is noted, never raised."""
        job, status = self._jobs[name], self._status[name]
        started = time.monotonic()
        status.runs += 1
        try:
            job.run(self._context)
        except WatchfloorError as error:
            status.failures += 1
            before, status.last_error = status.last_error, str(error) or type(error).__name__
            # A job that runs every second and fails for an hour says so once; its health shows the rest.
            if status.last_error != before:
                _log.warning("job %s: %s", name, error)
        except Exception as error:
            # One job that fails must not take the others along; the next run may find a mended world.
            status.failures += 1
            status.last_error = f"{type(error).__name__}: see the log"
            _log.exception("job %s failed", name)
        else:
            status.last_success, status.last_error = self._context.now(), ""
        status.slowest_seconds = max(status.slowest_seconds, time.monotonic() - started)

    def _loop(self, name: str) -> None:
        wake, every = self._wake[name], self._jobs[name].every_seconds
        while not self._stopping.is_set():
            wake.clear()
            self.run_now(name)
            wake.wait(every)
