"""The frame of every page and the parts that pages share: badges, tables, times, forms.

Above ``html``. It knows how things look, not where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from fastapi.responses import HTMLResponse

from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer
from watchfloor.portal.html import Child, Html, document, h

_NAVIGATION: Final = (
    ("/", "Overview", Permission.PORTAL_USE),
    ("/incidents", "Incidents", Permission.ALERT_READ_SERIOUS),
    ("/agents", "Agents", Permission.AGENT_READ),
    ("/holds", "Holds", Permission.PORTAL_USE),
    ("/responses", "Responses", Permission.ALERT_READ),
    ("/access", "Access", Permission.ACCESS_READ),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; ``numeric`` ones stand right, ``wide`` ones take what is left."""

    title: str
    numeric: bool = False
    wide: bool = False


def path(*parts: str) -> str:
    """An address of ours, its parts escaped."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def shell(viewer: Viewer, title: str, *content: Child, here: str = "") -> HTMLResponse:
    """A page for somebody who is signed in."""
    links = [
        h("a", label, href=href, aria_current="page" if href == here else None)
        for href, label, permission in _NAVIGATION
        if permission in viewer.permissions
    ]
    session = viewer.session
    bar = h(
        "header",
        h(
            "div",
            h("a", h("span", cls="mark", aria_hidden="true"), "Watchfloor", href="/", cls="brand"),
            h("nav", links, aria_label="Main"),
            h(
                "form",
                h(
                    "a",
                    session.operator.name,
                    href="/account",
                    cls="who",
                    title=", ".join(sorted(session.operator.roles)),
                ),
                csrf(viewer),
                h("button", "Sign out", type="submit", cls="quiet"),
                method="post",
                action="/signout",
            ),
            cls="bar",
        ),
    )
    return HTMLResponse(
        document(
            f"{title} · Watchfloor",
            h("a", "Skip to content", href="#content", cls="skip"),
            bar,
            h("main", *content, id="content", tabindex="-1"),
        )
    )


def small_page(title: str, *content: Child, status: int = 200) -> HTMLResponse:
    """A page for somebody who is not signed in: one card in the middle."""
    brand = h("p", h("span", cls="mark", aria_hidden="true"), "Watchfloor", cls="brand")
    return HTMLResponse(
        document(
            f"{title} · Watchfloor", h("main", brand, h("div", h("h1", title), *content, cls="card"), cls="small")
        ),
        status_code=status,
    )


def csrf(viewer: Viewer) -> Html:
    """The field that makes a form this session's own."""
    return h("input", type="hidden", name="csrf", value=viewer.session.csrf_token)


def badge(text: str, tone: str = "") -> Html:
    """A short state: severity, verdict, state of an agent. Its colour only repeats what it says."""
    return h("span", _WORDS.get(text, text), cls=f"badge {tone or _TONES.get(text, 'grey')}")


_TONES: Final = {
    "critical": "critical", "high": "high", "medium": "medium", "low": "low",
    "block": "high", "hold": "medium", "allow": "good", "redact": "low",
    "published": "good", "blocked": "high", "draft": "grey", "submitted": "medium", "retired": "grey",
    "active": "plain", "inProgress": "plain", "resolved": "good", "new": "plain", "redirected": "plain",
}  # fmt: skip
_WORDS: Final = {
    "inProgress": "In progress", "truePositive": "True positive", "falsePositive": "False positive",
    "informationalExpectedActivity": "Expected activity", "block": "Blocked", "hold": "Held", "allow": "Allowed",
    "redact": "Redacted", "critical": "Critical", "high": "High", "medium": "Medium", "low": "Low",
    "informational": "Info", "published": "Published", "blocked": "Blocked", "draft": "Draft", "active": "Active",
    "submitted": "Submitted", "retired": "Retired", "resolved": "Resolved", "new": "New", "unknown": "Not set",
    "redirected": "Merged",
}  # fmt: skip


def word(text: str) -> str:
    """A state in words."""
    return _WORDS.get(text, text)


def moment(at: datetime | str | None) -> Child:
    """A time in UTC, to the second."""
    if not at:
        return "not yet"
    when = (datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone(UTC)
    return h("time", f"{when:%Y-%m-%d %H:%M:%S}", datetime=when.isoformat(), title="UTC")


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Child]], empty: str) -> Html:
    """A table with a heading that screen readers hear, or a sentence if there is nothing in it."""
    if not rows:
        return h("p", empty, cls="empty")
    kinds = ["num" if c.numeric else "wide" if c.wide else "" for c in columns]
    return h(
        "div",
        h(
            "table",
            h("caption", caption, cls="hidden"),
            h("thead", h("tr", [h("th", c.title, scope="col", cls=k) for c, k in zip(columns, kinds, strict=True)])),
            h("tbody", [h("tr", [h("td", c, cls=k) for c, k in zip(r, kinds, strict=True)]) for r in rows]),
        ),
        cls="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def section(title: str, *content: Child, note: str = "", cls: str = "") -> Html:
    """A part of a page under its own heading."""
    heading = h("h2", title)
    return h("section", h("div", heading, h("span", note, cls="note") if note else None, cls="head"), *content, cls=cls)


def field(
    label: str, name: str, *, type: str = "text", value: str = "", hint: str = "", autocomplete: str = "off",
    autofocus: bool = False, minlength: int | None = None, required: bool = True, inputmode: str | None = None,
) -> Html:  # fmt: skip
    """A labelled input; its hint is read with it."""
    return h(
        "div",
        h("label", label, for_=name),
        h(
            "input", id=name, name=name, type=type, value=value, required=required, autocomplete=autocomplete,
            autofocus=autofocus, minlength=minlength, inputmode=inputmode,
            aria_describedby=f"{name}-hint" if hint else None,
        ),
        h("p", hint, id=f"{name}-hint", cls="hint") if hint else None,
        cls="field",
    )  # fmt: skip


def alarm(message: str) -> Html:
    """What went wrong, where a screen reader says it at once."""
    return h("p", message, role="alert", cls="alarm")
