"""Migrations lead from nothing to exactly the schema of the code, and back, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from watchfloor.storage import engines, migrations, schema
from watchfloor.storage.projection import DatabaseAddress

from .contract_control import postgres_url  # noqa: F401  (a fixture)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine on an empty database."""
    if request.param == "sqlite":
        made = sa.create_engine(f"sqlite:///{tmp_path / 'control.db'}")
        yield made
        made.dispose()
        return
    url = request.getfixturevalue("postgres_url")
    name = "watchfloor_migrations"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    made = sa.create_engine(
        url.replace("://", "+psycopg://"), connect_args={"options": f"-csearch_path={name}"}, poolclass=sa.NullPool
    )
    yield made
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


def differences(connection: sa.Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata))


def test_migrations_lead_to_exactly_the_schema(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
    with engine.connect() as connection:
        assert differences(connection) == []
        assert migrations.current(connection) == migrations.HEAD
        assert connection.execute(sa.select(schema.revision)).all() == [(1, 0)]


def test_a_difference_would_be_found(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
        connection.execute(sa.text("ALTER TABLE lease ADD COLUMN extra TEXT"))
        connection.execute(sa.text("DROP INDEX ix_projection_revision"))
    with engine.connect() as connection:
        assert len(differences(connection)) == 2


def test_upgrading_twice_changes_nothing(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
        connection.execute(sa.update(schema.revision).values(value=5))
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
        assert connection.execute(sa.select(schema.revision.c.value)).scalar() == 5


def test_every_migration_can_be_taken_back(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
    with engine.begin() as connection:
        migrations.downgrade(connection, "base")
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
        migrations.upgrade(connection, "a test")
        assert differences(connection) == []


def test_an_incident_from_before_its_sums_had_their_order_is_counted_anew(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
        migrations.downgrade(connection, "0010")
        values = {
            "id": "inc_1", "title": "", "description": "", "severity": "high", "status": "active", "entities": [],
            "classification": "unknown", "determination": "unknown", "tags": [], "priority": 1,
            "correlation_key": "user/ann", "first_alert": "alr_1",
        }  # fmt: skip
        at = datetime(2026, 11, 3, tzinfo=UTC)
        times = dict.fromkeys(("created_at", "updated_at", "first_activity", "last_activity"), at)
        connection.execute(schema.incident.insert().values(**values, **times))
        connection.execute(sa.text("INSERT INTO incident_tally (incident_id, key, n) VALUES ('inc_1', 'c:partial', 1)"))
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
        assert connection.execute(sa.select(schema.incident.c.first_alert)).scalar_one() is None
        assert connection.execute(sa.select(schema.incident_tally)).all() == []


def test_builds_from_before_they_had_numbers_keep_their_order_and_the_one_in_use_is_live(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
        migrations.downgrade(connection, "0020")
        at = datetime(2026, 11, 3, tzinfo=UTC)
        agent = dict.fromkeys(("name", "description", "state", "risk", "platform", "model", "updated_by"), "")
        agent |= {"id": "a", "version": "1", "epoch": 1, "manifest": {}, "created_at": at, "updated_at": at}
        connection.execute(schema.agent.insert().values(**agent))
        for n, build in enumerate(("1", "2", "1+abc")):  # and back to the first
            connection.execute(
                sa.text("INSERT INTO agent_version VALUES ('a', :build, 'h', '{\"n\": 1}', :at, 'root')"),
                {"build": build, "at": n},
            )
    with engine.begin() as connection:
        migrations.upgrade(connection, "a test")
        v = schema.agent_version
        found = connection.execute(sa.select(v.c.number, v.c.version, v.c.state, v.c.checks).order_by(v.c.number)).all()
    assert found == [(1, "2", "superseded", []), (2, "1+abc", "superseded", []), (3, "1", "live", [])]


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        # In the way of the last table that is made.
        last = schema.metadata.sorted_tables[-1].name
        connection.execute(sa.text(f"CREATE TABLE {last} (x INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        engines.migrate(DatabaseAddress(path, ""))
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == [last]
    engine.dispose()


def test_head_is_the_newest_file_and_the_history_is_a_line() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        scripts = ScriptDirectory.from_config(migrations.config(connection))
    assert scripts.get_heads() == [migrations.HEAD]
    assert len(scripts.get_bases()) == 1
    numbers = [script.revision for script in scripts.walk_revisions()]
    assert numbers == sorted(numbers, reverse=True)
