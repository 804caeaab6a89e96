"""How full the context would be, worked out beside everything else while a person types.

Promises: one thread, and only the newest question is worked on: the others are answered with the
word that they are old; the numbers come with the words for them. Leaves to others: the counting
(`core.chat.context`), drawing it (`static/_chat_meter.js`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from gguf_widgets.core.chat.context import ContextPlan
from gguf_widgets.core.chat.types import Attachment
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._chat_part import ChatHost, Content

__all__ = ["Planner", "plan_view"]

_log = logging.getLogger(__name__)


class Planner:
    """Answers the page's questions about the context, the newest first.

    Parameters
    ----------
    host : ChatHost
    """

    def __init__(self, host: ChatHost) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._newest: dict[str, Content] = {}  # by page: two may look at one chat
        self._actor = Actor("ChatBox-plan", self._work)

    def ask(self, asked: Content, attachments: Sequence[Attachment]) -> None:
        """Work out what the page has asked; it is answered later."""
        page = str(asked.get("page"))
        with self._lock:
            old = self._newest.get(page)
            self._newest = {page: asked} if len(self._newest) > 50 else self._newest
            self._newest[page] = asked
        if old is not None:
            self._host.answer(old, stale=True)
        self._actor.post((page, asked, list(attachments)))

    def close(self) -> None:
        """End the thread."""
        self._actor.close()

    def _work(self, item: Any) -> None:
        page: str = item[0]
        asked: Content = item[1]
        attachments: list[Attachment] = item[2]
        if not self._is_newest(page, asked):
            return  # it has been answered: a newer one follows
        chat, model = self._host.chat, self._host.model
        found: Content = {"plan": None}
        if model is not None and callable(getattr(model, "count_tokens", None)):
            text, begin = str(asked.get("text", "")), str(asked.get("begin", ""))
            try:
                found = {"plan": plan_view(chat.context_plan(text, attachments, begin), chat)}
            except GgufWidgetsError as error:
                # Sending will say so, where it is looked for; the meter has nothing to show.
                _log.info("The context could not be planned: %s", error.message)
        with self._lock:
            if not self._is_newest(page, asked):
                return
            del self._newest[page]
        self._host.answer(asked, **found)

    def _is_newest(self, page: str, asked: Content) -> bool:
        return self._newest.get(page) is asked


def plan_view(plan: ContextPlan, chat: Any) -> Content:
    """Return a plan as the page shows it, in numbers and words."""
    parts = [
        {"name": name, "label": label, "tokens": tokens}
        for name, label, tokens in (
            ("system", "System prompt", plan.system),
            ("history", "Conversation so far", plan.history),
            ("files", "Attachments", plan.attachments),
            ("message", "This message", plan.message),
            ("begin", "Start of the answer", plan.begin),
        )
        if tokens
    ]
    num_out = len(plan.left_out)
    about = "" if plan.exact else "about "
    return {
        "parts": parts,
        "context": plan.n_ctx,
        "used": plan.used,
        "room": plan.room,
        "wanted": plan.wanted,
        "fits": plan.fits,
        "full": plan.used >= plan.n_ctx,
        "canDrop": plan.can_drop,
        "leftOut": num_out,
        "whenFull": chat.when_full,
        "label": f"Context: {about}{plan.used:,} of {plan.n_ctx:,} tokens,"
        f" {plan.room:,} left for the answer",
        "question": _question(plan, about, num_out),
        "outcome": _outcome(plan, chat.when_full, num_out),
    }


def _question(plan: ContextPlan, about: str, num_out: int) -> str:
    """Return what to say when it does not fit, before anything is sent."""
    if plan.fits:
        return ""
    if plan.used >= plan.n_ctx:
        how = (
            f"This does not fit: with it the conversation is {about}{plan.used:,} tokens, and the"
            f" model has room for {plan.n_ctx:,}."
        )
    else:
        how = (
            f"This leaves room for only {plan.room:,} tokens of answer: it fills {plan.used:,} of"
            f" the model's {plan.n_ctx:,}."
        )
    if num_out:
        messages = "message" if num_out == 1 else "messages"
        return f"{how} The model could go on without the {num_out:,} oldest {messages}."
    return (
        f"{how} The message alone is too long. Shorten it, attach less, or load the model with a"
        " larger context."
    )


def _outcome(plan: ContextPlan, when_full: str, num_out: int) -> str:
    """Return what will happen when it is sent, where that was chosen before."""
    if plan.fits or not num_out or when_full == "stop":
        return ""
    messages = "The oldest message" if num_out == 1 else f"The {num_out:,} oldest messages"
    if when_full == "summarize":
        return f"{messages} will be summed up by the model."
    return f"{messages} will be left out."
