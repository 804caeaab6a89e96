"""A day, or a day with a time.

Promises: the reply is a JSON text that names a day of the calendar. A `datetime` has no time zone,
since texts seldom say one and the model would have to invent it; whoever needs one asks for it by
the schema ``{"type": "string", "format": "date-time"}``. Leaves to others: calendars other than
ours, and years outside 1 to 9999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gguf_widgets.batch.output_column import Column, checked
from gguf_widgets.batch.output_kind import json_value
from gguf_widgets.core.errors import OutputError

__all__ = ["DateKind"]

# The same days as the engine's own format "date", which can only stand alone.
_DAY = (
    r"(?:(?!0000)\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    r"|(?:\d\d(?:0[48]|[2468][048]|[13579][26])"
    r"|(?:0[48]|[2468][048]|[13579][26])00)-02-29)"
)
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"


@dataclass(frozen=True)
class DateKind:
    """A day ("date"), or a day and a time ("datetime")."""

    name: str
    kind: str

    choice_texts: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Kind.columns`."""
        return (Column(self.name, self.kind),)

    @property
    def sampling(self) -> dict[str, Any]:
        """See `Kind.sampling`."""
        if self.kind == "date":
            return {"schema": {"type": "string", "format": "date"}}
        return {"schema": {"type": "string", "pattern": f"^{_DAY}T{_TIME}$"}}

    def read(self, text: str, *, complete: bool) -> tuple[Any, dict[str, Any]]:
        """See `Kind.read`."""
        value = checked(self.columns[0], json_value(text, complete=complete))
        if value is None:
            raise OutputError(f"The reply is null, and not {self.describe()}.")
        return value, {self.name: value}

    def to_dict(self) -> dict[str, Any]:
        """See `Kind.to_dict`."""
        return {}

    def describe(self) -> str:
        """See `Kind.describe`."""
        return "a day" if self.kind == "date" else "a day and a time"
