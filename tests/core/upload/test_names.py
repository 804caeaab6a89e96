"""Names from browsers, hostile ones above all."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.upload.names import clean_name, numbered, same_name

_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"
}
_hostile = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from('./\\:*?"<>| \u202e\u200f\u200d\u0301\u0000\u001f\x7f\ud800'),
        st.sampled_from("COMNULAXPRT1²gguf.-0o"),
    ),
    max_size=400,
)


@given(_hostile)
def test_every_name_becomes_one_that_every_system_takes(given_name: str) -> None:
    name, told = clean_name(given_name)
    assert name.endswith(".gguf")
    assert len(name.encode()) <= 200
    assert not set(name) & set('<>:"|?*\\/')
    assert all(unicodedata.category(letter)[0] != "C" for letter in name)
    assert not name.startswith((".", " "))
    assert not name.removesuffix(".gguf").endswith((".", " "))
    assert name.partition(".")[0].rstrip().upper() not in _DEVICES
    assert unicodedata.is_normalized("NFC", name)
    assert clean_name(name) == (name, "")
    assert (name == given_name) == (told == "")


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("model.gguf", "model.gguf"),
        ("../../x.gguf", "x.gguf"),
        ("..\\..\\x.gguf", "x.gguf"),
        ("/etc/passwd", "passwd.gguf"),
        ("CON", "_CON.gguf"),
        ("con.GGUF", "_con.gguf"),
        ("COM1.Q4.gguf", "_COM1.Q4.gguf"),
        ("CON" + " " * 300 + "x.gguf", "_CON.gguf"),
        ("a\u202efugg.gguf", "afugg.gguf"),
        ("a\x00b\nc.gguf", "abc.gguf"),
        ("model.gguf. . ", "model.gguf"),
        (".hidden.gguf", "hidden.gguf"),
        (".gguf", "unnamed.gguf"),
        ("..", "unnamed.gguf"),
        ("", "unnamed.gguf"),
        ("cafe\u0301.gguf", "caf\u00e9.gguf"),
        ("x" * 300 + ".gguf", "x" * 195 + ".gguf"),
        ("y" * 300 + "-00002-of-00003.gguf", "y" * 180 + "-00002-of-00003.gguf"),
        ("漢" * 300 + ".gguf", "漢" * 65 + ".gguf"),
        ("a:b?.gguf", "a_b_.gguf"),
        ("model.bin", "model.bin.gguf"),
    ],
)
def test_known_tricks(given_name: str, name: str) -> None:
    cleaned = clean_name(given_name)
    assert cleaned.name == name
    assert (name in cleaned.told) == (name != given_name)


def test_a_book_is_no_name() -> None:
    with pytest.raises(UploadError, match="5,000 characters") as refused:
        clean_name("x" * 5000)
    assert refused.value.details["problem"] == "name"


def test_names_that_some_system_takes_for_one_are_told() -> None:
    assert same_name("Model.gguf") == same_name("MODEL.GGUF")
    assert same_name("caf\u00e9.gguf") == same_name("cafe\u0301.gguf")
    assert same_name("ﬁle.gguf") == same_name("FILE.gguf")
    assert same_name("a.gguf") != same_name("b.gguf")


def test_a_number_leaves_the_part_number_last() -> None:
    assert numbered("model.gguf", 2) == "model (2).gguf"
    assert numbered("m-00001-of-00002.gguf", 3) == "m (3)-00001-of-00002.gguf"
