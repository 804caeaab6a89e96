"""Numbers as people read them: sizes, counts, times and rates.

Promises: the same number looks the same everywhere on screen and in messages ("4.2 GB", "2.6 M",
"3 min 20 s", "31 tokens/s"); sizes count in thousands, as disks and downloads do; a value that is
no number reads "unknown" instead of failing. Leaves to others: the words around the number.
"""

from __future__ import annotations

import math

__all__ = ["format_bytes", "format_count", "format_duration", "format_rate", "plain_text"]

_UNKNOWN = "unknown"


def format_bytes(num_bytes: float) -> str:
    """Return a size in bytes as text.

    Examples
    --------
    >>> format_bytes(512), format_bytes(5_928_681), format_bytes(4_200_000_000)
    ('512 bytes', '5.9 MB', '4.2 GB')
    """
    if not _is_finite(num_bytes):
        return _UNKNOWN
    if abs(num_bytes) < 1000:
        return "1 byte" if num_bytes == 1 else f"{num_bytes:.0f} bytes"
    return _scaled(num_bytes, ("KB", "MB", "GB", "TB", "PB"))


def format_count(count: float) -> str:
    """Return a count as text: whole below ten thousand, in K, M, B (thousand million), T above.

    Examples
    --------
    >>> format_count(8192), format_count(151_936), format_count(2_600_000), format_count(7.24e9)
    ('8,192', '152 K', '2.6 M', '7.2 B')
    """
    if not _is_finite(count):
        return _UNKNOWN
    if abs(count) < 10_000:
        return f"{count:,.0f}"
    return _scaled(count, ("K", "M", "B", "T"))


def format_duration(seconds: float) -> str:
    """Return a length of time in seconds as text, in at most two units.

    Examples
    --------
    >>> format_duration(0.0421), format_duration(1.25), format_duration(48), format_duration(200)
    ('42 ms', '1.2 s', '48 s', '3 min 20 s')
    >>> format_duration(7500), format_duration(200_000)
    ('2 h 5 min', '2 d 7 h')
    """
    if not _is_finite(seconds):
        return _UNKNOWN
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 0.9995:
        return f"{sign}{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 9.95:
        return f"{sign}{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, part_size, part_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part_size
            return f"{sign}{whole // size} {unit}" + (f" {rest} {part_unit}" if rest else "")
    return f"{sign}{whole} s"


def format_rate(per_second: float, unit: str = "tokens") -> str:
    """Return a rate as text; `unit` is what is counted, and "bytes" reads as a size.

    Examples
    --------
    >>> format_rate(31.4), format_rate(4.26), format_rate(92_000_000, "bytes")
    ('31 tokens/s', '4.3 tokens/s', '92 MB/s')
    """
    if not _is_finite(per_second):
        return _UNKNOWN
    if unit == "bytes":
        return f"{format_bytes(per_second)}/s"
    digits = 1 if abs(per_second) < 9.95 else 0
    return f"{per_second:,.{digits}f} {unit}/s"


def plain_text(text: str, limit: int = 80) -> str:
    r"""Return text from outside (a name, a key of a file) fit to be shown inside a sentence.

    Control characters, line ends and the marks that turn the direction of writing become spaces,
    and what is longer than `limit` characters is cut with an ellipsis. It is still not HTML: a
    widget escapes it as it escapes everything.

    Examples
    --------
    >>> plain_text("tiny\nmodel"), plain_text("x" * 100, limit=5)
    ('tiny model', 'xxxx…')
    """
    shown = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number with more than 300 digits
        return False


def _scaled(value: float, units: tuple[str, ...]) -> str:
    """Divide by 1000 until three digits are left; one decimal below 100, unless it is ".0"."""
    scaled = value
    for unit in units:
        scaled /= 1000
        # 999.5 would be rounded up to "1000", which belongs to the next unit.
        if abs(scaled) < 999.5 or unit == units[-1]:
            text = f"{scaled:,.1f}" if abs(scaled) < 99.95 else f"{scaled:,.0f}"
            return f"{text.removesuffix('.0')} {unit}"
    raise AssertionError("the last unit takes every value")
