"""HTML as values: everything is escaped unless it was built here.

``h("p", "5 < 6", cls="note")`` gives ``<p class="note">5 &lt; 6</p>``. There are no templates, so there is no way to
put text into a page that is not escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final, TypeAlias

Attribute: TypeAlias = "str | int | bool | None"
Child: TypeAlias = "str | int | Html | Iterable[Child] | None"

_VOID: Final = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Html(str):
    """Text that is HTML already. Only this module makes it."""

    __slots__ = ()


def _render(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return str(child)
    if isinstance(child, str | int):
        return escape(str(child))
    return "".join(_render(c) for c in child)


def h(tag: str, *children: Child, cls: str = "", **attributes: Attribute) -> Html:
    """An element. ``cls`` is its class; in other names ``_`` stands for ``-`` and one at the end is dropped.

    True gives an attribute without a value; None and False leave it out.
    """
    parts = [tag]
    if cls:
        parts.append(f'class="{escape(cls)}"')
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        parts.append(name if value is True else f'{name}="{escape(str(value))}"')
    start = f"<{' '.join(parts)}>"
    return Html(start if tag in _VOID else f"{start}{_render(children)}</{tag}>")


def picture(svg: str) -> Html:
    """An SVG element that a library has drawn: the only HTML that comes from elsewhere."""
    return Html(svg)


def document(title: str, *body: Child, head: Child = None) -> str:
    """A whole page."""
    inner = h(
        "html",
        h(
            "head",
            h("meta", charset="utf-8"),
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("title", title),
            h("link", rel="stylesheet", href="/static/portal.css"),
            h("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
            head,
        ),
        h("body", *body),
        lang="en",
    )
    return f"<!doctype html>{inner}"
