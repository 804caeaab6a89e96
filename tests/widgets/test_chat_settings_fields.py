"""Words for each setting, the form of an answer, and answers as written. About 2 s."""

from __future__ import annotations

import html
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gguf_widgets.core.engine.sampler import plan
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.settings import SAMPLING_LIMITS, SamplingSettings
from gguf_widgets.widgets._chat_settings_answer import form_of, read_form, sampling_of
from gguf_widgets.widgets._chat_settings_fields import FIELDS, catalogue, remarks
from gguf_widgets.widgets._chat_settings_written import WrittenRenderer, written_blocks


def test_every_setting_has_its_words_once_and_limits_that_hold() -> None:
    names = [field.name for field in FIELDS]
    assert sorted(names) == sorted(SamplingSettings.__struct_fields__)
    assert len({field.title for field in FIELDS}) == len(FIELDS)
    for field in catalogue():
        assert field["about"].endswith(".")
        if field["kind"] in ("number", "whole"):
            low, high = field["low"], field["high"]
            assert (low, high) == SAMPLING_LIMITS[field["name"]]
            for value in (low, high, *(field.get("slider") or ())[:2]):
                whole = int if field["kind"] == "whole" else float
                SamplingSettings.from_keywords(**{field["name"]: whole(value)})
            assert (field["usual"] is None) == bool(field["none"])


_SOME = {
    "temperature": st.sampled_from([0.0, 1e-6, 0.5, 2.0]),
    "top_k": st.sampled_from([0, 2, 40]),
    "top_p": st.sampled_from([0.5, 1.0]),
    "min_p": st.sampled_from([0.0, 0.1]),
    "typical_p": st.sampled_from([0.5, 1.0]),
    "top_n_sigma": st.sampled_from([0.0, 1.0]),
    "repeat_penalty": st.sampled_from([1.0, 1.1]),
    "repeat_last_n": st.sampled_from([0, 64, -1]),
    "presence_penalty": st.sampled_from([0.0, 0.5]),
    "frequency_penalty": st.sampled_from([0.0, 0.5]),
    "xtc_probability": st.sampled_from([0.0, 0.5]),
    "xtc_threshold": st.sampled_from([0.1, 0.4]),
    "dry_multiplier": st.sampled_from([0.0, 1.0]),
    "dry_penalty_last_n": st.sampled_from([0, -1, 20]),
    "dry_base": st.sampled_from([1.5, 2.0]),
    "dry_allowed_length": st.sampled_from([1, 4]),
    "mirostat": st.sampled_from([0, 1, 2]),
    "mirostat_tau": st.sampled_from([2.0, 5.0]),
    "mirostat_eta": st.sampled_from([0.1, 0.5]),
}


@given(st.fixed_dictionaries({}, optional=_SOME), st.data())
def test_what_is_said_to_do_nothing_does_nothing(given: dict[str, Any], data: Any) -> None:
    sampling = SamplingSettings(**given)
    told = remarks(sampling)
    # (The engine's chain has no place for these: the seed is another argument, breakers are text.)
    idle = sorted(name for name, why in told.items() if why.startswith("Without effect"))
    idle = [name for name in idle if name in _SOME]
    assume(idle)
    name = data.draw(st.sampled_from(idle))
    other = sampling.replace(**{name: data.draw(_SOME[name])})
    assume(remarks(other).get(name, "").startswith("Without effect"))
    chain = plan(sampling, 1, 512, has_bias=False)
    assert plan(other, 1, 512, has_bias=False) == chain


@pytest.mark.parametrize("name", ["top_p", "min_p", "top_k", "repeat_penalty", "temperature"])
def test_what_acts_is_not_said_to_do_nothing(name: str) -> None:
    assert name not in remarks(SamplingSettings())


# -- the form of an answer -------------------------------------------------------------------------

_PARTS = [
    {"name": "city", "kind": "text"},
    {"name": "mood", "kind": "choice", "choices": ["good", " bad ", ""]},
    {"name": "count", "kind": "integer", "required": False},
    {"name": "when", "kind": "date"},
    {"name": "tags", "kind": "texts"},
]


def test_a_form_makes_a_schema_and_is_found_in_it_again() -> None:
    made = sampling_of(read_form({"kind": "form", "parts": _PARTS}))
    assert made["grammar"] is None
    assert list(made["schema"]["properties"]) == ["city", "mood", "count", "when", "tags"]
    assert made["schema"]["required"] == ["city", "mood", "when", "tags"]
    assert made["schema"]["properties"]["mood"] == {"enum": ["good", "bad"]}
    again = form_of(SamplingSettings(**made))
    assert again.kind == "form"
    assert sampling_of(again) == made
    for kind in ("off", "json"):
        form = read_form({"kind": kind})
        assert form_of(SamplingSettings(**sampling_of(form))).kind == kind
    gbnf = SamplingSettings(grammar='root ::= "x"')
    assert sampling_of(form_of(gbnf)) == {"schema": None, "grammar": 'root ::= "x"'}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "string"},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": []},
        {"type": "object", "properties": [], "required": 5},
        {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]},
        {"type": "object", "properties": {"a": 5}, "required": ["a"]},
    ],
)
def test_what_no_form_makes_is_shown_as_the_schema(schema: Any) -> None:
    form = form_of(SamplingSettings(schema=schema))
    assert form.kind == "schema"
    if isinstance(schema, dict):
        assert sampling_of(form)["schema"] == schema


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "cannot be used"),
        ({"kind": "poem"}, "cannot be used"),
        ({"kind": "form"}, "Add a part"),
        ({"kind": "form", "parts": [{"name": " "}]}, "Part 1 has no name"),
        ({"kind": "form", "parts": [{"name": "a"}, {"name": "a "}]}, "Two parts are called"),
        ({"kind": "form", "parts": [{"name": "a", "kind": "choice"}]}, "at least two choices"),
        (
            {"kind": "form", "parts": [{"name": "a", "kind": "choice", "choices": ["x", "x"]}]},
            "twice",
        ),
        ({"kind": "form", "parts": [{"name": "a"}] * 101}, "cannot be used"),
        ({"kind": "schema", "schema": " "}, "Write a JSON schema"),
        ({"kind": "schema", "schema": '{"a": }'}, "line 1, column 7"),
        ({"kind": "schema", "schema": "[" * 100_000}, "not JSON"),
        ({"kind": "schema", "schema": "[]"}, "object in braces"),
        ({"kind": "grammar", "grammar": " "}, "Write a grammar"),
    ],
)
def test_what_is_missing_is_told(answer: Any, words: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        sampling_of(read_form(answer))
    assert words in caught.value.message


# -- as it was written -----------------------------------------------------------------------------


def text_of(blocks: list[str]) -> str:
    """Return what the page shows of blocks: the text in their frames, put together."""
    found = []
    for number, block in enumerate(blocks):
        frame = "gw-plain gw-written" if number == 0 else "gw-plain gw-more"
        head, tail = f'<div class="{frame}"><pre dir="auto"><span>', "</span></pre></div>"
        assert block.startswith(head)
        assert block.endswith(tail)
        inner = block[len(head) : -len(tail)]
        assert "<" not in inner
        found.append(html.unescape(inner))
    return "".join(found)


@given(st.lists(st.text(alphabet=st.sampled_from("a<&\"'\n \u0301é😀"), max_size=3000), max_size=6))
def test_a_growing_text_is_shown_whole_escaped_and_by_its_end_alone(pieces: list[str]) -> None:
    renderer, blocks = WrittenRenderer("plain"), list[str]()
    for piece in pieces:
        keep, more = renderer.feed(piece)
        assert keep >= len(blocks) - 1
        blocks = [*blocks[:keep], *more]
    whole = "".join(pieces)
    assert text_of(blocks) == whole
    assert blocks == written_blocks(whole, "plain")


def test_a_hostile_line_of_a_megabyte_is_text_in_small_pieces() -> None:
    line = "<img src=x onerror=alert(1)>" * 40_000
    blocks = written_blocks(line, "plain")
    assert text_of(blocks) == line
    assert max(map(len, blocks)) < 30_000
