"""Whether the first picture of a GIF is packed so as to wear its decoder out.

Promises: the picture is unpacked as stb_image does it, which llama.cpp uses, but only counted: one
that goes on far behind its last pixel, over which that decoder would sit for minutes, is told in a
time that its bytes bound. Leaves to others: what else an image says of itself (`image_format`),
whether it is damaged (the decoder).
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["is_worn_out"]

_SMALL: Final = 1 << 16  # bytes over which nothing takes long
_SLACK: Final = 1 << 20  # pixels
_MOST_CODES: Final = 8192  # the decoder's table


class _Picture(NamedTuple):
    num_pixels: int
    code_bits: int
    packed: bytes


def is_worn_out(data: bytes) -> bool:
    """Say whether a GIF's first picture unpacks to far more pixels than it has.

    Raises
    ------
    IndexError
        If the file ends before its picture begins.
    """
    if len(data) <= _SMALL:
        return False
    picture = _first_picture(data)
    if picture is None or len(picture.packed) <= _SMALL or picture.code_bits > 12:
        return False
    return _unpacks_to_more(picture, 2 * picture.num_pixels + _SLACK)


def _first_picture(data: bytes) -> _Picture | None:
    at = 13 + _table_size(data[10])
    while True:
        kind, at = data[at], at + 1
        if kind == 0x2C:
            width, height = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (4, 6))
            at += 9 + _table_size(data[at + 8])
            packed, _ = _blocks(data, at + 1)
            return _Picture(width * height, data[at], packed)
        if kind != 0x21:
            return None
        if data[at] == 0xF9 and data[at + 1] != 4:  # the decoder does so, too
            at += 2 + data[at + 1]
        else:
            _, at = _blocks(data, at + 1)


def _table_size(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _blocks(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the content of blocks, of which an empty one is the last, and where they end."""
    parts = []
    while at < len(data) and data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b"".join(parts), at + 1


def _unpacks_to_more(picture: _Picture, most: int) -> bool:
    """Count pixels by LZW's rules: each code stands for the one before it and one more pixel."""
    clear = 1 << picture.code_bits
    lengths = [1] * clear + [0, 0]
    size, mask, before = picture.code_bits + 1, 2 * clear - 1, -1
    bits = num_bits = total = 0
    for byte in picture.packed:
        bits |= byte << num_bits
        num_bits += 8
        while num_bits >= size:
            code = bits & mask
            bits >>= size
            num_bits -= size
            if code == clear:
                del lengths[clear + 2 :]
                size, mask, before = picture.code_bits + 1, 2 * clear - 1, -1
                continue
            if before >= 0:
                lengths.append(lengths[before] + 1)
            if code == clear + 1 or code >= len(lengths) or len(lengths) > _MOST_CODES:
                return False  # its end, or what a decoder refuses
            total += lengths[code]
            if total > most:
                return True
            if not len(lengths) & mask and len(lengths) < 4096:
                size, mask = size + 1, 2 * mask + 1
            before = code
    return False
