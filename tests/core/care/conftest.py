"""Our own models folder, files to put into it, and another disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gguf_writer import MODEL_TENSORS, Tensor, Typed, gguf_bytes, model_bytes, model_entries

from gguf_widgets.core import config
from tests.core.care.converting import MODULE, write_slow_model
from tests.core.conftest import processes_of, wait_for


@pytest.fixture
def folder() -> Path:
    """The user's own models folder."""
    return config.ensure(config.models_dir())


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on another file system than the data folder's."""
    for candidate in (Path("/dev/shm"), Path.home()):  # noqa: S108 - memory, only for this test
        if candidate.is_dir() and candidate.stat().st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=candidate) as name:
                yield Path(name)
            return
    pytest.skip("there is only one file system here")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 1 MiB, which fills up for real."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if os.name != "posix" or mount is None:
        pytest.skip("no small disk can be made here")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only the superuser may make a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def slow_model(folder: Path) -> Path:
    """Write a model whose conversion takes some seconds."""
    return write_slow_model(folder / "slow.gguf")


@pytest.fixture
def no_process_is_left(home: Path) -> Iterator[None]:
    """Wait after a test until no process converts any more."""
    yield
    wait_for(lambda: not processes_of(home, MODULE), "the converting processes have ended")


def put(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model_bytes() if data is None else data)
    return path


def put_split(folder: Path, stem: str, num_parts: int = 2) -> list[Path]:
    """Write a split model and return its parts."""
    paths = []
    for number in range(num_parts):
        about = {
            "split.no": Typed("uint16", number),
            "split.count": Typed("uint16", num_parts),
            "split.tensors.count": Typed("int32", num_parts),
        }
        data = gguf_bytes({**model_entries(), **about}.items(), (Tensor(f"t{number}.weight"),))
        name = f"{stem}-{number + 1:05}-of-{num_parts:05}.gguf"
        paths.append(put(folder / name, data))
    return paths


def put_projector(path: Path) -> Path:
    return put(path, gguf_bytes(model_entries("clip").items(), MODEL_TENSORS))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it; of a link where it leads."""
    return {
        str(path.relative_to(folder)): (
            b"-> " + os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
