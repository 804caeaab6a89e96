"""Sentences to batches of tokens, block by block.

Promises: block number n depends on the seed and on n alone, so a training run can go on where it
stopped. Rows of one batch have nearly the same length, so little is padding, and no row holds
more than one conversation: a model never sees the end of one conversation while it reads the
next.

Leaves to others: what is said (`sentences`), what is learned from it (`train`).
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor

from gguf_widgets.demo.chatml import END, END_OF_TEXT, START, render
from gguf_widgets.demo.sentences.conversations import conversation

CONVERSATIONS_A_BLOCK = 1024


def answer_mask(ids: list[int], start: int, end: int, assistant: list[int]) -> list[bool]:
    """Say for each token whether the model has to produce it: answers and their end marks."""
    mask = [False] * len(ids)
    inside = False
    position = 0
    while position < len(ids):
        if (
            ids[position] == start
            and ids[position + 1 : position + 1 + len(assistant)] == assistant
        ):
            inside = True
            position += 1 + len(assistant)
            continue
        mask[position] = inside
        if ids[position] == end:
            inside = False
        position += 1
    return mask


def block(
    tokenizer: Any, seed: int, number: int, copying_share: float, tokens_a_batch: int, longest: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return the batches of one block.

    Parameters
    ----------
    tokenizer
        A `tokenizers.Tokenizer`.
    seed, number
        Decide the sentences.
    copying_share
        Share of conversations that are copying exercises.
    tokens_a_batch
        About how many tokens a batch holds, padding included.
    longest
        Conversations with more tokens are left out.

    Returns
    -------
    list of tuple
        Tokens, the tokens that should follow, and which of those belong to an answer.
    """
    rng = Random(f"block {seed} {number}")
    texts = [
        render(conversation(rng, "train", copying_share=copying_share))
        for _ in range(CONVERSATIONS_A_BLOCK)
    ]
    rows = sorted(
        (e.ids for e in tokenizer.encode_batch_fast(texts) if len(e.ids) <= longest), key=len
    )
    start, end, padding = (tokenizer.token_to_id(token) for token in (START, END, END_OF_TEXT))
    assistant = tokenizer.encode("assistant\n").ids
    groups: list[list[list[int]]] = [[]]
    for row in rows:
        if groups[-1] and (len(groups[-1]) + 1) * len(row) > tokens_a_batch:
            groups.append([])
        groups[-1].append(row)
    rng.shuffle(groups)
    made = []
    for group in groups:
        width = max(map(len, group))
        tokens = torch.full((len(group), width), padding, dtype=torch.long)
        answers = torch.zeros((len(group), width), dtype=torch.bool)
        for i, row in enumerate(group):
            tokens[i, : len(row)] = torch.tensor(row)
            answers[i, : len(row)] = torch.tensor(answer_mask(row, start, end, assistant))
        made.append(
            (tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), answers[:, 1:].contiguous())
        )
    return made
