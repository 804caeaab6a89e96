"""What the bytes of an image say of themselves, without decoding them.

Promises: format and size of a PNG, JPEG, GIF or BMP, and how its camera was held; whatever is too
large, cut short, or made so as to wear a decoder out (pixels that unpack to gigabytes, a photo that
goes over its pixels a thousand times) is refused in words, in a time that its bytes bound. Leaves
to others: where the bytes come from (`images`), a GIF's packing (`image_gif`), decoding (the
worker's engine).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from gguf_widgets.core import image_gif
from gguf_widgets.core.errors import ImageError

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "Looks",
    "check_size",
    "format_of",
    "judge",
    "too_large",
    "unknown_format",
]

MAX_PIXELS: Final = 50_000_000
"""Width times height: decoded they take 150 MB."""

MAX_SIDE: Final = 32_768

# More scans than this has no photo; each makes the decoder go through all pixels again.
_MAX_JPEG_SCANS: Final = 100


class Looks(NamedTuple):
    """What an image is: `turn` is EXIF's orientation, 1 (upright) to 8.

    `width` and `height` are those of the pixels in the file, before any turning.
    """

    format: str
    width: int
    height: int
    turn: int = 1


def format_of(data: bytes) -> str:
    """Return "png", "jpeg", "gif" or "bmp"; "" for anything else."""
    for name, magic in (
        ("png", b"\x89PNG\r\n\x1a\n"),
        ("jpeg", b"\xff\xd8\xff"),
        ("gif", b"GIF87a"),
        ("gif", b"GIF89a"),
        ("bmp", b"BM"),
    ):
        if data.startswith(magic):
            return name
    return ""


def judge(data: bytes) -> Looks:
    """Return what an image is.

    Raises
    ------
    ImageError
        ``details["problem"]`` is "format", "size" or "damaged".
    """
    if not data:
        raise ImageError("The image is empty: it has no bytes.", problem="damaged")
    name = format_of(data)
    if not name:
        raise unknown_format(data)
    judges: dict[str, Callable[[bytes], tuple[int, int]]] = {
        "png": _png,
        "jpeg": _jpeg,
        "gif": _gif,
        "bmp": _bmp,
    }
    try:
        width, height = judges[name](data)
    except (struct.error, IndexError) as error:
        raise _damaged(name, "ends too early") from error
    return Looks(name, width, height, _orientation(data) if name == "jpeg" else 1)


def check_size(name: str, width: int, height: int) -> None:
    """Raise `ImageError` if an image of that size cannot be sent."""
    if width < 1 or height < 1:
        raise _damaged(name, f"says that it is {width} x {height} pixels large")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise too_large(
            f"The image is {width:,} x {height:,} pixels; at most {MAX_PIXELS // 10**6} million"
            f" pixels, and {MAX_SIDE:,} on a side, can be sent. Make it smaller.",
            width=width,
            height=height,
            limit=MAX_PIXELS,
        )


_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _png(data: bytes) -> tuple[int, int]:
    chunks = _png_chunks(data)
    first, head = next(chunks, (b"", b""))
    if first != b"IHDR" or len(head) != 13:
        raise _damaged("png", "does not begin as a PNG does")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    check_size("png", width, height)
    if colour not in _PNG_CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise _damaged("png", f"says that its colours are of the kind {colour}, {depth} bits each")
    row = (width * depth * _PNG_CHANNELS[colour] + 7) // 8 + 1
    # An interlaced one is written as seven smaller ones, each with rows of its own.
    limit = row * height + (height * 2 + 8 * width * 8 if interlaced else 0) + 64
    total = _unpacked_size(chunks, limit)
    if total < (1 if interlaced else row * height):
        raise _damaged("png", "ends too early: some of its pixels are missing")
    return width, height


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise _damaged("png", "ends too early")
        yield bytes(name), bytes(view[at + 8 : end])
        if name == b"IEND":
            return
        at = end + 4
    raise _damaged("png", "ends too early")


def _unpacked_size(chunks: Iterator[tuple[bytes, bytes]], limit: int) -> int:
    """Unpack the pixels, keeping none: a few kilobytes can be made to unpack to gigabytes."""
    unpacker, total = zlib.decompressobj(), 0
    try:
        for name, body in chunks:
            if name != b"IDAT":
                continue
            left = body
            while left and not unpacker.eof:
                total += len(unpacker.decompress(left, 1 << 20))
                left = unpacker.unconsumed_tail
                if total > limit:
                    raise _damaged("png", "unpacks to more than its pixels take")
    except zlib.error as error:
        raise _damaged("png", f"cannot be unpacked ({error})") from error
    return total


# Among packed pixels these are no marker: 0 (an FF that is meant), a restart, padding.
_JPEG_MARKER: Final = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def _jpeg(data: bytes) -> tuple[int, int]:
    if _is_worn_out(data):
        raise _damaged("jpeg", f"goes over its pixels more than {_MAX_JPEG_SCANS} times")
    size: tuple[int, int] | None = None
    for marker, body in _jpeg_segments(data):
        if marker == 0xDA and size is not None:
            if b"\xff\xd9" not in body:
                raise _damaged("jpeg", "ends too early: some of its pixels are missing")
            return size
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker not in (0xC0, 0xC1, 0xC2):
                raise ImageError(
                    "The image is a JPEG of a rare kind (lossless or arithmetic) that cannot be"
                    " read here. Save it as a usual JPEG or as PNG.",
                    problem="format",
                )
            height, width = struct.unpack_from(">HH", body, 1)
            check_size("jpeg", width, height)
            size = (width, height)
    what = "does not say how large it is" if size is None else "ends before its pixels begin"
    raise _damaged("jpeg", what)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the segments before the pixels, and with these all that is left."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise _damaged("jpeg", "is not made up as a JPEG is")
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xDA:
            yield marker, data[at:]
            return
        if marker in (0x01, *range(0xD0, 0xDA)):
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + max(2, length)


def _is_worn_out(data: bytes) -> bool:
    """Say whether a JPEG has more scans than any photo; what lies behind its end does not count.

    Telephones append a film, of megabytes in which anything looks like a scan.
    """
    if data.count(b"\xff\xda") <= _MAX_JPEG_SCANS:
        return False
    scans, at = 0, 2
    while (found := _JPEG_MARKER.search(data, at)) and scans <= _MAX_JPEG_SCANS:
        marker, at = found[1][0], found.end()
        if marker == 0xD9:
            break
        if marker not in (0x01, 0xD8) and at + 2 <= len(data):
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        scans += marker == 0xDA
    return scans > _MAX_JPEG_SCANS


def _orientation(data: bytes) -> int:
    """Return how a camera was held (EXIF's orientation, 1 to 8); 1 if it does not say."""
    for marker, body in _jpeg_segments(data):
        if marker != 0xE1 or not body.startswith(b"Exif\0\0"):
            continue
        tiff = body[6:]
        order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
        if order is None:
            return 1
        try:
            (offset,) = struct.unpack_from(order + "I", tiff, 4)
            (count,) = struct.unpack_from(order + "H", tiff, offset)
            for number in range(min(count, 256)):
                tag, kind, _, value = struct.unpack_from(
                    order + "HHIH", tiff, offset + 2 + 12 * number
                )
                if tag == 0x0112 and kind == 3 and 1 <= value <= 8:
                    return int(value)
        except struct.error:
            return 1
        return 1
    return 1


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    check_size("gif", width, height)
    if image_gif.is_worn_out(data):
        raise _damaged("gif", "unpacks to far more than its pixels")
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    (head,) = struct.unpack_from("<I", data, 14)
    if head == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    elif head >= 40:
        width, height = struct.unpack_from("<ii", data, 18)
    else:
        raise _damaged("bmp", "does not begin as a BMP does")
    check_size("bmp", width, abs(height))
    return width, abs(height)


# --- errors ------------------------------------------------------------------------------------


def unknown_format(data: bytes, more: str = "") -> ImageError:
    """Return the error for bytes that are no image, or one of a format that is not known here."""
    return ImageError(
        f"This is no image that can be read: it begins with {data[:8]!r}. PNG, JPEG, GIF and BMP"
        f" can be.{more}",
        problem="format",
    )


def _damaged(name: str, what: str) -> ImageError:
    kind = "image" if name == "image" else f"{name.upper()} image"
    return ImageError(f"The {kind} is damaged: it {what}.", problem="damaged", format=name)


def too_large(message: str, **details: Any) -> ImageError:
    """Return the error for an image that is too large."""
    return ImageError(message, problem="size", **details)
