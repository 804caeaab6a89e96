"""Which tokens are computed next. Pure policy: state in, a plan out; no calls, no clock, no I/O.

The rules:

1. **Decodes first.** Every sequence that is writing its reply gets its one token in each batch, so
   running streams never wait for a long prompt. If a batch is too small for all, they take turns,
   and so does one prompt with them.
2. **Then prompts, in chunks**, in what is left of ``n_batch``: those that somebody is waiting for
   first, but an eighth for batch runs; shared equally between clients, and within a client the
   oldest first. While somebody reads along the chunks are kept short (`PrefillPace`), so that the
   streams keep flowing.
3. **Then guesses**: what speculative decoding looks ahead by, in what is left.
4. **When cells run short, the youngest gives way** (`choose_victim`), those of batch runs first: it
   loses its cells, goes back to the head of the queue and is computed again later; its text so far
   is kept. One that has given way too often is passed over, so each comes to its end.
5. **A sequence under suspicion is computed alone** (its last batch failed), so that only the one
   that is at fault fails.
6. **Where each slot has cells of its own**, llama.cpp computes what is unequal in several goes. So
   rows of a table that nobody reads along with wait while prompts are computed, and then go on all
   together; and a prompt is not cut just to fill a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as ReadOnly
from typing import NamedTuple

from gguf_widgets.core.engine.sequence import Sequence

__all__ = ["Chunk", "PrefillPace", "choose_victim", "plan_batch", "plan_whole_images"]

# How often a sequence of a batch run gives way to others before it is treated like them.
PATIENCE = 2


class Chunk(NamedTuple):
    """Part of a batch: `num_tokens` tokens of a sequence from position `start`, then guesses."""

    sequence: Sequence
    start: int
    num_tokens: int
    draft: tuple[int, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows of the batch that this takes."""
        return self.num_tokens + len(self.draft)


def plan_batch(
    ready: ReadOnly[Sequence],
    *,
    n_batch: int,
    free_cells: int,
    prefill_limit: int,
    prompts_alone: bool = False,
    own_cells: bool = False,
    watched: bool = False,
) -> list[Chunk]:
    """Choose the next batch.

    Parameters
    ----------
    ready : sequence of Sequence
        Those that have a slot and do not wait for another one to compute what they begin with.
    n_batch : int
        The most tokens in a batch.
    free_cells : int
        The most tokens that can be stored.
    prefill_limit : int
        The most prompt tokens in a batch while somebody reads along.
    prompts_alone : bool, default False
        A batch holds decodes, or a part of one prompt; they take turns.
    own_cells : bool, default False
        Each slot has cells of its own.
    watched : bool, default False
        Somebody reads along a reply that has to wait for this batch.

    Returns
    -------
    list of Chunk
        Decodes first; empty if there is nothing to do or no cell is free.
    """
    room = min(n_batch, free_cells)
    if room <= 0 or not ready:
        return []
    suspects = [sequence for sequence in ready if sequence.suspect]
    if suspects:
        ready = [min(suspects, key=_turn)]
    elif prompts_alone:
        ready = _decodes_or_one_prompt(ready)
    if len(ready) == 1 and not watched:  # the commonest case, kept short
        sequence = ready[0]
        count = min(sequence.num_allowed, room)
        chunks = [Chunk(sequence, sequence.num_computed, count)]
        return _with_drafts(chunks, room - count) if sequence.draft else chunks
    decoding = [sequence for sequence in ready if sequence.is_decoding]
    prompts = [sequence for sequence in ready if not sequence.is_decoding]
    watched = watched or any(not sequence.is_batch for sequence in decoding)
    if own_cells and prompts and not watched:
        return _whole(_prefill(prompts, room), n_batch)
    if len(decoding) + bool(prompts) > room:
        return _in_turns(decoding, prompts, room)
    chunks = [Chunk(sequence, sequence.num_computed, 1) for sequence in decoding]
    room -= len(chunks)
    if prompts:
        chunks += _prefill(prompts, min(room, prefill_limit) if watched else room)
        return chunks
    return _with_drafts(chunks, room) if any(one.draft for one in decoding) else chunks


def plan_whole_images(ready: ReadOnly[Sequence], *, most: int, free_cells: int) -> list[Chunk]:
    """Choose the next batch of vectors where an image has to be computed in one go.

    Parameters
    ----------
    ready : sequence of Sequence
        All of them at the beginning of an image.
    most : int
        The most vectors in such a batch.
    free_cells : int
        The most that can be stored.

    Returns
    -------
    list of Chunk
        Whole images, those first whose turn it is; empty if there are no cells for the first.
    """
    room = min(most, free_cells)
    suspects = [sequence for sequence in ready if sequence.suspect]
    chunks: list[Chunk] = []
    for sequence in sorted(suspects[:1] or ready, key=_turn):
        span = sequence.next_image
        if span is None or span.num_tokens > room:
            break
        chunks.append(Chunk(sequence, sequence.num_computed, span.num_tokens))
        room -= span.num_tokens
    return chunks


def _decodes_or_one_prompt(ready: ReadOnly[Sequence]) -> ReadOnly[Sequence]:
    prompts = _next_prompt([sequence for sequence in ready if not sequence.is_decoding])
    decoding = [sequence for sequence in ready if sequence.is_decoding]
    if not prompts or (decoding and min(map(_turn, decoding)) < _turn(prompts[0])):
        return decoding
    return prompts


def _in_turns(decoding: ReadOnly[Sequence], prompts: ReadOnly[Sequence], room: int) -> list[Chunk]:
    """Give a token each to those whose last one is longest ago; one prompt is among them."""
    candidates = [*decoding, *_next_prompt(prompts)]
    chosen = sorted(sorted(candidates, key=_turn)[:room], key=lambda one: not one.is_decoding)
    return [Chunk(sequence, sequence.num_computed, 1) for sequence in chosen]


def _next_prompt(prompts: ReadOnly[Sequence]) -> ReadOnly[Sequence]:
    """Return the prompt whose turn it is, where there is room for a token of a single one."""
    return [min(prompts, key=_turn)] if prompts else []


def _prefill(prompts: ReadOnly[Sequence], room: int) -> list[Chunk]:
    if room == 1:
        return [Chunk(sequence, sequence.num_computed, 1) for sequence in _next_prompt(prompts)]
    waited_for = [sequence for sequence in prompts if not sequence.is_batch]
    batch = [sequence for sequence in prompts if sequence.is_batch]
    if not batch:
        return _share(waited_for, room)
    chunks = _share(waited_for, room - max(1, room // 8)) if waited_for else []
    return chunks + _share(batch, room - sum(chunk.num_tokens for chunk in chunks))


def _share(prompts: Iterable[Sequence], room: int) -> list[Chunk]:
    """Divide `room` prompt tokens: equally between clients, oldest first within a client."""
    by_client: dict[str, list[Sequence]] = {}
    for sequence in sorted(prompts, key=_age):
        by_client.setdefault(sequence.client_id, []).append(sequence)
    demand = {
        client: sum(sequence.num_allowed for sequence in sequences)
        for client, sequences in by_client.items()
    }
    chunks = []
    # The smallest demand first: what it does not need goes to the others.
    for index, client in enumerate(sorted(by_client, key=demand.__getitem__)):
        share = min(demand[client], -(-room // (len(by_client) - index)))
        room -= share
        for sequence in by_client[client]:
            count = min(sequence.num_allowed, share)
            if count:
                chunks.append(Chunk(sequence, sequence.num_computed, count))
                share -= count
    return chunks


def _whole(chunks: list[Chunk], n_batch: int) -> list[Chunk]:
    """Leave a client's last prompt to the next batch, if it fits into one and was cut for this.

    Between several clients none is left out: it might be the same one again and again.
    """
    if len(chunks) > 1 and len({chunk.sequence.client_id for chunk in chunks}) == 1:
        last = max(chunks, key=lambda chunk: _age(chunk.sequence))
        if last.num_tokens < last.sequence.num_allowed <= n_batch:
            return [chunk for chunk in chunks if chunk is not last]
    return chunks


def _with_drafts(chunks: list[Chunk], room: int) -> list[Chunk]:
    """Add the guesses of decoding sequences, as far as they fit."""
    result = []
    for chunk in chunks:
        draft = tuple(chunk.sequence.draft[:room]) if chunk.sequence.is_decoding else ()
        room -= len(draft)
        result.append(chunk._replace(draft=draft))
    return result


def choose_victim(running: ReadOnly[Sequence]) -> Sequence | None:
    """Choose who gives way when cells run short; None if there is only one."""
    if len(running) < 2:
        return None
    return max(running, key=lambda one: (is_patient(one), one.order))


def is_patient(sequence: Sequence) -> bool:
    """Say whether a sequence gives way to those that somebody is waiting for.

    One that is to be reproducible does not: what it wrote would be computed again as part of its
    prompt, in larger batches, and its logits would differ in their last digits.
    """
    return sequence.is_batch and not sequence.is_alone and sequence.num_preempted < PATIENCE


def _age(sequence: Sequence) -> int:
    return sequence.order


def _turn(sequence: Sequence) -> tuple[int, int]:
    return (sequence.last_step, sequence.order)


class PrefillPace:
    """How many prompt tokens fit into a step that keeps running streams flowing.

    Parameters
    ----------
    n_batch : int
        The upper limit.
    step_s : float, default 0.1
        How long such a step may take, in seconds.
    """

    SMALLEST = 16

    def __init__(self, n_batch: int, step_s: float = 0.1) -> None:
        self._n_batch = n_batch
        self._step_s = step_s
        self._token_s: float | None = None

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Take in that a batch with `num_tokens` prompt tokens took so long."""
        if num_tokens >= self.SMALLEST:
            newest = seconds / num_tokens
            self._token_s = newest if self._token_s is None else 0.7 * self._token_s + 0.3 * newest

    @property
    def limit(self) -> int:
        """The most prompt tokens for the next batch that also holds decodes."""
        fitting = 64 if not self._token_s else int(self._step_s / self._token_s)
        return min(max(fitting, self.SMALLEST), self._n_batch)
