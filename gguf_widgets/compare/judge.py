"""Scoring by a judge: a model that says which of two answers is better, asked in both orders.

Promises: each pair of answers is shown in both orders, and only a judge that prefers the same
answer both times counts; else it is a draw, so that a preference for whatever stands first (which
models have) decides nothing; how often it agreed with itself is told. What is asked is a batch run
of its own: it is resumed, and nothing is asked twice. Leaves to others: carrying it out
(`carrying`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from gguf_widgets.batch.table_rows import Table
from gguf_widgets.batch.template import Template
from gguf_widgets.compare.scoring import Score, Scoring, alternatives, text_of
from gguf_widgets.compare.scoring_similarity import checked_model, model_record
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.model import Model
from gguf_widgets.core.settings import SamplingSettings

__all__ = ["CHOICES", "Duel", "Judge", "Verdict"]

CHOICES: Final = ("first", "second", "same")
_COLUMNS: Final = ("prompt", "first", "second", "reference")

_QUESTION: Final = """\
Here is a request and two answers to it. Say which answer is better: more correct, more helpful, \
and closer to what was asked for. How long an answer is does not matter by itself.

Request:
{prompt}

First answer:
{first}

Second answer:
{second}

Which answer is better: first, second, or same?"""

_WITH_REFERENCE: Final = _QUESTION.replace(
    "First answer:", "The right answer, for you alone:\n{reference}\n\nFirst answer:"
)


class Duel(NamedTuple):
    """Two answers to one prompt, for the judge; `a` and `b` are sides."""

    prompt: int
    a: int
    b: int
    prompt_text: str
    text_a: str
    text_b: str
    reference: Any


class Verdict(NamedTuple):
    """What came of a duel: a's share of the win (1, 0.5, 0; None: it could not be told)."""

    prompt: int
    a: int
    b: int
    share_a: float | None
    agreed: bool | None
    note: str = ""


class Judge(Scoring):
    """A model that judges.

    The score of a side for a prompt is the share of the other sides that it beat, a draw counting
    half.

    Parameters
    ----------
    model : Model, str or path-like
        Best one that is clearly stronger than the sides, and none of them: models like their own.
    question : str, optional
        What the judge is asked, with ``{prompt}``, ``{first}``, ``{second}`` and, if there are
        references, ``{reference}`` in it. Its answer is one of "first", "second", "same".
    name : str, default "judge"
    **sampling
        Fields of `SamplingSettings`; the temperature is 0 unless told.
    """

    kind = "judge"
    label = "Preferred by the judge"
    ahead = "is preferred by the judge to"

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        *,
        question: str | None = None,
        name: str | None = None,
        **sampling: Any,
    ) -> None:
        super().__init__(name)
        self.model: Model | str | Path = checked_model(model, "a judge")
        self.question, self.sampling = question, dict(sampling)
        if question is not None:
            template = Template.parse(question, "format")
            template.check(_COLUMNS)
            if not {"first", "second"} <= set(template.columns):
                raise InvalidValueError(
                    "The judge's question must show both answers: write {first} and {second}."
                )
            self.needs_reference = "reference" in template.columns
        for known in ("schema", "grammar", "priority"):
            if known in sampling:
                raise InvalidValueError(
                    f"{known}= cannot be set for a judge: its answer is one of {list(CHOICES)}."
                )
        SamplingSettings.from_keywords(**sampling)

    def options(self) -> dict[str, Any]:
        """Return its keywords."""
        return {
            "model": model_record(self.model),
            "question": self.question,
            **self.sampling,
        }

    def template(self, *, with_reference: bool) -> str:
        """Return the question."""
        if self.question is not None:
            return self.question
        return _WITH_REFERENCE if with_reference else _QUESTION

    def table(self, duels: Sequence[Duel]) -> Table:
        """Return what is asked, each duel in both orders, as a run's table."""
        columns: list[dict[str, Any]] = [
            *({"name": name, "dtype": "object"} for name in _COLUMNS),
            {"name": "prompt_number", "dtype": "int64", "index": True},
            {"name": "side_first", "dtype": "int64", "index": True},
            {"name": "side_second", "dtype": "int64", "index": True},
        ]
        rows = []
        for duel in duels:
            right = _shown(duel.reference)
            rows += [
                (duel.prompt_text, duel.text_a, duel.text_b, right, duel.prompt, duel.a, duel.b),
                (duel.prompt_text, duel.text_b, duel.text_a, right, duel.prompt, duel.b, duel.a),
            ]
        return Table(columns, rows, len(rows))


def _shown(reference: Any) -> str:
    if reference is None:
        return "(not known)"
    return " or: ".join(text_of(one) for one in alternatives(reference))


def verdict_of(
    prompt: int, a: int, b: int, said_ab: str | None, said_ba: str | None, problem: str
) -> Verdict:
    """Return what two asked judges say together: shown as a, b and as b, a.

    Parameters
    ----------
    said_ab, said_ba : {"first", "second", "same"} or None
        None: it could not be told.
    problem : str
        Why.
    """
    if said_ab is None or said_ba is None:
        return Verdict(prompt, a, b, None, None, problem or "The judge gave no answer.")
    first = {"first": 1.0, "second": 0.0, "same": 0.5}[said_ab]
    second = {"first": 0.0, "second": 1.0, "same": 0.5}[said_ba]
    agreed = first == second
    note = "" if agreed else "The judge said something else in the other order, so it is a draw."
    return Verdict(prompt, a, b, first if agreed else 0.5, agreed, note)


def scores_of(verdicts: Sequence[Verdict], num_sides: int) -> dict[tuple[int, int], Score]:
    """Return the score of each (prompt, side): the share of the others that it beat."""
    against: dict[tuple[int, int], dict[str, float]] = {}
    why: dict[tuple[int, int], dict[str, Any]] = {}
    for one in verdicts:
        for side, other, share in (
            (one.a, one.b, one.share_a),
            (one.b, one.a, None if one.share_a is None else 1 - one.share_a),
        ):
            key = (one.prompt, side)
            told = why.setdefault(key, {"agreed": {}, "notes": []})
            against.setdefault(key, {})
            if one.agreed is not None:
                told["agreed"][str(other)] = one.agreed
            if share is not None:
                against[key][str(other)] = share
            elif one.note not in told["notes"]:
                told["notes"].append(one.note)
    found = {}
    for key, shares in against.items():
        told = why[key]
        facts: dict[str, Any] = {"against": shares, "agreed": told["agreed"]}
        if told["notes"]:
            facts["note"] = " ".join(told["notes"])
        value = sum(shares.values()) / len(shares) if shares else None
        found[key] = Score(value, facts)
    assert num_sides >= 2 or not found  # noqa: S101 - a judge compares
    return found


def as_said(values: Mapping[str, Any] | None) -> str | None:
    """Return what the judge said, from the values of a task."""
    said = next(iter((values or {}).values()), None)
    return said if said in CHOICES else None
