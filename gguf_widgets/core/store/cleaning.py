"""Removing for good what was deleted long ago.

Promises: a deleted conversation can be brought back for `KEPT_S`; after that it goes, with its
files, when a program opens the store, and so do files that were chosen and never sent; a store that
is busy or cannot be written is left for the next time, and nobody waits. Leaves to others: deleting
(`conversations`).
"""

from __future__ import annotations

import logging
import time

from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.store.conversation_files import has_unused
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store

__all__ = ["KEPT_S", "clean"]

KEPT_S = 30 * 24 * 3600.0

_LOCK_WAIT_S = 0.2

_log = logging.getLogger(__name__)


def clean(store: Store) -> int:
    """Remove what was deleted at least 30 days ago; return how many conversations."""
    try:
        with store.reading() as connection:
            (found,) = connection.execute(
                "SELECT EXISTS (SELECT 1 FROM conversation WHERE deleted_at <= ?)",
                (time.time() - KEPT_S,),
            ).fetchone()
        if not found and not has_unused(store):
            return 0
        return Conversations(store).purge(older_than_s=KEPT_S, wait_s=_LOCK_WAIT_S)
    except StoreError as error:
        _log.info("Old deleted conversations stay for now: %s", error.message)
        return 0
