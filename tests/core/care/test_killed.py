"""Killed with SIGKILL before every single change of the file system: no file is ever lost.

At each point a file is whole in one place or the other (or, between its two names, in both), and
the next look at the trash brings everything to what it was before, or to what was asked for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.core.download.record import Place, Record
from tests.core.care.conftest import put, put_split

SCRIPT = Path(__file__).with_name("kill_points.py")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL and no fork")


def killed_everywhere(what: str, folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), what, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert not lines[-1]["killed"]
    assert len(lines) > 8  # it was killed at that many points
    return lines


def put_model(folder: Path) -> list[str]:
    """Write a split model, a checksum and another model; return what `kill_points` says of them."""
    parts = put_split(folder, "big", 3)
    for number, part in enumerate(parts):
        part.write_bytes(part.read_bytes() + f"part number {number:4}".encode())
    paths = [*parts, put(folder / f"{parts[0].name}.sha256", b"0123456789abcdef")]
    return sorted(f"{path.name}={path.read_bytes()[-16:].hex()}" for path in paths)


def place_of(place: str, folder: Path, request: pytest.FixtureRequest) -> Path:
    if place == "other disk":
        other: Path = request.getfixturevalue("other_disk")
        folder.rmdir()
        folder.symlink_to(other / "models")
        (other / "models").mkdir()
    return folder


@pytest.mark.parametrize("place", ["same disk", "other disk"])
@pytest.mark.parametrize("what", ["remove", "restore"])
def test_a_killed_removal_or_restore_happens_as_a_whole_or_not_at_all(
    folder: Path, what: str, place: str, request: pytest.FixtureRequest
) -> None:
    files = put_model(place_of(place, folder, request))
    inside, outside = {"models": [], "trash": files}, {"models": files, "trash": []}
    before, after = (outside, inside) if what == "remove" else (inside, outside)
    lines = killed_everywhere(what, folder)
    seen_between = False
    for line in lines:
        left = line["left"]
        assert set(left["models"]) | set(left["trash"]) == set(files), "a file is lost"
        seen_between |= left not in (before, after)
        healed = line["healed"]
        if place == "same disk":
            assert healed in (before, after)
        else:
            # A copy that was finished just before the kill may stay beside its original.
            assert set(healed["models"]) | set(healed["trash"]) == set(files)
            assert healed["trash"] in ([], files)
        listed = healed["trash"] == files
        assert line["entries"] == ([["big", 4, 0]] if listed else [])
        assert not [name for name in line["notes"] if name.endswith((".new", ".part"))]
        assert line["hidden"] == []
    assert seen_between  # the points lie inside the work, too
    assert lines[0]["healed"] == before
    assert lines[-1]["healed"] == after


def test_a_killed_rename_happens_as_a_whole_or_not_at_all(folder: Path) -> None:
    before = put_model(folder)
    # One part was downloaded: what is known of that is renamed with it or not at all, too.
    part = folder / "big-00002-of-00003.gguf"
    place = Place(folder, part)
    place.make()
    status = part.stat()
    place.write(Record(name="hf:o/r/x.gguf", size=status.st_size, mtime_ns=status.st_mtime_ns))
    note = place.record_path
    before = sorted([*before, f"{note.name}={note.read_bytes()[-16:].hex()}"])
    after = sorted(line.replace("big", "renamed") for line in before)
    lines = killed_everywhere("rename", folder)
    contents = sorted(line.partition("=")[2] for line in before)
    for line in lines:
        left = {name.partition("=")[2] for name in line["left"]["models"]}
        assert left == set(contents), "a file is lost"
        assert line["healed"]["models"] in (before, after)
        assert not [name for name in line["notes"] if name != ".lock"]
    assert lines[-1]["healed"]["models"] == after


def test_a_killed_emptying_is_finished_or_never_began(folder: Path) -> None:
    files = put_model(folder)
    lines = killed_everywhere("empty", folder)
    for line in lines:
        assert line["healed"]["models"] == []
        assert line["healed"]["trash"] in ([], files)
    assert lines[-1]["entries"] == []
