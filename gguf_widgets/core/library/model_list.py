"""The list of models, as a table for people and a frame for programs; searched, sorted, filtered.

Promises: each of `search`, `sort` and `filter` returns a new list and refuses a name or value that
there is not; everything that comes from files is shown and never obeyed; what is not in the table
is said under it. Leaves to others: finding the models (`library`).
"""

from __future__ import annotations

import dataclasses
import html
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, overload

from gguf_widgets.core.format import format_bytes, format_count, plain_text
from gguf_widgets.core.library.duplicates import with_duplicates
from gguf_widgets.core.library.entry import ModelEntry
from gguf_widgets.core.library.hashes import Cancel, Progress
from gguf_widgets.core.library.query import filter_test, search_test, sort_key

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ModelList"]

# Judging whether a model fits takes some milliseconds each: a table of thousands must not hang.
_FITS_SHOWN: Final = 100

_HEADINGS: Final = (
    "Name", "Size", "Parameters", "Quantization", "Context", "Architecture", "Can", "Fits",
    "Last used", "Same as", "Where",
)  # fmt: skip
# Left out where no model has anything to say there.
_OPTIONAL: Final = ("Can", "Last used", "Same as")


class ModelList(list[ModelEntry]):
    """Models as a list that shows itself as a table.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> gw.models().search("qwen 4b q4").sort("size")  # doctest: +SKIP
    >>> gw.models().filter(fits=True, capability="vision").to_frame()  # doctest: +SKIP
    """

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> ModelEntry: ...
    @overload
    def __getitem__(self, index: slice, /) -> ModelList: ...
    def __getitem__(self, index: SupportsIndex | slice, /) -> ModelEntry | ModelList:
        if isinstance(index, slice):
            return ModelList(super().__getitem__(index))
        return super().__getitem__(index)

    def search(self, words: str) -> ModelList:
        """Return the models in which all words occur: in name, architecture, quantisation, source.

        Parameters
        ----------
        words : str
            Separated by spaces; capital letters do not matter. A word that begins with a digit has
            to stand where a number begins, so that "4b" does not find 14B.

        Raises
        ------
        InvalidValueError
            It is no text.
        """
        has_all = search_test(words)
        return ModelList(entry for entry in self if has_all(entry))

    def sort(  # type: ignore[override]
        self, key: str = "name", *, descending: bool = False
    ) -> ModelList:
        """Return the models in another order; this list stays as it is.

        Parameters
        ----------
        key : str, default "name"
            "name", "size", "parameters", "quantization", "context", "architecture", "source",
            "last_used" or "fits". Models of which it is not known come last.
        descending : bool, default False
            The largest, or latest, first.

        Raises
        ------
        InvalidValueError
            It cannot be sorted by that.
        """
        value = sort_key(key)
        known = [(value(entry), entry) for entry in self]
        ordered = sorted(
            (pair for pair in known if pair[0] is not None),
            key=lambda pair: pair[0],
            reverse=descending,
        )
        rest = [entry for found, entry in known if found is None]
        return ModelList([*(entry for _, entry in ordered), *rest])

    def filter(self, **wanted: Any) -> ModelList:
        """Return the models with all of some properties.

        Parameters
        ----------
        fits : bool or str, optional
            True: it can be loaded on this machine, with smaller settings if need be. False: it
            cannot. Or one of "yes", "with these settings", "no", "unknown".
        source : str, optional
            A program's key or name ("ollama", "LM Studio"), "own", "folder", "demo", or a folder
            that is a source of this list. A file that several know belongs to each.
        capability : str or iterable of str, optional
            "chat", "tools", "reasoning", "vision", "audio", "embeddings"; of several, all.
        usable : bool, optional
            Whether it is a model that can be loaded, as far as its header tells.

        Raises
        ------
        InvalidValueError
            For a property or a value that there is not.
        """
        found = list(self)
        for name, value in wanted.items():
            keep = filter_test(name, value, self)
            found = [entry for entry in found if keep(entry)]
        return ModelList(found)

    def check_duplicates(
        self, *, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> ModelList:
        """Return the same list with `duplicates_of` made sure by SHA-256.

        Every model that seems to be another's copy is read from its beginning to its end, unless
        its hash is known already.

        Parameters
        ----------
        progress, cancel : callable, optional
            As for `ModelEntry.sha256`; the bytes are those of all models together.

        Raises
        ------
        FileChangeError
            As for `ModelEntry.sha256`.
        """
        suspects = [entry for entry in self if entry.duplicates_of]
        total = sum(e.info.size_bytes for e in suspects if e.info and e.known_sha256 is None)
        done = 0
        known: dict[str, str] = {}
        for entry in suspects:

            def report(part: int, _whole: int, done: int = done) -> None:
                if progress is not None:
                    progress(min(done + part, total), total)

            known[entry.name] = entry.sha256(progress=report, cancel=cancel)
            if entry.info is not None and entry.known_sha256 is None:
                done += entry.info.size_bytes
        return ModelList(
            with_duplicates(
                dataclasses.replace(e, known_sha256=known.get(e.name, e.known_sha256)) for e in self
            )
        )

    def to_frame(self, *, fits: bool = True) -> pd.DataFrame:
        """Return a pandas DataFrame, one row a model.

        Parameters
        ----------
        fits : bool, default True
            Judge whether each fits this machine, which takes some milliseconds a model. With False
            the columns for that are empty.

        Returns
        -------
        DataFrame
            Columns: name, architecture, num_parameters, quantization, size_bytes, n_ctx_train,
            n_vocab, n_layer, num_files, license, source, path, error (None where all is well),
            program, kind, capabilities (a text with commas), fits, fit_settings (a dict),
            needed_bytes, last_used (UTC), mmproj, duplicates_of and places (lists of texts),
            sha256 (None where it would have to be computed).
        """
        import pandas as pd

        fields = ["architecture", "num_parameters", "quantization", "size_bytes", "n_ctx_train"]
        fields += ["n_vocab", "n_layer", "num_files", "license"]
        columns = ["name", *fields, "source", "path", "error", "program", "kind", "capabilities"]
        columns += ["fits", "fit_settings", "needed_bytes", "last_used", "mmproj", "duplicates_of"]
        columns += ["places", "sha256"]
        rows = []
        for entry in self:
            fit = entry.fit if fits else None
            rows.append(
                {
                    "name": entry.name,
                    **{name: getattr(entry.info, name, None) for name in fields},
                    "source": entry.source,
                    "path": str(entry.path),
                    "error": entry.error.message if entry.error else None,
                    "program": entry.program,
                    "kind": entry.kind,
                    "capabilities": ", ".join(entry.capabilities),
                    "fits": fit.verdict if fit else None,
                    "fit_settings": fit.settings if fit else None,
                    "needed_bytes": fit.needed_bytes if fit else None,
                    "last_used": entry.last_used,
                    "mmproj": str(entry.mmproj) if entry.mmproj else None,
                    "duplicates_of": list(entry.duplicates_of),
                    "places": [f"{place.source}: {place.path}" for place in entry.places],
                    "sha256": entry.known_sha256,
                }
            )
        # A path need not be text that can be encoded, which pandas' type for texts (with pyarrow)
        # does not take: these stay Python's own.
        as_they_are = ("path", "mmproj")
        frame = pd.DataFrame(
            {
                name: pd.Series(
                    [row[name] for row in rows], dtype="object" if name in as_they_are else None
                )
                for name in columns
            }
        )
        frame["last_used"] = pd.to_datetime(frame["last_used"], utc=True)
        return frame

    def __repr__(self) -> str:
        headings, rows = self._table()
        lines = [headings, *rows]
        # A reason may be long: it must not widen the columns of the others.
        whole = [row for row in lines if len(row) == len(headings)]
        widths = [max(len(row[0]) for row in lines)]
        widths += [max(len(row[i]) for row in whole) for i in range(1, len(headings))]
        texts = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
            for row in lines
        ]
        return "\n".join([*texts, *self._notes()])

    def _repr_html_(self) -> str:
        """Return the table for a notebook; names come from files, so everything is escaped."""
        headings, rows = self._table()
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in headings)
        body = []
        for cells in rows:
            shown = [html.escape(cell) for cell in cells]
            if len(cells) == len(headings):
                row = "".join(f"<td>{cell}</td>" for cell in shown)
            else:
                wide = len(headings) - 2
                row = f'<td>{shown[0]}</td><td colspan="{wide}">{shown[1]}</td><td>{shown[2]}</td>'
            body.append(f"<tr>{row}</tr>")
        all_columns = f'<tr><td colspan="{len(headings)}">'
        body += [f"{all_columns}{html.escape(note)}</td></tr>" for note in self._notes()]
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the headings and the rows; one of three cells is a file that cannot be used."""
        cells = [_cells(entry, judge=n < _FITS_SHOWN) for n, entry in enumerate(self)]
        whole = [row for row in cells if len(row) == len(_HEADINGS)]
        kept = [
            n
            for n, heading in enumerate(_HEADINGS)
            if heading not in _OPTIONAL or any(row[n] for row in whole)
        ]
        rows = [tuple(row[n] for n in kept) if len(row) == len(_HEADINGS) else row for row in cells]
        return tuple(_HEADINGS[n] for n in kept), rows

    def _notes(self) -> list[str]:
        if len(self) <= _FITS_SHOWN:
            return []
        note = (
            f"Whether it fits was judged for the first {_FITS_SHOWN} of {len(self):,}; "
            "filter(fits=True) and to_frame() judge all."
        )
        return [note]


def _cells(entry: ModelEntry, *, judge: bool) -> tuple[str, ...]:
    """Return a row's texts: eleven, or (name, reason, where) for a file that cannot be used."""
    also = {place.source for place in entry.places} - {entry.source}
    where = plain_text(entry.source, 200) + (f" and {len(also)} more" if also else "")
    if entry.info is None:
        return (entry.name, entry.error.message if entry.error else "", where)
    info = entry.info
    fit = entry.fit if judge else entry.machine.judged(entry.path)
    same = entry.duplicates_of
    return (
        entry.name,
        format_bytes(info.size_bytes),
        format_count(info.num_parameters),
        info.quantization,
        f"{info.n_ctx_train:,}",
        info.architecture,
        ", ".join(entry.capabilities),
        str(fit) if fit is not None else "",
        entry.last_used.astimezone().strftime("%Y-%m-%d") if entry.last_used else "",
        (same[0] + (f" and {len(same) - 1} more" if len(same) > 1 else "")) if same else "",
        where,
    )
