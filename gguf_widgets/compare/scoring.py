"""How answers are scored: what every scoring has, and those that look at one answer alone.

Promises: a scoring says everything about itself that words, intervals and early stopping need
(which direction is better, between what bounds, whether it needs a reference); what `to_dict`
returns is plain JSON and makes it again in another process, except for a person's own function; an
answer that cannot be scored has no score and a reason, and does not stop the others. Leaves to
others: patterns (`scoring_regex`), JSON (`scoring_json`), vectors (`scoring_similarity`), judges
(`judge`), which scorings there are by name (`scorings`).
"""

from __future__ import annotations

import contextlib
import math
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple

from gguf_widgets.compare.types import Answer
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text

__all__ = [
    "AnswerScoring",
    "ExactMatch",
    "Length",
    "Own",
    "Score",
    "Scoring",
    "Time",
    "alternatives",
    "text_of",
]

Better = Literal["high", "low"] | None

_MAX_NAME: Final = 60


class Score(NamedTuple):
    """What came of scoring one answer; no value: it could not be told, and `why` says why."""

    value: float | None
    why: dict[str, Any] = {}


class Scoring:
    """What every scoring has.

    Parameters
    ----------
    name : str, optional
        What it is called, in columns and on screen; default: its kind.

    Attributes
    ----------
    kind : str
        Which scoring it is.
    label : str
        In words.
    better : {"high", "low"} or None
        None: neither is better, it is just a difference.
    bounds : (float, float) or None
        The least and the greatest value there can be.
    needs_reference : bool
        Whether it cannot say anything without knowing what is right.
    unit : str
        Behind the figure; "" for scores.
    ahead : str
        What the better side (without a better direction: the one with the higher score) does, in a
        sentence between the two: "is better than".
    """

    kind: ClassVar[str] = ""
    label: str = ""
    better: Better = "high"
    bounds: tuple[float, float] | None = (0.0, 1.0)
    needs_reference: bool = False
    unit: str = ""
    ahead: str = "is better than"

    def __init__(self, name: str | None = None) -> None:
        self.name = _checked_name(self.kind if name is None else name)

    def options(self) -> dict[str, Any]:
        """Return the keywords that make it again, without its name, as JSON's own types."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types; `scorings.scoring_of` makes it again."""
        return {"kind": self.kind, "name": self.name, "options": self.options()}

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidValueError` for a reference that it cannot use."""

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in self.options().items())
        return f"{type(self).__name__}({given})"


class AnswerScoring(Scoring, ABC):
    """A scoring that looks at one answer alone."""

    @abstractmethod
    def score(self, answer: Answer, reference: Any, values: Mapping[str, Any]) -> Score:
        """Score an answer that is done.

        Parameters
        ----------
        answer : Answer
        reference : object
            What is right; None if nothing was given.
        values : mapping
            The row of the table.
        """

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Be ready to score many; what that needs is given back at the end."""
        yield


class ExactMatch(AnswerScoring):
    """Whether the answer is the reference: 1 or 0.

    Blanks at the ends do not count, nor how many there are in between.

    Parameters
    ----------
    ignore_case : bool, default False
    ignore_punctuation : bool, default False
        "Paris." is "Paris".
    within : bool, default False
        The reference need only stand somewhere in the answer.
    name : str, default "exact"

    Examples
    --------
    >>> ExactMatch(ignore_punctuation=True).score(Answer(text="Paris."), "Paris", {}).value
    1.0
    """

    kind = "exact"
    needs_reference = True

    def __init__(
        self,
        *,
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
        within: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.ignore_case, self.ignore_punctuation = bool(ignore_case), bool(ignore_punctuation)
        self.within = bool(within)
        self.label = "Right answers, word for word" if not within else "The right words are in it"

    def options(self) -> dict[str, Any]:
        """Return its keywords."""
        return {
            "ignore_case": self.ignore_case,
            "ignore_punctuation": self.ignore_punctuation,
            "within": self.within,
        }

    def score(self, answer: Answer, reference: Any, values: Mapping[str, Any]) -> Score:  # noqa: ARG002
        """Score an answer."""
        if reference is None:
            return NO_REFERENCE
        written = self._plain(answer.text or "")
        for one in alternatives(reference):
            right = self._plain(text_of(one))
            # As whole words: "no" is not in "unknown".
            if f" {right} " in f" {written} " if self.within and right else right == written:
                return Score(1.0)
        return Score(0.0)

    def _plain(self, text: str) -> str:
        if self.ignore_case:
            text = text.casefold()
        if self.ignore_punctuation or self.within:
            kept = (" " if unicodedata.category(c)[0] == "P" else c for c in text)
            text = "".join(kept)
        return " ".join(text.split())


class Length(AnswerScoring):
    """How long the answer is; neither short nor long is better.

    Parameters
    ----------
    unit : {"tokens", "words", "characters"}, default "tokens"
        Tokens are the model's own: of sides with different vocabularies compare words.
    name : str, default "length", or the unit if it is another
    """

    kind = "length"
    better = None
    bounds = None
    ahead = "writes longer answers than"

    def __init__(self, *, unit: str = "tokens", name: str | None = None) -> None:
        if unit not in ("tokens", "words", "characters"):
            raise InvalidValueError(
                f'unit={unit!r:.40} is none of "tokens", "words" and "characters".', value=str(unit)
            )
        super().__init__(name if name is not None or unit == "tokens" else unit)
        self.unit = unit
        self.label = f"Length in {unit}"

    def options(self) -> dict[str, Any]:
        """Return its keywords."""
        return {"unit": self.unit}

    def score(self, answer: Answer, reference: Any, values: Mapping[str, Any]) -> Score:  # noqa: ARG002
        """Measure an answer."""
        if self.unit == "tokens":
            number = answer.num_completion_tokens
            return Score(None if number is None else float(number))
        text = answer.text or ""
        return Score(float(len(text.split()) if self.unit == "words" else len(text)))


class Time(AnswerScoring):
    """How long the model was at the answer, in seconds, without the time that it waited its turn.

    Answers are computed several side by side, so this is not the time that one alone would take.
    """

    kind = "time"
    label = "Time for an answer"
    better = "low"
    bounds = None
    unit = "s"
    ahead = "is quicker than"

    def score(self, answer: Answer, reference: Any, values: Mapping[str, Any]) -> Score:  # noqa: ARG002
        """Measure an answer."""
        if answer.total_s is None:
            return Score(None, {"note": "It is the answer to an equal prompt, and took no time."})
        return Score(answer.total_s)


class Own(AnswerScoring):
    """A function of your own.

    Parameters
    ----------
    function : callable
        Called with the answer's text, the reference (None if there is none) and the row as a dict;
        returns a number, True or False, or None where it cannot tell. What it raises is the
        reason of that answer. It is called in the comparison's thread.
    name : str, optional
        Default: the function's own.
    better : {"high", "low"} or None, default "high"
    bounds : (float, float), optional
        The least and greatest number that it returns, if that is known: needed to stop early by
        more than "which is better".
    """

    kind = "own"

    def __init__(
        self,
        function: Callable[[str, Any, dict[str, Any]], Any] | None,
        *,
        name: str | None = None,
        better: Better = "high",
        bounds: Sequence[float] | None = None,
    ) -> None:
        if function is not None and not callable(function):
            raise InvalidValueError(
                f"A scoring of your own is a function, not a {type(function).__name__}."
            )
        if better not in ("high", "low", None):
            raise InvalidValueError(f'better={better!r:.40} is not "high", "low" or None.')
        super().__init__(name if name is not None else _name_of(function))
        self.function = function
        self.better, self.bounds = better, _checked_bounds(bounds)
        if better is None:
            self.ahead = "has a higher score than"
        self.label = self.name

    def options(self) -> dict[str, Any]:
        """Return its keywords without the function, which no file can hold."""
        return {"better": self.better, "bounds": list(self.bounds) if self.bounds else None}

    def score(self, answer: Answer, reference: Any, values: Mapping[str, Any]) -> Score:
        """Call the function."""
        if self.function is None:
            return Score(
                None,
                {
                    "note": f'The function "{self.name}" was one of an earlier session. Give it '
                    "again: resume_comparison(..., scores=[function])."
                },
            )
        try:
            found = self.function(answer.text or "", reference, dict(values))
            if found is None:
                return Score(None, {"note": "The function returned None."})
            value = float(found)
        except Exception as error:  # noqa: BLE001 - it is a person's own, and the reason is shown
            return Score(None, {"note": f"{type(error).__name__}: {plain_text(str(error), 200)}"})
        if not math.isfinite(value):
            return Score(None, {"note": f"The function returned {value}, which is no number."})
        if self.bounds and not self.bounds[0] <= value <= self.bounds[1]:
            low, high = self.bounds
            return Score(
                None,
                {"note": f"The function returned {value:g}; its bounds are {low:g} to {high:g}."},
            )
        return Score(value)


NO_REFERENCE: Final = Score(None, {"note": "Nothing says what is right here."})


def alternatives(reference: Any) -> list[Any]:
    """Return the right answers: those of a list, or the one."""
    return list(reference) if isinstance(reference, list | tuple) else [reference]


def text_of(value: Any) -> str:
    """Return a reference as a person would write it: 42.0 is "42"."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _name_of(function: Any) -> str:
    name = str(getattr(function, "__name__", "own"))
    return "own" if name == "<lambda>" else name


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME:
        raise InvalidValueError(
            f"A score's name is a text of 1 to {_MAX_NAME} characters, not {name!r:.80}.",
            limit=_MAX_NAME,
        )
    return plain_text(name.strip(), _MAX_NAME)


def _checked_bounds(bounds: Sequence[float] | None) -> tuple[float, float] | None:
    if bounds is None:
        return None
    try:
        low, high = (float(value) for value in bounds)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise InvalidValueError(
            f"bounds={bounds!r:.60} must be the least and the greatest value, such as (0, 1)."
        )
    return low, high
