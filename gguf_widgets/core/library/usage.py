"""When each model was loaded last.

Promises: `note_use` is remembered for every later process; a small file, bounded; that it cannot be
written never stops a load. Leaves to others: calling it, once for each load (`manager`).

Kept in ``library/used.json`` in the data folder and not in the store, so that the list of models
neither needs the database nor creates one.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import time
from typing import Final

import msgspec

from gguf_widgets.core.config import expanded
from gguf_widgets.core.library.small_file import SmallFile

__all__ = ["last_uses", "note_use"]

_VERSION: Final = 1
_MAX_FILES: Final = 2000
_YEAR_10000: Final = 253_402_300_800


class _Used(msgspec.Struct, kw_only=True):
    version: int = _VERSION
    used: dict[str, float] = {}  # path to seconds since 1970, the longest unused first


def _newer_half(content: _Used) -> _Used:
    pairs = list(content.used.items())
    return _Used(used=dict(pairs[(len(pairs) + 1) // 2 :]))


_FILE: Final = SmallFile(
    "used.json", _Used, version=_VERSION, max_bytes=2_000_000, shrink=_newer_half
)


def note_use(path: str | os.PathLike[str]) -> None:
    """Remember that a model is loaded now.

    Parameters
    ----------
    path : str or path-like
        Its file; of a split model the first part.
    """
    key, now = str(expanded(path)), time.time()

    def with_it(content: _Used) -> _Used:
        others = [(k, v) for k, v in content.used.items() if k != key][-(_MAX_FILES - 1) :]
        return _Used(used={**dict(others), key: now})

    _FILE.try_update(with_it)


def last_uses() -> dict[str, dt.datetime]:
    """Return by path when each model was loaded last, in UTC."""
    return {
        path: dt.datetime.fromtimestamp(seconds, dt.UTC)
        for path, seconds in _FILE.read().used.items()
        if math.isfinite(seconds) and 0 <= seconds < _YEAR_10000
    }
