"""What a call of a model may say besides the conversation and the sampling settings.

Promises: `begin_with`, `tools` and `template_variables` are plain data of bounded size when they
leave here; anything else is refused by its name and reason. Leaves to others: whether the model's
template has a use for them (the worker), the conversation (`conversation_input`), the sampling
settings (`settings`).
"""

from __future__ import annotations

import json
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gguf_widgets.core.conversation_input import check_text
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["MAX_TOOLS", "BeginWith", "Extras", "to_begin", "to_extras", "to_tools", "to_variables"]

BeginWith = str | Sequence[int]
"""The words that a reply is to begin with, or their tokens."""

MAX_TOOLS = 128
_MAX_TOOLS_BYTES = 512 * 2**10
_MAX_VARIABLES_BYTES = 2 * 2**20
_MAX_VARIABLES = 64

# What the template is given anyway.
_TAKEN = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}


class Extras(NamedTuple):
    """The checked keywords, by the names of `worker.prompt.Prompt`."""

    tools: list[dict[str, Any]]
    variables: dict[str, Any]
    begin_text: str
    begin_tokens: list[int]
    constrain_begin: bool


def to_extras(keywords: dict[str, Any]) -> Extras:
    """Take what is meant for the prompt out of a call's keywords.

    Parameters
    ----------
    keywords : dict
        Changed: what is taken is removed.

    Raises
    ------
    InvalidValueError
    """
    text, tokens = to_begin(keywords.pop("begin_with", None))
    constrain = keywords.pop("constrain_begin", True)
    if not isinstance(constrain, bool):
        raise InvalidValueError(f"constrain_begin is {constrain!r:.40}; it can be True or False.")
    return Extras(
        to_tools(keywords.pop("tools", None)),
        to_variables(keywords.pop("template_variables", None)),
        text,
        tokens,
        constrain,
    )


def to_begin(value: Any) -> tuple[str, list[int]]:
    """Return what a reply begins with, as text or as tokens; one of them is empty."""
    if value is None:
        return "", []
    if isinstance(value, str):
        check_text(value, "The beginning of the reply (begin_with)")
        return value, []
    if isinstance(value, bytes | Mapping) or not isinstance(value, Sequence):
        raise InvalidValueError(
            "begin_with is the words that the reply begins with, or a list of tokens; this is a"
            f" {type(value).__name__}."
        )
    for place, token in enumerate(value):
        whole = isinstance(token, numbers.Integral) and not isinstance(token, bool)
        if not whole or not 0 <= token < 2**31:
            raise InvalidValueError(
                f"Entry {place} of begin_with is {token!r:.40}; tokens are whole numbers from 0 on."
            )
    return "", [int(token) for token in value]


def to_tools(value: Any) -> list[dict[str, Any]]:
    """Return the schemas of tools as the template is given them."""
    if value is None:
        return []
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise InvalidValueError(f"tools is a list of schemas; this is a {type(value).__name__}.")
    if len(value) > MAX_TOOLS:
        raise InvalidValueError(
            f"There are {len(value):,} tools; a model can be told of {MAX_TOOLS} at most."
        )
    plain: list[dict[str, Any]] = _plain(list(value), "tools", _MAX_TOOLS_BYTES)
    for number, tool in enumerate(plain, 1):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name or tool.get("type") != "function":
            raise InvalidValueError(
                f'Tool {number} is no schema of a function: it must be {{"type": "function",'
                ' "function": {"name": ..., "description": ..., "parameters": {...}}}.'
            )
    return plain


def to_variables(value: Any) -> dict[str, Any]:
    """Return variables for a chat template."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidValueError(
            "template_variables is a dict of names and values, such as {'enable_thinking': False};"
            f" this is a {type(value).__name__}."
        )
    if len(value) > _MAX_VARIABLES:
        raise InvalidValueError(
            f"There are {len(value):,} template_variables; {_MAX_VARIABLES} can be set at most."
        )
    for name in value:
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidValueError(f"{name!r:.60} cannot be the name of a template variable.")
        if name in _TAKEN:
            raise InvalidValueError(
                f"The template variable {name!r} is always set, and cannot be set by"
                " template_variables."
            )
    plain: dict[str, Any] = _plain(dict(value), "template_variables", _MAX_VARIABLES_BYTES)
    return plain


def _plain(value: Any, name: str, limit: int) -> Any:
    """Return a copy that is JSON, and not too long."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"{name} holds something that JSON cannot: {error}.") from error
    if len(text) > limit:
        raise InvalidValueError(
            f"{name} is {len(text):,} bytes long as JSON; at most {limit:,} can be sent.",
            size=len(text),
            limit=limit,
        )
    return json.loads(text)
