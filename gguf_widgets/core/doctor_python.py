"""The doctor's look at Python, the packages and Jupyter's files.

Promises: nothing heavy is imported (versions are read from the packages' metadata, Jupyter's
folders are looked at as files). Leaves to others: what the findings mean for the exit status.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import webbrowser
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import gguf_widgets
from gguf_widgets.core.doctor_findings import Finding, pip_install

__all__ = ["check_python"]

_PACKAGES = (
    "jupyterlab",
    "voila",
    "ipykernel",
    "ipywidgets",
    "anywidget",
    "jupyterlab_widgets",
    "numpy",
    "pandas",
    "msgspec",
    "nh3",
)
_LAB_MANAGER = Path("share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager/package.json")


def check_python() -> Iterator[Finding]:
    """Yield what there is to say about this Python environment."""
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield Finding(topic="Program", name="system", value=system)
    yield Finding(
        topic="Program",
        name="Python",
        value=f"{platform.python_version()}, {sys.executable}",
        facts={"version": platform.python_version(), "executable": sys.executable},
    )
    yield Finding(
        topic="Program",
        name="gguf-widgets",
        value=f"{gguf_widgets.__version__}, {Path(gguf_widgets.__file__).parent}",
        facts={"version": gguf_widgets.__version__},
    )
    for package in _PACKAGES:
        yield _package(package)
    yield _widget_manager()
    yield from _kernel_spec()
    yield _browser()
    for name in sorted(os.environ):
        if name.startswith("GGUF_WIDGETS_"):
            yield Finding(topic="Switches", name=name, value=os.environ[name])


def _package(name: str) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(
            topic="Program",
            name=name,
            value="not installed",
            status="broken",
            advice=f"Install it: {pip_install(name)}",
        )
    return Finding(topic="Program", name=name, value=version, facts={"version": version})


def _widget_manager() -> Finding:
    """Whether JupyterLab finds the part of ipywidgets that runs inside it."""
    found = next((root for root in _jupyter_roots() if (root / _LAB_MANAGER).is_file()), None)
    if found is not None:
        return Finding(topic="Jupyter", name="widgets in JupyterLab", value=f"found in {found}")
    return Finding(
        topic="Jupyter",
        name="widgets in JupyterLab",
        value="their JupyterLab extension is missing",
        status="broken",
        advice="Install it again: " + pip_install("jupyterlab_widgets", "--force-reinstall"),
    )


def _kernel_spec() -> Iterator[Finding]:
    """Whether a "python3" kernel of another installation would come first in plain JupyterLab."""
    for folder in _jupyter_data_folders():
        path = folder / "kernels" / "python3" / "kernel.json"
        try:
            argv = json.loads(path.read_text("utf-8")).get("argv", [])
        except (OSError, ValueError, AttributeError):
            continue
        python = str(argv[0]) if argv else ""
        if python in ("python", "python3") or _same_python(python):
            return
        yield Finding(
            topic="Jupyter",
            name='kernel "python3"',
            value=f"{path} starts {python}",
            status="hint",
            advice="JupyterLab started by hand may run notebooks in another Python, which lacks "
            "this package. `gguf-widgets lab` and `gguf-widgets dashboard` take care of that "
            "themselves.",
        )
        return


def _same_python(path: str) -> bool:
    # Not resolved: a virtual environment's python is a link to the one it was made with.
    return os.path.normcase(Path(path).parent) == os.path.normcase(Path(sys.executable).parent)


def _jupyter_roots() -> list[Path]:
    """Return the folders whose ``share/jupyter`` JupyterLab reads, our own first."""
    return [Path(sys.prefix), Path(sys.base_prefix), Path("/usr/local"), Path("/usr")]


def _jupyter_data_folders() -> list[Path]:
    """Return Jupyter's folders for kernels in the order in which it looks."""
    home = Path.home()
    if os.environ.get("JUPYTER_DATA_DIR"):
        user = Path(os.environ["JUPYTER_DATA_DIR"])
    elif sys.platform == "darwin":
        user = home / "Library" / "Jupyter"
    elif sys.platform == "win32":
        user = Path(os.environ.get("APPDATA", home)) / "jupyter"
    else:
        user = Path(os.environ.get("XDG_DATA_HOME", home / ".local" / "share")) / "jupyter"
    environment = Path(sys.prefix) / "share" / "jupyter"
    # Inside a virtual environment Jupyter prefers the environment to the user's folder.
    first = [environment, user] if sys.prefix != sys.base_prefix else [user, environment]
    more = [Path(part) for part in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if part]
    return [*more, *first, Path("/usr/local/share/jupyter"), Path("/usr/share/jupyter")]


def _browser() -> Finding:
    graphical = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    try:
        webbrowser.get()
        known = True
    except webbrowser.Error:
        known = False
    if graphical and known:
        return Finding(topic="Jupyter", name="browser", value="found")
    return Finding(
        topic="Jupyter",
        name="browser",
        value="no graphical browser here",
        status="hint",
        advice="The dashboard prints its address; open it in a browser that reaches this machine "
        "(for a machine elsewhere: ssh -L 8866:localhost:8866 that-machine).",
    )
