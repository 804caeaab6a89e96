"""Uploads over the dashboard's own HTTP server: bytes go to the disk as they come.

Promises: a body of any length is written with no more than some MiB of it in memory, slower when
the disk is slower; the server's loop never waits for a disk; only whoever may use the dashboard may
upload (its token or cookie, ``X-XSRFToken``, the host and origin checks, exactly as for Jupyter's
own API); a connection that is cut leaves everything that arrived. Leaves to others: what an upload
is, and every decision about it (`gguf_widgets.core.upload`, whose docstring has the states and the
reasons for a refusal).

**The routes**, below the server's base address; ``ID`` is an upload's ``id``. Bodies and answers
are JSON but for the PUT's body. Every request but GET carries the header ``X-XSRFToken`` with the
value of the cookie ``_xsrf`` (the page sets it), or a token in ``Authorization: token ...``. A
request about an upload carries its ``writer`` in ``X-Upload-Writer``.

``GET gw/uploads``
    ``{"uploads": [...], "folder": "...", "max_file_bytes": ..., "head_bytes": 65536, "piece_bytes":
    67108864}``: all that are not finished. To look at the list of old ones, and whether this is the
    way to a notebook's own folder: ``folder`` is `UploadStore.mark`, which a notebook compares with
    that of its own store.
``POST gw/uploads``
    Begins, or goes on. The body: ``{"name", "size", "head", "last_modified_ms", "save_as",
    "writer", "take_over", "label"}``, of which the first three are needed; ``head`` is the file's
    first 64 KiB in base64. Answers 201 with the upload.
``PUT gw/uploads/ID?offset=N``
    The file's bytes from byte N on, as they are (``application/octet-stream``), with a
    ``Content-Length``. As many as wanted; ``piece_bytes`` (64 MiB) at a time is best: a browser
    shows a refusal only when its request has been read, so the rest of a refused body is thrown
    away up to that length, and the connection closed beyond. Answers 200 with the upload; its
    ``offset`` is where the next body begins. One PUT at a time.
``GET gw/uploads/ID``
    200 with the upload. With the writer's header it also says that the page is there.
``POST gw/uploads/ID/pause``, ``POST gw/uploads/ID/resume``
    200 with the upload.
``POST gw/uploads/ID/finish``
    Body ``{}`` or ``{"save_as": ...}``. 202 with the upload, in state "checking"; ask GET until it
    is something else.
``DELETE gw/uploads/ID``
    Cancels, with the writer's header; without it, removes an old upload that nobody writes. 204.

A refusal is ``{"kind": "UploadError", "message": "...", "details": {...}}``, with a status after
its ``details.problem``; where it knows it, ``details.offset`` is where to go on:

====  ==============================================================================================
400   name, size, head, time, piece; request (a body that is no such JSON)
403   server (not let in), with 404 for another site's page
404   unknown; server (there is nothing at this address)
409   in_use, too_many, taken_over, exists, gap, changed, paused, incomplete, cancelled
411   length (a PUT that does not say how long it is)
413   too_long; size of a file that is larger than the limit
422   wrong_hash, and the kinds of `ModelFileError`: the file is no use
500   disk, folder, damaged
503   waiting, busy; with ``Retry-After``
507   space, quota
====  ==============================================================================================
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec
from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, authenticated, stream_request_body

from gguf_widgets.core.errors import GgufWidgetsError, ModelFileError, UploadError, to_wire
from gguf_widgets.core.upload import HEAD_BYTES, Upload, UploadStore

__all__ = ["PIECE_BYTES", "upload_handlers"]

PIECE_BYTES: Final = 64 << 20

# What is collected before it is handed to the writing thread; while that writes one, the next is
# collected, so twice this is in memory.
_BLOCK_BYTES: Final = 2 << 20
_MAX_JSON_BYTES: Final = 1 << 18
# A body may take as long as a slow network needs, but not for ever.
_LEAST_TIME_S: Final = 120.0
_SLOWEST_BYTES_PER_S: Final = 16 << 10
_NUM_THREADS: Final = 4
_MOST_DIGITS: Final = 18
# From a slow network even a part of a block is written after so long: the store takes an upload
# of which it hears nothing for one whose page is gone.
_FLUSH_S: Final = 2.0

_STATUS: Final = {
    "name": 400,
    "size": 400,
    "head": 400,
    "time": 400,
    "piece": 400,
    "request": 400,
    "unknown": 404,
    "length": 411,
    "too_long": 413,
    "wrong_hash": 422,
    "disk": 500,
    "folder": 500,
    "damaged": 500,
    "waiting": 503,
    "busy": 503,
    "space": 507,
    "quota": 507,
}
_ELSE: Final = 409
_WORDS: Final = {
    403: "The dashboard does not let this page in. Reload it; if that does not help, open it by the"
    " address that was printed when it was started.",
    404: "There is nothing at this address.",
    405: "That cannot be done at this address.",
    500: "The server met an error that it did not expect. The terminal in which it was started says"
    " more.",
}

_T = TypeVar("_T")


class _Begin(msgspec.Struct, forbid_unknown_fields=True):
    """What a page says to begin."""

    name: str
    size: int
    head: str
    last_modified_ms: int | None = None
    save_as: str | None = None
    writer: str | None = None
    take_over: bool = False
    label: str = ""


class _FinishOptions(msgspec.Struct, forbid_unknown_fields=True):
    save_as: str | None = None


class Service:
    """What the handlers of one server share: the store, and the threads that wait for the disk."""

    def __init__(self, store: UploadStore) -> None:
        self.store = store
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="upload")

    def call(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> asyncio.Future[_T]:
        """Run something in a thread."""
        return asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: function(*args, **kwargs)
        )


class _UploadBase(APIHandler):
    """What all routes have in common."""

    auth_resource = "contents"

    def initialize(self, service: Service) -> None:
        """Take what the server's handlers share."""
        self.service = service

    async def prepare(self) -> None:  # type: ignore[override]  # as Jupyter's own handlers have it
        """Let in whom the server lets in, before anything of a body is taken."""
        await super().prepare()
        # For most handlers these come with the method; a body that streams comes before that.
        if self.current_user is None:
            raise HTTPError(403)
        action = "read" if self.request.method in ("GET", "HEAD") else "write"
        allowed = self.authorizer.is_authorized(self, self.current_user, action, self.auth_resource)
        if not await ensure_async(allowed):
            raise HTTPError(403)

    @property
    def store(self) -> UploadStore:
        """The uploads."""
        return self.service.store

    @property
    def writer(self) -> str:
        """The right to write that the page sent, or ""."""
        return str(self.request.headers.get("X-Upload-Writer", ""))

    def answer(self, plain: Any, status: int = 200) -> None:
        """Send JSON that nobody keeps."""
        self.set_status(status)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(plain))

    def body_as(self, kind: type[_T]) -> _T:
        """Read the body as JSON of this kind.

        Raises
        ------
        UploadError
            "request".
        """
        body = self.request.body or b"{}"
        if len(body) > _MAX_JSON_BYTES:
            raise UploadError(
                f"The request has {len(body):,} bytes; {_MAX_JSON_BYTES:,} is the most. Reload the"
                " page, then try again.",
                problem="request",
                limit=_MAX_JSON_BYTES,
            )
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UploadError(
                f"The request cannot be understood ({error}). Reload the page, then try again.",
                problem="request",
            ) from error

    def log_exception(self, *exc_info: Any) -> None:
        """Leave what a person is told out of the log."""
        if not isinstance(exc_info[1], UploadError | ModelFileError):
            super().log_exception(*exc_info)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send every error as ``{kind, message, details}``."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if isinstance(error, UploadError | ModelFileError):
            wire = to_wire(error)
            status_code = status_of(error)
            if status_code == 503:
                self.set_header("Retry-After", "1")
        else:
            message = _WORDS.get(status_code, f"{_WORDS[500]} ({status_code})")
            if isinstance(error, HTTPError) and error.log_message and status_code < 500:
                message = f"{message} ({error.log_message})"
            wire = {"kind": "UploadError", "message": message, "details": {"problem": "server"}}
        self.answer(wire, status_code)


class UploadsHandler(_UploadBase):
    """All uploads."""

    @authenticated
    async def get(self) -> None:
        """List those that are not finished."""
        _ = self.xsrf_token  # sets the cookie for a page that has none
        uploads = await self.service.call(self.store.uploads)
        self.answer(
            {
                "uploads": [upload.to_dict() for upload in uploads],
                "folder": await self.service.call(lambda: self.store.mark),
                "max_file_bytes": self.store.limits.max_file_bytes,
                "head_bytes": HEAD_BYTES,
                "piece_bytes": PIECE_BYTES,
            }
        )

    @authenticated
    async def post(self) -> None:
        """Begin one, or go on with it."""
        asked = self.body_as(_Begin)
        try:
            head = base64.b64decode(asked.head, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UploadError(
                "The beginning of the file did not come as base64. Reload the page, then try"
                " again.",
                problem="head",
            ) from error
        upload = await self.service.call(
            self.store.begin,
            asked.name,
            asked.size,
            head,
            last_modified_ms=asked.last_modified_ms,
            save_as=asked.save_as,
            writer=asked.writer,
            take_over=asked.take_over,
            label=asked.label,
        )
        self.answer(upload.to_dict(), 201)


class UploadActionHandler(_UploadBase):
    """What can be done with an upload beside sending its bytes."""

    @authenticated
    async def post(self, upload_id: str, action: str) -> None:
        """Pause it, go on with it, or finish it."""
        status = 200
        if action == "pause":
            upload = await self.service.call(self.store.pause, upload_id, writer=self.writer)
        elif action == "resume":
            upload = await self.service.call(self.store.resume, upload_id, writer=self.writer)
        else:
            options = self.body_as(_FinishOptions)
            upload = await self.service.call(
                self.store.start_finish, upload_id, writer=self.writer, save_as=options.save_as
            )
            status = 202
        self.answer(upload.to_dict(), status)


@stream_request_body
class UploadHandler(_UploadBase):
    """One upload: its bytes, its state, its end.

    `prepare` runs when the head of a request has come; then each block of a body arrives in
    `data_received`, and the next is read from the socket only when that has returned.
    """

    def initialize(self, service: Service) -> None:
        """Take what the server's handlers share; begin with nothing."""
        super().initialize(service)
        self._blocks: list[bytes] = []
        self._num_held = 0
        self._writing: asyncio.Future[Upload] | None = None
        # A connection may be cut while the body's own coroutine hands something over.
        self._handing_over = asyncio.Lock()
        self._upload: Upload | None = None
        self._handed_over_at = time.monotonic()
        self._at = 0  # where the next block belongs
        self._left = 0  # of the body
        self._refusal: UploadError | ModelFileError | None = None

    async def prepare(self) -> None:  # type: ignore[override]  # as above
        """Judge the request before any of its body is read."""
        await super().prepare()
        if self.request.method != "PUT":
            self._limit_body(_MAX_JSON_BYTES)
            return
        self._left = self._length()
        try:
            self._at = self._offset()
            self._upload = await self.service.call(
                self.store.check, self.path_args[0], self._at, self._left, writer=self.writer
            )
        except (UploadError, ModelFileError) as error:
            # A browser sees an answer only when its body has been read: it is, and thrown away.
            if self._left > PIECE_BYTES:
                raise
            self._refusal = error
        # Only here is a body longer than the server's own limit let in.
        self._limit_body(self._left)

    async def data_received(self, chunk: bytes) -> None:
        """Take a piece of the body; the next comes when this has returned."""
        self._left -= len(chunk)
        if self.request.method != "PUT" or self._refusal is not None:
            return
        self._blocks.append(chunk)
        self._num_held += len(chunk)
        is_due = time.monotonic() - self._handed_over_at >= _FLUSH_S
        if self._num_held < _BLOCK_BYTES and not is_due:
            return
        await self._hand_over()
        if self._left > PIECE_BYTES and not self._finished:
            self._refuse_now()

    @authenticated
    async def put(self, upload_id: str) -> None:  # noqa: ARG002 - the body has been told already
        """Answer when the whole body has been written."""
        await self._hand_over()
        await self._written()
        if self._refusal is not None:
            raise self._refusal
        assert self._upload is not None  # noqa: S101 - it is set where the refusal is not
        self.answer(self._upload.to_dict())

    @authenticated
    async def get(self, upload_id: str) -> None:
        """Send the state."""
        upload = await self.service.call(self.store.status, upload_id, writer=self.writer)
        self.answer(upload.to_dict())

    @authenticated
    async def delete(self, upload_id: str) -> None:
        """Cancel it, or remove an old one."""
        if self.writer:
            await self.service.call(self.store.cancel, upload_id, writer=self.writer)
        else:
            await self.service.call(self.store.remove, upload_id)
        self.set_status(204)
        self.finish()

    def on_connection_close(self) -> None:
        """Write what came before the connection was cut, and let others go on with it."""
        super().on_connection_close()
        if self._upload is not None and not self._finished:
            IOLoop.current().spawn_callback(self._keep)

    # --- the body -------------------------------------------------------------------------------

    async def _hand_over(self) -> None:
        """Have what was collected written, when what was collected before has been."""
        async with self._handing_over:
            await self._wait_for_disk()
            self._handed_over_at = time.monotonic()
            if self._refusal is not None or not self._blocks:
                self._blocks.clear()
                return
            data, self._blocks, self._num_held = b"".join(self._blocks), [], 0
            at, self._at = self._at, self._at + len(data)
            self._writing = self.service.call(
                self.store.write, self.path_args[0], at, data, writer=self.writer
            )

    async def _written(self) -> None:
        """Wait until what was handed over is on the disk."""
        async with self._handing_over:
            await self._wait_for_disk()

    async def _wait_for_disk(self) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            self._upload = await writing
        except (UploadError, ModelFileError) as error:
            self._refusal = error

    def _refuse_now(self) -> None:
        """Answer without waiting for the rest, if there is something to refuse; it closes."""
        error = self._refusal
        if error is not None:
            self.send_error(status_of(error), exc_info=(type(error), error, None))

    async def _keep(self) -> None:
        await self._hand_over()
        await self._written()
        if self._refusal is not None:
            self.log.info("After its connection was cut, an upload stopped: %s", self._refusal)
        await self.service.call(self.store.release, self.path_args[0], writer=self.writer)

    def _length(self) -> int:
        """Return how long the body will be."""
        text = self.request.headers.get("Content-Length", "")
        if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
            raise UploadError(
                "The request does not say how long its body is. Send a Content-Length.",
                problem="length",
            )
        return int(text)

    def _offset(self) -> int:
        text = self.get_query_argument("offset", "")
        if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
            raise UploadError(
                f"The offset is {text[:20]!r}; it must be a whole number of bytes.",
                problem="piece",
            )
        return int(text)

    def _limit_body(self, num_bytes: int) -> None:
        connection: Any = self.request.connection
        connection.set_max_body_size(max(num_bytes, 0))
        connection.set_body_timeout(_LEAST_TIME_S + num_bytes / _SLOWEST_BYTES_PER_S)


def status_of(error: GgufWidgetsError) -> int:
    """Return the HTTP status that goes with a refusal."""
    if isinstance(error, ModelFileError):
        return 422
    problem = error.details.get("problem")
    if problem == "size" and "limit" in error.details:
        return 413
    return _STATUS.get(str(problem), _ELSE)


def upload_handlers(server_url: str, store: UploadStore) -> list[Any]:
    """Return the routes, to be put before those of the application.

    Parameters
    ----------
    server_url : str
        The base address.
    store : UploadStore
    """
    shared = {"service": Service(store)}
    one = r"/gw/uploads/([0-9a-f]{32})"
    return [
        (url_path_join(server_url, r"/gw/uploads"), UploadsHandler, shared),
        (url_path_join(server_url, one), UploadHandler, shared),
        (
            url_path_join(server_url, one + r"/(pause|resume|finish)"),
            UploadActionHandler,
            shared,
        ),
    ]
