"""Detection rules: what there is and how it fares, rules that operators write, trials, backtests, suppressions.

Above ``detection.custom_rules``, which lets nothing unchecked in. A backtest is a run like a hunt's: it is watched,
cancelled and paged through at ``/api/hunting/runs``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from watchfloor.detection import custom_rules, kql_trial
from watchfloor.detection.backtest import MOST_DAYS, backtest_of
from watchfloor.detection.kql_evaluate import Evaluator
from watchfloor.detection.kql_rule import KqlRule, Prepared, prepare
from watchfloor.detection.rules import AnyRule, SessionRule, shipped
from watchfloor.model.cases import EntityKind
from watchfloor.model.errors import Conflict, InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.hunting import RunView, request_for, run_view, scope_of
from watchfloor.storage import rules
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.rules import CustomRule, RuleState, Suppression
from watchfloor.storage.tables import TABLES

router = APIRouter(prefix="/api/rules", tags=["rules"])
suppressing = APIRouter(prefix="/api/suppressions", tags=["rules"])

RuleBody = Annotated[dict[str, Any], Body(description="The rule, as its YAML file would say it: docs/detections.md.")]
_SECONDS: Final = 60.0
_LONGEST: Final = timedelta(days=731)


class CostView(BaseModel):
    """What a rule in KQL costs and finds. Times are milliseconds."""

    runs: int
    rows: int
    hits: int
    total_ms: float
    last_ms: float
    last_run_at: datetime | None
    last_error: str
    note: str


class RuleView(BaseModel):
    """A rule. ``kind``: steps, session, near-real-time or scheduled; ``reason``: why it is switched off."""

    id: str
    title: str
    description: str
    kind: str
    severity: str
    tactic: str
    techniques: list[str]
    blind_spots: str
    is_custom: bool
    is_enabled: bool
    reason: str
    cost: CostView | None


class RuleDetailView(RuleView):
    """A rule with its body, as its file would say it."""

    body: dict[str, Any]
    updated_at: datetime | None
    updated_by: str


class Rules(BaseModel):
    """Rules, by id."""

    items: list[RuleView]


class Switch(BaseModel):
    """Why a rule is switched."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=rules.LONGEST_TEXT)


class TestBody(BaseModel):
    """A rule, and rows (table name to rows) to try it on; without rows, its own tests are run."""

    model_config = ConfigDict(extra="forbid")

    rule: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]] | None = None
    now: datetime | None = Field(default=None, description="From 1970 to 9000; without a zone it is UTC.")

    @field_validator("now")
    @classmethod
    def _in_calendar(cls, value: datetime | None) -> datetime | None:
        if value is not None and not 1970 <= value.year <= 9000:
            raise ValueError("is not from 1970 to 9000")
        return value


class FoundView(BaseModel):
    """An alert that a trial gave."""

    title: str
    description: str
    severity: str
    count: int
    first_activity: datetime
    last_activity: datetime
    entities: list[dict[str, str]]


class TrialView(BaseModel):
    """One example: what it gave, and how that differs from what was expected."""

    name: str
    ok: bool
    faults: list[str]
    alerts: list[FoundView]


class TestView(BaseModel):
    """``faults``: what is wrong with the rule itself; then nothing was tried."""

    ok: bool
    faults: list[str]
    trials: list[TrialView]


class BacktestBody(BaseModel):
    """A rule, and over how many of the last days to try it."""

    model_config = ConfigDict(extra="forbid")

    rule: dict[str, Any]
    days: int = Field(default=7, ge=1, le=MOST_DAYS)


class SuppressionBody(BaseModel):
    """Which alerts to resolve as they are raised, why and until when. Empty rule: of all; no entity: about anything."""

    model_config = ConfigDict(extra="forbid")

    rule_id: str = Field(default="", max_length=200)
    entity_kind: EntityKind | None = None
    entity_id: str = Field(default="", max_length=300)
    reason: str = Field(min_length=1, max_length=rules.LONGEST_TEXT)
    expires_at: AwareDatetime


class SuppressionView(BaseModel):
    """A suppression. ``is_active``: it has not expired."""

    id: str
    rule_id: str
    entity_kind: str
    entity_id: str
    reason: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    is_active: bool


class Suppressions(BaseModel):
    """Suppressions, newest first."""

    items: list[SuppressionView]


# -- reading ----------------------------------------------------------------------------------------------------------


@router.get("", summary="Detection rules")
def list_rules(viewer: Annotated[Viewer, permit(Permission.POLICY_READ)], deps: Deps) -> Rules:
    """All of them, of every kind, with their state, what they cost and how often they hit."""
    with deps.control.read() as tx:
        known, custom = rules.states(tx), rules.custom_rules(tx)
    every: list[AnyRule | KqlRule] = [*shipped().rules, *shipped().sessions, *shipped().kql]
    items = [_view(rule, known.get(rule.id)) for rule in every]
    items += [_view(rule, known.get(rule.id), is_custom=True) for rule in map(_read, custom) if rule]
    return Rules(items=sorted(items, key=lambda view: view.id))


@router.get("/{rule_id}", summary="One rule")
def read_rule(rule_id: str, viewer: Annotated[Viewer, permit(Permission.POLICY_READ)], deps: Deps) -> RuleDetailView:
    """With its body."""
    return _detail(deps, rule_id)


# -- writing ----------------------------------------------------------------------------------------------------------


@router.post("", status_code=201, summary="Create a rule")
def create_rule(
    body: RuleBody, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps
) -> RuleDetailView:
    """Checked, its own tests run; it sees what arrives from now on. Every fault is told at once."""
    return _save(deps, viewer, body, create=True)


@router.put("/{rule_id}", summary="Change a rule")
def update_rule(
    rule_id: str, body: RuleBody, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps
) -> RuleDetailView:
    """Of an operator's; it goes on from where it stands. Those of the product can only be switched."""
    if body.get("id", rule_id) != rule_id:
        raise InputError(f"the rule says it is {body['id']!r}.", where="id", remedy=f"Write {rule_id!r}.")
    return _save(deps, viewer, {**body, "id": rule_id}, create=False)


@router.delete("/{rule_id}", status_code=204, summary="Delete a rule")
def delete_rule(rule_id: str, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps) -> None:
    """Of an operator's; its alerts stay."""
    if rule_id in custom_rules.shipped_ids(shipped()):
        raise Conflict("the product's rules cannot be deleted.", where="rule", remedy="Disable it.")
    with deps.control.tx(viewer.id) as tx:
        rules.delete_custom_rule(tx, rule_id)


@router.post("/{rule_id}/enable", summary="Switch a rule on")
def enable_rule(
    rule_id: str, body: Switch, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps
) -> RuleDetailView:
    """It goes on with what arrives from now on, a scheduled one with the spans that it missed."""
    rule, _ = _find(deps, rule_id)
    newest = None
    if isinstance(rule, KqlRule):
        prepared, faults = prepare(rule, deps.hunter.schema())
        if prepared is None:
            raise InputError("\n".join(faults), where=rule_id)
        newest = _newest(deps, prepared) if rule.is_near_real_time else None
    elif isinstance(rule, SessionRule):
        newest = deps.activity.newest_seq()
    with deps.control.tx(viewer.id) as tx:
        rules.begin(tx, RuleState(rule_id))
        was_off = not rules.states(tx)[rule_id].is_enabled
        rules.set_enabled(tx, rule_id, True, body.reason, newest if was_off else None)
    deps.nudge("run_rules")
    return _detail(deps, rule_id)


@router.post("/{rule_id}/disable", summary="Switch a rule off")
def disable_rule(
    rule_id: str, body: Switch, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps
) -> RuleDetailView:
    """Of whichever kind. It raises nothing until it is switched on again; what it has raised stays."""
    if not body.reason:
        raise InputError("a rule that is switched off needs a reason.", where="reason")
    _find(deps, rule_id)
    with deps.control.tx(viewer.id) as tx:
        rules.begin(tx, RuleState(rule_id))
        rules.set_enabled(tx, rule_id, False, body.reason)
    return _detail(deps, rule_id)


# -- trying -----------------------------------------------------------------------------------------------------------


@router.post("/test", summary="Try a rule on rows")
def test_rule(body: TestBody, viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> TestView:
    """Every fault of the rule, or what it raises about given rows, or how its own tests come out. Nothing is stored."""
    schema = deps.hunter.schema()
    prepared, faults = custom_rules.check(body.rule, schema)
    if prepared is None:
        return TestView(ok=False, faults=faults, trials=[])
    if body.rows is None:
        trials = [kql_trial.try_example(prepared, example, schema) for example in prepared.rule.tests]
    else:
        trials = [kql_trial.Trial("given", kql_trial.find(prepared, body.rows, body.now, schema).drafts, ())]
    views = [
        TrialView(
            name=trial.name,
            ok=trial.is_passed,
            faults=list(trial.faults),
            alerts=[
                FoundView(
                    title=d.title,
                    description=d.description,
                    severity=d.severity.value,
                    count=d.detail["count"],
                    first_activity=d.first_activity,
                    last_activity=d.last_activity,
                    entities=[{"kind": e.kind.value, "id": e.id, "role": e.role.value} for e in d.entities],
                )
                for d in trial.drafts
            ],
        )
        for trial in trials
    ]
    return TestView(ok=all(trial.is_passed for trial in trials), faults=[], trials=views)


@router.post("/backtest", status_code=202, summary="Try a rule on the past days")
def backtest_rule(body: BacktestBody, viewer: Annotated[Viewer, permit(Permission.HUNT_RUN)], deps: Deps) -> RunView:
    """Begins a run; watch, cancel and page through it at ``/api/hunting/runs``. Its rows are the alerts."""
    prepared = custom_rules.checked(body.rule, deps.hunter.schema())
    limits = Limits(timeout_seconds=_SECONDS, max_rows=kql_trial.MOST_ROWS + 1)
    asked = request_for(deps, viewer, prepared.rule.query, door="backtest", timespan=None, limits=limits)
    visible = scope_of(deps, viewer).tables
    hidden = sorted(prepared.tables - visible) if visible is not None else []
    if hidden:
        raise InputError(f"you may not read {', '.join(hidden)}.", where="query")
    return run_view(deps.hunts.start(backtest_of(asked, prepared, body.days, deps.now()), viewer.id))


# -- suppressions -----------------------------------------------------------------------------------------------------


@suppressing.get("", summary="Suppressions")
def list_suppressions(viewer: Annotated[Viewer, permit(Permission.POLICY_READ)], deps: Deps) -> Suppressions:
    """Those in force and those that have expired."""
    with deps.control.read() as tx:
        return Suppressions(items=[_suppression(found, tx.now) for found in rules.suppressions(tx)])


@suppressing.post("", status_code=201, summary="Suppress alerts")
def add_suppression(
    body: SuppressionBody, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps
) -> SuppressionView:
    """From now on: alerts are stored, resolved with the reason, and open no incident."""
    if bool(body.entity_kind) is not bool(body.entity_id):
        raise InputError("an entity is a kind and an id.", where="entity_id", remedy="Give both, or neither.")
    if not body.rule_id and not body.entity_id:
        raise InputError("this would suppress every alert.", where="rule_id", remedy="Name a rule, an entity or both.")
    with deps.control.tx(viewer.id) as tx:
        if body.expires_at <= tx.now:
            raise InputError("this time is over.", where="expires_at", remedy="Choose one to come.")
        if body.expires_at - tx.now > _LONGEST:
            message = f"a suppression lasts {_LONGEST.days} days at most."
            raise InputError(message, where="expires_at", remedy="Look at it again then.")
        known = custom_rules.shipped_ids(shipped()) | {rule.id for rule in rules.custom_rules(tx)}
        if body.rule_id and body.rule_id not in known:
            raise NotFound(f"there is no rule {body.rule_id!r}.", where="rule_id")
        added = rules.add_suppression(
            tx,
            rule_id=body.rule_id,
            entity_kind=body.entity_kind.value if body.entity_kind else "",
            entity_id=body.entity_id,
            reason=body.reason,
            expires_at=body.expires_at,
        )
        return _suppression(added, tx.now)


@suppressing.delete("/{suppression_id}", status_code=204, summary="End a suppression")
def end_suppression(
    suppression_id: str, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps
) -> None:
    """What it resolved stays resolved."""
    with deps.control.tx(viewer.id) as tx:
        rules.delete_suppression(tx, suppression_id)


# -- parts ------------------------------------------------------------------------------------------------------------


def _read(stored: CustomRule) -> KqlRule | None:
    try:
        return KqlRule.model_validate(stored.body)
    except ValueError:
        return None


def _kind(rule: AnyRule | KqlRule) -> str:
    if isinstance(rule, KqlRule):
        return rule.kind
    return "session" if isinstance(rule, SessionRule) else "steps"


def _view(rule: AnyRule | KqlRule, state: RuleState | None, *, is_custom: bool = False) -> RuleView:
    cost = None
    if state is not None and isinstance(rule, KqlRule):
        cost = CostView(
            runs=state.runs,
            rows=state.rows,
            hits=state.hits,
            total_ms=state.total_ms,
            last_ms=state.last_ms,
            last_run_at=state.last_run_at,
            last_error=state.last_error,
            note=state.note,
        )
    return RuleView(
        id=rule.id,
        title=rule.title,
        description=rule.description,
        kind=_kind(rule),
        severity=str(rule.severity),
        tactic=rule.tactic,
        techniques=list(rule.techniques),
        blind_spots=rule.blind_spots,
        is_custom=is_custom,
        is_enabled=state is None or state.is_enabled,
        reason=state.reason if state is not None and not state.is_enabled else "",
        cost=cost,
    )


def _detail(deps: PortalDeps, rule_id: str) -> RuleDetailView:
    rule, stored = _find(deps, rule_id)
    with deps.control.read() as tx:
        state = rules.states(tx).get(rule_id)
    body = dict(stored.body) if stored is not None else rule.model_dump(mode="json", exclude_defaults=True)
    return RuleDetailView(
        **_view(rule, state, is_custom=stored is not None).model_dump(),
        body=body,
        updated_at=stored.updated_at if stored is not None else None,
        updated_by=stored.updated_by if stored is not None else "",
    )


def _newest(deps: PortalDeps, prepared: Prepared) -> int:
    evaluator = Evaluator(deps.hunter, Scope(tenants=(deps.tenant,)))
    return max((evaluator.newest(table) for table in prepared.tables), default=0)


def _save(deps: PortalDeps, viewer: Viewer, body: dict[str, Any], *, create: bool) -> RuleDetailView:
    schema = deps.hunter.schema()
    prepared = custom_rules.checked(body, schema)
    contents = sorted(name for name in prepared.tables if name in TABLES and TABLES[name].is_content)
    if contents:
        message = f"{', '.join(contents)} holds contents, and alerts are read by people who may not read those."
        raise InputError(message, where="query", remedy="Ask of other tables.")
    failed = [t for e in prepared.rule.tests if not (t := kql_trial.try_example(prepared, e, schema)).is_passed]
    if failed:
        told = "\n".join(f"tests: {t.name}: {fault}" for t in failed for fault in t.faults)
        raise InputError(told, where=prepared.rule.id)
    newest = _newest(deps, prepared)
    with deps.control.tx(viewer.id) as tx:
        if not create and rules.find_custom_rule(tx, prepared.rule.id) is None:
            if prepared.rule.id in custom_rules.shipped_ids(shipped()):
                raise Conflict(
                    "the product's rules cannot be changed.", where="rule", remedy="Disable it, write your own."
                )
            raise NotFound(f"there is no custom rule {prepared.rule.id!r}.", where="rule")
        custom_rules.save(tx, prepared, body, shipped(), newest=newest, create=create)
    return _detail(deps, prepared.rule.id)


def _find(deps: PortalDeps, rule_id: str) -> tuple[AnyRule | KqlRule, CustomRule | None]:
    """A rule of any kind, and how it is stored if an operator wrote it. Raises ``NotFound``."""
    with deps.control.read() as tx:
        stored = rules.find_custom_rule(tx, rule_id)
    own = _read(stored) if stored is not None else None
    every: list[AnyRule | KqlRule] = [*shipped().rules, *shipped().sessions, *shipped().kql]
    rule = own or next((r for r in every if r.id == rule_id), None)
    if rule is None:
        raise NotFound(f"there is no rule {rule_id!r}.", where="rule")
    return rule, stored


def _suppression(found: Suppression, now: datetime) -> SuppressionView:
    return SuppressionView(
        id=found.id,
        rule_id=found.rule_id,
        entity_kind=found.entity_kind,
        entity_id=found.entity_id,
        reason=found.reason,
        created_at=found.created_at,
        created_by=found.created_by,
        expires_at=found.expires_at,
        is_active=found.expires_at > now,
    )
