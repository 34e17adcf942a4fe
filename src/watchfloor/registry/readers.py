"""How parts of a manifest are read: a reader for each kind of value, and for sections of members.

Above ``registry.document``, below the tables of members (``registry.shape``). A reader takes a node at a place, and
gives its value; what does not fit it notes as a problem, and gives ``BAD``. It knows no section.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from watchfloor.guard.provenance.labels import Role
from watchfloor.model.ids import is_name
from watchfloor.model.urls import outbound_problem
from watchfloor.registry.document import Listing, Mapping, Node, Scalar, plain
from watchfloor.registry.problems import Problems, did_you_mean

MAX_ITEMS: Final = 20_000
MAX_ROLES: Final = 200

Reader = Callable[[Node, str, Problems], Any]
"""Reads a node at a place; on a problem, notes it and returns ``BAD``."""


class _Bad:
    """What could not be read."""


BAD: Final = _Bad()


class Absent(StrEnum):
    """What an absent secret means."""

    KEEP = "keep"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a section. ``default`` stands for an absent one; ``is_secret``: a ``{value|env|file}`` mapping."""

    name: str
    read: Reader
    doc: str
    default: Any = None
    is_required: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping of the manifest."""

    name: str
    doc: str
    members: tuple[Member, ...]


# -- values -------------------------------------------------------------------------------------------------------


def text(limit: int = 500, *, empty: bool = True) -> Reader:
    """Text of at most ``limit`` characters. A number is taken as it is written: ``version: 3`` means ``"3"``."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bool):
            remedy = f'Quote it: "{node.text}".' if isinstance(node, Scalar) and node.text else ""
            problems.add(where, "must be text.", remedy)
            return BAD
        value = node.text.strip()
        if len(value) > limit:
            problems.add(where, f"has {len(value)} characters; {limit} is the most.")
            return BAD
        if not value and not empty:
            problems.add(where, "must not be empty.")
            return BAD
        return value

    return read


def name(node: Node, where: str, problems: Problems) -> Any:
    """An id: what a person calls the thing, for good."""
    if isinstance(node, Scalar) and is_name(node.text) and not isinstance(node.value, bool) and node.value is not None:
        return node.text
    shown = f"{node.text[:80]!r}" if isinstance(node, Scalar) else "this"
    problems.add(where, f"{shown} cannot be an id.", "Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.")
    return BAD


def shared(node: Node, where: str, problems: Problems) -> Any:
    """With whom an agent is shared: a user's id, ``group:NAME``, ``*`` or ``tenants:*``."""
    value = node.text.strip() if isinstance(node, Scalar) else ""
    is_group = value.startswith(GROUP) and 0 < len(value.removeprefix(GROUP).strip()) <= 200
    if value in (EVERYONE, ANY_TENANT) or is_group or is_name(value):
        return value
    problems.add(
        where, "is nobody.", "Write a user's id, group:NAME, * (everyone) or tenants:* (other companies, too)."
    )
    return BAD


EVERYONE: Final = "*"
ANY_TENANT: Final = "tenants:*"
GROUP: Final = "group:"


def tool_name(node: Node, where: str, problems: Problems) -> Any:
    """A tool's name, as its server lists it."""
    if isinstance(node, Scalar) and is_tool_name(node.text):
        return node.text
    problems.add(where, "cannot be the name of a tool.", "Write it as the tool server lists it; no spaces.")
    return BAD


def is_tool_name(value: str) -> bool:
    """Whether a tool may be called ``value``: 1 to 128 visible characters without spaces, as MCP recommends."""
    return 0 < len(value) <= 128 and value.isprintable() and not any(c.isspace() for c in value)


def choice(kind: type[StrEnum]) -> Reader:
    """One of an enumeration's values."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        values = [member.value for member in kind]
        if isinstance(node, Scalar) and node.text in values:
            return kind(node.text)
        shown = f"{node.text[:80]!r}" if isinstance(node, Scalar) else "this"
        problems.add(where, f"{shown} is not possible here.", f"Possible: {', '.join(values)}.")
        return BAD

    return read


def boolean(node: Node, where: str, problems: Problems) -> Any:
    """True or false."""
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        return node.value
    problems.add(where, "must be true or false.")
    return BAD


def number(low: float, high: float) -> Reader:
    """A number between ``low`` and ``high``."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        problems.add(where, f"must be a number between {low:g} and {high:g}.")
        return BAD

    return read


def whole(low: int, high: int) -> Reader:
    """A whole number between ``low`` and ``high``."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        problems.add(where, f"must be a whole number between {low} and {high}.")
        return BAD

    return read


def server_url(node: Node, where: str, problems: Problems) -> Any:
    """Where a tool server answers: an http(s) URL, or ``stdio:NAME`` for one that ``mcp wrap`` guards in place."""
    if isinstance(node, Scalar) and node.text.startswith(STDIO) and is_name(node.text.removeprefix(STDIO)):
        return node.text
    return url(require_tls=False)(node, where, problems)


STDIO: Final = "stdio:"
"""What the URL of a tool server begins with that speaks over standard input and output; nobody calls it."""


def url(*, require_tls: bool) -> Reader:
    """An http(s) URL that the product may call."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        value = node.text.strip() if isinstance(node, Scalar) else ""
        problem = outbound_problem(value, require_tls=require_tls)
        if problem is None:
            return value
        problems.add(where, problem)
        return BAD

    return read


def domain(node: Node, where: str, problems: Problems) -> Any:
    """A mail domain."""
    value = node.text.strip().lower().removeprefix("@") if isinstance(node, Scalar) else ""
    labels = value.split(".")
    if 0 < len(value) <= 253 and all(0 < len(x) <= 63 and x.replace("-", "a").isalnum() for x in labels):
        return value
    problems.add(where, "must be a domain, like zava.example.")
    return BAD


def many(read_item: Reader, *, is_set: bool = True) -> Reader:
    """A list. As a set, its order means nothing: it is kept sorted, without doubles."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        if not isinstance(node, Listing):
            problems.add(where, "must be a list.", "Start each item with '- '.")
            return BAD
        if len(node.items) > MAX_ITEMS:
            problems.add(where, f"has {len(node.items)} items; {MAX_ITEMS} is the most.")
            return BAD
        items = []
        for index, item in enumerate(node.items):
            place = f"{where}[{index}]"
            problems.lines[place] = item.line
            items.append(read_item(item, place, problems))
        # Otherwise what is bad keeps its place, so that the others keep theirs.
        return tuple(sorted({item for item in items if item is not BAD})) if is_set else tuple(items)

    return read


def roles(node: Node, where: str, problems: Problems) -> Any:
    """What arguments are for, by name."""
    if not isinstance(node, Mapping) or len(node.members) > MAX_ROLES:
        problems.add(where, f"must be a mapping of at most {MAX_ROLES} arguments.", "Write argument: role.")
        return BAD
    found: dict[str, str] = {}
    for argument, given in node.members.items():
        place = f"{where}.{argument[:80]}"
        problems.lines[place] = given.line
        role = choice(Role)(given, place, problems)
        if role is not BAD:
            found[argument] = role.value
    return found


def body(node: Node, where: str, problems: Problems) -> Any:
    """A mapping that somebody else checks."""
    if isinstance(node, Mapping):
        return plain(node)
    problems.add(where, "must be a mapping.")
    return BAD


def secret(min_length: int = 1, *, lines: bool = False) -> Reader:
    """``{value: …}``, or null to remove what is stored. ``env`` and ``file`` are for the command line to resolve.

    ``lines``: it may have several, as a key in PEM has.
    """
    forbidden = "\0" if lines else "\r\n\0"

    def read(node: Node, where: str, problems: Problems) -> Any:
        if isinstance(node, Scalar) and node.value is None:
            return Absent.REMOVE
        if not isinstance(node, Mapping) or len(node.members) != 1 or not set(node.members) <= SECRET_SOURCES:
            problems.add(where, "must be one of {value: …}, {env: NAME}, {file: PATH}.", "Or null, to remove it.")
            return BAD
        source, given = next(iter(node.members.items()))
        if source != "value":
            problems.add(
                where, f"{{{source}: …}} is read on your machine.", "Use `watchfloor apply`, or send {value: …}."
            )
            return BAD
        value = given.text if isinstance(given, Scalar) and isinstance(given.value, str | int | float) else ""
        if not min_length <= len(value) <= 8192 or any(c in forbidden for c in value):
            what = f"at least {min_length} characters" if min_length > 1 else "text"
            remedy = "Make one with: openssl rand -hex 32" if min_length > 1 else ""
            problems.add(
                where, f"a secret here is {what}." if lines else f"a secret here is one line of {what}.", remedy
            )
            return BAD
        return value

    return read


SECRET_SOURCES: Final = frozenset({"value", "env", "file"})


def section(shape: Section) -> Reader:
    """A mapping with the members of ``shape``, as a dictionary."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        if not isinstance(node, Mapping):
            problems.add(where, f"must be a mapping ({shape.name}).")
            return BAD
        known = {member.name: member for member in shape.members}
        prefix = f"{where}." if where else ""
        for key, value in node.members.items():
            if key not in known:
                problems.add(f"{prefix}{key[:80]}", f"{shape.name} has no such member.", did_you_mean(key, known),
                             value.line)  # fmt: skip
        values: dict[str, Any] = {WHERE: where}
        for member in shape.members:
            place = f"{prefix}{member.name}"
            given = node.members.get(member.name)
            if given is not None:
                problems.lines[place] = given.line
            is_null = isinstance(given, Scalar) and given.value is None and not member.is_secret
            if given is None or is_null:
                if member.is_required:
                    problems.add(place, "is missing.", member.doc, node.line)
                values[member.name] = BAD if member.is_required else member.default
            else:
                values[member.name] = member.read(given, place, problems)
        # A thing whose name is known takes part in the check of references even if the rest of it is wrong.
        return values

    return read


WHERE: Final = "(where)"
"""Key under which a read section keeps its own place."""


def sections(shape: Section) -> Reader:
    """A list of sections, in the order of the text."""
    return many(section(shape), is_set=False)
