"""What a file may be called here: the rules that uploads, downloads and renaming share."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from gguf_widgets.core.care.names import checked_stem
from gguf_widgets.core.download.names import clean_file_name as of_a_download
from gguf_widgets.core.file_names import (
    EXTENSION,
    MAX_NAME_BYTES,
    clean_file_name,
    clean_folder_name,
    same_name,
    with_number,
)
from gguf_widgets.core.upload.names import clean_name, numbered

HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from('./\\:*?"<>| \u202e\u200f\u200d\u0301\u0000\u001f\x7f\ud800'),
        st.sampled_from("COMNULAXPRT1²gguf.-0o"),
    ),
    max_size=400,
)


@given(HOSTILE)
@example("CON" + " " * 300 + "x")
def test_uploads_downloads_and_renaming_agree_on_what_a_name_may_be(given_name: str) -> None:
    name = clean_file_name(given_name)
    assert of_a_download(given_name) == clean_name(given_name).name == name
    assert name.isprintable()
    stem = name.removesuffix(EXTENSION)
    # A person may type whatever the other two make, but for the number of a part, and for an ending
    # twice, of which one is taken off.
    if not stem.lower().endswith(EXTENSION) and "-of-" not in stem:
        assert checked_stem(name) == stem


@given(HOSTILE, st.integers(2, 1000))
@example("x" * 300, 2)
@example("y" * 300 + "-00002-of-00003", 12)
def test_a_name_that_is_offered_instead_can_be_taken(given_name: str, number: int) -> None:
    name = clean_file_name(given_name)
    offered = numbered(name, number)
    assert same_name(offered) != same_name(name)
    assert clean_name(offered) == (offered, "")
    stem = with_number(name.removesuffix(EXTENSION), number)
    assert len(stem.encode()) <= MAX_NAME_BYTES


@given(HOSTILE)
@example("..")
@example("aux.d")
def test_a_folders_name_stays_one_folder(given_name: str) -> None:
    name = clean_folder_name(given_name)
    assert name not in (".", "..")
    assert not set(name) & set('<>:"/\\|?*')
    assert all(unicodedata.category(letter)[0] != "C" for letter in name)
    assert not name.endswith((".", " "))
    assert clean_folder_name(name) == name
