from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gguf_widgets.core import config
from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.store import migrations
from gguf_widgets.core.store.store import Store, default_store


def add(store: Store, text: str) -> None:
    store.add_notice(text)


def texts(store: Store) -> list[str]:
    return [notice.text for notice in store.notices()]


def test_what_was_written_is_there_again_and_private(home: Path) -> None:
    with Store() as store:
        add(store, "kept")
        mode = stat.S_IMODE(config.store_path().stat().st_mode)
        wal = config.store_path().with_name("store.sqlite3-wal")
        assert stat.S_IMODE(wal.stat().st_mode) == mode == 0o600
    with Store() as again:
        assert texts(again) == ["kept"]


def test_a_transaction_is_kept_entirely_or_not_at_all(home: Path) -> None:
    with Store() as store:

        def fail() -> None:
            with store.transaction():
                add(store, "inside")  # joins the transaction around it
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert texts(store) == []
        with store.transaction():
            add(store, "one")
            add(store, "two")
        assert texts(store) == ["one", "two"]


def test_use_after_closing_is_a_store_error(home: Path) -> None:
    store = Store()
    store.close()
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.notices()


WRITER = """
import sys
from gguf_widgets.core.store.store import Store
with Store() as store:
    for number in range(int(sys.argv[2])):
        store.add_notice(f"{sys.argv[1]}-{number}")
"""


def test_several_processes_and_threads_write_a_new_file_at_once(home: Path) -> None:
    # They all find no file: making it and its tables must happen once.
    each = 40
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, f"p{index}", str(each)])
        for index in range(3)
    ]
    store = Store()

    def write(name: str) -> None:
        for number in range(each):
            store.add_notice(f"{name}-{number}")

    threads = [threading.Thread(target=write, args=(f"t{index}",)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    names = [f"{kind}{index}" for kind in "pt" for index in range(3)]
    expected = {f"{name}-{number}" for name in names for number in range(each)}
    assert sorted(texts(store)) == sorted(expected)
    store.close()


# -- files that cannot be used as they are --------------------------------------------------------


def damage(path: Path, kind: str) -> None:
    if kind == "no database":
        path.write_bytes(b"This is a letter, not a database.\n" * 200)
        return
    with Store(path) as store:
        for number in range(300):
            store.add_notice(f"{number} " + "x" * 500)
    content = bytearray(path.read_bytes())
    assert len(content) > 160_000
    if kind == "page overwritten":
        start = len(content) - 80_000  # behind the tables' own pages: there the notices are
        content[start:-4096] = os.urandom(len(content) - 4096 - start)
    elif kind == "cut short":
        del content[20_000:]
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["no database", "page overwritten", "cut short"])
def test_a_damaged_file_is_kept_and_a_new_one_says_so(home: Path, kind: str) -> None:
    path = config.store_path()
    damage(path, kind)
    before = path.read_bytes()
    with Store() as store:
        (text,) = texts(store)
        add(store, "works")
    kept = list(home.glob("store.damaged-*.sqlite3"))
    assert len(kept) == 1
    assert str(kept[0]) in text
    assert kept[0].read_bytes() == before
    # The fact is still there for whoever opens the file next, until it is dismissed.
    with Store() as again:
        assert texts(again) == [text, "works"]
        again.dismiss_notices()
        assert texts(again) == []


def test_two_processes_that_find_the_damage_replace_the_file_once(home: Path) -> None:
    damage(config.store_path(), "no database")
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, f"p{index}", "1"]) for index in range(4)
    ]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert len(list(home.glob("store.damaged-*.sqlite3"))) == 1
    with Store() as store:
        assert len([text for text in texts(store) if text.startswith("p")]) == 4


def test_damage_found_in_use_is_told_and_cured_at_the_next_opening(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config.store_path()
    damage(path, "page overwritten")
    # As if the file were too big to be checked at every opening.
    monkeypatch.setattr("gguf_widgets.core.store.store._ALWAYS_CHECKED_BYTES", 0)
    with Store() as store, pytest.raises(StoreError, match="damaged") as caught:
        texts(store)
    assert caught.value.details["reason"] == "damaged"
    with Store() as store:
        assert "damaged" in texts(store)[0]
    with Store() as store:
        assert len(texts(store)) == 1  # not replaced again
    assert len(list(home.glob("store.damaged-*.sqlite3"))) == 1


def test_a_newer_file_is_refused_and_left_as_it_is(home: Path) -> None:
    path = config.store_path()
    Store().close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version = {len(migrations.MIGRATIONS) + 1}")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer version") as caught:
        Store()
    assert caught.value.details["reason"] == "newer"
    assert path.read_bytes() == before
    with default_store(or_memory=True) as memory:
        assert memory.path is None
        assert "newer version" in texts(memory)[0]


def test_another_programs_database_is_refused_and_left_as_it_is(home: Path) -> None:
    path = config.store_path()
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE recipe (name)")
    raw.commit()
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store()
    assert path.read_bytes() == before


def test_a_step_that_fails_changes_nothing_and_an_older_file_catches_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store() as store:
        add(store, "old")
    good = migrations.Migration("more", ("CREATE TABLE more (a)", "INSERT INTO more VALUES (1)"))
    bad = migrations.Migration(
        "broken", ("CREATE TABLE half (a)", "INSERT INTO nowhere VALUES (1)")
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, good, bad))
    with pytest.raises(StoreError):
        Store()
    monkeypatch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:-1])
    with Store() as store, store.reading() as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert {"more", "notice"} <= tables
        assert "half" not in tables
        assert connection.execute("SELECT a FROM more").fetchall() == [(1,)]
    # The steps of a released version never change, or old files would differ from new ones.
    assert len(migrations.MIGRATIONS[0].statements) == 8


def test_a_locked_file_is_an_error_in_words_after_the_wait(home: Path) -> None:
    with Store() as store:
        other = sqlite3.connect(config.store_path(), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        wanted = pytest.raises(StoreError, match="in use by another program")
        with wanted as caught, store.transaction(wait_s=0.05):
            pass
        assert caught.value.details["reason"] == "locked"
        other.execute("ROLLBACK")
        other.close()
        add(store, "afterwards")
        assert texts(store) == ["afterwards"]


def test_a_thread_that_holds_the_store_too_long_is_an_error_in_words(home: Path) -> None:
    with Store() as store:
        inside, done = threading.Event(), threading.Event()

        def hold() -> None:
            with store.transaction():
                inside.set()
                done.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait(30)
        with pytest.raises(StoreError, match="other work"), store.transaction(wait_s=0.05):
            pass
        done.set()
        thread.join(30)
        add(store, "afterwards")


def test_a_folder_that_cannot_be_made_is_an_error_in_words(home: Path) -> None:
    (home / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store(home / "file" / "store.sqlite3")
    assert caught.value.details["reason"] == "unreachable"


def test_a_file_that_cannot_be_written_is_an_error_in_words(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tests may run as root, for whom no file is read-only: SQLite is told instead.
    with Store() as store:
        with store.reading() as connection:
            pass
        connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="can be read but not written") as caught:
            add(store, "never")
        assert caught.value.details["reason"] == "read-only"


def test_a_full_disk_is_an_error_in_words(home: Path) -> None:
    with Store() as store:
        with store.reading() as connection:
            pass
        connection.execute("PRAGMA max_page_count = 20")
        with pytest.raises(StoreError, match="is full") as caught:
            add(store, "x" * 1_000_000)
        assert caught.value.details["reason"] == "full"
        add(store, "small")
        assert texts(store) == ["small"]


def test_a_file_removed_in_use_is_told_and_does_not_harm_the_new_one(home: Path) -> None:
    path = config.store_path()
    old = Store()
    add(old, "in the old file")
    path.rename(home / "moved")
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).rename(home / f"moved{ending}")
    new = Store()
    add(new, "in the new file")
    add(old, "from the old user")
    assert [text.split()[0] for text in texts(new)] == ["in", "The", "from"]
    assert "removed or replaced" in texts(new)[1]
    # The old connection must not take the new file's journal with it.
    old.close()
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT count(*) FROM notice").fetchone() == (3,)
    raw.close()
    new.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_the_file_for_itself(home: Path) -> None:
    with Store() as store:
        add(store, "parent")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                add(store, "child")
                store.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        add(store, "parent again")
        assert texts(store) == ["parent", "child", "parent again"]


def test_the_default_store_is_one_for_a_process_and_follows_the_data_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = default_store()
    assert default_store() is first
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(home / "other"))
    second = default_store()
    assert second is not first
    assert second.path == home / "other" / "store.sqlite3"
    second.close()
    third = default_store()
    assert not third.closed
    third.close()
    first.close()
