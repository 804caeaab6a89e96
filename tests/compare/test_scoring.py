"""Each scoring with answers as models write them, and with hostile ones. About 15 s."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import psutil
import pytest

from gguf_widgets.compare.judge import Duel, Judge, Verdict, scores_of, verdict_of
from gguf_widgets.compare.pattern_process import PatternProcess, PatternTimeoutError
from gguf_widgets.compare.scoring import ExactMatch, Length, Own, Scoring, Time
from gguf_widgets.compare.scoring_json import JsonFields
from gguf_widgets.compare.scoring_regex import Regex
from gguf_widgets.compare.scoring_similarity import Similarity
from gguf_widgets.compare.scorings import (
    check_references,
    parse_scorings,
    scoring_of,
    with_functions,
)
from gguf_widgets.compare.types import Answer
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.manager import ModelManager
from tests.core.conftest import wait_for


def said(text: str, **more: Any) -> Answer:
    return Answer(status="done", text=text, **more)


# -- exact match -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text", "reference", "value"),
    [
        ({}, " Paris\n", "Paris", 1.0),
        ({}, "Paris.", "Paris", 0.0),
        ({}, "paris", "Paris", 0.0),
        ({"ignore_case": True, "ignore_punctuation": True}, "¡PARIS!", "Paris", 1.0),
        ({"ignore_case": True}, "STRASSE", "Straße", 1.0),
        ({}, "42", 42, 1.0),
        ({}, "42", 42.0, 1.0),
        ({}, "four", ["4", "four"], 1.0),
        ({}, "", "", 1.0),
        ({}, "", "x", 0.0),
        ({"within": True}, "The capital is Paris, of course.", "Paris", 1.0),
        ({"within": True}, "It is unknown.", "no", 0.0),
        ({"within": True}, "anything", "", 0.0),
        ({}, "x", None, None),
    ],
)
def test_exact_match(options: dict[str, Any], text: str, reference: Any, value: Any) -> None:
    assert ExactMatch(**options).score(said(text), reference, {}).value == value


# -- patterns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scoring", "text", "reference", "value"),
    [
        (Regex(r"\d+"), "in 1999", None, 1.0),
        (Regex(r"\d+"), "never", None, 0.0),
        (Regex(r"answer is (\w+)"), "The answer is paris.", "Paris", 1.0),
        (Regex(r"answer is (\w+)"), "The answer is Rome.", ["Paris", "London"], 0.0),
        (Regex(r"answer is (\w+)"), "The answer is Rome.", None, 1.0),
        (Regex(r"yes|no", whole=True), "yes and no", None, 0.0),
        (Regex("YES", ignore_case=True), "yes", None, 1.0),
        (Regex(re.compile("^b", re.MULTILINE)), "a\nb", None, 1.0),
        (Regex(), "it is 4", r"\b4\b", 1.0),
        (Regex(), "it is 44", [r"\b4\b", r"\b5\b"], 0.0),
        (Regex(), "x", None, None),
        (Regex("ü😀"), "\ud800 ü😀", None, 1.0),
    ],
)
def test_patterns(scoring: Regex, text: str, reference: Any, value: Any) -> None:
    assert scoring.score(said(text), reference, {}).value == value


def test_a_catastrophic_pattern_takes_a_bounded_time_and_says_so() -> None:
    scoring = Regex(r"^(a+)+$")
    evil = said("a" * 60 + "b")  # for which it would take longer than the universe has been there
    with scoring.ready():
        notes = [scoring.score(evil, None, {}).why["note"] for _ in range(10)]
        good = scoring.score(said("aaa"), None, {})
    assert ["took longer than" in note for note in notes] == [True] * 3 + [False] * 7
    assert "was not looked for" in notes[-1]
    assert good.value is None, "after a few the pattern is given up for good"


def test_the_process_that_looks_for_patterns_ends_itself_and_with_us() -> None:
    with PatternProcess(limit_s=0.3) as process:
        assert process.look("a(b)", "xab")["caught"] == "b"
        first = process._process
        assert first is not None
        with pytest.raises(PatternTimeoutError):
            process.look("^(a|aa)+$", "a" * 80 + "b")
        assert first.poll() is not None, "nobody is left computing"
        assert process.look("b", "b")["found"]
        second = process._process
        assert second is not None
    assert second.poll() is not None

    # And where nobody is there to end it: its standard input closes, or its limit comes.
    orphan = PatternProcess(limit_s=0.5)
    orphan.look("a", "a")
    child = orphan._process
    assert child is not None
    assert child.stdin is not None
    question = {"pattern": "^(a+)+$", "text": "a" * 60 + "b", "flags": 0, "whole": False}
    child.stdin.write(json.dumps(question).encode() + b"\n")
    child.stdin.close()
    wait_for(lambda: child.poll() is not None, "the end of a process that nobody watches")
    orphan.close()


def test_patterns_that_are_none_and_texts_that_are_too_long_are_refused_in_words() -> None:
    with pytest.raises(InvalidValueError, match="cannot be read"):
        Regex("(")
    with pytest.raises(InvalidValueError, match="10,000"):
        Regex("a" * 10_001)
    with pytest.raises(InvalidValueError, match="A pattern is a text"):
        Regex(3)  # type: ignore[arg-type]
    long = Regex("a").score(said("b" * 1_000_001), None, {})
    assert long.value is None
    assert "1,000,000" in long.why["note"]
    broken = Regex()
    assert "cannot be used" in broken.score(said("x"), "(", {}).why["note"]
    with pytest.raises(InvalidValueError, match=r"Reference 2, for the score \"regex\""):
        check_references([broken], ["fine", "("])


# -- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text", "reference", "value"),
    [
        ({}, '{"a": 1, "b": "x"}', {"a": 1, "b": "x"}, 1.0),
        ({}, '{"a": 1.0, "b": " x "}', {"a": 1, "b": "x"}, 1.0),
        ({}, 'Sure!\n```json\n{"a": 1}\n```', {"a": 1, "b": 2}, 0.5),
        ({}, '{not json} but {"a": 1}', {"a": 1}, 1.0),
        ({}, '{"a": {"b": {"c": 3}}}', {"a": {"b": {"c": 3}}}, 1.0),
        ({}, '{"a": true}', {"a": 1}, 0.0),
        ({}, '{"a": "1"}', {"a": 1}, 0.0),
        ({}, '{"a": null}', {"a": None}, 1.0),
        ({}, "{}", {"a": None}, 0.0),
        ({}, '{"a": [1, "b"]}', {"a": [1.0, "b"]}, 1.0),
        ({"fields": ["a"]}, '{"a": 1, "b": 9}', {"a": 1, "b": 2}, 1.0),
        ({"ignore_case": True}, '{"a": "ADA"}', '{"a": "Ada"}', 1.0),
        ({"tolerance": 0.01}, '{"a": 100.5}', {"a": 100}, 1.0),
        ({}, "no object here", {"a": 1}, 0.0),
        ({}, "[1, 2]", {"a": 1}, 0.0),
        ({}, '{"a": NaN}', {"a": 1}, 0.0),
        ({}, '{"a": %s}' % ("9" * 5000), {"a": 1}, 0.0),
        ({}, '{"a": 1e999}', {"a": 1}, 0.0),
        ({}, '{"a":' * 100_000, {"a": 1}, 0.0),
        ({}, "[" * 100_000, {"a": 1}, 0.0),
        ({}, "{" * 1_000_000, {"a": 1}, 0.0),
        ({}, '{"a": 1}' + " " * 2_000_000, {"a": 1}, 0.0),
        ({}, '{"x": 1, ' + ", ".join(f'"k{i}": {i}' for i in range(20_000)) + "}", {"x": 1}, 0.0),
        ({}, "x", None, None),
    ],
)
def test_json_fields(options: dict[str, Any], text: str, reference: Any, value: Any) -> None:
    assert JsonFields(**options).score(said(text), reference, {}).value == value


def test_which_fields_were_right_is_told_and_a_reference_must_be_an_object() -> None:
    found = JsonFields().score(said('{"a": 1}'), {"a": 1, "b": {"c": 2}}, {})
    assert found.why["fields"] == {"a": True, "b.c": False}
    for bad in ("Paris", [1], 3, '["a"]'):
        with pytest.raises(InvalidValueError, match="is a dict, or JSON text"):
            JsonFields().check_reference(bad)
    with pytest.raises(InvalidValueError, match="none of the fields"):
        JsonFields(["z"]).check_reference({"a": 1})


# -- length, time, one's own -----------------------------------------------------------------------


def test_length_and_time() -> None:
    answer = said("one two  three", num_completion_tokens=7, total_s=0.25)
    assert Length().score(answer, None, {}).value == 7
    assert Length(unit="words").score(answer, None, {}).value == 3
    assert Length(unit="characters").score(answer, None, {}).value == 14
    assert Time().score(answer, None, {}).value == 0.25
    assert "equal prompt" in Time().score(said("x"), None, {}).why["note"]
    with pytest.raises(InvalidValueError, match="none of"):
        Length(unit="lines")


def test_a_function_of_ones_own_that_fails_costs_its_own_answers_only() -> None:
    def score(text: str, reference: Any, row: dict[str, Any]) -> Any:
        return {"zero": 1 / 0 if text == "zero" else 0, "true": True, "none": None}.get(text, text)

    own = Own(score)
    assert own.name == "score"
    assert "ZeroDivisionError" in own.score(said("zero"), None, {}).why["note"]
    assert own.score(said("true"), None, {}).value == 1.0
    assert own.score(said("none"), None, {}).value is None
    assert own.score(said("1.5"), None, {}).value == 1.5
    assert "no number" in own.score(said("nan"), None, {}).why["note"]
    assert "ValueError" in own.score(said("words"), None, {}).why["note"]
    bounded = Own(score, bounds=(0, 1), name="b")
    assert "bounds are 0 to 1" in bounded.score(said("1.5"), None, {}).why["note"]
    assert Own(lambda *_: 1).name == "own"
    for bad in ((1, 0), (0,), ("a", "b"), (0, float("inf"))):
        with pytest.raises(InvalidValueError, match="bounds"):
            Own(score, bounds=bad)  # type: ignore[arg-type]


# -- by name, and in a file ------------------------------------------------------------------------


def test_scorings_are_named_known_ones_only_each_once_and_with_what_they_need() -> None:
    assert [one.name for one in parse_scorings((), has_references=True)] == ["exact", "length"]
    assert [one.name for one in parse_scorings((), has_references=False)] == ["length"]
    assert [one.name for one in parse_scorings("time", has_references=False)] == ["time"]
    with pytest.raises(InvalidValueError, match="Did you mean 'exact'"):
        parse_scorings("exakt", has_references=True)
    with pytest.raises(InvalidValueError, match=r"gw\.compare\.Judge\(MODEL\)"):
        parse_scorings(["judge"], has_references=True)
    with pytest.raises(InvalidValueError, match='Two scores are called "exact"'):
        parse_scorings(["exact", ExactMatch(ignore_case=True)], has_references=True)
    with pytest.raises(InvalidValueError, match="needs to know what is right"):
        parse_scorings(["exact"], has_references=False)
    with pytest.raises(InvalidValueError, match="can be 20"):
        parse_scorings([Own(lambda *_: 1, name=f"n{i}") for i in range(21)], has_references=False)
    with pytest.raises(InvalidValueError, match="not 3"):
        parse_scorings([3], has_references=False)


@pytest.mark.parametrize(
    "scoring",
    [
        ExactMatch(ignore_case=True, name="loose"),
        Regex(re.compile("a.c", re.DOTALL), whole=True),
        Regex(),
        JsonFields(["a", "b.c"], tolerance=0.1),
        Length(unit="words"),
        Time(),
        Similarity("an-embedding-model", prefix="query: "),
        Judge("big", question="{first} or {second}?", name="strict", temperature=0.2),
    ],
    ids=lambda one: f"{one.kind}",
)
def test_a_scoring_comes_back_from_a_file(scoring: Scoring) -> None:
    again = scoring_of(scoring.to_dict())
    assert type(again) is type(scoring)
    assert again.to_dict() == scoring.to_dict()
    assert (again.needs_reference, again.bounds) == (scoring.needs_reference, scoring.bounds)


def test_a_function_does_not_come_back_by_itself_and_says_so() -> None:
    mine = Own(lambda text, _r, _row: len(text), name="mine", better="low", bounds=(0, 9))
    again = scoring_of(mine.to_dict())
    assert "earlier session" in again.score(said("x"), None, {}).why["note"]  # type: ignore[attr-defined]
    assert (again.better, again.bounds) == ("low", (0.0, 9.0))
    (given,) = with_functions([again], mine)
    assert given.score(said("xy"), None, {}).value == 2  # type: ignore[attr-defined]
    with pytest.raises(InvalidValueError, match='no score called "other"'):
        with_functions([again], Own(len, name="other"))
    with pytest.raises(InvalidValueError, match="newer"):
        scoring_of({"kind": "psychic", "name": "x", "options": {}})


# -- judges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ab", "ba", "share", "agreed"),
    [
        ("first", "second", 1.0, True),
        ("second", "first", 0.0, True),
        ("same", "same", 0.5, True),
        ("first", "first", 0.5, False),  # whatever stands first
        ("second", "second", 0.5, False),
        ("first", "same", 0.5, False),
        (None, "first", None, None),
    ],
)
def test_only_a_judge_that_says_the_same_in_both_orders_counts(
    ab: str | None, ba: str | None, share: float | None, agreed: bool | None
) -> None:
    found = verdict_of(0, 0, 1, ab, ba, "it failed" if ab is None else "")
    assert (found.share_a, found.agreed) == (share, agreed)


def test_a_sides_score_is_the_share_of_the_others_that_it_beat() -> None:
    scores = scores_of(
        [
            Verdict(5, 0, 1, 1.0, True),
            Verdict(5, 0, 2, 0.5, False, "a draw"),
            Verdict(5, 1, 2, None, None, "no answer"),
        ],
        3,
    )
    assert {side: score.value for (_, side), score in scores.items()} == {0: 0.75, 1: 0.0, 2: 0.5}
    assert scores[5, 0].why["against"] == {"1": 1.0, "2": 0.5}
    assert "no answer" in scores[5, 1].why["note"]


def test_a_judge_is_asked_each_pair_in_both_orders_and_answers_cannot_forge_the_question() -> None:
    judge = Judge("demo")
    table = judge.table([Duel(3, 0, 2, "Say {first}", "{second}", "B {reference}", ["x", 4.0])])
    rows = list(table.as_json())
    assert len(rows) == 2
    assert '"Say {first}","{second}","B {reference}","x or: 4",3,0,2' in rows[0]
    assert '"Say {first}","B {reference}","{second}","x or: 4",3,2,0' in rows[1]
    with pytest.raises(InvalidValueError, match="must show both answers"):
        Judge("demo", question="Is {first} good?")
    with pytest.raises(InvalidValueError, match="not in the table"):
        Judge("demo", question="{first} {second} {thrid}")
    with pytest.raises(InvalidValueError, match="schema= cannot be set"):
        Judge("demo", schema={})
    with pytest.raises(InvalidValueError, match="temprature"):
        Judge("demo", temprature=1)


# -- likeness --------------------------------------------------------------------------------------


def test_likeness_is_of_meaning_and_one_text_that_cannot_be_embedded_costs_itself_only(
    manager: ModelManager,
) -> None:
    model = manager.load("demo", n_ctx=256)
    scoring = Similarity(model)
    items = [
        ("Paris", "Paris"),
        ("The food was great.", ["The car is red.", "The food was great."]),
        ("word " * 2000, "Paris"),
        ("", "Paris"),
        ("Paris", None),
        ("Paris", ""),
    ]
    found = scoring.score_all(model, items)
    assert found[0].value == pytest.approx(1.0, abs=1e-3)
    assert found[1].value == pytest.approx(1.0, abs=1e-3), "the nearest of several counts"
    assert found[2].value is None
    assert "256" in found[2].why["note"] or "context" in found[2].why["note"]
    assert found[3].value == 0.0
    assert found[4].value is None
    assert len(found) == len(items)


def test_no_process_is_left_over() -> None:
    left = [
        child
        for child in psutil.Process(os.getpid()).children()
        if any(Path(word).name == "pattern_child.py" for word in child.cmdline())
    ]
    assert left == []
