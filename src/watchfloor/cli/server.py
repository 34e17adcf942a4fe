"""``watchfloor server``: the control plane as one process."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from watchfloor.settings import load


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Directory for all state.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML).")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port.  [default: 7700]")
@click.option("--server-url", help="How browsers and agents reach this server.")
@click.option("--gateway-url", help="How agents reach the gateway.")
@click.option("--database-url", help="Control state: a postgresql:// URL.")
def server(config: Path | None, **overrides: Any) -> None:
    """Run the control plane: portal, API, token service, detection and background jobs."""
    settings = load(os.environ, config=config, overrides=overrides)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "httpx2", "alembic.runtime.plugins"):  # a line for each question says nothing
        logging.getLogger(chatty).setLevel(logging.WARNING)
    import uvicorn
    from fastapi import FastAPI

    from watchfloor.app import build_server, settle_memory

    parts = build_server(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts.start()
        settle_memory()
        yield

    parts.portal.router.lifespan_context = lifespan
    try:
        uvicorn.run(
            parts.portal,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            # Longer than clients keep a connection that they do not use: none is closed under a request.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )
    finally:
        parts.close()
