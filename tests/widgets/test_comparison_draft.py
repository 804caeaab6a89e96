"""What a person sets up for a comparison: what is wrong with it, and what it means. Under 1 s."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from gguf_widgets.batch.template import Template
from gguf_widgets.compare.scoring_regex import Regex
from gguf_widgets.compare.sides import Side
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.widgets._comparison_draft import Draft, SideDraft, draft_of, judge
from gguf_widgets.widgets._comparison_split import chance_words, shown_token

MODELS = {"a": Side("a"), "b": Side("b"), "set": Side("c", load={"n_ctx": 512}, system="Hi.")}
TWO = [SideDraft(model="a"), SideDraft(model="b")]
COLUMNS = ["question", "answer"]


def many(**changes: Any) -> Draft:
    return Draft(mode="many", sides=TWO, template="{question}", **changes)


def one(**changes: str) -> Draft:
    return Draft(sides=[SideDraft(model="a", **changes), SideDraft(model="b")])


@pytest.mark.parametrize(
    ("draft", "field", "words"),
    [
        (Draft(sides=TWO[:1]), "sides", "2 sides at least"),
        (Draft(sides=[SideDraft(), TWO[0]]), "sides.0.model", "Choose a model"),
        (Draft(sides=[TWO[0], SideDraft(model="gone")]), "sides.1.model", "not here any more"),
        (one(temperature="hot"), "sides.0.temperature", "not a number"),
        (one(temperature="-1"), "sides.0.temperature", "temperature"),
        (one(temperature="nan"), "sides.0.temperature", "temperature"),
        (one(top_p="1.5"), "sides.0.top_p", "top_p"),
        (one(seed="1.5"), "sides.0.seed", "not a whole number"),
        (one(n_ctx="0"), "sides.0.n_ctx", "n_ctx"),
        (one(wording="Say yes."), "sides.0.wording", "{prompt}"),
        (one(wording="{prompt"), "sides.0.wording", ""),
        (Draft(sides=TWO, max_tokens=""), "max_tokens", "how long"),
        (Draft(sides=TWO, max_tokens="many"), "max_tokens", "not a whole number"),
        (many(reference="rating"), "reference", "no column"),
        (many(scores=["exact"]), "reference", "what is right"),
        (many(scores=["regex"]), "pattern", "pattern"),
        (many(scores=["regex"], pattern="("), "pattern", ""),
        (many(scores=["judge"]), "judge", "Choose the model"),
        (many(scores=[]), "scores", "Choose what is to be scored"),
        (many(scores=["length"], early=True), "early", "right or wrong"),
        (msgspec.structs.replace(many(), template="{nothing}"), "template", "nothing"),
        (msgspec.structs.replace(many(), template="Always"), "template", "{question}"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_nowhere_else(
    draft: Draft, field: str, words: str
) -> None:
    judged = judge(draft, MODELS, COLUMNS)
    assert list(judged.faults) == [field]
    assert words in judged.faults[field]


def test_two_sides_of_one_name_are_refused_and_two_that_are_alike_are_told() -> None:
    named = [SideDraft(model="a", label="Best"), SideDraft(model="b", label="Best")]
    assert list(judge(Draft(sides=named), MODELS).faults) == ["sides.0.label", "sides.1.label"]
    alike = judge(Draft(sides=[TWO[0], SideDraft(model="a", label="Again")]), MODELS)
    assert not alike.faults
    assert alike.notes == ["A and B are the same. Change the model or a setting of one."]


def test_a_form_becomes_sides_with_settings_of_their_own() -> None:
    first = SideDraft(
        model="a", temperature="0.8", top_p="0.9", seed="1,000", n_ctx="2048", system=" Be kind. "
    )
    other = SideDraft(model="set", label="Short", wording="In one word: {prompt}")
    judged = judge(Draft(sides=[first, other], max_tokens="1_000"), MODELS)
    assert judged.faults == {}
    assert judged.sampling == {"max_tokens": 1000}
    assert judged.sides[0] == Side(
        "a",
        load={"n_ctx": 2048},
        sampling={"temperature": 0.8, "top_p": 0.9, "seed": 1000},
        system="Be kind.",
    )
    # What came from code stays where nothing was typed.
    expected = Side("c", label="Short", load={"n_ctx": 512}, system="Hi.")
    assert judged.sides[1] == dataclasses.replace(expected, template="In one word: {prompt}")


def test_over_a_table_a_sides_wording_holds_the_common_one() -> None:
    wordy = SideDraft(model="b", wording="Think first. {prompt} Be brief.")
    draft = many(reference="answer", scores=["exact", "regex"], pattern="a+")
    judged = judge(msgspec.structs.replace(draft, sides=[TWO[0], wordy]), MODELS, COLUMNS)
    assert judged.faults == {}
    assert [side.template for side in judged.sides] == [None, "Think first. {question} Be brief."]
    assert [score.name for score in judged.scores] == ["exact", "regex"]
    assert isinstance(judged.scores[1], Regex)


@pytest.mark.parametrize("name", ["review", "my review", "a {b}", "x:y", "a!r", "a.b", "a]", "}{"])
def test_where_nothing_is_written_the_first_column_is_asked_whatever_it_is_called(
    name: str,
) -> None:
    judged = judge(msgspec.structs.replace(many(), template=" "), MODELS, [name, "other"])
    assert judged.faults == {}
    assert Template.parse(judged.template).columns_used([name, "other"]) == (name,)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "text",
        {"sides": 3},
        {"sides": [{"model": 1}]},
        {"sides": [{}] * 5},
        {"mode": "all"},
        {"prompt": "x" * 200_001},
        {"sides": [{"temperature": "1" * 401}]},
        {"scores": ["exact", "import os"]},
        {"scores": ["time"] * 100},
    ],
)
def test_what_is_no_form_is_refused_in_words(sent: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"[.]$"):
        draft_of(sent)


def test_a_form_is_read_back_as_it_was_kept() -> None:
    draft = many(reference="answer", scores=["exact"], early=True, strict=True)
    assert draft_of(msgspec.to_builtins(draft)) == draft


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.0, "100%"),
        (0.9999, "more than 99.9%"),
        (0.5, "50%"),
        (0.0123, "1.2%"),
        (0.0009, "less than 0.1%"),
    ],
)
def test_probabilities_have_sensible_digits(share: float, words: str) -> None:
    assert chance_words(share) == words


@pytest.mark.parametrize(
    ("token", "shown"),
    [(" town", "␣town"), ("\n", "↵"), (" ", "␣"), ("", "(nothing)"), ("a\u202eb", "a b")],
)
def test_tokens_are_shown_with_their_blanks(token: str, shown: str) -> None:
    assert shown_token(token) == shown
