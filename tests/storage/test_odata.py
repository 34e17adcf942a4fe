"""``$filter``: what it says, what it refuses, and that both readings of it give the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.model.errors import InputError
from watchfloor.storage.odata import Compare, Field, Junction, Not, Search, Type, Within, matches, parse, to_sql

_METADATA = sa.MetaData()
_THING = sa.Table(
    "thing", _METADATA, sa.Column("n", sa.Integer), sa.Column("title", sa.Text), sa.Column("who", sa.Text),
    sa.Column("severity", sa.Text), sa.Column("at", sa.DateTime(timezone=True)),
)  # fmt: skip
FIELDS = {
    "id": Field(Type.TEXT, _THING.c.title),
    "title": Field(Type.TEXT, _THING.c.title),
    "assignedTo": Field(Type.TEXT, _THING.c.who),
    "severity": Field(Type.CHOICE, _THING.c.severity, {"low": ("low",), "high": ("high", "critical")}),
    "createdDateTime": Field(Type.TIME, _THING.c.at),
    "product": Field(Type.TEXT, constant="Watchfloor"),
    "customTags": Field(Type.TEXTS, None),
}
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def test_a_filter_is_read_with_its_precedence() -> None:
    found = parse("severity eq 'high' and not (title eq 'O''Hara' or createdDateTime ge 2026-11-03T12:00:00Z)", FIELDS)
    assert found == Junction(
        True,
        (
            Compare("severity", "eq", "high"),
            Not(Junction(False, (Compare("title", "eq", "O'Hara"), Compare("createdDateTime", "ge", NOON)))),
        ),
    )
    both = parse("title eq 'a' or title eq 'b' and title eq 'c'", FIELDS)
    assert isinstance(both, Junction)
    assert (both.is_all, both.parts[0]) == (False, Compare("title", "eq", "a"))


def test_lists_functions_null_and_any_are_read() -> None:
    assert parse("severity in ('low', 'high')", FIELDS) == Within("severity", ("low", "high"))
    assert parse("startswith(title,'x')", FIELDS) == Search("startswith", "title", "x")
    assert parse("assignedTo ne null", FIELDS) == Compare("assignedTo", "ne", None)
    assert parse("customTags/any(t:t eq 'VIP')", FIELDS) == Compare("customTags", "eq", "VIP")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the name of a field is expected, at character 1"),
        ("colour eq 'x'", "'colour' cannot be asked about; these can: assignedTo"),
        ("severity eq 'urgent'", "severity is one of low, high, not 'urgent', at character 13"),
        ("severity gt 'low'", "after severity, one of eq, ne, in is expected, at character 10"),
        ("createdDateTime ge 'yesterday'", "a time such as 2026-11-03T12:00:00Z is expected"),
        ("createdDateTime ge 2026-13-03T12:00:00Z", "there is no such time"),
        ("title eq 'open", "this cannot be read"),
        ("title eq 'a' or", "the name of a field is expected"),
        ("title eq 'a')", "')' is not expected here, at character 13"),
        ("(" * 30 + "title eq 'a'" + ")" * 30, "nested too deeply"),
        (" or ".join(["id eq null"] * 120), "at most 100 terms"),
        ("title in (" + ",".join(["'a'"] * 150) + ")", "at most 100 terms"),
        ("x" * 3000, "at most 2000 characters"),
        ("startswith(severity,'l')", "severity holds one of a few words, which does not fit here"),
        ("customTags eq 'x'", "customTags is a list: ask customTags/any(t:t eq '…')"),
        ("customTags/any(t:u eq 'x')", "t is expected"),
        ("createdDateTime gt null", "null is only equal or not"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(text, FIELDS)
    assert says in str(refused.value)
    assert refused.value.where == "$filter"


@given(st.text(max_size=200))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        parse(text, FIELDS)
    except InputError as refused:
        assert refused.where == "$filter"


_TITLES = st.sampled_from(["", "a", "A%", "a_b", "Ab\\c", "o'x"])
_LEAVES = st.one_of(
    st.builds(Compare, st.just("title"), st.sampled_from(["eq", "ne"]), st.one_of(st.none(), _TITLES)),
    st.builds(Compare, st.just("assignedTo"), st.sampled_from(["eq", "ne"]), st.one_of(st.none(), _TITLES)),
    st.builds(Compare, st.just("severity"), st.sampled_from(["eq", "ne"]), st.sampled_from(["low", "high"])),
    st.builds(
        Compare, st.just("createdDateTime"), st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"]),
        st.sampled_from([NOON, NOON + timedelta(hours=1)]),
    ),
    st.builds(Compare, st.just("createdDateTime"), st.sampled_from(["eq", "ne"]), st.none()),
    st.builds(Compare, st.just("product"), st.sampled_from(["eq", "ne"]), st.sampled_from(["Watchfloor", "other"])),
    st.builds(Within, st.just("title"), st.lists(_TITLES, min_size=1, max_size=3).map(tuple)),
    st.builds(Search, st.sampled_from(["startswith", "endswith", "contains"]), st.just("title"), _TITLES),
)  # fmt: skip
_CONDITIONS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Junction, st.booleans(), st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def things() -> Any:
    """(connection, things as they are sent)."""
    engine = sa.create_engine("sqlite://")
    _METADATA.create_all(engine)
    rows = [
        {"n": n, "title": title, "who": who, "severity": severity, "at": at}
        for n, (title, who, severity, at) in enumerate(
            (title, who, severity, at)
            for title in (None, "", "a", "A%", "xa_b", "ab\\C", "o'x")
            for who in (None, "a")
            for severity in ("low", "high", "critical")
            for at in (None, NOON, NOON + timedelta(minutes=30))
        )
    ]
    with engine.connect() as connection:
        connection.execute(_THING.insert(), rows)
        sent = [
            {
                "title": row["title"],
                "assignedTo": row["who"],
                "severity": "high" if row["severity"] == "critical" else row["severity"],
                "createdDateTime": row["at"].isoformat() if row["at"] else None,  # type: ignore[attr-defined]  # times
                "product": "Watchfloor",
            }
            for row in rows
        ]
        yield connection, sent


@given(condition=_CONDITIONS)
def test_the_database_and_an_answer_agree_on_every_filter(things: Any, condition: Any) -> None:
    connection, sent = things
    asked = sa.select(_THING.c.n).where(to_sql(condition, _naive(FIELDS))).order_by(_THING.c.n)
    from_database = list(connection.execute(asked).scalars())
    assert from_database == [n for n, each in enumerate(sent) if matches(condition, each, FIELDS)]


class _Naive(sa.types.TypeDecorator[datetime]):
    """SQLite keeps no zone: the bounds are compared as it stores them."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.replace(tzinfo=None)


def _naive(fields: dict[str, Field]) -> dict[str, Field]:
    return fields | {"createdDateTime": Field(Type.TIME, sa.type_coerce(_THING.c.at, _Naive()))}
