"""What is in the wheel, and that it works without the clone (tests/ui opens its page)."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

from support.wheel import switches

import gguf_widgets

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gguf_widgets"
VERSION = gguf_widgets.__version__

# What is worth nothing without its file: a page without its style, a type checker without py.typed.
DATA_FILES = {".css", ".gguf", ".ipynb", ".j2", ".js", ".json", ".svg", ".txt", ".typed"}
LARGEST_BYTES = 8 * 2**20


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in DATA_FILES | {".py"} and ".ipynb_checkpoints" not in path.parts
    }
    wanted |= {f"gguf_widgets/{path.relative_to(ROOT)}" for path in ROOT.glob("notebooks/*.ipynb")}
    assert wanted - names_in(wheel) == set()
    suffixes = {Path(name).suffix for name in wanted}
    assert {".py", ".js", ".css", ".gguf", ".ipynb", ".typed"} <= suffixes


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    for name in names_in(wheel):
        path = Path(name)
        assert path.parts[0] in {"gguf_widgets", f"gguf_widgets-{VERSION}.dist-info"}, name
        assert not {"__pycache__", "tests", "node_modules", ".ipynb_checkpoints"} & {*path.parts}
        if path.parts[0] == "gguf_widgets":
            assert path.suffix in DATA_FILES | {".py", ".md"}, name
    assert wheel.stat().st_size < LARGEST_BYTES
    assert wheel.name == f"gguf_widgets-{VERSION}-py3-none-any.whl"  # one for every platform


def test_the_clean_environment_has_the_wheel_and_not_the_clone(
    clean_python: Path, tmp_path: Path
) -> None:
    script = (
        "import json, sys, importlib.metadata as m, gguf_widgets\n"
        "from gguf_widgets.demo import demo_model_path\n"
        "print(json.dumps([gguf_widgets.__file__, str(demo_model_path()),\n"
        "    m.version('gguf-widgets'), sys.path]))"
    )
    done = subprocess.run(
        [clean_python, "-W", "error", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **switches()},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    package, model, version, path = json.loads(done.stdout)
    inside = clean_python.parent.parent
    assert Path(package).is_relative_to(inside)
    assert Path(model).is_relative_to(inside)
    assert version == VERSION
    assert str(ROOT) not in path
