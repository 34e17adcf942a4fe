"""``watchfloor gateway``: one gateway worker on a port that all workers of the host share."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from watchfloor.model.errors import InputError
from watchfloor.model.ids import is_name
from watchfloor.settings import load


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Directory for all state.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML).")
@click.option("--host", "gateway_host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", "gateway_port", type=int, help="Port, shared with the other workers.  [default: 7701]")
@click.option(
    "--ext-authz-port",
    "gateway_ext_authz_port",
    type=int,
    help="Port for Envoy's external authorization over gRPC, 0: none.  [default: 0]",
)
@click.option(
    "--worker-id", default="gateway-0", show_default=True, help="Name of this worker; each has its own spool."
)
@click.option("--server-url", help="How the server is reached: it names the issuer of tokens.")
@click.option("--gateway-url", help="How agents reach the gateway: the audience of tokens begins with it.")
@click.option("--database-url", help="Control state, if it is not in the data directory.")
@click.option("--follow", is_flag=True, help="There is no server on this host: follow the database directly.")
@click.option("--allow-origin", multiple=True, help="Accept browsers from this origin. May be repeated.")
@click.option("--trusted-proxy", multiple=True, help="Believe X-Forwarded-For of this network. May be repeated.")
def gateway(
    config: Path | None,
    worker_id: str,
    follow: bool,
    allow_origin: tuple[str, ...],
    trusted_proxy: tuple[str, ...],
    **overrides: Any,
) -> None:
    """Run one gateway worker.

    Start several with different --worker-id for more cores; they share the port. SIGTERM drains: calls in flight end,
    decisions are shipped, then the worker exits.
    """
    settings = load(os.environ, config=config, overrides=overrides)
    if not is_name(worker_id):
        raise InputError("must be lower case letters, digits, '.', '_' or '-'.", where="--worker-id")
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s {worker_id} %(name)s: %(message)s"
    )
    data = settings.data.absolute()
    _travel_light(needs_numpy=settings.alignment_milliseconds > 0 and (data / "models").is_dir())
    from watchfloor.gateway.app import GatewayConfig
    from watchfloor.gateway.copilot_studio.config import PATH, configure
    from watchfloor.gateway.worker import WorkerPlan, run_worker
    from watchfloor.storage.logs import log_opener

    check_networks(trusted_proxy)
    run_worker(
        GatewayConfig(
            base_url=settings.effective_gateway_url,
            issuer=settings.issuer,
            run_directory=data / "run",
            conversations_database=settings.conversations_url,
            worker_id=worker_id,
            lease_seconds=settings.lease_seconds,
            hold_seconds=settings.hold_seconds,
            holds_per_agent_hour=settings.holds_per_agent_hour,
            decision_seconds=settings.decision_seconds,
            memory_bytes=settings.worker_memory_bytes,
            max_body_bytes=settings.max_body_bytes,
            spool_max_bytes=settings.spool_max_bytes,
            allowed_origins=frozenset(allow_origin),
            trusted_proxies=trusted_proxy,
            ext_authz_host=settings.gateway_host,
            ext_authz_port=settings.gateway_ext_authz_port,
            copilot_studio=configure(
                tenant=settings.copilot_studio_tenant,
                url=settings.copilot_studio_url or f"{settings.effective_gateway_url}{PATH}",
                callers=settings.copilot_studio_callers,
                audiences=settings.copilot_studio_audiences,
                issuers=settings.copilot_studio_issuers,
                jwks_url=settings.copilot_studio_jwks_url,
                mode=settings.copilot_studio_mode,
                server=settings.copilot_studio_server,
                deadline_seconds=settings.copilot_studio_deadline,
                session_seconds=settings.copilot_studio_session_seconds,
                max_body_bytes=settings.max_body_bytes,
            ),
            alignment_milliseconds=settings.alignment_milliseconds,
        ),
        WorkerPlan(
            data=data,
            database_url=settings.effective_database_url,
            host=settings.gateway_host,
            port=settings.gateway_port,
            drain_seconds=settings.drain_seconds,
            wait_for_sync=settings.wait_for_sync,
            follows=follow,
        ),
        log_opener(data, settings.log_url),
    )


def _travel_light(*, needs_numpy: bool) -> None:
    """A worker is there many times over, and Arrow is to make batches of its decisions only: without numpy, which Arrow
    loads wherever it is installed, and without an allocator of its own, it takes some 15 MiB less. The sentence encoder
    of those who have built one (docs/alignment.md) needs numpy."""
    if not needs_numpy:
        sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]  # how Python says that there is no such module
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def check_networks(texts: tuple[str, ...]) -> None:
    """Raises ``InputError`` for whatever is no network."""
    for text in texts:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise InputError(f"{error}.", where="--trusted-proxy", remedy="Write 10.0.0.0/8 or an address.") from error
