"""What the program remembers about a person between visits.

Promises: a value that was set is there for every later notebook, page and process; values are
plain JSON; `update` changes a value without losing what another process changed meanwhile. Leaves
to others: what the values mean.

=================  =============================================================================
key                value
=================  =============================================================================
`LAST_MODEL`       ``{"path": ..., "settings": {...}}``: the model that was loaded last
`PRESETS`          ``{name: {...}}``: the person's own presets
`OPEN_TAB`         the dashboard's open tab
`LAST_CONVERSATION`  the id of the conversation that was on screen
`CHAT_SETTINGS`    the settings of a new conversation that has no message yet
=================  =============================================================================
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.store import Store, default_store

__all__ = ["CHAT_SETTINGS", "LAST_CONVERSATION", "LAST_MODEL", "OPEN_TAB", "PRESETS", "Preferences"]

LAST_MODEL = "last_model"
PRESETS = "presets"
OPEN_TAB = "open_tab"
LAST_CONVERSATION = "last_conversation"
CHAT_SETTINGS = "chat_settings"

_log = logging.getLogger(__name__)


class Preferences:
    """Values by key, in the store.

    Parameters
    ----------
    store : Store, optional
        Default: this process's own.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.store = store if store is not None else default_store()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default` if it was never set or cannot be read."""
        with self.store.reading() as connection:
            row = connection.execute(
                "SELECT value FROM preference WHERE key = ?", (_checked(key),)
            ).fetchone()
        return _decode(key, row[0], default) if row is not None else default

    def set(self, key: str, value: Any) -> None:
        """Keep `value` (JSON: str, int, float, bool, None, lists and dicts of these).

        Raises
        ------
        InvalidValueError
            The value cannot be written as JSON.
        """
        self.update(key, lambda _: value)

    def update(self, key: str, change: Callable[[Any], Any], default: Any = None) -> Any:
        """Replace the value by ``change(value)``, in one transaction; return the new value."""
        with self.store.transaction() as connection:
            row = connection.execute(
                "SELECT value FROM preference WHERE key = ?", (_checked(key),)
            ).fetchone()
            new = change(_decode(key, row[0], default) if row is not None else default)
            connection.execute(
                "INSERT INTO preference (key, value, updated_at) VALUES (?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
                "updated_at = excluded.updated_at",
                (key, _encode(key, new), time.time()),
            )
        return new

    def delete(self, key: str) -> None:
        """Forget `key`; it need not be there."""
        with self.store.transaction() as connection:
            connection.execute("DELETE FROM preference WHERE key = ?", (_checked(key),))

    def all(self) -> dict[str, Any]:
        """Return every key and value."""
        with self.store.reading() as connection:
            rows = connection.execute("SELECT key, value FROM preference ORDER BY key").fetchall()
        return {key: _decode(key, value, None) for key, value in rows}


def _checked(key: str) -> str:
    if not isinstance(key, str) or not key or len(key) > 200:
        raise InvalidValueError(
            f"A preference's key is a text of 1 to 200 characters, not {key!r:.80}."
        )
    return key


def _encode(key: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(
            f"The preference {key!r} cannot be kept: {error}. It may hold texts, finite numbers, "
            "true, false, null, and lists and dicts of these."
        ) from error


def _decode(key: str, text: str, default: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        _log.warning("The preference %r cannot be read and was taken as not set.", key)
        return default
