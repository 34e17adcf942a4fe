"""Secrets in content: keys and tokens of known shape, and the redactions that would take them out.

Every pattern hangs on a literal prefix that its issuer chose, so ordinary prose never matches; what follows must look
random. Passwords without such a prefix are not seen. Patterns are bounded and free of nested repetition: matching is
linear whatever the text.
"""

from __future__ import annotations

import binascii
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from watchfloor.guard.content import Content, show_path
from watchfloor.guard.detectors import checksums
from watchfloor.guard.detectors.decode import runs_in
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.text import excerpt
from watchfloor.model.verdicts import Redaction, Severity, Signal

NAME: Final = "secrets"
CATEGORY: Final = "secret"

_MOST_FINDINGS: Final = 50

_SHORTEST: Final = 20
"""No secret is shorter, but for passwords in URLs and keys that stand behind their name."""

_START: Final = r"(?<![A-Za-z0-9])"
_END: Final = r"(?![A-Za-z0-9])"


class Kind(NamedTuple):
    """One kind of secret. Group 1 of ``pattern``, where there is one, is the secret itself.

    ``entropy`` is the least Shannon entropy, in bits a character, that the secret must have. ``is_valid`` computes its
    checksum, where its issuer gave it one: a signal, never a filter, for a token with a typing error is a leak, too.
    """

    name: str
    literals: tuple[str, ...]
    pattern: re.Pattern[str]
    entropy: float = 3.0
    severity: Severity = Severity.HIGH
    is_valid: Callable[[str], bool] | None = None


def _kind(
    name: str, literals: str, pattern: str, entropy: float = 3.0, is_valid: Callable[[str], bool] | None = None
) -> Kind:
    return Kind(name, tuple(literals.split()), re.compile(_START + pattern), entropy, Severity.HIGH, is_valid)


def _ends_in_crc32(token: str) -> bool:
    return checksums.crc32_base62(token.partition("_")[2][:-6], token[-6:])


def _is_token_of_claims(token: str) -> bool:
    """A JSON web token whose header says how it is signed."""
    header = token.partition(".")[0]
    try:
        return b'"alg"' in binascii.a2b_base64(header.translate({45: "+", 95: "/"}) + "=" * (-len(header) % 4))
    except binascii.Error:
        return False


def _decodes_to(length: int) -> Callable[[str], bool]:
    def is_as_long(token: str) -> bool:
        try:
            return len(binascii.a2b_base64(token, strict_mode=True)) == length
        except binascii.Error:
            return False

    return is_as_long


KINDS: Final[tuple[Kind, ...]] = (
    _kind("aws_access_key", "AKIA ASIA", r"(?:AKIA|ASIA)[A-Z2-7]{16}" + _END, 2.8),
    _kind(
        "aws_secret_key",
        "aws_secret AWS_SECRET SecretAccessKey secretAccessKey",
        r"(?:aws_secret_access_key|AWS_SECRET_ACCESS_KEY|aws_secret_key|[sS]ecretAccessKey)[\"'\s:=]{1,6}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
        3.5,
    ),
    _kind("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36,255}", is_valid=_ends_in_crc32),
    _kind("github_token", "github_pat_", r"github_pat_[A-Za-z0-9_]{40,255}"),
    _kind("gitlab_token", "glpat- gldt- glrt- glptt-", r"(?:glpat|gldt|glrt|glptt)-[A-Za-z0-9_.-]{20,255}"),
    _kind("slack_token", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", r"xox[abeoprs]-[A-Za-z0-9-]{20,255}", 2.8),
    _kind("slack_token", "xapp-", r"xapp-\d-[A-Za-z0-9-]{20,255}", 2.8),
    _kind("slack_webhook", "hooks.slack.com/services/", r"hooks\.slack\.com/services/(T\w{6,14}/B\w{6,14}/\w{16,40})"),
    _kind("stripe_key", "k_live_ k_test_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}"),
    _kind("stripe_webhook_secret", "whsec_", r"whsec_[A-Za-z0-9+/=]{24,255}"),
    _kind("anthropic_key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{24,255}"),
    _kind("openai_key", "sk-", r"sk-(?!ant-)(?=[A-Za-z0-9_-]{0,200}\d)[A-Za-z0-9_-]{32,255}", 3.5),
    _kind("google_api_key", "AIza", r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _kind("google_oauth_secret", "GOCSPX-", r"GOCSPX-[A-Za-z0-9_-]{24,40}"),
    _kind("google_oauth_token", "ya29.", r"ya29\.[A-Za-z0-9_-]{24,2000}"),
    _kind("azure_storage_key", "AccountKey=", r"AccountKey=([A-Za-z0-9+/]{64,100}={0,2})", 3.5, _decodes_to(64)),
    _kind("azure_shared_key", "SharedAccessKey=", r"SharedAccessKey=([A-Za-z0-9+/]{30,100}={0,2})", 3.5),
    _kind("npm_token", "npm_", r"npm_[A-Za-z0-9]{36}" + _END, is_valid=_ends_in_crc32),
    _kind("pypi_token", "pypi-AgE", r"pypi-AgE[A-Za-z0-9_-]{50,1000}"),
    _kind("huggingface_token", "hf_", r"hf_[A-Za-z0-9]{30,60}" + _END, 3.5),
    _kind("sendgrid_key", "SG.", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    _kind("digitalocean_token", "dop_v1_ doo_v1_", r"do[op]_v1_[a-f0-9]{64}"),
    _kind("shopify_token", "shpat_ shpss_ shpca_", r"shp(?:at|ss|ca)_[a-fA-F0-9]{32}"),
    _kind("databricks_token", "dapi", r"dapi[a-f0-9]{32}" + _END),
    _kind("vault_token", "hvs. hvb.", r"hv[sb]\.[A-Za-z0-9_-]{24,300}"),
    _kind("docker_token", "dckr_pat_", r"dckr_pat_[A-Za-z0-9_-]{24,64}"),
    _kind("telegram_token", ":AA", r"\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    _kind("age_key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{58}", is_valid=checksums.bech32),
    _kind("watchfloor_key", "wfk_", r"wfk_[A-Za-z0-9]{24,128}"),
    _kind(
        "json_web_token",
        "eyJ",
        r"(?<![_-])eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{16,2000}",
        3.5,
        _is_token_of_claims,
    ),
    _kind("private_key", "PRIVATE", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----", 0.0),
    _kind(
        "putty_key",
        "PuTTY-User-Key-File",
        r"PuTTY-User-Key-File-[23]: [\s\S]{0,1500}?Private-MAC: [0-9a-f]{40,64}",
        0.0,
    ),
    # -- clouds and hosting ---------------------------------------------------------------------------------------
    _kind("alibaba_key", "LTAI", r"LTAI[A-Za-z0-9]{16,24}" + _END),
    _kind("tencent_key", "AKID", r"AKID[A-Za-z0-9]{32}" + _END, 3.5),
    _kind("yandex_key", "AQVN", r"AQVN[A-Za-z0-9_-]{35,38}(?![A-Za-z0-9_-])", 3.5),
    _kind("azure_client_secret", "Q~", r"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~-])", 3.5),
    _kind("azure_devops_token", "AZDO", r"[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}" + _END, 3.5),
    _kind("digitalocean_token", "dor_v1_", r"dor_v1_[a-f0-9]{64}"),
    _kind("heroku_key", "HRKU-", r"HRKU-[A-Za-z0-9_-]{36,64}"),
    _kind("fly_token", "fm1_ fm2_ fo1_", r"(?:fm\d_[A-Za-z0-9+/=,_-]{60,2000}|fo1_[A-Za-z0-9_-]{43})"),
    _kind("netlify_token", "nfp_", r"nfp_[A-Za-z0-9]{36}" + _END),
    _kind("supabase_token", "sbp_", r"sbp_[a-f0-9]{40}" + _END),
    _kind("planetscale_token", "pscale_", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,64}"),
    _kind("terraform_token", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}"),
    _kind("pulumi_token", "pul-", r"pul-[a-f0-9]{40}" + _END),
    _kind("doppler_token", "dp.", r"dp\.(?:pt|st|ct|scim|audit|sa)\.[A-Za-z0-9_.-]{40,64}"),
    _kind("onepassword_token", "ops_eyJ", r"ops_eyJ[A-Za-z0-9_=-]{200,2000}"),
    # -- models ---------------------------------------------------------------------------------------------------
    _kind("groq_key", "gsk_", r"gsk_[A-Za-z0-9]{48,56}" + _END, 3.5),
    _kind("perplexity_key", "pplx-", r"pplx-[A-Za-z0-9]{40,56}" + _END, 3.5),
    _kind("xai_key", "xai-", r"xai-[A-Za-z0-9]{70,90}" + _END, 3.5),
    _kind("replicate_token", "r8_", r"r8_[A-Za-z0-9]{37}" + _END, 3.5),
    _kind("langsmith_key", "lsv2_", r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    _kind("tavily_key", "tvly-", r"tvly-(?:dev-|prod-)?[A-Za-z0-9]{28,40}" + _END, 3.5),
    # -- source and packages --------------------------------------------------------------------------------------
    _kind(
        "gitlab_token",
        "glsoat- glcbt- glimt- glagent- glft-",
        r"(?:glsoat|glcbt|glimt|glagent|glft)-[A-Za-z0-9_-]{20,255}",
    ),
    _kind("atlassian_token", "ATATT3x", r"ATATT3x[A-Za-z0-9_=-]{150,250}"),
    _kind("bitbucket_token", "ATBB", r"ATBB[A-Za-z0-9]{32}" + _END),
    _kind("rubygems_key", "rubygems_", r"rubygems_[a-f0-9]{48}" + _END),
    _kind("clojars_token", "CLOJARS_", r"CLOJARS_[a-z0-9]{60}" + _END),
    _kind("artifactory_key", "AKCp", r"AKCp[A-Za-z0-9]{60,76}" + _END),
    _kind("sonar_token", "squ_ sqp_ sqa_", r"sq[upa]_[a-f0-9]{40}" + _END),
    _kind("sentry_token", "sntrys_ sntryu_", r"sntry[su]_[A-Za-z0-9+/=_-]{60,300}"),
    _kind("postman_key", "PMAK-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    _kind("prefect_key", "pnu_ pnb_", r"pn[ub]_[A-Za-z0-9]{36}" + _END),
    # -- work and messages ----------------------------------------------------------------------------------------
    _kind("linear_key", "lin_api_", r"lin_api_[A-Za-z0-9]{40}" + _END),
    _kind("notion_token", "ntn_", r"ntn_[A-Za-z0-9]{43,50}" + _END),
    _kind("figma_token", "figd_", r"figd_[A-Za-z0-9_-]{38,44}"),
    _kind("airtable_token", "pat", r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}" + _END),
    _kind("discord_webhook", "/api/webhooks/", r"discord(?:app)?\.com/api/webhooks/(\d{17,20}/[A-Za-z0-9_-]{60,80})"),
    _kind(
        "teams_webhook",
        "webhook.office.com/",
        r"webhook\.office\.com/webhookb2/([a-f0-9-]{36}@[a-f0-9-]{36}/IncomingWebhook/[a-f0-9]{32}/[a-f0-9-]{36})",
    ),
    _kind("mailgun_key", "key-", r"key-[a-f0-9]{32}" + _END),
    _kind("mailchimp_key", "-us", r"[a-f0-9]{32}-us\d{1,2}" + _END),
    _kind("brevo_key", "xkeysib- xsmtpsib-", r"x(?:keysib|smtpsib)-[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    _kind("twilio_key", "SK AC", r"SK[a-f0-9]{32}" + _END),
    # -- money ----------------------------------------------------------------------------------------------------
    _kind("square_token", "sq0 EAAA", r"(?:sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}|EAAAE[A-Za-z0-9_-]{58,80})"),
    _kind("braintree_token", "access_token$production$", r"access_token\$production\$[a-z0-9]{16}\$[a-f0-9]{32}"),
    _kind("razorpay_key", "rzp_live_", r"rzp_live_[A-Za-z0-9]{14}" + _END),
    _kind("flutterwave_key", "FLWSECK", r"FLWSECK(?:_TEST)?-[a-f0-9]{32}-X"),
    _kind("easypost_key", "EZAK", r"EZAK[A-Za-z0-9]{54}" + _END),
    # -- watching and network -------------------------------------------------------------------------------------
    _kind("grafana_token", "glsa_ glc_", r"(?:glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}|glc_[A-Za-z0-9+/=]{60,300})"),
    _kind("new_relic_key", "NRAK- NRII- NRJS-", r"NR(?:AK|II|JS)-[A-Za-z0-9_-]{19,32}"),
    _kind("dynatrace_token", "dt0c01.", r"dt0c01\.[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    _kind("cloudflare_origin_key", "v1.0-", r"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}"),
    _kind("tailscale_key", "tskey-", r"tskey-(?:api|auth|client|scim|webhook)-[A-Za-z0-9]{6,20}-[A-Za-z0-9]{20,40}"),
    _kind("facebook_token", "EAA", r"EAA[A-Z][A-Za-z0-9]{80,255}" + _END, 3.5),
    Kind("url_password", ("://",), re.compile(r"://[^\s:/@\"'<>]{0,64}:([^\s/@\"'<>]{4,200})@[\w.\[]"), 2.0),
)

_PLACEHOLDER: Final = re.compile(
    r"example|placeholder|changeme|password|redacted|your|secret|dummy|sample|[x*•.]{6}|[<>{}$%]",
    re.IGNORECASE,
)
_PLACEHOLDER_PASSWORD: Final = re.compile(
    r"(?:my|your)?[_-]?(?:example|placeholder|changeme|change_me|passwor[dt]|passwd|pass|pwd|redacted|secret|dummy|test)"
    r"|[x*•.]+|[<\[{$%(].*",
    re.IGNORECASE,
)
_PRIVATE_KEY_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_LITERALS: Final = tuple(dict.fromkeys(literal for kind in KINDS for literal in kind.literals))
_PLAIN_LITERALS: Final = tuple(
    literal for literal in _LITERALS if literal == literal.lower() and "_" not in literal and "-" not in literal
)
"""What can stand in words of small letters without dashes: addresses are such words, and frequent."""

INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")
"""Characters that nobody sees, and that whoever copies a token drops."""


class Secret(NamedTuple):
    """A secret in a text: its kind and the characters of the original text that it covers."""

    kind: str
    severity: Severity
    span: tuple[int, int]
    is_valid: bool | None = None
    """Whether its checksum is right; ``None`` where it has none."""

    @property
    def score(self) -> float:
        """How sure it is: a right checksum is proof, a wrong one leaves the shape."""
        return 0.95 if self.is_valid is None else 0.99 if self.is_valid else 0.9


def find_secrets(text: str) -> list[Secret]:
    """The secrets in ``text``, in order, not overlapping."""
    if text.isascii() or not INVISIBLE.search(text):
        return _find(text)
    # Invisible characters inside a token are dropped by whoever copies it: look without them, answer with them.
    kept = [index for index, character in enumerate(text) if not INVISIBLE.match(character)]
    found = _find("".join(text[index] for index in kept))
    return [each._replace(span=(kept[each.span[0]], kept[each.span[1] - 1] + 1)) for each in found]


def _find(text: str) -> list[Secret]:
    found: list[Secret] = []
    for kind in KINDS:
        if not any(literal in text for literal in kind.literals):
            continue
        covered = 0
        for match in kind.pattern.finditer(text):
            group = 1 if kind.pattern.groups else 0
            start, end = match.span(group)
            if kind.name == "private_key":
                if start < covered:
                    continue
                closing = _PRIVATE_KEY_END.search(text, end)
                end = covered = closing.end() if closing else len(text)
            elif not _looks_random(match[group], kind):
                continue
            is_valid = kind.is_valid(text[start:end]) if kind.is_valid is not None else None
            found.append(Secret(kind.name, kind.severity, (start, end), is_valid))
    if len(found) < 2:
        return found
    found.sort(key=lambda secret: (secret.span[0], -secret.span[1]))
    disjoint = [found[0]]
    for secret in found[1:]:
        last = disjoint[-1]
        if secret.span[0] >= last.span[1]:
            disjoint.append(secret)
        elif secret.span[1] > last.span[1]:
            disjoint[-1] = last._replace(span=(last.span[0], secret.span[1]))
    return disjoint


def _looks_random(secret: str, kind: Kind) -> bool:
    """Whether ``secret`` has the entropy of a made-up string and is not a placeholder from documentation."""
    if kind.name == "url_password":
        # Chosen by people, so it may well contain a word; only what is nothing but a placeholder does not count.
        return not _PLACEHOLDER_PASSWORD.fullmatch(secret) and _entropy(secret) >= kind.entropy
    return not _PLACEHOLDER.search(secret) and _entropy(secret) >= kind.entropy


def _entropy(text: str) -> float:
    total = len(text)
    return -sum(count / total * math.log2(count / total) for count in Counter(text).values())


def _may_hold_secrets(text: str) -> bool:
    """A quick look that never says no to a text with a secret in it."""
    if not text.isascii() and INVISIBLE.search(text):
        return True
    if ("@" in text and "://" in text) or "PRIVATE KEY" in text:
        return True
    if "ecret" in text or "SECRET" in text:
        return True
    if "Q~" in text:  # a secret of Azure may have dots between all its letters
        return True
    # Every other secret is one long word with a long run in it, and these are few.
    if not runs_in(text).is_long:
        return False
    long_words = "\n".join([word for word in text.split() if len(word) >= _SHORTEST])
    if not long_words:
        return False
    is_plain = "_" not in long_words and "-" not in long_words and long_words == long_words.lower()
    found = [literal for literal in (_PLAIN_LITERALS if is_plain else _LITERALS) if literal in long_words]
    return bool(found)


def mask(text: str) -> str:
    """``text`` with every secret replaced by its kind: fit to store as metadata."""
    if not _may_hold_secrets(text):
        return text
    pieces, position = [], 0
    for secret in find_secrets(text):
        pieces += [text[position : secret.span[0]], f"[{secret.kind}]"]
        position = secret.span[1]
    return "".join([*pieces, text[position:]])


def detect(content: Content) -> list[Finding]:
    """Secrets in arguments, long object keys and the user's words."""
    if not _may_hold_secrets(content.joined):
        return []
    findings: list[Finding] = []
    for path, value in content.strings:
        for secret, signal in _signals(value, show_path(path)):
            findings.append(Finding(signal, Redaction(path, secret.span, f"[redacted {secret.kind}]"), True))
    for path, key in content.keys:
        findings += [Finding(signal, None, True) for _, signal in _signals(key, f"{show_path(path[:-1])}.(key)")]
    if len(findings) > _MOST_FINDINGS:
        # More than we are willing to list: what is not listed cannot be redacted, so nothing is offered for the last.
        findings[_MOST_FINDINGS - 1 :] = [findings[_MOST_FINDINGS - 1]._replace(redaction=None)]
    for index, turn in enumerate(content.user_turns):
        findings += [Finding(signal, None, False) for _, signal in _signals(turn, f"user_turns[{index}]")]
    return findings[: 2 * _MOST_FINDINGS]


def _signals(text: str, path: str) -> list[tuple[Secret, Signal]]:
    secrets = find_secrets(text)
    hidden = [secret.span for secret in secrets]
    return [
        (
            secret,
            Signal(
                NAME,
                CATEGORY,
                secret.severity,
                secret.score,
                path,
                secret.span,
                f"{secret.kind}: {excerpt(text, secret.span, hidden)}"[:80],
            ),
        )
        for secret in secrets[: _MOST_FINDINGS + 1]
    ]
