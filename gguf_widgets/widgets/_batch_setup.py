"""What is set up for a run before it begins: the table, the form, the prompt of a row, the check.

Promises: it outlives its page and is told to every view; whatever is wrong is told at its place; a
run that was checked and then changed is removed again. Nothing here waits for a model or a file on
the thread that answers pages. Leaves to others: what is wrong (`_batch_draft`), the prompt
(`_batch_preview`), the run (`batch_table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._batch_draft import Draft, Judged, draft_of, judge, with_template
from gguf_widgets.widgets._batch_history import Form, History
from gguf_widgets.widgets._batch_images import Source, folder_words, source_of
from gguf_widgets.widgets._batch_looked import Looked
from gguf_widgets.widgets._batch_pictures import Pictures
from gguf_widgets.widgets._batch_preview import preview_of, tokens_of
from gguf_widgets.widgets._batch_source import Arriving, Given
from gguf_widgets.widgets._batch_words import check_view
from gguf_widgets.widgets._table_arriving import TableHost, TakesTable

__all__ = ["Message", "SetUp"]

Message = dict[str, Any]


class Host(TableHost, Protocol):
    """What the widget offers."""

    @property
    def model(self) -> Model | None:
        """The one that will be asked."""
        ...


class SetUp(TakesTable):
    """What a person has set up.

    Parameters
    ----------
    host : Host
    store, manager
        For the run.
    name : str
        Of its thread.
    given : Given or None
    pictures : Pictures
        For the prompt of a row.
    failed : callable
        Takes an error that nobody expected.
    """

    _host: Host

    def __init__(
        self,
        host: Host,
        store: Store,
        manager: ModelManager,
        name: str,
        given: Given | None,
        pictures: Pictures,
        failed: Callable[[Exception], None],
    ) -> None:
        self._host, self._store, self._manager = host, store, manager
        self.given = given
        self.looked: Looked | None = None
        self._history = History()
        self.row = 0
        self._by = ""
        self._arriving: Arriving | None = None
        self._reading: Looked | None = None
        self._judged = judge(self.draft, given.columns if given else ())
        self._pictures = pictures
        self._images = _images_view(None, Source())
        self._preview: Message = preview_of(self._judged, None, 0, pictures)[0]
        self.check: Message | None = None
        self.prepared: BatchRun | None = None  # checked and not begun
        self._prepared_key: tuple[Any, ...] = ()
        self._models: list[str] = []
        self._typing = Actor(name, self._look_at, failed=failed)

    def close(self) -> None:
        """End its thread, and remove what was checked and not begun."""
        self._typing.close()
        self.discard()

    def look(self) -> None:
        """Judge the form, and show the prompt of a row, once more."""
        self._typing.post("look")

    # -- the form ---------------------------------------------------------------------------------

    @property
    def draft(self) -> Draft:
        """What the form holds."""
        return self._history.form.draft

    @property
    def kept(self) -> Output | None:
        """What the answer is if the form has no way to say it."""
        return self._history.form.kept

    def fill(self, form: Form, words: str = "") -> None:
        """Show another form; the one that is shown can be brought back."""
        self._history.put(form, words)
        self._other_form()

    def use_template(self, template: Any, words: str, sampling: Mapping[str, Any]) -> None:
        """Ask a template; see `BatchTable.use_template`."""
        self.fill(Form(with_template(template, self.draft, sampling), self.kept), words)

    def _other_form(self) -> None:
        self._by = ""
        self._outdate_check()
        self.look()

    def _take_draft(self, content: Message, _buffers: Any) -> Message:
        draft, by = draft_of(content.get("draft")), str(content.get("page", ""))[:40]
        if content.get("fills", self._history.fills) != self._history.fills:
            self._history.late(draft)  # typed into the form that was here before
        elif draft != self.draft:
            self._history.change(draft)
            self._by = by
            self._outdate_check()
        self.look()
        return {}

    def _go_back(self, _content: Message, _buffers: Any) -> Message:
        if self._history.back("What you had before is here again."):
            self._other_form()
        return {}

    def _go_forward(self, _content: Message, _buffers: Any) -> Message:
        if self._history.forward():
            self._other_form()
        return {}

    def _dismiss_words(self, _content: Message, _buffers: Any) -> Message:
        self._history.words = ""
        return {}

    def _take_row(self, content: Message, _buffers: Any) -> None:
        row = content.get("row")
        if not isinstance(row, int) or isinstance(row, bool):
            raise InvalidValueError("A row is shown by its number.")
        last = self.given.num_rows - 1 if self.given is not None else 0
        self.row = min(max(0, row), last)
        self.look()

    def _list_models(self, _content: Message, _buffers: Any) -> Message:
        """Look which other models could be asked; the list comes with the state."""
        self._typing.post("models")
        return {}

    def _look_at(self, item: object) -> None:
        """Judge the form and show the prompt of a row; on the thread for what is typed."""
        if item == "models":
            found = [
                one.name
                for one in self._manager.library.entries()
                if one.kind == "model" and one.error is None
            ]
            self._host.soon(lambda: setattr(self, "_models", found))
            return
        draft, row, given, model = self.draft, self.row, self.given, self._host.model
        source = source_of(given)
        sees = None if model is None else model.sees_images
        columns = given.columns if given is not None else ()
        judged = judge(draft, columns, self.kept, source=source, sees=sees)
        view, messages = preview_of(judged, given, row, self._pictures)
        if sees is False and any("parts" in message for message in messages):
            messages = []  # shown, but nothing that this model could count

        def keep(view: Message) -> Callable[[], None]:
            def set_it() -> None:
                self._judged, self._preview = judged, view
                self._images = _images_view(given, source)

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

    def take(self, given: Given | None, looked: Looked | None = None) -> None:
        """Ask about another table; on the widget's own thread."""
        self._reading = None  # what is still being read comes too late
        self.looked = looked
        if given is not self.given or given is None:
            self.given, self.row = given, 0
            self._outdate_check()
        self.look()

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
        source, sees = source_of(self.given), self._host.model.sees_images
        judged = judge(self.draft, self.given.columns, self.kept, source=source, sees=sees)
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
        models = [model, *self._other_models(model)]
        processor = BatchProcessor(models, store=self._store, manager=self._manager)
        run = processor.prepare(given.frame, how.pop("prompt"), **how)
        self._prepared_key = key
        return run

    def _other_models(self, model: Model) -> list[Model]:
        """Load the models that are asked besides the table's own."""
        names = self.draft.models
        for name in names:
            if name == model.name or names.count(name) > 1:
                raise InvalidValueError(
                    f'"{name:.80}" is asked already. Take it out of the other models.'
                )
        models = [self._manager.load(name) for name in names]
        blind = next((one.name for one in models if not one.sees_images), None)
        if self.draft.images and blind is not None:
            raise InvalidValueError(
                f'The model "{blind:.80}" cannot see pictures. Take it out of the other models, or '
                "take the columns with pictures out."
            )
        return models

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
        "draft-back": _go_back,
        "draft-forward": _go_forward,
        "draft-dismiss": _dismiss_words,
        "row": _take_row,
        "models": _list_models,
        **TakesTable.TABLE_ACTIONS,
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
                "fills": self._history.fills,
                "words": self._history.words,
                "hasBefore": self._history.has_before,
                "hasAfter": self._history.has_after,
            },
            "judged": {
                "faults": judged.faults,
                "fixes": [{"wrong": one.wrong, "right": one.right} for one in judged.fixes],
                "answer": "" if judged.output is None else judged.output.describe(),
            },
            "preview": self._preview,
            "images": self._images,
            "models": self._models,
            "check": self.check,
        }


def _images_view(given: Given | None, source: Source) -> Message:
    """Return what the page says of columns with pictures."""
    return {
        "suggested": [] if given is None else given.pictures,
        "words": folder_words(source),
        "folder": source.folder,
        "canChoose": source.can_choose,
    }
