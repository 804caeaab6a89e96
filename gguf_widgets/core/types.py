"""The plain data that the layers hand to each other.

Promises: immutable values with the field's standard names and units, the same in the notebook, on
the worker's socket and in the store (each is a `msgspec.Struct`, so encoding and checking come with
it). Leaves to others: every behaviour beyond checking its own values.

Times are in seconds of `time.perf_counter`, sizes in bytes, lengths in tokens unless a name says
otherwise.
"""

from __future__ import annotations

import difflib
from enum import StrEnum
from typing import Any, Self, TypedDict

import msgspec

from gguf_widgets.core.errors import InvalidValueError, WireError

__all__ = [
    "EngineStats",
    "Failed",
    "FinishReason",
    "Finished",
    "GenerateRequest",
    "GenerationEvent",
    "LoadSettings",
    "Message",
    "ModelInfo",
    "PrefillProgress",
    "Reply",
    "SamplingSettings",
    "TextDelta",
    "Timings",
    "Usage",
]


class FinishReason(StrEnum):
    """Why a reply ended."""

    STOP = "stop"  # the model ended it, or a stop string was met
    LENGTH = "length"  # max_tokens or the end of the context was reached
    ABORTED = "aborted"  # a person or a program stopped it
    ERROR = "error"  # it failed; what had arrived is kept


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the values below: immutable, named fields only, unknown fields refused."""

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Self:
        """Make one from keywords, refusing unknown names and wrong types in plain words.

        Raises
        ------
        InvalidValueError
            For a name that is no field (with the nearest that is), or a value of the wrong type.
        """
        known = cls.__struct_fields__
        for name in keywords:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."
                raise InvalidValueError(f"There is no setting called {name!r}.{hint}", name=name)
        try:
            value = msgspec.convert(keywords, cls)
        except msgspec.ValidationError as error:
            raise InvalidValueError(f"A setting has the wrong type: {error}.") from error
        value.check()
        return value

    def check(self) -> None:
        """Raise `InvalidValueError` if a field is outside its range; the base has no ranges."""

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, checked like `from_keywords`."""
        return self.from_keywords(**{**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, in the order they are declared."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class SamplingSettings(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen, and when to end. The names are llama.cpp's own.

    Parameters
    ----------
    temperature : float, default 0.8
        0 always takes the likeliest token; higher is more varied. 0 to 5.
    top_k : int, default 40
        Keep the k likeliest tokens; 0 keeps all.
    top_p, min_p, typical_p : float, defaults 0.95, 0.05, 1.0
        Keep the likeliest tokens that together hold this probability; keep those at least this
        fraction of the best; keep the locally typical. 1, 0 and 1 switch them off.
    repeat_penalty : float, default 1.0
        Above 1 makes tokens of the last `repeat_last_n` less likely.
    repeat_last_n : int, default 64
        How many tokens the penalties look back; 0 is none, -1 the whole context.
    presence_penalty, frequency_penalty : float, default 0.0
        -2 to 2: against tokens that occurred at all; against each time they occurred.
    seed : int or None, default None
        0 to 2**32 - 2; None draws one, which the reply reports.
    logit_bias : dict of int to float
        Added to a token's logit, -1e30 to 1e30; ``float("-inf")`` forbids it.
    stop : tuple of str
        Strings that end the reply; they are not part of it. At most 64.
    max_tokens : int or None, default None
        The longest reply; None is what the context has room for.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Self:
        """Do what the base does; a single stop string may be given as a str."""
        if isinstance(keywords.get("stop"), str):
            keywords["stop"] = (keywords["stop"],)
        return super().from_keywords(**keywords)

    def check(self) -> None:
        """Raise `InvalidValueError` if a field is outside the range stated above."""
        for name, low, high in (
            ("temperature", 0.0, 5.0),
            ("top_k", 0, 1_000_000),
            ("top_p", 0.0, 1.0),
            ("min_p", 0.0, 1.0),
            ("typical_p", 0.0, 1.0),
            ("repeat_penalty", 0.01, 10.0),
            ("repeat_last_n", -1, 1_000_000),
            ("presence_penalty", -2.0, 2.0),
            ("frequency_penalty", -2.0, 2.0),
            ("seed", 0, 2**32 - 2),
            ("max_tokens", 1, 2**31 - 1),
        ):
            _in_range(name, getattr(self, name), low, high)
        for token, bias in self.logit_bias.items():
            if bias != float("-inf"):
                _in_range(f"logit_bias of token {token}", bias, -1e30, 1e30)
        if len(self.stop) > 64:
            raise InvalidValueError(
                f"There can be at most 64 stop strings; {len(self.stop)} were given."
            )
        if "" in self.stop:
            raise InvalidValueError("A stop string cannot be empty: it would end every reply.")


class LoadSettings(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is loaded. None means "chosen for this machine and model".

    The worker's handshake answers with the effective settings, in which nothing is None except
    `chat_template` (None there means the model's own).

    Parameters
    ----------
    n_ctx : int or None
        Tokens of context, shared by everything that runs at once.
    n_batch, n_ubatch : int or None
        The most tokens handed to one `llama_decode`, and computed at once inside it.
    n_seq_max : int or None
        The most sequences that run side by side. 1 to 256.
    n_gpu_layers : int or None
        Layers kept on the GPU; -1 is all.
    n_threads : int or None
        Compute threads.
    type_k, type_v : str or None
        The KV cache's number format: "f16", "q8_0", "q4_0", "f32", "bf16".
    flash_attn : bool or None
    use_mmap, use_mlock : bool or None
    chat_template : str or None
        A Jinja template used instead of the model's own, or "chatml" for the plain built-in one.
    """

    n_ctx: int | None = None
    n_batch: int | None = None
    n_ubatch: int | None = None
    n_seq_max: int | None = None
    n_gpu_layers: int | None = None
    n_threads: int | None = None
    type_k: str | None = None
    type_v: str | None = None
    flash_attn: bool | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    chat_template: str | None = None

    def check(self) -> None:
        """Raise `InvalidValueError` if a field is outside the range stated above."""
        for name, low, high in (
            ("n_ctx", 16, 2**31 - 1),
            ("n_batch", 1, 2**20),
            ("n_ubatch", 1, 2**20),
            ("n_seq_max", 1, 256),
            ("n_gpu_layers", -1, 100_000),
            ("n_threads", 1, 1024),
        ):
            _in_range(name, getattr(self, name), low, high)
        for name in ("type_k", "type_v"):
            value = getattr(self, name)
            if value is not None and value not in KV_TYPES:
                raise InvalidValueError(
                    f"{name} is {value!r}; it can be {', '.join(KV_TYPES)}.", name=name
                )


KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")


class ModelInfo(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class Usage(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token counts of one request.

    `num_cached_tokens` is the part of the prompt that was taken over instead of computed.
    """

    num_prompt_tokens: int
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0

    @property
    def num_context_tokens(self) -> int:
        """Cells of the context this request filled: its prompt and its reply."""
        return self.num_prompt_tokens + self.num_completion_tokens


class Timings(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long one request took, measured in the worker, in seconds.

    Formulas: ``ttft_s = queue_s + prefill_s`` up to the first token sampled;
    ``decode_tok_per_s = (num_completion_tokens - 1) / decode_s``;
    ``prefill_tok_per_s = (num_prompt_tokens - num_cached_tokens) / prefill_s``. A rate is None
    where it has no meaning (one token, no time).
    """

    queue_s: float
    prefill_s: float
    decode_s: float
    ttft_s: float | None
    total_s: float
    prefill_tok_per_s: float | None = None
    decode_tok_per_s: float | None = None


class Reply(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of one request.

    `seed` is the one that was used, also when none was asked for. `stop_string` is the stop string
    that ended the reply, if one did.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    seed: int
    stop_string: str | None = None

    def __str__(self) -> str:
        return self.text


class GenerateRequest(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the engine is asked to do: continue these tokens.

    `request_id` is unique within a worker; `client_id` names the connection it came by.
    """

    request_id: str
    client_id: str
    prompt_tokens: list[int]
    sampling: SamplingSettings = SamplingSettings()


# The events of one request, in order: any number of PrefillProgress, any number of TextDelta, then
# exactly one of Finished or Failed. They are what the engine returns and what crosses the socket.


class PrefillProgress(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """How much of the prompt has been computed."""

    request_id: str
    num_done: int
    num_total: int


class TextDelta(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The next piece of text: whole characters, and never part of a stop string.

    `num_completion_tokens` counts from the start of the reply.
    """

    request_id: str
    text: str
    num_completion_tokens: int

    def __str__(self) -> str:
        return self.text


class Finished(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The end of a request that ran: stop, length or aborted."""

    request_id: str
    reply: Reply


class Failed(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The end of a request that failed; the text sent so far stays with the client."""

    request_id: str
    error: WireError


GenerationEvent = PrefillProgress | TextDelta | Finished | Failed


class EngineStats(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the engine is doing at this moment. A cell is one token's place in the KV cache."""

    num_running: int
    num_waiting: int
    num_cells_used: int
    num_cells: int


def _in_range(name: str, value: float | None, low: float, high: float) -> None:
    # `not (low <= value <= high)` and not its mirror, so that NaN is refused too.
    if value is not None and not (low <= value <= high):
        raise InvalidValueError(
            f"{name} is {value}; it must be from {low} to {high}.", name=name, value=value
        )
