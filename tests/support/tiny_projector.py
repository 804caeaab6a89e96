"""Tiny image companions (mmproj) with random weights, and images for them.

Not a test and no fixture: import it as ``from support.tiny_projector import write_projector``. A
file is 0.3 MB or less; what a model says of an image through it makes no sense, but llama.cpp
computes it like any other.

Promises: llama.cpp's mtmd loads it (0.3.36) beside a model of the width `n_embd`; different images
give clearly different numbers. Leaves to others: one that was trained.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from support.tiny_model import CHATML, CONTROL, add_bpe_vocabulary
from support.tiny_weights import TinyFile

__all__ = [
    "IMAGE_SIZE",
    "NUM_TOKENS",
    "jpeg_bytes",
    "picture",
    "png_bytes",
    "png_chunk",
    "write_mrope_model",
    "write_projector",
]

IMAGE_SIZE = 56
PATCH_SIZE = 14
NUM_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2
"""What each image becomes, whatever its size; a quarter of it with the kind "gemma3"."""

_WIDTH, _HEADS, _FF = 64, 4, 128


def write_projector(
    path: Path,
    n_embd: int = 192,
    *,
    n_layer: int = 3,
    seed: int = 0,
    kind: str = "mlp",
    narrow: str = "",
) -> Path:
    """Write a projector for a model of the width `n_embd` and return its path.

    Parameters
    ----------
    path : Path
    n_embd : int, default 192
        The demo model's.
    n_layer : int, default 3
        Of the kind "mlp" llama.cpp leaves the last one out, as LLaVA does.
    seed : int, default 0
    kind : {"mlp", "qwen2vl_merger", "gemma3"}
        LLaVA's; one for a model with rows and columns among its positions (M-RoPE), whose images
        have as many tokens as they are large; one whose tokens all see each other.
    narrow : str, optional
        The name of a matrix in each block that is too narrow for what it is multiplied with.
    """
    file = TinyFile(path, "clip", "f32", seed)
    writer = file.writer
    writer.add_type("mmproj")
    writer.add_name("tiny projector")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", kind)
    writer.add_bool("clip.use_gelu", True)
    for key, value in (
        ("image_size", IMAGE_SIZE),
        ("patch_size", PATCH_SIZE),
        ("embedding_length", _WIDTH),
        ("feed_forward_length", _FF),
        ("projection_dim", n_embd),
        ("block_count", n_layer),
        ("attention.head_count", _HEADS),
        ("projector.scale_factor", 2),
    ):
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    file.matrix("v.patch_embd.weight", _WIDTH, 3, PATCH_SIZE, PATCH_SIZE, gain=0.3)
    for layer in range(n_layer):
        _block(file, f"v.blk.{layer}.", narrow)
    if kind == "qwen2vl_merger":
        file.matrix("v.patch_embd.weight.1", _WIDTH, 3, PATCH_SIZE, PATCH_SIZE, gain=0.3)
        _feed_forward(file, "mm.", ("0", 4 * _WIDTH, 4 * _WIDTH), ("2", 4 * _WIDTH, n_embd))
        return file.close()
    file.matrix("v.position_embd.weight", NUM_TOKENS, _WIDTH, gain=2.0)
    if kind == "gemma3":
        file.ones("mm.soft_emb_norm.weight", _WIDTH)
        file.add_matrix("mm.input_projection.weight", file.random("mm", _WIDTH, n_embd))
    else:
        _feed_forward(file, "mm.", ("0", _WIDTH, n_embd), ("2", n_embd, n_embd))
    return file.close()


def _block(file: TinyFile, block: str, narrow: str) -> None:
    for norm in ("ln1", "ln2"):
        file.ones(block + norm + ".weight", _WIDTH)
        file.add(block + norm + ".bias", np.zeros(_WIDTH))
    names = ("attn_q", "attn_k", "attn_v", "attn_out")
    less = {name: 4 if name == narrow else 0 for name in names}
    _feed_forward(file, block, *((name, _WIDTH - less[name], _WIDTH) for name in names))
    # The two are the other way round in files for LLaVA; llama.cpp swaps them by their shapes.
    _feed_forward(file, block, ("ffn_down", _WIDTH, _FF), ("ffn_up", _FF, _WIDTH))


def _feed_forward(file: TinyFile, block: str, *layers: tuple[str, int, int]) -> None:
    for name, num_in, num_out in layers:
        file.matrix(f"{block}{name}.weight", num_out, num_in)
        file.add(f"{block}{name}.bias", np.zeros(num_out))


def write_mrope_model(path: Path, *, seed: int = 0) -> Path:
    """Write a model with rows and columns among its positions (qwen2vl), and return its path."""
    n_embd, head, n_ff, n_layer = 64, 32, 96, 2
    file = TinyFile(path, "qwen2vl", "f32", seed)
    writer = file.writer
    writer.add_name("tiny qwen2vl")
    writer.add_context_length(4096)
    writer.add_block_count(n_layer)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_embd // head)
    writer.add_head_count_kv(n_embd // head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_array("qwen2vl.rope.dimension_sections", [4, 6, 6, 0])
    n_vocab = add_bpe_vocabulary(writer)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    loud = np.ones((n_vocab, 1))
    loud[-len(CONTROL) :] = 0.05
    file.ones("output_norm.weight", n_embd)
    file.add_matrix("token_embd.weight", file.random("embd", n_vocab, n_embd))
    file.add_matrix(
        "output.weight", 2 / n_embd**0.5 * loud * file.random("output", n_vocab, n_embd)
    )
    for layer in range(n_layer):
        b = f"blk.{layer}."
        file.ones(b + "attn_norm.weight", n_embd)
        file.ones(b + "ffn_norm.weight", n_embd)
        for name in ("attn_q", "attn_k", "attn_v"):
            file.matrix(f"{b}{name}.weight", n_embd, n_embd, gain=1.2)
            file.add(f"{b}{name}.bias", np.zeros(n_embd))
        file.matrix(b + "attn_output.weight", n_embd, n_embd, gain=2.0)
        file.matrix(b + "ffn_gate.weight", n_ff, n_embd)
        file.matrix(b + "ffn_up.weight", n_ff, n_embd)
        file.matrix(b + "ffn_down.weight", n_embd, n_ff, gain=2.0)
    return file.close()


def picture(seed: int = 0, width: int = 80, height: int = 60) -> bytes:
    """Return a PNG of coloured rectangles; another one for each seed."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(4):
        left, top = rng.integers(0, width), rng.integers(0, height)
        pixels[top : top + height // 2, left : left + width // 2] = rng.integers(0, 256, 3)
    return png_bytes(pixels)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Write RGB pixels (height, width, 3) as a PNG, byte by byte."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            png_chunk(b"IDAT", zlib.compress(rows.tobytes())),
            png_chunk(b"IEND", b""),
        )
    )


def jpeg_bytes(grey: NDArray[np.uint8], exif: bytes = b"") -> bytes:
    """Write a grey picture as a JPEG: each number is a square of 8 by 8 pixels."""

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    rows, columns = grey.shape
    # Twelve codes of four bits each for the difference from the square before, and one of one bit
    # for "nothing else in this square".
    bits, last = "", 0
    for value in (int(one) - 128 for one in grey.ravel()):
        change, last = value - last, value
        size = abs(change).bit_length()
        bits += f"{size:04b}"
        if size:
            bits += f"{change if change > 0 else change + (1 << size) - 1:0{size}b}"
        bits += "0"
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xE1, b"Exif\0\0" + exif) if exif else b"",
            segment(0xDB, b"\0" + bytes([8] * 64)),
            segment(0xC0, struct.pack(">BHHB", 8, 8 * rows, 8 * columns, 1) + b"\x01\x11\0"),
            segment(0xC4, b"\0" + bytes([0, 0, 0, 12]) + bytes(12) + bytes(range(12))),
            segment(0xC4, b"\x10" + bytes([1]) + bytes(15) + b"\0"),
            segment(0xDA, b"\x01\x01\0\0\x3f\0"),
            data,
            b"\xff\xd9",
        )
    )


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
