"""A client of bytes, for tests: it says what it is told to and reads only when asked."""

from __future__ import annotations

import socket
from typing import Any, Self

from gguf_widgets.core.types import Message, SamplingSettings
from gguf_widgets.core.worker import endpoint, framing, protocol, registry
from gguf_widgets.core.worker.protocol import Prompt

STORY = Prompt(messages=[Message(role="user", content="Tell me a story")])


class Peer:
    """One connection; `receive_buffer` makes the socket's own small."""

    def __init__(self, *, timeout_s: float = 60.0, receive_buffer: int | None = None) -> None:
        (self.entry,) = registry.list_workers()
        self.reader = framing.FrameReader()
        self.inbox: list[Any] = []
        self.id = ""
        if receive_buffer is None:
            self.socket = endpoint.connect(self.entry.address, timeout_s)
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(timeout_s)
            assert self.entry.address.path is not None
            self.socket.connect(self.entry.address.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def hang_up(self) -> None:
        """End the connection, also under a thread that is reading."""
        self.socket.shutdown(socket.SHUT_RDWR)

    def send(self, message: Any) -> None:
        self.socket.sendall(framing.encode(message))

    def receive(self) -> Any:
        """Return the next message; None at the end."""
        while not self.inbox:
            try:
                data = self.socket.recv(65536)
            except OSError:  # reset by the other side, or hung up by this one
                return None
            if not data:
                return None
            self.inbox += [framing.decode_server_message(p) for p in self.reader.feed(data)]
        return self.inbox.pop(0)

    def hello(self, **changes: Any) -> Any:
        fields = {"protocol_version": protocol.PROTOCOL_VERSION, "package_version": "test"}
        self.send(protocol.Hello(**{**fields, **changes}))
        answer = self.receive()
        if isinstance(answer, protocol.Welcome):
            self.id = answer.client_id
            assert isinstance(self.receive(), protocol.Ready)
        return answer

    def generate(self, number: int = 1, prompt: Prompt = STORY, **sampling: Any) -> str:
        request_id = f"{self.id}-{number}"
        self.send(
            protocol.Generate(
                request_id=request_id,
                prompt=prompt,
                sampling=SamplingSettings.from_keywords(temperature=0, **sampling),
            )
        )
        return request_id

    def until_terminal(self) -> list[Any]:
        messages = []
        while not isinstance(message := self.receive(), protocol.TERMINAL):
            assert message is not None, "the connection ended"
            messages.append(message)
        return [*messages, message]
