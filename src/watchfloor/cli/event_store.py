"""The event store of a data directory, for commands that read it without a control plane."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

from watchfloor.model.errors import InputError, Unavailable
from watchfloor.settings import Settings
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.remote import RemoteStore


def open_event_store(settings: Settings) -> AbstractContextManager[RemoteStore | DuckDbStore]:
    """The event store of ``settings.data``: through the store process that has it, else directly."""
    data = settings.data.absolute()
    remote = RemoteStore(data / "run" / "store.sock")
    try:
        remote.health()
        return remote
    except Unavailable:
        remote.close()
    if not (data / "events.duckdb").exists():
        raise InputError(
            f"there is no event store in {data}.", where="--data", remedy="Start Watchfloor, or name its directory."
        )
    return contextlib.closing(DuckDbStore(data / "events.duckdb", data / "cold"))
