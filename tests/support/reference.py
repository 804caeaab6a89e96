"""What llama.cpp itself says: the same model in `llama_cpp.Llama`, alone, one token a call.

Promises: `Reference.logits` are those before each token of a reply, computed alone in a context of
its own with the engine's number formats, whoever chose the tokens; `Reference.judge` goes through
a whole reply of the engine, token by token, and hides nothing. Rounding makes it impossible that
two orders of adding up always give the same token, so the rule is:

- each token of the engine is the reference's likeliest after the same tokens, or its logit is less
  than `bound` below that one's: a **near tie**. Near ties are counted, and told after the tests;
- each log probability that the engine reports, its alternatives' too, differs by less than `bound`;
- the reply ends where the reference would end it, and its text is the reference's text.

Since the reference follows the engine's tokens, what comes after a near tie is judged as strictly
as what came before. Leaves to others: what is asked of the engine.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.types import FinishReason, LoadSettings, Reply, SamplingSettings

__all__ = ["EXACT", "Reference", "Tally", "bound", "exact_bound"]

Logits = NDArray[np.float32]

GGML_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}
_ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # a candidate

EXACT = {"type_k": "f32", "type_v": "f32", "flash_attn": False}
"""Settings in which hardly anything is rounded: what is wrong shows at once."""


def exact_bound(kind: str) -> float:
    """Return how far apart logits may be with F32 matrices and `EXACT`.

    Measured: up to 1e-5 apart in thousands of tokens among 31 neighbours. Gemma's GELU is looked up
    in a table of F16 numbers, which makes steps of what is nearly equal: up to 1.5e-3.
    """
    return 5e-3 if kind == "gemma3" else 1e-4


def bound(number_format: str) -> float:
    """Return how far apart logits may be with llama.cpp's usual settings.

    Measured, among 31 neighbours: F32 and F16 up to 0.025 (the cells are F16, and flash attention
    adds up in F16, in the order in which cells lie); Q8_0 up to 0.17, since inputs are rounded to
    8 bits. With experts, Q8_0 can send a token to another expert, and then differs at will.
    """
    return 0.5 if number_format == "q8_0" else 0.1


@dataclass
class Tally:
    """What comparing replies has come to, in numbers.

    Attributes
    ----------
    num_tokens : int
        Compared with the reference's choice.
    num_near_ties : int
        Of these, chosen otherwise where two were within the bound.
    widest_tie : float
        How far apart the logits of such two were, at most.
    largest_difference : float
        Of a log probability from the reference's.
    """

    num_tokens: int = 0
    num_near_ties: int = 0
    widest_tie: float = 0.0
    largest_difference: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.num_tokens + other.num_tokens,
            self.num_near_ties + other.num_near_ties,
            max(self.widest_tie, other.widest_tie),
            max(self.largest_difference, other.largest_difference),
        )

    def __str__(self) -> str:
        return (
            f"{self.num_tokens} tokens, {self.num_near_ties} chosen otherwise in a near tie"
            f" (at most {self.widest_tie:.1e} apart);"
            f" log probabilities up to {self.largest_difference:.1e} apart"
        )


class Reference:
    """One model in a `llama_cpp.Llama` of its own.

    Parameters
    ----------
    path : Path
    settings : LoadSettings
        The engine's effective ones: number formats, flash attention and threads are taken over.
    n_ctx : int, default 1024

    Attributes
    ----------
    tally : Tally
        Of all that `judge` has seen.
    """

    def __init__(self, path: Path, settings: LoadSettings, n_ctx: int = 1024) -> None:
        self._llama = llama_cpp.Llama(
            str(path),
            n_ctx=n_ctx,
            n_batch=n_ctx,
            n_ubatch=n_ctx,
            n_threads=settings.n_threads,
            n_threads_batch=settings.n_threads,
            type_k=GGML_TYPES[settings.type_k or "f16"],
            type_v=GGML_TYPES[settings.type_v or "f16"],
            flash_attn=bool(settings.flash_attn),
            verbose=False,
        )
        self._vocab = self._llama._model.vocab
        self._n_vocab = self._llama.n_vocab()
        # For each prompt, the tokens that were followed last, and the logits before each.
        self._known: dict[tuple[int, ...], tuple[list[int], list[Logits]]] = {}
        self.tally = Tally()

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

    def ends(self, token: int) -> bool:
        """Say whether a token ends a reply."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def text(self, tokens: Iterable[int]) -> str:
        """Return the text of a reply's tokens."""
        pieces = (self._llama.detokenize([token]) for token in tokens)
        return b"".join(pieces).decode("utf-8", "replace")

    def logits(self, prompt: Sequence[int], reply: Sequence[int]) -> list[Logits]:
        """Return the logits before each token of a reply, and those after the last."""
        tokens, rows = self._known.get(tuple(prompt), ([], []))
        if len(rows) <= len(reply) or tokens[: len(reply)] != list(reply):
            tokens, rows = list(reply), []
            self._llama.reset()
            self._llama.eval(prompt)
            for token in tokens:
                rows.append(self._row())
                self._llama.eval([token])
            rows.append(self._row())
            self._known[tuple(prompt)] = (tokens, rows)
        return rows[: len(reply) + 1]

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return what `llama_cpp.Llama.generate` writes at temperature 0, to its end at most."""
        reply: list[int] = []
        self._llama.reset()
        for token in self._llama.generate(list(prompt), temp=0.0):
            if self.ends(token) or len(reply) == count:
                break
            reply.append(token)
        return reply

    def sampled(
        self, prompt: Sequence[int], reply: Sequence[int], sampling: SamplingSettings, seed: int
    ) -> list[int]:
        """Return what the reference draws at each place of a reply, with llama.cpp's own chain."""
        lib = llama_cpp
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for stage in (
            lib.llama_sampler_init_top_k(sampling.top_k),
            lib.llama_sampler_init_top_p(sampling.top_p, 1),
            lib.llama_sampler_init_min_p(sampling.min_p, 1),
            lib.llama_sampler_init_temp(sampling.temperature),
            lib.llama_sampler_init_dist(seed),
        ):
            lib.llama_sampler_chain_add(chain, stage)
        try:
            return [self._draw(chain, row) for row in self.logits(prompt, reply)[: len(reply)]]
        finally:
            lib.llama_sampler_free(chain)

    def judge(
        self,
        prompt: Sequence[int],
        reply: Reply,
        *,
        bound: float,
        max_tokens: int,
        bias: dict[int, float] | None = None,
        greedy: bool = True,
    ) -> None:
        """Compare a reply of the engine, that reports log probabilities, by the rule above.

        Parameters
        ----------
        prompt : sequence of int
        reply : Reply
        bound : float
        max_tokens : int
            How many there was room for.
        bias : dict of int to float, optional
            What the request added to logits.
        greedy : bool, default True
            Whether the likeliest token was asked for; if not, only the log probabilities count.
        """
        assert reply.logprobs is not None
        tokens = [entry.token for entry in reply.logprobs]
        assert len(tokens) == reply.usage.num_completion_tokens <= max_tokens
        assert reply.text == _until_stop(self.text(tokens), reply.stop_string)
        rows = self.logits(prompt, tokens)
        for entry, row in zip(reply.logprobs, rows, strict=False):
            expected = _log_softmax(row)
            reported = {entry.token: entry.logprob} | {one.token: one.logprob for one in entry.top}
            off = max(abs(expected[token] - value) for token, value in reported.items())
            assert off <= bound, f"log probabilities {off:.4f} apart, where {bound} is rounding"
            self.tally += Tally(largest_difference=off)
        if greedy:
            for token, row in zip(tokens, rows, strict=False):
                self._judge_choice(_biased(row, bias), {token}, bound)
        if reply.finish_reason is FinishReason.LENGTH:
            assert len(tokens) == max_tokens
        elif greedy and reply.finish_reason is FinishReason.STOP and reply.stop_string is None:
            ends = {token for token in range(self._n_vocab) if self.ends(token)}
            self._judge_choice(_biased(rows[-1], bias), ends, bound)

    def _judge_choice(self, row: Logits, chosen: set[int], bound: float) -> None:
        gap = float(row.max() - max(row[token] for token in chosen))
        assert gap <= bound, f"a token that is {gap:.4f} less likely, where {bound} is rounding"
        self.tally += Tally(1, int(gap > 0), gap)

    def _row(self) -> Logits:
        logits = llama_cpp.llama_get_logits_ith(self._llama.ctx, -1)
        return np.ctypeslib.as_array(logits, (self._n_vocab,)).copy()

    def _draw(self, chain: Any, row: Logits) -> int:
        entries = np.zeros(self._n_vocab, _ENTRY)
        entries["id"] = np.arange(self._n_vocab)
        entries["logit"] = row
        candidates = llama_cpp.llama_token_data_array(
            data=entries.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
            size=self._n_vocab,
            selected=-1,
            sorted=False,
        )
        llama_cpp.llama_sampler_apply(chain, ctypes.byref(candidates))
        return int(entries["id"][candidates.selected])


def _log_softmax(row: Logits) -> NDArray[np.float64]:
    exact = row.astype(np.float64)
    return exact - np.logaddexp.reduce(exact)


def _biased(row: Logits, bias: dict[int, float] | None) -> Logits:
    row = row.copy()
    for token, value in (bias or {}).items():
        row[token] += value
    return row


def _until_stop(text: str, stop: str | None) -> str:
    return text if stop is None else text.partition(stop)[0]
