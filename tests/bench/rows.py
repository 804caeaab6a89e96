"""Prompts for benchmarks: rows of so many tokens, of which so many are common to all.

Promises: a row's text, cut into tokens by the model, gives exactly its tokens, so that those who
take texts and those who take tokens do the same work; another seed gives other rows. Leaves to
others: who computes them.
"""

from __future__ import annotations

import os
import random

import llama_cpp
import msgspec
from bench.contestants import Work
from bench.models import BenchModel
from bench.vocabulary import silence

__all__ = ["RowMaker"]

TEXT = (
    "the a of to and in that it was for on with as his they at be this have from or one had by word"
    " but not what all were we when your can said there use an each which she do how their if will"
    " up other about out many then them these so some her would make like him into time has look"
    " two more write go see number no way could people my than first water been call who oil its"
)
WORDS = TEXT.split()


class RowMaker:
    """Makes rows for one model.

    Parameters
    ----------
    path : str
        Only its vocabulary is loaded.
    """

    def __init__(self, path: str) -> None:
        from gguf_widgets.core.engine.llama.vocabulary import LlamaVocabulary

        silence()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        # Kept until the process ends: the vocabulary is part of it.
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise RuntimeError(f"llama.cpp does not read {path}")
        self._vocabulary = LlamaVocabulary(model)

    def work(
        self, num_rows: int, *, num_own: int, num_new: int, num_shared: int = 0, seed: int = 0
    ) -> Work:
        """Return rows of `num_shared` common tokens and `num_own` others each."""
        rng = random.Random(f"{seed} {num_shared}")  # noqa: S311 - it keeps no secret
        begin, begin_tokens = self._text(rng, num_shared, "") if num_shared else ("", [])
        prompts, texts = [], []
        for _ in range(num_rows):
            while True:
                end, end_tokens = self._text(rng, num_own, " ")
                # Where the two meet, other tokens could come of it.
                if self._tokens(begin + end) == begin_tokens + end_tokens:
                    break
            prompts.append(begin_tokens + end_tokens)
            texts.append(begin + end)
        return Work(prompts=prompts, texts=texts, num_new=num_new)

    def json_work(self, num_rows: int, model: BenchModel, *, num_own: int, seed: int = 0) -> Work:
        """Return rows after which the model writes its JSON."""
        work = self.work(
            num_rows, num_own=num_own - 1, num_new=len(model.wanted), num_shared=0, seed=seed
        )
        text = self._vocabulary.detokenize([model.start], special=False)
        return msgspec.structs.replace(
            work,
            prompts=[[*prompt, model.start] for prompt in work.prompts],
            texts=[one + text for one in work.texts],
            ends_itself=True,
        )

    def text(self, tokens: list[int]) -> str:
        """Return what tokens write."""
        return self._vocabulary.detokenize(tokens, special=False)

    def _text(self, rng: random.Random, num_tokens: int, before: str) -> tuple[str, list[int]]:
        while True:
            words = rng.choices(WORDS, k=num_tokens)
            tokens = self._tokens(before + " ".join(words))[:num_tokens]
            text = self._vocabulary.detokenize(tokens, special=False)
            if self._tokens(text) == tokens and len(tokens) == num_tokens:
                return text, tokens

    def _tokens(self, text: str) -> list[int]:
        return self._vocabulary.tokenize(text, parse_special=False)
