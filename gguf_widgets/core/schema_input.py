"""A schema as a person gives it: a dict, or a pydantic model; as a request carries it: plain JSON.

Promises: what comes out is plain JSON data, so it can cross a socket and be stored; what is no
schema at all is refused in words. pydantic is used only where the caller has it already. Leaves to
others: whether a reply can follow the schema (`engine.grammar`, in the worker).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from typing import Any

from gguf_widgets.core.errors import InvalidValueError

__all__ = ["to_schema"]


def to_schema(value: Any) -> dict[str, Any] | bool:
    """Return the JSON schema of what a caller gave.

    Parameters
    ----------
    value : dict, bool, pydantic model class, pydantic TypeAdapter or dataclass
        A dict is taken as the schema itself. A dataclass needs pydantic.

    Raises
    ------
    InvalidValueError
        For anything else, and for a dict that holds what JSON cannot.
    """
    for name in ("model_json_schema", "json_schema"):  # a pydantic model class, a TypeAdapter
        make = getattr(value, name, None)
        if callable(make):
            value = _made_by(make, value)
            break
    else:
        if isinstance(value, type) and dataclasses.is_dataclass(value):
            value = _of_dataclass(value)
    if not isinstance(value, dict | bool):
        raise InvalidValueError(
            f"A schema is a dict (JSON schema) or a pydantic model class, not {value!r:.80}.",
            value=repr(value)[:80],
        )
    try:
        # A copy, so that changing the dict afterwards changes nothing here.
        plain: dict[str, Any] | bool = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"The schema holds something that JSON cannot: {error}.") from error
    return plain


def _made_by(make: Any, value: Any) -> Any:
    try:
        return make()
    except Exception as error:  # pydantic's own errors: it need not be installed to be caught
        raise InvalidValueError(
            f"pydantic cannot make a schema of {value!r:.80}: {error}"
        ) from error


def _of_dataclass(value: type) -> Any:
    try:
        make = importlib.import_module("pydantic").TypeAdapter  # the caller's, if there is one
    except ImportError as error:
        raise InvalidValueError(
            f"{value.__name__} is a dataclass; its schema is made by pydantic, which is not"
            f" installed here ({sys.executable}). Install it with: pip install pydantic"
        ) from error
    return _made_by(lambda: make(value).json_schema(), value)
