"""The layers of tiny models, one function for each architecture of llama.cpp.

Promises: each adds the header entries and the tensors that llama.cpp asks for, for all layers.
States and attention are made to remember: a changed token shows in the logits hundreds of tokens
later, so a cell or a state that is wrong does not go unnoticed. Leaves to others: vocabulary,
embeddings and output (`tiny_models.py`).
"""

from __future__ import annotations

import numpy as np
from support.tiny_weights import TinyFile

__all__ = ["LAYERS", "N_EMBD", "WINDOW"]

# Heads are as wide as a block of Q8_0, so that the KV cache can be in that format, too.
N_EMBD, HEAD, N_FF = 64, 32, 96
D_CONV, D_INNER, D_STATE = 4, 2 * N_EMBD, 16
WINDOW = 32
N_EXPERT, N_EXPERT_USED, N_FF_EXPERT = 4, 2, 64

# Queries and keys are this much larger than their inputs: attention looks at some tokens more than
# at others, but at all of them a little.
_SHARPNESS = 1.2
_LOUDNESS = 2.0


def _feed_forward(file: TinyFile, b: str) -> None:
    file.ones(b + "ffn_norm.weight", N_EMBD)
    file.matrix(b + "ffn_gate.weight", N_FF, N_EMBD)
    file.matrix(b + "ffn_up.weight", N_FF, N_EMBD)
    file.matrix(b + "ffn_down.weight", N_EMBD, N_FF, gain=2.0)


def _experts(file: TinyFile, b: str, n_ff: int) -> None:
    file.ones(b + "ffn_norm.weight", N_EMBD)
    # The router is in F32 in every format. Its gain makes near ties between experts rare: which
    # expert computes a token is a jump, and rounding can tip it.
    file.add(b + "ffn_gate_inp.weight", 2.0 * file.random(b + "ffn_gate_inp", N_EXPERT, N_EMBD))
    file.matrix(b + "ffn_gate_exps.weight", N_EXPERT, n_ff, N_EMBD)
    file.matrix(b + "ffn_up_exps.weight", N_EXPERT, n_ff, N_EMBD)
    file.matrix(b + "ffn_down_exps.weight", N_EXPERT, N_EMBD, n_ff)


def _attention(file: TinyFile, b: str, n_head: int = 4) -> None:
    """Two query heads share each head of keys and values."""
    file.ones(b + "attn_norm.weight", N_EMBD)
    file.matrix(b + "attn_q.weight", n_head * HEAD, N_EMBD, gain=_SHARPNESS)
    file.matrix(b + "attn_k.weight", n_head // 2 * HEAD, N_EMBD, gain=_SHARPNESS)
    file.matrix(b + "attn_v.weight", n_head // 2 * HEAD, N_EMBD)
    # What attention adds is a mean over many tokens, and so small; this makes up for it.
    file.matrix(b + "attn_output.weight", N_EMBD, n_head * HEAD, gain=_LOUDNESS)


def _attention_header(
    file: TinyFile,
    n_head: int = 4,
    n_head_kv: int | list[int] = 2,
    key: int = HEAD,
    value: int = HEAD,
) -> None:
    writer = file.writer
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_key_length(key)
    writer.add_value_length(value)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10000.0)


def _every_other_layer(n_layer: int) -> list[int]:
    """Return the heads of keys and values of each layer, 0 where there is a state instead."""
    return [0 if i % 2 == 0 else 1 for i in range(n_layer)]


def _llama(file: TinyFile, n_layer: int) -> None:
    _attention_header(file)
    for i in range(n_layer):
        _attention(file, f"blk.{i}.")
        _feed_forward(file, f"blk.{i}.")


def _moe(file: TinyFile, n_layer: int) -> None:
    _attention_header(file)
    file.writer.add_expert_count(N_EXPERT)
    file.writer.add_expert_used_count(N_EXPERT_USED)
    for i in range(n_layer):
        _attention(file, f"blk.{i}.")
        _experts(file, f"blk.{i}.", N_FF)


def _gemma3(file: TinyFile, n_layer: int) -> None:
    """Every other layer looks back `WINDOW` tokens only."""
    _attention_header(file)
    file.writer.add_sliding_window(WINDOW)
    file.writer.add_sliding_window_pattern([i % 2 == 0 for i in range(n_layer)])
    for i in range(n_layer):
        b = f"blk.{i}."
        _attention(file, b)
        file.ones(b + "attn_q_norm.weight", HEAD)
        file.ones(b + "attn_k_norm.weight", HEAD)
        _feed_forward(file, b)
        # What the layers add is scaled to these sizes; the embedding has N_EMBD ** 0.5.
        file.add(b + "post_attention_norm.weight", np.full(N_EMBD, 4.0))
        file.add(b + "post_ffw_norm.weight", np.full(N_EMBD, 8.0))


def _deepseek2(file: TinyFile, n_layer: int) -> None:
    """Multi-head latent attention: a cell holds one small vector for all heads.

    The first layer has a plain feed-forward network, the others have experts and a shared one.
    """
    n_head, q_rank, kv_rank, nope, value = 4, 32, 64, 32, 32
    rope = HEAD
    writer = file.writer
    _attention_header(file, n_head, 1, kv_rank + rope, kv_rank)
    writer.add_key_length_mla(nope + rope)
    writer.add_value_length_mla(value)
    writer.add_q_lora_rank(q_rank)
    writer.add_kv_lora_rank(kv_rank)
    writer.add_leading_dense_block_count(1)
    writer.add_expert_count(N_EXPERT)
    writer.add_expert_used_count(N_EXPERT_USED)
    writer.add_expert_feed_forward_length(N_FF_EXPERT)
    writer.add_expert_shared_count(1)
    writer.add_expert_weights_scale(1.0)
    for i in range(n_layer):
        b = f"blk.{i}."
        file.ones(b + "attn_norm.weight", N_EMBD)
        file.ones(b + "attn_q_a_norm.weight", q_rank)
        file.ones(b + "attn_kv_a_norm.weight", kv_rank)
        file.matrix(b + "attn_q_a.weight", q_rank, N_EMBD)
        file.matrix(b + "attn_q_b.weight", n_head * (nope + rope), q_rank, gain=_SHARPNESS)
        file.matrix(b + "attn_kv_a_mqa.weight", kv_rank + rope, N_EMBD)
        file.matrix(b + "attn_k_b.weight", n_head, kv_rank, nope)
        file.matrix(b + "attn_v_b.weight", n_head, value, kv_rank)
        file.matrix(b + "attn_output.weight", N_EMBD, n_head * value, gain=_LOUDNESS)
        if i == 0:
            _feed_forward(file, b)
            continue
        _experts(file, b, N_FF_EXPERT)
        file.matrix(b + "ffn_gate_shexp.weight", N_FF_EXPERT, N_EMBD)
        file.matrix(b + "ffn_up_shexp.weight", N_FF_EXPERT, N_EMBD)
        file.matrix(b + "ffn_down_shexp.weight", N_EMBD, N_FF_EXPERT)


def _ssm_header(file: TinyFile, dt_rank: int) -> None:
    file.writer.add_ssm_conv_kernel(D_CONV)
    file.writer.add_ssm_inner_size(D_INNER)
    file.writer.add_ssm_state_size(D_STATE)
    file.writer.add_ssm_time_step_rank(dt_rank)


def _mamba_block(file: TinyFile, b: str, dt_rank: int) -> None:
    file.ones(b + "attn_norm.weight", N_EMBD)
    file.matrix(b + "ssm_in.weight", 2 * D_INNER, N_EMBD)
    file.add(b + "ssm_conv1d.weight", file.random(b + "conv", D_INNER, D_CONV) / 2)
    file.add(b + "ssm_conv1d.bias", np.zeros(D_INNER))
    file.matrix(b + "ssm_x.weight", dt_rank + 2 * D_STATE, D_INNER)
    file.add(b + "ssm_dt.weight", file.random(b + "dt", D_INNER, dt_rank) / np.sqrt(dt_rank))
    file.add(b + "ssm_dt.bias", np.zeros(D_INNER))
    # Some parts of the state forget at once, others last for a thousand tokens.
    log_decay = np.linspace(np.log(0.001), 0.0, D_STATE)
    file.add(b + "ssm_a", -np.exp(np.tile(log_decay, (D_INNER, 1))))
    file.add(b + "ssm_d", np.ones(D_INNER))
    file.matrix(b + "ssm_out.weight", N_EMBD, D_INNER)


def _mamba(file: TinyFile, n_layer: int) -> None:
    dt_rank = 4
    _ssm_header(file, dt_rank)
    file.writer.add_feed_forward_length(0)
    file.writer.add_head_count(0)
    for i in range(n_layer):
        _mamba_block(file, f"blk.{i}.", dt_rank)


def _mamba2(file: TinyFile, n_layer: int) -> None:
    n_ssm_head, n_group = 8, 2
    _ssm_header(file, n_ssm_head)
    file.writer.add_ssm_group_count(n_group)
    file.writer.add_feed_forward_length(0)
    file.writer.add_head_count(0)
    n_conv = D_INNER + 2 * n_group * D_STATE
    for i in range(n_layer):
        b = f"blk.{i}."
        file.ones(b + "attn_norm.weight", N_EMBD)
        file.matrix(b + "ssm_in.weight", D_INNER + n_conv + n_ssm_head, N_EMBD)
        file.add(b + "ssm_conv1d.weight", file.random(b + "conv", n_conv, D_CONV) / 2)
        file.add(b + "ssm_conv1d.bias", np.zeros(n_conv))
        file.add(b + "ssm_dt.bias", np.zeros(n_ssm_head))
        file.add(
            b + "ssm_a", -np.exp(np.linspace(np.log(0.001), 0.0, n_ssm_head)).reshape(n_ssm_head, 1)
        )
        file.ones(b + "ssm_d", n_ssm_head, 1)
        file.ones(b + "ssm_norm.weight", n_group, D_INNER // n_group)
        file.matrix(b + "ssm_out.weight", N_EMBD, D_INNER)


def _rwkv7(file: TinyFile, n_layer: int) -> None:
    rank, head = 8, 64  # with AVX-512 ggml computes steps of 64 and reads past a smaller head
    writer = file.writer
    writer.add_layer_norm_eps(1e-5)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(0)
    writer.add_wkv_head_size(head)
    writer.add_decay_lora_rank(rank)
    writer.add_iclr_lora_rank(rank)
    writer.add_value_residual_mix_lora_rank(rank)
    writer.add_gate_lora_rank(rank)
    file.ones("token_embd_norm.weight", N_EMBD)
    file.add("token_embd_norm.bias", np.zeros(N_EMBD))
    file.add("output_norm.bias", np.zeros(N_EMBD))
    for i in range(n_layer):
        b = f"blk.{i}."
        for norm in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            file.ones(f"{b}{norm}.weight", N_EMBD)
            file.add(f"{b}{norm}.bias", np.zeros(N_EMBD))
        for part in "wavg":
            first = file.random(f"{b}{part}1", rank, N_EMBD) / np.sqrt(N_EMBD)
            second = file.random(f"{b}{part}2", N_EMBD, rank) / np.sqrt(rank)
            file.add(f"{b}time_mix_{part}1.weight", first)
            file.add(f"{b}time_mix_{part}2.weight", second)
        # A state decays by exp(-0.61 * sigmoid(w0 + ...)) a token.
        file.spread(b + "time_mix_w0.weight", N_EMBD, low=-9.0, high=-1.0)
        file.add(b + "time_mix_a0.weight", np.full(N_EMBD, -2.0))
        file.add(b + "time_mix_v0.weight", np.zeros(N_EMBD))
        file.spread(b + "time_mix_lerp_fused.weight", 6, 1, 1, N_EMBD, low=0.0, high=1.0)
        file.spread(b + "channel_mix_lerp_k.weight", 1, 1, N_EMBD, low=0.0, high=1.0)
        file.ones(b + "time_mix_k_k.weight", N_EMBD)
        file.ones(b + "time_mix_k_a.weight", N_EMBD)
        file.spread(b + "time_mix_r_k.weight", N_EMBD, low=-0.5, high=0.5)
        for part in ("key", "value", "receptance", "output"):
            file.matrix(f"{b}time_mix_{part}.weight", N_EMBD, N_EMBD)
        file.matrix(b + "channel_mix_key.weight", N_FF, N_EMBD)
        file.matrix(b + "channel_mix_value.weight", N_EMBD, N_FF)


def _jamba(file: TinyFile, n_layer: int) -> None:
    """A Mamba layer, then one with attention (and no positions), and so on."""
    dt_rank = 4
    _attention_header(file, 2, _every_other_layer(n_layer))
    _ssm_header(file, dt_rank)
    for i in range(n_layer):
        b = f"blk.{i}."
        if i % 2 == 0:
            _mamba_block(file, b, dt_rank)
            file.ones(b + "ssm_dt_norm.weight", dt_rank)
            file.ones(b + "ssm_b_norm.weight", D_STATE)
            file.ones(b + "ssm_c_norm.weight", D_STATE)
        else:
            _attention(file, b, 2)
        _feed_forward(file, b)


def _lfm2(file: TinyFile, n_layer: int) -> None:
    """Short convolutions with a state, every other layer with attention in a sliding window."""
    _attention_header(file, 2, _every_other_layer(n_layer))
    file.writer.add_shortconv_l_cache(3)
    file.writer.add_sliding_window(WINDOW)
    for i in range(n_layer):
        b = f"blk.{i}."
        if i % 2 == 0:
            file.ones(b + "attn_norm.weight", N_EMBD)
            file.add(b + "shortconv.conv.weight", file.random(b + "conv", N_EMBD, 3))
            file.matrix(b + "shortconv.in_proj.weight", 3 * N_EMBD, N_EMBD)
            file.matrix(b + "shortconv.out_proj.weight", N_EMBD, N_EMBD)
        else:
            _attention(file, b, 2)
            file.ones(b + "attn_q_norm.weight", HEAD)
            file.ones(b + "attn_k_norm.weight", HEAD)
        _feed_forward(file, b)


LAYERS = {
    "llama": _llama,
    "moe": _moe,
    "gemma3": _gemma3,
    "deepseek2": _deepseek2,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "rwkv7": _rwkv7,
    "jamba": _jamba,
    "lfm2": _lfm2,
}
