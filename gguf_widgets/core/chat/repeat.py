"""The same answer once more: the same seed and settings, and what is different if it is not.

Promises: the repetition is a new branch with the system prompt, the beginning, the settings and the
seed of then, whatever the chat is set to now; both answers are compared token by token where their
tokens were kept; every recorded thing that differs is named, with what it was and what it is. Where
nothing recorded differs and the text does, it is said what can cause that, and nothing is made up.
Leaves to others: what is recorded (`record`), writing the answer (`interface`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import msgspec

from gguf_widgets.core.chat.alignment import same_model
from gguf_widgets.core.chat.answer import describe
from gguf_widgets.core.chat.differences import Difference, differences
from gguf_widgets.core.chat.tokens import (
    as_percent,
    first_difference,
    probability_of,
    shown_tokens,
    visible,
)
from gguf_widgets.core.chat.types import ChatEvent, ChatMessage, MessageStatus
from gguf_widgets.core.errors import InvalidValueError, RequestError
from gguf_widgets.core.record.differences import DIGITS
from gguf_widgets.core.record.places import excerpt, first_place
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.types import TokenLogprob

if TYPE_CHECKING:
    from gguf_widgets.core.chat.interface import ChatInterface

__all__ = ["Repeat", "compare", "repeat", "start_repeat"]

_LOOK_EVERY_S: Final = 0.5
_PASSING: Final = ("num_cached_tokens", "num_tokens_beside")

_NO_RECORD: Final = (
    "What the first answer was written with was not recorded in full, so it cannot be said what is"
    " different now."
)
_NOTHING: Final = (
    "Nothing that is recorded differs. What is computed in other groups differs in the last digits"
    " all the same: beside other requests, or with another part of the prompt still in memory. With"
    " the setting reproducible=True each answer is computed by itself."
)


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """What came of writing an answer once more; as text, some sentences.

    Attributes
    ----------
    original, message : ChatMessage
        The answer of then, and the new one.
    same : bool
        Whether the texts are the same as far as both were written to their end; where one was
        stopped before, as far as it came.
    stopped : bool
        Whether one of them was stopped, so that only a part could be compared.
    token : int or None
        The index of the first token that differs; None if none does, or the tokens were not kept.
    character : int or None
        The index of the first character that differs.
    differences : tuple of Difference
        What recorded things differ.
    words : str
        All of it in sentences.
    """

    original: ChatMessage
    message: ChatMessage
    same: bool
    words: str
    stopped: bool = False
    token: int | None = None
    character: int | None = None
    differences: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        return self.words

    def __repr__(self) -> str:
        return f"<Repeat: {self.words}>"


def repeat(chat: ChatInterface, message_id: str | None = None) -> Repeat:
    """Write an answer once more, wait for it, and compare; see `ChatInterface.repeat`.

    An interrupt (Ctrl+C, the notebook's Stop) stops the new answer.
    """
    original = _repeatable(chat, message_id)
    ended = threading.Event()
    begun: list[ChatMessage] = []

    def listen(event: ChatEvent) -> None:
        message = event.message
        if message is not None and message.status is not MessageStatus.STREAMING:
            ended.set()

    unsubscribe = chat.subscribe(listen)
    try:
        begun.append(start_repeat(chat, original.id))
        while True:
            # Looked up, too: of a conversation that was left nobody tells.
            ended.wait(_LOOK_EVERY_S)
            ended.clear()
            message = _now(chat, begun[0].id)
            if message is None:
                raise RequestError("The new answer was deleted before it was written.")
            if message.status is not MessageStatus.STREAMING:
                return compare(chat, original, message)
    except KeyboardInterrupt:
        if begun:
            chat.stop()
        raise
    finally:
        unsubscribe()


def _now(chat: ChatInterface, message_id: str) -> ChatMessage | None:
    # On screen first: the store may be one that cannot be written.
    shown = next((one for one in chat.messages if one.id == message_id), None)
    return shown if shown is not None else Conversations(chat.store).message(message_id)


def start_repeat(chat: ChatInterface, message_id: str | None = None) -> ChatMessage:
    """Begin to write an answer once more, as a new branch; return the new answer, still empty.

    Raises
    ------
    InvalidValueError
        It is no answer of this conversation, or none that a model has written to an end.
    RequestError, StoreError
        As in `ChatInterface.start`.
    """
    original = _repeatable(chat, message_id)
    settings = original.sampling.to_dict() if original.sampling is not None else {}
    begin: str | list[int] = original.begin
    tokens = (original.record or {}).get("begin_tokens")
    if tokens and chat.model is not None and same_model(original.model, describe(chat.model)):
        begin = list(tokens)  # another model knows other tokens by these numbers
    return chat.regenerate(
        original.id,
        system=original.system or "",
        begin=begin,
        **{**settings, "seed": original.seed},
    )


def compare(chat: ChatInterface, original: ChatMessage, message: ChatMessage) -> Repeat:
    """Compare an answer with the one that it repeats."""
    then, now = chat.tokens(original.id), chat.tokens(message.id)
    stopped = any(one.status is not MessageStatus.COMPLETE for one in (original, message))
    same, character = _compared(original, message)
    token: int | None = None
    if not same and then is not None and now is not None:
        token = first_difference(then, now)
    differing = tuple(differences(original, message))
    parts = [
        _headline(original, message, same=same, stopped=stopped, tokens=now),
        "" if same else _place(chat, original, message, character, token, then, now),
        _reasons(original, message, differing, same=same),
    ]
    return Repeat(
        original=original,
        message=message,
        same=same,
        stopped=stopped,
        token=token,
        character=character,
        differences=differing,
        words=" ".join(part for part in parts if part),
    )


# -- which answer ----------------------------------------------------------------------------------


def _repeatable(chat: ChatInterface, message_id: str | None) -> ChatMessage:
    answers = [m for m in chat.messages if m.role == "assistant" and message_id in (None, m.id)]
    if not answers:
        raise InvalidValueError(
            "There is no answer to repeat in this conversation."
            if message_id is None
            else f"{message_id!r:.80} is no answer of this conversation."
        )
    message = answers[-1]
    if message.status is MessageStatus.STREAMING:
        raise InvalidValueError("This answer is still being written. Wait for it, or stop it.")
    if message.edited:
        raise InvalidValueError(
            "You changed this answer yourself, so there is nothing to repeat. Repeat the answer"
            " before the change."
        )
    if message.seed is None:
        raise InvalidValueError(
            "This answer did not come to an end, and so its seed is not known. Answer again"
            " instead."
        )
    return message


# -- the two texts ---------------------------------------------------------------------------------


def _compared(original: ChatMessage, message: ChatMessage) -> tuple[bool, int | None]:
    """Return whether the texts are the same, and the index of the first character that differs."""
    a, b = original.content, message.content
    length = first_place(a, b)
    if length is None:
        return True, None
    ended_first = original if len(a) < len(b) else message
    is_part = length == min(len(a), len(b)) and ended_first.status is not MessageStatus.COMPLETE
    return (True, None) if is_part else (False, length)


def _headline(
    original: ChatMessage,
    message: ChatMessage,
    *,
    same: bool,
    stopped: bool,
    tokens: list[TokenLogprob] | None,
) -> str:
    if message.status is MessageStatus.FAILED:
        said = message.error["message"] if message.error else ""
        return f"It could not be written again: {said}"
    if not same:
        return "Another answer."
    if stopped and original.content != message.content:
        which = "first" if original.status is not MessageStatus.COMPLETE else "new"
        return f"The same answer, as far as it goes: the {which} one was stopped."
    if tokens:
        s = "" if len(tokens) == 1 else "s"
        return f"The same answer, to the last of {len(tokens):,} token{s}."
    return "The same answer, to the last character."


def _place(
    chat: ChatInterface,
    original: ChatMessage,
    message: ChatMessage,
    character: int | None,
    token: int | None,
    then: list[TokenLogprob] | None,
    now: list[TokenLogprob] | None,
) -> str:
    if message.status is MessageStatus.FAILED or character is None:
        return ""
    if token is not None and then is not None and now is not None:
        before = _token_at(then, token, original.content, chat.token_start(original.id))
        after = _token_at(now, token, message.content, chat.token_start(message.id))
        where = f"It differs from token {token + 1:,} on: {before} then, {after} now."
        return f"{where}{_close_call(then, now, token)}"
    before, after = excerpt(original.content, character), excerpt(message.content, character)
    return f"It differs from character {character + 1:,} on: {before} then, {after} now."


def _token_at(tokens: list[TokenLogprob], index: int, text: str, start: int) -> str:
    if index >= len(tokens):
        return "the end"
    shown = shown_tokens(tokens, text, start)[index]
    chance = as_percent(probability_of(tokens[index]))
    return f"“{visible(shown.text or tokens[index].text)}” ({chance})"


def _close_call(then: list[TokenLogprob], now: list[TokenLogprob], index: int) -> str:
    """Say how close the two tokens were, by what the first answer recorded."""
    if index >= len(then) or index >= len(now):
        return ""
    other = next((c for c in then[index].top if c.token == now[index].token), None)
    if other is None:
        return ""
    return f" The first time the token of now had {as_percent(probability_of(other))}."


def _reasons(
    original: ChatMessage, message: ChatMessage, found: tuple[Difference, ...], *, same: bool
) -> str:
    if same:  # what is never the same twice is not worth a word then
        said = " ".join(one.words for one in found if one.name not in _PASSING)
        return f"That although something differs: {said}" if said else ""
    said = " ".join(one.words for one in found)
    if message.status is MessageStatus.FAILED:
        return said
    if not original.record or not message.record:
        return f"{said} {_NO_RECORD}".strip()
    if not found:
        return _NOTHING
    return f"{said} {DIGITS}" if all(one.only_digits for one in found) else said
