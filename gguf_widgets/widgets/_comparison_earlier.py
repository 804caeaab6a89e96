"""The comparisons of before: listed, opened, called something else, deleted.

Promises: one that is under way is not deleted; the list says when it has more than it shows. Leaves
to others: which one is shown (`comparison_view`), keeping them (`compare.records`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.records import Records
from gguf_widgets.compare.types import ComparisonStatus
from gguf_widgets.core.errors import BatchError, GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._comparison_words import title_of, when_words

__all__ = ["Earlier"]

Message = dict[str, Any]

_AT_FIRST: Final = 20
_MORE: Final = 100
_MOST: Final = 1000
_LONGEST_TITLE: Final = 200

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What the widget offers."""

    def list_soon(self) -> None:
        """Have `Earlier.look` called on the thread for long work."""
        ...

    def show(self, comparison_id: str | None) -> None:
        """Show this comparison, or none."""
        ...

    def shown_id(self) -> str | None:
        """Return which one is shown."""
        ...


class Earlier:
    """The list.

    Parameters
    ----------
    host : Host
    store, manager
    """

    def __init__(self, host: Host, store: Store, manager: ModelManager) -> None:
        self._host, self._store, self._manager = host, store, manager
        self._records = Records(store)
        self._listed: list[Message] | None = None
        self._has_more = False
        self._limit = _AT_FIRST

    def look(self) -> None:
        """Look what there is now; on the thread for long work."""
        found = self._records.recent(limit=self._limit + 1)
        self._has_more = len(found) > self._limit
        self._listed = [self._line(record) for record in found[: self._limit]]

    def look_first(self) -> None:
        """Look, unless that was done before."""
        if self._listed is None:
            self._listed = []
            self._host.list_soon()

    def _line(self, record: Any) -> Message:
        told = {
            "id": record.id,
            "when": when_words(record.created_at),
            "prompts": record.num_prompts,
            "status": record.status.value,
        }
        try:
            one = Comparison(record.id, self._store, self._manager)
            progress = one.progress
            labels = one.labels
        except GgufWidgetsError as error:  # a newer version's
            _log.warning("A comparison cannot be read: %s", error.message)
            return told | {
                "title": plain_text(record.title, 120) or "A comparison",
                "done": 0,
                "total": 0,
                "error": error.message,
            }
        return told | {
            "title": title_of(record.title, labels),
            "labels": [plain_text(label, 40) for label in labels],
            "done": progress.num_done,
            "total": progress.num_total,
            "error": "",
        }

    # -- from the page ----------------------------------------------------------------------------

    def _look(self, content: Message, _buffers: Any) -> Message:
        if content.get("more"):
            self._limit = min(_MOST, self._limit + _MORE)
        self._host.list_soon()
        return {}

    def _open(self, content: Message, _buffers: Any) -> Message:
        self._host.show(None if content.get("id") is None else _id_in(content))
        self._host.list_soon()
        return {}

    def _rename(self, content: Message, _buffers: Any) -> Message:
        title = content.get("title")
        if not isinstance(title, str) or not title.strip():
            raise InvalidValueError("Write what the comparison is to be called.")
        title = " ".join(title.split())
        if len(title) > _LONGEST_TITLE:
            raise InvalidValueError(
                f"A title has {_LONGEST_TITLE} characters at most; this has {len(title):,}."
            )
        self._records.rename(_id_in(content), title)
        self._host.list_soon()
        return {}

    def _delete(self, content: Message, _buffers: Any) -> Message:
        record = self._records.get(_id_in(content))
        if record.status is ComparisonStatus.RUNNING:
            raise BatchError("This comparison is at work. Open it and stop it first.")
        self._records.discard(record.id)
        if self._host.shown_id() == record.id:
            self._host.show(None)
        self._host.list_soon()
        return {}

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "earlier": _look,
        "open": _open,
        "rename": _rename,
        "delete": _delete,
    }

    def part(self) -> Message:
        """Return what the pages show of it."""
        return {"list": self._listed or [], "hasMore": self._has_more}


def _id_in(content: Message) -> str:
    comparison_id = content.get("id")
    if not isinstance(comparison_id, str) or len(comparison_id) != 32:
        raise InvalidValueError("A comparison is known by its id.")
    return comparison_id
