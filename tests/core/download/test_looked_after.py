"""What was fetched stays known as what it is: renamed, removed, restored, and while it is replaced.

The other half of `tests/core/care`, with a hub to ask: is it here already, is there a newer one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.hub_files import files_below, model_file, projector_file, split_files
from support.hub_server import HubServer

from gguf_widgets.core import download
from gguf_widgets.core.care.checking import verify
from gguf_widgets.core.care.removing import empty_trash, remove, restore
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.download import record, whole_model
from gguf_widgets.core.download.record import Place, record_of
from gguf_widgets.core.library import models as listed_models
from gguf_widgets.core.library.hashes import Hashes

REPO = "Owner/Tiny-GGUF"
NAME = f"hf:{REPO}"
DATA, NEWER = model_file(), model_file(seed=7)


def nothing_fetched(server: HubServer) -> bool:
    return not server.asked("cdn") and not server.asked("web")


def check(path: Path) -> list[tuple[str, bool]]:
    (file,) = verify(path).files
    return [(one.source, one.matches) for one in file.compared]


def test_a_renamed_model_of_the_hub_is_known_by_its_name_there(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA, "tiny-Q8_0.gguf": model_file(seed=1)})
    first = person.get(f"{NAME}:Q4_K_M").path
    path = rename(first, "small helper").path
    assert path.parent == first.parent
    hub.requests.clear()
    for name in (NAME, f"{NAME}:Q4_K_M", f"{NAME}/tiny-Q4_K_M.gguf"):
        assert download.find(name) == path
    assert download.find(f"{NAME}:Q8_0") is None
    assert hub.requests == []
    again = person.get(f"{NAME}:Q4_K_M")
    assert (again.origin, again.path) == ("here", path)
    assert nothing_fetched(hub)
    assert check(path) == [("the download", True)]
    # A newer version is told of, and takes the place of this one under its new name.
    hub.add(REPO, {"tiny-Q4_K_M.gguf": NEWER})
    assert person.get(f"{NAME}:Q4_K_M").path.read_bytes() == DATA
    assert any("another version of it by now" in note for note in person.notes)
    assert nothing_fetched(hub)
    newest = person.get(f"{NAME}:Q4_K_M", newer="get")
    assert (newest.origin, newest.path) == ("fetched", path)
    assert path.read_bytes() == NEWER
    assert check(path) == [("the download", True)]
    assert files_below(models) == {f"{REPO}/small helper.gguf"}
    # And by a third name.
    assert download.find(NAME) == path
    assert rename(path, "third").path == download.find(NAME)


def test_a_model_is_found_without_the_hub_in_whatever_letters_it_is_asked_for(
    hub: HubServer, person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    path = rename(person.get(NAME).path, "mine").path
    hub.requests.clear()
    for name in (NAME.lower(), f"hf:{REPO.upper()}:q4_k_m", f"hf:{REPO.lower()}/tiny-Q4_K_M.gguf"):
        assert download.find(name) == path
    assert download.find("hf:owner/tiny") is None
    assert hub.requests == []


def test_the_parts_and_the_companion_of_a_renamed_model_are_known(
    hub: HubServer, person: Any, models: Path
) -> None:
    parts = split_files("big-Q4_K_M", 3)
    hub.add(REPO, {**parts, "mmproj-big-F16.gguf": projector_file()})
    fetched = person.get(NAME)
    assert fetched.companion is not None
    companion = fetched.companion
    renamed = rename(fetched.path, "huge")
    hub.requests.clear()
    again = person.get(NAME)
    assert (again.origin, again.path) == ("here", renamed.path)
    assert [path.read_bytes() for path in again.files] == list(parts.values())
    assert again.companion == companion  # it carried another name, so it kept it
    assert download.find(NAME) == renamed.path
    # Without one part it is fetched under its own names, and what is here stays as it is.
    again.files[1].unlink()
    anew = person.get(NAME)
    assert [path.name for path in anew.files] == list(parts)
    assert renamed.path.is_file()


def test_a_renamed_model_of_an_address_is_known_by_it(
    server: HubServer, person: Any, models: Path
) -> None:
    address = server.page("/files/tiny.gguf", DATA)
    path = rename(person.get(f"{address}?key=1").path, "mine").path
    server.requests.clear()
    assert download.find(f"{address}?key=1") == path
    assert person.get(f"{address}?key=1").path == path
    assert server.requests == []
    # Another query may be another file.
    assert person.get(f"{address}?key=2").path == models / "tiny.gguf"
    server.page("/files/tiny.gguf", NEWER)
    assert person.get(f"{address}?key=1", newer="get").path == path
    assert path.read_bytes() == NEWER
    assert (models / "tiny.gguf").read_bytes() == DATA


def test_what_is_in_the_trash_is_not_here_and_what_comes_back_is_known(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    path = person.get(NAME).path
    place = Place(models / REPO, path)
    assert place.record_path.is_file()
    remove(path)
    assert download.find(NAME) is None
    assert not place.record_path.exists()
    # By another name, while a second copy has been fetched under the first one.
    second = person.get(NAME).path
    assert second == path
    back = restore("tiny-Q4_K_M", "the old one").path
    found = record_of(back)
    assert found is not None
    assert found[1].name == f"{NAME}/tiny-Q4_K_M.gguf"
    assert check(back) == check(second) == [("the download", True)]
    remove(second)
    assert download.find(NAME) == back
    hub.requests.clear()
    assert person.get(NAME).path == back
    assert nothing_fetched(hub)
    # Emptied, nothing of it is left.
    remove(back)
    empty_trash()
    assert files_below(models) == set()
    assert not list(models.rglob("*.gguf.json"))


def test_a_note_that_was_forged_leads_nowhere_else(
    hub: HubServer, person: Any, models: Path, tmp_path: Path
) -> None:
    hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    entry = remove(person.get(NAME).path).entry
    note = entry.folder / "record.json"
    folder = str(models / REPO)
    assert folder in note.read_text()
    note.write_text(note.read_text().replace(f'"folder": "{folder}"', f'"folder": "{tmp_path}"'))
    path = restore(entry).path
    found = record_of(path)
    assert found is not None
    assert found[0].folder == path.parent
    assert not (tmp_path / ".downloads").exists()


def test_a_hash_is_known_through_renaming_and_the_trash_without_reading(
    server: HubServer, person: Any, models: Path
) -> None:
    path = person.get(server.page("/tiny.gguf", DATA)).path
    digest = Hashes().known(path)
    assert digest
    path = rename(path, "b").path
    assert Hashes().known(path) == digest
    remove("b")
    path = restore("b", "c").path
    assert Hashes().known(path) == digest
    assert next(one for one in listed_models() if one.name == "c").known_sha256 == digest


# --- while another version arrives ----------------------------------------------------------------


def test_a_model_stays_known_while_its_newer_version_is_under_way(
    server: HubServer, person: Any, models: Path
) -> None:
    address = server.page("/tiny.gguf", DATA)
    path = person.get(address).path
    server.page("/tiny.gguf", NEWER)
    server.fault(where="web", cut_after=1_000_000)
    server.fault(where="web", status=503, times=50)
    person.refused("server_busy", address, newer="get")
    server.mend()
    server.requests.clear()
    assert download.find(address) == path
    assert person.get(address).path.read_bytes() == DATA
    assert check(path) == [("the download", True)]
    assert [one.received_bytes for one in download.unfinished()] == [1_000_000]
    assert person.get(address, newer="get").path.read_bytes() == NEWER
    assert server.asked("web")[-1].headers["range"] == "bytes=1000000-"
    assert download.unfinished() == []


def test_what_comes_to_the_name_while_a_model_arrives_is_not_written_over(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    path = models / REPO / "tiny-Q4_K_M.gguf"

    def come(step: download.Progress) -> None:
        if step.phase == "judging" and not path.exists():
            path.write_bytes(b"somebody's own")

    error = person.refused("name_taken", NAME, on_progress=come)
    assert "will only be given its name" in error.message
    assert path.read_bytes() == b"somebody's own"
    path.rename(path.with_name("other.gguf"))
    hub.requests.clear()
    assert person.get(NAME).path.read_bytes() == DATA
    assert not hub.asked("cdn")


def test_a_model_that_changes_while_its_newer_version_arrives_is_not_replaced(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    path = person.get(NAME).path
    hub.add(REPO, {"tiny-Q4_K_M.gguf": NEWER})
    mine = model_file(seed=3)

    def change(step: download.Progress) -> None:
        if step.phase == "judging" and path.read_bytes() == DATA:
            path.write_bytes(mine)

    person.refused("name_taken", NAME, newer="get", on_progress=change)
    assert path.read_bytes() == mine


def test_a_file_of_a_persons_own_is_not_replaced_by_a_newer_version(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {"tiny-Q4_K_M.gguf": NEWER})
    path = models / REPO / "tiny-Q4_K_M.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    person.refused("name_taken", NAME, newer="get")
    assert path.read_bytes() == DATA
    # The very file of there is known by its bytes, and from then on it is one that was fetched.
    path.write_bytes(NEWER)
    assert person.get(NAME, newer="get").origin == "here"
    hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    assert person.get(NAME, newer="get").path.read_bytes() == DATA


def test_a_file_that_a_person_put_in_the_place_of_a_fetched_one_is_their_own(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    address = hub.page("/web.gguf", DATA)
    mine = model_file(seed=3)
    paths = [person.get(name).path for name in (NAME, address)]
    hub.add(REPO, {"tiny-Q4_K_M.gguf": NEWER})
    hub.page("/web.gguf", NEWER)
    for path, name in zip(paths, (NAME, address), strict=True):
        path.unlink()
        path.write_bytes(mine)
        person.refused("name_taken", name, newer="get")
        assert path.read_bytes() == mine


class KilledError(BaseException):
    """Stands for the end of the process: nothing behind it happens."""


def killed_at(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, nth: int = 1) -> None:
    left = nth
    real = getattr(where, name)

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            monkeypatch.setattr(where, name, real)
            raise KilledError
        return real(*arguments, **keywords)

    monkeypatch.setattr(where, name, call)


@pytest.mark.parametrize("step", ["before its name", "behind its name"])
def test_a_program_killed_about_the_naming_leaves_a_model_that_is_known(
    server: HubServer, person: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    address = server.page("/tiny.gguf", DATA)
    killed_at(monkeypatch, record, "give_name" if step == "before its name" else "sync_folder")
    with pytest.raises(KilledError):
        person.get(address)
    server.requests.clear()
    fetched = person.get(address)  # and not: there is another file of that name
    assert fetched.path.read_bytes() == DATA
    assert all(one.headers.get("range") for one in server.asked("web"))
    assert download.find(address) == fetched.path
    assert not list(fetched.path.parent.rglob("*.part.json"))


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_old_and_new_parts_are_at_no_moment_taken_for_one_model(
    hub: HubServer, person: Any, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    hub.add(REPO, split_files("big-Q4_K_M", 3))
    path = person.get(NAME).path
    newer = split_files("big-Q4_K_M", 3, seed=50)
    hub.add(REPO, newer)
    killed_at(monkeypatch, whole_model.Place, "settle", nth)
    with pytest.raises(KilledError):
        person.get(NAME, newer="get")
    assert download.find(NAME) is None  # a part is missing, so it is not loaded
    hub.requests.clear()
    assert [one.read_bytes() for one in person.get(NAME, newer="get").files] == list(newer.values())
    assert path.is_file()
    assert not hub.asked("cdn")


@pytest.mark.skipif(os.name != "posix", reason="links need rights there")
def test_what_has_come_in_the_place_of_what_arrived_gets_no_name(
    server: HubServer, person: Any, models: Path, tmp_path: Path
) -> None:
    address = server.page("/tiny.gguf", DATA)
    whole = models / ".downloads" / "tiny.gguf"
    secret = tmp_path / "other.gguf"
    secret.write_bytes(DATA)

    def swap(step: download.Progress) -> None:
        if step.phase == "judging" and not whole.is_symlink():
            whole.unlink()
            whole.symlink_to(secret)

    assert "was changed" in person.refused("disk", address, on_progress=swap).message
    assert not os.path.lexists(models / "tiny.gguf")
    fetched = person.get(address)
    assert fetched.path.read_bytes() == DATA
    assert not fetched.path.is_symlink()
    assert secret.read_bytes() == DATA


@pytest.mark.skipif(os.name != "posix", reason="links need rights there")
def test_the_folder_of_what_arrives_is_no_link(
    server: HubServer, person: Any, models: Path, tmp_path: Path
) -> None:
    models.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (models / ".downloads").symlink_to(tmp_path / "elsewhere")
    error = person.refused("disk", server.page("/tiny.gguf", DATA))
    assert "is a link" in error.message
    assert list((tmp_path / "elsewhere").iterdir()) == []
