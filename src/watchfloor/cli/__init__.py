"""The command line: one file per command, loaded when it is called.

``COMMANDS`` is the whole list; adding a command is a file here and a line there. Commands read settings, build what
they need through ``app`` and print; they hold no logic of their own.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

from watchfloor import __version__
from watchfloor.model.errors import WatchfloorError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("watchfloor.cli.up:up", "Start everything on this machine."),
    "server": ("watchfloor.cli.server:server", "Run the control plane."),
    "gateway": ("watchfloor.cli.gateway:gateway", "Run one gateway worker."),
    "receiver": ("watchfloor.cli.receiver:receiver", "Run one telemetry receiver."),
    "store": ("watchfloor.cli.store:store", "Run the store process: events, queries, retention."),
    "source": ("watchfloor.cli.source:source", "Say who may send telemetry."),
    "sighting": ("watchfloor.cli.sighting:sighting", "See who is at work that nobody registered."),
    "hold": ("watchfloor.cli.hold:hold", "See held calls, and let them out or not."),
    "risk": ("watchfloor.cli.risk:risk", "See which users and agents are at risk, and say that they are not."),
    "response": ("watchfloor.cli.response:response", "Confirm compromises, and see every step."),
    "notify": ("watchfloor.cli.notify:notify", "Ask makers to mend their agents, and see how far that is."),
    "playbook": ("watchfloor.cli.playbook:playbook", "See, test, switch and run playbooks."),
    "apply": ("watchfloor.cli.apply:apply", "Create or update a company from a manifest."),
    "idp": ("watchfloor.cli.idp:idp", "See and try the connectors of identity providers."),
    "kql": ("watchfloor.cli.kql:kql", "Run and check hunting queries."),
    "import": ("watchfloor.cli.import_:import_", "Make a manifest of other platforms' agent files."),
    "export": ("watchfloor.cli.export:export", "Write a table and period to a file: Parquet, JSON lines or OCSF."),
    "rules": ("watchfloor.cli.rules:rules", "List, test, write and backtest detection rules."),
    "policy": ("watchfloor.cli.policy:policy", "Check and test policies."),
    "access": ("watchfloor.cli.access:access", "List, apply, export and try policies of conditional access."),
    "copilot-studio": ("watchfloor.cli.copilot_studio:copilot_studio", "Connect Copilot Studio's threat detection."),
    "guard": ("watchfloor.cli.guard:guard", "Score texts with the guard's detectors."),
    "audit": ("watchfloor.cli.audit:audit", "Verify the audit log."),
    "case": ("watchfloor.cli.case:case", "Check the evidence of an incident."),
    "mcp": ("watchfloor.cli.mcp:mcp", "Guard a stdio MCP server where it stands."),
    "demo": ("watchfloor.cli.demo:demo", "Play the demo company and the attack on it."),
}
"""Command name -> (module:attribute, one-line help)."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called: ``--help`` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Turn our own errors into one line on standard error and exit status 1."""
        try:
            return super().invoke(ctx)
        except WatchfloorError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="watchfloor")
def main() -> None:
    """Watchfloor: the security operations centre for AI agents."""
