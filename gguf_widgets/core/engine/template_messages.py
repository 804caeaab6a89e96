"""A conversation as one chat template takes it.

Templates differ in what they take: some have no place for a system prompt, some demand that the
person and the model take turns, some want a call's arguments as text and some as data.

Promises: pure functions; nothing a person wrote is lost or put in another order, only its form is
another; a conversation that a template takes as it is stays as it is. Leaves to others: what a
template takes (`template_ways.py`), rendering (`chat_template.py`).

Messages come as `types.Message` has them, but with a list of texts and images as "content" where
there are images. They go out as Hugging Face's documentation has them: a call of a tool is
``{"id": ..., "type": "function", "function": {"name": ..., "arguments": ...}}``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["CallStyle", "Ways", "adapted"]


@dataclass(frozen=True)
class CallStyle:
    """How a template takes the calls of tools.

    Attributes
    ----------
    content : str or None
        What stands for an empty content beside them.
    arguments_as_text : bool
        The arguments are JSON in a str, as OpenAI's interface has them; otherwise an object.
    short_ids : bool
        An id must have 9 letters and digits.
    one_at_a_time : bool
        A message can hold one call only.
    """

    content: str | None = ""
    arguments_as_text: bool = False
    short_ids: bool = False
    one_at_a_time: bool = False


@dataclass(frozen=True)
class Ways:
    """What a template takes; `calls` is None where it cannot do with tools.

    With `typed` a message's content has to be a list of parts: ``{"type": "text", "text": ...}``.
    """

    takes_system: bool = True
    takes_turns: bool = False
    typed: bool = False
    calls: CallStyle | None = None

    def with_calls(self, calls: CallStyle | None) -> Ways:
        """Return a copy with another style of calls."""
        return replace(self, calls=calls)


def adapted(messages: Sequence[Mapping[str, Any]], ways: Ways) -> list[dict[str, Any]]:
    """Return the messages as the template takes them; `typed` is left to the caller."""
    result = [_with_thoughts(message) for message in messages]
    if any(message["role"] == "tool" or message.get("tool_calls") for message in result):
        result = _with_calls(result, ways.calls) if ways.calls else _calls_as_text(result)
    if not ways.takes_system:
        result = _without_system(result)
    return _joined(result) if ways.takes_turns else result


def _with_thoughts(message: Mapping[str, Any]) -> dict[str, Any]:
    """Give an answer's thoughts under the other name, too, by which some templates know them."""
    if "reasoning_content" in message:
        return {"thinking": message["reasoning_content"], **message}
    return dict(message)


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what the system says in front of the person's next message."""
    result: list[dict[str, Any]] = []
    said: list[Any] = []
    for message in messages:
        if message["role"] in ("system", "developer"):
            if not _is_empty(message["content"]):
                said.append(message["content"])
        elif said and message["role"] == "user":
            result.append({**message, "content": _glued([*said, message["content"]])})
            said = []
        else:
            result.append(message)
    if said:  # no message of the person follows
        result.append({"role": "user", "content": _glued(said)})
    return result


def _joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join messages of one role in a row."""
    result: list[dict[str, Any]] = []
    for message in messages:
        last = result[-1] if result else {}
        plain = set(message) == set(last) == {"role", "content"} and message["role"] != "tool"
        if plain and last["role"] == message["role"]:
            glued = _glued([last["content"], message["content"]])
            result[-1] = {"role": message["role"], "content": glued}
        else:
            result.append(message)
    return result


def _glued(contents: Sequence[Any]) -> Any:
    """Return several contents as one, with an empty line between texts."""
    if all(isinstance(one, str) for one in contents):
        return "\n\n".join(contents)
    glued: list[Any] = []
    for one in contents:
        glued += one if isinstance(one, list) else [one]
    return glued


def _is_empty(content: Any) -> bool:
    return isinstance(content, str) and not content.strip()


# --- tools, where the template knows them ---


def _with_calls(messages: list[dict[str, Any]], style: CallStyle) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        if message["role"] == "tool":
            result.append(_short_id(message, "tool_call_id", style))
        elif message.get("tool_calls"):
            calls = [_call(call, style) for call in message["tool_calls"]]
            content = style.content if message["content"] == "" else message["content"]
            result.append({**message, "content": content, "tool_calls": calls})
        else:
            result.append(message)
        if style.one_at_a_time and len(message.get("tool_calls", ())) > 1:
            return [*result[:-1], *_one_by_one(result[-1], messages[number + 1 :], style)]
    return result


def _call(call: Mapping[str, Any], style: CallStyle) -> dict[str, Any]:
    arguments = call["arguments"]
    if style.arguments_as_text:
        arguments = json.dumps(arguments, ensure_ascii=False)
    made = {"type": "function", "function": {"name": call["name"], "arguments": arguments}}
    return _short_id({"id": call["id"], **made}, "id", style)


def _short_id(item: dict[str, Any], key: str, style: CallStyle) -> dict[str, Any]:
    if not style.short_ids or key not in item:
        return item
    value = item[key]
    if len(value) == 9 and value.isascii() and value.isalnum():
        return item
    return {**item, key: hashlib.sha256(value.encode()).hexdigest()[:9]}


def _one_by_one(
    asking: dict[str, Any], following: list[dict[str, Any]], style: CallStyle
) -> list[dict[str, Any]]:
    """Let each call be followed by its own result, then go on."""
    end = next((n for n, m in enumerate(following) if m["role"] != "tool"), len(following))
    results = _with_calls(following[:end], style)
    made: list[dict[str, Any]] = []
    for call in asking["tool_calls"]:
        content = asking["content"] if not made else style.content
        made.append({**asking, "content": content, "tool_calls": [call]})
        mine = [one for one in results if one.get("tool_call_id") == call["id"]]
        made += mine
        results = [one for one in results if one not in mine]
    return [*made, *results, *_with_calls(following[end:], style)]


# --- tools, where it does not ---


def _calls_as_text(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write calls and their results as text, in a form that many models have seen."""
    result: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            last = result[-1] if result else None
            if last is not None and last.get("is_result"):
                result[-1] = {**last, "content": f"{last['content']}\n{text}"}
            else:
                result.append({"role": "user", "content": text, "is_result": True})
        elif message.get("tool_calls"):
            calls = [
                json.dumps({"name": c["name"], "arguments": c["arguments"]}, ensure_ascii=False)
                for c in message["tool_calls"]
            ]
            texts = [f"<tool_call>\n{call}\n</tool_call>" for call in calls]
            said = [message["content"]] if message["content"] else []
            result.append({"role": "assistant", "content": "\n".join([*said, *texts])})
        else:
            result.append(message)
    return [{k: v for k, v in one.items() if k != "is_result"} for one in result]
