"""Which recorded things are not the same when an item is asked again.

Promises: pure functions of two records; every setting that has another value is named with both, a
thing that was not recorded both times is not compared. Leaves to others: comparing answers
(`verdicts`), the words of the whole (`report`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gguf_widgets.core.record import differences as found
from gguf_widgets.core.record.differences import Difference
from gguf_widgets.core.record.places import first_place
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.experiments.values import Answer, ModelRecord

__all__ = ["in_answers", "in_models", "in_programs", "in_settings", "in_templates", "once"]


def in_programs(then: dict[str, Any], now: dict[str, Any]) -> list[Difference]:
    """Name what differs of the program and the machine."""
    return [*found.in_program(then, now), *found.in_machine(then, now)]


def in_models(then: ModelRecord, now: ModelRecord, *, with_images: bool) -> list[Difference]:
    """Name what differs of the model and of how it was loaded."""
    a, b = then.facts(), now.facts()
    if then.backend != "scripted" and then.model is None and then.header is not None:
        # It was not loaded where it was recorded: its header tells as well.
        a["model"], b["model"] = then.header, now.header
    if with_images:
        a["num_images"] = b["num_images"] = 1
    return [*found.in_model(a, b), *found.in_loading(a, b)]


def in_settings(then: SamplingSettings, now: SamplingSettings) -> list[Difference]:
    """Name the sampling settings that differ, but for what is only reported."""
    return found.in_sampling(then, now, leave_out=("logprobs",))


def in_templates(then: str | None, now: str | None) -> list[Difference]:
    """Say whether the chat template is another one."""
    words = "The chat template was another one."
    return found.digests({"template": then}, {"template": now}, "template", words)


def in_answers(then: Answer, now: Answer, *, strict: bool) -> list[Difference]:
    """Name what differs of the circumstances of one answer: what was read, what was in memory."""
    changes: list[Difference] = []
    if then.prompt_tokens is not None and now.prompt_tokens is not None:
        place = first_place(then.prompt_tokens, now.prompt_tokens)
        if place is not None:
            words = (
                f"What the model read was not the same, from token {place + 1:,} on "
                f"({len(then.prompt_tokens):,} tokens then, {len(now.prompt_tokens):,} now)."
            )
            changes.append(Difference(name="prompt", words=words))
    before, after = then.num_cached_tokens, now.num_cached_tokens
    if not strict and found.differ(before, after):
        words = f"{before:,} tokens of the prompt were in memory already, and {after:,} this time."
        changes.append(Difference(name="num_cached_tokens", words=words, only_digits=True))
    return changes


def once(changes: Iterable[Difference]) -> list[Difference]:
    """Leave out what is said already; of what rows say each for itself the first is enough."""
    kept: dict[Any, Difference] = {}
    for one in changes:
        key = (
            one.name
            if one.name in ("prompt", "num_cached_tokens", "seed")
            else (one.name, one.words)
        )
        kept.setdefault(key, one)
    return list(kept.values())
