"""Tools as words in the system prompt, for templates that do not describe them.

Promises: pure functions; nothing that a person wrote is changed, only added to. Leaves to others:
which templates need this (`call_format`), putting a system prompt where a template has no place for
one (the engine).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gguf_widgets.core.tools.call_format import CallFormat
from gguf_widgets.core.tools.toolbox import ToolBox

__all__ = ["NO_MORE", "as_text", "with_description", "with_no_more"]

NO_MORE = "[You cannot use tools any more in this turn. Answer the user now with what you have.]"


def with_description(
    messages: Sequence[Mapping[str, Any]], box: ToolBox, form: CallFormat
) -> list[dict[str, Any]]:
    """Return messages whose system prompt says which tools there are and how they are called."""
    lines = "\n".join(json.dumps(tool.schema["function"], ensure_ascii=False) for tool in box)
    words = (
        "You can use these tools. Each line describes one, with the JSON schema of its parameters:"
        f"\n<tools>\n{lines}\n</tools>\n\n"
        "When a tool helps, write a call in exactly this form, and nothing after it:\n"
        f"{form.example()}\n\n"
        "The result is then given to you. When no tool is needed, answer without one."
    )
    result = [dict(message) for message in messages]
    if result and result[0]["role"] == "system":
        result[0]["content"] = f"{result[0]['content']}\n\n{words}"
        return result
    return [{"role": "system", "content": words}, *result]


def with_no_more(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose last result says that now an answer is due."""
    result = [dict(message) for message in messages]
    if result and result[-1]["role"] == "tool":
        result[-1]["content"] = f"{result[-1]['content']}\n\n{NO_MORE}"
    return result


def as_text(messages: Sequence[Mapping[str, Any]], form: CallFormat) -> list[dict[str, Any]]:
    """Return messages in which calls and their results are plain text."""
    result: list[dict[str, Any]] = []
    results: list[str] = []

    def flush() -> None:
        if results:
            result.append({"role": "user", "content": "\n".join(results)})
            results.clear()

    for message in messages:
        if message["role"] == "tool":
            results.append(f"<tool_response>\n{message['content']}\n</tool_response>")
            continue
        flush()
        plain = {key: held for key, held in message.items() if key != "tool_calls"}
        calls = [
            {form.name_key: call["name"], form.arguments_key: call["arguments"]}
            for call in message.get("tool_calls", ())
        ]
        texts = [
            f"{form.opening}{json.dumps(call, ensure_ascii=False)}{form.closing}" for call in calls
        ]
        said = [plain["content"]] if plain["content"] or not texts else []
        result.append({**plain, "content": "\n".join([*said, *texts])} if texts else plain)
    flush()
    return result
