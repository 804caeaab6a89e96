"""What is set up for a run before it begins: the table, the form, the prompt of a row, the check.

Promises: it outlives its page and is told to every view; whatever is wrong is told at its place; a
run that was checked and then changed is removed again. Nothing here waits for a model or a file on
the thread that answers pages. Leaves to others: what is wrong (`_batch_draft`), the prompt
(`_batch_preview`), the run (`batch_table`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import msgspec

from gguf_widgets.batch import files
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._batch_draft import Draft, Judged, draft_of, judge
from gguf_widgets.widgets._batch_preview import preview_of, tokens_of
from gguf_widgets.widgets._batch_source import MAX_PASTED_CHARS, Arriving, Given, Looked
from gguf_widgets.widgets._batch_words import check_view

__all__ = ["Message", "SetUp"]

Message = dict[str, Any]


class Host(Protocol):
    """What the widget offers."""

    @property
    def model(self) -> Model | None:
        """The one that will be asked."""
        ...

    def soon(self, do: Callable[[], None]) -> None:
        """Have this done on the widget's own thread."""
        ...

    def at_work(self, what: str, do: Callable[[], None]) -> None:
        """Have this done on the thread for long work, which is busy with `what` until then."""
        ...


class SetUp:
    """What a person has set up.

    Parameters
    ----------
    host : Host
    store, manager
        For the run.
    name : str
        Of its thread.
    given : Given or None
    failed : callable
        Takes an error that nobody expected.
    """

    def __init__(
        self,
        host: Host,
        store: Store,
        manager: ModelManager,
        name: str,
        given: Given | None,
        failed: Callable[[Exception], None],
    ) -> None:
        self._host, self._store, self._manager = host, store, manager
        self.given = given
        self.looked: Looked | None = None
        self.draft = Draft()
        self.kept: Output | None = None  # what the answer is if the form has no way to say it
        self.row = 0
        self._by = ""
        self._arriving: Arriving | None = None
        self._reading: Looked | None = None
        self._judged = judge(self.draft, given.columns if given else ())
        self._preview: Message = preview_of(self._judged, None, 0)[0]
        self.check: Message | None = None
        self.prepared: BatchRun | None = None  # checked and not begun
        self._prepared_key: tuple[Any, ...] = ()
        self._typing = Actor(name, self._look_at, failed=failed)

    def close(self) -> None:
        """End its thread, and remove what was checked and not begun."""
        self._typing.close()
        self.discard()

    def look(self) -> None:
        """Judge the form, and show the prompt of a row, once more."""
        self._typing.post("look")

    # -- the form ---------------------------------------------------------------------------------

    def _take_draft(self, content: Message, _buffers: Any) -> Message:
        draft, by = draft_of(content.get("draft")), str(content.get("page", ""))[:40]
        if draft != self.draft:
            self.draft, self._by = draft, by
            self._outdate_check()
        self.look()
        return {}

    def _take_row(self, content: Message, _buffers: Any) -> None:
        row = content.get("row")
        if not isinstance(row, int) or isinstance(row, bool):
            raise InvalidValueError("A row is shown by its number.")
        last = self.given.num_rows - 1 if self.given is not None else 0
        self.row = min(max(0, row), last)
        self.look()

    def _look_at(self, _item: object) -> None:
        """Judge the form and show the prompt of a row; on the thread for what is typed."""
        draft, row, given, model = self.draft, self.row, self.given, self._host.model
        judged = judge(draft, given.columns if given is not None else (), self.kept)
        view, messages = preview_of(judged, given, row)

        def keep(view: Message) -> Callable[[], None]:
            def set_it() -> None:
                self._judged, self._preview = judged, view

            return set_it

        before = self._preview
        if before["tokens"] and messages and model is not None:
            view["tokens"], view["room"] = before["tokens"], before["room"]  # until it is counted
        self._host.soon(keep(view))
        if messages and model is not None and self.draft is draft and self.row == row:
            self._host.soon(keep(tokens_of(view, messages, model)))

    def _outdate_check(self) -> None:
        if self.check is not None:
            self.check = {**self.check, "isOld": True} if "lines" in self.check else None

    # -- the table --------------------------------------------------------------------------------

    def _table_begin(self, content: Message, _buffers: Any) -> Message:
        self._arriving = Arriving(content.get("name"), content.get("size"))
        return {"key": self._arriving.key}

    def _table_piece(self, content: Message, buffers: Any) -> Message:
        arriving = self._arriving
        if arriving is None or arriving.key != content.get("key"):
            raise InvalidValueError("This file is not expected any more. Choose it again.")
        try:
            is_last = arriving.add(content.get("offset"), buffers[0] if buffers else None)
        except GgufWidgetsError:
            self._arriving = None
            raise
        if is_last:
            self._arriving = None
            self._begin_reading(Looked(arriving.data, arriving.name))
        return {"offset": arriving.offset}

    def _table_paste(self, content: Message, _buffers: Any) -> Message:
        text = content.get("text")
        if not isinstance(text, str) or not text.strip():
            raise InvalidValueError("Nothing was pasted. Copy some cells or lines first.")
        if len(text) > MAX_PASTED_CHARS:
            raise InvalidValueError(
                f"The text has {len(text):,} characters; {MAX_PASTED_CHARS:,} can be pasted. Save "
                "it as a file and choose that."
            )
        self._begin_reading(Looked(files.Pasted(text), "Pasted table"))
        return {}

    def _table_read(self, content: Message, _buffers: Any) -> Message:
        if self.looked is None:
            raise InvalidValueError("There is no file to read. Choose one.")
        self.looked.choose(content.get("options"))
        self._begin_reading(self.looked)
        return {}

    def _begin_reading(self, looked: Looked) -> None:
        def read() -> None:
            given = looked.read()
            self._host.soon(lambda: self.take(given, looked) if self._reading is looked else None)

        self._host.at_work("reading", read)
        self._reading = looked

    def take(self, given: Given | None, looked: Looked | None = None) -> None:
        """Ask about another table; on the widget's own thread."""
        self._reading = None  # what is still being read comes too late
        self.given, self.looked, self.row = given, looked, 0
        self._outdate_check()
        self.look()

    def fill(self, draft: Draft, kept: Output) -> None:
        """Fill the form with another one; on the widget's own thread."""
        self.draft, self.kept, self._by = draft, kept, ""
        self.check = None
        self.look()

    def _table_drop(self, _content: Message, _buffers: Any) -> Message:
        self.take(None)
        return {}

    # -- the check --------------------------------------------------------------------------------

    def _key(self) -> tuple[Any, ...]:
        return (msgspec.json.encode(self.draft), id(self.given), id(self._host.model))

    def judged(self) -> Judged:
        """Return what is set up.

        Raises
        ------
        InvalidValueError
            Something is missing or wrong.
        """
        if self._host.model is None:
            raise InvalidValueError("Choose a model first.")
        if self.given is None:
            raise InvalidValueError("Choose a table first.")
        judged = judge(self.draft, self.given.columns, self.kept)
        if judged.faults:
            raise InvalidValueError(" ".join(dict.fromkeys(judged.faults.values())))
        return judged

    def run(self) -> BatchRun:
        """Return a run of what is set up, not begun: the one that was checked, or a new one.

        Raises
        ------
        InvalidValueError, RowError
        """
        self.discard(unless=self._key())
        run, self.prepared = self.prepared, None
        if run is not None:
            return run
        judged, given, model = self.judged(), self.given, self._host.model
        assert given is not None and model is not None  # noqa: S101, PT018 - `judged` says so
        key = self._key()
        how = dict(judged.keywords)
        processor = BatchProcessor(model, store=self._store, manager=self._manager)
        run = processor.prepare(given.frame, how.pop("prompt"), **how)
        self._prepared_key = key
        return run

    def discard(self, unless: tuple[Any, ...] | None = None) -> None:
        """Remove the run that was checked and not begun."""
        run = self.prepared
        if run is not None and self._prepared_key != unless:
            self.prepared = None
            BatchRuns(self._store).discard(run.id)

    def _check_clicked(self, _content: Message, _buffers: Any) -> Message:
        def check() -> None:
            try:
                self.prepared = run = self.run()
                view = check_view(run.preflight())
                view["isOld"] = self._prepared_key != self._key()
            except GgufWidgetsError as error:
                view = {"error": error.message}
            self.check = view

        self._host.at_work("checking", check)
        self.check = None
        return {}

    ACTIONS: ClassVar[dict[str, Callable[[Any, Message, Any], Message | None]]] = {
        "draft": _take_draft,
        "row": _take_row,
        "table-begin": _table_begin,
        "table-piece": _table_piece,
        "table-paste": _table_paste,
        "table-read": _table_read,
        "table-drop": _table_drop,
        "check": _check_clicked,
    }

    def parts(self) -> Message:
        """Return what the pages show of it."""
        judged = self._judged
        return {
            "table": {
                "given": None if self.given is None else self.given.told,
                "looked": None if self.looked is None else self.looked.told,
            },
            "draft": {
                "by": self._by,
                "draft": msgspec.to_builtins(self.draft),
                "kept": "" if self.kept is None else self.kept.describe(),
            },
            "judged": {
                "faults": judged.faults,
                "fixes": [{"wrong": one.wrong, "right": one.right} for one in judged.fixes],
                "answer": "" if judged.output is None else judged.output.describe(),
            },
            "preview": self._preview,
            "check": self.check,
        }
