"""Telling people of responses by mail: who is told what, and sending it until it was taken or refused.

Above ``storage.mails``, whose rows are written in the transaction that they tell of; a job sends them through the
``Mailer`` that is configured. What became of a mail is in the audit log, and on its incident.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from watchfloor.model.errors import Unavailable
from watchfloor.response import saga
from watchfloor.response.outbox import delay
from watchfloor.response.ports import Mailer, MailRefused, Notice
from watchfloor.storage import mails, people
from watchfloor.storage.mails import Mail

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

ACTOR: Final = "system:mail"

GIVE_UP: Final = timedelta(days=2)
"""A mail that could not be handed over for so long has failed."""

KEEP: Final = timedelta(days=30)
"""How long mails are kept after they were sent or have failed."""

AT_ONCE: Final = 50
_LEASE_SECONDS: Final = 120.0


class MailNotifier:
    """Tells by mail. ``soc``: addresses that are told of everything; ``public_url``: where links lead."""

    def __init__(self, public_url: str, soc: Collection[str]) -> None:
        self._public_url, self._soc = public_url.rstrip("/"), tuple(soc)

    def notify(self, tx: ControlTx, key: str, notice: Notice) -> Mapping[str, str]:
        """See ``Notifier.notify``."""
        links = [f"What was done, and what shows it: {self._public_url}/responses/{notice.response_id}"]
        if notice.incident_id:
            links.append(f"The incident: {self._public_url}/incidents/{notice.incident_id}")
        text = "\n\n".join([f"{notice.text}", *links, _WHY])
        to = self._recipients(tx, notice)
        for recipient in to:
            mails.put(tx, key, recipient, f"[Watchfloor] {notice.title}", text, notice.incident_id)
        return {"mail_to": ", ".join(to)} if to else {}

    def _recipients(self, tx: ControlTx, notice: Notice) -> list[str]:
        """Addresses, each once. Whoever the notice is about may be an attacker's by now, and is never told."""
        found = dict.fromkeys(self._soc if notice.to_soc else ())
        for user_id in notice.managers:
            user = people.find_user(tx, user_id)
            if user is not None and f"user/{user_id}" != notice.subject and mails.is_address(user.upn):
                found[user.upn] = None
        return list(found)


_WHY: Final = (
    "You are told because you manage the account, made or own the agent, or read this mailbox for the SOC. "
    "Nobody asks you for a password in this matter."
)


def deliver_mails(control: SqlControlStore, mailer: Mailer) -> int:
    """Send what is due; how many mails were taken. While another server sends, nothing is sent here.

    After one that the server cannot take now, the rest waits for the next run. Raises ``Unavailable`` then.
    """
    with control.read() as tx:
        is_due = bool(mails.list_due(tx, 1))
        is_over = mails.has_settled(tx, tx.now - KEEP)
    if is_over:
        with control.tx(ACTOR, audited=False) as tx:
            mails.forget_settled(tx, tx.now - KEEP)
    lease = control.lease("mail", _LEASE_SECONDS) if is_due else None
    if lease is None:
        return 0
    sent = 0
    try:
        with control.read() as tx:
            due = mails.list_due(tx, AT_ONCE)
        for mail in due:
            try:
                mailer.send(mail)
            except MailRefused as refused:
                _settle(control, mail, mails.FAILED, str(refused))
            except Unavailable as failure:
                _put_off(control, mail, failure)
                raise
            else:
                _settle(control, mail, mails.SENT)
                sent += 1
            if not lease.renew():
                break
    finally:
        lease.release()
    return sent


def _put_off(control: SqlControlStore, mail: Mail, failure: Unavailable) -> None:
    with control.read() as tx:
        is_given_up = mail.created_at + GIVE_UP <= tx.now
    if is_given_up:
        _settle(control, mail, mails.FAILED, f"given up: {failure}")
        return
    with control.tx(ACTOR, audited=False) as tx:
        wait = delay(mail.attempts + 1, failure.retry_after, random.random)
        mails.put_off(tx, mail, tx.now + timedelta(seconds=wait), str(failure))


def _settle(control: SqlControlStore, mail: Mail, state: str, error: str = "") -> None:
    with control.tx(ACTOR) as tx:
        mails.settle(tx, mail, state, error)
        detail = {"to": mail.recipient, "subject": mail.subject, **({"error": error} if error else {})}
        tx.audit("mail:send" if state == mails.SENT else "mail:fail", f"mail/{mail.id}", detail)
        if mail.incident_id is not None:
            said = f"Mail to {mail.recipient}: {state}{f': {error}' if error else ''}"
            saga.note_on_incident(tx, mail.incident_id, said, {"mail": mail.id, **detail})
