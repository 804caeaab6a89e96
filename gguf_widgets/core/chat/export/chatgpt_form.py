"""Conversations in the form in which ChatGPT hands out a person's data (``conversations.json``).

Its form, as published exports and their readers show it: a list of conversations; each has
``mapping``, nodes by id with ``parent`` and ``message`` (None for the root), and ``current_node``,
the end of the branch on screen. A message has an author's role, a content of some type, a recipient
(``all``, or the tool that it calls) and a weight of 0 where it was never shown.

Promises: the whole tree, with its branches, models and times; nodes that were never shown are left
out and their children hang on what was shown before them; what a model thought becomes the thinking
of its next answer; a call of a tool and its result become one call; what is not in the file
(images) or has no place here is told in notes. Any nonsense in it is refused in words. Leaves to
others: limits (`reading`), what a tree may be (`tree.checked`).
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final, NamedTuple

import msgspec

from gguf_widgets.core.chat.export.foreign import noted, with_thinking
from gguf_widgets.core.chat.export.tree import Tree, time_or
from gguf_widgets.core.chat.types import (
    ChatMessage,
    Conversation,
    MessageStatus,
    ToolCall,
    title_from,
)
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.conversations import new_id

__all__ = ["is_chatgpt", "read"]

_TITLE_CHARS: Final = 300
# Of all answers with their thinking: several may follow one thought, and each gets all of it.
_MAX_UNFOLDED: Final = 400_000_000
_NEVER_SHOWN: Final = ("user_editable_context", "model_editable_context")


def is_chatgpt(document: Any) -> bool:
    """Say whether parsed JSON looks like one conversation of such an export."""
    return isinstance(document, dict) and isinstance(document.get("mapping"), dict)


def read(document: dict[str, Any]) -> Tree:
    """Return one conversation of the export as a tree.

    Raises
    ------
    InvalidValueError
        Its nodes are no tree, or one of them is not of this form.
    """
    return _Reading(document).tree()


class _Thoughts(NamedTuple):
    """What was thought last, and before it; joined once, where an answer comes."""

    text: str
    before: _Thoughts | None
    length: int  # characters of all of it

    def joined(self) -> str:
        """Return all of it, oldest first."""
        parts: list[str] = []
        here: _Thoughts | None = self
        while here is not None:
            parts.append(here.text)
            here = here.before
        return "\n\n".join(reversed(parts))


class _Place(NamedTuple):
    """Where a node hangs: under which message, and what was thought since."""

    node: str
    parent: str | None
    thoughts: _Thoughts | None


class _Reading:
    """One conversation while it is read."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._mapping: dict[str, Any] = document["mapping"]
        self._id, self._now = new_id(), time.time()
        created = document.get("create_time")
        self._created = time_or(created, self._now)
        self._messages: dict[str, ChatMessage] = {}
        self._shown: dict[str, str | None] = {}  # each node, and the message that stands for it
        self._system: list[str] = []
        self._results: dict[str, list[str]] = {}  # what tools said, by the message that called
        self._unfolded = 0
        self._lost: Counter[str] = Counter()

    def tree(self) -> Tree:
        """Walk from the roots to the leaves, without recursion: a line may have thousands."""
        children, waiting = self._children()
        while waiting:
            place = waiting.pop()
            parent, thoughts = self._node(place)
            self._shown[place.node] = parent
            waiting += [_Place(one, parent, thoughts) for one in reversed(children[place.node])]
        if len(self._shown) != len(self._mapping):
            raise InvalidValueError(
                "The messages go round in a circle: one of them follows, over others, itself."
            )
        for message_id, results in self._results.items():
            message = self._messages[message_id]
            done = msgspec.structs.replace(
                message.tool_calls[0], status="done", error=None, result=_joined(results)
            )
            self._messages[message_id] = msgspec.structs.replace(message, tool_calls=(done,))
        messages = list(self._messages.values())
        return Tree(
            conversation=self._conversation(messages),
            messages=messages,
            notes=noted(self._lost),
        )

    def _children(self) -> tuple[dict[str, list[str]], list[_Place]]:
        children: dict[str, list[str]] = {node: [] for node in self._mapping}
        roots: list[_Place] = []
        for node, value in self._mapping.items():
            if not isinstance(value, dict):
                raise InvalidValueError(f"The node {node!r:.60} is {type(value).__name__}.")
            parent = value.get("parent")
            if isinstance(parent, str) and parent in children:
                children[parent].append(node)
            elif parent is None or isinstance(parent, str):
                roots.append(_Place(node, None, None))
            else:
                raise InvalidValueError(f"The node {node!r:.60} has a parent that is no id.")
        return children, roots[::-1]

    def _conversation(self, messages: list[ChatMessage]) -> Conversation:
        document = self._document
        updated = document.get("update_time")
        title = document.get("title")
        first = next((one.content for one in messages if one.role == "user"), "")
        named = title if isinstance(title, str) and title.strip() else title_from(first)
        current = document.get("current_node")
        return Conversation(
            id=self._id,
            title=" ".join(named.split())[:_TITLE_CHARS],
            system=_joined(self._system) or None,
            model_type="text",
            model_name=next((m.model_name for m in reversed(messages) if m.model_name), None),
            model=None,
            active_leaf_id=self._shown.get(current) if isinstance(current, str) else None,
            created_at=self._created,
            updated_at=time_or(updated, self._created),
        )

    def _node(self, place: _Place) -> tuple[str | None, _Thoughts | None]:
        """Take one node; return the message that its children follow, and what was thought."""
        message = self._mapping[place.node].get("message")
        if message is None:
            return place.parent, place.thoughts
        role = self._field(message, place.node, "author").get("role")
        content = self._field(message, place.node, "content")
        kind = content.get("content_type")
        metadata = message.get("metadata")
        hidden = isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation")
        if kind == "thoughts":
            return place.parent, _more(place.thoughts, _thoughts(content))
        text = self._text(content)
        if kind in _NEVER_SHOWN or kind == "reasoning_recap" or message.get("weight") == 0:
            return place.parent, place.thoughts
        if role == "system":
            if text and not hidden and not self._messages:
                self._system.append(text)
            return place.parent, place.thoughts
        if role == "tool":
            self._tool(place.parent, text)
            return place.parent, place.thoughts
        if role not in ("user", "assistant"):
            raise InvalidValueError(f"The node {place.node!r:.60} is from {role!r:.40}.")
        if hidden or not (text or place.thoughts):
            return place.parent, place.thoughts
        if role == "user" and place.thoughts:
            self._lost["thoughts that no answer followed"] += 1
        self._add(place, role, text, message)
        return place.node, None

    def _field(self, message: Any, node: str, name: str) -> dict[str, Any]:
        found = message.get(name) if isinstance(message, dict) else None
        if not isinstance(found, dict):
            raise InvalidValueError(f"The message of the node {node!r:.60} has no {name}.")
        return found

    def _add(self, place: _Place, role: str, text: str, message: dict[str, Any]) -> None:
        created = message.get("create_time")
        recipient = message.get("recipient")
        metadata = message.get("metadata")
        slug = metadata.get("model_slug") if isinstance(metadata, dict) else None
        calls: tuple[ToolCall, ...] = ()
        if role == "assistant" and isinstance(recipient, str) and recipient not in ("", "all"):
            call = ToolCall(
                id=new_id(),
                name=recipient[:200],
                arguments={"input": text},
                status="failed",
                result=None,
                error="No result of this call is in the file.",
                total_s=None,
            )
            calls, text = (call,), ""
        if role == "assistant" and place.thoughts:
            text = with_thinking(self._told(place.thoughts), text)
        self._messages[place.node] = ChatMessage(
            id=place.node,
            conversation_id=self._id,
            parent_id=place.parent,
            role=role,
            content=text,
            status=MessageStatus.COMPLETE,
            created_at=time_or(created, self._created),
            model_name=slug[:200] if role == "assistant" and isinstance(slug, str) else None,
            tool_calls=calls,
        )

    def _tool(self, parent: str | None, text: str) -> None:
        message = self._messages.get(parent) if parent is not None else None
        if message is None or not message.tool_calls:
            if text:
                self._lost["what a tool said without having been called"] += 1
            return
        self._results.setdefault(message.id, []).append(text)

    def _told(self, thoughts: _Thoughts) -> str:
        self._unfolded += thoughts.length
        if self._unfolded > _MAX_UNFOLDED:
            raise InvalidValueError(
                f"Answers that follow the same thoughts make more than {_MAX_UNFOLDED:,} "
                "characters of this conversation, which is more than can be taken in.",
                limit=_MAX_UNFOLDED,
            )
        return thoughts.joined()

    def _text(self, content: dict[str, Any]) -> str:
        parts = content.get("parts")
        if not isinstance(parts, list):
            text = content.get("text", content.get("result"))
            return text if isinstance(text, str) else ""
        texts = []
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif isinstance(part, dict):
                kind = part.get("content_type")
                is_image = kind == "image_asset_pointer"
                what = "an image, which is not in conversations.json"
                self._lost[what if is_image else f"a part of the kind {kind!r:.40}"] += 1
        return "\n\n".join(text for text in texts if text)


def _thoughts(content: dict[str, Any]) -> str:
    given = content.get("thoughts")
    told = []
    for one in given if isinstance(given, list) else []:
        for name in ("summary", "content"):
            text = one.get(name) if isinstance(one, dict) else None
            if isinstance(text, str) and text.strip():
                told.append(text.strip())
    return "\n\n".join(told)


def _more(before: _Thoughts | None, text: str) -> _Thoughts | None:
    if not text:
        return before
    return _Thoughts(text, before, len(text) + (before.length if before is not None else 0))


def _joined(texts: list[str]) -> str:
    return "\n\n".join(text for text in texts if text)
