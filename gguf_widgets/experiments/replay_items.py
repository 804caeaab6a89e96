"""One item asked again: a request, or a batch run with all its rows.

Promises: a request goes to the model as it went then, with the seed that was used then; a batch run
is made of the recorded table and description, so that it takes the same ways (choices, outputs,
rows that are alike); what was stopped goes on where it was. Leaves to others: the order of items
(`replay`), comparing (`verdicts`, `changes`).
"""

from __future__ import annotations

import dataclasses
import json
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.spec import Spec
from gguf_widgets.core.errors import GgufWidgetsError, ModelFileError, ModelLoadError, to_wire
from gguf_widgets.core.record.differences import Difference
from gguf_widgets.core.record.model_file import template_digest
from gguf_widgets.core.record.tried import tried
from gguf_widgets.core.request_events import Prompt
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import Priority, Reply
from gguf_widgets.experiments.changes import in_answers, in_models, in_settings, in_templates
from gguf_widgets.experiments.document import prompt_of, sampling_of, to_plain
from gguf_widgets.experiments.recorder import Recorder, answer_of
from gguf_widgets.experiments.replay_models import Loaded, ReplayModels
from gguf_widgets.experiments.replay_rows import RowResult, rows_of
from gguf_widgets.experiments.values import Answer, ModelRecord, RequestItem, RunItem

__all__ = ["ItemReplay", "Stopped"]

_LOOK_S: Final = 0.1
_SETTLE_S: Final = 60.0

Tell = Callable[[str, int], object]
"""Called with a phrase, and how many answers of this item are there."""


class Stopped(Exception):  # noqa: N818 - no error: a person's wish
    """The replay was asked to stop."""


class ItemReplay:
    """An item that is asked again.

    Parameters
    ----------
    number : int
        The item's, from 1.
    item : RequestItem or RunItem
    models : sequence of ModelRecord
        The record's.
    overrides : dict
        Sampling settings to change.
    store : callable
        Returns the store for batch runs.

    Attributes
    ----------
    rows : list of RowResult or None
        What came of it so far.
    changes : list of Difference
        What differs for all of its answers.
    notes : list of str
    """

    def __init__(
        self,
        number: int,
        item: RequestItem | RunItem,
        models: Sequence[ModelRecord],
        overrides: Mapping[str, Any],
        store: Callable[[], Store],
    ) -> None:
        self._number, self._item, self._records = number, item, models
        self._overrides, self._store = dict(overrides), store
        self._run: BatchRun | None = None
        self._recorder: Recorder | None = None
        self.rows: list[RowResult] | None = None
        self.changes: list[Difference] = []
        self.notes: list[str] = []

    def stop(self) -> None:
        """Have `run` come to its end soon; any thread may call this."""
        run = self._run
        if run is not None and run.is_here:
            run.stop(timeout_s=0.0)

    def run(self, models: ReplayModels, is_stopped: Callable[[], bool], tell: Tell) -> None:
        """Ask, and compare.

        Raises
        ------
        Stopped
            It was stopped; `rows` has what came before that.
        GgufWidgetsError
            It could not be asked at all.
        """
        tell("loading the model", 0)
        if isinstance(self._item, RequestItem):
            self._ask(self._item, models, is_stopped, tell)
        else:
            self._ask_run(self._item, models, is_stopped, tell)

    # -- a request --------------------------------------------------------------------------------

    def _ask(
        self,
        item: RequestItem,
        models: ReplayModels,
        is_stopped: Callable[[], bool],
        tell: Tell,
    ) -> None:
        loaded = models.load(item.model)
        prompt, then = prompt_of(item.prompt), sampling_of(item.sampling)
        now = _with(then, self._overrides)
        template = tried(template_digest, loaded.model, prompt.chat_template)
        self.notes = [loaded.note]
        self.changes = [
            *in_settings(then, now),
            *in_templates(item.template if prompt.messages else None, template),
            *in_models(self._records[item.model], loaded.record, with_images=prompt.has_images),
        ]
        tell("asking", 0)
        answer = self._answered(item, loaded, prompt, now, is_stopped)
        changes = in_answers(item.answer, answer, strict=item.strict)
        self.rows = rows_of(self._number, item, [answer], changes=[tuple(changes)])

    def _answered(
        self,
        item: RequestItem,
        loaded: Loaded,
        prompt: Prompt,
        sampling: SamplingSettings,
        is_stopped: Callable[[], bool],
    ) -> Answer:
        """Ask, and return what came of it."""
        written = item.answer.num_completion_tokens
        if item.answer.finish_reason == "aborted" and written:
            # It is compared as far as it came, and need not be written any further.
            most = min(written, sampling.max_tokens or written)
            sampling = sampling.replace(max_tokens=most, min_tokens=min(sampling.min_tokens, most))
        ends: queue.SimpleQueue[Reply | GgufWidgetsError] = queue.SimpleQueue()
        tokens = tried(lambda: [one.token for one in loaded.model.tokens_of_prompt(prompt)])
        try:
            asked = loaded.model.submit_prompt(prompt, ends.put, sampling, Priority(item.priority))
        except (ModelFileError, ModelLoadError):
            raise
        except GgufWidgetsError as error:
            end: Reply | GgufWidgetsError = error
        else:
            end = _waited(ends, asked.stop, is_stopped)
        if isinstance(end, GgufWidgetsError):
            return Answer(status="failed", error=to_plain(to_wire(end)), prompt_tokens=tokens)
        return msgspec.structs.replace(answer_of(end), prompt_tokens=tokens)

    # -- a batch run ------------------------------------------------------------------------------

    def _ask_run(
        self,
        item: RunItem,
        models: ReplayModels,
        is_stopped: Callable[[], bool],
        tell: Tell,
    ) -> None:
        spec, loaded = self._spec_now(item, models)
        then, now = sampling_of(item.sampling), _with(sampling_of(item.sampling), self._overrides)
        self.notes = [one.note for one in loaded]
        self.changes = in_settings(then, now)
        for number, one in zip(item.models, loaded, strict=True):
            with_images = bool(spec.images.columns) or spec.requests
            self.changes += in_models(self._records[number], one.record, with_images=with_images)
        templates = [
            tried(template_digest, one.model, ref.chat_template)
            for one, ref in zip(loaded, spec.models, strict=True)
        ]
        for before, after in zip(item.templates, templates, strict=True):
            self.changes += in_templates(before, after)
        given = [loaded[0].model] if len(loaded) == 1 else []
        run, recorder = self._begun(item, spec, models, given)
        run.start()
        try:
            while run.is_here:
                if is_stopped():
                    run.stop()
                tell(
                    f"asking {plural(len(item.rows), 'row')}", run.counts.total - run.counts.waiting
                )
                _pause()
        finally:
            self._take(item, recorder, run)
        if run.status is RunStatus.STOPPED:
            raise Stopped
        run.wait()  # raises what stopped all of its rows

    def _spec_now(self, item: RunItem, models: ReplayModels) -> tuple[Spec, list[Loaded]]:
        spec = Spec.from_dict(item.spec)
        pairs = [
            models.reference(number, ref)
            for number, ref in zip(item.models, spec.models, strict=True)
        ]
        sampling = {**spec.sampling, **self._overrides}
        now = dataclasses.replace(spec, models=tuple(ref for ref, _ in pairs), sampling=sampling)
        return now, [loaded for _, loaded in pairs]

    def _begun(
        self, item: RunItem, spec: Spec, models: ReplayModels, given: list[Any]
    ) -> tuple[BatchRun, Recorder]:
        """Return the run, a new one or the one that was stopped, and who listens to it."""
        if self._run is not None and self._recorder is not None:
            if given:
                self._run.models = given
            self._recorder.start()
            return self._run, self._recorder
        store = self._store()
        runs = BatchRuns(store)
        made = runs.create(
            spec.to_dict(),
            item.columns,
            num_prompts=len(spec.prompts),
            num_models=len(spec.models),
            num_samples=spec.num_samples,
            title=item.title,
        )
        rows = (json.dumps(row, separators=(",", ":"), allow_nan=False) for row in item.rows)
        RunTasks(store, made.id).add_rows(rows)
        self._run = BatchRun(made.id, store, models.manager, given)
        self._recorder = Recorder(only_run=made.id)
        self._recorder.start()
        return self._run, self._recorder

    def _take(self, item: RunItem, recorder: Recorder, run: BatchRun) -> None:
        """Compare what there is of the run."""
        recorder.stop(_SETTLE_S)
        found = next(
            (one for one in recorder.items() if isinstance(one, RunItem) and one.run_id == run.id),
            None,
        )
        if found is None:
            return
        by_number = {answer.number: answer for answer in found.answers}
        again = [
            by_number.get(answer.number, Answer(number=answer.number, status="waiting"))
            for answer in item.answers
        ]
        changes = [
            tuple(in_answers(then, now, strict=item.strict))
            for then, now in zip(item.answers, again, strict=True)
        ]
        self.rows = rows_of(self._number, item, again, changes=changes)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _with(sampling: SamplingSettings, overrides: Mapping[str, Any]) -> SamplingSettings:
    return sampling.replace(**overrides) if overrides else sampling


def _waited(
    ends: queue.SimpleQueue[Reply | GgufWidgetsError],
    stop: Callable[[], None],
    is_stopped: Callable[[], bool],
) -> Reply | GgufWidgetsError:
    while True:
        try:
            end = ends.get(timeout=_LOOK_S)
        except queue.Empty:
            if is_stopped():
                stop()
                raise Stopped from None
            continue
        return end


def _pause() -> None:
    time.sleep(_LOOK_S)
