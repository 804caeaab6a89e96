"""Presets: the registry, files from anybody, what a model's file recommends. About 2 s."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gguf_writer import Typed, model_bytes

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.preferences import PRESETS, Preferences
from gguf_widgets.core.presets import (
    BUILT_IN,
    CREATIVITY,
    MODEL_TYPES,
    Preset,
    checked,
    checked_sampling,
    sampling_to_json,
)
from gguf_widgets.core.presets_file import MAX_BYTES, read_presets, write_presets
from gguf_widgets.core.presets_own import MAX_OWN, Presets
from gguf_widgets.core.presets_recommended import recommended
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import SamplingSettings

TUTOR = Preset(
    name="my-tutor",
    title="My tutor",
    description="Asks before it explains.",
    system="Ask first.\n\tThen explain.",
    sampling={
        "temperature": 0.3,
        "stop": ("END", "\n\n"),
        "logit_bias": {5: -math.inf, 7: 2.5},
        "schema": {"type": "object", "properties": {"z": {}, "a": {}}},
    },
    style="code",
    needs_images=True,
)


@pytest.fixture
def presets(store: Store) -> Presets:
    return Presets(store)


# -- judging ---------------------------------------------------------------------------------------


def test_what_everybody_has_is_sound_and_each_creativity_names_the_same() -> None:
    for preset in [*BUILT_IN.values(), TUTOR]:
        assert checked(json.loads(json.dumps(preset.to_json(), allow_nan=False))) == preset
    assert len({frozenset(one.sampling) for one in CREATIVITY.values()}) == 1
    assert CREATIVITY["balanced"].settings() == SamplingSettings()


_NUMBERS = st.floats() | st.integers(-(2**70), 2**70) | st.booleans() | st.none() | st.text()
_SETTINGS = st.dictionaries(
    st.sampled_from(SamplingSettings.__struct_fields__),
    _NUMBERS | st.lists(_NUMBERS) | st.dictionaries(st.text(), _NUMBERS),
)


@given(_SETTINGS)
def test_whatever_is_given_is_refused_in_words_or_can_be_sent_and_kept(found: Any) -> None:
    try:
        sampling = checked_sampling(found)
    except InvalidValueError as refused:
        message = refused.message
    else:
        message = ""
    if message:
        assert 10 < len(message) < 500
        assert "$." not in message
        return
    settings = SamplingSettings.from_keywords(**sampling)
    assert {name: getattr(settings, name) for name in found} == sampling
    text = json.dumps(sampling_to_json(sampling), allow_nan=False)
    assert checked_sampling(json.loads(text)) == sampling


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "an object with a title, not nothing"),
        ({}, "title must be a text"),
        ({"title": " "}, "title is missing"),
        ({"title": "a\nb"}, "on one line"),
        ({"title": "a\u202eb"}, "cannot be shown"),
        ({"title": "x" * 61}, "has 61 characters; at most 60"),
        ({"title": "T", "systen": "x"}, '"T" has fields that this version does not know: "systen"'),
        ({"title": "T", "sampling": {"mirrorstat": 2}}, 'does not know the setting "mirrorstat"'),
        ({"title": "T", "sampling": {"temperature": 9}}, "temperature is 9.0; it must be from"),
        ({"title": "T", "sampling": {"top_k": "many"}}, 'top_k is "many". It is a whole number'),
        ({"title": "T", "sampling": {"top_k": True}}, "top_k is True"),
        ({"title": "T", "sampling": {"seed": 10**400}}, "a number of very many digits"),
        ({"title": "T", "sampling": {"logit_bias": {"ab": 1}}}, 'the token "ab"'),
        ({"title": "T", "sampling": {"stop": ["x" * 1001]}}, "at most 1,000 characters"),
        ({"title": "T", "sampling": {"schema": {"x": "y" * 200_000}}}, "Shorten the schema"),
        ({"title": "T", "sampling": []}, "are an object, not a list"),
        ({"title": "T", "style": "loud"}, "it can be markdown, plain, code"),
        ({"title": "T", "needs_images": 1}, "true or false"),
        ({"title": "T", "system": "x" * 100_001}, "has 100,001 characters; at most 100,000"),
    ],
)
def test_what_is_wrong_is_named(given: Any, words: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        checked(given)
    assert words in caught.value.message


# -- the registry ----------------------------------------------------------------------------------


def test_ones_own_are_kept_found_renamed_deleted_and_brought_back(
    presets: Presets, store: Store
) -> None:
    kept = presets.add(TUTOR)
    assert kept == TUTOR
    other = presets.add("Aardvark", system="Be an aardvark.")
    assert Presets(store).own() == [other, kept]  # by title
    assert Presets(store).all()[:3] == list(MODEL_TYPES.values())
    assert presets.get("my-tutor") == presets.get("MY TUTOR") == kept
    with pytest.raises(InvalidValueError, match="Did you mean 'my-tutor'"):
        presets.get("my-tuto")

    renamed = presets.rename("my-tutor", "Professor")
    assert (renamed.name, renamed.title) == ("my-tutor", "Professor")  # chats know it by its name
    removed = presets.delete("my-tutor")
    assert presets.own() == [other]
    presets.restore(removed)
    assert presets.get("Professor").system == TUTOR.system

    removed = presets.delete("my-tutor")
    presets.add("professor")
    with pytest.raises(InvalidValueError, match="already"):
        presets.restore(removed)


def test_nothing_is_written_over_unasked(presets: Presets) -> None:
    presets.add("Mine", system="one")
    for title in ("mine", "MINE ", "Text", "code", "Balanced"):
        with pytest.raises(InvalidValueError, match="already") as caught:
            presets.add(title)
        assert caught.value.details["can_replace"] is (title.strip().lower() == "mine")
    with pytest.raises(InvalidValueError, match="already"):
        presets.add("Text", replace=True)  # the program's own are not replaced
    assert presets.add("MINE", system="two", replace=True).name == "mine"
    assert [(one.title, one.system) for one in presets.own()] == [("MINE", "two")]
    presets.add("Yours")
    with pytest.raises(InvalidValueError, match="already"):
        presets.rename("mine", "yours")
    for change in (lambda: presets.rename("code", "x"), lambda: presets.delete("text")):
        with pytest.raises(InvalidValueError, match="belongs to the program"):
            change()
    # Titles that make the same name, or none at all
    names = [presets.add(title).name for title in ("a b", "a-b", "!!!", "???")]
    assert names == ["a-b", "a-b-2", "preset", "preset-2"]


def test_there_is_an_end_to_it(presets: Presets) -> None:
    Preferences(presets._preferences.store).set(
        PRESETS, {f"p{number}": {"title": f"P {number}"} for number in range(MAX_OWN)}
    )
    with pytest.raises(InvalidValueError, match="at most 200"):
        presets.add("one more")


def test_one_of_a_newer_version_is_named_and_stays(presets: Presets, store: Store) -> None:
    newer = {"title": "From later", "sampling": {"telepathy": 1}}
    Preferences(store).set(PRESETS, {"later": newer, "broken": 5, "good": {"title": "Good"}})
    assert [one.name for one in presets.own()] == ["good"]
    assert {one.name: one.why.split(".")[0] for one in presets.unusable()} == {
        "later": 'The preset "From later": This version does not know the setting "telepathy"',
        "broken": "A preset is an object with a title, not a number",
    }
    with pytest.raises(InvalidValueError, match="telepathy"):
        presets.get("later")
    presets.add("Another")
    assert Preferences(store).get(PRESETS)["later"] == newer
    presets.delete("broken")
    assert [one.name for one in presets.unusable()] == ["later"]


# -- files -----------------------------------------------------------------------------------------


def test_a_file_makes_the_same_presets() -> None:
    text = write_presets([TUTOR, MODEL_TYPES["code"]])
    for form in (text, text.encode(), b"\xef\xbb\xbf" + text.encode()):
        tutor, code = read_presets(form)
        assert tutor.to_json() == {**TUTOR.to_json(), "name": "My tutor"}
        assert code.system == MODEL_TYPES["code"].system
    # The order of a schema's properties is that of the reply.
    assert list(tutor.sampling["schema"]["properties"]) == ["z", "a"]


def _file(**changes: Any) -> str:
    whole = {"format": "gguf-widgets presets", "version": 1, "presets": [{"title": "T"}]}
    return json.dumps({**whole, **changes})


DEEP = '{"not": ' * 300 + "{}" + "}" * 300


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON (line 1"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        ("[]", "holds no presets"),
        ('{"format": "other"}', "holds no presets"),
        ("[" * 200_000, "nested too deeply"),
        ("9" * 5000, "not JSON"),
        (_file(version=2), "made by a newer version"),
        (_file(version=True), "version is True"),
        (_file(version="1"), "version is '1'"),
        (_file(licence="x"), 'does not know: "licence"'),
        (_file(presets={}), "empty or is no list"),
        (_file(presets=[]), "empty or is no list"),
        (_file(presets=[{"title": f"{n}"} for n in range(101)]), "holds 101 presets"),
        (_file(presets=[{"title": "A"}, {"title": "a"}]), "two presets called"),
        (_file(presets=[{"title": "A"}, 7]), "Preset 2 of the file"),
        (_file(presets=[{"title": "A", "sampling": {"x": 1}}]), 'the setting "x"'),
        (_file().replace('"T"', '"T", "title": "U"'), 'names "title" twice'),
        (_file().replace('"T"', '"T", "sampling": {"temperature": NaN}'), "NaN"),
        (_file().replace('"T"', '"T", "sampling": {"min_p": -Infinity}'), "-Infinity"),
        (_file().replace('"T"', '"T", "sampling": {"schema": ' + DEEP + "}"), "nested more than"),
        (_file().replace('"T"', '"T", "sampling": {"temperature": "\\ud800"}'), "a number"),
        (" " * (MAX_BYTES + 1), "at most 2.1 MB"),
    ],
)
def test_a_file_from_anybody_is_refused_in_words(data: Any, words: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        read_presets(data)
    assert words in caught.value.message
    assert len(caught.value.message) < 500


# -- the maker's recommendation --------------------------------------------------------------------


def _written(tmp_path: Path, **entries: Typed) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(
        model_bytes(**{f"general__sampling__{key}": value for key, value in entries.items()})
    )
    return path


def test_what_the_file_recommends_is_read_under_our_names(tmp_path: Path) -> None:
    path = _written(
        tmp_path,
        temp=Typed("float32", 0.6),
        top_p=Typed("float32", 0.95),
        top_k=Typed("int32", 20),
        min_p=Typed("float32", 0.0),
        penalty_last_n=Typed("int32", -1),
        penalty_repeat=Typed("float32", 1.05),
        xtc_probability=Typed("float32", 0.1),
        xtc_threshold=Typed("float64", 0.2),
        mirostat=Typed("int32", 2),
        mirostat_tau=Typed("float32", 4.5),
        mirostat_eta=Typed("float32", 0.05),
        sequence=Typed("string", "edskypmxt\x1b[2J"),
    )
    found = recommended(path)
    assert found.sampling == {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "min_p": 0.0,
        "repeat_last_n": -1,
        "repeat_penalty": 1.05,
        "xtc_probability": 0.1,
        "xtc_threshold": 0.2,
        "mirostat": 2,
        "mirostat_tau": 4.5,
        "mirostat_eta": 0.05,
    }
    assert len(found.notes) == 1
    assert 'order of the steps, "edskypmxt [2J"' in found.notes[0]


def test_values_that_cannot_be_are_named_and_left_out(tmp_path: Path) -> None:
    found = recommended(
        _written(
            tmp_path,
            temp=Typed("float32", math.nan),
            top_p=Typed("float32", 7.0),
            top_k=Typed("string", "20"),
            min_p=Typed("array", ("float32", [0.1] * 5)),
            penalty_repeat=Typed("float32", math.inf),
            penalty_last_n=Typed("uint64", 2**63),
            mirostat=Typed("bool", True),
            telepathy=Typed("float32", 1.0),
        )
    )
    assert found.sampling == {}
    assert len(found.notes) == 8
    for name in ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "repeat_last_n"):
        assert any(f"{name} is" in note for note in found.notes), name
    assert 'recommends "telepathy"' in found.notes[-1]

    # Negative is "all" to llama.cpp, and a whole number may be written as a float.
    found = recommended(_written(tmp_path, top_k=Typed("int32", -1), mirostat=Typed("float32", 1)))
    assert found.sampling == {"top_k": 0, "mirostat": 1}
    assert recommended(_written(tmp_path)).sampling == {}

    many = {f"x{number}": Typed("uint8", 1) for number in range(50)}
    assert recommended(_written(tmp_path, **many)).notes[-1] == "And 30 more."
