"""The runs of before: listed, called something else, deleted and brought back.

Promises: a run under way is not deleted; what was deleted on this page can be brought back on it;
the list says when it has more than it shows. Leaves to others: which run is shown (`batch_table`),
keeping them (`core.store.batch_runs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from gguf_widgets.core.errors import BatchError, InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._batch_result import is_under_way
from gguf_widgets.widgets._batch_words import earlier_view

__all__ = ["Earlier"]

Message = dict[str, Any]

_AT_FIRST: Final = 30
_MORE: Final = 100
_MOST: Final = 2000
_LONGEST_TITLE: Final = 200
_MOST_UNDONE: Final = 20


class Host(Protocol):
    """What the widget offers."""

    def list_soon(self) -> None:
        """Have `Earlier.look` called on the thread for long work."""
        ...

    def show(self, run_id: str | None) -> None:
        """Show this run, or none."""
        ...

    def shown_id(self) -> str | None:
        """Return which run is shown."""
        ...

    def hidden_ids(self) -> set[str]:
        """Return the runs that are not to be listed: those that were only checked."""
        ...


class Earlier:
    """The list.

    Parameters
    ----------
    host : Host
    store : Store
    """

    def __init__(self, host: Host, store: Store) -> None:
        self._host, self._store, self._runs = host, store, BatchRuns(store)
        self._listed: list[Message] | None = None
        self._has_more = False
        self._limit = _AT_FIRST
        self._deleted: list[Message] = []

    def look(self) -> None:
        """Look what there is now; on the thread for long work."""
        hidden = self._host.hidden_ids()
        found = self._runs.recent(limit=self._limit + len(hidden) + 1)
        found = [record for record in found if record.id not in hidden]
        self._has_more = len(found) > self._limit
        self._listed = [
            earlier_view(record, RunTasks(self._store, record.id).counts())
            for record in found[: self._limit]
        ]

    def look_first(self) -> None:
        """Look, unless that was done before."""
        if self._listed is None:
            self._listed = []
            self._host.list_soon()

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
        run_id, title = _id_in(content), content.get("title")
        if not isinstance(title, str) or not title.strip():
            raise InvalidValueError("Write what the run is to be called.")
        title = " ".join(title.split())
        if len(title) > _LONGEST_TITLE:
            raise InvalidValueError(
                f"A title has {_LONGEST_TITLE} characters at most; this has {len(title):,}."
            )
        self._runs.rename(run_id, title)
        self._host.list_soon()
        return {}

    def _delete(self, content: Message, _buffers: Any) -> Message:
        record = self._runs.get(_id_in(content))
        title = plain_text(record.title) or "Without a title"
        if is_under_way(record.status):
            how = "Stop it" if self._host.shown_id() == record.id else "Open it and stop it"
            raise BatchError(f"“{title}” is at work. {how} first; then it can be deleted.")
        self._runs.delete(record.id)
        self._deleted = [one for one in self._deleted if one["id"] != record.id]
        self._deleted.append({"id": record.id, "title": title})
        del self._deleted[:-_MOST_UNDONE]
        if self._host.shown_id() == record.id:
            self._host.show(None)
        self._host.list_soon()
        return {}

    def _restore(self, content: Message, _buffers: Any) -> Message:
        run_id = _id_in(content)
        self._runs.restore(run_id)
        self._deleted = [one for one in self._deleted if one["id"] != run_id]
        self._host.list_soon()
        return {}

    def _forget(self, _content: Message, _buffers: Any) -> Message:
        self._deleted = []
        return {}

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "earlier": _look,
        "open": _open,
        "rename": _rename,
        "delete": _delete,
        "restore": _restore,
        "forget-deleted": _forget,
    }

    def part(self) -> Message:
        """Return what the pages show of it."""
        return {
            "runs": self._listed or [],
            "hasMore": self._has_more,
            "deleted": list(self._deleted),
        }


def _id_in(content: Message) -> str:
    run_id = content.get("id")
    if not isinstance(run_id, str) or len(run_id) != 32:
        raise InvalidValueError("A run is known by its id.")
    return run_id
