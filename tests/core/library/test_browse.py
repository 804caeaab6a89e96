"""Choosing what is on this machine already: nothing outside of the allowed folders, ever."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.library_homes import model_file, part_file, put

from gguf_widgets.core import config, errors
from gguf_widgets.core.library import (
    browse,
    browse_listing,
    browse_place,
    browse_roots,
    folders,
    models,
)
from gguf_widgets.core.library.browse import add_file, add_folder, listing, look_at, place_of
from gguf_widgets.core.library.places import user_dirs

# Most of this is about links, and pipes.
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")

MODEL = model_file()


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Allow one folder and no other."""
    folder = tmp_path / "inside"
    folder.mkdir()
    monkeypatch.setenv(config.BROWSE, str(folder))
    return folder


def names(found: browse.Listing) -> list[str]:
    return [f"{row.name}/" if row.kind == "folder" else row.name for row in found.rows]


# --- what is shown --------------------------------------------------------------------------------


def test_folders_and_models_are_shown_and_nothing_else(inside: Path) -> None:
    put(inside / "Zeta/m.gguf", MODEL)
    put(inside / "alpha/m.gguf", MODEL)
    put(inside / "model 10.gguf", MODEL)
    put(inside / "model 9.GGUF", MODEL + b"\0" * 100)
    put(inside / "letter.txt", "no model")
    put(inside / ".hidden.gguf", MODEL)
    (inside / ".secret").mkdir()
    found = listing(inside)
    assert names(found) == ["alpha/", "Zeta/", "model 9.GGUF", "model 10.gguf"]
    assert found.num_hidden == 2
    assert found.crumbs == [("inside", str(inside))]
    nine = found.rows[2]
    assert nine.size == len(MODEL) + 100
    assert nine.changed == pytest.approx((inside / "model 9.GGUF").stat().st_mtime)
    assert nine.path == str(inside / "model 9.GGUF")
    assert names(listing(inside, hidden=True))[:1] == [".secret/"]
    assert names(listing(inside, match=" ALPHA")) == ["alpha/"]
    assert listing(inside / "alpha").crumbs[-1] == ("alpha", str(inside / "alpha"))


def test_what_is_in_the_list_already_is_marked(inside: Path, tmp_path: Path) -> None:
    path = put(inside / "one.gguf", MODEL)
    put(inside / "two.gguf", model_file("Two"))
    (inside / "other").mkdir()
    assert not any(row.is_listed for row in listing(inside).rows)
    assert add_file(path) == path
    add_folder(inside / "other")
    assert [row.is_listed for row in listing(inside).rows] == [True, True, False]
    assert look_at(path).is_listed
    assert not look_at(inside / "two.gguf").is_listed


def test_the_parts_of_a_split_model_are_one_row(inside: Path) -> None:
    for number in (1, 2):
        put(inside / f"big-0000{number}-of-00002.gguf", part_file(number, 2))
    put(inside / "half-00002-of-00002.gguf", part_file(2, 2))
    big, half = listing(inside).rows
    assert (big.name, big.num_parts, big.note) == ("big-00001-of-00002.gguf", 2, "")
    assert big.size == len(part_file(1, 2)) + len(part_file(2, 2))
    assert half.note == "1 of its 2 parts are there."
    assert look_at(inside / "big-00002-of-00002.gguf").path.name == big.name
    assert isinstance(look_at(half.path).facts.error(), errors.SplitFileError)


def test_a_huge_folder_is_cut_and_says_so(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        put(inside / f"m{number}.gguf", MODEL)
    found = listing(inside, limit=10)
    assert names(found) == [f"m{number}.gguf" for number in range(10)]
    assert (found.num_left_out, found.is_cut) == (20, False)
    assert names(listing(inside, limit=10, match="m29")) == ["m29.gguf"]
    monkeypatch.setattr(browse_listing, "_MAX_SEEN", 5)
    found = listing(inside)
    assert len(found.rows) == 5
    assert found.is_cut


def test_hostile_names_are_shown_as_text_and_those_that_are_none_cannot_be_chosen(
    inside: Path,
) -> None:
    put(inside / "evil\u202efugg.gguf", MODEL)
    put(inside / "two\nlines\x1b[2J.gguf", MODEL)
    with contextlib.suppress(OSError):  # a file system that takes only UTF-8
        put(inside / "\udcffraw.gguf", MODEL)
    for row in listing(inside).rows:
        assert row.name.isprintable()
        row.path.encode()
        if not row.path:
            assert "not valid text" in row.note
            continue
        assert look_at(row.path).facts.info is not None
        assert add_file(row.path) == Path(row.path)
    assert len(folders.files()) == 2


def test_a_folder_that_cannot_be_read_is_said(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inside / "closed").mkdir()

    def refuse(_where: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        with pytest.raises(errors.UnreadableFileError, match="cannot be looked into: Permission"):
            listing(inside / "closed", known=set())
    assert listing(inside / "closed").rows == []


def test_what_is_no_file_is_shown_and_cannot_be_chosen(inside: Path) -> None:
    os.mkfifo(inside / "pipe.gguf")
    (inside / "gone.gguf").symlink_to(inside / "nothing.gguf")
    (inside / "loop.gguf").symlink_to(inside / "loop.gguf")
    rows = {row.name: row for row in listing(inside).rows}
    assert set(rows) == {"pipe.gguf", "gone.gguf", "loop.gguf"}
    for row in rows.values():
        assert row.path == ""
        assert row.note
    for name in rows:
        with pytest.raises(errors.ModelFileError):
            look_at(inside / name)
        with pytest.raises(errors.ModelFileError):
            add_file(inside / name)


# --- what is allowed ------------------------------------------------------------------------------


def test_the_usual_roots(person: Path, tmp_path: Path) -> None:
    assert [root.title for root in browse.allowed_roots() if root.path == person] == ["Home folder"]
    own = config.ensure(config.models_dir())
    extra = tmp_path / "extra"
    extra.mkdir()
    folders.add_folder(extra)
    roots = {root.path: root.title for root in browse.allowed_roots()}
    assert roots[own] == "Models folder"
    assert roots[extra] == "extra"
    assert Path("/") not in roots
    folders.remove_folder(extra)
    assert extra not in {root.path for root in browse.allowed_roots()}


def test_a_service_whose_home_is_everything_may_not_look_everywhere() -> None:
    dirs = user_dirs({"HOME": "/"}, "linux")
    assert "Home folder" not in [root.title for root in browse.allowed_roots(dirs)]


def test_disks_that_were_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse_roots, "_login_name", lambda: "emma")
    for name in ("media/emma/Backup", "run/media/emma/Stick", "mnt/c", "Volumes/Disk"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "media/otto/Private").mkdir(parents=True)
    (tmp_path / "Volumes/Macintosh HD").symlink_to("/")
    found = browse_roots._disks("linux", tmp_path)
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        "media/emma/Backup",
        "run/media/emma/Stick",
        "mnt",
    ]
    assert list(browse_roots._disks("macos", tmp_path)) == [tmp_path / "Volumes/Disk"]
    monkeypatch.setattr(browse_roots, "_letters", lambda: [Path("C:"), Path("D:")])
    assert list(browse_roots._disks("windows", tmp_path)) == [Path("C:"), Path("D:")]


def test_it_can_be_limited_and_forbidden(
    person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(person / "m.gguf", MODEL)
    assert browse.is_allowed()
    assert names(listing(person)) == ["m.gguf"]
    monkeypatch.setenv(config.BROWSE, os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert [root.path for root in browse.allowed_roots()] == [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(errors.InvalidValueError, match="outside of the folders") as caught:
        listing(person)
    assert caught.value.details["allowed"] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert "--browse" in caught.value.message
    assert config.BROWSE in caught.value.message
    with pytest.raises(errors.ModelNotFoundError):
        listing(tmp_path / "a")
    for value in ("none", " NONE ", os.pathsep):
        monkeypatch.setenv(config.BROWSE, value)
        assert not browse.is_allowed()
        assert browse.allowed_roots() == []
        for act in (listing, look_at, add_file, add_folder):
            with pytest.raises(errors.InvalidValueError, match="switched off"):
                act(person / "m.gguf")
    monkeypatch.setenv(config.BROWSE, "")
    assert names(listing(person)) == ["m.gguf"]


def test_outside_nothing_shows_whether_there_is_something(inside: Path, tmp_path: Path) -> None:
    put(tmp_path / "outside/there.gguf", MODEL)
    (inside / "out").symlink_to(tmp_path / "outside")
    said = set()
    for path in (
        tmp_path / "outside/there.gguf",
        tmp_path / "outside/nothing.gguf",
        inside / "../outside/there.gguf",
        inside / "out/there.gguf",
        inside / "out/nothing.gguf",
    ):
        for act in (listing, look_at, add_file, add_folder):
            with pytest.raises(errors.InvalidValueError) as caught:
                act(path)
            said.add(caught.value.message.partition(" is outside of ")[2])
            assert caught.value.details["problem"] == "outside"
    assert len(said) == 1
    found = listing(inside)
    assert (found.rows, found.num_outside) == ([], 1)


def test_a_part_that_leads_outside_keeps_the_model_out(inside: Path, tmp_path: Path) -> None:
    name = "big-0000{}-of-00002.gguf"
    put(inside / name.format(1), part_file(1, 2))
    secret = put(tmp_path / "outside" / name.format(2), part_file(2, 2))
    (inside / name.format(2)).symlink_to(secret)
    for act in (look_at, add_file):
        with pytest.raises(errors.InvalidValueError, match="outside"):
            act(inside / name.format(1))
    assert folders.files() == []


def test_a_link_to_a_file_inside_keeps_its_own_name(inside: Path) -> None:
    blob = put(inside / "blobs/0123abcd.gguf", MODEL)
    link = inside / "snapshot/nice-name.gguf"
    link.parent.mkdir()
    link.symlink_to(blob)
    assert names(listing(link.parent)) == ["nice-name.gguf"]
    assert add_file(link) == link
    assert [one.name for one in models()[1:]] == ["nice-name"]


# --- a link that is put there meanwhile -----------------------------------------------------------


@pytest.mark.skipif(not browse_place.CAN_STEP, reason="the path is followed again there")
def test_a_link_put_in_the_place_of_a_folder_leads_nowhere(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "outside/deep/secret.gguf", MODEL)
    for at in ("a", "a/deep"):
        put(inside / "a/deep/m.gguf", MODEL)
        real, moved = inside / at, tmp_path / "moved"
        target = tmp_path / "outside" / Path(at).relative_to("a")

        def swap(real: Path = real, moved: Path = moved, target: Path = target) -> None:
            real.rename(moved)
            real.symlink_to(target)

        for act in (listing, add_folder):
            with monkeypatch.context() as patch:
                after(patch, browse_listing, browse, "status_of", swap)
                with pytest.raises((errors.ModelFileError, errors.InvalidValueError)):
                    act(inside / "a/deep")
            assert folders.folders() == []
            real.unlink()
            moved.rename(real)
        for act in (look_at, add_file):
            with monkeypatch.context() as patch:
                after(patch, browse, folders, "read_facts", swap)
                with pytest.raises((errors.ModelFileError, errors.InvalidValueError)):
                    act(inside / "a/deep/m.gguf")
            assert folders.files() == []
            real.unlink()
            moved.rename(real)
        shutil.rmtree(inside / "a")


def after(patch: pytest.MonkeyPatch, one: object, other: object, name: str, then: object) -> None:
    """Have something happen right after the first call of a function, in two modules."""
    real = getattr(one, name)
    todo = [then]

    def called(*arguments: object, **keywords: object) -> object:
        answer = real(*arguments, **keywords)
        while todo:
            todo.pop()()  # type: ignore[operator]
        return answer

    for module in (one, other):
        patch.setattr(module, name, called)


# --- any tree of links ----------------------------------------------------------------------------

FOLDERS = ["in", "in/a", "in/a/b", "in/.h", "in2", "out", "out/x", "out/x/y"]
LEAVES = ["one.gguf", "two.gguf", "link", "loop.gguf", "..gguf"]
link = st.tuples(
    st.sampled_from(FOLDERS),
    st.sampled_from(LEAVES),
    st.sampled_from([*FOLDERS, *(f"{f}/{leaf}" for f in FOLDERS for leaf in LEAVES[:3])]),
    st.booleans(),
)
asked = st.lists(
    st.sampled_from(
        ["a", "b", ".h", "..", ".", "link", "loop.gguf", "one.gguf", "x", "in", "in2", "out"]
    ),
    max_size=5,
)


@settings(max_examples=200)
@given(links=st.lists(link, max_size=8), files=st.sets(st.sampled_from(FOLDERS)), path=asked)
def test_no_listing_and_no_add_ever_leaves_the_allowed_folders(
    tmp_path_factory: pytest.TempPathFactory,
    links: list[tuple[str, str, str, bool]],
    files: set[str],
    path: list[str],
) -> None:
    base = tmp_path_factory.mktemp("tree")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GGUF_WIDGETS_HOME", str(base / "home"))
        patch.setenv(config.BROWSE, str(base / "in"))
        for folder in FOLDERS:
            (base / folder).mkdir(parents=True, exist_ok=True)
        for folder in sorted(files):
            put(base / folder / "one.gguf", model_file(folder))
        for folder, name, target, absolute in links:
            where, to = base / folder / name, base / target
            with contextlib.suppress(FileExistsError):
                where.symlink_to(to if absolute else os.path.relpath(to, where.parent))
        allowed = (base / "in").stat()
        everything = [base / "in" / Path(*path), base.joinpath(*path)]
        for here in everything:
            for act in (listing, look_at, add_file, add_folder):
                with contextlib.suppress(errors.GgufWidgetsError):
                    answer = act(here, hidden=True) if act is listing else act(here)  # type: ignore[operator]
                    if isinstance(answer, browse.Listing):
                        assert is_below(Path(answer.path), allowed)
                        for row in answer.rows:
                            assert not row.path or is_below(Path(row.path), allowed)
                    else:
                        found = answer.path if isinstance(answer, browse.Candidate) else answer
                        assert is_below(found, allowed)
        for one in (*folders.files(), *folders.folders()):
            assert is_below(one, allowed)
    shutil.rmtree(base)


def is_below(path: Path, folder: os.stat_result) -> bool:
    """Say whether a path ends below a folder, told from the system's own answers alone."""
    here = path if stat.S_ISDIR(path.stat().st_mode) else Path(os.path.realpath(path)).parent
    identity = (folder.st_dev, folder.st_ino)
    descriptor = os.open(here, os.O_RDONLY)
    try:
        while True:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) == identity:
                return True
            above = os.open("..", os.O_RDONLY, dir_fd=descriptor)
            is_top = os.path.sameopenfile(above, descriptor)
            os.close(descriptor)
            descriptor = above
            if is_top:
                return False
    finally:
        os.close(descriptor)


# --- what is typed --------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="paths of this system")
def test_a_path_that_was_pasted(person: Path) -> None:
    for text, path in (
        ("/data/m.gguf\n", "/data/m.gguf"),
        ('  "/data/my model.gguf" ', "/data/my model.gguf"),
        ("'/data/m.gguf'", "/data/m.gguf"),
        ("file:///data/my%20model.gguf", "/data/my model.gguf"),
        ("file://localhost/data/m.gguf", "/data/m.gguf"),
        ("~/m.gguf", str(person / "m.gguf")),
    ):
        assert place_of(text) == Path(path)
    for text in (
        "",
        "   ",
        '""',
        "a\0b",
        "\\\\machine\\share",
        "file://machine/m.gguf",
        "/" * 5000,
    ):
        with pytest.raises(errors.InvalidValueError, match="is not the path"):
            place_of(text)
    with pytest.raises(errors.InvalidValueError, match="whole path"):
        place_of("models/m.gguf")
