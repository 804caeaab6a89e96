"""Scoring answers in JSON, field by field.

Promises: an answer is held to the fields of its reference, whatever else it holds; one that is no
JSON has no field right; a hostile one (very long, very deep) takes a bounded time. Leaves to
others: having the model write JSON at all (``schema=``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gguf_widgets.compare.scoring import NO_REFERENCE, AnswerScoring, Score
from gguf_widgets.compare.types import Answer
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["JsonFields"]

_MAX_CHARS: Final = 1_000_000
_MAX_DEPTH: Final = 50
_MAX_FIELDS: Final = 10_000
_MAX_STARTS: Final = 20  # places where a JSON object may begin inside other text
_MISSING: Final = object()


class JsonFields(AnswerScoring):
    """Which share of the reference's fields the answer has right: 0 to 1.

    The reference is a dict, or the JSON text of one; a field inside another has a dotted name,
    ``address.city``. The answer's JSON may stand in a code block or between other words. Numbers
    are equal by value (1 and 1.0), texts with blanks at the ends left out, lists as a whole.

    Parameters
    ----------
    fields : list of str, optional
        Only these count; default: all of the reference.
    ignore_case : bool, default False
    tolerance : float, default 0
        How far a number may be off, relative to the right one.
    name : str, default "json"

    Examples
    --------
    >>> answer = Answer(text='Sure: {"name": "Ada", "age": 36.0}')
    >>> JsonFields().score(answer, {"name": "Ada", "age": 36, "city": "London"}, {}).value
    0.6666666666666666
    """

    kind = "json"
    label = "Right fields of the JSON"
    needs_reference = True

    def __init__(
        self,
        fields: Sequence[str] | None = None,
        *,
        ignore_case: bool = False,
        tolerance: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if isinstance(fields, str):
            fields = [fields]
        if fields is not None and (not fields or not all(isinstance(f, str) for f in fields)):
            raise InvalidValueError("fields= is a list of names, such as ['name', 'address.city'].")
        if not 0 <= tolerance <= 1:
            raise InvalidValueError(
                f"tolerance is {tolerance!r:.40}; it must be from 0 to 1 (0.01 is one percent)."
            )
        self.fields = list(fields) if fields is not None else None
        self.ignore_case, self.tolerance = bool(ignore_case), float(tolerance)

    def options(self) -> dict[str, Any]:
        """Return its keywords."""
        return {
            "fields": self.fields,
            "ignore_case": self.ignore_case,
            "tolerance": self.tolerance,
        }

    def check_reference(self, reference: Any) -> None:
        """Refuse a reference that is no object, or lacks all fields that count."""
        if reference is not None and not self._wanted(_object_of(reference)):
            raise InvalidValueError(
                f"The reference {reference!r:.120} has none of the fields {self.fields}: then "
                "nothing could be right or wrong.",
                fields=self.fields,
            )

    def score(self, answer: Answer, reference: Any, values: Mapping[str, Any]) -> Score:  # noqa: ARG002
        """Score an answer."""
        if reference is None:
            return NO_REFERENCE
        try:
            wanted = self._wanted(_object_of(reference))
        except InvalidValueError as error:
            return Score(None, {"note": error.message})
        if not wanted:
            return Score(None, {"note": "The reference has none of the fields that count."})
        found = _found_in(answer.text or "")
        if found is None:
            wrong = dict.fromkeys(wanted, False)
            return Score(0.0, {"note": "The answer holds no JSON object.", "fields": wrong})
        try:
            has = _flat(found)
        except InvalidValueError as error:
            return Score(0.0, {"note": error.message, "fields": dict.fromkeys(wanted, False)})
        right = {name: self._same(has.get(name, _MISSING), one) for name, one in wanted.items()}
        return Score(sum(right.values()) / len(right), {"fields": right})

    def _wanted(self, reference: dict[str, Any]) -> dict[str, Any]:
        flat = _flat(reference)
        if self.fields is None:
            return flat
        return {name: flat[name] for name in self.fields if name in flat}

    def _same(self, has: Any, wanted: Any) -> bool:
        if has is _MISSING:
            return False
        if isinstance(wanted, bool) or isinstance(has, bool) or wanted is None or has is None:
            return has is wanted
        if isinstance(wanted, int | float) and isinstance(has, int | float):
            return _close(has, wanted, self.tolerance)
        if isinstance(wanted, str) and isinstance(has, str):
            one, other = " ".join(has.split()), " ".join(wanted.split())
            return one.casefold() == other.casefold() if self.ignore_case else one == other
        if isinstance(wanted, list) and isinstance(has, list):
            return len(has) == len(wanted) and all(
                self._same(one, other) for one, other in zip(has, wanted, strict=True)
            )
        return bool(has == wanted)


def _close(has: float, wanted: float, tolerance: float) -> bool:
    try:
        return has == wanted or math.isclose(has, wanted, rel_tol=tolerance, abs_tol=0.0)
    except OverflowError:  # a whole number with more than 300 digits
        return False


def _object_of(reference: Any) -> dict[str, Any]:
    """Return a reference as a dict."""
    found = reference
    if isinstance(reference, str):
        found = _read(reference)
    if not isinstance(found, Mapping):
        raise InvalidValueError(
            f"A reference for fields of JSON is a dict, or JSON text of one, not {reference!r:.80}."
        )
    return {str(name): value for name, value in found.items()}


def _found_in(text: str) -> dict[str, Any] | None:
    """Return the first JSON object that stands in a text; the text as a whole comes first."""
    if len(text) > _MAX_CHARS:
        return None
    whole = _read(text)
    if isinstance(whole, dict):
        return whole
    decoder = json.JSONDecoder()
    start = -1
    for _ in range(_MAX_STARTS):
        start = text.find("{", start + 1)
        if start < 0:
            return None
        try:
            found, _end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an object, those inside others by dotted names.

    Raises
    ------
    InvalidValueError
        There are too many, or they are nested too deep.
    """
    flat: dict[str, Any] = {}
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    while waiting:
        name, one, depth = waiting.pop()
        if isinstance(one, Mapping) and (one or not name):
            if depth > _MAX_DEPTH:
                raise InvalidValueError(f"The JSON is nested more than {_MAX_DEPTH} times.")
            inner = [
                (f"{name}.{key}" if name else str(key), item, depth + 1)
                for key, item in one.items()
            ]
            waiting += reversed(inner)
        else:
            flat[name] = one
        if len(flat) + len(waiting) > _MAX_FIELDS:
            raise InvalidValueError(f"The JSON has more than {_MAX_FIELDS:,} fields.")
    return flat
