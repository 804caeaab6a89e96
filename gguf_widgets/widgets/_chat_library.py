"""Many conversations on one page: list, search, names, pins, deleted ones, export and import.

Promises: the list is that of the store, whoever changes it; what is done to the conversation on
screen goes through its `ChatInterface`, so that every view of it follows; deleting only marks, and
is undone; nothing that takes long keeps the conversation from flowing. Leaves to others: rows
(`_chat_library_list`), pieces of files (`_chat_library_files`), forms (`core.chat.export`), the
look (static/_chat_library.js).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from gguf_widgets.core.chat.export import FORMATS, export, import_data
from gguf_widgets.core.chat.types import ChatSnapshot
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.widgets import _chat_notebook
from gguf_widgets.widgets._chat_library_files import Incoming, Outgoing
from gguf_widgets.widgets._chat_library_list import ConversationList
from gguf_widgets.widgets._chat_part import ChatHost, ChatPart, Content

__all__ = ["KEPT_DELETED_S", "LibraryPart"]

KEPT_DELETED_S: Final = 30 * 86_400.0
_MAX_TITLE: Final = 200

# Exports from a page show Markdown as the page does: importing that module sees to it.
_RENDERED = _chat_notebook.rendered


class LibraryPart(ChatPart):
    """The panel of conversations."""

    NAME = "library"

    def __init__(self, host: ChatHost) -> None:
        super().__init__(host)
        self._list: ConversationList | None = None
        self._outgoing, self._incoming = Outgoing(), Incoming()
        self._deleted = ("", "")  # the one that was on screen, and what the chat can undo since

    def state(self, shot: ChatSnapshot) -> Content:
        """Return which conversation is on screen, and the forms of an export."""
        return {
            "id": shot.conversation_id,
            "title": shot.title,
            "pinned": shot.pinned,
            "busy": shot.busy,
            "formats": [
                {"name": name, "label": form.label, "detail": form.detail}
                for name, form in FORMATS.items()
            ],
        }

    def close(self) -> None:
        """Let go of the files that are on their way."""
        self._outgoing.clear()
        self._incoming.clear()

    # -- looking ----------------------------------------------------------------------------------

    @property
    def _conversations(self) -> Conversations:
        return Conversations(self.host.chat.store)

    @property
    def _listed(self) -> ConversationList:
        store = self.host.chat.store
        if self._list is None or self._list.store is not store:
            self._list = ConversationList(store)
        return self._list

    def _rows(self, content: Content, _buffers: list[Any]) -> Content:
        if content.get("deleted") is True and content.get("offset") == 0:
            self._conversations.purge(older_than_s=KEPT_DELETED_S)  # as the page promises
        return self._listed.rows(content)

    def _find(self, content: Content, _buffers: list[Any]) -> Content:
        return self._listed.found(content)

    def _look(self, _content: Content, _buffers: list[Any]) -> Content:
        return {"version": self._listed.look()}

    # -- one conversation -------------------------------------------------------------------------

    def _open(self, content: Content, _buffers: list[Any]) -> Content:
        """Show a conversation, at one of its messages if one is named."""
        chat, wanted = self.host.chat, _id_of(content)
        message = content.get("message")
        self.host.say("")
        if chat.conversation_id != wanted:
            if self._conversations.get(wanted).deleted_at is not None:
                raise InvalidValueError("This conversation was deleted. Restore it first.")
            chat.open(wanted)
        if isinstance(message, str) and all(one.id != message for one in chat.messages):
            chat.show_branch(message)
        self.host.touch()
        return {"message": message}

    def _new(self, _content: Content, _buffers: list[Any]) -> Content:
        self.host.say("")
        self.host.chat.clear()
        self.host.touch()
        return {}

    def _rename(self, content: Content, _buffers: list[Any]) -> Content:
        chat, wanted, title = self.host.chat, _id_of(content), content.get("title")
        if not isinstance(title, str) or len(title) > _MAX_TITLE:
            raise InvalidValueError(f"A name has at most {_MAX_TITLE} characters.")
        title = " ".join(title.split())
        if not title:
            raise InvalidValueError("Write a name, or press Esc to keep the one before.")
        if chat.conversation_id == wanted:
            chat.title = title
        else:
            self._conversations.update(wanted, title=title)
        self.host.touch()
        return {}

    def _pin(self, content: Content, _buffers: list[Any]) -> Content:
        chat, wanted, pinned = self.host.chat, _id_of(content), content.get("pinned") is True
        if chat.conversation_id == wanted:
            chat.pinned = pinned
        else:
            self._conversations.update(wanted, pinned=pinned)
        self.host.touch()
        return {}

    def _delete(self, content: Content, _buffers: list[Any]) -> Content:
        chat, wanted = self.host.chat, _id_of(content)
        was_shown = chat.conversation_id == wanted
        if was_shown:
            self.host.say("")
            chat.delete()
            self._deleted = (wanted, chat.can_undo)
        else:
            self._conversations.delete(wanted)
        self.host.touch()
        return {"wasShown": was_shown}

    def _restore(self, content: Content, _buffers: list[Any]) -> Content:
        """Bring a deleted conversation back; on screen, too, if nothing else is there now."""
        chat, wanted = self.host.chat, _id_of(content)
        is_shown = content.get("show") is True and chat.conversation_id is None
        if is_shown and self._deleted == (wanted, chat.can_undo):
            chat.undo()  # so that it is not offered there any more
        else:
            self._conversations.restore(wanted)
            if is_shown:
                chat.open(wanted)
        self._deleted = ("", "")
        self.host.touch()
        return {}

    def _purge(self, _content: Content, _buffers: list[Any]) -> Content:
        return {"count": self._conversations.purge()}

    # -- files ------------------------------------------------------------------------------------

    def _export(self, content: Content, _buffers: list[Any]) -> None:
        chat, wanted = self.host.chat, _id_of(content)
        name = str(content.get("format"))
        tokens = content.get("tokens") is not False
        newest = chat.messages if chat.conversation_id == wanted else []

        def make() -> Content:
            made = export(self._conversations, wanted, name, tokens=tokens, newest=newest)
            data = made.text.encode("utf-8", "replace")
            key = self._outgoing.keep(data)
            told = {"key": key, "size": len(data), "name": made.name, "mime": made.mime}
            return {"file": {**told, "notes": made.notes}}

        self.host.at_work(make, content)

    def _piece(self, content: Content, _buffers: list[Any]) -> None:
        piece = self._outgoing.piece(content.get("key"), content.get("offset"))
        self.host.answer(content, [piece], size=len(piece))

    def _import(self, content: Content, buffers: list[Any]) -> Content | None:
        data = self._incoming.take(content, buffers)
        if data is None:
            return {"more": True}
        store = self.host.chat.store

        def keep() -> Content:
            imported = import_data(store, data)
            made = imported.conversations
            return {"count": len(made), "id": made[0].id, "notes": imported.notes}

        self.host.at_work(keep, content)
        return None

    ACTIONS: ClassVar = {
        "library-rows": _rows,
        "library-find": _find,
        "library-look": _look,
        "library-open": _open,
        "library-new": _new,
        "library-rename": _rename,
        "library-pin": _pin,
        "library-delete": _delete,
        "library-restore": _restore,
        "library-purge": _purge,
        "library-export": _export,
        "library-piece": _piece,
        "library-import": _import,
    }


def _id_of(content: Content) -> str:
    wanted = content.get("conversation")
    if not isinstance(wanted, str) or not wanted:
        raise InvalidValueError("The page named no conversation. Reload it and try again.")
    return wanted
