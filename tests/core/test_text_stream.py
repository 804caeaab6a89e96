"""What a stream promises whatever moment something happens in, on a client without a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gguf_widgets.core.text_stream import AsyncTextStream, TextStream
from gguf_widgets.core.types import TextDelta
from gguf_widgets.core.worker.client import WorkerClient


class _SilentClient:
    """Takes one request and answers only what the test delivers."""

    alive = True

    def __init__(self) -> None:
        self.inbox: Any = None
        self.aborted: list[str] = []

    def submit(self, make: Callable[[str], Any], inbox: Any) -> str:
        make("r1")
        self.inbox = inbox
        return "r1"

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)


@pytest.mark.parametrize("steps_between", range(8))
def test_a_cancellation_is_never_lost_however_close_it_comes_to_a_text(steps_between: int) -> None:
    client = _SilentClient()

    async def use() -> None:
        stream = AsyncTextStream(lambda: TextStream(cast("WorkerClient", client), lambda _: None))
        task = asyncio.create_task(stream.result())
        while client.inbox is None or client.inbox.on_message is None:
            await asyncio.sleep(0.001)
        client.inbox.deliver(TextDelta(request_id="r1", text="Once", num_completion_tokens=1))
        for _ in range(steps_between):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)

    asyncio.run(use())
    assert client.aborted == ["r1"]
