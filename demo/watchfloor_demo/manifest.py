"""Zava as a company manifest, with the ports and secrets of this start."""

from __future__ import annotations

from typing import Any, Final

import yaml

from watchfloor_demo import company
from watchfloor_demo.headquarters import credentials
from watchfloor_demo.identity import CLIENT
from watchfloor_demo.runtime import Runtime

SERVERS: Final[dict[str, tuple[str, str]]] = {
    "mail": ("Mail", "Mailboxes, and mail to anybody."),
    "customers": ("Customers", "The customer system."),
    "invoices": ("Invoices", "Invoices, suppliers, payments."),
    "knowledge": ("Knowledge Base", "Articles for staff."),
    "files": ("Files", "The shared drive."),
    "web": ("Web Reader", "Pages of the world outside."),
}
TOOLS: Final[dict[str, dict[str, str]]] = {
    "mail": {"send_email": "send", "search_mail": "read", "read_mail": "read"},
    "customers": {
        "search_customers": "read",
        "get_customer": "read",
        "update_customer": "update",
        "export_customers": "read",
    },
    "invoices": {
        "list_invoices": "read",
        "get_invoice": "read",
        "list_suppliers": "read",
        "create_payment": "pay",
        "reconcile": "update",
    },
    "knowledge": {
        "search_articles": "read",
        "read_article": "read",
        "write_article": "update",
        "delete_article": "delete",
    },
    "files": {"list_files": "read", "read_file": "read", "write_file": "update"},
    "web": {"fetch_page": "read"},
}
"""Effects as Zava's administrators classified the tools."""
TRUSTED_FIELDS: Final[dict[tuple[str, str], list[str]]] = {("invoices", "list_suppliers"): ["iban"]}
"""Fields of results that only Zava's own people write: payments may go to the accounts of suppliers on file."""


def build(runtime: Runtime) -> dict[str, Any]:
    """The manifest as data."""
    return {
        "apiVersion": "watchfloor/v1",
        "kind": "Company",
        "organization": {"name": company.NAME, "domains": [company.DOMAIN]},
        "identityProviders": [
            {
                "issuer": runtime.issuer,
                "jwksUri": f"{runtime.issuer}/jwks",
                "audience": CLIENT,
                "subjectClaim": "sub",
            }
        ],
        "users": [
            {
                "id": p.id,
                "name": p.name,
                "upn": p.mail,
                "subject": p.id,
                "issuer": runtime.issuer,
                "groups": [*p.groups],
                "department": p.department,
                "jobTitle": p.title,
                **({"manager": p.manager} if p.manager else {}),
                **({} if p.criticality is None else {"criticality": p.criticality}),
            }
            for p in company.people().values()
        ],
        "toolServers": [_server(runtime, server) for server in SERVERS],
        "agents": [_agent(runtime, agent) for agent in company.agents().values()],
        "policies": policies(),
    }


def policies() -> list[dict[str, Any]]:
    """Zava's own policies, with the accounts of its suppliers filled in."""
    payees = ", ".join(f'"{supplier.iban}"' for supplier in company.suppliers())
    return [{**body, "when": body["when"].replace("{payees}", payees)} for body in company.read("policies.yaml")]


def _server(runtime: Runtime, server: str) -> dict[str, Any]:
    name, description = SERVERS[server]
    return {
        "id": server,
        "name": name,
        "description": description,
        "url": f"{runtime.url(server)}/mcp",
        "trusted": server != "web",
        "timeoutSeconds": 30,
        "credential": {"value": credentials(runtime, server)["app"]},
        "tools": [_tool(server, tool, effect) for tool, effect in TOOLS[server].items()],
    }


def _tool(server: str, tool: str, effect: str) -> dict[str, Any]:
    trusted = TRUSTED_FIELDS.get((server, tool))
    return {"name": tool, "effect": effect, **({"trustedFields": trusted} if trusted else {})}


def _agent(runtime: Runtime, agent: company.Agent) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": agent.id,
        "name": agent.name,
        "description": agent.description,
        "version": agent.version,
        # A manifest cannot retire: that is a verb of its own, with an operator behind it.
        "state": "draft" if agent.state == "retired" else agent.state,
        "maker": agent.maker,
        "owner": agent.owner,
        "sponsor": agent.sponsor,
        "platform": agent.platform,
        "model": agent.model,
        "instructions": agent.instructions,
        "triggers": list(agent.triggers),
        "secret": {"value": runtime.secret(f"agent/{agent.id}")},
        "tools": [_binding(runtime, agent, grant) for grant in agent.grants],
        **agent.described,
    }
    if agent.connected:
        body["connectedAgents"] = list(agent.connected)
    return body


def _binding(runtime: Runtime, agent: company.Agent, grant: company.Grant) -> dict[str, Any]:
    binding: dict[str, Any] = {
        "server": grant.server,
        "tool": grant.tool,
        "credential": grant.credential,
        "scope": grant.scope,
    }
    if grant.credential == "maker":
        binding["makerCredential"] = {"value": credentials(runtime, grant.server)[f"maker:{agent.maker}"]}
    return binding


def text(runtime: Runtime) -> str:
    """The manifest as YAML, fit for ``watchfloor apply -f`` and ``POST /api/manifests/apply``."""
    return yaml.safe_dump(build(runtime), sort_keys=False, allow_unicode=True, width=120)
