"""A comparison as a file: JSON with all there is, CSV with a row a prompt, a notebook.

Promises: the file is there as a whole or not at all; what is in the JSON is what the store has,
with times in UTC and every setting; an ending that is none of these is refused. Leaves to others:
the notebook's cells (`export_notebook`).
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gguf_widgets.batch.files import write
from gguf_widgets.batch.files.new_file import new_file
from gguf_widgets.batch.table_rows import encoded
from gguf_widgets.compare.export_notebook import notebook_of
from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import InvalidValueError

if TYPE_CHECKING:
    from gguf_widgets.compare.comparison import Comparison

__all__ = ["as_dict", "export"]

_ENDINGS: Final = (".json", ".csv", ".ipynb")
_FORMAT: Final = "gguf-widgets comparison"
_VERSION: Final = 1


def export(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write a comparison to a file; the ending says how.

    Raises
    ------
    InvalidValueError
        The ending is another one.
    TableFileError
        It cannot be written; what was there before is untouched.
    """
    target = Path(expanded(os.fspath(path)))
    ending = target.suffix.lower()
    if ending not in _ENDINGS:
        raise InvalidValueError(
            f'A comparison is written to a file that ends in {", ".join(_ENDINGS)}, not "'
            f'{target.suffix[:20]}".',
            value=target.suffix[:20],
        )
    if ending == ".csv":
        return write(target, comparison.to_frame()).path
    if ending == ".json":
        return _write(target, json.dumps(as_dict(comparison), ensure_ascii=False, indent=1))
    notebook, companion = notebook_of(comparison, target)
    if companion is not None:
        _write(*companion)
    return _write(target, json.dumps(notebook, ensure_ascii=False, indent=1) + "\n")


def _write(target: Path, text: str) -> Path:
    with new_file(target) as part:
        part.write_text(text, "utf-8", errors="replace", newline="\n")
    return target


def as_dict(comparison: Comparison, *, with_rows: bool = True) -> dict[str, Any]:
    """Return all there is to a comparison as JSON's own types.

    Parameters
    ----------
    comparison : Comparison
    with_rows : bool, default True
        With the prompts, answers and scores of each row.
    """
    definition = comparison.definition.to_dict()
    definition.pop("version", None)
    told: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "id": comparison.id,
        "title": comparison.title,
        "status": comparison.status.value,
        "created_at": datetime.fromtimestamp(comparison.created_at, UTC).isoformat(),
        "num_prompts": comparison.num_prompts,
        **definition,
        "summary": [msgspec.to_builtins(one) for one in comparison.summaries()],
        "differences": [msgspec.to_builtins(one) for one in comparison.differences()],
        "standings": [msgspec.to_builtins(one) for one in comparison.standings()],
        "votes": [msgspec.to_builtins(one) for one in comparison.vote_list()],
    }
    if with_rows:
        told["rows"] = [
            {
                "number": row.number,
                "prompt": row.prompt,
                "values": encoded(row.values),
                "reference": encoded(row.reference),
                "answers": [msgspec.to_builtins(one) for one in row.answers],
            }
            for row in comparison.rows()
        ]
    return told
