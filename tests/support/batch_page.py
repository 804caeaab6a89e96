"""The batch table's own page, played: it keeps the parts of the state, asks and gets answers.

Not a test and no fixture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from gguf_widgets.widgets.batch_table import BatchTable

WAIT_S = 60.0  # for whatever depends on how busy the machine is
REVIEWS = ["The food was great.", "I hated the soup.", "It was a good evening.", "Never again."]
PROMPT = "Is this review positive, negative or neutral? {review}"
LABELS = ["positive", "negative", "neutral"]


def reviews(count: int = 4) -> pd.DataFrame:
    texts = [REVIEWS[i % 4] + " " * (i // 4) for i in range(count)]
    return pd.DataFrame({"review": texts, "stars": [i % 5 for i in range(count)]})


class Page:
    """What the widget's own page does: keeps the parts of the state, asks and gets answers."""

    def __init__(self, widget: BatchTable, monkeypatch: pytest.MonkeyPatch) -> None:
        self.widget = widget
        self.state: dict[str, Any] = {}
        self.messages: list[tuple[dict[str, Any], Any]] = []
        self._changed = threading.Condition()
        self._mid = 0
        monkeypatch.setattr(widget._feed, "_send", self._take)
        monkeypatch.setattr(widget, "send", self._take)
        self.tell("snapshot")
        self.until(lambda state: "model" in state)

    def _take(self, content: dict[str, Any], buffers: Any = None) -> None:
        with self._changed:
            self.messages.append((content, buffers))
            if content["kind"] == "state":
                assert content["whole"] or self.state, "a page begins with all of it"
                self.state = {**self.state, **content["parts"]}
            self._changed.notify_all()

    def tell(self, kind: str, buffers: list[Any] | None = None, **content: Any) -> str:
        self._mid += 1
        message = {"kind": kind, "mid": f"m{self._mid}", "page": "one", **content}
        self.widget._on_page(self.widget, message, buffers or [])
        return str(message["mid"])

    def ask(self, kind: str, buffers: list[Any] | None = None, **content: Any) -> dict[str, Any]:
        since = len(self.messages)
        mid = self.tell(kind, buffers, **content)
        with self._changed:
            end = time.monotonic() + WAIT_S
            while True:
                for message, given in self.messages[since:]:
                    if message["kind"] == "answer" and message["mid"] == mid:
                        return {**message, "buffers": given}
                assert self._changed.wait(end - time.monotonic()), f"no answer to {kind}"

    def until(self, found: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: found(self.state), WAIT_S), {
                name: part for name, part in self.state.items() if name != "table"
            }
            return self.state

    def draft(self, **changes: Any) -> dict[str, Any]:
        """Fill the form, and wait until it was judged."""
        draft = {**self.state["draft"]["draft"], **changes}
        assert "error" not in self.ask("draft", draft=draft)
        return self.until(lambda state: state["draft"]["draft"] == draft)

    def answer(self, **changes: Any) -> dict[str, Any]:
        return {**self.state["draft"]["draft"]["answer"], **changes}

    def run_to_end(self) -> dict[str, Any]:
        assert "error" not in self.ask("start")
        return self.until(lambda state: state["run"] and state["run"]["status"] == "finished")

    def rows(self, start: int = 0, stop: int = 50, **query: Any) -> dict[str, Any]:
        return self.ask("rows", start=start, stop=stop, query=query)
