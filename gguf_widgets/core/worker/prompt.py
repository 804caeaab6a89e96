"""What a request is to continue, as it crosses the socket.

Promises: plain data; `check` refuses what is contradictory. Leaves to others: turning it into
tokens (`prompts`, in the worker).
"""

from __future__ import annotations

from typing import Any

import msgspec

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.types import ImagePart, Message

__all__ = ["Prompt"]


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be continued: exactly one of raw text, tokens or a conversation.

    `chat_template` replaces the model's own template for `messages` ("chatml" is the built-in one).
    The images in them are the bytes of their files; the worker decodes them. `tools` (schemas, as
    OpenAI's interface has them) and `variables` are handed to the template.

    The reply begins with `begin_text`, which is plain text, or with `begin_tokens`. Its schema or
    grammar covers these too, unless `constrain_begin` is False: then what is generated is what has
    to follow it.
    """

    text: str | None = None
    tokens: list[int] | None = None
    messages: list[Message] | None = None
    chat_template: str | None = None
    tools: list[dict[str, Any]] = []
    variables: dict[str, Any] = {}
    begin_text: str = ""
    begin_tokens: list[int] = []
    constrain_begin: bool = True

    @property
    def has_images(self) -> bool:
        """Whether any message has images."""
        return any(
            isinstance(part, ImagePart)
            for message in self.messages or ()
            for part in message.get("parts", ())
        )

    def check(self) -> None:
        """Refuse what is contradictory.

        Raises
        ------
        InvalidValueError
            Unless exactly one of the three is given, and at most one beginning.
        """
        given = [part for part in (self.text, self.tokens, self.messages) if part is not None]
        if len(given) != 1:
            raise InvalidValueError(
                "A prompt is one of text, tokens or messages; "
                f"{len(given) or 'none'} of them were given."
            )
        if self.begin_text and self.begin_tokens:
            raise InvalidValueError(
                "What a reply begins with is a text or a list of tokens; both were given."
            )
        if self.messages is None and (self.tools or self.variables):
            raise InvalidValueError(
                "Tools and template variables are for a chat template, and this prompt is no"
                " conversation: leave them out."
            )
