"""The backend protocol on llama.cpp: one model, one context.

A model that only turns texts into vectors has no such context; see `embedding`.

Promises: arrays that are filled in place (no allocation per token); everything native is freed by
`close`. Leaves to others: opening (`loading`), words (`vocabulary`), choosing (`sampling`).
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.backend import (
    BatchArrays,
    LoadProgress,
    Memory,
    MemoryKind,
    SamplerSpec,
)
from gguf_widgets.core.engine.embedding_backend import Embedder
from gguf_widgets.core.engine.llama import loading
from gguf_widgets.core.engine.llama.adapters import Adapters
from gguf_widgets.core.engine.llama.embedding import LlamaEmbedder, is_made_for_embedding
from gguf_widgets.core.engine.llama.library import log, start, strlen_callback
from gguf_widgets.core.engine.llama.native_batch import NativeBatch
from gguf_widgets.core.engine.llama.sampling import (
    LlamaSampler,
    Samplers,
    log_probabilities,
    logits_view,
)
from gguf_widgets.core.engine.llama.scoring import LlamaScorer
from gguf_widgets.core.engine.llama.state import describe_format, read_state, write_state
from gguf_widgets.core.engine.llama.vision import LlamaVision
from gguf_widgets.core.engine.llama.vocabulary import LlamaVocabulary
from gguf_widgets.core.engine.scoring_backend import Scorer
from gguf_widgets.core.engine.vision import Vision
from gguf_widgets.core.errors import DecodeError, StateFileError, UnsupportedByModelError
from gguf_widgets.core.types import LoadSettings

__all__ = ["LlamaBackend"]

_logger = logging.getLogger(__name__)


class LlamaBackend:
    """The backend protocol on llama.cpp; see `Backend` for what each method does.

    Parameters
    ----------
    path : Path
        A model file, or the first part of a split one.
    settings : LoadSettings
        None is chosen here, for any machine; `fit.py` chooses better.
    on_progress : callable, optional
        Called with 0 to 1; False cancels.

    Raises
    ------
    ModelLoadError, AdapterFileError
        With llama.cpp's reason.
    """

    name = "llama.cpp"

    def __init__(
        self, path: Path, settings: LoadSettings, on_progress: LoadProgress | None = None
    ) -> None:
        start()
        log.forget()
        self._model: Any = None
        self._context: Any = None
        self._samplers: Samplers | None = None
        self.embedder: Embedder | None = None
        self.scorer: Scorer | None = None
        self.vision: Vision | None = None
        self._flag = ctypes.create_string_buffer(b"", 2)
        self._copy_of: tuple[int, NDArray[np.uint8]] | None = (
            None  # a slot's state, until it changes
        )
        try:
            self._open(path, settings, on_progress)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, settings: LoadSettings, on_progress: LoadProgress | None) -> None:
        self._model = loading.load_model(path, settings, on_progress)
        loading.check_kind(self._model)
        adapters = Adapters(self._model, settings)
        self._vocabulary = LlamaVocabulary(self._model)
        self.vocabulary = self._vocabulary.facts
        self.tokenize = self._vocabulary.tokenize
        self.detokenize = self._vocabulary.detokenize
        self.token_to_piece = self._vocabulary.piece
        self.vocabulary_digest = self._vocabulary.digest
        self.chat_template = _template_of(self._model, None)
        self.tool_template = _template_of(self._model, b"tool_use")
        if not is_made_for_embedding(self._model):
            self._context = loading.make_context(self._model, settings)
        self.can_write = self._context is not None
        if self.can_write:
            settings = self._open_context(settings, adapters)
        self.embedder = embedder = LlamaEmbedder(
            self._model, self._vocabulary, settings, adapters.apply, can_write=self.can_write
        )
        self.settings = embedder.settings
        if self.can_write:
            n_vocab = self.vocabulary.n_vocab
            self.scorer = LlamaScorer(self._model, n_vocab, settings, adapters.apply)
        else:
            self.memory = Memory(MemoryKind.ATTENTION, n_slots=1, n_outputs=1)
            self.batch = BatchArrays.empty(1)
            self.state_format = ""

    def _open_context(self, asked: LoadSettings, adapters: Adapters) -> LoadSettings:
        """Make ready what replies come from; return the effective settings."""
        adapters.apply(self._context)
        self._cells = lib.llama_get_memory(self._context)
        self._abort_callback = strlen_callback()
        if self._abort_callback is not None:
            lib.llama_set_abort_callback(
                self._context, self._abort_callback, ctypes.cast(self._flag, ctypes.c_void_p)
            )
        settings = loading.effective_settings(self._context, asked)
        kind = loading.memory_kind(self._model)
        self.memory = Memory(
            kind=kind,
            n_slots=lib.llama_n_seq_max(self._context),
            n_outputs=loading.num_outputs(self._context, settings),
            window=lib.llama_model_n_swa(self._model),
            own_cells=not settings.kv_unified,
        )
        self._samplers = Samplers(self._context, self._vocabulary, settings.n_ctx or 0)
        self.batch = BatchArrays.empty(lib.llama_n_batch(self._context))
        self._native_batch = NativeBatch(self.batch)
        self.state_format = describe_format(self._model, settings)
        if adapters.description:  # what is in the cells was computed with them
            self.state_format += f", adapters {adapters.description}"
        return settings

    def open_vision(self, path: Path, num_blocks: int) -> None:
        """Let the model see with a projector; before an engine is made of this.

        Parameters
        ----------
        path : Path
            Judged; see `gguf_projector`.
        num_blocks : int
            Layers of its encoder.

        Raises
        ------
        MissingDependencyError, ModelLoadError, MmprojFileError
            See `LlamaVision`; the model is as it was.
        UnsupportedByModelError
            If the model cannot write.
        """
        if self._context is None:
            raise UnsupportedByModelError(
                "This is an embedding model: it cannot answer, so it has no use for an image"
                " companion (mmproj). Load it without."
            )
        self.vision = LlamaVision(path, self._model, self._context, self.settings, num_blocks)
        self.settings = self.settings.replace(mmproj=str(path))

    # Work

    def decode(self, num_tokens: int) -> int:
        """See `Backend.decode`."""
        self._copy_of = None
        return int(lib.llama_decode(self._context, self._native_batch.first(num_tokens)))

    def decode_images(self, num_rows: int) -> int:
        """See `Backend.decode_images`."""
        if self.vision is None:
            raise AssertionError("there is no projector")
        self._copy_of = None
        return self.vision.decode(num_rows)

    def new_sampler(self, spec: SamplerSpec) -> LlamaSampler:
        """See `Backend.new_sampler`."""
        if self._samplers is None:
            raise AssertionError("the backend is closed")
        return self._samplers.new(spec)

    def logprobs(self, row: int, token: int, num_top: int) -> tuple[float, list[tuple[int, float]]]:
        """See `Backend.logprobs`."""
        logits = lib.llama_get_logits_ith(self._context, row)
        return log_probabilities(logits_view(logits, self.vocabulary.n_vocab), token, num_top)

    def interrupt(self) -> None:
        """See `Backend.interrupt`."""
        log.expects_abort = True
        self._flag[0] = b"x"

    def clear_interrupt(self) -> None:
        """See `Backend.clear_interrupt`."""
        self._flag[0] = b"\0"
        log.expects_abort = False

    # Memory

    def seq_rm(self, seq_id: int, start: int) -> bool:
        """See `Backend.seq_rm`."""
        if self._copy_of is not None and self._copy_of[0] == seq_id:
            self._copy_of = None
        return bool(lib.llama_memory_seq_rm(self._cells, seq_id, start, -1))

    def seq_cp(self, source: int, target: int, start: int, end: int) -> None:
        """See `Backend.seq_cp`."""
        if self.memory.own_cells:
            self._copy(source, target, end)
            return
        part = (-1, -1) if self.memory.kind is MemoryKind.RECURRENT else (start, end)
        lib.llama_memory_seq_cp(self._cells, source, target, *part)

    def _copy(self, source: int, target: int, end: int) -> None:
        """Copy the first tokens of a slot into another one with cells of its own.

        llama.cpp's own `seq_cp` would copy the slot's whole buffer, used or not, and only when the
        next batch comes: too late for whoever reads or writes a state before that. So the slot's
        state is copied, at once. Several that take over from one get it from the same copy.
        """
        try:
            if self._copy_of is None or self._copy_of[0] != source:
                self._copy_of = (source, read_state(self._context, source))
            done = write_state(self._context, target, self._copy_of[1])
        except (DecodeError, StateFileError) as error:  # no memory for the copy, for one
            _logger.info("a beginning was not copied, so it is computed again: %s", error)
            done = False
        # If it was not done, whoever asked for it sees that nothing is there.
        lib.llama_memory_seq_rm(self._cells, target, end if done else 0, -1)

    def seq_pos_min(self, seq_id: int) -> int:
        """See `Backend.seq_pos_min`."""
        return int(lib.llama_memory_seq_pos_min(self._cells, seq_id))

    def seq_pos_max(self, seq_id: int) -> int:
        """See `Backend.seq_pos_max`."""
        return int(lib.llama_memory_seq_pos_max(self._cells, seq_id))

    def state_seq_get(self, seq_id: int) -> NDArray[np.uint8]:
        """See `Backend.state_seq_get`."""
        return read_state(self._context, seq_id)

    def state_seq_set(self, seq_id: int, state: NDArray[np.uint8]) -> bool:
        """See `Backend.state_seq_set`."""
        self._copy_of = None
        return write_state(self._context, seq_id, state)

    def close(self) -> None:
        """See `Backend.close`."""
        if self._samplers is not None:
            self._samplers.close()
            self._samplers = None
        if self.embedder is not None:
            self.embedder.close()
        if self.scorer is not None:
            self.scorer.close()
        if self.vision is not None:
            self.vision.close()
            self.vision = None
        if self._context is not None:
            lib.llama_free(self._context)
            self._context = None
        if self._model is not None:
            lib.llama_model_free(self._model)
            self._model = None


def _template_of(model: Any, name: bytes | None) -> str | None:
    """Return a chat template of the model's file.

    For some files without one, llama.cpp answers with a mere name of its own.
    """
    template = lib.llama_model_chat_template(model, name)
    text = template.decode("utf-8", "replace") if template else ""
    return text if "{" in text else None
