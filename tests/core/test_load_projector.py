"""Which image companion a model is loaded with: that of its entry in the list, or what is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.library_homes import model_file, projector_file, put
from support.tiny_projector import write_projector

from gguf_widgets import demo
from gguf_widgets.core import config
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.library import ModelLibrary, inventory
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.load_projector import with_projector
from gguf_widgets.core.types import LoadSettings

AUTO = LoadSettings()


def chosen(path: Path, settings: LoadSettings = AUTO) -> str:
    """Return the name of what a model is loaded with."""
    found = with_projector(settings, ModelLibrary(), path, "llama.cpp").mmproj
    assert found is not None
    assert not found or os.path.isabs(found)  # noqa: PTH117 - a text, as the settings have it
    return Path(found).name


def test_what_the_list_says_is_what_is_loaded(home: Path) -> None:
    folder = config.ensure(config.models_dir())
    for name in ("llava-v1.6-mistral-7b", "bakllava-7b", "mistral-7b-instruct"):
        put(folder / f"{name}.Q4_K_M.gguf", model_file(name))
    put(folder / "mmproj-llava-v1.6-mistral-7b-f16.gguf", projector_file())
    put(folder / "bakllava-7b-mmproj-Q8_0.gguf", projector_file())
    put(folder / "alone/alone.gguf", model_file("alone"))
    put(folder / "wide/wide.gguf", model_file("wide", width=128))
    put(folder / "wide/mmproj-wide.gguf", projector_file(width=64))
    put(folder / "deaf/deaf.gguf", model_file("deaf"))
    put(folder / "deaf/mmproj-deaf.gguf", projector_file(vision=False, audio=True))
    entries = list(ModelLibrary().entries())[1:]
    assert len([entry for entry in entries if entry.kind == "model"]) == 6
    for entry in entries:
        if entry.kind == "model":
            listed = entry.mmproj.name if entry.mmproj and "vision" in entry.capabilities else ""
            assert chosen(entry.path) == listed, entry.name
    assert chosen(folder / "bakllava-7b.Q4_K_M.gguf") == "bakllava-7b-mmproj-Q8_0.gguf"


def test_beside_a_file_that_is_in_no_list(home: Path, tmp_path: Path) -> None:
    put(tmp_path / "far/seeing.gguf", model_file("seeing"))
    put(tmp_path / "far/mmproj-seeing.gguf", projector_file())
    put(tmp_path / "blind/blind.gguf", model_file("blind"))
    assert chosen(tmp_path / "far/seeing.gguf") == "mmproj-seeing.gguf"
    assert chosen(tmp_path / "blind/blind.gguf") == ""
    assert chosen(tmp_path / "nowhere.gguf") == ""


def test_the_folders_below_a_file_that_is_in_no_list_are_not_looked_through(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "far/seeing.gguf", model_file("seeing"))
    put(tmp_path / "far/mmproj-seeing.gguf", projector_file())
    (tmp_path / "far/photos/of/last year").mkdir(parents=True)
    looked_into: list[Path] = []
    real = Budget.children

    def watch(budget: Budget, folder: Path) -> list[tuple[Path, bool]]:
        looked_into.append(folder)
        return real(budget, folder)

    monkeypatch.setattr(Budget, "children", watch)
    assert chosen(tmp_path / "far/seeing.gguf") == "mmproj-seeing.gguf"
    far = tmp_path / "far"
    assert [one for one in looked_into if one.is_relative_to(far)] == [far]


def test_only_what_is_near_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = config.ensure(config.models_dir())
    for number in range(5):
        put(folder / f"{number}/model-{number}.gguf", model_file(f"model {number}"))
    put(folder / "3/mmproj-model-3.gguf", projector_file())
    read: list[str] = []
    real = inventory._facts

    def watch(files: list) -> dict:
        read.extend(file.path.name for file in files)
        return real(files)

    monkeypatch.setattr(inventory, "_facts", watch)
    assert chosen(folder / "1/model-1.gguf") == ""
    assert read == []
    assert chosen(folder / "3/model-3.gguf") == "mmproj-model-3.gguf"
    assert sorted(read) == ["mmproj-model-3.gguf", "model-3.gguf"]


def test_what_is_said_counts(home: Path, tmp_path: Path) -> None:
    model = put(tmp_path / "far/seeing.gguf", model_file("seeing"))
    put(tmp_path / "far/mmproj-seeing.gguf", projector_file())
    other = tmp_path / "other.gguf"
    assert chosen(model, LoadSettings.from_keywords(mmproj=other)) == "other.gguf"
    for nothing in (False, ""):
        assert chosen(model, LoadSettings.from_keywords(mmproj=nothing)) == ""
    for found in (None, True):
        assert chosen(model, LoadSettings.from_keywords(mmproj=found)) == "mmproj-seeing.gguf"
    assert with_projector(AUTO, ModelLibrary(), model, "scripted").mmproj == ""
    with pytest.raises(InvalidValueError, match="mmproj"):
        LoadSettings.from_keywords(mmproj=3)


def test_the_demo_model_has_the_eye_that_comes_with_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = write_projector(tmp_path / "demo-mmproj.gguf", 192)
    monkeypatch.setattr(demo, "demo_projector_path", lambda: eye)
    path = ModelLibrary().resolve("demo")
    assert chosen(path) == "demo-mmproj.gguf"
    entries = ModelLibrary().entries()
    assert entries[0].name == "demo"
    assert entries[0].mmproj == eye
    assert "vision" in entries[0].capabilities
    assert [entry.path for entry in entries if entry.path == eye] == []

    def missing() -> Path:
        raise FileNotFoundError

    monkeypatch.setattr(demo, "demo_projector_path", missing)
    assert chosen(path) == ""
