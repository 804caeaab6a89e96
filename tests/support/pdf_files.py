"""PDFs written byte by byte: good ones, and ones made to wear a reader out.

Not a test and no fixture.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence


def pdf(objects: Sequence[bytes], root: int = 1) -> bytes:
    """Put numbered objects together; the first is object 1."""
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n" % number + body + b"\nendobj\n")
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer\n<< /Size %d /Root %d 0 R >>\n" % (len(objects) + 1, root))
    out.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


def stream(data: bytes, more: bytes = b"") -> bytes:
    return b"<< /Length %d %b >>\nstream\n" % (len(data), more) + data + b"\nendstream"


def shows(text: str) -> bytes:
    """Return the content of a page that shows a text."""
    safe = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /F1 12 Tf 20 100 Td ({safe}) Tj ET".encode("latin-1")


def with_pages(contents: Sequence[bytes], more: bytes = b"", extra: Sequence[bytes] = ()) -> bytes:
    """Return a PDF whose pages have these content streams (objects, whole).

    `more` goes into each page's resources; `extra` objects come after, numbered from
    ``4 + 2 * len(contents)``.
    """
    num = len(contents)
    kids = b" ".join(b"%d 0 R" % (4 + 2 * i) for i in range(num))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, num),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, content in enumerate(contents):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> %b >> >>" % (5 + 2 * index, more)
        )
        objects.append(content)
    return pdf([*objects, *extra])


def good(*texts: str) -> bytes:
    return with_pages([stream(shows(text)) for text in texts])


def packed_twice(num_bytes: int) -> bytes:
    """Return a page of some KB that unpacks to `num_bytes` of blanks, through two packings."""
    packer = zlib.compressobj(9)
    block = b" " * (1 << 20)
    inner = b"".join(packer.compress(block) for _ in range(num_bytes >> 20)) + packer.flush()
    return stream(zlib.compress(inner, 9), b"/Filter [/FlateDecode /FlateDecode]")


def forms_in_forms(levels: int = 12, contents: Sequence[bytes] | None = None) -> bytes:
    """Return pages, one of whose parts shows the next one ten times: 10 ** levels in all."""
    pages = contents or [stream(b"/X Do\n" * 10)]
    first = 4 + 2 * len(pages)
    extra = []
    for level in range(levels):
        body = b"/X Do\n" * 10 if level + 1 < levels else shows("ha")
        extra.append(
            stream(
                body,
                b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources <<"
                b" /Font << /F1 3 0 R >> /XObject << /X %d 0 R >> >>" % (first + level + 1),
            )
        )
    return with_pages(pages, b"/XObject << /X %d 0 R >>" % first, extra)


def pages_of_themselves() -> bytes:
    """Return one whose pages' list holds itself, and says that there are ten million."""
    return pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [2 0 R 2 0 R 2 0 R] /Count 10000000 >>",
        ]
    )


def deep_lists(depth: int = 200_000) -> bytes:
    body = b"[" * depth + b"]" * depth
    return pdf([b"<< /Type /Catalog /Pages 2 0 R /Deep " + body + b" >>", body])


def endless_operators(num: int = 3_000_000) -> bytes:
    """Return a page with millions of instructions, in a file of some KB."""
    return with_pages([stream(zlib.compress(b"q Q\n" * num, 9), b"/Filter /FlateDecode")])
