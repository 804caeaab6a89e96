"""Giving files other names or places: all of them, or none.

Promises: no file is ever written over (`core.plain_files.give_name` says how far, on a disk without
second names); when one move fails, those before it are taken back; a move is a rename wherever the
file system can do it, and else a copy whose hash was compared before the original goes. At every
moment each file is whole under its old name or its new one. `undo` puts back what a killed process
has left half done, from nothing but the list of moves. Leaves to others: keeping that list safe
(`journal`), and whether a move is allowed (`ownership`, `names`).

Names are compared as the strictest file system does: one that does not see capital letters, or
writes an accent as a letter of its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core.care.progress import Watch
from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.file_names import same_name
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.plain_files import give_name, sync_folder

__all__ = [
    "LEFT_FREE_BYTES",
    "PART_ENDING",
    "Move",
    "carry_out",
    "failed",
    "plan",
    "refuse_taken",
    "undo",
]

_CHUNK_BYTES: Final = 4 << 20

PART_ENDING: Final = ".moving.part"
"""Of a copy that is not complete; while nobody is moving files, nobody needs one."""

LEFT_FREE_BYTES: Final = 64 << 20
"""Other programs need some of the disk, too."""

# What a copy's time may differ by: FAT counts in steps of two seconds.
_COARSE_NS: Final = 2_000_000_000


class Move(msgspec.Struct, frozen=True):
    """One file's way, and what tells it from any other file.

    Attributes
    ----------
    source, target : str
    size, mtime_ns : int
        As they were before; both survive a rename and a copy.
    link : str or None
        For a link: where it leads.
    """

    source: str
    target: str
    size: int
    mtime_ns: int
    link: str | None = None

    def is_at(self, path: str) -> bool:
        """Return whether the file that is meant is there now."""
        try:
            status = os.lstat(path)
            if self.link is not None:
                return stat.S_ISLNK(status.st_mode) and str(Path(path).readlink()) == self.link
        except (OSError, ValueError):
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != self.size:
            return False
        # Only a copy, to a disk that counts time in larger steps, has another one.
        allowed = _COARSE_NS if path == self.target else 0
        return abs(status.st_mtime_ns - self.mtime_ns) <= allowed

    @property
    def is_same_name(self) -> bool:
        """Whether some file systems take the new name for the old one: "a" and "A"."""
        source, target = Path(self.source), Path(self.target)
        return source.parent == target.parent and same_name(source.name) == same_name(target.name)


def plan(source: Path, target: Path) -> Move:
    """Return a move of a file as it is now.

    Raises
    ------
    FileChangeError
        "missing" or "read".
    """
    try:
        status = source.lstat()
        link = str(source.readlink()) if stat.S_ISLNK(status.st_mode) else None
    except OSError as error:
        raise failed(source, error) from error
    return Move(str(source), str(target), status.st_size, status.st_mtime_ns, link)


def refuse_taken(moves: Sequence[Move]) -> None:
    """Refuse moves to names that are in use, or twice to the same.

    Raises
    ------
    FileChangeError
        "taken".
    """
    seen: set[str] = set()
    for move in moves:
        folded = same_name(move.target)
        if folded in seen:
            raise _taken(Path(move.target))
        _refuse_taken(move)
        seen.add(folded)


def carry_out(moves: Sequence[Move], watch: Watch | None = None) -> None:
    """Move all files, or none.

    Parameters
    ----------
    moves : sequence of Move
    watch : Watch, optional
        Told of the bytes that had to be copied, and stops between two of them.

    Raises
    ------
    FileChangeError
        "taken", "space", "read", "permission", "in_use", "write", "cancelled" or "missing"; with
        `left` in its details if something could not be put back.
    """
    begun: list[Move] = []
    try:
        for move in moves:
            _refuse_taken(move)
            begun.append(move)
            _move(move, watch)
        for folder in {Path(move.target).parent for move in moves}:
            sync_folder(folder)
        for folder in {Path(move.source).parent for move in moves}:
            sync_folder(folder)
    except BaseException as error:
        if isinstance(error, FileChangeError) and error.details.get("problem") == "taken":
            # What is at the last one's target came from somebody else and is not ours to undo.
            begun = [move for move in begun if move.target != error.details["path"]]
        left = undo(begun)
        known = error
        if isinstance(error, OSError):
            known = failed(Path(begun[-1].source), error)
        if left and isinstance(known, FileChangeError):
            names = ", ".join(plain_text(move.target, 200) for move in left[:3])
            raise FileChangeError(
                f"{known.message} What had been moved before could not all be put back: {names}.",
                **{**known.details, "left": [move.target for move in left]},
            ) from error
        if known is not error:
            raise known from error
        raise


def undo(moves: Sequence[Move], *, target_is_ours: bool = False) -> list[Move]:
    """Put back whatever of these moves has happened; return those that could not be.

    Parameters
    ----------
    moves : sequence of Move
    target_is_ours : bool, default False
        Nobody else puts files where these were going to, so a second copy there may go.
    """
    return [move for move in reversed(moves) if not _undo(move, target_is_ours=target_is_ours)]


def failed(path: Path, error: OSError) -> FileChangeError:
    """Return the error for a file that the system did not let us change."""
    name, where = shown(path), str(path)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return FileChangeError(
            f"{name} could not be changed: the disk is full. Make room, then try again.",
            problem="space",
            path=where,
        )
    # Windows lets nobody move a file that is open or mapped.
    if getattr(error, "winerror", None) in (32, 33):
        return FileChangeError(
            f"{name} is open in another program. Close it there (a loaded model: "
            '"gguf-widgets stop"), then try again.',
            problem="in_use",
            path=where,
        )
    if isinstance(error, FileNotFoundError):
        return FileChangeError(f"{name} is not there any more.", problem="missing", path=where)
    if isinstance(error, PermissionError):
        return FileChangeError(
            f"You have no permission to change {name} in {plain_text(str(path.parent), 200)}. "
            "Change the folder's permissions, or ask its owner.",
            problem="permission",
            path=where,
        )
    return FileChangeError(
        f"{name} could not be changed: {error.strerror or error}.", problem="write", path=where
    )


# --- inside ---


def _taken(target: Path) -> FileChangeError:
    return FileChangeError(
        f"There is a file {shown(target)} in {plain_text(str(target.parent), 200)} already. "
        "Choose another name.",
        problem="taken",
        path=str(target),
    )


def _refuse_taken(move: Move) -> None:
    if _is_taken(move):
        raise _taken(Path(move.target))


def _is_taken(move: Move) -> bool:
    if not os.path.lexists(move.target):
        return False
    # Where names are not told apart that well, it is the same file by its other name; two names of
    # one file are two where both of them are listed.
    source, target = Path(move.source), Path(move.target)
    if not (move.is_same_name and _is_same_file(source, target)):
        return True
    composed = {_composed(source.name), _composed(target.name)}
    return len([name for name in _names_in(target.parent) if _composed(name) in composed]) > 1


def _are_listed(source: Path, target: Path) -> tuple[bool, bool]:
    """Return whether their folder holds exactly these two names, capital letters included."""
    names = _names_in(target.parent)
    if not names & {source.name, target.name}:
        # HFS+ writes accents apart, whatever it is given.
        names = {_composed(name) for name in names}
        return _composed(source.name) in names, _composed(target.name) in names
    return source.name in names, target.name in names


def _names_in(folder: Path) -> set[str]:
    try:
        return {other.name for other in folder.iterdir()}
    except OSError:
        return set()


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _move(move: Move, watch: Watch | None) -> None:
    source, target = Path(move.source), Path(move.target)
    try:
        _rename(move, source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(move, source, target, watch)


def _rename(move: Move, source: Path, target: Path) -> None:
    if move.is_same_name and os.path.lexists(target):
        _refuse_taken(move)
        source.rename(target)
        return
    try:
        give_name(source, target)
    except FileExistsError as error:
        raise _taken(target) from error


def _copy(move: Move, source: Path, target: Path, watch: Watch | None) -> None:
    """Bring a file to another file system; the original goes last."""
    if move.link is not None:
        target.symlink_to(move.link)
        source.unlink()
        return
    free = shutil.disk_usage(target.parent).free
    if free < move.size + LEFT_FREE_BYTES:
        raise FileChangeError(
            f"{shown(source)} would have to be copied to another disk, where it needs "
            f"{format_bytes(move.size)} and {format_bytes(free)} is free "
            f"({format_bytes(LEFT_FREE_BYTES)} of it stay free for others). Make room there.",
            problem="space",
            path=str(target.parent),
            needed_bytes=move.size,
            free_bytes=free,
        )
    # Not with the file's own name in it, which may be as long as names can be.
    part = target.with_name(f".{secrets.token_hex(8)}{PART_ENDING}")
    try:
        digest = _copy_bytes(move, part, watch)
        if digest is None or not move.is_at(str(source)):
            raise FileChangeError(
                f"{shown(source)} was changed while it was copied. Try again.",
                problem="changed",
                path=str(source),
            )
        with contextlib.suppress(OSError):  # some disks know no permissions
            shutil.copystat(source, part)
        os.utime(part, ns=(source.stat().st_atime_ns, move.mtime_ns))
        if _hash_from_disk(part, watch) != digest:
            raise FileChangeError(
                f"The copy of {shown(source)} is not the same as the original: one of the two "
                "disks makes errors. The original is where it was.",
                problem="write",
                path=str(source),
            )
        _rename(Move(str(part), str(target), move.size, move.mtime_ns), part, target)
        sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):  # it has its name now, or the disk is gone
            part.unlink(missing_ok=True)
    source.unlink()


def _copy_bytes(move: Move, part: Path, watch: Watch | None) -> bytes | None:
    """Copy what was there when the move was planned; None if something else is there."""
    digest = hashlib.sha256()
    # No link and no named pipe that has come in its place: it would lead elsewhere, or wait.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(move.source, flags | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb", buffering=0) as read:
        if not stat.S_ISREG(os.fstat(read.fileno()).st_mode):
            return None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(part, flags, 0o600), "wb", buffering=0) as write:
            left = move.size
            while data := read.read(_CHUNK_BYTES):
                left -= len(data)
                if left < 0:
                    return None  # it grows, maybe as fast as it is copied
                digest.update(data)
                rest = memoryview(data)
                while rest:
                    rest = rest[write.write(rest) :]
                if watch is not None:
                    watch.add(len(data))
            os.fsync(write.fileno())
    return digest.digest() if left == 0 else None


def _hash_from_disk(path: Path, watch: Watch | None) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        # What was written is still in memory, and reading that would prove nothing.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while data := file.read(_CHUNK_BYTES):
            digest.update(data)
            if watch is not None:
                watch.check()
    return digest.digest()


def _undo(move: Move, *, target_is_ours: bool) -> bool:
    """Put one file back; return whether it is where it was, or gone by somebody else's hand."""
    source, target = Path(move.source), Path(move.target)
    try:
        if move.is_same_name:
            at_source, at_target = _are_listed(source, target)
            if at_target and not at_source:
                target.rename(source)
            elif at_target and source.name != target.name and _is_same_file(source, target):
                _drop_second_name(source, target)
            return True
        if move.is_at(move.source):
            # It has not begun, or was between its two names. The second name goes only if it is
            # this very file, or a copy of it where nobody else puts any.
            if _is_same_file(source, target) or (target_is_ours and move.is_at(move.target)):
                target.unlink()
            return True
        if not move.is_at(move.target):
            return True
        # Where the old name has been taken meanwhile, this fails and the file stays.
        _move(plan(target, source), None)
        sync_folder(source.parent)
    except (OSError, FileChangeError):
        return False
    return True


def _drop_second_name(source: Path, target: Path) -> None:
    """Take the new name off a file that was between its two names when its process was killed."""
    if source.stat().st_nlink > 1 and {source.name, target.name} <= _names_in(target.parent):
        target.unlink()


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except OSError:
        return False
