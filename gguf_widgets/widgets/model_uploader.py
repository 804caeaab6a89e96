"""`ModelUploader`: bring model files of any size to this machine through the browser.

Promises: a file is judged by its beginning and refused at once if it is no use; what arrived is
kept over a dropped connection, a closed page and a restarted kernel, and goes on when the same file
is chosen again; whatever goes wrong is a sentence in the widget; callbacks only enqueue. Leaves to
others: what an upload is (`core.upload`), pieces that come as messages (`_uploader_desk`), files
that are on this machine already (`_browse_desk`), reading the file and the look (static/), the list
of models (`ModelPicker`).

Where the page is the dashboard's own, the bytes go over its HTTP route and not through Python's
comms; then the page reports what it sends (`holds`) and what has ended, and both are checked here.

The page's messages: ``snapshot``, ``ping``, ``begin`` (with the file's first 64 KiB), ``piece``,
``ask``, ``pause``, ``cancel``, ``remove``, ``here``, ``bye``, ``ended``, and those of
`_browse_desk`; each with a ``mid``, and all but the first two with the ``page`` that sends.
Python's: ``state``, ``pong``, ``answer`` to a ``mid``, ``session`` (what `UploadSession` says,
about the ``session`` that a ``begin`` started), ``alive``, ``do`` (what Python's own methods want
from the page that has the file), ``gone``, ``notice``.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import anywidget
import traitlets

from gguf_widgets.core import config
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    InvalidValueError,
    UploadError,
    to_wire,
)
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.library import browse
from gguf_widgets.core.upload import HEAD_BYTES, Upload, UploadLimits, UploadStore
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._browse_desk import BrowseDesk
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._uploader_desk import Desk, Message, page_of, plain
from gguf_widgets.widgets._words import as_known

__all__ = ["ModelUploader"]

_STATIC = Path(__file__).parent / "static"
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MAX_HELD: Final = 200
_MAX_ENDED: Final = 50
# A page says every five seconds what it sends; a hidden one, once a minute.
_HELD_S: Final = 150.0


class ModelUploader(anywidget.AnyWidget):
    """A place to drop model files, or to choose those that are on this machine already.

    The latter are not copied. ``GGUF_WIDGETS_BROWSE`` says where they may be (`core.config`).

    Parameters
    ----------
    folder : str or Path, optional
        Where the files are put; default: the user's own models folder.
    limits : UploadLimits, optional
        The largest file, a quota, what stays free on the disk.

    Attributes
    ----------
    finished : str
        Where the last file is that has arrived, was there already, or was chosen in place;
        ``uploader.observe(callback, "finished")`` tells of the next, on the widget's own thread;
        observers should return quickly.
    uploads : list of dict
        Those that are not finished, oldest first, then those that this widget saw end; each as
        `gguf_widgets.core.upload.Upload`'s attributes, in plain data.

    Raises
    ------
    InvalidValueError
        `folder` is no path, or `limits` are no `UploadLimits`.

    Examples
    --------
    >>> uploader = ModelUploader()  # doctest: +SKIP
    >>> uploader.observe(lambda change: print(change.new), "finished")  # doctest: +SKIP
    """

    # As text: a path would make anywidget keep every widget for good, for its live reload.
    _esm = esm(_STATIC / "model_uploader.js")
    _css = css(_STATIC / "model_uploader.css")
    own_id = traitlets.Unicode().tag(sync=True)  # for the page, see `hearAnyway` in _connection.js
    finished = traitlets.Unicode(default_value="")

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, limits: UploadLimits | None = None
    ) -> None:
        if folder is not None and not isinstance(folder, str | os.PathLike):
            raise InvalidValueError(f"folder is {folder!r}; it must be a path.")
        if limits is not None and not isinstance(limits, UploadLimits):
            raise InvalidValueError(f"limits are {limits!r}; they must be UploadLimits.")
        super().__init__(**new_identity())
        # The dashboard's server writes to the usual folder, with the usual limits.
        self._is_usual = folder is None and limits is None
        self._is_listed = folder is None
        self.store = _shared_store(folder, limits)
        self._desk = Desk(self.store, self._tell_pages, self._note_ended)
        self._browse = BrowseDesk(
            f"ModelUploader-browse-{self.model_id[:8]}",
            self._tell_pages,
            self._note_chosen,
            self._touch,
        )
        # By upload: the page that sends it over HTTP, and when it said so.
        self._held: dict[str, tuple[str, float]] = {}
        self._ended: list[Message] = []
        self._shown: object = None
        self._actor = Actor(
            f"ModelUploader-{self.model_id[:8]}", self._work, failed=self._show_failure
        )
        answer_where_asked(self.comm)
        self.on_msg(self._on_page)

    # -- from code --------------------------------------------------------------------------------

    @property
    def uploads(self) -> list[Message]:
        """Those that are not finished, oldest first, then those that this widget saw end."""
        return [plain(upload) for upload in self.store.uploads()] + list(self._ended)

    def pause(self, upload_id: str) -> None:
        """Stop an upload for a while.

        Raises
        ------
        UploadError
            "unknown", or no page of this widget is sending it.
        """
        if self._desk.has(upload_id):
            self._desk.pause(upload_id)
        else:
            self._ask_page("pause", upload_id)
        self._touch()

    def resume(self, upload_id: str) -> None:
        """Have the page that has the file go on after a pause or a failure.

        Raises
        ------
        UploadError
            "unknown", or no page of this widget has the file: then choose it there again.
        """
        self._ask_page("resume", upload_id)

    def cancel(self, upload_id: str) -> None:
        """Give up an upload and remove what arrived.

        Raises
        ------
        UploadError
            "unknown"; "in_use" if a page that is not this widget's is sending it.
        """
        if self._desk.has(upload_id):
            self._desk.cancel(upload_id)
            self.send({"kind": "gone", "id": upload_id})
        elif self._is_held(upload_id):
            self._ask_page("cancel", upload_id)
        else:
            self.remove(upload_id)
        self._touch()

    def remove(self, upload_id: str) -> None:
        """Remove what arrived of an upload that nobody is sending.

        Raises
        ------
        UploadError
            "unknown"; "in_use" while a page is sending it.
        """
        self.store.remove(upload_id)
        self.send({"kind": "gone", "id": upload_id})
        self._touch()

    def close(self) -> None:
        """End the widget; what arrived is kept and can go on."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_actor"):
            self._actor.close()
            self._browse.close()
            self._desk.close()
        super().close()

    def _ask_page(self, action: str, upload_id: str) -> None:
        """Have the page that has the file do it; the bytes are there."""
        upload = self.store.status(upload_id)
        if not self._is_held(upload_id) and not self._desk.has(upload_id):
            raise UploadError(
                f'No page of this widget has "{upload.name}" at hand. Choose the same file there'
                " again: it goes on where it stopped.",
                problem="not_here",
                id=upload_id,
            )
        self.send({"kind": "do", "action": action, "id": upload_id})

    def _is_held(self, upload_id: str) -> bool:
        _, at = self._held.get(upload_id, ("", float("-inf")))
        return time.monotonic() - at < _HELD_S

    # -- from the page ----------------------------------------------------------------------------

    def _on_page(self, _widget: object, content: Any, buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        kind = content.get("kind")
        # These only enqueue, and keep a bounded amount; the queue below has no bound.
        if kind == "piece":
            self._desk.feed(content, buffers)
        elif kind == "ask":
            self._desk.ask(content)
        elif isinstance(kind, str) and kind.startswith("browse-"):
            self._browse.post(content)
        else:
            self._actor.post((content, _small(buffers) if kind == "begin" else []))

    def _work(self, item: tuple[Message, Any] | Callable[[], None]) -> None:
        """Do one thing of the queue; on the widget's own thread."""
        if callable(item):
            item()
            return
        content, buffers = item
        action = self._ACTIONS.get(str(content.get("kind")))
        if action is None:
            return
        try:
            answer = action(self, content, buffers)
        except GgufWidgetsError as error:
            self._answer(content, error=to_wire(error))
        except Exception as error:
            self._answer(content, error=to_wire(as_known(error)))
            raise  # so that it is logged as well
        else:
            if answer is not None:
                self._answer(content, **answer)

    def _answer(self, content: Message, **more: Any) -> None:
        self.send({"kind": "answer", "mid": content.get("mid"), **more})

    def _ping(self, content: Message, _buffers: Any) -> None:
        self.send({"kind": "pong", "mid": content.get("mid")})
        self._desk.sweep()
        self._browse.refresh()
        self._send_state(only_if_changed=True)

    def _snapshot(self, _content: Message, _buffers: Any) -> None:
        self._browse.refresh()
        self._send_state()

    def _begin(self, content: Message, buffers: Any) -> Message:
        return {"upload": self._desk.begin(content, buffers)}

    def _pause_clicked(self, content: Message, _buffers: Any) -> Message:
        return {"upload": self._desk.pause(_id_of(content), page_of(content))}

    def _cancel_clicked(self, content: Message, _buffers: Any) -> Message:
        self._desk.cancel(_id_of(content), page_of(content))
        self._send_state()
        return {"upload": None}

    def _remove_clicked(self, content: Message, _buffers: Any) -> Message:
        self.remove(_id_of(content))
        return {"upload": None}

    def _here(self, content: Message, _buffers: Any) -> None:
        """Note what a page sends, and tell it what was last said of it."""
        page = page_of(content)
        self._held = {one: held for one, held in self._held.items() if held[0] != page}
        held = content.get("holds")
        for one in held[:_MAX_HELD] if isinstance(held, list) else ():
            if isinstance(one, str) and _ID.fullmatch(one) and len(self._held) < _MAX_HELD:
                self._held[one] = (page, time.monotonic())
        self.send({"kind": "alive", "page": page, "said": self._desk.hear(page)})

    def _bye(self, content: Message, _buffers: Any) -> None:
        page = page_of(content)
        self._held = {one: held for one, held in self._held.items() if held[0] != page}
        self._desk.leave(page)
        self._send_state()

    def _ended_elsewhere(self, content: Message, _buffers: Any) -> None:
        """Take note of an upload that ended over HTTP; what the page says is looked at first."""
        given = content.get("path")
        if not isinstance(given, str) or len(given) > 4096 or "\0" in given:
            return
        path, models = Path(given), self.store.models.resolve()
        if not path.is_absolute() or ".." in path.parts:
            return
        try:
            inside = path.resolve(strict=True).is_relative_to(models) and path.is_file()
            size = path.stat().st_size
        except OSError:
            return
        if not inside or path.suffix.lower() != ".gguf":
            return
        upload_id = content.get("id")
        known = upload_id if isinstance(upload_id, str) and _ID.fullmatch(upload_id) else "0" * 32
        upload = Upload(
            id=known,
            name=path.name,
            given_name=path.name,
            size=size,
            offset=size,
            state="already_there" if content.get("state") == "already_there" else "done",
            path=given,
        )
        self._set_finished(plain(upload))

    def _set_finished(self, upload: Message) -> None:
        self._ended = [*self._ended, upload][-_MAX_ENDED:]
        self._send_state()
        self.finished = upload["path"]

    _ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "ping": _ping,
        "snapshot": _snapshot,
        "begin": _begin,
        "pause": _pause_clicked,
        "cancel": _cancel_clicked,
        "remove": _remove_clicked,
        "here": _here,
        "bye": _bye,
        "ended": _ended_elsewhere,
    }

    # -- to the page ------------------------------------------------------------------------------

    def _tell_pages(self, message: Message) -> None:
        self.send(message)

    def _note_ended(self, upload: Message) -> None:
        self._actor.post(lambda: self._set_finished(upload))

    def _note_chosen(self, path: Path) -> None:
        self._actor.post(lambda: setattr(self, "finished", str(path)))

    def _touch(self) -> None:
        self._actor.post(self._send_state)

    def _send_state(self, *, only_if_changed: bool = False) -> None:
        state = self._state()
        ages = [{**upload, "age_s": 0} for upload in state["uploads"]]
        shown = {**state, "uploads": ages}
        if only_if_changed and shown == self._shown:
            return
        self._shown = shown
        self.send({"kind": "state", "state": state})

    def _state(self) -> Message:
        notice = ""
        try:
            uploads = [_view(upload) for upload in self.store.uploads()]
        except GgufWidgetsError as error:  # the folder cannot be used: say so, and go on asking
            uploads, notice = [], error.message
        return {
            "folder": str(self.store.models),
            "room": self._room(),
            "route": self.store.mark if self._is_usual else "",
            "listed": self._is_listed,
            "notice": notice,
            "uploads": uploads,
            "browse": {"isAllowed": browse.is_allowed(), "added": self._browse.added},
        }

    def _room(self) -> str:
        """Say how much may come; "" where the disk does not tell."""
        place = self.store.models
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            free = shutil.disk_usage(place).free - self.store.limits.leave_free_bytes
        except OSError:
            return ""
        return format_bytes(max(0, free))

    def _show_failure(self, error: Exception) -> None:
        self.send({"kind": "notice", "text": as_known(error).message})


def _view(upload: Upload) -> Message:
    """Return what the page shows of an upload that it does not send itself."""
    return {
        "id": upload.id,
        "name": upload.name,
        "givenName": upload.given_name,
        "size": upload.size,
        "offset": upload.offset,
        "state": upload.state,
        "age_s": round(upload.age_s),
        "isSent": upload.owner is not None,
        "error": upload.error["message"] if upload.error is not None else "",
    }


def _small(buffers: Any) -> list[Any]:
    """Return the buffers if they are no more than a file's beginning, so that none pile up."""
    given = buffers if isinstance(buffers, list | tuple) else []
    fits = all(isinstance(one, bytes | memoryview) and len(one) <= HEAD_BYTES for one in given[:2])
    return list(given[:2]) if fits else []


def _id_of(content: Message) -> str:
    """Return the upload that a page means; the store refuses what is none."""
    return str(content.get("id", ""))[:64]


_stores: weakref.WeakValueDictionary[tuple[str, UploadLimits], UploadStore] = (
    weakref.WeakValueDictionary()
)
_stores_lock = threading.Lock()


def _shared_store(
    folder: str | os.PathLike[str] | None, limits: UploadLimits | None
) -> UploadStore:
    """Return the one store that all widgets of this process share, so that files wait in a row."""
    models = config.models_dir() if folder is None else config.expanded(os.fspath(folder))
    key = (os.path.realpath(models), limits or UploadLimits())
    with _stores_lock:
        store = _stores.get(key)
        if store is None:
            store = _stores[key] = UploadStore(models, limits=limits)
        return store
