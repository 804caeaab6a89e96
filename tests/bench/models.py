"""Benchmark models: a real model's shape and vocabulary, random weights, and one thing to say.

Promises: the same file each time, written once (to tests/bench/cache) in a second or two; speed is
that of the real model, since it depends on the shape and not on what the weights say. No reply ends
early: the tokens that end one have weights of zero, so that none of them is ever the likeliest.

After one token, `start`, the model wants to write a certain JSON text and then to end: the blocks
add little to the last token's embedding, and the row of `output.weight` that belongs to the text's
next token points along it. So a schema is followed as a trained model follows it, token by token,
and `refused` gives the share of places at which it would first like something that is no JSON.

Leaves to others: the vocabulary's bytes (`vocabulary.py`), what is measured.
"""

from __future__ import annotations

import itertools
import os
import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from bench.vocabulary import (
    MADE_UP,
    Vocabulary,
    made_up_vocabulary,
    real_vocabulary,
    vocabulary_file,
)
from gguf import GGMLQuantizationType, quants
from numpy.typing import NDArray
from support.gguf_writer import F32, Q8_0, Typed, entry, text

__all__ = ["CACHE", "SCHEMA", "SHAPES", "BenchModel", "Shape", "bench_model"]

CACHE = Path(__file__).with_name("cache")

# Part of the files' names: change it when other files are written than before.
VERSION = 2

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "label": {"enum": ["positive", "negative", "neutral"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 100},
        "reason": {"type": "string"},
        "topics": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["label", "score", "reason", "topics"],
    "additionalProperties": False,
}
NUM_WORDS = 44  # of the reason, which makes the whole text some sixty tokens

# How large things are: an embedding against what a block adds to it; the logit of the token that is
# wanted, where the likeliest of 150,000 random ones gets about 9; of one that will be refused.
_EMBEDDING, _RANDOM, _WANTED, _REFUSED = 50.0, 2.0, 20.0, 25.0

_BLOCK = np.dtype([("scale", "<f2"), ("numbers", "i1", 32)])  # 32 numbers in Q8_0
_SPREAD = 73.3  # the standard deviation of whole numbers from -127 to 127


class Shape(NamedTuple):
    """The sizes of a published model."""

    name: str
    architecture: str
    vocabulary: str
    n_vocab: int  # of a made-up vocabulary, where the real one is not there
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_ctx_train: int


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("smollm2-135m", "llama", "gpt-2", 49_152, 576, 30, 9, 3, 1536, 8192),
        Shape("qwen2.5-0.5b", "qwen2", "qwen2", 151_936, 896, 24, 14, 2, 4864, 32_768),
        Shape("tiny", "llama", MADE_UP, 1024, 256, 2, 4, 2, 256, 8192),
    )
}


class BenchModel(msgspec.Struct, frozen=True):
    """A model file and what is known of it.

    Attributes
    ----------
    path : str
    description : str
        For the heading of a table.
    start : int
        The token after which it writes `wanted` and ends.
    wanted : list of int
        The tokens of a JSON text that is valid against `SCHEMA`.
    num_refused : int
        At so many of them the likeliest token is one that no JSON has there.
    """

    path: str
    description: str
    start: int
    wanted: list[int]
    num_refused: int


def bench_model(shape_name: str, *, refused: float = 0.0, folder: Path = CACHE) -> BenchModel:
    """Return a benchmark model; the first time it is written.

    Parameters
    ----------
    shape_name : str
        A key of `SHAPES`.
    refused : float, default 0
        At this share of the places of its JSON text it would first like a wrong token.
    folder : Path
    """
    shape = SHAPES[shape_name]
    vocabulary_name = shape.vocabulary if vocabulary_file(shape.vocabulary) else MADE_UP
    name = f"{shape_name}-{vocabulary_name}-q8_0-v{VERSION}"
    if refused:
        name += f"-refused{refused * 100:.0f}"
    path, notes = folder / f"{name}.gguf", folder / f"{name}.json"
    if not (path.exists() and notes.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{shape_name}-*"):
            if f"-v{VERSION}" not in old.name:
                old.unlink()
        print(f"writing {path.name} ...", flush=True)
        if vocabulary_name == MADE_UP:
            vocabulary = made_up_vocabulary(shape.n_vocab)
        else:
            vocabulary = real_vocabulary(vocabulary_name)
        chain = _Chain.of(vocabulary, refused)
        part = path.with_suffix(f".{os.getpid()}.part")  # another process may be at it, too
        _write(part, shape, vocabulary, chain)
        words = f"{len(vocabulary.tokens):,} tokens"
        if vocabulary_name == MADE_UP:
            words += ", made up"
        model = BenchModel(
            path=str(path),
            description=f"{shape_name}'s shape, random weights, Q8_0, {words}",
            start=chain.start,
            wanted=chain.wanted,
            num_refused=len(chain.wrong),
        )
        notes.write_bytes(msgspec.json.encode(model))
        part.replace(path)
    model = msgspec.json.decode(notes.read_bytes(), type=BenchModel)
    return msgspec.structs.replace(model, path=str(path))  # the folder may have been moved


class _Chain(NamedTuple):
    """What the model wants to say: `wanted` after `start`, at some places `wrong` ones first."""

    start: int
    wanted: list[int]
    wrong: dict[int, int]
    eos: int

    @classmethod
    def of(cls, vocabulary: Vocabulary, refused: float) -> _Chain:
        ids: dict[bytes, int] = {}
        for token, written in enumerate(vocabulary.tokens):
            ids.setdefault(written, token)
        del ids[b""]
        wanted = _cut(_json_text(ids).encode(), ids)
        start = ids[b"\n"]
        # In the middle of a string: its end, and something that cannot follow it.
        refusable = [
            token
            for text, token in ids.items()
            if text[:1] == b'"' and text[1:2] in b")>;(/?-"
            if len(text) > 1
        ]
        places = [n for n, token in enumerate(wanted) if vocabulary.tokens[token][:1] == b" "]
        chosen = random.Random(0).sample(places, round(refused * len(wanted)))  # noqa: S311
        wrong = dict(zip(sorted(chosen), refusable, strict=False))
        if len(wrong) < len(chosen):
            raise RuntimeError("this vocabulary has too few tokens that no JSON string can hold")
        return cls(start, wanted, wrong, vocabulary.eos)

    def rows(self, embeddings: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the rows of `output.weight` that make the model say this."""
        tokens = [self.start, *self.wanted, self.eos]
        for place, (before, after) in enumerate(itertools.pairwise(tokens)):
            # What comes out of the last norm has the length sqrt(n), so the logit is the factor.
            along = embeddings[before] / np.float32(np.dot(embeddings[before], embeddings[before]))
            along *= np.float32(np.sqrt(np.mean(embeddings[before] ** 2)))
            yield after, along * np.float32(_WANTED)
            if place in self.wrong:
                yield self.wrong[place], along * np.float32(_REFUSED)


def _json_text(ids: dict[bytes, int]) -> str:
    """Return a JSON text, valid against `SCHEMA`, of words that are tokens, no word twice."""
    words = sorted(
        written.decode()
        for written in ids
        if 5 <= len(written) <= 9 and written[:1] == b" " and written[1:].isalpha()
        if written.isascii() and written.islower()
    )
    chosen = random.Random(1).sample(words, NUM_WORDS)  # noqa: S311 - it keeps no secret
    reason = "The" + "".join(chosen) + "."
    return f'{{"label":"positive","score":87,"reason":"{reason}","topics":["food"]}}'


def _cut(data: bytes, ids: dict[bytes, int]) -> list[int]:
    """Cut a text into tokens, none of them twice: each one's successor is to be certain."""
    longest = 16
    found: list[bytes] = []
    # Depth first, the longest token first: `tries` holds the lengths not tried yet at each depth.
    tries, place = [iter(range(longest, 0, -1))], 0
    while place < len(data):
        for length in tries[-1]:
            piece = data[place : place + length]
            if len(piece) == length and piece in ids and piece not in found:
                found.append(piece)
                place += length
                tries.append(iter(range(longest, 0, -1)))
                break
        else:
            tries.pop()
            if not tries:
                raise RuntimeError("this vocabulary cannot write the text without a repetition")
            place -= len(found.pop())
    return [ids[piece] for piece in found]


def _write(path: Path, shape: Shape, vocabulary: Vocabulary, chain: _Chain) -> None:
    rng = np.random.default_rng(0)
    n_vocab, n_embd = len(vocabulary.tokens), shape.n_embd
    embedding = _random_blocks(rng, n_vocab, n_embd, _EMBEDDING)
    output = _random_blocks(rng, n_vocab, n_embd, _RANDOM / n_embd**0.5)
    output[sorted(vocabulary.eog)] = 0
    numbers = embedding["scale"][..., None].astype(np.float32) * embedding["numbers"]
    for token, row in chain.rows(numbers.reshape(n_vocab, n_embd)):
        output[token] = quants.quantize(row, GGMLQuantizationType.Q8_0).view(_BLOCK)
    tensors: list[tuple[str, tuple[int, ...], int]] = [
        ("token_embd.weight", (n_embd, n_vocab), Q8_0),
        ("output.weight", (n_embd, n_vocab), Q8_0),
        ("output_norm.weight", (n_embd,), F32),
        *_layer_tensors(shape),
    ]
    with path.open("wb") as file:
        header = _header(shape, vocabulary, tensors)
        file.write(header + b"\0" * (-len(header) % 32))
        for name, size, kind in tensors:
            if name == "token_embd.weight":
                data: NDArray[Any] = embedding
            elif name == "output.weight":
                data = output
            elif kind == F32:
                data = np.full(size, 0.0 if name.endswith("bias") else 1.0, np.float32)
            else:
                columns, rows = size
                data = _random_blocks(rng, rows, columns, 1 / columns**0.5)
            file.write(memoryview(data).cast("B") if data.dtype != _BLOCK else data.tobytes())
            file.write(b"\0" * (-data.nbytes % 32))


def _layer_tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...], int]]:
    n_embd, n_ff = shape.n_embd, shape.n_ff
    n_kv = n_embd // shape.n_head * shape.n_head_kv
    for number in range(shape.n_layer):
        b = f"blk.{number}."
        yield b + "attn_norm.weight", (n_embd,), F32
        yield b + "ffn_norm.weight", (n_embd,), F32
        for part, rows in (("q", n_embd), ("k", n_kv), ("v", n_kv)):
            yield f"{b}attn_{part}.weight", (n_embd, rows), Q8_0
            if shape.architecture == "qwen2":
                yield f"{b}attn_{part}.bias", (rows,), F32
        yield b + "attn_output.weight", (n_embd, n_embd), Q8_0
        yield b + "ffn_gate.weight", (n_embd, n_ff), Q8_0
        yield b + "ffn_up.weight", (n_embd, n_ff), Q8_0
        yield b + "ffn_down.weight", (n_ff, n_embd), Q8_0


def _random_blocks(
    rng: np.random.Generator, rows: int, columns: int, deviation: float
) -> NDArray[Any]:
    """Return random numbers in Q8_0, made as such: that is twenty times as quick as packing."""
    blocks = np.empty((rows, columns // 32), _BLOCK)
    blocks["scale"] = deviation / _SPREAD
    blocks["numbers"] = rng.integers(-127, 128, (rows, columns // 32, 32), np.int8)
    return blocks


def _header(
    shape: Shape, vocabulary: Vocabulary, tensors: Sequence[tuple[str, tuple[int, ...], int]]
) -> bytes:
    a = shape.architecture
    entries = {
        "general.architecture": Typed("string", a),
        "general.name": Typed("string", f"{shape.name}, random weights"),
        "general.file_type": Typed("uint32", 7),  # mostly Q8_0
        f"{a}.context_length": Typed("uint32", shape.n_ctx_train),
        f"{a}.embedding_length": Typed("uint32", shape.n_embd),
        f"{a}.block_count": Typed("uint32", shape.n_layer),
        f"{a}.feed_forward_length": Typed("uint32", shape.n_ff),
        f"{a}.attention.head_count": Typed("uint32", shape.n_head),
        f"{a}.attention.head_count_kv": Typed("uint32", shape.n_head_kv),
        f"{a}.attention.layer_norm_rms_epsilon": Typed("float32", 1e-6),
        f"{a}.rope.dimension_count": Typed("uint32", shape.n_embd // shape.n_head),
        f"{a}.rope.freq_base": Typed("float32", 10000.0),
    }
    parts = [entry(key, value) for key, value in entries.items()] + vocabulary.entries
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(parts)), *parts]
    offset = 0
    for name, size, kind in tensors:
        sizes = struct.pack(f"<I{len(size)}Q", len(size), *size)
        out.append(text(name) + sizes + struct.pack("<IQ", kind, offset))
        num_bytes = int(np.prod(size)) * 34 // 32 if kind == Q8_0 else 4 * size[0]
        offset += num_bytes + -num_bytes % 32
    return b"".join(out)
