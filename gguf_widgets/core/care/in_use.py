"""Who has a model loaded, before its file is changed.

Promises: every worker of this user on this machine that holds one of the files, by whatever name it
was reached, also as an adapter; looking takes a second at most and keeps none alive. Leaves to
others: ending one (`core.workers`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from gguf_widgets.core.care.members import ModelFiles
from gguf_widgets.core.errors import ModelInUseError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.worker import registry
from gguf_widgets.core.worker.registry import Entry
from gguf_widgets.core.worker.spec import printable
from gguf_widgets.core.worker_facts import Worker, listed
from gguf_widgets.core.workers import look_at

__all__ = ["in_use_sentence", "refuse_if_loaded", "workers_of"]

_ANSWER_TIMEOUT_S: Final = 1.0


def workers_of(paths: Iterable[Path]) -> list[Worker]:
    """Return the workers that hold any of these files; for a link, those that came by it."""
    wanted = list(paths)
    entries = [
        entry
        for entry in registry.list_processes()
        if any(_is_same(used, path) for used in _files_of(entry) for path in wanted)
        or _maps_one(entry, wanted)
    ]
    return list(look_at(entries, _ANSWER_TIMEOUT_S)) if entries else []


def refuse_if_loaded(files: ModelFiles, verb: str, *, confirm: bool) -> list[Worker]:
    """Return the workers that hold the model, if that was confirmed or there are none.

    Parameters
    ----------
    files : ModelFiles
    verb : str
        "renamed", "removed".
    confirm : bool
        Whether the person has said that it shall be done all the same.

    Raises
    ------
    ModelInUseError
        "in_use", with the workers' numbers as `pids`.
    """
    holders = workers_of(member.path for member in files.members)
    if holders and not confirm:
        raise ModelInUseError(
            f'The model "{plain_text(files.stem, 100)}" is loaded ({in_use_sentence(holders)}). '
            f"It can be {verb} all the same if you confirm it, or stop it first "
            '("gguf-widgets stop").',
            problem="in_use",
            pids=[worker.pid for worker in holders],
        )
    return holders


def in_use_sentence(holders: Sequence[Worker]) -> str:
    """Return who holds it, for a sentence."""
    told = []
    for worker in holders:
        who = f", used by {listed(worker.users)}" if worker.users else ""
        told.append(f"process {worker.pid}{who}")
    return "; ".join(told)


def _files_of(entry: Entry) -> list[str]:
    return [entry.model_path, *(path for path, _ in entry.requested.lora)]


def _maps_one(entry: Entry, wanted: Sequence[Path]) -> bool:
    """Find a file that has been renamed since it was loaded, by what the process has mapped."""
    if Path(entry.model_path).exists() or registry.process_of(entry) is None:
        return False
    try:
        # By their numbers: the names in it may be those of before. Only Linux has this file.
        lines = Path(f"/proc/{entry.pid}/maps").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False
    mapped = {tuple(fields[3:5]) for line in lines if len(fields := line.split()) > 5}
    return any(_numbers(path) in mapped for path in wanted if not path.is_symlink())


def _numbers(path: Path) -> tuple[str, str] | None:
    """Return a file's device and number as the list of what is mapped writes them."""
    try:
        status = path.stat()
    except OSError:
        return None
    device = status.st_dev
    return f"{os.major(device):02x}:{os.minor(device):02x}", str(status.st_ino)


def _is_same(used: str, path: Path) -> bool:
    if used == printable(path):
        return True
    try:
        # Whoever came by another name holds what a link leads to, and not the link.
        return not path.is_symlink() and path.samefile(used)
    except (OSError, ValueError):
        return False
