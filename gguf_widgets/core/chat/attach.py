"""Files that go with a message: taken in, judged, and put into words for the model.

Promises: an `Attachment` is one that can be sent: a text (whatever its encoding), the text of a
PDF, or an image; anything else is refused in words that say what is possible. The content decides,
not the name. What the model is sent of a text is the same for every model (`as_prompt`). Sizes are
bounded, and nothing is fetched from the net. Leaves to others: keeping the bytes (the store), what
the rest of a message is (`prompt`).

What stands in the prompt for a text
------------------------------------
A line with its name, then the text between two fences of backticks that are longer than any row of
backticks in it, so that no text can end its own fence::

    Attached file "notes.txt":
    ```
    Buy milk.
    ```
"""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gguf_widgets.core.chat.attach_kinds import POSSIBLE, attachment_name, kind_of
from gguf_widgets.core.chat.attach_pdf import read_pdf
from gguf_widgets.core.chat.attach_text import check_length, read_text
from gguf_widgets.core.chat.context_count import TokenCounter, can_count
from gguf_widgets.core.chat.types import Attachment
from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import ImageError, InvalidValueError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.image_format import format_of
from gguf_widgets.core.images import Image, image
from gguf_widgets.core.plain_files import read_bounded
from gguf_widgets.core.store.conversations import new_id

__all__ = ["MAX_ATTACHMENTS", "MAX_FILE_BYTES", "Attachment", "as_prompt", "attach", "with_tokens"]

MAX_FILE_BYTES: Final = 20 * 1024 * 1024
"""The longest file that can be attached."""

MAX_ATTACHMENTS: Final = 20
"""The most that go with one message."""

_PROMPT_NAMES: Final = {"text": "file", "pdf": "PDF"}


def attach(
    source: Any,
    *,
    name: str | None = None,
    on_progress: Callable[[int, int], bool] = lambda _done, _total: True,
) -> tuple[Attachment, bytes]:
    """Take a file in, for `ChatInterface.send(..., attachments=[...])`.

    Parameters
    ----------
    source : bytes, str, path-like, PIL image or Image
        The bytes of a file, or a file's name; a picture may also be one of Pillow's.
    name : str, optional
        What it is called; default: the file's name.
    on_progress : callable, optional
        Called with the pages of a PDF read so far and all there are; False ends the reading.

    Returns
    -------
    Attachment
    bytes
        What is to be kept of it: the file, of an image as it can be sent (a WebP becomes a PNG).

    Raises
    ------
    InvalidValueError
        It cannot be attached; ``details["problem"]`` is "source", "missing", "size", "empty",
        "kind", or of a PDF one of those of `read_pdf`.
    ImageError
        An image that cannot be sent.
    MissingDependencyError
        For a PDF without pypdf, or a picture that needs Pillow; it says what to install.
    RequestCancelledError
        `on_progress` said so.

    Examples
    --------
    >>> attachment, data = attach(b"Buy milk.", name="notes.txt")
    >>> attachment.kind, attachment.name, attachment.text, len(data)
    ('text', 'notes.txt', 'Buy milk.', 9)
    """
    if isinstance(source, Image) or callable(getattr(source, "save", None)):  # of Pillow's
        return _of_image(image(source), attachment_name(name or "", ""), "")
    if isinstance(source, bytes | bytearray | memoryview):
        data, given = bytes(source), name or ""
    elif isinstance(source, str | os.PathLike):
        path = expanded(source)
        data, given = _from_file(path), name or path.name
    else:
        raise InvalidValueError(
            "An attachment is a file's name, the bytes of a file or a PIL image; this is a"
            f" {type(source).__name__}. For a text: attach(text.encode(), name='notes.txt').",
            problem="source",
        )
    shown = attachment_name(given, "")
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(shown or "The file", len(data))
    kind = kind_of(data, shown or "This file")
    if kind == "image":
        return _of_image(*_image_of(data, shown or "image"))
    if kind == "pdf":
        return _of_pdf(data, shown or "document.pdf", on_progress)
    return _of_text(data, shown or "text.txt")


def as_prompt(attachments: Sequence[Attachment]) -> str:
    """Return how the texts among some attachments stand in a prompt, "" if there are none.

    Images have no text; they are sent as they are.

    Examples
    --------
    >>> print(as_prompt([attach(b"Buy milk.", name="notes.txt")[0]]))
    Attached file "notes.txt":
    ```
    Buy milk.
    ```
    """
    return "\n\n".join(_block(one) for one in attachments if one.text is not None)


def with_tokens(attachment: Attachment, data: bytes, model: Any) -> Attachment:
    """Return the attachment with how many tokens it is for a model; counted once per content.

    Parameters
    ----------
    attachment : Attachment
    data : bytes
        Its file; needed for an image.
    model : Model
        One that cannot count (in a test), or cannot see an image, leaves the number unknown.

    Raises
    ------
    GgufWidgetsError
        The model cannot be asked.
    """
    if not can_count(model):
        return attachment
    counter = TokenCounter(model)
    if attachment.kind != "image":
        # As it stands in the prompt, with its name and fences.
        return msgspec.structs.replace(
            attachment, num_tokens=counter.text(_block(attachment)).num_tokens
        )
    count = counter.image(data).num_tokens if getattr(model, "sees_images", False) else None
    return msgspec.structs.replace(attachment, num_tokens=count)


# -- each kind -----------------------------------------------------------------------------------


def _of_text(data: bytes, name: str) -> tuple[Attachment, bytes]:
    found = read_text(data, name)
    mime = mimetypes.guess_type(name)[0] or "text/plain"
    if not mime.startswith("text/") and mime not in ("application/json", "application/xml"):
        mime = "text/plain"  # what its name promises it is not
    return _attachment("text", name, mime, data, found.text, found.note), data


def _of_pdf(
    data: bytes, name: str, on_progress: Callable[[int, int], bool]
) -> tuple[Attachment, bytes]:
    found = read_pdf(data, name, on_progress)
    check_length(found.text, name)
    return _attachment("pdf", name, "application/pdf", data, found.text, found.note), data


def _image_of(data: bytes, name: str) -> tuple[Image, str, str]:
    try:
        picture = image(data)
    except ImageError as error:
        words = f"“{name}” cannot be attached. {error.message}"
        raise ImageError(words, **error.details) from error
    note = ""
    if not format_of(data):
        note = "Turned into PNG, which models can be sent."
    elif picture.format == "gif":
        note = "Of a moving picture the first frame is sent."
    return picture, name, note


def _of_image(picture: Image, name: str, note: str) -> tuple[Attachment, bytes]:
    mime = f"image/{picture.format}"
    size = f"{picture.width:,} x {picture.height:,} pixels"
    notes = " ".join(part for part in (f"{size}.", note) if part)
    shown = name or f"image.{picture.format}"
    return _attachment("image", shown, mime, picture.data, None, notes), picture.data


def _attachment(
    kind: str, name: str, mime: str, data: bytes, text: str | None, note: str
) -> Attachment:
    return Attachment(
        id=new_id(),
        kind=kind,
        name=name,
        mime=mime,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        text=text,
        num_tokens=None,
        note=note,
    )


def _from_file(path: Path) -> bytes:
    shown = plain_text(str(path), 200)
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise InvalidValueError(
            f"There is no file “{shown}” to attach. A text goes as bytes:"
            " attach(text.encode(), name='notes.txt').",
            problem="missing",
        ) from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _too_large(shown, path.stat().st_size) from error
        raise InvalidValueError(
            f"The file “{shown}” cannot be read: {error.strerror or error}.", problem="missing"
        ) from error


def _too_large(name: str, size_bytes: int) -> InvalidValueError:
    return InvalidValueError(
        f"“{name}” is {format_bytes(size_bytes)}; at most {format_bytes(MAX_FILE_BYTES)} can be"
        f" attached. Attach the part that matters. {POSSIBLE}",
        problem="size",
        size_bytes=size_bytes,
        limit=MAX_FILE_BYTES,
    )


def _block(attachment: Attachment) -> str:
    text = attachment.text or ""
    longest = max((len(row) for row in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    kind = _PROMPT_NAMES.get(attachment.kind, "file")
    end = "" if text.endswith("\n") else "\n"
    return f'Attached {kind} "{attachment.name}":\n{fence}\n{text}{end}{fence}'
