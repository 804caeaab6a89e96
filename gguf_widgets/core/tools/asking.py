"""A model that has tools: what a chat asks in place of the model itself.

Promises: to whoever asks, `ToolModel` is a model: `stream` gives one stream of text with one reply.
In between the reply is written in steps: freely, until a call begins; then held to the schema of
the tools' arguments; then freely again, if another call may follow. What came of it is in
`ToolStream.tool_calls`; the text holds the words only. Leaves to others: the calls themselves
(`core.chat.tools`), one step (`steps`).
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from gguf_widgets.core.chat.types import ToolCall
from gguf_widgets.core.errors import ChatTemplateError, InvalidValueError, RequestError
from gguf_widgets.core.tools import describing
from gguf_widgets.core.tools.call_format import GENERIC, CallFormat, find_format, silent_marks
from gguf_widgets.core.tools.toolbox import ToolBox
from gguf_widgets.core.tools.writing import CallWriter
from gguf_widgets.core.types import Reply, TextDelta

__all__ = ["ToolModel", "ToolStream", "format_of"]

_log = logging.getLogger(__name__)

_found: weakref.WeakKeyDictionary[Any, dict[str | None, CallFormat]] = weakref.WeakKeyDictionary()


def format_of(model: Any) -> CallFormat:
    """Return how this model's template writes calls; found once for each template."""
    template = model.settings.chat_template
    try:
        known = _found.setdefault(model, {})
    except TypeError:  # a stand-in that cannot be kept track of
        known = {}
    if template not in known:
        known[template] = _look(model)
    return known[template]


def _look(model: Any) -> CallFormat:
    facts = getattr(model, "template_facts", None)
    if facts is None:
        return GENERIC
    try:
        form = find_format(model.render, native=bool(facts.native_tools))
    except (ChatTemplateError, InvalidValueError) as error:
        _log.info("The chat template of %s does not write calls of tools: %s", model.name, error)
        return GENERIC
    silent = silent_marks(model, form.opening)
    # A control token in the middle of a mark would be found neither in the text nor by itself.
    return form if not silent or form.mark.startswith(next(iter(silent))) else GENERIC


class ToolModel:
    """A model with tools; everything that is not named here is the model's own.

    Parameters
    ----------
    model : ChatModel
    box : ToolBox
        Empty where a conversation has calls and there are no tools any more.
    may_call : bool
        False when the limit is reached: earlier calls are shown, no more are possible.
    """

    def __init__(self, model: Any, box: ToolBox, *, may_call: bool = True) -> None:
        self.model = model
        self.box = box
        self.may_call = may_call and len(box) > 0

    def stream(self, messages: str | Sequence[Mapping[str, Any]], /, **sampling: Any) -> ToolStream:
        """Begin an answer."""
        return ToolStream(self, messages, sampling)

    def render(self, messages: Any, **keywords: Any) -> str:
        """Return the prompt's text, tools included."""
        return str(self.model.render(*self._sent(messages, keywords), **keywords))

    def prompt_tokens(self, messages: Any, **keywords: Any) -> Any:
        """Return the prompt's tokens, tools included."""
        return self.model.prompt_tokens(*self._sent(messages, keywords), **keywords)

    def count_tokens(self, messages: Any, **keywords: Any) -> int:
        """Count a text's tokens, or a prompt's, tools included."""
        if isinstance(messages, str):
            return int(self.model.count_tokens(messages, **keywords))
        return int(self.model.count_tokens(*self._sent(messages, keywords), **keywords))

    def prepared(
        self, messages: str | Sequence[Mapping[str, Any]], *, constrained: bool = False
    ) -> tuple[list[dict[str, Any]], dict[str, Any], CallFormat]:
        """Return what the model itself is sent: messages, more keywords, and the format."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        form = format_of(self.model)
        sent = [dict(message) for message in messages]
        keywords: dict[str, Any] = {}
        offered = self.may_call and not constrained
        if not offered and len(self.box) > 0 and not constrained:
            sent = describing.with_no_more(sent)
        if form.as_text:
            sent = describing.as_text(sent, form)
        if offered and form.in_prompt:
            keywords["tools"] = self.box.schemas
        elif offered:
            sent = describing.with_description(sent, self.box, form)
        return sent, keywords, form

    def _sent(self, messages: Any, keywords: dict[str, Any]) -> tuple[Any]:
        sent, more, _ = self.prepared(messages)
        keywords.update(more)
        return (sent,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


class ToolStream:
    """One answer of a model with tools.

    Attributes
    ----------
    tool_calls : tuple of ToolCall
        Once it has ended: the calls that it ended in, all of them "waiting".
    """

    def __init__(
        self,
        asked: ToolModel,
        messages: str | Sequence[Mapping[str, Any]],
        sampling: dict[str, Any],
    ) -> None:
        self.tool_calls: tuple[ToolCall, ...] = ()
        self._asked = asked
        self._messages = messages
        self._sampling = sampling
        self._reply: Reply | None = None
        self._lock = threading.Lock()
        self._inner: Any = None
        self._stopped = False
        self._closed = False
        self._deltas: Iterator[TextDelta] | None = None

    @property
    def reply(self) -> Reply | None:
        """What came of it, once the iteration has ended."""
        return self._reply

    @property
    def progress(self) -> Any:
        """How much of the prompt has been computed."""
        return getattr(self._inner, "progress", None)

    @property
    def image_progress(self) -> Any:
        """How much of an image has been read."""
        return getattr(self._inner, "image_progress", None)

    def stop(self) -> None:
        """End the answer soon; any thread may call it."""
        with self._lock:
            self._stopped = True
            inner = self._inner
        if inner is not None:
            inner.stop()

    def __iter__(self) -> Iterator[TextDelta]:
        if self._deltas is None:
            self._deltas = self._write()
        return self._deltas

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            inner = self._inner
        if inner is not None:
            inner.__exit__(kind, error, traceback)

    def _write(self) -> Iterator[TextDelta]:
        constrained = any(self._sampling.get(name) is not None for name in ("schema", "grammar"))
        sent, more, form = self._asked.prepared(self._messages, constrained=constrained)

        def open_step(**changes: Any) -> Any:
            return self._open(sent, {**self._sampling, **more, **changes})

        if not self._asked.may_call or constrained:
            stream = open_step()
            yield from stream
            self._reply = stream.reply
            return
        writer = CallWriter(self._asked.model, self._asked.box, form, self._sampling, open_step)
        yield from writer.write(lambda: self._stopped)
        self._reply, self.tool_calls = writer.reply, tuple(writer.calls)

    def _open(self, sent: list[dict[str, Any]], keywords: dict[str, Any]) -> Any:
        with self._lock:
            if self._closed:
                raise RequestError("The answer was taken back.", reason="closed")
        stream = self._asked.model.stream(sent, **keywords)
        with self._lock:
            self._inner = stream
            stopped = self._stopped
        if stopped:
            stream.stop()
        return stream
