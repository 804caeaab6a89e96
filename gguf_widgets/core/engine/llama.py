"""The backend on llama.cpp. The only file that imports llama_cpp; return codes become errors here.

Promises: one model and one context with a unified KV cache, over the low-level functions; arrays
that are filled in place (no allocation per token); an interrupt that llama.cpp polls without
entering Python; everything native is freed by `close`. Leaves to others: what is computed when.

The interrupt: llama.cpp calls an abort callback between the nodes of its graph, from a compute
thread. A Python function there would need the interpreter's lock thousands of times a token. The
callback is the C library's own ``strlen`` instead, on a two-byte buffer: "" is 0, go on; "x" is 1,
stop. Setting one byte is all that `interrupt` does. (llama.cpp polls on the CPU only; a batch that
is computed on a GPU runs to its end.)
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np

from gguf_widgets.core.engine import sampler
from gguf_widgets.core.engine.backend import BatchArrays, LoadProgress, Vocabulary
from gguf_widgets.core.engine.llama_log import LlamaLog
from gguf_widgets.core.errors import InvalidValueError, ModelLoadError
from gguf_widgets.core.types import LoadSettings, SamplingSettings

__all__ = ["LlamaBackend"]

_KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}  # ggml_type
_log = LlamaLog()


@cache
def _start() -> tuple[Any, ...]:
    """Initialise llama.cpp once for the process; what is returned has to stay alive."""

    def take(level: int, text: bytes, _: int | None) -> None:
        _log.take(level, text)

    callback = lib.llama_log_callback(take)
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    lib.llama_backend_init()
    return (callback,)


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
    ModelLoadError
        With llama.cpp's reason.
    """

    name = "llama.cpp"

    def __init__(
        self, path: Path, settings: LoadSettings, on_progress: LoadProgress | None = None
    ) -> None:
        _start()
        _log.forget()
        self._model: Any = None
        self._context: Any = None
        self._samplers: set[LlamaSampler] = set()
        self._flag = ctypes.create_string_buffer(b"", 2)
        try:
            self._open(path, settings, on_progress)
        except BaseException:
            self.close()
            raise

    # Opening

    def _open(self, path: Path, settings: LoadSettings, on_progress: LoadProgress | None) -> None:
        self._model = _load_model(path, settings, on_progress)
        self._check_kind()
        self._context = self._make_context(settings)
        self._memory = lib.llama_get_memory(self._context)
        self._abort_callback = _strlen_callback()
        if self._abort_callback is not None:
            lib.llama_set_abort_callback(
                self._context, self._abort_callback, ctypes.cast(self._flag, ctypes.c_void_p)
            )
        self.settings = self._effective(settings)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.vocabulary = _read_vocabulary(self._vocab)
        self._suppressed = _suppressed_tokens(self._vocab)
        self._pieces: list[bytes | None] = [None] * self.vocabulary.n_vocab
        template = lib.llama_model_chat_template(self._model, None)
        self.chat_template = template.decode("utf-8", "replace") if template else None
        self.batch = BatchArrays.empty(lib.llama_n_batch(self._context))
        self._native_batch = self._make_batch()

    def _check_kind(self) -> None:
        if lib.llama_model_has_encoder(self._model) or not lib.llama_model_has_decoder(self._model):
            raise ModelLoadError(
                "This kind of model (with an encoder, like T5 or BERT) is not supported;"
                " choose a model that writes text."
            )
        if lib.llama_model_is_diffusion(self._model):
            raise ModelLoadError("Diffusion models are not supported.")
        if not lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model)):
            raise ModelLoadError("The model has no vocabulary, so it can neither read nor write.")

    def _make_context(self, settings: LoadSettings) -> Any:
        n_seq_max = settings.n_seq_max or 8
        limit = lib.llama_max_parallel_sequences()
        if n_seq_max > limit:
            raise InvalidValueError(f"n_seq_max is {n_seq_max}; llama.cpp allows up to {limit}.")
        n_ctx = settings.n_ctx or min(lib.llama_model_n_ctx_train(self._model) or 4096, 4096)
        n_batch = min(settings.n_batch or 512, n_ctx)
        n_threads = settings.n_threads or _usable_cores()
        params = lib.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = n_batch
        params.n_ubatch = min(settings.n_ubatch or 512, n_batch)
        params.n_seq_max = n_seq_max
        # One row a sequence is ever sampled; the default keeps room for n_batch rows of n_vocab
        # numbers, 300 MB with a large vocabulary.
        params.n_outputs_max = n_seq_max
        params.n_threads = params.n_threads_batch = n_threads
        params.type_k = _KV_TYPES[settings.type_k or "f16"]
        params.type_v = _KV_TYPES[settings.type_v or "f16"]
        params.flash_attn_type = (
            lib.LLAMA_FLASH_ATTN_TYPE_AUTO
            if settings.flash_attn is None
            else int(settings.flash_attn)
        )
        params.kv_unified = True  # any sequence may use any cell
        params.swa_full = True  # so that sliding-window models can be cut back, too
        params.no_perf = True
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise ModelLoadError(
                f"The model was read, but its context (n_ctx {n_ctx}) could not be made:"
                f" {_log.reason or 'llama.cpp gave no reason'}."
                " If memory is short, a smaller n_ctx needs less.",
                reason=_log.reason,
            )
        pools = lib.llama_pooling_type(context) > lib.LLAMA_POOLING_TYPE_NONE
        if pools or not lib.llama_get_causal_attn(context):
            lib.llama_free(context)
            raise ModelLoadError(
                "This is an embedding model: it turns text into numbers and cannot write."
            )
        return context

    def _effective(self, asked: LoadSettings) -> LoadSettings:
        context = self._context
        mmap, mlock = _load_mode(asked)
        return LoadSettings(
            n_ctx=lib.llama_n_ctx(context),
            n_batch=lib.llama_n_batch(context),
            n_ubatch=lib.llama_n_ubatch(context),
            n_seq_max=lib.llama_n_seq_max(context),
            n_gpu_layers=_gpu_layers(asked),
            n_threads=lib.llama_n_threads(context),
            type_k=asked.type_k or "f16",
            type_v=asked.type_v or "f16",
            flash_attn=(
                _log.flash_attention_chosen if asked.flash_attn is None else asked.flash_attn
            ),
            use_mmap=mmap,
            use_mlock=mlock,
            chat_template=asked.chat_template,
        )

    def _make_batch(self) -> Any:
        """Make the native batch whose arrays are `batch`'s own memory."""
        arrays, count = self.batch, len(self.batch.tokens)
        self._ones = np.ones(count, np.int32)  # each token belongs to one sequence
        addresses = arrays.seq_ids.ctypes.data + 4 * np.arange(count, dtype=np.uint64)
        self._seq_id_pointers = addresses.astype(np.uintp)
        int32 = ctypes.POINTER(ctypes.c_int32)
        return lib.llama_batch(
            n_tokens=0,
            token=arrays.tokens.ctypes.data_as(int32),
            embd=None,
            pos=arrays.positions.ctypes.data_as(int32),
            n_seq_id=self._ones.ctypes.data_as(int32),
            seq_id=self._seq_id_pointers.ctypes.data_as(ctypes.POINTER(int32)),
            logits=arrays.logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    # Text

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """See `Backend.tokenize`."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValueError(
                f"The text holds half a character (a lone surrogate) at place {error.start}."
            ) from error
        size = len(data) + 8
        if size > 2**31 - 1:
            raise InvalidValueError(f"The text is {len(data)} bytes long; 2 GiB is the limit.")
        while True:
            tokens = (ctypes.c_int32 * size)()
            count = lib.llama_tokenize(
                self._vocab, data, len(data), tokens, size, False, parse_special
            )
            if count >= 0:
                return tokens[:count]
            size = -count

    def detokenize(self, tokens: Sequence[int], *, special: bool) -> str:
        """See `Backend.detokenize`."""
        native = (ctypes.c_int32 * len(tokens))(*tokens)
        size = 16 * len(tokens) + 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = lib.llama_detokenize(
                self._vocab, native, len(tokens), buffer, size, not special, special
            )
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            size = -count

    def token_to_piece(self, token: int) -> bytes:
        """See `Backend.token_to_piece`."""
        piece = self._pieces[token]
        if piece is None:
            piece = self._pieces[token] = _piece(self._vocab, token, special=False)
        return piece

    def is_eog(self, token: int) -> bool:
        """See `Backend.is_eog`."""
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    # Work

    def decode(self, num_tokens: int) -> int:
        """See `Backend.decode`."""
        self._native_batch.n_tokens = num_tokens
        return int(lib.llama_decode(self._context, self._native_batch))

    def seq_rm(self, seq_id: int, start: int) -> bool:
        """See `Backend.seq_rm`."""
        return bool(lib.llama_memory_seq_rm(self._memory, seq_id, start, -1))

    def seq_pos_min(self, seq_id: int) -> int:
        """See `Backend.seq_pos_min`."""
        return int(lib.llama_memory_seq_pos_min(self._memory, seq_id))

    def seq_pos_max(self, seq_id: int) -> int:
        """See `Backend.seq_pos_max`."""
        return int(lib.llama_memory_seq_pos_max(self._memory, seq_id))

    def interrupt(self) -> None:
        """See `Backend.interrupt`."""
        _log.expects_abort = True
        self._flag[0] = b"x"

    def clear_interrupt(self) -> None:
        """See `Backend.clear_interrupt`."""
        self._flag[0] = b"\0"
        _log.expects_abort = False

    def new_sampler(
        self, sampling: SamplingSettings, seed: int, prompt_tokens: Sequence[int]
    ) -> LlamaSampler:
        """See `Backend.new_sampler`."""
        biases = {**self._suppressed, **sampling.logit_bias}
        chain = LlamaSampler(self._context, self._samplers)
        n_vocab, n_ctx = self.vocabulary.n_vocab, self.settings.n_ctx or 0
        for name, arguments in sampler.plan(sampling, seed, n_ctx, has_bias=bool(biases)):
            if name == "logit_bias":
                entries = (lib.llama_logit_bias * len(biases))(
                    *(lib.llama_logit_bias(token, bias) for token, bias in biases.items())
                )
                chain.add(lib.llama_sampler_init_logit_bias(n_vocab, len(biases), entries))
            elif name == "penalties":
                chain.add(lib.llama_sampler_init_penalties(n_vocab, *arguments))
            else:
                chain.add(_SAMPLERS[name](*arguments))
        if sampler.penalizes(sampling):
            for token in prompt_tokens[-sampler.look_back(sampling, n_ctx) :]:
                chain.accept(token)
        return chain

    def close(self) -> None:
        """See `Backend.close`."""
        for chain in list(self._samplers):
            chain.close()
        if self._context is not None:
            lib.llama_free(self._context)
            self._context = None
        if self._model is not None:
            lib.llama_model_free(self._model)
            self._model = None


class LlamaSampler:
    """A native sampler chain."""

    __slots__ = ("_chain", "_context", "_open")

    def __init__(self, context: Any, open_samplers: set[LlamaSampler]) -> None:
        params = lib.llama_sampler_chain_default_params()
        params.no_perf = True
        self._chain: Any = lib.llama_sampler_chain_init(params)
        self._context = context
        self._open = open_samplers
        open_samplers.add(self)

    def add(self, stage: Any) -> None:
        """Append a native sampler; the chain owns it from now on."""
        lib.llama_sampler_chain_add(self._chain, stage)

    def accept(self, token: int) -> None:
        """Count a token as one that went before."""
        lib.llama_sampler_accept(self._chain, token)

    def sample(self, row: int) -> int:
        """See `Sampler.sample`."""
        return int(lib.llama_sampler_sample(self._chain, self._context, row))

    def close(self) -> None:
        """See `Sampler.close`."""
        if self._chain is not None:
            lib.llama_sampler_free(self._chain)
            self._chain = None
            self._open.discard(self)


_SAMPLERS: dict[str, Callable[..., Any]] = {
    "top_k": lib.llama_sampler_init_top_k,
    "typical": lib.llama_sampler_init_typical,
    "top_p": lib.llama_sampler_init_top_p,
    "min_p": lib.llama_sampler_init_min_p,
    "temp": lib.llama_sampler_init_temp,
    "dist": lib.llama_sampler_init_dist,
    "greedy": lib.llama_sampler_init_greedy,
}


def _load_model(path: Path, settings: LoadSettings, on_progress: LoadProgress | None) -> Any:
    raised: list[BaseException] = []
    cancelled = False

    def progress(fraction: float, _: int | None) -> bool:
        nonlocal cancelled
        try:
            cancelled = cancelled or (on_progress is not None and not on_progress(fraction))
        except BaseException as error:  # noqa: BLE001 - it must not unwind through C; raised below
            raised.append(error)
            cancelled = True
        return not cancelled

    params = lib.llama_model_default_params()
    callback = lib.llama_progress_callback(progress)  # has to live until the load is over
    params.progress_callback = callback
    params.n_gpu_layers = _gpu_layers(settings)
    mmap, mlock = _load_mode(settings)
    params.load_mode = int(mmap) * lib.LLAMA_LOAD_MODE_MMAP + int(mlock) * lib.LLAMA_LOAD_MODE_MLOCK
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if model:
        return model
    if raised:
        raise raised[0]
    if cancelled:
        raise ModelLoadError("Loading was cancelled.", path=str(path), cancelled=True)
    reason = _log.reason
    raise ModelLoadError(
        f"llama.cpp could not load {path.name}: {reason or 'it gave no reason'}.",
        path=str(path),
        reason=reason,
    )


def _gpu_layers(settings: LoadSettings) -> int:
    if not lib.llama_supports_gpu_offload():
        return 0
    return -1 if settings.n_gpu_layers is None else settings.n_gpu_layers


def _load_mode(settings: LoadSettings) -> tuple[bool, bool]:
    """Return whether the file is mapped and whether it is kept in memory, as far as possible."""
    mmap = settings.use_mmap is not False and lib.llama_supports_mmap()
    return mmap, bool(settings.use_mlock) and lib.llama_supports_mlock()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _strlen_callback() -> Any:
    """Return the C library's strlen as an abort callback; None where it cannot be reached."""
    try:
        c_library = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        return ctypes.cast(c_library.strlen, lib.ggml_abort_callback)
    except (OSError, AttributeError):
        return None


def _piece(vocab: Any, token: int, *, special: bool) -> bytes:
    size = 64
    while True:
        buffer = ctypes.create_string_buffer(size)
        count = lib.llama_token_to_piece(vocab, token, buffer, size, 0, special)
        if count >= 0:
            return buffer.raw[:count]
        size = -count


def _read_vocabulary(vocab: Any) -> Vocabulary:
    n_vocab = lib.llama_vocab_n_tokens(vocab)
    bos, eos = lib.llama_vocab_bos(vocab), lib.llama_vocab_eos(vocab)

    def text(token: int) -> str:
        return _piece(vocab, token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    # These are read in a prompt only with parse_special; user-defined tokens always are.
    only_special = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
    control = (t for t in range(n_vocab) if lib.llama_vocab_get_attr(vocab, t) & only_special)
    return Vocabulary(
        n_vocab=n_vocab,
        bos=bos,
        eos=eos,
        bos_text=text(bos),
        eos_text=text(eos),
        add_bos=lib.llama_vocab_get_add_bos(vocab),
        control_texts=tuple(filter(None, map(text, control))),
    )


def _suppressed_tokens(vocab: Any) -> dict[int, float]:
    """Return the tokens that the model's own file forbids, as biases."""
    count = ctypes.c_int32(0)
    tokens = lib.llama_vocab_get_suppress_tokens(vocab, ctypes.byref(count))
    return dict.fromkeys(tokens[: count.value], float("-inf")) if tokens and count.value else {}
