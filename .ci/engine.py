"""Install llama-cpp-python, which is compiled on the spot, and live with it when that fails.

Promises: a failure never stops the rest. Its reason and its fix are printed and kept in
``<environment>/share/gguf-widgets/llama-install-error.txt``, which the app shows in demo mode; the
full log lies beside it. A build that failed is tried again only when asked to (`again`) or when
something it depends on has changed: the version, the Python, the compiler, or its settings. An
engine that was built but does not start on this machine counts as failed and is taken out again.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from logged import run_logged, say, tail

LIMIT_S = 5400.0
PACKAGE = "llama-cpp-python"
# What a person may set to change how the engine is compiled.
BUILD_SWITCHES = ("CMAKE_ARGS", "FORCE_CMAKE", "CC", "CXX", "CFLAGS", "CXXFLAGS", "CUDACXX")
COMPILERS = {"CC": ("cc", "gcc", "clang"), "CXX": ("c++", "g++", "clang++")}
SELF_TEST = "import llama_cpp; llama_cpp.llama_backend_init(); llama_cpp.llama_print_system_info()"


def share_dir() -> Path:
    """Return the folder for logs and reasons inside the environment that runs this."""
    return Path(sys.prefix) / "share" / "gguf-widgets"


def error_file() -> Path:
    """Return the file that the app reads to say why there is no engine."""
    return share_dir() / "llama-install-error.txt"


def install(pyproject: Path, *, again: bool) -> bool:
    """Make sure that the pinned engine is installed and starts; True if it does.

    Parameters
    ----------
    pyproject : Path
        The file whose extra ``llama`` says which version.
    again : bool
        Try although nothing has changed since it failed, and compile it anew where it is installed
        and build settings are given in the environment.
    """
    requirement = _requirement(pyproject)
    settings = {name: os.environ[name] for name in BUILD_SWITCHES if os.environ.get(name)}
    rebuild = again and bool(settings)
    if _installed() == requirement and not rebuild:
        error_file().unlink(missing_ok=True)
        return True
    circumstances = _circumstances(requirement, settings)
    remembered = share_dir() / "llama-install-tried.txt"
    if (
        not again
        and error_file().exists()
        and remembered.exists()
        and remembered.read_text(encoding="utf-8") == circumstances
    ):
        say(
            "The engine did not build earlier, so the app runs in demo mode.\n"
            f"  The reason: {error_file()}\n  To try again: make llama"
        )
        return False

    log = share_dir() / "llama-install.log"
    reason = _attempt(requirement, log, fresh=bool(settings), rebuild=rebuild)
    if reason is None:
        error_file().unlink(missing_ok=True)
        remembered.unlink(missing_ok=True)
        say("The engine is installed and starts.")
        return True
    remembered.write_text(circumstances, encoding="utf-8")
    _report(requirement, reason, log)
    return False


def _attempt(requirement: str, log: Path, *, fresh: bool, rebuild: bool) -> str | None:
    """Install and try out; return None, or why it failed in one sentence."""
    say(
        f"Installing the engine, {requirement}: compiling it takes 6 to 8 minutes on two cores,\n"
        "less where pip still has it from an earlier time."
    )
    if not _compiler("CC") or not _compiler("CXX"):
        say(f"  There is no C and C++ compiler on this machine. {_compiler_fix()}")
    status = _pip(requirement, log, fresh=fresh, rebuild=rebuild)
    if status == 0 and not fresh and (fault := _self_test()):
        # pip keeps what it compiled, and a home folder may move to another processor.
        say(f"  The engine that pip had kept does not start here ({fault}); compiling it anew.")
        status = _pip(requirement, log, fresh=True, rebuild=True)
    if status != 0:
        return _why(log, status)
    if fault := _self_test():
        subprocess.run(
            [sys.executable, "-m", "pip", "uninstall", "-y", "-q", PACKAGE],
            check=False,
            timeout=120,
        )
        return f"it was compiled, but it does not start on this machine: {fault}."
    return None


def _pip(requirement: str, log: Path, *, fresh: bool, rebuild: bool) -> int:
    # -v: the compiler's "[12/290]" goes into the log, and from there into the progress lines.
    command = [sys.executable, "-m", "pip", "install", "-v", "--progress-bar", "off"]
    if fresh:  # pip's cache does not know which settings a wheel was compiled with
        command += ["--no-cache-dir", "--no-binary", PACKAGE]
    if rebuild:
        command += ["--force-reinstall", "--no-deps"]
    # A make that builds in parallel hands its job server down, which the inner make cannot use.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")}
    # Without these the build takes the compiler that Python itself was built with, there or not.
    for kind, names in COMPILERS.items():
        if kind not in environment and (path := _first_on_path(names)):
            environment[kind] = path
    return run_logged(
        [*_nice(), *command, requirement],
        log=log,
        what="compiling the engine",
        limit_s=LIMIT_S,
        environment=environment,
    )


def _self_test() -> str | None:
    """Start the engine in a process of its own; return what went wrong, or None."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", SELF_TEST],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return "it hangs at its start"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"it is ended by signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"it ends with status {done.returncode}"


def _report(requirement: str, reason: str, log: Path) -> None:
    words = _last_words(log)
    # The app shows the first paragraph, after words of its own.
    summary = f"{reason} {_fix()} Then run: make llama."
    error_file().write_text(f"{summary}\n\nThe last lines of {log}:\n\n{words}\n", encoding="utf-8")
    say(
        f"\n{words}\n\nThe engine, {requirement}, could not be installed: {summary}\n"
        f"Until then the app works in demo mode, with prepared answers.\nThe whole log: {log}\n"
    )


def _last_words(log: Path) -> str:
    """Return the end of the log before pip's own summary of the failure, which only repeats it."""
    lines = tail(log, 400).splitlines()
    for number, line in enumerate(lines):
        if "subprocess-exited-with-error" in line or "Failed building wheel" in line:
            lines = lines[:number]
            break
    return "\n".join(line[:300] for line in lines[-25:])


def _why(log: Path, status: int) -> str:
    if status == 124:
        return f"compiling it took longer than {LIMIT_S / 60:.0f} minutes."
    return likely_cause(log).strip() or (
        "there is no C and C++ compiler."
        if not (_compiler("CC") and _compiler("CXX"))
        else "compiling it failed; the last lines of the log say at what."
    )


def likely_cause(log: Path) -> str:
    """Name the cause where pip's or the system's words leave no doubt, else return nothing."""
    text = tail(log, 400)
    if "No space left on device" in text or _temporary_space() < 100 * 2**20:
        return "the disk is full (installing needs 2 GB, some of it in the temporary folder).\n"
    if any(words in text for words in ("NewConnectionError", "name resolution", "ProxyError")):
        return "the package index could not be reached; check the network or the proxy settings.\n"
    if "Killed signal terminated program" in text:
        return "the compiler was ended by the system, most often because memory ran out.\n"
    return ""


def _temporary_space() -> int:
    return shutil.disk_usage(tempfile.gettempdir()).free


def _requirement(pyproject: Path) -> str:
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    (requirement,) = project["optional-dependencies"]["llama"]
    return str(requirement)


def _installed() -> str | None:
    try:
        return f"{PACKAGE}=={importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def _circumstances(requirement: str, settings: dict[str, str]) -> str:
    """Describe all that decides whether a build can work, so that a change of it is noticed."""
    lines = [requirement, sys.version]
    lines += [f"{name}={value}" for name, value in settings.items()]
    lines += [f"{kind}: {_compiler(kind)}" for kind in COMPILERS]
    return "\n".join(lines)


def _first_on_path(names: Sequence[str]) -> str | None:
    return next((found for found in map(shutil.which, names) if found), None)


def _compiler(kind: str) -> str | None:
    """Return the path and version of the C or C++ compiler that a build would use, or None."""
    chosen = os.environ.get(kind)
    path = _first_on_path(chosen.split()[:1] if chosen else COMPILERS[kind])
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "--version"], check=False, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return path
    return f"{path} {done.stdout.partition(os.linesep)[0]}".strip()


def _fix() -> str:
    if not (_compiler("CC") and _compiler("CXX")):
        return _compiler_fix()
    chosen = [name for name in BUILD_SWITCHES if os.environ.get(name)]
    hint = f" Check what is set: {', '.join(chosen)}." if chosen else ""
    return f"Mend what they name.{hint}"


def _compiler_fix() -> str:
    """Say how to get a compiler here."""
    if sys.platform == "darwin":
        return "To install a compiler: xcode-select --install."
    for tool, line in (
        ("apt-get", "sudo apt-get install build-essential"),
        ("dnf", "sudo dnf install gcc gcc-c++ make"),
        ("pacman", "sudo pacman -S base-devel"),
        ("zypper", "sudo zypper install gcc gcc-c++ make"),
        ("apk", "sudo apk add build-base linux-headers"),
    ):
        if shutil.which(tool):
            return f"To install a compiler: {line}."
    return "Install a C and C++ compiler (GCC or Clang)."


def _nice() -> list[str]:
    # The compile takes every core for minutes; the person's other programs go first.
    return ["nice"] if shutil.which("nice") else []
