"""JSON in the store's columns: our values in, our values out.

Promises: what was kept is read again, also by an older version, which leaves out fields that it
does not know; something that is not readable is logged and read as nothing, never fatal. Leaves to
others: which column holds what.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any, TypeVar

import msgspec

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.settings import SamplingSettings, current_names

__all__ = ["from_json", "member_of", "struct_of", "to_json"]

_log = logging.getLogger(__name__)

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def to_json(value: Any) -> str | None:
    """Return a value as JSON, an infinity as its name; None stays None."""
    if value is None:
        return None
    return json.dumps(_finite(msgspec.to_builtins(value)), allow_nan=False)


def _finite(value: Any) -> Any:
    # JSON knows no infinities, and a logit bias of minus infinity is how a token is forbidden.
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def from_json(text: str | None) -> Any:
    """Return what the JSON says; None for None, and for what is none."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        _log.warning("The store holds something that is not JSON: %.80r", text)
        return None


def struct_of(kind: type[_Struct], text: str | None) -> _Struct | None:
    """Read one of our values; fields that a later version added are left out."""
    found = from_json(text)
    if not isinstance(found, dict):
        return None
    try:
        if issubclass(kind, SamplingSettings):
            found = current_names(found)
        known = {name: item for name, item in found.items() if name in kind.__struct_fields__}
        # Not strict: "-inf" is a number here, and JSON's keys are texts.
        return msgspec.convert(known, kind, strict=False)
    except (msgspec.ValidationError, InvalidValueError) as error:
        _log.warning("The store holds a %s that cannot be read: %s", kind.__name__, error)
        return None


def member_of(kind: type[Any], value: str | None) -> Any:
    """Return a member of an enumeration; None for None, and for what is none."""
    try:
        return kind(value) if value is not None else None
    except ValueError:
        _log.warning("The store holds an unknown %s: %r", kind.__name__, value)
        return None
