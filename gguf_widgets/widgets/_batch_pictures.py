"""The pictures in a row's prompt, as a page is shown them.

Promises: the prompt is made by the same code as a run's, each picture in its place; one that cannot
be read stands there in words. A page gets a picture as a ``data:`` address that was made here, of
bytes that were judged, of bounded size, and only one that it was told of before; never an address
of the net, and never what a cell says of itself. Leaves to others: what a picture is
(`core.images`), which files may be read (`_batch_images`), drawing (static/_batch_images.js).

The page's message ``picture`` has the ``key`` of a picture; the answer has its ``url``. So a prompt
that is typed, and a row that is looked at while a run goes on, do not send it again each time.
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

from gguf_widgets.batch.images import ImageColumns
from gguf_widgets.batch.missing import MissingRule, is_missing
from gguf_widgets.batch.template import Template
from gguf_widgets.core.conversation_input import to_messages
from gguf_widgets.core.errors import InvalidValueError, RowError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.images import Image
from gguf_widgets.core.types import Message

__all__ = ["MAX_SHOWN_BYTES", "Asked", "Pictures"]

MAX_SHOWN_BYTES: Final = 2_000_000
_SHOWN: Final = ("png", "jpeg", "gif")
_KEPT_BYTES: Final = 48_000_000

View = dict[str, Any]


class Asked(NamedTuple):
    """A row's prompt.

    Attributes
    ----------
    views : list of dict
        What the page shows of each message: ``role``, ``text`` and, if it has pictures, ``parts``,
        each with a ``text`` or a ``picture``.
    messages : list of Message
        What the model is asked; empty if a picture cannot be read.
    num_unread : int
        How many pictures cannot be read; `views` say why.
    """

    views: list[View]
    messages: list[Message]
    num_unread: int


class _Unread(Image):
    """Stands in a prompt where a picture would be that cannot be read."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.data = b""


class Pictures:
    """The pictures that a widget's pages may ask for: the last ones that they were told of."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Image] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def asked(
        self, template: Template, rule: MissingRule, images: ImageColumns, row: Mapping[str, Any]
    ) -> Asked:
        """Make the prompt of a row.

        Raises
        ------
        RowError, InvalidValueError
            It cannot be made, for another reason than a picture that cannot be read.
        """
        if not images.columns:
            messages = template.render(row, rule)
            views = [{"role": one["role"], "text": one["content"]} for one in messages]
            return Asked(views, messages, 0)
        held, names = dict(row), dict[int, str]()
        for name in images.columns:
            if not is_missing(row.get(name)):
                held[name] = picture = _read(images, name, row[name])
                names[id(picture)] = name
        marked = template.render(images.marked(row), rule)
        placed = images.placed(marked, held, template.columns)
        views, unread = [], set[str]()
        for message in placed:
            parts: list[View] = []
            for part in message["content"]:
                if not isinstance(part, Image):
                    parts.append({"text": part})
                    continue
                name = names[id(part)]
                if isinstance(part, _Unread):
                    unread.add(name)
                parts.append({"picture": self.view(part, name, row[name])})
            text = "".join(one.get("text", "") for one in parts)
            view: View = {"role": message["role"], "text": text}
            if any("picture" in one for one in parts):
                view["parts"] = parts
            views.append(view)
        return Asked(views, [] if unread else to_messages(placed), len(unread))

    def view(self, picture: Image, column: str, value: Any) -> View:
        """Return what a page is told of a picture.

        Parameters
        ----------
        picture : Image
        column : str
        value : object
            The cell that it is from.

        Returns
        -------
        dict
            ``key``, ``alt``, ``width`` and ``height`` of one that can be shown; else ``words``, and
            ``isFault`` if that is because it cannot be read.
        """
        if isinstance(picture, _Unread):
            return {"words": picture.words, "isFault": True}
        size = f"{picture.width:,} x {picture.height:,} pixels, {format_bytes(len(picture.data))}"
        named = f'Picture in "{plain_text(column, 60)}"{_name_in(value)}'
        words = f"{named} ({picture.format.upper()}, {size})"
        if picture.format not in _SHOWN or len(picture.data) > MAX_SHOWN_BYTES:
            limit = format_bytes(MAX_SHOWN_BYTES)
            return {
                "words": f"{words}. The model gets it; only PNG, JPEG and GIF of at most {limit} "
                "are shown here.",
                "isFault": False,
            }
        self._keep(picture)
        return {
            "key": picture.digest,
            "alt": words,
            "width": picture.width,
            "height": picture.height,
        }

    def _keep(self, picture: Image) -> None:
        with self._lock:
            if picture.digest not in self._kept:
                self._num_bytes += len(picture.data)
            self._kept[picture.digest] = picture
            self._kept.move_to_end(picture.digest)
            while self._num_bytes > _KEPT_BYTES:
                _, oldest = self._kept.popitem(last=False)
                self._num_bytes -= len(oldest.data)

    def _picture(self, content: View, _buffers: Any) -> View:
        key = content.get("key")
        with self._lock:
            picture = self._kept.get(key) if isinstance(key, str) else None
        if picture is None:
            raise InvalidValueError(
                "This picture is not kept any more. Show another row, and then this one again."
            )
        return {"url": picture.to_url()}

    ACTIONS: ClassVar[dict[str, Callable[[Any, View, Any], View]]] = {"picture": _picture}


def _read(images: ImageColumns, name: str, value: Any) -> Image:
    """Read one cell as a run would; what is wrong with it in place of the picture."""
    alone = dataclasses.replace(images, columns=(name,))
    try:
        (message,) = alone.placed([Message(role="user", content="")], {name: value}, ())
    except RowError as error:
        return _Unread(error.message)
    picture: Image = message["content"][0]
    return picture


def _name_in(value: Any) -> str:
    """Return the name of a cell's file, to be put behind other words; "" if it has none."""
    if isinstance(value, Mapping):
        value = value.get("path")
    if not isinstance(value, str | os.PathLike) or str(value)[:5].lower() == "data:":
        return ""
    name = re.split(r"[/\\]", str(value))[-1]
    return f": {plain_text(name, 80)}" if name else ""
