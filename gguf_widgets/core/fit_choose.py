"""Settings for what nobody asked for, to suit the model and the machine.

Promises: what was asked for stays as it is; what comes out differently from what a person might
expect is said, with the reason. Leaves to others: whether it fits in the end (`fit.check_fits`).

Measured for these choices, with the shape of SmolLM2-135M in Q8_0: rows/s of a table on two cores
with 8, 16 and 32 sequences at once 2.65, 2.84 and 2.77; prompt tokens for each second of one core,
with an `n_ubatch` of 32, 64, 128, 256, 512 and 1024: 105, 178, 184, 194, 197 and 186. What is
chosen for graphics cards has not been measured by us: it is llama.cpp's own default.
"""

from __future__ import annotations

from typing import Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.fit_estimate import DEFAULT_BATCH, DEFAULT_SEQ_MAX, Footprint
from gguf_widgets.core.fit_options import (
    SMALLEST_CTX,
    Room,
    fits,
    largest_context,
    most_gpu_layers,
)
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.types import LoadSettings

__all__ = ["ONE_THREAD_BYTES", "choose"]

# Of weights: a smaller model is computed by one thread (see `_chosen_threads`).
ONE_THREAD_BYTES: Final = 32_000_000
# What choosing by ourselves leaves free, so that the machine stays usable.
_SHARE: Final = 0.9
# A card is idle for most of a step with few sequences; a processor is busy with 16 (see above).
_GPU_SEQ_MAX: Final = 32
# llama.cpp's own default: a card has so many units that a short batch leaves most of them idle.
_GPU_BATCH: Final = 2048
# Running states are copied and kept for each sequence: together no more than this part of the
# weights, or this many bytes, whichever is more.
_STATES_SHARE: Final = 1 / 8
_STATES_BYTES: Final = 64_000_000
_PLENTY: Final = 1 << 62
_PLAIN_KV: Final = ("f32", "f16", "bf16")


def choose(
    footprint: Footprint, asked: LoadSettings, *, free_bytes: int, n_cores: int
) -> tuple[LoadSettings, list[str]]:
    """Fill in what was not asked for; see `fit.choose_settings`.

    Parameters
    ----------
    footprint : Footprint
        Of the model, with the cards that there are.
    asked : LoadSettings
    free_bytes, n_cores : int
    """
    if asked.flash_attn is False and asked.type_v not in (None, *_PLAIN_KV):
        raise InvalidValueError(
            f"type_v={asked.type_v!r} works only with flash_attn; leave flash_attn out, or choose "
            "type_v='f16'."
        )
    notes: list[str] = []
    room = Room(free_bytes, _SHARE)
    own_cells = footprint.has_own_cells(asked)
    n_ctx = asked.n_ctx or footprint.default_ctx(asked)
    n_seq_max = asked.n_seq_max or _chosen_sequences(footprint, DEFAULT_SEQ_MAX)
    chosen = asked.replace(
        n_ctx=n_ctx,
        n_seq_max=n_seq_max,
        kv_unified=not own_cells,
        **_batches(asked, DEFAULT_BATCH, n_ctx * (n_seq_max if own_cells else 1)),
        n_gpu_layers=-1 if asked.n_gpu_layers is None else asked.n_gpu_layers,
        n_threads=asked.n_threads or _chosen_threads(footprint, n_cores),
        **_chosen_types(footprint, asked),
        n_draft=asked.n_draft or 0,
        use_mmap=True if asked.use_mmap is None else asked.use_mmap,
        use_mlock=bool(asked.use_mlock),
    )
    if asked.n_gpu_layers is None and footprint.gpus:
        chosen = _with_layers(footprint, chosen, asked, room, notes)
    if own_cells and asked.n_ctx is None and n_ctx < footprint.wanted_ctx:
        notes.append(
            f"Each of {chosen.n_seq_max} sequences has room of its own for {n_ctx:,} tokens (n_ctx)"
            ", because each has its own KV cache (kv_unified)."
        )
    if asked.kv_unified is False and not own_cells:
        notes.append(
            "All sequences have one KV cache: this model has running states or a sliding window,"
            " with which they cannot have one each (kv_unified)."
        )
    if asked.n_ctx is None:
        chosen = _with_context(footprint, chosen, room, notes)
    elif 0 < footprint.n_ctx_train < n_ctx:
        notes.append(
            f"The model was trained with up to {footprint.n_ctx_train:,} tokens of context; with "
            f"{n_ctx:,} it may lose the thread."
        )
    if asked.n_seq_max is None and (chosen.n_seq_max or 0) < DEFAULT_SEQ_MAX:
        notes.append(
            f"Up to {chosen.n_seq_max} sequences run at once, because each keeps a running state "
            f"of {format_bytes(footprint.state_bytes())} (n_seq_max)."
        )
    notes.extend(footprint.estimate(chosen).notes)
    return chosen, notes


def _batches(asked: LoadSettings, wanted: int, n_ctx: int) -> dict[str, int]:
    """Return the sizes of batches: none is longer than what it is part of."""
    n_batch = min(asked.n_batch or wanted, n_ctx)
    return {"n_batch": n_batch, "n_ubatch": min(asked.n_ubatch or DEFAULT_BATCH, n_batch)}


def _with_layers(
    footprint: Footprint,
    chosen: LoadSettings,
    asked: LoadSettings,
    room: Room,
    notes: list[str],
) -> LoadSettings:
    """Put as many layers on the cards as fit, and use what they can do."""
    busy = chosen.replace(
        n_seq_max=asked.n_seq_max or _chosen_sequences(footprint, _GPU_SEQ_MAX),
        **_batches(asked, _GPU_BATCH, chosen.n_ctx or _GPU_BATCH),
    )
    if fits(footprint, footprint.estimate(busy), room):
        return busy
    # A context of moderate length must not push layers off the card, where it was not asked for.
    tried = chosen
    if asked.n_ctx is None:
        tried = chosen.replace(n_ctx=min(chosen.n_ctx or SMALLEST_CTX, SMALLEST_CTX * 2))
    count = most_gpu_layers(footprint, tried, room)
    if count is None:  # main memory is what is short, and that is for `check_fits` to say
        count = most_gpu_layers(footprint, tried, Room(_PLENTY, _SHARE)) or 0
    if count == footprint.layers_to_place:
        return chosen
    names = " and ".join(gpu.description or gpu.name for gpu in footprint.gpus)
    free = format_bytes(sum(gpu.memory_free_bytes for gpu in footprint.gpus))
    notes.append(
        f"{count} of {footprint.layers_to_place} layers are on the graphics card ({names}, {free} "
        "free); the others are computed by the processor, which is slower (n_gpu_layers)."
        if count
        else f"No layers are on the graphics card ({names}), because {free} of its memory is free."
    )
    return chosen.replace(n_gpu_layers=count)


def _with_context(
    footprint: Footprint, chosen: LoadSettings, room: Room, notes: list[str]
) -> LoadSettings:
    """Make the context shorter if it does not fit."""
    wanted = footprint.default_ctx(chosen)
    if wanted <= SMALLEST_CTX or fits(footprint, footprint.estimate(chosen), room):
        return chosen
    fitting = largest_context(footprint, chosen, room, most=wanted) or 0
    n_ctx = max(fitting, SMALLEST_CTX)
    notes.append(
        f"The context is {n_ctx:,} tokens instead of {wanted:,}, because "
        f"{format_bytes(room.main_bytes)} of memory is free."
    )
    n_batch = min(chosen.n_batch or n_ctx, n_ctx)
    return chosen.replace(
        n_ctx=n_ctx, n_batch=n_batch, n_ubatch=min(chosen.n_ubatch or n_batch, n_batch)
    )


def _chosen_types(footprint: Footprint, asked: LoadSettings) -> dict[str, str]:
    """Return the formats of the KV cache; where there is one cache, whichever was asked for."""
    if footprint.memory.keys_only:
        same = asked.type_k or asked.type_v or "f16"
        return {"type_k": same, "type_v": asked.type_v or same}
    return {"type_k": asked.type_k or "f16", "type_v": asked.type_v or "f16"}


def _chosen_sequences(footprint: Footprint, wanted: int) -> int:
    """Return how many sequences run at once: fewer where each costs a state of its own."""
    state = footprint.state_bytes()
    allowed = max(_STATES_BYTES, int(footprint.weights_bytes * _STATES_SHARE))
    while wanted > 1 and wanted * state > allowed:
        wanted //= 2
    return wanted


def _chosen_threads(footprint: Footprint, n_cores: int) -> int:
    # llama.cpp's threads wait for each other after every node of the graph. Of a very small model a
    # node is done in microseconds, so on a machine that does anything else as well the waiting is
    # most of the time: the demo model wrote 370 to 890 tokens/s with one thread and 12 to 78 with
    # two on two busy cores.
    return 1 if footprint.weights_bytes < ONE_THREAD_BYTES else n_cores
