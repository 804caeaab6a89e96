"""The numbers of an answer in words: tokens, times, seed, why it ended, with which settings.

Promises: one pure function; a number that is not known has no line; the exact term is in the title.
Leaves to others: where they are shown (`_chat_inside`).
"""

from __future__ import annotations

from typing import Any

from gguf_widgets.core.chat.types import ChatMessage, MessageStatus
from gguf_widgets.core.format import format_bytes, format_duration, format_rate, plain_text
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.types import FinishReason

__all__ = ["ending_of", "numbers_of", "short_numbers"]

Line = dict[str, str]

# Not a matter of taste: the seed has a line of its own, and the alternatives change no answer.
_NOT_A_SETTING = ("seed", "logprobs", "schema", "grammar")
_MAX_VALUE = 120


def short_numbers(message: ChatMessage) -> str:
    """Return the few numbers that matter most, on one line; "" if there are none.

    Examples
    --------
    >>> short_numbers(message)  # doctest: +SKIP
    '84 tokens · 31 tokens/s · first word after 0.2 s'
    """
    parts = []
    if message.usage is not None:
        given, new = message.num_given_tokens, message.usage.num_completion_tokens
        parts.append(_tokens(given + new) + (f", {new:,} of them new" if given else ""))
    if message.timings is not None:
        if message.timings.decode_tok_per_s is not None:
            parts.append(format_rate(message.timings.decode_tok_per_s))
        if message.timings.ttft_s is not None:
            parts.append(f"first word after {format_duration(message.timings.ttft_s)}")
    return " · ".join(parts)


def numbers_of(message: ChatMessage) -> list[Line]:
    """Return everything that is known of how an answer was written.

    Returns
    -------
    list of dict
        ``label``, ``value`` and ``title`` (the exact term), in the order in which they are shown.
    """
    if message.role != "assistant" or message.status is MessageStatus.STREAMING:
        return []
    return [*_counts(message), *_times(message), *_how(message), *_with(message)]


def ending_of(message: ChatMessage) -> str:
    """Say why an answer ended; "" if that is not known."""
    reason, settings = message.finish_reason, message.sampling
    if message.edited:
        return "You wrote or changed it"
    if message.status is MessageStatus.INTERRUPTED:
        return "The program that wrote it ended"
    if reason is FinishReason.STOP:
        if message.tool_calls:
            return "The model asked for a tool"
        return "The model was done"
    if reason is FinishReason.LENGTH:
        written = message.usage.num_completion_tokens if message.usage is not None else None
        limit = settings.max_tokens if settings is not None else None
        if limit is not None and written is not None and written >= limit:
            return f"It reached the longest answer that was allowed ({_tokens(limit)})"
        return "The context was full"
    if reason is FinishReason.ABORTED:
        return "You stopped it"
    if reason is FinishReason.ERROR:
        return "It failed"
    return ""


def _counts(message: ChatMessage) -> list[Line]:
    usage = message.usage
    if usage is None:
        return []
    read = _tokens(usage.num_prompt_tokens)
    if usage.num_cached_tokens:
        read += f", {usage.num_cached_tokens:,} of them from memory"
    given, new = message.num_given_tokens, usage.num_completion_tokens
    written = f"{_tokens(new)}, after {given:,} of the version before" if given else _tokens(new)
    lines = [
        _line("Read", read, "num_prompt_tokens and num_cached_tokens: the prompt, and the part of"
              " it that had been computed before"),
        _line("Written", written, "num_completion_tokens"),
    ]  # fmt: skip
    if message.num_unseen_images:
        value = f"{message.num_unseen_images:,} of earlier messages: this model cannot see images"
        lines.append(_line("Images left out", value, "images_left_out"))
    return lines


def _times(message: ChatMessage) -> list[Line]:
    times = message.timings
    if times is None:
        return []
    lines = []
    if times.ttft_s is not None:
        title = "ttft_s, time to first token: waiting and reading"
        lines.append(_line("First word", f"after {format_duration(times.ttft_s)}", title))
    if times.prefill_tok_per_s is not None:
        rate = format_rate(times.prefill_tok_per_s)
        lines.append(_line("Reading", rate, "prefill_tok_per_s"))
    if times.decode_tok_per_s is not None:
        rate = format_rate(times.decode_tok_per_s)
        lines.append(_line("Writing", rate, "decode_tok_per_s, after the first token"))
    if message.thinking_s is not None:
        lines.append(_line("Thinking", format_duration(message.thinking_s), "thinking_s"))
    lines.append(_line("Whole time", format_duration(times.total_s), "total_s"))
    return lines


def _how(message: ChatMessage) -> list[Line]:
    lines = []
    ending = ending_of(message)
    if ending:
        title = f"finish_reason: {message.finish_reason}" if message.finish_reason else ""
        lines.append(_line("Why it ended", ending, title))
    if message.seed is not None:
        title = "seed: with the same one and the same settings the same answer comes"
        lines.append(_line("Seed", str(message.seed), title))
    return lines


def _with(message: ChatMessage) -> list[Line]:
    lines = []
    settings = message.sampling
    if settings is not None:
        changed = _changed(settings)
        title = "The sampling settings that are not this program's standard"
        lines.append(_line("Settings", ", ".join(changed) or "all standard", title))
    if message.model_name:
        facts = message.model or {}
        size = facts.get("size_bytes")
        told = [str(facts.get("quantization") or "")]
        told.append(format_bytes(size) if isinstance(size, int) and size else "")
        details = ", ".join(one for one in told if one)
        value = plain_text(message.model_name) + (f" ({details})" if details else "")
        lines.append(_line("Model", value, plain_text(str(facts.get("path") or ""), 300)))
    return lines


def _changed(settings: SamplingSettings) -> list[str]:
    standard = SamplingSettings().to_dict()
    found = [
        f"{name} {_value(value)}"
        for name, value in settings.to_dict().items()
        if name not in _NOT_A_SETTING and value != standard[name]
    ]
    if settings.schema is not None:
        found.append("JSON schema")
    if settings.grammar is not None:
        found.append("grammar")
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return plain_text(str(value) if not isinstance(value, tuple) else repr(list(value)), _MAX_VALUE)


def _tokens(count: int) -> str:
    return f"{count:,} token" if count == 1 else f"{count:,} tokens"


def _line(label: str, value: str, title: str) -> Line:
    return {"label": label, "value": value, "title": title}
