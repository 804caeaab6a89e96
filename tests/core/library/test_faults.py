"""Whatever is wrong with a file or a folder is said in the list, and costs the others nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.library_homes import Hub, Ollama, model_file, put

from gguf_widgets.core import config, errors
from gguf_widgets.core.library import ModelLibrary, ModelList, facts, ollama
from gguf_widgets.core.library import scan as scanning
from gguf_widgets.core.library.cache import HEADERS
from gguf_widgets.core.library.places import user_dirs
from gguf_widgets.core.library.scan import scan
from gguf_widgets.core.library.sources import PROGRAMS, folder_sources
from tests.core.conftest import without_root


def found() -> ModelList:
    return ModelLibrary().entries()[1:]


HOSTILE_MANIFESTS: dict[str, Any] = {
    "digest-out": {"digest": "sha256:../../../../etc/passwd"},
    "digest-path": {"digest": "/etc/passwd"},
    "digest-short": {"digest": "sha256:abc"},
    "digest-letters": {"digest": "sha256:" + "g" * 64},
    "digest-number": {"digest": 7},
    "digest-none": {},
    "digest-line-end": {"digest": "sha256:" + "a" * 64 + "\n"},
    "digest-nothing-there": {"digest": "sha256:" + "a" * 64},
}


def test_a_hostile_manifest_of_ollamas_is_listed_with_the_reason(person: Path) -> None:
    ollama = Ollama(person / ".ollama/models")
    ollama.add("good:1", model_file())
    for name, layer in HOSTILE_MANIFESTS.items():
        media = "application/vnd.ollama.image.model"
        ollama.write(f"{name}:1", ollama.manifest({"mediaType": media, **layer}))
    ollama.write("no-json:1", "{")
    ollama.write("no-object:1", "[]")
    ollama.write("deep:1", "[" * 100_000)
    ollama.write("layers:1", {"layers": {"a": 1}})
    ollama.write("huge:1", '{"layers": []}' + " " * 1_000_000)
    ollama.write("binary:1", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"))
    os.mkfifo(ollama.write("pipe:1", "").with_name("2"))
    entries = {entry.name: entry for entry in found()}
    bad = {f"{name}:1" for name in HOSTILE_MANIFESTS}
    bad |= {
        "no-json:1",
        "no-object:1",
        "deep:1",
        "layers:1",
        "huge:1",
        "binary:1",
        "pipe:1",
        "pipe:2",
    }
    assert set(entries) == {"good:1", *bad}
    assert entries["good:1"].error is None
    inside = ollama.folder
    for name in bad:
        entry = entries[name]
        assert isinstance(entry.error, errors.ModelFileError)
        assert entry.error.message
        assert inside in entry.path.parents, "nothing outside is even named"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20)
    | st.sampled_from(["sha256:" + "a" * 64, "../x", "gguf", "application/vnd.ollama.image.model"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["layers", "digest", "mediaType", "manifests", "runner", "format", "config", "size"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
@settings(max_examples=150)
def test_no_json_in_a_manifest_leads_out_of_the_blobs(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    folder = tmp_path_factory.mktemp("person")
    ollama = Ollama(folder / ".ollama/models")
    ollama.write("m:1", content)
    for file in scan(PROGRAMS, user_dirs({"HOME": str(folder)}, "linux")):
        assert ollama.folder in file.path.parents
        assert file.path.parent.name in ("m", "blobs")
    shutil.rmtree(folder)


def test_links_in_every_program_that_lead_nowhere_or_in_a_circle(person: Path) -> None:
    models = person / ".lmstudio/models/p"
    put(models / "m/good.gguf", model_file())
    (models / "m/lost.gguf").symlink_to("nowhere.gguf")
    (models / "m/itself.gguf").symlink_to("itself.gguf")
    (models / "m/up").symlink_to(models)
    (models / "round").symlink_to(models / "round")
    hub = Hub(person / ".cache/huggingface/hub")
    hub.add("o/r", "gone.gguf", model_file("x")).resolve().unlink()
    circle = hub.repository("o/r") / "snapshots" / ("a" * 40)
    (circle / "again").symlink_to(circle)
    entries = {entry.name: entry for entry in found()}
    assert {name: type(entry.error) for name, entry in entries.items()} == {
        "good": type(None),
        "lost": errors.ModelNotFoundError,
        "itself": errors.UnreadableFileError,
        "gone": errors.ModelNotFoundError,
    }


def test_a_file_that_vanishes_between_the_look_and_the_reading(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = config.ensure(config.models_dir())
    for name in ("a", "b", "c"):
        put(folder / f"{name}.gguf", model_file(name))
    read = facts.read_header

    def vanish(path: Path) -> Any:
        if path.name == "b.gguf":
            path.unlink(missing_ok=True)
        return read(path)

    monkeypatch.setattr(facts, "read_header", vanish)
    entries = {entry.name: entry for entry in found()}
    assert [entry.error is None for entry in entries.values()] == [True, False, True]
    assert isinstance(entries["b"].error, errors.ModelNotFoundError)
    monkeypatch.undo()


def test_a_file_that_vanishes_before_it_is_judged_or_hashed(person: Path) -> None:
    path = put(config.ensure(config.models_dir()) / "m.gguf", model_file())
    (entry,) = found()
    path.unlink()
    fit = entry.fit
    assert fit is not None
    assert fit.verdict == "unknown"
    assert "m.gguf" in fit.reason
    with pytest.raises(errors.FileChangeError, match="cannot be read") as caught:
        entry.sha256()
    assert caught.value.details["problem"] == "unreadable"


def test_a_folder_of_another_persons_is_said(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = Ollama(open_folder / ".ollama/models")
    closed.add("m:1", model_file())
    put(open_folder / ".lmstudio/models/p/m/good.gguf", model_file("good"))
    monkeypatch.setenv("HOME", str(open_folder))
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(open_folder / "ours"))
    (open_folder / "ours").mkdir(mode=0o777)
    monkeypatch.setattr(ollama, "_SERVICE_FOLDERS", ())
    found()  # whatever has to be imported is
    shutil.rmtree(open_folder / "ours" / "library")
    (open_folder / "ours").chmod(0o777)
    HEADERS.forget()
    manifests = closed.folder / "manifests"
    manifests.chmod(0)
    try:
        with without_root():
            entries = found()
    finally:
        manifests.chmod(0o755)
    assert [entry.name for entry in entries if entry.error is None] == ["good"]
    (trouble,) = [entry for entry in entries if entry.error is not None]
    assert trouble.program == "ollama"
    assert trouble.error is not None
    assert "Permission denied" in trouble.error.message


@pytest.mark.parametrize(
    ("limit", "value"),
    [("_MAX_FOLDERS", 10), ("_MAX_FILES", 9), ("_MAX_ENTRIES", 9), ("_MAX_SECONDS", -1.0)],
)
def test_a_source_that_is_too_large_costs_the_others_nothing(
    person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    huge = tmp_path / "huge"
    for number in range(20):
        put(huge / f"{number}/m.gguf", model_file(str(number)))
    put(person / ".lmstudio/models/p/m/good.gguf", model_file("good"))
    monkeypatch.setenv("GGUF_WIDGETS_MODELS", str(huge))
    monkeypatch.setattr(scanning, limit, value)
    entries = found()
    (said,) = entries.filter(source=str(huge)).filter(usable=False)
    assert said.error is not None
    assert "the rest is left out" in said.error.message
    usable = [entry.program for entry in entries if entry.error is None]
    assert usable.count("folder") <= 9
    assert "lmstudio" in usable or limit == "_MAX_SECONDS"


def test_a_program_may_have_more_folders_than_a_person(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        put(person / f".lmstudio/models/p/{number}/m.gguf", model_file(str(number)))
    monkeypatch.setattr(scanning, "_MAX_FOLDERS", 10)
    assert [entry.error for entry in found()] == [None] * 12


trees = st.lists(
    st.tuples(
        st.sampled_from(["file", "link", "folder link"]),
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
    ),
    max_size=12,
)


@given(trees)
@settings(max_examples=100)
def test_in_any_tree_of_files_and_links_each_file_is_listed_once(
    tmp_path_factory: pytest.TempPathFactory, tree: list[tuple[str, list[str], list[str]]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for kind, where, to in tree:
        path = root.joinpath(
            *where[:-1], f"{where[-1]}.gguf" if kind != "folder link" else where[-1]
        )
        if path.is_symlink() or path.exists():
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.write_bytes(b"")
            elif kind == "link":
                path.symlink_to(root.joinpath(*to[:-1], f"{to[-1]}.gguf"))
            else:
                path.symlink_to(root.joinpath(*to))
        except OSError:
            continue  # a folder's place is taken by a link that leads in a circle
    files = scan(folder_sources([root]), user_dirs({"HOME": str(root)}, "linux"))
    listed = [file.path.resolve() for file in files if file.error is None]
    real = {
        Path(folder, name).resolve()
        for folder, _, names in os.walk(root)
        for name in names
        if name.endswith(".gguf") and Path(folder, name).is_file()
    }
    assert len(listed) == len(set(listed))
    assert set(listed) == real
    shutil.rmtree(root)


def test_names_that_are_markup_or_no_text_are_only_shown(person: Path) -> None:
    folder = config.ensure(config.models_dir())
    put(folder / "<script>alert(1)<\u202egguf\x1b[2J>.gguf", model_file("<b>\x07name"))
    raw = os.fsencode(folder) + b"/\xff\xfe.gguf"
    Path(os.fsdecode(raw)).write_bytes(model_file())
    entries = ModelLibrary().entries()
    text = repr(entries)
    assert text.replace("\n", "").isprintable()
    assert "<script>" not in entries._repr_html_()
    assert json.dumps([entry.name for entry in entries]).isascii()
    assert entries.to_frame(fits=False).shape[0] == 3
