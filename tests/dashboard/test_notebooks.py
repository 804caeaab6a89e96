"""Where the notebooks come from, and that a person's changes to them are never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.servers import REPOSITORY

from gguf_widgets.core.config import data_dir
from gguf_widgets.core.errors import InvalidValueError, ServerStartError
from gguf_widgets.dashboard import notebooks
from gguf_widgets.dashboard.lab import lab_arguments
from gguf_widgets.dashboard.notebooks import copy_notebooks, notebook_path, workspace


def release(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.ipynb").write_text(text)
    return folder


def kept(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.ipynb")}


def test_a_clone_opens_its_own_notebooks() -> None:
    assert notebook_path("dashboard.ipynb") == REPOSITORY / "notebooks" / "dashboard.ipynb"
    assert workspace() == REPOSITORY / "notebooks"


def test_an_installed_package_opens_a_copy_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "gguf_widgets"
    package.mkdir(parents=True)
    release(package / "notebooks", first="one")
    monkeypatch.setattr(notebooks.gguf_widgets, "__file__", str(package / "__init__.py"))
    assert workspace() == data_dir() / "notebooks"
    assert kept(data_dir() / "notebooks") == {"first.ipynb": "one"}
    with pytest.raises(ServerStartError, match="Install gguf-widgets again"):
        notebook_path("dashboard.ipynb")


def test_a_new_release_updates_what_nobody_changed_and_keeps_what_a_person_wrote(
    tmp_path: Path,
) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    shipped = release(tmp_path / "shipped", same="1", edited="1", deleted="1", renewed="1")
    copy_notebooks(shipped, target)
    (target / "edited.ipynb").write_text("mine")
    (target / "renewed.ipynb").write_text("mine too")
    (target / "deleted.ipynb").unlink()

    # Opened again: nothing comes back that was deleted, nothing is overwritten.
    copy_notebooks(shipped, target)
    mine = {"same.ipynb": "1", "edited.ipynb": "mine", "renewed.ipynb": "mine too"}
    assert kept(target) == mine

    release(shipped, same="2", renewed="2", added="2")
    copy_notebooks(shipped, target)
    wanted = mine | {"same.ipynb": "2", "added.ipynb": "2", "renewed.new.ipynb": "2"}
    assert kept(target) == wanted
    copy_notebooks(shipped, target)
    assert kept(target) == wanted


def test_what_is_left_of_an_interrupted_copy_does_no_harm(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / ".copied.json").write_text('{"first.ip')
    (target / "first.ipynb").write_text("mine")
    copy_notebooks(release(tmp_path / "shipped", first="1"), target)
    assert kept(target) == {"first.ipynb": "mine", "first.new.ipynb": "1"}


def test_jupyterlab_gets_what_a_person_asked_for_and_their_own_arguments_last(
    tmp_path: Path,
) -> None:
    def arguments(**more: object) -> list[str]:
        options = {"ip": "localhost", "port": 8888, "token": None, "open_browser": False}
        return lab_arguments(tmp_path, **(options | more))  # type: ignore[arg-type]

    plain = arguments()
    assert f"--ServerApp.root_dir={tmp_path}" in plain
    assert not any("token" in one for one in plain)  # JupyterLab makes one
    assert not any("default_url" in one for one in plain)  # there is no such notebook
    (tmp_path / "01_first_chat.ipynb").write_text("{}")
    given = arguments(token="secret", extra=["--ServerApp.port=1"])  # noqa: S106  # not one
    assert "--IdentityProvider.token=secret" in given
    assert "--LabApp.default_url=/lab/tree/01_first_chat.ipynb" in given
    assert given[-1] == "--ServerApp.port=1"
    with pytest.raises(InvalidValueError, match="it must be from 0 to 65535"):
        arguments(port=-1)
