"""Responses as parts of pages: steps with their evidence, and what can be done about them.

Made from the same views as the API. Nothing here looks anything up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from watchfloor.model.people import Permission
from watchfloor.model.sagas import Outcome, SagaStatus, StepState
from watchfloor.portal.auth import Viewer
from watchfloor.portal.html import Child, Html, h
from watchfloor.portal.layout import badge, csrf, moment, path
from watchfloor.portal.response_views import ResponseView, RunView, StepView
from watchfloor.response.catalog import ACTIONS
from watchfloor.response.plans import PLANS

_TONES: Final[Mapping[str, tuple[str, str]]] = {
    StepState.WAITING: ("Waits for approval", "medium"),
    StepState.PENDING: ("To be done", "plain"),
    StepState.RUNNING: ("Under way", "plain"),
    StepState.DONE: ("Done", "good"),
    StepState.FAILED: ("Failed", "high"),
    StepState.SKIPPED: ("Skipped", "grey"),
    SagaStatus.DECLINED: ("Declined", "grey"),
    SagaStatus.EXPIRED: ("Expired", "grey"),
}


def state_badge(state: str) -> Html:
    """Where a response or a step stands."""
    text, tone = _TONES[state]
    return badge(text, tone)


def act_link(action: str, subject: str, incident_id: str | None, label: str, *, danger: bool = False) -> Html:
    """A button that leads to an action's page."""
    query = f"?subject={path(subject)[1:]}" + (f"&incident={path(incident_id)[1:]}" if incident_id else "")
    return h("a", f"{label} …", href=path("act", action) + query, cls="button danger" if danger else "button small")


_NAMES: Final = {
    "user_epoch": "epoch",
    "agent_epoch": "epoch",
    "sign_ins_count_from": "sign-ins count from",
    "must_reset_password": "new password due",
    "mail_to": "mail to",
}
"""Names of evidence that do not read well as they are."""

_YES_NO: Final = {"true": "yes", "false": "no"}
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


def _name(name: str) -> str:
    return _NAMES.get(name) or name.removeprefix("provider_").replace("_", " ")


def _value(value: object) -> Child:
    """A value of evidence, as people say it; connectors send text alone."""
    said = str(value)
    return moment(said) if _TIME.fullmatch(said) else _YES_NO.get(said.lower(), said)


def _said(evidence: Mapping[str, Any]) -> list[tuple[str, Child]]:
    """Evidence as pairs; what was read back says whether it shows what was asked for."""
    pairs: list[tuple[str, Child]] = []
    for name, value in evidence.items():
        if isinstance(value, Mapping) and "says" in value:
            shown = value.get("shown")
            mark = (
                badge("Shown", "good")
                if shown
                else badge("Not said", "grey")
                if shown is None
                else badge("Not so", "high")
            )
            pairs.append((_name(name), [mark, f" {value['says']}"]))
        elif isinstance(value, Mapping):
            inner = [(", " if n else "", f"{_name(k)}: ", _value(v)) for n, (k, v) in enumerate(value.items())]
            pairs.append((_name(name), inner or "nothing"))
        elif value is not None:
            pairs.append((_name(name), _value(value)))
    return pairs


def _step(viewer: Viewer, view: ResponseView, step: StepView) -> Html:
    may_retry = (
        step.state in (StepState.FAILED, StepState.SKIPPED)
        and view.outcome is Outcome.OPEN
        and view.status in (SagaStatus.RUNNING, SagaStatus.DONE, SagaStatus.FAILED)
        and {Permission.RESPONSE_DECIDE, PLANS[view.kind].permission} <= viewer.permissions
    )
    tried = f" · tried {step.attempts} times" if step.attempts > 1 else ""
    return h(
        "li",
        h("div", state_badge(step.state), h("strong", step.title), cls="line"),
        h("p", step.error, cls="note") if step.error else None,
        h("p", "Next try ", moment(step.next_try_at), tried, cls="note")
        if step.next_try_at and step.attempts
        else h("p", moment(step.finished_at), tried, cls="note")
        if step.finished_at
        else None,
        h("dl", [(h("dt", name), h("dd", value)) for name, value in _said(step.evidence)], cls="entities")
        if step.evidence
        else None,
        act_link("retry_response_step", f"{view.id}/{step.name}", None, "Try again") if may_retry else None,
    )


def response_part(viewer: Viewer, view: ResponseView, *, is_headed: bool = True) -> Html:
    """A response with every step, and buttons for whoever may decide about it. ``is_headed``: under its name, which
    leads to its own page.
    """
    decides = {Permission.RESPONSE_DECIDE, PLANS[view.kind].permission} <= viewer.permissions
    buttons = (
        [
            act_link("approve_response", view.id, None, "Approve", danger=True)
            if viewer.id != view.opened_by
            else None,
            act_link("decline_response", view.id, None, "Decline"),
        ]
        if view.status is SagaStatus.WAITING and decides
        else []
    )
    title = h("h3", h("a", view.title, href=path("responses", view.id)), " ", h("code", view.subject_id))
    decided = (
        f", {view.status.value if view.status in _TONES else 'approved'} by {view.decided_by}"
        if view.decided_by
        else ""
    )
    ended = f" · {view.outcome.value}" if view.outcome is not Outcome.OPEN else ""
    return h(
        "article",
        h("div", state_badge(view.status), title if is_headed else None, cls="line"),
        h("p", f"By {view.opened_by}, ", moment(view.created_at), f"{decided}{ended}: {view.reason}", cls="note"),
        h("p", f"Needs a second operator: {'; '.join(view.needs_approval)}. Until ", moment(view.approve_by), ".")
        if view.status is SagaStatus.WAITING
        else None,
        h("div", buttons, cls="buttons") if buttons else None,
        h("ol", [_step(viewer, view, step) for step in view.steps], cls="alerts"),
    )


def response_parts(viewer: Viewer, views: Sequence[ResponseView]) -> list[Html]:
    """Several responses, newest first."""
    return [response_part(viewer, view) for view in views]


def proposals(viewer: Viewer, runs: Sequence[RunView]) -> list[Html]:
    """What playbooks propose, with a button that does it and one that declines it."""
    return [_proposal(viewer, run) for run in runs if run.status == "proposed"]


def _proposal(viewer: Viewer, run: RunView) -> Html:
    proposed = [item for item in run.items if item.state == "proposed"]
    may = {Permission.INCIDENT_TRIAGE, *(ACTIONS[i.action].permission for i in proposed if i.action in ACTIONS)}
    form = h(
        "form",
        csrf(viewer),
        h("button", "Do it", type="submit", name="answer", value="accept", cls="danger"),
        h("button", "Decline", type="submit", name="answer", value="decline", cls="quiet"),
        method="post",
        action=path("proposals", run.id),
        cls="inline",
    )
    return h(
        "article",
        h("h3", f"Playbook {run.playbook_id}"),
        h(
            "ul",
            [
                h("li", f"{item.title}: ", h("code", item.subject_id), f" ({item.note})" if item.note else None)
                for item in proposed
            ],
            cls="advice",
        ),
        form if may <= viewer.permissions else h("p", "You may not do this yourself; ask a colleague.", cls="note"),
    )
