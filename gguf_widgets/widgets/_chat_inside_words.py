"""The words of "Look inside".

Promises: pure functions. Leaves to others: when they are asked for (`_chat_inside`).
"""

from __future__ import annotations

from gguf_widgets.core.chat.read import ReadPrompt
from gguf_widgets.core.chat.repeat import Repeat
from gguf_widgets.core.chat.tokens import rank_of
from gguf_widgets.core.chat.types import MessageStatus
from gguf_widgets.core.types import TokenLogprob
from gguf_widgets.widgets._chat_part import Content

__all__ = [
    "rank_words",
    "result_of",
    "spans_within",
    "summary_of",
    "torn_words",
    "warning_of",
]

# What a part of a prompt is called where it stands, and where its tokens are counted.
_KIND_WORDS = {
    "system": ("system prompt", "system prompt"),
    "user": ("you", "your messages"),
    "assistant": ("the model", "earlier answers"),
    "tool": ("a tool", "results of tools"),
    "attachment": ("attached", "attached files"),
    "summary": ("summary", "summary of what was left out"),
    "begin": ("to begin with", "the answer's beginning"),
    "template": ("template", "added by the template"),
}


def rank_words(token: TokenLogprob) -> str:
    rank = rank_of(token)
    if rank == 1:
        return "the likeliest"
    if rank is None:
        return f"not among the {len(token.top)} likeliest" if token.top else ""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(rank % 10 if rank not in (11, 12, 13) else 0, "th")
    return f"the {rank}{ending} likeliest"


def torn_words(count: float) -> str:
    if count < 1.1:
        return "The model was sure."
    if count < 1.75:
        return "The model was fairly sure."
    return f"The model was torn between about {count:.0f} tokens."


def spans_within(prompt: ReadPrompt, start: int, end: int) -> list[Content]:
    """Return the parts that lie in a piece, with indices into the piece."""
    return [
        {
            "kind": span.kind,
            "label": _words_of(span.kind)[0],
            "start": max(span.start, start) - start,
            "end": min(span.end, end) - start,
        }
        for span in prompt.spans
        if span.start < end and span.end > start
    ]


def _words_of(kind: str) -> tuple[str, str]:
    return _KIND_WORDS.get(kind, (kind, kind))


def summary_of(prompt: ReadPrompt) -> list[Content]:
    """Return how many tokens there are of what."""
    if not prompt.spans:
        text = len(prompt.tokens) - prompt.num_control
        counts = {"text": text, "control tokens": prompt.num_control}
        return [{"kind": "", "label": label, "count": count} for label, count in counts.items()]
    counts = prompt.counts()
    counts["template"] = counts.pop("template", 0)  # at the end: it is nobody's words
    return [
        {"kind": kind, "label": _words_of(kind)[1], "count": count}
        for kind, count in counts.items()
    ]


def warning_of(prompt: ReadPrompt) -> str:
    if prompt.as_then is None:
        return (
            "It was not recorded what the model read then. This is what it would read now for the"
            " same messages."
        )
    if not prompt.as_then:
        return (
            "The model read something else then: the model, its template or the tools have changed"
            " since. This is what it would read now for the same messages."
        )
    return ""


def result_of(found: Repeat) -> Content:
    if found.message.status is MessageStatus.FAILED:
        kind = "failed"
    elif found.same:
        kind = "same"
    else:
        kind = "other"
    return {"words": found.words, "kind": kind}
