"""Fixtures for experiments: a real manager whose workers end with the test, and the demo model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.store import Store
from gguf_widgets.experiments import Experiment
from tests.core.conftest import processes_of, wait_for


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store() as store:
        yield store


@pytest.fixture
def manager(home: Path) -> Iterator[ModelManager]:
    manager = ModelManager(keep_alive=0.5)
    yield manager
    manager.close()
    wait_for(lambda: not processes_of(home, "gguf_widgets.core.worker"), "the workers' end")


@pytest.fixture
def model(manager: ModelManager) -> Model:
    return manager.load("demo", n_ctx=1024, n_seq_max=4, n_threads=1)


@pytest.fixture
def experiment(store: Store) -> Experiment:
    return Experiment("A test", store=store)
