"""The audit log's chain: how an entry is hashed, how the log is vouched for, and how a stranger checks both.

Each entry's hash covers the entry and its predecessor's hash; every so often the newest hash is signed into a file
beside the database, so that cutting the tail off or writing the whole log anew shows too. ``control`` appends,
``audit_files`` reads and writes; the maths here is pure and needs no running Watchfloor. It knows nothing of what the
entries mean.

What it cannot show: the loss of entries behind the newest checkpoint, by someone who can write to the database before
the next one; so checkpoints are frequent, and their file should be copied elsewhere as it grows.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from watchfloor.model.errors import Corrupt, InputError, Unavailable
from watchfloor.storage.vault import create_secret_file, read_secret_file

GENESIS: Final = "0" * 64
"""``prev_hash`` of the first entry."""

_CONTEXT: Final = b"watchfloor audit checkpoint 1\n"


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as stored; ``at`` is Unix microseconds. In a log that was tampered with, members may hold anything."""

    seq: int
    at: int
    actor: str
    action: str
    subject: str
    detail: Any
    prev_hash: str
    hash: str

    def computed_hash(self) -> str:
        """The hash that this content ought to have."""
        return entry_hash(self.seq, self.at, self.actor, self.action, self.subject, self.detail, self.prev_hash)

    def to_json(self) -> dict[str, Any]:
        """As one line of an export."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS: Final = ("seq", "at", "actor", "action", "subject", "detail", "prev_hash", "hash")


def canonical(value: Any) -> bytes:
    """``value`` as the one JSON text that hashes are taken of: keys sorted, no spaces, ASCII. No NaN, no infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def plain(value: Any) -> Any:
    """``value`` as it will come back from a JSON column, so that its hash is the same before and after storing it."""
    if isinstance(value, Mapping):
        return {str(k.value if isinstance(k, Enum) else k): plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(v) for v in value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot stand in an audit entry")


def visible(text: str) -> str:
    """``text`` with everything escaped that does not print, so that no entry can fake another in a listing."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def entry_hash(seq: int, at: int, actor: str, action: str, subject: str, detail: Any, prev_hash: str) -> str:
    """SHA-256 over the canonical JSON of an entry's other columns."""
    content = {
        "seq": seq,
        "at": at,
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": detail,
        "prev_hash": prev_hash,
    }
    return hashlib.sha256(canonical(content)).hexdigest()


# -- checkpoints --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement: entry ``seq`` had this ``hash``. ``key`` is the fingerprint of the signing key."""

    seq: int
    hash: str
    at: str
    key: str
    signature: str

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return _CONTEXT + canonical({"seq": self.seq, "hash": self.hash, "at": self.at, "key": self.key})

    def to_line(self) -> bytes:
        """As one line of the checkpoint file."""
        content = {"seq": self.seq, "hash": self.hash, "at": self.at, "key": self.key, "signature": self.signature}
        return canonical(content) + b"\n"

    @classmethod
    def from_line(cls, line: bytes | str) -> Checkpoint:
        """Raises ``ValueError`` if it is none."""
        content = json.loads(line)
        if not isinstance(content, dict):
            raise ValueError("not an object")
        types = {"seq": int, "hash": str, "at": str, "key": str, "signature": str}
        if content.keys() != types.keys() or any(type(content[n]) is not t for n, t in types.items()):
            raise ValueError("not a checkpoint")
        return cls(**content)

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether the signature is genuine."""
        return is_genuine(key, self.signature, self.signed_bytes())


def is_genuine(key: Ed25519PublicKey, signature: str, content: bytes) -> bool:
    """Whether the base64 ``signature`` of ``content`` is the key's."""
    try:
        key.verify(base64.b64decode(signature, validate=True), content)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def fingerprint(key: Ed25519PublicKey) -> str:
    """Sixteen hex digits that name a key; compare them over another channel."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


class Signer:
    """The key that vouches for the log. Its public half is written beside it (``audit.pub``), for auditors."""

    __slots__ = ("_key", "key_id", "public_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()
        self.key_id = fingerprint(self.public_key)

    @classmethod
    def open(cls, key_path: Path | str) -> Signer:
        """The key in ``key_path``; made (0600) if missing. Raises ``Unavailable`` or ``Corrupt``."""
        path = Path(key_path)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        create_secret_file(path, pem)
        try:
            key = serialization.load_pem_private_key(read_secret_file(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise Corrupt(f"{path} holds no private key. Restore it from your backup.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Corrupt(f"{path} holds no Ed25519 key. Restore it from your backup.")
        signer = cls(key)
        create_secret_file(
            path.with_suffix(".pub"),
            signer.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        )
        return signer

    def sign(self, seq: int, row_hash: str, at: datetime) -> Checkpoint:
        """A checkpoint for entry ``seq``."""
        draft = Checkpoint(seq, row_hash, at.astimezone(UTC).isoformat(timespec="milliseconds"), self.key_id, "")
        return Checkpoint(draft.seq, draft.hash, draft.at, draft.key, self.sign_bytes(draft.signed_bytes()))

    def sign_bytes(self, content: bytes) -> str:
        """The signature of ``content``, in base64. It must begin with what it is, so that none passes for another."""
        return base64.b64encode(self._key.sign(content)).decode()


def load_public_key(path: Path | str) -> Ed25519PublicKey:
    """The public key in a PEM file, which may hold the private key. Raises ``InputError`` or ``Unavailable``."""
    path = Path(path)
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"cannot read the audit key {path}: {error.strerror}") from error
    try:
        if b"PRIVATE KEY" in pem:
            private = serialization.load_pem_private_key(pem, password=None)
            if isinstance(private, Ed25519PrivateKey):
                return private.public_key()
        else:
            public = serialization.load_pem_public_key(pem)
            if isinstance(public, Ed25519PublicKey):
                return public
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise InputError("holds no Ed25519 key in PEM.", where=str(path), remedy="Give keys/audit.pub of the installation.")


# -- verification -------------------------------------------------------------------------------------------------


class FaultKind(StrEnum):
    """What can be wrong with a log."""

    EDITED = "edited"
    MISSING = "missing"
    REORDERED = "reordered"
    REWRITTEN = "rewritten"
    TRUNCATED = "truncated"
    FORGED = "forged checkpoint"
    UNVOUCHED = "no checkpoint"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with entries ``first`` to ``last``; for a checkpoint or a line, the place is in ``message``."""

    kind: FaultKind
    first: int
    last: int
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification. ``vouched``: entries up to this one stand under a genuine signature."""

    entries: int
    head: str
    vouched: int
    checkpoints: int
    faults: tuple[Fault, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify(
    rows: Iterable[Row | Fault], checkpoints: Sequence[Checkpoint] | None, key: Ed25519PublicKey | None
) -> Report:
    """Check a whole log: every hash, every link, and every checkpoint against ``key``.

    ``rows`` in the order in which the log presents them; they are looked at one by one, never held. ``checkpoints``
    None: nobody has any; empty: there should be some. Without a ``key`` none is genuine. Never raises for its findings.
    """
    genuine: list[Checkpoint] = []
    faults: list[Fault] = []
    for checkpoint in checkpoints or ():
        if key is not None and checkpoint.is_signed_by(key):
            genuine.append(checkpoint)
        else:
            whose = "does not carry the signature of the audit key"
            faults.append(
                Fault(
                    FaultKind.FORGED,
                    checkpoint.seq,
                    checkpoint.seq,
                    f"the checkpoint for row {checkpoint.seq} of {visible(checkpoint.at)} {whose}",
                )
            )
    check = _ChainCheck(genuine, first=1)
    for row in rows:
        if isinstance(row, Fault):
            faults.append(row)
        else:
            check.add(row)
    check.end()
    if check.entries and checkpoints is not None and not checkpoints:
        message = "no checkpoint vouches for the log: their file was lost, or this is not the whole of the installation"
        faults.append(Fault(FaultKind.UNVOUCHED, 1, check.entries, message))
    everything = sorted([*faults, *check.faults], key=lambda fault: (fault.first, fault.last))
    return Report(check.entries, check.head, check.vouched, len(genuine), tuple(everything))


def chain_faults(rows: Iterable[Row], checkpoints: Sequence[Checkpoint], first: int) -> list[Fault]:
    """What is wrong with a part of the log that begins with entry ``first``, given genuine ``checkpoints``."""
    check = _ChainCheck(checkpoints, first=first)
    for row in rows:
        check.add(row)
    check.end()
    return check.faults


def _span(first: int, last: int) -> str:
    return f"row {first}" if first == last else f"rows {first} to {last}"


class _ChainCheck:
    """One pass over the entries in order, holding one entry at a time.

    ``first``: the entry that the log is expected to begin with; its predecessor is taken on trust if it is not 1.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], first: int) -> None:
        self.faults: list[Fault] = []
        self.entries = 0
        self.head = GENESIS
        self.vouched = 0
        self._signed: dict[int, Checkpoint] = {c.seq: c for c in checkpoints}
        self._highest_signed = max(self._signed, default=0)
        self._expected = first
        self._previous: Row | None = None
        self._previous_intact = False
        self._gaps: list[tuple[int, int]] = []

    def add(self, row: Row) -> None:
        """The next entry as presented."""
        self.entries += 1
        intact = self._check_content(row)
        if type(row.seq) is not int or row.seq < self._expected:
            self._misplaced(row)
            return
        if row.seq > self._expected:
            self._gaps.append((self._expected, row.seq - 1))
        elif self._previous is not None:
            self._check_link(self._previous, row, intact)
        elif row.seq == 1 and intact and row.prev_hash != GENESIS:
            self._fault(FaultKind.REWRITTEN, 1, 1, "row 1 does not begin the chain: rows before it were cut off")
        self._check_signed(row)
        self._previous, self._previous_intact = row, intact
        self._expected = row.seq + 1
        self.head = row.hash if isinstance(row.hash, str) else ""

    def end(self) -> None:
        """No more entries."""
        for first, last in self._gaps:
            verb = "is" if first == last else "are"
            self._fault(FaultKind.MISSING, first, last, f"{_span(first, last)} {verb} missing")
        if self._highest_signed >= self._expected:
            first, last = self._expected, self._highest_signed
            checkpoint = self._signed[last]
            self._fault(
                FaultKind.TRUNCATED,
                first,
                last,
                f"the log ends too early: {_span(first, last)} {'was' if first == last else 'were'} there when the "
                f"checkpoint of {checkpoint.at} was signed",
            )

    def _fault(self, kind: FaultKind, first: int, last: int, message: str) -> None:
        self.faults.append(Fault(kind, first, last, message))

    def _check_content(self, row: Row) -> bool:
        try:
            intact = row.hash == row.computed_hash()
        except (TypeError, ValueError, RecursionError):
            intact = False
        if not intact:
            seq = row.seq if type(row.seq) is int else 0
            self._fault(FaultKind.EDITED, seq, seq, f"row {row.seq} was edited: its content does not have its hash")
        return intact

    def _check_link(self, before: Row, row: Row, intact: bool) -> None:
        # An entry that was edited has been named already; what it says about its neighbours is worth nothing.
        if intact and self._previous_intact and row.prev_hash != before.hash:
            self._fault(
                FaultKind.REWRITTEN,
                before.seq,
                row.seq,
                f"row {before.seq} or row {row.seq} was rewritten: row {row.seq} follows from another row {before.seq}",
            )

    def _check_signed(self, row: Row) -> None:
        checkpoint = self._signed.get(row.seq)
        if checkpoint is None:
            return
        if checkpoint.hash == row.hash:
            self.vouched = row.seq
            return
        first = self.vouched + 1
        self._fault(
            FaultKind.REWRITTEN,
            first,
            row.seq,
            f"{_span(first, row.seq)} {'was' if first == row.seq else 'were'} rewritten: row {row.seq} is not the one "
            f"that was signed on {checkpoint.at}",
        )

    def _misplaced(self, row: Row) -> None:
        seq = row.seq if type(row.seq) is int else 0
        self._fault(FaultKind.REORDERED, seq, seq, f"row {row.seq} stands out of order, or twice")
        for n, (first, last) in enumerate(self._gaps):
            if first <= seq <= last:
                self._gaps[n : n + 1] = [gap for gap in ((first, seq - 1), (seq + 1, last)) if gap[0] <= gap[1]]
                break
