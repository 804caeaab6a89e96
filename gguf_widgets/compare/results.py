"""What came of a comparison: figures of each side, differences between them, and tables.

Promises: differences are taken prompt by prompt, over those that both sides have a score for, and
say how many were left out; intervals are as `statistics` and `sequential` describe. Leaves to
others: the answers (`answers`), scores (`records`), words (`verdicts`).
"""

from __future__ import annotations

import itertools
import statistics as stdlib_statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.batch.table_rows import frame_of, row_of
from gguf_widgets.compare.answers import Answers, with_scores
from gguf_widgets.compare.definition import Definition
from gguf_widgets.compare.judge import Judge
from gguf_widgets.compare.records import Record, Records
from gguf_widgets.compare.scorer import PromptTexts, column_names
from gguf_widgets.compare.scoring import Scoring
from gguf_widgets.compare.sequential import sequential_interval
from gguf_widgets.compare.statistics import CONFIDENCE, difference_interval, mean_interval
from gguf_widgets.compare.types import (
    Answer,
    Difference,
    Interval,
    Row,
    SideState,
    SideSummary,
)
from gguf_widgets.compare.verdicts import better_of, difference_words, ends_text, figure_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Results"]

_STRETCH: Final = 2000


class Results:
    """The results of one comparison, as the store has them now.

    Parameters
    ----------
    records : Records
    record : Record
    definition : Definition
    answers : Answers
    """

    def __init__(
        self, records: Records, record: Record, definition: Definition, answers: Answers
    ) -> None:
        self._records, self._record = records, record
        self._definition, self._answers = definition, answers

    # -- rows -------------------------------------------------------------------------------------

    def rows(self, start: int, stop: int) -> list[Row]:
        """Return a stretch of prompts with their answers and scores."""
        first, last = max(0, start), min(stop, self._record.num_prompts)
        if first >= last:
            return []
        kept = self._records.prompts(self._record, first, last)
        numbers = range(first, last)
        answers = [
            self._answers.of_prompts(side, numbers) for side in range(len(self._definition.sides))
        ]
        scores: dict[tuple[int, int], dict[str, float | None]] = {}
        reasons: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
        for prompt, side, name, value, why in self._records.scores(self._record.id, first, last):
            scores.setdefault((prompt, side), {})[name] = value
            if why:
                reasons.setdefault((prompt, side), {})[name] = why
        names, texts = column_names(self._definition), PromptTexts(self._definition)
        found = []
        for number, (data, reference) in zip(numbers, kept, strict=True):
            own = []
            for side, given in enumerate(answers):
                answer = given.get(number, Answer())
                key = (number, side)
                if answer.status == "done":
                    answer = with_scores(answer, scores.get(key, {}), reasons.get(key, {}))
                own.append(answer)
            found.append(
                Row(
                    number=number,
                    prompt=texts.of(data),
                    values=row_of(names, data),
                    reference=reference,
                    answers=own,
                )
            )
        return found

    # -- figures ----------------------------------------------------------------------------------

    def values(self, name: str) -> NDArray[np.float64]:
        """Return the scores of a name by side and prompt; NaN where there is none."""
        import numpy as np

        found = np.full((len(self._definition.sides), self._record.num_prompts), np.nan)
        for prompt, side, value in self._records.score_values(self._record.id, name):
            if value is not None and side < found.shape[0] and prompt < found.shape[1]:
                found[side, prompt] = value
        return found

    def summaries(self, states: Sequence[SideState]) -> list[SideSummary]:
        """Return what came of each side."""
        import numpy as np

        scores: list[dict[str, Interval]] = [{} for _ in states]
        for scoring in self._definition.scorings:
            values = self.values(scoring.name)
            for number in range(len(states)):
                own = values[number][~np.isnan(values[number])]
                scores[number][scoring.name] = mean_interval(own, bounds=scoring.bounds)
        return [self._summary(state, own) for state, own in zip(states, scores, strict=True)]

    def _summary(self, state: SideState, scores: dict[str, Interval]) -> SideSummary:
        tokens, first, total, speeds = [], [], [], []
        num_cut_off = 0
        num = self._record.num_prompts
        for start in range(0, num, _STRETCH):
            stop = min(start + _STRETCH, num)
            for answer in self._answers.ended(state.number, start, stop).values():
                if answer.status != "done":
                    continue
                num_cut_off += answer.finish_reason == "length"
                tokens.append(float(answer.num_completion_tokens or 0))
                first += [] if answer.ttft_s is None else [answer.ttft_s]
                total += [] if answer.total_s is None else [answer.total_s]
                speeds += [] if answer.decode_tok_per_s is None else [answer.decode_tok_per_s]
        counts = state.counts
        return SideSummary(
            state=state,
            num_done=counts.done if counts else 0,
            num_failed=(counts.failed + counts.skipped) if counts else 0,
            num_waiting=counts.waiting if counts else num,
            num_cut_off=num_cut_off,
            scores=scores,
            tokens=mean_interval(tokens),
            ttft_s=_median(first),
            total_s=_median(total),
            decode_tok_per_s=_median(speeds),
        )

    def difference(
        self, a: int, b: int, name: str, *, confidence: float = CONFIDENCE
    ) -> Difference:
        """Return how far apart two sides are in a score."""
        import numpy as np

        scoring = self._definition.scoring(name)
        one, other = self._pairwise(scoring, a, b)
        has = ~np.isnan(one) & ~np.isnan(other)
        asked = self._asked(a) | self._asked(b)
        num_left_out = int(np.count_nonzero(asked & ~has))
        # In the order in which they were asked: it is that order the sequential interval needs.
        places = self._answers.order[has[self._answers.order]]
        differences = one[places] - other[places]
        bounds = None
        if scoring.bounds is not None:
            width = scoring.bounds[1] - scoring.bounds[0]
            bounds = (-width, width)
        if self._definition.stop_early == name and bounds is not None and differences.size:
            sides = [n for n, side in enumerate(self._definition.sides) if side.error is None]
            num_pairs = max(1, len(sides) * (len(sides) - 1) // 2)
            found = sequential_interval(
                differences, bounds=bounds, confidence=1 - (1 - confidence) / num_pairs
            )
        else:
            found = difference_interval(differences, bounds=bounds, confidence=confidence)
        mean_a = float(one[has].mean()) if found.num else None
        mean_b = float(other[has].mean()) if found.num else None
        is_clear = (
            found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
        )
        gain = -differences if scoring.better == "low" else differences
        labels = self._definition.sides[a].label, self._definition.sides[b].label
        return Difference(
            score=name,
            a=a,
            b=b,
            label_a=labels[0],
            label_b=labels[1],
            mean=found.mean,
            low=found.low,
            high=found.high,
            mean_a=mean_a,
            mean_b=mean_b,
            num_pairs=found.num,
            num_left_out=num_left_out,
            num_a=int(np.count_nonzero(gain > 0)),
            num_b=int(np.count_nonzero(gain < 0)),
            num_same=int(np.count_nonzero(gain == 0)),
            confidence=confidence,
            method=found.method,
            clear=is_clear,
            better=better_of(scoring, found.mean or 0.0) if is_clear else None,
            words=difference_words(
                scoring, *labels, found, mean_a, mean_b, num_left_out=num_left_out
            ),
        )

    def differences(self, name: str | None = None) -> list[Difference]:
        """Return the differences of all pairs of sides, in one score or in all."""
        names = [name] if name is not None else [one.name for one in self._definition.scorings]
        return [
            self.difference(a, b, one)
            for one in names
            for a, b in itertools.combinations(range(len(self._definition.sides)), 2)
        ]

    def _pairwise(
        self, scoring: Scoring, a: int, b: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both sides' scores by prompt; of a judge what it said of just these two."""
        import numpy as np

        if not isinstance(scoring, Judge):
            values = self.values(scoring.name)
            return values[a], values[b]
        one = np.full(self._record.num_prompts, np.nan)
        for prompt, side, _, _, why in self._records.scores(self._record.id, name=scoring.name):
            share = (why.get("against") or {}).get(str(b)) if side == a else None
            if share is not None and prompt < one.size:
                one[prompt] = share
        return one, 1 - one

    def _asked(self, side: int) -> NDArray[np.bool_]:
        """Return which prompts have ended for a side, one way or another."""
        import numpy as np

        asked = np.zeros(self._record.num_prompts, bool)
        tasks = self._answers.tasks(side)
        if tasks is not None:
            places = np.fromiter(tasks.ended(), dtype=np.int64)
            asked[self._answers.order[places[places < asked.size]]] = True
        return asked

    # -- tables -----------------------------------------------------------------------------------

    def to_frame(self) -> Any:
        """Return the person's table with the answers and scores of each side behind it."""
        import pandas as pd

        num = self._record.num_prompts
        kept = self._records.prompts(self._record, 0, num)
        table = frame_of(self._definition.columns, (data for data, _ in kept))
        new: dict[str, Any] = {}
        if self._definition.has_references and "reference" not in table.columns:
            new["reference"] = pd.Series([reference for _, reference in kept], dtype="object")
        rows = [
            row for start in range(0, num, _STRETCH) for row in self.rows(start, start + _STRETCH)
        ]
        for number, side in enumerate(self._definition.sides):
            answers = [row.answers[number] for row in rows]
            texts = [one.text for one in answers]
            new[f"{side.label}.answer"] = pd.Series(texts, dtype="string")
            for scoring in self._definition.scorings:
                values = [one.scores.get(scoring.name) for one in answers]
                new[f"{side.label}.{scoring.name}"] = pd.Series(values, dtype="Float64")
            new[f"{side.label}.tokens"] = pd.Series(
                [one.num_completion_tokens for one in answers], dtype="Int64"
            )
            new[f"{side.label}.seconds"] = pd.Series(
                [one.total_s for one in answers], dtype="Float64"
            )
            new[f"{side.label}.finish_reason"] = pd.Series(
                [one.finish_reason for one in answers], dtype="string"
            )
            new[f"{side.label}.error"] = pd.Series([one.error for one in answers], dtype="string")
        made = pd.DataFrame({name: series.array for name, series in new.items()}, index=table.index)
        clash = [name for name in made.columns if name in table.columns]
        made = made.rename(columns={name: f"{name} (compared)" for name in clash})
        return pd.concat([table, made], axis=1)

    def summary_frame(self, states: Sequence[SideState]) -> Any:
        """Return a row for each side: its scores with intervals, speed, memory."""
        import pandas as pd

        lines = []
        for one in self.summaries(states):
            state = one.state
            line: dict[str, Any] = {
                "side": state.label,
                "model": state.model,
                "status": state.status.value,
                "done": one.num_done,
                "failed": one.num_failed,
                "cut_off": one.num_cut_off,
            }
            for name, found in one.scores.items():
                line[name] = found.mean
                line[f"{name}.low"], line[f"{name}.high"] = found.low, found.high
            line |= {
                "tokens": one.tokens.mean,
                "tok_per_s": state.tok_per_s,
                "ttft_s": one.ttft_s,
                "total_s": one.total_s,
                "memory_bytes": state.memory_bytes,
                "file_bytes": state.file_bytes,
                "quantization": state.quantization,
                "error": state.error,
            }
            lines.append(line)
        frame = pd.DataFrame(lines).set_index("side").astype({"error": "string"})
        whole = ["done", "failed", "cut_off", "memory_bytes", "file_bytes"]
        frame[whole] = frame[whole].astype("Int64")
        others = [
            name
            for name in frame.columns
            if name not in {*whole, "model", "status", "quantization", "error"}
        ]
        frame[others] = frame[others].astype("Float64")
        return frame

    def interval_text(self, name: str, found: Interval) -> str:
        """Return a mean with its interval as a person reads it; "-" of nothing."""
        scoring = self._definition.scoring(name)
        if found.mean is None:
            return "-"
        text = figure_text(scoring, found.mean)
        if found.low is None or found.high is None:
            return text
        return f"{text} ({ends_text(scoring, found.low, found.high)})"


def _median(values: Sequence[float]) -> float | None:
    return stdlib_statistics.median(values) if values else None
