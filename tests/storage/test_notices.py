"""Notices, their links and the outbox, on both engines: a thing is open once, a link used once, a queue one's own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from watchfloor.model.errors import Conflict
from watchfloor.model.notices import Item, ItemState, Notice, NoticeState, Source, SourceKind
from watchfloor.storage import messages, notices
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.notices import Link

from .contract_control import postgres_url, site, store  # noqa: F401  (fixtures)

MCP = Source(SourceKind.TEMPLATE, "agents-mcp-maker-credentials")


def opened(tx: ControlTx, notice_id: str, *agents: str) -> Notice:
    made = Notice(notice_id, "ada", NoticeState.WAITING, tx.now, "sam", tx.now)
    notices.add_notice(tx, made)
    notices.add_items(tx, notice_id, [Item(agent, MCP, "what") for agent in agents])
    tx.audit("notice:open", f"notice/{notice_id}", {})
    return made


def test_the_same_of_an_agent_is_open_once_and_may_be_opened_again_after_its_end(store: SqlControlStore) -> None:  # noqa: F811  a fixture
    with store.tx("test") as tx:
        first = opened(tx, "ntc_1", "a", "b")
    with pytest.raises(Conflict), store.tx("test") as tx:
        opened(tx, "ntc_2", "b")
    with store.tx("test") as tx:
        assert notices.list_items(tx, ["ntc_1"])["ntc_1"][1].agent_id == "b"
        notices.close_item(tx, notices.find_open_items(tx, MCP, ["a", "b"])["b"], ItemState.FIXED)
        opened(tx, "ntc_2", "b")
    with store.read() as tx:
        assert [(i.agent_id, i.state) for i in notices.list_items(tx, ["ntc_1"])["ntc_1"]] == [
            ("a", ItemState.OPEN), ("b", ItemState.FIXED),
        ]  # fmt: skip
        assert set(notices.find_open_items(tx, MCP, ["a", "b", "c"])) == {"a", "b"}
        assert notices.find_waiting(tx, "ada") == first and notices.find_waiting(tx, "ben") is None
        assert [n.id for n in notices.list_notices(tx, agent_ids=["b"], limit=9)] == ["ntc_2", "ntc_1"]
        assert [n.id for n in notices.list_notices(tx, before="ntc_2", limit=9)] == ["ntc_1"]


def test_a_link_is_used_once_and_forgotten_when_it_is_long_over(store: SqlControlStore) -> None:  # noqa: F811  a fixture
    with store.tx("test", audited=False) as tx:
        notices.add_link(tx, Link("h", "ntc_1", "ada", tx.now))
        assert [notices.use_link(tx, "h"), notices.use_link(tx, "h"), notices.use_link(tx, "other")] == [
            True, False, False,
        ]  # fmt: skip
        notices.forget_links(tx, tx.now + timedelta(seconds=1))
        assert notices.find_link(tx, "h") is None


def test_each_channel_has_a_queue_and_a_key_is_put_once_for_each_recipient(store: SqlControlStore) -> None:  # noqa: F811  a fixture
    with store.tx("test", audited=False) as tx:
        for _ in range(2):
            messages.put(tx, "k", "ada@zava.example", "s", "t", notice_id="ntc_1")
            messages.put(tx, "k", "ben@zava.example", "s", "t", notice_id="ntc_1")
            messages.put(tx, "k", "teams", "s", "{}", channel="teams", notice_id="ntc_1")
        assert messages.due_channels(tx) == ["mail", "teams"]
        first, second = messages.list_due(tx, "mail", 10)
        messages.put_off(tx, first, tx.now + timedelta(hours=1), "busy")
        messages.settle(tx, second, messages.SENT)
        assert messages.due_channels(tx) == ["teams"] and messages.count_waiting(tx, "mail") == 1
        assert [m.state for m in messages.list_of_notice(tx, "ntc_1")] == ["pending", "sent", "pending"]
