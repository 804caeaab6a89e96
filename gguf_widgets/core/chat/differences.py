"""What was not the same for two answers, as far as it was recorded, in words.

Promises: a pure function; a thing that was not recorded for both is not compared; what changes no
more than the last digits of the probabilities is marked as that. Leaves to others: what is recorded
(`record`), comparing the texts (`repeat`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from gguf_widgets.core.chat.record import NUMBERS
from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.format import format_bytes, plain_text

__all__ = ["Difference", "differences"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded thing that was not the same for both answers; as text, a sentence.

    Attributes
    ----------
    name : str
        The key: "model", "template", "temperature", "n_threads", ...
    words : str
        A sentence that says what was and what is.
    only_digits : bool
        Whether it changes no more than the last digits of the probabilities.
    """

    name: str
    words: str
    only_digits: bool = False

    def __str__(self) -> str:
        return self.words


def differences(then: ChatMessage, now: ChatMessage) -> list[Difference]:
    """Name every recorded thing that is not the same for two answers.

    A thing that was not recorded for both is not compared.
    """
    a, b = then.record or {}, now.record or {}
    found = [*_model(then, now, a, b), *_asked(then, now, a, b)]
    if not any(one.name in ("system", "template", "begin") for one in found):
        found += _digests(a, b, "prompt", "What the model read was not the same.")
    found += _program(a, b)
    found += _loading(a, b)
    found += _circumstances(then, now, a, b)
    return found


def _model(
    then: ChatMessage, now: ChatMessage, a: dict[str, Any], b: dict[str, Any]
) -> list[Difference]:
    facts_then, facts_now = then.model or {}, now.model or {}
    same_file = a.get("model") == b.get("model") if a.get("model") and b.get("model") else None
    names = ("quantization", "size_bytes", "architecture", "backend")
    differ = [name for name in names if _differ(facts_then.get(name), facts_now.get(name))]
    if same_file or (same_file is None and not differ and not _named_otherwise(then, now)):
        return []
    if differ or _named_otherwise(then, now):
        words = f"The model was {_model_words(then)} and is {_model_words(now)} now."
    else:
        words = f"The file of the model {_model_words(now)} holds other numbers than then."
    return [Difference(name="model", words=words)]


def _named_otherwise(then: ChatMessage, now: ChatMessage) -> bool:
    return _differ(then.model_name, now.model_name)


def _model_words(message: ChatMessage) -> str:
    facts = message.model or {}
    details = [str(facts.get("quantization") or "")]
    size = facts.get("size_bytes")
    if isinstance(size, int) and size:
        details.append(format_bytes(size))
    if facts.get("backend") == "scripted":
        details.append("demo mode")
    told = ", ".join(plain_text(one) for one in details if one)
    return f"“{plain_text(message.model_name or 'unknown')}”" + (f" ({told})" if told else "")


def _asked(
    then: ChatMessage, now: ChatMessage, a: dict[str, Any], b: dict[str, Any]
) -> list[Difference]:
    found: list[Difference] = []
    if (then.system or "") != (now.system or ""):
        words = f"The system prompt was {_quoted(then.system)} and is {_quoted(now.system)} now."
        found.append(Difference(name="system", words=words))
    found += _digests(a, b, "template", "The chat template was another one.")
    if then.begin != now.begin or _differ(a.get("begin_tokens"), b.get("begin_tokens")):
        words = "The words that the answer was told to begin with were others."
        found.append(Difference(name="begin", words=words))
    if then.sampling is not None and now.sampling is not None:
        before, after = then.sampling.to_dict(), now.sampling.to_dict()
        for name, value in before.items():
            if name not in ("seed", "logprobs") and value != after[name]:
                found.append(_changed(name, value, after[name]))
    if then.seed != now.seed:
        found.append(_changed("seed", then.seed, now.seed))
    if then.left_out != now.left_out or (then.summary or "") != (now.summary or ""):
        words = "Other earlier messages were left out, or summed up in other words."
        found.append(Difference(name="left_out", words=words))
    return found


def _program(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    names = {"package": "The version of gguf-widgets", "engine": "llama-cpp-python"}
    found = [
        Difference(name=name, words=f"{label} was {a[name]} and is {b[name]} now.")
        for name, label in names.items()
        if _differ(a.get(name), b.get(name))
    ]
    if not found:
        found += _digests(a, b, "engine_files", "llama.cpp was built otherwise.", digits=True)
    return found


def _loading(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    before, after = _dict(a.get("load")), _dict(b.get("load"))
    found = [
        _changed(name, before[name], after[name], digits=name not in ("type_k", "type_v"))
        for name in NUMBERS
        if _differ(before.get(name), after.get(name))
    ]
    if _differ(a.get("lora"), b.get("lora")):
        words = "The adapters (LoRA) were others, or had another weight."
        found.append(Difference(name="lora", words=words))
    has_images = a.get("num_images") and b.get("num_images")
    if has_images and "mmproj" in a and "mmproj" in b and a["mmproj"] != b["mmproj"]:
        found.append(Difference(name="mmproj", words="The image companion was another one."))
    return found


def _circumstances(
    then: ChatMessage, now: ChatMessage, a: dict[str, Any], b: dict[str, Any]
) -> list[Difference]:
    found = []
    if _differ(a.get("processor"), b.get("processor")):
        words = f"The processor was {_plain(a['processor'])} and is {_plain(b['processor'])} now."
        found.append(Difference(name="processor", words=words, only_digits=True))
    if _differ(a.get("system"), b.get("system")):
        words = f"The system was {_plain(a['system'])} and is {_plain(b['system'])} now."
        found.append(Difference(name="system_kind", words=words, only_digits=True))
    for record, when in ((a, "The first time"), (b, "This time")):
        beside = record.get("num_tokens_beside")
        if isinstance(beside, int) and beside > 0:
            words = f"{when} the model worked for others as well ({beside:,} tokens)."
            found.append(Difference(name="num_tokens_beside", words=words, only_digits=True))
    if then.usage is not None and now.usage is not None:
        before, after = then.usage.num_cached_tokens, now.usage.num_cached_tokens
        if before != after:
            words = (
                f"{before:,} tokens of the prompt were in memory already, and {after:,} this time."
            )
            found.append(Difference(name="num_cached_tokens", words=words, only_digits=True))
    return found


def _digests(
    a: dict[str, Any], b: dict[str, Any], name: str, words: str, *, digits: bool = False
) -> list[Difference]:
    if not _differ(a.get(name), b.get(name)):
        return []
    return [Difference(name=name, words=words, only_digits=digits)]


def _changed(name: str, before: Any, after: Any, *, digits: bool = False) -> Difference:
    words = f"{name} was {_plain(before)} and is {_plain(after)} now."
    return Difference(name=name, words=words, only_digits=digits)


def _differ(before: Any, after: Any) -> bool:
    """Whether both are known and not the same."""
    return before is not None and after is not None and before != after


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> str:
    return plain_text(value if isinstance(value, str) else repr(value))


def _quoted(text: str | None) -> str:
    return f"“{plain_text(text, 60)}”" if text else "empty"
