"""A conversation in, the text of a prompt out, by the model's own template.

Promises: whatever a template does, the caller gets a text or a `ChatTemplateError` that names what
happened, within a bounded time. Leaves to others: running the template, in a process of its own
with limits (`template_renderer.py`), and cutting the text into tokens (`prompt.py`).

**A person's text is not control tokens.** Templates put a message between control tokens such as
``<|im_end|>``; read naively, the same characters inside a message would become that token and could
end the turn or forge another one. `render_parts` therefore replaces them in the messages by single
private-use characters, one for each control text, renders, and puts them back in parts of their own
which are to be read as plain text. The template's own output is not affected, whatever it does with
the message (trim, split, measure). What this does not cover: a control text that only comes about
because two messages are joined with nothing between them. An image is such a character, too, until
the text has been rendered.

Any thread may call a `ChatTemplate`; one call runs at a time.
"""

from __future__ import annotations

import itertools
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gguf_widgets.core.engine.prompt import PromptPart
from gguf_widgets.core.engine.template_renderer import TemplateRenderer
from gguf_widgets.core.errors import ChatTemplateError, ImageError, InvalidValueError
from gguf_widgets.core.images import Image

__all__ = ["CHATML", "ChatTemplate"]

CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
"""The plain template used where a model has none of its own, or where "chatml" is asked for."""

_SPARE = range(0xF0000, 0xFFFFE)  # private-use characters: no text has a use for them


class ChatTemplate:
    """Renders conversations.

    Parameters
    ----------
    source : str or None
        Jinja source; None or "chatml" is `CHATML`.
    bos_token, eos_token : str
        What the template sees under these names.
    control_texts : sequence of str
        How the model's control tokens are written.

    Attributes
    ----------
    note : str or None
        What a person should know: that the model has no template of its own.
    stop : tuple of str
        Strings that must end a reply besides the model's own end token: with `CHATML`, its marks,
        if the model does not know them as tokens.
    """

    def __init__(
        self,
        source: str | None,
        bos_token: str = "",
        eos_token: str = "",
        *,
        control_texts: Sequence[str] = (),
    ) -> None:
        self.note: str | None = None
        if source is None:
            self.note = (
                "This model has no chat template, so a plain one (ChatML) is used."
                " Its answers may be worse than its training allows."
            )
        plain = source is None or source == "chatml"
        self.source = CHATML if source is None or plain else source
        marks = ("<|im_end|>", "<|im_start|>")
        self.stop = tuple(m for m in marks if m not in control_texts) if plain else ()
        self._variables = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "tools": None,
            "documents": None,
        }
        longest_first = sorted(control_texts, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._renderer = TemplateRenderer()
        weakref.finalize(self, self._renderer.close)

    def render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt's text.

        Parameters
        ----------
        messages : sequence of mappings
            Each with "role" and "content", both str.
        add_generation_prompt : bool, default True
            End with the beginning of the model's turn.

        Raises
        ------
        InvalidValueError
            For no messages, or messages that are not as above.
        ChatTemplateError
            If the template is wrong, refuses the messages, or exceeds a limit.
        """
        return self._render(_checked(messages), add_generation_prompt)

    def render_parts(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> list[PromptPart]:
        """Return the prompt in parts, in which a person's text is never a control token.

        Parameters and errors are those of `render`; the joined texts are what it returns.
        """
        return self._in_parts(_checked(messages), add_generation_prompt)

    def render_with_images(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> list[PromptPart | Image]:
        """Do what `render_parts` does for messages of which some have images; these come between.

        Parameters
        ----------
        messages : sequence of mappings
            "content" is a str, or a list of str and `Image`.
        add_generation_prompt : bool, default True

        Raises
        ------
        ChatTemplateError
            Also if the template leaves an image out, or writes it twice: it cannot do with images.
        ImageError
            There are tens of thousands of images.
        """
        images = [one for m in messages for one in _items(m["content"]) if isinstance(one, Image)]
        words = [one for m in messages for one in _items(m["content"]) if isinstance(one, str)]
        taken = {*"".join(words), *self.source}
        marks = list(itertools.islice((c for c in map(chr, _SPARE) if c not in taken), len(images)))
        if len(marks) < len(images):
            raise ImageError(
                f"The conversation has {len(images):,} images; at most {len(marks):,} can be sent.",
                problem="size",
            )
        of_images = set(marks)
        failure: ChatTemplateError | None = None
        for typed in (False, True):
            try:
                parts = self._in_parts(_marked(messages, marks, typed=typed), add_generation_prompt)
            except ChatTemplateError as error:
                failure = failure or error
                continue
            text = "".join(part.text for part in parts)
            if [char for char in text if char in of_images] == marks:
                return list(_with_images(parts, dict(zip(marks, images, strict=True))))
        raise failure or ChatTemplateError(
            "The model's chat template does not take over the images: it leaves one out, or writes"
            ' it twice. You can load the model with chat_template="chatml" to use a plain one.',
            problem="images",
        )

    def _in_parts(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool
    ) -> list[PromptPart]:
        everything = "".join(value for message in messages for value in _strings(message))
        found = set(self._control.findall(everything))
        if not found:
            return [PromptPart(self._render(messages, add_generation_prompt))]
        taken = {*everything, *self.source}
        spare = (chr(code) for code in _SPARE if chr(code) not in taken)
        stand_ins = dict(zip(found, spare, strict=False))

        def hide(value: Any) -> Any:
            if isinstance(value, str):
                return self._control.sub(lambda match: stand_ins[match[0]], value)
            if isinstance(value, list):
                return [hide(one) for one in value]
            if isinstance(value, dict):
                return {key: hide(one) for key, one in value.items()}
            return value

        text = self._render([hide(message) for message in messages], add_generation_prompt)
        originals = {stand_in: original for original, stand_in in stand_ins.items()}
        pieces = re.split(f"([{''.join(originals)}])", text)
        return [
            PromptPart(originals[piece], parse_special=False)
            if piece in originals
            else PromptPart(piece)
            for piece in pieces
            if piece
        ]

    def check(self) -> None:
        """Render one short conversation, so that a template that cannot work is known early.

        Raises
        ------
        ChatTemplateError
        """
        self.render([{"role": "user", "content": "Hello"}])

    def close(self) -> None:
        """End the renderer; the next call would start it again."""
        self._renderer.close()

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        context = {
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            **self._variables,
        }
        return self._renderer.render(self.source, context)


def _checked(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    checked = [dict(message) for message in messages]
    if not checked:
        raise InvalidValueError("There is no message to answer.")
    for number, message in enumerate(checked, start=1):
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise InvalidValueError(
                    f"Message {number} needs a {key!r} that is a str;"
                    f" it is {message.get(key)!r:.50}."
                )
        for value in _strings(message):
            if not _is_unicode(value):
                raise InvalidValueError(
                    f"Message {number} holds half a character (a lone surrogate); remove it."
                )
    return checked


def _strings(value: Any) -> list[str]:
    """Return every text in a message."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | list):
        return []
    return [text for item in items for text in _strings(item)]


def _items(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]


def _marked(
    messages: Sequence[Mapping[str, Any]], marks: Iterable[str], *, typed: bool
) -> list[dict[str, Any]]:
    """Return messages that have a mark in place of each image.

    The parts of one are lines of one text, as llama.cpp's server has it; `typed` leaves them apart,
    for the templates that want it so.
    """
    following = iter(marks)
    result = []
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            texts = [next(following) if isinstance(one, Image) else one for one in content]
            content = (
                [{"type": "text", "text": text} for text in texts] if typed else "\n".join(texts)
            )
        elif typed:
            content = [{"type": "text", "text": content}]
        result.append({**message, "content": content})
    return result


def _with_images(
    parts: Iterable[PromptPart], images: Mapping[str, Image]
) -> Iterator[PromptPart | Image]:
    mark = re.compile(f"([{''.join(images)}])")
    for part in parts:
        for piece in mark.split(part.text):
            if piece in images:
                yield images[piece]
            elif piece:
                yield PromptPart(piece, part.parse_special)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
