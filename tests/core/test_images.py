"""Images are judged by their bytes, whoever made them: what passes can be sent, the rest is refused
in words, and nothing of it is decoded, fetched or kept waiting for."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
import sys
import types
import zlib
from pathlib import Path
from typing import Self
from unittest import mock

import numpy as np
import pytest
from support.tiny_projector import picture, png_bytes, png_chunk

import gguf_widgets as gw
from gguf_widgets.core import image_gif
from gguf_widgets.core.errors import ImageError
from gguf_widgets.core.image_format import MAX_PIXELS, MAX_SIDE
from gguf_widgets.core.images import MAX_IMAGE_BYTES, Image, image


def problem(source: object) -> str:
    with pytest.raises(ImageError) as caught:
        image(source)
    assert len(caught.value.message) > 20
    return str(caught.value.details["problem"])


def png_of(width: int, height: int, packed: bytes, colour: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def jpeg_of(
    width: int, height: int, *, exif: bytes = b"", scans: int = 1, kind: int = 0xC0
) -> bytes:
    """Return what is a JPEG to whoever reads no further than its header."""

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    parts = [b"\xff\xd8", segment(0xE0, b"JFIF\0")]
    parts += [segment(0xE1, b"Exif\0\0" + exif)] if exif else []
    parts += [segment(kind, frame), *[segment(0xDA, b"\0" * 10) + b"pixels"] * scans]
    return b"".join([*parts, b"\xff\xd9"])


def exif_of(turn: int, order: str = "<") -> bytes:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, turn, 0)
    return head + struct.pack(order + "IH", 8, 1) + entry + b"\0\0\0\0"


def bmp_of(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head


def test_formats_and_sizes() -> None:
    for data, said in (
        (picture(1, 80, 60), ("png", 80, 60)),
        (jpeg_of(640, 480), ("jpeg", 640, 480)),
        (jpeg_of(640, 480, kind=0xC2), ("jpeg", 640, 480)),
        (b"GIF89a" + struct.pack("<HH", 5, 7) + b"\0" * 20, ("gif", 5, 7)),
        (bmp_of(9, -4), ("bmp", 9, 4)),
    ):
        found = image(data)
        assert (found.format, found.width, found.height) == said
        assert found.data == data


def test_a_photo_is_as_large_as_it_is_seen() -> None:
    for order in "<>":
        for turn in range(1, 9):
            found = image(jpeg_of(640, 480, exif=exif_of(turn, order)))
            assert found.turn == turn
            assert (found.width, found.height) == ((640, 480) if turn < 5 else (480, 640))
    # What is no proper EXIF changes nothing.
    for exif in (
        b"XX",
        exif_of(9),
        exif_of(6)[:11],
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*" + b"\0" * 4,
    ):
        assert image(jpeg_of(640, 480, exif=exif)).turn == 1


def test_the_same_bytes_are_the_same_image(tmp_path: Path) -> None:
    data = picture(3)
    path = tmp_path / "some picture.png"
    path.write_bytes(data)
    address = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    sources = [data, bytearray(data), memoryview(data), str(path), path, address, Image(data)]
    assert {image(source).digest for source in sources} == {Image(data).digest}
    assert len({image(source) for source in sources}) == 1
    assert Image(data) != Image(picture(4))
    assert image(Image(data).to_url()) == Image(data)
    assert gw.image(data) == gw.Image(data)
    assert Image(data)._repr_html_().startswith('<img src="data:image/png;base64,')


def test_what_is_no_image_is_told_apart(tmp_path: Path) -> None:
    assert problem(b"") == "damaged"
    assert problem(b"no image at all") == "format"
    assert problem(b"%PDF-1.7 ...") == "format"
    assert problem(12) == "source"
    assert problem(None) == "source"
    assert problem(["cat.png"]) == "source"
    assert problem(tmp_path / "missing.png") == "missing"
    assert problem(tmp_path) == "missing"
    assert problem("a\0b.png") == "missing"
    assert problem("~nobody whom this system knows/a.png") == "missing"
    for address in (
        "https://example.org/a.png",
        "http://localhost/a",
        "file:///etc/passwd",
        "ftp://x/y",
    ):
        assert problem(address) == "remote"
    assert problem("data:image/png,notbase64") == "source"
    assert problem("data:image/png;base64,!!!!") == "damaged"


def test_what_is_cut_short_is_damaged() -> None:
    whole = picture(5, 40, 30)
    for end in range(8, len(whole) - 1):
        assert problem(whole[:end]) == "damaged", end
    photo = jpeg_of(64, 48)
    for end in range(3, len(photo) - 1):
        assert problem(photo[:end]) == "damaged", end


def test_large_ones_are_refused_by_what_they_say() -> None:
    assert problem(png_of(MAX_SIDE + 1, 1, zlib.compress(b"\0" * 10))) == "size"
    assert problem(png_of(8000, 8000, zlib.compress(b"\0" * 10))) == "size"
    assert problem(jpeg_of(65535, 65535)) == "size"
    assert problem(bmp_of(2**31 - 1, -(2**31))) == "size"
    assert problem(b"\x89PNG\r\n\x1a\n" + b"\0" * MAX_IMAGE_BYTES) == "size"
    assert problem(f"data:image/png;base64,{'A' * (MAX_IMAGE_BYTES * 4 // 3 + 5000)}") == "size"
    assert problem(png_of(7000, 7000, zlib.compress(b"\0" * 10))) == "damaged"


def test_a_bomb_is_not_unpacked() -> None:
    # 8 by 8 pixels, of which it is said that they are 200 MB long.
    bomb = zlib.compress(b"\0" * 200_000_000, 9)
    assert len(bomb) < 250_000
    assert problem(png_of(8, 8, bomb)) == "damaged"
    assert problem(jpeg_of(4000, 4000, scans=500)) == "damaged"
    assert problem(png_of(8, 8, b"\0\1\2\3")) == "damaged"


def test_a_photo_may_have_a_film_behind_its_end_and_no_more_scans_in_it() -> None:
    film = np.random.default_rng(1).bytes(12_000_000)
    assert film.count(b"\xff\xda") > 120
    assert image(jpeg_of(640, 480) + film).width == 640
    # An end within another part, which a decoder passes over, is none.
    start, part, scan = jpeg_of(640, 480)[:-2], b"\xff\xfe\0\4\xff\xd9", jpeg_of(8, 8)[-22:-2]
    assert scan.startswith(b"\xff\xda")
    assert problem(start + part + scan * 200 + b"\xff\xd9") == "damaged"
    assert problem(start + (part + b"\xff" + scan) * 200 + b"\xff\xd9") == "damaged"
    assert problem(start + (b"\xff\xd0" + scan) * 200 + b"\xff\xd9") == "damaged"


def gif_of(width: int, height: int, codes: list[int]) -> bytes:
    """Return a GIF of four colours whose picture is these codes; the first one is 4 (clear)."""
    bits = at = count = 0
    size = 3
    for number, code in enumerate(codes):
        bits |= code << at
        at += size
        if code == 4:
            size, count = 3, 6
            continue
        count += number > 0 and codes[number - 1] != 4
        size += count == 1 << size and size < 12
    packed = bits.to_bytes(at // 8 + 1, "little")
    blocks = [packed[i : i + 255] for i in range(0, len(packed), 255)]
    return b"".join(
        [
            b"GIF89a" + struct.pack("<HHBBB", width, height, 0x91, 0, 0) + bytes(12),
            b"!\xf9\4\0\0\0\0\0" + b"!\xfe\3abc\0",  # how it is shown, a remark
            b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2",
            *(bytes([len(block)]) + block for block in blocks),
            b"\0;",
        ]
    )


def test_a_gif_whose_codes_go_on_behind_its_pixels_is_not_unpacked() -> None:
    # Each code stands for one pixel more than the one before, and the last again and again.
    growing = [4, 0, *range(6, 4096)]
    assert problem(gif_of(64, 64, [*growing, *[4095] * 4000] * 6 + [5])) == "damaged"
    # A large picture of one colour, and one of single pixels that is as long, are what they are.
    assert image(gif_of(9000, 5500, [*growing, *[4095] * 4000] * 2 + [5])).width == 9000
    plain = [code for i in range(0, 90_000, 2) for code in (4, i % 4, (i + 1) % 4)]
    long = gif_of(300, 300, [*plain, 5])
    assert len(long) > 45_000
    with mock.patch.object(image_gif, "_SMALL", 1000):
        assert image(long).height == 300
        assert image_gif._first_picture(long).num_pixels == 90_000
        for end in range(6, len(long), 997):
            with contextlib.suppress(ImageError):
                image(long[:end])


def test_nothing_hostile_gets_through_as_anything_else() -> None:
    rng = np.random.default_rng(1)
    for seed in (
        picture(6, 30, 20),
        jpeg_of(30, 20, exif=exif_of(6)),
        bmp_of(30, 20),
        b"GIF87a" + bytes(20),
    ):
        for _ in range(300):
            data = bytearray(seed)
            for _ in range(rng.integers(1, 7)):
                data[rng.integers(len(data))] = rng.integers(256)
            if rng.random() < 0.3:
                del data[rng.integers(len(data)) :]
            try:
                found = image(bytes(data))
            except ImageError:
                continue
            assert 1 <= found.width <= MAX_SIDE
            assert 1 <= found.height <= MAX_SIDE
            assert found.width * found.height <= MAX_PIXELS


class FakePicture:
    """An image as Pillow has it, as far as is needed."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.size = (pixels.shape[1], pixels.shape[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def convert(self, mode: str) -> FakePicture:
        assert mode == "RGB"
        return self

    def save(self, file: io.BytesIO, format: str) -> None:  # noqa: A002 - Pillow's word
        assert format == "PNG"
        file.write(png_bytes(self._pixels))


def test_other_formats_go_through_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((6, 9, 3), 77, np.uint8)
    assert image(FakePicture(pixels)) == Image(png_bytes(pixels))
    webp = b"RIFF\x10\0\0\0WEBPVP8 "
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImageError, match="pip install pillow"):
        image(webp)
    pillow = types.ModuleType("PIL.Image")
    monkeypatch.setitem(sys.modules, "PIL", types.ModuleType("PIL"))
    monkeypatch.setitem(sys.modules, "PIL.Image", pillow)
    pillow.open = lambda _: FakePicture(pixels)
    assert image(webp) == Image(png_bytes(pixels))
    huge = FakePicture(pixels)
    huge.size = (100_000, 100_000)
    pillow.open = lambda _: huge
    assert problem(webp) == "size"

    def refuse(_: object) -> None:
        raise OSError("cannot identify image file")

    pillow.open = refuse
    with pytest.raises(ImageError, match="cannot identify"):
        image(webp)


@pytest.mark.parametrize("form", ["WebP", "JPEG", "TIFF", "PNG"])
def test_what_pillow_reads_is_as_upright_as_what_is_read_here(form: str) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 250  # light on the right: below, once it is turned
    exif = pillow.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, format=form, exif=exif)
    with pillow.open(io.BytesIO(file.getvalue())) as opened:
        sources = [opened] if form in ("JPEG", "PNG") else [opened, file.getvalue()]
        for source in sources:
            found = image(source)
            assert (found.width, found.height, found.turn) == (20, 40, 1)
            seen = np.asarray(pillow.open(io.BytesIO(found.data)))
            assert seen[5, 10, 0] < 50 < 200 < seen[35, 10, 0]
