"""Prefixes out of the cache and back into it, as bytes that can be kept for another day.

Promises: what is taken out is exactly the state after the tokens asked for; what is put back is
found by every later request that begins with these tokens, and takes nothing from those that run.
A running state (recurrent and hybrid models) and a sliding window's are of use only whole: to
requests that go on from the prefix's last token, not from somewhere inside. Leaves to others: the
accounts (`kv_cache.py`), the bytes (`backend.py`), which tokens (`state_prompt.py`), files
(`core.state_file`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.backend import Backend
from gguf_widgets.core.engine.kv_cache import KVCache
from gguf_widgets.core.engine.request_check import check_tokens
from gguf_widgets.core.errors import StateFileError
from gguf_widgets.core.fit_machine import free_memory
from gguf_widgets.core.format import format_bytes

__all__ = ["PrefixStates", "new_state"]


class PrefixStates:
    """The prefixes of one engine; used on the engine's thread, between two steps.

    Parameters
    ----------
    backend : Backend
    cache : KVCache
    n_ctx : int
    """

    def __init__(self, backend: Backend, cache: KVCache, n_ctx: int) -> None:
        self._backend = backend
        self._cache = cache
        self._n_ctx = n_ctx

    def check_length(self, num_tokens: int) -> None:
        """Refuse a prefix after which there would be no room for a single token.

        Raises
        ------
        StateFileError
            "no_room".
        """
        if num_tokens >= self._n_ctx:
            raise StateFileError(
                f"The prefix is {num_tokens:,} tokens long and the context has room for"
                f" {self._n_ctx:,}: nothing could follow. Load the model with a larger context"
                " (n_ctx).",
                problem="no_room",
                num_tokens=num_tokens,
                n_ctx=self._n_ctx,
            )

    def copy(self, tokens: Sequence[int]) -> NDArray[np.uint8] | None:
        """Return the state after these tokens, which stay in the cache; None if they are not there.

        Raises
        ------
        StateFileError
            "no_room": it does not fit into the memory that is free.
        DecodeError
            If the runtime does not give it.
        """
        slot = self._cache.pin(tokens)
        if slot is None:
            return None
        return self._backend.state_seq_get(slot)

    def has(self, tokens: Sequence[int]) -> bool:
        """Say whether these tokens are in the cache, and let them stay there if so."""
        return self._cache.pin(tokens) is not None

    def put(self, tokens: Sequence[int], state: NDArray[np.uint8]) -> None:
        """Put a state that `copy` gave back into the cache.

        Raises
        ------
        StateFileError
            "no_room": the context is too short for it.
        WorkerBusyError
            If running requests have the room that it needs.
        DecodeError
            If the runtime does not take it; the cache is as if it had never been tried.
        """
        self.check_length(len(tokens))
        check_tokens(tokens, self._backend.vocabulary.n_vocab)
        self._cache.adopt(tokens, lambda slot: self._backend.state_seq_set(slot, state))


def new_state(num_bytes: int) -> NDArray[np.uint8]:
    """Return memory for a state, if there is enough of it.

    Raises
    ------
    StateFileError
        "no_room".
    """
    free = free_memory()
    if num_bytes <= free:
        try:
            return np.empty(num_bytes, np.uint8)
        except MemoryError:
            pass  # said below
    raise StateFileError(
        f"The prefix needs {format_bytes(num_bytes)} of memory on its way, and"
        f" {format_bytes(free)} are free. Close other programs, or save a shorter one.",
        problem="no_room",
        needed_bytes=num_bytes,
        free_bytes=free,
    )
