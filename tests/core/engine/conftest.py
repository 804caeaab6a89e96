"""Fixtures for the engine: tiny models, engines on them, and llama.cpp's own word on the same.

After the tests, the summary says how many tokens were compared with llama.cpp, how many near ties
were decided otherwise, and how large rounding was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.reference import Reference, Tally
from support.tiny_models import write_model

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.open import open_backend
from gguf_widgets.core.types import LoadSettings

TALLIES = pytest.StashKey[dict[str, Tally]]()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that gives a tiny model's file: (kind, number format)."""
    folder = tmp_path_factory.mktemp("tiny")

    def path(kind: str, number_format: str = "f32") -> Path:
        file = folder / f"{kind}-{number_format}.gguf"
        return file if file.exists() else write_model(file, kind, number_format=number_format)

    return path


@pytest.fixture
def open_engine(tiny: Callable[..., Path]) -> Iterator[Callable[..., Engine]]:
    """Return a function that opens an engine on a tiny model, or on a file."""
    engines = []

    def open_it(model: str | Path = "llama", number_format: str = "f32", **load: object) -> Engine:
        load = {"n_ctx": 1024, "n_batch": 256, "n_seq_max": 4, "n_threads": 1} | load
        path = model if isinstance(model, Path) else tiny(model, number_format)
        backend = open_backend("llama.cpp", path, LoadSettings.from_keywords(**load))
        engines.append(Engine(backend))
        return engines[-1]

    yield open_it
    for engine in engines:
        engine.close()


@pytest.fixture(scope="session")
def reference_for(
    tiny: Callable[..., Path], pytestconfig: pytest.Config
) -> Iterator[Callable[..., Reference]]:
    """Return a function that gives the reference for an engine on a model; each is made once."""
    references: dict[tuple[object, ...], Reference] = {}

    def get(engine: Engine, model: str | Path = "llama", number_format: str = "f32") -> Reference:
        told = engine.settings
        key = (model, number_format, told.type_k, told.type_v, told.flash_attn, told.n_threads)
        if key not in references:
            path = model if isinstance(model, Path) else tiny(model, number_format)
            references[key] = Reference(path, told)
        return references[key]

    yield get
    tallies = pytestconfig.stash.setdefault(TALLIES, {})
    for (_, number_format, *_), reference in references.items():
        reference.close()
        tallies[str(number_format)] = tallies.get(str(number_format), Tally()) + reference.tally


def pytest_terminal_summary(terminalreporter: object, config: pytest.Config) -> None:
    for number_format, tally in config.stash.get(TALLIES, {}).items():
        terminalreporter.write_line(f"against llama.cpp, {number_format}: {tally}")
