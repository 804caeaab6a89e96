"""Looking after model files: whose they are, rename, remove with undo, check, convert.

Promises: the names below are all that others need, each imported when it is first used; only files
in our own models folder are ever renamed or removed; a file that is read is not changed. Leaves to
others: each file is about one thing. `ownership` says which program a file belongs to; `renaming`,
`removing` (with the trash), `checking` and `converting` do what their names say. What they share:
`members` (the files of one model), `names` (what a file may be called), `moves` (all or none),
`in_use` (who has it loaded), `journal` and `records` (what outlives a crash), `progress`.

Examples
--------
>>> import gguf_widgets as gw
>>> gw.care.rename("old-name", "new-name")  # doctest: +SKIP
>>> removed = gw.care.remove("new-name")  # doctest: +SKIP
>>> gw.care.restore("new-name")  # doctest: +SKIP
>>> gw.care.verify("model")  # doctest: +SKIP
>>> gw.care.convert("model", "Q4_K_M", on_progress=print)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf_widgets.core.care.checking import verify
    from gguf_widgets.core.care.converting import convert, quantizations
    from gguf_widgets.core.care.ownership import owner_of
    from gguf_widgets.core.care.removing import empty_trash, remove, restore, trash
    from gguf_widgets.core.care.renaming import rename

_HOMES = {
    "convert": "converting",
    "empty_trash": "removing",
    "owner_of": "ownership",
    "quantizations": "converting",
    "remove": "removing",
    "rename": "renaming",
    "restore": "removing",
    "trash": "removing",
    "verify": "checking",
}

__all__ = [
    "convert",
    "empty_trash",
    "owner_of",
    "quantizations",
    "remove",
    "rename",
    "restore",
    "trash",
    "verify",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
