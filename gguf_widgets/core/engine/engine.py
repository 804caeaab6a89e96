"""Continuous batching: requests in, events out, one step at a time.

Promises:

- a request that `add_request` accepts ends in exactly one terminal event, `Finished` or `Failed`;
  one that it refuses (an exception) never gets an event;
- a batch that fails costs only the sequence at fault: each of the others is cut back to what it
  had, or computed again where the model's memory cannot be cut, and goes on;
- the joined texts of a request's `TextDelta` events are its reply's text;
- what a prompt begins with is not computed again if it is in the cache, or being computed;
- an image in a prompt is encoded meanwhile, and holds up nobody else for longer than a batch;
- a request that asks to be `reproducible` runs alone in an empty cache, so that it gives the same
  reply again. Any other reply may differ in the last digits of its logits, and so once in a while
  in a token, with what runs beside it and what lies in the cache.

Leaves to others: the policy (`scheduler.py`, `waiting.py`), slots and cells (`placement.py`,
`kv_cache.py`), failed batches (`recovery.py`), images (`image_turns.py`), the model (`backend.py`),
clients (the worker).

Threads: one thread calls everything; while `step` runs, other threads may call `interrupt`,
`tokenize`, `tokenize_prompt`, `tokenize_with_images` and `detokenize` only. The engine has no
thread of its own but the one that encodes images (`image_reader.py`).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from time import perf_counter

import numpy as np

from gguf_widgets.core.engine import scheduler
from gguf_widgets.core.engine.backend import Backend, DecodeStatus, SamplerSpec
from gguf_widgets.core.engine.batch_rows import Rows, arrange
from gguf_widgets.core.engine.beside import Beside
from gguf_widgets.core.engine.detokenizer import Detokenizer
from gguf_widgets.core.engine.image_prompt import PromptTokens, text_tokens, tokenize_with_images
from gguf_widgets.core.engine.image_rows import fill_images
from gguf_widgets.core.engine.image_turns import ImageTurns
from gguf_widgets.core.engine.kv_cache import KVCache
from gguf_widgets.core.engine.lookup import DraftPolicy
from gguf_widgets.core.engine.output import Output
from gguf_widgets.core.engine.placement import Placement
from gguf_widgets.core.engine.positions import positions_of
from gguf_widgets.core.engine.prompt import PromptPart, tokenize_prompt
from gguf_widgets.core.engine.recovery import Recovery
from gguf_widgets.core.engine.request_check import check_request, check_tokens
from gguf_widgets.core.engine.sampler import choose_seed
from gguf_widgets.core.engine.sequence import Sequence
from gguf_widgets.core.engine.state import PrefixStates
from gguf_widgets.core.engine.token_rows import fill_tokens
from gguf_widgets.core.engine.writer import Writer
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    InvalidValueError,
    UnsupportedByModelError,
)
from gguf_widgets.core.images import Image
from gguf_widgets.core.types import (
    EngineStats,
    FinishReason,
    GenerateRequest,
    GenerationEvent,
    LoadSettings,
)

__all__ = ["Engine"]


class Engine:
    """Runs many requests over one backend.

    Parameters
    ----------
    backend : Backend
        The engine owns it from now on and closes it.

    Attributes
    ----------
    backend : Backend
    settings : LoadSettings
        The effective settings.
    prefixes : PrefixStates
        Puts what it computes away for another day; between two steps only.
    embedding, scoring : EmbeddingQueue, ScoringQueue
        Requests for vectors, and for the probabilities of given tokens; parts of this engine, under
        the same rules for threads.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.settings: LoadSettings = backend.settings
        n_ctx, n_batch = self.settings.n_ctx, self.settings.n_batch
        n_seq_max = self.settings.n_seq_max
        if n_ctx is None or n_batch is None or n_seq_max is None:
            raise InvalidValueError("The backend did not say its n_ctx, n_batch and n_seq_max.")
        self._n_ctx, self._n_batch = n_ctx, n_batch
        self._cache = KVCache(backend, n_ctx)
        # Where there are running states, a batch of unequal parts is computed in several goes; with
        # a sliding window beside them that comes out wrong (see `n_ubatch` in `llama.loading`).
        self._prompts_alone = not self._cache.can_cut and backend.memory.window > 0
        self.prefixes = PrefixStates(backend, self._cache, n_ctx)
        self._beside = Beside(backend)
        self.embedding, self.scoring = self._beside.embedding, self._beside.scoring
        self._placement = Placement(self._cache, n_seq_max)
        self._running = self._placement.running
        self._waiting = self._placement.waiting
        self._output = Output()
        self._writer = Writer(backend, self._output)
        vision = backend.vision
        self._images = None if vision is None else ImageTurns(vision, self._output, self._fail)
        self._max_whole = None if vision is None else vision.max_whole
        self._recovery = Recovery(
            self._cache,
            self._placement,
            n_ctx,
            finish=self._finish,
            fail=self._fail,
            whole_images=self._max_whole is not None,
        )
        self._num_prefilled = self._num_cached = 0  # tokens, of all requests
        self._drafts = DraftPolicy(self.settings.n_draft or 0)
        self._pace = scheduler.PrefillPace(n_batch)
        self._counting = np.arange(n_ctx + 1, dtype=np.int32)
        self._order = itertools.count()
        self._num_steps = 0
        self._by_id: dict[str, Sequence] = {}
        self._closed = False
        self._interrupt_lock = threading.Lock()
        self._interrupt_wanted = self._interruptible = False

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do or to report."""
        return bool(self._output or self._running or self._waiting or self._beside.has_work)

    def stats(self) -> EngineStats:
        """Count what is going on."""
        return EngineStats(
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            num_cells_used=self._cache.num_busy_cells,
            num_cells=self._cache.num_cells,
            num_cells_kept=self._cache.num_kept_cells,
            num_preemptions=self._placement.num_preemptions,
            total_prompt_tokens=self._num_prefilled,
            total_cached_tokens=self._num_cached,
            total_completion_tokens=self._writer.num_written,
            total_images=self._images.reader.num_encoded if self._images is not None else 0,
        )

    # Requests

    def add_request(self, request: GenerateRequest) -> None:
        """Take a request into the queue.

        Raises
        ------
        UnsupportedByModelError
            If the model cannot write, or is sent an image and cannot see.
        InvalidValueError
            For an empty prompt, an unknown token, a setting out of range, or an id in use.
        ContextOverflowError
            For a prompt longer than the context; ``n_prompt``, ``n_ctx`` and ``excess`` are in its
            details.
        """
        if self._closed:
            raise InvalidValueError("The engine is closed.")
        if not self.backend.can_write:
            raise UnsupportedByModelError(
                "This is an embedding model: it turns texts into vectors (embed) and cannot write."
                " Load a model that writes to get a reply."
            )
        if request.request_id in self._by_id:
            raise InvalidValueError(f"A request {request.request_id!r} is already under way.")
        n_vocab, vision = self.backend.vocabulary.n_vocab, self.backend.vision
        check_request(request, n_ctx=self._n_ctx, n_vocab=n_vocab, vision=vision)
        num_prompt = len(request.prompt_tokens)
        # A prompt that fills the context exactly still gets one token: it needs no cell.
        max_output = max(1, self._n_ctx - num_prompt)
        if request.sampling.max_tokens is not None:
            max_output = min(max_output, request.sampling.max_tokens)
        detokenizer = Detokenizer(request.sampling.stop, request.begin)
        sequence = Sequence(
            request=request,
            order=next(self._order),
            tokens=list(request.prompt_tokens),
            max_output=max_output,
            seed=choose_seed(request.sampling),
            detokenizer=detokenizer,
            begin=detokenizer.begin,
            arrived=perf_counter(),
            chunk_limit=self._n_batch,
            images_end=request.images[-1].end if request.images else 0,
            positions=positions_of(request.images, 1 if vision is None else vision.n_pos),
        )
        if self._images is not None and request.images:
            self._images.enter()
        self._by_id[request.request_id] = sequence
        self._placement.add(sequence)

    def abort(self, request_id: str) -> bool:
        """End a request as aborted; its last event comes from the next `step`.

        Whoever hands in aborts together with `interrupt` hands in all that are there before the
        next step: the interrupt has then served its purpose and is taken back.

        Returns
        -------
        bool
            False if there is no such request, which is so too when it has just ended.
        """
        with self._interrupt_lock:
            self._interrupt_wanted = False
        sequence = self._by_id.get(request_id)
        if sequence is None:
            return self._beside.abort(request_id)
        self._finish(sequence, FinishReason.ABORTED, perf_counter())
        return True

    def abort_client(self, client_id: str) -> int:
        """End all requests of a client as aborted; return how many."""
        ids = [id_ for id_, sequence in self._by_id.items() if sequence.client_id == client_id]
        return sum(map(self.abort, ids)) + self._beside.abort_client(client_id)

    def interrupt(self) -> None:
        """Make the `step` that runs now, or else the next one, return soon. Any thread may call it.

        To abort a request that is being computed: first put the abort where the engine's thread
        will find it, then call this. Calling it in vain loses nothing but time: the prompts of one
        batch are computed again.

        Only a batch of prompts alone is broken off, and none of a model with a running state. One
        that also continues replies is short anyway, and its streams would have to go back a step.
        """
        with self._interrupt_lock:
            self._interrupt_wanted = True
            if self._interruptible:
                self.backend.interrupt()
        self._beside.interrupt()
        if self._images is not None:
            self._images.reader.wake()

    # Text

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Cut text into tokens.

        Parameters
        ----------
        text : str
        add_special : bool, default False
            Begin with BOS if the model wants that and the text does not begin with it already.
        parse_special : bool, default False
            Read the text of a control token ("<|im_end|>") as that token.
        """
        if add_special:
            return tokenize_prompt(self.backend, [PromptPart(text, parse_special)])
        return self.backend.tokenize(text, parse_special=parse_special)

    def tokenize_prompt(self, parts: Iterable[PromptPart]) -> list[int]:
        """Turn a rendered conversation (`ChatTemplate.render_parts`) into prompt tokens."""
        return tokenize_prompt(self.backend, parts)

    def tokenize_with_images(self, parts: Iterable[PromptPart | Image]) -> PromptTokens:
        """Do the same for a conversation with images in it.

        Raises
        ------
        UnsupportedByModelError, ImageError
            See `image_prompt.tokenize_with_images`.
        """
        return tokenize_with_images(self.backend, parts)

    def detokenize(self, tokens: Iterable[int], *, special: bool = False) -> str:
        """Turn tokens into text; with `special`, control tokens are written out.

        Raises
        ------
        InvalidValueError
            For a token that does not exist.
        """
        tokens = list(tokens)
        check_tokens(tokens, self.backend.vocabulary.n_vocab)
        return self.backend.detokenize(tokens, special=special)

    # Steps

    def step(self) -> list[GenerationEvent]:
        """Compute one batch and return what came of it, in the order it happened."""
        # Before the replies go on, so that what they say is told at once.
        self._beside.step(busy=bool(self._running))
        if self._waiting:
            self._placement.admit(self._start)
        if self._running:
            self._placement.catch_up()
            self._placement.close_ranks()
            if self.settings.n_draft:
                self._guess()
            chunks = self._plan()
            if not chunks:  # all wait for images to be encoded, unless something ended just now
                if self._images is not None and not self._output:
                    self._images.wait()
                return self._output.take()
            rows = arrange(chunks, own_cells=self._cache.own_cells)
            started = perf_counter()
            status = self._decode(chunks, rows)
            self._num_steps += 1
            if status is DecodeStatus.OK:
                self._advance(chunks, rows, started)
            else:
                self._recovery.recover(status, chunks)
        return self._output.take()

    def _start(self, sequence: Sequence) -> None:
        """Prepare a sequence that has got a slot."""
        if not sequence.num_output:
            sequence.num_cached = sequence.num_computed
        if sequence.started is not None:
            return
        sequence.started = perf_counter()
        request = sequence.request
        text = request.prompt_tokens
        if request.images:
            text = text_tokens(text)
        try:
            spec = SamplerSpec.of(request, sequence.seed, text)
            sequence.sampler = self.backend.new_sampler(spec)
        except GgufWidgetsError as error:
            self._fail(sequence, error)

    def _guess(self) -> None:
        """Guess how the replies go on, where that pays."""
        if not self._cache.can_cut:  # a wrong guess could not be taken back
            return
        decoding = [one for one in self._running if one.is_decoding and not one.is_alone]
        length = self._drafts.length(len(decoding)) if decoding else 0
        rows = self.backend.memory.n_outputs - len(decoding)
        for sequence in decoding:
            left = sequence.max_output - sequence.num_output
            most = 0 if sequence.suspect else min(length, rows, left - 1, sequence.chunk_limit - 1)
            sequence.draft = sequence.ngrams.guess(sequence.tokens, most) if most > 0 else []
            if sequence.images_end:  # an image cannot be guessed
                sequence.draft = list(itertools.takewhile(lambda one: one >= 0, sequence.draft))
            rows -= len(sequence.draft)

    def _plan(self) -> list[scheduler.Chunk]:
        """Plan a batch, making room for it first; empty if all that runs waits for images."""
        while True:
            ready, watched = self._placement.ready, False
            if self._images is not None and self._images.in_use:
                watched = any(one.is_decoding and not one.is_batch for one in ready)
                ready = self._images.choose(ready)
                if not ready:
                    return []
            chunks = self._plan_of(ready, watched=watched)
            if chunks:
                break
            # Only a lone sequence may fill the whole context, and it ends there; so there is
            # always one that can give way.
            victim = scheduler.choose_victim(self._running)
            if victim is None:
                raise AssertionError("a lone sequence found no free cell")
            self._placement.preempt(victim, keep=False)
            self._placement.catch_up()  # whoever waited for its prefix need not any more
        needed = sum(chunk.num_rows for chunk in chunks)
        while self._cache.num_free_cells < needed:
            self._cache.evict()
        return chunks

    def _plan_of(self, ready: list[Sequence], *, watched: bool) -> list[scheduler.Chunk]:
        free_cells = self._cache.num_free_cells + self._cache.num_kept_cells
        vectors = self._images is not None and self._images.is_vectors
        if vectors and self._max_whole is not None:
            return scheduler.plan_whole_images(ready, most=self._max_whole, free_cells=free_cells)
        return scheduler.plan_batch(
            ready,
            n_batch=self._n_batch,
            free_cells=free_cells,
            prefill_limit=self._pace.limit,
            prompts_alone=self._prompts_alone,
            own_cells=self._cache.own_cells,
            watched=vectors and watched,
        )

    def _decode(self, chunks: list[scheduler.Chunk], rows: list[Rows]) -> DecodeStatus:
        vision = self.backend.vision
        decode: Callable[[int], int] = self.backend.decode
        if vision is not None and self._images is not None and self._images.is_vectors:
            num_rows = fill_images(vision, self._images, chunks, rows)
            decode = self.backend.decode_images
        else:
            num_rows = fill_tokens(self.backend.batch, self._counting, chunks, rows)
        # Of running states, llama.cpp moves those of others as well while it computes, and leaves
        # them half moved when it is broken off: such a batch runs to its end.
        if not self._cache.can_cut or any(chunk.sequence.is_decoding for chunk in chunks):
            code = decode(num_rows)
            self._interrupt_wanted = False
        else:
            with self._interrupt_lock:
                self._interruptible = True
                if self._interrupt_wanted:
                    self.backend.interrupt()
            code = decode(num_rows)
            with self._interrupt_lock:
                self._interruptible = self._interrupt_wanted = False
                self.backend.clear_interrupt()
        return DecodeStatus.from_code(code)

    def _advance(self, chunks: list[scheduler.Chunk], places: list[Rows], started: float) -> None:
        """Take in a batch that went well: count its tokens, sample where a row asked for it."""
        seconds = perf_counter() - started
        num_prefilled = num_rows = 0
        for (sequence, start, count, draft), rows in zip(chunks, places, strict=True):
            num_rows += count + len(draft)
            self._cache.grow(sequence.slot, count + len(draft))
            sequence.num_computed = start + count
            sequence.last_step = self._num_steps
            sequence.suspect = False
            if count > 1 or not sequence.num_output:
                num_prefilled += count
                self._placement.service.charge(sequence.client_id, count, 0)
            if sequence.num_computed == len(sequence.tokens):
                self._write(sequence, rows, count - 1, draft)
            elif not sequence.num_output:
                self._output.prefilled(sequence)
        if num_prefilled:
            self._num_prefilled += num_prefilled
            self._pace.observe(num_prefilled, seconds)
        else:
            self._drafts.observe_step(num_rows, seconds)

    def _write(self, sequence: Sequence, rows: Rows, last: int, draft: tuple[int, ...]) -> None:
        """Let a sequence go on by the token of its row `last`, and as its guesses were right."""
        before = sequence.num_output
        if sequence.first_token is None:
            self._num_cached += sequence.num_cached
        try:
            reason = self._writer.write(sequence, rows.row(last))
            for index, guess in enumerate(draft, last + 1):
                if reason is not None or sequence.tokens[-1] != guess:
                    break
                sequence.num_computed += 1
                reason = self._writer.write(sequence, rows.row(index))
        except GgufWidgetsError as error:
            self._fail(sequence, error)
            return
        written = sequence.num_output - before
        self._placement.service.charge(sequence.client_id, 0, written)
        if draft:
            self._drafts.observe_guess(len(draft), max(0, written - 1))
            sequence.draft = []
            sequence.num_computed = self._cache.cut(sequence.slot, sequence.num_computed)
        if reason is not None:
            self._finish(sequence, reason, perf_counter())

    # Ends

    def _finish(self, sequence: Sequence, reason: FinishReason, now: float) -> None:
        self._output.finished(sequence, reason, now)
        self._end(sequence, keep=True)

    def _fail(self, sequence: Sequence, error: GgufWidgetsError) -> None:
        self._output.failed(sequence, error)
        self._end(sequence, keep=False)

    def _end(self, sequence: Sequence, *, keep: bool) -> None:
        """Give back all that a sequence has."""
        del self._by_id[sequence.request_id]
        if self._images is not None and sequence.images_end:
            self._images.leave(sequence)
        self._placement.remove(sequence, keep=keep)
        if sequence.sampler is not None:
            sequence.sampler.close()
            sequence.sampler = None

    def clear_cache(self) -> None:
        """Forget what finished requests have left in the cache."""
        self._cache.clear()

    def close(self) -> list[GenerationEvent]:
        """Abort what is open, free the model, and return the last events. May be called twice."""
        if self._closed:
            return []
        for request_id in list(self._by_id):
            self.abort(request_id)
        self._closed = True
        self._beside.close()
        if self._images is not None:
            self._images.reader.close()
        self.backend.close()
        return self._output.take()
