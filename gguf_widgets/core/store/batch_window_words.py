"""Looking for words in a run's rows and replies, the same in SQLite and in Python.

Promises: a word is found wherever it is part of a text, whether in large or small letters (letters
that are each other's large and small form; "ß" and "SS" are not). What SQLite finds with these
patterns is never too little; where it may be too much, in the JSON around a text, the text itself
is looked at. Leaves to others: where the texts lie (`batch_window`).
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError

__all__ = ["Word", "folded", "words_of"]

_MOST_WORDS: Final = 20
_LONGEST: Final = 200
_MOST_FORMS: Final = 4

# What stands in the JSON of a row without being part of a value that is shown.
_SYNTAX: Final = set('"\\{}[],:$')
_HEX: Final = "0123456789abcdef"
_ESCAPES: Final = "nrtu" + _HEX

# What a length of time and bytes are shown with, as `batch_window_shown` does, and kept without.
_SPAN: Final = re.compile(r"[-\d:.]+"), ("days",)
_BYTES: Final = re.compile(r"[\d.,]+"), ("picture,", "bytes", "kb", "mb", "gb")
_TOLD: Final = {"$span": _SPAN, "$bytes": _BYTES, "$image": _BYTES}


class _Fold(dict[int, str]):
    """Each letter's small form, made when it is first met."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        small = letter.lower()
        if len(small) != 1 or (small != letter and small.upper() != letter):
            small = letter
        self[code] = small
        return small


_FOLD: Final = _Fold()


def folded(text: str) -> str:
    """Return a text in small letters, of the same length."""
    return text.lower() if text.isascii() else text.translate(_FOLD)


def words_of(text: str) -> list[Word]:
    """Return the words that are looked for; each has to be in a row that is found.

    Raises
    ------
    InvalidValueError
        There are more than 20, or one has more than 200 letters.
    """
    parts = list(dict.fromkeys(folded(part) for part in text.split()))
    if len(parts) > _MOST_WORDS:
        raise InvalidValueError(
            f"You look for {len(parts)} words at once; at most {_MOST_WORDS} can be.",
            limit=_MOST_WORDS,
        )
    for part in parts:
        if len(part) > _LONGEST:
            raise InvalidValueError(
                f"One of the words has {len(part):,} letters; at most {_LONGEST} can be looked "
                "for.",
                limit=_LONGEST,
            )
    return [Word(part) for part in parts]


class Word:
    """One word, in small letters.

    Parameters
    ----------
    text : str
        Without white space.

    Attributes
    ----------
    text : str
    is_plain : bool
        Whether it can stand neither in JSON's own signs nor across them.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_plain = not _SYNTAX & set(text) and text not in "null"
        raw = json.dumps(text, ensure_ascii=False)[1:-1]
        escaped = json.dumps(text)[1:-1]
        self._raw = _like(raw) if text.isascii() else _glob(raw)
        self._escaped: str | None = None
        self._is_exact = True
        if raw != escaped:
            self._escaped, self._is_exact = _escaped(text)
        # In JSON a letter of an escape, such as the n of a new line, stands before a word as if it
        # were a part of it.
        self._within: list[str] = []
        if text[0] in _ESCAPES and raw == text:
            starts = [f"u{'_' * i}" for i in range(4)] if text[0] in _HEX else []
            self._within = [f"%\\{start}{text}%" for start in ("", *starts)]

    def in_text(self, column: str) -> tuple[str, list[str]]:
        """Return a condition of SQL that a text has the word in it, and its values; exact."""
        if self.text.isascii():
            return f"{column} LIKE ? ESCAPE '!'", [_like(self.text)]
        forms = _forms(self.text)
        return _any(column, forms) if forms else _both(column, self.text, _glob(self.text))

    def in_json(self, column: str, *, escapes: bool = True) -> tuple[str, list[str]]:
        """Return the same for JSON; it may be met without the word being in a value.

        Without `escapes` it is for JSON that has no backslash in it, and quicker.
        """
        met, values = self._in_strings(column, escapes=escapes)
        if '"' not in self.text and "\\" not in self.text:
            return met, values
        # A list is shown as JSON itself, with its quotes and its escapes; its letters beyond ASCII
        # may be kept in two ways, so that anything may stand in their place here.
        runs = [_like(run)[1:-1] for run in re.split(r"[^\x00-\x7f]+", self.text)]
        return f"({met} OR {column} LIKE ? ESCAPE '!')", [*values, f"%{'%'.join(runs)}%"]

    def _in_strings(self, column: str, *, escapes: bool) -> tuple[str, list[str]]:
        if self.text.isascii():
            return f"{column} LIKE ? ESCAPE '!'", [self._raw]
        forms = _forms(self.text)
        if forms:
            kept = [json.dumps(form, ensure_ascii=False)[1:-1] for form in forms]
            if escapes:
                kept += [json.dumps(form)[1:-1] for form in forms]
            return _any(column, list(dict.fromkeys(kept)))
        raw, values = _both(column, json.dumps(self.text, ensure_ascii=False)[1:-1], self._raw)
        if self._escaped is None or not escapes:
            return raw, values
        quick = _like_any(json.dumps(self.text)[1:-1], escapes=True)
        return (
            f"({raw} OR {column} LIKE ? ESCAPE '!' AND {column} GLOB ?)",
            [*values, quick, self._escaped],
        )

    def doubt(self, column: str, *, escapes: bool = True) -> tuple[str, list[str]]:
        """Return a condition that JSON may have met `in_json` without the word in a value.

        Without `escapes` it is for JSON that has no backslash in it. Whether a key or a mark of a
        value's kind has the word in it is left to the caller.
        """
        if not (self.is_plain and self._is_exact):
            return "1", []
        if not escapes:
            return "0", []
        if self._escaped is not None:
            return f"{column} LIKE '%\\\\%'", []
        if not self._within:
            return "0", []
        tests = " OR ".join(f"{column} LIKE ?" for _ in self._within)
        return f"({tests})", self._within

    @property
    def depends_on_escapes(self) -> bool:
        """Whether it makes a difference to `in_json` and `doubt` if there are any."""
        return self._escaped is not None or bool(self._within)

    @property
    def marks(self) -> list[str]:
        """The marks of values that may be shown with the word, and are kept without it."""
        return [
            mark
            for mark, (figures, names) in _TOLD.items()
            if figures.fullmatch(self.text) or any(self.text in name for name in names)
        ]

    def is_in(self, values: Iterable[Any]) -> bool:
        """Say whether it is in one of these values, as they are shown."""
        return any(self.text in folded(_as_text(value)) for value in values)

    def could_be_in(self, name: str) -> bool:
        """Say whether it is part of a name."""
        return self.text in folded(json.dumps(name)) or self.text in folded(name)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _like(text: str) -> str:
    return "%" + re.sub(r"([%_!])", r"!\1", text) + "%"


def _any(column: str, forms: list[str]) -> tuple[str, list[str]]:
    """Return a test for one of some texts."""
    tests = " OR ".join(f"{column} LIKE ? ESCAPE '!'" for _ in forms)
    return f"({tests})", [_like(form) for form in forms]


def _forms(text: str) -> list[str]:
    """Return a word with each of its letters beyond ASCII small and large; [] if that is many.

    SQLite itself knows that of ASCII's, and compares so more quickly than by a pattern.
    """
    choices = []
    for letter in text:
        large = letter.upper()
        has_two = not letter.isascii() and len(large) == 1 and folded(large) == letter != large
        choices.append(letter + large if has_two else letter)
    if math.prod(map(len, choices)) > _MOST_FORMS:
        return []
    return ["".join(one) for one in itertools.product(*choices)]


def _both(column: str, text: str, pattern: str) -> tuple[str, list[str]]:
    """Return a test by a pattern, after one that is quicker and lets a little too much pass."""
    quick = _like_any(text, escapes=False)
    return f"({column} LIKE ? ESCAPE '!' AND {column} GLOB ?)", [quick, pattern]


def _like_any(text: str, *, escapes: bool) -> str:
    """Return a pattern of `text` in which a letter beyond ASCII may be any, or any escape."""
    if escapes:
        return _like(text.partition("\\u")[0])
    return (
        "%"
        + "".join(
            "_" if not letter.isascii() else f"!{letter}" if letter in "%_!" else letter
            for letter in text
        )
        + "%"
    )


def _glob(text: str) -> str:
    parts = []
    for letter in text:
        large = letter.upper()
        if len(large) == 1 and large != letter and folded(large) == letter:
            parts.append(f"[{letter}{large}]")
        else:
            parts.append(f"[{letter}]" if letter in "*?[" else letter)
    return "*" + "".join(parts) + "*"


def _escaped(text: str) -> tuple[str, bool]:
    r"""Return a pattern for `text` with letters written as "\u00e9", and whether it is exact."""
    parts = []
    is_exact = True
    for letter in text:
        forms = {json.dumps(letter)[1:-1]}
        large = letter.upper()
        if len(large) == 1 and large != letter and folded(large) == letter:
            forms.add(json.dumps(large)[1:-1])
        if len({len(form) for form in forms}) > 1:
            parts.append("*")
            is_exact = False
            continue
        choices = [sorted(set(digits)) for digits in zip(*sorted(forms), strict=True)]
        # With two places to choose in, the pattern has more forms than the letter has.
        is_exact &= sum(len(choice) > 1 for choice in choices) <= 1
        for choice in choices:
            one = "".join(choice)
            parts.append(f"[{one}]" if len(choice) > 1 or one in "*?[" else one)
    return "*" + "".join(parts) + "*", is_exact
