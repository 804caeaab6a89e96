"""Text to tokens and back, through llama.cpp's vocabulary.

Promises: any thread may call `tokenize`, `detokenize`, `piece` and `cut`. Leaves to others: whole
prompts (`engine.prompt`), characters out of pieces (`engine.detokenizer`).
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from typing import Any

import llama_cpp as lib

from gguf_widgets.core.engine.backend import Vocabulary
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["LlamaVocabulary"]


class LlamaVocabulary:
    """A model's vocabulary.

    Attributes
    ----------
    handle : the native vocabulary
    facts : Vocabulary
    suppressed : dict of int to float
        The tokens that the model's own file forbids, as biases.
    """

    def __init__(self, model: Any) -> None:
        self.handle = lib.llama_model_get_vocab(model)
        self.facts = _read(self.handle)
        self.suppressed = _suppressed(self.handle)
        self._pieces: list[bytes | None] = [None] * self.facts.n_vocab
        self._by_piece: dict[bytes, int] = {}
        self._digest: str | None = None

    def tokenize(self, text: str, *, parse_special: bool, add_special: bool = False) -> list[int]:
        """See `Backend.tokenize`; with `add_special`, what the model wants around a text is added.

        That is what llama.cpp adds: BOS and EOS where the file says so, ``[CLS]`` and ``[SEP]``.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValueError(
                f"The text holds half a character (a lone surrogate) at place {error.start}."
            ) from error
        size = len(data) + 8
        if size > 2**31 - 1:
            raise InvalidValueError(f"The text is {len(data)} bytes long; 2 GiB is the limit.")
        while True:
            tokens = (ctypes.c_int32 * size)()
            count = lib.llama_tokenize(
                self.handle, data, len(data), tokens, size, add_special, parse_special
            )
            if count >= 0:
                return tokens[:count]
            size = -count

    def detokenize(self, tokens: Sequence[int], *, special: bool) -> str:
        """See `Backend.detokenize`."""
        native = (ctypes.c_int32 * len(tokens))(*tokens)
        size = 16 * len(tokens) + 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = lib.llama_detokenize(
                self.handle, native, len(tokens), buffer, size, not special, special
            )
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            size = -count

    def piece(self, token: int) -> bytes:
        """See `Backend.token_to_piece`."""
        piece = self._pieces[token]
        if piece is None:
            piece = self._pieces[token] = _piece(self.handle, token, special=False)
        return piece

    def digest(self) -> str:
        """See `Backend.vocabulary_digest`."""
        known = self._digest
        if known is None:
            found = hashlib.sha256()
            for token in range(self.facts.n_vocab):
                text = lib.llama_vocab_get_text(self.handle, token) or b""
                kind = lib.llama_vocab_get_attr(self.handle, token)
                found.update(b"%d %d %s" % (len(text), kind, text))
            known = self._digest = found.hexdigest()
        return known

    def cut(self, data: bytes) -> list[int] | None:
        """Cut bytes into tokens whose own bytes, joined, are exactly these; None if none are.

        Other than `tokenize`, which may put a blank in front or write a character otherwise. The
        bytes may be parts of characters.
        """
        try:
            tokens = self.tokenize(data.decode(), parse_special=False)
        except UnicodeDecodeError:
            tokens = []
        if b"".join(map(self.piece, tokens)) == data and all(map(self.piece, tokens)):
            return tokens
        if not self._by_piece:  # takes a tenth of a second, and is seldom needed
            pieces = {self.piece(token): token for token in range(self.facts.n_vocab)}
            self._by_piece = {piece: token for piece, token in pieces.items() if piece}
        longest = max(map(len, self._by_piece))
        found, place = [], 0
        while place < len(data):
            ends = range(min(len(data), place + longest), place, -1)
            end = next((end for end in ends if data[place:end] in self._by_piece), None)
            if end is None:
                return None
            found.append(self._by_piece[data[place:end]])
            place = end
        return found


def _piece(vocab: Any, token: int, *, special: bool) -> bytes:
    size = 64
    while True:
        buffer = ctypes.create_string_buffer(size)
        count = lib.llama_token_to_piece(vocab, token, buffer, size, 0, special)
        if count >= 0:
            return buffer.raw[:count]
        size = -count


def _read(vocab: Any) -> Vocabulary:
    n_vocab = lib.llama_vocab_n_tokens(vocab)
    bos, eos = lib.llama_vocab_bos(vocab), lib.llama_vocab_eos(vocab)

    def text(token: int) -> str:
        return _piece(vocab, token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    # These are read in a prompt only with parse_special; user-defined tokens always are.
    only_special = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
    control = (t for t in range(n_vocab) if lib.llama_vocab_get_attr(vocab, t) & only_special)
    return Vocabulary(
        n_vocab=n_vocab,
        bos=bos,
        eos=eos,
        bos_text=text(bos),
        eos_text=text(eos),
        add_bos=lib.llama_vocab_get_add_bos(vocab),
        control_texts=tuple(filter(None, map(text, control))),
        eog=frozenset(t for t in range(n_vocab) if lib.llama_vocab_is_eog(vocab, t)),
    )


def _suppressed(vocab: Any) -> dict[int, float]:
    count = ctypes.c_int32(0)
    tokens = lib.llama_vocab_get_suppress_tokens(vocab, ctypes.byref(count))
    return dict.fromkeys(tokens[: count.value], float("-inf")) if tokens and count.value else {}
