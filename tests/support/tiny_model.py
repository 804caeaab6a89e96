"""Tiny real GGUF models, written on the spot: random weights, a vocabulary of 300 tokens.

Not a test and no fixture: import it as ``from support.tiny_model import write_tiny_model``
(pytest's ``pythonpath`` holds ``tests``). A model is about 0.3 MB and loads in a few milliseconds;
what it says makes no sense, but llama.cpp computes it like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, TokenType

CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_tiny_model(
    path: Path,
    *,
    architecture: str = "llama",
    vocabulary: str = "bpe",
    n_ctx_train: int = 2048,
    n_layer: int = 2,
    seed: int = 0,
    skip_tensors: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
    chat_template: str | list[dict[str, str]] | None = CHATML,
    add_bos: bool = False,
) -> Path:
    """Write a model and return its path.

    `architecture` is "llama", "mamba" (its memory cannot be cut), "gemma2" (a sliding window of 32
    tokens), or any other word for a file that llama.cpp refuses. `vocabulary` is "bpe" (byte-level,
    with some merges) or "spm". `skip_tensors` leaves tensors out, to break the file.
    """
    rng = np.random.default_rng(seed)
    writer = GGUFWriter(path, architecture)
    writer.add_name(f"tiny {architecture}")
    n_vocab = add_bpe_vocabulary(writer) if vocabulary == "bpe" else _spm(writer)
    writer.add_add_bos_token(add_bos)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for key, value in (metadata or {}).items():
        writer.add_string(key, value)
    writer.add_context_length(n_ctx_train)
    writer.add_block_count(n_layer)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(0)

    def tensor(name: str, *shape: int, value: float | None = None) -> None:
        if name in skip_tensors:
            return
        if value is not None:
            data = np.full(shape, value, np.float32)
        else:
            data = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))
        writer.add_tensor(name, data)

    n_embd = 64
    writer.add_embedding_length(n_embd)
    tensor("token_embd.weight", n_vocab, n_embd)
    tensor("output_norm.weight", n_embd, value=1.0)
    if architecture == "mamba":
        _mamba_layers(writer, tensor, n_layer, n_embd)
    else:
        _attention_layers(writer, tensor, n_layer, n_embd, gemma=architecture == "gemma2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _attention_layers(
    writer: GGUFWriter, tensor: Any, n_layer: int, n_embd: int, *, gemma: bool
) -> None:
    n_head, n_head_kv, n_ff, head = 4, 2, 96, 16
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(10000.0)
    if gemma:
        writer.add_sliding_window(32)
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)
    for i in range(n_layer):
        b = f"blk.{i}."
        tensor(b + "attn_norm.weight", n_embd, value=1.0)
        tensor(b + "ffn_norm.weight", n_embd, value=1.0)
        if gemma:
            tensor(b + "post_attention_norm.weight", n_embd, value=1.0)
            tensor(b + "post_ffw_norm.weight", n_embd, value=1.0)
        tensor(b + "attn_q.weight", n_head * head, n_embd)
        tensor(b + "attn_k.weight", n_head_kv * head, n_embd)
        tensor(b + "attn_v.weight", n_head_kv * head, n_embd)
        tensor(b + "attn_output.weight", n_embd, n_head * head)
        tensor(b + "ffn_gate.weight", n_ff, n_embd)
        tensor(b + "ffn_up.weight", n_ff, n_embd)
        tensor(b + "ffn_down.weight", n_embd, n_ff)


def _mamba_layers(writer: GGUFWriter, tensor: Any, n_layer: int, n_embd: int) -> None:
    d_conv, d_inner, d_state, dt_rank = 4, 2 * n_embd, 16, 4
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(d_conv)
    writer.add_ssm_inner_size(d_inner)
    writer.add_ssm_state_size(d_state)
    writer.add_ssm_time_step_rank(dt_rank)
    for i in range(n_layer):
        b = f"blk.{i}."
        tensor(b + "attn_norm.weight", n_embd, value=1.0)
        tensor(b + "ssm_in.weight", 2 * d_inner, n_embd)
        tensor(b + "ssm_conv1d.weight", d_inner, d_conv)
        tensor(b + "ssm_conv1d.bias", d_inner, value=0.0)
        tensor(b + "ssm_x.weight", dt_rank + 2 * d_state, d_inner)
        tensor(b + "ssm_dt.weight", d_inner, dt_rank)
        tensor(b + "ssm_dt.bias", d_inner, value=0.0)
        tensor(b + "ssm_a", d_inner, d_state, value=-1.0)
        tensor(b + "ssm_d", d_inner, value=1.0)
        tensor(b + "ssm_out.weight", n_embd, d_inner)


def byte_letters() -> list[str]:
    """Return how byte-level vocabularies write each of the 256 bytes (GPT-2's table)."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    letters, extra = [], 256
    for byte in range(256):
        letters.append(chr(byte) if byte in visible else chr(extra))
        extra += byte not in visible
    return letters


def add_bpe_vocabulary(writer: GGUFWriter) -> int:
    letters = byte_letters()
    space = letters[ord(" ")]
    merges = [("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("a", "n"), ("h", "e"), ("l", "l")]
    merges += [(space, word) for word in ("the", "a", "t", "s", "w")] + [
        ("he", "ll"),
        ("hell", "o"),
    ]
    tokens = letters + ["".join(pair) for pair in merges] + list(CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [TokenType.NORMAL] * (len(tokens) - len(CONTROL)) + [TokenType.CONTROL] * len(CONTROL)
    )
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    return len(tokens)


def _spm(writer: GGUFWriter) -> int:
    words = [
        "\u2581",
        "\u2581the",
        "\u2581a",
        *"abcdefghijklmnopqrstuvwxyz.,!?\n",
        "th",
        "he",
        "the",
    ]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    types += [TokenType.BYTE] * 256 + [TokenType.NORMAL] * len(words)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(index) for index in range(len(words))])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(tokens)
