"""Tiny models that turn texts into vectors, and tiny LoRA adapters.

Not a test and no fixture: import it as ``from support.tiny_embedding import write_bert``.

Promises: llama.cpp loads each of them; texts that differ get vectors that differ. A model written
with `merged` adapters has in its weights what the adapters add to those of the plain one. Leaves to
others: generative models (`tiny_model.py`, `tiny_models.py`).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, PoolingType, TokenType
from numpy.typing import NDArray
from support.tiny_model import add_bpe_vocabulary
from support.tiny_weights import TinyFile

__all__ = [
    "adapter_deltas",
    "write_adapter",
    "write_bert",
    "write_decoder",
    "write_t5_encoder",
]

N_EMBD, N_HEAD, N_HEAD_KV, HEAD, N_FF = 32, 4, 2, 8, 48
N_LAYER = 2
RANK = 4
N_VOCAB = 273  # of `add_bpe_vocabulary`

POOLINGS = {
    "none": PoolingType.NONE,
    "mean": PoolingType.MEAN,
    "cls": PoolingType.CLS,
    "last": PoolingType.LAST,
    "rank": PoolingType.RANK,
}

Deltas = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Of each tensor that an adapter changes: A (rank x inputs) and B (outputs x rank)."""


def write_bert(
    path: Path, *, pooling: str | None = "mean", n_ctx_train: int = 64, seed: int = 0
) -> Path:
    """Write an encoder with a WordPiece vocabulary: attention both ways, learned positions."""
    file = TinyFile(path, "bert", "f32", seed)
    writer = file.writer
    writer.add_name("tiny bert")
    n_vocab = _word_pieces(writer)
    _sizes(writer, n_ctx_train)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(POOLINGS[pooling])
    file.add("token_embd.weight", file.random("embd", n_vocab, N_EMBD))
    file.add("position_embd.weight", 0.3 * file.random("pos", n_ctx_train, N_EMBD))
    file.add("token_types.weight", 0.1 * file.random("types", 2, N_EMBD))
    _norm(file, "token_embd_norm")
    for i in range(N_LAYER):
        b = f"blk.{i}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            file.matrix(f"{b}{part}.weight", N_EMBD, N_EMBD, gain=1.5)
            file.add(f"{b}{part}.bias", 0.1 * file.random(f"{b}{part}.bias", N_EMBD))
        file.matrix(b + "ffn_up.weight", N_FF, N_EMBD)
        file.add(b + "ffn_up.bias", np.zeros(N_FF))
        file.matrix(b + "ffn_down.weight", N_EMBD, N_FF)
        file.add(b + "ffn_down.bias", np.zeros(N_EMBD))
        _norm(file, b + "attn_output_norm")
        _norm(file, b + "layer_output_norm")
    return file.close()


def write_t5_encoder(path: Path, *, n_ctx_train: int = 512, seed: int = 0) -> Path:
    """Write T5's encoder alone: no positions but a bias by distance, and nothing about pooling."""
    file = TinyFile(path, "t5encoder", "f32", seed)
    writer = file.writer
    writer.add_name("tiny t5 encoder")
    n_vocab = add_bpe_vocabulary(writer)
    writer.add_add_bos_token(False)
    _sizes(writer, n_ctx_train)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_relative_attn_buckets_count(8)
    file.add("token_embd.weight", file.random("embd", n_vocab, N_EMBD))
    file.ones("enc.output_norm.weight", N_EMBD)
    for i in range(N_LAYER):
        b = f"enc.blk.{i}."
        file.ones(b + "attn_norm.weight", N_EMBD)
        file.ones(b + "ffn_norm.weight", N_EMBD)
        file.add(b + "attn_rel_b.weight", file.random(b + "rel", 8, N_HEAD))
        for part in ("attn_q", "attn_k", "attn_v", "attn_o"):
            file.matrix(f"{b}{part}.weight", N_EMBD, N_EMBD)
        file.matrix(b + "ffn_gate.weight", N_FF, N_EMBD)
        file.matrix(b + "ffn_up.weight", N_FF, N_EMBD)
        file.matrix(b + "ffn_down.weight", N_EMBD, N_FF)
    return file.close()


def write_decoder(
    path: Path,
    *,
    pooling: str | None = None,
    n_ctx_train: int = 512,
    causal: bool = True,
    add_eos: bool = False,
    seed: int = 0,
    merged: Sequence[tuple[Deltas, float]] = (),
) -> Path:
    """Write a llama; with a `pooling`, one that is made for embeddings.

    `merged` are adapters and the factor each has in the weights (its scale times alpha / rank).
    """
    file = TinyFile(path, "llama", "f32", seed)
    writer = file.writer
    writer.add_name("tiny decoder")
    n_vocab = add_bpe_vocabulary(writer)
    assert n_vocab == N_VOCAB
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(add_eos)
    _sizes(writer, n_ctx_train)
    writer.add_head_count_kv(N_HEAD_KV)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    if not causal:
        writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(POOLINGS[pooling])

    def matrix(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        data = gain / np.sqrt(columns) * file.random(name, rows, columns)
        for deltas, factor in merged:
            if name in deltas:
                a, b = deltas[name]
                data = data + factor * (b @ a)
        file.add_matrix(name, data)

    file.add("token_embd.weight", file.random("embd", n_vocab, N_EMBD))
    matrix("output.weight", n_vocab, N_EMBD, gain=3.0)
    file.ones("output_norm.weight", N_EMBD)
    for i in range(N_LAYER):
        b = f"blk.{i}."
        file.ones(b + "attn_norm.weight", N_EMBD)
        file.ones(b + "ffn_norm.weight", N_EMBD)
        matrix(b + "attn_q.weight", N_HEAD * HEAD, N_EMBD, gain=1.5)
        matrix(b + "attn_k.weight", N_HEAD_KV * HEAD, N_EMBD, gain=1.5)
        matrix(b + "attn_v.weight", N_HEAD_KV * HEAD, N_EMBD)
        matrix(b + "attn_output.weight", N_EMBD, N_HEAD * HEAD, gain=2.0)
        matrix(b + "ffn_gate.weight", N_FF, N_EMBD)
        matrix(b + "ffn_up.weight", N_FF, N_EMBD)
        matrix(b + "ffn_down.weight", N_EMBD, N_FF, gain=2.0)
    return file.close()


def adapter_deltas(seed: int = 0, *, size: float = 0.6) -> Deltas:
    """Return the matrices of an adapter for some tensors of `write_decoder`'s model."""
    rng = np.random.default_rng(1000 + seed)

    def pair(rows: int, columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        a = rng.standard_normal((RANK, columns)).astype(np.float32) / np.sqrt(columns)
        b = rng.standard_normal((rows, RANK)).astype(np.float32) * size / np.sqrt(RANK)
        return a.astype(np.float32), b.astype(np.float32)

    deltas = {"output.weight": pair(N_VOCAB, N_EMBD)}
    for i in range(N_LAYER):
        deltas[f"blk.{i}.attn_q.weight"] = pair(N_HEAD * HEAD, N_EMBD)
        deltas[f"blk.{i}.ffn_down.weight"] = pair(N_EMBD, N_FF)
    return deltas


def write_adapter(
    path: Path,
    deltas: Deltas,
    *,
    alpha: float = 8.0,
    architecture: str = "llama",
    kind: str = "adapter",
    sort: str = "lora",
    invocation: Sequence[int] = (),
    more: Mapping[str, NDArray[np.float32]] | None = None,
    without: str = "",
) -> Path:
    """Write an adapter as llama.cpp's convert_lora_to_gguf.py does.

    With the settings left alone it is sound; `more` tensors, and one that it is `without`, are for
    those that are not.
    """
    writer = GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_string("adapter.type", sort)
    if invocation:
        writer.add_array("adapter.alora.invocation_tokens", list(invocation))
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_name("tiny adapter")
    tensors = dict(more or {})
    for name, (a, b) in deltas.items():
        tensors |= {f"{name}.lora_a": a, f"{name}.lora_b": b}
    tensors.pop(without, None)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _sizes(writer: GGUFWriter, n_ctx_train: int) -> None:
    writer.add_context_length(n_ctx_train)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_block_count(N_LAYER)
    writer.add_head_count(N_HEAD)
    writer.add_file_type(0)


def _norm(file: TinyFile, name: str) -> None:
    size = file.random(name, N_EMBD)
    file.add(f"{name}.weight", 1.0 + 0.1 * size)
    file.add(f"{name}.bias", 0.1 * size)


def _word_pieces(writer: GGUFWriter) -> int:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    words = ["the", "query", "passage", "hello", "world", "cat", "dog"]
    # As the converter writes them: "▁" begins a word, what goes on has nothing.
    tokens = special + ["\u2581" + piece for piece in letters + words] + letters
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [TokenType.UNUSED, TokenType.UNKNOWN, *[TokenType.CONTROL] * 3]
        + [TokenType.NORMAL] * (len(tokens) - len(special))
    )
    writer.add_token_type_count(2)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_unk_token_id(1)
    writer.add_sep_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_mask_token_id(4)
    return len(tokens)
