"""How messages are cut out of a stream of bytes, and put into one.

Promises: a message is MessagePack behind a length of four bytes; nothing is unpickled and nothing
is trusted, so bytes from a stranger can at worst raise a `ProtocolError`, and no more than the
limit is ever kept of them. Leaves to others: the messages (`protocol`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from gguf_widgets.core.errors import InvalidValueError, ProtocolError
from gguf_widgets.core.worker.protocol import ClientMessage, ServerMessage

__all__ = [
    "MAX_HELLO_BYTES",
    "MAX_MESSAGE_BYTES",
    "FrameReader",
    "decode_client_message",
    "decode_server_message",
    "encode",
    "request_id_of",
]

# 32 MiB holds a prompt of several million tokens; more than that is a mistake or an attack.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

# Before a peer has said Hello, it is a stranger, and a Hello is short.
MAX_HELLO_BYTES = 4096

_LENGTH = struct.Struct(">I")

_encoder = msgspec.msgpack.Encoder()
_client_decoder: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)
_server_decoder: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)


def encode(message: Any) -> bytes:
    """Return a message as one frame.

    Raises
    ------
    InvalidValueError
        If it holds what cannot be sent (half a character, a number over 64 bits), or is too long.
    """
    try:
        payload = _encoder.encode(message)
    except UnicodeEncodeError as error:
        bad = f"U+{ord(error.object[error.start]):04X}"
        raise InvalidValueError(
            f"The text holds half a character ({bad} at position {error.start}), which no model "
            "can read. Remove it, or replace it with the character that was meant.",
            position=error.start,
        ) from error
    except (OverflowError, ValueError) as error:
        raise InvalidValueError(f"This cannot be sent to the model: {error}.") from error
    if len(payload) > MAX_MESSAGE_BYTES:
        raise InvalidValueError(
            f"This request is {len(payload):,} bytes long; at most {MAX_MESSAGE_BYTES:,} can be "
            "sent at once. Send a shorter text, or fewer or smaller images.",
            size=len(payload),
            limit=MAX_MESSAGE_BYTES,
        )
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cuts the bytes of a stream into the payloads of frames.

    Parameters
    ----------
    limit : int
        The longest payload; a longer one is refused before any of it is kept.
    """

    def __init__(self, limit: int = MAX_MESSAGE_BYTES) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes and yield each payload that is now complete.

        Raises
        ------
        ProtocolError
            For a length over the limit; the stream cannot be followed after that.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if length > self.limit:
                    raise ProtocolError(
                        f"A message of {length:,} bytes was announced; at most {self.limit:,} are "
                        "allowed. The other side is not a gguf-widgets program, or is broken.",
                        length=length,
                        limit=self.limit,
                    )
                end = start + _LENGTH.size + length
                if len(buffer) < end:
                    break
                payload = bytes(memoryview(buffer)[start + _LENGTH.size : end])
                start = end
                yield payload
        finally:
            # Also when the consumer stops in the middle: what was yielded is never yielded again.
            del buffer[:start]


def decode_client_message(payload: bytes) -> ClientMessage:
    """Return the message of a client; raise `ProtocolError` if it is none."""
    message: ClientMessage = _decode(_client_decoder, payload)
    return message


def decode_server_message(payload: bytes) -> ServerMessage:
    """Return the message of a worker; raise `ProtocolError` if it is none."""
    message: ServerMessage = _decode(_server_decoder, payload)
    return message


def _decode(decoder: msgspec.msgpack.Decoder[Any], payload: bytes) -> Any:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"A message could not be read: {error}.") from error


def request_id_of(payload: bytes) -> str | None:
    """Return the request id in a payload that is no known message, so that it can be answered."""
    try:
        value = msgspec.msgpack.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    request_id = value.get("request_id") if isinstance(value, dict) else None
    return request_id if isinstance(request_id, str) else None
