"""A figure beside an earlier one of this machine, in words.

Promises: only what was measured alike is compared: the same machine, model file, settings, warm-up
and test, both whole and neither disturbed; "faster" and "slower" are said only where `statistics`
allows it; another engine or version of this package is named. Leaves to others: the rows (`kept`),
the arithmetic (`statistics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gguf_widgets.core.bench.machine import Engine, cores_words
from gguf_widgets.core.bench.row import BenchRow, Change
from gguf_widgets.core.bench.statistics import Difference, difference

__all__ = ["change_of", "date_and_time", "day_words", "is_alike"]

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

# Other runs that show how much they differ among themselves.
_NUM_EARLIER = 12


def is_alike(row: BenchRow, other: BenchRow) -> bool:
    """Say whether two rows measured the same thing in the same way."""
    return (
        row.machine.digest == other.machine.digest
        and row.model.digest == other.model.digest
        and row.model.settings == other.model.settings
        and row.model.lora == other.model.lora
        and row.model.backend == other.model.backend
        and row.test == other.test
        and row.warmup == other.warmup
    )


def change_of(row: BenchRow, earlier: Sequence[BenchRow]) -> Change | None:
    """Compare a row with the newest of earlier ones that may be compared.

    Parameters
    ----------
    row : BenchRow
    earlier : sequence of BenchRow
        The newest first, not `row` itself among them.

    Returns
    -------
    Change or None
        None if the same was never measured here before.
    """
    alike = [one for one in earlier if is_alike(row, one)]
    if not alike:
        return None
    if not row.is_whole or len(row.samples) < 2:
        return Change(
            verdict="none",
            words="Not compared with earlier ones: one repetition says nothing of the spread"
            if row.repetitions < 2
            else "Not compared with earlier ones: it was stopped",
        )
    if row.was_busy:
        cores = cores_words(row.other_cores or 0.0, row.num_processors)
        return Change(
            verdict="none",
            words=f"Not compared with earlier ones: other programs kept {cores} busy",
        )
    good = [one for one in alike if one.is_whole and not one.was_busy and len(one.samples) > 1]
    if not good:
        return Change(
            verdict="none",
            words="Not compared: what was measured earlier was stopped or disturbed",
        )
    then = good[0]
    runs = [one.avg_tok_per_s for one in reversed(good[:_NUM_EARLIER])]
    found = difference(then.samples, row.samples, runs)
    if found is None:
        return Change(verdict="none", words="Not compared: there is a speed of 0 among them")
    verdict = _verdict(found)
    return Change(
        verdict=verdict,
        words=_words(verdict, found, day_words(then.at, row.at))
        + _engine_words(then.engine, row.engine),
        ratio=1 + found.estimate,
        low=1 + found.low,
        high=1 + found.high,
        at=then.at,
    )


def _verdict(found: Difference) -> str:
    if found.is_clear:
        return "faster" if found.estimate > 0 else "slower"
    return "unclear" if found.is_wide else "same"


def _words(verdict: str, found: Difference, day: str) -> str:
    if verdict == "same":
        return f"About as fast as {day}"
    low, high = sorted((abs(found.low), abs(found.high)))
    if verdict == "unclear":
        return (
            f"Cannot be compared with {day}: the speeds differ too much to tell (from "
            f"{_percent(found.low)} to {_percent(found.high)})"
        )
    return f"{abs(found.estimate):.0%} {verdict} than {day} (between {low:.0%} and {high:.0%})"


def _percent(share: float) -> str:
    return f"{abs(share):.0%} {'slower' if share < 0 else 'faster'}"


def _engine_words(then: Engine, now: Engine) -> str:
    if then == now:
        return ""
    if then.version != now.version:
        return f"; then with llama-cpp-python {then.version or 'unknown'}, now {now.version}"
    if then.build != now.build:
        return "; then with another build of llama.cpp"
    return f"; then with gguf-widgets {then.package}"


def day_words(then: float, now: float) -> str:
    """Say when something was: "on 3 November", "today at 14:05"."""
    when, today = (datetime.fromtimestamp(at).astimezone() for at in (then, now))
    clock = when.strftime("%H:%M")
    days = (today.date() - when.date()).days
    if days == 0:
        return f"today at {clock}"
    if days == 1:
        return f"yesterday at {clock}"
    year = "" if when.year == today.year else f" {when.year}"
    return f"on {when.day} {_MONTHS[when.month - 1]}{year}"


def date_and_time(at: float) -> str:
    """Return a moment as a table shows it: "2026-11-28 14:05"."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")
