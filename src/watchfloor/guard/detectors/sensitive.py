"""Sensitive information: numbers and words that identify people, accounts and cards, each by a type of its own.

A type is a pattern, and where its issuer has one, a check digit; words that usually stand beside it raise confidence.
The check digit is a signal and not a filter: made-up numbers of demonstrations fail it, and so does a typing error in a
real one. Confidence is ``high``, ``medium`` or ``low`` as in data-loss policies elsewhere; what could be any number is
reported only beside its words. Names, places and free text about people are not seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from watchfloor.guard.detectors import checksums as check
from watchfloor.guard.detectors.decode import runs_in
from watchfloor.guard.detectors.hit import Hit
from watchfloor.guard.detectors.text import shared_words
from watchfloor.model.verdicts import Severity

NAME: Final = "sensitive"


class Label(NamedTuple):
    """A sensitivity label. Content has the highest label of what is in it."""

    rank: int
    name: str


GENERAL: Final = Label(1, "general")
CONFIDENTIAL: Final = Label(2, "confidential")
HIGHLY_CONFIDENTIAL: Final = Label(3, "highly_confidential")


class Type(NamedTuple):
    """One sensitive information type.

    ``words`` stand beside it in ordinary use. ``needs`` says what it takes to be reported at all: ``format`` (the
    pattern is telling enough), ``check`` (the check digit must be right, or a word stand beside it), ``word`` (a word
    must stand beside it). Group 1 of ``pattern``, where there is one, is the sensitive part.
    """

    id: str
    title: str
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool] | None
    words: re.Pattern[str] | None
    needs: str
    label: Label


def _type(
    id: str,
    title: str,
    pattern: str,
    is_valid: Callable[[str], bool] | None = None,
    words: str = "",
    needs: str = "check",
    label: Label = CONFIDENTIAL,
) -> Type:
    near = re.compile(rf"(?<![a-z])(?:{words})(?![a-z])") if words else None
    return Type(id, title, re.compile(pattern), is_valid, near, needs, label)


_B: Final = r"(?<![\w.,+/=-])"
"""Not inside a longer number, word or path."""
_E: Final = r"(?![\w/=]|[.,-]\d)"

TYPES: Final[tuple[Type, ...]] = (
    # -- money ----------------------------------------------------------------------------------------------------
    _type("credit_card", "Payment card number", _B + r"[2-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,4}(?:[ -]?\d{3})?" + _E,
          check.card, r"cards?|credit|debit|visa|mastercard|amex|cvv|cvc|card number|karte|kreditkarte|carte|tarjeta",
          "check", HIGHLY_CONFIDENTIAL),
    _type("credit_card", "Payment card number", _B + r"3[47]\d{2}[ -]?\d{6}[ -]?\d{5}" + _E, check.card,
          r"cards?|credit|amex|american express|cvv|cvc", "check", HIGHLY_CONFIDENTIAL),
    _type("iban", "International bank account number", _B + r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?" + _E,
          check.iban, r"iban|bank account|account number|konto|bankverbindung|compte|cuenta|conto", "check"),
    _type("us_bank_routing", "ABA routing number", _B + r"\d{9}" + _E, check.aba, r"routing|aba|rtn", "word"),
    _type("bank_account", "Bank account number", _B + r"\d{8,17}" + _E, None,
          r"bank account|account number|account no|acct|kontonummer|sort code", "word"),
    _type("swift_bic", "SWIFT/BIC code", _B + r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?" + _E, None,
          r"swift|bic|swift code|bic code", "word", GENERAL),
    _type("bitcoin_address", "Bitcoin address", _B + r"[13][1-9A-HJ-NP-Za-km-z]{25,34}" + _E, check.base58check,
          r"bitcoin|btc|wallet", "check", GENERAL),
    _type("bitcoin_address", "Bitcoin address", _B + r"bc1[ac-hj-np-z02-9]{11,71}" + _E, None, r"bitcoin|btc|wallet",
          "format", GENERAL),
    _type("ethereum_address", "Ethereum address", _B + r"0x[0-9a-fA-F]{40}" + _E, None, r"ethereum|eth|wallet",
          "format", GENERAL),
    # -- people ---------------------------------------------------------------------------------------------------
    _type("us_ssn", "US social security number", _B + r"\d{3}-\d{2}-\d{4}" + _E, check.us_ssn,
          r"ssn|social security|soc sec|ss#", "check", HIGHLY_CONFIDENTIAL),
    _type("us_ssn", "US social security number", _B + r"\d{3} ?\d{2} ?\d{4}" + _E, check.us_ssn,
          r"ssn|social security|soc sec", "word", HIGHLY_CONFIDENTIAL),
    _type("us_itin", "US individual taxpayer id", _B + r"9\d{2}[- ]?\d{2}[- ]?\d{4}" + _E, check.us_itin,
          r"itin|taxpayer|tax id", "word", HIGHLY_CONFIDENTIAL),
    _type("uk_nino", "UK national insurance number",
          _B + r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]" + _E, None,
          r"national insurance|nino|ni number", "word", HIGHLY_CONFIDENTIAL),
    _type("uk_nhs", "UK NHS number", _B + r"\d{3}[ -]?\d{3}[ -]?\d{4}" + _E, check.nhs, r"nhs|patient", "word",
          HIGHLY_CONFIDENTIAL),
    _type("german_tax_id", "German tax id", _B + r"\d{2} ?\d{3} ?\d{3} ?\d{3}" + _E, check.german_tax_id,
          r"steuer-?id|steueridentifikationsnummer|steuernummer|idnr|tax id", "word", HIGHLY_CONFIDENTIAL),
    _type("french_nir", "French social security number",
          _B + r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}" + _E, check.french_nir,
          r"s[ée]curit[ée] sociale|nir|insee|carte vitale", "check", HIGHLY_CONFIDENTIAL),
    _type("spanish_id", "Spanish DNI or NIE", _B + r"(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]" + _E, check.spanish_id,
          r"dni|nie|nif|documento", "check"),
    _type("italian_fiscal_code", "Italian codice fiscale", _B + r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]" + _E,
          check.codice_fiscale, r"codice fiscale|cf|fiscal code", "format"),
    _type("dutch_bsn", "Dutch BSN", _B + r"\d{9}" + _E, check.dutch_bsn, r"bsn|burgerservicenummer|sofinummer", "word",
          HIGHLY_CONFIDENTIAL),
    _type("belgian_id", "Belgian national number", _B + r"\d{2}\.?\d{2}\.?\d{2}-?\d{3}[.-]?\d{2}" + _E,
          check.belgian_id, r"rijksregister\w*|registre national|national number|niss", "word", HIGHLY_CONFIDENTIAL),
    _type("polish_pesel", "Polish PESEL", _B + r"\d{11}" + _E, check.pesel, r"pesel", "word", HIGHLY_CONFIDENTIAL),
    _type("swedish_id", "Swedish personal number", _B + r"(?:19|20)?\d{6}[-+]\d{4}" + _E, check.swedish_id,
          r"personnummer|personal number|samordningsnummer", "check", HIGHLY_CONFIDENTIAL),
    _type("norwegian_id", "Norwegian birth number", _B + r"\d{6} ?\d{5}" + _E, check.norwegian_id,
          r"f[øo]dselsnummer|fnr|personnummer", "word", HIGHLY_CONFIDENTIAL),
    _type("danish_cpr", "Danish CPR number", _B + r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])\d{2}-\d{4}" + _E, None,
          r"cpr|personnummer", "word", HIGHLY_CONFIDENTIAL),
    _type("finnish_id", "Finnish personal code",
          _B + r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])\d{2}[-+A]\d{3}[0-9A-FHJ-NPR-Y]" + _E, check.finnish_id,
          r"henkil[öo]tunnus|hetu|personal identity", "check", HIGHLY_CONFIDENTIAL),
    _type("swiss_ahv", "Swiss AHV number", _B + r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}" + _E, check.swiss_ahv,
          r"ahv|avs|sozialversicherung\w*", "check", HIGHLY_CONFIDENTIAL),
    _type("brazilian_cpf", "Brazilian CPF", _B + r"\d{3}\.\d{3}\.\d{3}-\d{2}" + _E, check.cpf, r"cpf", "check",
          HIGHLY_CONFIDENTIAL),
    _type("brazilian_cnpj", "Brazilian CNPJ", _B + r"\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}" + _E, check.cnpj, r"cnpj",
          "check", GENERAL),
    _type("canadian_sin", "Canadian social insurance number", _B + r"\d{3}[ -]?\d{3}[ -]?\d{3}" + _E, check.sin,
          r"sin|social insurance|num[ée]ro d.assurance sociale", "word", HIGHLY_CONFIDENTIAL),
    _type("australian_tfn", "Australian tax file number", _B + r"\d{3} ?\d{3} ?\d{3}" + _E, check.tfn,
          r"tfn|tax file", "word", HIGHLY_CONFIDENTIAL),
    _type("indian_aadhaar", "Indian Aadhaar number", _B + r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}" + _E, check.aadhaar,
          r"aadhaar|aadhar|uidai", "word", HIGHLY_CONFIDENTIAL),
    _type("indian_pan", "Indian PAN", _B + r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]" + _E, None,
          r"pan", "word"),
    _type("chinese_id", "Chinese resident id", _B + r"[1-9]\d{16}[\dXx]" + _E, check.chinese_id,
          r"id card|resident id|identity", "check", HIGHLY_CONFIDENTIAL),
    _type("korean_rrn", "Korean resident number", _B + r"\d{6}-[1-8]\d{6}" + _E, check.korean_rrn,
          r"rrn|resident registration", "check", HIGHLY_CONFIDENTIAL),
    _type("singapore_nric", "Singapore NRIC or FIN", _B + r"[STFG]\d{7}[A-Z]" + _E, check.singapore_nric, r"nric|fin",
          "check", HIGHLY_CONFIDENTIAL),
    _type("south_african_id", "South African id", _B + r"\d{13}" + _E, check.south_african_id,
          r"id number|identity number|rsa id|south african id", "word", HIGHLY_CONFIDENTIAL),
    _type("turkish_id", "Turkish identity number", _B + r"[1-9]\d{10}" + _E, check.turkish_id,
          r"t\.?c\.? kimlik|tckn|kimlik", "word", HIGHLY_CONFIDENTIAL),
    _type("irish_pps", "Irish PPS number", _B + r"\d{7}[A-W][A-IW]?" + _E, check.irish_pps, r"pps|ppsn|public service",
          "word", HIGHLY_CONFIDENTIAL),
    _type("passport_mrz", "Machine-readable line of a passport",
          r"(?<![A-Z0-9<])[A-Z0-9<]{9}\d[A-Z<]{3}\d{7}[MFX<]\d{7}[A-Z0-9<]{14}[0-9<]\d", check.passport_mrz, r"passport",
          "check", HIGHLY_CONFIDENTIAL),
    _type("passport_number", "Passport number", _B + r"[A-Z]{1,2}\d{6,8}|(?<![\w.,+-])\d{9}" + _E, None,
          r"passport|passport number|passport no|reisepass|passeport|pasaporte", "word", HIGHLY_CONFIDENTIAL),
    _type("drivers_licence", "Driving licence number", _B + r"[A-Z0-9]{1,4}[- ]?\d{5,12}" + _E, None,
          r"driver'?s? licen[cs]e|driving licen[cs]e|f[üu]hrerschein\w*|dl number", "word"),
    _type("date_of_birth", "Date of birth",
          _B + r"(?:(?:19|20)\d{2}[-/.](?:0?[1-9]|1[0-2])[-/.](?:[0-2]?\d|3[01])|(?:[0-2]?\d|3[01])[-/.](?:[0-2]?\d|3[01])[-/.](?:19|20)\d{2})" + _E,
          None, r"date of birth|birth ?date|d\.?o\.?b|born on|geburtsdatum|geboren am|date de naissance|fecha de nacimiento",
          "word"),
    _type("phone_number", "Telephone number, international form",
          r"(?<![\w.+/=-])\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,5}(?:[ .-]?\d{2,5}){1,4}" + _E, None,
          r"phone|mobile|cell|tel|call|telefon|handy|t[ée]l[ée]phone|tel[ée]fono", "word", GENERAL),
    _type("imei", "Device number (IMEI)", _B + r"\d{2}-?\d{6}-?\d{6}-?\d" + _E, check.imei, r"imei", "word", GENERAL),
    # -- words ----------------------------------------------------------------------------------------------------
    _type("password", "Password in plain text",
          r"(?i:(?<![A-Za-z])(?:password|passwd|passphrase|pwd|passwort|kennwort|mot de passe|contrase[ñn]a)(?: is| ist| est| es)?\s{0,2}[:=]?\s{0,2})[\"'`]?((?=[^\s\"'`]{0,63}\d)(?=[^\s\"'`]{0,63}[A-Za-z])[^\s\"'`<>{}]{7,64})",
          None, "", "format", HIGHLY_CONFIDENTIAL),
    _type("classification_marking", "Marked as confidential or secret",
          r"(?im:^[ \t#*>\[(]{0,4}(?:classification|sensitivity|label|vertraulichkeit)[ \t]{0,3}[:=][ \t*]{0,3}((?:strictly |highly )?(?:confidential|secret|restricted|vertraulich|streng vertraulich)))",
          None, "", "format"),
    _type("classification_marking", "Marked as confidential or secret",
          r"(?<![A-Za-z])((?:STRICTLY|HIGHLY|COMPANY) CONFIDENTIAL|STRENG VERTRAULICH|TOP SECRET(?=//)|MSIP_Label_[0-9a-f-]{36}_Enabled=true)",
          None, "", "format"),
)  # fmt: skip
"""Every type, in the order in which findings that overlap win."""

TYPE_IDS: Final = tuple(dict.fromkeys(kind.id for kind in TYPES))
LABEL_OF: Final = {kind.id: kind.label for kind in TYPES}
CONFIDENT: Final = 0.6
"""The least score of medium confidence."""
LABELS: Final = tuple(label.name for label in (GENERAL, CONFIDENTIAL, HIGHLY_CONFIDENTIAL))

_LONG: Final = frozenset({"bitcoin_address", "ethereum_address", "italian_fiscal_code"})
_NAMED: Final = frozenset({"uk_nino", "swift_bic", "indian_pan", "password", "classification_marking"})
"""Types of few digits: found in long runs, and beside words. Every other type has a run of digits."""

_WORDS: Final = frozenset(
    {
        "password", "passwords", "passwd", "pwd", "passwort", "kennwort", "passphrase", "passe", "contrasena", "insurance",
        "nino", "confidential", "msip", "classification", "sensitivity", "vertraulich", "vertraulichkeit", "secret", "swift",
        "bic", "pan",
    }
)  # fmt: skip
"""What stands beside sensitive things that are short or no numbers, as ``text.fold`` writes it."""
_NEAR: Final = 60
"""Characters before and after a number in which its words are looked for."""


def may_hold(text: str) -> bool:
    """Whether there is a run of digits or a long run of anything, or one of a few words."""
    runs = runs_in(text)
    return runs.has_digits or runs.is_long or not _WORDS.isdisjoint(shared_words(text))


def find(text: str) -> list[Hit]:
    """The sensitive passages of ``text``, in order, not overlapping: where two types fit, the likelier one."""
    found: list[Hit] = []
    lower = text.lower()
    has_same_length = len(lower) == len(text)
    runs, has_words = runs_in(text), not _WORDS.isdisjoint(shared_words(text))
    for kind in TYPES:
        if not (has_words if kind.id in _NAMED else runs.is_long if kind.id in _LONG else runs.has_digits):
            continue
        if kind.needs == "word" and (kind.words is None or not kind.words.search(lower)):
            continue
        for match in kind.pattern.finditer(text):
            span = match.span(1 if kind.pattern.groups else 0)
            around = lower[max(0, span[0] - _NEAR) : span[1] + _NEAR] if has_same_length else lower
            hit = _judge(kind, text[slice(*span)], around, span)
            if hit is not None:
                found.append(hit)
    found.sort(key=lambda hit: -hit.score)
    kept: list[Hit] = []
    taken: list[tuple[int, int]] = []
    for hit in found:
        if all(hit.span[1] <= start or end <= hit.span[0] for start, end in taken):
            kept.append(hit)
            taken.append(hit.span)
    return sorted(kept, key=lambda hit: hit.span)


def _judge(kind: Type, value: str, around: str, span: tuple[int, int]) -> Hit | None:
    is_valid = kind.is_valid is None or kind.is_valid(value)
    has_word = kind.words is not None and kind.words.search(around) is not None
    if kind.needs == "word" and not has_word:
        return None
    if kind.needs == "check" and not (is_valid or has_word):
        return None
    is_checked = kind.is_valid is not None and is_valid
    if is_checked and (has_word or kind.needs != "word"):
        score = 0.95 if has_word else 0.8
    elif is_valid and (has_word or kind.needs == "format"):
        score = 0.8 if has_word else 0.65
    else:
        score = 0.4  # of the right form, but its check digit is wrong
    severity = Severity.MEDIUM if score >= 0.65 and kind.label is not GENERAL else Severity.LOW
    return Hit(kind.id, severity, score, span, kind.id, "", f"[redacted {kind.id}]", is_hidden=True)


def label_of(categories: frozenset[str]) -> str:
    """The highest label of ``categories``; empty when none of them is a type."""
    labels = [LABEL_OF[category] for category in categories if category in LABEL_OF]
    return max(labels).name if labels else ""
