"""Whatever is done in whatever order, and whatever fails on the way: no content is ever lost."""

from __future__ import annotations

import errno
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.core import config
from gguf_widgets.core.care import journal, moves
from gguf_widgets.core.care.removing import empty_trash, remove, restore, trash
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.errors import GgufWidgetsError
from tests.core.care.conftest import put, put_split

NAMES = ("a", "b", "c", "A")
STEPS = st.tuples(
    st.sampled_from(["remove", "restore", "rename", "empty"]),
    st.integers(0, 7),
    st.sampled_from(NAMES),
    # Which change of the file system fails, if any does so early, and how.
    st.integers(0, 25),
    st.sampled_from([errno.EACCES, errno.ENOSPC, errno.EIO]),
)


class Faults:
    """Makes one call of the moving code's own fail, once."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left, self.code = 10**9, errno.EIO
        for owner, name in (
            (moves.os, "link"), (moves.os, "fsync"), (Path, "unlink"), (Path, "rename"),
            (Path, "replace"), (Path, "mkdir"), (journal.os, "fdopen"),
        ):  # fmt: skip
            patch.setattr(owner, name, self._failing(getattr(owner, name)))

    def _failing(self, real: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(self.code, os.strerror(self.code))
            return real(*arguments, **keywords)

        return call


def everything() -> Counter[bytes]:
    """Count each content in the models folder and in the trash."""
    found: Counter[bytes] = Counter()
    for folder in (config.models_dir(), config.trash_dir()):
        for path in folder.rglob("*"):
            hidden = path.name.startswith(".") or path.suffix == ".json"
            if path.is_file() and not hidden:
                found[path.read_bytes()] += 1
    return found


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=12))
def test_no_content_is_lost_and_none_is_doubled(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GGUF_WIDGETS_HOME", name)
        folder = config.ensure(config.models_dir())
        put(folder / "a.gguf", b"one")
        put(folder / "b.gguf", b"two")
        put_split(folder, "c", 3)
        put(folder / "c-00001-of-00003.gguf.sha256", b"three")
        expected = everything()
        faults = Faults(patch)
        for what, which, new_name, fault, code in steps:
            files = sorted(folder.glob("*.gguf"))
            inside = trash()
            faults.left, faults.code = fault or 10**9, code
            deleted: Counter[bytes] = Counter()
            try:
                if what == "remove" and files:
                    remove(files[which % len(files)])
                elif what == "rename" and files:
                    rename(files[which % len(files)], new_name)
                elif what == "restore" and inside:
                    restore(inside[which % len(inside)], new_name if which > 3 else None)
                elif what == "empty" and inside:
                    before = everything()
                    empty_trash(ids=[inside[which % len(inside)].id])
                    deleted = before - everything()
            except GgufWidgetsError:
                if what == "empty":
                    deleted = before - everything()
            faults.left = 10**9
            expected -= deleted
            trash()  # puts right what could not be undone
            assert everything() == expected, (what, which, new_name, fault, code)
        faults.left = 10**9
        assert not list(folder.glob(".*"))
