"""The folders in which a page may look for model files that are on this machine already.

Promises: what `allowed_roots` returns is all there is: without ``GGUF_WIDGETS_BROWSE`` the home
folder, the models folder, the folders that were added, and the disks that a person has put in; with
it, the folders that it names and nothing else; none at all if it says "none". Nothing is opened but
the few folders in which a system puts its disks. Leaves to others: looking into them (`browse`).

Where disks are put: ``/media/NAME`` (udisks on Debian and Ubuntu), ``/run/media/NAME`` (elsewhere)
and ``/mnt`` (by hand, WSL); ``/Volumes`` on macOS; letters on Windows.
"""

from __future__ import annotations

import itertools
import os
import string
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gguf_widgets.core import config
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library.places import UserDirs, user_dirs
from gguf_widgets.core.library.sources import own_folders

__all__ = ["Root", "allowed_roots", "is_allowed"]

_MAX_DISKS: Final = 50


class Root(NamedTuple):
    """A folder that may be looked through, and all below it.

    Attributes
    ----------
    path : Path
        Absolute, its links followed.
    title : str
        In words.
    """

    path: Path
    title: str


def is_allowed() -> bool:
    """Say whether looking for files on this machine is allowed at all."""
    return config.browse_dirs() != []


def allowed_roots(dirs: UserDirs | None = None) -> list[Root]:
    """Return the folders that may be looked through; asked for again each time.

    Parameters
    ----------
    dirs : UserDirs, optional
        Default: this person's.
    """
    given = config.browse_dirs()
    if given is not None:
        return _distinct((path, _last_name(path)) for path in given)
    dirs = user_dirs() if dirs is None else dirs
    own, *added = own_folders()
    wanted = [
        (dirs.home, "Home folder"),
        (own, "Models folder"),
        *((path, _last_name(path)) for path in added),
        *((path, _last_name(path)) for path in _disks(dirs.system)),
    ]
    roots = _distinct((path, title) for path, title in wanted if _is_folder(path))
    # A service without a home folder of its own has "/": that would be the whole machine.
    on_windows = dirs.system == "windows"
    return [root for root in roots if on_windows or root.path != Path(root.path.anchor)]


def _distinct(wanted: Iterable[tuple[Path, str]]) -> list[Root]:
    roots: dict[Path, Root] = {}
    for path, title in wanted:
        try:
            real = Path(os.path.realpath(path))
        except (OSError, ValueError):
            continue  # no name that a folder can have
        roots.setdefault(real, Root(real, title))
    return list(roots.values())


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _last_name(path: Path) -> str:
    return plain_text(path.name or str(path), 60)


def _disks(system: str, base: Path = Path("/")) -> Iterator[Path]:
    """Yield the folders or letters of disks; only their parents are looked into."""
    if system == "windows":
        yield from _letters()
    elif system == "macos":
        yield from _folders_in(base / "Volumes")
    else:
        user = _login_name()
        for parent in ("media", "run/media") if user else ():
            yield from _folders_in(base / parent / user)
        if any(_folders_in(base / "mnt")):
            yield base / "mnt"


def _folders_in(folder: Path) -> Iterator[Path]:
    """Yield the folders in one, by name; links, such as macOS's to its own disk, are left out."""
    try:
        with os.scandir(folder) as entries:
            # Without a look at the folder itself: a network disk that is gone would keep us.
            found = [e.name for e in itertools.islice(entries, 1000) if _is_real_folder(e)]
    except OSError:
        return
    for name in sorted(found)[:_MAX_DISKS]:
        if not name.startswith("."):
            yield folder / name


def _is_real_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _login_name() -> str:
    if sys.platform == "win32":
        return ""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's made-up user
        return ""


def _letters() -> list[Path]:
    import ctypes

    # Not there but on Windows, which a type checker on another system cannot know.
    kernel32 = getattr(ctypes, "windll").kernel32  # noqa: B009
    mask = int(kernel32.GetLogicalDrives())
    used = (c for number, c in enumerate(string.ascii_uppercase) if mask >> number & 1)
    return [Path(f"{letter}:\\") for letter in used]
