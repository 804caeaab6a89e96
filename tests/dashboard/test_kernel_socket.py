"""The web socket between a page and its kernel: no small message waits for another one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from gguf_widgets.dashboard.app import DashboardApp
from gguf_widgets.dashboard.handlers import KernelSocketHandler, PageHandler


def test_a_socket_sends_small_messages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []

    async def connect(_self: object, kernel_id: str) -> None:
        done.append(kernel_id)

    monkeypatch.setattr(VoilaKernelWebsocketHandler, "open", connect)
    monkeypatch.setattr(KernelSocketHandler, "set_nodelay", lambda _self, on: done.append(on))
    asyncio.run(KernelSocketHandler.__new__(KernelSocketHandler).open("k"))
    assert done == [True, "k"]  # before the kernel says anything


def test_our_handlers_stand_in_the_place_of_voilas(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [
        ("/a", VoilaKernelWebsocketHandler),
        ("/b", TornadoVoilaHandler, {"x": 1}),
        ("/c", str),
    ]
    monkeypatch.setattr(Voila, "init_handlers", lambda _self: rules)
    app = DashboardApp.__new__(DashboardApp)
    app.server_url = "/"
    assert app.init_handlers()[-3:] == [
        ("/a", KernelSocketHandler),
        ("/b", PageHandler, {"x": 1}),
        ("/c", str),
    ]
