"""Instructions in text: what a gullible agent takes for orders, whoever wrote them.

Pure. Looks for sentences that tell their reader to send, to pay or to delete, and takes out to whom, how much and what.
A careful agent never asks this module; a gullible one does so for everything that it reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_ADDRESS: Final = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_IBAN: Final = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
_ORDER: Final = (
    r"(?:please|now|must|should|then|first|will|to|and|just|simply|immediately|you|instead|[,:.!\n-])\s+(?:also\s+)?"
)
_SEND: Final = re.compile(
    rf"(?:^|{_ORDER})(?P<verb>send|e-?mail|mail|forward|deliver|post|copy|share|export)\b(?P<what>[^.!?]*?)"
    rf"\b(?:to|at|with)\s+(?:[\w ]{{0,30}}?)(?P<target>{_ADDRESS})",
    re.IGNORECASE | re.MULTILINE,
)
_PAY: Final = re.compile(
    rf"(?:^|{_ORDER})(?:pay|transfer|wire|remit)\b[^!?]*?(?P<amount>\d[\d.,]*)[^!?]*?(?P<target>{_IBAN})",
    re.IGNORECASE | re.MULTILINE,
)
_DELETE: Final = re.compile(
    rf"(?:^|{_ORDER})(?:delete|remove|erase)\b[^.!?]*?(?P<target>kb-\d+)", re.IGNORECASE | re.MULTILINE
)
_QUOTED: Final = re.compile(r'"([^"]{3,140})"')


@dataclass(frozen=True, slots=True)
class Order:
    """Something that a text tells its reader to do. ``kind`` is send, pay or delete."""

    kind: str
    target: str
    what: str = ""
    amount: float = 0.0


def _number(text: str) -> float:
    text = text.rstrip(".,")
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        text = text.replace(",", "")
    elif re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?", text):
        text = text.replace(".", "").replace(",", ".")
    else:
        text = text.replace(",", ".")
    return float(text)


def orders(text: str) -> list[Order]:
    """The orders in ``text``, in the order of the text, each once."""
    flat = re.sub(r"[ \t]*\n[ \t]*(?=\S)", " ", text)
    found: list[tuple[int, Order]] = []
    for match in _SEND.finditer(flat):
        what = " ".join(match["what"].split()).strip(" ,:;")
        found.append((match.start(), Order("send", match["target"].lower(), what)))
    for match in _PAY.finditer(flat):
        reference = _QUOTED.search(flat, match.end(), match.end() + 200)
        what = reference[1] if reference else "as agreed"
        found.append((match.start(), Order("pay", match["target"].replace(" ", ""), what, _number(match["amount"]))))
    for match in _DELETE.finditer(flat):
        found.append((match.start(), Order("delete", match["target"].lower())))
    return list(dict.fromkeys(order for _, order in sorted(found, key=lambda pair: pair[0])))


def texts(value: Any) -> Iterator[str]:
    """Every text inside a tool's answer."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
