"""The settings of a conversation, kept with it: what its next message is sent with.

Promises: what was kept is found by every later notebook and page that opens the conversation; it
goes with the conversation. It is in ``conversation.extra`` under ``"settings"``, as JSON; what else
is in there stays. Leaves to others: what the settings mean and whether they can still be used
(`core.chat.settings`).
"""

from __future__ import annotations

import json
from typing import Any

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.json_values import from_json
from gguf_widgets.core.store.store import Store

__all__ = ["keep_settings", "kept_settings"]


def keep_settings(store: Store, conversation_id: str, settings: dict[str, Any]) -> None:
    """Keep settings with a conversation, in place of those before.

    The time of its last change stays: nothing was said in it.

    Raises
    ------
    InvalidValueError
        There is no such conversation.
    StoreError
        They could not be kept.
    """
    text = json.dumps(settings, allow_nan=False)
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT extra FROM conversation WHERE id = ?", (conversation_id,)
        ).fetchone()
        if row is None:
            raise InvalidValueError(f"There is no conversation {conversation_id!r:.80}.")
        extra = from_json(row[0])
        extra = {**extra} if isinstance(extra, dict) else {}
        extra["settings"] = json.loads(text)
        connection.execute(
            "UPDATE conversation SET extra = ? WHERE id = ?", (json.dumps(extra), conversation_id)
        )


def kept_settings(store: Store, conversation_id: str) -> dict[str, Any] | None:
    """Return the settings that were kept with a conversation; None if there are none."""
    with store.reading() as connection:
        row = connection.execute(
            "SELECT extra FROM conversation WHERE id = ?", (conversation_id,)
        ).fetchone()
    extra = from_json(row[0]) if row is not None else None
    found = extra.get("settings") if isinstance(extra, dict) else None
    return found if isinstance(found, dict) else None
