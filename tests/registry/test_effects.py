"""Effects worked out from definitions, as rows; and the law that an untrusted server can only tighten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.model.agents import ToolEffect
from watchfloor.registry.effects import infer_effect


def tool(name: str, description: str = "", hints: dict[str, Any] | None = None, **schema: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "annotations": hints, "inputSchema": {"type": "object", **schema}}


@pytest.mark.parametrize(
    ("name", "description", "effect"),
    [
        ("send_email", "Send a plain-text message to one or more recipients.", "send"),
        ("search_mail", "Search a mailbox and return headlines, oldest first.", "read"),
        ("read_mail", "Return one message with its text, and mark it as read.", "read"),
        ("search_customers", "Find customers by name, city or account manager.", "read"),
        ("update_customer", "Set one field of a customer's record and return the record.", "update"),
        ("list_invoices", "List invoices by status and customer, the most overdue first.", "read"),
        ("list_suppliers", "List the suppliers on file with the accounts that payments go to.", "read"),
        ("create_payment", "Order a payment from Zava's main account.", "pay"),
        ("reconcile", "Compare a month's invoices with the bank's statements.", "update"),
        ("write_article", "Write an article, new or in place of an existing one.", "update"),
        ("delete_article", "Delete an article for good.", "delete"),
        ("fetch_page", "Fetch a web page and return its title, its text and its links.", "read"),
        ("create_issue", "Create a new issue in a repository.", "create"),
        ("createPullRequest", "", "create"),
        ("getUser", "", "read"),
        ("list_open_orders", "Open orders of a customer.", "read"),
        ("get_email_address", "The address of a person.", "read"),
        ("delete_message", "", "delete"),
        ("post-message", "", "send"),
        ("run_query", "Runs a query.", "update"),
        ("execute_sql", "", "update"),
        ("customers_list", "", "read"),
        ("refund", "", "pay"),
        ("weather", "Weather at a place.", "unknown"),
        ("do_it", "", "unknown"),
        ("", "", "unknown"),
        # What the name claims, the description takes back.
        ("get_report", "Returns the report and sends a copy to the archive.", "send"),
        ("read_and_forward", "", "send"),
        ("list_files", "Lists files. Deletes those older than a week.", "delete"),
        # But what is said not to happen does not happen.
        ("get_report", "Returns the report. Never sends anything.", "read"),
        ("validate_invoice", "Checks an invoice without changing or deleting it; does not send it.", "read"),
    ],
)
def test_the_effect_of_a_tool(name: str, description: str, effect: str) -> None:
    assert infer_effect(tool(name, description), is_trusted=False) == effect


@pytest.mark.parametrize(
    ("definition", "untrusted", "trusted"),
    [
        (tool("weather", hints={"readOnlyHint": True}), "unknown", "read"),
        (tool("run_report", hints={"readOnlyHint": True}), "update", "read"),
        (tool("delete_all", hints={"readOnlyHint": True}), "delete", "read"),
        (tool("get_page", hints={"readOnlyHint": False}), "unknown", "unknown"),
        (tool("get_page", hints={"destructiveHint": True}), "delete", "delete"),
        (tool("update_page", hints={"destructiveHint": True}), "delete", "delete"),
        (tool("get_page", hints={"readOnlyHint": True, "destructiveHint": True}), "read", "read"),
        (tool("send_email", hints={"destructiveHint": False}), "send", "send"),
        (tool("get_page", hints={"readOnlyHint": "yes"}), "read", "read"),
    ],
)
def test_hints_loosen_only_from_a_trusted_server(definition: dict[str, Any], untrusted: str, trusted: str) -> None:
    assert infer_effect(definition, is_trusted=False) == untrusted
    assert infer_effect(definition, is_trusted=True) == trusted


def test_what_a_parameter_admits_counts() -> None:
    definition = tool(
        "get_page", "Returns a page.", properties={"notify": {"description": "Sends the page to this address."}}
    )
    assert infer_effect(definition, is_trusted=False) is ToolEffect.SEND


_words = st.sampled_from(["get", "list", "mail", "send", "delete", "report", "page", "run", "and", "pay", "weather"])
_hints = st.fixed_dictionaries(
    {}, optional={"readOnlyHint": st.booleans(), "destructiveHint": st.booleans(), "title": st.just("x")}
)


@given(st.lists(_words, min_size=1, max_size=4), _hints)
def test_no_hint_of_an_untrusted_server_makes_a_tool_harmless(words: list[str], hints: dict[str, Any]) -> None:
    name = "_".join(words)
    without = infer_effect(tool(name), is_trusted=False)
    with_hints = infer_effect(tool(name, hints=hints), is_trusted=False)
    if with_hints is ToolEffect.READ:
        assert without is ToolEffect.READ
