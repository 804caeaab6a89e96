"""What a model is asked for one answer.

Promises: everything an answer needs is settled before its thread begins, so that a change to the
chat's settings meanwhile is for the next one. Leaves to others: what is sent of a conversation
(`prompt`) and what if it does not fit (`context`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from gguf_widgets.core.chat import context as chat_context
from gguf_widgets.core.chat.begin import Begin
from gguf_widgets.core.chat.context import Prepared
from gguf_widgets.core.chat.model import AnswerStream
from gguf_widgets.core.chat.prompt import Prompt, num_unseen_images
from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.types import Message, SamplingSettings, TokenLogprob

__all__ = ["Asked"]


class Asked(NamedTuple):
    """One question to a model.

    Parameters
    ----------
    model : ChatModel
        Or what stands in front of it (`tools`).
    line : sequence of ChatMessage
        The messages up to the answer.
    system : str or None
    settings : SamplingSettings
    own_sampling : Mapping
        Those of them that were asked for this answer alone.
    when_full : str
    begin : Begin
    num_alternatives : int
        How many tokens are recorded with each; 0 records none.
    make : callable
        `prompt.prompt_for` with the files.
    """

    model: Any
    line: Sequence[ChatMessage]
    system: str | None
    settings: SamplingSettings
    own_sampling: Mapping[str, Any]
    when_full: str
    begin: Begin
    num_alternatives: int
    make: Callable[[Sequence[ChatMessage], str | None], Prompt]

    @property
    def given(self) -> tuple[TokenLogprob, ...]:
        """What is known of the tokens it begins with."""
        return self.begin.given

    @property
    def template_variables(self) -> Mapping[str, Any]:
        """What the template is told besides the messages."""
        return self.begin.template_variables

    def num_unseen(self, left_out: Collection[str]) -> int:
        """Count the images of earlier messages that this model cannot see.

        Parameters
        ----------
        left_out : collection of str
            Ids of messages that are not sent at all.
        """
        if getattr(self.model, "sees_images", True):
            return 0
        return num_unseen_images([one for one in self.line if one.id not in left_out])

    @property
    def more(self) -> dict[str, Any]:
        """What goes to the model besides messages and sampling settings."""
        more: dict[str, Any] = {}
        if self.begin.begin_with is not None:
            more["begin_with"] = self.begin.begin_with
        if self.template_variables:
            more["template_variables"] = dict(self.template_variables)
        return more

    def prepare(
        self, on_progress: Callable[[int, int], None], stopped: Callable[[], bool]
    ) -> Prepared:
        """Return what is sent; it may take long, see `context.prepare`."""
        return chat_context.prepare(
            self.line,
            self.system,
            self.model,
            self.settings,
            self.when_full,
            self.begin.begin_with or "",
            make=self.make,
            on_progress=on_progress,
            stopped=stopped,
        )

    def stream(self, messages: list[Message]) -> AnswerStream:
        """Begin the answer."""
        sampling = self.settings.to_dict()
        if self.num_alternatives:
            sampling["logprobs"] = max(sampling.get("logprobs") or 0, self.num_alternatives)
        stream: AnswerStream = self.model.stream(messages, **sampling, **self.more)
        return stream
