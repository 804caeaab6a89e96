"""Where things are kept on this machine, and the few switches that come from the environment.

Promises: every folder this program uses is named here and nowhere else; nothing is created by
asking for a path (`ensure` does that). Leaves to others: what is written there.

==========================  =====================================================================
variable                    meaning
==========================  =====================================================================
``GGUF_WIDGETS_HOME``       the data folder; everything below is inside it
``GGUF_WIDGETS_MODELS``     more folders to look for models in, separated like ``PATH``
``GGUF_WIDGETS_SOURCES``    which other programs' models are listed: see `library.sources`
``GGUF_WIDGETS_BROWSE``     the folders in which a page may look for files that are on this machine,
                            separated like ``PATH``; "none" forbids it: see `library.browse`
``GGUF_WIDGETS_BACKEND``    "scripted" forces the demo mode, "llama.cpp" refuses it
``GGUF_WIDGETS_DEMO_PACE``  the demo mode's tokens per second; 0 is as fast as possible
``GGUF_WIDGETS_TRANSPORT``  "tcp" has workers listen on a loopback port, not on a socket file
==========================  =====================================================================
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import platformdirs

from gguf_widgets.core.errors import InvalidValueError

__all__ = [
    "BROWSE",
    "backend_override",
    "browse_dirs",
    "data_dir",
    "ensure",
    "expanded",
    "extra_model_dirs",
    "library_dir",
    "log_dir",
    "models_dir",
    "runtime_dir",
    "scripted_pace",
    "state_key_path",
    "store_path",
    "transport_override",
    "trash_dir",
]

_APP = "gguf-widgets"

BROWSE = "GGUF_WIDGETS_BROWSE"
"""The variable that says where a page may look; the dashboard's server sets it for its kernels."""

# A Unix-domain socket's path may hold 107 bytes on Linux and 103 on macOS; a worker's socket adds
# a folder and a name of about 30 to the runtime folder.
_LONGEST_RUNTIME_DIR = 60


def data_dir() -> Path:
    """Return the data folder: ``GGUF_WIDGETS_HOME``, else the platform's place for user data."""
    home = os.environ.get("GGUF_WIDGETS_HOME")
    return expanded(home) if home else platformdirs.user_data_path(_APP)


def models_dir() -> Path:
    """Return the folder for the user's own model files."""
    return data_dir() / "models"


def trash_dir() -> Path:
    """Return the folder for models that were removed and can come back."""
    return data_dir() / "trash"


def library_dir() -> Path:
    """Return the folder for what is remembered of model files: headers, hashes, added folders."""
    return data_dir() / "library"


def log_dir() -> Path:
    """Return the folder for the workers' log files."""
    return data_dir() / "logs"


def store_path() -> Path:
    """Return the SQLite file with conversations and preferences."""
    return data_dir() / "store.sqlite3"


def state_key_path() -> Path:
    """Return the file with the secret that marks saved prefixes as this user's own."""
    return data_dir() / "state.key"


def runtime_dir() -> Path:
    """Return the folder for sockets and locks; whoever makes it makes it private (0700).

    It is inside the data folder unless that path is too long for a socket's name: then it is a
    folder of this user's in the system's temporary folder, told apart by a digest of the name.
    """
    inside = data_dir() / "run"
    if len(os.fsencode(inside)) <= _LONGEST_RUNTIME_DIR:
        return inside
    digest = hashlib.sha256(os.fsencode(inside)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"{_APP}-{_user_tag()}-{digest}"


def extra_model_dirs() -> list[Path]:
    """Return the folders of ``GGUF_WIDGETS_MODELS``, in order, empty names left out."""
    value = os.environ.get("GGUF_WIDGETS_MODELS", "")
    return [expanded(part) for part in value.split(os.pathsep) if part]


def browse_dirs() -> list[Path] | None:
    """Return the folders of ``GGUF_WIDGETS_BROWSE``; [] if it forbids looking, None if not set."""
    value = os.environ.get(BROWSE, "").strip()
    if not value:
        return None
    return [] if value.lower() == "none" else [expanded(p) for p in value.split(os.pathsep) if p]


def backend_override() -> str | None:
    """Return what ``GGUF_WIDGETS_BACKEND`` says, or None."""
    return os.environ.get("GGUF_WIDGETS_BACKEND") or None


def transport_override() -> str | None:
    """Return what ``GGUF_WIDGETS_TRANSPORT`` says, or None."""
    return os.environ.get("GGUF_WIDGETS_TRANSPORT") or None


def scripted_pace() -> float:
    """Return the demo mode's tokens per second, from ``GGUF_WIDGETS_DEMO_PACE`` if it is set.

    A token of the demo mode is one letter: 120 of them are read like 30 tokens of a real model.
    """
    value = os.environ.get("GGUF_WIDGETS_DEMO_PACE") or "120"
    try:
        pace = float(value)
    except ValueError:
        pace = -1.0
    if not 0 <= pace < float("inf"):
        raise InvalidValueError(
            f"GGUF_WIDGETS_DEMO_PACE is {value!r}; it must be a number from 0 (no pause) up."
        )
    return pace


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path, in which "~" is the home folder.

    The home folder of a user whom this system does not know is a name like any other.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        return Path(path).absolute()


def ensure(folder: Path, *, private: bool = False) -> Path:
    """Create a folder if it is not there and return it; `private` means 0700."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    if private and os.name == "posix":
        folder.chmod(0o700)
    return folder


def _user_tag() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
