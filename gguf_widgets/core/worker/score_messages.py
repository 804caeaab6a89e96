"""The messages about scores: how likely a model finds given tokens.

Promises: no message grows with the text, but ScoreBegun (four bytes for a token); a client says
which pieces it has taken, and so many more may come. Leaves to others: the conversation as a whole
(`protocol`), what they cause (`scores`), the figures (`engine.scoring`).
"""

from __future__ import annotations

from gguf_widgets.core.types import VocabularyFacts
from gguf_widgets.core.worker.message import Message
from gguf_widgets.core.worker.prompt import Prompt

__all__ = [
    "HALVES_WINDOW",
    "LONGEST_DEFAULT_WINDOW",
    "MAX_SCORE_TOKENS",
    "MAX_SCORE_TOP",
    "PIECES_AHEAD",
    "GetVocabulary",
    "Score",
    "ScoreBegun",
    "ScorePiece",
    "ScoreTaken",
    "Scored",
    "VocabularyTold",
]

# Pieces of some 4 MiB are under way to whoever reads scores; what is not taken is not computed.
PIECES_AHEAD = 4

# The tokens of so long a text fit into one message.
MAX_SCORE_TOKENS = 4_000_000

# The likeliest of so many tokens can be told at each place.
MAX_SCORE_TOP = 1000

# llama.cpp's perplexity tool has 512, and most figures that people compare with come from that.
HALVES_WINDOW = 512
# Of a longer window the memory is what counts: it is a second cache, beside that for replies.
LONGEST_DEFAULT_WINDOW = 2048


class Score(Message, frozen=True, kw_only=True, tag=True):
    """Say how likely the model finds a text: `text`, or its `tokens`.

    Parameters
    ----------
    before : Prompt or None
        What stands before it and is not scored. Without it a text begins as a prompt does, with BOS
        where the model wants that; tokens are taken as they are.
    parse_special : bool
        Read control tokens in `text` as such.
    halves : bool or None
        How a long text is cut (`engine.score_windows`); None is ``halves`` if there are at least
        two windows of that kind, and nothing stands before the text.
    n_window : int or None
        The longest window; None is 512 for ``halves`` and up to 2,048 otherwise.
    top : int
        So many of the likeliest tokens are told at each place, at most `MAX_SCORE_TOP`.
    full : bool
        Tell the whole distribution at each place.
    """

    request_id: str
    text: str | None = None
    tokens: list[int] | None = None
    before: Prompt | None = None
    parse_special: bool = False
    halves: bool | None = None
    n_window: int | None = None
    top: int = 0
    full: bool = False


class ScoreTaken(Message, frozen=True, kw_only=True, tag=True):
    """The client has taken so many pieces; as many more may come. It has no answer."""

    request_id: str
    num_pieces: int = 1


class GetVocabulary(Message, frozen=True, kw_only=True, tag=True):
    """Ask what tells the model's vocabulary from others."""

    request_id: str


class ScoreBegun(Message, frozen=True, kw_only=True, tag=True):
    """What is going to be scored.

    `tokens` are all tokens of the text, and of what stands before it, as 32-bit numbers, little
    endian. `num_scored` of them will be told, in `num_windows` windows of at most `n_window`.
    """

    request_id: str
    tokens: bytes
    num_before: int
    num_scored: int
    halves: bool
    n_window: int
    num_windows: int
    n_vocab: int


class ScorePiece(Message, frozen=True, kw_only=True, tag=True):
    """The scores of `count` tokens in a row, beginning with number `first`.

    `logprobs` are `count` numbers; `top_tokens` and `top_logprobs` `count` times `num_top`; `full`
    `count` times n_vocab, or nothing. They are IEEE 754 binary32, the tokens 32-bit whole numbers,
    little endian. `texts` says what tokens look like: each that is in these, once in a request.
    """

    request_id: str
    first: int
    count: int
    num_top: int
    logprobs: bytes
    top_tokens: bytes = b""
    top_logprobs: bytes = b""
    full: bytes = b""
    texts: list[tuple[int, str]] = []


class Scored(Message, frozen=True, kw_only=True, tag=True):
    """The end of the answer to Score; `num_bytes` counts the text of the scored tokens."""

    request_id: str
    num_scored: int
    num_bytes: int


class VocabularyTold(Message, frozen=True, kw_only=True, tag=True):
    """The answer to GetVocabulary."""

    request_id: str
    facts: VocabularyFacts
