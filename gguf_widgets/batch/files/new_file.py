"""A file that is there as a whole or not at all.

Promises: it is written under a temporary name beside its place, handed to the disk, and only then
given its name; whatever goes wrong, the temporary file is removed and what was there before stays;
a folder, a device or the like is never replaced; the rights are those any new file would have, or
those of the file that is replaced. Leaves to others: what is in it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Generator
from pathlib import Path

from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import TableFileError
from gguf_widgets.core.format import plain_text

__all__ = ["new_file"]


@contextlib.contextmanager
def new_file(given: str | os.PathLike[str]) -> Generator[Path]:
    """Give the path to write to; when the block ends well the file gets its name.

    Raises
    ------
    TableFileError
        It cannot be written there.
    """
    # Of a link, the file it leads to is replaced, not the link.
    path = Path(os.path.realpath(expanded(os.fspath(given))))
    shown = f'"{plain_text(path.name, 80)}"'
    mode = _mode(path, shown)
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        try:
            # Made here, so that the rights follow the process's own rules from the beginning.
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            yield part
            if mode is not None:
                part.chmod(mode)
            _sync(part, os.O_RDWR)
            part.replace(path)
        except OSError as error:
            raise TableFileError(
                f"{shown} could not be written: {error.strerror or error}. What was there before is"
                " untouched.",
                problem="write",
                path=str(path),
            ) from error
    finally:
        with contextlib.suppress(OSError):  # it has its name now, or the disk is gone
            part.unlink(missing_ok=True)
    # The name is safe only when its folder is; where a folder cannot be synced, the file is.
    with contextlib.suppress(OSError):
        _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode(path: Path, shown: str) -> int | None:
    if not path.parent.is_dir():
        raise TableFileError(
            f"There is no folder {plain_text(str(path.parent), 200)} to write {shown} in.",
            problem="folder",
            path=str(path),
        )
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise TableFileError(
            f"{shown} is there already and is not a plain file. Name another file.",
            problem="exists",
            path=str(path),
        )
    return stat.S_IMODE(status.st_mode)
