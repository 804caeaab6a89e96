"""The scorer on llama.cpp: a context of its own, there only while something is scored.

Promises: generation's cells, and its room for logits, are never touched; nothing is kept when
nothing is left to score. Leaves to others: which tokens (`engine.scoring`), log probabilities
(`engine.log_softmax`).

Why a context of its own
------------------------
The one that replies come from has room for a row of logits for each slot (32 or so), since a row
takes ``4 * n_vocab`` bytes; more room would cost every model memory that hardly any needs. With 32
rows at once a text could be scored there, but in small batches and in cells that replies then lack.
A context of its own takes 3 to 8 ms to make and as long to free (30 layers, 512 cells), and while
it is there, with `n_rows` tokens that have logits at once and `n_cells`, the longest window::

    2 * n_rows * n_vocab * 4                a row of logits for each, in the graph and outside
    n_cells * (bytes of a cell)             keys and values; as for generation
    compute buffers                         as for generation

`n_rows` is chosen by the vocabulary, 64 to 512, so that the first line is 256 MB at most where that
allows it. (Tokens that are only read may be more at once: up to `n_batch`.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.backend import BatchArrays
from gguf_widgets.core.engine.llama import loading
from gguf_widgets.core.engine.llama.library import log, strlen_callback
from gguf_widgets.core.engine.llama.native_batch import NativeBatch
from gguf_widgets.core.errors import ModelLoadError, NotEnoughMemoryError
from gguf_widgets.core.fit_machine import free_memory
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.types import LoadSettings

__all__ = ["LlamaScorer"]

_LOGITS_BYTES = 128 * 1024 * 1024
_LEAST_ROWS, _MOST_ROWS = 64, 512
_BLOCK = 256  # cells come in blocks of so many


class LlamaScorer:
    """See `Scorer` for what each method does.

    Parameters
    ----------
    model : the native model
        It has to outlive this.
    n_vocab : int
    settings : LoadSettings
        The effective ones.
    prepare : callable
        Called with each native context that is made: sets the adapters.
    """

    def __init__(
        self, model: Any, n_vocab: int, settings: LoadSettings, prepare: Callable[[Any], None]
    ) -> None:
        self._model = model
        self._settings = settings
        self._prepare = prepare
        self._context: Any = None
        self._n_cells = 0
        self._flag = ctypes.create_string_buffer(b"", 2)
        self._abort_callback = strlen_callback()
        self.n_vocab = n_vocab
        self.n_ctx = settings.n_ctx or 0
        self.n_batch = min(settings.n_batch or _MOST_ROWS, _MOST_ROWS)
        fitting = _LOGITS_BYTES // (4 * max(1, n_vocab))
        rows = min(max(1 << max(0, fitting.bit_length() - 1), _LEAST_ROWS), _MOST_ROWS)
        self.n_outputs = min(rows, self.n_batch)
        self._batch = NativeBatch(BatchArrays.empty(self.n_batch))

    @property
    def room(self) -> int:
        """See `Scorer.room`."""
        return self._n_cells

    def grow(self, num_tokens: int) -> None:
        """See `Scorer.grow`."""
        if num_tokens <= self._n_cells:
            return
        self.rest()  # first: what it takes is free then
        n_cells = -(-num_tokens // _BLOCK) * _BLOCK
        needed = n_cells * loading.cell_bytes(self._model, self._settings)
        needed += 2 * self.n_outputs * self.n_vocab * 4
        free = free_memory()
        if needed > free:
            raise NotEnoughMemoryError(
                f"To score {num_tokens:,} tokens in one go, this model needs about"
                f" {format_bytes(needed)} more memory, and {format_bytes(free)} is free. Choose a"
                " shorter window (n_window), or close other programs.",
                needed_bytes=needed,
                free_bytes=free,
            )
        self._context = self._make(n_cells)
        self._n_cells = n_cells

    def compute(self, start: int, tokens: Sequence[int], first_output: int) -> int:
        """See `Scorer.compute`."""
        if self._context is None:
            raise AssertionError("there is no room for any token")
        arrays, count = self._batch.arrays, len(tokens)
        arrays.tokens[:count] = tokens
        arrays.positions[:count] = np.arange(start, start + count)
        arrays.seq_ids[:count] = 0
        arrays.logits[:first_output] = 0
        arrays.logits[first_output:count] = 1
        return int(lib.llama_decode(self._context, self._batch.first(count)))

    def logits(self, num_outputs: int) -> NDArray[np.float32]:
        """See `Scorer.logits`."""
        pointer = lib.llama_get_logits(self._context)
        rows: NDArray[np.float32] = np.ctypeslib.as_array(pointer, (num_outputs, self.n_vocab))
        return rows

    def forget(self, start: int = 0) -> bool:
        """See `Scorer.forget`."""
        if self._context is None:
            return True
        return bool(lib.llama_memory_seq_rm(lib.llama_get_memory(self._context), 0, start, -1))

    def rest(self) -> None:
        """See `Scorer.rest`."""
        if self._context is not None:
            lib.llama_free(self._context)
            self._context = None
        self._n_cells = 0

    def interrupt(self) -> None:
        """See `Scorer.interrupt`."""
        log.expects_abort = True
        self._flag[0] = b"x"

    def clear_interrupt(self) -> None:
        """See `Scorer.clear_interrupt`."""
        if self._flag[0] != b"\0":
            self._flag[0] = b"\0"
            log.expects_abort = False

    def close(self) -> None:
        """See `Scorer.close`."""
        self.rest()

    def _make(self, n_cells: int) -> Any:
        settings = self._settings
        params = loading.context_params(settings)
        params.n_ctx = n_cells
        params.n_batch = self.n_batch
        params.n_ubatch = min(settings.n_ubatch or self.n_batch, self.n_batch)
        if lib.llama_model_n_swa(self._model):
            params.n_ubatch = self.n_batch  # in one piece; see `loading.make_context`
        params.n_seq_max = 1
        params.n_outputs_max = self.n_outputs
        log.forget()
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise ModelLoadError(
                f"The context for scoring ({n_cells:,} cells) could not be made:"
                f" {log.reason or 'llama.cpp gave no reason'}."
                " If memory is short, a shorter window (n_window) needs less.",
                reason=log.reason,
            )
        self._prepare(context)
        if self._abort_callback is not None:
            lib.llama_set_abort_callback(
                context, self._abort_callback, ctypes.cast(self._flag, ctypes.c_void_p)
            )
        return context
