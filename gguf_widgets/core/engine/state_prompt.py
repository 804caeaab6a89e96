"""Which tokens of a conversation are the same whatever comes after it.

Promises: the tokens returned are the beginning of the prompt of any conversation that goes on from
the one given, so that a state computed for them serves all of these. Leaves to others: what
a template makes of messages, and a vocabulary of text.

It is found by trying: the conversation is continued in several ways, each is made into tokens as it
would be for a request, and what they all begin with is the answer. So a template may do what it
likes with the messages (move the system prompt into the first question, leave thoughts out of
earlier answers). At the end of a text the last tokens are not settled: "the end" may go on as "the
ending", with other ones. So it is cut back to where its last word begins, if it has words: there
every vocabulary begins a token, whatever comes later. The continuations begin with one of each kind
of character that vocabularies join with what is before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from gguf_widgets.core.engine.prefix_tree import common_length
from gguf_widgets.core.errors import StateFileError
from gguf_widgets.core.types import Message

__all__ = ["conversation_prefix", "text_prefix"]

_CONTINUATIONS = ("e", " a", "1", "\n", ".", "  ", "é", "中", "(", "T", '"', "-")

# Where one word ends and the next begins; in a text without words, any space between two others.
_WORDS = (re.compile(r"(?<=\w) (?=\w)"), re.compile(r"(?<=\S) (?=\S)"))

# How far back from the end of a text its last word is looked for.
_LOOK_BACK = 2000


def text_prefix(tokenize: Callable[[str], list[int]], text: str) -> list[int]:
    """Return the first tokens of every text that begins with this one.

    Parameters
    ----------
    tokenize : callable
        Makes the tokens of a prompt from a text.
    text : str

    Raises
    ------
    StateFileError
        "no_prefix" if there are none.
    """
    return _common(tokenize(text), map(tokenize, _variants(text)))


def conversation_prefix(
    tokenize: Callable[[list[Message]], list[int]], messages: Sequence[Message]
) -> list[int]:
    """Return the first tokens of every conversation that goes on from this one.

    If the last message is a person's, it may itself be longer in those that go on: a document with
    a question behind it. After any other a person's message follows.

    Parameters
    ----------
    tokenize : callable
        Makes the tokens of a prompt from messages.
    messages : sequence of Message

    Raises
    ------
    StateFileError
        "no_prefix" if there are none.
    """
    *before, last = messages
    if last["role"] == "user":
        texts = [last["content"], *_variants(last["content"])]
    else:
        before, texts = list(messages), ["Hello", *_CONTINUATIONS]
    first, *others = ([*before, Message(role="user", content=text)] for text in texts)
    return _common(tokenize(first), map(tokenize, others))


def _variants(text: str) -> list[str]:
    """Return texts that have in common with this one what it will have with any longer one."""
    variants = [text + more for more in _CONTINUATIONS]
    for words in _WORDS:
        *_, last = (None, *words.finditer(text, max(0, len(text) - _LOOK_BACK)))
        if last is not None:
            return [*variants, text[: last.start()]]
    return variants


def _common(first: list[int], others: Iterable[list[int]]) -> list[int]:
    length = len(first)
    for other in others:
        length = min(length, common_length(first, other))
    if not length:
        raise StateFileError(
            "This has no beginning that others could share: whatever comes after it changes its"
            " first token. Give a longer text, or save a conversation that begins with a system"
            " prompt.",
            problem="no_prefix",
        )
    return first[:length]
