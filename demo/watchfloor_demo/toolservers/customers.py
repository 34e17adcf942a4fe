"""The customer system: search, read, change, and an export that takes its time and says how far it is."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from watchfloor_demo import company
from watchfloor_demo.toolservers.door import CallLog

READ = ToolAnnotations(read_only_hint=True, open_world_hint=False)


class Customer(BaseModel):
    """A customer's record."""

    id: str
    name: str
    city: str
    contact_name: str
    contact_email: str
    phone: str
    account_manager: str
    annual_value: int
    notes: str


class CustomerList(BaseModel):
    """Search result."""

    items: list[Customer]
    count: int


class Export(BaseModel):
    """A finished export."""

    rows: int
    format: str
    text: str


def build(log: CallLog) -> MCPServer:
    """The server, over a fresh copy of the company's customers."""
    server: MCPServer = MCPServer(
        "zava-customers", title="Zava Customers", version="5.0.2", middleware=[log.watch], log_level="ERROR"
    )
    records = {row["id"]: Customer(**row) for row in company.customer_rows()}

    def find(customer_id: str) -> Customer:
        if customer_id not in records:
            raise ToolError(f"there is no customer {customer_id}; ids look like cus-001")
        return records[customer_id]

    @server.tool(title="Search customers", annotations=READ)
    async def search_customers(
        query: Annotated[str, Field(description="Part of the name, city or account manager; empty: all.")] = "",
        limit: Annotated[int, Field(description="At most so many.", ge=1, le=100)] = 10,
    ) -> CustomerList:
        """Find customers by name, city or account manager."""
        words = query.lower().split()
        found = [
            c
            for c in records.values()
            if all(word in f"{c.name} {c.city} {c.account_manager}".lower() for word in words)
        ]
        return CustomerList(items=found[:limit], count=len(found))

    @server.tool(title="Read a customer", annotations=READ)
    async def get_customer(
        customer_id: Annotated[str, Field(description="For example cus-001.")],
        delay_seconds: Annotated[float, Field(description="Wait before answering (for drills).", ge=0, le=30)] = 0,
    ) -> Customer:
        """Return one customer's record."""
        if delay_seconds:
            await asyncio.sleep(delay_seconds)
        return find(customer_id)

    @server.tool(
        title="Change a customer",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        ),
    )
    async def update_customer(
        customer_id: Annotated[str, Field(description="For example cus-001.")],
        field: Annotated[Literal["contact_name", "contact_email", "phone", "notes"], Field(description="What to set.")],
        value: Annotated[str, Field(description="The new value.", max_length=2000)],
    ) -> Customer:
        """Set one field of a customer's record and return the record."""
        records[customer_id] = find(customer_id).model_copy(update={field: value})
        return records[customer_id]

    @server.tool(title="Export customers", annotations=READ)
    async def export_customers(
        ctx: Context,
        columns: Annotated[list[str] | None, Field(description="Columns to export; none: id, name, city.")] = None,
        seconds: Annotated[float, Field(description="How long the export takes.", ge=0, le=60)] = 1.0,
    ) -> Export:
        """Export all customers as CSV. Takes a while and reports its progress."""
        chosen = columns or ["id", "name", "city"]
        unknown = sorted(set(chosen) - set(Customer.model_fields))
        if unknown:
            raise ToolError(f"unknown columns {', '.join(unknown)}; known: {', '.join(Customer.model_fields)}")
        lines = [",".join(chosen)]
        for done, customer in enumerate(records.values(), 1):
            lines.append(",".join(str(getattr(customer, column)) for column in chosen))
            if done % 5 == 0 or done == len(records):
                await asyncio.sleep(seconds * 5 / len(records))
                await ctx.report_progress(done, len(records), f"{done} of {len(records)} customers")
        return Export(rows=len(records), format="csv", text="\n".join(lines))

    return server
