"""The dashboard and JupyterLab as real processes, with folders of their own.

Not a test and no fixture. A `Home` is one person's computer for these tests: nothing of the real
user's configuration, kernels, models or conversations is seen, and what was started there is ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
_ADDRESS = re.compile(r"https?://\S+")


class Home:
    """A private home folder, and the processes that were started in it."""

    def __init__(self, folder: Path, **switches: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.models = self.data / "models"
        for one in (self.models, folder / "work"):
            one.mkdir(parents=True, exist_ok=True)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GGUF_", "JUPYTER", "IPYTHON", "XDG_", "VOILA", "PYTEST_"))
        } | {
            "HOME": str(folder),
            "USERPROFILE": str(folder),
            "GGUF_WIDGETS_HOME": str(self.data),
            "JUPYTER_CONFIG_DIR": str(folder / "jupyter-config"),
            "JUPYTER_DATA_DIR": str(folder / "jupyter-data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "jupyter-runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
            # Works with the package installed, and from a clone where it is not.
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONFAULTHANDLER": "1",
            **switches,
        }

    def processes(self, word: str) -> list[psutil.Process]:
        """Return the running processes of this home whose command line holds `word`."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("GGUF_WIDGETS_HOME") != str(self.data):
                    continue
                if process.status() == psutil.STATUS_ZOMBIE or word not in " ".join(
                    process.cmdline()
                ):
                    continue
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            found.append(process)
        return found

    def kernels(self) -> list[psutil.Process]:
        return self.processes("ipykernel_launcher")

    def workers(self) -> list[psutil.Process]:
        return self.processes("gguf_widgets.core.worker")

    def close(self) -> None:
        """End whatever is still running: the workers stay for minutes by design."""
        left = self.processes("")
        for process in left:
            _signal(process, signal.SIGTERM)
        _, alive = psutil.wait_procs(left, timeout=5)
        for process in alive:
            _signal(process, signal.SIGKILL)


class Server:
    """One server process; use it as a context manager.

    Parameters
    ----------
    home : Home
    arguments : sequence of str
        After ``python``.
    announces : str
        What the line with the address begins with, or holds.
    python : Path, optional
        The Python of another environment, instead of the tests' own.
    ends_with : signal, default SIGINT
        What ends it: for our own program, Ctrl+C.
    """

    def __init__(
        self,
        home: Home,
        arguments: Sequence[str],
        announces: str,
        *,
        python: Path | None = None,
        ends_with: signal.Signals = signal.SIGINT,
    ) -> None:
        self.home = home
        self._ends_with = ends_with
        self._announces = announces
        self.log = home.folder / f"server-{len(list(home.folder.glob('server-*')))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python or sys.executable, *arguments],
                cwd=home.folder / "work",
                env=home.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = self._wait_for_address()

    def _wait_for_address(self, timeout_s: float = 60.0) -> str:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for line in self.text().splitlines():
                if self._announces in line and (found := _ADDRESS.search(line)):
                    return found[0]
            if self.process.poll() is not None:
                raise AssertionError(f"The server ended at its start:\n{self.text()}")
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"The server did not start in {timeout_s:g} s:\n{self.text()}")

    def text(self) -> str:
        """Return what the server has printed."""
        return self.log.read_text("utf-8", errors="replace")

    def stop(self, how: signal.Signals | None = None, timeout_s: float = 60.0) -> int:
        """Ask the server to end as a person would, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how or self._ends_with)
            try:
                return self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGABRT)  # prints where each thread stands
                self.process.wait()
                raise AssertionError(f"The server did not end:\n{self.text()}") from None
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def dashboard(home: Home, *more: str) -> Server:
    """Start ``gguf-widgets dashboard``."""
    arguments = ["-m", "gguf_widgets", "dashboard", "--port", "0", "--no-browser", *more]
    return Server(home, arguments, "Open http")


_VOILA = (
    "import sys; from pathlib import Path;"
    "from gguf_widgets.dashboard.app import DashboardOptions, serve;"
    "serve(DashboardOptions(notebook=Path(sys.argv[1]), open_browser=False, port=0,"
    "theme=sys.argv[2]))"
)


def voila(home: Home, notebook: Path, theme: str = "light") -> Server:
    """Serve a notebook as a page, as ``gguf-widgets dashboard`` does with its own."""
    return Server(home, ["-c", _VOILA, str(notebook), theme], "Open http")


def lab(home: Home, folder: Path) -> Server:
    """Start JupyterLab on `folder`, as ``gguf-widgets lab`` does, without a token on loopback."""
    code = (
        "import sys; from pathlib import Path; from gguf_widgets.dashboard import lab;"
        "lab.workspace = lambda: Path(sys.argv[1]);"
        "lab.open_lab(port=0, open_browser=False, extra=["
        "'--IdentityProvider.token=', '--ServerApp.password=', '--LabApp.default_url=/lab',"
        "'--ServerApp.allow_root=True', '--ServerApp.terminals_enabled=False'])"
    )
    # Without a terminal JupyterLab has no clean way to take a Ctrl+C; it has one for SIGTERM.
    arguments = ["-c", code, str(folder)]
    return Server(home, arguments, "http://localhost", ends_with=signal.SIGTERM)


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until `condition` holds; fail with `what` was awaited."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"Not within {timeout_s:g} s: {what}")
        time.sleep(0.05)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
