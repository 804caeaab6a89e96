"""The files that a person has put beside a message that is not sent yet.

Promises: a file comes in pieces, each where the last one ended, and never larger than it said; it
is read on a thread of its own, which Remove ends; whatever goes wrong is said on that file alone;
what was read is in the store at once, so that a page that is loaded again can ask for it. Leaves to
others: what can be attached (`core.chat.attach`), sending it (`core.chat.interface`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from gguf_widgets.core.chat.attach import (
    MAX_ATTACHMENTS,
    MAX_FILE_BYTES,
    attach,
    with_tokens,
)
from gguf_widgets.core.chat.attach_kinds import attachment_name
from gguf_widgets.core.chat.types import Attachment
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.store.conversations import Conversations, new_id
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._chat_part import ChatHost, Content
from gguf_widgets.widgets._words import as_known

__all__ = ["DraftFiles"]

_TELL_EVERY_S: Final = 0.2
_SILENT_S: Final = 4.0  # an upload without a piece for so long, when another page comes, is over

_log = logging.getLogger(__name__)


class _Draft:
    """One file: coming in, being read, ready or failed."""

    def __init__(self, name: str, size_bytes: int) -> None:
        self.id = new_id()
        self.name = name
        self.size_bytes = size_bytes
        self.state = "coming"
        self.data = bytearray()
        self.attachment: Attachment | None = None
        self.error = ""
        self.progress = ""
        self.counted_for: object = None
        self.heard = time.monotonic()
        self.removed = False

    def view(self) -> Content:
        one = self.attachment
        return {
            "id": self.id,
            "name": one.name if one is not None else self.name,
            "kind": one.kind if one is not None else "",
            "size": format_bytes(self.size_bytes),
            "tokens": one.num_tokens if one is not None else None,
            "note": one.note if one is not None else "",
            "sha256": one.sha256 if one is not None else "",
            "state": self.state,
            "error": self.error,
            "progress": self.progress,
        }


class DraftFiles:
    """The files of one chat's unsent message, in the order in which they were chosen.

    Parameters
    ----------
    host : ChatHost
    """

    def __init__(self, host: ChatHost) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._drafts: dict[str, _Draft] = {}
        self._told = 0.0
        self._actor = Actor("ChatBox-files", lambda do: do())

    def close(self) -> None:
        """Give up whatever is under way."""
        with self._lock:
            for draft in self._drafts.values():
                draft.removed = True
        self._actor.close()

    # -- what the page says ------------------------------------------------------------------------

    def begin(self, name: object, size_bytes: object) -> str:
        """Expect a file; return its id.

        Raises
        ------
        InvalidValueError
            It is too large, or there are too many.
        """
        shown = attachment_name(str(name), "file")
        if isinstance(size_bytes, bool) or not isinstance(size_bytes, int) or size_bytes < 0:
            raise InvalidValueError("The page did not say how large the file is. Try again.")
        if size_bytes > MAX_FILE_BYTES:
            raise InvalidValueError(
                f"“{shown}” is {format_bytes(size_bytes)}; at most {format_bytes(MAX_FILE_BYTES)}"
                " can be attached. Attach the part that matters.",
                problem="size",
            )
        with self._lock:
            if len(self._drafts) >= MAX_ATTACHMENTS:
                raise InvalidValueError(
                    f"At most {MAX_ATTACHMENTS} files go with one message. Send these first, or"
                    " remove some.",
                    problem="count",
                )
            draft = _Draft(shown, size_bytes)
            self._drafts[draft.id] = draft
        if size_bytes == 0:
            self._come(draft)
        self._host.touch()
        return draft.id

    def piece(self, draft_id: object, offset: object, piece: bytes) -> int:
        """Take the next piece of a file in; return how much of it is here.

        Raises
        ------
        InvalidValueError
            It does not follow the last one, or the file was removed.
        """
        with self._lock:
            draft = self._drafts.get(str(draft_id))
            if draft is None:
                raise InvalidValueError("This file was removed.", problem="removed")
            if (
                draft.state != "coming"
                or offset != len(draft.data)
                or len(draft.data) + len(piece) > draft.size_bytes
            ):
                draft.state, draft.error = "failed", "The upload went wrong. Attach the file again."
                draft.data.clear()
                raise InvalidValueError(draft.error, problem="piece")
            draft.data += piece
            draft.heard = time.monotonic()
            whole = len(draft.data) == draft.size_bytes
            here = len(draft.data)
        if whole:
            self._come(draft)
        return here

    def remove(self, draft_id: object) -> None:
        """Forget a file; its reading ends."""
        with self._lock:
            draft = self._drafts.pop(str(draft_id), None)
            if draft is not None:
                draft.removed = True
        self._host.touch()

    def bring_back(self, items: object) -> None:
        """Attach files again that a page had before it was loaded anew; those gone are left.

        Parameters
        ----------
        items : list of dict
            ``name`` and ``sha256`` of each.
        """
        now = time.monotonic()
        with self._lock:
            known = {d.attachment.sha256 for d in self._drafts.values() if d.attachment is not None}
            for draft in self._drafts.values():
                if draft.state == "coming" and now - draft.heard > _SILENT_S:
                    draft.state, draft.error = "failed", "The upload was cut off. Attach it again."
        for item in items[:MAX_ATTACHMENTS] if isinstance(items, list) else []:
            if not isinstance(item, dict) or str(item.get("sha256")) in known:
                continue
            self._bring_back(str(item.get("name")), str(item.get("sha256")))
        self._host.touch()

    def _bring_back(self, name: str, sha256: str) -> None:
        try:
            data = Conversations(self._host.chat.store).file(sha256)
            draft_id = self.begin(name, len(data))
        except GgufWidgetsError as error:
            # After a day, or with another data folder; the page says that it was there.
            _log.info("A file of a draft could not be brought back: %s", error.message)
            self._host.say(f"“{plain_text(name)}” is not attached any more. Attach it again.")
            return
        if data:
            self.piece(draft_id, 0, data)

    # -- what is sent ------------------------------------------------------------------------------

    def attachments(self, ids: object = None) -> list[Attachment]:
        """Return the files that are ready, in order: those with these ids, or all.

        Raises
        ------
        InvalidValueError
            One of `ids` is not ready, or is not there.
        """
        with self._lock:
            drafts = list(self._drafts.values())
            if ids is not None:
                wanted = [str(one) for one in ids] if isinstance(ids, list) else []
                drafts = [self._drafts[one] for one in wanted if one in self._drafts]
                if len(drafts) < len(wanted):
                    raise InvalidValueError(
                        "A file that was to go with this message was removed. Look at the files"
                        " and send it again.",
                        problem="removed",
                    )
                for draft in drafts:
                    if draft.attachment is None:
                        raise InvalidValueError(
                            f"“{draft.name}” is not ready. Wait until it is, or remove it.",
                            problem="not ready",
                        )
            return [draft.attachment for draft in drafts if draft.attachment is not None]

    def sent(self, ids: object) -> None:
        """Let go of the files that went out."""
        with self._lock:
            for one in ids if isinstance(ids, list) else []:
                self._drafts.pop(str(one), None)

    # -- what is shown -----------------------------------------------------------------------------

    def views(self) -> list[Content]:
        """Return what the page shows of each file."""
        with self._lock:
            return [draft.view() for draft in self._drafts.values()]

    def has_image(self) -> bool:
        """Whether an image is among them."""
        return any(one.kind == "image" for one in self.attachments())

    def data_of(self, draft_id: object) -> tuple[Attachment, bytes]:
        """Return a file that is ready, for showing it.

        Raises
        ------
        InvalidValueError
            It is not there.
        """
        with self._lock:
            draft = self._drafts.get(str(draft_id))
        if draft is None or draft.attachment is None:
            raise InvalidValueError("This file was removed.", problem="removed")
        data = Conversations(self._host.chat.store).file(draft.attachment.sha256)
        return draft.attachment, data

    def count_for(self, model: Any) -> None:
        """Count the tokens of what is here again if it was counted for another model."""
        with self._lock:
            stale = [
                draft
                for draft in self._drafts.values()
                if draft.attachment is not None and draft.counted_for is not model
            ]
            for draft in stale:
                draft.counted_for = model
        for draft in stale:
            self._actor.post(self._counting(draft, model))

    # -- on the files' own thread ------------------------------------------------------------------

    def _come(self, draft: _Draft) -> None:
        draft.state = "reading"
        self._actor.post(lambda: self._read(draft))

    def _read(self, draft: _Draft) -> None:
        if draft.removed:
            return

        def on_progress(done: int, total: int) -> bool:
            draft.progress = f"Page {done:,} of {total:,}"
            self._tell_now_and_then()
            return not draft.removed

        try:
            found, data = attach(bytes(draft.data), name=draft.name, on_progress=on_progress)
            Conversations(self._host.chat.store).keep_file(data, found.mime)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown on the file
            if not isinstance(error, GgufWidgetsError):
                _log.exception("A file could not be attached")
            with self._lock:
                draft.state, draft.error = "failed", as_known(error).message
        else:
            with self._lock:
                draft.attachment, draft.size_bytes = found, len(data)
                draft.state = "ready"
        draft.progress = ""
        draft.data.clear()
        self._host.touch()

    def _counting(self, draft: _Draft, model: Any) -> Callable[[], None]:
        def count() -> None:
            one = draft.attachment
            if one is None or draft.removed:
                return
            try:
                data = b""
                if one.kind == "image":
                    data = Conversations(self._host.chat.store).file(one.sha256)
                counted = with_tokens(one, data, model)
            except GgufWidgetsError as error:
                _log.info("The tokens of a file could not be counted: %s", error.message)
                return
            with self._lock:
                draft.attachment = counted
            self._host.touch()

        return count

    def _tell_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY_S:
            self._told = now
            self._host.touch()
