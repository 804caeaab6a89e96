"""Real llama.cpp grammars, walked at random and asked about texts.

Not a test: import it as ``from support.grammar_walk import Walker``. A walk takes any token that
the grammar allows, over and over, until it may end; so whatever a model could write under the
grammar, a walk could. Only tokens are left out that no engine may take anyway: control tokens,
whose text the grammar sees and the reader does not, and bytes that make no valid UTF-8, which
llama.cpp's grammars let through (overlong forms).
"""

from __future__ import annotations

import codecs
import ctypes
import random
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np

from gguf_widgets.core.engine.llama import library

_ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_CLOSING = (b'"', b"}", b"]", b'"}', b'"]', b"}}")


class Walker:
    """A model's vocabulary; close it at the end."""

    def __init__(self, path: Path) -> None:
        library.start()
        params = lib.llama_model_default_params()
        params.vocab_only = True
        self.model = lib.llama_model_load_from_file(str(path).encode(), params)
        assert self.model
        self.vocab = lib.llama_model_get_vocab(self.model)
        count = lib.llama_vocab_n_tokens(self.vocab)
        self.pieces = [self._piece(token) for token in range(count)]
        self.eog = np.array([lib.llama_vocab_is_eog(self.vocab, t) for t in range(count)])
        self.control = np.array([lib.llama_vocab_is_control(self.vocab, t) for t in range(count)])
        self.closing = np.array([piece in _CLOSING for piece in self.pieces])
        self.ascii = np.array([piece.isascii() for piece in self.pieces])
        self.entries = np.zeros(count, _ENTRY)
        self.one = np.zeros(1, _ENTRY)
        # For asking about a text: the shortest way to spell it, byte by byte.
        self.bytes = {
            piece: token
            for token, piece in enumerate(self.pieces)
            if len(piece) == 1 and not self.control[token]
        }

    def close(self) -> None:
        lib.llama_model_free(self.model)

    def loads(self, grammar: str) -> bool:
        """Say whether llama.cpp takes a grammar."""
        sampler = self._sampler(grammar)
        if sampler:
            lib.llama_sampler_free(sampler)
        return bool(sampler)

    def accepts(self, grammar: str, text: str) -> bool:
        """Say whether a whole text can be written under a grammar."""
        sampler = self._sampler(grammar)
        assert sampler, grammar
        try:
            for byte in text.encode():
                token = self.bytes[bytes((byte,))]
                if not self._allows(sampler, token):
                    return False
                lib.llama_sampler_accept(sampler, token)
            return self._allows(sampler, int(np.flatnonzero(self.eog)[0]))
        finally:
            lib.llama_sampler_free(sampler)

    def write(self, grammar: str, rng: random.Random, most: int = 1_500) -> str | None:
        """Write a random text; None if it would not end within about so many bytes."""
        sampler = self._sampler(grammar)
        assert sampler, grammar
        decoder = codecs.getincrementaldecoder("utf-8")("strict")
        text = ""
        # Some walks stay with ASCII; the others meet every letter there is.
        ascii_only = rng.random() < 0.7
        haste = rng.choice((0.02, 0.1, 0.3))
        num_bytes = 0
        try:
            while num_bytes < most:
                token = self._draw(sampler, rng, decoder, ascii_only, haste, num_bytes > most // 3)
                if self.eog[token]:
                    return text + decoder.decode(b"", final=True)
                lib.llama_sampler_accept(sampler, token)
                text += decoder.decode(self.pieces[token])
                num_bytes += len(self.pieces[token])
            return None
        finally:
            lib.llama_sampler_free(sampler)

    def _draw(
        self,
        sampler: Any,
        rng: random.Random,
        decoder: Any,
        ascii_only: bool,
        haste: float,
        late: bool,
    ) -> int:
        self.entries["id"] = np.arange(len(self.entries))
        self.entries["logit"] = 0.0
        self._apply(sampler, self.entries)
        allowed = (self.entries["logit"] > -np.inf) & (~self.control | self.eog)
        ends = np.flatnonzero(allowed & self.eog)
        if len(ends) and rng.random() < (0.3 if not late else 0.9):
            return int(ends[0])
        closing = np.flatnonzero(allowed & self.closing)
        if len(closing) and rng.random() < (haste if not late else 0.8):
            return int(rng.choice(closing))
        going_on = allowed & ~self.eog
        plain = going_on & self.ascii
        tokens = np.flatnonzero(plain if ascii_only and plain.any() else going_on).tolist()
        rng.shuffle(tokens)
        state = decoder.getstate()
        for token in tokens:
            try:
                decoder.decode(self.pieces[token])
                # Python sees half a character (a surrogate) only when it is complete.
                if not decoder.getstate()[0][:2] >= b"\xed\xa0" or decoder.getstate()[0] >= b"\xee":
                    return int(token)
            except UnicodeDecodeError:
                continue
            finally:
                decoder.setstate(state)
        assert len(ends), "the grammar leaves no token at all"
        return int(ends[0])

    def _allows(self, sampler: Any, token: int) -> bool:
        self.one[0] = (token, 0.0, 0.0)
        self._apply(sampler, self.one)
        return bool(self.one["logit"][0] > -np.inf)

    def _apply(self, sampler: Any, entries: Any) -> None:
        candidates = lib.llama_token_data_array(
            data=entries.ctypes.data_as(ctypes.POINTER(lib.llama_token_data)),
            size=len(entries),
            selected=-1,
            sorted=False,
        )
        lib.llama_sampler_apply(sampler, ctypes.byref(candidates))

    def _sampler(self, grammar: str) -> Any:
        return lib.llama_sampler_init_grammar(self.vocab, grammar.encode(), b"root")

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(512)
        count = lib.llama_token_to_piece(self.vocab, token, buffer, 512, 0, True)
        assert count >= 0
        return buffer.raw[:count]
