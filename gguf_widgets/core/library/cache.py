"""Remembers what headers said, as long as their files stay the same; across sessions, too.

Promises: a file's header is read once, and again only when its size, times or number on the disk
change, or those of any part of a split model; safe from several threads and processes; bounded.
What is kept on the disk is checked before it is believed, and thrown away where it does not fit.
Leaves to others: reading and judging (`facts`).

On the disk, in ``library/headers.msgpack`` in the data folder, an answer belongs to a path and to
the size, times and inode of each part. The device's number is left out: it changes with a restart.
Chat templates are kept once each, because quantisations of one model share theirs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.gguf_values import FileIdentity
from gguf_widgets.core.library.facts import CAPABILITIES, Facts, read_facts
from gguf_widgets.core.library.small_file import SmallFile

__all__ = ["HEADERS", "HeaderCache", "identities"]

Identities = tuple[FileIdentity | None, ...]

# What may heal without the file itself changing (a mounted disk, a parent folder's permission).
_PASSING: Final = ("UnreadableFileError", "ModelNotFoundError")

# Raised whenever the same file would be judged otherwise than before.
_VERSION: Final = 1
_MAX_BYTES: Final = 16_000_000
_MAX_FILES: Final = 4096
_MAX_TEXT: Final = 1 << 20
# So that a look that is stopped has not been in vain.
_SAVE_EVERY: Final = 200

_State = list[tuple[int, int, int, int] | None]


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """One answer: for which state of the file, and the place of its template in the table."""

    path: str
    state: _State
    facts: Facts
    template: int = -1


class _File(msgspec.Struct, kw_only=True):
    version: int = _VERSION
    templates: list[str] = []
    answers: list[_Kept] = []  # the longest unused first


class HeaderCache:
    """Answers by path, the longest unused dropped first.

    Parameters
    ----------
    max_files : int, default 4096
    """

    def __init__(self, max_files: int = _MAX_FILES) -> None:
        self._max_files = max_files
        self._answers: OrderedDict[Path, tuple[Identities, Facts]] = OrderedDict()
        self._kept: dict[str, _Kept] = {}
        self._templates: list[str] = []
        self._kept_state: object = ()  # of the file when it was read; () is "never"
        self._lock = threading.Lock()
        self._file: SmallFile[_File] = SmallFile(
            "headers.msgpack", _File, version=_VERSION, max_bytes=_MAX_BYTES, shrink=_newer_half
        )

    def read_all(self, paths: Iterable[Path], *, keep: bool = True) -> list[Facts]:
        """Return what is known of some files, in order, reading those that are new or changed.

        Parameters
        ----------
        paths : iterable of Path
        keep : bool, default True
            Whether what is read is kept on the disk.
        """
        self._look_at_disk()
        fresh: dict[Path, tuple[Identities, Facts]] = {}
        found: list[Facts] = []
        try:
            for path in paths:
                state = identities(path)
                facts = self._known(path, state)
                if facts is None:
                    facts = read_facts(path)
                    if facts.failure is None or facts.failure[0] not in _PASSING:
                        self._remember(path, state, facts)
                        if keep:
                            fresh[path] = (state, facts)
                found.append(facts)
                if len(fresh) >= _SAVE_EVERY:
                    self._save(fresh)
                    fresh = {}
        finally:
            if fresh:
                self._save(fresh)
        return found

    def forget(self) -> None:
        """Forget everything that is in this process's memory; the file stays."""
        with self._lock:
            self._answers.clear()
            self._kept, self._templates, self._kept_state = {}, [], ()

    def _known(self, path: Path, state: Identities) -> Facts | None:
        with self._lock:
            answer = self._answers.get(path)
            if answer is not None and answer[0] == state:
                self._answers.move_to_end(path)
                return answer[1]
            kept = self._kept.get(str(path))
            templates = self._templates
        if kept is None or kept.state != _on_disk(state):
            return None
        facts = _checked(kept, templates)
        if facts is not None:
            self._remember(path, state, facts)
        return facts

    def _remember(self, path: Path, state: Identities, facts: Facts) -> None:
        with self._lock:
            self._answers[path] = (state, facts)
            self._answers.move_to_end(path)
            while len(self._answers) > self._max_files:
                self._answers.popitem(last=False)

    def _look_at_disk(self) -> None:
        """Read the file if it is not the one that was read last: other processes write it, too."""
        state = self._file.state()
        with self._lock:
            if state == self._kept_state:
                return
        content = self._file.read()
        with self._lock:
            self._kept = {kept.path: kept for kept in content.answers}
            self._templates = content.templates
            self._kept_state = state

    def _save(self, fresh: dict[Path, tuple[Identities, Facts]]) -> None:
        def with_fresh(content: _File) -> _File:
            places = {text: number for number, text in enumerate(content.templates)}
            new = {str(path): _packed(path, *answer, places) for path, answer in fresh.items()}
            old = [kept for kept in content.answers if kept.path not in new]
            return _compact(_File(templates=list(places), answers=[*old, *new.values()]))

        self._file.try_update(with_fresh)


def identities(path: Path) -> Identities:
    """Return the state of a model's file, or of all its parts; None for one that is not there."""
    split = split_name(path)
    if split is None or not 1 < split.num_parts <= 1000:
        return (_identity(path),)
    numbers = range(1, split.num_parts + 1)
    return tuple(_identity(split.path_of(number, path.parent)) for number in numbers)


def _identity(path: Path) -> FileIdentity | None:
    try:
        return FileIdentity.of(path.stat())
    except (OSError, ValueError):
        return None


def _on_disk(state: Identities) -> _State:
    return [None if one is None else tuple(one[1:]) for one in state]  # type: ignore[misc]


def _packed(path: Path, state: Identities, facts: Facts, places: dict[str, int]) -> _Kept:
    """Return an answer as it is kept, its template put into the table."""
    info = facts.info
    if info is None or info.chat_template is None:
        return _Kept(str(path), _on_disk(state), facts)
    place = places.setdefault(info.chat_template, len(places))
    without = msgspec.structs.replace(info, chat_template=None)
    return _Kept(str(path), _on_disk(state), msgspec.structs.replace(facts, info=without), place)


def _checked(kept: _Kept, templates: list[str]) -> Facts | None:
    """Return an answer as it was, or None if it is not one that we can have written."""
    facts = kept.facts
    info = facts.info
    if (info is None) == (facts.failure is None) or not {*facts.capabilities} <= {*CAPABILITIES}:
        return None
    if facts.size_bytes < 0:
        return None
    if info is None:
        known = facts.failure is not None and type(facts.error()).__name__ == facts.failure[0]
        return facts if known else None
    numbers = (info.size_bytes, info.num_parameters, info.n_ctx_train, info.n_vocab, info.n_layer)
    shown = (info.name, info.architecture, info.quantization, info.license, info.author, info.url)
    if info.path != kept.path and split_name(Path(kept.path)) is None:
        return None
    if min(numbers) < 0 or any(text and not text.isprintable() for text in shown):
        return None
    if kept.template == -1:
        return facts
    if not 0 <= kept.template < len(templates) or len(templates[kept.template]) > _MAX_TEXT:
        return None
    whole = msgspec.structs.replace(info, chat_template=templates[kept.template])
    return msgspec.structs.replace(facts, info=whole)


def _compact(content: _File) -> _File:
    """Return it with no more answers than are kept, and no template that none of them uses."""
    answers = content.answers[-_MAX_FILES:]
    used = sorted({a.template for a in answers if 0 <= a.template < len(content.templates)})
    places = {old: new for new, old in enumerate(used)}
    return _File(
        templates=[content.templates[old] for old in used],
        answers=[
            _Kept(a.path, a.state, a.facts, places.get(a.template, -1))
            for a in answers
            if a.template == -1 or a.template in places
        ],
    )


def _newer_half(content: _File) -> _File:
    newer = content.answers[len(content.answers) // 2 + len(content.answers) % 2 :]
    return _compact(_File(templates=content.templates, answers=newer))


# One for the process: every library, widget and thread shares it.
HEADERS: Final = HeaderCache()
