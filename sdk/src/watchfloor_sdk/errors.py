"""Why a tool did not run.

    WatchfloorError
    ├── Refused        the guard decided, and the answer is no
    │   ├── Blocked    this call must not be made
    │   └── Held       an operator has to approve this very call first
    └── Unavailable    nothing was decided: no answer, no good answer, no token

Whatever is raised here, the tool was not run. ``for_model`` is what an agent may be told: what happened and what to do,
never how it was noticed. Nothing here shows a token, neither in ``str`` nor in ``repr``.
"""

from __future__ import annotations

from dataclasses import replace

from watchfloor_sdk.values import Call, Hold


class WatchfloorError(Exception):
    """The tool did not run. ``code`` is stable (listed in Watchfloor's docs/gateway.md), ``message`` a sentence."""

    def __init__(self, code: str, message: str, *, invocation: str = "", is_retryable: bool = False) -> None:
        self.code, self.message = code, message
        self.invocation = invocation
        """Names the record of this decision; empty where nothing was recorded."""
        self.is_retryable = is_retryable
        """Whether the very same call may succeed later."""
        super().__init__(message)

    @property
    def for_model(self) -> str:
        """A sentence or two to hand to the agent in place of the tool's result."""
        record = f", record {self.invocation}" if self.invocation else ""
        return f"The tool was not run. {self.message} ({self.code}{record})"


class Refused(WatchfloorError):
    """The guard decided against the call."""


class Blocked(Refused):
    """The call must not be made."""


class Held(Refused):
    """The call waits for an operator. Making the very same call again asks whether there is an answer."""

    def __init__(self, code: str, message: str, *, invocation: str, hold: Hold, call: Call) -> None:
        super().__init__(code, message, invocation=invocation, is_retryable=True)
        self.hold = hold
        self.call = call

    @property
    def again(self) -> Call:
        """The very same call, with the retry token."""
        return replace(self.call, retry_token=self.hold.retry_token)

    @property
    def for_model(self) -> str:
        """Says as well under which id it waits, and until when."""
        until = f" until {self.hold.expires_at}" if self.hold.expires_at else ""
        return (
            f"The tool was not run: the call waits for the approval of an operator (hold {self.hold.id}{until}). "
            "Make the very same call again later to see whether it is approved; with other arguments it would be "
            "another call. Do not look for another way to do it."
        )


class Unavailable(WatchfloorError):
    """Nothing was decided. ``no_answer``: nobody said no, there was nobody to be heard."""

    def __init__(self, code: str, message: str, *, no_answer: bool = False) -> None:
        super().__init__(code, message, is_retryable=True)
        self.no_answer = no_answer
