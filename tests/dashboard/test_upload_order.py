"""The order of what the upload's handler hands to the disk, whatever the connection does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from gguf_widgets.dashboard.upload_handler import UploadHandler


class SlowDisk:
    """Takes one write at a time, and notes each."""

    store = SimpleNamespace(write="write", release="release")

    def __init__(self) -> None:
        self.done: list[tuple[str, int, bytes]] = []
        self.num_running = 0
        self.most_running = 0

    def call(self, function: str, *args: Any, **_: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._work(function, args))

    async def _work(self, function: str, args: tuple[Any, ...]) -> SimpleNamespace:
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        await asyncio.sleep(0.01)
        self.num_running -= 1
        at, data = args[1:] if function == "write" else (-1, b"")
        self.done.append((function, at, data))
        return SimpleNamespace(to_dict=dict)


def test_a_line_cut_while_a_block_waits_for_the_disk_keeps_what_came_in_order() -> None:
    async def run() -> SlowDisk:
        disk = SlowDisk()
        handler = UploadHandler.__new__(UploadHandler)
        handler.initialize(disk)  # type: ignore[arg-type]
        handler.path_args = ["id"]
        handler.request = SimpleNamespace(method="PUT", headers={})  # type: ignore[assignment]
        handler._blocks = [b"first"]
        await handler._hand_over()
        handler._blocks = [b"second"]
        body = asyncio.ensure_future(handler._hand_over())
        await asyncio.sleep(0)  # it waits for the first; now the line is cut
        handler._blocks.append(b"third")
        await handler._keep()
        await body
        await handler._written()
        return disk

    disk = asyncio.run(run())
    assert disk.done == [("write", 0, b"first"), ("write", 5, b"secondthird"), ("release", -1, b"")]
    assert disk.most_running == 1
