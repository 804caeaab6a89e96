"""Prompt templates: blanks, a person's own, files. Under a second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.preferences import Preferences
from gguf_widgets.core.prompt_templates import (
    BUILT_IN,
    PromptTemplate,
    PromptTemplates,
    blanks_of,
    fill,
)
from gguf_widgets.core.store.store import Store

RHYME = PromptTemplate(name="Rhyme", text="Rhyme on {word}.")


@pytest.fixture
def templates(tmp_path: Path) -> Iterator[PromptTemplates]:
    with Store(tmp_path / "store.sqlite3") as store:
        yield PromptTemplates(Preferences(store))


@given(st.text(alphabet="{}ab_ 1\n", max_size=40), st.text(alphabet="{}xy", max_size=8))
def test_filling_puts_the_values_in_and_reads_nothing_again(text: str, value: str) -> None:
    blanks = blanks_of(text)
    filled = fill(text, dict.fromkeys(blanks, "\0"))
    assert fill(text, dict.fromkeys(blanks, value)) == filled.replace("\0", value)
    if "{" not in text and "}" not in text:
        assert filled == text


def test_braces_of_code_stay_as_they_are() -> None:
    code = "for (;;) { x = {1}; } {} {a.b} {a!r} {0} {{name}} {name}"
    assert blanks_of(code) == ["name"]
    assert fill(code, {"name": "Emma"}) == "for (;;) { x = {1}; } {} {a.b} {a!r} {0} {name} Emma"


def test_every_blank_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidValueError, match="'a', 'b'") as caught:
        fill("{a} {b} {c}", {"c": ""})
    assert caught.value.details["missing"] == ["a", "b"]


def test_the_built_in_ones_can_be_filled_in_and_have_names_of_their_own() -> None:
    assert len({one.name for one in BUILT_IN}) == len(BUILT_IN)
    for one in BUILT_IN:
        assert one.blanks
        assert "{" not in one.filled(dict.fromkeys(one.blanks, "x")).replace("{x}", "")
        assert one.description


def test_ones_own_are_kept_and_take_the_place_of_a_built_in_one(
    templates: PromptTemplates, tmp_path: Path
) -> None:
    templates.save(RHYME)
    mine = PromptTemplate(name="translate", text="Into {language}, as a poem: {text}")
    templates.save(mine)
    with Store(tmp_path / "store.sqlite3") as store:
        elsewhere = PromptTemplates(Preferences(store))
        assert [one.name for one in elsewhere.own()] == ["Rhyme", "translate"]
        assert elsewhere.get("TRANSLATE") == mine
        assert len(elsewhere.all()) == len(BUILT_IN) + 1
    templates.save(PromptTemplate(name="Verse", text="x"), instead_of="Rhyme")
    assert [one.name for one in templates.own()] == ["translate", "Verse"]
    gone = templates.delete("translate")
    assert gone == mine
    assert templates.get("Translate") in BUILT_IN
    with pytest.raises(InvalidValueError, match="not one of your own"):
        templates.delete("Translate")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("", "x", "a name and a text"),
        ("x", " \n", "a name and a text"),
        ("x" * 61, "x", "longer than 60"),
        ("x", "x" * 20_001, "20,001 characters"),
        ("x", " ".join(f"{{a{n}}}" for n in range(21)), "21 blanks"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_changes(
    templates: PromptTemplates, name: str, text: str, word: str
) -> None:
    with pytest.raises(InvalidValueError, match=word):
        templates.save(PromptTemplate(name=name, text=text))
    assert templates.own() == []


def test_names_and_texts_from_outside_are_cleaned(templates: PromptTemplates) -> None:
    kept = templates.save(PromptTemplate(name=" a\n\u202eb ", text="half \ud800"))
    assert (kept.name, kept.text) == ("a b", "half \ufffd")


def test_a_file_brings_them_to_another_person(templates: PromptTemplates) -> None:
    with pytest.raises(InvalidValueError, match="no prompt templates of your own"):
        templates.export()
    templates.save(RHYME)
    data = templates.export()
    with Store(":memory:") as store:
        other = PromptTemplates(Preferences(store))
        assert other.add_from(data).added == ("Rhyme",)
        assert other.add_from(data).known == ("Rhyme",)
        other.save(PromptTemplate(name="rhyme", text="Another one: {x}"))
        found = other.add_from(data)
        assert found.renamed == {"Rhyme": "Rhyme (2)"}
        assert other.get("Rhyme (2)").text == RHYME.text
        assert other.get("Rhyme").text == "Another one: {x}"


def whole(**changes: object) -> bytes:
    item = {"name": "a", "text": "b", "description": ""}
    made = {"form": "gguf-widgets prompt templates", "version": 1, "templates": [item]}
    return json.dumps(made | changes).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"{}",
        b'{"form": "something else"}',
        whole(version=2),
        whole(templates={}),
        whole(templates=[]),
        whole(templates=[1]),
        whole(templates=[{"name": "a", "text": 5}]),
        whole(templates=[{"name": "a", "text": "b", "more": "c"}]),
        whole(templates=[{"name": "a", "text": "b"}, {"name": "b", "text": ""}]),
        whole(templates=[{"name": f"n{n}", "text": "b"} for n in range(501)]),
        whole() + b" " * 5_000_000,
    ],
)
def test_another_file_is_refused_and_nothing_of_it_is_added(
    templates: PromptTemplates, data: bytes
) -> None:
    with pytest.raises(InvalidValueError):
        templates.add_from(data)
    assert templates.own() == []


def test_what_a_later_version_kept_does_no_harm(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite3") as store:
        preferences = Preferences(store)
        good = {"name": "a", "text": "b", "description": ""}
        preferences.set("prompt_templates", [good, {"name": 1}, "x", {**good, "new": 1}])
        assert [one.name for one in PromptTemplates(preferences).own()] == ["a"]
        preferences.set("prompt_templates", "nonsense")
        assert PromptTemplates(preferences).own() == []
