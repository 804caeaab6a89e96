"""What `ModelDownloader` says of versions and of downloads.

Promises: plain data for the page, every text of it made here; nothing is HTML; no number without
its unit. Leaves to others: the facts (`core.download`), drawing them (static/).
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import PurePosixPath
from typing import Any, Final

from gguf_widgets.core.download.found import Found
from gguf_widgets.core.download.jobs import DownloadJob
from gguf_widgets.core.download.left import Leftover
from gguf_widgets.core.download.names import UrlName, parse_name
from gguf_widgets.core.download.remote import Fit
from gguf_widgets.core.download.repo_files import DEFAULT_QUANT
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes, format_count, format_duration, plain_text
from gguf_widgets.widgets._downloader_errors import error_view

__all__ = [
    "Message",
    "age_words",
    "fit_view",
    "found_facts",
    "hint_of",
    "job_view",
    "left_view",
    "quant_words",
]

Message = dict[str, Any]

_DOT: Final = " · "

# By the number of bits in a quantisation's name: what a person gets for the size.
_BITS: Final = {
    1: "1 bit: much worse, for when nothing else fits",
    2: "2 bits: clearly worse, for when nothing larger fits",
    3: "3 bits: a little worse than the usual",
    4: "4 bits: small and good",
    5: "5 bits: a little better and larger than the usual",
    6: "6 bits: close to the original",
    7: "7 bits: close to the original",
    8: "8 bits: nearly the original",
    16: "16 bits: the original, very large",
    32: "32 bits: the original, twice as large as it needs to be",
}


def quant_words(quant: str) -> str:
    """Return what a quantisation means for a person; "" if its name says nothing.

    Examples
    --------
    >>> quant_words("Q4_K_M"), quant_words("UD-IQ2_M"), quant_words("BF16")[:8]
    ('4 bits: the usual choice', '2 bits: clearly worse, for when nothing larger fits', '16 bits:')
    """
    plain = quant.removeprefix("UD-")
    if plain == "Q4_K_M":
        return "4 bits: the usual choice"
    match = re.search(r"(?:BF|F)(16|32)|(?:Q|FP)([1-8])", plain)
    return _BITS.get(int(match[1] or match[2]), "") if match else ""


def fit_view(fit: Fit | None) -> Message | None:
    """Return whether a model fits: a few words, and the whole sentence."""
    if fit is None:
        return None
    if fit.verdict == "yes":
        text = "should fit" if fit.judged_by == "size" else "fits this computer"
    elif fit.verdict == "with_settings":
        text = (
            "fits with smaller settings" if fit.n_ctx is None else f"fits with {fit.n_ctx:,} tokens"
        )
    else:
        text = "may be too large" if fit.judged_by == "size" else "too large for this computer"
    return {"verdict": fit.verdict, "text": text, "sentence": fit.sentence}


def age_words(then: dt.datetime | None, now: dt.datetime | None = None) -> str:
    """Return how long ago something was changed: "today", "3 weeks ago", "2 years ago"."""
    if then is None:
        return ""
    days = max(0, ((now or dt.datetime.now(dt.UTC)) - then).days)
    if days < 2:
        return "today" if days == 0 else "yesterday"
    for size, unit in ((365, "year"), (30, "month"), (7, "week"), (1, "day")):
        if days >= size:
            count = days // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    raise AssertionError("two days are one at least")


def found_facts(found: Found) -> list[str]:
    """Return what is said of a repository that a search found."""
    facts = []
    if found.downloads is not None:
        one = "1 download" if found.downloads == 1 else f"{format_count(found.downloads)} downloads"
        facts.append(one)
    if found.likes is not None:
        facts.append("1 like" if found.likes == 1 else f"{format_count(found.likes)} likes")
    if found.updated is not None:
        facts.append(f"updated {age_words(found.updated)}")
    if found.license:
        facts.append(f"licence {found.license}")
    return facts


def hint_of(text: str) -> Message:
    """Say what would be done with a text in the widget's one field; nothing is asked for it."""
    from gguf_widgets.core.download import is_download_name

    if not is_download_name(text):
        return {"what": "words", "text": ""}
    try:
        parsed = parse_name(text)
    except InvalidValueError as error:
        return {"what": "bad", "text": error.message}
    if isinstance(parsed, UrlName):
        host = plain_text(parsed.host, 80)
        return {"what": "address", "text": f"An address on {host}: its size is looked up first."}
    if parsed.file is not None:
        name = plain_text(PurePosixPath(parsed.file).name, 100)
        return {"what": "repo", "text": f"The file {name} of {parsed.repo} is looked at first."}
    if parsed.quant is not None:
        return {
            "what": "repo",
            "text": f"The version {parsed.quant} of {parsed.repo} is looked at first.",
        }
    return {"what": "repo", "text": f"The versions in {parsed.repo} are shown to choose from."}


# --- downloads ---


def job_view(job: DownloadJob) -> Message:
    """Return a download as the page shows it."""
    title, source = _title_of(job.name)
    progress, error = job.progress, None
    received = progress.received_bytes
    if progress.phase != "fetching" or job.state in ("paused", "failed"):
        received = max(received if job.state == "running" else 0, job.kept_bytes)
    total = progress.total_bytes
    fraction = 1.0 if job.state == "done" else min(1.0, received / total) if total else 0.0
    if job.error is not None:
        error = error_view(job.error, kept_bytes=job.kept_bytes, name=job.name)
    actions = _actions(job)
    ask = ""
    if "cancel" in actions and max(received, job.kept_bytes):
        ask = f"Throw away the {format_bytes(max(received, job.kept_bytes))} that have arrived?"
    return {
        "id": job.id,
        "name": job.name,
        "title": title,
        "source": source,
        "quant": _quant_of(job.name),
        "state": job.state,
        "phase": progress.phase,
        "fraction": round(fraction, 4),
        "percent": _percent(fraction) if total or job.state == "done" else "",
        "phrase": _phrase(job, received, total),
        "notes": list(job.notes),
        "error": error,
        "actions": actions,
        "ask": ask,
        "path": str(job.path or ""),
    }


def left_view(left: Leftover) -> Message:
    """Return what was left unfinished, as the page shows it."""
    total = left.total_bytes
    fraction = min(1.0, left.received_bytes / total) if total else 0.0
    much = (
        _part(left.received_bytes, total) if total else f"{format_bytes(left.received_bytes)} here"
    )
    size = format_bytes(left.received_bytes)
    return {
        "key": left.key,
        "title": plain_text(left.title, 200),
        "source": plain_text(left.source, 200),
        "fraction": round(fraction, 4),
        "percent": _percent(fraction) if total else "",
        "phrase": _tight(
            f"{much}{_DOT}" + ("another page or program fetches it" if left.is_busy else "stopped")
        ),
        "note": "" if left.is_busy else left.hindrance,
        "actions": [] if left.is_busy else ["remove"] if left.hindrance else ["go-on", "remove"],
        "ask": f"Throw away the {size} that have arrived?",
    }


def _actions(job: DownloadJob) -> list[str]:
    if job.state in ("waiting", "running", "stopping"):
        return ["pause", "cancel"]
    if job.state == "paused":
        return ["go-on", "cancel"]
    if job.state == "failed" and job.kept_bytes:
        return ["cancel"]
    return ["dismiss"]


def _phrase(job: DownloadJob, received: int, total: int | None) -> str:
    """Return the line below a download's bar."""
    much = _part(received, total) if received else "" if total is None else format_bytes(total)
    if job.state == "failed":
        return _tight(f"Stopped at {much}. That is kept") if job.kept_bytes else ""
    if job.state == "done":
        return _tight(_done_phrase(job))
    words = {"stopping": "stopping", "paused": "paused"}.get(job.state, "")
    if job.state == "waiting":
        before = f" ({job.place} before it)" if job.place > 1 else ""
        words = f"waits for its turn{before}"
    elif job.state == "running":
        words = _running_words(job)
    text = _DOT.join(filter(None, [much, words]))
    return _tight(text[:1].upper() + text[1:])


def _done_phrase(job: DownloadJob) -> str:
    if job.origin == "cache":
        return "It was here already, in the folder that other programs share"
    if job.origin == "here":
        return "It was here already, and is in the list of models"
    size = "" if job.size_bytes is None else f"{format_bytes(job.size_bytes)}{_DOT}"
    return f"{size}it is in the list of models now"


def _running_words(job: DownloadJob) -> str:
    progress = job.progress
    if progress.phase == "asking":
        return "looks what is there"
    if progress.phase == "waiting":
        return "waits, and goes on by itself"
    if progress.phase == "checking":
        return "checks what is here already"
    if progress.phase != "fetching":
        return "has arrived and is checked"
    parts = []
    if progress.bytes_per_s is not None:
        parts.append(f"{format_bytes(progress.bytes_per_s)}/s")
    if progress.seconds_left is not None:
        parts.append(_about_left(progress.seconds_left))
    if progress.num_files > 1:
        parts.append(f"file {progress.file_number} of {progress.num_files}")
    return _DOT.join(parts) or "fetching"


def _tight(text: str) -> str:
    """Keep figures and their units on one line."""
    return re.sub(r"(?<=\d) (?=(?:bytes?|[KMGTP]B(?:/s)?|s|min|h)\b)", "\u00a0", text)


def _part(part: int, whole: int | None) -> str:
    """Return "1.2 of 4.6 GB", or "850 MB of 4.6 GB"."""
    if whole is None:
        return format_bytes(part)
    figures, _, unit = format_bytes(part).rpartition(" ")
    text = format_bytes(whole)
    return (
        f"{figures} of {text}" if text.endswith(f" {unit}") else f"{format_bytes(part)} of {text}"
    )


def _percent(fraction: float) -> str:
    return f"{int(fraction * 100)}%"


def _about_left(seconds: float) -> str:
    if seconds < 60:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 3600:
        return f"about {round(seconds / 60)} min left"
    return f"about {format_duration(round(seconds / 60) * 60)} left"


def _quant_of(name: str) -> str:
    """Return the version that a name means by its quantisation; "" if it means it otherwise."""
    try:
        parsed = parse_name(name)
    except InvalidValueError:  # it was cut for being too long
        return ""
    if isinstance(parsed, UrlName) or parsed.file is not None:
        return ""
    return (parsed.quant or DEFAULT_QUANT).upper()


def _title_of(name: str) -> tuple[str, str]:
    """Return what a download is called, and where it comes from."""
    try:
        parsed = parse_name(name)
    except InvalidValueError:  # it was cut for being too long
        return plain_text(name, 120), ""
    if isinstance(parsed, UrlName):
        return plain_text(parsed.file_name, 200), plain_text(parsed.host, 100)
    if parsed.file is not None:
        return plain_text(PurePosixPath(parsed.file).name, 200), parsed.repo
    return " ".join(filter(None, [parsed.repo.partition("/")[2], parsed.quant])), parsed.repo
