"""``watchfloor-hook``: the hooks of Claude Code, answered by the guard.

Reads the JSON of one hook event on standard input and answers in the documented form:

    UserPromptSubmit     the user's words are told; if they cannot be, the prompt is blocked (``decision: block``)
    PreToolUse           denied (``permissionDecision: deny``) unless the guard allows; nothing is printed on a plain
                         yes, so Claude Code's own permissions stay in force
    PostToolUse          what the tool answered is told
    PostToolUseFailure   what a failing tool said is told

Only exit status 2 blocks, and Claude Code takes any other failure for no objection. So whatever goes wrong in here ends
with 2; what goes wrong outside (no such command, killed, too slow) is for ``"onFailure": "block"`` in the settings.

Each event is a process of its own: what has to be remembered between them (the invocation of a running call, the retry
token of a held one, that a result was lost) lies in small files below ``--state``, readable to the user only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from watchfloor_sdk.client import Guard
from watchfloor_sdk.errors import Unavailable, WatchfloorError
from watchfloor_sdk.protocol import Memory, TokenSource
from watchfloor_sdk.tokens import ClientCredentials, TokenExchange, TokenFile
from watchfloor_sdk.values import Call, Decision

BLOCK: Final = 2
_MCP: Final = re.compile(r"mcp__(.+?)__(.+)")
_DAYS_KEPT: Final = 30
_LARGEST_EVENT: Final = 64 * 1024 * 1024


class FileMemory(Memory):
    """``Memory`` in files, for processes that live for one event. A file stands for one fact."""

    def __init__(self, directory: Path, whose: str) -> None:
        super().__init__()
        self._directory, self._whose = directory, whose

    def path(self, kind: str, key: Sequence[object]) -> Path:
        """The file for ``key``; names say nothing about what they stand for."""
        text = json.dumps([self._whose, *map(str, key)])
        return self._directory / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"

    def write(self, path: Path, text: str) -> None:
        """Raises ``OSError``."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(path)

    def read(self, path: Path) -> str:
        """An empty string where there is none. Raises ``OSError`` where there is one that cannot be read."""
        try:
            return path.read_text("utf-8")
        except FileNotFoundError:
            return ""

    def sweep(self) -> None:
        """Remove what nobody will ask for again."""
        oldest = time.time() - _DAYS_KEPT * 86_400
        try:
            for path in self._directory.iterdir():
                if path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
        except OSError:
            return

    # Keys begin with the token source, which is another object in each process.

    def keep_hold(self, key: tuple[Any, ...], retry_token: str) -> None:
        """See ``Memory``."""
        self.write(self.path("hold", key[1:]), retry_token)

    def hold(self, key: tuple[Any, ...]) -> str:
        """See ``Memory``."""
        return self.read(self.path("hold", key[1:]))

    def drop_hold(self, key: tuple[Any, ...]) -> None:
        """See ``Memory``."""
        self.path("hold", key[1:]).unlink(missing_ok=True)

    def lose(self, key: tuple[Any, ...], tool: str) -> None:
        """See ``Memory``."""
        self.write(self.path("lost", key[1:]), tool)

    def lost(self, key: tuple[Any, ...]) -> str:
        """See ``Memory``."""
        return self.read(self.path("lost", key[1:]))

    def told(self, key: tuple[Any, ...]) -> None:
        """See ``Memory``."""
        self.path("lost", key[1:]).unlink(missing_ok=True)


class Hook:
    """Answers one event."""

    def __init__(self, guard: Guard, memory: FileMemory, mcp: Mapping[str, str], redacted: str) -> None:
        self._memory, self._mcp, self._redacted = memory, mcp, redacted
        self._guard = guard
        guard.wire = guard.wire.bound(memory=memory)

    def answer(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is printed, if anything. Whatever is raised must end with exit status 2."""
        name = _text(event, "hook_event_name")
        routes = {
            "PreToolUse": self._before,
            "PostToolUse": self._after,
            "PostToolUseFailure": self._after,
            "UserPromptSubmit": self._prompt,
        }
        if name not in routes:
            raise ValueError(f"the event {name} is not for this hook; it answers {', '.join(routes)}")
        return routes[name](event)

    def _prompt(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        self._memory.sweep()
        try:
            self._guard.observe(user_turns=[_text(event, "prompt")], conversation_id=_text(event, "session_id"))
        except Unavailable as error:
            # Unheard words would make the guard take what only the model says for the user's.
            return {"decision": "block", "reason": f"Watchfloor could not be told what you said. {error.message}"}
        return None

    def _before(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        arguments = event.get("tool_input")
        if not isinstance(arguments, dict):
            raise ValueError("'tool_input' is no object")
        session = _text(event, "session_id")
        server, tool = self._target(_text(event, "tool_name"))
        try:
            decision = self._guard.decide(tool, arguments, conversation_id=session, server=server)
        except WatchfloorError as error:
            return _permission("deny", error.for_model)
        record = json.dumps([decision.invocation, server, tool])
        self._memory.write(self._memory.path("call", (session, _text(event, "tool_use_id"))), record)
        if not decision.is_redacted:
            return None
        reason = "Watchfloor took sensitive data out of the arguments."
        if self._redacted == "deny":
            return _permission("deny", f"The tool was not run. {reason[:-1]}; call it without: {_json(decision)}")
        return _permission(self._redacted, reason, updatedInput=decision.arguments)

    def _after(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        session = _text(event, "session_id")
        server, tool = self._target(_text(event, "tool_name"))
        path = self._memory.path("call", (session, _text(event, "tool_use_id")))
        record = self._memory.read(path)
        invocation = json.loads(record)[0] if record else ""
        decision = Decision(Call(tool, {}, conversation_id=session, server=server), {}, invocation)
        if event["hook_event_name"] == "PostToolUse":
            status, result = "ok", event.get("tool_response")
        else:
            status, result = ("cancelled" if event.get("is_interrupt") is True else "error"), event.get("error")
        try:
            self._guard.complete(decision, status=status, result=result)
        except OSError as error:
            # It can neither be told nor noted that it was not: calls that follow would be judged as if it were known.
            return {"continue": False, "stopReason": f"Watchfloor's notes cannot be written: {error}."}
        path.unlink(missing_ok=True)
        return None

    def _target(self, name: str) -> tuple[str, str]:
        """Tool server and tool. Tools of an MCP server are that server's, under their own names."""
        found = _MCP.fullmatch(name)
        if found is None:
            return self._guard.wire.server, name
        return self._mcp.get(found[1], found[1]), found[2]


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"the event has no {name!r}")
    return value


def _permission(decision: str, reason: str, **more: Any) -> dict[str, Any]:
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": decision,
            "permissionDecisionReason": reason,
            **more,
        }
    }


def _json(decision: Decision) -> str:
    return json.dumps(decision.arguments, ensure_ascii=False)


# -- the command ------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "watchfloor-hook", description="Answers the hooks of Claude Code by Watchfloor's guard."
    )
    add = parser.add_argument
    add("--gateway", required=True, metavar="URL", help="address of a gateway, as http://127.0.0.1:7701")
    add(
        "--server",
        default="claude-code",
        metavar="ID",
        help="the tool server that the built-in tools are registered as",
    )
    add(
        "--mcp",
        action="append",
        default=[],
        metavar="NAME=ID",
        help="an MCP server that is registered under another name",
    )
    add("--agent", metavar="ID", help="the agent's id, with a secret")
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("--secret-file", metavar="FILE", help="holds the agent's secret")
    secret.add_argument("--secret-env", metavar="NAME", help="a variable that holds the agent's secret")
    secret.add_argument("--token-file", metavar="FILE", help="holds a gateway token; {server} in it is replaced")
    add("--user-token-file", metavar="FILE", help="holds the user's ID token, to act for the user (RFC 8693)")
    what = "a call without its sensitive data: the user is asked, it runs, or it does not"
    add("--redacted", choices=("ask", "allow", "deny"), default="ask", help=what)
    add("--deadline", type=float, default=5.0, metavar="SECONDS", help="no answer until then is a no")
    add("--state", metavar="FOLDER", help="what is remembered between events (default: below XDG_STATE_HOME)")
    return parser


def _tokens(options: argparse.Namespace, environment: Mapping[str, str]) -> TokenSource:
    if options.token_file:
        return TokenFile(options.token_file)
    if not options.agent:
        raise ValueError("--agent is missing: whose secret is it?")
    if options.secret_env:
        secret = environment.get(options.secret_env, "")
    else:
        secret = Path(options.secret_file).read_text("utf-8").strip()
    if not options.user_token_file:
        return ClientCredentials(options.agent, secret)
    path = Path(options.user_token_file)
    return TokenExchange(options.agent, secret, lambda: path.read_text("ascii").strip())


def _state(options: argparse.Namespace, environment: Mapping[str, str]) -> Path:
    if options.state:
        return Path(options.state)
    home = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "watchfloor-hook"


def run(arguments: Sequence[str], event: bytes, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What is printed for ``event``. Whatever is raised must end with exit status 2."""
    options = _parser().parse_args(arguments)
    # A guard that neither answers nor fails must not be waited for: Claude Code would go on without it.
    watchdog = threading.Timer(2 * options.deadline + 1, _give_up)
    watchdog.daemon = True
    watchdog.start()
    mcp = dict(pair.split("=", 1) for pair in options.mcp)
    body = json.loads(event)
    if not isinstance(body, dict):
        raise ValueError("the event is no object")
    memory = FileMemory(_state(options, environment), options.agent or options.token_file)
    tokens = _tokens(options, environment)
    with Guard(options.gateway, options.server, tokens, deadline=options.deadline) as guard:
        return Hook(guard, memory, mcp, options.redacted).answer(body)


def _give_up() -> None:
    os.write(2, b"Watchfloor's hook ran out of time; nothing was let through.\n")
    os._exit(BLOCK)


def main() -> None:
    """The console script."""
    try:
        said = run(sys.argv[1:], sys.stdin.buffer.read(_LARGEST_EVENT), os.environ)
        if said is not None:
            print(json.dumps(said))
        sys.stdout.flush()
    except SystemExit:  # of the command line: 2 where it is wrong
        raise
    except BaseException as error:
        os.write(2, f"Watchfloor's hook failed, nothing was let through: {type(error).__name__}: {error}\n".encode())
        os._exit(BLOCK)  # no flushing on the way out: a failure of that would end with another status


if __name__ == "__main__":
    main()
