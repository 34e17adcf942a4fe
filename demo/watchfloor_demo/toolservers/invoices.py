"""The invoice system: invoices, suppliers, payments, and the nightly reconciliation, which streams its progress."""

from __future__ import annotations

import asyncio
import itertools
from datetime import date
from typing import Annotated, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from watchfloor_demo import company
from watchfloor_demo.toolservers.door import CallLog, caller

READ = ToolAnnotations(read_only_hint=True, open_world_hint=False)


class Invoice(BaseModel):
    """An invoice to a customer."""

    number: str
    customer_id: str
    customer: str
    amount: float
    currency: str
    issued: str
    due: str
    days_overdue: int
    status: str


class InvoiceList(BaseModel):
    """Invoices that were asked for, the most overdue first."""

    items: list[Invoice]
    count: int
    total: float


class Supplier(BaseModel):
    """Whom Zava pays."""

    id: str
    name: str
    iban: str
    purpose: str


class SupplierList(BaseModel):
    """All suppliers on file."""

    items: list[Supplier]


class Payment(BaseModel):
    """A payment order."""

    id: str
    iban: str
    amount: float
    currency: str
    reference: str
    ordered_by: str


class Reconciliation(BaseModel):
    """The outcome of a reconciliation."""

    compared: int
    differences: list[str]


def build(log: CallLog, today: date) -> MCPServer:
    """The server, with invoices as they stand on ``today``."""
    server: MCPServer = MCPServer(
        "zava-invoices", title="Zava Invoices", version="2.8.0", middleware=[log.watch], log_level="ERROR"
    )
    invoices = {row["number"]: Invoice(**row) for row in company.invoice_rows(today)}
    payees = [Supplier(id=s.id, name=s.name, iban=s.iban, purpose=s.purpose) for s in company.suppliers()]
    payment_numbers = itertools.count(1)

    @server.tool(title="List invoices", annotations=READ)
    async def list_invoices(
        status: Annotated[Literal["open", "paid", "overdue", "any"], Field(description="Which ones.")] = "any",
        customer: Annotated[str, Field(description="Customer id or part of the name; empty: all.")] = "",
        limit: Annotated[int, Field(description="At most so many.", ge=1, le=200)] = 20,
    ) -> InvoiceList:
        """List invoices by status and customer, the most overdue first."""
        wanted = customer.lower()
        found = sorted(
            (
                i
                for i in invoices.values()
                if status in ("any", i.status) and wanted in f"{i.customer_id} {i.customer}".lower()
            ),
            key=lambda i: (-i.days_overdue, i.number),
        )
        return InvoiceList(items=found[:limit], count=len(found), total=round(sum(i.amount for i in found), 2))

    @server.tool(title="Read an invoice", annotations=READ)
    async def get_invoice(number: Annotated[str, Field(description="For example INV-2026-00042.")]) -> Invoice:
        """Return one invoice."""
        if number not in invoices:
            raise ToolError(f"there is no invoice {number}")
        return invoices[number]

    @server.tool(title="List suppliers", annotations=READ)
    async def list_suppliers() -> SupplierList:
        """List the suppliers on file with the accounts that payments go to."""
        return SupplierList(items=payees)

    @server.tool(
        title="Pay",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
        ),
    )
    async def create_payment(
        iban: Annotated[str, Field(description="The account to pay to.", pattern=r"^[A-Z]{2}\d{2}[A-Z0-9]{10,30}$")],
        amount: Annotated[float, Field(description="Euros.", gt=0, le=50_000)],
        reference: Annotated[str, Field(description="What it is for.", max_length=140)],
    ) -> Payment:
        """Order a payment from Zava's main account."""
        return Payment(
            id=f"pay-{next(payment_numbers):05}",
            iban=iban,
            amount=amount,
            currency="EUR",
            reference=reference,
            ordered_by=caller.get(),
        )

    @server.tool(
        title="Reconcile",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    )
    async def reconcile(
        ctx: Context,
        month: Annotated[str, Field(description="For example 2026-09.", pattern=r"^\d{4}-\d{2}$")],
        seconds: Annotated[float, Field(description="How long the comparison takes.", ge=0, le=60)] = 1.0,
    ) -> Reconciliation:
        """Compare a month's invoices with the bank's statements. Takes a while and reports its progress."""
        batch = [i for i in invoices.values() if i.issued.startswith(month)]
        steps = 10
        for step in range(1, steps + 1):
            await asyncio.sleep(seconds / steps)
            await ctx.report_progress(step, steps, f"{len(batch) * step // steps} of {len(batch)} invoices")
        return Reconciliation(
            compared=len(batch), differences=[i.number for i in batch if i.status == "overdue" and i.days_overdue > 60]
        )

    return server
