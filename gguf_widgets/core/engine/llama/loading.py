"""From settings to a loaded model and its context.

Promises: a model that can neither write nor embed is refused in words; what llama.cpp chose or
could not do shows in the effective settings. Leaves to others: which settings suit the machine
(`fit`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import llama_cpp as lib

from gguf_widgets.core.engine.backend import LoadProgress, MemoryKind
from gguf_widgets.core.engine.llama.library import log
from gguf_widgets.core.errors import InvalidValueError, ModelLoadError
from gguf_widgets.core.types import LoadSettings

__all__ = [
    "cell_bytes",
    "check_kind",
    "common_settings",
    "context_params",
    "effective_settings",
    "has_own_cells",
    "load_model",
    "make_context",
    "memory_kind",
    "num_outputs",
]

# ggml_type
KV_TYPES = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}

DEFAULT_SEQ_MAX = 8

# Slots beyond those of running sequences, for what finished ones leave behind. Where the memory is
# made of cells each costs one row of logits (llama.cpp wants room for a row of every slot).
KEPT_SLOTS = 24


def load_model(path: Path, settings: LoadSettings, on_progress: LoadProgress | None) -> Any:
    """Load a model file; see `LlamaBackend`."""
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
    reason = log.reason
    raise ModelLoadError(
        f"llama.cpp could not load {path.name}: {reason or 'it gave no reason'}.",
        path=str(path),
        reason=reason,
    )


def check_kind(model: Any) -> None:
    """Raise `ModelLoadError` for a model that can neither write text nor embed it."""
    if lib.llama_model_has_encoder(model) and lib.llama_model_has_decoder(model):
        raise ModelLoadError(
            "This kind of model (an encoder and a decoder, like T5, or a helper that guesses ahead"
            " for another model) is not supported; choose a model that writes text."
        )
    if lib.llama_model_is_diffusion(model):
        raise ModelLoadError("Diffusion models are not supported.")
    if not lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)):
        raise ModelLoadError("The model has no vocabulary, so it can neither read nor write.")


def cell_bytes(model: Any, settings: LoadSettings) -> int:
    """Guess what a cell takes: right for plain attention, too much for most others."""
    head = lib.llama_model_n_embd(model) // max(1, lib.llama_model_n_head(model))
    numbers = lib.llama_model_n_layer(model) * lib.llama_model_n_head_kv(model) * head
    sizes = {"f32": 4, "f16": 2, "bf16": 2}
    both = sizes.get(settings.type_k or "f16", 1) + sizes.get(settings.type_v or "f16", 1)
    return int(numbers * both)


def memory_kind(model: Any) -> MemoryKind:
    """Say what a model's memory allows."""
    if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
        return MemoryKind.RECURRENT
    return MemoryKind.WINDOW if lib.llama_model_n_swa(model) else MemoryKind.ATTENTION


def context_params(settings: LoadSettings) -> Any:
    """Return what all contexts of a model have in common."""
    params = lib.llama_context_default_params()
    params.n_threads = params.n_threads_batch = settings.n_threads or _usable_cores()
    params.type_k = KV_TYPES[settings.type_k or "f16"]
    params.type_v = KV_TYPES[settings.type_v or "f16"]
    params.flash_attn_type = (
        lib.LLAMA_FLASH_ATTN_TYPE_AUTO if settings.flash_attn is None else int(settings.flash_attn)
    )
    params.kv_unified = True  # any sequence may use any cell, and several may share one
    params.swa_full = True  # so that sliding-window models can be cut back, too
    params.no_perf = True
    return params


def make_context(model: Any, settings: LoadSettings) -> Any:
    """Make the context that replies come from, with slots for running and finished sequences.

    Returns
    -------
    context or None
        None if the model turns out to be one that can only embed.
    """
    n_seq_max = settings.n_seq_max or DEFAULT_SEQ_MAX
    limit = lib.llama_max_parallel_sequences()
    if n_seq_max > limit:
        raise InvalidValueError(f"n_seq_max is {n_seq_max}; llama.cpp allows up to {limit}.")
    n_ctx = settings.n_ctx or min(lib.llama_model_n_ctx_train(model) or 4096, 4096)
    own_cells = has_own_cells(model, settings)
    params = context_params(settings)
    params.kv_unified = not own_cells
    # With caches of their own it is divided among the slots, in blocks of 256.
    params.n_ctx = -(-n_ctx // 256) * 256 * n_seq_max if own_cells else n_ctx
    n_batch = min(settings.n_batch or 512, params.n_ctx)
    params.n_batch = n_batch
    params.n_ubatch = min(settings.n_ubatch or 512, n_batch)
    if lib.llama_model_n_swa(model):
        # In one piece: while llama.cpp 0.3.36 places a later piece of a batch on trial it forgets
        # positions of the window that an earlier piece still needs (llama_kv_cache::prepare).
        params.n_ubatch = n_batch
    # A running state, or a cache of its own, is kept for each slot whether it is used or not, so
    # there are no more than can run; what a finished sequence leaves stays until that is wanted.
    kept = 0 if own_cells or memory_kind(model) is MemoryKind.RECURRENT else KEPT_SLOTS
    params.n_seq_max = min(n_seq_max + kept, limit)
    # The default keeps room for n_batch rows of n_vocab numbers, 300 MB with a large vocabulary.
    params.n_outputs_max = params.n_seq_max + (settings.n_draft or 0)  # as `num_outputs` says
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadError(
            f"The model was read, but its context (n_ctx {n_ctx}) could not be made:"
            f" {log.reason or 'llama.cpp gave no reason'}."
            " If memory is short, a smaller n_ctx needs less.",
            reason=log.reason,
        )
    # Some encoders say so nowhere in their file: their tokens see each other, nothing is cached.
    if lib.llama_get_memory(context) and lib.llama_get_causal_attn(context):
        return context
    lib.llama_free(context)
    return None


def has_own_cells(model: Any, settings: LoadSettings) -> bool:
    """Say whether each slot gets a cache of its own.

    It is asked for, and what a slot holds can be copied as cells: of a sliding window only the
    newest ones can, and a running state is no cells.
    """
    return settings.kv_unified is False and memory_kind(model) is MemoryKind.ATTENTION


def num_outputs(context: Any, settings: LoadSettings) -> int:
    """Return how many rows of a batch may have logits."""
    return int(lib.llama_n_seq_max(context)) + (settings.n_draft or 0)


def effective_settings(context: Any, asked: LoadSettings) -> LoadSettings:
    """Return what a context ended up with."""
    n_slots = lib.llama_n_seq_max(context)
    return common_settings(context, asked).replace(
        n_ctx=lib.llama_n_ctx_seq(context),
        n_seq_max=min(asked.n_seq_max or DEFAULT_SEQ_MAX, n_slots),
        kv_unified=not has_own_cells(lib.llama_get_model(context), asked),
    )


def common_settings(context: Any, asked: LoadSettings) -> LoadSettings:
    """Return those that mean the same for a context of either kind."""
    mmap, mlock = _load_mode(asked)
    return LoadSettings(
        n_batch=lib.llama_n_batch(context),
        n_ubatch=lib.llama_n_ubatch(context),
        n_gpu_layers=_gpu_layers(asked),
        n_threads=lib.llama_n_threads(context),
        type_k=asked.type_k or "f16",
        type_v=asked.type_v or "f16",
        flash_attn=log.flash_attention_chosen if asked.flash_attn is None else asked.flash_attn,
        kv_unified=True,
        n_draft=asked.n_draft or 0,
        lora=asked.lora,
        use_mmap=mmap,
        use_mlock=mlock,
        chat_template=asked.chat_template,
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
