"""Is it alive, is it ready, how much does it do? For load balancers and Prometheus, without a sign-in.

Only aggregates of the process itself leave here: no names, and no count that tells how many alerts of which severity
there are.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from watchfloor import __version__
from watchfloor.detection import custom_rules
from watchfloor.detection.rules import shipped
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.portal.auth import PUBLIC, Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.storage import rules

router = APIRouter(tags=["health"])

_LATE = 5
"""A job is late after so many of its intervals, and at least a minute."""


class Counts:
    """Requests by method, route and status; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """One more request."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds[method, route] += seconds

    def lines(self) -> Iterator[str]:
        """In Prometheus' text format."""
        with self._lock:
            requests, seconds = dict(self._requests), dict(self._seconds)
        yield "# HELP watchfloor_http_requests_total Requests answered."
        yield "# TYPE watchfloor_http_requests_total counter"
        for (method, route, status), count in sorted(requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            yield f"watchfloor_http_requests_total{{{labels}}} {count}"
        yield "# HELP watchfloor_http_request_seconds_total Time spent on answers."
        yield "# TYPE watchfloor_http_request_seconds_total counter"
        for (method, route), spent in sorted(seconds.items()):
            yield f'watchfloor_http_request_seconds_total{{method="{method}",route="{route}"}} {spent:.6f}'


class Check(BaseModel):
    """One thing that must work."""

    name: str
    ok: bool
    detail: str = ""


class Readiness(BaseModel):
    """Whether this server can do its work, and what keeps it; details only for who is signed in."""

    ready: bool
    checks: list[Check]


def _rule_lines(deps: PortalDeps) -> Iterator[str]:
    """How many rules are on, and what those in KQL cost, all together; rule by rule it is at ``/api/rules``."""
    try:
        with deps.control.read() as tx:
            known, off = list(rules.states(tx).values()), len(rules.switched_off(tx))
            every = len(custom_rules.shipped_ids(shipped())) + len(rules.custom_rules(tx))
    except WatchfloorError:
        return
    yield "# HELP watchfloor_rules Detection rules, by whether they are switched on."
    yield "# TYPE watchfloor_rules gauge"
    yield f'watchfloor_rules{{enabled="yes"}} {every - off}'
    yield f'watchfloor_rules{{enabled="no"}} {off}'
    yield "# HELP watchfloor_rule_runs_total Runs of detection rules in KQL."
    yield "# TYPE watchfloor_rule_runs_total counter"
    yield f"watchfloor_rule_runs_total {sum(state.runs for state in known)}"
    yield "# HELP watchfloor_rule_seconds_total Time spent on them."
    yield "# TYPE watchfloor_rule_seconds_total counter"
    yield f"watchfloor_rule_seconds_total {sum(state.total_ms for state in known) / 1000:.6f}"


def _check(name: str, question: Any) -> Check:
    try:
        return Check(name=name, ok=True, detail=str(question() or ""))
    except WatchfloorError as error:
        return Check(name=name, ok=False, detail=str(error))


def _ask_control(deps: PortalDeps) -> str:
    with deps.control.read() as tx:
        return f"revision {tx.revision}"


def checks(deps: PortalDeps) -> list[Check]:
    """Control state, event store, audit, and every job."""
    found = [
        _check("control", lambda: _ask_control(deps)),
        _check("events", lambda: f"position {deps.activity.newest_seq()}"),
    ]
    problem = deps.control.audit_problem
    found.append(Check(name="audit", ok=problem is None, detail=problem or ""))
    now = deps.now()
    for job in deps.jobs():
        allowed = timedelta(seconds=max(60.0, _LATE * job.every_seconds))
        late = job.last_success is not None and now - job.last_success > allowed
        detail = job.last_error or ("is late" if late else "")
        found.append(Check(name=f"job {job.name}", ok=not job.last_error and not late, detail=detail))
    return found


@router.get("/healthz", dependencies=[PUBLIC], summary="Alive")
async def alive() -> dict[str, str]:
    """Answers as long as the process can."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz", dependencies=[PUBLIC], summary="Ready", responses={503: {"model": Readiness}})
def ready(deps: Deps, response: Response) -> Readiness:
    """503 while control state or the event store does not answer. A failing job is shown, but no reason to restart."""
    found = _readiness(deps)
    if not found.ready:
        response.status_code = 503
    # A detail may name a file or a host: nothing for strangers.
    return Readiness(ready=found.ready, checks=[Check(name=c.name, ok=c.ok) for c in found.checks])


@router.get("/api/health", summary="Ready, with the details")
def health(viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)], deps: Deps) -> Readiness:
    """What /readyz says, and why."""
    return _readiness(deps)


def _readiness(deps: PortalDeps) -> Readiness:
    found = checks(deps)
    return Readiness(ready=all(c.ok for c in found if c.name in ("control", "events")), checks=found)


@router.get("/metrics", dependencies=[PUBLIC], summary="Prometheus metrics", response_class=Response)
def metrics(request: Request, deps: Deps) -> Response:
    """Text format 0.0.4."""
    counts: Counts = request.app.state.counts
    lines = list(counts.lines())
    lines += ["# HELP watchfloor_up Whether a part works.", "# TYPE watchfloor_up gauge"]
    lines += [f'watchfloor_up{{part="{c.name}"}} {int(c.ok)}' for c in checks(deps)]
    lines += ["# HELP watchfloor_job_runs_total Runs of background jobs.", "# TYPE watchfloor_job_runs_total counter"]
    for job in deps.jobs():
        lines.append(f'watchfloor_job_runs_total{{job="{job.name}",result="ok"}} {job.runs - job.failures}')
        lines.append(f'watchfloor_job_runs_total{{job="{job.name}",result="failed"}} {job.failures}')
    lines += _rule_lines(deps)
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")
