"""Hears what a process asks its models, and makes a record's items of it.

Promises: every completion, chat answer, batch run and comparison that begins while it listens has
its place among the items, in the order in which they began; what had begun is heard to its end also
after `stop`. Listening costs a request next to nothing: all work is done in a thread of its own,
which also asks the model for the exact tokens of each prompt while the reply is being written. What
could not be found out is None, and never fails a request. Leaves to others: what an item says
(`values`), keeping it (`experiment`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gguf_widgets.batch import events as batch_events
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.spec import identity_of
from gguf_widgets.batch.steering import IN_HAND
from gguf_widgets.core import request_events
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.model import Model
from gguf_widgets.core.presets import sampling_to_json
from gguf_widgets.core.record.model_file import digest_of_file, template_digest
from gguf_widgets.core.record.tried import tried
from gguf_widgets.core.request_events import Event, Prompt, RequestEnded, RequestStarted
from gguf_widgets.core.types import Priority, Reply, SamplingSettings
from gguf_widgets.experiments.document import to_plain
from gguf_widgets.experiments.model_record import model_record
from gguf_widgets.experiments.run_items import RunEar, run_item
from gguf_widgets.experiments.values import (
    Answer,
    ComparisonItem,
    Item,
    ModelRecord,
    RequestItem,
    RunItem,
)

if TYPE_CHECKING:
    from gguf_widgets.compare.comparison import Comparison

__all__ = ["Recorder", "answer_of"]

_log = logging.getLogger(__name__)


class _Run:
    """A batch run that is being recorded."""

    def __init__(self, run: BatchRun) -> None:
        self.run = run
        self.is_again = False  # it was begun again after it had ended

    @property
    def has_ended(self) -> bool:
        return self.run.status not in IN_HAND


class Recorder:
    """Makes items of what happens; used by one `Experiment`.

    Parameters
    ----------
    on_item : callable
        Called in the recorder's thread with the number of an item that is new or has changed.
    only_run : str, optional
        Listen to this batch run and nothing else.
    """

    def __init__(
        self,
        on_item: Callable[[int], object] = lambda _number: None,
        *,
        only_run: str | None = None,
    ) -> None:
        self._on_item = on_item
        self._only_run = only_run
        self._lock = threading.RLock()
        # Its own: to describe a model takes as long as its disk does.
        self._models_lock = threading.RLock()
        self._places: list[Item | None] = []
        self._models: list[ModelRecord] = []
        self._known: weakref.WeakKeyDictionary[Model, dict[str, int]] = weakref.WeakKeyDictionary()
        self._open: dict[str, int | None] = {}  # requests under way, and the places of their items
        self._tokens: dict[str, list[int] | None] = {}
        self._runs: dict[str, tuple[_Run, int]] = {}
        self._comparisons: dict[str, tuple[Any, int]] = {}
        self._comparing: set[str] = set()  # those that are going on
        self._ears: dict[str, RunEar] = {}
        self._run_models: dict[str, dict[str, int]] = {}  # by run, and by the file's path
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._listens = False
        self._ends: list[Callable[[], None]] = []

    # -- listening --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen."""
        with self._lock:
            if self._listens:
                return
            self._listens = True
            self._begin_thread()
            if not self._ends:
                self._ends = [
                    request_events.subscribe(self._hear),
                    batch_events.subscribe(self._hear_run),
                    *_comparison_events(self._hear_comparison),
                ]

    def stop(self, timeout_s: float = 60.0) -> bool:
        """Listen no more, and return whether all that had begun has ended and is recorded.

        What has not is still heard to its end, in the background.
        """
        with self._lock:
            self._listens = False
            going_on = [run.run for run, _ in self._runs.values() if not run.has_ended]
        for run in going_on:
            run.observe(self._look_at)
        return self.wait(timeout_s)

    def _look_at(self, run: BatchRun) -> None:
        if run.status not in IN_HAND:
            self._todo.put(self._settle)

    def _settle(self) -> None:
        self.refresh()
        self._close_if_done()

    def wait(self, timeout_s: float) -> bool:
        """Wait until all that has begun is recorded, and return whether it is; see `is_open`.

        Batch runs and requests that are still going on are not waited for.
        """
        done = threading.Event()
        with self._lock:
            has_thread = self._thread is not None
            if has_thread:
                self._todo.put(done.set)
        if has_thread and not done.wait(timeout_s):
            return False
        self.refresh()
        self._close_if_done()
        return not self.is_open

    @property
    def is_open(self) -> bool:
        """Whether anything that has begun is still going on."""
        with self._lock:
            runs = [run for run, _ in self._runs.values()]
            going_on = bool(self._open or self._comparing)
        return going_on or any(not run.has_ended for run in runs)

    def _close(self) -> None:
        for end in self._ends:
            end()
        self._ends = []
        self._todo.put(None)
        self._thread = None

    def _begin_thread(self) -> None:
        if self._thread is None:
            self._todo = queue.SimpleQueue()
            todo = self._todo
            self._thread = threading.Thread(
                target=_work, args=(todo,), name="gguf-widgets-experiment", daemon=True
            )
            self._thread.start()

    # -- what is there ----------------------------------------------------------------------------

    def items(self) -> list[Item]:
        """Return what is recorded so far."""
        with self._lock:
            return [item for item in self._places if item is not None]

    def item(self, number: int) -> Item | None:
        """Return one of `items`, by its place among all that have begun."""
        with self._lock:
            return self._places[number]

    def models(self) -> list[ModelRecord]:
        """Return the models so far."""
        with self._models_lock:
            return list(self._models)

    def set_models(self, models: list[ModelRecord]) -> None:
        """Put more exact descriptions in place of the models'."""
        with self._models_lock:
            self._models[: len(models)] = models

    # -- adding by hand ---------------------------------------------------------------------------

    def add_run(self, run: BatchRun) -> None:
        """Record a run, whenever and by whomever it was carried out."""
        with self._lock:
            if run.id not in self._runs:
                self._runs[run.id] = (_Run(run), self._new_place())
        self._record_run(run.id)

    def add_comparison(self, comparison: Comparison) -> None:
        """Record a comparison and the runs of its sides."""
        with self._lock:
            if comparison.id not in self._comparisons:
                self._comparisons[comparison.id] = (comparison, self._new_place())
        self._record_comparison(comparison.id)

    def add_reply(
        self, model: Model, request: tuple[Prompt, SamplingSettings, Priority], reply: Reply
    ) -> None:
        """Record a reply that came before anybody listened."""
        prompt, sampling, priority = request
        place = self._new_place()
        tokens = tried(_tokens_of, model, prompt)
        number = self._number_of(model)
        item = _request_item(model, number, time.time(), prompt, sampling, priority.value)
        answer = msgspec.structs.replace(answer_of(reply), prompt_tokens=tokens)
        self._put(place, msgspec.structs.replace(item, answer=answer, sampling=_used(item, reply)))

    def refresh(self) -> None:
        """Look again at runs and comparisons that were going on when they were recorded."""
        with self._lock:
            runs, comparisons = list(self._runs), list(self._comparisons)
        for run_id in runs:
            self._record_run(run_id)
        for comparison_id in comparisons:
            self._record_comparison(comparison_id)

    # -- in whichever thread something happens ----------------------------------------------------

    def _hear(self, event: Event) -> None:
        if isinstance(event, RequestStarted):
            with self._lock:
                is_all = self._listens and self._only_run is None and not event.is_check
                is_ours = is_all or event.run_id in self._runs
                if not is_ours or event.request_id in self._open:
                    return
                if event.run_id is not None:
                    # A comparison's runs, and those that are tried out, are known only later.
                    self._ears.setdefault(event.run_id, RunEar())
                place = self._new_place() if event.run_id is None else None
                self._open[event.request_id] = place
            self._todo.put(lambda: self._started(event))
        elif isinstance(event, RequestEnded):
            with self._lock:
                if event.request_id not in self._open:
                    return
                place = self._open[event.request_id]
            self._todo.put(lambda: self._ended(event, place))

    def _hear_run(self, run: BatchRun) -> None:
        with self._lock:
            if run.id in self._runs:
                self._runs[run.id][0].is_again = True
            elif self._listens and self._only_run in (None, run.id):
                self._runs[run.id] = (_Run(run), self._new_place())

    def _hear_comparison(self, what: str, comparison: Comparison) -> None:
        with self._lock:
            is_new = comparison.id not in self._comparisons
            if is_new and (not self._listens or self._only_run is not None):
                return
            if is_new:
                self._comparisons[comparison.id] = (comparison, self._new_place())
            if what == "started":
                self._comparing.add(comparison.id)
        if what == "ended":
            self._todo.put(lambda: self._comparison_ended(comparison.id))

    # -- in the recorder's thread -----------------------------------------------------------------

    def _started(self, event: RequestStarted) -> None:
        number = tried(self._number_of, event.model)  # while it is loaded for sure
        if event.run_id is not None and number is not None:
            self._run_models.setdefault(event.run_id, {})[str(event.model.path)] = number
        tokens = tried(_tokens_of, event.model, event.prompt)
        if event.run_id is None:
            self._tokens[event.request_id] = tokens
        else:
            self._ears[event.run_id].prompt(event.prompt, tokens)

    def _ended(self, event: RequestEnded, place: int | None) -> None:
        try:
            if place is None:
                if event.reply is not None and event.run_id is not None:
                    self._ears[event.run_id].reply(event.prompt, event.reply)
                return
            number = self._number_of(event.model)
            item = _request_item(
                event.model, number, event.at, event.prompt, event.sampling, event.priority.value
            )
            tokens = self._tokens.pop(event.request_id, None)
            if event.reply is not None:
                answer = answer_of(event.reply)
            else:
                answer = Answer(status="failed", error=to_plain(event.error))
            answer = msgspec.structs.replace(answer, prompt_tokens=tokens)
            sampling = _used(item, event.reply) if event.reply is not None else item.sampling
            self._put(place, msgspec.structs.replace(item, answer=answer, sampling=sampling))
        finally:
            with self._lock:
                self._open.pop(event.request_id, None)
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._listens or self.is_open:  # looks into the store: not with the lock held
            return
        with self._lock:
            if not self._listens and self._thread is not None:
                self._close()

    def _record_run(self, run_id: str) -> None:
        known, place = self._runs[run_id]
        before = self._places[place]
        if isinstance(before, RunItem) and before.status == "finished" and not known.is_again:
            return
        known.is_again = False
        run = known.run
        numbers = [self._number_of_ref(run, number) for number in range(len(run.spec.models))]
        templates = [
            tried(_template_of_ref, self._models[number], ref.chat_template)
            for number, ref in zip(numbers, run.spec.models, strict=True)
        ]
        with contextlib.suppress(GgufWidgetsError):  # purged meanwhile: what is recorded stays
            self._put(
                place, run_item(run_id, run.store, numbers, templates, self._ears.get(run_id))
            )

    def _comparison_ended(self, comparison_id: str) -> None:
        try:
            self._record_comparison(comparison_id)
        finally:
            with self._lock:
                self._comparing.discard(comparison_id)
            self._close_if_done()

    def _record_comparison(self, comparison_id: str) -> None:
        comparison, place = self._comparisons[comparison_id]
        runs = [comparison.run(number) for number in range(len(comparison.labels))]
        for run in runs:
            if run is not None:
                self.add_run(run)
        data = to_plain(comparison.to_dict())  # its answers are those of the runs
        item = ComparisonItem(
            comparison_id=comparison.id,
            title=comparison.title,
            at=comparison.created_at,
            runs=[run.id for run in runs if run is not None],
            data={name: data[name] for name in data if name != "answers"},
        )
        self._put(place, item)

    # -- inside -----------------------------------------------------------------------------------

    def _new_place(self) -> int:
        with self._lock:
            self._places.append(None)
            return len(self._places) - 1

    def _put(self, place: int, item: Item) -> None:
        with self._lock:
            if self._places[place] == item:
                return
            self._places[place] = item
        self._on_item(place)

    def _number_of(self, model: Model) -> int:
        """Return a loaded model's place, as it is loaded now."""
        key = repr(model.settings.replace(chat_template=None))
        with self._models_lock:
            numbers = self._known.setdefault(model, {})
            if key not in numbers:
                numbers[key] = self._add(model_record(model))
            return numbers[key]

    def _number_of_ref(self, run: BatchRun, number: int) -> int:
        """Return the place of a run's model, which may not be loaded any more."""
        path = run.spec.models[number].path
        heard = self._run_models.get(run.id, {})
        if path in heard:
            return heard[path]
        for model in run.models:
            if str(model.path) == path:
                return self._number_of(model)
        return self._add(_record_of_ref(run, number))

    def _add(self, record: ModelRecord) -> int:
        with self._models_lock:
            if record not in self._models:
                self._models.append(record)
            return self._models.index(record)


def answer_of(reply: Reply) -> Answer:
    """Return a reply as a record has it."""
    usage = reply.usage
    return Answer(
        text=reply.text,
        tokens=reply.tokens,
        finish_reason=reply.finish_reason.value,
        seed=reply.seed,
        num_prompt_tokens=usage.num_prompt_tokens,
        num_cached_tokens=usage.num_cached_tokens,
        num_completion_tokens=usage.num_completion_tokens,
    )


def _request_item(
    model: Model,
    number: int,
    at: float,
    prompt: Prompt,
    sampling: SamplingSettings,
    priority: str,
) -> RequestItem:
    return RequestItem(
        model=number,
        at=at,
        prompt=to_plain(prompt),
        sampling=to_plain(sampling_to_json(sampling.to_dict())),
        priority=priority,
        strict=sampling.reproducible,
        template=tried(template_digest, model, prompt.chat_template),
        answer=Answer(),
    )


def _used(item: RequestItem, reply: Reply) -> dict[str, Any]:
    return {**item.sampling, "seed": reply.seed}


def _tokens_of(model: Model, prompt: Prompt) -> list[int] | None:
    if model.pid is None:  # its process is not started again for this
        return None
    return [one.token for one in model.tokens_of_prompt(prompt)]


def _template_of_ref(record: ModelRecord, chat_template: str | None) -> str | None:
    if chat_template is None:
        return record.template
    encoded = chat_template.encode("utf-8", "replace")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def _record_of_ref(run: BatchRun, number: int) -> ModelRecord:
    """Describe a model that is not loaded here by what its run says of it."""
    ref = run.spec.models[number]
    is_there = tried(identity_of, Path(ref.path)) == ref.identity
    return ModelRecord(
        name=ref.name,
        path=ref.path,
        backend=ref.backend or "llama.cpp",
        header=ref.identity,
        model=tried(digest_of_file, ref.path) if is_there else None,
        load={
            name: value for name, value in ref.settings.items() if name not in ("lora", "mmproj")
        },
    )


def _comparison_events(
    listener: Callable[[str, Comparison], None],
) -> list[Callable[[], None]]:
    from gguf_widgets.compare import events

    return [events.subscribe(listener)]


def _work(todo: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := todo.get()) is not None:
        try:
            job()
        except Exception:  # noqa: BLE001 - one item is missing, and the next one counts as well
            _log.exception("A part of an experiment could not be recorded")
