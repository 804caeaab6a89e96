"""Whether a conversation fits the model's context, and what is left out where it does not.

Promises: nothing is left out unless it was chosen, and whatever is, is named (`Prepared.left_out`);
the system prompt and the last message always go out whole; messages go in turns (a person's with
what came of it), so that the roles still alternate; a summary that was made once is used by the
turns after it; every wait can be stopped. Leaves to others: what is sent of a message
(`prompt`), counting (`context_count`), writing a summary (`context_summary`),
showing it.

The choices, when it does not fit
---------------------------------
=============  ===================================================================================
``when_full``  what happens
=============  ===================================================================================
"stop"         a `ContextOverflowError` with the numbers; nothing was sent
"drop_oldest"  the oldest turns are left out, as many as it takes, and an eighth of the context
               more, so that the next turns can go on from the same beginning, which the model has
               computed already
"summarize"    the same, and in their place stands a summary that the model has written of them
=============  ===================================================================================

What was left out stays out in later turns, until everything fits again (in a model with a larger
context, say).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gguf_widgets.core.chat.attach import as_prompt
from gguf_widgets.core.chat.context_count import TokenCounter, bare, can_count
from gguf_widgets.core.chat.context_summary import Summarizer, in_place_of, summary_budget
from gguf_widgets.core.chat.prompt import Prompt, prompt_for
from gguf_widgets.core.chat.types import Attachment, ChatMessage, MessageStatus, well_formed
from gguf_widgets.core.errors import (
    ChatTemplateError,
    ContextOverflowError,
    InvalidValueError,
    RequestCancelledError,
    UnsupportedByModelError,
)
from gguf_widgets.core.types import Message, SamplingSettings

__all__ = ["WHEN_FULL", "ContextPlan", "Prepared", "plan", "prepare"]

WHEN_FULL: Final = ("stop", "drop_oldest", "summarize")

_ENOUGH_ROOM: Final = 256  # tokens of an answer that is worth beginning
_EXACT_BELOW: Final = 2.0  # contexts; what is longer than this is only judged

Make = Callable[[Sequence[ChatMessage], str | None], Prompt]
"""What of a line of messages is sent; `prompt.prompt_for` is one."""


class ContextPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a message would fill the context, in tokens.

    Attributes
    ----------
    n_ctx : int
        The context's size.
    system, history, attachments, message, begin : int
        The system prompt, the messages before, the files that go with the message, its text, and
        the words the answer begins with; each with the marks that the template puts around it.
    used : int
        All of these.
    room : int
        What is left for the answer.
    wanted : int
        How much room an answer should have.
    fits : bool
        Whether there is that much.
    over : int
        How many tokens too many there are for that; 0 if it fits.
    left_out : tuple of str
        Ids of the messages that would be left out.
    can_drop : bool
        Whether it fits without them.
    exact : bool
        Whether the numbers were counted, or judged in part.
    """

    n_ctx: int
    system: int
    history: int
    attachments: int
    message: int
    begin: int
    used: int
    room: int
    wanted: int
    fits: bool
    over: int
    left_out: tuple[str, ...] = ()
    can_drop: bool = False
    exact: bool = True


class Prepared(NamedTuple):
    """What goes to the model; ids of messages that do not; what stands in their place, if that."""

    messages: list[Message]
    left_out: tuple[str, ...] = ()
    summary: str | None = None


def plan(
    messages: Sequence[ChatMessage],
    system: str | None,
    model: Any,
    settings: SamplingSettings,
    text: str = "",
    attachments: Sequence[Attachment] = (),
    begin: str | Sequence[int] = "",
    *,
    make: Make = prompt_for,
) -> ContextPlan:
    """Return how the context would be filled by a message that has not been sent.

    Parameters
    ----------
    messages : sequence of ChatMessage
        What is on screen.
    system : str or None
    model : Model
    settings : SamplingSettings
        Of the answer; `max_tokens` says how much room it needs.
    text : str
        The message so far; "" for none.
    attachments : sequence of Attachment
    begin : str or sequence of int
        What the answer begins with: words, or tokens.
    make : callable
        Turns a line of messages into what is sent.

    Returns
    -------
    ContextPlan
        Quick when only `text` has changed: everything before it is counted once.

    Raises
    ------
    GgufWidgetsError
        The model cannot be asked.
    """
    line = list(messages)
    if text.strip() or attachments:
        line.append(_draft(text, attachments, line))
    return _Context(line, system, TokenCounter(model), settings, begin, make).plan(
        text, attachments, is_draft=len(line) > len(messages)
    )


def prepare(
    line: Sequence[ChatMessage],
    system: str | None,
    model: Any,
    settings: SamplingSettings,
    when_full: str = "stop",
    begin: str | Sequence[int] | None = "",
    *,
    make: Make = prompt_for,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Prepared:
    """Return what the model is sent for a line of messages, so that it fits.

    Parameters
    ----------
    line : sequence of ChatMessage
        The messages up to the one to be answered, oldest first.
    system : str or None
    model : Model
        One that cannot count its tokens (a stand-in) is sent everything.
    settings : SamplingSettings
    when_full : {"stop", "drop_oldest", "summarize"}
    begin : str or sequence of int, optional
        What the answer begins with.
    make : callable
    on_progress : callable
        Called with the steps of a summary done and all there are.
    stopped : callable
        Asked again and again; True ends the wait for a summary.

    Raises
    ------
    ContextOverflowError
        It does not fit. Its details have `n_ctx`, `num_prompt_tokens`, `over`, `left_out` (what
        leaving out would cost), `choices` (what `when_full` could be instead; none if the last
        message alone is too long) and `problem`: "conversation" or "message".
    RequestCancelledError
        `stopped` said so.
    GgufWidgetsError
        The model refused, or could not write the summary.
    """
    if when_full not in WHEN_FULL:
        raise InvalidValueError(
            f"when_full is {when_full!r:.40}; it can be {', '.join(map(repr, WHEN_FULL))}.",
            name="when_full",
            value=str(when_full)[:40],
        )
    everything = make(line, system).messages
    if not can_count(model):
        return Prepared(everything)
    context = _Context(list(line), system, TokenCounter(model), settings, begin or "", make)
    if context.fits_for_sure(everything):
        return Prepared(everything)
    used = context.count(everything)
    enough = 1 if when_full == "stop" else context.wanted
    if used + enough <= context.n_ctx:
        return Prepared(everything)
    if when_full == "stop":
        raise context.too_long(used)
    if stopped():
        raise RequestCancelledError("It was stopped before the model was asked.")
    if when_full == "drop_oldest":
        num_turns = context.turns_to_leave_out(used)
        return Prepared(context.rest(num_turns), context.ids(num_turns))
    asked = bare(model)  # nothing is to be called for a summary
    return _summed_up(context, used, Summarizer(asked, TokenCounter(asked), on_progress, stopped))


def _summed_up(context: _Context, used: int, summarizer: Summarizer) -> Prepared:
    known, summary = context.summed_up_before()
    if known and summary:
        messages = in_place_of(context.rest(known), summary)
        if context.count(messages) + context.wanted <= context.n_ctx:
            return Prepared(messages, context.ids(known), summary)
    num_turns = max(known, context.turns_to_leave_out(used, summary_budget(context.n_ctx)))
    if num_turns == 0:
        return Prepared(context.rest(0))
    new = context.turn_messages(known, num_turns)
    summary = summarizer.sum_up(new, summary if known else None)
    while True:
        messages = in_place_of(context.rest(num_turns), summary)
        used = context.count(messages)
        if used + 1 <= context.n_ctx:
            return Prepared(messages, context.ids(num_turns), summary)
        if num_turns >= context.most_turns:
            raise context.too_long(used)
        # It came out longer than the room that was kept for it; what follows is summed up, too.
        summary = summarizer.sum_up(context.turn_messages(num_turns, num_turns + 1), summary)
        num_turns += 1


class _Context:
    """A line of messages against a context's size."""

    def __init__(
        self,
        line: list[ChatMessage],
        system: str | None,
        counter: TokenCounter,
        settings: SamplingSettings,
        begin: str | Sequence[int],
        make: Make,
    ) -> None:
        self.line, self.system, self.counter, self._make = line, system, counter, make
        self.n_ctx = counter.n_ctx
        self.begin = counter.text(begin).num_tokens if isinstance(begin, str) else len(begin)
        limit = settings.max_tokens
        self.wanted = max(
            1, min(_ENOUGH_ROOM, self.n_ctx // 4, limit if limit is not None else _ENOUGH_ROOM)
        )
        # Where each turn begins; the first one has whatever stands before the first question.
        starts = [index for index, message in enumerate(line) if message.role == "user"]
        self._starts = [0, *starts[1:]] if starts else [0]
        self.most_turns = len(self._starts) - 1  # the last one always goes out

    # -- counting ----------------------------------------------------------------------------------

    def fits_for_sure(self, messages: list[Message]) -> bool:
        """Say whether it is so short that nothing need be counted."""
        most = self.counter.most(messages)
        return most is not None and most + self.begin + self.wanted <= self.n_ctx

    def count(self, messages: list[Message]) -> int:
        """Return how many tokens it is; of what is far too long, about how many."""
        if not messages:
            return self.begin
        about = self.counter.about(messages) + self.begin
        if about > _EXACT_BELOW * self.n_ctx:
            return about
        return self.counter.conversation(messages) + self.begin

    # -- turns -------------------------------------------------------------------------------------

    def ids(self, num_turns: int) -> tuple[str, ...]:
        """Return the ids of the messages of the first turns."""
        end = self._starts[num_turns] if num_turns < len(self._starts) else len(self.line)
        return tuple(message.id for message in self.line[:end])

    def rest(self, num_turns: int) -> list[Message]:
        """Return what is sent without the first turns."""
        return self._make(self.line[self._starts[num_turns] :], self.system).messages

    def turn_messages(self, first: int, end: int) -> list[Message]:
        """Return what would be sent of some turns alone."""
        last = self._starts[end] if end < len(self._starts) else len(self.line)
        return self._make(self.line[self._starts[first] : last], None).messages

    def turns_to_leave_out(self, used: int, room_for_summary: int = 0) -> int:
        """Return how many turns have to go; those that an earlier answer went without, at least.

        Raises
        ------
        ContextOverflowError
            The last turn alone is too long.
        """
        if self.most_turns == 0:
            if used + 1 <= self.n_ctx:
                return 0  # there is little room for an answer, and nothing that could go
            raise self.too_long(used)
        before = min(self._left_out_before(), self.most_turns)
        limit = self.n_ctx - self.wanted - room_for_summary
        if before and self.count(self.rest(before)) <= limit:
            return before
        # Some more than it takes, if there are some: else it would be one more with each message.
        spared = limit - self.n_ctx // 8
        low, high = max(1, before), self.most_turns
        while low < high:
            middle = (low + high) // 2
            if self.counter.about(self.rest(middle)) + self.begin <= spared:
                high = middle
            else:
                low = middle + 1
        # The search went by what the messages are about; this is what they are.
        while low < self.most_turns and self.count(self.rest(low)) > limit:
            low += 1
        left = self.count(self.rest(low))
        if left + 1 > self.n_ctx:
            raise self.too_long(left)
        return low

    def _left_out_before(self) -> int:
        """Return how many turns the last answer on the line went without."""
        answer = next((m for m in reversed(self.line) if m.role == "assistant"), None)
        return self._turns_of(answer.left_out) if answer is not None else 0

    def summed_up_before(self) -> tuple[int, str | None]:
        """Return how many turns the newest summary on the line is about, and the summary."""
        for message in reversed(self.line):
            if message.summary and message.status is not MessageStatus.FAILED:
                return min(self._turns_of(message.left_out), self.most_turns), message.summary
        return 0, None

    def _turns_of(self, ids: Sequence[str]) -> int:
        gone, num_turns = set(ids), 0
        for start, end in zip(self._starts, self._starts[1:], strict=False):
            if not gone.issuperset(message.id for message in self.line[start:end]):
                break
            num_turns += 1
        return num_turns

    # -- words and numbers -------------------------------------------------------------------------

    def too_long(self, used: int) -> ContextOverflowError:
        """Return the error that says by how much, and what can be done."""
        n_ctx, over = self.n_ctx, used + 1 - self.n_ctx
        left_out: tuple[str, ...] = ()
        if self.most_turns:
            alone = self.count(self.rest(self.most_turns))
            if alone + 1 <= n_ctx:
                left_out = self.ids(self._fewest_turns())
        if left_out:
            text = (
                f"The conversation is {used:,} tokens long and the context has room for {n_ctx:,}:"
                f" at least {over:,} too many. Leave out the oldest messages, let the model sum"
                " them up, begin a new conversation, or load the model with a larger context"
                " (n_ctx)."
            )
        else:
            text = (
                f"This message is too long for the model: with all that has to go with it, it is"
                f" {used:,} tokens, and the context has room for {n_ctx:,}. Shorten it or attach"
                " less, or load the model with a larger context (n_ctx)."
            )
        return ContextOverflowError(
            text,
            problem="conversation" if left_out else "message",
            n_ctx=n_ctx,
            num_prompt_tokens=used,
            over=over,
            left_out=list(left_out),
            choices=["drop_oldest", "summarize"] if left_out else [],
        )

    def _fewest_turns(self) -> int:
        try:
            return self.turns_to_leave_out(self.n_ctx)
        except ContextOverflowError:
            return self.most_turns

    def plan(self, text: str, attachments: Sequence[Attachment], *, is_draft: bool) -> ContextPlan:
        """Return the numbers for the page."""
        counter = self.counter
        everything = self._make(self.line, self.system).messages
        exact = True
        try:
            used = self.count(_seen_by(everything, counter))
            exact = used <= _EXACT_BELOW * self.n_ctx
        except (ChatTemplateError, UnsupportedByModelError):
            # Sending it will say so; until then the numbers are of use.
            used, exact = counter.about(everything) + self.begin, False
        marks = counter.marks()
        system = counter.text(self.system).num_tokens + marks if self.system else 0
        files = counter.text(as_prompt(attachments)).num_tokens
        files += sum(one.num_tokens or 0 for one in attachments if one.kind == "image")
        message = counter.text(well_formed(text)).num_tokens + marks if is_draft else 0
        # The rest is what was said before, with the marks at the prompt's ends.
        history = max(0, used - system - files - message - self.begin)
        if len(self.line) == int(is_draft):
            system, history = (system + history, 0) if system else (0, 0)
            message = max(0, used - system - files - self.begin)
        left_out: tuple[str, ...] = ()
        fits = used + self.wanted <= self.n_ctx
        if not fits and self.most_turns:
            try:
                left_out = self.ids(self.turns_to_leave_out(used))
            except (ContextOverflowError, ChatTemplateError, UnsupportedByModelError):
                left_out = ()
        return ContextPlan(
            n_ctx=self.n_ctx,
            system=system,
            history=history,
            attachments=files,
            message=message,
            begin=self.begin,
            used=used,
            room=max(0, self.n_ctx - used),
            wanted=self.wanted,
            fits=fits,
            over=max(0, used + self.wanted - self.n_ctx),
            left_out=left_out,
            can_drop=bool(left_out),
            exact=exact,
        )


def _seen_by(messages: list[Message], counter: TokenCounter) -> list[Message]:
    """Return the messages without their images if the model cannot see them."""
    if counter.sees_images:
        return messages
    return [
        Message(role=message["role"], content=message["content"])
        if message.get("parts")
        else message
        for message in messages
    ]


def _draft(
    text: str, attachments: Sequence[Attachment], line: Sequence[ChatMessage]
) -> ChatMessage:
    return ChatMessage(
        id="draft",
        conversation_id=line[-1].conversation_id if line else "",
        parent_id=line[-1].id if line else None,
        role="user",
        content=well_formed(text) or " ",
        status=MessageStatus.COMPLETE,
        created_at=0.0,
        attachments=tuple(attachments),
    )
