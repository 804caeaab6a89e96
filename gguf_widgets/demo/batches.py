"""Sentences to batches of tokens, block by block.

Promises: block number n depends on the seed and on n alone, so a training run can go on where it
stopped. Rows of one batch have nearly the same length, so little is padding, and no row holds
more than one conversation: a model never sees the end of one conversation while it reads the
next.

Leaves to others: what is said (`sentences`), what is learned from it (`train`).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import torch
from torch import Tensor

from gguf_widgets.demo.chatml import END, END_OF_TEXT, START, render
from gguf_widgets.demo.sentences.conversations import conversation

CONVERSATIONS_A_BLOCK = 1024


Part = tuple[Tensor, Tensor, Tensor]


def answer_weights(ids: list[int], start: int, end: int, assistant: list[int]) -> list[float]:
    """Say for each token how much it counts in the loss.

    Only answers and their end marks count. A token counts one over the root of its answer's
    length: otherwise a label of one word would drown in stories.
    """
    weights = [0.0] * len(ids)
    opening = [start, *assistant]
    position = 0
    while position < len(ids):
        if ids[position : position + len(opening)] != opening:
            position += 1
            continue
        first = position + len(opening)
        position = ids.index(end, first) + 1
        weights[first:position] = [(position - first) ** -0.5] * (position - first)
    return weights


def block(
    tokenizer: Any,
    seed: int,
    number: int,
    extra: Mapping[str, float],
    tokens_a_part: int,
    longest: int,
) -> list[Part]:
    """Return the parts of one block; a step learns from a few of them together.

    Parameters
    ----------
    tokenizer
        A `tokenizers.Tokenizer`.
    seed, number
        Decide the sentences.
    extra
        Shares of conversations that are exercises of one kind, as `conversation` takes them.
    tokens_a_part
        About how many tokens a part holds, padding included.
    longest
        Conversations with more tokens are left out.

    Returns
    -------
    list of tuple
        Tokens, the tokens that should follow, and how much each of those counts. In random order,
        so that neighbours in the list differ in length and subject.
    """
    rng = Random(f"block {seed} {number}")
    texts = [render(conversation(rng, "train", **extra)) for _ in range(CONVERSATIONS_A_BLOCK)]
    rows = sorted(
        (e.ids for e in tokenizer.encode_batch_fast(texts) if len(e.ids) <= longest),
        key=len,
    )
    start, end, padding = (tokenizer.token_to_id(token) for token in (START, END, END_OF_TEXT))
    assistant = tokenizer.encode("assistant\n").ids
    groups: list[list[list[int]]] = [[]]
    for row in rows:
        if groups[-1] and (len(groups[-1]) + 1) * len(row) > tokens_a_part:
            groups.append([])
        groups[-1].append(row)
    rng.shuffle(groups)
    made = []
    for group in groups:
        width = max(map(len, group))
        tokens = torch.full((len(group), width), padding, dtype=torch.long)
        weights = torch.zeros((len(group), width))
        for i, row in enumerate(group):
            tokens[i, : len(row)] = torch.tensor(row)
            weights[i, : len(row)] = torch.tensor(answer_weights(row, start, end, assistant))
        made.append((tokens[:, :-1], tokens[:, 1:], weights[:, 1:]))
    return made
