"""What tests of uploads do over and over: begin, send, go on, be refused.

Not a test and no fixture: import it as ``from support.upload_steps import begin``.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from support.model_bytes import head_of, model_bytes

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.upload import Upload, UploadStore

__all__ = ["DATA", "DIGEST", "SIZE", "at", "begin", "refused", "send", "upload_all"]

SIZE = 300_000
DATA = model_bytes(SIZE)
DIGEST = hashlib.sha256(DATA).hexdigest()


def begin(store: UploadStore, data: bytes = DATA, name: str = "m.gguf", **more: Any) -> Upload:
    return store.begin(name, len(data), head_of(data), **more)


def send(
    store: UploadStore, upload: Upload, data: bytes = DATA, *, end: int | None = None
) -> Upload:
    offset, last = upload.send_from, upload
    while offset < (end if end is not None else len(data)):
        piece = data[offset : min(offset + 100_000, end or len(data))]
        last = store.write(upload.id, offset, piece, writer=upload.writer)
        offset = last.offset
    return last


def upload_all(store: UploadStore, data: bytes = DATA, name: str = "m.gguf") -> Upload:
    upload = begin(store, data, name)
    send(store, upload, data)
    return store.finish(upload.id, writer=upload.writer)


def refused(problem: str, call: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    with pytest.raises(UploadError) as caught:
        call(*args, **kwargs)
    assert caught.value.details["problem"] == problem, caught.value
    return caught.value.details


def at(upload: Upload, offset: int) -> Upload:
    return msgspec.structs.replace(upload, send_from=offset)
