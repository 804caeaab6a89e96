"""What a model may be called."""

from __future__ import annotations

import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gguf_widgets.core.care.names import MAX_NAME_BYTES, checked_stem, with_number
from gguf_widgets.core.errors import FileChangeError


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (".gguf", "is empty"),
        ("../../x", "path separator"),
        ("a/b", "path separator"),
        ("a\\b", "path separator"),
        ("a:b", "the character :"),
        ("what?", r"the character \?"),
        ("CON", "a device on Windows"),
        ("nul.gguf", "a device on Windows"),
        ("com1.v2", "a device on Windows"),
        ("LPT\u00b2", "a device on Windows"),
        (".hidden", "begins with a dot"),
        ("..", "begins with a dot"),
        ("ends.", "ends with a dot"),
        ("ends .gguf", "ends with a dot or a space"),
        ("a\u202egnp.exe", "right-to-left override"),
        ("a\u200bb", "cannot be seen"),
        ("a\nb", "cannot be seen"),
        ("a\0b", "cannot be seen"),
        ("\ud800", "cannot be seen"),
        ("x" * 300, "has 300 bytes"),
        ("\u00e4" * 101, "has 202 bytes"),
        ("big-00001-of-00002", "part of a split model"),
    ],
)
def test_a_name_that_could_do_harm_is_refused_with_its_reason(name: str, reason: str) -> None:
    with pytest.raises(FileChangeError, match=reason) as caught:
        checked_stem(name)
    assert caught.value.details["problem"] == "name"
    assert caught.value.message.replace("\n", "").isprintable()


def test_what_is_only_untidy_is_tidied() -> None:
    assert checked_stem("  My model.GGUF ") == "My model"
    assert checked_stem("Llama-3.2-1B-Q4_K_M.gguf") == "Llama-3.2-1B-Q4_K_M"
    assert checked_stem("a\u0308") == "\u00e4"  # one letter, however it was typed
    assert checked_stem("console") == "console"
    assert checked_stem("\u6a21\u578b") == "\u6a21\u578b"


@given(st.text(max_size=120))
@example("CON ")
@example("aux.tar.gguf")
def test_a_name_that_passes_makes_a_file_of_that_name_in_that_folder(name: str) -> None:
    try:
        stem = checked_stem(name)
    except FileChangeError:
        return
    assert checked_stem(stem) == stem or stem.lower().endswith(".gguf")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{stem}-00001-of-00002.gguf.sha256"
        path.write_bytes(b"")
        assert [unicodedata.normalize("NFC", p.name) for p in Path(folder).iterdir()] == [path.name]


def test_the_name_to_offer_is_one_that_passes() -> None:
    assert with_number("a", 2) == "a (2)"
    longest = "\u00e4" * (MAX_NAME_BYTES // 2)
    assert checked_stem(with_number(longest, 12)).endswith(" (12)")
