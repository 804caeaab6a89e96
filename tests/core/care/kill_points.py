"""Does one thing with models again and again, and is killed each time one step later.

Not a test and no fixture: `test_killed.py` runs it as a program. Before every change of the file
system (the audit events of Python's own calls) a child is killed with SIGKILL, once for each such
point, until one child gets to its end. After each, what is on the disk is printed as one JSON
line, as it was left and as it is after the next look at the trash.

    python kill_points.py WHAT MODELS_FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gguf_widgets.core import config
from gguf_widgets.core.care.removing import empty_trash, remove, restore, trash
from gguf_widgets.core.care.renaming import rename

_CHANGES = {
    "os.rename",
    "os.link",
    "os.remove",
    "os.symlink",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
}
_MOST_POINTS = 400


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in _CHANGES


def _killed_at(point: int, work: Callable[[], object]) -> bool:
    """Run it in a child that is killed before its change number `point`; False: it got through."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if _is_change(event, arguments):
                if seen == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(hook)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise SystemExit(f"the child failed: {status}")
    return False


def _state(folder: Path) -> dict[str, list[str]]:
    """Return what is where: in the models folder and in the trash, by name and content."""

    def listed(place: Path) -> list[str]:
        found = [p for p in place.rglob("*") if p.is_file() and p.name != "record.json"]
        return sorted(
            f"{p.name}={p.read_bytes()[-16:].hex()}"
            for p in found
            if not p.name.startswith((".", "renaming-"))
        )

    return {"models": listed(folder), "trash": listed(config.trash_dir())}


def main(what: str, folder: Path) -> None:
    template = folder.with_name("template")
    shutil.copytree(folder, template)
    first = min(folder.rglob("*.gguf")).relative_to(folder)
    for point in range(_MOST_POINTS):
        for place in (folder, config.trash_dir()):
            # The folder itself may be a link to another disk.
            if place.exists():
                for path in place.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(template, folder, dirs_exist_ok=True)  # with the files' times
        works: dict[str, Callable[[], object]] = {
            "remove": lambda: remove(folder / first),
            "restore": lambda: restore(trash()[0]),
            "rename": lambda: rename(folder / first, "renamed"),
            "empty": empty_trash,
        }
        if what in ("restore", "empty"):
            remove(folder / first)
        killed = _killed_at(point, works[what])
        left = _state(folder)
        entries = [[e.name, len(e.files), e.num_missing] for e in trash()]
        notes = [path.name for path in config.trash_dir().rglob("*") if path.is_file()]
        hidden = [path.name for path in folder.rglob(".*") if path.name != ".downloads"]
        line = {"hidden": hidden, "killed": killed, "left": left, "healed": _state(folder)}
        sys.stdout.write(json.dumps({**line, "entries": entries, "notes": notes}) + "\n")
        if not killed:
            return
    raise SystemExit("it never got to its end")


if __name__ == "__main__":
    config.ensure(config.models_dir())
    main(sys.argv[1], Path(sys.argv[2]))
