"""Who may import whom inside the package, read from the source and checked once more at run time.

The rules are those of the picture in the README, "How it is built". Each is a row of a table below;
the checker itself is tried on made-up modules that break one rule each.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "gguf_widgets"

# Modules that make tables: they may import pandas, and are imported late.
_FRAMES = ("_frame", ".chat.frame")

# The longest row that fits names a module's layer: "a.b" only itself, "a.b." all below it, and
# "a.b_" all files beside it whose names go on.
LAYERS = {
    "gguf_widgets.core.engine": "engine",
    "gguf_widgets.core.engine.": "engine",
    # The worker process's own half of the boundary, ...
    "gguf_widgets.core.worker.__main__": "server",
    "gguf_widgets.core.worker.admission": "server",
    "gguf_widgets.core.worker.engine_thread": "server",
    "gguf_widgets.core.worker.constraint": "server",
    "gguf_widgets.core.worker.loading": "server",
    "gguf_widgets.core.worker.prefixes": "server",
    "gguf_widgets.core.worker.prompts": "server",
    "gguf_widgets.core.worker.reception": "server",
    "gguf_widgets.core.worker.requests": "server",
    "gguf_widgets.core.worker.scores": "server",
    "gguf_widgets.core.worker.server": "server",
    # ... the notebook's half, and what both speak.
    "gguf_widgets.core.worker.attach": "client",
    "gguf_widgets.core.worker.client": "client",
    "gguf_widgets.core.worker.handshake": "client",
    "gguf_widgets.core.worker.link": "client",
    "gguf_widgets.core.worker.peek": "client",
    "gguf_widgets.core.worker.spawn": "client",
    "gguf_widgets.core.worker": "boundary",
    "gguf_widgets.core.worker.": "boundary",
    # What everything stands on.
    "gguf_widgets": "base",  # its public names are imported late, by name; see below
    "gguf_widgets.core": "base",
    "gguf_widgets.core.config": "base",
    "gguf_widgets.core.devices": "base",
    "gguf_widgets.core.errors": "base",
    "gguf_widgets.core.fit": "base",
    "gguf_widgets.core.fit_": "base",
    "gguf_widgets.core.format": "base",
    "gguf_widgets.core.gguf": "base",
    "gguf_widgets.core.gguf_": "base",
    "gguf_widgets.core.image_format": "base",
    "gguf_widgets.core.image_gif": "base",
    "gguf_widgets.core.images": "base",
    "gguf_widgets.core.plain_files": "base",
    "gguf_widgets.core.schema_input": "base",
    "gguf_widgets.core.settings": "base",
    "gguf_widgets.core.state_": "base",
    "gguf_widgets.core.types": "base",
    "gguf_widgets.demo": "base",  # only says where the model file is
    "gguf_widgets.demo.": "training",
    # Everything else of core is what people use from Python.
    "gguf_widgets.core.": "core",
    "gguf_widgets.batch": "batch",
    "gguf_widgets.batch.": "batch",
    "gguf_widgets.compare": "compare",
    "gguf_widgets.compare.": "compare",
    "gguf_widgets.experiments": "experiments",
    "gguf_widgets.experiments.": "experiments",
    "gguf_widgets.widgets": "widgets",
    "gguf_widgets.widgets.": "widgets",
    "gguf_widgets.dashboard": "dashboard",
    "gguf_widgets.dashboard.": "dashboard",
    "gguf_widgets.__main__": "command",
    "gguf_widgets.cli": "command",
    "gguf_widgets.cli_": "command",
}

# A layer may import from itself and from these.
MAY_IMPORT = {
    "base": set(),
    "engine": {"base"},
    "boundary": {"base"},
    "server": {"boundary", "engine", "base"},
    "client": {"boundary", "base"},
    "core": {"client", "boundary", "base"},
    "batch": {"core", "base"},
    "compare": {"batch", "core", "base"},
    "experiments": {"compare", "batch", "core", "base"},
    "widgets": {"experiments", "compare", "batch", "core", "base"},
    "dashboard": {"widgets", "experiments", "compare", "batch", "core", "base"},
    "command": {
        "dashboard",
        "widgets",
        "experiments",
        "compare",
        "batch",
        "core",
        "base",
    },
    "training": {"base"},
}

LLAMA_HOME = "gguf_widgets.core.engine.llama"
# Measure the demo model's files with llama-cpp-python itself, apart from our engine on purpose.
# Commands of their own: nothing of the app may import them (layer "training").
REFERENCES = ("gguf_widgets.demo.evaluate", "gguf_widgets.demo.vision.evaluate")
CORE_LAYERS = {
    "base", "engine", "boundary", "server", "client", "core", "batch", "compare", "experiments",
}  # fmt: skip
# Never in core: whatever draws, or serves, or is Jupyter.
FRONT_END = {
    "IPython", "anywidget", "comm", "ipykernel", "ipywidgets", "jupyter_client", "jupyter_core",
    "jupyter_server", "jupyterlab", "matplotlib", "nbformat", "plotly", "tornado", "traitlets",
    "voila",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One import of `target` by `module`."""

    module: str
    target: str
    line: int
    late: bool  # inside a function, so not at the module's own import
    only_for_types: bool  # under `if TYPE_CHECKING`


def layer_of(module: str) -> str | None:
    exact = LAYERS.get(module)
    if exact:
        return exact
    prefixes = [name for name in LAYERS if name[-1] in "._" and module.startswith(name)]
    return LAYERS[max(prefixes, key=len)] if prefixes else None


def source_modules() -> dict[str, str]:
    """Every module of the package and its source."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text("utf-8")
    return found


def imports_of(module: str, source: str, known: set[str]) -> list[Import]:
    """List the imports of one module, by name also where `importlib` is given a fixed one."""
    found: list[Import] = []

    def add(target: str, node: ast.AST, late: bool, only_for_types: bool) -> None:
        found.append(Import(module, target, getattr(node, "lineno", 0), late, only_for_types))

    def visit(node: ast.AST, late: bool, only_for_types: bool) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node, late, only_for_types)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: write imports in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                add(inner if inner in known else str(node.module), node, late, only_for_types)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            first = node.args[0] if node.args else None
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                add(str(first.value), node, late, only_for_types)
        inside = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.iter_child_nodes(node):
            in_body = typing and child in getattr(node, "body", [])
            visit(child, inside, only_for_types or in_body)

    visit(ast.parse(source), late=False, only_for_types=False)
    return found


def ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(PACKAGE + ".")


def faults_in(modules: dict[str, str]) -> list[str]:
    """Check every rule that concerns single imports; one line for each that is broken."""
    faults = []
    all_imports = [
        found for name, source in modules.items() for found in imports_of(name, source, {*modules})
    ]
    faults += [
        f"{name} belongs to no layer; give it a row in LAYERS"
        for name in modules
        if layer_of(name) is None
    ]
    for found in all_imports:
        here = layer_of(found.module)
        where = f"{found.module}:{found.line}"
        if here is None or (found.module == PACKAGE and found.only_for_types):
            continue  # the package's own list of names, for type checkers only
        if ours(found.target):
            there = layer_of(found.target)
            if there != here and there not in MAY_IMPORT[here]:
                faults.append(f"{where}: {here} may not import {there} ({found.target})")
        faults += [f"{where}: {fault}" for fault in outside_faults(found, here)]
        if found.target.endswith(_FRAMES) and not (found.late or found.only_for_types):
            faults.append(f"{where}: {found.target} loads pandas; import it where it is used")
    return faults


def outside_faults(found: Import, layer: str) -> list[str]:
    """Check one import of somebody else's package."""
    package = found.target.partition(".")[0]
    at_home = found.module in REFERENCES or f"{found.module}.".startswith(f"{LLAMA_HOME}.")
    if package == "llama_cpp" and not at_home:
        return [f"only {LLAMA_HOME} may import llama_cpp"]
    if layer not in CORE_LAYERS or found.only_for_types:
        return []
    if package in FRONT_END:
        return [f"{layer} may not import {package}"]
    if package == "pandas" and not found.late and not found.module.endswith(_FRAMES):
        return ["import pandas where a table is made: in a function, or in a module called frame"]
    return []


def cycle_in(modules: dict[str, str]) -> list[str] | None:
    """Return the names along one circle of imports at import time, or None."""
    graph = {
        name: sorted(
            {
                found.target
                for found in imports_of(name, source, {*modules})
                if found.target in modules and not found.late and not found.only_for_types
            }
        )
        for name, source in modules.items()
    }
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for target in graph[name]:
            if (circle := visit(target)) is not None:
                return circle
        path.pop()
        done.add(name)
        return None

    return next((circle for name in graph if (circle := visit(name)) is not None), None)


def reachable_from(start: set[str], modules: dict[str, str]) -> set[str]:
    """Follow every import, late ones too, but not those for type checkers."""
    seen: set[str] = set()
    waiting = [name for name in modules if name in start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += [
            found.target
            for found in imports_of(name, modules[name], {*modules})
            if found.target in modules and not found.only_for_types
        ]
    return seen


def test_every_import_keeps_to_the_layers() -> None:
    assert faults_in(source_modules()) == []


def test_no_module_imports_itself_through_others() -> None:
    assert cycle_in(source_modules()) is None


def test_nothing_a_notebook_may_import_reaches_the_engine() -> None:
    modules = source_modules()
    start = {
        name
        for name in modules
        if layer_of(name) in {"client", "core", "batch", "widgets", "dashboard", "command"}
    }
    reached = {layer_of(name) for name in reachable_from(start, modules)}
    assert start
    assert not reached & {"engine", "server"}


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("core.model", "from gguf_widgets.core.engine.engine import Engine", "core may not"),
        ("core.model", "def f():\n  import gguf_widgets.core.engine", "core may not import engine"),
        ("core.model", "import_module('gguf_widgets.core.engine')", "core may not import engine"),
        ("core.worker.client", "from gguf_widgets.core.engine import engine", "client may not"),
        ("core.worker.protocol", "from gguf_widgets.core.worker import client", "boundary may not"),
        ("core.engine.engine", "from gguf_widgets.core.worker import protocol", "engine may not"),
        ("core.engine.engine", "from gguf_widgets.core import model", "engine may not import core"),
        ("core.errors", "from gguf_widgets.core.model import Model", "base may not import core"),
        ("core.chat.tree", "from gguf_widgets.widgets.chat_box import ChatBox", "core may not"),
        ("core.chat.interface", "import IPython.display", "core may not import IPython"),
        ("core.worker.server", "import traitlets", "server may not import traitlets"),
        ("core.chat.interface", "import pandas as pd", "import pandas where a table"),
        ("core.chat.interface", "from gguf_widgets.core.chat.frame import frame", "loads pandas"),
        ("core.engine.sampler", "import llama_cpp", "only gguf_widgets.core.engine.llama may"),
        ("core.engine.llama_log", "import llama_cpp", "only gguf_widgets.core.engine.llama may"),
        ("core.devices", "def f():\n  from llama_cpp import llama_cpp", "only gguf_widgets.core"),
        ("widgets.chat_box", "from gguf_widgets.dashboard.app import serve", "widgets may not"),
        ("widgets.chat_box", "from gguf_widgets.core.worker import client", "widgets may not"),
        ("surprise", "", "belongs to no layer"),
    ],
)  # fmt: skip
def test_the_checker_sees_each_kind_of_fault(module: str, source: str, fault: str) -> None:
    name = f"{PACKAGE}.{module}"
    modules = {"gguf_widgets.core.engine": "", "gguf_widgets.core.engine.engine": ""}
    modules |= {"gguf_widgets.core.worker.client": "", "gguf_widgets.core.worker.protocol": ""}
    modules |= {"gguf_widgets.core.chat.frame": "import pandas", "gguf_widgets.core.model": ""}
    assert faults_in(modules) == []
    faults = faults_in({**modules, name: source})
    assert len(faults) == 1
    assert fault in faults[0]


def test_the_checker_allows_what_is_allowed() -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n  import pandas as pd\n"
        "def to_frame():\n  import pandas as pd\n  from gguf_widgets.core.chat.frame import frame\n"
    )
    modules = {
        "gguf_widgets.core.chat.frame": "import pandas",
        "gguf_widgets.core.chat.interface": source,
    }
    assert faults_in(modules) == []


def test_the_checker_sees_a_circle_and_only_one_that_matters() -> None:
    one, two = f"{PACKAGE}.core.config", f"{PACKAGE}.core.types"
    back = f"import {one}"
    assert cycle_in({one: f"import {two}", two: back}) in ([one, two, one], [two, one, two])
    assert cycle_in({one: f"import {two}", two: f"def f():\n  {back}"}) is None


def modules_after(statement: str) -> set[str]:
    """Return what is in sys.modules of a fresh Python after a statement."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    return set(done.stdout.split())


def test_a_notebooks_kernel_never_loads_native_inference_code() -> None:
    names = [name for name in source_modules() if layer_of(name) in {"core", "widgets"}]
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert f"{PACKAGE}.core.manager" in loaded
    assert "llama_cpp" not in loaded
    assert not {name for name in loaded if layer_of(name) in {"engine", "server"}}


def test_the_core_loads_neither_jupyter_nor_pandas() -> None:
    names = [
        name for name in source_modules() if layer_of(name) == "core" and not name.endswith(_FRAMES)
    ]
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert f"{PACKAGE}.core.manager" in loaded
    assert not loaded & (FRONT_END | {"pandas"})
