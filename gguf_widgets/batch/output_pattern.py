"""A text that matches a regular expression as a whole.

Promises: the engine keeps to the expression while the reply is written, as a JSON text in quotes,
and Python checks it again when it is read, if it is an expression of Python's. Leaves to others:
which expressions can be followed (the engine: no references back, look-behind or word boundaries).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gguf_widgets.batch.output_column import Column, checked
from gguf_widgets.batch.output_kind import json_value
from gguf_widgets.core.errors import InvalidValueError, OutputError

__all__ = ["PatternKind", "from_compiled", "from_text"]

# The engine only writes what matches under these and without them: ASCII digits for \d, and no
# line break for a dot.
_HARMLESS = re.UNICODE | re.ASCII | re.DOTALL


@dataclass(frozen=True)
class PatternKind:
    """A text that matches `pattern`, from its first character to its last."""

    name: str
    pattern: str

    kind = "pattern"
    choice_texts: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Kind.columns`."""
        return (Column(self.name, "text"),)

    @property
    def sampling(self) -> dict[str, Any]:
        """See `Kind.sampling`."""
        return {"schema": {"type": "string", "pattern": f"^(?:{self.pattern})$"}}

    @cached_property
    def compiled(self) -> re.Pattern[str] | None:
        """The expression as Python has it; None if it is not one of Python's."""
        try:
            return re.compile(self.pattern)
        except (re.error, OverflowError, RecursionError):
            return None

    def read(self, text: str, *, complete: bool) -> tuple[Any, dict[str, Any]]:
        """See `Kind.read`."""
        value = checked(self.columns[0], json_value(text, complete=complete))
        if value is None:
            raise OutputError("The reply is null, and not a text.")
        if self.compiled is not None and not self.compiled.fullmatch(value):
            raise OutputError(f"The reply {value[:80]!r} does not match {self.pattern[:80]!r}.")
        return value, {self.name: value}

    def to_dict(self) -> dict[str, Any]:
        """See `Kind.to_dict`."""
        return {"pattern": self.pattern}

    def describe(self) -> str:
        """See `Kind.describe`."""
        return f"a text that matches {self.pattern[:80]}"


def from_compiled(name: str, given: re.Pattern[Any]) -> PatternKind:
    """Return the output of a compiled expression.

    Raises
    ------
    InvalidValueError
        If it is one of bytes, or has flags that cannot be followed.
    """
    if not isinstance(given.pattern, str):
        raise InvalidValueError(
            f"The pattern {given.pattern!r:.80} is one of bytes; a reply is a text."
        )
    flags = re.RegexFlag(given.flags) & ~_HARMLESS
    if flags:
        raise InvalidValueError(
            f"The pattern has the flags {flags!r}, which cannot be followed. Write it without them,"
            " for example [Yy]es instead of IGNORECASE.",
            pattern=given.pattern[:200],
        )
    return from_text(name, given.pattern)


def from_text(name: str, pattern: Any) -> PatternKind:
    """Return the output of an expression that is given as a text."""
    if not isinstance(pattern, str):
        raise InvalidValueError(f"A pattern is a text, not {pattern!r:.80}.")
    return PatternKind(name, pattern)
