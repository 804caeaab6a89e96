"""The file of a saved prefix: what a model has computed for some tokens, kept for another day.

The file, all numbers little-endian::

    8 bytes   "GWPREFIX"
    4 bytes   the format's version
    4 bytes   the header's length
    16 bytes  which user's secret the mark was made with
    32 bytes  the mark: HMAC-SHA-256, with that secret, of all of the above and the header
    ...       the header (msgpack): what the state belongs to, its tokens, the state's length and
              SHA-256
    ...       the state, as the runtime wrote it

Promises: a file is written beside its place and put there when it is complete, so that a crash
leaves the old file or none; a file that is not a saved prefix is never written over. What is read
is checked to its last byte before any of it is believed. A file is for its user's eyes only (0600):
the tokens are the text. Leaves to others: where states come from and go to (`engine.state`), when
they fit the model that is loaded (`state_identity.py`).

**Why the mark.** A state goes into llama.cpp's memory, and llama.cpp is not made to survive a state
that somebody has thought up: at best such a file would end the worker, at worst answer in the
model's place. A checksum only tells that a file is as it was written, not by whom. So a file is
taken only if it carries the mark of the secret in this user's data folder: nobody who cannot read
that folder can make one. The price is that a prefix cannot be handed to somebody else, or taken to
another machine without that folder's ``state.key``; it is computed there again.

`StateFileError.details["problem"]` is one of

==================  ==============================================================================
missing             there is no such file
unreadable          no permission, no plain file, or the disk failed
not_a_state         something else than a saved prefix
version             a format this program does not know
truncated           the file ends too early, or goes on too long
damaged             the mark or the checksum does not fit: it was changed after it was written
foreign             written with another user's secret
other_model         saved with another model, precision or file        (`state_identity.py`)
other_settings      saved with settings that change the numbers        (`state_identity.py`)
other_runtime       saved by another version of the runtime            (`state_identity.py`)
model_changed       the loaded model's file is not the same any more   (`state_identity.py`)
no_room             it does not fit the context, or the memory
exists              there is another file where it is to be written
folder              there is no folder to write it in
space               the disk is too full
write               writing failed
key                 this user's secret cannot be used                  (`state_key.py`)
no_prefix           the conversation has no beginning to save          (`engine.state_prompt`)
==================  ==============================================================================
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from gguf_widgets.core.errors import RequestCancelledError, StateFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.settings import Value
from gguf_widgets.core.state_identity import StateIdentity

__all__ = [
    "PrefixInfo",
    "SavedState",
    "StateHeader",
    "is_state_file",
    "new_header",
    "open_state",
    "pack",
    "shown",
]

MAGIC: Final = b"GWPREFIX"
VERSION: Final = 1

_START: Final = struct.Struct("<8sII16s")
_MARK_BYTES: Final = 32
_FIXED_BYTES: Final = _START.size + _MARK_BYTES

# 15 million tokens and what else a header says.
_MAX_HEADER_BYTES: Final = 64 << 20

_CHUNK_BYTES: Final = 16 << 20

_AGAIN: Final = "Save the prefix again."


class PrefixInfo(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prefix that was saved or restored.

    `num_cached_tokens` of its tokens were in the model's memory before the call, so that they were
    neither computed nor read.
    """

    path: str
    num_tokens: int
    num_cached_tokens: int
    size_bytes: int
    created: float  # seconds since 1970, UTC


class StateHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of its state; `tokens` are 32-bit numbers."""

    identity: StateIdentity
    tokens: bytes
    state_bytes: int
    state_sha256: bytes
    created: float
    package_version: str

    def token_list(self) -> list[int]:
        """Return the tokens as numbers."""
        return list(struct.unpack(f"<{len(self.tokens) // 4}i", self.tokens))


def shown(path: str | os.PathLike[str]) -> str:
    """Return a file's name, quoted, as it may stand in a sentence."""
    return f'"{plain_text(Path(path).name or os.fspath(path), 100)}"'


# --- writing -----------------------------------------------------------------------------------


def new_header(
    identity: StateIdentity, tokens: list[int], state: Any, package_version: str
) -> StateHeader:
    """Describe a state, which is read whole for its checksum."""
    return StateHeader(
        identity=identity,
        tokens=struct.pack(f"<{len(tokens)}i", *tokens),
        state_bytes=len(state),
        state_sha256=hashlib.sha256(state).digest(),
        created=time.time(),
        package_version=package_version,
    )


def pack(header: StateHeader, key: bytes) -> bytes:
    """Return everything of a file that comes before its state."""
    body = msgspec.msgpack.encode(header)
    if len(body) > _MAX_HEADER_BYTES:
        raise StateFileError(
            f"A prefix of {len(header.tokens) // 4:,} tokens is too long to be saved.",
            problem="no_room",
        )
    start = _START.pack(MAGIC, VERSION, len(body), _key_id(key))
    return start + _mark(key, start, body) + body


# --- reading -----------------------------------------------------------------------------------


class SavedState:
    """An open file whose header has been checked; made by `open_state`.

    Attributes
    ----------
    path : Path
    header : StateHeader
    size_bytes : int
        Of the whole file.
    """

    def __init__(self, path: Path, file: BinaryIO, header: StateHeader, size_bytes: int) -> None:
        self.path = path
        self.header = header
        self.size_bytes = size_bytes
        self._file = file

    def read_into(self, state: memoryview, cancelled: Callable[[], bool]) -> None:
        """Read the state into memory of `header.state_bytes` bytes and check it there.

        Raises
        ------
        StateFileError
            "truncated", "damaged" or "unreadable".
        RequestCancelledError
            If `cancelled` said so.
        """
        digest = hashlib.sha256()
        done = 0
        while done < len(state):
            if cancelled():
                raise RequestCancelledError("The prefix is not restored: nobody waits for it.")
            try:
                count = self._file.readinto(state[done : done + _CHUNK_BYTES])  # type: ignore[attr-defined]
            except OSError as error:
                raise _unreadable(self.path, error) from error
            if not count:
                raise _truncated(self.path)
            digest.update(state[done : done + count])
            done += count
        if not hmac.compare_digest(digest.digest(), self.header.state_sha256):
            raise _damaged(self.path)


@contextmanager
def open_state(path: Path, key: bytes) -> Iterator[SavedState]:
    """Open a saved prefix and check everything but its state.

    Raises
    ------
    StateFileError
        "missing", "unreadable", "not_a_state", "version", "foreign", "truncated" or "damaged".
    """
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            header = _read_header(path, file, size, key)
        except OSError as error:
            raise _unreadable(path, error) from error
        yield SavedState(path, file, header, size)


def is_state_file(path: Path) -> bool:
    """Say whether a file begins as a saved prefix does.

    Raises
    ------
    StateFileError
        "missing" or "unreadable".
    """
    with _open(path) as file:
        try:
            return file.read(len(MAGIC)) == MAGIC
        except OSError as error:
            raise _unreadable(path, error) from error


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    # Not Path.open: a named pipe must not make us wait for whoever writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise StateFileError(
            f"There is no saved prefix at {plain_text(str(path), 200)}.",
            problem="missing",
            path=str(path),
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StateFileError(
                f"{shown(path)} is not a plain file.", problem="unreadable", path=str(path)
            )
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _read_header(path: Path, file: BinaryIO, size: int, key: bytes) -> StateHeader:
    fixed = file.read(_FIXED_BYTES)
    if not fixed or not MAGIC.startswith(fixed[: len(MAGIC)]):
        raise StateFileError(
            f"{shown(path)} is not a saved prefix.", problem="not_a_state", path=str(path)
        )
    if len(fixed) < _FIXED_BYTES:
        raise _truncated(path)
    start, mark = fixed[: _START.size], fixed[_START.size :]
    _, version, length, key_id = _START.unpack(start)
    if version != VERSION:
        raise StateFileError(
            f"{shown(path)} has version {version} of the format; this program knows {VERSION}."
            f" {_AGAIN}",
            problem="version",
            path=str(path),
            version=version,
        )
    if not hmac.compare_digest(key_id, _key_id(key)):
        raise StateFileError(
            f"{shown(path)} was not saved by you on this machine, and a prefix goes into the"
            " model's memory as it is, so only your own are taken. Save it again with your own"
            " model.",
            problem="foreign",
            path=str(path),
        )
    if length > _MAX_HEADER_BYTES:
        raise _damaged(path)
    body = file.read(length)
    if len(body) < length:
        raise _truncated(path)
    if not hmac.compare_digest(mark, _mark(key, start, body)):
        raise _damaged(path)
    try:
        header = msgspec.msgpack.decode(body, type=StateHeader)
    except msgspec.MsgspecError as error:
        raise _damaged(path) from error
    if len(header.tokens) % 4 or header.state_bytes <= 0:
        raise _damaged(path)
    if size != _FIXED_BYTES + length + header.state_bytes:
        raise _truncated(path)
    return header


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"gguf-widgets state key\0" + key).digest()[:16]


def _mark(key: bytes, start: bytes, body: bytes) -> bytes:
    return hmac.new(key, start + body, hashlib.sha256).digest()


def _truncated(path: Path) -> StateFileError:
    return StateFileError(
        f"{shown(path)} is not complete: it has not the length that it should have. {_AGAIN}",
        problem="truncated",
        path=str(path),
    )


def _damaged(path: Path) -> StateFileError:
    return StateFileError(
        f"{shown(path)} has been changed since it was saved, or the disk has lost some of it."
        f" {_AGAIN}",
        problem="damaged",
        path=str(path),
    )


def _unreadable(path: Path, error: OSError) -> StateFileError:
    return StateFileError(
        f"{shown(path)} cannot be read: {error.strerror or error}.",
        problem="unreadable",
        path=str(path),
    )
