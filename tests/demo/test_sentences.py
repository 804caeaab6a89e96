"""The sentences that the demo model learns from: repeatable, right, and split by template."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from gguf_widgets.demo.sentences import (
    after_training,
    code,
    conversations,
    copying,
    facts,
    names,
    orders,
    sentiment,
    smalltalk,
    stories,
    unknown,
)
from gguf_widgets.demo.sentences.base import Part, Pool, casual
from gguf_widgets.demo.sentences.texts import section
from gguf_widgets.demo.tables import orders as order_table
from gguf_widgets.demo.tables import reviews as review_table

PARTS: tuple[Part, ...] = ("train", "held_out")


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - sentences, not secrets


def all_pools() -> Iterator[Pool]:
    for module in (
        code,
        conversations,
        copying,
        facts,
        orders,
        sentiment,
        smalltalk,
        stories,
        unknown,
    ):
        yield from (value for value in vars(module).values() if isinstance(value, Pool))
    yield from sentiment.FRAMES.values()
    yield from smalltalk.INTENTS.values()


@pytest.mark.parametrize("part", PARTS)
def test_the_same_seed_gives_the_same_conversations(part: Part) -> None:
    first, second, other = (
        [conversations.conversation(rng, part) for _ in range(50)]
        for rng in (seeded(7), seeded(7), seeded(8))
    )
    assert first == second
    assert first != other


def test_no_template_is_in_both_parts() -> None:
    pools = list(all_pools())
    assert len(pools) >= 50
    for pool in pools:
        assert pool.train
        assert pool.held_out
        assert not set(pool.train) & set(pool.held_out)
        assert len(pool.held_out) >= (len(pool.train) + len(pool.held_out)) // 6


def test_training_never_sees_a_held_out_template_not_even_by_a_variant() -> None:
    def letters(text: str) -> str:
        return re.sub(r"[^a-z0-9{}+*/-]+", " ", text.lower()).strip()

    varied = [pool for pool in all_pools() if pool.variants]
    assert len(varied) >= 20
    for pool in varied:
        rng, held_out = seeded(11), {letters(text) for text in pool.held_out}
        seen = [pool.pick(rng, "train") for _ in range(1500)]
        assert not {letters(text) for text in seen} & held_out
        assert set(seen) - set(pool.train), "the variants are not used"
        assert all("|" not in text for text in seen)


def test_a_variant_that_comes_out_as_a_held_out_template_is_thrown_away() -> None:
    pool = Pool(["Label {x}", "Judge {x}", "judge: {x}"], ["(label|judge|rate)(:|) {x}"])
    assert pool.train == ("Label {x}",)
    assert pool.held_out == ("Judge {x}", "judge: {x}")
    rng = seeded(1)
    seen = {pool.pick(rng, "train") for _ in range(500)}
    assert seen == {"Label {x}", "Label: {x}", "Rate: {x}", "Rate {x}"}
    assert {pool.pick(rng, "held_out") for _ in range(50)} == set(pool.held_out)


def test_a_training_order_is_made_of_training_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    picked: list[tuple[Pool, str]] = []
    pick = Pool.pick

    def noting(pool: Pool, *arguments: Any, **more: Any) -> str:
        text = pick(pool, *arguments, **more)
        picked.append((pool, text))
        return text

    monkeypatch.setattr(Pool, "pick", noting)
    rng = seeded(3)
    for _ in range(500):
        orders.order(rng, "train")
    assert len(picked) > 1000
    for pool, text in picked:
        assert text in pool.train or pool.variants
        assert text not in pool.held_out


def test_what_was_written_after_training_stands_in_no_training_list() -> None:
    def letters(text: str) -> str:
        return re.sub(r"[^a-z0-9{}]+", " ", text.lower()).strip()

    known = {letters(text) for pool in all_pools() for text in (*pool.train, *pool.held_out)}
    new = [
        *(
            text
            for label in sentiment.LABELS
            for text in section("after_training", f"review_{label}")
        ),
        *section("after_training", "orders"),
    ]
    assert len(new) == len(set(new)) == 50
    assert not {letters(text) for text in new} & known
    rng = seeded(12)
    assert {after_training.review_turn(rng).answer for _ in range(60)} == set(sentiment.LABELS)
    for _ in range(60):
        turn = after_training.order_turn(rng)
        assert all(
            str(json.loads(turn.answer)[key]) in turn.user for key in ("name", "item", "city")
        )


def test_a_pool_refuses_a_repeated_template() -> None:
    with pytest.raises(ValueError, match="in the list twice"):
        Pool(["a {x}", "b {x}", "a {x}"])


@pytest.mark.parametrize("part", PARTS)
def test_order_answers_are_json_that_stands_in_the_sentence(part: Part) -> None:
    rng = seeded(1)
    for _ in range(500):
        turn = orders.turn(rng, part)
        facts_found = json.loads(turn.answer)
        assert list(facts_found) == ["name", "quantity", "item", "city"]
        assert isinstance(facts_found["quantity"], int)
        for key in ("name", "item", "city"):
            assert facts_found[key] is None or facts_found[key] in turn.user


def test_training_never_sees_the_kept_back_names_and_goods() -> None:
    rng = seeded(2)
    kept_back = {
        *names.HELD_OUT_FIRST_NAMES,
        *names.HELD_OUT_LAST_NAMES,
        *names.HELD_OUT_CITIES,
        *names.HELD_OUT_ITEMS,
    }
    for _ in range(1000):
        told = orders.order(rng, "train")[1]
        assert not {word for value in told.values() for word in str(value).split()} & kept_back
        unseen = orders.order(rng, "held_out", unseen=True)[1]
        assert str(unseen["city"]) in kept_back


@pytest.mark.parametrize("part", PARTS)
def test_reviews_have_one_of_three_labels(part: Part) -> None:
    rng = seeded(4)
    labels = [sentiment.turn(rng, part).answer for _ in range(300)]
    assert set(labels) == set(sentiment.LABELS)
    (label,) = json.loads(sentiment.json_turn(rng, part).answer).values()
    assert label in sentiment.LABELS


@pytest.mark.parametrize("part", PARTS)
def test_sums_are_right_and_kept_back_pairs_stay_back(part: Part) -> None:
    rng = seeded(5)
    for _ in range(500):
        answer = facts.sum_turn(rng, part).answer
        a, operator, b, _, result = answer.split(" ")
        assert int(result) == (int(a) + int(b) if operator == "+" else int(a) - int(b))
        if part == "train":
            assert not facts.pair_is_held_out(int(a), int(b))


def test_code_parses_as_python() -> None:
    rng = seeded(6)
    for _ in range(500):
        fence, line, end = code.turn(rng, "train").answer.split("\n")
        assert (fence, end) == ("```python", "```")
        ast.parse(line)


def test_stories_have_the_promised_number_of_sentences() -> None:
    rng = seeded(9)
    for _ in range(200):
        who = stories.hero(rng)
        called = who.split(" ", 1)[-1]
        short, long = stories.short_story(rng, who), stories.long_story(rng, who)
        assert len(re.findall(r"[.!?](?: |$)", short)) == 4
        assert short.count(called) >= 2
        assert 16 <= len(re.findall(r"[.!?](?: |$)", long)) <= 18
        assert tuple(re.findall(r"On (\w+day)", long)) == stories.DAYS


def test_casual_keeps_the_words_of_an_order() -> None:
    rng = seeded(10)
    for _ in range(200):
        assert "Maria Lopez" in casual(rng, "My name is Maria Lopez.", keep_case=True)


def test_tables_hold_the_right_answers() -> None:
    assert review_table(30, seed=1) == review_table(30, seed=1) != review_table(30, seed=2)
    assert {row["label"] for row in review_table(60)} == {"positive", "negative", "neutral"}
    for row in order_table(30):
        assert list(row) == ["order", "name", "quantity", "item", "city"]
        assert str(row["name"]) in str(row["order"])
