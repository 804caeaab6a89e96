"""One of some choices: a category, with the probability of each.

Promises: a reply is the bare text of one choice, kept to by a grammar, and every choice can be
written. Where one choice is the beginning of another ("good", "good enough") the model decides
after "good" whether to end its reply; both can be answered. Leaves to others: what the
probabilities mean (`choices`).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gguf_widgets.batch.choices import NUM_TOP
from gguf_widgets.batch.output_column import Column, Scalar
from gguf_widgets.batch.output_grammar import grammar_of
from gguf_widgets.batch.output_kind import UnfinishedError
from gguf_widgets.core.errors import InvalidValueError, OutputError

__all__ = ["MAX_CHOICES", "BooleanKind", "ChoiceKind", "as_choices", "choice_sampling", "read_text"]

MAX_CHOICES = 1_000
_MAX_LENGTH = 500
_MAX_TOGETHER = 100_000  # characters: llama.cpp holds the grammar once for each reply under way


@dataclass(frozen=True)
class ChoiceKind:
    """One of `choices`: texts, numbers, true and false. Make it by `as_choices`."""

    name: str
    choices: tuple[Scalar, ...]

    kind = "choice"

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Kind.columns`."""
        return (Column(self.name, "category", self.choices),)

    @cached_property
    def choice_texts(self) -> tuple[str, ...]:
        """See `Kind.choice_texts`."""
        return tuple(map(_text, self.choices))

    @cached_property
    def sampling(self) -> dict[str, Any]:
        """See `Kind.sampling`."""
        return choice_sampling(self.choice_texts)

    def read(self, text: str, *, complete: bool) -> tuple[Any, dict[str, Any]]:
        """See `Kind.read`."""
        value = self.choices[read_text(text, self.choice_texts, complete=complete)]
        return value, {self.name: value}

    def to_dict(self) -> dict[str, Any]:
        """See `Kind.to_dict`."""
        return {"choices": list(self.choices)}

    def describe(self) -> str:
        """See `Kind.describe`."""
        shown = ", ".join(self.choice_texts[:6])
        more = len(self.choices) - 6
        return f"one of: {shown}" + (f" and {more:,} more" if more > 0 else "")


@dataclass(frozen=True)
class BooleanKind:
    """Bare "true" or "false"."""

    name: str

    kind = "boolean"
    choice_texts = ("true", "false")

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Kind.columns`."""
        return (Column(self.name, "boolean"),)

    @property
    def sampling(self) -> dict[str, Any]:
        """See `Kind.sampling`."""
        return choice_sampling(self.choice_texts)

    def read(self, text: str, *, complete: bool) -> tuple[Any, dict[str, Any]]:
        """See `Kind.read`."""
        value = read_text(text, self.choice_texts, complete=complete) == 0
        return value, {self.name: value}

    def to_dict(self) -> dict[str, Any]:
        """See `Kind.to_dict`."""
        return {}

    def describe(self) -> str:
        """See `Kind.describe`."""
        return "true or false"


def as_choices(name: str, values: Iterable[Any]) -> ChoiceKind | BooleanKind:
    """Return the kind of output that is one of these values.

    Raises
    ------
    InvalidValueError
        If there are none, or too many, or two of them could not be told apart in a reply.
    """
    listed = list(map(_plain, values))
    if not listed:
        raise InvalidValueError("The list of choices is empty. Give at least one.")
    if len(listed) > MAX_CHOICES:
        raise InvalidValueError(
            f"There are {len(listed):,} choices, and {MAX_CHOICES:,} is the limit. Ask in two"
            " steps, or leave the output free.",
            limit=MAX_CHOICES,
        )
    texts: dict[str, Scalar] = {}
    for value in listed:
        text = _checked(value)
        if text in texts:
            other = texts[text]
            if type(other) is type(value) and other == value:
                raise InvalidValueError(f"The choice {value!r:.80} is there twice.", value=text)
            raise InvalidValueError(
                f"The choices {other!r:.80} and {value!r:.80} would be the same reply, {text!r:.80}"
                ": blanks around a choice do not count, and numbers are texts in a reply.",
                value=text,
            )
        texts[text] = value
    _check_together(texts)
    if set(texts) == {"true", "false"} and all(isinstance(one, bool) for one in listed):
        return BooleanKind(name)
    return ChoiceKind(name, tuple(listed))


def choice_sampling(texts: Iterable[str]) -> dict[str, Any]:
    """Return the sampling keywords for a reply that is one of these texts."""
    return {"grammar": grammar_of(list(texts)), "logprobs": NUM_TOP}


def read_text(text: str, texts: tuple[str, ...], *, complete: bool) -> int:
    """Return which of the texts a reply is, by its place.

    Raises
    ------
    UnfinishedError, OutputError
    """
    found = text.strip()
    if not complete and any(one.startswith(found) and one != found for one in texts):
        raise UnfinishedError(f"The reply was cut before a choice was complete: {found[:80]!r}.")
    try:
        return texts.index(found)
    except ValueError:
        raise OutputError(f"The reply is none of the choices: {text[:80]!r}.") from None


def _plain(value: Any) -> Any:
    """Return an Enum's value, and Python's own number or text for numpy's."""
    if isinstance(value, enum.Enum):
        value = value.value
    return value.item() if type(value).__module__ == "numpy" and value.ndim == 0 else value


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.strip() if isinstance(value, str) else repr(value)


def _checked(value: Any) -> str:
    """Return what a reply with this choice is."""
    if type(value) not in (str, int, float, bool):
        hint = ' Write a text for it, such as "none".' if value is None else ""
        raise InvalidValueError(
            f"A choice is a text, a number, True or False, not {value!r:.80}.{hint}",
            value=repr(value)[:80],
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValueError(f"{value} cannot be a choice: JSON has no such number.")
    text = _text(value)
    if not text:
        raise InvalidValueError(
            f"The choice {value!r} is empty. Give it a text, such as 'none'.", value=value
        )
    if len(text) > _MAX_LENGTH:
        raise InvalidValueError(
            f"The choice {text[:40]!r}... has {len(text):,} characters, and {_MAX_LENGTH} is the"
            " limit. Use short names for choices, and explain them in the prompt.",
            limit=_MAX_LENGTH,
        )
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
        raise InvalidValueError(
            f"The choice {text[:80]!r} holds a character that no reply can hold (a zero, or half a"
            " character)."
        )
    return text


def _check_together(texts: dict[str, Scalar]) -> None:
    total = sum(map(len, texts))
    if total > _MAX_TOGETHER:
        raise InvalidValueError(
            f"The choices have {total:,} characters together, and {_MAX_TOGETHER:,} is the limit."
            " Use shorter names for them.",
            limit=_MAX_TOGETHER,
        )
    numbers = [one for one in texts.values() if not isinstance(one, str)]
    if len(set(numbers)) < len(numbers):
        raise InvalidValueError(
            "Two of the choices are equal as numbers (True is 1 in Python, and 1.0 is 1), so a"
            " column could not tell them apart. Write them as texts.",
        )
