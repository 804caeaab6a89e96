"""A conversation in, the text of a prompt out, by the model's own template.

Promises: whatever a template does, the caller gets a text or a `ChatTemplateError` that names what
happened, within a bounded time. Leaves to others: running the template, in a process of its own
with limits (`template_renderer.py`), and cutting the text into tokens (`prompt.py`).

**A person's text is not control tokens.** Templates put a message between control tokens such as
``<|im_end|>``; read naively, the same characters inside a message would become that token and could
end the turn or forge another one. `render_parts` therefore replaces them in the messages by single
private-use characters, one for each control text, renders, and puts them back in parts of their own
which are to be read as plain text. The template's own output is not affected, whatever it does with
the message (trim, split, measure). The same holds for tools, their calls and results, and for the
template's variables. What this does not cover: a control text that only comes about because two
messages are joined with nothing between them. An image is such a character, too, until the text has
been rendered.

**A template is given what it takes.** What that is was tried out before (`template_ways.py`): a
system prompt goes in front of the person's first message where there is no place for one, and so
on. `facts` says so.

Any thread may call a `ChatTemplate`; one call runs at a time.
"""

from __future__ import annotations

import itertools
import json
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gguf_widgets.core.engine.prompt import ControlTexts, PromptPart
from gguf_widgets.core.engine.template_messages import adapted
from gguf_widgets.core.engine.template_renderer import TemplateRenderer
from gguf_widgets.core.engine.template_ways import Found, find_ways
from gguf_widgets.core.errors import ChatTemplateError, ImageError, InvalidValueError
from gguf_widgets.core.images import Image
from gguf_widgets.core.types import TemplateFacts

__all__ = ["CHATML", "Asked", "ChatTemplate"]

CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
"""The plain template used where a model has none of its own, or where "chatml" is asked for."""

_SPARE = range(0xF0000, 0xFFFFE)  # private-use characters: no text has a use for them

# Of a prompt's end, to see that two prompts end alike; before it they may differ, as where a system
# prompt stands in the last message of the person.
_LOOK_BACK = 8


class Asked(NamedTuple):
    """How a conversation is to be rendered.

    `add_generation_prompt`: end with the beginning of the model's turn. `tools` and `variables` are
    what the template sees under ``tools`` and under the variables' names. The model's turn begins
    with `begin`, a person's text.
    """

    add_generation_prompt: bool = True
    tools: Sequence[Mapping[str, Any]] = ()
    variables: Mapping[str, Any] = {}
    begin: str = ""


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
        }
        self._control = ControlTexts(control_texts)
        self._found: tuple[str, Found] | None = None
        self._renderer = TemplateRenderer()
        weakref.finalize(self, self._renderer.close)

    @property
    def facts(self) -> TemplateFacts:
        """What the template can do, tried out when it is first asked for."""
        return self._find().facts

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        **how: Any,
    ) -> str:
        """Return the prompt's text.

        Parameters
        ----------
        messages : sequence of mappings
            Each with "role" and "content", both str; see `types.Message`.
        add_generation_prompt : bool, default True
            End with the beginning of the model's turn.
        **how
            The other fields of `Asked`.

        Raises
        ------
        InvalidValueError
            For no messages, or messages that are not as above.
        ChatTemplateError
            If the template is wrong, refuses the messages, or exceeds a limit.
        """
        parts = self.render_parts(messages, add_generation_prompt, **how)
        return "".join(part.text for part in parts)

    def render_parts(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        **how: Any,
    ) -> list[PromptPart]:
        """Return the prompt in parts, in which a person's text is never a control token.

        Parameters and errors are those of `render`; the joined texts are what it returns.
        """
        asked = Asked(add_generation_prompt, **how)
        suited = adapted(_checked(messages), self._find().ways)
        if self._find().ways.typed:
            suited = _marked(suited, (), typed=True)
        parts = self._in_parts(suited, asked)
        return self._begun(parts, suited, asked) if asked.begin else parts

    def render_with_images(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        **how: Any,
    ) -> list[PromptPart | Image]:
        """Do what `render_parts` does for messages of which some have images; these come between.

        Parameters
        ----------
        messages : sequence of mappings
            "content" is a str, or a list of str and `Image`.
        add_generation_prompt : bool, default True
        **how
            As for `render`.

        Raises
        ------
        ChatTemplateError
            Also if the template leaves an image out, or writes it twice: it cannot do with images.
        ImageError
            There are tens of thousands of images.
        """
        asked = Asked(add_generation_prompt, **how)
        suited = adapted(messages, self._find().ways)
        images = [one for m in suited for one in _items(m["content"]) if isinstance(one, Image)]
        taken = {*"".join(_strings(suited)), *self._texts_of(asked), *self.source}
        marks = list(itertools.islice((c for c in map(chr, _SPARE) if c not in taken), len(images)))
        if len(marks) < len(images):
            raise ImageError(
                f"The conversation has {len(images):,} images; at most {len(marks):,} can be sent.",
                problem="size",
            )
        of_images = set(marks)
        failure: ChatTemplateError | None = None
        for typed in (False, True):
            marked = _marked(suited, marks, typed=typed)
            try:
                parts = self._in_parts(marked, asked)
            except ChatTemplateError as error:
                failure = failure or error
                continue
            text = "".join(part.text for part in parts)
            if [char for char in text if char in of_images] == marks:
                if asked.begin:
                    parts = self._begun(parts, marked, asked)
                return list(_with_images(parts, dict(zip(marks, images, strict=True))))
        raise failure or ChatTemplateError(
            "The model's chat template does not take over the images: it leaves one out, or writes"
            ' it twice. You can load the model with chat_template="chatml" to use a plain one.',
            problem="images",
        )

    def _begun(
        self, parts: list[PromptPart], messages: list[dict[str, Any]], asked: Asked
    ) -> list[PromptPart]:
        """Let the model's turn begin with a person's text.

        Some templates have a blank between the beginning of the turn and what the model says, as in
        ``[/INST] Hello``, which the model itself would write: then it comes first.
        """
        mark = next(char for char in map(chr, _SPARE) if char not in self.source)
        content: Any = [{"type": "text", "text": mark}] if self._find().ways.typed else mark
        answered = [*messages, {"role": "assistant", "content": content}]
        blank = ""
        if not asked.begin[0].isspace():
            try:
                text = self._render(answered, asked._replace(add_generation_prompt=False))
            except ChatTemplateError:
                text = ""  # it takes no answer here: so there is nothing to be learnt from it
            before, found, _ = text.rpartition(mark)
            end = "".join(part.text for part in parts)[-_LOOK_BACK:]
            lead = before[len(before.rstrip()) :]
            if found and lead and before.endswith(end + lead):
                blank = lead
        return self._control.followed(parts, blank + asked.begin)

    def _in_parts(self, messages: list[dict[str, Any]], asked: Asked) -> list[PromptPart]:
        everything = "\n".join([*_strings(messages), *self._texts_of(asked)])
        found = set(self._control.pattern.findall(everything))
        if not found:
            return [PromptPart(self._render(messages, asked))]
        taken = {*everything, *self.source}
        spare = (chr(code) for code in _SPARE if chr(code) not in taken)
        stand_ins = dict(zip(found, spare, strict=False))

        def hide(value: Any) -> Any:
            if isinstance(value, str):
                return self._control.pattern.sub(lambda match: stand_ins[match[0]], value)
            if isinstance(value, list | tuple):
                return [hide(one) for one in value]
            if isinstance(value, dict):
                return {hide(key): hide(one) for key, one in value.items()}
            return value

        hidden = asked._replace(tools=hide(asked.tools), variables=hide(dict(asked.variables)))
        text = self._render(hide(messages), hidden)
        originals = {stand_in: original for original, stand_in in stand_ins.items()}
        # As JSON may have them where a template wants plain ASCII.
        originals |= {json.dumps(one)[1:-1]: original for one, original in originals.items()}
        pieces = re.split(f"({'|'.join(map(re.escape, originals))})", text)
        return [
            PromptPart(originals[piece], parse_special=False)
            if piece in originals
            else PromptPart(piece)
            for piece in pieces
            if piece
        ]

    def _texts_of(self, asked: Asked) -> list[str]:
        return [*_strings(list(asked.tools)), *_strings(asked.variables)]

    def _find(self) -> Found:
        """Try the template, once."""
        if self._found is None or self._found[0] != self.source:
            source = self.source

            def render(messages: list[dict[str, Any]], **variables: Any) -> str:
                tools = variables.pop("tools", ())
                return self._render(messages, Asked(tools=tools, variables=variables))

            self._found = source, find_ways(render, source)
        return self._found[1]

    def check(self) -> None:
        """Render one short conversation, so that a template that cannot work is known early.

        Raises
        ------
        ChatTemplateError
        """
        self._render([{"role": "user", "content": "Hello"}], Asked())

    def close(self) -> None:
        """End the renderer; the next call would start it again."""
        self._renderer.close()

    def _render(self, messages: list[dict[str, Any]], asked: Asked) -> str:
        context = {
            "documents": None,
            **asked.variables,
            **self._variables,
            "messages": messages,
            "add_generation_prompt": asked.add_generation_prompt,
        }
        if asked.tools:
            context["tools"] = list(asked.tools)
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
    """Return every text in plain data, those of keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _strings(item)]
    return []


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
        if content is None:
            pass  # beside the calls of tools
        elif isinstance(content, list):
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
