"""Where two replies part: pure functions. Under a second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.scores.alignment import common_length, first_split
from gguf_widgets.core.scores.divergence import Divergence
from gguf_widgets.core.types import (
    FinishReason,
    Reply,
    Timings,
    TokenChance,
    TokenLogprob,
    Usage,
)

STOP, LENGTH, ABORTED = FinishReason.STOP, FinishReason.LENGTH, FinishReason.ABORTED
TIMINGS = Timings(queue_s=0, prefill_s=0, decode_s=0, ttft_s=None, total_s=0)


def reply(*words: str, reason: FinishReason = STOP, told: bool = True, begin: str = "") -> Reply:
    """A reply of these words, each a token whose number is the word's own."""
    tokens = [
        TokenLogprob(
            sum(map(ord, word)), word, -0.5 * place, [TokenChance(sum(map(ord, word)), word, -0.1)]
        )
        for place, word in enumerate(words)
    ]
    return Reply(
        text=begin + "".join(words),
        finish_reason=reason,
        usage=Usage(num_prompt_tokens=1, num_completion_tokens=len(words)),
        timings=TIMINGS,
        seed=1,
        logprobs=tokens if told else None,
    )


def test_the_first_token_that_differs_is_found_with_both_sides() -> None:
    a = reply("The", " fox", " ran", " home")
    b = reply("The", " fox", " sat", " down", " there")
    split = first_split(a, b, same_tokens=True)
    assert split is not None
    assert (split.by, split.char) == ("tokens", len("The fox "))
    assert (split.a.index, split.b.index) == (2, 2)
    assert (split.a.text, split.b.text) == (" ran", " sat")
    assert split.a.char == split.b.char == len("The fox")
    assert (split.a.logprob, split.b.logprob) == (-1.0, -1.0)
    assert split.a.top[0].text == " ran"
    assert split.a.other_logprob is None
    found = Divergence(name_a="A", name_b="B\n", a=a, b=b, split=split)
    assert found.common_text == "The fox "
    assert found.num_common_tokens == 2
    assert "part at token 3" in str(found)
    assert "\n" not in str(found)
    assert found.to_dict()["split"]["a"]["text"] == " ran"


def test_equal_texts_of_other_tokens_are_the_same_text() -> None:
    a, b = reply("ab", "c"), reply("a", "bc")
    split = first_split(a, b, same_tokens=True)
    assert split is not None
    assert (split.a.text, split.b.text) == ("ab", "a")
    assert first_split(a, b, same_tokens=False) is None


def test_by_text_each_side_names_the_token_that_holds_the_place() -> None:
    a, b = reply("One", " two", " three"), reply("One tw", "ist", "ed")
    split = first_split(a, b, same_tokens=False)
    assert split is not None
    assert (split.by, split.char) == ("text", len("One tw"))
    assert (split.a.index, split.a.text, split.a.char) == (1, " two", 3)
    assert (split.b.index, split.b.text, split.b.char) == (1, "ist", 6)
    without = first_split(
        reply("a", "b", told=False), reply("a", "c", told=False), same_tokens=True
    )
    assert without is not None
    assert (without.by, without.char, without.a.token, without.a.index) == ("text", 1, None, None)


def test_an_end_is_a_parting_and_a_cut_is_none() -> None:
    whole = reply("a", "b", "c")
    for same_tokens in (True, False):
        split = first_split(reply("a", "b"), whole, same_tokens=same_tokens)
        assert split is not None
        assert split.a.ended
        assert (split.a.token, split.a.text, split.b.text) == (None, "", "c")
        back = first_split(whole, reply("a", "b"), same_tokens=same_tokens)
        assert back is not None
        assert back.b.ended
        for reason in (LENGTH, ABORTED):
            cut = reply("a", "b", reason=reason)
            assert first_split(cut, whole, same_tokens=same_tokens) is None
            assert first_split(whole, cut, same_tokens=same_tokens) is None
    # Both have the same tokens, and only one is known to have ended there.
    assert first_split(whole, reply("a", "b", "c", reason=LENGTH), same_tokens=True) is None
    told = Divergence(name_a="A", name_b="B", a=whole, b=reply("a", reason=LENGTH), split=None)
    assert not told.identical
    assert "cut off" in str(told)


def test_an_empty_reply_and_one_with_a_given_beginning() -> None:
    split = first_split(reply(), reply("a"), same_tokens=True)
    assert split is not None
    assert (split.char, split.a.index, split.a.ended) == (0, 0, True)
    a, b = reply("x", "y", begin="So: "), reply("x", "z", begin="So: ")
    begun = first_split(a, b, same_tokens=True)
    assert begun is not None
    assert (begun.char, begun.a.char, begun.a.index) == (5, 5, 1)


@given(st.text("abc", max_size=30), st.text("abc", max_size=30))
def test_the_common_length_is_that_of_the_common_beginning(a: str, b: str) -> None:
    length = common_length(a, b)
    assert a[:length] == b[:length]
    assert a[length : length + 1] != b[length : length + 1] or length == len(a) == len(b)


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "é"]), max_size=8),
    st.lists(st.sampled_from(["a", "b", "ab", "é"]), max_size=8),
    st.booleans(),
)
def test_what_comes_before_a_parting_is_common_and_what_follows_is_not(one, other, by_text) -> None:
    a, b = reply(*one), reply(*other)
    split = first_split(a, b, same_tokens=not by_text)
    if split is None:
        assert a.text == b.text
        return
    assert a.text[: split.char] == b.text[: split.char]
    if not by_text:
        assert split.a.index == split.b.index
        assert one[: split.a.index] == other[: split.b.index]
        assert split.a.token != split.b.token
    else:
        assert a.text[split.char :][:1] != b.text[split.char :][:1]
    for side, words in ((split.a, one), (split.b, other)):
        assert "".join(words[: side.index]) == "".join(words)[: side.char]
