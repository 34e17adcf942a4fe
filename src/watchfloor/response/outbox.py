"""Running the outbox: what a response still has to do is done, retried, and shown for what it is.

Above ``outbox_steps`` and ``storage.sagas``; a job calls ``Outbox.run``. A step is claimed, carried out, and finished;
each of the three may be the last thing that this process does, and any process, here or on another host, goes on from
what is stored. The job that runs it may be run twice, by two servers, or never at the right moment.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

from watchfloor.identity.connector import Ability
from watchfloor.model.errors import Unavailable, WatchfloorError
from watchfloor.model.ids import new_id
from watchfloor.model.sagas import Outcome, SagaStatus, StepState
from watchfloor.model.times import in_words
from watchfloor.response import recovery, saga
from watchfloor.response.outbox_steps import ASKS, WRITES, Again, Result, Skipped, Work, new_password
from watchfloor.response.ports import Ports
from watchfloor.storage import sagas
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.sagas import Saga, Step

ACTOR: Final = "system:responses"

HOLD: Final = timedelta(seconds=90)
"""How long a claim holds: longer than any connector may take, as another server goes on when it is over."""

FIRST_DELAY: Final = 2.0
LONGEST_DELAY: Final = 300.0
MOST_ATTEMPTS: Final = 16
"""With delays that double from two seconds up to five minutes: three quarters of an hour of trying."""

CHECK_EVERY: Final = timedelta(minutes=1)
SLOWEST_CHECK: Final = timedelta(minutes=15)

_AT_ONCE: Final = 8
"""Steps that are carried out side by side: one provider that is slow to answer must not keep the others waiting."""

_log = logging.getLogger(__name__)


class Refused(WatchfloorError):
    """A step that will not work, however often it is tried."""


def delay(attempts: int, retry_after: float, jitter: Callable[[], float]) -> float:
    """Seconds until the attempt after ``attempts``: they double, spread by half, and never before ``retry_after``."""
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempts - 1, 30))
    return max(retry_after, longest * (0.5 + jitter() / 2))


class Outbox:
    """Carries out what is due. ``hold`` is how long a claim holds, ``jitter`` a number from 0 to 1."""

    def __init__(
        self,
        control: SqlControlStore,
        ports: Ports,
        *,
        hold: timedelta = HOLD,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._control = control
        self._ports = ports
        self._hold = hold
        self._jitter = jitter

    def run(self, most: int = 1000) -> int:
        """Carry out what is due, at most ``most`` steps; how many were."""
        self._expire()
        count = 0
        while count < most:
            with self._control.read() as tx:
                if not sagas.has_due(tx):
                    break
            with self._control.tx(ACTOR, audited=False) as tx:
                claimed = sagas.claim(tx, new_id("clm"), tx.now + self._hold, min(_AT_ONCE, most - count))
            if not claimed:
                break
            if len(claimed) == 1:
                self._carry_out(*claimed[0])
            else:
                with ThreadPoolExecutor(len(claimed), thread_name_prefix="response") as pool:
                    for done in [pool.submit(self._carry_out, *each) for each in claimed]:
                        done.result()
            count += len(claimed)
        return count

    def _expire(self) -> None:
        with self._control.read() as tx:
            overdue = sagas.list_unapproved(tx)
        if overdue:
            with self._control.tx(ACTOR) as tx:
                saga.expire(tx)

    # -- one step -------------------------------------------------------------------------------------------------

    def _carry_out(self, found: Saga, step: Step) -> None:
        write = WRITES.get(step.name)
        if write is not None:
            try:
                with self._control.tx(ACTOR, audited=False) as tx:
                    if sagas.is_held(tx, step):
                        self._finish(tx, found, step, write(tx, self._work(tx, found, step), self._ports))
            except Exception as error:
                # What it wrote is gone with its transaction; how it went has to be stored in another one.
                self._store(found, step, _told(step, error))
            return
        with self._control.read() as tx:
            work = self._work(tx, found, step)
        try:
            result: Result | Refused = ASKS[step.name](work, self._ports)
        except Exception as error:
            result = _told(step, error)
        self._store(found, step, result)

    def _work(self, tx: ControlTx, found: Saga, step: Step) -> Work:
        return Work(found, step, sagas.steps_of(tx, [found.id])[found.id], tx.now)

    def _store(self, found: Saga, step: Step, result: Result | Refused) -> None:
        with self._control.tx(ACTOR, audited=False) as tx:
            if sagas.is_held(tx, step):
                self._finish(tx, found, step, result)
            # Else somebody else has taken it over, as this took too long: what they find counts.

    def _finish(self, tx: ControlTx, found: Saga, step: Step, result: Result | Refused) -> None:
        if isinstance(result, Again):
            allowed = result.most or MOST_ATTEMPTS
            current = sagas.find(tx, found.id)
            is_over = current is None or current.outcome is not Outcome.OPEN
            if step.attempts < allowed and not is_over:
                again_at = tx.now + timedelta(seconds=delay(step.attempts, result.retry_after, self._jitter))
                evidence = dict(result.evidence or step.evidence)
                self._change(tx, step, StepState.PENDING, evidence, result.error, next_try_at=again_at)
                return
            after = f" (tried {step.attempts} times)" if step.attempts > 1 else ""
            state = StepState.SKIPPED if is_over else StepState.FAILED
            evidence, error = dict(result.evidence), f"{result.error}{after}"
        elif isinstance(result, Refused):
            state, evidence, error = StepState.FAILED, {}, str(result)
        elif isinstance(result, Skipped):
            state, evidence, error = StepState.SKIPPED, dict(result.evidence), result.reason
        else:
            state, evidence, error = StepState.DONE, dict(result.evidence), ""
        settled = self._change(tx, step, state, evidence, error, next_try_at=None, finished_at=tx.now)
        saga.tell_step(tx, found, settled)
        after_all = sagas.settle(tx, found.id)
        if after_all.status is not SagaStatus.RUNNING:
            detail = {"status": after_all.status.value}
            saga.tell(tx, after_all, "response:end", f"over: {after_all.status.value}", detail)

    def _change(self, tx: ControlTx, step: Step, state: StepState, evidence: Any, error: str, **values: Any) -> Step:
        return sagas.change_step(
            tx, step, state=state, evidence=evidence, error=error, holder=None, held_until=None, **values
        )

    # -- has the user set a new password? -------------------------------------------------------------------------

    def check_recoveries(self, most: int = 200) -> int:
        """Ask identity providers whether users who are held to a new password have set one; how many were asked."""
        with self._control.read() as tx:
            due = sagas.list_to_check(tx, most)
            steps = sagas.steps_of(tx, [each.id for each in due])
            now = tx.now
        for found in due:
            own = steps[found.id]
            changed_at = self._new_password(Work(found, own[0], own, now))
            with self._control.tx(ACTOR, audited=False) as tx:
                current = sagas.find(tx, found.id)
                if current is None or current.outcome is not Outcome.OPEN or current.check_at != found.check_at:
                    continue  # an operator, or another server, was faster
                if changed_at is not None:
                    how = f"the identity provider says that the password was changed at {in_words(changed_at)}"
                    recovery.remediate(tx, found.subject_id, how, changed_at=changed_at)
                    continue
                # Whoever told us of the new password tells others, too: it is not told on.
                if text := recovery.told_elsewhere(tx, found.subject_id):
                    recovery.remediate(tx, found.subject_id, text)
                    continue
                wait = min(SLOWEST_CHECK, CHECK_EVERY * (1 + found.checks // 10))
                sagas.change(tx, current, check_at=tx.now + wait, checks=found.checks + 1)
        return len(due)

    def _new_password(self, work: Work) -> datetime | None:
        """When the user set a new password, if they did."""
        try:
            connector = self._ports.connectors.find(work.account.issuer)
            if connector is None or Ability.READ_STATE not in connector.abilities:
                return None  # one may be configured later
            return new_password(work, connector.read_state(work.account))
        except WatchfloorError as error:
            _log.warning("response %s: cannot ask whether the password was changed: %s", work.saga.id, error)
        except Exception:
            _log.exception("response %s: asking whether the password was changed failed", work.saga.id)
        return None


def _told(step: Step, error: Exception) -> Again | Refused:
    """What an exception means for a step: another try, or none."""
    if isinstance(error, Unavailable):
        return Again(str(error), error.retry_after)
    if isinstance(error, WatchfloorError):
        return Refused(str(error))
    _log.exception("step %s failed", step.key, exc_info=error)
    return Again(f"{type(error).__name__}: see the server's log")
