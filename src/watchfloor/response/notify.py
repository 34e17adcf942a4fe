"""Telling people of responses by mail: who is told what, and sending it until it was taken or refused.

Above ``storage.messages``, whose rows are written in the transaction that they tell of; a job sends them through the
``Sender`` that is configured. What became of a mail is in the audit log, and on its incident.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from watchfloor.model.errors import Unavailable
from watchfloor.response import saga
from watchfloor.response.outbox import delay
from watchfloor.response.ports import MessageRefused, Notice, Sender
from watchfloor.storage import messages, people
from watchfloor.storage.messages import Message

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

ACTOR: Final = "system:mail"

GIVE_UP: Final = timedelta(days=2)
"""A message that could not be handed over for so long has failed."""

KEEP: Final = timedelta(days=30)
"""How long messages are kept after they were sent or have failed."""

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
            messages.put(tx, key, recipient, f"[Watchfloor] {notice.title}", text, notice.incident_id)
        return {"mail_to": ", ".join(to)} if to else {}

    def _recipients(self, tx: ControlTx, notice: Notice) -> list[str]:
        """Addresses, each once. Whoever the notice is about may be an attacker's by now, and is never told."""
        found = dict.fromkeys(self._soc if notice.to_soc else ())
        for user_id in notice.managers:
            user = people.find_user(tx, user_id)
            if user is not None and f"user/{user_id}" != notice.subject and messages.is_address(user.upn):
                found[user.upn] = None
        return list(found)


_WHY: Final = (
    "You are told because you manage the account, made or own the agent, or read this mailbox for the SOC. "
    "Nobody asks you for a password in this matter."
)


def deliver_messages(control: SqlControlStore, mailer: Sender | None, posts: Sender | None) -> int:
    """Send what is due, each channel by itself; how many messages were taken. ``posts`` takes all but mail.

    While another server sends through a channel, nothing is sent through it here. After a message that a channel cannot
    take now, the rest of that channel waits for the next run. Raises ``Unavailable`` then, after the other channels.
    """
    with control.read() as tx:
        due = messages.due_channels(tx)
        is_over = messages.has_settled(tx, tx.now - KEEP)
    if is_over:
        with control.tx(ACTOR, audited=False) as tx:
            messages.forget_settled(tx, tx.now - KEEP)
    sent, failures = 0, []
    for channel in due:
        sender = mailer if channel == messages.MAIL else posts
        if sender is not None:
            count, failure = _deliver(control, channel, sender)
            sent += count
            failures += [failure] if failure else []
    if failures:
        raise Unavailable("; ".join(failures))
    return sent


def _deliver(control: SqlControlStore, channel: str, sender: Sender) -> tuple[int, str]:
    """How many messages ``channel`` took, and what keeps it from taking more."""
    lease = control.lease(f"messages:{channel}", _LEASE_SECONDS)
    if lease is None:
        return 0, ""
    sent = 0
    try:
        with control.read() as tx:
            due = messages.list_due(tx, channel, AT_ONCE)
        for message in due:
            try:
                sender.send(message)
            except MessageRefused as refused:
                _settle(control, message, messages.FAILED, str(refused))
            except Unavailable as failure:
                _put_off(control, message, failure)
                return sent, str(failure)
            else:
                _settle(control, message, messages.SENT)
                sent += 1
            if not lease.renew():
                break
    finally:
        lease.release()
    return sent, ""


def _put_off(control: SqlControlStore, message: Message, failure: Unavailable) -> None:
    with control.read() as tx:
        is_given_up = message.created_at + GIVE_UP <= tx.now
    if is_given_up:
        _settle(control, message, messages.FAILED, f"given up: {failure}")
        return
    with control.tx(ACTOR, audited=False) as tx:
        wait = delay(message.attempts + 1, failure.retry_after, random.random)
        messages.put_off(tx, message, tx.now + timedelta(seconds=wait), str(failure))


def _settle(control: SqlControlStore, message: Message, state: str, error: str = "") -> None:
    with control.tx(ACTOR) as tx:
        messages.settle(tx, message, state, error)
        detail = {"to": message.recipient, "subject": message.subject, **({"error": error} if error else {})}
        kind = "mail" if message.channel == messages.MAIL else "channel"
        tx.audit(f"{kind}:{'send' if state == messages.SENT else 'fail'}", f"message/{message.id}", detail)
        if message.incident_id is not None:
            said = f"Mail to {message.recipient}: {state}{f': {error}' if error else ''}"
            saga.note_on_incident(tx, message.incident_id, said, {"mail": message.id, **detail})
