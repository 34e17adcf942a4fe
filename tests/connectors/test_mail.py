"""Mail through a real SMTP server: what it says, where it may go, and what is said of a server that takes none."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from connectors.identity.machine import certificate, free_port
from resolver import FORBIDDEN, Resolver
from watchfloor.connectors.mail import SmtpServer
from watchfloor.model.errors import InputError, Unavailable
from watchfloor.response.ports import MessageRefused
from watchfloor.storage.messages import Message
from watchfloor_demo.mailsink import MailSink

FROM, PASSWORD = "watchfloor@zava.example", "smtp-password-0123"


def mail(to: str = "mona@zava.example", subject: str = "Griffin Vale: confirmed compromised") -> Message:
    return Message("mail_1", "key", to, subject, "Grüße\n\nhttp://127.0.0.1/responses/rsp_1", datetime.now(UTC))


class Choosy(MailSink):
    """Takes mail for most people; ``letters`` are what it took, as they came."""

    def __init__(self) -> None:
        super().__init__()
        self.letters: list[bytes] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        """Knows no nobody, and is busy for busy."""
        refusals = {"nobody@zava.example": "550 no such mailbox", "busy@zava.example": "451 later"}
        if address not in refusals:
            envelope.rcpt_tos.append(address)
        return refusals.get(address, "250 OK")

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keeps the letter."""
        self.letters.append(envelope.original_content)
        return await super().handle_DATA(server, session, envelope)


@contextmanager
def serving(sink: MailSink, **options: Any) -> Iterator[int]:
    """The port of a server that takes mail for ``sink``."""
    controller = Controller(sink, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def server(port: int, tls: str = "none", **more: Any) -> SmtpServer:
    return SmtpServer("127.0.0.1", port, FROM, tls, **more)


def test_a_mail_arrives_as_it_was_written_and_a_name_cannot_add_to_its_head() -> None:
    sink = Choosy()
    with serving(sink) as port:
        server(port).send(mail(subject="Eve\r\nBcc: drop@evil.example\r\n\r\nNew body"))
    (told,) = sink.messages()
    assert (told["from"], told["to"]) == (FROM, ["mona@zava.example"])
    assert told["subject"] == "Eve  Bcc: drop@evil.example    New body"
    assert told["text"].split() == ["Grüße", "http://127.0.0.1/responses/rsp_1"]
    assert b"Message-ID: <mail_1@zava.example>" in sink.letters[0] and b"\nBcc" not in sink.letters[0]


def test_what_a_server_refuses_for_good_is_told_from_what_it_may_take_later() -> None:
    sink = Choosy()
    with serving(sink) as port:
        with pytest.raises(MessageRefused, match=r"takes no mail for nobody@zava.example: 550 no such mailbox"):
            server(port).send(mail("nobody@zava.example"))
        with pytest.raises(Unavailable, match="451 later"):
            server(port).send(mail("busy@zava.example"))
        server(port).send(mail())
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+ does not take mail"):
        server(port).send(mail())
    assert sink.total == 1


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # it is over TLS from the first byte
@pytest.mark.parametrize("way", ["starttls", "tls"])
def test_a_password_goes_over_tls_to_a_server_that_is_vouched_for_and_to_no_other(tmp_path: Path, way: str) -> None:
    certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    asked: list[bytes] = []

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        asked.append(data.password)
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    sink = Choosy()
    secured = {"tls_context": theirs, "require_starttls": True} if way == "starttls" else {"ssl_context": theirs}
    if way == "tls":
        secured["auth_require_tls"] = False  # it is encrypted already, which the server does not see
    as_us: dict[str, Any] = {"user": "watchfloor", "password": PASSWORD}
    with serving(sink, authenticator=check, auth_required=True, **secured) as port:
        with pytest.raises(Unavailable, match="a certificate that nobody vouches for"):
            server(port, way, **as_us).send(mail())
        assert asked == []
        with pytest.raises(Unavailable, match="refuses smtp_user") as refused:
            server(port, way, context=trusting, user="watchfloor", password="wrong-1").send(mail())
        assert "wrong-1" not in str(refused.value) and PASSWORD not in repr(server(port, way, **as_us))
        server(port, way, context=trusting, **as_us).send(mail())
    assert sink.total == 1


def test_no_password_is_sent_to_a_server_that_offers_no_tls() -> None:
    with serving(Choosy()) as port, pytest.raises(Unavailable, match="smtp_tls=starttls") as error:
        server(port, "starttls", user="watchfloor", password=PASSWORD).send(mail())
    assert isinstance(error.value.__cause__, smtplib.SMTPNotSupportedError)


@pytest.mark.asvs("1.3.6")
@pytest.mark.parametrize("way", ["starttls", "tls"])
def test_a_name_that_stands_for_a_forbidden_address_is_not_called(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    resolver = Resolver({**FORBIDDEN, "mail.zava.example": ["127.0.0.1"]}).install(monkeypatch)
    for name in FORBIDDEN:
        with pytest.raises(Unavailable, match=f"{name}(:| )"):
            SmtpServer(name, 25, FROM, way).send(mail())
    assert resolver.asked == list(FORBIDDEN)
    with pytest.raises(Unavailable, match="Connection refused"):
        SmtpServer("mail.zava.example", free_port(), FROM, way).send(mail())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"host": "169.254.169.254"}, "smtp_host: This address must not be called"),
        ({"host": "::ffff:169.254.169.254"}, "smtp_host: This address must not be called"),
        ({"host": "mail.example/x"}, "smtp_host: 'mail.example/x' is no name"),
        ({"host": "mail.zava.example", "tls": "none"}, "smtp_tls: mail would go out in the clear"),
        ({"tls": "ssl"}, "smtp_tls: 'ssl' is none. One of starttls, tls, none."),
        ({"sender": "Watchfloor"}, "mail_from: 'Watchfloor' is no mail address"),
        ({"sender": "a@b.example\r\nBcc: x@evil.example"}, "mail_from: "),
        ({"user": "watchfloor"}, "smtp_user, smtp_password_file: a user and a password belong together"),
    ],
)
def test_a_server_that_cannot_be_is_refused_with_the_setting(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(InputError) as refused:
        SmtpServer(**{"host": "127.0.0.1", "port": 25, "sender": FROM, **wrong})
    assert says in str(refused.value)
