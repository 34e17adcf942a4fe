"""What tables of control state are made of: their metadata, and the kinds of columns that they share.

Below ``schema`` and the ``schema_*`` modules of single rooms, which declare the tables; above SQLAlchemy. Times are
aware UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware UTC in Python; Unix microseconds in the database, so that order and equality mean the same everywhere."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        """Refuses naive times: they have no meaning here."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive time {value!r}")
        delta = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        """Microseconds to aware UTC, exactly."""
        if value is None:
            return None
        return datetime.fromtimestamp(value // 1_000_000, UTC).replace(microsecond=value % 1_000_000)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def table(name: str, *columns: Any, **options: Any) -> sa.Table:
    """A table of control state; ``options`` are SQLAlchemy's."""
    return sa.Table(name, metadata, *columns, **options)


def id_(name: str = "id") -> sa.Column[str]:
    """A primary key of up to 200 characters."""
    return sa.Column(name, sa.String(200), primary_key=True)


def text(name: str, **kwargs: Any) -> sa.Column[str]:
    """Text; ``nullable`` and ``default`` (on the server) are keywords."""
    return sa.Column(name, sa.Text, nullable=kwargs.pop("nullable", False), server_default=kwargs.pop("default", None))


def json(name: str) -> sa.Column[Any]:
    """A JSON value that is there."""
    return sa.Column(name, sa.JSON, nullable=False)


def at(name: str, nullable: bool = False) -> sa.Column[datetime]:
    """A moment, aware UTC."""
    return sa.Column(name, UtcDateTime, nullable=nullable)
