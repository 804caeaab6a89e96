"""How much room llama.cpp needs for intermediate results, from the header alone.

Promises: a figure on the safe side: for fifteen models at their real widths, with seven settings
each, 0.98 to 1.30 times what llama.cpp 0.5.0 reserves, and 1.09 on average
(`tests/core/test_fit_compute.py`); of forty other architectures two were outside of that, 0.92
(Gemma 4, when the logits are the most) and 1.9 (OpenELM). Leaves to others: what is kept
(`fit_layers`), and what was measured on this machine (`fit_history`), which is exact.

How it comes about
------------------
llama.cpp lays out the whole graph of `n_ubatch` tokens once and gives every intermediate result a
place that is free at that moment. The buffer is as large as the graph's fullest moment, which is
one of these, whatever the number of layers:

feed-forward
    Three matrices as wide as the network (two where there is no gate) and four as wide as the
    model. With experts: those of all experts that a token uses.
attention
    With flash attention the queries, keys and values; without it the scores of all heads over the
    whole context, which soon is the most by far.
recurrence
    What goes into a state-space layer and comes out of it, and the states of all slots.
logits
    A row for each token that is to be sampled.

The attention mask is there all the time. The number of slots itself costs nothing: 1, 8, 32 or 64
of them made the same buffer, except where the logits or the states are the fullest moment.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Final

from gguf_widgets.core.fit_layers import ModelMemory
from gguf_widgets.core.gguf_header import GgufHeader
from gguf_widgets.core.gguf_values import GgufArray

__all__ = ["Graph", "graph_of"]

_F32: Final = 4
_BLOCK: Final = re.compile(r"^blk\.(\d+)\.(.+)$")
# Numbers for each token and for each number of the model's width, measured: RWKV has no matrices
# that would tell.
_RWKV: Final = {"rwkv6": 12, "rwkv6qwen2": 12, "rwkv7": 15.5, "arwkv7": 15.5}
# These copy all states before they are changed and once more after it.
_TWO_COPIES: Final = (
    "bailingmoe3", "glm5-next", "kimi-k3", "kimi-linear", "minimax-01", "qwen35", "qwen35moe",
    "qwen3next", "qwen4exp",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """The widths of a model's graph, as numbers for each token of `n_ubatch`.

    Attributes
    ----------
    flash, plain : float
        The fullest moment outside of the attention scores, with flash attention and without.
    n_head : int
        Rows of scores without flash attention; 0 if there is no attention.
    num_masks : int
        Two where some layers look back over a window.
    recurrence : float
        The fullest moment of a recurrent layer, states apart; 0 if there is none.
    states : int
        Numbers for each slot while a recurrent layer is computed.
    n_embd, n_vocab : int
    """

    flash: float
    plain: float
    n_head: int
    num_masks: int
    recurrence: float
    states: int
    n_embd: int
    n_vocab: int

    def compute_bytes(
        self, *, n_ubatch: int, n_ctx: int, n_slots: int, num_outputs: int, flash_attn: bool
    ) -> int:
        """Return the size of the buffer for intermediate results.

        Parameters
        ----------
        n_ubatch : int
            Tokens computed at once.
        n_ctx : int
            All cells that one token may attend to.
        n_slots : int
        num_outputs : int
            Tokens of a batch whose logits are wanted, at most.
        flash_attn : bool
        """
        mask = n_ctx * (2 if flash_attn else _F32) * self.num_masks
        computing = n_ubatch * self.flash
        if self.recurrence:
            computing = max(computing, n_ubatch * self.recurrence + n_slots * self.states)
        if not flash_attn:
            scores = n_ubatch * (self.plain + self.n_head * n_ctx)
            computing = _together(computing, scores, 0.3)
        rows = min(num_outputs, n_ubatch)
        # Beside the logits lies what they are made of, for all tokens.
        sampling = rows * self.n_vocab + (rows + n_ubatch) * self.n_embd
        return round(_together(computing, sampling, 0.15) * _F32) + n_ubatch * mask

    def output_bytes(self, num_outputs: int) -> int:
        """Return the size of the buffer from which logits are read."""
        return num_outputs * self.n_vocab * _F32


def _together(one: float, other: float, gaps: float) -> float:
    """Return the room for two moments that never meet: the larger, and the gaps of the other.

    What is left free by the one is in pieces that the other cannot always use.
    """
    return max(one, other) + gaps * min(one, other)


def graph_of(header: GgufHeader, memory: ModelMemory) -> Graph:
    """Return the widths of a model's graph.

    Raises
    ------
    MalformedHeaderError
        If the header's numbers cannot be used.
    """
    arch = header.architecture
    n_embd = header.number(f"{arch}.embedding_length") or 0
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    n_vocab = len(tokens) if isinstance(tokens, GgufArray) else 0
    n_vocab = n_vocab or header.number(f"{arch}.vocab_size") or 0
    shapes: dict[int, dict[str, tuple[int, ...]]] = {}
    streams = 0
    n_layer = len(memory.layers)
    for tensor in header.tensors:
        match = _BLOCK.match(tensor.name)
        if match:
            number = int(match[1])
            if number < n_layer:  # others are not loaded, and a hostile file has 100,000 of them
                shapes.setdefault(number, {})[match[2]] = tensor.shape
        elif tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
            n_vocab = max(n_vocab, tensor.shape[1])
        elif tensor.name == "per_layer_model_proj.weight":
            streams += tensor.shape[-1]  # an embedding of its own for each layer
    if f"{arch}.altup.num_inputs" in header.metadata:
        streams += 3 * (header.number(f"{arch}.altup.num_inputs") or 0) * n_embd
    attention, plain = _attention(header, memory, n_embd)
    used = header.number(f"{arch}.expert_used_count") or 0
    ffn = max((_feed_forward(layer, n_embd, used) for layer in shapes.values()), default=0)
    if not ffn:  # no layer that could be read: what most models have
        ffn = 3 * (header.number(f"{arch}.feed_forward_length") or 4 * n_embd) + 4 * n_embd
    recurrence = max((_recurrence(layer, n_embd) for layer in shapes.values()), default=0)
    if arch in _RWKV:
        ffn, recurrence = 0, _RWKV[arch] * n_embd + ffn / 4
    copies = 2 if arch in _TWO_COPIES or arch in _RWKV else 1
    largest_state = max((layer.state for layer in memory.layers), default=0)
    return Graph(
        flash=max(ffn, attention) + streams,
        plain=plain + streams,
        n_head=(header.number(f"{arch}.attention.head_count") or 0) if memory.attends else 0,
        num_masks=(2 if memory.has_window else 1) if memory.attends else 0,
        recurrence=recurrence + (streams if recurrence else 0),
        states=copies * largest_state,
        n_embd=n_embd,
        n_vocab=n_vocab,
    )


def _feed_forward(layer: dict[str, tuple[int, ...]], n_embd: int, used: int) -> float:
    """Return the numbers for each token at the fullest moment of a feed-forward network."""
    up, down = _rows(layer, "ffn_up.weight"), _columns(layer, "ffn_down.weight")
    width = 0.0
    if "ffn_gate.weight" in layer:
        width = 3 * up + 4 * n_embd
    elif up and up == 2 * down:  # gate and network in one matrix
        width = 3 * down + 4 * n_embd
    elif up:
        width = 2 * up + n_embd
    if up and "ffn_norm.weight" not in layer:  # what attention has made is still needed
        width += n_embd
    experts = _rows(layer, "ffn_up_exps.weight") or _rows(layer, "ffn_gate_up_exps.weight") / 2
    if experts:
        width = max(width, 3 * used * experts + 4 * n_embd, 2 * used * n_embd + 6 * n_embd)
        shared = _rows(layer, "ffn_up_shexp.weight")
        width = max(width, 3 * shared + 5.5 * n_embd)
    return width


def _attention(header: GgufHeader, memory: ModelMemory, n_embd: int) -> tuple[float, float]:
    """Return the numbers for each token with flash attention, and those beside the scores."""
    if not memory.attends:
        return 0.0, 0.0
    arch = header.architecture
    heads = header.number(f"{arch}.attention.head_count") or 0
    kv_heads = header.number(f"{arch}.attention.head_count_kv")
    query = heads * memory.key_size
    keys = (heads if kv_heads is None else kv_heads) * memory.key_size
    if header.number(f"{arch}.attention.key_length_mla"):
        # Each head's query and result are as wide as the compressed rows that it is held against.
        return 3.0 * query + n_embd, 2.7 * query + 4.0 * n_embd
    return 3.0 * (n_embd + query) + 2.0 * keys, 3.5 * n_embd + 2.5 * query + 2.0 * keys


def _recurrence(layer: dict[str, tuple[int, ...]], n_embd: int) -> float:
    """Return the numbers for each token at the fullest moment of a recurrent layer."""
    convolved = _channels(layer, "ssm_conv1d.weight")
    if convolved:
        projected = _rows(layer, "ssm_in.weight")
        if projected:
            return projected + 4.0 * convolved + 2.5 * n_embd
        gate = _rows(layer, "attn_gate.weight")  # delta nets: a gate beside what is convolved
        return 3.0 * convolved + 2.0 * gate + n_embd
    convolved = sum(_channels(layer, f"ssm_conv1d_{part}.weight") for part in "qkv")  # KDA
    return 2.5 * convolved + 2.0 * n_embd if convolved else 0.0


def _rows(layer: dict[str, tuple[int, ...]], name: str) -> int:
    shape = layer.get(name, ())
    return shape[1] if len(shape) > 1 else 0


def _channels(layer: dict[str, tuple[int, ...]], name: str) -> int:
    return math.prod(layer[name][1:]) if name in layer else 0


def _columns(layer: dict[str, tuple[int, ...]], name: str) -> int:
    shape = layer.get(name, ())
    return shape[0] if shape else 0
