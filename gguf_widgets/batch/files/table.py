"""What a reader is asked, and what it finds out before the first row is handed on.

Promises: the same few fields for every format, so that a preview, a refusal and a run speak of the
same thing. Leaves to others: reading (`read_delimited`, `read_json`, ...), deciding (`reading`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from typing import Any, Literal, Protocol

from gguf_widgets.batch.files.formats import Format, format_named
from gguf_widgets.batch.files.kinds import Kind, kind_named
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["Duplicates", "Options", "Ragged", "Reader", "Row", "Table"]

Ragged = Literal["refuse", "fill", "skip"]
Duplicates = Literal["refuse", "number"]
Row = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller wants to be other than it was found; `reading.read` explains each."""

    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | bool | None = True
    header: bool | int | None = None
    sheet: str | int | None = None
    ragged: Ragged = "refuse"
    duplicates: Duplicates = "refuse"
    types: Literal["auto", "text"] | Mapping[str, str] = "auto"

    @classmethod
    def of(cls, **keywords: Any) -> Options:
        """Make them from a caller's keywords, checked.

        Raises
        ------
        InvalidValueError
            A value is none of those it can be.
        """
        if keywords.get("format") is not None:
            keywords["format"] = format_named(keywords["format"])
        options = cls(**keywords)
        for name, known in (
            ("ragged", ("refuse", "fill", "skip")),
            ("duplicates", ("refuse", "number")),
        ):
            value = getattr(options, name)
            if value not in known:
                raise InvalidValueError(
                    f"{name} is one of {', '.join(known)}; not {value!r:.40}.", name=name
                )
        if not isinstance(options.types, Mapping) and options.types not in ("auto", "text"):
            raise InvalidValueError(
                'types is "auto", "text", or a dict from column to kind;'
                f" not {options.types!r:.40}.",
                name="types",
            )
        header = options.header
        if not (header is None or (isinstance(header, int) and header >= 0)):
            raise InvalidValueError(
                "header is True, False, or the number of the line that holds the names (from 1);"
                f" not {header!r:.40}.",
                name="header",
            )
        return options

    def wanted(self, columns: tuple[str, ...]) -> dict[int, Kind]:
        """Return the kinds the caller asked for, by the column's place.

        Raises
        ------
        InvalidValueError
            A column or a kind that there is not.
        """
        if self.types == "auto":
            return {}
        if not isinstance(self.types, Mapping):
            return dict.fromkeys(range(len(columns)), Kind.TEXT)
        wanted = {}
        for name, kind in self.types.items():
            if name not in columns:
                raise InvalidValueError(
                    f"types names a column {name!r:.60}, which is not there; columns are"
                    f" {', '.join(columns[:20])}.",
                    name="types",
                )
            wanted[columns.index(name)] = kind_named(kind)
        return wanted


@dataclasses.dataclass(slots=True, kw_only=True)
class Table:
    """What is known of a table.

    Attributes
    ----------
    columns : tuple of str
    kinds : tuple of Kind
        What the values of each column are.
    missing : tuple of bool
        Whether values are missing in it.
    num_rows : int or None
        None if that was not counted.
    looked : tuple of int
        How many rows were looked at, and how many lines they took (0 if there are no lines).
    claimed : int or None
        How many lines or rows the file itself says it has, names and all; it may say anything.
    complete : bool
        Whether all of it was looked at; else `kinds`, `problems` and `notes` speak of its start.
    problems : list of str
        Why it is refused, one sentence or two each; empty if it is not.
    notes : list of str
        What was found or done that a person should know.
    """

    format: Format
    columns: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    missing: tuple[bool, ...] = ()
    num_rows: int | None = None
    looked: tuple[int, int] = (0, 0)
    claimed: int | None = None
    complete: bool = True
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    header: bool | None = None
    sheet: str | None = None
    sheets: tuple[str, ...] = ()


class Reader(Protocol):
    """Reads the tables of one format."""

    def survey(self, limit: int | None) -> Table:
        """Look at the table: all of it, or so many of its rows.

        Faults of rows become problems; an error is raised only where there is no table at all.
        """
        ...

    def rows(self, table: Table) -> Generator[Row]:
        """Hand out the rows of a table that `survey` has looked at, one at a time."""
        ...
