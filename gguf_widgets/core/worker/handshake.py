"""The first words with a worker, after which there is a `WorkerClient`.

Promises: both sides know that the other is of this user and speaks the same protocol, or there is
no connection; it is over within the time given. Leaves to others: which worker (`attach`).
"""

from __future__ import annotations

import socket

import gguf_widgets
from gguf_widgets.core.errors import ProtocolError, from_wire
from gguf_widgets.core.worker import endpoint, framing, protocol
from gguf_widgets.core.worker.client import WorkerClient
from gguf_widgets.core.worker.registry import Entry

__all__ = ["connect"]


def connect(entry: Entry, *, keep_alive_s: float | None, timeout_s: float) -> WorkerClient:
    """Connect to a worker and shake hands.

    Raises
    ------
    OSError
        If nobody listens, nobody answers in time, or the connection ends.
    ProtocolError
        If the worker refuses, or is not who it should be.
    """
    secret = endpoint.read_secret(entry.address)
    connection = endpoint.connect(entry.address, timeout_s)
    try:
        nonce = protocol.new_nonce()
        hello = protocol.Hello(
            protocol_version=protocol.PROTOCOL_VERSION,
            package_version=gguf_widgets.__version__,
            nonce=nonce,
            proof=protocol.proof_of(secret, "client", nonce) if secret else "",
            keep_alive_s=keep_alive_s,
        )
        connection.sendall(framing.encode(hello))
        reader = framing.FrameReader()
        first, *early = _first_payloads(connection, reader)
        welcome = _checked_welcome(framing.decode_server_message(first), entry, secret, nonce)
        return WorkerClient(connection, entry, welcome, reader, early)
    except BaseException:
        connection.close()
        raise


def _first_payloads(connection: socket.socket, reader: framing.FrameReader) -> list[bytes]:
    payloads: list[bytes] = []
    while not payloads:
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError("the worker closed the connection")
        payloads += reader.feed(data)
    return payloads


def _checked_welcome(
    answer: protocol.ServerMessage, entry: Entry, secret: str, nonce: str
) -> protocol.Welcome:
    if isinstance(answer, protocol.Refused):
        if answer.protocol_version != protocol.PROTOCOL_VERSION:
            raise protocol.version_mismatch(
                answer.protocol_version, answer.package_version, pid=entry.pid
            )
        raise from_wire(answer.error)
    if not isinstance(answer, protocol.Welcome):
        raise ProtocolError("The worker's first message was not a welcome.")
    if secret and answer.proof != protocol.proof_of(secret, "worker", nonce):
        raise ProtocolError("The worker did not prove that it belongs to you.")
    return answer
