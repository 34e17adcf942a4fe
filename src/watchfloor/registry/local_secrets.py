"""``{env: NAME}`` and ``{file: PATH}`` in a manifest become ``{value: …}`` before the text leaves this machine.

Above ``registry.document``; the command line calls it. Only places that hold a secret by ``registry.shape`` are looked
at, and only the text of that mapping is replaced, so that lines keep their numbers in what the server says. How
variables and files are read is passed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from watchfloor.registry.connector_shape import KINDS as CONNECTOR_KINDS
from watchfloor.registry.document import Listing, Mapping, Node, Scalar, read_document
from watchfloor.registry.problems import Problems
from watchfloor.registry.readers import Section
from watchfloor.registry.shape import AGENT, CANARY, GRANT, SERVER

Source = Callable[[str], str | None]


def resolve_secrets(text: str, *, variable: Source, file: Source) -> str:
    """``text`` with every secret as a value.

    ``variable`` and ``file`` give what a name or path holds, or None. Raises ``ManifestInvalid`` naming every place
    whose secret is not there, and what ``read_document`` raises.
    """
    problems = Problems()
    replacements: set[tuple[int, int, str]] = set()  # a set: an alias shows the same place several times
    for where, node in _secrets(read_document(text)):
        if not isinstance(node, Mapping) or len(node.members) != 1:
            continue  # the server says what may stand there
        source, given = next(iter(node.members.items()))
        if source not in ("env", "file") or not isinstance(given, Scalar):
            continue
        problems.lines[where] = node.line
        value = variable(given.text) if source == "env" else file(given.text)
        if value is None:
            what = "variable is not set" if source == "env" else "file cannot be read"
            problems.add(where, f"the {what}: {given.text}.", "Set it, or name another source.")
            continue
        # From the key to the end of its value, which fits between braces as well as on lines of its own. What stood on
        # several lines becomes one, plus the line ends that it had.
        lost = text.count("\n", node.start, given.end)
        written = f"value: {json.dumps(value, ensure_ascii=False)}"
        replacements.add((node.start, given.end, written + "\n" * lost))
    problems.raise_if_any()
    for start, end, replacement in sorted(replacements, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _secrets(root: Node) -> Iterator[tuple[str, Node]]:
    """Every place of ``root`` that holds a secret, with what stands there."""
    for where, provider in _items(root, "identityProviders", ""):
        connector = provider.members.get("connector") if isinstance(provider, Mapping) else None
        for kind, shape in CONNECTOR_KINDS.items():
            if isinstance(connector, Mapping) and kind in connector.members:
                yield from _of_section(connector.members[kind], shape, f"{where}.connector.{kind}")
    for where, server in _items(root, "toolServers", ""):
        yield from _of_section(server, SERVER, where)
    for where, canary in _items(root, "canaries", ""):
        yield from _of_section(canary, CANARY, where)
    for where, agent in _items(root, "agents", ""):
        yield from _of_section(agent, AGENT, where)
        for inner, grant in _items(agent, "tools", f"{where}."):
            yield from _of_section(grant, GRANT, inner)


def _of_section(node: Node, section: Section, where: str) -> Iterator[tuple[str, Node]]:
    if isinstance(node, Mapping):
        for member in section.members:
            if member.is_secret and member.name in node.members:
                yield f"{where}.{member.name}", node.members[member.name]


def _items(node: Node, name: str, prefix: str) -> Iterator[tuple[str, Node]]:
    found = node.members.get(name) if isinstance(node, Mapping) else None
    if isinstance(found, Listing):
        yield from ((f"{prefix}{name}[{index}]", item) for index, item in enumerate(found.items))
