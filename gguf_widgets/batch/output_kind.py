"""What each kind of output has to offer, and what they share.

Promises: nothing by itself. One file beside this one holds one kind; `output` is their face.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from gguf_widgets.batch.output_column import Column
from gguf_widgets.core.errors import OutputError

__all__ = ["Kind", "UnfinishedError", "json_value"]


class Kind(Protocol):
    """One kind of output; equal data from `to_dict` means the same output."""

    @property
    def kind(self) -> str:
        """Its name: "text", "choice", ..."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What a reply is turned into."""

    @property
    def sampling(self) -> Mapping[str, Any]:
        """The sampling keywords that make replies like that."""

    @property
    def choice_texts(self) -> tuple[str, ...]:
        """All that a reply can be, if that is a list; its probabilities are known then."""

    def read(self, text: str, *, complete: bool) -> tuple[Any, dict[str, Any]]:
        """Return a reply's value, and that of each column.

        `complete` is False for a reply that was cut: what could still have gone on is refused.

        Raises
        ------
        UnfinishedError
            If it was cut too early.
        OutputError
            If it is something else.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return all that makes this output, as plain JSON; without kind and name."""

    def describe(self) -> str:
        """Say in a few words what a reply will be."""


class UnfinishedError(Exception):
    """The reply was cut before it was what was asked for; `Output.read` says what to do then."""


def json_value(text: str, *, complete: bool) -> Any:
    """Return the JSON value of a reply.

    Raises
    ------
    UnfinishedError, OutputError
    """
    try:
        value = json.loads(text, parse_constant=_no_json)
    except RecursionError as error:
        raise OutputError("The reply is JSON that is nested too deep to be read.") from error
    except ValueError as error:
        if not complete:
            raise UnfinishedError("The reply was cut before its JSON was complete.") from error
        raise OutputError(f"The reply is not JSON: {error}. It begins {text[:60]!r}.") from error
    if not complete and isinstance(value, int | float) and not isinstance(value, bool):
        raise UnfinishedError("The reply was cut in the middle of a number, perhaps.")
    return value


def _no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")
