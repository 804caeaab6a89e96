"""Which part of a model lies on which graphics card, as llama.cpp shares it out.

Promises: the same cards and the same layers for each as llama.cpp 0.5.0 takes when it is given
nothing but `n_gpu_layers`. Leaves to others: what the parts weigh (`fit_estimate`), which cards
there are (`devices`).

The last layers go onto the cards first; the output counts as one layer behind all of them, the
input always stays in main memory. Several cards get shares like their free memory. A card inside
the processor, which has no memory of its own, is used only where there is no other.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from gguf_widgets.core.devices import Device

__all__ = ["GPU_MARGIN_BYTES", "MAIN", "layer_places", "room_on", "usable_gpus"]

MAIN: Final = -1
"""The place that is no card: main memory."""

# What a driver and its libraries take for themselves on a card, and what a screen needs.
GPU_MARGIN_BYTES: Final = 400_000_000


def usable_gpus(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the cards that llama.cpp would use, in its order."""
    gpus = tuple(device for device in devices if device.kind == "gpu")
    own_memory = tuple(gpu for gpu in gpus if not gpu.integrated)
    return own_memory or gpus


def room_on(gpu: Device) -> int | None:
    """Return what a model may take of a card; None if the card does not tell."""
    if not gpu.memory_total_bytes:
        return None
    return max(0, gpu.memory_free_bytes - GPU_MARGIN_BYTES)


def layer_places(n_layer: int, n_gpu_layers: int, gpus: Sequence[Device]) -> list[int]:
    """Return where each layer goes, and behind them where the output goes.

    Parameters
    ----------
    n_layer : int
        Without the output.
    n_gpu_layers : int
        With the output; -1 is all.
    gpus : sequence of Device
        As `usable_gpus` returns them.

    Returns
    -------
    list of int
        Numbers of cards, or `MAIN`.
    """
    count = n_layer + 1
    on_gpus = count if n_gpu_layers < 0 else min(n_gpu_layers, count)
    if not gpus or not on_gpus:
        return [MAIN] * count
    free = [float(gpu.memory_free_bytes) for gpu in gpus]
    if not any(free):
        free = [1.0] * len(gpus)
    total = sum(free)
    ends = [end / total for end in accumulate(free)]
    cards = [
        min(bisect.bisect_right(ends, number / on_gpus), len(gpus) - 1) for number in range(on_gpus)
    ]
    return [MAIN] * (count - on_gpus) + cards
