"""Tiny models of every kind of memory that llama.cpp has, with logits that mean something.

Not a test and no fixture: import it as ``from support.tiny_models import write_model``. A model is
0.2 to 0.6 MB, is written in a few milliseconds and read in fewer.

Promises: llama.cpp loads each of `KINDS` in each of `FORMATS`; each remembers (see `tiny_layers`);
none ends its reply by itself, and the likeliest token is ahead of the next by much more than
rounding, nearly always. Leaves to others: models to be read wrongly, other vocabularies
(`tiny_model.py`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.tiny_layers import LAYERS, N_EMBD, WINDOW
from support.tiny_model import CONTROL, add_bpe_vocabulary
from support.tiny_weights import FORMATS, TinyFile

__all__ = [
    "FAMILIES",
    "FORMATS",
    "HYBRID",
    "KINDS",
    "RECURRENT",
    "WINDOW",
    "WINDOWED",
    "write_model",
]

KINDS = tuple(LAYERS)
"""The architectures: attention (llama, moe), multi-head latent attention (deepseek2), a sliding
window (gemma3), a running state (mamba, mamba2, rwkv7), a state and attention (jamba), a state and
a sliding window (lfm2)."""

FAMILIES = ("llama", "deepseek2", "gemma3", "mamba", "jamba", "lfm2")
"""One of each kind of memory; the others only compute otherwise."""

WINDOWED = ("gemma3", "lfm2")
RECURRENT = ("mamba", "mamba2", "rwkv7")
HYBRID = ("jamba", "lfm2")

_ARCHITECTURES = {"moe": "llama"}
_OUTPUT_NORMS = {"lfm2": "token_embd_norm.weight"}

# How large the logits are. It changes no greedy reply, and makes sampling at temperature 0.8 a
# choice between a handful of tokens, as with a real model.
_LOGIT_SCALE = 2.0


def write_model(path: Path, kind: str, *, number_format: str = "f32", seed: int = 0) -> Path:
    """Write a model and return its path.

    Parameters
    ----------
    path : Path
    kind : str
        One of `KINDS`.
    number_format : str, default "f32"
        One of `FORMATS`.
    seed : int, default 0
    """
    n_layer = 4 if kind in WINDOWED else 2  # two windows in a row look back twice as far
    file = TinyFile(path, _ARCHITECTURES.get(kind, kind), number_format, seed)
    writer = file.writer
    writer.add_name(f"tiny {kind}")
    writer.add_context_length(4096)
    writer.add_block_count(n_layer)
    writer.add_embedding_length(N_EMBD)
    writer.add_layer_norm_rms_eps(1e-6)
    n_vocab = add_bpe_vocabulary(writer)
    writer.add_add_bos_token(False)
    _ends(file, kind, n_vocab)
    LAYERS[kind](file, n_layer)
    return file.close()


def _ends(file: TinyFile, kind: str, n_vocab: int) -> None:
    """Add embedding and output. A control token is never the likeliest: its output is small."""
    loud = np.ones((n_vocab, 1))
    loud[-len(CONTROL) :] = 0.05
    file.ones(_OUTPUT_NORMS.get(kind, "output_norm.weight"), N_EMBD)
    file.add_matrix("token_embd.weight", file.random("embd", n_vocab, N_EMBD))
    scale = _LOGIT_SCALE / np.sqrt(N_EMBD)
    file.add_matrix("output.weight", scale * loud * file.random("output", n_vocab, N_EMBD))
