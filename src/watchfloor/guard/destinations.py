"""Where arguments point to, and how much money they name: what policies ask most and CEL says badly.

Works on the strings that ``content.examine`` found; policies read the results as ``destinations.*`` and ``amounts.*``.
It does not know which destinations are good, only which lie outside the organisation's own domains. An address is taken
apart the suspicious way: whatever stands behind any ``@`` counts as a domain that the message may go to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from watchfloor.guard.content import Content, Path


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Every pattern starts at a literal and is bounded, so that matching is linear whatever the text.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._+-]{1,64}@((?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z][A-Za-z0-9-]{0,62})")
_DOMAIN: Final = re.compile(r"(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{0,62}")
_LOOSE_DOMAIN: Final = re.compile(r"\[[0-9A-Fa-f:.IPv]{2,60}\]|[\w.-]{1,255}")
_LOCAL_END: Final = re.compile(r"[\s<>,;:()\[\]]")
_URL: Final = re.compile(r"://([^\s/?#<>\"'`\\]{1,512})([^\s<>\"'`]{0,2048})")
_SCHEME_END: Final = re.compile(r"[^a-zA-Z0-9+.-]")
_BARE_HOST: Final = re.compile(r"(?<![\w.@/-])www\.((?:[\w-]{1,63}\.){1,8}[\w-]{2,63})", re.IGNORECASE)
_HEADER_LINE: Final = re.compile(r"^(?:to|cc|bcc):([^\r\n]{1,2000})", re.IGNORECASE | re.MULTILINE)
_LIST_MARK: Final = re.compile(r"[,;\n]")

_CLEAN: Final = {
    **dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)),
    0xFF20: "@",
    0xFE6B: "@",
    0xFF0E: ".",
    0x3002: ".",
    0xFF61: ".",
    0xFF1A: ":",
    0xFF0F: "/",
}
"""Characters that mail and web software drops or folds when it reads an address."""

_RECIPIENT_KEYS: Final = _words(
    "to cc bcc recipient recipients email emails emailaddress emailaddresses toemail torecipients ccrecipients "
    "bccrecipients toaddress toaddresses address addresses sendto mailto replyto attendees invitees guests members "
    "sharewith empfaenger destinataire destinataires destinatario destinatarios"
)
"""Keys that name recipients, without case, dashes and underscores."""

MOST: Final = 10_000
"""Addresses, and URLs, that are looked at in one call. ``UNEXAMINED`` stands for the others: it is always outside."""

UNEXAMINED: Final = "unexamined.invalid"


class Destinations:
    """What was found, lower-cased; the properties are sorted lists without duplicates.

    ``recipients`` are addresses in fields that name recipients, in strings that hold nothing but addresses, and in
    ``To:`` lines; ``emails`` are addresses anywhere, also in running text. ``external`` are addresses and hosts outside
    the organisation's domains.
    """

    __slots__ = ("_emails", "_hosts", "_own", "_recipients", "_urls")

    def __init__(
        self, emails: dict[str, str], recipients: dict[str, str], urls: set[str], hosts: set[str], own: Iterable[str]
    ) -> None:
        self._emails, self._recipients, self._urls, self._hosts = emails, recipients, urls, hosts
        self._own = own

    @property
    def emails(self) -> list[str]:
        return sorted(self._emails.keys() | self._recipients.keys())

    @property
    def domains(self) -> list[str]:
        return sorted({*self._emails.values(), *self._recipients.values()})

    @property
    def recipients(self) -> list[str]:
        return sorted(self._recipients)

    @property
    def urls(self) -> list[str]:
        return sorted(self._urls)

    @property
    def hosts(self) -> list[str]:
        return sorted(self._hosts)

    @property
    def external(self) -> list[str]:
        found = {**self._emails, **self._recipients, **{host: host for host in self._hosts}}
        return self._outside(found)

    @property
    def external_recipients(self) -> list[str]:
        return self._outside(self._recipients)

    @property
    def external_hosts(self) -> list[str]:
        return self._outside({host: host for host in self._hosts})

    def _outside(self, found: dict[str, str]) -> list[str]:
        """INVARIANT: ``evilzava.example`` is not below ``zava.example``; what is compared begins at a dot."""
        if not found:
            return []
        own = tuple(["." + domain.lower().strip(".") for domain in self._own if domain.strip(".")])
        return sorted([each for each, domain in found.items() if not f".{domain}".endswith(own)])


class Amounts(NamedTuple):
    """``largest`` is 0 when none was found; ``has_unreadable`` says that a field that names a sum holds no number."""

    largest: float
    is_known: bool
    has_unreadable: bool


def find_destinations(content: Content, own_domains: Iterable[str]) -> Destinations:
    """E-mail addresses and URLs anywhere in the arguments."""
    emails: dict[str, str] = {}
    recipients: dict[str, str] = {}
    urls: set[str] = set()
    hosts: set[str] = set()
    everything = content.joined
    is_plain = everything.isascii()
    has_urls = not is_plain or "://" in everything
    has_bare_hosts = not is_plain or "www." in everything or "WWW." in everything
    room = MOST
    for path, text in content.strings:
        if not is_plain and not text.isascii():
            text = text.translate(_CLEAN)
        if "@" in text:
            plain = _PLAIN.fullmatch(text)
            if plain:  # one address and nothing else: by far the most frequent
                recipients[text.lower()] = plain[1].lower()
            else:
                room -= text.count("@")
                if room < 0:
                    emails[f"more@{UNEXAMINED}"] = recipients[f"more@{UNEXAMINED}"] = UNEXAMINED
                    hosts.add(UNEXAMINED)
                    break
                emails.update(_addresses(text, _DOMAIN))
                recipients.update(_recipients(path, text))
        if has_urls and "://" in text:
            _add_urls(text, urls, hosts)
        if has_bare_hosts and ("www." in text or "WWW." in text):
            for match in _BARE_HOST.finditer(text):
                host = f"www.{match[1]}".lower()
                hosts.add(host)
                urls.add(f"http://{host}")
    return Destinations(emails, recipients, urls, hosts, own_domains)


def _recipients(path: Path, text: str) -> Iterable[tuple[str, str]]:
    if _key_of(path) in _RECIPIENT_KEYS or _is_list(text):
        yield from _addresses(text, _LOOSE_DOMAIN)
    else:
        for line in _HEADER_LINE.finditer(text):
            yield from _addresses(line[1], _LOOSE_DOMAIN)


def _add_urls(text: str, urls: set[str], hosts: set[str]) -> None:
    for match in _URL.finditer(text):
        host = _host_of(match[1])
        if host:
            if len(urls) >= MOST:
                hosts.add(UNEXAMINED)
                break
            scheme = _SCHEME_END.split(text[max(0, match.start() - 16) : match.start()])[-1].lower()
            hosts.add(host)
            urls.add(f"{scheme}://{match[1]}{match[2]}")


def _addresses(text: str, domain: re.Pattern[str]) -> Iterable[tuple[str, str]]:
    """(address, its domain) of whatever stands around an ``@``; with two in a row (``a@b@c``) of both."""
    for before, after in pairwise(text.split("@")):
        match = domain.match(after)
        if match:
            local = _LOCAL_END.split(before[-64:])[-1]
            found = match[0].strip(".").lower()
            if local:
                yield f"{local.lower()}@{found}", found.strip("[]")


def _is_list(text: str) -> bool:
    """Whether ``text`` reads as addresses, with display names perhaps, rather than as a sentence that mentions one."""
    if " " not in text:
        return True
    for piece in _LIST_MARK.split(text):
        piece = piece.strip()
        if " " in piece and not piece.endswith(">"):
            return False
    return True


def _key_of(path: Path) -> str:
    """The last key of ``path``, without case, dashes and underscores."""
    for part in reversed(path):
        if type(part) is str:
            key = part.lower()
            return key.replace("_", "").replace("-", "") if "_" in key or "-" in key else key
    return ""


def _host_of(authority: str) -> str:
    host = authority.rpartition("@")[2].lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].strip(".,;)")


_AMOUNT_KEYS: Final = _words(
    "amount amounts total totalamount sum price value payment paymentamount grandtotal transferamount "
    "betrag summe gesamtbetrag montant somme importe monto cantidad"
)
_NUMBER: Final = re.compile(r"\d[\d.,'\s]{0,40}")


def find_amounts(content: Content) -> Amounts:
    """The sums under keys that name one (``amount``, ``total_amount``, ``betrag`` …), as numbers or as text.

    A key that ends in ``cents`` counts a hundredth.
    """
    sums: list[float] = []
    has_unreadable = False
    for path, number in content.numbers:
        factor = _amount_factor(path)
        if factor:
            sums.append(abs(float(number)) * factor)
    for path, text in content.strings:
        factor = _amount_factor(path)
        if factor:
            parsed = parse_amount(text)
            if parsed is None:
                has_unreadable = True
            else:
                sums.append(parsed * factor)
    return Amounts(max(sums, default=0.0), bool(sums), has_unreadable)


def _amount_factor(path: Path) -> float:
    last = path[-1]
    key = last.lower() if type(last) is str else _key_of(path)
    if "_" in key or "-" in key:
        key = key.replace("_", "").replace("-", "")
    if key in _AMOUNT_KEYS:
        return 1.0
    return 0.01 if key[-5:] == "cents" and key[:-5] in _AMOUNT_KEYS else 0.0


def parse_amount(text: str) -> float | None:
    """The number in ``"1,250.00 EUR"`` or ``"1.250,00 €"``, without its sign; ``None`` when there is not exactly one.

    Where a single separator could mean either (``1,250``), the larger reading counts.
    """
    found = _NUMBER.findall(text[:200])
    if len(found) != 1:
        return None
    digits = re.sub(r"[\s']", "", found[0]).rstrip(".,")
    comma, point = digits.rfind(","), digits.rfind(".")
    if comma >= 0 and point >= 0:
        digits = digits.replace("," if point > comma else ".", "").replace(",", ".")
    else:
        mark = "," if comma >= 0 else "."
        tail = digits.rpartition(mark)[2]
        is_thousands = digits.count(mark) > 1 or (mark in digits and len(tail) == 3)
        digits = digits.replace(mark, "" if is_thousands else ".")
    try:
        value = float(digits)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
