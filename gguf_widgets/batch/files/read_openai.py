"""A file of OpenAI batch requests, as a table and as requests.

Promises: every line is read and checked before the first request is handed on; two requests of one
name, and lines that are no requests, are told with their numbers. As a table a request is a row
with its custom_id, model, last prompt, messages, settings, and what of it is not supported. Leaves
to others: what a request means (`openai_requests`).
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import hashlib
from collections.abc import Generator, Iterator
from typing import Final, Literal

from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.json_items import decode_line, make_decoder
from gguf_widgets.batch.files.kinds import Kind
from gguf_widgets.batch.files.limits import Faults, many
from gguf_widgets.batch.files.openai_requests import OpenAiRequest, parse_request
from gguf_widgets.batch.files.source import Source, TableSource
from gguf_widgets.batch.files.table import Row, Table
from gguf_widgets.core.errors import InvalidValueError, TableFileError
from gguf_widgets.core.text_encoding import known_encoding

__all__ = ["FaultyRequest", "OpenAiReader", "RequestSource", "read_requests"]

_COLUMNS: Final = ("custom_id", "model", "prompt", "messages", "settings", "unsupported")
_KINDS: Final = (Kind.TEXT, Kind.TEXT, Kind.TEXT, Kind.MIXED, Kind.MIXED, Kind.MIXED)


@dataclasses.dataclass(frozen=True, slots=True)
class FaultyRequest:
    """A line that is no request: its number, its name if it has one, and what is wrong with it."""

    line: int
    custom_id: str | None
    reason: str


class OpenAiReader:
    """Reads one file of requests.

    Parameters
    ----------
    source : Source
    encoding : str
    notes : list of str
        What was found out on the way here.

    Attributes
    ----------
    doubles : str
        The problem of names that come twice, once `survey` has found them; else "".
    """

    def __init__(self, source: Source, encoding: str, notes: list[str]) -> None:
        self._source = source
        self._encoding = encoding
        self._notes = notes
        self.doubles = ""

    def survey(self, limit: int | None) -> Table:
        """Look at the requests; see `table.Reader`."""
        table = Table(
            format=Format.OPENAI,
            columns=_COLUMNS,
            kinds=_KINDS,
            missing=(False,) * len(_COLUMNS),
            encoding=self._encoding,
            notes=list(self._notes),
        )
        num_rows = last = 0
        faulty, double = Faults(), Faults()
        unsupported: dict[str, int] = {}
        ignored: dict[str, int] = {}
        seen: dict[bytes, int] = {}
        with contextlib.closing(self.requests()) as requests:
            for request in requests:
                if limit is not None and num_rows >= limit:
                    table.complete = False
                    break
                num_rows, last = num_rows + 1, request.line
                if isinstance(request, FaultyRequest):
                    faulty.add(f"line {request.line:,}: {request.reason}")
                    continue
                for names, counts in (
                    (request.unsupported, unsupported),
                    (request.ignored, ignored),
                ):
                    for name in names:
                        # A hostile file must not make a list of a million names.
                        if name in counts or len(counts) < 50:
                            counts[name] = counts.get(name, 0) + 1
                # A short hash in place of each name: files may hold millions.
                mark = hashlib.blake2b(request.custom_id.encode("utf-8", "replace"), digest_size=12)
                before = seen.setdefault(mark.digest(), request.line)
                if before != request.line:
                    double.add(
                        f"{request.custom_id!r:.60} in lines {before:,} and {request.line:,}"
                    )
        if not num_rows:
            raise TableFileError(f"{self._source.shown} holds no requests.", problem="empty")
        table.num_rows = num_rows if table.complete else None
        table.looked = (num_rows, last)
        if faulty:
            table.problems.append(
                f"{many(faulty.count, 'line')} cannot be run as a request: {faulty}."
            )
        if double:
            self.doubles = (
                f"A custom_id names one request, and these come twice: {double}. Rename them."
            )
            table.problems.append(self.doubles)
        if unsupported:
            table.notes.append(f"Asked for and not supported here: {_counted(unsupported)}.")
        if ignored:
            table.notes.append(f"Without meaning here, and without effect: {_counted(ignored)}.")
        return table

    def rows(self, table: Table) -> Generator[Row]:  # noqa: ARG002 - the columns are always these
        """Hand out the requests as rows; see `table.Reader`."""
        with contextlib.closing(self.requests()) as requests:
            for one in requests:
                if isinstance(one, OpenAiRequest):
                    settings = {**one.sampling, "n": one.num_samples}
                    missing = list(one.unsupported)
                    yield (one.custom_id, one.model, one.prompt, one.messages, settings, missing)

    def requests(self) -> Generator[OpenAiRequest | FaultyRequest]:
        """Read the requests one at a time, faulty ones too."""
        decoder = make_decoder(strict=True)
        with contextlib.closing(self._source.lines(self._encoding)) as lines:
            for number, line in enumerate(lines, 1):
                value = None
                if not (text := line.strip()):
                    continue
                try:
                    value = decode_line(decoder, text, number, self._source)
                    yield parse_request(value, number)
                except TableFileError as error:
                    name = value.get("custom_id") if isinstance(value, dict) else None
                    reason = error.message
                    if error.details.get("problem") == "json":
                        reason = f"it is not valid JSON ({error.__cause__})"
                    yield FaultyRequest(
                        number, name if isinstance(name, str) and name else None, reason
                    )


def _counted(counts: dict[str, int]) -> str:
    parts = [f"{name} (in {many(count, 'request')})" for name, count in list(counts.items())[:10]]
    more = len(counts) - len(parts)
    return ", ".join(parts) + (f" and {more:,} more" if more else "")


class RequestSource:
    """The requests of a file; it can be read any number of times.

    Attributes
    ----------
    num_requests : int
    notes : tuple of str
        What a person should know: what is asked for and not supported, what has no effect.
    """

    def __init__(
        self, source: Source, reader: OpenAiReader, faulty: Literal["refuse", "keep"]
    ) -> None:
        if faulty not in ("refuse", "keep"):
            raise InvalidValueError(f'faulty is "refuse" or "keep"; not {faulty!r:.40}.')
        table = reader.survey(None)
        problems = table.problems
        if faulty == "keep":
            problems = [reader.doubles] if reader.doubles else []
        if problems:
            raise TableFileError(
                f"{source.shown} is not read: {' '.join(problems)}",
                problem="rows",
                problems=list(problems),
            )
        self._source = source
        self._reader = reader
        self.num_requests = table.num_rows or 0
        self.notes = tuple(table.notes)

    def __len__(self) -> int:
        return self.num_requests

    def __iter__(self) -> Iterator[OpenAiRequest | FaultyRequest]:
        self._source.unchanged()
        yield from self._reader.requests()
        self._source.unchanged()


def read_requests(
    source: TableSource,
    *,
    name: str = "",
    encoding: str = "utf-8",
    faulty: Literal["refuse", "keep"] = "refuse",
) -> RequestSource:
    """Open a file of OpenAI batch requests.

    Parameters
    ----------
    source : str, path, bytes or Pasted
    name : str, optional
        What bytes are called.
    encoding : str, default "utf-8"
        What OpenAI asks for.
    faulty : {"refuse", "keep"}
        What becomes of a file with lines that are no requests: it is refused, with their numbers
        and what is wrong with each; or they come as `FaultyRequest`, so that each can be given an
        error as its result.

    Raises
    ------
    TableFileError
        The file cannot be read, holds faulty lines, or two requests of one name.
    """
    opened = Source(source, name)
    head = opened.head(3)
    known = known_encoding(encoding)
    if head.startswith(codecs.BOM_UTF8) and known == "utf-8":
        known = "utf-8-sig"
    return RequestSource(opened, OpenAiReader(opened, known, []), faulty)
