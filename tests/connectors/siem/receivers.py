"""Other people's SIEMs, small: they listen on this machine and keep what they were sent."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Receiver:
    """``messages`` are what came, in order. ``temper`` says how it behaves: it may refuse, or never say good-bye."""

    port: int = 0
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    temper: str = "kind"


def framed(stream: bytes) -> list[bytes]:
    """The messages of an octet-counted stream."""
    found = []
    while stream:
        length, _, stream = stream.partition(b" ")
        found.append(stream[: int(length)])
        assert len(found[-1]) == int(length), "the stream breaks off"
        stream = stream[int(length) :]
    return found


@contextmanager
def tcp_receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A syslog receiver over TCP, or TLS. Temper ``rude`` closes without reading, ``silent`` reads and stays."""
    receiver, kept = Receiver(), list[socket.socket]()
    listener = socket.create_server(("127.0.0.1", 0))
    receiver.port = listener.getsockname()[1]

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            receiver.connections += 1
            with contextlib.suppress(OSError):
                take(connection)

    def take(connection: socket.socket) -> None:
        if receiver.temper == "rude":  # a reset, as of a process that died
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        stream = b""
        while part := connection.recv(65_536):
            stream += part
        receiver.messages += framed(stream)
        if receiver.temper == "silent":
            kept.append(connection)
        else:
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield receiver
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
        for connection in kept:
            connection.close()


@contextmanager
def udp_receiver() -> Iterator[tuple[Receiver, socket.socket]]:
    """A socket that datagrams come to, to be read by the test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(20)
        yield Receiver(listener.getsockname()[1]), listener


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    """An HTTP collector. Temper is the status that it answers with; ``kind`` is 200."""
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.connections += 1
            body = self.rfile.read(int(self.headers["content-length"]))
            status = 200 if receiver.temper == "kind" else int(receiver.temper)
            if status < 300:
                assert self.headers["content-type"] == "application/x-ndjson"
                receiver.messages += [f"{self.headers.get('authorization')}".encode(), *body.splitlines()]
            self.send_response(status)
            self.send_header("content-length", "0")
            self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


def certificate(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A receiver's TLS context for 127.0.0.1, and one that trusts it."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return serving, ssl.create_default_context(cafile=str(directory / "cert.pem"))
