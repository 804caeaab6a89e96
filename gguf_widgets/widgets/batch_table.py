"""`BatchTable`: a prompt asked of every row of a table, set up, watched and looked through.

Promises: what a person sets up is kept here and comes back after a reload of the page; whatever is
wrong is told where it is, before a row is asked; a run goes on without its page, and a page gets
only the rows that it shows; callbacks only enqueue. Leaves to others: what is set up
(`_batch_setup`), what is done with an open run (`_batch_acts`) and with earlier ones
(`_batch_earlier`), the look (static/).

The page's messages, each with a ``mid``: ``snapshot``, ``ping``, ``start``, ``set-up``, ``code``,
``dismiss``, and those in ``ACTIONS`` of `SetUp`, `Acts`, `Earlier` and `Pictures`.
Python's: ``state`` (numbered; the parts of the state that have changed, or all), ``pong``,
``answer`` to a ``mid``.

Work that may take long has threads of its own: one for what is looked at while typing, one for
runs, tables and files, one for charts; so a page is always answered.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import anywidget
import traitlets

from gguf_widgets.batch.images import NO_IMAGES
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.spec import ModelRef, Spec
from gguf_widgets.batch.table_rows import frame_of
from gguf_widgets.core.conversation_input import Conversation
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.store import Store, default_store
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._batch_acts import Acts
from gguf_widgets.widgets._batch_code import code_of
from gguf_widgets.widgets._batch_draft import draft_of_spec
from gguf_widgets.widgets._batch_earlier import Earlier
from gguf_widgets.widgets._batch_history import Form
from gguf_widgets.widgets._batch_open import OpenRun
from gguf_widgets.widgets._batch_pictures import Pictures
from gguf_widgets.widgets._batch_result import is_under_way
from gguf_widgets.widgets._batch_send import formats
from gguf_widgets.widgets._batch_setup import Message, SetUp
from gguf_widgets.widgets._batch_source import Given, given_table
from gguf_widgets.widgets._batch_state import StateFeed
from gguf_widgets.widgets._batch_words import model_view, template_words
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._page_work import PageWork

__all__ = ["BatchTable"]

_STATIC = Path(__file__).parent / "static"

_log = logging.getLogger(__name__)

_WATCH_S: Final = 0.5  # while a run is under way


class BatchTable(anywidget.AnyWidget, PageWork):
    """Ask a model about every row of a table, on the screen.

    Parameters
    ----------
    model : Model, optional
        Without one everything can be set up, and Start waits.
    table : DataFrame, Series, list, dict, RowSource or path, optional
        What to ask about; without one the page asks for a file or pasted text.
    run : BatchRun or str, optional
        A run to show, or its id; then a table is not needed.
    store : Store, optional
        Where runs are kept; default: this user's.
    manager : ModelManager, optional
        Who loads the model of an earlier run again.
    own_process : bool, default False
        Have runs carried out by a process of their own, which goes on when this Python ends.

    Attributes
    ----------
    run : BatchRun or None
        What is shown or being carried out; ``table.observe(callback, "run")`` tells of the next,
        on one of the widget's own threads.
    model : Model or None
        May be set at any time.

    Raises
    ------
    InvalidValueError
        The table is none, or there is no such run.
    TableFileError
        The table's file cannot be read.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> gw.BatchTable(gw.load("demo"), df)  # doctest: +SKIP
    """

    # As text: a path would make anywidget keep every widget for good, for its live reload.
    _esm = esm(_STATIC / "batch_table.js")
    _css = css(_STATIC / "batch_table.css")
    own_id = traitlets.Unicode().tag(sync=True)  # for the page, see `hearAnyway` in _connection.js
    model = traitlets.Instance(Model, allow_none=True)
    run = traitlets.Instance(BatchRun, allow_none=True)

    def __init__(
        self,
        model: Model | None = None,
        table: Any = None,
        run: BatchRun | str | None = None,
        *,
        store: Store | None = None,
        manager: ModelManager | None = None,
        own_process: bool = False,
    ) -> None:
        if model is not None and not isinstance(model, Model):
            raise InvalidValueError(
                f"The model is a {type(model).__name__}. Load one with gguf_widgets.load(...)."
            )
        self._store = store if store is not None else default_store()
        self._manager = manager if manager is not None else default_manager()
        self.own_process = own_process
        given = None if table is None else given_table(table)
        opened = self._found(run) if isinstance(run, str) else run
        super().__init__(**new_identity())
        name = f"BatchTable-{self.model_id[:8]}"
        self._blocked, self._chooser = "", False
        self._shown: OpenRun | None = None
        self._forget: Callable[[], None] = lambda: None
        self._feed = StateFeed(self.send, self._parts)
        self._actor = Actor(name, self._work, self._tick, self._failed)
        self._heavy = Actor(f"{name}-work", self._do_heavy, failed=self._failed)
        pictures = self._pictures = Pictures()
        self._set_up = SetUp(
            self, self._store, self._manager, f"{name}-typing", given, pictures, self._failed
        )
        self._acts = Acts(self, f"{name}-charts", self._failed)
        self._earlier = Earlier(self, self._store)
        self._parts_of_page: tuple[Any, ...] = (self._set_up, self._acts, self._earlier, pictures)
        self.observe(lambda _change: self._on_model(), "model")
        self.observe(lambda change: self._show_run(change.new), "run")
        self.model = model
        if opened is not None:
            self.run = opened
        answer_where_asked(self.comm)
        self.on_msg(self._on_page)

    # -- from code --------------------------------------------------------------------------------

    @property
    def table(self) -> Any:
        """The table that is asked about, as a DataFrame; None while there is none.

        It can be set to whatever the constructor takes.
        """
        given = self._set_up.given
        return None if given is None else given.frame

    @table.setter
    def table(self, table: Any) -> None:
        given = None if table is None else given_table(table)
        self._set_up.take(given)
        self.touch()

    def use_template(
        self,
        template: Conversation,
        *,
        model: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a prompt into the form, shown at once on open pages.

        The form that was there can be brought back on the page; the kind of answer and the
        settings that are not given stay. An open run makes room, and goes on if it is under way.

        Parameters
        ----------
        template : str or list of messages
            What is asked about a row, or a conversation that ends with that. As in every template,
            what stands in braces is a column, and braces that are meant as such are doubled.
        model : str, optional
            The name of the model that it was used with. If the table asks another one, the page
            says so; a table without a model takes it, if it is loaded in this process.
        sampling : mapping, optional
            What it was asked with, by the names of `SamplingSettings`. The form has a place for
            ``temperature`` and ``max_tokens``; of others the page says that they are left out.

        Raises
        ------
        InvalidValueError
            It is no text, and no conversation that ends with a message of the user; it is too long.
        """
        if self.model is None and model is not None:
            loaded = self._manager.loaded()
            self.model = next((one for one in loaded if one.name == model), None)
        words = template_words(model, self.model, sampling or {})
        self._set_up.use_template(template, words, sampling or {})
        self.run = None
        self.touch()

    def start(self) -> BatchRun:
        """Begin what is set up, as the button does; return the run.

        Raises
        ------
        InvalidValueError
            There is no model or no table, or something of the form is wrong: the message says what.
        """
        run = self._set_up.run()
        run.start(own_process=self.own_process)
        self.run = run
        return run

    def close(self) -> None:
        """End the widget; a run that is under way goes on in this process."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_set_up"):
            self._forget()
            self._heavy.close()
            self._actor.close()
            self._acts.close()
            try:
                self._set_up.close()
            except GgufWidgetsError as error:  # the store is closed: it stays there, not begun
                _log.warning("A checked run could not be removed: %s", error.message)
        super().close()

    def show_in_frame(self, *, blocked: str = "") -> None:
        """Tell the table that it is part of a dashboard, which has a place to choose a model.

        Parameters
        ----------
        blocked : str
            Why nothing can be asked at this moment; "" if it can.
        """
        self._blocked, self._chooser = blocked, True
        self.touch()

    # -- from the page ----------------------------------------------------------------------------

    def _ping(self, content: Message) -> None:
        self.send({"kind": "pong", "mid": content.get("mid"), "seq": self._feed.seq})

    def _snapshot(self, _content: Message) -> None:
        self._feed.reset()
        self._earlier.look_first()

    def _dismiss(self, _content: Message) -> None:
        self._notice = ""

    # -- the run ----------------------------------------------------------------------------------

    def _found(self, run_id: str) -> BatchRun:
        record = BatchRuns(self._store).find(run_id)
        return BatchRun(record.id, self._store, self._manager)

    def _show_run(self, run: BatchRun | None) -> None:
        """Show another run; on whatever thread set it."""
        self._forget()
        self._forget = lambda: None
        self._shown = None if run is None else OpenRun(run, self._store, self._pictures)
        if run is not None:
            self._forget = run.observe(lambda _run: self.touch())
        self.touch()

    def open_run(self) -> OpenRun:
        """Return the run that is shown; for the widget's own parts.

        Raises
        ------
        InvalidValueError
            None is.
        """
        shown = self._shown
        if shown is None:
            raise InvalidValueError("No run is open.")
        return shown

    def _start_clicked(self, _content: Message) -> Message:
        def start() -> None:
            try:
                self.start()
                self._set_up.check = None
            except GgufWidgetsError as error:
                self._set_up.check = {"error": error.message}
            self._earlier.look()

        self.at_work("starting", start)
        return {}

    # -- earlier runs -----------------------------------------------------------------------------

    def list_soon(self) -> None:
        """Have the earlier runs listed again; for the widget's own parts."""
        self._heavy.post(self._earlier.look)

    def hidden_ids(self) -> set[str]:
        """Return the run that was only checked; for the widget's own parts."""
        checked = self._set_up.prepared
        return set() if checked is None else {checked.id}

    def shown_id(self) -> str | None:
        """Return which run is shown; for the widget's own parts."""
        return None if self.run is None else self.run.id

    def show(self, run_id: str | None) -> None:
        """Show a run by its id, or none; for the widget's own parts."""
        if run_id is None:
            self.run = None
        elif self.shown_id() != run_id:
            self.run = self._found(run_id)
        self._notice = ""

    def _set_up_again(self, _content: Message) -> Message:
        """Fill the form with what the open run asks, and its table where there is no other."""
        run, set_up = self.open_run().run, self._set_up
        draft = draft_of_spec(run.spec)
        if draft is None:
            raise InvalidValueError(
                "This run was made in Python with more than the form has. Use “Copy as code” and "
                "change it there."
            )

        def fill() -> None:
            given, looked = set_up.given, set_up.looked
            if given is None:
                record = BatchRuns(self._store).get(run.id)
                rows = RunTasks(self._store, run.id).rows(0, record.shape.num_rows)
                frame, images = frame_of(record.columns, rows), run.spec.images
                # Without pictures, or with folders set, a page may have sent it.
                from_page = not images.columns or images.within is not None
                folder = "" if from_page else images.folder
                name = f"Table of “{record.title}”"
                given = Given(frame, name, from_page=from_page, folder=folder)

            def show() -> None:
                words = "This is what the run asked. Change it, and run it again."
                set_up.fill(Form(draft, run.spec.prompts[0].output), words)
                set_up.take(given, looked)
                self.run = None

            self.soon(show)

        self.at_work("opening", fill)
        return {}

    def _code(self, _content: Message) -> Message:
        given = self._set_up.given
        path = given.path if given is not None else ""
        name = given.name if given is not None and given.is_file else ""
        if self._shown is not None:
            spec, columns = self._shown.run.spec, self._shown.inputs
        else:
            judged = self._set_up.judged()
            how = {name: value for name, value in judged.keywords.items() if name != "title"}
            known = {key: how.pop(key) for key in ("system", "schema", "missing", "n")}
            prompt, images = how.pop("prompt"), how.pop("images", NO_IMAGES)
            models = [one for one in (self.model,) if one is not None]
            spec = Spec.make(prompt, models, **known, images=images, sampling=how)
            others = tuple(ModelRef(name, name, "") for name in self._set_up.draft.models)
            spec = dataclasses.replace(spec, models=spec.models + others)
            columns = given.columns if given is not None else []
        how_read = given.read_with if given is not None else {}
        code = code_of(spec, columns, path=path, file_name=name, read_with=how_read)
        return {"text": code}

    _ACTIONS: ClassVar[dict[str, Callable[[Any, Message], Message | None]]] = {
        "ping": _ping,
        "snapshot": _snapshot,
        "start": _start_clicked,
        "set-up": _set_up_again,
        "code": _code,
        "dismiss": _dismiss,
    }

    # -- to the page ------------------------------------------------------------------------------

    def _on_model(self) -> None:
        self._set_up.look()
        self.touch()

    def _tick(self) -> float | None:
        shown = self._shown
        wait = self._feed.tick()
        is_watched = shown is not None and is_under_way(shown.run.status)
        return _WATCH_S if wait is None and is_watched else wait

    def _parts(self) -> Message:
        """Return the whole state, part by part; each is sent when it differs from what was sent."""
        shown = self._shown
        nothing: Message = {"run": None, "progress": None, "version": 0}
        return {
            "model": model_view(self.model, self._blocked, is_framed=self._chooser),
            **self._set_up.parts(),
            **(nothing if shown is None else shown.parts()),
            "earlier": self._earlier.part(),
            "busy": self._busy,
            "notice": self._notice,
            "formats": formats(),
        }
