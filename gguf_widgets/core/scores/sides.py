"""The models that figures are asked of: loaded already, or loaded for this and given back.

Promises: a model that was loaded here is unloaded here; one that somebody holds is left as it is.
Leaves to others: loading (`core.manager`), the figures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.manager import default_manager
from gguf_widgets.core.model import Model

__all__ = ["Side", "check_side", "opened"]

Side = Model | str | os.PathLike[str]
"""A model that is loaded, or the name or path of one."""


def check_side(side: Any, what: str) -> None:
    """Raise `InvalidValueError` for what is no model."""
    if not isinstance(side, Model | str | os.PathLike):
        raise InvalidValueError(
            f"{what} is a {type(side).__name__}; it must be a model (gw.load), or the name or path"
            " of one."
        )


@contextmanager
def opened(side: Side, load: Mapping[str, Any] | None = None) -> Iterator[tuple[Model, bool]]:
    """Give a model, and whether it was loaded for this; then it is unloaded at the end.

    Parameters
    ----------
    side : Model, str or path-like
    load : mapping, optional
        Settings to load it with, where it is not loaded yet.
    """
    if isinstance(side, Model):
        yield side, False
        return
    manager = default_manager()
    held = list(manager.loaded())
    model = manager.load(side, **(load or {}))
    is_new = all(model is not other for other in held)
    try:
        yield model, is_new
    finally:
        if is_new and model.loaded:
            model.unload()
