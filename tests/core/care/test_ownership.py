"""Whose a file is, and that nobody else's is ever touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_widgets.core.care.ownership import owner_of
from gguf_widgets.core.care.removing import remove, trash
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.demo import demo_model_path
from tests.core.care.conftest import contents, put

HASH = "ab" * 32
FOREIGN = [
    (f".cache/huggingface/hub/models--org--m/blobs/{HASH}", "Hugging Face", "hf cache rm"),
    (".cache/huggingface/hub/models--org--m/snapshots/1/m.gguf", "Hugging Face", "hf cache rm"),
    (f".ollama/models/blobs/sha256-{HASH}", "Ollama", "ollama rm"),
    (f"elsewhere/ollama/blobs/sha256-{HASH}", "Ollama", "ollama rm"),
    (".lmstudio/models/org/repo/m.gguf", "LM Studio", "My Models"),
    (".cache/lm-studio/models/org/repo/m.gguf", "LM Studio", "My Models"),
    (".local/share/nomic.ai/GPT4All/m.gguf", "GPT4All", "Models, and Remove"),
    ("Jan/data/llamacpp/models/m/model.gguf", "Jan", "Model Providers"),
    ("jan/models/m/m.gguf", "Jan", "Model Providers"),
    ("text-generation-webui-main/user_data/models/m.gguf", "text-generation-webui", "delete it"),
    ("koboldcpp-1.9/m.gguf", "KoboldCpp", "delete it"),
    ("Downloads/m.gguf", "you", "file manager"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "owner", "how"), FOREIGN)
def test_a_file_of_another_program_is_known_and_never_touched(
    tmp_path: Path, path: str, owner: str, how: str
) -> None:
    file = put(tmp_path / "person" / path)
    before = contents(tmp_path / "person")
    found = owner_of(file)
    assert (found.owner, found.is_ours) == (owner, False)
    assert how.casefold() in str(found).casefold()
    assert found.to_dict()["owner"] == owner
    for call in (lambda: remove(file, confirm=True), lambda: rename(file, "new", confirm=True)):
        with pytest.raises(FileChangeError, match="only files in its own models folder") as caught:
            call()
        assert caught.value.details["problem"] == "foreign"
        assert how.casefold() in caught.value.message.casefold()
    assert contents(tmp_path / "person") == before
    assert trash() == []


def test_what_is_in_our_folder_is_ours_and_what_is_reached_through_it_is_not(
    folder: Path, tmp_path: Path
) -> None:
    assert owner_of(put(folder / "a.gguf")).is_ours
    assert owner_of(put(folder / "below" / "a.gguf")).is_ours
    assert owner_of(folder / "not-there.gguf").is_ours
    elsewhere = put(tmp_path / ".lmstudio" / "models" / "m.gguf")
    (folder / "linked").symlink_to(elsewhere.parent)
    through = owner_of(folder / "linked" / "m.gguf")
    assert (through.owner, through.is_ours) == ("LM Studio", False)
    sneaky = owner_of(folder / ".." / ".." / ".lmstudio" / "models" / "m.gguf")
    assert not sneaky.is_ours
    (folder / "link.gguf").symlink_to(elsewhere)
    link = owner_of(folder / "link.gguf")
    assert link.is_ours
    assert link.target == elsewhere
    assert "stays as it is" in str(link)
    # And with the whole folder on another disk, behind a link, as people with little room have it.
    moved = tmp_path / "big-disk"
    folder.rename(moved)
    folder.symlink_to(moved)
    assert owner_of(folder / "a.gguf").is_ours
    assert owner_of(moved / "a.gguf").is_ours


def test_the_bundled_model_came_with_the_program_and_stays() -> None:
    demo = demo_model_path()
    assert (owner_of(demo).owner, owner_of(demo).is_ours) == ("gguf-widgets", False)
    with pytest.raises(FileChangeError, match="came with this program"):
        remove(demo)
    assert demo.is_file()


def test_what_the_list_has_found_out_counts_for_more_than_the_path(tmp_path: Path) -> None:
    path = put(tmp_path / "disk" / "m.gguf")
    entry = ModelEntry(name="m", path=path, info=None, error=None, source="LM Studio")
    assert (owner_of(path).owner, owner_of(entry).owner) == ("you", "LM Studio")
    with pytest.raises(FileChangeError, match="belongs to LM Studio"):
        remove(entry)
    # And it makes nothing ours.
    entry = ModelEntry(name="m", path=path, info=None, error=None, source="models folder")
    assert not owner_of(entry).is_ours
    assert path.is_file()


def test_a_loop_of_links_is_nobodys_trouble(folder: Path) -> None:
    (folder / "a.gguf").symlink_to(folder / "b.gguf")
    (folder / "b.gguf").symlink_to(folder / "a.gguf")
    assert owner_of(folder / "a.gguf").is_ours
