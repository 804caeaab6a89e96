"""An upload whose pieces come as messages: what a widget's Python side feeds.

Promises: `feed` returns at once (comm callbacks must only enqueue), the work is done in one thread;
each piece that is written is answered by one message, in the order of the file; pieces that come in
another order are put right, repeated ones do no harm, one that is lost is asked for again; of a
sender that ignores the window no more than `MOST_HELD` pieces are kept; whatever goes wrong becomes
one message, never an exception in a callback. Leaves to others: how messages travel (`send` is
given), beginning (`UploadStore.begin`), the page (the widget).

**The protocol.** `begin` first, by a request of the widget's; then a session is made with its
answer. The page sends pieces of at most `PIECE_BYTES`, the first at ``send_from``, each with a
number `seq` that counts up and is never used twice, and has at most `WINDOW` of them unanswered.
The session answers, as plain dictionaries:

``{"type": "ack", "seq": 7, "offset": 29360128, "upload": {...}}``
    The piece is in the part file. ``upload`` is `Upload.to_dict`, without ``writer``. An answer to
    a piece that is void (below) is to be ignored.
``{"type": "again", "offset": 16777216}``
    Every piece without an answer is void: send from ``offset`` on, with new numbers. It comes when
    a piece is missing and did not come for `PATIENCE_S`, when too many came, and when the page
    calls `ask`, as it should when no answer came for ten seconds (a page whose pieces take
    longer than that sends smaller ones).
``{"type": "wait", "offset": 0, "place": 2}``
    Not this upload's turn (`place` have to end first). Every piece without an answer is void. An
    ``again`` follows when the turn has come; the session looks by itself.
``{"type": "checking", "upload": {...}}``
    All has arrived; repeated about twice a second while it is checked.
``{"type": "done", "upload": {...}}``
    The end: ``state`` is "done" or "already_there".
``{"type": "paused" | "cancelled", "upload": {...} | None}``
    The end, after `pause` or `cancel`. To go on after a pause, `UploadStore.resume` and a new
    session.
``{"type": "error", "kind": "UploadError", "message": "...", "details": {...}}``
    The end. What arrived is kept unless ``details`` says ``removed``; `begin` again goes on where
    it stopped. After "exists", begin with ``save_as`` and make a new session.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from gguf_widgets.core.errors import ModelFileError, UploadError, to_wire
from gguf_widgets.core.upload.progress import Upload
from gguf_widgets.core.upload.store import UploadStore

__all__ = ["MOST_HELD", "PATIENCE_S", "PIECE_BYTES", "WINDOW", "UploadSession"]

PIECE_BYTES: Final = 4 << 20
WINDOW: Final = 4
# Those of a window that became void may still arrive beside those of the next.
MOST_HELD: Final = 2 * WINDOW
PATIENCE_S: Final = 2.0
_POLL_S: Final = 0.5
_JOIN_S: Final = 30.0

_log = logging.getLogger(__name__)

Message = dict[str, Any]
_Piece = tuple[int, int, bytes]


class UploadSession:
    """The receiving end of one upload over messages.

    Parameters
    ----------
    store : UploadStore
    upload : Upload
        The answer of `UploadStore.begin` or `resume`, with its `writer`.
    send : callable
        Takes each answer, in the session's thread. What it raises ends the session; what arrived
        is kept.
    patience_s : float, default 2
        How long a missing piece is waited for.

    Raises
    ------
    UploadError
        "taken_over": the upload came without the right to write.
    """

    def __init__(
        self,
        store: UploadStore,
        upload: Upload,
        send: Callable[[Message], object],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        if not upload.writer:
            raise UploadError(
                f'"{upload.name}" came without the right to write it. Begin again.',
                problem="taken_over",
                id=upload.id,
            )
        self._store = store
        self._id = upload.id
        self._writer = upload.writer
        self._size = upload.size
        self._offset = upload.offset
        self._send = send
        self._patience_s = patience_s
        self._inbox: queue.SimpleQueue[_Piece | str] = queue.SimpleQueue()  # bounded by `feed`
        self._early: dict[int, _Piece] = {}  # by offset: pieces that came before their turn
        self._waits_since: float | None = None  # for a missing piece
        self._waiting = False  # for its turn
        self._looked_at = 0.0  # whether it has come
        self._dropped = False  # a piece, because too many were there
        self._order: str | None = None  # the last one, whatever is still queued before it
        self._refusal: UploadError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upload-session", daemon=True)
        self._thread.start()

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will be taken or sent."""
        return self._ended.is_set()

    def feed(self, seq: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Take a piece; returns at once, and never raises for what the page sent.

        Parameters
        ----------
        seq : int
            Comes back in the answer.
        offset : int
            Where the piece belongs.
        data : bytes-like
            Copied only if it is no `bytes`.
        """
        if self.is_ended or self._order is not None:
            return
        if len(data) > PIECE_BYTES:
            self._refusal = UploadError(
                f"A piece of {len(data):,} bytes came; the most is {PIECE_BYTES:,}. Reload the"
                " page, then go on.",
                problem="too_long",
                limit=PIECE_BYTES,
            )
            self._tell("refuse")
        elif self._inbox.qsize() + len(self._early) >= MOST_HELD:
            self._dropped = True
        else:
            self._inbox.put((seq, offset, bytes(data)))

    def ask(self) -> None:
        """Have the session say where to send from."""
        # One answer tells as much as many: a page that asks without end fills nothing.
        if not self.is_ended and self._order is None and self._inbox.qsize() < 2 * MOST_HELD:
            self._inbox.put("ask")

    def pause(self) -> None:
        """Stop for a while; what has not been written yet is void."""
        self._tell("pause")

    def cancel(self) -> None:
        """Give up the upload and remove what arrived."""
        self._tell("cancel")

    def close(self) -> None:
        """Write what came and end, for the page is gone; another page can go on without asking."""
        self._tell("close")

    def join(self, timeout_s: float = _JOIN_S) -> bool:
        """Wait until the session has ended; return whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        except Exception:  # noqa: BLE001 - it is logged, and there is nobody above to tell
            # Most likely the way to the page is broken: as if the page had gone.
            _log.exception("The upload of %s stopped; what arrived is kept.", self._id)
            self._store.release(self._id, writer=self._writer)
        finally:
            self._ended.set()
            self._early.clear()

    def _work(self) -> None:
        try:
            while not self._ended.is_set():
                self._step()
        except (UploadError, ModelFileError) as error:
            self._send_last({"type": "error", **to_wire(error)})

    def _step(self) -> None:
        with contextlib.suppress(queue.Empty):
            item = self._inbox.get(timeout=self._next_wait_s())
            if isinstance(item, str):
                self._obey(item)
            elif self._order in (None, "close"):
                self._take(item)
        if not self._ended.is_set():
            self._look_around()

    def _next_wait_s(self) -> float:
        if self._waits_since is None:
            return _POLL_S
        left = self._waits_since + self._patience_s - time.monotonic()
        return min(max(left, 0.0), _POLL_S)

    def _look_around(self) -> None:
        """Do what is due: look whether it is our turn, ask for what is missing, finish."""
        now = time.monotonic()
        if self._waiting:
            if now - self._looked_at >= _POLL_S:
                self._look_for_turn()
            return
        is_late = self._waits_since is not None and now - self._waits_since >= self._patience_s
        if is_late or (self._dropped and self._inbox.empty()):
            self._again(self._offset)
        elif self._offset == self._size:
            self._finish()

    def _look_for_turn(self, *, tell: bool = False) -> None:
        """Go on if the turn has come; else say so, if somebody asked."""
        self._looked_at = time.monotonic()
        upload = self._store.status(self._id, writer=self._writer)
        if upload.state != "waiting":
            self._waiting = False
            self._again(upload.offset)
        elif tell:
            self._void()
            self._send({"type": "wait", "offset": upload.offset, "place": upload.place})

    def _take(self, piece: _Piece) -> None:
        if self._waiting:
            return  # it was void before it came
        _, offset, _ = piece
        if offset > self._offset:
            self._early[offset] = piece
            if self._waits_since is None:
                self._waits_since = time.monotonic()
            return
        if not self._write(piece):
            return
        while self._early and (nearest := min(self._early)) <= self._offset:
            if not self._write(self._early.pop(nearest)):
                return
        self._waits_since = time.monotonic() if self._early else None

    def _write(self, piece: _Piece) -> bool:
        seq, offset, data = piece
        try:
            upload = self._store.write(self._id, offset, data, writer=self._writer)
        except UploadError as error:
            problem = error.details.get("problem")
            if problem == "waiting":
                self._waiting = True
                self._offset = int(error.details["offset"])
                self._look_for_turn(tell=True)
            elif problem == "gap":  # the part is shorter than we knew
                self._again(int(error.details["offset"]))
            else:
                raise
            return False
        self._offset = upload.offset
        self._send({"type": "ack", "seq": seq, "offset": upload.offset, "upload": _plain(upload)})
        return True

    def _again(self, offset: int) -> None:
        self._offset = offset
        self._void()
        self._send({"type": "again", "offset": offset})

    def _void(self) -> None:
        """Forget every piece that has no answer, also those that wait to be taken."""
        self._early.clear()
        self._waits_since = None
        self._dropped = False
        orders = []
        while True:
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                break
            if isinstance(item, str):
                orders.append(item)
        for order in orders:
            self._inbox.put(order)

    def _finish(self) -> None:
        upload = self._store.start_finish(self._id, writer=self._writer)
        while upload.state == "checking":
            self._send({"type": "checking", "upload": _plain(upload)})
            try:
                item = self._inbox.get(timeout=_POLL_S)
            except queue.Empty:
                pass
            else:
                if isinstance(item, str) and item != "ask":
                    self._obey(item)
                    return
            upload = self._store.status(self._id, writer=self._writer)
        if upload.error is not None:
            self._send_last({"type": "error", **upload.error})
        else:
            # Somebody else, with the same right, may have paused it.
            ended = upload.state in ("done", "already_there")
            self._send_last({"type": "done" if ended else "paused", "upload": _plain(upload)})

    def _obey(self, order: str) -> None:
        if order == "ask" and self._waiting:
            self._look_for_turn(tell=True)
        elif order == "ask":
            # It also says that the page is there, however long a piece takes to come.
            self._store.status(self._id, writer=self._writer)
            self._again(self._offset)
        elif order == "refuse" and self._refusal is not None:
            raise self._refusal
        elif order == "pause":
            upload = self._store.pause(self._id, writer=self._writer)
            self._send_last({"type": "paused", "upload": _plain(upload)})
        elif order == "cancel":
            self._store.cancel(self._id, writer=self._writer)
            self._send_last({"type": "cancelled", "upload": None})
        else:
            self._ended.set()
            self._store.release(self._id, writer=self._writer)

    # --- small things ---------------------------------------------------------------------------

    def _tell(self, order: str) -> None:
        if not self.is_ended and self._order is None:
            self._order = order
            self._inbox.put(order)

    def _send_last(self, message: Message) -> None:
        self._ended.set()
        self._send(message)


def _plain(upload: Upload) -> Message:
    plain = upload.to_dict()
    del plain["writer"]
    return plain
