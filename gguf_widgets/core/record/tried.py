"""Finding things out without ever failing because of it, and digests of plain values.

Promises: `tried` never raises; `digest_of` is the same for the same values, whatever the order of
their keys. Leaves to others: what is found out (`program`, `model_file`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["digest_of", "tried"]

_log = logging.getLogger(__name__)


def tried(find: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `find` finds, or None: an answer never fails because of its record."""
    try:
        return find(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer counts more
        _log.info("A part of a record is missing: %s: %s", type(error).__name__, error)
        return None


def digest_of(plain: Any) -> str:
    """Return a digest of plain values and of our own; bytes in them count by their content."""
    encoded = json.dumps(msgspec.to_builtins(plain), sort_keys=True, default=_as_plain)
    return hashlib.blake2b(encoded.encode(), digest_size=16).hexdigest()


def _as_plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=16).hexdigest()
    raise TypeError(f"{type(value).__name__} is no plain data")
