"""A case file: everything about one incident as hash-chained lines under a signature, for others to check offline.

    {"n": 0, "kind": "header", "body": {…}, "prev": "000…", "hash": "…"}
    {"n": 1, "kind": "incident" | "alert" | "event" | "activity" | "action" | "audit", …}
    {"n": N, "kind": "seal", "body": {"lines", "head", "at", "key", "signature"}, …}

Each hash covers its line and the hash before it; the seal's signature is that of the key which vouches for the audit
log (``keys/audit.pub``). What can be shown: that nothing was changed, left out or added since the file was made, and
by which installation. Pure; where the parts come from is the caller's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from watchfloor.storage.audit import GENESIS, Signer, canonical, fingerprint, is_genuine, plain, visible

FORMAT: Final = "watchfloor case file 1"
_CONTEXT: Final = b"watchfloor case file 1\n"
_LONGEST_LINE: Final = 16 * 1024 * 1024


def _hash(n: int, kind: str, body: Any, prev: str) -> str:
    return hashlib.sha256(canonical({"n": n, "kind": kind, "body": body, "prev": prev})).hexdigest()


def _line(n: int, kind: str, body: Any, prev: str) -> tuple[bytes, str]:
    digest = _hash(n, kind, body, prev)
    return canonical({"n": n, "kind": kind, "body": body, "prev": prev, "hash": digest}) + b"\n", digest


def write_case_file(
    header: Mapping[str, Any], parts: Iterable[tuple[str, Mapping[str, Any]]], signer: Signer, at: datetime
) -> Iterator[bytes]:
    """The lines of a case file: ``header``, then ``parts`` (kind and body), then the seal."""
    prev, n = GENESIS, 0
    for kind, body in (("header", {"format": FORMAT, **header}), *parts):
        line, prev = _line(n, kind, plain(body), prev)
        n += 1
        yield line
    said = {"lines": n, "head": prev, "at": at.astimezone(UTC).isoformat(timespec="milliseconds"), "key": signer.key_id}
    signature = signer.sign_bytes(_CONTEXT + canonical(said))
    yield _line(n, "seal", {**said, "signature": signature}, prev)[0]


@dataclass(frozen=True, slots=True)
class CaseReport:
    """What a check found. ``kinds`` counts lines by kind; ``key`` is the fingerprint that the seal names."""

    header: Mapping[str, Any]
    kinds: Mapping[str, int]
    made_at: str
    key: str
    faults: tuple[str, ...]

    @property
    def is_genuine(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify_case_file(lines: Iterable[bytes], key: Ed25519PublicKey) -> CaseReport:
    """Check a case file against the installation's public ``key``. Never raises for its findings."""
    faults: list[str] = []
    kinds: dict[str, int] = {}
    header: Mapping[str, Any] = {}
    seal: Mapping[str, Any] | None = None
    head, n = GENESIS, 0
    for raw in lines:
        where = f"line {n + 1}"
        if seal is not None:
            faults.append(f"{where} stands behind the seal")
            break
        line = _parsed(raw)
        if line is None:
            faults.append(f"{where} cannot be read")
            break
        if line["n"] != n or line["prev"] != head:
            faults.append(f"{where} does not follow from the one before it: lines were taken out, added or moved")
            break
        if _hash(n, line["kind"], line["body"], head) != line["hash"]:
            faults.append(f"{where} was changed: its content does not have its hash")
            break
        if n == 0 and (line["kind"] != "header" or line["body"].get("format") != FORMAT):
            faults.append("this does not begin as a case file does")
            break
        if line["kind"] == "seal":
            seal = line["body"]
            continue
        header = line["body"] if n == 0 else header
        kinds[line["kind"]] = kinds.get(line["kind"], 0) + 1
        head, n = line["hash"], n + 1
    if not faults:
        faults += _seal_faults(seal, head, n, key)
    shown = seal or {}
    return CaseReport(header, kinds, str(shown.get("at", "")), str(shown.get("key", "")), tuple(map(visible, faults)))


def _parsed(raw: bytes) -> dict[str, Any] | None:
    if len(raw) > _LONGEST_LINE:
        return None
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or line.keys() != {"n", "kind", "body", "prev", "hash"}:
        return None
    well_typed = type(line["n"]) is int and all(type(line[name]) is str for name in ("kind", "prev", "hash"))
    return line if well_typed and isinstance(line["body"], dict) else None


def _seal_faults(seal: Mapping[str, Any] | None, head: str, n: int, key: Ed25519PublicKey) -> list[str]:
    if seal is None:
        return ["the seal is missing: the file was cut off"]
    if seal.keys() != {"lines", "head", "at", "key", "signature"}:
        return ["the seal cannot be read"]
    said = {name: seal[name] for name in ("lines", "head", "at", "key")}
    if said["lines"] != n or said["head"] != head:
        return ["the seal is of another file"]
    if not is_genuine(key, str(seal["signature"]), _CONTEXT + canonical(said)):
        return [f"the seal does not carry the signature of the key {fingerprint(key)}"]
    return []
