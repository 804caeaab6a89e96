"""Looking after the listed models from the page: rename, remove and undo, check, smaller copies.

Promises: only what is on the list is touched, by its path, and only what is in the trash is put
back or deleted, by its id; each request of a page is answered once, with what came of it, a
question or an error; nothing of it holds up the widget's thread. A model that is loaded is removed
or renamed only after a question. Leaves to others: the work (`core.care`), long jobs and their
progress (`_picker_jobs`), sizes of copies (`_picker_forms`), the words (`_picker_care_words`).

Messages from the page: rename {path, name, confirm}, remove {path, confirm}, restore {id, name},
empty {ids}, check {path}, forms {path}, convert {path, form, name, requantize}, stop {key},
dismiss {key}, hush; each with `mid`. To the page: `answer` {mid, and one of `error`, `ask`,
`renamed`, `removed`, `restored`, `emptied`, `forms`, `started`}, `job` {job}.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from gguf_widgets.core import config, demo_mode
from gguf_widgets.core.care.checking import verify
from gguf_widgets.core.care.converting import convert
from gguf_widgets.core.care.in_use import workers_of
from gguf_widgets.core.care.members import model_files
from gguf_widgets.core.care.names import checked_stem
from gguf_widgets.core.care.ownership import owner_of
from gguf_widgets.core.care.records import TrashEntry
from gguf_widgets.core.care.removing import empty_trash, remove, restore, trash
from gguf_widgets.core.care.renaming import free_stem, rename
from gguf_widgets.core.care.trash_folder import not_in_trash
from gguf_widgets.core.errors import (
    FileChangeError,
    GgufWidgetsError,
    MissingDependencyError,
    ModelFileError,
    ModelInUseError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.core.worker_facts import Worker
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._picker_care_words import (
    ask_to_remove,
    ask_to_rename,
    check_view,
    convert_view,
    error_content,
    removed_text,
    trash_view,
    where_view,
)
from gguf_widgets.widgets._picker_forms import folder_for, forms_of
from gguf_widgets.widgets._picker_jobs import Job, Jobs
from gguf_widgets.widgets._words import as_known

__all__ = ["Care"]

Content = dict[str, Any]

# A page's own words are short; what is longer is no name and no id.
_LONGEST: Final = 1000
_MAX_IDS: Final = 10_000
# Undo is for what was done just now; the trash holds the rest.
_MAX_REMOVED: Final = 50

_log = logging.getLogger(__name__)


class Care:
    """One picker's hand for model files.

    Parameters
    ----------
    send : callable
        Takes a message for the page; called from several threads.
    entry_of : callable
        Returns the listed model at a path, or None.
    status_of : callable
        Returns "idle", "loading" or "loaded" for a path: what this picker does with it.
    unload : callable
        Unloads this picker's model.
    renamed : callable
        Told of a model's old path and its new one.
    changed : callable
        Has the list looked through and sent again.
    """

    def __init__(
        self,
        *,
        send: Callable[[Content], object],
        entry_of: Callable[[Path], ModelEntry | None],
        status_of: Callable[[Path], str],
        unload: Callable[[], object],
        renamed: Callable[[Path, Path], object],
        changed: Callable[[], object],
    ) -> None:
        self._send, self._entry_of, self._status_of = send, entry_of, status_of
        self._unload, self._renamed, self._changed = unload, renamed, changed
        self._lock = threading.Lock()
        self._removed: list[tuple[str, str]] = []  # id in the trash, sentence; the latest last
        self._said = ""
        self._trash: list[TrashEntry] = []
        self._trash_notice = ""
        self._seen = ""  # the trash's token when it was looked at last
        self._jobs = Jobs(send, changed)
        self._mover = Actor("ModelPicker-care", lambda work: work())

    def take(self, content: Content) -> None:
        """Do what a page asks for; one of `KINDS`. Returns at once."""
        self._ACTIONS[content["kind"]](self, content)

    def state(self, listed: set[str]) -> Content:
        """Return what a page has to know: jobs, what can be undone, the trash.

        Parameters
        ----------
        listed : set of str
            The paths on the list.
        """
        self._jobs.forget(listed)
        if self.change_token() != self._seen:
            self._mover.post(self._look_again)
        with self._lock:
            entries, notice = self._trash, self._trash_notice
            inside = {entry.id: entry for entry in entries}
            self._removed = [one for one in self._removed if one[0] in inside]
            removed = [
                {"id": one, "name": inside[one].name, "text": text} for one, text in self._removed
            ]
            said = self._said
        return {
            "jobs": self._jobs.views(),
            "removed": removed,
            "said": said,
            "trash": trash_view(entries),
            "trashNotice": notice,
        }

    def change_token(self) -> str:
        """Return a text that changes whenever the trash may have changed."""
        with contextlib.suppress(OSError):
            return str(config.trash_dir().stat().st_mtime_ns)
        return ""

    def where(self, entry: ModelEntry) -> Content:
        """Return where a model is and whose it is; it may take some milliseconds."""
        files = None
        with contextlib.suppress(GgufWidgetsError):  # no model file is there to be looked after
            files = model_files(entry)
        is_file = False
        with contextlib.suppress(OSError, ValueError):
            is_file = entry.path.is_file()
        return where_view(entry, owner_of(entry), files, is_file=is_file)

    def close(self) -> None:
        """End all that is under way."""
        self._jobs.close()
        self._mover.close()

    # -- renaming, removing and back: one after another, in a thread of their own ------------------

    def _rename_clicked(self, content: Content) -> None:
        self._do(content, lambda: self._rename(content))

    def _rename(self, content: Content) -> Content:
        entry = self._listed(content)
        is_here = self._refuse_if_busy(entry)
        try:
            result = rename(entry, _text(content, "name"), confirm=content.get("confirm") is True)
        except ModelInUseError:
            return {"ask": ask_to_rename(_holders(entry), is_here=is_here)}
        self._jobs.rename(str(entry.path), str(result.path))
        self._renamed(entry.path, result.path)
        # That it is loaded still was the question; the rest is news.
        notes = [note for note in result.notes if not note.startswith("It is still loaded")]
        self._say(" ".join(notes))
        return {"renamed": {"from": str(entry.path), "to": str(result.path)}}

    def _remove_clicked(self, content: Content) -> None:
        self._do(content, lambda: self._remove(content))

    def _remove(self, content: Content) -> Content:
        entry = self._listed(content)
        is_here = self._refuse_if_busy(entry)
        confirm = content.get("confirm") is True
        if confirm:
            self._set_free(entry, is_here=is_here)
        job = Job(str(entry.path), "remove")
        with self._moving(job):
            try:
                result = remove(
                    entry,
                    confirm=confirm,
                    on_progress=lambda progress: self._jobs.report(job, progress),
                    cancelled=job.stop.is_set,
                )
            except ModelInUseError:
                return {"ask": ask_to_remove(_holders(entry), is_here=is_here)}
        with self._lock:
            self._removed.append((result.entry.id, removed_text(result.entry, result.notes)))
            del self._removed[:-_MAX_REMOVED]
            self._said = ""
        return {"removed": {"id": result.entry.id, "path": str(entry.path)}}

    def _restore_clicked(self, content: Content) -> None:
        self._do(content, lambda: self._restore(content))

    def _restore(self, content: Content) -> Content:
        which, name = _text(content, "id"), content.get("name")
        entries = trash()
        entry = next((one for one in entries if one.id == which), None)
        if entry is None:
            raise not_in_trash(which, entries)
        job = Job(f"trash:{entry.id}", "restore", about=plain_text(entry.name, 100))
        with self._moving(job):
            result = restore(
                entry,
                _text(content, "name") if name is not None else None,
                on_progress=lambda progress: self._jobs.report(job, progress),
                cancelled=job.stop.is_set,
            )
        with self._lock:
            self._removed = [one for one in self._removed if one[0] != entry.id]
        self._say(" ".join(result.notes))
        return {"restored": {"path": str(result.path), "name": result.name}}

    def _empty_clicked(self, content: Content) -> None:
        self._do(content, lambda: self._empty(content))

    def _empty(self, content: Content) -> Content:
        given = content.get("ids")
        asked = (
            {one for one in given[:_MAX_IDS] if isinstance(one, str)}
            if isinstance(given, list)
            else set()
        )
        # What was in the trash when the person was asked, and still is; nothing that came later.
        result = empty_trash(ids=[entry.id for entry in trash() if entry.id in asked])
        self._say(str(result))
        return {"emptied": True}

    def _set_free(self, entry: ModelEntry, *, is_here: bool) -> None:
        """Unload a model here, and where it is kept for nobody."""
        if is_here:
            self._unload()
        for worker in _holders(entry):
            if worker.users == []:
                worker.stop("its model was removed")

    @contextlib.contextmanager
    def _moving(self, job: Job) -> Any:
        """Show a move that takes long, since it has to copy; most are over before anybody looks."""
        job.state = "working"
        self._jobs.begin(job)
        try:
            yield
        finally:
            self._jobs.end(job)

    def _do(self, content: Content, work: Callable[[], Content]) -> None:
        def move() -> Content:
            try:
                return work()
            finally:
                self._look()

        self._mover.post(lambda: self._answer(content, move))

    def _look(self) -> None:
        """List the trash: here, since what a killed program left half moved may take long."""
        self._seen = self.change_token()
        entries, notice = [], ""
        try:
            entries = trash()
        except GgufWidgetsError as error:  # the list of models is worth more than that of the trash
            notice = error.message
        with self._lock:
            self._trash, self._trash_notice = entries, notice

    def _look_again(self) -> None:
        if self.change_token() != self._seen:  # else it has been done meanwhile
            self._look()
            self._changed()

    # -- checks and smaller copies -----------------------------------------------------------------

    def _check_clicked(self, content: Content) -> None:
        def begin() -> Content:
            entry = self._listed(content)

            def work(job: Job) -> Content:
                return check_view(
                    verify(
                        entry,
                        on_progress=lambda progress: self._jobs.report(job, progress),
                        cancelled=job.stop.is_set,
                    )
                )

            self._jobs.start(Job(str(entry.path), "check"), work)
            return {"started": True}

        self._answer(content, begin)

    def _forms_clicked(self, content: Content) -> None:
        def look() -> Content:
            entry = self._listed(content)
            reason = demo_mode.demo_reason()
            if reason is not None:
                raise MissingDependencyError(f"No copies can be made in demo mode. {reason}")
            return {"forms": forms_of(entry)}

        threading.Thread(
            target=lambda: self._answer(content, look), name="ModelPicker-forms", daemon=True
        ).start()

    def _convert_clicked(self, content: Content) -> None:
        def begin() -> Content:
            entry = self._listed(content)
            form, name = _text(content, "form"), checked_stem(_text(content, "name"))
            requantize = content.get("requantize") is True
            folder = folder_for(entry)
            target = folder / f"{name}.gguf"
            if target.exists() or target.is_symlink():
                raise FileChangeError(
                    f"There is a file “{plain_text(target.name, 100)}” already. Choose another"
                    " name.",
                    problem="taken",
                    suggestion=free_stem(folder, name),
                )

            def work(job: Job) -> Content:
                return convert_view(
                    convert(
                        entry,
                        form,
                        name=name,
                        requantize=requantize,
                        on_progress=lambda progress: self._jobs.report(job, progress),
                        cancelled=job.stop.is_set,
                    )
                )

            self._jobs.start(Job(str(entry.path), "convert", about=f"{name}.gguf"), work)
            return {"started": True}

        self._answer(content, begin)

    def _stop_clicked(self, content: Content) -> None:
        self._jobs.stop(str(content.get("key")))

    def _dismiss_clicked(self, content: Content) -> None:
        self._jobs.dismiss(str(content.get("key")))

    def _hush_clicked(self, _content: Content) -> None:
        """Take away the bar above the list; the trash keeps what is in it."""
        with self._lock:
            self._removed, self._said = [], ""
        self._changed()

    _ACTIONS: ClassVar[dict[str, Callable[[Any, Content], None]]] = {
        "rename": _rename_clicked,
        "remove": _remove_clicked,
        "restore": _restore_clicked,
        "empty": _empty_clicked,
        "check": _check_clicked,
        "forms": _forms_clicked,
        "convert": _convert_clicked,
        "stop": _stop_clicked,
        "dismiss": _dismiss_clicked,
        "hush": _hush_clicked,
    }
    KINDS: ClassVar[frozenset[str]] = frozenset(_ACTIONS)

    # -- inside -----------------------------------------------------------------------------------

    def _answer(self, content: Content, work: Callable[[], Content]) -> None:
        try:
            answer = work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the page is told where it asked
            if not isinstance(error, GgufWidgetsError):
                _log.exception("%s met an error it did not expect", content["kind"])
            answer = {"error": error_content(as_known(error))}
        self._send({"kind": "answer", "mid": str(content.get("mid", ""))[:_LONGEST], **answer})
        if not {"forms", "ask", "started"} & answer.keys():
            self._changed()

    def _listed(self, content: Content) -> ModelEntry:
        path = str(content.get("path", ""))
        entry = self._entry_of(Path(path))
        if entry is None:
            raise ModelFileError(
                f"“{plain_text(Path(path).name, 100)}” is not in the list any more: it was renamed"
                " or removed meanwhile.",
                problem="not_listed",
            )
        return entry

    def _refuse_if_busy(self, entry: ModelEntry) -> bool:
        """Refuse what is being loaded or worked on; return whether it is loaded here."""
        self._jobs.refuse_if_active(str(entry.path))
        status = self._status_of(entry.path)
        if status == "loading":
            raise FileChangeError(
                "This model is being loaded just now. Wait for that, or cancel it first.",
                problem="loading",
            )
        return status == "loaded"

    def _say(self, text: str) -> None:
        """Set what the bar above the list says, beside what can be undone."""
        with self._lock:
            self._said = text


def _text(content: Content, key: str) -> str:
    """Return a page's text, bounded; what is no text is an empty one, which is refused then."""
    value = content.get(key)
    return value[:_LONGEST] if isinstance(value, str) else ""


def _holders(entry: ModelEntry) -> list[Worker]:
    try:
        return workers_of(member.path for member in model_files(entry).members)
    except GgufWidgetsError:  # gone meanwhile
        return []
