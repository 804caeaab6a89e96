"""The result of a run as a file.

Promises: the columns of `BatchRun.to_frame`, in any format that tables are written in, a stretch of
the table in memory at a time. Leaves to others: what the columns are (`frame`), formats (`files`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.batch import files
from gguf_widgets.batch.files.formats import format_of_name
from gguf_widgets.batch.frame import result_frame
from gguf_widgets.batch.requests import save_requests
from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.table_rows import decoded
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Run, Task

__all__ = ["save_result", "save_run"]

_STRETCH_ROWS: Final = 2000
_EDITED: Final = "edited"  # a column that is only there where something was


def save_result(
    path: str | os.PathLike[str], run: Run, spec: Spec, tasks: RunTasks, **how: Any
) -> files.Written:
    """Write what has become of a run, as far as it has come.

    Parameters
    ----------
    path : str or path
    run, spec, tasks
        The run; see `frame.result_frame`.
    **how
        As for `files.write`.

    Raises
    ------
    TableFileError, InvalidValueError
        See `files.write`; what was at the path before is untouched.
    """
    places = [i for i, column in enumerate(run.columns) if _is_written(column)]
    own = [_name_of(run.columns[i], i) for i in places]
    num_own = sum(not column.get("index") for column in run.columns)
    first = _part(run, spec, tasks, 0, min(1, run.shape.num_rows))
    new = [str(name) for name in first.columns[num_own:] if name != _EDITED]
    if any(_edited(run, tasks)):
        new.append(_EDITED)
    rows = _rows(run, spec, tasks, places, new)
    return files.write(path, rows, columns=[*own, *new], **how)


def save_run(
    path: str | os.PathLike[str], run: Run, spec: Spec, tasks: RunTasks, **how: Any
) -> files.Written:
    """Do what `save_result` does; results of OpenAI's requests are in their layout in ``.jsonl``.

    Raises
    ------
    TableFileError, InvalidValueError
        As there.
    """
    if spec.requests and not how and format_of_name(os.fspath(path)) is files.Format.JSONL:
        return save_requests(path, run, spec, tasks)
    return save_result(path, run, spec, tasks, **how)


def _is_written(column: Mapping[str, Any]) -> bool:
    """Whether a column is written: of the index, only one that says more than 0, 1, 2, ..."""
    return not column.get("index") or not (
        column.get("name") is None and "int" in str(column.get("dtype"))
    )


def _name_of(column: Mapping[str, Any], place: int) -> str:
    name = column.get("name")
    return f"index_{place}" if name is None else str(decoded(name))


def _rows(
    run: Run, spec: Spec, tasks: RunTasks, places: Sequence[int], new: Sequence[str]
) -> Iterator[list[Any]]:
    lines = run.shape.num_models * run.shape.num_samples
    for start in range(0, run.shape.num_rows, _STRETCH_ROWS):
        stop = min(start + _STRETCH_ROWS, run.shape.num_rows)
        frame = _part(run, spec, tasks, start, stop)
        frame.columns = [str(name) for name in frame.columns]
        if _EDITED in new and _EDITED not in frame:
            frame[_EDITED] = False
        made = zip(*(frame[name].astype("object").tolist() for name in new), strict=True)
        for data in tasks.each_row(start, stop):
            # As they were given: a frame would make a time of a date.
            values = json.loads(data)
            own = [decoded(values[place], as_file=True) for place in places]
            for _ in range(lines):
                yield [*own, *next(made)]


def _edited(run: Run, tasks: RunTasks) -> Iterator[bool]:
    """Yield for each stretch whether a value was changed by hand."""
    for start in range(0, run.shape.num_tasks, _STRETCH_ROWS):
        found = tasks.tasks(start, start + _STRETCH_ROWS)
        yield any(task.edit is not None for task in found.values())


def _part(run: Run, spec: Spec, tasks: RunTasks, start: int, stop: int) -> Any:
    shape = msgspec.structs.replace(run.shape, num_rows=stop - start)
    part = msgspec.structs.replace(run, shape=shape)
    return result_frame(part, spec, _Stretch(tasks, start, stop, run))


class _Stretch(RunTasks):
    """What came of some rows of a run, numbered from 0; the rows themselves are left empty."""

    def __init__(self, tasks: RunTasks, start: int, stop: int, run: Run) -> None:
        super().__init__(tasks.store, tasks.run_id)
        self._empty = json.dumps([None] * len(run.columns))
        self._start, self._stop, self._per_row = start, stop, run.shape.per_row

    def rows(self, start: int, stop: int) -> list[str]:
        return [self._empty] * (min(self._start + stop, self._stop) - self._start - start)

    def tasks(self, start: int, stop: int) -> dict[int, Task]:
        offset = self._start * self._per_row
        end = self._stop * self._per_row
        found = super().tasks(offset + start, min(offset + stop, end))
        return {number - offset: task for number, task in found.items()}
