r"""Reads the lists of templates and words, which are text files beside this one.

Promises: `section` returns the entries in the order of the file. A section `[name]` has one
entry a line, where `\n` stands for a new line and `(nothing)` for an empty entry; a section
`[name words]` has entries parted by blanks, where `_` stands for a blank inside an entry. Lines
that begin with `#` are comments.

Leaves to others: what the entries mean.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def _sections(file: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    words = False
    entries: list[str] = []
    text = (files(__package__) / "texts" / f"{file}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            name, _, kind = line[1:-1].partition(" ")
            words = kind == "words"
            entries = found.setdefault(name, [])
        elif words:
            entries += (word.replace("_", " ") for word in line.split())
        else:
            entries.append("" if line == "(nothing)" else line.replace("\\n", "\n"))
    return {name: tuple(lines) for name, lines in found.items()}


def section(file: str, name: str) -> tuple[str, ...]:
    """Return the entries of one section.

    Parameters
    ----------
    file
        The file's name without its ending.
    name
        The section.
    """
    return _sections(file)[name]
