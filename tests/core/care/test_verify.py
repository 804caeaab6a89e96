"""Is a file what it should be: its hash against everything that is known, and its structure."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.gguf_writer import MODEL_TENSORS, Tensor, gguf_bytes, model_bytes, model_entries

from gguf_widgets.core.care import checking as verify_module
from gguf_widgets.core.care.checking import verify
from gguf_widgets.core.care.hashes import remember_hash
from gguf_widgets.core.care.progress import Progress
from gguf_widgets.core.care.removing import remove, restore
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.errors import FileChangeError, InvalidValueError, ModelNotFoundError
from gguf_widgets.core.library import hashes
from gguf_widgets.core.library.hashes import sha256_of
from tests.core.care.conftest import put, put_projector, put_split
from tests.core.conftest import without_root


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def flip(path: Path, at: int = -3) -> None:
    """Change one bit as a failing disk does: size and time stay."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_the_first_check_has_nothing_to_compare_with_and_the_next_one_has(folder: Path) -> None:
    path = put(folder / "a.gguf")
    first = verify("a")
    assert (first.ok, first.compared, first.num_tensors) == (True, False, len(MODEL_TENSORS))
    assert first.files[0].sha256 == sha256(path.read_bytes())
    assert first.files[0].matches is None
    assert "nobody can tell without a hash" in str(first)
    second = verify("a")
    assert (second.ok, second.compared) == (True, True)
    assert "an earlier check" in str(second)
    # It is remembered through a new name, and the trash.
    rename("a", "b")
    remove("b")
    restore("b")
    flip(folder / "b.gguf")
    damaged = verify("b")
    assert not damaged.ok
    assert damaged.structure_error is None  # no header tells of one bit in a tensor
    assert "NOT what an earlier check" in str(damaged)
    assert "damaged or is another file" in str(damaged)
    assert json.loads(json.dumps(damaged.to_dict()))["files"][0]["matches"] is False
    flip(folder / "b.gguf")
    assert verify("b").ok  # and the wrong one was not remembered
    put(folder / "b.gguf", model_bytes() + b"\0" * 32)  # written anew, so it counts for nothing
    assert verify("b").files[0].matches is None


def test_every_part_and_the_companion_are_read(folder: Path) -> None:
    parts = put_split(folder, "big", 3)
    put_projector(folder / "big-mmproj.gguf")
    result = verify(parts[1])
    assert [check.path.name for check in result.files] == [
        *(part.name for part in parts),
        "big-mmproj.gguf",
    ]
    assert result.num_tensors == 3 + len(MODEL_TENSORS)
    good = [sha256(part.read_bytes()) for part in parts]
    assert verify(parts[0], good).ok
    assert verify(parts[0], {parts[2].name: good[2].upper()}).ok
    wrong = verify(parts[0], [good[0], good[2], good[1]])
    assert [check.matches for check in wrong.files[:3]] == [True, False, False]
    for bad in ("", "abc", good, good[:2], {"x.gguf": good[0]}, ["z" * 64] * 3):
        if bad is not good:
            with pytest.raises(InvalidValueError):
                verify(parts[0], bad)
    parts[2].unlink()
    assert "not in its folder" in (verify(parts[0]).structure_error or "")


def test_who_says_what_it_should_be(folder: Path, tmp_path: Path) -> None:
    data = model_bytes()
    good, bad = sha256(data), sha256(b"other")
    hub = tmp_path / "models--o--m"
    blob = put(hub / "blobs" / good, data)
    (hub / "snapshots").mkdir()
    (hub / "snapshots" / "m.gguf").symlink_to(blob)
    ollama = put(tmp_path / ".ollama" / "blobs" / f"sha256-{bad}", data)
    for path, source, matches in (
        (blob, "Hugging Face", True),
        (hub / "snapshots" / "m.gguf", "Hugging Face", True),
        (ollama, "Ollama", False),
    ):
        (check,) = verify(path).files
        assert source in check.compared[0].source
        assert check.matches is matches
    path = put(folder / "a.gguf", data)
    for text, matches in (
        (f"{good}  a.gguf\n", True),
        (f"{good.upper()} *a.gguf\r\n{bad}  b.gguf\n", True),
        (f"SHA256 (a.gguf) = {good}\n", True),
        (f"{bad}  former-name.gguf\n", False),
        (good, True),
        (f"{good}  x.gguf\n{bad}  y.gguf\n", None),  # neither is meant
        ("nonsense", None),
        ("x" * 100_000, None),
    ):
        put(folder / "a.gguf.sha256", text.encode())
        (check,) = verify(path).files
        beside = [one for one in check.compared if "beside" in one.source]
        assert [one.matches for one in beside] == ([] if matches is None else [matches])
    given = verify(path, f"sha256:{bad}").files[0]
    assert given.compared[0].source == "the hash that you gave"
    assert given.matches is False
    assert remember_hash(path, bad, "the download")
    assert "the download" in [one.source for one in verify(path).files[0].compared]


def test_what_a_header_promises_is_checked(folder: Path) -> None:
    data = model_bytes()
    cut = put(folder / "cut.gguf", data[:-100])
    assert "is cut short" in (verify(cut).structure_error or "")
    assert not verify(cut).ok
    assert "is not a GGUF" in (verify(put(folder / "t.gguf", b"text")).structure_error or "")
    over = [Tensor("a.weight", (64,)), Tensor("b.weight", (64,), offset=0)]
    bad = put(folder / "over.gguf", gguf_bytes(model_entries().items(), over))
    assert "lies over the one before it" in (verify(bad).structure_error or "")
    more = verify(put(folder / "more.gguf", data + b"x" * 5000))
    assert more.ok
    assert "goes on for 5 KB" in more.notes[0]
    odd = [Tensor("a.weight", (64,)), Tensor("b.weight", (64,), 99, 64)]
    unknown = verify(put(folder / "odd.gguf", gguf_bytes(model_entries().items(), odd)))
    assert unknown.num_tensors == 1
    assert "type 99" in unknown.notes[0]
    with pytest.raises(ModelNotFoundError):
        verify(folder / "none.gguf")


def test_progress_reaches_the_end_and_can_be_stopped(folder: Path) -> None:
    parts = put_split(folder, "big", 2)
    with parts[1].open("ab") as file:
        file.truncate(20_000_000)
    seen: list[Progress] = []
    verify("big", on_progress=seen.append)
    total = sum(part.stat().st_size for part in parts)
    assert {p.total for p in seen} == {total}
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == total
    assert (seen[-1].fraction, seen[-1].left_s, seen[-1].unit) == (1.0, 0.0, "bytes")
    calls = 0

    def cancelled() -> bool:
        nonlocal calls
        calls += 1
        return calls > 3

    with pytest.raises(FileChangeError) as caught:
        verify("big", cancelled=cancelled)
    assert caught.value.details["problem"] == "cancelled"
    assert calls == 4


def test_a_file_that_changes_meanwhile_is_not_called_good(folder: Path) -> None:
    path = put(folder / "a.gguf", model_bytes() + b"\0" * 9_000_000)

    def grow(progress: Progress) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(FileChangeError, match="was changed while it was read") as caught:
        verify(path, on_progress=grow)
    assert caught.value.details["problem"] == "changed"
    assert verify(path).files[0].compared == ()  # and nothing was remembered


def test_a_file_that_may_not_be_read_or_a_disk_that_fails(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(open_folder / "a.gguf")
    verify(path)
    path.chmod(0)
    with without_root():
        with pytest.raises(FileChangeError, match="Check its permissions") as caught:
            verify(path)
        assert caught.value.details["problem"] == "permission"
    path.chmod(0o600)
    real = hashlib.sha256

    class Failing:
        def __init__(self) -> None:
            self.hash = real()

        def update(self, data: bytes) -> None:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("gguf_widgets.core.care.checking.hashlib.sha256", Failing)
    with pytest.raises(FileChangeError, match="may be failing"):
        verify(path)


def test_nothing_is_needed_to_remember_with_for_a_check(folder: Path) -> None:
    path = put(folder / "a.gguf")
    for text in ("", "[]", "{", '{"version": 2}', '{"version": 1, "hashes": {"a": 1}}'):
        put(hashes._FILE.path, text.encode())
        assert verify(path).ok
    # A folder in which nothing can be remembered is no reason not to check.
    hashes._FILE.path.unlink()
    hashes._FILE.path.mkdir()
    result: Any = verify(path)
    assert result.ok


def test_whoever_said_it_first_stays_named_and_is_believed(folder: Path) -> None:
    path = put(folder / "a.gguf")
    good = sha256(path.read_bytes())
    assert remember_hash(path, good, "the download")
    assert verify(path).ok
    assert [one.source for one in verify(path).files[0].compared] == ["the download"]
    # Read by the list of models after it has lost a bit, it is not remembered as being right.
    flip(path)
    assert sha256_of(path) != good
    (compared,) = verify(path).files[0].compared
    assert (compared.source, compared.sha256, compared.matches) == ("the download", good, False)


@pytest.mark.skipif(os.name != "posix", reason="there are no named pipes")
@pytest.mark.timeout(20)
def test_a_named_pipe_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(folder / "a.gguf")
    os.mkfifo(folder / "a.gguf.sha256")
    assert verify(path).files[0].compared == ()
    real = verify_module.known_hashes

    def swapped(file: Path) -> Any:
        known = real(file)
        file.unlink()
        os.mkfifo(file)
        return known

    monkeypatch.setattr(verify_module, "known_hashes", swapped)
    with pytest.raises(FileChangeError, match="was changed"):
        verify(path)
