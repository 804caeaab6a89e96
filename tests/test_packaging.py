"""The wheel, as a person gets it: what is in it, and that it works without the clone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gguf_widgets"

# What is worth nothing without its file: a page without its style, a type checker without py.typed.
DATA_FILES = {".css", ".gguf", ".ipynb", ".j2", ".js", ".svg", ".txt", ".typed"}
LARGEST_BYTES = 8 * 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source archive, and the wheel from that archive: both are then complete."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the wheel in it and return its Python.

    What the package depends on is lent from the environment of the tests, to save a compile of many
    minutes: its packages come last on the path, and without the entry that makes this clone
    importable there (Python reads such entries only in an environment's own folder).
    """
    folder = tmp_path_factory.mktemp("clean") / "venv"
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


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """Give a process nothing that leads back to the clone, and Jupyter's files of the lender."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    lent = Path(sys.prefix, "share", "jupyter")
    return {**kept, "JUPYTER_PATH": str(lent), "GGUF_WIDGETS_HOME": str(home)}


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in DATA_FILES | {".py"}
    }
    wanted |= {f"gguf_widgets/{path.relative_to(ROOT)}" for path in ROOT.glob("notebooks/*.ipynb")}
    assert wanted - names_in(wheel) == set()
    suffixes = {Path(name).suffix for name in wanted}
    assert {".py", ".js", ".css", ".gguf", ".ipynb", ".typed"} <= suffixes


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    for name in names_in(wheel):
        path = Path(name)
        assert path.parts[0] in {"gguf_widgets", "gguf_widgets-0.1.0.dist-info"}, name
        assert not {"__pycache__", "tests", "node_modules", ".ipynb_checkpoints"} & {*path.parts}
        if path.parts[0] == "gguf_widgets":
            assert path.suffix in DATA_FILES | {".py", ".md"}, name
    assert wheel.stat().st_size < LARGEST_BYTES
    assert wheel.name == "gguf_widgets-0.1.0-py3-none-any.whl"  # one wheel for every platform


def test_the_clean_environment_has_the_wheel_and_not_the_clone(
    clean_python: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    script = (
        "import json, sys, importlib.metadata as m, gguf_widgets\n"
        "from gguf_widgets.demo import demo_model_path\n"
        "print(json.dumps([gguf_widgets.__file__, str(demo_model_path()),\n"
        "    m.version('gguf-widgets'), sys.path]))"
    )
    done = subprocess.run(
        [clean_python, "-W", "error", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
    )
    package, model, version, path = json.loads(done.stdout)
    inside = clean_python.parent.parent
    assert Path(package).is_relative_to(inside)
    assert Path(model).is_relative_to(inside)
    assert version == "0.1.0"
    assert str(ROOT) not in path
