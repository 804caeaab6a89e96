"""`ModelPicker`: the models on this machine; choose one, watch it load, unload it.

Promises: the list is what `ModelLibrary` finds, new files included, and a file that cannot be used
shows its reason; a load shows how far it is and can be cancelled; a failed one leaves the model
that was there; the last model and its settings are remembered, and a model that still runs is
attached at once. Leaves to others: files (`core.library`), looking after them (`_picker_care`),
loading and memory (`core.manager`), the look (static/).

`model` changes on the thread that loaded it; observers should return quickly.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from gguf_widgets.core import config, devices
from gguf_widgets.core.details import details
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    LoadCancelledError,
    MissingDependencyError,
    ModelFileError,
    ModelLoadError,
    StoreError,
)
from gguf_widgets.core.library import DEMO_NAME, ModelEntry, ModelLibrary
from gguf_widgets.core.library.judge import Fit
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.core.model import Model
from gguf_widgets.core.preferences import LAST_MODEL, Preferences
from gguf_widgets.core.running import is_running
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._picker_care import Care
from gguf_widgets.widgets._picker_details import details_view
from gguf_widgets.widgets._picker_judge import Judge
from gguf_widgets.widgets._picker_rows import Loading, field_views, fit_view, loaded_with, row_view
from gguf_widgets.widgets._words import as_known

__all__ = ["ModelPicker"]

_STATIC = Path(__file__).parent / "static"
_PROGRESS_EVERY_S = 0.1

_log = logging.getLogger(__name__)


class ModelPicker(anywidget.AnyWidget):
    """The list of models, with a button to load each; what opens below one looks after its file.

    Parameters
    ----------
    manager : ModelManager, optional
        Who loads; default: this process's own, which `gguf_widgets.load` uses too.
    library : ModelLibrary, optional
        Where to look; default: the models folders.
    preferences : Preferences, optional
        Where the last model is remembered; default: the store.

    Attributes
    ----------
    model : Model or None
        The loaded model; ``picker.observe(callback, "model")`` tells of a change.
    loading : bool
        Whether a model is being loaded; it can be observed, too.
    has_own : bool or None
        Whether there is a model besides the demo that can be used; None before the first look.

    Examples
    --------
    >>> picker = ModelPicker()  # doctest: +SKIP
    >>> picker.load("demo", n_ctx=512)  # doctest: +SKIP
    """

    # As text: a path would make anywidget keep every widget for good, for its live reload.
    _esm = esm(_STATIC / "model_picker.js")
    _css = css(_STATIC / "model_picker.css")
    own_id = traitlets.Unicode().tag(sync=True)  # for the page, see `hearAnyway` in _connection.js
    model = traitlets.Instance(Model, default_value=None, allow_none=True)
    loading = traitlets.Bool(default_value=False)
    has_own = traitlets.Bool(default_value=None, allow_none=True)

    def __init__(
        self,
        manager: ModelManager | None = None,
        library: ModelLibrary | None = None,
        *,
        preferences: Preferences | None = None,
    ) -> None:
        super().__init__(**new_identity())
        self.manager = manager if manager is not None else default_manager()
        self.library = library if library is not None else ModelLibrary()
        self._preferences = preferences if preferences is not None else Preferences()
        self._lock = threading.Lock()
        self._load_now: Loading | None = None
        self._failures: dict[str, GgufWidgetsError] = {}
        self._entries: list[ModelEntry] = []
        self._token: str | None = None
        self._fits: dict[Path, Fit] = {}  # as the page knows it
        self._moved: dict[Path, Path] = {}  # what was renamed here, to what it is called now
        self._judge = Judge(lambda: self._actor.post({"kind": "judged"}))
        self._has_gpu: bool | None = None
        self._notice = ""
        self._last = self._remembered()
        self._last_progress = 0.0
        self._care = Care(
            send=self._tell_page,
            entry_of=self._entry,
            status_of=self._status,
            unload=self.unload,
            renamed=self._note_renamed,
            changed=self._touch,
        )
        self._actor = Actor(
            f"ModelPicker-{self.model_id[:8]}", self._work, failed=self._show_failure
        )
        self.observe(self._touch, ["model", "loading"])
        answer_where_asked(self.comm)
        self.on_msg(self._on_page)
        self._actor.post({"kind": "attach"})

    # -- from code --------------------------------------------------------------------------------

    def load(self, name_or_path: str = DEMO_NAME, *, force: bool = False, **settings: Any) -> Model:
        """Load a model and wait for it; the page shows the progress.

        Parameters
        ----------
        name_or_path : str
            A name of the list or a path.
        force : bool, default False
            Load it although the memory seems too small.
        **settings
            `LoadSettings` by name: ``n_ctx=4096``, ...

        Returns
        -------
        Model
            It is `model` from now on; the one before is unloaded.

        Raises
        ------
        GgufWidgetsError
            It could not be loaded; the model that was there still is.
        """
        return self._load(self.library.resolve(name_or_path), settings, force=force)

    def refresh(self) -> None:
        """Look for new files now; the page does so by itself every few seconds."""
        self._actor.post({"kind": "refresh"})

    def cancel(self) -> None:
        """Cancel the load that is on its way; without one it does nothing."""
        loading = self._load_now
        if loading is not None:
            loading.cancelled = True

    def unload(self) -> None:
        """Unload the model and give its memory back; without one it does nothing."""
        model, self.model = self.model, None
        if model is not None:
            self.manager.unload(model)

    def close(self) -> None:
        """End the widget: its page part and its thread go, the model stays loaded."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_actor"):
            self._judge.close()
            self._care.close()
            self._actor.close()
        super().close()

    # -- loading ----------------------------------------------------------------------------------

    def _load(self, path: Path, settings: dict[str, Any], *, force: bool = False) -> Model:
        chosen = LoadSettings.from_keywords(**settings)
        loading = Loading(str(path))
        with self._lock:
            if self._load_now is not None:
                raise ModelLoadError("Another model is being loaded. Wait for it, or cancel it.")
            self._load_now = loading
        self._failures.pop(str(path), None)
        self.loading = True
        try:
            before = self.model
            if before is not None and self._loaded_path() == path:
                self.unload()  # two copies of one model would need twice the memory
                before = None
            model = self.manager.load(path, on_progress=self._report, force=force, **_given(chosen))
        except LoadCancelledError:
            raise
        except GgufWidgetsError as error:
            self._failures[str(path)] = error
            raise
        finally:
            with self._lock:
                self._load_now = None
            self.loading = False
        self._remember(path, _given(chosen))
        self._moved.pop(path, None)
        self.model = model
        if before is not None and before is not model:
            self.manager.unload(before)
        return model

    def _report(self, fraction: float, phrase: str) -> bool:
        loading = self._load_now
        if loading is None:
            return True
        go_on = loading.report(fraction, phrase)
        now = time.monotonic()
        if now - self._last_progress >= _PROGRESS_EVERY_S:
            self._last_progress = now
            self.send({"kind": "progress", "progress": loading.view()})
        return go_on

    def _load_aside(
        self, path: Path, settings: dict[str, Any], *, force: bool, first: bool
    ) -> None:
        """Load in the background for the page; an error is shown in the row."""

        def run() -> None:
            try:
                if first:
                    self.unload()
                self._load(path, settings, force=force)
            except Exception as error:  # noqa: BLE001 - whatever it is, the row shows it
                known = as_known(error)
                if not isinstance(error, GgufWidgetsError):
                    _log.exception("Loading met an error it did not expect")
                if not isinstance(error, LoadCancelledError):
                    self._failures[str(path)] = known
                self._touch()

        threading.Thread(target=run, name="ModelPicker-load", daemon=True).start()

    # -- what is remembered -----------------------------------------------------------------------

    def _remembered(self) -> dict[str, Any]:
        try:
            last = self._preferences.get(LAST_MODEL)
        except StoreError as error:
            self._notice = error.message
            return {}
        return last if isinstance(last, dict) else {}

    def _remember(self, path: Path, settings: dict[str, Any]) -> None:
        self._last = {"path": str(path), "settings": settings}
        try:
            self._preferences.set(LAST_MODEL, self._last)
        except StoreError as error:
            self._notice = error.message

    # -- what is done to files --------------------------------------------------------------------

    def _tell_page(self, content: dict[str, Any]) -> None:
        self.send(content)

    def _entry(self, path: Path) -> ModelEntry | None:
        return next((entry for entry in self._entries if entry.path == path), None)

    def _loaded_path(self) -> Path | None:
        """Return where the loaded model's file is now, which may have been renamed since."""
        model = self.model
        if model is None:
            return None
        path = Path(model.info.path)
        return self._moved.get(path, path)

    def _status(self, path: Path) -> str:
        """Return what is done with a model here: "idle", "loading" or "loaded"."""
        loading = self._load_now
        if loading is not None and path == Path(loading.path):
            return "loading"
        return "loaded" if path == self._loaded_path() else "idle"

    def _note_renamed(self, old: Path, new: Path) -> None:
        """Follow a model that has another path; the store's note of it has been changed already."""
        self._moved = {k: new if v == old else v for k, v in self._moved.items()} | {old: new}
        self._failures.pop(str(old), None)
        if self._last.get("path") == str(old):
            self._last = {**self._last, "path": str(new)}

    # -- from the page ----------------------------------------------------------------------------

    def _touch(self, _change: object = None) -> None:
        self._actor.post({"kind": "touch"})

    def _on_page(self, _widget: object, content: Any, _buffers: object) -> None:
        self._actor.post(content)

    def _work(self, item: object) -> None:
        """Do one thing of the queue; on the widget's own thread."""
        if isinstance(item, dict):
            kind = str(item.get("kind"))
            action = self._ACTIONS.get(kind)
            if action is not None:
                action(self, item)
            elif kind in Care.KINDS:
                self._care.take(item)

    def _ping(self, content: dict[str, Any]) -> None:
        self.send({"kind": "pong", "mid": content.get("mid")})
        if self.model is not None and not self.model.loaded:
            self.model = None  # unloaded from code
        if self._change_token() != self._token:
            self._send_state()

    def _attach(self, _content: dict[str, Any]) -> None:
        """Take a model that is there already: loaded here, or running for another program."""
        if self.model is not None or self.loading:
            return
        loaded = self.manager.loaded()
        if loaded:
            self.model = loaded[-1]
            return
        path, settings = self._last.get("path"), self._last.get("settings")
        if isinstance(path, str) and isinstance(settings, dict) and is_running(path, **settings):
            self._load_aside(Path(path), settings, force=False, first=False)

    def _load_clicked(self, content: dict[str, Any]) -> None:
        path = Path(str(content.get("path", "")))
        settings = content.get("settings")
        force, first = content.get("force") is True, content.get("first") is True
        # Only what is on the list: the page does not open files by name.
        if path in {entry.path for entry in self._entries if entry.error is None}:
            settings = dict(settings) if isinstance(settings, dict) else {}
            self._forget_lost()
            self._load_aside(path, settings, force=force, first=first)

    def _refresh_clicked(self, _content: dict[str, Any]) -> None:
        self._forget_lost()
        self._send_state()

    def _cancel_clicked(self, _content: dict[str, Any]) -> None:
        self.cancel()
        self._send_state()

    def _unload_clicked(self, _content: dict[str, Any]) -> None:
        self.unload()

    def _look_for_gpu(self, _content: dict[str, Any]) -> None:
        if self._has_gpu is not None:
            return
        self._has_gpu = False

        def look() -> None:
            try:
                self._has_gpu = any(device.kind == "gpu" for device in devices.devices())
            except MissingDependencyError:
                return  # demo mode: nothing computes
            except GgufWidgetsError as error:
                _log.warning("The graphics cards could not be listed: %s", error.message)
            self._touch()

        threading.Thread(target=look, name="ModelPicker-devices", daemon=True).start()

    def _send_state(self, _content: object = None) -> None:
        with contextlib.suppress(OSError):  # a folder that is named on the page should be there
            config.ensure(config.models_dir())
        self._token = self._change_token()
        # What can be loaded comes first; `sorted` keeps the library's order within both halves.
        self._entries = sorted(self.library.entries(), key=lambda entry: entry.error is not None)
        self.has_own = any(e.error is None and e.name != DEMO_NAME for e in self._entries)
        # A new list is judged anew; until that is done, what was known of a file is shown.
        known = {one.path: one.machine.judged(one.path) for one in self._entries}
        self._fits = {
            path: fit for path, new in known.items() if (fit := new or self._fits.get(path))
        }
        self.send({"kind": "state", "state": self._state()})
        self._judge.start(self._entries)

    def _send_judged(self, _content: dict[str, Any]) -> None:
        """Tell the page what has been judged since, and no more: the list may be long."""
        fits = {}
        for entry in self._entries:
            fit = entry.machine.judged(entry.path)
            if fit is not None and fit != self._fits.get(entry.path):
                self._fits[entry.path] = fit
                fits[str(entry.path)] = fit_view(fit)
        if fits:
            self.send({"kind": "judged", "fits": fits})

    def _change_token(self) -> str:
        return f"{self.library.change_token()} {self._care.change_token()}"

    def _details_clicked(self, content: dict[str, Any]) -> None:
        entry = self._entry(Path(str(content.get("path", ""))))
        if entry is None:  # only what is on the list
            return

        def look() -> None:
            view: dict[str, Any] = {"path": str(entry.path)}
            try:
                if entry.info is not None:
                    view = details_view(entry, details(entry.path, gpus=entry.machine.cards()))
            except ModelFileError as error:
                view["error"] = error.message
            self.send({"kind": "details", "details": {**view, "where": self._care.where(entry)}})

        threading.Thread(target=look, name="ModelPicker-details", daemon=True).start()

    _ACTIONS: ClassVar[dict[str, Callable[[Any, dict[str, Any]], None]]] = {
        "ping": _ping,
        "snapshot": _send_state,
        "refresh": _refresh_clicked,
        "touch": _send_state,
        "judged": _send_judged,
        "details": _details_clicked,
        "attach": _attach,
        "load": _load_clicked,
        "cancel": _cancel_clicked,
        "unload": _unload_clicked,
        "gpu": _look_for_gpu,
    }

    def _show_failure(self, error: Exception) -> None:
        self.send({"kind": "notice", "text": as_known(error).message})

    # -- to the page ------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        model, loading = self.model, self._load_now
        chosen = self._chosen(self._loaded_path())
        rows = [
            row_view(
                entry,
                status=self._status(entry.path),
                chosen=entry is chosen,
                failure=self._failures.get(str(entry.path)),
                model=model,
                fit=self._fits.get(entry.path),
            )
            for entry in self._entries
        ]
        has_gpu = bool(self._has_gpu)
        remembered = self._last.get("settings") or {}
        return {
            "rows": rows,
            "progress": loading.view() if loading is not None else None,
            "folder": str(self.library.folders[0] if self.library.folders else config.models_dir()),
            "none": not self.has_own,
            "fields": field_views(remembered, chosen, has_gpu=has_gpu),
            "loadedWith": loaded_with(model.settings, has_gpu=has_gpu) if model else "",
            "notice": " ".join(filter(None, [self._notice, *self._lost()])),
            "care": self._care.state({row["path"] for row in rows}),
        }

    def _lost(self) -> list[str]:
        """Say why a load failed whose file is gone from the list, and its row with it."""
        listed = {str(entry.path) for entry in self._entries}
        failures = list(self._failures.items())  # another thread may add one meanwhile
        return [error.message for path, error in failures if path not in listed]

    def _forget_lost(self) -> None:
        for path in list(self._failures):
            if not Path(path).exists():
                self._failures.pop(path, None)

    def _chosen(self, loaded: Path | None) -> ModelEntry | None:
        """Return the entry a person would load next: the last one, else the first that works."""
        usable = [entry for entry in self._entries if entry.error is None]
        wanted = loaded or Path(self._last.get("path") or "")
        return next(
            (entry for entry in usable if entry.path == wanted), usable[0] if usable else None
        )


def _given(settings: LoadSettings) -> dict[str, Any]:
    left_out = LoadSettings().to_dict()
    return {name: value for name, value in settings.to_dict().items() if value != left_out[name]}
