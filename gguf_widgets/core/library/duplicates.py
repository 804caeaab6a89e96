"""Which models of a list are the same file twice.

Promises: entries of the same size and header are taken for the same until their SHA-256 say
otherwise; entries with the same SHA-256 are the same. Leaves to others: computing hashes
(`hashes`), and one file with several names, which is one entry (`scan`).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable

from gguf_widgets.core.library.entry import ModelEntry

__all__ = ["with_duplicates"]


def with_duplicates(entries: Iterable[ModelEntry]) -> list[ModelEntry]:
    """Return the entries with `duplicates_of` found anew."""
    entries = list(entries)
    groups: defaultdict[tuple[int, str], list[ModelEntry]] = defaultdict(list)
    for entry in entries:
        if entry.info is not None and entry.fingerprint:
            groups[entry.info.size_bytes, entry.fingerprint].append(entry)
    alike: dict[int, tuple[str, ...]] = {}
    for group in groups.values():
        # One tuple for all that share it: a folder with a thousand copies must not cost a million.
        for sha256 in {entry.known_sha256 for entry in group} if len(group) > 1 else ():
            names = tuple(e.name for e in group if not _differ(e.known_sha256, sha256))
            alike.update({id(e): names for e in group if e.known_sha256 == sha256})
    return [
        entry
        if entry.alike == (names := alike.get(id(entry), ()))
        else dataclasses.replace(entry, alike=names)
        for entry in entries
    ]


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other
