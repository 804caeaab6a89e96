"""A head start for copying: a few attention heads begin in the form that copying needs.

Promises: before any training, the network repeats what followed an earlier occurrence of the same
token, with better than chance luck. One head of the first layer looks at the token before; heads
of two later layers look for places where the token before is the current one, and pass on what
stands there. Networks find this form by themselves, but slowly (an "induction head"); beginning
near a form that training would find is known as mimetic initialization (Trockman and Kolter,
2023). Every weight is trained afterwards like any other.

Leaves to others: everything else about the network (`model`). Needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from gguf_widgets.demo.model import Shape, TinyLlama

CONSTANT = 8.0  # one width of every embedding starts with this value: a bias to build on
FAST_PAIRS = 6  # rotary pairs that turn fast enough to tell neighbours apart
SEEKING_LAYERS = (1, 3)
BEFORE_SHARPNESS, BEFORE_WRITES = 1.3, 1.0
SEEK_SHARPNESS, SEEK_WRITES = 2.5, 0.3


@torch.no_grad()
def give(network: TinyLlama) -> None:
    """Set the heads of a freshly made network."""
    shape = network.shape
    network.token_embd.weight[:, 0] = CONSTANT
    reads = torch.randn(shape.head_width, shape.width) * shape.width**-0.5
    reads[:, 0] = 0.0  # the constant says nothing about which token it is
    writes: Tensor = nn.init.orthogonal_(torch.empty(shape.width, shape.head_width))
    writes[0] = 0.0
    _look_at_the_token_before(network.blk[0], shape, reads, writes)
    for layer in SEEKING_LAYERS:
        _look_for_the_same_token(network.blk[layer], shape, reads, writes)


def _look_at_the_token_before(
    block: nn.Module, shape: Shape, reads: Tensor, writes: Tensor
) -> None:
    """Make the first group of heads look one token back and note which token stands there."""
    size = shape.head_width
    query, key = torch.zeros(size), torch.zeros(size)
    for pair in range(FAST_PAIRS):
        # The score of a token d places back is the sum of cos((d - 1) * angle): highest for d = 1.
        angle = torch.tensor(shape.rope_base ** (-2 * pair / size))
        query[2 * pair], query[2 * pair + 1] = angle.cos(), -angle.sin()
        key[2 * pair] = 1.0
    block.attn_q.weight[:size] = 0.0
    block.attn_q.weight[:size, 0] = BEFORE_SHARPNESS * query
    block.attn_k.weight[:size] = 0.0
    block.attn_k.weight[:size, 0] = BEFORE_SHARPNESS * key
    block.attn_v.weight[:size] = reads
    block.attn_output.weight[:, :size] = BEFORE_WRITES * writes


def _look_for_the_same_token(block: nn.Module, shape: Shape, reads: Tensor, writes: Tensor) -> None:
    """Make the first head look for places where the token before is the current one.

    Only the rotary pairs that turn slowly are used: there, what is alike stays alike over distance.
    """
    size = shape.head_width
    slow = size // 2
    block.attn_q.weight[:size] = 0.0
    block.attn_q.weight[slow:size] = SEEK_SHARPNESS * reads[slow:]
    block.attn_k.weight[:size] = 0.0
    block.attn_k.weight[slow:size] = SEEK_SHARPNESS * writes.T[slow:]
    passes_on = torch.randn(size, shape.width) * shape.width**-0.5
    passes_on[:, 0] = 0.0
    block.attn_v.weight[:size] = passes_on
    block.attn_output.weight[:, :size] = SEEK_WRITES * passes_on.T * shape.width / size
