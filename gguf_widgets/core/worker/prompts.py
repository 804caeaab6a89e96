"""From a request's prompt to the tokens the model is given.

Promises: what is counted, shown and sent is made in one place, so it is the same; every part of it
that a person wrote is plain text. Templates are compiled once and kept. Any thread may call this
while the engine steps. Leaves to others: templates (`core.engine.chat_template`), generating.
"""

from __future__ import annotations

import codecs
import threading
from typing import Any, NamedTuple

import msgspec

from gguf_widgets.core.engine.chat_template import ChatTemplate
from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.image_prompt import MARK
from gguf_widgets.core.engine.prompt import ControlTexts, PromptPart
from gguf_widgets.core.engine.request_check import check_tokens
from gguf_widgets.core.errors import (
    ChatTemplateError,
    InvalidValueError,
    UnsupportedByModelError,
)
from gguf_widgets.core.images import Image, cannot_see
from gguf_widgets.core.types import (
    ImagePart,
    ImageSpan,
    Message,
    PromptToken,
    SamplingSettings,
    TemplateFacts,
)
from gguf_widgets.core.worker.prompt import Prompt

__all__ = ["MAX_SHOWN_BYTES", "MAX_SHOWN_TOKENS", "MadePrompt", "Prompts", "check_can_be_shown"]

# A client that sends a new template with every request must not fill the memory.
_MAX_TEMPLATES = 16

MAX_SHOWN_TOKENS = 500_000
MAX_SHOWN_BYTES = 20 * 2**20
"""Of a prompt that is shown: hardly a model has a longer context, and it fits into one message."""


class MadePrompt(NamedTuple):
    """A prompt as text and as tokens, with the images among these.

    `begin` and `num_begin_tokens` are those of `GenerateRequest`.
    """

    text: str
    tokens: list[int]
    images: tuple[ImageSpan, ...] = ()
    begin: bytes = b""
    num_begin_tokens: int = 0


class Prompts:
    """Makes the prompts of one engine.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._templates: dict[str | None, ChatTemplate] = {}
        self._lock = threading.Lock()
        self._control = ControlTexts(engine.backend.vocabulary.control_texts)

    def make(self, prompt: Prompt) -> MadePrompt:
        """Return what a prompt becomes.

        Raises
        ------
        InvalidValueError
            For an empty conversation, or a token that does not exist.
        UnsupportedByModelError, ImageError
            For an image, where there is no projector, or one that cannot be read; for tools, where
            the chat template has no place for them.
        ChatTemplateError
            If the chat template fails.
        """
        if prompt.tokens is not None:
            made = self._of_tokens(prompt, prompt.tokens)
        elif prompt.text is not None:
            made = self._of_text(prompt, prompt.text)
        else:
            made = self._of_messages(prompt)
        if not prompt.begin_tokens:
            return made
        begin = prompt.begin_tokens
        check_tokens(begin, self._engine.backend.vocabulary.n_vocab)
        return MadePrompt(
            made.text + self._engine.detokenize(begin, special=True),
            [*made.tokens, *begin],
            made.images,
            b"".join(map(self._engine.backend.token_to_piece, begin)),
            len(begin),
        )

    def _of_tokens(self, prompt: Prompt, tokens: list[int]) -> MadePrompt:
        begin = prompt.begin_text
        text = self._engine.detokenize(tokens, special=True)
        more = self._engine.tokenize(begin, parse_special=False) if begin else []
        return MadePrompt(text + begin, [*tokens, *more], begin=begin.encode())

    def _of_text(self, prompt: Prompt, text: str) -> MadePrompt:
        begin = prompt.begin_text
        parts = self._control.followed([PromptPart(text)], begin)
        return MadePrompt(text + begin, self._engine.tokenize_prompt(parts), begin=begin.encode())

    def _of_messages(self, prompt: Prompt) -> MadePrompt:
        if not prompt.messages:
            raise InvalidValueError("The conversation is empty: there is nothing to answer.")
        template = self._template_for(prompt)
        if prompt.tools and not template.facts.native_tools:
            raise UnsupportedByModelError(
                "This model's chat template has no place for tools (its template_facts say"
                " native_tools=False). Describe the tools in the system prompt, or leave them out.",
                problem="tools",
            )
        how: dict[str, Any] = {
            "tools": prompt.tools,
            "variables": prompt.variables,
            "begin": prompt.begin_text,
        }
        begin = prompt.begin_text.encode()
        if prompt.has_images:
            if self._engine.backend.vision is None:
                raise cannot_see()
            seen = template.render_with_images(_opened(prompt.messages), **how)
            text = "".join(part.text if isinstance(part, PromptPart) else MARK for part in seen)
            return MadePrompt(text, *self._engine.tokenize_with_images(seen), begin=begin)
        parts = template.render_parts(prompt.messages, **how)
        text = "".join(part.text for part in parts)
        return MadePrompt(text, self._engine.tokenize_prompt(parts), begin=begin)

    def show(self, prompt: Prompt) -> list[PromptToken]:
        """Return what a prompt becomes token by token; errors as for `make`."""
        made = self.make(prompt)
        check_can_be_shown(made, by_tokens=True)
        spans = {span.start: span for span in made.images}
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        shown: list[PromptToken] = []
        place = 0
        while place < len(made.tokens):
            span = spans.get(place)
            if span is not None:
                shown.append(PromptToken(-1, _image_text(span)))
                place = span.end
                continue
            token = made.tokens[place]
            piece, is_control = self._piece(token)
            place += 1
            is_last = place == len(made.tokens) or place in spans
            shown.append(PromptToken(token, decode(piece, is_last), is_control))
        return shown

    def _piece(self, token: int) -> tuple[bytes, bool]:
        """Return a token's bytes, and whether it is a control token, whose text these are then."""
        piece = self._engine.backend.token_to_piece(token)
        if piece:
            return piece, False
        text = self._engine.detokenize([token], special=True)
        return text.encode(), bool(text)

    def sampling_for(self, prompt: Prompt, sampling: SamplingSettings) -> SamplingSettings:
        """Return the sampling settings, with the stop strings that the chat template needs."""
        if prompt.messages is None:
            return sampling
        extra = self._template(prompt.chat_template).stop
        return sampling.replace(stop=(*sampling.stop, *extra)) if extra else sampling

    def facts(self, chat_template: str | None) -> TemplateFacts:
        """Say what a chat template can do; None is the model's own."""
        facts = self._template(chat_template).facts
        if chat_template is None and self._tool_template() is not None:
            return msgspec.structs.replace(facts, native_tools=True)
        return facts

    def begin_text(self, text: str, tokens: list[int]) -> str:
        """Return what a reply begins with as text, also where it could not begin with that."""
        backend = self._engine.backend
        known = (token for token in tokens if 0 <= token < backend.vocabulary.n_vocab)
        return text + b"".join(map(backend.token_to_piece, known)).decode("utf-8", "replace")

    def template_notes(self) -> list[str]:
        """Try the model's own template; say what is wrong with it, or special about it."""
        template = self._template(None)
        try:
            template.check()
        except ChatTemplateError as error:
            return [error.message]
        return [*([template.note] if template.note else []), *template.facts.notes]

    def close(self) -> None:
        """End the templates' processes."""
        with self._lock:
            for template in self._templates.values():
                template.close()

    def _template_for(self, prompt: Prompt) -> ChatTemplate:
        """Return the template of a conversation: with tools it may be another one of the model."""
        if prompt.chat_template is None and _has_tools(prompt):
            return self._tool_template() or self._template(None)
        return self._template(prompt.chat_template)

    def _tool_template(self) -> ChatTemplate | None:
        """Return the model's own template for tools, if it has one and needs it."""
        source = self._engine.backend.tool_template
        if source is None or self._template(None).facts.native_tools:
            return None
        template = self._template(source)
        return template if template.facts.native_tools else None

    def _template(self, override: str | None) -> ChatTemplate:
        source = override if override is not None else self._engine.backend.chat_template
        with self._lock:
            template = self._templates.get(source)
            if template is None:
                vocabulary = self._engine.backend.vocabulary
                template = ChatTemplate(
                    source,
                    vocabulary.bos_text,
                    vocabulary.eos_text,
                    control_texts=vocabulary.control_texts,
                )
                if len(self._templates) >= _MAX_TEMPLATES:
                    # Not closed here: it may be at work. Its process ends when nobody holds it.
                    self._templates.pop(next(iter(self._templates)))
                self._templates[source] = template
        return template


def check_can_be_shown(made: MadePrompt, *, by_tokens: bool) -> None:
    """Refuse to answer with a prompt that is too long for one message.

    Raises
    ------
    InvalidValueError
    """
    size = len(made.text.encode())
    if size > MAX_SHOWN_BYTES or (by_tokens and len(made.tokens) > MAX_SHOWN_TOKENS):
        raise InvalidValueError(
            f"The prompt is {len(made.tokens):,} tokens and {size:,} bytes long; at most"
            f" {MAX_SHOWN_TOKENS:,} tokens and {MAX_SHOWN_BYTES:,} bytes can be shown.",
            num_tokens=len(made.tokens),
        )


def _has_tools(prompt: Prompt) -> bool:
    return bool(prompt.tools) or any(
        message["role"] == "tool" or "tool_calls" in message for message in prompt.messages or ()
    )


def _image_text(span: ImageSpan) -> str:
    part = f", part {span.part + 1}" if span.part else ""
    tokens = "token" if span.num_tokens == 1 else "tokens"
    return f"[image {span.number + 1}{part}: {span.num_tokens:,} {tokens}]"


def _opened(messages: list[Message]) -> list[dict[str, Any]]:
    """Return messages whose contents are texts and images; each image is judged, again."""
    opened = []
    for message in messages:
        one: dict[str, Any] = dict(message)
        parts = one.pop("parts", None)
        if parts is not None:
            one["content"] = [
                Image(part.data) if isinstance(part, ImagePart) else part.text for part in parts
            ]
        opened.append(one)
    return opened
