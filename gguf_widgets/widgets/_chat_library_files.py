"""Files between a chat's page and Python, piece by piece: exports out, imports in.

Promises: no message over the socket is larger than a piece; what is kept here is bounded in number
and size, and forgotten when it was fetched, replaced or the widget ends; a page gets only what it
was given the key of. Leaves to others: what is in the files (`core.chat.export`).
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes

__all__ = ["MAX_IN_BYTES", "MAX_OUT_BYTES", "PIECE_BYTES", "Incoming", "Outgoing"]

PIECE_BYTES: Final = 1 << 20  # a message over 10 MiB would close the socket
MAX_OUT_BYTES: Final = 200_000_000
MAX_IN_BYTES: Final = 200_000_000
_MOST_KEPT: Final = 2


class Outgoing:
    """Files that pages fetch."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def keep(self, data: bytes) -> str:
        """Keep a file until it was fetched, and return its key.

        Raises
        ------
        InvalidValueError
            It is too large to go through a page.
        """
        if len(data) > MAX_OUT_BYTES:
            raise InvalidValueError(
                f"This export has {format_bytes(len(data))}; at most "
                f"{format_bytes(MAX_OUT_BYTES)} can go through a page. Save it from a cell: "
                'box.chat.save("conversation.json").',
                limit=MAX_OUT_BYTES,
            )
        while len(self._files) >= _MOST_KEPT:
            del self._files[next(iter(self._files))]
        key = secrets.token_hex(8)
        self._files[key] = data
        return key

    def piece(self, key: Any, offset: Any) -> bytes:
        """Return the next piece; the last one lets the file go.

        Raises
        ------
        InvalidValueError
            That file is no longer kept.
        """
        data = self._files.get(key) if isinstance(key, str) else None
        if data is None or isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise InvalidValueError("This file is not kept any more. Export it once more.")
        if offset + PIECE_BYTES >= len(data):
            del self._files[key]
        return data[offset : offset + PIECE_BYTES]

    def clear(self) -> None:
        """Let go of all files."""
        self._files.clear()


class Incoming:
    """Files that pages send; each page has one on its way at a time."""

    def __init__(self) -> None:
        self._pages: dict[str, tuple[str, bytearray]] = {}

    def take(self, content: dict[str, Any], buffers: list[Any]) -> bytes | None:
        """Add a piece; return the whole file with the last one.

        Parameters
        ----------
        content : dict
            ``page``, ``key`` (the page's own, for one file), ``offset`` and ``size`` of the file.
        buffers : list
            The piece.

        Raises
        ------
        InvalidValueError
            It is too large, or a piece went missing.
        """
        page, key = content.get("page"), content.get("key")
        offset, size = content.get("offset"), content.get("size")
        if not isinstance(page, str) or not isinstance(key, str) or not isinstance(offset, int):
            raise InvalidValueError("The page sent a piece of a file that cannot be told.")
        if not isinstance(size, int) or not 0 < size <= MAX_IN_BYTES:
            shown = format_bytes(size) if isinstance(size, int) else "an unknown size"
            raise InvalidValueError(
                "This file is empty."
                if size == 0
                else f"This file has {shown}; at most {format_bytes(MAX_IN_BYTES)} can be sent "
                "through a page. From a cell: gw.ChatInterface.load_file(path).",
                limit=MAX_IN_BYTES,
            )
        if offset == 0:
            self._pages.pop(page, None)
            while len(self._pages) >= _MOST_KEPT:
                del self._pages[next(iter(self._pages))]
            self._pages[page] = (key, bytearray())
        kept_key, data = self._pages.get(page, ("", bytearray()))
        piece = memoryview(buffers[0]).tobytes() if buffers else b""
        if kept_key != key or offset != len(data) or not piece or len(data) + len(piece) > size:
            self._pages.pop(page, None)
            raise InvalidValueError("A part of the file went missing on its way. Try again.")
        data += piece
        if len(data) < size:
            return None
        del self._pages[page]
        return bytes(data)

    def clear(self) -> None:
        """Let go of all files."""
        self._pages.clear()
