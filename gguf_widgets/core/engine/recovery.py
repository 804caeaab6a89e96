"""After a batch that failed: back to what each sequence had, and what to do about it.

Promises: whatever llama_decode answered and however much of the batch it did, the slots hold what
the account says; a batch that fails costs only the sequence at fault, and that one only after it
failed alone and without guesses; "no room" is answered by one measure at a time, the mildest first,
so that the same batch is not tried for ever. Leaves to others: ending a request (`engine.py`),
putting one back (`placement.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from gguf_widgets.core.engine import scheduler
from gguf_widgets.core.engine.backend import DecodeStatus
from gguf_widgets.core.engine.kv_cache import KVCache
from gguf_widgets.core.engine.placement import Placement
from gguf_widgets.core.engine.sequence import Sequence
from gguf_widgets.core.errors import ContextOverflowError, DecodeError, GgufWidgetsError
from gguf_widgets.core.types import FinishReason

__all__ = ["Recovery"]


class Recovery:
    """What one engine does about failed batches.

    Parameters
    ----------
    cache : KVCache
    placement : Placement
    n_ctx : int
    finish : callable
        Ends a sequence for a reason, at a time.
    fail : callable
        Ends a sequence with an error.
    whole_images : bool, default False
        An image is computed in one go, and never in smaller pieces.
    """

    def __init__(
        self,
        cache: KVCache,
        placement: Placement,
        n_ctx: int,
        *,
        finish: Callable[[Sequence, FinishReason, float], None],
        fail: Callable[[Sequence, GgufWidgetsError], None],
        whole_images: bool = False,
    ) -> None:
        self._cache = cache
        self._placement = placement
        self._n_ctx = n_ctx
        self._finish = finish
        self._fail = fail
        self._whole_images = whole_images

    def recover(self, status: DecodeStatus, chunks: list[scheduler.Chunk]) -> None:
        """Make good what a batch that was answered so has left behind."""
        for sequence, start, _, _ in chunks:
            sequence.num_computed = self._cache.cut(sequence.slot, start)
            sequence.draft = []
            if sequence.num_computed < sequence.num_cached:
                sequence.num_cached = sequence.num_computed
        if status is DecodeStatus.FAILED and not self._cache.can_cut:
            self._forget_states()
        if status is DecodeStatus.NO_ROOM:
            self._make_room(chunks)
        elif status in (DecodeStatus.INVALID, DecodeStatus.FAILED):
            if len(chunks) > 1 or chunks[0].draft:
                for chunk in chunks:
                    chunk.sequence.suspect = True
                return
            self._fail(
                chunks[0].sequence,
                DecodeError(
                    "The model could not compute this request"
                    f" (llama_decode answered {status.name.lower()}). The model is still loaded;"
                    " try again, or with a shorter prompt.",
                    status=status.name.lower(),
                ),
            )

    def _forget_states(self) -> None:
        """Let everything be computed again, what was kept, too.

        llama.cpp moves running states between cells layer by layer while it computes a batch, those
        of sequences that are not in it, too. After one that did not end, any of them may be half
        moved, with nothing to tell it by.
        """
        self._cache.clear()
        for sequence in self._placement.running:
            sequence.num_computed = self._cache.cut(sequence.slot, 0)
            sequence.num_cached = sequence.num_cached if sequence.num_output else 0

    def _make_room(self, chunks: list[scheduler.Chunk]) -> None:
        """Answer llama.cpp's "no room", one measure at a time, the mildest first."""
        if self._cache.evict():
            return
        victim = scheduler.choose_victim(self._placement.running)
        if victim is not None:
            self._placement.preempt(victim, keep=False)
            return
        sequence, num_rows = chunks[0].sequence, chunks[0].num_rows
        if num_rows > 1 and not (self._whole_images and sequence.is_at_image):
            sequence.chunk_limit = num_rows // 2
        elif sequence.num_output:
            self._finish(sequence, FinishReason.LENGTH, perf_counter())
        else:
            self._fail(
                sequence,
                ContextOverflowError(
                    f"The context (n_ctx {self._n_ctx}) has no room left after"
                    f" {sequence.num_computed} of the prompt's {sequence.num_prompt} tokens."
                    " Shorten the prompt, or load the model with a larger context (n_ctx).",
                    n_prompt=sequence.num_prompt,
                    n_ctx=self._n_ctx,
                    excess=sequence.num_prompt - sequence.num_computed,
                ),
            )
