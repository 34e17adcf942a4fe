"""A span as rows of the event tables: one of ``AgentActivity``, and one of ``AgentContent`` for each kind of content.

What a span says of who did what fills columns (``conventions``); what people and models said goes to the content tier;
all else is kept in ``AdditionalFields``, so that the two tables together still hold what was sent:

    {"attributes": {…}, "resource": {…}, "scope": "…", "span": {"name", "kind", "status", "message", "links"},
     "events": [{"name", "time", "attributes"}], "contents": {kind: [attribute, …]},
     "handoff": {…}, "clock": {…}, "dropped": {…}}

An attribute is left out of ``attributes`` only where it has the best name of a column, the column holds just its value,
and neither span nor resource says the same under another name. Above is ``reception``, which asks whether the sender
may say so, and below ``redact``, which every value passes. Nothing here does I/O or knows what is stored.

**Who acted** (``ActingMode``, ``UserId``), the first rule that fits:

1. *human*: the blueprint is the zero GUID, or the call says ``HumanToAgent``: a person's prompt. The user is who asked.
2. *agent*, with the agent's own user as the user: the agent has a user of its own (``microsoft.agent.user.id``).
3. *agent*: another agent called it. The user, if one is named, is kept: the chain began with them.
4. *on-behalf-of*: there is a user.
5. *agent*: nobody is named.

**Who handed over to whom**: the calling agent is the parent. A span ``invoke_agent`` of another agent than the one that
tells of it (the resource's, or the one that the address names) is that agent's hand-over: the other is the target. A
conversation id of two GUIDs, ``parent_child``, is a conversation that was handed over; both stand in ``handoff``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from watchfloor.gateway.telemetry import conventions as names
from watchfloor.gateway.telemetry import redact
from watchfloor.gateway.telemetry.conventions import Care
from watchfloor.gateway.telemetry.spans import Reject, Sender, Span, SpanEvent
from watchfloor.model.agents import ActingMode
from watchfloor.model.ids import new_id
from watchfloor.model.verdicts import Effect, Mode
from watchfloor.storage.tables import SCHEMA_VERSION

MAX_ATTRIBUTES: Final = 256
"""Attributes of one span, resource or event that are kept beside those that have a column, and events, and links."""

_DAY: Final = 86_400_000_000_000
_LONG: Final = 2**63
_GUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_HANDED_OVER: Final = re.compile(rf"({_GUID})_({_GUID})")

_ALLOW, _REDACT, _BLOCK = Effect.ALLOW, Effect.REDACT, Effect.BLOCK
_DECISIONS: Final[dict[str, tuple[Effect | None, Effect, Mode]]] = {
    "allow": (_ALLOW, _ALLOW, Mode.ENFORCE),
    "passed": (_ALLOW, _ALLOW, Mode.ENFORCE),
    "modify": (_REDACT, _REDACT, Mode.ENFORCE),
    "deny": (_BLOCK, _BLOCK, Mode.ENFORCE),
    # A guardian that says audit and not allow has a policy that matched and is not enforced yet: our mode audit. Who
    # looks for what enforcing would stop must find it.
    "audit": (_ALLOW, _BLOCK, Mode.AUDIT),
    # A warning is all that the policy is meant to do: enforcing it changes nothing.
    "warn": (_ALLOW, _ALLOW, Mode.AUDIT),
    # Traceloop tells that a guard failed, and not what its program did about it.
    "failed": (None, _BLOCK, Mode.ENFORCE),
}
"""``Verdict``, ``WouldBe`` and mode of a guardian's decision."""

_SEVERITIES: Final = {"none": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}


class Mapped(NamedTuple):
    """The rows of one span: of ``AgentActivity``, and of ``AgentContent``."""

    activity: dict[str, Any]
    contents: list[dict[str, Any]]


def rows(span: Span, sender: Sender, received: int) -> Mapped:
    """The rows of ``span``, which came in at ``received`` (Unix nanoseconds). Takes any span; raises nothing."""
    action = _action(span)
    row: dict[str, Any] = {
        "Timestamp": 0,
        "TenantId": sender.tenant,
        "ReportId": new_id("evt"),
        "ActionType": action,
        "TraceId": span.trace_id,
        "SpanId": span.span_id,
        "SourceId": sender.source_id,
        "SourceDoor": sender.door,
        "WorkerId": sender.worker_id,
        "SchemaVersion": SCHEMA_VERSION,
    }
    if span.parent_span_id:
        row["ParentSpanId"] = span.parent_span_id
    contents = _Contents(action)
    program = _program(span.resource)
    said: _Said = {}
    told = _fill(row, said, span.attributes, contents, program)
    for kind, name, value in program.held:
        contents.add(kind, f"resource.{name}", value)
    events = _events(span, contents) if span.events else []
    extra: dict[str, Any] = {}
    if span.scope in names.RUN_ID_SCOPES:
        said.pop("agent", None)
    _describe_agents(row, told, said, program.said, sender, extra)
    _describe_step(row, span, said, program.said, sender, events)
    if action == "GuardrailDecision":
        _describe_decision(row, said, events)
    _set_times(row, span, received, extra)
    about = extra["span"] = _span(span, contents)
    if span.scope:
        extra["scope"] = redact.text(span.scope)
    found = contents.rows(row, extra) if contents else []
    if len(told) > MAX_ATTRIBUTES or program.dropped or events or "links" in about:
        _limit(told, events, about.get("links", []), program.dropped, extra)
    if told:
        extra["attributes"] = told
    if events:
        extra["events"] = events
    if program.told is not None:
        extra["resource"] = program.told
    row["AdditionalFields"] = redact.as_json(extra)
    return Mapped(row, found)


def reject_rows(reject: Reject, sender: Sender, received: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of ``TelemetryRejects``, and the original as a row of ``AgentContent``. They have one ``ReportId``: there
    may be no other id to join them by."""
    common = {
        "Timestamp": received // 1000,
        "TenantId": sender.tenant,
        "ReportId": new_id("evt"),
        "TraceId": redact.text(reject.trace_id),
        "SpanId": redact.text(reject.span_id),
    }
    row = {
        **common,
        "SourceId": sender.source_id,
        "SourceDoor": sender.door,
        "Place": redact.text(reject.place),
        "Reason": redact.error(reject.reason),
        "SizeBytes": reject.size,
        "IPAddress": sender.address,
    }
    return row, {**common, "Kind": "rejected", "Content": redact.content(reject.original)}


def _action(span: Span) -> str:
    attributes = span.attributes
    for name in names.OPERATIONS:
        value = attributes.get(name)
        if type(value) is str and (action := names.ACTIONS.get(value.lower())):
            return action
    if names.MCP_METHOD in attributes:
        return "McpRequest"
    word = span.name.partition(" ")[0]
    return names.ACTIONS[word] if word in names.NAMED else "Span"


# -- attributes ---------------------------------------------------------------------------------------------------

_Said = dict[str, Any]
"""By column and role, what the attribute with the best name says: a text, but for columns that hold numbers."""


class _Attribute(NamedTuple):
    """What the name of an attribute decides. ``name`` is fit to be stored; ``parts`` are the columns and roles that it
    fills, ``columns`` the former; ``own`` is the column that it is the best name of and good for nothing else, empty if
    there is none, and ``plain`` the type that this column takes as it is."""

    name: str
    kind: str
    is_guess: bool
    care: Care
    parts: tuple[str, ...]
    columns: tuple[str, ...]
    own: str
    plain: Any


_OWNERS: Final = {name: column for column, name in names.OWN.items() if name}


class _Attributes(dict[str, _Attribute]):
    """``_attributes[name]``, of names seen before. Bounded; forgetting costs time and changes nothing."""

    _MOST = 8_192
    _LONGEST = 200

    def __missing__(self, name: str) -> _Attribute:
        kind, is_guess, care = names.place(name)
        fit, own = redact.text(name), _OWNERS.get(name, "")
        plain = int if own in names.NUMBERS else str
        if plain is str and care is not Care.USUAL:
            own = ""
        parts = names.FILLS.get(name, ())
        columns = tuple(part for part in parts if part in names.COLUMNS)
        found = _Attribute(fit, kind, is_guess, care, parts, columns, own, plain)
        if fit == name and len(name) <= self._LONGEST:
            if len(self) >= self._MOST:
                self.clear()
            self[name] = found
        return found


_attributes: Final = _Attributes()
_PLAIN: Final = frozenset({int, float, bool, type(None)})


def _sort(
    attributes: Mapping[str, Any], hold: Callable[[str, str, Any], None], *, is_program: bool = False
) -> dict[str, Any]:
    """The metadata among ``attributes``, made fit; contents go to ``hold``: kind, name and value.

    What a program says of itself (``is_program``) is no content merely because it sounds like it.
    """
    told: dict[str, Any] = {}
    renamed: set[str] = set()
    for sent, value in attributes.items():
        name, kind, is_guess, care, _, _, _, _ = _attributes[sent]
        if name != sent:
            name = redact.unique(name, {*attributes, *renamed})
            renamed.add(name)
        if kind and not (is_guess and (is_program or type(value) in _PLAIN)):
            hold(kind, name, value)
        else:
            told[name] = redact.metadata(value, care)
    return told


def _fill(
    row: dict[str, Any], said: _Said, attributes: Mapping[str, Any], contents: _Contents, program: _Program
) -> dict[str, Any]:
    """``_sort``, and fill the columns of ``conventions.COLUMNS`` and ``said`` on the way, in one go: every attribute of
    every span comes by here. Left out of the answer is what stands in its own column."""
    told: dict[str, Any] = {}
    shared: set[str] = set()
    renamed: set[str] = set()
    late: list[str] = []
    of_program, clean, usual, known, numbers = program.said, redact.clean, Care.USUAL, _attributes, names.NUMBERS
    value: Any
    for sent, value in attributes.items():
        name, kind, is_guess, care, parts, columns, own, plain = known[sent]
        if own and type(value) is plain and own not in said and own not in of_program:
            if plain is str and value not in clean:
                value = redact.text(value)
            if value != "" if plain is str else -_LONG <= value < _LONG:
                said[own] = row[own] = value
                continue
        if name != sent:
            name = redact.unique(name, {*attributes, *renamed})
            renamed.add(name)
        if kind and not (is_guess and type(value) in _PLAIN):
            contents.add(kind, name, value)
            continue
        if care is not usual or type(value) is not str or value not in clean:
            value = redact.metadata(value, care)
        told[name] = value
        if parts and value is not None and value != "":
            for part in parts:
                if part in said:
                    shared.add(part)
                else:
                    said[part] = value if type(value) is str or part in numbers else redact.as_json(value)
            late += columns
    if late or shared:
        _fill_late(row, said, told, {*late, *shared}, shared)
    for column, value in program.columns.items():
        if column not in said:
            row[column] = value
    return told


def _fill_late(
    row: dict[str, Any], said: _Said, told: dict[str, Any], parts: Iterable[str], shared: Iterable[str]
) -> None:
    """Fill columns that took more than their own attribute. What several attributes say is told in full."""
    for part in shared:
        owner = names.OWN.get(part)
        if owner and part in row:
            told.setdefault(owner, row[part])
        value = next(told[name] for name in names.ORDERS[part] if told.get(name) not in (None, ""))
        said[part] = value if part in names.NUMBERS else _string(value)
    for part in parts:
        if part in names.NUMBERS:
            number = _number(said[part])
            if number is None:
                row.pop(part, None)
            else:
                row[part] = number
        elif part in names.COLUMNS:
            row[part] = said[part]


class _Program(NamedTuple):
    """What a program says of itself: as JSON, None if it says nothing; the contents in it as (kind, name, value); what
    fills columns and roles, and those columns that it may fill for all its spans; how many attributes were dropped."""

    told: orjson.Fragment | None
    held: Sequence[tuple[str, str, Any]]
    said: _Said
    columns: Mapping[str, str]
    dropped: int


def _program(resource: Mapping[str, Any]) -> _Program:
    """The program that ``resource`` is of. Spans come in requests of many with one resource, so the last is remembered;
    it is known by its identity and kept alive, and nobody changes it once it is decoded."""
    known, program = _last_program.pair
    if resource is not known:
        program = _read_program(resource)
        _last_program.pair = (resource, program)
    return program


def _read_program(resource: Mapping[str, Any]) -> _Program:
    held: list[tuple[str, str, Any]] = []
    told = _sort(resource, lambda *content: held.append(content), is_program=True)
    said = _said_in(told)
    dropped: dict[str, int] = {}
    _limit_attributes(told, "resource", dropped)
    columns = {column: _string(said[column]) for column in names.OF_RESOURCES if column in said}
    as_json = orjson.Fragment(redact.as_json(told)) if told else None
    return _Program(as_json, held, said, columns, dropped.get("resource", 0))


def _said_in(told: dict[str, Any]) -> _Said:
    """What ``told`` says, by column and role."""
    said: _Said = {}
    shared: set[str] = set()
    for name, value in told.items():
        if value is not None and value != "":
            for part in names.FILLS.get(name, ()):
                if part in said:
                    shared.add(part)
                else:
                    said[part] = value if part in names.NUMBERS else _string(value)
    if shared:
        _fill_late({}, said, told, (), shared)
    return said


class _LastProgram:
    """Remembers one."""

    pair: tuple[Mapping[str, Any], _Program] = ({}, _Program(None, (), {}, {}, 0))


_last_program: Final = _LastProgram()


def _string(value: Any) -> str:
    return value if type(value) is str else redact.as_json(value)


def _number(value: Any) -> int | None:
    """A whole number, or what is one in writing."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and abs(value) < _LONG:
        return int(value)
    if type(value) is str and len(value) < 20 and value.isascii() and value.removeprefix("-").isdigit():
        number = int(value)
        return number if -_LONG <= number < _LONG else None
    return None


# -- columns that take thought ------------------------------------------------------------------------------------


def _describe_agents(
    row: dict[str, Any], told: dict[str, Any], said: _Said, program: _Said, sender: Sender, extra: dict[str, Any]
) -> None:
    """Who acted, for whom, and who handed over to whom: the rules are at the head of this file."""
    agent, teller = said.get("agent", ""), program.get("agent", "")
    if row["ActionType"] == "InvokeAgent":
        teller = sender.agent_id or teller
        if agent and teller and agent != teller:
            row["TargetAgentId"] = agent
            if name := said.get("AgentName", ""):
                row["TargetAgentName"] = name
            # What the span says of the agent, it says of the one that was called.
            for column in ("AgentName", "AgentVersion", "AgentBlueprintId"):
                if column in said and row.pop(column, "") and not any(n in told for n in names.COLUMNS[column]):
                    told[names.OWN[column]] = said[column]
            if name := program.get("AgentName", ""):
                row["AgentName"] = name
            agent = teller
    row["AgentId"] = agent or teller or sender.agent_id
    if "entity" in said and (column := names.ENTITY_COLUMNS.get(said.get("entity kind", "").lower(), "")):
        row.setdefault(column, said.get("entity", ""))

    user, upn = said.get("user", ""), said.get("user upn", "")
    blueprints = (said.get("AgentBlueprintId"), program.get("AgentBlueprintId"), said.get("caller's blueprint"))
    if names.HUMAN_BLUEPRINT in blueprints or said.get("execution") == names.HUMAN_EXECUTION:
        mode = ActingMode.HUMAN
    elif "agent's user" in said:
        mode, user, upn = ActingMode.AGENT, said.get("agent's user", ""), said.get("agent's user upn", "")
    elif "ParentAgentId" in row or not (user or upn):
        mode = ActingMode.AGENT
    else:
        mode = ActingMode.ON_BEHALF_OF
    row["ActingMode"] = mode.value
    if user:
        row["UserId"] = user
    if upn:
        row["AccountUpn"] = upn
    if "_" in row.get("ConversationId", "") and (handed_over := _HANDED_OVER.fullmatch(row["ConversationId"])):
        extra["handoff"] = {"parent": handed_over[1], "child": handed_over[2]}


def _describe_step(
    row: dict[str, Any],
    span: Span,
    said: _Said,
    program: _Said,
    sender: Sender,
    events: list[dict[str, Any]],
) -> None:
    row["IPAddress"] = said.get("client", "") or sender.address
    if service := program.get("service", "") or said.get("service", ""):
        row["ServiceName"] = service
    if address := said.get("server", ""):
        port = said.get("server port", "")
        host = f"[{address}]" if ":" in address else address
        row["ServerAddress"] = f"{host}:{port}" if port else address
    if names.MCP_METHOD in span.attributes:
        row.setdefault("ToolType", "mcp")
    error = said.get("error", "")
    if not error and span.status == "error":
        thrown = [_said_in(event["attributes"]).get("exception", "") for event in events]
        error = next(filter(None, reversed(thrown)), "")
    if error:
        row["ErrorType"] = error
    if error or span.status == "error":
        row["Status"] = names.OUTCOMES.get(error.rpartition(".")[2].lower(), "error")
    else:
        row["Status"] = "ok"


def _describe_decision(row: dict[str, Any], said: _Said, events: list[dict[str, Any]]) -> None:
    """What a guardian decided. ``WouldBe`` is the strictest that it or one of its policies asked for."""
    decided = _DECISIONS.get(said.get("decision", "").lower())
    findings = [
        {key.removeprefix(prefix): value for key, value in event["attributes"].items()}
        for event in events
        if (prefix := names.FINDINGS.get(event["name"]))
    ]
    policies = [_DECISIONS.get(str(f.get("policy.decision.type", "")).lower()) for f in findings]
    wanted = [found[1] for found in (decided, *policies) if found]
    would_be = max(wanted, key=lambda effect: effect.strictness, default=None)
    if decided and decided[0]:
        row["Verdict"] = decided[0].value
    if would_be:
        row["WouldBe"] = would_be.value
    if row.get("DecisionTarget") == "tool_call" and "decided on" in said:
        row.setdefault("ToolCallId", said.get("decided on", ""))
    if findings:
        gravest = max(findings, key=_gravity)
        row["RiskCategory"] = _string(gravest.get("risk.category", ""))
        row["RiskSeverity"] = _string(gravest.get("risk.severity", "")).lower()
        row["RiskScore"] = _score(gravest)
        row["Signals"] = redact.as_json(
            [
                {
                    "detector": row.get("GuardianName", ""),
                    "category": finding.get("risk.category", ""),
                    "severity": finding.get("risk.severity", ""),
                    "score": _score(finding),
                }
                for finding in findings
            ]
        )
    message = said.get("decision reason", "")
    if decided and (message or decided[1] is not Effect.ALLOW or decided[2] is Mode.AUDIT):
        reason = {
            "code": row.get("ReasonCode", ""),
            "step": "guardrail",
            "effect": decided[1].value,
            "mode": decided[2].value,
            "severity": row.get("RiskSeverity", ""),
            "message": message,
            "policy_id": row.get("PolicyId"),
            "policy_version": row.get("PolicyVersion"),
        }
        row["Reasons"] = redact.as_json([reason])


def _score(finding: Mapping[str, Any]) -> float | None:
    score = finding.get("risk.score")
    return float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None


def _gravity(finding: Mapping[str, Any]) -> tuple[int, float]:
    return _SEVERITIES.get(_string(finding.get("risk.severity", "")).lower(), -1), _score(finding) or 0.0


def _set_times(row: dict[str, Any], span: Span, received: int, extra: dict[str, Any]) -> None:
    start, end = span.start, span.end
    if 0 < start <= end <= received + _DAY:
        row["Timestamp"] = start // 1000
        row["DurationMs"] = (end - start) / 1e6
        return
    row["Timestamp"] = received // 1000
    extra["clock"] = redact.metadata({"start": start, "end": end, "used": "time of receipt"})


# -- events and links ---------------------------------------------------------------------------------------------


def _events(span: Span, contents: _Contents) -> list[dict[str, Any]]:
    """The events without their contents; those say which event they are of."""
    found = []
    for index, event in enumerate(span.events):
        told, held = _parted(event.attributes, event.name in names.CONTENT_EVENTS)
        _name_exception(told, event)
        at = {"name": redact.text(event.name), "time": redact.metadata(event.time)}
        if held:
            contents.add_part("span.events", {"index": index, **at, "attributes": held})
        found.append({**at, "attributes": told})
    return found


def _name_exception(told: dict[str, Any], event: SpanEvent) -> None:
    """Of a stack trace that comes without a message, keep its end: the exception's type and message."""
    trace = event.attributes.get("exception.stacktrace")
    if type(trace) is str and not told.get("exception.message"):
        lines = redact.without_trace(trace).splitlines()
        if lines:
            told["exception.message"] = redact.error(lines[-1])


def _span(span: Span, contents: _Contents) -> dict[str, Any]:
    """What is told of the span itself."""
    told: dict[str, Any] = {"name": redact.text(span.name), "kind": span.kind}
    if span.status == "ok":  # said so, and did not merely not fail
        told["status"] = span.status
    if span.status_message:
        told["message"] = redact.error(span.status_message)
    if span.links:
        told["links"] = [_link(index, link, contents) for index, link in enumerate(span.links)]
    return told


def _link(index: int, link: Mapping[str, Any], contents: _Contents) -> dict[str, Any]:
    told = {redact.text(name): redact.metadata(value) for name, value in link.items() if name != "attributes"}
    attributes = link.get("attributes")
    if attributes and isinstance(attributes, Mapping):
        told["attributes"], held = _parted(attributes, False)
        if held:
            contents.add_part("span.links", {"index": index, "attributes": held})
    return told


def _parted(attributes: Mapping[str, Any], is_content: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata, made fit, and contents as they came."""
    if is_content:
        return {}, {name: redact.parsed(value) for name, value in attributes.items()}
    held: dict[str, Any] = {}

    def hold(_: str, name: str, value: Any) -> None:
        held[name] = redact.parsed(value)

    return _sort(attributes, hold), held


# -- contents and limits ------------------------------------------------------------------------------------------


class _Contents:
    """The contents of one span, by kind."""

    __slots__ = ("_kinds", "_values")

    def __init__(self, action: str) -> None:
        self._kinds = names.KINDS.get(action, names.OTHER_KINDS)
        self._values: dict[str, dict[str, Any]] = {}

    def add(self, kind: str, name: str, value: Any) -> None:
        """One attribute."""
        self._values.setdefault(self._kinds.get(kind, kind), {})[name] = value

    def __bool__(self) -> bool:
        return bool(self._values)

    def add_part(self, name: str, part: dict[str, Any]) -> None:
        """What one event or link holds; all of them pass for one attribute ``name``."""
        self._values.setdefault("events", {}).setdefault(name, []).append(part)

    def rows(self, row: Mapping[str, Any], extra: dict[str, Any]) -> list[dict[str, Any]]:
        """A row for each kind, of the step that ``row`` tells of. ``extra`` is told which attributes they hold: of one,
        the content is its value, of several an object of them."""
        extra["contents"] = {kind: list(values) for kind, values in self._values.items()}
        common = {
            "Timestamp": row["Timestamp"],
            "TenantId": row["TenantId"],
            "ReportId": row["ReportId"],
            "TraceId": row["TraceId"],
            "SpanId": row["SpanId"],
            "AgentId": row["AgentId"],
        }
        if "ConversationId" in row:
            common["ConversationId"] = row["ConversationId"]
        return [{**common, "Kind": kind, "Content": redact.contents(values)} for kind, values in self._values.items()]


def _limit(
    told: dict[str, Any],
    events: list[dict[str, Any]],
    links: list[dict[str, Any]],
    of_program: int,
    extra: dict[str, Any],
) -> None:
    """Keep at most ``MAX_ATTRIBUTES`` of everything, and say how many were dropped."""
    dropped = {"resource": of_program} if of_program else {}
    for name, parts in (("events", events), ("links", links)):
        if len(parts) > MAX_ATTRIBUTES:
            dropped[name] = len(parts) - MAX_ATTRIBUTES
            del parts[MAX_ATTRIBUTES:]
    _limit_attributes(told, "attributes", dropped)
    for event in events:
        _limit_attributes(event["attributes"], "attributes of events", dropped)
    for link in links:
        _limit_attributes(link.get("attributes", {}), "attributes of links", dropped)
    if dropped:
        extra["dropped"] = dropped


def _limit_attributes(told: dict[str, Any], name: str, dropped: dict[str, int]) -> None:
    if len(told) > MAX_ATTRIBUTES:
        dropped[name] = dropped.get(name, 0) + len(told) - MAX_ATTRIBUTES
        for key in list(told)[MAX_ATTRIBUTES:]:
            del told[key]
