"""What the batch table says about a run, in plain words and numbers.

Promises: sentences for a person, with units; nothing is HTML. Leaves to others: the figures
(`batch.progress`, `batch.preflight`), where they are shown (static/_batch_work.js).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from gguf_widgets.batch.preflight import Preflight
from gguf_widgets.batch.progress import Progress, speed_text
from gguf_widgets.core.format import format_count, format_duration
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_types import Counts, Run, RunStatus
from gguf_widgets.widgets._batch_draft import FORM_SAMPLING

__all__ = [
    "age_words",
    "check_view",
    "earlier_view",
    "model_view",
    "progress_view",
    "run_words",
    "template_words",
]


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def check_view(found: Preflight) -> dict[str, Any]:
    """Return what a check found: lines to read, and those that a person should mind."""
    least, median, high, most = found.prompt_tokens
    lines, minds = [], []
    asked = f"{_rows(found.num_rows)}"
    if found.num_tasks != found.num_rows:
        asked += f", {found.num_tasks:,} answers"
    if found.num_asked != found.num_tasks:
        left = found.num_tasks - found.num_asked
        asked += f"; {found.num_asked:,} to ask ({left:,} are the same as others, or left out)"
    lines.append(asked)
    if found.num_asked:
        span = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        lines.append(
            f"A prompt has {span} tokens (half have fewer than {median:,}, 95% fewer than "
            f"{high:,}); the model has room for {found.n_ctx:,}"
        )
    if found.num_shared_tokens > 1 and found.num_saved_tokens:
        lines.append(
            f"All begin with the same {found.num_shared_tokens:,} tokens, which are computed once: "
            f"{format_count(found.num_saved_tokens)} tokens saved"
        )
    if found.seconds is not None:
        low, top = (format_duration(one) for one in found.seconds)
        span = f"about {top}" if low == top or found.seconds[1] < 10 else f"{low} to {top}"
        lines.append(f"Will take {span}, from {_rows(found.num_sampled)} that were asked just now")
    if found.memory_words:
        lines.append(found.memory_words)
    if found.num_too_long:
        least_words = "" if found.is_exact else "At least "
        does = "does" if found.num_too_long == 1 else "do"
        minds.append(
            f"{least_words}{_rows(found.num_too_long)} {does} not fit into {found.n_ctx:,} tokens "
            "and will fail with a note. Nothing is cut. Load the model with a larger context, or "
            "shorten the prompt."
        )
    minds += found.notes
    return {"lines": lines, "minds": minds, "isEmpty": not found.num_asked}


def progress_view(progress: Progress, noun: str = "rows") -> dict[str, Any]:
    """Return the figures of a run that goes on, or has ended; `noun` is what it counts."""
    counts = progress.counts
    speeds = []
    if progress.status is RunStatus.RUNNING:
        if progress.rows_per_s:
            speeds.append(f"{speed_text(progress.rows_per_s)} {noun}/s")
        if progress.tok_per_s:
            speeds.append(f"{speed_text(progress.tok_per_s)} tokens/s")
    left = ""
    if progress.status is RunStatus.RUNNING and progress.left_s is not None:
        low, high = (format_duration(max(1.0, one)) for one in progress.left_s)
        is_short = low == high or progress.left_s[1] < 60
        left = f"about {high} left" if is_short else f"{low} to {high} left"
    return {
        "fraction": progress.fraction,
        "failedFraction": counts.failed / counts.total if counts.total else 0.0,
        "done": counts.done,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "waiting": counts.waiting,
        "numAtOnce": progress.num_at_once,
        "total": counts.total,
        "speed": ", ".join(speeds),
        "left": left,
        "elapsed": format_duration(progress.elapsed_s) if progress.elapsed_s >= 1 else "",
        "note": progress.note,
    }


def run_words(status: RunStatus, counts: Counts, error: str | None, *, is_here: bool) -> str:
    """Return what came of a run, or how it stands, as one or two sentences."""
    done = f"{counts.done:,} of {counts.total:,} done"
    if counts.failed:
        done += f", {counts.failed:,} failed"
    if counts.skipped:
        done += f", {counts.skipped:,} left out"
    if status is RunStatus.READY:
        return "Not started yet."
    if status is RunStatus.RUNNING:
        if not is_here:
            return "Asking the model. It goes on when you close this page."
        return "Asking the model."
    if status is RunStatus.PAUSED:
        return f"Paused: {done}. Rows that the model was at are finished and kept."
    if status is RunStatus.STOPPED:
        return f"Stopped: {done}. What is done is kept, and the rest can go on."
    if status is RunStatus.INTERRUPTED:
        return (
            f"Interrupted: Python or the computer was restarted. {done}. What is done is kept, "
            "and the rest can go on."
        )
    if status is RunStatus.FAILED:
        return f"It could not go on: {error or 'the reason is not known.'} What is done is kept."
    if counts.failed:
        return f"Finished: {done}. Open a failed row to see why, or ask them again."
    return f"Finished: {done}."


def earlier_view(record: Run, counts: Counts) -> dict[str, Any]:
    """Return what the list of earlier runs shows of one."""
    return {
        "id": record.id,
        "title": record.title or "Without a title",
        "status": record.status.value,
        "when": age_words(record.updated_at),
        "done": counts.ended,
        "total": counts.total,
    }


def model_view(model: Model | None, blocked: str, *, is_framed: bool) -> dict[str, Any]:
    """Return what the page shows of the model, and why nothing can be asked if that is so."""
    reason = blocked
    if not reason and model is None:
        reason = 'Give this table a model: table.model = gw.load("demo")'
        if is_framed:
            reason = "Choose a model in the panel first."
    return {
        "name": "" if model is None else model.name,
        "isDemoMode": model is not None and model.info.backend == "scripted",
        "sees": model is not None and model.sees_images,
        "reason": reason,
    }


def template_words(name: str | None, model: Model | None, sampling: Mapping[str, Any]) -> str:
    """Return what the page says of a prompt that was put into its form."""
    words = "This prompt was put in for you. Put a column where the rows are to differ."
    if name is not None and model is not None and model.name != name:
        words += f' It was used with the model "{name:.80}"; here "{model.name}" is asked.'
    if sampling.get("temperature"):
        words += f" The temperature is {sampling['temperature']:g}, as it was."
    left = [name for name in sampling if name not in FORM_SAMPLING]
    if left:
        words += f" Not taken over, as there is no place for it here: {', '.join(left)}."
    return words


def age_words(at: float | None) -> str:
    """Return how long ago something was, roughly."""
    if at is None:
        return ""
    seconds = time.time() - at
    if seconds < 60:
        return "just now"
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"
