"""The models on this machine, found by their files.

Promises: `ModelLibrary.entries` lists the bundled demo model and every .gguf file in the models
folders, each under a name of its own; a file that cannot be used is listed with its reason, never
left out and never fatal; headers are read again only when their file has changed. Leaves to others:
downloading (`hf:`), loading (`manager`), and showing (`widgets.model_picker`).
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import html
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gguf_widgets.core import config
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    ModelNotFoundError,
    NotAFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import format_bytes, format_count, plain_text
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library_cache import HEADERS, identities
from gguf_widgets.core.library_scan import FoundFile, scan
from gguf_widgets.core.types import ModelInfo

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEMO_NAME", "ModelEntry", "ModelLibrary", "ModelList", "models"]

DEMO_NAME: Final = "demo"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelEntry:
    """One line of the list of models.

    Attributes
    ----------
    name : str
        Unique in its list; what `load` takes.
    path : Path
        The file; of a split model the first part there is.
    info : ModelInfo or None
        None if the file cannot be used.
    error : GgufWidgetsError or None
        Why it cannot be used.
    source : str
        "demo", "models folder", or the folder it was found in.
    """

    name: str
    path: Path
    info: ModelInfo | None
    error: GgufWidgetsError | None
    source: str


class ModelList(list[ModelEntry]):
    """Models as a list that shows itself as a table."""

    _HEADINGS: Final = ("Name", "Size", "Parameters", "Quantization", "Context", "Where")

    def __repr__(self) -> str:
        rows = [self._HEADINGS, *(_cells(entry) for entry in self)]
        # A reason may be long: it must not widen the columns of the others.
        whole = [row for row in rows if len(row) == len(self._HEADINGS)]
        widths = [max(len(row[0]) for row in rows)]
        widths += [max(len(row[i]) for row in whole) for i in range(1, len(self._HEADINGS))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        """Return the table for a notebook; names come from files, so everything is escaped."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self._HEADINGS)
        body = []
        for entry in self:
            cells = [html.escape(cell) for cell in _cells(entry)]
            if entry.error is None:
                row = "".join(f"<td>{cell}</td>" for cell in cells)
            else:
                row = f'<td>{cells[0]}</td><td colspan="4">{cells[1]}</td><td>{cells[2]}</td>'
            body.append(f"<tr>{row}</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame, one row a model.

        Columns: name, architecture, num_parameters, quantization, size_bytes, n_ctx_train, n_vocab,
        n_layer, num_files, license, source, path, error (None where all is well).
        """
        import pandas as pd

        fields = ["architecture", "num_parameters", "quantization", "size_bytes", "n_ctx_train"]
        fields += ["n_vocab", "n_layer", "num_files", "license"]
        columns = ["name", *fields, "source", "path", "error"]
        rows = [
            {
                "name": entry.name,
                **{name: getattr(entry.info, name, None) for name in fields},
                "source": entry.source,
                "path": str(entry.path),
                "error": entry.error.message if entry.error else None,
            }
            for entry in self
        ]
        return pd.DataFrame(rows, columns=columns)


def _cells(entry: ModelEntry) -> tuple[str, ...]:
    """Return a row's texts: six, or (name, reason, where) for a file that cannot be used."""
    source = plain_text(entry.source, 200)
    if entry.info is None:
        return (entry.name, entry.error.message if entry.error else "", source)
    info = entry.info
    return (
        entry.name,
        format_bytes(info.size_bytes),
        format_count(info.num_parameters),
        info.quantization,
        f"{info.n_ctx_train:,}",
        source,
    )


class ModelLibrary:
    """The models in some folders, and the bundled demo.

    Parameters
    ----------
    folders : path-like or iterable of path-like, optional
        Where to look. Default: the models folder and those of ``GGUF_WIDGETS_MODELS``, asked for
        again each time.
    """

    def __init__(
        self,
        folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    ) -> None:
        if isinstance(folders, str | os.PathLike):
            folders = [folders]
        self._folders = None if folders is None else [config.expanded(f) for f in folders]

    @property
    def folders(self) -> list[Path]:
        """The folders that are looked through."""
        if self._folders is not None:
            return list(self._folders)
        return [config.models_dir(), *config.extra_model_dirs()]

    def entries(self) -> list[ModelEntry]:
        """Return all models: the demo first, then folder by folder, by name.

        Reading 50 headers takes some 0.5 s the first time and no more than a look at each file's
        date after that.
        """
        return [self._entry(name, found) for name, found in self._named()]

    def resolve(self, name_or_path: str | os.PathLike[str]) -> Path:
        """Return the absolute path of a model's file (of a split model: of its first part).

        Parameters
        ----------
        name_or_path : str or path-like
            A name from `entries` (capital letters do not matter), or a path.

        Raises
        ------
        ModelNotFoundError
            If there is none; the message has the nearest names.
        NotAFileError
            If the path is a folder.
        UnreadableFileError
            If it is in a folder that you may not look into.
        """
        text = os.fspath(name_or_path)
        if not isinstance(name_or_path, os.PathLike):
            if text.startswith("hf:"):
                raise ModelNotFoundError(
                    "Getting models by an address that begins with hf: does not work yet. Download "
                    f"the .gguf file in your browser and put it into {self._home()}.",
                    name=text,
                )
            named = self._named()
            for name, found in named:
                if name == text:
                    return found.path
            for name, found in named:
                if name.casefold() == text.casefold():
                    return found.path
        else:
            named = []
        return self._resolve_path(text, named)

    def change_token(self) -> str:
        """Return a text that changes whenever the list may have changed; cheap enough to poll."""
        digest = hashlib.blake2b(digest_size=16)
        for name, found in self._named():
            digest.update(repr((name, str(found.path), identities(found.path))).encode())
        return digest.hexdigest()

    def _named(self) -> list[tuple[str, FoundFile]]:
        """Find all files and give each a name of its own, without reading any."""
        demo = _demo()
        found = scan(self.folders, known=(demo.path,))
        named = [(DEMO_NAME, demo)]
        taken = {DEMO_NAME.casefold()}
        for file in found:
            name = _unique(file, taken)
            taken.add(name.casefold())
            named.append((name, file))
        return named

    def _entry(self, name: str, found: FoundFile) -> ModelEntry:
        if found.error is not None:
            return ModelEntry(name, found.path, None, found.error, found.source)
        info, error = HEADERS.read(found.path)
        return ModelEntry(name, found.path, info, error, found.source)

    def _resolve_path(self, text: str, named: list[tuple[str, FoundFile]]) -> Path:
        path = config.expanded(text)
        exists, is_folder = True, False
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except PermissionError as error:
            raise UnreadableFileError(
                f'You have no permission to look into the folder of "{plain_text(text, 200)}". '
                "Change its permissions, or ask its owner.",
                path=str(path),
            ) from error
        except (OSError, ValueError):  # not there, too long, or with a zero byte
            exists = False
        if is_folder:
            raise NotAFileError(
                f'"{plain_text(text, 200)}" is a folder. Choose a model file (.gguf) inside it.',
                path=str(path),
            )
        if exists:
            split = split_name(path)
            first = split.path_of(1, path.parent) if split else path
            return first if first.exists() else path
        shown = plain_text(text, 200)
        near = difflib.get_close_matches(text, [name for name, _ in named], n=3, cutoff=0.5)
        if os.sep in text or text.endswith(".gguf"):
            message = f'There is no file "{shown}".'
        else:
            message = f'There is no model called "{shown}" in {self._home()}.'
        if near:
            message += " Did you mean " + " or ".join(f'"{name}"' for name in near) + "?"
        raise ModelNotFoundError(message, name=text, near=near)

    def _home(self) -> str:
        folders = self.folders
        return f"the folder {plain_text(str(folders[0]), 200)}" if folders else "the models folder"


def models() -> ModelList:
    """Return every model on this machine: the bundled demo and the files in the models folders.

    Examples
    --------
    >>> models()[0].name
    'demo'
    """
    return ModelList(ModelLibrary().entries())


def _demo() -> FoundFile:
    """Find the bundled model; an installation without it says so in its line of the list."""
    from gguf_widgets import demo  # Late: only the list needs it.

    try:
        return FoundFile(demo.demo_model_path().absolute(), "demo")
    except FileNotFoundError as error:
        path = Path(demo.__file__).absolute().with_name(demo.MODEL_FILE)
        return FoundFile(path, "demo", ModelNotFoundError(str(error), path=str(path)))


def _unique(file: FoundFile, taken: set[str]) -> str:
    """Name a file after itself; where that is taken, its folders tell it apart, then a number."""
    split = split_name(file.path)
    stem = split.stem if split else file.path.stem
    name = plain_text(stem, 200).strip() or "unnamed"
    folder = file.path.parent
    candidates = [name]
    candidates += [
        f"{name} ({plain_text(part, 60)})" for part in (folder.name, str(folder)) if part
    ]
    for candidate in candidates:
        if candidate.casefold() not in taken:
            return candidate
    number = 2
    while f"{name} ({number})".casefold() in taken:
        number += 1
    return f"{name} ({number})"
