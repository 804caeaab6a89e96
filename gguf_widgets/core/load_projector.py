"""Which image companion (mmproj) a model is loaded with.

Promises: what was named is taken as it is; where nothing was, the one that the library pairs with
the model's file, found by a look at that file's own surroundings alone; the answer is a full path,
or "" for none, so that whoever asks for the same gets the same model. Leaves to others: the rule of
pairing (`library.projectors`), judging the file (`load_judge`), loading again without (`manager`).
"""

from __future__ import annotations

import os
from pathlib import Path

from gguf_widgets.core.errors import WorkerDiedError
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.types import LoadSettings

__all__ = ["died_with_projector", "left_out_after", "with_projector"]


def with_projector(
    settings: LoadSettings, library: ModelLibrary, path: Path, backend: str
) -> LoadSettings:
    """Return the settings with the image companion decided.

    Parameters
    ----------
    settings : LoadSettings
    library : ModelLibrary
    path : Path
        The model's file, resolved.
    backend : str
        The scripted one sees nothing.
    """
    if settings.mmproj is not None or backend == "scripted":
        return settings.replace(mmproj="") if settings.mmproj is None else settings
    found = library.projector_of(path)
    return settings.replace(mmproj="" if found is None else os.fspath(found))


def died_with_projector(error: WorkerDiedError, mmproj: str) -> WorkerDiedError:
    """Return the error for a worker that died while it loaded a companion that was named."""
    return WorkerDiedError(
        f"{error.message} It may be the image companion {shown(Path(mmproj))}: with mmproj=False"
        " the model is loaded without it.",
        **error.details,
    )


def left_out_after(error: WorkerDiedError, mmproj: str) -> str:
    """Return what there is to say of a model that was loaded without the companion that it has."""
    return (
        f"Images cannot be sent: with the image companion {shown(Path(mmproj))} the model's process"
        f" ended while it was loading, so the model was loaded without it. ({error.message})"
    )
