"""`ChatBox`: a conversation with a model, in a notebook cell or as part of a dashboard.

Promises: shows what its `ChatInterface` holds, also after a reload of the page and a restart of the
kernel, and what another window adds to it (the store is the truth); text appears while it is
written, at most 20 updates a second; Stop works while text comes; what a person typed is not lost
when it cannot be sent; no callback of the page does more than put a note into a queue. Leaves to
others: the conversation and its saving (`core.chat`), what is sent and when (`_chat_feed`), HTML
(`markdown`), a conversation as a template (`_chat_template`), the look (static/).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from gguf_widgets.core.chat import ChatInterface
from gguf_widgets.core.chat_answer import ChatModel
from gguf_widgets.core.chat_types import ChatEvent, ChatSnapshot
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.types import Message
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._chat_feed import ChatFeed
from gguf_widgets.widgets._chat_template import (
    cell_of,
    changed_sampling,
    marked_template,
    template_of,
)
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._words import as_known

if TYPE_CHECKING:
    from gguf_widgets.widgets.batch_table import BatchTable

__all__ = ["ChatBox"]

_STATIC = Path(__file__).parent / "static"

_log = logging.getLogger(__name__)

# They fit the bundled demo model, and any other.
_EXAMPLES = (
    {"label": "Say hello", "text": "Hello!"},
    {
        "label": "Label a review",
        "text": "Is this review positive, negative or neutral? "
        '"The soup was cold and the waiter was rude."',
    },
    {
        "label": "Read an order as JSON",
        "text": "Read this order as JSON: "
        '"Hello, I am Maria Lopez and I want 3 red lamps sent to Berlin."',
    },
    {"label": "Tell a story", "text": "Tell me a story about Emma."},
)


class ChatBox(anywidget.AnyWidget):
    """A chat with a model.

    Parameters
    ----------
    model : Model, optional
        Without one the box says what to do, and Send waits.
    chat : ChatInterface, optional
        A conversation to show; default: a new one with `model`, `system` and the settings.
    system : str, optional
        What the model is told before the first message.
    height : int or str, default 520
        Pixels, or a CSS length.
    table : BatchTable, optional
        Where "Run this over a table" puts the conversation's prompt; without one the chat shows the
        cell that does it.
    **sampling
        `SamplingSettings` by name: ``temperature=0``, ``max_tokens=200``, ...

    Attributes
    ----------
    chat : ChatInterface
        The conversation; the same from code: ``box.chat.send("Hello")``.
    model : Model or None
        May be set at any time.
    table : BatchTable or None
        May be set at any time.

    Raises
    ------
    InvalidValueError
        `chat` was given together with `system` or sampling settings, which it has itself.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> gw.ChatBox(gw.load("demo"), temperature=0)  # doctest: +SKIP
    """

    # As text: a path would make anywidget keep every widget for good, for its live reload.
    _esm = esm(_STATIC / "chat_box.js")
    _css = css(_STATIC / "chat_box.css")
    own_id = traitlets.Unicode().tag(sync=True)  # for the page, see `hearAnyway` in _connection.js
    height = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        model: ChatModel | None = None,
        *,
        chat: ChatInterface | None = None,
        system: str | None = None,
        height: int | str = 520,
        table: BatchTable | None = None,
        **sampling: Any,
    ) -> None:
        if chat is not None and (system is not None or sampling):
            raise InvalidValueError(
                "Give either a chat, or a system prompt and settings for a new one: "
                "a chat has its own."
            )
        css_height = f"{height}px" if isinstance(height, int) else height
        super().__init__(height=css_height, **new_identity())
        self._blocked = ""  # why nothing can be sent at this moment, from outside
        self._chooser = False  # whether there is a place on this page to choose a model
        self._notice = ""
        self.table = table
        self._cleared: str | None = None  # the conversation that Undo brings back
        self.chat = chat if chat is not None else ChatInterface(model, system=system, **sampling)
        if chat is not None and model is not None:
            self.chat.model = model
        self._feed = ChatFeed(self.chat.snapshot, self._tell, self._surroundings)
        self._actor = Actor(
            f"ChatBox-{self.model_id[:8]}", self._work, self._feed.tick, self._failed
        )
        self._unsubscribe = self.chat.subscribe(self._actor.post)
        answer_where_asked(self.comm)
        self.on_msg(self._on_page)

    # -- from code --------------------------------------------------------------------------------

    @property
    def model(self) -> ChatModel | None:
        """The model that answers, or None."""
        return self.chat.model

    @model.setter
    def model(self, model: ChatModel | None) -> None:
        self.chat.model = model
        self._actor.post({"kind": "touch"})

    def to_template(self, **columns: str) -> list[Message]:
        """Return the conversation as a template for a table: what came first, and what was asked.

        Braces in its texts stay text. The answer to the last message is left out: each row gets its
        own.

        Parameters
        ----------
        **columns : str
            Columns by name, each with the part of the last message in whose place it comes. Without
            any, put ``{column}`` where a row's text belongs (``{{ column }}`` if the template is in
            Jinja, as it is where the texts have braces around words).

        Raises
        ------
        InvalidValueError
            There is no message yet; such a part is not in the last one, or two overlap.

        Examples
        --------
        >>> box = gw.ChatBox(model)  # doctest: +SKIP
        >>> box.chat.send("Positive or negative? The soup was cold.")  # doctest: +SKIP
        >>> model.map(df, box.to_template(review="The soup was cold."))  # doctest: +SKIP
        """
        return template_of(self.chat, columns)

    def close(self) -> None:
        """End the widget: its page part goes, its thread ends; the conversation stays."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_unsubscribe"):
            self._unsubscribe()
            self._actor.close()
        super().close()

    def show_in_frame(self, *, blocked: str = "") -> None:
        """Tell the chat that it is part of a dashboard, which has a place to choose a model.

        Parameters
        ----------
        blocked : str
            Why nothing can be sent at this moment; "" if it can.
        """
        self._blocked, self._chooser = blocked, True
        self._actor.post({"kind": "touch"})

    # -- from the page ----------------------------------------------------------------------------

    def _on_page(self, _widget: object, content: Any, _buffers: object) -> None:
        self._actor.post(content)

    def _work(self, item: object) -> None:
        """Do one thing of the queue; on the widget's own thread."""
        if isinstance(item, ChatEvent):
            self._feed.handle(item)
            return
        if isinstance(item, dict):
            action = self._ACTIONS.get(str(item.get("kind")))
            if action is not None:
                action(self, item)

    def _ping(self, content: dict[str, Any]) -> None:
        self._take_from_others()
        self.send({"kind": "pong", "mid": content.get("mid"), "seq": self._feed.seq})

    def _snapshot(self, _content: dict[str, Any]) -> None:
        self._feed.send_snapshot()

    def _touch(self, _content: dict[str, Any]) -> None:
        self._feed.touch()

    def _start(self, content: dict[str, Any]) -> None:
        text = str(content.get("text", ""))
        self._cleared, self._notice = None, ""
        self._take_from_others()
        try:
            self.chat.start(text)
        except Exception as error:  # noqa: BLE001 - whatever it is, the words go back and it is shown
            self._notice = as_known(error).message
            self.send({"kind": "restore", "text": text})
        self._feed.touch()

    def _take_from_others(self) -> None:
        """Show what another window has added to this conversation.

        Without it both would go on from the same message, and each would hide what the other wrote.
        """
        conversation_id, shown = self.chat.conversation_id, self.chat.messages
        if conversation_id is None or self.chat.busy or not shown:
            return
        try:
            last = Conversations(self.chat.store).get(conversation_id).active_leaf_id
            if last is not None and last != shown[-1].id and not self.chat.busy:
                self.chat.open(conversation_id)
        except GgufWidgetsError as error:  # gone, or not readable now: sending will say so
            _log.warning("The conversation could not be looked up: %s", error.message)

    def _stop(self, _content: dict[str, Any]) -> None:
        self.chat.stop()

    def _clear(self, _content: dict[str, Any]) -> None:
        before = self.chat.conversation_id if self.chat.messages else None
        self.chat.clear()
        self._cleared = before
        self._notice = "The conversation before is saved." if before else ""
        self._feed.touch()

    def _undo(self, _content: dict[str, Any]) -> None:
        if self._cleared is not None:
            self.chat.open(self._cleared)
        self._cleared, self._notice = None, ""
        self._feed.touch()

    def _copy(self, content: dict[str, Any]) -> None:
        for message in self.chat.snapshot().messages:
            if message.id == content.get("message"):
                reply = {"kind": "text", "mid": content.get("mid"), "text": message.content}
                self.send(reply)

    def _again(self, content: dict[str, Any]) -> None:
        message_id = content.get("message")
        try:
            self.chat.regenerate(message_id if isinstance(message_id, str) else None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
            self._notice = as_known(error).message
        self._feed.touch()

    def _plain_template(self, content: dict[str, Any]) -> None:
        if isinstance(self.model, Model):
            self.model.use_chat_template("chatml")
            self._notice = "The plain template is used from now on."
            self._again(content)
            self._feed.touch()

    def _over_table(self, content: dict[str, Any]) -> None:
        """Put the conversation's prompt into the table, or show the cell that runs it."""
        answer: dict[str, Any] = {"kind": "table", "mid": content.get("mid")}
        try:
            template = marked_template(self.chat, content.get("marked"))
            if self.table is None:
                text, left = cell_of(self.chat, template)
                answer |= {"cell": text, "left": left}
            else:
                model = self.chat.model
                self.table.use_template(
                    template,
                    model=None if model is None else model.name,
                    sampling=changed_sampling(self.chat),
                )
                answer["is_there"] = True
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
            answer["fault"] = as_known(error).message
        self.send(answer)

    _ACTIONS: ClassVar[dict[str, Callable[[Any, dict[str, Any]], None]]] = {
        "ping": _ping,
        "snapshot": _snapshot,
        "touch": _touch,
        "send": _start,
        "stop": _stop,
        "clear": _clear,
        "undo": _undo,
        "copy": _copy,
        "again": _again,
        "plain_template": _plain_template,
        "over_table": _over_table,
    }

    def _failed(self, error: Exception) -> None:
        self._notice = as_known(error).message
        self._feed.touch()
        self._actor.post({"kind": "touch"})

    # -- to the page ------------------------------------------------------------------------------

    def _tell(self, content: dict[str, Any]) -> None:
        self.send(content)

    def _surroundings(self, shot: ChatSnapshot) -> dict[str, Any]:
        model = self.chat.model
        reason = self._blocked or ("" if model is not None else "Choose a model first")
        return {
            "model": None if model is None else {"name": model.name, "detail": model.info.path},
            "headline": reason or "Choose a model first",
            "reason": reason,
            "notice": " ".join([*shot.notices, *([self._notice] if self._notice else [])]),
            "canUndo": self._cleared is not None,
            "hint": self._hint(model),
            "examples": list(_EXAMPLES),
            "chooser": self._chooser and not self._blocked,
        }

    def _hint(self, model: ChatModel | None) -> str:
        if model is not None and model.info.backend == "scripted":
            return "Demo mode: answers are prepared, no model runs. Nothing you write goes out."
        if model is not None:
            return f"The model {model.name} runs on this computer. Nothing you write leaves it."
        if self._blocked:
            return "You can write your message meanwhile."
        if self._chooser:
            return "Load one of the models on the list. The demo model is there at once."
        return 'Give this chat a model: box.model = gw.load("demo")'
