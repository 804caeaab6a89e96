"""What a comparison's view says, in plain words and numbers.

Promises: sentences for a person, with units; nothing is HTML; names from outside are shortened and
without control characters. Leaves to others: the figures (`compare`), where they are shown.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from gguf_widgets.compare.types import (
    Answer,
    ComparisonStatus,
    Progress,
    SideState,
    SideStatus,
)
from gguf_widgets.core.format import format_bytes, format_duration, format_rate, plain_text
from gguf_widgets.widgets._comparison_live import LiveSide

__all__ = [
    "answer_view",
    "answer_words",
    "live_view",
    "progress_words",
    "settings_words",
    "side_view",
    "title_of",
    "when_words",
]

Message = dict[str, Any]

_LETTERS = "ABCD"
_MOST_LOAD = 4
_SIDE_WORDS = {
    SideStatus.WAITING: "Waits for its turn",
    SideStatus.LOADING: "Loading",
    SideStatus.READY: "Ready; another side answers",
    SideStatus.ANSWERING: "Answering",
    SideStatus.DONE: "Done",
    SideStatus.STOPPED: "Stopped",
    SideStatus.FAILED: "It could not answer",
}
_STATUS_WORDS = {
    ComparisonStatus.READY: "It has not begun.",
    ComparisonStatus.STOPPED: "Stopped. What is done is kept; “Go on” asks the rest.",
    ComparisonStatus.INTERRUPTED: "It was interrupted: Python ended. What is done is kept; "
    "“Go on” asks the rest.",
    ComparisonStatus.FINISHED: "Finished.",
    ComparisonStatus.FAILED: "It could not go on.",
}
_PHASES = {
    "loading": "Loading a model",
    "answering": "The sides are answering",
    "scoring": "Scoring the answers",
}


# -- one prompt -----------------------------------------------------------------------------------


def live_view(side: LiveSide) -> Message:
    """Return a side that is read along, without its text."""
    now = side.now()
    figures: list[Message] = []
    if now.num_tokens:
        noun = "token" if now.num_tokens == 1 else "tokens"
        figures.append(_figure(f"{now.num_tokens:,} {noun}", "Tokens of the answer so far"))
        figures.append(
            _figure(f"{len(now.text.split()):,} words", "Words of the answer, between blanks")
        )
    if now.rate is not None:
        title = "How fast the answer is written, after its first token (decode_tok_per_s)"
        figures.append(_figure(format_rate(now.rate), title))
    if now.first_s is not None:
        title = "From the request to the first token of the answer (ttft_s)"
        figures.append(_figure(f"first word after {format_duration(now.first_s)}", title))
    if now.status in ("done", "stopped") and now.seconds is not None:
        figures.append(_figure(f"{format_duration(now.seconds)} in all", "From request to end"))
    note = ""
    if now.cut_off:
        note = "Cut off at the longest answer that was allowed."
    elif now.status == "stopped":
        note = "Stopped." if now.text else "Stopped before it began."
    return {
        "number": side.number,
        "letter": side.letter,
        "label": side.record.label,
        "status": now.status,
        "phrase": now.phrase,
        "error": now.error,
        "note": note,
        "figures": figures,
        "isReady": now.reply is not None,
    }


def _figure(value: str, title: str) -> Message:
    return {"value": value, "title": title}


# -- many prompts ---------------------------------------------------------------------------------


def side_view(state: SideState, num_prompts: int, *, is_elsewhere: bool = False) -> Message:
    """Return how one side of a comparison stands.

    `is_elsewhere` says that another process carries it out, of which only the counts are known.
    """
    counts = state.counts
    ended = counts.ended if counts is not None else 0
    failed = (counts.failed + counts.skipped) if counts is not None else 0
    told = [f"{ended:,} of {num_prompts:,}"]
    if failed:
        told.append(f"{failed:,} failed")
    if state.tok_per_s:
        told.append(format_rate(state.tok_per_s))
    if state.memory_bytes:
        told.append(f"{format_bytes(state.memory_bytes)} of memory")
    words = _SIDE_WORDS[state.status]
    if state.status is SideStatus.STOPPED and not ended:
        words = "Not asked yet"
    if is_elsewhere and state.status in (SideStatus.STOPPED, SideStatus.WAITING):
        words = "At work" if ended else "Waits for its turn"
    return {
        "number": state.number,
        "letter": _LETTERS[state.number],
        "label": state.label,
        "model": plain_text(state.model, 80),
        "about": settings_words(state),
        "status": state.status.value,
        "words": words,
        "figures": " · ".join(told),
        "fraction": ended / num_prompts if num_prompts else 0.0,
        "error": state.error or "",
    }


def settings_words(state: SideState) -> str:
    """Return what a side is: its file, and what it is asked with."""
    told = [state.quantization] if state.quantization not in ("", "none") else []
    if state.file_bytes:
        told.append(format_bytes(state.file_bytes))
    load = state.settings.get("load") or {}
    if len(load) > _MOST_LOAD:  # of a model that was given loaded: all there are
        load = {name: load[name] for name in ("n_ctx", "type_k") if load.get(name) is not None}
    for settings in (load, state.settings.get("sampling") or {}):
        told += [f"{name} {value}" for name, value in settings.items()]
    if state.settings.get("system"):
        told.append(f"system “{plain_text(str(state.settings['system']), 60)}”")
    if state.settings.get("template"):
        template = state.settings["template"]
        text = template if isinstance(template, str) else template[-1].get("content", "")
        told.append(f"asks “{plain_text(str(text), 60)}”")
    return " · ".join(plain_text(one, 120) for one in told)


def progress_words(
    progress: Progress, error: str | None, *, is_here: bool, is_framed: bool
) -> tuple[str, str]:
    """Return how a comparison stands, in a sentence, and its figures."""
    status = progress.status
    if status is ComparisonStatus.RUNNING:
        phase = _PHASES.get(progress.phase, "At work")
        stays = "Keep this notebook's kernel running." if is_here else ""
        if not is_here:
            phase, stays = "At work", "It goes on when you close this page."
        elif is_framed:
            stays = "Keep this page open."
        words = f"{phase}. {stays}".strip()
    else:
        words = _STATUS_WORDS[status]
        if status is ComparisonStatus.FINISHED and any(one.error for one in progress.sides):
            words = "Finished, but for what could not answer."
        if status is ComparisonStatus.FAILED and error:
            words = f"{words} {error}"
    figures = [f"{progress.num_done:,} of {progress.num_total:,} answers"]
    if progress.left_s is not None:
        low, high = (format_duration(one) for one in progress.left_s)
        figures.append(f"about {high} left" if low == high else f"{low} to {high} left")
    if progress.elapsed_s >= 1:
        figures.append(f"at it for {format_duration(progress.elapsed_s)}")
    return words, " · ".join(figures)


def title_of(title: str, labels: list[str]) -> str:
    """Return what a comparison is called."""
    return plain_text(title, 120) or " or ".join(plain_text(one, 40) for one in labels)


def when_words(at: float) -> str:
    """Return when something was, as a person says it."""
    then, now = datetime.fromtimestamp(at).astimezone(), datetime.now().astimezone()
    age = time.time() - at
    if age < 90:
        return "just now"
    if age < 3600:
        return f"{round(age / 60)} min ago"
    if then.date() == now.date():
        return f"today, {then:%H:%M}"
    return f"{then.day} {then:%b}{'' if then.year == now.year else f' {then.year}'}, {then:%H:%M}"


def answer_words(answer: Answer) -> str:
    """Return an answer on one line, for the list."""
    if answer.text:
        return plain_text(answer.text.strip(), 300)
    if answer.status == "waiting":
        return ""
    if answer.status == "done":
        return "(an empty answer)"
    return plain_text(answer.error or "It failed.", 300)


def answer_view(answer: Answer, score_texts: list[tuple[str, str, str]]) -> Message:
    """Return an answer's figures for the opened prompt.

    Parameters
    ----------
    answer : Answer
    score_texts : list of (str, str, str)
        Each score's label, its figure, and what it has to say.
    """
    told = []
    if answer.num_completion_tokens is not None and answer.status == "done":
        num = answer.num_completion_tokens
        told.append(_figure(f"{num:,} {'token' if num == 1 else 'tokens'}", "Tokens of the answer"))
    if answer.decode_tok_per_s is not None:
        told.append(_figure(format_rate(answer.decode_tok_per_s), "decode_tok_per_s"))
    if answer.ttft_s is not None:
        told.append(_figure(f"first word after {format_duration(answer.ttft_s)}", "ttft_s"))
    if answer.total_s is not None:
        told.append(_figure(f"{format_duration(answer.total_s)} in all", "total_s"))
    return {
        "status": answer.status,
        "error": answer.error or "",
        "note": "Cut off at the longest answer that was allowed."
        if answer.finish_reason == "length"
        else "",
        "figures": told,
        "scores": [{"label": a, "value": b, "why": c} for a, b, c in score_texts],
    }
