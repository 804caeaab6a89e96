"""What a docstring says of a function: its summary, and a few words for each parameter.

Promises: the styles of NumPy, Google and Sphinx (``:param name: ...``) are read; of any other text
the part before the first section is the summary. It never fails: what it cannot read gives no
words. Leaves to others: what is done with them (`toolbox`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Described", "read"]

# Longer ones would fill a small model's context before anybody has said a word.
_MAX_SUMMARY = 2000
_MAX_WORDS = 600

_NUMPY_RULE = re.compile(r"^\s*-{3,}\s*$")
_SECTION = re.compile(
    r"^(args|arguments|parameters|params|other parameters|keyword args|keyword arguments|returns?|"
    r"yields?|raises|examples?|notes?|see also|references|warnings?|attributes|todo)\s*:?\s*$",
    re.IGNORECASE,
)
_OF_PARAMETERS = re.compile(
    r"^(args|arguments|(other )?parameters|params|keyword arg(ument)?s)\b", re.IGNORECASE
)
_GOOGLE = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_NUMPY = re.compile(r"^(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SPHINX = re.compile(r"^:(param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:")
_SPHINX_ANY = re.compile(r"^:\w+[^:]*:")


class Described(NamedTuple):
    """The words before the first section, and those for each parameter by its name."""

    summary: str
    parameters: dict[str, str]


def read(docstring: str | None) -> Described:
    """Read a docstring."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    summary: list[str] = []
    parameters: dict[str, str] = {}
    index = 0
    while index < len(lines):
        name, following = _section_at(lines, index)
        if name is not None:
            end = following
            while end < len(lines) and _section_at(lines, end)[0] is None:
                end += 1
            if _OF_PARAMETERS.match(name):
                body = lines[following:end]
                numpy = following == index + 2
                parameters |= _numpy(body) if numpy else _google(body)
            index = end
        elif _SPHINX_ANY.match(lines[index]):
            parameters |= _sphinx(lines[index:])
            break
        else:
            summary.append(lines[index])
            index += 1
    return Described(_flow(summary)[:_MAX_SUMMARY], parameters)


def _section_at(lines: list[str], index: int) -> tuple[str | None, int]:
    """Return the name of the section that begins here and the line after its head."""
    line = lines[index]
    if not line[:1].strip() or not _SECTION.match(line.strip()):
        return None, index
    if index + 1 < len(lines) and _NUMPY_RULE.match(lines[index + 1]):
        return line.strip(), index + 2
    return (line.strip(), index + 1) if line.rstrip().endswith(":") else (None, index)


def _numpy(body: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in body:
        head = _NUMPY.match(line) if line[:1].strip() else None
        if head is not None:
            names = [name.strip(" *") for name in head[1].split(",")]
            found |= {name: [] for name in names}
        else:
            for name in names:
                found[name].append(line)
    return _words(found)


def _google(body: list[str]) -> dict[str, str]:
    indents = [len(line) - len(line.lstrip()) for line in body if line.strip()]
    margin = min(indents, default=0)
    found: dict[str, list[str]] = {}
    name: str | None = None
    for line in body:
        # Only at the margin: "Note: ..." further in belongs to the words.
        head = _GOOGLE.match(line[margin:]) if line.strip() and line[:margin].isspace() else None
        if head is not None and not line[margin:][:1].isspace():
            name = head[1]
            found[name] = [head[2]]
        elif name is not None:
            found[name].append(line)
    return _words(found)


def _sphinx(lines: Iterable[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    name: str | None = None
    for line in lines:
        head = _SPHINX.match(line)
        if head is not None:
            name = head[2]
            found[name] = [line[head.end() :]]
        elif _SPHINX_ANY.match(line) or not line.strip():
            name = None
        elif name is not None:
            found[name].append(line)
    return _words(found)


def _words(found: dict[str, list[str]]) -> dict[str, str]:
    words = {name: _flow(lines).replace("\n\n", " ")[:_MAX_WORDS] for name, lines in found.items()}
    return {name: text for name, text in words.items() if text}


def _flow(lines: list[str]) -> str:
    """Join the lines of each paragraph."""
    paragraphs = "\n".join(line.strip() for line in lines).split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs if one.strip())
