"""What the model read for an answer: the prompt after the template, token by token.

Promises: the tokens are those that the model is given now for the messages, system prompt and
beginning of then, and it is said whether they are what it was given then (`record` has the
digest). Which part of them a message is, is told only where it is certain: the template is filled a
second time with marks in place of the texts, and what stands between the marks must be found again,
character by character. Leaves to others: the template (the engine), what of a conversation is sent
(`prompt`), showing it (`widgets._chat_inside`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gguf_widgets.core.chat.attach import as_prompt
from gguf_widgets.core.chat.context_summary import in_place_of
from gguf_widgets.core.chat.prompt import prompt_for
from gguf_widgets.core.chat.record import digest_of_tokens
from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, RequestError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.types import Message, PromptToken

if TYPE_CHECKING:
    from gguf_widgets.core.chat.interface import ChatInterface

__all__ = ["Asked", "ReadPrompt", "Span", "prompt_of", "read_for", "spans_of"]

_MARK: Final = "\u27e6gw{}\u27e7"


class Span(NamedTuple):
    """A part of a prompt: the tokens from `start` to before `end`.

    `kind` is the role of the message that it is ("system", "user", "assistant", "tool"),
    "attachment" for the text of attached files, "summary" for that of messages that were left out,
    "begin" for the words that the answer was told to begin with, or "template" for what stands
    around all these.
    """

    kind: str
    start: int
    end: int


class ReadPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt as the model is given it.

    Attributes
    ----------
    tokens : list of PromptToken
        Their texts joined are the prompt.
    spans : list of Span
        What is what, in order, without gaps; empty where it cannot be told.
    as_then : bool or None
        Whether the model was given exactly these tokens for the answer; None if that was not
        recorded.
    """

    tokens: list[PromptToken]
    spans: list[Span]
    as_then: bool | None

    @property
    def text(self) -> str:
        """The whole prompt as text."""
        return "".join(token.text for token in self.tokens)

    @property
    def num_control(self) -> int:
        """How many of the tokens are marks of the template, and no text."""
        return sum(token.is_control for token in self.tokens)

    def counts(self) -> dict[str, int]:
        """Return how many tokens each kind of part has, in the order in which they first come."""
        counts: dict[str, int] = {}
        for span in self.spans:
            counts[span.kind] = counts.get(span.kind, 0) + span.end - span.start
        return counts


class Asked(NamedTuple):
    """What the model was sent for an answer.

    `line` are the messages of the conversation, `messages` what was made of them, `more` what the
    model was told besides (`begin_with`, `template_variables`). `inner` are texts that are part of
    a person's message, each with the `Span.kind` it is.
    """

    answer: ChatMessage
    line: list[ChatMessage]
    messages: list[Message]
    more: dict[str, Any]
    inner: list[tuple[str, str]]


def prompt_of(chat: ChatInterface, message_id: str) -> Asked:
    """Return what the model was sent for an answer of the conversation on screen.

    Raises
    ------
    InvalidValueError
        It is no answer of the conversation on screen.
    """
    messages = chat.messages
    for index, message in enumerate(messages):
        if message.id == message_id and message.role == "assistant":
            return _asked(message, messages[:index], Conversations(chat.store).file)
    raise InvalidValueError(f"{message_id!r:.80} is no answer of this conversation.")


def _asked(
    answer: ChatMessage, line: Sequence[ChatMessage], files: Callable[[str], bytes]
) -> Asked:
    kept = [one for one in line if one.id not in answer.left_out]
    record = answer.record or {}
    sent = prompt_for(kept, answer.system, files, sees=not answer.num_unseen_images).messages
    inner = [("attachment", as_prompt(one.attachments)) for one in kept if one.attachments]
    if answer.summary:
        sent = in_place_of(sent, answer.summary)
        inner.append(("summary", in_place_of([], answer.summary)[0]["content"]))
    more: dict[str, Any] = {}
    if begin := record.get("begin_tokens") or answer.begin:
        more["begin_with"] = begin
    if variables := record.get("template_variables"):
        more["template_variables"] = variables
    return Asked(answer, kept, sent, more, [(kind, text) for kind, text in inner if text])


def read_for(chat: ChatInterface, message_id: str) -> ReadPrompt:
    """Return what the model reads for an answer of the conversation on screen.

    Raises
    ------
    InvalidValueError
        It is no answer of this conversation.
    RequestError
        No model is chosen.
    GgufWidgetsError
        The model's template fails, or the model does not answer.
    """
    asked = prompt_of(chat, message_id)
    if chat.model is None:
        raise RequestError(
            "Choose a model first: its template makes the prompt of the messages.",
            reason="no model",
        )
    # The tools are a part of the prompt.
    model: Any = chat._tool_loop.model_for(chat.model, asked.line)  # noqa: SLF001
    tokens = model.prompt_tokens(asked.messages, **asked.more)
    known = (asked.answer.record or {}).get("prompt")
    return ReadPrompt(
        tokens=tokens,
        spans=spans_of(model, asked.messages, tokens, asked.inner),
        as_then=None if known is None else known == digest_of_tokens(tokens),
    )


def spans_of(
    model: Any,
    messages: Sequence[Message],
    tokens: Sequence[PromptToken],
    inner: Sequence[tuple[str, str]] = (),
) -> list[Span]:
    """Say which part of a prompt each message is; nothing where that is not certain.

    Parameters
    ----------
    model : Model
        Whose `render` fills the template.
    messages : sequence of Message
    tokens : sequence of PromptToken
        What the model makes of the messages, and of the words to begin with behind them.
    inner : sequence of (str, str)
        Kinds and texts of what is part of a person's message (`Asked.inner`).
    """
    numbers = [n for n, one in enumerate(messages) if one["content"] and "parts" not in one]
    marked = [
        Message(**{**one, "content": _MARK.format(n)}) if n in numbers else one
        for n, one in enumerate(messages)
    ]
    try:
        skeleton = model.render(marked)
    except GgufWidgetsError:
        return []  # a template that looks at the texts, and does not like marks
    pieces = _pieces(skeleton, [_MARK.format(n) for n in numbers])
    if pieces is None:
        return []
    for texts in _forms(tokens, skeleton):
        text = "".join(texts)
        found = _found(text, pieces, [messages[n]["content"] for n in numbers])
        if found is None:
            continue
        edges, end = found
        kinds: list[tuple[str, int, int]] = []
        for n, (a, b) in zip(numbers, edges, strict=True):
            role = messages[n]["role"]
            kinds += _with_inner(text, a, b, inner) if role == "user" else [(role, a, b)]
        if end < len(text):
            kinds.append(("begin", end, len(text)))
        return _in_tokens(tokens, texts, kinds)
    return []


def _forms(tokens: Sequence[PromptToken], skeleton: str) -> Iterator[list[str]]:
    """Yield the tokens' texts, and then without what a tokenizer puts in by itself.

    That is the first token of all prompts where the template does not write it, and a blank at the
    beginning of each text.
    """
    texts = [token.text for token in tokens]
    yield texts
    if tokens and tokens[0].is_control and not skeleton.startswith(texts[0]):
        texts = ["", *texts[1:]]
        yield texts
    yield [
        text.removeprefix(" ") if at == 0 or tokens[at - 1].is_control else text
        for at, text in enumerate(texts)
    ]


def _pieces(skeleton: str, marks: Sequence[str]) -> list[str] | None:
    """Return what stands around the marks; None unless each is there once, in order."""
    pieces = []
    rest = skeleton
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            return None
        pieces.append(before)
    return [*pieces, rest]


def _found(
    text: str, pieces: Sequence[str], contents: Sequence[str]
) -> tuple[list[tuple[int, int]], int] | None:
    """Return where the contents stand between the pieces, and where the last piece ends.

    Templates cut blanks off a text, on one side or both; nothing else may be different.
    """
    if not text.startswith(pieces[0]):
        return None
    edges = []
    position = len(pieces[0])
    for content, piece in zip(contents, pieces[1:], strict=True):
        forms = (content, content.strip(), content.rstrip(), content.lstrip())
        for form in forms:
            end = position + len(form)
            if text.startswith(form, position) and text.startswith(piece, end):
                edges.append((position, end))
                position = end + len(piece)
                break
        else:
            return None
    return edges, position


def _with_inner(
    text: str, start: int, end: int, inner: Sequence[tuple[str, str]]
) -> list[tuple[str, int, int]]:
    """Divide a person's message into its own words and the texts that were put into it."""
    places = [(text.find(own, start, end), kind, own) for kind, own in inner]
    found: list[tuple[str, int, int]] = []
    position = start
    for place, kind, own in sorted(places):
        if place < position:
            continue  # it is not here
        found += [("user", position, place), (kind, place, place + len(own))]
        position = place + len(own)
    found.append(("user", position, end))
    return [(kind, a, b) for kind, a, b in found if b > a]


def _in_tokens(
    tokens: Sequence[PromptToken], texts: Sequence[str], kinds: Sequence[tuple[str, int, int]]
) -> list[Span]:
    """Turn parts in characters into parts in tokens.

    A token that lies in two parts, as a line end of the template and a word may be one, counts for
    the message.
    """
    each: list[str] = []
    position = at = 0
    for token, text in zip(tokens, texts, strict=True):
        after = position + len(text)
        while at < len(kinds) and kinds[at][2] <= position:
            at += 1
        # A token without a text is a part of the character that comes with one after it.
        is_in = at < len(kinds) and kinds[at][1] < max(after, position + 1)
        each.append(kinds[at][0] if is_in and not token.is_control else "template")
        position = after
    return list(_runs(each))


def _runs(kinds: Sequence[str]) -> Iterator[Span]:
    start = 0
    for kind, same in itertools.groupby(kinds):
        end = start + len(list(same))
        yield Span(kind, start, end)
        start = end
