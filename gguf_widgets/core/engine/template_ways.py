"""What a chat template can do, found by trying it.

Promises: any template, also a hostile one, is tried for a bounded time; what cannot be found
out is assumed to be as most templates are, so that the real conversation says what is wrong. Leaves
to others: rendering within limits (`template_renderer.py`); putting conversations into the form
that was found (`template_messages.py`).

A template is tried with conversations whose texts are words that no template has. What of them
comes out, and where, tells what it does with a system prompt, with two messages of one role in a
row, with tools.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from gguf_widgets.core.engine.template_messages import CallStyle, Ways, adapted
from gguf_widgets.core.errors import ChatTemplateError
from gguf_widgets.core.types import TemplateFacts

__all__ = ["Found", "find_ways"]

Render = Callable[..., str]
"""Renders messages, with more variables as keywords; raises `ChatTemplateError`."""

_Attempt = Callable[..., str | None]

_USER = {"role": "user", "content": "probeuser"}
_ANSWER = {"role": "assistant", "content": "probeanswer"}
_SYSTEM = {"role": "system", "content": "probesystem"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "probetool",
        "description": "probedescription",
        "parameters": {
            "type": "object",
            "properties": {"probekey": {"type": "string", "description": "a text"}},
            "required": ["probekey"],
        },
    },
}
_RESULT = {"role": "tool", "tool_call_id": "call_1", "name": "probetool", "content": "proberesult"}

# The marks that open a block of thoughts.
_THINKING = (
    "<think>",
    "<thinking>",
    "<thought>",
    "<reasoning>",
    "[THINK]",
    "<seed:think>",
    "<|START_THINKING|>",
    "<|begin_of_thought|>",
    "<|channel|>analysis<|message|>",
)
_SWITCHES = ("enable_thinking", "thinking")
_LEVELS = ("reasoning_effort", ("low", "medium", "high"))

_NO_SYSTEM = (
    "This model's chat template has no place for a system prompt: it is put in front of your first"
    " message instead."
)
_TURNS = (
    "This model's chat template demands that you and the model take turns: messages in a row are"
    " joined into one."
)

# After one of these the template is not tried any more: each costs seconds, or much memory.
_TOO_MUCH = ("time", "memory", "output")

# All trials together; one takes a millisecond, as a rule.
_LIMIT_S = 3.0


class Found(NamedTuple):
    """What was found of a template."""

    ways: Ways
    facts: TemplateFacts


class _StopTryingError(Exception):
    """The template has used up what one may."""


def find_ways(render: Render, source: str) -> Found:
    """Try a template.

    Parameters
    ----------
    render : callable
    source : str
        The template's text: what it does not name it is not tried with.
    """
    trial = _Trial(render, source)
    # What was found until then holds; the conversation itself will say what is wrong.
    with contextlib.suppress(_StopTryingError):
        trial.run()
    return trial.found()


class _Trial:
    def __init__(self, render: Render, source: str) -> None:
        self._render = render
        self._source = source
        self._began = monotonic()
        self._ways = Ways()
        self._writes_tools = False
        self._opens: str | None = None
        self._variable: str | None = None
        self._levels: tuple[str, ...] = ()

    def run(self) -> None:
        plain = self._try([_USER])
        if plain is None or "probeuser" not in plain:
            typed = self._typed([_USER])
            if typed is None or "probeuser" not in typed:
                return  # it does something of its own
            self._ways = Ways(typed=True)
            plain = typed
        render = self._typed if self._ways.typed else self._try
        system = render([_SYSTEM, _USER])
        takes_system = system is not None and "probesystem" in system
        turns = render([_USER, {**_USER, "content": "probesecond"}])
        takes_turns = turns is None
        self._ways = Ways(takes_system, takes_turns, self._ways.typed)
        self._find_thinking(plain, render)
        if "tool" in self._source:
            self._find_tools(render)

    def found(self) -> Found:
        notes = [] if self._ways.takes_system else [_NO_SYSTEM]
        if self._ways.takes_turns:
            notes.append(_TURNS)
        facts = TemplateFacts(
            native_tools=self._writes_tools and self._ways.calls is not None,
            takes_system=self._ways.takes_system,
            takes_turns=self._ways.takes_turns,
            opens_thinking=self._opens is not None,
            thinking_open=self._opens,
            thinking_variable=self._variable,
            thinking_levels=self._levels,
            notes=tuple(notes),
        )
        return Found(self._ways, facts)

    def _find_thinking(self, plain: str, render: _Attempt) -> None:
        end = plain[plain.rfind("probeuser") :].rstrip()
        self._opens = next((mark for mark in _THINKING if end.endswith(mark)), None)
        for name in _SWITCHES:
            if name in self._source:
                on, off = render([_USER], **{name: True}), render([_USER], **{name: False})
                if on is not None and off is not None and on != off:
                    self._variable = name
                    return
        name, levels = _LEVELS
        if name in self._source:
            texts = [render([_USER], **{name: level}) for level in levels]
            if None not in texts and len(set(texts)) == len(levels):
                self._variable, self._levels = name, levels

    def _find_tools(self, render: _Attempt) -> None:
        listed = render([_USER], tools=[_TOOL])
        self._writes_tools = listed is not None and all(
            word in listed for word in ("probetool", "probekey", "probeuser")
        )
        for content, as_text, short in itertools.product(("", None), (False, True), (False, True)):
            style = CallStyle(content, as_text, short)
            if self._takes_calls(style, 1, render):
                several = self._takes_calls(style, 2, render)
                style = CallStyle(content, as_text, short, one_at_a_time=not several)
                self._ways = self._ways.with_calls(style)
                return

    def _takes_calls(self, style: CallStyle, count: int, render: _Attempt) -> bool:
        """Whether calls and their results come out, and what the model said before and after."""
        calls: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        for number in range(1, count + 1):
            arguments = {"probekey": f"probevalue{number}"}
            calls.append({"id": f"call_{number}", "name": "probetool", "arguments": arguments})
            content = f"proberesult{number}"
            results.append({**_RESULT, "tool_call_id": f"call_{number}", "content": content})
        asking: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": calls}
        messages = [_USER, asking, *results, _ANSWER, _USER]
        text = render(adapted(messages, self._ways.with_calls(style)), tools=[_TOOL])
        if text is None:
            return False
        places = [text.find(f"probevalue{number}") for number in range(1, count + 1)]
        places += [text.find(f"proberesult{number}") for number in range(1, count + 1)]
        # Neither a text in a text, nor as Python writes a dict.
        is_data = '\\"probekey' not in text and "'probekey'" not in text
        return min(places) >= 0 and places == sorted(places) and is_data

    def _typed(self, messages: list[dict[str, Any]], **variables: Any) -> str | None:
        def parts(content: Any) -> Any:
            return [{"type": "text", "text": content}] if isinstance(content, str) else content

        return self._try([{**m, "content": parts(m["content"])} for m in messages], **variables)

    def _try(self, messages: list[dict[str, Any]], **variables: Any) -> str | None:
        """Return what the template makes of messages; None if it refuses them."""
        if monotonic() - self._began > _LIMIT_S:
            raise _StopTryingError
        try:
            return self._render(messages, **variables)
        except ChatTemplateError as error:
            if error.details.get("problem") in _TOO_MUCH:
                raise _StopTryingError from None
            return None
