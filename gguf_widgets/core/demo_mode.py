"""Whether this machine can run models, and if not, why and what to type.

Promises: llama_cpp is looked for and never imported here; the install line is one for this system
and this Python. Leaves to others: showing it (the widgets), carrying on without it
(`core.engine.scripted`).
"""

from __future__ import annotations

import importlib.util
import platform
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from gguf_widgets.core import config
from gguf_widgets.core.errors import InvalidValueError

__all__ = [
    "BACKENDS",
    "LLAMA_CPP_REQUIREMENT",
    "chosen_backend",
    "demo_reason",
    "install_line",
    "note_broken_llama",
]

BACKENDS = ("llama.cpp", "scripted")

LLAMA_CPP_REQUIREMENT = "llama-cpp-python==0.3.36"
"""As in pyproject.toml, extra "llama"; a test holds the two together."""

# Packages that bring a C++ compiler, by the program that installs them.
_COMPILER_PACKAGES = {
    "apt-get": "sudo apt-get install build-essential",
    "dnf": "sudo dnf install gcc-c++ make",
    "zypper": "sudo zypper install gcc-c++ make",
    "pacman": "sudo pacman -S base-devel",
    "apk": "sudo apk add build-base linux-headers",
}

_broken: str | None = None
_broken_lock = threading.Lock()


def chosen_backend() -> str:
    """Return the backend for this machine: "llama.cpp", or "scripted" in demo mode.

    Raises
    ------
    InvalidValueError
        If ``GGUF_WIDGETS_BACKEND`` names neither.
    """
    override = config.backend_override()
    if override is not None:
        if override not in BACKENDS:
            raise InvalidValueError(
                f"GGUF_WIDGETS_BACKEND is {override!r}; it can be {' or '.join(BACKENDS)}.",
                value=override,
            )
        return override
    return "llama.cpp" if _broken is None and _is_findable() else "scripted"


def demo_reason() -> str | None:
    """Say why the app is in demo mode and how to leave it, in full sentences; None if it is not."""
    if chosen_backend() != "scripted":
        return None
    if config.backend_override() == "scripted":
        return (
            "It was asked for (GGUF_WIDGETS_BACKEND=scripted). Remove that setting to run real "
            "models."
        )
    if _broken is not None:
        return f"{_broken} To install it again: {install_line()}"
    why = "llama-cpp-python, the part that runs models, is not installed."
    left = _left_by_installer()
    if left:
        why = f"llama-cpp-python, the part that runs models, could not be installed: {left}"
    return f"{why} {_compiler_hint()}To install it: {install_line()}"


def install_line() -> str:
    """Return the command that installs llama-cpp-python into this Python."""
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return "conda install -c conda-forge llama-cpp-python"
    python = _quoted(sys.executable or "python")
    command = f"{python} -m pip install {LLAMA_CPP_REQUIREMENT}"
    # On a Mac, Metal comes by itself. CUDA has to be asked for, and needs its compiler.
    if platform.system() != "Darwin" and shutil.which("nvcc"):
        if platform.system() == "Windows":
            return f"set CMAKE_ARGS=-DGGML_CUDA=on && {command}"
        return f"CMAKE_ARGS=-DGGML_CUDA=on {command}"
    return command


def note_broken_llama(reason: str) -> None:
    """Remember that llama_cpp is there and does not start; from now on this is the demo mode."""
    global _broken  # noqa: PLW0603 - one fact about this process
    with _broken_lock:
        _broken = reason


def _is_findable() -> bool:
    try:
        return importlib.util.find_spec("llama_cpp") is not None
    except (ImportError, ValueError):  # a half-removed package
        return False


def _left_by_installer() -> str:
    """Return the reason that `make` has left behind, if it has: the first paragraph."""
    path = Path(sys.prefix) / "share" / "gguf-widgets" / "llama-install-error.txt"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    words = " ".join(text.partition("\n\n")[0].split())
    if len(words) > 400:
        words = f"{words[:400].rstrip()} ..."
    return words if not words or words.endswith((".", "!", "...")) else f"{words}."


def _compiler_hint() -> str:
    """Return a sentence on how to get a compiler, or "" if there is one."""
    if any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        return ""
    system = platform.system()
    if system == "Darwin":
        how = "xcode-select --install"
    elif system == "Windows":
        how = 'install the Visual Studio Build Tools with "Desktop development with C++"'
    else:
        found = [line for program, line in _COMPILER_PACKAGES.items() if shutil.which(program)]
        how = found[0] if found else "install your system's C and C++ compiler"
    return f"It is compiled on your machine, and no C++ compiler was found; first: {how}. "


def _quoted(program: str) -> str:
    if platform.system() == "Windows":
        return subprocess.list2cmdline([program])
    return shlex.quote(program)
