"""The eye: a small vision transformer in PyTorch whose weights need no rearranging for llama.cpp.

Promises: the same numbers as llama.cpp's `clip` architecture with the projector `mlp`: square
patches, a learned place for each, layer norm before attention and before the feed-forward part,
GELU in its tanh form; then two layers that write embeddings as wide as the language model's. No
class token, no norm before or after the blocks.

Leaves to others: training (`train`), the file (`export`). Needs torch: import it only after
`needs.require("torch")`.
"""

# Where torch is not installed its classes are of no known type:
# mypy: allow-subclassing-any, no-warn-unused-ignores

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

from gguf_widgets.demo.vision.shape import MEAN, SPREAD, EyeShape


class EyeBlock(nn.Module):
    """One layer: attention over all patches, then the feed-forward part."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.ln1 = nn.LayerNorm(shape.width, eps=shape.norm_epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width)
        self.attn_k = nn.Linear(shape.width, shape.width)
        self.attn_v = nn.Linear(shape.width, shape.width)
        self.attn_out = nn.Linear(shape.width, shape.width)
        self.ln2 = nn.LayerNorm(shape.width, eps=shape.norm_epsilon)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what this layer makes of ``x`` (batch, patches, width)."""
        batch, length, width = x.shape
        h = self.ln1(x)
        q, k, v = (
            part(h).view(batch, length, self.heads, -1).transpose(1, 2)
            for part in (self.attn_q, self.attn_k, self.attn_v)
        )
        seen = F.scaled_dot_product_attention(q, k, v)
        x = x + self.attn_out(seen.transpose(1, 2).reshape(batch, length, width))
        fed: Tensor = self.ffn_down(F.gelu(self.ffn_up(self.ln2(x)), approximate="tanh"))
        return x + fed


class Eye(nn.Module):
    """The whole encoder: pixels in, embeddings for the language model out."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embd = nn.Linear(3 * shape.patch**2, shape.width)
        self.position_embd = nn.Embedding(shape.tokens, shape.width)
        self.blk = nn.ModuleList(EyeBlock(shape) for _ in range(shape.blocks))
        self.mm_0 = nn.Linear(shape.width, shape.language_width)
        self.mm_2 = nn.Linear(shape.language_width, shape.language_width)
        self._start()

    def _start(self) -> None:
        # What writes into the stream starts at nothing.
        nn.init.normal_(self.position_embd.weight, std=0.3)
        for name, weight in self.named_parameters():
            if name.endswith((".bias", "attn_out.weight", "ffn_down.weight")):
                nn.init.zeros_(weight)
            elif weight.ndim == 2 and not name.startswith("position"):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def see(self, pixels: Tensor) -> Tensor:
        """Return what the blocks make of bytes (batch, height, width, 3): one row a patch."""
        x = (pixels.permute(0, 3, 1, 2).float() / 255.0 - MEAN) / SPREAD
        patches = F.unfold(x, self.shape.patch, stride=self.shape.patch).transpose(1, 2)
        h: Tensor = self.patch_embd(patches) + self.position_embd.weight
        for block in self.blk:
            h = block(h)
        return h

    def tell(self, seen: Tensor) -> Tensor:
        """Return embeddings for the language model (batch, patches, its width)."""
        told: Tensor = self.mm_2(F.gelu(self.mm_0(seen), approximate="tanh"))
        return told

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the image tokens of pictures (batch, height, width, 3)."""
        return self.tell(self.see(pixels))
