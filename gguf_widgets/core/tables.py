"""A few rows as a table: in a terminal, and in a notebook.

Promises: columns line up, and whatever the cells hold is shown and never obeyed (control characters
in a terminal, markup in a page). Leaves to others: what the cells say.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from gguf_widgets.core.format import plain_text

__all__ = ["as_html", "as_text"]

_LONGEST_CELL = 60


def as_text(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the lines of a table, the headings first."""
    lines = [[plain_text(cell, _LONGEST_CELL) for cell in row] for row in (headings, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_html(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    tooltips: Mapping[str, str] | None = None,
) -> str:
    """Return the table as HTML; `tooltips` explain headings."""
    hints = tooltips or {}
    head = "".join(
        f'<th title="{html.escape(hints[cell])}">{html.escape(cell)}</th>'
        if cell in hints
        else f"<th>{html.escape(cell)}</th>"
        for cell in headings
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(plain_text(cell, _LONGEST_CELL))}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
