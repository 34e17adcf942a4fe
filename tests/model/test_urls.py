"""Which addresses may be called."""

from __future__ import annotations

import pytest

from watchfloor.model.urls import is_loopback, outbound_problem


@pytest.mark.parametrize(
    "url",
    [
        "https://mail.zava.example/mcp",
        "http://10.0.0.7:8080/mcp",
        "http://mail.svc.cluster.local/mcp?x=1",
        "http://127.0.0.1:7731/mcp",
        "http://localhost:7731/",
        "https://[2001:db8::1]/mcp",
        "https://192.168.1.4",
    ],
)
def test_a_tool_server_may_be_called(url: str) -> None:
    assert outbound_problem(url) is None


@pytest.mark.asvs("1.3.6")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail",
        "//mail/mcp",
        "ftp://mail/mcp",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///mcp",
        "http://mail:0/mcp",
        "http://mail:99999/mcp",
        "http://user:password@mail/mcp",
        "http://user@mail/mcp",
        "http://mail/mcp#fragment",
        "http://mail/a b",
        "http://mail/\n",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://224.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://[::1",
        "https://" + "x" * 3000,
    ],
)
def test_this_may_not(url: str) -> None:
    assert outbound_problem(url)


def test_what_is_trusted_comes_over_tls_or_from_this_machine() -> None:
    assert outbound_problem("http://login.zava.example/jwks", require_tls=True)
    assert outbound_problem("http://10.0.0.7/jwks", require_tls=True)
    for url in (
        "https://login.zava.example/jwks",
        "http://127.0.0.1:7720/jwks",
        "http://[::1]:7720/",
        "http://localhost/",
    ):
        assert outbound_problem(url, require_tls=True) is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1.evil.example/", "http://localhost.evil.example/", "http://10.0.0.1/"]
)
def test_a_name_that_only_looks_like_this_machine_is_not(url: str) -> None:
    assert not is_loopback(url)
