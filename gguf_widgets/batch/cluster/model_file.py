"""The model's file on a machine of a cluster: the very same as the run's, wherever it lies.

Promises: what is found has the SHA-256 of the run's own file, all parts of it; another file in its
place is never taken, and the error says where it lies. A file is read for this once and again only
when it has changed (`core.library.hashes`). Leaves to others: loading it (`station`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from gguf_widgets.batch.cluster.messages import ModelFile
from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import FileChangeError, GgufWidgetsError, ModelNotFoundError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.library.hashes import sha256_of

__all__ = ["described", "find", "is_same"]

Say = Callable[[str, float], None]
"""Takes a phrase and how far it is, from 0 to 1."""
Cancel = Callable[[], bool]


def parts_of(path: Path) -> list[Path]:
    """Return a model's files: one, or those of a split model."""
    split = split_name(path)
    if split is None:
        return [path]
    return [split.path_of(number, path.parent) for number in range(1, split.num_parts + 1)]


def described(
    path: Path,
    *,
    given: str | None = None,
    fetch: str | None = None,
    say: Say = lambda _phrase, _fraction: None,
    cancel: Cancel | None = None,
) -> ModelFile:
    """Return what a machine must know to find this file, which is read for it if need be.

    Raises
    ------
    FileChangeError
        It cannot be read; ``details["problem"]`` is "cancelled" if `cancel` answered True.
    """
    parts = parts_of(path)
    return ModelFile(
        path=str(path),
        sha256=tuple(_hashes(parts, say, cancel)),
        size=sum(part.stat().st_size for part in parts),
        given=given,
        fetch=fetch,
    )


def find(
    wanted: ModelFile, *, say: Say = lambda _phrase, _fraction: None, cancel: Cancel | None = None
) -> Path:
    """Return where the file is on this machine; see the package for where it is looked for.

    Raises
    ------
    ModelNotFoundError
        It is not here; the message says what was found in its place.
    FileChangeError
        A file cannot be read, or `cancel` answered True.
    DownloadError
        It could not be fetched.
    """
    seen: list[str] = []
    if wanted.given is not None:
        path = expanded(wanted.given)
        if is_same(wanted, path, say=say, cancel=cancel, seen=seen):
            return path
        raise _missing(wanted, seen or [f"there is no file at {_shown(path)}"])
    for path in _candidates(wanted):
        if is_same(wanted, path, say=say, cancel=cancel, seen=seen):
            return path
    if wanted.fetch is not None:
        path = _fetched(wanted.fetch, say, cancel)
        if is_same(wanted, path, say=say, cancel=cancel, seen=seen):
            return path
    raise _missing(wanted, seen)


def is_same(
    wanted: ModelFile,
    path: Path,
    *,
    say: Say = lambda _phrase, _fraction: None,
    cancel: Cancel | None = None,
    seen: list[str] | None = None,
) -> bool:
    """Say whether a file is the one that is wanted; note in `seen` what is there instead.

    Raises
    ------
    FileChangeError
        `cancel` answered True.
    """
    noted = seen if seen is not None else []
    parts = parts_of(path)
    try:
        if not path.is_file():
            return False
        size = sum(part.stat().st_size for part in parts)
    except OSError as error:
        noted.append(f"{_shown(path)} cannot be read ({error.strerror})")
        return False
    if size != wanted.size or len(parts) != len(wanted.sha256):
        noted.append(
            f"{_shown(path)} is another file: it has {format_bytes(size)} ({size:,} bytes), not "
            f"{wanted.size:,}"
        )
        return False
    try:
        hashes = _hashes(parts, say, cancel)
    except FileChangeError as error:
        if error.details.get("problem") == "cancelled":
            raise
        noted.append(error.message.rstrip("."))
        return False
    if tuple(hashes) != wanted.sha256:
        noted.append(
            f"{_shown(path)} is another file: its SHA-256 begins with {hashes[0][:12]}, not "
            f"{wanted.sha256[0][:12]}"
        )
        return False
    return True


def _candidates(wanted: ModelFile) -> Iterator[Path]:
    """Yield files that may be it, the likeliest first."""
    own = Path(wanted.path)
    if own.is_absolute():
        yield own
    for entry in ModelLibrary().entries():
        for path in (entry.path, entry.mmproj, *entry.mmproj_others):
            if path is None or path == own:
                continue
            with contextlib.suppress(OSError):  # gone again
                if sum(part.stat().st_size for part in parts_of(path)) == wanted.size:
                    yield path


def _hashes(parts: list[Path], say: Say, cancel: Cancel | None) -> list[str]:
    found = []
    for number, part in enumerate(parts, 1):
        which = f" (part {number} of {len(parts)})" if len(parts) > 1 else ""

        def report(done: int, total: int, which: str = which) -> None:
            say(f"Checking the model's file{which}", done / max(1, total))

        found.append(sha256_of(part, progress=report, cancel=cancel))
    return found


def _fetched(name: str, say: Say, cancel: Cancel | None) -> Path:
    from gguf_widgets.core import download  # late: most machines have the file

    def report(progress: download.Progress) -> bool:
        say(str(progress), progress.fraction or 0.0)
        return True

    return download.fetch(name, newer="ignore", on_progress=report, cancel=cancel)


def _missing(wanted: ModelFile, seen: list[str]) -> GgufWidgetsError:
    name = plain_text(wanted.path.replace("\\", "/").rpartition("/")[2], 100)
    found = "; ".join(seen[:5]) or "neither at its path here nor among the machine's models"
    return ModelNotFoundError(
        f'the model file "{name}" (SHA-256 {wanted.sha256[0][:12]}...) is not there: {found}. Put '
        "it there, or say where it is: Cluster(client, paths=..., fetch=...).",
        path=wanted.path,
        sha256=wanted.sha256[0],
        found=seen[:20],
    )


def _shown(path: Path) -> str:
    return plain_text(str(path), 200)
