"""Houses for the tests of the portal: one for those that only read, a fresh one for those that change something.

``address`` is where the first is reached by clients that are programs of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from portal.house import House, open_house


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


@pytest.fixture(scope="module")
def address(attacked: House) -> Iterator[str]:
    """The portal behind a socket."""
    config = uvicorn.Config(attacked.app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
