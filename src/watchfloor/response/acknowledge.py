"""Acknowledging a notice: by a link in a mail, which works once, or by whoever it is about, signed in.

A link's token is its id, signed. The id stands in the outbox, where the signature is added only when the mail is
handed over (``SignedLinks``); of the id a hash is kept. So neither the database nor a copy of it holds a token. Opening
a link does nothing, for mail servers open links too; a form on its page acknowledges.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from watchfloor.model.errors import Conflict, Denied
from watchfloor.model.ids import new_id
from watchfloor.model.notices import Notice, NoticeState
from watchfloor.response.ports import Sender
from watchfloor.storage import notices
from watchfloor.storage.notices import Link

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.messages import Message
    from watchfloor.storage.vault import Vault

VALID: Final = timedelta(days=30)
"""How long a link works; each reminder brings a new one."""
_PURPOSE: Final = "links that acknowledge notices"
_UNSIGNED: Final = re.compile(r"(?<=/acknowledge\?token=)lnk_[0-9a-z]{26}\b(?!\.)")


class LinkInvalid(Denied):
    """A link that is not ours, belongs to another notice, or has expired."""

    code = "link_invalid"


class SignedLinks:
    """Signs the links of mails as they are handed over."""

    def __init__(self, vault: Vault, sender: Sender) -> None:
        self._vault, self._sender = vault, sender

    def send(self, message: Message) -> None:
        """See ``Sender.send``. The same message sent twice reads the same."""
        text = _UNSIGNED.sub(lambda found: signed(self._vault, found[0]), message.text)
        self._sender.send(replace(message, text=text))


def address(public_url: str, notice_id: str, token: str) -> str:
    """Where a link leads."""
    return f"{public_url}/notices/{notice_id}/acknowledge?token={token}"


def new_link(tx: ControlTx, public_url: str, notice_id: str, user_id: str) -> str:
    """A link for ``user_id``, as it stands in the outbox."""
    link_id = new_id("lnk")
    notices.forget_links(tx, tx.now - VALID)
    notices.add_link(tx, Link(_hash(link_id), notice_id, user_id, tx.now + VALID))
    return address(public_url, notice_id, link_id)


def signed(vault: Vault, link_id: str) -> str:
    """The token of a link."""
    mac = hmac.digest(vault.derive(_PURPOSE), link_id.encode(), hashlib.sha256)
    return f"{link_id}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def check(tx: ControlTx, vault: Vault, notice_id: str, token: str) -> tuple[Link, Notice]:
    """A link that may be used, and its notice. Raises ``LinkInvalid``; ``Conflict`` if it was used or all is over."""
    link_id = token.partition(".")[0]
    is_ours = hmac.compare_digest(signed(vault, link_id).encode(), token.encode())
    link = notices.find_link(tx, _hash(link_id)) if is_ours else None
    notice = notices.find_notice(tx, notice_id)
    if link is None or notice is None or link.notice_id != notice_id:
        raise LinkInvalid("This link is not valid. Open it as it stands in the mail.")
    if link.used_at is not None:
        raise Conflict("This link was used already.", remedy="It works once.")
    if link.expires_at <= tx.now:
        raise LinkInvalid("This link has expired. Sign in, or wait for the next reminder: it brings a new one.")
    if not notice.state.is_open:
        raise Conflict(f"The notice is {notice.state}: there is nothing to do any more.")
    return link, notice


def by_link(tx: ControlTx, vault: Vault, notice_id: str, token: str) -> Notice:
    """Acknowledge, and use the link up. Raises as ``check``."""
    link, notice = check(tx, vault, notice_id, token)
    if not notices.use_link(tx, link.token_hash):
        raise Conflict("This link was used already.", remedy="It works once.")
    return acknowledge(tx, notice, link.user_id, "link")


def acknowledge(tx: ControlTx, notice: Notice, user_id: str, way: str) -> Notice:
    """``user_id`` has read it; the first who says so is kept. Raises ``Conflict`` if it is not sent, or has ended."""
    if notice.state is NoticeState.WAITING or not notice.state.is_open:
        raise Conflict(f"The notice is {notice.state}.", where="notice")
    tx.audit("notice:acknowledge", f"notice/{notice.id}", {"by": user_id, "way": way})
    if notice.state is NoticeState.ACKNOWLEDGED:
        return notice
    done = replace(notice, state=NoticeState.ACKNOWLEDGED, acknowledged_at=tx.now, acknowledged_by=user_id)
    notices.save_notice(tx, done)
    return done


def _hash(link_id: str) -> str:
    return hashlib.sha256(link_id.encode()).hexdigest()
