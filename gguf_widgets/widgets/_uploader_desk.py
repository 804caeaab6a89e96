"""The uploads of a widget whose pieces come as messages: who sends which, and what they are told.

Promises: `feed` returns at once and keeps a bounded amount, whatever a page sends; what a page sent
in a wrong form is answered with a sentence; a page that is gone holds nothing up: its uploads are
released, so that the same file, chosen again, goes on; each page gets only its own right to write.
The last word about an upload is said again to a page that did not hear it. Leaves to others: the
pieces themselves (`UploadSession`), the disk (`UploadStore`), the messages' way (the widget).

`feed` and `ask` are called by the comm's thread, the others by the widget's own or by a person's
code: what they share are dictionaries, of which each operation is atomic.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gguf_widgets.core.errors import GgufWidgetsError, UploadError, to_wire
from gguf_widgets.core.upload import Upload, UploadSession, UploadStore

__all__ = ["Desk", "Message", "page_of", "plain"]

Message = dict[str, Any]

_KEY: Final = re.compile(r"[0-9a-z]{4,40}", re.ASCII)
# More at a time help nobody: one runs, the others wait for their turn.
_MAX_SESSIONS: Final = 32
# A hidden page's timers run once a minute.
_SILENCE_S: Final = 150.0
_JOIN_S: Final = 5.0
# How long the last word is kept for a page whose connection was cut just then.
_KEEP_S: Final = 120.0
_LAST: Final = ("done", "error", "paused", "cancelled")
_LARGEST_INT: Final = 1 << 53  # what JavaScript counts exactly
_MAX_TEXT: Final = 5000


@dataclass
class _Sender:
    """A page that sends one file."""

    upload_id: str
    page: str
    session: UploadSession
    last: Message = field(default_factory=dict)  # message to the page
    heard_at: float = field(default_factory=time.monotonic)

    @property
    def said(self) -> str:
        """The type of the last message to the page."""
        return str(self.last.get("type", ""))

    @property
    def is_alive(self) -> bool:
        """Whether more is taken."""
        return not self.session.is_ended


class Desk:
    """Takes what pages send.

    Parameters
    ----------
    store : UploadStore
    send : callable
        Takes a message for the pages; called from several threads.
    ended : callable
        Told of an upload that ended well, in the session's thread.
    clock : callable, optional
        Seconds that do not go back.
    """

    def __init__(
        self,
        store: UploadStore,
        send: Callable[[Message], object],
        ended: Callable[[Message], object],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._send = send
        self._ended = ended
        self._clock = clock
        self._senders: dict[str, _Sender] = {}  # by the key that the page chose
        self._writers: dict[str, tuple[str, str]] = {}  # by upload: the right to write, its page

    # -- called from the comm's thread ------------------------------------------------------------

    def feed(self, content: Message, buffers: Any) -> None:
        """Take a piece; what is wrong with it is told to the page."""
        key = content.get("session")
        sender = self._alive(key)
        if sender is None:
            return
        seq, offset = _count(content.get("seq")), _count(content.get("offset"))
        data = _only(buffers)
        if seq is None or offset is None or data is None:
            error = UploadError(
                "A piece of the file came in a form that is not known here. Reload the page, then"
                " choose the file again.",
                problem="piece",
            )
            sender.session.close()
            sender.last = {"type": "error", **to_wire(error)}
            self._tell(str(key), sender.last)
            return
        sender.session.feed(seq, offset, data)

    def ask(self, content: Message) -> None:
        """Have the page told where to send from."""
        sender = self._alive(content.get("session"))
        if sender is not None:
            sender.session.ask()

    # -- called from the widget's thread ----------------------------------------------------------

    def begin(self, content: Message, buffers: Any) -> Message:
        """Begin an upload for a page, or go on with it; return its plain data.

        Raises
        ------
        GgufWidgetsError
            It is refused.
        """
        self.sweep()
        key, page = content.get("mid"), page_of(content)
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key in self._senders:
            raise _not_understood("key")
        modified = content.get("lastModified")
        if modified is not None and (
            not isinstance(modified, int)
            or isinstance(modified, bool)
            or abs(modified) > _LARGEST_INT
        ):
            raise _not_understood("lastModified")
        save_as = content.get("saveAs")
        if save_as is not None and (not isinstance(save_as, str) or len(save_as) > _MAX_TEXT):
            raise _not_understood("saveAs")
        label = content.get("label")
        known = content.get("id")
        if isinstance(known, str):
            self._stop_own(known, page)
        if sum(sender.is_alive for sender in list(self._senders.values())) >= _MAX_SESSIONS:
            raise UploadError(
                f"{_MAX_SESSIONS} files are being uploaded or wait for their turn here already."
                " Try again when one has ended.",
                problem="busy",
                limit=_MAX_SESSIONS,
            )
        upload = self._store.begin(
            content.get("name"),  # type: ignore[arg-type]  # the store refuses what is no text
            content.get("size"),  # type: ignore[arg-type]  # and what is no size
            bytes(_only(buffers) or b""),
            last_modified_ms=modified,
            save_as=save_as,
            writer=self._right_of(known, page),
            take_over=content.get("takeOver") is True,
            label=label[:100] if isinstance(label, str) else "",
        )
        self._stop_own(upload.id, page)  # the page lost sight of it, and has the same file
        self._start(key, page, upload)
        return plain(upload)

    def pause(self, upload_id: str, page: str | None = None) -> Message:
        """Stop an upload for a while; None as the page is whoever sends it.

        Raises
        ------
        GgufWidgetsError
            Nobody of this widget sends it, or the disk failed.
        """
        sender = self._sender_of(upload_id, page)
        if sender is not None:
            sender.session.pause()
            sender.session.join(_JOIN_S)
            return plain(self._store.status(upload_id))
        return plain(self._store.pause(upload_id, writer=self._right(upload_id, page)))

    def cancel(self, upload_id: str, page: str | None = None) -> None:
        """Give up an upload and remove what arrived; None as the page is whoever sends it.

        Raises
        ------
        GgufWidgetsError
            Nobody of this widget sends it, or the disk failed.
        """
        sender = self._sender_of(upload_id, page)
        if sender is not None:
            sender.session.cancel()
            sender.session.join(_JOIN_S)
        else:
            self._store.cancel(upload_id, writer=self._right(upload_id, page))
        self._writers.pop(upload_id, None)

    def has(self, upload_id: str) -> bool:
        """Return whether a page of this widget sends this upload, or has paused it."""
        return upload_id in self._writers

    def hear(self, page: str) -> Message:
        """Note that a page is there; return what was last said about each of its uploads."""
        said = {}
        for key, sender in list(self._senders.items()):
            if sender.page == page:
                said[key] = sender.said
                if sender.is_alive:
                    sender.heard_at = self._clock()
                elif sender.said in _LAST:
                    self._tell(key, sender.last)
        return said

    def leave(self, page: str) -> None:
        """Let go of what a page sends, for it is gone; what is being checked goes on."""
        for key, sender in list(self._senders.items()):
            if sender.page == page and sender.said != "checking":
                self._let_go(key, sender)  # also what is only remembered for it
        for upload_id, (_, owner) in list(self._writers.items()):
            if owner == page and self._sender_of(upload_id) is None:
                del self._writers[upload_id]

    def sweep(self) -> None:
        """Forget those that have ended, and let go of those whose page has gone without a word."""
        now = self._clock()
        for key, sender in list(self._senders.items()):
            if not sender.is_alive:
                if now - sender.heard_at > _KEEP_S:
                    self._senders.pop(key, None)
            elif now - sender.heard_at > _SILENCE_S and sender.said != "checking":
                self._let_go(key, sender)

    def close(self) -> None:
        """Let go of everything; it can go on elsewhere."""
        for key, sender in list(self._senders.items()):
            self._let_go(key, sender)

    # -- inside -----------------------------------------------------------------------------------

    def _start(self, key: str, page: str, upload: Upload) -> None:
        def pass_on(message: Message) -> None:
            kind = message["type"]
            if sender := self._senders.get(key):
                sender.last = message
            if kind == "done":
                self._ended(message["upload"])
            self._tell(key, message)

        self._writers[upload.id] = (upload.writer, page)
        session = UploadSession(self._store, upload, pass_on)
        self._senders[key] = _Sender(upload.id, page, session, heard_at=self._clock())

    def _tell(self, key: str, message: Message) -> None:
        self._send({"kind": "session", "session": key, "message": message})

    def _alive(self, key: object) -> _Sender | None:
        """Return who takes a page's pieces; tell it if nobody does: it begins again and goes on."""
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            return None
        sender = self._senders.get(key)
        if sender is not None:
            sender.heard_at = self._clock()
            if sender.is_alive:
                return sender
        if sender is None:
            self._tell(key, {"type": "lost"})
        elif sender.said in _LAST:  # else its last word is just on its way
            self._tell(key, sender.last)
        return None

    def _sender_of(self, upload_id: str, page: str | None = None) -> _Sender | None:
        for sender in list(self._senders.values()):
            is_it = sender.upload_id == upload_id and page in (None, sender.page)
            if is_it and sender.is_alive:
                return sender
        return None

    def _right(self, upload_id: str, page: str | None) -> str:
        """Return the right to write an upload; without it the store says what is wrong."""
        writer, owner = self._writers.get(upload_id, ("", ""))
        return writer if page in (None, owner) else ""

    def _right_of(self, upload_id: object, page: str) -> str | None:
        return self._right(upload_id, page) or None if isinstance(upload_id, str) else None

    def _stop_own(self, upload_id: str, page: str) -> None:
        """End what this page had begun before of the same upload."""
        for key, sender in list(self._senders.items()):
            if sender.upload_id == upload_id and sender.page == page and sender.is_alive:
                self._let_go(key, sender)

    def _let_go(self, key: str, sender: _Sender) -> None:
        sender.session.close()
        sender.session.join(_JOIN_S)
        self._senders.pop(key, None)


def page_of(content: Message) -> str:
    """Return the name that a page gave itself.

    Raises
    ------
    UploadError
        It is none.
    """
    page = content.get("page")
    if not isinstance(page, str) or not _KEY.fullmatch(page):
        raise _not_understood("page")
    return page


def plain(upload: Upload) -> Message:
    """Return an upload as plain data, without the right to write it."""
    data = upload.to_dict()
    del data["writer"]
    return data


def _only(buffers: Any) -> bytes | memoryview | None:
    """Return the one buffer that came, or None if there is another number of them."""
    if not isinstance(buffers, list | tuple) or len(buffers) != 1:
        return None
    data = buffers[0]
    return data if isinstance(data, bytes | memoryview) else None


def _count(value: object) -> int | None:
    """Return a whole number that JavaScript can count to, or None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_INT:
        return value
    return None


def _not_understood(what: str) -> GgufWidgetsError:
    return UploadError(
        f"The page sent something that is not understood here ({what}). Reload the page, then"
        " choose the file again.",
        problem="request",
    )
