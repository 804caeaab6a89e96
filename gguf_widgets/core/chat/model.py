"""What a chat needs of a model.

Promises: protocols that `core.model` fulfils, and a test's stand-in can, too; `describe` says what
identifies a model and how it was loaded. Leaves to others: everything that a model does.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from gguf_widgets.core.types import (
    LoadSettings,
    Message,
    ModelInfo,
    PrefillProgress,
    Reply,
    TextDelta,
)

__all__ = ["AnswerStream", "ChatModel", "describe"]


class AnswerStream(Protocol):
    """What a model gives for one answer; `core.model.TextStream` is one.

    It may have an `image_progress`, as that one has, and `tool_calls`, the calls the answer ended
    in (`tools.asking.ToolStream`).
    """

    def __iter__(self) -> Iterator[TextDelta]:
        """Yield the text piece by piece; raise the error the answer failed with."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """End the request if it has not ended."""

    @property
    def reply(self) -> Reply | None:
        """What came of it, once the iteration has ended."""

    @property
    def progress(self) -> PrefillProgress | None:
        """How much of the prompt has been computed."""

    def stop(self) -> None:
        """End the answer soon; any thread may call it."""


class ChatModel(Protocol):
    """What a chat needs of a model; `core.model.Model` is one."""

    @property
    def info(self) -> ModelInfo:
        """What the file's header says."""

    @property
    def settings(self) -> LoadSettings:
        """How it was loaded."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    def stream(self, messages: list[Message], /, **sampling: Any) -> AnswerStream:
        """Begin an answer.

        Besides sampling settings it takes `begin_with` (words, or tokens, that the reply begins
        with) and `template_variables`; they are given only where there are any.
        """


def describe(model: ChatModel) -> dict[str, Any]:
    """Return what identifies the model and how it was loaded, for whoever repeats this."""
    info = model.info
    described: dict[str, Any] = {
        "path": info.path,
        "name": info.name,
        "architecture": info.architecture,
        "size_bytes": info.size_bytes,
        "num_parameters": info.num_parameters,
        "quantization": info.quantization,
        "backend": info.backend,
        "settings": model.settings.to_dict(),
    }
    # As it comes out of the store again: with lists for tuples.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(described))
    return plain
