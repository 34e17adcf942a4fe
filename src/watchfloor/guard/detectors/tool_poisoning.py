"""Poisoned tools: descriptions that tell the model what to do instead of telling it what the tool does.

Read where tools are learnt of (approval, a changed definition), not with each call. A description of an honest tool says
when to call it and what comes back; orders about other tools, files of the user's machine, secrecy before the user and
passages that no person sees on a page do not belong there.
"""

from __future__ import annotations

import re
from typing import Final

from watchfloor.guard.detectors import encoded, hidden, jailbreak
from watchfloor.guard.detectors.hit import Hit
from watchfloor.guard.detectors.text import fold, original_span
from watchfloor.model.verdicts import Severity

NAME: Final = "tool_poisoning"

_PRIVATE_FILE: Final = re.compile(
    r"(?:~|/home/\w+|/root|\$HOME|%USERPROFILE%)?[/\\]?\.(?:ssh[/\\](?:id_\w+|config|known_hosts|authorized_keys)?|aws[/\\]credentials|kube[/\\]config|netrc|pgpass"
    r"|gnupg|docker[/\\]config\.json|cursor[/\\]mcp\.json|env\b(?!ironment))|/etc/(?:passwd|shadow)|\bid_(?:rsa|ed25519)\b|\bmcp\.json\b"
)
_READS: Final = re.compile(r"\b(?:read|open|cat|include|pass|send|attach|provide|contents? of)\b", re.IGNORECASE)
_NEAR: Final = 80
"""Characters between an order and the file that it is about: *reads .env files* is what an honest tool does."""
_ORDERS: Final = re.compile(
    r" (?:"
    r"(?:before|when|whenever|every time|each time|prior to|after) (?:you )?(?:us(?:e|ing)|call(?:ing)?|invok(?:e|ing)) (?:this|any|the|another|other)(?: \w+){0,2}? tools?"
    r"(?: \w+){0,6}? (?:must|always|first|read|send|call|include|forward|make sure|copy|bcc)"
    r"|this tool (?:must|should|has to) (?:always )?be (?:called|used|invoked|run) (?:before|first|instead|prior|for every|after every|whenever)"
    r"|(?:do not|don t|never) (?:use|call|invoke|trust) (?:the |any )?(?:other|original|\w+) (?:\w+ )?tools?(?: \w+){0,4}? (?:instead|use this|anymore|without|until|unless|it is|they are)"
    r"|(?:this tool )?(?:replaces|supersedes|overrides) (?:the |any )?(?:all|other|previous|existing|original) (?:\w+ )?tools?"
    r"|otherwise (?:this|the) tool (?:will|does|would|can) ?not (?:work|function|run)"
    r"|(?:pass|include|put|provide|send|place|append) (?:its|the|their|all) (?:full |entire |whole )?(?:contents?|conversation|chat history|system prompt|previous messages|credentials)(?: \w+){0,6}? (?:as|in|into|to|via|parameter|argument|field)"
    r"|(?:recipient|address|destination|amount|bcc|url|endpoint) (?:\w+ ){0,3}?(?:must|should|has to) (?:always )?be (?:changed|replaced|set|redirected|sent)(?: \w+){0,4}? (?:to|with|by)"
    r"|(?:user|human)s? (?:\w+ ){0,3}?(?:not|never|without) (?:\w+ ){0,3}?(?:know|see|notice|told|tell|informed|aware|mention|shown)"
    r")(?= )"
)
_COMMENT: Final = re.compile(r"<!--(.{12,2000}?)-->", re.DOTALL)
_BLANKS: Final = re.compile(r"\s{15,}")
_IMPERATIVE: Final = re.compile(
    r"\b(?:must|always|never|ignore|first|read|send|call|do not|don't|instead)\b", re.IGNORECASE
)


def may_hold(text: str) -> bool:
    """Any description may."""
    return bool(text)


def find(text: str) -> list[Hit]:
    """What does not belong into a tool's description."""
    hits: list[Hit] = []
    for signal in jailbreak.find(text):
        if signal.category != jailbreak.MENTION:
            note = f"{signal.category}: {signal.excerpt}"
            hits.append(Hit(NAME, Severity.HIGH, max(signal.score, 0.8), signal.span, note, ""))
    folded = fold(text)
    order = _ORDERS.search(f" {folded} ")
    if order:
        span = original_span(text, (order.start(), order.end() - 1))
        hits.append(Hit(NAME, Severity.HIGH, 0.85, span, "", ""))
    private = _PRIVATE_FILE.search(text)
    if private and _READS.search(text[max(0, private.start() - _NEAR) : private.end() + _NEAR]):
        hits.append(Hit(NAME, Severity.HIGH, 0.85, private.span(), f"a private file: {private[0]}", ""))
    for found in hidden.find(text) + encoded.find(text):
        hits.append(Hit(NAME, Severity.HIGH, found.score, found.span, found.note, found.decoded))
    comment = _COMMENT.search(text)
    if comment and _IMPERATIVE.search(comment[1]):
        hits.append(Hit(NAME, Severity.HIGH, 0.8, comment.span(), f"a comment with orders: {comment[1]}", ""))
    for run in _BLANKS.finditer(text):
        if run.end() < len(text) and (len(run[0]) >= 120 or run[0].count("\n") >= 15):
            hits.append(Hit(NAME, Severity.MEDIUM, 0.7, (run.end(), len(text)), "text behind a screen of blanks", ""))
            break
    return hits
