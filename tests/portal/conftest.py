"""Houses for the tests of the portal: one for those that only read, a fresh one for those that change something.

``address`` is where the first is reached by clients that are programs of their own.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn

from portal.house import House, open_house
from watchfloor.portal.app import build_portal


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """After the thief's attack. Tests that share it leave it as it is."""
    with open_house(tmp_path_factory.mktemp("attacked")) as opened:
        opened.attack()
        yield opened


@contextmanager
def served(house: House) -> Iterator[str]:
    """The portal of ``house`` behind a socket, which knows its address and writes it into links."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = build_portal(replace(house.deps, public_url=address))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield address
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def address(attacked: House) -> Iterator[str]:
    """The portal behind a socket."""
    with served(attacked) as found:
        yield found
