"""Setting up channels besides mail: which kinds there are, where each leads, and the keys that posts are signed with.

Above ``storage.channels``; ``connectors.channels`` sends. Addresses are checked when a channel is saved, private
networks are refused unless the channel allows them. Teams' and Slack's addresses are secrets, so all are sealed.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import orjson

from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.ids import is_name
from watchfloor.model.urls import outbound_problem
from watchfloor.storage import channels
from watchfloor.storage.channels import Channel
from watchfloor.storage.messages import MAIL

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.vault import Vault

WEBHOOK, TEAMS, SLACK = KINDS = ("webhook", "teams", "slack")

PREFIX: Final = "whsec_"
"""What a key of Standard Webhooks begins with; the rest is base64."""
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Sealed:
    """What only the vault holds of a channel: its address and, of webhooks, the keys that posts are signed with.

    There are two keys while a new one is being handed to the receiver.
    """

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def seal(self, vault: Vault, channel_id: str) -> str:
        """As it is stored."""
        return vault.seal(orjson.dumps({"url": self.url, "secrets": self.secrets}), _place(channel_id))

    @classmethod
    def open(cls, vault: Vault, channel: Channel) -> Sealed:
        """What is stored of ``channel``."""
        body = orjson.loads(vault.unseal(channel.sealed, _place(channel.id)))
        return cls(body["url"], tuple(body["secrets"]))


def save(
    tx: ControlTx,
    vault: Vault,
    channel_id: str,
    *,
    kind: str,
    url: str,
    secret: str = "",
    allow_private: bool = False,
    is_enabled: bool = True,
) -> tuple[Channel, str]:
    """Set a channel up or change it: the channel, and the key of a webhook where a new one was made.

    An empty ``url`` stays as it was. Raises ``InputError``.
    """
    before = channels.find_channel(tx, channel_id)
    if not is_name(channel_id) or channel_id == MAIL:
        raise InputError(f"{channel_id[:64]!r} is no id for a channel.", where="id", remedy="Lower case, digits, - _ .")
    if kind not in KINDS:
        raise InputError(f"there is no kind {kind[:20]!r}.", where="kind", remedy=f"One of {', '.join(KINDS)}.")
    kept = Sealed.open(vault, before) if before is not None and before.kind == kind else Sealed("")
    url, made = url or kept.url, ""
    if problem := outbound_problem(url, require_tls=True, public_only=not allow_private):
        raise InputError(problem, where="url")
    secrets = kept.secrets
    if kind != WEBHOOK:
        if secret:
            raise InputError("only webhooks are signed.", where="secret")
    elif secret:
        secrets = (_checked(secret),)
    elif not secrets:
        made = new_secret()
        secrets = (made,)
    channel = Channel(
        channel_id, kind, urlsplit(url).hostname or "", _sealed(vault, before, Sealed(url, secrets), channel_id),
        before.created_at if before else tx.now, tx.now, tx.actor, allow_private, is_enabled,
    )  # fmt: skip
    channels.save_channel(tx, channel)
    return channel, made


def rotate(tx: ControlTx, vault: Vault, channel_id: str) -> str:
    """A new key for a webhook: posts carry a signature by it and one by the key before, until the next rotation.

    Raises ``NotFound``, ``InputError``.
    """
    channel = channels.find_channel(tx, channel_id)
    if channel is None:
        raise NotFound(f"there is no channel {channel_id!r}.", where="channel")
    if channel.kind != WEBHOOK:
        raise InputError("only webhooks are signed.", where="channel")
    sealed, made = Sealed.open(vault, channel), new_secret()
    renewed = Sealed(sealed.url, (made, sealed.secrets[0])).seal(vault, channel.id)
    channels.save_channel(tx, replace(channel, sealed=renewed, updated_at=tx.now, updated_by=tx.actor))
    return made


def _sealed(vault: Vault, before: Channel | None, sealed: Sealed, channel_id: str) -> str:
    """What is stored, which stays as it is where nothing differs: sealing the same twice gives two texts."""
    if before is not None and Sealed.open(vault, before) == sealed:
        return before.sealed
    return sealed.seal(vault, channel_id)


def _place(channel_id: str) -> str:
    return f"channel/{channel_id}"


def new_secret() -> str:
    """A key to sign with, as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def _checked(secret: str) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not 24 <= len(key) <= 64:
        raise InputError("this is no key.", where="secret", remedy="whsec_ and 24 to 64 bytes in base64, or nothing.")
    return secret
