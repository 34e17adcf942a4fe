"""OTLP over gRPC: ``opentelemetry.proto.collector.trace.v1.TraceService/Export``.

The same reception as over HTTP. Refusals are gRPC statuses, with ``RetryInfo`` where coming back later helps
(OTLP/gRPC 1.x, "Failures"): UNAUTHENTICATED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from watchfloor.gateway.grpc_listen import listen
from watchfloor.gateway.telemetry import otlp_proto
from watchfloor.gateway.telemetry.reception import OverQuota, Reception
from watchfloor.gateway.telemetry.sources import SourceRefused
from watchfloor.gateway.telemetry.spans import Unreadable
from watchfloor.model.errors import Unavailable

_LOG: Final = logging.getLogger(__name__)
SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_PEER: Final = re.compile(r"ipv[46]:(.*):\d+")


class GrpcDoor:
    """The gRPC server of one receiver, on the event loop that starts it."""

    def __init__(self, reception: Callable[[], Reception], host: str, port: int, *, max_body_bytes: int) -> None:
        self._reception, self._max_body = reception, max_body_bytes
        self._host, self._port = host, port
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises ``InputError`` if the port is taken."""
        self._server, self.port = await listen(
            SERVICE, "Export", self._export, host=self._host, port=self._port, most_bytes=self._max_body
        )

    async def stop(self, seconds: float) -> None:
        """Take no more; requests under way have so many seconds."""
        if self._server is not None:
            await self._server.stop(seconds)

    async def _export(self, body: bytes, context: Any) -> bytes:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        try:
            reception = self._reception()
            source = reception.admit(metadata.get("authorization"))
            answer = await reception.receive(source, "otlp-grpc", body, _address(context.peer()))
            return otlp_proto.response(answer.rejected, answer.message)
        except SourceRefused as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except Unreadable as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Unavailable as error:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if isinstance(error, OverQuota) else grpc.StatusCode.UNAVAILABLE
            await _abort_for_a_while(context, code, str(error), error.retry_after)
        except Exception as error:  # whatever it was, the sender keeps its events and comes back
            if isinstance(error, grpc.aio.AbortError):
                raise
            _LOG.exception("a telemetry request failed")
            await _abort_for_a_while(context, grpc.StatusCode.UNAVAILABLE, "The request could not be taken in.", 5.0)
        raise AssertionError("abort raises")


async def _abort_for_a_while(context: Any, code: Any, message: str, seconds: float) -> None:
    whole = max(1, int(seconds + 0.999))
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=whole)))
    status = Status(code=code.value[0], message=message, details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(code, message)


def _address(peer: str) -> str:
    match = _PEER.fullmatch(unquote(peer or ""))
    return match[1].strip("[]") if match else ""
