"""`Dashboard`: the models on the left, the work in the middle, one status line below.

Promises: it composes the widgets and runs no model itself; the last conversation and the last model
come back after a reload; a part that the page can do without at first is made when its tab is first
opened, and what requests take is recorded from soon after the page is there; demo mode and what
happened to the store are said on top of the page. What cannot be kept (a store that does not open)
is said, and the rest works. Leaves to others: the parts (`widgets`), the page around it (`app`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from gguf_widgets.core import demo_mode
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatEvent, EventKind
from gguf_widgets.core.errors import InvalidValueError, StoreError
from gguf_widgets.core.fit import free_memory
from gguf_widgets.core.fit_machine import process_memory
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.core.model import Model
from gguf_widgets.core.preferences import CHAT_SETTINGS, LAST_CONVERSATION, OPEN_TAB, Preferences
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store, default_store
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets.batch_table import BatchTable
from gguf_widgets.widgets.chat_box import ChatBox
from gguf_widgets.widgets.model_downloader import ModelDownloader
from gguf_widgets.widgets.model_picker import ModelPicker
from gguf_widgets.widgets.model_uploader import ModelUploader

__all__ = ["Dashboard"]

_STATIC = Path(__file__).parent / "static"
_TABS = ("chat", "table", "speed", "compare")


class Dashboard(anywidget.AnyWidget):
    """Models and chat in one place.

    Parameters
    ----------
    manager : ModelManager, optional
        Who loads models; default: this process's own.
    library : ModelLibrary, optional
        Where models are looked for; default: the manager's.
    height : int or str, optional
        Pixels, or a CSS length. Default: the whole page under Voila, 680 pixels in a notebook.

    Attributes
    ----------
    picker : ModelPicker
    downloader : ModelDownloader
    uploader : ModelUploader
    chat : ChatBox
    table : BatchTable
        Its runs are carried out by processes of their own, so that they go on without the page; one
        that is under way is shown again.
    speed : LiveCharts or None
        Made when its tab is opened. What it shows is recorded from the page's beginning on.
    compare : ComparisonView or None
        Made when its tab is opened. Comparisons over many prompts are carried out by processes of
        their own; one that is under way is shown again.
    model : Model or None
        The model that is loaded.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> gw.Dashboard()  # doctest: +SKIP
    """

    # As text: a path would make anywidget keep every widget for good, for its live reload.
    _esm = esm(_STATIC / "dashboard.js")
    _css = css(_STATIC / "dashboard.css")
    own_id = traitlets.Unicode().tag(sync=True)  # for the page, see `hearAnyway` in _connection.js
    height = traitlets.Unicode().tag(sync=True)
    picker = anywidget.WidgetTrait().tag(sync=True)
    downloader = anywidget.WidgetTrait().tag(sync=True)
    uploader = anywidget.WidgetTrait().tag(sync=True)
    chat = anywidget.WidgetTrait().tag(sync=True)
    table = anywidget.WidgetTrait().tag(sync=True)
    speed = anywidget.WidgetTrait().tag(sync=True)
    compare = anywidget.WidgetTrait().tag(sync=True)

    def __init__(
        self,
        manager: ModelManager | None = None,
        library: ModelLibrary | None = None,
        *,
        height: int | str | None = None,
    ) -> None:
        self._manager = manager if manager is not None else default_manager()
        self._store = default_store(or_memory=True)
        self._preferences = Preferences(self._store)
        try:
            conversation = self._last_chat()
        except StoreError as error:  # it opened and cannot be used: the page still works
            self._store = Store.in_memory(
                f"{error.message} What you write is kept only while this page is open."
            )
            self._preferences = Preferences(self._store)
            conversation = self._last_chat()
        picker = ModelPicker(
            self._manager,
            library if library is not None else self._manager.library,
            preferences=self._preferences,
        )
        downloader, uploader = ModelDownloader(), ModelUploader()
        table = BatchTable(
            run=self._run_under_way(),
            store=self._store,
            manager=self._manager,
            own_process=self._store.path is not None,
        )
        chat = ChatBox(chat=conversation, table=table)
        super().__init__(
            height=f"{height}px" if isinstance(height, int) else height or "",
            picker=picker,
            downloader=downloader,
            uploader=uploader,
            chat=chat,
            table=table,
            **new_identity(),
        )
        self._remembered = conversation.conversation_id
        self._actor = Actor(f"Dashboard-{self.model_id[:8]}", self._work)
        self._unsubscribe = chat.chat.subscribe(self._on_chat)
        picker.observe(self._on_model, ["model", "loading", "has_own"])
        for one in (downloader, uploader):
            one.observe(lambda _change: self._on_new_file(), "finished")
        answer_where_asked(self.comm)
        self.on_msg(self._on_page)
        self._on_model()

    @property
    def model(self) -> Model | None:
        """The model that is loaded, or None."""
        model: Model | None = self.picker.model
        return model

    def close(self) -> None:
        """End the dashboard and its parts; the model stays loaded, the conversation saved."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_unsubscribe"):
            self._unsubscribe()
            self._actor.close()
            self.picker.close()
            self.downloader.close()
            self.uploader.close()
            self.chat.close()
            self.table.close()
            if self.speed is not None:
                self.speed.close()
            if self.compare is not None:
                self.compare.close()
        super().close()

    # -- what happens -----------------------------------------------------------------------------

    def _last_chat(self) -> ChatInterface:
        """Return the conversation that was on screen, or a new one if it is gone."""
        last = self._preferences.get(LAST_CONVERSATION)
        if isinstance(last, str):
            try:
                return ChatInterface(conversation_id=last, store=self._store)
            except InvalidValueError:
                self._preferences.delete(LAST_CONVERSATION)
        chat = ChatInterface(store=self._store)
        kept = self._preferences.get(CHAT_SETTINGS)
        if kept is not None:
            chat.take_settings(kept)
        return chat

    def _run_under_way(self) -> str | None:
        """Return the run that was begun last and is still being carried out, if there is one."""
        try:
            recent = BatchRuns(self._store).recent(limit=20)
        except StoreError:
            return None  # the table says what is wrong with the store
        under_way = (RunStatus.RUNNING, RunStatus.PAUSED)
        return next((run.id for run in recent if run.status in under_way), None)

    def _on_model(self, change: object = None) -> None:
        """Pass on that the picker has another model, or loads one."""
        if change is not None:
            self._actor.post({"kind": "record"})
        loading, model = self.picker.loading, self.picker.model
        blocked = "The model is loading" if loading and model is None else ""
        for part in (self.chat, self.table):
            part.show_in_frame(blocked=blocked)
            if part.model is not model:
                part.model = model
        self._show_in_compare()
        self._actor.post({"kind": "snapshot"})

    def _on_new_file(self) -> None:
        self.picker.refresh()
        self._show_in_compare()

    def _show_in_compare(self) -> None:
        """Tell the Compare tab, if it has been opened, which model is loaded."""
        if self.compare is not None:
            model = self.picker.model
            self.compare.show_in_frame(model=model.name if model is not None else "")

    def _on_chat(self, event: ChatEvent) -> None:
        if event.kind in (EventKind.ADDED, EventKind.RESET, EventKind.UPDATED):
            self._actor.post({"kind": "chat"})
        if event.kind in (EventKind.MODEL, EventKind.RESET):
            self._actor.post({"kind": "settings"})

    def _on_page(self, _widget: object, content: Any, _buffers: object) -> None:
        self._actor.post(content)

    def _work(self, item: dict[str, Any]) -> None:
        """Do one thing of the queue; on the dashboard's own thread."""
        kind = item.get("kind") if isinstance(item, dict) else None
        if kind == "ping":
            self.send({"kind": "pong", "mid": item.get("mid"), "status": self._status()})
            self._begin_recording()
        elif kind == "record":
            self._begin_recording()
        elif kind == "snapshot":
            self.send({"kind": "state", "state": self._state()})
        elif kind == "chat" and self.chat.chat.conversation_id != self._remembered:
            self._remembered = self.chat.chat.conversation_id
            self._preferences.set(LAST_CONVERSATION, self._remembered)
        elif kind == "settings" and self.chat.chat.conversation_id is None:
            # Those of a conversation that has begun are kept with it.
            self._preferences.set(CHAT_SETTINGS, self.chat.chat.settings.to_dict())
        elif kind == "dismiss":
            self._store.dismiss_notices()
        elif kind == "tab" and item.get("name") in _TABS:
            self._preferences.set(OPEN_TAB, item["name"])
            self._make(item["name"])

    def _begin_recording(self) -> None:
        """Have requests recorded from now on: the page is there, and has not waited for this."""
        # Imported here, and what is made below, too: neither keeps a page waiting at its start.
        from gguf_widgets.core.monitor.monitor import PerformanceMonitor

        PerformanceMonitor.shared()

    def _make(self, name: str) -> None:
        """Make the part of a tab, if it is one that is made when it is first opened."""
        if name == "speed" and self.speed is None:
            from gguf_widgets.widgets.live_charts import LiveCharts

            self.speed = LiveCharts()
        elif name == "compare" and self.compare is None:
            from gguf_widgets.widgets.comparison_view import ComparisonView

            self.compare = ComparisonView.resumed(
                manager=self._manager,
                store=self._store,
                own_process=self._store.path is not None,
            )
            self._show_in_compare()

    # -- to the page ------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "banner": self._banner(),
            "notices": [notice.text for notice in self._store.notices()],
            "status": self._status(),
            "loaded": self.model is not None,
            "tab": self._tab(),
            "none": self.picker.has_own is False,
        }

    def _tab(self) -> str:
        last = self._preferences.get(OPEN_TAB)
        return last if last in _TABS else _TABS[0]

    def _banner(self) -> dict[str, str] | None:
        reason = self._manager.demo_reason()
        if reason is None:
            return None
        command = demo_mode.install_line()
        # The line has its own place, with a button to copy it.
        asked_for, has_line = reason, command in reason
        if has_line:
            asked_for = reason[: reason.index(command)].rstrip().rstrip(":") + ":"
        text = f"Demo mode: answers are prepared, no model runs. {asked_for}"
        return {"text": text, "command": command if has_line else ""}

    def _status(self) -> list[dict[str, Any]]:
        model = self.model
        free = {
            "value": f"{format_bytes(free_memory())} free",
            "title": "Memory that is free on this machine",
        }
        if model is None:
            value = "Loading" if self.picker.loading else "No model loaded"
            return [{"value": value, "title": "", "strong": True}, free]
        info = model.info
        kind = "demo mode" if info.backend == "scripted" else info.quantization
        figures: list[dict[str, Any]] = [
            {"value": f"{model.name} · {kind}", "title": info.path, "strong": True}
        ]
        used = process_memory(model.pid)
        if used is not None:
            title = "Memory of the process that runs the model (resident set size)"
            figures.append({"value": f"{format_bytes(used)} of memory", "title": title})
        return [*figures, free]
