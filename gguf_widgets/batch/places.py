"""Where questions are answered: by the model in this process's hands, or by others elsewhere.

Promises: the runner sees one kind of thing, a `Place` that takes questions and tells the end of
each one once; `Places` are all there are at a moment, and may come and go. `LocalPlaces` is the
model that is loaded here. Leaves to others: what to ask and what to do about an end (`runner`),
other machines (`cluster`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gguf_widgets.batch.question import Question
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import Reply

__all__ = ["Asked", "End", "GivenBack", "LocalPlaces", "OnEnd", "Place", "Places"]

_MOST_AT_ONCE: Final = 512


class GivenBack:
    """In place of an answer: it was not asked, through no fault of its own; ask it elsewhere."""


End = Reply | GgufWidgetsError | GivenBack
OnEnd = Callable[[End], None]
"""Called once, in any thread; it returns at once."""


class Asked(Protocol):
    """A question that is on its way."""

    def stop(self) -> None:
        """Take it back; its end is still told."""


class Place(Protocol):
    """One model that answers questions.

    Attributes
    ----------
    name : str
        Tells the places of a run apart.
    room : int
        How many questions it may have at a time, so that it always has enough to do.
    """

    name: str

    @property
    def room(self) -> int:
        """How many questions it may have at a time."""

    def ask(self, question: Question, on_end: OnEnd) -> Asked:
        """Ask without waiting.

        Raises
        ------
        WorkerDiedError, WorkerStartError
            The model's process is not there just now; nothing was asked.
        GgufWidgetsError
            This question cannot be asked.
        """


class Places(Protocol):
    """All places of one model of a run."""

    @property
    def note(self) -> str:
        """What a person should know of them; mostly ""."""

    @property
    def num_at_once(self) -> int | None:
        """How many questions are computed side by side; None where that is not one number."""

    def current(self) -> Sequence[Place]:
        """Return those that take questions now; it returns at once.

        Raises
        ------
        GgufWidgetsError
            There are none, and there will be none: the run cannot go on.
        """

    def close(self) -> None:
        """Let go of all of them; it returns within seconds."""


class LocalPlaces:
    """The one place of a model that is loaded here.

    Parameters
    ----------
    model : Model

    Attributes
    ----------
    num_at_once : int or None
        How many questions it computes side by side.
    """

    note = ""

    def __init__(self, model: Model) -> None:
        self._places = (_Here(model),)
        self.num_at_once = model.settings.n_seq_max

    def current(self) -> Sequence[Place]:
        """Return the one place."""
        return self._places

    def close(self) -> None:
        """Do nothing: the model stays loaded, for whoever asks next."""


class _Here:
    name = "here"

    def __init__(self, model: Model) -> None:
        self._model = model
        self.room = min(_MOST_AT_ONCE, 4 * (model.settings.n_seq_max or 1) + 8)

    def ask(self, question: Question, on_end: OnEnd) -> Asked:
        return self._model.submit(question.messages, on_end, priority="batch", **question.sampling)
