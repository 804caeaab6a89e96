"""Free text, as the model writes it.

Promises: the column holds exactly the reply's text. A reply that was cut at `max_tokens` is kept as
it is; the row's finish reason says so. Leaves to others: everything about its content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gguf_widgets.batch.output_column import Column

__all__ = ["TextKind"]


@dataclass(frozen=True)
class TextKind:
    """Free text."""

    name: str

    kind = "text"
    choice_texts: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Kind.columns`."""
        return (Column(self.name, "text"),)

    @property
    def sampling(self) -> dict[str, Any]:
        """See `Kind.sampling`."""
        return {}

    def read(self, text: str, *, complete: bool) -> tuple[Any, dict[str, Any]]:  # noqa: ARG002
        """See `Kind.read`."""
        return text, {self.name: text}

    def to_dict(self) -> dict[str, Any]:
        """See `Kind.to_dict`."""
        return {}

    def describe(self) -> str:
        """See `Kind.describe`."""
        return "free text"
