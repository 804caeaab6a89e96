"""`Replay`: an experiment asked again, item by item, and compared.

Promises: what was strict is asked in strict mode again, a batch run as a batch run with the same
seeds; it works in a thread of its own, can be stopped at any moment and gone on with, and what has
been repeated stays; a model that is gone or does not load costs only its own items; nothing of the
person's own store or models is touched. Leaves to others: loading (`replay_models`), comparing
(`verdicts`, `changes`), words (`report`).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from gguf_widgets.core.errors import BatchError, GgufWidgetsError
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.core.record.differences import Difference
from gguf_widgets.core.record.program import about_machine, about_program
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.store.store import Store
from gguf_widgets.experiments.changes import in_programs, once
from gguf_widgets.experiments.replay_items import ItemReplay, Stopped
from gguf_widgets.experiments.replay_models import Chosen, ReplayModels
from gguf_widgets.experiments.replay_rows import RowResult, answers_in, as_html, frame_of, rows_of
from gguf_widgets.experiments.report import words_of
from gguf_widgets.experiments.values import ComparisonItem, Record, RequestItem, RunItem

__all__ = ["Replay", "ReplayStatus"]

Progress = Callable[[float, str], object]
"""Called with how far it is (0 to 1) and a phrase; answering False stops the replay."""

_STOP_S: Final = 30.0
_LOOK_S: Final = 0.2

_log = logging.getLogger(__name__)


class ReplayStatus(StrEnum):
    """Where a replay stands."""

    RUNNING = "running"
    STOPPED = "stopped"  # a person stopped it; it can go on
    FINISHED = "finished"  # everything that could be asked again was
    FAILED = "failed"  # nothing could be asked again; `Replay.error` says why


class Replay:
    """An experiment that is asked again; made by `Experiment.replay`.

    Parameters
    ----------
    record : Record
    altered : str
        What was changed in the record by hand, as a sentence.
    manager : ModelManager, optional
        Whose library the models are looked for in.
    model, load, sampling
        As for `Experiment.replay`.
    progress : callable, optional

    Attributes
    ----------
    record : Record
    error : GgufWidgetsError or None
        Why nothing could be asked again.
    """

    def __init__(
        self,
        record: Record,
        *,
        altered: str = "",
        manager: ModelManager | None = None,
        model: Chosen | Mapping[str, Chosen] | None = None,
        load: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.record = record
        self.error: GgufWidgetsError | None = None
        self._altered = altered
        self._overrides = dict(sampling or {})
        SamplingSettings.from_keywords(**self._overrides)  # refused before anything is loaded
        self._manager = manager if manager is not None else default_manager()
        # Refuses a model that the record does not have, before anything is loaded.
        self._models = ReplayModels(record.models, self._manager, model, load)
        self._how = (model, load)
        self._tell = progress
        self._lock = threading.Lock()
        self._rows: dict[int, list[RowResult]] = {}
        self._changes: dict[int, list[Difference]] = {}
        self._notes: dict[str, None] = {}
        self._done: set[int] = set()
        self._items: dict[int, ItemReplay] = {}
        self._folder: Path | None = None
        self._store: Store | None = None
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = ReplayStatus.STOPPED

    # -- how it stands ----------------------------------------------------------------------------

    @property
    def status(self) -> ReplayStatus:
        """Where it stands."""
        return self._status

    @property
    def rows(self) -> list[RowResult]:
        """Each recorded answer beside the new one, in the record's order."""
        with self._lock:
            done = dict(self._rows)
        found: list[RowResult] = []
        for number, item in enumerate(self.record.items, 1):
            found += done[number] if number in done else rows_of(number, item, None)
        return found

    @property
    def num_same(self) -> int:
        """How many answers are the same."""
        return self._count("same")

    @property
    def num_different(self) -> int:
        """How many are not."""
        return self._count("different")

    @property
    def num_missing(self) -> int:
        """How many were not asked again."""
        return self._count("not repeated")

    def _count(self, state: str) -> int:
        return sum(row.state == state for row in self.rows)

    @property
    def same(self) -> bool | None:
        """Whether everything is the same; None if not everything was asked again."""
        states = {row.state for row in self.rows}
        if "different" in states:
            return False
        return True if states == {"same"} else None

    @property
    def changes(self) -> list[Difference]:
        """What recorded things are not the same as then, each once."""
        with self._lock:
            per_item = [list(self._changes[number]) for number in sorted(self._changes)]
        found = [one for changes in per_item for one in changes]
        if self._altered:
            found.insert(0, Difference(name="record", words=self._altered))
        return once([*found, *(one for row in self.rows for one in row.changes)])

    @property
    def notes(self) -> list[str]:
        """What a person should know besides: where a model was found, ..."""
        with self._lock:
            return list(self._notes)

    @property
    def strict(self) -> bool:
        """Whether everything was recorded in strict mode."""
        asked = [one for one in self.record.items if isinstance(one, RequestItem | RunItem)]
        return bool(asked) and all(one.strict for one in asked)

    @property
    def words(self) -> str:
        """What came of it, in some sentences."""
        rows = self.rows
        if not rows:
            return "This experiment has no answers."
        return words_of(
            rows,
            self.changes,
            strict=self.strict,
            stopped=self._status is ReplayStatus.STOPPED,
            notes=self.notes,
        )

    # -- carrying it out --------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin, or go on with what is missing, in the background; return at once."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return self
            self._stop.clear()
            self._ended.clear()
            self._status = ReplayStatus.RUNNING
            self._thread = threading.Thread(
                target=self._run, name="gguf-widgets-replay", daemon=True
            )
            self._thread.start()
        return self

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """End it; what has been repeated stays, and `start` goes on with the rest."""
        self._stop.set()
        for item in list(self._items.values()):
            item.stop()
        if self._thread is not None:
            self._ended.wait(timeout_s)

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until it has ended; an interrupt (Ctrl+C, the notebook's Stop) stops it.

        Raises
        ------
        TimeoutError
            It has not ended; it goes on.
        """
        if self._thread is None:
            return self
        try:
            # In pieces: on Windows an interrupt would not end one long wait.
            left = timeout_s
            while not self._ended.wait(_LOOK_S if left is None else min(_LOOK_S, max(0.0, left))):
                if left is not None:
                    left -= _LOOK_S
                    if left <= 0:
                        raise TimeoutError(
                            f"The replay has not ended within {timeout_s:g} seconds."
                        )
        except KeyboardInterrupt:
            self.stop()
            raise
        return self

    def _run(self) -> None:
        status = ReplayStatus.FINISHED
        try:
            self._replay_all()
        except Stopped:
            status = ReplayStatus.STOPPED
        except Exception as caught:  # noqa: BLE001 - the replay says so, and what is done is kept
            _log.exception("A replay met an error that it did not expect")
            self.error = BatchError(f"The replay met an error that it did not expect: {caught}")
            status = ReplayStatus.FAILED
        finally:
            with contextlib.suppress(GgufWidgetsError):
                self._models.close()
            if status is ReplayStatus.FINISHED and self.error and not self._any_asked():
                status = ReplayStatus.FAILED
            if status is not ReplayStatus.STOPPED:
                self._remove_store()
            self._status = status
            self._ended.set()

    def _any_asked(self) -> bool:
        return any(row.state != "not repeated" for row in self.rows)

    def _replay_all(self) -> None:
        numbered = list(enumerate(self.record.items, 1))
        # Model by model, so that each is loaded once.
        numbered.sort(key=lambda pair: _first_model(pair[1]))
        total = sum(len(answers_in(item)) for item in self.record.items)
        program = in_programs(self.record.program, {**about_program(), **about_machine()})
        for number, item in numbered:
            if isinstance(item, ComparisonItem) or number in self._done:
                continue
            if self._stop.is_set():
                raise Stopped
            self._replay_one(number, item, program, total)
            self._report(total, "")

    def _replay_one(
        self, number: int, item: RequestItem | RunItem, program: list[Difference], total: int
    ) -> None:
        if number not in self._items:
            self._items[number] = ItemReplay(
                number, item, self.record.models, self._overrides, self._kept_in
            )
        one = self._items[number]
        try:
            one.run(
                self._models,
                self._stop.is_set,
                lambda phrase, done: self._report(total, phrase, done),
            )
        except GgufWidgetsError as error:
            self.error = self.error or error
            with self._lock:
                self._rows[number] = rows_of(number, item, None, reason=error.message)
                self._done.add(number)
            return
        finally:
            if one.rows is not None:
                with self._lock:
                    self._rows[number] = one.rows
                    self._changes[number] = [*one.changes, *program]
                    self._notes.update(dict.fromkeys(note for note in one.notes if note))
        with self._lock:
            self._done.add(number)

    def _report(self, total: int, phrase: str, more: int = 0) -> None:
        if self._tell is None:
            return
        with self._lock:
            done = sum(len(rows) for number, rows in self._rows.items() if number in self._done)
        if self._tell(min(1.0, (done + more) / max(1, total)), phrase) is False:
            self._stop.set()

    def _kept_in(self) -> Store:
        """Return the store of this replay's batch runs, apart from the person's own."""
        if self._store is None:
            self._folder = Path(tempfile.mkdtemp(prefix="gguf-widgets-replay-"))
            self._store = Store(self._folder / "store.sqlite3")
        return self._store

    def _remove_store(self) -> None:
        store, self._store = self._store, None
        folder, self._folder = self._folder, None
        self._items.clear()
        if store is not None:
            store.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Stop it and remove what it would need to go on."""
        self.stop()
        self._remove_store()

    # -- the result -------------------------------------------------------------------------------

    def to_frame(self) -> Any:
        """Return a DataFrame with a row for each answer: state, first difference, both texts."""
        return frame_of(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "experiment": self.record.id,
            "title": self.record.title,
            "status": self.status.value,
            "same": self.same,
            "strict": self.strict,
            "num_same": self.num_same,
            "num_different": self.num_different,
            "num_missing": self.num_missing,
            "words": self.words,
            "changes": [
                {"name": one.name, "words": one.words, "only_digits": one.only_digits}
                for one in self.changes
            ],
            "rows": [
                {
                    "item": row.item,
                    "row": row.row,
                    "label": row.label,
                    "state": row.state,
                    "token": row.token,
                    "character": row.character,
                    "words": row.words,
                }
                for row in self.rows
            ],
        }

    def __str__(self) -> str:
        return self.words

    def __repr__(self) -> str:
        return f"<Replay, {self.status.value}: {self.words}>"

    def _repr_html_(self) -> str:
        return as_html(self.words, self.rows)


def _first_model(item: Any) -> int:
    if isinstance(item, RequestItem):
        return item.model
    return item.models[0] if isinstance(item, RunItem) and item.models else -1
