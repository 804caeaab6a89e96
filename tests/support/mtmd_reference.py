"""What llama.cpp's own helper says of a prompt with images: mtmd_helper_eval_chunks on a context of
its own, and one token after the other behind it.

Not a test and no fixture: import it as ``from support.mtmd_reference import MtmdReference``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import llama_cpp as lib
import llama_cpp.mtmd_cpp as mtmd
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.llama.library import native_log, start

__all__ = ["MARKER", "Answer", "MtmdReference"]

MARKER = "<__media__>"


class Answer(NamedTuple):
    """A greedy answer: its tokens, the log probabilities of each, and the prompt's tokens."""

    tokens: list[int]
    logprobs: list[float]
    margins: list[float]
    num_prompt: int


class MtmdReference:
    """A model and its projector, used as llama.cpp's own program does.

    Parameters
    ----------
    model, projector : Path
    n_ctx, n_batch : int
    """

    def __init__(
        self, model: Path, projector: Path, *, n_ctx: int = 1024, n_batch: int = 256
    ) -> None:
        # What another test has set to be logged to may be gone.
        start()
        mtmd.mtmd_helper_log_set(native_log(), ctypes.c_void_p(0))
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self._model = lib.llama_model_load_from_file(str(model).encode(), params)
        self._n_batch = n_batch
        self._n_ctx = n_ctx
        params = mtmd.mtmd_context_params_default()
        params.use_gpu, params.n_threads, params.print_timings = False, 1, False
        self._mtmd = mtmd.mtmd_init_from_file(str(projector).encode(), self._model, params)
        assert self._mtmd
        self._vocab = lib.llama_model_get_vocab(self._model)

    def answer(self, prompt: str, images: Sequence[bytes], count: int = 8) -> Answer:
        """Return the greedy answer to a prompt with a `MARKER` for each image."""
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = self._n_ctx, self._n_batch, self._n_batch
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_AUTO
        context = lib.llama_init_from_model(self._model, params)
        chunks = mtmd.mtmd_input_chunks_init()
        bitmaps = [self._bitmap(data) for data in images]
        try:
            data = prompt.encode()
            text = mtmd.mtmd_input_text(data, len(data), True, True)
            array = (ctypes.c_void_p * len(bitmaps))(*bitmaps)
            assert (
                mtmd.mtmd_tokenize(self._mtmd, chunks, ctypes.byref(text), array, len(bitmaps)) == 0
            )
            num_prompt = int(mtmd.mtmd_helper_get_n_tokens(chunks))
            past = lib.llama_pos(0)
            code = mtmd.mtmd_helper_eval_chunks(
                self._mtmd, context, chunks, 0, 0, self._n_batch, True, ctypes.byref(past)
            )
            assert code == 0
            return self._go_on(context, past.value, count, num_prompt)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                mtmd.mtmd_bitmap_free(bitmap)
            lib.llama_free(context)

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        """Decode an image as llama.cpp does."""
        bitmap = self._bitmap(data)
        width, height = mtmd.mtmd_bitmap_get_nx(bitmap), mtmd.mtmd_bitmap_get_ny(bitmap)
        native = mtmd.mtmd_bitmap_get_data(bitmap)
        pixels = np.ctypeslib.as_array(native, (height, width, 3)).copy()
        mtmd.mtmd_bitmap_free(bitmap)
        return pixels

    def _bitmap(self, data: bytes) -> int:
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(self._mtmd, buffer, len(data), False)
        assert bitmap
        return int(bitmap)

    def _go_on(self, context: int, past: int, count: int, num_prompt: int) -> Answer:
        tokens: list[int] = []
        logprobs: list[float] = []
        margins: list[float] = []
        n_vocab = lib.llama_vocab_n_tokens(self._vocab)
        while len(tokens) < count:
            logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (n_vocab,))
            logits = logits.astype(np.float64)
            token = int(logits.argmax())
            if lib.llama_vocab_is_eog(self._vocab, token):
                break
            best = np.sort(logits)[-2:]
            tokens.append(token)
            margins.append(float(best[1] - best[0]))
            logprobs.append(float(logits[token] - np.logaddexp.reduce(logits)))
            one, position = (lib.llama_token * 1)(token), (lib.llama_pos * 1)(past)
            batch = lib.llama_batch_get_one(one, 1)
            batch.pos = position
            assert lib.llama_decode(context, batch) == 0
            past += 1
        return Answer(tokens, logprobs, margins, num_prompt)

    def close(self) -> None:
        mtmd.mtmd_free(self._mtmd)
        lib.llama_model_free(self._model)
