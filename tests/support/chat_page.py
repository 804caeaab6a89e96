"""The chat's page without a browser: what its JavaScript would show of what Python sent.

Not a test and no fixture.
"""

from __future__ import annotations

from typing import Any


class Page:
    """What the JavaScript keeps: the messages' blocks, put together from what was sent."""

    def __init__(self) -> None:
        self.seq = -1
        self.messages: dict[str, dict[str, Any]] = {}
        self.state: dict[str, Any] = {}
        self.gaps = 0

    def take(self, content: dict[str, Any]) -> None:
        if content["kind"] == "snapshot":
            self.seq, self.state = content["seq"], content["state"]
            self.messages = {view["id"]: dict(view) for view in content["messages"]}
        elif content["kind"] == "update" and content["seq"] > self.seq:
            if content["seq"] != self.seq + 1:
                self.gaps += 1
                return
            self.seq = content["seq"]
            for view in content.get("messages", []):
                self.messages[view["id"]] = dict(view)
            if delta := content.get("delta"):
                shown = self.messages[delta["message"]]
                assert delta["keep"] <= len(shown["blocks"])
                shown["blocks"] = shown["blocks"][: delta["keep"]] + delta["blocks"]
            self.state = content.get("state", self.state)


def shown_by(sent: list[dict[str, Any]]) -> Page:
    page = Page()
    for content in sent:
        page.take(content)
    return page
