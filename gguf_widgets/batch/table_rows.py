"""A table's rows as JSON for the store, and back.

Promises: a row that was kept is read again with the same values and types; a value that cannot be
kept is refused before the run, with its column and row; column names and the index come back, too.
Leaves to others: reading files (`files`), which columns a template uses (`template`).

A row is a JSON list: the columns in their order, then the levels of the index. JSON's own types
stand for themselves; what is missing (None, NaN, NaT, pandas.NA) is null; of the others each is an
object with one key:

=============  ====================================================================================
``$time``      a date with a time, ISO 8601
``$date``      a date
``$clock``     a time of day
``$span``      a length of time in nanoseconds
``$float``     "inf" or "-inf"
``$decimal``   a `decimal.Decimal`
``$bytes``     bytes, base64
``$path``      a `pathlib.Path`
``$image``     an image of Pillow's, as a PNG, base64; without Pillow it comes back as these bytes
``$dict``      a dict: a list of pairs, so that none of the above can be forged
=============  ====================================================================================
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import importlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gguf_widgets.batch.files import Pasted, RowSource, read
from gguf_widgets.core.errors import InvalidValueError, RowError
from gguf_widgets.core.images import image

__all__ = ["Table", "decoded", "encoded", "frame_of", "row_of"]

_DEEPEST: Final = 50


def encoded(value: Any, depth: int = 0) -> Any:
    """Return a cell's value in JSON's types.

    Raises
    ------
    TypeError
        It is of a kind that cannot be kept.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return float(value) if math.isfinite(value) else {"$float": "inf" if value > 0 else "-inf"}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, Path):
        return {"$path": str(value)}
    if type(value).__module__.partition(".")[0] == "PIL" and hasattr(value, "save"):
        return {"$image": base64.b64encode(image(value).data).decode("ascii")}
    if isinstance(value, decimal.Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, Mapping | list | tuple) or type(value).__name__ == "ndarray":
        if depth >= _DEEPEST:
            raise TypeError(f"a value nested more than {_DEEPEST} deep")
        if isinstance(value, Mapping):
            pairs = [[encoded(k, depth + 1), encoded(v, depth + 1)] for k, v in value.items()]
            return {"$dict": pairs}
        items = value.tolist() if hasattr(value, "tolist") else value
        return [encoded(item, depth + 1) for item in items]
    return _encoded_moment(value)


def _encoded_moment(value: Any) -> Any:
    """Encode dates and times, pandas' missing values and NumPy's scalars."""
    kind = type(value).__name__
    if kind in ("NaTType", "NAType"):
        return None
    if kind == "datetime64":
        import pandas as pd

        return encoded(pd.Timestamp(value))
    if isinstance(value, dt.datetime):  # pandas.Timestamp is one; its text has nanoseconds
        return {"$time": value.isoformat()}
    if isinstance(value, dt.date):
        return {"$date": value.isoformat()}
    if isinstance(value, dt.time):
        return {"$clock": value.isoformat()}
    if isinstance(value, dt.timedelta):
        if hasattr(value, "value"):  # pandas.Timedelta
            return {"$span": int(value.value)}
        return {"$span": round(value / dt.timedelta(microseconds=1)) * 1000}
    if kind == "timedelta64":
        import pandas as pd

        return encoded(pd.Timedelta(value))
    item = getattr(value, "item", None)
    if type(value).__module__ == "numpy" and callable(item):
        plain = item()
        if type(plain) is not type(value):
            return encoded(plain)
    raise TypeError(f"a {kind}")


def decoded(value: Any, *, as_file: bool = False) -> Any:
    """Return the value that `encoded` was given; dates and times as pandas' own.

    Parameters
    ----------
    value
    as_file : bool, default False
        Have a file's bytes, of PNG, in place of an image of Pillow's.
    """
    if isinstance(value, list):
        return [decoded(item, as_file=as_file) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "$dict":
        return {decoded(key): decoded(item, as_file=as_file) for key, item in inner}
    if kind == "$float":
        return math.inf if inner == "inf" else -math.inf
    if kind == "$bytes":
        return base64.b64decode(inner)
    if kind == "$path":
        return Path(inner)
    if kind == "$image":
        data = base64.b64decode(inner)
        return data if as_file else _picture(data)
    if kind == "$decimal":
        return decimal.Decimal(inner)
    if kind == "$date":
        return dt.date.fromisoformat(inner)
    if kind == "$clock":
        return dt.time.fromisoformat(inner)
    import pandas as pd

    return pd.Timestamp(inner) if kind == "$time" else pd.Timedelta(inner, unit="ns")


def _picture(data: bytes) -> Any:
    """Return Pillow's image, or its bytes where Pillow is not installed."""
    try:
        pillow = importlib.import_module("PIL.Image")
    except ImportError:
        return data
    opened = pillow.open(io.BytesIO(data))
    opened.load()
    return opened


class Table:
    """What a run is given to work on: named columns, and rows that are read once.

    Parameters
    ----------
    columns : sequence of dict
        As the store keeps them: ``name`` (a column's name in JSON's types), ``dtype`` (as pandas
        writes it, or ""), for a categorical one ``categories`` and ``ordered``; those of the index
        have ``index`` true and may have None for a name.
    rows : iterable of sequence
        The values of each row, the columns in their order, then the index's.
    num_rows : int or None
        How many, if that is known before they are read.
    """

    def __init__(
        self,
        columns: Sequence[Mapping[str, Any]],
        rows: Iterable[Sequence[Any]],
        num_rows: int | None = None,
    ) -> None:
        self.columns = [dict(column) for column in columns]
        self.num_rows = num_rows
        self._rows = rows
        self.names = [str(decoded(c["name"])) for c in self.columns if not c.get("index")]
        _refuse_duplicates(self.names)

    @classmethod
    def of(cls, table: Any) -> Table:
        """Take what a person gives.

        Parameters
        ----------
        table : DataFrame, Series, dict of lists, list of dicts, list of texts, or path
            Of a list of texts, and of a Series without a name, the column is called "text". A path,
            `files.Pasted` text or a `files.RowSource` is read row by row; see `files.read`.

        Raises
        ------
        InvalidValueError
            It is none of these, has no column or no row, or two columns of one name.
        TableFileError
            The file cannot be read.
        """
        import pandas as pd

        if isinstance(table, Table):
            return table
        if isinstance(table, str | os.PathLike | Pasted):
            table = read(table)
        if isinstance(table, RowSource):
            return _from_file(cls, table)
        if isinstance(table, pd.Series):
            name = "text" if table.name is None else table.name
            table = table.to_frame(name=name)
        elif isinstance(table, Mapping):
            table = _framed(dict(table), "The table is a dict; it needs lists of one length.")
        elif isinstance(table, list | tuple):
            table = _listed(table)
        if not isinstance(table, pd.DataFrame):
            raise InvalidValueError(
                f"The table is a {type(table).__name__}. Give a DataFrame, a Series, a list of "
                "texts, a list of dicts, a dict of lists, or the path of a file."
            )
        if len(table.columns) == 0 or len(table) == 0:
            lacks = "column" if len(table.columns) == 0 else "row"
            raise InvalidValueError(f"The table is empty: it has no {lacks}.")
        return cls(_columns_of(table), _rows_of(table), len(table))

    def as_json(self) -> Iterator[str]:
        """Yield each row as JSON.

        Raises
        ------
        RowError
            A value cannot be kept; the message has its column and row.
        """
        names = [str(decoded(column["name"])) for column in self.columns]
        for number, row in enumerate(self._rows, 1):
            values = []
            for name, value in zip(names, row, strict=True):
                try:
                    values.append(encoded(value))
                except (TypeError, ValueError, RecursionError) as error:
                    raise RowError(
                        f'Row {number:,}, column "{name}" holds {error}, which cannot be kept. '
                        "Turn it into text or a number first.",
                        row=number,
                        column=name,
                    ) from error
            yield _to_text(values)


def row_of(names: Sequence[str], data: str) -> dict[str, Any]:
    """Return a row as a template takes it: values by the columns' names, without the index."""
    return dict(zip(names, (decoded(value) for value in json.loads(data)), strict=False))


def frame_of(columns: Sequence[Mapping[str, Any]], rows: Iterable[str]) -> Any:
    """Return the DataFrame that `Table.of` was given."""
    import pandas as pd

    lists: list[list[Any]] = [[] for _ in columns]
    for data in rows:
        for values, value in zip(lists, json.loads(data), strict=True):
            values.append(decoded(value))
    made = [_series(values, column) for values, column in zip(lists, columns, strict=True)]
    own = [s for s, column in zip(made, columns, strict=True) if not column.get("index")]
    levels = [s for s, column in zip(made, columns, strict=True) if column.get("index")]
    frame = pd.concat(own, axis=1) if own else pd.DataFrame(index=range(len(made[0])))
    frame.columns = _labels([decoded(c["name"]) for c in columns if not c.get("index")])
    names = [decoded(c["name"]) for c in columns if c.get("index")]
    if len(levels) == 1:
        frame.index = pd.Index(levels[0], name=names[0])
    elif levels:
        frame.index = pd.MultiIndex.from_arrays(levels, names=names)
    return frame


def _to_text(values: list[Any]) -> str:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which is kept as its number
        return json.dumps(values, separators=(",", ":"), allow_nan=False)
    return text


def _from_file(cls: type[Table], source: RowSource) -> Table:
    """Take a file's rows as they come; they are numbered from 0, as pandas would."""
    if not source.columns or not source.num_rows:
        raise InvalidValueError(f'The table "{source.name}" is empty: it has no row.')
    columns: list[dict[str, Any]] = [
        {"name": name, "dtype": dtype} for name, dtype in source.dtypes.items()
    ]
    columns.append({"name": None, "dtype": "int64", "index": True})
    rows = ((*row, number) for number, row in enumerate(source.tuples()))
    return cls(columns, rows, source.num_rows)


# -- from pandas -----------------------------------------------------------------------------------


def _framed(data: Any, otherwise: str) -> Any:
    import pandas as pd

    try:
        return pd.DataFrame(data)
    except (ValueError, TypeError) as error:
        raise InvalidValueError(f"{otherwise} ({error})") from error


def _listed(items: Sequence[Any]) -> Any:
    if items and all(isinstance(item, str) for item in items):
        return _framed({"text": list(items)}, "")
    if items and all(isinstance(item, Mapping) for item in items):
        return _framed(list(items), "The table is a list of dicts that makes no table.")
    if not items:
        raise InvalidValueError("The table is empty: it has no row.")
    kinds = sorted({type(item).__name__ for item in items})
    raise InvalidValueError(
        f"The table is a list of {', '.join(kinds[:5])}. Give a list of texts, or one of dicts."
    )


def _columns_of(frame: Any) -> list[dict[str, Any]]:
    columns = [_described(name, frame.iloc[:, i].dtype) for i, name in enumerate(frame.columns)]
    levels = [frame.index.get_level_values(i) for i in range(frame.index.nlevels)]
    return columns + [_described(level.name, level.dtype) | {"index": True} for level in levels]


def _described(name: Any, dtype: Any) -> dict[str, Any]:
    import pandas as pd

    try:
        label = encoded(name)
    except TypeError as error:
        raise InvalidValueError(
            f"A column's name is {name!r}, {error}. Give it a name that is text."
        ) from error
    described = {"name": label, "dtype": str(dtype)}
    if isinstance(dtype, pd.CategoricalDtype):
        described["categories"] = [encoded(one) for one in dtype.categories]
        described["ordered"] = bool(dtype.ordered)
        described["of"] = str(dtype.categories.dtype)
    return described


def _rows_of(frame: Any) -> Iterator[tuple[Any, ...]]:
    columns = [frame.iloc[:, i] for i in range(len(frame.columns))]
    levels = [frame.index.get_level_values(i) for i in range(frame.index.nlevels)]
    return zip(*columns, *levels, strict=True)


def _series(values: list[Any], column: Mapping[str, Any]) -> Any:
    import pandas as pd

    dtype: Any = column.get("dtype") or "object"
    if "categories" in column:
        categories = pd.Index([decoded(one) for one in column["categories"]])
        kind = pd.CategoricalDtype(categories.astype(column["of"]), ordered=column["ordered"])
        return pd.Series(pd.Categorical(values, dtype=kind))
    series = pd.Series(values, dtype="object")
    if dtype == "object":
        return series
    try:
        return series.astype(dtype)
    except (TypeError, ValueError):
        # A type of an extension that is not installed here: the values are all there.
        return series


def _labels(names: list[Any]) -> Any:
    import pandas as pd

    if names and all(isinstance(name, list) for name in names):
        return pd.MultiIndex.from_tuples([tuple(name) for name in names])
    return pd.Index([tuple(name) if isinstance(name, list) else name for name in names])


def _refuse_duplicates(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if names else []
    if twice:
        shown = ", ".join(f'"{name}"' for name in twice[:5])
        raise InvalidValueError(
            f"Several columns are called {shown}: a template could not tell them apart. Rename "
            "them first.",
            columns=twice,
        )
