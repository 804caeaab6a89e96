"""A models folder and a store of uploads into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_widgets.core.upload import UploadStore


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(models: Path) -> UploadStore:
    return UploadStore(models)
