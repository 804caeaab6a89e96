"""Fixtures for comparisons: a store, a manager whose workers end with the test, made-up answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
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
