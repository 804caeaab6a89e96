"""Columns that hold images: what is in a cell, and where in the prompt its image goes.

Promises: an image goes where the prompt names its column, ``{photo}``; a column that it does not
name goes before the text of the last message of the user. What is no image, is not there, or lies
outside the folders that are allowed fails its own row, in words, and nothing of it reaches a model.
Leaves to others: what an image is (`core.images`), values that are missing (`missing`), what a
model makes of it.

A cell holds the bytes of an image file, the name of one, a ``data:`` address, an image of Pillow's,
or what data sets have, ``{"bytes": ..., "path": ...}``. A name that is not a full path is looked
for in `ImageColumns.folder`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from gguf_widgets.batch.missing import is_missing
from gguf_widgets.core.errors import ImageError, InvalidValueError, RowError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.images import Image, image
from gguf_widgets.core.types import ImagePart, Message

__all__ = ["NO_IMAGES", "ImageColumns", "described", "num_image_bytes"]

MAX_COLUMNS: Final = 16

# What stands in a prompt for an image until it is put there. Nobody who fills a table can guess it.
_TOKEN: Final = secrets.token_hex(16)
_MARK: Final = f"\ue000{_TOKEN}:"
_PLACE: Final = re.compile(re.escape(_MARK) + r"(\d+)\ue001")
# What a template leaves of a mark that it cuts, or writes in another way.
_PIECE: Final = re.compile(f"\ue000{_TOKEN[:3]}|{_TOKEN[:12]}|{_TOKEN[-12:]}", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ImageColumns:
    """Which of a table's columns hold images.

    Attributes
    ----------
    columns : tuple of str
    folder : str
        Where the files are that are named without a full path.
    within : tuple of str or None
        Folders that files may be taken from; None for any. Links are followed first.
    """

    columns: tuple[str, ...] = ()
    folder: str = ""
    within: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, given: Any, *, folder: Path | None = None) -> Self:
        """Take what a person gives: a column's name, several, or None.

        Parameters
        ----------
        given : str, sequence of str, ImageColumns or None
        folder : Path, optional
            Default: the one that Python is in.

        Raises
        ------
        InvalidValueError
        """
        if isinstance(given, cls):
            return given
        names = [given] if isinstance(given, str) else list(given or ())
        wrong = next((one for one in names if not isinstance(one, str) or not one), None)
        if wrong is not None or len(names) > MAX_COLUMNS:
            what = repr(wrong)[:80] if wrong is not None else f"a list of {len(names)}"
            raise InvalidValueError(
                f"images= is the name of a column that holds images, or a list of up to "
                f"{MAX_COLUMNS} names; this is {what}.",
                limit=MAX_COLUMNS,
            )
        if not names:
            return cls()
        return cls(tuple(dict.fromkeys(names)), str(folder or Path.cwd()))

    def check(self, columns: Sequence[str]) -> None:
        """Raise `InvalidValueError` if the table does not have such a column."""
        missing = [name for name in self.columns if name not in columns]
        if missing:
            shown = ", ".join(f'"{plain_text(name, 60)}"' for name in columns[:20])
            raise InvalidValueError(
                f'images= names "{plain_text(missing[0], 60)}", and the table has no such column. '
                f"Its columns are: {shown}{', ...' if len(columns) > 20 else ''}.",
                unknown=missing,
                columns=list(columns),
            )

    def marked(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row for a template, with a mark in the place of each image."""
        marks = {
            name: f"{_MARK}{number}\ue001"
            for number, name in enumerate(self.columns)
            if not is_missing(row.get(name))
        }
        return {**row, **marks}

    def placed(
        self, messages: Iterable[Message], row: Mapping[str, Any], named: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return messages with the row's images where their marks are.

        Parameters
        ----------
        messages : iterable of Message
            What a template made of the `marked` row.
        row : mapping
            The row itself.
        named : sequence of str
            The columns that the template names: an image of these is nowhere else.

        Raises
        ------
        RowError
            A cell holds no image, or none that may be sent.
        """
        found: dict[int, Image] = {}

        def put(match: re.Match[str]) -> Image:
            number = int(match.group(1))
            if number not in found:
                found[number] = self._image_of(self.columns[number], row)
            return found[number]

        made = [
            {"role": message["role"], "content": _split(message["content"], put)}
            for message in messages
        ]
        self._refuse_elsewhere(made)
        self._refuse_pieces(made)
        before = [
            self._image_of(name, row)
            for number, name in enumerate(self.columns)
            if number not in found and name not in named and not is_missing(row.get(name))
        ]
        if before:
            last = next((one for one in reversed(made) if one["role"] == "user"), None)
            if last is None:
                raise RowError(
                    "There is no message of the user's that the row's image could go to. Write one."
                )
            last["content"] = [*before, *last["content"]]
        return made

    def _refuse_elsewhere(self, made: Iterable[Mapping[str, Any]]) -> None:
        for one in made:
            if one["role"] != "user" and any(isinstance(part, Image) for part in one["content"]):
                raise RowError(
                    f"An image can only be in a message of the user's, and the prompt has one in a "
                    f"message of role {one['role']!r}. Name its column in a user message."
                )

    def _refuse_pieces(self, made: Iterable[Mapping[str, Any]]) -> None:
        texts = [part for one in made for part in one["content"] if isinstance(part, str)]
        if any(_PIECE.search(text) for text in texts):
            raise RowError(
                "The prompt cuts or changes the place of an image, such as with a filter or a "
                "format. Write the name of its column alone: {photo}, or {{ photo }}."
            )

    def _image_of(self, name: str, row: Mapping[str, Any]) -> Image:
        try:
            return image(self._source(row[name]))
        except ImageError as error:
            raise RowError(
                f'Column "{plain_text(name, 60)}": {error.message}',
                **{"column": name, **error.details},
            ) from error

    def _source(self, value: Any) -> Any:
        if isinstance(value, Mapping) and {"bytes", "path"} >= set(value):
            data = value.get("bytes")
            value = data if data is not None else value.get("path")
        if not isinstance(value, str | os.PathLike):
            return value
        text = os.fspath(value)
        if not isinstance(text, str) or text[:5].lower() == "data:" or "://" in text[:12]:
            return text
        try:
            path = Path(self.folder, os.path.expanduser(text))  # noqa: PTH111 - "~nobody" raises
        except ValueError as error:  # a null character in a user's name
            raise ImageError(
                f'"{plain_text(text, 200)}" is no name of a file.', problem="missing"
            ) from error
        return path if self.within is None else self._real(path, text, self.within)

    def _real(self, path: Path, text: str, within: tuple[str, ...]) -> Path:
        """Return where a file really is, if that is allowed."""
        try:
            # Windows would ask another machine for such a name, and tell it who we are.
            is_share = os.name == "nt" and str(path).startswith("\\\\")
            real = None if is_share else path.resolve()
        except (OSError, ValueError, RuntimeError):  # a loop of links, a null character
            real = None
        if real is None or not any(real.is_relative_to(Path(one).resolve()) for one in within):
            where = (
                f". Put it into one of these: {', '.join(within)}" if within else ": none is set"
            )
            raise ImageError(
                f'The image file "{plain_text(text, 200)}" is in no folder that images may be '
                f"taken from{where}.",
                problem="folder",
            )
        return real

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        within = None if self.within is None else list(self.within)
        return {"columns": list(self.columns), "folder": self.folder, "within": within}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` made."""
        within = data["within"]
        return cls(
            tuple(data["columns"]), data["folder"], None if within is None else tuple(within)
        )


NO_IMAGES: Final = ImageColumns()
"""A run without images."""


def described(messages: Sequence[Message]) -> str:
    """Return messages as a text that is the same for the same ones, each image as its SHA-256.

    Those that begin alike have texts that begin alike.
    """
    told = [_described(message) if message.get("parts") else message for message in messages]
    return json.dumps(told, separators=(",", ":"))


def _described(message: Message) -> dict[str, Any]:
    parts = [
        {"image": hashlib.sha256(part.data).hexdigest()}
        if isinstance(part, ImagePart)
        else part.text
        for part in message["parts"]
    ]
    return {"role": message["role"], "parts": parts}


def num_image_bytes(messages: Sequence[Message]) -> int:
    """Return how many bytes the images in messages have."""
    return sum(
        len(part.data)
        for message in messages
        for part in message.get("parts", ())
        if isinstance(part, ImagePart)
    )


def _split(content: str, put: Any) -> list[Any]:
    """Return a text's parts: pieces of text, and what `put` makes of each mark."""
    parts: list[Any] = []
    end = 0
    for match in _PLACE.finditer(content):
        # An image stands on a line of its own in the prompt: those of the text are not doubled.
        before = content[end : match.start()].removesuffix("\n")
        parts += [before.removeprefix("\n") if parts else before, put(match)]
        end = match.end()
    parts.append(content[end:].removeprefix("\n") if parts else content)
    return [part for part in parts if part != ""] or [""]
