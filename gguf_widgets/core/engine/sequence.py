"""One token stream being generated, from its request to its last event.

Promises: a sequence's tokens are its prompt followed by its reply, and ``num_computed`` of them are
in the model's memory; what is left to compute follows from these two, so that a new prompt, the
next token and a sequence that must be computed again are one and the same case. Leaves to others:
every decision (`scheduler.py`) and every call (`engine.py`).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from gguf_widgets.core.engine.backend import Sampler
from gguf_widgets.core.engine.detokenizer import Detokenizer
from gguf_widgets.core.engine.lookup import NgramIndex
from gguf_widgets.core.engine.positions import Positions
from gguf_widgets.core.engine.token_times import latencies
from gguf_widgets.core.types import (
    FinishReason,
    GenerateRequest,
    ImageSpan,
    Priority,
    Reply,
    Timings,
    TokenLogprob,
    Usage,
)

__all__ = ["NO_SLOT", "Sequence"]

NO_SLOT = -1


@dataclass(slots=True, eq=False)
class Sequence:
    """A request and how far it is.

    Attributes
    ----------
    order : int
        Counts up with each request: a smaller one came earlier.
    tokens : list of int
        The prompt and the reply so far.
    num_computed : int
        How many of `tokens` are in the slot's cells.
    max_output : int
        The longest reply there is room for.
    slot : int
        The ``seq_id`` it occupies, -1 while it waits.
    last_step : int
        When it was last part of a batch, so that turns are fair.
    suspect : bool
        It was part of a batch that failed: it is computed alone until that goes well.
    chunk_limit : int
        The most tokens of it that go into one batch; halved when the cache has no room.
    stop_at : int
        Where its prefill pauses for others to take over what it has; 0 is nowhere.
    leader : Sequence or None
        One that is computing the first `num_common` of the same tokens just now: this one waits and
        takes them over.
    num_preempted : int
        How often it was put back.
    num_passed : int
        How often another client's later request got a slot while this was first of its own.
    has_company : bool
        It is a row of a table that has run beside others.
    draft : list of int
        What it is guessed to go on with, for the next batch.
    images_end : int
        Where the last image of its prompt ends; 0 without any.
    positions : Positions or None
        The model's positions of its tokens, where they are not the tokens' numbers.
    begin : str
        What its text begins with and has not been told yet.
    token_times : array of float
        When each token of the reply was sampled.
    """

    request: GenerateRequest
    order: int
    tokens: list[int]
    max_output: int
    seed: int
    detokenizer: Detokenizer
    arrived: float
    chunk_limit: int
    num_computed: int = 0
    num_cached: int = 0
    num_output: int = 0
    slot: int = NO_SLOT
    last_step: int = -1
    suspect: bool = False
    stop_at: int = 0
    leader: Sequence | None = None
    num_common: int = 0
    num_preempted: int = 0
    num_passed: int = 0
    has_company: bool = False
    draft: list[int] = field(default_factory=list)
    images_end: int = 0
    positions: Positions | None = None
    ngrams: NgramIndex = field(default_factory=NgramIndex)
    sampler: Sampler | None = None
    started: float | None = None
    first_token: float | None = None
    token_times: array[float] = field(default_factory=lambda: array("d"))
    begin: str = ""
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    num_logprobs_sent: int = 0

    @property
    def request_id(self) -> str:
        """The request's name."""
        return self.request.request_id

    @property
    def client_id(self) -> str:
        """Who asked."""
        return self.request.client_id

    @property
    def is_batch(self) -> bool:
        """Whether it is work on a table, which nobody is waiting for at a screen."""
        return self.request.priority is Priority.BATCH

    @property
    def is_alone(self) -> bool:
        """Whether it shares neither batches nor prefixes, so that it can be repeated."""
        return self.request.sampling.reproducible

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_tokens)

    @property
    def num_to_compute(self) -> int:
        """Tokens that are not in the cells yet; 1 when the next step only adds the newest."""
        return len(self.tokens) - self.num_computed

    @property
    def num_allowed(self) -> int:
        """Of `num_to_compute`, how many may go into the next batch."""
        count = min(len(self.tokens) - self.num_computed, self.chunk_limit)
        if self.stop_at > self.num_computed:
            count = min(count, self.stop_at - self.num_computed)
        if self.images_end > self.num_computed:
            count = min(count, self._to_boundary())
        return count

    @property
    def next_image(self) -> ImageSpan | None:
        """The part of an image that it is at, or comes to next; None behind the last one."""
        if self.images_end <= self.num_computed:
            return None
        return next(span for span in self.request.images if span.end > self.num_computed)

    @property
    def is_at_image(self) -> bool:
        """Whether the next token to compute is one of an image."""
        span = self.next_image
        return span is not None and span.start <= self.num_computed

    def _to_boundary(self) -> int:
        """Return how many tokens there are to where text becomes image, or image text."""
        span = self.next_image
        if span is None:
            raise AssertionError("there is an image ahead")
        return (span.end if span.start <= self.num_computed else span.start) - self.num_computed

    @property
    def is_decoding(self) -> bool:
        """Whether the next step computes just the newest token of the reply."""
        return self.num_output > 0 and len(self.tokens) - self.num_computed == 1

    def reply(self, reason: FinishReason, now: float) -> Reply:
        """Sum up what came of the request, at the time `now`."""
        return Reply(
            text="".join(self.texts),
            finish_reason=reason,
            usage=Usage(
                num_prompt_tokens=self.num_prompt,
                num_cached_tokens=self.num_cached,
                num_completion_tokens=self.num_output,
            ),
            timings=self._timings(now),
            seed=self.seed,
            stop_string=self.detokenizer.stop_string,
            logprobs=None if self.request.sampling.logprobs is None else self.logprobs,
            tokens=self.tokens[self.num_prompt : self.num_prompt + self.num_output],
        )

    def _timings(self, now: float) -> Timings:
        started = now if self.started is None else self.started
        first = now if self.first_token is None else self.first_token
        prefill, decode = first - started, now - first
        num_prefilled = self.num_prompt - self.num_cached
        itl_p50_s, itl_p95_s, itl_p99_s = latencies(self.token_times)
        return Timings(
            queue_s=started - self.arrived,
            prefill_s=prefill,
            decode_s=decode,
            ttft_s=None if self.first_token is None else self.first_token - self.arrived,
            total_s=now - self.arrived,
            prefill_tok_per_s=(
                num_prefilled / prefill if self.first_token is not None and prefill > 0 else None
            ),
            decode_tok_per_s=(
                (self.num_output - 1) / decode if self.num_output > 1 and decode > 0 else None
            ),
            itl_p50_s=itl_p50_s,
            itl_p95_s=itl_p95_s,
            itl_p99_s=itl_p99_s,
        )
