"""The settings of a request and of a load: names, ranges, defaults.

Promises: an unknown name, a wrong type or a value out of range is refused in plain words, with the
limit; what passes `check` is safe to hand to the engine, as far as it does not depend on the model.
Leaves to others: what depends on the model (`engine.request_check`), and which settings suit a
machine (`fit`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec

from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.schema_input import to_schema

__all__ = [
    "KV_TYPES",
    "SAMPLING_LIMITS",
    "LoadSettings",
    "SamplingSettings",
    "Value",
    "current_names",
]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of plain values: immutable, named fields only, unknown fields refused."""

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


SAMPLING_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "temperature": (0.0, 5.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 10.0),
    "repeat_last_n": (-1, 1_000_000),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "seed": (0, 2**32 - 2),
    "max_tokens": (1, 2**31 - 1),
    "min_tokens": (0, 2**31 - 1),
    "logprobs": (0, 100),
    "top_n_sigma": (0.0, 100.0),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "dry_multiplier": (0.0, 100.0),
    "dry_base": (1.0, 10.0),
    "dry_allowed_length": (1, 1_000_000),
    "dry_penalty_last_n": (-1, 1_000_000),
    "mirostat": (0, 2),
    "mirostat_tau": (0.0, 100.0),
    "mirostat_eta": (0.0, 1.0),
}
"""The smallest and the largest value of each setting of `SamplingSettings` that is a number."""


class SamplingSettings(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""How the next token is chosen, and when to end. The names are llama.cpp's own.

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
    max_tokens, min_tokens : int or None, int, defaults None, 0
        The longest reply, None is what the context has room for; and how many tokens it has at
        least before the model may end it (a stop string still can).
    ignore_eos : bool, default False
        Never let the model end its reply.
    logprobs : int or None, default None
        Report the log probability of each token written, and of so many of the likeliest besides:
        0 to 100. They are the model's own, before any of these settings.
    schema : dict or None, default None
        A JSON schema (or, from Python, a pydantic model): the reply is JSON that is valid against
        it, if it has room to end. `grammar` is the same for llama.cpp's own grammars (GBNF).
    top_n_sigma : float, default 0.0
        Keep tokens whose logit is within so many standard deviations of the best; 0 is off.
    xtc_probability, xtc_threshold : float, defaults 0.0, 0.1
        With this probability leave out all but the least likely of the tokens above the threshold.
    dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n, dry_breakers
        Against repeating whole phrases (DRY): 0 is off; defaults 1.75, 2, -1 and ``\n : " *``.
    mirostat, mirostat_tau, mirostat_eta : int, float, float, defaults 0, 5.0, 0.1
        1 or 2 steers towards a surprise of `mirostat_tau` bits a token, instead of top_k, top_p,
        min_p, typical_p, top_n_sigma and XTC.
    reproducible : bool, default False
        Compute this request by itself, prompt and all, so that the same seed gives the same reply
        on this machine, to the last digit. Slow for everybody: it begins when nothing else runs,
        nothing else runs meanwhile, and what was kept of other prompts is given up. Rows of a table
        take two to five times as long (``tests/bench/bench_strict.py`` measures it).
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
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    schema: dict[str, Any] | bool | None = None
    grammar: str | None = None
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    reproducible: bool = False

    @property
    def constrained(self) -> bool:
        """Whether the reply has to follow a schema or a grammar."""
        return self.schema is not None or self.grammar is not None

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Self:
        """Do what the base does; a single string may be given for a tuple of strings.

        A schema may be a dict or a pydantic model; see `schema_input.to_schema`. A name of earlier
        versions does as well (`current_names`).
        """
        keywords = current_names(keywords)
        for name in ("stop", "dry_breakers"):
            if isinstance(keywords.get(name), str):
                keywords[name] = (keywords[name],)
        if keywords.get("schema") is not None:
            keywords["schema"] = to_schema(keywords["schema"])
        return super().from_keywords(**keywords)

    def check(self) -> None:
        """Raise `InvalidValueError` if a field is outside the range stated above."""
        for name, (low, high) in SAMPLING_LIMITS.items():
            _in_range(name, getattr(self, name), low, high)
        self._check_constraints()
        for token, bias in self.logit_bias.items():
            if bias != float("-inf"):
                _in_range(f"logit_bias of token {token}", bias, -1e30, 1e30)
        if len(self.stop) > 64:
            raise InvalidValueError(
                f"There can be at most 64 stop strings; {len(self.stop)} were given."
            )
        if "" in self.stop:
            raise InvalidValueError("A stop string cannot be empty: it would end every reply.")
        if len(self.dry_breakers) > 64 or "" in self.dry_breakers:
            raise InvalidValueError(
                "dry_breakers are at most 64 strings, and none of them is empty.",
                value=list(self.dry_breakers[:65]),
            )

    def _check_constraints(self) -> None:
        if self.schema is not None and self.grammar is not None:
            raise InvalidValueError("Give a schema or a grammar, not both.")
        if self.constrained and self.ignore_eos:
            raise InvalidValueError(
                "ignore_eos cannot be combined with a schema or a grammar: these say where the "
                "reply ends. Leave one of them out."
            )
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidValueError(
                f"min_tokens is {self.min_tokens} and max_tokens {self.max_tokens}; the first "
                "cannot be larger."
            )


_FORMER_NAMES: Final = {"repeatable": "reproducible"}


def current_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return sampling settings under the names they have now: files keep names of earlier versions.

    Raises
    ------
    InvalidValueError
        A setting is there under both of its names.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        now = _FORMER_NAMES.get(name, name)
        if now != name and now in given:
            raise InvalidValueError(
                f"{name!r} is the former name of {now!r}, and both are given. Leave {name!r} out.",
                name=name,
            )
        found[now] = value
    return found


class LoadSettings(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is loaded. None means "chosen for this machine and model".

    The worker's handshake answers with the effective settings, in which nothing is None except
    `chat_template` (None there means the model's own) and `mmproj` (there is none).

    Parameters
    ----------
    n_ctx : int or None
        Tokens of context: shared by everything that runs at once, or, without `kv_unified`, for
        each sequence by itself.
    n_batch, n_ubatch : int or None
        The most tokens handed to one `llama_decode`, and computed at once inside it.
    n_seq_max : int or None
        The most sequences that run side by side. 1 to 256.
    n_gpu_layers : int or None
        Layers kept on the GPU; -1 is all.
    n_threads : int or None
        Compute threads.
    type_k, type_v : str or None
        The KV cache's number format: "f16", "bf16", "f32", or, with less memory, "q8_0", "q5_1",
        "q5_0", "q4_1", "q4_0", "iq4_nl".
    flash_attn : bool or None
    kv_unified : bool or None
        Whether all sequences have one KV cache, which is what is chosen: short and long ones find
        room in it, and a common beginning lies there once. False gives each of the `n_seq_max`
        sequences a cache of its own with room for `n_ctx` tokens: it takes so many times the
        memory, and on a processor many long rows of a table are computed sooner, since nobody's
        attention has to look past the tokens of the others. A common beginning is copied then.
        Models with running states or a sliding window have one cache in any case.
    n_draft : int or None
        Guess up to so many tokens ahead from what stands in the text already (prompt lookup), where
        measuring says that it pays; 0 to 64, chosen is 0. Replies that repeat their prompt come
        quicker; how they go on may then depend on what paid, in the last digits of its logits.
    lora : tuple of (str, float), default ()
        Adapters (LoRA): the file of each, and its scale, -100 to 100. May be given as one path, a
        list of paths, or a dict from path to scale; a scale that is not given is 1. To change one,
        load again: the model's weights are mapped, so that takes a moment.
    mmproj : str or None
        The model's image companion: with it images can be sent. None is the one that the library
        pairs with the model, if there is one; "" (or False) is none. A full path otherwise.
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
    kv_unified: bool | None = None
    n_draft: int | None = None
    lora: tuple[tuple[str, float], ...] = ()
    mmproj: str | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    chat_template: str | None = None

    @property
    def other_files(self) -> tuple[str, ...]:
        """The files that are loaded besides the model's own: adapters, the image companion."""
        return (*(path for path, _ in self.lora), *([self.mmproj] if self.mmproj else []))

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Self:
        """Do what the base does; `lora` and `mmproj` in each of the forms named above."""
        if "lora" in keywords:
            keywords["lora"] = _adapters(keywords["lora"])
        if "mmproj" in keywords:
            keywords["mmproj"] = _companion(keywords["mmproj"])
        return super().from_keywords(**keywords)

    def check(self) -> None:
        """Raise `InvalidValueError` if a field is outside the range stated above."""
        for name, low, high in (
            ("n_ctx", 16, 2**31 - 1),
            ("n_batch", 1, 2**20),
            ("n_ubatch", 1, 2**20),
            ("n_seq_max", 1, 256),
            ("n_gpu_layers", -1, 100_000),
            ("n_threads", 1, 1024),
            ("n_draft", 0, 64),
        ):
            _in_range(name, getattr(self, name), low, high)
        for name in ("type_k", "type_v"):
            value = getattr(self, name)
            if value is not None and value not in KV_TYPES:
                raise InvalidValueError(
                    f"{name} is {value!r}; it can be {', '.join(KV_TYPES)}.", name=name
                )
        for path, scale in self.lora:
            _in_range(f"The scale of the adapter {path}", scale, -100.0, 100.0)


_MAX_ADAPTERS = 16


def _adapters(given: Any) -> tuple[tuple[str, float], ...]:
    """Return adapters in the one form in which equal ones are equal: full paths, sorted."""
    if given is None:
        return ()
    if isinstance(given, str | os.PathLike):
        given = [given]
    items = given.items() if isinstance(given, Mapping) else given
    found: dict[str, float] = {}
    try:
        for item in items:
            name, scale = (item, 1.0) if isinstance(item, str | os.PathLike) else item
            path = _full_path(os.fspath(name), "adapter")
            if path in found:
                raise InvalidValueError(f"The adapter {path} is given twice.", path=path)
            found[path] = _scale(scale)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidValueError):
            raise
        raise InvalidValueError(
            "lora is the path of an adapter, a list of paths, or a dict from path to scale; "
            f"this is {given!r}."
        ) from error
    if len(found) > _MAX_ADAPTERS:
        raise InvalidValueError(
            f"There can be at most {_MAX_ADAPTERS} adapters; {len(found)} were given."
        )
    return tuple(sorted(found.items()))


def _companion(given: Any) -> str | None:
    """Return the path of an image companion, "" for none, None for the model's own."""
    if given is None or given is True:
        return None
    if given is False or given == "":
        return ""
    if not isinstance(given, str | os.PathLike):
        raise InvalidValueError(
            f"mmproj is the path of a file, False for none, or None for the one that the library"
            f" pairs with the model; this is {given!r}."
        )
    return _full_path(os.fspath(given), "image companion")


def _full_path(name: str, what: str) -> str:
    path = os.path.normpath(expanded(name))
    try:
        path.encode()  # it crosses the worker's socket as text
    except UnicodeEncodeError as error:
        raise InvalidValueError(
            f"The {what}'s path {path!r} holds bytes that are no text. Rename the file."
        ) from error
    return path


def _scale(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise InvalidValueError(f"An adapter's scale is a number; this is {given!r}.")
    return float(given)


KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


def _in_range(name: str, value: float | None, low: float, high: float) -> None:
    # `not (low <= value <= high)` and not its mirror, so that NaN is refused too.
    if value is not None and not (low <= value <= high):
        raise InvalidValueError(
            f"{name} is {value}; it must be from {low} to {high}.", name=name, value=value
        )
