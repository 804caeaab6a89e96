"""How a model's calls of tools are written, found from its chat template.

Templates write calls in many ways: ``<tool_call>{"name": ..., "arguments": ...}</tool_call>``
(Hermes, Qwen, Granite 4, SmolLM3), ``[TOOL_CALLS] [{...}, {...}]`` (Mistral), bare JSON with
"parameters" (Llama 3), ``<|tool_call|>[...]`` (Phi 4), the name and then the arguments alone
(DeepSeek), and so on. Instead of a list of families, a conversation with two made-up calls is
rendered, and what the template made of them is read.

Promises: a format that was found is exactly what the template writes for earlier calls, so the
model sees its new ones as it sees the old ones; where the arguments are not written as JSON (XML,
Python), or nothing shows that a call begins, the answer is `GENERIC`, which is what the engine
writes where a template knows no tools. Leaves to others: asking the model (`asking`).
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import string
from collections.abc import Callable
from typing import Any

from gguf_widgets.core.chat.types import ToolCall, well_formed
from gguf_widgets.core.json_outside import plain
from gguf_widgets.core.tools.toolbox import ToolBox

__all__ = ["GENERIC", "MAX_CALLS", "CallFormat", "find_format", "new_call_id", "silent_marks"]

MAX_CALLS = 8  # in one answer
_DECODER = json.JSONDecoder()
_ID = string.ascii_letters + string.digits
_LONGEST_MARK = 80
_MARKS = re.compile(r"<[^<>\s]{1,60}>|\[[^\[\]\s]{1,60}\]")  # as control tokens are written

_NAMES = ("gwprobefirst", "gwprobesecond")
_ARGUMENTS = ({"gwkey": "gwone"}, {"gwkey": "gwtwo"})
_PROBE_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "gwprobe",
        "description": "A probe.",
        "parameters": {
            "type": "object",
            "properties": {"gwkey": {"type": "string", "description": "A text."}},
            "required": ["gwkey"],
        },
    },
}


@dataclasses.dataclass(frozen=True)
class CallFormat:
    """How calls are written.

    Attributes
    ----------
    opening : str
        What stands before the JSON, white space included; "" where an answer that is a call is
        nothing but the JSON.
    closing : str
        What stands after it, before another call can begin.
    name_key, arguments_key : str
        The JSON object's names for the tool's name and its arguments.
    is_list : bool
        The JSON is a list of calls.
    between : str or None
        Not None where the JSON is the arguments alone: the name stands before it, and this between
        the two.
    repeats : bool
        Several calls are written one after the other, each with `opening` and `closing`.
    in_prompt : bool
        The template describes the tools itself; otherwise that goes into the system prompt.
    as_text : bool
        Earlier calls and results have to be written as text by us: the template has a way of its
        own that cannot be read back.
    """

    opening: str
    closing: str
    name_key: str = "name"
    arguments_key: str = "arguments"
    is_list: bool = False
    between: str | None = None
    repeats: bool = True
    in_prompt: bool = False
    as_text: bool = False

    @property
    def mark(self) -> str:
        """What shows that a call begins; "" for bare JSON."""
        return self.opening.strip()

    @property
    def stops(self) -> tuple[str, ...]:
        """What to look for in a free reply."""
        if self.mark:
            return (self.mark,)
        bracket = "[{" if self.is_list else "{"
        keys = dict.fromkeys((self.name_key, "type"))
        return tuple(f'{bracket}{blank}"{key}"' for key in keys for blank in ("", " ", "\n  "))

    def schema(self, box: ToolBox) -> dict[str, Any]:
        """Return the schema of what stands between `opening` and `closing`.

        Any of the tools may be called, with arguments that fit its parameters.
        """
        definitions: dict[str, Any] = {}
        calls = []
        for number, tool in enumerate(box):
            parameters = dict(tool.parameters)
            prefix = f"t{number}."
            for name, one in parameters.pop("$defs", {}).items():
                definitions[prefix + name] = _moved(one, prefix)
            calls.append(
                {
                    "type": "object",
                    "properties": {
                        self.name_key: {"const": tool.name},
                        self.arguments_key: _moved(parameters, prefix),
                    },
                    "required": [self.name_key, self.arguments_key],
                    "additionalProperties": False,
                }
            )
        one_call: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
        schema: dict[str, Any] = one_call
        if self.is_list:
            schema = {"type": "array", "items": one_call, "minItems": 1, "maxItems": MAX_CALLS}
        return {**schema, "$defs": definitions} if definitions else schema

    def read(self, text: str) -> list[ToolCall] | None:
        """Return the calls that stand at the beginning of `text`; None if it is none, or broken."""
        if self.between is not None:
            return self._read_apart(text, self.between)
        try:
            value, _ = _DECODER.raw_decode(text.lstrip())
        except (ValueError, RecursionError):
            return None
        items = value if isinstance(value, list) else [value]
        calls: list[ToolCall | None] = []
        for item in items[:MAX_CALLS]:
            if not isinstance(item, dict):
                return None
            name = item.get(self.name_key)
            # Models that were not held to a format mix the two usual words up.
            arguments = item.get(
                self.arguments_key, item.get("arguments", item.get("parameters", {}))
            )
            if not isinstance(name, str) or not isinstance(arguments, dict):
                return None
            calls.append(_made(name, arguments))
        return None if None in calls else [call for call in calls if call is not None] or None

    @staticmethod
    def _read_apart(text: str, between: str) -> list[ToolCall] | None:
        place = text.find("{")
        name, mark, rest = text[:place].strip().partition(between.strip())
        name = name.strip() if mark or not between.strip() else ""
        try:
            arguments, _ = _DECODER.raw_decode(text, place) if place >= 0 else (None, 0)
        except (ValueError, RecursionError):
            return None
        if not name or rest.strip() or not isinstance(arguments, dict):
            return None
        call = _made(name, arguments)
        return [call] if call is not None else None

    def example(self, tool_name: str = "TOOL_NAME") -> str:
        """Return how a call is written, for the system prompt."""
        if self.between is not None:
            return f'{self.opening}{tool_name}{self.between}{{"PARAMETER": "VALUE"}}{self.closing}'
        inner = json.dumps({self.name_key: tool_name, self.arguments_key: {"PARAMETER": "VALUE"}})
        return f"{self.opening}{f'[{inner}]' if self.is_list else inner}{self.closing}"


GENERIC = CallFormat(opening="<tool_call>\n", closing="\n</tool_call>", as_text=True)
"""For models whose template knows no tools, or has a way that cannot be read back."""


def _made(name: str, arguments: dict[str, Any]) -> ToolCall | None:
    """Return a call that every part can carry; None for arguments that none could."""
    try:
        checked = plain(arguments)
    except ValueError:
        return None
    return ToolCall(id=new_call_id(), name=well_formed(name)[:200], arguments=checked)


def new_call_id() -> str:
    """Return a new call's id: nine letters and digits, as Mistral's templates demand."""
    return "".join(secrets.choice(_ID) for _ in range(9))


def find_format(render: Callable[..., str], *, native: bool) -> CallFormat:
    """Find out how a template writes calls.

    Parameters
    ----------
    render : callable
        ``render(messages, tools=[...])``; what it raises says that the template cannot do that.
    native : bool
        Whether the template describes tools it is given.

    Returns
    -------
    CallFormat
        `GENERIC` where the template's way cannot be used.
    """
    asked = {"role": "user", "content": "gwprobeuser"}
    tools = {"tools": [_PROBE_TOOL]} if native else {}
    base = render([asked], **tools)
    one = render([asked, *_calls(1)], **tools)
    found = _first(base, one)
    if found is None:
        return _apart(base, one, native=native) or GENERIC
    opening, name_key, arguments_key, is_list = found
    two = render([asked, *_calls(2)], **tools)
    closing = "" if is_list else _closing(two, opening)
    return CallFormat(
        opening=opening,
        closing=closing or "",
        name_key=name_key,
        arguments_key=arguments_key,
        is_list=is_list,
        repeats=bool(closing),
        in_prompt=native,
    )


def silent_marks(model: Any, opening: str) -> dict[str, int]:
    """Return the parts of an opening that are control tokens, which show in no text; in order."""
    tokenize = getattr(model, "tokenize", None)
    found: dict[str, int] = {}
    if tokenize is None:
        return found
    for mark in _MARKS.findall(opening):
        special = tokenize(mark, parse_special=True)
        if len(special) == 1 and special != tokenize(mark, parse_special=False):
            found[mark] = special[0]
    return found


def _calls(count: int) -> list[dict[str, Any]]:
    """Return an answer with so many calls, and their results."""
    made = list(zip(("gwCall001", "gwCall002"), _NAMES, _ARGUMENTS, strict=True))[:count]
    calls = [{"id": one, "name": name, "arguments": given} for one, name, given in made]
    results = [
        {"role": "tool", "tool_call_id": one, "name": name, "content": "gwproberesult"}
        for one, name, _ in made
    ]
    return [{"role": "assistant", "content": "", "tool_calls": calls}, *results]


def _first(base: str, text: str) -> tuple[str, str, str, bool] | None:
    """Find the first call in a rendered conversation, whose beginning up to it is `base`."""
    start = _start(base, text)
    if start is None:
        return None
    for place in range(start, len(text)):
        if text[place] in "{[":
            found = _call_at(text, place)
            if found is not None:
                opening = text[start:place].rpartition("</think>")[2].lstrip()
                return (opening, *found) if len(opening) <= _LONGEST_MARK else None
    return None


def _start(base: str, text: str) -> int | None:
    """Return where an answer begins, in a text whose beginning up to it is `base`."""
    start = len(_common(base, text))
    if not base[start:].strip():
        return start
    # The answer does not begin as the prompt ends: only a block of empty thoughts may differ.
    start = base.rfind("<think>") if "<think>" in base[max(0, start - 10) :] else -1
    return start if start >= 0 and text.startswith(base[:start]) else None


def _apart(base: str, text: str, *, native: bool) -> CallFormat | None:
    """Find a call whose name stands before the JSON of its arguments."""
    start = _start(base, text)
    if start is None:
        return None
    place = text.find(_NAMES[0], start)
    behind = place + len(_NAMES[0])
    json_at = text.find("{", behind)
    if place < 0 or json_at < 0 or json_at - behind > _LONGEST_MARK:
        return None
    try:
        arguments, _ = _DECODER.raw_decode(text, json_at)
    except ValueError:
        return None
    opening = text[start:place].rpartition("</think>")[2].lstrip()
    between = text[behind:json_at]
    # Without a mark before the name any word could begin a call; without one behind it nothing
    # would end the name.
    if arguments != _ARGUMENTS[0] or not between or opening[:1] not in tuple("<[{|"):
        return None
    if len(opening) > _LONGEST_MARK:
        return None
    return CallFormat(opening, "", between=between, repeats=False, in_prompt=native)


def _call_at(text: str, place: int) -> tuple[str, str, bool] | None:
    try:
        value, _ = _DECODER.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(value, list)
    call = value[0] if is_list and value else value
    if not isinstance(call, dict):
        return None
    name_key = next((key for key, held in call.items() if held == _NAMES[0]), None)
    arguments_key = next((key for key, held in call.items() if held == _ARGUMENTS[0]), None)
    if name_key is None or arguments_key is None:
        return None
    return name_key, arguments_key, is_list


def _closing(two: str, opening: str) -> str | None:
    """Return what stands behind a call, where two follow each other; None where they do not."""
    ends = []
    for name in _NAMES:
        place = two.rfind("{", 0, max(0, two.find(f'"{name}"')))
        if place < 0:
            return None
        try:
            ends.append((place, _DECODER.raw_decode(two, place)[1]))
        except ValueError:
            return None
    between = two[ends[0][1] : ends[1][0]]
    if "gwproberesult" in between or not between.endswith(opening):
        return None  # one call an answer
    behind = between.removesuffix(opening)
    # White space before another call does not belong to the end of the last one.
    return _common(behind, two[ends[1][1] :]) or None


def _common(one: str, other: str) -> str:
    """Return how both begin."""
    length = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    return one[:length]


def _moved(schema: Any, prefix: str) -> Any:
    """Return a schema whose references find the definitions under their new names."""
    if isinstance(schema, list):
        return [_moved(one, prefix) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"#/$defs/{prefix}{held.removeprefix('#/$defs/')}"
        if key == "$ref" and isinstance(held, str) and held.startswith("#/$defs/")
        else _moved(held, prefix)
        for key, held in schema.items()
    }
