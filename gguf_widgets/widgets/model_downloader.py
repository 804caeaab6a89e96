"""`ModelDownloader`: find models on the hub, see what fits, and fetch them.

Promises: what is on screen is kept in Python, so a page that is loaded again shows all of it, what
is under way included; closing the page, or the widget, ends no download while Python runs; whatever
goes wrong is a sentence where it belongs; callbacks only enqueue. Leaves to others: the downloads
(`core.download.queue`, shared by all widgets of the process), looking for models
(`_downloader_find`), the words (`_downloader_words`), the look (static/), the list of models
(`ModelPicker`).

The page's messages: ``snapshot``, ``ping``, ``hint``, ``find``, ``more``, ``stop``, ``open``,
``fold``, ``download``, ``download-address``, ``pause``, ``go-on``, ``cancel``, ``dismiss``,
``left-go-on``, ``left-remove``, each with a ``mid``. Python's: ``state`` (all there is), ``jobs``
(the downloads alone, at most eight times a second), ``pong``, ``answer`` to a ``mid``, ``notice``.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import anywidget
import traitlets

from gguf_widgets.core.config import models_dir
from gguf_widgets.core.download.http import INSTALL_LINE
from gguf_widgets.core.download.jobs import DownloadJob
from gguf_widgets.core.download.looking import free_bytes, hub_is_offline
from gguf_widgets.core.download.queue import DownloadQueue, shared_queue
from gguf_widgets.core.errors import DownloadError, GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._downloader_errors import error_view
from gguf_widgets.widgets._downloader_find import FIRST_FOUND, Finder
from gguf_widgets.widgets._downloader_words import Message, hint_of, job_view, left_view
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._words import as_known

__all__ = ["ModelDownloader"]

_STATIC = Path(__file__).parent / "static"
_LONGEST_TEXT: Final = 5000  # of what a page sends; names have 4,000 characters at most
_JOBS_EVERY_S: Final = 0.125
_LEFT_EVERY_S: Final = 2.5  # another program may have begun or ended one


class ModelDownloader(anywidget.AnyWidget):
    """Finds models on the hub, or at an address, and fetches them.

    Parameters
    ----------
    queue : DownloadQueue, optional
        Where downloads wait for their turn; default: the one of this process.

    Attributes
    ----------
    finished : str
        Where the last model is that has arrived, or was found to be here already;
        ``downloader.observe(callback, "finished")`` tells of the next, on the widget's own thread;
        observers should return quickly.

    Raises
    ------
    InvalidValueError
        `queue` is no `DownloadQueue`.

    Examples
    --------
    >>> downloader = ModelDownloader()  # doctest: +SKIP
    >>> downloader.search("small chat model")  # doctest: +SKIP
    >>> downloader.download("hf:owner/repo:Q4_K_M")  # doctest: +SKIP
    """

    # As text: a path would make anywidget keep every widget for good, for its live reload.
    _esm = esm(_STATIC / "model_downloader.js")
    _css = css(_STATIC / "model_downloader.css")
    own_id = traitlets.Unicode().tag(sync=True)  # for the page, see `hearAnyway` in _connection.js
    finished = traitlets.Unicode(default_value="")

    def __init__(self, queue: DownloadQueue | None = None) -> None:
        if queue is not None and not isinstance(queue, DownloadQueue):
            raise InvalidValueError(f"queue is {queue!r:.80}; it must be a DownloadQueue.")
        super().__init__(**new_identity())
        self.queue = shared_queue() if queue is None else queue
        self._lock = threading.Lock()
        # What the observer, in the threads that download, has told: states by id.
        self._states = {job.id: job.state for job in self.queue.jobs()}
        self._is_dirty = False
        self._sent_at = float("-inf")
        self._left: list[Message] = []
        self._left_at = float("-inf")
        self._left_error = ""
        self._actor = Actor(
            f"ModelDownloader-{self.model_id[:8]}", self._work, self._tick, self._show_failure
        )
        self._finder = Finder(self._actor.post, self._send_state)
        self._end_observing = self.queue.observe(self._on_job)
        answer_where_asked(self.comm)
        self.on_msg(self._on_page)

    # -- from code --------------------------------------------------------------------------------

    @property
    def jobs(self) -> list[DownloadJob]:
        """The downloads of this process: under way, waiting, stopped, and those that ended."""
        return self.queue.jobs()

    def download(
        self,
        name: str,
        *,
        sha256: str | None = None,
        revision: str | None = None,
        newer: Literal["tell", "ignore", "get"] = "tell",
    ) -> str:
        """Fetch a model in the background, and show it; see `DownloadQueue.add`.

        Returns
        -------
        str
            The download's id, for ``downloader.queue``.

        Raises
        ------
        InvalidValueError
        """
        return self.queue.add(name, sha256=sha256, revision=revision, newer=newer)

    def search(self, text: str) -> None:
        """Look for words, for a name or for an address, as if it were typed; returns at once."""
        self._actor.post(lambda: self._finder.find(str(text)[:_LONGEST_TEXT]))

    def close(self) -> None:
        """End the widget; downloads go on."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_end_observing"):
            self._end_observing()
            self._finder.close()
            self._actor.close()
        super().close()

    # -- what happens -----------------------------------------------------------------------------

    def _on_job(self, job: DownloadJob) -> None:
        """Take note of a download's change; in the thread that downloads."""
        with self._lock:
            is_new = self._states.get(job.id) != job.state
            self._states[job.id] = job.state
            if job.state == "removed":
                del self._states[job.id]
            is_told = self._is_dirty
            self._is_dirty = True
        if is_new:
            self._actor.post(lambda: self._on_turn(job))
        elif not is_told:
            self._actor.post(lambda: None)  # so that the tick comes by

    def _on_turn(self, job: DownloadJob) -> None:
        """Something began or ended."""
        self._look_for_left()
        if job.state == "done" and job.path is not None:
            self._finder.arrived(job.name, job.path)
        self._send_state()
        if job.state == "done" and job.path is not None:
            self.finished = str(job.path)

    def _on_page(self, _widget: object, content: Any, _buffers: Any) -> None:
        if isinstance(content, dict):
            self._actor.post(content)

    def _work(self, item: Message | Callable[[], None]) -> None:
        """Do one thing of the queue; on the widget's own thread."""
        if callable(item):
            item()
            return
        action = self._ACTIONS.get(str(item.get("kind")))
        if action is None:
            return
        try:
            answer = action(self, item)
        except GgufWidgetsError as error:
            self._answer(item, error=error_view(error))
        except Exception as error:
            self._answer(item, error=error_view(as_known(error)))
            raise  # so that it is logged as well
        else:
            if answer is not None:
                self._answer(item, **answer)

    def _tick(self) -> float | None:
        """Send how far downloads are, some times a second."""
        with self._lock:
            if not self._is_dirty:
                return None
            wait = self._sent_at + _JOBS_EVERY_S - time.monotonic()
            if wait > 0:
                return wait
            self._is_dirty = False
        self._sent_at = time.monotonic()
        self.send({"kind": "jobs", "jobs": self._job_views()})
        return None

    def _answer(self, content: Message, **more: Any) -> None:
        self.send({"kind": "answer", "mid": content.get("mid"), **more})

    # -- what the page asks for -------------------------------------------------------------------

    def _ping(self, content: Message) -> None:
        self.send({"kind": "pong", "mid": content.get("mid")})
        if time.monotonic() - self._left_at > _LEFT_EVERY_S:
            before = self._left
            self._look_for_left()
            if self._left != before:
                self._send_state()

    def _snapshot(self, _content: Message) -> None:
        self._look_for_left()
        self._send_state()

    def _hint(self, content: Message) -> Message:
        return hint_of(_text(content, "text"))

    def _find(self, content: Message) -> None:
        self._finder.find(_text(content, "text"), FIRST_FOUND)

    def _more(self, _content: Message) -> None:
        self._finder.more()

    def _stop(self, _content: Message) -> None:
        self._finder.stop()

    def _open(self, content: Message) -> None:
        self._finder.open(_text(content, "repo"))

    def _fold(self, content: Message) -> None:
        self._finder.fold(_text(content, "repo"))

    def _download(self, content: Message) -> Message:
        name = _text(content, "name")
        newer: Literal["tell", "get"] = "get" if content.get("replace") is True else "tell"
        return {
            "id": self.queue.add(name, newer=newer, revision=self._finder.revision_of(name)),
        }

    def _download_address(self, content: Message) -> Message:
        if not self._finder.url:
            raise DownloadError("Paste the address again, then look at it.", problem="unknown")
        digest = _text(content, "sha256").strip() or None
        return {"id": self.queue.add(self._finder.url, sha256=digest)}

    def _pause_clicked(self, content: Message) -> None:
        self.queue.pause(_text(content, "id"))

    def _go_on_clicked(self, content: Message) -> None:
        self.queue.resume(_text(content, "id"))

    def _cancel_clicked(self, content: Message) -> None:
        self.queue.cancel(_text(content, "id"))

    def _dismiss_clicked(self, content: Message) -> None:
        self.queue.dismiss(_text(content, "id"))

    def _left_go_on(self, content: Message) -> Message:
        return {"id": self.queue.go_on(_text(content, "key"))}

    def _left_remove(self, content: Message) -> Message:
        try:
            self.queue.remove(_text(content, "key"))
        finally:
            self._look_for_left()
            self._send_state()
        return {}

    _ACTIONS: ClassVar[dict[str, Callable[[Any, Message], Message | None]]] = {
        "ping": _ping,
        "snapshot": _snapshot,
        "hint": _hint,
        "find": _find,
        "more": _more,
        "stop": _stop,
        "open": _open,
        "fold": _fold,
        "download": _download,
        "download-address": _download_address,
        "pause": _pause_clicked,
        "go-on": _go_on_clicked,
        "cancel": _cancel_clicked,
        "dismiss": _dismiss_clicked,
        "left-go-on": _left_go_on,
        "left-remove": _left_remove,
    }

    # -- to the page ------------------------------------------------------------------------------

    def _look_for_left(self) -> None:
        """Look at the disk for what is unfinished."""
        self._left_at = time.monotonic()
        self._left_error = ""
        try:
            self._left = [left_view(left) for left in self.queue.leftovers()]
        except OSError as error:
            self._left_error = f"The models folder cannot be read: {error.strerror or error}."

    def _job_views(self) -> list[Message]:
        return [job_view(job) for job in self.queue.jobs()]

    def _send_state(self) -> None:
        self.send({"kind": "state", "state": self._state()})

    def _state(self) -> Message:
        free = free_bytes()
        return {
            "folder": str(models_dir()),
            "room": "" if free is None else format_bytes(free),
            "offline": hub_is_offline(),
            "install": "" if importlib.util.find_spec("huggingface_hub") else INSTALL_LINE,
            "notice": self._left_error,
            "find": self._finder.view(),
            "jobs": self._job_views(),
            "left": self._left,
        }

    def _show_failure(self, error: Exception) -> None:
        self.send({"kind": "notice", "text": as_known(error).message})


def _text(content: Message, key: str) -> str:
    """Return a text that a page sent; whoever uses it says what is wrong with it."""
    value = content.get(key)
    if not isinstance(value, str):
        return ""
    if len(value) > _LONGEST_TEXT:
        raise InvalidValueError(
            f"That is {len(value):,} characters; {_LONGEST_TEXT:,} at most.", limit=_LONGEST_TEXT
        )
    return value
