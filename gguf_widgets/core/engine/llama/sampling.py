"""Choosing the next token, natively, by one chain of samplers a sequence.

Promises: without a grammar a token costs one native call. With one, the chain chooses first and the
grammar judges that one token; only when it refuses does it go over the whole vocabulary and the
chain choose again. Going over all of it for each token costs 42 to 45% of the speed; a model that
was asked for JSON is seldom refused. The distribution is the same as with the grammar first only as
long as nothing is refused; llama.cpp's own programs choose in the same order. Leaves to others:
which stages, in which order (`engine.sampler`); what a grammar says (`engine.grammar`).

Each chain has its own random numbers, from the request's seed, so a reply's luck does not depend on
its neighbours.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import llama_cpp as lib
import numpy as np

from gguf_widgets.core.engine import sampler
from gguf_widgets.core.engine.backend import SamplerSpec
from gguf_widgets.core.engine.llama.library import log
from gguf_widgets.core.engine.llama.vocabulary import LlamaVocabulary
from gguf_widgets.core.engine.log_softmax import likeliest
from gguf_widgets.core.errors import DecodeError, GrammarError, InvalidValueError

__all__ = ["LlamaSampler", "Samplers", "likeliest", "log_probabilities", "logits_view"]

_ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

# A run over a table asks for the same grammar in every row; each is parsed once.
_KEPT_GRAMMARS = 16


class Samplers:
    """Makes the chains of one context, and owns what they share.

    Parameters
    ----------
    context : the native context
    vocabulary : LlamaVocabulary
    n_ctx : int
    """

    def __init__(self, context: Any, vocabulary: LlamaVocabulary, n_ctx: int) -> None:
        self.context = context
        self.n_vocab = vocabulary.facts.n_vocab
        self.eog = np.fromiter(vocabulary.facts.eog, np.int32)
        self._vocabulary = vocabulary
        self._n_ctx = n_ctx
        self._open: set[LlamaSampler] = set()
        self._grammars: OrderedDict[str, Any] = OrderedDict()
        self._ids = np.arange(self.n_vocab, dtype=np.int32)
        self._entries = np.zeros(self.n_vocab, _ENTRY)
        self._start: Any = self._entries.ctypes.data_as(ctypes.POINTER(lib.llama_token_data))
        self._candidates = lib.llama_token_data_array(data=self._start)
        self._one = np.zeros(1, _ENTRY)
        self._single = lib.llama_token_data_array(
            data=self._one.ctypes.data_as(ctypes.POINTER(lib.llama_token_data))
        )

    def new(self, spec: SamplerSpec) -> LlamaSampler:
        """See `Backend.new_sampler`."""
        sampling = spec.sampling
        biases = {**self._vocabulary.suppressed, **sampling.logit_bias}
        if sampling.ignore_eos:
            biases.update(dict.fromkeys(self._vocabulary.facts.eog, float("-inf")))
        if sum(bias == float("-inf") for bias in biases.values()) == self.n_vocab:
            raise InvalidValueError(
                "logit_bias, ignore_eos and the model's own file together forbid every token, so"
                " there is nothing to write. Allow some."
            )
        grammar = None if spec.grammar is None else self._grammar(spec.grammar)
        chain = LlamaSampler(self, grammar)
        self._open.add(chain)
        try:
            self._fill_chain(chain, spec, biases)
            if grammar is not None and spec.begin and spec.constrain_begin:
                chain.begin(self._begin_tokens(spec), self._vocabulary.piece)
        except BaseException:
            chain.close()
            raise
        return chain

    def _fill_chain(self, chain: LlamaSampler, spec: SamplerSpec, biases: dict[int, float]) -> None:
        sampling = spec.sampling
        for name, arguments in sampler.plan(
            sampling, spec.seed, self._n_ctx, has_bias=bool(biases)
        ):
            if name == "logit_bias":
                entries = (lib.llama_logit_bias * len(biases))(
                    *(lib.llama_logit_bias(token, bias) for token, bias in biases.items())
                )
                stage = lib.llama_sampler_init_logit_bias(self.n_vocab, len(biases), entries)
            elif name == "dry":
                breakers = [text.encode() for text in sampling.dry_breakers]
                texts = (ctypes.c_char_p * len(breakers))(*breakers)
                stage = lib.llama_sampler_init_dry(
                    self._vocabulary.handle, *arguments, texts, len(breakers)
                )
            elif name in ("penalties", "mirostat"):
                stage = _STAGES[name](self.n_vocab, *arguments)
            else:
                stage = _STAGES[name](*arguments)
            chain.add(stage)
        back = sampler.look_back(sampling, self._n_ctx)
        for token in spec.prompt_tokens[-back:] if back else ():
            chain.remember(token)

    def _begin_tokens(self, spec: SamplerSpec) -> list[int]:
        """Return the tokens of what the reply begins with, to show them to a grammar."""
        if spec.num_begin_tokens:
            return list(spec.prompt_tokens[-spec.num_begin_tokens :])
        # Not the prompt's: there the first may be one with what is before it.
        tokens = self._vocabulary.cut(spec.begin)
        if tokens is None:
            raise InvalidValueError(
                "This model's vocabulary cannot write what the reply is to begin with"
                f" ({spec.begin.decode(errors='replace')!r:.60}) byte by byte, so a schema or a"
                " grammar cannot go on from it. Leave one of them out.",
                problem="begin",
            )
        return tokens

    def closed(self, chain: LlamaSampler) -> None:
        """Forget a chain that has been freed."""
        self._open.discard(chain)

    def close(self) -> None:
        """Free every chain and grammar; a second call does nothing."""
        for chain in list(self._open):
            chain.close()
        while self._grammars:
            lib.llama_sampler_free(self._grammars.popitem()[1])

    # For the chains

    def fill(self, row: int, *, without_end: bool) -> Any:
        """Return all tokens with the logits of a row, as a chain takes them."""
        logits = lib.llama_get_logits_ith(self.context, row)
        entries, candidates = self._entries, self._candidates
        entries["id"] = self._ids
        entries["logit"] = logits_view(logits, self.n_vocab)
        if without_end:
            entries["logit"][self.eog] = -np.inf
        candidates.data = self._start  # XTC moves it past what it leaves out
        candidates.size, candidates.selected, candidates.sorted = self.n_vocab, -1, False
        return candidates

    def allows(self, grammar: Any, token: int) -> bool:
        """Ask a grammar about one token."""
        one, single = self._one, self._single
        one[0] = (token, 1.0, 0.0)
        single.size, single.selected, single.sorted = 1, -1, False
        lib.llama_sampler_apply(grammar, ctypes.byref(single))
        return bool(one["logit"][0] > -np.inf)

    def anything_left(self) -> bool:
        """Say whether a token of the last `fill` has not been ruled out since."""
        return bool(self._entries["logit"].max() > -np.inf)

    def _grammar(self, text: str) -> Any:
        known = self._grammars.get(text)
        if known is None:
            log.forget()
            known = lib.llama_sampler_init_grammar(self._vocabulary.handle, text.encode(), b"root")
            if not known:
                raise GrammarError(
                    "llama.cpp does not take this grammar:"
                    f" {log.reason or 'it gave no reason'}. Check it, or leave it out.",
                    reason=log.reason,
                )
            self._grammars[text] = known
            if len(self._grammars) > _KEPT_GRAMMARS:
                lib.llama_sampler_free(self._grammars.popitem(last=False)[1])
        self._grammars.move_to_end(text)
        return lib.llama_sampler_clone(known)


class LlamaSampler:
    """A native chain, and perhaps a grammar beside it; see `Sampler` for what each method does."""

    __slots__ = ("_chain", "_context", "_grammar", "_shared", "num_refused")

    def __init__(self, shared: Samplers, grammar: Any) -> None:
        params = lib.llama_sampler_chain_default_params()
        params.no_perf = True
        self._chain: Any = lib.llama_sampler_chain_init(params)
        self._grammar = grammar
        self._shared = shared
        self._context = shared.context
        self.num_refused = 0

    def add(self, stage: Any) -> None:
        """Append a native sampler; the chain owns it from now on."""
        lib.llama_sampler_chain_add(self._chain, stage)

    def remember(self, token: int) -> None:
        """Count a token as one that went before."""
        lib.llama_sampler_accept(self._chain, token)

    def begin(self, tokens: Sequence[int], piece: Callable[[int], bytes]) -> None:
        """Move the grammar over what the reply begins with.

        Raises
        ------
        InvalidValueError
            If the grammar does not allow that.
        """
        fits = b""
        for token in tokens:
            # Asked before, each time: llama.cpp ends the process where a grammar takes what it
            # does not allow.
            if token in self._shared.eog or not self._shared.allows(self._grammar, token):
                last = piece(token) or b"a control token"
                raise InvalidValueError(
                    "What the reply is to begin with does not fit its schema or grammar: after"
                    f" {fits.decode(errors='replace')[-60:]!r} there cannot be"
                    f" {last.decode(errors='replace')!r}. Change the beginning, or leave the schema"
                    " or grammar out.",
                    problem="begin",
                    fits=fits.decode(errors="replace"),
                )
            lib.llama_sampler_accept(self._grammar, token)
            fits += piece(token)

    def sample(self, row: int, *, may_end: bool = True) -> int:
        """See `Sampler.sample`."""
        if self._grammar is None and may_end:
            return int(lib.llama_sampler_sample(self._chain, self._context, row))
        shared = self._shared
        token, possible = self._apply(shared.fill(row, without_end=not may_end))
        if self._grammar is None:
            if not possible:
                raise DecodeError(
                    "The reply has to go on (min_tokens), but logit_bias forbids every token other"
                    " than its end. Allow some, or take min_tokens back."
                )
        elif not (possible and shared.allows(self._grammar, token)):
            self.num_refused += 1
            token = self._sample_allowed(row, may_end=may_end)
        lib.llama_sampler_accept(self._chain, token)
        if self._grammar is not None:
            lib.llama_sampler_accept(self._grammar, token)
        return token

    def _sample_allowed(self, row: int, *, may_end: bool) -> int:
        shared = self._shared
        candidates = shared.fill(row, without_end=not may_end)
        lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        if not may_end and not shared.anything_left():
            # The grammar says that the reply ends here, so it is shorter than `min_tokens`.
            candidates = shared.fill(row, without_end=False)
            lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        token, possible = self._apply(candidates)
        if not possible:
            raise DecodeError(
                "No token of this model fits the schema or grammar at this place of the reply."
                " If logit_bias forbids tokens, allow them; otherwise loosen the schema."
            )
        return token

    def _apply(self, candidates: Any) -> tuple[int, bool]:
        """Let the chain choose; also say whether what it chose was possible at all."""
        lib.llama_sampler_apply(self._chain, ctypes.byref(candidates))
        chosen = candidates.data[candidates.selected]
        return int(chosen.id), chosen.logit > -np.inf

    def close(self) -> None:
        """See `Sampler.close`."""
        if self._chain is not None:
            lib.llama_sampler_free(self._chain)
            self._chain = None
            if self._grammar is not None:
                lib.llama_sampler_free(self._grammar)
                self._grammar = None
            self._shared.closed(self)


@lru_cache(1)
def _row_type(n_vocab: int) -> Any:
    return ctypes.c_float * n_vocab


def logits_view(pointer: Any, n_vocab: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a native row of logits as an array, without copying it.

    `numpy.ctypeslib.as_array` makes a new type of pointer each time, which takes longer than all
    the rest.
    """
    row = _row_type(n_vocab).from_address(ctypes.addressof(pointer.contents))
    return np.frombuffer(row, np.float32)


def log_probabilities(
    logits: np.ndarray[Any, np.dtype[np.float32]], token: int, num_top: int
) -> tuple[float, list[tuple[int, float]]]:
    """Return a token's log probability, and the likeliest tokens with theirs.

    Parameters
    ----------
    logits : ndarray of float32, shape (n_vocab,)
    token : int
    num_top : int

    Notes
    -----
    ``logprob(t) = logit(t) - log(sum(exp(logit)))``.
    """
    top = likeliest(logits, num_top) if num_top > 0 else []
    highest = logits[top[0]] if top else logits.max()
    shifted = logits - highest
    np.exp(shifted, out=shifted)
    # numpy adds up in pairs: with 150,000 numbers that is as good as double precision, and quicker.
    total = float(np.log(float(shifted.sum()))) + float(highest)
    return float(logits[token]) - total, [(t, float(logits[t]) - total) for t in top]


_STAGES: dict[str, Callable[..., Any]] = {
    "penalties": lib.llama_sampler_init_penalties,
    "top_n_sigma": lib.llama_sampler_init_top_n_sigma,
    "top_k": lib.llama_sampler_init_top_k,
    "typical": lib.llama_sampler_init_typical,
    "top_p": lib.llama_sampler_init_top_p,
    "min_p": lib.llama_sampler_init_min_p,
    "xtc": lib.llama_sampler_init_xtc,
    "temp": lib.llama_sampler_init_temp,
    "mirostat": lib.llama_sampler_init_mirostat,
    "mirostat_v2": lib.llama_sampler_init_mirostat_v2,
    "dist": lib.llama_sampler_init_dist,
    "greedy": lib.llama_sampler_init_greedy,
}
