"""A file or a pasted text that was looked at, and how it is to be read.

Promises: what was found (encoding, delimiter, whether the first row holds names) can be changed,
each with what was found beside it; a change that cannot be is told, and the table stays as it was;
a file with faults is shown with them and with what mends them. Leaves to others: reading
(`batch.files`), how the file came here (`_batch_source`).
"""

from __future__ import annotations

from typing import Any, Final

from gguf_widgets.batch import files
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, TableFileError
from gguf_widgets.widgets._batch_cells import shown
from gguf_widgets.widgets._batch_source import SHOWN_COLUMNS, Given

__all__ = ["Looked"]

_FIRST: Final = 8  # rows that are shown
_MENDS: Final[dict[str, tuple[str, ...]]] = {
    "ragged": ("refuse", "fill", "skip"),
    "duplicates": ("refuse", "number"),
}
_HEADERS: Final = {"yes": True, "no": False}
_LINES: Final = "lines"  # no delimiter: each line is one cell
_DELIMITERS: Final = {
    ",": "Comma",
    ";": "Semicolon",
    "\t": "Tab",
    "|": "Bar",
    " ": "Space",
    ":": "Colon",
}
_ENCODINGS: Final = {
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "cp1252": "Western European (Windows, cp1252)",
    "iso8859-1": "Western European (latin-1)",
    "cp850": "Western European (DOS, cp850)",
    "cp1250": "Central European (cp1250)",
    "cp1251": "Cyrillic (cp1251)",
    "koi8-r": "Cyrillic (koi8-r)",
    "cp1253": "Greek (cp1253)",
    "cp1254": "Turkish (cp1254)",
    "cp1255": "Hebrew (cp1255)",
    "cp1256": "Arabic (cp1256)",
    "cp932": "Japanese (Shift JIS)",
    "euc_jp": "Japanese (EUC)",
    "gb18030": "Chinese, simplified (GB 18030)",
    "big5": "Chinese, traditional (Big5)",
    "cp949": "Korean (cp949)",
}
_AS_TEXT: Final = (files.Format.CSV, files.Format.TSV, files.Format.TXT)
_NO_TEXT: Final = (".xls", ".xlsx", ".xlsm", ".parquet", ".pq")


class Looked:
    """A table's file or text, and how it is read.

    Parameters
    ----------
    source : TableSource
    name : str

    Attributes
    ----------
    told : dict
        What the page shows of it.
    """

    def __init__(self, source: files.TableSource, name: str) -> None:
        self.source, self.name = source, name
        self._is_pasted = isinstance(source, files.Pasted)
        self._wanted: dict[str, Any] = {}
        self._options: dict[str, Any] = {}  # with which it was read
        self._given: Given | None = None
        self._info: files.TableInfo | None = None
        self._found: dict[str, Any] = {}  # of each setting, where nothing was chosen
        self._error = self._refused = ""
        self._mends: list[str] = []
        self._num_reads = 0
        self.told: dict[str, Any] = {"name": name, "error": ""}

    def choose(self, options: Any) -> None:
        """Set how it is to be read the next time; "" is what was found.

        Parameters
        ----------
        options : dict
            Those that change: "header" ("yes", "no"), "encoding", "delimiter" (or "lines"),
            "sheet", "ragged", "duplicates".

        Raises
        ------
        InvalidValueError
            There is no such setting, or it cannot be this.
        """
        if not isinstance(options, dict):
            raise InvalidValueError("How a file is read is told by name.")
        wanted = dict(self._options)
        for name, value in options.items():
            if not isinstance(value, str) or len(value) > 200:
                raise InvalidValueError(f"A file cannot be read with {name!r:.40} so.")
            _set(wanted, str(name), value)
        self._wanted = wanted

    def read(self) -> Given | None:
        """Look at it and, if nothing is wrong with it, read it; else return what there was."""
        self._refused = ""
        self._num_reads += 1
        try:
            info, given = self._read(self._wanted)
        except GgufWidgetsError as error:
            if self._info is None:
                self._error, self._options = error.message, self._wanted
            else:
                self._refused = f"{error.message} It is read as before."
        else:
            mends = [kind for kind in _MENDS if self._can_mend(kind, info, self._wanted)]
            if self._given is not None and info.problems and not mends:
                self._refused = f"{' '.join(info.problems[:2])} It is read as before."
            else:
                self._error = ""
                self._options, self._info, self._given = self._wanted, info, given
                self._mends = mends
                self._note_found(info)
        self.told = self._view()
        return self._given

    def _read(self, options: dict[str, Any]) -> tuple[files.TableInfo, Given | None]:
        info = files.look(self.source, name=self.name, num_rows=_FIRST, **options)
        if info.problems:
            return info, None
        source = files.read(self.source, name=self.name, **options)
        frame, words = source.to_frame(), info.describe()
        return info, Given(frame, self.name, words=words, is_file=True, read_with=dict(options))

    def _note_found(self, info: files.TableInfo) -> None:
        for name in ("header", "encoding", "delimiter"):
            if name not in self._options and "format" not in self._options:
                self._found[name] = getattr(info, name)

    # -- for the page -----------------------------------------------------------------------------

    def _view(self) -> dict[str, Any]:
        info = self._info
        told: dict[str, Any] = {
            "name": self.name,
            "error": self._error,
            "refused": self._refused,
            "settings": self._settings(),
            "reads": self._num_reads,  # so that a page shows again what was refused twice
        }
        if info is None:
            return told
        return told | {
            "words": info.describe(),
            "problems": list(info.problems),
            "notes": list(info.notes),
            "sheets": list(info.sheets),
            "sheet": info.sheet,
            "mends": [
                {"name": kind, "value": self._options.get(kind, "refuse")} for kind in self._mends
            ],
            "columns": list(info.columns[:SHOWN_COLUMNS]),
            "first": [[shown(one) for one in row[:SHOWN_COLUMNS]] for row in info.rows],
        }

    def _settings(self) -> list[dict[str, Any]]:
        """Return what can be chosen of it, each with what was found and what is chosen."""
        info, options = self._info, self._options
        kind = None if info is None else info.format
        is_text = kind in _AS_TEXT
        if info is None:
            is_text = not self.name.lower().endswith(_NO_TEXT)
        settings = []
        if kind is files.Format.EXCEL or (is_text and kind is not files.Format.TXT):
            chosen = options.get("header")
            has_names = self._found.get("header")
            found = "it has names" if has_names else "it is a row like the others"
            choices = [["yes", "Names of the columns"], ["no", "A row like the others"]]
            settings.append(
                self._setting(
                    "header",
                    "The first row has",
                    "" if chosen is None else "yes" if chosen else "no",
                    None if has_names is None else found,
                    choices,
                )
            )
        if is_text:
            found_mark = self._found.get("delimiter")
            words = "" if found_mark is None else _DELIMITERS.get(found_mark, f"“{found_mark}”")
            choices = [[mark, name] for mark, name in _DELIMITERS.items()]
            chosen = options.get("delimiter", _LINES if "format" in options else "")
            if chosen and chosen not in _DELIMITERS and chosen != _LINES:
                choices.append([chosen, f"“{chosen}”"])
            choices.append([_LINES, "Nothing: a line is a cell"])
            settings.append(
                self._setting(
                    "delimiter",
                    "Cells are parted by",
                    chosen,
                    words.lower() or ("nothing" if found_mark == "" else None),
                    choices,
                )
                | {"other": True}
            )
        if not self._is_pasted and (is_text or (info is not None and info.encoding)):
            chosen = options.get("encoding", "")
            choices = [[name, label] for name, label in _ENCODINGS.items()]
            if chosen and chosen not in _ENCODINGS:
                choices.append([chosen, chosen])
            settings.append(
                self._setting("encoding", "Encoding", chosen, self._found.get("encoding"), choices)
            )
        return settings

    @staticmethod
    def _setting(
        name: str, label: str, chosen: str, found: str | None, choices: list[list[str]]
    ) -> dict[str, Any]:
        auto = ["", f"Found: {found}" if found else "Find it"]
        return {"name": name, "label": label, "value": chosen, "choices": [auto, *choices]}

    def _can_mend(self, option: str, info: files.TableInfo, options: dict[str, Any]) -> bool:
        """Say whether reading the file another way would mend one of its faults."""
        if options.get(option, "refuse") != "refuse":
            return True  # so that it can be taken back
        if not info.problems:
            return False
        other = {**options, option: _MENDS[option][1]}
        try:
            mended = files.look(self.source, name=self.name, num_rows=0, **other)
        except (TableFileError, InvalidValueError):
            return False
        return len(mended.problems) < len(info.problems)


def _set(options: dict[str, Any], name: str, value: str) -> None:
    """Set one option by what the page calls it."""
    if name in _MENDS and value in _MENDS[name]:
        options[name] = value
    elif name == "header" and value in ("", *_HEADERS):
        options.pop(name, None)
        if value:
            options[name] = _HEADERS[value]
            options.pop("format", None)
    elif name == "delimiter":
        for one in ("delimiter", "format"):
            options.pop(one, None)
        if value == _LINES:
            options["format"] = files.Format.TXT
            options.pop("header", None)  # a text of lines has no row of names
        elif value:
            options[name] = value
    elif name in ("encoding", "sheet"):
        options.pop(name, None)
        if value:
            options[name] = value
    else:
        raise InvalidValueError(f"A file cannot be read with {name!r:.40} = {value!r:.40}.")
