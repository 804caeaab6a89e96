"""One memory of hashes: what a file comes to now, and what it came to once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.library_homes import put

from gguf_widgets.core import config
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.library import hashes
from gguf_widgets.core.library.hashes import (
    Followed,
    Hashes,
    checked_hash,
    remember_hash,
    remember_read,
    remembered,
    sha256_of,
)

A, B = "a" * 64, "b" * 64


def test_one_file_for_whoever_learns_a_hash(tmp_path: Path) -> None:
    paths = [put(tmp_path / name, name.encode()) for name in ("x", "y", "z")]
    sha256_of(paths[0])
    assert remember_hash(paths[1], A, "the upload")
    assert remember_read(paths[2], B, paths[2].stat())
    assert [path.name for path in config.data_dir().rglob("*") if path.suffix == ".json"] == [
        "hashes.json"
    ]
    known = Hashes()
    assert [known.known(path) for path in paths] == [hashlib.sha256(b"x").hexdigest(), A, B]
    sources = [found[1] for path in paths if (found := remembered(path))]
    assert sources[1] == "the upload"
    assert all(source.startswith("an earlier check (") for source in (sources[0], sources[2]))


def test_a_change_that_hides_its_time_is_not_known_and_still_compared(tmp_path: Path) -> None:
    path = put(tmp_path / "x", b"one")
    remember_hash(path, A)
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    if path.stat().st_ctime_ns != status.st_ctime_ns:  # on Windows that is when it was made
        assert Hashes().known(path) == ""
    assert remembered(path) is not None
    os.utime(path, (1, 1))
    assert remembered(path) is None


def test_a_renamed_file_is_recognised_and_a_followed_one_known(tmp_path: Path) -> None:
    path = put(tmp_path / "x", b"one")
    remember_hash(path, A, "the download")
    moved = path.rename(tmp_path / "y")
    assert remembered(moved) == (A, "the download")
    followed = Followed([moved, tmp_path / "none"])
    copy = put(tmp_path / "copy", b"one")
    os.utime(copy, ns=(0, moved.stat().st_mtime_ns))
    followed.arrived([copy, tmp_path / "none"])
    assert remembered(copy) == (A, "the download")
    assert Hashes().known(copy) == ("" if os.name == "posix" else A)  # the rename was not ours
    remember_hash(moved, A, "the download")
    followed = Followed([moved])
    again = moved.rename(tmp_path / "z")
    followed.arrived([again])
    assert Hashes().known(again) == A
    # What has been written to on the way has no hash.
    followed = Followed([again])
    again.write_bytes(b"two, longer")
    followed.arrived([again])
    assert remembered(again) is None


def test_a_hash_of_what_was_there_before_is_not_given_to_what_is_there_now(tmp_path: Path) -> None:
    path = put(tmp_path / "x", b"one")
    status = path.stat()
    put(tmp_path / "new", b"two").replace(path)
    assert not remember_hash(path, A, status=status)
    assert not remember_read(path, A, status)
    assert not remember_hash(tmp_path / "none", A)
    assert remembered(path) is None


def test_what_is_kept_is_bounded_and_the_newest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_MAX_FILES", 3)
    paths = [put(tmp_path / str(number), bytes([number])) for number in range(5)]
    for path in paths:
        remember_hash(path, A, "s" * 10_000)
    assert [Hashes().known(path) for path in paths] == ["", "", A, A, A]
    assert hashes._FILE.path.stat().st_size < 2000


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"version": 9}', '{"version": 1, "hashes": {"a": 1}}', "\ud800"],
)
def test_a_damaged_memory_is_forgotten_and_written_anew(tmp_path: Path, text: str) -> None:
    path = put(tmp_path / "x", b"one")
    put(hashes._FILE.path, text.encode("utf-8", "surrogatepass"))
    assert Hashes().known(path) == ""
    assert remember_hash(path, A)
    assert Hashes().known(path) == A


def test_a_forged_hash_counts_for_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "x", b"one")
    remember_hash(path, A)
    for forged in ("x" * 64, "A" * 64, "a" * 63, ""):
        put(hashes._FILE.path, hashes._FILE.path.read_bytes().replace(A.encode(), forged.encode()))
        assert Hashes().known(path) == ""
        remember_hash(path, A)


def test_what_is_no_hash_is_refused(tmp_path: Path) -> None:
    assert checked_hash(f" SHA256:{A.upper()}\n") == A
    with pytest.raises(InvalidValueError, match="64 digits"):
        checked_hash("12")
    with pytest.raises(InvalidValueError, match="64 digits"):
        remember_hash(put(tmp_path / "x", b"one"), "12")


WRITE = """
import sys
from pathlib import Path
from gguf_widgets.core.library.hashes import remember_hash
for path in sorted(Path(sys.argv[1]).glob(sys.argv[2] + "*")):
    assert remember_hash(path, "a" * 64)
"""


def test_several_programs_remember_at_once(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{who}{n}", f"{who}{n}".encode()) for who in "abc" for n in range(15)]
    started = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), who]) for who in "abc"]
    assert [process.wait(90) for process in started] == [0, 0, 0]
    known = Hashes()
    assert {known.known(path) for path in paths} == {A}
