"""Which tokens of a conversation are the same whatever comes after it.

Promises: the tokens returned are the beginning of the prompt of any conversation that goes on from
the one given, so that a state computed for them serves all of these. Leaves to others: what
a template makes of messages, and a vocabulary of text.

It is found by trying: the conversation is continued in several ways, each is made into tokens as it
would be for a request, and what they all begin with is the answer. So a template may do what it
likes with the messages (move the system prompt into the first question, leave thoughts out of
earlier answers). At the end of a text the last token is often not settled: "the end" may go on as
"the ending", with other tokens. The continuations begin with one of each kind of character that
vocabularies join with what is before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gguf_widgets.core.engine.prefix_tree import common_length
from gguf_widgets.core.errors import StateFileError
from gguf_widgets.core.types import Message

__all__ = ["conversation_prefix", "text_prefix"]

_CONTINUATIONS = ("e", " a", "1", "\n", ".", "  ", "é", "中")


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
    return _common(tokenize(text), (tokenize(text + more) for more in _CONTINUATIONS))


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
        text = last["content"]
        first = tokenize(list(messages))
    else:
        before, text = list(messages), ""
        first = tokenize([*before, Message(role="user", content="Hello")])
    return _common(
        first,
        (tokenize([*before, Message(role="user", content=text + more)]) for more in _CONTINUATIONS),
    )


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
