"""The secret that marks saved prefixes as this user's own.

Promises: one secret for each data folder, drawn when it is first wanted, readable by its user
alone, the same for all processes however many ask at once. Leaves to others: what is marked with it
(`state_file.py`).
"""

from __future__ import annotations

import os
import secrets
from typing import Final

import filelock

from gguf_widgets.core import config
from gguf_widgets.core.errors import StateFileError

__all__ = ["KEY_BYTES", "user_key"]

KEY_BYTES: Final = 32

_LOCK_TIMEOUT_S: Final = 10.0


def user_key() -> bytes:
    """Return this user's secret.

    Raises
    ------
    StateFileError
        "key" if its file cannot be read or made, or holds something else.
    """
    path = config.state_key_path()
    try:
        if not path.exists():
            config.ensure(path.parent)
            lock = filelock.FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT_S, mode=0o600)
            with lock:
                if not path.exists():
                    _draw()
        key = path.read_bytes()
    except (OSError, filelock.Timeout) as error:
        raise StateFileError(
            f"The secret in {path}, which marks saved prefixes as yours, cannot be read: {error}.",
            problem="key",
            path=str(path),
        ) from error
    if len(key) != KEY_BYTES:
        raise StateFileError(
            f"{path}, which holds the secret that marks saved prefixes as yours, is damaged. Remove"
            " it and save your prefixes again.",
            problem="key",
            path=str(path),
        )
    return key


def _draw() -> None:
    path = config.state_key_path()
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a process that was killed just then
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)  # whoever looks sees all of it or nothing
