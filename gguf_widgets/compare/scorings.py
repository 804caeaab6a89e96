"""The scorings there are: by name, from what a person gives, and from what a file holds.

Promises: everything that can be known before a model is asked is refused here, in words: an unknown
name, two of one name, references that are missing or of another form. Leaves to others: the
scorings themselves (``scoring*``, `judge`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gguf_widgets.compare.judge import Judge
from gguf_widgets.compare.scoring import ExactMatch, Length, Own, Scoring, Time
from gguf_widgets.compare.scoring_json import JsonFields
from gguf_widgets.compare.scoring_regex import Regex
from gguf_widgets.compare.scoring_similarity import Similarity
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["check_references", "parse_scorings", "scoring_of", "with_functions"]

MAX_SCORES: Final = 20
_BY_NAME: Final[dict[str, Callable[[], Scoring]]] = {
    "exact": ExactMatch,
    "regex": Regex,
    "json": JsonFields,
    "length": Length,
    "words": lambda: Length(unit="words"),
    "characters": lambda: Length(unit="characters"),
    "time": Time,
}
_WITH_MODEL: Final = {"similarity": "Similarity", "judge": "Judge"}
_KINDS: Final[dict[str, Callable[..., Scoring]]] = {
    "exact": ExactMatch,
    "regex": Regex,
    "json": JsonFields,
    "similarity": Similarity,
    "judge": Judge,
    "length": Length,
    "time": Time,
}


def parse_scorings(given: Any, *, has_references: bool) -> list[Scoring]:
    """Return the scorings that a person names.

    Parameters
    ----------
    given : str, Scoring, callable, or sequence of these
        Nothing: an exact match where there are references, and the length.
    has_references : bool

    Raises
    ------
    InvalidValueError
        One is unknown, or needs references and there are none; two have one name.
    """
    items = [given] if isinstance(given, str | Scoring) or callable(given) else list(given or ())
    found = [_one(item) for item in items]
    if not items:
        found = [*([ExactMatch()] if has_references else []), Length()]
    if len(found) > MAX_SCORES:
        raise InvalidValueError(
            f"There are {len(found)} scores; there can be {MAX_SCORES}.", limit=MAX_SCORES
        )
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidValueError(
            f'Two scores are called "{twice}". Give one another name: name="...".', name=twice
        )
    for one in found:
        if one.needs_reference and not has_references:
            raise InvalidValueError(
                f'The score "{one.name}" needs to know what is right. Give references=: a list '
                "with one for each prompt, or the name of a column of the table.",
                score=one.name,
            )
    return found


def check_references(scorings: Sequence[Scoring], references: Sequence[Any]) -> None:
    """Raise `InvalidValueError` for the first reference that a scoring cannot use."""
    for number, reference in enumerate(references, 1):
        for scoring in scorings:
            try:
                scoring.check_reference(reference)
            except InvalidValueError as error:
                raise InvalidValueError(
                    f'Reference {number:,}, for the score "{scoring.name}": {error.message}',
                    **{**error.details, "number": number, "score": scoring.name},
                ) from error


def scoring_of(data: Mapping[str, Any]) -> Scoring:
    """Make a scoring again from what its `to_dict` returned.

    Raises
    ------
    InvalidValueError
        It is none, or of a newer version of this program.
    """
    try:
        kind, name, options = data["kind"], data["name"], dict(data["options"])
        if kind == "own":
            return Own(None, name=name, **options)
        return _KINDS[kind](name=name, **options)
    except (KeyError, TypeError) as error:
        raise InvalidValueError(
            f"A score of this comparison cannot be read: {data!r:.120}. It may be from a newer "
            "version of gguf-widgets."
        ) from error


def with_functions(scorings: Sequence[Scoring], given: Any) -> list[Scoring]:
    """Return the scorings with a person's own functions put back, by their names.

    Raises
    ------
    InvalidValueError
        A function is given whose name is none of a score.
    """
    items = [given] if callable(given) or isinstance(given, Scoring) else list(given or ())
    own = {one.name: one for one in map(_one, items)}
    missing = [
        name for name, one in own.items() if not any(known.name == name for known in scorings)
    ]
    if missing:
        names = ", ".join(f'"{one.name}"' for one in scorings)
        raise InvalidValueError(
            f'This comparison has no score called "{missing[0]}"; it has {names}. More are added '
            "by add_scores().",
            name=missing[0],
        )
    return [own[one.name] if isinstance(one, Own) and one.name in own else one for one in scorings]


def _one(item: Any) -> Scoring:
    if isinstance(item, Scoring):
        return item
    if isinstance(item, str):
        made = _BY_NAME.get(item)
        if made is not None:
            return made()
        if item in _WITH_MODEL:
            name = _WITH_MODEL[item]
            raise InvalidValueError(
                f'"{item}" needs a model: write gw.compare.{name}(MODEL) in its place.', name=item
            )
        known = [*_BY_NAME, *_WITH_MODEL]
        near = difflib.get_close_matches(item, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."
        raise InvalidValueError(f"There is no score called {item!r:.60}.{hint}", name=item[:60])
    if callable(item) and not isinstance(item, type):
        return Own(item)
    raise InvalidValueError(
        f"A score is a name such as 'exact', a scoring such as gw.compare.Regex(...), or a "
        f"function, not {item!r:.80}."
    )
