"""Telling the story: live in a terminal, or one line of JSON a step."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Show(Protocol):
    """Told of each step as it begins, goes on and ends."""

    def begin(self, name: str, title: str) -> None:
        """A step begins."""

    def tell(self, line: str) -> None:
        """Something worth telling happened."""

    def end(self, name: str, ok: bool, facts: dict[str, Any], seconds: float) -> None:
        """The step is over."""

    def close(self, summary: dict[str, Any]) -> None:
        """The story is over."""


class Lines:
    """``{"step", "ok", "facts"}`` a line, the summary last; nothing else on standard output."""

    def begin(self, name: str, title: str) -> None:
        """Nothing is said before it is over."""

    def tell(self, line: str) -> None:
        """Facts say it."""

    def end(self, name: str, ok: bool, facts: dict[str, Any], seconds: float) -> None:
        """One line."""
        print(json.dumps({"step": name, "ok": ok, "facts": facts | {"step_seconds": round(seconds, 2)}}), flush=True)  # noqa: T201 - output

    def close(self, summary: dict[str, Any]) -> None:
        """The last line."""
        print(json.dumps(summary), flush=True)  # noqa: T201 - output


class Terminal:
    """For people: what happens while it happens, what was proven after it."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False)
        self._status: Status | None = None

    def begin(self, name: str, title: str) -> None:
        """Show what is being tried."""
        self._status = self._console.status(escape(title))
        self._status.start()

    def tell(self, line: str) -> None:
        """Show what happened, below its step."""
        self._console.print(f"    [dim]{escape(line)}[/]", soft_wrap=True)

    def end(self, name: str, ok: bool, facts: dict[str, Any], seconds: float) -> None:
        """Show how it went."""
        title = self._status.status if self._status else name
        if self._status:
            self._status.stop()
        mark = "[bold green]✓[/]" if ok else "[bold red]✗[/]"
        self._console.print(f"{mark} {title} [dim]({name}, {seconds:.1f} s)[/]")
        if not ok:
            self._console.print(f"    [red]{escape(str(facts.pop('error', '')))}[/]", soft_wrap=True)
            logs = facts.pop("logs", {})
            for key, value in facts.items():
                self._console.print(f"    {escape(str(key))}: {escape(str(value)[:1500])}", soft_wrap=True)
            for log, lines in logs.items():
                self._console.print(f"    [bold]{escape(log)}[/] ends with")
                for line in lines:
                    self._console.print(f"      [dim]{escape(line)}[/]", soft_wrap=True)

    def close(self, summary: dict[str, Any]) -> None:
        """Show the sums."""
        self._console.print()
        for key, value in summary.items():
            if key != "ok":
                self._console.print(f"  {key.replace('_', ' '):<24}{escape(str(value))}")
        verdict = "[bold green]The story holds.[/]" if summary["ok"] else "[bold red]The story does not hold.[/]"
        self._console.print(f"\n  {verdict}")
