"""Where this system keeps a person's files, for finding those of other programs.

Promises: the folders that Linux (XDG), macOS and Windows name for data, settings and caches, with
the environment variables that move them; nothing is created and nothing outside is asked. Leaves to
others: which program keeps what where (the ``library_*`` file of each).

Sources: the XDG Base Directory Specification (a relative path in one of its variables is to be
ignored), Apple's File System Programming Guide, and Microsoft's list of known folders.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from gguf_widgets.core import config

__all__ = ["UserDirs", "given_path", "user_dirs"]

System = Literal["linux", "macos", "windows"]


@dataclasses.dataclass(frozen=True, slots=True)
class UserDirs:
    """A person's folders.

    Attributes
    ----------
    system : {"linux", "macos", "windows"}
        "linux" stands for every other system that follows XDG.
    home : Path
    data, local_data : Path
        For data of programs; on Windows the folder that moves with the person (``%APPDATA%``) and
        the one that stays on the machine (``%LOCALAPPDATA%``), elsewhere the same.
    config : Path
        For settings.
    cache : Path
        ``~/.cache`` or where ``XDG_CACHE_HOME`` points, on every system: programs from Linux use it
        everywhere.
    env : Mapping of str to str
    """

    system: System
    home: Path
    data: Path
    local_data: Path
    config: Path
    cache: Path
    env: Mapping[str, str]

    def variable(self, name: str) -> Path | None:
        """Return the folder that an environment variable names; None if it is not set."""
        value = self.env.get(name, "").strip()
        return self.expanded(value) if value else None

    def expanded(self, text: str) -> Path:
        """Return an absolute path; "~" is `home`."""
        if text == "~" or text.startswith(("~/", "~\\")):
            return self.home / text[2:]
        return Path(text).absolute()


def user_dirs(env: Mapping[str, str] | None = None, system: System | None = None) -> UserDirs:
    """Return this person's folders.

    Parameters
    ----------
    env : Mapping, optional
        Default: this process's environment.
    system : {"linux", "macos", "windows"}, optional
        Default: this one.
    """
    env = os.environ if env is None else env
    if system is None:
        names: dict[str, System] = {"win32": "windows", "cygwin": "windows", "darwin": "macos"}
        system = names.get(sys.platform, "linux")
    home = Path(env.get("USERPROFILE" if system == "windows" else "HOME") or _own_home())
    cache = _absolute(env, "XDG_CACHE_HOME", home / ".cache")
    if system == "windows":
        roaming = _absolute(env, "APPDATA", home / "AppData" / "Roaming")
        local = _absolute(env, "LOCALAPPDATA", home / "AppData" / "Local")
        return UserDirs(system, home, roaming, local, roaming, cache, env)
    if system == "macos":
        support = home / "Library" / "Application Support"
        return UserDirs(system, home, support, support, support, cache, env)
    data = _absolute(env, "XDG_DATA_HOME", home / ".local" / "share")
    settings = _absolute(env, "XDG_CONFIG_HOME", home / ".config")
    return UserDirs(system, home, data, data, settings, cache, env)


def given_path(text: object, base: Path, *, inside: bool = True) -> Path | None:
    r"""Return the path that another program's file gives; None if it is not to be followed.

    An absolute path is taken as it is: such files are how a person tells that program about files
    that lie elsewhere. A relative one is meant from `base` and must not leave it. Never followed is
    the address of another machine (``\\machine\share``): only looking at it would send this
    person's Windows credentials there.

    Parameters
    ----------
    text : object
        What the file holds; only a text of a sensible length can be a path.
    base : Path
    inside : bool, default True
        Whether a relative path has to stay inside `base`.
    """
    if not isinstance(text, str) or not 0 < len(text) <= 4096 or "\0" in text:
        return None
    if text.startswith(("\\\\", "//")):
        return None
    path = Path(text)
    if path.is_absolute():
        return path
    parts = text.replace("\\", "/").split("/")
    # A drive without a root ("C:model.gguf") would mean a folder that nobody can know.
    if (inside and ".." in parts) or path.drive or path.root:
        return None
    return base.joinpath(*parts)


def _absolute(env: Mapping[str, str], name: str, default: Path) -> Path:
    value = Path(env.get(name) or default)
    return value if value.is_absolute() else default


def _own_home() -> Path:
    """Return the home folder; a process without one gets a folder in which nothing is."""
    try:
        return Path.home()
    except RuntimeError:
        return config.data_dir() / "no-home"
