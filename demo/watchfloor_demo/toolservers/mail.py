"""The mail tool server: mailboxes of Zava's people, and a way out through a real SMTP server."""

from __future__ import annotations

import email.message
import email.utils
from typing import Annotated

import aiosmtplib
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from watchfloor_demo import company
from watchfloor_demo.toolservers.door import CallLog, caller


class Headline(BaseModel):
    """A message as a search shows it."""

    id: str
    sender: str
    subject: str
    is_read: bool


class Message(Headline):
    """A message with its text."""

    to: str
    text: str


class Found(BaseModel):
    """Search result."""

    items: list[Headline]
    count: int


class Sent(BaseModel):
    """What became of a message."""

    message_id: str
    accepted: list[str]


def _mailboxes() -> dict[str, Message]:
    boxes = {}
    for index, row in enumerate(company.read("mail.yaml"), 1):
        key = f"msg-{index:04}"
        to = f"{row['to']}@{company.DOMAIN}"
        boxes[key] = Message(
            id=key, sender=row["from"], subject=row["subject"], is_read=False, to=to, text=" ".join(row["text"].split())
        )
    return boxes


def build(log: CallLog, smtp_port: int) -> MCPServer:
    """The server. Whoever calls as a user sees that user's mailbox only; the app credential sees the one it names."""
    server: MCPServer = MCPServer(
        "zava-mail",
        title="Zava Mail",
        version="3.1.0",
        instructions="Mail of Zava's people.",
        middleware=[log.watch],
        log_level="ERROR",
    )
    boxes = _mailboxes()

    def owner_of(mailbox: str) -> str:
        who = caller.get()
        if who.startswith("user:"):
            own = f"{who.removeprefix('user:')}@{company.DOMAIN}"
            if mailbox and mailbox != own:
                raise ToolError(f"{who.removeprefix('user:')} may not open the mailbox {mailbox}")
            return own
        if not mailbox:
            raise ToolError("say which mailbox: the caller is not a person")
        return mailbox

    @server.tool(
        title="Send a message",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
        ),
    )
    async def send_email(
        to: Annotated[list[str], Field(description="Mail addresses of the recipients.", min_length=1, max_length=50)],
        subject: Annotated[str, Field(description="One line.", max_length=200)],
        body: Annotated[str, Field(description="Plain text.", max_length=100_000)],
        cc: Annotated[list[str] | None, Field(description="Further recipients.")] = None,
    ) -> Sent:
        """Send a plain-text message from Zava's outgoing mail address to one or more recipients, inside or outside."""
        message = email.message.EmailMessage()
        message["From"] = f"agents@{company.DOMAIN}"
        message["To"] = ", ".join(to)
        if cc:
            message["Cc"] = ", ".join(cc)
        message["Subject"] = " ".join(subject.split())
        message["Message-ID"] = email.utils.make_msgid(domain=company.DOMAIN)
        message["Date"] = email.utils.localtime()
        message.set_content(body)
        recipients = [*to, *(cc or [])]
        try:
            await aiosmtplib.send(message, hostname="127.0.0.1", port=smtp_port, recipients=recipients, timeout=10)
        except aiosmtplib.SMTPException as error:
            raise ToolError(f"the mail server refused the message: {error}") from error
        return Sent(message_id=message["Message-ID"], accepted=recipients)

    @server.tool(title="Search a mailbox", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    async def search_mail(
        query: Annotated[str, Field(description="Words to look for in sender, subject and text; empty: all.")] = "",
        mailbox: Annotated[str, Field(description="Whose mailbox; needed when the caller is not a person.")] = "",
        unread_only: Annotated[bool, Field(description="Leave out what was read.")] = False,
    ) -> Found:
        """Search a mailbox and return headlines, oldest first."""
        owner, words = owner_of(mailbox), query.lower().split()
        found = [
            Headline(**message.model_dump(include={"id", "sender", "subject", "is_read"}))
            for message in boxes.values()
            if message.to == owner
            and not (unread_only and message.is_read)
            and all(word in f"{message.sender} {message.subject} {message.text}".lower() for word in words)
        ]
        return Found(items=found, count=len(found))

    @server.tool(title="Read a message", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    async def read_mail(
        message_id: Annotated[str, Field(description="The id that a search returned.")],
        mailbox: Annotated[str, Field(description="Whose mailbox; needed when the caller is not a person.")] = "",
    ) -> Message:
        """Return one message with its text, and mark it as read."""
        message = boxes.get(message_id)
        if message is None or message.to != owner_of(mailbox):
            raise ToolError(f"there is no message {message_id} in this mailbox")
        boxes[message_id] = message.model_copy(update={"is_read": True})
        return message

    return server
