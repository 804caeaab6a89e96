"""The list of models: complete, in order, each under a name of its own, and quick."""

from __future__ import annotations

import os
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.gguf_writer import MODEL_TENSORS, Tensor, Typed, gguf_bytes, model_bytes, model_entries

from gguf_widgets.core import config, errors
from gguf_widgets.core.library import (
    ModelEntry,
    ModelLibrary,
    ModelList,
    cache,
    facts,
    models,
    scan,
)
from tests.core.conftest import without_root


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other programs have on the machine that the tests run on is none of their business.

    What is found of those is tested in ``tests/core/library``.
    """
    monkeypatch.setenv("GGUF_WIDGETS_SOURCES", "none")


@pytest.fixture
def folder() -> Path:
    """The user's own models folder."""
    return config.ensure(config.models_dir())


def put(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model_bytes() if data is None else data)
    return path


def names(library: ModelLibrary | None = None) -> list[str]:
    return [entry.name for entry in (library or ModelLibrary()).entries()]


def by_name(name: str) -> ModelEntry:
    return next(entry for entry in ModelLibrary().entries() if entry.name == name)


def test_the_demo_is_always_there_and_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "aaa.gguf")
    demo = ModelLibrary().entries()[0]
    assert (demo.name, demo.source, demo.error) == ("demo", "demo", None)
    assert demo.info is not None
    assert ModelLibrary().resolve("demo") == demo.path
    assert names(ModelLibrary(folders=[])) == ["demo"]
    monkeypatch.setattr("gguf_widgets.demo.MODEL_FILE", "lost.gguf")
    broken = ModelLibrary().entries()[0]
    assert broken.name == "demo"
    assert isinstance(broken.error, errors.ModelNotFoundError)

    def closed() -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gguf_widgets.demo.demo_model_path", closed)
    closed_one = ModelLibrary().entries()[0]
    assert closed_one.name == "demo"
    assert isinstance(closed_one.error, errors.UnreadableFileError)


def test_bad_files_are_listed_with_their_reason(folder: Path) -> None:
    put(folder / "good.gguf")
    put(folder / "text.gguf", b"hello")
    put(folder / "vocab.gguf", gguf_bytes(model_entries().items()))
    put(folder / "mmproj.gguf", gguf_bytes(model_entries("clip").items(), MODEL_TENSORS))
    put(folder / "odd.gguf", model_bytes(llama__block_count=Typed("string", "x")))
    (folder / "lost.gguf").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.gguf")
    put(folder / "notes.txt", b"no model")
    put(folder / "._good.gguf", b"left by a Mac")
    found = {entry.name: entry for entry in ModelLibrary().entries()[1:]}
    assert {name: type(entry.error) for name, entry in found.items()} == {
        "good": type(None),
        "text": errors.NotGgufError,
        "vocab": errors.VocabularyOnlyError,
        "mmproj": errors.ProjectorFileError,
        "odd": errors.MalformedHeaderError,
        "lost": errors.ModelNotFoundError,
        "pipe": errors.NotAFileError,
    }
    assert all((entry.info is None) == (entry.error is not None) for entry in found.values())


def test_the_same_name_in_two_folders_is_told_apart(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one" / "m", tmp_path / "two" / "m"
    paths = [folder / "a.gguf", one / "a.gguf", two / "a.gguf", folder / "sub" / "A.gguf"]
    paths += [folder / "demo.gguf"]
    for path in paths:
        put(path)
    monkeypatch.setenv("GGUF_WIDGETS_MODELS", f"{one}{os.pathsep}{two}")
    entries = ModelLibrary().entries()
    assert [(entry.name, entry.source) for entry in entries[1:]] == [
        ("a", "models folder"),
        ("demo (models)", "models folder"),
        ("A (sub)", "models folder"),
        ("a (m)", str(one)),
        (entries[-1].name, str(two)),
    ]
    assert entries[-1].name.startswith("a (/")  # the folders' names are the same, their paths not
    assert len({entry.name.casefold() for entry in entries}) == len(entries)
    for entry in entries:
        assert ModelLibrary().resolve(entry.name) == entry.path


def test_links_are_followed_once_and_loops_end(folder: Path, tmp_path: Path) -> None:
    real = put(tmp_path / "elsewhere" / "deep" / "real.gguf")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (real.parent / "back").symlink_to(folder)
    (folder / "zz.gguf").symlink_to(real)
    assert names() == ["demo", "zz"]
    blob = put(tmp_path / "blobs" / "0123abcd")  # as a hub's cache keeps its files
    (folder / "nice-name.gguf").symlink_to(blob)
    assert names() == ["demo", "nice-name", "zz"]


def test_a_folder_that_cannot_be_looked_into_is_no_secret(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "good.gguf")
    monkeypatch.setenv("GGUF_WIDGETS_MODELS", str(tmp_path / "typo"))
    assert [type(entry.error) for entry in ModelLibrary().entries()[1:]] == [
        type(None),
        errors.ModelNotFoundError,
    ]
    locked = folder / "locked"
    locked.mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(scan.os, "scandir", refuse)
    entry = by_name("locked")
    assert isinstance(entry.error, errors.UnreadableFileError)
    assert "Permission denied" in entry.error.message


def test_a_huge_tree_is_cut_off_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        put(folder / f"{number % 5}" / f"m{number:02}.gguf", b"")
    monkeypatch.setattr(scan, "_MAX_FILES", 12)
    entries = ModelLibrary().entries()
    assert len(entries) == 1 + 12 + 1
    assert entries[-1].error is not None
    assert "the rest is left out" in entries[-1].error.message


def test_the_parts_of_a_split_model_are_one_entry(folder: Path) -> None:
    def part(number: int) -> bytes:
        about = {
            "split.no": Typed("uint16", number),
            "split.count": Typed("uint16", 2),
            "split.tensors.count": Typed("int32", 2),
        }
        return gguf_bytes({**model_entries(), **about}.items(), (Tensor(f"t{number}"),))

    first = put(folder / "big-00001-of-00002.gguf", part(0))
    second = put(folder / "big-00002-of-00002.gguf", part(1))
    assert names() == ["demo", "big"]
    info = by_name("big").info
    assert info is not None
    assert info.num_files == 2
    assert ModelLibrary().resolve("big") == ModelLibrary().resolve(second) == first
    second.unlink()  # seen, though the first part has not changed
    assert isinstance(by_name("big").error, errors.SplitFileError)
    second.write_bytes(part(1))
    first.unlink()
    error = by_name("big").error
    assert isinstance(error, errors.SplitFileError)
    assert "big-00001-of-00002.gguf" in error.message


def test_a_header_is_read_once_until_its_file_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = facts.read_facts

    def counting(path: Path) -> facts.Facts:
        reads.append(path.name)
        return read(path)

    monkeypatch.setattr(cache, "read_facts", counting)
    path = put(folder / "a.gguf")
    put(folder / "bad.gguf", b"bad")
    library = ModelLibrary()
    before = library.change_token()
    first = {entry.name: entry for entry in library.entries()}
    reads.clear()
    again = {entry.name: entry for entry in ModelLibrary().entries()}
    assert reads == []
    assert library.change_token() == before
    assert again["a"].info == first["a"].info
    assert again["bad"].error is not first["bad"].error  # raising one leaves no trace in another
    put(path, model_bytes(general__name=Typed("string", "Another")))
    assert library.change_token() != before
    info = by_name("a").info
    assert info is not None
    assert info.name == "Another"
    assert reads == ["a.gguf"]
    path.unlink()
    assert names() == ["demo", "bad"]


def test_many_threads_may_ask_at_once(folder: Path) -> None:
    for number in range(20):
        put(folder / f"m{number:02}.gguf", None if number % 2 else b"bad")
    expected = [(e.name, e.info, str(e.error)) for e in ModelLibrary().entries()]
    cache.HEADERS.forget()
    (config.data_dir() / "library" / "headers.msgpack").unlink()
    answers: list[object] = []

    def ask() -> None:
        answers.append([(e.name, e.info, str(e.error)) for e in ModelLibrary().entries()])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert answers == [expected] * 8


def test_resolve(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModelLibrary()
    qwen = put(folder / "Qwen2.5-0.5B-Q8_0.gguf")
    other = put(tmp_path / "other.gguf")
    assert library.resolve("Qwen2.5-0.5B-Q8_0") == qwen
    assert library.resolve("qwen2.5-0.5b-q8_0") == qwen
    assert library.resolve(str(other)) == library.resolve(other) == other
    monkeypatch.chdir(tmp_path)
    assert library.resolve("other.gguf") == other
    with pytest.raises(errors.ModelNotFoundError, match=r'Did you mean "Qwen2\.5-0\.5B-Q8_0"'):
        library.resolve("Qwen2.5-0.5B")
    with pytest.raises(errors.ModelNotFoundError, match=r"gguf-widgets get hf:Qwen"):
        library.resolve("hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0")
    with pytest.raises(errors.ModelNotFoundError, match="There is no file"):
        library.resolve("/no/such/model.gguf")
    with pytest.raises(errors.NotAFileError, match="is a folder"):
        library.resolve(str(tmp_path))
    for bad in ("", "a\0b", "x" * 5000):
        with pytest.raises(errors.ModelFileError):
            library.resolve(bad)


def test_a_folder_that_may_not_be_looked_into_is_told_apart_from_a_missing_file(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = open_folder / "private"
    private.mkdir()
    path = put(private / "model.gguf")
    library = ModelLibrary(str(private))
    assert library.entries()
    private.chmod(0)
    try:
        with without_root():
            with pytest.raises(errors.UnreadableFileError, match=r"permission .*model\.gguf"):
                library.resolve(str(path))
            (_, entry) = library.entries()
    finally:
        private.chmod(0o700)
    assert type(entry.error) is errors.UnreadableFileError
    assert "cannot be looked into: Permission denied" in entry.error.message
    with pytest.raises(errors.ModelNotFoundError):
        library.resolve("~no-such-user/model.gguf")


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.data: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.data.append(data)


def test_the_table_escapes_what_comes_from_files(folder: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    put(folder / f"{name}.gguf", model_bytes(general__name=Typed("string", "<script>1</script>")))
    put(folder / "<b>bad\n\x1b[2J.gguf", b"bad")
    table = models()
    page = Text()
    page.feed(table._repr_html_())
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert name in page.data
    text = repr(table)
    assert name in text
    assert text.replace("\n", "").isprintable()
    frame = table.to_frame()
    assert frame.loc[0, "name"] == "demo"
    assert frame["error"].notna().tolist() == [False, True, False]
    assert frame.loc[2, "num_parameters"] == 64 * 4 + 64 + 64 * 64
    assert ModelList([]).to_frame().empty
    assert "Name" in repr(ModelList([]))
