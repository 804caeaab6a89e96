"""From a rendered conversation to prompt tokens.

Promises: BOS exactly once (where the model wants it, whether or not its template writes it), and
text that a person wrote is never read as control tokens: a part says for itself whether the text of
control tokens in it means these tokens. Leaves to others: rendering (`chat_template.py`), cutting
text into tokens (`backend.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from gguf_widgets.core.engine.backend import Backend
from gguf_widgets.core.images import Image

__all__ = ["ControlTexts", "PromptPart", "tokenize_prompt"]


class PromptPart(NamedTuple):
    """A piece of a prompt; `parse_special` reads control tokens' text in it as these tokens."""

    text: str
    parse_special: bool = True


Part = TypeVar("Part", PromptPart, PromptPart | Image)


def tokenize_prompt(backend: Backend, parts: Iterable[PromptPart]) -> list[int]:
    """Cut the parts into the tokens of one prompt, beginning with BOS if the model wants that."""
    vocabulary = backend.vocabulary
    tokens: list[int] = []
    for text, parse_special in parts:
        tokens += backend.tokenize(text, parse_special=parse_special)
    if vocabulary.add_bos and vocabulary.bos >= 0 and tokens[:1] != [vocabulary.bos]:
        tokens.insert(0, vocabulary.bos)
    return tokens


class ControlTexts:
    """How a model's control tokens are written, to be found in a person's text.

    Parameters
    ----------
    texts : sequence of str
    """

    def __init__(self, texts: Sequence[str]) -> None:
        longest_first = sorted(filter(None, texts), key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._longest = len(longest_first[0]) if longest_first else 0

    def plain(self, text: str) -> list[PromptPart]:
        """Return a person's text in parts of which none becomes a control token."""
        parts, place = [], 0
        for match in self.pattern.finditer(text):
            parts += [PromptPart(text[place : match.start()]), PromptPart(match[0], False)]
            place = match.end()
        return [part for part in (*parts, PromptPart(text[place:])) if part.text]

    def followed(self, parts: Sequence[Part], text: str) -> list[Part]:
        """Return a prompt with a person's text behind it, as one text where that is possible.

        So the vocabulary sees both together, as it did when the model was trained.
        """
        whole = list(parts)
        for part in self.plain(text):
            last = whole[-1] if whole else None
            if (
                isinstance(last, PromptPart)
                and last.parse_special
                and part.parse_special
                and not self._become_one(last.text, part.text)
            ):
                whole[-1] = PromptPart(last.text + part.text)
            else:
                whole.append(part)
        return whole

    def _become_one(self, first: str, second: str) -> bool:
        """Whether the end of one text and the beginning of another are a control token together."""
        end, start = first[-self._longest :], second[: self._longest]
        return any(
            match.start() < len(end) < match.end() for match in self.pattern.finditer(end + start)
        )
