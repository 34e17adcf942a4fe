"""Run by canaille's own interpreter: its commands, one after the other in one process, as each would cost seconds.

Reads a list of argument lists as JSON from standard input, writes what each printed as a JSON list. ``{0}`` in an
argument stands for the ``id`` of the object that the command before printed.
"""

import json
import sys

from canaille.commands import cli
from click.testing import CliRunner


def main() -> None:
    printed, last = [], ""
    for arguments in json.load(sys.stdin):
        done = CliRunner().invoke(cli, [argument.replace("{0}", last) for argument in arguments])
        if done.exit_code:
            sys.exit(f"{arguments}: {done.output}\n{done.exception!r}")
        printed.append(done.stdout)
        try:
            found = json.loads(done.stdout)
            last = found["id"] if isinstance(found, dict) and "id" in found else last
        except ValueError:
            pass
    json.dump(printed, sys.stdout)


main()
