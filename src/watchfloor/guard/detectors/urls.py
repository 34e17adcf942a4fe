"""URLs that carry data away, or lead where nobody should be led.

An agent's answer or a tool's result may hold an image or a link whose address is made of what was read: whoever renders
it sends the data out, without any tool call. Seen are values in path or query that read as data (encoded text, secrets,
placeholders to be filled in, long values nobody typed), above all in images, and hosts that hide who they are: numbers
for names, look-alike letters, credentials before an ``@``, catchers of requests, tunnels. Which hosts are good or bad is
not known here; policies know the company's own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from watchfloor.guard.detectors import decode
from watchfloor.guard.detectors.hit import Hit
from watchfloor.guard.detectors.secrets import find_secrets
from watchfloor.model.verdicts import Severity

CARRIES: Final = "url_exfiltration"
HIDES: Final = "suspicious_url"

_URL: Final = re.compile(r"(?i:https?://|//(?=[\w-]+\.))[^\s<>\"'`\\]{4,4000}")
_IMAGE: Final = re.compile(
    r"!\[[^\]]{0,300}\]\(\s{0,3}<?$|!\[[^\]]{0,300}\]:\s{0,3}$|(?i:<(?:img|iframe|video|audio|source|script|link|object|embed)\b[^>]{0,300}?(?:src|href|data)\s?=\s?[\"']?)$"
    r"|(?i:url\(\s?[\"']?)$|(?i:background\s?=\s?[\"']?)$"
)
"""What stands before the address of something that is loaded without a click."""
_REFERENCE: Final = re.compile(r"!\[[^\]]{0,300}\]\[([^\]]{1,100})\]")
_LINK: Final = re.compile(r"\]\(\s{0,3}<?$|(?i:<a\b[^>]{0,300}?href\s?=\s?[\"']?)$")
_PLACEHOLDER: Final = re.compile(
    r"\{\{?\s?[\w .-]{2,40}\s?\}?\}|%7B[\w .-]{2,40}%7D|\[(?:[A-Z_ -]{4,40}|[\w -]*(?:data|secret|password|content|summary|history|conversation|token|key|here)[\w -]*)\]"
    r"|<(?:data|secret|password|content|summary|history|conversation|token|key|encoded[\w -]*|insert[\w -]*|user[\w -]*)>"
    r"|\b(?:INSERT|ENCODED|BASE64|YOUR|STOLEN|USER|SECRET|DATA)_[A-Z_]{3,30}\b",
)
_DATA_NAMES: Final = frozenset(
    [
        "data",
        "d",
        "q",
        "payload",
        "exfil",
        "exfiltrate",
        "leak",
        "secret",
        "secrets",
        "token",
        "password",
        "pwd",
        "pass",
        "key",
        "apikey",
        "api_key",
        "content",
        "text",
        "msg",
        "message",
        "body",
        "info",
        "history",
        "chat",
        "conversation",
        "context",
        "prompt",
        "summary",
        "email",
        "emails",
        "contacts",
        "cookie",
        "cookies",
        "session",
        "s",
        "p",
        "log",
        "stolen",
        "dump",
    ]
)
_SIGNATURES: Final = re.compile(
    r"(?i:^(?:x-(?:amz|goog|ms)-.*|sig|signature|se|sp|sv|sr|st|spr|skoid|sktid|expires|policy|key-pair-id|awsaccesskeyid|hash|hmac|utm_.*|etag|v|ver"
    r"|version|integrity|nonce|state|code|access_token|id_token|oh|oe|_nc_.*|ixid|ixlib|cb|t|ts|fbclid|gclid|h|w)$)"
)
"""Parameters that are long and random by trade: signatures of stores, caches and campaigns."""
_CATCHERS: Final = re.compile(
    r"(?i:(?:^|\.)(?:webhook\.site|requestbin\.(?:com|net)|requestcatcher\.com|pipedream\.net|interact\.sh|interactsh\.com"
    r"|oast\.(?:pro|live|site|online|fun|me)|burpcollaborator\.net|oastify\.com|beeceptor\.com|hookbin\.com|ngrok\.io"
    r"|ngrok-free\.app|ngrok\.app|trycloudflare\.com|serveo\.net|localtunnel\.me|loca\.lt|canarytokens\.com|dnslog\.cn"
    r"|ceye\.io|xss\.ht|bxss\.me|postb\.in|ptsv3\.com|webhook-test\.com)$)"
)
_NUMERIC_HOST: Final = re.compile(r"^(?:\d{1,3}(?:\.\d{1,3}){3}|0x[0-9a-fA-F]{8}|\d{8,10}|\[[0-9a-fA-F:.]+\])$")
_OWN_NETWORK: Final = re.compile(
    r"^(?:127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|0\.0\.0\.0|\[::1\]|\[f[cde])"
)
_DATA_URI: Final = re.compile(r"(?i:data:text/html|javascript:)[^\s\"'<>]{12,2000}")
_MOST_URLS: Final = 40
_LONG_VALUE: Final = 24
_VERY_LONG_VALUE: Final = 48
_TRAILING: Final = ".,;:!?)]}>'\""


def may_hold(text: str) -> bool:
    """Without ``//`` there is no URL that a client would load."""
    return "//" in text or "javascript:" in text or "data:text" in text


def find(text: str) -> list[Hit]:
    """At most one hit for each URL, the worst."""
    hits: list[Hit] = []
    references = {name.lower() for name in _REFERENCE.findall(text)}
    for number, found in enumerate(_URL.finditer(text)):
        if number >= _MOST_URLS:
            break
        before = text[max(0, found.start() - 340) : found.start()]
        url = found[0].rstrip(_TRAILING) if "{" not in found[0] else found[0].rstrip(".,;:!?)]>'\"")
        span = (found.start(), found.start() + len(url))
        line = before.rpartition("\n")[2].strip().rstrip(":<").lower()
        is_loaded = _IMAGE.search(before) is not None or (line[:1] == "[" and line.strip("[] ") in references)
        hit = _judge(url, span, is_loaded, _LINK.search(before) is not None)
        if hit is not None:
            hits.append(hit)
    script = _DATA_URI.search(text)
    if script:
        hits.append(Hit(HIDES, Severity.MEDIUM, 0.7, script.span(), "an address that is a program", ""))
    return hits


def _judge(url: str, span: tuple[int, int], is_loaded: bool, is_link: bool) -> Hit | None:
    if url.startswith("//"):
        if not is_loaded:
            return None  # a comment or a path, mostly
        url = f"https:{url}"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    place = "an image or frame" if is_loaded else "a link" if is_link else "a URL"
    carried = _carried(parts.path, parts.query, parts.fragment, host, is_loaded)
    if carried is not None:
        score, what, decoded = carried
        severity = Severity.HIGH if is_loaded or score >= 0.9 else Severity.MEDIUM
        return Hit(
            CARRIES, severity, score if is_loaded else score - 0.1, span, f"{place} to {host} carries {what}", decoded
        )
    if _CATCHERS.search(host):
        return Hit(HIDES, Severity.MEDIUM, 0.75, span, f"{place} to {host}, which catches requests or hides a host", "")
    if "@" in parts.netloc and "." in parts.netloc.partition("@")[0]:
        return Hit(HIDES, Severity.MEDIUM, 0.75, span, f"{place} that only seems to lead elsewhere: {host}", "")
    if "xn--" in host or not host.isascii():
        mixed = host.encode("ascii", "ignore").decode()
        is_mixed = "xn--" not in host and any(c.isalpha() for c in mixed.rpartition(".")[0])
        if is_mixed:
            return Hit(HIDES, Severity.MEDIUM, 0.7, span, f"{place} to a host of mixed scripts: {host}", "")
    if _NUMERIC_HOST.match(host) and not _OWN_NETWORK.match(host):
        return Hit(HIDES, Severity.LOW, 0.5, span, f"{place} to a host without a name: {host}", "")
    return None


def _carried(path: str, query: str, fragment: str, host: str, is_loaded: bool) -> tuple[float, str, str] | None:
    """What the address carries: how sure, in words, decoded."""
    whole = f"{path}?{query}#{fragment}"
    if find_secrets(unquote(whole)):
        return 0.97, "a secret", ""
    placeholder = _PLACEHOLDER.search(query) or _PLACEHOLDER.search(unquote(query)) if query else None
    if placeholder is None and is_loaded:
        placeholder = _PLACEHOLDER.search(unquote(path))
    values = [(name, value) for name, value in parse_qsl(query[:4000]) if not _SIGNATURES.match(name)]
    if placeholder is not None and (is_loaded or any(name.lower() in _DATA_NAMES for name, _ in values)):
        return 0.9, "a placeholder for data", ""
    first = host.partition(".")[0]
    pieces = [("", piece) for piece in path.split("/") if len(piece) >= _LONG_VALUE]
    for name, value in [*values, *pieces, ("", first if len(first) >= 32 else "")]:
        if len(value) < 16:
            continue
        said = _decoded(value)
        if said:
            return 0.95, "encoded text", said
        is_data = name.lower() in _DATA_NAMES
        if not is_loaded:
            continue
        words = len(value.split()) if name else 0
        if is_data and words >= 4:
            return 0.85, "a text", value
        if is_data and len(value) >= _LONG_VALUE and _entropy(value) >= 3.6:
            return 0.85, "a long value", ""
        if name and len(value) >= _VERY_LONG_VALUE and _entropy(value) >= 4.0:
            return 0.7, "a long value", ""
    return None


def _decoded(value: str) -> str:
    """What ``value`` says where it is text in disguise; empty for hashes, ids and readable values."""
    if not decode.has_long_run(value) and not decode.has_digits(value):
        return ""
    for reading in decode.readings(value):
        if reading.how[-1] in ("base64", "base32", "hex") and (
            " " in reading.text or ":" in reading.text or "=" in reading.text
        ):
            return reading.text
    return ""


def _entropy(text: str) -> float:
    total = len(text)
    return -sum(count / total * math.log2(count / total) for count in Counter(text).values())
