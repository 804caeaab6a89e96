"""`ChatBox`: a conversation with a model, in a notebook cell or as part of a dashboard.

Promises: shows what its `ChatInterface` holds, also after a reload of the page and a restart of the
kernel, and what another window adds to it (the store is the truth); text appears while it is
written, at most 20 updates a second; Stop works while text comes; what a person typed is not lost
when it cannot be sent; no callback of the page does more than put a note into a queue. Leaves to
others: the conversation and its saving (`core.chat.interface`), what is sent and when
(`_chat_feed`), HTML (`markdown`), whatever else there is around a conversation (its parts:
`_chat_parts`), the look (static/).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from gguf_widgets.core.chat.answer import ChatModel
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatEvent, ChatMessage, ChatSnapshot
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, to_wire
from gguf_widgets.core.json_outside import plain
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.types import Message
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._chat_feed import ChatFeed
from gguf_widgets.widgets._chat_notebook import StaticCopy
from gguf_widgets.widgets._chat_over_table import OverTablePart
from gguf_widgets.widgets._chat_part import ChatPart, Content
from gguf_widgets.widgets._chat_parts import PARTS, STYLES
from gguf_widgets.widgets._chat_template import template_of
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._words import as_known

if TYPE_CHECKING:
    from gguf_widgets.widgets.batch_table import BatchTable

__all__ = ["ChatBox"]

_STATIC = Path(__file__).parent / "static"

_log = logging.getLogger(__name__)

_TOUCH = object()

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


def _carried(content: Content) -> Content:
    """Return what a page sent as every part can carry it: no half characters, nothing endless."""
    try:
        return dict(plain(content))
    except ValueError as error:
        raise InvalidValueError(f"What the page sent cannot be used: {error}.") from error


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
    tools : list of callable or ToolBox, optional
        Python functions that the model may ask for; each call is shown, and runs when it is
        allowed. See `gguf_widgets.tool`.
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
    _css = css(_STATIC / "chat_box.css", *(_STATIC / name for name in STYLES))
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
        tools: Any = None,
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
        if chat is None:
            chat = ChatInterface(model, system=system, tools=tools, **sampling)
        elif tools is not None:
            chat.tools = tools
        self.chat = chat
        if model is not None and chat.model is not model:
            chat.model = model
        self._over_table = OverTablePart(self)
        self._over_table.table = table
        self._parts: tuple[ChatPart, ...] = (
            self._over_table,
            *(make(self) for make in PARTS),
        )
        self._feed = ChatFeed(
            self.chat.snapshot, self._tell, self._surroundings, self._states, self._more_of
        )
        name = f"ChatBox-{self.model_id[:8]}"
        self._heavy = Actor(f"{name}-work", lambda do: do(), failed=self._failed)
        self._actor = Actor(name, self._work, self._feed.tick, self._failed)
        self._static: StaticCopy | None = None
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
        self.touch()

    @property
    def table(self) -> BatchTable | None:
        """Where "Run this over a table" puts the conversation's prompt."""
        table: BatchTable | None = self._over_table.table
        return table

    @table.setter
    def table(self, table: BatchTable | None) -> None:
        self._over_table.table = table

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
        """End the widget: its page part goes, its threads end; the conversation stays."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_unsubscribe"):
            self._unsubscribe()
            self._heavy.close()
            self._actor.close()
            for part in self._parts:
                part.close()
            if self._static is not None:
                self._static.close()
        super().close()

    def _ipython_display_(self) -> None:
        """Show the live view in a notebook, and leave a copy there that needs no kernel."""
        view = self._repr_mimebundle_()
        if view is None:
            return
        if self._static is None:
            self._static = StaticCopy(self.chat, self.model_id)
        self._static.show(*view)

    def show_in_frame(self, *, blocked: str = "") -> None:
        """Tell the chat that it is part of a dashboard, which has a place to choose a model.

        Parameters
        ----------
        blocked : str
            Why nothing can be sent at this moment; "" if it can.
        """
        self._blocked, self._chooser = blocked, True
        self.touch()

    # -- for its parts, see `ChatHost` ------------------------------------------------------------

    def touch(self) -> None:
        """Look at everything again and send what has changed."""
        self._actor.post(_TOUCH)

    def say(self, text: str) -> None:
        """Show a line over the place to type; "" takes it away."""
        self._notice = text
        self.touch()

    def tell(self, content: Content, buffers: list[bytes] | None = None) -> None:
        """Send a message to every view of this chat."""
        self.send(content, buffers)

    def answer(self, asked: Content, buffers: list[bytes] | None = None, **more: Any) -> None:
        """Answer a message of the page."""
        self.send({"kind": "answer", "mid": asked.get("mid"), **more}, buffers)

    def at_work(self, do: Callable[[], object], asked: Content | None = None) -> None:
        """Do what may take long in a thread of its own; what comes of it answers `asked`."""

        def work() -> None:
            found: object = None
            try:
                found = do()
            except Exception as error:
                if asked is None:
                    raise
                self._refuse(asked, error)
            else:
                if asked is not None:
                    self.answer(asked, **(found if isinstance(found, dict) else {}))
            finally:
                self.touch()

        self._heavy.post(work)

    # -- from the page ----------------------------------------------------------------------------

    def _on_page(self, _widget: object, content: Any, buffers: Any) -> None:
        if isinstance(content, dict):
            self._actor.post((content, list(buffers) if isinstance(buffers, list | tuple) else []))

    def _work(self, item: object) -> None:
        """Do one thing of the queue; on the widget's own thread."""
        if isinstance(item, ChatEvent):
            self._feed.handle(item)
        elif item is _TOUCH:
            self._feed.touch()
        elif isinstance(item, tuple):
            content, buffers = item
            try:
                answer = self._heeded(str(content.get("kind")), _carried(content), buffers)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is shown where it was asked
                self._refuse(content, error)
            else:
                if answer is not None:
                    self.answer(content, **answer)

    def _heeded(self, kind: str, content: Content, buffers: list[Any]) -> Content | None:
        if kind in self._ACTIONS:
            return self._ACTIONS[kind](self, content)
        for part in self._parts:
            if kind in part.ACTIONS:
                told: Content | None = part.ACTIONS[kind](part, content, buffers)
                return told
        return None

    def _refuse(self, asked: Content, error: Exception) -> None:
        """Answer with an error, in words; one that nobody expected is logged as well."""
        if not isinstance(error, GgufWidgetsError):
            _log.error("A message of the page could not be heeded", exc_info=error)
        self.answer(asked, error=to_wire(as_known(error)))

    def _ping(self, content: Content) -> None:
        self._take_from_others()
        self.send({"kind": "pong", "mid": content.get("mid"), "seq": self._feed.seq})

    def _snapshot(self, _content: Content) -> None:
        self._feed.send_snapshot()

    def _start(self, content: Content) -> Content:
        text = str(content.get("text", ""))
        self._notice = ""
        self._take_from_others()
        more: Content = {}
        for part in self._parts:
            more |= part.for_sending(content)
        try:
            self.chat.start(text, **more)
        except Exception as error:  # the words go back to the page with it
            self._notice = as_known(error).message
            raise
        finally:
            self._feed.touch()
        for part in self._parts:
            part.sent(content)
        return {}

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

    def _stop(self, _content: Content) -> None:
        self.chat.stop()

    def _clear(self, _content: Content) -> Content:
        had_messages = bool(self.chat.messages)
        self.chat.clear()
        self._notice = "The conversation before is saved." if had_messages else ""
        self._feed.touch()
        return {}

    _ACTIONS: ClassVar[dict[str, Callable[[Any, Content], Content | None]]] = {
        "ping": _ping,
        "snapshot": _snapshot,
        "send": _start,
        "stop": _stop,
        "clear": _clear,
    }

    def _failed(self, error: Exception) -> None:
        self.say(as_known(error).message)

    # -- to the page ------------------------------------------------------------------------------

    def _tell(self, content: Content) -> None:
        self.send(content)

    def _states(self, shot: ChatSnapshot) -> Content:
        return {part.NAME: part.state(shot) for part in self._parts}

    def _more_of(self, message: ChatMessage, shot: ChatSnapshot) -> Content:
        more: Content = {}
        for part in self._parts:
            more |= part.view(message, shot)
        return more

    def _surroundings(self, shot: ChatSnapshot) -> Content:
        model = self.chat.model
        reason = self._blocked or ("" if model is not None else "Choose a model first")
        return {
            "model": None if model is None else {"name": model.name, "detail": model.info.path},
            "headline": reason or "Choose a model first",
            "reason": reason,
            "notice": " ".join([*shot.notices, *([self._notice] if self._notice else [])]),
            "canUndo": shot.can_undo,
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
