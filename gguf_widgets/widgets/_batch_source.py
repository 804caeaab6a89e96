"""The table that a run is to work on: from the notebook, a file of this page, or pasted text.

Promises: whatever it came from, it is a DataFrame for the run, rows for a preview, and a few words
that say what was found; a file that a page sends is bounded, and its pieces are taken in order
only. Leaves to others: how a file is read (`_batch_looked`), the messages' way (`batch_table`),
what is asked (`_batch_draft`).
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gguf_widgets.batch import files
from gguf_widgets.batch.table_rows import Table, decoded, encoded
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.widgets._batch_cells import shown
from gguf_widgets.widgets._batch_images import suggested

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PASTED_CHARS",
    "SHOWN_COLUMNS",
    "Arriving",
    "Given",
    "given_table",
]

MAX_FILE_BYTES: Final = 50_000_000
MAX_PASTED_CHARS: Final = 2_000_000
PIECE_BYTES: Final = 1 << 20
_FIRST: Final = 8  # rows that are shown
SHOWN_COLUMNS: Final = 50


class Given:
    """A table, ready to be asked about.

    Attributes
    ----------
    name : str
    columns : list of str
    num_rows : int
    is_file : bool
        Whether it came from a file or was pasted; else the notebook gave it.
    path : str
        Where the file is, if Python was given a path.
    read_with : dict
        The options with which `files.read` reads the same.
    from_page : bool
        Whether a page sent it, or it is not known who did.
    folder : str
        Where the files are that its cells name; "" for where Python is.
    pictures : list of str
        The columns that look like pictures.
    """

    def __init__(
        self,
        frame: Any,
        name: str,
        *,
        words: str = "",
        is_file: bool = False,
        path: str = "",
        read_with: dict[str, Any] | None = None,
        from_page: bool = True,
        folder: str = "",
    ) -> None:
        self.columns = Table.of(frame).names  # refuses what cannot be asked about
        self.frame = frame
        self.name, self.is_file, self.path = name, is_file, path
        self.read_with = read_with or {}
        self.from_page, self.folder = from_page, folder
        self.pictures = suggested(frame, self.columns)
        self.num_rows = len(frame)
        size = f"{_many(self.num_rows, 'row')}, {_many(len(self.columns), 'column')}"
        self.told: dict[str, Any] = {  # what the page shows of it
            "name": self.name,
            "words": words or size,
            "columns": self.columns,
            "numRows": self.num_rows,
            "first": _cells(frame, _FIRST),
            "moreColumns": max(0, len(self.columns) - SHOWN_COLUMNS),
        }

    def row(self, number: int) -> dict[str, Any]:
        """Return a row as a template takes it.

        Raises
        ------
        InvalidValueError
            There is no such row, or a value that cannot be kept.
        """
        if not 0 <= number < self.num_rows:
            raise InvalidValueError(f"The table has rows 1 to {self.num_rows:,}.")
        row: dict[str, Any] = {}
        for place, name in enumerate(self.columns):
            try:
                # As the store keeps it and gives it back: what is seen is what will be asked.
                row[name] = decoded(encoded(self.frame.iat[number, place]))
            except (TypeError, ValueError) as error:
                raise InvalidValueError(
                    f'Row {number + 1:,}, column "{name:.60}" holds {error}, which cannot be kept. '
                    "Turn it into text or a number first."
                ) from error
        return row


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _cells(frame: Any, count: int) -> list[list[str | None]]:
    rows = []
    for number in range(min(count, len(frame))):
        width = min(len(frame.columns), SHOWN_COLUMNS)
        rows.append([shown(frame.iat[number, place]) for place in range(width)])
    return rows


def given_table(table: Any) -> Given:
    """Take what Python was given.

    Parameters
    ----------
    table : DataFrame, Series, dict of lists, list of dicts or texts, RowSource, or a file's path

    Raises
    ------
    InvalidValueError
        It is none of these, is empty, or has two columns of one name.
    TableFileError
        The file cannot be read.
    """
    import pandas as pd

    if isinstance(table, str | os.PathLike):
        source = files.read(os.fspath(table))
        name = plain_text(source.name)
        path = os.fspath(table)
        beside = os.fspath(Path(path).absolute().parent)
        return Given(
            source.to_frame(), name, is_file=True, path=path, from_page=False, folder=beside
        )
    if isinstance(table, files.RowSource):
        return Given(table.to_frame(), plain_text(table.name), is_file=True, from_page=False)
    Table.of(table)  # says in words what is wrong with it
    if isinstance(table, pd.Series):
        table = table.to_frame(name="text" if table.name is None else table.name)
    elif isinstance(table, Mapping):
        table = pd.DataFrame(dict(table))
    elif isinstance(table, list | tuple):
        texts = all(isinstance(one, str) for one in table)
        table = pd.DataFrame({"text": list(table)} if texts else list(table))
    return Given(table, "Table from the notebook", from_page=False)


class Arriving:
    """A file that a page sends, piece by piece.

    Raises
    ------
    InvalidValueError
        It is too large, or says of itself what cannot be.
    """

    def __init__(self, name: Any, size: Any) -> None:
        if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool):
            raise InvalidValueError("A file needs a name and a size.")
        self.name = plain_text(re.split(r"[/\\]", name)[-1], 200) or "table"
        if size > MAX_FILE_BYTES:
            raise InvalidValueError(
                f'"{plain_text(self.name)}" has {format_bytes(size)}; through this page a table '
                f"may have {format_bytes(MAX_FILE_BYTES)}. Put it on the computer that runs Python "
                'and give its path there: gw.BatchTable(model, "reviews.csv").'
            )
        if size <= 0:
            raise InvalidValueError(f'"{plain_text(self.name)}" is empty.')
        self.size = size
        self.key = secrets.token_hex(8)
        self._data = bytearray()

    @property
    def offset(self) -> int:
        """How much has arrived."""
        return len(self._data)

    def add(self, offset: Any, piece: Any) -> bool:
        """Take a piece; return whether that was the last.

        Raises
        ------
        InvalidValueError
            It is not the next one, is too long, or more than was told.
        """
        if offset != len(self._data) or not isinstance(piece, bytes | bytearray | memoryview):
            raise InvalidValueError("A piece of the file got lost. Choose the file again.")
        if len(piece) > PIECE_BYTES or len(self._data) + len(piece) > self.size or not piece:
            raise InvalidValueError("The file has changed meanwhile. Choose it again.")
        self._data += piece
        return len(self._data) == self.size

    @property
    def data(self) -> bytes:
        """All that has arrived."""
        return bytes(self._data)
