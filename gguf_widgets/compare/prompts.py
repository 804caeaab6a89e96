"""The prompts of a comparison: a person's table, and what is right for each of its rows.

Promises: whatever is wrong with the table or the references is said before a model is loaded; the
right answers never get into a prompt (a run's table has the columns that its template names, and no
more); the order in which prompts are asked is the table's, or, where looking on the way has to be
sound, one that was drawn. Leaves to others: keeping them (`records`), templates (`batch.template`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.batch.files import ENDINGS
from gguf_widgets.batch.frame import check_names
from gguf_widgets.batch.missing import REFUSE, MissingCount, is_missing
from gguf_widgets.batch.spec import Prompt, Spec
from gguf_widgets.batch.table_rows import Table, decoded, encoded, row_of
from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import InvalidValueError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_PROMPTS", "PLAIN_TEMPLATE", "Prompts", "asked_order", "run_table"]

MAX_PROMPTS: Final = 100_000
PLAIN_TEMPLATE: Final = "{prompt}"


class Prompts:
    """What a person gives to be asked; made by `of`.

    Attributes
    ----------
    columns : list of dict
        As `batch.table_rows.Table` has them.
    rows : list of str
        Each as JSON.
    references : list or None
        One for each row, as decoded; None: there are none at all.
    """

    def __init__(
        self, columns: list[dict[str, Any]], rows: list[str], references: list[Any] | None
    ) -> None:
        self.columns, self.rows, self.references = columns, rows, references
        self.names = [str(decoded(c["name"])) for c in columns if not c.get("index")]

    @classmethod
    def of(cls, given: Any, references: Any = None) -> Prompts:
        """Take a table and its references.

        Parameters
        ----------
        given : str, list of str, list of dict, dict of lists, DataFrame, Series, path, RowSource
            A str is one prompt, and a path a file. Of texts and of a Series without a name the
            column is called "prompt".
        references : sequence, str or None
            One for each row, or the name of a column.

        Raises
        ------
        InvalidValueError, TableFileError, RowError
        """
        table = Table.of(_as_table(given))
        rows = []
        for row in table.as_json():
            rows.append(row)
            if len(rows) > MAX_PROMPTS:
                raise InvalidValueError(
                    f"There are more than {MAX_PROMPTS:,} prompts, which is the most that a "
                    "comparison can have. Take a part of the table: df.sample(1000).",
                    limit=MAX_PROMPTS,
                )
        if not rows:
            raise InvalidValueError("There is no prompt. Give at least one.")
        made = cls(table.columns, rows, None)
        made.references = made._references(references)
        return made

    def template(self, given: Any) -> Any:
        """Return the template: the given one, or the one column that there is."""
        if given != PLAIN_TEMPLATE or "prompt" in self.names:
            return given
        if len(self.names) == 1:
            return "{" + self.names[0].replace("{", "{{").replace("}", "}}") + "}"
        return given

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts that name columns which are not there, or rows that lack a value."""
        for prompt in prompts:
            prompt.template.check(self.names)
            used = prompt.template.columns_used(self.names)
            check_names(used, Spec(prompts=(prompt,), models=(), sampling={}))
            count = MissingCount(used)
            for number, data in enumerate(self.rows, 1):
                count.add(number, row_of(self.names, data))
            count.check(REFUSE)

    def _references(self, given: Any) -> list[Any] | None:
        if given is None:
            return None
        if isinstance(given, str):
            if given not in self.names:
                shown = ", ".join(f'"{name}"' for name in self.names[:20])
                raise InvalidValueError(
                    f'references="{given:.60}" is the name of no column; the table has {shown}. '
                    "Give a column's name, or a list with one for each prompt.",
                    columns=self.names,
                )
            place = self.names.index(given)
            found = [decoded(json.loads(data)[place]) for data in self.rows]
        else:
            found = [_plain(value) for value in _listed(given)]
            if len(found) != len(self.rows):
                raise InvalidValueError(
                    f"There are {len(self.rows):,} prompts and {len(found):,} references. Give one "
                    "for each prompt, None where nothing is known to be right.",
                    num_prompts=len(self.rows),
                    num_references=len(found),
                )
        found = [None if is_missing(value) else value for value in found]
        if all(value is None for value in found):
            raise InvalidValueError("All references are missing: nothing says what is right.")
        return found


def _as_table(given: Any) -> Any:
    if isinstance(given, str):
        _refuse_file_name(given)
        return {"prompt": [given]}
    if isinstance(given, list | tuple) and given and all(isinstance(one, str) for one in given):
        return {"prompt": list(given)}
    if type(given).__name__ == "Series" and getattr(given, "name", "") is None:
        return given.to_frame(name="prompt")
    return given


def _refuse_file_name(text: str) -> None:
    """Refuse a text that a person most likely means as a file."""
    is_one_line = "\n" not in text and len(text) < 1000
    if is_one_line and PurePath(text.lower()).suffix in ENDINGS:
        try:
            is_file = expanded(text).is_file()
        except (OSError, ValueError):
            return
        if is_file:
            raise InvalidValueError(
                f"The prompt {text!r:.200} is the name of a file that is there. To compare over "
                "its rows, give pathlib.Path(...) of it."
            )


def _listed(given: Any) -> list[Any]:
    if isinstance(given, Mapping) or not hasattr(given, "__iter__"):
        raise InvalidValueError(
            f"references= is a list with one for each prompt, or the name of a column, not a "
            f"{type(given).__name__}."
        )
    return list(given)


def _plain(value: Any) -> Any:
    try:
        return decoded(encoded(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(
            f"A reference is {value!r:.80}, which cannot be kept. Give text, numbers, lists of "
            "right answers, or dicts."
        ) from error


def asked_order(comparison_id: str, num_prompts: int, *, shuffled: bool) -> NDArray[np.int64]:
    """Return the prompts' numbers in the order in which they are asked.

    A test that looks on the way takes the prompts for a random sample, so their order must be one:
    a table that is sorted by difficulty would make the first rows tell about the easy ones.
    """
    import numpy as np

    if not shuffled:
        return np.arange(num_prompts)
    seed = int.from_bytes(comparison_id.encode(), "big")
    return np.random.default_rng(seed).permutation(num_prompts)


def run_table(
    columns: Sequence[Mapping[str, Any]],
    rows: Sequence[str],
    order: Sequence[int] | NDArray[np.int64],
    prompt: Prompt,
) -> Table:
    """Return the table of a side's run: what its template needs, each row with its prompt's number.

    Parameters
    ----------
    columns, rows
        As `Prompts` has them.
    order
        The prompts' numbers, in the order of the run.
    prompt : Prompt
    """
    names = [str(decoded(c["name"])) for c in columns if not c.get("index")]
    used = prompt.template.columns_used(names) or tuple(names[:1])
    places = [names.index(name) for name in used]
    own = [dict(column) for column in columns if not column.get("index")]
    kept: list[dict[str, Any]] = [own[place] for place in places]
    kept.append({"name": "prompt number", "dtype": "int64", "index": True})

    def values() -> Any:
        for number in order:
            row = json.loads(rows[int(number)])
            yield (*(decoded(row[place]) for place in places), int(number))

    return Table(kept, values(), len(order))
