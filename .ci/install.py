"""Install one part of what the Makefile's targets need, and say in plain words what went wrong.

    python .ci/install.py venv DIR          make a virtual environment
    DIR/bin/python .ci/install.py package [EXTRA...]     this package (editable) and what it needs
    DIR/bin/python .ci/install.py engine [--again]       llama-cpp-python; see engine.py
    DIR/bin/python .ci/install.py browser                a Chromium for the tests

Promises: uses the standard library only; each step prints a line or two, keeps the full output in
``DIR/share/gguf-widgets``, is bounded in time, and ends with status 1 and a sentence when it fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import engine
from logged import run_logged, say, tail

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Run by the Python of an environment that is already there, to see whether it will do.
USABLE = "import pip, sys; sys.exit(sys.version_info < (3, 11))"


class StepError(Exception):
    """A step failed; the message is for the person at the terminal."""


def make_venv(folder: Path) -> None:
    """Make the environment; one that is there and works is kept as it is."""
    python = folder / "bin" / "python"
    if python.exists() and subprocess.run([python, "-c", USABLE], check=False).returncode == 0:
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise StepError(
            f"{folder} is there already and is not a Python environment. Move it out of the way, "
            "or name another folder: make VENV=/some/folder ..."
        )
    say(f"Making a Python {sys.version.split()[0]} environment in {folder}.")
    try:
        venv.create(folder, with_pip=True, clear=True, symlinks=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = error.strerror if isinstance(error, OSError) else "pip could not be put into it"
        raise StepError(
            f"The environment could not be made in {folder}: {detail}.\n"
            "Check that this folder can be written to and that the disk has 2 GB free."
        ) from error


def install_package(extras: list[str]) -> None:
    """Install this package as editable, with the extras named."""
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    what = f"what {' and '.join(extras)} needs" if extras else "gguf-widgets and what it needs"
    say(f"Installing {what} (a minute or two the first time).")
    log = log_file("install-" + "-".join(extras or ["package"]))
    status = run_logged(
        [sys.executable, "-m", "pip", "install", "--progress-bar", "off", "-e", target],
        log=log,
        what="installing",
        limit_s=1800,
    )
    if status != 0:
        raise StepError(
            f"{tail(log, 12)}\n\npip could not install {what}; its last lines are above.\n"
            f"{engine.likely_cause(log)}The full log is {log}"
        )


def install_browser() -> None:
    """Find a Chromium, else install Debian's, else download Playwright's own."""
    given = os.environ.get("GGUF_WIDGETS_TEST_BROWSER")
    names = [given] if given else BROWSERS
    found = next((path for path in map(shutil.which, names) if path and _runs(path)), None)
    if found or _has_playwrights_own():
        say(f"The browser tests use {found or 'the Chromium of Playwright'}.")
        return
    prefix = _administrator()
    if shutil.which("apt-get") and prefix is not None:
        say("Installing Chromium from the system's packages.")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        names = ["chromium", "fonts-dejavu-core"]
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *names]):
            run_logged(
                [*prefix, "apt-get", *arguments],
                log=log_file(f"apt-{arguments[0]}"),
                what=f"apt-get {arguments[0]}",
                limit_s=900,
                environment=environment,
            )
        if any(_runs(path) for path in map(shutil.which, BROWSERS) if path):
            return
        say("That did not give a Chromium that runs; trying the one of Playwright.")
    else:
        say("Downloading the Chromium of Playwright.")
    log = log_file("playwright")
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    if run_logged(command, log=log, what="downloading", limit_s=900) != 0:
        raise StepError(
            f"{tail(log, 8)}\n\nNo Chromium was found for the browser tests, and none could be "
            "downloaded.\nInstall one (Debian: sudo apt-get install chromium) and run this again."
        )


def _runs(browser: str) -> bool:
    try:
        done = subprocess.run(
            [browser, "--version"], check=False, capture_output=True, timeout=60, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    # Ubuntu's "chromium" may be a stub that only says how to install a snap.
    return done.returncode == 0 and "chrom" in done.stdout.lower()


def _has_playwrights_own() -> bool:
    script = (
        "from playwright.sync_api import sync_playwright\n"
        "with sync_playwright() as p: print(p.chromium.executable_path)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    return done.returncode == 0 and Path(done.stdout.strip()).is_file()


def _administrator() -> list[str] | None:
    """Return what to put before a command to run it as root, None if that would need a password."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        asked = subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True, timeout=30)
        if asked.returncode == 0:
            return ["sudo", "-n"]
    return None


def log_file(name: str) -> Path:
    """Return where the output of a step is kept."""
    return engine.share_dir() / f"{name}.log"


def main() -> int:
    """Carry out the step that the command line names."""
    parser = argparse.ArgumentParser(description="Install one part of the environment.")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("venv").add_argument("folder", type=Path)
    steps.add_parser("package").add_argument("extras", nargs="*")
    engine_step = steps.add_parser("engine")
    engine_step.add_argument("--again", action="store_true", help="try although it failed before")
    engine_step.add_argument("--must", action="store_true", help="end with status 1 if it fails")
    steps.add_parser("browser")
    wanted = parser.parse_args()
    try:
        if wanted.step == "venv":
            make_venv(wanted.folder.absolute())
        elif wanted.step == "package":
            install_package(wanted.extras)
        elif wanted.step == "engine":
            ok = engine.install(ROOT / "pyproject.toml", again=wanted.again)
            return 0 if ok or not wanted.must else 1
        else:
            install_browser()
    except StepError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. What was installed so far is kept; the same command goes on from there.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
