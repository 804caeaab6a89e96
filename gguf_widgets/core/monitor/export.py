"""The figures in a file: CSV, JSON or Parquet.

Promises: the file is there as a whole or as it was before; what another program reads from it are
the names, units and values of the tables. Leaves to others: which figures (`monitor`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError, TableFileError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ENDINGS", "checked_ending", "write"]

INSTALL_LINE: Final = 'pip install "gguf-widgets[tables]"'


def _csv(frame: pd.DataFrame, path: Path) -> None:
    _with_times_as_text(frame).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _json(frame: pd.DataFrame, path: Path) -> None:
    text = _with_times_as_text(frame).to_json(orient="records", indent=1, double_precision=15)
    path.write_text(f"{text}\n", encoding="utf-8")


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False, engine="pyarrow")


ENDINGS: Final[dict[str, Callable[[Any, Path], None]]] = {
    ".csv": _csv,
    ".json": _json,
    ".parquet": _parquet,
}


def checked_ending(path: Path) -> str:
    """Return how a file's name ends.

    Raises
    ------
    InvalidValueError
        No figures are written like that.
    MissingDependencyError
        The package for it is not installed.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InvalidValueError(
            f"The file is called {path.name!r:.80}; give it a name that ends in "
            f"{', '.join(list(ENDINGS)[:-1])} or {list(ENDINGS)[-1]}.",
            value=ending,
        )
    if ending == ".parquet":
        try:
            importlib.import_module("pyarrow")
        except ImportError as error:
            raise MissingDependencyError(
                "Parquet files need the package pyarrow, which is not installed. Install it: "
                f"{INSTALL_LINE}. Or save the figures as CSV, which needs nothing.",
                install=INSTALL_LINE,
                package="pyarrow",
            ) from error
    return ending


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a table; what was there before is replaced in one go.

    Raises
    ------
    InvalidValueError, MissingDependencyError
        As `checked_ending`.
    TableFileError
        The file cannot be written; what was there before is untouched.
    """
    make = ENDINGS[checked_ending(path)]
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        make(frame, new)
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise TableFileError(
            f"{path} could not be written: {error.strerror or error}. Check that its folder is "
            "there, that you may write to it, and that the disk is not full.",
            path=str(path),
        ) from error


def _with_times_as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Have times as ISO 8601, to the microsecond, in UTC."""
    shown = frame.copy()
    for name in shown.columns[[str(kind).startswith("datetime64") for kind in shown.dtypes]]:
        texts = shown[name].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        shown[name] = texts.astype("object").where(texts.notna(), None)
    return shown
