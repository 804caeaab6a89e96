"""The columns of a batch run's table and of its result, by name, and how SQL reaches them.

Promises: a name stands for the same column here as in the result that `gguf_widgets.batch` makes;
only our own words become SQL, every name and value is bound. Leaves to others: the statements
(`batch_window_search`), how a value is shown (`batch_window_shown`).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.batch_tasks import MAX_TASKS
from gguf_widgets.core.store.batch_types import Run, Shape
from gguf_widgets.core.store.batch_window_shown import shown
from gguf_widgets.core.store.json_values import from_json

__all__ = ["VALUES", "Columns", "blocks", "condition", "lowered", "marks"]

# What counts of a task: a person's edit, or else what the model gave.
VALUES: Final = 'coalesce(edit, "values")'
_KINDS: Final = ("$time", "$date", "$clock", "$float", "$decimal")
_SAMPLE: Final = 200
_WHOLE: Final = 2**63  # what SQLite's whole numbers are below
_MOST: Final = 10**308
_BLOCK: Final = 400  # numbers in one statement; some builds of SQLite take 999


class Columns:
    """The columns of one run.

    Parameters
    ----------
    run : Run
    base : int
        The number of the run's first task.

    Attributes
    ----------
    names : list of str
        Of the table.
    data : str
        SQL for the JSON of a row without what is not shown.
    has_others : bool
        Whether values that are not shown are in it all the same.
    has_marks : bool
        Whether a value may be kept with a mark of its kind around it.
    """

    def __init__(self, run: Run, base: int) -> None:
        self.names = _names_of(run)
        self._dtypes = [str(one.get("dtype")) for one in run.columns if not one.get("index")]
        self.has_marks = not all(
            re.fullmatch(r"str|string|bool|boolean|u?int\d+|U?Int\d+", dtype)
            for dtype in self._dtypes
        )
        self._prompts = _prompts_of(run)
        self._base = base
        self.has_others, self.data = _without_index(run)

    def shown(self, data: str) -> dict[str, Any]:
        """Return a row's values by name, as they are shown."""
        values = from_json(data) or []
        return dict(zip(self.names, map(shown, values), strict=False))

    def output_name(self, prompt: int, name: str) -> str:
        """Return what a column is called in the result, as `batch.spec.Prompt.column` does."""
        own = self._prompts[prompt] if prompt < len(self._prompts) else ""
        return name if not own or name == own else f"{own}.{name}"

    def of_row(self, column: str) -> tuple[str, list[Any]]:
        """Return SQL for a cell of a row, and its values."""
        return "json_extract(data, ?)", [f"$[{self.names.index(column)}]"]

    def sortable(self, column: str, source: str) -> str:
        """Return SQL that sorts a column of the table by what its values stand for."""
        dtype = self._dtypes[self.names.index(column)]
        if re.fullmatch(r"u?int\d+|bool", dtype):
            return source
        if dtype in ("str", "string"):
            return f"lower({source})"
        return (
            "(SELECT CASE WHEN typeof(v) <> 'text' THEN v "  # noqa: S608 - our names
            "WHEN substr(v, 1, 3) <> '{\"$' THEN lower(v) "
            'WHEN v = \'{"$float":"inf"}\' THEN 9e999 WHEN v = \'{"$float":"-inf"}\' THEN -9e999 '
            "WHEN substr(v, 1, 8) = '{\"$span\"' THEN json_extract(v, '$.\"$span\"') "
            "WHEN substr(v, 1, 11) = '{\"$decimal\"' THEN "
            "CAST(json_extract(v, '$.\"$decimal\"') AS REAL) ELSE v END "
            f"FROM (SELECT {source} AS v))"
        )

    def of_task(
        self, column: str, shape: Shape, function: str = "json_extract"
    ) -> tuple[str, list[Any]]:
        """Return SQL for what was read from a reply, and its values."""
        own, key = self._prompt_of(column)
        sql: str
        values: list[Any]
        if re.fullmatch(r"[A-Za-z0-9_ .-]+", key):
            sql, values = f"{function}({VALUES}, ?)", [f'$."{key}"']
        else:  # a path of JSON cannot name every key
            part = "type" if function == "json_type" else "value"
            sql = f"(SELECT {part} FROM json_each({VALUES}) WHERE key = ?)"  # noqa: S608 - ours
            values = [key]
        if own is None or shape.num_prompts == 1:
            return sql, values
        inner = shape.num_models * shape.num_samples
        return (
            f"CASE WHEN (num - ?) / ? % ? = ? THEN {sql} END",
            [self._base, inner, shape.num_prompts, own, *values],
        )

    def outputs(self, connection: sqlite3.Connection, shape: Shape) -> list[str]:
        """Return the columns of the result, as some of the tasks have them."""
        inner = shape.num_models * shape.num_samples
        found = connection.execute(
            "SELECT DISTINCT (num - ?) / ? % ?, key FROM "  # noqa: S608 - our names
            f"(SELECT num, {VALUES} AS read FROM batch_task "
            'WHERE num >= ? AND num < ? AND "values" IS NOT NULL LIMIT ?), json_each(read)',
            (self._base, inner, shape.num_prompts, self._base, self._base + MAX_TASKS, _SAMPLE),
        ).fetchall()
        return [self.output_name(prompt, key) for prompt, key in found]

    def _prompt_of(self, column: str) -> tuple[int | None, str]:
        for i, own in enumerate(self._prompts):
            if not own:
                return None, column
            if column == own:
                return i, column
            if column.startswith(f"{own}."):
                return i, column[len(own) + 1 :]
        return None, column


def condition(source: str, values: Sequence[Any], wanted: Any) -> tuple[str, list[Any]]:
    """Return a condition that a value is the wanted one, and its values."""
    if wanted is None:
        return f"{source} IS NULL", list(values)
    if isinstance(wanted, str):
        # A date and the like is kept with a mark of its kind around it.
        forms = [wanted, *(json.dumps({m: wanted}, separators=(",", ":")) for m in _KINDS)]
        return f"{source} IN ({marks(forms)})", [*values, *forms]
    if isinstance(wanted, bool | int | float):
        if isinstance(wanted, int) and not -_WHOLE <= wanted < _WHOLE:  # SQLite: as fractions
            wanted = float(max(-_MOST, min(wanted, _MOST)))
        return f"{source} = ?", [*values, wanted]
    raise InvalidValueError(
        f"A column can be compared with a text, a number, true, false or None, not with "
        f"{wanted!r:.40}.",
        name="where",
    )


def lowered(source: str) -> str:
    """Return SQL that sorts texts without regard to large and small letters."""
    return (
        f"(SELECT CASE typeof(v) WHEN 'text' THEN lower(v) ELSE v END FROM (SELECT {source} AS v))"  # noqa: S608
    )


def _names_of(run: Run) -> list[str]:
    names = []
    for column in run.columns:
        if not column.get("index"):
            name = column.get("name")
            names.append(name if isinstance(name, str) else _label(name))
    return names


def _label(name: Any) -> str:
    """Return the name of a column that is no text as the rest of the program does."""
    if isinstance(name, list):
        return str([shown(part) for part in name])
    return str(shown(name))


def _prompts_of(run: Run) -> list[str]:
    prompts = run.spec.get("prompts")
    if not isinstance(prompts, list):
        return [""]
    return [str(one.get("name") or "") if isinstance(one, Mapping) else "" for one in prompts]


def _without_index(run: Run) -> tuple[bool, str]:
    """Return whether a row has values that are not shown, and SQL for those that are."""
    index = [column for column in run.columns if column.get("index")]
    if not index:
        return False, "data"
    # A row's place in the table, which pandas keeps as an index, would be found in each row.
    if len(index) == 1 and re.fullmatch(r"u?int\d+", str(index[0].get("dtype"))):
        return False, "rtrim(data, '0123456789-]')"
    return True, "data"


def marks(values: Sequence[Any]) -> str:
    """Return as many question marks."""
    return ", ".join("?" * len(values))


def blocks(nums: Sequence[int]) -> Iterable[list[int]]:
    """Return numbers in portions for one statement each."""
    return (list(nums[i : i + _BLOCK]) for i in range(0, len(nums), _BLOCK))
