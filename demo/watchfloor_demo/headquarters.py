"""Everything that Zava itself runs, in one process on one event loop: identity provider, mail, web site, tool servers.

Opened as a context manager: sockets are bound first, so the ``Runtime`` knows every address before anything starts.
Agents and their users are not in here; they come from outside, like everybody.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mcp.server.mcpserver import MCPServer

from watchfloor_demo import company, site
from watchfloor_demo.identity import IdentityProvider
from watchfloor_demo.mailsink import MailSink
from watchfloor_demo.runtime import SERVICES, TOOL_SERVERS, Runtime
from watchfloor_demo.serving import Listening, listen, serve
from watchfloor_demo.toolservers import customers, files, invoices, knowledge, mail, web
from watchfloor_demo.toolservers.door import CallLog, Door, UserTokens


@dataclass(slots=True)
class Headquarters:
    """The running company: its far-end counters, its mail sink and its identity provider."""

    runtime: Runtime
    sink: MailSink
    identity: IdentityProvider
    calls: dict[str, CallLog] = field(default_factory=dict)


def bind(runtime: Runtime, base_port: int) -> dict[str, Listening]:
    """Bind every service's socket and note the ports; base port 0 means those of last time, or any."""
    bound: dict[str, Listening] = {}
    try:
        for service, offset in SERVICES.items():
            bound[service] = listen(service, base_port + offset if base_port else runtime.ports.get(service, 0))
    except BaseException:
        for listening in bound.values():
            listening.sock.close()
        raise
    runtime.ports = {service: listening.port for service, listening in bound.items()}
    return bound


def credentials(runtime: Runtime, server: str) -> dict[str, str]:
    """Who may call a tool server with which secret: the app, and each maker whose credential an agent carries."""
    found = {"app": runtime.secret(f"upstream/{server}/app")}
    for agent in company.agents().values():
        if any(g.server == server and g.credential == "maker" for g in agent.grants):
            found[f"maker:{agent.maker}"] = runtime.secret(f"upstream/{server}/maker/{agent.maker}")
    return found


def audience(runtime: Runtime, server: str) -> str:
    """The address that names a tool server, which user tokens must be made out to."""
    return f"{runtime.url(server)}/mcp"


@contextlib.asynccontextmanager
async def open_headquarters(runtime: Runtime, base_port: int = 0) -> AsyncIterator[Headquarters]:
    """Start everything; all of it answers when the block begins. Raises ``serving.PortTaken``."""
    bound = bind(runtime, base_port)
    identity = IdentityProvider(
        runtime.issuer, runtime.signing_key(), runtime.secret("identity/admin"), runtime.secret("identity/people")
    )
    for person in company.people().values():
        identity.add(person.id, person.name, person.mail, person.groups, runtime.password(person.id))
    sink = MailSink()
    hq = Headquarters(runtime, sink, identity)
    hq.calls = {server: CallLog(server) for server in TOOL_SERVERS}
    log = hq.calls
    servers: dict[str, MCPServer] = {
        "mail": mail.build(log["mail"], runtime.ports["smtp"]),
        "customers": customers.build(log["customers"]),
        "invoices": invoices.build(log["invoices"], datetime.now(UTC).date()),
        "knowledge": knowledge.build(log["knowledge"]),
        "files": files.build(log["files"]),
        "web": web.build(log["web"], runtime.url("site")),
    }
    apps: list[tuple[Listening, Any]] = [
        (bound["identity"], identity.app()),
        (bound["mailbox"], sink.view()),
        (bound["site"], site.build()),
    ]
    for name, server in servers.items():
        users = UserTokens(lambda: f"{runtime.server}/sts" if runtime.server else "", audience(runtime, name))
        app = server.streamable_http_app(session_idle_timeout=600)
        apps.append((bound[name], Door(app, log[name], credentials(runtime, name), users)))
    for agent in company.agents().values():
        runtime.secret(f"agent/{agent.id}")  # made now, so that what is saved is complete
    runtime.save()
    async with sink.receive(bound["smtp"].sock), serve(apps):
        yield hq
