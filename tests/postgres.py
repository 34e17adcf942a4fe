"""A PostgreSQL database of a test's own, made and dropped again.

Where no server answers, the test is skipped and says so; in CI that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest

POSTGRES = os.environ.get("WATCHFLOOR_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")


@contextmanager
def throw_away_database() -> Iterator[str]:
    """The URL of a new, empty database, gone afterwards."""
    try:
        server = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have a PostgreSQL at {POSTGRES}: {error}")
        pytest.skip(f"no PostgreSQL answers at {POSTGRES}")
    name = f"watchfloor_test_{uuid4().hex[:12]}"
    with server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{POSTGRES.rpartition('/')[0]}/{name}"
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
