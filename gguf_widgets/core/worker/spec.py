"""What a worker is asked to load, as its command line carries it.

Promises: the same file, backend and settings always give the same identity, whoever asks; a path
that is not Unicode survives. Leaves to others: finding a worker for it (`registry`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gguf_widgets.core.errors import ModelNotFoundError, UnreadableFileError
from gguf_widgets.core.types import LoadSettings

__all__ = ["WorkerSpec", "file_identity", "printable"]


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to load and how.

    Parameters
    ----------
    path : str
        The model file, absolute.
    backend : str
        "llama.cpp" or "scripted".
    requested : LoadSettings
        What the person asked for; None is "choose". Without `chat_template`, which belongs to the
        requests and not to the loaded weights.
    chosen : LoadSettings
        The same with the Nones filled in for this machine, as far as that is done before loading.
    notes : tuple of str
        What the person should know of this model, from before the loading.
    reservation : str
        The name of the memory that is reserved for it; see `fit_reservation`.
    mmproj_may_miss : bool
        The image companion was found and not named: without it the model is still what was wanted.
    """

    path: str
    backend: str
    requested: LoadSettings
    chosen: LoadSettings
    notes: tuple[str, ...] = ()
    reservation: str = ""
    mmproj_may_miss: bool = False

    def to_argument(self) -> str:
        """Return everything but the path, which travels as an argument of its own."""
        # A path may hold bytes that are no Unicode; the system passes those on, JSON does not.
        return msgspec.json.encode(msgspec.structs.replace(self, path="")).decode()

    @classmethod
    def from_argument(cls, argument: str, path: str) -> WorkerSpec:
        """Read what `to_argument` made."""
        spec = msgspec.json.decode(argument, type=cls)
        return msgspec.structs.replace(spec, path=path)


def file_identity(
    path: str | os.PathLike[str], backend: str, other_files: Iterable[str] = ()
) -> str:
    """Return a digest of which file this is, whatever name it was reached by, and the backend.

    The files that are loaded with it (`LoadSettings.other_files`) count, too: one that has been
    written anew under the same name is another one. The scripted backend reads no file: there the
    path alone counts.

    Raises
    ------
    ModelNotFoundError, UnreadableFileError
        If there is no such file, or it cannot be looked at.
    """
    if backend == "scripted":
        return _digest(b"scripted:" + os.fsencode(Path(path).absolute()))
    files = [path, *other_files]
    return _digest(b"\0".join([f"{backend}:".encode(), *map(_facts, files)]))


def _facts(path: str | os.PathLike[str]) -> bytes:
    try:
        real = Path(path).resolve(strict=True)
        status = real.stat()
    except FileNotFoundError as error:
        raise ModelNotFoundError(
            f"There is no file at {printable(path)}.", path=printable(path)
        ) from error
    except (OSError, RuntimeError) as error:
        raise UnreadableFileError(
            f"{printable(path)} cannot be read: {getattr(error, 'strerror', None) or error}.",
            path=printable(path),
        ) from error
    facts = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:"
    return facts.encode() + os.fsencode(real)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as text that every screen and socket can carry."""
    return os.fsencode(path).decode("utf-8", "replace")
