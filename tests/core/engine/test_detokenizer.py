from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.core.engine.detokenizer import Detokenizer

# A small alphabet, so that stop strings occur and overlap; characters of 1 to 4 bytes.
LETTERS = st.text(alphabet="ab\né€😀", max_size=30)
STOPS = st.lists(st.text(alphabet="abé€", min_size=1, max_size=5), max_size=4)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The definition, letter by letter, without any cleverness."""
    for end in range(1, len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            longest = max(met, key=len)
            return text[: end - len(longest)], longest
    return text, None


def run(detokenizer: Detokenizer, pieces: list[bytes]) -> list[str]:
    deltas = []
    for piece in pieces:
        deltas.append(detokenizer.feed(piece))
        if detokenizer.stop_string is not None:
            break
    return [*deltas, detokenizer.finish()]


@settings(max_examples=400)
@given(text=LETTERS, stops=STOPS, cuts=st.lists(st.integers(0, 200), max_size=40))
def test_any_split_gives_the_text_up_to_the_first_stop_string(text, stops, cuts):
    detokenizer = Detokenizer(stops)
    deltas = run(detokenizer, pieces_of(text.encode(), cuts))
    assert ("".join(deltas), detokenizer.stop_string) == expected(text, stops)


@settings(max_examples=200)
@given(data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 60), max_size=20))
def test_bytes_that_are_no_text_become_replacement_characters(data, cuts):
    assert "".join(run(Detokenizer(), pieces_of(data, cuts))) == data.decode("utf-8", "replace")


@settings(max_examples=200)
@given(text=LETTERS, stops=STOPS, cuts=st.lists(st.integers(0, 200), max_size=40))
def test_text_is_held_back_only_while_it_can_still_become_a_stop_string(text, stops, cuts):
    detokenizer = Detokenizer(stops)
    sent, received = "", b""
    for piece in pieces_of(text.encode(), cuts):
        sent += detokenizer.feed(piece)
        received += piece
        if detokenizer.stop_string is not None:
            return
        whole = received.decode("utf-8", "ignore")  # without a character that is not complete yet
        held = whole[len(sent) :]
        assert whole.startswith(sent)
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


@pytest.mark.parametrize(
    ("stops", "text", "left"),
    [
        (["abc", "b"], "xabc", "xa"),  # "b" is complete first
        (["bc", "abc"], "xabc", "x"),  # both end here: the one that began first
        (["aab"], "aaab", "a"),  # falls back inside the stop string itself
        (["</s>"], "a</s", "a</s"),  # not complete at the end: it is text after all
    ],
)
def test_the_first_stop_string_is_the_one_complete_first(stops, text, left):
    assert "".join(run(Detokenizer(stops), [bytes([byte]) for byte in text.encode()])) == left


def test_long_and_many_stop_strings_cost_no_more_per_character():
    stops = ["a" * 5_000 + str(number) for number in range(64)]
    detokenizer = Detokenizer(stops)
    text = "a" * 20_000 + "b"
    assert "".join(run(detokenizer, [text.encode()])) == text
