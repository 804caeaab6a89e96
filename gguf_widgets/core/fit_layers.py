"""What each layer of a model keeps while it runs, counted in numbers, from the header alone.

Promises: the same layers and widths that llama.cpp allocates (version 0.5.0, of llama-cpp-python
0.3.36; `tests/core/test_fit_layers.py` loads a model of each kind and compares); an architecture
that is not known here is counted as plain attention, and `ModelMemory.sure` is False where its
header speaks of more. Leaves to others: bytes (`fit_estimate`), intermediate results
(`fit_compute`).

Three kinds of memory
---------------------
cells
    For each token of the context and each layer that attends, a key and a value for each KV head.
    A layer with a sliding window keeps all of them, too: the engine asks for that (`swa_full`), so
    that a conversation can be cut back. With MLA ("multi-head latent attention") a token's key and
    value are one compressed row, and only that is kept, as the key.
states
    For each slot and each recurrent layer a running state, in F32, whatever the context.
index
    Sparse attention keeps a second, narrow key for each token, by which the others are chosen.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from gguf_widgets.core.gguf_header import MOST_LAYERS, GgufHeader
from gguf_widgets.core.gguf_values import GgufArray

__all__ = ["LayerMemory", "ModelMemory", "memory_of"]

_RECURRENT: Final = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
# Hybrids, by how they say which layers attend.
_BY_KV_HEADS: Final = {
    "bailingmoe3", "glm5-next", "granitehybrid", "jamba", "kimi-k3", "kimi-linear", "lfm2",
    "lfm2moe", "plamo2",
}  # fmt: skip
_BY_INTERVAL: Final = {"minimax-01": 8, "qwen35": 4, "qwen35moe": 4, "qwen3next": 4, "qwen4exp": 4}
_BY_FEED_FORWARD: Final = {"nemotron_h", "nemotron_h_moe"}
_IN_PARALLEL: Final = {"falcon-h1"}  # every layer does both
_HYBRID: Final = {*_BY_KV_HEADS, *_BY_INTERVAL, *_BY_FEED_FORWARD, *_IN_PARALLEL, "deepseek4"}
# llama.cpp reads no group count for these.
_UNGROUPED: Final = {"mamba", "jamba"}
# These only embed: each text is computed at once, and nothing is kept.
_ENCODERS: Final = {
    "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert",
    "neo-bert", "nomic-bert", "nomic-bert-moe",
}  # fmt: skip
_INDEXED_MLA: Final = {"deepseek32", "dots3note", "glm-dsa", "hy_v4"}
# Others may name a window; llama.cpp computes them in full.
_WINDOWED: Final = {
    "afmoe", "cohere2", "cohere2moe", "deepseek4", "dots3note", "exaone-moe", "exaone4", "gemma2",
    "gemma3", "gemma3n", "gemma4", "gpt-oss", "granite_swa", "laguna", "lfm2", "llama4", "maple",
    "mellum", "mimo2", "muse-glimmer", "olmo2", "plamo3", "smallthinker", "spark2_5", "step35",
}  # fmt: skip
# Only the first so many layers of Gemma 3n keep anything; the others read what those have kept.
_GEMMA3N_LAYERS: Final = 20


@dataclasses.dataclass(frozen=True, slots=True)
class LayerMemory:
    """What one layer keeps, in numbers.

    Attributes
    ----------
    keys, values : int
        For each cell, in the formats `type_k` and `type_v`.
    padded_values : int
        What `values` is without flash attention, which wants all layers to be equally wide.
    state : int
        For each slot, in F32.
    """

    keys: float = 0
    values: int = 0
    padded_values: int = 0
    state: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelMemory:
    """What a model keeps.

    Attributes
    ----------
    layers : tuple of LayerMemory
    is_recurrent : bool
        Some layer keeps a running state, so the engine makes no more slots than can run at once.
    cells_per_slot : bool
        Every slot has a context of its own instead of sharing one.
    keys_only : bool
        Values are part of the keys, so both have to be in the same format.
    key_size, value_size : int
        The numbers of one head, which the blocks of a quantised format must divide.
    has_window : bool
        Some layer looks back over a sliding window.
    sure : bool
    """

    layers: tuple[LayerMemory, ...]
    is_recurrent: bool
    cells_per_slot: bool
    keys_only: bool
    key_size: int
    value_size: int
    has_window: bool
    sure: bool = True

    @property
    def attends(self) -> bool:
        """Whether any layer keeps cells."""
        return any(layer.keys or layer.values for layer in self.layers)

    @property
    def state(self) -> int:
        """The numbers of all running states of one slot."""
        return sum(layer.state for layer in self.layers)


def memory_of(header: GgufHeader) -> ModelMemory:
    """Return what a model's layers keep.

    Raises
    ------
    MalformedHeaderError
        If the header's numbers cannot be used.
    """
    facts = _Facts(header)
    arch = facts.arch
    if arch in _ENCODERS:
        return facts.result([LayerMemory()] * facts.n_layer_all)
    if arch == "deepseek4":
        return facts.result(_deepseek4(facts), cells_per_slot=True)
    widest_value = max(map(facts.value_width, range(facts.n_layer_all)), default=0)
    layers = []
    for il in range(facts.n_layer_all):
        keys, values, padded = 0, 0, 0
        if facts.attends(il):
            keys = facts.key_width(il)
            if not facts.is_mla:
                values, padded = facts.value_width(il), widest_value
        index_keys, index_values = facts.index_widths(il)
        state = facts.state if facts.is_recurrent(il) else 0
        if state and il in facts.ple_layers:
            state += facts.ple_state
        layers.append(
            LayerMemory(
                keys=keys + index_keys,
                values=values + index_values,
                padded_values=padded + index_values,
                state=state,
            )
        )
    return facts.result(layers)


def _deepseek4(facts: _Facts) -> list[LayerMemory]:
    """DeepSeek V4: each slot has cells of its own, and compressed ones of 4 or 128 tokens."""
    head, index = facts.key_size, facts.number("attention.indexer.key_length")
    ratios = facts.header.numbers(f"{facts.arch}.attention.compress_ratios", facts.n_layer_all)
    layers = []
    for ratio in ratios or [0] * facts.n_layer_all:
        keys, state = float(head * facts.number("attention.head_count_kv", 1)), 0
        if ratio == 4:
            keys += (head + index) / ratio
            state = 2 * 8 * (2 * head + 2 * index)
        elif ratio == 128:
            keys += head / ratio
            state = 2 * ratio * head
        layers.append(LayerMemory(keys=keys, state=state))
    return layers


class _Facts:
    """The entries of a header that say what is kept, under llama.cpp's rules and defaults."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.arch = arch = header.architecture
        blocks = self.number("block_count")
        nextn = self.number("nextn_predict_layers")
        # The last layers may be there to guess a token ahead; they are not loaded.
        self.n_layer = max(blocks - nextn, 0)
        self.n_layer_all = blocks
        self.kv_heads = self._kv_heads(blocks)
        if arch == "nanbeige":  # goes through its layers several times, and keeps each pass
            loops = max(min(self.number("num_loops", 1), MOST_LAYERS // max(blocks, 1)), 1)
            self.n_layer = self.n_layer_all = blocks * loops
            self.kv_heads *= loops
        if arch == "graniteswitch":  # one more, which keeps which adapter each token has chosen
            self.n_layer_all += 1
            self.kv_heads.append(1)
        self.n_embd = self.number("embedding_length")
        heads = header.numbers(f"{arch}.attention.head_count", blocks) or [0] * blocks
        self.n_head = heads[0] if heads else 0
        first = next((count for count in heads if count), 0)
        size = self.n_embd // first if first else 0
        self.key_size = self.number("attention.key_length", size)
        self.value_size = self.number("attention.value_length", size)
        self.key_size_window = self.number("attention.key_length_swa", self.key_size)
        self.value_size_window = self.number("attention.value_length_swa", self.value_size)
        self.is_mla = bool(
            self.number("attention.key_length_mla") and self.number("attention.value_length_mla")
        )
        self.windows = self._flags("attention.sliding_window_pattern")
        self.recurrent = self._recurrent_layers()
        self.state = self._state()
        self.indexed = self._flags("attention.indexer.types")
        self.ple_layers = self._layer_numbers("ple.layers")
        self.ple_state = (
            max(self.number("ple.conv_kernel", 1) - 1, 0)
            * self.number("ple.ngram_size")
            * self.number("hyper_connection.count")
            * self.n_embd
        )

    def number(self, name: str, default: int = 0) -> int:
        found = self.header.number(f"{self.arch}.{name}")
        return default if found is None else found

    def result(self, layers: list[LayerMemory], *, cells_per_slot: bool = False) -> ModelMemory:
        # llama4 has windows without naming them.
        window = self.arch == "llama4" or bool(self.number("attention.sliding_window"))
        return ModelMemory(
            layers=tuple(layers),
            is_recurrent=self.arch in _RECURRENT or self.arch in _HYBRID,
            cells_per_slot=cells_per_slot,
            keys_only=self.is_mla or self.arch == "deepseek4",
            key_size=self.key_size,
            value_size=self.value_size,
            has_window=window and self.arch in _WINDOWED,
            sure=self._is_known(),
        )

    def attends(self, il: int) -> bool:
        """Say whether a layer keeps cells."""
        if self.arch in _RECURRENT:
            return False
        if self.arch in _HYBRID:
            if self.arch in _BY_INTERVAL and il >= self.n_layer:
                return False
            if self.arch == "glm5-next" and il >= self.n_layer:
                return False
            if self.arch in _BY_FEED_FORWARD and self._feed_forward(il):
                return False
            return self.arch in _IN_PARALLEL or not self.is_recurrent(il)
        if self.arch == "gemma3n":
            return il < min(_GEMMA3N_LAYERS, self.n_layer_all)
        if self.arch == "gemma4":
            return il < self.n_layer_all - self.number("attention.shared_kv_layers")
        return self.arch == "graniteswitch" or il < self.n_layer

    def is_recurrent(self, il: int) -> bool:
        """Say whether a layer keeps a running state."""
        return il < self.n_layer and self.recurrent[il]

    def key_width(self, il: int) -> int:
        """Return the numbers of all keys of a cell."""
        size = self.key_size_window if self._has_window(il) else self.key_size
        return size * self.kv_heads[il]

    def value_width(self, il: int) -> int:
        """Return the numbers of all values of a cell."""
        size = self.value_size_window if self._has_window(il) else self.value_size
        return size * self.kv_heads[il]

    def index_widths(self, il: int) -> tuple[int, int]:
        """Return the numbers of a cell's index: its key, and the value that llama.cpp adds."""
        size = self.number("attention.indexer.key_length")
        if not size or il >= self.n_layer:
            return 0, 0
        if self.arch == "minimax-m3":
            sparse = il >= self.number("leading_dense_block_count")
            return (size, self.value_size) if sparse else (0, 0)
        if self.arch == "qwen4exp":
            return (0 if self.is_recurrent(il) else size), 0
        if self.arch == "glm5-next":
            chosen = not self.is_recurrent(il) and (not self.indexed or self.indexed[il])
            return (size * (3 if self.number("attention.indexer.kpool") else 1) * chosen), 0
        if self.arch not in _INDEXED_MLA:
            return 0, 0
        if self.arch == "deepseek32":
            return size, 0
        if self.arch == "hy_v4" and not self.number("attention.indexer.top_k"):
            return 0, 0
        return (size if self.indexed and self.indexed[il] else 0), 0

    # --- inside ---

    def _kv_heads(self, blocks: int) -> list[int]:
        for name in ("head_count_kv", "head_count"):
            found = self.header.numbers(f"{self.arch}.attention.{name}", blocks)
            if found is not None:
                return found
        return [0] * blocks

    def _has_window(self, il: int) -> bool:
        return il < len(self.windows) and self.windows[il]

    def _feed_forward(self, il: int) -> int:
        blocks = self.number("block_count")
        widths = self.header.numbers(f"{self.arch}.feed_forward_length", blocks)
        return widths[il] if widths and il < len(widths) else 0

    def _recurrent_layers(self) -> list[bool]:
        n_layer, arch = self.n_layer_all, self.arch
        if arch in _RECURRENT or arch in _IN_PARALLEL:
            return [True] * n_layer
        if arch in _BY_INTERVAL:
            given = self._flags("attention.recurrent_layers")
            if given:
                return given
            interval = max(self.number("full_attention_interval", _BY_INTERVAL[arch]), 1)
            return [(il + 1) % interval != 0 for il in range(n_layer)]
        if arch in _BY_FEED_FORWARD:
            return [not self.kv_heads[il] and not self._feed_forward(il) for il in range(n_layer)]
        if arch in _BY_KV_HEADS:
            return [not heads for heads in self.kv_heads]
        return [False] * n_layer

    def _state(self) -> int:
        """Return the numbers of one layer's running state: what it has seen last, and the rest."""
        wkv = self.number("wkv.head_size")
        if wkv:
            return self.n_embd * (self.number("token_shift_count", 2) + wkv)
        cached = self.number("shortconv.l_cache")
        if cached:
            return self.n_embd * (cached - 1)
        kernel = self.number("ssm.conv_kernel")
        kda = self.number("kda.head_dim")
        if kda:
            width = self.n_head * kda
            return 3 * (kernel - 1 if kernel else 3) * width + kda * width
        if self.arch == "minimax-01":
            return self.key_size**2 * self.n_head
        inner, size = self.number("ssm.inner_size"), self.number("ssm.state_size")
        groups = 0 if self.arch in _UNGROUPED else self.number("ssm.group_count")
        return max(kernel - 1, 0) * (inner + 2 * groups * size) + size * inner

    def _flags(self, name: str) -> list[bool]:
        """Return one flag a layer; of a missing entry, or one that is no list, none."""
        value = self.header.metadata.get(f"{self.arch}.{name}")
        if not isinstance(value, GgufArray) or value.item_type in ("array", "string"):
            return []
        found = [bool(item) for item in value.values(0, self.n_layer_all)]
        return found + [False] * (self.n_layer_all - len(found))

    def _layer_numbers(self, name: str) -> frozenset[int]:
        value = self.header.metadata.get(f"{self.arch}.{name}")
        if not isinstance(value, GgufArray) or value.item_type in ("array", "string"):
            return frozenset()
        return frozenset(item for item in value.values(0, 64) if isinstance(item, int))

    def _is_known(self) -> bool:
        """Say whether every kind of memory that the header speaks of has been counted."""
        of_states = ("ssm.inner_size", "wkv.head_size", "kda.head_dim", "shortconv.l_cache")
        named = {f"{self.arch}.{name}" for name in of_states}
        if named & self.header.metadata.keys() and self.arch not in _RECURRENT | _HYBRID:
            return False
        has_index = f"{self.arch}.attention.indexer.key_length" in self.header.metadata
        knows_index = {*_INDEXED_MLA, "minimax-m3", "qwen4exp", "glm5-next", "deepseek4"}
        return not has_index or self.arch in knows_index
