"""A model that is named by where it comes from, on this machine before it is loaded.

Promises: a name that `core.download` knows becomes a file, fetched only if it is not here; progress
and stopping are the load's own. Leaves to others: fetching (`download`), loading (`manager`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gguf_widgets.core.errors import DownloadError, LoadCancelledError

__all__ = ["fetched"]


def fetched(
    name: str | os.PathLike[str], on_progress: Callable[[float, str], object] | None
) -> tuple[Path, list[str]] | None:
    """Return the file of a name such as ``hf:owner/repo:Q4_K_M``; None if it is no such name.

    Parameters
    ----------
    name : str or path-like
    on_progress : callable, optional
        Called with 0 to 1 and a phrase; answering False stops it, what has arrived stays.

    Returns
    -------
    path : Path
    notes : list of str
        Sentences for the person.

    Raises
    ------
    DownloadError, MissingDependencyError, InvalidValueError
        See `download.download`.
    LoadCancelledError
        If it was stopped.
    """
    if not isinstance(name, str) or ":" not in name:
        return None
    from gguf_widgets.core import download  # late: most loads are of files that are here

    if not download.is_download_name(name):
        return None
    notes: list[str] = []

    def report(progress: download.Progress) -> bool:
        return (
            on_progress is None or on_progress(progress.fraction or 0.0, str(progress)) is not False
        )

    try:
        path = download.fetch(name, newer="ignore", on_progress=report, on_note=notes.append)
    except DownloadError as error:
        if error.details.get("problem") == "cancelled":
            raise LoadCancelledError(error.message, **error.details) from error
        raise
    return path, notes
