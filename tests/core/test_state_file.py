"""The file of a saved prefix: whole or not there, its user's own or refused, faults by name."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core import config
from gguf_widgets.core.errors import RequestCancelledError, StateFileError
from gguf_widgets.core.state_file import StateHeader, new_header, open_state, pack
from gguf_widgets.core.state_identity import StateIdentity
from gguf_widgets.core.state_key import user_key
from gguf_widgets.core.state_write import write_state
from gguf_widgets.core.types import LoadSettings, ModelInfo
from tests.core.conftest import wait_for, without_root

KEY = bytes(range(32))
TOKENS = [5, 0, 2**31 - 1, 7]
STATE = bytes(range(256)) * 40

INFO = ModelInfo(
    path="m.gguf", name="M", architecture="llama", size_bytes=10, num_parameters=1,
    quantization="Q8_0", n_ctx_train=1, n_vocab=9, n_layer=2, n_head=1, n_head_kv=1, n_embd=8,
)  # fmt: skip
IDENTITY = StateIdentity.of(INFO, "abc", LoadSettings(type_k="f16", n_ctx=512), "llama.cpp 1")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder in which there is nothing."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def never() -> bool:
    return False


def file_bytes(key: bytes = KEY) -> bytes:
    return pack(new_header(IDENTITY, TOKENS, memoryview(STATE), "0"), key) + STATE


def write(path: Path, key: bytes = KEY, cancelled: Callable[[], bool] = never) -> int:
    start = pack(new_header(IDENTITY, TOKENS, memoryview(STATE), "0"), key)
    return write_state(path, start, memoryview(STATE), cancelled)


def read(path: Path, key: bytes = KEY) -> tuple[StateHeader, bytes]:
    with open_state(path, key) as saved:
        state = bytearray(saved.header.state_bytes)
        saved.read_into(memoryview(state), never)
        return saved.header, bytes(state)


def problem_of(call: Callable[[], object]) -> str:
    with pytest.raises(StateFileError) as caught:
        call()
    assert caught.value.message.endswith(".")
    return str(caught.value.details["problem"])


def test_what_is_written_is_read_again_by_its_user_alone(place: Path) -> None:
    path = place / "a.prefix"
    assert write(path) == path.stat().st_size == len(file_bytes())
    header, state = read(path)
    assert (header.identity, header.token_list(), state) == (IDENTITY, TOKENS, STATE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert problem_of(lambda: read(path, bytes(32))) == "foreign"
    assert names(place) == ["a.prefix"]


# --- what others may have written --------------------------------------------------------------


def test_no_change_of_a_file_goes_unnoticed(place: Path) -> None:
    path = place / "a.prefix"
    good = file_bytes()
    num_start = len(good) - len(STATE)
    problems = set()
    for offset in [*range(num_start), *range(num_start, len(good), 397), len(good) - 1]:
        bad = bytearray(good)
        bad[offset] ^= 1 << offset % 8
        path.write_bytes(bad)
        problems.add(problem_of(lambda: read(path)))
    assert problems == {"not_a_state", "version", "foreign", "damaged", "truncated"}
    problems = set()
    for length in [*range(num_start + 2), len(good) - 1]:
        path.write_bytes(good[:length])
        problems.add(problem_of(lambda: read(path)))
    assert problems == {"not_a_state", "truncated"}  # nothing at all is no saved prefix
    path.write_bytes(good + b"\0")
    assert problem_of(lambda: read(path)) == "truncated"


@given(st.binary(max_size=300), st.integers(0, 110), st.booleans())
def test_a_file_that_somebody_has_thought_up_is_refused(
    junk: bytes, kept: int, has_key_id: bool
) -> None:
    # The beginning, which names the secret, is no secret itself.
    forged = (file_bytes()[:32] if has_key_id else file_bytes()[:kept]) + junk
    path = config.data_dir() / "forged"
    path.write_bytes(forged)
    assert problem_of(lambda: read(path)) in {
        "not_a_state", "version", "foreign", "damaged", "truncated",
    }  # fmt: skip


def test_a_header_says_only_what_its_mark_covers(place: Path) -> None:
    """Somebody who can read a file, but not the secret, changes what it says and marks it anew."""
    path = place / "a.prefix"
    header = new_header(IDENTITY, TOKENS, memoryview(STATE), "0")
    other = msgspec.structs.replace(header, tokens=b"\1\0\0\0")
    forged = bytearray(pack(other, bytes(32)))
    forged[16:32] = file_bytes()[16:32]
    path.write_bytes(bytes(forged) + STATE)
    assert problem_of(lambda: read(path)) == "damaged"
    # Not even with the secret does a header get anywhere that contradicts itself.
    for wrong in ({"tokens": b"123"}, {"state_bytes": -1}, {"state_bytes": 2**60}):
        path.write_bytes(pack(msgspec.structs.replace(header, **wrong), KEY) + STATE)
        assert problem_of(lambda: read(path)) in {"damaged", "truncated"}


def test_what_is_no_plain_file_is_not_waited_for(place: Path, open_folder: Path) -> None:
    os.mkfifo(place / "pipe")
    assert problem_of(lambda: read(place / "pipe")) == "unreadable"
    assert problem_of(lambda: read(place)) == "unreadable"
    assert problem_of(lambda: read(place / "none")) == "missing"
    assert problem_of(lambda: read(place / "a\0b")) == "missing"
    secret = open_folder / "a.prefix"
    write(secret)
    secret.chmod(0)
    with without_root():
        assert problem_of(lambda: read(secret)) == "unreadable"


def test_a_file_that_changes_while_it_is_read_is_noticed(place: Path) -> None:
    path = place / "a.prefix"
    for change in (lambda: os.truncate(path, 200), lambda: path.write_bytes(b"x" * 11_000)):
        write(path) if not path.exists() else path.write_bytes(file_bytes())
        with open_state(path, KEY) as saved:
            change()
            state = memoryview(bytearray(saved.header.state_bytes))
            assert problem_of(lambda: saved.read_into(state, never)) in {"truncated", "damaged"}  # noqa: B023
    path.write_bytes(file_bytes())
    with open_state(path, KEY) as saved, pytest.raises(RequestCancelledError):
        saved.read_into(memoryview(bytearray(10)), lambda: True)


# --- where it is written -----------------------------------------------------------------------


def test_nothing_but_a_saved_prefix_is_written_over(place: Path) -> None:
    theirs = place / "theirs"
    (place / "folder").mkdir()
    os.mkfifo(place / "pipe")
    (place / "link").symlink_to(theirs)
    for content in (b"", b"GGUF and so on", b"GWPREFI"):
        theirs.write_bytes(content)
        for name in ("theirs", "folder", "pipe", "link"):
            assert problem_of(lambda: write(place / name)) == "exists"  # noqa: B023
        assert theirs.read_bytes() == content
    assert problem_of(lambda: write(place / "none" / "a")) == "folder"
    assert problem_of(lambda: write(theirs / "a")) == "folder"
    path = place / "a.prefix"
    path.write_bytes(file_bytes(bytes(32))[:500])  # an old one, of whatever kind
    write(path)
    assert read(path)[1] == STATE
    assert names(place) == ["a.prefix", "folder", "link", "pipe", "theirs"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_comes_meanwhile_is_not_written_over(
    place: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    path = place / "a.prefix"
    if not links:

        def no_links(*_: Any) -> None:
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(Path, "hardlink_to", no_links)

    def somebody_else() -> bool:
        path.write_bytes(b"theirs")
        return False

    assert problem_of(lambda: write(path, cancelled=somebody_else)) == "exists"
    assert path.read_bytes() == b"theirs"
    path.unlink()
    write(path)
    write(path)  # over the one before
    assert read(path)[1] == STATE
    assert names(place) == ["a.prefix"]


def test_a_write_that_fails_leaves_what_was_there(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "a.prefix"
    write(path)
    before = path.read_bytes()
    really_write, num_written = os.write, 0

    def full(descriptor: int, data: Any) -> int:
        nonlocal num_written
        if num_written > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = really_write(descriptor, data[:700])
        num_written += done
        return done

    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for name, fault in (("write", full), ("fsync", fails)):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, fault)
            assert problem_of(lambda: write(path)) == "write"
        assert path.read_bytes() == before
        assert names(place) == ["a.prefix"]
    answers = iter([False, True])
    with pytest.raises(RequestCancelledError):
        write(path, cancelled=lambda: next(answers))
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=64 << 20))
    with pytest.raises(StateFileError, match=r"needs 10\.\d KB and the disk has 67\.1 MB free"):
        write(path)
    assert path.read_bytes() == before
    assert names(place) == ["a.prefix"]


def test_what_a_killed_writer_has_left_is_cleared_away(place: Path) -> None:
    path = place / "a.prefix"
    code = (
        "import sys, time; from pathlib import Path;"
        "from gguf_widgets.core.state_write import write_state;"
        "write_state(Path(sys.argv[1]), b'GWPREFIX', memoryview(bytes(9)), lambda: time.sleep(60))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    try:
        wait_for(lambda: names(place), "it has begun")
        assert [name.endswith(".part") for name in names(place)] == [True]
        write(place / "other")
        write(path)
        assert len(names(place)) == 3  # the writer lives: its file stays
    finally:
        writer.kill()
        writer.wait()
    write(path)
    assert names(place) == ["a.prefix", "other"]
    assert read(path)[1] == STATE


def test_two_who_write_the_same_file_leave_one_whole_one(place: Path) -> None:
    path = place / "a.prefix"
    faults: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(10):
                write(path, cancelled=lambda: bool(time.sleep(0.0005)))
        except BaseException as error:  # noqa: BLE001 - reported below
            faults.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert read(path)[1] == STATE
    assert names(place) == ["a.prefix"]


# --- whose it is -------------------------------------------------------------------------------


def test_one_secret_for_all_however_many_ask_at_once(home: Path) -> None:
    code = "from gguf_widgets.core.state_key import user_key; print(user_key().hex())"
    asked = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = {process.communicate(timeout=60)[0].strip() for process in asked}
    assert told == {user_key().hex()}
    path = config.state_key_path()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    assert problem_of(user_key) == "key"
    path.unlink()
    assert user_key().hex() not in told
    path.unlink()
    path.mkdir()
    assert problem_of(user_key) == "key"
