"""Files that were sent with messages, and the tokens of answers, in the store.

Promises: the bytes of a file are kept once, and as long as a message names them; a file that no
message ever named goes after `UNUSED_S`. Leaves to others: what a file may be
(`core.chat.attach`), what the tokens mean (`core.chat.alignment`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store import token_blob
from gguf_widgets.core.store.store import BUSY_S, Store
from gguf_widgets.core.store.token_blob import KeptTokens

__all__ = [
    "UNUSED_S",
    "drop_unused",
    "file_of",
    "has_unused",
    "keep_file",
    "keep_tokens",
    "name_files",
    "tokens_of",
]

# Between choosing a file and sending the message lies as long as somebody leaves a page open.
UNUSED_S = 24 * 3600.0


def keep_file(store: Store, data: bytes, mime: str) -> str:
    """Keep a file and return its digest, under which `file_of` finds it."""
    digest = hashlib.sha256(data).hexdigest()
    now = time.time()
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO chat_file (sha256, mime, data, created_at) VALUES (?, ?, ?, ?) "
            # Again: it counts as new, so that it is not dropped before the message names it.
            "ON CONFLICT (sha256) DO UPDATE SET created_at = excluded.created_at",
            (digest, mime, data, now),
        )
    return digest


def file_of(store: Store, sha256: str) -> bytes:
    """Return a file's bytes.

    Raises
    ------
    InvalidValueError
        There is none with this digest.
    """
    with store.reading() as connection:
        row = connection.execute(
            "SELECT data FROM chat_file WHERE sha256 = ?", (sha256,)
        ).fetchone()
    if row is None:
        raise InvalidValueError(
            f"The file {sha256!r:.80} is not in the store. It may have been removed with its "
            "conversation; attach it again.",
            sha256=sha256,
        )
    return bytes(row[0])


def name_files(store: Store, message_id: str, digests: Iterable[str]) -> None:
    """Say that a message names these files: they stay as long as it does."""
    with store.transaction() as connection:
        connection.executemany(
            # One that was attached without its bytes has nothing to be kept.
            "INSERT OR IGNORE INTO message_file (message_id, sha256) "
            "SELECT ?, sha256 FROM chat_file WHERE sha256 = ?",
            [(message_id, digest) for digest in digests],
        )


_UNUSED = (
    "FROM chat_file WHERE created_at <= ? AND NOT EXISTS "
    "(SELECT 1 FROM message_file WHERE message_file.sha256 = chat_file.sha256)"
)


def has_unused(store: Store) -> bool:
    """Return whether there are files that no message names and that are older than a day."""
    with store.reading() as connection:
        (found,) = connection.execute(
            f"SELECT EXISTS (SELECT 1 {_UNUSED})",
            (time.time() - UNUSED_S,),
        ).fetchone()
    return bool(found)


def drop_unused(store: Store) -> int:
    """Remove the files that no message names and that are older than a day; return how many."""
    with store.transaction() as connection:
        return connection.execute(
            f"DELETE {_UNUSED}",
            (time.time() - UNUSED_S,),
        ).rowcount


def keep_tokens(store: Store, message_id: str, kept: KeptTokens, *, wait_s: float = BUSY_S) -> None:
    """Keep the tokens of an answer, in place of those it had; one that is gone has none."""
    data = token_blob.pack(kept)
    with store.transaction(wait_s=wait_s) as connection:
        connection.execute(
            "INSERT INTO message_token (message_id, data) SELECT id, ? FROM message WHERE id = ? "
            "ON CONFLICT (message_id) DO UPDATE SET data = excluded.data",
            (data, message_id),
        )


def tokens_of(store: Store, message_id: str) -> KeptTokens | None:
    """Return the tokens of an answer; None if none were recorded, or they cannot be read."""
    with store.reading() as connection:
        row = connection.execute(
            "SELECT data FROM message_token WHERE message_id = ?", (message_id,)
        ).fetchone()
    return token_blob.unpack(row[0]) if row is not None else None
