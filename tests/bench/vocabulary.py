"""The vocabulary of a benchmark model: a real one where it is there, else a made-up one.

Promises: the entries of a real vocabulary file are copied byte by byte, which takes a tenth of a
second (`gguf.GGUFReader` takes up to 20 s for the same). Leaves to others: weights (`models.py`).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import llama_cpp
from support.gguf_writer import Typed, entry
from support.tiny_model import CHATML, byte_letters

# llama.cpp tells on stderr how it reads a vocabulary.
_SILENT = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)

__all__ = [
    "MADE_UP",
    "Vocabulary",
    "made_up_vocabulary",
    "real_vocabulary",
    "silence",
    "vocabulary_file",
]

MADE_UP = "made-up"
FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"

# What the made-up vocabulary can write JSON with, besides single bytes; real ones have these too.
PIECES = ('{"', '":"', '","', '.","', '":', ',"', ':"', '":["', '"]', '")', '">', '";', '"?')
PIECES += ("label", "positive", "score", "87", "reason", "The", "topics", "food")
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_u64 = struct.Struct("<Q").unpack_from


class Vocabulary(NamedTuple):
    """What goes into a model file, and what there is to know of it.

    Attributes
    ----------
    entries : list of bytes
        The ``tokenizer.*`` entries as they stand in a file.
    tokens : list of bytes
        What each token writes; b"" for control tokens.
    eog : frozenset of int
        The tokens that end a reply.
    eos : int
        One of them.
    """

    entries: list[bytes]
    tokens: list[bytes]
    eog: frozenset[int]
    eos: int


def vocabulary_file(name: str) -> Path | None:
    """Return where a real vocabulary is; None on a machine that has not got it."""
    path = FOLDER / f"vocab-{name}.gguf"
    return path if path.is_file() else None


def real_vocabulary(name: str) -> Vocabulary:
    """Read a real vocabulary."""
    path = vocabulary_file(name)
    if path is None:
        raise FileNotFoundError(f"{FOLDER} has no vocabulary {name}")
    entries, texts, types = _copy(path.read_bytes())
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    tokens = [
        bytes(letters[letter] for letter in text) if kind == 1 else b""
        for text, kind in zip(texts, types, strict=True)
    ]
    template = entry("tokenizer.chat_template", Typed("string", CHATML))
    return Vocabulary([*entries, template], tokens, *_ends(path))


def made_up_vocabulary(num_tokens: int) -> Vocabulary:
    """Make one of byte letters, pieces of JSON and as many words as it takes."""
    letters = byte_letters()
    spelled = {text: "".join(letters[byte] for byte in text.encode()) for text in PIECES}
    texts = [*letters, *spelled.values()]
    space = letters[ord(" ")]
    num_words = num_tokens - len(texts) - len(CONTROL)
    if num_words < 100:
        raise ValueError(f"{num_tokens} tokens are too few for 256 bytes and a hundred words")
    texts += [space + word for word in _words(num_words)]
    tokens = [_written(text) for text in texts] + [b""] * len(CONTROL)
    texts += CONTROL
    types = [1] * (len(texts) - len(CONTROL)) + [3] * len(CONTROL)
    eos = texts.index("<|im_end|>")
    values = {
        "tokenizer.ggml.model": Typed("string", "gpt2"),
        "tokenizer.ggml.pre": Typed("string", "gpt-2"),
        "tokenizer.ggml.tokens": Typed("array", ("string", texts)),
        "tokenizer.ggml.token_type": Typed("array", ("int32", types)),
        # Merges are what text is cut by: these two are enough for single bytes to stay such.
        "tokenizer.ggml.merges": Typed("array", ("string", ["t h", "th e"])),
        "tokenizer.ggml.bos_token_id": Typed("uint32", texts.index("<|endoftext|>")),
        "tokenizer.ggml.eos_token_id": Typed("uint32", eos),
        "tokenizer.ggml.add_bos_token": Typed("bool", False),
        "tokenizer.chat_template": Typed("string", CHATML),
    }
    entries = [entry(key, value) for key, value in values.items()]
    eog = frozenset({texts.index("<|endoftext|>"), eos})
    return Vocabulary(entries, tokens, eog, eos)


def _words(count: int) -> list[str]:
    """Make so many different words of small letters, all of them at least four long."""
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word(number: int) -> str:
        text = ""
        while number or len(text) < 4:
            number, rest = divmod(number, 26)
            text += letters[rest]
        return text

    return [word(number * 17 + 5) for number in range(count)]


def _written(text: str) -> bytes:
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    return bytes(letters[letter] for letter in text)


def _copy(data: bytes) -> tuple[list[bytes], list[str], list[int]]:
    """Return a file's ``tokenizer.*`` entries as they are, its tokens' texts and their types."""
    (num_entries,) = _u64(data, 16)
    place, entries = 24, []
    texts: list[str] = []
    types: list[int] = []
    for _ in range(num_entries):
        start = place
        key, place = _string(data, place)
        (kind,) = struct.unpack_from("<I", data, place)
        end = _skip(data, place + 4, kind)
        if key.startswith("tokenizer.") and key != "tokenizer.chat_template":
            entries.append(data[start:end])
        if key == "tokenizer.ggml.tokens":
            texts = _strings(data, place + 4)
        elif key == "tokenizer.ggml.token_type":
            types = list(struct.unpack_from(f"<{len(texts)}i", data, place + 16))
        place = end
    return entries, texts, types


def _string(data: bytes, place: int) -> tuple[str, int]:
    end = place + 8 + _u64(data, place)[0]
    return data[place + 8 : end].decode(), end


def _strings(data: bytes, place: int) -> list[str]:
    (count,) = _u64(data, place + 4)
    place += 12
    found = []
    for _ in range(count):
        text, place = _string(data, place)
        found.append(text)
    return found


def _skip(data: bytes, place: int, kind: int) -> int:
    """Return where a value that begins at `place` ends."""
    if kind == _STRING:
        return place + 8 + int(_u64(data, place)[0])
    if kind != _ARRAY:
        return place + _SIZES[kind]
    item, count = struct.unpack_from("<IQ", data, place)
    place += 12
    if item != _STRING:
        return place + int(count) * _SIZES[item]
    for _ in range(count):
        place += 8 + _u64(data, place)[0]
    return place


def silence() -> None:
    """Let llama.cpp say nothing more in this process."""
    llama_cpp.llama_log_set(_SILENT, None)


def _ends(path: Path) -> tuple[frozenset[int], int]:
    """Ask llama.cpp which tokens end a reply: it knows some by their names."""
    silence()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise RuntimeError(f"llama.cpp does not read {path}")
    vocab = llama_cpp.llama_model_get_vocab(model)
    count = llama_cpp.llama_vocab_n_tokens(vocab)
    eog = frozenset(token for token in range(count) if llama_cpp.llama_vocab_is_eog(vocab, token))
    eos = int(llama_cpp.llama_vocab_eos(vocab))
    llama_cpp.llama_model_free(model)
    return eog, eos
