"""``watchfloor receiver``: the telemetry doors of this host, as one process."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click

from watchfloor.model.errors import InputError
from watchfloor.model.ids import is_name
from watchfloor.settings import load


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Directory for all state.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML).")
@click.option("--host", "receiver_host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", "receiver_port", type=int, help="Port of the doors over HTTP.  [default: 4318]")
@click.option("--grpc-port", "receiver_grpc_port", type=int, help="Port of OTLP over gRPC, 0: none.  [default: 4317]")
@click.option("--worker-id", default="receiver-0", show_default=True, help="Name of this receiver.")
@click.option("--database-url", help="Control state, if it is not in the data directory.")
@click.option("--trusted-proxy", multiple=True, help="Believe X-Forwarded-For of this network. May be repeated.")
def receiver(config: Path | None, worker_id: str, trusted_proxy: tuple[str, ...], **overrides: Any) -> None:
    """Run one telemetry receiver: OTLP (HTTP and gRPC), Agent 365's SDK, and Watchfloor's own events.

    Start several with different --worker-id for more cores; they share the ports. SIGTERM ends it; whatever was
    answered is stored.
    """
    from watchfloor.cli.gateway import check_networks

    settings = load(os.environ, config=config, overrides=overrides)
    if not is_name(worker_id):
        raise InputError("must be lower case letters, digits, '.', '_' or '-'.", where="--worker-id")
    check_networks(trusted_proxy)
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s {worker_id} %(name)s: %(message)s"
    )
    from watchfloor.gateway.telemetry.receiver import ReceiverPlan, run_receiver
    from watchfloor.storage.logs import log_opener

    run_receiver(
        ReceiverPlan(
            data=settings.data.absolute(),
            database_url=settings.effective_database_url,
            host=settings.receiver_host,
            port=settings.receiver_port,
            grpc_port=settings.receiver_grpc_port,
            worker_id=worker_id,
            lease_seconds=settings.lease_seconds,
            max_body_bytes=settings.receiver_max_body_bytes,
            backlog_rows=settings.receiver_backlog_rows,
            drain_seconds=settings.drain_seconds,
            trusted_proxies=trusted_proxy,
        ),
        log_opener(settings.data.absolute(), settings.log_url),
    )
