"""Reading what somebody else wrote: every value is asked for by name, and what does not fit is a warning.

Below the importers, above the guard's detector of secrets. A ``Value`` is a mapping at a place; it knows which of its
members were asked for, so that ``leftover`` can name the others. Text is made fit for a manifest: one that looks like a
secret never comes out. Nothing here raises.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from watchfloor.guard.detectors.secrets import mask

_SECRET_NAME: Final = re.compile(
    r"token|secret|passw|passphrase|pwd|api[-_.]?key|access[-_.]?key|private[-_.]?key|account[-_.]?key|shared[-_.]?access"
    r"|authorization|credential|bearer|cookie|signature|conn(?:ection)?[-_.]?str|webhook[-_.]?url"
    r"|(?:^|[-_.])(?:key|auth|pat|sig|sas|jwt|dsn)$",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(r"\$\{(?:env:|input:|secret:)?([A-Za-z_][\w.-]*)(?::-[^}]*)?\}|\$([A-Za-z_]\w*)")
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_RANDOM: Final = re.compile(r"[A-Za-z0-9_~=+-]{20,}")
_HARMLESS: Final = re.compile(r"\d{1,6}|true|false|yes|no|on|off", re.IGNORECASE)
_SCHEME: Final = re.compile(r"\b(?:Bearer|Basic|Token)\b", re.IGNORECASE)
_REPLACED: Final = "REMOVED"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that somebody should look at. ``place`` is the file and the way inside it."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(slots=True)
class Notes:
    """Collects warnings, each once."""

    found: dict[Remark, None] = field(default_factory=dict)

    def add(self, place: str, message: str) -> None:
        """Note ``message`` about ``place``."""
        self.found.setdefault(Remark(_one_line(place), _one_line(message)))


class Value:
    """A mapping that somebody else wrote; empty where there is none."""

    __slots__ = ("_asked", "_members", "notes", "place")

    def __init__(self, raw: Any, place: str, notes: Notes) -> None:
        self.place, self.notes = place, notes
        self._asked: set[str] = set()
        self._members: dict[str, Any] = raw if isinstance(raw, dict) else {}

    def __bool__(self) -> bool:
        return bool(self._members)

    def at(self, name: str) -> str:
        """The place of a member."""
        separator = "." if "#" in self.place else "#"
        return f"{self.place}{separator}{_one_line(name)[:60]}"

    def warn(self, name: str, message: str) -> None:
        """Note ``message`` about a member."""
        self.notes.add(self.at(name), message)

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        return self._members.get(name) is not None

    def get(self, name: str) -> Any:
        """A member as it is, None if there is none."""
        self._asked.add(name)
        return self._members.get(name)

    def text(self, *names: str, limit: int = 500) -> str:
        """The first member of ``names`` that there is, as clean text; empty if there is none."""
        for name in names:
            found = self.get(name)
            if found is None:
                continue
            if isinstance(found, dict) and len(found) == 1:
                self.warn(name, f"is worked out elsewhere ({_one_line(next(iter(found)))[:40]}), so it is left out.")
                return ""
            if isinstance(found, bool) or not isinstance(found, str | int | float):
                self.warn(name, "is no text, so it is left out.")
                return ""
            return self.clean(name, str(found), limit)
        return ""

    def clean(self, name: str, text: str, limit: int = 500) -> str:
        """``text`` of a member, fit for a manifest: no control characters, no secrets, at most ``limit`` long."""
        text = clean(text)
        masked = mask(text)
        if masked != text:
            self.warn(name, "a secret stands here in clear. It is left out; renew it, for whoever has the file has it.")
        if len(masked) > limit:
            self.warn(name, f"has more than {limit} characters, and is cut.")
        return masked[:limit].strip()

    def url(self, *names: str) -> str:
        """An address without what opens it: no password, no key among its parameters, no secret as part of its path."""
        for name in names:
            if self.has(name):
                return self.without_secrets(name, self.text(name, limit=2048))
        return ""

    def without_secrets(self, name: str, url: str) -> str:
        """``url`` with what looks secret taken out, and a warning if there was something."""
        kept, had_secret = public_url(url)
        if had_secret:
            self.warn(
                name, "the address holds a secret. It is left out, so the address may not work; renew the secret."
            )
        return kept

    def flag(self, name: str) -> bool | None:
        """A member that is true or false; None if it is not said."""
        found = self.get(name)
        if isinstance(found, bool):
            return found
        if isinstance(found, str) and found.lower() in ("true", "false"):
            return found.lower() == "true"
        if found is not None:
            self.warn(name, "is neither true nor false, so it is left out.")
        return None

    def texts(self, name: str, limit: int = 500) -> list[str]:
        """A list of texts; a single text is a list of one."""
        found = self.get(name)
        if isinstance(found, str):
            found = [found]
        if found is not None and not isinstance(found, list):
            self.warn(name, "is no list, so it is left out.")
            return []
        kept = []
        for index, item in enumerate(found or ()):
            if isinstance(item, str):
                kept.append(self.clean(f"{name}[{index}]", item, limit))
            else:
                self.warn(f"{name}[{index}]", "is no text, so it is left out.")
        return [text for text in kept if text]

    def one(self, name: str) -> Value:
        """A member that is a mapping."""
        found = self.get(name)
        if found is not None and not isinstance(found, dict):
            self.warn(name, "is not understood, so it is left out.")
        return Value(found, self.at(name), self.notes)

    def many(self, name: str) -> list[Value]:
        """A member that is a list of mappings."""
        found = self.get(name)
        if found is not None and not isinstance(found, list):
            self.warn(name, "is no list, so it is left out.")
            return []
        kept = []
        for index, item in enumerate(found or ()):
            if isinstance(item, dict):
                kept.append(Value(item, self.at(f"{name}[{index}]"), self.notes))
            else:
                self.warn(f"{name}[{index}]", "is not understood, so it is left out.")
        return kept

    def members(self) -> Iterator[tuple[str, Value]]:
        """Every member that is a mapping, with its name; others are warned of."""
        for name, found in self._members.items():
            self._asked.add(name)
            if isinstance(found, dict):
                yield name, Value(found, self.at(name), self.notes)
            else:
                self.warn(name, "is not understood, so it is left out.")

    def names(self) -> list[str]:
        """The names of the members."""
        return list(self._members)

    def shown_names(self) -> list[tuple[str, str]]:
        """The names of the members, each with how a manifest writes it; none of which nothing would be left."""
        return [(name, shown) for name in self._members if (shown := self.clean(name, name, 200))]

    def leftover(self, *unused: str) -> None:
        """Warn of every member that nobody asked for; ``unused`` are known, and say nothing that a manifest holds."""
        for name in self._members:
            if name not in self._asked and name not in unused:
                self.warn(name, "is not understood, so it is left out.")


# -- secrets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A secret by the name of the variable that holds it, or is to hold it. ``is_clear``: the file held it itself."""

    variable: str
    is_clear: bool

    def of(self, owner: str) -> SecretReference:
        """The reference with a name that says whose secret it is: many have an API_KEY. A variable that is there
        already keeps its name."""
        whose = variable_name(owner)
        if not self.is_clear or self.variable.startswith(whose):
            return self
        what = "TOKEN" if self.variable == "AUTHORIZATION" else self.variable
        return SecretReference(variable_name(f"{whose} {what}"), True)


def find_reference(name: str, value: Any) -> SecretReference | None:
    """What a variable or header with ``name`` says about a secret; None if it holds none.

    A value that names a variable (``${TOKEN}``, ``${env:TOKEN}``, ``${input:token}``) is a reference already, if it or
    the member's own name sounds like a secret. Anything else that sounds or looks like one becomes one.
    """
    if not isinstance(value, str) or not value.strip() or _HARMLESS.fullmatch(value.strip()):
        return None
    reference = _REFERENCE.search(value)
    if reference:
        named = reference[1] or reference[2]
        # Bearer ${TOKEN}: what is left may be said aloud. sk-12345${SUFFIX} may not.
        rest = _SCHEME.sub("", _REFERENCE.sub("", value)).strip()
        if not is_secret_name(name) and not is_secret_name(named):
            return SecretReference(variable_name(name), True) if looks_secret(rest) else None
        return SecretReference(variable_name(named), looks_secret(rest))
    if is_secret_name(name) or looks_secret(value):
        return SecretReference(variable_name(name), True)
    return None


def is_secret_name(name: str) -> bool:
    """Whether what is called so is a secret."""
    return _SECRET_NAME.search(name) is not None


def looks_secret(text: str) -> bool:
    """Whether ``text`` holds a key of known shape, or is one long random word."""
    return mask(text) != text or any(_is_random(word) for word in re.split(r"[\s,;:/?&@\"']+", text))


def variable_name(name: str) -> str:
    """``name`` as the name of an environment variable."""
    cleaned = re.sub(r"\W+", "_", clean(name), flags=re.ASCII).strip("_").upper()[:60]
    return cleaned if cleaned and not cleaned[0].isdigit() else f"SECRET_{cleaned}".rstrip("_")


def public_url(url: str) -> tuple[str, bool]:
    """``url`` without userinfo, secret parameters and random parts of its path; and whether there was any of them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", looks_secret(url)
    if not parts.scheme or not parts.netloc:
        is_secret = looks_secret(url)
        return ("" if is_secret else url), is_secret
    host = parts.netloc.rpartition("@")[2]
    path = "/".join(_REPLACED if _is_random(part) else part for part in parts.path.split("/"))
    fragment = "" if looks_secret(parts.fragment) or "=" in parts.fragment else parts.fragment
    kept = SplitResult(parts.scheme, host, path, _public_query(parts.query), fragment)
    if mask(urlunsplit(kept)) != urlunsplit(kept):
        kept = SplitResult(parts.scheme, host, "", "", "")
    return (url, False) if kept == parts else (urlunsplit(kept), True)


def _public_query(query: str) -> str:
    if not query:
        return query
    pairs = parse_qsl(query, keep_blank_values=True)
    safe = [(name, value) for name, value in pairs if not is_secret_name(name) and not looks_secret(value)]
    return query if len(safe) == len(pairs) and pairs else urlencode(safe)


def _is_random(word: str) -> bool:
    if not _RANDOM.fullmatch(word) or _GUID.fullmatch(word):
        return False
    # Names of many words have digits at their end, if any, and dashes; keys change between letters and digits.
    changes = sum(a.isdigit() != b.isdigit() for a, b in itertools.pairwise(word))
    entropy = -sum(n / len(word) * math.log2(n / len(word)) for n in Counter(word).values())
    longest = max(len(part) for part in re.split(r"[-_~=+]", word))
    return changes >= 3 and entropy >= 3.0 and longest >= 12


# -- text ---------------------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """``text`` as Unicode without control characters, but for line ends and tabs."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(c for c in text if c.isprintable() or c in "\n\t").strip()


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in clean(text)).split())


def joined(parts: Iterable[str], separator: str = " ") -> str:
    """The parts that are not empty."""
    return separator.join(part for part in parts if part)
