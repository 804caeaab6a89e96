"""Entries of models' headers, by which `fit_models` makes files of every kind.

Not a test and no fixture. `SHAPES` are tiny and one of each way to keep something, `REAL` have the
widths of models that people use.
"""

from __future__ import annotations

from typing import Any

__all__ = ["REAL", "SHAPES", "dense"]


def dense(
    n_embd: int, n_layer: int, n_ff: Any, n_head: Any, n_head_kv: Any, head: int = 0, **more: Any
) -> dict[str, Any]:
    """Return the entries of a usual transformer; a key of `more` has "__" for "."."""
    first = max(n_head) if isinstance(n_head, list) else n_head
    entries = {
        "context_length": 131072,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": n_ff,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "rope.dimension_count": head or n_embd // first,
    }
    if head:
        entries |= {"attention.key_length": head, "attention.value_length": head}
    return entries | {key.replace("__", "."): value for key, value in more.items()}


_EXPERTS = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 96}
_MOE = _EXPERTS | {
    "expert_shared_count": 1,
    "expert_shared_feed_forward_length": 96,
    "leading_dense_block_count": 1,
    "expert_weights_scale": 1.0,
    "expert_gating_func": 2,
}
_MLA = {
    "attention.key_length": 96,
    "attention.value_length": 64,
    "attention.key_length_mla": 48,
    "attention.value_length_mla": 32,
    "attention.kv_lora_rank": 64,
    "attention.q_lora_rank": 64,
    "rope.dimension_count": 32,
}
_SSM = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 128,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 8,
    "ssm.group_count": 2,
}
_NO_HEADS = {
    "context_length": 131072,
    "embedding_length": 64,
    "block_count": 3,
    "feed_forward_length": 96,
    "attention.head_count": 0,
    "attention.layer_norm_epsilon": 1e-5,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
_DELTA = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 128,
    "ssm.state_size": 32,
    "ssm.time_step_rank": 4,
    "ssm.group_count": 2,
    "rope.dimension_count": 16,
}
_INDEX = {
    "attention.indexer.head_count": 4,
    "attention.indexer.key_length": 64,
    "attention.indexer.top_k": 4096,
}
_STREAMS = {
    "hyper_connection.count": 4,
    "hyper_connection.epsilon": 1e-6,
    "hyper_connection.sinkhorn_iterations": 2,
}
_KDA = {"ssm.conv_kernel": 4, "kda.head_dim": 16}

# Name, architecture and entries: one of each way to keep something, and more of the common ones.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", dense(64, 3, 96, 4, 2)),
    "heads of each layer": ("deci", dense(128, 4, [96, 96, 0, 96], [8, 0, 8, 4], [4, 0, 2, 1])),
    "openelm": ("openelm", dense(64, 3, [64, 96, 128], [4, 8, 8], [2, 4, 4], 16)),
    "qwen3": ("qwen3", dense(64, 3, 96, 4, 2, 32)),
    "experts": ("qwen3moe", dense(64, 3, 96, 4, 2, 32, **_EXPERTS)),
    "mla": ("deepseek2", dense(64, 3, 96, 4, 1, **_MOE) | _MLA),
    "deepseek2 before mla": (
        "deepseek2",
        dense(64, 3, 96, 4, 4, **_MOE)
        | {"attention.key_length": 48, "attention.value_length": 32, "attention.kv_lora_rank": 64}
        | {"attention.q_lora_rank": 64, "rope.dimension_count": 32},
    ),
    "minicpm3": (
        "minicpm3",
        dense(64, 3, 96, 4, 4)
        | {"attention.key_length": 48, "attention.value_length": 32, "attention.kv_lora_rank": 64}
        | {"attention.q_lora_rank": 64, "rope.dimension_count": 32},
    ),
    "gemma2": ("gemma2", dense(64, 4, 96, 4, 2, 32, attention__sliding_window=512)),
    "gemma3": ("gemma3", dense(64, 7, 96, 4, 2, 32, attention__sliding_window=512)),
    "gemma3n": (
        "gemma3n",
        dense(64, 22, 96, 1, 1, 64, attention__sliding_window=512, altup__num_inputs=4)
        | {"altup.active_idx": 0, "embedding_length_per_layer_input": 16},
    ),
    "gemma4": (
        "gemma4",
        dense(64, 10, 96, 2, 1, 64, attention__sliding_window=512)
        | {"attention.key_length_swa": 32, "attention.value_length_swa": 32}
        | {"rope.dimension_count_swa": 32, "rope.freq_base_swa": 1e4}
        | {"attention.sliding_window_pattern": [i % 5 != 4 for i in range(10)]}
        | {"attention.shared_kv_layers": 5, "embedding_length_per_layer_input": 16},
    ),
    "gpt-oss": (
        "gpt-oss",
        dense(64, 4, 96, 4, 2, 32, attention__sliding_window=128, **_EXPERTS),
    ),
    "phi3": ("phi3", dense(96, 3, 96, 3, 3, attention__sliding_window=2047)),
    "cohere2": (
        "cohere2",
        dense(64, 4, 96, 4, 2, attention__sliding_window=512, logit_scale=0.25),
    ),
    "llama4": (
        "llama4",
        dense(64, 4, 96, 4, 2, **_EXPERTS, interleave_moe_layer_step=1),
    ),
    "olmo2": ("olmo2", dense(64, 3, 96, 4, 4)),
    "exaone4": ("exaone4", dense(64, 3, 96, 4, 2, attention__sliding_window=512)),
    "falcon": ("falcon", dense(64, 3, 256, 4, 1)),
    "gpt2": ("gpt2", dense(64, 3, 256, 4, 4)),
    "smollm3": ("smollm3", dense(64, 3, 96, 4, 2)),
    "glm4moe": ("glm4moe", dense(64, 4, 96, 4, 2, 16, **_MOE, nextn_predict_layers=1)),
    "step35": (
        "step35",
        dense(64, 4, 96, 4, 2, 16, **_MOE, attention__sliding_window=512)
        | {"attention.sliding_window_pattern": [False, True, True, False]}
        | {"rope.freq_base_swa": 1e4},
    ),
    "nanbeige": ("nanbeige", dense(64, 3, 96, 4, 2, num_loops=2)),
    "mamba": ("mamba", _NO_HEADS | _SSM | {"feed_forward_length": 0, "ssm.group_count": 0}),
    "mamba2": ("mamba2", _NO_HEADS | _SSM | {"feed_forward_length": 0}),
    "rwkv6": (
        "rwkv6",
        _NO_HEADS
        | {"wkv.head_size": 16, "time_mix_extra_dim": 8, "time_decay_extra_dim": 8}
        | {"rescale_every_n_layers": 6},
    ),
    "rwkv7": (
        "rwkv7",
        _NO_HEADS
        | {"wkv.head_size": 16, "attention.decay_lora_rank": 8, "attention.iclr_lora_rank": 8}
        | {"attention.value_residual_mix_lora_rank": 8, "attention.gate_lora_rank": 8},
    ),
    "jamba": (
        "jamba",
        dense(64, 4, 96, 4, [0, 0, 2, 0], **_EXPERTS) | _SSM | {"ssm.group_count": 0},
    ),
    "falcon-h1": ("falcon-h1", dense(64, 3, 96, 4, 2, 16) | _SSM),
    "granitehybrid": (
        "granitehybrid",
        dense(64, 4, 96, 4, [0, 2, 0, 0], logit_scale=6.0, residual_scale=0.2)
        | {"embedding_scale": 12.0, "attention.scale": 0.01}
        | _SSM,
    ),
    "lfm2": ("lfm2", dense(64, 4, 96, 4, [0, 2, 0, 2], shortconv__l_cache=3)),
    "nemotron_h": (
        "nemotron_h",
        dense(64, 5, [0, 96, 0, 0, 96], 4, [0, 0, 2, 0, 0], 16) | _SSM,
    ),
    "plamo2": (
        "plamo2",
        dense(64, 4, 96, [0, 4, 0, 4], [0, 2, 0, 2], 16) | _SSM | {"ssm.group_count": 0},
    ),
    "qwen3next": (
        "qwen3next",
        dense(64, 5, 96, 4, 2, 32, **_EXPERTS, expert_shared_feed_forward_length=96) | _DELTA,
    ),
    "qwen35": (
        "qwen35",
        dense(64, 6, 96, 4, 2, 32, full_attention_interval=3)
        | _DELTA
        | {"rope.dimension_sections": [3, 3, 2, 0]},
    ),
    "kimi-linear": (
        "kimi-linear",
        dense(64, 4, 96, 4, [0, 0, 0, 1], **_MOE) | _MLA | _KDA,
    ),
    "minimax-m2": ("minimax-m2", dense(64, 3, 96, 4, 2, 32, **_MOE, rope__dimension_count=16)),
    "minimax-m3": (
        "minimax-m3",
        dense(64, 3, 96, 4, 2, 32, **_MOE)
        | _INDEX
        | {"attention.indexer.head_count": 2, "attention.indexer.block_size": 4}
        | {"attention.indexer.local_blocks": 1, "rope.dimension_count": 16},
    ),
    "deepseek32": ("deepseek32", dense(64, 3, 96, 4, 1, **_MOE) | _MLA | _INDEX),
    "deepseek4": (
        "deepseek4",
        dense(128, 4, 96, 4, 1, 32, **_MOE, attention__sliding_window=128)
        | _INDEX
        | {"attention.q_lora_rank": 32, "rope.dimension_count": 16}
        | {"attention.output_group_count": 4, "attention.output_lora_rank": 16}
        | {"attention.compress_ratios": [0, 4, 128, 4]}
        | {"attention.compress_rope_freq_base": 160000.0, "hyper_connection.count": 4}
        | {"hyper_connection.sinkhorn_iterations": 2, "hyper_connection.epsilon": 1e-6}
        | {"hash_layer_count": 0, "swiglu_clamp_exp": 10.0, "expert_gating_func": 4}
        | {"expert_weights_norm": True},
    ),
    "qwen2": ("qwen2", dense(64, 3, 96, 4, 2)),
    "mixture": ("llama", dense(64, 3, 96, 4, 2, **_EXPERTS)),
    "mimo2": (
        "mimo2",
        dense(64, 4, 96, 4, 2, **_EXPERTS, attention__sliding_window=128)
        | {"attention.key_length": 48, "attention.value_length": 32, "rope.dimension_count": 16}
        | {"attention.sliding_window_pattern": [False, True, True, True]}
        | {"rope.freq_base_swa": 1e4, "attention.value_scale": 1.0},
    ),
    "granite_swa": (
        "granite_swa",
        dense(64, 4, 96, 4, 2, attention__sliding_window=128, logit_scale=1.0)
        | {"attention.sliding_window_pattern": [False, True, False, True]},
    ),
    "arwkv7": (
        "arwkv7",
        _NO_HEADS
        | {"wkv.head_size": 16, "attention.decay_lora_rank": 8, "attention.iclr_lora_rank": 8}
        | {"attention.value_residual_mix_lora_rank": 8, "attention.gate_lora_rank": 8}
        | {"token_shift_count": 1, "attention.head_count": 4, "attention.head_count_kv": 2},
    ),
    "rwkv6qwen2": (
        "rwkv6qwen2",
        _NO_HEADS
        | {"wkv.head_size": 16, "time_mix_extra_dim": 8, "time_decay_extra_dim": 8}
        | {"token_shift_count": 1, "attention.head_count": 4, "attention.head_count_kv": 2},
    ),
    "lfm2moe": ("lfm2moe", dense(64, 4, 96, 4, [0, 2, 0, 2], shortconv__l_cache=3, **_MOE)),
    "minimax-01": (
        "minimax-01",
        dense(64, 4, 96, 4, 2, 32, **_EXPERTS, residual_scale=1.0, full_attention_interval=2),
    ),
    "bailingmoe3": (
        "bailingmoe3",
        dense(64, 4, 96, 4, [0, 0, 0, 1], **_MOE)
        | _MLA
        | _KDA
        | {"kda.gate_lower_bound": -5.0, "rope.dimension_sections": [4, 6, 6, 0]},
    ),
    "kimi-k3": (
        "kimi-k3",
        dense(64, 4, 96, 4, [0, 0, 0, 1], **_MOE)
        | _MLA
        | _KDA
        | {"attn_res.block_size": 2, "activation.situ_beta": 1.0}
        | {"activation.situ_linear_beta": 1.0},
    ),
    "glm5-next": (
        "glm5-next",
        dense(64, 4, 96, 4, [0, 0, 0, 1], **_MOE)
        | _MLA
        | _KDA
        | _STREAMS
        | _INDEX
        | {"attention.key_length": 64, "attention.value_length": 64, "rope.dimension_count": 0}
        | {"attention.indexer.kpool": 4, "attention.indexer.kpool_select_tail": True},
    ),
    "hy_v4": (
        "hy_v4",
        dense(64, 4, 96, 4, 1, **_MOE)
        | _MLA
        | _STREAMS
        | _INDEX
        | {"hyper_connection.magnitude": 2.0, "attention.indexer.types": [1, 0, 1, 0]},
    ),
    "dots3note": (
        "dots3note",
        dense(64, 4, 96, 4, 1, **_MOE, attention__sliding_window=128)
        | _MLA
        | _INDEX
        | {"attention.kv_lora_rank_swa": 32, "attention.key_length_swa": 64}
        | {"attention.value_length_swa": 32, "attention.key_length_mla_swa": 48}
        | {"attention.value_length_mla_swa": 32, "rope.freq_base_swa": 1e4}
        | {"attention.sliding_window_pattern": [False, True, False, True]}
        | {"attention.indexer.types": [1, 0, 1, 0]},
    ),
}


_QWEN3MOE = {
    "expert_count": 128,
    "expert_used_count": 8,
    "expert_feed_forward_length": 768,
}
_DEEPSEEK3 = {
    "expert_count": 256,
    "expert_used_count": 8,
    "expert_feed_forward_length": 2048,
    "expert_shared_count": 1,
    "leading_dense_block_count": 1,
    "expert_weights_scale": 2.5,
    "expert_gating_func": 2,
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "attention.kv_lora_rank": 512,
    "attention.q_lora_rank": 1536,
    "rope.dimension_count": 64,
}

# The widths of models that people use, in three layers.
REAL: dict[str, tuple[str, dict[str, Any]]] = {
    "SmolLM2-135M": ("llama", dense(576, 3, 1536, 9, 3)),
    "Llama-3.1-8B": ("llama", dense(4096, 3, 14336, 32, 8)),
    "Mixtral-8x7B": (
        "llama",
        dense(4096, 3, 14336, 32, 8, expert_count=8, expert_used_count=2),
    ),
    "Qwen2.5-0.5B": ("qwen2", dense(896, 3, 4864, 14, 2)),
    "Qwen3-30B-A3B": ("qwen3moe", dense(2048, 3, 6144, 32, 4, 128, **_QWEN3MOE)),
    "Gemma-2-2B": ("gemma2", dense(2304, 4, 9216, 8, 4, 256, attention__sliding_window=4096)),
    "gpt-oss-20b": (
        "gpt-oss",
        dense(2880, 4, 2880, 64, 8, 64, attention__sliding_window=128)
        | {"expert_count": 32, "expert_used_count": 4, "expert_feed_forward_length": 2880},
    ),
    "Phi-3-mini": ("phi3", dense(3072, 3, 8192, 32, 32)),
    "StarCoder2-3B": ("starcoder2", dense(3072, 3, 12288, 24, 2)),
    "Command-R-7B": (
        "cohere2",
        dense(4096, 4, 14336, 32, 8, attention__sliding_window=4096, logit_scale=0.25),
    ),
    "DeepSeek-V3": ("deepseek2", dense(7168, 3, 18432, 128, 1) | _DEEPSEEK3),
    "Codestral-Mamba-7B": (
        "mamba2",
        _NO_HEADS
        | {"embedding_length": 4096, "feed_forward_length": 0, "ssm.conv_kernel": 4}
        | {"ssm.inner_size": 8192, "ssm.state_size": 128, "ssm.time_step_rank": 128}
        | {"ssm.group_count": 8},
    ),
    "Falcon-H1-1.5B": (
        "falcon-h1",
        dense(2048, 3, 4096, 8, 2, 128)
        | {"ssm.conv_kernel": 4, "ssm.inner_size": 3072, "ssm.state_size": 256}
        | {"ssm.time_step_rank": 48, "ssm.group_count": 1},
    ),
    "Qwen3.5-4B": (
        "qwen35",
        dense(2560, 4, 9216, 16, 4, 256)
        | {"ssm.conv_kernel": 4, "ssm.inner_size": 4096, "ssm.state_size": 128}
        | {"ssm.time_step_rank": 32, "ssm.group_count": 16, "rope.dimension_count": 64}
        | {"rope.dimension_sections": [11, 11, 10, 0]},
    ),
    "LFM2-1.2B": ("lfm2", dense(2048, 4, 8192, 32, [0, 8, 0, 8], shortconv__l_cache=3)),
}
