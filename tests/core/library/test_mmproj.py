"""Projectors are part of the entry of the model that they go with, and of no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.gguf_writer import F16, F32, Q8_0, Typed
from support.library_homes import Hub, model_file, projector_file, put

from gguf_widgets.core import config, errors
from gguf_widgets.core.library import ModelEntry, ModelLibrary


@pytest.fixture
def folder() -> Path:
    return config.ensure(config.models_dir())


def found() -> dict[str, ModelEntry]:
    return {entry.name: entry for entry in ModelLibrary().entries()[1:]}


def mmproj() -> dict[str, str | None]:
    """Return the name of each entry's projector."""
    return {name: e.mmproj.name if e.mmproj else None for name, e in found().items()}


def test_the_usual_folder_of_one_model_and_its_projectors(folder: Path) -> None:
    data = model_file("Gemma 3 4b It", "gemma3")
    put(folder / "g/gemma-3-4b-it-Q4_K_M.gguf", data)
    put(folder / "g/gemma-3-4b-it-Q8_0.gguf", model_file("Gemma 3 4b It (8)", "gemma3"))
    for name, kind in (("F32", F32), ("Q8_0", Q8_0), ("F16", F16)):
        put(folder / f"g/mmproj-model-{name}.gguf", projector_file(kind="gemma3", type_id=kind))
    entries = found()
    assert set(entries) == {"gemma-3-4b-it-Q4_K_M", "gemma-3-4b-it-Q8_0"}
    for entry in entries.values():
        assert entry.mmproj == folder / "g/mmproj-model-F16.gguf"
        assert [path.name for path in entry.mmproj_others] == [
            "mmproj-model-Q8_0.gguf",
            "mmproj-model-F32.gguf",
        ]
        assert "vision" in entry.capabilities
        assert entry.error is None


def test_in_a_folder_of_many_models_the_names_decide(folder: Path) -> None:
    for name in ("llava-v1.6-mistral-7b", "bakllava-7b", "mistral-7b-instruct"):
        put(folder / f"{name}.Q4_K_M.gguf", model_file(name))
    put(folder / "mmproj-llava-v1.6-mistral-7b-f16.gguf", projector_file())
    put(folder / "bakllava-7b-mmproj-Q8_0.gguf", projector_file())
    assert mmproj() == {
        "bakllava-7b.Q4_K_M": "bakllava-7b-mmproj-Q8_0.gguf",
        "llava-v1.6-mistral-7b.Q4_K_M": "mmproj-llava-v1.6-mistral-7b-f16.gguf",
        "mistral-7b-instruct.Q4_K_M": None,
    }


def test_the_names_in_the_headers_decide_where_the_files_do_not_say(folder: Path) -> None:
    put(folder / "one.gguf", model_file("Pixtral 12B"))
    put(folder / "two.gguf", model_file("Something else"))
    put(folder / "mmproj.gguf", projector_file(name="Pixtral-12b"))
    assert mmproj() == {"one": "mmproj.gguf", "two": None}


@pytest.mark.parametrize(
    ("model", "projector"),
    [
        (model_file(width=64), projector_file(width=128)),
        (model_file("Q", "qwen2"), projector_file(kind="qwen2vl_merger")),
        (model_file("L", "llama"), projector_file(kind="gemma3")),
        (model_file("E", llama__pooling_type=Typed("uint32", 1)), projector_file()),
    ],
)
def test_what_cannot_go_together_stays_apart(folder: Path, model: bytes, projector: bytes) -> None:
    put(folder / "m-Q4_0.gguf", model)
    put(folder / "mmproj-m.gguf", projector)
    entries = found()
    assert entries["m-Q4_0"].mmproj is None
    alone = entries["mmproj-m"]
    assert (alone.kind, type(alone.error)) == ("mmproj", errors.ProjectorFileError)


def test_an_early_projector_that_says_the_encoders_width_is_known_by_its_tensors(
    folder: Path,
) -> None:
    put(folder / "llava.gguf", model_file())
    put(folder / "mmproj-model-f16.gguf", projector_file(said=False))
    assert mmproj() == {"llava": "mmproj-model-f16.gguf"}


def test_ears_are_not_eyes(folder: Path) -> None:
    put(folder / "ultravox.gguf", model_file())
    put(folder / "mmproj.gguf", projector_file(kind="ultravox", vision=False, audio=True))
    assert found()["ultravox"].capabilities == ("chat", "audio")


def test_of_a_repository_the_projector_may_lie_beside_the_folder(person: Path) -> None:
    hub, repo = Hub(person / ".cache/huggingface/hub"), "unsloth/Qwen3-VL"
    hub.add(repo, "UD-Q4_K_XL/Qwen3-VL-UD-Q4_K_XL.gguf", model_file("Q", "qwen3vl"))
    hub.add(repo, "mmproj-F16.gguf", projector_file(kind="qwen3vl_merger"), "b" * 40)
    hub.add("other/repo", "m.gguf", model_file("Q", "qwen3vl"))
    assert mmproj() == {"Qwen3-VL-UD-Q4_K_XL": "mmproj-F16.gguf", "m": None}


def test_a_projector_can_still_be_named_though_it_is_not_listed(folder: Path) -> None:
    put(folder / "m.gguf", model_file())
    path = put(folder / "mmproj.gguf", projector_file())
    assert set(found()) == {"m"}
    assert ModelLibrary().resolve("mmproj") == path
    assert found()["m"].error is None
