"""The vocabulary of the demo model, in which a word is cut alike with and without a space.

Promises: byte-level BPE; the pre-tokenisation is llama.cpp's `smollm` (every digit by itself,
then GPT-2's rule), so llama.cpp and this tokenizer give the same tokens for the same text. The
merges of letters are learned without leading spaces; only then come merges of a space with the
commonest small words. A name is therefore cut in the same way in the middle of a sentence and
after a quotation mark, and copying it means copying tokens. (A first trial with ordinary BPE
read 2 of 75 orders: it had to learn two spellings of every name.)

Leaves to others: what the text looks like (`chatml`) and the file format (`export`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from gguf_widgets.demo.chatml import CONTROL_TOKENS, render
from gguf_widgets.demo.needs import require
from gguf_widgets.demo.sentences import names
from gguf_widgets.demo.sentences.conversations import conversation

PRE_TOKENIZER = "smollm"  # llama.cpp's name for the rule below
SPACE = "\u0120"  # how byte-level BPE writes a space
_SPACED_PUNCTUATION = ('"', "+", "-", "=", "(", "{", "[", "*", "/")
_LETTER_VOCABULARY = 1310
_VOCABULARY = 1536


def _pre_tokenizer(*first: Any) -> Any:
    rules = require("tokenizers").pre_tokenizers
    return rules.Sequence(
        [
            *first,
            rules.Digits(individual_digits=True),
            rules.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def sample_text(seed: int, count: int) -> list[str]:
    """Return conversations to learn the vocabulary from, without the control tokens."""
    rng = Random(f"vocabulary {seed}")
    texts = []
    for _ in range(count):
        text = render(conversation(rng))
        for token in CONTROL_TOKENS:
            text = text.replace(token, "\n")
        texts.append(text)
    return texts


def train(seed: int, count: int = 20_000) -> Any:
    """Learn the vocabulary.

    Parameters
    ----------
    seed
        Decides the sample.
    count
        How many conversations to learn from.

    Returns
    -------
    tokenizers.Tokenizer
        With 1,536 tokens, the control tokens first.
    """
    tk = require("tokenizers")
    texts = sample_text(seed, count)
    letters = tk.Tokenizer(tk.models.BPE())
    letters.pre_tokenizer = _pre_tokenizer(tk.pre_tokenizers.Split(" ", "removed"))
    trainer = tk.trainers.BpeTrainer(
        vocab_size=_LETTER_VOCABULARY,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    letters.train_from_iterator(texts, trainer)
    model = json.loads(letters.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges = [tuple(pair) for pair in model["merges"]]
    for word in _words_after_a_space(texts, vocabulary, _VOCABULARY - len(vocabulary)):
        merges.append((SPACE, word))
        vocabulary[SPACE + word] = len(vocabulary)
    return assemble(vocabulary, merges)


def _words_after_a_space(texts: Iterable[str], vocabulary: dict[str, int], room: int) -> list[str]:
    """Return the commonest small words that are one token and never part of a name or of goods."""
    copied = {word for phrase in (*names.ADJECTIVES, *names.ITEMS) for word in phrase.split()}
    counts = Counter(
        word
        for text in texts
        for word in text.replace("\n", " ").split(" ")
        if word.isalpha() and word.islower()
    )
    words = [
        word
        for word, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        if word in vocabulary and word not in copied and (len(word) > 1 or word == "a")
    ]
    return [*(mark for mark in _SPACED_PUNCTUATION if mark in vocabulary), *words][:room]


def assemble(vocabulary: dict[str, int], merges: Sequence[tuple[str, ...]]) -> Any:
    """Return a tokenizer with these tokens and merges."""
    tk = require("tokenizers")
    tokenizer = tk.Tokenizer(tk.models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = tk.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    return tokenizer


def load(path: Path) -> Any:
    """Read a tokenizer that `train` made and that was saved as JSON."""
    return require("tokenizers").Tokenizer.from_file(str(path))


def vocabulary_and_merges(tokenizer: Any) -> tuple[list[str], list[str]]:
    """Return the tokens in the order of their numbers, and the merges as llama.cpp writes them."""
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tokens, [" ".join(pair) for pair in model["merges"]]
