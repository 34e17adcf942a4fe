"""A gRPC server of one method. Processes of a host share its port; messages reach the method as they came."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from watchfloor.model.errors import InputError

_MOST_AT_ONCE: Final = 1000
"""Calls under way; gRPC refuses more with RESOURCE_EXHAUSTED."""


async def listen(
    service: str,
    method: str,
    answer: Callable[[bytes, Any], Awaitable[bytes]],
    *,
    host: str,
    port: int,
    most_bytes: int,
) -> tuple[Any, int]:
    """Start it on the running event loop; the server and its port (0 chooses one).

    ``answer`` gets the undecoded message and gRPC's context. Raises ``InputError`` if the port is taken.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", most_bytes), ("grpc.so_reuseport", 1)],
        maximum_concurrent_rpcs=_MOST_AT_ONCE,
    )
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    try:
        taken = server.add_insecure_port(address)
    except RuntimeError as error:
        raise InputError(f"cannot listen on {address}: {error}.", remedy="Choose another address or port.") from error
    await server.start()
    return server, taken
