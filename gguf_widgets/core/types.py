"""The plain data that the layers hand to each other.

Promises: immutable values with the field's standard names and units, the same in the notebook, on
the worker's socket and in the store (each is a `msgspec.Struct`, so encoding and checking come with
it). Leaves to others: every behaviour beyond checking its own values.

Times are in seconds of `time.perf_counter`, sizes in bytes, lengths in tokens unless a name says
otherwise.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NotRequired, TypedDict

import msgspec

from gguf_widgets.core.errors import WireError
from gguf_widgets.core.images import Image
from gguf_widgets.core.settings import LoadSettings, SamplingSettings, Value

__all__ = [
    "EngineStats",
    "Failed",
    "FinishReason",
    "Finished",
    "GenerateRequest",
    "GenerationEvent",
    "ImagePart",
    "ImageProgress",
    "ImageSpan",
    "LoadSettings",
    "Message",
    "ModelInfo",
    "Pooling",
    "PrefillProgress",
    "Priority",
    "PromptToken",
    "Reply",
    "SamplingSettings",
    "TemplateFacts",
    "TextDelta",
    "TextPart",
    "Timings",
    "TokenChance",
    "TokenLogprob",
    "ToolRequest",
    "Usage",
    "VocabularyFacts",
]


class FinishReason(StrEnum):
    """Why a reply ended."""

    STOP = "stop"  # the model ended it, or a stop string was met
    LENGTH = "length"  # max_tokens or the end of the context was reached
    ABORTED = "aborted"  # a person or a program stopped it
    ERROR = "error"  # it failed; what had arrived is kept


class Priority(StrEnum):
    """Who goes first where not everybody can."""

    INTERACTIVE = "interactive"  # somebody is waiting for the answer
    BATCH = "batch"  # work on a table


class Pooling(StrEnum):
    """How one vector is made from those of a text's tokens."""

    MEAN = "mean"
    LAST = "last"  # the last token's; where tokens see only those before, it has seen them all
    CLS = "cls"  # the first token's


class TextPart(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """A text in a message that holds images, too."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image", tag_field="type"):
    """An image in a message: the bytes of a file that `images.Image` takes."""

    data: bytes


class ToolRequest(TypedDict):
    """A model's wish to have a tool called: its name, and arguments that are JSON."""

    id: str
    name: str
    arguments: dict[str, Any]


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it.

    A message with images has `parts`, in order; its `content` is then their texts alone, for
    whoever knows of no images. An answer that asked for tools has `tool_calls`; what a tool gave
    is a message of the role "tool" whose `tool_call_id` and `name` say which call it answers. The
    thoughts before an answer can be given as `reasoning_content`, for templates that want them.
    """

    role: str
    content: str
    parts: NotRequired[list[TextPart | ImagePart]]
    tool_calls: NotRequired[list[ToolRequest]]
    reasoning_content: NotRequired[str]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


class ModelInfo(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a model from its file's header.

    `quantization` is the name people use ("Q4_K_M", "Q8_0", "F16"); `num_experts` is 0 for a dense
    model; `path` is the first part of a split model and `size_bytes` counts all parts.
    """

    path: str
    name: str
    architecture: str
    size_bytes: int
    num_parameters: int
    quantization: str
    n_ctx_train: int
    n_vocab: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_embd: int
    num_experts: int = 0
    num_files: int = 1
    chat_template: str | None = None
    description: str | None = None
    author: str | None = None
    license: str | None = None
    url: str | None = None
    backend: str = "llama.cpp"  # or "scripted" in demo mode


class TokenChance(msgspec.Struct, frozen=True, array_like=True):
    """A token and how likely the model thought it: the natural logarithm of its probability."""

    token: int
    text: str
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token that was written, its log probability, and the likeliest at that place.

    `text` is the token's own bytes as text; where it holds part of a character, U+FFFD stands for
    that. `top` is sorted, the likeliest first, and holds the token itself only if it is among them.
    """

    token: int
    text: str
    logprob: float
    top: list[TokenChance] = []


class PromptToken(msgspec.Struct, frozen=True, array_like=True):
    """A token of a prompt as the model is given it.

    `text` is what it adds to the prompt's text: whole characters, so that one which is written with
    several tokens comes with the last of these. `is_control` says that it is no text but a mark
    such as ``<|im_end|>``, which is then how `text` shows it. An image is one entry: its `token` is
    -1, and its `text` says what it is ("[image 1: 16 tokens]").
    """

    token: int
    text: str
    is_control: bool = False


class VocabularyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one vocabulary from another.

    Attributes
    ----------
    n_vocab : int
        How many tokens there are.
    digest : str
        The same for two models if each token is the same in both (its bytes and its kind), so that
        their tokens and probabilities can be compared one by one.
    bos : int
        The token that a text begins with; -1 if the model wants none.
    ends : tuple of int
        The tokens that end a reply.
    """

    n_vocab: int
    digest: str
    bos: int = -1
    ends: tuple[int, ...] = ()


class TemplateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat template can do, found by trying it.

    Attributes
    ----------
    native_tools : bool
        It writes the tools it is given, the model's calls and what came of them. Where it does not,
        tools have to be described in words of a message, and calls and results are sent as text.
    takes_system : bool
        It has a place for a system prompt. Where it has none, the system prompt is put in front of
        the first message of the person.
    takes_turns : bool
        It demands that the person and the model take turns; messages of one role in a row are
        joined then.
    opens_thinking : bool
        The prompt ends inside a block of thoughts, so that a reply begins in the middle of one:
        what a reply is to begin with (`begin_with`) belongs to the thoughts, too.
    thinking_open : str or None
        The mark that does that ("<think>").
    thinking_variable : str or None
        The name of the template's variable that switches thinking on and off
        ("enable_thinking"): ``template_variables={name: False}``.
    thinking_levels : tuple of str
        Where it is no switch but a degree ("reasoning_effort"): what it can be.
    notes : tuple of str
        What a person should know of this: full sentences, often none.
    """

    native_tools: bool = False
    takes_system: bool = True
    takes_turns: bool = False
    opens_thinking: bool = False
    thinking_open: str | None = None
    thinking_variable: str | None = None
    thinking_levels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_thinking_switch(self) -> bool:
        """Whether thinking can be switched off."""
        return self.thinking_variable is not None and not self.thinking_levels


class Usage(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token counts of one request.

    `num_cached_tokens` is the part of the prompt that was taken over instead of computed. What a
    reply was told to begin with is part of its prompt here: the completion is what was generated.
    """

    num_prompt_tokens: int
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0

    @property
    def num_context_tokens(self) -> int:
        """Cells of the context this request filled: its prompt and its reply."""
        return self.num_prompt_tokens + self.num_completion_tokens


class Timings(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long one request took, measured in the worker, in seconds.

    Formulas: ``ttft_s = queue_s + prefill_s`` up to the first token sampled;
    ``decode_tok_per_s = (num_completion_tokens - 1) / decode_s``;
    ``prefill_tok_per_s = (num_prompt_tokens - num_cached_tokens) / prefill_s``. A rate is None
    where it has no meaning (one token, no time).

    ``itl_p50_s``, ``itl_p95_s`` and ``itl_p99_s`` are quantiles of the inter-token latency: the
    time from one token of the reply to the next, both as they were sampled, so that what the reply
    waited for in between (other replies' prompts, its own being put back) is in it. Guessed tokens
    that come together (``n_draft``) have next to none. Between two values they are interpolated
    linearly; below two tokens they are None.
    """

    queue_s: float
    prefill_s: float
    decode_s: float
    ttft_s: float | None
    total_s: float
    prefill_tok_per_s: float | None = None
    decode_tok_per_s: float | None = None
    itl_p50_s: float | None = None
    itl_p95_s: float | None = None
    itl_p99_s: float | None = None


class Reply(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of one request.

    `text` begins with what the reply was told to begin with, if it was. `seed` is the one that was
    used, also when none was asked for. `stop_string` is the stop string that ended the reply, if
    one did. `logprobs` has one entry for each token that was generated, if they were asked for; the
    token that ended the reply (end of reply) is not among them.

    `tokens` are those that were generated, again without the one that ended the reply: what another
    reply can be told to begin with (`begin_with`). None where they were not kept.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    seed: int
    stop_string: str | None = None
    logprobs: list[TokenLogprob] | None = None
    tokens: list[int] | None = None

    def __str__(self) -> str:
        return self.text


class ImageSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Where an image, or a part of one that is cut up, stands in a prompt's tokens.

    From `start` on `num_tokens` of the prompt's tokens are the same number, below 0, which stands
    for this part of this image and nothing else. Among the model's positions they take
    `num_positions`. `part` counts the parts of an image from 0, and `number` the prompt's images.
    """

    start: int
    num_tokens: int
    num_positions: int
    image: Image
    part: int = 0
    number: int = 0

    @property
    def end(self) -> int:
        """The first token behind it."""
        return self.start + self.num_tokens


class GenerateRequest(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the engine is asked to do: continue these tokens.

    `request_id` is unique within a worker; `client_id` names the connection it came by. `grammar`
    is what became of the settings' schema or grammar (GBNF), checked. `images` are in order.

    `begin` is what the reply is told to begin with: bytes, which may end in the middle of a
    character. The prompt ends with it, and the reply's text begins with it. Where it was given as
    tokens, these are the last `num_begin_tokens` of the prompt's; otherwise that is 0. The grammar
    covers it with `constrain_begin`.
    """

    request_id: str
    client_id: str
    prompt_tokens: list[int]
    sampling: SamplingSettings = SamplingSettings()
    priority: Priority = Priority.INTERACTIVE
    grammar: str | None = None
    images: tuple[ImageSpan, ...] = ()
    begin: bytes = b""
    num_begin_tokens: int = 0
    constrain_begin: bool = True


# The events of one request, in order: any number of PrefillProgress and ImageProgress, any number
# of TextDelta, then exactly one of Finished or Failed. They are what the engine returns and what
# crosses the socket.


class PrefillProgress(Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """How much of the prompt has been computed."""

    request_id: str
    num_done: int
    num_total: int


class ImageProgress(Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """How much of an image has been read: `fraction` is 0 when it begins and 1 at its end.

    `number` counts the images of the prompt from 1. One that was read lately is not read again,
    and nothing is said of it.
    """

    request_id: str
    number: int
    num_images: int
    fraction: float


class TextDelta(Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The next piece of text: whole characters, and never part of a stop string.

    The first begins with what the reply was told to begin with. `num_completion_tokens` counts from
    the start of what is generated; `logprobs` are those of the tokens since the last piece, if they
    were asked for.
    """

    request_id: str
    text: str
    num_completion_tokens: int
    logprobs: list[TokenLogprob] = []

    def __str__(self) -> str:
        return self.text


class Finished(Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The end of a request that ran: stop, length or aborted."""

    request_id: str
    reply: Reply


class Failed(Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The end of a request that failed; the text sent so far stays with the client."""

    request_id: str
    error: WireError


GenerationEvent = PrefillProgress | ImageProgress | TextDelta | Finished | Failed


class EngineStats(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the engine is doing at this moment, and what it has done since it was loaded.

    A cell is one token's place in the KV cache. `num_cells_used` are those of running sequences,
    `num_cells_kept` those that finished ones have left for whoever begins alike. The totals count
    tokens: computed prompts, prompts taken over instead, and written replies; and the images that
    were encoded.
    """

    num_running: int
    num_waiting: int
    num_cells_used: int
    num_cells: int
    num_cells_kept: int = 0
    num_preemptions: int = 0
    total_prompt_tokens: int = 0
    total_cached_tokens: int = 0
    total_completion_tokens: int = 0
    total_images: int = 0
