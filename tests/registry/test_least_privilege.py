"""Least privilege: what is proposed for grants, from what was used."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from watchfloor.model.agents import CredentialOwner, Scope, ToolEffect
from watchfloor.model.facts import granted
from watchfloor.registry.least_privilege import Advice, Use, facts_of, propose
from watchfloor.storage.inventory import Binding

AT = datetime(2026, 11, 3, 12, tzinfo=UTC)


def grant(tool: str, scope: Scope = Scope.WRITE, owner: CredentialOwner = CredentialOwner.APP) -> Binding:
    server, _, name = tool.partition("/")
    return Binding("a", server, name, AT, owner, scope)


def use(tool: str, effect: ToolEffect, calls: int = 1) -> Use:
    server, _, name = tool.partition("/")
    return Use(server, name, effect, calls, AT)


def shown(bindings: Sequence[Binding]) -> list[tuple[str, str]]:
    return [(f"{b.server_id}/{b.tool}", b.scope.value) for b in bindings]


@pytest.mark.claim("least-privilege")
def test_what_was_not_used_goes_and_what_only_read_may_only_read() -> None:
    bindings = [grant("bank/pay"), grant("crm/find"), grant("crm/save"), grant("mail/*")]
    uses = [use("crm/find", ToolEffect.READ, 40), use("crm/save", ToolEffect.UPDATE), use("mail/list", ToolEffect.READ)]
    found = propose(bindings, uses, 30)
    assert [one.advice for one in found.advised] == [Advice.REMOVE, Advice.READ_ONLY, Advice.KEEP, Advice.SPLIT]
    assert shown(found.bindings) == [("crm/find", "read"), ("crm/save", "write"), ("mail/list", "read")]
    assert (found.calls, found.would_fail, found.warnings) == (42, 0, ())
    again = propose(found.bindings, uses, 30)
    assert (shown(again.bindings), again.is_narrower) == (shown(found.bindings), False)


@pytest.mark.claim("least-privilege")
def test_whatever_was_granted_and_done_the_proposal_covers_it_and_no_grant_of_it_can_go() -> None:
    chance = random.Random(3)
    tools = [f"{server}/{name}" for server, name in itertools.product("xy", "abc")]
    for _ in range(300):
        names = chance.sample([*tools, "x/*", "y/*"], chance.randint(1, 6))
        bindings = [grant(name, chance.choice(list(Scope))) for name in names]
        uses = [use(name, chance.choice(list(ToolEffect)), 3) for name in chance.sample(tools, chance.randint(0, 6))]
        found = propose(bindings, uses, 30)
        assert found.would_fail == 0
        before, after = ([facts_of(b) for b in some] for some in (bindings, found.bindings))
        for one in after:
            known = granted(before, one.server_id, one.tool)
            assert known is not None and (known.scope is Scope.WRITE or one.scope is Scope.READ), "it only narrows"
            assert one.tool in {u.tool for u in uses if u.server_id == one.server_id}
            changes = [u for u in uses if (u.server_id, u.tool) == (one.server_id, one.tool)]
            assert one.scope is Scope.READ or changes[0].effect is not ToolEffect.READ


def test_a_maker_has_to_give_a_credential_again_that_stood_for_every_tool() -> None:
    bindings = [grant("mail/*", owner=CredentialOwner.MAKER)]
    found = propose(bindings, [use("mail/send", ToolEffect.SEND)], 30)
    assert "makerCredential" in found.warnings[0]
    assert propose([grant("mail/*")], [use("mail/send", ToolEffect.SEND)], 30).warnings == ()


def test_without_any_call_it_is_said_that_there_is_nothing_to_go_by() -> None:
    found = propose([grant("mail/send")], [], 7)
    assert found.bindings == ()
    assert found.warnings == ("No call was seen in the last 7 days: there is nothing to go by.",)
