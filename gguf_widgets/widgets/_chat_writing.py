"""Writing a message: its files, how it begins the answer, prompt templates, and what still fits.

Promises: what goes out with a message is what the page shows; a file that is not ready, or an image
for a model that cannot see, is refused in words before anything is sent, and nothing is lost; what
takes long (reading files, counting) never keeps the box waiting. Leaves to others: each of these
(`_chat_writing_files`, `_chat_writing_plan`, `_chat_writing_prompts`), the page
(`static/_chat_writing*.js`).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from gguf_widgets.core.chat.attach import MAX_ATTACHMENTS, MAX_FILE_BYTES
from gguf_widgets.core.chat.context import WHEN_FULL
from gguf_widgets.core.chat.types import Attachment, ChatMessage, ChatSnapshot
from gguf_widgets.core.errors import ContextOverflowError, InvalidValueError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.images import cannot_see
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.widgets._chat_part import ChatHost, ChatPart, Content
from gguf_widgets.widgets._chat_writing_files import DraftFiles
from gguf_widgets.widgets._chat_writing_plan import Planner
from gguf_widgets.widgets._chat_writing_prompts import PromptActions

__all__ = ["WritingPart"]

_PIECE_BYTES: Final = 1 << 20  # a message over 10 MiB would close the socket without a word
_PASTE_CHARS: Final = 4_000
_MAX_BEGIN: Final = 4_000
_MAX_PLANNED: Final = 5_000_000
_SHOWN_CHARS: Final = 100_000  # of a text that is opened, at a time


class WritingPart(ChatPart):
    """What stands around the place to type."""

    NAME = "writing"

    def __init__(self, host: ChatHost) -> None:
        super().__init__(host)
        self._files = DraftFiles(host)
        self._planner = Planner(host)
        self._prompts = PromptActions(host)
        self._companion: tuple[object, str] = (None, "")  # of which model, and what to say of it

    def close(self) -> None:
        """Give up what is under way."""
        self._files.close()
        self._planner.close()

    # -- what the page shows -----------------------------------------------------------------------

    def state(self, shot: ChatSnapshot) -> Content:
        """Return the files, and what the page has to know to take more in."""
        model = self.host.model
        if model is not None:
            self._files.count_for(model)
        sees = bool(getattr(model, "sees_images", False))
        blind = not sees and model is not None and self._files.has_image()
        return {
            "files": self._files.views(),
            "blind": self._why_blind(model) if blind else None,
            "whenFull": shot.when_full,
            # Another one means that what was planned is of no use any more.
            "plan": [shot.conversation_id, len(shot.messages), shot.busy, str(id(model))],
            "limits": {
                "fileBytes": MAX_FILE_BYTES,
                "fileWords": format_bytes(MAX_FILE_BYTES),
                "files": MAX_ATTACHMENTS,
                "pieceBytes": _PIECE_BYTES,
                "pasteChars": _PASTE_CHARS,
                "beginChars": _MAX_BEGIN,
            },
        }

    def view(self, message: ChatMessage, shot: ChatSnapshot) -> Content:
        """Return the files that were sent with a message, and how an answer was begun."""
        return {
            "attachments": [_sent_view(one) for one in message.attachments],
            "begin": message.begin,
            "whatElse": _what_else(message, shot),
        }

    def _why_blind(self, model: Any) -> Content:
        """Return why images cannot be sent and what helps; looked up once for a model."""
        if self._companion[0] is not model:
            name, found = getattr(model, "name", ""), None
            if isinstance(model, Model):
                found = ModelLibrary().projector_of(model.path)
            self._companion = (model, f'gw.load("{name}", mmproj="{found}")' if found else "")
        line = self._companion[1]
        if line:
            words = (
                "This model was loaded without its image companion, so it cannot see images. The"
                " companion is here: load the model again with it."
            )
        else:
            words = (
                "This model cannot see images: it has no image companion (mmproj file). Use a model"
                " that comes with one, or put the one that belongs to this model beside it and load"
                " it again."
            )
        return {"words": words, "line": line}

    # -- what goes out -----------------------------------------------------------------------------

    def for_sending(self, content: Content) -> Content:
        """Return the files and the beginning of the answer that go with a message."""
        attachments = self._files.attachments(content.get("files") or [])
        model = self.host.model
        if any(one.kind == "image" for one in attachments) and not getattr(
            model, "sees_images", False
        ):
            raise cannot_see()
        begin = content.get("begin") or ""
        if not isinstance(begin, str) or len(begin) > _MAX_BEGIN:
            raise InvalidValueError(
                f"The start of the answer may have at most {_MAX_BEGIN:,} characters.", name="begin"
            )
        found: Content = {}
        if attachments:
            found["attachments"] = tuple(attachments)
        if begin.strip():
            found["begin"] = begin
        return found

    def sent(self, content: Content) -> None:
        """Let go of the files that went out."""
        self._files.sent(content.get("files"))
        self.host.touch()

    # -- what the page asks ------------------------------------------------------------------------

    def _file(self, content: Content, _buffers: list[Any]) -> Content:
        return {"id": self._files.begin(content.get("name"), content.get("size"))}

    def _piece(self, content: Content, buffers: list[Any]) -> Content:
        piece = bytes(buffers[0]) if buffers else b""
        return {"here": self._files.piece(content.get("id"), content.get("offset"), piece)}

    def _remove(self, content: Content, _buffers: list[Any]) -> Content:
        self._files.remove(content.get("id"))
        return {}

    def _back(self, content: Content, _buffers: list[Any]) -> Content:
        self._files.bring_back(content.get("files"))
        return {}

    def _draft(self, content: Content, _buffers: list[Any]) -> Content | None:
        return self._shown(content, *self._files.data_of(content.get("id")))

    def _open(self, content: Content, _buffers: list[Any]) -> Content | None:
        for message in self.host.chat.messages:
            for one in message.attachments:
                if (message.id, one.id) == (content.get("message"), content.get("id")):
                    is_image = one.kind == "image"
                    store = Conversations(self.host.chat.store)
                    return self._shown(content, one, store.file(one.sha256) if is_image else b"")
        raise InvalidValueError("This file is not on screen any more.")

    def _shown(self, content: Content, one: Attachment, data: bytes) -> Content | None:
        """Answer with a file: an image whole, of a text a part."""
        if one.kind == "image":
            self.host.answer(content, [data], mime=one.mime)
            return None
        text = one.text or ""
        start = content.get("from")
        start = start if isinstance(start, int) and 0 <= start <= len(text) else 0
        part = text[start : start + _SHOWN_CHARS]
        return {"text": part, "left": len(text) - start - len(part)}

    def _plan(self, content: Content, _buffers: list[Any]) -> None:
        if len(str(content.get("text", ""))) > _MAX_PLANNED:
            raise InvalidValueError(
                f"The message is longer than {_MAX_PLANNED:,} characters. Attach it as a file."
            )
        ready = {view["id"] for view in self._files.views() if view["state"] == "ready"}
        wanted = content.get("files")
        wanted = wanted if isinstance(wanted, list) else []
        ids = [one for one in wanted if isinstance(one, str) and one in ready]
        self._planner.ask(content, self._files.attachments(ids))

    def _when_full(self, content: Content, _buffers: list[Any]) -> Content:
        mode = content.get("mode")
        if mode not in WHEN_FULL:
            raise InvalidValueError(f"when_full can be {', '.join(WHEN_FULL)}.", name="when_full")
        self.host.chat.when_full = mode
        self.host.touch()
        return {}

    def _retry(self, content: Content, _buffers: list[Any]) -> Content:
        """Ask again for an answer that did not fit, with what was chosen for that."""
        chat = self.host.chat
        wanted = content.get("message")
        message = next((one for one in chat.messages if one.id == wanted), None)
        if message is None:
            raise InvalidValueError("This message is not on screen any more.")
        self._when_full(content, [])
        if message.content:
            chat.continue_answer(message.id)  # it was to go on from these words
        else:
            chat.regenerate(message.id)
        self.host.touch()
        return {}

    def _prompt_list(self, content: Content, _buffers: list[Any]) -> Content:
        return self._prompts.list(content)

    def _prompt_fill(self, content: Content, _buffers: list[Any]) -> Content:
        return self._prompts.fill(content)

    def _prompt_save(self, content: Content, _buffers: list[Any]) -> Content:
        return self._prompts.save(content)

    def _prompt_delete(self, content: Content, _buffers: list[Any]) -> Content:
        return self._prompts.delete(content)

    def _prompt_export(self, content: Content, _buffers: list[Any]) -> None:
        found, data = self._prompts.export(content)
        self.host.answer(content, [data], **found)

    def _prompt_add(self, _content: Content, buffers: list[Any]) -> Content:
        return self._prompts.add_from(bytes(buffers[0]) if buffers else b"")

    ACTIONS: ClassVar = {
        "writing-file": _file,
        "writing-piece": _piece,
        "writing-remove": _remove,
        "writing-back": _back,
        "writing-draft": _draft,
        "writing-open": _open,
        "writing-plan": _plan,
        "writing-when-full": _when_full,
        "writing-retry": _retry,
        "writing-prompts": _prompt_list,
        "writing-prompt-fill": _prompt_fill,
        "writing-prompt-save": _prompt_save,
        "writing-prompt-delete": _prompt_delete,
        "writing-prompt-export": _prompt_export,
        "writing-prompt-add": _prompt_add,
    }


def _what_else(message: ChatMessage, shot: ChatSnapshot) -> list[str]:
    """Return what could be done instead for the last answer, which did not fit."""
    error = message.error
    if error is None or error["kind"] != ContextOverflowError.__name__:
        return []
    if message.id != shot.messages[-1].id:
        return []
    choices = error["details"].get("choices")
    return [one for one in choices if one in WHEN_FULL] if isinstance(choices, list) else []


def _sent_view(one: Attachment) -> Content:
    return {
        "id": one.id,
        "name": one.name,
        "kind": one.kind,
        "size": format_bytes(one.size_bytes),
        "tokens": one.num_tokens,
        "note": one.note,
    }
