"""What a part of the chat box is: something beside the conversation, with messages of its own.

Promises: a part is one class in one file; what the page asks it is answered, or refused in words
where it was asked; its state is sent when it differs from what was sent last. Leaves to others:
which parts there are (`chat_box`), the conversation (`core.chat.interface`), its look (`static/`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from gguf_widgets.core.chat.answer import ChatModel
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatMessage, ChatSnapshot

__all__ = ["ChatHost", "ChatPart", "Content"]

Content = dict[str, Any]


class ChatHost(Protocol):
    """What a part may ask of the box that it belongs to; any thread may."""

    @property
    def chat(self) -> ChatInterface:
        """The conversation."""

    @property
    def model(self) -> ChatModel | None:
        """Who answers."""

    def touch(self) -> None:
        """Look at everything again and send what has changed."""

    def say(self, text: str) -> None:
        """Show a line over the place to type; "" takes it away."""

    def tell(self, content: Content, buffers: list[bytes] | None = None) -> None:
        """Send a message to every view of this chat; `kind` begins with the part's name."""

    def answer(self, asked: Content, buffers: list[bytes] | None = None, **more: Any) -> None:
        """Answer later what was asked; the action has returned None then."""

    def at_work(self, do: Callable[[], object], asked: Content | None = None) -> None:
        """Do what may take long in a thread of its own, one after the other.

        What it returns (a dict) or raises becomes the answer to `asked`, if that is given.
        """


class ChatPart:
    """A part of the chat box; the methods are called on the box's own thread.

    Attributes
    ----------
    NAME : str
        Its key in the page's state, and how its messages' kinds begin.
    ACTIONS : dict
        What the page may ask: kind -> method ``(self, content, buffers) -> dict or None``. The dict
        is the answer; None says that nothing is answered, or later (`ChatHost.answer`). An error
        becomes the answer, and the page shows it where it asked.
    """

    NAME: ClassVar[str] = ""
    ACTIONS: ClassVar[dict[str, Callable[[Any, Content, list[Any]], Content | None]]] = {}

    def __init__(self, host: ChatHost) -> None:
        self.host = host

    def state(self, shot: ChatSnapshot) -> Content:
        """Return what the page shows of this part: small, plain data."""
        del shot
        return {}

    def view(self, message: ChatMessage, shot: ChatSnapshot) -> Content:
        """Return what this part adds to the view of a message."""
        del message, shot
        return {}

    def for_sending(self, content: Content) -> Content:
        """Return keywords for `ChatInterface.start` out of what the page sent with a message."""
        del content
        return {}

    def sent(self, content: Content) -> None:
        """Let go of what went out with this message."""
        del content

    def close(self) -> None:
        """End what this part has under way."""
