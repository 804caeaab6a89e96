"""The public names: pinned, importable, late, and the same in each place that lists them."""

from __future__ import annotations

import ast
import importlib
import json
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gguf_widgets as gw

ROOT = Path(__file__).resolve().parent.parent

# Adding a name is a promise to keep it; taking one away breaks somebody's notebook.
PUBLIC = [
    "BatchProcessor",
    "BatchRun",
    "BatchTable",
    "ChatBox",
    "ChatInterface",
    "Comparison",
    "ComparisonView",
    "Dashboard",
    "Experiment",
    "FinishReason",
    "Image",
    "LiveCharts",
    "Model",
    "ModelDownloader",
    "ModelInfo",
    "ModelManager",
    "ModelPicker",
    "ModelUploader",
    "PerformanceMonitor",
    "Reply",
    "SamplingSettings",
    "Tool",
    "ToolBox",
    "add_file",
    "add_folder",
    "bench",
    "bench_history",
    "care",
    "compare",
    "comparisons",
    "divergence",
    "download",
    "errors",
    "experiments",
    "image",
    "kl_divergence",
    "load",
    "load_experiment",
    "models",
    "perplexity",
    "read_header",
    "remove_file",
    "remove_folder",
    "resume",
    "resume_comparison",
    "runs",
    "tool",
    "workers",
]

HEAVY = {"IPython", "anywidget", "ipywidgets", "llama_cpp", "msgspec", "numpy", "pandas", "voila"}


def fresh_python(statement: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", statement],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    return done.stdout


def imports_for_type_checkers() -> dict[str, str]:
    """Read the block under `if TYPE_CHECKING` in the package's __init__: name -> module."""
    tree = ast.parse(Path(gw.__file__).read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        if alias.name in gw._MODULES
        else str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_the_public_names_are_exactly_these() -> None:
    assert gw.__all__ == PUBLIC


def test_the_three_lists_of_names_agree() -> None:
    assert sorted(gw.__all__) == gw.__all__
    assert set(gw._HOMES) == set(gw.__all__)
    assert imports_for_type_checkers() == gw._HOMES


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_is_there_and_lives_where_the_table_says(name: str) -> None:
    value = getattr(gw, name)
    home = importlib.import_module(gw._HOMES[name])
    assert value is (home if name in gw._MODULES else getattr(home, name))
    assert (value.__doc__ or "").strip(), f"{name} has no documentation"
    assert name in dir(gw)


def test_a_wrong_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match=r"'gguf_widgets' has no attribute 'Modell'"):
        _ = gw.Modell  # type: ignore[attr-defined]


def test_star_import_gives_the_public_names_only() -> None:
    out = fresh_python(
        "before = {*globals(), 'before'}\n"
        "from gguf_widgets import *\n"
        "import json; print(json.dumps(sorted({*globals()} - before - {'json'})))"
    )
    assert json.loads(out) == PUBLIC


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = set(fresh_python("import gguf_widgets, sys; print(*sys.modules)").split())
    assert "gguf_widgets" in loaded
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("gguf_widgets.")} == set()


def test_importing_the_package_costs_next_to_nothing() -> None:
    script = (
        "import time; start = time.perf_counter(); import gguf_widgets\n"
        "print(time.perf_counter() - start)"
    )
    # The goal of the design; tests/bench/bench_import.py measures how far below it this is.
    assert statistics.median(float(fresh_python(script)) for _ in range(3)) < 0.3


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert gw.__version__ == project["version"]
