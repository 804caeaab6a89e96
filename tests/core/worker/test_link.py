"""The way to a worker, without one: what threads that want it at once do to each other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker.link import WorkerLink


class InterruptedCondition(threading.Condition):
    """A condition after whose first release an interrupt comes, where Python lets it come."""

    pressed = False

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)  # type: ignore[arg-type]
        if not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt


def test_an_interrupt_as_the_connecting_begins_lets_the_next_one_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def prepare() -> Any:
        raise AssertionError("nothing is started here")

    link = WorkerLink("/m/x.gguf", "scripted", LoadSettings(), prepare, keep_alive_s=0)
    link._changed = InterruptedCondition()
    connection = object()
    monkeypatch.setattr(link, "_connect", lambda _: connection)
    with pytest.raises(KeyboardInterrupt):
        link.client()
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(link.client()), daemon=True)
    thread.start()
    thread.join(20)
    assert found == [connection]
