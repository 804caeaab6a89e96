"""What a person does with single messages: answer again, go on, edit, change the branch, undo.

Promises: each act answers the page, with the error in words where there is one; nothing that is on
the branch before is lost. Leaves to others: the tree itself (`core.chat.interface`), sending
(`chat_box`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from gguf_widgets.core.chat.types import ChatMessage, ChatSnapshot, MessageStatus
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.model import Model
from gguf_widgets.widgets._chat_part import ChatPart, Content

__all__ = ["ActsPart"]

_MAX_EDIT = 5_000_000  # characters; what the page's own field takes


class ActsPart(ChatPart):
    """The buttons under a message."""

    NAME = "acts"

    def view(self, message: ChatMessage, shot: ChatSnapshot) -> Content:
        """Return where the message stands among its siblings, and what can be done with it."""
        index, count = shot.branches.get(message.id, (1, 1))
        is_answer = message.role == "assistant"
        is_last = bool(shot.messages) and shot.messages[-1].id == message.id
        ended = message.status is not MessageStatus.STREAMING
        return {
            "branch": [index, count] if count > 1 else None,
            "canContinue": is_answer and is_last and ended and _is_unfinished(message),
            "edited": message.edited,
        }

    def _again(self, content: Content, _buffers: list[Any]) -> Content:
        message_id = content.get("message")
        self.host.chat.regenerate(message_id if isinstance(message_id, str) else None)
        self.host.touch()
        return {}

    def _continue(self, content: Content, _buffers: list[Any]) -> Content:
        self.host.chat.continue_answer(_id_of(content))
        self.host.touch()
        return {}

    def _edit(self, content: Content, _buffers: list[Any]) -> Content:
        text = content.get("text")
        if not isinstance(text, str) or len(text) > _MAX_EDIT:
            raise InvalidValueError(
                f"The text must have at most {_MAX_EDIT:,} characters. Attach longer ones as files."
            )
        self.host.chat.edit(_id_of(content), text)
        self.host.touch()
        return {}

    def _text(self, content: Content, _buffers: list[Any]) -> Content:
        """Return a message as it was written, for copying and for editing."""
        wanted = _id_of(content)
        for message in self.host.chat.messages:
            if message.id == wanted:
                return {"text": message.content}
        raise InvalidValueError("This message is not on screen any more.")

    def _branch(self, content: Content, _buffers: list[Any]) -> Content:
        ids = self.host.chat.branches(_id_of(content))
        step = content.get("step")
        if step not in (-1, 1):
            raise InvalidValueError(f"A step between branches is 1 or -1, not {step!r:.20}.")
        at = ids.index(_id_of(content)) + step
        if not 0 <= at < len(ids):
            return {}  # another view was quicker
        self.host.chat.show_branch(ids[at])
        self.host.touch()
        return {"message": ids[at]}

    def _undo(self, _content: Content, _buffers: list[Any]) -> Content:
        undone = self.host.chat.undo()
        self.host.say("")
        self.host.touch()
        return {"undone": undone}

    def _plain_template(self, content: Content, buffers: list[Any]) -> Content:
        if isinstance(self.host.model, Model):
            self.host.model.use_chat_template("chatml")
            self.host.say("The plain template is used from now on.")
            return self._again(content, buffers)
        return {}

    ACTIONS: ClassVar = {
        "again": _again,
        "continue": _continue,
        "edit": _edit,
        "text": _text,
        "branch": _branch,
        "undo": _undo,
        "plain_template": _plain_template,
    }


def _is_unfinished(message: ChatMessage) -> bool:
    """Whether there is more to be expected of this answer than there is."""
    if message.tool_calls or not message.content:
        return False  # there is nothing to go on from
    ended_early = message.status is not MessageStatus.COMPLETE
    return ended_early or message.edited or message.finish_reason == "length"


def _id_of(content: Content) -> str:
    message_id = content.get("message")
    if not isinstance(message_id, str):
        raise InvalidValueError("The page named no message. Reload it and try again.")
    return message_id
