"""Presets as a file that people give to each other.

Promises: a file written here is read back as the very same presets; a file from anybody is judged
before any of it counts, and nothing of it is dropped: what this version does not know is refused by
its name, and so are two values under one name, numbers that JSON does not have, and what is longer
than a preset can be. Leaves to others: which title is taken (`presets_own`), and asking about it
(`widgets._chat_settings`).

The file is JSON (UTF-8)::

    {"format": "gguf-widgets presets", "version": 1,
     "presets": [{"title": "My tutor", "system": "...", "sampling": {"temperature": 0.3}}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.file_names import same_name
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.json_outside import plain
from gguf_widgets.core.presets import Preset, checked

__all__ = ["MAX_BYTES", "VERSION", "read_presets", "write_presets"]

VERSION: Final = 1
MAX_BYTES: Final = 2 * 2**20
_FORMAT: Final = "gguf-widgets presets"
_MAX_PRESETS: Final = 100
_FIELDS: Final = ("format", "version", "presets")


def write_presets(presets: Iterable[Preset]) -> str:
    """Return the file's text; `read_presets` makes the same presets of it."""
    data = {
        "format": _FORMAT,
        "version": VERSION,
        "presets": [_bare(preset) for preset in presets],
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_presets(data: bytes | str) -> list[Preset]:
    """Return the presets of a file.

    Parameters
    ----------
    data : bytes or str
        All of the file. A text is what a browser has read of it.

    Raises
    ------
    InvalidValueError
        It is no such file, is too large, is of a newer version, or holds something that is not
        allowed: nothing of it is taken then.
    """
    found = _json(_text(data))
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise InvalidValueError(
            "This file holds no presets. Choose one that was saved with Share in the settings."
        )
    version = found.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InvalidValueError(
            f"The file says that its version is {plain_text(repr(version), 40)}, which there is "
            "not. It was changed or damaged."
        )
    if version > VERSION:
        raise InvalidValueError(
            f"The file was made by a newer version of gguf-widgets (form {version:,}; this one "
            f"reads form {VERSION}). Update gguf-widgets to read it.",
            version=version,
        )
    unknown = [key for key in found if key not in _FIELDS]
    if unknown:
        names = ", ".join(f'"{plain_text(key, 40)}"' for key in unknown[:10])
        raise InvalidValueError(
            f"The file holds something that this version does not know: {names}. Nothing of it "
            "was taken.",
            unknown=[plain_text(key) for key in unknown[:20]],
        )
    given = found.get("presets")
    if not isinstance(given, list) or not given:
        raise InvalidValueError("The file's list of presets is empty or is no list.")
    if len(given) > _MAX_PRESETS:
        raise InvalidValueError(
            f"The file holds {len(given):,} presets; at most {_MAX_PRESETS} are read at once."
        )
    presets = [_numbered(number, one) for number, one in enumerate(given, 1)]
    seen: dict[str, str] = {}
    for preset in presets:
        if same_name(preset.title) in seen:
            raise InvalidValueError(
                f'The file holds two presets called "{preset.title}". Rename one of them in the '
                "file."
            )
        seen[same_name(preset.title)] = preset.title
    return presets


def _bare(preset: Preset) -> dict[str, Any]:
    """Return a preset without what is as it usually is, and without its name, which is local."""
    plain = preset.to_json()
    del plain["name"]
    usual: dict[str, Any] = {
        "description": "",
        "system": None,
        "sampling": {},
        "needs_images": False,
    }
    return {key: value for key, value in plain.items() if usual.get(key, ...) != value}


def _numbered(number: int, given: Any) -> Preset:
    try:
        return checked(given)
    except InvalidValueError as error:
        if "preset" in error.details:
            raise
        raise InvalidValueError(f"Preset {number} of the file: {error.message}") from error


def _text(data: bytes | str) -> str:
    size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise InvalidValueError(
            f"The file has {format_bytes(size)}; a file of presets has at most "
            f"{format_bytes(MAX_BYTES)}.",
            limit=MAX_BYTES,
        )
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValueError("The file is no text in UTF-8, so it holds no presets.") from error


def _json(text: str) -> Any:
    try:
        read = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except InvalidValueError:
        raise
    except RecursionError as error:
        raise InvalidValueError(
            "The file is nested too deeply to be one of presets. Nothing of it was taken."
        ) from error
    except ValueError as error:
        where = ""
        if isinstance(error, json.JSONDecodeError):
            where = f" (line {error.lineno:,}, column {error.colno:,}: {error.msg})"
        raise InvalidValueError(f"The file is not JSON{where}.") from error
    try:
        return plain(read)
    except ValueError as error:
        raise InvalidValueError(
            f"The file cannot be one of presets: {error}. Nothing of it was taken."
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidValueError(
                f'The file names "{plain_text(key, 40)}" twice in one place. Remove one of them.'
            )
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise InvalidValueError(f"The file holds {name}, which is no number in JSON.")
