"""What the engine needs from a runtime, and nothing more.

Promises: everything the engine calls is in `Backend`, so that the engine runs the same on llama.cpp
(`llama/`) and on scripted replies (`scripted.py`). Leaves to others: every decision about which
tokens are computed when (`scheduler.py`) and where they are kept (`kv_cache.py`).

Threads: one thread owns a backend and calls everything here. Only `interrupt`, `tokenize`,
`detokenize`, `token_to_piece`, `vocabulary_digest` and the plain attributes may be used by other
threads meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.embedding_backend import Embedder
from gguf_widgets.core.engine.scoring_backend import Scorer
from gguf_widgets.core.engine.vision import Vision
from gguf_widgets.core.types import GenerateRequest, LoadSettings, SamplingSettings

__all__ = [
    "Backend",
    "BatchArrays",
    "DecodeStatus",
    "LoadProgress",
    "Memory",
    "MemoryKind",
    "Sampler",
    "SamplerSpec",
    "Vocabulary",
]

LoadProgress = Callable[[float], bool]
"""Called with the fraction loaded, 0 to 1; answering False cancels the load."""


class DecodeStatus(IntEnum):
    """How `Backend.decode` ended; the values are llama_decode's."""

    OK = 0
    NO_ROOM = 1  # no free cells; the memory is as it was before the call
    ABORTED = 2  # interrupted; part of the batch may be in the memory
    INVALID = -1  # the batch was refused; the memory is as it was before the call
    FAILED = -2  # the computation failed; part of the batch may be in the memory

    @classmethod
    def from_code(cls, code: int) -> DecodeStatus:
        """Name a return code of llama_decode; an unknown positive code counts as a failure."""
        if code in (0, 1, 2, -1):
            return cls(code)
        return cls.FAILED


@dataclass(frozen=True, slots=True)
class BatchArrays:
    """The arrays of one batch, each of length ``n_batch``, filled in place before each decode.

    Attributes
    ----------
    tokens, positions, seq_ids : ndarray of int32
        The token, its position in its sequence, and the slot (``seq_id``) it belongs to.
    logits : ndarray of int8
        1 for the rows whose next token will be sampled.
    """

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    seq_ids: NDArray[np.int32]
    logits: NDArray[np.int8]

    @classmethod
    def empty(cls, n_batch: int) -> BatchArrays:
        """Make arrays for batches of up to `n_batch` tokens."""
        return cls(
            np.zeros(n_batch, np.int32),
            np.zeros(n_batch, np.int32),
            np.zeros(n_batch, np.int32),
            np.zeros(n_batch, np.int8),
        )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What is fixed about a model's tokens.

    Attributes
    ----------
    n_vocab : int
    bos, eos : int
        Token ids; -1 where the model has none.
    bos_text, eos_text : str
        How these tokens are written in a chat template; "" where there is none.
    add_bos : bool
        Whether a prompt begins with `bos`.
    eog : frozenset of int
        The tokens that end a reply.
    control_texts : tuple of str
        How the control tokens are written ("<|im_end|>"); a person's text may hold them by chance
        or on purpose, and must then not be read as the control tokens themselves.
    """

    n_vocab: int
    bos: int = -1
    eos: int = -1
    bos_text: str = ""
    eos_text: str = ""
    add_bos: bool = False
    eog: frozenset[int] = frozenset()
    control_texts: tuple[str, ...] = field(default=(), repr=False)


class MemoryKind(Enum):
    """What can be done with the tokens in a slot."""

    ATTENTION = auto()  # cut anywhere; any beginning can be shared with another slot
    WINDOW = auto()  # the same, unless early positions have been let go: they are looked for
    RECURRENT = auto()  # a running state (hybrid models, too): kept, copied and emptied whole


class Memory(NamedTuple):
    """A context's memory.

    `n_slots` counts the ``seq_id``s, at least as many as sequences run at once; `n_outputs` the
    rows of a batch whose next token can be asked for; `window` is how far a sliding window looks
    back, in tokens (a running state may have one beside it). With `own_cells` each slot has
    ``n_ctx`` cells of its own (``kv_unified=False``), otherwise there are ``n_ctx`` for all.
    """

    kind: MemoryKind
    n_slots: int
    n_outputs: int
    window: int = 0
    own_cells: bool = False


class SamplerSpec(NamedTuple):
    """What a sampler chain is made of; `grammar` is GBNF that has been checked.

    The reply begins with `begin`, which the prompt ends with; see `GenerateRequest`.
    """

    sampling: SamplingSettings
    seed: int
    prompt_tokens: Sequence[int]
    grammar: str | None = None
    begin: bytes = b""
    num_begin_tokens: int = 0
    constrain_begin: bool = True

    @classmethod
    def of(cls, request: GenerateRequest, seed: int, prompt_tokens: Sequence[int]) -> SamplerSpec:
        """Make that of a request; of its prompt's tokens, those of images are left out."""
        return cls(
            request.sampling,
            seed,
            prompt_tokens,
            request.grammar,
            request.begin,
            request.num_begin_tokens,
            request.constrain_begin,
        )


class Sampler(Protocol):
    """One sequence's chain of samplers: it remembers what it has chosen."""

    def sample(self, row: int, *, may_end: bool = True) -> int:
        """Choose the next token from row `row` of the last decoded batch, and remember it.

        Without `may_end` the tokens that end a reply are left out (unless a grammar is complete and
        nothing else can follow).

        Raises
        ------
        DecodeError
            If no token is possible: what the grammar allows, something else forbids.
        """

    def close(self) -> None:
        """Free what the native side holds; a second call does nothing."""


class Backend(Protocol):
    """A loaded model with a context.

    One that only turns texts into vectors has no context to decode with: of what is below it has
    text and the plain attributes.

    Attributes
    ----------
    name : str
        "llama.cpp" or "scripted".
    settings : LoadSettings
        The effective settings: nothing is None except, possibly, `chat_template` and `mmproj`.
    vocabulary : Vocabulary
    memory : Memory
    chat_template : str or None
        The model's own chat template.
    tool_template : str or None
        Another one of its own, which is for conversations with tools ("tool_use").
    batch : BatchArrays
        Filled by the engine before each `decode`.
    can_write : bool
        Whether it can continue a text.
    embedder : Embedder or None
        Turns texts into vectors; None where there is no model at all.
    scorer : Scorer or None
        Says how likely given tokens are; None where it cannot write, or there is no model at all.
    vision : Vision or None
        Lets the model see; None where there is no projector.
    state_format : str
        How the state of a slot is written: it can be read back where this is the same.
    """

    name: str
    settings: LoadSettings
    vocabulary: Vocabulary
    memory: Memory
    chat_template: str | None
    tool_template: str | None
    batch: BatchArrays
    can_write: bool
    embedder: Embedder | None
    scorer: Scorer | None
    vision: Vision | None
    state_format: str

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Cut text into tokens, adding neither BOS nor EOS.

        With `parse_special`, the text of a control token becomes that token.

        Raises
        ------
        InvalidValueError
            For text that is not valid Unicode (lone surrogates).
        """

    def detokenize(self, tokens: Sequence[int], *, special: bool) -> str:
        """Turn tokens into text; with `special`, control tokens are written out."""

    def token_to_piece(self, token: int) -> bytes:
        """Return a token's bytes, which may be part of a character; b"" for control tokens."""

    def vocabulary_digest(self) -> str:
        """Return a digest that two models share if each token is the same in both."""

    def decode(self, num_tokens: int) -> int:
        """Compute the first `num_tokens` rows of `batch`; return llama_decode's code."""

    def decode_images(self, num_rows: int) -> int:
        """Compute the first `num_rows` rows of `vision.batch`; return llama_decode's code."""

    def new_sampler(self, spec: SamplerSpec) -> Sampler:
        """Make the sampler chain of a new sequence; see `sampler.plan`.

        Raises
        ------
        GrammarError
            If the runtime does not take the grammar.
        InvalidValueError
            If what the reply is to begin with does not fit it.
        """

    def logprobs(self, row: int, token: int, num_top: int) -> tuple[float, list[tuple[int, float]]]:
        """Return a token's log probability after a row, and the `num_top` likeliest with theirs.

        Of the last decoded batch; the model's own, before any sampler.
        """

    def seq_rm(self, seq_id: int, start: int) -> bool:
        """Forget the tokens of a slot from position `start` on; False if it cannot be cut there.

        Removing all of them (`start` 0) always works.
        """

    def seq_cp(self, source: int, target: int, start: int, end: int) -> None:
        """Let `target` hold the tokens of `source` at positions `start` to `end`, too.

        Nothing is copied where slots share cells; where each has its own, `target` gets copies of
        all tokens up to `end`. A running state has no parts: it is copied whole, which is right
        only if `end` is the number of tokens in `source`.
        """

    def seq_pos_min(self, seq_id: int) -> int:
        """Return the first position a slot remembers; -1 when it is empty."""

    def seq_pos_max(self, seq_id: int) -> int:
        """Return the last position a slot remembers; -1 when it is empty."""

    def state_seq_get(self, seq_id: int) -> NDArray[np.uint8]:
        """Return a copy of what a slot's memory holds.

        Raises
        ------
        DecodeError
            If it cannot be had.
        """

    def state_seq_set(self, seq_id: int, state: NDArray[np.uint8]) -> bool:
        """Fill an empty slot with what `state_seq_get` gave; False if that went wrong.

        Part of it may be there then. There have to be enough free cells.
        """

    def interrupt(self) -> None:
        """Make the decode that runs now, or else the next one, return `ABORTED` soon.

        Any thread may call this.
        """

    def clear_interrupt(self) -> None:
        """Take `interrupt` back."""

    def close(self) -> None:
        """Free the model and its context; a second call does nothing."""
