"""Plain text: one row a line, in one column called "text".

Promises: every line that holds more than spaces is a row, exactly as it stands without its end;
empty lines are left out and counted. Leaves to others: encoding (`source`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Final

from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.kinds import Kind
from gguf_widgets.batch.files.limits import many
from gguf_widgets.batch.files.source import Source
from gguf_widgets.batch.files.table import Row, Table
from gguf_widgets.core.errors import TableFileError

__all__ = ["TEXT_COLUMN", "LinesReader"]

TEXT_COLUMN: Final = "text"


class LinesReader:
    """Reads the lines of one text."""

    def __init__(self, source: Source, encoding: str, notes: list[str]) -> None:
        self._source = source
        self._encoding = encoding
        self._notes = notes

    def survey(self, limit: int | None) -> Table:
        """Look at the table; see `table.Reader`."""
        table = Table(
            format=Format.TXT,
            columns=(TEXT_COLUMN,),
            kinds=(Kind.TEXT,),
            missing=(False,),
            encoding=self._encoding,
            notes=list(self._notes),
        )
        num_rows = num_empty = 0
        try:
            with contextlib.closing(self._source.lines(self._encoding)) as lines:
                for line in lines:
                    if limit is not None and num_rows >= limit:
                        table.complete = False
                        break
                    filled = bool(line.strip())
                    num_rows += filled
                    num_empty += not filled
        except TableFileError as error:
            if error.details.get("problem") not in ("encoding", "too_long"):
                raise
            table.problems.append(error.message)
            table.complete = False
        if table.complete and not num_rows:
            raise TableFileError(f"{self._source.shown} holds no rows.", problem="empty")
        table.num_rows = num_rows if table.complete else None
        table.looked = (num_rows, num_rows + num_empty)
        if num_empty:
            table.notes.append(
                f"{many(num_empty, 'line')} {'is' if num_empty == 1 else 'are'} empty and"
                f" {'was' if num_empty == 1 else 'were'} left out."
            )
        return table

    def rows(self, table: Table) -> Generator[Row]:  # noqa: ARG002 - nothing to know of it
        """Hand out the rows; see `table.Reader`."""
        with contextlib.closing(self._source.lines(self._encoding)) as lines:
            for line in lines:
                if line.strip():
                    yield (line.rstrip("\r\n"),)
