"""Invocations, facts and verdicts as JSON, for records and replay: ``load(dump(x)) == x``.

The dump is canonical (one value, one text), so hashes are taken over it. Arguments that cannot be examined are not
stored: ``content.UNREADABLE_KEY`` stands for them, and deciding again on that gives the same verdict.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson

from watchfloor.guard.content import UNREADABLE_KEY, Limits, Unreadable, examine
from watchfloor.guard.provenance.trace import Trace
from watchfloor.model.access import AccessFacts
from watchfloor.model.activity import Invocation
from watchfloor.model.agents import TokenMode
from watchfloor.model.facts import Facts, Projected, TokenFacts
from watchfloor.model.verdicts import Effect, Mode, Reason, Redaction, Severity, Signal, Verdict

_T = TypeVar("_T")


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no space, UTF-8. The same value always gives the same bytes."""
    try:
        return _sorted(value)
    except TypeError:
        # Half surrogate pairs and the like: legal in a Python string, not in UTF-8. Escaped they survive.
        return json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode()


def _sorted(value: Any) -> bytes:
    return orjson.dumps(value, default=_default, option=orjson.OPT_SORT_KEYS)


def _default(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return f"<{type(value).__name__}>"


def _parse(text: bytes | str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(text, Mapping):
        return text
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        body = json.loads(text)
    if not isinstance(body, Mapping):
        raise ValueError("a record is a JSON object")
    return body


# -- invocations --------------------------------------------------------------------------------------------------


def readable(invocation: Invocation, limits: Limits = Limits()) -> Invocation:  # noqa: B008 (frozen)
    """``invocation``, its arguments replaced by the marker where they cannot be examined. Records store this one."""
    try:
        examine(invocation.arguments, (), limits)
    except Unreadable as error:
        return dataclasses.replace(invocation, arguments={UNREADABLE_KEY: str(error)})
    return invocation


def dump_invocation(invocation: Invocation, limits: Limits = Limits()) -> bytes:  # noqa: B008 (frozen)
    """The invocation as recorded."""
    return canonical(readable(invocation, limits))


def load_invocation(record: bytes | str | Mapping[str, Any]) -> Invocation:
    """The invocation that was dumped. Raises ``ValueError``, ``TypeError`` or ``KeyError`` if it does not fit."""
    body = dict(_parse(record))
    body["at"] = datetime.fromisoformat(body["at"])
    body["mode"] = TokenMode(body["mode"])
    body["user_turns"] = tuple(body.get("user_turns", ()))
    known = {field.name for field in dataclasses.fields(Invocation)}
    return Invocation(**{name: value for name, value in body.items() if name in known})


def dump_with_trace(invocation: Invocation, trace: Trace | None, limits: Limits = Limits()) -> bytes:  # noqa: B008 (frozen)
    """The invocation as recorded, and beside its members what is known of where its arguments came from."""
    body = dump_invocation(invocation, limits)
    return body if trace is None else body[:-1] + b',"trace":' + dump_trace(trace) + b"}"


_LAST: Final = b',"alignment":null}'
_FIRST: Final = b'{"alignment":null,'


def dump_call(invocation: Invocation, trace: Trace | None, fragments: Fragments | None = None) -> bytes:
    """``dump_with_trace`` of an invocation that was examined; ``fragments`` only makes it faster."""
    try:
        body = _sorted(invocation) if fragments is None else fragments.once(invocation, _sorted)
    except TypeError:  # written otherwise than it is hashed, so not remembered
        body = canonical(invocation)
    return body if trace is None else b'%b,"trace":%b}' % (body[:-1], dump_trace(trace, fragments))


def dump_trace(trace: Trace, fragments: Fragments | None = None) -> bytes:
    """The trace as recorded and hashed; ``fragments`` only makes it faster."""
    return _trace(trace) if fragments is None else fragments.once(trace, _trace)


def _trace(trace: Trace) -> bytes:
    """Without alignment it is what it was before there was such a thing."""
    body = canonical(trace)
    if trace.alignment is not None:
        return body
    # Members stand in their order, or sorted where a text cannot be written as UTF-8.
    return body[: -len(_LAST)] + b"}" if body.endswith(_LAST) else b"{" + body.removeprefix(_FIRST)


def load_trace(record: bytes | str | Mapping[str, Any]) -> Trace | None:
    """The trace that was dumped with an invocation, if there was one. Raises like ``load_invocation``."""
    body = _parse(record).get("trace")
    return None if body is None else Trace.from_json(body)


# -- facts --------------------------------------------------------------------------------------------------------


class Fragments:
    """Remembers the JSON of facts that stay the same from call to call: agents, users, tools, bindings, tokens; and of
    the latest call what is written twice, once to be hashed and once for the record.

    A value is known by its identity and kept alive while it is remembered; it is immutable, so its JSON never changes.
    Bounded; forgetting costs time and changes nothing.
    """

    __slots__ = ("_known", "_latest")

    _MOST = 8_192

    def __init__(self) -> None:
        self._known: dict[int, tuple[Projected | AccessFacts | None, orjson.Fragment]] = {}
        self._latest: dict[type, tuple[Any, bytes]] = {}

    def once(self, value: _T, write: Callable[[_T], bytes]) -> bytes:
        """What ``write`` makes of ``value``; of the latest value of each type it is remembered."""
        latest = self._latest.get(type(value))
        if latest is not None and latest[0] is value:
            return latest[1]
        written = write(value)
        self._latest[type(value)] = (value, written)
        return written

    def of(self, value: Projected | AccessFacts | None) -> orjson.Fragment:
        """The JSON of ``value``."""
        known = self._known.get(id(value))
        if known is None or known[0] is not value:
            if len(self._known) >= self._MOST:
                self._known.clear()
            body = orjson.dumps(value)
            if isinstance(value, TokenFacts) and not value.handed_over_by:
                body = body.removesuffix(_NOTHING_HANDED_OVER) + b"}"
            known = self._known[id(value)] = (value, orjson.Fragment(body))
        return known[1]


_NOTHING_HANDED_OVER: Final = b',"handed_over_by":[]}'


def dump_facts(facts: Facts, fragments: Fragments | None = None) -> bytes:
    """The facts as recorded; ``fragments`` only makes it faster.

    Where nothing was handed over, and where there are no canaries and no conditional access, they are what they were
    before there were such things.
    """
    known = fragments or Fragments()
    try:
        return known.once(facts, lambda facts: orjson.dumps(_in_fragments(facts, known)))
    except TypeError:
        return canonical(_in_plain(facts))


def _in_plain(facts: Facts) -> dict[str, Any]:
    """The same where a text cannot be written as UTF-8."""
    body: dict[str, Any] = _plain(facts)
    if not facts.parents:
        del body["parents"]
    if not facts.canaries:
        del body["canaries"]
    if facts.access is None:
        del body["access"]
    if not facts.token.handed_over_by:
        del body["token"]["handed_over_by"]
    return body


def _in_fragments(facts: Facts, fragments: Fragments) -> dict[str, Any]:
    """What orjson writes exactly as it writes ``facts``: members in the order of the dataclass."""
    of = fragments.of
    members: dict[str, Any] = {
        "now": facts.now,
        "state_is_current": facts.state_is_current,
        "organization": of(facts.organization),
        "token": of(facts.token),
        "agent": of(facts.agent),
        "user": of(facts.user),
        "server": of(facts.server),
        "tool": of(facts.tool),
        "binding": of(facts.binding),
        "counters": facts.counters,
        "approval": facts.approval,
    }
    if facts.parents:
        members["parents"] = [of(parent) for parent in facts.parents]
    if facts.canaries:
        members["canaries"] = [of(canary) for canary in facts.canaries]
    if facts.access is not None:
        members["access"] = of(facts.access)
    return members


def load_facts(record: bytes | str | Mapping[str, Any]) -> Facts:
    """The facts that were dumped. Raises ``ValueError``, ``TypeError`` or ``KeyError`` if they do not fit."""
    return Facts.from_json(_parse(record))


# -- verdicts -----------------------------------------------------------------------------------------------------


def dump_verdict(verdict: Verdict) -> bytes:
    """The verdict as recorded: metadata only, its excerpts and messages are masked."""
    return canonical(verdict)


def load_verdict(record: bytes | str | Mapping[str, Any]) -> Verdict:
    """The verdict that was dumped. Raises ``ValueError``, ``TypeError`` or ``KeyError`` if it does not fit."""
    body = _parse(record)
    return Verdict(
        effect=Effect(body["effect"]),
        would_be=Effect(body["would_be"]),
        reasons=tuple(
            Reason(
                **{
                    **reason,
                    "effect": Effect(reason["effect"]),
                    "mode": Mode(reason["mode"]),
                    "severity": Severity(reason["severity"]),
                }
            )
            for reason in body["reasons"]
        ),
        signals=tuple(
            Signal(**{**signal, "severity": Severity(signal["severity"]), "span": tuple(signal["span"])})
            for signal in body["signals"]
        ),
        redactions=tuple(
            Redaction(tuple(redaction["path"]), tuple(redaction["span"]), redaction["replacement"])
            for redaction in body["redactions"]
        ),
        input_hash=body["input_hash"],
        policy_set=body["policy_set"],
    )


# -- hashes -------------------------------------------------------------------------------------------------------


def input_hash(
    invocation: Invocation,
    facts: Facts,
    policy_set: str,
    fragments: Fragments | None = None,
    trace: Trace | None = None,
) -> str:
    """SHA-256 over everything that a decision depends on; ``fragments`` only makes it faster."""
    try:
        digest = hashlib.sha256(b"[")
        written = _sorted(invocation) if fragments is None else fragments.once(invocation, _sorted)
        rest = b"]" if trace is None else b"," + dump_trace(trace, fragments) + b"]"
        digest.update(b'%b,%b,"%b"%b' % (written, dump_facts(facts, fragments), policy_set.encode(), rest))
        return digest.hexdigest()
    except TypeError:
        values: list[Any] = [invocation, _in_plain(facts), policy_set]
        if trace is not None:
            values.append(_parse(dump_trace(trace)))
        return hashlib.sha256(canonical(values)).hexdigest()


def payload_hash(invocation: Invocation) -> str:
    """SHA-256 over what an operator approves: who calls what for whom with which arguments, and nothing else."""
    payload = [
        "watchfloor/payload/1",
        invocation.tenant,
        invocation.agent_id,
        invocation.user_id,
        invocation.server_id,
        invocation.tool,
        readable(invocation).arguments,
    ]
    return hashlib.sha256(canonical(payload)).hexdigest()
