"""A person whose home folder is the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gguf_widgets.core.library import ollama
from gguf_widgets.core.library.cache import HEADERS

MOVING = (
    "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HF_HOME", "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE", "OLLAMA_MODELS", "JAN_DATA_FOLDER", "GGUF_WIDGETS_SOURCES",
    "APPDATA", "LOCALAPPDATA", "USERPROFILE",
)  # fmt: skip


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a home folder with nothing in it; no program is installed for all users."""
    folder = tmp_path / "person"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in MOVING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ollama, "_SERVICE_FOLDERS", (str(tmp_path / "service"),))
    HEADERS.forget()
    yield folder
    HEADERS.forget()
