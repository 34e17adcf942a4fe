"""Which strings are secrets, which only look like one, and that none is ever shown."""

from __future__ import annotations

import binascii
import itertools
import time

import pytest

from watchfloor.guard import redact
from watchfloor.guard.content import Limits, examine
from watchfloor.guard.detectors import secrets
from watchfloor.guard.detectors.secrets import find_secrets, mask

JWT = (
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJncmlmZmluIiwiaWF0IjoxNzk1NDEzNzM3fQ."
    "c2lnbmF0dXJlLW9mLXNvbWUtbGVuZ3Ro"
)
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7x\nq9Zk\n-----END RSA PRIVATE KEY-----"

SECRETS = [
    ("aws_access_key", "AKIAQ3EGUZ7XW5NDLPQR"),
    ("aws_secret_key", "aws_secret_access_key = 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"),
    ("aws_secret_key", '"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzz9QmKq1Lp"'),
    ("github_token", "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"),
    ("github_token", "github_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456789abcdefGH"),
    ("gitlab_token", "glpat-x9Y8z7W6v5U4t3S2r1Q0"),
    ("slack_token", "xoxb-" + "2912345678-2912345679-AbCdEfGhIjKlMnOpQrStUvWx"),
    ("slack_webhook", "https://hooks.slack.com/services/T01ABCDEF/B01ABCDEF/aBcDeFgHiJkLmNoPqRsTuVwX"),
    ("stripe_key", "sk_" + "live_51H8xYzAbCdEfGhIjKlMn"),
    ("anthropic_key", "sk-ant-api03-aB3dE5fG7hI9jK1lM3nO5pQ7"),
    ("openai_key", "sk-proj-aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z"),
    ("google_api_key", "AIzaSyD4aBcDeFgHiJkLmNoPqRsTuVwXyZ01239"),
    ("google_oauth_secret", "GOCSPX-aBcDeFgHiJkLmNoPqRsTuVwX1234"[:35]),
    ("azure_storage_key", "AccountKey=" + "Zk3q9Xw7Lp2mRt5vBn8cHs4dJf6gKa1yQe0uTi+oWzPxCvMbNlSjDrFhGy/EkUaQ4w7tR2e=="),
    ("npm_token", "npm_aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5"),
    ("huggingface_token", "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZabcdefGH"),
    ("sendgrid_key", "SG.aBcDeFgHiJkLmNoPqRsTuV.aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789aBcDeFg"),
    ("digitalocean_token", "dop_v1_" + "3f9a1c7e5b2d8046" * 4),
    ("shopify_token", "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"),
    ("databricks_token", "dapi3f9a1c7e5b2d80463f9a1c7e5b2d8046"),
    ("vault_token", "hvs.CAESIJ3dE5fG7hI9jK1lM3nO5pQ7rS9t"),
    ("telegram_token", "1234098765:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawx"[:46]),
    ("json_web_token", JWT),
    ("private_key", PEM),
    ("url_password", "postgresql://app:Tr0ub4dor3@db.zava.example/prod"),
    ("url_password", "https://ann:MySecret99!@intranet.zava.example"),
]


@pytest.mark.parametrize(("kind", "text"), SECRETS)
def test_secret_is_found_wherever_it_stands(kind: str, text: str) -> None:
    for around in ("{}", "key={}", '"{}"', "see {}, please", "line\n{}\nline", "({})"):
        assert [secret.kind for secret in find_secrets(around.format(text))] == [kind], around


BENIGN = [
    "AKIAIOSFODNN7EXAMPLE",
    "AKIA is how such keys begin",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzz9QmKq1Lp",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "ghp_tooshort",
    "sk-learn-and-friends-are-python-libraries-for-everybody",
    "task-force-meeting-2026-with-the-very-long-name-of-a-room",
    "xoxo-hugs-and-kisses",
    "sk_test_XXXXXXXXXXXXXXXXXXXX",
    "eyJhbGciOiJSUzI1NiJ9",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBg\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----",
    "postgres://user:password@localhost/db",
    "postgres://user:<password>@host/db",
    "https://user:${TOKEN}@host",
    "mysql://root:****@db",
    "https://zava.example:8443/path@v2",
    "http://[2001:db8::1]:80/x",
    "the secret of good coffee is patience",
    "My password is none of your business",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "550e8400-e29b-41d4-a716-446655440000",
    "DE02120300000000202051",
    "AIza",
    "npm_config_registry",
    "hf_transfer is a package",
    "inv_01hzxq7m3v8k2n4p6r9t1w5y7z",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
]


@pytest.mark.parametrize("text", BENIGN)
def test_what_only_looks_like_a_secret_is_left_alone(text: str) -> None:
    assert find_secrets(text) == []
    assert mask(text) == text


@pytest.mark.parametrize(("kind", "text"), SECRETS)
def test_masked_text_names_the_kind_and_hides_the_secret(kind: str, text: str) -> None:
    masked = mask(f"before {text} after")
    assert f"[{kind}]" in masked
    assert find_secrets(masked) == []
    assert masked.startswith("before ") and masked.endswith(" after")


@pytest.mark.parametrize(("kind", "text"), SECRETS)
def test_signal_and_redaction_show_nothing_of_the_secret(kind: str, text: str) -> None:
    arguments = {"a": [{"b": f"x {text} y {text}"}]}
    found = secrets.detect(examine(arguments, (), Limits()))
    assert len(found) == 2
    (span_start, span_end) = found[0].signal.span
    hidden = arguments["a"][0]["b"][span_start:span_end]
    for finding in found:
        assert hidden not in repr(finding)
        assert finding.signal.path == "arguments.a[0].b"
        assert len(finding.signal.excerpt) <= 80
    after = redact.apply(arguments, [finding.redaction for finding in found if finding.redaction])
    assert after["a"][0]["b"].count(f"[redacted {kind}]") == 2
    assert hidden not in after["a"][0]["b"]


def test_invisible_characters_do_not_hide_a_secret() -> None:
    text = "key gh\u200bp_a1B2c3D4e5F6g7H8i9J0\u00adk1L2m3N4o5P6q7R8 end"
    (secret,) = find_secrets(text)
    assert text[slice(*secret.span)].startswith("gh\u200bp_")
    assert mask(text) == "key [github_token] end"


def test_private_key_without_an_end_hides_the_rest() -> None:
    assert mask("x -----BEGIN PRIVATE KEY-----\nMIIEvQ no end") == "x [private_key]"


def test_secrets_side_by_side_and_inside_one_another_do_not_overlap() -> None:
    text = f"https://ann:{SECRETS[3][1]}@host.example {JWT}{JWT}"
    spans = [secret.span for secret in find_secrets(text)]
    assert spans == sorted(spans)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    assert find_secrets(mask(text)) == []


def test_secret_in_the_words_of_the_user_is_seen_but_not_redacted() -> None:
    (finding,) = secrets.detect(examine({}, ("the key is AKIAQ3EGUZ7XW5NDLPQR",), Limits()))
    assert (finding.signal.path, finding.redaction, finding.in_arguments) == ("user_turns[0]", None, False)


def test_secret_in_an_object_key_is_seen_and_its_path_does_not_show_it() -> None:
    (finding,) = secrets.detect(examine({"x": {"ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8": 1}}, (), Limits()))
    assert (finding.signal.path, finding.redaction, finding.in_arguments) == ("arguments.x.(key)", None, True)


HOSTILE = [
    "eyJ", "eyJa.", "eyJaaaaaaaa.eyJ", "ghp_", "sk-", "sk-1", "AKIA", "AccountKey=", "://a:", "://:", "xoxb-", "AIza",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "SecretAccessKey ", "1234567890:AA", "hooks.slack.com/services/",
    "SG.a.", "a", "A1", "\u200b", "é",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_is_searched_in_linear_time(piece: str) -> None:
    text = piece * (500_000 // len(piece))
    content = examine({"text": text}, (), Limits())
    before = time.process_time()
    secrets.detect(content)
    assert time.process_time() - before < 3


def _letters(count: int, alphabet: str = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z") -> str:
    return (alphabet * (count // len(alphabet) + 1))[:count]


_HEX = "3f9a1c7e5b2d8046"
MORE_SECRETS = [
    ("alibaba_key", "LTAI" + _letters(20)),
    ("heroku_key", "HRKU-" + _letters(40)),
    ("netlify_token", "nfp_" + _letters(36)),
    ("supabase_token", "sbp_" + _letters(40, _HEX)),
    ("terraform_token", f"{_letters(14)}.atlasv1.{_letters(64)}"),
    ("pulumi_token", "pul-" + _letters(40, _HEX)),
    ("doppler_token", "dp.pt." + _letters(43)),
    ("groq_key", "gsk_" + _letters(52)),
    ("perplexity_key", "pplx-" + _letters(48)),
    ("replicate_token", "r8_" + _letters(37)),
    ("langsmith_key", f"lsv2_pt_{_letters(32, _HEX)}_{_letters(10, _HEX)}"),
    ("atlassian_token", "ATATT3x" + _letters(180)),
    ("rubygems_key", "rubygems_" + _letters(48, _HEX)),
    ("sonar_token", "squ_" + _letters(40, _HEX)),
    ("postman_key", f"PMAK-{_letters(24, _HEX)}-{_letters(34, _HEX)}"),
    ("linear_key", "lin_api_" + _letters(40)),
    ("figma_token", "figd_" + _letters(40)),
    ("airtable_token", f"pat{_letters(14)}.{_letters(64, _HEX)}"),
    ("mailchimp_key", _letters(32, _HEX) + "-us12"),
    ("brevo_key", f"xkeysib-{_letters(64, _HEX)}-{_letters(16)}"),
    ("twilio_key", "SK" + _letters(32, _HEX)),
    ("razorpay_key", "rzp_live_" + _letters(14)),
    ("grafana_token", f"glsa_{_letters(32)}_{_letters(8, _HEX)}"),
    ("dynatrace_token", f"dt0c01.{_letters(24, 'ABC3DEF5')}.{_letters(64, 'ABC3DEF5')}"),
    ("tailscale_key", f"tskey-auth-{_letters(12)}-{_letters(32)}"),
    ("azure_client_secret", f"aB3{'8Q~'}{_letters(34)}"),
]


@pytest.mark.parametrize(("kind", "text"), MORE_SECRETS)
def test_secret_of_many_issuers_is_found_and_its_shortened_twin_is_not(kind: str, text: str) -> None:
    assert [secret.kind for secret in find_secrets(f"key={text} end")] == [kind]
    assert mask(f"see {text}") == f"see [{kind}]"
    assert kind not in [secret.kind for secret in find_secrets(f"key={text[:12]} end")]


def test_checksum_that_is_right_is_proof_and_one_that_is_wrong_is_still_a_secret() -> None:
    body = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1"
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number, check = binascii.crc32(body.encode()), ""
    while len(check) < 6:
        number, digit = divmod(number, 62)
        check = alphabet[digit] + check
    (right,) = find_secrets(f"ghp_{body}{check}")
    (wrong,) = find_secrets(f"ghp_{body}{check[:-1]}{'A' if check[-1] != 'A' else 'B'}")
    assert (right.is_valid, wrong.is_valid) == (True, False)
    assert right.score > wrong.score > 0.8
    (unknown,) = find_secrets("glpat-x9Y8z7W6v5U4t3S2r1Q0")
    assert unknown.is_valid is None
