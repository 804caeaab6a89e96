"""A sink for a client's messages, for tests: it keeps everything."""

from __future__ import annotations

import threading
from typing import Any

from gguf_widgets.core.types import Message, SamplingSettings, TextDelta
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.client import WorkerClient
from gguf_widgets.core.worker.protocol import Prompt

STORY = Prompt(messages=[Message(role="user", content="Tell me a story")])


class Record:
    """Keeps the messages of one request and says when the first and the last have come."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.first = threading.Event()
        self.last = threading.Event()

    def deliver(self, message: Any) -> None:
        self.messages.append(message)
        self.first.set()
        if isinstance(message, protocol.TERMINAL):
            self.last.set()

    @property
    def text(self) -> str:
        return "".join(m.text for m in self.messages if isinstance(m, TextDelta))

    def the_end(self) -> Any:
        """Return the terminal message: there is exactly one, and nothing comes after it."""
        ends = [m for m in self.messages if isinstance(m, protocol.TERMINAL)]
        assert len(ends) == 1, ends
        assert ends[0] is self.messages[-1]
        return ends[0]


def ask_for_story(client: WorkerClient, **sampling: Any) -> Record:
    record = Record()
    settings = SamplingSettings.from_keywords(**sampling)
    client.submit(
        lambda request_id: protocol.Generate(
            request_id=request_id, prompt=STORY, sampling=settings
        ),
        record,
    )
    return record
