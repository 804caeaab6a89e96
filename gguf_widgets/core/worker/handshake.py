"""The first words with a worker, after which there is a `WorkerClient`.

Promises: both sides know that the other is of this user and speaks the same protocol, or there is
no connection; it is over within the time given. Leaves to others: which worker (`attach`).
"""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import gguf_widgets
from gguf_widgets.core.errors import ProtocolError, from_wire
from gguf_widgets.core.worker import endpoint, framing, protocol
from gguf_widgets.core.worker.client import WorkerClient
from gguf_widgets.core.worker.proof import new_nonce, proof_of
from gguf_widgets.core.worker.registry import Entry

__all__ = ["Greeted", "connect", "greet", "program_name", "receive"]

# A Hello is short.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Greeted:
    """A connection whose two sides have shown who they are; `early` came right behind."""

    socket: socket.socket
    reader: framing.FrameReader
    welcome: protocol.Welcome
    early: list[bytes]


def connect(entry: Entry, *, keep_alive_s: float | None, timeout_s: float) -> WorkerClient:
    """Connect to a worker and shake hands.

    Raises
    ------
    OSError
        If nobody listens, nobody answers in time, or the connection ends.
    ProtocolError
        If the worker refuses, or is not who it should be.
    """
    greeted = greet(entry, timeout_s=timeout_s, keep_alive_s=keep_alive_s)
    return WorkerClient(greeted.socket, entry, greeted.welcome, greeted.reader, greeted.early)


def greet(
    entry: Entry, *, timeout_s: float, keep_alive_s: float | None = None, peek: bool = False
) -> Greeted:
    """Do what `connect` does, and raise what it raises, for whoever wants the bare connection."""
    deadline = time.monotonic() + timeout_s
    secret = endpoint.read_secret(entry.address)
    connection = endpoint.connect(entry.address, timeout_s)
    try:
        nonce = new_nonce()
        hello = protocol.Hello(
            protocol_version=protocol.PROTOCOL_VERSION,
            package_version=gguf_widgets.__version__,
            nonce=nonce,
            proof=proof_of(secret, "client", nonce) if secret else "",
            keep_alive_s=keep_alive_s,
            pid=os.getpid(),
            program=program_name(),
            peek=peek,
        )
        connection.sendall(framing.encode(hello))
        reader = framing.FrameReader()
        first, *early = receive(connection, reader, deadline)
        welcome = _checked_welcome(framing.decode_server_message(first), entry, secret, nonce)
        return Greeted(connection, reader, welcome, early)
    except BaseException:
        connection.close()
        raise


def receive(connection: socket.socket, reader: framing.FrameReader, deadline: float) -> list[bytes]:
    """Return the next payloads, at least one.

    Raises
    ------
    OSError
        `TimeoutError` after the deadline (of `time.monotonic`), else if the connection ends.
    """
    payloads: list[bytes] = []
    while not payloads:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the worker did not answer in time")
        connection.settimeout(left_s)
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError("the worker closed the connection")
        payloads += reader.feed(data)
    return payloads


def program_name() -> str:
    """Return what this process is, for people who ask who uses a model."""
    notebook = os.environ.get("JPY_SESSION_NAME")
    if notebook:
        return f"notebook {Path(notebook).name}"[:_LONGEST_NAME]
    if os.environ.get("SERVER_SOFTWARE", "").startswith("voila/"):
        return "a page of the dashboard"
    if "ipykernel" in sys.modules:
        return "a Jupyter kernel"
    script = Path(sys.argv[0] if sys.argv else "")
    if script.name == "__main__.py":
        script = script.parent  # python -m PACKAGE
    name = script.name if script.name not in ("", "-", "-c", "-m") else "python"
    return name.encode("utf-8", "replace").decode()[:_LONGEST_NAME]


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
    if secret and answer.proof != proof_of(secret, "worker", nonce):
        raise ProtocolError("The worker did not prove that it belongs to you.")
    return answer
