"""Scores the answers that have come, and keeps what comes of it.

Promises: an answer that has a score is not scored again; scores of single answers follow the
answers block by block, those that need a model of their own come at the end; a scoring that cannot
be carried out says why and does not stop the others. Leaves to others: the scorings themselves,
loading (`memory`), when (`carrying`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.table_rows import decoded, row_of
from gguf_widgets.compare.answers import Answers
from gguf_widgets.compare.definition import Definition
from gguf_widgets.compare.judge import CHOICES, Duel, Judge, Verdict, as_said, scores_of, verdict_of
from gguf_widgets.compare.memory import Memory
from gguf_widgets.compare.records import Record, Records
from gguf_widgets.compare.scoring import AnswerScoring, Score, Scoring
from gguf_widgets.compare.scoring_similarity import Similarity
from gguf_widgets.compare.types import Answer
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, StoreError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus, TaskStatus

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PromptTexts", "Scorer", "column_names"]

_STRETCH: Final = 500
_DUELS_AT_ONCE: Final = 5000  # prompts in one run of a judge
_SLICE_S: Final = 0.2
_AGREES_BY_CHANCE: Final = 0.6


class Scorer:
    """The scoring of one comparison, in the thread that carries it out.

    Parameters
    ----------
    records : Records
    record : Record
    definition : Definition
    answers : Answers
    manager : ModelManager
    memory : Memory
    look_up : callable
        Called now and then: raises where the comparison is to stop.
    keep : callable
        Keeps the definition.
    """

    def __init__(
        self,
        records: Records,
        record: Record,
        definition: Definition,
        answers: Answers,
        manager: ModelManager,
        memory: Memory,
        *,
        look_up: Callable[[str], None],
        keep: Callable[[], None],
    ) -> None:
        import numpy as np

        self._records, self._record, self._definition = records, record, definition
        self._answers, self._manager, self._memory = answers, manager, memory
        self._look_up, self._keep = look_up, keep
        shape = (len(definition.sides), record.num_prompts)
        self._has: dict[str, NDArray[np.bool_]] = {}
        self._values: dict[str, NDArray[np.float64]] = {}
        for scoring in definition.scorings:
            has, values = np.zeros(shape, bool), np.full(shape, np.nan)
            for prompt, side, value in records.score_values(record.id, scoring.name):
                if side < shape[0] and prompt < shape[1]:
                    has[side, prompt] = True
                    values[side, prompt] = np.nan if value is None else value
            self._has[scoring.name], self._values[scoring.name] = has, values

    def values(self, name: str) -> NDArray[np.float64]:
        """Return the scores by side and place in the order of asking; NaN where there is none."""
        return self._values[name][:, self._answers.order]

    def score_answers(self, start: int, stop: int) -> None:
        """Score what has ended of the runs' rows `start` to `stop`, answer by answer."""
        for scoring in self._definition.scorings:
            if isinstance(scoring, AnswerScoring):
                with scoring.ready():
                    for first in range(start, stop, _STRETCH):
                        self._score_stretch(scoring, first, min(first + _STRETCH, stop))

    def score_by_likeness(self, start: int, stop: int, *, only: str | None = None) -> None:
        """Score what has ended of a stretch by the scorings that need vectors."""
        for scoring in self._definition.scorings:
            if isinstance(scoring, Similarity) and only in (None, scoring.name):
                self._carefully(scoring, partial(self._similar, scoring, start, stop))

    def score_rest(self) -> None:
        """Score all that has no score yet, judges last."""
        num = self._record.num_prompts
        self.score_answers(0, num)
        self.score_by_likeness(0, num)
        for scoring in self._definition.scorings:
            if isinstance(scoring, Judge):
                self._carefully(scoring, partial(self._judge, scoring))

    # -- answer by answer -------------------------------------------------------------------------

    def _score_stretch(self, scoring: AnswerScoring, start: int, stop: int) -> None:
        found = []
        known: dict[int, tuple[dict[str, Any], Any]] = {}
        for side, prompt, answer in self._unscored(scoring, start, stop):
            if prompt not in known:
                known.update(self._rows_of(start, stop))
            row, reference = known[prompt]
            score = scoring.score(answer, reference, row)
            found.append((prompt, side, scoring.name, score))
            self._look_up("")
        self._save(scoring, found)

    def _unscored(self, scoring: Scoring, start: int, stop: int) -> list[tuple[int, int, Answer]]:
        """Return side, prompt and answer of what is done and has no score of this kind."""
        has = self._has[scoring.name]
        prompts = self._answers.order[start:stop]
        return [
            (side, prompt, answer)
            for side in range(len(self._definition.sides))
            if not has[side, prompts].all()
            for prompt, answer in self._answers.ended(side, start, stop).items()
            if answer.status == TaskStatus.DONE.value and not has[side, prompt]
        ]

    def _rows_of(self, start: int, stop: int) -> dict[int, tuple[dict[str, Any], Any]]:
        """Return values and references of the prompts in these places of the order."""
        names = column_names(self._definition)
        return {
            prompt: (row_of(names, data), reference)
            for prompt, (data, reference) in self._raw_rows(start, stop).items()
        }

    def _raw_rows(self, start: int, stop: int) -> dict[int, tuple[str, Any]]:
        prompts = [int(number) for number in self._answers.order[start:stop]]
        first, last = min(prompts), max(prompts) + 1
        if last - first > 4 * len(prompts):  # they were drawn from all over the table
            return {
                number: self._records.prompts(self._record, number, number + 1)[0]
                for number in prompts
            }
        found = self._records.prompts(self._record, first, last)
        return {number: found[number - first] for number in prompts}

    def _save(self, scoring: Scoring, found: Sequence[tuple[int, int, str, Score]]) -> None:
        if not found:
            return
        self._records.save_scores(self._record.id, found)
        has, values = self._has[scoring.name], self._values[scoring.name]
        for prompt, side, _, score in found:
            has[side, prompt] = True
            if score.value is not None:
                values[side, prompt] = score.value

    def _carefully(self, scoring: Scoring, carry_out: Callable[[], None]) -> None:
        """Carry a scoring out; if it cannot be, say so and go on."""
        try:
            carry_out()
        except StoreError:
            raise
        except GgufWidgetsError as error:
            self._look_up("")  # so that a stop stays one
            self._definition.score_errors[scoring.name] = error.message
        else:
            self._definition.score_errors.pop(scoring.name, None)
        self._keep()

    # -- by vectors -------------------------------------------------------------------------------

    def _similar(self, scoring: Similarity, start: int, stop: int) -> None:
        model = None
        for first in range(start, stop, _STRETCH):
            last = min(first + _STRETCH, stop)
            waiting = self._unscored(scoring, first, last)
            if not waiting:
                continue
            self._look_up(f'Comparing the answers with what is right ("{scoring.name}")')
            if model is None:
                model = self._memory.named(scoring.model)
            rows = self._rows_of(first, last)
            items = [(answer.text or "", rows[prompt][1]) for _, prompt, answer in waiting]
            scores = scoring.score_all(model, items)
            self._save(
                scoring,
                [
                    (prompt, side, scoring.name, score)
                    for (side, prompt, _), score in zip(waiting, scores, strict=True)
                ],
            )

    # -- by a judge -------------------------------------------------------------------------------

    def _judge(self, scoring: Judge) -> None:
        runs = self._definition.judge_runs.setdefault(scoring.name, [])
        if runs:
            self._read_judge(scoring, runs[-1])
        while duels := self._duels(scoring):
            asked = [duel for duel in duels if duel.text_a != duel.text_b]
            same = [
                Verdict(duel.prompt, duel.a, duel.b, 0.5, None, "")
                for duel in duels
                if duel.text_a == duel.text_b
            ]
            if not asked:
                self._save_verdicts(scoring, same)
                continue
            model = self._memory.named(scoring.model)
            made = BatchProcessor(model, store=self._records.store, manager=self._manager).prepare(
                scoring.table(asked),
                scoring.template(with_reference=self._definition.has_references),
                schema=list(CHOICES),
                syntax="format",
                missing="empty",
                title=f"Judging: {self._record.title}"[:60],
                **scoring.sampling,
            )
            runs.append(made.id)
            self._keep()
            self._read_judge(scoring, made.id, made, same)
        self._tell_agreement(scoring)

    def _read_judge(
        self,
        scoring: Judge,
        run_id: str,
        run: BatchRun | None = None,
        same: Sequence[Verdict] = (),
    ) -> None:
        """Carry a judge's run out, as far as it is not, and keep what came of it."""
        try:
            run = run or BatchRun(run_id, self._records.store, self._manager)
        except InvalidValueError:  # it was removed; what it had not told is asked anew
            return
        if run.status is not RunStatus.FINISHED:
            run.use_model(self._memory.named(scoring.model))
            run.start()
            try:
                while True:
                    try:
                        run.wait(_SLICE_S)
                        break
                    except TimeoutError:
                        self._look_up(f'The judge "{scoring.name}" compares the answers')
            except BaseException:
                run.stop()
                raise
        self._save_verdicts(scoring, [*_verdicts(self._records, run_id), *same])

    def _save_verdicts(self, scoring: Judge, verdicts: Sequence[Verdict]) -> None:
        scores = scores_of(verdicts, len(self._definition.sides))
        self._save(
            scoring,
            [
                (prompt, side, scoring.name, score)
                for (prompt, side), score in scores.items()
                if prompt < self._record.num_prompts and side < len(self._definition.sides)
            ],
        )

    def _duels(self, scoring: Judge) -> list[Duel]:
        """Return what is still to be judged, of the next few thousand prompts."""
        has = self._has[scoring.name]
        texts = PromptTexts(self._definition)
        found: list[Duel] = []
        num_prompts = 0
        num = self._record.num_prompts
        for start in range(0, num, _STRETCH):
            stop = min(start + _STRETCH, num)
            answers = [
                {
                    prompt: one
                    for prompt, one in self._answers.ended(side, start, stop).items()
                    if one.status == TaskStatus.DONE.value
                }
                for side in range(len(self._definition.sides))
            ]
            rows = self._raw_rows(start, stop)
            for prompt, (data, reference) in rows.items():
                able = [side for side, one in enumerate(answers) if prompt in one]
                if len(able) < 2 or has[able, prompt].all():
                    continue
                text = texts.of(data)
                found += [
                    Duel(
                        prompt,
                        a,
                        b,
                        text,
                        answers[a][prompt].text or "",
                        answers[b][prompt].text or "",
                        reference,
                    )
                    for a, b in itertools.combinations(able, 2)
                ]
                num_prompts += 1
            self._look_up("")
            if num_prompts >= _DUELS_AT_ONCE:
                break
        return found

    def _tell_agreement(self, scoring: Judge) -> None:
        agreed = [
            said
            for _, _, _, _, why in self._records.scores(self._record.id, name=scoring.name)
            for said in (why.get("agreed") or {}).values()
        ]
        if not agreed:
            return
        share = sum(agreed) / len(agreed)
        text = (
            f'The judge "{scoring.name}" preferred the same answer in both orders for {share:.0%} '
            "of the pairs; the others count as draws."
        )
        if share < _AGREES_BY_CHANCE:
            text += " That is little: where an answer stands decides much for it. Take a stronger"
            text += " model as the judge."
        beginning = text.partition(" preferred")[0]
        self._definition.notes = [
            note for note in self._definition.notes if not note.startswith(beginning)
        ]
        self._definition.note(text)
        self._keep()


def _verdicts(records: Records, run_id: str) -> list[Verdict]:
    """Read what a judge said of each pair, from its run: two rows, one for each order."""
    tasks = RunTasks(records.store, run_id)
    found: list[Verdict] = []
    start = 0
    while rows := tasks.rows(start, start + 2 * _STRETCH):
        ended = tasks.tasks(start, start + 2 * _STRETCH)
        for i in range(0, len(rows) - 1, 2):
            *_, prompt, a, b = json.loads(rows[i])
            one, other = ended.get(start + i), ended.get(start + i + 1)
            problem = next(
                (t.outcome.error["message"] for t in (one, other) if t and t.outcome.error), ""
            )
            found.append(
                verdict_of(
                    prompt,
                    a,
                    b,
                    as_said(one.values) if one else None,
                    as_said(other.values) if other else None,
                    problem,
                )
            )
        start += len(rows)
    return found


def column_names(definition: Definition) -> list[str]:
    """Return the names of the table's columns, without the index."""
    return [str(decoded(c["name"])) for c in definition.columns if not c.get("index")]


class PromptTexts:
    """What a person would call each prompt: the user's last message, as the first side is asked.

    Parameters
    ----------
    definition : Definition
    """

    def __init__(self, definition: Definition) -> None:
        self._names = column_names(definition)
        self._template = definition.sides[0].prompt(definition.common).template

    def of(self, data: str) -> str:
        """Return the text for one row of the table."""
        messages = self._template.render(row_of(self._names, data))
        asked = [message["content"] for message in messages if message["role"] == "user"]
        return asked[-1] if asked else messages[-1]["content"]
