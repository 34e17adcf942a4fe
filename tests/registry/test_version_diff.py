"""What is different between two versions, as somebody who decides reads it."""

from __future__ import annotations

from typing import Any

import pytest

from watchfloor.registry.shape import AGENT
from watchfloor.registry.version_diff import _LISTS, _OTHERS, Reach, compare

BASE: dict[str, Any] = {
    "name": "Billing", "version": "1", "state": "published", "maker": "ada", "instructions": "Be polite.\nBe brief.",
    "sharedWith": ["griffin"],
    "tools": [{"server": "mail", "tool": "lookup", "credential": "user", "scope": "read"}],
}  # fmt: skip


def grant(**changes: str) -> dict[str, Any]:
    return {"tools": [{**BASE["tools"][0], **changes}]}


def one(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, Reach, str]:
    (found,) = compare(BASE | before, BASE | after)
    return found.where, found.reach, found.says


@pytest.mark.parametrize(
    ("before", "after", "where", "reach", "says"),
    [
        (
            {}, {"tools": [*BASE["tools"], {"server": "mail", "tool": "*", "credential": "maker", "scope": "write"}]},
            "tools[mail/*]", Reach.WIDER,
            "Now may use every tool of mail to read and write, with its maker's credentials.",
        ),
        (
            grant(tool="*", scope="write"), {"tools": [*BASE["tools"], *grant(tool="*", scope="write")["tools"]]},
            "tools[mail/lookup]", Reach.NARROWER, "Now may use mail/lookup to only read, with its user's credentials.",
        ),
        (
            grant(tool="*"), {"tools": [{**BASE["tools"][0], "tool": "*"}, {**BASE["tools"][0], "scope": "write"}]},
            "tools[mail/lookup]", Reach.WIDER,
            "Now may use mail/lookup to read and write, with its user's credentials.",
        ),
        (
            {}, {"tools": []}, "tools[mail/lookup]", Reach.NARROWER,
            "No longer may use mail/lookup to only read, with its user's credentials.",
        ),
        (
            {}, grant(scope="write"), "tools[mail/lookup].scope", Reach.WIDER,
            "May read and write with mail/lookup, where it could only read.",
        ),
        (
            {}, grant(credential="maker"), "tools[mail/lookup].credential", Reach.WIDER,
            "Uses mail/lookup with its maker's credentials instead of its user's credentials.",
        ),
        (
            grant(credential="maker"), grant(credential="app"), "tools[mail/lookup].credential", Reach.NARROWER,
            "Uses mail/lookup with the tool server's own credentials instead of its maker's credentials.",
        ),
        (
            {}, {"sharedWith": ["griffin", "group:sales"]}, "sharedWith[group:sales]", Reach.WIDER,
            "Now may be used by the group sales.",
        ),
        (
            {"guardrails": ["no numbers of cards"]}, {}, "guardrails[no numbers of cards]", Reach.WIDER,
            "No longer is held to no numbers of cards.",
        ),
        (
            {"platformTools": [{"name": "Orders", "urls": ["https://a.example"]}]},
            {"platformTools": [{"name": "Orders", "urls": ["https://b.example"]}]},
            "platformTools[Orders]", Reach.WIDER, "platformTools: Orders is not what it was.",
        ),
        (
            {}, {"instructions": "Be polite.\nSend everything."}, "instructions", Reach.OTHER,
            "Its instructions are not what they were: 1 lines added, 1 taken out.",
        ),
        ({}, {"model": "gpt-6"}, "model", Reach.OTHER, "model: nothing became gpt-6."),
    ],
)  # fmt: skip
def test_a_difference_is_told_in_the_manifests_words(
    before: dict[str, Any], after: dict[str, Any], where: str, reach: Reach, says: str
) -> None:
    assert one(before, after) == (where, reach, says)


def test_what_lets_the_agent_do_more_stands_first_and_equal_manifests_differ_in_nothing() -> None:
    after = BASE | {"model": "gpt-6", "sharedWith": []} | grant(scope="write")
    assert [d.reach for d in compare(BASE, after)] == ["wider", "narrower", "other"]
    assert compare(BASE, dict(BASE)) == []


def test_a_second_item_of_the_same_name_is_not_overlooked() -> None:
    tool = {"name": "Orders"}
    before, after = {"platformTools": [tool]}, {"platformTools": [{**tool, "urls": ["https://evil.example"]}, tool]}
    assert one(before, after)[0] == "platformTools[Orders]"


def test_every_member_of_an_agents_section_is_compared() -> None:
    told = {*_LISTS, *_OTHERS, "tools", "instructions"}
    assert {member.name for member in AGENT.members} - told == {"id", "state", "secret"}
