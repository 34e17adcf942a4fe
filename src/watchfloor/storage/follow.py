"""Keeping a host's epoch file level with the database: the heartbeat of a server, the only news of a gateway host.

INVARIANT: a beat means that the database answered just now and is not behind what this host has announced. Whatever
goes wrong, the beats stop, and workers whose lease runs out refuse.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import psycopg

from watchfloor.model.errors import Unavailable
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.projection import DatabaseAddress, ProjectionReader

_NOTHING_NEWER: Final = 2**62
"""Reading behind this revision brings the revision alone."""


def follow(
    url: str,
    epoch: EpochFile,
    stop: threading.Event,
    *,
    poll: float,
    channel: str,
    on_round: Callable[[str | None], None],
) -> None:
    """Until ``stop`` is set, every ``poll`` seconds or when ``channel`` rings: read, raise the epoch, beat.

    ``on_round`` runs after each round, with what was wrong with it, if anything.
    """
    address = DatabaseAddress.parse(url)
    reader: ProjectionReader | None = None
    bell: psycopg.Connection[object] | None = None
    try:
        while not stop.is_set():
            try:
                if reader is None:
                    reader = ProjectionReader.open(url)
                if bell is None and address.path is None:
                    bell = _listen(address, channel)
                on_round(_round(reader, epoch))
                if bell is None:
                    stop.wait(poll)
                else:
                    # Being woken too often is harmless: a round only reads.
                    next(bell.notifies(timeout=poll, stop_after=1), None)
            except (Unavailable, psycopg.Error) as error:
                on_round(str(error).strip())
                if bell is not None:
                    bell.close()
                    bell = None
                stop.wait(poll)
    finally:
        if reader is not None:
            reader.close()
        if bell is not None:
            bell.close()


def _round(reader: ProjectionReader, epoch: EpochFile) -> str | None:
    # The epoch first: it is raised after commits, so a database that is read later is never behind it, unless an older
    # one was put in its place. Then nobody can confirm what this host's workers hold.
    announced = epoch.revision()
    revision, _ = reader.read(_NOTHING_NEWER)
    if revision < announced:
        return (
            f"the database is at revision {revision}, but {announced} was announced: "
            "an older one was put in its place. Restart the server: it announces everything anew."
        )
    epoch.raise_to(revision)
    epoch.beat()
    return None


def _listen(address: DatabaseAddress, channel: str) -> psycopg.Connection[object]:
    connection: psycopg.Connection[object] = psycopg.connect(
        address.uri, autocommit=True, connect_timeout=2, application_name="watchfloor-follow"
    )
    try:
        connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
    except BaseException:
        connection.close()
        raise
    return connection
