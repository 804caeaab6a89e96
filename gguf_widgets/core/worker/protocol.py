"""The messages between a client and a worker.

Promises: every message is a tagged `msgspec` struct of plain data. `Hello`, `Welcome` and `Refused`
are the part that never changes its meaning, so that two versions can still tell each other that
they differ. Leaves to others: proofs (`proof`), bytes (`framing`), sockets (`endpoint`), what a
message causes (`server`, `client`).

A conversation::

    client                          worker
    Hello                     ->
                              <-    Welcome | Refused (and the end)
                              <-    LoadProgress ... while the model loads
                              <-    Ready | LoadFailed (and the end)
    Generate                  ->
                              <-    (PrefillProgress | ImageProgress)*  TextDelta*
                                    then one Finished | Failed
    Tokenize/Detokenize/Render/ShowPrompt/GetTemplateFacts/GetVocabulary/GetStats ->
                              <-    one of Tokens | Text | Rendered | PromptShown | Facts
                                    | VocabularyTold | Stats | Failed
    Embed                     ->
                              <-    Embeddings | Failed
    Score                     ->
                              <-    ScoreBegun, then pieces: at most `PIECES_AHEAD` more
                                    than have been taken
    ScoreTaken                ->
                              <-    ScorePiece*  then one Scored | Failed
    SavePrefix/RestorePrefix  ->
                              <-    Prefix | Failed
    Abort, Ping               ->          (Ping is answered by Pong)
    Leave                     ->
                              <-    Goodbye (and the end)
    Stop                      ->
                              <-    Goodbye to every client (and the end)

    Hello(peek=True)          ->          (only looks: it is no client, and keeps no worker alive)
                              <-    Welcome | Refused (and the end)
                              <-    Status
    Stop                      ->          (or the end)

Every request carries the `request_id` that the client chose; it begins with the `client_id` of the
Welcome, which keeps the ids of all clients apart. Each request gets exactly one terminal message
(`TERMINAL`).
"""

from __future__ import annotations

import msgspec

from gguf_widgets.core.errors import ProtocolError, WireError
from gguf_widgets.core.fit_measured import Measured
from gguf_widgets.core.state_file import PrefixInfo
from gguf_widgets.core.types import (
    EngineStats,
    Failed,
    Finished,
    ImageProgress,
    LoadSettings,
    ModelInfo,
    Pooling,
    PrefillProgress,
    Priority,
    PromptToken,
    SamplingSettings,
    TemplateFacts,
    TextDelta,
)
from gguf_widgets.core.worker import score_messages
from gguf_widgets.core.worker.message import Message
from gguf_widgets.core.worker.prompt import Prompt

__all__ = [
    "MAX_EMBED_TEXTS",
    "PROTOCOL_VERSION",
    "TERMINAL",
    "Abort",
    "ClientInfo",
    "ClientMessage",
    "Detokenize",
    "Embed",
    "Embeddings",
    "Facts",
    "Generate",
    "GetStats",
    "GetTemplateFacts",
    "Goodbye",
    "Hello",
    "Leave",
    "LoadFailed",
    "LoadProgress",
    "Ping",
    "Pong",
    "Prefix",
    "Prompt",
    "PromptShown",
    "Ready",
    "Refused",
    "Render",
    "Rendered",
    "RestorePrefix",
    "SavePrefix",
    "ServerMessage",
    "ShowPrompt",
    "Stats",
    "Status",
    "Stop",
    "Text",
    "Tokenize",
    "Tokens",
    "Welcome",
    "version_mismatch",
]

# Raise this when the meaning of any message below changes.
PROTOCOL_VERSION = 6

# The vectors of so many texts fit into one message also if each has 16,384 numbers.
MAX_EMBED_TEXTS = 256

# --- what a client says ------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True, tag=True):
    """The first message. `proof` shows that its sender could read the worker's secret file.

    `pid` and `program` say who it is, for people who ask who uses the model; `peek` means that it
    only looks, and perhaps stops the worker.
    """

    protocol_version: int
    package_version: str
    nonce: str = ""
    proof: str = ""
    keep_alive_s: float | None = None
    pid: int = 0
    program: str = ""
    peek: bool = False


class Generate(Message, frozen=True, kw_only=True, tag=True):
    """Continue a prompt; without `pieces` only the end is answered, not what comes on the way."""

    request_id: str
    prompt: Prompt
    sampling: SamplingSettings
    priority: Priority = Priority.INTERACTIVE
    pieces: bool = True


class Tokenize(Message, frozen=True, kw_only=True, tag=True):
    """Split a text into tokens."""

    request_id: str
    text: str
    add_special: bool = False
    parse_special: bool = True


class Detokenize(Message, frozen=True, kw_only=True, tag=True):
    """Join tokens into text."""

    request_id: str
    tokens: list[int]


class Render(Message, frozen=True, kw_only=True, tag=True):
    """Turn a prompt into the text the model is given, and count its tokens.

    Without `with_text` they are only counted.
    """

    request_id: str
    prompt: Prompt
    with_text: bool = True


class ShowPrompt(Message, frozen=True, kw_only=True, tag=True):
    """Turn a prompt into the tokens the model is given."""

    request_id: str
    prompt: Prompt


class GetTemplateFacts(Message, frozen=True, kw_only=True, tag=True):
    """Ask what a chat template can do; None is the model's own."""

    request_id: str
    chat_template: str | None = None


class Embed(Message, frozen=True, kw_only=True, tag=True):
    """Turn texts into vectors: at most `MAX_EMBED_TEXTS`; none asks how long a vector is.

    `pooling` None is the model's own. `first_index` is what errors call the first text, since a
    client sends a long list in parts.
    """

    request_id: str
    texts: list[str]
    pooling: Pooling | None = None
    normalize: bool = True
    first_index: int = 0


class SavePrefix(Message, frozen=True, kw_only=True, tag=True):
    """Compute what every prompt begins with that goes on from this one, and write it into a file.

    `path` is a full one: it means the same to the worker, which writes the file.
    """

    request_id: str
    prompt: Prompt
    path: str


class RestorePrefix(Message, frozen=True, kw_only=True, tag=True):
    """Take what SavePrefix wrote into the model's memory."""

    request_id: str
    path: str


class GetStats(Message, frozen=True, kw_only=True, tag=True):
    """Ask what the worker is doing."""

    request_id: str


class Abort(Message, frozen=True, kw_only=True, tag=True):
    """Stop a request; its Finished says "aborted". An id that has ended is ignored."""

    request_id: str


class Ping(Message, frozen=True, kw_only=True, tag=True):
    """Ask for a sign of life."""

    nonce: int


class Leave(Message, frozen=True, kw_only=True, tag=True):
    """The client is done with the model: if it is the last one, the worker ends at once."""


class Stop(Message, frozen=True, kw_only=True, tag=True):
    """End the worker now, whoever uses it. `reason` is shown to the others."""

    reason: str = ""


ClientMessage = (
    Hello
    | Generate
    | Tokenize
    | Detokenize
    | Render
    | ShowPrompt
    | GetTemplateFacts
    | Embed
    | score_messages.Score
    | score_messages.ScoreTaken
    | score_messages.GetVocabulary
    | SavePrefix
    | RestorePrefix
    | GetStats
    | Abort
    | Ping
    | Leave
    | Stop
)


# --- what a worker says ------------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True, tag=True):
    """The answer to a Hello that is understood."""

    protocol_version: int
    package_version: str
    client_id: str
    pid: int
    backend: str
    proof: str = ""


class Refused(Message, frozen=True, kw_only=True, tag=True):
    """The answer to a Hello that is not; the connection ends."""

    protocol_version: int
    package_version: str
    error: WireError


class LoadProgress(Message, frozen=True, kw_only=True, tag=True):
    """How far the loading is: 0 to 1, and a phrase for the screen."""

    fraction: float
    phrase: str


class Ready(Message, frozen=True, kw_only=True, tag=True):
    """The model is loaded. `settings` are the effective ones; `notes` are for the person.

    `memory` is what the loading took; None where nothing was loaded.
    """

    info: ModelInfo
    settings: LoadSettings
    notes: list[str] = []
    memory: Measured | None = None


class LoadFailed(Message, frozen=True, kw_only=True, tag=True):
    """The model did not load; the worker ends."""

    error: WireError


class Tokens(Message, frozen=True, kw_only=True, tag=True):
    """The answer to Tokenize."""

    request_id: str
    tokens: list[int]


class Text(Message, frozen=True, kw_only=True, tag=True):
    """The answer to Detokenize."""

    request_id: str
    text: str


class Rendered(Message, frozen=True, kw_only=True, tag=True):
    """The answer to Render."""

    request_id: str
    text: str
    num_tokens: int


class PromptShown(Message, frozen=True, kw_only=True, tag=True):
    """The answer to ShowPrompt."""

    request_id: str
    tokens: list[PromptToken]


class Facts(Message, frozen=True, kw_only=True, tag=True):
    """The answer to GetTemplateFacts."""

    request_id: str
    facts: TemplateFacts


class Embeddings(Message, frozen=True, kw_only=True, tag=True):
    """The answer to Embed.

    `vectors` are `num_texts` times `n_embd` numbers as IEEE 754 binary32, little endian, a text's
    after the other's; `num_tokens` counts the tokens of all texts.
    """

    request_id: str
    num_texts: int
    n_embd: int
    num_tokens: int
    vectors: bytes


class Prefix(Message, frozen=True, kw_only=True, tag=True):
    """The answer to SavePrefix and RestorePrefix."""

    request_id: str
    info: PrefixInfo


class Stats(Message, frozen=True, kw_only=True, tag=True):
    """The answer to GetStats; `num_requests` counts open requests, those in preparation too."""

    request_id: str
    engine: EngineStats
    num_clients: int
    num_requests: int
    uptime_s: float
    rss_bytes: int


class ClientInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One client of a worker; `pid` is 0 and `program` empty if it did not say."""

    client_id: str
    pid: int
    program: str
    num_requests: int
    connected_s: float


class Status(Message, frozen=True, kw_only=True, tag=True):
    """What the worker is doing, for whoever looks; it comes at once, whatever the engine does.

    `state` is "loading", "ready", "failed" or "leaving". `engine` is None until the model is
    loaded, and `engine_age_s` old: more than nothing if a step of the engine takes long.
    `leaves_in_s` is None while somebody uses the model.
    """

    state: str
    progress: LoadProgress | None
    settings: LoadSettings | None
    clients: list[ClientInfo]
    num_requests: int
    engine: EngineStats | None
    engine_age_s: float
    uptime_s: float
    leaves_in_s: float | None


class Pong(Message, frozen=True, kw_only=True, tag=True):
    """The answer to Ping."""

    nonce: int


class Goodbye(Message, frozen=True, kw_only=True, tag=True):
    """The worker closes this connection on purpose; `ending` says that the process ends too."""

    reason: str
    ending: bool


ServerMessage = (
    Welcome
    | Refused
    | LoadProgress
    | Ready
    | LoadFailed
    | PrefillProgress
    | ImageProgress
    | TextDelta
    | Finished
    | Failed
    | Tokens
    | Text
    | Rendered
    | PromptShown
    | Facts
    | Prefix
    | Embeddings
    | score_messages.ScoreBegun
    | score_messages.ScorePiece
    | score_messages.Scored
    | score_messages.VocabularyTold
    | Stats
    | Status
    | Pong
    | Goodbye
)

TERMINAL = (
    Finished,
    Failed,
    Tokens,
    Text,
    Rendered,
    PromptShown,
    Facts,
    Embeddings,
    score_messages.Scored,
    score_messages.VocabularyTold,
    Prefix,
    Stats,
)

# --- two versions -----------------------------------------------------------------------------


def version_mismatch(theirs: int, their_package: str, *, pid: int | None = None) -> ProtocolError:
    """Return the error for a peer that speaks another version of this protocol."""
    older = "an older" if theirs < PROTOCOL_VERSION else "a newer"
    which = f" (process {pid})" if pid else ""
    return ProtocolError(
        f"The other side{which} is {older} gguf-widgets ({their_package}, protocol {theirs}; this "
        f"one speaks protocol {PROTOCOL_VERSION}). A worker of that version is still running for "
        "another notebook: restart that notebook, or end the process, and try again.",
        theirs=theirs,
        ours=PROTOCOL_VERSION,
    )
