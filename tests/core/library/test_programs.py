"""Each program's models are found where the program keeps them, and called what it calls them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.library_homes import (
    Hub,
    Ollama,
    jan_yml,
    kcpps,
    model_file,
    part_file,
    projector_file,
    put,
    sha256,
)

from gguf_widgets.core import config, errors
from gguf_widgets.core.library import ModelEntry, ModelLibrary, ModelList
from gguf_widgets.core.library.places import System, user_dirs
from gguf_widgets.core.library.scan import scan
from gguf_widgets.core.library.sources import PROGRAMS, TITLES


def found() -> ModelList:
    """Return what is listed beside the demo."""
    return ModelLibrary().entries()[1:]


def one() -> ModelEntry:
    (entry,) = found()
    return entry


def names() -> list[str]:
    return [entry.name for entry in found()]


def test_without_any_program_there_is_the_demo_and_nothing_is_made(person: Path) -> None:
    assert [entry.name for entry in ModelLibrary().entries()] == ["demo"]
    assert list(person.iterdir()) == []
    assert list(config.data_dir().iterdir()) == []


DEFAULTS: dict[str, dict[System, str]] = {
    "huggingface": dict.fromkeys(
        ("linux", "macos", "windows"),
        ".cache/huggingface/hub/models--o--r/snapshots/" + "a" * 40 + "/m.gguf",
    ),
    "lmstudio": dict.fromkeys(
        ("linux", "macos", "windows"), ".lmstudio/models/publisher/model/m.gguf"
    ),
    "jan": {
        "linux": ".local/share/Jan/data/llamacpp/models/m/model.gguf",
        "macos": "Library/Application Support/Jan/data/llamacpp/models/m/model.gguf",
        "windows": "AppData/Roaming/Jan/data/llamacpp/models/m/model.gguf",
    },
    "gpt4all": {
        "linux": ".local/share/nomic.ai/GPT4All/m.gguf",
        "macos": "Library/Application Support/nomic.ai/GPT4All/m.gguf",
        "windows": "AppData/Local/nomic.ai/GPT4All/m.gguf",
    },
    "koboldcpp": dict.fromkeys(("linux", "macos", "windows"), "koboldcpp-1.99/m.gguf"),
    "textgen": dict.fromkeys(
        ("linux", "macos", "windows"), "text-generation-webui-3.5/user_data/models/m.gguf"
    ),
}


@pytest.mark.parametrize("system", ["linux", "macos", "windows"])
@pytest.mark.parametrize("program", sorted(DEFAULTS))
def test_the_folder_that_a_program_has_by_default(
    person: Path, program: str, system: System
) -> None:
    path = put(person / DEFAULTS[program][system], model_file())
    dirs = user_dirs({"HOME": str(person), "USERPROFILE": str(person)}, system)
    (file,) = scan(PROGRAMS, dirs)
    assert (file.program, file.path, file.error) == (program, path, None)
    assert file.source == TITLES[program]


# --- Hugging Face --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, ".cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "{home}/c"}, "c/huggingface/hub"),
        ({"HF_HOME": "{home}/h"}, "h/hub"),
        ({"HF_HOME": "{home}/h", "HUGGINGFACE_HUB_CACHE": "~/old"}, "old"),
        ({"HUGGINGFACE_HUB_CACHE": "~/old", "HF_HUB_CACHE": "$HOME/new"}, "new"),
    ],
)
def test_the_hub_cache_is_where_its_variables_say(
    person: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=person))
    data = model_file()
    path = Hub(person / folder).add("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf", data)
    entry = one()
    assert (entry.name, entry.path) == ("Qwen3-4B-Q4_K_M", path)
    assert (entry.program, entry.source) == ("huggingface", "Hugging Face")
    assert (
        entry.sha256() == entry.known_sha256 == sha256(data)
    )  # for nothing: it is the blob's name


def test_of_each_file_in_the_hub_cache_the_newest_revision_counts(person: Path) -> None:
    hub, repo = Hub(person / ".cache/huggingface/hub"), "o/r"
    old, new, main = "1" * 40, "2" * 40, "3" * 40
    hub.add(repo, "only-old.gguf", model_file("only"), old)
    for commit in (old, new, main):
        path = hub.add(repo, "m.gguf", model_file(commit), commit)
        os.utime(path.parent, (int(commit[0]), int(commit[0])))
    info = {entry.name: entry.info for entry in found()}
    assert info["m"] is not None
    assert info["m"].name == main
    assert set(info) == {"m", "only-old"}
    hub.ref(repo, old)  # a branch that was set back: what it points at counts, not the date
    info = {entry.name: entry.info for entry in found()}
    assert info["m"] is not None
    assert info["m"].name == old


def test_a_revision_that_is_here_in_part_does_not_hide_a_whole_one(person: Path) -> None:
    hub, repo, old, new = Hub(person / ".cache/huggingface/hub"), "o/r", "1" * 40, "2" * 40
    for number in (1, 2):
        hub.add(repo, f"q4/big-0000{number}-of-00002.gguf", part_file(number, 2), old)
    hub.add(repo, "q4/big-00001-of-00002.gguf", part_file(1, 2, "Newer"), new)
    lost = hub.add(repo, "m.gguf", model_file("lost"), new)
    lost.resolve().unlink()
    hub.add(repo, "m.gguf", model_file("kept"), old)
    hub.ref(repo, new)
    entries = {entry.name: entry for entry in found()}
    big, small = entries["big"].info, entries["m"].info
    assert big is not None
    assert (big.num_files, big.name) == (2, "Big")
    assert small is not None
    assert small.name == "kept"
    assert entries["big"].known_sha256 is not None
    assert entries["big"].sha256() == entries["big"].sha256(fresh=True)


def test_a_hub_cache_without_links_and_two_repositories_with_the_same_file(person: Path) -> None:
    hub = Hub(person / ".cache/huggingface/hub")
    hub.add("a/one", "m.gguf", model_file("1"), linked=False)
    small = hub.add("a/one", "small.gguf", model_file("3"))  # which git named, and not by SHA-256
    blob = small.resolve()
    small.unlink()
    small.symlink_to(blob.rename(blob.with_name("c" * 40)))
    hub.add("b/two", "m.gguf", model_file("2"), linked=False)
    assert names() == ["m", "small", "m (b/two)"]
    assert [entry.known_sha256 for entry in found()] == [None, None, None]


def test_a_relative_folder_in_a_variable_of_xdgs_is_ignored(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "relative")
    put(person / ".local/share/nomic.ai/GPT4All/m.gguf", model_file())
    Hub(person / ".cache/huggingface/hub").add("o/r", "h.gguf", model_file("h"))
    assert names() == ["h", "m"]


# --- LM Studio -----------------------------------------------------------------------------------


def test_lm_studio_wherever_its_home_or_its_settings_are(person: Path, tmp_path: Path) -> None:
    put(person / ".cache/lm-studio/models/p/old/m.gguf", model_file("1"))
    put(person / ".lmstudio/models/p/new/m.gguf", model_file("2"))
    moved = tmp_path / "disk" / "models"
    put(moved / "p/moved/m.gguf", model_file("3"))
    put(person / ".lmstudio/settings.json", json.dumps({"downloadsFolder": str(moved)}))
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere / "models/p/pointed/m.gguf", model_file("4"))
    put(person / ".lmstudio-home-pointer", f"{elsewhere}\n")
    assert names() == ["m", "m (p/moved)", "m (p/new)", "m (p/old)"]
    assert {entry.program for entry in found()} == {"lmstudio"}


def test_settings_of_lm_studio_that_cannot_be_read_are_said(person: Path) -> None:
    put(person / ".lmstudio/models/p/m/m.gguf", model_file())
    put(person / ".lmstudio/settings.json", '{"downloadsFolder": ')
    trouble, model = found()
    assert model.error is None
    assert trouble.error is not None
    assert "settings of LM Studio" in trouble.error.message


# --- Ollama --------------------------------------------------------------------------------------


def test_ollama_has_names_and_tags_hashes_and_projectors(person: Path) -> None:
    ollama = Ollama(person / ".ollama/models")
    vision, eyes = model_file("Gemma", "gemma3"), projector_file(kind="gemma3")
    blob = ollama.add("gemma3:4b", vision, ollama.layer("projector", eyes))
    tuned = ollama.add("mine:latest", model_file("T"), ollama.layer("adapter", b"a LoRA"))
    ollama.add("mine:v2", model_file("T"), namespace="emma")
    ollama.add("Repo:Q4", model_file("H"), host="hf.co", namespace="Org")
    entries = {entry.name: entry for entry in found()}
    assert set(entries) == {"gemma3:4b", "mine:latest", "hf.co/Org/Repo:Q4"}
    gemma = entries["gemma3:4b"]
    assert (gemma.path, gemma.mmproj) == (blob, ollama.path(eyes))
    assert gemma.known_sha256 == sha256(vision)
    assert "vision" in gemma.capabilities
    # The same blob under another name is the same model, known by both.
    assert [place.label for place in entries["mine:latest"].places] == [
        "mine:latest",
        "emma/mine:v2",
    ]
    library = ModelLibrary()
    assert library.resolve("mine") == library.resolve("MINE:latest") == tuned
    assert library.resolve("gemma3:4b") == blob
    assert library.resolve("emma/mine:v2") == tuned


def test_the_newer_kind_of_manifests_counts_and_lists_are_chosen_from(person: Path) -> None:
    ollama = Ollama(person / ".ollama/models")
    new = model_file("new")
    ollama.add("m:1", model_file("old"))
    ollama.add("m:1", new, host="ollama.com", kind="manifests-v2")
    mlx = {"runner": "mlx", "format": "safetensors", **ollama.manifest()}
    ours = ollama.manifest(ollama.layer("model", model_file("ours")))
    ours_digest = ollama.blob(json.dumps(ours).encode())
    ollama.write(
        "list:1",
        {
            "mediaType": "application/vnd.ollama.manifest.list.v2+json",
            "manifests": [
                mlx,
                {**ollama.manifest(), "runner": "llamacpp", "format": "safetensors"},
                {"digest": ours_digest, "runner": "llamacpp", "format": "gguf"},
            ],
        },
    )
    ollama.write("cloud:1", ollama.manifest())  # nothing of it is on this machine
    (ollama.folder / "manifests/registry.ollama.ai/library/m/a-folder").mkdir()
    put(ollama.folder / "manifests/registry.ollama.ai/a-file", "{}")
    entries = {entry.name: entry for entry in found()}
    assert set(entries) == {"m:1", "list:1"}
    assert entries["m:1"].path == ollama.path(new)
    assert entries["list:1"].path == ollama.path(model_file("ours"))


def test_ollama_moved_by_its_variable_and_as_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "moved"))
    Ollama(tmp_path / "moved").add("a:1", model_file("a"))
    Ollama(tmp_path / "service").add("b:1", model_file("b"))
    assert names() == ["a:1", "b:1"]


# --- Jan -----------------------------------------------------------------------------------------


def test_jan_with_its_own_files_and_those_that_lie_elsewhere(person: Path, tmp_path: Path) -> None:
    data = person / ".local/share/Jan/data"
    models = data / "llamacpp/models"
    put(models / "janhq/Jan-v1/model.gguf", model_file("Jan"))
    put(models / "janhq/Jan-v1/mmproj.gguf", projector_file())
    base = "llamacpp/models/janhq/Jan-v1"
    described = jan_yml(f"{base}/model.gguf", mmproj_path=f"'{base}/mmproj.gguf'", name="Jan v1")
    put(models / "janhq/Jan-v1/model.yml", described)
    elsewhere = put(tmp_path / "my files" / "it's.gguf", model_file("Elsewhere"))
    put(models / "imported/model.yml", jan_yml(json.dumps(str(elsewhere))))
    put(models / "not-described/model.gguf", model_file("Not described"))
    put(data / "models/cortex/m.yml", "name: c\nfiles:\n  - models/cortex/c/m.gguf\nversion: 1\n")
    put(data / "models/cortex/c/m.gguf", model_file("Cortex"))
    entries = {entry.name: entry for entry in found()}
    assert set(entries) == {"imported", "janhq/Jan-v1", "model", "cortex/m"}
    assert entries["imported"].path == elsewhere
    assert entries["janhq/Jan-v1"].mmproj == models / "janhq/Jan-v1/mmproj.gguf"
    assert {entry.program for entry in entries.values()} == {"jan"}
    assert all(entry.error is None for entry in entries.values())


@pytest.mark.parametrize("how", ["variable", "settings"])
def test_jan_in_another_folder(
    person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    data = tmp_path / "jan-data"
    put(data / "llamacpp/models/m/model.gguf", model_file())
    if how == "variable":
        monkeypatch.setenv("JAN_DATA_FOLDER", str(data))
    else:
        settings = json.dumps({"data_folder": str(data), "quick_ask": False})
        put(person / ".local/share/Jan/settings.json", settings)
    assert one().path == data / "llamacpp/models/m/model.gguf"


@pytest.mark.parametrize(
    "given",
    [
        "../../../secret.gguf",
        "llamacpp/../../secret.gguf",
        "//machine/share/m.gguf",
        r"\\machine\share\m.gguf",
        "/etc/passwd",
        '"a\\u0000b.gguf"',
    ],
)
def test_a_path_of_jans_that_may_not_be_followed_is_said(person: Path, given: str) -> None:
    put(person / ".local/share/secret.gguf", model_file())
    data = person / ".local/share/Jan/data"
    put(data / "llamacpp/models/bad/model.yml", jan_yml(given))
    entry = one()
    assert entry.name == "bad"
    assert isinstance(entry.error, errors.UnreadableFileError)
    assert "may be followed" in entry.error.message


# --- GPT4All, KoboldCpp, text-generation-webui ---------------------------------------------------


def test_gpt4all_where_its_settings_have_moved_it(person: Path, tmp_path: Path) -> None:
    moved = tmp_path / "Modelle für mich"
    put(moved / "moved.gguf", model_file("1"))
    put(person / ".local/share/nomic.ai/GPT4All/default.gguf", model_file("2"))
    put(person / ".cache/gpt4all/python.gguf", model_file("3"))
    text = str(moved).replace("ü", r"\xfc") + "/"
    settings = f'[model-x]\nmodelPath=/no/where\n\n[General]\nchatTheme=Light\nmodelPath="{text}"\n'
    put(person / ".config/nomic.ai/GPT4All.ini", settings)
    assert names() == ["moved", "default", "python"]


def test_koboldcpp_by_the_starts_that_were_saved(person: Path, tmp_path: Path) -> None:
    model = put(tmp_path / "Downloads/m.gguf", model_file())
    eyes = put(tmp_path / "eyes/mmproj.gguf", projector_file())
    put(person / "start.kcpps", kcpps(str(model), mmproj=str(eyes)))
    put(person / "koboldcpp/online.kcpps", kcpps("https://example.org/m.gguf"))
    put(person / "koboldcpp/broken.kcpps", "{")
    put(person / "koboldcpp/beside.gguf", model_file("beside"))
    entries = {entry.name: entry for entry in found()}
    assert set(entries) == {"m", "broken", "beside"}
    assert (entries["m"].path, entries["m"].mmproj) == (model, eyes)
    assert entries["broken"].error is not None
    assert "KoboldCpp" in entries["broken"].error.message


def test_text_generation_webui_new_and_old(person: Path) -> None:
    put(person / "text-generation-webui/user_data/models/new.gguf", model_file("1"))
    put(person / "text-generation-webui/models/old/old.gguf", model_file("2"))
    put(person / "text-generation-webui/models/transformers/model.safetensors", b"no")
    assert names() == ["new", "old"]


# --- all together --------------------------------------------------------------------------------


def test_a_file_that_several_programs_know_is_one_model_with_all_its_places(person: Path) -> None:
    path = put(config.ensure(config.models_dir()) / "m.gguf", model_file())
    linked = person / ".lmstudio/models/p/m/linked.gguf"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(path)
    ollama = Ollama(person / ".ollama/models")
    blob = ollama.add("m:1", model_file())
    blob.unlink()
    os.link(path, blob)
    entry = one()
    assert (entry.name, entry.path, entry.program) == ("m", path, "own")
    assert [(place.program, place.path) for place in entry.places] == [
        ("own", path),
        ("lmstudio", linked),
        ("ollama", blob),
    ]
    assert entry.known_sha256 == sha256(model_file())
    for program in ("own", "LM Studio", "ollama"):
        assert found().filter(source=program) == [entry]
    assert found().filter(source="jan") == []


def test_programs_can_be_chosen(person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(person / ".lmstudio/models/p/m/m.gguf", model_file("1"))
    Ollama(person / ".ollama/models").add("o:1", model_file("2"))
    monkeypatch.setenv("GGUF_WIDGETS_SOURCES", "LM Studio, gpt4all")
    assert names() == ["m"]
    monkeypatch.setenv("GGUF_WIDGETS_SOURCES", "none")
    assert names() == []
    monkeypatch.setenv("GGUF_WIDGETS_SOURCES", "olama")
    with pytest.raises(errors.InvalidValueError, match=r"GGUF_WIDGETS_SOURCES: .*'ollama'"):
        names()
    assert ModelLibrary(folders=[]).entries()[0].name == "demo"
