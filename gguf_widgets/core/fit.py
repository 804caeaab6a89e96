"""Will a model fit this machine's memory, and which settings suit both.

Promises: an estimate in bytes from the header alone, close to what llama.cpp takes (its formulas
were compared with what llama.cpp 0.3.36 reports; the test does it again); a refusal that names the
numbers and what would fit; settings with a reason for each that a person might not expect. Leaves
to others: reading the header (`gguf`), the machine's limits (`fit_machine`), the loading.

What is counted
---------------
weights
    All tensors, though they are mapped and not copied: a model that is not wholly in memory is read
    from the disk again for every token.
KV cache
    For each layer, its KV heads x head size x the context, for keys and for values. A sliding
    window does not make it smaller here: the engine keeps the whole context of such layers, so that
    a conversation can be cut back.
compute buffers
    The largest of llama.cpp's intermediate results, and the rows of logits it hands back.
the worker process itself
"""

from __future__ import annotations

import dataclasses
from typing import Final

from gguf_widgets.core.errors import InvalidValueError, NotEnoughMemoryError
from gguf_widgets.core.fit_machine import free_memory, usable_cores
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.gguf import GgufHeader
from gguf_widgets.core.types import LoadSettings

__all__ = [
    "MemoryEstimate",
    "check_fits",
    "choose_settings",
    "estimate",
    "free_memory",
    "largest_context",
    "usable_cores",
]

# A longer context costs memory and is seldom used: chosen only when asked for.
DEFAULT_CTX: Final = 8192
# Less than this is no conversation; a model that does not fit with it is refused in words instead.
SMALLEST_CTX: Final = 2048
# llama.cpp gives out cells in blocks of this many.
CTX_STEP: Final = 256
DEFAULT_BATCH: Final = 512
DEFAULT_SEQ_MAX: Final = 8
# Of weights: a smaller model is computed by one thread (see `_chosen_threads`).
ONE_THREAD_BYTES: Final = 32_000_000
# Python, NumPy and llama.cpp's own libraries, measured at 60 to 90 MB.
WORKER_BYTES: Final = 100_000_000
# What choosing by ourselves leaves free, so that the machine stays usable.
_SHARE: Final = 0.9

# Bytes for one number of the KV cache. (q8_0: 34 bytes for 32 numbers.)
_KV_BYTES: Final = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
_PLAIN_KV: Final = ("f32", "f16", "bf16")
_F32: Final = 4


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What a model takes, in bytes.

    Attributes
    ----------
    weights_bytes, kv_bytes, compute_bytes : int
        See the module's text; the worker process is part of `compute_bytes`.
    notes : tuple of str
        What makes this estimate less sure than usual, in plain words.
    """

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


def estimate(header: GgufHeader, settings: LoadSettings) -> MemoryEstimate:
    """Estimate the memory that a model takes with some settings.

    Parameters
    ----------
    header : GgufHeader
    settings : LoadSettings
        None in a field means what `choose_settings` takes when nothing hinders it.

    Raises
    ------
    MalformedHeaderError
        If the header's numbers cannot be used.
    """
    n_ctx = _padded(settings.n_ctx or _wanted_ctx(header))
    notes = []
    arch = header.architecture
    if header.number(f"{arch}.attention.sliding_window"):
        notes.append(
            "This model looks back over a sliding window in some layers; they are counted in full."
        )
    state_bytes = _recurrent_state_bytes(header, settings.n_seq_max or DEFAULT_SEQ_MAX)
    if state_bytes or f"{arch}.wkv.head_size" in header.metadata:
        notes.append(
            "This model keeps a running state in some or all layers, so its memory is estimated "
            "with less certainty."
        )
    return MemoryEstimate(
        weights_bytes=header.tensor_bytes,
        kv_bytes=_kv_bytes(header, settings, n_ctx) + state_bytes,
        compute_bytes=_compute_bytes(header, settings, n_ctx) + WORKER_BYTES,
        notes=tuple(notes),
    )


def check_fits(
    header: GgufHeader,
    settings: LoadSettings,
    *,
    free_bytes: int | None = None,
    device_bytes: int = 0,
) -> MemoryEstimate:
    """Return the estimate if it fits, else raise with what is missing and what would fit.

    Parameters
    ----------
    header : GgufHeader
    settings : LoadSettings
    free_bytes : int, optional
        Free main memory. Default: `free_memory`.
    device_bytes : int, default 0
        Free memory of graphics cards that take their share of the model.

    Raises
    ------
    NotEnoughMemoryError
        Details: ``needed_bytes``, ``free_bytes``, ``fitting_n_ctx`` (an int, or None if no context
        makes it fit).
    """
    free = (free_memory() if free_bytes is None else free_bytes) + device_bytes
    need = estimate(header, settings)
    if need.total_bytes <= free:
        return need
    n_ctx = _padded(settings.n_ctx or _wanted_ctx(header))
    fitting = largest_context(header, settings, free, most=n_ctx)
    if fitting is not None:
        advice = f"It would fit with a context of {fitting:,} tokens instead of {n_ctx:,}."
    else:
        advice = (
            "Close other programs, or choose a smaller model, or a smaller version of this one "
            "(such as Q4_K_M)."
        )
    raise NotEnoughMemoryError(
        f"This model needs {format_bytes(need.total_bytes)} and {format_bytes(free)} is free. "
        + advice,
        needed_bytes=need.total_bytes,
        free_bytes=free,
        fitting_n_ctx=fitting,
    )


def choose_settings(
    header: GgufHeader,
    requested: LoadSettings | None = None,
    *,
    free_bytes: int | None = None,
    n_cores: int | None = None,
) -> tuple[LoadSettings, list[str]]:
    """Fill in what was not asked for, to suit this model and this machine.

    What was asked for is kept as it is. `chat_template` and `flash_attn` stay None unless they were
    asked for: the model's own, and llama.cpp's own choice.

    Parameters
    ----------
    header : GgufHeader
    requested : LoadSettings, optional
    free_bytes, n_cores : int, optional
        Default: `free_memory` and `usable_cores`.

    Returns
    -------
    settings : LoadSettings
    notes : list of str
        Sentences for the person: what was chosen differently from what they might expect, and why.

    Raises
    ------
    InvalidValueError
        If settings that were asked for exclude each other.
    """
    asked = LoadSettings() if requested is None else requested
    if asked.flash_attn is False and asked.type_v not in (None, *_PLAIN_KV):
        raise InvalidValueError(
            f"type_v={asked.type_v!r} works only with flash_attn; leave flash_attn out, or choose "
            "type_v='f16'."
        )
    free = free_memory() if free_bytes is None else free_bytes
    notes: list[str] = []
    chosen = asked.replace(
        n_seq_max=asked.n_seq_max or DEFAULT_SEQ_MAX,
        n_gpu_layers=-1 if asked.n_gpu_layers is None else asked.n_gpu_layers,
        n_threads=asked.n_threads or _chosen_threads(header, n_cores),
        type_k=asked.type_k or "f16",
        type_v=asked.type_v or "f16",
        use_mmap=True if asked.use_mmap is None else asked.use_mmap,
        use_mlock=bool(asked.use_mlock),
    )
    n_ctx = asked.n_ctx
    if n_ctx is None:
        n_ctx = _chosen_ctx(header, chosen, free, notes)
    elif 0 < (trained := header.info().n_ctx_train) < n_ctx:
        notes.append(
            f"The model was trained with up to {trained:,} tokens of context; with {n_ctx:,} "
            "it may lose the thread."
        )
    n_batch = min(asked.n_batch or DEFAULT_BATCH, n_ctx)
    chosen = chosen.replace(
        n_ctx=n_ctx, n_batch=n_batch, n_ubatch=min(asked.n_ubatch or DEFAULT_BATCH, n_batch)
    )
    notes.extend(estimate(header, chosen).notes)
    return chosen, notes


def _chosen_threads(header: GgufHeader, n_cores: int | None) -> int:
    # llama.cpp's threads wait for each other after every node of the graph. Of a very small model a
    # node is done in microseconds, so on a machine that does anything else as well the waiting is
    # most of the time: the demo model wrote 370 to 890 tokens/s with one thread and 12 to 78 with
    # two on two busy cores.
    if header.tensor_bytes < ONE_THREAD_BYTES:
        return 1
    return usable_cores() if n_cores is None else n_cores


def largest_context(
    header: GgufHeader, settings: LoadSettings, free_bytes: int, *, most: int
) -> int | None:
    """Return the longest context up to `most` tokens with which a model fits; None if none does."""
    low, high = 0, most // CTX_STEP  # in steps; `low` fits or is 0
    while low < high:
        middle = (low + high + 1) // 2
        need = estimate(header, settings.replace(n_ctx=middle * CTX_STEP)).total_bytes
        low, high = (middle, high) if need <= free_bytes else (low, middle - 1)
    return low * CTX_STEP or None


def _chosen_ctx(
    header: GgufHeader, settings: LoadSettings, free_bytes: int, notes: list[str]
) -> int:
    wanted = _wanted_ctx(header)
    with_wanted = estimate(header, settings.replace(n_ctx=wanted)).total_bytes
    if wanted <= SMALLEST_CTX or with_wanted <= free_bytes * _SHARE:
        return wanted
    fitting = largest_context(header, settings, int(free_bytes * _SHARE), most=wanted) or 0
    n_ctx = max(fitting, SMALLEST_CTX)
    notes.append(
        f"The context is {n_ctx:,} tokens instead of {wanted:,}, because "
        f"{format_bytes(free_bytes)} of memory is free."
    )
    return n_ctx


def _wanted_ctx(header: GgufHeader) -> int:
    """Return the context to choose when memory does not matter."""
    trained = header.number(f"{header.architecture}.context_length") or DEFAULT_CTX
    return max(min(trained, DEFAULT_CTX), 16)  # LoadSettings takes no less


def _padded(n_ctx: int) -> int:
    return -(-n_ctx // CTX_STEP) * CTX_STEP


def _kv_bytes(header: GgufHeader, settings: LoadSettings, n_ctx: int) -> int:
    arch = header.architecture
    n_layer = header.number(f"{arch}.block_count") or 0
    heads = header.numbers(f"{arch}.attention.head_count", n_layer) or [0] * n_layer
    kv_heads = header.numbers(f"{arch}.attention.head_count_kv", n_layer) or heads
    first = next((count for count in heads if count), 0)
    head_size = (header.number(f"{arch}.embedding_length") or 0) // first if first else 0
    key_size = header.number(f"{arch}.attention.key_length") or head_size
    value_size = header.number(f"{arch}.attention.value_length") or head_size
    bytes_per_head = key_size * _KV_BYTES[settings.type_k or "f16"]
    bytes_per_head += value_size * _KV_BYTES[settings.type_v or "f16"]
    return round(sum(kv_heads) * bytes_per_head * n_ctx)


def _recurrent_state_bytes(header: GgufHeader, n_seq_max: int) -> int:
    """Return what state-space layers keep: one state for each sequence and layer, in F32."""
    arch = header.architecture
    inner = header.number(f"{arch}.ssm.inner_size") or 0
    state = header.number(f"{arch}.ssm.state_size") or 0
    groups = header.number(f"{arch}.ssm.group_count") or 0
    kernel = header.number(f"{arch}.ssm.conv_kernel") or 1
    n_layer = header.number(f"{arch}.block_count") or 0
    per_layer = (kernel - 1) * (inner + 2 * groups * state) + state * inner
    return n_layer * per_layer * _F32 * n_seq_max


def _compute_bytes(header: GgufHeader, settings: LoadSettings, n_ctx: int) -> int:
    """Return the size of llama.cpp's intermediate results.

    With n_ubatch tokens at once, the widest point of the graph is either the feed-forward network
    (three matrices of its width and four of the model's) or, without flash attention, the scores of
    every head over the whole context. The attention masks come on top.
    """
    info = header.info()
    arch = header.architecture
    n_ubatch = min(settings.n_ubatch or DEFAULT_BATCH, settings.n_batch or DEFAULT_BATCH, n_ctx)
    width = header.number(f"{arch}.feed_forward_length") or 4 * info.n_embd
    experts_used = header.number(f"{arch}.expert_used_count") or 0
    expert_width = header.number(f"{arch}.expert_feed_forward_length") or 0
    width = max(width, experts_used * expert_width)
    widest = (3 * width + 4 * info.n_embd) * _F32
    mask = 0
    if _kv_bytes(header, settings, n_ctx):  # else there is no attention
        mask = n_ctx * (_F32 if settings.flash_attn is False else 2)
        # Layers with a sliding window have a mask of their own.
        mask *= 2 if header.number(f"{arch}.attention.sliding_window") else 1
    if mask and settings.flash_attn is False:
        widest = max(widest, (info.n_head * n_ctx + 6 * info.n_embd) * _F32)
    logits = 2 * (settings.n_seq_max or DEFAULT_SEQ_MAX) * info.n_vocab * _F32
    return n_ubatch * (widest + mask) + logits
