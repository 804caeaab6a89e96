"""How many bytes a model takes with some settings, and where.

Promises: an estimate from the header alone, for main memory and each graphics card, which what this
machine has measured before (`fit_history`) brings closer. Leaves to others: whether that fits
(`fit`), which settings would (`fit_options`).

What is counted
---------------
weights
    All tensors that are loaded, though they are mapped and not copied: a model that is not wholly
    in memory is read from the disk again for every token.
KV cache
    Cells and running states; see `fit_layers`.
compute buffers
    Intermediate results, and the logits that are handed back; see `fit_compute`.
process
    Python, llama.cpp's libraries and the vocabulary.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gguf_widgets.core.devices import Device
from gguf_widgets.core.fit_compute import graph_of
from gguf_widgets.core.fit_layers import memory_of
from gguf_widgets.core.fit_place import MAIN, layer_places, usable_gpus
from gguf_widgets.core.gguf_header import GgufHeader
from gguf_widgets.core.types import LoadSettings

__all__ = [
    "CTX_STEP",
    "DEFAULT_BATCH",
    "DEFAULT_CTX",
    "DEFAULT_SEQ_MAX",
    "KEPT_SLOTS",
    "KV_BYTES",
    "TOKEN_BYTES",
    "WORKER_BYTES",
    "Correction",
    "Footprint",
    "MemoryEstimate",
]

# A longer context costs memory and is seldom used: chosen only when asked for.
DEFAULT_CTX: Final = 8192
# The same where each sequence has a cache of its own: enough for the row of a table.
DEFAULT_OWN_CTX: Final = 2048
# llama.cpp gives out cells in blocks of this many.
CTX_STEP: Final = 256
DEFAULT_BATCH: Final = 512
DEFAULT_SEQ_MAX: Final = 16
# Slots that the engine keeps beside those of running sequences (`engine.llama.loading`; a test
# compares), and the most there can be.
KEPT_SLOTS: Final = 24
_MOST_SLOTS: Final = 256
# Python, NumPy, llama.cpp's libraries and the process of the chat template, measured at 60 to 90
# MB; and each token of the vocabulary at 0.3 KB.
WORKER_BYTES: Final = 100_000_000
TOKEN_BYTES: Final = 320

# Bytes for one number of the KV cache: of q8_0, 34 for a block of 32.
KV_BYTES: Final = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
_F32: Final = 4
_BLOCK: Final = re.compile(r"^blk\.(\d+)\.")
# llama.cpp leaves out the layers of these that would guess a token ahead.
_SKIP_NEXTN: Final = {
    "bailingmoe3", "cohere2moe", "deepseek2", "deepseek32", "deepseek4", "glm-dsa", "glm4moe",
    "glm5-next", "hy_v3", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next",
    "step35",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Correction:
    """What this machine has learned from loading before; see `fit_history`.

    Attributes
    ----------
    kv_factor : float
        At least 1: a cache is never predicted smaller than its formula says.
    compute_factor : float
    compute_bytes : int or None
        What the very same graph took here.
    process_bytes : int
        What a worker's process took at most, its vocabulary left out; 0 if that is not known.
    """

    kv_factor: float = 1.0
    compute_factor: float = 1.0
    compute_bytes: int | None = None
    process_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What a model takes, in bytes.

    Attributes
    ----------
    weights_bytes, kv_bytes, compute_bytes, process_bytes : int
        See the module's text; on all devices together.
    main_bytes : int
        The part in main memory, that of cards that share it included.
    gpu_bytes : tuple of (str, int)
        The part on each card that is used, with the card's name.
    notes : tuple of str
        What makes this estimate less sure than usual, in plain words.
    """

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    process_bytes: int
    main_bytes: int
    gpu_bytes: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.process_bytes


class Footprint:
    """A model's sizes, read from its header once, for any number of estimates.

    Parameters
    ----------
    header : GgufHeader
    gpus : sequence of Device, optional
        The devices that there are; those llama.cpp would not use are left out.
    correction : Correction, optional

    Raises
    ------
    MalformedHeaderError
        If the header's numbers cannot be used.
    """

    def __init__(
        self,
        header: GgufHeader,
        gpus: Sequence[Device] = (),
        correction: Correction | None = None,
    ) -> None:
        self.header = header
        self.gpus = usable_gpus(gpus)
        self.correction = correction or Correction()
        self.memory = memory_of(header)
        self.graph = graph_of(header, self.memory)
        self.n_layer = len(self.memory.layers)
        self.n_ctx_train = header.number(f"{header.architecture}.context_length") or 0
        self._input, self._output, self._layers = _weights(header, self.n_layer)
        self._largest = _largest_tensors(header, self.n_layer)
        sizes = {tensor.name: tensor.size or 0 for tensor in header.tensors}
        own = "output.weight" in sizes
        self._shared_output = 0 if own else sizes.get("token_embd.weight", 0)

    @property
    def weights_bytes(self) -> int:
        """All tensors that are loaded."""
        return self._input + self._output + sum(self._layers)

    @property
    def wanted_ctx(self) -> int:
        """The context to choose when memory does not matter."""
        return max(min(self.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX), 16)  # LoadSettings' least

    def default_ctx(self, settings: LoadSettings) -> int:
        """Return the same for some settings."""
        own = self.has_own_cells(settings)
        return min(self.wanted_ctx, DEFAULT_OWN_CTX) if own else self.wanted_ctx

    @property
    def layers_to_place(self) -> int:
        """The most that `n_gpu_layers` can say: the layers, and the output."""
        return self.n_layer + 1

    def n_ctx(self, settings: LoadSettings) -> int:
        """Return the context's cells, which come in blocks."""
        return -(-(settings.n_ctx or self.default_ctx(settings)) // CTX_STEP) * CTX_STEP

    def n_slots(self, settings: LoadSettings) -> int:
        """Return how many sequences llama.cpp is asked to keep apart."""
        running = settings.n_seq_max or DEFAULT_SEQ_MAX
        if self.memory.is_recurrent or self.has_own_cells(settings):
            return running
        return min(running + KEPT_SLOTS, _MOST_SLOTS)

    def has_own_cells(self, settings: LoadSettings) -> bool:
        """Say whether each sequence gets a KV cache of its own, as in `engine.llama.loading`."""
        shared = self.memory.is_recurrent or self.memory.has_window
        return settings.kv_unified is False and not shared

    def n_cells(self, settings: LoadSettings) -> int:
        """Return the cells that llama.cpp is asked for: of all sequences together."""
        own = self.has_own_cells(settings)
        return self.n_ctx(settings) * (self.n_slots(settings) if own else 1)

    def state_bytes(self) -> int:
        """Return what each further slot costs in running states."""
        return self.memory.state * _F32

    def buffer_bytes(self, settings: LoadSettings) -> int:
        """Return the size of one device's buffer for intermediate results."""
        if self.correction.compute_bytes is not None:
            return self.correction.compute_bytes
        slots = self.n_slots(settings)
        formula = self.graph.compute_bytes(
            n_ubatch=self._n_ubatch(settings),
            n_ctx=self.n_ctx(settings),
            n_slots=slots,
            num_outputs=slots + (settings.n_draft or 0),
            flash_attn=settings.flash_attn is not False,
        )
        return round(formula * self.correction.compute_factor)

    def estimate(self, settings: LoadSettings) -> MemoryEstimate:
        """Estimate the memory that the model takes with some settings.

        Parameters
        ----------
        settings : LoadSettings
            None in a field means what is chosen when nothing hinders it.
        """
        kept = [round(part * self.correction.kv_factor) for part in self._kept_bytes(settings)]
        compute = self.buffer_bytes(settings)
        output = self.graph.output_bytes(self.n_slots(settings))
        process = self._process_bytes()
        adapters = sum(_size_of(Path(path)) for path, _ in settings.lora)
        share = adapters // max(self.n_layer, 1)  # a part of each layer's matrices

        wanted = -1 if settings.n_gpu_layers is None else settings.n_gpu_layers
        *places, last = layer_places(self.n_layer, wanted, self.gpus)
        # Embeddings that are the output as well lie in both places.
        copied = 0 if last == MAIN else self._shared_output
        taken = dict.fromkeys([MAIN, *range(len(self.gpus))], 0)
        taken[MAIN] += self._input + output + process + adapters - share * self.n_layer
        taken[last] += self._output + copied
        for place, weights, cells in zip(places, self._layers, kept, strict=True):
            taken[place] += weights + share + cells
        used = sorted({*places, last})
        for place in used:
            taken[place] += compute
        if MAIN not in used:  # what goes in and the mask are made there all the same
            taken[MAIN] += self._input_bytes(settings)
        else:  # for long prompts, matrices from main memory are brought over one by one
            brought = [
                size for size, place in zip(self._largest, places, strict=True) if place == MAIN
            ]
            for place in used[1:]:
                taken[place] += max(brought, default=0)
        gpu_bytes = {place: taken[place] for place in used if place != MAIN}
        shared = sum(size for place, size in gpu_bytes.items() if self.gpus[place].integrated)
        weights_bytes = self.weights_bytes + adapters + copied
        return MemoryEstimate(
            weights_bytes=weights_bytes,
            kv_bytes=sum(kept),
            compute_bytes=sum(taken.values()) - weights_bytes - sum(kept) - process,
            process_bytes=process,
            main_bytes=taken[MAIN] + shared,
            gpu_bytes=tuple((self.gpus[place].name, size) for place, size in gpu_bytes.items()),
            notes=self._notes(),
        )

    # --- inside ---

    def _kept_bytes(self, settings: LoadSettings) -> list[int]:
        """Return what each layer keeps: cells and states."""
        slots = self.n_slots(settings)
        n_cells = self.n_cells(settings) * (slots if self.memory.cells_per_slot else 1)
        key, value = KV_BYTES[settings.type_k or "f16"], KV_BYTES[settings.type_v or "f16"]
        plain = settings.flash_attn is False
        return [
            round(
                n_cells * layer.keys * key
                + n_cells * (layer.padded_values if plain else layer.values) * value
                + slots * layer.state * _F32
            )
            for layer in self.memory.layers
        ]

    def _n_ubatch(self, settings: LoadSettings) -> int:
        return min(
            settings.n_ubatch or DEFAULT_BATCH,
            settings.n_batch or DEFAULT_BATCH,
            self.n_cells(settings),
        )

    def _input_bytes(self, settings: LoadSettings) -> int:
        width = _F32 if settings.flash_attn is False else 2
        mask = self._n_ubatch(settings) * self.n_ctx(settings) * width * self.graph.num_masks
        return mask + self._n_ubatch(settings) * self.graph.n_embd * _F32

    def _process_bytes(self) -> int:
        base = max(self.correction.process_bytes, WORKER_BYTES)
        return base + self.graph.n_vocab * TOKEN_BYTES

    def _notes(self) -> tuple[str, ...]:
        if self.memory.sure:
            return ()
        note = (
            f"This model's architecture ({self.header.info().architecture}) keeps things that this "
            "program does not know, so its memory is estimated with less certainty."
        )
        return (note,)


def _weights(header: GgufHeader, n_layer: int) -> tuple[int, int, list[int]]:
    """Return the bytes of what comes before the layers, after them, and of each layer."""
    arch = header.architecture
    skipped = header.number(f"{arch}.nextn_predict_layers") or 0 if arch in _SKIP_NEXTN else 0
    first, last = 0, 0
    layers = [0] * n_layer
    for tensor in header.tensors:
        size = tensor.size or 0
        match = _BLOCK.match(tensor.name)
        number = int(match[1]) if match else -1
        if match and number < n_layer:
            layers[number] += 0 if number >= n_layer - skipped else size
        elif tensor.name.startswith("output"):
            last += size
        else:
            first += size
    return first, last, layers


def _largest_tensors(header: GgufHeader, n_layer: int) -> list[int]:
    """Return the bytes of each layer's largest tensor."""
    largest = [0] * n_layer
    for tensor in header.tensors:
        match = _BLOCK.match(tensor.name)
        if match and int(match[1]) < n_layer:
            largest[int(match[1])] = max(largest[int(match[1])], tensor.size or 0)
    return largest


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # whoever reads it says so, in words
