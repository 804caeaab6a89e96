"""What came of a comparison, as a person asks for it: rows, figures, differences, votes.

Promises: all of it can be asked for at any time, of what there is then. Leaves to others: the
figures (`results`), votes (`voting`), where answers part (`parting`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.table_rows import row_of
from gguf_widgets.compare.kept import Kept
from gguf_widgets.compare.parting import parting
from gguf_widgets.compare.scorer import column_names
from gguf_widgets.compare.types import (
    Choice,
    Difference,
    Interval,
    Row,
    SideSummary,
    Standing,
    Vote,
)
from gguf_widgets.compare.voting import CHOICES, Pairs, standings
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.scores.divergence import Divergence

__all__ = ["ResultMethods"]


class ResultMethods(Kept):
    """What a `Comparison` can tell of its results."""

    def rows(self, start: int = 0, stop: int | None = None) -> list[Row]:
        """Return a stretch of prompts with what each side answered, and the scores."""
        return self._results().rows(start, self.num_prompts if stop is None else stop)

    def messages(self, prompt: int, side: int | str) -> list[Any]:
        """Return the messages that a side is asked for a prompt."""
        number = self._side(side)
        record, definition, _ = self._now()
        ((data, _),) = self._records.prompts(record, *self._one(prompt))
        row = row_of(column_names(definition), data)
        return definition.sides[number].prompt(definition.common).template.render(row)

    def raw_prompts(self) -> list[tuple[str, Any]]:
        """Return each row of the table as JSON, and what is right for it."""
        return self._records.prompts(self._known[0], 0, self.num_prompts)

    def run(self, side: int | str) -> BatchRun | None:
        """Return the batch run that holds a side's answers; None before it has begun."""
        run_id = self.definition.sides[self._side(side)].run_id
        if run_id is None:
            return None
        return BatchRun(run_id, self._store, self._manager)

    def to_frame(self) -> Any:
        """Return a DataFrame with a row a prompt: the table, then each side's answer and scores.

        The columns of a side are ``LABEL.answer``, ``LABEL.SCORE`` for each score,
        ``LABEL.tokens``, ``LABEL.seconds``, ``LABEL.finish_reason`` and ``LABEL.error``.
        """
        return self._results().to_frame()

    def summary(self) -> Any:
        """Return a DataFrame with a row a side.

        Each score has three columns: its mean, and ``.low`` and ``.high``, between which the true
        mean is (95%). `tok_per_s` counts all replies of a side together, over the time in which it
        was answering; `ttft_s` and `total_s` are medians; `memory_bytes` is what its process took.
        """
        return self._results().summary_frame(self.sides)

    def summaries(self) -> list[SideSummary]:
        """Return the same as plain values."""
        return self._results().summaries(self.sides)

    def difference(self, a: int | str, b: int | str, score: str | None = None) -> Difference:
        """Return how far apart two sides are, with an interval; as text, a sentence.

        Parameters
        ----------
        a, b : int or str
            Sides.
        score : str, optional
            Default: the first.
        """
        name = self.score_names[0] if score is None else score
        one, other = self._side(a), self._side(b)
        if one == other:
            raise InvalidValueError("A side does not differ from itself. Name two sides.")
        return self._results().difference(one, other, name)

    def differences(self, score: str | None = None) -> list[Difference]:
        """Return the differences of all pairs of sides, in one score or in all."""
        return self._results().differences(score)

    def interval_text(self, score: str, found: Interval) -> str:
        """Return a mean with its interval as a person reads it."""
        return self._results().interval_text(score, found)

    def divergence(
        self,
        prompt: int,
        a: int | str,
        b: int | str,
        *,
        top: int = 5,
        progress: Callable[[float, str], Any] | None = None,
    ) -> Divergence:
        """Return where two sides' answers to a prompt part, with what both thought there.

        Models that are not loaded are loaded for it. Where the sides are asked something else,
        each tells of its own answer only; in demo mode the answers are compared as text.

        Parameters
        ----------
        prompt : int
        a, b : int or str
            Sides.
        top : int, default 5
            So many of the likeliest tokens are told at each place, 1 to 100.
        progress : callable, optional
            Called with how far it is (0 to 1) and a phrase; answering False stops it.

        Raises
        ------
        InvalidValueError
            There is no such prompt or side, or no answer yet.
        """
        one, other = self._side(a), self._side(b)
        record, definition, answers = self._now()
        first, _ = self._one(prompt)
        return parting(
            self._records,
            record,
            definition,
            answers,
            self._manager,
            self._models,
            first,
            (one, other),
            top=top,
            progress=progress,
        )

    # -- votes ------------------------------------------------------------------------------------

    def pairs(self, sides: Sequence[int | str] | None = None) -> Pairs:
        """Return pairs of answers to vote on without knowing whose they are, in a drawn order.

        Parameters
        ----------
        sides : sequence, optional
            Only pairs of these; default: all.
        """
        chosen = range(len(self.labels)) if sides is None else sorted({*map(self._side, sides)})
        if len(chosen) < 2:
            raise InvalidValueError("A pair needs two different sides.")
        return Pairs(self._results(), self._records, self.id, self.num_prompts, chosen)

    def vote(self, prompt: int, a: int | str, b: int | str, choice: Choice | None) -> None:
        """Keep which of two answers is better; voting again changes it.

        Parameters
        ----------
        prompt : int
        a, b : int or str
            The sides, in the order in which they stood.
        choice : {"a", "b", "both", "neither"} or None
            `a`'s answer is better, `b`'s, both are good, none is; None takes the vote back.
        """
        one, other = self._side(a), self._side(b)
        if one == other:
            raise InvalidValueError("A vote is about two different sides.")
        if choice is not None and choice not in CHOICES:
            raise InvalidValueError(
                f"choice={choice!r:.40} is none of {', '.join(CHOICES)}, and not None.",
                value=str(choice)[:40],
            )
        first, _ = self._one(prompt)
        self._records.vote(self.id, first, one, other, choice)

    def vote_list(self) -> list[Vote]:
        """Return the votes."""
        return self._records.votes(self.id)

    def votes(self) -> Any:
        """Return the votes as a DataFrame: prompt, a, b, choice (the better side's label), at."""
        import pandas as pd

        labels = self.labels
        rows = []
        for one in self.vote_list():
            names = {"a": labels[one.a], "b": labels[one.b]}
            at = pd.Timestamp(one.at, unit="s", tz="UTC")
            rows.append((one.prompt, names["a"], names["b"], names.get(one.choice, one.choice), at))
        return pd.DataFrame(rows, columns=["prompt", "a", "b", "better", "at"])

    def standings(self) -> list[Standing]:
        """Return how the votes stand for each pair of sides, in words too."""
        return standings(self.vote_list(), self.labels)
