"""One repetition of one test, through the real worker and engine.

Promises: the clock counts what the test is about and nothing that prepares
it; every repetition begins with an empty cache, or with exactly the depth that the test asks for,
and has tokens that none before it had, so that nothing is taken over from an earlier one; what was
not computed is not counted, and a repetition that came out otherwise than it was planned is an
error and no figure. A stop is heeded within moments. Leaves to others: which tests (`plan`), how
often (`work`), what the figures mean together (`statistics`).

How one goes
------------
1. A request that runs alone (`SamplingSettings.reproducible`) empties the KV cache. It is also a
   gate: requests that are sent behind it wait, and begin in one and the same step when it has
   ended. Several sequences therefore start together.
2. With a depth, each sequence's first tokens are computed and stay in the cache.
3. The requests that are timed. Prompts are tokens drawn at random from the whole vocabulary, as
   llama-bench's are. Writing begins after one token (or after the depth), takes the likeliest token
   each time, and does not end before ``n_gen`` steps.

The figures
-----------
Each `Timings` says when its request began to be computed (``queue_s``), had its first token
(``ttft_s``) and its last (``ttft_s + decode_s``), in seconds since the engine took it in. Requests
that are sent together may be taken in a step apart, so these are counted back from the moments in
which the ends arrived here, which puts all on one clock; of a single sequence it is the worker's
alone. With the smallest and the largest of these over the sequences::

    pp       computed prompt tokens / (last first token - first begin)
    tg       (written tokens - 1 each) / (last end - first first token)
    pp+tg    both of these tokens / (last end - first begin)

The first token of a reply comes out of its prompt's last step. So ``tg128`` asks for 129 and times
the 128 steps after it, of one token a sequence each.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec

from gguf_widgets.core import request_events
from gguf_widgets.core.bench.plan import BenchTest
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    RequestError,
    UnsupportedByModelError,
    WorkerError,
)
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import FinishReason, Reply

__all__ = ["Repetitions", "Sample", "StoppedError", "sample_of"]

_SLICE_S: Final = 0.25
# An abort comes back after the step that is being computed.
_ABORT_S: Final = 60.0
_GATE_TOKENS: Final = 4
_WARM_TOKENS: Final = 16
_BYTE_TOKENS: Final = 256  # of the scripted backend, which has not the model's vocabulary


class StoppedError(Exception):
    """Somebody asked for the end."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one repetition gave.

    `tok_per_s` is of all sequences together; `each_tok_per_s` is what one of them had on average,
    by its own clock.
    """

    num_tokens: int
    seconds: float
    tok_per_s: float
    each_tok_per_s: float


class Repetitions:
    """Carries out the repetitions of one test with a loaded model.

    Parameters
    ----------
    model : Model
    test : BenchTest
    stop : threading.Event
        Set by whoever wants the end.
    """

    def __init__(self, model: Model, test: BenchTest, stop: threading.Event) -> None:
        self._model, self._test, self._stop = model, test, stop
        scripted = model.info.backend == "scripted"
        self._vocabulary = range(_BYTE_TOKENS if scripted else model.info.n_vocab)
        # The same tokens in every measurement, and others in every repetition.
        self._random = random.Random(f"gguf-widgets bench, {test.name}")  # noqa: S311 - no secret

    def warm_up(self) -> None:
        """Do it once without looking: the whole prompt, and the first few tokens of writing."""
        self._once(min(self._test.n_gen, _WARM_TOKENS))

    def once(self) -> Sample:
        """Do it once.

        Raises
        ------
        StoppedError
            It was stopped; what was under way is taken back.
        GgufWidgetsError
            The model could not do it.
        """
        return sample_of(self._test, *self._once(self._test.n_gen))

    def _once(self, n_gen: int) -> tuple[list[Reply], list[float]]:
        test = self._test
        # What is in the cache before; the last token of a prompt is always computed.
        before = test.n_depth if test.n_prompt else max(0, test.n_depth - 1)
        length = before + (test.n_prompt or 1)
        prompts = self._prompts(length)
        gate = {"reproducible": True, "max_tokens": _GATE_TOKENS}
        with _Flight(self._model, self._stop) as flight:
            flight.send(self._tokens(1), **gate)
            if before:
                flight.wait()
                for prompt in prompts:
                    flight.send(prompt[:before], max_tokens=1)
                flight.wait()
            for prompt in prompts:
                flight.send(prompt, max_tokens=n_gen + 1)
            replies = flight.wait()[-test.n_seq :]
            arrived = flight.arrived[-test.n_seq :]
        for reply in replies:
            self._check(reply, before, n_gen)
        return replies, arrived

    def _prompts(self, length: int) -> list[list[int]]:
        firsts = self._random.sample(self._vocabulary, min(self._test.n_seq, len(self._vocabulary)))
        return [
            [firsts[number % len(firsts)], *self._tokens(length - 1)]
            for number in range(self._test.n_seq)
        ]

    def _tokens(self, count: int) -> list[int]:
        return self._random.choices(self._vocabulary, k=count)

    def _check(self, reply: Reply, before: int, n_gen: int) -> None:
        usage = reply.usage
        if usage.num_completion_tokens != n_gen + 1 or reply.finish_reason != FinishReason.LENGTH:
            raise RequestError(
                f"The model wrote {usage.num_completion_tokens:,} of {n_gen + 1:,} tokens and ended"
                f' ("{reply.finish_reason}"), so its speed cannot be measured with this test.',
                test=self._test.name,
                finish_reason=str(reply.finish_reason),
            )
        if usage.num_cached_tokens < before:
            raise UnsupportedByModelError(
                f"A depth of {self._test.n_depth:,} tokens cannot be prepared with this model: its "
                f"memory took over {usage.num_cached_tokens:,} of the {before:,} tokens that were "
                "computed before. Measure it without depths.",
                test=self._test.name,
                num_cached_tokens=usage.num_cached_tokens,
            )


def sample_of(test: BenchTest, replies: Sequence[Reply], arrived: Sequence[float]) -> Sample:
    """Make one figure of what the sequences of a repetition say; the formulas are above.

    Parameters
    ----------
    test : BenchTest
    replies : sequence of Reply
    arrived : sequence of float
        When the end of each arrived, in seconds of one clock.

    Raises
    ------
    RequestError
        It took no time that could be measured.
    """
    begins, firsts, ends, each = [], [], [], []
    num_computed = num_written = 0
    for reply, at in zip(replies, arrived, strict=True):
        times, usage = reply.timings, reply.usage
        taken_in = at - times.total_s
        first = taken_in + (times.total_s if times.ttft_s is None else times.ttft_s)
        computed = usage.num_prompt_tokens - usage.num_cached_tokens
        written = usage.num_completion_tokens - 1
        num_computed, num_written = num_computed + computed, num_written + written
        begins.append(taken_in + times.queue_s)
        firsts.append(first)
        ends.append(first + times.decode_s)
        own = {
            "prompt": (computed, times.prefill_s),
            "generation": (written, times.decode_s),
            "both": (computed + written, times.prefill_s + times.decode_s),
        }[test.kind]
        each.append(own)
    tokens, seconds = {
        "prompt": (num_computed, max(firsts) - min(begins)),
        "generation": (num_written, max(ends) - min(firsts)),
        "both": (num_computed + num_written, max(ends) - min(begins)),
    }[test.kind]
    if seconds <= 0 or any(own_seconds <= 0 for _, own_seconds in each):
        raise RequestError(
            f"{test.name} took no time that could be measured. Give a larger size.", test=test.name
        )
    return Sample(
        num_tokens=tokens,
        seconds=seconds,
        tok_per_s=tokens / seconds,
        each_tok_per_s=sum(count / own_seconds for count, own_seconds in each) / len(each),
    )


class _Flight:
    """Requests that are on their way, and their ends in the order they were sent."""

    def __init__(self, model: Model, stop: threading.Event) -> None:
        self._model, self._stop = model, stop
        self._changed = threading.Condition()
        self._ends: list[Reply | GgufWidgetsError | None] = []
        self.arrived: list[float] = []
        self._sent: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is not None:
            self._take_back()

    def send(self, tokens: list[int], **sampling: Any) -> None:
        with self._changed:
            number = len(self._ends)
            self._ends.append(None)
            self.arrived.append(0.0)

        def on_end(end: Reply | GgufWidgetsError) -> None:
            at = time.perf_counter()
            with self._changed:
                self._ends[number], self.arrived[number] = end, at
                self._changed.notify_all()

        was = request_events.IS_CHECK.set(True)  # it is no answer that anybody asked for
        try:
            self._sent.append(
                self._model.submit_tokens(
                    tokens, on_end, temperature=0, ignore_eos=True, **sampling
                )
            )
        finally:
            request_events.IS_CHECK.reset(was)

    def wait(self) -> list[Reply]:
        """Wait for all that were sent so far; the first error is raised."""
        while True:
            with self._changed:
                errors = [end for end in self._ends if isinstance(end, GgufWidgetsError)]
                if errors:
                    raise errors[0]
                if all(end is not None for end in self._ends):
                    return [end for end in self._ends if isinstance(end, Reply)]
                self._changed.wait(_SLICE_S)
            if self._stop.is_set():
                raise StoppedError
            # The client answers every request when its connection ends, so this is a second line
            # of defence.
            if not self._model.loaded:
                raise WorkerError("The model was unloaded while it was being measured.")

    def _take_back(self) -> None:
        """Stop what is under way and wait for its end: nothing may run beside what comes next."""
        for number, sent in enumerate(self._sent):
            if self._ends[number] is None:
                sent.stop()
        deadline = time.monotonic() + _ABORT_S
        with self._changed:
            while any(end is None for end in self._ends[: len(self._sent)]):
                if time.monotonic() > deadline or not self._model.loaded:
                    return
                self._changed.wait(_SLICE_S)
