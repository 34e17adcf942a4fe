"""The messages of ``envoy.service.auth.v3`` as values: a request for authorization, and the two answers. Pure.

Only the fields that mean something here are described, with the numbers that Envoy publishes (API v3, ``external_auth``
and ``attribute_context``); protobuf passes over the others. Nothing here knows tokens or MCP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import struct_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

_PACKAGE: Final = "watchfloor.ext_authz"
_TYPES: Final = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int32": FieldDescriptorProto.TYPE_INT32,
}
_MESSAGES: Final[dict[str, tuple[tuple[int, str, str], ...]]] = {
    "CheckRequest": ((1, "attributes", "Attributes"),),
    "Attributes": (
        (1, "source", "Peer"),
        (4, "request", "Request"),
        (10, "context_extensions", "map string"),
        (13, "route_metadata_context", "Metadata"),
    ),
    "Peer": ((1, "address", "Address"),),
    "Address": ((1, "socket_address", "SocketAddress"),),
    "SocketAddress": ((2, "address", "string"),),
    "Request": ((2, "http", "HttpRequest"),),
    "HttpRequest": (
        (2, "method", "string"),
        (3, "headers", "map string"),
        (4, "path", "string"),
        (11, "body", "string"),
        (12, "raw_body", "bytes"),
        (13, "header_map", "HeaderMap"),
    ),
    "HeaderMap": ((1, "headers", "repeated HeaderValue"),),
    "HeaderValue": ((1, "key", "string"), (2, "value", "string"), (3, "raw_value", "bytes")),
    "Metadata": ((1, "filter_metadata", "map .google.protobuf.Struct"),),
    "CheckResponse": (
        (1, "status", "Status"),
        (2, "denied_response", "Denied"),
        (3, "ok_response", "Ok"),
    ),
    "Status": ((1, "code", "int32"), (2, "message", "string")),
    "Denied": ((1, "status", "HttpStatus"), (2, "headers", "repeated HeaderOption"), (3, "body", "string")),
    "HttpStatus": ((1, "code", "int32"),),
    "HeaderOption": ((1, "header", "HeaderValue"), (3, "append_action", "int32")),
    "Ok": (
        (2, "headers", "repeated HeaderOption"),
        (5, "headers_to_remove", "repeated string"),
        (6, "response_headers_to_add", "repeated HeaderOption"),
    ),
}
"""Message -> (number, field, type). Enums are written as integers: on the wire they are the same."""

_OVERWRITE: Final = 2  # HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_PERMISSION_DENIED: Final = 7  # google.rpc.Code


def _describe(message: DescriptorProto, number: int, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind.startswith("map "):
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _describe(entry, 1, "key", "string")
        _describe(entry, 2, "value", kind.removeprefix("map "))
        kind = f"repeated {message.name}.{entry.name}"
    if kind.startswith("repeated "):
        field.label = FieldDescriptorProto.LABEL_REPEATED
        kind = kind.removeprefix("repeated ")
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"


def _classes() -> tuple[Any, Any]:
    pool = DescriptorPool()
    struct = FileDescriptorProto()
    struct_pb2.DESCRIPTOR.CopyToProto(struct)
    pool.Add(struct)
    file = FileDescriptorProto(name="ext_authz.proto", package=_PACKAGE, syntax="proto3", dependency=[struct.name])
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            _describe(message, number, field, kind)
    pool.Add(file)
    request, response = (pool.FindMessageTypeByName(f"{_PACKAGE}.{name}") for name in ("CheckRequest", "CheckResponse"))
    return GetMessageClass(request), GetMessageClass(response)


CheckRequest, CheckResponse = _classes()


class Unreadable(Exception):
    """The bytes are no request for authorization."""


@dataclass(frozen=True, slots=True)
class Check:
    """One HTTP request as Envoy tells of it. Header names are in lower case; ``body`` is None where none was sent.

    ``is_verbatim``: the body is what arrived, byte for byte. Unless it packs bodies as bytes, Envoy writes "!" for what
    is no UTF-8.
    """

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    is_verbatim: bool
    extensions: Mapping[str, str]
    route: Mapping[str, str]
    """The texts of the route's metadata below ``watchfloor``."""
    address: str

    def header(self, name: bytes) -> str | None:
        """The first header of this name."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


def decode(message: bytes) -> Check:
    """The request in ``message``. Raises ``Unreadable``."""
    try:
        attributes = CheckRequest.FromString(message).attributes
    except DecodeError as error:
        raise Unreadable(f"This is no CheckRequest: {error}") from None
    http = attributes.request.http
    if http.header_map.headers:
        pairs = [(h.key, h.raw_value or h.value.encode()) for h in http.header_map.headers]
    else:
        pairs = [(key, value.encode()) for key, value in http.headers.items()]
    metadata = attributes.route_metadata_context.filter_metadata
    fields = metadata["watchfloor"].fields if "watchfloor" in metadata else {}
    body = http.raw_body or (http.body.encode() if http.body else None)
    return Check(
        method=http.method,
        path=http.path,
        headers=tuple((key.lower().encode(), value) for key, value in pairs),
        body=body,
        is_verbatim=bool(http.raw_body) or b"!" not in (body or b""),
        extensions=dict(attributes.context_extensions),
        route={key: value.string_value for key, value in fields.items() if value.string_value},
        address=attributes.source.address.socket_address.address,
    )


def _options(headers: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"header": {"key": key, "value": value}, "append_action": _OVERWRITE} for key, value in headers]


def allowed(
    headers: Iterable[tuple[str, str]], remove: Iterable[str], answer_headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """The request may go on: with ``headers`` set, ``remove`` taken away, and ``answer_headers`` on its answer."""
    ok = {
        "headers": _options(headers),
        "headers_to_remove": list(remove),
        "response_headers_to_add": _options(answer_headers),
    }
    return bytes(CheckResponse(status={"code": 0}, ok_response=ok).SerializeToString())


def denied(status: int, body: bytes, headers: Iterable[tuple[str, str]] = (), reason: str = "denied") -> bytes:
    """The request does not go on; its sender gets this answer. ``reason`` is for Envoy's own log."""
    answer = {"status": {"code": status}, "headers": _options(headers), "body": body.decode()}
    about = {"code": _PERMISSION_DENIED, "message": reason}
    return bytes(CheckResponse(status=about, denied_response=answer).SerializeToString())
