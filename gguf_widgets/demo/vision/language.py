"""The demo model as it is, read from its file, so that the eye can learn to speak to it.

Promises: the weights are what llama.cpp computes with (Q8_0 undone), and nothing here ever changes
them; tokens are llama.cpp's.

Leaves to others: pictures (`encoder`), what is asked (`questions`). Needs torch, gguf and
tokenizers.
"""

# Where torch is not installed its classes are of no known type:
# mypy: allow-subclassing-any, no-warn-unused-ignores

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gguf_widgets.demo import tokenizer as vocabulary
from gguf_widgets.demo.model import Shape, TinyLlama
from gguf_widgets.demo.needs import require


class Speaker:
    """The frozen language model.

    Parameters
    ----------
    path
        The GGUF file of the demo model.
    """

    def __init__(self, path: Path) -> None:
        gguf = require("gguf")
        reader = gguf.GGUFReader(path)
        weights = {
            tensor.name: torch.from_numpy(
                gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy()
            )
            for tensor in reader.tensors
        }
        weights.setdefault("output.weight", weights["token_embd.weight"])
        self.network = TinyLlama(_shape(reader))
        self.network.load_state_dict(weights)
        self.network.requires_grad_(requires_grad=False)
        tokens = _value(reader, "tokenizer.ggml.tokens")
        merges = [tuple(pair.split(" ")) for pair in _value(reader, "tokenizer.ggml.merges")]
        self.tokenizer = vocabulary.assemble({one: i for i, one in enumerate(tokens)}, merges)

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, control tokens included."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def embed(self, tokens: Tensor) -> Tensor:
        """Return what stands for tokens (batch, length) at the model's entrance."""
        found: Tensor = self.network.token_embd(tokens)
        return found

    def scores(self, x: Tensor, wanted: Tensor) -> Tensor:
        """Return the scores of the next token, at the wanted places of embeddings only."""
        length = x.shape[1]
        cos, sin = self.network.cos[:length], self.network.sin[:length]
        *early, last = self.network.blk
        for block in early:
            x = block.feed(block.attend(x, cos, sin))
        x = last.feed(last.attend(x, cos, sin)[wanted])
        return self.network.scores(self.network.output_norm(x))


def _value(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()


def _shape(reader: Any) -> Shape:
    return Shape(
        vocabulary=len(_value(reader, "tokenizer.ggml.tokens")),
        width=_value(reader, "llama.embedding_length"),
        layers=_value(reader, "llama.block_count"),
        heads=_value(reader, "llama.attention.head_count"),
        kv_heads=_value(reader, "llama.attention.head_count_kv"),
        feed_forward=_value(reader, "llama.feed_forward_length"),
        context=_value(reader, "llama.context_length"),
        rope_base=_value(reader, "llama.rope.freq_base"),
        norm_epsilon=_value(reader, "llama.attention.layer_norm_rms_epsilon"),
    )
