"""What was not the same for two answers, as far as it was recorded, in words.

Promises: a pure function; a thing that was not recorded for both is not compared; what changes no
more than the last digits of the probabilities is marked as that. Leaves to others: what is recorded
(`record`), comparing the texts (`repeat`).
"""

from __future__ import annotations

from typing import Any

from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.record.differences import (
    Difference,
    changed,
    differ,
    digests,
    in_loading,
    in_machine,
    in_model,
    in_program,
    in_sampling,
    quoted,
)

__all__ = ["Difference", "differences"]


def differences(then: ChatMessage, now: ChatMessage) -> list[Difference]:
    """Name every recorded thing that is not the same for two answers.

    A thing that was not recorded for both is not compared.
    """
    a, b = then.record or {}, now.record or {}
    found = [*in_model(_facts(then, a), _facts(now, b)), *_asked(then, now, a, b)]
    if not any(one.name in ("system", "template", "begin") for one in found):
        found += digests(a, b, "prompt", "What the model read was not the same.")
    found += in_program(a, b)
    found += in_loading(a, b)
    found += _circumstances(then, now, a, b)
    return found


def _facts(message: ChatMessage, record: dict[str, Any]) -> dict[str, Any]:
    return {**(message.model or {}), "name": message.model_name, "model": record.get("model")}


def _asked(
    then: ChatMessage, now: ChatMessage, a: dict[str, Any], b: dict[str, Any]
) -> list[Difference]:
    found: list[Difference] = []
    if (then.system or "") != (now.system or ""):
        words = f"The system prompt was {quoted(then.system)} and is {quoted(now.system)} now."
        found.append(Difference(name="system", words=words))
    found += digests(a, b, "template", "The chat template was another one.")
    if then.begin != now.begin or differ(a.get("begin_tokens"), b.get("begin_tokens")):
        words = "The words that the answer was told to begin with were others."
        found.append(Difference(name="begin", words=words))
    if then.sampling is not None and now.sampling is not None:
        found += in_sampling(then.sampling, now.sampling, leave_out=("seed", "logprobs"))
    if then.seed != now.seed:
        found.append(changed("seed", then.seed, now.seed))
    if then.left_out != now.left_out or (then.summary or "") != (now.summary or ""):
        words = "Other earlier messages were left out, or summed up in other words."
        found.append(Difference(name="left_out", words=words))
    return found


def _circumstances(
    then: ChatMessage, now: ChatMessage, a: dict[str, Any], b: dict[str, Any]
) -> list[Difference]:
    found = in_machine(a, b)
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
