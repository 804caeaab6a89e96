"""Measured speeds as a table: for a terminal, a notebook, Markdown, CSV and JSON.

Promises: the same figures everywhere; settings are shown where they differ between rows; what comes
from files (names of models) is shown and never obeyed, nor computed by a spreadsheet. Leaves to
others: the rows (`row`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core import tables
from gguf_widgets.core.bench.compare import date_and_time
from gguf_widgets.core.bench.row import SETTINGS, BenchFailure, BenchRow
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes, format_count, plain_text

__all__ = [
    "FORMATS",
    "as_csv",
    "as_html",
    "as_json",
    "as_markdown",
    "as_text",
    "cells",
    "marked",
    "save",
]

FORMATS: Final = ("csv", "json", "md")

_TOOLTIPS: Final = {
    "Test": "pp512 reads a prompt of 512 tokens, tg128 writes 128; @ d4096 with 4,096 tokens in "
    "the context already; x 4 with four sequences at once",
    "Tokens/s": "Mean of the repetitions and their standard deviation; all sequences together",
    "Each": "Tokens per second that one of the sequences had",
    "Than before": "Beside the newest earlier measurement of the same on this machine",
}
_NAMES: Final = {
    "n_threads": "Threads",
    "n_batch": "n_batch",
    "n_ubatch": "n_ubatch",
    "n_gpu_layers": "GPU layers",
    "type_k": "type_k",
    "type_v": "type_v",
    "flash_attn": "flash_attn",
    "kv_unified": "kv_unified",
    "n_draft": "n_draft",
}


def cells(rows: Sequence[BenchRow], *, dates: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the cells of a table.

    Parameters
    ----------
    rows : sequence of BenchRow
    dates : bool, default False
        Also say when each was measured.
    """
    differing = [
        name for name in SETTINGS if len({row.model.settings.get(name) for row in rows}) > 1
    ]
    shown = ["n_threads", *(name for name in differing if name != "n_threads")]
    headings = ["Model", "Size", "Parameters", "Backend", *(_NAMES[name] for name in shown)]
    headings += ["Test", "Tokens/s"]
    several = any(row.test.n_seq > 1 for row in rows)
    compared = any(row.change is not None for row in rows)
    headings += ["Each"] if several else []
    headings += ["When"] if dates else ["Than before"] if compared else []
    found = []
    for row in rows:
        model = row.model
        line = [
            f"{plain_text(model.name, 40)} {model.quantization}"
            if model.quantization.casefold() not in model.name.casefold()
            else plain_text(model.name, 50),
            format_bytes(model.size_bytes),
            format_count(model.num_parameters),
            "GPU" if model.settings.get("n_gpu_layers") and row.machine.gpus else "CPU",
            *(_setting(model.settings.get(name)) for name in shown),
            row.test.name,
            speed(row),
        ]
        if several:
            line.append(_number(row.each_tok_per_s) if row.test.n_seq > 1 else "")
        if dates:
            line.append(date_and_time(row.at))
        elif compared:
            line.append(_change(row))
        found.append(line)
    return headings, found


def speed(row: BenchRow) -> str:
    """Return "345.6 ± 1.2"; without a spread where there is a single repetition."""
    deviation = row.stdev_tok_per_s
    text = _number(row.avg_tok_per_s)
    return text if deviation is None else f"{text} ± {_number(deviation)}"


def as_text(rows: Sequence[BenchRow], *, dates: bool = False) -> str:
    """Return the table for a terminal."""
    return tables.as_text(*cells(rows, dates=dates))


def as_html(rows: Sequence[BenchRow], *, dates: bool = False) -> str:
    """Return the table for a notebook."""
    return tables.as_html(*cells(rows, dates=dates), _TOOLTIPS)


def as_markdown(rows: Sequence[BenchRow], *, dates: bool = False) -> str:
    """Return the table as llama-bench prints it: numbers at the right."""
    headings, found = cells(rows, dates=dates)
    left = {"Model", "Backend", "Than before", "When"}
    rule = ["---" if name in left else "---:" for name in headings]
    lines = [headings, rule, *([marked(cell) for cell in line] for line in found)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def as_csv(rows: Sequence[BenchRow]) -> str:
    """Return all facts of all rows, one row a line; lists are joined by blanks."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    plain = [row.to_dict() for row in rows]
    names = list(plain[0]) if plain else ["model", "test", "avg_tok_per_s"]
    writer.writerow(names)
    for one in plain:
        writer.writerow([_csv_cell(one[name]) for name in names])
    return file.getvalue()


def as_json(
    rows: Sequence[BenchRow], failures: Sequence[BenchFailure] = (), notes: Sequence[str] = ()
) -> str:
    """Return all facts as JSON; the rows' names are the columns of `to_frame`."""
    document = {
        "format": "gguf-widgets bench 1",
        "results": [row.to_dict() for row in rows],
        "failures": [
            {"model": one.model, "test": one.test, "error": one.kind, "message": one.message}
            for one in failures
        ],
        "notes": list(notes),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def save(path: str | Path, make: Callable[[str], str], *, replace: bool) -> Path:
    """Write a file in the form that its ending says.

    Parameters
    ----------
    path : str or Path
    make : callable
        Given one of `FORMATS`, returns the text.
    replace : bool
        Whether the file may be there already.

    Raises
    ------
    InvalidValueError
        The ending says nothing, the file is there already, or it cannot be written.
    """
    file = Path(path)
    form = file.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise InvalidValueError(
            f"{plain_text(file.name)!r} does not say by its ending what it is to be. Known are "
            f"{', '.join(f'.{one}' for one in FORMATS)}.",
            value=file.suffix,
        )
    text = make(form)
    try:
        with file.open("w" if replace else "x", encoding="utf-8", newline="") as out:
            out.write(text)
    except FileExistsError as error:
        raise InvalidValueError(
            f"{plain_text(str(file))} is there already. Give another name, or replace=True.",
            path=str(file),
        ) from error
    except OSError as error:
        raise InvalidValueError(
            f"{plain_text(str(file))} cannot be written: {error.strerror or error}.",
            path=str(file),
        ) from error
    return file.absolute()


def _number(value: float) -> str:
    return f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"


def _setting(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _change(row: BenchRow) -> str:
    change = row.change
    if change is None:
        return ""
    if change.ratio is None or change.verdict not in ("faster", "slower"):
        return {"same": "about the same", "unclear": "cannot be told"}.get(
            change.verdict, "not compared"
        )
    return f"{abs(change.ratio - 1):.0%} {change.verdict}"


def marked(cell: str) -> str:
    """Keep a cell inside its place in a Markdown table, and HTML out of it."""
    shown = plain_text(cell, 2000).replace("&", "&amp;").replace("<", "&lt;")
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(f"{item:.9g}" for item in value)
    # A spreadsheet would compute a text that begins like this.
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
