"""How many tokens texts, messages and conversations are for a model, without asking twice.

Promises: a text is counted once per model, however often it is asked for; a very long one is
counted as far as it takes to see that it is too long, and the rest is judged by that; a message's
own marks (what the chat template puts around it) are measured once. Any thread may ask. Leaves to
others: what is sent (`prompt`), what to do when it is too much (`context`).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gguf_widgets.core.errors import ChatTemplateError
from gguf_widgets.core.images import image
from gguf_widgets.core.types import ImagePart, TextPart

__all__ = ["Count", "TokenCounter", "bare", "can_count"]

_CHUNK_CHARS: Final = 64_000  # counted in one go; longer ones in such pieces
_NUM_KEPT: Final = 20_000  # numbers, a few hundred bytes each
_TYPICAL_MARKS: Final = 8

_kept: OrderedDict[tuple[str, str], int] = OrderedDict()
_lock = threading.Lock()


class Count(NamedTuple):
    """A number of tokens; `exact` is False where a part was judged by the rest."""

    num_tokens: int
    exact: bool = True


def bare(model: Any) -> Any:
    """Return the model itself in place of one with tools."""
    return model.model if getattr(model, "box", None) is not None else model


def can_count(model: Any) -> bool:
    """Say whether a model can tell its tokens; a stand-in in a test need not."""
    return callable(getattr(bare(model), "count_tokens", None))


class TokenCounter:
    """Counts for one model as it is loaded.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        info, settings = model.info, model.settings
        self.n_ctx: int = settings.n_ctx or info.n_ctx_train
        # With tools (`tools.asking.ToolModel`) every conversation has them in it.
        box = getattr(model, "box", None)
        self._tools = f"{box.schemas} {model.may_call}" if box is not None else ""
        about = (
            self._tools,
            info.path,
            info.name,
            info.size_bytes,
            settings.chat_template,
            settings.mmproj,
        )
        self._key = _digest(*map(str, about))
        self.sees_images = bool(getattr(model, "sees_images", False))

    def text(self, text: str) -> Count:
        """Return how many tokens a text is, read as text alone."""
        if len(text) <= _CHUNK_CHARS:
            return Count(self._counted(text))
        enough = 4 * self.n_ctx
        total = done = 0
        for at in range(0, len(text), _CHUNK_CHARS):
            piece = text[at : at + _CHUNK_CHARS]
            total += self._counted(piece)
            done += len(piece)
            if total > enough:
                break
        return Count(total * len(text) // done, exact=False)

    def image(self, data: bytes) -> Count:
        """Return how many tokens an image is; 0 for a model that cannot see."""
        if not self.sees_images:
            return Count(0, exact=False)

        def ask() -> int:
            with_it = self._model.count_tokens([{"role": "user", "content": [image(data), "x"]}])
            return int(with_it) - int(self._model.count_tokens([{"role": "user", "content": "x"}]))

        return Count(self._keep(("image", hashlib.sha256(data).hexdigest()), ask))

    def message(self, message: Mapping[str, Any]) -> Count:
        """Return about how many tokens a message adds to a conversation."""
        total, exact = self.marks(), False
        texts = [str(message.get("content") or "")]
        if calls := message.get("tool_calls"):
            texts.append(str(calls))
        parts = message.get("parts")
        if parts:
            texts = [part.text for part in parts if isinstance(part, TextPart)]
            total += sum(
                self.image(part.data).num_tokens for part in parts if isinstance(part, ImagePart)
            )
        return Count(total + sum(self.text(text).num_tokens for text in texts if text), exact)

    def about(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Return about how many tokens a conversation is; quick when only its end is new."""
        return sum(self.message(message).num_tokens for message in messages) + self.marks()

    def most(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Return a number that a conversation cannot exceed, found without asking; None if none.

        No token is shorter than a byte, so a short conversation needs no counting at all.
        """
        if self._tools or any(
            message.get("parts") or message.get("tool_calls") for message in messages
        ):
            return None
        letters = sum(len(str(message.get("content") or "").encode()) for message in messages)
        return letters + 4 * _TYPICAL_MARKS * (len(messages) + 8)

    def conversation(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Return exactly how many tokens a conversation is, as the model is sent it.

        Raises
        ------
        ChatTemplateError, UnsupportedByModelError
            The model would refuse it.
        """
        key = ("conversation", _digest(*(piece for one in messages for piece in _pieces(one))))
        return self._keep(key, lambda: int(self._model.count_tokens(list(messages))))

    def marks(self) -> int:
        """Return how many tokens the chat template puts around a message."""

        def ask() -> int:
            one = [{"role": "user", "content": "x"}]
            three = [*one, {"role": "assistant", "content": "x"}, *one]
            try:
                more = self._model.count_tokens(three) - self._model.count_tokens(one)
            except ChatTemplateError:
                return _TYPICAL_MARKS
            return max(0, -(-(int(more) - 2 * self._counted("x")) // 2))

        return self._keep(("marks", ""), ask)

    def _counted(self, text: str) -> int:
        def ask() -> int:
            tokenize = getattr(self._model, "tokenize", None)
            if callable(tokenize):
                return len(tokenize(text, parse_special=False))
            return int(self._model.count_tokens(text))

        return self._keep(("text", _digest(text)), ask) if text else 0

    def _keep(self, key: tuple[str, str], ask: Callable[[], int]) -> int:
        whole = (self._key, "\n".join(key))
        with _lock:
            if whole in _kept:
                _kept.move_to_end(whole)
                return _kept[whole]
        found = ask()
        with _lock:
            _kept[whole] = found
            while len(_kept) > _NUM_KEPT:
                _kept.popitem(last=False)
        return found


def _pieces(message: Mapping[str, Any]) -> list[str]:
    parts = message.get("parts") or ()
    return [
        str(message["role"]),
        str(message.get("content") or ""),
        str(message.get("tool_calls") or ""),
        *(
            hashlib.sha256(part.data).hexdigest() if isinstance(part, ImagePart) else part.text
            for part in parts
        ),
    ]


def _digest(*texts: str) -> str:
    found = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "big") + data)
    return found.hexdigest()
