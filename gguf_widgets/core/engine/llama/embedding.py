"""The embedder on llama.cpp: a context of its own, beside the one that replies come from.

Promises: generation's cells are never touched; a text is never cut; what can be made smaller is
(below). Leaves to others: which texts go together (`engine.embedding`), pooling
(`engine.embedding_pooling`).

What it costs in memory
-----------------------
Nothing before the first text is embedded (with a model that can only embed: at loading). Then, in
bytes, with `n_rows` tokens computed at once and `n_cells` in the cache::

    n_rows * (n_vocab + n_embd) * 4         a row of logits and a vector for each token
    n_rows * n_vocab * 4                    the same once more, if the model has an output layer
    n_cells * (bytes of a cell)             keys and values, if it has a cache; as for generation
    compute buffers                         as for generation with n_ubatch = n_rows

llama.cpp keeps the rows of logits though nobody asks for them. So `n_rows` is chosen by the
vocabulary: 64 to 512 tokens, 128 MB of logits at most where that allows it (256 rows for 128,256
tokens). A model that reads from left to right computes longer texts piece by piece, with 1,024
cells until a longer text comes. A model whose tokens all see each other has to compute a text in
one go, so `n_rows` grows for a longer one. What has grown is given back when nothing is left to do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.backend import BatchArrays, MemoryKind
from gguf_widgets.core.engine.embedding_backend import EmbedderFacts, Piece
from gguf_widgets.core.engine.llama import loading
from gguf_widgets.core.engine.llama.library import log, strlen_callback
from gguf_widgets.core.engine.llama.native_batch import NativeBatch
from gguf_widgets.core.engine.llama.vocabulary import LlamaVocabulary
from gguf_widgets.core.errors import ModelLoadError, NotEnoughMemoryError
from gguf_widgets.core.fit_machine import free_memory
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.types import LoadSettings, Pooling

__all__ = ["LlamaEmbedder", "is_made_for_embedding"]

_POOLINGS = {
    lib.LLAMA_POOLING_TYPE_MEAN: Pooling.MEAN,
    lib.LLAMA_POOLING_TYPE_CLS: Pooling.CLS,
    lib.LLAMA_POOLING_TYPE_LAST: Pooling.LAST,
}

_LOGITS_BYTES = 128 * 1024 * 1024
_LEAST_ROWS, _MOST_ROWS = 64, 512
_CELLS = 1024

# Texts at once: a batch of short ones is better full. A running state is kept for each slot.
_SLOTS, _RECURRENT_SLOTS = 64, 4


def is_made_for_embedding(model: Any) -> bool:
    """Say whether a model's file describes one that turns texts into vectors and cannot write.

    Raises
    ------
    ModelLoadError
        For one that can do neither: a reranker.
    """
    pooling = _pooling_type(model)
    if pooling == lib.LLAMA_POOLING_TYPE_RANK:
        raise ModelLoadError(
            "This is a reranking model: it says how well a text answers a question. It can neither"
            " write nor turn texts into vectors. Choose a model that writes, or an embedding model."
        )
    only_encodes = not lib.llama_model_has_decoder(model)
    return only_encodes or pooling > 0 or _value(model, "attention.causal") == "false"


class LlamaEmbedder:
    """See `Embedder` for what each method does.

    Parameters
    ----------
    model : the native model
        It has to outlive this.
    vocabulary : LlamaVocabulary
    settings : LoadSettings
        Of a model that can write: the effective ones.
    prepare : callable
        Called with each native context that is made: sets the adapters.
    can_write : bool
        Whether there is a context for generation as well; then this one is made when it is needed.

    Raises
    ------
    ModelLoadError
        If the context cannot be made; with `can_write`, only `compute` and `grow` raise it.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: LlamaVocabulary,
        settings: LoadSettings,
        prepare: Callable[[Any], None],
        *,
        can_write: bool,
    ) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._settings = settings
        self._prepare = prepare
        self._encodes = not lib.llama_model_has_decoder(model)
        self._context: Any = None
        self._n_rows = self._n_cells = 0
        self._flag = ctypes.create_string_buffer(b"", 2)
        self._abort_callback = strlen_callback()
        fitting = _LOGITS_BYTES // (4 * max(1, vocabulary.facts.n_vocab))
        self.n_batch = min(max(1 << (fitting.bit_length() - 1), _LEAST_ROWS), _MOST_ROWS)
        recurrent = loading.memory_kind(model) is MemoryKind.RECURRENT
        self.n_slots = _RECURRENT_SLOTS if recurrent else _SLOTS
        trained = lib.llama_model_n_ctx_train(model)
        # Beyond what it was trained for, an encoder may have no positions at all.
        n_ctx = settings.n_ctx or trained if can_write else min(settings.n_ctx or trained, trained)
        is_causal = True
        self._standard_size()
        if not can_write:
            self._context = self._make()
            is_causal = self._is_causal()
            self._settings = loading.common_settings(self._context, settings).replace(
                n_ctx=n_ctx, n_seq_max=self.n_slots
            )
        self.facts = EmbedderFacts(
            n_embd=lib.llama_model_n_embd_out(model),
            n_ctx=n_ctx,
            pooling=_POOLINGS.get(_pooling_type(model), Pooling.MEAN),
            is_causal=is_causal,
        )

    @property
    def settings(self) -> LoadSettings:
        """The effective settings; `n_ctx` is the longest text."""
        return self._settings

    @property
    def room(self) -> int:
        """See `Embedder.room`."""
        return self._n_cells if self.facts.is_causal else self._n_rows

    def tokenize(self, text: str) -> list[int]:
        """See `Embedder.tokenize`."""
        return self._vocabulary.tokenize(text, parse_special=False, add_special=True)

    def grow(self, num_tokens: int) -> None:
        """See `Embedder.grow`."""
        if num_tokens <= self.room:
            return
        size = min(1 << (num_tokens - 1).bit_length(), self.facts.n_ctx)
        per_token = self._cell_bytes()
        if not self.facts.is_causal:
            per_token += 4 * (self._vocabulary.facts.n_vocab + self.facts.n_embd)
        needed, free = size * per_token, free_memory()
        if needed > free:
            raise NotEnoughMemoryError(
                f"To embed a text of {num_tokens:,} tokens, this model needs about"
                f" {format_bytes(needed)} more memory, and {format_bytes(free)} is free. Split the"
                " text, or close other programs.",
                needed_bytes=needed,
                free_bytes=free,
            )
        self._free()
        self._n_cells = max(size, self._n_cells)
        if not self.facts.is_causal:
            self._n_rows = size
        try:
            self._context = self._make()
        except ModelLoadError:
            self._standard_size()
            raise

    def compute(self, pieces: Sequence[Piece]) -> int:
        """See `Embedder.compute`."""
        if self._context is None:
            self._context = self._make()
        arrays = self._batch.arrays
        row = 0
        for slot, start, tokens in pieces:
            end = row + len(tokens)
            arrays.tokens[row:end] = tokens
            arrays.positions[row:end] = np.arange(start, start + len(tokens))
            arrays.seq_ids[row:end] = slot
            row = end
        # Encoders without a cache are encoded by llama_decode, too; T5's has one for nothing.
        run = lib.llama_encode if self._encodes else lib.llama_decode
        return int(run(self._context, self._batch.first(row)))

    def vectors(self, num_tokens: int) -> NDArray[np.float32]:
        """See `Embedder.vectors`."""
        pointer = lib.llama_get_embeddings(self._context)
        rows: NDArray[np.float32] = np.ctypeslib.as_array(pointer, (num_tokens, self.facts.n_embd))
        return rows

    def forget(self, slot: int, start: int = 0) -> bool:
        """See `Embedder.forget`."""
        if self._context is None:
            return True
        return bool(lib.llama_memory_seq_rm(lib.llama_get_memory(self._context), slot, start, -1))

    def rest(self) -> None:
        """See `Embedder.rest`."""
        if self._n_rows > self.n_batch or self._n_cells > max(_CELLS, self.n_batch):
            self._free()
            self._standard_size()

    def interrupt(self) -> None:
        """See `Embedder.interrupt`."""
        log.expects_abort = True
        self._flag[0] = b"x"

    def clear_interrupt(self) -> None:
        """See `Embedder.clear_interrupt`."""
        if self._flag[0] != b"\0":
            self._flag[0] = b"\0"
            log.expects_abort = False

    def close(self) -> None:
        """See `Embedder.close`."""
        self._free()

    # --- inside ---

    def _make(self) -> Any:
        settings = self._settings
        params = loading.context_params(settings)
        params.n_ctx = max(self._n_cells, self._n_rows)
        params.n_batch = params.n_ubatch = self._n_rows
        params.n_seq_max = self.n_slots
        params.n_outputs_max = 0  # as many as there are rows
        params.embeddings = True
        # Whatever the model's own pooling is, we want each token's vector.
        params.pooling_type = lib.LLAMA_POOLING_TYPE_NONE
        log.forget()
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise ModelLoadError(
                f"The context for embeddings ({self._n_rows:,} tokens at once,"
                f" {self._n_cells:,} cells) could not be made:"
                f" {log.reason or 'llama.cpp gave no reason'}.",
                reason=log.reason,
            )
        self._prepare(context)
        if self._abort_callback is not None:
            lib.llama_set_abort_callback(
                context, self._abort_callback, ctypes.cast(self._flag, ctypes.c_void_p)
            )
        self._batch = NativeBatch(BatchArrays.empty(self._n_rows))
        self._batch.arrays.logits[:] = 1
        return context

    def _is_causal(self) -> bool:
        """Say whether a text may come in pieces: attention looks back only, and is remembered."""
        remembers = bool(lib.llama_get_memory(self._context)) and not self._encodes
        return remembers and bool(lib.llama_get_causal_attn(self._context))

    def _cell_bytes(self) -> int:
        """Guess what a cell takes; nothing where there are none."""
        if self._context is not None and not lib.llama_get_memory(self._context):
            return 0
        return loading.cell_bytes(self._model, self._settings)

    def _standard_size(self) -> None:
        self._n_rows, self._n_cells = self.n_batch, max(_CELLS, self.n_batch)

    def _free(self) -> None:
        if self._context is not None:
            lib.llama_free(self._context)
            self._context = None


def _value(model: Any, key: str) -> str:
    """Return an entry of the model's header by its name after the architecture's; "" if none."""
    architecture = _entry(model, "general.architecture")
    return _entry(model, f"{architecture}.{key}")


def _entry(model: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(256)
    count = lib.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if count >= 0 else ""


def _pooling_type(model: Any) -> int:
    text = _value(model, "pooling_type")
    return int(text) if text.isdecimal() else lib.LLAMA_POOLING_TYPE_NONE
