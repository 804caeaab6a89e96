"""The models of GPT4All.

Promises: its download folder, and where its settings have moved it; that of its Python package.
Leaves to others: files in formats from before GGUF.

The layout: all files in one folder. It is ``modelPath`` in the program's settings, else
``nomic.ai/GPT4All`` in the system's folder for local data (``gpt4all-chat/src/mysettings.cpp``; the
documentation's page "Settings" names it for each system). The settings are ``nomic.ai/GPT4All.ini``
in ``%APPDATA%`` on Windows and in ``XDG_CONFIG_HOME`` or ``~/.config`` elsewhere, macOS included:
`main.cpp` chooses Qt's ``QSettings::IniFormat``. The Python package uses ``~/.cache/gpt4all``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import UnreadableFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library.items import File, Folder, Source
from gguf_widgets.core.library.places import UserDirs, given_path
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.library.small_file import read_bounded

__all__ = ["GPT4ALL"]

_SETTINGS_BYTES: Final = 4_000_000
_ENTRY: Final = re.compile(r"modelPaths?=(.*)")
# How Qt writes what an INI file cannot hold: \x and hexadecimal digits, or a letter.
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{1,6}|.)")


def _find(dirs: UserDirs, _budget: Budget) -> Iterator[Folder | File]:
    settings = dirs.config
    if dirs.system == "macos":
        settings = dirs.home / ".config"
    path = settings / "nomic.ai" / "GPT4All.ini"
    try:
        moved = _moved(path)
    except FileNotFoundError:
        moved = None
    except OSError as error:
        moved = None
        message = (
            f"The settings of GPT4All in {plain_text(str(path), 200)} cannot be read "
            f"({error.strerror or error}), so a folder that they name is not looked through."
        )
        yield File(path, error=UnreadableFileError(message, path=str(path)))
    default = dirs.local_data / "nomic.ai" / "GPT4All"
    for folder in dict.fromkeys([moved, default, dirs.home / ".cache" / "gpt4all"]):
        if folder is not None:
            yield Folder(folder)


def _moved(path: Path) -> Path | None:
    """Return the folder that the settings name."""
    in_general = False
    text = read_bounded(path, _SETTINGS_BYTES).decode("utf-8", "replace")
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            in_general = line.lower() == "[general]"
            continue
        entry = _ENTRY.fullmatch(line) if in_general else None
        if entry is not None:
            given = entry[1].strip()
            if len(given) >= 2 and given[0] == given[-1] == '"':
                given = given[1:-1]
            return given_path(_ESCAPE.sub(_unescaped, given), path.parent)
    return None


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else "\ufffd"
    return {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}.get(code, code)


GPT4ALL: Final = Source("gpt4all", "GPT4All", _find)
