"""The vocabularies under which grammars are tried: the demo model's words, and hardly any words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.grammar_walk import Walker
from support.tiny_model import write_tiny_model

from gguf_widgets.demo import demo_model_path


@pytest.fixture(scope="package")
def walker() -> Iterator[Walker]:
    found = Walker(Path(str(demo_model_path())))
    yield found
    found.close()


@pytest.fixture(scope="package")
def byte_walker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walker]:
    """Nearly letter by letter: every place of a grammar is met, and a text takes many steps."""
    found = Walker(write_tiny_model(tmp_path_factory.mktemp("vocabulary") / "tiny.gguf"))
    yield found
    found.close()
