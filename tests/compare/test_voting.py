"""Blind votes: pairs, their order, votes that are changed, how they stand. About 2 s."""

from __future__ import annotations

import pytest

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.store import Store
from tests.compare.made_up import made_up


def three(store: Store, num: int = 40) -> Comparison:
    return made_up(
        store,
        {
            "A": [f"a{i}" for i in range(num)],
            "B": [f"b{i}" for i in range(num)],
            "C": [f"a{i}" if i % 2 else None for i in range(num)],
        },
    )


def test_pairs_are_shuffled_turned_and_the_same_for_whoever_comes_back(store: Store) -> None:
    made = three(store)
    pairs = made.pairs()
    # Of 40 prompts: A-B always; C answered half, and there it is A, word for word.
    assert len(pairs) == 40 + 20
    assert pairs.num_same == 20
    assert [(one.prompt, one.a, one.b) for one in pairs] == [
        (one.prompt, one.a, one.b) for one in Comparison.open(made.id, store=store).pairs()
    ]
    places = [one.prompt for one in pairs]
    assert places != sorted(places)
    first = [one.a for one in pairs if {one.a, one.b} == {0, 1}]
    assert 8 < first.count(0) < 32, "which side stands first is drawn"
    for one in pairs:
        assert one.text_a == made.rows(one.prompt, one.prompt + 1)[0].answers[one.a].text
        assert one.text_a != one.text_b
    other = three(store)
    assert [one.prompt for one in other.pairs()] != places, "another comparison, another order"
    assert {(one.a, one.b) for one in made.pairs(["A", "B"])} == {(0, 1), (1, 0)}
    assert [one.index for one in pairs[5:8]] == [5, 6, 7]
    assert pairs[-1].index == 59
    with pytest.raises(IndexError):
        pairs[60]
    with pytest.raises(InvalidValueError, match="two different sides"):
        made.pairs(["A"])


def test_a_vote_is_kept_changed_and_taken_back_as_the_person_saw_it(store: Store) -> None:
    made = three(store)
    pairs = made.pairs()
    turned = next(one for one in pairs if one.a > one.b)
    made.vote(turned.prompt, turned.a, turned.b, "a")
    assert pairs[turned.index].choice == "a", "seen as it stood"
    (kept,) = made.vote_list()
    assert (kept.a, kept.b, kept.choice) == (turned.b, turned.a, "b"), "kept as it is"
    assert pairs.num_voted == 1
    assert pairs.next_unvoted(turned.index) == turned.index + 1
    made.vote(turned.prompt, turned.a, turned.b, "b")
    assert pairs[turned.index].choice == "b"
    assert len(made.vote_list()) == 1
    assert Comparison.open(made.id, store=store).vote_list()[0].choice == "a"
    made.vote(turned.prompt, turned.b, turned.a, "neither")
    assert pairs[turned.index].choice == "neither"
    frame = made.votes()
    assert list(frame.columns) == ["prompt", "a", "b", "better", "at"]
    assert frame["better"][0] == "neither"
    made.vote(turned.prompt, turned.a, turned.b, None)
    assert made.vote_list() == []
    assert pairs[turned.index].choice is None
    assert made.votes().empty


def test_votes_that_cannot_be_are_refused(store: Store) -> None:
    made = three(store)
    with pytest.raises(InvalidValueError, match="choice='left' is none of a, b, both, neither"):
        made.vote(0, 0, 1, "left")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="no prompt 40"):
        made.vote(40, 0, 1, "a")
    with pytest.raises(InvalidValueError, match="no prompt True"):
        made.vote(True, 0, 1, "a")
    with pytest.raises(InvalidValueError, match="two different sides"):
        made.vote(0, 1, "B", "a")
    with pytest.raises(InvalidValueError, match="no side 3"):
        made.vote(0, 0, 3, "a")


def test_how_votes_stand_is_told_with_wilsons_interval_and_in_words(store: Store) -> None:
    made = three(store)
    for prompt in range(30):
        made.vote(prompt, "A", "B", "a" if prompt < 24 else "both" if prompt < 28 else "b")
    made.vote(1, "B", "C", "b")
    ab, ac, bc = made.standings()
    assert (ab.num_votes, ab.num_a, ab.num_b, ab.num_both, ab.num_neither) == (30, 24, 2, 4, 0)
    assert ab.share_a == pytest.approx(26 / 30)
    assert ab.clear
    assert ab.low > 0.5  # type: ignore[operator]
    assert ab.words.startswith("You prefer “A” to “B”: 87% of 30 votes")
    assert (ac.num_votes, ac.share_a, ac.clear) == (0, None, False)
    assert "No votes on “A” and “C” yet" in ac.words
    assert not bc.clear
    assert bc.words.startswith("Not enough data to tell")
    for prompt in range(30):
        made.vote(prompt, "A", "B", "b")
    assert made.standings()[0].words.startswith("You prefer “B” to “A”: 100% of 30 votes")
