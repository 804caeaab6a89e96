"""GGUF files in the Hugging Face cache.

Promises: of each file of a repository the newest revision that is here, where what a branch or tag
points at (``refs/main`` first) counts as newer than what nothing points at; the SHA-256 that the
cache itself names a file by. Leaves to others: downloading.

The layout, as in ``huggingface_hub`` (``constants.py``, ``file_download.py``, and the guide "Manage
your huggingface_hub cache")::

    <cache>/models--owner--repository/
        refs/main                        the commit that a branch is at
        blobs/<SHA-256, or a git hash>   the contents
        snapshots/<commit>/<file>        a link to a blob; where there are no links, the file itself

The cache is ``HF_HUB_CACHE``, else ``HUGGINGFACE_HUB_CACHE``, else ``hub`` in ``HF_HOME``, else
``huggingface/hub`` in ``XDG_CACHE_HOME`` or ``~/.cache``, on every system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library.items import File, Source, is_model_name
from gguf_widgets.core.library.places import UserDirs
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.library.small_file import read_bounded

__all__ = ["HUGGING_FACE", "hub_cache", "named_sha256"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REF_BYTES: Final = 200

_Revision = dict[tuple[str, ...], list[Path]]


def hub_cache(dirs: UserDirs) -> Path:
    """Return the folder of the cache, by the rules of ``huggingface_hub``."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        value = dirs.env.get(name)
        if value:
            return dirs.expanded(os.path.expandvars(value))
    value = dirs.env.get("HF_HOME")
    home = dirs.expanded(os.path.expandvars(value)) if value else dirs.cache / "huggingface"
    return home / "hub"


def _find(dirs: UserDirs, budget: Budget) -> Iterator[File]:
    try:
        children = budget.children(hub_cache(dirs))
    except (FileNotFoundError, NotADirectoryError):
        return
    for repository, is_folder in children:
        if is_folder and repository.name.startswith("models--"):
            yield from _in_repository(repository, budget)


def _in_repository(folder: Path, budget: Budget) -> Iterator[File]:
    name = folder.name.removeprefix("models--").replace("--", "/")
    try:
        snapshots = [path for path, is_dir in budget.children(folder / "snapshots") if is_dir]
    except (FileNotFoundError, NotADirectoryError):
        return
    refs = _refs(folder / "refs", budget) if len(snapshots) > 1 else []
    revisions: list[_Revision] = []
    for snapshot in sorted(snapshots, key=lambda path: _age(path, refs)):
        groups: _Revision = {}
        for path in budget.files_below(snapshot, is_model_name):
            if isinstance(path, File):
                yield path
            else:
                groups.setdefault(_group(path, snapshot), []).append(path)
        revisions.append(groups)
    for group in dict.fromkeys(key for groups in revisions for key in groups):
        having = [groups[group] for groups in revisions if group in groups]
        # A newer revision may be here in part: a download that was stopped, a blob that was lost.
        most = max(sum(path.exists() for path in paths) for paths in having)
        chosen = next(p for p in having if sum(path.exists() for path in p) == most)
        for path in chosen:
            yield File(path, hint=name, sha256=named_sha256(path))


def _group(path: Path, snapshot: Path) -> tuple[str, ...]:
    """Return what the parts of one model have in common: they have to be of one revision."""
    split = split_name(path)
    relative = path.relative_to(snapshot)
    if split is None or split.num_parts == 1:
        return (relative.as_posix(),)
    return (relative.parent.as_posix(), split.stem, str(split.num_parts))


def _refs(folder: Path, budget: Budget) -> list[str]:
    """Return the commits that branches and tags are at, that of main first."""
    commits: list[str] = []
    for path in budget.files_below(folder, lambda _: True):
        if isinstance(path, File):
            continue
        try:
            commit = read_bounded(path, _REF_BYTES).decode("ascii", "replace").strip()
        except OSError:
            continue
        if _COMMIT.fullmatch(commit):
            is_main = path == folder / "main"
            commits.insert(0 if is_main else len(commits), commit)
    return commits


def _age(snapshot: Path, refs: list[str]) -> tuple[int, float, str]:
    """Return a key that sorts the newest revision first."""
    try:
        changed = snapshot.stat().st_mtime
    except OSError:
        changed = 0.0
    place = refs.index(snapshot.name) if snapshot.name in refs else len(refs)
    return (place, -changed, snapshot.name)


def named_sha256(path: Path) -> str:
    """Return the SHA-256 by which the cache names a file's content; "" if it names it otherwise."""
    try:
        blob = path.readlink().name if path.is_symlink() else ""
    except OSError:
        return ""
    return blob if _SHA256.fullmatch(blob) else ""


HUGGING_FACE: Final = Source("huggingface", "Hugging Face", _find)
