"""The network: a small Llama in PyTorch whose weights need no rearranging for a GGUF file.

Promises: the same numbers as llama.cpp's `llama` architecture: RMS norm, rotary positions on
neighbouring pairs, grouped key and value heads, SwiGLU.

Leaves to others: training (`train`), the file (`export`). Needs torch: import it only after
`needs.require("torch")`.
"""

# Where torch is not installed its classes are of no known type:
# mypy: allow-subclassing-any, no-warn-unused-ignores

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

from gguf_widgets.demo import headstart


@dataclass(frozen=True)
class Shape:
    """The sizes of the network. Every row width is a multiple of 32, which Q8_0 needs."""

    vocabulary: int = 1536
    width: int = 192
    layers: int = 6
    heads: int = 6
    kv_heads: int = 3
    feed_forward: int = 512
    context: int = 1024
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class Block(nn.Module):
    """One layer: attention, then the feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, kv_width = shape.width, shape.kv_heads * shape.head_width
        self.attn_norm = nn.RMSNorm(width, eps=shape.norm_epsilon)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, kv_width, bias=False)
        self.attn_v = nn.Linear(width, kv_width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=shape.norm_epsilon)
        self.ffn_gate = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, width, bias=False)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Add what this layer's attention finds to ``x`` (batch, length, width)."""
        batch, length, _ = x.shape
        size = self.shape.head_width
        h = self.attn_norm(x)
        q = _rotate(self.attn_q(h).view(batch, length, -1, size).transpose(1, 2), cos, sin)
        k = _rotate(self.attn_k(h).view(batch, length, -1, size).transpose(1, 2), cos, sin)
        v = self.attn_v(h).view(batch, length, -1, size).transpose(1, 2)
        repeat = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        found: Tensor = self.attn_output(attended.transpose(1, 2).reshape(batch, length, -1))
        return x + found

    def feed(self, x: Tensor) -> Tensor:
        """Add what this layer's feed-forward part makes of each token to ``x`` (..., width)."""
        h = self.ffn_norm(x)
        fed: Tensor = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + fed


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class TinyLlama(nn.Module):
    """The whole network: tokens in, scores for the next token out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        size = shape.head_width
        frequencies = shape.rope_base ** (-torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(shape.context).float(), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self._start()

    def _start(self) -> None:
        # What writes into the stream starts at nothing, and the embedding starts large: so the
        # stream still says which token it stands for when it reaches the last layer.
        nn.init.normal_(self.token_embd.weight)
        nn.init.normal_(self.output.weight, std=0.02)
        for name, weight in self.blk.named_parameters():
            if weight.ndim == 2:
                writes = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.0 if writes else weight.shape[1] ** -0.5)
        headstart.give(self)

    def forward(self, tokens: Tensor, wanted: Tensor) -> Tensor:
        """Return what stands before the output weights, at the wanted places only (n, width).

        Behind the last attention no token looks at another any more, so the places that nobody
        asks for are left out there: a fifteenth of all the work of training.
        """
        length = tokens.shape[1]
        x: Tensor = self.token_embd(tokens)
        cos, sin = self.cos[:length], self.sin[:length]
        *early, last = self.blk
        for block in early:
            x = block.feed(block.attend(x, cos, sin))
        x = last.feed(last.attend(x, cos, sin)[wanted])
        normed: Tensor = self.output_norm(x)
        return normed

    def scores(self, hidden: Tensor) -> Tensor:
        """Return the score of every token of the vocabulary."""
        found: Tensor = self.output(hidden)
        return found
