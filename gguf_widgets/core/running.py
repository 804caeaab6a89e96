"""Which models run on this machine already, for whichever program.

Promises: one look at the registry's files; nothing is started, joined or waited for. Leaves to
others: joining it (`manager.load` with the same settings does).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gguf_widgets.core import demo_mode
from gguf_widgets.core.errors import ModelFileError
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.load_projector import with_projector
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker import registry
from gguf_widgets.core.worker.spec import file_identity

__all__ = ["is_running"]


def is_running(path: str | os.PathLike[str], **load_settings: Any) -> bool:
    """Return whether a worker holds this file with these settings, so that loading is joining.

    Parameters
    ----------
    path : path-like
        A model file; False if there is none.
    **load_settings
        Fields of `LoadSettings`, as for `load`.

    Raises
    ------
    InvalidValueError
        For a setting that is not allowed.
    """
    requested = LoadSettings.from_keywords(**load_settings).replace(chat_template=None)
    try:
        backend = demo_mode.chosen_backend()
        requested = with_projector(requested, ModelLibrary(), Path(path).resolve(), backend)
        identity = file_identity(path, backend, requested.other_files)
    except ModelFileError:
        return False
    return any(entry.effective is not None for entry in registry.matching(identity, requested))
