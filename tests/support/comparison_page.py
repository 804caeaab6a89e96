"""The comparison view's own page, played: it keeps state and texts, asks and gets answers.

Not a test and no fixture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from gguf_widgets.widgets.comparison_view import ComparisonView

WAIT_S = 60.0  # for whatever depends on how busy the machine is


class ComparisonPage:
    """What the widget's own page does; a message that is not the next one is an error here."""

    def __init__(self, widget: ComparisonView, monkeypatch: pytest.MonkeyPatch) -> None:
        self.widget = widget
        self.state: dict[str, Any] = {}
        self.blocks: dict[int, list[str]] = {}
        self.messages: list[tuple[float, dict[str, Any], Any]] = []
        self._changed = threading.Condition()
        self._mid = self._seq = self._text_seq = 0
        monkeypatch.setattr(widget, "send", self._take)
        self.reload()

    def reload(self) -> None:
        """Load the page again: nothing of before is there."""
        with self._changed:
            self.state, self.blocks = {}, {}
        self.tell("snapshot")
        self.until(lambda state: "judged" in state)

    def _take(self, content: dict[str, Any], buffers: Any = None) -> None:
        with self._changed:
            self.messages.append((time.monotonic(), content, buffers))
            if content["kind"] == "state" and (content["whole"] or self.state):
                assert content["whole"] or content["seq"] == self._seq + 1
                self._seq = content["seq"]
                self.state = {**self.state, **content["parts"]}
            elif content["kind"] == "text":
                assert content["whole"] or content["seq"] == self._text_seq + 1
                self._text_seq = content["seq"]
                if content["whole"]:
                    self.blocks = {}
                for number, keep, blocks in content["sides"]:
                    known = self.blocks.get(number, [])
                    assert keep <= len(known)
                    self.blocks[number] = [*known[:keep], *blocks]
            self._changed.notify_all()

    def tell(self, kind: str, buffers: list[Any] | None = None, **content: Any) -> str:
        self._mid += 1
        message = {"kind": kind, "mid": f"m{self._mid}", "page": "one", **content}
        self.widget._on_page(self.widget, message, buffers or [])
        return str(message["mid"])

    def ask(self, kind: str, buffers: list[Any] | None = None, **content: Any) -> dict[str, Any]:
        """Send a message and return the answer to it, also one that refuses."""
        since = len(self.messages)
        mid = self.tell(kind, buffers, **content)
        end = time.monotonic() + WAIT_S
        with self._changed:
            while True:
                for _, message, given in self.messages[since:]:
                    if message["kind"] == "answer" and message["mid"] == mid:
                        return {**message, "buffers": given}
                assert self._changed.wait(end - time.monotonic()), f"no answer to {kind}"

    def refused(self, kind: str, **content: Any) -> str:
        """Send a message that is refused and return why."""
        answer = self.ask(kind, **content)
        assert "error" in answer, answer
        return str(answer["error"]["message"])

    def until(self, found: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: found(self.state), WAIT_S), self.state
            return self.state

    def draft(self, **changes: Any) -> dict[str, Any]:
        """Change the form, and wait until it was judged."""
        draft = {**self.state["draft"]["draft"], **changes}
        assert "error" not in self.ask("draft", draft=draft)
        return self.until(lambda state: state["draft"]["draft"] == draft)

    def sides(self, *changes: dict[str, str]) -> dict[str, Any]:
        """Set the sides up: each of the demo model, with these changes."""
        usual = {"label": "", "temperature": "", "top_p": "", "seed": "", "n_ctx": ""}
        usual |= {"model": "demo", "system": "", "wording": ""}
        return self.draft(sides=[{**usual, **one} for one in changes])

    def ask_sides(self) -> dict[str, Any]:
        """Ask what is set up, and wait for the end; return the part that shows it."""
        before = self.widget._asking.live.number
        assert "error" not in self.ask("ask")
        self.until(lambda state: state["live"] and state["live"]["question"] > before)
        return self.answered()

    def answered(self) -> dict[str, Any]:
        """Wait until the question of now has been answered; return the part that shows it."""
        state = self.until(lambda state: state["live"] and not state["live"]["isRunning"])
        live: dict[str, Any] = state["live"]
        return live

    def statuses(self) -> list[str]:
        return [one["status"] for one in self.state["live"]["sides"]]
