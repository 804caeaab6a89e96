"""Whether a model's files are whole: their hash, and what their header promises.

Promises: every byte of every part is read once, in little memory, with progress, and can be
stopped; the hash is compared with everything that is known about it, and the result says with what;
a file that changes meanwhile is not called good. Nothing is changed; the hash is remembered, so
that the next check has something to compare with. Leaves to others: what is known (`hashes`),
reading headers (`core.gguf`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.care.hashes import Known, checked_hash, known_hashes
from gguf_widgets.core.care.members import model_files
from gguf_widgets.core.care.moves import failed
from gguf_widgets.core.care.progress import Cancelled, OnProgress, Watch
from gguf_widgets.core.errors import FileChangeError, InvalidValueError, ModelFileError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_header import GgufHeader
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.core.library.hashes import remember_read

__all__ = ["Comparison", "FileCheck", "VerifyResult", "verify"]

_CHUNK_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """One hash that a file should have: who says so, what it is, and whether it is that."""

    source: str
    sha256: str
    matches: bool


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file.

    Attributes
    ----------
    path : Path
    size_bytes : int
    sha256 : str
        Of what is on the disk now.
    compared : tuple of Comparison
        Empty if nothing is known to compare it with.
    """

    path: Path
    size_bytes: int
    sha256: str
    compared: tuple[Comparison, ...]

    @property
    def matches(self) -> bool | None:
        """Whether the hash is what everybody says that it should be; None if nobody says."""
        return all(one.matches for one in self.compared) if self.compared else None


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a check has found; as text, some lines.

    Attributes
    ----------
    name : str
    files : tuple of FileCheck
        The parts, and a companion that carries the model's name.
    structure_error : str or None
        What is wrong with a header or with a tensor's place in the file; None if all is well.
    num_tensors : int
        How many tensors were found to lie inside their file with the size that they should have.
    notes : tuple of str
        What is odd and harms nothing.
    """

    name: str
    files: tuple[FileCheck, ...]
    structure_error: str | None
    num_tensors: int
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, as far as can be told."""
        return self.structure_error is None and all(f.matches is not False for f in self.files)

    @property
    def compared(self) -> bool:
        """Whether there was a hash to compare every file with."""
        return all(file.matches is not None for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "name": self.name,
            "ok": self.ok,
            "compared": self.compared,
            "structure_error": self.structure_error,
            "num_tensors": self.num_tensors,
            "notes": list(self.notes),
            "files": [
                {
                    "path": str(file.path),
                    "size_bytes": file.size_bytes,
                    "sha256": file.sha256,
                    "matches": file.matches,
                    "compared": [
                        {"source": one.source, "sha256": one.sha256, "matches": one.matches}
                        for one in file.compared
                    ],
                }
                for file in self.files
            ],
        }

    def __str__(self) -> str:
        lines = []
        for file in self.files:
            lines.append(f"{file.sha256}  {plain_text(file.path.name, 200)}")
            for one in file.compared:
                source = plain_text(one.source, 200)
                lines.append(
                    f"  the same as {source} says"
                    if one.matches
                    else f"  NOT what {source} says: {one.sha256}"
                )
            if not file.compared:
                lines.append("  nothing is known to compare it with; it is remembered from now on")
        if self.structure_error is None:
            lines.append(
                f"All {self.num_tensors:,} tensors lie inside their file and have the right size."
            )
        else:
            lines.append(self.structure_error)
        lines += self.notes
        name = plain_text(self.name, 100)
        if not self.ok:
            lines.append(f'"{name}" is damaged or is another file. Download or copy it again.')
        elif self.compared:
            lines.append(f'"{name}" is whole.')
        else:
            lines.append(
                f'"{name}" looks whole; whether each byte is right nobody can tell without a hash.'
            )
        return "\n".join(lines)


def verify(
    model: ModelEntry | str | os.PathLike[str],
    expected: str | Sequence[str] | Mapping[str, str] | None = None,
    *,
    on_progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> VerifyResult:
    """Read all of a model's files and say whether they are what they should be.

    Parameters
    ----------
    model : ModelEntry, str or path-like
        A name from the list, or a path; whoever it belongs to.
    expected : str, sequence of str, or mapping of file name to str, optional
        The SHA-256 that its file should have; of a split model, of all parts in order or by name.
    on_progress : callable, optional
        Called with a `Progress` some ten times a second, from this thread.
    cancelled : callable, optional
        Asked after every 4 MiB; True stops the check.

    Returns
    -------
    VerifyResult
        A file that is damaged is a result, not an error.

    Raises
    ------
    FileChangeError
        `problem` is "cancelled", "changed" (while it was read), "permission", "missing" or "read".
    InvalidValueError
        `expected` holds no SHA-256, or not one for each part.
    ModelFileError
        There is no such model.
    """
    files = model_files(model)
    paths = [member.path for member in files.members if member.kind != "checksum"]
    given = _given(files.parts, expected)
    error, num_tensors, notes = _structure(files.parts)
    for companion in (path for path in paths if path not in files.parts):
        its_error, its_tensors, its_notes = _structure([companion])
        error, num_tensors, notes = error or its_error, num_tensors + its_tensors, notes + its_notes
    watch = Watch(
        "hash", sum(_size(path) for path in paths), on_progress=on_progress, cancelled=cancelled
    )
    checks = []
    for path in paths:
        known = known_hashes(path)
        if path in given:
            known.insert(0, Known(given[path], "the hash that you gave"))
        sha256, status = _hash(path, watch)
        compared = tuple(Comparison(k.source, k.sha256, k.sha256 == sha256) for k in known)
        checks.append(FileCheck(path, status.st_size, sha256, compared))
        if error is None and all(one.matches for one in compared):
            remember_read(path, sha256, status)
    return VerifyResult(files.stem, tuple(checks), error, num_tensors, tuple(notes))


def _given(
    parts: Sequence[Path], expected: str | Sequence[str] | Mapping[str, str] | None
) -> dict[Path, str]:
    if expected is None:
        return {}
    if isinstance(expected, Mapping):
        by_name = {part.name: part for part in parts}
        unknown = [name for name in expected if name not in by_name]
        if unknown:
            raise InvalidValueError(
                f"The model has no file {unknown[0][:200]!r}; it has {', '.join(by_name)}."
            )
        return {by_name[name]: checked_hash(text) for name, text in expected.items()}
    hashes = [expected] if isinstance(expected, str) else list(expected)
    if len(hashes) != len(parts):
        raise InvalidValueError(
            f"The model has {len(parts)} files, and {len(hashes)} hashes were given. Give one for "
            "each, in order."
        )
    return {part: checked_hash(text) for part, text in zip(parts, hashes, strict=True)}


def _structure(parts: Sequence[Path]) -> tuple[str | None, int, list[str]]:
    """Return what is wrong with the header, how many tensors are right, and what is odd."""
    try:
        header = read_header(parts[0])
    except ModelFileError as error:
        return error.message, 0, []
    known = [tensor for tensor in header.tensors if tensor.size is not None]
    notes = []
    if len(known) < len(header.tensors):
        types = ", ".join(sorted({t.type for t in header.tensors if t.size is None}))
        notes.append(
            f"{len(header.tensors) - len(known)} tensors are in a number format that this program "
            f"does not know ({types}), so their size could not be checked."
        )
    notes += _behind(header)
    return None, len(known), notes


def _behind(header: GgufHeader) -> list[str]:
    """Say where a file goes on behind its last tensor, by more than padding."""
    notes = []
    for number, path in enumerate(header.parts):
        own = [tensor for tensor in header.tensors if tensor.part == number]
        if not own or any(tensor.size is None for tensor in own):
            continue
        end = max(tensor.offset + (tensor.size or 0) for tensor in own)
        end = -(-end // header.alignment) * header.alignment
        extra = _size(path) - end
        if extra > 0:
            notes.append(
                f"{shown(path)} goes on for {format_bytes(extra)} behind its last tensor, which "
                "nothing reads."
            )
    return notes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise failed(path, error) from error


def _hash(path: Path, watch: Watch) -> tuple[str, os.stat_result]:
    """Return the hash of a file, and what the file was like when it had been read."""
    digest, done = hashlib.sha256(), 0
    try:
        # Not Path.open: a named pipe that has come in its place must not make us wait.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            watch.add(0)
            # A file that grows as fast as it is read would have no end.
            while done <= before.st_size and (data := file.read(_CHUNK_BYTES)):
                digest.update(data)
                done += len(data)
                watch.add(len(data))
            after = os.fstat(file.fileno())
    except OSError as error:
        raise FileChangeError(
            f"{shown(path)} cannot be read to its end: {error.strerror or error}. "
            + (
                "Check its permissions."
                if isinstance(error, PermissionError)
                else "The disk may be failing."
            ),
            problem="permission" if isinstance(error, PermissionError) else "read",
            path=str(path),
        ) from error
    whole = stat.S_ISREG(after.st_mode) and done == after.st_size
    if _content(before) != _content(after) or not whole:
        raise FileChangeError(
            f"{shown(path)} was changed while it was read. Wait until it is complete, then check "
            "it again.",
            problem="changed",
            path=str(path),
        )
    return digest.hexdigest(), after


def _content(status: os.stat_result) -> tuple[int, int]:
    # Not the time of the last change of its name: it may be renamed while it is read.
    return status.st_size, status.st_mtime_ns
