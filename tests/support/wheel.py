"""The wheel as a person gets it, and an environment that has nothing of the clone.

Not a test and no fixture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def build_wheel(folder: Path) -> Path:
    """Build the source archive, and the wheel from that archive: both are then complete."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), REPOSITORY],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def install_wheel(folder: Path, wheel: Path) -> Path:
    """Make an environment with the wheel in it and return its Python.

    What the package depends on is lent from the environment of the tests, to save a compile of many
    minutes: its packages come last on the path, and without the entry that makes this clone
    importable there (Python reads such entries only in an environment's own folder).
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=110
    )
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    Path(place.stdout.strip(), "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def switches() -> dict[str, str]:
    """Return what a process of that environment needs: no way back here, and Jupyter's files."""
    jupyter = [str(Path(sys.prefix, "share", "jupyter")), os.environ.get("JUPYTER_PATH", "")]
    return {"PYTHONPATH": "", "JUPYTER_PATH": os.pathsep.join(filter(None, jupyter))}
