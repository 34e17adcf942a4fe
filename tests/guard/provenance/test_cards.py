"""What arguments are for: by name, by schema, by description; and who is believed."""

from __future__ import annotations

from typing import Any

import pytest

from watchfloor.guard.provenance.cards import effects_of, infer_card, role_at, role_of, strictness_of
from watchfloor.guard.provenance.labels import Role, Strictness
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import ToolCard


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("to", Role.DESTINATION), ("ccRecipients", Role.DESTINATION), ("user_email", Role.DESTINATION),
        ("webhook_url", Role.DESTINATION), ("receiver_id", Role.DESTINATION), ("account_number", Role.DESTINATION),
        ("share_with", Role.DESTINATION), ("channel", Role.DESTINATION), ("iban", Role.DESTINATION),
        ("new_password", Role.SECRET), ("apiKey", Role.SECRET), ("order_id", Role.ID), ("id", Role.ID),
        ("access_token", Role.ID), ("start_time", Role.TIME), ("due_date", Role.TIME), ("body", Role.CONTENT),
        ("amount", Role.AMOUNT), ("file_path", Role.PATH), ("hotel", Role.ENTITY), ("travel_to", Role.ENTITY),
    ],
)  # fmt: skip
def test_names_tell_what_an_argument_is_for(name: str, role: Role) -> None:
    assert role_of(name) is role


def _card(about: dict[str, Any], name: str = "value") -> ToolCard:
    return infer_card({"name": "t", "inputSchema": {"type": "object", "properties": {name: about}}})


def test_schema_and_description_make_a_role_stricter() -> None:
    assert _card({"type": "string", "format": "email"}).roles == {"value": "destination"}
    assert _card({"type": "array", "items": {"type": "string", "format": "uri"}}).roles == {"value": "destination"}
    assert _card({"description": "The e-mail address to notify."}).roles == {"value": "destination"}
    assert _card({"description": "The password to set."}).roles == {"value": "secret"}


def test_schema_and_description_never_make_a_role_looser() -> None:
    assert _card({"type": "string", "format": "date"}, "recipient").roles == {"recipient": "destination"}
    assert _card({"description": "Just a harmless comment."}, "recipient").roles == {"recipient": "destination"}


def test_an_administrator_may_say_otherwise() -> None:
    definition = {"name": "t", "inputSchema": {"properties": {"channel": {"type": "string"}}}}
    assert infer_card(definition, overrides={"channel": "entity"}).roles == {"channel": "entity"}


def test_only_a_trusted_server_is_believed_to_be_closed() -> None:
    definition = {"name": "t", "annotations": {"openWorldHint": False}}
    assert infer_card(definition).is_open_world
    assert not infer_card(definition, is_trusted=True).is_open_world


def test_a_place_is_a_destination_only_where_something_is_handed_over() -> None:
    assert role_at("destination", None, ToolEffect.SEND) is Role.DESTINATION
    assert role_at("destination", None, ToolEffect.UPDATE) is Role.ENTITY


def test_tools_that_commit_somebody_answer_to_the_rules_of_paying() -> None:
    assert ToolEffect.PAY in effects_of("reserve_hotel", ToolEffect.CREATE)
    assert ToolEffect.PAY not in effects_of("create_note", ToolEffect.CREATE)
    assert effects_of("reserve_table", ToolEffect.READ) == {ToolEffect.READ}


def test_a_tool_that_nobody_knows_answers_to_every_rule() -> None:
    assert effects_of("frobnicate", ToolEffect.UNKNOWN) == set(ToolEffect) - {ToolEffect.READ}


def test_tools_are_careful_unless_somebody_says_otherwise() -> None:
    assert strictness_of(None) is Strictness.CAREFUL
    assert strictness_of(ToolCard(strictness="balanced")) is Strictness.BALANCED
    assert strictness_of(ToolCard(strictness="of a newer version")) is Strictness.STRICT
