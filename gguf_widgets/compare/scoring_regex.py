"""Scoring by a pattern (a regular expression), whatever the pattern and the answer are.

Promises: one answer takes `pattern_process.LIMIT_S` at most, and after a few that took longer no
more are tried; each says so. Leaves to others: the searching (`pattern_process`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gguf_widgets.compare.pattern_process import PatternProcess, PatternTimeoutError
from gguf_widgets.compare.scoring import (
    NO_REFERENCE,
    AnswerScoring,
    Score,
    alternatives,
    text_of,
)
from gguf_widgets.compare.types import Answer
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["Regex"]

_MAX_PATTERN: Final = 10_000
_MOST_SLOW: Final = 3  # answers that took too long; then it is the pattern
_FLAGS: Final = re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.ASCII


class Regex(AnswerScoring):
    r"""Whether a pattern is found in the answer: 1 or 0.

    Parameters
    ----------
    pattern : str or re.Pattern, optional
        Of Python's `re`. If it has a group and there are references, what the first group catches
        must be the reference, blanks at the ends and capital letters aside. Without a pattern the
        reference of each prompt is the pattern.
    ignore_case : bool, default False
    whole : bool, default False
        The answer as a whole must match.
    name : str, default "regex"

    Examples
    --------
    >>> scoring = Regex(r"answer is (\w+)")
    >>> with scoring.ready():
    ...     scoring.score(Answer(text="The answer is Paris."), "Paris", {}).value
    1.0
    """

    kind = "regex"

    def __init__(
        self,
        pattern: str | re.Pattern[str] | None = None,
        *,
        ignore_case: bool = False,
        whole: bool = False,
        flags: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if isinstance(pattern, re.Pattern):
            flags |= pattern.flags
            pattern = pattern.pattern
        if pattern is not None:
            _check(pattern)
        self.pattern = pattern
        self.flags = int((int(flags) & _FLAGS) | (re.IGNORECASE if ignore_case else 0))
        self.whole = bool(whole)
        self.needs_reference = pattern is None
        self.label = "The pattern is found"
        self._process: PatternProcess | None = None
        self._num_slow = 0

    def options(self) -> dict[str, Any]:
        """Return its keywords."""
        return {"pattern": self.pattern, "flags": self.flags, "whole": self.whole}

    def check_reference(self, reference: Any) -> None:
        """Refuse a reference that is no pattern, where it is to be one."""
        if self.pattern is None and reference is not None:
            for one in alternatives(reference):
                _check(text_of(one))

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Keep one process for all answers."""
        with PatternProcess() as self._process:
            yield
        self._process = None

    def score(self, answer: Answer, reference: Any, values: Mapping[str, Any]) -> Score:  # noqa: ARG002
        """Score an answer."""
        if self.pattern is None and reference is None:
            return NO_REFERENCE
        if self._num_slow >= _MOST_SLOW:
            return Score(
                None,
                {
                    "note": "It was not looked for: in other answers this pattern took too long. "
                    "Patterns with repeats inside repeats, such as (a+)+, are slow."
                },
            )
        if self._process is None:
            with self.ready():
                return self._looked(answer.text or "", reference)
        return self._looked(answer.text or "", reference)

    def _looked(self, text: str, reference: Any) -> Score:
        patterns = (
            [self.pattern]
            if self.pattern is not None
            else [text_of(one) for one in alternatives(reference)]
        )
        process = self._process
        assert process is not None  # noqa: S101 - `ready` made it
        try:
            for pattern in patterns:
                found = process.look(pattern, text, flags=self.flags, whole=self.whole)
                if found["found"] and self._is_right(found, reference):
                    return Score(1.0, _caught(found))
                if found["found"]:
                    return Score(0.0, _caught(found))
        except PatternTimeoutError as error:
            self._num_slow += 1
            return Score(None, {"note": error.message})
        except InvalidValueError as error:
            return Score(None, {"note": error.message})
        return Score(0.0)

    def _is_right(self, found: dict[str, Any], reference: Any) -> bool:
        if self.pattern is None or reference is None or not found["groups"]:
            return True
        caught = " ".join((found["caught"] or "").split()).casefold()
        return any(
            caught == " ".join(text_of(one).split()).casefold() for one in alternatives(reference)
        )


def _caught(found: dict[str, Any]) -> dict[str, Any]:
    return {} if found["caught"] is None else {"caught": str(found["caught"])[:500]}


def _check(pattern: Any) -> None:
    if not isinstance(pattern, str):
        raise InvalidValueError(
            f"A pattern is a text or re.compile(...) of one, not a {type(pattern).__name__}."
        )
    if len(pattern) > _MAX_PATTERN:
        raise InvalidValueError(
            f"The pattern has {len(pattern):,} characters; it can have {_MAX_PATTERN:,}.",
            limit=_MAX_PATTERN,
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidValueError(
            f"The pattern {pattern!r:.120} cannot be read: {error}.", pattern=pattern[:200]
        ) from error
