"""One answer that may hold calls of tools, written in steps.

Free step: the model writes what it wants, until the mark of a call is met. Held step: what follows
is JSON, held to the schema of the tools (a grammar), so that its arguments are always valid. Where
a format has several calls one after the other, the next free step ends as soon as anything but
another call comes.

Promises: the text that is handed on holds the words before the calls and none of their marks; a
call that breaks off (the length limit, Stop) is shown as the text that it is, so nothing is lost;
marks inside of thoughts begin no call. The reply's numbers are those of all steps together. Leaves
to others: what a step is (`Model.stream`), reading calls (`call_format`).

Where a mark is a control token, which never shows in a text (Mistral's ``[TOOL_CALLS]``), the
tokens themselves are watched, through their log probabilities.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from typing import Any

import msgspec

from gguf_widgets.core.chat.types import ToolCall
from gguf_widgets.core.errors import (
    GrammarError,
    UnsupportedByModelError,
    UnsupportedSchemaError,
)
from gguf_widgets.core.thinking import split_thinking
from gguf_widgets.core.tools.call_format import MAX_CALLS, CallFormat, silent_marks
from gguf_widgets.core.tools.toolbox import ToolBox
from gguf_widgets.core.types import FinishReason, Reply, TextDelta, TokenLogprob

__all__ = ["CallWriter"]

_log = logging.getLogger(__name__)


class CallWriter:
    """Writes one answer.

    Parameters
    ----------
    model : Model
    box : ToolBox
    form : CallFormat
    sampling : dict
        The keywords of the whole answer, `begin_with` among them.
    open_step : callable
        Begins a step: ``open_step(**changes)`` asks the model with the answer's keywords changed
        so, and returns its stream.

    Attributes
    ----------
    reply : Reply or None
    calls : list of ToolCall
    """

    def __init__(
        self,
        model: Any,
        box: ToolBox,
        form: CallFormat,
        sampling: dict[str, Any],
        open_step: Callable[..., Any],
    ) -> None:
        self.reply: Reply | None = None
        self.calls: list[ToolCall] = []
        self._model = model
        self._box = box
        self._form = form
        self._sampling = sampling
        self._open_step = open_step
        facts = getattr(model, "template_facts", None)
        # What a template is told for an answer with given words is that it opens no thinking.
        self._opened = bool(getattr(facts, "opens_thinking", False)) and not sampling.get(
            "template_variables"
        )
        self._replies: list[Reply] = []
        self._logprobs: list[TokenLogprob] = []
        self._shown: list[str] = []
        self._silent = silent_marks(model, form.opening)
        self._seed: int | None = sampling.get("seed")
        self._request_id = ""

    def write(self, stopped: Callable[[], bool]) -> Iterator[TextDelta]:
        """Yield the words; `reply` and `calls` are there at the end."""
        if self._silent:
            begin = yield from self._free_by_tokens()
        else:
            begin = yield from self._free_by_text()
        if begin is None or stopped():
            self._end(FinishReason.ABORTED if stopped() else None)
            return
        while True:
            text, reply = self._held(begin)
            calls = self._form.read(text)
            # A held reply that ran out of room may still be a whole call: the JSON says so.
            if not calls:
                yield self._show(self._form.opening + text)
                self._end(reply.finish_reason)
                return
            self.calls += calls
            if not self._form.repeats or len(self.calls) >= MAX_CALLS or stopped():
                break
            if not isinstance(begin, str):
                break  # formats with a control token write one list of calls
            following = self._after_call(begin, text)
            if following is None:
                break
            begin = following
        # Nothing runs by itself after Stop: whoever asks is told that it was stopped.
        self._end(FinishReason.ABORTED if stopped() else FinishReason.STOP)

    # -- free steps -------------------------------------------------------------------------------

    def _free_by_text(self) -> Generator[TextDelta, None, Any]:
        """Write freely; return what the held step begins with, None if no call came."""
        begin: Any = self._sampling.get("begin_with")
        shown = 0
        marks = self._form.stops
        while True:
            stream = self._open_step(
                **self._step(), begin_with=begin or None, stop=(*self._users_stops(), *marks)
            )
            text = ""
            num_known = len(self._logprobs)
            for delta in stream:
                text += delta.text
                new, shown = text[shown:], max(shown, len(text))
                if new:
                    yield self._delta(delta, new)
            reply = self._took(stream.reply)
            text = reply.text
            met = reply.stop_string if reply.finish_reason is FinishReason.STOP else None
            if met is None or met not in marks:
                # Those of the last tokens, which brought no text of their own, too.
                self._logprobs[num_known:] = reply.logprobs or []
                return None
            if self._is_call(text):
                return text + self._form.opening
            # The same characters in a thought, or JSON in the middle of an answer: just text.
            begin = text + met
            yield self._show(met)
            shown = len(begin)
            if not self._form.mark:
                marks = ()

    def _free_by_tokens(self) -> Generator[TextDelta, None, Any]:
        """Do what `_free_by_text` does, where the mark is a control token."""
        begin: Any = self._sampling.get("begin_with")
        tokens = list(begin) if isinstance(begin, list) else self._tokens_of(begin or "")
        stream = self._open_step(
            **self._step(),
            begin_with=begin,
            stop=self._users_stops(),
            logprobs=self._sampling.get("logprobs") or 0,
        )
        found = False
        text = ""
        for delta in stream:
            place = self._mark_in(delta.logprobs)
            if found or place is None:
                kept = "" if found else delta.text
                tokens += [] if found else [one.token for one in delta.logprobs]
            else:
                found = True
                # Control tokens have no text in what was written.
                silent = self._silent.values()
                behind = [one.text for one in delta.logprobs[place:] if one.token not in silent]
                length = len("".join(behind))
                kept = delta.text[: len(delta.text) - length] if length else delta.text
                tokens += [one.token for one in delta.logprobs[:place]]
                stream.stop()
            text += kept
            if kept:
                yield self._delta(delta, kept)
        reply = self._took(stream.reply)
        if not found:
            if self._sampling.get("logprobs") is not None:
                self._logprobs = reply.logprobs or []
            return None
        return [*tokens, *self._tokens_of(self._form.opening, special=True)]

    def _after_call(self, begin: str, text: str) -> str | None:
        """Write freely after a call; return what another begins with, None if none comes."""
        whole = begin + text + self._form.closing
        stream = self._open_step(
            **self._step(),
            begin_with=whole,
            stop=(*self._users_stops(), self._form.mark),
            logprobs=None,
        )
        written = ""
        for delta in stream:
            written += delta.text
            if written[len(whole) :].strip():
                stream.stop()  # words after a call are about a result that it cannot know yet
        reply = self._took(stream.reply)
        if reply.stop_string != self._form.mark or reply.text[len(whole) :].strip():
            return None
        return reply.text + self._form.opening

    # -- the held step ----------------------------------------------------------------------------

    def _held(self, begin: Any) -> tuple[str, Reply]:
        """Write a call; return its JSON."""
        held = {"begin_with": begin or None, "logprobs": None, "ignore_eos": False}
        length = len(self._plain(begin))
        try:
            if self._form.between is not None:
                return self._held_apart(begin, held, self._form.between)
            text, reply = self._constrained(held, schema=self._form.schema(self._box))
        except (GrammarError, UnsupportedByModelError, UnsupportedSchemaError) as error:
            # Demo mode's prepared answers, or a type that no grammar can follow: what comes is
            # checked before anything runs, as ever.
            _log.info("Arguments are not held to their schema: %s", error)
            closing = self._form.closing.strip()
            stop = (closing,) if closing else ()
            text, reply = self._read(self._open_step(**{**self._step(), **held}, stop=stop))
            self._took(reply)
        # What was written freely may have white space before the closing mark.
        return text[length:].rstrip(), reply

    def _held_apart(self, begin: Any, held: dict[str, Any], between: str) -> tuple[str, Reply]:
        """Write a call whose name stands before the JSON: first the one, then the other."""
        length = len(self._plain(begin))
        names = " | ".join(f'"{name}"' for name in self._box.names)
        text, reply = self._constrained(held, grammar=f"root ::= {names}")
        name = text[length:].strip()
        tool = self._box.get(name)
        if tool is None:  # it was stopped, or ran out of room
            return name, reply
        if isinstance(begin, list):
            behind = [*self._tokens_of(name), *self._tokens_of(between, special=True)]
            begin = [*begin, *behind]
        else:
            begin = begin + name + between
        held = {**held, "begin_with": begin}
        text, reply = self._constrained(held, schema=tool.parameters)
        return name + between + text[text.find("{", length + len(name)) :], reply

    def _constrained(self, held: dict[str, Any], **constraint: Any) -> tuple[str, Reply]:
        stream = self._open_step(
            **{**self._step(), "min_tokens": 0, **held},
            stop=(),
            constrain_begin=False,
            **constraint,
        )
        text, reply = self._read(stream)
        self._took(reply)
        return text, reply

    def _read(self, stream: Any) -> tuple[str, Reply]:
        for _ in stream:
            pass
        return stream.reply.text, stream.reply

    def _plain(self, begin: Any) -> str:
        """Return what of a beginning is in the reply's text."""
        if isinstance(begin, str):
            return begin
        opening = self._form.opening
        for mark in self._silent:
            opening = opening.replace(mark, "")
        return "".join(self._shown) + opening

    # -- small things -----------------------------------------------------------------------------

    def _step(self) -> dict[str, Any]:
        """Return what differs in each step: the seed, and how much may still be written."""
        changes: dict[str, Any] = {}
        if self._seed is not None:
            changes["seed"] = self._seed
        most = self._sampling.get("max_tokens")
        if most is not None:
            changes["max_tokens"] = max(1, most - sum(_written(one) for one in self._replies))
        if self._replies:
            changes["min_tokens"] = 0
        return changes

    def _users_stops(self) -> tuple[str, ...]:
        stop = self._sampling.get("stop") or ()
        return (stop,) if isinstance(stop, str) else tuple(stop)

    def _took(self, reply: Reply) -> Reply:
        self._replies.append(reply)
        self._seed = reply.seed
        return reply

    def _delta(self, delta: TextDelta, text: str) -> TextDelta:
        self._shown.append(text)
        self._request_id = delta.request_id
        written = sum(_written(one) for one in self._replies) + delta.num_completion_tokens
        logprobs = delta.logprobs if self._sampling.get("logprobs") is not None else []
        self._logprobs += logprobs
        return TextDelta(
            request_id=delta.request_id,
            text=text,
            num_completion_tokens=written,
            logprobs=logprobs,
        )

    def _show(self, text: str) -> TextDelta:
        """Return a text that was not handed on while it came, to be handed on now."""
        self._shown.append(text)
        return TextDelta(
            request_id=self._request_id,
            text=text,
            num_completion_tokens=sum(_written(one) for one in self._replies),
        )

    def _is_call(self, text: str) -> bool:
        """Return whether a mark behind `text` begins a call."""
        sections = split_thinking(text, opened=self._opened)
        if sections and sections[-1].is_thinking and not sections[-1].is_closed:
            return False
        # Bare JSON is a call only if it is the whole answer.
        answer = "".join(one.text for one in sections if not one.is_thinking)
        return bool(self._form.mark) or not answer.strip()

    def _mark_in(self, logprobs: list[TokenLogprob]) -> int | None:
        first = next(iter(self._silent.values()))
        return next((n for n, one in enumerate(logprobs) if one.token == first), None)

    def _tokens_of(self, text: str, *, special: bool = False) -> list[int]:
        return list(self._model.tokenize(text, parse_special=special)) if text else []

    def _end(self, reason: FinishReason | None = None) -> None:
        first, last = self._replies[0], self._replies[-1]
        num_prompt = first.usage.num_prompt_tokens
        written = last.usage.num_context_tokens - num_prompt
        times = [one.timings for one in self._replies]
        decode_s = sum(one.total_s for one in times) - times[0].queue_s - times[0].prefill_s
        self.reply = msgspec.structs.replace(
            last,
            text="".join(self._shown),
            finish_reason=reason or last.finish_reason,
            stop_string=None if self.calls else last.stop_string,
            logprobs=self._logprobs if self._sampling.get("logprobs") is not None else None,
            usage=msgspec.structs.replace(first.usage, num_completion_tokens=max(0, written)),
            timings=msgspec.structs.replace(
                times[0],
                decode_s=decode_s,
                total_s=sum(one.total_s for one in times),
                decode_tok_per_s=(written - 1) / decode_s if decode_s > 0 and written > 1 else None,
            ),
        )


def _written(reply: Reply) -> int:
    return reply.usage.num_completion_tokens
