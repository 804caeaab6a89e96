"""Images on their way to a model: what they are, judged by their first bytes.

Promises: an `Image` is one that may be sent: its format, size and wholeness have been judged
without decoding it; nothing is ever fetched from the net. The same bytes are the same image
everywhere (`Image.digest`). Leaves to others: judging the bytes (`image_format`), decoding (the
worker's engine), what a model makes of it.

What can be read is what llama.cpp's decoder can: PNG, JPEG, GIF (the first picture) and BMP. Others
(WebP, TIFF, HEIC, a PIL image) are turned into PNG if Pillow is installed.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import html
import importlib
import io
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import ImageError, UnsupportedByModelError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.image_format import (
    check_size,
    format_of,
    judge,
    too_large,
    unknown_format,
)
from gguf_widgets.core.plain_files import read_bounded

__all__ = ["IMAGE_MARK", "MAX_IMAGE_BYTES", "Image", "cannot_see", "image"]

MAX_IMAGE_BYTES: Final = 20 * 1024 * 1024
"""The longest image file, so that a few of them fit into one message to the model's process."""

IMAGE_MARK: Final = "<__media__>"
"""How an image is written where a prompt is shown as text; llama.cpp's own word for it."""

_DATA_PREFIX: Final = "data:"
_MOST_SHOWN_BYTES: Final = 4 * 1024 * 1024  # it would be kept in the notebook's file


class Image:
    """An image that may be sent: its bytes and what they say of themselves; made by `image`.

    Parameters
    ----------
    data : bytes
        A PNG, JPEG, GIF or BMP file.

    Attributes
    ----------
    data : bytes
    format : str
        "png", "jpeg", "gif" or "bmp".
    width, height : int
        In pixels, as a person sees it: a photo that its camera says is turned, is turned.
    turn : int
        How: EXIF's orientation, 1 (not at all) to 8.

    Raises
    ------
    ImageError
        ``details["problem"]`` is "format", "size" or "damaged".
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_IMAGE_BYTES:
            raise too_large(
                f"The image is {format_bytes(len(data))}; at most {format_bytes(MAX_IMAGE_BYTES)}"
                " can be sent.",
                size_bytes=len(data),
                limit=MAX_IMAGE_BYTES,
            )
        self.data = data
        self.format, width, height, self.turn = judge(data)
        self.width, self.height = (height, width) if self.turn >= 5 else (width, height)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the bytes, in hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        size = format_bytes(len(self.data))
        return f"<Image {self.format}, {self.width} x {self.height}, {size}>"

    def _repr_html_(self) -> str:
        """Return the image for a notebook, as a thumbnail; of a large file only what it is."""
        if len(self.data) > _MOST_SHOWN_BYTES:
            return f"<code>{html.escape(repr(self))}</code>"
        return (
            f'<img src="{html.escape(self.to_url())}" alt="{html.escape(repr(self))}"'
            ' style="max-width: 240px; max-height: 240px">'
        )

    def to_url(self) -> str:
        """Return the image as a ``data:`` address, as OpenAI's form has it."""
        return f"data:image/{self.format};base64,{base64.b64encode(self.data).decode()}"


def image(source: Any) -> Image:
    """Return an image that can be put into a message.

    Parameters
    ----------
    source : bytes, str, path-like, PIL image or Image
        The bytes of an image file, a file's name, a ``data:image/...;base64,...`` address, or an
        image of Pillow's.

    Returns
    -------
    Image

    Raises
    ------
    ImageError
        If it is no image, or cannot be sent; ``details["problem"]`` is "source" (it is nothing of
        the above), "missing" (no such file), "remote" (an address of the net), "format", "size" or
        "damaged".

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> question = [gw.image("cat.png"), "What is this?"]  # doctest: +SKIP
    >>> model.chat([{"role": "user", "content": question}])  # doctest: +SKIP
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        return _readable(bytes(source))
    if isinstance(source, str) and source[: len(_DATA_PREFIX)].lower() == _DATA_PREFIX:
        return _readable(_from_data_url(source))
    if isinstance(source, str) and "://" in source[:12]:
        raise ImageError(
            f"The image {plain_text(source, 100)!r} is an address, and nothing is fetched from the"
            " net here. Save the image and give the file's name, or its bytes.",
            problem="remote",
        )
    if isinstance(source, str | os.PathLike):
        return _readable(_from_file(expanded(source)))
    if callable(getattr(source, "save", None)) and hasattr(source, "size"):
        return Image(_as_png(source))
    raise ImageError(
        f"An image is bytes, a file's name, a data: address or a PIL image; this is a"
        f" {type(source).__name__}.",
        problem="source",
    )


def cannot_see() -> UnsupportedByModelError:
    """Return the error for an image that is sent to a model which has nothing to see it with."""
    return UnsupportedByModelError(
        "This model cannot see images: it was loaded without an image companion (mmproj file). Put"
        " the one that belongs to the model beside it, or name it when you load the model:"
        " load(..., mmproj=file). Models that can see come with one.",
        problem="no_mmproj",
    )


# --- where the bytes come from -----------------------------------------------------------------


def _from_data_url(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError(
            "The image's data: address is not written as data:image/png;base64,... (the bytes in"
            " base64).",
            problem="source",
        )
    if len(body) > MAX_IMAGE_BYTES * 4 // 3 + 4096:
        raise too_large(
            f"The image's address is {format_bytes(len(body))} long; at most"
            f" {format_bytes(MAX_IMAGE_BYTES)} of image can be sent.",
            size_bytes=len(body) * 3 // 4,
            limit=MAX_IMAGE_BYTES,
        )
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(
            f"The image's data: address holds no proper base64: {error}.", problem="damaged"
        ) from error


def _from_file(path: Path) -> bytes:
    shown = plain_text(str(path), 200)
    try:
        return read_bounded(path, MAX_IMAGE_BYTES)
    except FileNotFoundError as error:
        raise ImageError(f'There is no image file "{shown}".', problem="missing") from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise too_large(
                f'The image file "{shown}" is larger than {format_bytes(MAX_IMAGE_BYTES)}, which is'
                " the most that can be sent.",
                limit=MAX_IMAGE_BYTES,
            ) from error
        raise ImageError(
            f'The image file "{shown}" cannot be read: {error.strerror or error}.',
            problem="missing",
        ) from error


def _readable(data: bytes) -> Image:
    """Return the image; one of another format is turned into a PNG where Pillow is installed."""
    if format_of(data) or not data:
        return Image(data)
    try:
        # Late: it is seldom needed, and need not be there.
        pillow = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise unknown_format(
            data, " Others (WebP, TIFF) need Pillow: pip install pillow."
        ) from error
    try:
        with pillow.open(io.BytesIO(data)) as opened:
            return Image(_as_png(opened))
    except ImageError:
        raise
    except Exception as error:  # whatever a decoder says of hostile bytes
        raise unknown_format(data, f" Pillow says: {plain_text(str(error), 200)}.") from error


def _as_png(picture: Any) -> bytes:
    width, height = picture.size
    check_size("image", int(width), int(height))
    buffer = io.BytesIO()
    try:
        if callable(getattr(picture, "getexif", None)):
            picture = importlib.import_module("PIL.ImageOps").exif_transpose(picture)  # upright
        picture.convert("RGB").save(buffer, format="PNG")
    except Exception as error:
        raise ImageError(
            f"The image could not be read: {plain_text(str(error), 200)}.", problem="damaged"
        ) from error
    return buffer.getvalue()
