"""The real engine under what outputs ask of it: grammars, the check before a run, probabilities."""

from __future__ import annotations

import datetime as dt
import random
import re
import statistics
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.grammar_walk import Walker

from gguf_widgets.batch.choices import (
    choice_probabilities,
    scoring_request,
    scoring_requests,
    whole_probabilities,
)
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.output_grammar import grammar_of
from gguf_widgets.core.engine import grammar
from gguf_widgets.core.errors import (
    GrammarError,
    UnsupportedByModelError,
    UnsupportedSchemaError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.demo import demo_model_path, tables
from tests.batch.test_output import a_reply

QUESTION = "Is this review positive, negative or neutral? {}"
LABELS = ["positive", "negative", "neutral"]


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    found = Walker(Path(str(demo_model_path())))
    yield found
    found.close()


# --- grammars ---


def test_a_choices_grammar_accepts_the_choices_and_nothing_else(walker: Walker) -> None:
    rng = random.Random(1)  # noqa: S311 - no secret
    letters = "ab \"\\[]-|()é\n\t'日😀\xa0{}:="
    for _ in range(60):
        made = {"".join(rng.choices(letters, k=rng.randrange(1, 7))).strip() for _ in range(9)}
        texts = sorted(made - {""})
        output = Output.parse(texts)
        written = output.sampling["grammar"]
        grammar.check(written)
        for text in texts:
            assert walker.accepts(written, text)
            assert walker.accepts(written, f" {text}")
            assert not walker.accepts(written, f"  {text}")
            for other in (text[:-1], text + "a", text[1:]):
                assert walker.accepts(written, other) == (other.strip(" ") in texts and
                                                          not other.startswith("  "))  # fmt: skip
        for _ in range(5):
            found = walker.write(written, rng)
            assert found is not None
            assert output.read(a_reply(found))["reply"] in texts


def test_a_thousand_long_choices_are_followed(walker: Walker) -> None:
    rng = random.Random(2)  # noqa: S311 - no secret
    texts = [f"Category {n}: " + "".join(rng.choices(string.ascii_lowercase, k=60))
             for n in range(1_000)]  # fmt: skip
    written = Output.parse(texts).sampling["grammar"]
    grammar.check(written)
    assert walker.accepts(written, texts[567])
    assert not walker.accepts(written, texts[567][:-1])
    # One character longer each: as deep as it gets.
    nested = ["a" * n for n in range(1, 401)]
    grammar.check(grammar_of(nested))
    assert walker.accepts(grammar_of(nested), nested[200])


@pytest.mark.parametrize(
    "schema",
    [bool, int, float, (0, 10_000), (0.0, 1.0), (None, -5), range(0, 5_000, 25), range(3, 30, 9),
     dt.date, dt.datetime, re.compile(r"[A-Z]{2}-\d{3}|none"), {"pattern": "(ab)+"},
     re.compile(".x", re.DOTALL)],
)  # fmt: skip
def test_whatever_the_engine_writes_can_be_read(schema: Any, walker: Walker) -> None:
    output = Output.parse(schema)
    asked = output.sampling
    written = asked.get("grammar") or grammar.from_schema(asked["schema"])
    rng = random.Random(3)  # noqa: S311 - no secret
    values = []
    for _ in range(40):
        text = walker.write(written, rng)
        if text is not None:
            values.append(output.read(a_reply(text))["reply"])
    assert len(values) > 20
    assert len(set(values)) > 1
    assert str(output.to_series("reply", values).dtype) == output.columns[0].dtype


def test_every_day_of_the_calendar_can_be_written_and_no_other(walker: Walker) -> None:
    schema = Output.parse(dt.datetime).sampling["schema"]
    written = grammar.from_schema(schema)
    for day in ("2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01"):
        assert walker.accepts(written, f'"{day}T23:59:59"')
    for day in ("2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "0000-01-01"):
        assert not walker.accepts(written, f'"{day}T00:00:00"')
    assert not walker.accepts(written, '"2024-01-01T24:00:00"')


# --- before a run ---


def test_what_cannot_be_followed_is_refused_before_a_run_in_the_engines_words(model: Model) -> None:
    for schema, message in (
        ({"type": "integer", "minimum": 5, "maximum": 2}, "no number within its bounds"),
        (re.compile(r"(a)\1"), "reference back"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"a": {"$ref": "#/$defs/a"}},
                                               "required": ["a"]}}}, "contains itself without end"),
        ({"type": "object", "properties": {"a": {"minlength": 3}}}, "Did you mean 'minLength'"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedSchemaError, match=message):
            Output.parse(schema).check_with(model)
    for schema in (None, LABELS, bool, (0.0, 1.0), dt.datetime, {"properties": {"a": {}}}):
        Output.parse(schema).check_with(model)


def test_demo_mode_says_that_it_follows_nothing(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")
    model = manager.load()
    Output.parse(None).check_with(model)
    with pytest.raises(UnsupportedByModelError, match="Demo mode"):
        Output.parse(LABELS).check_with(model)


def test_a_grammar_that_is_no_grammar_would_be_told(model: Model) -> None:
    """The check before a run is the engine's: what it refuses comes through."""
    with pytest.raises(GrammarError):
        model.complete(" ", max_tokens=1, grammar="root ::= nothing")


# --- probabilities ---


def test_one_request_tells_what_a_request_for_each_choice_tells(model: Model) -> None:
    output = Output.parse(LABELS, "label")
    rows = tables.reviews(30, seed=3)
    off = []
    num_right = 0
    for row in rows:
        question = QUESTION.format(row["review"])
        reply = model.chat(question, temperature=0, **output.sampling)
        value = output.read(reply)["label"]
        num_right += value == row["label"]
        found = output.probabilities(reply)
        assert found is not None
        assert found.untold == ()
        assert found.likeliest == value
        assert output.certainty(reply) == found.certainty
        assert found.share > 0.9
        scores = {one: model.chat(question, **scoring_request(one)) for one in LABELS}
        whole = whole_probabilities(LABELS, scores)
        off.append(max(abs(whole[one] - found.values[one]) for one in LABELS))
        # More requests do not change what is settled already.
        again = choice_probabilities(LABELS, reply, scores.values())
        assert again.values == pytest.approx(found.values, abs=0.01)
    assert num_right > 15
    assert statistics.median(off) < 0.001
    assert max(off) < 0.05


def test_replies_drawn_at_temperature_1_are_as_frequent_as_the_probabilities_say(
    model: Model,
) -> None:
    choices = [*LABELS, "neutral or mixed"]
    output = Output.parse(choices)
    rows = tables.reviews(60, seed=3)
    asked = [QUESTION.format(row["review"]) for row in rows]
    replies = [model.chat(one, temperature=0, **output.sampling) for one in asked]
    unsure = sorted(range(len(asked)), key=lambda n: output.certainty(replies[n]) or 0)[:3]
    for number in unsure:
        found = choice_probabilities(choices, replies[number])
        scores = []
        while wanted := scoring_requests(found):
            scores += [model.chat(asked[number], **request) for request in wanted.values()]
            found = choice_probabilities(choices, replies[number], scores)
        assert found.untold == ()
        assert found.certainty < 0.9
        drawn = model.choices(
            asked[number], 200, seed=1, temperature=1, top_k=0, top_p=1, min_p=0,
            grammar=output.sampling["grammar"],
        )  # fmt: skip
        counts = Counter(one.text.strip() for one in drawn)
        for choice in choices:
            # Four standard deviations of a share of 200 draws.
            assert abs(counts[choice] / 200 - found.values[choice]) < 0.14


def test_the_certainty_of_free_text_needs_its_log_probabilities(model: Model) -> None:
    output = Output.parse(None)
    plain = model.chat("Hello", temperature=0, max_tokens=8)
    assert output.certainty(plain) is None
    assert output.probabilities(plain) is None
    told = output.certainty(model.chat("Hello", temperature=0, max_tokens=8, logprobs=0))
    assert told is not None
    assert 0 < told <= 1
