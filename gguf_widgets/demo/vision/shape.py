"""The sizes of the eye, and which weights follow from them.

Promises: importing this needs nothing but the standard library; `EyeShape.weights` names the same
weights, of the same sizes, as the network in `encoder`.

Leaves to others: the network (`encoder`), the file (`export`).
"""

from __future__ import annotations

from dataclasses import dataclass

from gguf_widgets.demo.vision.figures import SIDE

MEAN, SPREAD = 0.5, 0.5
"""Of each colour channel (0 to 1), taken off it and divided by, before the eye sees it."""


@dataclass(frozen=True)
class EyeShape:
    """The sizes of the encoder and the projector."""

    side: int = SIDE
    patch: int = 16
    width: int = 128
    blocks: int = 5
    heads: int = 4
    feed_forward: int = 512
    language_width: int = 192
    norm_epsilon: float = 1e-5

    @property
    def tokens(self) -> int:
        """Image tokens that a picture becomes."""
        return (self.side // self.patch) ** 2

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Return the name and the size of every weight, in the order in which they are written."""
        wide, deep, told = self.width, self.feed_forward, self.language_width
        found: dict[str, tuple[int, ...]] = {
            "patch_embd.weight": (wide, 3 * self.patch**2),
            "patch_embd.bias": (wide,),
            "position_embd.weight": (self.tokens, wide),
        }
        for number in range(self.blocks):
            layers = {f"attn_{part}": (wide, wide) for part in ("q", "k", "v", "out")}
            for name, size in (
                ("ln1", (wide,)), *layers.items(), ("ln2", (wide,)),
                ("ffn_up", (deep, wide)), ("ffn_down", (wide, deep)),
            ):  # fmt: skip
                found[f"blk.{number}.{name}.weight"] = size
                found[f"blk.{number}.{name}.bias"] = size[:1]
        for name, size in (("mm_0", (told, wide)), ("mm_2", (told, told))):
            found[f"{name}.weight"], found[f"{name}.bias"] = size, size[:1]
        return found
