"""Fixtures for every test: a data folder of its own, so that no test sees the user's."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point ``GGUF_WIDGETS_HOME`` at a fresh folder and clear the other switches."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(folder))
    monkeypatch.delenv("GGUF_WIDGETS_MODELS", raising=False)
    monkeypatch.delenv("GGUF_WIDGETS_BACKEND", raising=False)
    return folder
