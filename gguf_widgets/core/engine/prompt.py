"""From a rendered conversation to prompt tokens.

Promises: BOS exactly once (where the model wants it, whether or not its template writes it), and
text that a person wrote is never read as control tokens: a part says for itself whether the text of
control tokens in it means these tokens. Leaves to others: rendering (`chat_template.py`), cutting
text into tokens (`backend.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gguf_widgets.core.engine.backend import Backend

__all__ = ["PromptPart", "tokenize_prompt"]


class PromptPart(NamedTuple):
    """A piece of a prompt; `parse_special` reads control tokens' text in it as these tokens."""

    text: str
    parse_special: bool = True


def tokenize_prompt(backend: Backend, parts: Iterable[PromptPart]) -> list[int]:
    """Cut the parts into the tokens of one prompt, beginning with BOS if the model wants that."""
    vocabulary = backend.vocabulary
    tokens: list[int] = []
    for text, parse_special in parts:
        tokens += backend.tokenize(text, parse_special=parse_special)
    if vocabulary.add_bos and vocabulary.bos >= 0 and tokens[:1] != [vocabulary.bos]:
        tokens.insert(0, vocabulary.bos)
    return tokens
