"""Outgoing mail: the SMTP server that takes what people are to be told.

Implements ``response.ports.Sender`` with the standard library's client, as jobs have threads of their own. Over TLS or
STARTTLS with verified certificates, in the clear only to this machine. It knows neither who is told nor why.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from watchfloor.identity import egress
from watchfloor.model.errors import InputError, Unavailable
from watchfloor.model.urls import is_loopback, outbound_problem
from watchfloor.response.ports import MessageRefused
from watchfloor.storage.messages import is_address

if TYPE_CHECKING:
    from watchfloor.storage.messages import Message

STARTTLS, TLS, CLEAR = WAYS = ("starttls", "tls", "none")

_HOST: Final = re.compile(r"[A-Za-z0-9.:_-]{1,253}")
_LONGEST_SUBJECT: Final = 200
_RETRY_AFTER: Final = 30.0


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over, as whom, and who it is from. ``tls`` is one of ``WAYS``; ``timeout``: seconds for each
    answer; ``context``: whom TLS trusts, if not what the machine does.

    Raises ``InputError``, naming the setting, for what cannot be.
    """

    host: str
    port: int
    sender: str
    tls: str = STARTTLS
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: float = 20.0
    context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        url = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        if not _HOST.fullmatch(self.host):
            raise InputError(f"{self.host[:100]!r} is no name of a host.", where="smtp_host")
        if problem := outbound_problem(url):
            raise InputError(problem, where="smtp_host")
        if self.tls not in WAYS:
            raise InputError(f"{self.tls[:20]!r} is none.", where="smtp_tls", remedy=f"One of {', '.join(WAYS)}.")
        if self.tls == CLEAR and not is_loopback(url):
            raise InputError(
                "mail would go out in the clear.", where="smtp_tls", remedy=f"Use {STARTTLS}, or {TLS} (port 465)."
            )
        if not is_address(self.sender):
            raise InputError(
                f"{self.sender[:100]!r} is no mail address.", where="mail_from", remedy="Say who mail is from."
            )
        if bool(self.user) != bool(self.password):
            raise InputError("a user and a password belong together.", where="smtp_user, smtp_password_file")
        if not (self.user + self.password).isascii():
            raise InputError("SMTP takes ASCII alone.", where="smtp_user, smtp_password_file")

    def send(self, message: Message) -> None:
        """See ``Sender.send``."""
        try:
            with self._session() as session:
                session.send_message(self._message(message), self.sender, [message.recipient])
        except ssl.SSLCertVerificationError as error:
            raise self._later(f"shows a certificate that nobody vouches for: {error.verify_message}") from error
        except smtplib.SMTPAuthenticationError as error:
            # What it answers is not shown: some servers repeat what they were sent.
            raise self._later(f"refuses smtp_user and its password ({error.smtp_code})") from error
        except smtplib.SMTPSenderRefused as error:
            said = _said(error.smtp_code, error.smtp_error)
            raise self._later(f"takes no mail from {self.sender}: {said}") from error
        except smtplib.SMTPRecipientsRefused as error:
            (answer,) = error.recipients.values()
            raise self._answered(f"takes no mail for {message.recipient}", *answer) from error
        except smtplib.SMTPDataError as error:
            raise self._answered("does not take the mail", error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise self._later(f"cannot do what smtp_tls={self.tls} or smtp_user ask for: {error}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise self._later(f"does not take mail: {error or type(error).__name__}") from error

    @contextlib.contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        name = socket.gethostname()
        context = self.context or ssl.create_default_context()
        if self.tls == TLS:
            opened: smtplib.SMTP = _SmtpOverTls(self.host, self.port, name, timeout=self.timeout, context=context)
        else:
            opened = _Smtp(self.host, self.port, name, timeout=self.timeout)
        with opened as session:
            if self.tls == STARTTLS:
                session.starttls(context=context)
            if self.user:
                session.login(self.user, self.password)
            yield session

    def _message(self, told: Message) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"], message["To"] = self.sender, told.recipient
        # Names of agents and users stand in it: nothing of them may end the line.
        subject = "".join(c if c.isprintable() else " " for c in told.subject)
        message["Subject"] = subject[:_LONGEST_SUBJECT]
        message["Date"] = format_datetime(told.created_at)
        # The same however often it is sent, so that mail programs show it once.
        message["Message-ID"] = f"<{told.id}@{self.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(told.text)
        return message

    def _later(self, what: str) -> Unavailable:
        return Unavailable(f"the mail server {self.host}:{self.port} {what}.", retry_after=_RETRY_AFTER)

    def _answered(self, what: str, code: int, answer: bytes | str) -> Unavailable | MessageRefused:
        """An answer to this one mail: for good if the code says so."""
        told = f"{what}: {_said(code, answer)}"
        return MessageRefused(f"the mail server {self.host}:{self.port} {told}.") if code >= 500 else self._later(told)


class _Smtp(smtplib.SMTP):
    """Connects only where the control plane may."""

    # smtplib offers no other way; a test notices should this one end.
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return egress.connect(host, port, timeout)


class _SmtpOverTls(smtplib.SMTP_SSL, _Smtp):
    """The same, and speaks TLS from the start."""


def _said(code: int, answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return f"{code} {''.join(c if c.isprintable() else ' ' for c in text)[:200]}"
