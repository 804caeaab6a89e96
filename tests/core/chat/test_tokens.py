"""What is shown of recorded tokens: whole characters, honest numbers. Takes about 3 s."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.chat.tokens import (
    as_percent,
    choices_of,
    first_difference,
    least_sure,
    num_choices,
    probability_of,
    rank_of,
    shown_tokens,
    visible,
)
from gguf_widgets.core.types import TokenChance, TokenLogprob

WORDS = st.text(alphabet="ab \né漢😀👩‍👧", max_size=24)


def token(number: int, text: str, chance: float = 0.5, *top: tuple[int, float]) -> TokenLogprob:
    others = [TokenChance(one, f"t{one}", math.log(p)) for one, p in top]
    return TokenLogprob(number, text, math.log(chance), others)


def tokens_of(data: bytes, cuts: list[int]) -> list[TokenLogprob]:
    """Cut bytes into tokens, each with its text as the engine records it."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
    return [token(n, piece.decode("utf-8", "replace")) for n, piece in enumerate(pieces)]


@given(WORDS, WORDS, st.lists(st.integers(0, 80)))
def test_what_the_tokens_show_joined_is_the_text_wherever_it_was_cut(
    begin: str, text: str, cuts: list[int]
) -> None:
    tokens = tokens_of(text.encode(), cuts)
    shown = shown_tokens(tokens, begin + text, len(begin))
    assert len(shown) == len(tokens)
    assert "".join(one.text for one in shown) == text
    assert all(one.in_text for one in shown)
    for one, own in zip(shown, tokens, strict=True):
        assert "\ufffd" not in one.text
        if "\ufffd" not in own.text:
            assert one == (own.text, 0, 1, True)
    groups = [one for one in shown if one.part == 0]
    assert sum(one.num_parts for one in groups) == len(shown)


@given(WORDS, st.lists(st.integers(0, 80)), st.text(alphabet="XYZ", min_size=1, max_size=6))
def test_the_words_that_ended_an_answer_are_shown_as_taken_off(
    text: str, cuts: list[int], stop: str
) -> None:
    whole = (text + stop).encode()
    tokens = tokens_of(whole, [*cuts, len(text.encode())])  # the stop words are tokens of their own
    shown = shown_tokens(tokens, text)
    assert "".join(one.text for one in shown if one.in_text) == text
    assert "".join(one.text for one in shown if not one.in_text) == stop


def test_each_byte_token_belongs_to_its_character() -> None:
    tokens = tokens_of("a😀é".encode(), list(range(20)))
    shown = [(one.text, one.part, one.num_parts) for one in shown_tokens(tokens, "a😀é")]
    assert shown == [
        ("a", 0, 1),
        ("😀", 0, 4), ("", 1, 4), ("", 2, 4), ("", 3, 4),
        ("é", 0, 2), ("", 1, 2),
    ]  # fmt: skip


@given(WORDS, WORDS, st.lists(st.integers(0, 80)))
def test_a_text_that_was_changed_still_shows_every_token(
    text: str, other: str, cuts: list[int]
) -> None:
    tokens = tokens_of(text.encode(), cuts)
    assert len(shown_tokens(tokens, other)) == len(tokens)


def test_tokens_that_end_before_the_text_show_only_what_they_are() -> None:
    shown = shown_tokens(tokens_of(b"one two", [3]), "one two three")
    assert [one.text for one in shown] == ["one", " two"]


def test_rank_choices_and_how_torn_the_model_was() -> None:
    first = token(7, "x", 0.5, (7, 0.5), (8, 0.25), (9, 0.25))
    assert rank_of(first) == 1
    assert [choice.token for choice in choices_of(first)] == [7, 8, 9]
    assert math.isclose(num_choices(first), 2**1.5)
    outside = token(4, "y", 0.1, (7, 0.6), (8, 0.2))
    assert rank_of(outside) is None
    assert [choice.token for choice in choices_of(outside)] == [7, 8, 4]
    assert num_choices(token(1, "z", 1.0, (1, 1.0))) == 1.0
    assert probability_of(TokenChance(1, "", float("nan"))) == 0.0
    assert probability_of(TokenChance(1, "", float("-inf"))) == 0.0
    assert probability_of(TokenChance(1, "", 1e-9)) == 1.0


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=8))
def test_what_is_not_recorded_never_makes_the_model_look_more_torn_than_it_was(
    weights: list[float],
) -> None:
    chances = sorted((weight / sum(weights) for weight in weights), reverse=True)
    true = math.exp(-sum(p * math.log(p) for p in chances))
    for kept in range(1, len(chances) + 1):
        one = token(0, "", chances[0], *enumerate(chances[:kept]))
        assert 1.0 <= num_choices(one) <= true + 1e-9


def test_the_least_sure_come_first_and_sure_ones_not_at_all() -> None:
    chances = [0.95, 0.2, 0.9, 0.5, 0.2, 0.01]
    tokens = [token(n, "", chance) for n, chance in enumerate(chances)]
    assert least_sure(tokens) == [5, 1, 4, 3]
    assert least_sure(tokens, limit=2) == [5, 1]
    assert least_sure([]) == []


def test_where_two_answers_begin_to_differ() -> None:
    a, b, c = token(1, "a"), token(2, "b"), token(3, "c")
    assert first_difference([a, b], [a, b]) is None
    assert first_difference([a, b], [a, c]) == 1
    assert first_difference([a], [a, c]) == 1
    assert first_difference([], []) is None


@given(st.floats(0, 1))
def test_a_percentage_never_claims_certainty_that_is_not_there(probability: float) -> None:
    text = as_percent(probability)
    assert (text == "100%") == (probability == 1)
    assert (text == "0%") == (probability == 0)
    if text.endswith("%") and text[0].isdigit():
        assert math.isclose(float(text[:-1]), probability * 100, rel_tol=0.06, abs_tol=0.51)


def test_what_cannot_be_seen_is_shown() -> None:
    assert visible(" a\n\t\x00\u200b\u202e") == "␣a↵⇥␀⟨U+200B⟩⟨U+202E⟩"
